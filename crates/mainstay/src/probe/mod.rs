//! Probes: scheduled looks at a server from outside. One file a kind.
//!
//! Every probe is a connection of its own: a pooled one would say that a process lives which can no longer accept. One
//! deadline covers the whole look, and what is Mainstay's own trouble is never told as the server's.

mod command;
mod connect;
mod demand;
mod dns;
mod document;
mod grpc;
mod http;
mod http1;
mod http2;
mod postgres;
mod program;
mod redis;
mod scram;
mod talk;
mod tcp;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::carriage::SendProxy;
use mainstay_model::effect::{FrontOrder, ProbeOrder};
use mainstay_model::input::{FrontReport, ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::{Endpoint, Input, ServiceId};
use mainstay_proxy::{ServersTls, TlsFlaw};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use connect::Secured;

use crate::config::probe::ProbeSpec;

/// Probes under way at once: each holds a file descriptor, and many systems give a process 1,024.
const AT_ONCE: usize = 1_000;

/// Carries out the judge's orders to look at a server.
#[derive(Debug)]
pub struct Prober {
    inputs: mpsc::Sender<Input>,
    slots: Arc<Semaphore>,
    settings: Mutex<Arc<Settings>>,
}

/// What probes need to know that the judge has no say in.
#[derive(Debug, Default)]
struct Settings {
    /// How TLS is spoken with servers, as requests do.
    tls: Arc<ServersTls>,
    /// The particulars of the probes of services that have some.
    probes: BTreeMap<ServiceId, Arc<ProbeSpec>>,
    /// Variables of Mainstay's own environment that hold its secrets: programs of probes do not get them.
    withheld: BTreeSet<String>,
}

impl Prober {
    /// A prober that reports to `inputs`.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self::with_slots(inputs, AT_ONCE)
    }

    /// Servers are looked at in these ways from now on, and spoken to over TLS like this. Programs do not inherit the `withheld`
    /// variables.
    pub fn apply(
        &self,
        tls: Arc<ServersTls>,
        probes: BTreeMap<ServiceId, Arc<ProbeSpec>>,
        withheld: BTreeSet<String>,
    ) {
        let settings = Settings { tls, probes, withheld };
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Looks now, in a task of its own; one [`Input::Probe`] follows within the order's timeout.
    pub fn order(&self, order: ProbeOrder) {
        let inputs = self.inputs.clone();
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        tokio::spawn(async move {
            let report = match &slot {
                Ok(_) => look(order, &settings).await,
                Err(_) => ProbeReport { server: order.server, took: Duration::ZERO, result: Err(too_many()) },
            };
            // An error means that the judge is gone, and nobody wants to know any more.
            let _ = inputs.send(Input::Probe(report)).await;
        });
    }

    /// Looks at a front address now, in a task of its own; one [`Input::Front`] follows within the order's timeout.
    pub fn order_front(&self, order: FrontOrder) {
        let inputs = self.inputs.clone();
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
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

    fn with_slots(inputs: mpsc::Sender<Input>, at_once: usize) -> Self {
        Self { inputs, slots: Arc::new(Semaphore::new(at_once)), settings: Mutex::default() }
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
    /// When all of it must be over.
    deadline: Instant,
    /// How TLS is spoken with the server, if anybody has said.
    tls: Option<Secured<'l>>,
    /// It is spoken from the beginning.
    over_tls: bool,
    protocol: Protocol,
}

impl Look<'_> {
    /// How TLS is spoken from the beginning, if it is.
    fn secured(&self) -> Option<Secured<'_>> {
        self.tls.filter(|_| self.over_tls)
    }
}

/// One look at a server. It ends by the order's timeout, whatever the server does.
async fn look(order: ProbeOrder, settings: &Settings) -> ProbeReport {
    let ProbeOrder { server, address, kind, timeout, .. } = order;
    let spec = settings.probes.get(&server.service).map(|spec| &**spec);
    let tls = settings.tls.get(&server.service).map(|tls| (&**tls, &server));
    if tls.is_none() && (order.tls || spec.is_some_and(ProbeSpec::needs_tls)) {
        let result = Err(ProbeFailure::NotProbed(TlsFlaw::NotSetUp.to_string()));
        return ProbeReport { server, took: Duration::ZERO, result };
    }
    let start = Instant::now();
    let look = Look {
        whom: Whom { service: server.service.as_str(), name: &server.name },
        address: &address,
        greeting: order.send_proxy.map_or(&[][..], SendProxy::own_greeting),
        begun: start,
        deadline: start + timeout,
        tls,
        // What is asked as a visitor would is not asked as the probe is.
        over_tls: order.tls
            || spec.is_some_and(ProbeSpec::begins_with_tls) && !matches!(kind, ProbeKind::Visit { .. }),
        protocol: order.protocol,
    };
    let result = look_by(&look, &kind, spec, settings).await;
    let took = start.elapsed();
    ProbeReport { server, took, result }
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
        (_, _) => {
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
        deadline: start + timeout,
        tls: None,
        over_tls: false,
        protocol: Protocol::Http1,
    };
    let spec = settings.probes.get(service).map(|spec| &**spec);
    let result = look_by(&look, kind, spec, settings).await;
    (start.elapsed(), result)
}

#[cfg(test)]
mod tests;
