//! The TCP probe: a connection that is accepted is good. The kernel accepts for a process that hangs, so it shows a crash
//! and a lost machine, not a hang.

use mainstay_model::input::ProbeFailure;

use super::Look;
use super::connect::connect;

/// Connects, shakes hands with a server that speaks TLS, and closes as a polite client does: some servers take a reset for a fault of their own.
pub(super) async fn probe(look: &Look<'_>) -> Result<(), ProbeFailure> {
    connect(look).await.map(drop)
}
