//! The judgement as plain data, for people and programs.

use std::sync::Arc;

use crate::host::judge::Host;
use crate::id::ServerId;
use crate::incident::Incident;
use crate::input::AdminState;
use crate::model::Model;
use crate::out::Out;
use crate::server::{Origin, Server, Standing};
use crate::service::Service;
use crate::snapshot::{
    DoorSnapshot, DrainSnapshot, LimitsSnapshot, ProcessSnapshot, ServerNote, ServerSnapshot,
    ServiceSnapshot, ServiceState, Snapshot,
};
use crate::time::{Now, Wall};

impl Model {
    /// The whole of the judgement, for people and programs.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let own_trouble = self.own.iter().filter_map(|(part, own)| Some((*part, own.trouble.clone()?)));
        let mut doors = self.monitors.doors();
        let services = self.services.values();
        Snapshot {
            at: now.wall,
            services: services.map(|one| one.present(doors.remove(&one.id), now, &self.out)).collect(),
            incidents: self.incidents(),
            own_trouble: own_trouble.collect(),
            host: self.host.snapshot(now.mono),
            host_watched: self.host.is_watched(),
            machines: self.machines.values().filter_map(|host| host.machine(now.mono)).collect(),
            publications: Arc::clone(&self.publications.all),
            backups: self.backups.present(now),
            proposals: self.present_proposals(),
            remedies: Arc::clone(&self.out.memory.shown),
            changes: self.out.changes.all(),
            windows: self.out.windows.present(now.wall),
            freeze: self.out.frozen().cloned(),
            drills: self.present_drills(),
            monitors: self.monitors.shown(),
            monitor_counts: self.monitors.counts(),
            // Those who show them know them.
            certificates: Vec::new(),
            refusals: self.refusals.clone(),
        }
    }

    fn incidents(&self) -> Vec<Arc<Incident>> {
        let services = self.services.values();
        let services = services.flat_map(|s| s.incident.iter().chain(&s.checks.own.incident));
        let own = self.own.values().filter_map(|o| o.incident.as_ref());
        let backups = self.backups.jobs.values().filter_map(|job| job.own.incident.as_ref());
        let gone = self.gone.machines.values().filter_map(|own| own.incident.as_ref());
        let mut open: Vec<Arc<Incident>> = services
            .chain(own)
            .chain(gone)
            .chain(self.host.incidents())
            .chain(self.machines.values().flat_map(Host::incidents))
            .chain(backups)
            .chain(self.monitors.incidents())
            .map(|o| Arc::clone(o.incident()))
            .collect();
        open.sort_by_key(|incident| std::cmp::Reverse(incident.id));
        open.extend(self.out.closed.iter().cloned());
        open
    }
}

impl Service {
    fn present(&self, door: Option<DoorSnapshot>, now: Now, out: &Out) -> ServiceSnapshot {
        let maintenance = self.in_window(out);
        let felt = self.state(now, out);
        ServiceSnapshot {
            id: self.id.clone(),
            hosts: self.policy.carriage.hosts.clone(),
            tcp: self.policy.carriage.tcp.is_some(),
            state: if maintenance.is_some() { ServiceState::Maintenance } else { felt },
            felt,
            maintenance,
            mode: self.mode,
            rates: self.visitors.rates(now.mono),
            totals: self.visitors.totals,
            in_flight: self.visitors.in_flight(now.mono),
            queued: self.visitors.queued(now.mono),
            releases: self.present_releases(),
            scale: self.present_scale(now),
            switch: self.present_switch(),
            substitutes: self.present_substitutes(),
            lead: self.present_lead(),
            limits: self.present_limits(now),
            servers: self
                .servers
                .iter()
                .map(|(id, server)| self.present_server(id, server, now, out))
                .collect(),
            front: self.present_front(),
            door,
            needs: self.policy.needs.clone(),
        }
    }

    fn present_limits(&self, now: Now) -> Option<LimitsSnapshot> {
        let (limits, room) = (&self.policy.carriage.limits, self.routed.room());
        let (limited_per_second, shed_per_second) = self.visitors.refused_per_second(now.mono);
        self.routed.counts_requests().then(|| LimitsSnapshot {
            per_address: limits.per_address.map(|limit| limit.to_string()),
            concurrent: room.map(|room| room.concurrent),
            places: self.visitors.places(now.mono),
            queue: room.map_or(0, |room| room.queue),
            limited_per_second,
            shed_per_second,
        })
    }

    /// What visitors can feel, whatever window it is in.
    pub(crate) fn state(&self, now: Now, out: &Out) -> ServiceState {
        let ready: Vec<&Server> = self.servers.values().filter(|s| s.is_ready()).collect();
        // With every server taken out by a person, visitors are refused as surely as with every server dead.
        if self.is_down(now.mono) || (ready.is_empty() && !self.servers.is_empty()) {
            return ServiceState::Down;
        }
        if ready.iter().any(|s| s.at_fault)
            || self.front.lost().next().is_some()
            || self.visitors.last_hurt.is_some_and(|at| is_fresh(now, at))
            || self.visitors.last_shed.is_some_and(|at| is_fresh(now, at))
        {
            return ServiceState::Degraded;
        }
        // What is expected of some of its servers is no trouble of the service.
        let expected = |id: &ServerId, s: &Server| self.server_in_window(id, s, out).is_some();
        let mut asked = self.servers.iter().filter(|(id, s)| s.is_ready() && !expected(id, s)).peekable();
        if asked.peek().is_some() && asked.all(|(_, s)| s.is_well()) {
            return ServiceState::Healthy;
        }
        ServiceState::Unknown
    }

    fn present_server(&self, id: &ServerId, server: &Server, now: Now, out: &Out) -> ServerSnapshot {
        let in_rotation = self.routed.targets.iter().any(|target| &target.id == id);
        let share = if in_rotation { self.factor(server, self.mode, now.mono) } else { 0.0 };
        let trial = self.routed.trial.as_ref().filter(|trial| trial.target.id == *id);
        let in_rotation = in_rotation || trial.is_some();
        let share = trial.map_or(share, |trial| trial.share);
        ServerSnapshot {
            id: id.clone(),
            address: server.address.clone(),
            role: server.policy.role,
            health: server.health,
            health_since: server.health_since,
            admin: server.admin,
            maintenance: self.server_in_window(id, server, out),
            drain: self.present_drain(server, now),
            in_rotation,
            share,
            rates: server.traffic.rates(now.mono),
            totals: server.traffic.totals,
            tcp: self.policy.carriage.tcp.is_some(),
            in_flight: server.traffic.in_flight(now.mono),
            tunnels: server.traffic.tunnels(now.mono),
            circuit: server.traffic.circuit(now.mono),
            last_probe: server.probes.last.clone(),
            release: server.release,
            note: self.note(id, server),
            data: server.data.map(|data| data.state),
            process: server.policy.supervised.then(|| self.present_process(server, now)),
            why: self.why(id, server, now.mono),
        }
    }

    fn present_drain(&self, server: &Server, now: Now) -> Option<DrainSnapshot> {
        let within = match server.admin {
            AdminState::Ready => return None,
            AdminState::Draining => self.policy.carriage.drains_within(),
            AdminState::Maintenance => self.policy.carriage.drain_timeout,
        };
        let since = server.admin_since.unwrap_or(now);
        let done = server.traffic.is_idle_since(since.mono);
        Some(DrainSnapshot { since: since.wall, until: (since + within).wall, done })
    }

    /// What is special about a server.
    pub(crate) fn note(&self, id: &ServerId, server: &Server) -> Option<ServerNote> {
        let gives_back = self.back_since.is_some() && !server.is_primary() && server.eligible;
        match (&server.origin, server.standing) {
            (_, Standing::Trial) => Some(ServerNote::OnTrial),
            (Origin::Beside(_), Standing::Aside(_)) if self.is_kept_warm(id) => Some(ServerNote::Warm),
            (Origin::Beside(_), Standing::Aside(_)) => Some(ServerNote::StandingBy),
            (Origin::Beside(_), Standing::Serves) => Some(ServerNote::StandingIn),
            (_, Standing::Aside(_)) if self.scaling.leaving.as_ref() == Some(id) => Some(ServerNote::Leaving),
            (Origin::Substitute(_), Standing::Aside(_)) => Some(ServerNote::SubstituteAside),
            (_, Standing::Aside(_)) if self.substitutes.in_place_of(id).is_some() => {
                Some(ServerNote::Replaced)
            }
            (_, Standing::Aside(_)) => Some(ServerNote::BeingReplaced),
            (Origin::Substitute(_), Standing::Serves) => Some(ServerNote::Substitute),
            (_, Standing::Serves) if server.is_primary() && self.is_switched_away() => {
                Some(ServerNote::SwitchedAway)
            }
            (_, Standing::Serves) if server.witnesses.gray.is_some() => Some(ServerNote::Gray),
            (_, Standing::Serves) if server.witnesses.check_wrong.is_some() => Some(ServerNote::CheckWrong),
            (_, Standing::Serves) if self.policy.state.is_some() => self.lead_note(id, server),
            (_, Standing::Serves) => gives_back.then_some(ServerNote::GivingBack),
        }
    }

    fn present_process(&self, server: &Server, now: Now) -> ProcessSnapshot {
        let policy = &self.policy.recovery;
        let due = server.recovery.due.map(|due| {
            let left = i64::try_from((due - now.mono).as_millis()).unwrap_or(i64::MAX);
            Wall(now.wall.0.saturating_add(left))
        });
        ProcessSnapshot {
            pid: server.process.pid,
            since: server.process.since,
            last_exit: server.process.last_exit,
            restarts_in_window: server.recovery.restarts_in(policy.budget_window, now.mono),
            restart_budget: policy.budget,
            next_restart_at: due,
        }
    }
}

/// A failure is shown as the service's state for as long as rates look back.
fn is_fresh(now: Now, at: crate::time::Mono) -> bool {
    now.mono.since(at) < std::time::Duration::from_secs(10)
}
