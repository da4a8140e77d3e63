//! What people and programs look at: the whole of the judgement at one moment, as plain data.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chain::CertificateSnapshot;
use crate::change::Change;
use crate::drill::Drill;
use crate::endpoint::Endpoint;
use crate::freeze::Freeze;
use crate::host::{HostSnapshot, MachineSnapshot};
use crate::id::{BackupId, IncidentId, MonitorId, ServerId, ServiceId};
use crate::incident::{Incident, IncidentState, Scope};
use crate::input::{AdminState, BackupRecord, BackupTask, Circuit, Exit, OwnPart};
use crate::lead::{DataState, LeadSnapshot};
use crate::memory::Remedy;
use crate::monitor::{MonitorCounts, MonitorSnapshot, MonitorState};
use crate::needs::Needed;
use crate::policy::Role;
use crate::proposal::Proposal;
use crate::publication::Publications;
use crate::release::ReleasesSnapshot;
use crate::routing::RoutingMode;
use crate::sample::Phases;
use crate::scale::ScaleSnapshot;
use crate::substitute::Substitute;
use crate::switch::SwitchSnapshot;
use crate::time::Wall;
use crate::window::{InMaintenance, WindowSnapshot};

/// The whole of the judgement at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Wall,
    /// By name.
    pub services: Vec<ServiceSnapshot>,
    /// Open and acknowledged incidents, newest first, then the last ten that were resolved.
    pub incidents: Vec<Arc<Incident>>,
    /// Parts of Mainstay that are in trouble, with what is wrong.
    pub own_trouble: Vec<(OwnPart, String)>,
    /// The machine that Mainstay runs on; `None` when it is not watched, or nothing was heard for some seconds.
    #[serde(default)]
    pub host: Option<HostSnapshot>,
    /// The machine is watched.
    #[serde(default)]
    pub host_watched: bool,
    /// Other machines whose figures are told, by name.
    #[serde(default)]
    pub machines: Vec<MachineSnapshot>,
    /// What people told the public, of the newest incidents of which anything is told. Left out where a snapshot is stored or
    /// sent: it is long, and asked for by incident.
    #[serde(skip)]
    pub publications: Publications,
    /// What is backed up, by name.
    pub backups: Vec<BackupSnapshot>,
    /// What Mainstay would do or would have done, if it might: what is open, and the last hundred that are over, the newest first.
    #[serde(default)]
    pub proposals: Vec<Arc<Proposal>>,
    /// What helped before, by service. Left out where a snapshot is stored or sent: it is asked for by itself.
    #[serde(skip)]
    pub remedies: Arc<Vec<Remedy>>,
    /// What was changed in the last day, the newest first. At most 200.
    #[serde(default)]
    pub changes: Vec<Arc<Change>>,
    /// What is only watched, by name. Left out where a snapshot is stored or sent: there may be ten thousand of them, and they
    /// are asked for by name or by the page.
    #[serde(skip)]
    pub monitors: Arc<Vec<Arc<MonitorSnapshot>>>,
    /// Certificates that visitors are shown.
    #[serde(default)]
    pub certificates: Vec<CertificateSnapshot>,
    /// Maintenance windows: those of the config, then those that people opened.
    #[serde(default)]
    pub windows: Vec<WindowSnapshot>,
    /// Mainstay does nothing on its own but route and tell.
    #[serde(default)]
    pub freeze: Option<Freeze>,
    /// Drills, the newest first. Left out where a snapshot is stored or sent: they are asked for by themselves.
    #[serde(skip)]
    pub drills: Arc<Vec<Arc<Drill>>>,
    /// How many monitors are in which state.
    pub monitor_counts: MonitorCounts,
    /// What clients did that was refused before any server saw it, by the name of the refusal, since this run began.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
}

impl Snapshot {
    /// One service.
    pub fn service(&self, id: &ServiceId) -> Option<&ServiceSnapshot> {
        self.services.iter().find(|s| &s.id == id)
    }

    /// The service's open incident.
    pub fn open_incident(&self, id: &ServiceId) -> Option<IncidentId> {
        let mine =
            |i: &&Arc<Incident>| i.state != IncidentState::Resolved && i.scope == Scope::Service(id.clone());
        self.incidents.iter().find(mine).map(|incident| incident.id)
    }

    /// One monitor.
    pub fn monitor(&self, id: &MonitorId) -> Option<&Arc<MonitorSnapshot>> {
        let place = self.monitors.binary_search_by(|monitor| monitor.id.cmp(id)).ok()?;
        self.monitors.get(place)
    }

    /// One server.
    pub fn server(&self, id: &ServerId) -> Option<&ServerSnapshot> {
        self.service(&id.service)?.servers.iter().find(|s| &s.id == id)
    }
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupSnapshot {
    /// Its name.
    pub id: BackupId,
    /// What is being done with it, and since when.
    pub running: Option<(BackupTask, Wall)>,
    /// The last time that it was made, or could not be.
    pub last_run: Option<BackupRecord>,
    /// The last time that it was made well.
    pub last_good_run: Option<BackupRecord>,
    /// The last time that it was tried out.
    pub last_verify: Option<BackupRecord>,
    /// When it is made next.
    pub next_run_at: Wall,
    /// When it is tried out next; `None`: never, or not before there is one.
    pub next_verify_at: Option<Wall>,
    /// What is wrong with it; `None`: nothing.
    pub trouble: Option<String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// Its name.
    pub id: ServiceId,
    /// Host names that lead here; empty: every host.
    pub hosts: Vec<String>,
    /// Its connections are passed on unread, each of them counts as a request, and `hosts` are names that TLS asks for.
    #[serde(default)]
    pub tcp: bool,
    /// The state shown for the service as a whole: the worst that a visitor can feel.
    pub state: ServiceState,
    /// The same, whatever maintenance window it is in.
    pub felt: ServiceState,
    /// The maintenance window that it is in as a whole.
    #[serde(default)]
    pub maintenance: Option<InMaintenance>,
    /// Which servers carry it.
    pub mode: RoutingMode,
    /// Over the last ten seconds.
    pub rates: Rates,
    /// Since this run began.
    pub totals: Totals,
    /// Requests under way, less those that wait for room.
    pub in_flight: u64,
    /// Requests that wait for room.
    pub queued: u64,
    /// Its releases; `None` when no command has a place for one.
    pub releases: Option<ReleasesSnapshot>,
    /// How many instances it has; `None` when that is not Mainstay's to decide.
    pub scale: Option<ScaleSnapshot>,
    /// The user's own switch; `None` when there is none.
    pub switch: Option<SwitchSnapshot>,
    /// Servers that were replaced, newest first.
    #[serde(default)]
    pub substitutes: Vec<Substitute>,
    /// Who takes the writes; `None` where servers keep no state.
    #[serde(default)]
    pub lead: Option<LeadSnapshot>,
    /// What it takes on; `None`: everything.
    pub limits: Option<LimitsSnapshot>,
    /// By name.
    pub servers: Vec<ServerSnapshot>,
    /// Where visitors reach it and what DNS says, if the config asks for it.
    #[serde(default)]
    pub front: Option<FrontSnapshot>,
    /// Mainstay's own door, if it is looked at as the service's visitors see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<DoorSnapshot>,
    /// What its servers need, as the config says.
    #[serde(default)]
    pub needs: Vec<Needed>,
}

/// The front door as visitors of a service see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoorSnapshot {
    /// Up, down, or not known.
    pub state: MonitorState,
    /// Since when.
    pub since: Wall,
    /// The last look at it.
    pub last: Option<LastProbe>,
}

/// Where visitors reach a service, and what DNS says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FrontSnapshot {
    /// Front addresses, in their order; empty: names lead straight to the servers.
    pub addresses: Vec<FrontAddress>,
    /// Names in a zone that Mainstay answers or updates follow the service.
    pub live: bool,
    /// What those names say now.
    pub answers: Vec<IpAddr>,
    /// Something is wrong, so answers are not to be kept for long.
    pub trouble: bool,
    /// Names that lead visitors here.
    pub names: Vec<String>,
    /// What DNS said of them when it was last asked.
    pub dns: Vec<DnsSays>,
}

/// One front address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontAddress {
    /// Where visitors are led to.
    pub address: SocketAddr,
    /// Mainstay itself listens there.
    pub own: bool,
    /// It answers.
    pub good: bool,
    /// Since when.
    pub since: Wall,
    /// What was last seen of it, for a person; empty: nothing yet.
    pub last: String,
}

/// What one DNS server said of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSays {
    /// The name.
    pub name: String,
    /// Who was asked.
    pub from: String,
    /// When.
    pub at: Wall,
    /// The answer, for a person: `192.0.2.10, TTL 60`.
    pub text: String,
    /// It leads to a dead address.
    pub stale: bool,
}

/// The limits of a service, and what they refuse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsSnapshot {
    /// How often one address may ask, as written: `50/s`.
    pub per_address: Option<String>,
    /// Requests under way at once.
    pub concurrent: Option<u32>,
    /// With `adaptive`: how many of them are let in now.
    #[serde(default)]
    pub places: Option<u64>,
    /// Requests that wait; 0 without `concurrent`.
    pub queue: u32,
    /// Requests refused for the limit of their address, a second over the last ten.
    pub limited_per_second: f64,
    /// Requests shed, a second over the last ten.
    pub shed_per_second: f64,
}

/// How a service is for its visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Nothing is known yet.
    Unknown,
    /// All of its servers serve.
    Healthy,
    /// Some do not, or some requests fail.
    Degraded,
    /// It answers nobody.
    Down,
    /// It is in a maintenance window, whatever it does there.
    Maintenance,
}

impl ServiceState {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceState::Unknown => "unknown",
            ServiceState::Healthy => "healthy",
            ServiceState::Degraded => "degraded",
            ServiceState::Down => "down",
            ServiceState::Maintenance => "maintenance",
        }
    }
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Not looked at yet, or not to be seen.
    #[default]
    Unknown,
    /// Serves.
    Healthy,
    /// Serves, but one of the witnesses (probes, traffic) complains.
    Degraded,
    /// Does not serve.
    Unhealthy,
}

impl Health {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// Why a server is there although the config does not name it, or is not given what its health allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerNote {
    /// It runs a new release, which gets its share of the requests by chance.
    OnTrial,
    /// It is beside the servers for a deploy.
    StandingBy,
    /// It runs the release before, which may be gone back to.
    Warm,
    /// It is beside the servers, and carries the share of the one that is being replaced.
    StandingIn,
    /// It is to run another release.
    BeingReplaced,
    /// Fewer instances are enough.
    Leaving,
    /// Another instance has taken its place.
    Replaced,
    /// It takes the place of another server.
    Substitute,
    /// It was made in the place of another server, and gets nothing.
    SubstituteAside,
    /// The service was switched away from it; it gets nothing until a person goes back.
    SwitchedAway,
    /// It is a backup, and the primaries suffice again.
    GivingBack,
    /// Its probes are good, and real requests fail.
    Gray,
    /// Its probes fail, and real requests are answered well.
    CheckWrong,
    /// It takes the writes.
    Lead,
    /// It took the writes, and gets none now.
    NoLonger,
    /// It keeps the same state as the one that takes the writes, and gets none.
    Standby,
    /// It took itself for the primary beside the one that takes the writes, and gets none until it is a replica.
    KeptOut,
    /// It takes writes elsewhere, and serves reads here when the replicas do not suffice.
    Primary,
}

impl ServerNote {
    /// The words used on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerNote::OnTrial => "on trial",
            ServerNote::StandingBy => "standing by",
            ServerNote::Warm => "kept warm",
            ServerNote::StandingIn => "standing in",
            ServerNote::BeingReplaced => "being replaced",
            ServerNote::Leaving => "leaving",
            ServerNote::Replaced => "replaced",
            ServerNote::Substitute => "substitute",
            ServerNote::SubstituteAside => "substitute, aside",
            ServerNote::SwitchedAway => "switched away from",
            ServerNote::GivingBack => "giving back",
            ServerNote::Gray => "gray",
            ServerNote::CheckWrong => "check is wrong",
            ServerNote::Lead => "lead",
            ServerNote::NoLonger => "no writes",
            ServerNote::Standby => "standby",
            ServerNote::KeptOut => "kept out",
            ServerNote::Primary => "primary",
        }
    }

    /// What it means: the end of a sentence about the server.
    pub fn about(self) -> &'static str {
        match self {
            ServerNote::OnTrial => "runs a new release on trial",
            ServerNote::StandingBy => "is beside the servers for a deploy, and gets nothing",
            ServerNote::Warm => "runs the release before, which is kept warm, and gets nothing",
            ServerNote::StandingIn => "carries the share of the server that is being replaced",
            ServerNote::BeingReplaced => "gets nothing new: it is to run another release",
            ServerNote::Leaving => "gets nothing new: fewer instances are enough",
            ServerNote::Replaced => {
                "gets nothing: another instance has taken its place until you make it ready"
            }
            ServerNote::Substitute => "serves in the place of another server",
            ServerNote::SubstituteAside => "was made in the place of another server, and gets nothing",
            ServerNote::SwitchedAway => "was switched away from, and gets nothing until a person goes back",
            ServerNote::GivingBack => "gives back: the primaries suffice again, and its share falls",
            ServerNote::Gray => "is gray",
            ServerNote::CheckWrong => "answers well, and its check says otherwise",
            ServerNote::Lead => "is the lead: it takes the writes",
            ServerNote::NoLonger => "took the writes, and gets none now",
            ServerNote::Standby => "stands by: writes go to the lead",
            ServerNote::KeptOut => "is kept out until it is a replica: it was a primary beside the lead",
            ServerNote::Primary => "is the primary, and serves when too few replicas do",
        }
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerSnapshot {
    /// Its name.
    pub id: ServerId,
    /// Where it listens; `None` when that is not known.
    pub address: Option<Endpoint>,
    /// Primary or backup.
    pub role: Role,
    /// How it is.
    pub health: Health,
    /// Since when.
    pub health_since: Wall,
    /// What a person wants of it.
    pub admin: AdminState,
    /// The maintenance window that it is in, by itself or with its service.
    #[serde(default)]
    pub maintenance: Option<InMaintenance>,
    /// When a person drained it or took it out, and how long what is under way there may go on; `None`: it is ready.
    pub drain: Option<DrainSnapshot>,
    /// It is in rotation.
    pub in_rotation: bool,
    /// Its part of a full share, 0 to 1: below 1 during slow start, 0 when out of rotation.
    pub share: f64,
    /// Attempts over the last ten seconds.
    pub rates: Rates,
    /// Attempts since this run began.
    pub totals: Totals,
    /// It serves connections of a TCP service, not requests.
    #[serde(default)]
    pub tcp: bool,
    /// Attempts under way.
    pub in_flight: u64,
    /// Of them, upgraded connections (WebSockets).
    #[serde(default)]
    pub tunnels: u64,
    /// What the data plane makes of it by itself, before the judge has spoken.
    #[serde(default)]
    pub circuit: Circuit,
    /// The last probe.
    pub last_probe: Option<LastProbe>,
    /// The release that it was started with.
    pub release: Option<u64>,
    /// Why it is there although the config does not name it, or gets nothing although it is healthy; `None`: an ordinary server.
    pub note: Option<ServerNote>,
    /// What it said of its data when it was last asked, where servers keep state.
    #[serde(default)]
    pub data: Option<DataState>,
    /// Its process, if Mainstay supervises it.
    pub process: Option<ProcessSnapshot>,
    /// Why it is what it is.
    pub why: Why,
}

impl ServerSnapshot {
    /// What is under way there, in words: `3 requests and 2 WebSockets`, or `4 connections`.
    pub fn under_way(&self) -> String {
        if self.tcp {
            return counted(self.in_flight, "connection");
        }
        let requests = counted(self.in_flight - self.tunnels.min(self.in_flight), "request");
        match self.tunnels {
            0 => requests,
            tunnels if tunnels >= self.in_flight => counted(tunnels, "WebSocket"),
            tunnels => format!("{requests} and {}", counted(tunnels, "WebSocket")),
        }
    }

    /// How far a drain has come by `now`, in words; `None`: it does not drain.
    pub fn drain_progress(&self, now: Wall) -> Option<String> {
        let done = self.drain.is_some_and(|drain| drain.done);
        (self.admin == AdminState::Draining).then(|| match self.in_flight {
            0 if done => "nothing is under way there any more".to_owned(),
            0 => "it gets nothing new".to_owned(),
            _ => format!("{} still under way{}", self.under_way(), self.drain_ends(now)),
        })
    }

    /// When what is left there is ended, as the end of a sentence; empty: nobody ends it.
    pub fn drain_ends(&self, now: Wall) -> String {
        let Some(drain) = self.drain else { return String::new() };
        match u64::try_from(drain.until.ms_since(now)).map_or(0, |ms| ms.div_ceil(1000)) {
            0 => "; its time is over".to_owned(),
            seconds => format!("; what is left in {} is ended", countdown(seconds)),
        }
    }
}

/// `40s`, `9m 40s`, `2h 5m`.
fn countdown(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

/// A drain by a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainSnapshot {
    /// When it began.
    pub since: Wall,
    /// When what is still under way is ended.
    pub until: Wall,
    /// Whether the data plane has said since that nothing is under way. What it tells is up to half a second old, so
    /// that nothing under way at first means little.
    #[serde(default)]
    pub done: bool,
}

fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Figures over the last ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Requests (of a service) or attempts (at a server) a second.
    pub per_second: f64,
    /// The share (0 to 1) of them that failed or were answered 5xx; `None` without any.
    pub error_share: Option<f64>,
    /// Median time to the answer's first byte, milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of it, milliseconds.
    pub p99_ms: Option<f64>,
}

/// Counts since this run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Requests (of a service) or attempts (at a server) that ended.
    pub requests: u64,
    /// Of them failed: refused or cut short (service), failed attempts (server).
    pub failed: u64,
    /// Of them answered 5xx by a server.
    pub server_errors: u64,
    /// Of them saved by a retry. Always 0 for a server, as are the next three.
    pub saved: u64,
    /// Of them well answered, but slow.
    pub slow: u64,
    /// Of them refused because there was no room.
    pub shed: u64,
    /// Of them refused because their address had asked too often.
    pub limited: u64,
}

/// The last probe of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastProbe {
    /// When it ended.
    pub at: Wall,
    /// It was good.
    pub good: bool,
    /// What it saw, for a person: `200 in 3 ms`, `connection refused`.
    pub text: String,
    /// How long it took, milliseconds.
    pub took_ms: f64,
    /// When each part of it was done.
    #[serde(default)]
    pub phases: Phases,
}

/// The process of a supervised server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSnapshot {
    /// Its process id; `None` when it does not run.
    pub pid: Option<u32>,
    /// Since when it runs, or has not.
    pub since: Wall,
    /// How it last ended.
    pub last_exit: Option<Exit>,
    /// Restarts that count against the budget.
    pub restarts_in_window: u32,
    /// The budget.
    pub restart_budget: u32,
    /// When the next restart is due, if one waits.
    pub next_restart_at: Option<Wall>,
}

/// Why a server is what it is: enough for an operator to agree or to disagree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Why {
    /// The rule that decided, in one sentence: "2 probes in a row failed (fall = 2)".
    pub rule: String,
    /// What would change it, in one sentence: "2 good probes in a row (rise = 2)".
    pub would_change: String,
    /// What each witness says, with its threshold.
    pub signals: Vec<Signal>,
    /// The last changes, newest first, at most 10.
    pub changes: Vec<StateChange>,
}

/// What one witness says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name: `probes failed in a row`.
    pub name: String,
    /// Its value now, with its unit.
    pub value: String,
    /// What it is measured against, with its key in the config: `fall = 2`.
    pub threshold: String,
    /// It speaks against the server.
    pub bad: bool,
}

/// A change of a server's health, rotation or admin state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateChange {
    /// When.
    pub at: Wall,
    /// What, with the reason: "unhealthy: connection refused".
    pub text: String,
}
