//! Where visitors reach a service: its front addresses, whether each of them answers, what names in DNS are to say, and
//! whether what DNS really says leads visitors to a dead address.
//!
//! A front address of this machine is as good as the service. Any other one (another machine, another site) is looked at: out
//! after 3 failed looks of the last 5, back after 5 good ones in a row. Without front addresses, names lead straight to the
//! servers in rotation. Health alone never empties an answer: when all of a family look bad, all of them are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cause::{Cause, Diagnosis};
use crate::effect::{Effect, FrontOrder, LookUpOrder};
use crate::endpoint::Endpoint;
use crate::incident::EntryKind;
use crate::input::{DnsUpdateReport, FrontReport, LookUpFailure, LookUpReport, ProbeFailure};
use crate::out::Out;
use crate::policy::ProbeKind;
use crate::routing::LiveService;
use crate::service::Service;
use crate::snapshot::{DnsSays, FrontAddress, FrontSnapshot, Health, ServiceState};
use crate::time::{Mono, Now, Wall};

/// Looks that are remembered of one front address.
const LOOKS: usize = 5;
/// So many failed ones of them, and it is out.
const FAILED_OUT: usize = 3;
/// An address of this machine is back when the service has answered for so long: slower than it went away.
const OWN_BACK_AFTER: Duration = Duration::from_secs(5);
/// Another site is not looked at oftener than this, nor given less time: it may be far away.
const LOOK_LEAST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));
/// An answer that is later than its deadline by this is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// A service of which nothing is known for so long after it came is taken as it is.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Names are looked up so often while all is well.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);
/// And so often while a front address is out or DNS is wrong.
const LOOK_UP_SOON: Duration = Duration::from_secs(10);
/// A look-up may take so long.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// So many answers in a row that a name leads nowhere, and it does.
const NOWHERE_SURE: u32 = 3;
/// Pieces of evidence that are kept.
const EVIDENCE_MAX: usize = 5;
/// Answers that are remembered of one name: one of the resolver, one of the zone's own server, and room to spare.
const SAYS_MAX: usize = 8;

/// What is known of where visitors reach a service.
#[derive(Debug, Default)]
pub(crate) struct Front {
    addresses: BTreeMap<SocketAddr, Address>,
    names: BTreeMap<String, Name>,
    /// What names are to say; `None` when none of them follows this service.
    pub(crate) live: Option<LiveService>,
    /// Everything was looked at once in this run.
    settled: bool,
}

/// One front address.
#[derive(Debug)]
struct Address {
    own: bool,
    good: bool,
    since: Wall,
    /// The last looks, the newest last; true: it failed.
    failed: Vec<bool>,
    last: String,
    next_at: Option<Mono>,
    in_flight: Option<Mono>,
    /// Since when an address of this machine has served again.
    well_since: Option<Mono>,
}

/// One name that leads visitors here.
#[derive(Debug, Default)]
struct Name {
    next_at: Option<Mono>,
    in_flight: Option<Mono>,
    says: Vec<DnsSays>,
    /// It led somewhere once in this run.
    led: bool,
    /// Answers in a row that it leads nowhere.
    nowhere: u32,
    /// Who still answers which dead address, as the timeline was told.
    stale: BTreeSet<(String, IpAddr)>,
}

impl Front {
    /// A front address of another machine does not answer, or a name leads nowhere: the incident goes on.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.lost().next().is_some() || self.nowhere().next().is_some()
    }

    /// Front addresses of other machines that do not answer.
    pub(crate) fn lost(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().filter(|(_, a)| !a.own && !a.good).map(|(address, _)| *address)
    }

    /// Names that surely lead nowhere.
    pub(crate) fn nowhere(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|(_, n)| n.nowhere >= NOWHERE_SURE).map(|(name, _)| name.as_str())
    }

    /// Everything is within its limits.
    pub(crate) fn is_within_limits(&self) -> bool {
        self.addresses.values().all(|a| a.failed.len() <= LOOKS)
            && self.names.values().all(|n| n.says.len() <= SAYS_MAX)
    }

    /// Each front address with whether it answers.
    pub(crate) fn known(&self) -> impl Iterator<Item = (IpAddr, bool)> {
        self.addresses.iter().map(|(address, known)| (address.ip(), known.good))
    }

    fn due(&self) -> Option<Mono> {
        let looks = self.addresses.values().filter_map(|a| {
            let back = a.well_since.filter(|_| !a.good).map(|since| since + OWN_BACK_AFTER);
            [a.in_flight, a.next_at, back].into_iter().flatten().min()
        });
        let look_ups = self.names.values().filter_map(|n| n.in_flight.or(n.next_at));
        looks.chain(look_ups).min()
    }

    /// Every address of other machines was looked at.
    fn is_looked_at(&self) -> bool {
        self.addresses.values().all(|a| a.own || !a.failed.is_empty())
    }
}

impl Service {
    /// The config may name other front addresses and names now; those that stay keep what is known of them.
    pub(crate) fn apply_front(&mut self, out: &mut Out) {
        let policy = &self.policy.front;
        self.front.addresses.retain(|address, known| policy.addresses.get(address) == Some(&known.own));
        for (address, own) in &policy.addresses {
            self.front.addresses.entry(*address).or_insert_with(|| Address {
                own: *own,
                good: true,
                since: out.now.wall,
                failed: Vec::new(),
                last: String::new(),
                next_at: (!own).then_some(out.now.mono),
                in_flight: None,
                well_since: None,
            });
        }
        let names: BTreeSet<&String> = policy.names.iter().collect();
        self.front.names.retain(|name, _| names.contains(name));
        for name in &policy.names {
            let soon = Duration::from_secs(2).mul_f64(out.rng.unit());
            let known = self.front.names.entry(name.clone()).or_default();
            if known.next_at.is_none() && known.in_flight.is_none() {
                known.next_at = Some(out.now.mono + soon);
            }
        }
    }

    /// Orders the looks that are due, and decides what names are to say.
    pub(crate) fn face(&mut self, out: &mut Out) {
        self.judge_own_front(out);
        self.order_looks(out);
        self.decide_live(out);
        self.order_look_ups(out);
    }

    /// When something about the front is next due.
    pub(crate) fn front_due(&self) -> Option<Mono> {
        let unsettled = self.policy.front.live && !self.front.settled && self.front.is_looked_at();
        let settled = unsettled.then(|| self.known_since + SETTLED_AFTER);
        [self.front.due(), settled].into_iter().flatten().min()
    }

    /// A look at a front address has its answer.
    pub(crate) fn on_front(&mut self, report: &FrontReport, out: &mut Out) {
        let every = self.policy.health.interval.max(LOOK_LEAST.0);
        let Some(known) = self.front.addresses.get_mut(&report.address).filter(|a| !a.own) else { return };
        if known.in_flight.take().is_none() {
            return;
        }
        known.next_at = Some(out.now.mono + every);
        let failure = match &report.result {
            // Mainstay's own want says nothing about the other machine.
            Err(ProbeFailure::NotProbed(_)) => return,
            Err(failure) => {
                out.sight.heard(Some(report.address.ip()), failure.is_nothing_back(), out.now.mono);
                if failure.is_nothing_back() && out.sight.is_doubted(out.now.mono) {
                    return;
                }
                Some(failure.to_string())
            }
            Ok(_) => None,
        };
        known.last = failure.clone().unwrap_or_else(|| format!("answered in {} ms", report.took.as_millis()));
        let first = known.failed.is_empty();
        if known.failed.len() == LOOKS {
            known.failed.remove(0);
        }
        known.failed.push(failure.is_some());
        let failed = known.failed.iter().filter(|failed| **failed).count();
        // Nothing speaks for an address that has failed the first look at it.
        if known.good && failed >= if first { 1 } else { FAILED_OUT } {
            (known.good, known.since) = (false, out.now.wall);
            let looks = if first {
                "the first look at it failed".to_owned()
            } else {
                format!("{failed} of the last {LOOKS} looks failed")
            };
            self.front_lost(report.address, failure.as_deref().unwrap_or("it failed"), &looks, out);
        } else if !known.good && known.failed.len() == LOOKS && failed == 0 {
            (known.good, known.since) = (true, out.now.wall);
            let text =
                format!("front address {} answers again: {LOOKS} good looks in a row", report.address.ip());
            self.tell_of_front(EntryKind::FrontReturned, text, out);
            self.forget_stale(report.address.ip());
        }
    }

    fn front_lost(&mut self, address: SocketAddr, failure: &str, looks: &str, out: &mut Out) {
        let ip = address.ip();
        if self.incident.is_none() && !self.excused {
            let title = format!("front address {ip} of {} does not answer: {failure}", self.id);
            self.open(&title, Vec::new(), out.now.mono, out);
        }
        let text = format!("front address {ip} does not answer: {failure} ({looks})");
        self.tell_of_front(EntryKind::FrontLost, text, out);
        self.look_up_now(out);
    }

    /// What became of front addresses and names in a maintenance window that is over is told now, if it is still so.
    pub(crate) fn front_after_window(&mut self, out: &mut Out) {
        let lost: Vec<SocketAddr> = self.front.lost().collect();
        for address in lost {
            self.front_lost(address, "it failed", "since before the end of the maintenance", out);
        }
        let nowhere: Vec<String> = self.front.nowhere().map(str::to_owned).collect();
        for name in nowhere {
            let text = format!("{name} leads nowhere, and did before the end of the maintenance");
            if self.incident.is_none() {
                self.open(&text, Vec::new(), out.now.mono, out);
            }
            self.tell_of_front(EntryKind::DnsStale, text.clone(), out);
            self.put_down_to_dns(text);
        }
    }

    fn tell_of_front(&mut self, kind: EntryKind, text: String, out: &mut Out) {
        if let Some(open) = &mut self.incident {
            open.entry(kind, None, None, text, out);
        }
    }

    /// An address of this machine is as good as the service.
    fn judge_own_front(&mut self, out: &mut Out) {
        if !self.front.addresses.values().any(|a| a.own) {
            return;
        }
        let answers = self.state(out.now, out) != ServiceState::Down;
        let now = out.now;
        let mut lost = false;
        for known in self.front.addresses.values_mut().filter(|a| a.own) {
            known.last =
                if answers { "the service answers" } else { "the service answers nobody" }.to_owned();
            if !answers {
                lost |= known.good;
                if known.good {
                    (known.good, known.since) = (false, now.wall);
                }
                known.well_since = None;
                continue;
            }
            let since = *known.well_since.get_or_insert(now.mono);
            if !known.good && now.mono >= since + OWN_BACK_AFTER {
                (known.good, known.since) = (true, now.wall);
            }
        }
        if lost {
            self.look_up_now(out);
        }
    }

    fn order_looks(&mut self, out: &mut Out) {
        let now = out.now.mono;
        let timeout = self.policy.health.timeout.max(LOOK_LEAST.1);
        let kind = match &self.policy.health.probe {
            // What listens there may serve other hosts too.
            ProbeKind::Http { path, host } => {
                let host = self
                    .policy
                    .carriage
                    .hosts
                    .iter()
                    .find(|host| !host.starts_with('*'))
                    .or(host.as_ref())
                    .cloned();
                ProbeKind::Http { path: path.clone(), host }
            }
            // What answers there is another Mainstay, whose own probes ask the servers more than that.
            ProbeKind::Tcp
            | ProbeKind::Visit { .. }
            | ProbeKind::Talk
            | ProbeKind::Grpc
            | ProbeKind::Redis
            | ProbeKind::Postgres
            | ProbeKind::Mysql
            | ProbeKind::Smtp
            | ProbeKind::WebSocket
            | ProbeKind::Dns
            | ProbeKind::Certificate
            | ProbeKind::Icmp
            | ProbeKind::Command
            | ProbeKind::Docker
            | ProbeKind::Systemd => ProbeKind::Tcp,
        };
        for (address, known) in self.front.addresses.iter_mut().filter(|(_, a)| !a.own) {
            if known.in_flight.is_some_and(|deadline| now >= deadline) {
                // The answer was lost, which says nothing about the address.
                (known.in_flight, known.next_at) = (None, Some(now));
            }
            if known.in_flight.is_none() && known.next_at.is_none_or(|at| now >= at) {
                (known.in_flight, known.next_at) = (Some(now + timeout + LOST_AFTER), None);
                let (service, address, kind) = (self.id.clone(), *address, kind.clone());
                out.effect(Effect::LookAtFront(FrontOrder { service, address, kind, timeout }));
            }
        }
    }

    /// What names that follow this service are to say.
    fn decide_live(&mut self, out: &Out) {
        let now = out.now;
        if !self.policy.front.live {
            self.front.live = None;
            return;
        }
        self.front.settled |= self.front.is_looked_at()
            && (self.state(now, out) != ServiceState::Unknown
                || now.mono >= self.known_since + SETTLED_AFTER);
        let settled = self.front.settled;
        let known = self.known_addresses();
        let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
        for is_v4 in [true, false] {
            let family = || known.iter().filter(move |(ip, _)| ip.is_ipv4() == is_v4);
            let good: Vec<IpAddr> = family().filter(|(_, good)| **good).map(|(ip, _)| *ip).collect();
            // Never empty because of health.
            match good.is_empty() {
                true => addresses.extend(family().map(|(ip, _)| *ip)),
                false => addresses.extend(good),
            }
        }
        let trouble = known.values().any(|good| !good);
        let before = self.front.live.take();
        if addresses.is_empty()
            && let Some(before) = before
        {
            // Nothing is known any more; what was last known is better than nothing.
            self.front.live = Some(LiveService { trouble: true, settled, ..before });
            return;
        }
        let addresses = addresses.into_iter().collect();
        self.front.live = Some(LiveService { id: self.id.clone(), addresses, trouble, settled });
    }

    /// Every address that visitors may be led to, with whether it is good.
    pub(crate) fn known_addresses(&self) -> BTreeMap<IpAddr, bool> {
        let mut known: BTreeMap<IpAddr, bool> = BTreeMap::new();
        let mut add = |ip: IpAddr, good: bool| *known.entry(ip).or_default() |= good;
        if !self.front.addresses.is_empty() {
            self.front.known().for_each(|(ip, good)| add(ip, good));
            return known;
        }
        let in_rotation = |id| self.routed.targets.iter().any(|target| &target.id == id);
        for (id, server) in &self.servers {
            // Nobody else can be led to a Unix socket.
            let Some(ip) = server.address.as_ref().and_then(Endpoint::ip) else { continue };
            // A spare and one that a person took out are not bad; they are just not to be led to.
            if in_rotation(id) {
                add(ip, true);
            } else if server.is_ready() && server.is_primary() {
                add(ip, false);
            }
        }
        known
    }

    /// Addresses that are surely dead while others are not: DNS must not lead there.
    fn dead_addresses(&self) -> BTreeSet<IpAddr> {
        let known = self.known_addresses();
        if !known.values().any(|good| *good) {
            return BTreeSet::new();
        }
        let sure = |ip: &IpAddr| {
            !self.front.addresses.is_empty()
                || self.servers.values().any(|s| {
                    s.address.as_ref().and_then(Endpoint::ip) == Some(*ip) && s.health == Health::Unhealthy
                })
        };
        known.into_iter().filter(|(ip, good)| !good && sure(ip)).map(|(ip, _)| ip).collect()
    }

    fn order_look_ups(&mut self, out: &mut Out) {
        let now = out.now.mono;
        for (name, known) in &mut self.front.names {
            if known.in_flight.is_some_and(|deadline| now >= deadline) {
                (known.in_flight, known.next_at) = (None, Some(now));
            }
            if known.in_flight.is_none() && known.next_at.is_none_or(|at| now >= at) {
                (known.in_flight, known.next_at) = (Some(now + LOOK_UP_TIMEOUT + LOST_AFTER), None);
                let (service, name) = (self.id.clone(), name.clone());
                out.effect(Effect::LookUp(LookUpOrder { service, name, timeout: LOOK_UP_TIMEOUT }));
            }
        }
    }

    /// Something has just died: what DNS says of it is wanted soon.
    fn look_up_now(&mut self, out: &mut Out) {
        let now = out.now.mono;
        for known in self.front.names.values_mut().filter(|n| n.in_flight.is_none()) {
            known.next_at = Some(now);
        }
    }

    /// DNS was asked.
    pub(crate) fn on_looked_up(&mut self, report: &LookUpReport, out: &mut Out) {
        let dead = self.dead_addresses();
        let trouble = !dead.is_empty() || self.front.is_in_trouble();
        let Some(known) = self.front.names.get_mut(&report.name) else { return };
        if known.in_flight.take().is_none() {
            return;
        }
        let wrong = trouble || !known.stale.is_empty() || known.nowhere > 0;
        known.next_at = Some(out.now.mono + if wrong { LOOK_UP_SOON } else { LOOK_UP_EVERY });
        known.says = says(report, &dead, out.now);
        self.hear_of_dead(report, &dead, out);
        self.hear_of_nowhere(report, out);
    }

    /// Says once that DNS leads to a dead address, and once that it no longer does.
    fn hear_of_dead(&mut self, report: &LookUpReport, dead: &BTreeSet<IpAddr>, out: &mut Out) {
        let Some(known) = self.front.names.get_mut(&report.name) else { return };
        let (mut begun, mut over) = (Vec::new(), Vec::new());
        for answer in report.answers.iter().take(SAYS_MAX) {
            let Ok(addresses) = &answer.result else { continue };
            for (ip, ttl) in addresses.iter().filter(|(ip, _)| dead.contains(ip)) {
                if known.stale.insert((answer.from.clone(), *ip)) {
                    begun.push(format!(
                        "DNS still answers {ip} for {}, TTL {ttl}, from {}",
                        report.name, answer.from
                    ));
                }
            }
            let gone = |(from, ip): &(String, IpAddr)| {
                *from == answer.from && !addresses.iter().any(|(answered, _)| answered == ip)
            };
            let no_longer: Vec<(String, IpAddr)> = known.stale.iter().filter(|s| gone(s)).cloned().collect();
            for stale in no_longer {
                over.push(format!("DNS no longer answers {} for {}, from {}", stale.1, report.name, stale.0));
                known.stale.remove(&stale);
            }
        }
        for text in begun {
            self.tell_of_front(EntryKind::DnsStale, text.clone(), out);
            self.put_down_to_dns(text);
        }
        for text in over {
            self.tell_of_front(EntryKind::DnsGood, text, out);
        }
    }

    /// A name that led somewhere and surely leads nowhere now is an outage for everybody who asks anew.
    fn hear_of_nowhere(&mut self, report: &LookUpReport, out: &mut Out) {
        let Some(known) = self.front.names.get_mut(&report.name) else { return };
        if report.answers.iter().any(|a| matches!(&a.result, Ok(addresses) if !addresses.is_empty())) {
            known.led = true;
            if std::mem::take(&mut known.nowhere) >= NOWHERE_SURE {
                let text = format!("DNS leads somewhere again for {}", report.name);
                self.tell_of_front(EntryKind::DnsGood, text, out);
            }
            return;
        }
        // No answer at all is no evidence.
        let nowhere = report.answers.iter().find_map(|answer| match &answer.result {
            Err(LookUpFailure::NoSuchName) => Some((&answer.from, "there is no such name")),
            Err(LookUpFailure::NoAddress) => Some((&answer.from, "the name has no address")),
            _ => None,
        });
        let Some((from, what)) = nowhere.filter(|_| known.led) else { return };
        known.nowhere = known.nowhere.saturating_add(1);
        known.next_at = Some(out.now.mono + LOOK_UP_SOON);
        if known.nowhere != NOWHERE_SURE {
            return;
        }
        let text = format!("{} leads nowhere: {from} says that {what}", report.name);
        if self.incident.is_none() && !self.excused {
            self.open(&text, Vec::new(), out.now.mono, out);
        }
        self.tell_of_front(EntryKind::DnsStale, text.clone(), out);
        self.put_down_to_dns(text);
    }

    /// DNS is the cause unless a better one is known.
    fn put_down_to_dns(&mut self, evidence: String) {
        let Some(open) = &mut self.incident else { return };
        match &mut open.edit().diagnosis {
            Some(diagnosis) if diagnosis.cause == Cause::Dns => {
                if diagnosis.evidence.len() < EVIDENCE_MAX && !diagnosis.evidence.contains(&evidence) {
                    diagnosis.evidence.push(evidence);
                }
            }
            Some(diagnosis) if diagnosis.cause != Cause::Unknown => {}
            diagnosis => *diagnosis = Some(Diagnosis::sure(Cause::Dns, vec![evidence])),
        }
    }

    /// An address that answers again is no dead one.
    fn forget_stale(&mut self, ip: IpAddr) {
        for known in self.front.names.values_mut() {
            known.stale.retain(|(_, stale)| *stale != ip);
        }
    }

    /// The zone's own server was told of new addresses, or could not be.
    pub(crate) fn on_dns_updated(&mut self, report: &DnsUpdateReport, out: &mut Out) {
        let kind = if report.done { EntryKind::DnsUpdated } else { EntryKind::DnsFailed };
        self.tell_of_front(kind, report.text.clone(), out);
    }

    pub(crate) fn present_front(&self) -> Option<FrontSnapshot> {
        let front = &self.front;
        if front.addresses.is_empty() && front.names.is_empty() && front.live.is_none() {
            return None;
        }
        let addresses = front.addresses.iter().map(|(address, known)| FrontAddress {
            address: *address,
            own: known.own,
            good: known.good,
            since: known.since,
            last: known.last.clone(),
        });
        Some(FrontSnapshot {
            addresses: addresses.collect(),
            live: self.policy.front.live,
            answers: front.live.as_ref().map_or_else(Vec::new, |live| live.addresses.clone()),
            trouble: front.live.as_ref().is_some_and(|live| live.trouble),
            names: self.policy.front.names.clone(),
            dns: front.names.values().flat_map(|known| known.says.iter().cloned()).collect(),
        })
    }
}

fn says(report: &LookUpReport, dead: &BTreeSet<IpAddr>, now: Now) -> Vec<DnsSays> {
    let one = |answer: &crate::input::DnsAnswer| DnsSays {
        name: report.name.clone(),
        from: answer.from.clone(),
        at: now.wall,
        text: match &answer.result {
            Ok(addresses) => {
                let ips: Vec<String> = addresses.iter().map(|(ip, _)| ip.to_string()).collect();
                let ttl = addresses.iter().map(|(_, ttl)| ttl).min().copied().unwrap_or(0);
                format!("{}, TTL {ttl}", ips.join(", "))
            }
            Err(failure) => failure.to_string(),
        },
        stale: matches!(&answer.result, Ok(addresses) if addresses.iter().any(|(ip, _)| dead.contains(ip))),
    };
    report.answers.iter().take(SAYS_MAX).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::IncidentState;
    use crate::input::{DnsAnswer, Input, ProbeAnswer};
    use crate::testing::{Bench, app, policy, shop};

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// A shop with one front address here (.1) and others elsewhere (.2, .3), which all answered once.
    fn bench() -> Bench {
        let mut policy = policy(2, false);
        let service = policy.services.get_mut(&shop()).unwrap();
        service.front.live = true;
        service.front.names = vec!["shop.example.com".to_owned()];
        for n in 1..=3 {
            service.front.addresses.insert(SocketAddr::new(ip(n), 80), n == 1);
        }
        let mut bench = Bench::settled(policy);
        look(&mut bench, 2, true);
        look(&mut bench, 3, true);
        bench
    }

    /// Answers the look that is under way.
    fn look(bench: &mut Bench, n: u8, good: bool) {
        bench.advance(SECOND);
        let result = if good { Ok(ProbeAnswer::default()) } else { Err(ProbeFailure::Refused) };
        let address = SocketAddr::new(ip(n), 80);
        bench.tell(Input::Front(FrontReport { service: shop(), address, took: SECOND / 100, result }));
    }

    fn says(bench: &mut Bench, result: Result<Vec<(IpAddr, u32)>, LookUpFailure>) {
        // Orders that nobody answers are given again; one is under way soon.
        while bench.model.services[&shop()].front.names.values().any(|n| n.in_flight.is_none()) {
            bench.advance(SECOND);
        }
        let answers = vec![DnsAnswer { from: "192.0.2.53".to_owned(), result }];
        let name = "shop.example.com".to_owned();
        bench.tell(Input::LookedUp(LookUpReport { service: shop(), name, answers }));
    }

    fn live(bench: &Bench) -> (Vec<IpAddr>, bool) {
        let live = &bench.model.live.services[0];
        (live.addresses.clone(), live.trouble)
    }

    fn count(bench: &Bench, kind: EntryKind) -> usize {
        bench.kinds().iter().filter(|k| **k == kind).count()
    }

    #[test]
    fn an_address_is_out_after_three_failed_looks_of_five_and_back_after_five_good_ones() {
        let mut bench = bench();
        assert_eq!(live(&bench), (vec![ip(1), ip(2), ip(3)], false));
        for good in [false, true, false] {
            look(&mut bench, 2, good);
        }
        assert_eq!(live(&bench).0.len(), 3, "two of the last five");
        look(&mut bench, 2, false);
        assert_eq!(live(&bench), (vec![ip(1), ip(3)], true));
        assert_eq!(bench.incidents()[0].state, IncidentState::Open);
        for _ in 0..4 {
            look(&mut bench, 2, true);
        }
        assert_eq!(live(&bench).0.len(), 2);
        look(&mut bench, 2, true);
        assert_eq!(live(&bench), (vec![ip(1), ip(2), ip(3)], false));
        bench.advance(SECOND * 30);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn an_address_here_is_as_good_as_the_service_and_comes_back_slowly() {
        let mut bench = bench();
        for n in 1..=2 {
            bench.is_bad(&app(n), ProbeFailure::Refused);
        }
        bench.advance(SECOND * 3);
        assert_eq!(live(&bench), (vec![ip(2), ip(3)], true));
        for n in 1..=2 {
            bench.is_good(&app(n));
        }
        bench.advance(SECOND * 4);
        assert_eq!(live(&bench).0.len(), 2);
        bench.advance(SECOND * 8);
        assert_eq!(live(&bench), (vec![ip(1), ip(2), ip(3)], false));
    }

    #[test]
    fn when_all_look_bad_all_are_answered() {
        let mut bench = bench();
        for n in 1..=2 {
            bench.is_bad(&app(n), ProbeFailure::Refused);
        }
        for _ in 0..3 {
            look(&mut bench, 2, false);
            look(&mut bench, 3, false);
        }
        assert_eq!(live(&bench), (vec![ip(1), ip(2), ip(3)], true));
    }

    #[test]
    fn the_first_look_decides_and_is_waited_for() {
        let mut policy = policy(1, false);
        let service = policy.services.get_mut(&shop()).unwrap();
        service.front.live = true;
        service.front.addresses.insert(SocketAddr::new(ip(2), 80), false);
        service.front.addresses.insert(SocketAddr::new(ip(3), 80), false);
        let mut bench = Bench::settled(policy);
        assert!(!bench.model.live.services[0].settled);
        look(&mut bench, 3, true);
        look(&mut bench, 2, false);
        assert!(bench.model.live.services[0].settled);
        assert_eq!(live(&bench), (vec![ip(3)], true));
    }

    #[test]
    fn what_mainstay_lacks_itself_says_nothing_about_an_address() {
        let mut bench = bench();
        for _ in 0..6 {
            bench.advance(SECOND);
            let result = Err(ProbeFailure::NotProbed("no descriptors".to_owned()));
            let address = SocketAddr::new(ip(2), 80);
            bench.tell(Input::Front(FrontReport { service: shop(), address, took: SECOND, result }));
        }
        assert_eq!(live(&bench).0.len(), 3);
    }

    #[test]
    fn without_front_addresses_names_lead_to_the_servers_in_rotation() {
        let mut policy = policy(2, false);
        policy.services.get_mut(&shop()).unwrap().front.live = true;
        let mut bench = Bench::fresh(policy);
        assert!(live(&bench).0.is_empty(), "nothing is known yet");
        for n in 1..=2u8 {
            let address = Some(SocketAddr::new(ip(n), 80).into());
            bench.tell(Input::Address { server: app(u32::from(n)), address });
        }
        bench.advance(SECOND * 3);
        assert_eq!(live(&bench), (vec![ip(1), ip(2)], false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECOND * 3);
        assert_eq!(live(&bench), (vec![ip(2)], true));
        for n in 1..=2 {
            bench.tell(Input::Address { server: app(n), address: None });
        }
        assert!(!live(&bench).0.is_empty(), "the last known address is better than none");
    }

    #[test]
    fn dns_that_leads_to_a_dead_address_is_told_once_and_once_when_it_is_over() {
        let mut bench = bench();
        says(&mut bench, Ok(vec![(ip(2), 300), (ip(3), 300)]));
        for _ in 0..3 {
            look(&mut bench, 2, false);
        }
        for _ in 0..3 {
            says(&mut bench, Ok(vec![(ip(2), 300), (ip(3), 300)]));
        }
        assert_eq!(count(&bench, EntryKind::DnsStale), 1);
        let text = "DNS still answers 192.0.2.2 for shop.example.com, TTL 300, from 192.0.2.53";
        {
            let incident = &bench.incidents()[0];
            let diagnosis = incident.diagnosis.as_ref().unwrap();
            assert_eq!(diagnosis.cause, Cause::Dns);
            assert_eq!(diagnosis.evidence, [text]);
        }
        says(&mut bench, Err(LookUpFailure::Failed("late".to_owned())));
        assert_eq!(count(&bench, EntryKind::DnsGood), 0, "no answer is no evidence");
        says(&mut bench, Ok(vec![(ip(3), 300)]));
        assert_eq!(count(&bench, EntryKind::DnsGood), 1);
    }

    #[test]
    fn a_name_that_leads_nowhere_is_an_incident_only_if_it_led_somewhere_before() {
        let mut bench = bench();
        for _ in 0..5 {
            says(&mut bench, Err(LookUpFailure::NoSuchName));
        }
        assert!(bench.incidents().is_empty());
        says(&mut bench, Ok(vec![(ip(3), 300)]));
        for _ in 0..2 {
            says(&mut bench, Err(LookUpFailure::NoSuchName));
        }
        assert!(bench.incidents().is_empty());
        says(&mut bench, Err(LookUpFailure::NoSuchName));
        assert!(bench.incidents()[0].title.contains("leads nowhere"));
        assert_eq!(bench.incidents()[0].diagnosis.as_ref().unwrap().cause, Cause::Dns);
        says(&mut bench, Ok(vec![(ip(3), 300)]));
        bench.advance(SECOND * 30);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn a_name_that_leads_nowhere_says_what_to_do_and_troubles_nobody_once_it_has_left_the_config() {
        let mut bench = bench();
        says(&mut bench, Ok(vec![(ip(3), 300)]));
        // Without front addresses the name is to lead to the servers: that DNS has none of them is no less an outage.
        let front = &mut bench.service_policy().front;
        front.addresses.clear();
        bench.tell(Input::Policy(bench.policy.clone()));
        for _ in 0..3 {
            says(&mut bench, Err(LookUpFailure::NoAddress));
        }
        assert_eq!(bench.incidents()[0].state, IncidentState::Open);
        bench.advance(SECOND);
        let advice = &bench.notices()[0].advice;
        assert!(advice.starts_with("Give shop.example.com an address in DNS again"), "{advice}");
        bench.advance(SECOND * 60);
        assert_eq!(bench.incidents()[0].state, IncidentState::Open, "it leads nowhere still");

        bench.service_policy().front.names.clear();
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.advance(SECOND * 30);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }
}
