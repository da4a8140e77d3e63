//! Whether a service has more requests than it can answer, and whether few addresses make most of them.
//!
//! Each second of traffic is looked at by itself. It *hurts* when requests were turned away: shed (503) for want of room,
//! at least one in a hundred, or limited (429), at least five and one in ten. It *strains* when every server that has
//! requests answers them late or not at all while there are clearly more requests than usual, or requests wait for
//! room, or the machine that runs the servers has nothing left to give. Three such seconds of the last four are a
//! *strain*; five without one end it.
//!
//! A strain is an **attack** when at most three networks make at least half of the requests, and what the others ask
//! for would fit. Otherwise it is an **overload**, unless a server of the service was already failing on its own account
//! when it began: then there is too little capacity, not too much traffic, and the failing server is the cause.
//!
//! What is *usual* is a slow mean over seconds without a strain and without an incident. Until it is known, nothing is
//! more than usual.
//!
//! While an overload or an attack lasts no server that hangs is restarted and none is taken out for being slow, as long
//! as anybody is answered at all: it is capacity. When nobody has been answered for ten seconds, there is none left to
//! lose; and a server that got no request for half a minute and still hangs does so on its own account.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::histogram::Histogram;
use crate::input::{ServiceTraffic, SourceTraffic, TrafficReport};
use crate::server::Server;
use crate::service::Service;
use crate::time::Mono;
use crate::words::{count, ms, percent, times};

/// Whole seconds that are looked back over.
const SECONDS: usize = 10;
/// So many of the last [`STRAINED_OF`] seconds make a strain.
const STRAINED_MIN: usize = 3;
/// See [`STRAINED_MIN`].
const STRAINED_OF: u64 = 4;
/// A strain is over after so long without another such second.
const STRAIN_LINGERS: Duration = Duration::from_secs(5);
/// Shed requests that hurt: at least one in so many.
const SHED_ONE_IN: u64 = 100;
/// Limited requests that hurt, at least so many a second and one in [`LIMITED_ONE_IN`].
const LIMITED_MIN: u64 = 5;
/// See [`LIMITED_MIN`].
const LIMITED_ONE_IN: u64 = 10;
/// More than usual: so many times as many requests, and at least [`MORE_MIN`] more a second.
const MORE_TIMES: f64 = 1.3;
/// See [`MORE_TIMES`].
const MORE_MIN: f64 = 5.0;
/// Slower than usual: so many times as long, and at least [`SLOWER_MIN_MS`] longer.
const SLOWER_TIMES: f64 = 3.0;
/// See [`SLOWER_TIMES`].
const SLOWER_MIN_MS: f64 = 20.0;
/// A server that leaves one attempt in so many without an answer is slow, whatever the others take.
const UNANSWERED_ONE_IN: u64 = 10;
/// Networks that may make an attack; more are a crowd.
const FEW: usize = 3;
/// The share of requests that so few must make.
const FEW_SHARE: f64 = 0.5;
/// What is usual is known after so many seconds of traffic.
const USUAL_AFTER: u32 = 20;
/// A second counts so much for what is usual: half of it is forgotten in about 80 seconds of traffic.
const USUAL_WEIGHT: f64 = 1.0 / 120.0;
/// Nobody was answered for so long: there is no capacity left to lose.
const COLLAPSED_AFTER: Duration = Duration::from_secs(10);
/// A strain begins only while somebody is answered: in so much of the last time.
const GOOD_LATELY: Duration = Duration::from_millis(1500);
/// A server that got no request for so long and still hangs does so on its own account.
const IDLE: Duration = Duration::from_secs(30);
/// Networks that are remembered of one second.
const NETWORKS_MAX: usize = 2 * TrafficReport::SOURCES_MAX;

/// What sort of strain it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strain {
    /// More honest traffic than there is capacity for.
    Overload,
    /// Most requests come from few networks.
    Attack,
    /// Requests are turned away because servers fail.
    LostCapacity,
}

/// The traffic of one service, second by second.
#[derive(Debug, Default)]
pub(crate) struct Load {
    seconds: VecDeque<Second>,
    usual: Usual,
    strain: Option<Established>,
    last_strained: Mono,
    /// When a request was last well answered.
    last_good: Mono,
    /// The present second looks like an overload, for decisions that do not wait for three of them.
    looks_strained: bool,
}

/// A strain that has lasted for some seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Established {
    pub(crate) strain: Strain,
    /// When its first second began.
    pub(crate) since: Mono,
    /// Requests are or were turned away.
    pub(crate) hurts: bool,
}

#[derive(Debug, Clone, Default)]
struct Second {
    index: u64,
    reports: u32,
    requests: u64,
    good: u64,
    shed: u64,
    limited: u64,
    /// Requests that waited for room at the end of each report: the fewest, and the last.
    queued: (u64, u64),
    in_flight: u64,
    latency: Histogram,
    networks: BTreeMap<String, (u64, u64)>,
    /// Every server was slow, and there was a reason outside of them.
    alike: bool,
}

impl Second {
    fn hurts(&self) -> bool {
        let shed = self.shed > 0 && self.shed * SHED_ONE_IN >= self.requests;
        let limited = self.limited >= LIMITED_MIN && self.limited * LIMITED_ONE_IN >= self.requests;
        shed || limited
    }

    fn strains(&self) -> bool {
        self.hurts() || self.alike
    }
}

/// What a second is like when all is well.
#[derive(Debug, Default)]
struct Usual {
    seconds: u32,
    per_second: f64,
    p50_ms: f64,
}

impl Usual {
    fn is_known(&self) -> bool {
        self.seconds >= USUAL_AFTER
    }

    fn learn(&mut self, second: &Second) {
        let Some(p50) = second.latency.quantile(0.5) else { return };
        self.seconds = self.seconds.saturating_add(1);
        let weight = (1.0 / f64::from(self.seconds)).max(USUAL_WEIGHT);
        self.per_second += (second.requests as f64 - self.per_second) * weight;
        self.p50_ms += (p50.as_secs_f64() * 1000.0 - self.p50_ms) * weight;
    }
}

/// Sums over the last seconds that are whole.
struct Recent {
    seconds: f64,
    requests: f64,
    shed: f64,
    limited: f64,
    queued: u64,
    latency: Histogram,
    /// Requests that would surely be answered: as many as are, or usually come.
    fits: f64,
    /// The busiest first: the network, and its requests.
    networks: Vec<(String, u64)>,
}

impl Load {
    /// A report of the data plane's. `calm`: nothing is wrong, so that this is what is usual.
    pub(crate) fn report(
        &mut self,
        report: &ServiceTraffic,
        sources: &[&SourceTraffic],
        calm: bool,
        now: Mono,
    ) {
        let index = now.0 / 1_000_000_000;
        if self.seconds.back().is_none_or(|second| second.index < index) {
            if let Some(whole) = self.seconds.back().filter(|second| calm && !second.strains())
                && self.strain.is_none()
            {
                self.usual.learn(whole);
            }
            if self.seconds.len() == SECONDS {
                self.seconds.pop_front();
            }
            let queued = (report.queued, report.queued);
            self.seconds.push_back(Second { index, queued, ..Second::default() });
        }
        let Some(second) = self.seconds.back_mut() else { return };
        let turned_away = report.shed + report.limited;
        let bad = report.failed + report.server_errors + report.abandoned + turned_away;
        let good = report.requests.saturating_sub(bad);
        second.reports += 1;
        second.requests += report.requests;
        second.good += good;
        second.shed += report.shed;
        second.limited += report.limited;
        second.queued = (second.queued.0.min(report.queued), report.queued);
        second.in_flight = report.in_flight;
        second.latency.merge(&report.latency);
        for source in sources {
            if second.networks.len() < NETWORKS_MAX || second.networks.contains_key(&source.network) {
                let counts = second.networks.entry(source.network.clone()).or_default();
                *counts = (counts.0 + source.requests, counts.1 + source.limited);
            }
        }
        if good > 0 {
            self.last_good = now;
        }
    }

    /// The strain, if there is one.
    pub(crate) fn strain(&self) -> Option<Established> {
        self.strain
    }

    /// A report since then showed a strain.
    pub(crate) fn strains_since(&self, since: Mono) -> bool {
        self.last_strained >= since
    }

    /// Visitors are being turned away, or the present second looks like it.
    pub(crate) fn is_strained(&self) -> bool {
        self.strain.is_some()
    }

    /// There is more to do than can be done, so that what still answers is kept: no restart of a hanging server, and
    /// none taken out for being slow.
    pub(crate) fn needs_every_server(&self, now: Mono) -> bool {
        let too_much =
            matches!(self.strain, Some(Established { strain: Strain::Overload | Strain::Attack, .. }));
        too_much && now < self.last_good + COLLAPSED_AFTER
    }

    /// As [`Load::needs_every_server`], by the first second that looks like it.
    pub(crate) fn may_need_every_server(&self, now: Mono) -> bool {
        self.looks_strained || self.needs_every_server(now)
    }

    /// When the strain may be over, or nobody is answered any more.
    pub(crate) fn due(&self, now: Mono) -> Option<Mono> {
        self.strain?;
        let over = self.last_strained + STRAIN_LINGERS;
        let collapsed = Some(self.last_good + COLLAPSED_AFTER).filter(|at| *at > now);
        collapsed.into_iter().chain([over]).min()
    }

    fn end_if_over(&mut self, now: Mono) -> bool {
        if self.strain.is_some() && now >= self.last_strained + STRAIN_LINGERS {
            self.strain = None;
            return true;
        }
        false
    }

    /// The last seconds; of a strain only those that show it.
    fn recent(&self, now: Mono) -> Recent {
        let index = now.0 / 1_000_000_000;
        let lately = |s: &&Second| s.index < index && s.index + STRAINED_OF >= index;
        let whole: Vec<&Second> = self.seconds.iter().filter(lately).collect();
        let strained: Vec<&Second> = whole.iter().copied().filter(|second| second.strains()).collect();
        let seconds: Vec<&Second> = match (strained.is_empty(), whole.is_empty()) {
            (false, _) => strained,
            (true, false) => whole,
            // The present second is not whole yet, and counts only where there is no other.
            (true, true) => self.seconds.back().into_iter().collect(),
        };
        let sum = |figure: fn(&Second) -> u64| seconds.iter().map(|s| figure(s)).sum::<u64>() as f64;
        let mut networks: BTreeMap<&str, u64> = BTreeMap::new();
        let mut latency = Histogram::new();
        for second in &seconds {
            latency.merge(&second.latency);
            for (network, (requests, _)) in &second.networks {
                *networks.entry(network).or_default() += requests;
            }
        }
        let mut networks: Vec<(String, u64)> = networks.into_iter().map(|(n, r)| (n.to_owned(), r)).collect();
        networks.sort_by_key(|(_, requests)| std::cmp::Reverse(*requests));
        let usual = if self.usual.is_known() { self.usual.per_second } else { 0.0 };
        Recent {
            fits: sum(|s| s.good).max(usual * seconds.len() as f64),
            seconds: seconds.len().max(1) as f64,
            requests: sum(|s| s.requests),
            shed: sum(|s| s.shed),
            limited: sum(|s| s.limited),
            queued: seconds.last().map_or(0, |s| s.queued.1),
            latency,
            networks,
        }
    }

    /// Clearly more requests than usual in the last seconds.
    fn more_than_usual(&self, now: Mono) -> bool {
        let recent = self.recent(now);
        let per_second = recent.requests / recent.seconds;
        let usual = self.usual.per_second;
        self.usual.is_known() && per_second >= usual * MORE_TIMES && per_second >= usual + MORE_MIN
    }

    fn waits_for_room(&self) -> bool {
        self.seconds.back().is_some_and(|second| second.queued.0 > 0)
    }

    /// How an incident is called that a strain opens.
    pub(crate) fn title(&self, service: &Service, now: Mono) -> String {
        let recent = self.recent(now);
        let per_second = |n: f64| (n / recent.seconds).round() as u64;
        let all = count(per_second(recent.requests), "request");
        let id = &service.id;
        match self.strain.map(|e| e.strain) {
            Some(Strain::Attack) if !few_of(&recent).is_empty() => {
                let few = few_of(&recent);
                let share = few.iter().map(|(_, n)| *n as f64).sum::<f64>() / recent.requests.max(1.0);
                let who = match few {
                    [(network, _)] => format!("{network} makes"),
                    _ => format!("{} addresses make", few.len()),
                };
                format!("{id} is under attack: {who} {} of {all} a second", percent(round(share)))
            }
            strain => {
                let away = per_second(recent.shed + recent.limited).max(1);
                let what = match strain {
                    Some(Strain::Attack) => "is under attack",
                    Some(Strain::LostCapacity) => "has too little capacity left",
                    _ => "is overloaded",
                };
                format!("{id} {what}: {away} of {all} a second are turned away")
            }
        }
    }

    /// What speaks for the strain, the strongest first.
    pub(crate) fn evidence(&self, saturated: Option<&str>, now: Mono) -> Vec<String> {
        let recent = self.recent(now);
        let per_second = |n: f64| (n / recent.seconds).round() as u64;
        let mut evidence = Vec::new();
        let attack = matches!(self.strain, Some(Established { strain: Strain::Attack, .. }));
        if attack && !few_of(&recent).is_empty() {
            for (network, requests) in few_of(&recent) {
                let share = *requests as f64 / recent.requests.max(1.0);
                evidence.push(format!(
                    "{network} makes {} of all requests: {} of {} a second",
                    percent(round(share)),
                    per_second(*requests as f64),
                    per_second(recent.requests)
                ));
            }
            let others = recent.requests - few_of(&recent).iter().map(|(_, n)| *n as f64).sum::<f64>();
            evidence.push(format!(
                "all others make {} a second, which would fit",
                count(per_second(others), "request")
            ));
        }
        if recent.shed >= 1.0 {
            evidence.push(format!(
                "{} of {} a second are turned away because there is no room for them",
                per_second(recent.shed).max(1),
                count(per_second(recent.requests), "request")
            ));
        }
        if recent.limited >= 1.0 {
            let n = count(per_second(recent.limited).max(1), "request");
            evidence.push(format!("{n} a second are refused because their addresses ask too often"));
        }
        if recent.queued > 0 {
            evidence.push(format!(
                "{} for room",
                if recent.queued == 1 {
                    "1 request waits".to_owned()
                } else {
                    format!("{} requests wait", recent.queued)
                }
            ));
        }
        if self.more_than_usual(now) {
            let (now, usual) = (recent.requests / recent.seconds, self.usual.per_second);
            evidence.push(format!(
                "{} a second, {} as many as usual ({usual:.0})",
                count(now.round() as u64, "request"),
                times(now / usual.max(0.1))
            ));
        }
        if let Some(p50) = recent.latency.quantile(0.5).map(|d| d.as_secs_f64() * 1000.0)
            && self.is_slow(p50)
        {
            evidence.push(format!(
                "half of all answers take longer than {}, usually {}",
                ms(p50),
                ms(self.usual.p50_ms)
            ));
        }
        evidence.extend(saturated.map(str::to_owned));
        evidence
    }

    fn is_slow(&self, p50_ms: f64) -> bool {
        let usual = self.usual.p50_ms;
        self.usual.is_known() && p50_ms >= usual * SLOWER_TIMES && p50_ms >= usual + SLOWER_MIN_MS
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.seconds.len() <= SECONDS && self.seconds.iter().all(|s| s.networks.len() <= NETWORKS_MAX)
    }
}

/// The fewest networks, three at most, that make half of the requests and without which the rest would fit; none when
/// that takes more.
fn few_of(recent: &Recent) -> &[(String, u64)] {
    let mut sum = 0.0;
    for (place, (_, requests)) in recent.networks.iter().take(FEW).enumerate() {
        sum += *requests as f64;
        if sum >= recent.requests * FEW_SHARE && recent.requests - sum <= recent.fits {
            return &recent.networks[..=place];
        }
    }
    &[]
}

/// Requests are turned away, and few networks are the reason.
fn is_attack(recent: &Recent) -> bool {
    recent.shed + recent.limited >= 1.0 && !few_of(recent).is_empty()
}

fn round(share: f64) -> f64 {
    (share.min(1.0) * 100.0).round() / 100.0
}

impl Service {
    /// Takes a report in and decides whether the service is strained.
    pub(crate) fn weigh_load(
        &mut self,
        report: &ServiceTraffic,
        sources: &[&SourceTraffic],
        saturated: bool,
        now: Mono,
    ) {
        let calm = self.incident.is_none() && self.servers.values().all(|s| !s.at_fault);
        self.load.report(report, sources, calm, now);
        let alike = self.all_are_slow(saturated, now);
        if let Some(second) = self.load.seconds.back_mut() {
            second.alike |= alike;
        }
        let strained = self.load.seconds.back().is_some_and(Second::strains);
        self.load.looks_strained = alike;
        if strained {
            self.load.last_strained = now;
        }
        self.establish(now);
    }

    /// Whether a strain began, became something else, or is over.
    fn establish(&mut self, now: Mono) {
        self.load.end_if_over(now);
        let index = now.0 / 1_000_000_000;
        let lately = self.load.seconds.iter().filter(|s| s.index + STRAINED_OF > index && s.strains());
        let (strained, hurting) = (lately.clone().count(), lately.clone().filter(|s| s.hurts()).count());
        let since = lately.map(|s| s.index).min();
        let hurts = hurting >= STRAINED_MIN;
        if let Some(established) = self.load.strain {
            let recent = self.load.recent(now);
            let is_attack = is_attack(&recent);
            let failing = self.fails_on_its_own(now);
            let strain = match established.strain {
                _ if is_attack => Strain::Attack,
                // The servers are back and it goes on: it was too much all along.
                Strain::LostCapacity if !failing && strained >= STRAINED_MIN => Strain::Overload,
                other => other,
            };
            self.load.strain = Some(Established { strain, hurts: established.hurts || hurts, ..established });
            return;
        }
        if strained < STRAINED_MIN {
            return;
        }
        let recent = self.load.recent(now);
        // Without anybody who is answered it is an outage.
        if now >= self.load.last_good + GOOD_LATELY && recent.limited < 1.0 {
            return;
        }
        let strain = if is_attack(&recent) {
            Strain::Attack
        } else if self.fails_on_its_own(now) {
            Strain::LostCapacity
        } else {
            Strain::Overload
        };
        let since = Mono(since.unwrap_or(index).saturating_mul(1_000_000_000));
        self.load.strain = Some(Established { strain, since, hurts });
    }

    /// The strain that lasted its time is over.
    pub(crate) fn end_strain(&mut self, now: Mono) {
        if self.load.end_if_over(now) {
            self.load.looks_strained = false;
        }
        // A second that nobody reported on any more says nothing about the present one.
        if self.load.seconds.back().is_none_or(|s| s.index + 2 < now.0 / 1_000_000_000) {
            self.load.looks_strained = false;
        }
    }

    /// A server is dead, or fails while a fellow answers at its usual pace: that is not the load's doing.
    fn fails_on_its_own(&self, now: Mono) -> bool {
        let mut ready = self.servers.values().filter(|s| s.is_ready());
        let dead = ready.clone().any(Server::is_surely_dead);
        let sound = || self.servers.values().any(|s| !s.at_fault && s.eligible && !self.is_slow(s, now));
        dead || (ready.any(|s| s.at_fault) && sound())
    }

    /// Every server that has requests is slow, and there is a reason outside of them.
    fn all_are_slow(&self, saturated: bool, now: Mono) -> bool {
        let reason = || {
            self.load.more_than_usual(now)
                || self.load.waits_for_room()
                || self.load.seconds.back().is_some_and(Second::hurts)
                || saturated
        };
        let mut busy = self.servers.values().filter(|s| s.traffic.attempts_lately(now) > 0).peekable();
        busy.peek().is_some() && busy.all(|s| self.is_slow(s, now)) && reason()
    }

    fn is_slow(&self, server: &Server, now: Mono) -> bool {
        let (attempts, unanswered, p50_ms) = server.traffic.pace(now);
        (unanswered > 0 && unanswered * UNANSWERED_ONE_IN >= attempts)
            || p50_ms.is_some_and(|p50| self.load.is_slow(p50))
    }

    /// The strain for which a server that hangs is not restarted; `None`: it may be.
    pub(crate) fn withholds_restart(&self, server: &Server, now: Mono) -> Option<Strain> {
        if !self.load.needs_every_server(now) || now >= server.traffic.last_attempt + IDLE {
            return None;
        }
        self.load.strain.map(|established| established.strain)
    }

    /// When a restart that is withheld now may be allowed though the strain lasts.
    pub(crate) fn withheld_until(&self, server: &Server, now: Mono) -> Option<Mono> {
        let until = server.traffic.last_attempt + IDLE;
        (self.load.is_strained() && until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::effect::ActionKind;
    use crate::incident::{EntryKind, IncidentState, Severity};
    use crate::input::{FailureKind, Input, ProbeFailure, ServerTraffic};
    use crate::snapshot::Health;
    use crate::testing::{Bench, app, policy, shop};
    use crate::time::Wall;
    use crate::window::{Covers, HandWindow, Occurrence, WindowPolicy};

    /// One second of the shop's traffic, in four reports.
    #[derive(Clone, Default)]
    struct Flow {
        requests: u64,
        shed: u64,
        limited: u64,
        queued: u64,
        /// Of every server.
        p50: u64,
        /// Attempts of every server that are not answered in time.
        late: u64,
        sources: Vec<(&'static str, u64)>,
    }

    fn calm() -> Flow {
        Flow { requests: 100, p50: 10, ..Flow::default() }
    }

    fn flow(bench: &mut Bench, servers: &[u32], flow: &Flow, seconds: u64) {
        for _ in 0..seconds * 4 {
            let mut latency = Histogram::new();
            let turned_away = flow.shed + flow.limited;
            (0..(flow.requests - turned_away) / 4)
                .for_each(|_| latency.record(Duration::from_millis(flow.p50)));
            let service = ServiceTraffic {
                requests: flow.requests / 4,
                shed: flow.shed / 4,
                limited: flow.limited / 4,
                queued: flow.queued,
                latency: latency.clone(),
                ..ServiceTraffic::default()
            };
            let server = ServerTraffic {
                ok: (flow.requests - turned_away) / 4 / servers.len() as u64,
                failures: [(FailureKind::Timeout, flow.late)].into(),
                failures_in_a_row: flow.late,
                latency,
                ..ServerTraffic::default()
            };
            let source = |(network, requests): &(&str, u64)| SourceTraffic {
                service: shop(),
                network: (*network).to_owned(),
                requests: requests / 4,
                limited: 0,
            };
            bench.tell(Input::Traffic(TrafficReport {
                servers: servers.iter().map(|n| (app(*n), server.clone())).collect(),
                services: [(shop(), service)].into(),
                sources: flow.sources.iter().map(source).collect(),
                ..TrafficReport::default()
            }));
            bench.advance(Duration::from_millis(250));
        }
    }

    fn usual(servers: u32, supervised: bool) -> (Bench, Vec<u32>) {
        let mut bench = Bench::settled(policy(servers, supervised));
        let all: Vec<u32> = (1..=servers).collect();
        flow(&mut bench, &all, &calm(), 25);
        bench.effects.clear();
        (bench, all)
    }

    fn restarts(bench: &Bench) -> usize {
        bench.orders().iter().filter(|(_, order)| order.kind == ActionKind::Restart).count()
    }

    fn cause(bench: &Bench) -> Option<Cause> {
        bench.incidents().first()?.diagnosis.as_ref().map(|diagnosis| diagnosis.cause)
    }

    #[test]
    fn requests_turned_away_for_some_seconds_are_an_incident_though_no_server_failed() {
        let (mut bench, all) = usual(2, false);
        let away = Flow { requests: 900, shed: 120, queued: 35, p50: 10, ..Flow::default() };
        flow(&mut bench, &all, &away, 2);
        assert!(bench.incidents().is_empty(), "two seconds are no incident");
        flow(&mut bench, &all, &away, 2);
        let incident = &bench.incidents()[0];
        assert_eq!(incident.title, "shop is overloaded: 120 of 900 requests a second are turned away");
        assert_eq!((incident.severity, cause(&bench)), (Severity::Partial, Some(Cause::Overload)));
        let evidence = &incident.diagnosis.as_ref().unwrap().evidence;
        assert!(evidence.iter().any(|e| e == "35 requests wait for room"), "{evidence:?}");
        assert!(evidence.iter().any(|e| e.ends_with("times as many as usual (100)")), "{evidence:?}");
        assert!(incident.servers.is_empty());
        assert!(incident.opened_at.ms_since(incident.began_at) >= 2000);
        flow(&mut bench, &all, &calm(), 4);
        assert_eq!(bench.incidents()[0].state, IncidentState::Open);
        flow(&mut bench, &all, &calm(), 14);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
        assert_eq!(bench.incidents().len(), 1);
    }

    #[test]
    fn a_few_that_are_turned_away_are_no_incident() {
        let (mut bench, all) = usual(2, false);
        flow(&mut bench, &all, &Flow { requests: 2000, shed: 8, p50: 10, ..Flow::default() }, 10);
        flow(&mut bench, &all, &Flow { requests: 100, limited: 4, p50: 10, ..Flow::default() }, 10);
        assert!(bench.incidents().is_empty());
    }

    /// Everything is in maintenance for so many seconds; returns when that is over.
    fn open_window(bench: &mut Bench, seconds: i64) -> Wall {
        let covers = Covers { everything: true, ..Covers::default() };
        let policy = WindowPolicy { covers, ..WindowPolicy::default() };
        let from = bench.now.wall;
        let when = Occurrence { from, to: Wall(from.0 + seconds * 1000) };
        bench.tell(Input::OpenWindow(HandWindow { policy, when, by: "ada".to_owned() }));
        when.to
    }

    #[test]
    fn a_flood_that_ends_with_a_maintenance_window_is_forgotten() {
        let (mut bench, all) = usual(2, false);
        open_window(&mut bench, 30);
        flow(&mut bench, &all, &Flow { requests: 400, shed: 200, p50: 10, ..Flow::default() }, 29);
        flow(&mut bench, &all, &calm(), 20);
        assert!(bench.incidents().is_empty());
    }

    #[test]
    fn a_flood_that_outlasts_a_maintenance_window_counts_from_its_end() {
        let (mut bench, all) = usual(2, false);
        let over = open_window(&mut bench, 30);
        let flood = Flow { requests: 400, shed: 200, p50: 10, ..Flow::default() };
        flow(&mut bench, &all, &flood, 29);
        assert!(bench.incidents().is_empty(), "not in the window");
        flow(&mut bench, &all, &flood, 6);
        let incident = &bench.incidents()[0];
        assert!(incident.began_at >= over, "{incident:?}");
        assert!(incident.seen.requests <= 2000, "five seconds of it: {:?}", incident.seen);
    }

    #[test]
    fn the_strain_ends_by_the_clock_when_nobody_comes_any_more() {
        let (mut bench, all) = usual(1, false);
        flow(&mut bench, &all, &Flow { requests: 400, shed: 200, p50: 10, ..Flow::default() }, 4);
        assert_eq!(bench.incidents().len(), 1);
        bench.advance(Duration::from_secs(20));
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn a_flood_from_few_is_an_attack_and_from_many_it_is_not() {
        for (sources, wanted) in [
            (vec![("198.51.100.7", 700), ("203.0.113.9", 20)], Cause::Attack),
            (vec![("a", 400), ("b", 150), ("c", 100)], Cause::Attack),
            (vec![("a", 100), ("b", 100), ("c", 100), ("d", 100), ("e", 100)], Cause::Overload),
        ] {
            let (mut bench, all) = usual(2, false);
            let flood = Flow { requests: 800, limited: 600, p50: 10, sources, ..Flow::default() };
            flow(&mut bench, &all, &flood, 4);
            assert_eq!(cause(&bench), Some(wanted), "{:?}", flood.sources);
        }
        let (mut bench, all) = usual(2, false);
        let sources = vec![("198.51.100.7", 700)];
        flow(&mut bench, &all, &Flow { requests: 800, limited: 600, p50: 10, sources, ..Flow::default() }, 4);
        let incident = &bench.incidents()[0];
        assert_eq!(incident.title, "shop is under attack: 198.51.100.7 makes 88% of 800 requests a second");
        let evidence = &incident.diagnosis.as_ref().unwrap().evidence;
        assert_eq!(evidence[0], "198.51.100.7 makes 88% of all requests: 700 of 800 a second");
        assert_eq!(evidence[1], "all others make 100 requests a second, which would fit");
    }

    #[test]
    fn a_few_heavy_users_among_too_many_others_are_a_crowd() {
        let (mut bench, all) = usual(2, false);
        // Without the heaviest there would still be more than is served.
        let sources = vec![("a", 1000)];
        let crowd = Flow { requests: 2000, shed: 1800, p50: 10, sources, ..Flow::default() };
        flow(&mut bench, &all, &crowd, 4);
        assert_eq!(cause(&bench), Some(Cause::Overload));
    }

    #[test]
    fn a_crash_that_leaves_too_little_capacity_stays_a_crash() {
        let (mut bench, _) = usual(2, true);
        bench.supervisor = crate::testing::Supervisor::Fails;
        bench.crash(&app(2));
        flow(&mut bench, &[1], &Flow { requests: 100, shed: 40, p50: 10, ..Flow::default() }, 14);
        let incident = &bench.incidents()[0];
        assert_eq!(cause(&bench), Some(Cause::Crash), "{:?}", incident.diagnosis);
        let evidence = &incident.diagnosis.as_ref().unwrap().evidence;
        assert!(evidence.iter().any(|e| e.contains("are turned away")), "{evidence:?}");
    }

    #[test]
    fn a_server_that_hangs_under_an_overload_is_not_restarted_before_it_is_over() {
        let (mut bench, all) = usual(2, true);
        let away = Flow { requests: 400, shed: 200, p50: 300, ..Flow::default() };
        flow(&mut bench, &all, &away, 5);
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        // It answers visitors for a while, then nobody.
        flow(&mut bench, &all, &away, 4);
        assert_ne!(bench.server(&app(2)).health, Health::Unhealthy, "it still answers visitors");
        flow(&mut bench, &[1], &away, 14);
        assert_eq!(bench.server(&app(2)).health, Health::Unhealthy);
        assert_eq!(restarts(&bench), 0);
        let entry = |kind| bench.incidents()[0].timeline.iter().find(|e| e.kind == kind).cloned();
        assert_eq!(
            entry(EntryKind::Withheld).unwrap().text,
            "app-2 is not restarted: shop is overloaded, and needs all the capacity that it has"
        );
        assert!(entry(EntryKind::Diagnosed).unwrap().text.starts_with("put down to overload: "));
        flow(&mut bench, &[1], &calm(), 7);
        assert_eq!(restarts(&bench), 1, "the overload is over, and it still hangs");
    }

    #[test]
    fn a_server_that_gets_nothing_and_still_hangs_is_restarted_though_the_overload_lasts() {
        let (mut bench, all) = usual(2, true);
        let away = Flow { requests: 400, shed: 200, p50: 300, ..Flow::default() };
        flow(&mut bench, &all, &away, 5);
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        flow(&mut bench, &[1], &away, 27);
        assert_eq!(restarts(&bench), 0);
        flow(&mut bench, &[1], &away, 8);
        assert_eq!(restarts(&bench), 1);
    }

    #[test]
    fn a_process_that_dies_under_an_overload_is_started_at_once() {
        let (mut bench, all) = usual(2, true);
        flow(&mut bench, &all, &Flow { requests: 400, shed: 200, p50: 300, ..Flow::default() }, 5);
        bench.crash(&app(2));
        assert_eq!(restarts(&bench), 1);
        assert_eq!(cause(&bench), Some(Cause::Overload), "it was overloaded before");
    }

    #[test]
    fn when_nobody_is_answered_any_more_there_is_no_capacity_to_keep() {
        let (mut bench, all) = usual(1, true);
        let away = Flow { requests: 400, shed: 200, p50: 300, ..Flow::default() };
        flow(&mut bench, &all, &away, 5);
        bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
        let nothing = Flow { requests: 200, shed: 200, late: 3, ..Flow::default() };
        flow(&mut bench, &all, &nothing, 8);
        assert_eq!(restarts(&bench), 0);
        flow(&mut bench, &all, &nothing, 4);
        assert_eq!(restarts(&bench), 1);
    }

    #[test]
    fn a_hang_of_the_only_server_is_no_overload_though_requests_are_turned_away() {
        let (mut bench, all) = usual(1, true);
        bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
        flow(&mut bench, &all, &Flow { requests: 100, shed: 100, late: 2, ..Flow::default() }, 6);
        assert_eq!((restarts(&bench), cause(&bench)), (1, Some(Cause::Crash)));
    }

    #[test]
    fn all_being_late_alike_under_more_load_ejects_nobody() {
        let (mut bench, all) = usual(3, false);
        let late = Flow { requests: 240, p50: 400, late: 6, ..Flow::default() };
        flow(&mut bench, &all, &late, 12);
        assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
        assert!(
            bench.server(&app(1)).why.rule.contains("each of them is needed"),
            "{:?}",
            bench.server(&app(1)).why
        );
        assert_eq!(cause(&bench), Some(Cause::Overload));
    }

    #[test]
    fn all_being_late_alike_without_more_load_is_no_overload() {
        let (mut bench, all) = usual(3, false);
        flow(&mut bench, &all, &Flow { p50: 400, late: 6, ..calm() }, 12);
        assert_ne!(cause(&bench), Some(Cause::Overload));
        assert!(bench.targets().len() < 3 || bench.routed().mode == crate::routing::RoutingMode::Panic);
    }

    #[test]
    fn one_late_server_among_good_ones_is_ejected_whatever_the_load() {
        let (mut bench, _) = usual(3, false);
        for _ in 0..12 {
            flow(&mut bench, &[1, 2], &Flow { requests: 300, p50: 10, ..Flow::default() }, 1);
            let late = ServerTraffic {
                failures: [(FailureKind::Timeout, 8)].into(),
                failures_in_a_row: 8,
                ..ServerTraffic::default()
            };
            bench.tell(Input::Traffic(TrafficReport {
                servers: [(app(3), late)].into(),
                ..TrafficReport::default()
            }));
        }
        assert_eq!(bench.targets(), ["app-1", "app-2"]);
    }

    #[test]
    fn what_is_remembered_stays_small_whatever_comes() {
        let (mut bench, all) = usual(2, false);
        for n in 0..200u32 {
            let network: &'static str = Box::leak(format!("n{n}").into_boxed_str());
            let sources = vec![(network, 40); 8];
            flow(
                &mut bench,
                &all,
                &Flow { requests: 400, limited: 300, p50: 10, sources, ..Flow::default() },
                1,
            );
        }
        assert!(bench.model.services[&shop()].load.is_within_limits());
    }
}
