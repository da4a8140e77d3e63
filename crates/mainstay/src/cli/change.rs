//! `mainstay change TEXT`: tells of a change made by other means, so that incidents after it name it; and lists the last ones.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use mainstay_model::change::Change;
use serde_json::json;

use super::ask::AskArgs;
use super::paint::{Cell, Paint, clean, moment, table};
use crate::config::duration_from_text;
use crate::exit_code::Exit;

/// Options of `mainstay change`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay change \"deployed v42\" --service shop --by ci
  mainstay change --release 42 --service shop   it is watched for an hour
  mainstay change --ago 10m \"moved the database to db-2\"
  mainstay change                               what was changed in the last day

Exit status: 0 it is remembered, 1 it could not be done.")]
pub struct ChangeArgs {
    /// What was done, in a line; without it, what was changed in the last day is listed
    #[arg(value_name = "TEXT")]
    what: Option<String>,
    /// The release that was brought out by other means: for an hour an incident of the service is put
    /// down to it first, and you are asked to go back from it
    #[arg(long, value_name = "RELEASE", requires = "service")]
    release: Option<String>,
    /// The service that it touches [default: everything]
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// How long ago it was done
    #[arg(long, value_name = "TIME", value_parser = duration_from_text)]
    ago: Option<Duration>,
    /// Who did it, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    /// Print for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked, or refuses.
pub fn run(args: ChangeArgs) -> anyhow::Result<Exit> {
    if args.what.is_none() && args.release.is_none() {
        if args.service.is_some() || args.ago.is_some() {
            bail!("say what was done, or which release was brought out");
        }
        let answer = args.ask.get("/api/v1/changes")?;
        let changes: Vec<Change> = read(&answer)?;
        let text = if args.json { serde_json::to_string_pretty(&changes)? + "\n" } else { list(&changes) };
        super::print(&text)?;
        return Ok(Exit::Ok);
    }
    let mut body = json!({ "what": args.what.as_deref().unwrap_or_default(), "by": args.by });
    if let Some(release) = &args.release {
        body["release"] = json!(release);
    }
    if let Some(service) = &args.service {
        body["service"] = json!(service);
    }
    if let Some(ago) = args.ago {
        // By this machine's clock, as everything else that a person says of a time.
        let at = jiff::Timestamp::now() - ago;
        body["at"] = json!(at.as_millisecond());
    }
    let change: Change = read(&args.ask.post("/api/v1/changes", &body)?)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&change)? + "\n",
        false => format!("{}, {}: {}\n", moment(change.at), whom(&change), clean(&change.what)),
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

fn read<T: serde::de::DeserializeOwned>(answer: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(answer).context("it answered, but not as this version of Mainstay does")
}

fn whom(change: &Change) -> String {
    change.service.as_ref().map_or_else(|| "everything".to_owned(), |service| clean(service.as_str()))
}

fn list(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing was changed in the last day\n".to_owned();
    }
    let row = |change: &Change| {
        [
            moment(change.at),
            change.kind.as_str().to_owned(),
            whom(change),
            clean(&change.by),
            clean(&change.what),
        ]
        .map(Cell::text)
        .into()
    };
    let head = ["when", "what sort", "touches", "by", "what"].map(Cell::text).into();
    let rows: Vec<Vec<Cell>> = std::iter::once(head).chain(changes.iter().map(row)).collect();
    table(Paint::for_stdout(), &rows)
}
