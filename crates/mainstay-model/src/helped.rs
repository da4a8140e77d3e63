//! Whether an action helped: judged by real requests, within `helped-within` of the moment in which it was carried out.
//!
//! It helped only if requests got better: those to the server for a restart, those of visitors for a roll-back and a switch.
//! Without requests it is not known. The server's probes can then say no (none was good since), and never yes.
//! It is decided as soon as there is enough to go by, and at the latest when the time, or the incident, is over.
//!
//! What did not help is not simply done again. After two restarts in a row a person is called, unless the release is to be
//! gone back from, and the next tries come slowly: see [`crate::policy::RecoveryPolicy`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::id::{ActionId, ServerId};
use crate::incident::EntryKind;
use crate::input::{ServerTraffic, ServiceTraffic, TrafficReport};
use crate::memory::Fingerprint;
use crate::open::Open;
use crate::out::Out;
use crate::policy::{RecoveryPolicy, ServicePolicy};
use crate::rung::Rung;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Mono;
use crate::traffic::{Counts, REPORT_LAG, Ring};
use crate::words::{count, span};

/// Restarts in a row that did not help before a person is called.
pub(crate) const VAIN_MAX: u32 = 2;
/// Requests must have been well answered for so long before it is said early that it helped.
const STEADY: Duration = Duration::from_secs(5);
/// The counts before are kept in so many parts of the time that is looked at.
const PARTS: u64 = 60;

/// Whether it helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Help {
    /// Real requests got better.
    Yes,
    /// They did not; or there were none, and no probe was good either.
    No,
    /// There were none to judge by.
    NotKnown,
}

impl Help {
    /// The word used in the record, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Help::Yes => "yes",
            Help::No => "no",
            Help::NotKnown => "not-known",
        }
    }
}

/// What was made of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helped {
    /// Whether it helped.
    pub help: Help,
    /// How that shows, in words.
    pub why: String,
    /// Requests before, since the incident began and not longer ago than `helped-within`.
    pub before: Requests,
    /// Requests since it was carried out.
    pub after: Requests,
    /// Milliseconds from its beginning to the first good probe or answer; `None`: there was none, or it was not looked at.
    pub took_ms: Option<u64>,
}

/// Requests by which an action is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Requests {
    /// Attempts at the server; at all servers of the service if the action was about no single one.
    pub attempts: u64,
    /// Of them, failed or answered 5xx.
    pub bad: u64,
    /// Requests of the service's visitors.
    pub visitors: u64,
    /// Of them, failed or answered 5xx.
    pub visitors_bad: u64,
}

impl Requests {
    fn of(own: Counts, visitors: Counts) -> Self {
        Self {
            attempts: own.attempts,
            bad: own.bad(),
            visitors: visitors.attempts,
            visitors_bad: visitors.bad(),
        }
    }
}

/// What is known of requests before and after actions.
#[derive(Debug)]
pub(crate) struct Helping {
    visitors: Ring<Counts>,
    watched: Vec<Watched>,
}

/// An action of which it is not decided yet whether it helped.
#[derive(Debug)]
struct Watched {
    rung: Rung,
    action: Option<ActionId>,
    server: Option<ServerId>,
    /// What sort of failure it is to mend.
    fingerprint: Fingerprint,
    /// What it is called in a sentence.
    name: String,
    began: Mono,
    /// When it was carried out; `None`: it is under way.
    since: Option<Mono>,
    before: (Counts, Counts),
    after: (Counts, Counts),
    /// When a probe or a request was first answered well since.
    answers_at: Option<Mono>,
}

/// Requests to one server, as far as they are looked back at.
pub(crate) fn lately(policy: &RecoveryPolicy) -> Ring<Counts> {
    Ring::new(policy.helped_within, PARTS)
}

fn attempts(traffic: &ServerTraffic) -> Counts {
    let failed = traffic.failed();
    Counts { attempts: traffic.answered() + failed, failed, server_errors: traffic.server_errors }
}

fn requests(traffic: &ServiceTraffic) -> Counts {
    Counts { attempts: traffic.requests, failed: traffic.failed, server_errors: traffic.server_errors }
}

fn sum(ring: &Ring<Counts>, since: Mono, now: Mono) -> Counts {
    let mut sum = Counts::default();
    ring.since(since, now).for_each(|counts| sum.add(*counts));
    sum
}

impl Helping {
    pub(crate) fn new(policy: &RecoveryPolicy) -> Self {
        Self { visitors: lately(policy), watched: Vec::new() }
    }

    /// When something is next to be decided without a report.
    pub(crate) fn due(&self, policy: &RecoveryPolicy, now: Mono) -> Option<Mono> {
        let ends = self.watched.iter().filter_map(|w| w.since);
        ends.map(|since| since + policy.helped_within).filter(|at| *at > now).min()
    }
}

impl Watched {
    fn is(&self, rung: Rung, server: Option<&ServerId>) -> bool {
        self.rung == rung && self.server.as_ref() == server
    }

    /// Whether requests say that it helped; `None`: there were none to compare.
    fn requests_say(&self, policy: &ServicePolicy) -> Option<(bool, u64)> {
        if self.server.is_some() {
            let (before, after) = (self.before.0, self.after.0);
            let good = after.bad_share() < policy.traffic.failure_share;
            let better = before.bad() == 0 || after.bad_share() < before.bad_share();
            return (after.attempts > 0).then_some((good && better, after.attempts));
        }
        let (before, after) = match self.before.1.bad() {
            // Nobody was hurt, because what failed was tried again.
            0 => (self.before.0, self.after.0),
            _ => (self.before.1, self.after.1),
        };
        let better = after.bad_share() < before.bad_share() / 2.0;
        (before.bad() > 0 && after.attempts > 0).then_some((better, after.attempts))
    }

    /// `0 of 118 requests to app-2 went wrong since, 12 of 340 before`.
    fn figures(&self) -> String {
        let (whose, before, after) = match &self.server {
            Some(server) => (format!("requests to {}", server.name), self.before.0, self.after.0),
            None if self.before.1.bad() > 0 => ("visitors' requests".to_owned(), self.before.1, self.after.1),
            None => ("requests to its servers".to_owned(), self.before.0, self.after.0),
        };
        format!(
            "{} of {} {whose} went wrong since, {} of {} before",
            after.bad(),
            after.attempts,
            before.bad(),
            before.attempts
        )
    }
}

impl Service {
    /// An action is begun: from now on what becomes better is put down to it.
    pub(crate) fn watch_action(
        &mut self,
        rung: Rung,
        action: Option<ActionId>,
        server: Option<&ServerId>,
        name: String,
        out: &mut Out,
    ) {
        let now = out.now.mono;
        self.forget_action(rung, server);
        let within = now.before(self.policy.recovery.helped_within);
        let since = self.incident.as_ref().map_or(within, |open| open.began.max(within));
        let mut own = Counts::default();
        let whose = self.servers.iter().filter(|(id, _)| server.is_none_or(|server| server == *id));
        whose.for_each(|(_, s)| own.add(sum(&s.lately, since, now)));
        let before = (own, sum(&self.helping.visitors, since, now));
        self.helping.watched.push(Watched {
            rung,
            action,
            server: server.cloned(),
            fingerprint: self.fingerprint(server, out),
            name,
            began: now,
            since: None,
            before,
            after: Default::default(),
            answers_at: None,
        });
        let recalled = self.recall(rung, server, out);
        if let Some(open) = self.incident.as_mut().filter(|_| !recalled.is_empty()) {
            open.entry(EntryKind::Recalled, server, action, recalled, out);
        }
    }

    /// It was carried out.
    pub(crate) fn action_is_done(&mut self, rung: Rung, server: Option<&ServerId>, now: Mono) {
        let mut watched = self.helping.watched.iter_mut();
        if let Some(watched) = watched.find(|w| w.is(rung, server)) {
            watched.since.get_or_insert(now);
        }
    }

    /// It could not be carried out, or its server is gone: there is nothing to judge.
    pub(crate) fn forget_action(&mut self, rung: Rung, server: Option<&ServerId>) {
        self.helping.watched.retain(|w| !w.is(rung, server));
    }

    /// The data plane has reported.
    pub(crate) fn count_requests(&mut self, report: &TrafficReport, now: Mono) {
        let hears = |w: &&mut Watched| w.since.is_some_and(|since| now >= since + REPORT_LAG);
        for (id, traffic) in report.servers.iter().filter(|(id, _)| id.service == self.id) {
            let Some(server) = self.servers.get_mut(id) else { continue };
            let counts = attempts(traffic);
            server.lately.at(now).add(counts);
            let mine = |w: &&mut Watched| w.server.as_ref().is_none_or(|server| server == id);
            for watched in self.helping.watched.iter_mut().filter(hears).filter(mine) {
                watched.after.0.add(counts);
                if counts.attempts > counts.bad() {
                    watched.answers_at.get_or_insert(now);
                }
            }
        }
        if let Some(counts) = report.services.get(&self.id).map(requests) {
            self.helping.visitors.at(now).add(counts);
            self.helping.watched.iter_mut().filter(hears).for_each(|w| w.after.1.add(counts));
        }
    }

    /// Decides what can be decided.
    pub(crate) fn judge_actions(&mut self, out: &mut Out) {
        let mut open = self.incident.take();
        self.judge_actions_of(open.as_mut(), false, out);
        self.incident = open;
    }

    /// The same for an incident; `over`: it is about to be closed, and nothing is told in it afterwards.
    pub(crate) fn judge_actions_of(&mut self, mut open: Option<&mut Open>, over: bool, out: &mut Out) {
        let now = out.now.mono;
        if self.helping.watched.iter().any(|w| w.rung == Rung::RollBack && w.since.is_none())
            && self.releases.deployment.is_none()
        {
            self.action_is_done(Rung::RollBack, None, now);
        }
        for mut watched in std::mem::take(&mut self.helping.watched) {
            let server = watched.server.as_ref().map(|id| self.servers.get(id));
            if server.is_some_and(|server| server.is_none()) {
                continue;
            }
            let server = server.flatten();
            if watched.since.is_some() && server.is_some_and(|s| s.probes.passed) {
                watched.answers_at.get_or_insert(now);
            }
            match self.decide(&watched, server, over, now) {
                None => self.helping.watched.push(watched),
                Some((help, why)) => self.tell_help(watched, help, why, open.as_deref_mut(), out),
            }
        }
    }

    fn decide(
        &self,
        watched: &Watched,
        server: Option<&Server>,
        over: bool,
        now: Mono,
    ) -> Option<(Help, String)> {
        let since = watched.since?;
        let policy = &self.policy;
        let fall = policy.health.fall.max(1);
        let needs_it_again =
            server.is_some_and(|s| s.is_ready() && s.need(&policy.recovery, fall, now).is_some());
        let over = over || needs_it_again || now >= since + policy.recovery.helped_within;
        if let Some((well, requests)) = watched.requests_say(policy) {
            let enough = requests >= u64::from(policy.traffic.min_requests);
            let steady = if well { STEADY } else { policy.traffic.window };
            let decided = over || enough && now >= since + steady;
            return decided.then(|| (if well { Help::Yes } else { Help::No }, watched.figures()));
        }
        if !over {
            return None;
        }
        let Some((id, server)) = watched.server.as_ref().zip(server) else {
            let well = self.servers.values().any(|s| s.probes.verdict == Verdict::Good && s.eligible);
            let probes = if well { "probes are answered well" } else { "no server answers its probes well" };
            return Some((Help::NotKnown, format!("there were no requests to compare; {probes}")));
        };
        if watched.answers_at.is_none() {
            let seen = &server.probes.because;
            return Some((
                Help::No,
                format!("no request and no probe of {} was answered well since: {seen}", id.name),
            ));
        }
        let probes = match server.probes.verdict {
            Verdict::Good => "its probes are good",
            Verdict::Bad => "its probes were good and are not any more",
            Verdict::Unknown => "its probes were good",
        };
        Some((Help::NotKnown, format!("no request came to {} since; {probes}", id.name)))
    }

    /// Writes down what was made of an action, and draws the consequence.
    fn tell_help(
        &mut self,
        watched: Watched,
        help: Help,
        why: String,
        open: Option<&mut Open>,
        out: &mut Out,
    ) {
        let ms = |at: Mono| u64::try_from(at.since(watched.began).as_millis()).unwrap_or(u64::MAX);
        let helped = Helped {
            help,
            why: why.clone(),
            before: Requests::of(watched.before.0, watched.before.1),
            after: Requests::of(watched.after.0, watched.after.1),
            took_ms: watched.answers_at.map(ms),
        };
        out.remember(watched.fingerprint.clone(), watched.rung, &helped);
        let name = &watched.name;
        let text = match help {
            Help::Yes => format!("{name} helped: {why}"),
            Help::No => format!("{name} did not help: {why}"),
            Help::NotKnown => format!("whether {name} helped is not known: {why}"),
        };
        self.write_help(&watched, helped, &text, out);
        let mut advice = None;
        if let Some(id) = &watched.server {
            advice = self.restart_was_judged(id, help);
        } else if help == Help::No {
            advice = Some(format!("Look at what else is wrong with {}: {name} did not help", self.id));
        }
        let Some(open) = open else { return };
        open.entry(EntryKind::Helped, watched.server.as_ref(), watched.action, text, out);
        if let Some(advice) = advice {
            if let Some(id) = &watched.server {
                let restarts = count(VAIN_MAX.into(), "restart");
                let text =
                    format!("{} is not soon restarted again: {restarts} in a row did not help", id.name);
                open.entry(EntryKind::BudgetSpent, Some(id), None, text, out);
                open.tell_needs_person(advice, out);
            } else {
                open.tell_needs_person_anew(advice, out);
            }
        }
    }

    fn write_help(&mut self, watched: &Watched, helped: Helped, text: &str, out: &mut Out) {
        match (watched.rung, watched.action) {
            (Rung::Restart, Some(action)) => out.record(Record::ActionHelped { action, helped }),
            (Rung::RollBack, _) => {
                if let Some(number) = self.releases.current().map(|r| r.number) {
                    self.step_of(number, text.to_owned(), out);
                }
            }
            (Rung::Switch, Some(action)) => self.switch_helped(action, helped, out),
            _ => {}
        }
        if let Some(server) = watched.server.as_ref().and_then(|id| self.servers.get_mut(id)) {
            server.changed(out.now.wall, text.to_owned());
        }
    }

    /// After some that did not help a person is called.
    fn restart_was_judged(&mut self, id: &ServerId, help: Help) -> Option<String> {
        let again = self.policy.recovery.delay_max;
        let goes_back = self.releases.deployment.is_some() || self.is_replaced_next(id);
        let server = self.servers.get_mut(id)?;
        let place = if server.policy.supervised { "on its page" } else { "in the incident" };
        let recovery = &mut server.recovery;
        recovery.in_vain = if help == Help::No { recovery.in_vain.saturating_add(1) } else { 0 };
        let call = recovery.in_vain == VAIN_MAX && !goes_back;
        call.then(|| {
            format!(
                "Look at why {} does not get well: {} in a row did not help; its last lines are {place}. Mainstay tries once \
                 more in {}",
                id.name,
                count(VAIN_MAX.into(), "restart"),
                span(again)
            )
        })
    }
}

#[cfg(test)]
mod tests;
