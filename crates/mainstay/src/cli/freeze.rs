//! `mainstay freeze` and `mainstay thaw`: the switch that keeps Mainstay from doing anything by itself.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mainstay_model::freeze::Freeze;
use serde_json::json;

use super::ask::AskArgs;
use super::paint::{clean, moment};
use crate::config::{duration_from_text, people_duration};
use crate::exit_code::Exit;

/// Options of `mainstay freeze`.
#[derive(Debug, Args)]
#[command(after_help = "\
Mainstay goes on watching, routing, shedding and telling people; it restarts nothing, takes no
release back by itself and promotes none, adds and takes away no instance, and asks before it
switches. What people order is carried out. It ends by itself after a day at most.

Where Mainstay does not answer, a file does the same: touch DATA/freeze, and rm DATA/freeze.

Examples:
  mainstay freeze --for 2h --why \"racks are moved\"
  mainstay thaw

Exit status: 0 done, 1 it could not be done.")]
pub struct FreezeArgs {
    /// How long it lasts, at most 24h
    #[arg(long = "for", value_name = "TIME", value_parser = duration_from_text, default_value = "24h")]
    lasts: Duration,
    /// Why, for colleagues
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    /// Print for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Options of `mainstay thaw`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay thaw

Exit status: 0 done, also when it was not frozen, 1 it could not be done.")]
pub struct ThawArgs {
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs `mainstay freeze`.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses.
pub fn freeze(args: FreezeArgs) -> anyhow::Result<Exit> {
    let body = json!({ "for": people_duration(args.lasts), "why": args.why, "by": args.by });
    let answer = args.ask.post("/api/v1/freeze", &body)?;
    let freeze: Freeze =
        serde_json::from_slice(&answer).context("it answered, but not as this version of Mainstay does")?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&freeze)? + "\n",
        false => format!("frozen until {}; `mainstay thaw` ends it\n", moment(freeze.until)),
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

/// Runs `mainstay thaw`.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses.
pub fn thaw(args: ThawArgs) -> anyhow::Result<Exit> {
    args.ask.delete("/api/v1/freeze")?;
    super::print("no longer frozen\n")?;
    Ok(Exit::Ok)
}

/// What `mainstay status` says of it.
pub(super) fn line(freeze: &Freeze) -> String {
    format!("{}: nothing is restarted, rolled back, scaled or switched by itself", clean(&freeze.to_string()))
}
