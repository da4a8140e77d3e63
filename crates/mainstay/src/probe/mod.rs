//! Probes: scheduled looks at a server from outside. One file a kind.
//!
//! Every probe is a connection of its own: a pooled one would say that a process lives which can no longer accept. One
//! deadline covers the whole look, and what is Mainstay's own trouble is never told as the server's.

mod connect;
mod http;
mod http2;
mod tcp;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::carriage::SendProxy;
use mainstay_model::effect::{FrontOrder, ProbeOrder};
use mainstay_model::input::{FrontReport, ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::{Endpoint, Input};
use mainstay_proxy::{ServersTls, TlsFlaw};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use connect::Secured;

/// Probes under way at once: each holds a file descriptor, and many systems give a process 1,024.
const AT_ONCE: usize = 1_000;

/// Carries out the judge's orders to look at a server.
#[derive(Debug)]
pub struct Prober {
    inputs: mpsc::Sender<Input>,
    slots: Arc<Semaphore>,
    /// How TLS is spoken with servers, as requests do.
    tls: Mutex<Arc<ServersTls>>,
}

impl Prober {
    /// A prober that reports to `inputs`.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self::with_slots(inputs, AT_ONCE)
    }

    /// Servers are spoken to over TLS like this from now on.
    pub fn apply(&self, tls: Arc<ServersTls>) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Looks now, in a task of its own; one [`Input::Probe`] follows within the order's timeout.
    pub fn order(&self, order: ProbeOrder) {
        let inputs = self.inputs.clone();
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        tokio::spawn(async move {
            let report = match &slot {
                Ok(_) => look(order, &tls).await,
                Err(_) => ProbeReport { server: order.server, took: Duration::ZERO, result: Err(too_many()) },
            };
            // An error means that the judge is gone, and nobody wants to know any more.
            let _ = inputs.send(Input::Probe(report)).await;
        });
    }

    /// Looks at a front address now, in a task of its own; one [`Input::Front`] follows within the order's timeout.
    pub fn order_front(&self, order: FrontOrder) {
        let inputs = self.inputs.clone();
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        tokio::spawn(async move {
            let FrontOrder { service, address, kind, timeout } = order;
            let (took, result) = match &slot {
                Ok(_) => look_there(&address.into(), &kind, &[], timeout, None, Protocol::Http1).await,
                Err(_) => (Duration::ZERO, Err(too_many())),
            };
            let _ = inputs.send(Input::Front(FrontReport { service, address, took, result })).await;
        });
    }

    fn with_slots(inputs: mpsc::Sender<Input>, at_once: usize) -> Self {
        Self { inputs, slots: Arc::new(Semaphore::new(at_once)), tls: Mutex::default() }
    }
}

fn too_many() -> ProbeFailure {
    ProbeFailure::NotProbed("too many probes are under way at once".to_owned())
}

/// One look at a server. It ends by the order's timeout, whatever the server does.
async fn look(order: ProbeOrder, tls: &ServersTls) -> ProbeReport {
    let tls = match (order.tls, tls.get(&order.server.service)) {
        (false, _) => None,
        (true, Some(tls)) => Some((&**tls, &order.server)),
        (true, None) => {
            let result = Err(ProbeFailure::NotProbed(TlsFlaw::NotSetUp.to_string()));
            return ProbeReport { server: order.server, took: Duration::ZERO, result };
        }
    };
    let greeting = order.send_proxy.map_or(&[][..], SendProxy::own_greeting);
    let (took, result) =
        look_there(&order.address, &order.kind, greeting, order.timeout, tls, order.protocol).await;
    ProbeReport { server: order.server, took, result }
}

async fn look_there(
    address: &Endpoint,
    kind: &ProbeKind,
    greeting: &[u8],
    timeout: Duration,
    tls: Option<Secured<'_>>,
    protocol: Protocol,
) -> (Duration, Result<ProbeAnswer, ProbeFailure>) {
    let start = Instant::now();
    let deadline = start + timeout;
    let result = match kind {
        ProbeKind::Http { path, host } if protocol == Protocol::Http2 => {
            http2::probe(address, tls, path, host.as_deref(), deadline).await.map(Some)
        }
        ProbeKind::Http { path, host } => {
            http::probe(address, tls, path, host.as_deref(), greeting, deadline).await.map(Some)
        }
        ProbeKind::Tcp => tcp::probe(address, tls, greeting, deadline).await.map(|()| None),
    };
    (start.elapsed(), result.map(|status| ProbeAnswer { status }))
}

#[cfg(test)]
mod tests;
