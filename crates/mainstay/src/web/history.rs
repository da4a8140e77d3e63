//! Roll-ups as the columns of a chart: merged to a width that fits a page, with gaps left as gaps.

use mainstay_model::Wall;
use mainstay_model::histogram::Histogram;

use crate::store::{MonitorBucket, ServerBucket, ServiceBucket, Step};

const MINUTE: i64 = 60_000;
/// What was measured a moment ago is not in the record yet; that is no gap.
const PENDING: i64 = 20_000;

/// How far a chart looks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Range {
    #[default]
    Hour,
    Day,
    Month,
    Year,
}

impl Range {
    pub(super) const ALL: [Range; 3] = [Range::Hour, Range::Day, Range::Month];
    /// Those of what is looked at for years.
    pub(super) const LONG: [Range; 4] = [Range::Hour, Range::Day, Range::Month, Range::Year];

    /// The word in an address: `?range=24h`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Range::Hour => "1h",
            Range::Day => "24h",
            Range::Month => "30d",
            Range::Year => "1y",
        }
    }

    /// The words on a page.
    pub(super) fn words(self) -> &'static str {
        match self {
            Range::Hour => "1 hour",
            Range::Day => "24 hours",
            Range::Month => "30 days",
            Range::Year => "1 year",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.as_str() == text)
    }

    pub(super) fn parse_long(text: &str) -> Option<Self> {
        Self::LONG.into_iter().find(|range| range.as_str() == text)
    }

    /// The roll-ups that it is made of.
    pub(super) fn step(self) -> Step {
        match self {
            Range::Hour | Range::Day => Step::Minute,
            Range::Month | Range::Year => Step::Hour,
        }
    }

    /// The width of a column, in milliseconds.
    pub(super) fn column(self) -> i64 {
        match self {
            Range::Hour => MINUTE,
            Range::Day => 15 * MINUTE,
            Range::Month => 8 * 60 * MINUTE,
            Range::Year => 4 * 24 * 60 * MINUTE,
        }
    }

    /// What a column is called.
    pub(super) fn column_words(self) -> &'static str {
        match self {
            Range::Hour => "a minute",
            Range::Day => "15 minutes",
            Range::Month => "8 hours",
            Range::Year => "4 days",
        }
    }

    pub(super) fn columns(self) -> usize {
        match self {
            Range::Hour => 60,
            Range::Day => 96,
            Range::Month => 90,
            Range::Year => 92,
        }
    }

    /// From where to where it looks when it is `now`; the last column is the one that runs.
    pub(super) fn window(self, now: Wall) -> (Wall, Wall) {
        let column = self.column();
        let to = now.0.div_euclid(column).saturating_add(1).saturating_mul(column);
        (Wall(to.saturating_sub(column * self.columns() as i64)), Wall(to))
    }
}

/// One column of every chart of a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) start: Wall,
    /// Enough of it was watched to say something.
    pub(super) known: bool,
    /// Milliseconds of it in which Mainstay was looking.
    pub(super) observed_ms: u64,
    /// Milliseconds of those in which a monitor was down.
    pub(super) down_ms: u64,
    /// Milliseconds beside those in which a monitor was in a maintenance window.
    pub(super) excused_ms: u64,
    /// Counts in the order of [`Outcomes`].
    pub(super) counts: Counts,
    pub(super) latency: Histogram,
    pub(super) probes_good: u64,
    pub(super) probes_failed: u64,
    pub(super) probe_latency: Histogram,
}

impl Column {
    /// All that was counted.
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// One of the counts a second.
    pub(super) fn per_second(&self, count: u64) -> f64 {
        if self.observed_ms == 0 { 0.0 } else { count as f64 * 1000.0 / self.observed_ms as f64 }
    }

    /// A percentile of the latency, in milliseconds.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        self.latency.quantile(quantile).map(|latency| latency.as_secs_f64() * 1000.0)
    }
}

/// Counts of a column, by outcome.
pub(super) type Counts = [u64; 6];

/// What the counts of a column are, from the bottom of a stacked bar to its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcomes {
    /// What is counted.
    pub(super) noun: &'static str,
    /// Name and style of each count.
    pub(super) series: &'static [(&'static str, &'static str)],
    /// Which of them are in every legend; the others only where there are any.
    pub(super) usual: &'static [usize],
    /// What is waited for.
    pub(super) wait: &'static str,
}

impl Outcomes {
    /// Which of the counts are shown, and what they are called.
    pub(super) fn shown(self, columns: &[Column]) -> Vec<(usize, (&'static str, &'static str))> {
        let any = |i: usize| columns.iter().any(|column| column.counts[i] > 0);
        let series = self.series.iter().copied().enumerate();
        series.filter(|(i, _)| self.usual.contains(i) || any(*i)).collect()
    }
}

/// Attempts at a server.
pub(super) const OF_SERVER: Outcomes = Outcomes {
    noun: "Attempts",
    series: &[("answered", "ok"), ("4xx", "client"), ("5xx", "error"), ("failed", "failed")],
    usual: &[0, 1, 2, 3],
    wait: "Time to first byte",
};

/// Connections of a TCP service, as its visitors saw them.
pub(super) const OF_TCP: Outcomes =
    Outcomes { noun: "Connections", usual: &[0, 1, 3], wait: "Time to accept", ..OF_SERVICE };

/// Connections to a server of a TCP service.
pub(super) const OF_TCP_SERVER: Outcomes = Outcomes { usual: &[0, 3], wait: "Time to accept", ..OF_SERVER };

/// Requests of a service, as its visitors saw them.
pub(super) const OF_SERVICE: Outcomes = Outcomes {
    noun: "Requests",
    series: &[
        ("answered", "ok"),
        ("saved by a retry", "saved"),
        ("5xx", "error"),
        ("failed", "failed"),
        ("shed", "shed"),
        ("limited", "limited"),
    ],
    usual: &[0, 1, 2, 3],
    wait: "Time to first byte",
};

/// The columns of a server's charts.
pub(super) fn of_server(range: Range, now: Wall, buckets: &[ServerBucket]) -> Vec<Column> {
    let mut columns = blank_columns(range, now);
    for bucket in buckets {
        let Some(column) = column_of(&mut columns, range, bucket.start) else { continue };
        column.observed_ms += bucket.observed_ms;
        let failed = bucket.failures.values().sum();
        add(&mut column.counts, [bucket.ok, bucket.client_errors, bucket.server_errors, failed, 0, 0]);
        column.latency.merge(&bucket.latency);
        column.probes_good += bucket.probes_good;
        column.probes_failed += bucket.probes_failed;
        column.probe_latency.merge(&bucket.probe_latency);
    }
    mark_known(&mut columns, range, now);
    columns
}

/// The columns of a service's charts.
pub(super) fn of_service(range: Range, now: Wall, buckets: &[ServiceBucket]) -> Vec<Column> {
    let mut columns = blank_columns(range, now);
    for bucket in buckets {
        let Some(column) = column_of(&mut columns, range, bucket.start) else { continue };
        column.observed_ms += bucket.observed_ms;
        let ServiceBucket { requests, failed, server_errors, saved, shed, limited, .. } = *bucket;
        let ok = requests.saturating_sub(failed + server_errors + saved + shed + limited);
        add(&mut column.counts, [ok, saved, server_errors, failed, shed, limited]);
        column.latency.merge(&bucket.latency);
    }
    mark_known(&mut columns, range, now);
    columns
}

/// The columns of a monitor's charts: its probes are all that there is.
pub(super) fn of_monitor(range: Range, now: Wall, buckets: &[MonitorBucket]) -> Vec<Column> {
    let mut columns = blank_columns(range, now);
    for bucket in buckets {
        let Some(column) = column_of(&mut columns, range, bucket.start) else { continue };
        column.observed_ms += bucket.observed_ms;
        column.down_ms += bucket.down_ms;
        column.excused_ms += bucket.excused_ms;
        column.latency.merge(&bucket.latency);
        column.probes_good += bucket.good;
        column.probes_failed += bucket.failed;
        column.probe_latency.merge(&bucket.latency);
    }
    mark_known(&mut columns, range, now);
    columns
}

/// The columns of a range, of which nothing is known yet.
pub(super) fn blank_columns(range: Range, now: Wall) -> Vec<Column> {
    let (from, _) = range.window(now);
    (0..range.columns() as i64)
        .map(|i| Column {
            start: Wall(from.0.saturating_add(i * range.column())),
            known: false,
            observed_ms: 0,
            down_ms: 0,
            excused_ms: 0,
            counts: Counts::default(),
            latency: Histogram::new(),
            probes_good: 0,
            probes_failed: 0,
            probe_latency: Histogram::new(),
        })
        .collect()
}

fn column_of(columns: &mut [Column], range: Range, start: Wall) -> Option<&mut Column> {
    let from = columns.first()?.start;
    let index = start.ms_since(from).div_euclid(range.column());
    columns.get_mut(usize::try_from(index).ok()?)
}

fn add(counts: &mut Counts, more: Counts) {
    for (count, more) in counts.iter_mut().zip(more) {
        *count = count.saturating_add(more);
    }
}

/// A column is known when at least half of its time up to now was watched.
pub(super) fn mark_known(columns: &mut [Column], range: Range, now: Wall) {
    for column in columns {
        let elapsed = now.ms_since(column.start).clamp(0, range.column());
        let observed =
            i64::try_from(column.observed_ms.saturating_add(column.excused_ms)).unwrap_or(i64::MAX);
        column.known = observed.saturating_mul(2) >= elapsed || elapsed < PENDING;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use mainstay_model::ServiceId;
    use mainstay_model::input::FailureKind;

    use super::*;

    const NOW: Wall = Wall(1_794_453_247_250);

    #[test]
    fn of_connections_no_status_is_spoken_but_what_was_counted_is_always_shown() {
        let names = |outcomes: Outcomes, columns: &[Column]| -> Vec<&str> {
            outcomes.shown(columns).into_iter().map(|(_, (name, _))| name).collect()
        };
        let mut columns = blank_columns(Range::Hour, NOW);
        assert_eq!(names(OF_TCP, &columns), ["answered", "saved by a retry", "failed"]);
        assert_eq!(names(OF_TCP_SERVER, &columns), ["answered", "failed"]);
        columns[0].counts[4] = 1;
        assert_eq!(names(OF_TCP, &columns), ["answered", "saved by a retry", "failed", "shed"]);
    }

    fn bucket(start: Wall, width: i64) -> ServerBucket {
        let mut latency = Histogram::new();
        latency.record(Duration::from_millis(10));
        ServerBucket {
            server: ServiceId::new("shop").server("app-1"),
            start,
            observed_ms: width as u64,
            ok: 1,
            client_errors: 2,
            server_errors: 3,
            failures: BTreeMap::from([(FailureKind::Refused, 3), (FailureKind::Reset, 1)]),
            latency,
            probes_good: 5,
            probes_failed: 6,
            probe_latency: Histogram::new(),
        }
    }

    #[test]
    fn a_window_ends_with_the_column_that_runs_and_has_whole_columns() {
        for range in Range::ALL {
            let (from, to) = range.window(NOW);
            assert!(from < NOW && NOW < to);
            assert_eq!(to.0 % range.column(), 0);
            assert_eq!((to.0 - from.0) / range.column(), range.columns() as i64);
            assert_eq!(Range::parse(range.as_str()), Some(range));
        }
    }

    #[test]
    fn minutes_are_merged_into_the_columns_of_a_day() {
        let (from, _) = Range::Day.window(NOW);
        let buckets: Vec<_> = (0..15).map(|i| bucket(Wall(from.0 + i * MINUTE), MINUTE)).collect();
        let columns = of_server(Range::Day, NOW, &buckets);
        assert_eq!(columns.len(), 96);
        assert_eq!(columns[0].counts, [15, 30, 45, 60, 0, 0]);
        assert_eq!((columns[0].probes_good, columns[0].probes_failed), (75, 90));
        assert_eq!(columns[0].latency.count(), 15);
        assert!((columns[0].per_second(columns[0].total()) - 150.0 / 900.0).abs() < 1e-9);
        assert!(columns[0].known);
    }

    #[test]
    fn hours_are_merged_into_the_columns_of_a_year_and_none_is_lost() {
        let (from, to) = Range::Year.window(NOW);
        let hours = to.ms_since(from) / (60 * MINUTE);
        let buckets: Vec<_> =
            (0..hours).map(|i| bucket(Wall(from.0 + i * 60 * MINUTE), 60 * MINUTE)).collect();
        let columns = of_server(Range::Year, NOW, &buckets);
        assert_eq!((columns.len(), hours), (92, 368 * 24));
        assert!(columns.iter().all(|column| column.known && column.latency.count() == 96));
        assert_eq!(columns.iter().map(|column| column.probes_good).sum::<u64>(), 5 * 368 * 24);
    }

    #[test]
    fn time_that_was_not_watched_is_unknown_and_not_zero() {
        let (from, to) = Range::Hour.window(NOW);
        let mut buckets: Vec<_> = (0..60).map(|i| bucket(Wall(from.0 + i * MINUTE), MINUTE)).collect();
        buckets.retain(|b| b.start.0 < from.0 + 10 * MINUTE || b.start.0 >= from.0 + 20 * MINUTE);
        buckets[5].observed_ms = 20_000;
        let columns = of_server(Range::Hour, NOW, &buckets);
        let unknown: Vec<_> = (0..60).filter(|&i| !columns[i].known).collect();
        assert_eq!(unknown, [5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert!(columns.last().is_some_and(|last| last.start.0 + MINUTE == to.0));
    }

    #[test]
    fn the_column_that_has_just_begun_is_no_gap() {
        let (_, to) = Range::Hour.window(NOW);
        let just_begun = Wall(to.0 - MINUTE + 3_000);
        let columns = of_server(Range::Hour, just_begun, &[]);
        assert!(columns[59].known);
        assert!(!columns[58].known);
    }

    #[test]
    fn buckets_outside_the_window_are_left_out() {
        let (from, to) = Range::Hour.window(NOW);
        let columns = of_server(
            Range::Hour,
            NOW,
            &[bucket(Wall(from.0 - 1), 1), bucket(to, 1), bucket(Wall(i64::MIN), 1)],
        );
        assert_eq!(columns.iter().map(Column::total).sum::<u64>(), 0);
    }

    #[test]
    fn a_services_saved_and_refused_requests_are_set_apart_from_the_plainly_answered() {
        let (from, _) = Range::Hour.window(NOW);
        let bucket = ServiceBucket {
            service: ServiceId::new("shop"),
            start: from,
            observed_ms: 60_000,
            requests: 100,
            failed: 1,
            server_errors: 2,
            saved: 3,
            slow: 9,
            shed: 4,
            limited: 5,
            down_ms: 0,
            excused_ms: 0,
            excused_requests: 0,
            excused_bad: 0,
            latency: Histogram::new(),
        };
        assert_eq!(of_service(Range::Hour, NOW, &[bucket])[0].counts, [85, 3, 2, 1, 4, 5]);
    }
}
