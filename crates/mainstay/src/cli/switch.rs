//! `mainstay switch SERVICE`: runs the service's own `switch` command or promotes a server, or runs the command for the way back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use mainstay_model::snapshot::ServiceSnapshot;
use mainstay_model::switch::SwitchSnapshot;
use serde_json::json;

use super::ask::AskArgs;
use super::deploy::address;
use super::paint::clean;
use crate::exit_code::Exit;

/// Between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(300);
/// A Mainstay that does not answer for so long is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `mainstay switch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay switch shop                   run switch.fence of the service, then switch.command
  mainstay switch shop --fenced          nothing writes on the old side: without switch.fence
  mainstay switch shop --back --wait     run switch.back, and wait until it has ended
  mainstay switch db --wait              switch.fence, then writes go to another server, which is promoted

Exit status: 0 it was begun (with --wait: it succeeded), 1 it was refused (with --wait: or failed).")]
pub struct SwitchArgs {
    /// The service
    service: String,
    /// The way back
    #[arg(long)]
    back: bool,
    /// You vouch that nothing writes on the old side: the fence is left out
    #[arg(long, conflicts_with = "back")]
    fenced: bool,
    /// Wait until the command has ended
    #[arg(long)]
    wait: bool,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    /// Print how the switch stands, for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses; the text says why.
pub fn run(args: SwitchArgs) -> anyhow::Result<Exit> {
    let order = json!({ "back": args.back, "fenced": args.fenced, "by": args.by });
    let answer = args.ask.post(&address(&args.service, "switch"), &order)?;
    let begun: SwitchSnapshot = serde_json::from_slice(&answer)?;
    let run = begun.last.as_ref().context("the order was taken, and no run is known of")?;
    let (action, has_lead) = (run.action, run.from.is_some());
    let what = match (args.back, has_lead) {
        (true, _) => "switch.back",
        (false, false) => "switch.command",
        (false, true) => "the switch",
    };
    if !args.wait {
        show(&begun, &format!("{what} of {} runs\n", args.service), args.json)?;
        return Ok(Exit::Ok);
    }
    let mut answered = Instant::now();
    loop {
        match look(&args) {
            Ok(switch) => {
                answered = Instant::now();
                let run = switch.last.as_ref().filter(|run| run.action == action);
                let Some(run) = run else { bail!("another run has taken its place; see the service's page") };
                if let Some(end) = &run.end {
                    let said = match &end.error {
                        None => format!("{what} of {} succeeded\n", args.service),
                        Some(why) => format!("{what} of {} failed: {}\n", args.service, clean(why)),
                    };
                    show(&switch, &said, args.json)?;
                    return Ok(if end.error.is_none() { Exit::Ok } else { Exit::Failed });
                }
            }
            // It may be restarting just now.
            Err(error) if answered.elapsed() >= PATIENCE => return Err(error),
            Err(_) => {}
        }
        std::thread::sleep(LOOK);
    }
}

fn look(args: &SwitchArgs) -> anyhow::Result<SwitchSnapshot> {
    let service: ServiceSnapshot =
        serde_json::from_slice(&args.ask.get(&format!("/api/v1/services/{}", args.service))?)?;
    service.switch.context("the config has no switch command for this service any more")
}

fn show(switch: &SwitchSnapshot, said: &str, json: bool) -> anyhow::Result<()> {
    match json {
        true => super::print(&format!("{}\n", serde_json::to_string_pretty(switch)?)),
        false => super::print(said),
    }
}
