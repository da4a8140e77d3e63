//! Backups: folders and databases, encrypted in a repository of restic's format, and proven by restoring them.
//!
//! The judge says when; this starts a process for each, waits for its answer until the deadline, and says how it ended.

mod databases;
mod job;
mod repository;
mod source;
#[cfg(test)]
mod tests;
mod work;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::effect::BackupOrder;
use mainstay_model::input::{BackupDone, BackupOutcome};
use mainstay_model::{BackupId, Input};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

pub use job::{Answer, Job};
pub use repository::Snapshot;
pub use work::{list, restore, work};
pub use worker::serve;

use crate::config::BackupSpec;

/// The hidden subcommand under which this program does the work.
pub const WORKER: &str = "backup-worker";
/// An answer is a few hundred bytes.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Makes backups and tries them out.
#[derive(Debug)]
pub struct Backups {
    specs: Mutex<BTreeMap<BackupId, BackupSpec>>,
    inputs: mpsc::Sender<Input>,
}

impl Backups {
    /// Nothing to back up yet.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { specs: Mutex::default(), inputs }
    }

    /// What each backup means from now on; one that is under way is not changed by it.
    pub fn apply(&self, specs: BTreeMap<BackupId, BackupSpec>) {
        *self.specs.lock().unwrap_or_else(PoisonError::into_inner) = specs;
    }

    /// Carries an order out; its outcome comes as an input, within the deadline.
    pub fn carry_out(&self, order: BackupOrder) {
        let specs = self.specs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = specs.get(&order.backup).map(|spec| Job::new(order.backup.as_str(), order.task, spec));
        drop(specs);
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let result = match job {
                Some(job) => answer(&job, order.deadline).await,
                None => Err("it left the config".to_owned()),
            };
            if let Err(error) = &result {
                tracing::warn!(backup = %order.backup, task = order.task.as_str(), error, "a backup failed");
            }
            let outcome =
                BackupOutcome { backup: order.backup, task: order.task, took: began.elapsed(), result };
            // The engine is gone only when Mainstay ends.
            let _ = inputs.send(Input::Backup(outcome)).await;
        });
    }
}

async fn answer(job: &Job, deadline: Duration) -> Result<BackupDone, String> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    match timeout(deadline, ask(program, job)).await {
        Ok(answer) => answer,
        // Dropped, its process was killed.
        Err(_) => Err(format!("it was ended after {} s, its deadline", deadline.as_secs())),
    }
}

async fn ask(program: PathBuf, job: &Job) -> Result<BackupDone, String> {
    let not_started = |error: std::io::Error| format!("its process could not be started: {error}");
    let mut process = Command::new(program)
        .arg(WORKER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(not_started)?;
    let (Some(mut input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
        return Err("its process has no pipes".to_owned());
    };
    let mut line = serde_json::to_string(job).map_err(|error| error.to_string())?;
    line.push('\n');
    input.write_all(line.as_bytes()).await.map_err(|error| format!("its process took no job: {error}"))?;
    let mut text = String::new();
    let read = output.take(LONGEST_ANSWER).read_to_string(&mut text).await;
    let status = process.wait().await;
    drop(input);
    let gone = || match &status {
        Ok(status) => format!("its process ended without an answer ({status})"),
        Err(error) => format!("its process ended without an answer ({error})"),
    };
    read.map_err(|_| gone())?;
    serde_json::from_str::<Answer>(&text).map_err(|_| gone())?
}
