//! What the user wants, resolved: the config with every default filled in, and nothing that only an adapter needs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::carriage::Carriage;
use crate::drill::DrillPolicy;
use crate::escalation::OnCall;
use crate::host::{HostPolicy, MachinePolicy};
use crate::id::{BackupId, MachineId, MonitorId, ServerId, ServiceId};
use crate::monitor::{MonitorPolicy, OutOf};
use crate::needs::Needed;
use crate::rung::Levels;
use crate::window::WindowPolicy;

/// All services that are judged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// By name.
    pub services: BTreeMap<ServiceId, ServicePolicy>,
    /// The config names somebody to tell.
    pub people: bool,
    /// Who is told by name, and after how long.
    #[serde(default)]
    pub on_call: OnCall,
    /// When the machine is in trouble; `None`: it is not watched.
    pub host: Option<HostPolicy>,
    /// Other machines whose figures are told.
    #[serde(default)]
    pub machines: BTreeMap<MachineId, MachinePolicy>,
    /// What Mainstay looks at to find out whether it sees anything at all.
    #[serde(default)]
    pub control: Vec<SocketAddr>,
    /// What is backed up, by name.
    pub backups: BTreeMap<BackupId, BackupPolicy>,
    /// What is watched and not served, by name.
    #[serde(default)]
    pub monitors: BTreeMap<MonitorId, MonitorPolicy>,
    /// When what is expected to be down: maintenance windows by name. When they come is told by [`crate::Input::Occurrences`].
    #[serde(default)]
    pub windows: BTreeMap<Arc<str>, WindowPolicy>,
}

impl Policy {
    /// The policy of one server and of its service.
    pub fn server(&self, id: &ServerId) -> Option<(&ServicePolicy, &ServerPolicy)> {
        let service = self.services.get(&id.service)?;
        Some((service, service.servers.get(&id.name)?))
    }
}

/// How one service is served, watched and recovered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServicePolicy {
    /// How its requests are carried.
    pub carriage: Arc<Carriage>,
    /// How servers are probed.
    pub health: HealthPolicy,
    /// When real traffic condemns a server.
    pub traffic: TrafficPolicy,
    /// How long a returning server's share takes to rise from a tenth to full. Zero: at once.
    pub slow_start: Duration,
    /// Below this share (0 to 1) of primary servers in rotation, traffic goes to all (*panic*). Envoy's and sozu's default is 0.5.
    pub panic_threshold: f64,
    /// What it is worth, for the estimate of what an incident cost.
    pub value: Option<Value>,
    /// How a supervised server is brought back.
    pub recovery: RecoveryPolicy,
    /// How long everything must have been good before the incident is closed.
    pub resolve_after: Duration,
    /// The groups of people who are told of its incidents; `None`: all.
    #[serde(default)]
    pub on_call: Option<Vec<Arc<str>>>,
    /// How releases are tried; `None`: no command says where a release belongs.
    pub deploy: Option<DeployPolicy>,
    /// How many instances there are; `None`: as many as the config names.
    pub scale: Option<ScalePolicy>,
    /// The user's own command for switching to something else; `None`: there is none.
    pub switch: Option<SwitchPolicy>,
    /// How a server that cannot be brought back is replaced; `None`: it is not.
    #[serde(default)]
    pub replace: Option<ReplacePolicy>,
    /// Its servers keep state and say who of them is the primary; `None`: each of them is as good as the others.
    #[serde(default)]
    pub state: Option<StatePolicy>,
    /// By name, in the order of their names.
    pub servers: BTreeMap<Arc<str>, ServerPolicy>,
    /// Where visitors reach it, and what names lead them there.
    #[serde(default)]
    pub front: FrontPolicy,
    /// What its servers need.
    #[serde(default)]
    pub needs: Vec<Needed>,
    /// How it is drilled.
    #[serde(default)]
    pub drill: DrillPolicy,
}

impl Default for ServicePolicy {
    fn default() -> Self {
        Self {
            carriage: Arc::default(),
            health: HealthPolicy::default(),
            traffic: TrafficPolicy::default(),
            slow_start: Duration::from_secs(10),
            panic_threshold: 0.5,
            value: None,
            recovery: RecoveryPolicy::default(),
            resolve_after: Duration::from_secs(10),
            on_call: None,
            deploy: None,
            scale: None,
            switch: None,
            replace: None,
            state: None,
            servers: BTreeMap::new(),
            front: FrontPolicy::default(),
            needs: Vec::new(),
            drill: DrillPolicy::default(),
        }
    }
}

impl ServicePolicy {
    /// Traffic speaks for a server as well as a probe does. Of the connections of a TCP service only that they were accepted is
    /// seen, which a kernel does for a program that hangs: against a probe that the program itself has to answer that says nothing.
    pub(crate) fn traffic_hears_the_server(&self) -> bool {
        self.carriage.tcp.is_none() || self.health.probe.is_answered_by_a_kernel()
    }
}

/// Where visitors reach a service, and what names in DNS lead them there. Empty: nobody asked, and nothing is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FrontPolicy {
    /// Front addresses, and whether each is one that Mainstay itself listens on here.
    pub addresses: BTreeMap<SocketAddr, bool>,
    /// Names that lead visitors here, lower case, without a dot at the end: what DNS says of them is watched.
    pub names: Vec<String>,
    /// Names follow the health of this service, in a zone that Mainstay answers or updates.
    pub live: bool,
}

/// What a service is worth to its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// An ordinary hour of it, in the currency; above 0.
    pub per_hour: f64,
    /// As people write it: `EUR`.
    pub currency: String,
}

/// How a server is chosen for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The better of two random servers by peak-EWMA of latency times requests in flight (linkerd's choice).
    #[default]
    LeastLatency,
    /// One after the other, by share.
    RoundRobin,
    /// The better of two random servers by requests in flight.
    LeastRequests,
    /// Any, by share.
    Random,
    /// The same key goes to the same server, as long as it has not far more to do than the others.
    Hash,
}

/// How a server is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPolicy {
    /// What a probe does.
    pub probe: ProbeKind,
    /// Time between two probes of one server.
    pub interval: Duration,
    /// A probe that took longer has failed; unrelated to the interval.
    pub timeout: Duration,
    /// Good probes in a row before an unhealthy server is healthy.
    pub rise: u32,
    /// Failed probes in a row before a healthy server is unhealthy.
    pub fall: u32,
    /// Failed probes of the last ones, in a row or not, that are enough too; `None`: only `fall` in a row are.
    #[serde(default)]
    pub fail: Option<OutOf>,
    /// Time to the next probe after a first failure, so that certainty does not wait for the interval.
    pub reprobe: Duration,
    /// What Mainstay itself asks an HTTP server for where its probe says too little; `None`: nothing.
    #[serde(default)]
    pub ask: Option<String>,
}

impl HealthPolicy {
    /// What is enough beside so many in a row where nothing is said of it: two may be good between them. 3 of 5 at least.
    pub fn fail_beside(fall: u32) -> Option<OutOf> {
        let bad = fall.max(OutOf::default().bad);
        Some(OutOf { bad, of: bad.saturating_add(2) }).filter(|fail| fail.of <= OutOf::OF_MOST)
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            probe: ProbeKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(800),
            rise: 2,
            fall: 2,
            fail: Self::fail_beside(2),
            reprobe: Duration::from_millis(100),
            ask: Some("/".to_owned()),
        }
    }
}

/// What a probe does, as far as the judge has to know it: the particulars, secrets among them, are the prober's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// `GET` of this path; 2xx and 3xx are good.
    Http {
        /// Path and query, starting with `/`.
        path: String,
        /// The Host header; the server's address when absent.
        host: Option<String>,
    },
    /// `GET` of this path, as a visitor would ask; whatever is answered is good, but an error of the server's (5xx). No config
    /// asks for it: it is how Mainstay looks at a server whose own probe says too little.
    Visit {
        /// Path and query, starting with `/`.
        path: String,
        /// The Host header; the server's address when absent.
        host: Option<String>,
    },
    /// A connection that is accepted is good.
    Tcp,
    /// A connection on which something is said and something is heard.
    Talk,
    /// gRPC's health service says `SERVING`.
    Grpc,
    /// Redis answers `PING`, and has the role that it should have.
    Redis,
    /// PostgreSQL takes logins, answers a query, and has the role that it should have.
    Postgres,
    /// MySQL or MariaDB takes logins, answers a query, and has the role that it should have.
    Mysql,
    /// A mail server greets, and takes mail for whom it should.
    Smtp,
    /// A WebSocket is opened, and answers a ping.
    WebSocket,
    /// A DNS server gives the answer that it should.
    Dns,
    /// The certificate that is shown is good, and for long enough.
    Certificate,
    /// The machine answers a ping, which its kernel does for programs that are gone.
    Icmp,
    /// The user's own program looks, and says by its exit code what it saw.
    Command,
    /// A container runs, and is well as far as it says itself.
    Docker,
    /// A unit of systemd is active.
    Systemd,
}

impl ProbeKind {
    /// The kernel answers it for programs that hang, or are gone.
    pub(crate) fn is_answered_by_a_kernel(&self) -> bool {
        matches!(self, ProbeKind::Tcp | ProbeKind::Icmp)
    }

    /// What is asked, in a few words.
    pub fn words(&self) -> String {
        match self {
            ProbeKind::Http { path, .. } | ProbeKind::Visit { path, .. } => format!("GET {path}"),
            ProbeKind::Tcp => "TCP probe".to_owned(),
            ProbeKind::Talk => "TCP probe with words".to_owned(),
            ProbeKind::Grpc => "gRPC health probe".to_owned(),
            ProbeKind::Redis => "Redis probe".to_owned(),
            ProbeKind::Postgres => "PostgreSQL probe".to_owned(),
            ProbeKind::Mysql => "MySQL probe".to_owned(),
            ProbeKind::Smtp => "SMTP probe".to_owned(),
            ProbeKind::WebSocket => "WebSocket probe".to_owned(),
            ProbeKind::Dns => "DNS probe".to_owned(),
            ProbeKind::Certificate => "certificate probe".to_owned(),
            ProbeKind::Icmp => "ping".to_owned(),
            ProbeKind::Command => "command".to_owned(),
            ProbeKind::Docker => "state of its container".to_owned(),
            ProbeKind::Systemd => "state of its unit in systemd".to_owned(),
        }
    }
}

/// When real traffic condemns a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficPolicy {
    /// Attempts in a row that failed without a success between (refused, reset, timed out). Envoy's outlier detection uses 5.
    pub consecutive_failures: u32,
    /// Share (0 to 1) of attempts in the window that failed or were answered 5xx.
    pub failure_share: f64,
    /// Attempts in the window below which a share says nothing.
    pub min_requests: u32,
    /// The window of the share.
    pub window: Duration,
    /// A server whose median answer takes so many times as long as its fellows' is slow enough to be taken out of rotation;
    /// 0: it never is for that.
    pub slow_times: f64,
    /// A server whose answers take so many times as long as they usually do at this hour is degraded; 0: it never is for that.
    #[serde(default = "past_times")]
    pub past_times: f64,
    /// Share (0 to 1) of a service's servers that may be out of rotation for traffic alone at the same time; one always may,
    /// but never the last. Envoy's default is 0.1, which of three servers is one.
    pub eject_share: f64,
    /// First time out of rotation for traffic alone; it doubles with each ejection up to `eject_max`.
    pub eject_base: Duration,
    /// The longest time out of rotation for traffic alone.
    pub eject_max: Duration,
}

/// What [`TrafficPolicy::past_times`] is where nobody said it.
fn past_times() -> f64 {
    3.0
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_share: 0.2,
            min_requests: 20,
            window: Duration::from_secs(10),
            slow_times: 5.0,
            past_times: past_times(),
            eject_share: 0.5,
            eject_base: Duration::from_secs(10),
            eject_max: Duration::from_secs(300),
        }
    }
}

/// Deadlines of the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// To connect to a server. Linux sends a first packet (SYN) that was lost again after 1 s (RFC 6298) and then after 3 s: the
    /// default leaves room for the first repetition and as long again for its answer. Who has another server to go to does
    /// not wait so long: it leaves after `per_try`.
    pub connect: Duration,
    /// For a server that answers nobody to begin its answer; past it an idempotent request is tried once more elsewhere.
    pub per_try: Duration,
    /// For the whole request until the answer begins; past it the visitor gets 504.
    pub request: Duration,
    /// Without a byte in either direction while an answer or a body is under way.
    pub idle: Duration,
    /// Without a byte of a request's body from the visitor.
    pub body: Duration,
    /// Bytes a second that a request's body must bring on average, once `body_grace` is over, and that a visitor must read
    /// of an answer, once `idle` is over; 0: as slowly as it likes. Only time in which it is the visitor who is waited for
    /// counts.
    pub body_min_rate: u64,
    /// A body may be slower for so long (Apache: RequestReadTimeout body=20,MinRate=500).
    pub body_grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            per_try: Duration::from_secs(1),
            request: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            body_min_rate: 500,
            body_grace: Duration::from_secs(20),
        }
    }
}

/// When a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Servers tried for one request, the first included.
    pub max_tries: u32,
    /// Retries under way or in the last ten seconds, as a share (0 to 1) of requests. Envoy's and linkerd's usual is 0.2.
    pub budget: f64,
    /// Retries allowed in the last ten seconds whatever the share, so that a quiet site can retry at all.
    pub budget_min: u32,
    /// A body up to this many bytes is kept so that it can be sent again.
    pub body_max: usize,
    /// Which requests that a server answers with an error are asked once elsewhere.
    #[serde(default)]
    pub on_5xx: OnError,
    /// When a safe request that waits is asked of a second server too; `None`: never.
    #[serde(default)]
    pub hedge: Option<Hedge>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_tries: 3,
            budget: 0.2,
            budget_min: 10,
            body_max: 64 * 1024,
            on_5xx: OnError::default(),
            hedge: None,
        }
    }
}

/// For how long an answer is waited for before a second server is asked beside the first (Dean and Barroso, "The Tail at Scale",
/// 2013: from the 95th percentile on, it costs a few per cent more requests).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hedge {
    /// So long.
    After(Duration),
    /// As long as so many of a hundred answers of the service take at most.
    Percentile(u8),
}

/// Which requests that a server answers with 500, 502, 503 or 504 are asked once elsewhere, while another server does well.
///
/// An error does not say how far the server came, so asking again may do a thing twice. Of GET, HEAD, OPTIONS and TRACE HTTP
/// promises that nothing is done at all, so those are asked again unless somebody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The visitor gets the error.
    Never,
    /// GET, HEAD, OPTIONS and TRACE.
    #[default]
    Safe,
    /// PUT, DELETE and what has an `Idempotency-Key` too.
    Idempotent,
}

/// How a supervised server is brought back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryPolicy {
    /// Restarts within `budget_window` before a person is called instead.
    pub budget: u32,
    /// The window of the budget.
    pub budget_window: Duration,
    /// The first restart is at once; the second waits this long, then it doubles, with up to a fifth of jitter.
    pub delay_base: Duration,
    /// The longest wait.
    pub delay_max: Duration,
    /// After so long in good health the delay starts over (Kubernetes: 10 min).
    pub reset_after: Duration,
    /// A server that was started has this long to pass its first probe; failing probes are not a hang before.
    pub start_grace: Duration,
    /// An action is judged by the real requests of so long a time after it. After two restarts in a row that did not help the
    /// next waits for `delay_max`, and further ones for `budget_window`.
    #[serde(default = "helped_within")]
    pub helped_within: Duration,
    /// How far Mainstay may go on its own.
    #[serde(default)]
    pub levels: Levels,
}

/// What [`RecoveryPolicy::helped_within`] is where nobody said it.
fn helped_within() -> Duration {
    Duration::from_secs(60)
}

impl Default for RecoveryPolicy {
    fn default() -> Self {
        Self {
            budget: 5,
            budget_window: Duration::from_secs(600),
            delay_base: Duration::from_secs(1),
            delay_max: Duration::from_secs(60),
            reset_after: Duration::from_secs(600),
            start_grace: Duration::from_secs(30),
            helped_within: helped_within(),
            levels: Levels::default(),
        }
    }
}

/// How many instances of a supervised server there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScalePolicy {
    /// The server that they are instances of.
    pub template: Arc<str>,
    /// At least so many, at least 1.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// Requests under way that one is meant for.
    pub concurrency: u32,
    /// One is taken away when fewer were enough for so long.
    pub in_after: Duration,
}

/// How a server that cannot be brought back is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacePolicy {
    /// Who makes the new instance.
    pub by: Provider,
    /// A server that Mainstay cannot restart is replaced when it has been down for so long.
    pub after: Duration,
    /// What a provider is asked to do is given up after so long.
    pub deadline: Duration,
    /// The instance has so long to become well.
    pub healthy_within: Duration,
    /// What was made is destroyed so long after it has left.
    pub destroy_after: Duration,
    /// So many instances at most take the place of others at a time.
    pub max: u32,
    /// So many are made within a day at most.
    pub budget: u32,
}

impl Default for ReplacePolicy {
    fn default() -> Self {
        Self {
            by: Provider::Other(String::new()),
            after: Duration::from_secs(60),
            deadline: Duration::from_secs(60),
            healthy_within: Duration::from_secs(60),
            destroy_after: Duration::from_secs(3600),
            max: 1,
            budget: 3,
        }
    }
}

/// Who makes instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// Mainstay itself starts one more process of this server.
    Process(Arc<str>),
    /// Somebody else, for a person: `docker shop:42`.
    Other(String),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Process(template) => write!(f, "one more process of {template}"),
            Provider::Other(by) => f.write_str(by),
        }
    }
}

/// When the user's own `switch` command is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchPolicy {
    /// Every primary must be down for so long.
    pub after: Duration,
    /// It is killed after so long.
    pub deadline: Duration,
    /// There is a fence to be run first.
    #[serde(default)]
    pub fence: bool,
    /// There is a command for the way back, which only a person runs.
    pub can_go_back: bool,
    /// Who promotes a server, where servers keep state.
    #[serde(default)]
    pub promote: Promote,
    /// Mainstay promotes no replica by itself that is further behind than so many bytes of the log.
    #[serde(default)]
    pub lag_max: u64,
}

impl Default for SwitchPolicy {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
            fence: false,
            can_go_back: false,
            promote: Promote::Command,
            // As Patroni's `maximum_lag_on_failover`.
            lag_max: 1 << 20,
        }
    }
}

/// Who makes another server the primary in a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promote {
    /// The user's own command.
    #[default]
    Command,
    /// Mainstay, by PostgreSQL's `pg_promote`.
    Postgres,
    /// Somebody else: Mainstay waits until one says that it is the primary.
    Nobody,
}

/// Servers that keep state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePolicy {
    /// Who of them gets connections.
    pub serves: Serves,
}

/// Which servers that keep state get the connections of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serves {
    /// The primary alone.
    Writes,
    /// Replicas, and the primary when too few of them may serve.
    Reads,
}

/// How a release is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeployPolicy {
    /// The release to begin with, until another one was deployed.
    pub first: String,
    /// The share (0 to 1) of the requests that a release on trial gets.
    pub share: f64,
    /// It must have had so many requests before it passes.
    pub min_requests: u32,
    /// It must have been on trial for so long before it passes.
    pub min_time: Duration,
    /// A trial that is undecided after so long is rolled back.
    pub deadline: Duration,
    /// For so long after a deploy, an incident is answered by going back first. Zero: never.
    pub watch: Duration,
    /// What Mainstay asks both releases for where no visitor does; empty: nothing.
    pub ask: Vec<String>,
    /// For so long after a promotion one instance of the release before is kept warm. Zero: none.
    pub warm: Duration,
    /// Releases that are remembered beside the current one.
    pub keep: u32,
}

impl Default for DeployPolicy {
    fn default() -> Self {
        Self {
            first: String::new(),
            share: 0.2,
            min_requests: 200,
            min_time: Duration::from_secs(30),
            deadline: Duration::from_secs(3600),
            watch: Duration::from_secs(3600),
            ask: Vec::new(),
            warm: Duration::from_secs(600),
            keep: 5,
        }
    }
}

/// How a server that Mainstay does not start itself is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// By what, for a person: `systemctl restart shop.service on 10.0.0.11`.
    pub by: String,
    /// It is given up after so long.
    pub deadline: Duration,
}

/// One server of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPolicy {
    /// Primary, or backup: used when too few primaries are left.
    pub role: Role,
    /// Its part of the traffic relative to its fellows, 1 to 100.
    pub weight: u32,
    /// So many requests at most are under way there at once; `None`: as many as come.
    pub concurrent: Option<u32>,
    /// Mainstay starts and supervises it itself, so it can restart it.
    pub supervised: bool,
    /// Somebody else starts it, and Mainstay can restart it.
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    /// Another number whenever the way in which it is started or restarted changes: the budget of restarts begins anew then.
    pub command_version: u64,
    /// Its command has a place for the release's path.
    pub releasable: bool,
    /// It is spoken to over TLS, by requests and probes alike.
    pub tls: bool,
}

impl Default for ServerPolicy {
    fn default() -> Self {
        Self {
            role: Role::Primary,
            weight: 1,
            concurrent: None,
            supervised: false,
            restart: None,
            command_version: 0,
            releasable: false,
            tls: false,
        }
    }
}

/// What the servers of a service speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: over TLS by agreement (ALPN), in the clear by prior knowledge.
    Http2,
}

/// Whether a server serves always or only in need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves always.
    #[default]
    Primary,
    /// Serves when the primaries do not.
    Backup,
}

/// When a backup is made, and when it is tried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPolicy {
    /// Time between two backups; whole days when `at` is given.
    pub every: Duration,
    /// The time of the day at which it begins, since midnight UTC; `None`: `every` after the last one.
    pub at: Option<Duration>,
    /// Without a good backup for so long it is late.
    pub late_after: Duration,
    /// Time between two restores to a scratch folder; `None`: never.
    pub verify_every: Option<Duration>,
    /// A run that takes longer is ended.
    pub deadline: Duration,
}

impl Default for BackupPolicy {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            every: Duration::from_secs(DAY),
            at: None,
            late_after: Duration::from_secs(DAY + DAY / 2),
            verify_every: Some(Duration::from_secs(7 * DAY)),
            deadline: Duration::from_secs(6 * 3600),
        }
    }
}
