//! Bringing supervised servers back: started when they are new, restarted when they crash or hang, within a budget.
//!
//! It works by need, not by event: whenever the service is thought through, a Ready server that does not run, or hangs,
//! has either an order under way, a restart that waits for its time, or a spent budget of which people were told.
//!
//! The first restart is at once; the second waits `delay-base`, then the wait doubles up to `delay-max`, with up to a
//! fifth of jitter; `reset-after` of good health starts the ladder over. At most `budget` restarts are ordered within
//! `budget-window`, those of an earlier run included. A spent budget stays spent until the oldest restart leaves the
//! window; then there is room for one more try.
//!
//! A process that ended has no capacity left to lose, so dead servers are restarted at once, however many they are. A
//! server that hangs may yet serve somebody, so of those one at a time: it waits until no other server of the service
//! has an order under way or was started and still has to pass its first probe (for `start-grace` at most).
//! Under an overload or an attack none that hangs is restarted at all (see `load`): it is late because there is too much to
//! do, and a restart would leave more to the others. One whose process ended has nothing left to lose and is started.
//! Nothing is restarted in Draining or Maintenance, nor in a maintenance window (where what was never started still is: else
//! a machine that comes up in it would stay dark), nothing while Mainstay is frozen, no primary that was switched away from, and
//! nothing that real requests are answered by.

use std::collections::VecDeque;
use std::time::Duration;

use crate::effect::{ActionKind, ActionOrder, Effect, Record};
use crate::id::{ActionId, ServerId};
use crate::incident::{EntryKind, Severity};
use crate::incidents::nobody_is_answered;
use crate::out::Out;
use crate::policy::RecoveryPolicy;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Mono;
use crate::words::{count, span, utc};

/// An order without an outcome after so long has failed: the longest stop-timeout that makes sense, and a minute.
pub(crate) const OUTCOME_DEADLINE: Duration = Duration::from_secs(120);
/// The word that a process runs may come so long after the word that it was started.
const STARTED_MARGIN: Duration = Duration::from_secs(1);
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
    restarts: VecDeque<(Mono, Duration)>,
    /// When the next restart is due.
    pub(crate) due: Option<Mono>,
    pub(crate) pending: Option<Pending>,
    /// An order was carried out; the process is not asked after before this time.
    wait_for_start: Option<Mono>,
    /// The process was started since the last order.
    started_since_order: bool,
    /// An order's outcome never came; what it did may still show.
    timed_out: bool,
    /// The budget is spent, and people were told.
    pub(crate) spent: bool,
    /// Probes fail, but real requests are answered: not a hang.
    pub(crate) probe_only: bool,
    /// A restart is withheld, and the timeline says so.
    withheld: bool,
}

/// An order under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) action: ActionId,
    pub(crate) kind: ActionKind,
    pub(crate) for_hang: bool,
    /// It was ordered although the service was strained and the server was still getting requests.
    pub(crate) against_load: bool,
    deadline: Mono,
}

/// What a server needs.
#[derive(Debug, Clone, PartialEq)]
enum Need {
    Start,
    Dead(String),
    Hang(String),
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

    pub(crate) fn is_within_limits(&self) -> bool {
        self.restarts.len() <= RESTARTS_MAX
    }

    fn delay(&self, policy: &RecoveryPolicy, out: &mut Out) -> Duration {
        let Some(doublings) = self.attempts.checked_sub(1) else { return Duration::ZERO };
        let factor = 2u32.saturating_pow(doublings.min(30));
        let delay = policy.delay_base.saturating_mul(factor).min(policy.delay_max);
        delay + delay.mul_f64(0.2 * out.rng.unit())
    }
}

impl Server {
    fn need(&self, policy: &RecoveryPolicy, fall: u32, now: Mono) -> Option<Need> {
        let recovery = &self.recovery;
        if self.process.pid.is_none() {
            if recovery.start_wanted {
                return Some(Need::Start);
            }
            if self.process.asked_down || recovery.wait_for_start.is_some_and(|until| now < until) {
                return None;
            }
            let ended = self.process.ended.as_deref().unwrap_or("does not run");
            return Some(Need::Dead(format!("its process {ended}")));
        }
        let had_its_time = self.probes.passed || now >= self.process.grace_from + policy.start_grace;
        let hangs = self.probes.verdict == Verdict::Bad && self.probes.failed_in_row >= fall;
        (had_its_time && hangs && !recovery.probe_only).then(|| Need::Hang(self.probes.because.clone()))
    }
}

impl Service {
    /// Orders what servers need, as far as budgets and caution allow.
    pub(crate) fn recover(&mut self, out: &mut Out) {
        let ids: Vec<ServerId> = self.servers.keys().cloned().collect();
        for id in ids {
            self.recover_server(&id, out);
        }
    }

    fn recover_server(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now.mono;
        let policy = self.policy.recovery.clone();
        let fall = self.policy.health.fall.max(1);
        let busy = self.is_busy_without(id, now);
        let withheld = self.servers.get(id).and_then(|server| self.withholds_restart(server, now));
        let window = self.servers.get(id).and_then(|server| self.server_in_window(id, server, out));
        let away = self.is_switched_away() && self.servers.get(id).is_some_and(Server::is_primary);
        let Some(server) = self.servers.get_mut(id).filter(|s| s.policy.supervised) else { return };
        let acting = server.recovery.pending.is_some() || out.is_stopping(id);
        let need = if server.is_ready() && !acting { server.need(&policy, fall, now) } else { None };
        let Some(need) = need else {
            server.recovery.due = None;
            server.recovery.withheld = false;
            return;
        };
        if away {
            let why = "the service was switched away from it; go back when it is to serve again";
            return self.withhold(id, why, out);
        }
        if let (Need::Hang(_), Some(why)) = (&need, withheld) {
            return self.withhold(id, &why, out);
        }
        if let Some(window) = window.filter(|_| need != Need::Start) {
            let until = utc(window.until);
            let why = format!("it is in maintenance until {until} (window {})", window.window);
            return self.withhold(id, &why, out);
        }
        if let Some(freeze) = out.frozen().filter(|_| need != Need::Start) {
            let why = freeze.to_string();
            return self.withhold(id, &why, out);
        }
        server.recovery.withheld = false;
        let (for_hang, reason) = match need {
            Need::Start => {
                server.recovery.start_wanted = false;
                return self.order(id, ActionKind::Start, false, "it is to serve and does not run", out);
            }
            Need::Dead(reason) => (false, reason),
            Need::Hang(reason) => (true, reason),
        };
        let due = match server.recovery.due {
            Some(due) => due,
            None => now + server.recovery.delay(&policy, out),
        };
        let room_at = server.recovery.room_at(&policy, now);
        if room_at.is_none_or(|at| at > now) {
            server.recovery.due = room_at.map(|at| at.max(due));
            return self.budget_is_spent(id, &policy, out);
        }
        server.recovery.due = Some(due);
        if due <= now && !(for_hang && busy) {
            self.order(id, ActionKind::Restart, for_hang, &reason, out);
        }
    }

    /// A restart would make it worse. Said once a spell.
    fn withhold(&mut self, id: &ServerId, why: &str, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.recovery.due = None;
        if std::mem::replace(&mut server.recovery.withheld, true) {
            return;
        }
        server.changed(out.now.wall, format!("not restarted: {why}"));
        if let Some(open) = &mut self.incident {
            let text = format!("{} is not restarted: {why}", id.name);
            open.entry(EntryKind::Withheld, Some(id), None, text, out);
        }
    }

    /// Another server of the service is being recovered, or was started and has yet to answer.
    fn is_busy_without(&self, id: &ServerId, now: Mono) -> bool {
        let busy = |s: &Server| s.recovery.pending.is_some() || s.is_starting(&self.policy, now);
        self.servers.iter().any(|(other, s)| other != id && busy(s))
    }

    /// Orders an action on a server.
    pub(crate) fn order(
        &mut self,
        id: &ServerId,
        kind: ActionKind,
        for_hang: bool,
        reason: &str,
        out: &mut Out,
    ) {
        let now = out.now;
        let (launch, release) = (self.launch(id), self.release_for(id));
        let policy = &self.policy.recovery;
        let against_load =
            for_hang && self.servers.get(id).is_some_and(|s| self.withholds_restart(s, now.mono).is_some());
        let Some(server) = self.servers.get_mut(id) else { return };
        let action = out.next_action();
        server.release = release;
        let recovery = &mut server.recovery;
        recovery.due = None;
        recovery.started_since_order = false;
        recovery.wait_for_start = None;
        recovery.timed_out = false;
        recovery.pending =
            Some(Pending { action, kind, for_hang, against_load, deadline: now.mono + OUTCOME_DEADLINE });
        let mut incident = None;
        if kind == ActionKind::Restart {
            let before = recovery.restarts_in(policy.budget_window, now.mono);
            debug_assert!(before < policy.budget, "{id} is restarted although its budget is spent");
            recovery.attempts = recovery.attempts.saturating_add(1);
            recovery.remember(Duration::ZERO, now.mono);
            incident = self.incident.as_ref().map(|open| open.incident().id);
            let nth = format!("{} of {} in {}", before + 1, policy.budget, span(policy.budget_window));
            server.changed(now.wall, format!("restart ordered ({nth}): {reason}"));
            if let Some(open) = &mut self.incident {
                let text = format!("{}: restart ordered ({nth}), because {reason}", id.name);
                open.entry(EntryKind::ActionBegun, Some(id), Some(action), text, out);
            }
        }
        let reason = reason.to_owned();
        let order = ActionOrder { id: action, incident, server: id.clone(), kind, launch, reason };
        out.effect(Effect::Recover(order));
    }

    /// Told once a spell; silence would look like success.
    fn budget_is_spent(&mut self, id: &ServerId, policy: &RecoveryPolicy, out: &mut Out) {
        let down = self.is_down(out.now.mono);
        let Some(server) = self.servers.get_mut(id) else { return };
        if std::mem::replace(&mut server.recovery.spent, true) {
            return;
        }
        let name = &id.name;
        let window = span(policy.budget_window);
        let are = if policy.budget == 1 { "is" } else { "are" };
        let all = count(policy.budget.into(), "restart");
        let spent = format!("{all} in {window} {are} spent (budget = {})", policy.budget);
        server.changed(out.now.wall, format!("not restarted: {spent}"));
        let advice = if policy.budget == 0 {
            format!("Start {name} yourself: Mainstay may not restart it (budget = 0)")
        } else {
            format!(
                "Look at why {name} does not stay up: its last lines are on its page. Mainstay tries once more when the \
                 oldest restart is {window} old"
            )
        };
        if let Some(open) = &mut self.incident {
            let text = format!("{name} is not restarted any more: {spent}");
            open.entry(EntryKind::BudgetSpent, Some(id), None, text, out);
            if down {
                // So that the message says it, rather than a second one.
                open.worsen(Severity::Down, nobody_is_answered(&self.id), out);
            }
            open.tell_needs_person(advice, out);
        }
    }

    /// An action was carried out, or could not be. `false`: it is not one of this service's.
    pub(crate) fn on_outcome(
        &mut self,
        action: ActionId,
        result: &Result<(), String>,
        out: &mut Out,
    ) -> bool {
        let mine = |s: &Server| s.recovery.pending.is_some_and(|p| p.action == action);
        let Some(id) = self.servers.iter().find(|(_, s)| mine(s)).map(|(id, _)| id.clone()) else {
            return false;
        };
        self.action_ended(&id, result, out);
        true
    }

    /// Stops waiting for an outcome: the action has failed.
    pub(crate) fn give_up_action(&mut self, id: &ServerId, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.recovery.pending.is_some_and(|p| out.now.mono >= p.deadline) {
            server.recovery.timed_out = true;
            let error = format!("it had no outcome within {}", span(OUTCOME_DEADLINE));
            self.action_ended(id, &Err(error), out);
        }
    }

    fn action_ended(&mut self, id: &ServerId, result: &Result<(), String>, out: &mut Out) {
        let now = out.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        let Some(Pending { action, kind, .. }) = server.recovery.pending.take() else { return };
        out.record(Record::ActionEnded { action, at: now.wall, error: result.as_ref().err().cloned() });
        let done = match kind {
            ActionKind::Start => "started",
            ActionKind::Restart => "restarted",
            ActionKind::Replace => "replaced",
            ActionKind::Stop => "stopped",
        };
        let (entry, text) = match result {
            Ok(()) => {
                if !server.recovery.started_since_order {
                    server.recovery.wait_for_start = Some(now.mono + STARTED_MARGIN);
                }
                (EntryKind::ActionDone, format!("{} was {done}", id.name))
            }
            Err(error) => {
                server.recovery.attempts = server.recovery.attempts.max(1);
                if server.process.pid.is_none() {
                    server.process.ended = Some(format!("could not be {done}: {error}"));
                    server.process.asked_down = false;
                    server.process.since = now.wall;
                }
                server.changed(now.wall, format!("could not be {done}: {error}"));
                (EntryKind::ActionFailed, format!("{} could not be {done}: {error}", id.name))
            }
        };
        if let Some(open) = &mut self.incident {
            open.entry(entry, Some(id), Some(action), text, out);
        }
    }

    /// When recovery is next due for a server. A hang that waits for its turn is woken by whatever it waits for.
    pub(crate) fn recovery_due(&self, id: &ServerId, server: &Server, out: &Out) -> Option<Mono> {
        let now = out.now.mono;
        if !server.policy.supervised {
            return None;
        }
        let recovery = &server.recovery;
        let grace_ends = server.process.grace_from + self.policy.recovery.start_grace;
        let starting = server.is_starting(&self.policy, now).then_some(grace_ends);
        let waits = server.is_ready() && recovery.pending.is_none() && !out.is_stopping(id);
        let ahead = |due: Option<Mono>| due.filter(|at| waits && *at > now);
        let pending = recovery.pending.map(|p| p.deadline);
        let withheld = recovery.withheld.then(|| self.withheld_until(server, now)).flatten();
        [withheld, pending, starting, ahead(recovery.due), ahead(recovery.wait_for_start)]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::NoticeKind;
    use crate::input::{AdminState, Input, ProbeFailure, ProcessEvent, Restored};
    use crate::snapshot::Health;
    use crate::testing::{Bench, Supervisor, app, policy};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn restarts(bench: &Bench) -> Vec<(Mono, ServerId)> {
        let orders = bench.orders().into_iter().filter(|(_, o)| o.kind == ActionKind::Restart);
        orders.map(|(at, o)| (at, o.server)).collect()
    }

    #[test]
    fn a_new_supervised_server_is_started_for_no_incident() {
        let bench = Bench::fresh(policy(2, true));
        let orders = bench.orders();
        assert_eq!(orders.len(), 2);
        assert!(orders.iter().all(|(_, o)| o.kind == ActionKind::Start && o.incident.is_none()));
    }

    #[test]
    fn a_crashed_server_is_restarted_at_once_and_serves_again_within_a_second() {
        let mut bench = Bench::settled(policy(3, true));
        bench.crash(&app(2));
        assert_eq!(bench.targets(), ["app-1", "app-3"]);
        assert_eq!(restarts(&bench), [(bench.now.mono, app(2))]);
        bench.advance(MS(1000));
        assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
    }

    #[test]
    fn further_restarts_wait_longer_and_longer_with_jitter() {
        let mut bench = Bench::settled(policy(2, true));
        for expected_ms in [0, 1000, 2000, 4000, 8000] {
            bench.crash(&app(1));
            let crashed = bench.now.mono;
            bench.effects.clear();
            if expected_ms > 0 {
                bench.advance(MS(expected_ms - 1));
                assert!(restarts(&bench).is_empty(), "{expected_ms}");
                bench.advance(MS(expected_ms / 5 + 1));
                let waited = restarts(&bench)[0].0 - crashed;
                assert!((MS(expected_ms)..=MS(expected_ms * 6 / 5)).contains(&waited), "{waited:?}");
            }
            bench.advance(MS(500));
        }
    }

    #[test]
    fn long_good_health_starts_the_ladder_over() {
        let mut bench = Bench::settled(policy(2, true));
        for _ in 0..3 {
            bench.crash(&app(1));
            bench.advance(Duration::from_secs(602));
        }
        bench.effects.clear();
        bench.crash(&app(1));
        assert_eq!(restarts(&bench).len(), 1, "at once");
    }

    #[test]
    fn servers_that_died_together_are_restarted_together() {
        let mut bench = Bench::settled(policy(3, true));
        (1..=3).for_each(|n| bench.crash(&app(n)));
        assert_eq!(restarts(&bench).len(), 3);
        bench.advance(MS(500));
        assert_eq!(bench.targets().len(), 3);
    }

    #[test]
    fn servers_that_hang_are_restarted_one_at_a_time() {
        let mut bench = Bench::settled(policy(3, true));
        (1..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::AnswerTimeout));
        bench.advance(Duration::from_secs(4));
        assert_eq!(restarts(&bench).len(), 1);
        let first = restarts(&bench)[0].1.clone();
        bench.is_good(&first);
        bench.advance(Duration::from_secs(2));
        assert_eq!(restarts(&bench).len(), 2, "the first is good: the second's turn");
        bench.advance(Duration::from_secs(20));
        assert_eq!(restarts(&bench).len(), 2, "the second has yet to pass its first probe");
        bench.advance(Duration::from_secs(12));
        assert_eq!(restarts(&bench).len(), 3, "its grace is over");
    }

    #[test]
    fn a_server_that_answers_real_requests_is_not_restarted_for_its_probes() {
        let mut bench = Bench::settled(policy(1, true));
        bench.attempts(&app(1), 10, 0, 0);
        bench.is_bad(&app(1), ProbeFailure::Status(503));
        for _ in 0..120 {
            bench.advance(MS(250));
            bench.attempts(&app(1), 10, 0, 0);
        }
        let server = bench.server(&app(1));
        assert_eq!(server.health, Health::Degraded);
        assert!(server.why.signals.iter().any(|s| s.name == "witnesses disagree"), "{:?}", server.why);
        assert!(restarts(&bench).is_empty());
        bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
        for _ in 0..20 {
            bench.advance(MS(250));
            bench.attempts(&app(1), 0, 0, 10);
        }
        assert_eq!(restarts(&bench).len(), 1, "now both witnesses speak against it");
    }

    #[test]
    fn a_server_that_is_starting_is_given_its_grace() {
        let mut bench = Bench::fresh(policy(1, true));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(29));
        assert_eq!(bench.server(&app(1)).health, Health::Unknown);
        assert!(restarts(&bench).is_empty() && bench.incidents().is_empty());
        bench.advance(Duration::from_secs(3));
        assert_eq!(bench.server(&app(1)).health, Health::Unhealthy);
        assert_eq!(restarts(&bench).len(), 1);
    }

    #[test]
    fn a_spent_budget_calls_a_person_once_and_tries_again_when_the_window_has_room() {
        let mut bench = Bench::settled(policy(2, true));
        bench.supervisor = Supervisor::Fails;
        bench.crash(&app(1));
        bench.advance(Duration::from_secs(590));
        assert_eq!(restarts(&bench).len(), 5);
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
        let server = bench.server(&app(1));
        assert!(server.why.would_change.contains("budget = 5 in budget-window = 10m"), "{:?}", server.why);
        bench.supervisor = Supervisor::Works;
        bench.advance(Duration::from_secs(40));
        assert_eq!(restarts(&bench).len(), 6);
        assert_eq!(bench.server(&app(1)).health, Health::Healthy);
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson, NoticeKind::Resolved]);
    }

    #[test]
    fn without_a_budget_nothing_is_restarted_and_a_person_is_called() {
        let mut policy = policy(1, true);
        policy.services.values_mut().for_each(|s| s.recovery.budget = 0);
        let mut bench = Bench::settled(policy);
        bench.crash(&app(1));
        bench.advance(Duration::from_secs(3600));
        assert!(restarts(&bench).is_empty());
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
    }

    #[test]
    fn a_changed_command_is_tried_at_once_with_a_new_budget() {
        let mut policy = policy(2, true);
        policy.services.values_mut().for_each(|s| s.recovery.budget = 1);
        let mut bench = Bench::settled(policy.clone());
        bench.supervisor = Supervisor::Fails;
        bench.crash(&app(1));
        bench.advance(Duration::from_secs(30));
        let before = bench.orders().len();
        bench.tell(Input::Policy(policy.clone()));
        assert_eq!(bench.orders().len(), before, "the same command is still out of budget");
        let service = policy.services.values_mut().next().unwrap();
        service.servers.get_mut(&app(1).name).unwrap().command_version = 1;
        bench.supervisor = Supervisor::Works;
        bench.tell(Input::Policy(policy));
        bench.advance(Duration::from_secs(1));
        assert_eq!(bench.orders().len(), before + 1);
        assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    }

    #[test]
    fn restarts_of_an_earlier_run_count() {
        let mut bench = Bench::empty(policy(1, true));
        let at = crate::Wall(bench.now.wall.0 - 300_000);
        let restarts_before = vec![(app(1), at); 5];
        bench.tell(Input::Restored(Restored { restarts: restarts_before, ..Restored::default() }));
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.advance(Duration::from_secs(2));
        bench.crash(&app(1));
        assert!(restarts(&bench).is_empty());
        assert_eq!(bench.server(&app(1)).process.unwrap().restarts_in_window, 5);
        bench.advance(Duration::from_secs(300));
        assert_eq!(restarts(&bench).len(), 1);
    }

    #[test]
    fn a_server_in_maintenance_stays_down_and_is_started_when_it_is_made_ready() {
        let mut bench = Bench::settled(policy(2, true));
        bench.admin(&app(1), AdminState::Maintenance);
        bench.crash(&app(1));
        bench.advance(Duration::from_secs(60));
        assert!(bench.orders().is_empty() && bench.incidents().is_empty());
        bench.admin(&app(1), AdminState::Ready);
        assert_eq!(bench.orders()[0].1.kind, ActionKind::Start);
        bench.advance(Duration::from_secs(15));
        assert_eq!(bench.targets(), ["app-1", "app-2"]);
        assert!(bench.incidents().is_empty());
    }

    #[test]
    fn a_server_that_cannot_be_started_climbs_the_same_ladder() {
        let mut bench = Bench::empty(policy(1, true));
        bench.supervisor = Supervisor::Fails;
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.advance(MS(500));
        assert!(restarts(&bench).is_empty(), "an attempt was made already");
        bench.advance(MS(1000));
        assert_eq!(restarts(&bench).len(), 1);
        let title = bench.incidents()[0].title.clone();
        assert_eq!(title, "app-1 of shop could not be started: no such file or directory");
    }

    #[test]
    fn an_order_without_an_outcome_has_failed_in_the_end() {
        let mut bench = Bench::settled(policy(2, true));
        bench.supervisor = Supervisor::Silent;
        bench.crash(&app(1));
        bench.advance(OUTCOME_DEADLINE);
        bench.supervisor = Supervisor::Works;
        bench.advance(Duration::from_secs(3));
        assert_eq!(restarts(&bench).len(), 2);
        let ended =
            |r: &Record| matches!(r, Record::ActionEnded { error: Some(e), .. } if e.contains("no outcome"));
        assert!(bench.records().iter().any(ended));
        assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    }

    #[test]
    fn a_process_that_somebody_else_was_asked_to_end_stays_down() {
        let mut bench = Bench::settled(policy(2, true));
        let exit = crate::input::Exit::Signal(15);
        let event = ProcessEvent::Exited { exit, asked: true, last_lines: vec![] };
        bench.tell(Input::Process { server: app(1), event });
        bench.advance(Duration::from_secs(30));
        assert!(bench.orders().is_empty() && bench.incidents().is_empty());
        assert_eq!(bench.targets(), ["app-2"]);
    }

    #[test]
    fn the_outcome_may_come_before_the_word_that_it_runs() {
        let mut bench = Bench::settled(policy(2, true));
        bench.supervisor = Supervisor::Silent;
        bench.crash(&app(1));
        let action = bench.orders()[0].1.id;
        bench.tell(Input::Outcome { action, result: Ok(()) });
        bench.advance(MS(500));
        bench.tell(Input::Process { server: app(1), event: ProcessEvent::Started { pid: 9 } });
        bench.advance(Duration::from_secs(10));
        assert_eq!(bench.orders().len(), 1);
    }
}
