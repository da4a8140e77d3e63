//! How many requests a service can have under way at once, found out from how long its answers take.
//!
//! Up to what its servers can do at once, a further request costs the others nothing; beyond, they queue in the servers
//! and each takes longer. So the time of the last answers is compared with what is usual: as long as it is, a little
//! more is let in; when it rises, less, in proportion. (The *gradient* of Netflix's concurrency-limits and of Envoy's
//! adaptive concurrency filter; its constants are theirs but for those that say otherwise.)
//!
//! What is usual falls within seconds and rises within minutes. An average that goes both ways alike would take a lasting
//! overload for usual before it is over, and let in ever more.
//!
//! Times are averaged by their logarithms: a page that always takes seconds then counts as one page among others,
//! where a plain mean would be that page alone.
//!
//! Pure: no lock, no clock.

use std::time::{Duration, Instant};

/// The service starts with so many, as nothing is known of it.
const FIRST: f64 = 20.0;
/// No fewer are let in: with less there is nothing to measure by.
const LEAST: f64 = 4.0;
/// A change is thought about no more often. Netflix takes a second; a flood is over people's heads by then.
const WINDOW: Duration = Duration::from_millis(250);
/// And not before so many answers.
const ANSWERS_LEAST: u32 = 10;
/// The part of the way from what was usual to a longer time that is gone in one window: ten minutes for most of it.
const RISE: f64 = 1.0 / 2400.0;
/// The same to a shorter time: some twelve seconds.
const FALL: f64 = 0.02;
/// Answers may take so many times as long as is usual before fewer are let in (Netflix: 1.5 of an average).
const TOLERANCE: f64 = 2.0;
/// At most so much is taken away at once.
const STEEPEST: f64 = 0.5;
/// So many more are tried while all is well.
const TRIED: f64 = 4.0;
/// The part of a change that is made in one window.
const SMOOTHING: f64 = 0.2;

/// What is known of one service.
#[derive(Debug)]
pub(crate) struct Adaptive {
    limit: f64,
    /// The logarithm of what an answer usually takes, in seconds.
    usual: Option<f64>,
    begun: Instant,
    answers: u32,
    sum: f64,
    /// The most that were under way in this window.
    busiest: u64,
}

impl Adaptive {
    pub(crate) fn new(now: Instant) -> Self {
        Self { limit: FIRST, usual: None, begun: now, answers: 0, sum: 0.0, busiest: 0 }
    }

    /// How many may be under way, where `most` is the config's.
    pub(crate) fn limit(&self, most: u32) -> u64 {
        (self.limit as u64).min(u64::from(most)).max(1)
    }

    /// A request is over. `answered`: when its answer began; without one it counts only if it took longer than usual: a
    /// refused connection is no quick answer. `under_way`: with this one.
    pub(crate) fn ended(
        &mut self,
        answered: Option<Duration>,
        lasted: Duration,
        under_way: u64,
        most: u32,
        now: Instant,
    ) {
        self.busiest = self.busiest.max(under_way);
        let log = |took: Duration| took.as_secs_f64().max(1e-6).ln();
        let counts = match answered {
            Some(took) => Some(log(took)),
            None => Some(log(lasted)).filter(|took| self.usual.is_some_and(|usual| *took > usual)),
        };
        if let Some(took) = counts {
            self.answers += 1;
            self.sum += took;
        }
        if self.answers >= ANSWERS_LEAST && now.saturating_duration_since(self.begun) >= WINDOW {
            self.think(most);
            (self.begun, self.answers, self.sum, self.busiest) = (now, 0, 0.0, 0);
        }
    }

    fn think(&mut self, most: u32) {
        let short = self.sum / f64::from(self.answers);
        let before = self.usual.unwrap_or(short);
        let usual = before + (short - before) * if short > before { RISE } else { FALL };
        self.usual = Some(usual);
        let most = f64::from(most).max(LEAST);
        // With half of the room unused, the room is not what decides how long answers take.
        let gradient = (TOLERANCE * (usual - short).exp()).clamp(STEEPEST, 1.0);
        if (self.busiest as f64) < self.limit / 2.0 && gradient >= 1.0 {
            return;
        }
        let wanted = self.limit * gradient + TRIED;
        self.limit = (self.limit + (wanted - self.limit) * SMOOTHING).clamp(LEAST, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that does `able` requests at once in 10 ms each and lets the others wait, for so many seconds, with as
    /// many let in as may be, of so many that come at once. Returns the limit and the mean time in milliseconds.
    fn serve(adaptive: &mut Adaptive, t: &mut Instant, seconds: u64, able: f64, come: u64) -> (u64, f64) {
        let end = *t + Duration::from_secs(seconds);
        let mut took = 0.0;
        while *t < end {
            let under_way = adaptive.limit(1000).min(come);
            took = 0.010 * (under_way as f64 / able).max(1.0);
            for _ in 0..under_way {
                let answered = Duration::from_secs_f64(took);
                adaptive.ended(Some(answered), answered, under_way, 1000, *t);
            }
            *t += Duration::from_secs_f64(took);
        }
        (adaptive.limit(1000), took * 1000.0)
    }

    #[test]
    fn it_finds_what_a_service_can_do_and_keeps_its_answers_prompt() {
        for able in [30.0, 100.0, 300.0] {
            let mut t = Instant::now();
            let mut adaptive = Adaptive::new(t);
            let (limit, ms) = serve(&mut adaptive, &mut t, 120, able, 1000);
            assert!(limit as f64 > able * 0.9 && ms < 30.0, "able {able}: {limit} at {ms} ms");
        }
    }

    #[test]
    fn when_the_service_can_do_less_less_is_let_in_and_more_when_it_can_again() {
        let mut t = Instant::now();
        let mut adaptive = Adaptive::new(t);
        let (before, _) = serve(&mut adaptive, &mut t, 60, 200.0, 1000);
        let (during, ms) = serve(&mut adaptive, &mut t, 5, 20.0, 1000);
        assert!(during < before / 3, "{before} → {during}");
        assert!(ms < 40.0, "{ms} ms");
        let (after, _) = serve(&mut adaptive, &mut t, 60, 200.0, 1000);
        assert!(after as f64 > before as f64 * 0.7, "{before} → {during} → {after}");
    }

    #[test]
    fn a_quiet_service_is_let_alone() {
        let mut t = Instant::now();
        let mut adaptive = Adaptive::new(t);
        let (limit, _) = serve(&mut adaptive, &mut t, 30, 100.0, 3);
        assert_eq!(limit, FIRST as u64, "nothing was learned of how much more it can do");
    }

    #[test]
    fn a_page_that_is_always_slow_and_connections_refused_take_no_room_away() {
        let mut t = Instant::now();
        let mut adaptive = Adaptive::new(t);
        let (before, _) = serve(&mut adaptive, &mut t, 30, 100.0, 1000);
        for n in 0..4000u32 {
            t += Duration::from_millis(1);
            let took = Duration::from_millis(if n % 20 == 0 { 3000 } else { 10 });
            let answered = (n % 7 > 0).then_some(took);
            let lasted = if answered.is_some() { took } else { Duration::from_micros(200) };
            adaptive.ended(answered, lasted, before, 1000, t);
        }
        let after = adaptive.limit(1000);
        assert!(after as f64 > before as f64 * 0.7, "{before} → {after}");
    }
}
