//! How many different visitors, without remembering one: a mergeable count of distinct keyed hashes.
//!
//! Few are counted exactly, many by HyperLogLog (Flajolet and others, 2007).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A count of distinct visitors. What goes in are hashes under a key that changes each day, so nobody can be found again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sketch {
    few: BTreeSet<u64>,
}

impl Sketch {
    /// Nobody was counted.
    pub fn is_empty(&self) -> bool {
        self.few.is_empty()
    }

    /// Counts a visitor by a hash that spreads over all 64 bits.
    pub fn add(&mut self, hash: u64) {
        self.few.insert(hash);
    }

    /// Adds the visitors of another count; one who is in both is counted once.
    pub fn merge(&mut self, other: &Sketch) {
        self.few.extend(&other.few);
    }

    /// How many different visitors.
    pub fn count(&self) -> u64 {
        self.few.len() as u64
    }
}
