//! Who has a place, who waits for one and who is shed: the requests of one service over all workers.
//!
//! A place that becomes free goes straight to the one who is next, so nobody who comes later can take it and nobody is
//! woken in vain. Next is the highest level; within a level the one who came first. When the one who came first has
//! waited for half of the queue's deadline, the queue is no longer a short burst: then the newest of the level is next,
//! so that those who are served are served promptly, and not all of them just before they would have given up. (Facebook's
//! adaptive LIFO; what is left over meets its deadline.)
//!
//! When the queue is full, a newcomer takes the place in it of the newest of the lowest level below its own, or is shed.
//!
//! Pure: no lock, no clock, no waker. Whoever waits is a `W` that is handed back when its fate is known.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mainstay_model::limits::{Level, Room};

use super::adaptive::Adaptive;

/// The places and the queue of one service.
#[derive(Debug)]
pub(crate) struct Admission<W> {
    /// `None`: there is room for all.
    room: Option<Room>,
    /// Only where the room is to be found out.
    adaptive: Option<Adaptive>,
    under_way: u64,
    /// By level, the lowest first; in each the oldest in front.
    queues: [VecDeque<Waiting<W>>; Level::ALL.len()],
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    ticket: Ticket,
    since: Instant,
    who: W,
}

/// Names one who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// How a request went that had a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// After so long its answer began.
    pub(crate) answered: Option<Duration>,
    /// So long it had its place.
    pub(crate) lasted: Duration,
}

/// What becomes of a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked<W> {
    /// It has a place.
    Admitted,
    /// It waits; in the queue it has taken the place of somebody who is shed now.
    Queued { ticket: Ticket, shed: Option<W> },
    /// It is shed.
    Shed,
}

impl<W> Admission<W> {
    pub(crate) fn new(room: Option<Room>, now: Instant) -> Self {
        let adaptive = adaptive(room, None, now);
        Self {
            room,
            adaptive,
            under_way: 0,
            queues: std::array::from_fn(|_| VecDeque::new()),
            next_ticket: 0,
        }
    }

    /// Somebody comes. `who` is called only for one who has to wait.
    pub(crate) fn ask(&mut self, level: Level, now: Instant, who: impl FnOnce() -> W) -> Asked<W> {
        if self.has_place() {
            self.under_way += 1;
            return Asked::Admitted;
        }
        let longest = self.room.map_or(0, |room| room.queue as usize);
        let mut shed = None;
        if self.waiting() >= longest {
            let lowest = self.queues[..level as usize].iter_mut().find(|queue| !queue.is_empty());
            match lowest.and_then(VecDeque::pop_back) {
                Some(newest) => shed = Some(newest.who),
                None => return Asked::Shed,
            }
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.queues[level as usize].push_back(Waiting { ticket, since: now, who: who() });
        Asked::Queued { ticket, shed }
    }

    /// Somebody who had a place is done; how it went is learned from. Who has a place now is asked of [`Admission::next`].
    pub(crate) fn release(&mut self, done: Option<Done>, now: Instant) {
        if let (Some(adaptive), Some(room), Some(done)) = (&mut self.adaptive, self.room, done) {
            adaptive.ended(done.answered, done.lasted, self.under_way, room.concurrent, now);
        }
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// How many may be under way, where that is found out.
    pub(crate) fn places_found(&self) -> Option<u64> {
        Some(self.adaptive.as_ref()?.limit(self.room?.concurrent))
    }

    /// How many may be under way; `None`: all.
    fn places(&self) -> Option<u64> {
        self.places_found().or(self.room.map(|room| u64::from(room.concurrent)))
    }

    /// Somebody waits no longer. `false`: its fate was decided already.
    pub(crate) fn leave(&mut self, level: Level, ticket: Ticket) -> bool {
        let queue = &mut self.queues[level as usize];
        let place = queue.iter().position(|waiting| waiting.ticket == ticket);
        place.and_then(|place| queue.remove(place)).is_some()
    }

    /// The limits are others now. Whoever waits goes on waiting; returns those who have a place now.
    pub(crate) fn apply(&mut self, room: Option<Room>, now: Instant) -> Vec<W> {
        self.adaptive = adaptive(room, self.adaptive.take(), now);
        self.room = room;
        std::iter::from_fn(|| self.next(now)).collect()
    }

    /// Gives a free place to who is next: it has it from now on.
    pub(crate) fn next(&mut self, now: Instant) -> Option<W> {
        if !self.has_place() {
            return None;
        }
        let patience = self.room.map_or(Duration::MAX, |room| room.queue_deadline / 2);
        let queue = self.queues.iter_mut().rev().find(|queue| !queue.is_empty())?;
        let stands = queue.front().is_some_and(|w| now.saturating_duration_since(w.since) >= patience);
        let next = if stands { queue.pop_back() } else { queue.pop_front() };
        self.under_way += 1;
        next.map(|waiting| waiting.who)
    }

    fn has_place(&self) -> bool {
        self.places().is_none_or(|places| self.under_way < places)
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }
}

/// What was learned so far holds as long as there is something to learn.
fn adaptive(room: Option<Room>, known: Option<Adaptive>, now: Instant) -> Option<Adaptive> {
    room.filter(|room| room.adaptive).map(|_| known.unwrap_or_else(|| Adaptive::new(now)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(2);

    fn room(concurrent: u32, queue: u32) -> Option<Room> {
        Some(Room { queue, queue_deadline: DEADLINE, ..Room::of(concurrent) })
    }

    fn release(admission: &mut Admission<u32>, now: Instant) -> Option<u32> {
        admission.release(None, now);
        admission.next(now)
    }

    fn ticket(asked: Asked<u32>) -> Ticket {
        match asked {
            Asked::Queued { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_free_place_goes_to_the_highest_level_and_within_it_to_the_first() {
        let t = Instant::now();
        let mut admission = Admission::new(room(1, 10), t);
        assert_eq!(admission.ask(Level::Low, t, || 0), Asked::Admitted);
        for (who, level) in [(1, Level::Low), (2, Level::High), (3, Level::Normal), (4, Level::High)] {
            ticket(admission.ask(level, t, || who));
        }
        let order: Vec<_> = std::iter::from_fn(|| release(&mut admission, t)).collect();
        assert_eq!(order, [2, 4, 3, 1]);
    }

    #[test]
    fn when_the_queue_is_full_the_newest_of_the_lowest_makes_way_for_somebody_higher_only() {
        let t = Instant::now();
        let mut admission = Admission::new(room(1, 3), t);
        admission.ask(Level::High, t, || 0);
        for (who, level) in [(1, Level::Normal), (2, Level::Low), (3, Level::Low)] {
            ticket(admission.ask(level, t, || who));
        }
        assert_eq!(admission.ask(Level::Low, t, || 4), Asked::Shed);
        assert!(matches!(admission.ask(Level::Normal, t, || 5), Asked::Queued { shed: Some(3), .. }));
        assert!(matches!(admission.ask(Level::High, t, || 6), Asked::Queued { shed: Some(2), .. }));
        assert!(matches!(admission.ask(Level::High, t, || 7), Asked::Queued { shed: Some(5), .. }));
        assert!(matches!(admission.ask(Level::High, t, || 8), Asked::Queued { shed: Some(1), .. }));
        assert_eq!(admission.ask(Level::High, t, || 9), Asked::Shed);
    }

    #[test]
    fn in_a_queue_that_stands_the_newest_is_next() {
        let t = Instant::now();
        let mut admission = Admission::new(room(1, 10), t);
        admission.ask(Level::Normal, t, || 0);
        for who in 1..=4 {
            ticket(admission.ask(Level::Normal, t + DEADLINE / 8 * who, || who));
        }
        assert_eq!(
            release(&mut admission, t + DEADLINE / 2),
            Some(1),
            "a short burst is served in its order"
        );
        assert_eq!(release(&mut admission, t + DEADLINE), Some(4));
        assert_eq!(release(&mut admission, t + DEADLINE / 4 * 3 - Duration::from_millis(1)), Some(2));
    }

    #[test]
    fn whoever_waits_keeps_waiting_when_the_limits_change_and_goes_when_there_is_room() {
        let t = Instant::now();
        let mut admission = Admission::new(room(1, 4), t);
        admission.ask(Level::Normal, t, || 0);
        for who in 1..=4 {
            ticket(admission.ask(Level::Normal, t, || who));
        }
        assert_eq!(admission.apply(room(3, 1), t), [1, 2]);
        assert_eq!(admission.ask(Level::Normal, t, || 9), Asked::Shed, "the queue is longer than it may be");
        assert_eq!(admission.apply(room(1, 1), t), Vec::<u32>::new());
        assert_eq!(release(&mut admission, t), None, "there are more under way than there may be");
        assert_eq!(admission.apply(None, t), [3, 4]);
        assert_eq!(admission.ask(Level::Low, t, || 5), Asked::Admitted);
    }

    /// What may happen, in any order.
    #[derive(Debug, Clone)]
    enum Step {
        Ask(Level),
        /// One of those that have a place, or wait, by any number.
        Release(usize),
        Leave(usize),
        Apply(Option<(u32, u32)>),
        Later(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let level = prop::sample::select(Level::ALL.to_vec());
        prop_oneof![
            6 => level.prop_map(Step::Ask),
            4 => any::<usize>().prop_map(Step::Release),
            2 => any::<usize>().prop_map(Step::Leave),
            1 => prop::option::of((1..5u32, 0..6u32)).prop_map(Step::Apply),
            1 => (0..3000u64).prop_map(Step::Later),
        ]
    }

    /// A world that knows of everybody what became of it, and checks that nothing is lost or given twice.
    struct World {
        admission: Admission<u32>,
        room: Option<Room>,
        now: Instant,
        next: u32,
        admitted: Vec<u32>,
        waiting: BTreeMap<u32, (Level, Ticket)>,
    }

    impl World {
        fn admit(&mut self, who: u32) {
            self.waiting.remove(&who).expect("only who waits is admitted later");
            self.admitted.push(who);
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Ask(level) => {
                    let (who, full) = (self.next, self.is_full());
                    self.next += 1;
                    match self.admission.ask(level, self.now, || who) {
                        Asked::Admitted => {
                            assert!(!full);
                            self.admitted.push(who);
                        }
                        Asked::Queued { ticket, shed } => {
                            if let Some(shed) = shed {
                                let (lower, _) = self.waiting.remove(&shed).expect("it waited");
                                assert!(lower < level);
                                assert!(self.waiting.values().all(|(other, _)| *other >= lower));
                            }
                            assert!(full);
                            self.waiting.insert(who, (level, ticket));
                        }
                        Asked::Shed => {
                            assert!(self.waiting.values().all(|(other, _)| *other >= level));
                            assert!(self.waiting.len() >= self.room.expect("a limit").queue as usize);
                        }
                    }
                }
                Step::Release(nth) if !self.admitted.is_empty() => {
                    self.admitted.swap_remove(nth % self.admitted.len());
                    let highest = self.waiting.values().map(|(level, _)| *level).max();
                    if let Some(who) = release(&mut self.admission, self.now) {
                        assert_eq!(self.waiting.get(&who).map(|(level, _)| *level), highest);
                        self.admit(who);
                    }
                }
                Step::Leave(nth) if !self.waiting.is_empty() => {
                    let who = *self.waiting.keys().nth(nth % self.waiting.len()).expect("somebody");
                    let (level, ticket) = self.waiting.remove(&who).expect("it waits");
                    assert!(self.admission.leave(level, ticket));
                    assert!(!self.admission.leave(level, ticket), "it leaves once");
                }
                Step::Apply(limits) => {
                    self.room = limits.and_then(|(concurrent, queue)| room(concurrent, queue));
                    for who in self.admission.apply(self.room, self.now) {
                        self.admit(who);
                    }
                }
                Step::Later(ms) => self.now += Duration::from_millis(ms),
                Step::Release(_) | Step::Leave(_) => {}
            }
        }

        fn is_full(&self) -> bool {
            self.room.is_some_and(|room| self.admitted.len() >= room.concurrent as usize)
        }

        fn check(&self) {
            assert_eq!(self.admission.under_way, self.admitted.len() as u64);
            assert_eq!(self.admission.waiting(), self.waiting.len());
            assert!(self.waiting.is_empty() || self.is_full(), "nobody waits while there is room");
        }
    }

    fn world(room: Option<Room>) -> World {
        let now = Instant::now();
        World {
            admission: Admission::new(room, now),
            room,
            now,
            next: 0,
            admitted: Vec::new(),
            waiting: BTreeMap::new(),
        }
    }

    proptest! {
        #[test]
        fn places_and_waiting_are_exact_whatever_happens(steps in prop::collection::vec(step(), 1..200)) {
            let mut world = world(room(2, 3));
            for step in steps {
                world.take(step);
                world.check();
            }
        }
    }

    #[test]
    fn every_short_history_of_a_small_room_is_exact() {
        let alphabet = [
            Step::Ask(Level::Low),
            Step::Ask(Level::High),
            Step::Release(0),
            Step::Leave(0),
            Step::Apply(Some((2, 1))),
            Step::Apply(None),
        ];
        let length = 6;
        for history in 0..alphabet.len().pow(length) {
            let (mut world, mut rest) = (world(room(1, 1)), history);
            for _ in 0..length {
                world.take(alphabet[rest % alphabet.len()].clone());
                world.check();
                rest /= alphabet.len();
            }
        }
    }
}
