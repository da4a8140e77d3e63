//! What the judge makes of monitors: who is due, who is down, and what people hear of it.
//!
//! Whatever comes in touches one monitor; what is due is found in an order by time, so ten thousand of them cost no more
//! than the one that is looked at. An incident is about one monitor, or about a crowd of them (see `storm`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::one::{Heard, Monitor};
use super::storm::{Commonest, Crowd, Found, Storm};
use super::{MonitorCounts, MonitorPolicy, MonitorSnapshot, MonitorState};
use crate::cause::{Cause, Diagnosis};
use crate::heartbeat::{HeartbeatRecord, Ping};
use crate::id::{IncidentId, MonitorId, ServiceId};
use crate::incident::{EntryKind, Incident, Scope, Severity};
use crate::incidents::restarted_text;
use crate::input::{ProbeFailure, ProbeReport};
use crate::needs::Needed;
use crate::open::{Beginning, Open};
use crate::out::Out;
use crate::snapshot::DoorSnapshot;
use crate::time::{Mono, Wall};
use crate::words::span;

/// From the opening of an incident to its first notice: others that fail for the same reason show within it.
pub(super) const GATHER: Duration = Duration::from_secs(2);
/// It must have been up for so long before its incident is over; it doubles each time it goes down again soon.
pub(super) const RESOLVE_AFTER: Duration = Duration::from_secs(10);
/// The longest such wait.
const RESOLVE_AFTER_MAX: Duration = Duration::from_secs(120);
/// Soon is within so long.
const RELAPSE_WITHIN: Duration = Duration::from_secs(3600);
/// When one begins to fail, so many others are looked at too: are they well?
const OTHERS: usize = 8;
/// They are within so long, and no oftener than this.
const OTHERS_WITHIN: Duration = Duration::from_secs(1);
const OTHERS_EVERY: Duration = Duration::from_secs(5);

/// All monitors.
#[derive(Debug, Default)]
pub(crate) struct Monitors {
    all: BTreeMap<MonitorId, Monitor>,
    /// When something is due about each of them; each is in here once.
    due: BTreeSet<(Mono, MonitorId)>,
    /// Where each of them stands in `due`.
    wakes: BTreeMap<MonitorId, Mono>,
    /// Those with an incident of their own.
    ill: BTreeSet<MonitorId>,
    crowd: Crowd,
    storm: Option<Storm>,
    counts: MonitorCounts,
    /// In the order of their names. Readers keep what they were given: a change copies it at most once between two readers.
    shown: Arc<Vec<Arc<MonitorSnapshot>>>,
    others_asked: Option<Mono>,
    /// The one that was last touched, for the invariants.
    touched: Option<MonitorId>,
    /// What an earlier run knew of jobs, until the first policy says which there are.
    remembered: BTreeMap<MonitorId, HeartbeatRecord>,
}

impl Monitors {
    /// The first config, or a changed one.
    pub(crate) fn on_policy(&mut self, policies: BTreeMap<MonitorId, MonitorPolicy>, out: &mut Out) {
        let gone: Vec<MonitorId> =
            self.all.keys().filter(|id| !policies.contains_key(*id)).cloned().collect();
        for id in &gone {
            self.remove(id, out);
        }
        for (id, policy) in policies {
            let policy = Arc::new(policy);
            match self.all.get_mut(&id) {
                Some(known) if *known.policy == *policy => continue,
                Some(known) => {
                    known.apply(&id, policy, out);
                    let groups = known.policy.on_call.clone();
                    if let Some(open) = &mut known.incident {
                        open.steps.set_groups(groups.as_deref());
                    }
                    self.crowd.forget(&id);
                }
                None => {
                    let mut monitor = Monitor::new(policy, out);
                    if let Some(record) = self.remembered.remove(&id) {
                        monitor.remember_job(record, out);
                    }
                    self.all.insert(id.clone(), monitor);
                }
            }
            if self.find_window(&id, out) && self.is_untold(&id) {
                self.open(&id, out);
            }
            self.settle(&id, out);
        }
        self.remembered.clear();
        self.show_all(out);
        let ill: Vec<MonitorId> = self.ill.iter().cloned().collect();
        ill.iter().for_each(|id| self.settle(id, out));
        self.tend_storm(out);
    }

    /// Other windows are open than before. What is still down when its window ends is told of now, together if it is many.
    pub(crate) fn on_windows(&mut self, out: &mut Out) {
        let ids: Vec<MonitorId> = self.all.keys().cloned().collect();
        let left: Vec<MonitorId> = ids.into_iter().filter(|id| self.find_window(id, out)).collect();
        for id in &left {
            let Some(monitor) = self.all.get(id).filter(|monitor| monitor.is_down()) else { continue };
            self.crowd.fails(id, &monitor.host, 1, out.now.mono);
            self.crowd.fails(id, &monitor.host, 2, out.now.mono);
        }
        if let Some(found) = self.crowd.found(out.now) {
            self.crowd_fails(&found, out);
        }
        for id in &left {
            let untold = self.is_untold(id);
            if untold {
                self.open(id, out);
                self.crowd.forget(id);
            }
            self.settle(id, out);
        }
        self.show_all(out);
        if self.storm.is_some() {
            self.tend_storm(out);
        }
    }

    /// It is down, and no incident says so.
    fn is_untold(&self, id: &MonitorId) -> bool {
        let told = self.storm.as_ref().is_some_and(|storm| storm.members.contains(id));
        !told && self.all.get(id).is_some_and(Monitor::is_untold)
    }

    /// Which window it is in; `true` when it came out of one.
    fn find_window(&mut self, id: &MonitorId, out: &Out) -> bool {
        let Some(monitor) = self.all.get_mut(id) else { return false };
        let window = out.windows.monitor(id, &monitor.policy);
        let left = monitor.window.is_some() && window.is_none();
        monitor.window = window;
        if monitor.window.is_some() {
            self.crowd.forget(id);
        }
        left
    }

    fn remove(&mut self, id: &MonitorId, out: &mut Out) {
        self.crowd.forget(id);
        if let Some(storm) = &mut self.storm {
            storm.leave(id, out.now.mono);
        }
        self.ill.remove(id);
        if let Some(at) = self.wakes.remove(id) {
            self.due.remove(&(at, id.clone()));
        }
        if let Some(open) = self.all.remove(id).and_then(|monitor| monitor.incident) {
            open.resolve(format!("monitor {id} left the config"), None, out);
        }
    }

    /// An incident that an earlier run left open.
    pub(crate) fn restore(&mut self, incident: Incident, last_alive: Option<Wall>, out: &mut Out) {
        let over = |incident, text: String, out: &mut Out| {
            Open::restored(incident, None, out).resolve(text, None, out);
        };
        let doubled = || "over: another incident goes on for it".to_owned();
        match incident.scope.clone() {
            Scope::Monitors if self.storm.is_none() && !self.all.is_empty() => {
                let mut storm = Storm::restored(incident, last_alive, out);
                // Nobody looks at jobs, so those that take part are not found again by themselves.
                let down = self.all.iter().filter(|(_, monitor)| monitor.is_job() && monitor.is_untold());
                down.for_each(|(id, monitor)| storm.join(id, monitor.last_failure.as_ref(), out.now.mono));
                self.storm = Some(storm);
                self.tend_storm(out);
            }
            Scope::Monitors => over(incident, doubled(), out),
            Scope::Monitor(id) => match self.all.get_mut(&id) {
                Some(monitor) if monitor.incident.is_none() => {
                    // Of a job more is known than that it was down a moment ago.
                    if !monitor.is_job() {
                        monitor.was_down(incident.began_at);
                    }
                    let mut open = Open::restored(incident, None, out);
                    open.steps.set_groups(monitor.policy.on_call.as_deref());
                    open.entry(EntryKind::Own, None, None, restarted_text(last_alive, out), out);
                    monitor.incident = Some(open);
                    self.ill.insert(id.clone());
                    self.settle(&id, out);
                    self.show(&id, out);
                }
                Some(_) => over(incident, doubled(), out),
                None => over(incident, format!("monitor {id} left the config"), out),
            },
            _ => {}
        }
    }

    /// What an earlier run knew of jobs.
    pub(crate) fn on_restored(&mut self, jobs: Vec<HeartbeatRecord>) {
        self.remembered = jobs.into_iter().map(|record| (record.monitor.clone(), record)).collect();
    }

    /// All that an earlier run left is taken up: a job that is down and has no incident gets one.
    pub(crate) fn taken_up(&mut self, out: &mut Out) {
        let untold = |(id, monitor): (&MonitorId, &Monitor)| {
            let told = self.storm.as_ref().is_some_and(|storm| storm.members.contains(id));
            (monitor.is_job() && monitor.is_untold() && !told).then(|| id.clone())
        };
        let untold: Vec<MonitorId> = self.all.iter().filter_map(untold).collect();
        for id in &untold {
            self.open(id, out);
            self.settle(id, out);
            self.show(id, out);
        }
    }

    /// Jobs ping.
    pub(crate) fn on_pings(&mut self, pings: &[Ping], out: &mut Out) {
        let mut touched: BTreeSet<&MonitorId> = BTreeSet::new();
        for ping in pings {
            let id = &ping.monitor;
            let Some(monitor) = self.all.get_mut(id).filter(|monitor| monitor.is_job()) else { continue };
            let was_down = monitor.is_down();
            let heard = monitor.pinged(id, ping, out);
            self.weigh(id, was_down, heard, out);
            touched.insert(id);
        }
        for id in touched {
            self.settle(id, out);
            self.show(id, out);
            if let Some(monitor) = self.all.get(id) {
                monitor.record_job(id, out);
            }
        }
        if self.storm.is_some() {
            self.tend_storm(out);
        }
    }

    /// The calendar says when a job is next to ping.
    pub(crate) fn on_occurs(&mut self, id: &MonitorId, at: Option<Wall>, out: &mut Out) {
        let Some(monitor) = self.all.get_mut(id) else { return };
        monitor.occurs(at, out);
        monitor.record_job(id, out);
        self.settle(id, out);
        self.show(id, out);
    }

    /// A job's ping, or the end of its run, is due.
    fn job_is_due(&mut self, id: &MonitorId, out: &mut Out) {
        let Some(monitor) = self.all.get_mut(id) else { return };
        let was_down = monitor.is_down();
        let heard = monitor.watch(id, out);
        self.weigh(id, was_down, heard, out);
        self.settle(id, out);
        self.show(id, out);
        if heard != Heard::Nothing
            && let Some(monitor) = self.all.get(id)
        {
            monitor.record_job(id, out);
        }
    }

    /// Does what is due.
    pub(crate) fn tend(&mut self, out: &mut Out) {
        let now = out.now.mono;
        while let Some((_, id)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            if self.all.get(&id).is_some_and(Monitor::is_job) {
                self.job_is_due(&id, out);
                continue;
            }
            let given_up = self.all.get_mut(&id).is_some_and(|monitor| monitor.look(&id, out));
            self.settle(&id, out);
            if given_up {
                self.show(&id, out);
            }
        }
        if self.storm.as_ref().and_then(Storm::next_due).is_some_and(|due| due <= now) {
            self.tend_storm(out);
        }
    }

    /// A probe has its answer.
    pub(crate) fn on_probe(&mut self, id: &MonitorId, report: &ProbeReport, out: &mut Out) {
        let Some(monitor) = self.all.get_mut(id) else { return };
        let was_down = monitor.is_down();
        let heard = monitor.heard(id, report, out);
        self.weigh(id, was_down, heard, out);
        self.settle(id, out);
        self.show(id, out);
        if self.storm.is_some() {
            self.tend_storm(out);
        }
    }

    /// What a look, or a ping, means for incidents.
    fn weigh(&mut self, id: &MonitorId, was_down: bool, heard: Heard, out: &mut Out) {
        let now = out.now;
        let Some(monitor) = self.all.get_mut(id) else { return };
        match heard {
            Heard::Nothing => {}
            Heard::Failed(_) if monitor.window.is_some() => {}
            Heard::Failed(times) if !was_down || self.crowd.has(id) => {
                if monitor.is_job() {
                    self.crowd.fails(id, &monitor.host, 1, now.mono);
                }
                self.crowd.fails(id, &monitor.host, times, now.mono);
            }
            Heard::Good | Heard::Failed(_) => self.crowd.is_settled(id, now.mono),
        }
        match (was_down, monitor.is_down()) {
            (false, true) => self.went_down(id, out),
            (true, false) => self.came_back(id, out),
            _ => {}
        }
        if let Heard::Failed(times) = heard {
            if let Some(found) = self.crowd.found(now) {
                self.crowd_fails(&found, out);
            } else if times == 1 && !was_down && self.all.get(id).is_some_and(|m| m.window.is_none()) {
                self.look_at_others(id, out);
            }
        } else if heard == Heard::Good {
            let well = self.all.get(id).is_some_and(Monitor::is_well);
            if let Some(storm) = self.storm.as_mut().filter(|_| well) {
                storm.leave(id, now.mono);
            }
        }
    }

    /// It is down now: part of the crowd, or an incident of its own.
    fn went_down(&mut self, id: &MonitorId, out: &mut Out) {
        let now = out.now.mono;
        let Some(monitor) = self.all.get_mut(id) else { return };
        let again = monitor.down_at.is_some_and(|at| now.since(at) < RELAPSE_WITHIN);
        monitor.relapses = if again { monitor.relapses.saturating_add(1) } else { 0 };
        monitor.down_at = Some(now);
        if monitor.incident.is_some() || monitor.window.is_some() {
            return;
        }
        let since = monitor.failing_since.map_or(now, |since| since.mono);
        if let Some(storm) = &mut self.storm {
            if storm.members.contains(id) || storm.takes(since, monitor.policy.interval) {
                storm.join(id, monitor.last_failure.as_ref(), now);
                self.crowd.forget(id);
                return;
            }
        } else if self.crowd.found(out.now).is_some() {
            // It is opened for all of them in a moment.
            return;
        }
        self.open(id, out);
    }

    fn open(&mut self, id: &MonitorId, out: &mut Out) {
        let Some(monitor) = self.all.get_mut(id) else { return };
        let failure = monitor.last_failure.clone();
        let text = failure.as_ref().map_or_else(|| "its probes fail".to_owned(), ToString::to_string);
        // Of a job it is a whole sentence.
        let title = match &monitor.policy.front_of {
            _ if monitor.is_job() => text.clone(),
            Some(service) => format!("visitors at the front door of {service} are not served: it {text}"),
            None => format!("{id} is down: {text}"),
        };
        let beginning = Beginning {
            began_at: monitor.failing_since.map(|since| since.wall),
            signs: monitor.take_signs(),
            ..Beginning::of(Scope::Monitor(id.clone()), title)
        };
        let mut open = Open::begin(beginning, None, out);
        open.edit().severity = Severity::Down;
        open.told.opened_due = Some(out.now.mono + GATHER);
        open.steps.set_groups(monitor.policy.on_call.as_deref());
        if let Some(failure) = &failure {
            let evidence = match monitor.is_job() {
                true => vec![text],
                false => vec![format!("{}: {text}", monitor.policy.target)],
            };
            open.diagnose(Diagnosis::likely(cause_of(failure), evidence), out);
        }
        monitor.incident = Some(open);
        self.ill.insert(id.clone());
    }

    fn came_back(&mut self, id: &MonitorId, out: &mut Out) {
        let Some(monitor) = self.all.get_mut(id) else { return };
        let how = if monitor.is_job() { "pings again, and is well" } else { "answers well again" };
        if let Some(open) = &mut monitor.incident {
            open.entry(EntryKind::ProbeGood, None, None, format!("{id} {how}"), out);
        }
        if let Some(storm) = &mut self.storm {
            storm.leave(id, out.now.mono);
        }
    }

    /// Many fail together: one incident for all of them, and for those that were told of a moment ago too.
    fn crowd_fails(&mut self, found: &Found, out: &mut Out) {
        let now = out.now.mono;
        let failures: Vec<&ProbeFailure> =
            found.members.iter().filter_map(|id| self.all.get(id)?.last_failure.as_ref()).collect();
        let Some(commonest) = Commonest::of(&failures, found.hosts) else { return };
        let all = self.all.len();
        let storm = self.storm.get_or_insert_with(|| Storm::begin(found, all, &commonest, out));
        storm.swells(found);
        let number = storm.id();
        for id in &found.members {
            let Some(monitor) = self.all.get_mut(id) else { continue };
            storm.join(id, monitor.last_failure.as_ref(), now);
            self.crowd.forget(id);
            if let Some(open) = monitor.incident.take() {
                open.merge(format!("over: it fails together with others; incident {number} goes on"), out);
                self.ill.remove(id);
            }
        }
        let members = found.members.clone();
        members.iter().for_each(|id| {
            self.settle(id, out);
            self.show(id, out);
        });
    }

    /// One begins to fail: whether others are well tells whether it is its own fault.
    fn look_at_others(&mut self, id: &MonitorId, out: &mut Out) {
        let now = out.now.mono;
        let early = self.others_asked.is_some_and(|at| now.since(at) < OTHERS_EVERY);
        if early || self.storm.is_some() || self.shown.len() < 2 {
            return;
        }
        self.others_asked = Some(now);
        let shown = Arc::clone(&self.shown);
        let from = (out.rng.unit() * shown.len() as f64) as usize;
        for other in shown.iter().cycle().skip(from).take(OTHERS.min(shown.len())) {
            let Some(monitor) = self.all.get_mut(&other.id).filter(|_| other.id != *id) else { continue };
            if monitor.look_soon(OTHERS_WITHIN, out) {
                self.wake(&other.id);
            }
        }
    }

    fn tend_storm(&mut self, out: &mut Out) {
        let Some(mut storm) = self.storm.take() else { return };
        if storm.has_other_members(out.now.mono) {
            let groups = self.groups_of(&storm);
            storm.open.steps.set_groups(groups.as_deref());
        }
        if storm.is_stuck(out.now.mono) {
            let members = std::mem::take(&mut storm.members);
            let text = format!("over: all but {} are up again; those go on by themselves", members.len());
            storm.over(Some(text), out);
            for id in &members {
                // What is in a window is told of when that ends.
                if self.all.get(id).is_some_and(|monitor| monitor.window.is_none()) {
                    self.open(id, out);
                }
                self.settle(id, out);
                self.show(id, out);
            }
            return;
        }
        if storm.tend(self.all.len(), out) {
            self.storm = Some(storm);
        } else {
            storm.over(None, out);
        }
    }

    /// Whoever hears of one of them hears of all.
    fn groups_of(&self, storm: &Storm) -> Option<Vec<Arc<str>>> {
        let mut groups: BTreeSet<Arc<str>> = BTreeSet::new();
        for id in &storm.members {
            groups.extend(self.all.get(id)?.policy.on_call.clone()?);
        }
        (!groups.is_empty()).then(|| groups.into_iter().collect())
    }

    /// Tends one monitor's incident and puts it in its place in the order of time.
    fn settle(&mut self, id: &MonitorId, out: &mut Out) {
        if let Some(monitor) = self.all.get_mut(id)
            && tend_incident(monitor, out)
        {
            self.ill.remove(id);
            self.show(id, out);
        }
        self.wake(id);
        self.touched = Some(id.clone());
    }

    fn wake(&mut self, id: &MonitorId) {
        let Some(monitor) = self.all.get(id) else { return };
        let incident = monitor.incident.as_ref().and_then(|open| incident_due(monitor, open));
        let at = incident.map_or(monitor.due(), |due| due.min(monitor.due()));
        match self.wakes.insert(id.clone(), at) {
            Some(before) if before == at => {}
            before => {
                if let Some(before) = before {
                    self.due.remove(&(before, id.clone()));
                }
                self.due.insert((at, id.clone()));
            }
        }
    }

    /// When something is next to be done.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        let first = self.due.first().map(|(at, _)| *at);
        first.into_iter().chain(self.storm.as_ref().and_then(Storm::next_due)).min()
    }

    /// What it needs, as the config says.
    pub(crate) fn needs(&self, id: &MonitorId) -> Option<&[Needed]> {
        Some(&self.all.get(id)?.policy.needs)
    }

    /// The incident that it is a part of while it is down, since when it fails, and how often it is looked at.
    pub(crate) fn failing(&self, id: &MonitorId) -> Option<(&Open, Option<Mono>, Duration)> {
        let monitor = self.all.get(id).filter(|monitor| monitor.is_down())?;
        let storm = self.storm.as_ref().filter(|storm| storm.members.contains(id)).map(|storm| &storm.open);
        let open = monitor.incident.as_ref().or(storm)?;
        Some((open, monitor.failing_since.map(|since| since.mono), self.look_every(id)?))
    }

    /// The other machine that it is on, if its address is known.
    pub(crate) fn far_ip(&self, id: &MonitorId) -> Option<IpAddr> {
        self.all.get(id)?.policy.address.far_ip()
    }

    /// It is down, and nothing comes back from it.
    pub(crate) fn is_silent(&self, id: &MonitorId) -> bool {
        self.all.get(id).is_some_and(|monitor| {
            monitor.is_down() && monitor.last_failure.as_ref().is_some_and(ProbeFailure::is_nothing_back)
        })
    }

    /// Nothing came back when it was last looked at, whether it is down already or not.
    pub(crate) fn was_silent(&self, id: &MonitorId) -> bool {
        self.all.get(id).is_some_and(|monitor| {
            let silent = monitor.last_failure.as_ref().is_some_and(ProbeFailure::is_nothing_back);
            monitor.failed_in_row > 0 && silent
        })
    }

    /// Those that are silent, with an incident of their own. Many that fail at once have one already.
    pub(crate) fn silent_by_themselves(&self) -> impl Iterator<Item = &MonitorId> {
        let ill = self.ill.iter().filter(|_| self.storm.is_none());
        ill.filter(|id| self.own_incident(id).is_some() && self.is_silent(id))
    }

    /// How Mainstay's own doors are, by the services that are behind them.
    pub(crate) fn doors(&self) -> BTreeMap<ServiceId, DoorSnapshot> {
        let doors = self.all.values().filter_map(|monitor| {
            let door =
                DoorSnapshot { state: monitor.state, since: monitor.since, last: monitor.last.clone() };
            Some((monitor.policy.front_of.clone()?, door))
        });
        doors.collect()
    }

    /// Who hears of it; `None`: everybody.
    pub(crate) fn on_call(&self, id: &MonitorId) -> Option<&Vec<Arc<str>>> {
        self.all.get(id)?.policy.on_call.as_ref()
    }

    /// It was not looked at since then, or has begun to fail.
    pub(crate) fn is_undecided(&self, id: &MonitorId, since: Mono) -> bool {
        self.all.get(id).is_some_and(|monitor| {
            let looked = monitor.looked_at.is_some_and(|at| at >= since);
            !monitor.is_job() && !monitor.is_down() && (!looked || monitor.failing_since.is_some())
        })
    }

    /// Between two looks at it; nobody looks at a job.
    pub(crate) fn look_every(&self, id: &MonitorId) -> Option<Duration> {
        let monitor = self.all.get(id)?;
        Some(if monitor.is_job() { Duration::ZERO } else { monitor.policy.interval })
    }

    /// It is looked at though it is not its turn.
    pub(crate) fn look_soon(&mut self, id: &MonitorId, within: Duration, out: &mut Out) {
        if self.all.get_mut(id).is_some_and(|monitor| monitor.look_soon(within, out)) {
            self.wake(id);
        }
    }

    /// Its own incident, if it has one.
    pub(crate) fn own_incident(&self, id: &MonitorId) -> Option<&Open> {
        self.all.get(id)?.incident.as_ref()
    }

    /// Its incident is told of at another time, or not at all.
    pub(crate) fn settle_again(&mut self, id: &MonitorId, out: &mut Out) {
        self.settle(id, out);
        self.show(id, out);
    }

    pub(crate) fn incidents(&self) -> impl Iterator<Item = &Open> {
        let own = self.ill.iter().filter_map(|id| self.all.get(id)?.incident.as_ref());
        own.chain(self.storm.as_ref().map(|storm| &storm.open))
    }

    pub(crate) fn incidents_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        let own = self.all.values_mut().filter_map(|monitor| monitor.incident.as_mut());
        own.chain(self.storm.as_mut().map(|storm| &mut storm.open))
    }

    /// Those of them that need something, or whose incident was found to have to do with another one.
    pub(crate) fn ill_with_needs(&self) -> impl Iterator<Item = Needed> {
        let need = |id: &&MonitorId| {
            let tied = |open: &Open| open.is_tied();
            let one = self.all.get(*id);
            one.is_some_and(|one| !one.policy.needs.is_empty() || one.incident.as_ref().is_some_and(tied))
        };
        self.ill.iter().filter(need).cloned().map(Needed::Monitor)
    }

    /// One of them, found among those that fail: they are few, and all monitors may be ten thousand.
    pub(crate) fn incident(&mut self, number: IncidentId) -> Option<&mut Open> {
        let is_it = |open: &Open| open.incident().id == number;
        let of = |id: &&MonitorId| self.all.get(*id).and_then(|one| one.incident.as_ref()).is_some_and(is_it);
        match self.ill.iter().find(of) {
            Some(id) => self.all.get_mut(id)?.incident.as_mut(),
            None => self.storm.as_mut().map(|storm| &mut storm.open).filter(|open| is_it(open)),
        }
    }

    /// A person did something about an incident of theirs.
    pub(crate) fn was_edited(&mut self, scope: &Scope, out: &mut Out) {
        match scope {
            Scope::Monitor(id) => self.settle(id, out),
            Scope::Monitors => self.tend_storm(out),
            _ => {}
        }
    }

    pub(crate) fn shown(&self) -> Arc<Vec<Arc<MonitorSnapshot>>> {
        Arc::clone(&self.shown)
    }

    pub(crate) fn counts(&self) -> MonitorCounts {
        self.counts
    }

    /// What is shown of one is brought up to date.
    fn show(&mut self, id: &MonitorId, out: &Out) {
        let Some(monitor) = self.all.get(id) else { return };
        let Ok(place) = self.shown.binary_search_by(|shown| shown.id.cmp(id)) else { return };
        let now = Arc::new(monitor.present(id, self.storm_of(id), out.now));
        let (before, after) = (self.shown[place].state, now.state);
        if before != after {
            *self.counts.of(before) -= 1;
            *self.counts.of(after) += 1;
        }
        Arc::make_mut(&mut self.shown)[place] = now;
    }

    fn show_all(&mut self, out: &Out) {
        let all: Vec<_> = self
            .all
            .iter()
            .map(|(id, monitor)| Arc::new(monitor.present(id, self.storm_of(id), out.now)))
            .collect();
        self.counts = MonitorCounts::default();
        all.iter().for_each(|shown| *self.counts.of(shown.state) += 1);
        self.shown = Arc::new(all);
    }

    fn storm_of(&self, id: &MonitorId) -> Option<IncidentId> {
        self.storm.as_ref().filter(|storm| storm.members.contains(id)).map(Storm::id)
    }

    /// What must hold, of all of them, or only of the one that was last touched: the others have not changed.
    pub(crate) fn check(&self, all: bool) -> Result<(), (String, String)> {
        let broken = |what: &str, id: &dyn std::fmt::Display| Err((what.to_owned(), format!("monitor {id}")));
        let sum = self.counts.total() as usize;
        if [self.due.len(), self.wakes.len(), self.shown.len(), sum] != [self.all.len(); 4] {
            return broken("one is nowhere in the order, or is shown twice", &"s");
        }
        if all && !self.crowd.is_consistent() {
            return broken("a crowd is counted wrongly", &"s");
        }
        let touched = self.touched.iter().filter_map(|id| self.all.get_key_value(id));
        let looked_at: Vec<(&MonitorId, &Monitor)> = match all {
            true => self.all.iter().collect(),
            false => touched.collect(),
        };
        for (id, monitor) in looked_at {
            if self.ill.contains(id) != monitor.incident.is_some() {
                return broken("its incident is not among those that are open", id);
            }
            let in_storm = self.storm.as_ref().is_some_and(|storm| storm.members.contains(id));
            if in_storm && monitor.incident.is_some() {
                return broken("has an incident of its own and takes part in another", id);
            }
            if monitor.is_down() && !in_storm && monitor.incident.is_none() && monitor.window.is_none() {
                return broken("is down, and no incident says so", id);
            }
            if !self.wakes.get(id).is_some_and(|at| self.due.contains(&(*at, id.clone()))) {
                return broken("is never looked at again", id);
            }
            if !monitor.is_within_limits() {
                return broken("something grew over its limit", id);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn state(&self, id: &MonitorId) -> MonitorState {
        self.all[id].state
    }
}

/// Closes or tells, as it now stands; `true` when its incident is over.
fn tend_incident(monitor: &mut Monitor, out: &mut Out) -> bool {
    let now = out.now.mono;
    let Some(mut open) = monitor.incident.take() else { return false };
    let well = matches!(monitor.state, MonitorState::Up | MonitorState::Degraded);
    open.set_quiet(well && monitor.failing_since.is_none(), out.now);
    let wait = resolve_after(monitor);
    if open.quiet_since.is_some_and(|since| now >= since + wait) {
        open.resolve(format!("over: up for {}", span(wait)), None, out);
        return true;
    }
    let advice = advice(monitor);
    if open.told.due().is_some_and(|due| now >= due) {
        open.tell_opened(advice.clone(), out);
    }
    open.escalate(&advice, out);
    open.write_down(out, false);
    monitor.incident = Some(open);
    false
}

fn incident_due(monitor: &Monitor, open: &Open) -> Option<Mono> {
    let quiet = open.quiet_since.map(|since| since + resolve_after(monitor));
    [quiet, open.told.due(), open.steps.due(), open.write_due()].into_iter().flatten().min()
}

/// One that goes up and down has one incident for all of it.
fn resolve_after(monitor: &Monitor) -> Duration {
    RESOLVE_AFTER.saturating_mul(1 << monitor.relapses.min(10)).min(RESOLVE_AFTER_MAX)
}

/// What a person should do.
fn advice(monitor: &Monitor) -> String {
    let target = &monitor.policy.target;
    match monitor.last_failure.as_ref().map(cause_of) {
        Some(Cause::Dns) => {
            format!("Look at what DNS says of {}: nobody who asks now finds it", monitor.host)
        }
        Some(Cause::Certificate) => format!("Have the certificate of {target} renewed or corrected"),
        _ if monitor.is_job() => {
            "Look at the job where it runs: whether it was started at all, and what its log says; \
                                  Mainstay only waits for its ping"
                .to_owned()
        }
        _ => format!("Look at {target}: Mainstay only watches it and cannot mend it"),
    }
}

/// What a failing probe points at.
pub(super) fn cause_of(failure: &ProbeFailure) -> Cause {
    match failure {
        ProbeFailure::Name(_) | ProbeFailure::Unresolved(_) => Cause::Dns,
        ProbeFailure::Certificate(_) => Cause::Certificate,
        ProbeFailure::Unreachable(_) | ProbeFailure::ConnectTimeout => Cause::Network,
        ProbeFailure::Refused
        | ProbeFailure::NoSocket(_)
        | ProbeFailure::AnswerTimeout
        | ProbeFailure::Silent(_)
        | ProbeFailure::Failed(_) => Cause::Crash,
        // It answers over the other one.
        ProbeFailure::Over(_, failure) => match cause_of(failure) {
            Cause::Crash => Cause::Network,
            cause => cause,
        },
        // It lives and answers wrongly; why, only those know who run it.
        ProbeFailure::Reset
        | ProbeFailure::BrokenOff(_)
        | ProbeFailure::Tls(_)
        | ProbeFailure::Malformed(_)
        | ProbeFailure::Status(_)
        | ProbeFailure::Answer(_)
        | ProbeFailure::Missed(_)
        | ProbeFailure::NotProbed(_) => Cause::Unknown,
    }
}
