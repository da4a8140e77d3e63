//! `mainstay maintenance`: windows in which nobody is told of what is expected to be down.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mainstay_model::window::{NEXT_MAX, Occurrence, WindowSnapshot};
use mainstay_model::{ServerId, Wall};
use serde_json::json;

use super::admin;
use super::ask::AskArgs;
use super::paint::{Cell, Paint, Tone, between, clean, moment, table};
use crate::config::{Config, duration_from_text, people_duration};
use crate::exit_code::Exit;

/// Options of `mainstay maintenance`.
#[derive(Debug, Args)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "\
In a window what it covers is watched and routed round as ever, but it raises nobody, is not
restarted, and counts neither as up nor as down. What still fails when it ends is told then.
Windows that come again and again are written into the config: [maintenance.NAME].

With a SERVER alone it is taken out of rotation until `mainstay ready`.

Examples:
  mainstay maintenance start shop --for 1h --reason \"new disks\"
  mainstay maintenance start shop/app-1 monitor:pay tag:db --for 30m
  mainstay maintenance list
  mainstay maintenance end 3
  mainstay maintenance shop/app-1

Exit status: 0 done, 1 it could not be done."
)]
pub struct MaintenanceArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Take this server out of service, SERVICE/SERVER
    #[arg(value_name = "SERVER", required = true)]
    server: Option<ServerId>,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open a window now, or later
    Start(StartArgs),
    /// Show the windows that are open and the next times of all
    List(ListArgs),
    /// End a window: by its number, or of one in the config the time that is open now
    End(EndArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    /// everything, a service, SERVICE/SERVER, monitor:NAME, group:NAME or tag:NAME; several of them
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
    /// How long it lasts
    #[arg(long = "for", value_name = "TIME", value_parser = duration_from_text)]
    lasts: Duration,
    /// Begin after so long rather than now
    #[arg(long = "in", value_name = "TIME", value_parser = duration_from_text)]
    after: Option<Duration>,
    /// Why, for colleagues
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// What visitors read on the status page [default: Planned maintenance]
    #[arg(long, value_name = "TEXT", default_value = "")]
    title: String,
    /// Keep it off the status page
    #[arg(long)]
    not_public: bool,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    /// Print for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Args)]
struct EndArgs {
    /// Its number, or its name in the config
    #[arg(value_name = "WINDOW")]
    window: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses.
pub fn run(args: MaintenanceArgs) -> anyhow::Result<Exit> {
    match (args.command, args.server) {
        (Some(Command::Start(args)), _) => start(&args),
        (Some(Command::List(args)), _) => list(&args),
        (Some(Command::End(args)), _) => end(&args),
        (None, Some(server)) => admin::take_out(server, args.by, args.ask),
        (None, None) => bail!("name a server, or write `mainstay maintenance start TARGET --for 1h`"),
    }
}

fn start(args: &StartArgs) -> anyhow::Result<Exit> {
    let mut body = json!({
        "targets": args.targets, "for": people_duration(args.lasts), "reason": args.reason, "title": args.title,
        "public": !args.not_public, "by": args.by,
    });
    if let Some(after) = args.after {
        body["from"] = json!((Timestamp::now() + after).as_millisecond());
    }
    let answer = args.ask.post("/api/v1/maintenance", &body)?;
    let window: WindowSnapshot = read(&answer)?;
    let text = match (args.json, window.open.or(window.next.first().copied())) {
        (true, _) => serde_json::to_string_pretty(&window)? + "\n",
        (false, None) => format!("window {} is over\n", window.id),
        (false, Some(time)) => {
            let covers = clean(&window.policy.covers.words());
            let what = if window.open.is_some() { "is open" } else { "comes" };
            let (from, to) = (moment(time.from), moment(time.to));
            format!("window {} {what} for {covers}: {from} to {to}\n", window.id)
        }
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let windows: Vec<WindowSnapshot> = read(&args.ask.get("/api/v1/maintenance")?)?;
    let text = if args.json {
        serde_json::to_string_pretty(&windows)? + "\n"
    } else if windows.is_empty() {
        "no window is open or planned\n".to_owned()
    } else {
        let now = Wall(Timestamp::now().as_millisecond());
        lines(&windows, now, true, Paint::for_stdout())
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

fn end(args: &EndArgs) -> anyhow::Result<Exit> {
    args.ask.delete(&format!("/api/v1/maintenance/{}", args.window))?;
    super::print(&format!("window {} is over\n", args.window))?;
    Ok(Exit::Ok)
}

fn read<T: serde::de::DeserializeOwned>(answer: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(answer).context("it answered, but not as this version of Mainstay does")
}

/// The windows, one a line; unless `all`, only those that are open.
pub(super) fn lines(windows: &[WindowSnapshot], now: Wall, all: bool, paint: Paint) -> String {
    let row = |window: &WindowSnapshot| {
        let (state, tone, when) = match (window.open, window.next.first()) {
            (Some(time), _) => ("◇ open", Tone::Warning, format!("for {} more", between(now, time.to))),
            (None, Some(time)) => ("planned", Tone::Quiet, format!("in {}", between(now, time.from))),
            (None, None) => ("over", Tone::Quiet, String::new()),
        };
        let time = window.open.or(window.next.first().copied());
        let by = window.by.as_ref().map(|by| format!("by {}", clean(by))).unwrap_or_default();
        vec![
            Cell::text(&*window.id),
            Cell::text(state).tone(tone),
            Cell::text(when),
            Cell::text(time.map_or_else(String::new, |time| times(time, &window.policy.zone))),
            Cell::text(clean(&window.policy.covers.words())),
            Cell::text(clean(&window.policy.reason)),
            Cell::text(by),
        ]
    };
    let shown = windows.iter().filter(|window| all || window.open.is_some());
    let rows: Vec<Vec<Cell>> = shown.map(row).collect();
    table(paint, &rows)
}

/// What `check-config` says of the windows of a config: when they come next.
pub(super) fn config_lines(config: &Config) -> Vec<String> {
    let now = Wall(Timestamp::now().as_millisecond());
    let line = |(id, schedule): (&std::sync::Arc<str>, &crate::config::Planned)| {
        let policy = config.policy.windows.get(id)?;
        let next = schedule.occurrences(now, NEXT_MAX);
        let next: Vec<String> = next.iter().take(NEXT_MAX).map(|time| times(*time, &policy.zone)).collect();
        let when =
            if next.is_empty() { "it is over, and does not come again".to_owned() } else { next.join("; ") };
        Some(format!("{id}: {}; {when}", policy.covers.words()))
    };
    config.maintenance.iter().filter_map(line).collect()
}

/// `Sun 2026-11-29 02:00 to 04:00 Europe/Berlin`
fn times(time: Occurrence, zone: &str) -> String {
    let found = TimeZone::get(zone).ok().filter(|_| !zone.is_empty());
    let (zone, name) = found.map_or((TimeZone::UTC, "UTC"), |found| (found, zone));
    let local = |at: Wall, form: &str| {
        Timestamp::from_millisecond(at.0)
            .map_or_else(|_| "unknown".to_owned(), |at| at.to_zoned(zone.clone()).strftime(form).to_string())
    };
    let day = "%a %F %H:%M";
    let same_day = local(time.from, "%F") == local(time.to, "%F");
    let to = local(time.to, if same_day { "%H:%M" } else { day });
    format!("{} to {to} {name}", local(time.from, day))
}
