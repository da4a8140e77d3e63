//! The one loop that owns the clock, hands inputs to the model and carries its effects out.
//!
//! [`start`] brings every adapter up in an order that leaves nothing half done: what cannot be listened on or opened is
//! said before a server is started. [`Running`] is what `run` and `demo` hold while Mainstay serves.

mod access;
mod around;
mod certificates;
mod clock;
mod core;
mod drilling;
mod errands;
mod maintenance;
mod names;
mod own_faults;
mod sessions;
mod status;
mod succession;
mod targets;
mod upgrade;
mod visitors;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::Record;
use mainstay_model::input::OwnPart;
use mainstay_model::{Endpoint, Input, Model, Policy, Snapshot};
use mainstay_proxy::{Listen, Proxy, Report, Serves, Settings, StartError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::access::Access;
use self::clock::Clock;
use self::core::{Core, Message};
use self::status::{Listeners, StatusPage};
pub use self::succession::{Guided, be_guided};
use self::targets::Targets;
pub use self::upgrade::{Estate, Inheritance, Left};
use crate::ack::Links;
use crate::alert::Alerts;
use crate::config::{AdminAccess, Config, people_duration};
use crate::dns::{self, Dns};
use crate::freeze::FreezeFile;
use crate::handover::Role;
use crate::heartbeat::{Door, Tokens};
use crate::host::Host;
use crate::journal::Journal;
use crate::probe::{Asked, Prober};
use crate::recovery::backup::Backups;
use crate::recovery::{Supervisor, SupervisorError};
use crate::store::{Store, StoreError};
use crate::web;
use crate::web::demo::Demo;

/// Inputs that may wait for the judge. Adapters wait when it is full; the data plane keeps its counts instead.
const INPUTS: usize = 4096;
/// Events that a slow listener (the demo) may be behind before it misses some.
const EVENTS: usize = 4096;
/// Between two reports of the data plane's counts.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// What killing supervised servers may take when Mainstay ends at once; the kernel needs milliseconds.
const KILL_SERVERS: Duration = Duration::from_secs(2);
/// The key of links is 32 bytes in the data directory; a disk that hangs must hold nothing up.
const PREPARE_LINKS: Duration = Duration::from_secs(5);
/// Answers of look-ups that may wait.
const LOOK_UPS: usize = 64;

/// Mainstay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The record could not be opened.
    #[error("the record: {0}")]
    Store(#[from] StoreError),
    /// The admin address could not be listened on.
    #[error("listen.admin: cannot listen on {address}: {source}{}", remedy(source))]
    Admin {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The address for pings could not be listened on.
    #[error("listen.pings: cannot listen on {address}: {source}{}", remedy(source))]
    Pings {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// An address for DNS could not be listened on.
    #[error("listen.dns: cannot listen on {address}: {source}{}", remedy(source))]
    Dns {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The status page's own address could not be listened on.
    #[error("status.listen: cannot listen on {address}: {source}{}", remedy(source))]
    StatusPage {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The access log could not be opened.
    #[error("log.access: cannot write to {destination}: {source}{}", file_remedy(source))]
    AccessLog {
        /// The file.
        destination: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The data plane could not be started.
    #[error("listen: {source}{remedy}", source = .0, remedy = start_remedy(.0))]
    Proxy(#[from] StartError),
    /// The supervisor could not be started.
    #[error("the supervisor: {0}")]
    Supervisor(#[from] SupervisorError),
}

/// What a look by a module came to, as `/probe` tells it.
fn probed(asked: Asked) -> web::Probed {
    let Asked { report, facts, http, over_tls } = asked;
    web::Probed {
        good: report.result.is_ok(),
        text: match &report.result {
            Ok(answer) => answer.said.clone().unwrap_or_default(),
            Err(failure) => failure.to_string(),
        },
        took: report.took,
        phases: report.phases,
        http: http.then(|| web::HttpSeen {
            status: facts.status,
            length: facts.length,
            version2: facts.http2,
            redirects: facts.connections.saturating_sub(1),
        }),
        over_tls,
        not_after: facts.not_after,
        address: facts.address,
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another program listens there: stop it or choose another port",
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: grant it or choose another port"
        }
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

fn file_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; let Mainstay's user write there",
        std::io::ErrorKind::NotFound => "; make its folder",
        _ => "",
    }
}

fn start_remedy(error: &StartError) -> &'static str {
    match error {
        StartError::Listen { address: Endpoint::Tcp(_), source } => remedy(source),
        // Of a Unix socket the error says it itself.
        StartError::Listen { .. } => "",
        StartError::Thread(_) => "",
    }
}

/// A changed config cannot be applied to the running Mainstay.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It changes what is fixed from the start.
    #[error("{key} cannot change while Mainstay runs (it is {now}); restart Mainstay, or put it back")]
    NeedsRestart {
        /// The key.
        key: &'static str,
        /// What it is.
        now: String,
    },
    /// A new address cannot be listened on.
    #[error("listen: {source}{remedy}", source = .0, remedy = start_remedy(.0))]
    Listen(#[from] StartError),
    /// The status page has lost its way inside of Mainstay.
    #[error("status: no listener can be had on loopback: {0}")]
    StatusPage(std::io::Error),
    /// The new access log cannot be opened.
    #[error("log.access: cannot be opened: {source}{remedy}", source = .0, remedy = file_remedy(.0))]
    AccessLog(std::io::Error),
}

/// Where the data plane is to listen.
fn listeners(config: &Config) -> Vec<Listen> {
    let listen = |address: &Endpoint, serves, proxies: &Vec<_>| Listen {
        address: address.clone(),
        serves,
        proxies: proxies.clone(),
        access: config.unix,
    };
    let http = config.http.iter().map(|address| listen(address, Serves::Http, &config.proxies));
    let https = config.https.iter().map(|address| listen(address, Serves::Https, &config.https_proxies));
    let tcp = config.tcp.iter();
    let tcp = tcp.map(|front| listen(&front.address, Serves::Tcp(front.services.clone()), &front.proxies));
    http.chain(https).chain(tcp).collect()
}

/// A Mainstay that serves.
#[derive(Debug)]
pub struct Running {
    proxy: Arc<Proxy>,
    admin: SocketAddr,
    pings: Option<SocketAddr>,
    door: Arc<Door>,
    dns: Vec<SocketAddr>,
    config: Config,
    messages: mpsc::Sender<Message>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: broadcast::Sender<Record>,
    supervisor: Arc<Supervisor>,
    access: watch::Sender<AdminAccess>,
    links: Arc<Links>,
    page: StatusPage,
    /// Copies of listening sockets, for the Mainstay that will go on.
    kept: Vec<(Role, OwnedFd)>,
    stop_web: watch::Sender<bool>,
    access_log: Access,
    core: JoinHandle<Option<mpsc::Receiver<Report>>>,
    /// The Mainstay that was replaced by this one.
    before: Option<Guided>,
    web: JoinHandle<()>,
}

/// Ends supervised servers without waiting for anything.
#[derive(Debug)]
pub struct EndServers(Arc<Supervisor>);

impl EndServers {
    /// Kills every supervised server with all that it started, also what left its process group: that would outlive
    /// Mainstay otherwise, until the next start.
    pub async fn at_once(self) {
        if tokio::time::timeout(KILL_SERVERS, self.0.kill_all()).await.is_err() {
            tracing::error!("not every supervised server has ended");
        }
    }
}

/// Brings everything up and serves. A demo has buttons of its own on the dashboard.
///
/// # Errors
/// When something cannot be opened or listened on; the text says what and what to do.
pub async fn start(config: Config, demo: Option<Demo>) -> Result<Running, EngineError> {
    take_over(config, demo, Inheritance::default()).await
}

/// The same, going on where another Mainstay stopped.
///
/// # Errors
/// As [`start`].
pub async fn take_over(
    config: Config,
    demo: Option<Demo>,
    mut inheritance: Inheritance,
) -> Result<Running, EngineError> {
    let (store, mut restored, undelivered) = Store::open(&config.data, config.retention)?;
    let processes = inheritance.processes();
    restored.carried = std::mem::take(&mut inheritance.carried);
    let admin_error = |source| EngineError::Admin { address: config.admin, source };
    let listener =
        inheritance.listener(Role::Admin(config.admin), config.admin).await.map_err(admin_error)?;
    let admin = listener.local_addr().unwrap_or(config.admin);
    let pings_listener = match config.pings {
        Some(address) => {
            let listener = inheritance.listener(Role::Pings(address), address).await;
            Some(listener.map_err(|source| EngineError::Pings { address, source })?)
        }
        None => None,
    };
    let dns_error = |(address, source)| EngineError::Dns { address, source };
    let sockets = dns::Sockets::bind(&config.dns.listen, |address| inheritance.dns(address))
        .await
        .map_err(dns_error)?;
    let dns_addresses = sockets.addresses();
    let page_listeners = Listeners::bind(config.status.as_ref(), &mut inheritance)
        .await
        .map_err(|(address, source)| EngineError::StatusPage { address, source })?;
    let mut kept = upgrade::dns_sockets(&sockets, &config.dns.listen).unwrap_or_default();
    kept.extend(upgrade::copy(&listener).ok().map(|fd| (Role::Admin(config.admin), fd)));

    if let (Some(listener), Some(address)) = (&pings_listener, config.pings) {
        kept.extend(upgrade::copy(listener).ok().map(|fd| (Role::Pings(address), fd)));
    }

    let access_log = Access::open(config.access_log.as_ref()).map_err(|source| EngineError::AccessLog {
        destination: config.access_log.as_ref().map_or_else(String::new, |log| log.destination.to_string()),
        source,
    })?;

    let (inputs, from_adapters) = mpsc::channel(INPUTS);
    let (reports, from_proxy) = mpsc::channel(INPUTS);
    let (attempted, from_alerts) = mpsc::channel(INPUTS);
    let (messages, control) = mpsc::channel(64);
    let (events, _) = broadcast::channel(EVENTS);
    let supervisor = Arc::new(Supervisor::start(config.data.clone(), inputs.clone(), processes).await?);
    let links = Arc::new(Links::new(&config.data));
    prepare_links(&links, &config).await;
    let (door, from_jobs) = Door::new();
    let door = Arc::new(door);
    open_door(&door, &config).await;
    let alerts = Arc::new(Alerts::new(config.alerts.clone(), attempted, links.clone()));
    alerts.remember(store.remembered());
    let (wanted, follow) = watch::channel(names::wanted_at_first(&config));
    let (answers, from_names) = mpsc::channel(LOOK_UPS);
    let (silent, is_silent) = watch::channel(false);
    let names_of = follow.clone();
    tokio::spawn(names::follow(follow, is_silent, answers));
    supervisor.makes_own_faults(own_faults::made(store.seems_full(), names_of, silent));

    let dns = Arc::new(Dns::new(inputs.clone()));
    let clock = Clock::start();
    let seed = fastrand::u64(..);
    let model = Model::new(seed, clock.now());
    let (snapshot, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let prober = Arc::new(Prober::new(inputs.clone()).resolving({
        let dns = dns.clone();
        Arc::new(move |host, deadline| {
            let resolver = dns.resolver();
            Box::pin(async move { names::addresses(&host, resolver, deadline).await })
        })
    }));
    let lateness = prober.lateness();
    let mut core = Core::new(core::Parts {
        clock,
        seed,
        model,
        host: Host::new(inputs.clone()),
        prober: prober.clone(),
        supervisor: supervisor.clone(),
        backups: Backups::new(inputs.clone()),
        alerts: alerts.clone(),
        store: store.clone(),
        journal: journal(&config, &store, clock),
        freeze: FreezeFile::of(&config.data),
        dns: dns.clone(),
        names: wanted,
        snapshot,
        events: events.clone(),
    });
    let targets = Targets::remembered(&config.data).await;
    let table = core.begin(restored, &config, targets, page_listeners.routes(config.status.as_ref()));
    let settings = Settings {
        listen: listeners(&config),
        tls: core.tls(&config),
        server_tls: core.server_tls(&config),
        workers: config.workers,
        report_interval: REPORT_INTERVAL,
        head_timeout: config.head_timeout,
        client_idle: config.client_idle,
        connections_max: config.connections,
        clients: config.clients.clone(),
        access_log: access_log.log(),
        learned: std::mem::take(&mut inheritance.learned),
        ..Settings::default()
    };
    let session_key = sessions::key(&config).await;
    let visitor_key = visitors::today(config.data.clone(), clock).await;
    let proxy = Arc::new(Proxy::take_over(settings, inheritance.visitors(), table, reports)?);
    if let Some(key) = session_key {
        proxy.set_session_key(key);
    }
    tokio::spawn(visitors::keep(config.data.clone(), clock, visitor_key, Arc::downgrade(&proxy)));
    tokio::spawn(FreezeFile::of(&config.data).follow(inputs.clone()));
    access_log.follow(inputs);
    dns.serve(sockets);

    let (access, access_seen) = watch::channel(config.access.clone());
    let (stop_web, web_stops) = watch::channel(false);
    let (ready, ready_seen) = watch::channel(false);
    let submit = submitter(messages.clone());
    let sources = web::public::Sources { snapshots: snapshots.clone(), reader: store.reader(), submit };
    let mut page = StatusPage::new(config.status.as_ref(), sources, web_stops.clone());
    page.start(page_listeners);
    let context = web::Context {
        snapshots: snapshots.clone(),
        reader: store.reader(),
        submit: submitter(messages.clone()),
        last_lines: {
            let supervisor = supervisor.clone();
            Arc::new(move |server| supervisor.last_lines(server))
        },
        dump: {
            let supervisor = supervisor.clone();
            Arc::new(move |server| {
                let supervisor = supervisor.clone();
                Box::pin(async move { supervisor.dump(&server).await })
            })
        },
        check_release: {
            let supervisor = supervisor.clone();
            Arc::new(move |service, path| {
                let supervisor = supervisor.clone();
                Box::pin(async move { supervisor.check_release(&service, &path).await })
            })
        },
        dns_queries: {
            let dns = dns.clone();
            Arc::new(move || dns.counts())
        },
        find_request: {
            let proxy = Arc::downgrade(&proxy);
            Arc::new(move |id| proxy.upgrade()?.find_request(id))
        },
        unusual: unusual_counts(&proxy),
        lateness: Arc::new(move || lateness.read()),
        ask_probe: Arc::new(move |module, target, at_most| {
            let prober = prober.clone();
            Box::pin(async move { prober.ask(&module, &target, at_most).await.map(probed) })
        }),
        write_freeze: {
            let file = FreezeFile::of(&config.data);
            Arc::new(move |freeze| {
                let failed = |error| format!("{}: {error}", file.path().display());
                file.write(freeze).map_err(failed)
            })
        },
        access_lines: {
            let counts = access_log.counts();
            Arc::new(move || counts().map(|counts| (counts.written, counts.dropped)))
        },
        access: access_seen,
        ready: ready_seen,
        links: links.clone(),
        demo,
        status: page.settings(),
        pings: door.clone(),
    };
    let pings = pings_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(listener) = pings_listener {
        let (door, stops) = (door.clone(), web_stops.clone());
        tokio::spawn(async move {
            if let Err(error) = web::ping::serve(listener, door, stops).await {
                tracing::error!(%error, "listen.pings is no longer listened on; jobs can ping at listen.admin");
            }
        });
    }
    let web = tokio::spawn(async move {
        if let Err(error) = web::serve(listener, context, web_stops).await {
            tracing::error!(%error, "the dashboard has stopped; traffic and recovery go on");
        }
    });
    for delivery in undelivered {
        alerts.deliver(delivery);
    }
    let core = tokio::spawn(core.run(
        proxy.clone(),
        core::Sources { from_adapters, from_proxy, from_alerts, from_names, from_jobs, control },
        ready,
    ));
    Ok(Running {
        proxy,
        admin,
        pings,
        door,
        dns: dns_addresses,
        config,
        messages,
        snapshots,
        events,
        supervisor,
        access,
        links,
        page,
        kept,
        stop_web,
        access_log,
        core,
        before: None,
        web,
    })
}

/// What the judge is told, to be judged again by another config.
fn journal(config: &Config, store: &Store, clock: Clock) -> Journal {
    let reader = store.reader();
    let left = move || {
        let left = reader.left(clock.now().wall);
        left.inspect_err(
            |error| tracing::warn!(%error, "the record cannot be read; inputs are not kept for now"),
        )
        .ok()
    };
    Journal::start(&config.data, config.retention.inputs, Box::new(left))
}

/// The servers of a config as a running Mainstay has them, with those that are written by the name of a service replaced by what it
/// stood for last.
pub async fn policy_of(config: &Config) -> Policy {
    Targets::remembered(&config.data).await.expand(&config.policy, &config.addresses).0
}

/// What the metrics tell of requests that do not go the usual way.
fn unusual_counts(proxy: &Arc<Proxy>) -> web::Unusual {
    let proxy = Arc::downgrade(proxy);
    Arc::new(move || {
        let counts = proxy.upgrade().map(|proxy| (proxy.unusual(), proxy.sessions()));
        let Some((counts, sessions)) = counts else { return <_>::default() };
        let read = |(service, s): (_, mainstay_proxy::Sessions)| {
            (
                service,
                web::SessionCounts {
                    open: s.open,
                    begun: s.begun,
                    bytes_in: s.bytes_in,
                    bytes_out: s.bytes_out,
                },
            )
        };
        let proxy_sessions = sessions.into_iter().map(read).collect();
        web::UnusualCounts {
            sessions: proxy_sessions,
            retries: counts.retries.into_iter().map(|((service, reason), n)| (service, reason, n)).collect(),
            drained: counts.drained.into_iter().map(|((service, what), n)| (service, what, n)).collect(),
        }
    })
}

/// Only who knows where the dashboard is can be sent a link to it. Without a key messages go out without links.
async fn prepare_links(links: &Arc<Links>, config: &Config) {
    if config.alerts.dashboard.is_none() {
        return;
    }
    let prepared = tokio::task::spawn_blocking({
        let links = links.clone();
        move || links.prepare()
    });
    let trouble = match tokio::time::timeout(PREPARE_LINKS, prepared).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the disk takes too long".to_owned(),
    };
    tracing::error!(
        trouble,
        "the key of acknowledge links cannot be used; messages go out without such links"
    );
}

/// Jobs ping at addresses that are made from a key of the data directory; without one none can.
async fn open_door(door: &Arc<Door>, config: &Config) {
    let jobs = config.policy.monitors.iter().filter(|(_, monitor)| monitor.heartbeat.is_some());
    let jobs: Vec<_> = jobs.map(|(id, _)| id.clone()).collect();
    if jobs.is_empty() {
        return door.close();
    }
    let opened = tokio::task::spawn_blocking({
        let (door, data) = (door.clone(), config.data.clone());
        move || Tokens::open(&data).map(|tokens| door.open_for(&tokens, jobs.iter()))
    });
    let trouble = match tokio::time::timeout(PREPARE_LINKS, opened).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the disk takes too long".to_owned(),
    };
    tracing::error!(trouble, "the key of heartbeats cannot be used; no job can ping");
}

/// What the pages call to hand an input to the judge.
type Submit = Arc<dyn Fn(Input) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

fn submitter(messages: mpsc::Sender<Message>) -> Submit {
    Arc::new(move |input| {
        let messages = messages.clone();
        Box::pin(async move {
            let (done, judged) = oneshot::channel();
            messages.send(Message::Judge { input, done }).await.is_ok() && judged.await.is_ok()
        })
    })
}

impl Running {
    /// Where visitors are served in the clear, with the ports that the kernel chose.
    pub fn http(&self) -> Vec<Endpoint> {
        self.proxy.addresses().into_iter().take(self.config.http.len()).collect()
    }

    /// Where visitors are served over TLS, with the ports that the kernel chose.
    pub fn https(&self) -> Vec<Endpoint> {
        let all = self.proxy.addresses().into_iter();
        all.skip(self.config.http.len()).take(self.config.https.len()).collect()
    }

    /// Where connections of TCP services come in, with the ports that the kernel chose.
    pub fn tcp(&self) -> Vec<Endpoint> {
        let others = self.config.http.len() + self.config.https.len();
        self.proxy.addresses().into_iter().skip(others).collect()
    }

    /// Where the dashboard is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where jobs ping, if that has an address of its own.
    pub fn pings(&self) -> Option<SocketAddr> {
        self.pings
    }

    /// Where DNS is answered, with the ports that the kernel chose.
    pub fn dns(&self) -> &[SocketAddr] {
        &self.dns
    }

    /// Files that the config in force names and that change it when they are saved.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        self.config.files()
    }

    /// Where the status page is, if it has an address of its own.
    pub fn status_page(&self) -> Option<SocketAddr> {
        self.page.address()
    }

    /// The judgement, at most a quarter of a second old.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// What the judge has written down from now on.
    pub fn events(&self) -> broadcast::Receiver<Record> {
        self.events.subscribe()
    }

    /// Applies a changed config without closing a connection. New addresses are bound first and served once the config is
    /// in force; those that are gone finish what is under way.
    ///
    /// # Errors
    /// When it changes something that cannot change while Mainstay runs, or an address cannot be had; nothing is applied
    /// then.
    pub async fn reload(&mut self, config: Config) -> Result<(), ReloadError> {
        self.can_become(&config)?;
        let access_log =
            self.access_log.becoming(config.access_log.as_ref()).map_err(ReloadError::AccessLog)?;
        let doors = self.proxy.prepare(&listeners(&config))?;
        let page_routes = self.page.apply(config.status.as_ref()).await.map_err(ReloadError::StatusPage)?;
        self.proxy.set_access_log(access_log.clone());
        self.proxy.set_client_limits(config.clients.clone());
        self.access_log.replace(access_log);
        self.access.send_replace(config.access.clone());
        prepare_links(&self.links, &config).await;
        open_door(&self.door, &config).await;
        if let Some(key) = sessions::key(&config).await {
            self.proxy.set_session_key(key);
        }
        self.config = config.clone();
        let (done, applied) = oneshot::channel();
        if self.messages.send(Message::Apply { config: Box::new(config), page_routes, done }).await.is_ok() {
            let _ = applied.await;
        }
        self.proxy.listen(doors);
        Ok(())
    }

    fn can_become(&self, config: &Config) -> Result<(), ReloadError> {
        let old = &self.config;
        let list =
            |addresses: &[SocketAddr]| addresses.iter().map(|a| a.to_string()).collect::<Vec<_>>().join(", ");
        if config.dns.listen != old.dns.listen {
            return Err(ReloadError::NeedsRestart { key: "listen.dns", now: list(&old.dns.listen) });
        }
        if config.admin != old.admin {
            return Err(ReloadError::NeedsRestart { key: "listen.admin", now: old.admin.to_string() });
        }
        if config.pings != old.pings {
            let now = old.pings.map_or("not set".to_owned(), |address| address.to_string());
            return Err(ReloadError::NeedsRestart { key: "listen.pings", now });
        }
        let page = |config: &Config| config.status.as_ref().and_then(|status| status.listen);
        if page(config) != page(old) {
            let now = page(old).map_or("not set".to_owned(), |address| address.to_string());
            return Err(ReloadError::NeedsRestart { key: "status.listen", now });
        }
        if config.data != old.data {
            return Err(ReloadError::NeedsRestart { key: "data", now: old.data.display().to_string() });
        }
        if config.head_timeout != old.head_timeout {
            let now = people_duration(old.head_timeout);
            return Err(ReloadError::NeedsRestart { key: "listen.head-timeout", now });
        }
        if config.client_idle != old.client_idle {
            return Err(ReloadError::NeedsRestart {
                key: "listen.idle",
                now: people_duration(old.client_idle),
            });
        }
        if config.connections != old.connections {
            let now = old.connections.to_string();
            return Err(ReloadError::NeedsRestart { key: "listen.connections", now });
        }
        if config.workers != old.workers {
            return Err(ReloadError::NeedsRestart { key: "workers", now: old.workers.to_string() });
        }
        Ok(())
    }

    /// Opens the files of logs again, as whoever rotates them asks for.
    pub fn reopen_logs(&self) {
        self.access_log.reopen();
    }

    /// Says that a part of Mainstay is in trouble, or is well again.
    pub async fn own(&self, part: OwnPart, trouble: Option<String>) {
        submitter(self.messages.clone())(Input::Own { part, trouble }).await;
    }

    /// Returns when the engine's loop has ended although nobody asked: it has panicked, which is a bug. Traffic goes on by
    /// the last routing table, but nothing is judged any more.
    pub async fn broken(&mut self) {
        if let Err(error) = (&mut self.core).await {
            tracing::error!(%error, "the engine's loop has panicked; please report it");
        }
    }

    /// What [`EndServers::at_once`] needs, for when stopping takes too long for somebody.
    pub fn end_servers(&self) -> EndServers {
        EndServers(self.supervisor.clone())
    }

    /// Stops: lets requests under way finish within the config's `drain`, ends supervised servers, closes the record.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.messages.send(Message::Stop { drain: self.config.drain, done }).await.is_ok() {
            let _ = stopped.await;
        }
        self.stop_web.send_replace(true);
        let _ = self.core.await;
        if tokio::time::timeout(Duration::from_secs(2), self.web).await.is_err() {
            tracing::debug!("the dashboard had requests under way; they were cut");
        }
    }
}

#[cfg(test)]
mod tests;
