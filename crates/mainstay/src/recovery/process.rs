//! One process of a supervised server: in a session and group of its own, dead when Mainstay is dead.
//!
//! Linux ties "die with your parent" to the *thread* that forked, so each process has a thread that starts it, waits for
//! it and lives as long. The process is left unreaped until all of its group is gone: until then its id, which is also
//! the group's, cannot be given to a stranger whom a late signal would hit.
#![expect(unsafe_code, reason = "what a child does between fork and exec can only be set with pre_exec")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, PipeReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use mainstay_model::ServerId;
use mainstay_model::input::Exit;
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, killpg, signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid, getppid, setsid};
use tokio::sync::oneshot;

use super::held::{self, Holder};
use super::leftovers::{INSTANCE_VARIABLE, SERVER_VARIABLE};
use crate::config::CommandSpec;

/// A started process and its group. Dropped, it is killed with its group.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    ended: oneshot::Receiver<()>,
    has_ended: bool,
    /// Dropped when it may be reaped.
    reap: Option<oneshot::Sender<Infallible>>,
    exit: oneshot::Receiver<Exit>,
    /// Its parent, if that is another Mainstay.
    holder: Option<Arc<Holder>>,
}

impl Process {
    /// Starts the program of `spec` with `port`, without the `withheld` variables that it does not set itself. Returns once it runs, with what it writes.
    ///
    /// # Errors
    /// When there is no such program, it may not be run, or the system has no process, thread or pipe left.
    pub(super) async fn start(
        server: &ServerId,
        spec: &CommandSpec,
        port: u16,
        instance: &str,
        withheld: &BTreeSet<String>,
    ) -> io::Result<(Self, PipeReader)> {
        let (output, input) = io::pipe()?;
        let command = command(server, spec, port, (instance, withheld), input)?;
        Ok((Self::spawn(format!("server {server}"), command).await?, output))
    }

    /// Runs a program that is to end by itself, with something to read and without the `withheld` variables. Returns once
    /// it runs, with what it writes.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(super) async fn run(
        mark: &ServerId,
        (argv, dir): (&[String], &Path),
        stdin: PipeReader,
        instance: &str,
        withheld: &BTreeSet<String>,
    ) -> io::Result<(Self, PipeReader)> {
        let (output, input) = io::pipe()?;
        let (program, arguments) =
            argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir).stdin(stdin);
        dress(&mut command, mark, (instance, withheld), input)?;
        Ok((Self::spawn(format!("program {}", mark.service), command).await?, output))
    }

    async fn spawn(thread: String, command: Command) -> io::Result<Self> {
        let (started_tx, started) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        let (reap, reap_rx) = oneshot::channel();
        let (exit_tx, exit) = oneshot::channel();
        std::thread::Builder::new().name(thread).spawn(move || {
            watch(command, started_tx, ended_tx, reap_rx, exit_tx);
        })?;
        let pid =
            started.await.map_err(|_| io::Error::other("the thread that was to start it is gone"))??;
        Ok(Self { pid, ended, has_ended: false, reap: Some(reap), exit, holder: None })
    }

    /// One whose parent is another Mainstay. Must be called inside a runtime.
    pub(super) fn held(pid: Pid, holder: Arc<Holder>) -> Self {
        let (ended_tx, ended) = oneshot::channel();
        let (reap, reap_rx) = oneshot::channel();
        let (exit_tx, exit) = oneshot::channel();
        tokio::spawn(held::watch(pid, Arc::clone(&holder), ended_tx, reap_rx, exit_tx));
        Self { pid, ended, has_ended: false, reap: Some(reap), exit, holder: Some(holder) }
    }

    /// Its parent, if that is another Mainstay.
    pub(super) fn holder(&self) -> Option<&Arc<Holder>> {
        self.holder.as_ref()
    }

    /// It goes on when this is dropped: somebody else looks after it now.
    pub(super) fn let_go(mut self) {
        // Whoever waits for it is never told that it may be reaped; it ends with this Mainstay.
        std::mem::forget(self.reap.take());
    }

    /// Its process id, also that of its group.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has ended; others of its group may live on. May be dropped and called again.
    pub(super) async fn ended(&mut self) {
        if !self.has_ended {
            // An error means that the thread is gone, which it is only after the end.
            let _ = (&mut self.ended).await;
            self.has_ended = true;
        }
    }

    /// Sends all of its group a signal.
    pub(super) fn signal_group(&self, signal: Signal) {
        // An error means that there is nobody left.
        let _ = killpg(self.pid, signal);
    }

    /// Kills it, and nobody else of its group.
    pub(super) fn kill(&self) {
        // An error means that it has ended.
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Takes note how it ended, after it did and nobody of its group is left.
    pub(super) async fn reap(mut self) -> Exit {
        self.reap = None;
        (&mut self.exit).await.unwrap_or(Exit::Code(-1))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let is_ours = self.holder.as_ref().is_none_or(|holder| holder.answers());
        if self.reap.is_some() && is_ours {
            self.signal_group(Signal::SIGKILL);
        }
    }
}

fn command(
    server: &ServerId,
    spec: &CommandSpec,
    port: u16,
    (instance, withheld): (&str, &BTreeSet<String>),
    output: io::PipeWriter,
) -> io::Result<Command> {
    let port = port.to_string();
    let mut argv = spec.argv.iter().map(|argument| argument.replace("{port}", &port));
    let program = argv.next().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut command = Command::new(program);
    command.args(argv).stdin(Stdio::null());
    if let Some(dir) = &spec.dir {
        command.current_dir(dir);
    }
    dress(&mut command, server, (instance, withheld), output)?;
    command.envs(&spec.env).env("PORT", port);
    Ok(command)
}

/// What every process of ours gets: its marks, its own session, its output to us, and none of our secrets.
fn dress(
    command: &mut Command,
    server: &ServerId,
    (instance, withheld): (&str, &BTreeSet<String>),
    output: io::PipeWriter,
) -> io::Result<()> {
    for name in withheld {
        command.env_remove(name);
    }
    command
        .env(INSTANCE_VARIABLE, instance)
        .env(SERVER_VARIABLE, server.to_string())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mainstay = getpid();
    // SAFETY: between fork and exec only async-signal-safe system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(move || in_the_child(mainstay)) };
    Ok(())
}

/// Runs in the child, before the program: only what is async-signal-safe.
fn in_the_child(mainstay: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != mainstay {
        // Mainstay died before the line above: nobody would ever end this process.
        return Err(Errno::ESRCH.into());
    }
    setsid()?;
    // What Mainstay was started with ignored or blocked (nohup does) is not the servers' concern.
    for any in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: it installs no handler, and the child has none of its own yet.
        unsafe { signal(any, SigHandler::SigDfl) }?;
    }
    SigSet::empty().thread_set_mask()?;
    // Our own files close on exec; those that Mainstay was started with might not, and a listener among them would keep
    // its port taken after Mainstay. Best effort: Linux before 5.11 cannot, and is no worse off than without.
    // SAFETY: it only marks descriptors, and the child has no other thread that could use them.
    let _ = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    Ok(())
}

/// The life of a process' thread.
fn watch(
    mut command: Command,
    started: oneshot::Sender<io::Result<Pid>>,
    ended: oneshot::Sender<()>,
    reap: oneshot::Receiver<Infallible>,
    exit: oneshot::Sender<Exit>,
) {
    let spawned = command.spawn();
    // Our own writing ends of the pipe go with it, so that the pipe ends with the process.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let pid = Pid::from_raw(child.id().cast_signed());
    if started.send(Ok(pid)).is_err() {
        // Whoever wanted it is gone.
        let _ = killpg(pid, Signal::SIGKILL);
    }
    wait_unreaped(pid);
    let _ = ended.send(());
    // Nothing is ever sent: the sender is dropped when the group is gone.
    let _ = reap.blocking_recv();
    let _ = exit.send(reap_child(&mut child));
}

fn wait_unreaped(pid: Pid) {
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
}

fn reap_child(child: &mut Child) -> Exit {
    match child.wait() {
        Ok(status) => exit_of(status),
        Err(error) => {
            tracing::warn!(%error, "how a server's process ended could not be read");
            Exit::Code(-1)
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match status.signal() {
        Some(signal) => Exit::Signal(signal),
        None => Exit::Code(status.code().unwrap_or(-1)),
    }
}
