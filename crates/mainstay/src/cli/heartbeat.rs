//! `mainstay heartbeat`: where jobs ping, and the line that a job needs for it.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use mainstay_model::MonitorId;
use serde_json::json;

use super::args::config_path;
use super::paint::{Cell, Paint, Tone, table};
use crate::config::{self, Config};
use crate::exit_code::Exit;
use crate::heartbeat::Tokens;

/// Options of `mainstay heartbeat`.
#[derive(Debug, Args)]
#[command(after_help = "\
An address is a secret: whoever knows it can ping for the job. Run this as the user that Mainstay runs as, because the
addresses are made from a key in the data directory.

Examples:
  mainstay heartbeat                     all jobs of the config, with their addresses
  mainstay heartbeat backup-job          what to write into the job
  mainstay heartbeat backup-job --url    the address alone, for a script

Exit status: 0 printed, 1 the key cannot be read, 2 the command line or the config has mistakes.")]
pub struct HeartbeatArgs {
    /// The monitor's name in the config; all that ping by default
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The config [default: ./mainstay.toml, else /etc/mainstay/mainstay.toml]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// How jobs reach Mainstay [default: listen.pings, else alert.dashboard, else listen.admin]
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Print the address alone
    #[arg(long, requires = "name", conflicts_with = "json")]
    url: bool,
    /// Print for a program
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When the config has mistakes or names no such job, or the key cannot be read.
pub fn run(args: HeartbeatArgs) -> anyhow::Result<Exit> {
    let path = config_path(args.config.as_deref());
    let config = config::load(&path)?;
    let jobs = jobs(&config, args.name.as_deref())?;
    if jobs.is_empty() {
        super::print("no job pings; write heartbeat = { every = \"1h\" } into a monitor\n")?;
        return Ok(Exit::Ok);
    }
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("the data directory {}", config.data.display()))?;
    let tokens = Tokens::open(&config.data).with_context(|| {
        format!("the key in {}; run this as the user that Mainstay runs as", config.data.display())
    })?;
    let base = args.base.clone().unwrap_or_else(|| base(&config));
    let url = |job: &MonitorId| format!("{}{}", base.trim_end_matches('/'), tokens.path(job));
    let text = if args.json {
        let all: Vec<_> = jobs.iter().map(|job| json!({ "name": job, "url": url(job) })).collect();
        format!("{:#}\n", json!({ "heartbeats": all }))
    } else if args.url {
        jobs.iter().fold(String::new(), |text, job| text + &url(job) + "\n")
    } else {
        match (&args.name, jobs.first()) {
            (Some(_), Some(job)) => recipe(&config, job, &url(job)),
            _ => list(&config, &jobs, url),
        }
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

fn jobs(config: &Config, name: Option<&str>) -> anyhow::Result<Vec<MonitorId>> {
    let all = config.policy.monitors.iter().filter(|(_, monitor)| monitor.heartbeat.is_some());
    let all: Vec<MonitorId> = all.map(|(id, _)| id.clone()).collect();
    let Some(name) = name else { return Ok(all) };
    match all.iter().find(|id| id.as_str() == name) {
        Some(id) => Ok(vec![id.clone()]),
        None if all.is_empty() => bail!("no monitor of the config has a heartbeat"),
        None => {
            let names: Vec<&str> = all.iter().map(MonitorId::as_str).collect();
            bail!("no monitor {name} with a heartbeat; there are {}", names.join(", "))
        }
    }
}

/// How jobs reach Mainstay, as far as the config tells.
fn base(config: &Config) -> String {
    let at = match (config.pings, &config.alerts.dashboard) {
        (Some(address), _) => address,
        (None, Some(dashboard)) => return dashboard.to_string(),
        (None, None) => config.admin,
    };
    if !at.ip().is_unspecified() {
        return format!("http://{at}");
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
    format!("http://{name}:{}", at.port())
}

fn list(config: &Config, jobs: &[MonitorId], url: impl Fn(&MonitorId) -> String) -> String {
    let row = |job: &MonitorId| {
        let heartbeat = config.policy.monitors.get(job).and_then(|monitor| monitor.heartbeat.as_ref());
        let schedule = heartbeat.map_or_else(String::new, |heartbeat| heartbeat.recurs.to_string());
        vec![Cell::text(job.as_str()), Cell::text(schedule).tone(Tone::Quiet), Cell::text(url(job))]
    };
    table(Paint::for_stdout(), &jobs.iter().map(row).collect::<Vec<_>>())
}

fn recipe(config: &Config, job: &MonitorId, url: &str) -> String {
    let mut out = format!("{url}\n\n");
    let heartbeat = config.policy.monitors.get(job).and_then(|monitor| monitor.heartbeat.as_ref());
    if let Some(heartbeat) = heartbeat {
        let _ = writeln!(out, "{job} is expected {}; these go into the job:\n", heartbeat.recurs);
    }
    let curl = "curl -fsS -m 10 --retry 5 -o /dev/null";
    let _ = write!(
        out,
        "  done            {curl} {url}\n\
         \x20 begins          {curl} {url}/start\n\
         \x20 went wrong      {curl} {url}/fail\n\
         \x20 its exit code   {curl} {url}/$?\n\
         \x20 with its log    {curl} --data-binary @job.log {url}/$?\n\n\
         in a crontab:\n\n  \
         {} /usr/local/bin/job && {curl} {url}\n",
        match heartbeat.map(|heartbeat| &heartbeat.recurs) {
            Some(mainstay_model::heartbeat::Recurs::Calendar { cron, .. }) => cron.to_string(),
            _ => "0 * * * *".to_owned(),
        }
    );
    out
}
