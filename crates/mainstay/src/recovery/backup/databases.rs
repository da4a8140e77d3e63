//! Copies of databases that are in use: whole as of one moment, without stopping anybody.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::job::Dump;

/// How long a writer that holds its lock is waited for.
const LOCKED_MAX: Duration = Duration::from_secs(60);
/// Between two tries for a lock.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);
/// Of what a program wrote when it failed, its last so many characters are told.
const STDERR_TOLD: usize = 400;

/// Copies a SQLite database with the online backup that SQLite has for it: whole, in one step, while others read and,
/// with a write-ahead log, write.
///
/// # Errors
/// In words, with the database's path.
pub(super) fn copy_sqlite(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: rusqlite::Error| format!("SQLite database {}: {error}", from.display());
    if !from.is_file() {
        return Err(format!("SQLite database {}: there is no such file", from.display()));
    }
    let open = |how| Connection::open_with_flags(from, how | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    // One with a write-ahead log in a folder that may not be written to cannot be read without its helper files.
    let source = open(OpenFlags::SQLITE_OPEN_READ_ONLY)
        .or_else(|_| open(OpenFlags::SQLITE_OPEN_READ_WRITE))
        .map_err(failed)?;
    let mut copy = Connection::open(to).map_err(failed)?;
    let backup = Backup::new(&source, &mut copy).map_err(failed)?;
    let until = Instant::now() + LOCKED_MAX;
    loop {
        match backup.step(-1).map_err(failed)? {
            StepResult::Done => return Ok(()),
            _ if Instant::now() >= until => {
                return Err(format!(
                    "SQLite database {}: it was locked for {} s by another program",
                    from.display(),
                    LOCKED_MAX.as_secs()
                ));
            }
            _ => std::thread::sleep(LOCKED_PAUSE),
        }
    }
}

/// SQLite's own look at every page of a copy.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check_sqlite(copy: &Path) -> Result<(), String> {
    let verdict = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|connection| connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
        .unwrap_or_else(|error| error.to_string());
    match verdict.as_str() {
        "ok" => Ok(()),
        wrong => Err(format!("SQLite finds it damaged: {wrong}")),
    }
}

/// Writes a dump with `pg_dump`, in its custom format.
///
/// # Errors
/// In words: there is no such program, or what it said.
pub(super) fn dump_postgres(dump: &Dump, to: &Path) -> Result<(), String> {
    let mut command = Command::new("pg_dump");
    command.args(["--format=custom", "--no-password", "--file"]).arg(to).arg("--dbname").arg(&dump.url);
    if let Some(password) = &dump.password {
        command.env("PGPASSWORD", password);
    }
    finish(&mut command, "pg_dump", "postgresql-client").map_err(|error| format!("{}: {error}", dump.url))
}

/// Reads a dump from its first to its last byte as `pg_restore` would.
///
/// # Errors
/// In words.
pub(super) fn check_postgres(dump: &Path) -> Result<(), String> {
    let mut command = Command::new("pg_restore");
    command.arg("--file=/dev/null").arg(dump);
    finish(&mut command, "pg_restore", "postgresql-client")
}

/// A file of the scratch folder for the copy of what lies at `path`.
pub(super) fn copy_of(path: &Path, scratch: &Path, number: usize) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    scratch.join(format!("{number}-{name}"))
}

fn finish(command: &mut Command, program: &str, package: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output().map_err(
        |error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no {program} here; install {package}"),
            _ => format!("{program} could not be started: {error}"),
        },
    )?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<char> = said.trim().chars().collect();
    let end: String = said[said.len().saturating_sub(STDERR_TOLD)..].iter().collect();
    Err(format!("{program} failed ({}): {}", output.status, end.replace('\n', "; ")))
}
