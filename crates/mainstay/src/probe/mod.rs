//! Probes: scheduled looks at a server, or at what a monitor watches, from outside. One file a kind.
//!
//! Every probe is a connection of its own: a pooled one would say that a process lives which can no longer accept. One
//! deadline covers the whole look, and what is Mainstay's own trouble is never told as the server's.

mod certificate;
mod command;
mod connect;
mod demand;
mod dns;
mod docker;
mod document;
mod grpc;
mod http;
mod http1;
mod http2;
mod icmp;
mod lateness;
mod mysql;
mod place;
mod postgres;
mod program;
mod promote;
mod redirect;
mod redis;
mod scram;
mod sight;
mod smtp;
mod systemd;
mod talk;
mod tcp;
mod trace;
mod websocket;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::carriage::SendProxy;
use mainstay_model::drill::Injection;
use mainstay_model::effect::{FrontOrder, ProbeOrder};
use mainstay_model::input::{FrontReport, IpFamily, ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::sight::SightOrder;
use mainstay_model::{Endpoint, Input, MonitorId, Mono, ProbeTarget, ServiceId, Whereabouts};
use mainstay_proxy::{ServerTls, ServersTls, TlsFlaw};
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::ServerName;

use connect::Secured;
pub use connect::SocketFlaw;
pub use lateness::Lateness;
pub use place::Resolve;
use place::{Names, Tries};
use redirect::Along;
pub use trace::Facts;
use trace::Trace;

use crate::config::probe::ProbeSpec;
use crate::config::{Module, Over};
use crate::tls::servers::watchers;

/// Probes of servers under way at once: each holds a file descriptor, and many systems give a process 1,024.
const AT_ONCE: usize = 1_000;
/// Probes of monitors under way at once, at most and at least: as many as descriptors allow when others have taken theirs.
const WATCHED_AT_ONCE: (usize, usize) = (64, 10_000);
/// Descriptors that probes of monitors leave to everybody else.
const LEFT_TO_OTHERS: u64 = 4_096;
/// A probe of a monitor waits so long for its turn. The judge gives it up later than that.
const TURN: Duration = Duration::from_secs(10);

/// Carries out the judge's orders to look at a server, or at what a monitor watches.
#[derive(Debug)]
pub struct Prober {
    inputs: mpsc::Sender<Input>,
    slots: Arc<Semaphore>,
    /// Those of monitors: ten thousand that hang must not keep a server from being looked at.
    watched: Arc<Semaphore>,
    settings: Mutex<Arc<Settings>>,
    lateness: Arc<Lateness>,
}

/// What probes need to know that the judge has no say in.
#[derive(Debug, Clone, Default)]
struct Settings {
    /// How TLS is spoken with servers, as requests do.
    tls: Arc<ServersTls>,
    /// The particulars of the probes of services that have some.
    probes: BTreeMap<ServiceId, Arc<ProbeSpec>>,
    /// Variables of Mainstay's own environment that hold its secrets: programs of probes do not get them.
    withheld: BTreeSet<String>,
    /// What there is to know of monitors.
    monitors: Arc<BTreeMap<MonitorId, Watched>>,
    /// Ways to look that are asked for by name.
    modules: Arc<BTreeMap<String, Way>>,
    /// How names are looked up.
    names: Names,
}

/// A way to look that is asked for by name, and how TLS is spoken with it, or why it cannot be.
type Way = (Module, Result<Arc<ServerTls>, String>);

/// How a monitor is looked at.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The particulars of its probe, if it has some.
    pub spec: Option<Arc<ProbeSpec>>,
    /// How TLS is spoken with it, if it is.
    pub tls: Option<Arc<ServerTls>>,
    /// Over which addresses of its name.
    pub over: Over,
}

impl Prober {
    /// A prober that reports to `inputs`, and looks names up as the system does.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self::with_slots(inputs, AT_ONCE)
    }

    /// Names are looked up in this way.
    #[must_use]
    pub fn resolving(self, resolve: Resolve) -> Self {
        self.change(|settings| settings.names = Names(resolve));
        self
    }

    /// Servers are looked at in these ways from now on, and spoken to over TLS like this. Programs do not inherit the `withheld`
    /// variables.
    pub fn apply(
        &self,
        tls: Arc<ServersTls>,
        probes: BTreeMap<ServiceId, Arc<ProbeSpec>>,
        withheld: BTreeSet<String>,
    ) {
        self.change(|settings| (settings.tls, settings.probes, settings.withheld) = (tls, probes, withheld));
    }

    /// Monitors are looked at in these ways from now on.
    pub fn apply_monitors(&self, monitors: BTreeMap<MonitorId, Watched>) {
        self.change(|settings| settings.monitors = Arc::new(monitors));
    }

    /// These are the ways to look that may be asked for from now on.
    pub fn apply_modules(&self, modules: &BTreeMap<String, Module>) {
        let (mut tls, errors) = watchers(modules.iter().map(|(name, module)| (name, &module.tls)));
        let mut errors: BTreeMap<String, String> = errors.into_iter().collect();
        let with_tls = |(name, module): (&String, &Module)| {
            let tls = tls.remove(name).ok_or_else(|| errors.remove(name).unwrap_or_default());
            (name.clone(), (module.clone(), tls))
        };
        let modules = modules.iter().map(with_tls).collect();
        self.change(|settings| settings.modules = Arc::new(modules));
    }

    /// Looks at a target by a module, for at most so long.
    ///
    /// # Errors
    /// When there is no such module, or the target is none; for a person.
    pub async fn ask(&self, module: &str, target: &str, at_most: Duration) -> Result<Asked, String> {
        let settings = self.settings();
        let Some((module, tls)) = settings.modules.get(module) else {
            let known: Vec<&str> = settings.modules.keys().map(String::as_str).collect();
            return Err(format!("there is no module `{module}`; there are {}", known.join(", ")));
        };
        let aim = module.at(target)?;
        let over_tls = aim.over_tls || aim.spec.as_deref().is_some_and(ProbeSpec::needs_tls);
        let tls = match tls {
            Ok(tls) => Some(Arc::new(ServerTls { name: aim.name.clone(), ..ServerTls::clone(tls) })),
            Err(error) if over_tls => return Err(format!("its tls is of no use: {error}")),
            Err(_) => None,
        };
        let http = matches!(aim.kind, ProbeKind::Http { .. });
        let id = MonitorId::new(target);
        let watched = Watched { spec: aim.spec, tls, over: Over::Any };
        let order = ProbeOrder {
            target: id.clone().into(),
            address: aim.address,
            kind: aim.kind,
            send_proxy: None,
            tls: aim.over_tls,
            protocol: aim.protocol,
            timeout: module.timeout.min(at_most),
            due: Mono::default(),
            injection: None,
        };
        let only_it = Settings { monitors: Arc::new([(id, watched)].into()), ..settings.as_ref().clone() };
        let slot = tokio::time::timeout(order.timeout, self.watched.acquire()).await;
        let (report, facts) = match slot {
            Ok(Ok(_slot)) => look_closely(order, &only_it).await,
            _ => (ProbeReport::new(order.target, Duration::ZERO, Err(too_many())), Facts::default()),
        };
        Ok(Asked { report, facts, http, over_tls })
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(Arc::make_mut(&mut *self.settings.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// How late probes begin.
    pub fn lateness(&self) -> Arc<Lateness> {
        Arc::clone(&self.lateness)
    }

    /// Looks now, in a task of its own; one [`Input::Probe`] follows within the order's timeout. A monitor may have to wait for
    /// its turn first. `due`: when it was to begin.
    pub fn order(&self, order: ProbeOrder, due: Instant) {
        let inputs = self.inputs.clone();
        let settings = self.settings();
        let (slots, patience) = match &order.target {
            ProbeTarget::Server(_) => (self.slots.clone(), None),
            ProbeTarget::Monitor(_) => (self.watched.clone(), Some(TURN)),
        };
        let slot = slots.clone().try_acquire_owned().ok();
        let lateness = Arc::clone(&self.lateness);
        tokio::spawn(async move {
            let slot = match (slot, patience) {
                (None, Some(patience)) => {
                    tokio::time::timeout(patience, slots.acquire_owned()).await.ok().and_then(Result::ok)
                }
                (slot, _) => slot,
            };
            let report = match &slot {
                Some(_) => {
                    lateness.record(due.elapsed());
                    look(order, &settings).await
                }
                None => ProbeReport::new(order.target, Duration::ZERO, Err(too_many())),
            };
            drop(slot);
            // An error means that the judge is gone, and nobody wants to know any more.
            let _ = inputs.send(Input::Probe(report)).await;
        });
    }

    /// Looks at a front address now, in a task of its own; one [`Input::Front`] follows within the order's timeout.
    pub fn order_front(&self, order: FrontOrder) {
        let inputs = self.inputs.clone();
        let settings = self.settings();
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        tokio::spawn(async move {
            let FrontOrder { service, address, kind, timeout } = order;
            let (took, result) = match &slot {
                Ok(_) => look_at_front(&address.into(), &kind, (&service, &settings), timeout).await,
                Err(_) => (Duration::ZERO, Err(too_many())),
            };
            let _ = inputs.send(Input::Front(FrontReport { service, address, took, result })).await;
        });
    }

    /// Looks at what Mainstay itself can see, in a task of its own; one [`Input::Sight`] follows within the order's timeout.
    /// Names are looked up by this `resolver` before those of the system.
    pub fn order_sight(&self, order: SightOrder, resolver: Option<SocketAddr>) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let _ = inputs.send(Input::Sight(sight::look_around(&order, resolver).await)).await;
        });
    }

    fn with_slots(inputs: mpsc::Sender<Input>, at_once: usize) -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let watched = usize::try_from(descriptors.saturating_sub(LEFT_TO_OTHERS)).unwrap_or(usize::MAX);
        Self {
            inputs,
            slots: Arc::new(Semaphore::new(at_once)),
            watched: Arc::new(Semaphore::new(watched.clamp(WATCHED_AT_ONCE.0, WATCHED_AT_ONCE.1))),
            settings: Mutex::default(),
            lateness: Arc::default(),
        }
    }
}

fn too_many() -> ProbeFailure {
    ProbeFailure::NotProbed("too many probes are under way at once".to_owned())
}

/// Whom a probe looks at, by name.
#[derive(Debug, Clone, Copy)]
struct Whom<'l> {
    service: &'l str,
    name: &'l str,
}

/// What every kind of probe goes by.
#[derive(Debug, Clone, Copy)]
struct Look<'l> {
    whom: Whom<'l>,
    address: &'l Endpoint,
    /// What is said before everything else.
    greeting: &'l [u8],
    begun: Instant,
    /// When it must be connected.
    connect_by: Instant,
    /// When all of it must be over.
    deadline: Instant,
    /// How TLS is spoken with the server, if anybody has said.
    tls: Option<Secured<'l>>,
    /// It is spoken from the beginning.
    over_tls: bool,
    protocol: Protocol,
    /// Redirects to other machines are followed, with this.
    along: Option<Along<'l>>,
    /// What is seen on the way, whatever it ends with.
    trace: &'l Trace,
}

impl Look<'_> {
    /// How TLS is spoken from the beginning, if it is.
    fn secured(&self) -> Option<Secured<'_>> {
        self.tls.filter(|_| self.over_tls)
    }
}

/// A look that somebody asked for by the name of a module.
#[derive(Debug)]
pub struct Asked {
    /// What it came to.
    pub report: ProbeReport,
    /// What else was seen.
    pub facts: Facts,
    /// It was asked in HTTP.
    pub http: bool,
    /// It is spoken to over TLS.
    pub over_tls: bool,
}

/// One look. It ends by the order's timeout, whatever is at the other end, and looking a name up is a part of it.
async fn look(order: ProbeOrder, settings: &Settings) -> ProbeReport {
    look_closely(order, settings).await.0
}

/// The same, with what else was seen.
async fn look_closely(order: ProbeOrder, settings: &Settings) -> (ProbeReport, Facts) {
    let over = match &order.target {
        ProbeTarget::Server(_) => Over::Any,
        ProbeTarget::Monitor(id) => settings.monitors.get(id).map(|watched| watched.over).unwrap_or_default(),
    };
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    match over {
        Over::Any => look_over(&order, settings, None).await,
        Over::One(family) => look_over(&order, settings, Some(family)).await,
        Over::Both => {
            let both =
                tokio::join!(look_over(&order, settings, Some(v4)), look_over(&order, settings, Some(v6)));
            let (mut one, mut other) = both;
            match (&one.0.result, &other.0.result) {
                (Err(ProbeFailure::NotProbed(_)), _) | (Ok(_), Ok(_)) | (Err(_), Err(_)) => one,
                (Ok(_), Err(ProbeFailure::NotProbed(_))) => other,
                (Err(_), Ok(_)) => {
                    alone(&mut one.0, v4);
                    one
                }
                (Ok(_), Err(_)) => {
                    alone(&mut other.0, v6);
                    other
                }
            }
        }
    }
}

/// It failed over these addresses, and not over the others.
fn alone(report: &mut ProbeReport, family: IpFamily) {
    let result = std::mem::replace(&mut report.result, Ok(ProbeAnswer::default()));
    report.result = result.map_err(|failure| ProbeFailure::Over(family, Box::new(failure)));
}

async fn look_over(
    order: &ProbeOrder,
    settings: &Settings,
    family: Option<IpFamily>,
) -> (ProbeReport, Facts) {
    let start = Instant::now();
    let deadline = start + order.timeout;
    let trace = Trace::default();
    if let Some(injection) = order.injection {
        let result = pretended(injection, order.timeout).await;
        if let Some(failure) = result {
            let report = ProbeReport::new(order.target.clone(), start.elapsed(), Err(failure));
            return (report, Facts::default());
        }
    }
    let result = match place::addresses(&order.address, family, &settings.names.0, deadline).await {
        Ok(addresses) => {
            if matches!(order.address, Whereabouts::Named { .. }) {
                trace.reached(|phases| phases.resolved = Some(start.elapsed()));
            }
            look_at_one_of(order, settings, (&addresses, family), (start, deadline), &trace).await
        }
        Err(failure) => Err(failure),
    };
    let facts = trace.facts();
    let (phases, sample) = trace.told(&order.kind, result.as_ref().err());
    let target = order.target.clone();
    (ProbeReport { target, took: start.elapsed(), result, phases, sample }, facts)
}

/// What a drill makes of a look; `None`: nothing.
async fn pretended(injection: Injection, timeout: Duration) -> Option<ProbeFailure> {
    match injection {
        Injection::Refuse => Some(ProbeFailure::Refused),
        Injection::BlackHole => {
            tokio::time::sleep(timeout).await;
            Some(ProbeFailure::ConnectTimeout)
        }
        Injection::Reset => Some(ProbeFailure::BrokenOff("was broken off in its middle".to_owned())),
        Injection::Slow { by } if by >= timeout => {
            tokio::time::sleep(timeout).await;
            Some(ProbeFailure::AnswerTimeout)
        }
        Injection::Slow { by } => {
            tokio::time::sleep(by).await;
            None
        }
        Injection::Errors { percent } => (fastrand::u8(..100) < percent).then_some(ProbeFailure::Status(500)),
        Injection::Certificate => Some(ProbeFailure::Certificate("its certificate has expired".to_owned())),
    }
}

/// Looks at each address of a name until one takes the connection.
async fn look_at_one_of(
    order: &ProbeOrder,
    settings: &Settings,
    (addresses, family): (&[Endpoint], Option<IpFamily>),
    (begun, deadline): (Instant, Instant),
    trace: &Trace,
) -> Result<ProbeAnswer, ProbeFailure> {
    let (spec, tls, server) = match &order.target {
        ProbeTarget::Server(server) => {
            let service = &server.service;
            (settings.probes.get(service).cloned(), settings.tls.get(service).cloned(), Some(server))
        }
        ProbeTarget::Monitor(id) => {
            let Watched { spec, tls, .. } = settings.monitors.get(id).cloned().unwrap_or_default();
            (spec, tls, None)
        }
    };
    let whom = match &order.target {
        ProbeTarget::Server(server) => Whom { service: server.service.as_str(), name: &server.name },
        ProbeTarget::Monitor(id) => Whom { service: "", name: id.as_str() },
    };
    let spec = spec.as_deref();
    let wants_tls = order.tls || spec.is_some_and(ProbeSpec::needs_tls);
    let mut tries = Tries::new(addresses, deadline);
    while let Some((address, connect_by)) = tries.next() {
        let name = tls.as_ref().zip(address.tcp()).map(|(tls, address)| match server {
            Some(server) => tls.name_of(server, address),
            None => tls.name.clone().unwrap_or_else(|| ServerName::from(address.ip())),
        });
        let secured = tls.as_deref().zip(name.as_ref());
        if wants_tls && secured.is_none() {
            return Err(ProbeFailure::NotProbed(TlsFlaw::NotSetUp.to_string()));
        }
        trace.saw(|facts| facts.address = address.tcp().map(|address| address.ip()));
        let look = Look {
            whom,
            address,
            greeting: order.send_proxy.map_or(&[][..], SendProxy::own_greeting),
            begun,
            connect_by,
            deadline,
            tls: secured,
            // What is asked as a visitor would is not asked as the probe is.
            over_tls: order.tls
                || spec.is_some_and(ProbeSpec::begins_with_tls)
                    && !matches!(order.kind, ProbeKind::Visit { .. }),
            protocol: order.protocol,
            along: server.is_none().then_some(Along { names: &settings.names, tls: tls.as_deref(), family }),
            trace,
        };
        if let Some(result) = tries.decided(look_by(&look, &order.kind, spec, settings).await) {
            return result;
        }
    }
    Err(tries.failure())
}

/// Looks in the way of the kind; what it needs to know beside its name is in the particulars.
async fn look_by(
    look: &Look<'_>,
    kind: &ProbeKind,
    spec: Option<&ProbeSpec>,
    settings: &Settings,
) -> Result<ProbeAnswer, ProbeFailure> {
    match (kind, spec) {
        (ProbeKind::Http { path, host }, spec) => {
            let particulars = if let Some(ProbeSpec::Http(spec)) = spec { Some(spec) } else { None };
            http::probe(look, path, host.as_deref(), particulars).await
        }
        (ProbeKind::Visit { path, host }, _) => http::visit(look, path, host.as_deref()).await,
        (ProbeKind::Tcp, _) => tcp::probe(look).await.map(|()| ProbeAnswer::default()),
        (ProbeKind::Talk, Some(ProbeSpec::Tcp(spec))) => talk::probe(look, spec).await,
        (ProbeKind::Redis, Some(ProbeSpec::Redis(spec))) => redis::probe(look, spec).await,
        (ProbeKind::Postgres, Some(ProbeSpec::Postgres(spec))) => postgres::probe(look, spec).await,
        (ProbeKind::Grpc, Some(ProbeSpec::Grpc(spec))) => grpc::probe(look, spec).await,
        (ProbeKind::Command, Some(ProbeSpec::Command(spec))) => {
            command::probe(look, spec, &settings.withheld).await
        }
        (ProbeKind::Dns, Some(ProbeSpec::Dns(spec))) => dns::probe(look, spec).await,
        (ProbeKind::Mysql, Some(ProbeSpec::Mysql(spec))) => mysql::probe(look, spec).await,
        (ProbeKind::Smtp, Some(ProbeSpec::Smtp(spec))) => smtp::probe(look, spec).await,
        (ProbeKind::WebSocket, Some(ProbeSpec::WebSocket(spec))) => websocket::probe(look, spec).await,
        (ProbeKind::Certificate, Some(ProbeSpec::Certificate(spec))) => certificate::probe(look, spec).await,
        (ProbeKind::Icmp, Some(ProbeSpec::Icmp(spec))) => icmp::probe(look, spec).await,
        (ProbeKind::Docker, Some(ProbeSpec::Docker(spec))) => docker::probe(look, spec).await,
        (ProbeKind::Systemd, Some(ProbeSpec::Systemd(spec))) => {
            systemd::probe(look, spec, &settings.withheld).await
        }
        (
            ProbeKind::Talk
            | ProbeKind::Grpc
            | ProbeKind::Redis
            | ProbeKind::Postgres
            | ProbeKind::Mysql
            | ProbeKind::Smtp
            | ProbeKind::WebSocket
            | ProbeKind::Dns
            | ProbeKind::Certificate
            | ProbeKind::Icmp
            | ProbeKind::Command
            | ProbeKind::Docker
            | ProbeKind::Systemd,
            _,
        ) => {
            // An order from before a reload; the next one is from after it.
            Err(ProbeFailure::NotProbed("the config of its probe has just changed".to_owned()))
        }
    }
}

/// One look at a front address, in the clear.
async fn look_at_front(
    address: &Endpoint,
    kind: &ProbeKind,
    (service, settings): (&ServiceId, &Settings),
    timeout: Duration,
) -> (Duration, Result<ProbeAnswer, ProbeFailure>) {
    let start = Instant::now();
    let look = Look {
        whom: Whom { service: service.as_str(), name: "front" },
        address,
        greeting: &[],
        begun: start,
        connect_by: start + timeout,
        deadline: start + timeout,
        tls: None,
        over_tls: false,
        protocol: Protocol::Http1,
        along: None,
        trace: &Trace::default(),
    };
    let spec = settings.probes.get(service).map(|spec| &**spec);
    let result = look_by(&look, kind, spec, settings).await;
    (start.elapsed(), result)
}

#[cfg(test)]
mod tests;
