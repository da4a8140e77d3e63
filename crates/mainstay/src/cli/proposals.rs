//! `mainstay proposals`, `approve` and `decline`: what Mainstay would do if it might, and a person's word on it.

use clap::Args;
use mainstay_model::proposal::Proposal;
use serde_json::json;

use super::ask::AskArgs;
use super::paint::{clean, moment};
use crate::exit_code::Exit;

/// Options of `mainstay proposals`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is open stands first, and what is over says what became of it: it came back by itself, a person
did it, Mainstay did it, or it was still broken a day later. Levels are set per service by
[service.NAME.recovery] level.

Examples:
  mainstay proposals
  mainstay approve 12

Exit status: 0 done, 1 it could not be done.")]
pub struct ProposalsArgs {
    /// Print for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Options of `mainstay approve` and `mainstay decline`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay approve 12
  mainstay decline 12 --by anna

Exit status: 0 done, 1 there was nothing to decide.")]
pub struct DecideArgs {
    /// The proposal's number
    number: u64,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs `mainstay proposals`.
///
/// # Errors
/// When the running Mainstay cannot be asked.
pub fn list(args: ProposalsArgs) -> anyhow::Result<Exit> {
    let mut all: Vec<Proposal> = serde_json::from_slice(&args.ask.get("/api/v1/proposals")?)?;
    all.sort_by_key(|proposal| proposal.end.is_some());
    let text = match args.json {
        true => serde_json::to_string_pretty(&all)? + "\n",
        false if all.is_empty() => "nothing was proposed\n".to_owned(),
        false => all.iter().map(line).collect(),
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

/// Runs `mainstay approve` or `mainstay decline`.
///
/// # Errors
/// When the running Mainstay cannot be asked, or there is nothing to decide.
pub fn decide(args: DecideArgs, approved: bool) -> anyhow::Result<Exit> {
    let body = json!({ "approved": approved, "by": args.by });
    let answer = args.ask.post(&format!("/api/v1/proposals/{}", args.number), &body)?;
    super::print(&line(&serde_json::from_slice(&answer)?))?;
    Ok(Exit::Ok)
}

/// What `mainstay status` says of one that waits for a person.
pub(super) fn asks(proposal: &Proposal) -> String {
    let (what, number) = (clean(&proposal.what), proposal.number);
    format!("a person is to decide whether to {what}: mainstay approve {number}, or decline {number}")
}

fn line(proposal: &Proposal) -> String {
    let Proposal { number, service, what, level, why, at, .. } = proposal;
    format!(
        "{number}  {}  {service}: {} ({level}): {}  {}\n",
        moment(*at),
        clean(what),
        clean(why),
        clean(&proposal.stands())
    )
}
