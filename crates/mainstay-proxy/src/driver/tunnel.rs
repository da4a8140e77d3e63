//! A connection that is passed on as it is (WebSocket, a TCP service): bytes both ways until both sides are done or both are
//! silent, or until its server is to go and has had its time.

mod farewell;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::buffer::{Buffer, READ_MAX};
use super::client::Client;
use super::io::Stream;
use super::pool::ServerConnection;
use super::sessions::Session;
use super::slots::Slot;
use super::view::Server;
use super::worker::Worker;
use crate::codec::Frames;

/// One direction.
#[derive(Debug, Default)]
struct Way {
    pending: Buffer,
    /// The source has ended.
    ended: bool,
    /// And the destination was told.
    shut: bool,
    /// Bytes that came.
    read: u64,
    /// Bytes that went on.
    written: u64,
    /// Where its messages end; `None`: nobody knows what is spoken.
    frames: Option<Frames>,
}

/// How a session is carried.
#[derive(Debug)]
pub(crate) struct Rules<'s> {
    /// Without a byte in either direction.
    pub(crate) idle: Duration,
    /// Where it is counted.
    pub(crate) session: Session,
    /// With which server it is.
    pub(crate) server: &'s Rc<Server>,
    /// It is closed when that is put out of rotation more often than this.
    pub(crate) leaves_after: Option<u64>,
    /// It is a WebSocket, of which so much came from the server already.
    pub(crate) frames: Option<Frames>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides said that they were done.
    Done,
    /// Neither has said anything for too long.
    Idle,
    /// The client reset it, or takes nothing more.
    ClientGone,
    /// The server did.
    ServerGone,
    /// The server was put out of rotation.
    ServerDown,
    /// The server is to go, or Mainstay itself, and this was waited for long enough.
    Drained(&'static str),
}

/// The access log's word when a server was to go.
pub(crate) const BY_SERVER: &str = "drain-timeout";
/// And when Mainstay itself is.
pub(crate) const BY_SHUTDOWN: &str = "shutdown";

/// A fault of one side of a direction.
enum Fault {
    Source,
    Destination,
}

/// Counts the sessions of a server, so that nobody is woken for a server that has none, and those of the worker.
struct Open<'s>(&'s Worker, &'s Server);

impl<'s> Open<'s> {
    fn at(worker: &'s Worker, server: &'s Server) -> Self {
        server.sessions.set(server.sessions.get() + 1);
        worker.session_opened();
        Self(worker, server)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.1.sessions.set(self.1.sessions.get().saturating_sub(1));
        self.0.session_closed();
    }
}

/// By when what is under way at a server must have ended.
pub(crate) struct Until<'s> {
    server: &'s Server,
    /// How often that had moved when the connection with it was made.
    moves: u32,
    /// When it has since moved: by when what stayed behind has to end.
    behind: Option<Instant>,
}

impl<'s> Until<'s> {
    pub(crate) fn new(server: &'s Server, connection: &ServerConnection) -> Self {
        Self { server, moves: connection.moves, behind: None }
    }

    /// By when because the server is to go; `None`: it stays.
    pub(crate) fn by_server(&mut self, worker: &Worker) -> Option<Instant> {
        if self.behind.is_none() && self.server.moves.get() != self.moves {
            self.behind = Some(worker.now() + self.server.drain_timeout.get());
        }
        match (self.server.ends.get(), self.behind) {
            (Some(ends), Some(behind)) => Some(ends.min(behind)),
            (ends, behind) => ends.or(behind),
        }
    }

    /// By when, and the access log's word for it.
    fn at(&mut self, worker: &Worker) -> Option<(Instant, &'static str)> {
        let by_server = self.by_server(worker).map(|at| (at, BY_SERVER));
        let by_shutdown = worker.ends.get().map(|at| (at, BY_SHUTDOWN));
        [by_server, by_shutdown].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// Passes bytes on until the end.
pub(crate) async fn run(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    server: &mut ServerConnection,
    rules: Rules<'_>,
) -> End {
    let _open = Open::at(worker, rules.server);
    let mut until = Until::new(rules.server, server);
    let mut up = Way { pending: std::mem::take(&mut client.inbox), ..Way::default() };
    let mut down = Way { pending: std::mem::take(&mut client.outbox), ..Way::default() };
    if rules.frames.is_some() {
        let mut frames = Frames::default();
        frames.pass(up.pending.bytes());
        (up.frames, down.frames) = (Some(frames), rules.frames);
    }
    up.read = up.pending.len() as u64;
    let mut ahead = up.read;
    let mut silent = worker.now() + rules.idle;
    let mut armed = None;
    let end = poll_fn(|cx| {
        slot.watch(cx);
        worker.progress.set(false);
        let up_done = up.poll(cx, worker, &mut client.stream, &mut server.stream);
        let down_done = down.poll(cx, worker, &mut server.stream, &mut client.stream);
        let (read, written) = (std::mem::take(&mut up.read), std::mem::take(&mut down.written));
        // What was there from the start is counted by the client already.
        client.read += read - std::mem::take(&mut ahead);
        client.written += written;
        if read > 0 || written > 0 {
            rules.session.moved(read, written);
        }
        match (up_done, down_done) {
            (Poll::Ready(Err(Fault::Source)), _) | (_, Poll::Ready(Err(Fault::Destination))) => {
                return Poll::Ready(End::ClientGone);
            }
            (Poll::Ready(Err(Fault::Destination)), _) | (_, Poll::Ready(Err(Fault::Source))) => {
                return Poll::Ready(End::ServerGone);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Done),
            _ => {}
        }
        if rules.leaves_after.is_some_and(|expelled| rules.server.expelled.get() != expelled) {
            return Poll::Ready(End::ServerDown);
        }
        let due = until.at(worker);
        if let Some((_, word)) = due.filter(|(at, _)| *at <= worker.now()) {
            return Poll::Ready(End::Drained(word));
        }
        if worker.progress.get() {
            silent = worker.now() + rules.idle;
        } else if slot.fired() && silent <= worker.now() {
            return Poll::Ready(End::Idle);
        }
        let look = due.map_or(silent, |(at, _)| at.min(silent));
        if armed.replace(look) != Some(look) || slot.fired() {
            worker.slots.arm(slot, look);
        }
        Poll::Pending
    })
    .await;
    if let End::Drained(word) = end {
        if word == BY_SHUTDOWN {
            worker.sessions_ended.set(worker.sessions_ended.get() + 1);
        }
        farewell::say(worker, slot, client, server, &mut up, &mut down).await;
        rules.session.moved(up.read, down.written);
        client.read += up.read;
        client.written += down.written;
    }
    end
}

impl Way {
    /// Something may be said behind what has passed.
    fn may_be_interrupted(&self) -> bool {
        self.ended || self.frames.is_none_or(|frames| frames.is_between_messages() || frames.has_closed())
    }

    /// Its source has said, or has begun to say, that it says no more.
    fn has_closed(&self) -> bool {
        self.ended || self.frames.is_some_and(|frames| frames.has_closed())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Fault>> {
        loop {
            ready!(self.poll_out(cx, worker, to, self.ended))?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = worker.scratch.borrow_mut();
            match ready!(from.poll_read(cx, &mut scratch[..READ_MAX])).map_err(|_| Fault::Source)? {
                0 => self.ended = true,
                n => {
                    self.read += n as u64;
                    worker.progress.set(true);
                    if let Some(frames) = &mut self.frames {
                        frames.pass(&scratch[..n]);
                    }
                    let written = match to.poll_write(cx, &scratch[..n]) {
                        Poll::Ready(written) => written.map_err(|_| Fault::Destination)?,
                        Poll::Pending => 0,
                    };
                    self.written += written as u64;
                    worker.buffers.extend(&mut self.pending, &scratch[written..n]);
                }
            }
        }
    }

    /// Passes on what waits. `shut`: and says that nothing more comes.
    fn poll_out(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        to: &mut Stream,
        shut: bool,
    ) -> Poll<Result<(), Fault>> {
        let destination = |_: io::Error| Fault::Destination;
        while !self.pending.is_empty() {
            let n = ready!(to.poll_write(cx, self.pending.bytes())).map_err(destination)?;
            self.pending.consume(n);
            self.written += n as u64;
            worker.progress.set(true);
        }
        worker.buffers.recycle(&mut self.pending);
        ready!(to.poll_flush(cx)).map_err(destination)?;
        if shut && !self.shut {
            ready!(to.poll_shutdown(cx)).map_err(destination)?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}
