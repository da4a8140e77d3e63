//! A worker's thread from its start to the end of its drain.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{oneshot, watch};

use super::listener;
use super::worker::{Shared, Worker};
use crate::{Serves, Settings};

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
    listeners: Vec<(Serves, std::net::TcpListener)>,
    drain: watch::Receiver<Option<Instant>>,
) -> io::Result<Thread> {
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let (end, ended) = oneshot::channel();
    let handle = std::thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
        let cut = match build(listeners) {
            Ok((runtime, listeners)) => {
                let _ = ready.send(Ok(()));
                let worker = Rc::new(Worker::new(index, settings, shared));
                run(runtime, &worker, listeners, drain)
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

fn build(
    listeners: Vec<(Serves, std::net::TcpListener)>,
) -> io::Result<(LocalRuntime, Vec<(Serves, TcpListener)>)> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let listeners = {
        let _entered = runtime.enter();
        listeners
            .into_iter()
            .map(|(serves, listener)| Ok((serves, TcpListener::from_std(listener)?)))
            .collect::<io::Result<_>>()?
    };
    Ok((runtime, listeners))
}

/// Serves until the drain is over. Returns how many connections were cut.
fn run(
    runtime: LocalRuntime,
    worker: &Rc<Worker>,
    listeners: Vec<(Serves, TcpListener)>,
    mut drain: watch::Receiver<Option<Instant>>,
) -> usize {
    let cut = runtime.block_on(async {
        tokio::task::spawn_local(Rc::clone(worker).sweep_forever());
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|(serves, listener)| {
                tokio::task::spawn_local(listener::accept(Rc::clone(worker), serves, listener, drain.clone()))
            })
            .collect();
        // The sender is gone when the whole data plane was dropped: then there is no time left.
        let deadline =
            drain.wait_for(Option::is_some).await.ok().and_then(|at| *at).unwrap_or_else(Instant::now);
        for task in accepting {
            // It takes no time: it takes what is waiting and ends.
            let _ = task.await;
        }
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
