//! Housekeeping: hours are rolled up from minutes when they are over, and what is older than the config wants is removed.
//! It is done in small steps between writes, so that no write waits long for it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_model::Wall;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::bucket::{self, Bucket};
use super::results::Looked;
use super::writer::highest;
use super::{MachineBucket, MonitorBucket, ServerBucket, ServiceBucket, Step, results};
use crate::config::Retention;

/// Rows removed in one step.
const REMOVED_A_STEP: usize = 500;

/// Monitors whose hour is rolled up or packed, or that are searched for what is too old, in one step: there may be ten thousand.
const MONITORS_A_STEP: usize = 500;

/// What is due, and by which clock.
#[derive(Debug)]
pub(super) struct Housekeeping {
    retention: Arc<Mutex<Retention>>,
    now: Option<Wall>,
    /// The hour whose housekeeping is complete.
    done_in: Option<i64>,
    /// Rolled up; packing is next.
    rolled: bool,
    /// Packed; removing is next.
    packed: bool,
    /// Not before the clock shows more than this.
    not_before: Option<Wall>,
    monitors: Monitors,
    /// The hour of servers that is being packed, and how many of them are.
    packed_servers: Option<(i64, usize)>,
}

/// How far monitors have come.
#[derive(Debug, Default)]
struct Monitors {
    /// The hour that is being rolled up, and how many of them are.
    rolled: Option<(i64, usize)>,
    /// The hour that is being packed, and how many of them are.
    packed: Option<(i64, usize)>,
    /// So many of them have nothing left that is too old.
    swept: usize,
}

impl Housekeeping {
    pub(super) fn new(retention: Arc<Mutex<Retention>>) -> Self {
        Self {
            retention,
            now: None,
            done_in: None,
            rolled: false,
            packed: false,
            not_before: None,
            monitors: Monitors::default(),
            packed_servers: None,
        }
    }

    /// The time as the engine last told it.
    pub(super) fn clock(&mut self, now: Wall) {
        self.now = Some(now);
        if self.not_before.is_some_and(|at| now != at) {
            self.not_before = None;
        }
    }

    /// Once at the start and once in each hour.
    pub(super) fn is_due(&self) -> bool {
        self.not_before.is_none() && self.now.is_some_and(|now| self.done_in != Some(Step::Hour.index(now)))
    }

    /// It failed: not again before the clock has moved.
    pub(super) fn put_off(&mut self) {
        self.not_before = self.now;
    }

    /// Does a part of what is due.
    pub(super) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        let Some(now) = self.now else { return Ok(()) };
        // Done again if a loss of power undoes it.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let retention = *self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.rolled {
            self.rolled = !roll_an_hour(connection, now, &mut self.monitors)?;
        } else if !self.packed {
            self.packed = !pack_an_hour::<MonitorBucket>(connection, now, &mut self.monitors.packed)?
                && !pack_an_hour::<ServerBucket>(connection, now, &mut self.packed_servers)?;
        } else if !remove_some(connection, now, &retention, &mut self.monitors)? {
            (self.rolled, self.packed) = (false, false);
            self.monitors.swept = 0;
            self.done_in = Some(Step::Hour.index(now));
        }
        Ok(())
    }
}

/// Hours before this index are rolled up.
pub(super) fn rolled_hours(connection: &Connection) -> rusqlite::Result<i64> {
    let value = connection
        .prepare_cached("SELECT value FROM counter WHERE name = 'rolled_hours'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(value.unwrap_or(0))
}

/// Rolls up the first hour that is over and not yet rolled up; `false` when there is none left.
fn roll_an_hour(connection: &mut Connection, now: Wall, monitors: &mut Monitors) -> rusqlite::Result<bool> {
    let current = Step::Hour.index(now);
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let from = rolled_hours(&transaction)?;
    let servers = bucket::names::<ServerBucket>(&transaction)?;
    let services = bucket::names::<ServiceBucket>(&transaction)?;
    let machines = bucket::names::<MachineBucket>(&transaction)?;
    let watched = bucket::names::<MonitorBucket>(&transaction)?;
    let hour = match monitors.rolled.take() {
        Some((hour, done)) => Some((hour, done)),
        None => {
            let first = [
                bucket::first_from::<ServerBucket>(&transaction, Step::Minute, &servers, from * 60)?,
                bucket::first_from::<ServiceBucket>(&transaction, Step::Minute, &services, from * 60)?,
                bucket::first_from::<MachineBucket>(&transaction, Step::Minute, &machines, from * 60)?,
                bucket::first_from::<MonitorBucket>(&transaction, Step::Minute, &watched, from * 60)?,
            ];
            first.into_iter().flatten().min().map(|minute| (minute.div_euclid(60), 0))
        }
    };
    let more = match hour {
        Some((hour, done)) if hour < current && done < watched.len() => {
            let end = watched.len().min(done + MONITORS_A_STEP);
            roll(&transaction, &watched[done..end], hour, results::put_hour)?;
            monitors.rolled = Some((hour, end));
            true
        }
        Some((hour, _)) if hour < current => {
            roll(&transaction, &servers, hour, put_hour::<ServerBucket>)?;
            roll(&transaction, &services, hour, put_hour::<ServiceBucket>)?;
            roll(&transaction, &machines, hour, put_hour::<MachineBucket>)?;
            highest(&transaction, "rolled_hours", hour + 1)?;
            true
        }
        _ => {
            highest(&transaction, "rolled_hours", current)?;
            false
        }
    };
    transaction.commit()?;
    Ok(more)
}

/// Packs the looks at some monitors or servers in the first hour that ended an hour ago or earlier, so that nothing of it comes any more;
/// `false` when there is none left.
fn pack_an_hour<L: Looked>(
    connection: &mut Connection,
    now: Wall,
    under_way: &mut Option<(i64, usize)>,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let first = match under_way.take() {
        Some(under_way) => Some(under_way),
        None => results::first_journal::<L>(&transaction)?.map(|hour| (hour, 0)),
    };
    let Some((hour, done)) = first.filter(|(hour, _)| *hour < Step::Hour.index(now) - 1) else {
        return Ok(false);
    };
    let watched = bucket::names::<L>(&transaction)?;
    let end = watched.len().min(done + MONITORS_A_STEP);
    let part = &watched[done.min(end)..end];
    let wanted: HashSet<u64> = part.iter().map(|(number, _)| number.unsigned_abs()).collect();
    let mut looks = results::journal::<L>(&transaction, hour, |number| wanted.contains(&number))?;
    for (number, id) in part {
        if let Some(looks) = looks.remove(number) {
            L::pack(&transaction, (*number, id), hour, looks)?;
        }
    }
    if end < watched.len() {
        *under_way = Some((hour, end));
    } else {
        results::remove_journal::<L>(&transaction, hour)?;
    }
    transaction.commit()?;
    Ok(true)
}

fn roll<I>(
    connection: &Connection,
    names: &[(i64, I)],
    hour: i64,
    put: impl Fn(&Connection, i64, &I, i64) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    names.iter().try_for_each(|(name, id)| put(connection, *name, id, hour))
}

fn put_hour<B: Bucket>(connection: &Connection, name: i64, id: &B::Id, hour: i64) -> rusqlite::Result<()> {
    match hour_from_minutes::<B>(connection, name, id, hour)? {
        Some(sum) => bucket::put(connection, Step::Hour, name, &sum),
        None => Ok(()),
    }
}

/// An hour as the sum of its minutes; `None` without any.
pub(super) fn hour_from_minutes<B: Bucket>(
    connection: &Connection,
    name: i64,
    id: &B::Id,
    hour: i64,
) -> rusqlite::Result<Option<B>> {
    let minutes = bucket::range::<B>(connection, Step::Minute, (name, id), (hour * 60, (hour + 1) * 60), 60)?;
    Ok(minutes.into_iter().map(|minute| minute.at(Step::Hour.start(hour))).reduce(|mut sum, minute| {
        sum.merge(&minute, Step::Hour.width_ms());
        sum
    }))
}

/// Removes some of what is too old; `false` when there is nothing left to remove.
fn remove_some(
    connection: &mut Connection,
    now: Wall,
    retention: &Retention,
    monitors: &mut Monitors,
) -> rusqlite::Result<bool> {
    let before = |kept: std::time::Duration| {
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        Wall(now.0.saturating_sub(kept))
    };
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // A minute stays until its hour is rolled up, however short the config keeps it.
    let minute = Step::Minute.index(before(retention.minutes)).min(rolled_hours(&transaction)? * 60);
    let hour = Step::Hour.index(before(retention.hours));
    let mut left = REMOVED_A_STEP;
    let watched = bucket::names::<MonitorBucket>(&transaction)?;
    let names = &watched[monitors.swept.min(watched.len())..];
    let swept = remove_buckets::<MonitorBucket, _>(
        &transaction,
        &names[..names.len().min(MONITORS_A_STEP)],
        (minute, hour),
        &mut left,
    )?;
    let looks = Step::Hour.index(before(retention.results));
    for (number, _) in &names[..swept] {
        left -= results::remove_before::<MonitorBucket>(&transaction, *number, looks, left)?.min(left);
    }
    // Those of whom there may be more are searched again.
    monitors.swept += if left > 0 { swept } else { 0 };
    if monitors.swept < watched.len() {
        transaction.commit()?;
        return Ok(true);
    }
    let servers = bucket::names::<ServerBucket>(&transaction)?;
    remove_buckets::<ServerBucket, _>(&transaction, &servers, (minute, hour), &mut left)?;
    for (number, _) in &servers {
        left -= results::remove_before::<ServerBucket>(&transaction, *number, looks, left)?.min(left);
    }
    remove_buckets::<ServiceBucket, _>(
        &transaction,
        &bucket::names::<ServiceBucket>(&transaction)?,
        (minute, hour),
        &mut left,
    )?;
    remove_buckets::<MachineBucket, _>(
        &transaction,
        &bucket::names::<MachineBucket>(&transaction)?,
        (minute, hour),
        &mut left,
    )?;
    remove_rows(&transaction, before(retention.incidents), &mut left)?;
    if left > 0 {
        let runs = "DELETE FROM run WHERE last_alive < ?1 AND id < (SELECT max(id) FROM run)";
        transaction.execute(runs, [before(retention.hours).0])?;
    }
    transaction.commit()?;
    Ok(left == 0)
}

/// Says of how many names nothing is left that is too old.
fn remove_buckets<B: Bucket<Id = I>, I>(
    connection: &Connection,
    names: &[(i64, I)],
    (minute, hour): (i64, i64),
    left: &mut usize,
) -> rusqlite::Result<usize> {
    for (place, (name, _)) in names.iter().enumerate() {
        for (step, before) in [(Step::Minute, minute), (Step::Hour, hour)] {
            *left -= bucket::remove_before::<B>(connection, step, *name, before, *left)?.min(*left);
        }
        if *left == 0 {
            return Ok(place);
        }
    }
    Ok(names.len())
}

/// Incidents that were resolved long ago with their timelines, and as old actions and messages that are done with.
fn remove_rows(connection: &Connection, before: Wall, left: &mut usize) -> rusqlite::Result<()> {
    let old = "SELECT id FROM incident WHERE resolved_at < ?1 ORDER BY resolved_at LIMIT ?2";
    let scripts = [
        format!(
            "DELETE FROM timeline WHERE (incident, place) IN
             (SELECT incident, place FROM timeline WHERE incident IN ({old}) LIMIT ?2)"
        ),
        format!("DELETE FROM publication WHERE incident IN ({old})"),
        format!(
            "DELETE FROM incident WHERE id IN ({old})
             AND NOT EXISTS (SELECT 1 FROM timeline WHERE timeline.incident = incident.id)"
        ),
        // Less to remove than the incidents themselves, so it is not counted.
        "DELETE FROM impact WHERE incident IN (SELECT id FROM incident WHERE resolved_at < ?1 ORDER BY resolved_at LIMIT ?2)"
            .to_owned(),
        "DELETE FROM action WHERE id IN
         (SELECT id FROM action WHERE begun_at < ?1 AND ended_at IS NOT NULL ORDER BY begun_at LIMIT ?2)"
            .to_owned(),
        "DELETE FROM outbox WHERE row IN
         (SELECT row FROM outbox WHERE queued_at < ?1 AND done = 1 ORDER BY queued_at LIMIT ?2)"
            .to_owned(),
        "DELETE FROM machine_seconds WHERE id IN
         (SELECT id FROM machine_seconds WHERE at < ?1 ORDER BY at LIMIT ?2)"
            .to_owned(),
        "DELETE FROM change WHERE id IN (SELECT id FROM change WHERE at < ?1 ORDER BY at LIMIT ?2)".to_owned(),
        // The newest stays, so that numbers go on after a restart.
        "DELETE FROM proposal WHERE number IN
         (SELECT number FROM proposal WHERE at < ?1 AND over = 1 AND number < (SELECT max(number) FROM proposal)
          ORDER BY number LIMIT ?2)"
            .to_owned(),
        "DELETE FROM drill WHERE id IN (SELECT id FROM drill WHERE at < ?1 ORDER BY at LIMIT ?2)".to_owned(),
        // The newest of each stays, so that it is known after a restart.
        "DELETE FROM backup WHERE id IN
         (SELECT id FROM backup WHERE began_at < ?1 AND id NOT IN
          (SELECT max(id) FROM backup GROUP BY name, task, good) ORDER BY began_at LIMIT ?2)"
            .to_owned(),
    ];
    for script in scripts {
        let most = i64::try_from(*left).unwrap_or(i64::MAX);
        *left -= connection.execute(&script, params![before.0, most])?.min(*left);
    }
    Ok(())
}
