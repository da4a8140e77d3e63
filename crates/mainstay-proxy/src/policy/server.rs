//! What one worker knows of one server: load, latency, trouble and counts. Survives changes of the routing table.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mainstay_model::ServerId;
use mainstay_model::input::{Circuit, FailureKind, ServerTraffic};

use super::learned::Lesson;
use super::reflex::Reflex;
use super::usual::Usual;

/// Time in which a latency peak falls to a third. linkerd's default of 10 s keeps traffic away for more than a minute from
/// a server that was once a thousand times slower than the others; this asks it again after about 15 s.
const DECAY: Duration = Duration::from_secs(2);
/// Nobody who waits for less is stuck: pauses of a tenth of a second are an ordinary garbage collection or a busy machine.
pub(crate) const STUCK_LEAST: Duration = Duration::from_millis(150);
/// Who waits for so many times what its server takes for all but one answer in a thousand is stuck.
const STUCK_TIMES: u32 = 4;
/// So many must be stuck at a server before it is taken to hang: one alone may have asked for something that takes long.
const STUCK_MANY: u32 = 2;
/// What is usual is read out of the histogram at most that often.
const USUAL_FRESH: Duration = Duration::from_millis(100);
/// A bad answer is shown at most that often: the first ones tell.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// How many requests are under way at a server that takes so many at most, over all workers, and how many connections to it wait
/// for one: each may hold one of its processes.
#[derive(Debug, Default)]
pub(crate) struct Load {
    most: AtomicU32,
    under_way: AtomicU32,
    idle: AtomicU32,
}

impl Load {
    /// Another limit. 0: there is none.
    pub(crate) fn allow(&self, most: u32) {
        self.most.store(most, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        most > 0 && self.under_way.load(Ordering::Relaxed) >= most
    }

    /// It has more connections than it takes requests.
    fn is_crowded(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let all = self.under_way.load(Ordering::Relaxed) + self.idle.load(Ordering::Relaxed);
        most > 0 && all > most
    }
}

/// A connection that waits for its next request; counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Option<Arc<Load>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A request under way; over when this is dropped.
#[derive(Debug)]
pub(crate) struct Borne(Option<Arc<Load>>);

impl Drop for Borne {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// An upgraded connection; over when this is dropped.
#[derive(Debug)]
pub(crate) struct Tunnelled<'a>(&'a Cell<u32>);

impl Drop for Tunnelled<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// One server as one worker sees it.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) id: ServerId,
    /// When a bad answer of its was last shown to the engine.
    shown_at: Cell<Option<Instant>>,
    /// Attempts under way.
    in_flight: Cell<u32>,
    /// Of them, upgraded connections.
    tunnels: Cell<u32>,
    /// Peak-EWMA of the time to the first byte, in seconds, and when it was last fed; `None`: never answered.
    latency: Cell<Option<(f64, Instant)>>,
    /// How long its answers take.
    usual: RefCell<Usual>,
    /// From when on a wait is stuck, and when that was read; `None` in it: its answers are too few to tell.
    stuck_after: Cell<Option<(Instant, Option<Duration>)>>,
    /// When it last began an answer to anybody in the time that is usual for it.
    last_answer: Cell<Option<Instant>>,
    /// Requests that are stuck at it, as the present sweep counts them.
    stuck: Cell<u32>,
    /// It lets requests wait and answers nobody: new requests go elsewhere if they can.
    pub(crate) suspect: Cell<bool>,
    /// Whether it is avoided after failures.
    pub(crate) reflex: RefCell<Reflex>,
    counts: RefCell<ServerTraffic>,
    failures_in_a_row: Cell<u64>,
    /// Attempts under way and the circuit, as the last report told them.
    reported: Cell<(u32, Circuit)>,
    load: RefCell<Option<Arc<Load>>>,
}

impl ServerState {
    pub(crate) fn new(id: ServerId) -> Self {
        Self {
            id,
            shown_at: Cell::new(None),
            in_flight: Cell::new(0),
            tunnels: Cell::new(0),
            latency: Cell::new(None),
            usual: RefCell::default(),
            stuck_after: Cell::new(None),
            last_answer: Cell::new(None),
            stuck: Cell::new(0),
            suspect: Cell::new(false),
            reflex: RefCell::default(),
            counts: RefCell::default(),
            failures_in_a_row: Cell::new(0),
            reported: Cell::default(),
            load: RefCell::default(),
        }
    }

    /// What was learned of it, for another process.
    pub(crate) fn lesson(&self, now: Instant) -> Lesson {
        Lesson {
            latency: self.latency(now),
            usual: self.usual.borrow().counts(),
            avoided: self.reflex.borrow().left(now),
            ..Lesson::default()
        }
    }

    /// What another process has learned of it.
    pub(crate) fn take_up(&self, lesson: &Lesson, now: Instant) {
        let is_time = |seconds: &f64| seconds.is_finite() && *seconds >= 0.0;
        self.latency.set(lesson.latency.filter(is_time).map(|seconds| (seconds, now)));
        self.usual.replace(Usual::of(&lesson.usual));
        self.reflex.borrow_mut().take_up(lesson.avoided, now);
    }

    /// Whether a bad answer is to be shown to the engine now.
    pub(crate) fn may_show(&self, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < SHOWN_EVERY;
        let may = !self.shown_at.get().is_some_and(lately);
        if may {
            self.shown_at.set(Some(now));
        }
        may
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// An attempt begins; the other workers see it as long as what is returned is held.
    pub(crate) fn begin_attempt(&self) -> Borne {
        self.in_flight.set(self.in_flight.get() + 1);
        let load = self.load.borrow().clone();
        if let Some(load) = &load {
            load.under_way.fetch_add(1, Ordering::Relaxed);
        }
        Borne(load)
    }

    /// An attempt became a connection that lasts as long as it likes, until what is returned is dropped.
    pub(crate) fn begin_tunnel(&self) -> Tunnelled<'_> {
        self.tunnels.set(self.tunnels.get() + 1);
        Tunnelled(&self.tunnels)
    }

    /// What it bears over all workers, where that is limited.
    pub(crate) fn shares_load(&self, load: Option<Arc<Load>>) {
        *self.load.borrow_mut() = load;
    }

    /// It has as many requests as it takes.
    pub(crate) fn is_full(&self) -> bool {
        self.load.borrow().as_ref().is_some_and(|load| load.is_full())
    }

    /// It has more connections than it takes requests at once, over all workers.
    pub(crate) fn is_crowded(&self) -> bool {
        self.load.borrow().as_ref().is_some_and(|load| load.is_crowded())
    }

    /// A connection waits for its next request; the other workers see it as long as what is returned is held.
    pub(crate) fn begin_wait(&self) -> Waiting {
        let load = self.load.borrow().clone();
        if let Some(load) = &load {
            load.idle.fetch_add(1, Ordering::Relaxed);
        }
        Waiting(load)
    }

    pub(crate) fn end_attempt(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// It began an interim answer, or any other sign that it answers.
    pub(crate) fn saw_life(&self, now: Instant) {
        self.last_answer.set(Some(now));
        self.suspect.set(false);
    }

    /// It began an answer after `took`.
    pub(crate) fn saw_answer(&self, status: u16, took: Duration, now: Instant) {
        self.learn(took, now);
        // An answer to what was sent before it failed does not show that it is back.
        if self.reflex.borrow_mut().success(now.checked_sub(took).unwrap_or(now)) {
            // How long it took to fail says nothing of how fast it is now that it is back.
            self.latency.set(None);
        }
        self.feed(took, now);
        self.failures_in_a_row.set(0);
        let mut counts = self.counts.borrow_mut();
        match status {
            ..400 => counts.ok += 1,
            400..500 => counts.client_errors += 1,
            _ => counts.server_errors += 1,
        }
        counts.latency.record(took);
    }

    /// An answer that had begun well ended as an error (gRPC). Its beginning may have been handed in already, as good.
    pub(crate) fn saw_late_error(&self) {
        let mut counts = self.counts.borrow_mut();
        counts.ok = counts.ok.saturating_sub(1);
        counts.server_errors += 1;
    }

    /// An attempt failed; `waited` is how long for, if that says something of its latency.
    pub(crate) fn saw_failure(&self, kind: FailureKind, waited: Option<Duration>, now: Instant) {
        if let Some(waited) = waited {
            self.feed(waited, now);
        }
        let run = self.failures_in_a_row.get() + 1;
        self.failures_in_a_row.set(run);
        let mut counts = self.counts.borrow_mut();
        *counts.failures.entry(kind).or_default() += 1;
        counts.failures_in_a_row = counts.failures_in_a_row.max(run);
    }

    /// Somebody waited for so long and left.
    pub(crate) fn saw_wait(&self, waited: Duration, now: Instant) {
        self.feed(waited, now);
    }

    /// Somebody waited for so long and was answered by another server: nobody knows how long it would have been, but no less.
    pub(crate) fn saw_longer_than(&self, waited: Duration, now: Instant) {
        if self.latency(now).is_some_and(|known| waited.as_secs_f64() > known) {
            self.feed(waited, now);
        }
    }

    /// The judge put it newly into rotation, or it has another address: what was held against it no longer holds.
    ///
    /// Its latency goes too, because the peak of a hang would keep traffic away for minutes from a server that is well.
    pub(crate) fn forgive(&self) {
        self.reflex.borrow_mut().forgive();
        self.latency.set(None);
        self.suspect.set(false);
    }

    /// Since when it has let somebody wait who began to wait at `since`, and begun no answer to anybody.
    pub(crate) fn silent_since(&self, since: Instant) -> Instant {
        self.last_answer.get().map_or(since, |at| at.max(since))
    }

    /// From when on who waits for it is stuck; `None`: its answers are too few to tell.
    pub(crate) fn stuck_after(&self, now: Instant) -> Option<Duration> {
        match self.stuck_after.get() {
            Some((at, after)) if now.saturating_duration_since(at) < USUAL_FRESH => after,
            _ => {
                let after = self.usual.borrow().most().map(|most| (most * STUCK_TIMES).max(STUCK_LEAST));
                self.stuck_after.set(Some((now, after)));
                after
            }
        }
    }

    /// A sweep begins: nobody is known to be stuck.
    pub(crate) fn begin_sweep(&self) {
        self.stuck.set(0);
        self.suspect.set(false);
    }

    /// The sweep found somebody who is stuck at it.
    pub(crate) fn is_stuck_at(&self) {
        self.stuck.set(self.stuck.get() + 1);
    }

    /// Whether so many are stuck that it is not for what they asked for. Of a server that is avoided already, one who found out
    /// is enough.
    pub(crate) fn has_many_stuck(&self, now: Instant) -> bool {
        let many = if self.reflex.borrow().circuit(now) == Circuit::Closed { STUCK_MANY } else { 1 };
        self.stuck.get() >= many
    }

    /// It has begun an answer since, in the time that is usual for it.
    pub(crate) fn has_answered_since(&self, since: Instant) -> bool {
        self.last_answer.get().is_some_and(|at| at >= since)
    }

    /// Peak-EWMA in seconds, fallen since it was last fed; `None`: never answered.
    pub(crate) fn latency(&self, now: Instant) -> Option<f64> {
        self.latency.get().map(|(seconds, at)| seconds * decay(now.saturating_duration_since(at)))
    }

    /// The counts since the last call; `None` if nothing happened that the last report did not say.
    pub(crate) fn take_counts(&self, now: Instant) -> Option<ServerTraffic> {
        let mut counts = self.counts.take();
        // A run that goes on is still a run in the next interval.
        counts.failures_in_a_row = counts.failures_in_a_row.max(self.failures_in_a_row.get());
        let in_flight = self.in_flight.get();
        let silent = counts.answered() == 0 && counts.failed() == 0;
        let circuit = self.reflex.borrow().circuit(now);
        let state = (in_flight, circuit);
        // A server that a report leaves out has nothing under way and nothing against it, so the first such one is told.
        let nothing = (0, Circuit::Closed);
        if silent && state == nothing && self.reported.get() == nothing {
            return None;
        }
        self.reported.set(state);
        counts.circuit = circuit;
        counts.in_flight = u64::from(in_flight);
        counts.tunnels = u64::from(self.tunnels.get());
        Some(counts)
    }

    /// What is usual, and whether this answer shows that it does not hang.
    fn learn(&self, took: Duration, now: Instant) {
        let mut learned = took;
        if took < STUCK_LEAST {
            self.saw_life(now);
        } else if let Some(after) = self.stuck_after(now).filter(|after| took >= *after) {
            // An answer that comes as late as from a server that hangs changes what is usual only step by step: otherwise the first
            // few of a fault would make it usual.
            learned = after / 2;
        } else {
            self.saw_life(now);
        }
        self.usual.borrow_mut().record(learned);
    }

    fn feed(&self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let next = match self.latency.get() {
            Some((old, at)) => {
                let weight = decay(now.saturating_duration_since(at));
                // A peak counts at once, an improvement slowly.
                if took > old * weight { took } else { old * weight + took * (1.0 - weight) }
            }
            None => took,
        };
        self.latency.set(Some((next, now)));
    }
}

fn decay(elapsed: Duration) -> f64 {
    // exp costs more than everything else here, and most answers come within a tick of each other.
    let share = elapsed.as_secs_f64() / DECAY.as_secs_f64();
    if share < 0.01 { 1.0 - share } else { (-share).exp() }
}

#[cfg(test)]
mod tests {
    use mainstay_model::ServiceId;

    use super::*;

    fn server() -> ServerState {
        ServerState::new(ServiceId::new("shop").server("a"))
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let (s, t) = (server(), Instant::now());
        s.saw_answer(200, Duration::from_millis(1), t);
        s.saw_answer(200, Duration::from_millis(100), t);
        assert_eq!(s.latency(t), Some(0.1));
        s.saw_answer(200, Duration::from_millis(1), t);
        assert!(s.latency(t).is_some_and(|l| l > 0.09));
        assert!(s.latency(t + Duration::from_secs(6)).is_some_and(|l| l < 0.006));
    }

    #[test]
    fn what_a_hang_cost_is_forgotten_when_the_server_is_back() {
        let (s, t) = (server(), Instant::now());
        const FIRST: Duration = Duration::from_secs(1);
        let hang = || {
            s.saw_failure(FailureKind::Timeout, Some(Duration::from_secs(1)), t);
            s.reflex.borrow_mut().failure(t, FIRST);
        };
        hang();
        s.saw_answer(200, Duration::from_millis(1), t + Duration::from_secs(1));
        assert_eq!(s.latency(t + Duration::from_secs(1)), Some(0.001), "it answered after its spell");
        hang();
        s.forgive();
        assert_eq!(s.latency(t), None, "the judge put it back");
    }

    #[test]
    fn who_is_stuck_is_told_by_the_servers_own_measure() {
        let (s, mut t) = (server(), Instant::now());
        assert_eq!(s.stuck_after(t), None, "nothing is known");
        let mut answers = |took, n| {
            for _ in 0..n {
                t += Duration::from_secs(1);
                s.saw_answer(200, took, t);
            }
            s.stuck_after(t + Duration::from_secs(1))
        };
        assert_eq!(answers(Duration::from_millis(1), 50), Some(STUCK_LEAST));
        let after = answers(Duration::from_millis(140), 5);
        assert!(after.is_some_and(|a| a > Duration::from_millis(560)), "{after:?}");
        let late = answers(Duration::from_secs(60), 1);
        assert!(
            late < Some(Duration::from_secs(2)),
            "one answer that took a minute makes no minute usual: {late:?}"
        );
        assert!(answers(Duration::from_secs(60), 30) > Some(Duration::from_secs(30)), "many do");
    }

    #[test]
    fn an_answer_that_comes_far_too_late_is_no_sign_of_life() {
        let (s, t) = (server(), Instant::now());
        (0..50).for_each(|_| s.saw_answer(200, Duration::from_millis(1), t));
        let later = t + Duration::from_secs(2);
        s.saw_answer(200, Duration::from_secs(2), later);
        assert!(!s.has_answered_since(later));
        s.saw_answer(200, Duration::from_millis(100), later);
        assert!(s.has_answered_since(later));
    }

    #[test]
    fn one_who_is_stuck_is_enough_only_where_the_server_was_avoided_before() {
        let (s, t) = (server(), Instant::now());
        s.is_stuck_at();
        assert!(!s.has_many_stuck(t));
        s.is_stuck_at();
        assert!(s.has_many_stuck(t));
        s.begin_sweep();
        s.reflex.borrow_mut().failure(t, Duration::from_secs(1));
        s.is_stuck_at();
        assert!(s.has_many_stuck(t));
    }

    #[test]
    fn a_run_of_failures_goes_on_over_reports_until_an_answer() {
        let (s, t) = (server(), Instant::now());
        s.saw_failure(FailureKind::Refused, None, t);
        s.saw_failure(FailureKind::Refused, None, t);
        let counts = s.take_counts(t).expect("something happened");
        assert_eq!((counts.failed(), counts.failures_in_a_row), (2, 2));
        s.saw_failure(FailureKind::Reset, None, t);
        assert_eq!(s.take_counts(t).expect("something happened").failures_in_a_row, 3);
        s.saw_answer(503, Duration::from_millis(1), t);
        let counts = s.take_counts(t).expect("something happened");
        assert_eq!((counts.failures_in_a_row, counts.server_errors), (0, 1));
        assert_eq!(s.take_counts(t), None);
    }

    #[test]
    fn the_end_of_the_last_attempt_is_reported_even_if_nothing_was_counted() {
        let (s, t) = (server(), Instant::now());
        let _borne = s.begin_attempt();
        assert_eq!(s.take_counts(t).map(|c| (c.in_flight, c.tunnels)), Some((1, 0)));
        let tunnel = s.begin_tunnel();
        assert_eq!(s.take_counts(t).map(|c| (c.in_flight, c.tunnels)), Some((1, 1)));
        drop(tunnel);
        s.end_attempt();
        assert_eq!(s.take_counts(t).map(|c| c.in_flight), Some(0));
        assert_eq!(s.take_counts(t), None);
    }
}
