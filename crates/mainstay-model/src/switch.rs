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
//! Once an incident: the intent of each is written down before it is run, its outcome after. An intent without an outcome,
//! because Mainstay died in between, is looked into by a person and never repeated by itself. A failure calls one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Record, SwitchOrder};
use crate::helped::Helped;
use crate::id::{ActionId, IncidentId};
use crate::incident::EntryKind;
use crate::input::AdminState;
use crate::out::Out;
use crate::policy::SwitchPolicy;
use crate::recovery::Refusal;
use crate::rung::{Level, Rung};
use crate::server::Server;
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::{Mono, Wall};
use crate::words::span;

/// Beyond the command's own deadline: for ending it and telling.
const OUTCOME_MARGIN: Duration = Duration::from_secs(30);
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
    /// Why it is not run just now, as the timeline says.
    withheld: Option<Refusal>,
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
            let error = "Mainstay was restarted while it ran; whether it took effect is not known".to_owned();
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
        if self.switching.last.as_ref().is_some_and(running) {
            let kept = output.len().saturating_sub(OUTPUT_MAX);
            self.step_ended(result.clone(), output[kept..].to_vec(), out);
        }
    }

    /// Runs the command, or asks for it, when every primary is down for long enough.
    pub(crate) fn advance_switch(&mut self, out: &mut Out) {
        let now = out.now.mono;
        if self.switching.give_up.is_some_and(|at| now >= at) {
            let error = "it had no outcome in time; whether it took effect is not known".to_owned();
            self.outcome_is_unknown(error, out);
        }
        let Some(policy) = self.policy.switch.clone() else { return };
        let mut primaries =
            self.servers.values().filter(|s| s.is_primary() && s.admin == AdminState::Ready).peekable();
        let down = primaries.peek().is_some() && primaries.all(|s: &Server| s.health == Health::Unhealthy);
        self.switching.down_since = down.then(|| self.switching.down_since.unwrap_or(now));
        let Some(incident) = self.incident.as_ref().map(|open| open.incident().id) else { return };
        let due = self.switching.down_since.is_some_and(|since| now >= since + policy.after);
        let ran = self
            .switching
            .last
            .as_ref()
            .is_some_and(|run| run.end.is_none() || run.incident == Some(incident));
        if !due || ran {
            self.switching.withheld = None;
            return;
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
        let reason = format!("every primary is down for {}", span(policy.after));
        // What is switched already is not switched again by itself, and what failed is not tried again.
        let once = self
            .switching
            .last
            .as_ref()
            .is_none_or(|run| run.back && run.end.as_ref().is_some_and(|e| e.error.is_none()));
        let frozen = out.frozen().map(ToString::to_string);
        let before = match self.switching.switched {
            true => "it was switched before and never back",
            false => "the last run failed",
        };
        // What would be automatic otherwise.
        let ask = frozen.or_else(|| (!once).then(|| before.to_owned()));
        let (level, reason) = match (self.policy.recovery.levels.switch, ask) {
            (Level::Automatic, Some(why)) => (Level::Ask, format!("{reason}; {why}")),
            (level, _) => (level, reason),
        };
        let what = format!("run the switch command of {}", self.id);
        if self.is_to_be_done_at(level, Rung::Switch, None, &what, &reason, out) {
            let by = self.wanted_by(Rung::Switch);
            self.run_switch(false, false, &by, reason, out);
        }
    }

    /// Its primaries were switched away from, or are just about to be: they stay out, whatever their probes say.
    pub(crate) fn is_switched_away(&self) -> bool {
        let there = |run: &SwitchRun| run.end.is_none() && !run.back;
        let away = self.switching.switched || self.switching.last.as_ref().is_some_and(there);
        away && self.servers.values().any(|s| !s.is_primary())
    }

    /// When something about the switch is next due.
    pub(crate) fn switch_due(&self, now: Mono) -> Option<Mono> {
        let after = self.policy.switch.as_ref().map(|policy| policy.after);
        let down = self.switching.down_since.zip(after).map(|(since, after)| since + after);
        [self.switching.give_up, down].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The switch as people see it.
    pub(crate) fn present_switch(&self) -> Option<SwitchSnapshot> {
        let policy = self.policy.switch.as_ref()?;
        let switching = &self.switching;
        Some(SwitchSnapshot {
            automatic: self.policy.recovery.levels.switch == Level::Automatic,
            fence: policy.fence,
            can_go_back: policy.can_go_back || switching.switched,
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
        };
        self.switching.last = Some(run);
        if !back {
            self.watch_action(Rung::Switch, Some(action), None, "the switch".to_owned(), out);
        }
        self.run_step(&policy, out);
    }

    /// Writes down what is run next, and has it run.
    fn run_step(&mut self, policy: &SwitchPolicy, out: &mut Out) {
        let Some((run, id)) = self.switching.last.as_ref().and_then(|run| Some((run, run.runs_as()?))) else {
            return;
        };
        let step = run.step();
        if let Some(open) = &mut self.incident {
            let text = format!("{} is run, wanted by {}: {}", step.in_words(), run.by, run.reason);
            open.entry(EntryKind::ActionBegun, None, Some(id), text, out);
        }
        out.record(Record::Switch { service: self.id.clone(), run: run.clone() });
        if step == SwitchStep::Back && !policy.can_go_back {
            // Nothing is to be run; the primaries are trusted again.
            return self.step_ended(Ok(()), Vec::new(), out);
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
        }));
    }

    /// The switch itself may have taken effect. A fence of which nobody knows has switched nothing.
    fn outcome_is_unknown(&mut self, error: String, out: &mut Out) {
        self.switching.switched |= self.switching.last.as_ref().is_some_and(SwitchRun::is_fenced);
        self.step_ended(Err(error), Vec::new(), out);
    }

    /// It was judged whether a run helped.
    pub(crate) fn switch_helped(&mut self, action: ActionId, helped: Helped, out: &mut Out) {
        let Some(run) = self.switching.last.as_mut().filter(|run| run.action == action) else { return };
        run.helped = Some(helped);
        out.record(Record::Switch { service: self.id.clone(), run: run.clone() });
    }

    /// What was run has ended; after the fence comes the switch.
    fn step_ended(&mut self, result: Result<(), String>, output: Vec<String>, out: &mut Out) {
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
            self.switching.switched = step == SwitchStep::There;
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::effect::NoticeKind;
    use crate::input::{Input, ProbeFailure, Restored};
    use crate::policy::Policy;
    use crate::testing::{Bench, app, policy, shop};

    fn switchable(automatic: bool) -> Policy {
        let mut policy = policy(2, false);
        policy.services.values_mut().for_each(|s| {
            s.recovery.levels.switch = if automatic { Level::Automatic } else { Level::Ask };
            s.switch = Some(SwitchPolicy {
                after: Duration::from_secs(5),
                deadline: Duration::from_secs(30),
                fence: false,
                can_go_back: true,
            });
        });
        policy
    }

    fn all_down(bench: &mut Bench) {
        (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
    }

    fn orders(bench: &Bench) -> Vec<SwitchOrder> {
        let order = |(_, e): &(Mono, Effect)| match e {
            Effect::Switch(order) => Some(order.clone()),
            _ => None,
        };
        bench.effects.iter().filter_map(order).collect()
    }

    fn switch(bench: &Bench) -> SwitchSnapshot {
        bench.model.snapshot(bench.now).services[0].switch.clone().unwrap()
    }

    fn ends(bench: &mut Bench, result: Result<(), String>) {
        let action = orders(bench).last().unwrap().id;
        let output = vec!["promoting the standby".to_owned(), "done".to_owned()];
        bench.tell(Input::Switched { service: shop(), action, result, output });
    }

    #[test]
    fn it_is_run_once_an_incident_when_every_primary_is_down_for_long_enough() {
        let mut bench = Bench::settled(switchable(true));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(60));
        assert!(orders(&bench).is_empty(), "one primary is left");
        all_down(&mut bench);
        bench.advance(Duration::from_secs(4));
        assert!(orders(&bench).is_empty());
        bench.advance(Duration::from_secs(3));
        let order = orders(&bench)[0].clone();
        assert_eq!(
            (order.step, order.servers.len(), order.reason.as_str()),
            (SwitchStep::There, 2, "every primary is down for 5s")
        );
        let first =
            bench.effects.iter().position(|(_, e)| matches!(e, Effect::Record(Record::Switch { .. })));
        let second = bench.effects.iter().position(|(_, e)| matches!(e, Effect::Switch(_)));
        assert!(first < second, "the intent is written down first");
        ends(&mut bench, Ok(()));
        assert!(switch(&bench).switched);
        bench.advance(Duration::from_secs(600));
        (1..=2).for_each(|n| bench.is_good(&app(n)));
        bench.advance(Duration::from_secs(5));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(60));
        assert_eq!(orders(&bench).len(), 1, "the same incident");
    }

    #[test]
    fn at_level_ask_a_person_is_called_and_decides_and_only_a_person_goes_back() {
        let mut bench = Bench::settled(switchable(false));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(20));
        assert!(orders(&bench).is_empty());
        assert!(switch(&bench).wanted);
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
        let tell = |bench: &mut Bench, back| {
            bench.tell(Input::Switch { service: shop(), back, fenced: false, by: "alice".to_owned() })
        };
        tell(&mut bench, false);
        tell(&mut bench, false);
        assert_eq!(orders(&bench).len(), 1, "it runs already");
        ends(&mut bench, Ok(()));
        (1..=2).for_each(|n| bench.is_good(&app(n)));
        bench.advance(Duration::from_secs(3600));
        assert!(switch(&bench).switched && orders(&bench).len() == 1, "never back by itself");
        tell(&mut bench, true);
        assert_eq!(orders(&bench)[1].step, SwitchStep::Back);
        ends(&mut bench, Ok(()));
        assert!(!switch(&bench).switched);
    }

    #[test]
    fn a_failure_calls_a_person_and_is_not_repeated() {
        let mut bench = Bench::settled(switchable(true));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(10));
        ends(&mut bench, Err("exited with status 1".to_owned()));
        bench.advance(Duration::from_secs(600));
        assert_eq!(orders(&bench).len(), 1);
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
        let text = bench.incidents()[0]
            .timeline
            .iter()
            .find(|e| e.kind == EntryKind::ActionFailed)
            .unwrap()
            .text
            .clone();
        assert_eq!(text, "the switch failed: exited with status 1; the last line it wrote: done");
    }

    #[test]
    fn an_outcome_that_never_comes_is_a_failure() {
        let mut bench = Bench::settled(switchable(true));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(80));
        assert!(switch(&bench).last.unwrap().end.unwrap().error.unwrap().contains("no outcome in time"));
        assert_eq!(orders(&bench).len(), 1);
    }

    #[test]
    fn a_restart_in_the_middle_looks_into_it_and_never_repeats_it() {
        let mut bench = Bench::settled(switchable(true));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(10));
        let run = switch(&bench).last.unwrap();
        assert!(run.end.is_none());
        let incident = bench.incidents()[0].as_ref().clone();
        let mut next = Bench::empty(bench.policy.clone());
        let restored = Restored {
            incidents: vec![incident],
            last_action: 50,
            switches: BTreeMap::from([(shop(), run)]),
            ..Restored::default()
        };
        next.tell(Input::Restored(restored));
        next.tell(Input::Policy(next.policy.clone()));
        next.addresses();
        all_down(&mut next);
        next.advance(Duration::from_secs(60));
        assert!(orders(&next).is_empty());
        assert!(switch(&next).last.unwrap().end.unwrap().error.unwrap().contains("Mainstay was restarted"));
        let failed = next.incidents()[0].timeline.iter().any(|e| e.kind == EntryKind::ActionFailed);
        assert!(failed, "{:?}", next.incidents()[0].timeline);
    }

    /// Two primaries and a backup; with a switch.
    fn with_standby(supervised: bool, can_go_back: bool) -> Policy {
        let mut policy = crate::testing::with_spare(policy(2, supervised));
        let service = policy.services.get_mut(&shop()).unwrap();
        service.switch = switchable(true).services[&shop()].switch.clone();
        service.recovery.levels.switch = Level::Automatic;
        service.switch.as_mut().unwrap().can_go_back = can_go_back;
        policy
    }

    fn goes_back(bench: &mut Bench) {
        bench.tell(Input::Switch { service: shop(), back: true, fenced: false, by: "alice".to_owned() });
    }

    #[test]
    fn what_was_switched_away_from_gets_nothing_until_a_person_goes_back_however_well_it_is() {
        for can_go_back in [true, false] {
            let mut bench = Bench::settled(with_standby(false, can_go_back));
            all_down(&mut bench);
            bench.advance(Duration::from_secs(8));
            // From the moment in which it runs: what comes back now would be a second writer.
            bench.is_good(&app(1));
            bench.advance(Duration::from_secs(5));
            assert_eq!(bench.targets(), ["spare"]);
            ends(&mut bench, Ok(()));
            bench.is_good(&app(2));
            bench.advance(Duration::from_secs(120));
            assert_eq!(bench.targets(), ["spare"]);
            assert_eq!(bench.server(&app(1)).note, Some(crate::snapshot::ServerNote::SwitchedAway));
            // Not even when nobody else is left.
            bench.is_bad(&crate::testing::spare(), ProbeFailure::Refused);
            bench.advance(Duration::from_secs(20));
            assert_eq!(bench.targets(), ["spare"], "tried, and nobody else");
            assert!(bench.routed().last_resort.is_empty());
            bench.is_good(&crate::testing::spare());
            bench.advance(Duration::from_secs(20));
            goes_back(&mut bench);
            if can_go_back {
                ends(&mut bench, Ok(()));
            }
            assert!(!switch(&bench).switched);
            bench.advance(Duration::from_secs(60));
            assert_eq!(bench.targets(), ["app-1", "app-2"], "{can_go_back}");
        }
    }

    #[test]
    fn a_primary_that_was_switched_away_from_is_not_restarted_and_one_that_is_being_restarted_is_waited_for()
    {
        let mut bench = Bench::settled(with_standby(true, true));
        bench.supervisor = crate::testing::Supervisor::Silent;
        (1..=2).for_each(|n| bench.crash(&app(n)));
        bench.advance(Duration::from_secs(30));
        assert!(orders(&bench).is_empty(), "their restarts are under way");
        let held = |e: &crate::incident::TimelineEntry| e.text == "not switched: app-1 is being started anew";
        assert!(bench.incidents()[0].timeline.iter().any(held), "{:?}", bench.incidents()[0].timeline);

        let mut bench = Bench::settled(with_standby(true, true));
        bench.tell(Input::Switch { service: shop(), back: false, fenced: false, by: "alice".to_owned() });
        ends(&mut bench, Ok(()));
        bench.effects.clear();
        bench.crash(&app(1));
        bench.advance(Duration::from_secs(60));
        assert!(bench.orders().is_empty());
        let withheld = |e: &crate::incident::TimelineEntry| e.text.contains("was switched away from it");
        assert!(bench.incidents()[0].timeline.iter().any(withheld));
        goes_back(&mut bench);
        ends(&mut bench, Ok(()));
        bench.advance(Duration::from_secs(1));
        assert_eq!(bench.orders().len(), 1, "now it is");
    }

    #[test]
    fn it_is_not_run_in_a_maintenance_window_that_opened_meanwhile_but_after_it() {
        use crate::window::{Covers, HandWindow, Occurrence, WindowPolicy};
        let mut bench = Bench::settled(switchable(true));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(3));
        let covers = Covers { services: [shop()].into(), ..Covers::default() };
        let when = Occurrence { from: bench.now.wall, to: Wall(bench.now.wall.0 + 60_000) };
        let policy = WindowPolicy { covers, ..WindowPolicy::default() };
        bench.tell(Input::OpenWindow(HandWindow { policy, when, by: "alice".to_owned() }));
        bench.advance(Duration::from_secs(50));
        assert!(orders(&bench).is_empty());
        bench.advance(Duration::from_secs(20));
        assert_eq!(orders(&bench).len(), 1);
    }

    #[test]
    fn a_person_is_asked_to_decide_although_one_was_called_for_something_else() {
        let mut policy = with_standby(true, true);
        let service = policy.services.get_mut(&shop()).unwrap();
        service.recovery.budget = 0;
        service.recovery.levels.switch = Level::Ask;
        let mut bench = Bench::settled(policy);
        (1..=2).for_each(|n| bench.crash(&app(n)));
        bench.advance(Duration::from_secs(60));
        let called: Vec<String> = bench
            .notices()
            .into_iter()
            .filter(|n| n.kind == NoticeKind::NeedsPerson)
            .map(|n| n.advice)
            .collect();
        assert_eq!(called.len(), 2, "{called:?}");
        assert!(called[1].starts_with("Decide whether to run the switch command of shop"), "{called:?}");
    }

    #[test]
    fn a_way_back_that_failed_and_an_outcome_that_nobody_knows_leave_it_switched_over_restarts() {
        let mut bench = Bench::settled(with_standby(false, true));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(8));
        let lost = switch(&bench).last.unwrap();
        assert!(!lost.switched);
        let again = |run: SwitchRun| {
            let mut bench = Bench::empty(with_standby(false, true));
            let switches = BTreeMap::from([(shop(), run)]);
            bench.tell(Input::Restored(Restored { switches, ..Restored::default() }));
            bench.tell(Input::Policy(bench.policy.clone()));
            bench.addresses();
            bench.advance(Duration::from_secs(20));
            bench
        };
        let bench = again(lost);
        assert_eq!((switch(&bench).switched, bench.targets()), (true, vec!["spare".to_owned()]));
        let mut bench = again(switch(&bench).last.unwrap());
        assert!(switch(&bench).switched, "also after another restart");
        goes_back(&mut bench);
        ends(&mut bench, Err("exited with status 1".to_owned()));
        let bench = again(switch(&bench).last.unwrap());
        assert_eq!((switch(&bench).switched, bench.targets()), (true, vec!["spare".to_owned()]));
    }

    /// Two primaries, a backup, and a fence that comes before the switch.
    fn fenced() -> Bench {
        let mut policy = with_standby(false, true);
        policy.services.get_mut(&shop()).unwrap().switch.as_mut().unwrap().fence = true;
        let mut bench = Bench::settled(policy);
        all_down(&mut bench);
        bench.advance(Duration::from_secs(8));
        bench
    }

    fn steps(bench: &Bench) -> Vec<SwitchStep> {
        orders(bench).iter().map(|order| order.step).collect()
    }

    #[test]
    fn nothing_is_switched_before_the_fence_has_succeeded() {
        let mut bench = fenced();
        assert_eq!(steps(&bench), [SwitchStep::Fence]);
        assert_eq!(bench.targets(), ["spare"], "what is being fenced gets nothing");
        bench.is_good(&app(1));
        bench.advance(Duration::from_secs(5));
        assert_eq!(bench.targets(), ["spare"]);
        ends(&mut bench, Ok(()));
        assert_eq!(steps(&bench), [SwitchStep::Fence, SwitchStep::There]);
        let (fence, there) = (orders(&bench)[0].id, orders(&bench)[1].id);
        let run = switch(&bench).last.unwrap();
        assert_eq!((run.fence.map(|fence| fence.action), run.action), (Some(fence), there));
        ends(&mut bench, Ok(()));
        assert!(switch(&bench).switched);
        let said: Vec<String> = bench.incidents()[0].timeline.iter().map(|e| e.text.clone()).collect();
        let at = |text: &str| said.iter().position(|said| said.starts_with(text)).expect(text);
        assert!(at("the fence of the switch was carried out") < at("the switch is run, wanted by Mainstay"));
    }

    #[test]
    fn a_fence_that_failed_switches_nothing_and_a_person_is_asked() {
        for unknown in [false, true] {
            let mut bench = fenced();
            match unknown {
                true => bench.advance(Duration::from_secs(80)),
                false => ends(&mut bench, Err("exited with status 1".to_owned())),
            }
            let now = switch(&bench);
            assert_eq!((now.switched, steps(&bench)), (false, vec![SwitchStep::Fence]), "{unknown}");
            let why = now.last.unwrap().end.unwrap().error.unwrap();
            assert!(why.starts_with("nothing was switched, because the fence failed: "), "{why}");
            let advice =
                bench.notices().into_iter().rfind(|n| n.kind == NoticeKind::NeedsPerson).unwrap().advice;
            assert!(advice.contains("mainstay switch shop --fenced"), "{advice}");
            bench.advance(Duration::from_secs(600));
            assert_eq!(steps(&bench).len(), 1, "it is not tried again");
            // Nobody was promoted: whoever comes back may serve.
            bench.is_good(&app(1));
            bench.advance(Duration::from_secs(120));
            assert_eq!(bench.targets(), ["app-1"]);
        }
    }

    #[test]
    fn a_person_who_vouches_for_it_needs_no_fence() {
        let mut bench = fenced();
        ends(&mut bench, Err("exited with status 1".to_owned()));
        bench.tell(Input::Switch { service: shop(), back: false, fenced: true, by: "alice".to_owned() });
        assert_eq!(steps(&bench), [SwitchStep::Fence, SwitchStep::There]);
        let run = switch(&bench).last.unwrap();
        assert_eq!((run.fence, run.reason.contains("vouches")), (None, true));
        ends(&mut bench, Ok(()));
        assert!(switch(&bench).switched);
    }

    #[test]
    fn a_restart_while_the_fence_runs_leaves_it_unswitched_and_while_the_switch_runs_switched() {
        for fenced_before in [false, true] {
            let mut bench = fenced();
            if fenced_before {
                ends(&mut bench, Ok(()));
            }
            let run = switch(&bench).last.unwrap();
            let mut next = Bench::empty(bench.policy.clone());
            let incidents = vec![bench.incidents()[0].as_ref().clone()];
            let switches = BTreeMap::from([(shop(), run)]);
            next.tell(Input::Restored(Restored {
                incidents,
                last_action: 50,
                switches,
                ..Restored::default()
            }));
            next.tell(Input::Policy(next.policy.clone()));
            next.addresses();
            all_down(&mut next);
            next.advance(Duration::from_secs(60));
            assert!(orders(&next).is_empty(), "nothing is repeated");
            assert_eq!(switch(&next).switched, fenced_before);
            let why = switch(&next).last.unwrap().end.unwrap().error.unwrap();
            assert!(why.contains("Mainstay was restarted while"), "{why}");
        }
    }
}
