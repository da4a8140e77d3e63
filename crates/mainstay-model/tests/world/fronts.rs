//! Front addresses of other sites that come and go, and a DNS that is sometimes stale, empty or silent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mainstay_model::effect::{FrontOrder, LookUpOrder};
use mainstay_model::input::{
    DnsAnswer, DnsUpdateReport, FrontReport, LookUpFailure, LookUpReport, ProbeAnswer, ProbeFailure,
};
use mainstay_model::policy::FrontPolicy;
use mainstay_model::routing::LiveTable;
use mainstay_model::{Input, ServiceId};

use super::Dice;

/// What the world knows of fronts and names.
#[derive(Default)]
pub struct Fronts {
    dead: BTreeSet<SocketAddr>,
    /// Names lead nowhere, or nobody answers for them.
    broken: Option<bool>,
    live: LiveTable,
    addresses: BTreeMap<ServiceId, Vec<IpAddr>>,
}

/// Some services have front addresses, some have names that lead straight to their servers, most have neither.
pub fn random_front(dice: &mut Dice, service: u64) -> FrontPolicy {
    let mut front = FrontPolicy::default();
    if dice.chance(50) {
        return front;
    }
    let family = |n: u64| -> IpAddr {
        let (service, n) = (u8::try_from(service).unwrap(), u8::try_from(n).unwrap());
        if n == 2 {
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, u16::from(service), u16::from(n)])
        } else {
            IpAddr::from([192, 0, service, n])
        }
    };
    for n in 0..dice.range(0, 4) {
        front.addresses.insert(SocketAddr::new(family(n), 80), n == 0);
    }
    front.live = dice.chance(70);
    // As in a config: a service to which nothing leads has no names.
    let names = if front.live || !front.addresses.is_empty() { dice.range(0, 3) } else { 0 };
    front.names = (0..names).map(|n| format!("name-{n}.example.com")).collect();
    front
}

impl Fronts {
    pub fn learn(&mut self, service: &ServiceId, front: &FrontPolicy) {
        self.addresses.insert(service.clone(), front.addresses.keys().map(SocketAddr::ip).collect());
    }

    /// A front address dies or comes back, or DNS breaks or is mended.
    pub fn fault(&mut self, dice: &mut Dice, fronts: &[SocketAddr]) {
        match dice.range(0, 5) {
            0 => self.broken = [None, Some(true), Some(false)][dice.range(0, 3) as usize],
            _ if fronts.is_empty() => {}
            _ => {
                let front = fronts[dice.range(0, fronts.len() as u64) as usize];
                if !self.dead.remove(&front) {
                    self.dead.insert(front);
                }
            }
        }
    }

    /// A front address dies.
    pub fn kill(&mut self, front: SocketAddr) {
        self.dead.insert(front);
    }

    /// Names lead nowhere (`true`), nobody answers for them (`false`), or all is well.
    pub fn break_names(&mut self, broken: Option<bool>) {
        self.broken = broken;
    }

    pub fn heal(&mut self) {
        self.dead.clear();
        self.broken = None;
    }

    pub fn publish(&mut self, live: &LiveTable) {
        assert_ne!(self.live, *live, "the same was said twice");
        for service in &live.services {
            let before = self.live.services.iter().find(|s| s.id == service.id);
            let emptied = before.is_some_and(|b| !b.addresses.is_empty()) && service.addresses.is_empty();
            assert!(!emptied, "the names of {} were emptied", service.id);
        }
        self.live = live.clone();
    }

    /// A new run of Mainstay has said nothing yet.
    pub fn forget(&mut self) {
        self.live = LiveTable::default();
    }

    pub fn look_at(&self, order: FrontOrder, dice: &mut Dice) -> (u64, Input) {
        let dead = self.dead.contains(&order.address);
        let ms = if dead && dice.chance(50) { 2000 } else { dice.range(1, 80) };
        let result = match (dead, dice.range(0, 100)) {
            (true, 0) => Err(ProbeFailure::NotProbed("too many open files".to_owned())),
            (true, n) if n < 50 => Err(ProbeFailure::ConnectTimeout),
            (true, _) => Err(ProbeFailure::Refused),
            (false, _) => Ok(ProbeAnswer::status(200)),
        };
        let took = Duration::from_millis(ms);
        (ms, Input::Front(FrontReport { service: order.service, address: order.address, took, result }))
    }

    /// DNS keeps saying every front address, dead or not; without any, what names that follow the service were told.
    pub fn look_up(&self, order: LookUpOrder, dice: &mut Dice) -> (u64, Input) {
        let live = || self.live.services.iter().find(|live| live.id == order.service);
        let all = match self.addresses.get(&order.service) {
            Some(fronts) if !fronts.is_empty() => fronts.clone(),
            _ => live().map(|live| live.addresses.clone()).unwrap_or_default(),
        };
        let result = match self.broken {
            Some(true) => Err(LookUpFailure::NoSuchName),
            Some(false) => Err(LookUpFailure::Failed("timed out".to_owned())),
            None if all.is_empty() => Err(LookUpFailure::NoAddress),
            None => Ok(all.into_iter().map(|ip| (ip, 60)).collect()),
        };
        let answers = vec![DnsAnswer { from: "192.0.2.53".to_owned(), result }];
        let report = LookUpReport { service: order.service, name: order.name, answers };
        (dice.range(1, 3000), Input::LookedUp(report))
    }

    pub fn nonsense(service: ServiceId, dice: &mut Dice) -> Input {
        match dice.range(0, 3) {
            0 => Input::Front(FrontReport {
                service,
                address: SocketAddr::from(([203, 0, 113, 9], 80)),
                took: Duration::ZERO,
                result: Err(ProbeFailure::Refused),
            }),
            1 => Input::LookedUp(LookUpReport { service, name: "nobody".to_owned(), answers: Vec::new() }),
            _ => {
                Input::DnsUpdated(DnsUpdateReport { service, text: "said".to_owned(), done: dice.chance(50) })
            }
        }
    }
}
