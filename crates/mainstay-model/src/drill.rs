//! Drills: a fault is made on purpose at one server, or at a part of Mainstay itself, and what Mainstay makes of it is measured. A way out that is never tried is
//! not known to be one.
//!
//! `guard` says when there is none, `run` leads one from its order to its end, `measure` says what came of it. Some faults are made
//! by the data plane and by probes ([`Injection`]), which then behave as if the server did; others by whoever supervises the server.

mod guard;
mod measure;
mod run;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{IncidentId, ServerId, ServiceId};
use crate::input::OwnPart;
use crate::time::Wall;

pub use guard::Refusal;
pub use measure::what_was_done;
pub(crate) use run::{Drilled, Drills};

/// A fault lasts so long unless somebody says otherwise.
pub const LASTS: Duration = Duration::from_secs(30);
/// No shorter,
pub const LASTS_MIN: Duration = Duration::from_secs(1);
/// and no longer.
pub const LASTS_MAX: Duration = Duration::from_secs(600);
/// A drill that is older proves nothing any more.
pub const STALE_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// So much longer a slow server takes over each answer.
pub const SLOW_BY: Duration = Duration::from_secs(2);
/// So many of a hundred answers an erring server gets wrong.
pub const ERRORS_PERCENT: u8 = 50;
/// An incident that is not on its way back by so long after the end of its fault is more than a drill: people are told.
pub const QUIET_FOR: Duration = Duration::from_secs(60);
/// So many results are remembered.
pub const KEPT_MAX: usize = 200;

/// What is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its process is killed.
    Kill,
    /// Its process stops answering.
    Hang,
    /// It refuses connections.
    Refuse,
    /// Its network swallows everything.
    BlackHole,
    /// It breaks each answer off in the middle.
    Reset,
    /// It takes [`SLOW_BY`] longer for each answer, and its probes are fine.
    Slow,
    /// It answers [`ERRORS_PERCENT`] of a hundred requests with 500, and its probes are fine.
    Errors,
    /// Its certificate has expired.
    Certificate,
    /// The disk of Mainstay's own record is full.
    DiskFull,
    /// DNS does not answer where servers are.
    Dns,
}

impl Fault {
    /// Every one, in the order in which they are shown.
    pub const ALL: [Fault; 10] = [
        Fault::Kill,
        Fault::Hang,
        Fault::Refuse,
        Fault::BlackHole,
        Fault::Reset,
        Fault::Slow,
        Fault::Errors,
        Fault::Certificate,
        Fault::DiskFull,
        Fault::Dns,
    ];

    /// The word in commands, in the config and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Hang => "hang",
            Fault::Refuse => "refuse",
            Fault::BlackHole => "black-hole",
            Fault::Reset => "reset",
            Fault::Slow => "slow",
            Fault::Errors => "errors",
            Fault::Certificate => "certificate",
            Fault::DiskFull => "disk-full",
            Fault::Dns => "dns",
        }
    }

    /// What it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Fault::Kill => "a server is killed",
            Fault::Hang => "a server hangs",
            Fault::Refuse => "a server refuses connections",
            Fault::BlackHole => "the network to a server swallows everything",
            Fault::Reset => "a server breaks answers off",
            Fault::Slow => "a server is slow",
            Fault::Errors => "a server errs",
            Fault::Certificate => "a server's certificate has expired",
            Fault::DiskFull => "the disk of the record is full",
            Fault::Dns => "DNS does not answer",
        }
    }

    /// By its word.
    pub fn of(word: &str) -> Option<Self> {
        Fault::ALL.into_iter().find(|fault| fault.as_str() == word)
    }

    /// The part of Mainstay itself that it is made at; `None`: it is made at a server.
    pub fn part(self) -> Option<OwnPart> {
        match self {
            Fault::DiskFull => Some(OwnPart::Record),
            Fault::Dns => Some(OwnPart::Names),
            _ => None,
        }
    }

    /// What the data plane and probes do about it; `None`: it is made at the server itself, or at Mainstay.
    pub fn injection(self) -> Option<Injection> {
        match self {
            Fault::Kill | Fault::Hang | Fault::DiskFull | Fault::Dns => None,
            Fault::Refuse => Some(Injection::Refuse),
            Fault::BlackHole => Some(Injection::BlackHole),
            Fault::Reset => Some(Injection::Reset),
            Fault::Slow => Some(Injection::Slow { by: SLOW_BY }),
            Fault::Errors => Some(Injection::Errors { percent: ERRORS_PERCENT }),
            Fault::Certificate => Some(Injection::Certificate),
        }
    }

    /// It is over as soon as it is made; what is left is to come back from it.
    fn is_momentary(self) -> bool {
        self == Fault::Kill
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How whoever speaks with a server behaves, as if the server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Injection {
    /// No connection is accepted.
    Refuse,
    /// Connections are neither accepted nor refused.
    BlackHole,
    /// Each answer is broken off in its middle.
    Reset,
    /// Each answer takes so much longer.
    Slow {
        /// So much.
        by: Duration,
    },
    /// Some answers are a 500 instead.
    Errors {
        /// So many of a hundred.
        percent: u8,
    },
    /// TLS is broken off, because the certificate has expired.
    Certificate,
}

impl Injection {
    /// No connection comes about, so those that stand are of no use either.
    pub fn is_of_connections(self) -> bool {
        matches!(self, Injection::Refuse | Injection::BlackHole | Injection::Certificate)
    }

    /// Probes meet it as well. What is left is for real requests to find out.
    pub fn is_seen_by_probes(self) -> bool {
        self.is_of_connections() || self == Injection::Reset
    }
}

/// When and how a service is drilled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillPolicy {
    /// A drill is stopped when more than this share (0 to 1) of requests failed since it began.
    pub stop_at: f64,
}

impl Default for DrillPolicy {
    fn default() -> Self {
        Self { stop_at: 0.01 }
    }
}

/// Somebody wants a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillOrder {
    /// The service.
    pub service: ServiceId,
    /// Which of its servers; `None`: the one that was drilled longest ago.
    pub server: Option<Arc<str>>,
    /// What is made to fail.
    pub fault: Fault,
    /// For how long.
    pub lasts: Duration,
    /// People are told as of any other incident.
    pub alert: bool,
    /// A person says so although the service has state.
    pub stateful: bool,
    /// Who, for the record.
    pub by: String,
    /// By which whoever orders it knows its own again, so that of two who order at once each has its own answer; 0: it is not looked
    /// for.
    #[serde(default)]
    pub ticket: u64,
}

/// A step of a drill that somebody outside has to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillStep {
    /// The drill's number.
    pub drill: u64,
    /// The server; `None`: it is about Mainstay itself.
    pub server: Option<ServerId>,
    /// The fault.
    pub fault: Fault,
    /// It is to be made, or else undone.
    pub begin: bool,
}

/// One drill, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// Its number.
    pub id: u64,
    /// The service.
    pub service: ServiceId,
    /// The server; `None`: it was refused before one was chosen, or is about Mainstay itself.
    pub server: Option<ServerId>,
    /// What is made to fail.
    pub fault: Fault,
    /// Who wanted it.
    pub by: String,
    /// How long the fault was to last at most, milliseconds.
    pub lasts_ms: u64,
    /// People are told of it.
    pub alert: bool,
    /// That of its order.
    #[serde(skip)]
    pub ticket: u64,
    /// When it was ordered.
    pub at: Wall,
    /// Where it stands.
    pub state: DrillState,
    /// Why it was refused, was stopped or did not come about: an end of a sentence; empty: nothing of it.
    pub why: String,
    /// When the fault was made.
    pub began_at: Option<Wall>,
    /// When it was gone again.
    pub undone_at: Option<Wall>,
    /// When all of it was over.
    pub over_at: Option<Wall>,
    /// The incident that it led to.
    pub incident: Option<IncidentId>,
    /// What was measured.
    pub measured: Measured,
}

/// What a drill measured. Times are milliseconds since the fault was made; `None` where there was none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// To the first sign in the record.
    pub notice_ms: Option<u64>,
    /// To the server being out of rotation.
    pub divert_ms: Option<u64>,
    /// To the first message to people, or when it would have been sent.
    pub alert_ms: Option<u64>,
    /// To the first action.
    pub act_ms: Option<u64>,
    /// To every server serving at its full share again.
    pub recover_ms: Option<u64>,
    /// Requests of visitors that ended meanwhile. 0: nobody came, so nobody could be hurt.
    pub requests: u64,
    /// Of them failed, or turned away.
    pub failed: u64,
    /// Of them well answered only because they were tried again.
    pub saved: u64,
    /// What Mainstay did, in words.
    pub done: Vec<String>,
}

/// Where a drill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillState {
    /// It is written down, and the fault about to be made.
    Ordered,
    /// The fault is there.
    UnderWay,
    /// The fault is gone, and everything has yet to be well again.
    Recovering,
    /// Everything was well again.
    Recovered,
    /// The fault was noticed by nobody.
    Unnoticed,
    /// It was stopped: see why.
    Stopped,
    /// Everything was not well again in time.
    NotRecovered,
    /// It was not begun: see why.
    Refused,
    /// The fault could not be made: see why.
    Failed,
    /// Mainstay was restarted in its middle.
    BrokenOff,
}

impl DrillState {
    /// The word in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            DrillState::Ordered => "ordered",
            DrillState::UnderWay => "under-way",
            DrillState::Recovering => "recovering",
            DrillState::Recovered => "recovered",
            DrillState::Unnoticed => "unnoticed",
            DrillState::Stopped => "stopped",
            DrillState::NotRecovered => "not-recovered",
            DrillState::Refused => "refused",
            DrillState::Failed => "failed",
            DrillState::BrokenOff => "broken-off",
        }
    }

    /// Nothing more will come of it.
    pub fn is_over(self) -> bool {
        !matches!(self, DrillState::Ordered | DrillState::UnderWay | DrillState::Recovering)
    }

    /// It says how Mainstay gets along with the fault.
    pub fn is_proof(self) -> bool {
        matches!(self, DrillState::Recovered | DrillState::Unnoticed)
    }
}

impl Drill {
    /// It went as it should: all was well again, or, where the fault is Mainstay's own, nothing came of it.
    pub fn went_well(&self) -> bool {
        let unhurt = self.state == DrillState::Unnoticed && self.fault.part().is_some();
        self.state == DrillState::Recovered || (unhurt && self.measured.failed == 0)
    }

    /// It is a proof no longer.
    pub fn is_stale(&self, now: Wall) -> bool {
        now.ms_since(self.at) >= i64::try_from(STALE_AFTER.as_millis()).unwrap_or(i64::MAX)
    }
}

/// An incident that a drill led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfDrill {
    /// The drill's number.
    pub drill: u64,
    /// People are not told of it.
    pub quiet: bool,
}

#[cfg(test)]
mod tests;
