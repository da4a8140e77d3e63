//! The time of a check: one end for all of it, and a share of the whole for each layer, so that no layer can take what the later
//! ones need.

use std::time::Duration;

use tokio::time::Instant;

/// How much of the whole a layer may take at most, in hundredths. Those before HTTP leave it a rest even when each of them takes all
/// that it may.
#[derive(Debug, Clone, Copy)]
pub(super) enum Share {
    Network = 15,
    Names = 30,
    Tcp = 25,
    Tls = 26,
    Rest = 100,
}

/// From when to when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    begun: Instant,
    whole: Duration,
}

impl Budget {
    /// Begins now.
    pub(super) fn new(whole: Duration) -> Self {
        Self { begun: Instant::now(), whole }
    }

    /// When a layer that begins now has to be done.
    pub(super) fn deadline(&self, share: Share) -> Instant {
        self.deadline_from(Instant::now(), share)
    }

    fn deadline_from(&self, now: Instant, share: Share) -> Instant {
        let own = self.whole.mul_f64(f64::from(share as u8) / 100.0);
        (now + own).min(self.begun + self.whole)
    }

    /// What is left of the whole.
    pub(super) fn left(&self) -> Duration {
        (self.begun + self.whole).saturating_duration_since(Instant::now())
    }

    /// What has passed.
    pub(super) fn took(&self) -> Duration {
        self.begun.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_ends_in_time_for_the_next_and_none_after_the_whole() {
        let whole = Duration::from_secs(10);
        let budget = Budget::new(whole);
        let mut now = budget.begun;
        for share in [Share::Network, Share::Names, Share::Tcp, Share::Tls] {
            let deadline = budget.deadline_from(now, share);
            assert!(deadline > now && deadline < budget.begun + whole);
            now = deadline;
        }
        assert_eq!(budget.deadline_from(now, Share::Rest), budget.begun + whole);
        let late = budget.begun + whole * 2;
        assert_eq!(budget.deadline_from(late, Share::Names), budget.begun + whole);
    }
}
