//! The world's machine and its crowds: figures each second, some of them lost or late; and more requests than servers can
//! answer, from few addresses or from many.

use mainstay_model::cause::Cause;
use mainstay_model::host::{Cpu, Disk, Findings, HostReport, Inspection, Memory, ProcessFound};
use mainstay_model::incident::{IncidentState, Scope};
use mainstay_model::input::{ServiceTraffic, SourceTraffic};
use mainstay_model::{Input, ServerId, ServiceId};

use super::servers::Condition;
use super::{Event, MS, SECOND, World};

/// Requests that one server answers in a tick.
const CAPACITY: u64 = 10;
const MIB: u64 = 1 << 20;

/// How the machine is.
#[derive(Default)]
pub struct Machine {
    cpu_high: bool,
    memory_low: bool,
    pub disk_used: u64,
    fills: u64,
    pub oom_kills: u64,
}

impl Machine {
    fn heal(&mut self) {
        let oom_kills = self.oom_kills;
        *self = Self { oom_kills, disk_used: 300, ..Self::default() };
    }
}

/// More requests than a service can answer.
pub struct Surge {
    service: ServiceId,
    since: u64,
    until: u64,
    few: bool,
    /// What is too much is turned away; otherwise every server is slow.
    limits: bool,
    /// No server of the service has had a fault of its own since it began.
    pure: bool,
}

impl Surge {
    /// One that is turned away where it is too much, and nothing else is wrong.
    pub fn pure(service: ServiceId, since: u64, until: u64, few: bool) -> Self {
        Self { service, since, until, few, limits: true, pure: true }
    }
}

impl World {
    /// One report of the machine, if none is lost.
    pub(super) fn host_tick(&mut self) {
        if !self.kind.host {
            return;
        }
        let faulty = self.faulty;
        let machine = &mut self.machine;
        machine.disk_used = (machine.disk_used + machine.fills).min(1000);
        if faulty && self.dice.chance(8) {
            return;
        }
        let known = |dice: &mut super::Dice| !faulty || dice.chance(95);
        let busy = if self.machine.cpu_high { 0.97 } else { 0.2 };
        let cpu = known(&mut self.dice).then_some(Cpu { user: busy, ..Cpu::default() });
        let available = if self.machine.memory_low { 100 * MIB } else { 4000 * MIB };
        let memory = Memory { total: 8000 * MIB, available, ..Memory::default() };
        let (used, left) = (self.machine.disk_used * MIB, (1000 - self.machine.disk_used) * MIB);
        let disk = Disk { mount: "/data".to_owned(), used, available: left, ..Disk::default() };
        let starved = faulty && self.kind.starves && self.dice.chance(3);
        let report = HostReport {
            late_ms: if starved { self.dice.range(100, 4000) } else { 0 },
            processors: Some(2),
            cpu,
            memory: known(&mut self.dice).then_some(memory),
            disks: if known(&mut self.dice) { vec![disk] } else { Vec::new() },
            oom_kills: known(&mut self.dice).then_some(self.machine.oom_kills),
            ..HostReport::default()
        };
        self.tell(Input::Host(report));
    }

    /// Looks into something, slowly, and not always.
    pub(super) fn inspect(&mut self, inspection: Inspection) {
        assert!(self.kind.host, "asked to look into {inspection:?} although the machine is not watched");
        if self.faulty && self.dice.chance(20) {
            return;
        }
        let found = ProcessFound {
            name: "burner".to_owned(),
            pid: 4711,
            server: None,
            processors: 1.9,
            memory: 7000 * MIB,
        };
        let findings = match inspection {
            Inspection::Processes => {
                Findings::Processes { by_cpu: vec![found.clone()], by_memory: vec![found; 9] }
            }
            Inspection::Disk(mount) => Findings::Disk { mount, own: vec![("logs".to_owned(), MIB)] },
        };
        let at = self.now + self.dice.range(50, 2000) * MS;
        self.at(at, Event::Inspected { generation: self.generation, findings });
    }

    /// Something happens to the machine.
    pub(super) fn machine_fault(&mut self) {
        match self.dice.range(0, 6) {
            0 => self.machine.cpu_high = !self.machine.cpu_high,
            1 => self.machine.memory_low = !self.machine.memory_low,
            2 => self.machine.fills = [0, 5, 50][self.dice.range(0, 3) as usize],
            3 => self.machine.disk_used = [300, 950, 1000][self.dice.range(0, 3) as usize],
            4 => self.machine.oom_kills += 1,
            _ => self.machine.heal(),
        }
    }

    /// A crowd or a flood comes.
    pub(super) fn surge_begins(&mut self, service: &ServiceId) {
        if self.surge.is_some() {
            return;
        }
        let (few, limits) = (self.dice.chance(50), self.dice.chance(70));
        let until = self.now + self.dice.range(2, 22) * SECOND;
        let pure = self.servers.iter().all(|(id, s)| {
            id.service != *service || (s.condition == Condition::Good && (!s.supervised || s.pid.is_some()))
        });
        self.surge = Some(Surge { service: service.clone(), since: self.now, until, few, limits, pure });
    }

    /// A server's own fault: what follows is not the surge's alone.
    pub(super) fn surge_is_not_alone(&mut self, server: &ServerId) {
        if let Some(surge) = self.surge.as_mut().filter(|surge| surge.service == server.service) {
            surge.pure = false;
        }
    }

    /// The crowd goes on, or has gone.
    pub(super) fn surge_tick(&mut self) {
        let Some(surge) = &self.surge else { return };
        let over = self.now >= surge.until || !self.faulty;
        let (service, limits) = (surge.service.clone(), surge.limits);
        for (id, server) in self.servers.iter_mut().filter(|(id, _)| id.service == service) {
            let before = std::mem::replace(&mut server.overloaded, !over && !limits);
            if before != server.overloaded {
                self.holds.forget(id);
            }
        }
        if over {
            self.check_cause();
            self.surge = None;
        }
    }

    /// What the surge adds to a tick of a service: requests that are served, and what is turned away.
    pub(super) fn surge_adds(
        &mut self,
        service: &ServiceId,
        targets: u64,
        report: &mut ServiceTraffic,
    ) -> u64 {
        let Some(surge) = self.surge.as_ref().filter(|surge| surge.service == *service) else { return 0 };
        let capacity = CAPACITY * targets;
        if surge.limits {
            report.requests += capacity * 3;
            report.shed += capacity * 3;
            report.queued += 5;
        }
        capacity
    }

    /// Who asks while requests are turned away.
    pub(super) fn sources(&self, service: &ServiceId, report: &ServiceTraffic) -> Vec<SourceTraffic> {
        let Some(surge) = self.surge.as_ref().filter(|s| s.service == *service && s.limits) else {
            return Vec::new();
        };
        let source = |network: String, requests| SourceTraffic {
            service: service.clone(),
            network,
            requests,
            limited: 0,
        };
        match surge.few {
            true => vec![source("198.51.100.7".to_owned(), report.requests * 9 / 10)],
            false => (0..8).map(|n| source(format!("203.0.113.{n}"), report.requests / 100)).collect(),
        }
    }

    /// A restart of a server that runs, while there is nothing wrong but too much to do.
    pub(super) fn check_restart(&self, server: &ServerId) {
        let Some(surge) = self.surge.as_ref().filter(|s| s.pure && s.service == server.service) else {
            return;
        };
        let runs = self.servers.get(server).is_some_and(|s| s.pid.is_some());
        let served = self.load > 0;
        assert!(
            !runs || !served || self.now < surge.since + 6 * SECOND || !(surge.limits || self.kind.crowd),
            "{server} was restarted although all that is wrong is too much traffic"
        );
    }

    /// A surge that was alone and lasted has the right name.
    fn check_cause(&self) {
        let Some(surge) = &self.surge else { return };
        let alone = surge.pure && surge.limits && self.load > 0 && !self.kind.lossy_prober;
        if !alone || self.now < surge.since + 8 * SECOND || self.restarted_at > surge.since {
            return;
        }
        let known = self.policy.services.contains_key(&surge.service);
        let ready = self.table.services.iter().any(|s| s.id == surge.service && !s.targets.is_empty());
        if !known || !ready {
            return;
        }
        let snapshot = self.snapshot();
        // What is in a window, or was a moment ago, is told of later.
        if self.kind.windows {
            return;
        }
        let incident = snapshot
            .incidents
            .iter()
            .find(|i| i.scope == Scope::Service(surge.service.clone()) && i.state != IncidentState::Resolved)
            .unwrap_or_else(|| panic!("{} is strained without an incident", surge.service));
        let began = self.clock().wall.ms_since(incident.began_at);
        let wanted = if surge.few { Cause::Attack } else { Cause::Overload };
        let cause = incident.diagnosis.as_ref().map(|diagnosis| diagnosis.cause);
        // What it needs fails too, which was first.
        if incident.part_of.is_some() {
            return;
        }
        // An older incident has an older cause; one by the machine's hardware is stronger than an overload.
        let ours = began <= ((self.now - surge.since) / MS) as i64 && !self.kind.wall_jumps;
        assert!(
            !ours || cause == Some(wanted) || cause == Some(Cause::Hardware),
            "{wanted:?} was taken for {:?}",
            incident.diagnosis
        );
    }

    /// Faults are over.
    pub(super) fn machine_heals(&mut self) {
        self.machine.heal();
    }
}
