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
use crate::policy::{HealthPolicy, TrafficPolicy};
use crate::server::{Ejection, InFlight, Server, Verdict};
use crate::service::Service;
use crate::snapshot::{Health, LastProbe};
use crate::time::Mono;
use crate::traffic::{Comparison, Condemnation, FAILURE_LINGERS};
use crate::witness::{GRAY, Says};
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
        let probes = &self.probes;
        let undecided = match probes.verdict {
            Verdict::Bad => probes.good_in_row > 0,
            Verdict::Good | Verdict::Unknown => probes.failed_in_row > 0,
        };
        let next = if (undecided && self.witnesses.check_wrong.is_none()) || starting || self.is_proving(now)
        {
            now + policy.reprobe.min(policy.interval).max(PROBE_GAP_MIN)
        } else {
            now.max(probes.ordered_at + policy.interval.max(PROBE_GAP_MIN))
        };
        let next = self.proof_begins(now).map_or(next, |begins| begins.min(next));
        self.probes.next_at = self.address.as_ref().map(|_| next);
    }
}

impl Service {
    /// Orders the probes that are due.
    pub(crate) fn look(&mut self, out: &mut Out) {
        let now = out.now.mono;
        let mut questions = self.trial_questions(now);
        let health = &self.policy.health;
        for (id, server) in &mut self.servers {
            let Some(address) = server.address.clone() else { continue };
            if server.probes.in_flight.is_some() || server.probes.next_at.is_none_or(|at| at > now) {
                continue;
            }
            let question = questions.remove(id);
            let visit = server.visit(&self.policy, now).filter(|_| question.is_none());
            if visit.is_some() {
                server.witnesses.visited_at = now;
            }
            let injection =
                self.injection.as_ref().filter(|(of, _)| of == id).map(|(_, injection)| *injection);
            // Real requests find it out, and those of Mainstay's own that are like them.
            let injection = injection.filter(|i| i.is_seen_by_probes() || visit.is_some());
            let probes = &mut server.probes;
            let due = probes.next_at.take().unwrap_or(now);
            probes.ordered_at = now;
            if question.is_none() {
                probes.probed_at = now;
            }
            let give_up = now + health.timeout + ANSWER_MARGIN;
            probes.in_flight =
                Some(InFlight { give_up, stale: false, visit: visit.is_some(), asked: question.is_some() });
            out.effect(Effect::Probe(ProbeOrder {
                target: id.clone().into(),
                address: address.into(),
                kind: question.or(visit).unwrap_or_else(|| health.probe.clone()),
                send_proxy: self.policy.carriage.send_proxy,
                tls: server.policy.tls,
                protocol: self.policy.carriage.protocol,
                timeout: health.timeout,
                due,
                injection,
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
        let hung = matches!(&report.result, Err(failure) if failure.is_silence());
        // Who was not there to look cannot say that there was no answer.
        if hung && out.host.starved_since(ordered_at) >= self.policy.health.timeout / 2 {
            server.probes.not_probed = Some("Mainstay itself got no processor time".to_owned());
            let starting = server.is_starting(&self.policy, now);
            server.schedule_next_probe(&self.policy.health, starting, now);
            return;
        }
        if flight.asked {
            self.on_asked(id, report, now);
        } else {
            let visited = flight.visit.then(|| self.on_visit(id, report, out));
            let result = visited.as_ref().map_or(Some(&report.result), Option::as_ref);
            self.take_probe(id, report, result, out);
        }
        if let Some(server) = self.servers.get_mut(id) {
            let starting = server.is_starting(&self.policy, now);
            server.schedule_next_probe(&self.policy.health, starting, now);
        }
        self.ask_soon(id, now);
    }

    /// What an answer says of the server; `None`: nothing, beside what it was asked for.
    fn take_probe(
        &mut self,
        id: &ServerId,
        report: &ProbeReport,
        result: Option<&Result<ProbeAnswer, ProbeFailure>>,
        out: &mut Out,
    ) {
        let (Some(server), Some(result)) = (self.servers.get_mut(id), result) else { return };
        match result {
            Err(ProbeFailure::NotProbed(_)) => {}
            Err(failure) => {
                // What comes back, be it a refusal, was seen.
                server.unseen &= failure.is_nothing_back();
                out.sight.heard(server.far(), failure.is_nothing_back(), out.now.mono);
            }
            Ok(_) => {
                server.unseen = false;
                out.sight.heard(server.far(), false, out.now.mono);
            }
        }
        match result {
            Err(ProbeFailure::NotProbed(why)) => server.probes.not_probed = Some(why.clone()),
            Ok(answer) => {
                server.probes.not_probed = None;
                server.probes.last = Some(last_probe(report, &good_text(answer, report.took), out));
                let warning = answer.warning.as_ref().or_else(|| server.visit_warning(out.now.mono));
                server.probes.warning = warning.cloned();
                let data = answer.data;
                self.probe_was_good(id, out);
                if let (Some(server), Some(data)) = (self.servers.get_mut(id), data) {
                    server.says(data, out.now.mono);
                }
            }
            Err(failure) => {
                server.probes.not_probed = None;
                server.probes.last = Some(last_probe(report, &failure.to_string(), out));
                server.probes.warning = None;
                self.probe_failed(id, failure, report, out);
            }
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
        probes.recent <<= 1;
        probes.run_since = None;
        probes.last_failure = None;
        probes.last_result = None;
        probes.passed = true;
        probes.good_ordered_at = probes.ordered_at;
        server.witnesses.check_wrong = None;
        let probes = &mut server.probes;
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
                probes.recent = 0;
                probes.because = format!("{} in a row good (rise = {rise})", count(u64::from(rise), "probe"));
                server.traffic.start_over(now);
            }
            Verdict::Bad | Verdict::Good => {}
        }
        if server.probes.verdict == Verdict::Good {
            server.hold_until = None;
            server.recovery.probe_only = false;
            (server.recovery.tried, server.recovery.by_person) = (false, false);
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

    fn probe_failed(&mut self, id: &ServerId, failure: &ProbeFailure, report: &ProbeReport, out: &mut Out) {
        let now = out.now.mono;
        let fall = self.policy.health.fall.max(1);
        let of_life = self.probe_tells_of_life();
        let Some(server) = self.servers.get_mut(id) else { return };
        let starting = server.is_starting(&self.policy, now);
        let probes = &mut server.probes;
        probes.of_life = of_life;
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
        probes.recent = probes.recent << 1 | 1;
        self.decide_by_probes(id, failure, out);
        if news {
            let text = format!("a probe of {} failed: {text}", id.name);
            self.observe_answer(id, EntryKind::ProbeFailed, text, report.sample.clone(), out);
        }
    }

    /// Enough probes have failed, or one whose failure both witnesses confirm: the server is down, unless real requests say
    /// otherwise.
    pub(crate) fn decide_by_probes(&mut self, id: &ServerId, failure: &ProbeFailure, out: &mut Out) {
        let now = out.now.mono;
        let policy = &self.policy.health;
        let fall = policy.fall.max(1);
        // What others say of a container or a unit is no answer of its own.
        let of_life = self.probe_tells_of_life();
        let traffic_policy = &self.policy.traffic;
        let traffic_hears = self.policy.traffic_hears_the_server();
        let too_much = self.load.may_need_every_server(now);
        let Some(server) = self.servers.get_mut(id) else { return };
        let answers = failure.is_an_answer() && !of_life;
        // It says itself what it lacks, be it the time to load its data or its role: it does not hang, and starting it anew
        // would only make it begin again.
        let explains = matches!(failure, ProbeFailure::Answer(_)) && !traffic_hears && !of_life;
        // A second look at a hang would take another timeout; any other failure shows again within `reprobe`.
        let hung = failure.is_silence();
        let both_witnesses = hung && server.traffic.is_silent(now);
        // Under too much load every server answers late: one that still answers visitors is kept, for it is needed; and so is
        // one that nobody asks but Mainstay itself.
        let well = server.traffic.answered_lately(now) || server.is_quiet(now);
        let needed = hung && traffic_hears && too_much && well;
        if (!server.probes.fail(policy) && !both_witnesses) || needed {
            return;
        }
        if failure.is_nothing_back() && server.far().is_some() && out.sight.is_doubted(now) {
            server.unseen |= out.sight.suspect().is_some();
            return;
        }
        match self.requests_say(id, failure, now) {
            Says::Nothing => {}
            Says::NotYet => return,
            Says::Well(counts) => return self.call_check_wrong(id, failure, counts, out),
        }
        let Some(server) = self.servers.get_mut(id) else { return };
        server.witnesses.check_wrong = None;
        // A server that answers its probes badly and real requests well does not hang; once it is out of rotation
        // no requests can tell any more, so what they said last counts.
        let contradicted = traffic_hears && server.traffic.is_good_since_bad(traffic_policy, now);
        if server.probes.verdict != Verdict::Bad {
            server.probes.verdict = Verdict::Bad;
            let served = answers && traffic_hears && server.traffic.is_good_lately(traffic_policy, now);
            server.recovery.probe_only = contradicted || explains || served;
        } else if explains {
            server.recovery.probe_only = true;
        } else if !answers && !contradicted {
            server.recovery.probe_only = false;
        }
        server.hold_until = None;
        let (n, text) = (server.probes.failed_in_row, failure.to_string());
        server.probes.because = if n >= fall {
            format!("{} in a row failed (fall = {fall}): {text}", count(u64::from(n), "probe"))
        } else if let Some((failed, fail)) = server.probes.fail_often(policy) {
            format!("{failed} of the last {} probes failed (fail = {fail}): {text}", fail.of)
        } else {
            format!("a probe timed out, and real requests fail and none is answered: {text}")
        };
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
            self.judge_gray(id, out);
            self.judge_flapping(id, out);
            self.judge_health(id, out);
            self.judge_fault(id, out);
        }
    }

    pub(crate) fn judge_health(&mut self, id: &ServerId, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (health, rule) = match out.sight.suspect().filter(|_| server.unseen) {
            Some(why) => (Health::Unknown, format!("Mainstay cannot see it: {why}")),
            None => weigh(server, out.now.mono),
        };
        if health == Health::Healthy || server.is_only_warned_of() {
            // One that a person took out may answer its probes and serves nobody.
            if server.is_ready() && !std::mem::replace(&mut self.served, true) {
                self.hurt_from = out.now.mono + HURT_FORGOTTEN;
            }
            server.good_since.get_or_insert(out.now.mono);
            server.recovery.spent = false;
            server.recovery.outside.is_clear();
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
            .or_else(|| server.is_worse_since_return())
            .or_else(|| self.comparison(id, now).and_then(|compared| compared.condemnation(policy)))
    }

    /// How long a server takes over its answers beside those of its fellows that carry traffic.
    pub(crate) fn comparison(&self, id: &ServerId, now: Mono) -> Option<Comparison> {
        let policy = &self.policy.traffic;
        let (own, _) = self.servers.get(id)?.traffic.typical_bounds(policy, now)?;
        let fellows = self.servers.iter().filter(|(other, s)| *other != id && s.may_serve());
        let mut medians: Vec<Duration> =
            fellows.filter_map(|(_, s)| Some(s.traffic.typical_bounds(policy, now)?.1)).collect();
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
        let instead = |s: &Server, other: &ServerId| s.may_serve() && !self.is_held_back(other, s);
        let others = self.servers.iter().any(|(other, s)| other != id && instead(s, other));
        let too_much = self.load.may_need_every_server(now);
        let out_already = self.servers.values().filter(|s| s.is_ready() && s.ejection.is_some()).count();
        let too_many = out_already >= self.ejections_max();
        let condemnation = self.condemnation(id, now);
        let policy = &self.policy.traffic;
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.ejection.is_some() {
            server.condemned = None;
            return;
        }
        let blind = out.sight.suspect().is_some();
        let unseen =
            server.far().is_some() && out.sight.is_doubted(now) && server.traffic.is_only_silent(blind, now);
        let may_serve = server.may_serve() && !server.is_starting(&self.policy, now) && !unseen;
        let Some(condemnation) = condemnation.filter(|_| may_serve) else {
            server.condemned = None;
            server.witnesses.trusted();
            return;
        };
        let late_alike = too_much && server.traffic.is_only_late(now);
        server.witnesses.suspected(!condemnation.for_slowness && !late_alike, now);
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
        if late_alike {
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
        let for_slowness = condemnation.for_slowness;
        let until = now + server.next_ejection(policy);
        server.ejection = Some(Ejection { until, reason: condemnation.text, for_slowness });
        // What the other witness says now tells a gray server from a dead one.
        if let Some(next) = &mut server.probes.next_at {
            *next = (*next).min(now.max(server.probes.ordered_at + PROBE_GAP_MIN));
        }
    }

    /// The time out of rotation for traffic's sake is over, and what had to be proven was.
    pub(crate) fn end_ejection(&mut self, id: &ServerId, now: Mono) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.ejection.as_ref().is_some_and(|e| now >= e.until) && !server.has_to_prove(&self.policy) {
            server.ejection = None;
            server.witnesses.trusted();
            server.traffic.start_over(now);
        }
    }

    /// A server that comes into trouble takes part in the service's incident; one that a person took out does not, and one in
    /// a maintenance window only if it took part before.
    fn judge_fault(&mut self, id: &ServerId, out: &mut Out) {
        let excused = self.servers.get(id).is_some_and(|s| self.server_in_window(id, s, out).is_some())
            && !self.incident.as_ref().is_some_and(|open| open.incident().servers.contains(id));
        let whole = self.is_slow_as_a_whole(out.now.mono);
        let Some(server) = self.servers.get_mut(id) else { return };
        let bad = server.health == Health::Unhealthy
            || server.ejection.is_some()
            || server.condemned.is_some()
            || server.pace.slowed().is_some()
            || server.flaps.held_until().is_some();
        let was_at_fault = server.at_fault;
        server.at_fault = bad && server.is_ready() && !server.process.asked_down && !excused;
        if server.at_fault && !was_at_fault {
            let title = fault_title(id, server, whole);
            let by_answers = self.condemnation(id, out.now.mono).is_some_and(|c| c.by_answers);
            self.attach(id, &title, by_answers, out);
        }
    }
}

impl Server {
    /// How long it is out of rotation for traffic's sake this time: twice as long as the last time.
    pub(crate) fn next_ejection(&mut self, policy: &TrafficPolicy) -> Duration {
        let factor = 2u32.saturating_pow(self.ejections.min(20));
        self.ejections = self.ejections.saturating_add(1);
        policy.eject_base.saturating_mul(factor).min(policy.eject_max).max(PROBE_GAP_MIN)
    }
}

/// Weighs the witnesses: the health and the rule that decided.
fn weigh(server: &Server, now: Mono) -> (Health, String) {
    if let Some(ended) = server.process.ended.as_ref().filter(|_| server.is_ended()) {
        return (Health::Unhealthy, format!("its process {ended}"));
    }
    if server.probes.verdict == Verdict::Bad {
        return (Health::Unhealthy, server.probes.because.clone());
    }
    if let Some(ejection) = &server.ejection {
        let rule = match &server.witnesses.gray {
            Some(gray) => format!("{gray}: {}", ejection.reason),
            None => format!("ejected by real requests: {}", ejection.reason),
        };
        return (Health::Degraded, rule);
    }
    if let Some(condemned) = &server.condemned {
        let gray = server.witnesses.gray.as_ref().map(|gray| format!("{gray}: ")).unwrap_or_default();
        return (Health::Degraded, format!("{gray}{condemned}"));
    }
    if let Some(slowed) = server.pace.slowed() {
        return (Health::Degraded, slowed.to_string());
    }
    if server.flaps.held_until().is_some() {
        let rule = format!("good again, and held out of rotation because it was {}", server.flaps.words(now));
        return (Health::Degraded, rule);
    }
    if let Some(wrong) = &server.witnesses.check_wrong {
        return (Health::Degraded, format!("its check is wrong: {wrong}"));
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

/// What failed, as an incident's title. `whole`: every server of its service that carries traffic is slow.
fn fault_title(id: &ServerId, server: &Server, whole: bool) -> String {
    let (name, service) = (&id.name, &id.service);
    if let Some(ended) = &server.process.ended {
        return format!("{name} of {service} {ended}");
    }
    if server.ejection.as_ref().is_some_and(|ejection| ejection.for_slowness) {
        return format!("{name} of {service} answers far more slowly than its fellows");
    }
    if server.ejection.is_some() || server.condemned.is_some() {
        if server.witnesses.gray.is_some() {
            return format!("{name} of {service} is gray: {GRAY}");
        }
        return format!("{name} of {service} fails real requests");
    }
    if let Some(slowed) = server.pace.slowed().filter(|_| server.probes.verdict != Verdict::Bad) {
        return if whole {
            format!("{service} is {slowed}")
        } else {
            format!("{name} of {service} is {slowed}")
        };
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
        phases: report.phases,
    }
}

#[cfg(test)]
mod tests;
