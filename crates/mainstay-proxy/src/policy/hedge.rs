//! When a request that waits is asked of a second server too, and which requests may be at all.
//!
//! Asking twice costs a server work, so it is for requests that change nothing and have no body, it is bounded by the budget of
//! retries, and it is not done for a visitor who keeps to a server: another one may not know them.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use mainstay_model::policy::Hedge;

use super::retry::Safety;
use super::usual::Usual;

/// The percentile is read out of the histogram at most that often.
const FRESH: Duration = Duration::from_millis(100);
/// Nobody is asked sooner: the timer knows no less.
const LEAST: Duration = Duration::from_millis(1);

/// How long the answers of one service take on one worker; fed only where a service hedges by a percentile.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    usual: RefCell<Usual>,
    read: Cell<Option<(Instant, Option<Duration>)>>,
}

impl Tail {
    /// An answer began so long after its request was taken up, by whichever server.
    pub(crate) fn record(&self, hedge: Hedge, took: Duration) {
        if matches!(hedge, Hedge::Percentile(_)) {
            self.usual.borrow_mut().record(took);
        }
    }

    /// After how long a second server is asked; `None`: not at all, because too little is known.
    pub(crate) fn delay(&self, hedge: Hedge, now: Instant) -> Option<Duration> {
        let percent = match hedge {
            Hedge::After(delay) => return Some(delay.max(LEAST)),
            Hedge::Percentile(percent) => percent,
        };
        let delay = match self.read.get() {
            Some((at, delay)) if now.saturating_duration_since(at) < FRESH => delay,
            _ => {
                let delay = self.usual.borrow().percentile(percent);
                self.read.set(Some((now, delay)));
                delay
            }
        };
        delay.map(|delay| delay.max(LEAST))
    }
}

/// Whether a request may be asked of two servers at once.
pub(crate) fn may_hedge(safety: Safety, has_body: bool, upgrades: bool, keeps_to_a_server: bool) -> bool {
    safety == Safety::Safe && !has_body && !upgrades && !keeps_to_a_server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_whole_and_nobodys_session_is_asked_of_two_servers() {
        assert!(may_hedge(Safety::Safe, false, false, false));
        assert!(!may_hedge(Safety::Repeatable, false, false, false), "a DELETE, or a key of the client's");
        assert!(!may_hedge(Safety::Once, false, false, false));
        assert!(!may_hedge(Safety::Safe, true, false, false), "a GET with a body");
        assert!(!may_hedge(Safety::Safe, false, true, false), "a WebSocket");
        assert!(!may_hedge(Safety::Safe, false, false, true), "a visitor with a cookie");
    }

    #[test]
    fn a_percentile_waits_until_it_knows_enough_and_a_time_does_not() {
        let (tail, t, p95) = (Tail::default(), Instant::now(), Hedge::Percentile(95));
        let fixed = Hedge::After(Duration::from_millis(20));
        assert_eq!((tail.delay(fixed, t), tail.delay(p95, t)), (Some(Duration::from_millis(20)), None));
        (0..95).for_each(|_| tail.record(p95, Duration::from_millis(10)));
        (0..5).for_each(|_| tail.record(p95, Duration::from_secs(1)));
        assert_eq!(tail.delay(p95, t), None, "it is looked at again a moment later");
        let delay = tail.delay(p95, t + FRESH).expect("enough is known");
        assert!((10..13).contains(&delay.as_millis()), "{delay:?}");
        (0..1000).for_each(|_| tail.record(fixed, Duration::from_secs(9)));
        assert_eq!(tail.delay(p95, t + 9 * FRESH), Some(delay), "a fixed time learns nothing");
    }
}
