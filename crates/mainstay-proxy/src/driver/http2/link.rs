//! Connections in HTTP/2 to a server: few, each carrying many requests at once.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use mainstay_model::input::FailureKind;

use super::outward::SEND_BUFFER;
use super::server_stream::ServerStream;
use super::wire::Wire;
use crate::codec::HEAD_MAX;
use crate::codec::http2::meter::Flood;
use crate::driver::io::Stream;
use crate::driver::pool::{self, ConnectError, ServerConnection};
use crate::driver::slots::{Nudge, Slot};
use crate::driver::view::Server;
use crate::driver::worker::Worker;
use crate::policy::story::Cause;
use crate::policy::tls::TlsFlaw;

/// Requests of one connection at a time; fewer if its server says so. More go over another connection.
const STREAMS_MAX: u32 = 100;
/// What a server may send of one answer before the client has taken it.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same of all answers of a connection: so much that clients which do not read never hold up the others.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;
/// A connection without a request is closed after so long. Its server may close it at any time: GOAWAY says what it has seen.
const IDLE: Duration = Duration::from_secs(60);
/// A connection that is given up has so long for the last of it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The connections of one worker to one server.
#[derive(Debug, Default)]
pub(crate) struct Links {
    open: RefCell<Vec<Rc<Link>>>,
    /// Another one is being made; who needs one too waits for it.
    making: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// One connection.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Bytes>,
    /// How often its server had moved when it was made.
    moves: u32,
    life: Rc<Life>,
}

/// What a connection's own task and its streams know of it.
#[derive(Debug)]
struct Life {
    streams: Cell<u32>,
    /// It has carried a whole answer.
    proven: Cell<bool>,
    /// No further request goes over it.
    retired: Cell<bool>,
    /// It is gone.
    ended: Cell<bool>,
    idle_since: Cell<Instant>,
    slot: Rc<Slot>,
    worker: Rc<Worker>,
}

/// One request's place on a connection.
#[derive(Debug)]
pub(super) struct Place(Rc<Life>);

impl Place {
    fn new(life: &Rc<Life>) -> Self {
        life.streams.set(life.streams.get() + 1);
        Self(Rc::clone(life))
    }

    /// An answer has come over the connection.
    pub(super) fn prove(&self) {
        self.0.proven.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle_since.set(self.0.worker.now());
            if self.0.retired.get() {
                self.0.slot.wake();
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.life.retired.set(true);
        self.life.slot.wake();
    }
}

impl Links {
    /// No further request goes over those that stand; requests under way go on.
    pub(crate) fn clear(&self) {
        self.open.borrow_mut().clear();
    }

    /// Lets those go that are gone, or have been idle for long.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut open = self.open.borrow_mut();
        if open.is_empty() {
            return;
        }
        open.retain(|link| {
            let life = &link.life;
            let idle =
                life.streams.get() == 0 && now.saturating_duration_since(life.idle_since.get()) >= IDLE;
            !idle && !life.ended.get()
        });
    }

    /// A place on a connection that has one left.
    fn find(&self, moves: u32) -> Option<(SendRequest<Bytes>, Place)> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut found = None;
        self.open.borrow_mut().retain(|link| {
            if link.life.ended.get() || link.moves != moves {
                return false;
            }
            let full = link.life.streams.get() >= STREAMS_MAX
                || link.life.streams.get() as usize >= link.sender.current_max_send_streams();
            if full || found.is_some() {
                return true;
            }
            let mut sender = link.sender.clone();
            match sender.poll_ready(&mut cx) {
                Poll::Ready(Ok(())) => {
                    found = Some((sender, Place::new(&link.life)));
                    true
                }
                Poll::Pending => true,
                // Its server has said that it ends.
                Poll::Ready(Err(_)) => false,
            }
        });
        found
    }
}

/// Whoever makes a connection lets the others go on, however it ends.
struct Making<'l>(&'l Links);

impl<'l> Making<'l> {
    fn begin(links: &'l Links) -> Self {
        links.making.set(true);
        Self(links)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.set(false);
        self.0.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// A stream to the server, over a connection that stands or a new one.
pub(crate) async fn reach(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    server: &Server,
    deadline: Instant,
    may_leave: impl Fn() -> bool,
) -> Result<ServerConnection, ConnectError> {
    let links = &server.links;
    let mut armed = false;
    loop {
        let moves = server.moves.get();
        if let Some((sender, place)) = links.find(moves) {
            let reused = place.0.proven.get();
            let secure = server.is_secure();
            let stream = Stream::Http2Server(Box::new(ServerStream::new(sender, place, secure)));
            return Ok(ServerConnection { stream, moves, reused, doubtful: false, of_visitor: false });
        }
        if !links.making.get() {
            let _making = Making::begin(links);
            let connection = pool::connect_alone(worker, slot, server, deadline, &[], &may_leave).await?;
            if connection.stream.is_secure() && !connection.stream.has_agreed_on_http2() {
                return Err(ConnectError::Server(Cause::Tls(TlsFlaw::NoHttp2)));
            }
            let link = begin(worker, slot, connection).await?;
            links.open.borrow_mut().push(Rc::new(link));
            continue;
        }
        if !std::mem::replace(&mut armed, true) {
            worker.slots.arm(slot, deadline);
        }
        wait(slot, links, &may_leave).await?;
    }
}

/// Waits until the connection that is being made stands, or cannot be made.
async fn wait(slot: &Slot, links: &Links, may_leave: &impl Fn() -> bool) -> Result<(), ConnectError> {
    poll_fn(|cx| {
        slot.watch(cx);
        if !links.making.get() {
            return Poll::Ready(Ok(()));
        }
        if slot.fired() {
            return Poll::Ready(Err(ConnectError::Server(Cause::Fault(FailureKind::ConnectTimeout))));
        }
        if slot.take_nudge() == Some(Nudge::Hang) && may_leave() {
            return Poll::Ready(Err(ConnectError::Left));
        }
        let mut waiting = links.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    })
    .await
}

/// Begins with HTTP/2 on a new connection, which then lives in a task of its own.
async fn begin(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    connection: ServerConnection,
) -> Result<Link, ConnectError> {
    let flood = Rc::new(Cell::new(None));
    let wire = Wire::new(worker, connection.stream, Vec::new(), false, &flood);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX as u32)
        .max_send_buffer_size(SEND_BUFFER);
    let mut beginning = Box::pin(builder.handshake::<_, Bytes>(wire));
    let begun = poll_fn(|cx| {
        slot.watch(cx);
        match beginning.as_mut().poll(cx) {
            Poll::Pending if slot.fired() => Poll::Ready(Err(FailureKind::ConnectTimeout)),
            other => other.map_err(|_| FailureKind::Reset),
        }
    });
    let failed = |kind| ConnectError::Server(Cause::Fault(kind));
    let (sender, mut driven) = begun.await.map_err(failed)?;
    // How many requests it takes at a time is what a server says first. Only then is it known to speak HTTP/2 at all, and nothing
    // of a request was sent to one that does not.
    let greeted = poll_fn(|cx| {
        slot.watch(cx);
        match Pin::new(&mut driven).poll(cx) {
            Poll::Ready(Err(error)) if !error.is_io() => Poll::Ready(Err(FailureKind::Malformed)),
            Poll::Ready(_) => Poll::Ready(Err(FailureKind::Reset)),
            Poll::Pending if flood.get().is_some() => Poll::Ready(Err(FailureKind::Malformed)),
            Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending if slot.fired() => Poll::Ready(Err(FailureKind::ConnectTimeout)),
            Poll::Pending => Poll::Pending,
        }
    });
    greeted.await.map_err(failed)?;
    let life = Rc::new(Life {
        streams: Cell::new(0),
        proven: Cell::new(false),
        retired: Cell::new(false),
        ended: Cell::new(false),
        idle_since: Cell::new(worker.now()),
        slot: worker.slots.register(),
        worker: Rc::clone(worker),
    });
    tokio::task::spawn_local(drive(driven, Rc::clone(&life), flood));
    Ok(Link { sender, moves: connection.moves, life })
}

/// Moves a connection's frames until it is over.
async fn drive(mut connection: Connection<Wire, Bytes>, life: Rc<Life>, flood: Rc<Cell<Option<Flood>>>) {
    let worker = &life.worker;
    let mut ending = false;
    poll_fn(|cx| {
        life.slot.watch(cx);
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "HTTP/2 connection to a server ended");
            }
            return Poll::Ready(());
        }
        if let Some(flood) = flood.get() {
            tracing::debug!(flood = flood.as_str(), "a server floods its connection");
            return Poll::Ready(());
        }
        if life.retired.get() && life.streams.get() == 0 {
            if !std::mem::replace(&mut ending, true) {
                worker.slots.arm(&life.slot, worker.now() + LAST_WORDS);
            } else if life.slot.fired() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
    life.ended.set(true);
    worker.slots.unregister(&life.slot);
}
