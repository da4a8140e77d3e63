//! How an order ended, and what is told when there will be no further one.

use crate::effect::{ActionKind, Record};
use crate::id::{ActionId, ServerId};
use crate::incident::{EntryKind, Severity};
use crate::incidents::nobody_is_answered;
use crate::model::Model;
use crate::out::Out;
use crate::policy::RecoveryPolicy;
use crate::recovery::budget::Pending;
use crate::recovery::{SILENT_FOR, STARTED_MARGIN};
use crate::rung::Rung;
use crate::server::Server;
use crate::service::Service;
use crate::time::Mono;
use crate::words::{count, span};

impl Service {
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

    /// Whoever carries an action out says that they are at it. `false`: it is not one of this service's.
    fn on_acting(&mut self, action: ActionId, now: Mono) -> bool {
        let mut pending = self.servers.values_mut().filter_map(|s| s.recovery.pending.as_mut());
        let Some(pending) = pending.find(|pending| pending.action == action) else { return false };
        pending.deadline = pending.deadline.max(now + SILENT_FOR);
        true
    }

    /// Stops waiting for an outcome: the action has failed.
    pub(crate) fn give_up_action(&mut self, id: &ServerId, out: &mut Out) {
        self.give_up_look(id, out);
        let Some(server) = self.servers.get_mut(id) else { return };
        if let Some(late) = server.recovery.pending.filter(|p| out.now.mono >= p.deadline) {
            server.recovery.timed_out = true;
            let error = format!("it had no outcome within {}", span(late.takes));
            self.action_ended(id, &Err(error), out);
        }
    }

    fn action_ended(&mut self, id: &ServerId, result: &Result<(), String>, out: &mut Out) {
        let (now, grace) = (out.now, self.policy.recovery.start_grace);
        let Some(server) = self.servers.get_mut(id) else { return };
        let Some(Pending { action, kind, .. }) = server.recovery.pending.take() else { return };
        out.record(Record::ActionEnded { action, at: now.wall, error: result.as_ref().err().cloned() });
        let done = match kind {
            ActionKind::Start => "started",
            ActionKind::Restart => "restarted",
            ActionKind::Replace => "replaced",
            ActionKind::Stop => "stopped",
        };
        match result {
            Ok(()) => self.action_is_done(Rung::Restart, Some(id), now.mono),
            Err(_) => self.forget_action(Rung::Restart, Some(id)),
        }
        let Some(server) = self.servers.get_mut(id) else { return };
        let (entry, text) = match result {
            Ok(()) => {
                if !server.policy.supervised {
                    server.was_restarted(now.mono, grace);
                } else if !server.recovery.started_since_order {
                    server.recovery.wait_for_start = Some(now.mono + STARTED_MARGIN);
                }
                (EntryKind::ActionDone, format!("{} was {done}", id.name))
            }
            Err(error) => {
                server.recovery.attempts = server.recovery.attempts.max(1);
                if server.policy.supervised && server.process.pid.is_none() {
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

    /// Told once a spell; silence would look like success.
    pub(super) fn budget_is_spent(&mut self, id: &ServerId, policy: &RecoveryPolicy, out: &mut Out) {
        let down = self.is_down(out.now.mono);
        let replaced = self.is_replaced_next(id);
        let Some(server) = self.servers.get_mut(id) else { return };
        if std::mem::replace(&mut server.recovery.spent, true) {
            return;
        }
        let name = &id.name;
        let place = if server.policy.supervised { "on its page" } else { "in the incident" };
        let window = span(policy.budget_window);
        let are = if policy.budget == 1 { "is" } else { "are" };
        let all = count(policy.budget.into(), "restart");
        let spent = format!("{all} in {window} {are} spent (budget = {})", policy.budget);
        server.changed(out.now.wall, format!("not restarted: {spent}"));
        let advice = if policy.budget == 0 {
            format!("Start {name} yourself: Mainstay may not restart it (budget = 0)")
        } else {
            format!(
                "Look at why {name} does not stay up: its last lines are {place}. Mainstay tries once more when the \
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
            if !replaced {
                open.tell_needs_person(advice, out);
            }
        }
    }
}

impl Model {
    /// Whoever carries an action out says that they are at it: it is waited for.
    pub(crate) fn on_acting(&mut self, action: ActionId) {
        let now = self.out.now.mono;
        let mut services = self.services.iter_mut();
        let owner = services.find_map(|(id, s)| s.on_acting(action, now).then(|| id.clone()));
        match owner {
            // Its timers are other ones now.
            Some(id) => self.with(&id, |_, _| {}),
            None => self.out.departures.on_acting(action, now + SILENT_FOR),
        }
    }
}
