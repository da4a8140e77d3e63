//! The four verbs: what comes in is handed to the service it is about, and what the services decided goes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::backup::Backups;
use crate::carried::Carried;
use crate::change::{ChangeKind, Changes, difference};
use crate::departure::Departures;
use crate::drill::Drills;
use crate::effect::{Effect, Record};
use crate::escalation::OnCall;
use crate::gone::Gone;
use crate::host::MachinePolicy;
use crate::host::judge::{Host, HostView};
use crate::id::{ActionId, IncidentId, MachineId, ProbeTarget, ServerId, ServiceId};
use crate::impact::Tally;
use crate::incident::{EntryKind, Incident, IncidentState, Scope};
use crate::incidents::Own;
use crate::input::{AdminState, Input, MessageReport, OwnPart, Restored, SourceTraffic, TrafficReport};
use crate::memory::Memory;
use crate::monitor::judge::Monitors;
use crate::needs::Needs;
use crate::open::Open;
use crate::out::Out;
use crate::policy::{Policy, ServerPolicy, ServicePolicy};
use crate::proposal::Proposals;
use crate::publication::Known;
use crate::rng::Rng;
use crate::routing::{LiveTable, RoutedService, RoutingTable};
use crate::sample::Sample;
use crate::server::{Origin, Server};
use crate::service::Service;
use crate::sight::Sight;
use crate::time::{Mono, Now};
use crate::window::Windows;

/// A timer that is called so much too late was not late by chance.
const LATE: Duration = Duration::from_millis(100);

/// The judge. See the crate's documentation.
#[derive(Debug)]
pub struct Model {
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) own: BTreeMap<OwnPart, Own>,
    pub(crate) host: Host,
    pub(crate) machines: BTreeMap<MachineId, Host>,
    pub(crate) backups: Backups,
    pub(crate) monitors: Monitors,
    pub(crate) needs: Needs,
    pub(crate) gone: Gone,
    pub(crate) drills: Drills,
    pub(crate) out: Out,
    pub(crate) publications: Known,
    /// What an earlier run left, until the first policy says which servers there are.
    restored: Option<Restored>,
    /// Nothing but what an earlier run left has come in yet.
    untouched: bool,
    pub(crate) table: Option<Arc<RoutingTable>>,
    pub(crate) live: Arc<LiveTable>,
    /// What clients did that was refused, by the name of the refusal, since this run began.
    pub(crate) refusals: BTreeMap<String, u64>,
}

impl Model {
    /// A judge who knows nothing yet: hand it [`Input::Restored`] (if there is a record), then [`Input::Policy`].
    pub fn new(seed: u64, now: Now) -> Self {
        let out = Out {
            now,
            rng: Rng::new(seed),
            people: false,
            on_call: OnCall::default(),
            effects: VecDeque::new(),
            last_incident: 0,
            last_action: 0,
            host: HostView::default(),
            machines: BTreeMap::new(),
            changes: Changes::default(),
            sight: Sight::default(),
            windows: Windows::default(),
            freeze: None,
            drilled: None,
            fleet: crate::recovery::Fleet::default(),
            proposals: Proposals::default(),
            memory: Memory::default(),
            closed: VecDeque::new(),
            departures: Departures::default(),
        };
        Self {
            services: BTreeMap::new(),
            own: BTreeMap::new(),
            host: Host::default(),
            machines: BTreeMap::new(),
            backups: Backups::default(),
            monitors: Monitors::default(),
            needs: Needs::default(),
            gone: Gone::default(),
            drills: Drills::default(),
            out,
            publications: Known::default(),
            restored: None,
            untouched: true,
            table: None,
            live: Arc::default(),
            refusals: BTreeMap::new(),
        }
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.set_now(now);
        // An input may overtake a timer that is due; what was due came first.
        self.tend_windows();
        self.tend_freeze();
        self.catch_up();
        let untouched = std::mem::take(&mut self.untouched);
        match input {
            Input::Restored(restored) if untouched => self.on_restored(restored),
            // Later it would overwrite what is known better.
            Input::Restored(_) => {}
            Input::Policy(policy) => self.on_policy(policy),
            Input::Address { server, address } => {
                self.with(&server.service, |s, out| s.on_address(&server, address, out));
            }
            Input::Probe(report) => match &report.target {
                ProbeTarget::Server(id) => {
                    self.with(&id.service, |s, out| s.on_probe(id, &report, out));
                }
                ProbeTarget::Monitor(id) => self.monitors.on_probe(id, &report, &mut self.out),
            },
            Input::Answered(sample) => {
                let service = sample.server.service.clone();
                self.with(&service, |s, out| s.on_sample(sample, out));
            }
            Input::Pings(pings) => self.monitors.on_pings(&pings, &mut self.out),
            Input::Occurs { monitor, at } => self.monitors.on_occurs(&monitor, at, &mut self.out),
            Input::Failure(failure) => {
                self.with(&failure.server.service, |s, out| s.on_failure(&failure, out));
            }
            Input::Traffic(report) => self.on_traffic(&report),
            Input::Process { server, event } => {
                self.out.departures_process(&server, &event);
                self.with(&server.service, |s, out| s.on_process(&server, &event, out));
            }
            Input::Acting { action } => self.on_acting(action),
            Input::Outcome { action, result } => self.on_outcome(action, &result),
            Input::Captured { server, text, lines, threads } => {
                let sample = if threads { Sample::seen(&lines) } else { Sample::written(&lines) };
                self.with(&server.service, |s, out| s.on_captured(&server, &text, sample, out));
            }
            Input::LookedInto { action, server, found } => {
                self.with(&server.service, |s, out| s.on_looked_into(action, &server, &found, out));
            }
            Input::Admin { server, state, by } => {
                self.with(&server.service, |s, out| s.on_admin(&server, state, &by, out));
            }
            Input::Release { service, order, by } => {
                self.with(&service, |s, out| s.on_release_order(&order, &by, out));
            }
            Input::Switch { service, back, fenced, by } => {
                self.with(&service, |s, out| s.on_switch_order(back, fenced, &by, out));
            }
            Input::Switched { service, action, result, output } => {
                self.with(&service, |s, out| s.on_switched(action, &result, &output, out));
            }
            Input::Provided { service, action, provided } => {
                self.with(&service, |s, out| s.on_provided(action, provided, out));
            }
            Input::Acknowledge { incident, by } => self.on_acknowledge(incident, &by),
            Input::Changed(change) => self.on_change(change),
            Input::Occurrences(occurrences) => self.out.windows.on_occurrences(occurrences),
            Input::OpenWindow(window) => {
                let record = self.out.windows.open_by_hand(window);
                record.into_iter().for_each(|record| self.out.record(record));
            }
            Input::EndWindow { id } => {
                let record = self.out.windows.end(&id, self.out.now.wall);
                record.into_iter().for_each(|record| self.out.record(record));
            }
            Input::Freeze(freeze) => self.on_freeze(freeze),
            Input::Decide { proposal, approved, by } => self.on_decide(proposal, approved, &by),
            Input::Drill(order) => self.on_drill(&order),
            Input::StopDrill { by } => self.on_stop_drill(&by),
            Input::Injected { drill, result } => self.on_injected(drill, &result),
            Input::Message(report) => self.on_message(&report),
            Input::Publish { incident, change, by } => self.on_publish(incident, &change, &by),
            Input::Backup(outcome) => {
                self.backups.on_outcome(outcome, &mut self.out);
                self.backups.tend(&mut self.out);
            }
            Input::AskBackup { backup, task } => {
                self.backups.on_ask(&backup, task);
                self.backups.tend(&mut self.out);
            }
            Input::Own { part, trouble } => {
                let own = self.own.entry(part).or_default();
                own.on_trouble(Scope::Own(part), trouble.as_deref(), &mut self.out);
                own.tend(&mut self.out);
            }
            Input::Host(report) => {
                let strained = self.is_strained();
                self.host.on_report(&report, strained, &mut self.out);
                self.look_at_open_incidents();
            }
            Input::Machine { machine, report } => {
                let strained = self.is_strained();
                if let Some(host) = self.machines.get_mut(&machine) {
                    host.on_news(&report, strained, &mut self.out);
                    self.look_at_open_incidents();
                }
            }
            Input::Sight(report) => self.on_sight(&report),
            Input::Inspected(findings) => self.host.on_findings(&findings, &mut self.out),
            Input::Front(report) => self.with(&report.service, |s, out| s.on_front(&report, out)),
            Input::LookedUp(report) => self.with(&report.service, |s, out| s.on_looked_up(&report, out)),
            Input::DnsUpdated(report) => self.with(&report.service, |s, out| s.on_dns_updated(&report, out)),
        }
        self.tend_windows();
        self.finish();
    }

    /// Does what is due. A call too early is a no-op.
    pub fn handle_timeout(&mut self, now: Now) {
        self.set_now(now);
        let moved = self.tend_windows() | self.tend_freeze();
        if self.catch_up() || moved {
            self.finish();
        }
    }

    /// When [`Model::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let services = self.services.values().filter_map(|s| s.wake);
        let own = self.own.values().filter_map(Own::next_due);
        let backups = self.backups.next_due(self.out.now);
        let others = self
            .host
            .next_due()
            .into_iter()
            .chain(self.machines.values().filter_map(Host::next_due))
            .chain(backups)
            .chain(self.monitors.next_due())
            .chain(self.needs.due)
            .chain(self.gone.next_due())
            .chain(self.windows_due())
            .chain(self.freeze_due())
            .chain(self.drill_due());
        services.chain(own).chain(self.out.departures.next_due()).chain(others).chain(self.sight_due()).min()
    }

    /// What the Mainstay that goes on is to be told, beside what is in the record.
    pub fn carry(&self, now: Now) -> Carried {
        Carried::of(self.services.values().flat_map(|service| &service.servers), now)
    }

    /// The next thing to be done; drained until `None` after each of the handling verbs.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// A clock that stood still or went back would make durations negative; the wall clock may do as it likes.
    fn set_now(&mut self, now: Now) {
        self.out.now = Now { mono: self.out.now.mono.max(now.mono), wall: now.wall };
    }

    /// Does what is due; `false` when nothing was.
    fn catch_up(&mut self) -> bool {
        let now = self.out.now.mono;
        let Some(due) = self.poll_timeout().filter(|due| *due <= now) else { return false };
        if now.since(due) >= LATE {
            // Whoever should have called got no processor time; so did the probes.
            self.out.host.was_late(now.since(due), now);
        }
        let due: Vec<ServiceId> = self
            .services
            .values()
            .filter(|s| s.wake.is_some_and(|at| at <= now))
            .map(|s| s.id.clone())
            .collect();
        for id in due {
            self.with(&id, |_, _| {});
        }
        for own in self.own.values_mut() {
            own.tend(&mut self.out);
        }
        self.host.tend(&mut self.out);
        self.machines.values_mut().for_each(|host| host.tend(&mut self.out));
        self.backups.tend(&mut self.out);
        self.monitors.tend(&mut self.out);
        self.out.tend_departures();
        self.give_up_stops();
        true
    }

    /// Lets one service take something in, and thinks it through.
    pub(crate) fn with(&mut self, id: &ServiceId, take_in: impl FnOnce(&mut Service, &mut Out)) {
        if let Some(service) = self.services.get_mut(id) {
            take_in(service, &mut self.out);
            service.settle(&mut self.out);
        }
    }

    fn finish(&mut self) {
        self.count_the_fleet();
        self.tend_sight();
        self.tend_gone();
        self.tend_needs();
        self.tend_drill();
        let processes = self.services.values().flat_map(|service| &service.servers);
        let pids = processes.filter_map(|(id, server)| Some((id.clone(), server.process.pid?)));
        self.host.watch(pids, &mut self.out);
        self.publish();
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// What names are to say, and only if it is something new.
    fn publish_live(&mut self) {
        let live = self.services.values().filter_map(|s| s.front.live.as_ref());
        if !self.live.services.iter().eq(live.clone()) {
            let table = Arc::new(LiveTable { services: live.cloned().collect() });
            self.live = Arc::clone(&table);
            self.out.effect(Effect::Live(table));
        }
    }

    /// One table for all services, and only if it says something new.
    fn publish(&mut self) {
        self.publish_live();
        let Some(table) = &self.table else { return };
        if !table.services.iter().eq(self.services.values().map(|s| &s.routed)) {
            self.publish_table();
        }
    }

    fn publish_table(&mut self) {
        let version = self.table.as_ref().map_or(0, |t| t.version) + 1;
        let services: Vec<RoutedService> = self.services.values().map(|s| s.routed.clone()).collect();
        let table = Arc::new(RoutingTable { version, services });
        self.table = Some(Arc::clone(&table));
        self.out.effect(Effect::Route(table));
    }

    fn on_restored(&mut self, mut restored: Restored) {
        self.out.last_incident = restored.last_incident;
        self.out.last_action = restored.last_action;
        for incident in &restored.incidents {
            self.out.last_incident = self.out.last_incident.max(incident.id.0);
        }
        for substitute in &restored.substitutes {
            self.out.last_action = self.out.last_action.max(substitute.action.0);
        }
        for (action, _) in &restored.unfinished {
            self.out.last_action = self.out.last_action.max(action.0);
        }
        self.out.changes = Changes::restored(std::mem::take(&mut restored.changes));
        let publications = std::mem::take(&mut restored.publications);
        self.publications = Known::restored(publications, restored.publications_left_out);
        let (own, configured): (Vec<_>, Vec<_>) =
            std::mem::take(&mut restored.incidents).into_iter().partition(|i| {
                matches!(i.scope, Scope::Own(_) | Scope::Host(_) | Scope::Machine { .. } | Scope::Address(_))
            });
        restored.incidents = configured;
        self.out.windows.restore(
            std::mem::take(&mut restored.windows),
            std::mem::take(&mut restored.windows_ended),
            restored.last_window,
        );
        self.out.memory = Memory::restored(std::mem::take(&mut restored.remedies));
        self.out.proposals = Proposals::restored(&restored.proposals, restored.last_proposal);
        self.backups.on_restored(std::mem::take(&mut restored.backups));
        self.monitors.on_restored(std::mem::take(&mut restored.heartbeats));
        for incident in own {
            let part = match &incident.scope {
                Scope::Own(part) => *part,
                Scope::Address(ip) => {
                    let own = self.gone.machines.entry(*ip).or_default();
                    own.restore(incident, restored.last_alive, &mut self.out);
                    continue;
                }
                Scope::Machine { machine, .. } => {
                    let new = || Host::elsewhere(machine.clone());
                    let host = self.machines.entry(machine.clone()).or_insert_with(new);
                    host.restore(incident, restored.last_alive, &mut self.out);
                    continue;
                }
                _ => {
                    self.host.restore(incident, restored.last_alive, &mut self.out);
                    continue;
                }
            };
            let own = self.own.entry(part).or_default();
            if own.incident.is_some() {
                drop_doubled(incident, &mut self.out);
                continue;
            }
            own.restore(incident, restored.last_alive, &mut self.out);
            own.tend(&mut self.out);
        }
        self.restored = Some(restored);
    }

    /// The first config, or a changed one.
    fn on_policy(&mut self, policy: Policy) {
        let first = self.table.is_none();
        self.needs.on_policy(&policy);
        self.gone.on_policy(&policy);
        self.out.people = policy.people;
        self.out.sight.control.clone_from(&policy.control);
        self.out.on_call.clone_from(&policy.on_call);
        self.out.windows.apply(policy.windows);
        // Before anything is judged by the new config.
        self.tend_windows();
        self.host.apply(policy.host.clone(), &mut self.out);
        self.apply_machines(&policy.machines);
        let restored = self.restored.take().unwrap_or_default();
        let gone: Vec<ServiceId> =
            self.services.keys().filter(|id| !policy.services.contains_key(*id)).cloned().collect();
        for id in gone {
            let Some(mut service) = self.services.remove(&id) else { continue };
            let servers: Vec<ServerId> = service.servers.keys().cloned().collect();
            let why = "it left the config";
            servers.iter().for_each(|server| service.dismiss_server(server, why, &mut self.out));
            service.close(&mut self.out);
        }
        self.forget_proposals(&restored.proposals, &policy.services);
        for (id, service_policy) in policy.services {
            self.apply_service(id, service_policy, &restored, first);
        }
        // What a person wanted of a server that left the config meanwhile is forgotten, as it is on a reload.
        let forgotten: Vec<ServerId> =
            restored.admin.keys().filter(|id| !self.is_known(id)).cloned().collect();
        for server in forgotten {
            self.out.record(Record::Admin { server, state: AdminState::Ready });
        }
        // Others may be on call now.
        self.open_incidents().0.for_each(|open| open.steps.renew());
        self.backups.on_policy(policy.backups, &mut self.out);
        self.monitors.on_policy(policy.monitors, &mut self.out);
        self.take_up(restored);
        self.backups.tend(&mut self.out);
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            self.with(&id, |_, _| {});
        }
        for own in self.own.values_mut() {
            own.tend(&mut self.out);
        }
        self.host.tend(&mut self.out);
        self.machines.values_mut().for_each(|host| host.tend(&mut self.out));
        if first {
            self.publish_table();
        }
    }

    fn is_known(&self, id: &ServerId) -> bool {
        self.services.get(&id.service).is_some_and(|service| service.servers.contains_key(id))
    }

    fn apply_service(&mut self, id: ServiceId, policy: ServicePolicy, restored: &Restored, first: bool) {
        let now = self.out.now;
        if !first {
            self.note_config(&id, &policy);
        }
        let service = self
            .services
            .entry(id.clone())
            .or_insert_with(|| Service::new(id.clone(), policy.clone(), now.mono));
        let gone: Vec<ServerId> = service
            .servers
            .iter()
            .filter(|(server, known)| {
                if matches!(known.origin, Origin::Substitute(_)) {
                    return false;
                }
                // A server that is run in another way is another server.
                let template = known.origin.template(&server.name);
                policy.servers.get(template).is_none_or(|p| p.supervised != known.policy.supervised)
            })
            .map(|(server, _)| server.clone())
            .collect();
        gone.iter().for_each(|server| service.dismiss_server(server, "it left the config", &mut self.out));
        for (name, server_policy) in &policy.servers {
            let server_id = id.server(Arc::clone(name));
            if let Some(known) = service.servers.get_mut(&server_id) {
                if known.policy.command_version != server_policy.command_version {
                    known.recovery.command_changed();
                }
                known.policy = server_policy.clone();
                known.traffic.apply(&policy.traffic);
                continue;
            }
            let mut server = Server::new(server_policy.clone(), &policy, now);
            take_up_server(&server_id, &mut server, restored, now);
            if !first {
                // It is new among servers that carry the traffic already: it is looked at first, and starts slowly.
                server.fresh = false;
                server.hold_until = Some(now.mono + policy.recovery.start_grace);
            }
            server.resume(&server_id, &mut self.out);
            service.servers.insert(server_id, server);
        }
        for (server, known) in &mut service.servers {
            if !matches!(known.origin, Origin::Config | Origin::Substitute(_))
                && let Some(template) = policy.servers.get(known.origin.template(&server.name))
            {
                let weight = known.policy.weight;
                known.policy = ServerPolicy { weight, ..template.clone() };
            }
        }
        service.policy = policy;
        for open in service.incident.iter_mut().chain(&mut service.checks.own.incident) {
            open.steps.set_groups(service.policy.on_call.as_deref());
        }
        if first {
            let mine = restored.releases.iter().filter(|(of, _)| *of == id).map(|(_, r)| r.clone());
            service.restore_releases(mine.collect(), &mut self.out);
            service.place_warm(&mut self.out);
            if let Some(change) = self.out.changes.announced(&id) {
                service.on_announced(&change, &mut self.out);
            }
            service.restore_proposals(&restored.proposals);
        }
        if let Some(record) = restored.leads.get(&id).filter(|_| first) {
            service.restore_lead(record.clone());
        }
        if first {
            service.restore_substitutes(&restored.substitutes, &mut self.out);
        }
        service.apply_substitutes(&mut self.out);
        let instances = restored.instances.get(&id).copied().filter(|_| first);
        service.apply_scale(instances, first, &mut self.out);
        for (server, known) in &mut service.servers {
            if first && known.origin != Origin::Config {
                take_up_server(server, known, restored, now);
            }
        }
        service.apply_releases(&mut self.out);
        service.apply_front(&mut self.out);
    }

    /// A changed config may be what breaks a service.
    fn note_config(&mut self, id: &ServiceId, policy: &ServicePolicy) {
        let known = self.services.get_mut(id);
        let what = known.as_ref().map_or(Some("it is new in the config".to_owned()), |service| {
            difference(&service.policy, policy)
        });
        let Some(what) = what else { return };
        if let Some(open) = known.and_then(|service| service.incident.as_mut()) {
            open.entry(EntryKind::Changed, None, None, what.clone(), &mut self.out);
        }
        self.out.changed(ChangeKind::Config, Some(id.clone()), what, "a reload");
    }

    /// Goes on with what an earlier run left open.
    fn take_up(&mut self, restored: Restored) {
        let Restored {
            incidents,
            mut tallies,
            unfinished,
            unfinished_since,
            switches,
            drills,
            last_alive,
            ..
        } = restored;
        for incident in incidents {
            if let Scope::Backup(id) = &incident.scope {
                self.backups.restore_incident(&id.clone(), incident, last_alive, &mut self.out);
                continue;
            }
            if matches!(incident.scope, Scope::Monitor(_) | Scope::Monitors) {
                self.monitors.restore(incident, last_alive, &mut self.out);
                continue;
            }
            if let Scope::Check(id) = &incident.scope {
                match self.services.get_mut(id) {
                    Some(service) if service.checks.own.incident.is_none() => {
                        service.checks.own.restore(incident, last_alive, &mut self.out);
                    }
                    _ => drop_doubled(incident, &mut self.out),
                }
                continue;
            }
            let Scope::Service(id) = incident.scope.clone() else { continue };
            match self.services.get_mut(&id) {
                Some(service) if service.incident.is_none() => {
                    let tally = tallies.remove(&incident.id).unwrap_or_default();
                    service.restore(incident, tally, last_alive, &mut self.out);
                }
                Some(_) => drop_doubled(incident, &mut self.out),
                None => {
                    let open = Open::restored(incident, Some(Tally::default()), &mut self.out);
                    open.resolve(format!("{id} left the config"), None, &mut self.out);
                }
            }
        }
        self.monitors.taken_up(&mut self.out);
        self.take_up_drills(drills);
        // After its incident, in which it is told.
        for (id, run) in switches {
            if let Some(service) = self.services.get_mut(&id) {
                service.restore_switch(run, &mut self.out);
            }
        }
        for (action, server) in unfinished {
            if let Some(begun_at) = unfinished_since.get(&action)
                && let Some(service) = self.services.get_mut(&server.service)
                && service.look_into(action, &server, *begun_at, &mut self.out)
            {
                continue;
            }
            let text = "Mainstay was restarted before it ended; it is not repeated blindly".to_owned();
            let at = self.out.now.wall;
            let record = Record::ActionEnded { action, at, error: Some(text.clone()) };
            self.out.record(record);
            if let Some(service) = self.services.get_mut(&server.service)
                && let Some(open) = &mut service.incident
            {
                let text = format!("an action on {}: {text}", server.name);
                open.entry(EntryKind::ActionFailed, Some(&server), Some(action), text, &mut self.out);
            }
        }
    }

    fn on_traffic(&mut self, report: &TrafficReport) {
        let now = self.out.now.mono;
        let mut touched = BTreeSet::new();
        for (id, traffic) in &report.servers {
            let Some(service) = self.services.get_mut(&id.service) else { continue };
            let Some(server) = service.servers.get_mut(id) else { continue };
            let was_confirmable = server.traffic.hears(now);
            server.traffic.report(traffic, server.probes.run_since, now);
            let hears = service.policy.traffic_hears_the_server();
            if hears && server.traffic.is_good_since_bad(&service.policy.traffic, now) {
                server.recovery.probe_only = server.probes.run_since.is_some();
            } else if hears && server.traffic.since_bad(now).bad() > 0 {
                server.recovery.probe_only = false;
            }
            service.pace_report(id, traffic, &mut self.out);
            service.hear_requests(id, &mut self.out);
            if was_confirmable {
                service.confirm_return(id, traffic.answered(), traffic.failed(), &mut self.out);
            }
            touched.insert(id.service.clone());
        }
        for (id, service) in &mut self.services {
            service.on_return_traffic(report, now);
            service.count_requests(report, now);
            if service.heeds_every_report() {
                service.on_report(report, now);
                touched.insert(id.clone());
            }
        }
        for (id, traffic) in &report.services {
            if let Some(service) = self.services.get_mut(id) {
                let sources: Vec<&SourceTraffic> =
                    report.sources.iter().filter(|source| source.service == *id).collect();
                service.on_visitors(traffic, &mut self.out);
                let saturated = service.saturated(&self.out, now).is_some();
                service.weigh_load(traffic, &sources, saturated, now);
                touched.insert(id.clone());
            }
        }
        self.out.departures_report(report);
        for (name, n) in &report.refusals {
            let all = self.refusals.entry(name.clone()).or_default();
            *all = all.saturating_add(*n);
        }
        for id in touched {
            self.with(&id, |_, _| {});
        }
    }

    fn is_strained(&self) -> bool {
        self.services.values().any(|service| service.load.is_strained())
    }

    /// The other machines of the config.
    fn apply_machines(&mut self, policies: &BTreeMap<MachineId, MachinePolicy>) {
        let known: Vec<MachineId> = self.machines.keys().cloned().collect();
        for id in known.into_iter().filter(|id| !policies.contains_key(id)) {
            if let Some(host) = self.machines.remove(&id) {
                host.leave(&mut self.out);
            }
        }
        for (id, policy) in policies {
            let host = self.machines.entry(id.clone()).or_insert_with(|| Host::elsewhere(id.clone()));
            host.apply_elsewhere(policy, &mut self.out);
        }
    }

    /// What was read of a machine may explain what happens to the services that run on it.
    fn look_at_open_incidents(&mut self) {
        let open: Vec<ServiceId> =
            self.services.values().filter(|s| s.incident.is_some()).map(|s| s.id.clone()).collect();
        for id in open {
            self.with(&id, |_, _| {});
        }
    }

    fn on_outcome(&mut self, action: ActionId, result: &Result<(), String>) {
        let mut owner = None;
        for service in self.services.values_mut() {
            if service.on_outcome(action, result, &mut self.out) {
                owner = Some(service.id.clone());
                break;
            }
        }
        if let Some(server) = self.out.departures.on_outcome(action) {
            owner = Some(server.service.clone());
            self.action_ended(action, result);
        } else if owner.is_none() && action.0 <= self.out.last_action {
            // It was given up, but what became of it in the end is worth knowing.
            self.action_ended(action, result);
        }
        if let Some(id) = owner {
            self.with(&id, |_, _| {});
        }
    }

    fn action_ended(&mut self, action: ActionId, result: &Result<(), String>) {
        let at = self.out.now.wall;
        self.out.record(Record::ActionEnded { action, at, error: result.as_ref().err().cloned() });
    }

    fn give_up_stops(&mut self) {
        for (action, service) in self.out.departures.give_up(self.out.now.mono) {
            self.action_ended(action, &Err("it had no outcome in time".to_owned()));
            self.with(&service, |_, _| {});
        }
    }

    fn on_acknowledge(&mut self, id: IncidentId, by: &str) {
        let Some((open, out)) = self.open_incident(id) else { return };
        if open.incident().state != IncidentState::Open {
            return;
        }
        let wall = out.now.wall;
        open.no_next_step();
        let incident = open.edit();
        incident.state = IncidentState::Acknowledged;
        incident.acknowledged = Some((by.to_owned(), wall));
        open.entry(EntryKind::Acknowledged, None, None, format!("taken on by {by}"), out);
        open.write_down(out, true);
        // The next step need not be waited for any more.
        match open.incident().scope.clone() {
            Scope::Service(id) => self.with(&id, |_, _| {}),
            scope => self.monitors.was_edited(&scope, &mut self.out),
        }
    }

    /// The incidents that are not resolved, of whatever, and the way out for what is done about them.
    pub(crate) fn open_incidents(&mut self) -> (impl Iterator<Item = &mut Open>, &mut Out) {
        let (others, monitors, out) = self.incidents_by_kind();
        (others.chain(monitors.incidents_mut()), out)
    }

    /// One of them.
    pub(crate) fn open_incident(&mut self, id: IncidentId) -> Option<(&mut Open, &mut Out)> {
        let (mut others, monitors, out) = self.incidents_by_kind();
        let open = others.find(|open| open.incident().id == id).or_else(|| monitors.incident(id))?;
        Some((open, out))
    }

    /// Monitors are many, and know by themselves which of them have an incident.
    fn incidents_by_kind(&mut self) -> (impl Iterator<Item = &mut Open>, &mut Monitors, &mut Out) {
        let services = self.services.values_mut();
        let services =
            services.flat_map(|s| s.incident.as_mut().into_iter().chain(s.checks.own.incident.as_mut()));
        let backups = self.backups.jobs.values_mut().map(|job| &mut job.own);
        let gone = self.gone.machines.values_mut();
        let own = self.own.values_mut().chain(backups).chain(gone).filter_map(|own| own.incident.as_mut());
        let machines = self.machines.values_mut().flat_map(Host::incidents_mut);
        let others = services.chain(own).chain(self.host.incidents_mut()).chain(machines);
        (others, &mut self.monitors, &mut self.out)
    }

    /// Only what a person would want to know stands in the timeline; every attempt is in the outbox.
    fn on_message(&mut self, report: &MessageReport) {
        let Some((open, out)) = self.open_incident(report.incident) else { return };
        let (way, name) = (report.to.way.word(), &report.to.name);
        let text = match &report.result {
            Ok(()) => format!("the {way} to {name} was delivered"),
            Err(why) => format!("the {way} to {name} was not delivered: {why}"),
        };
        open.entry(EntryKind::Notified, None, None, text, out);
    }
}

/// What an earlier run knew of a server: what a person wanted of it, and when it was restarted.
fn take_up_server(id: &ServerId, server: &mut Server, restored: &Restored, now: Now) {
    server.admin = restored.admin.get(id).copied().unwrap_or_default();
    server.admin_since = Some(now);
    for (_, at) in restored.restarts.iter().filter(|(of, _)| of == id) {
        // Written down to the millisecond: taken for younger rather than older than it is.
        let age = u64::try_from(now.wall.ms_since(*at) - 1).unwrap_or(0);
        server.recovery.remember(Duration::from_millis(age), now.mono);
    }
    let hours = restored.paces.get(id).into_iter().flatten().copied();
    server.pace.restore(hours, restored.slowed.get(id).copied(), now);
    restored.carried.take_up(id, server, now);
}

/// A record with two open incidents of one scope is mended: the older goes on, this one is closed in silence but for
/// the people who were told of it.
fn drop_doubled(incident: Incident, out: &mut Out) {
    let open = Open::restored(incident, Some(Tally::default()), out);
    open.resolve("over: another incident goes on for it".to_owned(), None, out);
}

#[cfg(test)]
mod tests;
