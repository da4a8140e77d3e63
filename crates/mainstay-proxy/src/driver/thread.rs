//! A worker's thread from its start to the end of its drain.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{oneshot, watch};

use super::door::Door;
use super::listener::Entrances;
use super::worker::{Leave, Shared, Worker};
use crate::Settings;

/// When a drain is over, idle connections and sessions take so long to go at most: the grace of new ones, the farewell of
/// sessions, and late sweeps.
const LAST_GRACE: Duration = Duration::from_millis(1500);

/// The addresses that are open, as they change.
pub(crate) type OpenDoors = watch::Receiver<Arc<Vec<Door>>>;

/// A worker thread, seen from outside.
#[derive(Debug)]
pub(crate) struct Thread {
    /// How many connections were cut; told as the thread's last act.
    pub(crate) ended: oneshot::Receiver<usize>,
    pub(crate) handle: JoinHandle<()>,
}

/// Starts a worker. Errors are told before anything is accepted.
pub(crate) fn start(
    index: usize,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    mut doors: OpenDoors,
    drain: watch::Receiver<Option<Leave>>,
) -> io::Result<Thread> {
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let (end, ended) = oneshot::channel();
    let handle = std::thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
        let begun = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let begun = begun.and_then(|runtime| {
            let worker = Rc::new(Worker::new(index, settings, shared));
            let mut entrances = Entrances::default();
            let open = Arc::clone(&doors.borrow_and_update());
            runtime.block_on(async { entrances.follow(&worker, &open, &drain) })?;
            Ok((runtime, worker, entrances))
        });
        let cut = match begun {
            Ok((runtime, worker, entrances)) => {
                let _ = ready.send(Ok(()));
                run(runtime, &worker, entrances, doors, drain)
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                0
            }
        };
        // Nobody listens when the whole program is ending.
        let _ = end.send(cut);
    })?;
    match started.recv() {
        Ok(Ok(())) => Ok(Thread { ended, handle }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the thread ended at once")),
    }
}

/// Waits until none is left, or the deadline.
async fn emptied(worker: &Worker, left: impl Fn(&Worker) -> usize, deadline: Instant) {
    let deadline = tokio::time::sleep_until(deadline.into());
    tokio::pin!(deadline);
    while left(worker) > 0 {
        tokio::select! {
            () = worker.emptied.notified() => {}
            () = &mut deadline => return,
        }
    }
}

/// Serves until the drain is over. Returns how many connections were cut.
fn run(
    runtime: LocalRuntime,
    worker: &Rc<Worker>,
    mut entrances: Entrances,
    mut doors: OpenDoors,
    drain: watch::Receiver<Option<Leave>>,
) -> usize {
    let cut = runtime.block_on(async {
        tokio::task::spawn_local(Rc::clone(worker).sweep_forever());
        let mut begins = drain.clone();
        let leave = loop {
            tokio::select! {
                biased;
                // The sender is gone when the whole data plane was dropped: then there is no time left.
                at = begins.wait_for(Option::is_some) => {
                    let at_once = || Leave { until: Instant::now(), gently: false };
                    break at.ok().and_then(|at| *at).unwrap_or_else(at_once);
                }
                Ok(()) = doors.changed() => {
                    let open = Arc::clone(&doors.borrow_and_update());
                    if let Err(error) = entrances.follow(worker, &open, &drain) {
                        tracing::error!(%error, worker = worker.index, "an address is not served by all workers");
                    }
                }
            }
        };
        entrances.ended().await;
        worker.begin_drain(leave.gently, leave.until);
        tokio::select! {
            () = emptied(worker, Worker::connections, leave.until) => {}
            // Told to be quicker about it.
            _ = begins.changed(), if leave.gently => {}
        }
        let over = Instant::now();
        if leave.gently && worker.connections() > 0 {
            // Whoever is idle even now is no loss.
            worker.begin_drain(false, over);
            emptied(worker, Worker::connections, over + LAST_GRACE).await;
        } else if worker.sessions() > 0 {
            emptied(worker, Worker::sessions, over + LAST_GRACE).await;
        }
        // A session that was ended well was ended all the same.
        let ended = worker.sessions_ended.get();
        worker.connections() + ended - worker.sessions().min(ended)
    });
    worker.close_server_connections();
    // What is left is cut here, and counts itself as it goes.
    runtime.shutdown_timeout(Duration::ZERO);
    worker.hand_in(Instant::now());
    cut
}
