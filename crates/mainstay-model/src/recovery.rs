//! Bringing servers back: supervised ones started when they are new, restarted when they crash or hang, within a budget. What is
//! different for those that somebody else starts is in `outside`.
//!
//! It works by need, not by event: whenever the service is thought through, a Ready server that does not run, or hangs,
//! has either an order under way, a restart that waits for its time, or a spent budget of which people were told.
//!
//! How often and how fast is in `budget`, how it ended in `outcome`.
//! Nothing is restarted in Draining or Maintenance, and nothing that real requests are answered by. The gate is `guard`.

mod budget;
mod fleet;
mod guard;
mod outcome;

use std::time::Duration;

use crate::effect::{ActionKind, ActionOrder, Effect};
use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::out::Out;
use crate::outside::OUTCOME_MARGIN;
use crate::policy::RecoveryPolicy;
use crate::rung::Rung;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Mono;
use crate::words::span;

pub(crate) use budget::{Pending, Recovery};
pub(crate) use fleet::Fleet;
pub(crate) use guard::Refusal;

/// Nobody has said anything of an order after so long: it has failed.
pub(crate) const OUTCOME_DEADLINE: Duration = Duration::from_secs(120);
/// Who says every few seconds that they are at it, and then nothing for so long, is not any more.
pub(crate) const SILENT_FOR: Duration = Duration::from_secs(30);
/// The word that a process runs may come so long after the word that it was started.
const STARTED_MARGIN: Duration = Duration::from_secs(1);

/// What a server needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Need {
    Start,
    Dead(String),
    /// It runs and is silent.
    Hang(String),
    /// It runs and answers, and what it answers is not good.
    Ill(String),
}

impl Need {
    /// Its process runs, so that a restart may cost something.
    fn is_alive(&self) -> bool {
        matches!(self, Need::Hang(_) | Need::Ill(_))
    }
}

impl Server {
    pub(crate) fn need(&self, policy: &RecoveryPolicy, fall: u32, now: Mono) -> Option<Need> {
        let recovery = &self.recovery;
        if !self.policy.supervised {
            let because = self.probes.because.clone();
            let need = match () {
                () if self.probes.all_refused || self.probes.of_life => Need::Dead(because),
                () if self.answers_badly() => Need::Ill(because),
                () => Need::Hang(because),
            };
            return self.is_down_outside(policy.start_grace, fall, now).then_some(need);
        }
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
        if !had_its_time || !hangs || recovery.probe_only {
            return None;
        }
        let because = self.probes.because.clone();
        Some(if self.answers_badly() { Need::Ill(because) } else { Need::Hang(because) })
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
        let Some(server) = self.servers.get_mut(id).filter(|s| s.is_restartable()) else { return };
        let acting =
            server.recovery.pending.is_some() || server.recovery.outside.is_looking() || out.is_stopping(id);
        let need = if server.is_ready() && !acting { server.need(&policy, fall, now) } else { None };
        let Some(need) = need else {
            server.recovery.due = None;
            server.recovery.refused = None;
            return;
        };
        let verdict = self.may_restart(id, &need, out);
        if let Err(refusal) = self.weigh_grant(Rung::Restart, Some(id), verdict, out) {
            return self.withhold(id, refusal, out);
        }
        let granted = self.is_granted(Rung::Restart, Some(id));
        let has_its_turn = self.has_its_turn(id, &need, now).is_ok();
        let Some(server) = self.servers.get_mut(id) else { return };
        server.recovery.refused = None;
        let (alive, ill) = (need.is_alive(), matches!(need, Need::Ill(_)));
        let reason = match need {
            Need::Start => {
                server.recovery.start_wanted = false;
                return self.order(id, ActionKind::Start, false, "it is to serve and does not run", out);
            }
            Need::Dead(reason) | Need::Hang(reason) | Need::Ill(reason) => reason,
        };
        let due = match server.recovery.due {
            Some(due) => due,
            None if granted => now,
            None => now + server.recovery.delay(&policy, out),
        };
        let in_vain = server.recovery.tried_in_vain_until(&policy).filter(|_| !granted);
        let due = in_vain.map_or(due, |until| due.max(until));
        let room_at = server.recovery.room_at(&policy, now);
        if room_at.is_none_or(|at| at > now) {
            server.recovery.due = room_at.map(|at| at.max(due));
            return self.budget_is_spent(id, &policy, out);
        }
        server.recovery.due = Some(due);
        if due <= now && has_its_turn {
            let what = format!("restart {}", id.name);
            if !self.is_to_be_done(Rung::Restart, Some(id), &what, &reason, out) {
                return;
            }
            let Some(server) = self.servers.get_mut(id) else { return };
            server.recovery.tried |= ill;
            if alive || !server.policy.supervised {
                server.recovery.by_person = false;
                out.fleet.restarts(id, now);
            }
            self.order(id, ActionKind::Restart, alive, &reason, out);
        }
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
        // Who approved it knows of the load.
        let against_load = for_hang
            && !self.was_approved(Rung::Restart, Some(id))
            && self.servers.get(id).is_some_and(|s| self.withholds_restart(s, now.mono).is_some());
        let Some(server) = self.servers.get_mut(id) else { return };
        let takes = server.policy.restart.as_ref().map_or(OUTCOME_DEADLINE, |r| r.deadline + OUTCOME_MARGIN);
        let action = out.next_action();
        server.release = release;
        let recovery = &mut server.recovery;
        recovery.due = None;
        recovery.started_since_order = false;
        recovery.wait_for_start = None;
        recovery.timed_out = false;
        recovery.pending =
            Some(Pending { action, kind, for_hang, against_load, takes, deadline: now.mono + takes });
        let mut incident = None;
        if kind == ActionKind::Restart {
            let before = recovery.restarts_in(policy.budget_window, now.mono);
            debug_assert!(before < policy.budget, "{id} is restarted although its budget is spent");
            recovery.attempts = recovery.attempts.saturating_add(1);
            recovery.remember(Duration::ZERO, now.mono);
            incident = self.incident.as_ref().map(|open| open.incident().id);
            let nth = format!("{} of {} in {}", before + 1, policy.budget, span(policy.budget_window));
            server.changed(now.wall, format!("restart ordered ({nth}): {reason}"));
            let by = server.policy.restart.as_ref().map_or_else(String::new, |r| format!(" by {}", r.by));
            if let Some(open) = &mut self.incident {
                let text = format!("{}: restart ordered{by} ({nth}), because {reason}", id.name);
                open.entry(EntryKind::ActionBegun, Some(id), Some(action), text, out);
            }
        }
        if kind == ActionKind::Restart {
            let name = format!("the restart of {}", id.name);
            self.watch_action(Rung::Restart, Some(action), Some(id), name, out);
        }
        let reason = reason.to_owned();
        let order = ActionOrder { id: action, incident, server: id.clone(), kind, launch, reason };
        out.effect(Effect::Recover(order));
    }

    /// When recovery is next due for a server. A hang that waits for its turn is woken by whatever it waits for.
    pub(crate) fn recovery_due(&self, id: &ServerId, server: &Server, out: &Out) -> Option<Mono> {
        let now = out.now.mono;
        if !server.is_restartable() {
            return None;
        }
        let recovery = &server.recovery;
        let grace_ends = server.process.grace_from + self.policy.recovery.start_grace;
        let starting = server.is_starting(&self.policy, now).then_some(grace_ends);
        let waits = server.is_ready() && recovery.pending.is_none() && !out.is_stopping(id);
        let ahead = |due: Option<Mono>| due.filter(|at| waits && *at > now);
        let pending = recovery.pending.map(|p| p.deadline);
        let refused = recovery.refused.as_ref().and_then(|_| self.asked_again_at(server, out));
        [
            refused,
            pending,
            recovery.outside.due(),
            starting,
            ahead(recovery.due),
            ahead(recovery.wait_for_start),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[cfg(test)]
mod tests;
