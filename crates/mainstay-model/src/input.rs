//! Everything that the judge is told. An adapter turns something outside into one of these.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::drill::DrillOrder;
use crate::endpoint::Endpoint;
use crate::escalation::Recipient;
use crate::freeze::Freeze;
use crate::heartbeat::Ping;
use crate::histogram::Histogram;
use crate::host::{Findings, HostReport};
use crate::id::{ActionId, BackupId, IncidentId, MachineId, MonitorId, ProbeTarget, ServerId, ServiceId};
use crate::lead::DataState;
use crate::policy::Policy;
use crate::publication::PublicChange;
use crate::release::ReleaseOrder;
pub use crate::restored::Restored;
use crate::sample::{Phases, Sample, TrafficSample};
use crate::sight::SightReport;
use crate::sketch::Sketch;
use crate::substitute::Provided;
use crate::time::Wall;
use crate::window::{HandWindow, Occurrence};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// What an earlier run left in the record. Only as the first input.
    Restored(Restored),
    /// The first config, or a changed one. Servers that stay keep their health, shares and history.
    Policy(Policy),
    /// Where a server listens now; `None` when that is not known (any longer).
    Address {
        /// The server.
        server: ServerId,
        /// Its address.
        address: Option<Endpoint>,
    },
    /// When the maintenance windows of the config are open: the times that are not over yet, as far as they are worked out.
    Occurrences(BTreeMap<Arc<str>, Vec<Occurrence>>),
    /// A person opens a maintenance window.
    OpenWindow(HandWindow),
    /// The freeze switch was turned on or renewed, or off.
    Freeze(Option<Freeze>),
    /// A person decides on a proposal. One that is over, or was decided on, stays as it is.
    Decide {
        /// Its number.
        proposal: u64,
        /// It is to be done.
        approved: bool,
        /// Who, for the record.
        by: String,
    },
    /// A fault is to be made on purpose. What is refused is in the snapshot, with why.
    Drill(DrillOrder),
    /// A person ends the drill that is under way.
    StopDrill {
        /// Who.
        by: String,
    },
    /// The fault of a drill was made, or could not be.
    Injected {
        /// The drill's number.
        drill: u64,
        /// `Err` says why not, for a person.
        result: Result<(), String>,
    },
    /// A person ends one: by its number if a person opened it; by its name in the config, of which the time that is open is over.
    EndWindow {
        /// Which.
        id: Arc<str>,
    },
    /// A probe has its answer.
    Probe(ProbeReport),
    /// Jobs said that they ran, in the order in which they did.
    Pings(Vec<Ping>),
    /// The calendar's answer to [`crate::Effect::AskCalendar`].
    Occurs {
        /// For which job.
        monitor: MonitorId,
        /// When it is next to ping; `None`: never, as far as the calendar knows.
        at: Option<Wall>,
    },
    /// The data plane saw an attempt fail and avoids the server: sent at once, once per server and spell.
    Failure(TrafficFailure),
    /// What a server answered a visitor that was not good: one of many, as evidence.
    Answered(TrafficSample),
    /// What the data plane counted in the last short interval.
    Traffic(TrafficReport),
    /// A supervised server's process came or went.
    Process {
        /// The server.
        server: ServerId,
        /// What became of it.
        event: ProcessEvent,
    },
    /// A recovery action is still being carried out: said every few seconds until its outcome.
    Acting {
        /// Which one.
        action: ActionId,
    },
    /// A recovery action was carried out, or could not be.
    Outcome {
        /// Which one.
        action: ActionId,
        /// `Err` says why not, for a person.
        result: Result<(), String>,
    },
    /// What was seen of a server that is about to be restarted.
    Captured {
        /// The server.
        server: ServerId,
        /// How it is, or ended, about the server: `its unit shop.service was killed for want of memory`.
        text: String,
        /// The last lines that it wrote, oldest first; or what its threads were at.
        lines: Vec<String>,
        /// The lines are of its threads.
        #[serde(default)]
        threads: bool,
    },
    /// It was looked into what became of a restart of an earlier run.
    LookedInto {
        /// The restart's number.
        action: ActionId,
        /// Whom it was to restart.
        server: ServerId,
        /// What was found.
        found: LookedInto,
    },
    /// A person put a server into another admin state.
    Admin {
        /// The server.
        server: ServerId,
        /// The state it is to have.
        state: AdminState,
        /// Who, for the record: `dashboard`, `api`, a user's name.
        by: String,
    },
    /// A person wants something done about the releases of a service. What is refused changes nothing; the snapshot tells
    /// beforehand ([`crate::release::ReleasesSnapshot::may`]).
    Release {
        /// The service.
        service: ServiceId,
        /// What.
        order: ReleaseOrder,
        /// Who, for the record.
        by: String,
    },
    /// A person wants the user's own `switch` command to be run.
    Switch {
        /// The service.
        service: ServiceId,
        /// The way back.
        back: bool,
        /// The person vouches that nothing writes on the old side: the fence is left out.
        #[serde(default)]
        fenced: bool,
        /// Who, for the record.
        by: String,
    },
    /// The `switch` command ended, or could not be run.
    Switched {
        /// The service.
        service: ServiceId,
        /// The number of its run.
        action: ActionId,
        /// `Err` says why not, for a person.
        result: Result<(), String>,
        /// The last lines that it wrote.
        output: Vec<String>,
    },
    /// What became of an instance that was to be made, found or destroyed.
    Provided {
        /// The service.
        service: ServiceId,
        /// The number of the replacement.
        action: ActionId,
        /// What became of it.
        provided: Provided,
    },
    /// A person has taken an incident on.
    Acknowledge {
        /// Which one.
        incident: IncidentId,
        /// Who.
        by: String,
    },
    /// Somebody tells of a change, or a part of Mainstay does, made now or a while ago.
    Changed(Change),
    /// What became of a message to somebody: it could not be delivered, or its provider says that it was.
    Message(MessageReport),
    /// A person tells the public something of an incident, which may be long over.
    Publish {
        /// Which one.
        incident: IncidentId,
        /// What changes.
        change: PublicChange,
        /// Who; not told to the public.
        by: String,
    },
    /// A backup was made or tried out, or could not be.
    Backup(BackupOutcome),
    /// A person wants a backup made or tried out now.
    AskBackup {
        /// Which one.
        backup: BackupId,
        /// What is wanted.
        task: BackupTask,
    },
    /// A part of Mainstay itself is in trouble, or is well again. Never says anything about a server.
    Own {
        /// Which part.
        part: OwnPart,
        /// What is wrong, for a person; `None`: it is well.
        trouble: Option<String>,
    },
    /// What was read of the machine, each second.
    Host(HostReport),
    /// What was read of another machine, or why nothing could be.
    Machine {
        /// Which one.
        machine: MachineId,
        /// What; `Err` says why not, for a person.
        report: Result<HostReport, String>,
    },
    /// What was found when it was looked into.
    Inspected(Findings),
    /// What Mainstay itself can see.
    Sight(SightReport),
    /// A look at a front address has its answer.
    Front(FrontReport),
    /// DNS was asked about a name.
    LookedUp(LookUpReport),
    /// A zone's own server was told of a service's addresses, or could not be.
    DnsUpdated(DnsUpdateReport),
}

/// What became of a restart of which an earlier run has not written down the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookedInto {
    /// It was carried out: how that shows.
    Done(String),
    /// It was not: how that shows.
    NotDone(String),
    /// Nobody can tell: why.
    NotKnown(String),
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageReport {
    /// What it told of.
    pub incident: IncidentId,
    /// Whom it was for.
    pub to: Recipient,
    /// `Err` says why it was given up, for a person.
    pub result: Result<(), String>,
}

/// A probe's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Whom it looked at.
    pub target: ProbeTarget,
    /// How long it took.
    pub took: Duration,
    /// What it saw.
    pub result: Result<ProbeAnswer, ProbeFailure>,
    /// When each part of it was done.
    #[serde(default)]
    pub phases: Phases,
    /// What was answered, of one that failed.
    #[serde(default)]
    pub sample: Option<Arc<Sample>>,
}

impl ProbeReport {
    /// One of which nothing more is known.
    pub fn new(target: ProbeTarget, took: Duration, result: Result<ProbeAnswer, ProbeFailure>) -> Self {
        Self { target, took, result, phases: Phases::default(), sample: None }
    }
}

/// A good probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// HTTP status; `None` of everything else.
    pub status: Option<u16>,
    /// What was answered, for a person, when there is more to say than that it was: `PONG from a primary`.
    #[serde(default)]
    pub said: Option<String>,
    /// It is good, and somebody should look all the same: why.
    #[serde(default)]
    pub warning: Option<String>,
    /// What a server with data says of itself, where that is asked.
    #[serde(default)]
    pub data: Option<DataState>,
}

impl ProbeAnswer {
    /// An answer in HTTP.
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// An answer in another protocol.
    pub fn said(what: impl Into<String>) -> Self {
        Self { said: Some(what.into()), ..Self::default() }
    }
}

/// A failed probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeFailure {
    /// Nothing listens.
    Refused,
    /// Its Unix socket is not there, so nothing listens either: which, and what to do.
    NoSocket(String),
    /// Its name does not lead to an address: why, about the target.
    Name(String),
    /// Nobody says where its name leads, be it for want of an answer or by one that says so: why, about the target.
    Unresolved(String),
    /// No route, or another error of the network.
    Unreachable(String),
    /// The connection was not accepted in time.
    ConnectTimeout,
    /// Connected, but no whole answer in time.
    AnswerTimeout,
    /// The connection was closed or reset before there was an answer, or before its head was whole.
    Reset,
    /// An answer that began and did not come whole: how far it came, about the server.
    BrokenOff(String),
    /// An answer, but not HTTP.
    Malformed(String),
    /// Its certificate is not to be trusted: why, about the server.
    Certificate(String),
    /// TLS was not agreed on for another reason: which, about the server.
    Tls(String),
    /// An answer with a status that is not good.
    Status(u16),
    /// An answer that is not good for another reason: which, about the server.
    Answer(String),
    /// No answer in time where there is no connection: to which question, about the server.
    Silent(String),
    /// A job's ping did not come: a whole sentence.
    Missed(String),
    /// A job said that it failed, or never that it was done: a whole sentence.
    Failed(String),
    /// Over one of the two kinds of addresses, while it is well over the other.
    Over(IpFamily, Box<ProbeFailure>),
    /// Mainstay itself could not look (no file descriptors, no memory): says nothing about the server.
    NotProbed(String),
}

/// A kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Whether an address is of it.
    pub fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == IpFamily::V4)
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == IpFamily::V4 { "IPv4" } else { "IPv6" })
    }
}

impl ProbeFailure {
    /// Nothing came in time: a hang shows so, and a second look at one would take as long again.
    pub fn is_silence(&self) -> bool {
        matches!(self, ProbeFailure::AnswerTimeout | ProbeFailure::ConnectTimeout | ProbeFailure::Silent(_))
    }

    /// The server answered, in words that are not good: it neither hangs nor is it away.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(
            self,
            ProbeFailure::Status(_)
                | ProbeFailure::Malformed(_)
                | ProbeFailure::Certificate(_)
                | ProbeFailure::Tls(_)
                | ProbeFailure::Answer(_)
        )
    }

    /// There is no way to it, or nobody behind: who is served all the same is served on a connection from before.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, ProbeFailure::Refused | ProbeFailure::NoSocket(_) | ProbeFailure::Unreachable(_))
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeFailure::Refused => f.write_str("connection refused"),
            ProbeFailure::NoSocket(why) => write!(f, "nothing listens: {why}"),
            ProbeFailure::Unreachable(e) => write!(f, "unreachable: {e}"),
            ProbeFailure::ConnectTimeout => f.write_str("did not accept the connection in time"),
            ProbeFailure::AnswerTimeout => f.write_str("accepted the connection but did not answer in time"),
            ProbeFailure::Reset => f.write_str("closed the connection before its answer was whole"),
            ProbeFailure::Malformed(e) => write!(f, "did not answer in HTTP: {e}"),
            ProbeFailure::Name(why)
            | ProbeFailure::Unresolved(why)
            | ProbeFailure::BrokenOff(why)
            | ProbeFailure::Certificate(why)
            | ProbeFailure::Tls(why)
            | ProbeFailure::Answer(why)
            | ProbeFailure::Silent(why)
            | ProbeFailure::Missed(why)
            | ProbeFailure::Failed(why) => f.write_str(why),
            ProbeFailure::Status(code) => write!(f, "answered status {code}"),
            ProbeFailure::Over(family, failure) => write!(f, "{failure}, over {family} alone"),
            ProbeFailure::NotProbed(e) => write!(f, "could not be probed: {e}"),
        }
    }
}

/// The answer to a look at a front address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontReport {
    /// Whose it is.
    pub service: ServiceId,
    /// Where it looked.
    pub address: SocketAddr,
    /// How long it took.
    pub took: Duration,
    /// What it saw.
    pub result: Result<ProbeAnswer, ProbeFailure>,
}

/// What DNS says of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUpReport {
    /// The service that the name leads to.
    pub service: ServiceId,
    /// The name.
    pub name: String,
    /// One for each server that was asked.
    pub answers: Vec<DnsAnswer>,
}

/// What one DNS server says of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAnswer {
    /// Who was asked.
    pub from: String,
    /// Addresses, each with its TTL in seconds; not empty.
    pub result: Result<Vec<(IpAddr, u32)>, LookUpFailure>,
}

/// Why DNS gave no address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookUpFailure {
    /// The name does not exist.
    NoSuchName,
    /// The name exists and has no address.
    NoAddress,
    /// There was no usable answer, which says nothing about the name.
    Failed(String),
}

impl fmt::Display for LookUpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookUpFailure::NoSuchName => f.write_str("no such name"),
            LookUpFailure::NoAddress => f.write_str("no address"),
            LookUpFailure::Failed(e) => write!(f, "no answer: {e}"),
        }
    }
}

/// What became of an update of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsUpdateReport {
    /// The service whose addresses they are.
    pub service: ServiceId,
    /// What was done or not, in a sentence without a full stop.
    pub text: String,
    /// It was done and is so when the server is asked.
    pub done: bool,
}

/// How an attempt at a server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Nothing listens.
    Refused,
    /// No route, or another error of the network.
    Unreachable,
    /// The connection was not accepted in time.
    ConnectTimeout,
    /// Closed or reset before the answer began.
    Reset,
    /// Closed or reset, or silent too long, when the answer had begun: the visitor's answer is cut short.
    Truncated,
    /// No answer in time.
    Timeout,
    /// An answer that is not HTTP.
    Malformed,
    /// TLS was not agreed on: its certificate is not to be trusted, or it speaks no TLS.
    Tls,
}

impl FailureKind {
    /// All kinds, in the order of their counters.
    pub const ALL: [FailureKind; 8] = [
        FailureKind::Refused,
        FailureKind::Unreachable,
        FailureKind::ConnectTimeout,
        FailureKind::Reset,
        FailureKind::Truncated,
        FailureKind::Timeout,
        FailureKind::Malformed,
        FailureKind::Tls,
    ];

    /// The word used in logs, labels and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Refused => "refused",
            FailureKind::Unreachable => "unreachable",
            FailureKind::ConnectTimeout => "connect-timeout",
            FailureKind::Reset => "reset",
            FailureKind::Truncated => "truncated",
            FailureKind::Timeout => "timeout",
            FailureKind::Malformed => "malformed",
            FailureKind::Tls => "tls",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A worker of the data plane saw an attempt fail and now avoids the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficFailure {
    /// Whom the attempt was sent to.
    pub server: ServerId,
    /// How it failed.
    pub kind: FailureKind,
    /// The server that the request was tried on next; `None` when it could not be tried again.
    pub retried_on: Option<ServerId>,
}

/// What the data plane counted in one short interval, over all its workers or of one of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrafficReport {
    /// Attempts, by server. Servers without any are left out.
    pub servers: BTreeMap<ServerId, ServerTraffic>,
    /// Requests as visitors saw them, by service.
    pub services: BTreeMap<ServiceId, ServiceTraffic>,
    /// Who asks most, while somebody is limited or requests are shed: at most [`TrafficReport::SOURCES_MAX`], the busiest first.
    pub sources: Vec<SourceTraffic>,
    /// What clients did that is refused before any server sees it, by the name of the refusal.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
}

impl TrafficReport {
    /// More sources than these are no evidence of a flood from few.
    pub const SOURCES_MAX: usize = 8;
}

/// The requests of one network in one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTraffic {
    /// The service that it asks.
    pub service: ServiceId,
    /// An IPv4 address, or an IPv6 network of 64 bits: `198.51.100.7`, `2001:db8::/64`.
    pub network: String,
    /// Its requests.
    pub requests: u64,
    /// Of them, refused with 429.
    pub limited: u64,
}

/// Attempts at one server in one interval. One request may make several attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerTraffic {
    /// Answered with 1xx to 3xx.
    pub ok: u64,
    /// Answered with 4xx.
    pub client_errors: u64,
    /// Answered with 5xx.
    pub server_errors: u64,
    /// Failed attempts, by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Failed attempts since the last answer of any status, at the end of the interval, of one worker: the longest such run.
    pub failures_in_a_row: u64,
    /// Time to the first byte of the answer, of answered attempts.
    pub latency: Histogram,
    /// Attempts under way at the end of the interval: a state and no count.
    pub in_flight: u64,
    /// Of them, upgraded connections (WebSockets), that last as long as they like.
    #[serde(default)]
    pub tunnels: u64,
    /// What the worker that trusts it least makes of it at the end of the interval: a state too.
    #[serde(default)]
    pub circuit: Circuit,
}

/// Whether the data plane sends a server new requests of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Circuit {
    /// Nothing is against it.
    #[default]
    Closed,
    /// It was left alone long enough after a failure: one request finds out how it is.
    HalfOpen,
    /// An attempt failed a moment ago: it gets requests only if there is nobody else.
    Open,
}

impl Circuit {
    /// Its name: `half-open`.
    pub fn as_str(self) -> &'static str {
        match self {
            Circuit::Closed => "closed",
            Circuit::HalfOpen => "half-open",
            Circuit::Open => "open",
        }
    }
}

impl ServerTraffic {
    /// Attempts that were answered.
    pub fn answered(&self) -> u64 {
        self.ok + self.client_errors + self.server_errors
    }

    /// Attempts that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds a later interval: counts add up, and of what is a state the later one holds.
    pub fn go_on(&mut self, later: &ServerTraffic) {
        (self.in_flight, self.tunnels, self.circuit) = (0, 0, Circuit::Closed);
        self.merge(later);
    }

    /// Adds another worker's counts of the same interval.
    pub fn merge(&mut self, other: &ServerTraffic) {
        self.ok += other.ok;
        self.client_errors += other.client_errors;
        self.server_errors += other.server_errors;
        for (&kind, &n) in &other.failures {
            *self.failures.entry(kind).or_default() += n;
        }
        self.failures_in_a_row = self.failures_in_a_row.max(other.failures_in_a_row);
        self.latency.merge(&other.latency);
        self.in_flight += other.in_flight;
        self.tunnels += other.tunnels;
        self.circuit = self.circuit.max(other.circuit);
    }
}

/// Requests of one service in one interval, as visitors saw them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceTraffic {
    /// Requests that ended.
    pub requests: u64,
    /// Of them, refused or cut short by a fault: 502, 503, 504 made by Mainstay, or a truncated answer.
    pub failed: u64,
    /// Of them, answered 5xx by a server and passed on.
    pub server_errors: u64,
    /// Of them, well answered only because they were tried again.
    pub saved: u64,
    /// Second and further attempts.
    pub retries: u64,
    /// Retries that would have been safe but were over the budget.
    pub retries_refused: u64,
    /// Requests that the visitor gave up.
    pub abandoned: u64,
    /// Of them, well answered, but later than `slow-after`.
    pub slow: u64,
    /// Of them, refused with 503 because there was no room: over `limits.concurrent`, and the queue full or its deadline over.
    /// Not in `failed`.
    pub shed: u64,
    /// Of them, refused with 429 because their address had asked too often. Not in `failed`.
    pub limited: u64,
    /// Requests under way at the end of the interval, less those that wait for room: a state and no count. An upgraded
    /// connection is no longer a request.
    pub in_flight: u64,
    /// Requests that wait for room at the end of the interval: a state too.
    pub queued: u64,
    /// Requests that may be under way, where that is found out from how long answers take: a state too; else 0.
    #[serde(default)]
    pub places: u64,
    /// The visitors of `failed`, `server_errors` and `shed`.
    pub hurt: Sketch,
    /// Time from the request's head to the answer's first byte.
    pub latency: Histogram,
}

impl ServiceTraffic {
    /// Adds a later interval: counts add up, and of what is a state the later one holds.
    pub fn go_on(&mut self, later: &ServiceTraffic) {
        self.in_flight = 0;
        self.queued = 0;
        self.places = 0;
        self.merge(later);
    }

    /// Adds another worker's counts of the same interval.
    pub fn merge(&mut self, other: &ServiceTraffic) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.server_errors += other.server_errors;
        self.saved += other.saved;
        self.retries += other.retries;
        self.retries_refused += other.retries_refused;
        self.abandoned += other.abandoned;
        self.slow += other.slow;
        self.shed += other.shed;
        self.limited += other.limited;
        self.in_flight += other.in_flight;
        self.queued += other.queued;
        // All workers share the same room.
        self.places = self.places.max(other.places);
        self.hurt.merge(&other.hurt);
        self.latency.merge(&other.latency);
    }
}

/// What became of a supervised server's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessEvent {
    /// It runs; it need not be ready yet.
    Started {
        /// Its process id, also the id of its process group.
        pid: u32,
    },
    /// It ended. Also sent when Mainstay ended it for a restart or a stop.
    Exited {
        /// How.
        exit: Exit,
        /// Mainstay had asked for it.
        asked: bool,
        /// The last lines it wrote, oldest first, at most 20.
        last_lines: Vec<String>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with status {code}"),
            Exit::Signal(9) => f.write_str("was killed by SIGKILL"),
            Exit::Signal(15) => f.write_str("was ended by SIGTERM"),
            Exit::Signal(11) => f.write_str("crashed with SIGSEGV"),
            Exit::Signal(6) => f.write_str("aborted with SIGABRT"),
            Exit::Signal(n) => write!(f, "was ended by signal {n}"),
        }
    }
}

/// What a person wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminState {
    /// Serves when it is healthy.
    #[default]
    Ready,
    /// Finishes what it has and gets nothing new.
    Draining,
    /// Out of rotation; its failures raise nobody, and it is not restarted.
    Maintenance,
}

impl AdminState {
    /// The word used in the config, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            AdminState::Ready => "ready",
            AdminState::Draining => "draining",
            AdminState::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is done with a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupTask {
    /// It is made.
    Run,
    /// The newest one is restored to a scratch folder and compared.
    Verify,
}

impl BackupTask {
    /// The word used in the record, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            BackupTask::Run => "run",
            BackupTask::Verify => "verify",
        }
    }
}

/// How a backup, or its trial, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOutcome {
    /// Which backup.
    pub backup: BackupId,
    /// What was done.
    pub task: BackupTask,
    /// How long it took.
    pub took: Duration,
    /// `Err` says what went wrong, for a person.
    pub result: Result<BackupDone, String>,
}

/// A backup that was made, or that was restored well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDone {
    /// The snapshot's id, as restic shows it (its first eight digits).
    pub snapshot: String,
    /// Of when the data is.
    pub data_at: Wall,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What else is worth knowing, in one sentence; may be empty.
    pub note: String,
}

/// An outcome as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// When it began.
    pub began_at: Wall,
    /// When it ended.
    pub ended_at: Wall,
    /// How.
    pub outcome: BackupOutcome,
}

/// A part of Mainstay that can be in trouble while everything it serves is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnPart {
    /// The record: its disk is full, its database locked or damaged.
    Record,
    /// Alerts: a channel has refused or not answered for long.
    Alerts,
    /// The config on disk is not the one in force, because it has mistakes.
    Config,
    /// DNS: a zone's own server cannot be updated.
    Dns,
    /// Names of servers: one cannot be looked up.
    Names,
    /// The status page: its static copy cannot be written, for one.
    StatusPage,
    /// The certificates that visitors are shown: one expires soon.
    Certificates,
    /// The access log cannot be written: its disk is full, for one.
    AccessLog,
    /// Its view of other machines: the gateway is lost, for one.
    Sight,
}

impl OwnPart {
    /// The word used in logs and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            OwnPart::Record => "record",
            OwnPart::Alerts => "alerts",
            OwnPart::Config => "config",
            OwnPart::Dns => "dns",
            OwnPart::Names => "names",
            OwnPart::StatusPage => "status-page",
            OwnPart::Certificates => "certificates",
            OwnPart::AccessLog => "access-log",
            OwnPart::Sight => "sight",
        }
    }
}
