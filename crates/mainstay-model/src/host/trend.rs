//! Whether a disk fills, and when it will be full: only a steady growth says so, a single large file does not.
//!
//! Two looks back: over ten minutes, for a runaway log, and over two hours, for a slow leak. A growth counts when each
//! quarter of what was seen ended higher than it began, and it foretells no further ahead than six times as far as was
//! looked back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Mono;

/// Samples of one look back.
const SAMPLES: usize = 60;
/// Below this share in use, nobody needs to hear that a disk fills.
const SHARE_MIN: f64 = 0.5;
/// A look back says something once it spans so much of its whole.
const SPAN_MIN: f64 = 0.4;
/// How much further ahead than back it may be foretold.
const AHEAD: u32 = 6;

/// The past of one disk.
#[derive(Debug)]
pub(super) struct Trend {
    looks: [Look; 2],
}

/// When a disk will be full if it goes on as it did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forecast {
    pub(super) full_in: Duration,
    /// Bytes an hour.
    pub(super) growth: f64,
}

impl Trend {
    pub(super) fn new() -> Self {
        Self { looks: [Look::new(Duration::from_secs(10)), Look::new(Duration::from_secs(120))] }
    }

    /// So much was in use just now.
    pub(super) fn add(&mut self, used: u64, now: Mono) {
        for look in &mut self.looks {
            look.add(used, now);
        }
    }

    /// When it is full, if it fills steadily and `available` bytes are left; the sooner of the two looks.
    pub(super) fn forecast(&self, used: u64, available: u64) -> Option<Forecast> {
        let share = used as f64 / (used.saturating_add(available)).max(1) as f64;
        if share < SHARE_MIN {
            return None;
        }
        let forecasts = self.looks.iter().filter_map(|look| look.forecast(available));
        forecasts.min_by_key(|forecast| forecast.full_in)
    }

    pub(super) fn is_within_limits(&self) -> bool {
        self.looks.iter().all(|look| look.samples.len() <= SAMPLES)
    }
}

#[derive(Debug)]
struct Look {
    every: Duration,
    samples: VecDeque<(Mono, u64)>,
}

impl Look {
    fn new(every: Duration) -> Self {
        Self { every, samples: VecDeque::new() }
    }

    fn add(&mut self, used: u64, now: Mono) {
        if let Some((last, _)) = self.samples.back() {
            let since = now.since(*last);
            if since < self.every {
                return;
            }
            // What happened while nobody looked was not steady for all that is known.
            if since > self.every * 6 {
                self.samples.clear();
            }
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, used));
    }

    fn forecast(&self, available: u64) -> Option<Forecast> {
        let (from, to) = (self.samples.front()?, self.samples.back()?);
        let span = to.0.since(from.0);
        if span < (self.every * SAMPLES as u32).mul_f64(SPAN_MIN) {
            return None;
        }
        let quarter = self.samples.len() / 4;
        let marks = [0, quarter, 2 * quarter, 3 * quarter, self.samples.len() - 1];
        let grew = |pair: &[usize]| self.samples[pair[1]].1 > self.samples[pair[0]].1;
        if quarter == 0 || !marks.windows(2).all(grew) {
            return None;
        }
        let a_second = (to.1.saturating_sub(from.1)) as f64 / span.as_secs_f64();
        let full_in = Duration::try_from_secs_f64(available as f64 / a_second).ok()?;
        (full_in <= span * AHEAD).then_some(Forecast { full_in, growth: a_second * 3600.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    /// Figures each five seconds.
    fn seen(seconds: u64, used: impl Fn(u64) -> u64) -> Trend {
        let mut trend = Trend::new();
        for second in (0..=seconds).step_by(5) {
            trend.add(used(second), at(second));
        }
        trend
    }

    #[test]
    fn a_runaway_log_is_foretold_within_minutes() {
        let trend = seen(300, |s| 600 * MIB + s * MIB);
        let forecast = trend.forecast(900 * MIB, 300 * MIB).unwrap();
        assert_eq!(forecast.full_in.as_secs(), 300);
        assert!((forecast.growth / MIB as f64 - 3600.0).abs() < 1.0);
    }

    #[test]
    fn a_slow_leak_is_foretold_within_hours_and_not_earlier() {
        let trend = seen(7200, |s| 600 * MIB + s * 1024);
        assert!(trend.forecast(607 * MIB, 30 * MIB).is_some(), "8 hours ahead of two");
        assert!(trend.forecast(607 * MIB, 300 * MIB).is_none(), "three days ahead of two hours");
    }

    #[test]
    fn one_large_file_is_no_trend() {
        let trend = seen(600, |s| if s < 100 { 500 * MIB } else { 900 * MIB });
        assert_eq!(trend.forecast(900 * MIB, 100 * MIB), None);
    }

    #[test]
    fn what_is_cleaned_up_again_and_again_is_no_trend() {
        let trend = seen(7200, |s| 600 * MIB + (s % 600) * MIB);
        assert_eq!(trend.forecast(900 * MIB, 100 * MIB), None);
    }

    #[test]
    fn a_disk_that_is_half_empty_may_fill() {
        let trend = seen(300, |s| 100 * MIB + s * MIB);
        assert_eq!(trend.forecast(400 * MIB, 600 * MIB), None);
    }

    #[test]
    fn time_in_which_nobody_looked_begins_the_trend_anew() {
        let mut trend = seen(300, |s| 600 * MIB + s * MIB);
        trend.add(999 * MIB, at(2000));
        assert_eq!(trend.forecast(999 * MIB, 100 * MIB), None);
        assert!(trend.is_within_limits());
    }
}
