//! How long a server's answers usually take: a small histogram that forgets, fed with each answer and read only when somebody
//! waits for long.
//!
//! Four buckets an octave, so that a bound is at most a quarter too high. Once it holds [`FULL`] answers all counts are halved: what
//! is old weighs less and less, by answers and not by the clock, because a quiet night says nothing of how a server is.

use std::time::Duration;

/// Four for each octave from 4 µs to about a minute.
const BUCKETS: usize = 96;
/// Answers at which all counts are halved: four times what a 99.9th percentile needs.
const FULL: u32 = 4096;
/// Fewer answers say nothing of what is usual.
const LEAST: u32 = 20;

/// The times of one server's answers.
#[derive(Debug)]
pub(crate) struct Usual {
    counts: [u16; BUCKETS],
    total: u32,
}

impl Default for Usual {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Usual {
    /// Answers by their time, for another process.
    pub(crate) fn counts(&self) -> Vec<u32> {
        self.counts.iter().map(|&count| u32::from(count)).collect()
    }

    /// What another process has counted: no more than it would hold itself, so that it forgets as fast.
    pub(crate) fn of(counts: &[u32]) -> Self {
        let total: u64 = counts.iter().take(BUCKETS).map(|&count| u64::from(count)).sum();
        let parts = total.div_ceil(u64::from(FULL) / 2).max(1);
        let mut usual = Self::default();
        for (mine, theirs) in usual.counts.iter_mut().zip(counts) {
            *mine = u16::try_from(u64::from(*theirs).div_ceil(parts)).unwrap_or(u16::MAX);
        }
        usual.total = usual.counts.iter().map(|&count| u32::from(count)).sum();
        usual
    }

    /// An answer began after so long.
    pub(crate) fn record(&mut self, took: Duration) {
        self.counts[bucket(took)] += 1;
        self.total += 1;
        if self.total >= FULL {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|&count| u32::from(count)).sum();
        }
    }

    /// An upper bound of the 99.9th percentile, or of all while there are less than a thousand; `None` while there are too few to tell.
    pub(crate) fn most(&self) -> Option<Duration> {
        self.bound(self.total / 1000)
    }

    /// An upper bound of so many of a hundred; `None` while there are too few to tell.
    pub(crate) fn percentile(&self, percent: u8) -> Option<Duration> {
        self.bound(self.total * u32::from(100 - percent.min(100)) / 100)
    }

    /// What at most so many are above.
    fn bound(&self, beyond: u32) -> Option<Duration> {
        if self.total < LEAST {
            return None;
        }
        let mut above = 0;
        let highest = (0..BUCKETS).rev().find(|&i| {
            above += u32::from(self.counts[i]);
            above > beyond
        });
        highest.map(upper_bound)
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(4);
    let octave = micros.ilog2() as usize;
    let quarter = (micros >> (octave - 2)) as usize & 3;
    ((octave - 2) * 4 + quarter).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    Duration::from_micros((bucket as u64 % 4 + 5) << (bucket / 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_one_answer_in_a_thousand_that_is_slow_is_not_usual_and_two_are() {
        let mut usual = Usual::default();
        (0..LEAST - 1).for_each(|_| usual.record(MS));
        assert_eq!(usual.most(), None, "too few to tell");
        (0..1500).for_each(|_| usual.record(MS));
        usual.record(2000 * MS);
        assert!(usual.most().is_some_and(|most| most < 2 * MS), "{:?}", usual.most());
        usual.record(2000 * MS);
        assert!(usual.most().is_some_and(|most| most >= 2000 * MS), "{:?}", usual.most());
    }

    #[test]
    fn a_percentile_is_what_so_many_answers_take_at_most() {
        let mut usual = Usual::default();
        assert_eq!(usual.percentile(95), None, "too few to tell");
        (0..95).for_each(|_| usual.record(MS));
        (0..5).for_each(|_| usual.record(500 * MS));
        assert!(usual.percentile(95).is_some_and(|p| p < 2 * MS), "{:?}", usual.percentile(95));
        assert!(usual.percentile(96).is_some_and(|p| p >= 500 * MS), "{:?}", usual.percentile(96));
    }

    #[test]
    fn what_was_usual_long_ago_is_forgotten() {
        let mut usual = Usual::default();
        (0..100).for_each(|_| usual.record(500 * MS));
        (0..5 * FULL).for_each(|_| usual.record(MS));
        assert!(usual.most().is_some_and(|most| most < 2 * MS), "{:?}", usual.most());
        assert!(usual.total < FULL);
    }

    proptest! {
        #[test]
        fn a_bound_is_at_most_a_quarter_too_high(micros in 4u64..30_000_000) {
            let mut usual = Usual::default();
            (0..LEAST).for_each(|_| usual.record(Duration::from_micros(micros)));
            let most = usual.most().expect("enough answers").as_micros() as u64;
            prop_assert!(most > micros && most <= micros + micros / 4 + 1, "{} for {}", most, micros);
        }
    }
}
