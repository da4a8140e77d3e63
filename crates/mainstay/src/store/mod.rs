//! The record: SQLite in WAL mode with one writer thread; readers have connections of their own.
//!
//! What survives: every change that was answered `Ok` survives the death of the process (SIGKILL). Incidents, timelines,
//! actions, the outbox and admin states are synced to the disk before the answer and survive a loss of power too;
//! a batch of nothing but roll-ups and signs of life is not, so a loss of power may take the last of these (until the next
//! synced batch or checkpoint), never the file.
//!
//! A full disk, a lock held by another program or a damaged file is a text in [`Store::trouble`] and an error in the answer;
//! it never panics, never blocks the caller, and says nothing about a server.

mod bucket;
mod damage;
mod days;
mod evidence;
mod history;
mod lock;
mod machine;
mod monitor;
mod outbox;
mod queue;
mod read;
mod restore;
mod results;
mod rollup;
mod schema;
mod seconds;
mod trouble;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::effect::{ActionOrder, Record};
use mainstay_model::host::seconds::Second;
use mainstay_model::input::Restored;
use mainstay_model::results::Look;
use mainstay_model::{ProbeTarget, Wall};
use tokio::sync::{oneshot, watch};

pub use days::ServiceDay;
pub use evidence::{Evidence, StoredAction, StoredMessage};
pub use history::{Accumulator, ServerBucket, ServiceBucket, Step};
#[cfg(test)]
pub use machine::Machine;
pub use machine::{MachineAccumulator, MachineBucket, Summary};
pub use monitor::{MonitorAccumulator, MonitorBucket};
pub use outbox::{Message, MessageState};
pub use read::Reader;

use crate::alert::{Delivery, Remembered};
use crate::config::Retention;
use queue::Queue;
use rollup::Housekeeping;
use writer::Writer;

/// The file in the data directory.
const FILE: &str = "record.db";

/// The writer finishes what is queued within this time when the record is closed; a disk that is slower loses it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

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
        /// It was not sent because its person had enough for now.
        held_back: bool,
        /// By which its provider can be asked what became of it.
        reference: Option<String>,
        /// Text messages that it cost its person's budget so far.
        spent: u32,
    },
    /// The provider of a message that was delivered says what became of it.
    OutboxReceipt {
        /// Its row.
        row: i64,
        /// When.
        at: Wall,
        /// Why it did not arrive; `None`: it did.
        error: Option<String>,
    },
    /// Roll-ups of one minute as they now stand; replaces what this run has stored for the same minute, and is added to what
    /// an earlier run left of it.
    Minute {
        /// Of servers.
        servers: Vec<ServerBucket>,
        /// Of services.
        services: Vec<ServiceBucket>,
    },
    /// Roll-ups of the machine, likewise.
    Machine(Vec<MachineBucket>),
    /// Roll-ups of monitors, likewise.
    Monitors(Vec<MonitorBucket>),
    /// What was seen of monitors and servers, look by look.
    Looks(Vec<(ProbeTarget, Look)>),
    /// Seconds of the machine around an incident, oldest first.
    Seconds(Vec<Second>),
    /// Mainstay is alive. Also the clock by which hours are rolled up and old rows are removed.
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

/// Hands changes to the one writer, which ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    handle: Arc<Handle>,
    trouble: watch::Receiver<Option<String>>,
}

impl Store {
    /// Opens the record in the data directory, makes it if there is none, and brings an older one up to date. A damaged file
    /// is moved aside and a new record begun; [`Store::trouble`] then says so. May take seconds: call it before serving.
    ///
    /// # Errors
    /// When the directory cannot be used; the message says what to do.
    pub fn open(data: &Path, retention: Retention) -> Result<(Self, Restored, Vec<Delivery>), StoreError> {
        let lock = lock::DataLock::take(data)?;
        let path = data.join(FILE);
        let now = wall_now();
        let opened = damage::open_or_replace(&path, now)
            .map_err(|error| StoreError::Database { path: path.clone(), reason: trouble::explain(&error) })?;
        let (say, trouble) = watch::channel(opened.moved_aside.clone());
        let queue = Arc::new(Queue::default());
        let retention = Arc::new(Mutex::new(retention));
        let house = Housekeeping::new(retention.clone());
        let full = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(
            path.clone(),
            opened.connection,
            &opened.left,
            house,
            queue.clone(),
            say,
            full.clone(),
        );
        let stopped = queue::StoppedOnDrop(queue.clone());
        let thread = std::thread::Builder::new().name("record".to_owned()).spawn(move || {
            // Dropped last, also when the writer panics: nobody waits for an answer that cannot come.
            let _stopped = stopped;
            let _lock = lock;
            writer.run();
        });
        if let Err(error) = thread {
            let reason = format!("its writer cannot be started: {error}");
            return Err(StoreError::Database { path, reason });
        }
        let next_row = AtomicI64::new(opened.left.last_outbox_row.saturating_add(1));
        let remembered = Mutex::new(opened.left.remembered);
        let handle = Arc::new(Handle { queue, next_row, retention, remembered, full });
        Ok((Self { path, handle, trouble }, opened.left.restored, opened.left.pending))
    }

    /// Queues changes, to be committed together and in order; never blocks. The answer comes when they are on disk,
    /// or could not be written. A failed change is kept (up to a limit) and tried again with the next ones and each second.
    ///
    /// Roll-ups that wait are folded by minute and the oldest are dropped first; other changes are never dropped for
    /// them, but refused as [`StoreError::Overloaded`] when too many wait.
    pub fn write(&self, changes: Vec<Write>) -> oneshot::Receiver<Result<(), StoreError>> {
        let (answer, receiver) = oneshot::channel();
        self.handle.queue.push(changes, answer, &self.path);
        receiver
    }

    /// While it is `true`, for a drill, the disk seems full: nothing can be written, and all of it is kept and tried again.
    pub fn seems_full(&self) -> Arc<AtomicBool> {
        self.handle.full.clone()
    }

    /// A new outbox row number.
    pub fn next_outbox_row(&self) -> i64 {
        self.handle.next_row.fetch_add(1, Ordering::Relaxed)
    }

    /// What the outbox of earlier runs means for text messages; told once.
    pub fn remembered(&self) -> Remembered {
        std::mem::take(&mut *self.handle.remembered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A changed config; what is too old by it is removed within the hour.
    pub fn apply(&self, retention: Retention) {
        *self.handle.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention;
    }

    /// What is wrong with the record and what to do about it, for a person; `None` when it is well. Changes when that changes.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// Queries, on a connection of their own.
    pub fn reader(&self) -> Reader {
        Reader::new(self.path.clone())
    }

    /// Writes what is queued and closes. Blocks for at most ten seconds; what cannot be written by then is lost, and logged.
    pub fn close(self) {
        self.handle.full.store(false, Ordering::Relaxed);
        self.handle.queue.stop();
        if !self.handle.queue.wait_until_stopped(CLOSE_DEADLINE) {
            tracing::error!(path = %self.path.display(), "the record could not be closed in time");
        }
    }
}

/// What all clones of a [`Store`] share; its end is the writer's end.
#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    next_row: AtomicI64,
    retention: Arc<Mutex<Retention>>,
    remembered: Mutex<Remembered>,
    full: Arc<AtomicBool>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

/// The system's clock; used only where no input carries the time.
fn wall_now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
