//! Replacing servers by a release, one after the other and never below capacity: while one is out, the instance beside
//! them carries its share.
//!
//! A server leaves rotation, finishes what it has (for [`DRAIN_MAX`] at most), is ended and started with the release, and
//! is back at its full share before the next one's turn. When visitors are hurt, nothing is waited for that could be
//! spared. A server whose process died meanwhile is started with the release by `recovery`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::deploy::Phase;
use crate::effect::ActionKind;
use crate::id::ServerId;
use crate::input::AdminState;
use crate::out::Out;
use crate::release::ReleaseState;
use crate::server::{Origin, Server, Standing, Verdict};
use crate::service::Service;
use crate::time::Mono;
use crate::words::span;

/// Requests under way are waited for so long.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Servers that cannot be replaced because nobody could carry their share are waited for so long.
const STUCK_MAX: Duration = Duration::from_secs(600);

/// The replacement of one server.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub(crate) server: ServerId,
    /// When it was ordered to start with the release; `None` while it finishes what it has.
    pub(crate) ordered: Option<Mono>,
}

impl Server {
    /// It was set aside, and nothing is under way there any more as far as the data plane tells; or that was waited for
    /// long enough.
    pub(crate) fn is_drained(&self, now: Mono) -> bool {
        let Standing::Aside(since) = self.standing else { return false };
        self.process.pid.is_none() || now >= since + DRAIN_MAX || self.traffic.is_idle_since(since)
    }
}

impl Service {
    pub(crate) fn begin_replacing(&mut self, why: &str, out: &mut Out) {
        let Some(deployment) = &mut self.releases.deployment else { return };
        deployment.phase = Phase::Replacing(None);
        deployment.since = out.now;
        deployment.text = format!("servers are replaced one after the other: {why}");
        if let Some(id) = deployment.beside.clone()
            && let Some(server) = self.servers.get_mut(&id)
        {
            // It is warm, and carries a server's share from now on.
            server.standing = Standing::Serves;
            server.eligible = true;
            server.eligible_since = Some(out.now.mono);
            server.slow_since = None;
            server.hold_until = None;
        }
    }

    /// Goes on with replacing. `true`: something was decided that may make the next step due.
    pub(crate) fn replacing(&mut self, out: &mut Out) -> bool {
        let Some(deployment) = &self.releases.deployment else { return false };
        let (to, back, since) = (deployment.release, deployment.back, deployment.since.mono);
        let Phase::Replacing(step) = &deployment.phase else { return false };
        let step = step.as_ref().map(|r| (r.server.clone(), r.ordered));
        if !back && let Some(why) = self.fails_in_place(to, out.now.mono) {
            self.take_back(ReleaseState::RolledBack, why, out);
            return true;
        }
        match step {
            None => self.replace_next(to, since, out),
            Some((id, None)) => self.drain_for_replacement(&id, out),
            Some((id, Some(ordered))) => self.wait_for_replaced(&id, ordered, to, out),
        }
    }

    /// The new release does not hold what the trial promised.
    fn fails_in_place(&self, to: u64, now: Mono) -> Option<String> {
        let failed = |s: &Server| {
            s.release == Some(to)
                && s.standing == Standing::Serves
                && (s.is_ended() && !s.process.asked_down && !s.recovery.may_yet_start(now)
                    || s.process.pid.is_some() && s.probes.passed && s.probes.verdict == Verdict::Bad
                    || s.ejection.is_some())
        };
        let (id, server) = self.servers.iter().find(|(_, s)| failed(s))?;
        let other =
            |s: &Server| s.policy.releasable && s.release != Some(to) && s.probes.verdict == Verdict::Bad;
        if server.process.pid.is_some() && self.servers.values().any(other) {
            // Both releases fail: something that both need.
            return None;
        }
        let what = match &server.process.ended {
            Some(ended) => format!("its process {ended}"),
            None if server.ejection.is_some() => server.rule.clone(),
            None => server.probes.because.clone(),
        };
        Some(format!("{} failed with it while the servers were being replaced: {what}", id.name))
    }

    fn replace_next(&mut self, to: u64, since: Mono, out: &mut Out) -> bool {
        let at_once = self.releases.deployment.as_ref().is_some_and(|d| d.at_once);
        let beside = |s: &Server| matches!(s.origin, Origin::Beside(_));
        let mine = |s: &Server| s.policy.releasable && !beside(s) && s.admin == AdminState::Ready;
        let waiting = |id: &ServerId, s: &Server| {
            mine(s)
                && (s.standing == Standing::Serves || self.is_gone_back_from(s))
                && s.release != Some(to)
                && s.process.pid.is_some()
                && !out.is_stopping(id)
        };
        let rising = |s: &Server| {
            let on_its_way = !s.eligible && s.ejection.is_none() && s.probes.verdict == Verdict::Good;
            mine(s)
                && !self.is_gone_back_from(s)
                && (on_its_way || s.slow_since.is_some() || s.is_starting(&self.policy, out.now.mono))
        };
        let busy = self.servers.values().any(|s| mine(s) && s.recovery.may_yet_start(out.now.mono));
        if busy || (!at_once && self.servers.values().any(rising)) {
            return false;
        }
        // Whoever serves nobody anyway goes first.
        let next = self.servers.iter().filter(|(id, s)| waiting(id, s)).min_by_key(|(_, s)| s.eligible);
        let Some(id) = next.map(|(id, _)| id.clone()) else {
            self.took_over(out);
            return true;
        };
        if self.leaves_somebody(&id).is_err() {
            if out.now.mono >= since + STUCK_MAX {
                let why = format!("nobody could carry {}'s share for {}", id.name, span(STUCK_MAX));
                self.take_back(ReleaseState::RolledBack, why, out);
                return self
                    .releases
                    .deployment
                    .as_ref()
                    .is_some_and(|d| !matches!(d.phase, Phase::Replacing(_)));
            }
            return false;
        }
        if let Some(server) = self.servers.get_mut(&id) {
            if server.standing == Standing::Serves {
                server.standing = Standing::Aside(out.now.mono);
            }
            server.changed(out.now.wall, format!("out of rotation, to be replaced by release {to}"));
        }
        self.replacement(Some(Replacement { server: id, ordered: None }));
        true
    }

    fn drain_for_replacement(&mut self, id: &ServerId, out: &mut Out) -> bool {
        let at_once = self.releases.deployment.as_ref().is_some_and(|d| d.at_once);
        let to = self.releases.deployment.as_ref().map_or(0, |d| d.release);
        let another = self.servers.iter().any(|(other, s)| other != id && s.eligible);
        let Some(server) = self.servers.get_mut(id) else {
            self.replacement(None);
            return true;
        };
        let serves = server.process.pid.is_some() && server.probes.verdict != Verdict::Bad;
        // Nobody is left to carry its share, or it died by itself: it is an ordinary server again.
        if (serves && !another && !at_once)
            || server.process.pid.is_none()
            || server.admin != AdminState::Ready
        {
            // One that died is judged before recovery thinks of it.
            let died = server.process.pid.is_none();
            server.standing = Standing::Serves;
            self.replacement(None);
            return died;
        }
        if !at_once && !server.is_drained(out.now.mono) {
            return false;
        }
        let reason = format!("it is to run release {to}");
        self.order(id, ActionKind::Replace, false, &reason, out);
        self.replacement(Some(Replacement { server: id.clone(), ordered: Some(out.now.mono) }));
        true
    }

    fn wait_for_replaced(&mut self, id: &ServerId, ordered: Mono, to: u64, out: &mut Out) -> bool {
        let grace = self.policy.recovery.start_grace;
        let back = self.releases.deployment.as_ref().is_some_and(|d| d.back);
        let Some(server) = self.servers.get_mut(id) else {
            self.replacement(None);
            return true;
        };
        if server.recovery.may_yet_start(out.now.mono) {
            return false;
        }
        let runs = server.process.pid.is_some();
        let late = out.now.mono >= server.process.grace_from.max(ordered) + grace;
        if runs && server.probes.passed && server.probes.verdict == Verdict::Good {
            server.standing = Standing::Serves;
            self.replacement(None);
            self.step_of(to, format!("{} runs it", id.name), out);
            return true;
        }
        if !(server.is_ended() || late) {
            return false;
        }
        let why = match &server.process.ended {
            Some(ended) => format!("{}'s process {ended} when it was started with it", id.name),
            None => format!("{} did not pass a probe within {} (start-grace)", id.name, span(grace)),
        };
        server.standing = Standing::Serves;
        self.replacement(None);
        if back {
            // The ladder of recovery goes on with it.
            self.step_of(to, why, out);
        } else {
            self.take_back(ReleaseState::RolledBack, why, out);
        }
        true
    }

    /// Whoever was replaced and nobody waits for any longer is an ordinary server again, good or not. `true`: somebody is.
    pub(crate) fn end_aside(&mut self, now: Mono) -> bool {
        let mut returned = false;
        let grace = self.policy.recovery.start_grace;
        let awaited = match self.releases.deployment.as_ref().map(|d| &d.phase) {
            Some(Phase::Replacing(Some(step))) => Some(step.server.clone()),
            _ => None,
        };
        let gone_back_from: BTreeSet<ServerId> = self
            .servers
            .iter()
            .filter(|(_, s)| self.is_gone_back_from(s))
            .map(|(id, _)| id.clone())
            .collect();
        for (id, server) in &mut self.servers {
            let aside = matches!(server.standing, Standing::Aside(_)) && !gone_back_from.contains(id);
            let ours = matches!(server.origin, Origin::Beside(_))
                || self.scaling.leaving.as_ref() == Some(id)
                || self.substitutes.keeps_aside(id);
            if !aside || ours || awaited.as_ref() == Some(id) || server.recovery.may_yet_start(now) {
                continue;
            }
            let good = server.probes.passed && server.probes.verdict == Verdict::Good;
            if good || server.is_ended() || now >= server.process.grace_from + grace {
                server.standing = Standing::Serves;
                returned = true;
            }
        }
        returned
    }

    fn replacement(&mut self, next: Option<Replacement>) {
        if let Some(deployment) = &mut self.releases.deployment
            && let Phase::Replacing(step) = &mut deployment.phase
        {
            *step = next;
        }
    }

    /// Whoever was set aside to be replaced is an ordinary server again, unless it is just being started.
    pub(crate) fn stop_replacing(&mut self) {
        let Some(deployment) = &mut self.releases.deployment else { return };
        if let Phase::Replacing(step) = &mut deployment.phase
            && let Some(replacement) = step.take()
            && replacement.ordered.is_none()
            && let Some(server) = self.servers.get_mut(&replacement.server)
        {
            server.standing = Standing::Serves;
        }
    }

    /// Ends the instance beside the servers.
    pub(crate) fn remove_beside(&mut self, why: &str, out: &mut Out) {
        let Some(id) = self.releases.deployment.as_mut().and_then(|d| d.beside.take()) else { return };
        self.remove_server(&id, why, out);
    }

    pub(crate) fn replacing_due(&self) -> Vec<Mono> {
        let grace = self.policy.recovery.start_grace;
        let Some(deployment) = &self.releases.deployment else { return Vec::new() };
        let mut due = vec![deployment.since.mono + STUCK_MAX];
        for server in self.servers.values() {
            if let Standing::Aside(since) = server.standing {
                due.push(since + DRAIN_MAX);
            }
        }
        if let Phase::Replacing(Some(step)) = &deployment.phase
            && let (Some(ordered), Some(server)) = (step.ordered, self.servers.get(&step.server))
        {
            due.push(server.process.grace_from.max(ordered) + grace);
        }
        due
    }
}
