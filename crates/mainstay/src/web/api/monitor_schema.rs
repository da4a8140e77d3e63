//! The shapes of monitors for the API's description, as `schema` has those of the rest.
#![expect(dead_code, reason = "these shapes are described, never made")]

use serde::Serialize;
use utoipa::ToSchema;

use super::history::Percentiles;
use super::maintenance::InMaintenance;
use super::schema::LastProbe;

/// How many monitors are in which state.
#[derive(Serialize, ToSchema)]
pub(super) struct MonitorCounts {
    up: u64,
    degraded: u64,
    down: u64,
    unknown: u64,
    maintenance: u64,
}

/// What is watched and not served.
#[derive(Serialize, ToSchema)]
pub(super) struct Monitor {
    /// Its name.
    id: String,
    /// What it watches, as written in the config.
    target: String,
    /// What a probe does, in a few words.
    probe: String,
    group: Option<String>,
    tags: Vec<String>,
    state: MonitorState,
    since: i64,
    /// Why it is in this state, for a person.
    because: String,
    /// The maintenance window that it is in.
    maintenance: Option<InMaintenance>,
    /// Null: nobody has looked yet.
    last: Option<LastProbe>,
    /// Why it could not be looked at the last time, which says nothing about it; null: it could.
    not_probed: Option<String>,
    interval_ms: u64,
    timeout_ms: u64,
    /// It is down when so many of its last probes failed: `3 of 5`.
    fail: String,
    /// Good probes in a row before it is up again.
    recover: u32,
    /// Since this run began.
    good: u64,
    /// Since this run began.
    failed: u64,
    /// The open incident that it is part of.
    incident: Option<u64>,
    /// What it needs: `{"service": "shop"}`, `{"monitor": "pay"}` or `{"server": "shop/app-1"}`.
    #[schema(value_type = Vec<Object>)]
    needs: Vec<String>,
    /// Of a job that pings by itself; null: it is looked at.
    heartbeat: Option<Heartbeat>,
    /// The last looks, oldest first; empty in lists.
    recent: Vec<MonitorLook>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum MonitorState {
    Unknown,
    Up,
    Degraded,
    Down,
    Maintenance,
}

/// A job that pings.
#[derive(Serialize, ToSchema)]
struct Heartbeat {
    phase: HeartbeatPhase,
    /// When it is to ping: `every 1h`, `at 30 3 * * * (Europe/Berlin)`.
    schedule: String,
    /// So long after it was expected it is missed.
    grace_ms: u64,
    last_ping: Option<i64>,
    /// `start`, `success`, `fail`, `exit code 3`.
    last_said: Option<String>,
    last_good: Option<i64>,
    /// When it began, if it has not said that it is done.
    started: Option<i64>,
    expected: Option<i64>,
    /// When it is missed; null while it is down.
    missed_at: Option<i64>,
    /// How long the last runs took, oldest first.
    durations_ms: Vec<u64>,
    /// Pings ever.
    pings: u64,
    tail_at: Option<i64>,
    /// The end of the log that it sent last; null in lists.
    tail: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum HeartbeatPhase {
    /// It has never pinged.
    Waiting,
    OnTime,
    /// It has said that it begins, and not that it is done.
    Running,
    /// Its ping is due, and its grace is not over.
    Late,
    Down,
    /// Mainstay itself did not run when its ping was due.
    Unknown,
}

#[derive(Serialize, ToSchema)]
struct MonitorLook {
    at: i64,
    good: bool,
    took_ms: f64,
    text: String,
}

/// One monitor in one bucket.
#[derive(Serialize, ToSchema)]
pub(super) struct MonitorBucket {
    monitor: String,
    start: i64,
    /// Milliseconds in which it was known how it is; the rest is unknown.
    observed_ms: u64,
    /// Good probes.
    good: u64,
    /// Failed probes.
    failed: u64,
    /// Milliseconds of the observed ones in which it was down.
    down_ms: u64,
    /// Milliseconds beside the observed ones in which it was in a maintenance window.
    excused_ms: u64,
    /// Of good probes.
    latency: Percentiles,
}
