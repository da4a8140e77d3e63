//! `mainstay rollback SERVICE`: ends a deploy under way, or goes back to the release before the current one.

use anyhow::Context as _;
use clap::Args;
use mainstay_model::release::{ReleaseState, ReleasesSnapshot};
use serde_json::json;

use super::ask::AskArgs;
use super::deploy::{address, show, wait_for};
use crate::exit_code::Exit;

/// Options of `mainstay rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay rollback shop                 end the deploy under way, or go back to the release before
  mainstay rollback shop --wait          until every server runs it

Exit status: 0 it was begun (with --wait: done), 1 it was refused (with --wait: or could not be done).")]
pub struct RollbackArgs {
    /// The service
    service: String,
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    /// Print the release for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses; the text says why.
pub fn run(args: RollbackArgs) -> anyhow::Result<Exit> {
    let answer = args.ask.post(&address(&args.service, "rollback"), &json!({ "by": args.by }))?;
    let releases: ReleasesSnapshot = serde_json::from_slice(&answer)?;
    // A deploy that was ended leaves the current one; else one is being gone back to.
    let returning = releases.releases.iter().find(|r| r.state == ReleaseState::Returning);
    let wanted = returning.or_else(|| releases.current()).context("no release serves")?;
    let said = match returning {
        Some(release) => format!("going back to release {} of {}\n", release.number, args.service),
        None => format!("the deploy is ended; release {} of {} serves\n", wanted.number, args.service),
    };
    if !args.wait {
        return show(wanted, &said, args.json);
    }
    let release = wait_for(&args.ask, &args.service, wanted.number, false)?;
    let serves = release.state == ReleaseState::Current;
    let said = if serves {
        format!("release {} of {} serves\n", release.number, args.service)
    } else {
        format!("release {} of {} could not be gone back to: {}\n", release.number, args.service, release.why)
    };
    show(&release, &said, args.json)?;
    Ok(if serves { Exit::Ok } else { Exit::Failed })
}
