//! Time as plain, storable numbers, so that a journal of inputs can be replayed.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A monotonic time: nanoseconds since an arbitrary start. Only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// So long before; the start of time when that lies before it.
    pub fn before(self, age: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, rhs: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Mono> for Mono {
    type Output = Duration;

    fn sub(self, rhs: Mono) -> Duration {
        self.since(rhs)
    }
}

/// A wall-clock time: milliseconds since the Unix epoch, UTC. It may jump; never measure with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

impl Wall {
    /// Milliseconds since `earlier`; negative when the clock was set back.
    pub fn ms_since(self, earlier: Wall) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// What durations are measured with.
    pub mono: Mono,
    /// What is written down.
    pub wall: Wall,
}

impl Add<Duration> for Now {
    type Output = Now;

    fn add(self, rhs: Duration) -> Now {
        Now {
            mono: self.mono + rhs,
            wall: Wall(self.wall.0.saturating_add(i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX))),
        }
    }
}
