//! Two witnesses who contradict one another: the probes of a server, and the real requests to it.
//!
//! | probes | requests | what it is called | what follows |
//! | --- | --- | --- | --- |
//! | good | bad | *gray* | out of rotation as for requests alone, until it has proven itself by requests of Mainstay's own |
//! | bad | good | *the check is wrong* | it stays in rotation, and an incident of its own says so |
//!
//! **Gray** is told from dead by a probe that was begun after requests began to speak against the server, and was good. Its
//! probe has lied, so it does not decide about the return: shortly before the ejection ends Mainstay asks as a visitor would
//! (`health.ask`, by default `GET /`), and only [`PROOF`] good answers in a row end it; a bad one makes it twice as long.
//!
//! **The check is wrong** when probes fail and the server has answered at least `min-requests` requests since then, of the
//! last `window`, all but [`WELL_BUT`] of them well. It depends on how the probe failed:
//!
//! - it was *answered*, badly: while requests come that would be enough within [`HEARING`], they are waited for; the first
//!   second in which they fail too ends the wait;
//! - it *hung* or was cut: nobody waits, but answers since then count as they do above;
//! - it was *refused*, or there is no way to the server: what is answered meanwhile is answered on connections from before,
//!   so requests are not heard at all.
//!
//! Half of `min-requests` in `window` keep it up. When they cease there is nobody left to contradict the probe, and it counts.
//!
//! Silence is no witness. A server of an HTTP service whose probe is a bare connection is asked the same way before it is
//! trusted again, and now and then while nobody else asks it ([`QUIET`]): a kernel accepts connections for a program that hangs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ServerId;
use crate::incident::{EntryKind, Scope};
use crate::incidents::Own;
use crate::input::{ProbeAnswer, ProbeFailure, ProbeReport};
use crate::out::Out;
use crate::policy::{ProbeKind, ServicePolicy};
use crate::sample::Sample;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Mono;
use crate::traffic::Counts;
use crate::words::{count, span};

/// One request in so many may fail, and requests still speak for the server.
const WELL_BUT: u64 = 20;
/// Requests that may contradict a probe are waited for no longer than this.
const HEARING: Duration = Duration::from_secs(5);
/// A server that was down, accepts connections and lets so many questions in a row time out is taken back all the same: it may
/// be the question.
const UNANSWERED_MAX: u32 = 30;
/// Good answers in a row by which a gray server proves itself.
pub(crate) const PROOF: u32 = 3;
/// It is asked for them from so long before its return on.
const PROOF_LEAD: Duration = Duration::from_secs(1);
/// Without a request for so long a server is quiet.
pub(crate) const QUIET: Duration = Duration::from_secs(30);
/// A quiet server is asked no oftener than this.
const VISIT_EVERY: Duration = Duration::from_secs(10);

/// What is said of a gray server.
pub(crate) const GRAY: &str = "its health check says fine, its users say otherwise";

/// Where the two witnesses of one server stand.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    /// Requests have spoken against it since then, for more than being slow.
    suspect: Option<Mono>,
    pub(crate) gray: Option<Gray>,
    pub(crate) check_wrong: Option<WrongCheck>,
    /// Good answers in a row that Mainstay got for requests of its own.
    proof: u32,
    /// When it was last asked.
    pub(crate) visited_at: Mono,
    /// It has answered such a question before: it can, and in time.
    answers_visits: bool,
    /// Such questions in a row that it let time out.
    unanswered: u32,
    /// What somebody should look into about its answer.
    warning: Option<String>,
}

impl Witnesses {
    /// It was gray for the Mainstay before.
    pub(crate) fn goes_on(&mut self, gray: Gray, now: Mono) {
        (self.suspect, self.gray) = (Some(now), Some(gray));
    }

    /// Requests speak against it.
    pub(crate) fn suspected(&mut self, for_more_than_slowness: bool, now: Mono) {
        if for_more_than_slowness {
            self.suspect.get_or_insert(now);
        } else {
            self.trusted();
        }
    }

    /// Requests do not speak against it any longer.
    pub(crate) fn trusted(&mut self) {
        (self.suspect, self.gray, self.proof) = (None, None, 0);
    }
}

/// Its probes are good, and real requests fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gray {
    /// What the probe said.
    probe: String,
    /// What came of the last request of Mainstay's own that failed.
    asked: Option<String>,
}

impl fmt::Display for Gray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gray, its health check says fine ({}) and its users say otherwise", self.probe)?;
        match &self.asked {
            Some(asked) => write!(f, ", as does Mainstay, to whom {asked}"),
            None => Ok(()),
        }
    }
}

/// Its probes fail, and real requests are answered well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongCheck {
    /// How the probe failed.
    says: String,
    good: u64,
    all: u64,
    what: &'static str,
    window: Duration,
}

impl fmt::Display for WrongCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { says, good, all, .. } = self;
        let (what, window) = (count(*all, self.what), span(self.window));
        write!(f, "{says}, and {good} of {what} of the last {window} were answered well")
    }
}

/// What requests say to a failed probe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    /// Nothing that would contradict it.
    Nothing,
    /// They may yet contradict it.
    NotYet,
    /// So many were answered well since it failed.
    Well(Counts),
}

/// The checks of a service that are wrong, rather than its servers.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) own: Own,
    /// Of these servers.
    named: Vec<Arc<str>>,
}

impl ServicePolicy {
    /// How Mainstay itself asks a server, where it may.
    pub(crate) fn asks(&self) -> Option<ProbeKind> {
        let path = self.health.ask.clone()?;
        if self.carriage.tcp.is_some() || self.health.probe == ProbeKind::Grpc {
            return None;
        }
        let host = self.carriage.hosts.iter().find(|host| !host.contains('*')).cloned();
        Some(ProbeKind::Visit { path, host })
    }

    /// Its servers are known by connections that are accepted, although they answer requests.
    pub(crate) fn knows_connections_only(&self) -> bool {
        self.carriage.tcp.is_none() && self.health.probe.is_answered_by_a_kernel()
    }
}

impl Server {
    /// How it is looked at now, if not by its own probe.
    pub(crate) fn visit(&self, policy: &ServicePolicy, now: Mono) -> Option<ProbeKind> {
        let asks = policy.asks()?;
        let unproven = self.is_proving(now);
        let untrusted = policy.knows_connections_only() && self.probes.verdict == Verdict::Bad;
        let due = now >= self.witnesses.visited_at + VISIT_EVERY;
        let due = due || self.probes.failed_in_row > 0;
        let quiet = policy.knows_connections_only() && due && self.is_quiet(now);
        (unproven || untrusted || quiet).then_some(asks)
    }

    /// It could get requests, and nobody has asked it for long.
    pub(crate) fn is_quiet(&self, now: Mono) -> bool {
        let serves = self.eligible_since.is_some_and(|since| now >= since + QUIET);
        serves && now >= self.traffic.last_attempt + QUIET
    }

    /// What it was last warned of when Mainstay asked, while nobody else asks.
    pub(crate) fn visit_warning(&self, now: Mono) -> Option<&String> {
        self.witnesses.warning.as_ref().filter(|_| self.is_quiet(now))
    }

    /// It has never answered such a question in time, so that a time-out says little; of one that was down it says something,
    /// but not for ever.
    fn may_never_answer(&self) -> bool {
        let patient = self.probes.verdict != Verdict::Bad || self.witnesses.unanswered >= UNANSWERED_MAX;
        !self.witnesses.answers_visits && patient
    }

    /// It is gray, and has not answered Mainstay yet.
    pub(crate) fn has_to_prove(&self, policy: &ServicePolicy) -> bool {
        self.witnesses.gray.is_some() && self.witnesses.proof < PROOF && policy.asks().is_some()
    }

    /// The time has come for that.
    pub(crate) fn is_proving(&self, now: Mono) -> bool {
        let soon = self.ejection.as_ref().is_some_and(|e| now + PROOF_LEAD >= e.until);
        soon && self.witnesses.gray.is_some() && self.witnesses.proof < PROOF
    }

    /// When the time comes.
    pub(crate) fn proof_begins(&self, now: Mono) -> Option<Mono> {
        let ejection = self.ejection.as_ref().filter(|_| self.witnesses.gray.is_some());
        let begins = ejection.filter(|_| self.witnesses.proof < PROOF).map(|e| e.until.before(PROOF_LEAD));
        begins.filter(|begins| *begins > now)
    }

    /// When its ejection ends, unless something else has to happen first.
    pub(crate) fn ejection_due(&self, policy: &ServicePolicy) -> Option<Mono> {
        self.ejection.as_ref().filter(|_| !self.has_to_prove(policy)).map(|e| e.until)
    }
}

impl Service {
    /// Finds out whether a server that requests speak against is gray.
    pub(crate) fn judge_gray(&mut self, id: &ServerId, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let accused = server.ejection.is_some() || server.condemned.is_some();
        let Some(since) = server.witnesses.suspect.filter(|_| accused) else {
            server.witnesses.gray = None;
            return;
        };
        let fine = server.probes.verdict == Verdict::Good && server.probes.failed_in_row == 0;
        if !fine || server.witnesses.gray.is_some() {
            server.witnesses.gray =
                server.witnesses.gray.take().filter(|_| server.probes.verdict == Verdict::Good);
            return;
        }
        let Some(probe) = server.probes.last.as_ref().filter(|_| server.probes.good_ordered_at >= since)
        else {
            return;
        };
        // Nothing listened there, and something does now: it was started anew, and both witnesses are right.
        if server.traffic.was_refused(&self.policy.traffic, since, out.now.mono) {
            return;
        }
        let gray = Gray { probe: probe.text.clone(), asked: None };
        let reason = server.ejection.as_ref().map(|e| e.reason.clone()).or_else(|| server.condemned.clone());
        let text = format!("{} is {gray}: {}", id.name, reason.unwrap_or_default());
        server.witnesses.gray = Some(gray);
        server.witnesses.proof = 0;
        let begins = server.proof_begins(out.now.mono);
        if let (Some(next), Some(begins)) = (&mut server.probes.next_at, begins) {
            *next = (*next).min(begins);
        }
        server.changed(out.now.wall, text.clone());
        if let Some(open) = &mut self.incident {
            let before = format!("{} of {} fails real requests", id.name, id.service);
            open.rename(&before, format!("{} of {} is gray: {GRAY}", id.name, id.service));
            open.entry(EntryKind::Diagnosed, Some(id), None, text, out);
        }
    }

    /// What requests say to a probe that failed.
    pub(crate) fn requests_say(&self, id: &ServerId, failure: &ProbeFailure, now: Mono) -> Says {
        let policy = &self.policy.traffic;
        let Some(server) = self.servers.get(id) else { return Says::Nothing };
        let Some(since) = server.probes.run_since else { return Says::Nothing };
        if failure.is_away() || !self.policy.traffic_hears_the_server() || server.is_ended() {
            return Says::Nothing;
        }
        let lately = server.traffic.counts_since(since.max(now.before(Duration::from_secs(1))), now);
        let answered = failure.is_an_answer();
        if (lately.bad() > 0 && lately.bad_share() >= policy.failure_share)
            || (!answered && lately.attempts == lately.bad())
        {
            return Says::Nothing;
        }
        let counts = server.traffic.since_bad(now);
        let least = u64::from(policy.min_requests).max(1);
        let enough = if server.witnesses.check_wrong.is_some() { least.div_ceil(2) } else { least };
        if counts.attempts >= enough {
            let well = counts.bad() * WELL_BUT <= counts.attempts;
            return if well { Says::Well(counts) } else { Says::Nothing };
        }
        // Requests come by chance: half as many as would be enough by now may be enough by then.
        let will_be_enough = server.traffic.attempts_lately(now) * 5 >= least;
        if answered && will_be_enough && counts.bad() == 0 && now < since + HEARING {
            return Says::NotYet;
        }
        Says::Nothing
    }

    /// Requests were reported: they may contradict failed probes, or have ceased to.
    pub(crate) fn hear_requests(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now.mono;
        let policy = &self.policy.health;
        let Some(server) = self.servers.get(id).filter(|s| s.probes.fail(policy)) else { return };
        let Some(failure) = server.probes.last_result.clone() else { return };
        if server.is_starting(&self.policy, now) {
            return;
        }
        if server.probes.verdict != Verdict::Bad {
            return self.decide_by_probes(id, &failure, out);
        }
        if let Says::Well(counts) = self.requests_say(id, &failure, now) {
            self.call_check_wrong(id, &failure, counts, out);
        }
    }

    /// Its probes fail, and requests say otherwise: it goes on serving, or serves again.
    pub(crate) fn call_check_wrong(
        &mut self,
        id: &ServerId,
        failure: &ProbeFailure,
        counts: Counts,
        out: &mut Out,
    ) {
        let window = self.policy.traffic.window;
        let what = if self.policy.carriage.tcp.is_some() { "connection" } else { "request" };
        let Some(server) = self.servers.get_mut(id) else { return };
        let says = match failure {
            ProbeFailure::Status(code) => format!("its probe says {code}"),
            failure => format!("by its probe it {failure}"),
        };
        let good = counts.attempts - counts.bad();
        let wrong = WrongCheck { says, good, all: counts.attempts, what, window };
        if server.probes.verdict == Verdict::Bad {
            server.probes.verdict = Verdict::Unknown;
        }
        server.recovery.probe_only = true;
        let text = format!("its check is wrong: {wrong}");
        if server.witnesses.check_wrong.replace(wrong).is_none() {
            server.changed(out.now.wall, text);
        }
    }

    /// Opens, keeps up and closes the incident of checks that are wrong.
    pub(crate) fn tend_checks(&mut self, out: &mut Out) {
        let named =
            |id: &ServerId| self.checks.own.incident.is_some() && self.checks.named.contains(&id.name);
        let told =
            |id: &ServerId, server: &Server| named(id) || self.server_in_window(id, server, out).is_none();
        let wrong = self.servers.iter().filter(|(id, server)| server.is_ready() && told(id, server));
        let wrong = wrong.filter_map(|(id, server)| Some((id, server.witnesses.check_wrong.as_ref()?)));
        let wrong: Vec<(&ServerId, &WrongCheck)> = wrong.collect();
        if !wrong.iter().map(|(id, _)| &id.name).eq(&self.checks.named) {
            let title =
                |(id, wrong): &(&ServerId, &WrongCheck)| format!("the check of {id} is wrong: {wrong}");
            let told: Vec<String> = wrong.iter().map(title).collect();
            let own = &mut self.checks.own;
            let trouble = (!told.is_empty()).then(|| told.join("; "));
            own.on_trouble(Scope::Check(self.id.clone()), trouble.as_deref(), out);
            if let Some(open) = &mut own.incident {
                open.steps.set_groups(self.policy.on_call.as_deref());
                wrong.iter().zip(&told).for_each(|((id, _), title)| open.join(id, title));
            }
            self.checks.named = wrong.iter().map(|(id, _)| Arc::clone(&id.name)).collect();
        }
        self.checks.own.tend(out);
    }

    /// A request of Mainstay's own has its answer. What that says of the server in its probe's place; `None`: nothing.
    pub(crate) fn on_visit(
        &mut self,
        id: &ServerId,
        report: &ProbeReport,
        out: &mut Out,
    ) -> Option<Result<ProbeAnswer, ProbeFailure>> {
        let path = self.policy.health.ask.clone().unwrap_or_default();
        let server = self.servers.get_mut(id)?;
        if server.has_to_prove(&self.policy) {
            match &report.result {
                Ok(_) => server.witnesses.proof += 1,
                Err(ProbeFailure::NotProbed(_)) => {}
                Err(failure) => {
                    let failure = failure.clone();
                    self.proof_failed(id, &path, (&failure, report.sample.clone()), out);
                }
            }
            return None;
        }
        match &report.result {
            // Who said nothing of HTTP may well have servers without a good answer to this.
            Err(ProbeFailure::Status(status)) => {
                let warning = format!(
                    "it accepts connections, which is all that its probe asks, and answered GET {path} with {status}; say \
                     with health.http what a good answer is"
                );
                server.witnesses.warning = Some(warning.clone());
                Some(Ok(ProbeAnswer { warning: Some(warning), ..ProbeAnswer::status(*status) }))
            }
            // Nor did anybody say how long an answer to this may take.
            Err(failure @ ProbeFailure::AnswerTimeout) if server.may_never_answer() => {
                let warning = format!(
                    "it accepts connections, which is all that its probe asks, and {failure} for GET {path}; say with \
                     health.http what a good answer is, and with health.timeout how long it may take"
                );
                server.witnesses.warning = Some(warning.clone());
                Some(Ok(ProbeAnswer { warning: Some(warning), ..ProbeAnswer::default() }))
            }
            result => {
                let hung = matches!(result, Err(ProbeFailure::AnswerTimeout));
                server.witnesses.unanswered = if hung { server.witnesses.unanswered + 1 } else { 0 };
                server.witnesses.answers_visits |= result.is_ok();
                server.witnesses.warning = None;
                Some(result.clone())
            }
        }
    }

    fn proof_failed(
        &mut self,
        id: &ServerId,
        path: &str,
        (failure, sample): (&ProbeFailure, Option<Arc<Sample>>),
        out: &mut Out,
    ) {
        let now = out.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        let longer = server.next_ejection(&self.policy.traffic);
        server.witnesses.proof = 0;
        if let Some(gray) = &mut server.witnesses.gray {
            gray.asked = Some(format!("it {failure} for GET {path}"));
        }
        if let Some(ejection) = &mut server.ejection {
            ejection.until = now.mono + longer;
        }
        let text = format!("a request of Mainstay's own, GET {path}, failed: {} {failure}", id.name);
        server.changed(now.wall, format!("out of rotation for {} more: {text}", span(longer)));
        self.observe_answer(id, EntryKind::ProbeFailed, text, sample, out);
    }
}

#[cfg(test)]
mod tests;
