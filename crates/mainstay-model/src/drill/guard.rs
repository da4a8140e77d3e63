//! When there is no drill, by name: whatever could make it more than a drill.

use std::fmt;

use crate::drill::{DrillOrder, Fault};
use crate::freeze::Freeze;
use crate::id::{IncidentId, ServerId};
use crate::out::Out;
use crate::server::{Server, Standing};
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::Mono;
use crate::words::percent;

/// Why there is no drill.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// There is no such service.
    NoService,
    /// The service has no such server.
    NoServer(String),
    /// A drill is under way.
    Drilling(u64),
    /// Mainstay is frozen.
    Frozen(Freeze),
    /// Mainstay may not see what it believes to see.
    Doubt,
    /// An incident of the service is open.
    Incident(IncidentId),
    /// The service is in maintenance.
    Maintenance,
    /// A release is on its way.
    Deploying,
    /// Its `switch` command runs, or it was switched.
    Switched,
    /// The service has state, and nobody said that this is known.
    Stateful,
    /// The server is not as well as it would have to be: how it is.
    NotWell(ServerId, String),
    /// Something is being done about this server already.
    Busy(ServerId),
    /// Without it too few are left: how many.
    TooFew(usize),
    /// The others could not carry what it carries.
    NoRoom,
    /// There are more requests than the service can answer.
    Strained,
    /// So large a share (0 to 1) of requests fails already.
    Failing(f64),
    /// Mainstay does not start this server itself.
    NotSupervised(ServerId, Fault),
    /// The budget of restarts is spent, so that it would not come back.
    BudgetSpent(ServerId),
    /// Connections of this service are passed on unread.
    Unread(Fault),
    /// This server is not spoken to over TLS.
    NoTls(ServerId),
    /// The fault is made at no server.
    NoServers(Fault),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoService => f.write_str("there is no such service"),
            Refusal::NoServer(name) => write!(f, "the service has no server {name}"),
            Refusal::Drilling(drill) => {
                write!(f, "drill {drill} is under way, and there is only one at a time")
            }
            Refusal::Frozen(freeze) => freeze.fmt(f),
            Refusal::Doubt => f.write_str("Mainstay doubts what it sees"),
            Refusal::Incident(id) => write!(f, "incident {id} is open"),
            Refusal::Maintenance => f.write_str("it is in maintenance"),
            Refusal::Deploying => f.write_str("a release is on its way"),
            Refusal::Switched => f.write_str("its switch command runs, or it was switched"),
            Refusal::Stateful => f.write_str(
                "it has state: another server may take its place for good. Say --stateful if that is known",
            ),
            Refusal::NotWell(server, how) => write!(f, "{} is not well enough: {how}", server.name),
            Refusal::Busy(server) => write!(f, "something is being done about {} already", server.name),
            Refusal::TooFew(0) => f.write_str("nobody else would be left"),
            Refusal::TooFew(left) => {
                write!(f, "{left} would be left, which is below panic-threshold, so traffic would go to all")
            }
            Refusal::NoRoom => f.write_str("the others could not carry what this server carries"),
            Refusal::Strained => f.write_str("there are more requests than it can answer"),
            Refusal::Failing(share) => write!(f, "{} of its requests fail already", percent(*share)),
            Refusal::NotSupervised(server, fault) => {
                write!(f, "Mainstay does not start {} itself, so it cannot {fault} it", server.name)
            }
            Refusal::BudgetSpent(server) => {
                write!(f, "the budget of restarts of {} is spent, so it would not come back", server.name)
            }
            Refusal::Unread(fault) => {
                write!(f, "its connections are passed on unread, so there is no `{fault}` to be made")
            }
            Refusal::NoServers(fault) => write!(f, "`{fault}` is made at Mainstay itself, at no server"),
            Refusal::NoTls(server) => write!(f, "{} is not spoken to over TLS", server.name),
        }
    }
}

impl Service {
    /// Whether there may be a drill at all, whichever server it is about.
    pub(super) fn may_be_drilled(&self, order: &DrillOrder, out: &Out) -> Result<(), Refusal> {
        if let Some(freeze) = out.frozen() {
            return Err(Refusal::Frozen(freeze.clone()));
        }
        if out.sight.is_doubted(out.now.mono) {
            return Err(Refusal::Doubt);
        }
        if let Some(open) = &self.incident {
            return Err(Refusal::Incident(open.incident().id));
        }
        if self.in_window(out).is_some() {
            return Err(Refusal::Maintenance);
        }
        if self.releases.deployment.is_some() {
            return Err(Refusal::Deploying);
        }
        if self.is_switched_away() || self.present_switch().is_some_and(|switch| switch.is_running()) {
            return Err(Refusal::Switched);
        }
        let stateful = self.policy.switch.is_some() || self.policy.state.is_some();
        if stateful && !order.stateful {
            return Err(Refusal::Stateful);
        }
        let unread = matches!(order.fault, Fault::Reset | Fault::Slow | Fault::Errors);
        if unread && self.policy.carriage.tcp.is_some() {
            return Err(Refusal::Unread(order.fault));
        }
        if self.load.is_strained() {
            return Err(Refusal::Strained);
        }
        let failing = self.visitors.rates(out.now.mono).error_share.unwrap_or(0.0);
        if failing > self.policy.drill.stop_at {
            return Err(Refusal::Failing(failing));
        }
        Ok(())
    }

    /// Whether this server may be drilled.
    pub(super) fn may_drill(&self, id: &ServerId, fault: Fault, out: &Out) -> Result<(), Refusal> {
        let now = out.now.mono;
        let no_server = || Refusal::NoServer(id.name.to_string());
        let server = self.servers.get(id).ok_or_else(no_server)?;
        if !is_at_its_best(server) || self.server_in_window(id, server, out).is_some() {
            return Err(Refusal::NotWell(id.clone(), server.rule.clone()));
        }
        let busy = |s: &Server| {
            s.recovery.pending.is_some()
                || s.recovery.outside.is_looking()
                || s.standing != Standing::Serves
                || s.is_starting(&self.policy, now)
        };
        if let Some((busy, _)) = self.servers.iter().find(|(_, s)| busy(s)) {
            return Err(Refusal::Busy(busy.clone()));
        }
        self.may_do_without(id, now)?;
        match fault {
            Fault::Kill | Fault::Hang => {
                if !server.policy.supervised || server.process.pid.is_none() {
                    return Err(Refusal::NotSupervised(id.clone(), fault));
                }
                let room = server.recovery.room_at(&self.policy.recovery, now);
                if room.is_none_or(|at| at > now) {
                    return Err(Refusal::BudgetSpent(id.clone()));
                }
            }
            Fault::Certificate if !server.policy.tls => return Err(Refusal::NoTls(id.clone())),
            _ => {}
        }
        Ok(())
    }

    /// Enough others carry the traffic at their best, and have room for what this one carries.
    pub(super) fn may_do_without(&self, id: &ServerId, now: Mono) -> Result<(), Refusal> {
        let others = || {
            self.servers
                .iter()
                .filter(|(other, s)| *other != id && s.is_primary() && is_at_its_best(s))
                .map(|(_, s)| s)
        };
        let left = others().count();
        let primaries = self.servers.values().filter(|s| s.is_ready() && s.is_primary()).count();
        if left == 0 || (left as f64) < self.policy.panic_threshold * primaries as f64 {
            return Err(Refusal::TooFew(left));
        }
        let room = others().try_fold(0u64, |sum, s| Some(sum + u64::from(s.policy.concurrent?)));
        if room.is_some_and(|room| self.visitors.in_flight(now) > room) {
            return Err(Refusal::NoRoom);
        }
        Ok(())
    }
}

/// It serves at its full share, and nothing speaks against it.
fn is_at_its_best(server: &Server) -> bool {
    server.eligible && server.is_ready() && server.health == Health::Healthy && server.slow_since.is_none()
}
