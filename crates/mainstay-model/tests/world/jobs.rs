//! The world's jobs: they ping when they begin and when they are done, fail, and are held up; and a model of them that says
//! how each of them must be called by what docs/heartbeats.md promises.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_model::heartbeat::{HeartbeatPhase, HeartbeatPolicy, Ping, PingKind, Recurs};
use mainstay_model::monitor::MonitorPolicy;
use mainstay_model::{Input, MonitorId, Policy, Wall};

use super::{Dice, Event, MS, SECOND, World};

/// Milliseconds.
const MINUTE: i64 = 60_000;
/// So long after a boundary its consequence must be seen: ages of an earlier run are known to the millisecond, and one that fails
/// together with others waits for them.
const MARGIN: u64 = 4 * SECOND;

/// How a job must be, by its pings and the clock alone.
#[derive(Debug, Default, Clone)]
struct Known {
    /// It has pinged.
    pinged: bool,
    /// It was called down, and has not been well since.
    down: bool,
    /// When it began, if it has not said that it is done and Mainstay would have heard of that.
    started: Option<u64>,
    /// When its next ping is due.
    expected: Option<u64>,
    /// Mainstay was blind, or did not run, when something was due: what follows is known from its next ping on.
    doubtful: bool,
}

/// The world's jobs.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    all: BTreeMap<MonitorId, Known>,
    /// They forget to run until then.
    held_up: BTreeMap<MonitorId, u64>,
}

/// Few worlds have jobs.
pub(super) fn add_random(policy: &mut Policy, dice: &mut Dice) {
    if !dice.chance(15) {
        return;
    }
    for n in 0..dice.range(1, 4) {
        let calendar = dice.chance(25);
        let recurs = match calendar {
            true => Recurs::Calendar { cron: "* * * * *".into(), zone: "UTC".into() },
            false => Recurs::Every(Duration::from_secs(dice.range(4, 20))),
        };
        let grace = Duration::from_secs(if calendar { dice.range(6, 15) } else { dice.range(2, 9) });
        let heartbeat = Some(HeartbeatPolicy { recurs, grace });
        let job = MonitorPolicy { heartbeat, ..MonitorPolicy::default() };
        policy.monitors.insert(MonitorId::new(format!("job-{n}")), job);
    }
}

impl World {
    /// Every job is run for the first time.
    pub(super) fn jobs_begin(&mut self) {
        let jobs: Vec<MonitorId> = self
            .policy
            .monitors
            .iter()
            .filter(|(_, m)| m.heartbeat.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in jobs {
            self.jobs.all.insert(id.clone(), Known::default());
            self.run_again(id);
        }
    }

    fn heartbeat(&self, id: &MonitorId) -> HeartbeatPolicy {
        self.policy.monitors[id].heartbeat.clone().unwrap()
    }

    fn run_again(&mut self, id: MonitorId) {
        let HeartbeatPolicy { recurs, grace } = self.heartbeat(&id);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap();
        let at = match recurs {
            // In time, with what a run takes.
            Recurs::Every(every) => {
                let longest = u64::try_from(every.as_millis()).unwrap();
                self.now + self.dice.range(longest / 2, longest * 9 / 10) * MS
            }
            Recurs::Calendar { .. } => {
                let left = MINUTE - self.clock().wall.0.rem_euclid(MINUTE);
                self.now + (left.unsigned_abs() + self.dice.range(0, grace_ms / 3)) * MS
            }
        };
        self.at(at, Event::JobRuns(id));
    }

    /// It is time for a job.
    pub(super) fn job_runs(&mut self, id: MonitorId) {
        self.run_again(id.clone());
        let HeartbeatPolicy { grace, .. } = self.heartbeat(&id);
        if self.jobs.held_up.get(&id).is_some_and(|until| self.now < *until) {
            return;
        }
        let bad = self.faulty && self.dice.chance(35);
        if bad && self.dice.chance(40) {
            let until = self.now + self.dice.range(1, 60) * SECOND;
            self.jobs.held_up.insert(id, until);
            return;
        }
        let ends = match self.dice.range(0, 4) {
            _ if !bad => Some(if self.dice.chance(50) { PingKind::Success } else { PingKind::Exit(0) }),
            0 => Some(PingKind::Fail),
            1 => Some(PingKind::Exit(3)),
            2 => Some(PingKind::Success),
            // It is killed.
            _ => None,
        };
        let begins = ends.is_none() || self.dice.chance(50);
        if begins {
            self.ping(&id, PingKind::Start);
        }
        let Some(kind) = ends else { return };
        if !begins {
            return self.ping(&id, kind);
        }
        let longest = u64::try_from(grace.as_millis()).unwrap();
        // One that is bad may take longer than it may.
        let took = self.dice.range(1, if bad { longest * 2 } else { longest / 3 });
        self.at(self.now + took * MS, Event::JobEnds(id, kind));
    }

    /// A job says something.
    pub(super) fn ping(&mut self, id: &MonitorId, kind: PingKind) {
        self.missed(id);
        let HeartbeatPolicy { recurs, .. } = self.heartbeat(id);
        let known = self.jobs.all.get_mut(id).unwrap();
        known.pinged = true;
        if kind == PingKind::Start {
            known.started = Some(self.now);
        } else {
            known.started = None;
            known.down = kind.is_bad();
            known.doubtful = false;
            known.expected = match recurs {
                Recurs::Every(every) => Some(self.now + u64::try_from(every.as_nanos()).unwrap()),
                // The calendar is asked.
                Recurs::Calendar { .. } => None,
            };
        }
        let tail = kind.is_bad().then(|| "disk full\n".into());
        self.tell(Input::Pings(vec![Ping { monitor: id.clone(), kind, tail }]));
    }

    /// The calendar's answer reaches the judge.
    pub(super) fn calendar_says(&mut self, id: &MonitorId, at: Option<Wall>) {
        let (now, wall) = (self.now, self.clock().wall);
        if let Some(known) = self.jobs.all.get_mut(id) {
            known.expected = at.map(|at| now + at.ms_since(wall).max(0).unsigned_abs() * MS);
        }
    }

    /// What has become of it by the clock alone.
    fn missed(&mut self, id: &MonitorId) {
        let grace = u64::try_from(self.heartbeat(id).grace.as_nanos()).unwrap();
        let sees_since = self.sees_since;
        let (now, cut_off) = (self.now, self.cut_off);
        let Some(known) = self.jobs.all.get_mut(id) else { return };
        let Some(due) = known.started.or(known.expected).map(|from| from + grace) else { return };
        if !known.pinged || known.down || now < due {
            return;
        }
        // It finds out within some seconds that it sees nothing, and that it sees again.
        if cut_off || due < sees_since + 6 * SECOND {
            known.doubtful = true;
        }
        known.down = true;
    }

    /// Pings that were due meanwhile may be lost, and a run may have ended unheard.
    pub(super) fn jobs_outlive_mainstay(&mut self) {
        let ids: Vec<MonitorId> = self.jobs.all.keys().cloned().collect();
        for id in ids {
            let known = self.jobs.all.get_mut(&id).unwrap();
            known.doubtful |= known.pinged;
            known.started = None;
        }
    }

    /// Every job is what its pings say that it is.
    pub(super) fn check_jobs(&mut self) {
        if self.jobs.all.is_empty() {
            return;
        }
        let snapshot = self.snapshot();
        let ids: Vec<MonitorId> = self.jobs.all.keys().cloned().collect();
        for id in ids {
            self.missed(&id);
            let HeartbeatPolicy { recurs, grace } = self.heartbeat(&id);
            let grace = u64::try_from(grace.as_nanos()).unwrap();
            // When a calendar's day is, nobody can say while the clock is set.
            let by_calendar = matches!(recurs, Recurs::Calendar { .. });
            let known = &self.jobs.all[&id];
            let unsure = by_calendar && (self.kind.wall_jumps || self.kind.lossy_prober);
            if known.doubtful || unsure {
                continue;
            }
            let shown = snapshot.monitor(&id).unwrap();
            let phase = shown.heartbeat.as_ref().unwrap().phase;
            let from = known.started.or(known.expected);
            let due = from.map(|from| from + grace);
            let wanted = match known {
                Known { pinged: false, .. } => HeartbeatPhase::Waiting,
                Known { down: true, .. } => HeartbeatPhase::Down,
                Known { started: Some(_), .. } => HeartbeatPhase::Running,
                Known { expected: Some(at), .. } if self.now >= *at => HeartbeatPhase::Late,
                _ => HeartbeatPhase::OnTime,
            };
            let just_now = [from, due].into_iter().flatten().any(|at| self.now.abs_diff(at) < 2 * MS);
            assert!(
                phase == wanted || just_now,
                "{id} is {phase:?} and should be {wanted:?}: {known:?}, {shown:?}"
            );
            let long = due.is_none_or(|due| self.now > due + MARGIN);
            let told = shown.incident.is_some() || shown.maintenance.is_some();
            let failed_long = known.down && long && known.expected.is_none_or(|at| self.now > at + MARGIN);
            assert!(!failed_long || told, "{id} is down and nobody is told: {shown:?}");
        }
    }

    /// They run as they should again.
    pub(super) fn jobs_heal(&mut self) {
        self.jobs.held_up.clear();
    }
}
