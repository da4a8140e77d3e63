//! Attempts that wait for a server: who waits, for whom, since when. One sweep finds the servers that answer nobody.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::slots::{Nudge, Slot};
use super::view::Server;

/// A request that was nudged and stayed is not nudged again before.
const NUDGE_PAUSE: Duration = Duration::from_millis(100);

/// What an attempt waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A connection.
    Connecting,
    /// Its own request to be sent: no sign against the server.
    Uploading,
    /// The answer.
    Answer,
}

#[derive(Debug)]
struct Wait {
    server: Rc<Server>,
    slot: Rc<Slot>,
    phase: Phase,
    since: Instant,
    per_try: Duration,
    repeatable: bool,
    next_nudge: Instant,
}

/// The waiting attempts of one thread.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    table: RefCell<Table>,
}

#[derive(Debug, Default)]
struct Table {
    waits: Vec<Option<Wait>>,
    free: Vec<usize>,
}

/// One waiting attempt; it waits no longer when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'w> {
    waits: &'w Waits,
    index: usize,
}

impl Waits {
    /// An attempt begins. `repeatable`: its request may be sent again while this attempt is given up.
    pub(crate) fn begin(
        &self,
        server: &Rc<Server>,
        slot: &Rc<Slot>,
        per_try: Duration,
        repeatable: bool,
        now: Instant,
    ) -> Waiting<'_> {
        let wait = Wait {
            server: Rc::clone(server),
            slot: Rc::clone(slot),
            phase: Phase::Connecting,
            since: now,
            per_try,
            repeatable,
            next_nudge: now,
        };
        let mut table = self.table.borrow_mut();
        let index = match table.free.pop() {
            Some(index) => {
                table.waits[index] = Some(wait);
                index
            }
            None => {
                table.waits.push(Some(wait));
                table.waits.len() - 1
            }
        };
        Waiting { waits: self, index }
    }

    /// Whether anybody waits.
    pub(crate) fn is_empty(&self) -> bool {
        let table = self.table.borrow();
        table.free.len() == table.waits.len()
    }

    /// Marks servers that let somebody wait suspiciously long, and nudges who waits for one that answers nobody.
    pub(crate) fn sweep(&self, now: Instant) {
        for wait in self.table.borrow_mut().waits.iter_mut().flatten() {
            if wait.phase == Phase::Uploading {
                continue;
            }
            // Whoever waits at a server that answers others merely waits for something slow.
            let waited = now.saturating_duration_since(wait.server.state.silent_since(wait.since));
            if wait.server.state.is_wait_suspicious(waited) {
                wait.server.state.suspect.set(true);
            }
            let due = wait.phase == Phase::Answer && wait.repeatable && waited >= wait.per_try;
            if due && now >= wait.next_nudge {
                wait.next_nudge = now + NUDGE_PAUSE;
                wait.slot.nudge(Nudge::Hang);
            }
        }
    }

    /// A server was taken out of rotation: whoever waits for it may go elsewhere at once.
    pub(crate) fn ejected(&self, server: &Rc<Server>) {
        for wait in self.table.borrow().waits.iter().flatten() {
            if wait.repeatable && Rc::ptr_eq(&wait.server, server) {
                wait.slot.nudge(Nudge::Ejected);
            }
        }
    }
}

impl Waiting<'_> {
    /// The attempt waits for something else from now on.
    pub(crate) fn enter(&self, phase: Phase, now: Instant) {
        if let Some(wait) = &mut self.waits.table.borrow_mut().waits[self.index] {
            wait.phase = phase;
            wait.since = now;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut table = self.waits.table.borrow_mut();
        if let Some(wait) = table.waits[self.index].take() {
            // A nudge of this attempt says nothing to the next one.
            wait.slot.take_nudge();
        }
        table.free.push(self.index);
    }
}
