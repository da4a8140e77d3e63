//! A client's connection in HTTP/2: each of its streams is served like a connection of its own.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use super::outward::SEND_BUFFER;
use super::stream::ClientStream;
use super::wire::Wire;
use crate::codec::HEAD_MAX;
use crate::codec::http2::meter::Flood;
use crate::driver::client::Peer;
use crate::driver::connection::{self, Registered};
use crate::driver::io::Stream;
use crate::driver::listener::Entrance;
use crate::driver::slots::Slot;
use crate::driver::worker::Worker;

/// Requests of one connection at a time (nginx: 128).
const STREAMS_MAX: u32 = 128;
/// What a client may send of one body before a server has taken it; and of all its bodies together.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// A connection that is told to end has so long for the last of it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// While requests are under way the connection has no deadline but theirs.
const NONE: Duration = Duration::from_secs(86_400);

/// What the streams of a connection have in common with it.
#[derive(Debug)]
struct Common {
    /// Requests under way.
    open: Cell<usize>,
    slot: Rc<Slot>,
}

/// One request under way.
#[derive(Debug)]
struct Open(Rc<Common>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        // The connection may be idle now.
        self.0.slot.wake();
    }
}

/// Serves a connection to its end. `ahead`: what was read of it before it was known to be HTTP/2.
pub(crate) async fn serve(
    registered: Registered,
    entrance: Rc<Entrance>,
    stream: Stream,
    ahead: Vec<u8>,
    peer: Peer,
) {
    let (worker, slot) = (&registered.worker, &registered.slot);
    let secure = stream.is_secure();
    let flood = Rc::new(Cell::new(None));
    let wire = Wire::new(worker, stream, ahead, true, &flood);
    worker.slots.arm(slot, worker.now() + worker.settings.head_timeout);
    let mut shaking = Box::pin(builder().handshake::<_, Bytes>(wire));
    let shaken = poll_fn(|cx| {
        slot.watch(cx);
        match shaking.as_mut().poll(cx) {
            Poll::Ready(shaken) => Poll::Ready(Some(shaken)),
            Poll::Pending if slot.fired() || flood.get().is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let Some(Ok(connection)) = shaken else { return worker.refused("http2-preface") };
    drop(shaking);
    // The deadline of the handshake is none of what follows: it would end a connection that has nothing to do just then.
    worker.slots.arm(slot, worker.now() + worker.settings.client_idle);
    slot.set_idle(true);
    let common = Rc::new(Common { open: Cell::new(0), slot: Rc::clone(slot) });
    let mut serving = Serving {
        worker,
        entrance: &entrance,
        connection,
        common,
        flood,
        peer,
        secure,
        requests_left: registered.requests_max,
        ending: false,
        flooded: false,
    };
    poll_fn(|cx| serving.poll(cx)).await;
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}

struct Serving<'a> {
    worker: &'a Rc<Worker>,
    entrance: &'a Rc<Entrance>,
    connection: Connection<Wire, Bytes>,
    common: Rc<Common>,
    flood: Rc<Cell<Option<Flood>>>,
    peer: Peer,
    secure: bool,
    /// Requests that it may still carry.
    requests_left: u32,
    /// The client was told that no further request is taken.
    ending: bool,
    /// It was ended because of a flood.
    flooded: bool,
}

impl Serving<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (worker, slot) = (self.worker, Rc::clone(&self.common.slot));
        slot.watch(cx);
        if (worker.draining.get() || self.entrance.is_closed()) && !self.ending {
            self.end();
        }
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    self.failed(&error);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => match self.flood.get() {
                    Some(flood) if !std::mem::replace(&mut self.flooded, true) => {
                        worker.refused(flood.as_str());
                        self.connection.abrupt_shutdown(match flood {
                            Flood::NoSettings => Reason::PROTOCOL_ERROR,
                            _ => Reason::ENHANCE_YOUR_CALM,
                        });
                        self.ending = true;
                        worker.slots.arm(&slot, worker.now() + LAST_WORDS);
                    }
                    _ => break,
                },
            }
        }
        self.keep_time(&slot)
    }

    /// Ready when there is nothing to wait for any longer.
    fn keep_time(&mut self, slot: &Rc<Slot>) -> Poll<()> {
        let idle = self.common.open.get() == 0;
        if slot.fired() {
            match (idle, self.ending) {
                (_, true) if idle || self.flooded => return Poll::Ready(()),
                (true, _) => self.end(),
                (false, _) => self.worker.slots.arm(slot, self.worker.now() + NONE),
            }
        } else if slot.is_idle() != idle {
            let least = if self.ending { LAST_WORDS } else { self.worker.settings.client_idle };
            self.worker.slots.arm(slot, self.worker.now() + if idle { least } else { NONE });
        }
        slot.set_idle(idle);
        Poll::Pending
    }

    /// Says that no further request is taken. Those that are under way, or were sent before the client could know, are served.
    fn end(&mut self) {
        self.ending = true;
        self.connection.graceful_shutdown();
        if self.common.open.get() == 0 {
            self.worker.slots.arm(&self.common.slot, self.worker.now() + LAST_WORDS);
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let Some(registered) = Registered::of_stream(self.worker) else {
            self.worker.refused("too-many-streams");
            return respond.send_reset(Reason::REFUSED_STREAM);
        };
        self.common.open.set(self.common.open.get() + 1);
        self.requests_left = self.requests_left.saturating_sub(1);
        if self.requests_left == 0 && !self.ending {
            self.end();
        }
        let open = Open(Rc::clone(&self.common));
        let key = self.worker.rng.borrow_mut().u128(..).to_le_bytes();
        let stream = Stream::Http2(Box::new(ClientStream::new(request, respond, self.secure, key)));
        let serving = connection::serve(registered, Rc::clone(self.entrance), stream, self.peer);
        tokio::task::spawn_local(async move {
            serving.await;
            drop(open);
        });
    }

    /// The connection is over; if the client broke the rules, that is counted by the rule.
    fn failed(&self, error: &h2::Error) {
        tracing::debug!(%error, "HTTP/2 connection ended");
        let own = !(self.flooded || error.is_io() || error.is_remote());
        match (self.flood.get(), error.reason()) {
            (Some(flood), _) if !self.flooded => self.worker.refused(flood.as_str()),
            (None, Some(reason)) if own => self.worker.refused(word(reason)),
            _ => {}
        }
    }
}

/// What a connection is counted as that the h2 crate has ended.
fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::NO_ERROR => "http2-ended",
        Reason::FLOW_CONTROL_ERROR => "http2-flow-control-error",
        Reason::FRAME_SIZE_ERROR => "http2-frame-size-error",
        Reason::COMPRESSION_ERROR => "http2-compression-error",
        Reason::STREAM_CLOSED => "http2-stream-closed",
        Reason::ENHANCE_YOUR_CALM => "http2-too-much",
        _ => "http2-protocol-error",
    }
}
