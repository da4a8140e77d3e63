//! For how long an idle connection to a server may be kept: less than the server keeps it, learned from what the server says
//! (`Keep-Alive: timeout=5`) and from when it closes. Whoever closes first decides whether a request can meet a connection that is
//! just going, so it has to be Mainstay.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A limit that was learned and holds grows by a quarter after so long, in case the server's own has grown.
const RELEARN: Duration = Duration::from_secs(600);
/// Two closes are of one timeout if their connections' ages differ by no more than this and a fifth.
const ALIKE: Duration = Duration::from_millis(250);
/// No server closes sooner because a connection is idle; it has ended, or been restarted.
const LEAST: Duration = Duration::from_millis(200);
/// While nothing is known, a request that must not be sent twice goes only over a connection that was in use within this time:
/// no server's timeout is as short.
const A_MOMENT: Duration = Duration::from_secs(1);

/// What one worker knows of one server's patience.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    /// Below the server's own, and since when.
    limit: Cell<Option<(Duration, Instant)>>,
    /// The age of the last connection that the server closed.
    closed_at: Cell<Option<Duration>>,
}

impl Keep {
    /// How long a connection may be idle; never more than `most`.
    pub(crate) fn limit(&self, most: Duration, now: Instant) -> Duration {
        let Some((limit, since)) = self.limit.get() else { return most };
        if now.saturating_duration_since(since) < RELEARN {
            return limit.min(most);
        }
        let grown = limit + limit / 4;
        self.limit.set((grown < most).then_some((grown, now)));
        grown.min(most)
    }

    /// How long it may have been idle to carry a request that must not be sent twice.
    pub(crate) fn limit_for_once(&self, most: Duration, now: Instant) -> Duration {
        let limit = self.limit(most, now);
        if self.limit.get().is_some() { limit } else { limit.min(A_MOMENT) }
    }

    /// What was learned, for another process.
    pub(crate) fn learned(&self) -> Option<Duration> {
        self.limit.get().map(|(limit, _)| limit)
    }

    /// What another process has learned.
    pub(crate) fn take_up(&self, limit: Option<Duration>, now: Instant) {
        self.limit.set(limit.map(|limit| (limit, now)));
    }

    /// The server has said how long it keeps a connection.
    pub(crate) fn told(&self, seconds: u32, now: Instant) {
        let own = Duration::from_secs(seconds.into());
        self.limit.set(Some((below(own), now)));
    }

    /// The server closed a connection that had been idle for so long. One alone may be a restart; the second at the same age is a
    /// timeout.
    pub(crate) fn closed(&self, age: Duration, now: Instant) {
        if age < LEAST {
            return;
        }
        let before = self.closed_at.replace(Some(age));
        if let Some(before) = before.filter(|before| age.abs_diff(*before) <= ALIKE + age / 5) {
            let least = below(age.min(before));
            if self.limit.get().is_none_or(|(limit, _)| least < limit) {
                self.limit.set(Some((least, now)));
            }
        }
    }

    /// It has another address: another process with other habits.
    pub(crate) fn forget(&self) {
        self.limit.set(None);
        self.closed_at.set(None);
    }
}

/// A quarter below, for the way of the request and the clocks of both.
fn below(own: Duration) -> Duration {
    own - (own / 4).min(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(4);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_timeout_is_learned_from_two_closes_alike_and_undercut() {
        let (keep, t) = (Keep::default(), Instant::now());
        assert_eq!((keep.limit(MOST, t), keep.limit_for_once(MOST, t)), (MOST, A_MOMENT));
        keep.closed(ms(2000), t);
        keep.closed(ms(700), t);
        assert_eq!(keep.limit(MOST, t), MOST, "a restart closes connections of any age");
        keep.closed(ms(800), t);
        assert_eq!((keep.limit(MOST, t), keep.limit_for_once(MOST, t)), (ms(525), ms(525)));
        keep.closed(ms(3000), t);
        keep.closed(ms(3000), t);
        assert_eq!(keep.limit(MOST, t), ms(525), "the shortest holds");
        keep.forget();
        assert_eq!(keep.limit(MOST, t), MOST);
    }

    #[test]
    fn what_the_server_says_holds_at_once() {
        let (keep, t) = (Keep::default(), Instant::now());
        keep.told(5, t);
        assert_eq!((keep.limit(MOST, t), keep.limit_for_once(MOST, t)), (MOST, MOST));
        keep.told(1, t);
        assert_eq!(keep.limit(MOST, t), ms(750));
        keep.told(0, t);
        assert_eq!(keep.limit(MOST, t), Duration::ZERO);
    }

    #[test]
    fn a_limit_grows_slowly_while_nothing_speaks_against_it() {
        let (keep, mut t) = (Keep::default(), Instant::now());
        keep.told(2, t);
        let mut last = keep.limit(MOST, t);
        while last < MOST {
            assert_eq!(keep.limit(MOST, t + RELEARN - ms(1)), last);
            t += RELEARN;
            let next = keep.limit(MOST, t);
            assert!(next > last && next <= last + last / 4);
            last = next;
        }
    }
}
