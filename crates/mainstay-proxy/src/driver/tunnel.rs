//! A connection that became something else (WebSocket): bytes both ways until both sides are done or both are silent.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::buffer::{Buffer, READ_MAX};
use super::client::Client;
use super::io::Stream;
use super::pool::ServerConnection;
use super::slots::Slot;
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

/// Passes bytes on until the end.
pub(crate) async fn run(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    server: &mut ServerConnection,
) {
    let mut up = Way { pending: std::mem::take(&mut client.inbox), ..Way::default() };
    let mut down = Way { pending: std::mem::take(&mut client.outbox), ..Way::default() };
    let idle = worker.settings.tunnel_idle;
    worker.slots.arm(slot, worker.now() + idle);
    poll_fn(|cx| {
        slot.watch(cx);
        worker.progress.set(false);
        let up_done = up.poll(cx, worker, &mut client.stream, &mut server.stream);
        let down_done = down.poll(cx, worker, &mut server.stream, &mut client.stream);
        client.read += std::mem::take(&mut up.read);
        client.written += std::mem::take(&mut down.written);
        match (up_done, down_done) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            _ => {}
        }
        if worker.progress.get() {
            worker.slots.arm(slot, worker.now() + idle);
        } else if slot.fired() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.pending.is_empty() {
                let n = ready!(to.poll_write(cx, self.pending.bytes()))?;
                self.pending.consume(n);
                self.written += n as u64;
                worker.progress.set(true);
            }
            worker.buffers.recycle(&mut self.pending);
            ready!(to.poll_flush(cx))?;
            if self.ended {
                if !self.shut {
                    ready!(to.poll_shutdown(cx))?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut scratch = worker.scratch.borrow_mut();
            match ready!(from.poll_read(cx, &mut scratch[..READ_MAX]))? {
                0 => self.ended = true,
                n => {
                    self.read += n as u64;
                    worker.progress.set(true);
                    let written = match to.poll_write(cx, &scratch[..n]) {
                        Poll::Ready(written) => written?,
                        Poll::Pending => 0,
                    };
                    self.written += written as u64;
                    worker.buffers.extend(&mut self.pending, &scratch[written..n]);
                }
            }
        }
    }
}
