//! Scenes with one fault each, and what the judge makes of it: the table of confusions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::cause::Cause;
use mainstay_model::host::HostPolicy;
use mainstay_model::incident::{Incident, Scope};
use mainstay_model::input::OwnPart;
use mainstay_model::policy::{DeployPolicy, HealthPolicy, Policy, ProbeKind, ServerPolicy, ServicePolicy};
use mainstay_model::release::ReleaseOrder;
use mainstay_model::{Input, ServerId, ServiceId};

use super::machine::Surge;
use super::{Condition, Event, Kind, MS, SECOND, World};

/// Servers of each of the two services of a scene.
const SERVERS: u64 = 4;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Crash,
    Hang,
    Slow,
    Errors,
    Gray,
    WrongCheck,
    Flap,
    HostDies,
    CutOff,
    BadRelease,
    Overload,
    Attack,
    ClockJump,
}

impl Fault {
    pub const ALL: [Fault; 13] = [
        Fault::Crash,
        Fault::Hang,
        Fault::Slow,
        Fault::Errors,
        Fault::Gray,
        Fault::WrongCheck,
        Fault::Flap,
        Fault::HostDies,
        Fault::CutOff,
        Fault::BadRelease,
        Fault::Overload,
        Fault::Attack,
        Fault::ClockJump,
    ];

    /// What it should be called.
    pub fn wanted(self) -> &'static str {
        match self {
            Fault::Crash | Fault::Hang => "crash",
            Fault::Slow => "slow",
            Fault::Errors => "errors",
            Fault::Gray => "gray",
            Fault::WrongCheck => "wrong check",
            Fault::Flap => "flap",
            Fault::HostDies => "network",
            Fault::CutOff => "observer",
            Fault::BadRelease => "bad update",
            Fault::Overload => "overload",
            Fault::Attack => "attack",
            Fault::ClockJump => "nothing",
        }
    }
}

/// Lives through one fault; returns what the judge called it, and how many incidents it opened.
pub fn live_through(fault: Fault, seed: u64) -> (String, usize) {
    let mut world = scene(fault, seed);
    let calm = world.dice.range(30, 35);
    world.live(calm);
    // The prober's phase is left to chance.
    let ms = world.dice.range(0, 1500);
    world.live_ms(ms);
    let shop = ServiceId::new("shop");
    let nth = world.dice.range(0, SERVERS);
    let victim = shop.server(format!("s{nth}"));
    world.inject(fault, &shop, &victim);
    world.live(20);
    let snapshot = world.snapshot();
    let found: Vec<&Arc<Incident>> = snapshot.incidents.iter().collect();
    // The oldest is the first that somebody was told of.
    let called = found.last().map_or_else(|| "nothing".to_owned(), |incident| called(incident));
    (called, found.len())
}

/// What an incident says that it is, in a word.
fn called(incident: &Incident) -> String {
    let title = &incident.title;
    let word = match &incident.scope {
        Scope::Own(OwnPart::Sight) => "observer",
        Scope::Check(_) => "wrong check",
        _ if title.contains(" flaps: ") => "flap",
        _ if title.contains(" is gray: ") => "gray",
        _ => match incident.diagnosis.as_ref().map(|diagnosis| diagnosis.cause) {
            Some(Cause::Unknown) if title.contains("more slowly than its fellows") => "slow",
            Some(Cause::Unknown) if title.contains("fails") => "errors",
            Some(cause) => cause.as_str(),
            None => "without a cause",
        },
    };
    word.to_owned()
}

fn scene(fault: Fault, seed: u64) -> World {
    let mut world = World::new(12 * seed + 5, false);
    let far = matches!(fault, Fault::HostDies | Fault::CutOff | Fault::Flap);
    world.kind = Kind {
        peaceful: false,
        lossy_prober: false,
        wall_jumps: false,
        restarts: false,
        reloads: false,
        host: true,
        starves: false,
        far,
        crowd: false,
        windows: false,
    };
    world.load = 12;
    let mut policy = Policy { people: true, host: Some(HostPolicy::default()), ..Policy::default() };
    for name in ["shop", "api"] {
        let mut service = ServicePolicy {
            health: HealthPolicy {
                probe: ProbeKind::Http { path: "/healthz".to_owned(), host: None },
                ..HealthPolicy::default()
            },
            slow_start: Duration::from_secs(2),
            ..ServicePolicy::default()
        };
        for n in 0..SERVERS {
            let server = ServerPolicy { supervised: !far, releasable: !far, ..ServerPolicy::default() };
            service.servers.insert(format!("s{n}").into(), server);
        }
        service.deploy = (!far).then(|| DeployPolicy {
            first: "good-0".to_owned(),
            share: 0.2,
            ..DeployPolicy::default()
        });
        policy.services.insert(ServiceId::new(name), service);
    }
    world.begin_anew(policy);
    world
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

    fn inject(&mut self, fault: Fault, service: &ServiceId, victim: &ServerId) {
        self.faulty = true;
        let condition = |world: &mut World, condition| world.set_condition(victim, condition);
        match fault {
            Fault::Crash => self.crash(victim, None),
            Fault::Hang => condition(self, Condition::Hangs),
            Fault::Slow => condition(self, Condition::Slow),
            Fault::Errors => condition(self, Condition::Errors),
            Fault::Gray => condition(self, Condition::Gray),
            Fault::WrongCheck => condition(self, Condition::BadProbes),
            Fault::HostDies => condition(self, Condition::Vanished),
            Fault::Flap => {
                for _ in 0..5 {
                    condition(self, Condition::Refuses);
                    self.live(3);
                    self.servers.get_mut(victim).unwrap().heal();
                    self.live(3);
                }
            }
            Fault::CutOff => self.cut_off(true),
            Fault::BadRelease => {
                let order = ReleaseOrder::Deploy { path: "bad-1".to_owned(), force: false };
                self.tell(Input::Release { service: service.clone(), order, by: "somebody".to_owned() });
                self.live(20);
            }
            Fault::Overload | Fault::Attack => {
                let until = self.now + 60 * SECOND;
                self.surge = Some(Surge::pure(service.clone(), self.now, until, fault == Fault::Attack));
            }
            Fault::ClockJump => self.wall_offset_ms += 6 * 3_600_000,
        }
    }
}

/// The table of `(fault, called)`, printed; returns the share of scenes that were called rightly.
pub fn confusions(seeds: u64) -> f64 {
    let mut table: BTreeMap<Fault, BTreeMap<String, u64>> = BTreeMap::new();
    let (mut right, mut incidents) = (0, 0);
    for seed in 0..seeds {
        for fault in Fault::ALL {
            let (called, opened) = live_through(fault, seed);
            right += u64::from(called == fault.wanted());
            incidents += opened;
            *table.entry(fault).or_default().entry(called).or_default() += 1;
        }
    }
    println!("{:<12} {:<12} called", "fault", "wanted");
    for (fault, called) in &table {
        let called: Vec<String> = called.iter().map(|(word, n)| format!("{word} {n}")).collect();
        println!("{:<12} {:<12} {}", format!("{fault:?}"), fault.wanted(), called.join(", "));
    }
    let all = seeds * Fault::ALL.len() as u64;
    println!("{right} of {all} scenes are called rightly, with {incidents} incidents");
    right as f64 / all as f64
}
