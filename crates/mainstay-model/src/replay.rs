//! What would have been decided: recorded inputs go to two judges at once, one with the policy of then and one with another, and
//! what they decide is laid side by side.
//!
//! What the world did is as it was recorded: a server that would have been restarted sooner does not answer sooner here, and requests
//! go where they went. So a trial tells what would have been noticed, told and begun, and when; not what would have come of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::effect::{ActionKind, Effect, NoticeKind, Record};
use crate::id::{ActionId, IncidentId, ServerId, ServiceId};
use crate::incident::{Incident, Scope, Severity};
use crate::input::{Input, MessageReport, ProcessEvent, Restored};
use crate::model::Model;
use crate::policy::Policy;
use crate::routing::{RoutingMode, RoutingTable, Target};
use crate::rung::Rung;
use crate::substitute::{ProvideTask, Provided};
use crate::switch::SwitchStep;
use crate::time::{Mono, Now, Wall};

/// An action that was never carried out has so long until it counts as done: how it would have ended nobody knows.
const NOT_CARRIED_OUT: Duration = Duration::from_secs(10);

/// What a judge has to know before the first input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beginning {
    /// When.
    pub at: Now,
    /// What it goes on from, as after an upgrade.
    pub restored: Restored,
    /// What the config meant then; `None`: the first inputs tell.
    pub policy: Option<Policy>,
    /// What the judge of then rolled its dice from, if it began with this: delays with jitter are the same then.
    #[serde(default)]
    pub seed: u64,
}

/// One thing that a judge decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecisionKind {
    /// A server no longer gets requests.
    Out,
    /// A server gets requests again.
    In,
    /// Other servers than the healthy primaries carry a service, or they do again.
    Mode(RoutingMode),
    /// An incident was opened.
    Opened,
    /// An incident became so bad.
    Worse(Severity),
    /// An incident was over.
    Resolved,
    /// People were told.
    Told(NoticeKind),
    /// A recovery action was begun.
    Recover(ActionKind),
    /// The service's own `switch` command was run, its fence, or the way back.
    Switch(SwitchStep),
    /// A new instance was to be made in the place of a server.
    Make,
    /// What was made in the place of a server was to be destroyed.
    Destroy,
    /// Something was proposed, because it may not be done without a person.
    Proposed(Rung),
}

impl fmt::Display for DecisionKind {
    /// The word for programs: `out`, `told-opened`, `recover-restart`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecisionKind::Out => f.write_str("out"),
            DecisionKind::In => f.write_str("in"),
            DecisionKind::Mode(RoutingMode::Normal) => f.write_str("mode-normal"),
            DecisionKind::Mode(RoutingMode::Backup) => f.write_str("mode-backup"),
            DecisionKind::Mode(RoutingMode::Panic) => f.write_str("mode-panic"),
            DecisionKind::Mode(RoutingMode::Nobody) => f.write_str("mode-nobody"),
            DecisionKind::Opened => f.write_str("opened"),
            DecisionKind::Worse(severity) => write!(f, "worse-{}", severity.as_str()),
            DecisionKind::Resolved => f.write_str("resolved"),
            DecisionKind::Told(kind) => write!(f, "told-{}", kind.as_str()),
            DecisionKind::Recover(kind) => write!(f, "recover-{}", kind.as_str()),
            DecisionKind::Switch(SwitchStep::Fence) => f.write_str("switch-fence"),
            DecisionKind::Switch(SwitchStep::There) => f.write_str("switch"),
            DecisionKind::Switch(SwitchStep::Back) => f.write_str("switch-back"),
            DecisionKind::Make => f.write_str("replace-make"),
            DecisionKind::Destroy => f.write_str("replace-destroy"),
            DecisionKind::Proposed(rung) => write!(f, "proposed-{rung}"),
        }
    }
}

impl Serialize for DecisionKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing that a judge decided, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    at: Wall,
    kind: DecisionKind,
    about: String,
    text: String,
}

/// One decision of the two judges, or of one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// When with the policy of then; `None`: not at all.
    pub then: Option<Wall>,
    /// When with the policy that is tried; `None`: not at all.
    pub tried: Option<Wall>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct What {
    /// Of which kind.
    pub kind: DecisionKind,
    /// About whom: a server, a service, a monitor.
    pub about: String,
    /// Why, or who; empty when there is no more to say.
    pub text: String,
}

impl Compared {
    /// The earlier of both times.
    pub fn first(&self) -> Wall {
        self.then.into_iter().chain(self.tried).min().unwrap_or_default()
    }

    /// Whether both decided so at the same time, to a twentieth of a second.
    pub fn is_same(&self) -> bool {
        const SAME_MS: i64 = 50;
        matches!((self.then, self.tried), (Some(then), Some(tried)) if then.ms_since(tried).abs() <= SAME_MS)
    }
}

/// Two judges who hear the same.
#[derive(Debug)]
pub struct Trial {
    then: Judge,
    tried: Judge,
    policy: Policy,
    /// Servers whose processes were just ended to be started anew, which the one that is tried would not have done.
    untouched: BTreeSet<ServerId>,
}

impl Trial {
    /// Begins; `policy` is what is tried.
    pub fn begin(beginning: Beginning, policy: Policy) -> Self {
        let Beginning { at, restored, policy: recorded, seed } = beginning;
        let (then, tried) = (Judge::new(seed, at, None), Judge::new(seed, at, Some(NOT_CARRIED_OUT)));
        let mut trial = Self { then, tried, policy, untouched: BTreeSet::new() };
        trial.then.tell(at, Input::Restored(restored.clone()));
        trial.tried.tell(at, Input::Restored(restored));
        if let Some(recorded) = recorded {
            trial.tell(at, Input::Policy(recorded));
        }
        trial
    }

    /// Both hear of one thing that happened.
    pub fn tell(&mut self, now: Now, input: Input) {
        // Whatever is due before: the other one may be asked what the one of then decided.
        self.pass(now);
        let other = match &input {
            Input::Restored(_) => return,
            Input::Policy(recorded) => Some(Input::Policy(self.policy_at(recorded))),
            Input::Acting { action } => {
                let order = self.then.orders.get(action).map(|(_, order)| order);
                let other = order.and_then(|order| self.tried.number_of(order));
                other.map(|action| Input::Acting { action })
            }
            Input::Outcome { action, result } => {
                let order = self.then.ended(*action);
                let other = order.and_then(|order| self.tried.under_way(&order));
                other.map(|action| Input::Outcome { action, result: result.clone() })
            }
            Input::Switched { service, action, result, output } => {
                let order = self.then.ended(*action);
                let other = order.and_then(|order| self.tried.under_way(&order));
                other.map(|action| {
                    let (service, result, output) = (service.clone(), result.clone(), output.clone());
                    Input::Switched { service, action, result, output }
                })
            }
            Input::Provided { service, action, provided } => {
                let order = self.then.ended(*action);
                let other = order.and_then(|order| self.tried.under_way(&order));
                other.map(|action| {
                    let (service, provided) = (service.clone(), provided.clone());
                    Input::Provided { service, action, provided }
                })
            }
            Input::Acknowledge { incident, by } => {
                let other = self.same_incident(*incident);
                other.map(|incident| Input::Acknowledge { incident, by: by.clone() })
            }
            Input::Message(report) => {
                let other = self.same_incident(report.incident);
                other.map(|incident| Input::Message(MessageReport { incident, ..report.clone() }))
            }
            Input::Publish { .. } => None,
            Input::Process { server, event } if self.is_of_then_alone(server, event) => None,
            Input::Address { server, .. } if self.untouched.contains(server) => None,
            same => Some(same.clone()),
        };
        self.then.tell(now, input);
        if let Some(other) = other {
            self.tried.tell(now, other);
        }
    }

    /// Lets the time pass until `now`.
    pub fn pass(&mut self, now: Now) {
        self.then.pass(now);
        self.tried.wait_with(&self.then, now);
        self.tried.pass(now);
    }

    /// The same, and compares: in the order of time.
    pub fn end(mut self, now: Now) -> Vec<Compared> {
        self.pass(now);
        compare(self.then.decisions, self.tried.decisions)
    }

    /// What became of a process because of an action that the one that is tried would not have begun.
    fn is_of_then_alone(&mut self, server: &ServerId, event: &ProcessEvent) -> bool {
        match event {
            ProcessEvent::Exited { asked: true, .. } => {
                let alone = self.then.acts_on(server) && !self.tried.acts_on(server);
                alone && self.untouched.insert(server.clone())
            }
            ProcessEvent::Started { .. } => self.untouched.remove(server),
            _ => false,
        }
    }

    /// What is tried, of the services that there were.
    fn policy_at(&self, recorded: &Policy) -> Policy {
        let mut policy = self.policy.clone();
        policy.services.retain(|id, _| recorded.services.contains_key(id));
        policy.monitors.retain(|id, _| recorded.monitors.contains_key(id));
        policy.backups.retain(|id, _| recorded.backups.contains_key(id));
        policy
    }

    fn same_incident(&self, then: IncidentId) -> Option<IncidentId> {
        let scope = &self.then.incidents.get(&then)?.scope;
        let open = self.tried.incidents.iter().rev();
        open.filter(|(_, known)| !known.over).find(|(_, known)| known.scope == *scope).map(|(id, _)| *id)
    }
}

/// An action that a judge ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Recover(ServerId, ActionKind),
    Switch(ServiceId, SwitchStep),
    /// In this server's place; what was made is destroyed, or not.
    Provide(ServerId, bool),
}

/// What is known of an incident that a judge opened.
#[derive(Debug)]
struct KnownIncident {
    scope: Scope,
    severity: Severity,
    over: bool,
}

/// A judge, and what it has decided up to now.
#[derive(Debug)]
struct Judge {
    model: Model,
    now: Now,
    /// For somebody to say what became of an action; `None`: the record does, however long it takes.
    patience: Option<Duration>,
    /// By when, if nobody says what became of it.
    orders: BTreeMap<ActionId, (Mono, Order)>,
    incidents: BTreeMap<IncidentId, KnownIncident>,
    table: Option<Arc<RoutingTable>>,
    decisions: Vec<Decision>,
}

impl Judge {
    fn new(seed: u64, now: Now, patience: Option<Duration>) -> Self {
        Self {
            model: Model::new(seed, now),
            now,
            patience,
            orders: BTreeMap::new(),
            incidents: BTreeMap::new(),
            table: None,
            decisions: Vec::new(),
        }
    }

    fn tell(&mut self, now: Now, input: Input) {
        self.now = now;
        self.model.handle(now, input);
        self.heed();
    }

    /// What is due until then, each at its time.
    fn pass(&mut self, now: Now) {
        let due = |at: &Mono| *at <= now.mono;
        loop {
            let timer = self.model.poll_timeout().filter(due);
            let order = self.orders.iter().map(|(id, (until, _))| (*until, *id)).min();
            let order = order.filter(|(until, _)| due(until) && timer.is_none_or(|timer| *until < timer));
            if let Some((until, id)) = order {
                self.not_carried_out(id, moment(until, now));
            } else if let Some(timer) = timer {
                self.now = moment(timer.max(self.now.mono), now);
                self.model.handle_timeout(self.now);
                self.heed();
            } else {
                return;
            }
        }
    }

    /// It counts as done.
    fn not_carried_out(&mut self, action: ActionId, at: Now) {
        match self.ended(action) {
            Some(Order::Switch(service, _)) => {
                self.tell(at, Input::Switched { service, action, result: Ok(()), output: Vec::new() });
            }
            Some(Order::Provide(server, _)) => {
                let provided = Provided::Nothing("nothing is made in a replay".to_owned());
                self.tell(at, Input::Provided { service: server.service, action, provided });
            }
            _ => self.tell(at, Input::Outcome { action, result: Ok(()) }),
        }
    }

    /// Actions that are under way there too end with them: the record has what became of those.
    fn wait_with(&mut self, then: &Judge, now: Now) {
        for (until, order) in self.orders.values_mut() {
            if then.orders.values().any(|(_, other)| other == order) {
                *until = (*until).max(now.mono + NOT_CARRIED_OUT);
            }
        }
    }

    /// Somebody says what became of an action.
    fn ended(&mut self, action: ActionId) -> Option<Order> {
        self.orders.remove(&action).map(|(_, order)| order)
    }

    /// An action on this server is under way.
    fn acts_on(&self, server: &ServerId) -> bool {
        self.orders.values().any(|(_, order)| matches!(order, Order::Recover(on, _) if on == server))
    }

    /// The number of the same action here, which ends with it.
    fn under_way(&mut self, order: &Order) -> Option<ActionId> {
        let id = self.number_of(order)?;
        self.orders.remove(&id);
        Some(id)
    }

    fn number_of(&self, order: &Order) -> Option<ActionId> {
        self.orders.iter().find(|(_, (_, other))| other == order).map(|(id, _)| *id)
    }

    fn heed(&mut self) {
        while let Some(effect) = self.model.poll_effect() {
            match effect {
                Effect::Route(table) => self.routes(table),
                Effect::Recover(order) => {
                    let (server, kind) = (order.server.clone(), order.kind);
                    self.ordered(order.id, Order::Recover(order.server, kind));
                    self.decided(DecisionKind::Recover(kind), server.to_string(), order.reason);
                }
                Effect::Switch(order) => {
                    let about = order.service.to_string();
                    self.ordered(order.id, Order::Switch(order.service, order.step));
                    self.decided(DecisionKind::Switch(order.step), about, order.reason);
                }
                Effect::Provide(order) => {
                    let destroys = matches!(order.task, ProvideTask::Destroy(_));
                    let kind = if destroys { DecisionKind::Destroy } else { DecisionKind::Make };
                    self.decided(kind, order.server.to_string(), order.reason);
                    self.ordered(order.action, Order::Provide(order.server, destroys));
                }
                Effect::Notify(notice) => {
                    let names: Vec<&str> = notice.to.iter().map(|to| to.name.as_ref()).collect();
                    let text = if names.is_empty() { notice.title } else { names.join(", ") };
                    self.decided(DecisionKind::Told(notice.kind), notice.scope, text);
                }
                Effect::Record(Record::Incident(incident)) => self.incident(&incident),
                Effect::Record(Record::Proposal(proposal)) if proposal.is_new() => {
                    let server = proposal.server.map(|server| server.to_string());
                    let about = server.unwrap_or_else(|| proposal.service.to_string());
                    let text = format!("{}: {}", proposal.what, proposal.why);
                    self.decided(DecisionKind::Proposed(proposal.rung), about, text);
                }
                _ => {}
            }
        }
    }

    fn ordered(&mut self, id: ActionId, order: Order) {
        let until = self.patience.map_or(Mono(u64::MAX), |patience| self.now.mono + patience);
        self.orders.insert(id, (until, order));
    }

    fn decided(&mut self, kind: DecisionKind, about: String, text: String) {
        self.decisions.push(Decision { at: self.now.wall, kind, about, text });
    }

    fn incident(&mut self, incident: &Incident) {
        let about = incident.scope.to_string();
        let (severity, over) = (incident.severity, incident.resolved_at.is_some());
        let known = KnownIncident { scope: incident.scope.clone(), severity, over };
        match self.incidents.insert(incident.id, known) {
            None if over => {}
            None => self.decided(DecisionKind::Opened, about, incident.title.clone()),
            Some(before) if over && !before.over => {
                self.decided(DecisionKind::Resolved, about, String::new())
            }
            Some(before) if severity > before.severity => {
                self.decided(DecisionKind::Worse(severity), about, String::new());
            }
            Some(_) => {}
        }
    }

    fn routes(&mut self, table: Arc<RoutingTable>) {
        let before = self.table.replace(Arc::clone(&table));
        let Some(before) = before else { return };
        for routed in &table.services {
            let Some(was) = before.services.iter().find(|service| service.id == routed.id) else { continue };
            let ids = |targets: &[Target]| -> BTreeSet<ServerId> {
                targets.iter().map(|target| target.id.clone()).collect()
            };
            let (old, new) = (ids(&was.targets), ids(&routed.targets));
            for out in old.difference(&new) {
                self.decided(DecisionKind::Out, out.to_string(), String::new());
            }
            for back in new.difference(&old) {
                self.decided(DecisionKind::In, back.to_string(), String::new());
            }
            if was.mode != routed.mode {
                self.decided(DecisionKind::Mode(routed.mode), routed.id.to_string(), String::new());
            }
        }
    }
}

/// A monotonic time before `now`, on both clocks.
fn moment(at: Mono, now: Now) -> Now {
    let before = i64::try_from(now.mono.since(at).as_millis()).unwrap_or(i64::MAX);
    Now { mono: at, wall: Wall(now.wall.0.saturating_sub(before)) }
}

/// The first decision of a kind about somebody belongs to the other one's first, and so on.
fn compare(then: Vec<Decision>, tried: Vec<Decision>) -> Vec<Compared> {
    type Key = (DecisionKind, String);
    let mut others: BTreeMap<Key, VecDeque<Decision>> = BTreeMap::new();
    for decision in tried {
        others.entry((decision.kind, decision.about.clone())).or_default().push_back(decision);
    }
    let what = |decision: Decision| What { kind: decision.kind, about: decision.about, text: decision.text };
    let mut all: Vec<Compared> = Vec::new();
    for decision in then {
        let key = (decision.kind, decision.about.clone());
        let other = others.get_mut(&key).and_then(VecDeque::pop_front);
        let (then, tried) = (Some(decision.at), other.map(|other| other.at));
        all.push(Compared { what: what(decision), then, tried });
    }
    for decision in others.into_values().flatten() {
        let tried = Some(decision.at);
        all.push(Compared { what: what(decision), then: None, tried });
    }
    all.sort_by_key(Compared::first);
    all
}

#[cfg(test)]
mod tests;
