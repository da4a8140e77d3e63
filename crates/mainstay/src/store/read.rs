//! Queries of the record. They run on connections of their own and never wait for the writer.

use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mainstay_model::incident::Incident;
use mainstay_model::{IncidentId, ServerId, ServiceId, Wall};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::Semaphore;

use super::bucket::{self, Bucket};
use super::{ServerBucket, ServiceBucket, Step, StoreError, restore, rollup, schema, trouble};

/// A query that takes longer is broken off.
const DEADLINE: Duration = Duration::from_secs(5);
/// A query waits so long for a lock of another program.
const BUSY: Duration = Duration::from_secs(1);
/// Queries at one time; others wait, within their deadline.
const AT_ONE_TIME: usize = 8;
/// Rows of one answer: a week of minutes or two years of hours are fewer.
const ROWS_MAX: usize = 20_000;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONE_TIME)));

/// Asks the record.
#[derive(Debug, Clone)]
pub struct Reader {
    path: PathBuf,
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Incidents without their timelines, newest first; `before`: only those with a lower number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn incidents(
        &self,
        before: Option<IncidentId>,
        most: usize,
    ) -> Result<Vec<Incident>, StoreError> {
        let before = before.map_or(i64::MAX, number);
        let most = i64::try_from(most.min(ROWS_MAX)).unwrap_or(i64::MAX);
        self.ask(move |connection| {
            let mut statement =
                connection.prepare("SELECT head FROM incident WHERE id < ? ORDER BY id DESC LIMIT ?")?;
            let heads = statement.query_map(params![before, most], |row| row.get::<_, String>(0))?;
            heads
                .filter_map(|text| text.map(|text| restore::parse("an incident", text)).transpose())
                .collect()
        })
        .await
    }

    /// One incident with its timeline and its curve.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError> {
        let id = number(id);
        self.ask(move |connection| {
            let head = connection
                .query_row("SELECT head FROM incident WHERE id = ?", [id], |row| row.get::<_, String>(0))
                .optional()?;
            let Some(incident) = head.and_then(|text| restore::parse::<Incident>("an incident", text)) else {
                return Ok(None);
            };
            let timeline = restore::timeline(connection, id)?;
            Ok(Some(Incident { timeline, curve: restore::curve(connection, id)?, ..incident }))
        })
        .await
    }

    /// A server's buckets from `from` up to but not including `to`, oldest first. Buckets in which Mainstay was not looking are absent.
    /// By the hour, the current hour is the sum of its minutes so far.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn server_history(
        &self,
        server: &ServerId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<ServerBucket>, StoreError> {
        let server = server.clone();
        self.ask(move |connection| history(connection, &server, step, from, to)).await
    }

    /// A service's buckets, as [`Reader::server_history`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn service_history(
        &self,
        service: &ServiceId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<ServiceBucket>, StoreError> {
        let service = service.clone();
        self.ask(move |connection| history(connection, &service, step, from, to)).await
    }

    /// Runs a query on a thread that may block, within the deadline; past it the query is interrupted.
    async fn ask<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let refuse = |reason| StoreError::Database { path: self.path.clone(), reason };
        let late = || refuse("it did not answer within five seconds; its disk is slow or hangs".to_owned());
        let until = tokio::time::Instant::now() + DEADLINE;
        let turn = match tokio::time::timeout_at(until, TURNS.clone().acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(late()),
        };
        let path = self.path.clone();
        let (tell_handle, handle) = mpsc::sync_channel(1);
        let task = tokio::task::spawn_blocking(move || {
            let connection = schema::open_reader(&path, BUSY)?;
            let _ = tell_handle.send(connection.get_interrupt_handle());
            // One moment of the record for all that the query reads.
            let moment = connection.unchecked_transaction()?;
            let answer = query(&connection);
            drop(moment);
            // Held until the thread is free again, also past the deadline.
            drop(turn);
            answer
        });
        match tokio::time::timeout_at(until, task).await {
            Ok(Ok(answer)) => answer.map_err(|error| refuse(trouble::explain(&error))),
            Ok(Err(error)) => Err(refuse(format!("the query broke off: {error}"))),
            Err(_) => {
                if let Ok(handle) = handle.try_recv() {
                    handle.interrupt();
                }
                Err(late())
            }
        }
    }
}

fn history<B: Bucket>(
    connection: &Connection,
    id: &B::Id,
    step: Step,
    from: Wall,
    to: Wall,
) -> rusqlite::Result<Vec<B>> {
    let Some(name) = bucket::number::<B>(connection, id)? else { return Ok(Vec::new()) };
    let (first, end) = (first_index(step, from), first_index(step, to));
    if step == Step::Minute {
        return bucket::range(connection, step, (name, id), (first, end), ROWS_MAX);
    }
    let rolled = rollup::rolled_hours(connection)?;
    let mut hours: Vec<B> = bucket::range(connection, step, (name, id), (first, end.min(rolled)), ROWS_MAX)?;
    // The current hour, and any that the writer has not rolled up yet.
    let mut at = first.max(rolled);
    while at < end && hours.len() < ROWS_MAX {
        let Some(minute) = bucket::first_from::<B>(connection, Step::Minute, &[(name, id.clone())], at * 60)?
        else {
            break;
        };
        at = minute.div_euclid(60);
        if at >= end {
            break;
        }
        hours.extend(rollup::hour_from_minutes::<B>(connection, name, id, at)?);
        at += 1;
    }
    Ok(hours)
}

/// The first bucket that begins at `at` or later.
fn first_index(step: Step, at: Wall) -> i64 {
    let index = step.index(at);
    if step.start(index) < at { index.saturating_add(1) } else { index }
}

fn number(id: IncidentId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}
