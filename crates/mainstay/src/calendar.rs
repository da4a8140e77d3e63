//! When something recurs: cron expressions in a time zone, right across daylight-saving changes.
//!
//! An expression with fixed hours means the clock on the wall: what falls into the hour that is left out comes at its end,
//! and what falls into the hour that comes twice comes once, the first time. An expression for every hour (`*` or `*/n` in the
//! second field) means time that passes: it comes in each hour that there really is.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};
use mainstay_model::Wall;

/// Nothing is looked for beyond so many days: a 29th of February comes within eight years, whatever the century.
const DAYS_MAX: u32 = 366 * 9;

/// A cron expression in a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule is none: what is wrong, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSchedule {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

/// The five fields, each a set of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// Days of the month and of the week are both written: either is enough.
    either: bool,
    /// In every hour that there really is.
    passing: bool,
}

impl Schedule {
    /// `30 3 * * mon-fri` (or `@daily` and the like) in a zone of the IANA database: `Europe/Berlin`.
    ///
    /// # Errors
    /// When it is no such expression, when it never comes, or when there is no such zone.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, BadSchedule> {
        let schedule = Self { cron: Cron::parse(expression)?, zone: parse_zone(zone)? };
        match schedule.after(Wall(0)) {
            Some(_) => Ok(schedule),
            None => Err(bad("no such day ever comes", "look at its day and month")),
        }
    }

    /// The next time after this one, to the minute. `None`: there is none that a calendar can tell.
    pub fn after(&self, at: Wall) -> Option<Wall> {
        let after = Timestamp::from_millisecond(at.0).ok()?;
        let found = if self.cron.passing { self.passing(after) } else { self.on_the_wall(after) };
        found.map(|found| Wall(found.as_millisecond()))
    }

    /// Through time as it passes, skipping days and hours that are not meant.
    fn passing(&self, after: Timestamp) -> Option<Timestamp> {
        let second = after.as_second();
        let mut at = Timestamp::from_second(second - second.rem_euclid(60) + 60).ok()?;
        for _ in 0..DAYS_MAX + 24 + 60 {
            let here = at.to_zoned(self.zone.clone());
            if !self.cron.is_day(here.date()) {
                at = here.date().tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?.timestamp();
            } else if !has(self.cron.hours, here.hour()) {
                at = at.checked_add((60 - i64::from(here.minute())).minutes()).ok()?;
            } else if !has(self.cron.minutes, here.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at);
            }
        }
        None
    }

    /// Through the hours that the clock on the wall shows.
    fn on_the_wall(&self, after: Timestamp) -> Option<Timestamp> {
        // The day before may still lie ahead where a zone has left a day out.
        let mut date = after.to_zoned(self.zone.clone()).date().yesterday().ok()?;
        for _ in 0..DAYS_MAX {
            if self.cron.is_day(date) {
                let hours = (0..24).filter(|hour| has(self.cron.hours, *hour));
                let times = hours.flat_map(|hour| {
                    (0..60).filter(|minute| has(self.cron.minutes, *minute)).map(move |minute| (hour, minute))
                });
                let mut moments = times.filter_map(|(hour, minute)| self.moment(date, hour, minute));
                if let Some(found) = moments.find(|moment| *moment > after) {
                    return Some(found);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// When the clock on the wall shows this; at the end of an hour that is left out, if it never does.
    fn moment(&self, date: Date, hour: i8, minute: i8) -> Option<Timestamp> {
        let shown = date.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
        let ambiguous = self.zone.to_ambiguous_timestamp(shown);
        let left_out = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        let moment = ambiguous.compatible().ok()?;
        match left_out {
            true => self.zone.preceding(moment).next().map(|change| change.timestamp()),
            false => Some(moment),
        }
    }
}

/// A zone of the IANA database by its name.
///
/// # Errors
/// When there is none of that name.
pub fn parse_zone(name: &str) -> Result<TimeZone, BadSchedule> {
    TimeZone::get(name).map_err(|_| {
        bad(
            &format!("there is no time zone {name:?}"),
            "write \"Europe/Berlin\", \"America/New_York\" or \"UTC\"",
        )
    })
}

impl Cron {
    fn parse(text: &str) -> Result<Self, BadSchedule> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            let what = format!("a cron expression has five fields, and this one has {}", parts.len());
            return Err(bad(&what, "write minute, hour, day, month and weekday: \"30 3 * * *\""));
        };
        let weekday_bits = field(weekdays, "weekday", 0, 7, &WEEKDAYS)?;
        Ok(Self {
            minutes: field(minutes, "minute", 0, 59, &[])?,
            hours: field(hours, "hour", 0, 23, &[])?,
            days: field(days, "day", 1, 31, &[])?,
            months: field(months, "month", 1, 12, &MONTHS)?,
            // Sunday is 0, and 7.
            weekdays: (weekday_bits | weekday_bits >> 7) & 0x7f,
            either: !days.starts_with('*') && !weekdays.starts_with('*'),
            passing: hours.starts_with('*'),
        })
    }

    fn is_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let meant = if self.either { day || weekday } else { day && weekday };
        meant && has(self.months, date.month())
    }
}

const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// One field: `*`, `5`, `1-5`, `*/15`, `mon,wed`.
fn field(text: &str, what: &str, least: u8, most: u8, names: &[&str]) -> Result<u64, BadSchedule> {
    let refused = || {
        let words = format!("{text:?} is no {what}: it is {least} to {most}");
        bad(&words, "write *, a number, 1-5, */15, or several of them with commas")
    };
    let number = |text: &str| -> Result<u8, BadSchedule> {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let named = named.and_then(|place| u8::try_from(place).ok()).map(|place| place + least);
        let plain = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let value = named.or_else(|| plain?.parse().ok()).ok_or_else(refused)?;
        if (least..=most).contains(&value) { Ok(value) } else { Err(refused()) }
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u8>().ok().filter(|step| *step > 0);
                (range, Some(step.ok_or_else(refused)?))
            }
            None => (part, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (least, most),
            (_, Some((first, last))) => (number(first)?, number(last)?),
            // `5/10` goes on to the end, as everywhere.
            (one, None) => (number(one)?, if step.is_some() { most } else { number(one)? }),
        };
        if first > last {
            return Err(refused());
        }
        (first..=last).step_by(usize::from(step.unwrap_or(1))).for_each(|value| bits |= 1 << value);
    }
    Ok(bits)
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| value < 64 && bits & (1 << value) != 0)
}

fn bad(what: &str, remedy: &str) -> BadSchedule {
    BadSchedule { what: what.to_owned(), remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(text: &str) -> Wall {
        Wall(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    /// The next ones, in UTC.
    fn next(expression: &str, zone: &str, after: &str, many: usize) -> Vec<String> {
        let schedule = Schedule::parse(expression, zone).unwrap();
        let mut at = wall(after);
        let step = || {
            at = schedule.after(at).unwrap();
            Timestamp::from_millisecond(at.0).unwrap().to_string()
        };
        std::iter::repeat_with(step).take(many).collect()
    }

    #[test]
    fn an_expression_comes_when_its_five_fields_say() {
        let from = "2026-11-23T07:00:00Z";
        assert_eq!(next("30 3 * * *", "UTC", from, 1), ["2026-11-24T03:30:00Z"]);
        assert_eq!(next("*/20 * * * *", "UTC", from, 2), ["2026-11-23T07:20:00Z", "2026-11-23T07:40:00Z"]);
        assert_eq!(next("0 9 * * mon-fri", "UTC", "2026-11-27T10:00:00Z", 1), ["2026-11-30T09:00:00Z"]);
        assert_eq!(next("0 0 1,15 * *", "UTC", from, 2), ["2026-12-01T00:00:00Z", "2026-12-15T00:00:00Z"]);
        assert_eq!(next("0 0 29 feb *", "UTC", from, 1), ["2028-02-29T00:00:00Z"]);
        // Both days are written, so either is enough: the 1st, or a Sunday.
        assert_eq!(next("0 0 1 * 7", "UTC", from, 2), ["2026-11-29T00:00:00Z", "2026-12-01T00:00:00Z"]);
        assert_eq!(next("@weekly", "UTC", from, 1), ["2026-11-29T00:00:00Z"]);
        assert_eq!(next("5/25 7 * * *", "UTC", from, 2), ["2026-11-23T07:05:00Z", "2026-11-23T07:30:00Z"]);
    }

    #[test]
    fn a_fixed_hour_comes_once_a_day_across_daylight_saving_changes() {
        // Berlin: 02:00 to 03:00 is left out on 29 March 2026, and comes twice on 25 October.
        let spring = next("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let autumn = next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let noon = next("0 12 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2);
        assert_eq!(noon, ["2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"]);
    }

    #[test]
    fn every_hour_is_every_hour_that_there_is() {
        let autumn = next("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4);
        assert_eq!(
            autumn,
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"]
        );
        let spring = next("15 */2 * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", 3);
        assert_eq!(spring, ["2026-03-29T02:15:00Z", "2026-03-29T04:15:00Z", "2026-03-29T06:15:00Z"]);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_what_to_write() {
        for (expression, what) in [
            ("", "five fields"),
            ("0 0 * *", "has 4"),
            ("60 0 * * *", "no minute: it is 0 to 59"),
            ("0 0 0 * *", "no day: it is 1 to 31"),
            ("0 0 * foo *", "no month"),
            ("*/0 * * * *", "no minute"),
            ("5-1 * * * *", "no minute"),
            ("+5 * * * *", "no minute"),
            ("0 0 30 2 *", "no such day ever comes"),
        ] {
            let refused = Schedule::parse(expression, "UTC").unwrap_err();
            assert!(refused.what.contains(what), "{expression}: {refused:?}");
        }
        assert!(Schedule::parse("0 0 * * *", "Mars/Olympus").unwrap_err().what.contains("no time zone"));
    }
}
