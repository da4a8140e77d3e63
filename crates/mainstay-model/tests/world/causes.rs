//! Scenes with one fault each: what the judge makes of it and how soon, the table of confusions, and the times that
//! docs/judgement.md promises.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_model::incident::{Incident, Scope};
use mainstay_model::input::OwnPart;
use mainstay_model::policy::{DeployPolicy, ServicePolicy};
use mainstay_model::{ServerId, ServiceId};

/// A look or a report that is on its way when it happens, and one more until it is told of.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Crash,
    Refuses,
    Hang,
    Slow,
    SlowAlike,
    Errors,
    ErrorShare,
    Gray,
    WrongCheck,
    Certificate,
    Flap,
    HostDies,
    SharedHostDies,
    CutOff,
    OutOfMemory,
    FullDisk,
    Dependency,
    StaleDns,
    NameGone,
    ResolverFails,
    BadRelease,
    Overload,
    Attack,
    ClockJump,
}

impl Fault {
    pub const ALL: [Fault; 24] = [
        Fault::Crash,
        Fault::Refuses,
        Fault::Hang,
        Fault::Slow,
        Fault::SlowAlike,
        Fault::Errors,
        Fault::ErrorShare,
        Fault::Gray,
        Fault::WrongCheck,
        Fault::Certificate,
        Fault::Flap,
        Fault::HostDies,
        Fault::SharedHostDies,
        Fault::CutOff,
        Fault::OutOfMemory,
        Fault::FullDisk,
        Fault::Dependency,
        Fault::StaleDns,
        Fault::NameGone,
        Fault::ResolverFails,
        Fault::BadRelease,
        Fault::Overload,
        Fault::Attack,
        Fault::ClockJump,
    ];

    /// Its name in the table of docs/judgement.md.
    pub fn words(self) -> &'static str {
        match self {
            Fault::Crash => "a supervised process ends",
            Fault::Refuses => "nothing listens",
            Fault::Hang => "a server hangs",
            Fault::Slow => "a server is far slower than its fellows",
            Fault::SlowAlike => "all servers are far slower than they usually are",
            Fault::Errors => "a server answers errors, its probe too",
            Fault::ErrorShare => "a server answers twice as many errors as `failure-share`",
            Fault::Gray => "a server answers errors, its probe does not",
            Fault::WrongCheck => "a check is wrong",
            Fault::Certificate => "a server's certificate is not to be trusted",
            Fault::Flap => "a server goes down and comes back, again and again",
            Fault::HostDies => "a machine is gone",
            Fault::SharedHostDies => "a machine that several services share is gone",
            Fault::CutOff => "Mainstay's own network is gone",
            Fault::OutOfMemory => "the kernel kills a server for want of memory",
            Fault::FullDisk => "a server fails because a disk is full",
            Fault::Dependency => "what a service needs fails",
            Fault::StaleDns => "DNS leads to a dead front address",
            Fault::NameGone => "a name leads nowhere",
            Fault::ResolverFails => "the resolver does not answer",
            Fault::BadRelease => "a release on trial is bad",
            Fault::Overload => "more requests than there is room for",
            Fault::Attack => "a flood from few addresses",
            Fault::ClockJump => "the clock is set",
        }
    }

    /// What it should be called: the cause of its diagnosis, and in brackets what the judge found where that has a name.
    pub fn wanted(self) -> &'static str {
        match self {
            Fault::Crash | Fault::Refuses | Fault::Hang => "crash",
            // Nothing that can be seen from outside points at a cause, and the judge has to say so.
            Fault::Errors => "unknown",
            Fault::Slow => "unknown (slow)",
            Fault::SlowAlike => "unknown (slower than usual)",
            Fault::Gray | Fault::ErrorShare => "unknown (gray)",
            Fault::WrongCheck => "none (wrong check)",
            Fault::Certificate => "certificate",
            Fault::Flap => "crash (flap)",
            Fault::HostDies => "network",
            Fault::SharedHostDies => "network (machine)",
            Fault::CutOff => "network (observer)",
            Fault::OutOfMemory | Fault::FullDisk => "hardware",
            Fault::Dependency => "dependency",
            Fault::StaleDns | Fault::NameGone => "DNS",
            Fault::BadRelease => "bad update",
            Fault::Overload => "overload",
            Fault::Attack => "attack",
            Fault::ResolverFails | Fault::ClockJump => "nothing",
        }
    }

    /// Incidents that are told of by themselves, at most.
    pub fn trees_max(self) -> usize {
        match self {
            Fault::ResolverFails | Fault::ClockJump => 0,
            // The machine's own, and that of the service which fails by it.
            Fault::FullDisk => 2,
            _ => 1,
        }
    }

    /// Within so long it is noticed, by the policy of the service that it happens to.
    pub fn noticed_within(self, service: &ServicePolicy) -> Duration {
        let (health, traffic) = (&service.health, &service.traffic);
        // The beat of a probe varies a little.
        let beat = health.interval.mul_f64(1.1);
        let answered = beat + health.reprobe * health.fall + UNDER_WAY;
        let silent = answered + health.timeout * health.fall;
        let look = health.interval.max(Duration::from_secs(1));
        match self {
            Fault::Crash | Fault::OutOfMemory => UNDER_WAY,
            Fault::Refuses | Fault::Errors | Fault::Certificate | Fault::Flap | Fault::FullDisk => answered,
            Fault::Dependency => answered,
            Fault::Hang => silent,
            // The look around takes a second.
            Fault::HostDies | Fault::SharedHostDies | Fault::CutOff => silent + Duration::from_secs(1),
            // Requests are waited for before an answering server is condemned by its probe.
            Fault::WrongCheck => answered + Duration::from_secs(5),
            // Two whole minutes.
            Fault::SlowAlike => Duration::from_secs(3 * 60) + UNDER_WAY,
            Fault::Slow | Fault::Gray => traffic.window + UNDER_WAY,
            // By chance one window may show fewer of them.
            Fault::ErrorShare => traffic.window * 2 + UNDER_WAY,
            // Three failed looks of at least two seconds, and one that Mainstay could not take; then DNS is asked.
            Fault::StaleDns => (look + health.timeout.max(Duration::from_secs(2))) * 4 + UNDER_WAY,
            // Once a minute, then three times ten seconds apart, with five seconds for each answer.
            Fault::NameGone => Duration::from_secs(60 + 2 * 10 + 3 * 5) + UNDER_WAY,
            Fault::BadRelease => {
                let trial = service.deploy.as_ref().map_or(DeployPolicy::default().min_time, |d| d.min_time);
                service.recovery.start_grace + trial
            }
            // Three seconds of four.
            Fault::Overload | Fault::Attack => Duration::from_secs(4) + UNDER_WAY,
            Fault::ResolverFails | Fault::ClockJump => Duration::ZERO,
        }
    }

    /// The incident is about what the fault was done to.
    fn is_hit(self, incident: &Incident, shop: &ServiceId, victim: &ServerId) -> bool {
        let of_shop = incident.scope == Scope::Service(shop.clone());
        match self {
            Fault::CutOff => incident.scope == Scope::Own(OwnPart::Sight),
            Fault::SharedHostDies => {
                matches!(incident.scope, Scope::Address(_)) && incident.affected.len() == 3
            }
            Fault::WrongCheck => {
                incident.scope == Scope::Check(shop.clone()) && incident.servers.contains(victim)
            }
            Fault::Overload | Fault::Attack | Fault::BadRelease | Fault::StaleDns | Fault::NameGone => {
                of_shop
            }
            Fault::Dependency => of_shop && incident.part_of.is_some(),
            _ => of_shop && incident.servers.contains(victim),
        }
    }
}

/// What became of a scene.
pub struct Lived {
    /// What the judge called the fault.
    pub called: String,
    /// Incidents that were told of by themselves.
    pub trees: usize,
    /// From the fault to its incident.
    pub after: Option<Duration>,
    /// The time that is promised.
    pub within: Duration,
}

impl Lived {
    /// By the incidents that there are, oldest first, and when the fault began on the wall clock.
    pub fn of(
        fault: Fault,
        incidents: &[&Incident],
        (shop, victim): (&ServiceId, &ServerId),
        began_ms: i64,
        within: Duration,
    ) -> Self {
        let trees = incidents.iter().filter(|incident| incident.part_of.is_none()).count();
        let hit = incidents.iter().find(|incident| fault.is_hit(incident, shop, victim));
        let mut called = match (hit, incidents.first()) {
            (Some(hit), _) => word_of(hit),
            (None, Some(other)) => format!("{} of {}", word_of(other), other.scope),
            (None, None) => "nothing".to_owned(),
        };
        if trees > fault.trees_max() {
            called = format!("{called} in {trees} incidents");
        }
        let ms = |hit: &&Incident| u64::try_from(hit.opened_at.0 - began_ms).unwrap_or(0);
        Self { called, trees, after: hit.map(ms).map(Duration::from_millis), within }
    }
}

/// What an incident is put down to, and what it was found to be.
fn word_of(incident: &Incident) -> String {
    let cause = incident.diagnosis.as_ref().map_or("none", |diagnosis| diagnosis.cause.as_str());
    let title = &incident.title;
    let found = match &incident.scope {
        Scope::Own(OwnPart::Sight) => "observer",
        Scope::Check(_) => "wrong check",
        Scope::Address(_) => "machine",
        _ if title.contains(" flaps: ") => "flap",
        _ if title.contains(" is gray: ") => "gray",
        _ if title.contains("more slowly than its fellows") => "slow",
        _ if title.contains("slower than it usually is") => "slower than usual",
        _ => return cause.to_owned(),
    };
    format!("{cause} ({found})")
}

/// The table of `(fault, called)`, printed; returns the share of scenes that were called rightly.
///
/// # Panics
/// When a fault was noticed later than is promised, or not at all.
pub fn confusions(seeds: u64) -> f64 {
    let mut table: BTreeMap<Fault, BTreeMap<String, u64>> = BTreeMap::new();
    let mut slowest: BTreeMap<Fault, (Duration, Duration)> = BTreeMap::new();
    let (mut right, mut trees) = (0, 0);
    for seed in 0..seeds {
        for fault in Fault::ALL {
            let lived = super::scenes::live_through(fault, seed);
            right += u64::from(lived.called == fault.wanted());
            trees += lived.trees;
            let missed = lived.called == "nothing" && fault.wanted() != "nothing";
            assert!(!missed, "{fault:?} of seed {seed} was missed");
            *table.entry(fault).or_default().entry(lived.called).or_default() += 1;
            let Some(after) = lived.after else { continue };
            assert!(
                after <= lived.within,
                "{fault:?} of seed {seed}: noticed after {after:?}, not {:?}",
                lived.within
            );
            let worst = slowest.entry(fault).or_default();
            if after >= worst.0 {
                *worst = (after, lived.within);
            }
        }
    }
    println!("{:<14} {:<19} {:<18} called", "fault", "wanted", "noticed within, s");
    for (fault, called) in &table {
        let called: Vec<String> = called.iter().map(|(word, n)| format!("{word} {n}")).collect();
        let noticed = slowest.get(fault).map_or_else(String::new, |(after, within)| {
            format!("{:.1} of {:.1}", after.as_secs_f64(), within.as_secs_f64())
        });
        let fault_word = format!("{fault:?}");
        println!("{fault_word:<14} {:<19} {noticed:<18} {}", fault.wanted(), called.join(", "));
    }
    let all = seeds * Fault::ALL.len() as u64;
    println!("{right} of {all} scenes are called rightly, with {trees} incidents");
    right as f64 / all as f64
}
