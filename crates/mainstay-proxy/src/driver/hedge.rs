//! A second server that is asked beside the first when that takes long: the first good answer wins, the other is left.
//!
//! It is a small exchange of its own, without a client and without a body: a connection, the head, and what comes back until the
//! final answer's head is whole. Nothing of it runs for a service that does not hedge.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use mainstay_model::drill::Injection;
use mainstay_model::input::FailureKind;
use mainstay_model::policy::Timeouts;
use mainstay_model::request::AttemptRecord;
use tokio::time::{Sleep, sleep_until};

use super::attempt::INTERIM_MAX;
use super::buffer::{Buffer, READ_MAX};
use super::exchange::Journey;
use super::http2::server_stream::Fate;
use super::in_flight::{Failure, InFlight};
use super::pool::{self, ConnectError, ServerConnection};
use super::slots::Slot;
use super::story;
use super::view::Server;
use super::worker::Worker;
use crate::codec::{HEAD_MAX, HeaderSlots, parse_response};
use crate::policy::retry::{Stage, may_be_own_error};
use crate::policy::story::{Cause, hedged};

/// A request's second server, if it comes to that.
#[derive(Debug)]
pub(crate) struct Hedge {
    state: State,
    /// It failed; told when the request is settled.
    failed: Option<(Rc<Server>, Failure, AttemptRecord)>,
}

enum State {
    /// There is none, or none any more.
    Off,
    /// It is asked once this time has passed.
    Due(Pin<Box<Sleep>>),
    Asking {
        server: Rc<Server>,
        began: Instant,
        answer: Pin<Box<dyn Future<Output = Result<Heard, Failure>>>>,
    },
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Off => "Off",
            State::Due(_) => "Due",
            State::Asking { .. } => "Asking",
        })
    }
}

/// An answer's whole head, and whatever came with it.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) server: Rc<Server>,
    pub(crate) connection: ServerConnection,
    pub(crate) bytes: Buffer,
    pub(crate) in_flight: InFlight,
    pub(crate) began: Instant,
    pub(crate) sent_at: Instant,
    status: u16,
}

/// Which of the two came first.
pub(crate) enum First<T> {
    /// What was waited for anyway.
    Own(T),
    /// The second server's answer; with what became of the other, if it had ended.
    Second(Box<Heard>, Option<T>),
}

impl Hedge {
    /// None.
    pub(crate) const fn none() -> Self {
        Self { state: State::Off, failed: None }
    }

    /// That of a request that is sent to its first server at `started`.
    pub(crate) fn of(journey: &Journey, started: Instant) -> Self {
        let delay = match journey.service.carriage.retry.hedge {
            // A connection that says who it is from is of one visitor and one attempt.
            Some(hedge) if journey.service.carriage.send_proxy.is_none() && journey.may_hedge(started) => {
                journey.service.lasting.tail.delay(hedge, started)
            }
            _ => None,
        };
        let state =
            delay.map_or(State::Off, |delay| State::Due(Box::pin(sleep_until((started + delay).into()))));
        Self { state, failed: None }
    }

    pub(crate) fn is_off(&self) -> bool {
        matches!(self.state, State::Off)
    }

    /// The second server was asked and has not answered.
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    /// Ready when it will not come to anything more: with the answer that won, or without. `first`: the server that is waited
    /// for; `first_waits`: it may still answer; `head`: what servers get.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Rc<Worker>,
        journey: &Journey,
        first: &Rc<Server>,
        first_waits: bool,
        head: &[u8],
    ) -> Poll<Option<Box<Heard>>> {
        if let State::Due(at) = &mut self.state {
            ready!(at.as_mut().poll(cx));
            self.state = Self::begin(worker, journey, first, head);
        }
        let State::Asking { server, began, answer } = &mut self.state else { return Poll::Ready(None) };
        let failure = match ready!(answer.as_mut().poll(cx)) {
            // An error is no good answer while there may be a better one.
            Ok(mut heard) if first_waits && may_be_own_error(heard.status) => {
                heard.in_flight.answered(heard.status, heard.sent_at, Instant::now());
                Failure { stage: Stage::Erred, cause: Cause::Erred(heard.status), spell: None }
            }
            Ok(heard) => {
                self.state = State::Off;
                return Poll::Ready(Some(Box::new(heard)));
            }
            Err(failure) => failure,
        };
        let outcome = failure.cause.words();
        let record = story::attempt(&journey.request, server, *began, outcome, hedged::SECOND_FAILED);
        self.failed = Some((Rc::clone(server), failure, record));
        self.state = State::Off;
        Poll::Ready(None)
    }

    /// Waits for something and for the second server. `is_bad`: what was waited for failed, and the second may do better.
    pub(crate) async fn beside<T>(
        &mut self,
        worker: &Rc<Worker>,
        journey: &Journey,
        first: &Rc<Server>,
        head: &[u8],
        own: impl Future<Output = T>,
        is_bad: impl Fn(&T) -> bool,
    ) -> First<T> {
        if self.is_off() {
            return First::Own(own.await);
        }
        let mut own = std::pin::pin!(own);
        let mut bad = None;
        poll_fn(|cx| {
            if bad.is_none()
                && let Poll::Ready(done) = own.as_mut().poll(cx)
            {
                match is_bad(&done) && self.is_asking() {
                    true => bad = Some(done),
                    false => return Poll::Ready(First::Own(done)),
                }
            }
            match self.poll(cx, worker, journey, first, bad.is_none(), head) {
                Poll::Ready(Some(heard)) => Poll::Ready(First::Second(heard, bad.take())),
                Poll::Ready(None) => bad.take().map_or(Poll::Pending, |bad| Poll::Ready(First::Own(bad))),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// The request is settled without it: what became of it is told, and whoever is still asked is left.
    pub(crate) fn settle(&mut self, worker: &Rc<Worker>, journey: &mut Journey) {
        if let State::Asking { server, began, .. } = std::mem::replace(&mut self.state, State::Off) {
            let outcome = Cause::Overtaken.words();
            let record = story::attempt(&journey.request, &server, began, outcome, hedged::FIRST_WON);
            journey.attempts.push(record);
        }
        if let Some((server, failure, record)) = self.failed.take() {
            journey.attempts.push(record);
            journey.charge(worker, &server, &failure, None);
        }
    }

    fn begin(worker: &Rc<Worker>, journey: &Journey, first: &Rc<Server>, head: &[u8]) -> State {
        let Some(server) = journey.second_server(worker, first) else { return State::Off };
        let began = Instant::now();
        let mut own_head = worker.buffers.take();
        own_head.extend_from_slice(head);
        let to_head = journey.request.to_head;
        let ask = ask(Rc::clone(worker), Rc::clone(&server), own_head, to_head, *journey.timeouts(), began);
        State::Asking { server, began, answer: Box::pin(ask) }
    }
}

/// A place in the worker's table of deadlines.
struct OwnSlot {
    worker: Rc<Worker>,
    slot: Rc<Slot>,
}

impl Drop for OwnSlot {
    fn drop(&mut self) {
        self.worker.slots.unregister(&self.slot);
    }
}

/// Asks the second server. How long its answer may take is bounded by whoever waits for both.
async fn ask(
    worker: Rc<Worker>,
    server: Rc<Server>,
    head: Vec<u8>,
    to_head: bool,
    timeouts: Timeouts,
    began: Instant,
) -> Result<Heard, Failure> {
    let own = OwnSlot { slot: worker.slots.register(), worker: Rc::clone(&worker) };
    let mut in_flight = InFlight::begin(&server, began);
    let mut connection = match pool::take_idle(&worker, &server, true) {
        Some(connection) => connection,
        None => {
            match pool::connect(&worker, &own.slot, &server, began + timeouts.connect, &[], || false).await {
                Ok(connection) => connection,
                Err(ConnectError::Server(cause)) => return Err(in_flight.unreached(cause)),
                Err(ConnectError::Own | ConnectError::Left) => {
                    return Err(Failure { stage: Stage::Unsent, cause: Cause::Own, spell: None });
                }
            }
        }
    };
    if let Some(Injection::Slow { by }) = server.injection.get() {
        Box::pin(tokio::time::sleep(by)).await;
    }
    let mut sent = 0;
    let mut bytes = Buffer::default();
    let mut sent_at = None;
    let heard = poll_fn(|cx| {
        own.slot.watch(cx);
        while sent < head.len() {
            match ready!(connection.stream.poll_write(cx, &head[sent..])) {
                Ok(n) => sent += n,
                Err(_) => return Poll::Ready(Err(FailureKind::Reset)),
            }
        }
        if ready!(connection.stream.poll_flush(cx)).is_err() {
            return Poll::Ready(Err(FailureKind::Reset));
        }
        sent_at.get_or_insert_with(Instant::now);
        loop {
            let mut scratch = worker.scratch.borrow_mut();
            let n = match ready!(connection.stream.poll_read(cx, &mut scratch[..READ_MAX])) {
                Ok(n) if n > 0 => n,
                _ => return Poll::Ready(Err(FailureKind::Reset)),
            };
            worker.buffers.extend(&mut bytes, &scratch[..n]);
            match final_status(bytes.bytes(), to_head) {
                Ok(Some(status)) => return Poll::Ready(Ok(status)),
                Ok(None) => {}
                Err(()) => return Poll::Ready(Err(FailureKind::Malformed)),
            }
        }
    })
    .await;
    worker.buffers.give(head);
    let sent_at = sent_at.unwrap_or(began);
    match heard {
        Ok(status) => {
            // Whatever came, it is no longer a stale connection.
            connection.reused = false;
            Ok(Heard { server, connection, bytes, in_flight, began, sent_at, status })
        }
        Err(_) if connection.stream.fate() == Some(Fate::Declined) => Err(in_flight.declined()),
        Err(_) if connection.stream.fate() == Some(Fate::GoneAway) => Err(in_flight.gone_away()),
        Err(FailureKind::Reset) if connection.reused && bytes.is_empty() => {
            Err(in_flight.stale(Stage::ReusedClosed))
        }
        Err(kind) => Err(in_flight.failed(Stage::Sent, kind, None)),
    }
}

/// The status of the final answer; `None`: its head is not whole. Errors: it is no HTTP.
fn final_status(mut bytes: &[u8], to_head: bool) -> Result<Option<u16>, ()> {
    for _ in 0..=INTERIM_MAX {
        let mut slots = HeaderSlots::default();
        match parse_response(bytes, to_head, &mut slots).map_err(|_| ())? {
            Some(head) if head.status == 101 => return Err(()),
            Some(head) if head.status >= 200 => return Ok(Some(head.status)),
            Some(head) => bytes = &bytes[head.length..],
            None if bytes.len() >= HEAD_MAX => return Err(()),
            None => return Ok(None),
        }
    }
    Err(())
}
