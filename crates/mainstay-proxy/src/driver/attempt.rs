//! One attempt at one server: a connection, the request sent, the answer's head, and if it came, the rest.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mainstay_model::drill::Injection;
use mainstay_model::input::FailureKind;
use mainstay_model::policy::Timeouts;
use mainstay_model::sample::{Answered, Phases, Sample, TrafficSample};

use tokio::time::{Sleep, sleep};

use super::buffer::{Buffer, READ_MAX};
use super::client::Client;
use super::connection::{Next, Request};
use super::exchange::Journey;
use super::hedge::{First, Heard, Hedge};
use super::http2::server_stream::Fate;
use super::in_flight::{Failure, InFlight};
use super::log::Outcome;
use super::pool::{self, ConnectError, ServerConnection};
use super::relay::{Download, DownloadError, Upload, UploadError};
use super::slots::{Nudge, Slot};
use super::tunnel::{self, Rules, Until};
use super::view::Server;
use super::waits::{Phase, Waiting};
use super::worker::Worker;
use crate::codec::rewrite::{Edits, Persistence, write_response};
use crate::codec::{
    BodyLength, Frames, HEAD_MAX, HeaderSlots, MalformedAnswer, Refusal, ResponseHead, Version,
    parse_response,
};
use crate::page::Form;
use crate::policy::accounting::Ending;
use crate::policy::grpc::{self, Fault};
use crate::policy::retry::{Stage, may_be_own_error};
use crate::policy::story::{Cause, line_of};

/// What came so much faster than it had to is not slow.
const A_DAY_MS: u64 = 86_400_000;

/// Interim answers before a final one; more are no HTTP.
pub(crate) const INTERIM_MAX: u32 = 16;

/// Where a call of gRPC has its status.
const GRPC_STATUS: &str = "grpc-status";

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Attempted {
    /// The request is dealt with and counted.
    Ended(Next),
    /// No answer; perhaps another server has one.
    Failed(Failure),
    /// The client's own fault.
    Refused(Refusal),
    /// The visitor went away.
    Abandoned,
    /// A second server that was asked beside this one answered; with the failure of this one, unless it was still waited for.
    Overtaken(Box<Heard>, Option<Failure>),
}

/// What an attempt waits for came, or something else did.
enum Event {
    Answer(Answer),
    /// The server answered with an error, and another one is to be asked.
    Erred {
        status: u16,
        /// The server's connection can be used again.
        reusable: bool,
    },
    /// Closed or reset, or all the request could not be sent.
    ServerGone,
    Malformed(MalformedAnswer),
    Refused(Refusal),
    ClientGone,
    Deadline,
    Left(Nudge),
    /// Another server answered; with what became of this one, if it had ended.
    Overtaken(Box<Heard>, Option<Box<Event>>),
}

/// A final answer, whose head is in the client's outbox.
struct Answer {
    status: u16,
    download: Download,
    /// The server's connection can be used again.
    reusable: bool,
    /// The client's can.
    keep_alive: bool,
    /// It has no body, whatever its head says.
    bodiless: bool,
    /// The client learns the body's end from the connection's.
    until_close: bool,
    upgraded: bool,
    /// To a WebSocket, of which so much came with it.
    frames: Option<Frames>,
    /// What its status of gRPC says, where that is in its head.
    fault: Option<Fault>,
    /// A drill breaks it off here.
    cut: bool,
}

impl Answer {
    /// The status that it is judged by.
    fn judged(&self) -> u16 {
        self.fault.map_or(self.status, |fault| fault.status)
    }
}

/// Makes one attempt.
pub(crate) async fn run(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    journey: &mut Journey,
    upload: &mut Upload,
    server: &Rc<Server>,
    started: Instant,
) -> Attempted {
    journey.attempt_began = started;
    journey.asked_at = started;
    let mut in_flight = InFlight::begin(server, started);
    let repeatable = journey.request.safety.is_repeatable();
    let timeouts = *journey.timeouts();
    let moved = journey.left_a_hang;
    let waiting = worker.waits.begin(server, slot, timeouts.per_try, repeatable, moved, started);
    let mut hedge = Hedge::of(journey, started);
    let idle = if journey.fresh_only { None } else { pool::take_idle(worker, server, !repeatable) };
    let mut connection = match idle {
        Some(connection) => connection,
        None => {
            let may_leave = || journey.has_good_besides(server, Instant::now());
            let greeting = client.greeting(&journey.service.carriage, journey.request.visitor);
            let connecting =
                pool::connect(worker, slot, server, started + timeouts.connect, &greeting, may_leave);
            let failed = |made: &Result<_, _>| matches!(made, Err(ConnectError::Server(_)));
            let connecting = hedge.beside(worker, journey, server, upload.head(), connecting, failed);
            // Boxed, because most attempts find a connection that waits, and need no room for making one.
            match Box::pin(connecting).await {
                // A connection has ended under this request before: another such end is held against the server.
                First::Own(Ok(made)) => {
                    ServerConnection { reused: made.reused && !journey.fresh_only, ..made }
                }
                First::Own(Err(error)) => {
                    hedge.settle(worker, journey);
                    let waited = (started.elapsed(), timeouts.per_try);
                    return Attempted::Failed(unconnected(worker, &mut in_flight, error, waited).await);
                }
                First::Second(heard, Some(Err(ConnectError::Server(cause)))) => {
                    return Attempted::Overtaken(heard, Some(in_flight.unreached(cause)));
                }
                First::Second(heard, _) => {
                    in_flight.overtaken(Instant::now());
                    return Attempted::Overtaken(heard, None);
                }
            }
        }
    };
    let upload_received = upload.received();
    let mut exchange = Exchange {
        worker,
        slot,
        journey,
        upload,
        server,
        injected: Injected::of(worker, server),
        hedge: &mut hedge,
        failed: None,
        bad_answer: false,
        sent_at: None,
        pace: Pace::begin(worker.now(), upload_received),
        write_failed: false,
        passed_on: false,
    };
    let event = exchange.until_answer(client, &mut connection, &waiting).await;
    let (sent_at, passed_on) = (exchange.sent_at.unwrap_or(started), exchange.passed_on);
    drop(waiting);
    hedge.settle(worker, journey);
    let mut under_way = UnderWay { in_flight, sent_at, passed_on };
    match conclude(worker, client, journey, upload, connection, event, &mut under_way) {
        Ok((connection, answer)) => {
            finish(worker, slot, client, journey, upload, server, connection, answer).await
        }
        Err(attempted) => attempted,
    }
}

/// Passes on what a second server answered.
pub(crate) async fn take_over(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    journey: &mut Journey,
    upload: &mut Upload,
    heard: Heard,
) -> Attempted {
    let Heard { server, connection, mut bytes, in_flight, began, sent_at, .. } = heard;
    journey.attempt_began = began;
    upload.was_sent();
    let mut exchange = Exchange {
        worker,
        slot,
        journey,
        upload,
        server: &server,
        injected: Injected::of(worker, &server),
        hedge: &mut Hedge::none(),
        failed: None,
        bad_answer: false,
        sent_at: Some(sent_at),
        pace: Pace::begin(worker.now(), 0),
        write_failed: false,
        passed_on: false,
    };
    let (mut partial, mut interims) = (Buffer::default(), 0);
    let event = match exchange.take_answer(client, bytes.bytes(), &mut partial, &mut interims) {
        Ok(Some(event)) => event,
        // The head was whole when it was read.
        Ok(None) => Event::ServerGone,
        Err(error) => Event::Malformed(error),
    };
    let passed_on = exchange.passed_on;
    bytes.consume(bytes.len());
    worker.buffers.recycle(&mut bytes);
    let mut under_way = UnderWay { in_flight, sent_at, passed_on };
    match conclude(worker, client, journey, upload, connection, event, &mut under_way) {
        Ok((connection, answer)) => {
            finish(worker, slot, client, journey, upload, &server, connection, answer).await
        }
        Err(attempted) => attempted,
    }
}

/// There is no connection.
async fn unconnected(
    worker: &Rc<Worker>,
    in_flight: &mut InFlight,
    error: ConnectError,
    (waited, per_try): (Duration, Duration),
) -> Failure {
    match error {
        ConnectError::Left => {
            in_flight.left(Stage::Unsent, FailureKind::ConnectTimeout, waited, waited >= per_try)
        }
        ConnectError::Server(cause) => in_flight.unreached(cause),
        ConnectError::Own => {
            tracing::warn!(server = %in_flight.server(), "no descriptor, port or memory for a connection");
            worker.make_room();
            tokio::task::yield_now().await;
            Failure { stage: Stage::Unsent, cause: Cause::Own, spell: None }
        }
    }
}

/// An attempt that has come to something.
struct UnderWay {
    in_flight: InFlight,
    /// When the request was sent whole, or else when the attempt began.
    sent_at: Instant,
    /// An interim answer was passed on.
    passed_on: bool,
}

/// Draws the consequences of what an attempt came to; an answer is still to be passed on.
fn conclude(
    worker: &Worker,
    client: &mut Client,
    journey: &mut Journey,
    upload: &Upload,
    connection: ServerConnection,
    event: Event,
    under_way: &mut UnderWay,
) -> Result<(ServerConnection, Answer), Attempted> {
    let UnderWay { in_flight, sent_at, passed_on } = under_way;
    let (sent_at, passed_on) = (*sent_at, *passed_on);
    let stage_of = |event: &Event| match (passed_on, upload.is_begun(), connection.reused) {
        (true, ..) => Stage::PassedOn,
        (_, false, _) => Stage::Unsent,
        (_, true, true) if matches!(event, Event::ServerGone) => Stage::ReusedClosed,
        (_, true, _) => Stage::Sent,
    };
    let stage = stage_of(&event);
    Err(match event {
        Event::Answer(answer) => {
            let now = Instant::now();
            in_flight.answered(answer.judged(), sent_at, now);
            if journey.erred {
                journey.service.lasting.hope.learn(answer.judged() < 500);
            }
            journey.learn_tail(now);
            let after = now.saturating_duration_since(journey.request.started);
            journey.ledger.answer_began(after, now);
            client.note(|record| record.answer(answer.status, after));
            return Ok((connection, answer));
        }
        Event::Erred { status, reusable } => {
            in_flight.answered(status, sent_at, Instant::now());
            if reusable {
                pool::give_back(worker, in_flight.at(), connection);
            }
            Attempted::Failed(Failure { stage: Stage::Erred, cause: Cause::Erred(status), spell: None })
        }
        Event::ServerGone if connection.stream.fate() == Some(Fate::NotCarried) => {
            Attempted::Refused(Refusal::InvalidTarget)
        }
        Event::ServerGone | Event::Malformed(_) => {
            Attempted::Failed(broken(in_flight, &event, stage, &connection))
        }
        Event::Overtaken(heard, None) => {
            in_flight.overtaken(Instant::now());
            Attempted::Overtaken(heard, None)
        }
        Event::Overtaken(heard, Some(first)) => {
            let failure = broken(in_flight, &first, stage_of(&first), &connection);
            Attempted::Overtaken(heard, Some(failure))
        }
        Event::Deadline => {
            Attempted::Failed(in_flight.failed(stage, FailureKind::Timeout, Some(sent_at.elapsed())))
        }
        Event::Left(nudge) => {
            journey.left_a_hang |= nudge == Nudge::Hang;
            let waited = sent_at.elapsed();
            match nudge {
                Nudge::Hang => {
                    let out_of_time = waited >= journey.timeouts().per_try;
                    Attempted::Failed(in_flight.left(stage, FailureKind::Timeout, waited, out_of_time))
                }
                // The judge has already put it out; there is nothing new to say.
                Nudge::Ejected => {
                    in_flight.at().state.saw_failure(FailureKind::Timeout, Some(waited), Instant::now());
                    Attempted::Failed(Failure { stage, cause: Cause::Ejected, spell: None })
                }
            }
        }
        Event::Refused(refusal) => Attempted::Refused(refusal),
        Event::ClientGone => Attempted::Abandoned,
    })
}

/// The server broke the connection off, or its answer is no HTTP.
fn broken(in_flight: &mut InFlight, event: &Event, stage: Stage, connection: &ServerConnection) -> Failure {
    let fate = connection.stream.fate().filter(|_| stage != Stage::PassedOn);
    match (event, fate) {
        (Event::Malformed(error), _) => {
            tracing::debug!(server = %in_flight.server(), %error, "malformed answer");
            in_flight.failed(stage, FailureKind::Malformed, None)
        }
        (_, Some(Fate::Malformed)) => in_flight.failed(stage, FailureKind::Malformed, None),
        (_, Some(Fate::Declined)) => in_flight.declined(),
        (_, Some(Fate::GoneAway)) => in_flight.gone_away(),
        (_, Some(Fate::NotTaken)) if connection.reused => in_flight.stale(Stage::Unsent),
        (_, Some(Fate::NotTaken)) => in_flight.failed(Stage::Unsent, FailureKind::Reset, None),
        _ if connection.reused => in_flight.stale(stage),
        _ => in_flight.failed(stage, FailureKind::Reset, None),
    }
}

/// How fast a client sends or reads on average while nobody else holds it up.
#[derive(Debug, Clone, Copy)]
struct Pace {
    since: Instant,
    /// Bytes by then.
    before: u64,
}

impl Pace {
    fn begin(now: Instant, bytes: u64) -> Self {
        Self { since: now, before: bytes }
    }

    /// When it will have been too slow unless more bytes come; `None`: it may be as slow as it likes.
    fn due(&self, bytes: u64, rate: u64, grace: Duration) -> Option<Instant> {
        let ms = bytes.saturating_sub(self.before).saturating_mul(1000).checked_div(rate)?;
        Some(self.since + grace + Duration::from_millis(ms.min(A_DAY_MS)))
    }
}

/// What a drill makes of one answer.
enum Injected {
    /// It comes later.
    Late(Duration, Option<Pin<Box<Sleep>>>),
    /// It is a 500.
    Error,
    /// It is broken off in its middle.
    CutShort,
}

impl Injected {
    fn of(worker: &Worker, server: &Server) -> Option<Self> {
        match server.injection.get()? {
            Injection::Slow { by } => Some(Injected::Late(by, None)),
            Injection::Errors { percent } => {
                (worker.rng.borrow_mut().u8(..100) < percent).then_some(Injected::Error)
            }
            Injection::Reset => Some(Injected::CutShort),
            Injection::Refuse | Injection::BlackHole | Injection::Certificate => None,
        }
    }
}

/// What sending a request and waiting for its answer needs.
struct Exchange<'a> {
    worker: &'a Rc<Worker>,
    slot: &'a Rc<Slot>,
    journey: &'a mut Journey,
    upload: &'a mut Upload,
    server: &'a Rc<Server>,
    /// What a drill makes of its answer.
    injected: Option<Injected>,
    /// Of the request, if it may be asked of a second server.
    hedge: &'a mut Hedge,
    /// What became of this server while the second one is waited for.
    failed: Option<Event>,
    /// It answered with an error, which is kept while the second one is waited for.
    bad_answer: bool,
    /// When the request was sent whole.
    sent_at: Option<Instant>,
    /// Of the body on its way from the client.
    pace: Pace,
    /// The server takes no more of the request; it may still answer, and if not, its socket says so.
    write_failed: bool,
    /// An interim answer was passed on.
    passed_on: bool,
}

impl Exchange<'_> {
    /// Sends the request and waits until the final answer's head is in the client's outbox.
    async fn until_answer(
        &mut self,
        client: &mut Client,
        connection: &mut ServerConnection,
        waiting: &Waiting<'_>,
    ) -> Event {
        let mut partial = Buffer::default();
        let mut interims = 0;
        let mut armed = false;
        waiting.enter(Phase::Uploading, self.worker.now());
        poll_fn(|cx| {
            self.slot.watch(cx);
            self.worker.progress.set(false);
            if !self.hedge.is_off()
                && let Some(event) = self.poll_hedge(cx, client, &mut partial, &mut interims)
            {
                return Poll::Ready(event);
            }
            if self.failed.is_none()
                && let Some(event) = self.poll_upload(cx, client, connection, waiting)
            {
                return Poll::Ready(event);
            }
            // Most requests are sent at once and need no deadline for it.
            if self.sent_at.is_none() && (!std::mem::replace(&mut armed, true) || self.worker.progress.get())
            {
                self.worker.slots.arm(self.slot, self.upload_deadline());
            }
            if self.failed.is_none()
                && !self.bad_answer
                && let Poll::Ready(event) =
                    self.poll_answer(cx, client, connection, &mut partial, &mut interims)
            {
                match event {
                    Event::ServerGone | Event::Malformed(_) if self.hedge.is_asking() && !self.passed_on => {
                        self.failed = Some(event);
                    }
                    event => return Poll::Ready(event),
                }
            }
            // Only now: who has an answer need not be asked whether they are still there.
            if self.sent_at.is_some() && client.poll_gone(cx, self.worker) {
                return Poll::Ready(Event::ClientGone);
            }
            if let Some(nudge) = self.slot.take_nudge()
                && !self.passed_on
                && self.journey.may_leave(self.worker, self.server, self.upload, nudge == Nudge::Ejected)
            {
                return Poll::Ready(Event::Left(nudge));
            }
            if self.slot.fired() {
                let client_stalled = self.sent_at.is_none() && !self.upload.is_held_up_by_server();
                let stalled = Event::Refused(Refusal::BodyTimeout);
                return Poll::Ready(if client_stalled { stalled } else { Event::Deadline });
            }
            Poll::Pending
        })
        .await
    }

    /// Looks at what becomes of the second server.
    fn poll_hedge(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        partial: &mut Buffer,
        interims: &mut u32,
    ) -> Option<Event> {
        if self.passed_on {
            // The visitor has begun to read this server's answer.
            self.hedge.settle(self.worker, self.journey);
            return None;
        }
        let first_waits = self.failed.is_none() && !self.bad_answer;
        let (journey, head) = (&*self.journey, self.upload.head());
        match self.hedge.poll(cx, self.worker, journey, self.server, first_waits, head) {
            Poll::Pending => None,
            Poll::Ready(Some(heard)) => Some(Event::Overtaken(heard, self.failed.take().map(Box::new))),
            Poll::Ready(None) if std::mem::take(&mut self.bad_answer) => {
                let mut all = std::mem::take(partial);
                let event = self.take_answer(client, all.bytes(), partial, interims);
                all.consume(all.len());
                self.worker.buffers.recycle(&mut all);
                event.unwrap_or_else(|error| Some(Event::Malformed(error)))
            }
            Poll::Ready(None) => self.failed.take(),
        }
    }

    /// By when something must happen to the request's body, by whoever is waited for.
    fn upload_deadline(&mut self) -> Instant {
        let (now, timeouts) = (self.worker.now(), *self.journey.timeouts());
        if self.upload.is_held_up_by_server() {
            // A client that may not send cannot be slow.
            self.pace = Pace::begin(now, self.upload.received());
            return now + timeouts.idle;
        }
        let silent = now + timeouts.body.min(timeouts.idle);
        if self.journey.request.form == Form::Grpc {
            // A call may have nothing to say for a while.
            return now + timeouts.idle;
        }
        let due = self.pace.due(self.upload.received(), timeouts.body_min_rate, timeouts.body_grace);
        due.map_or(silent, |due| due.min(silent))
    }

    /// Sends on, until all is sent.
    fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        connection: &mut ServerConnection,
        waiting: &Waiting<'_>,
    ) -> Option<Event> {
        if self.sent_at.is_none() && !self.write_failed {
            match self.upload.poll(cx, self.worker, client, connection) {
                Poll::Ready(Ok(())) => {
                    let now = Instant::now();
                    self.sent_at = Some(now);
                    waiting.enter(Phase::Answer, now);
                    // A long upload does not count against the server.
                    let deadline = self.journey.timeouts().request;
                    let from = if self.journey.request.body == BodyLength::None {
                        self.journey.request.started
                    } else {
                        now
                    };
                    self.worker.slots.arm(self.slot, from + deadline);
                }
                Poll::Ready(Err(UploadError::Server)) => self.write_failed = true,
                Poll::Ready(Err(UploadError::Client)) => return Some(Event::ClientGone),
                Poll::Ready(Err(UploadError::Refused(refusal))) => return Some(Event::Refused(refusal)),
                Poll::Pending => {}
            }
        }
        None
    }

    /// Reads the answer's head, and interim ones before it.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        connection: &mut ServerConnection,
        partial: &mut Buffer,
        interims: &mut u32,
    ) -> Poll<Event> {
        if let Some(Injected::Late(by, sleeping)) = &mut self.injected {
            let by = *by;
            let sleeping = sleeping.get_or_insert_with(|| Box::pin(sleep(by)));
            std::task::ready!(sleeping.as_mut().poll(cx));
            self.injected = None;
        }
        loop {
            if client.is_behind() && matches!(client.poll_flush(cx, self.worker), Poll::Ready(Err(_))) {
                return Poll::Ready(Event::ClientGone);
            }
            let mut scratch = self.worker.scratch.borrow_mut();
            let n = match connection.stream.poll_read(cx, &mut scratch[..READ_MAX]) {
                Poll::Ready(Ok(n)) if n > 0 => n,
                Poll::Ready(_) => return Poll::Ready(Event::ServerGone),
                Poll::Pending => return Poll::Pending,
            };
            // Whatever came, it is no longer a stale connection.
            connection.reused = false;
            let event = if partial.is_empty() {
                self.take_answer(client, &scratch[..n], partial, interims)
            } else {
                self.worker.buffers.extend(partial, &scratch[..n]);
                let mut all = std::mem::take(partial);
                let event = self.take_answer(client, all.bytes(), partial, interims);
                all.consume(all.len());
                self.worker.buffers.recycle(&mut all);
                event
            };
            match event {
                Ok(Some(event)) => return Poll::Ready(event),
                Ok(None) if self.bad_answer => return Poll::Pending,
                Ok(None) => {}
                Err(error) => return Poll::Ready(Event::Malformed(error)),
            }
        }
    }

    /// Takes heads out of `bytes` until the final one; what is not whole is kept in `partial`.
    fn take_answer(
        &mut self,
        client: &mut Client,
        mut bytes: &[u8],
        partial: &mut Buffer,
        interims: &mut u32,
    ) -> Result<Option<Event>, MalformedAnswer> {
        loop {
            let (to_head, version) = (self.journey.request.to_head, self.journey.request.version);
            let mut slots = HeaderSlots::default();
            let mut head = match parse_response(bytes, to_head, &mut slots)? {
                Some(head) => head,
                None => {
                    if bytes.len() >= HEAD_MAX {
                        return Err(MalformedAnswer::HeadTooLarge);
                    }
                    self.worker.buffers.extend(partial, bytes);
                    return Ok(None);
                }
            };
            if head.status == 101 && !self.journey.request.upgrade {
                return Err(MalformedAnswer::UnexpectedStatus);
            }
            let rest = &bytes[head.length..];
            if matches!(self.injected, Some(Injected::Error)) && head.status >= 200 {
                (head.status, head.reason) = (500, "Internal Server Error");
            }
            if head.status >= 500 {
                self.show(&head, rest);
            }
            if may_be_own_error(head.status) && self.hedge.is_asking() && !self.passed_on {
                self.bad_answer = true;
                self.worker.buffers.extend(partial, bytes);
                return Ok(None);
            }
            if may_be_own_error(head.status)
                && !self.passed_on
                && self.journey.may_ask_again(self.worker, self.server, self.upload)
            {
                let reusable = head.keep_alive && is_whole(head.body, rest);
                return Ok(Some(Event::Erred { status: head.status, reusable }));
            }
            if head.status >= 200 || head.status == 101 {
                let mut rest = rest;
                if matches!(self.injected, Some(Injected::CutShort)) {
                    if head.body == BodyLength::None {
                        return Ok(Some(Event::ServerGone));
                    }
                    rest = &rest[..rest.len() / 2];
                }
                return self.begin_answer(client, &head, rest).map(|answer| Some(Event::Answer(answer)));
            }
            *interims += 1;
            if *interims > INTERIM_MAX {
                return Err(MalformedAnswer::TooManyInterim);
            }
            self.server.state.saw_life(Instant::now());
            // 100 is between Mainstay and the server, as Mainstay answers the client's expectation itself.
            if head.status != 100 && version == Version::Http11 {
                self.passed_on = true;
                let out = self.worker.buffers.prepare(&mut client.outbox);
                write_response(&head, BodyLength::None, Persistence::Implied, &Edits::default(), out);
            }
            bytes = rest;
            if bytes.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Shows the engine what a bad answer looks like, as far as it has come; now and then.
    #[cold]
    fn show(&self, head: &ResponseHead<'_, '_>, rest: &[u8]) {
        let now = Instant::now();
        if !self.server.state.may_show(now) {
            return;
        }
        let mut body = Vec::new();
        let mut download = Download::new(head.body, false, false);
        let whole = download.take(rest, &mut body).is_ok() && download.is_taken();
        let asked = line_of(self.upload.head());
        let asked = asked.split('?').next().unwrap_or_default();
        let answer = Answered { status: head.status, body: &body, whole };
        let headers = head.headers.iter().map(|line| (line.name, line.value));
        let first_byte = Some(now.saturating_duration_since(self.journey.request.started));
        let phases = Phases { first_byte, ..Phases::default() };
        self.worker.collector().answered(TrafficSample {
            server: self.server.state.id.clone(),
            request: String::from_utf8_lossy(self.journey.request.id.text(&mut [0; 32])).into_owned(),
            sample: Arc::new(Sample::answered(asked, answer, headers, phases)),
        });
    }

    /// What a status of gRPC in the head says.
    fn fault(&self, head: &ResponseHead<'_, '_>) -> Option<Fault> {
        if self.journey.request.form != Form::Grpc {
            return None;
        }
        let status = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case(GRPC_STATUS))?;
        grpc::fault(status.value)
    }

    /// Writes the final head and the body's first bytes into the client's outbox.
    fn begin_answer(
        &self,
        client: &mut Client,
        head: &ResponseHead<'_, '_>,
        rest: &[u8],
    ) -> Result<Answer, MalformedAnswer> {
        let request = &self.journey.request;
        let upgraded = head.status == 101;
        let (framing, until_close) = client_framing(request, head.body);
        // An answer before the request's end leaves bytes behind that nobody wants.
        let whole = self.upload.is_taken() && !self.write_failed;
        let keep_alive = request.keep_alive && whole && !until_close && !client.is_leaving(self.worker);
        let persistence = match (upgraded, keep_alive, request.version) {
            (true, ..) => Persistence::Upgrade,
            (_, false, _) => Persistence::Close,
            (_, true, Version::Http10) => Persistence::KeepAlive,
            (_, true, Version::Http11) => Persistence::Implied,
        };
        let out = self.worker.buffers.prepare(&mut client.outbox);
        let start = out.len();
        request.with_answer_edits(&self.journey.service, self.server, |edits| {
            write_response(head, framing, persistence, edits, out);
        });
        let mut download = Download::new(head.body, framing == BodyLength::Chunked, client.stream.is_http2());
        let frames = (upgraded && is_websocket(head)).then(|| {
            let mut frames = Frames::default();
            frames.pass(rest);
            frames
        });
        if upgraded {
            out.extend_from_slice(rest);
        } else if download.take(rest, out).is_err() {
            // Not a byte was passed on yet, so the whole answer can still be refused.
            out.truncate(start);
            return Err(MalformedAnswer::BadHead);
        }
        let reusable = head.keep_alive && !upgraded;
        if let Some(seconds) = head.keep_alive_seconds {
            self.server.keep.told(seconds, self.worker.now());
        }
        let bodiless = head.body == BodyLength::None;
        let status = head.status;
        let fault = self.fault(head);
        let cut = matches!(self.injected, Some(Injected::CutShort));
        Ok(Answer {
            status,
            download,
            reusable,
            keep_alive,
            bodiless,
            until_close,
            upgraded,
            frames,
            fault,
            cut,
        })
    }
}

/// Whether the connection becomes a WebSocket.
fn is_websocket(head: &ResponseHead<'_, '_>) -> bool {
    head.headers.iter().any(|line| {
        line.name.eq_ignore_ascii_case("upgrade") && line.value.eq_ignore_ascii_case(b"websocket")
    })
}

/// Whether these bytes are a body and nothing else.
fn is_whole(body: BodyLength, bytes: &[u8]) -> bool {
    let mut download = Download::new(body, false, false);
    download.take(bytes, &mut Vec::new()).is_ok() && download.is_taken() && !download.has_excess()
}

/// How a body goes to the client, and whether it ends with the connection.
fn client_framing(request: &Request, body: BodyLength) -> (BodyLength, bool) {
    match (body, request.version) {
        (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) => (BodyLength::Chunked, false),
        (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => (BodyLength::UntilClose, true),
        (framed, _) => (framed, false),
    }
}

/// Passes an answer on to its end.
#[expect(clippy::too_many_arguments, reason = "all that a request consists of ends here")]
async fn finish(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    journey: &mut Journey,
    upload: &mut Upload,
    server: &Rc<Server>,
    mut connection: ServerConnection,
    mut answer: Answer,
) -> Attempted {
    if answer.upgraded {
        journey.ledger.end(Ending::Answered { status: answer.status });
        client.note(|record| record.end(Outcome::Answered, ""));
        let session = worker.session(&journey.service.lasting.id);
        let idle = worker.settings.tunnel_idle;
        let rules = Rules { idle, session, server, leaves_after: None, frames: answer.frames };
        let _tunnelled = server.state.begin_tunnel();
        // Boxed, like all that few requests need.
        let end = Box::pin(tunnel::run(worker, slot, client, &mut connection, rules)).await;
        if let tunnel::End::Drained(word) = end {
            worker.drained(&journey.service.lasting.id, "websocket");
            client.note(|record| record.end(Outcome::Drained, word));
        }
        return Attempted::Ended(Next::Abort);
    }
    let timeouts = *journey.timeouts();
    let mut until = Until::new(server, &connection);
    let passed_on = if answer.cut {
        Err(DownloadError::Server)
    } else {
        pass_on(worker, slot, client, upload, &mut connection, &mut answer.download, &timeouts, &mut until)
            .await
    };
    match passed_on {
        Ok(()) => {
            let late = trailing_fault(journey, &answer);
            if late.is_some() {
                server.state.saw_late_error();
            }
            let fault = answer.fault.or(late);
            let status = fault.map_or(answer.status, |fault| fault.status);
            journey.ledger.end(Ending::Answered { status });
            client.note(|record| record.end(Outcome::Answered, fault.map_or("", |fault| fault.word)));
            let sent = upload.is_taken() && !upload.is_held_up_by_server();
            if answer.reusable && sent && !answer.download.has_excess() {
                connection.doubtful = answer.bodiless;
                pool::give_back(worker, server, connection);
            }
            Attempted::Ended(match (answer.keep_alive, upload.is_taken()) {
                (true, _) => Next::KeepAlive,
                (false, true) => Next::Close,
                (false, false) => Next::Linger,
            })
        }
        Err(DownloadError::Client) => Attempted::Abandoned,
        Err(DownloadError::Drained) => {
            worker.drained(&journey.service.lasting.id, "answer");
            client.note(|record| record.end(Outcome::Drained, tunnel::BY_SERVER));
            journey.ledger.end(Ending::Abandoned);
            if answer.until_close {
                client.stream.reset_on_close();
            }
            Attempted::Ended(Next::Abort)
        }
        Err(DownloadError::Server) => {
            tracing::debug!(server = %server.state.id, "answer cut short");
            client.note(|record| {
                record.attempt_failed(&FailureKind::Truncated);
                record.end(Outcome::Failed, FailureKind::Truncated.as_str());
            });
            server.state.saw_failure(FailureKind::Truncated, None, Instant::now());
            journey.ledger.end(Ending::Failed);
            if answer.until_close {
                client.stream.reset_on_close();
            }
            Attempted::Ended(Next::Abort)
        }
    }
}

/// What the status of gRPC behind an answer says.
fn trailing_fault(journey: &Journey, answer: &Answer) -> Option<Fault> {
    if journey.request.form != Form::Grpc || answer.fault.is_some() {
        return None;
    }
    let mut lines = answer.download.trailers().split(|&b| b == b'\n');
    lines.find_map(|line| {
        let colon = line.iter().position(|&b| b == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        name.eq_ignore_ascii_case(GRPC_STATUS.as_bytes()).then(|| grpc::fault(value)).flatten()
    })
}

/// Passes the rest of an answer on, and of the request while the server still takes it.
#[expect(clippy::too_many_arguments, reason = "both directions and their deadlines meet here")]
async fn pass_on(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    upload: &mut Upload,
    connection: &mut ServerConnection,
    download: &mut Download,
    timeouts: &Timeouts,
    until: &mut Until<'_>,
) -> Result<(), DownloadError> {
    let mut uploading = !upload.is_taken() || upload.is_held_up_by_server();
    let mut pace = Pace::begin(worker.now(), client.written);
    // Most answers are passed on at once and need no deadline for it.
    let (mut armed, mut known) = (false, None);
    poll_fn(|cx| {
        slot.watch(cx);
        worker.progress.set(false);
        if uploading {
            // The answer is under way: what happens to the request's rest changes nothing of it.
            uploading = upload.poll(cx, worker, client, connection).is_pending();
        }
        if let Poll::Ready(result) = download.poll(cx, worker, client, connection) {
            return Poll::Ready(result);
        }
        // Who goes away in the middle of a quiet answer is found out now, and not held against the server later.
        if !uploading && client.poll_gone(cx, worker) {
            return Poll::Ready(Err(DownloadError::Client));
        }
        let ends = until.by_server(worker);
        if ends.is_some_and(|at| at <= worker.now()) {
            return Poll::Ready(Err(DownloadError::Drained));
        }
        if !std::mem::replace(&mut armed, true) || worker.progress.get() || ends != known {
            known = ends;
            let now = worker.now();
            let silent = ends.map_or(now + timeouts.idle, |at| at.min(now + timeouts.idle));
            if !client.is_behind() {
                // Who has read all there is cannot be slow.
                pace = Pace::begin(now, client.written);
                worker.slots.arm(slot, silent);
            } else {
                // The kernel takes bytes in bursts, so an answer has the time of a silence before it is too slow.
                let due = pace.due(client.written, timeouts.body_min_rate, timeouts.idle);
                if due.is_some_and(|due| due <= now) {
                    return Poll::Ready(Err(DownloadError::Client));
                }
                worker.slots.arm(slot, due.map_or(silent, |due| due.min(silent)));
            }
        } else if slot.fired() {
            let client_stalled = client.is_behind();
            let error = if client_stalled { DownloadError::Client } else { DownloadError::Server };
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    })
    .await
}
