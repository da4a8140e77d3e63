//! Roll-ups of monitors: how often each was looked at and how that went, and for how long it was down. There may be ten thousand
//! of them, so a minute is handed over when it is over; of few monitors the minute that runs is, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::histogram::Histogram;
use mainstay_model::input::ProbeFailure;
use mainstay_model::monitor::{MonitorSnapshot, MonitorState};
use mainstay_model::results::Look;
use mainstay_model::{Input, MonitorId, Now, ProbeTarget, Wall};
use rusqlite::Row;
use rusqlite::types::Value;
use serde::Serialize;

use super::Step;
use super::bucket::{Bucket, add_observed, blob, count, histogram, integer};
use super::results::look_of;

/// One monitor in one bucket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MonitorBucket {
    /// The monitor.
    pub monitor: MonitorId,
    /// Where the bucket begins, a multiple of its width.
    pub start: Wall,
    /// Milliseconds of the bucket in which it was known how it is; the rest is unknown.
    pub observed_ms: u64,
    /// Good probes.
    pub good: u64,
    /// Failed probes.
    pub failed: u64,
    /// Milliseconds of the observed ones in which it was down.
    pub down_ms: u64,
    /// Milliseconds beside the observed ones in which it was in a maintenance window: neither up nor down.
    pub excused_ms: u64,
    /// How long good probes took.
    #[serde(skip)]
    pub latency: Histogram,
}

impl Bucket for MonitorBucket {
    type Id = MonitorId;
    const TABLE: &'static str = "monitor";
    const COLUMNS: &'static [&'static str] =
        &["observed_ms", "good", "failed", "down_ms", "excused_ms", "latency"];

    fn id(&self) -> &MonitorId {
        &self.monitor
    }

    fn start(&self) -> Wall {
        self.start
    }

    fn parse(name: &str) -> Option<MonitorId> {
        Some(MonitorId::new(name))
    }

    fn values(&self) -> Vec<Value> {
        vec![
            integer(self.observed_ms),
            integer(self.good),
            integer(self.failed),
            integer(self.down_ms),
            integer(self.excused_ms),
            blob(&self.latency),
        ]
    }

    fn read(monitor: MonitorId, start: Wall, row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            monitor,
            start,
            observed_ms: count(row, 1)?,
            good: count(row, 2)?,
            failed: count(row, 3)?,
            down_ms: count(row, 4)?,
            excused_ms: count(row, 5)?,
            latency: histogram(row.get(6)?),
        })
    }

    fn merge(&mut self, other: &Self, width_ms: i64) {
        self.observed_ms = add_observed(self.observed_ms, other.observed_ms, width_ms);
        self.good = self.good.saturating_add(other.good);
        self.failed = self.failed.saturating_add(other.failed);
        self.down_ms = add_observed(self.down_ms, other.down_ms, width_ms);
        self.excused_ms = add_observed(self.excused_ms, other.excused_ms, width_ms);
        self.latency.merge(&other.latency);
    }

    fn at(self, start: Wall) -> Self {
        Self { start, ..self }
    }
}

/// Gathers what is seen of monitors into the minute that runs.
#[derive(Debug, Default)]
pub struct MonitorAccumulator {
    last: Option<Now>,
    minute: Wall,
    /// Of the minute that runs, as far as Mainstay was looking.
    looked: Duration,
    all: BTreeMap<MonitorId, Current>,
    /// What was last seen of their states.
    shown: Arc<Vec<Arc<MonitorSnapshot>>>,
    ended: Vec<MonitorBucket>,
    /// Every look since they were last taken.
    looks: Vec<(ProbeTarget, Look)>,
}

/// One monitor in the minute that runs.
#[derive(Debug, Default)]
struct Current {
    state: MonitorState,
    /// So much of the minute is booked.
    booked: Duration,
    observed: Duration,
    down: Duration,
    excused: Duration,
    good: u64,
    failed: u64,
    latency: Histogram,
}

impl Current {
    /// Books the time since the last booking on the state that it was in.
    fn book(&mut self, looked: Duration) {
        let passed = looked.saturating_sub(self.booked);
        self.booked = looked;
        match self.state {
            MonitorState::Unknown => {}
            MonitorState::Maintenance => self.excused += passed,
            MonitorState::Up | MonitorState::Degraded => self.observed += passed,
            MonitorState::Down => {
                self.observed += passed;
                self.down += passed;
            }
        }
    }

    fn bucket(&self, monitor: &MonitorId, start: Wall) -> Option<MonitorBucket> {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let bucket = MonitorBucket {
            monitor: monitor.clone(),
            start,
            observed_ms: ms(self.observed),
            good: self.good,
            failed: self.failed,
            down_ms: ms(self.down),
            excused_ms: ms(self.excused),
            latency: self.latency.clone(),
        };
        (bucket.observed_ms + bucket.excused_ms + bucket.good + bucket.failed > 0).then_some(bucket)
    }
}

impl MonitorAccumulator {
    /// A longer silence of the engine is a gap: nobody was looking.
    const SILENCE_MAX: Duration = Duration::from_secs(60);
    /// Of so many the minute that runs is handed over too.
    const FEW: usize = 500;
    /// Ended minutes that are kept when nobody takes them, in buckets.
    const ENDED_MAX: usize = 50_000;
    /// Looks that are kept when nobody takes them.
    const LOOKS_MAX: usize = 60_000;

    /// Counts what an input says of monitors.
    pub fn observe(&mut self, now: Now, input: &Input) {
        match input {
            Input::Policy(policy) => {
                self.advance(now);
                self.all.retain(|id, _| policy.monitors.contains_key(id));
                let looked = self.looked;
                for id in policy.monitors.keys() {
                    let new = || Current { booked: looked, ..Current::default() };
                    self.all.entry(id.clone()).or_insert_with(new);
                }
            }
            Input::Probe(report) => {
                let ProbeTarget::Monitor(id) = &report.target else { return };
                self.advance(now);
                let Some(current) = self.all.get_mut(id) else { return };
                if self.looks.len() < Self::LOOKS_MAX {
                    self.looks.push((report.target.clone(), look_of(report, now.wall)));
                }
                match &report.result {
                    Ok(_) => {
                        current.good += 1;
                        current.latency.record(report.took);
                    }
                    // Says something of Mainstay, nothing of what is watched.
                    Err(ProbeFailure::NotProbed(_)) => {}
                    Err(_) => current.failed += 1,
                }
            }
            Input::Pings(pings) => {
                self.advance(now);
                for ping in pings {
                    let Some(current) = self.all.get_mut(&ping.monitor) else { continue };
                    current.good += u64::from(ping.kind.is_good());
                    current.failed += u64::from(ping.kind.is_bad());
                }
            }
            _ => {}
        }
    }

    /// They are in these states from now on.
    pub fn are(&mut self, now: Now, shown: &Arc<Vec<Arc<MonitorSnapshot>>>) {
        if Arc::ptr_eq(&self.shown, shown) {
            return;
        }
        self.advance(now);
        let same = self.shown.len() == shown.len();
        for (place, monitor) in shown.iter().enumerate() {
            if same && Arc::ptr_eq(monitor, &self.shown[place]) {
                continue;
            }
            if let Some(current) = self.all.get_mut(&monitor.id).filter(|c| c.state != monitor.state) {
                current.book(self.looked);
                current.state = monitor.state;
            }
        }
        self.shown = Arc::clone(shown);
    }

    /// The buckets to be written. `whole`: the minute that runs is among them however many there are.
    pub fn take(&mut self, now: Now, whole: bool) -> Vec<MonitorBucket> {
        if self.all.is_empty() && self.ended.is_empty() {
            return Vec::new();
        }
        self.advance(now);
        let mut buckets = std::mem::take(&mut self.ended);
        if whole || self.all.len() <= Self::FEW {
            for (id, current) in &mut self.all {
                current.book(self.looked);
                buckets.extend(current.bucket(id, self.minute));
            }
        }
        buckets
    }

    /// Every look since they were last taken.
    pub fn take_looks(&mut self) -> Vec<(ProbeTarget, Look)> {
        std::mem::take(&mut self.looks)
    }

    fn advance(&mut self, now: Now) {
        let minute = Step::Minute.start(Step::Minute.index(now.wall));
        let Some(last) = self.last.replace(now) else {
            self.minute = minute;
            return;
        };
        let passed = now.mono.since(last.mono);
        let passed = if passed > Self::SILENCE_MAX { Duration::ZERO } else { passed };
        if minute == self.minute {
            self.looked = (self.looked + passed).min(Duration::from_secs(60));
            return;
        }
        let into_new = u64::try_from(now.wall.ms_since(minute)).unwrap_or(0);
        let in_new = passed.min(Duration::from_millis(into_new));
        let looked = (self.looked + (passed - in_new)).min(Duration::from_secs(60));
        for (id, current) in &mut self.all {
            current.book(looked);
            self.ended.extend(current.bucket(id, self.minute));
            *current = Current { state: current.state, ..Current::default() };
        }
        let over = self.ended.len().saturating_sub(Self::ENDED_MAX);
        self.ended.drain(..over);
        self.minute = minute;
        self.looked = in_new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::input::{ProbeAnswer, ProbeReport};
    use mainstay_model::monitor::MonitorPolicy;
    use mainstay_model::{Model, Mono, Policy};

    const EIGHT: i64 = 1_795_334_400_000;

    fn at(ms: i64) -> Now {
        Now { mono: Mono(5_000_000_000 + ms.unsigned_abs() * 1_000_000), wall: Wall(EIGHT + ms) }
    }

    fn pay() -> MonitorId {
        MonitorId::new("pay")
    }

    fn probe(good: bool) -> Input {
        let result = if good { Ok(ProbeAnswer::status(200)) } else { Err(ProbeFailure::Refused) };
        Input::Probe(ProbeReport::new(pay().into(), Duration::from_millis(3), result))
    }

    fn in_state(state: MonitorState) -> Arc<Vec<Arc<MonitorSnapshot>>> {
        let mut model = Model::new(1, at(0));
        let monitors = [(pay(), MonitorPolicy::default())].into();
        model.handle(at(0), Input::Policy(Policy { monitors, ..Policy::default() }));
        let shown = MonitorSnapshot::clone(&model.snapshot(at(0)).monitors[0]);
        Arc::new(vec![Arc::new(MonitorSnapshot { state, ..shown })])
    }

    fn looking() -> MonitorAccumulator {
        let mut accumulator = MonitorAccumulator::default();
        let monitors = [(pay(), MonitorPolicy::default())].into();
        accumulator.observe(at(0), &Input::Policy(Policy { monitors, ..Policy::default() }));
        accumulator.are(at(0), &in_state(MonitorState::Up));
        accumulator
    }

    #[test]
    fn looks_and_the_time_in_each_state_are_counted_by_minute() {
        let mut accumulator = looking();
        accumulator.observe(at(1_000), &probe(true));
        accumulator.observe(at(2_000), &probe(false));
        accumulator.are(at(50_000), &in_state(MonitorState::Down));
        accumulator.are(at(70_000), &in_state(MonitorState::Unknown));
        accumulator.observe(at(90_000), &probe(true));
        let buckets = accumulator.take(at(100_000), false);
        let counted: Vec<_> =
            buckets.iter().map(|b| (b.start.0 - EIGHT, b.good, b.failed, b.observed_ms, b.down_ms)).collect();
        assert_eq!(counted, [(0, 1, 1, 60_000, 10_000), (60_000, 1, 0, 10_000, 10_000)]);
        assert_eq!(buckets[0].latency.count(), 1);
    }

    #[test]
    fn a_gap_of_the_engine_is_unknown() {
        let mut accumulator = looking();
        drop(accumulator.take(at(10_000), false));
        let buckets = accumulator.take(at(200_000), true);
        let observed: Vec<_> = buckets.iter().map(|b| (b.start.0 - EIGHT, b.observed_ms)).collect();
        assert_eq!(observed, [(0, 10_000)]);
    }

    #[test]
    fn nothing_is_done_where_nothing_is_watched() {
        let mut accumulator = MonitorAccumulator::default();
        accumulator.observe(at(0), &Input::Policy(Policy::default()));
        assert!(accumulator.take(at(200_000), true).is_empty());
    }
}
