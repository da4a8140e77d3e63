//! Probes: scheduled looks at a server from outside. One file a kind.
//!
//! Every probe is a connection of its own: a pooled one would say that a process lives which can no longer accept. One
//! deadline covers the whole look, and what is Mainstay's own trouble is never told as the server's.

mod connect;
mod http;
mod tcp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::Input;
use mainstay_model::carriage::SendProxy;
use mainstay_model::effect::{FrontOrder, ProbeOrder};
use mainstay_model::input::{FrontReport, ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::policy::ProbeKind;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

/// Probes under way at once: each holds a file descriptor, and many systems give a process 1,024.
const AT_ONCE: usize = 1_000;

/// Carries out the judge's orders to look at a server.
#[derive(Debug)]
pub struct Prober {
    inputs: mpsc::Sender<Input>,
    slots: Arc<Semaphore>,
}

impl Prober {
    /// A prober that reports to `inputs`.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self::with_slots(inputs, AT_ONCE)
    }

    /// Looks now, in a task of its own; one [`Input::Probe`] follows within the order's timeout.
    pub fn order(&self, order: ProbeOrder) {
        let inputs = self.inputs.clone();
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        tokio::spawn(async move {
            let report = match &slot {
                Ok(_) => look(order).await,
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
                Ok(_) => look_there(address, &kind, &[], timeout).await,
                Err(_) => (Duration::ZERO, Err(too_many())),
            };
            let _ = inputs.send(Input::Front(FrontReport { service, address, took, result })).await;
        });
    }

    fn with_slots(inputs: mpsc::Sender<Input>, at_once: usize) -> Self {
        Self { inputs, slots: Arc::new(Semaphore::new(at_once)) }
    }
}

fn too_many() -> ProbeFailure {
    ProbeFailure::NotProbed("too many probes are under way at once".to_owned())
}

/// One look at a server. It ends by the order's timeout, whatever the server does.
async fn look(order: ProbeOrder) -> ProbeReport {
    let greeting = order.send_proxy.map_or(&[][..], SendProxy::own_greeting);
    let (took, result) = look_there(order.address, &order.kind, greeting, order.timeout).await;
    ProbeReport { server: order.server, took, result }
}

async fn look_there(
    address: SocketAddr,
    kind: &ProbeKind,
    greeting: &[u8],
    timeout: Duration,
) -> (Duration, Result<ProbeAnswer, ProbeFailure>) {
    let start = Instant::now();
    let deadline = start + timeout;
    let result = match kind {
        ProbeKind::Http { path, host } => {
            http::probe(address, path, host.as_deref(), greeting, deadline).await.map(Some)
        }
        ProbeKind::Tcp => tcp::probe(address, greeting, deadline).await.map(|()| None),
    };
    (start.elapsed(), result.map(|status| ProbeAnswer { status }))
}

#[cfg(test)]
mod tests;
