//! `mainstay upgrade`: another program takes the place of the running one, without a lost connection.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::args::config_path;
use crate::config;
use crate::control::{self, Order, Outcome};
use crate::exit_code::Exit;

/// Actions under way, the start of the other and its readiness together.
const PATIENCE: Duration = Duration::from_secs(150);

/// Options of `mainstay upgrade`.
#[derive(Debug, Args)]
#[command(after_help = "\
The running Mainstay starts the new program with its own command line, hands its sockets over, and
goes on serving if the new one does not. Connections that are open finish in the old one, for at
most `upgrade-grace`.

Examples:
  mainstay upgrade                                   the file was replaced: run what it is now
  mainstay upgrade --binary /opt/mainstay-2/mainstay
  mainstay upgrade -c /etc/mainstay/mainstay.toml

Exit status: 0 the new one serves, 1 the old one goes on; the reason is told.")]
pub struct UpgradeArgs {
    /// The new program [default: the file that the running one was started from]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The config that says where the data directory is
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// The data directory, instead of what the config says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When no Mainstay can be asked, or it goes on as it is; the text says why.
pub fn run(args: UpgradeArgs) -> anyhow::Result<Exit> {
    let binary = args.binary.map(std::path::absolute).transpose()?;
    let data = args.data.or_else(|| config::data_directory(&config_path(args.config.as_deref())));
    let data = data.context("it is not known where the data directory is; name it with --data")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let given = runtime.block_on(control::give(&data, &Order::Upgrade { binary }, PATIENCE));
    let outcome = given.with_context(|| {
        format!(
            "the Mainstay of {} cannot be asked; does one run, as the same user? Name its config with -c or its data directory with --data",
            data.display()
        )
    })?;
    match outcome {
        Outcome::Done(text) => {
            super::print(&format!("{text}\n"))?;
            Ok(Exit::Ok)
        }
        Outcome::Refused(why) => bail!("{why}; the running Mainstay goes on"),
    }
}
