//! Roll-ups: what was measured, by minute and by hour, with histograms that can be merged.

use std::collections::BTreeMap;

use mainstay_model::histogram::Histogram;
use mainstay_model::input::FailureKind;
use mainstay_model::{Input, Now, ServerId, ServiceId, Wall};
use serde::Serialize;

/// The width of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// One minute.
    Minute,
    /// One hour.
    Hour,
}

/// One server in one bucket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerBucket {
    /// The server.
    pub server: ServerId,
    /// Where the bucket begins, a multiple of its width.
    pub start: Wall,
    /// Milliseconds of the bucket in which Mainstay was looking; the rest is unknown.
    pub observed_ms: u64,
    /// Attempts answered 1xx to 3xx.
    pub ok: u64,
    /// Attempts answered 4xx.
    pub client_errors: u64,
    /// Attempts answered 5xx.
    pub server_errors: u64,
    /// Failed attempts by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Time to the answer's first byte.
    #[serde(skip)]
    pub latency: Histogram,
    /// Good probes.
    pub probes_good: u64,
    /// Failed probes.
    pub probes_failed: u64,
    /// How long good probes took.
    #[serde(skip)]
    pub probe_latency: Histogram,
}

/// One service in one bucket, as its visitors saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceBucket {
    /// The service.
    pub service: ServiceId,
    /// Where the bucket begins, a multiple of its width.
    pub start: Wall,
    /// Milliseconds of the bucket in which Mainstay was looking; the rest is unknown.
    pub observed_ms: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Refused or cut short by a fault.
    pub failed: u64,
    /// Answered 5xx by a server.
    pub server_errors: u64,
    /// Saved by a retry.
    pub saved: u64,
    /// Time to the answer's first byte.
    #[serde(skip)]
    pub latency: Histogram,
}

/// Gathers inputs into the current minute's buckets. The engine shows it each input that it hands to the judge.
#[derive(Debug, Default)]
pub struct Accumulator {}

impl Accumulator {
    /// Counts what an input says of servers and services.
    pub fn observe(&mut self, now: Now, input: &Input) {
        let _ = (now, input);
    }

    /// The buckets that changed since the last call, to be written; call it every few seconds, so that little is lost in a crash.
    pub fn take(&mut self, now: Now) -> (Vec<ServerBucket>, Vec<ServiceBucket>) {
        let _ = now;
        (Vec::new(), Vec::new())
    }
}
