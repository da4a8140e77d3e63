//! `mainstay demo`: a small real world in which a server dies.

use super::DemoArgs;
use crate::exit_code::Exit;

/// Runs the subcommand.
///
/// # Errors
/// When it cannot be done.
pub fn run(args: DemoArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not wired: {args:?}")
}
