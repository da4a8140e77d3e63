//! `mainstay backup`: makes backups, tries them out, lists and restores them. Listing and restoring need neither a running
//! Mainstay nor its record: the day on which they are needed is the day on which both may be gone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use mainstay_model::input::{BackupDone, BackupTask};
use mainstay_model::snapshot::BackupSnapshot;
use mainstay_model::{BackupId, Wall};
use serde_json::{Value, json};

use super::args::config_path;
use super::ask::AskArgs;
use super::paint::{Cell, Paint, Tone, clean, counted, moment, table};
use crate::config::{self, Config};
use crate::exit_code::Exit;
use crate::recovery::backup::{self, Job, Snapshot};

/// Between two looks at a backup that is being made.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Options of `mainstay backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay backup run                          make every backup of the config now
  mainstay backup list nightly                 what could be restored
  mainstay backup verify nightly               restore the newest to a scratch folder and compare
  mainstay backup restore nightly /tmp/shop    bring the newest back, into a new folder
  mainstay backup restore nightly /tmp/db --snapshot 1a2b3c4d --path /srv/shop/shop.db

The repository has restic's format: `restic -r FOLDER snapshots` reads it too.

Exit status: 0 done, 1 could not be done, 2 the command line or the config has mistakes.")]
pub struct BackupArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make backups now
    Run(Which),
    /// Restore the newest snapshot to a scratch folder and compare it
    Verify(Which),
    /// Show the snapshots that could be restored
    List(Which),
    /// Bring a snapshot back, into a new folder
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
struct Which {
    /// The backup's name in the config; all of them by default
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The config [default: ./mainstay.toml, else /etc/mainstay/mainstay.toml]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Do it in this process and leave a running Mainstay out of it; it will not know of it
    #[arg(long)]
    here: bool,
    /// The running Mainstay's admin address [default: as the config says]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The token, if the running Mainstay wants one; better given as MAINSTAY_TOKEN
    #[arg(long, env = "MAINSTAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print for a program
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    /// The backup's name in the config
    #[arg(value_name = "NAME")]
    name: String,
    /// The folder to restore into; it is made, and must be empty if it is there
    #[arg(value_name = "FOLDER")]
    to: PathBuf,
    /// The snapshot, as `mainstay backup list` shows it [default: the newest]
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// Only what lies here in the snapshot: a folder or a file
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// The config [default: ./mainstay.toml, else /etc/mainstay/mainstay.toml]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When the config has mistakes or names no such backup, or nothing could be done.
pub fn run(args: BackupArgs) -> anyhow::Result<Exit> {
    match args.what {
        What::Run(which) => make(&which, BackupTask::Run),
        What::Verify(which) => make(&which, BackupTask::Verify),
        What::List(which) => list(&which),
        What::Restore(args) => restore(&args),
    }
}

fn make(which: &Which, task: BackupTask) -> anyhow::Result<Exit> {
    let config = load(which.config.as_ref())?;
    let paint = Paint::for_stdout();
    let mut all_good = true;
    let mut results = Vec::new();
    for id in names(&config, which.name.as_deref())? {
        let began = Instant::now();
        let result = match which.here {
            true => here(&config, &id, task),
            // One that cannot be asked for keeps no other from being made.
            false => by_mainstay(which, &config, &id, task).unwrap_or_else(|error| Err(format!("{error:#}"))),
        };
        all_good &= result.is_ok();
        if which.json {
            results.push(for_programs(&id, task, &result, began.elapsed()));
        } else {
            super::print(&for_people(&id, task, &result, began.elapsed(), paint))?;
        }
    }
    if which.json {
        super::print(&format!("{:#}\n", Value::Array(results)))?;
    }
    Ok(if all_good { Exit::Ok } else { Exit::Failed })
}

fn here(config: &Config, id: &BackupId, task: BackupTask) -> backup::Answer {
    backup::work(&job(config, id, task))
}

/// Has the running Mainstay do it, so that it is in its record; without one, it is done here.
fn by_mainstay(
    which: &Which,
    config: &Config,
    id: &BackupId,
    task: BackupTask,
) -> anyhow::Result<backup::Answer> {
    let ask = AskArgs::of(which.admin.clone(), which.config.clone(), which.token.clone());
    let Ok(before) = ask.snapshot() else {
        // Its reason may be a wrong token, but a backup that is wanted is worth more than the right place for it.
        eprintln!("mainstay: no running Mainstay answers, so this is done here and is not in its record");
        return Ok(here(config, id, task));
    };
    let find = |backups: &[BackupSnapshot]| backups.iter().find(|backup| backup.id == *id).cloned();
    let Some(before) = find(&before.backups) else {
        bail!("the running Mainstay has no backup {id}: it goes by another config; use --here");
    };
    let last = |backup: &BackupSnapshot| match task {
        BackupTask::Run => backup.last_run.clone(),
        BackupTask::Verify => backup.last_verify.clone(),
    };
    let earlier = last(&before).map(|record| record.ended_at);
    ask.post(&format!("/api/v1/backups/{id}/{}", task.as_str()), &json!({}))?;
    let policy = config.policy.backups.get(id).cloned().unwrap_or_default();
    let until = Instant::now() + policy.deadline.saturating_mul(2);
    while Instant::now() < until {
        std::thread::sleep(LOOK_EVERY);
        let now = find(&ask.snapshot()?.backups).context("the backup has left the config meanwhile")?;
        if let Some(record) = last(&now).filter(|record| Some(record.ended_at) != earlier) {
            return Ok(record.outcome.result);
        }
    }
    bail!("it has not ended within twice its deadline")
}

fn list(which: &Which) -> anyhow::Result<Exit> {
    let config = load(which.config.as_ref())?;
    let paint = Paint::for_stdout();
    let mut rows = vec![["backup", "snapshot", "of", "files", "size", "what"].map(Cell::text).to_vec()];
    let mut found = Vec::new();
    let (mut empty, mut broken) = (String::new(), String::new());
    for id in names(&config, which.name.as_deref())? {
        match backup::list(&job(&config, &id, BackupTask::Run)) {
            Ok(snapshots) => {
                if snapshots.is_empty() {
                    empty.push_str(&format!("{id}: there is no snapshot yet\n"));
                }
                rows.extend(snapshots.iter().map(|snapshot| row(&id, snapshot)));
                found.extend(snapshots.iter().map(|snapshot| listed(&id, Ok(snapshot))));
            }
            // What the others have is wanted all the more.
            Err(error) => {
                let bad = paint.tone(Tone::Bad, "✗");
                broken.push_str(&format!("{bad} {id} cannot be listed: {}\n", clean(&error)));
                found.push(listed(&id, Err(error.as_str())));
            }
        }
    }
    let exit = if broken.is_empty() { Exit::Ok } else { Exit::Failed };
    let snapshots = if rows.len() > 1 { table(paint, &rows) } else { String::new() };
    super::print(&match which.json {
        true => format!("{:#}\n", Value::Array(found)),
        false => format!("{snapshots}{empty}{broken}"),
    })?;
    Ok(exit)
}

/// A snapshot for programs, or why those of this backup are not known.
fn listed(id: &BackupId, snapshot: Result<&Snapshot, &str>) -> Value {
    let (found, error) = (snapshot.ok(), snapshot.err());
    json!({
        "backup": id, "snapshot": found.map(|s| &s.id), "at": found.map(|s| s.at),
        "files": found.map(|s| s.files), "bytes": found.map(|s| s.bytes), "paths": found.map(|s| &s.paths),
        "error": error,
    })
}

fn row(id: &BackupId, snapshot: &Snapshot) -> Vec<Cell> {
    vec![
        Cell::text(clean(id.as_str())),
        Cell::text(snapshot.id.get(..8).unwrap_or(&snapshot.id)),
        Cell::text(moment(snapshot.at)),
        Cell::figure(snapshot.files.to_string()),
        Cell::figure(size(snapshot.bytes)),
        Cell::text(clean(&snapshot.paths.join(", "))),
    ]
}

fn restore(args: &RestoreArgs) -> anyhow::Result<Exit> {
    let config = load(args.config.as_ref())?;
    let id = names(&config, Some(&args.name))?.remove(0);
    let job = job(&config, &id, BackupTask::Run);
    let began = Instant::now();
    let to = std::path::absolute(&args.to)?;
    let restored = backup::restore(&job, args.snapshot.as_deref(), args.path.as_deref(), &to);
    let (snapshot, files) = restored.map_err(|error| anyhow::anyhow!("{error}"))?;
    super::print(&format!(
        "restored {} of {} into {} in {:.1} s (snapshot {})\n",
        counted(files, "file"),
        moment(snapshot.at),
        to.display(),
        began.elapsed().as_secs_f64(),
        snapshot.id.get(..8).unwrap_or(&snapshot.id),
    ))?;
    Ok(Exit::Ok)
}

fn load(path: Option<&PathBuf>) -> anyhow::Result<Config> {
    Ok(config::load(&config_path(path.map(PathBuf::as_path)))?)
}

/// The backup that is meant, or all of them.
fn names(config: &Config, name: Option<&str>) -> anyhow::Result<Vec<BackupId>> {
    let all: Vec<BackupId> = config.backups.keys().cloned().collect();
    if all.is_empty() {
        bail!("the config has no backup; write [backup.nightly] with repository, password and folders");
    }
    match name {
        None => Ok(all),
        Some(name) => match all.iter().find(|id| id.as_str() == name) {
            Some(id) => Ok(vec![id.clone()]),
            None => {
                let all: Vec<&str> = all.iter().map(BackupId::as_str).collect();
                bail!("there is no backup {name}; there are: {}", all.join(", "))
            }
        },
    }
}

fn job(config: &Config, id: &BackupId, task: BackupTask) -> Job {
    let mut job = Job::new(id.as_str(), task, &config.backups[id]);
    // Not the folder of a running Mainstay, which may be at work in its own.
    job.scratch.set_extension(format!("{}.scratch", std::process::id()));
    job
}

fn for_people(
    id: &BackupId,
    task: BackupTask,
    result: &backup::Answer,
    took: Duration,
    paint: Paint,
) -> String {
    let took = took.as_secs_f64();
    match result {
        Ok(BackupDone { snapshot, data_at, files, bytes, note }) => {
            let what = match task {
                BackupTask::Run => "backed up",
                BackupTask::Verify => "verified",
            };
            let note = if note.is_empty() { String::new() } else { format!("; {note}") };
            format!(
                "{} {id} {what} in {took:.1} s: {}, {}, snapshot {snapshot}, data of {}{note}\n",
                paint.tone(Tone::Good, "✓"),
                counted(*files, "file"),
                size(*bytes),
                moment(*data_at),
            )
        }
        Err(error) => {
            format!("{} {id} failed after {took:.1} s: {}\n", paint.tone(Tone::Bad, "✗"), clean(error))
        }
    }
}

fn for_programs(id: &BackupId, task: BackupTask, result: &backup::Answer, took: Duration) -> Value {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (done, error) = (result.as_ref().ok(), result.as_ref().err());
    let data_at: Option<Wall> = done.map(|done| done.data_at);
    json!({
        "backup": id, "task": task, "ok": done.is_some(), "took_ms": took_ms, "data_at": data_at,
        "snapshot": done.map(|done| &done.snapshot), "files": done.map(|done| done.files),
        "bytes": done.map(|done| done.bytes), "note": done.map(|done| &done.note), "error": error,
    })
}

/// `1.2 MB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_in_the_unit_that_people_use() {
        let sizes = [0, 999, 1000, 1_250_000, 5_000_000_000].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 GB"]);
    }

    #[test]
    fn a_program_gets_the_same_keys_for_good_and_bad() {
        let id = BackupId::new("nightly");
        let done = BackupDone {
            snapshot: "1a2b3c4d".into(),
            data_at: Wall(5),
            files: 2,
            bytes: 20,
            note: String::new(),
        };
        let good = for_programs(&id, BackupTask::Run, &Ok(done), Duration::from_millis(7));
        let bad = for_programs(&id, BackupTask::Run, &Err("no".into()), Duration::ZERO);
        assert_eq!(
            (&good["ok"], &good["snapshot"], &good["data_at"]),
            (&json!(true), &json!("1a2b3c4d"), &json!(5))
        );
        assert_eq!((&bad["ok"], &bad["error"]), (&json!(false), &json!("no")));
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&good), keys(&bad));
    }
}
