//! The release before, kept warm: for a time after a promotion one instance of it stays up and gets nothing, so that going back
//! is a change of weights first and of processes after.
//!
//! It is called `NAME@old`, is started when the deploy is over, and ends with its time, its process, another deploy or the
//! config; then going back starts an instance first, as it does without. Nobody restarts it. That it is to be there is written
//! down with its release, so that a Mainstay that was restarted starts it again.
//!
//! While a release is gone back to, servers that still run the other one leave rotation as soon as one runs the wanted one and
//! serves, as long as half of them remain: with one or two servers all visitors get it at once. With more, one instance could not
//! carry them, and they leave as the others come back.

use crate::deploy::Phase;
use crate::effect::ActionKind;
use crate::id::ServerId;
use crate::input::AdminState;
use crate::out::Out;
use crate::release::previous;
use crate::server::{Origin, Server, Standing, Verdict};
use crate::service::Service;
use crate::time::Mono;
use crate::words::span;

/// What is added to a server's name for the instance that is kept warm. No name in a config has an `@`.
pub(crate) const WARM: &str = "@old";

/// The instance that is kept warm.
#[derive(Debug)]
pub(crate) struct Warm {
    pub(crate) server: ServerId,
    pub(crate) release: u64,
    until: Mono,
    since: Mono,
    /// Its probes were good: people were told.
    told: bool,
}

impl Service {
    /// A release was promoted: the one before is to stay warm from now on.
    pub(crate) fn keep_warm(&mut self, release: u64, out: &mut Out) {
        let warm = self.policy.deploy.as_ref().map_or_else(Default::default, |policy| policy.warm);
        if !warm.is_zero()
            && let Some(release) = self.releases.known.get_mut(&release)
        {
            release.warm_until = Some((out.now + warm).wall);
        }
    }

    /// The release that is to be warm now, and until when.
    fn to_be_warm(&self, out: &Out) -> Option<(u64, Mono)> {
        let policy = self.policy.deploy.as_ref().filter(|policy| !policy.warm.is_zero())?;
        let release = previous(self.releases.known.values())?;
        let left = u64::try_from(release.warm_until?.ms_since(out.now.wall)).ok().filter(|ms| *ms > 0)?;
        let left = std::time::Duration::from_millis(left).min(policy.warm);
        Some((release.number, out.now.mono + left))
    }

    /// Puts the instance in its place, not yet started; whoever goes on for an earlier Mainstay may find that it runs.
    pub(crate) fn place_warm(&mut self, out: &mut Out) {
        if self.releases.warm.is_some() || self.releases.deployment.is_some() {
            return;
        }
        let Some((release, until)) = self.to_be_warm(out) else { return };
        let Some((template, policy)) = self.first_releasable() else { return };
        let id = self.id.server(format!("{template}{WARM}"));
        if out.is_stopping(&id) {
            return;
        }
        let mut server = Server::new(policy, &self.policy, out.now);
        server.origin = Origin::Beside(template);
        server.standing = Standing::Aside(out.now.mono);
        server.fresh = false;
        server.recovery.start_wanted = false;
        self.servers.insert(id.clone(), server);
        let since = out.now.mono;
        self.releases.warm = Some(Warm { server: id, release, until, since, told: false });
    }

    /// Starts what is to be warm, and ends what is not any more. `true`: something was decided.
    pub(crate) fn advance_warm(&mut self, out: &mut Out) -> bool {
        let wanted = self.to_be_warm(out).map(|(release, _)| release);
        self.place_warm(out);
        let Some(warm) = &self.releases.warm else { return false };
        let (release, since, until, told) = (warm.release, warm.since, warm.until, warm.told);
        let (id, now) = (warm.server.clone(), out.now.mono);
        let grace = self.policy.recovery.start_grace;
        let Some(server) = self.servers.get(&id) else {
            self.releases.warm = None;
            return false;
        };
        let good = server.probes.verdict == Verdict::Good;
        let died = server.is_ended() && !server.recovery.may_yet_start(now);
        let runs_another = server.process.pid.is_some() && server.release.is_some_and(|n| n != release);
        if died || runs_another {
            let ended = server.process.ended.as_deref().unwrap_or("runs another release");
            self.cools_down(format!("its process {ended}"), out);
        } else if !told && !good && now >= since.max(server.process.grace_from) + grace {
            let why = format!("its instance did not pass a probe within {} (start-grace)", span(grace));
            self.cools_down(why, out);
        } else if now >= until || wanted != Some(release) {
            self.cools_down("its time is over".to_owned(), out);
        } else if server.process.pid.is_none()
            && server.recovery.pending.is_none()
            && server.process.ended.is_none()
        {
            let reason = format!("release {release} is kept warm");
            self.order(&id, ActionKind::Start, false, &reason, out);
        } else if good && !told {
            if let Some(warm) = &mut self.releases.warm {
                warm.told = true;
            }
            let left = span(std::time::Duration::from_secs((until - now).as_secs()));
            self.step_of(release, format!("{} keeps it warm for {left}", id.name), out);
        } else {
            return false;
        }
        true
    }

    /// It is not kept warm any more, and will not be again.
    fn cools_down(&mut self, why: String, out: &mut Out) {
        let Some(release) = self.releases.warm.as_ref().map(|warm| warm.release) else { return };
        if let Some(release) = self.releases.known.get_mut(&release) {
            release.warm_until = None;
        }
        self.step_of(release, format!("not kept warm any more: {why}"), out);
        self.end_warm(&why, out);
    }

    /// Ends the instance that is kept warm, if there is one.
    pub(crate) fn end_warm(&mut self, why: &str, out: &mut Out) {
        let Some(warm) = self.releases.warm.take() else { return };
        self.remove_server(&warm.server, why, out);
    }

    /// Hands out the warm instance of a release that is gone back to, if it would serve; any other is ended.
    pub(crate) fn take_warm(&mut self, release: u64, out: &mut Out) -> Option<ServerId> {
        let warm = self.releases.warm.as_ref()?;
        let serves = |s: &Server| s.process.pid.is_some() && s.probes.verdict == Verdict::Good;
        if warm.release == release && self.servers.get(&warm.server).is_some_and(serves) {
            return self.releases.warm.take().map(|warm| warm.server);
        }
        self.end_warm("another instance is started", out);
        None
    }

    pub(crate) fn is_kept_warm(&self, id: &ServerId) -> bool {
        self.releases.warm.as_ref().is_some_and(|warm| warm.server == *id)
    }

    /// When something about the warm release is next due.
    pub(crate) fn warm_due(&self) -> impl Iterator<Item = Mono> {
        let grace = self.policy.recovery.start_grace;
        let begun = |warm: &Warm| {
            let from = self.servers.get(&warm.server).map_or(warm.since, |s| s.process.grace_from);
            warm.since.max(from) + grace
        };
        let warm = self.releases.warm.as_ref();
        let late = warm.filter(|warm| !warm.told).map(begun);
        warm.map(|warm| warm.until).into_iter().chain(late)
    }

    /// It runs a release that is gone back from, and is not yet its turn to be replaced.
    pub(crate) fn is_gone_back_from(&self, server: &Server) -> bool {
        self.releases.deployment.as_ref().is_some_and(|deployment| {
            deployment.back
                && matches!(deployment.phase, Phase::Starting | Phase::Replacing(_))
                && is_of_the_servers(server)
                && server.process.pid.is_some()
                && server.release != Some(deployment.release)
        })
    }

    /// Whoever runs a release that is gone back from leaves rotation, as far as half of the servers remain; `true`: somebody left
    /// or is needed again.
    pub(crate) fn shift_back(&mut self, out: &mut Out) -> bool {
        let Some(deployment) = self.releases.deployment.as_ref().filter(|deployment| deployment.back) else {
            return false;
        };
        let to = deployment.release;
        let awaited = match &deployment.phase {
            Phase::Replacing(step) => step.as_ref().map(|step| step.server.clone()),
            Phase::Starting => None,
            Phase::Trial | Phase::Withdrawing => return false,
        };
        let ready = |s: &Server| s.admin == AdminState::Ready && s.is_primary();
        let all = self.servers.values().filter(|s| is_of_the_servers(s) && ready(s)).count();
        let wanted = |s: &Server| s.release == Some(to) && s.eligible && ready(s);
        let carry = self.servers.values().filter(|s| wanted(s)).count();
        let keep = if carry == 0 { all } else { all.div_ceil(2).saturating_sub(carry) };
        let is_old =
            |id: &ServerId, s: &Server| ready(s) && self.is_gone_back_from(s) && awaited.as_ref() != Some(id);
        let mut old: Vec<(&ServerId, &Server)> =
            self.servers.iter().filter(|(id, s)| is_old(id, s)).collect();
        // Whoever serves nobody anyway leaves first.
        old.sort_by_key(|(_, s)| s.eligible);
        let old: Vec<ServerId> = old.into_iter().map(|(id, _)| id.clone()).collect();
        let serves = |id: &ServerId| self.servers.get(id).is_some_and(|s| s.standing == Standing::Serves);
        let (serving, aside): (Vec<ServerId>, Vec<ServerId>) = old.into_iter().partition(serves);
        let leave = serving.len().saturating_sub(keep);
        let again = keep.saturating_sub(serving.len()).min(aside.len());
        for id in serving.iter().take(leave) {
            if let Some(server) = self.servers.get_mut(id) {
                server.standing = Standing::Aside(out.now.mono);
                server.changed(out.now.wall, format!("out of rotation: release {to} takes its place"));
            }
        }
        for id in aside.iter().take(again) {
            if let Some(server) = self.servers.get_mut(id) {
                server.standing = Standing::Serves;
                server.changed(out.now.wall, format!("in rotation again: too few run release {to}"));
            }
        }
        leave + again > 0
    }
}

/// One of those that serve when nothing is being done about releases.
fn is_of_the_servers(server: &Server) -> bool {
    server.policy.releasable && !matches!(server.origin, Origin::Beside(_))
}
