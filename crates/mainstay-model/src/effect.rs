//! Everything that the judge wants done. An adapter turns each of these into something outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::Diagnosis;
use crate::host::Inspection;
use crate::id::{ActionId, BackupId, IncidentId, ServerId, ServiceId};
use crate::impact::{Curve, Impact, Tally};
use crate::incident::{Incident, Severity, TimelineEntry, VisitorsSaw};
use crate::input::{AdminState, BackupRecord, BackupTask};
use crate::policy::ProbeKind;
use crate::publication::Publication;
use crate::routing::{LiveTable, RoutingTable};
use crate::time::Wall;

/// One thing to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The data plane goes by this table from now on.
    Route(Arc<RoutingTable>),
    /// Look at a server now. Answered by one [`crate::Input::Probe`], within the timeout.
    Probe(ProbeOrder),
    /// Carry out an action; its intent is written to the record first. Answered by one [`crate::Input::Outcome`].
    Recover(ActionOrder),
    /// Make a backup, or try one out. Answered by one [`crate::Input::Backup`], within the deadline.
    Backup(BackupOrder),
    /// Tell people. Written to the outbox first.
    Notify(Notice),
    /// Write down.
    Record(Record),
    /// Watch these processes of supervised servers, and no others.
    Watch(BTreeMap<ServerId, u32>),
    /// Look into something on this machine. Answered by one [`crate::Input::Inspected`], or by none.
    Inspect(Inspection),
    /// Names in DNS say this from now on.
    Live(Arc<LiveTable>),
    /// Look at a front address of another machine. Answered by one [`crate::Input::Front`], within the timeout.
    LookAtFront(FrontOrder),
    /// Ask DNS about a name. Answered by one [`crate::Input::LookedUp`], within the timeout.
    LookUp(LookUpOrder),
}

/// One look at a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// Whom to look at.
    pub server: ServerId,
    /// Where it listens.
    pub address: SocketAddr,
    /// What to do.
    pub kind: ProbeKind,
    /// How long it may take as a whole.
    pub timeout: Duration,
}

/// One look at a front address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontOrder {
    /// Whose it is.
    pub service: ServiceId,
    /// Where visitors are led to.
    pub address: SocketAddr,
    /// What to do.
    pub kind: ProbeKind,
    /// How long it may take as a whole.
    pub timeout: Duration,
}

/// One question to DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUpOrder {
    /// The service that the name leads to.
    pub service: ServiceId,
    /// The name.
    pub name: String,
    /// How long it may take as a whole.
    pub timeout: Duration,
}

/// One recovery action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionOrder {
    /// Its number.
    pub id: ActionId,
    /// The incident that it is to mend; `None` for the first start of a server.
    pub incident: Option<IncidentId>,
    /// Whom it is done to.
    pub server: ServerId,
    /// What is done.
    pub kind: ActionKind,
    /// Why, for a person and the record.
    pub reason: String,
}

/// What a recovery action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// Start the supervised process, which does not run. Nothing if it runs.
    Start,
    /// End the supervised process and all of its group, if any is left, and start it anew.
    Restart,
    /// End the supervised process and all of its group: the server left the config.
    Stop,
}

impl ActionKind {
    /// The word used in the record and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::Start => "start",
            ActionKind::Restart => "restart",
            ActionKind::Stop => "stop",
        }
    }
}

/// A backup to be made or to be tried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOrder {
    /// Which one.
    pub backup: BackupId,
    /// What is done.
    pub task: BackupTask,
    /// After so long it is ended, and has failed.
    pub deadline: Duration,
}

/// What people are told: facts, not layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Threads and dedupes messages.
    pub incident: IncidentId,
    /// Why now.
    pub kind: NoticeKind,
    /// How bad it is.
    pub severity: Severity,
    /// What failed, in one sentence without a full stop.
    pub title: String,
    /// The service or part it is about, as shown to people.
    pub scope: String,
    /// Since when.
    pub began_at: Wall,
    /// Now, or when it was over.
    pub at: Wall,
    /// Who is hurt, from counted requests.
    pub seen: VisitorsSaw,
    /// How many visitors that were, for how long, and about how much money.
    #[serde(default)]
    pub impact: Impact,
    /// What happened and was done up to now, oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// What a person should do; empty when there is nothing.
    pub advice: String,
    /// Why it happened, as far as that is known.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
}

/// Why people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// An incident was opened.
    Opened,
    /// It has become worse since people were told: nobody is answered any more.
    Worsened,
    /// Mainstay is at its end: a person is needed.
    NeedsPerson,
    /// An incident is over.
    Resolved,
}

impl NoticeKind {
    /// The word used in the outbox, in webhooks and in Message-IDs.
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeKind::Opened => "opened",
            NoticeKind::Worsened => "worsened",
            NoticeKind::NeedsPerson => "needs-person",
            NoticeKind::Resolved => "resolved",
        }
    }
}

/// One thing to write down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// An incident as it now stands, without its timeline and curve (which are empty here). Replaces what was stored under its number.
    Incident(Incident),
    /// A new entry of an incident's timeline.
    Entry {
        /// Whose timeline.
        incident: IncidentId,
        /// Its place in the timeline, counting from 0; an entry at a place that is taken replaces the one there.
        place: u64,
        /// The entry.
        entry: TimelineEntry,
    },
    /// What an incident cost up to now, with the header it belongs to. Replaces what was stored before.
    Impact {
        /// Which one.
        incident: IncidentId,
        /// What visitors saw over time.
        curve: Curve,
        /// From what counting goes on after a restart; empty when the incident is over.
        tally: Tally,
    },
    /// A server was put into another admin state.
    Admin {
        /// The server.
        server: ServerId,
        /// Its state.
        state: AdminState,
    },
    /// A backup was made or tried out, or could not be.
    Backup(BackupRecord),
    /// An action ended.
    ActionEnded {
        /// Which one.
        action: ActionId,
        /// When.
        at: Wall,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// What is told the public of an incident, as it now stands. Replaces what was stored under its number.
    Publication {
        /// Of which incident.
        incident: IncidentId,
        /// What is told.
        publication: Publication,
    },
}
