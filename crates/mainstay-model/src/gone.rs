//! A machine that is gone takes along whatever is on it: one incident for it, and what fails with it is attached.
//!
//! A machine is known by its address. When at least two things of the config are there (services with a server of theirs, and
//! monitors by address), and nothing comes back from any of their servers and monitors there, the machine is *gone*. What a
//! service or a monitor fails by alone is then attached to it as to something that it needs; one that fails elsewhere too is an
//! incident of its own. While others there have still to be looked at, who fails first is held back as if it needed them.
//!
//! Who is silent only because a drill makes it seem so was well when that began, and says nothing of its machine.
//!
//! Who refuses, or answers badly, has a machine. One thing alone on a machine is its own incident, and so is what Mainstay
//! cannot see anyhow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::cause::{Cause, Diagnosis};
use crate::drill::Drilled;
use crate::id::{MonitorId, ServerId, ServiceId};
use crate::incident::{Scope, Severity};
use crate::incidents::Own;
use crate::input::ProbeFailure;
use crate::model::Model;
use crate::needs::{Failing, Needed};
use crate::policy::Policy;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Mono;
use crate::words::count;

/// Names that one sentence lists.
const NAMED_MAX: usize = 5;

/// Machines that several things are on.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// Monitors by the address of another machine.
    monitors: BTreeMap<IpAddr, Vec<MonitorId>>,
    /// Those that are gone, or were a moment ago.
    pub(crate) machines: BTreeMap<IpAddr, Own>,
}

impl Gone {
    pub(crate) fn on_policy(&mut self, policy: &Policy) {
        self.monitors.clear();
        for (id, monitor) in &policy.monitors {
            if let Some(ip) = monitor.address.far_ip() {
                self.monitors.entry(ip).or_default().push(id.clone());
            }
        }
    }

    fn monitors_on(&self, ip: IpAddr) -> &[MonitorId] {
        self.monitors.get(&ip).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.machines.values().filter_map(Own::next_due).min()
    }
}

/// What is on one machine.
#[derive(Default)]
struct On {
    services: BTreeSet<ServiceId>,
    monitors: Vec<MonitorId>,
    /// Servers and monitors by name.
    names: Vec<String>,
    /// Something there answers, or was not found to be silent yet.
    lives: bool,
}

impl On {
    /// So much that the machine is what they have in common.
    fn is_shared(&self) -> bool {
        self.services.len() + self.monitors.len() >= 2
    }
}

impl Server {
    /// Nothing comes back from it, for certain.
    fn is_silent(&self) -> bool {
        self.probes.verdict == Verdict::Bad
            && !self.unseen
            && self.probes.last_result.as_ref().is_some_and(ProbeFailure::is_nothing_back)
    }
}

impl Service {
    /// The other machine that all of its trouble is on, if nothing comes back from there.
    fn fails_on(&self, drilled: Option<&ServerId>) -> Option<IpAddr> {
        let mut at_fault = self.servers.iter().filter(|(_, s)| s.at_fault);
        let silent = |(id, s): (&ServerId, &Server)| s.far().filter(|_| s.is_silent() && Some(id) != drilled);
        let ip = at_fault.next().and_then(silent)?;
        at_fault.all(|server| silent(server) == Some(ip)).then_some(ip)
    }
}

impl Model {
    /// Finds machines that are gone, and those that are back.
    pub(crate) fn tend_gone(&mut self) {
        if self.out.sight.suspect().is_some() {
            let Self { gone, out, .. } = self;
            return gone.machines.values_mut().for_each(|own| own.tend(out));
        }
        let drilled = self.out.drilled.as_ref().and_then(Drilled::server);
        let failing = self.services.values().filter(|s| s.incident.is_some());
        let services = failing.filter_map(|s| s.fails_on(drilled));
        let monitors = self.monitors.silent_by_themselves().filter_map(|id| self.monitors.far_ip(id));
        let mut ips: BTreeSet<IpAddr> = services.chain(monitors).collect();
        ips.extend(self.gone.machines.keys());
        for ip in ips {
            let on = self.on(ip);
            let gone = on.is_shared() && !on.lives;
            if !gone && !self.gone.machines.contains_key(&ip) {
                continue;
            }
            let (severity, groups) = self.worst_of(&on);
            let own = self.gone.machines.entry(ip).or_default();
            let began = own.incident.is_none() && gone;
            let trouble = gone.then(|| own.trouble.clone().unwrap_or_else(|| on.words()));
            own.on_trouble(Scope::Address(ip), trouble.as_deref(), &mut self.out);
            if let Some(open) = &mut own.incident {
                if began {
                    let all = count(on.names.len() as u64, "server");
                    let evidence =
                        vec![format!("all {all} and monitors there are silent, of more than one service")];
                    open.diagnose(Diagnosis::likely(Cause::Network, evidence), &mut self.out);
                }
                open.steps.set_groups(groups.as_deref());
                let text = "what is on it serves nobody, or not everybody, any more".to_owned();
                open.worsen(severity, text, &mut self.out);
            }
            own.tend(&mut self.out);
            if own.incident.is_none() && own.trouble.is_none() {
                self.gone.machines.remove(&ip);
            }
        }
    }

    /// What is on a machine.
    fn on(&self, ip: IpAddr) -> On {
        let mut on = On::default();
        let drilled = self.out.drilled.as_ref().and_then(Drilled::server);
        for (id, server) in self.services.values().flat_map(|service| &service.servers) {
            if server.far() != Some(ip) || !server.is_ready() {
                continue;
            }
            on.services.insert(id.service.clone());
            on.names.push(id.to_string());
            on.lives |= !server.is_silent() || Some(id) == drilled;
        }
        for id in self.gone.monitors_on(ip) {
            on.monitors.push(id.clone());
            on.names.push(id.to_string());
            // Looked at seldom and patiently, a monitor is certain long after the servers are: its last look tells.
            on.lives |= !self.monitors.was_silent(id);
        }
        on
    }

    /// How bad it is for what is there, and who hears of that.
    fn worst_of(&self, on: &On) -> (Severity, Option<Vec<Arc<str>>>) {
        let mut worst = Severity::Degraded;
        let mut groups: Option<BTreeSet<Arc<str>>> = Some(BTreeSet::new());
        let mut hears = |of: Option<&Vec<Arc<str>>>| match (of, &mut groups) {
            (Some(of), Some(groups)) => groups.extend(of.iter().cloned()),
            _ => groups = None,
        };
        for service in on.services.iter().filter_map(|id| self.services.get(id)) {
            hears(service.policy.on_call.as_ref());
            let open = service.incident.as_ref().filter(|open| open.quiet_since.is_none());
            worst = open.map_or(worst, |open| worst.max(open.incident().severity));
        }
        for id in &on.monitors {
            hears(self.monitors.on_call(id));
            if let Some(open) = self.monitors.own_incident(id) {
                worst = worst.max(open.incident().severity);
            }
        }
        (worst, groups.filter(|groups| !groups.is_empty()).map(|groups| groups.into_iter().collect()))
    }

    /// The shared machine that something fails with, or may.
    pub(crate) fn fails_with(&self, what: &Needed) -> Option<IpAddr> {
        let drilled = self.out.drilled.as_ref().and_then(Drilled::server);
        let ip = match what {
            Needed::Service(id) => self.services.get(id)?.fails_on(drilled)?,
            Needed::Monitor(id) => self.monitors.far_ip(id).filter(|_| self.monitors.is_silent(id))?,
            Needed::Server(_) | Needed::Address(_) => return None,
        };
        self.on(ip).is_shared().then_some(ip)
    }

    /// What fails on other machines.
    pub(crate) fn on_other_machines(&self) -> impl Iterator<Item = Needed> {
        let drilled = self.out.drilled.as_ref().and_then(Drilled::server);
        let fails = move |s: &Service| s.incident.is_some() && s.fails_on(drilled).is_some();
        let services = self.services.iter().filter(move |(_, s)| fails(s));
        let services = services.map(|(id, _)| Needed::Service(id.clone()));
        services.chain(self.monitors.silent_by_themselves().cloned().map(Needed::Monitor))
    }

    /// It is gone.
    pub(crate) fn gone(&self, ip: IpAddr) -> Option<Failing> {
        let own = self.gone.machines.get(&ip).filter(|own| own.trouble.is_some())?;
        let open = own.incident.as_ref()?;
        let on = self.on(ip);
        let services =
            on.services.iter().filter_map(|id| Some(self.services.get(id)?.policy.health.interval));
        let monitors = on.monitors.iter().filter_map(|id| self.monitors.look_every(id));
        let every = services.chain(monitors).max().unwrap_or_default();
        Some(Failing { incident: open.incident().id, since: open.began, every })
    }

    /// Servers and monitors on a machine.
    pub(crate) fn is_on(&self, ip: IpAddr) -> (Vec<ServerId>, &[MonitorId]) {
        let servers = self.services.values().flat_map(|service| &service.servers);
        let servers = servers.filter(|(_, server)| server.far() == Some(ip)).map(|(id, _)| id.clone());
        (servers.collect(), self.gone.monitors_on(ip))
    }
}

impl On {
    fn words(&self) -> String {
        let named = self.names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        match self.names.len().saturating_sub(NAMED_MAX) {
            0 => format!("nothing comes back from {named}"),
            more => format!("nothing comes back from {named} and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests;
