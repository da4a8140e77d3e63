//! A small world for the judge to live in: servers that fail in many ways, a data plane, a prober, a supervisor and a
//! record, all of them simulated, on a virtual clock and from one seed.

#![expect(clippy::unwrap_used, reason = "a world that is broken fails the test that lives in it")]

mod adapters;
mod calm;
pub mod causes;
mod checks;
pub mod databases;
mod dependency;
mod dice;
mod drills;
mod faults;
mod freezes;
mod fronts;
mod holds;
mod jobs;
mod ledger;
mod machine;
mod monitors;
mod people;
mod policy;
mod proposals;
mod scenes;
mod servers;
mod store;
mod traffic;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::{
    ActionKind, ActionOrder, BackupOrder, LookOrder, NoticeKind, ProbeOrder, Record, SwitchOrder,
};
use mainstay_model::heartbeat::PingKind;
use mainstay_model::host::{Findings, HostPolicy};
use mainstay_model::input::{
    AdminState, BackupDone, BackupOutcome, OwnPart, ProbeReport, ProcessEvent, Restored,
};
use mainstay_model::monitor::MonitorState;
use mainstay_model::policy::{Policy, Role};
use mainstay_model::release::{ReleaseOrder, ReleaseState};
use mainstay_model::routing::{RoutedService, RoutingMode, RoutingTable};
use mainstay_model::snapshot::{Health, ServerNote, ServerSnapshot, ServiceState};
use mainstay_model::switch::SwitchStep;
use mainstay_model::{
    ActionId, Effect, IncidentId, Input, Model, MonitorId, Mono, Now, ProbeTarget, ServerId, ServiceId,
    Snapshot, Wall, invariants,
};

use calm::Calm;
use dice::Dice;
use fronts::{Fronts, random_front};
use jobs::Jobs;
use ledger::Ledger;
use machine::{Machine, Surge};
use monitors::Elsewhere;
use people::People;
use policy::{RECOVERY_BUDGET, RECOVERY_WINDOW, random_policy, random_server};
pub use servers::{Condition, SimServer};
use store::{Store, alike};
use windows::Planned;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;
/// After so long without faults everything must be good: the budget's window, the longest ejection and hold-down, as long again
/// until the incident of a server that flapped is over, and then some.
const QUIET: u64 = 420 * SECOND;

/// What happens at a time.
enum Event {
    TrafficTick,
    HostTick,
    Surge,
    /// What the servers of a service need fails, or is well again.
    Dependency(Option<ServiceId>),
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
    LookedInto {
        generation: u64,
        order: LookOrder,
    },
    Crash {
        server: ServerId,
        incarnation: u64,
    },
    MustBeOut(ServerId, Deadline),
    MustBeDown(MonitorId, Deadline),
    /// An adapter of the front or of DNS has its answer.
    Answer {
        generation: u64,
        input: Input,
    },
    /// In a peaceful world.
    GoodRelease,
    /// Something small in a peaceful world.
    CalmMoment,
    /// A person brings back what they took out.
    Back(ServerId),
    /// A job runs, and is done.
    JobRuns(MonitorId),
    JobEnds(MonitorId, PingKind),
    /// When the windows of the config come is told again.
    Calendar,
    /// A person decides on a proposal.
    Decide(u64),
    /// A person goes back from what was switched.
    GoBack,
    FaultsEnd,
}

/// A fault that has to be noticed.
struct Deadline {
    generation: u64,
    fault: u64,
    /// Nanoseconds of sight.
    within: u64,
}

/// What kind of a world the seed makes.
#[derive(Default)]
pub struct Kind {
    /// Nothing ever fails.
    pub peaceful: bool,
    /// The prober loses probes and cannot always look.
    lossy_prober: bool,
    /// What becomes of a restart is never told, once in a hundred times.
    loses_orders: bool,
    /// The wall clock jumps.
    wall_jumps: bool,
    /// Mainstay itself is restarted.
    restarts: bool,
    /// Reloads change the policy.
    reloads: bool,
    /// The machine is watched.
    host: bool,
    /// It has too little processor time for Mainstay itself, now and then.
    starves: bool,
    /// Servers are on machines of their own, which Mainstay may lose sight of.
    far: bool,
    /// Two servers are on each of them.
    pairs: bool,
    /// So many servers of all services have one each, in turn; 0: see above.
    machines: u16,
    /// Before anything else goes wrong, more requests come than can be answered.
    crowd: bool,
    /// Before anything else goes wrong, what all servers of a service need does.
    dependency: bool,
    /// People open maintenance windows.
    windows: bool,
    /// Servers are known from before.
    past: bool,
    /// People turn the freeze switch.
    freezes: bool,
    /// Mainstay may not do everything on its own.
    levels: bool,
    /// People drill.
    drills: bool,
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
    holds: holds::Holds,
    notices: BTreeMap<(IncidentId, NoticeKind), u32>,
    people: People,
    restarts: BTreeMap<ServerId, Vec<u64>>,
    /// Restarts of servers that Mainstay does not start itself, which were carried out.
    restarted_outside: BTreeSet<ActionId>,
    outstanding_probes: BTreeSet<ProbeTarget>,
    elsewhere: Elsewhere,
    jobs: Jobs,
    /// As the switch was turned last.
    frozen: Option<mainstay_model::freeze::Freeze>,
    /// The drill whose fault was ordered and not undone.
    drilled: Option<u64>,
    planned: Planned,
    in_a_row: BTreeMap<ServerId, u64>,
    faulty: bool,
    /// Neither faults nor small things happen any more.
    quiet: bool,
    faults: u64,
    own_trouble: bool,
    machine: Machine,
    surge: Option<Surge>,
    /// Servers that were restarted while they ran, and those that a person wants to run.
    fleet: (BTreeSet<ServerId>, BTreeSet<ServerId>),
    /// What all servers of this service need fails, and nothing else does.
    lacking: Option<ServiceId>,
    /// When Mainstay was last started.
    restarted_at: u64,
    /// When the backup under way ends, which dies with Mainstay.
    backup_until: Option<u64>,
    /// Requests of every service in a tick, usually.
    load: u64,
    /// How many of them come now, of a hundred.
    load_percent: u64,
    calm: Calm,
    /// Incidents in which Mainstay ran a service's switch by itself.
    switched: BTreeSet<(ServiceId, IncidentId, SwitchStep)>,
    /// Proposals that people have heard of.
    seen_proposals: BTreeSet<u64>,
    /// Fences that succeeded, and were not used yet.
    fenced: BTreeSet<ActionId>,
    /// Requests under way beside those that end at once.
    pub burst: u64,
    /// Mainstay's own network is gone.
    pub cut_off: bool,
    /// Since when it has been there.
    sees_since: u64,
    /// The judge was told that it sees nothing.
    knows_blind: bool,
    /// And was when it made the last table.
    routed_blind: bool,
    /// By then every server serves at its full share where nothing fails.
    settled_at: u64,
    /// FNV-1a over all effects, if somebody asks.
    pub effects_hash: Option<u64>,
    pub inputs: u64,
    /// All that the judge was told, in some of the worlds.
    pub heard: Option<Vec<(Now, Input)>>,
    /// How often people were told of what.
    pub told: BTreeMap<NoticeKind, u32>,
    round_trips: bool,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let peaceful = seed % 12 == 5;
        let kind = Kind {
            peaceful,
            lossy_prober: !peaceful && dice.chance(30),
            loses_orders: !peaceful,
            wall_jumps: dice.chance(25),
            restarts: dice.chance(35),
            reloads: dice.chance(40),
            host: dice.chance(60),
            starves: !peaceful && seed.is_multiple_of(5),
            far: dice.chance(30),
            pairs: seed % 4 == 1,
            machines: 0,
            crowd: !peaceful && seed % 8 == 2,
            dependency: !peaceful && seed % 8 == 4,
            windows: seed % 3 == 1,
            // What is replayed from what was heard begins without one.
            past: !seed.is_multiple_of(3) && seed % 8 != 1,
            freezes: !peaceful && seed % 7 == 3,
            levels: !peaceful && seed % 9 == 6,
            drills: !peaceful && seed % 7 == 5,
        };
        let mut policy = random_policy(&mut dice);
        if kind.levels {
            Self::set_levels(&mut policy, &mut Dice::new(!seed));
        }
        policy.host = kind.host.then(|| HostPolicy {
            sustained: Duration::from_secs(dice.range(1, 9)),
            ..HostPolicy::default()
        });
        if peaceful {
            calm::bears_noise(&mut policy, &mut dice);
        }
        let now = 1000 * SECOND;
        let load = [0, 1, 5, 25][if kind.crowd { dice.range(1, 4) } else { dice.range(0, 4) } as usize];
        let clock = Now { mono: Mono(now), wall: Wall(1_760_000_000_000) };
        let kind_restarts = kind.restarts;
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
            holds: holds::Holds::default(),
            notices: BTreeMap::new(),
            people: People::default(),
            restarts: BTreeMap::new(),
            restarted_outside: BTreeSet::new(),
            outstanding_probes: BTreeSet::new(),
            elsewhere: Elsewhere::default(),
            jobs: Jobs::default(),
            planned: Planned::default(),
            frozen: None,
            drilled: None,
            in_a_row: BTreeMap::new(),
            faulty: !peaceful,
            quiet: false,
            faults: 0,
            own_trouble: false,
            machine: Machine::default(),
            surge: None,
            fleet: Default::default(),
            lacking: None,
            restarted_at: now,
            backup_until: None,
            load,
            load_percent: 100,
            calm: Calm::default(),
            switched: BTreeSet::new(),
            fenced: BTreeSet::new(),
            seen_proposals: BTreeSet::new(),
            burst: 0,
            cut_off: false,
            sees_since: 0,
            knows_blind: false,
            routed_blind: false,
            settled_at: now + 12 * SECOND,
            effects_hash: None,
            inputs: 0,
            // A restart loses what only the dead judge knew.
            heard: (seed % 8 == 1 && !kind_restarts).then(Vec::new),
            told: BTreeMap::new(),
            round_trips: seed % 16 == 3,
            policy,
            dice,
        };
        if world.kind.windows {
            world.somebody_writes_windows();
        }
        world.begin();
        world
    }

    /// Lives through the faults and the quiet time after them, and checks that everything came to a good end.
    pub fn run(&mut self) {
        // What is usual must be known before there can be more of it.
        let alone = if self.kind.crowd || self.kind.dependency { 50 * SECOND } else { 0 };
        if self.kind.dependency {
            self.dependency_will_fail();
        }
        if self.kind.crowd {
            self.at(self.now + 27 * SECOND, Event::Surge);
        }
        let faults_for = alone + self.dice.range(15, 90) * SECOND;
        let ends = self.now + faults_for;
        self.at(ends, Event::FaultsEnd);
        self.at(self.now, Event::TrafficTick);
        self.at(self.now + 300 * MS, Event::HostTick);
        self.at(self.now + 10 * SECOND, Event::Calendar);
        self.jobs_begin();
        if self.faulty {
            self.at(self.now + alone + 5 * SECOND, Event::Fault);
        } else {
            self.at(self.settled_at, Event::GoodRelease);
            self.at(self.settled_at, Event::CalmMoment);
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

    fn snapshot(&self) -> Snapshot {
        self.model.snapshot(self.clock())
    }

    pub fn clock(&self) -> Now {
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
                self.check_jobs();
                self.at(self.now + SECOND, Event::HostTick);
            }
            Event::Surge => {
                let services: Vec<ServiceId> = self.policy.services.keys().cloned().collect();
                let service = services[self.dice.range(0, services.len() as u64) as usize].clone();
                self.surge_begins(&service);
            }
            Event::Dependency(service) => self.lacking(service),
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
                let failed = self.faulty && self.dice.chance(30);
                let result = if failed { Err("exited with status 1".to_owned()) } else { Ok(()) };
                if !failed && order.step == SwitchStep::Fence {
                    self.fenced.insert(order.id);
                }
                let (service, action) = (order.service, order.id);
                self.tell(Input::Switched { service, action, result, output: vec!["done".to_owned()] });
            }
            Event::Stopped { generation, order } if generation == self.generation => self.stopped(order),
            Event::Spawned { generation, order } if generation == self.generation => self.spawned(order),
            Event::Stopped { order, .. } | Event::Spawned { order, .. }
                if self.is_outside(&order) && self.dice.chance(50) =>
            {
                // It outlives the Mainstay that began it.
                let _ = self.restarted_outside(&order);
            }
            Event::LookedInto { generation, order } if generation == self.generation => self.look_into(order),
            Event::BackupDone { generation, outcome } if generation == self.generation => {
                self.tell(Input::Backup(outcome));
            }
            Event::Crash { server, incarnation } => self.crash(&server, Some(incarnation)),
            Event::MustBeOut(server, notice) if notice.generation == self.generation => {
                match self.cannot_tell_before(notice.within) {
                    Some(later) => self.at(later, Event::MustBeOut(server, notice)),
                    None => self.must_be_out(&server, notice.fault),
                }
            }
            Event::MustBeDown(monitor, notice) if notice.generation == self.generation => {
                match self.cannot_tell_before(notice.within) {
                    Some(later) => self.at(later, Event::MustBeDown(monitor, notice)),
                    None => self.must_be_down(&monitor, notice.fault),
                }
            }
            Event::Answer { generation, input } if generation == self.generation => self.tell(input),
            Event::GoodRelease => {
                let services: Vec<ServiceId> = self.policy.services.keys().cloned().collect();
                for service in services {
                    let order = ReleaseOrder::Deploy { path: "good-1".to_owned(), force: false };
                    self.tell(Input::Release { service, order, by: "the simulation".to_owned() });
                }
            }
            Event::CalmMoment if !self.quiet => {
                self.calm_moment();
                let next = self.now + self.dice.range(200, 6000) * MS;
                self.at(next, Event::CalmMoment);
            }
            Event::Decide(number) => self.decide(number),
            Event::Back(server) => self.back_from_a_drain(server),
            Event::JobRuns(job) => self.job_runs(job),
            Event::JobEnds(job, kind) => self.ping(&job, kind),
            Event::Calendar => {
                self.tell_of_windows();
                self.at(self.now + 10 * SECOND, Event::Calendar);
            }
            Event::GoBack => self.somebody_goes_back(),
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
        if let Some(heard) = &mut self.heard {
            heard.push((clock, input.clone()));
        }
        if let Input::Injected { result: Err(_), .. } = &input {
            // What could not be made is not undone.
            self.drilled = None;
        }
        if let Input::Outcome { action, .. } = &input {
            self.holds.ended(*action);
        }
        if let Input::Sight(report) = &input {
            self.knows_blind = report.blindness().is_some();
        }
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
        self.freeze_runs_out();
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
                    if self.routed_blind {
                        self.check_blind(&table);
                    }
                    self.routed_blind = self.is_blind();
                    self.table = table;
                }
                Effect::Probe(order) => self.probe(order),
                Effect::Recover(order) => self.carry_out(order),
                Effect::LookInto(order) => {
                    let at = self.now + self.dice.range(1, 8000) * MS;
                    self.at(at, Event::LookedInto { generation: self.generation, order });
                }
                Effect::Switch(order) => self.switch(order),
                Effect::Provide(order) => panic!("nobody here makes instances: {order:?}"),
                Effect::Backup(order) => self.back_up(&order),
                Effect::Drill(step) => self.drill_step(&step),
                Effect::Notify(notice) => {
                    *self.told.entry(notice.kind).or_default() += 1;
                    let times = self.notices.entry((notice.incident, notice.kind)).or_default();
                    // What Mainstay did in a person's place has failed: that is news each time.
                    let failed = [
                        "See whether ",
                        "See to it that ",
                        "Look at release ",
                        "Look at what else ",
                        "Decide whether ",
                    ];
                    let failed = failed.iter().any(|w| notice.advice.starts_with(w));
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
                        assert!(!self.kind.peaceful, "nothing is wrong: {header:?}");
                        self.check_opened(header);
                        self.ledger.incident(header, self.inputs);
                    }
                    self.people.read(&record, Mono(self.now));
                    if let Record::Proposal(proposal) = &record {
                        self.proposed(proposal);
                    }
                    self.store.write(record);
                }
                Effect::Live(live) => self.fronts.publish(&live),
                Effect::LookAtFront(order) => {
                    let answer = self.fronts.look_at(order, &mut self.dice);
                    self.answer(answer);
                }
                Effect::AskCalendar { monitor, after } => {
                    let at = Some(Wall((after.0 / 60_000 + 1) * 60_000));
                    self.calendar_says(&monitor, at);
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

    /// Front addresses of other sites.
    fn far_fronts(&self) -> Vec<std::net::SocketAddr> {
        let all = self.policy.services.values().flat_map(|service| &service.front.addresses);
        all.filter(|(_, own)| !**own).map(|(address, _)| *address).collect()
    }

    /// Mainstay is started, for the first time or again.
    fn begin(&mut self) {
        let policy = self.policy.clone();
        self.adopt_servers();
        if self.kind.past && self.store.knows_no_past() {
            let (servers, per_minute) = (self.servers.keys().cloned(), self.load * 4 * 60);
            self.store.had_a_past(servers, per_minute, self.clock().wall);
            let restored = self.store.restored(self.clock().wall);
            self.tell(Input::Restored(Restored { last_alive: None, ..restored }));
        }
        self.people.policy(&policy);
        for (id, service) in &policy.services {
            self.fronts.learn(id, &service.front);
        }
        // Before anything could be started anew.
        if self.frozen.is_some() {
            self.tell(Input::Freeze(self.frozen.clone()));
        }
        self.tell_of_windows();
        self.tell(Input::Policy(policy));
        self.store.check_admin(&self.known_servers());
        self.resolve_addresses();
    }

    /// Mainstay is killed and started again: only the record is left, and supervised processes are cleaned up.
    fn restart_mainstay(&mut self) {
        let died = self.clock().wall;
        self.generation += 1;
        self.fleet.0.clear();
        self.holds.mainstay_restarted();
        self.drilled = None;
        self.outstanding_probes.clear();
        self.backup_until = None;
        self.now += self.dice.range(100, 5000) * MS;
        self.people.mainstay_restarted(Mono(self.now));
        self.jobs_outlive_mainstay();
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
        (self.knows_blind, self.routed_blind) = (false, false);
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
        let (far, pairs) = (self.kind.far, self.kind.pairs);
        for (id, supervised) in wanted {
            let port = 1000 + self.servers.len() as u16;
            let machine = match (self.kind.machines, pairs) {
                (0, true) => port / 2,
                (0, false) => port,
                (machines, _) => port % machines,
            };
            self.servers.entry(id).or_insert_with(|| SimServer::new(supervised, port, far, machine));
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

    fn set_admin(&mut self, server: ServerId, state: AdminState) {
        if state == AdminState::Ready {
            self.fleet.1.insert(server.clone());
            // It is looked at anew.
            self.holds.forget(&server);
        }
        self.tell(Input::Admin { server, state, by: "the simulation".to_owned() });
    }
}
