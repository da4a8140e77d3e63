//! A service's limits as all workers share them: the buckets of its addresses, its places and its queue.
//!
//! Only services with such limits have a gate. Whoever waits at it is a task of one worker; a place that another worker
//! gives up reaches it by its waker, which is a write to that worker's event descriptor and no more.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mainstay_model::limits::{AddressLimit, Level, Room};
use mainstay_model::routing::RoutingTable;
use mainstay_model::{ServerId, ServiceId};

use crate::policy::admission::{Admission, Asked, Done, Ticket};
use crate::policy::limits::AddressTable;
use crate::policy::server::Load;
use crate::policy::visitor::{HashKey, Network};

/// After a refusal it is counted for so long who asks most.
const WATCH: Duration = Duration::from_secs(5);

/// The gates of all services that have limits.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    by_service: Mutex<BTreeMap<ServiceId, Arc<Gate>>>,
    /// Of servers that take so many requests at most.
    loads: Mutex<BTreeMap<ServerId, Arc<Load>>>,
}

/// The limits of one service.
#[derive(Debug)]
pub(crate) struct Gate {
    epoch: Instant,
    /// Made when there first is a limit for addresses.
    addresses: OnceLock<AddressTable>,
    admission: Mutex<Admission<Arc<Waiter>>>,
    /// Milliseconds since the epoch.
    watched_until_ms: AtomicU64,
}

/// Somebody who waits for a place.
#[derive(Debug)]
struct Waiter {
    /// Written under the lock of the admission only.
    fate: AtomicU8,
    waker: Mutex<Waker>,
}

const WAITS: u8 = 0;
const ADMITTED: u8 = 1;
const SHED: u8 = 2;

/// A place, given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    since: Instant,
    answered: Option<Duration>,
}

impl Place {
    fn new(gate: &Arc<Gate>, since: Instant) -> Self {
        Self { gate: Arc::clone(gate), since, answered: None }
    }

    /// Its request's answer began.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.answered = Some(now.saturating_duration_since(self.since));
    }
}

/// A place in the queue, given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Queued {
    gate: Arc<Gate>,
    waiter: Arc<Waiter>,
    level: Level,
    ticket: Ticket,
}

/// What a newcomer gets.
#[derive(Debug)]
pub(crate) enum Entry {
    Place(Place),
    Queued(Queued),
    Shed,
}

impl Gates {
    /// Takes the limits of a new table; whoever waits goes on waiting under them.
    pub(crate) fn apply(&self, table: &RoutingTable, now: Instant) {
        self.apply_to_servers(table);
        let mut gates = self.lock();
        for routed in table.services.iter().filter(|routed| routed.counts_requests()) {
            let gate = gates.entry(routed.id.clone()).or_insert_with(|| Arc::new(Gate::new(now)));
            gate.apply(routed.room(), now);
        }
        gates.retain(|id, gate| {
            let limited = table.services.iter().any(|s| s.id == *id && s.counts_requests());
            if !limited {
                gate.apply(None, now);
            }
            // One that is still in use must count on, should its limits come back.
            limited || Arc::strong_count(gate) > 1
        });
    }

    /// The gate of a service that has limits.
    pub(crate) fn of(&self, id: &ServiceId) -> Option<Arc<Gate>> {
        self.lock().get(id).cloned()
    }

    /// What a server bears, if that is limited.
    pub(crate) fn load_of(&self, id: &ServerId) -> Option<Arc<Load>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn apply_to_servers(&self, table: &RoutingTable) {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let targets = table.services.iter().flat_map(|s| s.targets.iter().chain(&s.last_resort));
        let limited: BTreeMap<&ServerId, u32> =
            targets.filter_map(|target| Some((&target.id, target.concurrent?))).collect();
        for (id, most) in &limited {
            loads.entry((*id).clone()).or_default().allow(*most);
        }
        loads.retain(|id, load| {
            let is_limited = limited.contains_key(id);
            if !is_limited {
                load.allow(0);
            }
            // One that is still in use must count on, should its limit come back.
            is_limited || Arc::strong_count(load) > 1
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Arc<Gate>>> {
        self.by_service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            addresses: OnceLock::new(),
            admission: Mutex::new(Admission::new(None, epoch)),
            watched_until_ms: AtomicU64::new(0),
        }
    }

    /// Takes a request of an address.
    ///
    /// # Errors
    /// When the address is over its limit: how long until it may ask again.
    pub(crate) fn take(&self, from: Network, limit: &AddressLimit, now: Instant) -> Result<(), Duration> {
        let table = self.addresses.get_or_init(|| AddressTable::new(random_key(), self.epoch));
        table.take(from, limit, now)
    }

    /// Asks for a place.
    pub(crate) fn enter(self: &Arc<Self>, level: Level, now: Instant) -> Entry {
        let mut waiter = None;
        let mut admission = self.lock();
        let asked = admission.ask(level, now, || Arc::clone(waiter.insert(Arc::new(Waiter::new()))));
        match (asked, waiter) {
            (Asked::Admitted, _) => Entry::Place(Place::new(self, now)),
            (Asked::Queued { ticket, shed }, Some(waiter)) => {
                if let Some(shed) = shed {
                    shed.decide(SHED);
                    drop(admission);
                    shed.wake();
                }
                Entry::Queued(Queued { gate: Arc::clone(self), waiter, level, ticket })
            }
            (Asked::Queued { .. } | Asked::Shed, _) => Entry::Shed,
        }
    }

    /// Somebody was refused: who asks most is of interest for a while.
    pub(crate) fn refused(&self, now: Instant) {
        self.watched_until_ms.store(self.ms(now + WATCH), Ordering::Relaxed);
    }

    /// Whether it is to be counted who asks most.
    pub(crate) fn is_watched(&self, now: Instant) -> bool {
        let until = self.watched_until_ms.load(Ordering::Relaxed);
        until > 0 && self.ms(now) < until
    }

    fn apply(&self, room: Option<Room>, now: Instant) {
        let mut admission = self.lock();
        let admitted = admission.apply(room, now);
        admitted.iter().for_each(|waiter| waiter.decide(ADMITTED));
        drop(admission);
        admitted.iter().for_each(|waiter| waiter.wake());
    }

    /// How many requests may be under way, if that is found out; else 0.
    pub(crate) fn places_found(&self) -> u64 {
        self.lock().places_found().unwrap_or(0)
    }

    fn release(&self, done: Option<Done>, now: Instant) {
        let mut admission = self.lock();
        admission.release(done, now);
        // More than one when more were found to fit.
        while let Some(next) = admission.next(now) {
            next.decide(ADMITTED);
            next.wake();
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Admission<Arc<Waiter>>> {
        // Places stay places whatever thread panicked.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = Instant::now();
        let lasted = now.saturating_duration_since(self.since);
        self.gate.release(Some(Done { answered: self.answered, lasted }), now);
    }
}

impl Waiter {
    fn new() -> Self {
        Self { fate: AtomicU8::new(WAITS), waker: Mutex::new(Waker::noop().clone()) }
    }

    fn decide(&self, fate: u8) {
        self.fate.store(fate, Ordering::Release);
    }

    fn wake(&self) {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

impl Queued {
    /// Ready with a place, or with nothing when somebody higher took the place in the queue.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Place>> {
        let mut waker = self.waiter.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !waker.will_wake(cx.waker()) {
            waker.clone_from(cx.waker());
        }
        drop(waker);
        // Looked at after the waker was left: what is decided in between wakes the task once more.
        match self.waiter.fate.load(Ordering::Acquire) {
            WAITS => Poll::Pending,
            ADMITTED if self.waiter.fate.swap(SHED, Ordering::AcqRel) == ADMITTED => {
                Poll::Ready(Some(Place::new(&self.gate, Instant::now())))
            }
            _ => Poll::Ready(None),
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let decided = !self.gate.lock().leave(self.level, self.ticket);
        // A place that it was given and never took.
        if decided && self.waiter.fate.load(Ordering::Acquire) == ADMITTED {
            self.gate.release(None, Instant::now());
        }
    }
}

/// The key by which addresses find their buckets: random for each run, so that nobody can aim at another's.
pub(crate) fn random_key() -> HashKey {
    let random = || RandomState::new().build_hasher().finish();
    HashKey::new((u128::from(random()) << 64 | u128::from(random())).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use mainstay_model::limits::{Limits, Room};
    use mainstay_model::routing::RoutingMode;

    use super::*;
    use crate::driver::view::tests::table;

    fn gate(concurrent: u32, queue: u32) -> Arc<Gate> {
        let gate = Arc::new(Gate::new(Instant::now()));
        gate.apply(Some(Room { queue, ..Room::of(concurrent) }), Instant::now());
        gate
    }

    fn queued(entry: Entry) -> Queued {
        match entry {
            Entry::Queued(queued) => queued,
            other => panic!("{other:?}"),
        }
    }

    fn place(entry: Entry) -> Place {
        match entry {
            Entry::Place(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_place_that_becomes_free_wakes_who_is_next_and_nobody_else() {
        let (gate, t) = (gate(1, 2), Instant::now());
        let held = place(gate.enter(Level::Normal, t));
        let (first, second) = (queued(gate.enter(Level::Normal, t)), queued(gate.enter(Level::Normal, t)));
        let woken: [Arc<Woken>; 2] = Default::default();
        let wakers = woken.clone().map(Waker::from);
        assert!(first.poll(&Context::from_waker(&wakers[0])).is_pending());
        assert!(second.poll(&Context::from_waker(&wakers[1])).is_pending());
        drop(held);
        assert_eq!(woken.each_ref().map(|w| w.0.load(Ordering::SeqCst)), [1, 0]);
        assert!(matches!(first.poll(&Context::from_waker(&wakers[0])), Poll::Ready(Some(_))));
    }

    #[test]
    fn a_place_given_to_somebody_who_has_left_goes_to_the_next() {
        let (gate, t) = (gate(1, 3), Instant::now());
        let held = place(gate.enter(Level::Normal, t));
        let [first, second, third] = std::array::from_fn(|_| queued(gate.enter(Level::Normal, t)));
        drop(second);
        drop(held);
        drop(first);
        let Poll::Ready(Some(_held)) = third.poll(&Context::from_waker(Waker::noop())) else {
            panic!("the third is the only one left")
        };
        assert!(matches!(gate.enter(Level::High, t), Entry::Queued(_)), "and has the place alone");
    }

    #[test]
    fn threads_that_come_wait_and_leave_are_never_more_than_there_is_room_for() {
        const ROOM: usize = 3;
        let gate = gate(ROOM as u32, 8);
        let (inside, most, served) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (gate, inside, most, served) = (&gate, &inside, &most, &served);
                scope.spawn(move || {
                    for turn in 0..500 {
                        let held = match gate.enter(Level::ALL[turn % 3], Instant::now()) {
                            Entry::Place(place) => Some(place),
                            Entry::Shed => None,
                            // Some give up at once, the others wait until their fate is known.
                            Entry::Queued(_) if (turn + thread) % 5 == 0 => None,
                            Entry::Queued(queued) => loop {
                                match queued.poll(&Context::from_waker(Waker::noop())) {
                                    Poll::Ready(fate) => break fate,
                                    Poll::Pending => std::thread::yield_now(),
                                }
                            },
                        };
                        if held.is_some() {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            served.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= ROOM && served.load(Ordering::SeqCst) > 0);
        let all: Vec<_> = (0..ROOM).map(|_| place(gate.enter(Level::Low, Instant::now()))).collect();
        assert_eq!(all.len(), ROOM, "every place was given back");
    }

    #[test]
    fn a_gate_that_is_in_use_counts_on_when_its_limits_go_and_come_back() {
        let gates = Gates::default();
        let room = Room { queue: 0, ..Room::of(1) };
        let free = table(RoutingMode::Normal, &["a"], &[]);
        let mut limited = free.clone();
        let limits = Arc::new(Limits { room: Some(room), ..Limits::NONE });
        Arc::make_mut(&mut limited.services[0].carriage).limits = limits;
        let (id, t) = (limited.services[0].id.clone(), Instant::now());
        gates.apply(&limited, t);
        let held = place(gates.of(&id).expect("a gate").enter(Level::Normal, t));
        gates.apply(&free, t);
        gates.apply(&limited, t);
        assert!(matches!(gates.of(&id).expect("a gate").enter(Level::Normal, t), Entry::Shed));
        drop(held);
        gates.apply(&free, t);
        assert!(gates.of(&id).is_none(), "nobody uses it");
    }
}
