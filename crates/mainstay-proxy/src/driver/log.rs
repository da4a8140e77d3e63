//! A worker's part in the access log: what is noted of a request while it is under way, and its line at the end.
//!
//! Without an access log nothing is noted. With one, a request's texts are copied into a record that is used again
//! for the next request, so that a line costs neither an allocation nor a lock.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::client::UNKNOWN;
use super::view::{Lasting, Server};
use crate::access::{AccessLog, Batch, Clock, Line, Second};

/// Records that are kept for the next requests.
const SPARE_MAX: usize = 1024;

/// Lines are handed over once in this time at least.
const HAND_OVER: Duration = Duration::from_millis(100);

/// Of a record that is kept.
const TEXT_KEPT_MAX: usize = 4096;

/// What nginx writes of a client that closed the connection before there was an answer.
const GONE: u16 = 499;

/// The lines of one worker.
#[derive(Debug)]
pub(crate) struct Lines {
    log: Arc<AccessLog>,
    batch: RefCell<Batch>,
    second: Cell<Second>,
    /// A moment by both clocks.
    moment: Cell<(Instant, SystemTime)>,
    #[expect(clippy::vec_box, reason = "a record moves into a request and back without being copied")]
    spare: RefCell<Vec<Box<Noted>>>,
}

/// What is noted of a request. It becomes a line when its connection says that it has ended.
#[derive(Debug)]
pub(crate) struct Record {
    lines: Rc<Lines>,
    noted: Box<Noted>,
}

/// How a request ended, in the log's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Outcome {
    /// Cut short by a fault, of a server or of Mainstay's end.
    #[default]
    Failed,
    /// A server's answer was passed on whole, or a connection was carried to its end.
    Answered,
    /// Refused because of the request itself.
    Refused,
    /// The visitor went away.
    Abandoned,
    /// Refused because there was no room.
    Shed,
    /// Refused because its address had asked too often.
    Limited,
    /// Ended by Mainstay, because its server was to go, or Mainstay itself, and its time was over.
    Drained,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Failed => "failed",
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Abandoned => "abandoned",
            Outcome::Shed => "shed",
            Outcome::Limited => "limited",
            Outcome::Drained => "drained",
        }
    }
}

/// The texts of a request that its line may show.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Texts<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) request_id: &'a [u8],
    pub(crate) traceparent: &'a [u8],
    pub(crate) user_agent: &'a [u8],
    pub(crate) referer: &'a [u8],
}

#[derive(Debug)]
pub(crate) struct Noted {
    started: Instant,
    protocol: &'static str,
    /// All texts, one after the other.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: [u32; 7],
    /// `None`: the other end of the connection.
    visitor: Option<IpAddr>,
    service: Option<Rc<Lasting>>,
    server: Option<Rc<Server>>,
    attempts: u32,
    failures: Vec<u8>,
    status: u16,
    outcome: Outcome,
    reason: &'static str,
    first_byte: Option<Duration>,
    /// What the connection had read and written before.
    before: (u64, u64),
}

impl Lines {
    pub(crate) fn new(log: Arc<AccessLog>, now: Instant) -> Self {
        Self {
            log,
            batch: RefCell::default(),
            second: Cell::default(),
            moment: Cell::new((now, SystemTime::now())),
            spare: RefCell::default(),
        }
    }

    pub(crate) fn log(&self) -> &Arc<AccessLog> {
        &self.log
    }

    /// Hands over what was written, if it is time to: to wake the writer costs more than a line.
    pub(crate) fn sweep(&self, now: Instant) {
        if now.saturating_duration_since(self.moment.get().0) >= HAND_OVER {
            self.hand_over(now);
        }
    }

    /// Hands over what was written; both clocks are compared again, as that of the wall may have been set.
    pub(crate) fn hand_over(&self, now: Instant) {
        self.moment.set((now, SystemTime::now()));
        self.log.hand_over(&mut self.batch.borrow_mut());
    }

    /// Begins to take notes of what began at `started`. `before`: what the connection has read and written before.
    pub(crate) fn begin(
        self: &Rc<Self>,
        started: Instant,
        protocol: &'static str,
        texts: &Texts<'_>,
        before: (u64, u64),
    ) -> Record {
        let mut noted = self.spare.borrow_mut().pop().unwrap_or_else(|| Box::new(Noted::new(started)));
        (noted.started, noted.protocol, noted.before) = (started, protocol, before);
        let parts = [
            texts.method,
            texts.host,
            texts.target,
            texts.request_id,
            texts.traceparent,
            texts.user_agent,
            texts.referer,
        ];
        for (part, end) in parts.into_iter().zip(&mut noted.ends) {
            noted.text.extend_from_slice(part);
            // A head is at most 32 KiB long.
            *end = u32::try_from(noted.text.len()).unwrap_or(u32::MAX);
        }
        Record { lines: Rc::clone(self), noted }
    }

    /// A connection that was refused before anything was asked by it; `status`: 0, or what it was answered in `sent` bytes.
    pub(crate) fn refused_connection(
        self: &Rc<Self>,
        visitor: Option<IpAddr>,
        status: u16,
        reason: &'static str,
        sent: usize,
    ) {
        let mut record = self.begin(Instant::now(), "", &Texts::default(), (0, 0));
        record.noted.visitor = visitor;
        record.own_answer(status, Outcome::Refused, reason);
        record.finish(UNKNOWN, 0, sent as u64);
    }

    fn wall_ms(&self, at: Instant) -> u64 {
        let (instant, wall) = self.moment.get();
        let wall = match at.checked_duration_since(instant) {
            Some(later) => wall + later,
            None => wall.checked_sub(instant.saturating_duration_since(at)).unwrap_or(UNIX_EPOCH),
        };
        let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Record {
    /// Who asks, where that is not the other end of the connection.
    pub(crate) fn visitor(&mut self, visitor: IpAddr) {
        self.noted.visitor = Some(visitor);
    }

    pub(crate) fn service(&mut self, service: &Rc<Lasting>) {
        self.noted.service = Some(Rc::clone(service));
    }

    /// All that its connection has read and written is its own.
    pub(crate) fn begins_with_the_connection(&mut self) {
        self.noted.before = (0, 0);
    }

    /// An attempt begins.
    pub(crate) fn attempt(&mut self, server: &Rc<Server>) {
        self.noted.attempts += 1;
        self.noted.server = Some(Rc::clone(server));
    }

    /// The attempt failed.
    pub(crate) fn attempt_failed(&mut self, why: &dyn fmt::Display) {
        let Noted { failures, server: Some(server), .. } = &mut *self.noted else { return };
        let space = if failures.is_empty() { "" } else { " " };
        // Writing to memory cannot fail.
        let _ = write!(failures, "{space}{}:{why}", server.state.id.name);
    }

    /// An answer begins.
    pub(crate) fn answer(&mut self, status: u16, after: Duration) {
        (self.noted.status, self.noted.first_byte) = (status, Some(after));
    }

    /// How it ended. `reason`: a word for it; empty: there is nothing to say.
    pub(crate) fn end(&mut self, outcome: Outcome, reason: &'static str) {
        (self.noted.outcome, self.noted.reason) = (outcome, reason);
    }

    /// Mainstay's own answer.
    pub(crate) fn own_answer(&mut self, status: u16, outcome: Outcome, reason: &'static str) {
        self.noted.status = status;
        self.end(outcome, reason);
    }

    /// Makes a line of it. `address` is the other end of the connection, which has read and written so much by now.
    pub(crate) fn finish(self, address: &str, read: u64, written: u64) {
        let Record { lines, mut noted } = self;
        let visitor;
        let visitor = match noted.visitor {
            Some(ip) => {
                visitor = ip.to_string();
                &visitor
            }
            None => address,
        };
        let status = match noted.status {
            0 if noted.outcome == Outcome::Abandoned && noted.protocol != "TCP" => GONE,
            status => status,
        };
        let [method, host, target, request_id, traceparent, user_agent, referer] = noted.texts();
        let line = Line {
            started_ms: lines.wall_ms(noted.started),
            clock: Clock::with(&lines.second),
            visitor,
            protocol: noted.protocol,
            method,
            host,
            target,
            status,
            outcome: noted.outcome.as_str(),
            reason: noted.reason,
            bytes_in: read.saturating_sub(noted.before.0),
            bytes_out: written.saturating_sub(noted.before.1),
            took: noted.started.elapsed(),
            first_byte: noted.first_byte,
            service: noted.service.as_ref().map_or("", |lasting| lasting.id.as_str()),
            server: noted.server.as_ref().map_or("", |server| &server.state.id.name),
            attempts: noted.attempts,
            failures: &noted.failures,
            request_id,
            traceparent,
            user_agent,
            referer,
        };
        lines.log.add(&line, &mut lines.batch.borrow_mut());
        noted.forget();
        let mut spare = lines.spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(noted);
        }
    }
}

impl Noted {
    fn new(started: Instant) -> Self {
        Self {
            started,
            protocol: "",
            text: Vec::new(),
            ends: [0; 7],
            visitor: None,
            service: None,
            server: None,
            attempts: 0,
            failures: Vec::new(),
            status: 0,
            outcome: Outcome::default(),
            reason: "",
            first_byte: None,
            before: (0, 0),
        }
    }

    fn texts(&self) -> [&[u8]; 7] {
        let mut start = 0;
        self.ends.map(|end| {
            let end = end as usize;
            let text = self.text.get(start..end).unwrap_or_default();
            start = end;
            text
        })
    }

    /// Leaves nothing for the next request but the allocations.
    fn forget(&mut self) {
        let (mut text, mut failures) = (std::mem::take(&mut self.text), std::mem::take(&mut self.failures));
        text.clear();
        // One long target must not stay in memory as long as the worker runs.
        text.shrink_to(TEXT_KEPT_MAX);
        failures.clear();
        *self = Self { text, failures, ..Self::new(self.started) };
    }
}
