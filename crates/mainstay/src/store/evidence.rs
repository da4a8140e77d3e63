//! What was done about an incident and who was told of it, as rows that a report shows.

use mainstay_model::Wall;
use mainstay_model::helped::Helped;
use mainstay_model::host::seconds::Seconds;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// Actions, and messages, of one incident that a report names.
const EVIDENCE_MAX: usize = 1000;

/// An action of recovery, as it was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAction {
    /// Its number.
    pub id: i64,
    /// `service/server`.
    pub server: String,
    /// `start`, `restart`, …
    pub kind: String,
    /// Why it was done.
    pub reason: String,
    /// When its intent was written down.
    pub begun_at: Wall,
    /// When it ended; `None`: not yet, or that is not known.
    pub ended_at: Option<Wall>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether it helped; `None`: that was not judged, or not yet.
    pub helped: Option<Helped>,
}

/// A message to people, as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// The way it took: `email`, `webhook`, …
    pub channel: String,
    /// What it told: `opened`, `resolved`, …
    pub kind: String,
    /// When it was written into the outbox.
    pub queued_at: Wall,
    /// When it was last tried.
    pub tried_at: Option<Wall>,
    /// How often.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// It is not tried again: it was accepted, or with an error given up.
    pub done: bool,
}

/// What was done about an incident, who was told of it, and how the machine was.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Oldest first.
    pub actions: Vec<StoredAction>,
    /// Oldest first.
    pub messages: Vec<StoredMessage>,
    /// The machine around it; empty where it was not watched.
    pub machine: Seconds,
}

/// Reads it, by an incident's number; the machine is for the caller to add.
pub(super) fn read(connection: &Connection, id: i64) -> rusqlite::Result<Evidence> {
    let mut actions = connection.prepare(
        "SELECT id, server, kind, reason, begun_at, ended_at, error, helped FROM action
                 WHERE incident = ? ORDER BY id LIMIT ?",
    )?;
    let most = i64::try_from(EVIDENCE_MAX).unwrap_or(i64::MAX);
    let actions = actions.query_map([id, most], |row| {
        Ok(StoredAction {
            id: row.get(0)?,
            server: row.get(1)?,
            kind: row.get(2)?,
            reason: row.get(3)?,
            begun_at: Wall(row.get(4)?),
            ended_at: row.get::<_, Option<i64>>(5)?.map(Wall),
            error: row.get(6)?,
            helped: row.get::<_, Option<String>>(7)?.and_then(|json| serde_json::from_str(&json).ok()),
        })
    })?;
    let actions = actions.collect::<Result<_, _>>()?;
    let mut messages = connection.prepare(
        "SELECT channel, kind, queued_at, tried_at, attempts, error, done FROM outbox
                 WHERE incident = ? ORDER BY row LIMIT ?",
    )?;
    let messages = messages.query_map([id, most], |row| {
        Ok(StoredMessage {
            channel: row.get(0)?,
            kind: row.get(1)?,
            queued_at: Wall(row.get(2)?),
            tried_at: row.get::<_, Option<i64>>(3)?.map(Wall),
            attempts: row.get(4)?,
            error: row.get(5)?,
            done: row.get(6)?,
        })
    })?;
    Ok(Evidence { actions, messages: messages.collect::<Result<_, _>>()?, machine: Seconds::default() })
}
