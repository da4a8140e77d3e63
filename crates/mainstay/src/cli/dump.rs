//! `mainstay dump SERVER`: what the threads of a supervised server are at, now.

use anyhow::Context as _;
use clap::Args;
use mainstay_model::ServerId;
use serde::Deserialize;

use super::ask::AskArgs;
use super::paint::clean;
use crate::exit_code::Exit;

/// Options of `mainstay dump`.
#[derive(Debug, Args)]
#[command(after_help = "\
The state of each thread and where in the kernel it waits, and what the server's `capture` says.
Mainstay looks by itself before it restarts a server that hangs. Nothing is ended by it.

Examples:
  mainstay dump shop/app-1

Exit status: 0 it was seen, 1 it could not be.")]
pub struct DumpArgs {
    /// The server, SERVICE/SERVER; one that Mainstay starts
    #[arg(value_name = "SERVER")]
    server: ServerId,
    /// Print for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Deserialize)]
struct Dump {
    lines: Vec<String>,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked, or has no process of the server.
pub fn run(args: DumpArgs) -> anyhow::Result<Exit> {
    let ServerId { service, name } = &args.server;
    let path = format!("/api/v1/servers/{service}/{name}/dump");
    let answer = args.ask.post(&path, &serde_json::json!({}))?;
    if args.json {
        super::print(&(String::from_utf8_lossy(&answer).trim_end().to_owned() + "\n"))?;
        return Ok(Exit::Ok);
    }
    let dump: Dump =
        serde_json::from_slice(&answer).context("it answered, but not as this version of Mainstay does")?;
    let text: String = dump.lines.iter().map(|line| clean(line) + "\n").collect();
    super::print(&text)?;
    Ok(Exit::Ok)
}
