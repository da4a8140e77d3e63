//! A small world for the judge to live in: servers that fail in many ways, a data plane, a prober, a supervisor and a
//! record, all of them simulated, on a virtual clock and from one seed.

#![expect(clippy::unwrap_used, reason = "a world that is broken fails the test that lives in it")]

pub mod causes;
mod fronts;
mod ledger;
mod machine;
mod monitors;
mod people;
mod policy;
mod servers;
mod store;
mod traffic;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::{
    ActionKind, ActionOrder, BackupOrder, NoticeKind, ProbeOrder, Record, SwitchOrder,
};
use mainstay_model::host::{Findings, HostPolicy};
use mainstay_model::input::{AdminState, BackupDone, BackupOutcome, OwnPart, ProbeReport, ProcessEvent};
use mainstay_model::monitor::MonitorState;
use mainstay_model::policy::{Policy, Role};
use mainstay_model::release::{ReleaseOrder, ReleaseState};
use mainstay_model::routing::{RoutedService, RoutingMode, RoutingTable};
use mainstay_model::snapshot::{Health, ServiceState};
use mainstay_model::{
    Effect, IncidentId, Input, Model, MonitorId, Mono, Now, ProbeTarget, ServerId, ServiceId, Snapshot, Wall,
    invariants,
};

use fronts::{Fronts, random_front};
use ledger::Ledger;
use machine::{Machine, Surge};
use monitors::Elsewhere;
use people::People;
use policy::{RECOVERY_BUDGET, RECOVERY_WINDOW, random_policy, random_server};
pub use servers::{Condition, SimServer};
use store::{Store, alike};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;
/// After so long without faults everything must be good: the budget's window, the longest ejection and hold-down, as long again
/// until the incident of a server that flapped is over, and then some.
const QUIET: u64 = 420 * SECOND;

/// A seeded generator of the world's own; the judge's is its own business.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0xd1b5_4a32_d192_ed03)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` up to, but not including, `high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.range(0, 100) < percent
    }
}

/// What happens at a time.
enum Event {
    TrafficTick,
    HostTick,
    Surge,
    Inspected {
        generation: u64,
        findings: Findings,
    },
    Fault,
    ProbeAnswer {
        generation: u64,
        report: ProbeReport,
    },
    Switched {
        generation: u64,
        order: SwitchOrder,
    },
    BackupDone {
        generation: u64,
        outcome: BackupOutcome,
    },
    Stopped {
        generation: u64,
        order: ActionOrder,
    },
    Spawned {
        generation: u64,
        order: ActionOrder,
    },
    Crash {
        server: ServerId,
        incarnation: u64,
    },
    MustBeOut {
        generation: u64,
        server: ServerId,
        fault: u64,
    },
    MustBeDown {
        generation: u64,
        monitor: MonitorId,
        fault: u64,
    },
    /// An adapter of the front or of DNS has its answer.
    Answer {
        generation: u64,
        input: Input,
    },
    /// In a peaceful world, which is not reloaded.
    GoodRelease,
    FaultsEnd,
}

/// What kind of a world the seed makes.
pub struct Kind {
    /// Nothing ever fails.
    pub peaceful: bool,
    /// The prober loses probes and cannot always look.
    lossy_prober: bool,
    /// The wall clock jumps.
    wall_jumps: bool,
    /// Mainstay itself is restarted.
    restarts: bool,
    /// Reloads change the policy.
    reloads: bool,
    /// The machine is watched.
    host: bool,
    /// Servers are on machines of their own, which Mainstay may lose sight of.
    far: bool,
    /// Before anything else goes wrong, more requests come than can be answered.
    crowd: bool,
    /// People open maintenance windows.
    windows: bool,
}

pub struct World {
    pub kind: Kind,
    trace: bool,
    dice: Dice,
    now: u64,
    wall_offset_ms: i64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    pub model: Model,
    generation: u64,
    policy: Policy,
    servers: BTreeMap<ServerId, SimServer>,
    table: Arc<RoutingTable>,
    store: Store,
    fronts: Fronts,
    ledger: Ledger,
    notices: BTreeMap<(IncidentId, NoticeKind), u32>,
    people: People,
    restarts: BTreeMap<ServerId, Vec<u64>>,
    outstanding_probes: BTreeSet<ProbeTarget>,
    elsewhere: Elsewhere,
    in_a_row: BTreeMap<ServerId, u64>,
    faulty: bool,
    faults: u64,
    own_trouble: bool,
    machine: Machine,
    surge: Option<Surge>,
    /// When Mainstay was last started.
    restarted_at: u64,
    /// When the backup under way ends, which dies with Mainstay.
    backup_until: Option<u64>,
    load: u64,
    /// Incidents in which Mainstay ran a service's switch by itself.
    switched: BTreeSet<(ServiceId, IncidentId)>,
    /// Requests under way beside those that end at once.
    pub burst: u64,
    /// Mainstay's own network is gone.
    pub cut_off: bool,
    /// It was, at some time.
    was_cut_off: bool,
    /// By then every server serves at its full share where nothing fails.
    settled_at: u64,
    /// FNV-1a over all effects, if somebody asks.
    pub effects_hash: Option<u64>,
    pub inputs: u64,
    round_trips: bool,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let peaceful = seed % 12 == 5;
        let kind = Kind {
            peaceful,
            lossy_prober: !peaceful && dice.chance(30),
            wall_jumps: dice.chance(25),
            restarts: dice.chance(35),
            reloads: dice.chance(40),
            host: dice.chance(60),
            far: dice.chance(30),
            crowd: !peaceful && seed % 8 == 2,
            windows: seed % 3 == 1,
        };
        let mut policy = random_policy(&mut dice);
        policy.host = kind.host.then(|| HostPolicy {
            sustained: Duration::from_secs(dice.range(1, 9)),
            ..HostPolicy::default()
        });
        if peaceful {
            // Also one request a tick is enough for a release to pass by.
            for deploy in policy.services.values_mut().filter_map(|s| s.deploy.as_mut()) {
                (deploy.min_requests, deploy.deadline) = (10, Duration::from_secs(200));
            }
        }
        let now = 1000 * SECOND;
        let load = [0, 1, 5, 25][if kind.crowd { dice.range(1, 4) } else { dice.range(0, 4) } as usize];
        let clock = Now { mono: Mono(now), wall: Wall(1_760_000_000_000) };
        let mut world = Self {
            kind,
            trace,
            now,
            wall_offset_ms: 1_760_000_000_000 - (now / MS) as i64,
            queue: BTreeMap::new(),
            queued: 0,
            model: Model::new(seed, clock),
            generation: 0,
            servers: BTreeMap::new(),
            table: Arc::default(),
            store: Store::default(),
            fronts: Fronts::default(),
            ledger: Ledger::default(),
            notices: BTreeMap::new(),
            people: People::default(),
            restarts: BTreeMap::new(),
            outstanding_probes: BTreeSet::new(),
            elsewhere: Elsewhere::default(),
            in_a_row: BTreeMap::new(),
            faulty: !peaceful,
            faults: 0,
            own_trouble: false,
            machine: Machine::default(),
            surge: None,
            restarted_at: now,
            backup_until: None,
            load,
            switched: BTreeSet::new(),
            burst: 0,
            cut_off: false,
            was_cut_off: false,
            settled_at: now + 12 * SECOND,
            effects_hash: None,
            inputs: 0,
            round_trips: seed % 16 == 3,
            policy,
            dice,
        };
        world.begin();
        world
    }

    /// Lives through the faults and the quiet time after them, and checks that everything came to a good end.
    pub fn run(&mut self) {
        // What is usual must be known before there can be more of it.
        let alone = if self.kind.crowd { 50 * SECOND } else { 0 };
        if self.kind.crowd {
            self.at(self.now + 27 * SECOND, Event::Surge);
        }
        let faults_for = alone + self.dice.range(15, 90) * SECOND;
        let ends = self.now + faults_for;
        self.at(ends, Event::FaultsEnd);
        self.at(self.now, Event::TrafficTick);
        self.at(self.now + 300 * MS, Event::HostTick);
        if self.faulty {
            self.at(self.now + alone + 5 * SECOND, Event::Fault);
        } else {
            self.at(self.settled_at, Event::GoodRelease);
        }
        let deadline = ends + QUIET;
        let mut good_since = None;
        let mut look_at = ends + SECOND;
        while self.now < deadline {
            self.step();
            if self.now < look_at {
                continue;
            }
            look_at = self.now + SECOND;
            match (self.trouble(), good_since) {
                (Some(_), _) => good_since = None,
                (None, None) => good_since = Some(self.now),
                (None, Some(since)) if self.now - since > 3 * SECOND => break,
                _ => {}
            }
        }
        if let Some(trouble) = self.trouble() {
            panic!("after {QUIET} ns without faults: {trouble}");
        }
        self.check_the_end();
    }

    /// What is not good yet.
    fn trouble(&self) -> Option<String> {
        let snapshot = self.snapshot();
        for service in &snapshot.services {
            for server in &service.servers {
                if server.health != Health::Healthy {
                    return Some(format!("{} is {:?}: {:?}", server.id, server.health, server.why));
                }
                if server.role == Role::Primary && server.share < 1.0 {
                    return Some(format!("{} has a share of {}", server.id, server.share));
                }
            }
            if let Some(front) = &service.front
                && (front.trouble
                    || front.addresses.iter().any(|a| !a.good)
                    || front.dns.iter().any(|s| s.stale))
            {
                return Some(format!("the front of {} is {front:?}", service.id));
            }
            if !service.servers.is_empty() && service.state != ServiceState::Healthy {
                return Some(format!("{} is {:?}", service.id, service.state));
            }
            if let Some(deployment) = service.releases.as_ref().and_then(|r| r.deployment.as_ref()) {
                return Some(format!("a deploy is under way: {deployment:?}"));
            }
            let primaries = service.servers.iter().any(|s| s.role == Role::Primary);
            if primaries && service.mode != RoutingMode::Normal {
                return Some(format!("{} is carried by {:?}", service.id, service.mode));
            }
        }
        if let Some(monitor) = snapshot.monitors.iter().find(|m| m.state != MonitorState::Up) {
            return Some(format!("{monitor:?}"));
        }
        self.store.open_incidents().next().map(|incident| format!("incident {incident:?} is open"))
    }

    fn check_the_end(&self) {
        for id in self.store.incident_ids() {
            let merged = self.store.was_merged(id) || self.store.is_part(id);
            for kind in [NoticeKind::Opened, NoticeKind::Resolved] {
                let told = self.notices.get(&(id, kind)).copied().unwrap_or(0);
                assert!(told == 1 || merged && told == 0, "incident {id} was told {told} times as {kind:?}");
            }
        }
        if self.kind.peaceful {
            assert_eq!(self.store.incident_ids().count(), 0, "an incident in a peaceful world");
            assert!(self.notices.is_empty(), "a notice in a peaceful world");
            for service in self.snapshot().services.iter().filter(|_| self.load > 0) {
                let Some(releases) = &service.releases else { continue };
                let passed =
                    releases.releases.iter().any(|r| r.number == 2 && r.state == ReleaseState::Current);
                assert!(passed, "a good release did not pass: {releases:?}");
                assert!(
                    service.servers.iter().all(|s| s.release.is_none_or(|n| n == 2)),
                    "{:?}",
                    service.servers
                );
            }
        }
        self.store.check();
        self.check_the_ledger();
    }

    fn snapshot(&self) -> Snapshot {
        self.model.snapshot(self.clock())
    }

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), wall: Wall((self.now / MS) as i64 + self.wall_offset_ms) }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((time, self.queued), event);
    }

    /// The next event or timer, whichever is earlier.
    fn step(&mut self) {
        let event_at = self.queue.keys().next().map(|(at, _)| *at);
        let timer_at = self.model.poll_timeout().map(|at| at.0);
        let timer_first = match (timer_at, event_at) {
            (Some(timer), Some(event)) => timer <= event,
            (timer, _) => timer.is_some(),
        };
        if timer_first && let Some(timer) = timer_at {
            assert!(timer >= self.now, "a timer in the past: {timer} at {}", self.now);
            self.now = timer;
            let clock = self.clock();
            self.model.handle_timeout(clock);
            self.drain();
            let next = self.model.poll_timeout();
            assert!(next.is_none_or(|at| at.0 > self.now), "the timer does not move on: {next:?}");
            return;
        }
        let Some(((at, _), event)) = self.queue.pop_first() else { panic!("the world came to a halt") };
        self.now = at;
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::TrafficTick => {
                self.traffic_tick();
                self.at(self.now + 250 * MS, Event::TrafficTick);
            }
            Event::HostTick => {
                self.host_tick();
                self.at(self.now + SECOND, Event::HostTick);
            }
            Event::Surge => {
                let services: Vec<ServiceId> = self.policy.services.keys().cloned().collect();
                let service = services[self.dice.range(0, services.len() as u64) as usize].clone();
                self.surge_begins(&service);
            }
            Event::Inspected { generation, findings } if generation == self.generation => {
                self.tell(Input::Inspected(findings));
            }
            Event::Fault if self.faulty => {
                self.fault();
                let pause = [50, 500, 3000, 12_000][self.dice.range(0, 4) as usize];
                let next = self.now + self.dice.range(1, pause) * MS;
                self.at(next, Event::Fault);
            }
            Event::ProbeAnswer { generation, report } if generation == self.generation => {
                self.outstanding_probes.remove(&report.target);
                self.tell(Input::Probe(report));
            }
            Event::Switched { generation, order } if generation == self.generation => {
                let failed = self.dice.chance(30);
                let result = if failed { Err("exited with status 1".to_owned()) } else { Ok(()) };
                let (service, action) = (order.service, order.id);
                self.tell(Input::Switched { service, action, result, output: vec!["done".to_owned()] });
            }
            Event::Stopped { generation, order } if generation == self.generation => self.stopped(order),
            Event::Spawned { generation, order } if generation == self.generation => self.spawned(order),
            Event::BackupDone { generation, outcome } if generation == self.generation => {
                self.tell(Input::Backup(outcome));
            }
            Event::Crash { server, incarnation } => self.crash(&server, Some(incarnation)),
            Event::MustBeOut { generation, server, fault } if generation == self.generation => {
                self.must_be_out(&server, fault);
            }
            Event::MustBeDown { generation, monitor, fault } if generation == self.generation => {
                self.must_be_down(&monitor, fault);
            }
            Event::Answer { generation, input } if generation == self.generation => self.tell(input),
            Event::GoodRelease => {
                let services: Vec<ServiceId> = self.policy.services.keys().cloned().collect();
                for service in services {
                    let order = ReleaseOrder::Deploy { path: "good-1".to_owned(), force: false };
                    self.tell(Input::Release { service, order, by: "the simulation".to_owned() });
                }
            }
            Event::FaultsEnd => self.faults_end(),
            _ => {}
        }
    }

    /// One input, and all that follows from it.
    fn tell(&mut self, input: Input) {
        let input = if self.round_trips {
            let stored = serde_json::to_string(&input).unwrap();
            let read: Input = serde_json::from_str(&stored).unwrap();
            assert_eq!(read, input, "an input does not survive being stored");
            read
        } else {
            input
        };
        if self.trace {
            println!("{:>12.4} in   {input:?}", self.now as f64 / SECOND as f64);
        }
        self.inputs += 1;
        let clock = self.clock();
        self.model.handle(clock, input);
        self.drain();
        self.people.check(Mono(self.now));
        if self.inputs.is_multiple_of(64) {
            let before = self.model.poll_timeout();
            // Too early: a no-op.
            self.model.handle_timeout(clock);
            assert_eq!(self.model.poll_timeout(), before, "a timeout too early changed something");
            assert!(self.model.poll_effect().is_none(), "a timeout too early did something");
            if self.round_trips {
                let snapshot = self.snapshot();
                let stored = serde_json::to_string(&snapshot).unwrap();
                let read: Snapshot = serde_json::from_str(&stored).unwrap();
                let (before, after) =
                    (serde_json::to_value(&snapshot).unwrap(), serde_json::to_value(&read).unwrap());
                assert!(alike(&before, &after), "a snapshot does not survive being stored: {stored}");
            }
        }
    }

    fn drain(&mut self) {
        // A debug build of the judge checks itself; a release build is checked here.
        if !cfg!(debug_assertions)
            && let Err(broken) = invariants::check(&self.model)
        {
            panic!("an invariant is broken: {broken}");
        }
        while let Some(effect) = self.model.poll_effect() {
            if self.trace {
                println!("{:>12.4} out  {effect:?}", self.now as f64 / SECOND as f64);
            }
            if let Some(hash) = &mut self.effects_hash {
                for byte in format!("{effect:?}").bytes() {
                    *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            match effect {
                Effect::Route(table) => {
                    assert!(table.version > self.table.version || self.table.version == 0);
                    self.check_table(&table);
                    self.table = table;
                }
                Effect::Probe(order) => self.probe(order),
                Effect::Recover(order) => self.carry_out(order),
                Effect::Switch(order) => self.switch(order),
                Effect::Backup(order) => self.back_up(&order),
                Effect::Notify(notice) => {
                    let times = self.notices.entry((notice.incident, notice.kind)).or_default();
                    // What Mainstay did in a person's place has failed: that is news each time.
                    let failed =
                        ["See whether ", "Look at release "].iter().any(|w| notice.advice.starts_with(w));
                    let news = failed && notice.kind != NoticeKind::Opened;
                    *times += u32::from(!news);
                    assert!(*times <= 1 || notice.kind == NoticeKind::Escalated, "told twice: {notice:?}");
                    self.people.told(&notice, Mono(self.now));
                    let opened = self.notices.contains_key(&(notice.incident, NoticeKind::Opened));
                    assert!(opened, "told of before it was told that it began: {notice:?}");
                }
                Effect::Watch(pids) => {
                    assert!(self.kind.host, "processes are watched although the machine is not");
                    let known = self.known_servers();
                    assert!(pids.keys().all(|id| known.contains(id)), "{pids:?} left the config");
                }
                Effect::Inspect(inspection) => self.inspect(inspection),
                Effect::Record(record) => {
                    if let Record::Incident(header) = &record {
                        self.check_opened(header);
                        self.ledger.incident(header, self.inputs);
                    }
                    self.people.read(&record, Mono(self.now));
                    self.store.write(record);
                }
                Effect::Live(live) => self.fronts.publish(&live),
                Effect::LookAtFront(order) => {
                    let answer = self.fronts.look_at(order, &mut self.dice);
                    self.answer(answer);
                }
                Effect::AskCalendar { monitor, after } => {
                    let at = Some(mainstay_model::Wall((after.0 / 60_000 + 1) * 60_000));
                    self.answer((0, Input::Occurs { monitor, at }));
                }
                Effect::LookAround(order) => {
                    let input = self.look_around(&order);
                    let ms = self.dice.range(1, 1000);
                    self.answer((ms, input));
                }
                Effect::LookUp(order) => {
                    let answer = self.fronts.look_up(order, &mut self.dice);
                    self.answer(answer);
                }
            }
        }
    }

    /// An adapter answers after so many milliseconds, or, in a bad world, never.
    fn answer(&mut self, (ms, input): (u64, Input)) {
        if self.faulty && self.kind.lossy_prober && self.dice.chance(4) {
            return;
        }
        let generation = self.generation;
        self.at(self.now + ms * MS, Event::Answer { generation, input });
    }

    /// Front addresses of other sites.
    fn far_fronts(&self) -> Vec<std::net::SocketAddr> {
        let all = self.policy.services.values().flat_map(|service| &service.front.addresses);
        all.filter(|(_, own)| !**own).map(|(address, _)| *address).collect()
    }

    /// What must hold of a table by what the world knows, rather than by what the judge believes.
    fn check_table(&self, table: &RoutingTable) {
        for routed in &table.services {
            self.check_capacity(routed);
            for target in routed.targets.iter().chain(&routed.last_resort) {
                let admin = self.store.admin(&target.id);
                assert_eq!(admin, AdminState::Ready, "{} is routed to although it is {admin}", target.id);
                let template = target.id.name.split(['@', '-']).next().unwrap();
                let template = target.id.service.server(template);
                assert!(self.policy.server(&template).is_some(), "{} left the config", target.id);
            }
        }
    }

    /// Where nothing fails, nothing that the judge does costs capacity.
    fn check_capacity(&self, routed: &RoutedService) {
        let policy = &self.policy.services.get(&routed.id);
        if let Some(scale) = policy.and_then(|p| p.scale.as_ref()) {
            let mine = |id: &ServerId| id.name.split(['@', '-']).next() == Some(&*scale.template);
            let instances = routed.targets.iter().filter(|t| mine(&t.id)).count();
            // One may be leaving, and one be beside them for a deploy.
            assert!(
                instances <= scale.max as usize + 2 || self.kind.reloads,
                "{instances} instances: {routed:?}"
            );
        }
        if !self.kind.peaceful || self.now < self.settled_at || !self.policy.services.contains_key(&routed.id)
        {
            return;
        }
        let primaries = self.policy.services[&routed.id].servers.values().filter(|s| s.role == Role::Primary);
        let weights: f64 = primaries.map(|s| f64::from(s.weight)).sum();
        let shares: f64 = routed.targets.iter().map(|t| t.share).sum();
        assert!(shares + 1e-9 >= weights, "{} is carried by {shares} of {weights}: {routed:?}", routed.id);
    }

    fn probe(&mut self, order: ProbeOrder) {
        assert!(
            self.outstanding_probes.insert(order.target.clone()) || self.kind.lossy_prober,
            "two probes at once of {}",
            order.target
        );
        if self.faulty && self.kind.lossy_prober && self.dice.chance(4) {
            return;
        }
        let (took, result) = match &order.target {
            ProbeTarget::Server(id) => self.look_at(&id.clone(), &order),
            ProbeTarget::Monitor(id) => self.look_elsewhere(&id.clone(), &order),
        };
        let report = ProbeReport::new(order.target, took, result);
        let at = self.now + u64::try_from(took.as_nanos()).unwrap();
        self.at(at, Event::ProbeAnswer { generation: self.generation, report });
    }

    /// A backup takes a while, fails at times, and at times nobody ever says how it ended.
    fn back_up(&mut self, order: &BackupOrder) {
        let at_once = self.backup_until.is_some_and(|until| self.now < until);
        assert!(!at_once, "two backups at once: {order:?}");
        assert!(self.policy.backups.contains_key(&order.backup), "{} left the config", order.backup);
        let took = Duration::from_millis(self.dice.range(50, 4000));
        let ends = self.now + u64::try_from(took.as_nanos()).unwrap();
        self.backup_until = Some(ends);
        if self.faulty && self.dice.chance(5) {
            return;
        }
        let done = BackupDone {
            snapshot: format!("{:08x}", self.dice.range(0, 1 << 32)),
            data_at: self.clock().wall,
            files: 3,
            bytes: 300,
            note: String::new(),
        };
        let fails = self.faulty && self.dice.chance(30);
        let result = if fails { Err("the disk is full".to_owned()) } else { Ok(done) };
        let outcome = BackupOutcome { backup: order.backup.clone(), task: order.task, took, result };
        self.at(ends, Event::BackupDone { generation: self.generation, outcome });
    }

    /// The user's own command: begun once an incident unless a person asks, with its intent in the record.
    fn switch(&mut self, order: SwitchOrder) {
        let run = &self.store.switches[&order.service];
        assert!(run.action == order.id && run.end.is_none(), "a switch without an intent: {order:?}");
        if order.by == "Mainstay" {
            let incident = order.incident.expect("it acts on its own for an incident only");
            assert!(!order.back, "back by itself");
            assert!(self.switched.insert((order.service.clone(), incident)), "again: {order:?}");
        }
        let at = self.now + self.dice.range(1, 3000) * MS;
        if !(self.faulty && self.dice.chance(10)) {
            self.at(at, Event::Switched { generation: self.generation, order });
        }
    }

    fn carry_out(&mut self, order: ActionOrder) {
        self.store.intent(&order, self.clock().wall);
        if order.kind == ActionKind::Restart {
            self.check_restart(&order.server);
            let (budget, window) = (RECOVERY_BUDGET as usize, RECOVERY_WINDOW);
            let times = self.restarts.entry(order.server.clone()).or_default();
            times.push(self.now);
            // A wall clock that jumps makes restarts of an earlier run look older than they are.
            let comparable = !(self.kind.wall_jumps && self.kind.restarts);
            let recent = times.iter().filter(|t| self.now - **t < window).count();
            // Ages of an earlier run are known to the millisecond.
            assert!(!comparable || recent <= budget, "{} was restarted {recent} times", order.server);
        }
        if self.faulty && self.dice.chance(1) {
            return; // Its outcome never comes.
        }
        let running = self.servers.get(&order.server).is_some_and(|s| s.pid.is_some());
        let delay = if running && order.kind != ActionKind::Start {
            self.dice.range(1, 3000)
        } else {
            self.dice.range(1, 20)
        };
        let generation = self.generation;
        self.at(self.now + delay * MS, Event::Stopped { generation, order });
    }

    /// Mainstay is started, for the first time or again.
    fn begin(&mut self) {
        let policy = self.policy.clone();
        self.adopt_servers();
        self.people.policy(&policy);
        for (id, service) in &policy.services {
            self.fronts.learn(id, &service.front);
        }
        self.tell(Input::Policy(policy));
        self.store.check_admin(&self.known_servers());
        self.resolve_addresses();
    }

    /// Mainstay is killed and started again: only the record is left, and supervised processes are cleaned up.
    fn restart_mainstay(&mut self) {
        let died = self.clock().wall;
        self.generation += 1;
        self.outstanding_probes.clear();
        self.backup_until = None;
        self.now += self.dice.range(100, 5000) * MS;
        self.people.mainstay_restarted(Mono(self.now));
        self.queue = std::mem::take(&mut self.queue)
            .into_iter()
            .map(|((at, n), event)| ((at.max(self.now), n), event))
            .collect();
        for server in self.servers.values_mut() {
            server.mainstay_restarted();
        }
        let clock = self.clock();
        self.model = Model::new(self.generation, clock);
        self.table = Arc::default();
        self.restarted_at = self.now;
        self.fronts.forget();
        let restored = self.store.restored(died);
        if self.trace {
            println!("{:>12.4} ---- Mainstay is restarted", self.now as f64 / SECOND as f64);
        }
        if self.own_trouble {
            self.own_trouble = false;
        }
        self.tell(Input::Restored(restored));
        let known = self.model.snapshot(clock).publications;
        let known = known.iter().map(|(id, publication)| (id, &**publication));
        assert!(known.eq(&self.store.publications), "what was told the public is not what is restored");
        self.begin();
    }

    /// Servers of the policy that the world does not have yet come into being, others vanish.
    fn adopt_servers(&mut self) {
        let mut wanted = BTreeMap::new();
        for (id, service) in &self.policy.services {
            for (name, server) in &service.servers {
                wanted.insert(id.server(Arc::clone(name)), server.supervised);
            }
        }
        self.servers.retain(|id, server| wanted.get(id) == Some(&server.supervised) || server.pid.is_some());
        let far = self.kind.far;
        for (id, supervised) in wanted {
            let port = 1000 + self.servers.len() as u16;
            self.servers.entry(id).or_insert_with(|| SimServer::new(supervised, port, far));
        }
        let known: BTreeSet<ServerId> = self.policy_servers();
        // So does its past: a server that comes back under the same name is another one.
        self.restarts.retain(|server, _| known.contains(server));
    }

    fn policy_servers(&self) -> BTreeSet<ServerId> {
        let services = self.policy.services.iter();
        services.flat_map(|(id, s)| s.servers.keys().map(|name| id.server(Arc::clone(name)))).collect()
    }

    /// Those of the config, and the instances that Mainstay added.
    fn known_servers(&self) -> BTreeSet<ServerId> {
        let services = self.snapshot().services.into_iter();
        services.flat_map(|s| s.servers).map(|s| s.id).collect()
    }

    fn resolve_addresses(&mut self) {
        for server in self.policy_servers() {
            let sim = &self.servers[&server];
            if !sim.supervised {
                let address = sim.address();
                self.tell(Input::Address { server, address });
            }
        }
    }

    fn faults_end(&mut self) {
        self.faulty = false;
        self.cut_off = false;
        self.machine_heals();
        self.fronts.heal();
        self.elsewhere_heals();
        self.windows_end();
        if self.own_trouble {
            self.own_trouble = false;
            self.tell(Input::Own { part: OwnPart::Record, trouble: None });
        }
        for server in self.policy_servers() {
            let sim = self.servers.get_mut(&server).unwrap();
            sim.heal();
            if self.store.admin(&server) != AdminState::Ready {
                self.set_admin(server, AdminState::Ready);
            }
        }
    }

    fn set_admin(&mut self, server: ServerId, state: AdminState) {
        self.tell(Input::Admin { server, state, by: "the simulation".to_owned() });
    }

    fn reload(&mut self) {
        let services: Vec<ServiceId> = self.policy.services.keys().cloned().collect();
        let id = services[self.dice.range(0, services.len() as u64) as usize].clone();
        let service = self.policy.services.get_mut(&id).unwrap();
        match self.dice.range(0, 4) {
            0 if service.servers.len() > 2 => {
                let nth = self.dice.range(0, service.servers.len() as u64) as usize;
                let name = service.servers.keys().nth(nth).unwrap().clone();
                service.servers.remove(&name);
                if !service.servers.values().any(|s| s.role == Role::Primary) {
                    service.servers.values_mut().next().unwrap().role = Role::Primary;
                }
            }
            1 if service.servers.len() < 6 => {
                let name = format!("s{}", self.dice.range(0, 9));
                let server = random_server(&mut self.dice, true);
                service.servers.entry(name.into()).or_insert(server);
            }
            2 if self.dice.chance(50) => {
                let number = self.dice.range(0, 9);
                service.front = random_front(&mut self.dice, number);
                self.fronts.learn(&id, &service.front);
            }
            2 => service.slow_start = Duration::from_secs(self.dice.range(0, 8)),
            _ => service.health.interval = Duration::from_millis(self.dice.range(300, 3000)),
        }
        let scalable = service.servers.get("s0").is_some_and(|s| s.supervised);
        service.scale = service.scale.take().filter(|_| scalable);
        let releasable = service.servers.values().any(|s| s.releasable);
        service.deploy = service.deploy.take().filter(|_| releasable);
        self.adopt_servers();
        let policy = self.policy.clone();
        self.people.policy(&policy);
        self.tell(Input::Policy(policy));
        self.store.check_admin(&self.known_servers());
        self.resolve_addresses();
    }

    /// One thing goes wrong, or somebody does something.
    fn fault(&mut self) {
        if !self.policy.monitors.is_empty() && self.dice.chance(15) {
            return self.fault_elsewhere();
        }
        let servers: Vec<ServerId> = self.policy_servers().into_iter().collect();
        let mut server = servers[self.dice.range(0, servers.len() as u64) as usize].clone();
        if let Some(beside) = self.servers.keys().find(|id| id.name.contains('@'))
            && self.dice.chance(10)
        {
            server = beside.clone();
        }
        if self.kind.windows && self.dice.chance(10) {
            return self.somebody_plans();
        }
        if self.dice.chance(8) {
            return self.release_order();
        }
        if self.dice.chance(3) {
            let service = server.service.clone();
            let back = self.dice.chance(50);
            return self.tell(Input::Switch { service, back, by: "the simulation".to_owned() });
        }
        if self.dice.chance(8) {
            self.burst = [0, 5, 30, 80][self.dice.range(0, 4) as usize];
            return;
        }
        if self.trace {
            println!("{:>12.4} ---- fault at {server}", self.now as f64 / SECOND as f64);
        }
        match self.dice.range(0, 100) {
            0..=19 => self.crash(&server, None),
            20..=24 => {
                let fronts = self.far_fronts();
                self.fronts.fault(&mut self.dice, &fronts);
            }
            25..=59 => {
                let condition = Condition::random(&mut self.dice);
                self.set_condition(&server, condition);
            }
            60..=65 => self.surge_begins(&server.service),
            66..=67 => self.machine_fault(),
            68..=71 => {
                self.set_condition(&server, Condition::Good);
                self.servers.get_mut(&server).unwrap().heal();
            }
            72..=74 => {
                for server in &servers {
                    self.crash(server, None);
                }
            }
            75..=80 => {
                let state = [AdminState::Ready, AdminState::Draining, AdminState::Maintenance]
                    [self.dice.range(0, 3) as usize];
                self.set_admin(server, state);
            }
            81..=84 if self.kind.reloads => self.reload(),
            85..=87 if self.kind.restarts => self.restart_mainstay(),
            88..=90 if self.kind.wall_jumps => {
                self.people.clock_jumped();
                let hours = self.dice.range(0, 48) as i64 - 24;
                self.wall_offset_ms += hours * 3_600_000;
            }
            91..=92 => {
                self.own_trouble = !self.own_trouble;
                let trouble = self.own_trouble.then(|| "the disk is full".to_owned());
                self.tell(Input::Own { part: OwnPart::Record, trouble });
            }
            93 if self.kind.far => self.cut_off(!self.cut_off),
            93 => self.machine_fault(),
            94 => {
                let open = self.store.open_incidents().next();
                if let Some(incident) = open {
                    self.tell(Input::Acknowledge { incident, by: "somebody".to_owned() });
                }
                self.publish();
                if let Some(report) = self.people.report(&mut self.dice) {
                    self.tell(Input::Message(report));
                }
            }
            95..=97 => {
                let sim = self.servers.get_mut(&server).unwrap();
                sim.start_fails = self.dice.chance(50);
                sim.crash_loop = !sim.start_fails;
            }
            _ => self.nonsense(&server),
        }
    }

    /// Somebody deploys, goes back, or loses patience.
    fn release_order(&mut self) {
        let deployable = self.policy.services.iter().filter(|(_, s)| s.deploy.is_some());
        let deployable: Vec<ServiceId> = deployable.map(|(id, _)| id.clone()).collect();
        if deployable.is_empty() {
            return;
        }
        let service = deployable[self.dice.range(0, deployable.len() as u64) as usize].clone();
        let order = match self.dice.range(0, 10) {
            0 => ReleaseOrder::RollBack,
            1 => ReleaseOrder::Promote,
            _ => {
                let how = ["good", "good", "good", "bad", "slow", "crash", "crashlate", "nostart"];
                let how = how[self.dice.range(0, how.len() as u64) as usize];
                let path = format!("{how}-{}", self.dice.range(0, 1000));
                ReleaseOrder::Deploy { path, force: self.dice.chance(20) }
            }
        };
        self.tell(Input::Release { service, order, by: "the simulation".to_owned() });
    }

    /// Inputs that make no sense, as an adapter with a bug might send them.
    fn nonsense(&mut self, server: &ServerId) {
        let input = match self.dice.range(0, 7) {
            0 => Input::Outcome { action: mainstay_model::ActionId(self.dice.range(0, 50)), result: Ok(()) },
            1 => Input::Restored(Default::default()),
            2 => Input::Acknowledge { incident: IncidentId(self.dice.range(0, 9)), by: "nobody".to_owned() },
            3 => Input::Admin {
                server: ServiceId::new("nothing").server("nobody"),
                state: AdminState::Ready,
                by: "nobody".to_owned(),
            },
            4 => Input::Address { server: ServiceId::new("nothing").server("nobody"), address: None },
            5 => Fronts::nonsense(server.service.clone(), &mut self.dice),
            _ if !self.servers[server].supervised => {
                Input::Process { server: server.clone(), event: ProcessEvent::Started { pid: 1 } }
            }
            _ => Input::Traffic(Default::default()),
        };
        // An outcome that was not ordered would confuse the world's own supervisor, not the judge.
        if !matches!(input, Input::Outcome { .. }) || self.store.unfinished().is_empty() {
            self.tell(input);
        }
    }
}
