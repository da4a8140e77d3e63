//! The four verbs.

use std::collections::VecDeque;

use crate::effect::Effect;
use crate::input::Input;
use crate::snapshot::Snapshot;
use crate::time::{Mono, Now};

/// The judge. See the crate's documentation.
#[derive(Debug)]
pub struct Model {
    effects: VecDeque<Effect>,
}

impl Model {
    /// A judge who knows nothing yet: hand it [`Input::Restored`] (if there is a record), then [`Input::Policy`].
    pub fn new(seed: u64, now: Now) -> Self {
        let _ = (seed, now);
        Self { effects: VecDeque::new() }
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        let _ = (now, input);
    }

    /// Does what is due. A call too early is a no-op.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }

    /// When [`Model::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    /// The next thing to be done; drained until `None` after each of the handling verbs.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The whole of the judgement, for people and programs.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot { at: now.wall, ..Snapshot::default() }
    }
}
