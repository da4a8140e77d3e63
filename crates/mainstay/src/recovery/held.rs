//! Supervised processes that outlive the Mainstay that started them, because another one has taken its place.
//!
//! Only a parent learns how a process ended, and the kernel ends it with its parent. So the Mainstay that goes stays as the
//! parent of what it has started, and does nothing else; whoever goes on asks it to reap what has ended. When nobody is left to
//! ask, it ends, and the processes with it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_model::input::Exit;
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use super::process::Process;

/// A holder reaps what has ended in no time.
const REAP_TAKES: Duration = Duration::from_secs(5);
/// Between two tries to watch a process.
const AGAIN: Duration = Duration::from_millis(200);
/// An answer is a line of a few bytes.
const LINE_MAX: u64 = 256;
/// How a process ended that ended with its holder.
const KILLED: Exit = Exit::Signal(9);

/// The way to the Mainstay that is the parent of processes.
#[derive(Debug)]
pub(super) struct Holder {
    /// A copy, to be handed on.
    fd: OwnedFd,
    line: Mutex<BufReader<UnixStream>>,
    /// This Mainstay looks after the processes now. Until then it may fail, and the other one goes on with them.
    answers: AtomicBool,
}

impl Holder {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let stream = StdStream::from(fd.try_clone()?);
        stream.set_nonblocking(true)?;
        let line = Mutex::new(BufReader::new(UnixStream::from_std(stream)?));
        Ok(Self { fd, line, answers: AtomicBool::new(false) })
    }

    /// From now on this Mainstay looks after the processes.
    pub(super) fn answer(&self) {
        self.answers.store(true, Ordering::Release);
    }

    /// Whether it does.
    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Acquire)
    }

    /// A copy of the way.
    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    async fn reap(&self, pid: Pid) -> Exit {
        let mut line = self.line.lock().await;
        let asked = async {
            line.get_mut().write_all(format!("{pid}\n").as_bytes()).await?;
            let mut answer = String::new();
            (&mut *line).take(LINE_MAX).read_line(&mut answer).await?;
            serde_json::from_str::<Exit>(&answer).map_err(io::Error::other)
        };
        match timeout(REAP_TAKES, asked).await {
            Ok(Ok(exit)) => exit,
            // It is gone, and what it held was killed with it.
            Ok(Err(_)) | Err(_) => KILLED,
        }
    }
}

/// The life of a process that somebody else is the parent of.
pub(super) async fn watch(
    pid: Pid,
    holder: Arc<Holder>,
    ended: oneshot::Sender<()>,
    reap: oneshot::Receiver<Infallible>,
    exit: oneshot::Sender<Exit>,
) {
    has_ended(pid).await;
    let _ = ended.send(());
    let _ = reap.await;
    let _ = exit.send(holder.reap(pid).await);
}

async fn has_ended(pid: Pid) {
    loop {
        match pidfd(pid) {
            Ok(process) => {
                // Readable when it has ended.
                let _ = process.readable().await;
                return;
            }
            // Its holder is gone and it with it.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return,
            // No descriptor is left, which says nothing about it.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

#[expect(unsafe_code, reason = "neither std nor nix wraps pidfd_open")]
fn pidfd(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the call takes two numbers and gives a new descriptor or -1.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let raw = i32::try_from(raw).ok().filter(|raw| *raw >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: it owns its descriptor, which stays open and the same until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(|error| io::Error::other(error.to_string()))
}

/// Processes of a Mainstay that goes, and whoever asks for them.
#[derive(Debug)]
pub struct Held {
    pub(super) processes: BTreeMap<i32, Process>,
    pub(super) line: StdStream,
}

impl Held {
    /// Stays their parent until all have ended and were asked for, or nobody is left to ask: then they are killed.
    pub async fn hold(mut self) {
        if self.processes.is_empty() || self.line.set_nonblocking(true).is_err() {
            return;
        }
        let Ok(line) = UnixStream::from_std(self.line) else { return };
        let mut line = BufReader::new(line);
        while !self.processes.is_empty() {
            let mut asked = String::new();
            match (&mut line).take(LINE_MAX).read_line(&mut asked).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let process = asked.trim().parse().ok().and_then(|pid: i32| self.processes.remove(&pid));
            let exit = match process {
                Some(mut process) => {
                    process.ended().await;
                    process.reap().await
                }
                None => KILLED,
            };
            let answer = serde_json::to_string(&exit).unwrap_or_default();
            if line.get_mut().write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.processes.len()
    }
}
