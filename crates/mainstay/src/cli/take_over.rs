//! One Mainstay takes the place of another: what the old one does, and what the new one says to it.
//!
//! The new one is started with a socket as its standard input. It reads its config and says hello; then it is sent sockets and
//! state; when it serves it says so. Whatever goes wrong before that, the old one goes on.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::engine::{Estate, Inheritance, Left, Running};
use crate::handover::{Hello, Line, Ready, State};

/// The hidden option of `run` that makes it take over.
pub(super) const OPTION: &str = "--take-over";
/// To be started and to read a config.
const STARTS: Duration = Duration::from_secs(20);
/// To open the record and to serve.
const SERVES: Duration = Duration::from_secs(60);
/// A message on a machine that is busy.
const TAKES: Duration = Duration::from_secs(10);

/// The file that this program was started from. Asked for at the start: later it may have been replaced.
pub(super) fn own_binary() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// What came of handing over.
pub(super) struct Replaced {
    /// What is still to be done.
    pub(super) left: Left,
    /// The process that serves now.
    pub(super) by: u32,
    /// The way to it.
    pub(super) line: Arc<Line>,
}

/// Lets `binary` take over. What is left to do is returned when it serves.
///
/// # Errors
/// Why it does not, for a person; this Mainstay goes on as before then, and is given back.
pub(super) async fn hand_over(running: Running, binary: &Path) -> Result<Replaced, (Running, String)> {
    if let Err(why) = may_leave() {
        return Err((running, why));
    }
    let mut new = match New::start(binary) {
        Ok(new) => new,
        Err(error) => return Err((running, format!("{} cannot be started: {error}", binary.display()))),
    };
    let hello: Hello = match new.hear(STARTS).await {
        Ok(hello) => hello,
        Err(why) => return Err((running, why)),
    };
    info!(version = hello.version, pid = new.child.id(), "another Mainstay is about to take over");
    let estate = match running.freeze().await {
        Ok(estate) => estate,
        Err(why) => {
            new.end().await;
            return Err((running, why));
        }
    };
    let Estate { state, fds, .. } = &estate;
    let served = match new.tell(state, fds) {
        Ok(()) => new.hear::<Ready>(SERVES).await,
        Err(why) => Err(why),
    };
    match served {
        Ok(ready) => {
            notify(&format!("MAINPID={}", ready.pid));
            Ok(Replaced { left: running.leave(estate).await, by: ready.pid, line: new.line })
        }
        Err(why) => {
            new.end().await;
            running.thaw().await;
            Err((running, why))
        }
    }
}

/// Whoever waits for this process would take its end for the end of Mainstay.
fn may_leave() -> Result<(), String> {
    if std::process::id() == 1 {
        return Err(
            "it is the first process of its container, which would end with it; replace the container".into(),
        );
    }
    let under_systemd = std::env::var_os("INVOCATION_ID").is_some()
        && std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if under_systemd && std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Err("systemd would end the new one with this process: write Type=notify into the unit, \
                    `systemctl daemon-reload`, and restart it once"
            .into());
    }
    Ok(())
}

/// The one that is to take over, seen from the other.
struct New {
    child: Child,
    line: Arc<Line>,
    name: String,
}

impl New {
    fn start(binary: &Path) -> std::io::Result<Self> {
        let (line, theirs) = Line::pair()?;
        let arguments: Vec<OsString> = std::env::args_os().skip(1).filter(|word| word != OPTION).collect();
        let child = Command::new(binary).args(arguments).arg(OPTION).stdin(Stdio::from(theirs)).spawn()?;
        Ok(Self { child, line: Arc::new(line), name: binary.display().to_string() })
    }

    async fn hear<T: DeserializeOwned + Send + 'static>(&mut self, patience: Duration) -> Result<T, String> {
        let line = Arc::clone(&self.line);
        let heard = tokio::task::spawn_blocking(move || line.receive::<T>(patience)).await;
        match heard {
            Ok(Ok((message, _))) => Ok(message),
            Ok(Err(error)) => Err(self.explain(&error.to_string(), patience).await),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tell(&self, message: &impl Serialize, fds: &[std::os::fd::OwnedFd]) -> Result<(), String> {
        // It is reading, and the state is small: this does not block for long.
        self.line.send(message, fds, TAKES).map_err(|error| format!("{} does not listen: {error}", self.name))
    }

    /// Why nothing was heard of it: how it ended, if it did.
    async fn explain(&mut self, error: &str, patience: Duration) -> String {
        let end = Instant::now() + Duration::from_secs(1);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return format!("{} {}", self.name, ended(status)),
                Ok(None) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(None) | Err(_) => break,
            }
        }
        self.end().await;
        format!("{} was not ready within {} s ({error}), and was ended", self.name, patience.as_secs())
    }

    async fn end(&mut self) {
        let _ = self.child.kill();
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(2), _) => "did not start: its command line or the config has mistakes (mainstay check-config); its log says which".into(),
        (Some(code), _) => format!("ended with status {code}; its log says why"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    }
}

/// The one that takes over, as it sees the other.
#[derive(Debug)]
pub(super) struct Predecessor(Line);

impl Predecessor {
    /// # Errors
    /// When this process was not started by another Mainstay.
    pub(super) fn meet() -> anyhow::Result<Self> {
        let line = Line::from_stdin()
            .map_err(|_| anyhow::anyhow!("{OPTION} is for Mainstay itself; write `mainstay upgrade`"))?;
        Ok(Self(line))
    }

    /// The config is good. Waits for the sockets.
    ///
    /// # Errors
    /// When the other is gone.
    pub(super) fn inherit(&self) -> anyhow::Result<Inheritance> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.0.send(&Hello { version }, &[], TAKES)?;
        let (state, fds) = self.0.receive::<State>(SERVES)?;
        Ok(Inheritance::new(state, fds))
    }

    /// It serves; the other may go.
    /// What is said from then on goes over the line that is returned.
    pub(super) fn relieve(self) -> Line {
        if let Err(error) = self.0.send(&Ready { pid: std::process::id() }, &[], TAKES) {
            warn!(%error, "the Mainstay before is gone already");
        }
        self.0
    }
}

/// Tells systemd something, if it wants to know (sd_notify(3)).
pub(super) fn notify(what: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    let Some(path) = std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty()) else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| match path.strip_prefix('@') {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(what.as_bytes(), &address)
        }
        None => socket.send_to(what.as_bytes(), &path),
    });
    if let Err(error) = sent {
        warn!(%error, what, "systemd could not be told");
    }
}
