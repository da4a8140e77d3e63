//! Deadlines of a thread's connections: a table that one sweep looks at, instead of a timer per await.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

/// All connections of one thread.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    table: RefCell<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Beside each other, so that a sweep is a scan; as they are given, so that setting one is a store.
    due: Vec<Option<Instant>>,
    slots: Vec<Option<Rc<Slot>>>,
    free: Vec<usize>,
}

/// One connection's deadline and nudges. Its task has a single waker, so it is woken here and finds out why.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    index: usize,
    /// Its client has sent nothing of a next request yet, so it can be let go.
    idle: Cell<bool>,
    fired: Cell<bool>,
    nudge: Cell<Option<Nudge>>,
    waker: RefCell<Option<Waker>>,
}

/// Why a request that waits for its answer should think again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nudge {
    /// Its server has answered nobody for the time of one try.
    Hang,
    /// Its server was taken out of rotation.
    Ejected,
}

impl Slots {
    pub(crate) fn register(&self) -> Rc<Slot> {
        let mut table = self.table.borrow_mut();
        let index = table.free.pop().unwrap_or(table.due.len());
        let slot = Rc::new(Slot { index, ..Slot::default() });
        if index == table.due.len() {
            table.due.push(None);
            table.slots.push(Some(Rc::clone(&slot)));
        } else {
            table.due[index] = None;
            table.slots[index] = Some(Rc::clone(&slot));
        }
        slot
    }

    pub(crate) fn unregister(&self, slot: &Slot) {
        let mut table = self.table.borrow_mut();
        table.due[slot.index] = None;
        table.slots[slot.index] = None;
        table.free.push(slot.index);
    }

    /// Sets the deadline, forgetting one that has passed.
    pub(crate) fn arm(&self, slot: &Slot, at: Instant) {
        slot.fired.set(false);
        self.table.borrow_mut().due[slot.index] = Some(at);
    }

    /// Wakes every connection whose deadline has passed.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut table = self.table.borrow_mut();
        let Table { due, slots, .. } = &mut *table;
        for (due, slot) in due.iter_mut().zip(slots.iter()) {
            if due.is_some_and(|due| due < now) {
                *due = None;
                if let Some(slot) = slot {
                    slot.fired.set(true);
                    slot.wake();
                }
            }
        }
    }

    /// Lets up to `n` idle connections go before their time, those that have been idle for longest first.
    pub(crate) fn let_idle_go(&self, n: usize) {
        let mut table = self.table.borrow_mut();
        let Table { due, slots, .. } = &mut *table;
        let mut idle: Vec<_> = slots.iter().flatten().filter(|slot| slot.idle.get()).collect();
        idle.sort_unstable_by_key(|slot| due[slot.index]);
        for slot in idle.into_iter().take(n) {
            due[slot.index] = None;
            slot.idle.set(false);
            slot.fired.set(true);
            slot.wake();
        }
    }

    /// Wakes every connection, so that it sees that something changed for all.
    pub(crate) fn wake_all(&self) {
        for slot in self.table.borrow().slots.iter().flatten() {
            slot.wake();
        }
    }
}

impl Slot {
    /// To be called in each poll that waits for anything.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether its client has sent nothing of a next request yet.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// The deadline has passed.
    pub(crate) fn fired(&self) -> bool {
        self.fired.get()
    }

    pub(crate) fn nudge(&self, nudge: Nudge) {
        self.nudge.set(Some(nudge));
        self.wake();
    }

    pub(crate) fn take_nudge(&self) -> Option<Nudge> {
        self.nudge.take()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle.get()
    }

    /// Has its task look again.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_fires_once_it_has_passed_and_not_before() {
        let t = Instant::now();
        let slots = Slots::default();
        let (a, b) = (slots.register(), slots.register());
        slots.arm(&a, t + Duration::from_millis(10));
        slots.arm(&b, t + Duration::from_millis(20));
        slots.sweep(t + Duration::from_millis(10));
        assert!(!a.fired());
        slots.sweep(t + Duration::from_millis(11));
        assert!(a.fired() && !b.fired());
        slots.arm(&a, t + Duration::from_secs(1));
        assert!(!a.fired());
    }

    #[test]
    fn under_a_shortage_those_that_were_idle_for_longest_go_first_and_nobody_who_is_served() {
        let t = Instant::now();
        let slots = Slots::default();
        let all: Vec<_> = (0..4u64).map(|_| slots.register()).collect();
        for (slot, seconds) in all.iter().zip([1, 40, 20, 30]) {
            slots.arm(slot, t + Duration::from_secs(seconds));
            slot.set_idle(seconds != 1);
        }
        slots.let_idle_go(2);
        assert_eq!(all.iter().map(|s| s.fired()).collect::<Vec<_>>(), [false, false, true, true]);
        slots.let_idle_go(9);
        assert_eq!(all.iter().map(|s| s.fired()).collect::<Vec<_>>(), [false, true, true, true]);
    }

    #[test]
    fn a_place_is_used_again_without_its_old_deadline() {
        let t = Instant::now();
        let slots = Slots::default();
        let a = slots.register();
        slots.arm(&a, t);
        slots.unregister(&a);
        let b = slots.register();
        slots.sweep(t + Duration::from_secs(9));
        assert!(!b.fired());
        assert_eq!(slots.table.borrow().due.len(), 1);
    }
}
