//! `mainstay run`: serve until told to stop.

use super::RunArgs;
use crate::exit_code::Exit;

/// Runs the subcommand.
///
/// # Errors
/// When it cannot be done.
pub fn run(args: RunArgs) -> anyhow::Result<Exit> {
    let config = args.load()?;
    anyhow::bail!("not wired: {} services", config.policy.services.len())
}
