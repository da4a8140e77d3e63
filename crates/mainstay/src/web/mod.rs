//! The dashboard, the JSON API and the metrics, on the admin address. Reads snapshots and the record; a click is an input.
//!
//! A request passes, from the outside in: [`listener`] (deadlines and limits of connections), [`router`] (headers, deadline
//! and limit of requests, problems as pages), [`guard`] (who may come in, and from where), then one of [`pages`], [`live`],
//! [`api`], [`metrics`] or [`assets`].

mod api;
mod assets;
mod blackbox;
mod chart;
pub mod demo;
mod guard;
mod history;
mod listener;
mod live;
mod machine;
mod metrics;
mod pages;
mod past;
pub mod ping;
mod problem;
pub mod public;
mod recent;
mod router;
mod seconds;
mod session;
#[cfg(test)]
pub(in crate::web) mod tests;
mod words;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::freeze::Freeze;
use mainstay_model::request::RequestRecord;
use mainstay_model::{Input, ServerId, ServiceId, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use self::blackbox::{HttpSeen, Probed};
use self::demo::Demo;
use self::listener::Limits;
use self::past::Past;
use crate::ack::Links;
use crate::config::AdminAccess;
use crate::heartbeat::Door;
use crate::store::Reader;

/// Hands an input to the judge; the answer comes when it has been judged.
pub type Submit = Arc<dyn Fn(Input) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Asks for a server's last lines.
pub type LastLines = Arc<dyn Fn(&ServerId) -> Vec<String> + Send + Sync>;

/// Asks what the threads of a server are at: in a sentence, and in lines; or why that cannot be seen.
pub type Dump = Arc<
    dyn Fn(ServerId) -> Pin<Box<dyn Future<Output = Result<(String, Vec<String>), String>> + Send>>
        + Send
        + Sync,
>;

/// Looks at a target by a module, at once: the module's name, the target, and the longest time it may take. `Err`: there is no
/// such module, or the target is none, in words.
pub type AskProbe = Arc<
    dyn Fn(String, String, Duration) -> Pin<Box<dyn Future<Output = Result<Probed, String>> + Send>>
        + Send
        + Sync,
>;

/// Asks how late probes began: all of it together in seconds; and the upper end of each bucket in seconds, with its count.
pub type Lateness = Arc<dyn Fn() -> (f64, Vec<(f64, u64)>) + Send + Sync>;

/// Asks for DNS queries by what they were answered.
pub type DnsQueries = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// Asks what became of a request, by its id.
pub type FindRequest = Arc<dyn Fn(&str) -> Option<RequestRecord> + Send + Sync>;

/// Asks for what the data plane counts of requests that do not go the usual way.
pub type Unusual = Arc<dyn Fn() -> UnusualCounts + Send + Sync>;

/// What the data plane counts of requests that do not go the usual way, since Mainstay started.
#[derive(Debug, Clone, Default)]
pub struct UnusualCounts {
    /// Retries, by service and by why.
    pub retries: Vec<(ServiceId, &'static str, u64)>,
    /// What was ended unfinished when its server was to go, by service and by what it was.
    pub drained: Vec<(ServiceId, &'static str, u64)>,
    /// Connections that are passed on unread, by service.
    pub sessions: Vec<(ServiceId, SessionCounts)>,
}

/// Connections of one service that are passed on unread: all of a TCP service, and WebSockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionCounts {
    /// Open now.
    pub open: u64,
    /// Ever begun.
    pub begun: u64,
    /// Bytes that came from clients.
    pub bytes_in: u64,
    /// Bytes that were passed on to them.
    pub bytes_out: u64,
}

/// Turns the freeze switch on, or off.
pub type WriteFreeze = Arc<dyn Fn(Option<&Freeze>) -> Result<(), String> + Send + Sync>;

/// Lines of the access log: written, and left out.
pub type AccessLines = Arc<dyn Fn() -> Option<(u64, u64)> + Send + Sync>;
/// Looks whether a path can be a release of a service: the path to use, or why not.
pub type CheckRelease = Arc<
    dyn Fn(ServiceId, String) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync,
>;

/// What the pages need of the rest of the program.
#[derive(Clone)]
pub struct Context<Record = Reader> {
    /// The judgement, at most a quarter of a second old.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The record.
    pub reader: Record,
    /// Hands an input to the judge and returns when it has been judged and the snapshot shows it. `false`: Mainstay is stopping.
    pub submit: Submit,
    /// The last lines that a supervised server wrote.
    pub last_lines: LastLines,
    /// What the threads of supervised servers are at.
    pub dump: Dump,
    /// DNS queries by what they were answered; nothing while no DNS is answered.
    pub dns_queries: DnsQueries,
    /// What became of a request that did not go the usual way.
    pub find_request: FindRequest,
    /// How many did not.
    pub unusual: Unusual,
    /// How late probes begin.
    pub lateness: Lateness,
    /// Looks at once.
    pub ask_probe: AskProbe,
    /// Lines of the access log: written, and left out; `None` while there is none.
    pub access_lines: AccessLines,
    /// Turns the freeze switch on or off where it outlives Mainstay; the error is for a person.
    pub write_freeze: WriteFreeze,
    /// Whether a path can be a release.
    pub check_release: CheckRelease,
    /// Who may come in; loopback needs nothing when neither is set.
    pub access: watch::Receiver<AdminAccess>,
    /// `true` once Mainstay serves visitors; for `/readyz`.
    pub ready: watch::Receiver<bool>,
    /// Reads links by which somebody takes an incident on.
    pub links: Arc<Links>,
    /// The demo, where this is one: buttons that break something.
    pub demo: Option<Demo>,
    /// The public status page, for what a person writes on it; `None`: there is none.
    pub status: public::Settings,
    /// Where jobs ping.
    pub pings: Arc<Door>,
}

/// Serves until `stop` changes to `true`, then lets requests under way finish.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    context: Context,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let pings = ping::router(context.pings.clone());
    let loopback = listener.local_addr()?.ip().is_loopback();
    let app = Arc::new(Shared::new(
        context.with_record(|reader| Arc::new(reader) as Arc<dyn Past>),
        loopback,
        stop.clone(),
    ));
    tokio::select! {
        served = listener::accept(listener, router::router(app.clone()).merge(pings), Limits::default(), stop) => served,
        () = app.recent.follow(app.context.snapshots.clone()) => Ok(()),
    }
}

impl<Record> Context<Record> {
    fn with_record<Other>(self, of: impl FnOnce(Record) -> Other) -> Context<Other> {
        let Self {
            snapshots,
            reader,
            submit,
            last_lines,
            dump,
            check_release,
            dns_queries,
            find_request,
            unusual,
            lateness,
            ask_probe,
            access_lines,
            write_freeze,
            access,
            ready,
            links,
            demo,
            status,
            pings,
        } = self;
        Context {
            snapshots,
            reader: of(reader),
            submit,
            last_lines,
            dump,
            check_release,
            dns_queries,
            find_request,
            unusual,
            lateness,
            ask_probe,
            access_lines,
            write_freeze,
            access,
            ready,
            links,
            demo,
            status,
            pings,
        }
    }
}

/// What every request is handed.
type App = Arc<Shared>;

struct Shared {
    context: Context<Arc<dyn Past>>,
    guard: guard::Guard,
    recent: recent::Recent,
    /// Places for streams of events.
    streams: Arc<Semaphore>,
    /// Places for requests under way.
    requests: Semaphore,
    /// Ends the streams when Mainstay stops.
    stop: watch::Receiver<bool>,
}

impl Shared {
    fn new(context: Context<Arc<dyn Past>>, loopback: bool, stop: watch::Receiver<bool>) -> Self {
        let access = context.access.borrow().clone();
        Self {
            context,
            guard: guard::Guard::new(loopback, access),
            recent: recent::Recent::default(),
            streams: Arc::new(Semaphore::new(live::STREAMS_MAX)),
            requests: Semaphore::new(router::REQUESTS_MAX),
            stop,
        }
    }

    /// The judgement as it is now.
    fn snapshot(&self) -> Arc<Snapshot> {
        self.context.snapshots.borrow().clone()
    }
}
