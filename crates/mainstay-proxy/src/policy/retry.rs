//! When a request may be sent again: the classifier, and the budget that keeps retries from becoming a storm.
//!
//! | how far the attempt came | any method | idempotent, or with Idempotency-Key | budget |
//! | --- | --- | --- | --- |
//! | nothing of it was sent (connect failed) | yes | yes | free |
//! | sent over a reused connection that was closed before a byte came back | no | yes | free |
//! | sent, and no answer (closed, reset, not HTTP, silent) | no | yes | yes |
//! | sent, and answered with an error of the server's (500, 502, 503, 504) | no | by default only GET, HEAD, OPTIONS, TRACE | yes |
//! | a byte of the answer was passed on | no | no | |
//!
//! A failed connect is free: it costs the server nothing, is bounded by the number of servers, and holding it against
//! the budget would refuse visitors who could be served. So is a stale connection, which happens to a request once,
//! because its next attempt goes over a new one.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use mainstay_model::policy::{OnError, RetryPolicy};

/// How far an attempt came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No byte of the request left Mainstay.
    Unsent,
    /// It was sent over a reused connection, which was closed before a byte came back: most likely it was stale.
    ReusedClosed,
    /// It was sent, in whole or in part, and no answer came.
    Sent,
    /// The server answered with an error.
    Erred,
    /// A part of the answer was passed on.
    PassedOn,
}

/// What sending a request twice would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Nothing, like sending it once.
    Safe,
    /// The same as once, by its method or because the client vouches for it.
    Repeatable,
    /// Perhaps an order too many.
    Once,
}

impl Safety {
    /// It may be sent again when nobody knows what became of it.
    pub(crate) fn is_repeatable(self) -> bool {
        self != Safety::Once
    }

    /// It may be asked again when the answer was an error.
    pub(crate) fn allows_again(self, on_5xx: OnError) -> bool {
        match on_5xx {
            OnError::Never => false,
            OnError::Safe => self == Safety::Safe,
            OnError::Idempotent => self.is_repeatable(),
        }
    }
}

/// Whether an answer is an error that may be the server's own, which another one would not make. 501, 505 and their like are
/// about the request.
pub(crate) fn may_be_own_error(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// Whether a request may be sent again, and at whose cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes, whatever the budget says.
    Free,
    /// Yes, if the budget and the number of tries allow it.
    Budgeted,
    /// No.
    Never,
}

/// What sending a request of this method twice would do.
pub(crate) fn safety(method: &str, has_idempotency_key: bool) -> Safety {
    match method {
        "GET" | "HEAD" | "OPTIONS" | "TRACE" => Safety::Safe,
        "PUT" | "DELETE" => Safety::Repeatable,
        _ if has_idempotency_key => Safety::Repeatable,
        _ => Safety::Once,
    }
}

/// The table above. `replayable`: all of the body that was taken from the client is still there.
pub(crate) fn classify(stage: Stage, safety: Safety, replayable: bool) -> Verdict {
    match stage {
        _ if !replayable => Verdict::Never,
        Stage::Unsent => Verdict::Free,
        Stage::PassedOn => Verdict::Never,
        _ if !safety.is_repeatable() => Verdict::Never,
        Stage::ReusedClosed => Verdict::Free,
        Stage::Sent | Stage::Erred => Verdict::Budgeted,
    }
}

/// Whether other servers do better with what one of them answers with an error: a mistake that all of them make is not worth
/// asking twice for. Of one service on one worker.
#[derive(Debug)]
pub(crate) struct Hope(Cell<f32>);

impl Default for Hope {
    fn default() -> Self {
        Self(Cell::new(1.0))
    }
}

impl Hope {
    /// Less is none.
    const ENOUGH: f32 = 0.5;
    /// Without hope, one in so many is asked again all the same, so that a change for the better is seen.
    const NOW_AND_THEN: u32 = 20;

    /// Whether to ask another server.
    pub(crate) fn is_worth_it(&self, rng: &mut fastrand::Rng) -> bool {
        self.0.get() >= Self::ENOUGH || rng.u32(..Self::NOW_AND_THEN) == 0
    }

    /// Another server was asked; whether its answer was no error.
    pub(crate) fn learn(&self, better: bool) {
        let hope = self.0.get();
        self.0.set(if better { hope + (1.0 - hope) * 0.3 } else { hope * 0.8 });
    }
}

/// Seconds over which requests and retries are compared.
const WINDOW: usize = 10;
/// Retries that a worker may make in them on the quietest site, unless the config allows less.
const WORKER_LEAST: u64 = 3;

/// Retries as a share of requests over the last ten seconds, of one service on one worker.
#[derive(Debug)]
pub(crate) struct Budget {
    window: RefCell<Window>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    /// The second, since `start`, that the newest slot stands for.
    newest: u64,
    requests: [u32; WINDOW],
    retries: [u32; WINDOW],
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        let window = Window { start: now, newest: 0, requests: [0; WINDOW], retries: [0; WINDOW] };
        Self { window: RefCell::new(window) }
    }

    /// A request came.
    pub(crate) fn request(&self, now: Instant) {
        let mut window = self.window.borrow_mut();
        let slot = window.slot(now);
        window.requests[slot] = window.requests[slot].saturating_add(1);
    }

    /// Whether one more retry fits in; does not take it.
    pub(crate) fn allows(&self, policy: &RetryPolicy, workers: usize, now: Instant) -> bool {
        let mut window = self.window.borrow_mut();
        window.slot(now);
        let requests: u64 = window.requests.iter().map(|&n| u64::from(n)).sum();
        let retries: u64 = window.retries.iter().map(|&n| u64::from(n)).sum();
        // Each worker has its part of the minimum, and so many whatever their number (Envoy: `min_retry_concurrency`).
        let least = u64::from(policy.budget_min);
        let least = least.div_ceil(workers.max(1) as u64).max(least.min(WORKER_LEAST));
        let share = (requests as f64 * policy.budget.clamp(0.0, 1.0)) as u64;
        retries < share.max(least)
    }

    /// A budgeted retry is made.
    pub(crate) fn spend(&self, now: Instant) {
        let mut window = self.window.borrow_mut();
        let slot = window.slot(now);
        window.retries[slot] = window.retries[slot].saturating_add(1);
    }
}

impl Window {
    fn slot(&mut self, now: Instant) -> usize {
        let second = now.saturating_duration_since(self.start).as_secs();
        if second > self.newest {
            for passed in (self.newest + 1)..=second.min(self.newest + WINDOW as u64) {
                let slot = (passed % WINDOW as u64) as usize;
                self.requests[slot] = 0;
                self.retries[slot] = 0;
            }
            if second - self.newest > WINDOW as u64 {
                self.requests = [0; WINDOW];
                self.retries = [0; WINDOW];
            }
            self.newest = second;
        }
        (self.newest % WINDOW as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_classifier_is_the_table() {
        use {Safety::*, Stage::*, Verdict::*};
        for (stage, safety, replayable, verdict) in [
            (Unsent, Once, true, Free),
            (Unsent, Repeatable, true, Free),
            (Unsent, Repeatable, false, Never),
            (ReusedClosed, Repeatable, true, Free),
            (ReusedClosed, Once, true, Never),
            (ReusedClosed, Repeatable, false, Never),
            (Sent, Repeatable, true, Budgeted),
            (Sent, Repeatable, false, Never),
            (Sent, Once, true, Never),
            (Unsent, Safe, true, Free),
            (ReusedClosed, Safe, true, Free),
            (Sent, Safe, true, Budgeted),
            (Erred, Safe, true, Budgeted),
            (Erred, Repeatable, true, Budgeted),
            (Erred, Once, true, Never),
            (Erred, Safe, false, Never),
            (PassedOn, Safe, true, Never),
            (PassedOn, Repeatable, true, Never),
            (PassedOn, Once, true, Never),
        ] {
            assert_eq!(classify(stage, safety, replayable), verdict, "{stage:?} {safety:?} {replayable}");
        }
    }

    #[test]
    fn methods_are_repeatable_as_http_says_or_the_client_vouches() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert_eq!(safety(method, true), Safety::Safe);
        }
        for method in ["PUT", "DELETE"] {
            assert_eq!(safety(method, false), Safety::Repeatable);
        }
        for method in ["POST", "PATCH", "get", "PURGE"] {
            assert_eq!(safety(method, false), Safety::Once);
            assert_eq!(safety(method, true), Safety::Repeatable);
        }
    }

    #[test]
    fn an_error_is_asked_again_for_by_what_the_config_says() {
        let allowed = |on| [Safety::Safe, Safety::Repeatable, Safety::Once].map(|s| s.allows_again(on));
        assert_eq!(allowed(OnError::Never), [false, false, false]);
        assert_eq!(allowed(OnError::Safe), [true, false, false]);
        assert_eq!(allowed(OnError::Idempotent), [true, true, false]);
        assert!(may_be_own_error(500) && !may_be_own_error(501) && !may_be_own_error(404));
    }

    #[test]
    fn an_error_that_every_server_makes_is_soon_not_asked_for_again_until_one_does_better() {
        let (hope, mut rng) = (Hope::default(), fastrand::Rng::with_seed(3));
        let mut asked = 0;
        for _ in 0..1000 {
            if hope.is_worth_it(&mut rng) {
                asked += 1;
                hope.learn(false);
            }
        }
        assert!((20..100).contains(&asked), "{asked} of 1000");
        (0..3).for_each(|_| hope.learn(true));
        assert!((0..100).all(|_| hope.is_worth_it(&mut rng)));
    }

    #[test]
    fn the_budget_is_a_share_of_the_last_ten_seconds_with_a_minimum() {
        let t = Instant::now();
        let policy = RetryPolicy { budget: 0.2, budget_min: 4, ..RetryPolicy::default() };
        let budget = Budget::new(t);
        let mut spent = 0;
        while budget.allows(&policy, 2, t) {
            budget.spend(t);
            spent += 1;
        }
        assert_eq!(spent, 3, "a quiet worker has its part of the minimum, and three at least");
        for _ in 0..100 {
            budget.request(t);
        }
        while budget.allows(&policy, 2, t) {
            budget.spend(t);
            spent += 1;
        }
        assert_eq!(spent, 20, "a fifth of the requests");
        assert!(!budget.allows(&policy, 2, t + Duration::from_secs(9)));
        assert!(budget.allows(&policy, 2, t + Duration::from_secs(WINDOW as u64)));
        assert!(budget.allows(&policy, 2, t + Duration::from_secs(3600)));
    }
}
