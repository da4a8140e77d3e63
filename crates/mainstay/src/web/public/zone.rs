//! Days, months and times of the day as the page tells them: in the zone of `status.zone`, whose days may have 23 or 25 hours.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, Zoned};
use mainstay_model::Wall;

use super::days::DAYS;
use super::view::Month;

/// Its name, for people.
pub(super) fn name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("UTC")
}

/// `12 Nov 2026, 04:14 CET`
pub(super) fn moment(at: Wall, zone: &TimeZone) -> String {
    written(at, zone, "%-d %b %Y, %H:%M %Z")
}

/// `04:14 CET`
pub(super) fn clock(at: Wall, zone: &TimeZone) -> String {
    written(at, zone, "%H:%M %Z")
}

/// `12 Nov 2026`
pub(super) fn date(at: Wall, zone: &TimeZone) -> String {
    written(at, zone, "%-d %b %Y")
}

/// `12 Nov`
pub(super) fn day(at: Wall, zone: &TimeZone) -> String {
    written(at, zone, "%-d %b")
}

/// `2026-11-12`
pub(super) fn iso_date(at: Wall, zone: &TimeZone) -> String {
    written(at, zone, "%F")
}

/// The month of a moment.
pub(super) fn month_of(at: Wall, zone: &TimeZone) -> Month {
    zoned(at, zone).map_or((1970, 1), |at| (at.year(), at.month()))
}

/// Where the last ninety days begin, oldest first, and where today ends.
pub(super) fn midnights(now: Wall, zone: &TimeZone) -> Vec<Wall> {
    let Some(today) = zoned(now, zone).map(|now| now.date()) else { return Vec::new() };
    let count = i32::try_from(DAYS).unwrap_or(i32::MAX);
    (1 - count..=1).filter_map(|day| midnight(today.checked_add(day.days()).ok()?, zone)).collect()
}

/// The first moment of a day: where clocks skip midnight, the moment to which they skip.
fn midnight(date: Date, zone: &TimeZone) -> Option<Wall> {
    let first = date.to_zoned(zone.clone()).ok()?;
    Some(Wall(first.timestamp().as_millisecond()))
}

fn zoned(at: Wall, zone: &TimeZone) -> Option<Zoned> {
    jiff::Timestamp::from_millisecond(at.0).ok().map(|at| at.to_zoned(zone.clone()))
}

fn written(at: Wall, zone: &TimeZone, form: &str) -> String {
    match zoned(at, zone) {
        Some(at) => at.strftime(form).to_string(),
        // A clock set to the year 10000: shown, not hidden.
        None => format!("{} ms", at.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Wall {
        Wall(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    /// How many hours the days around a moment have, the last of them first.
    fn hours(now: &str, zone: &str) -> Vec<i64> {
        let midnights = midnights(at(now), &TimeZone::get(zone).unwrap());
        assert_eq!(midnights.len(), DAYS + 1);
        midnights.windows(2).rev().map(|pair| pair[1].ms_since(pair[0]) / 3_600_000).collect()
    }

    #[test]
    fn a_day_has_23_or_25_hours_where_clocks_are_put() {
        assert_eq!(hours("2026-10-26T12:00:00Z", "Europe/Berlin")[..3], [24, 25, 24]);
        assert_eq!(hours("2026-03-30T12:00:00Z", "Europe/Berlin")[..3], [24, 23, 24]);
        assert!(hours("2026-03-30T12:00:00Z", "UTC").iter().all(|hours| *hours == 24));
        // Clocks go from 24:00 to 01:00, so the day begins at one.
        let cairo = TimeZone::get("Africa/Cairo").unwrap();
        let spring = midnights(at("2026-04-24T12:00:00Z"), &cairo);
        assert_eq!(spring[DAYS - 1], at("2026-04-23T22:00:00Z"));
        assert_eq!(clock(spring[DAYS - 1], &cairo), "01:00 EEST");
    }

    #[test]
    fn the_last_of_the_days_is_the_one_that_it_is_there() {
        let kolkata = TimeZone::get("Asia/Kolkata").unwrap();
        let midnights = midnights(at("2026-11-22T19:00:00Z"), &kolkata);
        assert_eq!(midnights[DAYS - 1], at("2026-11-22T18:30:00Z"), "it is the 23rd there");
        assert_eq!(iso_date(midnights[DAYS - 1], &kolkata), "2026-11-23");
        assert_eq!(moment(at("2026-11-22T19:00:00Z"), &kolkata), "23 Nov 2026, 00:30 IST");
        assert_eq!(month_of(at("2026-11-30T19:00:00Z"), &kolkata), (2026, 12));
    }

    #[test]
    fn a_clock_beyond_all_reason_has_no_days() {
        assert_eq!(midnights(Wall(i64::MAX), &TimeZone::UTC), []);
        assert_eq!(date(Wall(i64::MAX), &TimeZone::UTC), format!("{} ms", i64::MAX));
    }
}
