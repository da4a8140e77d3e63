//! Heartbeats: jobs that say by themselves that they ran, and are missed when they do not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::MonitorId;
use crate::time::Wall;
use crate::words::span;

/// When a job is to say that it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatPolicy {
    /// How often.
    pub recurs: Recurs,
    /// So long after it was expected it is missed; and so long may it run, if it says when it starts.
    pub grace: Duration,
}

impl HeartbeatPolicy {
    /// The grace of one whose config names none.
    pub const GRACE: Duration = Duration::from_secs(300);
}

/// How often something comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recurs {
    /// So long after the last one.
    Every(Duration),
    /// As a calendar has it. The judge knows none and asks ([`crate::Effect::AskCalendar`]).
    Calendar {
        /// A cron expression, as the user wrote it.
        cron: Arc<str>,
        /// A zone of the IANA database.
        zone: Arc<str>,
    },
}

impl fmt::Display for Recurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recurs::Every(every) => write!(f, "every {}", span(*every)),
            Recurs::Calendar { cron, zone } => write!(f, "at {cron} ({zone})"),
        }
    }
}

/// One sign of life of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Which job.
    pub monitor: MonitorId,
    /// What it says.
    pub kind: PingKind,
    /// The end of its log, if it sent one. At most [`Ping::TAIL_MAX`] bytes.
    #[serde(default)]
    pub tail: Option<Arc<str>>,
}

impl Ping {
    /// The end of a log that is kept, in bytes.
    pub const TAIL_MAX: usize = 10_000;
}

/// What a job says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PingKind {
    /// It begins.
    Start,
    /// It is done, and went well.
    Success,
    /// It went wrong.
    Fail,
    /// It ended with this exit code; 0 is well.
    Exit(u8),
}

impl PingKind {
    /// It is done, and went well.
    pub fn is_good(self) -> bool {
        matches!(self, PingKind::Success | PingKind::Exit(0))
    }

    /// It went wrong.
    pub fn is_bad(self) -> bool {
        !self.is_good() && self != PingKind::Start
    }
}

impl fmt::Display for PingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PingKind::Start => f.write_str("start"),
            PingKind::Success => f.write_str("success"),
            PingKind::Fail => f.write_str("fail"),
            PingKind::Exit(code) => write!(f, "exit code {code}"),
        }
    }
}

/// What is remembered of a job over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatRecord {
    /// Which job.
    pub monitor: MonitorId,
    /// Its last ping, and what it said.
    pub last: Option<(Wall, PingKind)>,
    /// When it last went well.
    pub last_good: Option<Wall>,
    /// When it began, if it has not said that it is done.
    pub started: Option<Wall>,
    /// When the next ping is expected.
    pub expected: Option<Wall>,
    /// How long the last runs took, oldest first, milliseconds.
    pub durations_ms: Vec<u64>,
    /// Pings ever.
    pub pings: u64,
    /// When the end of its log came, and what it is.
    pub tail: Option<(Wall, Arc<str>)>,
    /// Since when it is down, and why.
    pub down: Option<(Wall, String)>,
}

/// How a job is, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeartbeatPhase {
    /// It has never pinged.
    Waiting,
    /// The next ping is not due yet.
    OnTime,
    /// It has said that it begins, and not that it is done.
    Running,
    /// Its ping is due, and its grace is not over.
    Late,
    /// It was missed, or went wrong.
    Down,
    /// Mainstay itself did not run when its ping was due.
    Unknown,
}

impl HeartbeatPhase {
    /// The words used on pages.
    pub fn in_words(self) -> &'static str {
        match self {
            HeartbeatPhase::Waiting => "waiting for first ping",
            HeartbeatPhase::OnTime => "on time",
            HeartbeatPhase::Running => "running",
            HeartbeatPhase::Late => "late",
            HeartbeatPhase::Down => "down",
            HeartbeatPhase::Unknown => "unknown",
        }
    }
}

/// A job as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatSnapshot {
    /// How it is.
    pub phase: HeartbeatPhase,
    /// When it is to ping: `every 1h`, `at 30 3 * * * (Europe/Berlin)`.
    pub schedule: String,
    /// So long after it was expected it is missed, milliseconds.
    pub grace_ms: u64,
    /// When it last pinged.
    pub last_ping: Option<Wall>,
    /// What it said then: `success`, `exit code 3`.
    pub last_said: Option<String>,
    /// When it last went well.
    pub last_good: Option<Wall>,
    /// When it began, if it has not said that it is done.
    pub started: Option<Wall>,
    /// When the next ping is expected.
    pub expected: Option<Wall>,
    /// When it is missed.
    pub missed_at: Option<Wall>,
    /// How long the last runs took, oldest first, milliseconds.
    pub durations_ms: Vec<u64>,
    /// Pings ever.
    pub pings: u64,
    /// When the end of its log came.
    pub tail_at: Option<Wall>,
    /// The end of the log that it sent last.
    pub tail: Option<Arc<str>>,
}
