//! Attempts that wait for a server: who waits, for whom, since when. One sweep finds the servers that answer nobody.
//!
//! A server hangs when several requests wait at it for far longer than its answers ever take, it has answered nobody in the
//! meantime, and a fellow goes on answering, or has nothing to answer: then whoever waits there may go elsewhere, long before the timeout of a try. One
//! request alone may have asked for something that takes long, so it is no sign; nor is one that was moved here because it was
//! stuck elsewhere; nor is a time in which no server answers, when it is a database that hangs behind all of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::slots::{Nudge, Slot};
use super::view::Server;
use crate::policy::server::STUCK_LEAST;

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
    /// Its request was stuck at another server before.
    moved: bool,
    next_nudge: Instant,
}

impl Wait {
    /// For how long its server has let it wait and answered nobody.
    fn waited(&self, now: Instant) -> Duration {
        // Whoever waits at a server that answers others merely waits for something slow.
        now.saturating_duration_since(self.server.state.silent_since(self.since))
    }

    /// It has waited for far longer than its server's answers take.
    fn is_stuck(&self, now: Instant) -> bool {
        let waited = self.waited(now);
        waited >= STUCK_LEAST && self.server.state.stuck_after(now).is_some_and(|after| waited >= after)
    }
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
    /// An attempt begins. `repeatable`: its request may be sent again while this attempt is given up. `moved`: it was stuck at
    /// another server before.
    pub(crate) fn begin(
        &self,
        server: &Rc<Server>,
        slot: &Rc<Slot>,
        per_try: Duration,
        repeatable: bool,
        moved: bool,
        now: Instant,
    ) -> Waiting<'_> {
        let wait = Wait {
            server: Rc::clone(server),
            slot: Rc::clone(slot),
            phase: Phase::Connecting,
            since: now,
            per_try,
            repeatable,
            moved,
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

    /// Marks servers that hang, and nudges who waits for them. `goes_on_elsewhere`: a fellow of this server does well,
    /// as it showed since then.
    pub(crate) fn sweep(&self, now: Instant, goes_on_elsewhere: impl Fn(&Rc<Server>, Instant) -> bool) {
        let mut table = self.table.borrow_mut();
        for wait in table.waits.iter().flatten() {
            // Connecting does not depend on what is asked for.
            let tells = wait.phase == Phase::Connecting || wait.phase == Phase::Answer && !wait.moved;
            if tells && wait.is_stuck(now) {
                wait.server.state.is_stuck_at();
            }
        }
        for wait in table.waits.iter_mut().flatten() {
            if wait.phase == Phase::Uploading {
                continue;
            }
            let waited = wait.waited(now);
            let out_of_time = waited >= wait.per_try;
            let state = &wait.server.state;
            // Lately, not ever since: they may all have fallen silent together.
            let hangs = state.has_many_stuck(now)
                && wait.is_stuck(now)
                && (state.suspect.get() || goes_on_elsewhere(&wait.server, now - STUCK_LEAST));
            if !out_of_time && !hangs {
                continue;
            }
            wait.server.state.suspect.set(true);
            let may_leave = match wait.phase {
                Phase::Answer => wait.repeatable,
                // Nothing was sent yet, whatever the request is.
                Phase::Connecting => true,
                Phase::Uploading => false,
            };
            if may_leave && now >= wait.next_nudge {
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
