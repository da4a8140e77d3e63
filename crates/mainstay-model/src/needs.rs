//! What needs what: a failure of something that needs what is down itself is no incident of its own.
//!
//! Whatever the config says is needed (`needs`), and what that needs in turn, is looked for when something that needs it fails. If
//! one of them fails too, and began to no later than a moment after, its incident is the root: the other is attached to it, counts
//! what its visitors see, and tells nobody. Something that fails first is not told of before what it needs was looked at,
//! for `HOLD` at most. When the root is well and what is attached to it still fails after `GRACE`, it goes on by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Diagnosis};
use crate::id::{IncidentId, MonitorId, ServerId, ServiceId};
use crate::incident::{EntryKind, Severity};
use crate::model::Model;
use crate::open::Open;
use crate::policy::Policy;
use crate::service::Service;
use crate::time::{Mono, Wall};

/// Something that fails is not told of for so long, if what it needs has still to be looked at.
const HOLD: Duration = Duration::from_secs(15);
/// A root is noticed so much later than what needs it at most, beside the time between two looks at it.
const LAG: Duration = Duration::from_secs(15);
/// What is attached has so long to come back after its root, beside the time between two looks at it.
const GRACE: Duration = Duration::from_secs(30);
/// What it needs is looked at within so long when something fails.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

/// Something that is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needed {
    /// A service.
    Service(ServiceId),
    /// One server.
    Server(ServerId),
    /// What a monitor watches.
    Monitor(MonitorId),
    /// The machine with this address, which it shares with others.
    Address(IpAddr),
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Needed::Service(id) => id.fmt(f),
            Needed::Server(id) => id.fmt(f),
            Needed::Monitor(id) => id.fmt(f),
            Needed::Address(ip) => write!(f, "machine {ip}"),
        }
    }
}

/// Something that fails because what it needs does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// What fails.
    pub what: Needed,
    /// Which of the things that it needs is down.
    pub needs: Needed,
    /// The incident in which what it does is written down.
    pub incident: IncidentId,
    /// Since when it fails.
    pub since: Wall,
    /// When it was well again, or went on by itself.
    pub until: Option<Wall>,
}

impl Affected {
    /// So many are named in one incident.
    pub const MOST: usize = 100;
}

/// What an incident has to do with what its subject needs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tie {
    /// It is not told of yet: what it needs is looked at first.
    held: bool,
    /// It was looked into whether it is another one's fault, and asked for looks.
    asked: bool,
    /// It was looked into, and is not, as far as is known.
    looked: bool,
    /// The root has been well since then.
    well_since: Option<Mono>,
    /// It goes on by itself, whatever becomes of what it needs.
    alone: bool,
}

impl Open {
    /// It is a part of another one, or held back because it may be.
    pub(crate) fn is_tied(&self) -> bool {
        self.incident().part_of.is_some() || self.tie.held
    }

    /// It has still to be looked into whether it is the fault of something that its subject needs.
    pub(crate) fn may_be_anothers_fault(&self) -> bool {
        self.tie.held || !(self.tie.looked || self.tie.alone)
    }
}

/// What is needed and fails.
pub(crate) struct Failing {
    pub(crate) incident: IncidentId,
    pub(crate) since: Mono,
    /// Between two looks at it.
    pub(crate) every: Duration,
}

/// Who needs anything, and when that is next to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Services that need something.
    services: Vec<ServiceId>,
    /// Attached now, with their roots.
    attached: BTreeSet<(IncidentId, IncidentId)>,
    pub(crate) due: Option<Mono>,
}

impl Needs {
    pub(crate) fn on_policy(&mut self, policy: &Policy) {
        let services = policy.services.iter().filter(|(_, service)| !service.needs.is_empty());
        self.services = services.map(|(id, _)| id.clone()).collect();
    }
}

impl Model {
    /// Attaches what fails to what it needs, holds back what has still to be looked into, and lets go what goes on.
    pub(crate) fn tend_needs(&mut self) {
        self.needs.due = None;
        let is_ill = |id: &&ServiceId| self.services.get(*id).is_some_and(|one| one.incident.is_some());
        let services = self.needs.services.iter().filter(is_ill).cloned().map(Needed::Service);
        let mut dependents: BTreeSet<Needed> = services.chain(self.monitors.ill_with_needs()).collect();
        dependents.extend(self.on_other_machines());
        let tied = |(_, one): &(&ServiceId, &Service)| one.incident.as_ref().is_some_and(Open::is_tied);
        dependents.extend(self.services.iter().filter(tied).map(|(id, _)| Needed::Service(id.clone())));
        for dependent in &dependents {
            if let Some(open) = self.own_incident(dependent) {
                let (id, part_of) = (open.incident().id, open.incident().part_of);
                match part_of {
                    None => self.may_attach(dependent, id),
                    Some(root) => self.may_let_go(dependent, id, root),
                }
            }
        }
        self.let_go_of_what_is_over();
    }

    /// It fails: is it another one's fault?
    fn may_attach(&mut self, dependent: &Needed, id: IncidentId) {
        let now = self.out.now.mono;
        let root = self.root_of(dependent, &mut BTreeSet::new()).filter(|(_, root)| root.incident != id);
        let Some((open, _)) = self.open_incident(id) else { return };
        let (began, tie) = (open.began, open.tie);
        if tie.alone || open.quiet_since.is_some() {
            return self.release(dependent, id);
        }
        if let Some((need, root)) = root
            && root.since <= began + LAG + root.every
        {
            return self.attach(dependent, id, &need, root.incident);
        }
        let untold = self.open_incident(id).is_some_and(|(open, _)| open.told.opened_due.is_some());
        let until = began + HOLD;
        if !untold || now >= until || !self.is_undecided(dependent, began, &mut BTreeSet::new()) {
            return self.release(dependent, id);
        }
        if !tie.asked {
            self.look_at_needs(dependent);
        }
        if let Some((open, _)) = self.open_incident(id) {
            open.tie = Tie { held: true, asked: true, ..tie };
            // Told when everything that it needs is known to be well, and then at the latest.
            open.told.opened_due = Some(until);
        }
        self.again_at(until);
    }

    /// It is told of after all.
    fn release(&mut self, dependent: &Needed, id: IncidentId) {
        let now = self.out.now.mono;
        let Some((open, _)) = self.open_incident(id) else { return };
        let first = !std::mem::replace(&mut open.tie.looked, true);
        let held = std::mem::take(&mut open.tie.held);
        if held && open.told.opened_due.is_some() {
            open.told.opened_due = Some(now + crate::notices::SETTLE);
        }
        if first || held {
            self.settle_again(dependent);
        }
    }

    fn attach(&mut self, dependent: &Needed, id: IncidentId, need: &Needed, root: IncidentId) {
        let Some((open, out)) = self.open_incident(id) else { return };
        let text = format!("{dependent} needs {need}, which fails too (incident {root})");
        let since = open.incident().began_at;
        open.become_part_of(root);
        open.tie = Tie { asked: true, ..Tie::default() };
        open.diagnose(Diagnosis::sure(Cause::Dependency, vec![text]), out);
        open.write_down(out, true);
        if let Some((open, out)) = self.open_incident(root) {
            let affected =
                Affected { what: dependent.clone(), needs: need.clone(), incident: id, since, until: None };
            open.affects(affected);
            open.entry(
                EntryKind::Found,
                None,
                None,
                format!("{dependent} fails with it: it needs {need}"),
                out,
            );
            open.write_down(out, true);
        }
        self.needs.attached.insert((id, root));
        self.settle_again(dependent);
    }

    /// It is attached: does its root still fail?
    fn may_let_go(&mut self, dependent: &Needed, id: IncidentId, root: IncidentId) {
        let now = self.out.now.mono;
        self.needs.attached.insert((id, root));
        let found = self.root_of(dependent, &mut BTreeSet::new()).filter(|(_, root)| root.incident != id);
        if let Some((need, other)) = found.as_ref().filter(|(_, other)| other.incident != root) {
            // Its root has turned out to be a part itself, or another one has taken its place.
            return self.attach(dependent, id, need, other.incident);
        }
        let fails = found.is_some();
        let grace = GRACE + self.look_every(dependent);
        let Some((open, out)) = self.open_incident(id) else { return };
        if fails || open.quiet_since.is_some() {
            open.tie.well_since = None;
            return;
        }
        let since = *open.tie.well_since.get_or_insert(now);
        if now < since + grace {
            return self.again_at(since + grace);
        }
        open.goes_on_alone(out);
        open.tie = Tie { alone: true, asked: true, ..Tie::default() };
        let text = format!("what it needs is well again, and {dependent} is not: it goes on by itself");
        open.entry(EntryKind::Worsened, None, None, text, out);
        open.write_down(out, true);
        self.settle_again(dependent);
    }

    /// The roots say until when what they took along failed.
    fn let_go_of_what_is_over(&mut self) {
        let now = self.out.now.wall;
        let attached = std::mem::take(&mut self.needs.attached);
        let is_over = |model: &mut Self, id, root| {
            model.open_incident(id).is_none_or(|(open, _)| open.incident().part_of != Some(root))
        };
        for (id, root) in attached {
            if !is_over(self, id, root) {
                self.needs.attached.insert((id, root));
            } else if let Some((open, out)) = self.open_incident(root) {
                open.affects_no_more(id, now);
                open.write_down(out, true);
            }
        }
    }

    /// The first of the things that it needs, or that they need, that fails; the thing itself is the one named.
    fn root_of(&self, dependent: &Needed, seen: &mut BTreeSet<Needed>) -> Option<(Needed, Failing)> {
        let needs = self.needs_of(dependent);
        let failing = |need: &Needed| Some((need.clone(), self.failing(need)?));
        if let Some(found) = needs.iter().find_map(failing) {
            return Some(found);
        }
        needs.iter().find_map(|need| {
            let service = match need {
                Needed::Server(server) => Needed::Service(server.service.clone()),
                other => other.clone(),
            };
            if seen.insert(service.clone()) { self.root_of(&service, seen) } else { None }
        })
    }

    /// What it needs: the machine that it fails with, and what the config says.
    fn needs_of(&self, what: &Needed) -> Vec<Needed> {
        let stated = match what {
            Needed::Service(id) => self.services.get(id).map(|s| s.policy.needs.clone()),
            Needed::Server(id) => self.services.get(&id.service).map(|s| s.policy.needs.clone()),
            Needed::Monitor(id) => self.monitors.needs(id).map(<[Needed]>::to_vec),
            Needed::Address(_) => None,
        };
        let machine = self.fails_with(what).map(Needed::Address);
        machine.into_iter().chain(stated.unwrap_or_default()).collect()
    }

    fn failing(&self, what: &Needed) -> Option<Failing> {
        let of = |open: &Open, since, every| {
            let incident = open.incident();
            Failing { incident: incident.part_of.unwrap_or(incident.id), since, every }
        };
        match what {
            Needed::Service(id) => {
                let service = self.services.get(id)?;
                let open = service.incident.as_ref().filter(|open| open.quiet_since.is_none())?;
                let hurts =
                    open.incident().severity >= Severity::Partial || service.is_down(self.out.now.mono);
                hurts.then(|| of(open, open.began, service.policy.health.interval))
            }
            Needed::Server(id) => {
                let service = self.services.get(&id.service)?;
                let open = service.incident.as_ref().filter(|open| open.quiet_since.is_none())?;
                let fails = service.servers.get(id)?.at_fault;
                fails.then(|| of(open, open.began, service.policy.health.interval))
            }
            Needed::Monitor(id) => {
                let (open, since, every) = self.monitors.failing(id)?;
                Some(of(open, since.unwrap_or(open.began), every))
            }
            Needed::Address(ip) => self.gone(*ip),
        }
    }

    /// Something that it needs was not looked at since then, or has begun to fail.
    fn is_undecided(&self, dependent: &Needed, since: Mono, seen: &mut BTreeSet<Needed>) -> bool {
        self.needs_of(dependent).iter().any(|need| {
            if !seen.insert(need.clone()) {
                return false;
            }
            let service = |id: &ServiceId, only: Option<&ServerId>| {
                let service = self.services.get(id);
                let servers = service.into_iter().flat_map(|service| &service.servers);
                let mut servers = servers.filter(|(id, _)| only.is_none_or(|only| *id == only));
                servers.any(|(_, s)| {
                    let looked = s.probes.good_ordered_at >= since || s.at_fault;
                    s.is_ready()
                        && s.address.is_some()
                        && (s.probes.failed_in_row > 0 && !s.at_fault || !looked)
                })
            };
            let itself = match need {
                Needed::Service(id) => service(id, None),
                Needed::Server(id) => service(&id.service, Some(id)),
                Needed::Monitor(id) => self.monitors.is_undecided(id, since),
                Needed::Address(ip) => {
                    let (servers, monitors) = self.is_on(*ip);
                    servers.iter().any(|id| service(&id.service, Some(id)))
                        || monitors.iter().any(|id| self.monitors.is_undecided(id, since))
                }
            };
            itself || self.is_undecided(need, since, seen)
        })
    }

    fn look_every(&self, what: &Needed) -> Duration {
        match what {
            Needed::Service(id) => {
                self.services.get(id).map(|s| s.policy.health.interval + s.policy.slow_start)
            }
            Needed::Server(_) | Needed::Address(_) => None,
            Needed::Monitor(id) => self.monitors.look_every(id),
        }
        .unwrap_or_default()
    }

    /// Those that are looked at seldom are looked at now.
    fn look_at_needs(&mut self, dependent: &Needed) {
        for need in self.needs_of(dependent) {
            let monitors = match &need {
                Needed::Monitor(id) => vec![id.clone()],
                Needed::Address(ip) => self.is_on(*ip).1.to_vec(),
                Needed::Service(_) | Needed::Server(_) => Vec::new(),
            };
            for id in monitors {
                self.monitors.look_soon(&id, LOOK_WITHIN, &mut self.out);
            }
        }
    }

    /// The incident of its own.
    fn own_incident(&self, what: &Needed) -> Option<&Open> {
        match what {
            Needed::Service(id) => self.services.get(id)?.incident.as_ref(),
            Needed::Server(_) | Needed::Address(_) => None,
            Needed::Monitor(id) => self.monitors.own_incident(id),
        }
    }

    /// Its timers are other ones now.
    fn settle_again(&mut self, what: &Needed) {
        match what {
            Needed::Service(id) => self.with(&id.clone(), |_, _| {}),
            Needed::Server(_) | Needed::Address(_) => {}
            Needed::Monitor(id) => self.monitors.settle_again(id, &mut self.out),
        }
    }

    fn again_at(&mut self, at: Mono) {
        self.needs.due = Some(self.needs.due.map_or(at, |due| due.min(at)));
    }
}

#[cfg(test)]
mod tests;
