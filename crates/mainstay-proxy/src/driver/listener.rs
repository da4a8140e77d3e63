//! Accepting: a loop for each socket of a worker, and what becomes of its connections when the address is given up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay_model::{Endpoint, ServiceId};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::client::Peer;
use super::connection::{self, Registered};
use super::door::Door;
use super::io::{Socket, Stream};
use super::passage;
use super::proxy_header;
use super::tls;
use super::worker::{Leave, Worker};
use crate::page::{TOO_MANY_CONNECTIONS, TOO_MANY_OF_ADDRESS};
use crate::{Listen, Serves};

/// First wait after accepting failed, as when there are no file descriptors left; it doubles up to a second.
const BACK_OFF: Duration = Duration::from_millis(10);
/// Connections that had begun when their address was given up come in for so long: a round trip to a far client.
const LATECOMERS: Duration = Duration::from_millis(300);

/// The name of the refusal.
const REFUSED_FOR_NUMBER: &str = "too-many-connections";
/// The same where one address has them.
const REFUSED_FOR_ADDRESS: &str = "too-many-connections-of-address";

/// An address as one worker serves it. Its connections know it.
#[derive(Debug)]
pub(crate) struct Entrance {
    listen: RefCell<Listen>,
    /// The address was given up: what is under way may finish, and nothing more is begun.
    closed: Cell<bool>,
    close: Notify,
}

impl Entrance {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The IP address that is listened at.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.listen.borrow().address.ip()
    }

    /// The TCP services there.
    pub(crate) fn services(&self) -> Vec<ServiceId> {
        match &self.listen.borrow().serves {
            Serves::Tcp(services) => services.clone(),
            Serves::Http | Serves::Https => Vec::new(),
        }
    }

    async fn closes(&self) {
        if !self.is_closed() {
            self.close.notified().await;
        }
    }
}

/// The addresses that one worker serves.
#[derive(Debug, Default)]
pub(crate) struct Entrances {
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    entrance: Rc<Entrance>,
    accepting: Vec<JoinHandle<()>>,
}

impl Entrances {
    /// Serves these from now on, and no others. To be called inside the worker's runtime.
    ///
    /// # Errors
    /// When a socket cannot be watched; the others are served.
    pub(crate) fn follow(
        &mut self,
        worker: &Rc<Worker>,
        doors: &[Door],
        drain: &watch::Receiver<Option<Leave>>,
    ) -> io::Result<()> {
        let before = self.open.len();
        self.open.retain(|id, open| {
            let stays = doors.iter().any(|door| door.id == *id);
            if !stays {
                open.entrance.closed.set(true);
                open.entrance.close.notify_waiters();
            }
            stays
        });
        if self.open.len() < before {
            // Idle connections see that their address is gone.
            worker.slots.wake_all();
        }
        let mut failed = Ok(());
        for door in doors {
            match self.open.get(&door.id) {
                Some(open) => {
                    open.entrance.listen.replace(door.listen.clone());
                }
                None => match open(worker, door, drain) {
                    Ok(open) => {
                        self.open.insert(door.id, open);
                    }
                    Err(error) => failed = Err(error),
                },
            }
        }
        failed
    }

    /// Waits until nothing more is accepted, in a drain.
    pub(crate) async fn ended(&mut self) {
        for task in self.open.values_mut().flat_map(|open| open.accepting.drain(..)) {
            // It takes no time: it takes what is waiting and ends.
            let _ = task.await;
        }
    }
}

fn open(worker: &Rc<Worker>, door: &Door, drain: &watch::Receiver<Option<Leave>>) -> io::Result<Open> {
    let listeners = match &door.bound {
        Endpoint::Tcp(_) => {
            let mine = door.sockets.iter().skip(worker.index).step_by(worker.settings.workers);
            mine.map(Listener::tcp).collect::<io::Result<Vec<Listener>>>()?
        }
        // Such a socket has one queue, from which every worker takes what it comes to first.
        Endpoint::Unix(_) => {
            door.sockets.iter().map(Listener::unix).collect::<io::Result<Vec<Listener>>>()?
        }
    };
    let entrance = Rc::new(Entrance {
        listen: RefCell::new(door.listen.clone()),
        closed: Cell::new(false),
        close: Notify::new(),
    });
    let accepting = listeners
        .into_iter()
        .map(|listener| {
            let accepting = accept(Rc::clone(worker), Rc::clone(&entrance), listener, drain.clone());
            tokio::task::spawn_local(accepting)
        })
        .collect();
    Ok(Open { entrance, accepting })
}

/// A listening socket.
#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn tcp(socket: &OwnedFd) -> io::Result<Self> {
        TcpListener::from_std(socket.try_clone()?.into()).map(Listener::Tcp)
    }

    fn unix(socket: &OwnedFd) -> io::Result<Self> {
        UnixListener::from_std(socket.try_clone()?.into()).map(Listener::Unix)
    }

    /// The next connection, and where it comes from if that says anything.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        match self {
            Listener::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, peer)| (Socket::Tcp(stream), Some(peer)))
            }
            Listener::Unix(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, _)| (Socket::Unix(stream), None))
            }
        }
    }
}

/// Accepts until the worker drains or the address is given up, and then what is already waiting to be accepted.
async fn accept(
    worker: Rc<Worker>,
    entrance: Rc<Entrance>,
    listener: Listener,
    mut drain: watch::Receiver<Option<Leave>>,
) {
    tokio::select! {
        biased;
        _ = drain.wait_for(Option::is_some) => {}
        () = entrance.closes() => {}
        () = accept_forever(&worker, &entrance, &listener) => {}
    }
    if entrance.is_closed() {
        // Nothing new is begun any more, but what had begun may still be on its way.
        let _ = timeout(LATECOMERS, accept_forever(&worker, &entrance, &listener)).await;
    }
    // A connection that the kernel has accepted for us would be reset if the socket were closed now.
    poll_fn(|cx| {
        while let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(cx) {
            take(&worker, &entrance, stream, peer);
        }
        Poll::Ready(())
    })
    .await;
}

async fn accept_forever(worker: &Rc<Worker>, entrance: &Rc<Entrance>, listener: &Listener) {
    let mut back_off = BACK_OFF;
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, peer)) => {
                back_off = BACK_OFF;
                take(worker, entrance, stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, wait = ?back_off, "cannot accept connections");
                worker.make_room();
                sleep(back_off).await;
                back_off = (back_off * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn take(worker: &Rc<Worker>, entrance: &Rc<Entrance>, stream: Socket, peer: Option<SocketAddr>) {
    let listen = &*entrance.listen.borrow();
    if worker.connections() >= worker.settings.connections_max_per_worker() {
        let answer = (REFUSED_FOR_NUMBER, 503, TOO_MANY_CONNECTIONS);
        return refuse(worker, &listen.serves, &stream, peer, answer);
    }
    let ip = peer.map(|peer| peer.ip());
    if !listen.proxies.is_empty() && listen.proxies.iter().any(|subnet| subnet.contains(ip)) {
        // Whose connection it is, and how many that visitor holds, is known when its header is read.
        let registered = Registered::of_proxy(Rc::clone(worker));
        tokio::task::spawn_local(proxy_header::serve(registered, Rc::clone(entrance), stream, peer));
        return;
    }
    let Some(registered) = Registered::new(Rc::clone(worker), ip) else {
        let answer = (REFUSED_FOR_ADDRESS, 429, TOO_MANY_OF_ADDRESS);
        return refuse(worker, &listen.serves, &stream, peer, answer);
    };
    let peer = Peer { address: peer, reached: None };
    match listen.serves {
        Serves::Http => {
            let (entrance, stream) = (Rc::clone(entrance), Stream::from(stream));
            tokio::task::spawn_local(connection::serve(registered, entrance, stream, peer));
        }
        Serves::Https => {
            tokio::task::spawn_local(tls::serve(registered, Rc::clone(entrance), stream, peer));
        }
        Serves::Tcp(_) => {
            let (entrance, stream) = (Rc::clone(entrance), Stream::from(stream));
            tokio::task::spawn_local(passage::serve(registered, entrance, stream, peer));
        }
    }
}

/// Serves a connection by what is spoken at its address, to its end.
pub(crate) async fn serve(mut registered: Registered, entrance: Rc<Entrance>, stream: Socket, peer: Peer) {
    let serves = entrance.listen.borrow().serves.clone();
    let said = peer.ip().filter(|_| peer.reached.is_some());
    if said.is_some_and(|said| !registered.enters(said)) {
        let answer = (REFUSED_FOR_ADDRESS, 429, TOO_MANY_OF_ADDRESS);
        return refuse(&registered.worker, &serves, &stream, peer.address, answer);
    }
    // Boxed, so that one task is not as large as the largest of them.
    match serves {
        Serves::Http => Box::pin(connection::serve(registered, entrance, stream.into(), peer)).await,
        Serves::Https => Box::pin(tls::serve(registered, entrance, stream, peer)).await,
        Serves::Tcp(_) => Box::pin(passage::serve(registered, entrance, stream.into(), peer)).await,
    }
}

/// A connection that is not taken on, for a reason by its name, with a status and an answer where one can be understood.
fn refuse(
    worker: &Worker,
    serves: &Serves,
    stream: &Socket,
    peer: Option<SocketAddr>,
    (reason, status, answer): (&'static str, u16, &[u8]),
) {
    worker.refused(reason);
    // The socket is new, so its buffer has room; if not, closing says enough.
    let sent = match serves {
        Serves::Http => stream.send(answer).unwrap_or(0),
        Serves::Https | Serves::Tcp(_) => 0,
    };
    if let Some(lines) = worker.lines() {
        lines.refused_connection(peer.map(|peer| peer.ip().to_canonical()), status, reason, sent);
    }
}

/// The client went away before it was accepted: nothing to wait for.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
