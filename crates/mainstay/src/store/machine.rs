//! Roll-ups of the machine's figures: of each its mean and its highest, and how often it was seen. A minute in which it was
//! not read is absent: unknown.

use std::collections::BTreeMap;
use std::fmt;

use mainstay_model::Wall;
use mainstay_model::host::HostReport;
use rusqlite::Row;
use rusqlite::types::Value;
use serde::Serialize;

use super::Step;
use super::bucket::{Bucket, add_observed, count, integer};

/// One machine in one bucket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachineBucket {
    /// Which machine.
    #[serde(skip)]
    pub machine: Machine,
    /// Where the bucket begins, a multiple of its width.
    pub start: Wall,
    /// Milliseconds of the bucket in which Mainstay was looking; the rest is unknown.
    pub observed_ms: u64,
    /// By name; a figure that was never known in the bucket is absent.
    pub figures: BTreeMap<String, Summary>,
}

/// The machine of a figure, by a name of Mainstay's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Machine(String);

impl Machine {
    /// The one that Mainstay runs on.
    pub fn this() -> Self {
        Self("this".to_owned())
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A figure over some time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Summary {
    /// How often it was known.
    pub samples: u64,
    /// Its mean.
    pub mean: f64,
    /// Its highest.
    pub max: f64,
}

impl Summary {
    /// Takes in another time's.
    pub fn add(&mut self, other: Summary) {
        let samples = self.samples.saturating_add(other.samples);
        if samples > 0 {
            let weight = other.samples as f64 / samples as f64;
            self.mean += (other.mean - self.mean) * weight;
        }
        self.max = if self.samples == 0 { other.max } else { self.max.max(other.max) };
        self.samples = samples;
    }
}

impl MachineBucket {
    /// Nothing was seen.
    pub(super) fn empty(machine: Machine, start: Wall) -> Self {
        Self { machine, start, observed_ms: 0, figures: BTreeMap::new() }
    }

    fn count(&mut self, report: &HostReport) {
        self.observed_ms = add_observed(self.observed_ms, 1000, Step::Minute.width_ms());
        for (name, value) in figures(report) {
            if value.is_finite() {
                let one = Summary { samples: 1, mean: value, max: value };
                self.figures.entry(name).or_default().add(one);
            }
        }
    }
}

/// Gathers reports into the current minute.
#[derive(Debug, Default)]
pub struct MachineAccumulator {
    current: Option<MachineBucket>,
    ended: Vec<MachineBucket>,
}

impl MachineAccumulator {
    /// Ended minutes that are kept when nobody takes them.
    const ENDED_MAX: usize = 1000;

    /// Counts a report.
    pub fn observe(&mut self, at: Wall, report: &HostReport) {
        let minute = Step::Minute.start(Step::Minute.index(at));
        if self.current.as_ref().is_none_or(|current| current.start != minute) {
            self.ended.extend(self.current.take());
            let over = self.ended.len().saturating_sub(Self::ENDED_MAX);
            self.ended.drain(..over);
        }
        let current = self.current.get_or_insert_with(|| MachineBucket::empty(Machine::this(), minute));
        current.count(report);
    }

    /// The buckets that changed since the last call, to be written.
    pub fn take(&mut self) -> Vec<MachineBucket> {
        let mut buckets = std::mem::take(&mut self.ended);
        buckets.extend(self.current.clone());
        buckets
    }
}

/// The figures of a report that are kept, by their names in the record and in the API.
fn figures(report: &HostReport) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    let mut keep =
        |name: &str, value: Option<f64>| figures.extend(value.map(|value| (name.to_owned(), value)));
    let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
    keep("cpu", report.cpu.map(|cpu| cpu.busy()));
    keep("cpu-user", report.cpu.map(|cpu| cpu.user));
    keep("cpu-system", report.cpu.map(|cpu| cpu.system));
    keep("cpu-iowait", report.cpu.map(|cpu| cpu.iowait));
    keep("cpu-steal", report.cpu.map(|cpu| cpu.steal));
    keep("load", report.load.map(|load| load[0]));
    keep("memory", report.memory.and_then(|m| share(m.total.saturating_sub(m.available), m.total)));
    keep("swap", report.memory.and_then(|m| share(m.swap_used, m.swap_total)));
    keep("pressure-cpu", report.pressure.cpu);
    keep("pressure-memory", report.pressure.memory);
    keep("pressure-io", report.pressure.io);
    keep("io-read", report.io.map(|io| io.read));
    keep("io-written", report.io.map(|io| io.written));
    keep("io-busy", report.io.map(|io| io.busy));
    keep("network-received", report.network.map(|network| network.received));
    keep("network-sent", report.network.map(|network| network.sent));
    keep("network-errors", report.network.map(|network| network.errors));
    keep("network-dropped", report.network.map(|network| network.dropped));
    keep("tcp-retransmitted", report.tcp.map(|tcp| tcp.retransmitted_share()));
    keep("group-memory", report.group.and_then(|g| g.memory).and_then(|(max, used)| share(used, max)));
    keep("group-throttled", report.group.and_then(|group| group.throttled));
    for disk in &report.disks {
        keep(&format!("disk:{}", disk.mount), Some(disk.used_share()));
    }
    figures
}

impl Bucket for MachineBucket {
    type Id = Machine;
    const TABLE: &'static str = "machine";
    const COLUMNS: &'static [&'static str] = &["observed_ms", "figures"];

    fn id(&self) -> &Machine {
        &self.machine
    }

    fn start(&self) -> Wall {
        self.start
    }

    fn parse(name: &str) -> Option<Machine> {
        Some(Machine(name.to_owned()))
    }

    fn values(&self) -> Vec<Value> {
        // Three decimals are more than was measured, and a third of the bytes.
        let short = |value: f64| (value * 1000.0).round() / 1000.0;
        let figures: BTreeMap<&String, (u64, f64, f64)> =
            self.figures.iter().map(|(name, f)| (name, (f.samples, short(f.mean), short(f.max)))).collect();
        let figures = serde_json::to_string(&figures).map_or(Value::Null, Value::Text);
        vec![integer(self.observed_ms), figures]
    }

    fn read(machine: Machine, start: Wall, row: &Row<'_>) -> rusqlite::Result<Self> {
        let text: Option<String> = row.get(2)?;
        let figures: BTreeMap<String, (u64, f64, f64)> =
            text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let figures =
            figures.into_iter().map(|(name, (samples, mean, max))| (name, Summary { samples, mean, max }));
        Ok(Self { machine, start, observed_ms: count(row, 1)?, figures: figures.collect() })
    }

    fn merge(&mut self, other: &Self, width_ms: i64) {
        self.observed_ms = add_observed(self.observed_ms, other.observed_ms, width_ms);
        for (name, summary) in &other.figures {
            self.figures.entry(name.clone()).or_default().add(*summary);
        }
    }

    fn at(self, start: Wall) -> Self {
        Self { start, ..self }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::host::{Cpu, Disk};

    use super::*;

    fn report(user: f64) -> HostReport {
        let disk = Disk { mount: "/".to_owned(), used: 1, available: 3, ..Disk::default() };
        HostReport { cpu: Some(Cpu { user, ..Cpu::default() }), disks: vec![disk], ..HostReport::default() }
    }

    #[test]
    fn a_minute_has_the_mean_and_the_highest_of_what_was_known() {
        let mut accumulator = MachineAccumulator::default();
        accumulator.observe(Wall(1000), &report(0.2));
        accumulator.observe(Wall(2000), &report(0.8));
        accumulator.observe(Wall(3000), &HostReport::default());
        let buckets = accumulator.take();
        let figures = &buckets[0].figures;
        assert_eq!((buckets.len(), buckets[0].observed_ms), (1, 3000));
        let Summary { samples, mean, max } = figures["cpu-user"];
        assert_eq!((samples, (mean * 100.0).round(), (max * 100.0).round()), (2, 50.0, 80.0));
        assert_eq!(figures["disk:/"], Summary { samples: 2, mean: 0.25, max: 0.25 });
        assert!(!figures.contains_key("load"), "what was never known is absent");
    }

    #[test]
    fn an_ended_minute_is_given_once_and_the_current_one_again() {
        let mut accumulator = MachineAccumulator::default();
        accumulator.observe(Wall(59_000), &report(0.1));
        accumulator.observe(Wall(61_000), &report(0.1));
        let starts = |buckets: &[MachineBucket]| buckets.iter().map(|b| b.start.0).collect::<Vec<_>>();
        assert_eq!(starts(&accumulator.take()), [0, 60_000]);
        assert_eq!(starts(&accumulator.take()), [60_000]);
    }
}
