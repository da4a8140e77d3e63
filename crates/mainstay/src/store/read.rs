//! Queries of the record. They run on connections of their own and never wait for the writer.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mainstay_model::host::seconds::{Seconds, around};
use mainstay_model::incident::Incident;
use mainstay_model::input::Restored;
use mainstay_model::publication::Publication;
use mainstay_model::results::Look;
use mainstay_model::{IncidentId, MonitorId, ProbeTarget, ServerId, ServiceId, Wall};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::Semaphore;

use super::bucket::{self, Bucket};
use super::machine::Machine;
use super::{
    Evidence, MachineBucket, Message, MonitorBucket, ServerBucket, ServiceBucket, ServiceDay, Step,
    StoreError, days, evidence, outbox, restore, results, rollup, schema, seconds, trouble,
};

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

    /// Reads the record of a data directory, whether or not a Mainstay runs on it. Nothing is made or changed.
    ///
    /// # Errors
    /// When there is no record, or one of another version.
    pub fn of(data: &Path) -> Result<Self, StoreError> {
        let path = data.join(super::FILE);
        let refuse = |reason: String| StoreError::Database { path: path.clone(), reason };
        if !path.exists() {
            return Err(refuse(
                "there is no record here; name the data directory of your Mainstay".to_owned(),
            ));
        }
        let connection =
            schema::open_reader(&path, BUSY).map_err(|error| refuse(trouble::explain(&error)))?;
        match schema::is_current(&connection) {
            Ok(true) => Ok(Self { path }),
            Ok(false) => Err(refuse(
                "it was written by another version of Mainstay; ask with that one, or start this one once"
                    .to_owned(),
            )),
            Err(error) => Err(refuse(trouble::explain(&error))),
        }
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

    /// The messages about an incident in the order in which they were written down, at most the last five hundred.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn messages(&self, incident: IncidentId) -> Result<Vec<Message>, StoreError> {
        let incident = number(incident);
        self.ask(move |connection| outbox::messages(connection, incident)).await
    }

    /// What was done about an incident, who was told of it, and how the machine was.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn evidence(&self, incident: &Incident) -> Result<Evidence, StoreError> {
        let (id, spans) = (number(incident.id), around(incident.opened_at, incident.resolved_at));
        self.ask(move |connection| {
            let machine = seconds::read(connection, &spans)?;
            Ok(Evidence { machine, ..evidence::read(connection, id)? })
        })
        .await
    }

    /// The machine second by second around an incident, as far as it was watched.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn machine_around(&self, incident: &Incident) -> Result<Seconds, StoreError> {
        let spans = around(incident.opened_at, incident.resolved_at);
        self.ask(move |connection| seconds::read(connection, &spans)).await
    }

    /// Incidents of services that began at `since` or later and are or may be told the public: that hurt visitors, or of which
    /// people told something. Without their timelines, each with what is told, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn public_incidents(
        &self,
        since: Wall,
        most: usize,
    ) -> Result<Vec<(Incident, Option<Publication>)>, StoreError> {
        let most = i64::try_from(most.min(ROWS_MAX)).unwrap_or(i64::MAX);
        self.ask(move |connection| {
            let mut statement = connection.prepare(
                "SELECT head, body FROM incident LEFT JOIN publication ON incident.id = publication.incident
                 WHERE began_at >= ? AND (severity <> 'degraded' OR body IS NOT NULL) ORDER BY id DESC LIMIT ?",
            )?;
            let rows = statement.query_map(params![since.0, most], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
            })?;
            let mut incidents = Vec::new();
            for row in rows {
                let (head, body) = row?;
                let told = body.and_then(|body| restore::parse("what is told the public", body));
                incidents.extend(restore::parse("an incident", head).map(|incident| (incident, told)));
            }
            Ok(incidents)
        })
        .await
    }

    /// What is told the public of an incident, if anything is.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn publication(&self, id: IncidentId) -> Result<Option<Publication>, StoreError> {
        let id = number(id);
        self.ask(move |connection| {
            let body = connection
                .query_row("SELECT body FROM publication WHERE incident = ?", [id], |row| {
                    row.get::<_, String>(0)
                })
                .optional()?;
            Ok(body.and_then(|body| restore::parse("what is told the public", body)))
        })
        .await
    }

    /// The days of a service between these midnights, which are in their order, oldest first; those of which nothing is known are
    /// absent.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn service_days(
        &self,
        service: &ServiceId,
        midnights: &[Wall],
    ) -> Result<Vec<ServiceDay>, StoreError> {
        let (service, midnights) = (service.clone(), midnights.to_vec());
        self.ask(move |connection| match bucket::number::<ServiceBucket>(connection, &service)? {
            Some(name) => days::read(connection, name, &midnights),
            None => Ok(Vec::new()),
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

    /// The buckets of the machine that Mainstay runs on, as [`Reader::server_history`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn machine_history(
        &self,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<MachineBucket>, StoreError> {
        self.ask(move |connection| history(connection, &Machine::this(), step, from, to)).await
    }

    /// A monitor's buckets, as [`Reader::server_history`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn monitor_history(
        &self,
        monitor: &MonitorId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Result<Vec<MonitorBucket>, StoreError> {
        let monitor = monitor.clone();
        self.ask(move |connection| {
            let mut buckets = history(connection, &monitor, step, from, to)?;
            let number = bucket::number::<MonitorBucket>(connection, &monitor)?;
            if let (Step::Minute, Some(number)) = (step, number) {
                let range = (first_index(step, from), first_index(step, to));
                buckets.extend(results::minutes(connection, (number, &monitor), range)?);
                buckets.sort_by_key(|bucket| bucket.start);
                // A minute that came late is beside what was packed of it.
                buckets.dedup_by(|late, first| {
                    let same = late.start == first.start;
                    if same {
                        first.merge(late, step.width_ms());
                    }
                    same
                });
                let over = buckets.len().saturating_sub(ROWS_MAX);
                buckets.drain(..over);
            }
            Ok(buckets)
        })
        .await
    }

    /// Every look at a server or monitor from `from` up to but not including `to`, oldest first, at most `most`. A time of which
    /// there is none is one in which nobody looked.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn results(
        &self,
        target: &ProbeTarget,
        from: Wall,
        to: Wall,
        most: usize,
    ) -> Result<Vec<Look>, StoreError> {
        let (target, most) = (target.clone(), most.min(ROWS_MAX));
        self.ask(move |connection| match &target {
            ProbeTarget::Monitor(id) => match bucket::number::<MonitorBucket>(connection, id)? {
                Some(number) => results::looks::<MonitorBucket>(connection, number, (from, to), most),
                None => Ok(Vec::new()),
            },
            ProbeTarget::Server(id) => match bucket::number::<ServerBucket>(connection, id)? {
                Some(number) => results::looks::<ServerBucket>(connection, number, (from, to), most),
                None => Ok(Vec::new()),
            },
        })
        .await
    }

    /// The last looks at a server in the 24 hours before `before`, newest first, at most `most`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_results(
        &self,
        server: &ServerId,
        before: Wall,
        most: usize,
    ) -> Result<Vec<Look>, StoreError> {
        let (server, most) = (server.clone(), most.min(ROWS_MAX));
        let from = Wall(before.0.saturating_sub(24 * Step::Hour.width_ms()));
        self.ask(move |connection| match bucket::number::<ServerBucket>(connection, &server)? {
            Some(number) => results::last_looks::<ServerBucket>(connection, number, (from, before), most),
            None => Ok(Vec::new()),
        })
        .await
    }

    /// What a Mainstay that starts at `now` finds in the record. Blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn left(&self, now: Wall) -> Result<Restored, StoreError> {
        let read = || restore::read(&schema::open_reader(&self.path, BUSY)?, now);
        let refuse =
            |error| StoreError::Database { path: self.path.clone(), reason: trouble::explain(&error) };
        Ok(read().map_err(refuse)?.restored)
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
