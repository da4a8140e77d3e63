//! How roll-ups lie in their tables: one row a server (or service) and minute (or hour), histograms as blobs.

use std::collections::BTreeMap;
use std::fmt::Display;

use mainstay_model::histogram::Histogram;
use mainstay_model::input::FailureKind;
use mainstay_model::{ServerId, ServiceId, Wall};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::{ServerBucket, ServiceBucket, Step};

impl Step {
    /// The width of a bucket, milliseconds.
    pub(super) const fn width_ms(self) -> i64 {
        match self {
            Step::Minute => 60_000,
            Step::Hour => 3_600_000,
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Step::Minute => "minute",
            Step::Hour => "hour",
        }
    }

    /// Which bucket a time falls into, counted since 1970.
    pub(super) const fn index(self, at: Wall) -> i64 {
        at.0.div_euclid(self.width_ms())
    }

    /// Where a bucket begins.
    pub(super) const fn start(self, index: i64) -> Wall {
        Wall(index.saturating_mul(self.width_ms()))
    }
}

/// What buckets of servers and of services have in common.
pub(super) trait Bucket: Clone + PartialEq + std::fmt::Debug {
    /// Whom it is about.
    type Id: Clone + Ord + Display;
    /// The name of the table of names, of its key in the others, and the first word of their names.
    const TABLE: &'static str;
    /// The columns after the key, in the order of [`Bucket::values`].
    const COLUMNS: &'static [&'static str];

    fn id(&self) -> &Self::Id;
    fn start(&self) -> Wall;
    fn parse(name: &str) -> Option<Self::Id>;
    fn values(&self) -> Vec<Value>;
    /// Reads the columns, which begin at 1.
    fn read(id: Self::Id, start: Wall, row: &Row<'_>) -> rusqlite::Result<Self>;
    /// Adds another's counts; observed time is at most `width_ms`.
    fn merge(&mut self, other: &Self, width_ms: i64);
    fn at(self, start: Wall) -> Self;
}

impl ServerBucket {
    /// Nothing was seen.
    pub(super) fn empty(server: ServerId, start: Wall) -> Self {
        Self {
            server,
            start,
            observed_ms: 0,
            ok: 0,
            client_errors: 0,
            server_errors: 0,
            failures: BTreeMap::new(),
            latency: Histogram::new(),
            probes_good: 0,
            probes_failed: 0,
            probe_latency: Histogram::new(),
        }
    }
}

impl Bucket for ServerBucket {
    type Id = ServerId;
    const TABLE: &'static str = "server";
    const COLUMNS: &'static [&'static str] = &[
        "observed_ms",
        "ok",
        "client_errors",
        "server_errors",
        "failures",
        "latency",
        "probes_good",
        "probes_failed",
        "probe_latency",
    ];

    fn id(&self) -> &ServerId {
        &self.server
    }

    fn start(&self) -> Wall {
        self.start
    }

    fn parse(name: &str) -> Option<ServerId> {
        name.parse().ok()
    }

    fn values(&self) -> Vec<Value> {
        vec![
            integer(self.observed_ms),
            integer(self.ok),
            integer(self.client_errors),
            integer(self.server_errors),
            failures_text(&self.failures),
            blob(&self.latency),
            integer(self.probes_good),
            integer(self.probes_failed),
            blob(&self.probe_latency),
        ]
    }

    fn read(server: ServerId, start: Wall, row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            server,
            start,
            observed_ms: count(row, 1)?,
            ok: count(row, 2)?,
            client_errors: count(row, 3)?,
            server_errors: count(row, 4)?,
            failures: failures_of(row.get(5)?),
            latency: histogram(row.get(6)?),
            probes_good: count(row, 7)?,
            probes_failed: count(row, 8)?,
            probe_latency: histogram(row.get(9)?),
        })
    }

    fn merge(&mut self, other: &Self, width_ms: i64) {
        self.observed_ms = add_observed(self.observed_ms, other.observed_ms, width_ms);
        self.ok = self.ok.saturating_add(other.ok);
        self.client_errors = self.client_errors.saturating_add(other.client_errors);
        self.server_errors = self.server_errors.saturating_add(other.server_errors);
        for (&kind, &n) in &other.failures {
            let sum = self.failures.entry(kind).or_default();
            *sum = sum.saturating_add(n);
        }
        self.latency.merge(&other.latency);
        self.probes_good = self.probes_good.saturating_add(other.probes_good);
        self.probes_failed = self.probes_failed.saturating_add(other.probes_failed);
        self.probe_latency.merge(&other.probe_latency);
    }

    fn at(self, start: Wall) -> Self {
        Self { start, ..self }
    }
}

impl ServiceBucket {
    /// Nothing was seen.
    pub(super) fn empty(service: ServiceId, start: Wall) -> Self {
        Self {
            service,
            start,
            observed_ms: 0,
            requests: 0,
            failed: 0,
            server_errors: 0,
            saved: 0,
            slow: 0,
            shed: 0,
            limited: 0,
            down_ms: 0,
            excused_ms: 0,
            excused_requests: 0,
            excused_bad: 0,
            latency: Histogram::new(),
        }
    }
}

impl Bucket for ServiceBucket {
    type Id = ServiceId;
    const TABLE: &'static str = "service";
    const COLUMNS: &'static [&'static str] = &[
        "observed_ms",
        "requests",
        "failed",
        "server_errors",
        "saved",
        "slow",
        "shed",
        "limited",
        "down_ms",
        "excused_ms",
        "excused_requests",
        "excused_bad",
        "latency",
    ];

    fn id(&self) -> &ServiceId {
        &self.service
    }

    fn start(&self) -> Wall {
        self.start
    }

    fn parse(name: &str) -> Option<ServiceId> {
        Some(ServiceId::new(name))
    }

    fn values(&self) -> Vec<Value> {
        vec![
            integer(self.observed_ms),
            integer(self.requests),
            integer(self.failed),
            integer(self.server_errors),
            integer(self.saved),
            integer(self.slow),
            integer(self.shed),
            integer(self.limited),
            integer(self.down_ms),
            integer(self.excused_ms),
            integer(self.excused_requests),
            integer(self.excused_bad),
            blob(&self.latency),
        ]
    }

    fn read(service: ServiceId, start: Wall, row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            service,
            start,
            observed_ms: count(row, 1)?,
            requests: count(row, 2)?,
            failed: count(row, 3)?,
            server_errors: count(row, 4)?,
            saved: count(row, 5)?,
            slow: count(row, 6)?,
            shed: count(row, 7)?,
            limited: count(row, 8)?,
            down_ms: count(row, 9)?,
            excused_ms: count(row, 10)?,
            excused_requests: count(row, 11)?,
            excused_bad: count(row, 12)?,
            latency: histogram(row.get(13)?),
        })
    }

    fn merge(&mut self, other: &Self, width_ms: i64) {
        self.observed_ms = add_observed(self.observed_ms, other.observed_ms, width_ms);
        self.requests = self.requests.saturating_add(other.requests);
        self.failed = self.failed.saturating_add(other.failed);
        self.server_errors = self.server_errors.saturating_add(other.server_errors);
        self.saved = self.saved.saturating_add(other.saved);
        self.slow = self.slow.saturating_add(other.slow);
        self.shed = self.shed.saturating_add(other.shed);
        self.limited = self.limited.saturating_add(other.limited);
        self.down_ms = add_observed(self.down_ms, other.down_ms, width_ms);
        self.excused_ms = add_observed(self.excused_ms, other.excused_ms, width_ms);
        self.excused_requests = self.excused_requests.saturating_add(other.excused_requests);
        self.excused_bad = self.excused_bad.saturating_add(other.excused_bad);
        self.latency.merge(&other.latency);
    }

    fn at(self, start: Wall) -> Self {
        Self { start, ..self }
    }
}

/// Writes a bucket in place of what lies there.
pub(super) fn put<B: Bucket>(
    connection: &Connection,
    step: Step,
    name: i64,
    bucket: &B,
) -> rusqlite::Result<()> {
    let marks = ", ?".repeat(B::COLUMNS.len());
    let sql = format!(
        "INSERT OR REPLACE INTO {table}_{step} ({table}, at, {columns}) VALUES (?, ?{marks})",
        table = B::TABLE,
        step = step.table(),
        columns = B::COLUMNS.join(", "),
    );
    let mut values = vec![Value::Integer(name), Value::Integer(step.index(bucket.start()))];
    values.extend(bucket.values());
    connection.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(())
}

/// Buckets from index `from` up to but not including `to`, oldest first, at most `most`.
pub(super) fn range<B: Bucket>(
    connection: &Connection,
    step: Step,
    (name, id): (i64, &B::Id),
    (from, to): (i64, i64),
    most: usize,
) -> rusqlite::Result<Vec<B>> {
    let sql = format!(
        "SELECT at, {columns} FROM {table}_{step} WHERE {table} = ? AND at >= ? AND at < ? ORDER BY at LIMIT ?",
        table = B::TABLE,
        step = step.table(),
        columns = B::COLUMNS.join(", "),
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map(params![name, from, to, most], |row| B::read(id.clone(), step.start(row.get(0)?), row))?;
    rows.collect()
}

/// The index of the first bucket from `from` on, of any name.
pub(super) fn first_from<B: Bucket>(
    connection: &Connection,
    step: Step,
    names: &[(i64, B::Id)],
    from: i64,
) -> rusqlite::Result<Option<i64>> {
    let sql = format!(
        "SELECT min(at) FROM {table}_{step} WHERE {table} = ? AND at >= ?",
        table = B::TABLE,
        step = step.table()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut first = None;
    for (name, _) in names {
        let at: Option<i64> = statement.query_row(params![name, from], |row| row.get(0))?;
        first = first.into_iter().chain(at).min();
    }
    Ok(first)
}

/// Removes at most `most` of a name's buckets before index `before`, and says how many those were.
pub(super) fn remove_before<B: Bucket>(
    connection: &Connection,
    step: Step,
    name: i64,
    before: i64,
    most: usize,
) -> rusqlite::Result<usize> {
    let sql = format!(
        "DELETE FROM {table}_{step} WHERE {table} = ?1 AND at IN \
         (SELECT at FROM {table}_{step} WHERE {table} = ?1 AND at < ?2 ORDER BY at LIMIT ?3)",
        table = B::TABLE,
        step = step.table()
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    connection.prepare_cached(&sql)?.execute(params![name, before, most])
}

/// The numbers of all names.
pub(super) fn names<B: Bucket>(connection: &Connection) -> rusqlite::Result<Vec<(i64, B::Id)>> {
    let sql = format!("SELECT id, name FROM {}", B::TABLE);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut names = Vec::new();
    for row in rows {
        let (number, name) = row?;
        names.extend(B::parse(&name).map(|id| (number, id)));
    }
    Ok(names)
}

/// The number of a name, if it has one.
pub(super) fn number<B: Bucket>(connection: &Connection, id: &B::Id) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT id FROM {} WHERE name = ?", B::TABLE);
    connection.prepare_cached(&sql)?.query_row([id.to_string()], |row| row.get(0)).optional()
}

/// The number of a name, which gets one if it has none.
pub(super) fn number_or_new<B: Bucket>(connection: &Connection, id: &B::Id) -> rusqlite::Result<i64> {
    if let Some(number) = number::<B>(connection, id)? {
        return Ok(number);
    }
    let sql = format!("INSERT INTO {} (name) VALUES (?)", B::TABLE);
    connection.prepare_cached(&sql)?.execute([id.to_string()])?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn add_observed(a: u64, b: u64, width_ms: i64) -> u64 {
    a.saturating_add(b).min(width_ms.unsigned_abs())
}

pub(super) fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

pub(super) fn blob(histogram: &Histogram) -> Value {
    if histogram.is_empty() { Value::Null } else { Value::Blob(histogram.encode()) }
}

/// One damaged blob costs its own percentiles and nothing else.
pub(super) fn histogram(blob: Option<Vec<u8>>) -> Histogram {
    blob.map_or_else(Histogram::new, |bytes| {
        Histogram::decode(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, "left out");
            Histogram::new()
        })
    })
}

fn failures_text(failures: &BTreeMap<FailureKind, u64>) -> Value {
    if failures.is_empty() {
        return Value::Null;
    }
    let by_name: BTreeMap<&str, u64> = failures.iter().map(|(kind, &n)| (kind.as_str(), n)).collect();
    serde_json::to_string(&by_name).map_or(Value::Null, Value::Text)
}

fn failures_of(text: Option<String>) -> BTreeMap<FailureKind, u64> {
    let by_name: BTreeMap<String, u64> =
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    FailureKind::ALL.into_iter().filter_map(|kind| by_name.get(kind.as_str()).map(|&n| (kind, n))).collect()
}
