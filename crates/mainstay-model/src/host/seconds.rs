//! The machine second by second around an incident: the figures that tell most, packed.
//!
//! They are kept from a minute before an incident was opened to a minute after it is over; of one that lasts longer than that
//! the first ten minutes and the last two. Those that several incidents want are kept once.
//!
//! Packed, a second is how much later it was than the one before, which of its figures differ from those of the one before, and
//! these: about ten bytes on a machine that has something to do. Shares are kept to half a percent of all, rates to a part in
//! three hundred.

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::HostReport;
use crate::results::{DamagedLooks, put, take, take_byte, unzigzag, zigzag};
use crate::time::Wall;

/// Seconds before an incident was opened, and after it was over, milliseconds.
const MARGIN_MS: i64 = 60_000;
/// Of a long incident its beginning, milliseconds.
const FIRST_MS: i64 = 600_000;
/// And its end.
const LAST_MS: i64 = 120_000;

/// The first byte.
const VERSION: u8 = 1;
/// More figures than these are no figures of any version.
const FIGURES_MAX: u64 = 32;

/// The machine in one second. A figure that was not known is `None`, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Second {
    /// When it was read.
    pub at: Wall,
    /// The share (0 to 1) of all processors' time that was not there for anybody else.
    pub cpu: Option<f64>,
    /// Of it, what the hypervisor took for other machines.
    pub cpu_steal: Option<f64>,
    /// The share (0 to 1) in which processors were idle while somebody waited for a disk.
    pub cpu_iowait: Option<f64>,
    /// The share (0 to 1) of memory in use.
    pub memory: Option<f64>,
    /// The share (0 to 1) of swap space in use.
    pub swap: Option<f64>,
    /// Bytes a second from block devices.
    pub io_read: Option<f64>,
    /// Bytes a second to block devices.
    pub io_written: Option<f64>,
    /// The share (0 to 1) of the time in which the busiest block device had something to do.
    pub io_busy: Option<f64>,
    /// Bytes a second from network cards.
    pub network_received: Option<f64>,
    /// Bytes a second to network cards.
    pub network_sent: Option<f64>,
    /// The share (0 to 1) of the last ten seconds in which somebody waited for a processor.
    pub pressure_cpu: Option<f64>,
    /// The same for memory.
    pub pressure_memory: Option<f64>,
    /// The same for a disk.
    pub pressure_io: Option<f64>,
    /// The share (0 to 1) of TCP segments that were sent again.
    pub retransmitted: Option<f64>,
}

/// How a figure is packed.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// 0 to 1.
    Share,
    /// Bytes a second.
    Rate,
}

type Figure = (&'static str, Unit, fn(&mut Second) -> &mut Option<f64>);

/// In the order in which they are packed: a new one is added at the end, none is taken away.
const FIGURES: [Figure; 14] = [
    ("cpu", Unit::Share, |s| &mut s.cpu),
    ("cpu_steal", Unit::Share, |s| &mut s.cpu_steal),
    ("cpu_iowait", Unit::Share, |s| &mut s.cpu_iowait),
    ("memory", Unit::Share, |s| &mut s.memory),
    ("swap", Unit::Share, |s| &mut s.swap),
    ("io_read", Unit::Rate, |s| &mut s.io_read),
    ("io_written", Unit::Rate, |s| &mut s.io_written),
    ("io_busy", Unit::Share, |s| &mut s.io_busy),
    ("network_received", Unit::Rate, |s| &mut s.network_received),
    ("network_sent", Unit::Rate, |s| &mut s.network_sent),
    ("pressure_cpu", Unit::Share, |s| &mut s.pressure_cpu),
    ("pressure_memory", Unit::Share, |s| &mut s.pressure_memory),
    ("pressure_io", Unit::Share, |s| &mut s.pressure_io),
    ("retransmitted", Unit::Share, |s| &mut s.retransmitted),
];

impl Second {
    /// What of a report is kept.
    pub fn of(at: Wall, report: &HostReport) -> Self {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let HostReport { cpu, memory, pressure, io, network, tcp, .. } = report;
        let mut second = Self {
            at,
            cpu: cpu.map(|cpu| cpu.busy()),
            cpu_steal: cpu.map(|cpu| cpu.steal),
            cpu_iowait: cpu.map(|cpu| cpu.iowait),
            memory: memory.and_then(|m| share(m.total.saturating_sub(m.available), m.total)),
            swap: memory.and_then(|m| share(m.swap_used, m.swap_total)),
            io_read: io.map(|io| io.read),
            io_written: io.map(|io| io.written),
            io_busy: io.map(|io| io.busy),
            network_received: network.map(|network| network.received),
            network_sent: network.map(|network| network.sent),
            pressure_cpu: pressure.cpu,
            pressure_memory: pressure.memory,
            pressure_io: pressure.io,
            retransmitted: tcp.map(|tcp| tcp.retransmitted_share()),
        };
        for (_, unit, figure) in FIGURES {
            let figure = figure(&mut second);
            *figure = unit.value(unit.code(*figure));
        }
        second
    }

    /// The mean of some, each figure over those in which it was known, at the time of the first; `None` of none.
    pub fn mean(seconds: &[Second]) -> Option<Second> {
        let mut mean = *seconds.first()?;
        for (_, _, figure) in FIGURES {
            let known: Vec<f64> = seconds.iter().filter_map(|second| *figure(&mut second.clone())).collect();
            *figure(&mut mean) = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
        }
        Some(mean)
    }
}

impl Unit {
    /// A number for a value: 0 is *unknown*.
    fn code(self, value: Option<f64>) -> u64 {
        let Some(value) = value.filter(|value| value.is_finite()) else { return 0 };
        1 + match self {
            Unit::Share => (value.clamp(0.0, 1.0) * 200.0).round() as u64,
            Unit::Rate => ((1.0 + value.max(0.0)).log2() * 200.0).round() as u64,
        }
    }

    fn value(self, code: u64) -> Option<f64> {
        let code = code.checked_sub(1)? as f64;
        Some(match self {
            Unit::Share => (code / 200.0).min(1.0),
            // The largest rate that there is room for; no machine comes near it.
            Unit::Rate => ((code / 200.0).min(63.0).exp2() - 1.0).round(),
        })
    }
}

/// Some seconds in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seconds(pub Vec<Second>);

impl Seconds {
    /// Packs them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(FIGURES.len() as u64, &mut out);
        let mut at = 0;
        let mut before = [0; FIGURES.len()];
        for second in &self.0 {
            put(zigzag(second.at.0.wrapping_sub(at)), &mut out);
            at = second.at.0;
            let mut second = *second;
            let codes = FIGURES.map(|(_, unit, figure)| unit.code(*figure(&mut second)));
            let changed = (0..FIGURES.len()).filter(|place| codes[*place] != before[*place]);
            put(changed.clone().fold(0, |mask, place| mask | 1 << place), &mut out);
            changed.for_each(|place| put(codes[place], &mut out));
            before = codes;
        }
        out
    }

    /// Unpacks them. Figures that this version does not know are left out.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DamagedSeconds> {
        let mut rest = bytes;
        if take_byte(&mut rest)? != VERSION {
            return Err(DamagedSeconds);
        }
        let figures = take(&mut rest)?;
        if figures > FIGURES_MAX {
            return Err(DamagedSeconds);
        }
        let mut seconds = Vec::new();
        let mut second = Second::default();
        while !rest.is_empty() {
            second.at = Wall(second.at.0.wrapping_add(unzigzag(take(&mut rest)?)));
            let changed = take(&mut rest)?;
            for place in 0..figures {
                if changed & (1 << place) == 0 {
                    continue;
                }
                let code = take(&mut rest)?;
                let known = usize::try_from(place).ok().and_then(|place| FIGURES.get(place));
                if let Some((_, unit, figure)) = known {
                    *figure(&mut second) = unit.value(code);
                }
            }
            seconds.push(second);
        }
        Ok(Self(seconds))
    }
}

/// What was stored are no such seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packed seconds of the machine are damaged")]
pub struct DamagedSeconds;

impl From<DamagedLooks> for DamagedSeconds {
    fn from(_: DamagedLooks) -> Self {
        Self
    }
}

/// In the API: `at` and each figure as a list, all of them of one length.
impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(FIGURES.len() + 1))?;
        map.serialize_entry("at", &self.0.iter().map(|second| second.at).collect::<Vec<_>>())?;
        for (name, _, figure) in FIGURES {
            let all: Vec<Option<f64>> = self.0.iter().map(|second| *figure(&mut second.clone())).collect();
            map.serialize_entry(name, &all)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut lists = std::collections::BTreeMap::<String, Vec<Option<f64>>>::deserialize(from)?;
        let at = lists.remove("at").unwrap_or_default();
        let mut seconds: Vec<Second> = at
            .iter()
            .map(|at| Second { at: Wall(at.unwrap_or_default() as i64), ..Second::default() })
            .collect();
        for (name, _, figure) in FIGURES {
            let Some(list) = lists.remove(name) else { continue };
            if list.len() != seconds.len() {
                return Err(D::Error::custom(format!("{name} has another length than at")));
            }
            for (second, value) in seconds.iter_mut().zip(list) {
                *figure(second) = value;
            }
        }
        Ok(Self(seconds))
    }
}

/// Which seconds an incident wants, from when up to when: one span, or two of an incident that is long over. Of one that is
/// open the first is known only.
pub fn around(opened: Wall, resolved: Option<Wall>) -> Vec<(Wall, Wall)> {
    let later = |at: Wall, ms: i64| Wall(at.0.saturating_add(ms));
    let beginning = (later(opened, -MARGIN_MS), later(opened, FIRST_MS));
    let Some(resolved) = resolved else { return vec![beginning] };
    let end = (later(resolved, -LAST_MS), later(resolved, MARGIN_MS));
    if end.0 <= beginning.1 {
        // A clock that was set back in between would leave nothing.
        return vec![(beginning.0, end.1.max(later(opened, MARGIN_MS)))];
    }
    vec![beginning, end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::{Cpu, Io, Memory, Network, Pressure};

    fn report(busy: f64) -> HostReport {
        HostReport {
            cpu: Some(Cpu { user: busy, system: 0.05, iowait: 0.02, steal: 0.0 }),
            memory: Some(Memory { total: 1000, available: 600, swap_total: 0, swap_used: 0 }),
            io: Some(Io { read: 0.0, written: 1e6 * busy, busy: 0.1 }),
            network: Some(Network { received: 2e6 * busy, sent: 9e9, ..Network::default() }),
            pressure: Pressure { cpu: Some(busy / 4.0), ..Pressure::default() },
            ..HostReport::default()
        }
    }

    #[test]
    fn what_was_packed_is_read_back_close_to_what_it_was() {
        let second = Second::of(Wall(1_795_334_400_123), &report(0.4));
        let close = |figure: Option<f64>, value: f64| {
            figure.is_some_and(|figure| (figure - value).abs() <= value * 0.01 + 0.003)
        };
        assert!(close(second.cpu, 0.45) && close(second.cpu_iowait, 0.02) && close(second.memory, 0.4));
        assert!(close(second.io_written, 4e5) && close(second.network_sent, 9e9), "{second:?}");
        assert_eq!((second.swap, second.pressure_io, second.io_read), (None, None, Some(0.0)));
        let all = Seconds(vec![second, Second { at: Wall(1_795_334_401_120), cpu: None, ..second }]);
        assert_eq!(Seconds::decode(&all.encode()), Ok(all));
    }

    #[test]
    fn a_second_takes_about_ten_bytes() {
        let mut rng = crate::rng::Rng::new(3);
        let seconds = (0..600).map(|n| Second::of(Wall(n * 1000), &report(0.3 + rng.unit() / 3.0)));
        let size = Seconds(seconds.collect()).encode().len();
        assert!(size < 600 * 12, "{size} bytes");
    }

    #[test]
    fn a_version_with_more_figures_or_fewer_is_read_as_far_as_it_is_known() {
        let mut fewer = vec![VERSION, 1];
        fewer.extend([zigzag(5) as u8, 1, 101]);
        let known = Second { at: Wall(5), cpu: Some(0.5), ..Second::default() };
        assert_eq!(Seconds::decode(&fewer), Ok(Seconds(vec![known])));
        let mut more = vec![VERSION, 20, zigzag(5) as u8];
        put(1 | 1 << 19, &mut more);
        more.extend([101, 77]);
        assert_eq!(Seconds::decode(&more), Ok(Seconds(vec![known])));
    }

    #[test]
    fn a_short_incident_wants_one_span_and_a_long_one_its_beginning_and_its_end() {
        let minute = |n: i64| Wall(n * 60_000);
        assert_eq!(around(minute(10), None), [(minute(9), minute(20))]);
        assert_eq!(around(minute(10), Some(minute(11))), [(minute(9), minute(12))]);
        assert_eq!(around(minute(10), Some(minute(22))), [(minute(9), minute(23))]);
        assert_eq!(around(minute(10), Some(minute(90))), [(minute(9), minute(20)), (minute(88), minute(91))]);
        assert_eq!(around(minute(10), Some(minute(3))), [(minute(9), minute(11))], "the clock was set back");
    }

    #[test]
    fn a_mean_is_over_what_is_known() {
        let second = |cpu| Second { cpu, ..Second::default() };
        let mean = Second::mean(&[second(Some(0.2)), second(None), second(Some(0.4))]).unwrap();
        assert!(mean.cpu.is_some_and(|cpu| (cpu - 0.3).abs() < 1e-9) && mean.memory.is_none());
        assert_eq!(Second::mean(&[]), None);
    }

    #[test]
    fn programs_read_lists_of_one_length() {
        let all = Seconds(vec![Second::of(Wall(1), &report(0.1)), Second::of(Wall(2), &report(0.2))]);
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.starts_with(r#"{"at":[1,2],"cpu":[0.15,0.25],"#), "{text}");
        assert_eq!(serde_json::from_str::<Seconds>(&text).unwrap(), all);
        assert!(serde_json::from_str::<Seconds>(r#"{"at":[1],"cpu":[]}"#).is_err());
        assert_eq!(serde_json::from_str::<Seconds>("{}").unwrap(), Seconds::default());
    }

    proptest! {
        /// Nothing panics, and what can be read is packed so that it reads back the same.
        #[test]
        fn a_damaged_record_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200), named: bool) {
            let bytes = if named { [vec![VERSION, 13], bytes].concat() } else { bytes };
            if let Ok(seconds) = Seconds::decode(&bytes) {
                let again = Seconds::decode(&seconds.encode()).unwrap();
                prop_assert_eq!(again.0.len(), seconds.0.len());
                prop_assert_eq!(Seconds::decode(&again.encode()), Ok(again));
            }
        }
    }
}
