//! The tables, their versions, and how connections to them are opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// The writer waits so long for a lock that another program holds; it then tells of the trouble and tries again.
const WRITER_BUSY: Duration = Duration::from_secs(2);

/// The write-ahead log is cut back to this size; larger only while a long query holds it.
const WAL_BYTES: i64 = 16 * 1024 * 1024;

/// One script a version; `user_version` counts how many were run. Never edit one that was released: add one.
const MIGRATIONS: &[&str] = &["
    -- The highest number ever used of each kind, so that none is used twice when its row is long removed.
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    -- One row a run; what lies between two of them is a gap in which nothing was seen.
    CREATE TABLE run (id INTEGER PRIMARY KEY, started_at INTEGER NOT NULL, last_alive INTEGER NOT NULL);
    CREATE TABLE incident (
        id INTEGER PRIMARY KEY, state TEXT NOT NULL, severity TEXT NOT NULL, scope TEXT NOT NULL,
        began_at INTEGER NOT NULL, resolved_at INTEGER, head TEXT NOT NULL);
    CREATE INDEX incident_unresolved ON incident (id) WHERE resolved_at IS NULL;
    CREATE INDEX incident_resolved ON incident (resolved_at) WHERE resolved_at IS NOT NULL;
    CREATE TABLE timeline (
        incident INTEGER NOT NULL, place INTEGER NOT NULL, at INTEGER NOT NULL, entry TEXT NOT NULL,
        PRIMARY KEY (incident, place)) WITHOUT ROWID;
    CREATE TABLE action (
        id INTEGER PRIMARY KEY, incident INTEGER, server TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
        begun_at INTEGER NOT NULL, ended_at INTEGER, error TEXT);
    CREATE INDEX action_begun ON action (begun_at);
    CREATE INDEX action_unfinished ON action (id) WHERE ended_at IS NULL;
    CREATE TABLE outbox (
        row INTEGER PRIMARY KEY, incident INTEGER NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL,
        queued_at INTEGER NOT NULL, delivery TEXT NOT NULL, attempts INTEGER NOT NULL,
        tried_at INTEGER, error TEXT, done INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX outbox_pending ON outbox (row) WHERE done = 0;
    CREATE INDEX outbox_queued ON outbox (queued_at);
    CREATE TABLE admin (server TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE server (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE service (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    -- `at` counts minutes or hours since 1970; histograms are in the model's stored form; failures are JSON by kind.
    CREATE TABLE server_minute (
        server INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, ok INTEGER NOT NULL,
        client_errors INTEGER NOT NULL, server_errors INTEGER NOT NULL, failures TEXT, latency BLOB,
        probes_good INTEGER NOT NULL, probes_failed INTEGER NOT NULL, probe_latency BLOB,
        PRIMARY KEY (server, at)) WITHOUT ROWID;
    CREATE TABLE server_hour (
        server INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, ok INTEGER NOT NULL,
        client_errors INTEGER NOT NULL, server_errors INTEGER NOT NULL, failures TEXT, latency BLOB,
        probes_good INTEGER NOT NULL, probes_failed INTEGER NOT NULL, probe_latency BLOB,
        PRIMARY KEY (server, at)) WITHOUT ROWID;
    CREATE TABLE service_minute (
        service INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, requests INTEGER NOT NULL,
        failed INTEGER NOT NULL, server_errors INTEGER NOT NULL, saved INTEGER NOT NULL, latency BLOB,
        PRIMARY KEY (service, at)) WITHOUT ROWID;
    CREATE TABLE service_hour (
        service INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, requests INTEGER NOT NULL,
        failed INTEGER NOT NULL, server_errors INTEGER NOT NULL, saved INTEGER NOT NULL, latency BLOB,
        PRIMARY KEY (service, at)) WITHOUT ROWID;
", "
    -- What people told the public of an incident, as JSON.
    CREATE TABLE publication (incident INTEGER PRIMARY KEY, body TEXT NOT NULL);
    -- Milliseconds of the observed ones in which the service answered nobody.
    ALTER TABLE service_minute ADD COLUMN down_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_hour ADD COLUMN down_ms INTEGER NOT NULL DEFAULT 0;
", "
    -- What an incident cost: its curve, and from what counting goes on while it is open. Beside the header, because it is long.
    CREATE TABLE impact (incident INTEGER PRIMARY KEY, curve TEXT NOT NULL, tally TEXT NOT NULL);
    CREATE INDEX action_incident ON action (incident) WHERE incident IS NOT NULL;
    CREATE INDEX outbox_incident ON outbox (incident);
", "
    -- Backups that were made or tried out, with how that ended.
    CREATE TABLE backup (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, task TEXT NOT NULL, began_at INTEGER NOT NULL,
        good INTEGER NOT NULL, record TEXT NOT NULL);
    CREATE INDEX backup_name ON backup (name, task, good);
    CREATE INDEX backup_began ON backup (began_at);
", "
    -- Figures are JSON by name: how often each was known, its mean, its highest.
    CREATE TABLE machine (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE machine_minute (
        machine INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, figures TEXT,
        PRIMARY KEY (machine, at)) WITHOUT ROWID;
    CREATE TABLE machine_hour (
        machine INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, figures TEXT,
        PRIMARY KEY (machine, at)) WITHOUT ROWID;
", "
    -- Whom a message is for; what it cost its person's budget; by which number its provider knows it, and what the provider
    -- said of it in the end (`receipt` says why it did not arrive).
    ALTER TABLE outbox ADD COLUMN recipient TEXT;
    ALTER TABLE outbox ADD COLUMN held_back INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE outbox ADD COLUMN spent INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE outbox ADD COLUMN reference TEXT;
    ALTER TABLE outbox ADD COLUMN receipt_at INTEGER;
    ALTER TABLE outbox ADD COLUMN receipt TEXT;
", "
    -- What was deployed, by service; a release is JSON.
    CREATE TABLE release (
        service TEXT NOT NULL, number INTEGER NOT NULL, release TEXT NOT NULL,
        PRIMARY KEY (service, number)) WITHOUT ROWID;
    -- How many instances of its scaled server a service had.
    CREATE TABLE instances (service TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
    -- The last run of a service's own `switch` command, as JSON.
    CREATE TABLE switch (service TEXT PRIMARY KEY, run TEXT NOT NULL) WITHOUT ROWID;
", "
    -- Requests that were answered late, and that were refused for want of room or because their address asked too often.
    ALTER TABLE service_minute ADD COLUMN slow INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_minute ADD COLUMN shed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_minute ADD COLUMN limited INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_hour ADD COLUMN slow INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_hour ADD COLUMN shed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_hour ADD COLUMN limited INTEGER NOT NULL DEFAULT 0;
", "
    -- What was changed, as JSON.
    CREATE TABLE change (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, change TEXT NOT NULL);
    CREATE INDEX change_at ON change (at);
", "
    -- What is watched and not served.
    CREATE TABLE monitor (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE monitor_minute (
        monitor INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, good INTEGER NOT NULL,
        failed INTEGER NOT NULL, down_ms INTEGER NOT NULL, latency BLOB,
        PRIMARY KEY (monitor, at)) WITHOUT ROWID;
    CREATE TABLE monitor_hour (
        monitor INTEGER NOT NULL, at INTEGER NOT NULL, observed_ms INTEGER NOT NULL, good INTEGER NOT NULL,
        failed INTEGER NOT NULL, down_ms INTEGER NOT NULL, latency BLOB,
        PRIMARY KEY (monitor, at)) WITHOUT ROWID;
", "
    -- What is known of jobs that ping, as JSON.
    CREATE TABLE heartbeat (monitor TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
", "
    -- Maintenance windows that people opened, as JSON, until they are over; and when people ended the time of one in the config.
    CREATE TABLE maintenance (number INTEGER PRIMARY KEY, window TEXT NOT NULL);
    CREATE TABLE maintenance_ended (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
    -- Milliseconds in a maintenance window, of a service also the requests of that time and those that went wrong: kept out of
    -- availability.
    ALTER TABLE service_minute ADD COLUMN excused_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_minute ADD COLUMN excused_requests INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_minute ADD COLUMN excused_bad INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_hour ADD COLUMN excused_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_hour ADD COLUMN excused_requests INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE service_hour ADD COLUMN excused_bad INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE monitor_minute ADD COLUMN excused_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE monitor_hour ADD COLUMN excused_ms INTEGER NOT NULL DEFAULT 0;
", "
    -- Every look at a monitor, in the model's packed form: by monitor and hour when the hour is over, of all of them until then.
    CREATE TABLE monitor_looks (
        monitor INTEGER NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (monitor, at)) WITHOUT ROWID;
    CREATE TABLE monitor_journal (id INTEGER PRIMARY KEY, hour INTEGER NOT NULL, data BLOB NOT NULL);
    CREATE INDEX monitor_journal_hour ON monitor_journal (hour);
", "
    -- The machine second by second around incidents, in the model's packed form, a row every few seconds; `at` is that of the first.
    CREATE TABLE machine_seconds (id INTEGER PRIMARY KEY, machine INTEGER NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL);
    CREATE INDEX machine_seconds_at ON machine_seconds (at);
", "
    -- Every look at a server, as those at a monitor.
    CREATE TABLE server_looks (
        server INTEGER NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (server, at)) WITHOUT ROWID;
    CREATE TABLE server_journal (id INTEGER PRIMARY KEY, hour INTEGER NOT NULL, data BLOB NOT NULL);
    CREATE INDEX server_journal_hour ON server_journal (hour);
", "
    -- How long servers took over their answers by hour, and which of them are slow by that, as JSON.
    CREATE TABLE pace (server TEXT NOT NULL, at INTEGER NOT NULL, hour TEXT NOT NULL, PRIMARY KEY (server, at)) WITHOUT ROWID;
    CREATE INDEX pace_at ON pace (at);
    CREATE TABLE slowed (server TEXT PRIMARY KEY, slowed TEXT NOT NULL) WITHOUT ROWID;
", "
    -- Whether the action helped, as JSON.
    ALTER TABLE action ADD COLUMN helped TEXT;
", "
    -- What Mainstay would have done, as JSON; `over` when it is.
    CREATE TABLE proposal (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, over INTEGER NOT NULL, proposal TEXT NOT NULL);
", "
    -- What helped with which sort of failure, as JSON, by what tells it apart.
    CREATE TABLE remedy (failure TEXT PRIMARY KEY, remedy TEXT NOT NULL) WITHOUT ROWID;
", "
    -- Who takes the writes of services whose servers keep state, as JSON.
    CREATE TABLE lead (service TEXT PRIMARY KEY, lead TEXT NOT NULL) WITHOUT ROWID;
", "
    -- Drills and what came of them, as JSON.
    CREATE TABLE drill (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, drill TEXT NOT NULL);
    CREATE INDEX drill_at ON drill (at);
", "
    -- Servers that were replaced by a new instance, as JSON, by the number of the action; `over` when the instance is no more.
    CREATE TABLE substitute (
        action INTEGER PRIMARY KEY, at INTEGER NOT NULL, over INTEGER NOT NULL, substitute TEXT NOT NULL);
"];

/// Opens the file for the writer, makes it if there is none, and brings an older one up to date.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(WRITER_BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    // The log's file stays when Mainstay ends, so that on a disk that is full by then there is room to start and to write a little.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    checkpoint(&connection);
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens the file for one query. It never makes or changes anything.
pub(super) fn open_reader(path: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(busy)?;
    Ok(connection)
}

/// Moves the log into the file, so that the log is written from its beginning again. Nothing is lost when it fails.
pub(super) fn checkpoint(connection: &Connection) {
    let result = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = result {
        tracing::warn!(%error, "the record's log stays as it is for now");
    }
}

/// The version that a connection's file has.
fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// The file has all tables of this version, and no others.
pub(super) fn is_current(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? == MIGRATIONS.len())
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let known = MIGRATIONS.len();
    let found = version(connection)?;
    if found > known {
        return Err(rusqlite::Error::ToSqlConversionFailure(
            format!(
                "it was written by a newer Mainstay (version {found} of the record, this one knows {known}); \
                 use that one, or another data directory"
            )
            .into(),
        ));
    }
    for (index, script) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(script)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}
