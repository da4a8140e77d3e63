//! The scenes of `causes`: two services of four servers that are well, and one fault.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::host::HostPolicy;
use mainstay_model::incident::Incident;
use mainstay_model::input::Exit;
use mainstay_model::needs::Needed;
use mainstay_model::policy::{
    DeployPolicy, FrontPolicy, HealthPolicy, Policy, ProbeKind, ServerPolicy, ServicePolicy,
};
use mainstay_model::release::ReleaseOrder;
use mainstay_model::{Input, ServerId, ServiceId};

use super::causes::{Fault, Lived};
use super::machine::Surge;
use super::{Condition, Dice, Event, Kind, MS, SECOND, World};

/// Servers of each of the services of a scene.
const SERVERS: u64 = 4;
/// A front address that dies.
const FRONT: ([u8; 4], u16) = ([192, 0, 2, 80], 80);

/// Lives through one fault.
pub fn live_through(fault: Fault, seed: u64) -> Lived {
    let mut world = scene(fault, seed);
    let calm = world.dice.range(30, 35);
    world.live(calm);
    // The prober's phase is left to chance.
    let ms = world.dice.range(0, 1500);
    world.live_ms(ms);
    let shop = ServiceId::new("shop");
    let nth = world.dice.range(0, SERVERS);
    let victim = shop.server(format!("s{nth}"));
    let within = fault.noticed_within(&world.policy.services[&shop]);
    let began = world.clock().wall;
    let (targets, actions) = (world.targets(), world.store.last_action());
    world.inject(fault, &shop, &victim);
    world.live(within.as_secs().max(10) + 10);
    if fault == Fault::CutOff {
        assert_eq!(world.targets(), targets, "seed {seed}: who is cut off himself takes nobody out");
        assert_eq!(world.store.last_action(), actions, "seed {seed}: and restarts nobody");
    }
    let snapshot = world.snapshot();
    let found: Vec<&Incident> = snapshot.incidents.iter().rev().map(|incident| &**incident).collect();
    Lived::of(fault, &found, (&shop, &victim), began.0, within)
}

fn scene(fault: Fault, seed: u64) -> World {
    let mut world = World::new(12 * seed + 5, false);
    let far =
        matches!(fault, Fault::HostDies | Fault::CutOff | Fault::Flap | Fault::Dependency | Fault::Refuses)
            || matches!(fault, Fault::SlowAlike | Fault::SharedHostDies);
    let (pairs, past) = (fault == Fault::HostDies, seed % 2 == 1 || fault == Fault::SlowAlike);
    // A server of each service on every machine.
    let machines = if fault == Fault::SharedHostDies { SERVERS as u16 } else { 0 };
    world.kind = Kind { host: true, far, pairs, machines, past, ..Kind::default() };
    world.load = [6, 12, 25][world.dice.range(0, 3) as usize];
    if fault == Fault::BadRelease {
        // Enough for the release to be compared in time.
        world.load = world.load.max(12);
    }
    let mut policy = Policy { people: true, host: Some(HostPolicy::default()), ..Policy::default() };
    for name in ["shop", "api", "db"] {
        policy.services.insert(ServiceId::new(name), service(fault, far, &mut world.dice));
    }
    let shop = policy.services.get_mut(&ServiceId::new("shop")).unwrap();
    shop.needs = vec![Needed::Service(ServiceId::new("db"))];
    if matches!(fault, Fault::StaleDns | Fault::NameGone | Fault::ResolverFails) {
        let other = SocketAddr::from(([192, 0, 2, 81], 80));
        let addresses = [(SocketAddr::from(FRONT), false), (other, false)].into();
        shop.front = FrontPolicy { addresses, names: vec!["shop.example.com".to_owned()], live: false };
    }
    world.begin_anew(policy);
    world
}

fn service(fault: Fault, far: bool, dice: &mut Dice) -> ServicePolicy {
    let mut service = ServicePolicy {
        health: HealthPolicy {
            probe: ProbeKind::Http { path: "/healthz".to_owned(), host: None },
            interval: Duration::from_millis([500, 1000, 2000][dice.range(0, 3) as usize]),
            // Also what is slow answers within it.
            timeout: Duration::from_millis([800, 1500][dice.range(0, 2) as usize]),
            fall: dice.range(1, 4) as u32,
            ..HealthPolicy::default()
        },
        slow_start: Duration::from_secs(2),
        ..ServicePolicy::default()
    };
    if fault == Fault::ErrorShare {
        service.traffic.failure_share = 0.1;
    }
    for n in 0..SERVERS {
        let server = ServerPolicy { supervised: !far, releasable: !far, ..ServerPolicy::default() };
        service.servers.insert(format!("s{n}").into(), server);
    }
    service.deploy =
        (!far).then(|| DeployPolicy { first: "good-0".to_owned(), share: 0.2, ..DeployPolicy::default() });
    service
}

impl World {
    /// Another world altogether, from now on.
    fn begin_anew(&mut self, policy: Policy) {
        self.servers.clear();
        self.queue.clear();
        self.model = mainstay_model::Model::new(self.dice.range(0, u64::MAX), self.clock());
        self.table = Arc::default();
        self.store = super::Store::default();
        self.notices.clear();
        self.in_a_row.clear();
        self.outstanding_probes.clear();
        self.people = super::People::default();
        self.fronts = super::Fronts::default();
        self.planned = super::Planned::default();
        self.policy = policy;
        self.begin();
        self.at(self.now, Event::TrafficTick);
        self.at(self.now + 300 * MS, Event::HostTick);
    }

    fn live(&mut self, seconds: u64) {
        self.live_ms(seconds * 1000);
    }

    fn live_ms(&mut self, ms: u64) {
        let until = self.now + ms * MS;
        while self.now < until {
            self.step();
        }
    }

    /// Who gets requests.
    fn targets(&self) -> BTreeSet<ServerId> {
        self.table.services.iter().flat_map(|routed| &routed.targets).map(|t| t.id.clone()).collect()
    }

    fn inject(&mut self, fault: Fault, service: &ServiceId, victim: &ServerId) {
        self.faulty = true;
        let condition = |world: &mut World, condition| world.set_condition(victim, condition);
        match fault {
            Fault::Crash => self.crash(victim, None),
            Fault::Refuses => condition(self, Condition::Refuses),
            Fault::Hang => condition(self, Condition::Hangs),
            Fault::Slow => condition(self, Condition::Slow),
            Fault::SlowAlike => {
                let all: Vec<ServerId> =
                    self.servers.keys().filter(|id| id.service == *service).cloned().collect();
                all.iter().for_each(|id| self.set_condition(id, Condition::Slow));
            }
            Fault::Errors => condition(self, Condition::Errors),
            Fault::ErrorShare => condition(self, Condition::SomeErrors),
            Fault::Gray => condition(self, Condition::Gray),
            Fault::WrongCheck => condition(self, Condition::BadProbes),
            Fault::Certificate => condition(self, Condition::BadCertificate),
            Fault::Flap => {
                // Requests eject it too, for longer each time, so that it falls less often than it fails.
                for _ in 0..12 {
                    condition(self, Condition::Refuses);
                    self.live(3);
                    self.servers.get_mut(victim).unwrap().heal();
                    self.live(3);
                }
            }
            Fault::HostDies | Fault::SharedHostDies => {
                let machine = self.servers[victim].machine();
                let all = self.servers.iter().filter(|(_, server)| server.machine() == machine);
                let on_it: Vec<ServerId> = all.map(|(id, _)| id.clone()).collect();
                let there = if fault == Fault::HostDies { 2 } else { 3 };
                assert_eq!(on_it.len(), there, "so many servers are on it");
                on_it.iter().for_each(|id| self.set_condition(id, Condition::Vanished));
            }
            Fault::CutOff => self.cut_off(true),
            Fault::OutOfMemory => {
                self.machine.oom_kills += 1;
                self.dies(victim, Exit::Signal(9));
            }
            Fault::FullDisk => {
                self.machine.disk_used = 1000;
                condition(self, Condition::Errors);
            }
            Fault::Dependency => {
                for id in self.servers.keys().cloned().collect::<Vec<_>>() {
                    match id.service.as_str() {
                        "db" => self.set_condition(&id, Condition::Refuses),
                        "shop" => self.set_condition(&id, Condition::Errors),
                        _ => {}
                    }
                }
            }
            Fault::StaleDns => self.fronts.kill(FRONT.into()),
            Fault::NameGone => self.fronts.break_names(Some(true)),
            Fault::ResolverFails => self.fronts.break_names(Some(false)),
            Fault::BadRelease => {
                let order = ReleaseOrder::Deploy { path: "bad-1".to_owned(), force: false };
                self.tell(Input::Release { service: service.clone(), order, by: "somebody".to_owned() });
            }
            Fault::Overload | Fault::Attack => {
                let until = self.now + 60 * SECOND;
                self.surge = Some(Surge::pure(service.clone(), self.now, until, fault == Fault::Attack));
            }
            Fault::ClockJump => self.wall_offset_ms += 6 * 3_600_000,
        }
    }
}
