//! Who is told of an incident: the people on call, one step after another, until somebody takes it on.
//!
//! A step is everybody of an incident's groups with the same `after`. The first step (`after` of zero) is told with the
//! notice that it began, the others when nobody has taken it on in their time. Nobody is woken for what nobody noticed:
//! below [`OnCall::escalate_from`] only mail of the first step goes out, until visitors are hurt or a person is needed;
//! steps count from that moment. Whoever was told hears all that follows, and nobody else.
//!
//! What was told stands in the incident's header, which is written down together with the messages themselves. So a
//! restart tells no step twice and forgets none; the time until the next one goes on from the wall clock's time of the
//! last one, and a clock that was set back only makes it start its wait anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::NoticeKind;
use crate::incident::{IncidentState, Severity};
use crate::open::Open;
use crate::out::Out;
use crate::time::{Mono, Wall};

const TOLD_STEP: &str = "people are told that nobody has taken it on yet";

/// A way in which one person is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Mail.
    Email,
    /// A text message, which wakes people.
    Sms,
}

impl Way {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Way::Email => "email",
            Way::Sms => "sms",
        }
    }

    /// The word in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Way::Email => "mail",
            Way::Sms => "SMS",
        }
    }
}

/// One person, by one way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Recipient {
    /// How.
    pub way: Way,
    /// A mail address, or a telephone number in the form of E.164.
    pub address: String,
    /// As people call them; the address when the config gives no name.
    pub name: String,
}

impl Recipient {
    /// The same way to the same person, whatever they are called.
    pub fn is_same(&self, other: &Recipient) -> bool {
        self.way == other.way && self.address == other.address
    }
}

/// Somebody on call, and after how long they are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Who, and how.
    pub to: Recipient,
    /// After so long without anybody who takes the incident on.
    pub after: Duration,
}

/// Everybody who is on call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnCall {
    /// By groups of the user's own naming.
    pub groups: BTreeMap<Arc<str>, Vec<Call>>,
    /// Incidents below this severity tell the first step, by mail, and go no further.
    pub escalate_from: Severity,
}

impl Default for OnCall {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), escalate_from: Severity::Partial }
    }
}

impl OnCall {
    /// Everybody of these groups (`None`: of all), each once, at their earliest time; the earliest first.
    pub fn calls(&self, groups: Option<&[Arc<str>]>) -> Vec<&Call> {
        let wanted = |name: &Arc<str>| groups.is_none_or(|groups| groups.contains(name));
        let mut all: Vec<&Call> =
            self.groups.iter().filter(|(name, _)| wanted(name)).flat_map(|(_, calls)| calls).collect();
        all.sort_by_key(|call| call.after);
        let mut calls: Vec<&Call> = Vec::new();
        for call in all {
            if !calls.iter().any(|earlier| earlier.to.is_same(&call.to)) {
                calls.push(call);
            }
        }
        calls
    }
}

/// Who was told of an incident, and who is next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Escalation {
    /// Since when the steps count; `None` while it only tells the first step by mail.
    pub since: Option<Wall>,
    /// In the order in which they were told.
    pub told: Vec<Telling>,
    /// Who is told next unless somebody takes it on; `None` when nobody is.
    pub next: Option<NextStep>,
}

impl Escalation {
    /// Everybody who was told so far.
    pub fn people(&self) -> Vec<Recipient> {
        self.told.iter().map(|telling| telling.to.clone()).collect()
    }
}

/// Somebody was told of an incident for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// Who, and how.
    pub to: Recipient,
    /// The step: its `after`, in milliseconds.
    pub after_ms: u64,
    /// When.
    pub at: Wall,
}

/// The step that comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextStep {
    /// When, unless somebody takes it on before.
    pub at: Wall,
    /// Whom.
    pub to: Vec<Recipient>,
}

/// Where the escalation of an open incident stands.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// The groups that are told; `None`: all.
    groups: Option<Vec<Arc<str>>>,
    /// What the time of the next step counts from; `None` while steps do not count.
    from: Option<Base>,
    /// When the next step is due.
    due: Option<Mono>,
    /// Something changed that decides who is next.
    stale: bool,
}

/// The last step, or the beginning of the count.
#[derive(Debug, Clone, Copy)]
struct Base {
    /// The step's own `after`.
    after: Duration,
    at: Mono,
    /// What had passed since then when this run began.
    passed: Duration,
}

impl Base {
    fn due(self, after: Duration) -> Mono {
        self.at + after.saturating_sub(self.after).saturating_sub(self.passed)
    }
}

impl Steps {
    /// Goes on where an earlier run stood.
    pub(crate) fn restored(escalation: &Escalation, out: &Out) -> Self {
        let passed = |at: Wall| Duration::from_millis(u64::try_from(out.now.wall.ms_since(at)).unwrap_or(0));
        let from = escalation.since.map(|since| {
            // Mail of the first step may have gone out long before steps began to count.
            let last = escalation.told.iter().max_by_key(|telling| (telling.after_ms, telling.at));
            let (after, at) = last.map_or((0, since), |last| (last.after_ms, last.at));
            let at = if after == 0 { since } else { at };
            Base { after: Duration::from_millis(after), at: out.now.mono, passed: passed(at) }
        });
        Self { groups: None, from, due: None, stale: true }
    }

    /// The config says who hears of it.
    pub(crate) fn set_groups(&mut self, groups: Option<&[Arc<str>]>) {
        self.groups = groups.map(<[_]>::to_vec);
        self.stale = true;
    }

    /// Who is next has to be found out again.
    pub(crate) fn renew(&mut self) {
        self.stale = true;
    }

    /// When the next step is due.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.due
    }
}

impl Open {
    /// Nobody is woken for what nobody noticed, unless a person is needed.
    fn escalates(&self, out: &Out) -> bool {
        self.incident().severity >= out.on_call.escalate_from || self.told.person
    }

    /// Who is told that it began; they count as told.
    pub(crate) fn first_step(&mut self, out: &mut Out) -> Vec<Recipient> {
        self.count_steps(out);
        let escalates = self.steps.from.is_some();
        let calls = out.on_call.calls(self.steps.groups.as_deref());
        let first = calls.into_iter().filter(|call| call.after.is_zero());
        let to: Vec<Recipient> = first
            .map(|call| call.to.clone())
            .filter(|to| (escalates || to.way == Way::Email) && !self.was_told(to))
            .collect();
        self.note_told(&to, Duration::ZERO, out);
        to
    }

    /// Tells the steps that are due, and finds out who is next. Called whenever the incident is tended.
    pub(crate) fn escalate(&mut self, advice: &str, out: &mut Out) {
        let silent = !self.told.opened() || self.told.is_muted() || self.is_quiet_drill();
        if silent || self.incident().state != IncidentState::Open {
            return self.no_next_step();
        }
        self.count_steps(out);
        let due = self.steps.due.is_some_and(|due| out.now.mono >= due);
        if !self.steps.stale && !due {
            return;
        }
        while let Some((after, at, to)) = self.next_step(out) {
            if out.now.mono < at {
                return self.set_next_step(at, to, out);
            }
            let from = self.steps.from.map_or(after, |from| from.after.max(after));
            self.steps.from = Some(Base { after: from, at: out.now.mono, passed: Duration::ZERO });
            self.note_told(&to, after, out);
            self.tell(NoticeKind::Escalated, TOLD_STEP, to, advice.to_owned(), out);
        }
        self.no_next_step();
    }

    /// Begins to count when it is bad enough.
    fn count_steps(&mut self, out: &Out) {
        if self.steps.from.is_none() && self.escalates(out) {
            let from = Base { after: Duration::ZERO, at: out.now.mono, passed: Duration::ZERO };
            self.steps.from = Some(from);
            self.steps.stale = true;
            let wall = out.now.wall;
            self.edit().escalation.since = Some(wall);
        }
    }

    /// The step, when it is due, and everybody of it who was not told yet.
    fn next_step(&self, out: &Out) -> Option<(Duration, Mono, Vec<Recipient>)> {
        let from = self.steps.from?;
        let mut untold = out.on_call.calls(self.steps.groups.as_deref());
        untold.retain(|call| !self.was_told(&call.to));
        let after = untold.first()?.after;
        let step = untold.into_iter().take_while(|call| call.after == after);
        Some((after, from.due(after), step.map(|call| call.to.clone()).collect()))
    }

    fn was_told(&self, to: &Recipient) -> bool {
        self.incident().escalation.told.iter().any(|telling| telling.to.is_same(to))
    }

    fn note_told(&mut self, to: &[Recipient], after: Duration, out: &Out) {
        self.steps.stale = true;
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let at = out.now.wall;
        let tellings = to.iter().map(|to| Telling { to: to.clone(), after_ms, at });
        if !to.is_empty() {
            self.edit().escalation.told.extend(tellings);
        }
    }

    fn set_next_step(&mut self, due: Mono, to: Vec<Recipient>, out: &Out) {
        self.steps.due = Some(due);
        self.steps.stale = false;
        let left = i64::try_from((due - out.now.mono).as_millis()).unwrap_or(i64::MAX);
        let at = Wall(out.now.wall.0.saturating_add(left));
        self.edit().escalation.next = Some(NextStep { at, to });
    }

    pub(crate) fn no_next_step(&mut self) {
        self.steps.due = None;
        self.steps.stale = false;
        if self.incident().escalation.next.is_some() {
            self.edit().escalation.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Notice;
    use crate::input::{FailureKind, Input, Restored};
    use crate::testing::{Bench, app, policy};

    const MINUTE: Duration = Duration::from_secs(60);

    fn mail(name: &str) -> Recipient {
        Recipient { way: Way::Email, address: format!("{name}@example.com"), name: name.to_owned() }
    }

    fn sms(name: &str) -> Recipient {
        Recipient { way: Way::Sms, address: format!("+49{name}"), name: name.to_owned() }
    }

    fn call(to: Recipient, minutes: u32) -> Call {
        Call { to, after: MINUTE * minutes }
    }

    /// Two servers that Mainstay cannot restart, and three people: mail at once, SMS after 5 minutes, mail after 15.
    fn three_steps() -> Bench {
        let mut policy = policy(2, false);
        let calls = vec![call(mail("ops"), 0), call(sms("night"), 5), call(mail("boss"), 15)];
        policy.on_call.groups.insert("web".into(), calls);
        Bench::settled(policy)
    }

    /// Nobody is answered from now on.
    fn break_everything(bench: &mut Bench) {
        for n in 1..=2 {
            bench.is_bad(&app(n), crate::input::ProbeFailure::Refused);
        }
        bench.visitors(10, 10);
        bench.advance(Duration::from_secs(5));
    }

    fn mend_everything(bench: &mut Bench) {
        for n in 1..=2 {
            bench.is_good(&app(n));
        }
        bench.advance(MINUTE);
    }

    fn told(bench: &Bench) -> Vec<(NoticeKind, Vec<String>)> {
        let names = |notice: &Notice| notice.to.iter().map(|to| to.name.clone()).collect();
        bench.notices().iter().map(|notice| (notice.kind, names(notice))).collect()
    }

    fn kind(kind: NoticeKind, names: &[&str]) -> (NoticeKind, Vec<String>) {
        (kind, names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn one_step_follows_another_until_it_is_over_and_everybody_who_was_told_hears_the_end() {
        use NoticeKind::*;
        let mut bench = three_steps();
        break_everything(&mut bench);
        assert_eq!(told(&bench), [kind(Opened, &["ops"])]);
        let next = bench.incidents()[0].escalation.next.clone().unwrap();
        assert_eq!(next.to, [sms("night")]);
        let left = next.at.ms_since(bench.now.wall);
        assert!((290_000..300_000).contains(&left), "{left}");
        bench.advance(MINUTE * 4);
        assert_eq!(told(&bench).len(), 1);
        bench.advance(MINUTE);
        assert_eq!(told(&bench)[1..], [kind(Escalated, &["night"])]);
        mend_everything(&mut bench);
        assert_eq!(told(&bench)[2..], [kind(Resolved, &["ops", "night"])]);
        bench.advance(MINUTE * 60);
        assert_eq!(told(&bench).len(), 3, "the boss sleeps on");
    }

    #[test]
    fn after_somebody_took_it_on_no_further_step_is_told() {
        let mut bench = three_steps();
        break_everything(&mut bench);
        bench.advance(MINUTE * 6);
        let incident = bench.incidents()[0].id;
        bench.tell(Input::Acknowledge { incident, by: "night".to_owned() });
        assert_eq!(bench.incidents()[0].escalation.next, None);
        bench.advance(MINUTE * 60);
        assert_eq!(told(&bench).len(), 2);
    }

    #[test]
    fn nobody_is_woken_for_what_nobody_noticed_until_visitors_are_hurt() {
        use NoticeKind::*;
        let mut bench = three_steps();
        bench.is_bad(&app(1), crate::input::ProbeFailure::Refused);
        bench.advance(MINUTE * 60);
        assert_eq!(told(&bench), [kind(Opened, &["ops"])]);
        assert_eq!(bench.incidents()[0].escalation.next, None);
        bench.visitors(10, 1);
        bench.advance(MINUTE * 4);
        assert_eq!(told(&bench).len(), 1, "steps count from when visitors were hurt");
        bench.advance(MINUTE);
        assert_eq!(told(&bench)[1..], [kind(Escalated, &["night"])]);
        bench.advance(MINUTE * 10);
        assert_eq!(told(&bench)[2..], [kind(Escalated, &["boss"])]);
    }

    #[test]
    fn a_text_message_of_the_first_step_waits_until_it_is_worth_waking_somebody() {
        use NoticeKind::*;
        let mut policy = policy(2, false);
        policy.on_call.groups.insert("web".into(), vec![call(mail("ops"), 0), call(sms("ops"), 0)]);
        let mut bench = Bench::settled(policy);
        bench.is_bad(&app(1), crate::input::ProbeFailure::Refused);
        bench.advance(MINUTE);
        assert_eq!(bench.notices()[0].to, [mail("ops")]);
        bench.visitors(10, 1);
        bench.advance(Duration::from_secs(1));
        assert_eq!((bench.notices()[1].kind, &bench.notices()[1].to), (Escalated, &vec![sms("ops")]));
    }

    #[test]
    fn a_person_who_is_needed_is_woken_though_nobody_noticed() {
        let mut policy = policy(2, true);
        policy.on_call.groups.insert("web".into(), vec![call(sms("ops"), 0)]);
        let mut bench = Bench::settled(policy);
        bench.supervisor = crate::testing::Supervisor::Fails;
        bench.crash(&app(1));
        bench.advance(MINUTE * 10);
        let kinds: Vec<NoticeKind> = bench.notice_kinds();
        assert!(kinds.contains(&NoticeKind::NeedsPerson), "{kinds:?}");
        let escalated = bench.notices().into_iter().find(|n| n.kind == NoticeKind::Escalated).unwrap();
        assert_eq!(escalated.to, [sms("ops")]);
    }

    #[test]
    fn a_service_tells_its_own_groups_and_each_person_once() {
        let mut policy = policy(2, false);
        policy.on_call.groups.insert("web".into(), vec![call(mail("ops"), 5), call(mail("web"), 0)]);
        policy.on_call.groups.insert("db".into(), vec![call(mail("ops"), 0), call(mail("db"), 0)]);
        let names = |groups: Option<&[Arc<str>]>| -> Vec<String> {
            policy.on_call.calls(groups).iter().map(|call| call.to.name.clone()).collect()
        };
        assert_eq!(names(None), ["ops", "db", "web"]);
        assert_eq!(names(Some(&["web".into()])), ["web", "ops"]);
        assert!(names(Some(&["gone".into()])).is_empty());
        policy.services.values_mut().for_each(|s| s.on_call = Some(vec!["web".into()]));
        let mut bench = Bench::settled(policy);
        break_everything(&mut bench);
        assert_eq!(bench.notices()[0].to, [mail("web")]);
    }

    #[test]
    fn a_restart_goes_on_where_the_escalation_stood() {
        use NoticeKind::*;
        let steps = |bench: &Bench| -> Vec<_> {
            told(bench).into_iter().filter(|(kind, _)| *kind == Escalated).collect()
        };
        let mut bench = three_steps();
        break_everything(&mut bench);
        bench.advance(MINUTE * 3);
        let incident = (*bench.incidents()[0]).clone();
        for (jump, waits) in [(0, 2), (-3_600_000, 5), (3_600_000, 0)] {
            let mut again = Bench::empty(bench.policy.clone());
            again.looks.clone_from(&bench.looks);
            again.now.wall = Wall(bench.now.wall.0 + jump);
            let restored =
                Restored { incidents: vec![incident.clone()], last_incident: 1, ..Restored::default() };
            again.tell(Input::Restored(restored));
            again.tell(Input::Policy(again.policy.clone()));
            again.addresses();
            again.attempt_fails(&app(1), FailureKind::Refused, None);
            if waits > 0 {
                again.advance(MINUTE * waits - Duration::from_secs(20));
                assert!(steps(&again).is_empty(), "too early after a jump by {jump} ms: {:?}", steps(&again));
            }
            again.advance(Duration::from_secs(30));
            assert_eq!(steps(&again), [kind(Escalated, &["night"])], "after a jump by {jump} ms");
            again.advance(MINUTE * 9);
            assert_eq!(steps(&again).len(), 1, "the one after it keeps its distance");
            again.advance(MINUTE);
            assert_eq!(steps(&again)[1..], [kind(Escalated, &["boss"])]);
        }
    }

    #[test]
    fn who_is_next_for_the_machine_is_found_out_again_by_the_config_after_a_restart() {
        let mut bench = three_steps();
        break_everything(&mut bench);
        let mut incident = (*bench.incidents()[0]).clone();
        incident.scope = crate::incident::Scope::Host(crate::host::HostPart::Cpu);
        assert!(incident.escalation.next.is_some());
        bench.policy.host = Some(crate::host::HostPolicy::default());
        let mut again = Bench::empty(bench.policy.clone());
        again.tell(Input::Restored(Restored { incidents: vec![incident], ..Restored::default() }));
        assert_eq!(again.incidents()[0].escalation.next, None, "nobody is known yet");
        again.tell(Input::Policy(again.policy.clone()));
        assert_eq!(again.incidents()[0].escalation.next.clone().unwrap().to, [sms("night")]);
    }

    #[test]
    fn what_was_told_as_down_is_not_told_as_worse_after_a_restart() {
        let mut policy = policy(1, false);
        policy.on_call.groups.insert("web".into(), vec![call(mail("ops"), 0)]);
        let mut bench = Bench::settled(policy);
        bench.is_bad(&app(1), crate::input::ProbeFailure::Refused);
        bench.advance(MINUTE);
        assert_eq!(told(&bench), [kind(NoticeKind::Opened, &["ops"])]);
        let incident = (*bench.incidents()[0]).clone();
        assert_eq!(incident.severity, Severity::Down);
        let mut again = Bench::empty(bench.policy.clone());
        again.looks.clone_from(&bench.looks);
        again.tell(Input::Restored(Restored { incidents: vec![incident], ..Restored::default() }));
        again.tell(Input::Policy(again.policy.clone()));
        again.addresses();
        again.advance(MINUTE);
        assert!(told(&again).is_empty(), "{:?}", told(&again));
    }

    #[test]
    fn somebody_who_comes_on_call_later_is_told_by_their_own_time() {
        let mut bench = three_steps();
        break_everything(&mut bench);
        bench.advance(MINUTE * 6);
        bench.policy.on_call.groups.insert("late".into(), vec![call(sms("new"), 0), call(mail("newer"), 7)]);
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.advance(Duration::from_secs(1));
        assert_eq!(bench.notices().last().unwrap().to, [sms("new")]);
        bench.advance(MINUTE * 2);
        assert_eq!(bench.notices().last().unwrap().to, [mail("newer")]);
    }
}
