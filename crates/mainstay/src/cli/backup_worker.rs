//! `mainstay backup-worker` (hidden): makes or tries out one backup, as a process of its own.

use clap::Args;

use crate::exit_code::Exit;
use crate::recovery::backup;

/// It has no options: its job comes over standard input.
#[derive(Debug, Args)]
pub struct BackupWorkerArgs {}

/// Runs the subcommand.
///
/// # Errors
/// When the answer cannot be written.
pub fn run(_: BackupWorkerArgs) -> anyhow::Result<Exit> {
    let answer = backup::serve();
    super::print(&serde_json::to_string(&answer)?)?;
    Ok(if answer.is_ok() { Exit::Ok } else { Exit::Failed })
}
