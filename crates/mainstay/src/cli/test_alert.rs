//! `mainstay test-alert`: a marked message over each configured way, so that one that does not work is found on a quiet day.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::args::config_path;
use super::paint::{Cell, Paint, Tone, table};
use crate::alert::{self, Trial};
use crate::config;
use crate::exit_code::Exit;

/// Options of `mainstay test-alert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Sends one message, marked as a test, to everybody in [on-call] by each of their ways, and to the
webhook. It needs no running Mainstay, and no budget holds it back. Secrets are read too, so run it
as the user and with the environment that Mainstay runs with.

Examples:
  mainstay test-alert
  mainstay test-alert Ada                  by each way that Ada is told
  mainstay test-alert +491701234567 -c /etc/mainstay/mainstay.toml

Exit status: 0 every message was taken, 1 one was not, 2 the config has mistakes.")]
pub struct TestAlertArgs {
    /// Whom, by name or address; otherwise everybody, and the webhook
    #[arg(value_name = "PERSON")]
    person: Option<String>,
    /// The config [default: ./mainstay.toml, else /etc/mainstay/mainstay.toml]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When the config has mistakes, or names nobody to tell.
pub fn run(args: TestAlertArgs) -> anyhow::Result<Exit> {
    let config = config::load(&config_path(args.config.as_deref()))?;
    let trials = alert::trials(&config.alerts, &config.policy.on_call, args.person.as_deref());
    if trials.is_empty() {
        match &args.person {
            Some(person) => bail!("nobody on call is called {person}; mainstay check-config lists them"),
            None => bail!("the config names nobody to tell; see [alert] and [on-call]"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let paint = Paint::for_stdout();
    let mut all_taken = true;
    for trial in &trials {
        let result = runtime.block_on(alert::try_out(&config.alerts, trial));
        all_taken &= result.is_ok();
        let outcome = match result {
            Ok(text) => Cell::text(text).tone(Tone::Good),
            Err(error) => Cell::text(error.text).tone(Tone::Bad),
        };
        // Each as soon as it is known: a mail server may take its time.
        super::print(&table(paint, &[vec![Cell::text(whom(trial)), outcome]]))?;
    }
    Ok(if all_taken { Exit::Ok } else { Exit::Failed })
}

fn whom(trial: &Trial) -> String {
    match &trial.to {
        Some(to) if to.name == to.address => format!("{} to {}", to.way.word(), to.address),
        Some(to) => format!("{} to {} ({})", to.way.word(), to.name, to.address),
        None => "webhook".to_owned(),
    }
}
