//! One monitor: what its last probes said, and when it is looked at next.
//!
//! It is down when k of the last n probes failed, and up again after some good ones in a row. After a first failure it is
//! looked at again after 1, 2, 4 seconds, so that certainty does not wait for the interval; the same after the first good
//! probe of one that is down. The regular probes keep their own beat meanwhile, with a little jitter, so that many
//! monitors never fall into step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::job::{self, Job};
use super::{MonitorLook, MonitorPolicy, MonitorSnapshot, MonitorState, OutOf};
use crate::effect::{Effect, ProbeOrder};
use crate::health::{good_text, last_probe};
use crate::id::{IncidentId, MonitorId};
use crate::incident::{EntryKind, TimelineEntry};
use crate::input::{ProbeAnswer, ProbeFailure, ProbeReport};
use crate::open::Open;
use crate::out::Out;
use crate::sample::Sample;
use crate::snapshot::LastProbe;
use crate::time::{Mono, Now, Wall};
use crate::window::InMaintenance;
use crate::words::count;

/// The first look at a new monitor comes within so long, however long its interval.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// To the second look after a first failure; it doubles from look to look.
const AGAIN: Duration = Duration::from_secs(1);
/// The beat of a monitor varies by so much of its interval.
const JITTER: f64 = 0.04;
/// A probe may wait so long for its turn, and its answer come so long after its timeout, before it is given up.
const ANSWER_MARGIN: Duration = Duration::from_secs(12);
/// So often in a row nobody could look before it is not known any more how it is.
const UNHEARD_MOST: u32 = 3;
/// One that could not be looked at is tried again after so long, or after its interval if that is less.
const UNHEARD_AGAIN: Duration = Duration::from_secs(5);
/// Looks that are shown.
const RECENT_MAX: usize = 40;
/// Failing looks of one spell that are kept until there is an incident that they belong to.
const SIGNS_MAX: usize = 4;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) policy: Arc<MonitorPolicy>,
    /// The host that it is on.
    pub(super) host: Arc<str>,
    pub(super) state: MonitorState,
    pub(super) since: Wall,
    pub(super) because: String,
    /// Of a job that pings.
    pub(super) job: Option<Job>,
    /// Its end was due while Mainstay did not run, and it is waited for a moment longer.
    pub(super) overslept: bool,
    /// The last results, the newest in the lowest bit; 1 is a failure.
    marks: u32,
    good_in_row: u32,
    /// Looks taken out of turn since the last regular one.
    quick: u32,
    /// When the next regular look is due.
    beat: Mono,
    pub(super) next_at: Mono,
    in_flight: Option<Flight>,
    /// When it was last looked at and something was seen.
    pub(super) looked_at: Option<Mono>,
    /// Looks in a row that came to nothing.
    unheard: u32,
    not_probed: Option<Arc<str>>,
    /// The first failure of the spell that it is in.
    pub(super) failing_since: Option<Now>,
    pub(super) failed_in_row: u32,
    pub(super) last_failure: Option<ProbeFailure>,
    pub(super) signs: Vec<TimelineEntry>,
    pub(super) last: Option<LastProbe>,
    recent: VecDeque<MonitorLook>,
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) incident: Option<Open>,
    /// The maintenance window that it is in.
    pub(super) window: Option<InMaintenance>,
    /// It went down again so often, each time soon after the last.
    pub(super) relapses: u32,
    /// When it last went down.
    pub(super) down_at: Option<Mono>,
}

/// A look that is under way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    ordered_at: Mono,
    give_up: Mono,
}

/// What a look changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing was seen.
    Nothing,
    /// It was good.
    Good,
    /// It failed, so often in a row.
    Failed(u32),
}

impl Monitor {
    /// One that nobody has looked at yet.
    pub(super) fn new(policy: Arc<MonitorPolicy>, out: &mut Out) -> Self {
        let now = out.now;
        let is_job = policy.heartbeat.is_some();
        let soon = now.mono + policy.interval.min(FIRST_WITHIN).mul_f64(out.rng.unit());
        let first = if is_job { job::first_look(now.mono) } else { soon };
        Self {
            // Jobs have no host that Mainstay knows of: each is by itself.
            host: if is_job { Arc::clone(&policy.target) } else { policy.address.host().into() },
            state: MonitorState::Unknown,
            since: now.wall,
            because: if is_job { "waiting for first ping" } else { "nobody has looked yet" }.to_owned(),
            job: is_job.then(Job::default),
            overslept: false,
            marks: 0,
            good_in_row: 0,
            quick: 0,
            // The beat begins anywhere within the interval, so that the load is even from the second look on.
            beat: first + policy.interval.mul_f64(out.rng.unit()),
            next_at: soonest(first, now.mono),
            in_flight: None,
            looked_at: None,
            unheard: 0,
            not_probed: None,
            failing_since: None,
            failed_in_row: 0,
            last_failure: None,
            signs: Vec::new(),
            last: None,
            recent: VecDeque::new(),
            good: 0,
            failed: 0,
            incident: None,
            window: None,
            relapses: 0,
            down_at: None,
            policy,
        }
    }

    /// The config says something else of it now.
    pub(super) fn apply(&mut self, id: &MonitorId, policy: Arc<MonitorPolicy>, out: &mut Out) {
        if let (Some(before), Some(_)) = (&self.policy.heartbeat, &policy.heartbeat) {
            let before = before.recurs.clone();
            self.policy = policy;
            self.apply_heartbeat(id, &before, out);
            return;
        }
        if self.policy.looks_alike(&policy) {
            let sooner = self.policy.interval > policy.interval;
            self.policy = policy;
            if sooner {
                self.beat = self.beat.min(out.now.mono + self.policy.interval);
                self.next_at = soonest(self.next_at.min(self.beat), out.now.mono);
            }
            return;
        }
        let (incident, window, relapses) = (self.incident.take(), self.window.take(), self.relapses);
        *self = Self { incident, window, relapses, ..Self::new(policy, out) };
        if self.incident.is_some() {
            self.state = MonitorState::Down;
            "it was down before its config was changed".clone_into(&mut self.because);
        }
    }

    /// An earlier run left it down.
    pub(super) fn was_down(&mut self, since: Wall) {
        self.state = MonitorState::Down;
        self.since = since;
        "it was down before Mainstay was restarted".clone_into(&mut self.because);
    }

    /// It says by itself that it ran.
    pub(super) fn is_job(&self) -> bool {
        self.job.is_some()
    }

    /// It is down, and has no incident of its own.
    pub(super) fn is_untold(&self) -> bool {
        self.is_down() && self.incident.is_none() && self.window.is_none()
    }

    pub(super) fn is_down(&self) -> bool {
        self.state == MonitorState::Down
    }

    /// It is up, and what failed lately does not go on.
    pub(super) fn is_well(&self) -> bool {
        !self.is_down() && (self.bad() == 0 || self.good_in_row >= self.policy.recover)
    }

    /// When something is next to be done about its probes.
    pub(super) fn due(&self) -> Mono {
        self.in_flight.map_or(self.next_at, |flight| flight.give_up)
    }

    /// It is looked at now, though it is not its turn; not if it is looked at anyway, or was a moment ago.
    pub(super) fn look_soon(&mut self, within: Duration, out: &mut Out) -> bool {
        let soon = soonest(out.now.mono + within.mul_f64(out.rng.unit()), out.now.mono);
        let wanted = self.job.is_none() && self.in_flight.is_none() && self.next_at > out.now.mono + within;
        if wanted {
            self.next_at = soon;
        }
        wanted
    }

    /// Orders the look that is due, or gives up the one under way; `true` when one was given up.
    pub(super) fn look(&mut self, id: &MonitorId, out: &mut Out) -> bool {
        let now = out.now.mono;
        if self.in_flight.is_some_and(|flight| now >= flight.give_up) {
            self.in_flight = None;
            self.came_to_nothing("the probe's answer never came".into(), out);
            return true;
        }
        if self.in_flight.is_some() || now < self.next_at {
            return false;
        }
        let policy = &self.policy;
        if now >= self.beat {
            let varied = policy.interval.mul_f64(1.0 + JITTER * (out.rng.unit() - 0.5));
            let next = self.beat + varied;
            // Who was late once keeps the beat; who was late by a whole interval begins anew.
            self.beat = if next > now { next } else { now + varied };
            self.quick = 0;
        }
        self.in_flight = Some(Flight { ordered_at: now, give_up: now + policy.timeout + ANSWER_MARGIN });
        out.effect(Effect::Probe(ProbeOrder {
            target: id.clone().into(),
            address: policy.address.clone(),
            kind: policy.probe.clone(),
            send_proxy: None,
            tls: policy.tls,
            protocol: policy.protocol,
            timeout: policy.timeout,
            due: self.next_at,
            injection: None,
        }));
        false
    }

    /// A look has ended. An answer that nobody waits for tells of an unknown time.
    pub(super) fn heard(&mut self, id: &MonitorId, report: &ProbeReport, out: &mut Out) -> Heard {
        let Some(flight) = self.in_flight.take() else { return Heard::Nothing };
        let silent = matches!(&report.result, Err(failure) if failure.is_nothing_back());
        let nothing = says_nothing(report, flight.ordered_at, self.policy.timeout, out);
        if nothing.is_none() {
            out.sight.heard(self.policy.address.far(), silent, out.now.mono);
        }
        if let Some(why) = nothing.or_else(|| self.is_out_of_sight(&report.result, out)) {
            self.came_to_nothing(why, out);
            return Heard::Nothing;
        }
        if silent && self.waits_for_sight(out) {
            self.not_probed = Some("Mainstay looks at its own sight first".into());
            self.next_at = soonest(out.now.mono + AGAIN, out.now.mono);
            return Heard::Nothing;
        }
        self.unheard = 0;
        self.looked_at = Some(flight.ordered_at);
        self.not_probed = None;
        let heard = match &report.result {
            Ok(answer) => self.heard_good(answer, report, out),
            Err(failure) => self.heard_failure(id, failure, report, out),
        };
        self.plan(out);
        heard
    }

    /// Who cannot see says nothing of what is on other machines, unless it answered; who has nobody to ask for names says nothing of
    /// what is not found.
    fn is_out_of_sight(&self, result: &Result<ProbeAnswer, ProbeFailure>, out: &Out) -> Option<Arc<str>> {
        let failure = result.as_ref().err().filter(|_| !self.policy.address.is_here())?;
        let unseen = failure.is_nothing_back() || matches!(failure, ProbeFailure::Name(_));
        let suspect = out.sight.suspect().filter(|_| unseen);
        let nameless = || out.sight.nameless().filter(|_| matches!(failure, ProbeFailure::Unresolved(_)));
        Some(format!("Mainstay itself cannot see: {}", suspect.or_else(nameless)?).into())
    }

    /// It is silent a second time, or would be down for it, while Mainstay looks whether it sees: a look takes a second at most, and
    /// the next one is seconds away.
    fn waits_for_sight(&self, out: &Out) -> bool {
        let tips = self.failed_in_row > 0 || self.bad() + 1 >= self.policy.fail.bad;
        let far = self.policy.address.far().is_some();
        far && tips && !self.is_down() && out.sight.is_doubted(out.now.mono)
    }

    fn heard_good(&mut self, answer: &ProbeAnswer, report: &ProbeReport, out: &mut Out) -> Heard {
        self.good += 1;
        self.good_in_row = self.good_in_row.saturating_add(1);
        self.marks <<= 1;
        self.failed_in_row = 0;
        let status = answer.status.map(|status| status.to_string());
        let seen = status.or_else(|| answer.said.clone()).unwrap_or_else(|| "accepted".to_owned());
        self.remember(report, &seen, good_text(answer, report.took), out);
        if !self.is_down() || self.good_in_row >= self.policy.recover {
            let recovered = self.is_down();
            self.marks = if recovered { 0 } else { self.marks };
            let (state, because) = match &answer.warning {
                Some(warning) => (MonitorState::Degraded, warning.clone()),
                None if recovered => {
                    let n = u64::from(self.policy.recover);
                    (MonitorState::Up, format!("{} in a row good (recover = {n})", count(n, "probe")))
                }
                None => (MonitorState::Up, "its last probe was good".to_owned()),
            };
            self.become_(state, because, out);
            if self.bad() == 0 {
                self.failing_since = None;
                self.last_failure = None;
                self.signs.clear();
            }
        }
        Heard::Good
    }

    fn heard_failure(
        &mut self,
        id: &MonitorId,
        failure: &ProbeFailure,
        report: &ProbeReport,
        out: &mut Out,
    ) -> Heard {
        self.failed += 1;
        self.good_in_row = 0;
        self.failed_in_row = self.failed_in_row.saturating_add(1);
        self.marks = self.marks << 1 | 1;
        self.failing_since.get_or_insert(out.now);
        let text = failure.to_string();
        self.remember(report, &text, text.clone(), out);
        let news = self.last_failure.as_ref() != Some(failure) || !self.is_down();
        self.last_failure = Some(failure.clone());
        let (bad, OutOf { bad: most, of }) = (self.bad(), self.policy.fail);
        if bad >= most && !self.is_down() {
            let because = format!("{bad} of the last {of} probes failed (fail = {most} of {of}): {text}");
            self.become_(MonitorState::Down, because, out);
        }
        if news {
            let text = format!("a probe of {id} failed: {text}");
            self.sign(EntryKind::ProbeFailed, text, report.sample.clone(), out);
        }
        Heard::Failed(self.failed_in_row)
    }

    /// Something that was seen: in its incident, or kept for the one that it leads to.
    pub(super) fn sign(&mut self, kind: EntryKind, text: String, sample: Option<Arc<Sample>>, out: &mut Out) {
        let at = out.now.wall;
        let entry = TimelineEntry { at, kind, server: None, action: None, text, times: 1, sample };
        match &mut self.incident {
            Some(open) => open.push(entry, out),
            None if self.signs.len() < SIGNS_MAX => self.signs.push(entry),
            None => {}
        }
    }

    /// The failing looks that led to an incident; told once.
    pub(super) fn take_signs(&mut self) -> Vec<TimelineEntry> {
        std::mem::take(&mut self.signs)
    }

    fn remember(&mut self, report: &ProbeReport, seen: &str, text: String, out: &Out) {
        let before = self.recent.back().map(|look| &look.text);
        let text_of_look = before.filter(|before| ***before == *seen).cloned().unwrap_or_else(|| seen.into());
        self.push_look(MonitorLook {
            at: out.now.wall,
            good: report.result.is_ok(),
            took_ms: report.took.as_secs_f64() * 1000.0,
            text: text_of_look,
        });
        self.last = Some(last_probe(report, &text, out));
    }

    pub(super) fn push_look(&mut self, look: MonitorLook) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(look);
    }

    /// Of the last n.
    fn bad(&self) -> u32 {
        let of = self.policy.fail.of.clamp(1, OutOf::OF_MOST);
        (self.marks & ((1 << of) - 1)).count_ones()
    }

    pub(super) fn become_(&mut self, state: MonitorState, because: String, out: &Out) {
        if self.state != state {
            self.since = out.now.wall;
            self.because = because;
            self.state = state;
        } else if state == MonitorState::Degraded {
            self.because = because;
        }
    }

    /// Nobody could look, which says nothing about it; for long it is not known any more how it is.
    fn came_to_nothing(&mut self, why: Arc<str>, out: &Out) {
        self.unheard = self.unheard.saturating_add(1);
        if self.unheard >= UNHEARD_MOST && !self.is_down() {
            self.become_(MonitorState::Unknown, format!("nobody could look: {why}"), out);
            self.marks = 0;
            self.failing_since = None;
        }
        self.not_probed = Some(why);
        self.next_at = soonest(out.now.mono + self.policy.interval.min(UNHEARD_AGAIN), out.now.mono);
    }

    /// When it is looked at next: out of turn as long as that can change the verdict soon, else at its beat.
    fn plan(&mut self, out: &Out) {
        let undecided = match self.is_down() {
            true => self.good_in_row > 0,
            false => self.bad() > 0 && self.failed_in_row > 0 || self.failing_again(),
        };
        let quick_most = if self.is_down() { self.policy.recover } else { self.policy.fail.of - 1 };
        let now = out.now.mono;
        if undecided && self.quick < quick_most {
            let gap = AGAIN.saturating_mul(1 << self.quick.min(10)).min(self.policy.interval);
            self.quick += 1;
            self.next_at = soonest(now + gap, now);
        } else {
            self.next_at = soonest(self.beat, now);
        }
    }

    /// A good look among failing ones: as long as the quick looks last, the next one tells.
    fn failing_again(&self) -> bool {
        self.quick > 0 && self.bad() > 0
    }

    /// What is shown of it.
    pub(super) fn present(&self, id: &MonitorId, storm: Option<IncidentId>, now: Now) -> MonitorSnapshot {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let policy = &self.policy;
        MonitorSnapshot {
            id: id.clone(),
            target: Arc::clone(&policy.target),
            probe: match &policy.heartbeat {
                Some(heartbeat) => format!("waits for a ping {}", heartbeat.recurs),
                None => policy.probe.words(),
            },
            group: policy.group.clone(),
            tags: policy.tags.clone(),
            state: if self.window.is_some() { MonitorState::Maintenance } else { self.state },
            since: self.since,
            because: self.because.clone(),
            maintenance: self.window.clone(),
            last: self.last.clone(),
            not_probed: self.not_probed.clone(),
            interval_ms: ms(policy.interval),
            timeout_ms: ms(policy.timeout),
            fail: policy.fail.to_string(),
            recover: policy.recover,
            good: self.good,
            failed: self.failed,
            incident: self.incident.as_ref().map(|open| open.incident().id).or(storm),
            needs: policy.needs.clone(),
            heartbeat: self.present_job(now),
            recent: self.recent.iter().cloned().collect(),
        }
    }

    pub(super) fn is_within_limits(&self) -> bool {
        self.recent.len() <= RECENT_MAX && self.signs.len() <= SIGNS_MAX
    }
}

/// Why a look says nothing about what was looked at, if it does not.
fn says_nothing(report: &ProbeReport, ordered_at: Mono, timeout: Duration, out: &Out) -> Option<Arc<str>> {
    match &report.result {
        Err(ProbeFailure::NotProbed(why)) => Some(why.as_str().into()),
        // Who was not there to look cannot say that there was no answer.
        Err(ProbeFailure::AnswerTimeout | ProbeFailure::ConnectTimeout)
            if out.host.starved_since(ordered_at) >= timeout / 2 =>
        {
            Some("Mainstay itself got no processor time".into())
        }
        _ => None,
    }
}

/// Timers lie in the future.
pub(super) fn soonest(at: Mono, now: Mono) -> Mono {
    at.max(now + Duration::from_millis(1))
}
