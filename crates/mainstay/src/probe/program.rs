//! Runs a program for a probe: without a shell, in a process group of its own, with nothing of Mainstay's secrets; what it writes
//! is read up to a limit, and at the deadline it is killed with all that it started.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mainstay_model::Endpoint;
use mainstay_model::input::ProbeFailure;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::Look;

/// Programs of probes that run at once. A process costs far more than a connection.
static AT_ONCE: Semaphore = Semaphore::const_new(64);
/// So much of what it writes is kept, on each of its two ways; Nagios reads 8 KiB.
const KEPT_MAX: usize = 16 * 1024;
/// What was started by it may hold its output open; its last words are waited for no longer than this.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What is run.
#[derive(Debug)]
pub(super) struct Program<'p> {
    /// The program and its arguments.
    pub(super) argv: Vec<String>,
    /// The working directory.
    pub(super) dir: &'p Path,
    /// Variables that are added to Mainstay's own environment.
    pub(super) env: BTreeMap<String, String>,
    /// Variables of Mainstay's own environment that it does not get.
    pub(super) withheld: &'p BTreeSet<String>,
}

/// How it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// `None`: by a signal.
    pub(super) code: Option<i32>,
    /// By which.
    pub(super) signal: Option<i32>,
    /// What it wrote.
    pub(super) output: String,
    /// What it complained of.
    pub(super) errors: String,
}

impl Program<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It does not end by the deadline, or it could not be run, which says nothing about the server.
    pub(super) async fn run(&self, look: &Look<'_>) -> Result<Ended, ProbeFailure> {
        let program = self.argv.first().map_or("", String::as_str);
        let Ok(Ok(_slot)) = timeout_at(look.deadline, AT_ONCE.acquire()).await else {
            return Err(ProbeFailure::NotProbed("too many programs of probes run at once".to_owned()));
        };
        let child = self.command(program).spawn().map_err(|error| not_run(program, &error))?;
        let mut running = Running::new(child);
        let ended = timeout_at(look.deadline, running.wait_to_the_end()).await;
        running.end_the_others();
        match ended {
            Ok(ended) => ended.map_err(|error| not_run(program, &error)),
            Err(_) => {
                let timeout = look.deadline.saturating_duration_since(look.begun);
                let what = format!("{program} did not end within {} ms and was killed", timeout.as_millis());
                Err(ProbeFailure::Silent(what))
            }
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.argv.iter().skip(1)).current_dir(self.dir).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in self.withheld {
            command.env_remove(name);
        }
        command.envs(&self.env);
        command
    }
}

fn not_run(program: &str, error: &io::Error) -> ProbeFailure {
    ProbeFailure::NotProbed(format!("cannot run {program}: {error}"))
}

/// A started program. Dropped, it is killed with its group.
struct Running {
    child: Child,
    /// Its process id, also that of its group.
    pid: Option<Pid>,
    /// Nobody of its group has the output open any more.
    alone: bool,
}

impl Running {
    fn new(child: Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        Self { child, pid, alone: false }
    }

    async fn wait_to_the_end(&mut self) -> io::Result<Ended> {
        let (Some(mut output), Some(mut errors)) = (self.child.stdout.take(), self.child.stderr.take())
        else {
            return Err(io::Error::other("its output cannot be read"));
        };
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let status = {
            let reading = async {
                tokio::join!(read(&mut output, &mut said), read(&mut errors, &mut complained));
            };
            tokio::pin!(reading);
            let mut read_all = false;
            let status = loop {
                tokio::select! {
                    () = &mut reading, if !read_all => read_all = true,
                    status = self.child.wait() => break status?,
                }
            };
            self.alone = read_all || timeout(LAST_WORDS, reading).await.is_ok();
            status
        };
        Ok(Ended {
            code: status.code(),
            signal: status.signal(),
            output: String::from_utf8_lossy(&said).into_owned(),
            errors: String::from_utf8_lossy(&complained).into_owned(),
        })
    }

    /// Kills what is left of its group. While it was not waited for, or others of its group live, its id is not given to a
    /// stranger.
    fn end_the_others(&mut self) {
        let Some(pid) = self.pid.take() else { return };
        let reaped = self.child.id().is_none();
        if !reaped || !self.alone {
            // An error means that there is nobody left.
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_the_others();
    }
}

/// Reads to the end and keeps the beginning. An error is an end, too.
async fn read(from: &mut (impl AsyncRead + Unpin), kept: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read.min(KEPT_MAX - kept.len())]);
    }
}

/// Puts what is known of whom the probe looks at in place of `{address}`, `{host}`, `{port}`, `{service}` and `{server}`.
pub(super) fn filled(text: &str, look: &Look<'_>) -> String {
    let known = known(look);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let found = known.iter().find_map(|(name, value)| {
            let after = rest.get(1..)?.strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        match found {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

/// What is known of whom the probe looks at, by its names.
pub(super) fn known(look: &Look<'_>) -> [(&'static str, String); 5] {
    let (host, port) = match look.address {
        Endpoint::Tcp(address) => (address.ip().to_string(), address.port().to_string()),
        Endpoint::Unix(path) => (path.to_string(), String::new()),
    };
    [
        ("address", look.address.to_string()),
        ("host", host),
        ("port", port),
        ("service", look.whom.service.to_owned()),
        ("server", look.whom.name.to_owned()),
    ]
}
