//! The TCP probe: a connection that is accepted is good. The kernel accepts for a process that hangs, so it shows a crash
//! and a lost machine, not a hang.

use mainstay_model::Endpoint;
use mainstay_model::input::ProbeFailure;
use tokio::time::Instant;

use super::connect::{Secured, connect};

/// Connects, shakes hands with a server that speaks TLS, and closes as a polite client does: some servers take a reset for a fault of their own.
pub(super) async fn probe(
    address: &Endpoint,
    tls: Option<Secured<'_>>,
    greeting: &[u8],
    deadline: Instant,
) -> Result<(), ProbeFailure> {
    connect(address, tls, greeting, deadline).await.map(drop)
}
