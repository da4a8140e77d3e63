//! Ninety days of a component: how much of each was available, and which are not known.
//!
//! Of a day two shares are known: of its requests, those that were well answered; of the time in which Mainstay was looking,
//! that in which somebody was answered. Its availability is the smaller of the two, so that neither an outage in a
//! quiet night nor errors in a busy hour is hidden by the other. The availability of ninety days is the mean of the days',
//! weighted by the time in which Mainstay was looking. What was not looked at is neither up nor down, and neither is what was in a
//! maintenance window. Where clocks are put, a day has 23 or 25 hours, all of which count.

use jiff::tz::TimeZone;
use mainstay_model::Wall;

use super::zone;
use crate::store::ServiceDay;

/// As many as other status pages show.
pub(super) const DAYS: usize = 90;
/// A day that was watched for less says nothing.
const LEAST_MS: u64 = 60_000;

/// The last ninety days of a zone, oldest first; the last one is today.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Days(pub(super) Vec<Day>);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Day {
    pub(super) start: Wall,
    /// 0 to 1; `None`: not known.
    pub(super) availability: Option<f64>,
    /// The part of the day up to now in which Mainstay was looking, 0 to 1.
    pub(super) watched: f64,
    /// Milliseconds of it in maintenance windows, of all services together.
    pub(super) excused_ms: u64,
    weight: u64,
}

/// How a day's bar is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// At most one request in a thousand failed.
    Good,
    /// At most one in twenty.
    Some,
    /// More.
    Bad,
    Unknown,
}

impl Days {
    /// Nothing is known.
    pub(super) fn unknown(now: Wall, zone: &TimeZone) -> Self {
        Self::of(now, zone, 1, &[])
    }

    /// Of what the record knows of a component's services, of which there are `services`.
    pub(super) fn of(now: Wall, zone: &TimeZone, services: usize, known: &[ServiceDay]) -> Self {
        let midnights = zone::midnights(now, zone);
        let days = midnights.windows(2).map(|pair| {
            let (start, end) = (pair[0], pair[1]);
            let elapsed = end.min(now).ms_since(start).max(1).unsigned_abs();
            let mut sum = [0u64; 4];
            let mut excused = 0u64;
            for day in known.iter().filter(|day| day.start == start) {
                let bad = day.failed.saturating_add(day.server_errors).saturating_add(day.shed);
                // What was in a maintenance window counts neither way.
                let (requests, bad) =
                    (day.requests.saturating_sub(day.excused_requests), bad.saturating_sub(day.excused_bad));
                let observed = day.observed_ms.saturating_sub(day.excused_ms);
                excused = excused.saturating_add(day.excused_ms);
                for (sum, more) in sum.iter_mut().zip([observed, requests, bad, day.down_ms]) {
                    *sum = sum.saturating_add(more);
                }
            }
            let [observed, requests, bad, down] = sum;
            let well = |bad: u64, all: u64| 1.0 - (bad.min(all) as f64 / all.max(1) as f64);
            let availability = (observed >= LEAST_MS).then(|| well(bad, requests).min(well(down, observed)));
            let whole = elapsed.saturating_mul(services.max(1) as u64);
            let watched = (observed.saturating_add(excused) as f64 / whole as f64).min(1.0);
            Day { start, availability, watched, excused_ms: excused, weight: observed }
        });
        Self(days.collect())
    }

    /// The availability of all days that are known; `None` when none is.
    pub(super) fn availability(&self) -> Option<f64> {
        let known = || self.0.iter().filter_map(|day| Some((day.availability?, day.weight as f64)));
        let weight: f64 = known().map(|(_, weight)| weight).sum();
        (weight > 0.0).then(|| known().map(|(share, weight)| share * weight).sum::<f64>() / weight)
    }

    /// How many days are known.
    pub(super) fn known(&self) -> usize {
        self.0.iter().filter(|day| day.availability.is_some()).count()
    }
}

impl Day {
    pub(super) fn sort(&self) -> Sort {
        match self.availability {
            None => Sort::Unknown,
            Some(share) if share >= 0.999 => Sort::Good,
            Some(share) if share >= 0.95 => Sort::Some,
            Some(_) => Sort::Bad,
        }
    }
}

/// A share in percent, never rounded up: what failed once was not all of it.
pub(super) fn percent(share: f64) -> String {
    let hundredths = (share * 10_000.0 + 1e-6).floor().clamp(0.0, 10_000.0);
    match hundredths {
        10_000.0 => "100\u{202f}%".to_owned(),
        hundredths => format!("{:.2}\u{202f}%", hundredths / 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    /// Noon of a day.
    const NOW: Wall = Wall(20_000 * DAY + DAY / 2);

    fn day(ago: i64, observed_ms: u64) -> ServiceDay {
        let start = Wall((20_000 - ago) * DAY);
        ServiceDay {
            start,
            observed_ms,
            requests: 0,
            failed: 0,
            server_errors: 0,
            shed: 0,
            down_ms: 0,
            excused_ms: 0,
            excused_requests: 0,
            excused_bad: 0,
        }
    }

    #[test]
    fn a_day_is_the_worse_of_its_requests_and_its_time() {
        let whole = DAY.unsigned_abs();
        let quiet = ServiceDay { down_ms: whole / 4, ..day(3, whole) };
        let busy = ServiceDay { requests: 1000, failed: 20, server_errors: 20, shed: 10, ..day(2, whole) };
        let both =
            ServiceDay { down_ms: whole / 100, ..ServiceDay { requests: 10, failed: 1, ..day(1, whole) } };
        let days = Days::of(NOW, &TimeZone::UTC, 1, &[quiet, busy, both]);
        let shares: Vec<_> = days.0[DAYS - 4..].iter().map(|day| day.availability).collect();
        assert_eq!(shares, [Some(0.75), Some(0.95), Some(0.9), None]);
        let sorts: Vec<_> = days.0[DAYS - 4..].iter().map(Day::sort).collect();
        assert_eq!(sorts, [Sort::Bad, Sort::Some, Sort::Bad, Sort::Unknown]);
    }

    #[test]
    fn time_that_was_not_watched_counts_neither_way() {
        let whole = DAY.unsigned_abs();
        let down = ServiceDay { down_ms: whole / 4, ..day(5, whole / 4) };
        let days = Days::of(NOW, &TimeZone::UTC, 1, &[down, day(4, whole), day(3, 59_000)]);
        assert_eq!(days.known(), 2);
        assert_eq!(days.availability(), Some(0.8));
        assert_eq!(days.0[DAYS - 6].watched, 0.25);
        assert_eq!(days.0[DAYS - 4].availability, None, "a minute is the least");
        assert_eq!(Days::unknown(NOW, &TimeZone::UTC).availability(), None);
    }

    #[test]
    fn maintenance_counts_neither_way_and_is_no_gap() {
        let whole = DAY.unsigned_abs();
        let night = ServiceDay {
            requests: 1000,
            failed: 100,
            excused_ms: whole / 2,
            excused_requests: 500,
            excused_bad: 100,
            ..day(2, whole)
        };
        let all_day = ServiceDay { excused_ms: whole, ..day(1, whole) };
        let days = Days::of(NOW, &TimeZone::UTC, 1, &[night, all_day]);
        let [night, all_day] = [days.0[DAYS - 3], days.0[DAYS - 2]];
        assert_eq!((night.availability, night.watched, night.excused_ms), (Some(1.0), 1.0, whole / 2));
        assert_eq!((all_day.availability, all_day.watched), (None, 1.0));
        assert_eq!((days.availability(), days.known()), (Some(1.0), 1));
    }

    #[test]
    fn today_is_measured_by_its_time_so_far_and_several_services_are_one() {
        let half = DAY.unsigned_abs() / 2;
        let days =
            Days::of(NOW, &TimeZone::UTC, 2, &[day(0, half), ServiceDay { down_ms: half, ..day(0, half) }]);
        let today = days.0[DAYS - 1];
        assert_eq!((today.availability, today.watched), (Some(0.5), 1.0));
    }

    #[test]
    fn a_day_of_23_or_25_hours_is_whole_when_all_of_it_was_watched() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (noon, hours) in [("2026-03-29T10:00:00Z", 23), ("2026-10-25T11:00:00Z", 25)] {
            let noon = noon.parse::<jiff::Timestamp>().unwrap().as_millisecond();
            let start = zone::midnights(Wall(noon), &berlin)[DAYS - 1];
            let length = hours * 3_600_000;
            let all_of_it = ServiceDay { start, down_ms: length / 10, ..day(0, length) };
            let days = Days::of(Wall(noon + DAY), &berlin, 1, &[all_of_it]);
            let shown = days.0[DAYS - 2];
            assert_eq!((shown.start, shown.watched, shown.availability), (start, 1.0, Some(0.9)));
            let half = ServiceDay { start, ..day(0, length / 2) };
            assert_eq!(Days::of(Wall(noon + DAY), &berlin, 1, &[half]).0[DAYS - 2].watched, 0.5);
        }
    }

    #[test]
    fn a_percentage_is_never_rounded_up() {
        let plain = |share| percent(share).replace('\u{202f}', " ");
        assert_eq!(plain(1.0), "100 %");
        assert_eq!(plain(0.999_999), "99.99 %");
        assert_eq!(plain(0.9995), "99.95 %");
        assert_eq!(plain(0.0), "0.00 %");
    }
}
