//! `mainstay deploy SERVICE PATH`: tries a release beside the servers; the running Mainstay promotes it or takes it back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use mainstay_model::release::{Release, ReleaseState, ReleasesSnapshot};
use mainstay_model::snapshot::ServiceSnapshot;
use serde_json::json;

use super::ask::AskArgs;
use super::paint::clean;
use crate::exit_code::Exit;

/// Between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(300);
/// A Mainstay that does not answer for so long is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `mainstay deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay deploy shop /srv/shop/42
  mainstay deploy shop ./build --wait           until it serves, or was taken back; says why
  mainstay deploy shop /srv/shop/42 --wait --json | jq -r .state

Exit status: 0 it was begun (with --wait: it serves), 1 it was refused (with --wait: or taken back).")]
pub struct DeployArgs {
    /// The service, one of whose servers has {release} in its command
    service: String,
    /// The release: what {release} stands for
    path: PathBuf,
    /// Wait until it serves or was taken back
    #[arg(long)]
    wait: bool,
    /// Also while an incident of the service is open
    #[arg(long)]
    force: bool,
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
pub fn run(args: DeployArgs) -> anyhow::Result<Exit> {
    let path = std::path::absolute(&args.path)?;
    let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    let body = json!({ "path": path, "force": args.force, "by": args.by });
    let answer = args.ask.post(&address(&args.service, "deploy"), &body)?;
    let releases: ReleasesSnapshot = serde_json::from_slice(&answer)?;
    let Some(release) = releases.releases.into_iter().next() else { bail!("it was not begun") };
    if !args.wait {
        let said = format!(
            "release {} of {} is being tried: {}\n",
            release.number,
            args.service,
            clean(&release.path)
        );
        return show(&release, &said, args.json);
    }
    let release = wait_for(&args.ask, &args.service, release.number, !args.json)?;
    let serves = release.state == ReleaseState::Current;
    show(&release, "", args.json)?;
    Ok(if serves { Exit::Ok } else { Exit::Failed })
}

/// Where orders about a service's releases go.
pub(super) fn address(service: &str, order: &str) -> String {
    format!("/api/v1/services/{service}/{order}")
}

/// Prints a release for a program, or a sentence.
pub(super) fn show(release: &Release, said: &str, json: bool) -> anyhow::Result<Exit> {
    match json {
        true => super::print(&format!("{}\n", serde_json::to_string_pretty(release)?))?,
        false => super::print(said)?,
    }
    Ok(Exit::Ok)
}

/// Waits until nothing is under way about a release, and tells what is done about it as it happens.
pub(super) fn wait_for(ask: &AskArgs, service: &str, number: u64, tell: bool) -> anyhow::Result<Release> {
    let mut told = 0;
    let mut answered = Instant::now();
    loop {
        match look(ask, service, number) {
            Ok((release, busy)) => {
                answered = Instant::now();
                for step in release.steps.iter().skip(told).filter(|_| tell) {
                    super::print(&format!("{}\n", clean(&step.text)))?;
                }
                told = release.steps.len();
                if !release.state.is_under_way() && !busy {
                    return Ok(release);
                }
            }
            // It may be restarting just now.
            Err(error) if answered.elapsed() >= PATIENCE => return Err(error),
            Err(_) => {}
        }
        std::thread::sleep(LOOK);
    }
}

/// The release, and whether servers are still being replaced for it.
fn look(ask: &AskArgs, service: &str, number: u64) -> anyhow::Result<(Release, bool)> {
    let body = ask.get(&format!("/api/v1/services/{service}"))?;
    let shown: ServiceSnapshot = serde_json::from_slice(&body)?;
    let releases = shown.releases.context("it has no releases any more")?;
    let busy = releases.deployment.is_some();
    let release = releases.releases.into_iter().find(|r| r.number == number);
    Ok((release.with_context(|| format!("release {number} is not remembered any more"))?, busy))
}
