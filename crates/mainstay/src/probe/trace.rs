//! What a look saw on its way, whatever it ended with: how far it came and when, and what was answered.

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
}

impl Trace {
    /// A part was done.
    pub(super) fn reached(&self, part: impl FnOnce(&mut Phases)) {
        part(&mut self.seen().phases);
    }

    /// A connection was accepted. What an earlier one came to counts no longer.
    pub(super) fn connected(&self, at: Duration) {
        let mut seen = self.seen();
        let resolved = seen.phases.resolved;
        *seen = Seen { phases: Phases { resolved, connected: Some(at), ..Phases::default() }, sample: None };
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
        let Seen { phases, sample } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = failure.is_some_and(|failure| !matches!(failure, ProbeFailure::NotProbed(_)));
        let reached = || phases.connected.map(|_| Sample::unanswered(kind.words(), phases));
        (phases, failed.then(|| sample.or_else(reached)).flatten().map(Arc::new))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
