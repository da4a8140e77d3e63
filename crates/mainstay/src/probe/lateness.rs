//! How late probes begin: from the moment at which the judge wanted to look to the moment at which it is looked. A schedule that
//! is not kept shows here before it shows anywhere else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in milliseconds.
const BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000];

/// Counts of probes by how late they began.
#[derive(Debug, Default)]
pub struct Lateness {
    /// The last one is of those that were later than every bound.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Lateness {
    /// One began so late.
    pub fn record(&self, late: Duration) {
        let place = BOUNDS_MS.iter().position(|&bound| late <= Duration::from_millis(bound));
        if let Some(bucket) = self.buckets.get(place.unwrap_or(BOUNDS_MS.len())) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// All of it together in seconds; and the upper end of each bucket in seconds, with how many fell into it.
    pub fn read(&self) -> (f64, Vec<(f64, u64)>) {
        let bounds = BOUNDS_MS.iter().map(|&ms| ms as f64 / 1000.0).chain([f64::MAX]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        (self.sum_us.load(Ordering::Relaxed) as f64 / 1e6, bounds.zip(counts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_falls_into_the_first_bucket_that_holds_it() {
        let lateness = Lateness::default();
        for ms in [0, 1, 3, 100, 9_999] {
            lateness.record(Duration::from_millis(ms));
        }
        let (sum, buckets) = lateness.read();
        let filled: Vec<(f64, u64)> = buckets.into_iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!((sum, filled), (10.103, vec![(0.001, 2), (0.005, 1), (0.1, 1), (f64::MAX, 1)]));
    }
}
