//! Everything that the judge wants done. An adapter turns each of these into something outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::carriage::SendProxy;
use crate::cause::Diagnosis;
use crate::change::Change;
use crate::drill::{Drill, DrillStep, Injection};
use crate::endpoint::{Endpoint, Whereabouts};
use crate::escalation::Recipient;
use crate::heartbeat::HeartbeatRecord;
use crate::helped::Helped;
use crate::host::Inspection;
use crate::id::{ActionId, BackupId, IncidentId, MonitorId, ProbeTarget, ServerId, ServiceId};
use crate::impact::{Curve, Impact, Tally};
use crate::incident::{Incident, Severity, TimelineEntry, VisitorsSaw};
use crate::input::{AdminState, BackupRecord, BackupTask};
use crate::lead::LeadRecord;
use crate::memory::Remedy;
use crate::pace::PaceNews;
use crate::policy::{ProbeKind, Protocol};
use crate::proposal::{Asked, Proposal};
use crate::publication::Publication;
use crate::release::Release;
use crate::routing::{LiveTable, RoutingTable};
use crate::sight::SightOrder;
use crate::snapshot::Health;
use crate::substitute::{ProvideOrder, Substitute};
use crate::switch::{SwitchRun, SwitchStep};
use crate::time::{Mono, Wall};
use crate::window::HandWindow;

/// One thing to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The data plane goes by this table from now on.
    Route(Arc<RoutingTable>),
    /// Look at a server, or at what a monitor watches, now. Answered by one [`crate::Input::Probe`], within the timeout.
    Probe(ProbeOrder),
    /// Carry out an action; its intent is written to the record first. Answered by one [`crate::Input::Outcome`].
    Recover(ActionOrder),
    /// Look into what became of a restart of which an earlier run has not written down the outcome. Answered by one
    /// [`crate::Input::LookedInto`], within the deadline.
    LookInto(LookOrder),
    /// Make a backup, or try one out. Answered by one [`crate::Input::Backup`], within the deadline.
    Backup(BackupOrder),
    /// Run the user's own command, or promote a server, whose intent is in a [`Record::Switch`] before it. Answered by one [`crate::Input::Switched`].
    Switch(SwitchOrder),
    /// Make the fault of a drill, whose intent is in a [`Record::Drill`] before it, or undo it. Answered by one
    /// [`crate::Input::Injected`] if it is to be made.
    Drill(DrillStep),
    /// Have an instance made or destroyed, or find out whether it was made; its intent is in a [`Record::Substitute`] before it.
    /// Answered by one [`crate::Input::Provided`].
    Provide(ProvideOrder),
    /// Tell people. Written to the outbox first.
    Notify(Notice),
    /// Write down.
    Record(Record),
    /// Watch these processes of supervised servers, and no others.
    Watch(BTreeMap<ServerId, u32>),
    /// Look into something on this machine. Answered by one [`crate::Input::Inspected`], or by none.
    Inspect(Inspection),
    /// Look at what Mainstay itself can see. Answered by one [`crate::Input::Sight`], within the timeout.
    LookAround(SightOrder),
    /// Work out when a job is next to ping. Answered at once by one [`crate::Input::Occurs`].
    AskCalendar {
        /// The job.
        monitor: MonitorId,
        /// After this moment.
        after: Wall,
    },
    /// Names in DNS say this from now on.
    Live(Arc<LiveTable>),
    /// Look at a front address of another machine. Answered by one [`crate::Input::Front`], within the timeout.
    LookAtFront(FrontOrder),
    /// Ask DNS about a name. Answered by one [`crate::Input::LookedUp`], within the timeout.
    LookUp(LookUpOrder),
}

/// One look at a server, or at what a monitor watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// Whom to look at.
    pub target: ProbeTarget,
    /// Where it listens.
    pub address: Whereabouts,
    /// What to do.
    pub kind: ProbeKind,
    /// The server expects to be told in front of each connection who it comes from.
    #[serde(default)]
    pub send_proxy: Option<SendProxy>,
    /// It is spoken to over TLS.
    #[serde(default)]
    pub tls: bool,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// How long it may take as a whole.
    pub timeout: Duration,
    /// When it was to begin.
    #[serde(default)]
    pub due: Mono,
    /// It is to seem as broken as this, for a drill.
    #[serde(default)]
    pub injection: Option<Injection>,
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
    /// How it is started.
    pub launch: Launch,
    /// Why, for a person and the record.
    pub reason: String,
}

/// A look into what became of a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookOrder {
    /// The restart's number.
    pub action: ActionId,
    /// Whom it was to restart; Mainstay does not start it itself.
    pub server: ServerId,
    /// When it was begun.
    pub begun_at: Wall,
    /// So long it may yet be under way, and the look may take.
    pub deadline: Duration,
}

/// How a server is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The server of the same service whose command is used; another one than the server itself for an instance that
    /// the config does not name.
    pub template: Arc<str>,
    /// What `{release}` stands for; `None` when the command has no place for it.
    pub release: Option<String>,
}

impl Launch {
    /// By the server's own command, which has no place for a release.
    pub fn own(server: &ServerId) -> Self {
        Self { template: Arc::clone(&server.name), release: None }
    }
}

/// One run of the user's own `switch` command, of its fence, or of the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchOrder {
    /// Its number.
    pub id: ActionId,
    /// The service.
    pub service: ServiceId,
    /// Which of them.
    pub step: SwitchStep,
    /// Who wants it: `Mainstay` or a person.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The incident that it is to mend.
    pub incident: Option<IncidentId>,
    /// How the servers are.
    pub servers: Vec<(ServerId, Health)>,
    /// It is killed after so long.
    pub deadline: Duration,
    /// Who takes the writes up to now, where servers keep state.
    #[serde(default)]
    pub from: Option<ServerId>,
    /// Mainstay itself promotes this server, and no command is run.
    #[serde(default)]
    pub promote: Option<Promotion>,
}

/// A server that is to be promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Which.
    pub server: ServerId,
    /// Where it listens.
    pub address: Endpoint,
    /// It is spoken to over TLS from the beginning.
    pub tls: bool,
    /// What it expects in front of each connection.
    pub send_proxy: Option<SendProxy>,
}

/// What a recovery action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// Start the supervised process, which does not run. Nothing if it runs.
    Start,
    /// End the supervised process and all of its group, if any is left, and start it anew; of a server that Mainstay does not
    /// start itself, what its config says.
    Restart,
    /// End the supervised process, which gets nothing new any more, with all the patience of its `stop-timeout`, and start
    /// it anew with another release.
    Replace,
    /// End the supervised process and all of its group: the server left the config, or is needed no longer.
    Stop,
}

impl ActionKind {
    /// The word used in the record and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            ActionKind::Start => "start",
            ActionKind::Restart => "restart",
            ActionKind::Replace => "replace",
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
    /// Who is told by name. A webhook hears everything.
    #[serde(default)]
    pub to: Vec<Recipient>,
    /// What a person is to decide on.
    #[serde(default)]
    pub asked: Vec<Asked>,
    /// Who has taken it on.
    #[serde(default)]
    pub acknowledged_by: Option<String>,
    /// Why it happened, as far as that is known.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
    /// The chain from the visitor inwards, as it is when people are told. Whoever tells them adds it.
    #[serde(default)]
    pub chain: Option<String>,
    /// What fails because of it.
    #[serde(default)]
    pub affected: Vec<String>,
    /// The change right before it, if there was one in the hour before.
    #[serde(default)]
    pub last_change: Option<Change>,
}

/// Why people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// An incident was opened.
    Opened,
    /// Nobody has taken it on, so the next people are told.
    Escalated,
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
            NoticeKind::Escalated => "escalated",
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
    /// A release of a service as it now stands. Replaces what was stored under its number.
    Release {
        /// The service.
        service: ServiceId,
        /// The release.
        release: Release,
    },
    /// A release is not remembered any longer.
    ReleaseForgotten {
        /// The service.
        service: ServiceId,
        /// Its number.
        number: u64,
    },
    /// The last run of a service's `switch` command as it now stands.
    Switch {
        /// The service.
        service: ServiceId,
        /// The run.
        run: SwitchRun,
    },
    /// The replacement of a server as it now stands. Replaces what was stored under its number.
    Substitute(Substitute),
    /// Who takes the writes of a service whose servers keep state.
    Lead {
        /// The service.
        service: ServiceId,
        /// `None`: nobody is known to.
        lead: Option<LeadRecord>,
    },
    /// How long a server usually takes over its answers, or whether it takes far longer.
    Pace {
        /// The server.
        server: ServerId,
        /// What is to be remembered.
        news: PaceNews,
    },
    /// How many instances of its scaled server a service is to have.
    Instances {
        /// The service.
        service: ServiceId,
        /// How many.
        instances: u32,
    },
    /// An action ended.
    ActionEnded {
        /// Which one.
        action: ActionId,
        /// When.
        at: Wall,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// It was judged whether an action on a server helped.
    ActionHelped {
        /// Which one.
        action: ActionId,
        /// What was made of it.
        helped: Helped,
    },
    /// What one rung did for one sort of failure, as it now stands. Replaces what was stored for the same.
    Remedy(Remedy),
    /// A proposal as it now stands. Replaces what was stored under its number.
    Proposal(Proposal),
    /// A person opened a maintenance window.
    Window {
        /// Its number.
        number: u64,
        /// The window.
        window: HandWindow,
    },
    /// A window that a person opened is over.
    WindowOver {
        /// Its number.
        number: u64,
    },
    /// A person ended the open time of a window in the config.
    WindowEnded {
        /// Its name.
        name: Arc<str>,
        /// When.
        at: Wall,
    },
    /// What is known of a job that pings, as it now stands. Replaces what was stored under its name.
    Heartbeat(HeartbeatRecord),
    /// Something was changed.
    Change(Change),
    /// A drill as it now stands. Replaces what was stored under its number.
    Drill(Drill),
    /// What is told the public of an incident, as it now stands. Replaces what was stored under its number.
    Publication {
        /// Of which incident.
        incident: IncidentId,
        /// What is told.
        publication: Publication,
    },
}
