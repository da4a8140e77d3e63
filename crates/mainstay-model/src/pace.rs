//! How long a server takes over its answers beside its own past: what is usual at each hour of the day, and whether it takes
//! far longer now.
//!
//! Fellows show which of them is slow; a server that has none, or all of them when they are slow alike, only the past can
//! tell. A server that is slow by it is degraded and is not taken out of rotation: who would take over is as slow, or is not
//! there.
//!
//! It is judged by whole minutes. A minute is *slow* when the mean of its answers and the time within which nine of ten of them
//! came are both `past-times` as long as usual, and both at least 100 ms longer; two such minutes in a row call the server
//! slow, and two without end it. Nothing is said by a minute with fewer than 60 answers or with clearly more
//! requests than usual, in a strain, in a maintenance window, while Mainstay doubts its sight, or soon after the server came
//! back.
//!
//! What is *usual* is learned by hour from the minutes in which nothing is wrong with the service, nor in the next one, so an
//! incident is not learned.
//! It is known at hours that were seen on two days at least, of up to seven the one in the middle; and because a nightly job
//! may begin earlier or later, and clocks are changed twice a year, the hour before and the hour after count too, and the
//! slower ones decide. The hour that it is now does not. What has been slow for a whole day is how it is now: the past is
//! forgotten, and learned anew.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::histogram::Histogram;
use crate::id::ServerId;
use crate::input::ServerTraffic;
use crate::out::Out;
use crate::policy::TrafficPolicy;
use crate::server::Standing;
use crate::service::Service;
use crate::time::{Mono, Now, Wall};
use crate::words::ms;

/// What is judged at once.
const MINUTE: Duration = Duration::from_secs(60);
/// A minute with fewer answers says nothing.
pub(crate) const ANSWERS_MIN: u64 = 60;
/// So many slow minutes in a row call a server slow, and so many others end it.
const MINUTES: u32 = 2;
/// What is longer by less than this is never called slow.
const LEAST: Duration = Duration::from_millis(100);
/// More requests than so many times the usual are no usual load.
const LOAD_TIMES: f64 = 1.5;
/// A server that was started or came back is not judged for so long: its caches are cold.
const SETTLES: Duration = Duration::from_secs(300);
/// A slow server of which nothing can be said for so long is called slow no longer.
const SILENT: Duration = Duration::from_secs(180);
/// What has been slow for so long is usual.
const LEARNED_ANEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// An hour is known when it was seen on so many days.
const DAYS_MIN: usize = 2;
/// So many days are remembered of each hour.
const DAYS_MAX: usize = 7;
/// An hour of a day counts by so many minutes at least.
const LEARNED_MIN: u32 = 10;
/// What is learned is written down after so many minutes, and when its hour is over.
const WRITTEN_EVERY: u32 = 15;
const HOUR_MS: i64 = 3_600_000;

/// What one hour of a server's traffic was like, by those of its minutes in which all was well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceHour {
    /// When it began.
    pub at: Wall,
    /// So many minutes count.
    pub minutes: u32,
    /// The mean of their answers' times, in microseconds.
    pub mean_us: u64,
    /// Within so many microseconds nine of ten answers came, the mean over the minutes.
    pub p90_us: u64,
    /// Attempts a minute.
    pub per_minute: u64,
}

/// A server answers far more slowly than it usually does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slowed {
    /// Since when.
    pub since: Wall,
    /// The mean of the last slow minute's answers, in microseconds.
    pub mean_us: u64,
    /// What is usual, in microseconds.
    pub usual_us: u64,
}

impl fmt::Display for Slowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let factor = self.mean_us as f64 / self.usual_us.max(1) as f64;
        let factor = if factor < 9.95 { format!("{factor:.1}") } else { format!("{factor:.0}") };
        let (now, usual) = (words(self.mean_us), words(self.usual_us));
        write!(f, "{factor}x slower than it usually is at this hour: {now} instead of {usual}")
    }
}

/// What is to be remembered of a server's pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaceNews {
    /// What was learned of an hour, up to now. Replaces what was known of the same hour.
    Hour(PaceHour),
    /// It is slow.
    Slow(Slowed),
    /// It is slow no longer.
    Well,
    /// All that was learned is forgotten.
    Forgotten,
}

/// What is known of one server.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// By their beginnings, up to [`DAYS_MAX`] of each hour of the day beside the present one.
    hours: BTreeMap<Wall, PaceHour>,
    minute: Minute,
    /// The last minute in which all was well; it is learned when the next one is well too.
    good: Option<PaceHour>,
    /// Slow minutes in a row, or others while it is called slow.
    in_a_row: u32,
    slowed: Option<Slowed>,
    /// As it was told last.
    told: bool,
    /// The last minute that said something, and when it was over.
    judged: Option<(Judged, Mono)>,
    /// It came back a moment ago.
    not_before: Mono,
}

/// The answers of one minute.
#[derive(Debug, Default)]
struct Minute {
    index: u64,
    attempts: u64,
    latency: Histogram,
    /// It says nothing of the server's pace.
    spoilt: bool,
    /// Something is wrong with the service.
    troubled: bool,
}

/// One minute beside what is usual, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    mean_us: u64,
    usual_us: u64,
    pub(crate) slow: bool,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, usually {} at this hour", words(self.mean_us), words(self.usual_us))
    }
}

/// What is usual at an hour.
struct Usual {
    mean_us: u64,
    p90_us: u64,
    /// The mean of the slowest of the days.
    slowest_us: u64,
    per_minute: u64,
}

impl Pace {
    /// What an earlier run had learned.
    pub(crate) fn restore(
        &mut self,
        hours: impl Iterator<Item = PaceHour>,
        slowed: Option<Slowed>,
        now: Now,
    ) {
        self.hours = hours.map(|hour| (hour.at, hour)).collect();
        for of_day in 0..24 {
            self.forget_old(of_day, hour_of(now.wall));
        }
        self.slowed = slowed;
        self.told = slowed.is_some();
        self.judged = slowed.map(|slowed| (Judged::of(&slowed), now.mono));
    }

    /// Its answers are far slower than usual.
    pub(crate) fn slowed(&self) -> Option<&Slowed> {
        self.slowed.as_ref()
    }

    /// The last minute that said something.
    pub(crate) fn judged(&self, now: Mono) -> Option<Judged> {
        self.judged.filter(|(_, at)| now.since(*at) < SILENT).map(|(judged, _)| judged)
    }

    /// It was started anew, or somebody else took care of it: it is not as it was a moment ago.
    pub(crate) fn begins_anew(&mut self, now: Mono) {
        self.not_before = now + SETTLES;
        self.minute = Minute::default();
        self.in_a_row = 0;
        (self.slowed, self.judged, self.good) = (None, None, None);
    }

    /// When the present minute is over, or nothing was heard of a slow server for too long.
    pub(crate) fn due(&self) -> Option<Mono> {
        let over = (self.minute.attempts > 0).then(|| Mono((self.minute.index + 1) * nanos(MINUTE)));
        let silent = self.slowed.and(self.judged).map(|(_, at)| at + SILENT);
        over.into_iter().chain(silent).min()
    }

    fn report(&mut self, report: &ServerTraffic, spoilt: bool, troubled: bool, now: Now) {
        let minute = &mut self.minute;
        minute.index = now.mono.0 / nanos(MINUTE);
        minute.attempts += report.answered() + report.failed();
        minute.latency.merge(&report.latency);
        minute.spoilt |= spoilt;
        minute.troubled |= troubled;
    }

    /// Judges and learns what is over. What there is to be remembered goes to `news`.
    fn tend(&mut self, policy: &TrafficPolicy, now: Now, news: &mut impl FnMut(PaceNews)) {
        if self.minute.attempts > 0 && self.minute.index < now.mono.0 / nanos(MINUTE) {
            let minute = std::mem::take(&mut self.minute);
            self.judge(&minute, policy.past_times, now, news);
        }
        if self.judged.is_none_or(|(_, at)| now.mono >= at + SILENT) {
            self.slowed = None;
        }
        if self.slowed.is_none() && std::mem::take(&mut self.told) {
            news(PaceNews::Well);
        }
    }

    fn judge(&mut self, minute: &Minute, times: f64, now: Now, news: &mut impl FnMut(PaceNews)) {
        let enough = if self.slowed.is_some() { ANSWERS_MIN / 2 } else { ANSWERS_MIN };
        let figures = minute.latency.mean().zip(minute.latency.quantile(0.9));
        let figures = figures.filter(|_| !minute.spoilt && minute.latency.count() >= enough);
        let Some((mean_us, p90_us)) = figures.map(|(mean, p90)| (micros(mean), micros(p90))) else {
            self.in_a_row = 0;
            return;
        };
        let usual = self.usual(now.wall).filter(|_| times > 0.0);
        let slow = usual.as_ref().is_some_and(|usual| usual.is_far_below(mean_us, p90_us, times));
        // The minute in which it became slow is no good one either.
        let before = self.good.take().filter(|_| !slow && !minute.troubled);
        if let Some(before) = before {
            self.learn(before, news);
        }
        self.good = (!slow && !minute.troubled && self.slowed.is_none()).then(|| PaceHour {
            at: hour_of(now.wall),
            minutes: 1,
            mean_us,
            p90_us,
            per_minute: minute.attempts,
        });
        let usual =
            usual.filter(|usual| minute.attempts as f64 <= (usual.per_minute as f64 * LOAD_TIMES).max(1.0));
        let Some(usual) = usual else {
            self.in_a_row = 0;
            return;
        };
        let usual_us = usual.mean_us;
        self.judged = Some((Judged { mean_us, usual_us, slow }, now.mono));
        match &mut self.slowed {
            None => {
                self.in_a_row = if slow { self.in_a_row + 1 } else { 0 };
                if self.in_a_row >= MINUTES {
                    self.in_a_row = 0;
                    let slowed = Slowed { since: now.wall, mean_us, usual_us };
                    self.slowed = Some(slowed);
                    self.told = true;
                    news(PaceNews::Slow(slowed));
                }
            }
            Some(slowed) if usual.is_still_below(mean_us, times) => {
                self.in_a_row = 0;
                (slowed.mean_us, slowed.usual_us) = (mean_us, usual_us);
                let lasts = u64::try_from(now.wall.ms_since(slowed.since)).unwrap_or(0);
                if Duration::from_millis(lasts) >= LEARNED_ANEW_AFTER {
                    self.hours.clear();
                    (self.slowed, self.judged) = (None, None);
                    news(PaceNews::Forgotten);
                }
            }
            Some(_) => {
                self.in_a_row += 1;
                if self.in_a_row >= MINUTES {
                    self.in_a_row = 0;
                    self.slowed = None;
                }
            }
        }
    }

    /// A minute in which all was well, and in the next one too.
    fn learn(&mut self, minute: PaceHour, news: &mut impl FnMut(PaceNews)) {
        let at = minute.at;
        if !self.hours.contains_key(&at) {
            let before = self.hours.values().next_back();
            if let Some(hour) = before.filter(|hour| !hour.minutes.is_multiple_of(WRITTEN_EVERY)) {
                news(PaceNews::Hour(*hour));
            }
            self.forget_old(of_day(at), at);
        }
        let nothing = PaceHour { at, minutes: 0, mean_us: 0, p90_us: 0, per_minute: 0 };
        let hour = self.hours.entry(at).or_insert(nothing);
        let n = u64::from(hour.minutes);
        let mean = |known: u64, new: u64| (known * n + new) / (n + 1);
        hour.mean_us = mean(hour.mean_us, minute.mean_us);
        hour.p90_us = mean(hour.p90_us, minute.p90_us);
        hour.per_minute = mean(hour.per_minute, minute.per_minute);
        hour.minutes += minute.minutes;
        if hour.minutes.is_multiple_of(WRITTEN_EVERY) {
            news(PaceNews::Hour(*hour));
        }
    }

    /// Of this hour of the day only the newest days are remembered.
    fn forget_old(&mut self, of: i64, present: Wall) {
        let days = self.hours.keys().copied().filter(|at| of_day(*at) == of && *at != present);
        let days: Vec<Wall> = days.collect();
        for old in &days[..days.len().saturating_sub(DAYS_MAX)] {
            self.hours.remove(old);
        }
    }

    /// What is usual at this time of the day, if that is known.
    fn usual(&self, wall: Wall) -> Option<Usual> {
        let present = hour_of(wall);
        let mut usual: Option<Usual> = None;
        for shift in [0, -1, 1] {
            let of = (of_day(present) + shift).rem_euclid(24);
            let days = self.hours.values().filter(|hour| hour.minutes >= LEARNED_MIN);
            let days: Vec<&PaceHour> =
                days.filter(|hour| of_day(hour.at) == of && hour.at != present).collect();
            if days.len() < DAYS_MIN {
                if shift == 0 {
                    return None;
                }
                continue;
            }
            // Of an even number the greater one: in doubt nothing is slow.
            let middle = |figure: fn(&PaceHour) -> u64| {
                let mut figures: Vec<u64> = days.iter().map(|hour| figure(hour)).collect();
                figures.sort_unstable();
                figures[figures.len() / 2]
            };
            let found = Usual {
                mean_us: middle(|hour| hour.mean_us),
                p90_us: middle(|hour| hour.p90_us),
                slowest_us: days.iter().map(|hour| hour.mean_us).max().unwrap_or(0),
                per_minute: middle(|hour| hour.per_minute),
            };
            usual = Some(match usual {
                None => found,
                Some(known) => Usual {
                    mean_us: known.mean_us.max(found.mean_us),
                    p90_us: known.p90_us.max(found.p90_us),
                    slowest_us: known.slowest_us.max(found.slowest_us),
                    per_minute: known.per_minute.max(found.per_minute),
                },
            });
        }
        usual
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.hours.len() <= 24 * (DAYS_MAX + 1) && self.told >= self.slowed.is_some()
    }
}

impl Judged {
    fn of(slowed: &Slowed) -> Self {
        Self { mean_us: slowed.mean_us, usual_us: slowed.usual_us, slow: true }
    }
}

impl Usual {
    /// A minute with these figures is slow.
    fn is_far_below(&self, mean_us: u64, p90_us: u64, times: f64) -> bool {
        let far = |now: u64, usual: u64| {
            now as f64 >= usual as f64 * times && now >= usual.saturating_add(micros(LEAST))
        };
        far(mean_us, self.mean_us) && far(p90_us, self.p90_us) && mean_us > self.slowest_us
    }

    /// A minute with this mean is not well again.
    fn is_still_below(&self, mean_us: u64, times: f64) -> bool {
        mean_us as f64 >= self.mean_us as f64 * times / 2.0
            && mean_us >= self.mean_us.saturating_add(micros(LEAST / 2))
    }
}

impl Service {
    /// Takes a report on a server in.
    pub(crate) fn pace_report(&mut self, id: &ServerId, report: &ServerTraffic, out: &mut Out) {
        let now = out.now;
        let strained = self.load.is_strained() || self.load.may_need_every_server(now.mono);
        let blind = out.sight.suspect().is_some();
        let troubled = self.incident.is_some() || self.servers.values().any(|s| s.at_fault);
        self.tend_pace(id, out);
        let Some(server) = self.servers.get_mut(id) else { return };
        let came_back =
            now.mono < server.pace.not_before || server.traffic.came_back_within(SETTLES, now.mono);
        let serves = server.may_serve() && server.standing == Standing::Serves && server.slow_since.is_none();
        let spoilt = strained || blind || came_back || !serves || server.excused || self.excused;
        server.pace.report(report, spoilt, troubled, now);
    }

    /// Judges a server's last minute, if it is over.
    pub(crate) fn tend_pace(&mut self, id: &ServerId, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let now = out.now;
        server.pace.tend(&self.policy.traffic, now, &mut |news| {
            out.record(Record::Pace { server: id.clone(), news });
        });
    }

    /// All that carry traffic are slow by their own past.
    pub(crate) fn is_slow_as_a_whole(&self, now: Mono) -> bool {
        let mut busy =
            self.servers.values().filter(|s| s.may_serve() && s.traffic.attempts_lately(now) > 0).peekable();
        busy.peek().is_some() && busy.all(|s| s.pace.slowed.is_some())
    }
}

fn hour_of(wall: Wall) -> Wall {
    Wall(wall.0.div_euclid(HOUR_MS) * HOUR_MS)
}

/// The hour of the day (UTC) of an hour.
fn of_day(hour: Wall) -> i64 {
    hour.0.div_euclid(HOUR_MS).rem_euclid(24)
}

fn words(us: u64) -> String {
    ms(us as f64 / 1000.0)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
