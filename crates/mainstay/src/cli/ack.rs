//! `mainstay ack INCIDENT`: takes an incident on, so that nobody else is told.

use anyhow::Context as _;
use clap::Args;
use mainstay_model::incident::Incident;
use serde_json::json;

use super::ask::AskArgs;
use super::paint::clean;
use crate::exit_code::Exit;

/// Options of `mainstay ack`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay ack 12
  mainstay ack 12 --by Ada

Exit status: 0 somebody has taken it on, 1 it could not be done, or it is over.")]
pub struct AckArgs {
    /// The incident's number
    #[arg(value_name = "INCIDENT")]
    incident: u64,
    /// Who takes it on, for the record [default: the user who runs this]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked, or refuses.
pub fn run(args: AckArgs) -> anyhow::Result<Exit> {
    let by = args.by.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "the command line".to_owned());
    let path = format!("/api/v1/incidents/{}/acknowledge", args.incident);
    let answer = args.ask.post(&path, &json!({ "by": by }))?;
    let incident: Incident =
        serde_json::from_slice(&answer).context("it answered, but not as this version of Mainstay does")?;
    let by = incident.acknowledged.map_or(by, |(by, _)| by);
    let text = format!("#{} {}: taken on by {}\n", incident.id, clean(&incident.title), clean(&by));
    super::print(&text)?;
    Ok(Exit::Ok)
}
