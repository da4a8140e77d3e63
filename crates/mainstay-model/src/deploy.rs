//! Deploying: a new release is started beside the servers, gets a share of the traffic, is compared, and is promoted or
//! taken back; and an earlier release is gone back to.
//!
//! *Starting*: one more instance of a server, called `NAME@new`, runs the release. Nothing is routed to it before its
//! probes are good; if it does not come up within `start-grace`, the deploy has failed. *Trial*: it gets `share` of the
//! requests by chance, and the [`Gate`] compares. It passes when nothing speaks against it after `min-requests` and
//! `min-time`; without traffic it never passes, and past `deadline` it is rolled back as undecided. A process that
//! ended, or probes that fail while the current release's are good, need no statistics. *Replacing* is `replace`'s.
//!
//! Going back is the same without a trial: the release is known to be good. Within `watch` of a deploy, an incident of
//! servers that run the new release is answered by going back, unless it has another cause; once, because then there is
//! no deploy any more that could be to blame. A single server that fails for the first time is restarted first: any process
//! may be killed. When it fails again, or several do, or visitors are answered badly, the release is gone back from before
//! anything is restarted a second time. That is decided `DECIDE` later, so that another cause has time to show.
//!
//! For a time after a promotion one instance of the release before stays up (see `warm`), and takes the share of the servers at once when it
//! is gone back to.
//!
//! A Mainstay that was restarted starts every server anew, so what was on trial is rolled back, and what was being
//! promoted or gone back to is current.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cause::{Cause, Diagnosis};
use crate::change::{Change, ChangeKind};
use crate::effect::{ActionKind, Launch, Record};
use crate::gate::{Gate, Verdict as Gated};
use crate::id::{IncidentId, ServerId};
use crate::incident::EntryKind;
use crate::input::TrafficReport;
use crate::out::Out;
use crate::policy::{DeployPolicy, ServerPolicy};
use crate::recovery::Refusal;
use crate::release::{
    DeployPhase, DeploymentSnapshot, Figures, Release, ReleaseOrder, ReleaseState, ReleasesSnapshot, Step,
    previous, refusal,
};
use crate::replace::Replacement;
use crate::rung::Rung;
use crate::server::{Origin, Server, Standing, Verdict};
use crate::service::Service;
use crate::time::{Mono, Now, Wall};
use crate::warm::Warm;
use crate::words::span;

/// What is added to a server's name for the instance that runs a new release. No name in a config has an `@`.
pub(crate) const BESIDE: &str = "@new";
/// Another cause of what may be a release's fault has so long to show.
pub(crate) const DECIDE: Duration = Duration::from_secs(2);

/// The releases of a service.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    pub(crate) known: BTreeMap<u64, Release>,
    pub(crate) deployment: Option<Deployment>,
    /// An instance of the release before.
    pub(crate) warm: Option<Warm>,
    /// Until then an incident is answered by going back first.
    watched_until: Option<Mono>,
    /// The release may be what is at fault in this incident, as it seems since then.
    suspect: Option<(IncidentId, Mono)>,
    /// Why the release is kept, as the timeline of this incident says.
    kept: Option<(IncidentId, Refusal)>,
}

/// A deploy or a roll-back under way.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) release: u64,
    pub(crate) from: u64,
    pub(crate) back: bool,
    /// Visitors are hurt: nothing is waited for that could be spared.
    pub(crate) at_once: bool,
    pub(crate) phase: Phase,
    pub(crate) since: Now,
    pub(crate) beside: Option<ServerId>,
    pub(crate) gate: Gate,
    /// How things stand.
    pub(crate) text: String,
}

/// How far it has come.
#[derive(Debug)]
pub(crate) enum Phase {
    Starting,
    Trial,
    Replacing(Option<Replacement>),
    Withdrawing,
}

impl Phase {
    fn present(&self) -> DeployPhase {
        match self {
            Phase::Starting => DeployPhase::Starting,
            Phase::Trial => DeployPhase::Trial,
            Phase::Replacing(_) => DeployPhase::Replacing,
            Phase::Withdrawing => DeployPhase::Withdrawing,
        }
    }
}

impl Releases {
    pub(crate) fn current(&self) -> Option<&Release> {
        self.known.values().find(|r| r.state == ReleaseState::Current)
    }

    pub(crate) fn under_way(&self) -> Option<(u64, DeployPhase)> {
        self.deployment.as_ref().map(|d| (d.release, d.phase.present()))
    }

    fn next_number(&self) -> u64 {
        self.known.keys().next_back().map_or(1, |n| n + 1)
    }
}

impl Service {
    /// What an earlier run left. Only with the first policy.
    pub(crate) fn restore_releases(&mut self, releases: Vec<Release>, out: &mut Out) {
        self.releases.known = releases.into_iter().map(|r| (r.number, r)).collect();
        let state_of =
            |s: ReleaseState| self.releases.known.values().find(|r| r.state == s).map(|r| r.number);
        let (old, promoting, returning) = (
            state_of(ReleaseState::Current),
            state_of(ReleaseState::Promoting),
            state_of(ReleaseState::Returning),
        );
        for number in self.releases.known.keys().copied().collect::<Vec<_>>() {
            let state = self.releases.known[&number].state;
            if matches!(state, ReleaseState::Starting | ReleaseState::Trial) {
                let why = "Mainstay was restarted before it had passed".to_owned();
                self.set_release(number, ReleaseState::RolledBack, why, out);
            }
        }
        if let Some(number) = promoting.or(returning) {
            let back = promoting.is_none();
            let why =
                "Mainstay was restarted while the servers were being replaced; all were started with it"
                    .to_owned();
            if let Some(old) = old {
                if !back {
                    self.keep_warm(old, out);
                }
                let state = if back { ReleaseState::RolledBack } else { ReleaseState::Former };
                self.set_release(old, state, format!("release {number} took over"), out);
            }
            self.becomes_current(number, back, why, out);
        }
        if let Some(until) = self.releases.current().and_then(|r| r.watched_until) {
            let left = u64::try_from(until.ms_since(out.now.wall)).unwrap_or(0);
            self.releases.watched_until = Some(out.now.mono + Duration::from_millis(left));
        }
    }

    /// The policy may have changed: there is a release to begin with, and none on trial that cannot be started any more.
    pub(crate) fn apply_releases(&mut self, out: &mut Out) {
        let Some(policy) = self.policy.deploy.clone() else {
            self.end_warm("the config no longer says how to deploy", out);
            let why = "the config no longer says how to deploy".to_owned();
            let over =
                self.releases.deployment.as_ref().is_some_and(|d| matches!(d.phase, Phase::Withdrawing));
            if over {
                // It serves, or was taken back already; only the instance beside the servers is left.
                self.end_deployment(out);
            } else if let Some((number, _)) = self.releases.under_way() {
                self.take_back(ReleaseState::RolledBack, why.clone(), out);
                if self.releases.known.get(&number).is_some_and(|r| r.state == ReleaseState::Returning) {
                    self.set_release(number, ReleaseState::Former, why, out);
                }
                self.end_deployment(out);
            }
            return;
        };
        if self.releases.current().is_none() {
            let number = self.releases.next_number();
            self.new_release(number, policy.first, "the config", ReleaseState::Current, out.now.wall);
            self.releases.known.entry(number).and_modify(|r| r.current_since = Some(out.now.wall));
            self.set_release(number, ReleaseState::Current, "the config begins with it".to_owned(), out);
        }
        if self.first_releasable().is_none() {
            self.end_warm("the config changed, and its server is gone", out);
        }
        let Some(deployment) = &mut self.releases.deployment else { return };
        if deployment.beside.as_ref().is_some_and(|id| !self.servers.contains_key(id)) {
            deployment.beside = None;
            if !deployment.back && matches!(deployment.phase, Phase::Starting | Phase::Trial) {
                let why = "the config changed, and its server is gone".to_owned();
                self.take_back(ReleaseState::RolledBack, why, out);
            }
        }
    }

    /// A person wants something done about the releases. What is refused changes nothing; whoever asks sees why in the
    /// snapshot.
    pub(crate) fn on_release_order(&mut self, order: &ReleaseOrder, by: &str, out: &mut Out) {
        let incident = self.incident.as_ref().map(|open| open.incident().id.0);
        let under_way = self.releases.under_way();
        if self.policy.deploy.is_none()
            || refusal(order, self.releases.known.values(), under_way, incident, out.frozen()).is_some()
        {
            return;
        }
        self.person_acts(Rung::RollBack, None);
        match order {
            ReleaseOrder::Deploy { path, .. } => {
                let Some(from) = self.releases.current().map(|r| r.number) else { return };
                let number = self.releases.next_number();
                self.new_release(number, path.clone(), by, ReleaseState::Starting, out.now.wall);
                self.begin(number, from, false, false, out);
                self.step_of(number, format!("handed in by {by}"), out);
            }
            ReleaseOrder::RollBack if under_way.is_some() => {
                self.take_back(ReleaseState::RolledBack, format!("rolled back by {by}"), out);
            }
            ReleaseOrder::RollBack => {
                let Some(to) = previous(self.releases.known.values()).map(|r| r.number) else { return };
                self.go_back(to, incident.is_some(), &format!("rolled back by {by}"), out);
            }
            ReleaseOrder::Promote => {
                self.promote(&format!("promoted by {by}, without waiting for more"), out)
            }
        }
    }

    /// Does the next thing that is due about releases. `true`: something was decided, so that another may be due.
    pub(crate) fn advance_releases(&mut self, out: &mut Out) -> bool {
        let returned = self.end_aside(out.now.mono) | self.shift_back(out);
        if self.releases.deployment.is_none() {
            self.go_back_first(out);
        }
        let decided = match self.releases.deployment.as_ref().map(|d| &d.phase) {
            None => self.advance_warm(out),
            Some(Phase::Starting) => self.starting(out),
            Some(Phase::Trial) => self.trial(out),
            Some(Phase::Replacing(_)) => self.replacing(out),
            Some(Phase::Withdrawing) => self.withdrawing(out),
        };
        returned || decided
    }

    /// When something about releases is next due without another input.
    pub(crate) fn releases_due(&self, now: Mono) -> Option<Mono> {
        let policy = self.policy.deploy.as_ref()?;
        let Some(deployment) = &self.releases.deployment else {
            let decided = self.releases.suspect.map(|(_, since)| since + DECIDE);
            return decided.into_iter().chain(self.warm_due()).filter(|at| *at > now).min();
        };
        let since = deployment.since.mono;
        let due = match &deployment.phase {
            Phase::Starting => vec![since + self.policy.recovery.start_grace],
            Phase::Trial => vec![since + policy.min_time, since + policy.deadline],
            Phase::Replacing(_) | Phase::Withdrawing => self.replacing_due(),
        };
        due.into_iter().filter(|at| *at > now).min()
    }

    /// What both releases counted in the same interval.
    pub(crate) fn on_trial_traffic(&mut self, report: &TrafficReport, now: Mono) {
        let Some(deployment) = self.releases.deployment.as_mut() else { return };
        if !matches!(deployment.phase, Phase::Trial) {
            return;
        }
        let mut new = Default::default();
        let mut old = crate::input::ServerTraffic::default();
        for (id, traffic) in report.servers.iter().filter(|(id, _)| id.service == self.id) {
            let Some(server) = self.servers.get(id) else { continue };
            if Some(id) == deployment.beside.as_ref() {
                new = traffic.clone();
            } else if server.release == Some(deployment.from) {
                old.merge(traffic);
            }
        }
        deployment.gate.report(&new, &old, now);
    }

    /// How a server is to be started now.
    pub(crate) fn launch(&self, id: &ServerId) -> Launch {
        let template = self.servers.get(id).map_or(&id.name, |s| s.origin.template(&id.name)).clone();
        let release = self.release_for(id).and_then(|n| self.releases.known.get(&n)).map(|r| r.path.clone());
        Launch { template, release }
    }

    /// The release that a server is to run when it is next started.
    pub(crate) fn release_for(&self, id: &ServerId) -> Option<u64> {
        self.servers.get(id).filter(|s| s.policy.releasable)?;
        match &self.releases.deployment {
            Some(d) if d.beside.as_ref() == Some(id) => Some(d.release),
            None if self.is_kept_warm(id) => self.releases.warm.as_ref().map(|warm| warm.release),
            Some(d) if d.back || matches!(d.phase, Phase::Replacing(_)) => Some(d.release),
            _ => self.releases.current().map(|r| r.number),
        }
    }

    /// The releases as people see them.
    pub(crate) fn present_releases(&self) -> Option<ReleasesSnapshot> {
        let policy = self.policy.deploy.as_ref()?;
        Some(ReleasesSnapshot {
            releases: self.releases.known.values().rev().cloned().collect(),
            deployment: self.releases.deployment.as_ref().map(|d| d.present(policy)),
        })
    }

    /// A release was brought out by other means where Mainstay knows one to go back to: the current one is watched anew. `false`: it
    /// knows none.
    pub(crate) fn watch_anew(&mut self, change: &Change, out: &mut Out) -> bool {
        let watch = self.policy.deploy.as_ref().map_or(Duration::ZERO, |policy| policy.watch);
        let current = self.releases.current().map(|r| (r.number, r.current_since));
        let before = previous(self.releases.known.values());
        let (Some((number, since)), Some(_), None) = (current, before, &self.releases.deployment) else {
            return false;
        };
        let age = u64::try_from(out.now.wall.ms_since(change.at)).unwrap_or(0);
        let Some(left) = watch.checked_sub(Duration::from_millis(age)).filter(|left| !left.is_zero()) else {
            return false;
        };
        if since.is_some_and(|since| since >= change.at) {
            // It is that one, or was brought out after it.
            return true;
        }
        self.releases.watched_until = Some(out.now.mono + left);
        if let Some(release) = self.releases.known.get_mut(&number) {
            release.current_since = Some(change.at);
            release.watched_until = Some((out.now + left).wall);
        }
        let text = format!("watched for {}: {} announced {}", span(left), change.by, change.what);
        self.step_of(number, text, out);
        true
    }

    fn begin(&mut self, release: u64, from: u64, back: bool, at_once: bool, out: &mut Out) {
        let beside = self.take_warm(release, out);
        self.releases.deployment = Some(Deployment {
            release,
            from,
            back,
            at_once,
            phase: Phase::Starting,
            since: out.now,
            beside,
            gate: Gate::new(out.now.mono),
            text: "its first instance is being started beside the servers".to_owned(),
        });
    }

    /// The instance beside the servers comes up, or does not.
    fn starting(&mut self, out: &mut Out) -> bool {
        let Some(deployment) = &self.releases.deployment else { return false };
        let (release, since, back) = (deployment.release, deployment.since.mono, deployment.back);
        let Some(id) = deployment.beside.clone() else { return self.start_beside(out) };
        let Some(server) = self.servers.get(&id) else { return false };
        let grace = self.policy.recovery.start_grace;
        let failure = if server.is_ended() && !server.recovery.may_yet_start(out.now.mono) {
            let ended = server.process.ended.as_deref().unwrap_or("ended");
            let words = server
                .last_line
                .as_ref()
                .map_or_else(String::new, |l| format!("; the last line it wrote: {l}"));
            Some(format!("its process {ended} before it had answered a probe{words}"))
        } else if out.now.mono >= since + grace {
            let seen = server.probes.last.as_ref().map_or("it has no address yet", |p| &p.text);
            Some(format!("no good probe within {} (start-grace): {seen}", span(grace)))
        } else {
            None
        };
        if let Some(why) = failure {
            self.could_not_start(release, back, why, out);
            return true;
        }
        if server.process.pid.is_none() || server.probes.verdict != Verdict::Good {
            return false;
        }
        if back {
            self.begin_replacing("its first instance answers", out);
        } else {
            self.begin_trial(&id, out);
        }
        true
    }

    fn could_not_start(&mut self, release: u64, back: bool, why: String, out: &mut Out) {
        if !back {
            let text = format!("release {release} failed: {why}");
            self.tell_incident(text, out);
            self.set_release(release, ReleaseState::Failed, why, out);
        } else {
            let is_current = self.releases.current().is_some_and(|r| r.number == release);
            if !is_current {
                self.set_release(
                    release,
                    ReleaseState::Former,
                    format!("could not be gone back to: {why}"),
                    out,
                );
            }
            let text = format!("release {release} could not be gone back to: {why}");
            self.tell_incident(text, out);
            if let Some(open) = &mut self.incident {
                let advice = format!(
                    "Look at release {release}: Mainstay wanted to go back to it, and it does not start"
                );
                open.tell_needs_person_anew(advice, out);
            }
        }
        self.withdraw(out);
    }

    fn begin_trial(&mut self, id: &ServerId, out: &mut Out) {
        let Some(policy) = self.policy.deploy.clone() else { return };
        if let Some(server) = self.servers.get_mut(id) {
            server.standing = Standing::Trial;
            server.traffic.start_over(out.now.mono);
        }
        let Some(deployment) = &mut self.releases.deployment else { return };
        deployment.phase = Phase::Trial;
        deployment.since = out.now;
        deployment.gate = Gate::new(out.now.mono);
        let release = deployment.release;
        let text = format!("on trial with {} of the requests", crate::words::percent(policy.share));
        self.set_release(release, ReleaseState::Trial, text, out);
    }

    /// The release on trial is worse, passes, or goes on.
    fn trial(&mut self, out: &mut Out) -> bool {
        let now = out.now.mono;
        let Some(policy) = self.policy.deploy.clone() else { return false };
        let Some(deployment) = &self.releases.deployment else { return false };
        let (since, from) = (deployment.since.mono, deployment.from);
        let Some(server) = deployment.beside.as_ref().and_then(|id| self.servers.get(id)) else {
            return false;
        };
        let one_old_is_good = self.servers.values().any(|s| {
            s.release == Some(from) && s.standing == Standing::Serves && s.probes.verdict == Verdict::Good
        });
        let verdict = if server.is_ended() && !server.recovery.may_yet_start(now) {
            let ended = server.process.ended.as_deref().unwrap_or("ended");
            let words = server
                .last_line
                .as_ref()
                .map_or_else(String::new, |l| format!("; the last line it wrote: {l}"));
            Gated::Worse(format!("its process {ended} during the trial{words}"))
        } else if server.probes.verdict == Verdict::Bad && one_old_is_good {
            Gated::Worse(server.probes.because.clone())
        } else {
            deployment.gate.verdict(policy.min_requests, policy.min_time, now)
        };
        let refused = self.may_promote(out).err();
        match verdict {
            Gated::Worse(why) => self.is_worse(why, out),
            _ if now >= since + policy.deadline => {
                let Some(deployment) = &self.releases.deployment else { return false };
                let why =
                    format!("undecided after {} (deadline): {}", span(policy.deadline), deployment.text);
                self.take_back(ReleaseState::RolledBack, why, out);
            }
            Gated::NotWorse(text) if refused.is_some() => {
                let refusal = refused.map(|refusal| refusal.to_string()).unwrap_or_default();
                self.say(format!("not promoted, {refusal}; {text}"));
                return false;
            }
            Gated::NotWorse(text) if self.incident.is_none() && one_old_is_good => {
                self.promote(&format!("not worse: {text}"), out);
            }
            Gated::NotWorse(text) => {
                self.say(format!("it waits until the service is well: {text}"));
                return false;
            }
            Gated::Wait(text) => {
                self.say(text);
                return false;
            }
        }
        true
    }

    fn say(&mut self, text: String) {
        if let Some(deployment) = &mut self.releases.deployment {
            deployment.text = text;
        }
    }

    /// The release on trial hurts visitors: it is taken back, and people hear of it.
    fn is_worse(&mut self, why: String, out: &mut Out) {
        let Some(deployment) = &self.releases.deployment else { return };
        let (release, from, since) = (deployment.release, deployment.from, deployment.since.mono);
        let hurt = deployment.gate.hurt_visitors();
        let path = self.releases.known.get(&release).map_or(String::new(), |r| r.path.clone());
        self.take_back(ReleaseState::RolledBack, why.clone(), out);
        if hurt && self.incident.is_none() && !self.excused {
            let title =
                format!("release {release} of {} was worse than release {from} and was taken back", self.id);
            self.open(&title, Vec::new(), since.max(self.horizon(out.now.mono)), out);
            if let Some(open) = &mut self.incident {
                open.errors_count = true;
            }
        }
        let evidence = vec![why, format!("release {release} ({path}) was on trial beside release {from}")];
        self.diagnose(evidence, out);
    }

    fn diagnose(&mut self, evidence: Vec<String>, out: &mut Out) {
        let Some(open) = &mut self.incident else { return };
        open.diagnose(Diagnosis::sure(Cause::BadUpdate, evidence), out);
    }

    /// Puts the new release into the servers' place.
    fn promote(&mut self, why: &str, out: &mut Out) {
        let Some(release) = self.releases.deployment.as_ref().map(|d| d.release) else { return };
        self.set_release(release, ReleaseState::Promoting, why.to_owned(), out);
        self.tell_incident(format!("release {release} is promoted: {why}"), out);
        self.begin_replacing(why, out);
    }

    /// Ends a deploy: the release gets nothing any more, and servers that run it already go back.
    pub(crate) fn take_back(&mut self, state: ReleaseState, why: String, out: &mut Out) {
        let Some(deployment) = &self.releases.deployment else { return };
        let (release, from) = (deployment.release, deployment.from);
        let replacing = matches!(deployment.phase, Phase::Replacing(_));
        if deployment.back {
            return;
        }
        self.tell_incident(format!("release {release} is taken back: {why}"), out);
        self.set_release(release, state, why, out);
        if replacing {
            self.remove_beside("the release it runs is taken back", out);
            self.stop_replacing();
            self.begin(from, release, true, self.incident.is_some(), out);
        } else {
            self.withdraw(out);
        }
    }

    /// Goes back to a release that served before.
    fn go_back(&mut self, to: u64, at_once: bool, why: &str, out: &mut Out) {
        let Some(from) = self.releases.current().map(|r| r.number) else { return };
        self.releases.watched_until = None;
        self.releases.known.entry(to).and_modify(|r| r.warm_until = None);
        // Also for the next start: it is gone back from once.
        self.releases.known.entry(from).and_modify(|r| r.watched_until = None);
        // What failed with the one says nothing of the other.
        let ran_it = self.servers.values_mut().filter(|s| s.release == Some(from));
        ran_it.for_each(|server| (server.recovery.attempts, server.recovery.in_vain) = (0, 0));
        self.watch_action(Rung::RollBack, None, None, format!("going back to release {to}"), out);
        self.set_release(to, ReleaseState::Returning, why.to_owned(), out);
        self.step_of(from, why.to_owned(), out);
        self.tell_incident(format!("going back from release {from} to release {to}: {why}"), out);
        self.begin(to, from, true, at_once, out);
    }

    /// An incident shortly after a deploy: the deploy is the likeliest cause, and a restart does not mend it.
    fn go_back_first(&mut self, out: &mut Out) {
        let now = out.now;
        let suspect = self.suspect_incident(now).filter(|_| self.current_is_suspect(now.mono));
        let Some(incident) = suspect else {
            self.releases.suspect = None;
            return;
        };
        let since = match self.releases.suspect {
            Some((known, since)) if known == incident => since,
            _ => now.mono,
        };
        self.releases.suspect = Some((incident, since));
        if now.mono < since + DECIDE {
            return;
        }
        let verdict = self.may_go_back(out);
        let verdict = self.weigh_grant(Rung::RollBack, None, verdict, out);
        let (Some(policy), Some(current)) = (&self.policy.deploy, self.releases.current()) else { return };
        if let Err(refusal) = verdict {
            let said = self
                .releases
                .kept
                .as_ref()
                .is_some_and(|(id, said)| *id == incident && said.is_like(&refusal));
            if refusal.is_told() && !said {
                let text = format!("release {} is not gone back from: {refusal}", current.number);
                self.releases.kept = Some((incident, refusal));
                self.tell_incident(text, out);
            }
            return;
        }
        let Some(to) = previous(self.releases.known.values()).map(|r| r.number) else { return };
        let (number, path) = (current.number, current.path.clone());
        let age = now.wall.ms_since(current.current_since.unwrap_or(now.wall)).max(0);
        let age = span(Duration::from_secs(u64::try_from(age).unwrap_or(0) / 1000));
        let why =
            format!("incident {incident} began {age} after the deploy (watch = {})", span(policy.watch));
        let what = format!("go back from release {number} to release {to}");
        if !self.is_to_be_done(Rung::RollBack, None, &what, &why, out) {
            return;
        }
        let evidence =
            vec![why.clone(), format!("release {number} ({path}) runs on the servers that are at fault")];
        self.diagnose(evidence, out);
        self.go_back(to, true, &why, out);
    }

    /// The incident that is open, if it began while the current release is still watched.
    fn suspect_incident(&self, now: Now) -> Option<IncidentId> {
        let open = self.incident.as_ref()?.incident();
        // Who approved it may have taken longer over it.
        let watched = self.releases.watched_until.is_some_and(|until| now.mono < until)
            || self.is_granted(Rung::RollBack, None);
        let since = self.releases.current()?.current_since?;
        (watched && open.opened_at >= since).then_some(open.id)
    }

    /// The servers that run the current release fail in a way that no first restart would mend.
    fn current_is_suspect(&self, now: Mono) -> bool {
        let (Some(open), Some(current)) = (&self.incident, self.releases.current()) else { return false };
        let runs_it = |s: &Server| s.release == Some(current.number);
        let mut faulty = self.servers.values().filter(|s| runs_it(s) && s.at_fault);
        let Some(first) = faulty.next() else {
            // What began while another release was on trial was that one's doing, and it is gone.
            let began = open.incident().began_at;
            let on_trial = |r: &&Release| {
                r.number != current.number
                    && matches!(r.state, ReleaseState::RolledBack | ReleaseState::Failed)
                    && r.steps.last().is_some_and(|step| step.at >= began)
            };
            return open.incident().servers.is_empty() && !self.releases.known.values().any(|r| on_trial(&r));
        };
        if faulty.next().is_some() {
            return true;
        }
        let started_anew = first.recovery.may_yet_start(now) || first.is_starting(&self.policy, now);
        let others_do_well = || self.servers.values().any(|s| runs_it(s) && s.is_ready() && s.eligible);
        let never_tried = first.recovery.attempts == 0
            && (first.is_ended() || first.probes.verdict == Verdict::Bad && others_do_well());
        !(started_anew || never_tried)
    }

    /// It is still being decided whether the release that this server runs is at fault: until then.
    pub(crate) fn release_is_suspect(&self, server: &Server, now: Mono) -> Option<Mono> {
        let (_, since) = self.releases.suspect?;
        let runs_it = server.release.is_some() && server.release == self.releases.current().map(|r| r.number);
        Some(since + DECIDE).filter(|until| runs_it && now < *until)
    }

    /// The new release runs everywhere.
    pub(crate) fn took_over(&mut self, out: &mut Out) {
        let Some(deployment) = &self.releases.deployment else { return };
        let (release, from, back) = (deployment.release, deployment.from, deployment.back);
        let is_current = self.releases.current().is_some_and(|r| r.number == release);
        if !is_current {
            if self.releases.known.contains_key(&from) {
                let state = if back { ReleaseState::RolledBack } else { ReleaseState::Former };
                let why = self.releases.known.get(&release).map_or(String::new(), |r| r.why.clone());
                let why = if back { why } else { format!("release {release} took over") };
                if !back {
                    self.keep_warm(from, out);
                }
                self.set_release(from, state, why, out);
            }
            let why = self.releases.known.get(&release).map_or(String::new(), |r| r.why.clone());
            self.becomes_current(release, back, why, out);
        }
        self.step_of(release, "every server runs it".to_owned(), out);
        self.tell_incident(format!("every server runs release {release}"), out);
        self.withdraw(out);
    }

    fn becomes_current(&mut self, number: u64, back: bool, why: String, out: &mut Out) {
        let watch = self.policy.deploy.as_ref().map_or(Duration::ZERO, |p| p.watch);
        let watched = (!back && !watch.is_zero()).then_some(watch);
        self.releases.watched_until = watched.map(|watch| out.now.mono + watch);
        if let Some(release) = self.releases.known.get_mut(&number) {
            release.current_since = Some(out.now.wall);
            release.watched_until = watched.map(|watch| (out.now + watch).wall);
        }
        self.set_release(number, ReleaseState::Current, why, out);
    }

    /// Nothing more is routed to the instance beside the servers; it is stopped when it has answered.
    fn withdraw(&mut self, out: &mut Out) {
        self.stop_replacing();
        let Some(deployment) = &mut self.releases.deployment else { return };
        deployment.phase = Phase::Withdrawing;
        deployment.since = out.now;
        "its instance beside the servers finishes what it has".clone_into(&mut deployment.text);
        if let Some(server) = deployment.beside.as_ref().and_then(|id| self.servers.get_mut(id)) {
            server.standing = Standing::Aside(out.now.mono);
        }
    }

    fn withdrawing(&mut self, out: &mut Out) -> bool {
        let Some(deployment) = &self.releases.deployment else { return false };
        let server = deployment.beside.as_ref().and_then(|id| self.servers.get(id));
        if server.is_some_and(|s| !s.is_drained(out.now.mono)) {
            return false;
        }
        self.end_deployment(out);
        true
    }

    fn end_deployment(&mut self, out: &mut Out) {
        self.remove_beside("the deploy is over", out);
        self.stop_replacing();
        self.releases.deployment = None;
        self.forget_old_releases(out);
    }

    /// Only the record of them is forgotten; the files are the user's.
    fn forget_old_releases(&mut self, out: &mut Out) {
        let keep = self.policy.deploy.as_ref().map_or(u32::MAX, |p| p.keep) as usize;
        let before = previous(self.releases.known.values()).map(|r| r.number);
        let spare = |r: &&Release| {
            r.state != ReleaseState::Current && !r.state.is_under_way() && Some(r.number) != before
        };
        let old: Vec<u64> = self.releases.known.values().filter(spare).map(|r| r.number).collect();
        let kept = keep.saturating_sub(usize::from(before.is_some()));
        for number in old.iter().take(old.len().saturating_sub(kept)) {
            self.releases.known.remove(number);
            out.record(Record::ReleaseForgotten { service: self.id.clone(), number: *number });
        }
    }

    fn new_release(&mut self, number: u64, path: String, by: &str, state: ReleaseState, at: Wall) {
        let release = Release {
            number,
            path,
            at,
            by: by.to_owned(),
            state,
            why: String::new(),
            current_since: None,
            watched_until: None,
            warm_until: None,
            steps: Vec::new(),
        };
        // Written down with its first step.
        self.releases.known.insert(number, release);
    }

    pub(crate) fn set_release(&mut self, number: u64, state: ReleaseState, why: String, out: &mut Out) {
        let Some(release) = self.releases.known.get_mut(&number) else { return };
        release.state = state;
        release.why.clone_from(&why);
        let done = match state {
            ReleaseState::Starting => Some("is tried beside the servers"),
            ReleaseState::Promoting => Some("is put in the place of the servers"),
            ReleaseState::Returning => Some("comes back"),
            ReleaseState::RolledBack => Some("is taken back"),
            _ => None,
        };
        if let Some(done) = done {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let what = format!("release {number} ({}) {done}{why}", release.path);
            let by = if state == ReleaseState::Starting { release.by.clone() } else { "Mainstay".to_owned() };
            out.changed(ChangeKind::Release, Some(self.id.clone()), what, &by);
        }
        let text =
            if why.is_empty() { state.as_str().to_owned() } else { format!("{}: {why}", state.as_str()) };
        self.step_of(number, text, out);
    }

    /// Remembers and writes down what was done about a release.
    pub(crate) fn step_of(&mut self, number: u64, text: String, out: &mut Out) {
        let Some(release) = self.releases.known.get_mut(&number) else { return };
        if release.steps.len() >= Release::STEPS_MAX {
            release.steps.remove(0);
        }
        release.steps.push(Step { at: out.now.wall, text });
        out.record(Record::Release { service: self.id.clone(), release: release.clone() });
    }

    pub(crate) fn tell_incident(&mut self, text: String, out: &mut Out) {
        if let Some(open) = &mut self.incident {
            open.entry(EntryKind::ReleaseChanged, None, None, text, out);
        }
    }

    /// The first server that a release can be put into, heavy enough to carry the share of whichever is being replaced.
    pub(crate) fn first_releasable(&self) -> Option<(Arc<str>, ServerPolicy)> {
        let fits = |s: &Server| s.origin == Origin::Config && s.policy.releasable;
        let (id, first) =
            self.servers.iter().filter(|(_, s)| fits(s)).min_by_key(|(_, s)| !s.is_primary())?;
        let weights = self.servers.values().filter(|s| s.policy.releasable).map(|s| s.policy.weight);
        let weight = weights.max().unwrap_or(1);
        Some((id.name.clone(), ServerPolicy { weight, ..first.policy.clone() }))
    }

    /// One more instance of it.
    fn start_beside(&mut self, out: &mut Out) -> bool {
        let Some((template, policy)) = self.first_releasable() else { return false };
        let id = self.id.server(format!("{template}{BESIDE}"));
        if out.is_stopping(&id) {
            return false;
        }
        let Some(deployment) = &mut self.releases.deployment else { return false };
        let release = deployment.release;
        deployment.beside = Some(id.clone());
        deployment.since = out.now;
        let mut server = Server::new(policy, &self.policy, out.now);
        server.origin = Origin::Beside(template);
        server.standing = Standing::Aside(out.now.mono);
        server.fresh = false;
        server.recovery.start_wanted = false;
        self.servers.insert(id.clone(), server);
        let reason = format!("release {release} is started beside the servers");
        self.order(&id, ActionKind::Start, false, &reason, out);
        false
    }
}

impl Deployment {
    fn present(&self, policy: &DeployPolicy) -> DeploymentSnapshot {
        let trial = matches!(self.phase, Phase::Trial);
        let (new, old) =
            if self.back { (Figures::default(), Figures::default()) } else { self.gate.figures() };
        DeploymentSnapshot {
            release: self.release,
            from: self.from,
            back: self.back,
            phase: self.phase.present(),
            since: self.since.wall,
            text: self.text.clone(),
            share: if trial { policy.share } else { 0.0 },
            new,
            old,
            harm: if trial { self.gate.harm() } else { 0.0 },
            beside: self.beside.as_ref().map(|id| id.name.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
