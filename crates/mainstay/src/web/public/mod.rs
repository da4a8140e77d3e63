//! The public status page: how things are, in a visitor's words, on the visitors' own ports and never on the admin address.
//!
//! What may be said in public passes one gate, [`view`]: services become components, judgements become plain words, and
//! nothing else of the judgement goes through. From a view the [`press`] prints an [`edition`]: every page, feed, badge and
//! JSON as finished bytes, at most once a second and only when something changed. The [`server`] hands these bytes out
//! and asks nobody, so that it stays up when everything behind it is down; [`folder`] writes the same bytes as files.

mod badge;
mod days;
mod edition;
mod feed;
mod folder;
mod json;
mod page;
mod press;
mod server;
#[cfg(test)]
mod tests;
pub(super) mod view;
mod zone;

use std::fmt;
use std::sync::Arc;

use mainstay_model::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::edition::Edition;
use super::Submit;
use super::listener::{self, Limits};
use super::past::Past;
use crate::config::StatusConfig;
use crate::store::Reader;

/// During an outage everybody comes at once.
const CONNECTIONS_MAX: usize = 2048;

/// The page as it is to be; `None` while there is none.
pub type Settings = watch::Receiver<Option<Arc<StatusConfig>>>;

/// The newest printed pages.
#[derive(Debug, Clone)]
pub struct Editions(watch::Receiver<Arc<Edition>>);

/// What the page is made from.
#[derive(Clone)]
pub struct Sources {
    /// The judgement.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The record.
    pub reader: Reader,
    /// Says that the static copy is in trouble, or is well again.
    pub submit: Submit,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// Prints the page from now on, in a task of its own, until Mainstay stops.
pub fn print(sources: Sources, settings: Settings, stop: watch::Receiver<bool>) -> Editions {
    let (editions, newest) = watch::channel(Arc::new(Edition::default()));
    let Sources { snapshots, reader, submit } = sources;
    let past: Arc<dyn Past> = Arc::new(reader);
    tokio::spawn(press::run(press::Press::new(snapshots, past, submit, settings, editions), stop));
    Editions(newest)
}

/// Serves the page on one address until `stop` changes to `true`, then lets requests under way finish.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    editions: Editions,
    settings: Settings,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let limits = Limits { connections: CONNECTIONS_MAX, ..Limits::default() };
    listener::accept(listener, server::router(editions.0, settings), limits, stop).await
}
