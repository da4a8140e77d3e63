//! Where the recovery of one server stands: what is under way, what was tried, and how much it may still be tried.
//!
//! The first restart is at once; the second waits `delay-base`, then the wait doubles up to `delay-max`, with up to a
//! fifth of jitter; `reset-after` of good health starts the ladder over. At most `budget` restarts are ordered within
//! `budget-window`, those of an earlier run included. A spent budget stays spent until the oldest restart leaves the
//! window; then there is room for one more try.

use std::collections::VecDeque;
use std::time::Duration;

use crate::effect::ActionKind;
use crate::helped::VAIN_MAX;
use crate::id::ActionId;
use crate::out::Out;
use crate::outside::Outside;
use crate::policy::RecoveryPolicy;
use crate::recovery::guard::Refusal;
use crate::time::Mono;

/// Restarts that are remembered, whatever the budget.
const RESTARTS_MAX: usize = 1000;

/// Where the recovery of one server stands.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// It is new here, or a person made it ready: it is to be started, which is no restart.
    pub(crate) start_wanted: bool,
    /// Attempts since it last stayed good.
    pub(crate) attempts: u32,
    /// Restarts, oldest first: when each became known, and how old it was then.
    pub(super) restarts: VecDeque<(Mono, Duration)>,
    /// When the next restart is due.
    pub(crate) due: Option<Mono>,
    pub(crate) pending: Option<Pending>,
    /// An order was carried out; the process is not asked after before this time.
    pub(super) wait_for_start: Option<Mono>,
    /// The process was started since the last order.
    pub(super) started_since_order: bool,
    /// An order's outcome never came; what it did may still show.
    pub(super) timed_out: bool,
    /// The budget is spent, and people were told.
    pub(crate) spent: bool,
    /// Probes fail, but real requests are answered: not a hang.
    pub(crate) probe_only: bool,
    /// Of a server that Mainstay does not start itself.
    pub(crate) outside: Outside,
    /// Why it is not restarted just now.
    pub(super) refused: Option<Refusal>,
    /// A person wants it restarted, however many others were, and whether or not that helped them.
    pub(crate) by_person: bool,
    /// It was restarted for what it answers, and has not been good since.
    pub(crate) tried: bool,
    /// Restarts in a row that did not help.
    pub(crate) in_vain: u32,
}

/// An order under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) action: ActionId,
    pub(crate) kind: ActionKind,
    pub(crate) for_hang: bool,
    /// It was ordered although the service was strained and the server was still getting requests.
    pub(crate) against_load: bool,
    /// It is given up after so long.
    pub(super) takes: Duration,
    pub(super) deadline: Mono,
}

impl Recovery {
    pub(crate) fn new(start_wanted: bool) -> Self {
        Self { start_wanted, ..Self::default() }
    }

    pub(crate) fn process_started(&mut self) {
        self.wait_for_start = None;
        self.started_since_order = true;
        self.timed_out = false;
        self.probe_only = false;
        self.due = None;
        self.start_wanted = false;
    }

    pub(crate) fn process_exited(&mut self) {
        self.probe_only = false;
        self.wait_for_start = None;
        if self.pending.is_none() {
            self.due = None;
        }
    }

    /// A person made it ready: whatever was counted against it is forgotten, but not the budget.
    pub(crate) fn person_asks(&mut self) {
        self.attempts = 0;
        self.due = None;
        self.spent = false;
        self.probe_only = false;
        self.tried = false;
        self.in_vain = 0;
        self.outside.is_clear();
        self.by_person = true;
    }

    /// A person changed how it is started: what failed before says nothing, and the budget is a new one.
    pub(crate) fn command_changed(&mut self) {
        self.person_asks();
        self.restarts.clear();
    }

    /// An order is under way, or what it did may still show.
    pub(crate) fn is_acting(&self) -> bool {
        self.pending.is_some() || self.timed_out
    }

    /// An order is under way, or was carried out and the word that the process runs may yet come.
    pub(crate) fn may_yet_start(&self, now: Mono) -> bool {
        self.pending.is_some() || self.wait_for_start.is_some_and(|until| now < until)
    }

    /// Until then the word that it runs may come.
    pub(crate) fn awaited_until(&self, now: Mono) -> Option<Mono> {
        self.wait_for_start.filter(|until| *until > now)
    }

    /// It was healthy for `good`, and is no longer.
    pub(crate) fn was_good_for(&mut self, good: Duration, policy: &RecoveryPolicy) {
        if good >= policy.reset_after {
            self.attempts = 0;
            self.in_vain = 0;
        }
    }

    /// Restarts of an earlier run count too.
    pub(crate) fn remember(&mut self, age: Duration, now: Mono) {
        self.restarts.push_back((now, age));
        if self.restarts.len() > RESTARTS_MAX {
            self.restarts.pop_front();
        }
    }

    /// Restarts that count against the budget now.
    pub(crate) fn restarts_in(&self, window: Duration, now: Mono) -> u32 {
        let young = |&&(at, age): &&(Mono, Duration)| now.since(at).saturating_add(age) < window;
        u32::try_from(self.restarts.iter().filter(young).count()).unwrap_or(u32::MAX)
    }

    /// When the budget has room; `None` when it never has.
    pub(crate) fn room_at(&self, policy: &RecoveryPolicy, now: Mono) -> Option<Mono> {
        let over = self.restarts_in(policy.budget_window, now).checked_sub(policy.budget);
        let Some(over) = over else { return Some(now) };
        if policy.budget == 0 {
            return None;
        }
        let mut leaves: Vec<Mono> = self
            .restarts
            .iter()
            .filter(|(at, age)| now.since(*at).saturating_add(*age) < policy.budget_window)
            .map(|(at, age)| *at + policy.budget_window.saturating_sub(*age))
            .collect();
        leaves.sort_unstable();
        leaves.get(over as usize).copied()
    }

    /// What did not help is not soon done again: until then.
    pub(super) fn tried_in_vain_until(&self, policy: &RecoveryPolicy) -> Option<Mono> {
        let wait = match self.in_vain {
            ..VAIN_MAX => return None,
            VAIN_MAX => policy.delay_max,
            _ => policy.budget_window,
        };
        self.restarts.back().map(|(at, age)| *at + wait.saturating_sub(*age))
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.restarts.len() <= RESTARTS_MAX
    }

    pub(super) fn delay(&self, policy: &RecoveryPolicy, out: &mut Out) -> Duration {
        let Some(doublings) = self.attempts.checked_sub(1) else { return Duration::ZERO };
        let factor = 2u32.saturating_pow(doublings.min(30));
        let delay = policy.delay_base.saturating_mul(factor).min(policy.delay_max);
        delay + delay.mul_f64(0.2 * out.rng.unit())
    }
}
