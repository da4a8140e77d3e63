//! One service with its servers: what comes in for it, and the order in which a change is thought through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::announced::Announced;
use crate::change::ChangeKind;
use crate::deploy::Releases;
use crate::drill::Injection;
use crate::effect::{ActionKind, Record};
use crate::endpoint::Endpoint;
use crate::front::Front;
use crate::helped::Helping;
use crate::id::{ServerId, ServiceId};
use crate::impact::Before;
use crate::incident::{EntryKind, TimelineEntry};
use crate::input::{AdminState, Exit, ProcessEvent, TrafficFailure, TrafficReport};
use crate::lead::Lead;
use crate::load::Load;
use crate::open::Open;
use crate::out::Out;
use crate::policy::ServicePolicy;
use crate::proposal::Proposal;
use crate::routing::{RoutedService, RoutingMode};
use crate::rung::Rung;
use crate::sample::{Sample, TrafficSample};
use crate::scale::Scaling;
use crate::server::{Server, Standing, Verdict};
use crate::substitute::Substitutes;
use crate::switch::Switching;
use crate::time::Mono;
use crate::traffic::Visitors;
use crate::witness::{Checks, Witnesses};

/// What is decided in one step may make something else due at once; more steps than these would be a loop.
const STEPS_MAX: usize = 16;

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) id: ServiceId,
    pub(crate) policy: ServicePolicy,
    pub(crate) servers: BTreeMap<ServerId, Server>,
    pub(crate) visitors: Visitors,
    pub(crate) load: Load,
    /// What an incident that is opened now would count from its first sign on.
    pub(crate) before: Before,
    /// Failures of visitors before this time belong to an earlier incident.
    pub(crate) hurt_from: Mono,
    pub(crate) mode: RoutingMode,
    pub(crate) routed: RoutedService,
    pub(crate) incident: Option<Open>,
    /// What is wrong with its checks, rather than with its servers.
    pub(crate) checks: Checks,
    pub(crate) front: Front,
    /// A server of it was healthy once in this run.
    pub(crate) served: bool,
    pub(crate) known_since: Mono,
    pub(crate) releases: Releases,
    /// A release that was brought out by other means.
    pub(crate) announced: Option<Announced>,
    pub(crate) scaling: Scaling,
    pub(crate) substitutes: Substitutes,
    pub(crate) switching: Switching,
    pub(crate) helping: Helping,
    /// What Mainstay would do, if it might; those that are open.
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) lead: Lead,
    /// All its servers answer badly alike, or did until so lately that they may just be coming back.
    pub(crate) alike_until: Option<Mono>,
    /// The backups give back since then: the primaries suffice again.
    pub(crate) back_since: Option<Mono>,
    /// It is in a maintenance window as a whole.
    pub(crate) excused: bool,
    /// How whoever speaks with this server behaves, for a drill.
    pub(crate) injection: Option<(ServerId, Injection)>,
    /// When it is next to be thought about.
    pub(crate) wake: Option<Mono>,
}

impl Service {
    pub(crate) fn new(id: ServiceId, policy: ServicePolicy, now: Mono) -> Self {
        let routed = RoutedService {
            id: id.clone(),
            carriage: policy.carriage.clone(),
            mode: RoutingMode::Nobody,
            trial: None,
            targets: Vec::new(),
            last_resort: Vec::new(),
            draining: Vec::new(),
            leaving: Vec::new(),
        };
        let helping = Helping::new(&policy.recovery);
        Self {
            id,
            policy,
            servers: BTreeMap::new(),
            visitors: Visitors::new(),
            load: Load::default(),
            before: Before::new(),
            hurt_from: Mono::default(),
            mode: RoutingMode::Nobody,
            routed,
            incident: None,
            checks: Checks::default(),
            front: Front::default(),
            served: false,
            known_since: now,
            releases: Releases::default(),
            announced: None,
            scaling: Scaling::default(),
            substitutes: Substitutes::default(),
            switching: Switching::default(),
            helping,
            proposals: Vec::new(),
            lead: Lead::default(),
            alike_until: None,
            back_since: None,
            excused: false,
            injection: None,
            wake: None,
        }
    }

    /// Thinks the service through: what is over, how each server is, who carries traffic, what is to be done and told.
    pub(crate) fn settle(&mut self, out: &mut Out) {
        for _ in 0..STEPS_MAX {
            self.expire(out);
            self.heed_windows(out);
            self.judge(out);
            let moved = self.advance_releases(out) | self.advance_substitutes(out);
            if moved {
                // Whoever serves again by it is judged like any other before anything is done about it.
                self.judge(out);
            }
            self.ask_to_go_back(out);
            self.advance_scale(out);
            self.tend_lead(out);
            let carried_anew = self.rotate(out) && self.releases.deployment.is_some();
            self.judge_actions(out);
            self.tend_proposals(out);
            self.recover(out);
            let replaces = self.replace_who_is_lost(out);
            self.look(out);
            self.face(out);
            let before = (self.is_switched_away(), self.writer().cloned());
            self.advance_switch(out);
            // Who is switched away from is out of rotation from the moment in which that begins.
            let turned = before != (self.is_switched_away(), self.writer().cloned());
            self.tend(out);
            self.tend_checks(out);
            self.wake = self.next_due(out);
            if !moved
                && !carried_anew
                && !turned
                && !replaces
                && self.wake.is_none_or(|due| due > out.now.mono)
            {
                return;
            }
        }
        debug_assert!(
            false,
            "{} does not come to rest: {:?} is due at {:?}",
            self.id, self.wake, out.now.mono
        );
        self.wake = self.wake.map(|_| out.now.mono + Duration::from_millis(10));
    }

    /// How whoever speaks with a server behaves, for a drill.
    pub(crate) fn injected(&self, id: &ServerId) -> Option<Injection> {
        self.injection.as_ref().filter(|(server, _)| server == id).map(|(_, injection)| *injection)
    }

    /// Ends what has lasted its time.
    fn expire(&mut self, out: &mut Out) {
        let now = out.now.mono;
        self.end_strain(now);
        let ids: Vec<ServerId> = self.servers.keys().cloned().collect();
        for id in ids {
            self.give_up_probe(&id, now);
            self.end_ejection(&id, now);
            self.give_up_action(&id, out);
            self.tend_pace(&id, out);
            if let Some(server) = self.servers.get_mut(&id)
                && server.hold_until.is_some_and(|until| now >= until)
            {
                server.hold_until = None;
            }
            if let Some(server) = self.servers.get_mut(&id) {
                server.flaps.expire(now);
            }
        }
    }

    /// When something here is next due.
    fn next_due(&self, out: &Out) -> Option<Mono> {
        let mut next: Option<Mono> = None;
        let mut consider = |due: Option<Mono>| {
            if let Some(due) = due {
                next = Some(next.map_or(due, |n| n.min(due)));
            }
        };
        for (id, server) in &self.servers {
            consider(server.probe_due());
            consider(server.ejection_due(&self.policy));
            consider(server.flaps.due());
            consider(server.pace.due());
            consider(server.hold_until);
            consider(server.slow_start_due(self.policy.slow_start, out.now.mono));
            consider(self.recovery_due(id, server, out));
            if server.standing != Standing::Serves {
                consider(server.recovery.awaited_until(out.now.mono));
            }
            if server.condemned.is_some() {
                consider(Some(out.now.mono + server.traffic.recheck()));
            }
        }
        consider(self.load.due(out.now.mono));
        consider(self.incident_due(out.now.mono));
        consider(self.checks.own.next_due());
        consider(self.front_due());
        consider(self.releases_due(out.now.mono));
        consider(self.announced_due(out.now.mono));
        consider(self.switch_due(out.now.mono));
        consider(self.substitutes_due(out.now.mono));
        consider(self.helping.due(&self.policy.recovery, out.now.mono));
        consider(self.lead_due(out.now.mono));
        consider(self.back_due(out.now.mono));
        consider(self.scale_due().filter(|at| *at > out.now.mono));
        next
    }

    /// Observed: an entry of the open incident, or a sign that is kept in case one is opened. What happens to a server
    /// that a person took out raises nobody.
    pub(crate) fn observe(&mut self, id: &ServerId, kind: EntryKind, text: String, out: &mut Out) {
        self.observe_answer(id, kind, text, None, out);
    }

    /// The same, with what was answered.
    pub(crate) fn observe_answer(
        &mut self,
        id: &ServerId,
        kind: EntryKind,
        text: String,
        sample: Option<Arc<Sample>>,
        out: &mut Out,
    ) {
        let horizon = self.horizon(out.now.mono);
        let Some(server) = self.servers.get_mut(id).filter(|s| s.is_ready()) else { return };
        let (at, server_id) = (out.now.wall, Some(id.clone()));
        let entry = TimelineEntry { at, kind, server: server_id, action: None, text, times: 1, sample };
        match &mut self.incident {
            Some(open) => open.push(entry, out),
            None => {
                if server.first_sign(horizon).is_none() {
                    server.forget_signs();
                }
                server.sign(entry, out.now.mono);
            }
        }
    }

    /// Signs from before this time belong to something else: ten seconds, and as long as probes take to be sure.
    pub(crate) fn horizon(&self, now: Mono) -> Mono {
        let health = &self.policy.health;
        let deciding = (health.reprobe + health.timeout).saturating_mul(health.fall);
        let span = Duration::from_secs(10).saturating_add(deciding);
        Mono(now.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Where a server listens now.
    pub(crate) fn on_address(&mut self, id: &ServerId, address: Option<Endpoint>, out: &mut Out) {
        let interval = self.policy.health.interval;
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.address == address {
            return;
        }
        let first = server.address.is_none() && server.probes.last.is_none();
        let elsewhere = match (&server.address, &address) {
            // A process that is started anew may well have another port.
            (Some(before), Some(now)) if !server.policy.supervised => {
                Some(format!("{} is at {now} now, no longer at {before}", id.name))
            }
            _ => None,
        };
        server.address = address;
        server.outdate_probe();
        server.probes.next_at = server.address.as_ref().map(|_| {
            // Many servers that are known at once are not looked at in one instant (envoy#4132); but early, so that
            // one which is down is found out soon. A process that was just started is looked at now.
            let spread = interval.min(Duration::from_secs(1));
            let jitter = if first && !server.policy.supervised {
                spread.mul_f64(out.rng.unit())
            } else {
                Duration::ZERO
            };
            out.now.mono + jitter
        });
        if let Some(what) = elsewhere {
            if let Some(open) = &mut self.incident {
                open.entry(EntryKind::Changed, Some(id), None, what.clone(), out);
            }
            out.changed(ChangeKind::Dns, Some(self.id.clone()), what, "DNS");
        }
    }

    /// Something is under way here for which it matters that a report came in, also one that does not speak of the service.
    pub(crate) fn heeds_every_report(&self) -> bool {
        let drains = || self.servers.values().any(|server| server.admin != AdminState::Ready);
        let substitutes = || self.substitutes.is_busy();
        self.releases.deployment.is_some() || self.policy.scale.is_some() || drains() || substitutes()
    }

    /// The data plane has reported.
    pub(crate) fn on_report(&mut self, report: &TrafficReport, now: Mono) {
        for (id, server) in &mut self.servers {
            let leaves = server.standing != Standing::Serves || server.admin != AdminState::Ready;
            if leaves && !report.servers.contains_key(id) {
                server.traffic.not_mentioned(now);
            }
        }
        self.on_trial_traffic(report, now);
        self.on_scale_report(report, now);
    }

    /// A worker of the data plane began to avoid a server.
    pub(crate) fn on_failure(&mut self, failure: &TrafficFailure, out: &mut Out) {
        let now = out.now.mono;
        let reprobe = self.policy.health.reprobe;
        let Some(server) = self.servers.get_mut(&failure.server) else { return };
        server.traffic.failed(now);
        out.sight.heard(server.far(), failure.kind.is_silence(), now);
        // Suspicion is checked at once, but not oftener than probes follow one another anyway.
        let soonest = now.max(server.probes.ordered_at + reprobe);
        if server.probes.verdict != Verdict::Bad
            && let Some(next) = &mut server.probes.next_at
        {
            *next = (*next).min(soonest);
        }
        let starting = server.is_starting(&self.policy, now);
        if !starting {
            self.observe(&failure.server, EntryKind::TrafficFailed, failure_text(failure), out);
        }
    }

    /// A visitor was answered badly: evidence, should it come to an incident. What it means is said by the counts.
    pub(crate) fn on_sample(&mut self, seen: TrafficSample, out: &mut Out) {
        let TrafficSample { server: id, request, sample } = seen;
        let Some(server) = self.servers.get_mut(&id).filter(|s| s.is_ready()) else { return };
        let status = sample.status.map_or_else(String::new, |status| format!(" {status}"));
        let entry = TimelineEntry {
            at: out.now.wall,
            kind: EntryKind::TrafficFailed,
            text: format!("{} answered{status} to {}, request {request}", id.name, sample.asked),
            server: Some(id),
            action: None,
            times: 1,
            sample: Some(sample),
        };
        match &mut self.incident {
            Some(open) => open.push(entry, out),
            None => server.keep_answer(entry, out.now.mono),
        }
    }

    /// A supervised server's process came or went.
    pub(crate) fn on_process(&mut self, id: &ServerId, event: &ProcessEvent, out: &mut Out) {
        if !self.servers.get(id).is_some_and(|s| s.policy.supervised) {
            return;
        }
        match event {
            ProcessEvent::Started { pid } => self.process_started(id, *pid, out),
            ProcessEvent::Exited { exit, asked, last_lines } => {
                self.process_exited(id, *exit, *asked, last_lines, out);
            }
        }
    }

    fn process_started(&mut self, id: &ServerId, pid: u32, out: &mut Out) {
        let now = out.now;
        let grace = self.policy.recovery.start_grace;
        let Some(server) = self.servers.get_mut(id) else { return };
        let name = &id.name;
        server.process.pid = Some(pid);
        server.process.since = now.wall;
        server.process.ended = None;
        server.process.asked_down = false;
        server.recovery.process_started();
        server.begins_anew(now.mono, grace, "its process was started anew and has yet to pass its probes");
        server.changed(now.wall, format!("its process was started (pid {pid})"));
        if self.incident.is_some() {
            let text = format!("{name}'s process was started (pid {pid})");
            self.observe(id, EntryKind::ProcessStarted, text, out);
        }
    }

    fn process_exited(
        &mut self,
        id: &ServerId,
        exit: Exit,
        asked: bool,
        last_lines: &[String],
        out: &mut Out,
    ) {
        let now = out.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        let ended = if asked { "was ended by Mainstay".to_owned() } else { exit.to_string() };
        server.process.pid = None;
        server.process.since = now.wall;
        server.process.last_exit = Some(exit);
        server.process.last_exit_asked = asked;
        server.process.ended_at = Some(now.mono);
        server.process.ended = Some(ended.clone());
        server.process.asked_down = asked && !server.recovery.is_acting();
        // A process that ended listens nowhere, whatever was said of its address before.
        server.address = None;
        server.outdate_probe();
        server.probes.next_at = None;
        server.probes.verdict = Verdict::Bad;
        server.probes.because = format!("its process {ended}");
        let probes = &mut server.probes;
        probes.start_over();
        (probes.passed, probes.run_since) = (false, None);
        server.ejection = None;
        server.condemned = None;
        server.witnesses = Witnesses::default();
        server.hold_until = None;
        server.recovery.process_exited();
        server.flaps.ended();
        server.changed(now.wall, format!("its process {ended}"));
        let last_line =
            last_lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty() && !asked);
        server.last_line = last_line.map(|line| line.chars().take(200).collect());
        let mut text = format!("{}'s process {ended}", id.name);
        if let Some(line) = &server.last_line {
            text.push_str(&format!("; the last line it wrote: {line}"));
        }
        let written = Sample::written(last_lines).map(Arc::new);
        self.observe_answer(id, EntryKind::ProcessExited, text, written, out);
    }

    /// A person put a server into another admin state.
    pub(crate) fn on_admin(&mut self, id: &ServerId, state: AdminState, by: &str, out: &mut Out) {
        let now = out.now;
        self.person_acts(Rung::Restart, Some(id));
        if state == AdminState::Ready {
            self.person_wants(id, by, out);
            if self.wants_back(id, by, out) {
                self.start_afresh(id, out);
            }
        }
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.admin == state {
            // It was ready before: whoever says so again wants it brought back.
            if state == AdminState::Ready && server.at_fault {
                server.recovery.person_asks();
                server.changed(now.wall, format!("to be brought back: {by} wants it"));
            }
            return;
        }
        // From draining to maintenance, what is under way has no longer than it had.
        if server.admin == AdminState::Ready || state == AdminState::Ready {
            server.admin_since = Some(now);
        }
        server.admin = state;
        out.record(Record::Admin { server: id.clone(), state });
        server.changed(now.wall, format!("{state}: set by {by}"));
        server.forget_signs();
        if state == AdminState::Ready {
            self.start_afresh(id, out);
        }
        let text = match state {
            AdminState::Ready => format!("{} was made ready by {by}", id.name),
            AdminState::Draining => format!("{} was set to drain by {by}", id.name),
            AdminState::Maintenance => format!("{} was put into maintenance by {by}", id.name),
        };
        if let Some(open) = &mut self.incident {
            open.entry(EntryKind::AdminChanged, Some(id), None, text, out);
        }
    }

    /// A server that a person says is ready is not blamed for what it was while it was out: it is looked at first.
    fn start_afresh(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now.mono;
        let grace = self.policy.recovery.start_grace;
        let release = self.release_for(id);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.ejection = None;
        server.condemned = None;
        server.witnesses = Witnesses::default();
        server.traffic.start_over(now);
        server.pace.begins_anew(now);
        server.recovery.person_asks();
        server.flaps.forgive();
        if server.process.pid.is_some() && server.release != release && server.recovery.pending.is_none() {
            // Aside until it is good: its end is no fault.
            server.standing = Standing::Aside(now);
            return self.order(id, ActionKind::Replace, false, "another release took over meanwhile", out);
        }
        if server.policy.supervised && server.process.pid.is_none() {
            // Also when an earlier order was given up: to start what runs by then does nothing.
            if server.recovery.pending.is_none() {
                server.recovery.start_wanted = true;
            }
            server.process.ended = None;
            server.process.asked_down = false;
            server.probes.verdict = Verdict::Unknown;
        } else if server.probes.verdict == Verdict::Bad {
            server.probes.verdict = Verdict::Unknown;
            server.probes.start_over();
            server.hold_until = Some(now + grace);
            server.outdate_probe();
            server.probes.next_at = server.address.as_ref().map(|_| now);
        }
    }
}

/// What an attempt's failure was, in a sentence.
fn failure_text(failure: &TrafficFailure) -> String {
    use crate::input::FailureKind as K;
    let name = &failure.server.name;
    let what = match failure.kind {
        K::Refused => "was refused",
        K::Unreachable => "found no way there",
        K::ConnectTimeout => "was not accepted in time",
        K::Reset => "was reset",
        K::Truncated => "was cut short in the middle of the answer",
        K::Timeout => "was not answered in time",
        K::Malformed => "was answered in something that is not HTTP",
        K::Tls => "did not come to an agreement on TLS",
    };
    match &failure.retried_on {
        Some(other) => format!("an attempt at {name} {what}; retried on {}", other.name),
        None => format!("an attempt at {name} {what}; it could not be tried again"),
    }
}
