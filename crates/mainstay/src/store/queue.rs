//! What waits for the writer: bounded, folded where it can be, and put back when it could not be written.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_model::effect::Record;
use mainstay_model::heartbeat::HeartbeatRecord;
use mainstay_model::host::seconds::Second;
use mainstay_model::results::Look;
use mainstay_model::{MonitorId, ProbeTarget, ServerId, ServiceId, Wall};
use tokio::sync::oneshot;

use super::{MachineBucket, MonitorBucket, ServerBucket, ServiceBucket, StoreError, Write};

/// Changes other than roll-ups that may wait; more are refused.
pub(super) const CHANGES_MAX: usize = 10_000;
/// Buckets of servers, and as many of services, that may wait: the oldest are dropped. 50 servers fill it in five hours.
pub(super) const BUCKETS_MAX: usize = 15_000;
/// The same of monitors: five minutes of ten thousand.
const MONITOR_BUCKETS_MAX: usize = 50_000;
/// Looks that may wait: a minute of ten thousand monitors that are looked at each 10 s.
const LOOKS_MAX: usize = 60_000;
/// Seconds of the machine that may wait: nearly three hours.
const SECONDS_MAX: usize = 10_000;
/// Callers that may wait for an answer; more are refused.
const ANSWERS_MAX: usize = 20_000;

/// Where a caller learns what became of its changes.
pub(super) type Answer = oneshot::Sender<Result<(), StoreError>>;

/// What is written in one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// All but roll-ups and signs of life, in order.
    pub(super) changes: VecDeque<Write>,
    /// Roll-ups as they last stood, by the start of their minute.
    pub(super) servers: BTreeMap<(Wall, ServerId), ServerBucket>,
    /// The same of services.
    pub(super) services: BTreeMap<(Wall, ServiceId), ServiceBucket>,
    /// The same of the machine.
    pub(super) machine: BTreeMap<Wall, MachineBucket>,
    /// The same of monitors.
    pub(super) monitors: BTreeMap<(Wall, MonitorId), MonitorBucket>,
    /// Every look at them and at servers, in order.
    pub(super) looks: VecDeque<(ProbeTarget, Look)>,
    /// The machine around incidents, in order.
    pub(super) seconds: VecDeque<Second>,
    /// Jobs that ping as they last stood: as many as there are jobs, however often they ping.
    pub(super) heartbeats: BTreeMap<MonitorId, HeartbeatRecord>,
    /// The last sign of life.
    pub(super) alive: Option<Wall>,
    /// Who waits to hear of it.
    pub(super) answers: Vec<Answer>,
    /// Buckets dropped because too many waited.
    pub(super) dropped: u64,
}

impl Batch {
    /// Nothing is to be written and nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.is_nothing_to_write() && self.answers.is_empty()
    }

    fn is_nothing_to_write(&self) -> bool {
        self.changes.is_empty()
            && self.servers.is_empty()
            && self.services.is_empty()
            && self.machine.is_empty()
            && self.monitors.is_empty()
            && self.looks.is_empty()
            && self.seconds.is_empty()
            && self.heartbeats.is_empty()
            && self.alive.is_none()
    }

    /// Tells all who wait.
    pub(super) fn answer(&mut self, result: &Result<(), StoreError>) {
        for answer in self.answers.drain(..) {
            // A caller that no longer waits does not mind.
            let _ = answer.send(result.clone());
        }
    }

    fn add(&mut self, changes: Vec<Write>) {
        for change in changes {
            match change {
                Write::Minute { servers, services } => {
                    for bucket in servers {
                        self.servers.insert((bucket.start, bucket.server.clone()), bucket);
                    }
                    for bucket in services {
                        self.services.insert((bucket.start, bucket.service.clone()), bucket);
                    }
                }
                Write::Machine(buckets) => {
                    self.machine.extend(buckets.into_iter().map(|bucket| (bucket.start, bucket)));
                }
                Write::Monitors(buckets) => {
                    let keyed =
                        buckets.into_iter().map(|bucket| ((bucket.start, bucket.monitor.clone()), bucket));
                    self.monitors.extend(keyed);
                }
                Write::Looks(looks) => self.looks.extend(looks),
                Write::Seconds(seconds) => self.seconds.extend(seconds),
                Write::Record(Record::Heartbeat(record)) => {
                    self.heartbeats.insert(record.monitor.clone(), record);
                }
                Write::Alive(at) => self.alive = Some(at),
                change => self.changes.push_back(change),
            }
        }
        self.drop_oldest();
    }

    /// Puts what could not be written before what has come since; of one minute the newer stands.
    fn put_back(&mut self, earlier: Batch) {
        for change in earlier.changes.into_iter().rev() {
            self.changes.push_front(change);
        }
        for (key, bucket) in earlier.servers {
            self.servers.entry(key).or_insert(bucket);
        }
        for (key, bucket) in earlier.services {
            self.services.entry(key).or_insert(bucket);
        }
        for (start, bucket) in earlier.machine {
            self.machine.entry(start).or_insert(bucket);
        }
        for (key, bucket) in earlier.monitors {
            self.monitors.entry(key).or_insert(bucket);
        }
        for look in earlier.looks.into_iter().rev() {
            self.looks.push_front(look);
        }
        for second in earlier.seconds.into_iter().rev() {
            self.seconds.push_front(second);
        }
        for (id, record) in earlier.heartbeats {
            self.heartbeats.entry(id).or_insert(record);
        }
        self.alive = self.alive.or(earlier.alive);
        self.dropped += earlier.dropped;
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        while self.servers.len() > BUCKETS_MAX && self.servers.pop_first().is_some() {
            self.dropped += 1;
        }
        while self.machine.len() > BUCKETS_MAX && self.machine.pop_first().is_some() {
            self.dropped += 1;
        }
        while self.monitors.len() > MONITOR_BUCKETS_MAX && self.monitors.pop_first().is_some() {
            self.dropped += 1;
        }
        while self.looks.len() > LOOKS_MAX && self.looks.pop_front().is_some() {
            self.dropped += 1;
        }
        while self.seconds.len() > SECONDS_MAX && self.seconds.pop_front().is_some() {
            self.dropped += 1;
        }
        while self.services.len() > BUCKETS_MAX && self.services.pop_first().is_some() {
            self.dropped += 1;
        }
    }
}

/// Between all callers and the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    stopping: bool,
    stopped: bool,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Write this.
    Write(Batch),
    /// Nothing came in time.
    Idle,
    /// Nothing waits and nothing more will come.
    Stop,
}

impl Queue {
    /// Takes changes in, or answers at once why not. Holds the lock for microseconds.
    pub(super) fn push(&self, changes: Vec<Write>, answer: Answer, path: &Path) {
        let mut state = self.lock();
        let refusal = if state.stopping || state.stopped {
            Some(closed(path))
        } else if state.is_full(&changes) {
            Some(StoreError::Overloaded)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(state);
            let _ = answer.send(Err(refusal));
            return;
        }
        state.waiting.add(changes);
        state.waiting.answers.push(answer);
        drop(state);
        self.wake.notify_all();
    }

    /// All that waits; waits for it itself, at most so long. After [`Queue::stop`] it does not wait.
    pub(super) fn next(&self, wait: Duration) -> Next {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        loop {
            if !state.waiting.is_empty() {
                return Next::Write(std::mem::take(&mut state.waiting));
            }
            if state.stopping {
                return Next::Stop;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Idle;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Keeps what could not be written. Those who waited for it have been answered.
    pub(super) fn put_back(&self, batch: Batch) {
        self.lock().waiting.put_back(batch);
    }

    /// Waits out the time between two tries; `true` when the record is being closed instead.
    pub(super) fn pause(&self, wait: Duration) -> bool {
        let state = self.lock();
        self.wake
            .wait_timeout_while(state, wait, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .stopping
    }

    /// Nothing more is taken in.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    /// `false` when the writer has not ended in time.
    pub(super) fn wait_until_stopped(&self, deadline: Duration) -> bool {
        let state = self.lock();
        self.wake
            .wait_timeout_while(state, deadline, |state| !state.stopped)
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&mut self, changes: &[Write]) -> bool {
        if self.waiting.answers.len() >= ANSWERS_MAX {
            self.waiting.answers.retain(|answer| !answer.is_closed());
        }
        let more = changes
            .iter()
            .filter(|c| {
                let folded = matches!(
                    c,
                    Write::Minute { .. } | Write::Machine(_) | Write::Seconds(_) | Write::Alive(_)
                );
                !folded && !matches!(c, Write::Record(Record::Heartbeat(_)))
            })
            .count();
        self.waiting.answers.len() >= ANSWERS_MAX
            || (more > 0 && self.waiting.changes.len() + more > CHANGES_MAX)
    }
}

/// Says that the writer has ended, however it ended.
#[derive(Debug)]
pub(super) struct StoppedOnDrop(pub(super) Arc<Queue>);

impl Drop for StoppedOnDrop {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stopped = true;
        let mut left = std::mem::take(&mut state.waiting);
        drop(state);
        left.answer(&Err(closed(Path::new(super::FILE))));
        self.0.wake.notify_all();
    }
}

fn closed(path: &Path) -> StoreError {
    StoreError::Database { path: PathBuf::from(path), reason: "the record is closed".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::input::AdminState;

    fn minute(n: i64) -> Write {
        let server = ServiceId::new("shop").server("a");
        Write::Minute { servers: vec![ServerBucket::empty(server, Wall(n * 60_000))], services: Vec::new() }
    }

    fn admin() -> Write {
        let server = ServiceId::new("shop").server("a");
        Write::Record(Record::Admin { server, state: AdminState::Draining })
    }

    fn push(queue: &Queue, changes: Vec<Write>) -> oneshot::Receiver<Result<(), StoreError>> {
        let (answer, receiver) = oneshot::channel();
        queue.push(changes, answer, Path::new("record.db"));
        receiver
    }

    #[test]
    fn the_oldest_roll_ups_are_dropped_and_counted_and_other_changes_are_not() {
        let queue = Queue::default();
        drop(push(&queue, vec![admin()]));
        for n in 0..BUCKETS_MAX as i64 + 7 {
            drop(push(&queue, vec![minute(n)]));
        }
        let Next::Write(batch) = queue.next(Duration::ZERO) else { panic!("something waits") };
        assert_eq!((batch.servers.len(), batch.dropped, batch.changes.len()), (BUCKETS_MAX, 7, 1));
        assert_eq!(batch.servers.first_key_value().map(|(key, _)| key.0), Some(Wall(7 * 60_000)));
    }

    #[test]
    fn more_changes_than_the_limit_are_refused_by_name_while_roll_ups_still_go_in() {
        let queue = Queue::default();
        let first = push(&queue, vec![admin(); CHANGES_MAX]);
        let mut refused = push(&queue, vec![admin()]);
        assert_eq!(refused.try_recv(), Ok(Err(StoreError::Overloaded)));
        let mut rollup = push(&queue, vec![minute(1)]);
        assert!(rollup.try_recv().is_err(), "it waits");
        drop(first);
    }

    #[test]
    fn what_is_put_back_goes_before_what_came_since_and_the_newer_roll_up_stands() {
        let queue = Queue::default();
        let server = ServiceId::new("shop").server("a");
        let with_ok = |ok| {
            let bucket = ServerBucket { ok, ..ServerBucket::empty(server.clone(), Wall(0)) };
            Write::Minute { servers: vec![bucket], services: Vec::new() }
        };
        drop(push(&queue, vec![admin(), with_ok(1)]));
        let Next::Write(failed) = queue.next(Duration::ZERO) else { panic!("something waits") };
        let ready = Write::Record(Record::Admin { server: server.clone(), state: AdminState::Ready });
        drop(push(&queue, vec![ready.clone(), with_ok(2)]));
        queue.put_back(failed);
        let Next::Write(batch) = queue.next(Duration::ZERO) else { panic!("something waits") };
        assert_eq!(batch.changes, [admin(), ready]);
        assert_eq!(batch.servers.values().map(|b| b.ok).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_write_after_the_end_is_answered_and_not_lost_in_silence() {
        let queue = Arc::new(Queue::default());
        let mut waiting = push(&queue, vec![admin()]);
        drop(StoppedOnDrop(queue.clone()));
        assert!(matches!(waiting.try_recv(), Ok(Err(StoreError::Database { .. }))));
        let mut late = push(&queue, vec![admin()]);
        assert!(matches!(late.try_recv(), Ok(Err(StoreError::Database { .. }))));
    }
}
