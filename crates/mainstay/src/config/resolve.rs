//! The config as meant: every default filled in, every name checked, secrets read.

mod affinity;
mod alerts;
mod backups;
mod deploy;
mod dns;
mod drill;
mod front_check;
mod headers;
mod host;
mod levels;
mod limits;
mod log;
mod machines;
mod maintenance;
mod modules;
mod monitors;
mod needs;
mod observer;
mod on_call;
pub mod probe;
mod replace;
mod restart;
mod routes;
mod scale;
mod server_tls;
mod service;
mod sms;
mod state;
mod status;
mod switch;
mod tcp;
mod tls;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::LowerName;
use mainstay_model::endpoint::UNIX;
use mainstay_model::input::IpFamily;
use mainstay_model::limits::Subnet;
use mainstay_model::{BackupId, Endpoint, MachineId, MonitorId, Policy, ServerId, ServiceId};
use mainstay_proxy::access::{Destination, Format};
use mainstay_proxy::{Access, ClientLimits};
use serde::{Deserialize, Serialize};

use self::probe::ProbeSpec;
use super::address;
use super::planned::Planned;
use super::template::Template;
use crate::calendar::Schedule;
use crate::dns::zone::Zone;
use crate::tls::front::FrontTls;
use crate::tls::servers::BackTls;

pub use drill::DrillPlan;
pub use maintenance::TITLE as MAINTENANCE_TITLE;
pub use modules::Module;
pub use replace::{ContainerSpec, ReplaceHow, ReplaceSpec};
pub use restart::{Remote, RestartHow, RestartSpec};
pub use status::{Component, StatusConfig, Support};
pub(super) use whole::Resolver;
pub use whole::{DEFAULT_ADMIN, DEFAULT_HTTP, Overrides};

/// All that `mainstay run` needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `listen.http`: where visitors are served.
    pub http: Vec<Endpoint>,
    /// `listen.https`: where visitors are served over TLS.
    pub https: Vec<Endpoint>,
    /// `service.*.listen`: where connections of TCP services come in.
    pub tcp: Vec<TcpFront>,
    /// `listen.proxy-protocol`: proxies that say who a connection comes from, at the addresses of `http`.
    pub proxies: Vec<Subnet>,
    /// And at those of `https`.
    pub https_proxies: Vec<Subnet>,
    /// `listen.unix`: who may connect to those of them that are Unix sockets.
    pub unix: Access,
    /// `tls`: how.
    pub tls: FrontTls,
    /// `server-tls`: how TLS is spoken with the servers of services that have such servers.
    pub server_tls: BTreeMap<ServiceId, BackTls>,
    /// The particulars of probes, of services that are probed by more than a path or a connection.
    pub probes: BTreeMap<ServiceId, Arc<ProbeSpec>>,
    /// `monitor`: how what is only watched is looked at. What is watched when is in the policy.
    pub monitors: BTreeMap<MonitorId, MonitorSpec>,
    /// Ways to look, by name, for whoever asks `/probe`.
    pub modules: BTreeMap<String, Module>,
    /// `listen.admin`: dashboard, API, metrics.
    pub admin: SocketAddr,
    /// `listen.pings`: where jobs ping and nothing else is answered.
    pub pings: Option<SocketAddr>,
    /// `listen.head-timeout`: for a request's whole head.
    pub head_timeout: Duration,
    /// `listen.idle`: for a connection without a request.
    pub client_idle: Duration,
    /// `listen.connections`: of all visitors at once.
    pub connections: usize,
    /// What one client may take.
    pub clients: ClientLimits,
    /// `log`: where requests are written down, if they are.
    pub access_log: Option<AccessLogConfig>,
    /// `admin`: who may use the admin address.
    pub access: AdminAccess,
    /// `data`: where the record and the logs of supervised servers are kept.
    pub data: PathBuf,
    /// `workers`: threads of the data plane.
    pub workers: usize,
    /// `drain`: how long requests under way may take when Mainstay stops.
    pub drain: Duration,
    /// `upgrade-grace`: how long one that was replaced lets connections go on.
    pub upgrade_grace: Duration,
    /// What the judge needs to know.
    pub policy: Policy,
    /// Where servers listen that Mainstay does not start itself.
    pub addresses: BTreeMap<ServerId, ServerAddress>,
    /// How to start the servers that Mainstay supervises.
    pub commands: BTreeMap<ServerId, CommandSpec>,
    /// How to restart servers that Mainstay does not start itself.
    pub restarts: BTreeMap<ServerId, RestartSpec>,
    /// The users' own commands for switching a service to something else.
    pub switches: BTreeMap<ServiceId, SwitchSpec>,
    /// Who makes new instances for services, other than Mainstay itself.
    pub replaces: BTreeMap<ServiceId, ReplaceSpec>,
    /// Variables of Mainstay's own environment that hold its secrets. Supervised servers do not inherit them.
    pub secret_variables: BTreeSet<String>,
    /// Whom to tell and how.
    pub alerts: AlertConfig,
    /// `record`: how long the record is kept.
    pub retention: Retention,
    /// `host`: what is read of the machine; `None`: it is not watched. When it is in trouble is in the policy.
    pub host: Option<HostConfig>,
    /// `machine`: where other machines tell their figures.
    pub machines: BTreeMap<MachineId, MachineConfig>,
    /// `listen.dns`, `zone` and `dns`.
    pub dns: DnsConfig,
    /// `backup`: what is backed up, and where to. When, is in the policy.
    pub backups: BTreeMap<BackupId, BackupSpec>,
    /// `maintenance`: when windows are open. What they cover is in the policy.
    pub maintenance: BTreeMap<Arc<str>, Planned>,
    /// `service.NAME.drill`: which drills are made by themselves, and when.
    pub drills: BTreeMap<ServiceId, DrillPlan>,
    /// `status`: the public status page, if there is one.
    pub status: Option<StatusConfig>,
}

impl Config {
    /// Files that it names and that change it when they are saved.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.dns.files();
        files.extend(self.tls.files());
        files.extend(self.server_tls.values().flat_map(BackTls::files));
        files.extend(
            self.monitors.values().filter_map(|monitor| monitor.tls.as_ref()).flat_map(BackTls::files),
        );
        files.extend(self.modules.values().flat_map(|module| module.tls.files()));
        files
    }

    /// All addresses that visitors reach: in the clear first, and those of TCP services last.
    pub fn fronts(&self) -> impl Iterator<Item = &Endpoint> + '_ {
        self.http.iter().chain(&self.https).chain(self.tcp.iter().map(|front| &front.address))
    }

    /// Whether an address that Mainstay is to listen at too takes the place of one that it listens at already, and of which.
    pub(super) fn taken(&self, address: &Endpoint) -> Option<Endpoint> {
        let (admin, pings) = (Endpoint::from(self.admin), self.pings.map(Endpoint::from));
        self.fronts().chain([&admin]).chain(&pings).find(|own| address::overlap(own, address)).cloned()
    }
}

/// An address of TCP services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpFront {
    /// The address.
    pub address: Endpoint,
    /// Those that take its connections, by the names that TLS asks for.
    pub services: Vec<ServiceId>,
    /// Proxies that say who a connection comes from.
    pub proxies: Vec<Subnet>,
}

/// What is read of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The data directory, whose file system is watched.
    pub data: PathBuf,
    /// Further folders whose file systems are watched.
    pub disks: Vec<PathBuf>,
}

/// Over which addresses of a name something is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Over {
    /// The first that takes a connection.
    #[default]
    Any,
    /// Those of one kind.
    One(IpFamily),
    /// Those of each kind, and each must be well.
    Both,
}

/// Where another machine tells its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineConfig {
    /// The address of its `node_exporter`.
    pub url: String,
    /// Between two questions.
    pub interval: Duration,
}

/// How a monitor is looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MonitorSpec {
    /// The particulars of its probe, if it has some.
    pub spec: Option<Arc<ProbeSpec>>,
    /// How TLS is spoken with it, if it is.
    pub tls: Option<BackTls>,
    /// Over which addresses of its name it is looked at.
    pub over: Over,
    /// When a job that goes by a calendar is to ping.
    pub schedule: Option<Schedule>,
}

/// Before the name of a service, as an address is written.
pub const SRV: &str = "srv+http://";

/// Where a server listens, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// An IP address and a port.
    Fixed(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<str>),
    /// A host name and a port, to be looked up.
    Name(String, u16),
    /// The name of a service (SRV), which says the hosts and ports of any number of servers.
    Srv(String),
}

impl ServerAddress {
    /// Where that is, if nothing has to be looked up.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            ServerAddress::Fixed(address) => Some((*address).into()),
            ServerAddress::Unix(path) => Some(Endpoint::Unix(Arc::clone(path))),
            ServerAddress::Name(..) | ServerAddress::Srv(_) => None,
        }
    }

    /// A host as DNS says it, with a port.
    pub fn of(host: &str, port: u16) -> Self {
        host.parse()
            .map_or_else(|_| Self::Name(host.to_owned(), port), |ip| Self::Fixed(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Fixed(address) => address.fmt(f),
            ServerAddress::Unix(path) => write!(f, "{UNIX}{path}"),
            ServerAddress::Name(host, port) => write!(f, "{host}:{port}"),
            ServerAddress::Srv(name) => write!(f, "{SRV}{name}"),
        }
    }
}

/// How a supervised server is started.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandSpec {
    /// The program and its arguments; `{port}` stands for the port in each of them. Not empty.
    pub argv: Vec<String>,
    /// The port it is to listen on, from `address`; `None`: one that is free.
    pub port: Option<u16>,
    /// The address it listens on; 127.0.0.1 unless `address` says otherwise.
    pub host: std::net::IpAddr,
    /// Its working directory; the config file's folder by default.
    pub dir: Option<PathBuf>,
    /// Variables added to Mainstay's own environment, less the ones that hold its secrets. `PORT` is always set.
    pub env: BTreeMap<String, String>,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// The program that tells what it is at before it is ended, and its arguments; empty: none.
    pub capture: Vec<String>,
}

/// What stands for a release in a command.
pub(crate) const RELEASE: &str = "{release}";
/// What stands for the process in `capture`.
const PID: &str = "{pid}";

impl CommandSpec {
    /// It has a place for a release.
    pub fn has_release(&self) -> bool {
        let in_dir = self.dir.as_ref().and_then(|dir| dir.to_str()).is_some_and(|dir| dir.contains(RELEASE));
        in_dir || self.argv.iter().any(|argument| argument.contains(RELEASE))
    }

    /// The same with a release put in.
    #[must_use]
    pub fn with_release(&self, path: &str) -> Self {
        let dir = self.dir.as_ref().map(|dir| match dir.to_str() {
            Some(text) => PathBuf::from(text.replace(RELEASE, path)),
            None => dir.clone(),
        });
        let argv = self.argv.iter().map(|argument| argument.replace(RELEASE, path)).collect();
        Self { argv, dir, ..self.clone() }
    }

    /// The program that tells what a process is at, and its arguments; empty: none.
    pub fn capture_of(&self, pid: i32) -> Vec<String> {
        self.capture.iter().map(|word| word.replace(PID, &pid.to_string())).collect()
    }

    /// Another number for another command, within one run.
    fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The user's own command for switching a service to something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchSpec {
    /// The program and its arguments. Not empty. `None`: none is run.
    pub there: Option<Vec<String>>,
    /// What is run before it. Not empty.
    pub fence: Option<Vec<String>>,
    /// The way back, which only a person runs.
    pub back: Option<Vec<String>>,
    /// The working directory: the config file's folder.
    pub dir: PathBuf,
}

/// Where requests are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The file, or standard output.
    pub destination: Destination,
    /// How a line looks.
    pub format: Format,
}

/// Who may use the admin address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdminAccess {
    /// `Authorization: Bearer …` for programs.
    pub token: Option<Secret>,
    /// For people, in the browser's login.
    pub password: Option<Secret>,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The secret itself; for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whom to tell and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertConfig {
    /// `alert.email`; `None`: no mail. Whom it goes to is the judge's to say.
    pub email: Option<EmailConfig>,
    /// `alert.sms`; `None`: no text messages.
    pub sms: Option<SmsConfig>,
    /// `alert.webhook`.
    pub webhook: Option<WebhookConfig>,
    /// `alert.dashboard`: the address of the dashboard as people reach it, for links; `None`: no links.
    pub dashboard: Option<String>,
}

/// How mail is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailConfig {
    /// The server's host name.
    pub host: String,
    /// Its port: 465 for smtps, 587 for STARTTLS, 25 for plain, unless written.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// User and password, if it wants them.
    pub login: Option<(String, Secret)>,
    /// A PEM file with the server's own certificate authority, beside the public ones.
    pub ca: Option<PathBuf>,
    /// The sender.
    pub from: String,
}

/// How text messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsConfig {
    /// By whom.
    pub provider: SmsProvider,
    /// To one person within an hour, at least 2.
    pub budget: u32,
}

/// Who sends text messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsProvider {
    /// Twilio's Messages API.
    Twilio {
        /// Where it is, without a slash at its end.
        url: String,
        /// The account, `AC…`.
        account: String,
        /// Its auth token.
        token: Secret,
        /// A number, a messaging service (`MG…`) or a name.
        from: String,
    },
    /// Any API over HTTP.
    Http(SmsCall),
}

/// A call of a provider's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsCall {
    /// `POST`, `PUT` or `GET`.
    pub method: String,
    /// Where to.
    pub url: Template,
    /// By their names.
    pub headers: Vec<(String, Template)>,
    /// The body; `None`: none.
    pub body: Option<Template>,
    /// What templates know as `secret`.
    pub secret: Option<Secret>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// `smtps://`: TLS from the first byte.
    Implicit,
    /// `smtp://` to anything but loopback: STARTTLS, required.
    StartTls,
    /// `smtp+plain://`, or `smtp://` to loopback: none.
    None,
}

/// How a webhook is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// `https://…`, or `http://…`.
    pub url: String,
    /// The signing secret of Standard Webhooks, decoded from `whsec_…`.
    pub secret: Option<Vec<u8>>,
}

/// How long the record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Roll-ups of one minute.
    pub minutes: Duration,
    /// Roll-ups of one hour.
    pub hours: Duration,
    /// Every look at a monitor.
    pub results: Duration,
    /// Incidents, after they were resolved.
    pub incidents: Duration,
    /// Bytes of the journal of inputs; 0: none is kept.
    pub inputs: u64,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            minutes: Duration::from_secs(7 * DAY),
            hours: Duration::from_secs(2 * 365 * DAY),
            results: Duration::from_secs(365 * DAY),
            incidents: Duration::from_secs(5 * 365 * DAY),
            inputs: 256_000_000,
        }
    }
}

/// What Mainstay has to do with DNS; empty: nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DnsConfig {
    /// `listen.dns`: where DNS is answered.
    pub listen: Vec<SocketAddr>,
    /// `zone`: what is answered.
    pub zones: Vec<ZoneConfig>,
    /// `dns.update`: whom else to tell.
    pub updates: Vec<UpdateConfig>,
    /// `dns.resolver`; `None`: the first of /etc/resolv.conf.
    pub resolver: Option<SocketAddr>,
}

/// A zone that Mainstay answers.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneConfig {
    /// Its records.
    pub zone: Arc<Zone>,
    /// The file that they are read from.
    pub file: Option<PathBuf>,
    /// Its live names.
    pub live: LiveNames,
}

/// A zone whose own server is told of live addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateConfig {
    /// The name of the zone.
    pub zone: LowerName,
    /// Its primary server.
    pub server: SocketAddr,
    /// The name of the key.
    pub key: LowerName,
    /// The key itself, in base64 that was checked.
    pub secret: Secret,
    /// Its live names.
    pub live: LiveNames,
}

/// Names that follow services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNames {
    /// Each name with its service.
    pub names: BTreeMap<LowerName, ServiceId>,
    /// TTL while all is well.
    pub ttl: Duration,
    /// TTL while something is wrong.
    pub trouble_ttl: Duration,
}

/// What is backed up, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSpec {
    /// Folder of the repository.
    pub repository: PathBuf,
    /// What it is encrypted with.
    pub password: Secret,
    /// Folders, absolute, none within another.
    pub folders: Vec<PathBuf>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// SQLite databases, absolute.
    pub sqlite: Vec<PathBuf>,
    /// PostgreSQL databases.
    pub postgres: Vec<PostgresDatabase>,
    /// Which snapshots are kept.
    pub keep: Keep,
    /// A folder that nobody else uses; it is emptied before and after each run.
    pub scratch: PathBuf,
}

/// A PostgreSQL database that is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresDatabase {
    /// As `pg_dump --dbname` takes it, without a password.
    pub url: String,
    /// The password, if the URL had one.
    pub password: Option<Secret>,
    /// Where its dump stands in a snapshot.
    pub path: PathBuf,
}

/// Which snapshots are kept; what no rule wants is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The newest so many, at least 1.
    pub last: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// Of each of so many weeks.
    pub weekly: u32,
    /// Of each of so many months.
    pub monthly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { last: 3, daily: 7, weekly: 5, monthly: 12 }
    }
}
