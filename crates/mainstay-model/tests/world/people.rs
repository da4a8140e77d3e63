//! The world's people on call: what each of them was told, and whether the next of them is told in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::{Notice, NoticeKind, Record};
use mainstay_model::escalation::{Call, OnCall, Recipient, Way};
use mainstay_model::incident::{IncidentState, Scope, Severity};
use mainstay_model::input::MessageReport;
use mainstay_model::publication::{PublicChange, PublicState};
use mainstay_model::{IncidentId, Input, Mono, Policy};

use super::{Dice, World};

/// What the world knows of one incident.
#[derive(Default)]
struct Told {
    people: BTreeSet<Recipient>,
    opened: bool,
    groups: Option<Vec<Arc<str>>>,
    /// Somebody has taken it on, or it is over: nobody more is told.
    settled: bool,
    /// It is bad enough for the steps, since then.
    counts_from: Option<Mono>,
    /// Steps may come so late.
    moment: Duration,
    /// A person is needed, whatever the severity.
    person: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub struct People {
    policy: Policy,
    incidents: BTreeMap<IncidentId, Told>,
    /// Times are not comparable with what the wall clock makes of them after a restart.
    clock_jumped: bool,
}

impl People {
    pub fn policy(&mut self, policy: &Policy) {
        self.policy = policy.clone();
    }

    pub fn clock_jumped(&mut self) {
        self.clock_jumped = true;
    }

    /// What was due while Mainstay did not run may come late by as long as it did not run, and one step after another.
    pub fn mainstay_restarted(&mut self, now: Mono) {
        for told in self.incidents.values_mut() {
            told.counts_from = told.counts_from.map(|_| now);
        }
    }

    /// A header was written down.
    pub fn read(&mut self, record: &Record, now: Mono) {
        let Record::Incident(incident) = record else { return };
        let told = self.incidents.entry(incident.id).or_default();
        told.groups = match &incident.scope {
            Scope::Service(id) | Scope::Check(id) => {
                self.policy.services.get(id).and_then(|service| service.on_call.clone())
            }
            _ => None,
        };
        // Of one that is part of another nobody is told more.
        told.settled = incident.state != IncidentState::Open || incident.part_of.is_some();
        if incident.part_of.is_some() {
            told.counts_from = None;
        }
        // Of monitors others that fail for the same reason are waited for first.
        let gathers = matches!(incident.scope, Scope::Monitor(_) | Scope::Monitors);
        // And of what needs something, it is found out first whether that is the cause.
        let needs = match &incident.scope {
            Scope::Service(id) => self.policy.services.get(id).map(|service| &service.needs),
            Scope::Monitor(id) => self.policy.monitors.get(id).map(|monitor| &monitor.needs),
            _ => None,
        };
        let held = needs.is_some_and(|needs| !needs.is_empty());
        told.moment = Duration::from_secs(if gathers { 3 } else { 1 } + if held { 15 } else { 0 });
        let part = incident.part_of.is_some();
        if !part && (incident.severity >= self.policy.on_call.escalate_from || told.person) {
            told.counts_from.get_or_insert(now);
        }
        let names: BTreeSet<Recipient> = incident.escalation.told.iter().map(|t| t.to.clone()).collect();
        assert_eq!(names, told.people, "what is written down of {} is not who was told", incident.id);
        if told.settled {
            assert_eq!(incident.escalation.next, None, "{} is taken on, but a step is to come", incident.id);
        }
    }

    /// A notice goes out.
    pub fn told(&mut self, notice: &Notice, now: Mono) {
        let told = self.incidents.entry(notice.incident).or_default();
        let to: BTreeSet<Recipient> = notice.to.iter().cloned().collect();
        assert_eq!(to.len(), notice.to.len(), "somebody is told twice by one notice: {notice:?}");
        match notice.kind {
            NoticeKind::Opened => {
                assert!(!told.opened && told.people.is_empty(), "it began twice: {notice:?}");
                told.opened = true;
                let woken = to.iter().any(|to| to.way == Way::Sms);
                let worth = notice.severity >= self.policy.on_call.escalate_from;
                assert!(!woken || worth, "woken for nothing: {notice:?}");
                told.people = to;
            }
            NoticeKind::Escalated => {
                assert!(told.opened && !told.settled, "told after somebody took it on: {notice:?}");
                assert!(!to.is_empty(), "a step of nobody: {notice:?}");
                assert!(told.people.is_disjoint(&to), "a step was told twice: {notice:?}");
                told.people.extend(to);
            }
            NoticeKind::Worsened | NoticeKind::NeedsPerson | NoticeKind::Resolved => {
                assert_eq!(to, told.people, "not to those who were told so far: {notice:?}");
                if notice.kind == NoticeKind::NeedsPerson {
                    told.person = true;
                    told.counts_from.get_or_insert(now);
                }
            }
        }
    }

    /// Nobody waits longer than their time, as long as nobody has taken it on.
    pub fn check(&self, now: Mono) {
        for (id, told) in self.incidents.iter().filter(|(_, told)| told.opened && !told.settled) {
            let Some(from) = told.counts_from else { continue };
            if self.clock_jumped {
                continue;
            }
            let late = |call: &&Call| {
                // A moment for the opening's own notice, and for a reload in between.
                now.since(from) > call.after + told.moment && !told.people.contains(&call.to)
            };
            let calls = self.policy.on_call.calls(told.groups.as_deref());
            if let Some(call) = calls.into_iter().find(late) {
                panic!("{} was not told of {id} in {:?}", call.to.name, call.after);
            }
        }
    }

    /// A provider says what became of some message.
    pub fn report(&self, dice: &mut Dice) -> Option<MessageReport> {
        let nth = dice.range(0, self.incidents.len() as u64) as usize;
        let (id, told) = self.incidents.iter().nth(nth)?;
        let to = told.people.first()?.clone();
        let result = if dice.chance(50) { Ok(()) } else { Err("no such number".to_owned()) };
        Some(MessageReport { incident: *id, to, result })
    }
}

/// Up to two groups of up to three people.
pub fn random(dice: &mut Dice) -> OnCall {
    let escalate_from = [Severity::Degraded, Severity::Partial, Severity::Partial, Severity::Down];
    let mut on_call = OnCall { escalate_from: escalate_from[dice.range(0, 4) as usize], ..OnCall::default() };
    for group in ["web", "db"].into_iter().take(dice.range(0, 3) as usize) {
        let calls = (0..dice.range(1, 4)).map(|_| {
            let way = if dice.chance(50) { Way::Sms } else { Way::Email };
            let name = format!("person {}", dice.range(0, 5));
            let after = Duration::from_secs([0, 0, 3, 10, 30, 60][dice.range(0, 6) as usize]);
            Call { to: Recipient { way, address: name.clone(), name }, after }
        });
        on_call.groups.insert(group.into(), calls.collect());
    }
    on_call
}

/// All groups, or some.
pub fn random_groups(dice: &mut Dice) -> Option<Vec<Arc<str>>> {
    let groups: [&[&str]; 4] = [&["web"], &["db"], &["web", "db"], &["gone"]];
    dice.chance(50).then(|| groups[dice.range(0, 4) as usize].iter().map(|&name| name.into()).collect())
}

impl World {
    /// A person tells the public something of any incident that there was, or of one that there was not.
    pub(super) fn publish(&mut self) {
        let last = self.store.incident_ids().last().map_or(0, |id| id.0);
        let incident = IncidentId(self.dice.range(0, last + 2));
        let change = match self.dice.range(0, 3) {
            0 => PublicChange::Face { title: None, shown: Some(self.dice.chance(50)) },
            1 => PublicChange::Face { title: Some("No lamps".to_owned()), shown: None },
            _ => PublicChange::Update { state: PublicState::Monitoring, text: "We watch it.".to_owned() },
        };
        self.tell(Input::Publish { incident, change, by: "somebody".to_owned() });
    }
}
