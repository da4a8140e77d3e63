//! What supervised servers write: to a bounded file each, and the last lines in memory.
//!
//! A server that floods its output meets a paced reader; a disk that is slow or full costs the file's lines, never the
//! server's or Mainstay's time, because one thread of its own does all the writing.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::ServerId;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// A file that would grow beyond this is renamed to `….1`, over the one before.
const FILE_MAX: u64 = 1024 * 1024;
/// Lines kept in memory for each server.
const LINES_MAX: usize = 200;
/// Bytes of a line kept in memory.
const LINE_MAX: usize = 4096;
/// One read of a server's output.
const CHUNK: usize = 16 * 1024;
/// Chunks of all servers that may wait for the disk; beyond it they are dropped.
const WAITING_MAX: usize = 128;
/// When Mainstay stops, the disk has so long to take the rest.
const FLUSH_TAKES: Duration = Duration::from_secs(1);
/// A server's output is read at no more than `PACE_BYTES` in `PACE_TIME`: 8 MiB a second.
const PACE_BYTES: usize = 400 * 1024;
const PACE_TIME: Duration = Duration::from_millis(50);

/// The log files of all servers.
#[derive(Debug)]
pub(super) struct Logs {
    folder: PathBuf,
    waiting: SyncSender<Job>,
}

/// What the writing thread is given.
enum Job {
    Write(Arc<Path>, Vec<u8>),
    /// Answered when everything before it was written.
    Flush(oneshot::Sender<()>),
}

impl Logs {
    /// Writes to `folder`, which exists.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(folder: PathBuf) -> io::Result<Self> {
        let (waiting, jobs) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("server-logs".into()).spawn(move || write_all(&jobs))?;
        Ok(Self { folder, waiting })
    }

    /// The file of a server: `shop--app-1.log`.
    pub(super) fn file(&self, server: &ServerId) -> Arc<Path> {
        let name = format!("{}--{}.log", plain(server.service.as_str()), plain(&server.name));
        self.folder.join(name).into()
    }

    /// A line of Mainstay's own in a server's log, with the time.
    pub(super) fn note(&self, file: &Arc<Path>, text: &str) {
        let now = jiff::Timestamp::now();
        self.write(file, format!("--- {now:.3} mainstay: {text}\n").into_bytes());
    }

    /// Waits until what was written so far is in the files, if the disk takes it soon.
    pub(super) async fn flush(&self) {
        let give_up = Instant::now() + FLUSH_TAKES;
        let (written_tx, written) = oneshot::channel();
        let mut job = Job::Flush(written_tx);
        while let Err(TrySendError::Full(again)) = self.waiting.try_send(job) {
            if Instant::now() >= give_up {
                return;
            }
            job = again;
            sleep(Duration::from_millis(5)).await;
        }
        let _ = timeout_at(give_up, written).await;
    }

    fn write(&self, file: &Arc<Path>, bytes: Vec<u8>) {
        if self.waiting.try_send(Job::Write(Arc::clone(file), bytes)).is_err() {
            tracing::debug!(file = %file.display(), "the disk is too slow for a server's log: some lines are left out");
        }
    }
}

/// The last lines of one server, over all its restarts.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    unfinished: Vec<u8>,
    is_cut: bool,
    of_this_process: usize,
}

impl Tail {
    /// A new process begins to write.
    pub(super) fn begin(&mut self) {
        self.end_line();
        self.of_this_process = 0;
    }

    /// One that another Mainstay began.
    pub(super) fn of(lines: Vec<String>) -> Self {
        let of_this_process = lines.len();
        let mut tail = Self { lines: lines.into(), of_this_process, ..Self::default() };
        let too_many = tail.lines.len().saturating_sub(LINES_MAX);
        tail.lines.drain(..too_many);
        tail
    }

    /// The last lines of the server, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.last(LINES_MAX)
    }

    /// At most `n` last lines of its present or last process, oldest first.
    pub(super) fn lines_of_process(&self, n: usize) -> Vec<String> {
        let unfinished = usize::from(!self.unfinished.is_empty());
        self.last((self.of_this_process + unfinished).min(n))
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.push_part(&bytes[..end]);
            if self.unfinished.is_empty() {
                self.push_line(String::new());
            }
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.push_part(bytes);
    }

    fn push_part(&mut self, part: &[u8]) {
        let room = LINE_MAX - self.unfinished.len();
        self.is_cut |= part.len() > room;
        self.unfinished.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        if !self.unfinished.is_empty() {
            let line = readable(&self.unfinished, self.is_cut);
            self.unfinished.clear();
            self.push_line(line);
        }
        self.is_cut = false;
    }

    fn push_line(&mut self, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        self.of_this_process = (self.of_this_process + 1).min(LINES_MAX);
    }

    fn last(&self, n: usize) -> Vec<String> {
        let unfinished = (!self.unfinished.is_empty()).then(|| readable(&self.unfinished, self.is_cut));
        let from = (self.lines.len() + usize::from(unfinished.is_some())).saturating_sub(n);
        self.lines.iter().cloned().chain(unfinished).skip(from).collect()
    }
}

/// Reads a process' output into its tail and file until its last holder closes it, or the task is aborted.
///
/// # Errors
/// When the pipe cannot be watched.
pub(super) fn follow(
    output: PipeReader,
    tail: Arc<Mutex<Tail>>,
    logs: Arc<Logs>,
    file: Arc<Path>,
) -> io::Result<JoinHandle<()>> {
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
    Ok(tokio::spawn(async move {
        let mut chunk = vec![0; CHUNK];
        let (mut began, mut read_since) = (Instant::now(), 0);
        loop {
            let bytes = match output.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => &chunk[..n],
            };
            tail.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            logs.write(&file, bytes.to_vec());
            if began.elapsed() >= PACE_TIME {
                (began, read_since) = (Instant::now(), 0);
            }
            read_since += bytes.len();
            if read_since >= PACE_BYTES {
                sleep_until(began + PACE_TIME).await;
            }
        }
    }))
}

/// A line for people: text, without colours and other control characters.
fn readable(bytes: &[u8], is_cut: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            // A control sequence of ECMA-48 ends with a byte from @ to ~.
            chars.next();
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    if is_cut {
        out.push('…');
    }
    out
}

/// A name that is safe as part of a file's.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect()
}

/// An open log file.
struct LogFile {
    file: File,
    size: u64,
}

fn write_all(jobs: &Receiver<Job>) {
    let mut files: BTreeMap<Arc<Path>, LogFile> = BTreeMap::new();
    let mut is_failing = false;
    while let Ok(job) = jobs.recv() {
        let (path, bytes) = match job {
            Job::Write(path, bytes) => (path, bytes),
            Job::Flush(written) => {
                let _ = written.send(());
                continue;
            }
        };
        match append(&mut files, &path, &bytes) {
            Ok(()) => is_failing = false,
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(file = %path.display(), %error, "a server's log cannot be written");
                }
            }
        }
    }
}

fn append(files: &mut BTreeMap<Arc<Path>, LogFile>, path: &Arc<Path>, bytes: &[u8]) -> io::Result<()> {
    let mut log = match files.remove(path) {
        Some(log) => log,
        None => LogFile::open(path)?,
    };
    if log.size > 0 && log.size + bytes.len() as u64 > FILE_MAX {
        std::fs::rename(path, path.with_extension("log.1"))?;
        log = LogFile::open(path)?;
    }
    log.file.write_all(bytes)?;
    log.size += bytes.len() as u64;
    files.insert(Arc::clone(path), log);
    Ok(())
}

impl LogFile {
    /// Only the owner may read it: servers write secrets now and then.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::ServiceId;

    use super::*;

    fn tail_of(chunks: &[&[u8]]) -> Tail {
        let mut tail = Tail::default();
        for chunk in chunks {
            tail.push(chunk);
        }
        tail
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let tail = tail_of(&[b"one\ntw", b"o\n\nth", b"ree"]);
        assert_eq!(tail.lines(), ["one", "two", "", "three"]);
        assert_eq!(tail.lines_of_process(2), ["", "three"]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_not() {
        let mut tail = Tail::default();
        for _ in 0..10 {
            tail.push(&[b'a'; 1000]);
        }
        tail.push(b"\nnext\n");
        let lines = tail.lines();
        assert_eq!(lines[0].len(), LINE_MAX + "…".len());
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut tail = Tail::default();
        for n in 0..1000 {
            tail.push(format!("{n}\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines.last().map(String::as_str), Some("999"));
        assert_eq!(tail.lines_of_process(3), ["997", "998", "999"]);
    }

    #[test]
    fn lines_of_an_earlier_process_are_told_apart() {
        let mut tail = tail_of(&[b"old\nunfinished"]);
        tail.begin();
        assert!(tail.lines_of_process(20).is_empty());
        tail.push(b"new\n");
        assert_eq!(tail.lines_of_process(20), ["new"]);
        assert_eq!(tail.lines(), ["old", "unfinished", "new"]);
    }

    #[test]
    fn colours_control_characters_and_broken_text_are_made_readable() {
        let tail = tail_of(&[b"\x1b[1;31mred\x1b[0m \xff\x07\tx\r\n\x1b["]);
        assert_eq!(tail.lines(), ["red \u{fffd}\tx", ""]);
    }

    #[test]
    fn a_file_is_turned_over_before_it_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("shop--app-1.log").into();
        let mut files = BTreeMap::new();
        for _ in 0..40 {
            append(&mut files, &path, &[b'x'; 64 * 1024]).unwrap();
        }
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("shop--app-1.log") <= FILE_MAX);
        assert_eq!(size("shop--app-1.log.1"), FILE_MAX);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("gone");
        let path: Arc<Path> = missing.join("a.log").into();
        let mut files = BTreeMap::new();
        assert!(append(&mut files, &path, b"x").is_err());
        std::fs::create_dir(&missing).unwrap();
        append(&mut files, &path, b"x").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_files_name_never_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::start(folder.path().to_owned()).unwrap();
        let file = logs.file(&ServiceId::new("../shop").server("a/b"));
        assert_eq!(&*file, folder.path().join(".._shop--a_b.log"));
    }
}
