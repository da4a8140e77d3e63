//! The one clock. Only the engine reads it; everything that judges is handed a [`Now`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_model::{Mono, Now, Wall};

/// What is carried over from the Mainstay before may lie so long before the start.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

/// Reads both clocks of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// This moment.
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            mono: Mono(0) + BEFORE + self.started.elapsed(),
            wall: Wall(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// The runtime's time of a monotonic moment, for its timers.
    pub fn instant(&self, at: Mono) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + at.since(Mono(0) + BEFORE))
    }
}
