//! A connection that is passed on as it is (WebSocket, a TCP service): bytes both ways until both sides are done or both are
//! silent.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::buffer::{Buffer, READ_MAX};
use super::client::Client;
use super::io::Stream;
use super::pool::ServerConnection;
use super::sessions::Session;
use super::slots::Slot;
use super::view::Server;
use super::worker::Worker;

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
}

/// How a session is carried.
#[derive(Debug)]
pub(crate) struct Rules<'s> {
    /// Without a byte in either direction.
    pub(crate) idle: Duration,
    /// Where it is counted.
    pub(crate) session: Session,
    /// It is closed when its server is put out of rotation more often than this.
    pub(crate) leaves: Option<(&'s Rc<Server>, u64)>,
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
}

/// A fault of one side of a direction.
enum Fault {
    Source,
    Destination,
}

/// Counts the sessions of a server, so that nobody is woken for a server that has none.
struct Open<'s>(&'s Server);

impl<'s> Open<'s> {
    fn at(server: &'s Server) -> Self {
        server.sessions.set(server.sessions.get() + 1);
        Self(server)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.sessions.set(self.0.sessions.get().saturating_sub(1));
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
    let _open = rules.leaves.map(|(server, _)| Open::at(server));
    let mut up = Way { pending: std::mem::take(&mut client.inbox), ..Way::default() };
    let mut down = Way { pending: std::mem::take(&mut client.outbox), ..Way::default() };
    up.read = up.pending.len() as u64;
    let mut ahead = up.read;
    worker.slots.arm(slot, worker.now() + rules.idle);
    poll_fn(|cx| {
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
        if rules.leaves.is_some_and(|(server, expelled)| server.expelled.get() != expelled) {
            return Poll::Ready(End::ServerDown);
        }
        if worker.progress.get() {
            worker.slots.arm(slot, worker.now() + rules.idle);
        } else if slot.fired() {
            return Poll::Ready(End::Idle);
        }
        Poll::Pending
    })
    .await
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Fault>> {
        let destination = |_: io::Error| Fault::Destination;
        loop {
            while !self.pending.is_empty() {
                let n = ready!(to.poll_write(cx, self.pending.bytes())).map_err(destination)?;
                self.pending.consume(n);
                self.written += n as u64;
                worker.progress.set(true);
            }
            worker.buffers.recycle(&mut self.pending);
            ready!(to.poll_flush(cx)).map_err(destination)?;
            if self.ended {
                if !self.shut {
                    ready!(to.poll_shutdown(cx)).map_err(destination)?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut scratch = worker.scratch.borrow_mut();
            match ready!(from.poll_read(cx, &mut scratch[..READ_MAX])).map_err(|_| Fault::Source)? {
                0 => self.ended = true,
                n => {
                    self.read += n as u64;
                    worker.progress.set(true);
                    let written = match to.poll_write(cx, &scratch[..n]) {
                        Poll::Ready(written) => written.map_err(destination)?,
                        Poll::Pending => 0,
                    };
                    self.written += written as u64;
                    worker.buffers.extend(&mut self.pending, &scratch[written..n]);
                }
            }
        }
    }
}
