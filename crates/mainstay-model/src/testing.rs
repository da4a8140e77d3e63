//! A bench for the judge's own tests: servers that answer as they are told, and a clock that is moved by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::effect::{ActionKind, ActionOrder, Effect, Notice, NoticeKind, ProbeOrder, Record};
use crate::endpoint::Endpoint;
use crate::id::{MonitorId, ProbeTarget, ServerId, ServiceId};
use crate::incident::{EntryKind, Incident};
use crate::input::{
    AdminState, Exit, FailureKind, Input, ProbeAnswer, ProbeFailure, ProbeReport, ProcessEvent,
    ServerTraffic, ServiceTraffic, TrafficFailure, TrafficReport,
};
use crate::lead::DataState;
use crate::model::Model;
use crate::policy::{Policy, ProbeKind, Role, ServerPolicy, ServicePolicy};
use crate::routing::RoutedService;
use crate::snapshot::ServerSnapshot;
use crate::time::{Mono, Now, Wall};

/// How the bench answers an order to look.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    Good,
    /// Good, with something to look into.
    Warns(String),
    Bad(ProbeFailure),
    /// Good, and it says what it is.
    Data(DataState),
    /// The answer never comes.
    Silent,
}

/// How the bench carries a start or a restart out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supervisor {
    Works,
    Fails,
    Silent,
}

pub(crate) struct Bench {
    pub(crate) model: Model,
    pub(crate) now: Now,
    pub(crate) effects: Vec<(Mono, Effect)>,
    pub(crate) looks: BTreeMap<ServerId, Look>,
    pub(crate) monitor_looks: BTreeMap<MonitorId, Look>,
    /// How requests of Mainstay's own are answered; as probes are by default.
    pub(crate) visits: BTreeMap<ServerId, Look>,
    pub(crate) supervisor: Supervisor,
    pub(crate) policy: Policy,
    /// All that the judge was told.
    pub(crate) heard: Vec<(Now, Input)>,
    coming: Vec<(Mono, Input)>,
    pids: u32,
    /// Fractions of requests and failures that are still due, by server.
    due: BTreeMap<ServerId, (f64, f64)>,
}

pub(crate) fn shop() -> ServiceId {
    ServiceId::new("shop")
}

/// `app-1` and so on of the shop.
pub(crate) fn app(n: u32) -> ServerId {
    shop().server(format!("app-{n}"))
}

pub(crate) fn spare() -> ServerId {
    shop().server("spare")
}

pub(crate) fn address(port: u16) -> Endpoint {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

/// A shop with so many servers, as the defaults have it.
pub(crate) fn policy(servers: u32, supervised: bool) -> Policy {
    let mut service = ServicePolicy::default();
    for n in 1..=servers {
        let server = ServerPolicy { supervised, ..ServerPolicy::default() };
        service.servers.insert(Arc::clone(&app(n).name), server);
    }
    Policy { services: BTreeMap::from([(shop(), service)]), people: true, ..Policy::default() }
}

pub(crate) fn with_spare(mut policy: Policy) -> Policy {
    let server = ServerPolicy { role: Role::Backup, ..ServerPolicy::default() };
    policy.services.get_mut(&shop()).unwrap().servers.insert("spare".into(), server);
    policy
}

pub(crate) fn start() -> Now {
    Now { mono: Mono(1_000_000_000_000), wall: Wall(1_790_000_000_000) }
}

impl Bench {
    /// A judge with this policy, every address known, and every server healthy.
    pub(crate) fn settled(policy: Policy) -> Self {
        let mut bench = Self::fresh(policy);
        bench.addresses();
        bench.advance(Duration::from_secs(3));
        bench.effects.clear();
        bench
    }

    /// A judge who has just got this policy and knows no address.
    pub(crate) fn fresh(policy: Policy) -> Self {
        let mut bench = Self::empty(policy);
        bench.tell(Input::Policy(bench.policy.clone()));
        bench
    }

    /// A judge who knows nothing.
    pub(crate) fn empty(policy: Policy) -> Self {
        Self {
            model: Model::new(7, start()),
            now: start(),
            effects: Vec::new(),
            looks: BTreeMap::new(),
            monitor_looks: BTreeMap::new(),
            visits: BTreeMap::new(),
            supervisor: Supervisor::Works,
            policy,
            heard: Vec::new(),
            coming: Vec::new(),
            pids: 100,
            due: BTreeMap::new(),
        }
    }

    /// What the one that goes on would be told.
    pub(crate) fn carry(&self) -> crate::carried::Carried {
        self.model.carry(self.now)
    }

    /// Tells where every server listens that is not supervised.
    pub(crate) fn addresses(&mut self) {
        let services = self.policy.services.clone();
        for (id, service) in services {
            for (port, (name, server)) in (8000u16..).zip(&service.servers) {
                if !server.supervised {
                    let server = id.server(Arc::clone(name));
                    self.tell(Input::Address { server, address: Some(address(port)) });
                }
            }
        }
    }

    pub(crate) fn service_policy(&mut self) -> &mut ServicePolicy {
        self.policy.services.get_mut(&shop()).unwrap()
    }

    pub(crate) fn tell(&mut self, input: Input) {
        self.heard.push((self.now, input.clone()));
        self.model.handle(self.now, input);
        self.drain();
    }

    /// Moves the clock, with every timer and answer on the way in its order.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now.mono + by;
        let wall = self.now.wall;
        let from = self.now.mono;
        loop {
            let timer = self.model.poll_timeout();
            let input = self.coming.iter().map(|(at, _)| *at).min();
            let next = [timer, input].into_iter().flatten().min().filter(|at| *at <= until);
            let at = next.unwrap_or(until);
            let since = i64::try_from((at - from).as_millis()).unwrap();
            self.now = Now { mono: at, wall: Wall(wall.0 + since) };
            if next.is_none() {
                return;
            }
            match self.coming.iter().position(|(due, _)| *due == at) {
                Some(place) => {
                    let (_, input) = self.coming.remove(place);
                    self.tell(input);
                }
                None => {
                    self.model.handle_timeout(self.now);
                    self.drain();
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(effect) = self.model.poll_effect() {
            match &effect {
                Effect::Probe(order) => self.look(order.clone()),
                Effect::Recover(order) => self.carry_out(order.clone()),
                _ => {}
            }
            self.effects.push((self.now.mono, effect));
        }
    }

    fn look(&mut self, order: ProbeOrder) {
        let look = match &order.target {
            ProbeTarget::Server(id) => {
                let visited = self.visits.get(id).filter(|_| matches!(order.kind, ProbeKind::Visit { .. }));
                visited.or_else(|| self.looks.get(id))
            }
            ProbeTarget::Monitor(id) => self.monitor_looks.get(id),
        };
        let (took, result) = match look.unwrap_or(&Look::Good) {
            Look::Silent => return,
            Look::Good => (Duration::from_millis(1), Ok(ProbeAnswer::status(200))),
            Look::Warns(warning) => {
                let warning = Some(warning.clone());
                (Duration::from_millis(1), Ok(ProbeAnswer { warning, ..ProbeAnswer::status(200) }))
            }
            Look::Data(data) => {
                (Duration::from_millis(1), Ok(ProbeAnswer { data: Some(*data), ..ProbeAnswer::default() }))
            }
            Look::Bad(ProbeFailure::AnswerTimeout) => (order.timeout, Err(ProbeFailure::AnswerTimeout)),
            Look::Bad(failure) => (Duration::from_millis(1), Err(failure.clone())),
        };
        let report = ProbeReport::new(order.target, took, result);
        self.coming.push((self.now.mono + took, Input::Probe(report)));
    }

    fn carry_out(&mut self, order: ActionOrder) {
        let at = self.now.mono + Duration::from_millis(20);
        let server = order.server.clone();
        let works = order.kind == ActionKind::Stop || self.supervisor == Supervisor::Works;
        let service = self.policy.services.get(&server.service);
        let outside = service.and_then(|s| s.servers.get(&server.name)).is_some_and(|s| !s.supervised);
        if works && order.kind != ActionKind::Stop && !outside {
            self.pids += 1;
            if order.kind == ActionKind::Replace {
                let event =
                    ProcessEvent::Exited { exit: Exit::Signal(15), asked: true, last_lines: Vec::new() };
                self.coming.push((at, Input::Process { server: server.clone(), event }));
            }
            let event = ProcessEvent::Started { pid: self.pids };
            self.coming.push((at, Input::Process { server: server.clone(), event }));
            let listens = Some(address(9000 + u16::try_from(self.pids).unwrap()));
            self.coming.push((at, Input::Address { server, address: listens }));
        }
        let result = if works { Ok(()) } else { Err("no such file or directory".to_owned()) };
        if works || self.supervisor == Supervisor::Fails {
            self.coming.push((at, Input::Outcome { action: order.id, result }));
        }
    }

    pub(crate) fn is_bad(&mut self, server: &ServerId, failure: ProbeFailure) {
        self.looks.insert(server.clone(), Look::Bad(failure));
    }

    pub(crate) fn is_good(&mut self, server: &ServerId) {
        self.looks.insert(server.clone(), Look::Good);
    }

    pub(crate) fn crash(&mut self, server: &ServerId) {
        let exit = Exit::Signal(9);
        let event = ProcessEvent::Exited { exit, asked: false, last_lines: vec!["bye".to_owned()] };
        self.tell(Input::Process { server: server.clone(), event });
    }

    pub(crate) fn admin(&mut self, server: &ServerId, state: AdminState) {
        self.tell(Input::Admin { server: server.clone(), state, by: "dashboard".to_owned() });
    }

    pub(crate) fn attempt_fails(
        &mut self,
        server: &ServerId,
        kind: FailureKind,
        retried_on: Option<ServerId>,
    ) {
        self.tell(Input::Failure(TrafficFailure { server: server.clone(), kind, retried_on }));
    }

    /// One report about one server.
    pub(crate) fn attempts(&mut self, server: &ServerId, ok: u64, errors: u64, refused: u64) {
        let mut traffic = ServerTraffic {
            ok,
            server_errors: errors,
            failures_in_a_row: refused,
            ..ServerTraffic::default()
        };
        if refused > 0 {
            traffic.failures.insert(FailureKind::Refused, refused);
        }
        let servers = BTreeMap::from([(server.clone(), traffic)]);
        self.tell(Input::Traffic(TrafficReport { servers, ..TrafficReport::default() }));
    }

    /// One report about one server that answers nobody.
    pub(crate) fn attempts_unanswered(&mut self, server: &ServerId, n: u64) {
        let failures = BTreeMap::from([(FailureKind::Timeout, n)]);
        let traffic = ServerTraffic { failures, failures_in_a_row: n, ..ServerTraffic::default() };
        let servers = BTreeMap::from([(server.clone(), traffic)]);
        self.tell(Input::Traffic(TrafficReport { servers, ..TrafficReport::default() }));
    }

    /// Real requests for so long, so many in each quarter of a second, given out by the newest table; `how` tells of a
    /// server by its release which share of its answers is 5xx, and how many milliseconds they take.
    pub(crate) fn serve(&mut self, time: Duration, requests: u64, how: impl Fn(u64) -> (f64, u64)) {
        let until = self.now.mono + time;
        while self.now.mono < until {
            self.advance(Duration::from_millis(250));
            let routed = self.routed().clone();
            let tried = routed.trial.as_ref().map_or(0.0, |t| t.share);
            let all: f64 = routed.targets.iter().map(|t| t.share).sum();
            let parts = routed.targets.iter().map(|t| (t.id.clone(), (1.0 - tried) * t.share / all));
            let parts: Vec<_> =
                parts.chain(routed.trial.iter().map(|t| (t.target.id.clone(), t.share))).collect();
            let mut report = TrafficReport::default();
            let mut visitors = ServiceTraffic::default();
            for (id, part) in parts {
                let (bad, ms) = how(self.server(&id).release.unwrap_or(0));
                let (due_requests, due_bad) = self.due.entry(id.clone()).or_default();
                *due_requests += requests as f64 * part;
                let n = due_requests.floor();
                *due_requests -= n;
                *due_bad += n * bad;
                let failed = due_bad.floor();
                *due_bad -= failed;
                let (n, failed) = (n as u64, failed as u64);
                let mut traffic =
                    ServerTraffic { ok: n - failed, server_errors: failed, ..Default::default() };
                (0..n).for_each(|_| traffic.latency.record(Duration::from_millis(ms)));
                visitors.requests += n;
                visitors.server_errors += failed;
                report.servers.insert(id, traffic);
            }
            report.services.insert(shop(), visitors);
            self.tell(Input::Traffic(report));
        }
    }

    /// One report about the visitors of the shop.
    pub(crate) fn visitors(&mut self, requests: u64, failed: u64) {
        let traffic = ServiceTraffic { requests, failed, ..ServiceTraffic::default() };
        let services = BTreeMap::from([(shop(), traffic)]);
        self.tell(Input::Traffic(TrafficReport { services, ..TrafficReport::default() }));
    }

    pub(crate) fn routed(&self) -> &RoutedService {
        &self.model.table.as_ref().unwrap().services[0]
    }

    /// Names of the servers in rotation.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.routed().targets.iter().map(|t| t.id.name.to_string()).collect()
    }

    pub(crate) fn server(&self, id: &ServerId) -> ServerSnapshot {
        self.model.snapshot(self.now).server(id).unwrap().clone()
    }

    pub(crate) fn incidents(&self) -> Vec<Arc<Incident>> {
        self.model.snapshot(self.now).incidents
    }

    pub(crate) fn kinds(&self) -> Vec<EntryKind> {
        self.incidents()[0].timeline.iter().map(|e| e.kind).collect()
    }

    pub(crate) fn orders(&self) -> Vec<(Mono, ActionOrder)> {
        let order = |(at, effect): &(Mono, Effect)| match effect {
            Effect::Recover(order) => Some((*at, order.clone())),
            _ => None,
        };
        self.effects.iter().filter_map(order).collect()
    }

    pub(crate) fn probes_of(&self, server: &ServerId) -> Vec<Mono> {
        let probe = |(at, effect): &(Mono, Effect)| match effect {
            Effect::Probe(order) if order.target == ProbeTarget::Server(server.clone()) => Some(*at),
            _ => None,
        };
        self.effects.iter().filter_map(probe).collect()
    }

    /// Requests of Mainstay's own to this server, so far.
    pub(crate) fn visits_to(&self, server: &ServerId) -> usize {
        let target = ProbeTarget::Server(server.clone());
        let visit =
            |order: &ProbeOrder| order.target == target && matches!(order.kind, ProbeKind::Visit { .. });
        self.effects.iter().filter(|(_, e)| matches!(e, Effect::Probe(order) if visit(order))).count()
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        let notice = |(_, effect): &(Mono, Effect)| match effect {
            Effect::Notify(notice) => Some(notice.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(notice).collect()
    }

    pub(crate) fn notice_kinds(&self) -> Vec<NoticeKind> {
        self.notices().iter().map(|n| n.kind).collect()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let record = |(_, effect): &(Mono, Effect)| match effect {
            Effect::Record(record) => Some(record.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(record).collect()
    }

    pub(crate) fn routes(&self) -> usize {
        self.effects.iter().filter(|(_, e)| matches!(e, Effect::Route(_))).count()
    }
}
