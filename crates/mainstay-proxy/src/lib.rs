//! The data plane of Mainstay: its own HTTP/1 engine, balancing, retries and accounting.
//!
//! One thread per core, each with its own listener, connection pool and counters. It reads one immutable
//! [`RoutingTable`] and never waits for a decision: a worker that saw an attempt fail avoids that server at once by
//! itself and says so in a [`Report`]; what it counted goes out in short intervals.
//!
//! [`codec`] knows bytes and no policy, `policy` decides and knows no socket, `driver` has the sockets and neither
//! parses nor decides.

pub mod access;
pub mod codec;
mod driver;
mod page;
mod policy;
pub mod routes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use mainstay_model::input::{TrafficFailure, TrafficReport};
use mainstay_model::limits::Subnet;
use mainstay_model::request::RequestRecord;
use mainstay_model::routing::RoutingTable;
use mainstay_model::sample::TrafficSample;
use mainstay_model::{Endpoint, ServiceId};
use tokio::sync::{mpsc, watch};
use tokio_rustls::rustls::ServerConfig;

pub use driver::door::Prepared;
pub use driver::server_tls::{ServerTls, ServersTls};
pub use driver::unix::{Access, connect_unix};
pub use policy::doorkeeper::ClientLimits;
pub use policy::learned::Learned;
pub use policy::own::own_request_id;
pub use policy::tls::TlsFlaw;

use access::AccessLog;
use driver::door::Doors;
use driver::gate::{Gates, random_key};
use driver::sessions::SessionBook;
use driver::thread::{self, Thread};
use driver::worker::{Leave, Shared};
use policy::accounting::Collector;
use policy::affinity::SessionKey;
use policy::doorkeeper::Doorkeeper;
use policy::learned::Inquiry;
use policy::visitor::HashKey;

/// Between two looks for what workers were asked.
const ASKED_AGAIN: Duration = Duration::from_millis(10);
/// Time for the engine to take the last reports when its channel is full.
const LAST_REPORT_MAX: Duration = Duration::from_secs(1);

/// What the data plane tells the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A worker began to avoid a server; sent at once.
    Failure(TrafficFailure),
    /// Counts of the last interval, over all workers.
    Traffic(TrafficReport),
    /// What a server answered that was not good; a few of all. Left out when nobody takes it.
    Answered(TrafficSample),
}

/// Counts of requests that did not go the usual way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unusual {
    /// Second and further attempts, by service and by why the one before failed.
    pub retries: BTreeMap<(ServiceId, &'static str), u64>,
    /// What was ended unfinished because its server was to go, or Mainstay itself, and its time was over: by service and by
    /// what it was, `connection` (of a TCP service), `websocket` or `answer`.
    pub drained: BTreeMap<(ServiceId, &'static str), u64>,
}

/// Connections of one service that are passed on as they are: all of a TCP service, and upgraded ones (WebSocket).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sessions {
    /// Ever begun.
    pub begun: u64,
    /// Open now.
    pub open: u64,
    /// Bytes that came from clients.
    pub bytes_in: u64,
    /// Bytes that were passed on to clients.
    pub bytes_out: u64,
}

/// One address that visitors reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Port 0 lets the kernel choose.
    pub address: Endpoint,
    /// What is spoken there.
    pub serves: Serves,
    /// Proxies that pass connections on and say in front of each who it comes from (the PROXY protocol). Who else comes is a
    /// visitor.
    pub proxies: Vec<Subnet>,
    /// Who may connect, where it is a Unix socket.
    pub access: Access,
}

/// What is spoken at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serves {
    /// HTTP/1 in the clear.
    Http,
    /// HTTP over TLS, with the certificates of [`Settings::tls`]: HTTP/2 or HTTP/1, as the client likes it best.
    Https,
    /// Whatever it is: connections are passed on to the one of these services whose names fit.
    Tcp(Vec<ServiceId>),
}

/// HTTP in the clear.
impl From<Endpoint> for Listen {
    fn from(address: Endpoint) -> Self {
        Self { address, serves: Serves::Http, proxies: Vec::new(), access: Access::default() }
    }
}

/// HTTP in the clear.
impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Endpoint::from(address).into()
    }
}

/// How the data plane is set up; fixed for its life, but where it listens.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen at first; [`Proxy::listen`] changes it.
    pub listen: Vec<Listen>,
    /// Worker threads; each has a listener of its own on every address.
    pub workers: usize,
    /// Time between two reports of counts.
    pub report_interval: Duration,
    /// Client connections over all workers; one more is answered 503 and closed.
    pub connections_max: usize,
    /// What one client may take; [`Proxy::set_client_limits`] changes it.
    pub clients: ClientLimits,
    /// For a request's whole head, from its first byte (against slowloris).
    pub head_timeout: Duration,
    /// For a client connection between two requests, or before its first.
    pub client_idle: Duration,
    /// For an idle connection to a server: less than the 5 s after which Node closes it, so that it is Mainstay that
    /// closes and no request meets a connection that is just going.
    pub server_idle: Duration,
    /// Idle connections that one worker keeps to one server.
    pub server_connections_idle: usize,
    /// How TLS is spoken with clients; [`Proxy::set_tls`] changes it. It is made elsewhere, so that no file is read here.
    pub tls: Option<Arc<ServerConfig>>,
    /// How TLS is spoken with servers; [`Proxy::set_server_tls`] changes it.
    pub server_tls: Arc<ServersTls>,
    /// For an upgraded connection without a byte in either direction (HAProxy's usual `timeout tunnel`).
    pub tunnel_idle: Duration,
    /// Where requests are written down; [`Proxy::set_access_log`] changes it.
    pub access_log: Option<Arc<AccessLog>>,
    /// What another process has learned of servers ([`Proxy::learned`]).
    pub learned: Learned,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            report_interval: Duration::from_millis(250),
            connections_max: 20_000,
            clients: ClientLimits::default(),
            head_timeout: Duration::from_secs(10),
            client_idle: Duration::from_secs(60),
            server_idle: Duration::from_secs(4),
            server_connections_idle: 512,
            tls: None,
            server_tls: Arc::default(),
            tunnel_idle: Duration::from_secs(3600),
            access_log: None,
            learned: Learned::default(),
        }
    }
}

impl Settings {
    fn connections_max_per_worker(&self) -> usize {
        self.connections_max.div_ceil(self.workers.max(1))
    }
}

/// A running data plane. Dropping it ends everything at once; [`Proxy::drain`] ends it well.
#[derive(Debug)]
pub struct Proxy {
    doors: Doors,
    shared: Arc<Shared>,
    tables: watch::Sender<Arc<RoutingTable>>,
    /// The place of another process' counts beside those of the workers, who are so many.
    elsewhere: usize,
    report_interval: Duration,
    drain: watch::Sender<Option<Leave>>,
    /// Taken by the drain.
    threads: Mutex<Vec<Thread>>,
}

/// The data plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Endpoint,
        /// Why not.
        source: std::io::Error,
    },
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
}

impl Proxy {
    /// Listens and serves from now on.
    ///
    /// # Errors
    /// When an address cannot be listened on or a thread cannot be started; nothing is left listening then.
    pub fn start(
        settings: Settings,
        table: Arc<RoutingTable>,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, StartError> {
        Self::take_over(settings, Vec::new(), table, reports)
    }

    /// The same with sockets of another process ([`Proxy::sockets`]), which go on where the addresses are wanted; others
    /// are closed.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn take_over(
        settings: Settings,
        inherited: Vec<(Endpoint, OwnedFd)>,
        table: Arc<RoutingTable>,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, StartError> {
        let settings = Arc::new(Settings { workers: settings.workers.max(1), ..settings });
        let doors = Doors::new(settings.workers);
        doors.set(doors.prepare_with(&settings.listen, inherited)?);
        // One place more than there are workers is for another process.
        let places = settings.workers + 1;
        let collector = Collector::new(reports, places, settings.report_interval, Instant::now());
        let gates = Gates::default();
        gates.apply(&table, Instant::now());
        let tables = watch::Sender::new(Arc::clone(&table));
        let shared = Arc::new(Shared {
            table: ArcSwap::new(table),
            version: AtomicU64::new(1),
            collector,
            inquiry: Inquiry::default(),
            gates,
            visitor_key: ArcSwapOption::empty(),
            stories: (0..settings.workers).map(|_| Mutex::default()).collect(),
            unusual: Mutex::default(),
            sessions: SessionBook::default(),
            tls: ArcSwapOption::new(settings.tls.clone()),
            server_tls: ArcSwap::new(Arc::clone(&settings.server_tls)),
            access_log: ArcSwapOption::new(settings.access_log.clone()),
            session_key: ArcSwapOption::empty(),
            clients: ArcSwap::from_pointee(settings.clients.clone()),
            doorkeeper: Arc::new(Doorkeeper::new(random_key())),
        });
        let (drain, draining) = watch::channel(None);
        let mut threads = Vec::with_capacity(settings.workers);
        for index in 0..settings.workers {
            // Those that are already running end when `drain` is dropped.
            let (settings, shared) = (Arc::clone(&settings), Arc::clone(&shared));
            let started = thread::start(index, settings, shared, doors.subscribe(), draining.clone());
            threads.push(started.map_err(StartError::Thread)?);
        }
        let (elsewhere, report_interval) = (settings.workers, settings.report_interval);
        Ok(Self { doors, shared, tables, elsewhere, report_interval, drain, threads: Mutex::new(threads) })
    }

    /// Where it listens, with the ports that the kernel chose, in the order in which they were asked for.
    pub fn addresses(&self) -> Vec<Endpoint> {
        self.doors.addresses()
    }

    /// Binds those of the wanted addresses that are not listened on yet. An address that stays keeps its sockets,
    /// whatever is to be spoken there.
    ///
    /// # Errors
    /// When one cannot be listened on; nothing has changed then.
    pub fn prepare(&self, wanted: &[Listen]) -> Result<Prepared, StartError> {
        self.doors.prepare(wanted)
    }

    /// Listens at these addresses from now on, and at no others. An address that is given up takes what the kernel has
    /// accepted there, lets what is under way finish, and closes idle connections as a drain does; nothing is cut.
    pub fn listen(&self, prepared: Prepared) {
        self.doors.set(prepared);
    }

    /// New requests go by this table from now on.
    pub fn publish(&self, table: Arc<RoutingTable>) {
        // First, so that no worker finds a limit without its gate.
        self.shared.gates.apply(&table, Instant::now());
        self.shared.table.store(Arc::clone(&table));
        self.shared.version.fetch_add(1, Ordering::Release);
        self.tables.send_replace(table);
    }

    /// The tables that are published, for another process that goes by them.
    pub fn tables(&self) -> watch::Receiver<Arc<RoutingTable>> {
        self.tables.subscribe()
    }

    /// What another process saw that finishes what it has by the tables of this one: it is reported with what this one sees.
    /// What it has under way counts until its next report, so its last one is to be empty.
    pub fn seen_elsewhere(&self, report: Report) {
        let collector = &self.shared.collector;
        match report {
            Report::Failure(failure) => collector.failure(failure),
            Report::Traffic(report) => collector.hand_in(self.elsewhere, report, Instant::now()),
            Report::Answered(sample) => collector.answered(sample),
        }
    }

    /// What was learned of servers, for another process that goes on: how fast they answer, how long they keep connections, and which
    /// are avoided. Workers answer with their next report; those that do not within two intervals are left out.
    pub async fn learned(&self) -> Learned {
        let inquiry = &self.shared.inquiry;
        let (question, end) = (inquiry.ask(), tokio::time::Instant::now() + 2 * self.report_interval);
        loop {
            let (learned, all) = inquiry.heard(question, self.elsewhere);
            if all || tokio::time::Instant::now() >= end {
                return learned;
            }
            tokio::time::sleep(ASKED_AGAIN).await;
        }
    }

    /// What became of a request: of the last few thousand of each worker that were tried again, refused, shed, failed or slow.
    pub fn find_request(&self, id: &str) -> Option<RequestRecord> {
        let found =
            self.shared.stories.iter().filter_map(|stories| {
                stories.lock().unwrap_or_else(PoisonError::into_inner).find(id).cloned()
            });
        found.max_by_key(|record| record.at)
    }

    /// What was counted of requests that did not go the usual way, since the start.
    pub fn unusual(&self) -> Unusual {
        self.shared.unusual.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that are passed on as they are, by service, since the start.
    pub fn sessions(&self) -> BTreeMap<ServiceId, Sessions> {
        self.shared.sessions.read()
    }

    /// Visitors who are hurt are counted under this key from now on; before the first one they are not counted. Another
    /// key makes other visitors of them, so that nobody can be followed from one day to the next.
    pub fn set_visitor_key(&self, key: [u8; 16]) {
        self.shared.visitor_key.store(Some(Arc::new(HashKey::new(key))));
    }

    /// Copies of the listening sockets, each with the address that was asked for.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn sockets(&self) -> std::io::Result<Vec<(Endpoint, OwnedFd)>> {
        self.doors.sockets()
    }

    /// The process whose sockets were taken over ([`Proxy::take_over`]) will not go on: the files of Unix sockets are this
    /// one's from now on, to be removed when it listens there no more.
    pub fn is_in_charge(&self) {
        self.doors.own_files();
    }

    /// TLS is spoken like this with clients that come from now on; connections that stand go on as they are.
    pub fn set_tls(&self, tls: Option<Arc<ServerConfig>>) {
        self.shared.tls.store(tls);
    }

    /// TLS is spoken like this with servers from now on. Connections that were made by other settings are closed with their
    /// answers.
    pub fn set_server_tls(&self, tls: Arc<ServersTls>) {
        self.shared.server_tls.store(tls);
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// Clients that come from now on may take so much; whoever is there stays.
    pub fn set_client_limits(&self, limits: ClientLimits) {
        self.shared.clients.store(Arc::new(limits));
    }

    /// Requests that begin from now on are written down here. Those under way are still written to the earlier log, which
    /// ends when the last of them has ended.
    pub fn set_access_log(&self, log: Option<Arc<AccessLog>>) {
        self.shared.access_log.store(log);
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// The key of what stands for servers in the cookies of sticky sessions. Before the first one nobody is given a cookie;
    /// with another one all cookies are void.
    pub fn set_session_key(&self, key: [u8; 32]) {
        self.shared.session_key.store(Some(Arc::new(SessionKey::new(key))));
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// Stops listening, lets what is under way finish, and ends what is left at the deadline. Returns how many
    /// connections were cut. The last counts are sent before it returns.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.doors.remove_files();
        self.leave(Leave { until: Instant::now() + deadline, gently: false }).await
    }

    /// The same when another process goes on with the sockets: idle connections are not closed under their clients, but with
    /// the answer to their next request.
    pub async fn retire(&self, deadline: Duration) -> usize {
        self.doors.leave_files();
        self.leave(Leave { until: Instant::now() + deadline, gently: true }).await
    }

    /// Ends a [`Proxy::retire`] under way now instead of at its deadline.
    pub fn cut(&self) {
        self.drain.send_replace(Some(Leave { until: Instant::now(), gently: false }));
    }

    async fn leave(&self, leave: Leave) -> usize {
        self.drain.send_replace(Some(leave));
        // Only now, so that workers take it for what it is.
        self.doors.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut cut = 0;
        for thread in threads {
            // A thread that panicked has nothing left to cut.
            cut += thread.ended.await.unwrap_or(0);
            // It has told its count as its last act, so this waits for nothing.
            if thread.handle.join().is_err() {
                tracing::error!("a worker thread of the data plane panicked");
            }
        }
        for report in self.shared.collector.last() {
            // The engine may be gone, or busy for longer than its last counts are worth.
            let _ = tokio::time::timeout(LAST_REPORT_MAX, self.shared.collector.reports().send(report)).await;
        }
        if let Some(log) = self.shared.access_log.load_full() {
            log.close().await;
        }
        cut
    }
}
