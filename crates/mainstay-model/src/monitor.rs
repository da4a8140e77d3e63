//! Monitors: what is watched and not served. What the user wants of them, and what is shown; `judge` decides.

mod job;
pub(crate) mod judge;
mod one;
mod storm;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::Whereabouts;
use crate::heartbeat::{HeartbeatPolicy, HeartbeatSnapshot};
use crate::id::{IncidentId, MonitorId, ServiceId};
use crate::needs::Needed;
use crate::policy::{ProbeKind, Protocol};
use crate::snapshot::LastProbe;
use crate::time::Wall;
use crate::window::InMaintenance;

/// How one thing is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorPolicy {
    /// What is watched, as the user wrote it: `https://pay.example.com/health`.
    pub target: Arc<str>,
    /// Where it is.
    pub address: Whereabouts,
    /// What a probe does.
    pub probe: ProbeKind,
    /// It is spoken to over TLS.
    pub tls: bool,
    /// What it speaks.
    pub protocol: Protocol,
    /// Time between two probes.
    pub interval: Duration,
    /// A probe that took longer has failed; unrelated to the interval.
    pub timeout: Duration,
    /// It is down when so many of the last probes failed.
    pub fail: OutOf,
    /// Good probes in a row before it is up again.
    pub recover: u32,
    /// It is not looked at: it says by itself that it ran.
    #[serde(default)]
    pub heartbeat: Option<HeartbeatPolicy>,
    /// What it needs.
    #[serde(default)]
    pub needs: Vec<Needed>,
    /// It looks at this service as visitors do, at Mainstay's own door.
    #[serde(default)]
    pub front_of: Option<ServiceId>,
    /// What it is shown under.
    pub group: Option<Arc<str>>,
    /// Words by which it is found.
    pub tags: Vec<Arc<str>>,
    /// The groups of people who are told of its incidents; `None`: all.
    pub on_call: Option<Vec<Arc<str>>>,
}

impl Default for MonitorPolicy {
    fn default() -> Self {
        Self {
            target: "".into(),
            address: Whereabouts::Named { host: "".into(), port: 0 },
            probe: ProbeKind::Tcp,
            tls: false,
            protocol: Protocol::Http1,
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            fail: OutOf::default(),
            recover: 2,
            heartbeat: None,
            needs: Vec::new(),
            front_of: None,
            group: None,
            tags: Vec::new(),
            on_call: None,
        }
    }
}

impl MonitorPolicy {
    /// As many monitors are watched.
    pub const MOST: usize = 10_000;

    /// It looks at the same thing in the same way, so what was seen before still counts.
    fn looks_alike(&self, other: &Self) -> bool {
        self.target == other.target
            && self.address == other.address
            && self.probe == other.probe
            && self.tls == other.tls
            && self.protocol == other.protocol
            && self.heartbeat.is_some() == other.heartbeat.is_some()
    }
}

/// So many of so many: `3 of 5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOf {
    /// How many, at least 1.
    pub bad: u32,
    /// Of how many, no fewer.
    pub of: u32,
}

impl OutOf {
    /// The longest memory.
    pub const OF_MOST: u32 = 30;
}

impl Default for OutOf {
    /// 3 of 5.
    fn default() -> Self {
        Self { bad: 3, of: 5 }
    }
}

impl fmt::Display for OutOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.bad, self.of)
    }
}

/// How a monitor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MonitorState {
    /// Nobody has looked yet, or nobody could for some time.
    #[default]
    Unknown,
    /// It answers well.
    Up,
    /// It answers, and somebody should look all the same.
    Degraded,
    /// It does not answer well.
    Down,
    /// It is in a maintenance window, whatever it does there.
    Maintenance,
}

impl MonitorState {
    /// All of them, the best first.
    pub const ALL: [MonitorState; 5] = [
        MonitorState::Up,
        MonitorState::Degraded,
        MonitorState::Maintenance,
        MonitorState::Unknown,
        MonitorState::Down,
    ];

    /// The word used in the API, in metrics and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            MonitorState::Unknown => "unknown",
            MonitorState::Up => "up",
            MonitorState::Degraded => "degraded",
            MonitorState::Down => "down",
            MonitorState::Maintenance => "maintenance",
        }
    }
}

/// How many monitors are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MonitorCounts {
    /// They answer well.
    pub up: u64,
    /// They answer, and somebody should look all the same.
    pub degraded: u64,
    /// They do not answer well.
    pub down: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// They are in a maintenance window.
    #[serde(default)]
    pub maintenance: u64,
}

impl MonitorCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.up + self.degraded + self.down + self.unknown + self.maintenance
    }

    fn of(&mut self, state: MonitorState) -> &mut u64 {
        match state {
            MonitorState::Unknown => &mut self.unknown,
            MonitorState::Up => &mut self.up,
            MonitorState::Degraded => &mut self.degraded,
            MonitorState::Down => &mut self.down,
            MonitorState::Maintenance => &mut self.maintenance,
        }
    }
}

/// One monitor as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitorSnapshot {
    /// Its name.
    pub id: MonitorId,
    /// What it watches, as the user wrote it.
    pub target: Arc<str>,
    /// What a probe does, in a few words.
    pub probe: String,
    /// What it is shown under.
    pub group: Option<Arc<str>>,
    /// Words by which it is found.
    pub tags: Vec<Arc<str>>,
    /// How it is.
    pub state: MonitorState,
    /// Since when.
    pub since: Wall,
    /// Why, for a person.
    pub because: String,
    /// The maintenance window that it is in.
    #[serde(default)]
    pub maintenance: Option<InMaintenance>,
    /// The last probe.
    pub last: Option<LastProbe>,
    /// Why it could not be looked at the last time; says nothing about it.
    pub not_probed: Option<Arc<str>>,
    /// Time between two probes, milliseconds.
    pub interval_ms: u64,
    /// A probe that took longer has failed, milliseconds.
    pub timeout_ms: u64,
    /// `3 of 5`.
    pub fail: String,
    /// Good probes in a row before it is up again.
    pub recover: u32,
    /// Good probes since this run began.
    pub good: u64,
    /// Failed probes since this run began.
    pub failed: u64,
    /// The incident that it is part of, while that is open.
    pub incident: Option<IncidentId>,
    /// What it needs, as the config says.
    #[serde(default)]
    pub needs: Vec<Needed>,
    /// Of a job that pings.
    #[serde(default)]
    pub heartbeat: Option<HeartbeatSnapshot>,
    /// The last looks, oldest first.
    pub recent: Vec<MonitorLook>,
}

/// One look that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitorLook {
    /// When it ended.
    pub at: Wall,
    /// It was good.
    pub good: bool,
    /// How long it took, milliseconds.
    pub took_ms: f64,
    /// What it saw, for a person.
    pub text: Arc<str>,
}
