//! A server that goes up and down is damped: each time it is held out of rotation for longer before it may return.
//!
//! A *fall* is a server that its probes or real requests put out of rotation, and that comes back by itself. From the
//! [`FREE`]th of them on it is held down when it is good again: for [`HOLD_BASE`], twice as long with each further fall, and
//! [`HOLD_MAX`] at most. Each [`FORGET`] of good health in rotation forgets one fall. What real requests ejected has had its hold
//! already: ejections double by themselves.
//!
//! A process that ended, and a fall that a restart mended, are not counted: recovery has growing delays and a budget of its own.
//! Nobody is held down who is needed: without it fewer than `panic-threshold` of the primaries would serve.
//!
//! The whole spell is one incident: it is over when everything was good for as long as the last hold-down.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::out::Out;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::snapshot::Signal;
use crate::time::Mono;
use crate::words::{count, span};

/// So many falls are bad luck; the next one is held down.
const FREE: u32 = 2;
/// The first hold-down.
const HOLD_BASE: Duration = Duration::from_secs(5);
/// The longest.
const HOLD_MAX: Duration = Duration::from_secs(120);
/// So long in good health forgets one fall.
const FORGET: Duration = Duration::from_secs(120);
/// More falls make no hold-down longer.
const LEVEL_MAX: u32 = 8;

/// How often a server fell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flaps {
    /// Falls that are not forgotten.
    level: u32,
    /// Falls since the first that is not forgotten.
    falls: u32,
    /// When that was.
    since: Mono,
    /// It is down now.
    down: bool,
    /// Real requests ejected it, and nobody else.
    ejected: bool,
    /// It was started anew since it fell.
    mended: bool,
    /// Since when good health is counted that forgets.
    good_since: Mono,
    /// Held down until then.
    held_until: Option<Mono>,
}

/// The same for the Mainstay that goes on: times as ages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct CarriedFlaps {
    level: u32,
    falls: u32,
    age: Duration,
    down: bool,
    ejected: bool,
    mended: bool,
    good_for: Duration,
    /// It is held down for so long yet.
    held_for: Option<Duration>,
}

impl Flaps {
    pub(crate) fn carry(&self, now: Mono) -> CarriedFlaps {
        let Self { level, falls, since, down, ejected, mended, good_since, held_until } = *self;
        CarriedFlaps {
            level,
            falls,
            age: now.since(since),
            down,
            ejected,
            mended,
            good_for: now.since(good_since),
            held_for: held_until.map(|until| until.since(now)),
        }
    }

    pub(crate) fn carried(from: &CarriedFlaps, now: Mono) -> Self {
        let CarriedFlaps { level, falls, age, down, ejected, mended, good_for, held_for } = *from;
        let (since, good_since) = (now.before(age), now.before(good_for));
        let held_until = held_for.map(|left| now + left);
        Self { level, falls, since, down, ejected, mended, good_since, held_until }
    }

    /// It is good, and held down all the same.
    pub(crate) fn held_until(&self) -> Option<Mono> {
        self.held_until
    }

    /// How long everything must have been good before this spell is over.
    pub(crate) fn quiet_for(&self) -> Duration {
        hold(self.level)
    }

    /// It goes up and down.
    pub(crate) fn is_flapping(&self) -> bool {
        self.level > FREE
    }

    /// "down 5 times in 3m".
    pub(crate) fn words(&self, now: Mono) -> String {
        let times = count(u64::from(self.falls), "time");
        let secs = now.since(self.since).as_secs();
        let exact = if secs < 120 { secs } else { secs / 60 * 60 };
        format!("down {times} in {}", span(Duration::from_secs(exact.max(1))))
    }

    /// It fell; `ejected`: by real requests.
    fn fell(&mut self, ejected: bool, now: Mono) {
        if self.level == 0 {
            (self.since, self.falls) = (now, 0);
        }
        self.level = (self.level + 1).min(LEVEL_MAX);
        self.falls = self.falls.saturating_add(1);
        (self.down, self.ejected, self.mended, self.held_until) = (true, ejected, false, None);
    }

    /// It came back by itself.
    fn rose(&mut self, now: Mono) {
        self.down = false;
        let by_itself = !self.ejected && !self.mended;
        let hold = if by_itself { hold(self.level) } else { Duration::ZERO };
        self.held_until = (!hold.is_zero()).then(|| now + hold);
        self.good_since = now + hold;
    }

    /// Its process ended, which is recovery's to mend.
    pub(crate) fn ended(&mut self) {
        if !std::mem::replace(&mut self.down, true) {
            self.mended = true;
        }
        self.held_until = None;
    }

    /// Its process was started: whatever it fell for, it does not come back by itself.
    pub(crate) fn restarted(&mut self) {
        if self.down && !std::mem::replace(&mut self.mended, true) {
            self.level = self.level.saturating_sub(1);
            self.falls = self.falls.saturating_sub(1);
        }
        self.held_until = None;
    }

    /// A person says that it is ready.
    pub(crate) fn forgive(&mut self) {
        *self = Self::default();
    }

    /// The hold-down is over, or falls are forgotten.
    pub(crate) fn expire(&mut self, now: Mono) {
        self.held_until = self.held_until.filter(|until| now < *until);
        while !self.down && self.level > 0 && now >= self.good_since + FORGET {
            self.good_since = self.good_since + FORGET;
            self.level -= 1;
        }
    }

    /// When something of that is due.
    pub(crate) fn due(&self) -> Option<Mono> {
        let forgets = (!self.down && self.level > 0).then(|| self.good_since + FORGET);
        [self.held_until, forgets].into_iter().flatten().min()
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.level <= LEVEL_MAX && !(self.down && self.held_until.is_some())
    }
}

/// The hold-down after so many falls.
fn hold(level: u32) -> Duration {
    match level.checked_sub(FREE + 1) {
        Some(doublings) => HOLD_BASE.saturating_mul(2u32.saturating_pow(doublings)).min(HOLD_MAX),
        None => Duration::ZERO,
    }
}

impl Server {
    /// What `why` says of it.
    pub(crate) fn flap_signal(&self, now: Mono) -> Option<Signal> {
        (self.flaps.level > 1).then(|| Signal {
            name: "falls".to_owned(),
            value: self.flaps.words(now),
            threshold: format!(
                "held down from the {}rd on, for {} and twice as long each time up to {}; one is forgotten in {} of good health",
                FREE + 1,
                span(HOLD_BASE),
                span(HOLD_MAX),
                span(FORGET)
            ),
            bad: self.flaps.held_until.is_some(),
        })
    }
}

impl Service {
    /// Counts the falls of a server, holds it down, and lets it back where it is needed.
    pub(crate) fn judge_flapping(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now;
        let needed = self.is_needed(id);
        let Some(server) = self.servers.get_mut(id) else { return };
        if !server.is_ready() {
            (server.flaps.down, server.flaps.held_until) = (false, None);
            return;
        }
        // What its process does is recovery's, and what nobody sees neither falls nor comes back.
        if server.unseen || server.is_ended() || server.is_starting(&self.policy, now.mono) {
            return;
        }
        let bad = server.probes.verdict == Verdict::Bad;
        let down = bad || server.ejection.is_some();
        let flaps = &mut server.flaps;
        if down && !flaps.down {
            flaps.fell(!bad, now.mono);
            if flaps.is_flapping()
                && let Some(open) = &mut self.incident
            {
                let whose = format!("{} of {} ", id.name, id.service);
                open.retitle(&whose, format!("{whose}flaps: {}", flaps.words(now.mono)));
            }
        } else if down {
            flaps.ejected &= !bad;
        } else if flaps.down {
            flaps.rose(now.mono);
            if let Some(until) = flaps.held_until.filter(|_| !needed) {
                let (words, hold) = (flaps.words(now.mono), span(until - now.mono));
                let text = format!("held out of rotation for {hold} although it is good again: {words}");
                server.changed(now.wall, text.clone());
                if let Some(open) = &mut self.incident {
                    open.entry(EntryKind::Withheld, Some(id), None, format!("{} is {text}", id.name), out);
                }
            }
        }
        if let Some(server) = self.servers.get_mut(id).filter(|s| needed && s.flaps.held_until.is_some()) {
            server.flaps.held_until = None;
            server.flaps.good_since = now.mono;
            server.changed(now.wall, "not held out of rotation: it is needed".to_owned());
        }
    }

    /// Without it too few would serve.
    fn is_needed(&self, id: &ServerId) -> bool {
        let ready = self.servers.values().filter(|s| s.is_ready() && s.is_primary()).count();
        let fellows = self.servers.iter().filter(|(other, s)| *other != id && s.may_serve());
        let primaries = fellows.filter(|(_, s)| s.is_primary()).count();
        primaries == 0 || (primaries as f64) < ready as f64 * self.policy.panic_threshold
    }

    /// How long everything must have been good before the incident is over.
    pub(crate) fn resolve_after(&self) -> Duration {
        let Some(open) = &self.incident else { return self.policy.resolve_after };
        let took_part = open.incident().servers.iter().filter_map(|id| self.servers.get(id));
        let spell = took_part.filter(|s| s.is_ready()).map(|s| s.flaps.quiet_for()).max();
        self.policy.resolve_after.max(spell.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::NoticeKind;
    use crate::incident::IncidentState;
    use crate::input::{AdminState, ProbeFailure};
    use crate::snapshot::Health;
    use crate::testing::{Bench, app, policy};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Down for three seconds, and good again.
    fn falls(bench: &mut Bench, n: u32) {
        bench.is_bad(&app(n), ProbeFailure::Refused);
        bench.advance(seconds(3));
        bench.is_good(&app(n));
        bench.advance(Duration::from_millis(1500));
    }

    #[test]
    fn the_third_fall_is_held_down_and_each_further_one_twice_as_long() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 8].map(|n| hold(n).as_secs()), [0, 0, 5, 10, 20, 40, 80, 120]);
        let mut bench = Bench::settled(policy(3, false));
        for held in [0, 0, 5, 10, 20] {
            falls(&mut bench, 1);
            assert_eq!(bench.targets().len(), if held == 0 { 3 } else { 2 }, "{held}");
            if held > 0 {
                let server = bench.server(&app(1));
                assert_eq!(server.health, Health::Degraded);
                assert!(
                    server.why.rule.starts_with("good again, and held out of rotation"),
                    "{:?}",
                    server.why
                );
                bench.advance(seconds(held - 2));
                assert_eq!(bench.targets().len(), 2, "{held}");
                bench.advance(seconds(2));
            }
            assert_eq!(bench.targets().len(), 3, "{held}");
        }
    }

    #[test]
    fn a_spell_of_flapping_is_one_incident_with_the_count_and_ends_when_it_was_quiet() {
        let mut bench = Bench::settled(policy(3, false));
        for _ in 0..6 {
            falls(&mut bench, 1);
        }
        let incident = &bench.incidents()[0];
        assert_eq!(incident.title, "app-1 of shop flaps: down 6 times in 23s");
        // Held for 40 s, and good for as long after that.
        bench.advance(seconds(75));
        assert_eq!(bench.targets().len(), 3);
        assert_eq!(bench.incidents()[0].state, IncidentState::Open);
        bench.advance(seconds(30));
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
    }

    #[test]
    fn good_health_forgets_one_fall_after_the_other() {
        let mut bench = Bench::settled(policy(3, false));
        for _ in 0..3 {
            falls(&mut bench, 1);
        }
        bench.advance(FORGET + seconds(10));
        assert!(bench.server(&app(1)).why.signals.iter().any(|s| s.name == "falls"));
        bench.advance(FORGET * 2);
        assert!(bench.server(&app(1)).why.signals.iter().all(|s| s.name != "falls"));
        falls(&mut bench, 1);
        assert_eq!(bench.targets().len(), 3, "it has no past");
    }

    #[test]
    fn nobody_is_held_down_who_is_needed() {
        let mut bench = Bench::settled(policy(2, false));
        for _ in 0..5 {
            falls(&mut bench, 1);
        }
        assert_eq!(bench.targets(), ["app-2"], "half of the primaries is enough");
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(seconds(3));
        assert_eq!(bench.targets(), ["app-1"]);
    }

    #[test]
    fn what_a_restart_mended_is_no_fall_nor_is_a_process_that_ended() {
        let mut bench = Bench::settled(policy(3, true));
        for _ in 0..3 {
            bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
            bench.advance(seconds(6));
            bench.is_good(&app(1));
            bench.advance(seconds(20));
        }
        assert!(bench.orders().len() >= 3, "each hang was answered with a restart");
        let why = bench.server(&app(1)).why;
        assert!(why.signals.iter().all(|s| s.name != "falls"), "{why:?}");
        for _ in 0..4 {
            bench.crash(&app(2));
            bench.advance(seconds(15));
        }
        assert!(bench.server(&app(2)).why.signals.iter().all(|s| s.name != "falls"));
    }

    #[test]
    fn a_person_who_makes_it_ready_forgives() {
        let mut bench = Bench::settled(policy(3, false));
        for _ in 0..5 {
            falls(&mut bench, 1);
        }
        assert_eq!(bench.targets().len(), 2);
        bench.admin(&app(1), AdminState::Maintenance);
        bench.admin(&app(1), AdminState::Ready);
        assert_eq!(bench.targets().len(), 3);
    }
}
