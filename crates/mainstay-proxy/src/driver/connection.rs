//! One client connection: requests in their order, one at a time, until somebody closes.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use mainstay_model::limits::{Level, Limits};

use super::client::{Client, Peer};
use super::exchange;
use super::http2;
use super::io::Stream;
use super::listener::Entrance;
use super::log::{Lines, Outcome, Record, Texts};
use super::slots::Slot;
use super::story;
use super::view::Service;
use super::way::Changed;
use super::worker::Worker;
use crate::codec::header::is_traceparent;
use crate::codec::http2::PREFACE;
use crate::codec::rewrite::{Edits, Origin, write_request};
use crate::codec::{
    BodyLength, HEAD_MAX, HeaderSlots, Refusal, RequestHead, RequestId, Version, parse_request,
};
use crate::page::{self, Form, Page};
use crate::policy::doorkeeper::Held;
use crate::policy::own::is_own;
use crate::policy::retry::{Safety, safety};
use crate::policy::router::Lost;

/// A connection that is closed while its client may still be sending gets this long to read the answer, from the last byte that
/// came (nginx: 5 s, `lingering_timeout`).
const LINGER: Duration = Duration::from_secs(1);
/// And altogether (nginx: 30 s, `lingering_time`).
const LINGER_MAX: Duration = Duration::from_secs(10);
/// And this much of what it still sends is thrown away: more than the buffers of both kernels hold, because a client that learns of the
/// answer while it still sends has sent all that.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Of the first line of a request that cannot be read, the access log shows no more.
const REFUSED_LINE_MAX: usize = 512;

/// A connection that is new when the worker begins to drain gets this long to send what it was opened for.
const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// A request, apart from the bytes of its head.
#[derive(Debug)]
pub(crate) struct Request {
    /// `None`: it leads nowhere.
    pub(crate) service: Option<Rc<Service>>,
    /// Its host leads somewhere.
    pub(crate) site_known: bool,
    /// What its route makes of it.
    pub(crate) changed: Option<Box<Changed>>,
    /// By which it finds its server, where that goes by a hash.
    pub(crate) key: u64,
    pub(crate) version: Version,
    pub(crate) id: RequestId,
    pub(crate) keep_alive: bool,
    /// Its method is HEAD.
    pub(crate) to_head: bool,
    pub(crate) safety: Safety,
    pub(crate) body: BodyLength,
    pub(crate) expects_continue: bool,
    pub(crate) upgrade: bool,
    /// How it would have an answer of Mainstay's own.
    pub(crate) form: Form,
    /// Its head as servers get it, and behind it so much of its body as came with it.
    pub(crate) head: Vec<u8>,
    pub(crate) head_length: usize,
    pub(crate) started: Instant,
    /// Who asks: the other end of the connection, or whom a trusted proxy names.
    /// `None`: nothing is known of it.
    pub(crate) visitor: Option<IpAddr>,
    /// Mainstay's own, and no visitor's.
    pub(crate) own: bool,
    /// How it stands against others when there is no room for all.
    pub(crate) level: Level,
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next request.
    KeepAlive,
    /// The answer is whole; the connection is closed.
    Close,
    /// The answer is whole but the client may still be sending.
    Linger,
    /// There is nothing more to say.
    Abort,
}

enum Intake {
    Request(Request),
    /// It began then.
    Refused(Refusal, Instant),
    /// It is none of HTTP/1: the client begins a connection in HTTP/2.
    Http2,
    Closed,
}

/// Keeps the worker's books of a connection right, however its task ends.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) worker: Rc<Worker>,
    pub(crate) slot: Rc<Slot>,
    /// It is no connection of its own.
    is_stream: bool,
    /// How many requests it may carry.
    pub(crate) requests_max: u32,
    /// Its part in what its address may hold.
    held: Option<Held>,
}

impl Registered {
    /// A connection from an address has begun; `None`: the address holds as many as it may.
    pub(crate) fn new(worker: Rc<Worker>, from: Option<IpAddr>) -> Option<Self> {
        let (held, requests_max) = worker.enter(from)?;
        let slot = worker.connection_opened();
        Some(Self { worker, slot, is_stream: false, requests_max, held })
    }

    /// A connection of a proxy in front has begun; whose it is will be known.
    pub(crate) fn of_proxy(worker: Rc<Worker>) -> Self {
        let slot = worker.connection_opened();
        Self { worker, slot, is_stream: false, requests_max: u32::MAX, held: None }
    }

    /// It is an address's; false: that holds as many as it may.
    pub(crate) fn enters(&mut self, from: IpAddr) -> bool {
        let entered = self.worker.enter(Some(from));
        let is_in = entered.is_some();
        if let Some((held, requests_max)) = entered {
            (self.held, self.requests_max) = (held, requests_max);
        }
        is_in
    }

    /// A stream of a connection has begun; `None`: there are too many.
    pub(crate) fn of_stream(worker: &Rc<Worker>) -> Option<Self> {
        let slot = worker.stream_opened()?;
        Some(Self { worker: Rc::clone(worker), slot, is_stream: true, requests_max: 1, held: None })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        match self.is_stream {
            true => self.worker.stream_closed(&self.slot),
            false => self.worker.connection_closed(&self.slot),
        }
    }
}

/// Serves one client connection to its end.
pub(crate) async fn serve(registered: Registered, entrance: Rc<Entrance>, stream: Stream, peer: Peer) {
    if stream.has_agreed_on_http2() {
        return Box::pin(http2::connection::serve(registered, entrance, stream, Vec::new(), peer)).await;
    }
    let (worker, slot) = (&Rc::clone(&registered.worker), &Rc::clone(&registered.slot));
    let mut client = Client::new(stream, entrance, peer, registered.requests_max);
    let mut new = true;
    loop {
        let next = match read_request(worker, slot, &mut client, std::mem::take(&mut new)).await {
            // Boxed, so that an idle connection's task is small.
            Intake::Request(request) => Box::pin(exchange::run(worker, slot, &mut client, request)).await,
            // Boxed, because hardly anybody begins with it in the clear.
            Intake::Http2 => {
                let ahead = client.inbox.bytes().to_vec();
                client.inbox.consume(ahead.len());
                worker.buffers.recycle(&mut client.inbox);
                let stream = std::mem::replace(&mut client.stream, Stream::HandedOver);
                let entrance = Rc::clone(&client.entrance);
                drop(client);
                return Box::pin(http2::connection::serve(registered, entrance, stream, ahead, peer)).await;
            }
            Intake::Refused(refusal, began) => {
                worker.refused(refusal.as_str());
                Box::pin(refuse(worker, slot, &mut client, refusal, began)).await
            }
            Intake::Closed => return client.stream.say_goodbye(),
        };
        client.end_record();
        // The next connections need them too.
        worker.buffers.recycle(&mut client.inbox);
        worker.buffers.recycle(&mut client.outbox);
        match next {
            Next::KeepAlive => {}
            Next::Close if client.inbox.is_empty() => return client.stream.say_goodbye(),
            Next::Close | Next::Linger => return Box::pin(linger(worker, slot, &mut client)).await,
            Next::Abort => return,
        }
    }
}

/// Reads the next request's head, and what comes with it. `new`: the connection has carried none yet.
async fn read_request(worker: &Rc<Worker>, slot: &Rc<Slot>, client: &mut Client, new: bool) -> Intake {
    let mut begun = None;
    let (mut graced, mut timed) = (false, false);
    // A head can only have become whole when another line has ended.
    let mut line_ended = true;
    worker.buffers.recycle(&mut client.inbox);
    worker.slots.arm(slot, worker.now() + worker.settings.client_idle);
    slot.set_idle(true);
    poll_fn(|cx| {
        slot.watch(cx);
        loop {
            if !client.inbox.is_empty() {
                let started = begin(&mut begun, slot);
                if line_ended || client.inbox.len() >= HEAD_MAX {
                    match take_request(worker, client, client.inbox.bytes(), started) {
                        Ok(Some(taken)) => {
                            client.inbox.consume(taken.length);
                            return Poll::Ready(Intake::Request(client.begin_request(taken)));
                        }
                        Ok(None) => {}
                        Err(_)
                            if new
                                && client.inbox.bytes().starts_with(PREFACE)
                                && !client.stream.is_http2() =>
                        {
                            return Poll::Ready(Intake::Http2);
                        }
                        Err(refusal) => return Poll::Ready(Intake::Refused(refusal, started)),
                    }
                }
                // Most heads come whole and need no deadline.
                if !std::mem::replace(&mut timed, true) {
                    worker.slots.arm(slot, started + worker.settings.head_timeout);
                }
            }
            if slot.fired() {
                let refused = |began| Intake::Refused(Refusal::HeadTimeout, began);
                return Poll::Ready(begun.map_or(Intake::Closed, refused));
            }
            match poll_head(cx, worker, slot, client, &mut begun) {
                Poll::Ready(Ok(Came::Request(request))) => return Poll::Ready(Intake::Request(request)),
                Poll::Ready(Ok(Came::Nothing) | Err(_)) => return Poll::Ready(Intake::Closed),
                Poll::Ready(Ok(Came::Part { line_ended: ended })) => line_ended = ended,
                Poll::Pending if client.is_sent_away(worker) && begun.is_none() => {
                    // What a client has sent before it could know is still served; who is silent is let go.
                    if client.stream.is_open_by_kernel() && !new {
                        return Poll::Ready(Intake::Closed);
                    }
                    if !std::mem::replace(&mut graced, true) {
                        worker.slots.arm(slot, worker.now() + DRAIN_GRACE);
                    }
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// When the request began whose first bytes are here.
fn begin(begun: &mut Option<Instant>, slot: &Slot) -> Instant {
    *begun.get_or_insert_with(|| {
        slot.set_idle(false);
        Instant::now()
    })
}

/// What a read brought.
enum Came {
    /// A whole request, as most do.
    Request(Request),
    /// Something that is in the inbox now.
    Part { line_ended: bool },
    /// The end.
    Nothing,
}

/// Reads once. A head that comes whole does not go through the inbox.
fn poll_head(
    cx: &mut Context<'_>,
    worker: &Rc<Worker>,
    slot: &Slot,
    client: &mut Client,
    begun: &mut Option<Instant>,
) -> Poll<io::Result<Came>> {
    let mut scratch = worker.scratch.borrow_mut();
    let n = ready!(client.stream.poll_read(cx, &mut scratch[..HEAD_MAX]))?;
    let bytes = &scratch[..n];
    let taken = if client.inbox.is_empty() && n > 0 {
        // What is wrong with it is found out from the inbox.
        take_request(worker, client, bytes, begin(begun, slot)).ok().flatten()
    } else {
        None
    };
    client.read += n as u64;
    let rest = taken.as_ref().map_or(bytes, |taken| &bytes[taken.length..]);
    if !rest.is_empty() {
        worker.buffers.extend(&mut client.inbox, rest);
    }
    Poll::Ready(Ok(match taken {
        Some(taken) => Came::Request(client.begin_request(taken)),
        None if n == 0 => Came::Nothing,
        None => Came::Part { line_ended: bytes.contains(&b'\n') },
    }))
}

/// A request that was understood.
pub(crate) struct Taken {
    pub(crate) request: Request,
    /// What the access log is to say of it.
    pub(crate) record: Option<Record>,
    /// So many bytes belong to it.
    length: usize,
}

/// Takes a whole head out of what came, and of its body what came with it; `None` when it is not whole.
fn take_request(
    worker: &Rc<Worker>,
    client: &Client,
    came: &[u8],
    started: Instant,
) -> Result<Option<Taken>, Refusal> {
    let mut slots = HeaderSlots::default();
    let Some(head) = parse_request(came, &mut slots)? else { return Ok(None) };
    worker.refresh();
    let id = RequestId::of(head.request_id, || worker.rng.borrow_mut().u128(..));
    let mut digits = [0; 32];
    let id_text = id.text(&mut digits);
    let way = worker.view.borrow().route(&head).cloned();
    let (visitor, level) = match &way {
        Ok(way) => (visitor(client.peer, &way.service.carriage.limits, &head), way.level(head.target)),
        Err(Lost::Refused(refusal)) => return Err(*refusal),
        Err(_) => (client.peer, Level::Normal),
    };
    let changed = way.as_ref().ok().and_then(|way| way.changes(client, &head, visitor, id_text));
    let key = way.as_ref().map_or(Some(0), |way| way.key(&head, visitor));
    // Those of whom nothing is known are not all one visitor.
    let key = key.unwrap_or_else(|| worker.rng.borrow_mut().u64(..));
    let is_trusted = client.peer.is_none()
        && way.as_ref().is_ok_and(|way| trusts(&way.service.carriage.limits, client.peer));
    let mut bytes = worker.buffers.take();
    write_head(client, &head, (id_text, is_trusted), changed.as_deref(), &mut bytes);
    let head_length = bytes.len();
    let mut length = head.length;
    if let BodyLength::Length(body) = head.body {
        let rest = &came[length..];
        let with_it = usize::try_from(body).unwrap_or(usize::MAX).min(rest.len());
        bytes.extend_from_slice(&rest[..with_it]);
        length += with_it;
    }
    let request = Request {
        site_known: !matches!(way, Err(Lost::Host)),
        service: way.ok().map(|way| way.service),
        changed,
        key,
        version: head.version,
        id,
        keep_alive: head.keep_alive,
        to_head: head.method == "HEAD",
        safety: safety(head.method, head.has_idempotency_key),
        body: head.body,
        expects_continue: head.expects_continue,
        upgrade: head.upgrade.is_some(),
        form: form(client, &head),
        head: bytes,
        head_length,
        started,
        visitor,
        own: is_own(head.request_id, client.peer, || client.entrance.ip()),
        level,
    };
    let record = worker.lines().map(|lines| begin_record(&lines, client, &head, &request));
    Ok(Some(Taken { request, record, length }))
}

/// gRPC goes over HTTP/2 alone, so that nobody else is asked.
fn form(client: &Client, head: &RequestHead<'_, '_>) -> Form {
    let grpc = client.stream.is_http2() && head.values("content-type").next().is_some_and(page::is_grpc);
    if grpc { Form::Grpc } else { Form::of(head.accept) }
}

/// Whom a proxy that is trusted names last, or else the other end of the connection.
fn visitor(peer: Option<IpAddr>, limits: &Limits, head: &RequestHead<'_, '_>) -> Option<IpAddr> {
    if trusts(limits, peer) {
        return head.last_forwarded_for().or(peer);
    }
    peer
}

fn trusts(limits: &Limits, peer: Option<IpAddr>) -> bool {
    limits.trusted_proxies.iter().any(|subnet| subnet.contains(peer))
}

fn write_head(
    client: &Client,
    head: &RequestHead<'_, '_>,
    (request_id, is_trusted): (&[u8], bool),
    changed: Option<&Changed>,
    out: &mut Vec<u8>,
) {
    let own_host = match head.host {
        Some(_) => String::new(),
        None => client.stream.local_address(),
    };
    let node = client.node.as_ref().unwrap_or(&client.address);
    let scheme = if client.stream.is_secure() { "https" } else { "http" };
    let edits = changed.map_or_else(Edits::default, Changed::of_request);
    // Of a proxy without an address that is trusted the list is whole as it is: its last word is the visitor.
    let unsaid = is_trusted && client.peer.is_none();
    let origin = Origin { address: &client.address, node, unsaid, scheme, own_host: &own_host, request_id };
    write_request(head, &origin, &edits, out);
}

/// What the access log may say of a request.
fn begin_record(lines: &Rc<Lines>, client: &Client, head: &RequestHead<'_, '_>, request: &Request) -> Record {
    let protocol = match head.version {
        _ if client.stream.is_http2() => "HTTP/2.0",
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let mut digits = [0; 32];
    let texts = Texts {
        method: head.method.as_bytes(),
        host: head.host.unwrap_or_default().as_bytes(),
        target: head.target.as_bytes(),
        request_id: request.id.text(&mut digits),
        traceparent: head.values("traceparent").next().filter(|v| is_traceparent(v)).unwrap_or_default(),
        user_agent: head.values("user-agent").next().unwrap_or_default(),
        referer: head.values("referer").next().unwrap_or_default(),
    };
    let mut record = client.begin_record(lines, request.started, protocol, &texts);
    if let Some(visitor) = request.visitor.filter(|_| request.visitor != client.peer) {
        record.visitor(visitor);
    }
    if let Some(service) = &request.service {
        record.service(&service.lasting);
    }
    record
}

/// Of a request that cannot be read at least its first line is worth a look.
fn begin_refused_record(lines: &Rc<Lines>, client: &Client, id: &[u8], began: Instant) -> Record {
    let line = client.inbox.bytes().split(|b| matches!(b, b'\r' | b'\n')).find(|line| !line.is_empty());
    let line = line.unwrap_or_default();
    let mut words = line[..line.len().min(REFUSED_LINE_MAX)].splitn(3, |b| *b == b' ');
    let mut word = || words.next().unwrap_or_default();
    let texts = Texts { method: word(), target: word(), request_id: id, ..Texts::default() };
    client.begin_record(lines, began, "", &texts)
}

async fn refuse(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    refusal: Refusal,
    began: Instant,
) -> Next {
    let page = Page::Refused(refusal);
    let id = RequestId::of(None, || worker.rng.borrow_mut().u128(..));
    story::remember_refused(worker, &id, began, client.inbox.bytes(), refusal);
    let mut digits = [0; 32];
    let id = id.text(&mut digits);
    if let Some(lines) = worker.lines() {
        let mut record = begin_refused_record(&lines, client, id, began);
        record.own_answer(page.status(), Outcome::Refused, page.as_str());
        client.set_record(Some(record));
    }
    client.inbox.consume(client.inbox.len());
    page::write(page, Form::Html, false, false, id, worker.buffers.prepare(&mut client.outbox));
    send_outbox(worker, slot, client, Next::Linger).await
}

/// Writes what is in the outbox; `then`, or the end if the client does not take it.
pub(crate) async fn send_outbox(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    then: Next,
) -> Next {
    worker.slots.arm(slot, worker.now() + worker.settings.head_timeout);
    poll_fn(|cx| {
        slot.watch(cx);
        match client.poll_flush(cx, worker) {
            Poll::Ready(Ok(())) => Poll::Ready(then),
            Poll::Ready(Err(_)) => Poll::Ready(Next::Abort),
            Poll::Pending if slot.fired() => Poll::Ready(Next::Abort),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Ends the answer and throws away what still comes: closing at once would reset the connection, and the client might
/// never see the answer.
async fn linger(worker: &Rc<Worker>, slot: &Rc<Slot>, client: &mut Client) {
    let end = worker.now() + LINGER_MAX;
    worker.slots.arm(slot, worker.now() + LINGER);
    let mut left = LINGER_BYTES_MAX;
    let mut shut = false;
    poll_fn(|cx| {
        slot.watch(cx);
        if !shut {
            shut = true;
            let _ = client.stream.poll_shutdown(cx);
        }
        loop {
            client.inbox.consume(client.inbox.len());
            match client.poll_fill(cx, worker, HEAD_MAX) {
                Poll::Ready(Ok(n)) if n > 0 && n < left => {
                    left -= n;
                    worker.slots.arm(slot, end.min(worker.now() + LINGER));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if slot.fired() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
