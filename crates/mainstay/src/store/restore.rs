//! What an earlier run left: read once, when the record is opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_model::carried::Carried;
use mainstay_model::change::Change;
use mainstay_model::drill::{self, Drill};
use mainstay_model::impact::{Curve, Tally};
use mainstay_model::incident::{Incident, TimelineEntry};
use mainstay_model::input::{AdminState, BackupRecord, Restored};
use mainstay_model::lead::LeadRecord;
use mainstay_model::pace::{PaceHour, Slowed};
use mainstay_model::proposal::{KEPT_MAX, Proposal};
use mainstay_model::publication::Publication;
use mainstay_model::release::Release;
use mainstay_model::switch::SwitchRun;
use mainstay_model::window::HandWindow;
use mainstay_model::{ActionId, IncidentId, ServerId, ServiceId, Wall};
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::de::DeserializeOwned;

use crate::alert::{Delivery, Remembered};

/// Budgets of recovery look back no further.
const RESTARTS_MS: i64 = 24 * 3_600_000;

/// What an earlier run left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// For the judge.
    pub(super) restored: Restored,
    /// Messages that are neither delivered nor given up, in the order of their rows.
    pub(super) pending: Vec<Delivery>,
    /// What the outbox means for text messages.
    pub(super) remembered: Remembered,
    /// The highest number of the outbox ever used; 0 if none.
    pub(super) last_outbox_row: i64,
    /// The number of the last run; 0 if none.
    pub(super) last_run: i64,
}

/// Reads it. A row that cannot be understood is logged and left out: it must not keep Mainstay from starting.
pub(super) fn read(connection: &Connection, now: Wall) -> rusqlite::Result<Left> {
    let (last_run, last_alive) = last_run(connection)?;
    let (publications, publications_left_out) = publications(connection)?;
    let restored = Restored {
        incidents: unresolved(connection)?,
        tallies: tallies(connection)?,
        last_incident: counter(connection, "incident")?.unsigned_abs(),
        last_action: counter(connection, "action")?.unsigned_abs(),
        proposals: proposals(connection)?,
        remedies: rows(connection, "SELECT remedy FROM remedy", |row| {
            Ok(parse("what helped before", row.get(0)?))
        })?,
        last_proposal: connection
            .query_row("SELECT coalesce(max(number), 0) FROM proposal", [], |row| row.get::<_, i64>(0))?
            .unsigned_abs(),
        admin: admin(connection)?,
        restarts: restarts(connection, Wall(now.0.saturating_sub(RESTARTS_MS)))?,
        unfinished: unfinished(connection)?,
        unfinished_since: unfinished_since(connection)?,
        changes: changes(connection, now)?,
        publications,
        publications_left_out,
        backups: backups(connection)?,
        heartbeats: rows(connection, "SELECT state FROM heartbeat ORDER BY monitor", |row| {
            Ok(parse("a heartbeat", row.get(0)?))
        })?,
        releases: releases(connection)?,
        instances: instances(connection)?,
        paces: paces(connection)?,
        slowed: slowed(connection)?,
        switches: switches(connection)?,
        leads: leads(connection)?,
        substitutes: rows(connection, "SELECT substitute FROM substitute ORDER BY action", |row| {
            Ok(parse("a replacement", row.get(0)?))
        })?,
        carried: Carried::default(),
        windows: windows(connection)?,
        windows_ended: windows_ended(connection)?,
        last_window: counter(connection, "window")?.unsigned_abs(),
        drills: drills(connection)?,
        last_alive,
    };
    let pending =
        rows(connection, "SELECT delivery, attempts FROM outbox WHERE done = 0 ORDER BY row", |row| {
            let delivery: Option<Delivery> = parse("a message", row.get(0)?);
            let attempts = row.get(1)?;
            Ok(delivery.map(|delivery| Delivery { attempts, ..delivery }))
        })?;
    let remembered = super::outbox::remembered(connection, now)?;
    Ok(Left { restored, pending, remembered, last_outbox_row: counter(connection, "outbox")?, last_run })
}

/// The highest number ever used of a kind; 0 if none.
pub(super) fn counter(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection
        .query_row("SELECT coalesce(max(value), 0) FROM counter WHERE name = ?", [name], |row| row.get(0))
}

/// An incident's timeline, oldest first.
pub(super) fn timeline(connection: &Connection, incident: i64) -> rusqlite::Result<Vec<TimelineEntry>> {
    let mut statement =
        connection.prepare_cached("SELECT entry FROM timeline WHERE incident = ? ORDER BY place")?;
    let entries = statement.query_map([incident], |row| row.get::<_, String>(0))?;
    entries.filter_map(|text| text.map(|text| parse("a timeline entry", text)).transpose()).collect()
}

/// What an incident's visitors saw over time; empty when that was not written down.
pub(super) fn curve(connection: &Connection, incident: i64) -> rusqlite::Result<Curve> {
    let mut statement = connection.prepare_cached("SELECT curve FROM impact WHERE incident = ?")?;
    let text = statement.query_row([incident], |row| row.get::<_, String>(0)).optional()?;
    Ok(text.and_then(|text| parse("a curve", text)).unwrap_or_default())
}

/// Reads stored JSON; what cannot be understood is logged.
pub(super) fn parse<T: DeserializeOwned>(what: &str, text: String) -> Option<T> {
    serde_json::from_str(&text)
        .inspect_err(|error| tracing::error!(%error, "{what} in the record cannot be read and is left out"))
        .ok()
}

fn unresolved(connection: &Connection) -> rusqlite::Result<Vec<Incident>> {
    let mut incidents: Vec<Incident> =
        rows(connection, "SELECT head FROM incident WHERE resolved_at IS NULL ORDER BY id", |row| {
            Ok(parse("an incident", row.get(0)?))
        })?;
    for incident in &mut incidents {
        let id = i64::try_from(incident.id.0).unwrap_or(i64::MAX);
        incident.timeline = timeline(connection, id)?;
        incident.curve = curve(connection, id)?;
    }
    Ok(incidents)
}

fn tallies(connection: &Connection) -> rusqlite::Result<BTreeMap<IncidentId, Tally>> {
    let sql = "SELECT incident, tally FROM impact WHERE incident IN
               (SELECT id FROM incident WHERE resolved_at IS NULL) ORDER BY incident";
    let tallies = rows(connection, sql, |row| {
        let id = IncidentId(row.get::<_, i64>(0)?.unsigned_abs());
        Ok(parse("a tally", row.get(1)?).map(|tally| (id, tally)))
    })?;
    Ok(tallies.into_iter().collect())
}

/// Those of the last day.
fn changes(connection: &Connection, now: Wall) -> rusqlite::Result<Vec<Change>> {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let sql = format!("SELECT change FROM change WHERE at > {} ORDER BY at", now.0.saturating_sub(DAY_MS));
    rows(connection, &sql, |row| Ok(parse("a change", row.get(0)?)))
}

fn drills(connection: &Connection) -> rusqlite::Result<Vec<Drill>> {
    let sql = format!("SELECT drill FROM drill ORDER BY id DESC LIMIT {}", drill::KEPT_MAX);
    rows(connection, &sql, |row| Ok(parse("a drill", row.get(0)?)))
}

fn admin(connection: &Connection) -> rusqlite::Result<BTreeMap<ServerId, AdminState>> {
    let states = rows(connection, "SELECT server, state FROM admin ORDER BY server", |row| {
        let state = [AdminState::Draining, AdminState::Maintenance];
        let text: String = row.get(1)?;
        let state = state.into_iter().find(|state| state.as_str() == text);
        Ok(server(row.get(0)?).zip(state))
    })?;
    Ok(states.into_iter().collect())
}

fn paces(connection: &Connection) -> rusqlite::Result<BTreeMap<ServerId, Vec<PaceHour>>> {
    let hours = rows(connection, "SELECT server, hour FROM pace ORDER BY server, at", |row| {
        Ok(server(row.get(0)?).zip(parse("the pace of a server", row.get(1)?)))
    })?;
    let mut paces: BTreeMap<ServerId, Vec<PaceHour>> = BTreeMap::new();
    hours.into_iter().for_each(|(server, hour)| paces.entry(server).or_default().push(hour));
    Ok(paces)
}

fn slowed(connection: &Connection) -> rusqlite::Result<BTreeMap<ServerId, Slowed>> {
    let slowed = rows(connection, "SELECT server, slowed FROM slowed ORDER BY server", |row| {
        Ok(server(row.get(0)?).zip(parse("the pace of a server", row.get(1)?)))
    })?;
    Ok(slowed.into_iter().collect())
}

fn switches(connection: &Connection) -> rusqlite::Result<BTreeMap<ServiceId, SwitchRun>> {
    let runs = rows(connection, "SELECT service, run FROM switch ORDER BY service", |row| {
        let service: String = row.get(0)?;
        Ok(parse("the run of a switch", row.get(1)?).map(|run| (ServiceId::new(service), run)))
    })?;
    Ok(runs.into_iter().collect())
}

fn leads(connection: &Connection) -> rusqlite::Result<BTreeMap<ServiceId, LeadRecord>> {
    let leads = rows(connection, "SELECT service, lead FROM lead ORDER BY service", |row| {
        let service: String = row.get(0)?;
        Ok(parse("the lead of a service", row.get(1)?).map(|lead| (ServiceId::new(service), lead)))
    })?;
    Ok(leads.into_iter().collect())
}

fn windows(connection: &Connection) -> rusqlite::Result<BTreeMap<u64, HandWindow>> {
    let windows = rows(connection, "SELECT number, window FROM maintenance ORDER BY number", |row| {
        let number = row.get::<_, i64>(0)?.unsigned_abs();
        Ok(parse("a maintenance window", row.get(1)?).map(|window| (number, window)))
    })?;
    Ok(windows.into_iter().collect())
}

fn windows_ended(connection: &Connection) -> rusqlite::Result<BTreeMap<Arc<str>, Wall>> {
    let ended = rows(connection, "SELECT name, at FROM maintenance_ended ORDER BY name", |row| {
        Ok(Some((row.get::<_, String>(0)?.into(), Wall(row.get(1)?))))
    })?;
    Ok(ended.into_iter().collect())
}

fn instances(connection: &Connection) -> rusqlite::Result<BTreeMap<ServiceId, u32>> {
    let counts = rows(connection, "SELECT service, count FROM instances ORDER BY service", |row| {
        Ok(Some((ServiceId::new(row.get::<_, String>(0)?), row.get(1)?)))
    })?;
    Ok(counts.into_iter().collect())
}

fn releases(connection: &Connection) -> rusqlite::Result<Vec<(ServiceId, Release)>> {
    rows(connection, "SELECT service, release FROM release ORDER BY service, number", |row| {
        let service: String = row.get(0)?;
        Ok(parse("a release", row.get(1)?).map(|release| (ServiceId::new(service), release)))
    })
}

/// Those that are open, and the last ones that are over, oldest first.
fn proposals(connection: &Connection) -> rusqlite::Result<Vec<Proposal>> {
    let sql = format!(
        "SELECT proposal FROM proposal WHERE over = 0 OR number IN
             (SELECT number FROM proposal WHERE over = 1 ORDER BY number DESC LIMIT {KEPT_MAX})
         ORDER BY number"
    );
    rows(connection, &sql, |row| Ok(parse("a proposal", row.get(0)?)))
}

fn restarts(connection: &Connection, since: Wall) -> rusqlite::Result<Vec<(ServerId, Wall)>> {
    let sql = format!(
        "SELECT server, begun_at FROM action
         WHERE begun_at >= {} AND incident IS NOT NULL AND kind IN ('start', 'restart') ORDER BY begun_at, id",
        since.0
    );
    rows(connection, &sql, |row| Ok(server(row.get(0)?).zip(Some(Wall(row.get(1)?)))))
}

fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<(ActionId, ServerId)>> {
    rows(connection, "SELECT id, server FROM action WHERE ended_at IS NULL ORDER BY id", |row| {
        let id = ActionId(row.get::<_, i64>(0)?.unsigned_abs());
        Ok(Some(id).zip(server(row.get(1)?)))
    })
}

fn unfinished_since(connection: &Connection) -> rusqlite::Result<BTreeMap<ActionId, Wall>> {
    let begun = rows(connection, "SELECT id, begun_at FROM action WHERE ended_at IS NULL", |row| {
        Ok(Some((ActionId(row.get::<_, i64>(0)?.unsigned_abs()), Wall(row.get(1)?))))
    })?;
    Ok(begun.into_iter().collect())
}

/// What is told the public of the newest incidents of which anything is, and the highest number that was left out.
fn publications(connection: &Connection) -> rusqlite::Result<(BTreeMap<IncidentId, Publication>, u64)> {
    let sql = format!(
        "SELECT incident, body FROM publication ORDER BY incident DESC LIMIT {}",
        Publication::KEPT_MAX + 1
    );
    let mut newest = rows(connection, &sql, |row| {
        let id = IncidentId(row.get::<_, i64>(0)?.unsigned_abs());
        Ok(Some((id, parse::<Publication>("what is told the public", row.get(1)?))))
    })?;
    let left_out = newest.get(Publication::KEPT_MAX).map_or(0, |(id, _)| id.0);
    newest.truncate(Publication::KEPT_MAX);
    let known = newest.into_iter().filter_map(|(id, publication)| Some((id, publication?)));
    Ok((known.collect(), left_out))
}

/// For each backup and task the last good outcome and the last one.
fn backups(connection: &Connection) -> rusqlite::Result<Vec<BackupRecord>> {
    let sql = "SELECT record FROM backup WHERE id IN
               (SELECT max(id) FROM backup GROUP BY name, task
                UNION SELECT max(id) FROM backup WHERE good GROUP BY name, task) ORDER BY id";
    rows(connection, sql, |row| Ok(parse("a backup", row.get(0)?)))
}

fn last_run(connection: &Connection) -> rusqlite::Result<(i64, Option<Wall>)> {
    let runs = rows(connection, "SELECT id, last_alive FROM run ORDER BY id DESC LIMIT 1", |row| {
        Ok(Some((row.get(0)?, Wall(row.get(1)?))))
    })?;
    Ok(runs.first().map_or((0, None), |&(id, alive)| (id, Some(alive))))
}

fn server(name: String) -> Option<ServerId> {
    name.parse().inspect_err(|error| tracing::error!(%error, "a server in the record is left out")).ok()
}

pub(super) fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| read(row))?;
    rows.filter_map(Result::transpose).collect()
}
