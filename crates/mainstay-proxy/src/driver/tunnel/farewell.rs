//! The end of a session whose time is over: what is under way goes through, both sides are told, and nobody is reset who
//! answers in time. A WebSocket is told by a close between two messages (1001), which its client answers and its server hears.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Way;
use crate::codec::GOING_AWAY;
use crate::driver::buffer::READ_MAX;
use crate::driver::client::Client;
use crate::driver::io::Stream;
use crate::driver::pool::ServerConnection;
use crate::driver::slots::Slot;
use crate::driver::worker::Worker;

/// For the rest of what is under way, and for both sides to end. An answer to a close needs a round trip.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A message from the server to its client is under way.
    Message,
    /// The client of a WebSocket was told. What it still says is passed on, up to its answer.
    Answer,
    /// Both sides are told that nothing more comes.
    End,
}

/// Says it, and waits for both sides to have ended, but not for long.
pub(super) async fn say(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    server: &mut ServerConnection,
    up: &mut Way,
    down: &mut Way,
) {
    worker.slots.arm(slot, worker.now() + FAREWELL);
    let (client, server) = (&mut client.stream, &mut server.stream);
    let mut phase = if down.frames.is_some() { Phase::Message } else { Phase::End };
    let (mut client_ended, mut server_ended) = (false, false);
    poll_fn(|cx| {
        slot.watch(cx);
        if slot.fired() {
            let _ = (client.poll_shutdown(cx), server.poll_shutdown(cx));
            return Poll::Ready(());
        }
        if phase == Phase::Message {
            if !down.may_be_interrupted()
                && (has_failed(&down.poll(cx, worker, server, client))
                    || has_failed(&up.poll(cx, worker, client, server)))
            {
                return Poll::Ready(());
            }
            if !down.may_be_interrupted() {
                return Poll::Pending;
            }
            if !down.has_closed() {
                worker.buffers.extend(&mut down.pending, &GOING_AWAY);
            }
            phase = Phase::Answer;
        }
        if phase == Phase::Answer {
            if has_failed(&down.poll_out(cx, worker, client, false))
                || has_failed(&up.poll(cx, worker, client, server))
            {
                return Poll::Ready(());
            }
            server_ended = server_ended || is_at_end(cx, worker, server);
            if !(up.has_closed() || server_ended) {
                return Poll::Pending;
            }
            phase = Phase::End;
        }
        let told = (down.poll_out(cx, worker, client, true), up.poll_out(cx, worker, server, true));
        if has_failed(&told.0) || has_failed(&told.1) {
            return Poll::Ready(());
        }
        server_ended = server_ended || is_at_end(cx, worker, server);
        client_ended = client_ended || up.ended || is_at_end(cx, worker, client);
        match told.0.is_ready() && told.1.is_ready() && client_ended && server_ended {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// A side is gone, so there is nobody to tell.
fn has_failed<T, E>(polled: &Poll<Result<T, E>>) -> bool {
    matches!(polled, Poll::Ready(Err(_)))
}

/// Throws away what still comes.
fn is_at_end(cx: &mut Context<'_>, worker: &Worker, from: &mut Stream) -> bool {
    let mut scratch = worker.scratch.borrow_mut();
    loop {
        match from.poll_read(cx, &mut scratch[..READ_MAX]) {
            Poll::Ready(Ok(0) | Err(_)) => return true,
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return false,
        }
    }
}
