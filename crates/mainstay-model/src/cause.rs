//! Why it happened: what an incident is put down to, with the evidence, because the cause decides which action is right.

use serde::{Deserialize, Serialize};

/// What an incident is put down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// More honest traffic than there is capacity for.
    Overload,
    /// A full disk, memory that ran out, a machine that failed.
    Hardware,
    /// A release that is worse than the one before it.
    BadUpdate,
    /// The way to the servers.
    Network,
    /// A flood of requests from few addresses.
    Attack,
    /// Something that the servers themselves need.
    Dependency,
    /// A certificate that has expired or is of another host.
    Certificate,
    /// Names that lead nowhere or to a dead address.
    Dns,
    /// A server's own process: it crashed or hangs.
    Crash,
    /// Nothing points at one of the others.
    Unknown,
}

impl Cause {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Overload => "overload",
            Cause::Hardware => "hardware",
            Cause::BadUpdate => "bad update",
            Cause::Network => "network",
            Cause::Attack => "attack",
            Cause::Dependency => "dependency",
            Cause::Certificate => "certificate",
            Cause::Dns => "DNS",
            Cause::Crash => "crash",
            Cause::Unknown => "unknown",
        }
    }
}

/// A cause with what speaks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The cause.
    pub cause: Cause,
    /// What speaks for it, one sentence each without a full stop, the strongest first.
    pub evidence: Vec<String>,
}
