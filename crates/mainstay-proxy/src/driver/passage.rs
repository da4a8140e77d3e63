//! A connection of a TCP service: which service it belongs to, a server that takes it, and then bytes both ways.
//!
//! Nothing of it is sent before a server has accepted, so going on to the next server is always safe. A server is judged by
//! whether it accepts; what is said afterwards is nobody's business but the client's and the server's.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use mainstay_model::ServiceId;
use mainstay_model::carriage::Carriage;
use mainstay_model::input::{FailureKind, TrafficFailure};
use mainstay_model::limits::Level;
use mainstay_model::policy::Balance;

use super::admit::{self, NotAdmitted};
use super::client::{Client, Peer};
use super::connection::Registered;
use super::gate::Place;
use super::in_flight::{Failure, InFlight};
use super::io::Stream;
use super::listener::Entrance;
use super::log::{Outcome, Texts};
use super::pool::{self, ConnectError, ServerConnection};
use super::slots::Slot;
use super::tunnel::{self, End, Rules};
use super::view::{Lasting, Server, Service};
use super::worker::Worker;
use crate::codec::{HELLO_MAX, NoHello, server_name};
use crate::page::Page;
use crate::policy::accounting::{Ending, Wait};
use crate::policy::affinity;
use crate::policy::names;
use crate::policy::retry::{Safety, Stage};
use crate::policy::story::Cause;

/// What TLS says to a client whose name nobody has: fatal, unrecognized_name (RFC 6066, 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Counts a connection once when a server has it, or when none took it, and once more should it be cut.
#[derive(Debug)]
struct Ledger {
    worker: Rc<Worker>,
    lasting: Rc<Lasting>,
    visitor: Option<IpAddr>,
    /// Its place among the service's connections.
    _place: Option<Place>,
    attempts: u32,
    wait: Wait,
    /// A server has it.
    taken: bool,
    /// All of it is counted.
    over: bool,
}

impl Ledger {
    fn begin(worker: &Rc<Worker>, service: &Service, visitor: Option<IpAddr>) -> Self {
        let lasting = Rc::clone(&service.lasting);
        lasting.counts.began();
        let wait = Wait { first_byte: None, slow_after: service.carriage.slow_after };
        let worker = Rc::clone(worker);
        Self { worker, lasting, visitor, _place: None, attempts: 0, wait, taken: false, over: false }
    }

    fn taken(&mut self, after: Duration) {
        self.wait.first_byte = Some(after);
        self.taken = true;
        self.lasting.counts.connected(self.attempts, self.wait);
    }

    fn end(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        match (self.taken, ending) {
            (true, Ending::Failed) => self.lasting.counts.cut(),
            (true, _) => self.lasting.counts.left(),
            (false, _) => self.lasting.counts.ended(ending, self.attempts, self.wait),
        }
        if ending.hurts()
            && let Some(visitor) = self.worker.visitor_hash(self.visitor)
        {
            self.lasting.counts.hurt(visitor);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Whoever ends Mainstay has let it go on until the deadline: that is no failure of a server's.
        let is_asked = self.taken && self.worker.draining.get();
        self.end(if is_asked { Ending::Abandoned } else { Ending::Failed });
    }
}

/// A connection that a server has taken.
struct Opened {
    server: Rc<Server>,
    connection: ServerConnection,
    in_flight: InFlight,
    /// How often the server had been put out of rotation by then.
    expelled: u64,
}

/// Serves a connection of a TCP service to its end.
pub(crate) async fn serve(registered: Registered, entrance: Rc<Entrance>, stream: Stream, peer: Peer) {
    let (worker, slot) = (&registered.worker, &registered.slot);
    let mut client = Client::new(stream, entrance, peer, 1);
    let started = Instant::now();
    let services = client.entrance.services();
    let chosen = match Box::pin(choose(worker, slot, &mut client, &services)).await {
        Ok(chosen) => chosen,
        Err(None) => return,
        Err(Some(reason)) => return refuse(worker, &mut client, started, reason),
    };
    let mut ledger = Ledger::begin(worker, &chosen.service, client.peer);
    begin_record(worker, &mut client, started, &chosen);
    let opened = Box::pin(open(worker, slot, &mut client, &chosen.service, &mut ledger, started)).await;
    let Ok(mut opened) = opened else { return client.end_record() };
    let carriage = Arc::clone(&chosen.service.carriage);
    let rules = Rules {
        idle: carriage.timeouts.idle,
        session: worker.session(&chosen.service.lasting.id),
        server: &opened.server,
        leaves_after: closes_when_down(&carriage).then_some(opened.expelled),
        frames: None,
    };
    drop(chosen);
    let end = tunnel::run(worker, slot, &mut client, &mut opened.connection, rules).await;
    let (ending, outcome, reason) = match end {
        End::Done => (Ending::Answered { status: 200 }, Outcome::Answered, ""),
        End::Idle => (Ending::Answered { status: 200 }, Outcome::Answered, "idle"),
        End::ClientGone => (Ending::Abandoned, Outcome::Abandoned, "client-reset"),
        End::ServerGone => (Ending::Failed, Outcome::Failed, "server-reset"),
        End::ServerDown => (Ending::Failed, Outcome::Failed, "server-down"),
        End::Drained(reason) => {
            worker.drained(&ledger.lasting.id, "connection");
            (Ending::Abandoned, Outcome::Drained, reason)
        }
    };
    ledger.end(ending);
    if outcome == Outcome::Failed {
        // A clean end would make half an answer look whole.
        client.stream.reset_on_close();
        opened.connection.stream.reset_on_close();
    }
    drop(opened.in_flight);
    client.note(|record| record.end(outcome, reason));
    client.end_record();
}

fn closes_when_down(carriage: &Carriage) -> bool {
    carriage.tcp.is_some_and(|tcp| tcp.close_when_down)
}

struct Chosen {
    service: Rc<Service>,
    /// What the client asked for by TLS.
    name: Option<String>,
}

/// Finds the service. `Err(None)`: the client went away before.
async fn choose(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    ids: &[ServiceId],
) -> Result<Chosen, Option<&'static str>> {
    worker.refresh();
    let services = || {
        let view = worker.view.borrow();
        ids.iter().filter_map(|id| view.newest(id).cloned()).filter(|s| s.carriage.tcp.is_some()).collect()
    };
    let mut all: Vec<Rc<Service>> = services();
    let mut name = None;
    if all.iter().any(|service| !service.carriage.hosts.is_empty()) {
        name = hello(worker, slot, client).await?;
        all = services();
    }
    let hosts = all.iter().map(|service| &service.carriage.hosts[..]);
    let best = match &name {
        Some(asked) => names::best(hosts, asked.as_deref()),
        None => names::best(hosts, None),
    };
    match best {
        Some(place) => Ok(Chosen { service: all.swap_remove(place), name: name.flatten() }),
        None if all.is_empty() => Err(Some("tcp-no-service")),
        None if name.is_none() => Err(Some("tls-hello-missing")),
        None => {
            // A client that asked by name is told that it is the name.
            let _ = poll_fn(|cx| Poll::Ready(client.stream.poll_write(cx, &UNRECOGNIZED_NAME))).await;
            Err(Some("tls-name-unknown"))
        }
    }
}

/// Waits for the client's hello, which stays in the inbox; `None`: it speaks something else than TLS.
async fn hello(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
) -> Result<Option<Option<String>>, Option<&'static str>> {
    worker.slots.arm(slot, worker.now() + worker.settings.head_timeout);
    poll_fn(|cx| {
        slot.watch(cx);
        loop {
            if !client.inbox.is_empty() {
                match server_name(client.inbox.bytes()) {
                    Ok(Some(name)) => return Poll::Ready(Ok(Some(name))),
                    Ok(None) => {}
                    Err(NoHello::NotTls) => return Poll::Ready(Ok(None)),
                    Err(NoHello::Malformed) => return Poll::Ready(Err(Some("tls-hello-malformed"))),
                    Err(NoHello::TooLong) => return Poll::Ready(Err(Some("tls-hello-too-long"))),
                }
            }
            let silent = client.inbox.is_empty();
            match client.poll_fill(cx, worker, HELLO_MAX) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Err((!silent).then_some("tls-hello-cut-short"))),
                Poll::Pending if slot.fired() => return Poll::Ready(Err(Some("tls-hello-timeout"))),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// A server takes the connection; otherwise it is counted and told in the log.
async fn open(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    service: &Rc<Service>,
    ledger: &mut Ledger,
    started: Instant,
) -> Result<Opened, ()> {
    let admitted = match admit::within_limit(client.peer, service) {
        Ok(()) => admit::enter(worker, slot, client, Level::Normal, service).await,
        Err(refused) => Err(refused),
    };
    match admitted {
        Ok(place) => ledger._place = place,
        Err(NotAdmitted::Gone) => {
            client.note(|record| record.end(Outcome::Abandoned, ""));
            ledger.end(Ending::Abandoned);
            return Err(());
        }
        Err(NotAdmitted::Refused(page)) => {
            let (ending, outcome) = match page {
                Page::Limited { .. } => (Ending::Limited, Outcome::Limited),
                _ => (Ending::Shed, Outcome::Shed),
            };
            client.note(|record| record.end(outcome, page.as_str()));
            ledger.end(ending);
            return Err(());
        }
    }
    let opened = attempts(worker, slot, client, service, ledger, started).await;
    match &opened {
        Some(_) => ledger.taken(started.elapsed()),
        None => {
            client.note(|record| record.end(Outcome::Failed, Page::NoServer.as_str()));
            ledger.end(Ending::Failed);
        }
    }
    opened.ok_or(())
}

/// Each server once, until one accepts.
async fn attempts(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    client: &mut Client,
    service: &Rc<Service>,
    ledger: &mut Ledger,
    started: Instant,
) -> Option<Opened> {
    let timeouts = service.carriage.timeouts;
    let key = match service.carriage.balance {
        Balance::Hash => affinity::key(&service.carriage.hash_by, "", client.peer, |_| Vec::new())
            .unwrap_or_else(|| worker.rng.borrow_mut().u64(..)),
        _ => 0,
    };
    let mut tried: Vec<Rc<Server>> = Vec::new();
    let greeting = client.greeting(&service.carriage, client.peer);
    let mut was_short = false;
    let mut last: Option<Failure> = None;
    loop {
        let now = Instant::now();
        let has_tried = |server: &Rc<Server>| tried.iter().any(|t| Rc::ptr_eq(t, server));
        let newest = worker.newest(service);
        let chosen = {
            let mut rng = worker.rng.borrow_mut();
            newest.rotation.choose(Safety::Safe, key, has_tried, &mut rng, now).cloned()
        };
        let chosen = chosen.filter(|_| now < started + timeouts.request);
        if let (Some(failure), Some(_)) = (&last, &chosen) {
            service.lasting.counts.retried();
            worker.retried(&service.lasting.id, failure.cause);
        }
        let server = chosen?;
        ledger.attempts += 1;
        client.note(|record| record.attempt(&server));
        let mut in_flight = InFlight::begin(&server, now);
        let per_try = timeouts.per_try.min(timeouts.connect);
        let waiting = worker.waits.begin(&server, slot, per_try, true, false, now);
        let good_besides = || {
            let other = |s: &Rc<Server>| Rc::ptr_eq(s, &server) || has_tried(s);
            newest.rotation.has_good(Safety::Safe, other, Instant::now())
        };
        let connected =
            pool::connect_alone(worker, slot, &server, now + timeouts.connect, &greeting, good_besides).await;
        drop(waiting);
        let failure = match connected {
            Ok(connection) => {
                in_flight.answered(200, now, Instant::now());
                let expelled = server.expelled.get();
                return Some(Opened { server, connection, in_flight, expelled });
            }
            Err(ConnectError::Left) => in_flight.left(
                Stage::Unsent,
                FailureKind::ConnectTimeout,
                now.elapsed(),
                now.elapsed() >= per_try,
            ),
            Err(ConnectError::Server(cause)) => in_flight.unreached(cause),
            Err(ConnectError::Own) => {
                tracing::warn!(server = %server.state.id, "no descriptor, port or memory for a connection");
                worker.make_room();
                tokio::task::yield_now().await;
                Failure { stage: Stage::Unsent, cause: Cause::Own, spell: None }
            }
        };
        client.note(|record| record.attempt_failed(&failure));
        // What Mainstay was short of was just freed, so the same server may be asked once more.
        if failure.cause != Cause::Own || std::mem::replace(&mut was_short, true) {
            tried.push(Rc::clone(&server));
        }
        tell_failure(worker, &server, &failure);
        last = Some(failure);
    }
}

/// The server is avoided from now on, and the judge hears of it.
fn tell_failure(worker: &Worker, server: &Rc<Server>, failure: &Failure) {
    if let Some(first) = failure.spell
        && server.state.reflex.borrow_mut().failure(Instant::now(), first)
        && let Cause::Fault(kind) | Cause::Hang(kind) = failure.cause
    {
        let server = server.state.id.clone();
        worker.collector().failure(TrafficFailure { server, kind, retried_on: None });
    }
}

fn begin_record(worker: &Worker, client: &mut Client, started: Instant, chosen: &Chosen) {
    if let Some(lines) = worker.lines() {
        let host = chosen.name.as_deref().unwrap_or_default().as_bytes();
        let mut record = client.begin_record(&lines, started, "TCP", &Texts { host, ..Texts::default() });
        record.service(&chosen.service.lasting);
        // What was read to find the service is the session's own.
        record.begins_with_the_connection();
        client.set_record(Some(record));
    }
}

fn refuse(worker: &Worker, client: &mut Client, started: Instant, reason: &'static str) {
    worker.refused(reason);
    if let Some(lines) = worker.lines() {
        let mut record = client.begin_record(&lines, started, "TCP", &Texts::default());
        record.end(Outcome::Refused, reason);
        client.set_record(Some(record));
        client.end_record();
    }
}
