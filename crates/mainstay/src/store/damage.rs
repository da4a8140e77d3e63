//! A damaged file is moved aside and a new record begun, because a site must not stay down for its history.
//! The numbers of incidents, actions and messages go on where they were, as far as they can still be read.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_model::Wall;
use rusqlite::Connection;

use super::restore::{self, Left};
use super::{schema, trouble, writer};

/// A record that can be written to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) left: Left,
    /// What a person is told when the file was damaged.
    pub(super) moved_aside: Option<String>,
}

/// Opens the record, or moves a damaged one aside and begins a new one.
pub(super) fn open_or_replace(path: &Path, now: Wall) -> rusqlite::Result<Opened> {
    match open(path, now) {
        Ok((connection, left)) => {
            clear_suspicion(path);
            Ok(Opened { connection, left, moved_aside: None })
        }
        Err(error) if trouble::is_damage(&error) => {
            tracing::error!(path = %path.display(), %error, "the record is damaged");
            let numbers = salvage(path);
            let aside = move_aside(path, now).map_err(|error| {
                let text =
                    format!("the file is damaged and cannot be moved aside: {error}; move it away yourself");
                rusqlite::Error::ToSqlConversionFailure(text.into())
            })?;
            clear_suspicion(path);
            let connection = schema::open_writer(path)?;
            for (name, value) in numbers {
                writer::highest(&connection, name, value)?;
            }
            let left = restore::read(&connection, now)?;
            let text = format!(
                "the file was damaged ({error}) and was moved to {}; a new record was begun: \
                 earlier incidents and charts are in that file only",
                aside.display()
            );
            Ok(Opened { connection, left, moved_aside: Some(text) })
        }
        Err(error) => Err(error),
    }
}

/// Notes that the file looked damaged, so that the next start checks it whole.
pub(super) fn suspect(path: &Path) {
    if let Err(error) = fs::write(beside(path, ".suspect"), b"") {
        tracing::error!(%error, "it could not be noted that the record looks damaged");
    }
}

fn open(path: &Path, now: Wall) -> rusqlite::Result<(Connection, Left)> {
    let connection = schema::open_writer(path)?;
    if beside(path, ".suspect").exists() {
        check(&connection)?;
    }
    let left = restore::read(&connection, now)?;
    Ok((connection, left))
}

/// Reads the whole file; seconds for a large one, so it is done only on suspicion.
fn check(connection: &Connection) -> rusqlite::Result<()> {
    let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if answer == "ok" {
        return Ok(());
    }
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(corrupt, Some(answer)))
}

fn clear_suspicion(path: &Path) {
    match fs::remove_file(beside(path, ".suspect")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the mark of a damaged record could not be removed");
        }
        _ => {}
    }
}

/// The numbers that must not be used again, as far as the damaged file still tells them.
fn salvage(path: &Path) -> Vec<(&'static str, i64)> {
    let Ok(connection) = schema::open_reader(path, Duration::from_secs(1)) else { return Vec::new() };
    ["incident", "action", "outbox"]
        .into_iter()
        .filter_map(|name| Some((name, restore::counter(&connection, name).ok()?)))
        .collect()
}

fn move_aside(path: &Path, now: Wall) -> io::Result<PathBuf> {
    let aside = beside(path, &format!(".damaged-{}", now.0));
    fs::rename(path, &aside)?;
    for log in ["-wal", "-shm"] {
        match fs::rename(beside(path, log), beside(&aside, log)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
