//! What became of one request that did not go the usual way, as it is told to whoever asks for its id.

use serde::{Deserialize, Serialize};

use crate::id::{ServerId, ServiceId};
use crate::time::Wall;

/// A request that was tried again, refused, shed, failed or slow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// As its visitor was told it in `X-Request-Id`.
    pub id: String,
    /// `None`: its host leads nowhere, or its head could not be read.
    pub service: Option<ServiceId>,
    /// When its head began to arrive.
    pub at: Wall,
    /// Method and target, the beginning of a long one; empty when they could not be read.
    pub line: String,
    /// Attempts in their order; the last of them is the one that was answered, if any was.
    pub attempts: Vec<AttemptRecord>,
    /// How it ended, in a sentence without a full stop.
    pub ending: String,
    /// What its visitor was answered; `None`: nothing whole.
    pub status: Option<u16>,
    /// Until it was dealt with, in milliseconds.
    pub took_ms: f64,
}

/// One attempt at one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// At whom.
    pub server: ServerId,
    /// After the request began, in milliseconds.
    pub after_ms: f64,
    /// How long it lasted, until an answer began or it was given up, in milliseconds.
    pub took_ms: f64,
    /// What came of it, in a sentence without a full stop.
    pub outcome: String,
    /// Whether it was tried again and why, in a sentence without a full stop; empty after the last good one.
    pub verdict: String,
}
