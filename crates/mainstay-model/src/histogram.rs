//! A mergeable histogram of durations, so that percentiles survive roll-ups for years.
//!
//! Log-linear, as HdrHistogram's: 16 linear steps to each power of two of microseconds, so a percentile read back is at
//! most 1/16 (6.25 %) above the true value. Recording is an index and an increment.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Linear steps to a power of two.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// The last bucket holds everything from about 19 hours up.
const BUCKETS: usize = (STEPS as usize) * (36 - STEP_BITS as usize + 1);

/// Counts of durations in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// Counts by bucket; trailing empty buckets are left out.
    counts: Vec<u32>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    /// An empty histogram; allocates nothing until the first value.
    pub const fn new() -> Self {
        Self { counts: Vec::new(), count: 0, sum_us: 0, max_us: 0 }
    }

    /// Counts one duration.
    pub fn record(&mut self, value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.record_us(us);
    }

    /// Counts one duration given in microseconds.
    pub fn record_us(&mut self, us: u64) {
        let index = bucket_of(us);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(1);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    /// Adds all of `other`'s counts.
    pub fn merge(&mut self, other: &Histogram) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.count = 0;
        self.sum_us = 0;
        self.max_us = 0;
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The arithmetic mean, exact; `None` when empty.
    pub fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_micros(self.sum_us / self.count))
    }

    /// The largest duration, exact; `None` when empty.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_micros(self.max_us))
    }

    /// The duration that a share `quantile` (0 to 1) of all did not exceed, at most 6.25 % too high; `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let rank = ((quantile.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &n) in self.counts.iter().enumerate() {
            seen += u64::from(n);
            if seen >= rank {
                return Some(Duration::from_micros(highest_in(index).min(self.max_us)));
            }
        }
        self.max()
    }

    /// How many durations were above `limit`, to the bucket's resolution.
    pub fn count_above(&self, limit: Duration) -> u64 {
        let us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.counts.iter().skip(bucket_of(us) + 1).map(|&n| u64::from(n)).sum()
    }

    /// The compact stored form: LEB128 integers, runs of empty buckets as a zero and the run's length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        put(&mut out, self.sum_us);
        put(&mut out, self.max_us);
        let mut zeros = 0u64;
        for &n in &self.counts {
            if n == 0 {
                zeros += 1;
                continue;
            }
            if zeros > 0 {
                put(&mut out, 0);
                put(&mut out, zeros);
                zeros = 0;
            }
            put(&mut out, u64::from(n));
        }
        out
    }

    /// Reads the stored form back.
    ///
    /// # Errors
    /// [`Damaged`] when the bytes are not what [`Histogram::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut at = 0;
        let sum_us = take(bytes, &mut at)?;
        let max_us = take(bytes, &mut at)?;
        let mut counts = Vec::new();
        let mut count = 0u64;
        while at < bytes.len() {
            match take(bytes, &mut at)? {
                0 => {
                    let run = usize::try_from(take(bytes, &mut at)?).map_err(|_| Damaged)?;
                    if run > BUCKETS - counts.len() {
                        return Err(Damaged);
                    }
                    counts.resize(counts.len() + run, 0);
                }
                n => {
                    if counts.len() >= BUCKETS {
                        return Err(Damaged);
                    }
                    counts.push(u32::try_from(n).map_err(|_| Damaged)?);
                    count += n;
                }
            }
        }
        Ok(Self { counts, count, sum_us, max_us })
    }
}

/// A stored histogram could not be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored histogram is damaged")]
pub struct Damaged;

fn bucket_of(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let exponent = u64::BITS - 1 - us.leading_zeros();
    let step = (us >> (exponent - STEP_BITS)) & (STEPS - 1);
    let index = STEPS * u64::from(exponent - STEP_BITS + 1) + step;
    (index as usize).min(BUCKETS - 1)
}

fn highest_in(index: usize) -> u64 {
    if index < STEPS as usize {
        return index as u64;
    }
    let exponent = (index as u64 / STEPS) - 1;
    let step = index as u64 % STEPS;
    ((STEPS + step + 1) << exponent) - 1
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &[u8], at: &mut usize) -> Result<u64, Damaged> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let &byte = bytes.get(*at).ok_or(Damaged)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_histogram_has_no_percentile() {
        assert_eq!(Histogram::new().quantile(0.5), None);
        assert_eq!(Histogram::new().mean(), None);
    }

    #[test]
    fn a_single_value_is_every_percentile() {
        let mut h = Histogram::new();
        h.record(Duration::from_millis(12));
        assert_eq!(h.quantile(0.0), Some(Duration::from_millis(12)));
        assert_eq!(h.quantile(1.0), Some(Duration::from_millis(12)));
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_too_low_and_at_most_a_sixteenth_too_high(mut values in prop::collection::vec(0u64..100_000_000, 1..300), q in 0.0f64..=1.0) {
            let mut h = Histogram::new();
            for &v in &values { h.record_us(v); }
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let got = h.quantile(q).expect("not empty").as_micros() as u64;
            prop_assert!(got >= exact);
            prop_assert!(got as f64 <= exact as f64 * (1.0 + 1.0 / 16.0) + 1.0);
        }

        #[test]
        fn merging_is_recording_all(a in prop::collection::vec(any::<u64>(), 0..50), b in prop::collection::vec(any::<u64>(), 0..50)) {
            let (mut x, mut y, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
            for &v in &a { x.record_us(v); both.record_us(v); }
            for &v in &b { y.record_us(v); both.record_us(v); }
            x.merge(&y);
            prop_assert_eq!(x, both);
        }

        #[test]
        fn the_stored_form_reads_back(values in prop::collection::vec(any::<u64>(), 0..100)) {
            let mut h = Histogram::new();
            for &v in &values { h.record_us(v); }
            prop_assert_eq!(Histogram::decode(&h.encode()), Ok(h));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Histogram::decode(&bytes);
        }
    }
}
