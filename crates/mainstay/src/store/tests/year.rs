//! A year of one probe: rolled up and packed as it goes on, and read complete.
//!
//! `MAINSTAY_YEAR=FOLDER` leaves the record there, with a year that ends now and a look each 10 s: for `cargo xtask bench history`.

use mainstay_model::histogram::Histogram;
use mainstay_model::results::{Look, LookVerdict, rounded};
use mainstay_model::{MonitorId, ProbeTarget};

use super::*;

const HOURS: i64 = 365 * 24;
/// The hours of a month are written down before they are rolled up and packed.
const MONTH: i64 = 30 * 24;
/// Hours that are written at once.
const A_WRITE: i64 = 24;
/// Nobody looked in these.
const GAP: std::ops::Range<i64> = 4000..4010;

/// What was seen, by the hour of the year.
struct Year {
    from: i64,
    /// Between two looks, milliseconds.
    every: i64,
}

impl Year {
    fn pay() -> MonitorId {
        MonitorId::new("pay")
    }

    /// Once a week it is down for the first six minutes of an hour.
    fn is_down(hour: i64, ms: i64) -> bool {
        hour % 168 == 50 && ms < 6 * MINUTE
    }

    fn looks(&self, hour: i64) -> impl Iterator<Item = Look> {
        let (every, start) = (self.every, self.from + hour * HOUR);
        let turns = if GAP.contains(&hour) { 0 } else { HOUR / every };
        (0..turns).map(move |turn| {
            let (verdict, words) = match Self::is_down(hour, turn * every) {
                true => (LookVerdict::Failed, "connection refused"),
                false => (LookVerdict::Good, "200"),
            };
            // Slower by day than at night.
            let by_day = if (7..19).contains(&(hour % 24)) { 9_000 } else { 0 };
            let us = 1_500 + by_day + (hour * 31 + turn * 37) % 700;
            let took = rounded(Duration::from_micros(us.unsigned_abs()));
            Look { at: Wall(start + turn * every), took, verdict, words: words.into() }
        })
    }

    fn minutes(&self, hour: i64) -> Vec<MonitorBucket> {
        let mut minutes: BTreeMap<Wall, MonitorBucket> = BTreeMap::new();
        for look in self.looks(hour) {
            let start = Step::Minute.start(Step::Minute.index(look.at));
            let down = Self::is_down(hour, look.at.0 - (self.from + hour * HOUR));
            let minute = minutes.entry(start).or_insert_with(|| MonitorBucket {
                monitor: Self::pay(),
                start,
                observed_ms: 60_000,
                good: 0,
                failed: 0,
                down_ms: if down { 60_000 } else { 0 },
                excused_ms: 0,
                latency: Histogram::new(),
            });
            match look.verdict {
                LookVerdict::Good => {
                    minute.good += 1;
                    minute.latency.record(look.took);
                }
                _ => minute.failed += 1,
            }
        }
        minutes.into_values().collect()
    }

    fn fill(&self, store: &Store) {
        for first in (0..HOURS).step_by(MONTH as usize) {
            let end = HOURS.min(first + MONTH);
            for hour in (first..end).step_by(A_WRITE as usize) {
                let hours = || hour..end.min(hour + A_WRITE);
                let minutes = hours().flat_map(|hour| self.minutes(hour)).collect();
                let looks = hours().flat_map(|hour| self.looks(hour));
                let looks = looks.map(|look| (Self::pay().into(), look)).collect();
                write(store, vec![Write::Monitors(minutes), Write::Looks(looks)]);
            }
            keep_house(store, Wall(self.from + end * HOUR), || {
                // The last hour may still have something to come.
                count(store, "monitor_journal") == 1
            });
        }
    }
}

#[test]
fn a_year_of_one_probe_is_read_complete_and_right() {
    let data = tempfile::tempdir().expect("a folder");
    let kept = std::env::var_os("MAINSTAY_YEAR").map(PathBuf::from);
    let (folder, year) = match &kept {
        None => (data.path(), Year { from: EIGHT, every: 30 * MINUTE }),
        Some(folder) => {
            let now = Step::Hour.start(Step::Hour.index(wall_now()));
            (folder.as_path(), Year { from: now.0 - HOURS * HOUR, every: 10_000 })
        }
    };
    let (store, ..) = open(folder);
    year.fill(&store);
    let to = Wall(year.from + HOURS * HOUR);
    let pay = Year::pay();
    let hours =
        ask(store.reader().monitor_history(&pay, Step::Hour, Wall(year.from), to)).expect("it is read");
    let expected: Vec<i64> = (0..HOURS).filter(|hour| !GAP.contains(hour)).collect();
    assert_eq!(hours.len(), expected.len(), "every hour but those of the gap");
    for (bucket, hour) in hours.iter().zip(&expected) {
        let minutes = year.minutes(*hour);
        let sum = |of: fn(&MonitorBucket) -> u64| minutes.iter().map(of).sum::<u64>();
        assert_eq!(bucket.start, Wall(year.from + hour * HOUR));
        assert_eq!(
            (bucket.observed_ms, bucket.good, bucket.failed, bucket.down_ms, bucket.latency.count()),
            (
                sum(|m| m.observed_ms),
                sum(|m| m.good),
                sum(|m| m.failed),
                sum(|m| m.down_ms),
                sum(|m| m.latency.count())
            ),
            "hour {hour}"
        );
    }
    // An hour of half a year ago, look by look and by the minute.
    let hour = HOURS / 2 + 25;
    let span = (Wall(year.from + hour * HOUR), Wall(year.from + (hour + 1) * HOUR));
    let looks = ask(store.reader().results(&ProbeTarget::Monitor(pay.clone()), span.0, span.1, 10_000));
    assert_eq!(looks.expect("it is read"), year.looks(hour).collect::<Vec<_>>());
    let minutes = ask(store.reader().monitor_history(&pay, Step::Minute, span.0, span.1));
    assert_eq!(minutes.expect("it is read"), year.minutes(hour));
    store.close();
}
