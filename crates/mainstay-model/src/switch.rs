//! The user's own `switch` command, for what Mainstay cannot switch itself: a database's standby, another data centre, a
//! router. Run when every primary is down, or when a person asks; gone back from only when a person asks.
//!
//! **Two writers are worse than none.** From the moment in which it is run, and until somebody goes back, the primaries of a service
//! that has backups get nothing and are not restarted, whatever their probes say: what was switched away from may hold state that
//! is behind. Of a run whose outcome nobody knows the worse is assumed. And it is not run at all where it would mend nothing or
//! do harm: while Mainstay doubts what it sees, under too much load, in a maintenance window, for a service that only suffers from
//! what it needs, and while a primary is being restarted.
//!
//! With a *fence* that is run first: it sees to it that nothing writes on the old side any more. Only when it has succeeded, or a
//! person vouches for it, is the command run. Mainstay sees the servers from where it stands, and no more: a primary that it
//! cannot reach may serve somebody else.
//!
//! Where servers keep state (see `lead`) it is not enough that the switch was carried out: the writes follow only when the promoted
//! server says itself that it is the primary, in answer to a question that was asked after it. So it is after an outcome that
//! nobody knows, also that of an earlier run: the servers are asked, nothing is assumed, and until then nobody gets writes.
//!
//! Once an incident: the intent of each is written down before it is run, its outcome after. An intent without an outcome,
//! because Mainstay died in between, is looked into by a person and never repeated by itself. A failure calls one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Promotion, Record, SwitchOrder};
use crate::helped::Helped;
use crate::id::{ActionId, IncidentId, ServerId};
use crate::incident::EntryKind;
use crate::input::AdminState;
use crate::lead::Successor;
use crate::out::Out;
use crate::policy::{Promote, SwitchPolicy};
use crate::recovery::Refusal;
use crate::rung::{Level, Rung};
use crate::server::Server;
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::{Mono, Wall};
use crate::words::span;

/// Beyond the command's own deadline: for ending it and telling.
const OUTCOME_MARGIN: Duration = Duration::from_secs(30);
/// What failed may have taken effect all the same: so long it is asked for.
const FAILED_SETTLES: Duration = Duration::from_secs(5);
/// Writes that were switched are not switched again by Mainstay alone within this time.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// What stands in the way of a switch may be gone in a moment: nobody is called before.
const OBSTACLE_LASTS: Duration = Duration::from_secs(5);
/// Who wants what nobody asked for.
const BY_ITSELF: &str = "Mainstay";
/// Lines of the output that are kept.
pub const OUTPUT_MAX: usize = 20;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchStep {
    /// What sees to it that nothing writes on the old side any more.
    Fence,
    /// The switch itself.
    There,
    /// The way back.
    Back,
}

impl SwitchStep {
    /// The word that the command is told.
    pub fn as_str(self) -> &'static str {
        match self {
            SwitchStep::Fence => "fence",
            SwitchStep::There => "there",
            SwitchStep::Back => "back",
        }
    }

    /// In the middle of a sentence.
    pub fn in_words(self) -> &'static str {
        match self {
            SwitchStep::Fence => "the fence of the switch",
            SwitchStep::There => "the switch",
            SwitchStep::Back => "the way back of the switch",
        }
    }
}

/// The fence of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRun {
    /// Its number among all actions.
    pub action: ActionId,
    /// How it ended; `None` while it runs.
    pub end: Option<SwitchEnd>,
}

/// One run of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchRun {
    /// Its number among all actions.
    pub action: ActionId,
    /// What is run before it; `None`: nothing, because the config names no fence, it is the way back, or a person vouched
    /// that nothing writes on the old side.
    #[serde(default)]
    pub fence: Option<FenceRun>,
    /// It was the way back.
    pub back: bool,
    /// The incident that it was to mend.
    pub incident: Option<IncidentId>,
    /// Who wanted it: `Mainstay` or a person.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was begun.
    pub at: Wall,
    /// How it ended; `None` while it runs.
    pub end: Option<SwitchEnd>,
    /// The service is switched, as far as is known: before it while it runs, and after it.
    #[serde(default)]
    pub switched: bool,
    /// Whether it helped, once that is judged.
    #[serde(default)]
    pub helped: Option<Helped>,
    /// Where servers keep state: who took the writes before it.
    #[serde(default)]
    pub from: Option<ServerId>,
    /// Who is to take them after it, as soon as that is known.
    #[serde(default)]
    pub to: Option<ServerId>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchEnd {
    /// When.
    pub at: Wall,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The last lines that it wrote, at most [`OUTPUT_MAX`].
    pub output: Vec<String>,
}

/// How the switch of a service stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSnapshot {
    /// It is run by itself; otherwise a person is asked.
    pub automatic: bool,
    /// A fence is run first.
    #[serde(default)]
    pub fence: bool,
    /// A person may go back: there is a command for it, or the service is switched.
    pub can_go_back: bool,
    /// Every primary is down for so long that it would help.
    pub wanted: bool,
    /// The last run went there, and none has gone back since.
    pub switched: bool,
    /// The last run.
    pub last: Option<SwitchRun>,
}

impl SwitchRun {
    /// What runs now, or ran last.
    pub fn step(&self) -> SwitchStep {
        match (self.back, self.is_fenced()) {
            (true, _) => SwitchStep::Back,
            (false, false) => SwitchStep::Fence,
            (false, true) => SwitchStep::There,
        }
    }

    /// Nothing is to be run before it, or that succeeded.
    fn is_fenced(&self) -> bool {
        let good = |end: &SwitchEnd| end.error.is_none();
        self.fence.as_ref().is_none_or(|fence| fence.end.as_ref().is_some_and(good))
    }

    /// The number of what runs now.
    fn runs_as(&self) -> Option<ActionId> {
        if self.end.is_some() {
            return None;
        }
        let fence = self.fence.as_ref().filter(|_| !self.is_fenced());
        Some(fence.map_or(self.action, |fence| fence.action))
    }
}

impl SwitchSnapshot {
    /// It runs.
    pub fn is_running(&self) -> bool {
        self.last.as_ref().is_some_and(|run| run.end.is_none())
    }

    /// Of it, this runs.
    pub fn runs(&self, step: SwitchStep) -> bool {
        self.is_running() && self.last.as_ref().is_some_and(|run| run.step() == step)
    }
}

/// What is known of a service's switch.
#[derive(Debug, Default)]
pub(crate) struct Switching {
    pub(crate) last: Option<SwitchRun>,
    /// The last run that succeeded went there.
    switched: bool,
    /// Since when every primary is down.
    down_since: Option<Mono>,
    /// When an outcome is no longer waited for.
    give_up: Option<Mono>,
    /// It was carried out, and the servers are asked who is the primary.
    confirm: Option<Confirm>,
    /// Since when every primary had been down when it was last begun.
    about: Option<Mono>,
    /// Why it is not run just now, as the timeline says.
    withheld: Option<Refusal>,
}

/// Servers are asked who is the primary.
#[derive(Debug)]
struct Confirm {
    /// Only answers to questions of after then count.
    from: Mono,
    until: Mono,
    /// What is said of the run if nobody is.
    error: Option<String>,
    output: Vec<String>,
}

impl Service {
    /// What an earlier run left. A command that was begun and not known to have ended is not run again.
    pub(crate) fn restore_switch(&mut self, run: SwitchRun, out: &mut Out) {
        self.switching.switched = run.switched;
        let (lost, fenced) = (run.end.is_none(), run.is_fenced());
        self.switching.last = Some(run);
        if lost && !fenced {
            let error = "Mainstay was restarted while the fence ran; nothing was switched".to_owned();
            self.step_ended(Err(error), Vec::new(), out);
        } else if lost {
            let error = match self.has_lead() {
                true => "Mainstay was restarted while it ran, and it did not take effect".to_owned(),
                false => {
                    "Mainstay was restarted while it ran; whether it took effect is not known".to_owned()
                }
            };
            self.outcome_is_unknown(error, out);
        }
    }

    /// A person wants to switch, or to go back.
    pub(crate) fn on_switch_order(&mut self, back: bool, fenced: bool, by: &str, out: &mut Out) {
        if self.present_switch().is_none_or(|s| s.is_running() || (back && !s.can_go_back)) {
            return;
        }
        let reason = match (back, fenced) {
            (true, _) => "a person wants to go back",
            (false, true) => "a person wants it, and vouches that nothing writes on the old side",
            (false, false) => "a person wants it",
        };
        self.person_acts(Rung::Switch, None);
        self.run_switch(back, fenced, by, reason.to_owned(), out);
    }

    /// The command ended, or could not be run.
    pub(crate) fn on_switched(
        &mut self,
        action: ActionId,
        result: &Result<(), String>,
        output: &[String],
        out: &mut Out,
    ) {
        let running = |run: &SwitchRun| run.runs_as() == Some(action);
        if self.switching.confirm.is_none() && self.switching.last.as_ref().is_some_and(running) {
            let kept = output.len().saturating_sub(OUTPUT_MAX);
            self.step_ended(result.clone(), output[kept..].to_vec(), out);
        }
    }

    /// Runs the command, or asks for it, when every primary is down for long enough.
    pub(crate) fn advance_switch(&mut self, out: &mut Out) {
        let now = out.now.mono;
        if self.switching.give_up.is_some_and(|at| now >= at) {
            let error = match self.has_lead() {
                true => "it had no outcome in time, and did not take effect".to_owned(),
                false => "it had no outcome in time; whether it took effect is not known".to_owned(),
            };
            self.outcome_is_unknown(error, out);
        }
        self.confirm_switch(out);
        let Some(policy) = self.policy.switch.clone() else { return };
        let mut primaries =
            self.servers.values().filter(|s| s.is_primary() && s.admin == AdminState::Ready).peekable();
        let down = primaries.peek().is_some() && primaries.all(|s: &Server| s.health == Health::Unhealthy);
        self.switching.down_since = down.then(|| self.switching.down_since.unwrap_or(now));
        let Some(incident) = self.incident.as_ref().map(|open| open.incident().id) else { return };
        let Some(since) = self.switching.down_since.filter(|since| now >= *since + policy.after) else {
            return self.switching.withheld = None;
        };
        let last = self.switching.last.as_ref();
        // Servers that keep state may fail one after the other before the first one is mended.
        let ran = |run: &SwitchRun| {
            let about_this = match self.has_lead() {
                true => self.switching.about == Some(since),
                false => run.incident == Some(incident),
            };
            run.end.is_none() || about_this
        };
        if last.is_some_and(ran) {
            return self.switching.withheld = None;
        }
        let verdict = self.may_switch(out);
        if let Err(refusal) = self.weigh_grant(Rung::Switch, None, verdict, out) {
            if refusal != Refusal::Undecided
                && self.switching.withheld.as_ref() != Some(&refusal)
                && let Some(open) = &mut self.incident
            {
                open.entry(EntryKind::Withheld, None, None, format!("not switched: {refusal}"), out);
            }
            self.switching.withheld = Some(refusal);
            return;
        }
        let down_for = span(policy.after);
        let reason = match self.lead.server() {
            Some(lead) if self.has_lead() => {
                format!("{}, which takes the writes, is down for {down_for}", lead.name)
            }
            _ => format!("every primary is down for {down_for}"),
        };
        // What is switched already is not switched again by itself, and what failed is not tried again.
        let succeeded = |run: &SwitchRun| run.end.as_ref().is_some_and(|end| end.error.is_none());
        let long_ago = |run: &SwitchRun| out.now.wall.ms_since(run.at) >= AGAIN_AFTER.as_millis() as i64;
        let last = self.switching.last.as_ref();
        let once = last.is_none_or(|run| succeeded(run) && (run.back || self.has_lead() && long_ago(run)));
        let frozen = out.frozen().map(ToString::to_string);
        let before = match (self.switching.switched, last.is_some_and(succeeded)) {
            (true, _) => "it was switched before and never back",
            (false, true) => "it was switched within the hour",
            (false, false) => "the last run failed",
        };
        let obstacle = self.obstacle(&policy);
        let automatic = self.policy.recovery.levels.switch == Level::Automatic;
        if automatic && obstacle.is_some() && now < since + policy.after + OBSTACLE_LASTS {
            return;
        }
        // What would be automatic otherwise.
        let ask = obstacle.or(frozen).or_else(|| (!once).then(|| before.to_owned()));
        let (level, reason) = match (self.policy.recovery.levels.switch, ask) {
            (Level::Automatic, Some(why)) => (Level::Ask, format!("{reason}; {why}")),
            (level, _) => (level, reason),
        };
        let what = match self.has_lead() {
            true => format!("switch {} to another server", self.id),
            false => format!("run the switch command of {}", self.id),
        };
        if self.is_to_be_done_at(level, Rung::Switch, None, &what, &reason, out) {
            let by = self.wanted_by(Rung::Switch);
            self.run_switch(false, false, &by, reason, out);
        }
    }

    /// A run has gone so far that writes are kept from where they went, and not so far that they go elsewhere.
    pub(crate) fn is_switching_there(&self) -> bool {
        self.switching.last.as_ref().is_some_and(|run| run.end.is_none() && !run.back)
    }

    /// Its primaries were switched away from, or are just about to be: they stay out, whatever their probes say.
    pub(crate) fn is_switched_away(&self) -> bool {
        let away = self.switching.switched || self.is_switching_there();
        away && self.policy.state.is_none() && self.servers.values().any(|s| !s.is_primary())
    }

    /// When something about the switch is next due.
    pub(crate) fn switch_due(&self, now: Mono) -> Option<Mono> {
        let after = self.policy.switch.as_ref().map(|policy| policy.after);
        let down = self.switching.down_since.zip(after).map(|(since, after)| since + after);
        let blocked = down.map(|at| at + OBSTACLE_LASTS);
        let confirm = self.switching.confirm.as_ref().map(|confirm| confirm.until);
        [self.switching.give_up, down, blocked, confirm].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The switch as people see it.
    pub(crate) fn present_switch(&self) -> Option<SwitchSnapshot> {
        let policy = self.policy.switch.as_ref()?;
        let switching = &self.switching;
        Some(SwitchSnapshot {
            automatic: self.policy.recovery.levels.switch == Level::Automatic,
            fence: policy.fence,
            // Servers that keep state have no usual side.
            can_go_back: self.policy.state.is_none() && (policy.can_go_back || switching.switched),
            wanted: self.proposals.iter().any(|p| p.rung == Rung::Switch && p.is_undecided()),
            switched: switching.switched,
            last: switching.last.clone(),
        })
    }

    fn run_switch(&mut self, back: bool, fenced: bool, by: &str, reason: String, out: &mut Out) {
        let Some(policy) = self.policy.switch.clone() else { return };
        let fence = policy.fence && !back && !fenced;
        let fence = fence.then(|| FenceRun { action: out.next_action(), end: None });
        let action = out.next_action();
        let incident = self.incident.as_ref().map(|open| open.incident().id);
        let run = SwitchRun {
            action,
            fence,
            back,
            incident,
            by: by.to_owned(),
            reason,
            at: out.now.wall,
            end: None,
            switched: self.switching.switched,
            helped: None,
            from: self.has_lead().then(|| self.lead.server().cloned()).flatten(),
            to: None,
        };
        self.switching.about = self.switching.down_since;
        self.switching.last = Some(run);
        if !back {
            self.watch_action(Rung::Switch, Some(action), None, "the switch".to_owned(), out);
        }
        self.run_step(&policy, out);
    }

    /// Writes down what is run next, and has it run.
    fn run_step(&mut self, policy: &SwitchPolicy, out: &mut Out) {
        let Some(step) = self.switching.last.as_ref().filter(|run| run.end.is_none()).map(SwitchRun::step)
        else {
            return;
        };
        let mut promote = None;
        if step == SwitchStep::There && self.has_lead() {
            match self.choose(policy) {
                Ok(chosen) => promote = chosen,
                Err(why) => {
                    return self.step_ended(Err(format!("nobody was promoted: {why}")), Vec::new(), out);
                }
            }
        }
        let Some((run, id)) = self.switching.last.as_ref().and_then(|run| Some((run, run.runs_as()?))) else {
            return;
        };
        if let Some(open) = &mut self.incident {
            let what = match (&promote, &run.to) {
                (Some(promotion), _) => format!("{} is promoted", promotion.server.name),
                (None, Some(to)) if step == SwitchStep::There => format!("{} is to take the writes", to.name),
                _ => format!("{} is run", step.in_words()),
            };
            let text = format!("{what}, wanted by {}: {}", run.by, run.reason);
            open.entry(EntryKind::ActionBegun, None, Some(id), text, out);
        }
        out.record(Record::Switch { service: self.id.clone(), run: run.clone() });
        if step == SwitchStep::Back && !policy.can_go_back {
            // Nothing is to be run; the primaries are trusted again.
            return self.step_ended(Ok(()), Vec::new(), out);
        }
        let by_command = policy.promote == Promote::Command;
        if step == SwitchStep::There && self.has_lead() && promote.is_none() && !by_command {
            return self.begin_to_confirm(None, Vec::new(), policy.deadline, out);
        }
        self.switching.give_up = Some(out.now.mono + policy.deadline + OUTCOME_MARGIN);
        let servers = self.servers.iter().map(|(id, s)| (id.clone(), s.health)).collect();
        out.effect(Effect::Switch(SwitchOrder {
            id,
            service: self.id.clone(),
            step,
            by: run.by.clone(),
            reason: run.reason.clone(),
            incident: run.incident,
            servers,
            deadline: policy.deadline,
            from: run.from.clone(),
            promote,
        }));
    }

    /// Who is to take the writes, and whether Mainstay promotes it.
    fn choose(&mut self, policy: &SwitchPolicy) -> Result<Option<Promotion>, String> {
        let by_person = self.switching.last.as_ref().is_some_and(|run| run.by != BY_ITSELF);
        let chosen = match policy.promote {
            Promote::Command => return Ok(None),
            Promote::Nobody => {
                self.successor(policy, by_person).ok().filter(|s| matches!(s, Successor::Is(_)))
            }
            Promote::Postgres => Some(self.successor(policy, by_person)?),
        };
        let (to, promote) = match chosen {
            None => (None, None),
            Some(Successor::Is(server)) => (Some(server), None),
            Some(Successor::Promote(server)) => (Some(server.clone()), Some(server)),
        };
        if let Some(run) = &mut self.switching.last {
            run.to = to;
        }
        let Some(server) = promote else { return Ok(None) };
        let known = self.servers.get(&server);
        let (address, tls) = known
            .and_then(|s| Some((s.address.clone()?, s.policy.tls)))
            .ok_or_else(|| format!("where {} listens is not known", server.name))?;
        Ok(Some(Promotion { server, address, tls, send_proxy: self.policy.carriage.send_proxy }))
    }

    /// The servers are asked who is the primary now.
    fn begin_to_confirm(
        &mut self,
        error: Option<String>,
        output: Vec<String>,
        within: Duration,
        out: &mut Out,
    ) {
        let from = out.now.mono;
        self.switching.give_up = None;
        self.switching.confirm = Some(Confirm { from, until: from + within, error, output });
        self.ask_roles(from);
    }

    /// The switch has its outcome when the promoted server says that it is the primary, or does not in time.
    fn confirm_switch(&mut self, out: &mut Out) {
        let (Some(confirm), Some(run)) = (&self.switching.confirm, &self.switching.last) else { return };
        let (from, late, to) = (confirm.from, out.now.mono >= confirm.until, run.to.clone());
        let found = self.says_primary(to.as_ref(), from);
        if found.is_none() && !late {
            return;
        }
        let left = run.from.clone();
        let Some(Confirm { error, output, .. }) = self.switching.confirm.take() else { return };
        if let Some(server) = found {
            if let Some(run) = &mut self.switching.last {
                run.to = Some(server.clone());
            }
            self.end_run(Ok(()), output, out);
            let text = format!("{} says that it is the primary: writes go to it", server.name);
            return self.lead_is(&server, left.filter(|left| *left != server), text, out);
        }
        let error = match &to {
            Some(to) if self.says_replica(to, from) => {
                error.unwrap_or_else(|| "it did not take effect".to_owned())
                    + &format!("; {} is a replica", to.name)
            }
            Some(to) => {
                self.lead_is_unclear(to, out);
                format!(
                    "{} does not say whether it is the primary; until it does, nobody gets writes",
                    to.name
                )
            }
            None => error.unwrap_or_else(|| "no other server says that it is the primary".to_owned()),
        };
        self.end_run(Err(error), output, out);
    }

    /// The switch itself may have taken effect. A fence of which nobody knows has switched nothing.
    fn outcome_is_unknown(&mut self, error: String, out: &mut Out) {
        let fenced = self.switching.last.as_ref().is_some_and(|run| run.is_fenced() && !run.back);
        if self.has_lead() && fenced {
            let within = self.policy.switch.as_ref().map_or(FAILED_SETTLES, |policy| policy.deadline);
            return self.begin_to_confirm(Some(error), Vec::new(), within, out);
        }
        self.switching.switched |= self.switching.last.as_ref().is_some_and(SwitchRun::is_fenced);
        self.step_ended(Err(error), Vec::new(), out);
    }

    /// It was judged whether a run helped.
    pub(crate) fn switch_helped(&mut self, action: ActionId, helped: Helped, out: &mut Out) {
        let Some(run) = self.switching.last.as_mut().filter(|run| run.action == action) else { return };
        run.helped = Some(helped);
        out.record(Record::Switch { service: self.id.clone(), run: run.clone() });
    }

    /// What was run has ended; after the fence comes the switch, and after that the servers are asked, where they keep state.
    fn step_ended(&mut self, result: Result<(), String>, output: Vec<String>, out: &mut Out) {
        let step = self.switching.last.as_ref().map(SwitchRun::step);
        let chosen = self.switching.last.as_ref().is_some_and(|run| run.to.is_some());
        let policy = self.policy.switch.as_ref();
        let by_command = policy.is_some_and(|policy| policy.promote == Promote::Command);
        if self.has_lead() && step == Some(SwitchStep::There) && (chosen || by_command) {
            let deadline = policy.map_or(FAILED_SETTLES, |policy| policy.deadline);
            let within = if result.is_ok() { deadline } else { deadline.min(FAILED_SETTLES) };
            return self.begin_to_confirm(result.err(), output, within, out);
        }
        self.end_run(result, output, out);
    }

    fn end_run(&mut self, result: Result<(), String>, output: Vec<String>, out: &mut Out) {
        self.switching.give_up = None;
        let Some(run) = &mut self.switching.last else { return };
        let (step, id) = (run.step(), run.runs_as());
        let what = step.in_words();
        let last_line =
            output.last().map_or_else(String::new, |line| format!("; the last line it wrote: {line}"));
        let mut end = SwitchEnd { at: out.now.wall, error: result.as_ref().err().cloned(), output };
        match (step, &mut run.fence) {
            (SwitchStep::Fence, Some(fence)) => {
                fence.end = Some(end.clone());
                if let Some(error) = &mut end.error {
                    *error = format!("nothing was switched, because the fence failed: {error}");
                    run.end = Some(end);
                }
            }
            _ => run.end = Some(end),
        }
        if result.is_ok() && step != SwitchStep::Fence {
            self.switching.switched = step == SwitchStep::There && self.policy.state.is_none();
        }
        run.switched = self.switching.switched;
        out.record(Record::Switch { service: self.id.clone(), run: run.clone() });
        match (&result, step) {
            (Ok(()), SwitchStep::There) => self.action_is_done(Rung::Switch, None, out.now.mono),
            (Err(_), _) => self.forget_action(Rung::Switch, None),
            _ => {}
        }
        if let Some(open) = &mut self.incident {
            let (kind, text) = match &result {
                Ok(()) => (EntryKind::ActionDone, format!("{what} was carried out{last_line}")),
                Err(error) => (EntryKind::ActionFailed, format!("{what} failed: {error}{last_line}")),
            };
            open.entry(kind, None, id, text, out);
            if let Err(error) = &result {
                let service = &self.id;
                let advice = match step {
                    SwitchStep::Fence => format!(
                        "See to it that nothing writes on the old side of {service}, then run mainstay switch {service} \
                         --fenced: its fence failed ({error}), so nothing was switched"
                    ),
                    _ => format!(
                        "See whether {service} is switched: {what} failed ({error}), and it is not run again by itself"
                    ),
                };
                open.tell_needs_person_anew(advice, out);
            }
        }
        if result.is_ok()
            && step == SwitchStep::Fence
            && let Some(policy) = self.policy.switch.clone()
        {
            self.run_step(&policy, out);
        }
    }
}

#[cfg(test)]
mod tests;
