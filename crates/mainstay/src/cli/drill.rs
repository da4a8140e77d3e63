//! `mainstay drill`: makes a fault at one server on purpose, follows what comes of it, and shows what earlier ones came to.

use std::io::{IsTerminal as _, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mainstay_model::drill::{Drill, DrillState, Fault, LASTS_MAX, Measured};
use mainstay_model::snapshot::Snapshot;
use serde::Deserialize;
use serde_json::json;

use super::ask::AskArgs;
use super::deploy::address;
use super::paint::{clean, moment};
use super::table::table;
use crate::config::{duration_from_text, people_duration};
use crate::exit_code::Exit;

/// Between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(200);
/// A Mainstay that does not answer for so long is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `mainstay drill`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Faults:
  kill         its process is killed
  hang         its process is stopped, and let go on at the end
  refuse       it refuses connections
  black-hole   its network swallows everything
  reset        it breaks each answer off in the middle
  slow         it takes 2 s longer for each answer, and its probes are fine
  errors       every second answer is a 500, and its probes are fine
  certificate  its certificate has expired (only a server spoken to over TLS)
  disk-full    the disk of Mainstay's own record is full
  dns          DNS does not answer where servers are that are written by name

The fault is made by Mainstay, at one server or at itself, and is gone at the end of --for, as soon as more than
1 % of the requests fail after the first second, when nobody else is left to serve, and when you press Enter or Ctrl-C.
Nobody is told of it unless --alert is given. There is no drill while an incident is open.

Examples:
  mainstay drill shop kill                    the server that was drilled longest ago
  mainstay drill shop slow --server app-2 --for 20s
  mainstay drill list                         what drills came to, and which are too old
  mainstay drill stop                         end the one that is under way

Exit status: 0 everything was well again, or (disk-full, dns) nothing came of it (list, stop: done);
1 it was refused, stopped, noticed by nobody, or not well in time."
)]
pub struct DrillArgs {
    #[command(subcommand)]
    other: Option<Other>,
    /// The service
    #[arg(required = true)]
    service: Option<String>,
    /// What is made to fail
    #[arg(required = true, value_parser = fault)]
    fault: Option<Fault>,
    /// Which server [default: the one that was drilled longest ago]
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// How long the fault lasts at most, up to 10m
    #[arg(long = "for", value_name = "TIME", value_parser = lasts, default_value = "30s")]
    lasts: Duration,
    /// Tell people as of any other incident
    #[arg(long)]
    alert: bool,
    /// Also where the service has state (a `switch`)
    #[arg(long)]
    stateful: bool,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    /// Print what came of it, for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Show what drills came to, and which of them are too old to prove anything
    List(ListArgs),
    /// End the drill that is under way
    Stop(StopArgs),
}

/// Options of `mainstay drill list`.
#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this service
    service: Option<String>,
    /// Print for a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Options of `mainstay drill stop`.
#[derive(Debug, Args)]
struct StopArgs {
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Deserialize)]
struct Answer {
    drills: Vec<Drill>,
}

fn fault(word: &str) -> Result<Fault, String> {
    Fault::of(word).ok_or_else(|| {
        let known: Vec<&str> = Fault::ALL.into_iter().map(Fault::as_str).collect();
        format!("there are {}", known.join(", "))
    })
}

fn lasts(text: &str) -> Result<Duration, String> {
    let lasts = duration_from_text(text)?;
    match lasts >= Duration::from_secs(1) && lasts <= LASTS_MAX {
        true => Ok(lasts),
        false => Err("it is from 1s to 10m".to_owned()),
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses; the text says why.
pub fn run(args: DrillArgs) -> anyhow::Result<Exit> {
    match args.other {
        Some(Other::List(list)) => return show_all(&list),
        Some(Other::Stop(stop)) => return end(&stop.ask),
        None => {}
    }
    let (service, fault) = (args.service.unwrap_or_default(), args.fault.context("which fault?")?);
    let order = json!({
        "fault": fault.as_str(),
        "server": args.server.unwrap_or_default(),
        "for": people_duration(args.lasts),
        "alert": args.alert,
        "stateful": args.stateful,
        "by": args.by,
    });
    let presses = Presses::watched();
    let answer = args.ask.post(&address(&service, "drill"), &order)?;
    let begun = read(&answer)?;
    if !args.json {
        let server = begun.server.as_ref().map_or_else(|| "Mainstay itself".to_owned(), ToString::to_string);
        let how = if presses.by_key { "Enter or Ctrl-C ends it" } else { "Ctrl-C ends it" };
        super::print(&format!(
            "drill {}: {} ({server}), for at most {}; {how}\n",
            begun.id,
            fault.title(),
            people_duration(args.lasts)
        ))?;
    }
    let drill = follow(&args.ask, begun, &presses, args.json)?;
    match args.json {
        true => super::print(&format!("{}\n", serde_json::to_string_pretty(&drill)?))?,
        false => super::print(&in_words(&drill))?,
    }
    Ok(if drill.went_well() { Exit::Ok } else { Exit::Failed })
}

/// Looks until it is over, and tells each step as it comes.
fn follow(ask: &AskArgs, begun: Drill, presses: &Presses, quiet: bool) -> anyhow::Result<Drill> {
    let path = format!("/api/v1/drills/{}", begun.id);
    let (mut told, mut heeded) = (Vec::new(), 0);
    let mut answered = Instant::now();
    loop {
        let pressed = presses.count();
        if pressed > heeded {
            heeded = pressed;
            ask.delete(&path)?;
        }
        match ask.get(&path).and_then(|answer| read(&answer)) {
            Ok(drill) => {
                answered = Instant::now();
                for step in steps(&drill).into_iter().filter(|_| !quiet) {
                    if !told.contains(&step.1) {
                        super::print(&format!("{:>10}  {}\n", format!("+{} ms", step.0), step.1))?;
                        told.push(step.1);
                    }
                }
                if drill.state.is_over() {
                    return Ok(drill);
                }
            }
            // It may be restarting just now.
            Err(error) if answered.elapsed() >= PATIENCE => return Err(error),
            Err(_) => {}
        }
        std::thread::sleep(LOOK);
    }
}

/// What has happened, in the order of its times.
fn steps(drill: &Drill) -> Vec<(u64, &'static str)> {
    let measured = &drill.measured;
    let gone = drill.undone_at.zip(drill.began_at);
    let gone = gone.map(|(undone, began)| u64::try_from(undone.ms_since(began)).unwrap_or(0));
    let gone = gone.filter(|_| drill.fault != Fault::Kill);
    let mut steps: Vec<(u64, &'static str)> = [
        (measured.notice_ms, "noticed"),
        (measured.divert_ms, "out of rotation"),
        (measured.act_ms, "first action"),
        (measured.alert_ms, if drill.alert { "people are told" } else { "people would be told" }),
        (gone, "the fault is gone"),
        (measured.recover_ms, "everything is well"),
    ]
    .into_iter()
    .filter_map(|(at, what)| Some((at?, what)))
    .collect();
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// What came of it, for a person.
fn in_words(drill: &Drill) -> String {
    let Measured { requests, failed, saved, .. } = drill.measured;
    let mut text = format!("  {}\n", outcome(drill));
    match requests {
        0 => text.push_str("  nobody came meanwhile, so what visitors would have felt is not known\n"),
        _ => text.push_str(&format!(
            "  requests         {requests}\n  failed           {failed}\n  saved by a retry {saved}\n"
        )),
    }
    let times = times(drill);
    let names = ["notice", "divert", "alert", "act", "recover"];
    for (name, time) in names.iter().zip(times) {
        text.push_str(&format!("  time to {name:<8} {time}\n"));
    }
    if !drill.measured.done.is_empty() {
        text.push_str(&format!("  done             {}\n", drill.measured.done.join(", ")));
    }
    if let Some(incident) = drill.incident {
        text.push_str(&format!("  incident         {incident}\n"));
    }
    text
}

fn outcome(drill: &Drill) -> String {
    let word = match drill.state {
        DrillState::Ordered | DrillState::UnderWay => "under way",
        DrillState::Recovering => "recovering",
        DrillState::Recovered => "recovered",
        DrillState::Unnoticed => "unnoticed",
        DrillState::Stopped => "stopped",
        DrillState::NotRecovered => "not well again in time",
        DrillState::Refused => "refused",
        DrillState::Failed => "could not be made",
        DrillState::BrokenOff => "broken off",
    };
    if drill.why.is_empty() { word.to_owned() } else { format!("{word}: {}", clean(&drill.why)) }
}

fn times(drill: &Drill) -> [String; 5] {
    let m = &drill.measured;
    [m.notice_ms, m.divert_ms, m.alert_ms, m.act_ms, m.recover_ms]
        .map(|ms| ms.map_or("–".to_owned(), |ms| format!("{ms} ms")))
}

fn show_all(list: &ListArgs) -> anyhow::Result<Exit> {
    let answer = list.ask.get("/api/v1/drills")?;
    let mut drills = serde_json::from_slice::<Answer>(&answer)
        .context("it answered, but not as this version of Mainstay does")?
        .drills;
    drills.retain(|drill| list.service.as_ref().is_none_or(|service| drill.service.as_str() == service));
    if list.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&drills)?))?;
        return Ok(Exit::Ok);
    }
    if drills.is_empty() {
        super::print("There was no drill yet; `mainstay drill --help` says how to make one.\n")?;
        return Ok(Exit::Ok);
    }
    let now = list.ask.snapshot().map(|snapshot: Snapshot| snapshot.at)?;
    let head = [
        "drill",
        "when",
        "service",
        "server",
        "fault",
        "noticed",
        "diverted",
        "alerted",
        "acted",
        "recovered",
        "failed",
        "saved",
        "outcome",
    ];
    let rows: Vec<Vec<String>> = drills
        .iter()
        .map(|drill| {
            let server = drill.server.as_ref().map_or("–".to_owned(), |server| server.name.to_string());
            let stale = if drill.state.is_proof() && drill.is_stale(now) { ", too old to count" } else { "" };
            let mut row = vec![
                drill.id.to_string(),
                moment(drill.at),
                drill.service.to_string(),
                server,
                drill.fault.to_string(),
            ];
            row.extend(times(drill));
            row.push(format!("{} of {}", drill.measured.failed, drill.measured.requests));
            row.push(drill.measured.saved.to_string());
            row.push(format!("{}{stale}", outcome(drill)));
            row
        })
        .collect();
    super::print(&table(&head, &rows))?;
    Ok(Exit::Ok)
}

fn end(ask: &AskArgs) -> anyhow::Result<Exit> {
    let drills = serde_json::from_slice::<Answer>(&ask.get("/api/v1/drills")?)?.drills;
    let Some(drill) = drills.iter().find(|drill| !drill.state.is_over()) else {
        super::print("no drill is under way\n")?;
        return Ok(Exit::Ok);
    };
    ask.delete(&format!("/api/v1/drills/{}", drill.id))?;
    super::print(&format!("the fault of drill {} is undone\n", drill.id))?;
    Ok(Exit::Ok)
}

fn read(answer: &[u8]) -> anyhow::Result<Drill> {
    serde_json::from_slice(answer).context("it answered, but not as this version of Mainstay does")
}

/// How often somebody wanted it to end, by Ctrl-C or by Enter.
struct Presses {
    times: Arc<AtomicU32>,
    /// There is a keyboard.
    by_key: bool,
}

impl Presses {
    fn watched() -> Self {
        let times = Arc::new(AtomicU32::new(0));
        let by_key = std::io::stdin().is_terminal();
        let by_signal = Arc::clone(&times);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    by_signal.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        if by_key {
            let by_enter = Arc::clone(&times);
            std::thread::spawn(move || {
                let mut key = [0; 1];
                while std::io::stdin().read(&mut key).is_ok_and(|n| n == 1) {
                    by_enter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { times, by_key }
    }

    fn count(&self) -> u32 {
        self.times.load(Ordering::Relaxed)
    }
}
