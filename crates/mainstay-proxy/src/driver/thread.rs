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
use super::worker::{Shared, Worker};
use crate::Settings;

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
    drain: watch::Receiver<Option<Instant>>,
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

/// Serves until the drain is over. Returns how many connections were cut.
fn run(
    runtime: LocalRuntime,
    worker: &Rc<Worker>,
    mut entrances: Entrances,
    mut doors: OpenDoors,
    drain: watch::Receiver<Option<Instant>>,
) -> usize {
    let cut = runtime.block_on(async {
        tokio::task::spawn_local(Rc::clone(worker).sweep_forever());
        let mut begins = drain.clone();
        let deadline = loop {
            tokio::select! {
                biased;
                // The sender is gone when the whole data plane was dropped: then there is no time left.
                at = begins.wait_for(Option::is_some) => {
                    break at.ok().and_then(|at| *at).unwrap_or_else(Instant::now);
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
        worker.begin_drain();
        let deadline = tokio::time::sleep_until(deadline.into());
        tokio::pin!(deadline);
        while worker.connections() > 0 {
            tokio::select! {
                () = worker.emptied.notified() => {}
                () = &mut deadline => break,
            }
        }
        worker.connections()
    });
    worker.close_server_connections();
    // What is left is cut here, and counts itself as it goes.
    runtime.shutdown_timeout(Duration::ZERO);
    worker.hand_in(Instant::now());
    cut
}
