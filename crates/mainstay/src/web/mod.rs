//! The dashboard, the JSON API and the metrics, on the admin address. Reads snapshots and the record; a click is an input.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mainstay_model::{Input, ServerId, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::AdminAccess;
use crate::store::Reader;

/// What the pages need of the rest of the program.
#[derive(Clone)]
pub struct Context {
    /// The judgement, at most a quarter of a second old.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The record.
    pub reader: Reader,
    /// Hands an input to the judge and returns when it has been judged and the snapshot shows it. `false`: Mainstay is stopping.
    pub submit: Arc<dyn Fn(Input) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>,
    /// The last lines that a supervised server wrote.
    pub last_lines: Arc<dyn Fn(&ServerId) -> Vec<String> + Send + Sync>,
    /// Who may come in; loopback needs nothing when neither is set.
    pub access: watch::Receiver<AdminAccess>,
    /// `true` once Mainstay serves visitors; for `/readyz`.
    pub ready: watch::Receiver<bool>,
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
    let _ = (listener, context, stop);
    Ok(())
}
