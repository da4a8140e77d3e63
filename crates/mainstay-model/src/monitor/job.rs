//! A job that pings: when its next ping is expected, and when it is missed.
//!
//! It is waited for from its first ping on: a job that never pinged is not down. A ping that was due while Mainstay itself did
//! not run, or could not see, may have been lost, which is not the job's fault: it is waited for once more, and not known
//! meanwhile.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::one::{Heard, Monitor, soonest};
use super::{MonitorLook, MonitorState};
use crate::effect::{Effect, Record};
use crate::heartbeat::{HeartbeatPhase, HeartbeatRecord, HeartbeatSnapshot, Ping, PingKind, Recurs};
use crate::id::MonitorId;
use crate::incident::EntryKind;
use crate::input::ProbeFailure;
use crate::out::Out;
use crate::sample::Phases;
use crate::snapshot::LastProbe;
use crate::time::{Mono, Now, Wall};
use crate::words::{span, utc};

/// Durations that are kept.
const DURATIONS_MAX: usize = 20;
/// Whatever is due later is looked at again after so long: the wall clock may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Who looks so much later than it was to be has not run meanwhile, and pings may wait for it.
const OVERSLEPT: Duration = Duration::from_secs(3);
/// They are waited for so long.
const CATCH_UP: Duration = Duration::from_secs(10);
/// So much of a log's end goes into the timeline of an incident; all of what was sent is on the job's page.
const TAIL_IN_TIMELINE: usize = 2000;

/// What is known of a job.
#[derive(Debug, Default)]
pub(super) struct Job {
    last: Option<(Wall, PingKind)>,
    last_good: Option<Wall>,
    started: Option<Started>,
    expected: Option<Expected>,
    durations_ms: VecDeque<u64>,
    pings: u64,
    tail: Option<(Wall, Arc<str>)>,
}

/// A run that was begun.
#[derive(Debug, Clone, Copy)]
struct Started {
    at: Now,
    /// Mainstay has run ever since, so it would have heard of its end.
    seen: bool,
}

/// When the next ping is due, on both clocks.
#[derive(Debug, Clone, Copy)]
struct Expected {
    at: Now,
}

impl Job {
    /// When it is missed.
    fn missed_at(&self, grace: Duration) -> Option<Now> {
        let running = self.started.filter(|started| started.seen).map(|started| started.at);
        running.or(self.expected.map(|expected| expected.at)).map(|at| at + grace)
    }
}

impl Monitor {
    /// A job pings.
    pub(super) fn pinged(&mut self, id: &MonitorId, ping: &Ping, out: &mut Out) -> Heard {
        let now = out.now;
        let Some(job) = &mut self.job else { return Heard::Nothing };
        job.pings += 1;
        job.last = Some((now.wall, ping.kind));
        if let Some(tail) = &ping.tail {
            job.tail = Some((now.wall, Arc::clone(tail)));
        }
        if ping.kind == PingKind::Start {
            job.started = Some(Started { at: now, seen: true });
            if !self.is_down() {
                self.become_(MonitorState::Up, "it has begun".to_owned(), out);
            }
            self.plan_job(now);
            return Heard::Nothing;
        }
        let took = job.started.take().map(|started| match started.seen {
            true => now.mono.since(started.at.mono),
            false => Duration::from_millis(u64::try_from(now.wall.ms_since(started.at.wall)).unwrap_or(0)),
        });
        if let Some(took) = took {
            if job.durations_ms.len() >= DURATIONS_MAX {
                job.durations_ms.pop_front();
            }
            job.durations_ms.push_back(ms(took));
        }
        self.expect_next(id, out);
        let after = took.map_or_else(String::new, |took| format!(" after {}", span(rounded(took))));
        if ping.kind.is_good() {
            self.job_went_well(took, &after, out)
        } else {
            self.job_went_wrong(id, ping, took, &after, out)
        }
    }

    fn job_went_well(&mut self, took: Option<Duration>, after: &str, out: &mut Out) -> Heard {
        self.good += 1;
        if let Some(job) = &mut self.job {
            job.last_good = Some(out.now.wall);
        }
        self.note_look(true, took, format!("done{after}"), out);
        self.become_(MonitorState::Up, "its last ping was good".to_owned(), out);
        self.failed_in_row = 0;
        self.failing_since = None;
        self.last_failure = None;
        self.signs.clear();
        Heard::Good
    }

    fn job_went_wrong(
        &mut self,
        id: &MonitorId,
        ping: &Ping,
        took: Option<Duration>,
        after: &str,
        out: &mut Out,
    ) -> Heard {
        let what = match ping.kind {
            PingKind::Exit(code) => format!("failed: exit code {code}{after}"),
            _ => format!("says that it failed{after}"),
        };
        self.note_look(false, took, what.clone(), out);
        self.job_fails(id, ProbeFailure::Failed(format!("{id} {what}")), ping.tail.as_ref(), out)
    }

    /// Something is due: its ping, or the end of its grace.
    pub(super) fn watch(&mut self, id: &MonitorId, out: &mut Out) -> Heard {
        let now = out.now;
        let Some((job, policy)) = self.job.as_ref().zip(self.policy.heartbeat.as_ref()) else {
            return Heard::Nothing;
        };
        let due = job.missed_at(policy.grace).filter(|due| !self.is_down() && now.mono >= due.mono);
        let Some(due) = due else {
            self.plan_job(now);
            return Heard::Nothing;
        };
        let by_calendar = matches!(policy.recurs, Recurs::Calendar { .. });
        if by_calendar && !job.started.is_some_and(|started| started.seen) && now.wall < due.wall {
            // The clock was set back: what a calendar says lies ahead again.
            self.next_at = soonest(now.mono + LOOK_AGAIN.min(until(due.wall, now)), now.mono);
            return Heard::Nothing;
        }
        if now.mono.since(due.mono) >= OVERSLEPT && !self.overslept {
            self.overslept = true;
            self.next_at = now.mono + CATCH_UP;
            return Heard::Nothing;
        }
        self.overslept = false;
        if let Some(suspect) = out.sight.suspect().map(ToString::to_string) {
            self.excuse(id, &format!("Mainstay itself cannot see: {suspect}"), out);
            return Heard::Nothing;
        }
        let failure = match job.started.filter(|started| started.seen) {
            Some(started) => {
                let (since, grace) = (utc(started.at.wall), span(policy.grace));
                ProbeFailure::Failed(format!(
                    "{id} began at {since} and has not said that it is done (grace = {grace})"
                ))
            }
            None => {
                let since = job.last.map_or_else(String::new, |(at, _)| format!(" since {}", utc(at)));
                let by = job.expected.map_or(due.wall, |expected| expected.at.wall);
                ProbeFailure::Missed(format!("no ping from {id}{since}, expected by {}", utc(by)))
            }
        };
        let seen = failure.to_string();
        self.note_look(false, None, seen, out);
        self.job_fails(id, failure, None, out)
    }

    fn job_fails(
        &mut self,
        id: &MonitorId,
        failure: ProbeFailure,
        tail: Option<&Arc<str>>,
        out: &mut Out,
    ) -> Heard {
        self.failed += 1;
        // It has said so itself, or had all of its grace: there is nothing to be confirmed.
        self.failed_in_row = self.failed_in_row.saturating_add(2);
        self.failing_since.get_or_insert(out.now);
        let text = failure.to_string();
        self.because.clone_from(&text);
        self.become_(MonitorState::Down, text.clone(), out);
        if self.last_failure.as_ref() != Some(&failure) || tail.is_some() {
            self.sign(EntryKind::ProbeFailed, text, None, out);
        }
        if let Some(tail) = tail.filter(|tail| !tail.trim().is_empty()) {
            let end = end_of(tail.trim_end(), TAIL_IN_TIMELINE);
            self.sign(EntryKind::Found, format!("the end of the log of {id}:\n{end}"), None, out);
        }
        self.last_failure = Some(failure);
        self.plan_job(out.now);
        Heard::Failed(self.failed_in_row)
    }

    /// It is not its fault that it was not heard: it is waited for once more.
    fn excuse(&mut self, id: &MonitorId, why: &str, out: &mut Out) {
        if let Some(job) = &mut self.job
            && let Some(started) = &mut job.started
        {
            started.seen = false;
        }
        self.become_(MonitorState::Unknown, format!("its ping may have been lost: {why}"), out);
        self.expect_next(id, out);
    }

    /// The next ping is expected from now on.
    fn expect_next(&mut self, id: &MonitorId, out: &mut Out) {
        let now = out.now;
        let Some((job, policy)) = self.job.as_mut().zip(self.policy.heartbeat.as_ref()) else { return };
        match &policy.recurs {
            Recurs::Every(every) => job.expected = Some(Expected { at: now + *every }),
            Recurs::Calendar { .. } => {
                job.expected = None;
                out.effect(Effect::AskCalendar { monitor: id.clone(), after: now.wall });
            }
        }
        self.plan_job(now);
    }

    /// The calendar has answered.
    pub(super) fn occurs(&mut self, at: Option<Wall>, out: &Out) {
        let now = out.now;
        if let Some(job) = &mut self.job {
            job.expected = at.map(|at| Expected { at: on_both(at, now) });
        }
        self.plan_job(now);
    }

    /// When it is next looked at: when its ping is due (it is late then), and when it is missed.
    fn plan_job(&mut self, now: Now) {
        let Some((job, policy)) = self.job.as_ref().zip(self.policy.heartbeat.as_ref()) else { return };
        let expected = job.expected.map(|expected| expected.at.mono);
        let missed = job.missed_at(policy.grace).map(|at| at.mono).filter(|_| !self.is_down());
        let ahead = [expected, missed].into_iter().flatten().filter(|at| *at > now.mono).min();
        let next = ahead.unwrap_or(now.mono + LOOK_AGAIN).min(now.mono + LOOK_AGAIN);
        self.next_at = soonest(next, now.mono);
    }

    /// Another schedule, or another grace.
    pub(super) fn apply_heartbeat(&mut self, id: &MonitorId, before: &Recurs, out: &mut Out) {
        let now = out.now;
        let Some((job, policy)) = self.job.as_mut().zip(self.policy.heartbeat.as_ref()) else { return };
        if *before != policy.recurs && job.expected.is_some() {
            match (&policy.recurs, job.last) {
                // From its last ping on; but nobody is late by a schedule that is just being written.
                (Recurs::Every(every), Some((last, _))) => {
                    let at = on_both(last, now) + *every;
                    job.expected = Some(Expected { at: if at.mono > now.mono { at } else { now + *every } });
                }
                _ => return self.expect_next(id, out),
            }
        }
        self.plan_job(now);
    }

    /// What an earlier run knew of it. Pings that came while nobody ran are lost.
    pub(super) fn remember_job(&mut self, record: HeartbeatRecord, out: &mut Out) {
        let now = out.now;
        let Some((job, policy)) = self.job.as_mut().zip(self.policy.heartbeat.as_ref()) else { return };
        let HeartbeatRecord { monitor, last, last_good, started, expected, durations_ms, pings, tail, down } =
            record;
        job.last = last;
        job.last_good = last_good;
        job.started = started.map(|at| Started { at: on_both(at, now), seen: false });
        job.durations_ms = durations_ms.into_iter().take(DURATIONS_MAX).collect();
        job.pings = pings;
        job.tail = tail;
        let expected = expected.map(|at| on_both(at, now));
        job.expected = expected.map(|at| Expected { at });
        if last.is_none() {
            return;
        }
        let lost = expected.is_none_or(|at| match &policy.recurs {
            // Nobody pings to the second.
            Recurs::Every(every) => now.mono >= at.mono.before(policy.grace.max(*every / 10)),
            Recurs::Calendar { .. } => now.mono >= at.mono,
        });
        let missed = expected.is_some_and(|at| now.mono >= (at + policy.grace).mono);
        match down {
            Some((since, why)) => {
                self.failing_since = Some(on_both(since, now));
                self.last_failure = Some(ProbeFailure::Missed(why.clone()));
                self.become_(MonitorState::Down, why, out);
                self.since = since;
            }
            None => {
                let why = "it was on time when Mainstay was restarted".to_owned();
                self.become_(MonitorState::Up, why, out);
                self.since = last_good.or(last.map(|(at, _)| at)).unwrap_or(self.since);
            }
        }
        if missed && !self.is_down() {
            self.excuse(&monitor, "Mainstay did not run when it was due", out);
        } else if lost {
            self.expect_next(&monitor, out);
        }
        self.plan_job(now);
    }

    /// What is to be remembered of it.
    pub(super) fn job_record(&self, id: &MonitorId) -> Option<HeartbeatRecord> {
        let job = self.job.as_ref()?;
        Some(HeartbeatRecord {
            monitor: id.clone(),
            last: job.last,
            last_good: job.last_good,
            started: job.started.map(|started| started.at.wall),
            expected: job.expected.map(|expected| expected.at.wall),
            durations_ms: job.durations_ms.iter().copied().collect(),
            pings: job.pings,
            tail: job.tail.clone(),
            down: self.is_down().then(|| (self.since, self.because.clone())),
        })
    }

    /// Writes down what is to be remembered of it.
    pub(super) fn record_job(&self, id: &MonitorId, out: &mut Out) {
        if let Some(record) = self.job_record(id) {
            out.record(Record::Heartbeat(record));
        }
    }

    /// What is shown of it.
    pub(super) fn present_job(&self, now: Now) -> Option<HeartbeatSnapshot> {
        let (job, policy) = self.job.as_ref().zip(self.policy.heartbeat.as_ref())?;
        let due = job.expected.is_some_and(|expected| now.mono >= expected.at.mono);
        let phase = match self.state {
            MonitorState::Down => HeartbeatPhase::Down,
            _ if job.last.is_none() => HeartbeatPhase::Waiting,
            _ if job.started.is_some_and(|started| started.seen) => HeartbeatPhase::Running,
            _ if due => HeartbeatPhase::Late,
            MonitorState::Unknown => HeartbeatPhase::Unknown,
            MonitorState::Up | MonitorState::Degraded | MonitorState::Maintenance => HeartbeatPhase::OnTime,
        };
        Some(HeartbeatSnapshot {
            phase,
            schedule: policy.recurs.to_string(),
            grace_ms: ms(policy.grace),
            last_ping: job.last.map(|(at, _)| at),
            last_said: job.last.map(|(_, kind)| kind.to_string()),
            last_good: job.last_good,
            started: job.started.map(|started| started.at.wall),
            expected: job.expected.map(|expected| expected.at.wall),
            missed_at: job.missed_at(policy.grace).filter(|_| !self.is_down()).map(|at| at.wall),
            durations_ms: job.durations_ms.iter().copied().collect(),
            pings: job.pings,
            tail_at: job.tail.as_ref().map(|(at, _)| *at),
            tail: job.tail.as_ref().map(|(_, tail)| Arc::clone(tail)),
        })
    }

    fn note_look(&mut self, good: bool, took: Option<Duration>, text: String, out: &Out) {
        let took_ms = took.unwrap_or_default().as_secs_f64() * 1000.0;
        let phases = Phases::default();
        self.last = Some(LastProbe { at: out.now.wall, good, text: text.clone(), took_ms, phases });
        self.push_look(MonitorLook { at: out.now.wall, good, took_ms, text: text.into() });
    }
}

/// A wall time on both clocks, as they stand now.
fn on_both(at: Wall, now: Now) -> Now {
    let ahead = at.ms_since(now.wall);
    let span = Duration::from_millis(ahead.unsigned_abs());
    Now { mono: if ahead >= 0 { now.mono + span } else { now.mono.before(span) }, wall: at }
}

fn until(at: Wall, now: Now) -> Duration {
    Duration::from_millis(u64::try_from(at.ms_since(now.wall)).unwrap_or(0))
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Nobody wants milliseconds of a job that runs for minutes.
fn rounded(took: Duration) -> Duration {
    match took.as_secs() {
        0..10 => Duration::from_millis(ms(took)),
        seconds => Duration::from_secs(seconds),
    }
}

/// The last so many bytes, from the beginning of a line where one begins soon.
fn end_of(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let from = (text.len() - most..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let end = &text[from..];
    end.find('\n').filter(|at| *at < most / 2).map_or(end, |at| &end[at + 1..])
}

/// When a job is looked at that was never heard of.
pub(super) fn first_look(now: Mono) -> Mono {
    now + LOOK_AGAIN
}
