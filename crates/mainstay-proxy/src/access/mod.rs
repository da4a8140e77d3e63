//! The access log: a line for each request, also for those that were refused, and for each TCP session.
//!
//! Traffic never waits for it. A worker writes lines into a batch of its own and hands batches over to one thread that
//! writes them; what that thread cannot keep up with is left out and counted. When the file cannot be written (the disk
//! is full) the thread keeps what it has, tries again each second, and says so once.

mod format;
mod line;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::watch;

pub use format::{Format, FormatError};
pub(crate) use line::{Clock, Line, Second};

/// Batches that may wait; a quiet worker hands one over ten times a second.
const BATCHES_WAITING_MAX: usize = 1024;
/// Bytes that may wait, over all workers: half a second of 100,000 requests/s.
const BYTES_WAITING_MAX: usize = 16 << 20;
/// A worker hands its batch over when it is this long (nginx's usual buffer), or when it is time to.
const BATCH: usize = 64 * 1024;
/// Empty batches that are kept for the next lines.
const SPARE_MAX: usize = 16;
/// Between two attempts at a file that cannot be written.
const AGAIN: Duration = Duration::from_secs(1);
/// A standard output that takes nothing at the moment is asked again after this.
const BUSY: Duration = Duration::from_millis(10);
/// When the data plane ends, what waits has so long to be written.
const CLOSE: Duration = Duration::from_secs(2);
/// The log speaks of lines that were left out once in so many.
const DROPS_PER_WARNING: u64 = 10_000;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Appended to a file, which is made if it is not there.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::File(path) => path.display().fmt(f),
            Destination::Stdout => f.write_str("stdout"),
        }
    }
}

/// An access log that is being written. Dropped, it writes what waits and ends by itself.
#[derive(Debug)]
pub struct AccessLog {
    destination: Destination,
    format: Format,
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
    writer: Thread,
    trouble: watch::Receiver<Option<String>>,
}

/// What became of the lines so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccessCounts {
    /// Written.
    pub written: u64,
    /// Left out because the file or the reader of standard output did not keep up.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    bytes_waiting: AtomicUsize,
    /// The file is to be opened again.
    reopen: AtomicBool,
    /// What waits is written once more at most.
    closing: AtomicBool,
    spare: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug)]
enum Message {
    Batch(Batch),
    /// A flag was set.
    Look,
}

/// Whole lines of one worker.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    text: Vec<u8>,
    lines: u64,
}

impl AccessLog {
    /// Opens the file and starts the thread that writes it.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn open(destination: Destination, format: Format) -> io::Result<Arc<Self>> {
        let file = open(&destination)?;
        let (messages, inbox) = sync_channel(BATCHES_WAITING_MAX);
        let (say, trouble) = watch::channel(None);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            destination: destination.clone(),
            file: Some(file),
            mid_line: false,
            shared: Arc::clone(&shared),
            trouble: say,
        };
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        let writer = thread.spawn(move || writer.run(&inbox))?.thread().clone();
        Ok(Arc::new(Self { destination, format, messages, shared, writer, trouble }))
    }

    /// Where lines go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// How they look.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Opens the file again under its name, as whoever rotates it asks for.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.look();
    }

    /// What became of the lines so far.
    pub fn counts(&self) -> AccessCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AccessCounts { written: load(&self.shared.written), dropped: load(&self.shared.dropped) }
    }

    /// Why it cannot be written at the moment, in one sentence without a full stop; `None`: it can. The channel closes
    /// when the log has ended.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// Writes what waits, and waits for that, but no longer than is decent.
    pub(crate) async fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.look();
        let mut trouble = self.trouble.clone();
        let ended = async { while trouble.changed().await.is_ok() {} };
        if tokio::time::timeout(CLOSE, ended).await.is_err() {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
    }

    /// Adds a line to a worker's batch, and hands the batch over when it is long enough.
    pub(crate) fn add(&self, line: &Line<'_>, batch: &mut Batch) {
        self.format.write(line, &mut batch.text);
        batch.lines += 1;
        if batch.text.len() >= BATCH {
            self.hand_over(batch);
        }
    }

    /// Hands a batch over to be written; its lines are left out when too much waits already.
    pub(crate) fn hand_over(&self, batch: &mut Batch) {
        if batch.lines == 0 {
            return;
        }
        let (length, lines) = (batch.text.len(), batch.lines);
        let fits = self.shared.bytes_waiting.fetch_add(length, Ordering::Relaxed) < BYTES_WAITING_MAX;
        if fits {
            let spare = self.shared.spare().pop().unwrap_or_default();
            let full = std::mem::replace(batch, Batch { text: spare, lines: 0 });
            match self.messages.try_send(Message::Batch(full)) {
                Ok(()) => return,
                Err(refused) => drop(refused),
            }
        }
        self.shared.bytes_waiting.fetch_sub(length, Ordering::Relaxed);
        batch.text.clear();
        batch.lines = 0;
        let before = self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        if before == 0 || before / DROPS_PER_WARNING != (before + lines) / DROPS_PER_WARNING {
            let (dropped, to) = (before + lines, &self.destination);
            tracing::warn!(dropped, %to, "lines of the access log are left out: it is not written fast enough");
        }
    }

    fn look(&self) {
        // A full queue has the writer's attention anyway, unless it sleeps over a file that cannot be written.
        let _ = self.messages.try_send(Message::Look);
        self.writer.unpark();
    }
}

impl Drop for AccessLog {
    /// Nobody waits for it now; but it must not sleep for ever over a disk that stays full.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.look();
    }
}

impl Shared {
    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // Empty buffers are empty whatever thread panicked.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(destination: &Destination) -> io::Result<File> {
    match destination {
        Destination::File(path) => OpenOptions::new().append(true).create(true).open(path),
        Destination::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
    }
}

/// The thread that writes.
struct Writer {
    destination: Destination,
    /// `None`: it could not be opened again.
    file: Option<File>,
    /// An error came in the middle of a line.
    mid_line: bool,
    shared: Arc<Shared>,
    trouble: watch::Sender<Option<String>>,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            // Without a sender, or when it is closing, what waits is the last.
            let message = match self.is_closing() {
                true => inbox.try_recv().ok(),
                false => inbox.recv().ok(),
            };
            self.heed_reopen();
            match message {
                Some(Message::Batch(batch)) => self.write(batch),
                Some(Message::Look) => {}
                None => return,
            }
        }
    }

    fn write(&mut self, mut batch: Batch) {
        let mut at = 0;
        while let Err(error) = self.try_write(&batch.text, &mut at) {
            self.say(Some(&error));
            if self.is_closing() {
                self.shared.dropped.fetch_add(batch.lines, Ordering::Relaxed);
                self.shared.bytes_waiting.fetch_sub(batch.text.len(), Ordering::Relaxed);
                return;
            }
            std::thread::park_timeout(AGAIN);
            self.heed_reopen();
        }
        self.say(None);
        self.shared.written.fetch_add(batch.lines, Ordering::Relaxed);
        self.shared.bytes_waiting.fetch_sub(batch.text.len(), Ordering::Relaxed);
        batch.text.clear();
        let mut spare = self.shared.spare();
        if spare.len() < SPARE_MAX {
            spare.push(batch.text);
        }
    }

    /// Writes what is left from `at` on.
    fn try_write(&mut self, text: &[u8], at: &mut usize) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(open(&self.destination)?);
        }
        while *at < text.len() {
            let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
            match file.write(&text[*at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => *at += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_closing() => {
                    std::thread::sleep(BUSY);
                }
                Err(error) => {
                    self.mid_line = *at > 0 && text[*at - 1] != b'\n';
                    return Err(error);
                }
            }
        }
        self.mid_line = false;
        Ok(())
    }

    /// Opens the file again if somebody asked for it; a line is never split between two files.
    fn heed_reopen(&mut self) {
        if self.mid_line || !self.shared.reopen.swap(false, Ordering::AcqRel) {
            return;
        }
        match open(&self.destination) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                // Lines would go to a file that has been moved away, where nobody looks for them.
                self.file = None;
                self.say(Some(&error));
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    /// Says that it cannot be written, or can again; the same twice is said once.
    fn say(&self, error: Option<&io::Error>) {
        if error.is_none() && self.trouble.borrow().is_none() {
            return;
        }
        let text = error.map(|error| explain(&self.destination, error));
        let changed = self.trouble.send_if_modified(|said| {
            let differs = *said != text;
            said.clone_from(&text);
            differs
        });
        match text {
            Some(text) if changed => tracing::error!("{text}"),
            None if changed => tracing::info!(to = %self.destination, "the access log is written again"),
            _ => {}
        }
    }
}

fn explain(destination: &Destination, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::PermissionDenied => "let Mainstay's user write there",
        io::ErrorKind::NotFound => "make its folder again",
        io::ErrorKind::BrokenPipe => "whoever read it has gone: log to a file, or restart Mainstay",
        _ => "look at the disk",
    };
    let kept = BYTES_WAITING_MAX >> 20;
    format!(
        "the access log cannot be written to {destination} ({error}); {remedy}: up to {kept} MiB of lines wait meanwhile, further ones are left out and counted"
    )
}

/// Whether a path can be an access log at all, before it is opened: what is wrong with it.
///
/// # Errors
/// In a few words, for a mistake in a config.
pub fn check_path(path: &Path) -> Result<(), &'static str> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err("a folder, not a file"),
        _ if path.parent().is_some_and(|folder| !folder.is_dir()) => Err("its folder is not there"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
