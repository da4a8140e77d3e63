//! What is remembered of an outage: one incident per root cause, with a timeline of all that mattered.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cause::Diagnosis;
use crate::change::Change;
use crate::drill::OfDrill;
use crate::escalation::Escalation;
use crate::id::{ActionId, BackupId, IncidentId, MachineId, MonitorId, ServerId, ServiceId};
use crate::impact::{Curve, Impact};
use crate::needs::Affected;
use crate::sample::Sample;
use crate::time::Wall;

/// One outage, from the first sign to the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// What it is about.
    pub scope: Scope,
    /// One sentence for a person, without a full stop: "app-2 of shop was killed by SIGKILL".
    pub title: String,
    /// Where it stands.
    pub state: IncidentState,
    /// Whether visitors are hurt by it.
    pub severity: Severity,
    /// The servers that took part, in the order in which they failed.
    pub servers: Vec<ServerId>,
    /// The first sign, which may be before the incident was opened.
    pub began_at: Wall,
    /// When it was opened.
    pub opened_at: Wall,
    /// When the first server was out of rotation; `None` if none was taken out.
    pub diverted_at: Option<Wall>,
    /// When the first recovery action was begun; `None` if none was.
    #[serde(default)]
    pub acted_at: Option<Wall>,
    /// When every server served again.
    pub recovered_at: Option<Wall>,
    /// When it was closed.
    pub resolved_at: Option<Wall>,
    /// Who took it on, and when.
    pub acknowledged: Option<(String, Wall)>,
    /// What visitors saw since it began.
    pub seen: VisitorsSaw,
    /// Who was hurt by it and what it cost.
    #[serde(default)]
    pub impact: Impact,
    /// What visitors saw, over time. Left out of lists, as the timeline is.
    #[serde(default)]
    pub curve: Curve,
    /// Why it happened, as far as that is known.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
    /// What was changed in the hour before it began, the nearest first. At most ten.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Who was told, and who is next.
    #[serde(default)]
    pub escalation: Escalation,
    /// The incident of what it needs, which it is a part of.
    #[serde(default)]
    pub part_of: Option<IncidentId>,
    /// What fails because of it, in the order in which that was found. At most [`Affected::MOST`].
    #[serde(default)]
    pub affected: Vec<Affected>,
    /// Others that do.
    #[serde(default)]
    pub affected_left_out: u64,
    /// A drill led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<OfDrill>,
    /// What happened, oldest first. At most [`Incident::TIMELINE_MAX`] entries; what is over is counted in `timeline_left_out`.
    pub timeline: Vec<TimelineEntry>,
    /// Entries that were left out of the middle.
    pub timeline_left_out: u64,
}

impl Incident {
    /// A longer timeline helps nobody: a server that flaps all night is one line with a count.
    pub const TIMELINE_MAX: usize = 500;

    /// How long each step took, from the first sign on.
    pub fn times(&self) -> Times {
        let after = |at: Wall| u64::try_from(at.ms_since(self.began_at)).unwrap_or(0);
        Times {
            to_notice_ms: after(self.opened_at),
            to_divert_ms: self.diverted_at.map(after),
            to_act_ms: self.acted_at.map(after),
            to_recover_ms: self.recovered_at.map(after),
        }
    }
}

/// How long each step of an incident took, in milliseconds since its first sign; 0 where the clock was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Times {
    /// Until it was clear that this is an incident.
    pub to_notice_ms: u64,
    /// Until the first server was out of rotation; `None`: none was taken out.
    pub to_divert_ms: Option<u64>,
    /// Until the first recovery action was begun; `None`: none was.
    pub to_act_ms: Option<u64>,
    /// Until everything served well again; `None`: not yet.
    pub to_recover_ms: Option<u64>,
}

/// What an incident is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Servers of this service.
    Service(ServiceId),
    /// A part of Mainstay itself.
    Own(crate::input::OwnPart),
    /// The machine that Mainstay runs on.
    Host(crate::host::HostPart),
    /// Another machine.
    Machine {
        /// Which one.
        machine: MachineId,
        /// What of it.
        part: crate::host::HostPart,
    },
    /// A machine that several things are on, by its address.
    Address(std::net::IpAddr),
    /// A backup that is late, fails, or could not be restored.
    Backup(BackupId),
    /// What a monitor watches.
    Monitor(MonitorId),
    /// Many monitors at once.
    Monitors,
    /// Checks of this service, which say other than its visitors do.
    Check(ServiceId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Service(id) => id.fmt(f),
            Scope::Own(part) => write!(f, "Mainstay's own {}", part.as_str()),
            Scope::Host(part) => f.write_str(&part.of("this machine")),
            Scope::Machine { machine, part } => f.write_str(&part.of(machine.as_str())),
            Scope::Address(ip) => write!(f, "machine {ip}"),
            Scope::Backup(id) => write!(f, "backup {id}"),
            Scope::Monitor(id) => write!(f, "monitor {id}"),
            Scope::Monitors => f.write_str("monitors"),
            Scope::Check(id) => write!(f, "check of {id}"),
        }
    }
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentState {
    /// Nobody has taken it on.
    Open,
    /// Somebody has.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl IncidentState {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            IncidentState::Open => "open",
            IncidentState::Acknowledged => "acknowledged",
            IncidentState::Resolved => "resolved",
        }
    }
}

/// How bad an incident is for visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Redundancy is less; nobody noticed.
    Degraded,
    /// Some requests failed.
    Partial,
    /// The service answers nobody.
    Down,
}

impl Severity {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Degraded => "degraded",
            Severity::Partial => "partial",
            Severity::Down => "down",
        }
    }
}

/// What visitors saw during an incident, counted from requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VisitorsSaw {
    /// They are connections of a TCP service, not requests.
    #[serde(default)]
    pub connections: bool,
    /// Requests that ended.
    pub requests: u64,
    /// Requests refused or cut short by the fault.
    pub failed: u64,
    /// Requests answered 5xx by a server and passed on.
    pub server_errors: u64,
    /// Requests that were well answered only because they were tried again.
    pub saved: u64,
    /// Requests that were well answered, but later than `slow-after`.
    #[serde(default)]
    pub slow: u64,
    /// Requests refused because there was no room.
    #[serde(default)]
    pub shed: u64,
    /// Requests refused because their address had asked too often.
    #[serde(default)]
    pub limited: u64,
}

/// One thing that happened in an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When, in milliseconds.
    pub at: Wall,
    /// What sort of thing.
    pub kind: EntryKind,
    /// Whom it was about.
    pub server: Option<ServerId>,
    /// The action it belongs to.
    pub action: Option<ActionId>,
    /// One sentence for a person, without a full stop.
    pub text: String,
    /// How often it happened, when alike entries were folded into one; 1 otherwise.
    pub times: u32,
    /// What was answered, the first time. The first [`Sample::IN_INCIDENT`] of an incident are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Arc<Sample>>,
}

impl TimelineEntry {
    /// As it goes out into the world: what a server answered stays here.
    pub(crate) fn told(&self) -> Self {
        Self { sample: None, server: self.server.clone(), text: self.text.clone(), ..*self }
    }
}

/// The sort of a timeline entry. `observed` is what was seen, `decided` what the judge made of it, `acted` what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Observed: an attempt of real traffic failed.
    TrafficFailed,
    /// Observed: a probe failed.
    ProbeFailed,
    /// Observed: a supervised process ended.
    ProcessExited,
    /// Observed: a supervised process runs.
    ProcessStarted,
    /// Observed: the first good probe after failures.
    ProbeGood,
    /// Observed: real requests are answered well again.
    TrafficGood,
    /// Observed: what uses the machine, fills its disk, or how a server was that was about to be restarted.
    Found,
    /// Decided: the server is out of rotation.
    Ejected,
    /// Decided: the server is in rotation again, at a small share.
    Returned,
    /// Decided: the server has its full share again.
    FullShare,
    /// Decided: the service is carried in another way (normal, backup, panic, nobody).
    ModeChanged,
    /// Decided: the incident was opened.
    Opened,
    /// Decided: it is worse than it was.
    Worsened,
    /// Decided: the incident is over.
    Resolved,
    /// Acted: a recovery action was begun.
    ActionBegun,
    /// Acted: a recovery action was carried out.
    ActionDone,
    /// Acted: a recovery action could not be carried out.
    ActionFailed,
    /// Decided: what helped with the like of it before.
    Recalled,
    /// Decided: what would be done, if Mainstay might.
    Proposed,
    /// Decided: whether a recovery action helped.
    Helped,
    /// Decided: the budget is spent, or restarts do not help; a person is needed.
    BudgetSpent,
    /// Decided: what the incident is put down to.
    Diagnosed,
    /// Decided: an action that would be due is not done, because it would make things worse.
    Withheld,
    /// Decided: something about a release of the service.
    ReleaseChanged,
    /// Decided: there are more or fewer instances.
    Scaled,
    /// Acted: somebody was told.
    Notified,
    /// A person: took the incident on.
    Acknowledged,
    /// A person: changed an admin state.
    AdminChanged,
    /// A person: told the public something.
    Published,
    /// A person: changed something else, or told of it.
    Changed,
    /// Mainstay itself: was restarted in the middle, or has trouble of its own.
    Own,
    /// Observed: a front address of another machine does not answer.
    FrontLost,
    /// Observed: it answers again.
    FrontReturned,
    /// Observed: a name leads to a dead address, or nowhere.
    DnsStale,
    /// Observed: it no longer does.
    DnsGood,
    /// Acted: the zone's own server was told of new addresses.
    DnsUpdated,
    /// Acted: it could not be told.
    DnsFailed,
}

impl EntryKind {
    /// Who says so.
    pub fn witness(self) -> Witness {
        match self {
            EntryKind::TrafficFailed
            | EntryKind::ProbeFailed
            | EntryKind::ProcessExited
            | EntryKind::ProcessStarted
            | EntryKind::ProbeGood
            | EntryKind::TrafficGood
            | EntryKind::Found
            | EntryKind::FrontLost
            | EntryKind::FrontReturned
            | EntryKind::DnsStale
            | EntryKind::DnsGood => Witness::Observed,
            EntryKind::Ejected
            | EntryKind::Returned
            | EntryKind::FullShare
            | EntryKind::ModeChanged
            | EntryKind::Opened
            | EntryKind::Worsened
            | EntryKind::Resolved
            | EntryKind::Recalled
            | EntryKind::Proposed
            | EntryKind::Helped
            | EntryKind::BudgetSpent
            | EntryKind::Diagnosed
            | EntryKind::Withheld
            | EntryKind::ReleaseChanged
            | EntryKind::Scaled => Witness::Decided,
            EntryKind::ActionBegun
            | EntryKind::ActionDone
            | EntryKind::ActionFailed
            | EntryKind::Notified
            | EntryKind::DnsUpdated
            | EntryKind::DnsFailed => Witness::Acted,
            EntryKind::Acknowledged | EntryKind::AdminChanged | EntryKind::Published | EntryKind::Changed => {
                Witness::Person
            }
            EntryKind::Own => Witness::Own,
        }
    }
}

/// Whether a timeline entry tells what was seen, what was made of it, what was done, or what a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Witness {
    /// It was seen.
    Observed,
    /// The judge made this of it.
    Decided,
    /// It was done.
    Acted,
    /// A person did it.
    Person,
    /// Mainstay says it of itself.
    Own,
}
