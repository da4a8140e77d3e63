//! How each server is: probes are ordered and counted here, and the witnesses are weighed against one another.
//!
//! Probes decide by runs (`rise`, `fall`); one that timed out is enough when real requests fail too and none is answered:
//! two witnesses of a hang who agree need not be heard twice. A supervised process that ended decides at once, and real
//! traffic ejects a server whatever its probes say. A probe that could not be made, or whose answer never came, says
//! nothing.

use std::time::Duration;

use crate::effect::{Effect, ProbeOrder};
use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::incidents::HURT_FORGOTTEN;
use crate::input::{ProbeAnswer, ProbeFailure, ProbeReport};
use crate::out::Out;
use crate::policy::HealthPolicy;
use crate::server::{Ejection, InFlight, Server, Verdict};
use crate::service::Service;
use crate::snapshot::{Health, LastProbe};
use crate::time::Mono;
use crate::traffic::{Comparison, Condemnation, FAILURE_LINGERS};
use crate::words::{count, percent};

/// An answer may come so long after the probe's own timeout before it is no longer waited for.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// Probes of one server follow one another no faster, whatever the config says.
const PROBE_GAP_MIN: Duration = Duration::from_millis(10);

impl Server {
    /// When the next probe is to be ordered, or the one under way given up.
    pub(crate) fn probe_due(&self) -> Option<Mono> {
        match self.probes.in_flight {
            Some(flight) => Some(flight.give_up),
            None => self.address.as_ref().and(self.probes.next_at),
        }
    }

    /// The answer to a probe under way will be about something that is no more.
    pub(crate) fn outdate_probe(&mut self) {
        if let Some(flight) = &mut self.probes.in_flight {
            flight.stale = true;
        }
    }

    /// It refuses every connection, or has no process: sending requests there in doubt would be no doubt at all.
    pub(crate) fn is_surely_dead(&self) -> bool {
        let refuses =
            self.probes.verdict == Verdict::Bad && self.probes.failed_in_row > 0 && self.probes.all_refused;
        self.is_ended() || refuses
    }

    fn schedule_next_probe(&mut self, policy: &HealthPolicy, starting: bool, now: Mono) {
        let probes = &mut self.probes;
        let undecided = match probes.verdict {
            Verdict::Bad => probes.good_in_row > 0,
            Verdict::Good | Verdict::Unknown => probes.failed_in_row > 0,
        };
        let next = if undecided || starting {
            now + policy.reprobe.min(policy.interval).max(PROBE_GAP_MIN)
        } else {
            now.max(probes.ordered_at + policy.interval.max(PROBE_GAP_MIN))
        };
        probes.next_at = self.address.as_ref().map(|_| next);
    }
}

impl Service {
    /// Orders the probes that are due.
    pub(crate) fn look(&mut self, out: &mut Out) {
        let now = out.now.mono;
        let health = &self.policy.health;
        for (id, server) in &mut self.servers {
            let Some(address) = server.address.clone() else { continue };
            let probes = &mut server.probes;
            if probes.in_flight.is_some() || probes.next_at.is_none_or(|at| at > now) {
                continue;
            }
            probes.next_at = None;
            probes.ordered_at = now;
            probes.in_flight = Some(InFlight { give_up: now + health.timeout + ANSWER_MARGIN, stale: false });
            out.effect(Effect::Probe(ProbeOrder {
                target: id.clone().into(),
                address: address.into(),
                kind: health.probe.clone(),
                send_proxy: self.policy.carriage.send_proxy,
                tls: server.policy.tls,
                protocol: self.policy.carriage.protocol,
                timeout: health.timeout,
            }));
        }
    }

    /// Stops waiting for an answer that never came. It says nothing about the server.
    pub(crate) fn give_up_probe(&mut self, id: &ServerId, now: Mono) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.probes.in_flight.is_some_and(|flight| now >= flight.give_up) {
            server.probes.in_flight = None;
            server.probes.not_probed = Some("the probe's answer never came".to_owned());
            let starting = server.is_starting(&self.policy, now);
            server.schedule_next_probe(&self.policy.health, starting, now);
        }
    }

    /// A probe has its answer.
    pub(crate) fn on_probe(&mut self, id: &ServerId, report: &ProbeReport, out: &mut Out) {
        let now = out.now.mono;
        let Some(server) = self.servers.get_mut(id) else { return };
        // An answer that was given up, or that nobody asked for, tells of an unknown time.
        let Some(flight) = server.probes.in_flight.take() else { return };
        if flight.stale || server.address.is_none() {
            server.probes.next_at = server.address.as_ref().map(|_| now);
            return;
        }
        let ordered_at = server.probes.ordered_at;
        let hung = matches!(report.result, Err(ProbeFailure::AnswerTimeout | ProbeFailure::ConnectTimeout));
        // Who was not there to look cannot say that there was no answer.
        if hung && out.host.starved_since(ordered_at) >= self.policy.health.timeout / 2 {
            server.probes.not_probed = Some("Mainstay itself got no processor time".to_owned());
            let starting = server.is_starting(&self.policy, now);
            server.schedule_next_probe(&self.policy.health, starting, now);
            return;
        }
        match &report.result {
            Err(ProbeFailure::NotProbed(why)) => server.probes.not_probed = Some(why.clone()),
            Ok(answer) => {
                server.probes.not_probed = None;
                server.probes.last = Some(last_probe(report, &good_text(answer, report.took), out));
                server.probes.warning.clone_from(&answer.warning);
                self.probe_was_good(id, out);
            }
            Err(failure) => {
                server.probes.not_probed = None;
                server.probes.last = Some(last_probe(report, &failure.to_string(), out));
                server.probes.warning = None;
                self.probe_failed(id, failure, out);
            }
        }
        if let Some(server) = self.servers.get_mut(id) {
            let starting = server.is_starting(&self.policy, now);
            server.schedule_next_probe(&self.policy.health, starting, now);
        }
    }

    fn probe_was_good(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now.mono;
        let rise = self.policy.health.rise.max(1);
        let Some(server) = self.servers.get_mut(id) else { return };
        let probes = &mut server.probes;
        let first_after_failures =
            probes.failed_in_row > 0 || (probes.verdict == Verdict::Bad && probes.good_in_row == 0);
        probes.good_in_row = probes.good_in_row.saturating_add(1);
        probes.failed_in_row = 0;
        probes.run_since = None;
        probes.last_failure = None;
        probes.last_result = None;
        probes.passed = true;
        match probes.verdict {
            Verdict::Unknown => {
                probes.verdict = Verdict::Good;
                "its first probe was good".clone_into(&mut probes.because);
                if server.policy.supervised {
                    // What failed while it was starting says nothing.
                    server.traffic.start_over(now);
                }
            }
            Verdict::Bad if probes.good_in_row >= rise => {
                probes.verdict = Verdict::Good;
                probes.because = format!("{} in a row good (rise = {rise})", count(u64::from(rise), "probe"));
                server.traffic.start_over(now);
            }
            Verdict::Bad | Verdict::Good => {}
        }
        if server.probes.verdict == Verdict::Good {
            server.hold_until = None;
            server.recovery.probe_only = false;
            // What was suspected is refuted, unless real requests go on failing.
            if server.traffic.last_failure.is_none_or(|at| now.since(at) > FAILURE_LINGERS) {
                server.forget_signs();
            }
        }
        if first_after_failures
            && server.is_ready()
            && let Some(open) = &mut self.incident
        {
            let text = format!("{}'s first good probe after failures", id.name);
            open.entry(EntryKind::ProbeGood, Some(id), None, text, out);
        }
    }

    fn probe_failed(&mut self, id: &ServerId, failure: &ProbeFailure, out: &mut Out) {
        let now = out.now.mono;
        let fall = self.policy.health.fall.max(1);
        let traffic_policy = &self.policy.traffic;
        let traffic_hears = self.policy.traffic_hears_the_server();
        let Some(server) = self.servers.get_mut(id) else { return };
        let starting = server.is_starting(&self.policy, now);
        let probes = &mut server.probes;
        let refused = matches!(failure, ProbeFailure::Refused | ProbeFailure::NoSocket(_));
        probes.all_refused = refused && (probes.all_refused || probes.failed_in_row == 0);
        probes.failed_in_row = probes.failed_in_row.saturating_add(1);
        probes.good_in_row = 0;
        if probes.failed_in_row == 1 {
            probes.run_since = Some(now);
            server.traffic.probes_fail();
        }
        probes.last_result = Some(failure.clone());
        let text = failure.to_string();
        let news = probes.failed_in_row <= fall || probes.last_failure.as_ref() != Some(&text);
        probes.last_failure = Some(text.clone());
        // A process that was started a moment ago need not answer yet: its failing probes are no news and no verdict.
        if starting {
            return;
        }
        let answers = matches!(
            failure,
            ProbeFailure::Status(_)
                | ProbeFailure::Malformed(_)
                | ProbeFailure::Certificate(_)
                | ProbeFailure::Tls(_)
                | ProbeFailure::Answer(_)
        );
        // It says itself what it lacks, be it the time to load its data or its role: it does not hang, and starting it anew
        // would only make it begin again.
        let explains = matches!(failure, ProbeFailure::Answer(_)) && !traffic_hears;
        // A second look at a hang would take another timeout; any other failure shows again within `reprobe`.
        let hung = matches!(failure, ProbeFailure::AnswerTimeout | ProbeFailure::ConnectTimeout);
        let both_witnesses = hung && server.traffic.is_silent(now);
        // Under too much load every server answers late: one that still answers visitors is kept, for it is needed.
        let needed = hung
            && traffic_hears
            && self.load.may_need_every_server(now)
            && server.traffic.answered_lately(now);
        if (probes.failed_in_row >= fall || both_witnesses) && !needed {
            // A server that answers its probes badly and real requests well does not hang; once it is out of rotation
            // no requests can tell any more, so what they said last counts.
            let contradicted = traffic_hears && server.traffic.is_good_since_bad(traffic_policy, now);
            if probes.verdict != Verdict::Bad {
                probes.verdict = Verdict::Bad;
                let served = answers && traffic_hears && server.traffic.is_good_lately(traffic_policy, now);
                server.recovery.probe_only = contradicted || explains || served;
            } else if explains {
                server.recovery.probe_only = true;
            } else if !answers && !contradicted {
                server.recovery.probe_only = false;
            }
            server.hold_until = None;
            let n = server.probes.failed_in_row;
            server.probes.because = if n >= fall {
                format!("{} in a row failed (fall = {fall}): {text}", count(u64::from(n), "probe"))
            } else {
                format!("a probe timed out, and real requests fail and none is answered: {text}")
            };
        }
        if news {
            self.observe(id, EntryKind::ProbeFailed, format!("a probe of {} failed: {text}", id.name), out);
        }
    }

    /// Decides how each server is, who is at fault, and lets real traffic eject.
    pub(crate) fn judge(&mut self, out: &mut Out) {
        let ids: Vec<ServerId> = self.servers.keys().cloned().collect();
        for id in &ids {
            self.judge_health(id, out);
        }
        for id in &ids {
            self.judge_by_traffic(id, out);
            self.judge_health(id, out);
        }
        for id in &ids {
            self.judge_fault(id, out);
        }
    }

    fn judge_health(&mut self, id: &ServerId, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (health, rule) = weigh(server);
        if health == Health::Healthy || server.is_only_warned_of() {
            if !std::mem::replace(&mut self.served, true) {
                self.hurt_from = out.now.mono + HURT_FORGOTTEN;
            }
            server.good_since.get_or_insert(out.now.mono);
            server.recovery.spent = false;
        } else if let Some(since) = server.good_since.take() {
            server.recovery.was_good_for(out.now.mono - since, &self.policy.recovery);
        }
        if health != server.health {
            server.health = health;
            server.health_since = out.now.wall;
            server.changed(out.now.wall, format!("{}: {rule}", health.as_str()));
        }
        server.rule = rule;
    }

    /// Whether and why traffic speaks against a server, by itself or beside its fellows.
    pub(crate) fn condemnation(&self, id: &ServerId, now: Mono) -> Option<Condemnation> {
        let policy = &self.policy.traffic;
        let server = self.servers.get(id)?;
        server
            .traffic
            .condemnation(policy, now)
            .or_else(|| self.comparison(id, now).and_then(|compared| compared.condemnation(policy)))
    }

    /// How long a server takes over its answers beside those of its fellows that carry traffic.
    pub(crate) fn comparison(&self, id: &ServerId, now: Mono) -> Option<Comparison> {
        let policy = &self.policy.traffic;
        let own = self.servers.get(id)?.traffic.typical(policy, now)?;
        let fellows = self.servers.iter().filter(|(other, s)| *other != id && s.may_serve());
        let mut medians: Vec<Duration> =
            fellows.filter_map(|(_, s)| s.traffic.typical(policy, now)).collect();
        medians.sort_unstable();
        // Of an even number the slower one: in doubt nobody is slow.
        let fellows = *medians.get(medians.len() / 2)?;
        Some(Comparison { own, fellows })
    }

    /// So many may be out of rotation for traffic alone at the same time.
    fn ejections_max(&self) -> usize {
        let ready = self.servers.values().filter(|s| s.is_ready()).count();
        ((ready as f64 * self.policy.traffic.eject_share) as usize).max(1)
    }

    /// Real traffic ejects a server, but never the last that may serve nor more than `eject-share` of them: that one stays,
    /// and is called degraded.
    fn judge_by_traffic(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now.mono;
        let others = self.servers.iter().any(|(other, s)| other != id && s.may_serve());
        let too_much = self.load.may_need_every_server(now);
        let out_already = self.servers.values().filter(|s| s.is_ready() && s.ejection.is_some()).count();
        let too_many = out_already >= self.ejections_max();
        let condemnation = self.condemnation(id, now);
        let policy = &self.policy.traffic;
        let Some(server) = self.servers.get_mut(id) else { return };
        if !server.may_serve() || server.is_starting(&self.policy, now) {
            server.condemned = None;
            return;
        }
        let Some(condemnation) = condemnation else {
            server.condemned = None;
            return;
        };
        if condemnation.by_answers
            && let Some(open) = &mut self.incident
        {
            open.errors_count = true;
        }
        if !others {
            let why = "but it is the last server of its service, which is never ejected";
            server.condemned = Some(format!("{}, {why}", condemnation.text));
            return;
        }
        if too_much && server.traffic.is_only_late(now) {
            let why =
                "but so do all of its fellows: there is more to do than they can, and each of them is needed";
            server.condemned = Some(format!("{}, {why}", condemnation.text));
            return;
        }
        if too_many {
            let why = format!(
                "but {} out of rotation already, and more would leave too little (eject-share = {})",
                if out_already == 1 { "1 is".to_owned() } else { format!("{out_already} are") },
                percent(policy.eject_share)
            );
            server.condemned = Some(format!("{}, {why}", condemnation.text));
            return;
        }
        server.condemned = None;
        // A server that was good for as long as the longest ejection has no past.
        if server.eligible_since.is_some_and(|since| now.since(since) >= policy.eject_max) {
            server.ejections = 0;
        }
        let factor = 2u32.saturating_pow(server.ejections.min(20));
        let span = policy.eject_base.saturating_mul(factor).min(policy.eject_max).max(PROBE_GAP_MIN);
        server.ejections = server.ejections.saturating_add(1);
        let for_slowness = condemnation.for_slowness;
        server.ejection = Some(Ejection { until: now + span, reason: condemnation.text, for_slowness });
    }

    /// The time out of rotation for traffic's sake is over.
    pub(crate) fn end_ejection(&mut self, id: &ServerId, now: Mono) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.ejection.as_ref().is_some_and(|e| now >= e.until) {
            server.ejection = None;
            server.traffic.start_over(now);
        }
    }

    /// A server that comes into trouble takes part in the service's incident; one that a person took out does not.
    fn judge_fault(&mut self, id: &ServerId, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let bad =
            server.health == Health::Unhealthy || server.ejection.is_some() || server.condemned.is_some();
        let was_at_fault = server.at_fault;
        server.at_fault = bad && server.is_ready() && !server.process.asked_down;
        if server.at_fault && !was_at_fault {
            let title = fault_title(id, server);
            let by_answers = self.condemnation(id, out.now.mono).is_some_and(|c| c.by_answers);
            self.attach(id, &title, by_answers, out);
        }
    }
}

/// Weighs the witnesses: the health and the rule that decided.
fn weigh(server: &Server) -> (Health, String) {
    if let Some(ended) = server.process.ended.as_ref().filter(|_| server.is_ended()) {
        return (Health::Unhealthy, format!("its process {ended}"));
    }
    if server.probes.verdict == Verdict::Bad {
        return (Health::Unhealthy, server.probes.because.clone());
    }
    if let Some(ejection) = &server.ejection {
        return (Health::Degraded, format!("ejected by real requests: {}", ejection.reason));
    }
    if let Some(condemned) = &server.condemned {
        return (Health::Degraded, condemned.clone());
    }
    if server.probes.verdict == Verdict::Good {
        if let Some(warning) = &server.probes.warning {
            return (Health::Degraded, format!("its probe is good and warns: {warning}"));
        }
        return (Health::Healthy, server.probes.because.clone());
    }
    let rule = match (&server.probes.not_probed, &server.address) {
        (Some(why), _) => format!("it could not be looked at: {why}"),
        (None, None) => "its address is not known".to_owned(),
        (None, Some(_)) if server.policy.supervised => {
            "its process was started and has yet to answer".to_owned()
        }
        (None, Some(_)) => "it has not been looked at yet".to_owned(),
    };
    (Health::Unknown, rule)
}

/// What failed, as an incident's title.
fn fault_title(id: &ServerId, server: &Server) -> String {
    let (name, service) = (&id.name, &id.service);
    if let Some(ended) = &server.process.ended {
        return format!("{name} of {service} {ended}");
    }
    if server.ejection.as_ref().is_some_and(|ejection| ejection.for_slowness) {
        return format!("{name} of {service} answers far more slowly than its fellows");
    }
    if server.ejection.is_some() || server.condemned.is_some() {
        return format!("{name} of {service} fails real requests");
    }
    match &server.probes.last_failure {
        Some(text) => format!("{name} of {service} fails its probes: {text}"),
        None => format!("{name} of {service} is not healthy"),
    }
}

pub(crate) fn good_text(answer: &ProbeAnswer, took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    let took = if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") };
    match (answer.status, &answer.said) {
        (Some(status), None) => format!("{status} in {took}"),
        (Some(status), Some(said)) => format!("{status}, {said} in {took}"),
        (None, Some(said)) => format!("{said} in {took}"),
        (None, None) => format!("accepted in {took}"),
    }
}

pub(crate) fn last_probe(report: &ProbeReport, text: &str, out: &Out) -> LastProbe {
    LastProbe {
        at: out.now.wall,
        good: report.result.is_ok(),
        text: text.to_owned(),
        took_ms: report.took.as_secs_f64() * 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{FailureKind, Input, ServerTraffic, TrafficReport};
    use crate::testing::{Bench, Look, address, app, policy};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_server_that_nobody_looked_at_is_unknown_and_routed_to() {
        let mut bench = Bench::fresh(policy(2, false));
        bench.looks.insert(app(1), Look::Silent);
        bench.addresses();
        assert_eq!(bench.server(&app(1)).health, Health::Unknown);
        assert_eq!(bench.targets(), ["app-1", "app-2"]);
    }

    /// Reports of some seconds in which each server answers 100 requests a second in so many milliseconds.
    fn answers_take(bench: &mut Bench, time: Duration, ms: &[u64]) {
        for _ in 0..time.as_millis() / 250 {
            bench.advance(MS(250));
            let mut report = TrafficReport::default();
            for (id, ms) in (1..).map(app).zip(ms) {
                let mut traffic = ServerTraffic { ok: 25, ..ServerTraffic::default() };
                (0..25).for_each(|_| traffic.latency.record(MS(*ms)));
                report.servers.insert(id, traffic);
            }
            bench.tell(Input::Traffic(report));
        }
    }

    #[test]
    fn a_server_far_slower_than_its_fellows_is_ejected_and_comes_back_when_its_time_is_over() {
        let mut bench = Bench::settled(policy(3, false));
        answers_take(&mut bench, MS(2000), &[20, 1000, 30]);
        assert_eq!(bench.targets(), ["app-1", "app-3"]);
        let server = bench.server(&app(2));
        assert_eq!(server.health, Health::Degraded);
        assert!(
            server
                .why
                .rule
                .contains("half of its answers take 1s or longer, its fellows' 30ms (slow-times = 5)")
        );
        assert!(bench.incidents()[0].title.ends_with("answers far more slowly than its fellows"));
        answers_take(&mut bench, Duration::from_secs(11), &[20, 20, 30]);
        assert_eq!(
            bench.targets(),
            ["app-1", "app-2", "app-3"],
            "what it was slow at before says nothing now"
        );
    }

    #[test]
    fn a_server_is_not_slow_where_its_fellows_are_nor_by_a_little_nor_with_none_to_compare() {
        for ms in [&[900, 1000, 800][..], &[1, 90, 1], &[200, 900, 300], &[2000]] {
            let mut bench = Bench::settled(policy(ms.len() as u32, false));
            answers_take(&mut bench, MS(5000), ms);
            assert_eq!(bench.targets().len(), ms.len(), "{ms:?}");
        }
    }

    #[test]
    fn no_more_than_a_share_of_the_servers_is_ejected_for_traffic_at_once() {
        let mut bench = Bench::settled(policy(5, false));
        (1..=4).for_each(|n| bench.attempts(&app(n), 0, 0, 5));
        assert_eq!(bench.targets(), ["app-3", "app-4", "app-5"]);
        let rule = bench.server(&app(3)).why.rule;
        assert!(rule.ends_with(
            "but 2 are out of rotation already, and more would leave too little (eject-share = 50%)"
        ));
        assert_eq!(bench.server(&app(3)).health, Health::Degraded);
    }

    #[test]
    fn nothing_is_looked_at_or_routed_to_without_an_address() {
        let mut bench = Bench::fresh(policy(1, false));
        bench.advance(MS(5000));
        assert_eq!(bench.routed().mode, crate::routing::RoutingMode::Nobody);
        assert!(bench.probes_of(&app(1)).is_empty());
        bench.addresses();
        assert_eq!(bench.targets(), ["app-1"]);
        bench.tell(Input::Address { server: app(1), address: None });
        assert!(bench.targets().is_empty());
    }

    #[test]
    fn first_probes_are_spread_over_a_second_and_not_later() {
        let mut policy = policy(50, false);
        policy.services.values_mut().for_each(|s| s.health.interval = Duration::from_secs(60));
        let mut bench = Bench::fresh(policy);
        bench.addresses();
        let began = bench.now.mono;
        bench.advance(MS(1000));
        let first: Vec<Duration> = (1..=50).map(|n| bench.probes_of(&app(n))[0] - began).collect();
        let early = first.iter().filter(|at| **at < MS(500)).count();
        assert!((10..=40).contains(&early), "{first:?}");
    }

    #[test]
    fn fall_failed_probes_in_quick_succession_make_it_unhealthy() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(MS(1200));
        let server = bench.server(&app(2));
        assert_eq!(server.health, Health::Unhealthy);
        assert!(server.why.rule.ends_with("probes in a row failed (fall = 2): connection refused"));
        assert_eq!(bench.targets(), ["app-1", "app-3"]);
        let probes = bench.probes_of(&app(2));
        assert!(probes.windows(2).any(|pair| pair[1] - pair[0] == MS(101)), "{probes:?}");
    }

    #[test]
    fn one_probe_that_timed_out_is_enough_when_real_requests_fail_too() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        bench.attempt_fails(&app(2), FailureKind::Timeout, Some(app(1)));
        // One probe, begun at once, has used its whole timeout; a second one has not.
        bench.advance(MS(950));
        let server = bench.server(&app(2));
        assert_eq!(server.health, Health::Unhealthy, "{:?}", server.why);
        assert!(server.why.rule.starts_with("a probe timed out, and real requests fail"), "{:?}", server.why);
    }

    #[test]
    fn one_probe_that_timed_out_is_not_enough_when_a_request_was_answered_since() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        bench.attempt_fails(&app(2), FailureKind::Timeout, Some(app(1)));
        bench.attempts(&app(2), 5, 0, 0);
        // One probe, begun at once, has used its whole timeout; a second one has not.
        bench.advance(MS(950));
        assert_eq!(bench.server(&app(2)).health, Health::Healthy);
    }

    #[test]
    fn a_good_probe_that_warns_makes_a_server_degraded_which_goes_on_serving_and_hurts_nobody() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(MS(2000));
        assert_eq!(bench.incidents().len(), 1);
        bench.looks.insert(app(1), Look::Warns("answers late".to_owned()));
        bench.is_good(&app(2));
        bench.advance(Duration::from_secs(60));
        let server = bench.server(&app(1));
        assert_eq!((server.health, server.share), (Health::Degraded, 1.0));
        assert_eq!(server.why.rule, "its probe is good and warns: answers late");
        assert_eq!(bench.targets(), ["app-1", "app-2"]);
        let open = bench.incidents().iter().filter(|i| i.resolved_at.is_none()).count();
        assert_eq!(open, 0, "a warning keeps no incident open, and opens none");
        bench.is_good(&app(1));
        bench.advance(MS(2000));
        assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    }

    /// Supervised servers of a TCP service that are asked in their own protocol.
    fn databases(servers: u32) -> Bench {
        let mut policy = policy(servers, true);
        for service in policy.services.values_mut() {
            let tcp = Some(crate::carriage::Tcp { close_when_down: true });
            service.carriage = crate::carriage::Carriage { tcp, ..Default::default() }.into();
            service.health.probe = crate::policy::ProbeKind::Redis;
        }
        Bench::settled(policy)
    }

    fn restarts(bench: &Bench) -> usize {
        bench.effects.iter().filter(|(_, effect)| matches!(effect, Effect::Recover(_))).count()
    }

    #[test]
    fn connections_that_the_kernel_takes_do_not_speak_for_a_database_that_hangs() {
        let mut bench = databases(2);
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        for _ in 0..20 {
            bench.attempts(&app(2), 5, 0, 0);
            bench.advance(MS(250));
        }
        assert_eq!(bench.server(&app(2)).health, Health::Unhealthy);
        assert!(bench.server(&app(2)).why.signals.iter().all(|s| s.name != "witnesses disagree"));
        assert!(restarts(&bench) > 0, "it hangs, whatever its kernel says");
    }

    #[test]
    fn a_database_that_says_what_it_lacks_is_not_started_anew() {
        let mut bench = databases(2);
        bench.is_bad(&app(2), ProbeFailure::Answer("is loading its data".to_owned()));
        bench.advance(Duration::from_secs(120));
        assert_eq!(bench.server(&app(2)).health, Health::Unhealthy);
        assert_eq!(bench.targets(), ["app-1"]);
        assert_eq!(restarts(&bench), 0, "it would only begin to load again");
        // One that hung and was started anew is given the time to load.
        let mut bench = databases(2);
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        bench.advance(MS(3000));
        assert_eq!(restarts(&bench), 1);
        bench.is_bad(&app(2), ProbeFailure::Answer("is loading its data".to_owned()));
        bench.advance(Duration::from_secs(120));
        assert_eq!(restarts(&bench), 1);
    }

    #[test]
    fn the_only_server_goes_on_serving_when_its_probes_time_out() {
        let mut bench = Bench::settled(policy(1, false));
        bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
        for _ in 0..40 {
            bench.attempts(&app(1), 5, 0, 0);
            bench.advance(MS(500));
            assert_eq!(bench.targets(), ["app-1"], "{:?}", bench.server(&app(1)).why);
        }
    }

    #[test]
    fn rise_good_probes_make_it_healthy_again() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(MS(3000));
        bench.is_good(&app(2));
        bench.advance(MS(1000 + 102));
        let server = bench.server(&app(2));
        assert_eq!(server.health, Health::Healthy);
        assert_eq!(server.why.rule, "2 probes in a row good (rise = 2)");
    }

    #[test]
    fn a_probe_that_could_not_be_made_says_nothing() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::NotProbed("no file descriptors".to_owned()));
        bench.advance(Duration::from_secs(60));
        let server = bench.server(&app(1));
        assert_eq!(server.health, Health::Healthy);
        assert!(server.why.signals.iter().any(|s| s.name == "could not be probed" && !s.bad));
        assert!(bench.incidents().is_empty());
    }

    #[test]
    fn an_answer_that_never_comes_is_given_up_and_says_nothing() {
        let mut bench = Bench::settled(policy(2, false));
        bench.looks.insert(app(1), Look::Silent);
        bench.advance(Duration::from_secs(20));
        assert_eq!(bench.server(&app(1)).health, Health::Healthy);
        let probes = bench.probes_of(&app(1));
        assert!(probes.len() > 5, "{probes:?}");
        assert!(probes.windows(2).all(|pair| pair[1] - pair[0] >= MS(1000)), "{probes:?}");
    }

    #[test]
    fn a_failed_attempt_of_traffic_is_checked_at_once() {
        let mut bench = Bench::settled(policy(2, false));
        bench.advance(MS(300));
        bench.effects.clear();
        bench.attempt_fails(&app(1), FailureKind::Refused, Some(app(2)));
        assert_eq!(bench.probes_of(&app(1)), [bench.now.mono]);
        assert_eq!(bench.targets(), ["app-1", "app-2"], "a suspicion is no verdict");
    }

    #[test]
    fn an_answer_about_where_it_no_longer_listens_is_not_believed() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
        bench.service_policy().health.fall = 1;
        let changed = bench.policy.clone();
        bench.tell(Input::Policy(changed));
        bench.advance(MS(1000));
        bench.tell(Input::Address { server: app(1), address: Some(address(7777)) });
        bench.is_good(&app(1));
        bench.advance(MS(2000));
        assert_eq!(bench.server(&app(1)).health, Health::Healthy);
        assert!(bench.incidents().is_empty());
    }

    #[test]
    fn traffic_ejects_a_server_whose_probes_are_good() {
        let mut bench = Bench::settled(policy(3, false));
        bench.attempts(&app(2), 30, 20, 0);
        let server = bench.server(&app(2));
        assert_eq!(server.health, Health::Degraded);
        assert!(server.why.rule.contains("failure-share = 20%"), "{}", server.why.rule);
        assert_eq!(bench.targets(), ["app-1", "app-3"]);
        bench.advance(MS(9_900));
        assert_eq!(bench.targets(), ["app-1", "app-3"]);
        bench.advance(MS(200));
        assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
        assert_eq!(bench.server(&app(2)).share, 0.1);
    }

    #[test]
    fn each_ejection_lasts_twice_as_long_as_the_last() {
        let mut bench = Bench::settled(policy(3, false));
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            bench.attempts(&app(2), 0, 0, 5);
            bench.advance(Duration::from_secs(seconds) - MS(1));
            assert_eq!(bench.targets(), ["app-1", "app-3"], "{seconds}");
            bench.advance(MS(1));
            assert_eq!(bench.targets().len(), 3, "{seconds}");
            bench.advance(MS(600));
        }
    }

    #[test]
    fn the_last_server_is_never_ejected_by_traffic() {
        let mut bench = Bench::settled(policy(2, false));
        bench.attempts(&app(1), 0, 0, 5);
        bench.attempts(&app(2), 0, 0, 5);
        assert_eq!(bench.targets(), ["app-2"]);
        let server = bench.server(&app(2));
        assert_eq!(server.health, Health::Degraded);
        assert!(server.why.rule.ends_with("the last server of its service, which is never ejected"));
    }

    #[test]
    fn a_first_good_probe_is_enough_for_a_server_nobody_knew() {
        let mut bench = Bench::fresh(policy(1, false));
        bench.addresses();
        bench.advance(MS(1002));
        let server = bench.server(&app(1));
        assert_eq!((server.health, server.share), (Health::Healthy, 1.0));
    }
}
