//! Runs a program that is to end by itself: with what is known as JSON on its standard input, its last lines kept, and killed
//! with all that it started at its deadline.

use std::fmt;
use std::io::{self, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_model::ServerId;
use mainstay_model::input::Exit;
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::leftovers::{Family, KILL_TAKES, StillThere};
use super::log::{Tail, follow};
use super::process::Process;

/// Its last words are waited for so long after it ended.
const LAST_WORDS_TAKE: Duration = Duration::from_millis(250);
/// Runs that are remembered because of what they left running.
const LEFT_MAX: usize = 1000;
/// What is written before it runs fits into every pipe.
const CONTEXT_MAX: usize = 32 * 1024;

/// One run.
pub(super) struct Program {
    /// Marks all that it starts; another one for each run.
    pub(super) mark: ServerId,
    /// Whose log gets what it writes.
    pub(super) log: ServerId,
    /// For the log.
    pub(super) wanted_by: String,
    /// The program and its arguments. Not empty.
    pub(super) argv: Vec<String>,
    /// Its working directory.
    pub(super) dir: PathBuf,
    /// What it reads.
    pub(super) context: Vec<u8>,
    /// It is killed after so long.
    pub(super) deadline: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Exit(Exit),
    /// Killed at its deadline, which was this.
    Late(Duration),
    /// Killed because Mainstay stops and waits for nothing.
    Cut,
    /// Killed, and still there.
    Stuck,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exit(exit) => exit.fmt(f),
            Ended::Late(deadline) => write!(f, "killed after {} ms (deadline)", deadline.as_millis()),
            Ended::Cut => f.write_str("Mainstay is stopping, and killed it"),
            Ended::Stuck => f.write_str("its process does not end, not even by SIGKILL"),
        }
    }
}

impl Program {
    /// Runs it to its end. What it writes is in `tail`.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub(super) async fn run(self, shared: &Arc<Shared>, tail: &Arc<Mutex<Tail>>) -> io::Result<Ended> {
        let program = self.argv.first().map_or("", String::as_str);
        let withheld = super::lock(&shared.withheld).clone();
        let stdin = piped(&self.context)?;
        let (mut process, output) =
            Process::run(&self.mark, (&self.argv, &self.dir), stdin, &shared.instance, &withheld).await?;
        let file = shared.logs.file(&self.log);
        let note = format!("{program} runs as process {}, wanted by {}", process.pid(), self.wanted_by);
        shared.logs.note(&file, &note);
        let mut following = follow(output, Arc::clone(tail), Arc::clone(&shared.logs), Arc::clone(&file))?;
        let deadline = Instant::now() + self.deadline;
        let mut cut = shared.cut_programs.subscribe();
        let in_time = tokio::select! {
            ended = timeout_at(deadline, process.ended()) => ended.is_ok(),
            _ = cut.wait_for(|cut| *cut) => false,
        };
        if !in_time {
            process.signal_group(Signal::SIGKILL);
            let family = Family::of_server(&shared.instance, &self.mark, process.pid());
            if let Err(StillThere(pids)) = family.end(Instant::now()).await {
                tracing::error!(program, ?pids, "processes of it do not end, not even by SIGKILL");
            }
        }
        let gone = timeout(KILL_TAKES, process.ended()).await.is_ok();
        if timeout(LAST_WORDS_TAKE, &mut following).await.is_err() {
            following.abort();
        }
        if !gone {
            return Ok(Ended::Stuck);
        }
        let exit = process.reap().await;
        shared.logs.note(&file, &format!("{program} {exit}"));
        Ok(match in_time {
            true => Ended::Exit(exit),
            false if *shared.cut_programs.borrow() => Ended::Cut,
            false => Ended::Late(self.deadline),
        })
    }
}

/// One line of JSON, for a program to read.
///
/// # Errors
/// When there is too much to tell.
pub(super) fn context(what: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(what)?;
    text.push(b'\n');
    if text.len() > CONTEXT_MAX {
        return Err(io::Error::other("too many servers to tell of"));
    }
    Ok(text)
}

/// Written before it runs, so that nobody waits for it to read.
fn piped(text: &[u8]) -> io::Result<PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(text)?;
    Ok(reader)
}

/// One that runs, counted as long as this is there.
pub(super) struct Running(Arc<Shared>);

impl Running {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        shared.programs.send_modify(|running| *running += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.programs.send_modify(|running| *running -= 1);
    }
}

/// The marks of programs that were carried out. What they started is not ended with what earlier runs left behind.
#[derive(Debug)]
pub(super) struct Left(PathBuf);

impl Left {
    pub(super) fn new(data: &Path) -> Self {
        Self(data.join("switches-done"))
    }

    /// One a line; without the file, none.
    pub(super) fn marks(&self) -> Vec<String> {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    pub(super) fn add(&self, mark: &ServerId) -> Result<(), String> {
        let mut marks = self.marks();
        marks.push(mark.to_string());
        let first = marks.len().saturating_sub(LEFT_MAX);
        let text = marks[first..].join("\n") + "\n";
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &self.0))
            .map_err(|error| format!("{} cannot be written: {error}", self.0.display()))
    }
}
