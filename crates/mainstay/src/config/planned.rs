//! When maintenance windows are open: times that recur in a time zone, or that come once, as moments.
//!
//! What recurs goes by [`crate::calendar`], also where clocks are put. A length is time that passes, whatever clocks are put. Of a window
//! with a beginning and an end, the end is the later one of two that it may be, so that all that was meant is in it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use mainstay_model::Wall;
use mainstay_model::window::Occurrence;

use super::address::Refusal;
use crate::calendar::Schedule;

/// Beginnings that are looked at: of one that comes each minute those of more than a day.
const BEGINNINGS_MAX: usize = 2000;
/// In their order, the first is 0.
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When one window is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    when: When,
    /// Of what comes again and again, how long each time lasts.
    lasts: Duration,
}

#[derive(Debug, Clone, PartialEq)]
enum When {
    Once(Occurrence),
    Again(Vec<Schedule>),
}

impl Planned {
    /// From one moment to another.
    pub(super) fn once(when: Occurrence) -> Self {
        Self { when: When::Once(when), lasts: Duration::ZERO }
    }

    /// By schedules, each time for so long.
    pub(super) fn again(schedules: Vec<Schedule>, lasts: Duration) -> Self {
        Self { when: When::Again(schedules), lasts }
    }

    /// The time that is open at `now`, if one is, and the next ones after it, at most `most`. Times that touch are one.
    pub fn occurrences(&self, now: Wall, most: usize) -> Vec<Occurrence> {
        let schedules = match &self.when {
            When::Once(when) if when.to > now => return vec![*when],
            When::Once(_) => return Vec::new(),
            When::Again(schedules) => schedules,
        };
        let lasts = i64::try_from(self.lasts.as_millis()).unwrap_or(i64::MAX);
        let mut times: Vec<Occurrence> = Vec::new();
        let mut at = Wall(now.0.saturating_sub(lasts));
        for _ in 0..BEGINNINGS_MAX {
            let Some(from) = schedules.iter().filter_map(|schedule| schedule.after(at)).min() else { break };
            at = from;
            let time = Occurrence { from, to: Wall(from.0.saturating_add(lasts)) };
            let ahead = times.iter().filter(|time| time.from > now).count();
            match times.last_mut() {
                Some(last) if time.from <= last.to => last.to = last.to.max(time.to),
                // The one before it can grow no more.
                _ if ahead >= most => break,
                _ => times.push(time),
            }
        }
        times.retain(|time| time.to > now);
        let open = usize::from(times.first().is_some_and(|time| time.from <= now));
        times.truncate(open + most);
        times
    }
}

/// A zone of the IANA database, as this machine knows it.
pub(super) fn zone(name: &str) -> Result<TimeZone, Refusal> {
    let plain = name.trim();
    if let Ok(zone) = TimeZone::get(plain) {
        return Ok(zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let remedy = match super::mistake::nearest(plain, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None if known.len() < 2 => "install the package tzdata: this machine knows no time zones".to_owned(),
        None => {
            "write a zone of the IANA database: \"Europe/Berlin\", \"America/New_York\" or \"UTC\"".to_owned()
        }
    };
    Err(("this machine knows no such time zone".to_owned(), remedy))
}

/// `sun 02:00`, `mon-fri 22:30`, `sat,sun 03:00`, or `04:00` on every day: as a cron expression.
pub(super) fn weekly(text: &str) -> Result<String, Refusal> {
    let refuse =
        |what: String| Err((what, "write \"sun 02:00\", \"mon-fri 22:30\" or \"sat,sun 03:00\"".to_owned()));
    let words: Vec<&str> = text.split_whitespace().collect();
    let (days, time) = match words[..] {
        [time] => (None, time),
        [days, time] => (Some(days), time),
        _ => return refuse("not days and a time of the day".to_owned()),
    };
    let Some(time) = time_of_day(time) else {
        return refuse(format!("{time:?} is no time of the day"));
    };
    let at = format!("{} {}", time.minute(), time.hour());
    let Some(days) = days else { return Ok(format!("{at} * * *")) };
    let day = |text: &str| {
        let short = text.to_ascii_lowercase();
        let full = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
        DAYS.iter().position(|day| *day == short).or_else(|| full.iter().position(|day| *day == short))
    };
    let mut on: Vec<String> = Vec::new();
    for part in days.split(',') {
        let ends = part.split_once('-').unwrap_or((part, part));
        let (Some(from), Some(to)) = (day(ends.0), day(ends.1)) else {
            return refuse(format!("{part:?} is no day of the week"));
        };
        // From Saturday on it goes on with Sunday.
        let length = (to + 7 - from) % 7;
        on.extend((0..=length).map(|n| ((from + n) % 7).to_string()));
    }
    Ok(format!("{at} * * {}", on.join(",")))
}

/// `02:00`.
fn time_of_day(text: &str) -> Option<Time> {
    let shaped = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    text.parse().ok().filter(|_| shaped)
}

/// `2026-12-01 02:00` in the zone, or a moment with an offset of its own; `later`: of two that it may be the later one.
pub(super) fn moment(text: &str, zone: &TimeZone, later: bool) -> Result<Wall, Refusal> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Wall(at.as_millisecond()));
    }
    let refusal = || {
        let what = "not a day with a time".to_owned();
        (what, "write \"2026-12-01 02:00\", or with an offset \"2026-12-01T02:00+01:00\"".to_owned())
    };
    let shaped = text.len() >= 16 && text.as_bytes().get(13) == Some(&b':');
    let local: DateTime = text.parse().ok().filter(|_| shaped).ok_or_else(refusal)?;
    let found = zone.to_ambiguous_timestamp(local);
    let at = match found.offset() {
        AmbiguousOffset::Fold { .. } if later => found.later(),
        _ => found.compatible(),
    };
    at.map(|at| Wall(at.as_millisecond())).map_err(|_| refusal())
}

#[cfg(test)]
mod tests;
