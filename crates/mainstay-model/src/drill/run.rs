//! A drill from its order to its end: written down, made, undone at its time or when it hurts, and followed until everything is
//! well again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::drill::{
    Drill, DrillOrder, DrillState, DrillStep, Fault, KEPT_MAX, LASTS_MAX, LASTS_MIN, Measured, OfDrill,
    QUIET_FOR, Refusal,
};
use crate::effect::{Effect, Record};
use crate::id::{ServerId, ServiceId};
use crate::incident::{EntryKind, Incident, Scope};
use crate::input::OwnPart;
use crate::model::Model;
use crate::open::Open;
use crate::out::Out;
use crate::snapshot::Totals;
use crate::time::Mono;
use crate::words::percent;

/// Whoever is to make the fault answers by then.
const ANSWER_BY: Duration = Duration::from_secs(20);
/// A fault that led to nothing by so long after its end leads to nothing any more.
const UNNOTICED_AFTER: Duration = Duration::from_secs(10);
/// And by so long it is given up.
const RECOVERS_WITHIN: Duration = Duration::from_secs(300);
/// What fails so soon is what the fault costs: it has to be found first, and the servers' counts come every quarter of a second.
const FOUND_WITHIN: Duration = Duration::from_secs(1);
/// Fewer failed requests than these after it stop no drill.
const STOP_LEAST: u64 = 10;

/// The drills that are known, and the one that is under way.
#[derive(Debug, Default)]
pub(crate) struct Drills {
    running: Option<Running>,
    /// Newest first.
    known: VecDeque<Arc<Drill>>,
    last: u64,
}

/// The one that is under way.
#[derive(Debug)]
struct Running {
    drill: Drill,
    /// `None`: it is about Mainstay itself.
    server: Option<ServerId>,
    phase: Phase,
    /// What the service's visitors had seen when it began.
    before: Totals,
    /// When the fault has to be found, and what they had seen by then.
    found_by: Option<(Mono, Option<Totals>)>,
    /// The process that was made to hang.
    pid: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The fault is to be made by then.
    Ordered(Mono),
    /// It lasts until then.
    UnderWay(Mono),
    /// It has been gone since then.
    Gone(Mono),
}

/// What incidents have to know of the drill that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Drilled {
    drill: u64,
    service: ServiceId,
    server: Option<ServerId>,
    part: Option<OwnPart>,
    quiet: bool,
    /// When an incident of it is more than a drill, once its fault is gone.
    pub(crate) loud_at: Option<Mono>,
}

impl Drilled {
    /// The server that it is about.
    pub(crate) fn server(&self) -> Option<&ServerId> {
        self.server.as_ref()
    }

    /// The mark of an incident that is opened now about this, if the drill led to it.
    pub(crate) fn mark(&self, scope: &Scope) -> Option<OfDrill> {
        let own = match (scope, self.part) {
            (Scope::Own(part), Some(own)) => *part == own,
            (Scope::Service(service), None) => *service == self.service,
            _ => false,
        };
        own.then_some(OfDrill { drill: self.drill, quiet: self.quiet })
    }
}

impl Drills {
    /// Those of earlier runs.
    pub(crate) fn restored(drills: Vec<Drill>) -> Self {
        let mut known: VecDeque<Arc<Drill>> = drills.into_iter().map(Arc::new).collect();
        known.make_contiguous().sort_by_key(|drill| std::cmp::Reverse(drill.id));
        let last = known.front().map_or(0, |drill| drill.id);
        known.truncate(KEPT_MAX);
        Self { running: None, known, last }
    }

    /// The server, while the fault may be there.
    pub(crate) fn victim(&self) -> Option<&ServerId> {
        let running = self.running.as_ref()?;
        running.server.as_ref().filter(|_| !matches!(running.phase, Phase::Gone(_)))
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.known.len() <= KEPT_MAX
    }

    fn keep(&mut self, drill: Drill) {
        self.known.push_front(Arc::new(drill));
        if self.known.len() > KEPT_MAX {
            // What was refused proves nothing, so it makes room first.
            let refused = self.known.iter().rposition(|drill| drill.state == DrillState::Refused);
            self.known.remove(refused.unwrap_or(KEPT_MAX));
        }
    }

    /// When this server was last drilled.
    fn last_of(&self, server: &ServerId) -> Option<u64> {
        self.known.iter().find(|d| d.server.as_ref() == Some(server) && d.began_at.is_some()).map(|d| d.id)
    }
}

impl Model {
    /// Those that are known, newest first.
    pub(crate) fn present_drills(&self) -> Arc<Vec<Arc<Drill>>> {
        let running = self.drills.running.as_ref().map(|running| {
            let mut drill = running.drill.clone();
            self.measure(running, &mut drill);
            Arc::new(drill)
        });
        Arc::new(running.into_iter().chain(self.drills.known.iter().cloned()).collect())
    }

    /// Somebody wants a drill.
    pub(crate) fn on_drill(&mut self, order: &DrillOrder) {
        self.drills.last += 1;
        let lasts = order.lasts.clamp(LASTS_MIN, LASTS_MAX);
        let mut drill = Drill {
            id: self.drills.last,
            service: order.service.clone(),
            server: None,
            fault: order.fault,
            by: order.by.clone(),
            lasts_ms: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
            alert: order.alert,
            ticket: order.ticket,
            at: self.out.now.wall,
            state: DrillState::Ordered,
            why: String::new(),
            began_at: None,
            undone_at: None,
            over_at: None,
            incident: None,
            measured: Measured::default(),
        };
        match self.choose(order) {
            Ok(server) => {
                drill.server.clone_from(&server);
                let service = self.services.get(&order.service);
                let before = service.map(|service| service.visitors.totals).unwrap_or_default();
                let place = service.zip(server.as_ref()).and_then(|(s, id)| s.servers.get(id));
                let pid = place.and_then(|s| s.process.pid);
                let phase = Phase::Ordered(self.out.now.mono + ANSWER_BY);
                self.out.record(Record::Drill(drill.clone()));
                self.out.drilled = Some(Drilled {
                    drill: drill.id,
                    service: order.service.clone(),
                    server: server.clone(),
                    part: order.fault.part(),
                    quiet: !order.alert,
                    loud_at: None,
                });
                self.step(drill.id, server.clone(), order.fault, true);
                self.drills.running = Some(Running { drill, server, phase, before, found_by: None, pid });
            }
            Err(refusal) => {
                drill.state = DrillState::Refused;
                drill.why = refusal.to_string();
                drill.over_at = Some(self.out.now.wall);
                self.out.record(Record::Drill(drill.clone()));
                self.drills.keep(drill);
            }
        }
    }

    /// The server that the drill is to be about, if it is to be about one.
    fn choose(&self, order: &DrillOrder) -> Result<Option<ServerId>, Refusal> {
        let service = self.services.get(&order.service).ok_or(Refusal::NoService)?;
        if let Some(running) = &self.drills.running {
            return Err(Refusal::Drilling(running.drill.id));
        }
        if let Some(part) = order.fault.part() {
            if order.server.is_some() {
                return Err(Refusal::NoServers(order.fault));
            }
            if let Some(open) = self.own.get(&part).and_then(|own| own.incident.as_ref()) {
                return Err(Refusal::Incident(open.incident().id));
            }
            return service.may_be_drilled(order, &self.out).map(|()| None);
        }
        if let Some(name) = &order.server {
            let server = order.service.server(Arc::clone(name));
            if !service.servers.contains_key(&server) {
                return Err(Refusal::NoServer(name.to_string()));
            }
            service.may_be_drilled(order, &self.out)?;
            return service.may_drill(&server, order.fault, &self.out).map(|()| Some(server));
        }
        service.may_be_drilled(order, &self.out)?;
        let mut primaries: Vec<&ServerId> =
            service.servers.iter().filter(|(_, s)| s.is_primary()).map(|(id, _)| id).collect();
        primaries.sort_by_key(|id| self.drills.last_of(id));
        let mut refused = None;
        for id in primaries {
            match service.may_drill(id, order.fault, &self.out) {
                Ok(()) => return Ok(Some(id.clone())),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        Err(refused.unwrap_or(Refusal::TooFew(0)))
    }

    fn step(&mut self, drill: u64, server: Option<ServerId>, fault: Fault, begin: bool) {
        self.out.effect(Effect::Drill(DrillStep { drill, server, fault, begin }));
    }

    /// The fault was made, or could not be.
    pub(crate) fn on_injected(&mut self, drill: u64, result: &Result<(), String>) {
        let now = self.out.now;
        let Some(running) = self.drills.running.as_mut().filter(|running| running.drill.id == drill) else {
            return;
        };
        if !matches!(running.phase, Phase::Ordered(_)) {
            return;
        }
        if let Err(why) = result {
            why.clone_into(&mut running.drill.why);
            return self.drill_is_over(DrillState::Failed);
        }
        running.drill.state = DrillState::UnderWay;
        running.drill.began_at = Some(now.wall);
        running.phase = Phase::UnderWay(now.mono + Duration::from_millis(running.drill.lasts_ms));
        running.found_by = Some((now.mono + FOUND_WITHIN, None));
        let (server, fault) = (running.server.clone(), running.drill.fault);
        let record = Record::Drill(running.drill.clone());
        self.out.record(record);
        if let Some((injection, server)) = fault.injection().zip(server) {
            let place = server.clone();
            self.with(&server.service, |s, _| s.injection = Some((place, injection)));
        }
        if fault.is_momentary() {
            self.undo(String::new());
        }
    }

    /// A person wants it to end.
    pub(crate) fn on_stop_drill(&mut self, by: &str) {
        match self.drills.running.as_ref().map(|running| running.phase) {
            Some(Phase::Ordered(_) | Phase::UnderWay(_)) => self.undo(format!("{by} stopped it")),
            Some(Phase::Gone(_)) | None => {}
        }
    }

    /// The fault goes. `why`: sooner than it was to.
    fn undo(&mut self, why: String) {
        let now = self.out.now;
        let Some(running) = &mut self.drills.running else { return };
        running.phase = Phase::Gone(now.mono);
        running.drill.state = DrillState::Recovering;
        running.drill.undone_at = Some(now.wall);
        running.drill.why = why;
        let record = Record::Drill(running.drill.clone());
        let (drill, server, fault) = (running.drill.id, running.server.clone(), running.drill.fault);
        let service = running.drill.service.clone();
        self.out.record(record);
        self.step(drill, server.clone(), fault, false);
        let loud_at = Some(now.mono + QUIET_FOR);
        if let Some(drilled) = &mut self.out.drilled {
            drilled.loud_at = loud_at;
        }
        let text = format!("drill {drill}: the fault ({fault}) is gone again");
        let tell = |open: &mut Open, out: &mut Out| {
            if open.is_quiet_drill() {
                open.loud_at = loud_at;
            }
            open.entry(EntryKind::Changed, server.as_ref(), None, text, out);
        };
        if let Some(part) = fault.part() {
            if let Some(open) = self.own.get_mut(&part).and_then(|own| own.incident.as_mut()) {
                tell(open, &mut self.out);
            }
            return;
        }
        self.with(&service, |s, out| {
            s.injection = None;
            if let Some(open) = &mut s.incident {
                tell(open, out);
            }
        });
    }

    /// Whatever is due of the drill that is under way. `false`: there is none.
    pub(crate) fn tend_drill(&mut self) -> bool {
        let now = self.out.now.mono;
        let Some(running) = &mut self.drills.running else { return false };
        if let Some((by, totals @ None)) = &mut running.found_by
            && now >= *by
        {
            *totals = self.services.get(&running.drill.service).map(|service| service.visitors.totals);
        }
        let Some(running) = &self.drills.running else { return false };
        match running.phase {
            Phase::Ordered(by) if now >= by => {
                self.undo("nobody said that the fault was made".to_owned());
            }
            Phase::Ordered(_) => {}
            Phase::UnderWay(until) => {
                if let Some(why) = self.reason_to_stop(running) {
                    self.undo(why);
                } else if now >= until || self.is_mended(running) {
                    self.undo(String::new());
                }
            }
            Phase::Gone(since) => self.follow(since),
        }
        self.note_incident();
        true
    }

    /// When that is next due.
    pub(crate) fn drill_due(&self) -> Option<Mono> {
        let running = self.drills.running.as_ref()?;
        let now = self.out.now.mono;
        Some(match running.phase {
            Phase::Ordered(by) => by,
            Phase::UnderWay(until) => until,
            Phase::Gone(since) => [UNNOTICED_AFTER, RECOVERS_WITHIN]
                .into_iter()
                .map(|after| since + after)
                .find(|at| *at > now)
                .unwrap_or(now + UNNOTICED_AFTER),
        })
    }

    /// It is more than a drill now, or hurts too much.
    fn reason_to_stop(&self, running: &Running) -> Option<String> {
        let Some(service) = self.services.get(&running.drill.service) else {
            return Some("the service left the config".to_owned());
        };
        if running.server.as_ref().is_some_and(|server| !service.servers.contains_key(server)) {
            return Some("the server is one no longer".to_owned());
        }
        let stop_at = service.policy.drill.stop_at;
        if let Some((_, Some(found))) = &running.found_by
            && let (requests, failed, _) = seen(found, &service.visitors.totals)
            && failed >= STOP_LEAST
            && failed as f64 > requests as f64 * stop_at
        {
            let share = failed as f64 / requests.max(1) as f64;
            return Some(format!(
                "{} of the requests failed after the first second, which is more than {} (stop-at)",
                percent(share),
                percent(stop_at)
            ));
        }
        let carries = |s: &crate::server::Server| s.eligible;
        if !service.servers.iter().any(|(id, s)| Some(id) != running.server.as_ref() && carries(s)) {
            return Some("nobody else was left".to_owned());
        }
        if let Some(freeze) = self.out.frozen() {
            return Some(freeze.to_string());
        }
        None
    }

    /// The process that was made to hang is another one now.
    fn is_mended(&self, running: &Running) -> bool {
        let service = self.services.get(&running.drill.service).zip(running.server.as_ref());
        let server = service.and_then(|(s, id)| s.servers.get(id));
        running.drill.fault == Fault::Hang
            && server.is_some_and(|s| s.process.pid.is_some() && s.process.pid != running.pid)
    }

    /// The fault is gone: everything has yet to be well again.
    fn follow(&mut self, since: Mono) {
        let now = self.out.now.mono;
        let Some(running) = &self.drills.running else { return };
        let incident = running.drill.incident;
        let open = self.open_of(running);
        let goes_on = open.is_some_and(|open| Some(open.incident().id) == incident);
        let stopped = !running.drill.why.is_empty();
        match incident {
            Some(_) if !goes_on && stopped => self.drill_is_over(DrillState::Stopped),
            Some(_) if !goes_on => self.drill_is_over(DrillState::Recovered),
            None if now >= since + UNNOTICED_AFTER && stopped => self.drill_is_over(DrillState::Stopped),
            None if now >= since + UNNOTICED_AFTER => self.drill_is_over(DrillState::Unnoticed),
            _ if now >= since + RECOVERS_WITHIN => self.drill_is_over(DrillState::NotRecovered),
            _ => {}
        }
    }

    /// Where the incident would be that it leads to.
    fn open_of(&self, running: &Running) -> Option<&Open> {
        match running.drill.fault.part() {
            Some(part) => self.own.get(&part)?.incident.as_ref(),
            None => self.services.get(&running.drill.service)?.incident.as_ref(),
        }
    }

    /// Finds the incident that it led to.
    fn note_incident(&mut self) {
        let Some(running) = self.drills.running.as_ref().filter(|r| r.drill.incident.is_none()) else {
            return;
        };
        let open = self.open_of(running);
        let is_its = |i: &Incident| i.drill.is_some_and(|of| of.drill == running.drill.id);
        let open = open.map(|open| open.incident()).filter(|incident| is_its(incident));
        let closed = || self.out.closed.iter().find(|incident| is_its(incident));
        let found = open.or_else(closed).map(|incident| incident.id);
        if let Some(running) = &mut self.drills.running {
            running.drill.incident = found;
        }
    }

    fn drill_is_over(&mut self, state: DrillState) {
        let Some(running) = self.drills.running.take() else { return };
        let mut drill = running.drill.clone();
        drill.state = state;
        drill.over_at = Some(self.out.now.wall);
        self.measure(&running, &mut drill);
        self.out.drilled = None;
        self.out.record(Record::Drill(drill.clone()));
        self.drills.keep(drill);
    }

    fn measure(&self, running: &Running, drill: &mut Drill) {
        let Some(service) = self.services.get(&running.drill.service) else { return };
        let open = self.open_of(running).into_iter().map(|open| open.incident());
        let mut all = open.chain(&self.out.closed);
        let incident = all.find(|incident| Some(incident.id) == drill.incident);
        let began = drill.began_at;
        let seen = seen(&running.before, &service.visitors.totals);
        drill.measured = Measured::of(began, incident.map(|incident| &**incident), seen);
    }

    /// An earlier run left this drill in its middle: the fault is undone by then, and what it led to is followed.
    pub(crate) fn take_up_drills(&mut self, drills: Vec<Drill>) {
        // Who is told of a past in the middle of its life keeps its own.
        if !drills.is_empty() {
            self.drills = Drills::restored(drills);
        }
        let unfinished: Vec<Arc<Drill>> =
            self.drills.known.iter().filter(|drill| !drill.state.is_over()).cloned().collect();
        self.drills.known.retain(|drill| drill.state.is_over());
        for drill in unfinished {
            let mut drill = Arc::unwrap_or_clone(drill);
            drill.state = DrillState::BrokenOff;
            drill.why = "Mainstay was restarted in its middle; the fault was undone".to_owned();
            drill.undone_at = drill.undone_at.or(Some(self.out.now.wall));
            drill.over_at = Some(self.out.now.wall);
            let mine = |i: &&Incident| i.drill.is_some_and(|of| of.drill == drill.id);
            let own = self.own.values().filter_map(|own| own.incident.as_ref());
            let open = self.services.values().filter_map(|s| s.incident.as_ref()).chain(own);
            let mut open = open.map(|open| &**open.incident());
            drill.incident = drill.incident.or_else(|| open.find(mine).map(|incident| incident.id));
            self.out.record(Record::Drill(drill.clone()));
            self.drills.keep(drill);
        }
    }
}

/// Requests that ended since, those of them that failed or were turned away, and those that were saved.
fn seen(before: &Totals, now: &Totals) -> (u64, u64, u64) {
    let bad = |t: &Totals| t.failed + t.server_errors + t.shed;
    (
        now.requests.saturating_sub(before.requests),
        bad(now).saturating_sub(bad(before)),
        now.saved.saturating_sub(before.saved),
    )
}
