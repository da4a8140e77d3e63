//! What a look saw on its way, whatever it ended with: how far it came and when, and what was answered.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_model::input::ProbeFailure;
use mainstay_model::policy::ProbeKind;
use mainstay_model::sample::{Phases, Sample};

/// Written on the way and read at the end; a look that is given up at its deadline has one too.
#[derive(Debug, Default)]
pub(super) struct Trace(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    phases: Phases,
    sample: Option<Sample>,
    facts: Facts,
}

/// What else was seen, whether it is good or not: for those who keep figures of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Where the last connection went; `None`: to a Unix socket, or there was none.
    pub address: Option<IpAddr>,
    /// Connections that were accepted: one more than redirects were followed.
    pub connections: u32,
    /// Status of the last answer.
    pub status: Option<u16>,
    /// What its head says of its length, bytes.
    pub length: Option<u64>,
    /// The last answer came over HTTP/2.
    pub http2: bool,
    /// When the certificate of the other side ends, in seconds since 1970.
    pub not_after: Option<i64>,
}

impl Trace {
    /// A part was done.
    pub(super) fn reached(&self, part: impl FnOnce(&mut Phases)) {
        part(&mut self.seen().phases);
    }

    /// A connection was accepted. What an earlier one came to counts no longer.
    pub(super) fn connected(&self, at: Duration) {
        let mut seen = self.seen();
        let (resolved, address) = (seen.phases.resolved, seen.facts.address);
        let connections = seen.facts.connections + 1;
        let phases = Phases { resolved, connected: Some(at), ..Phases::default() };
        *seen = Seen { phases, sample: None, facts: Facts { address, connections, ..Facts::default() } };
    }

    /// Something else was seen.
    pub(super) fn saw(&self, fact: impl FnOnce(&mut Facts)) {
        fact(&mut self.seen().facts);
    }

    pub(super) fn facts(&self) -> Facts {
        self.seen().facts.clone()
    }

    /// This was answered, and is not good.
    pub(super) fn answered(&self, sample: Sample) {
        self.seen().sample = Some(sample);
    }

    pub(super) fn phases(&self) -> Phases {
        self.seen().phases
    }

    /// All of it; what was answered only of a look that failed, and not when it came no further than the kernel.
    pub(super) fn told(
        self,
        kind: &ProbeKind,
        failure: Option<&ProbeFailure>,
    ) -> (Phases, Option<Arc<Sample>>) {
        let Seen { phases, sample, .. } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = failure.is_some_and(|failure| !matches!(failure, ProbeFailure::NotProbed(_)));
        let reached = || phases.connected.map(|_| Sample::unanswered(kind.words(), phases));
        (phases, failed.then(|| sample.or_else(reached)).flatten().map(Arc::new))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
