//! Bodies under way: from the client to the server, kept as long as they may have to be sent again, and back.
//!
//! Each side takes no more than one read ahead of the other, so a slow reader holds up the fast writer.

use std::io;
use std::task::{Context, Poll, ready};

use mainstay_model::policy::Protocol;

use super::buffer::READ_MAX;
use super::client::Client;
use super::connection::Request;
use super::pool::ServerConnection;
use super::view::Service;
use super::worker::Worker;
use crate::codec::chunked::{encode_chunk, encode_end};
use crate::codec::{BodyLength, ChunkedDecoder, Refusal};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What of a body is still to come.
#[derive(Debug)]
enum Rest {
    Done,
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

impl Rest {
    /// `trailers`: they are passed on.
    fn of(body: BodyLength, trailers: bool) -> Self {
        match body {
            BodyLength::None | BodyLength::Length(0) => Rest::Done,
            BodyLength::Length(n) => Rest::Length(n),
            BodyLength::Chunked if trailers => Rest::Chunked(ChunkedDecoder::keeping_trailers()),
            BodyLength::Chunked => Rest::Chunked(ChunkedDecoder::new()),
            BodyLength::UntilClose => Rest::UntilClose,
        }
    }
}

/// A request on its way to a server: its head and as much of its body as was taken from the client.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Encoded for the server: the head, and of the body what was not sent, or all as long as it may be sent again.
    out: Vec<u8>,
    head_length: usize,
    sent: usize,
    /// The server's connection has taken all of it and keeps some back.
    flushing: bool,
    rest: Rest,
    /// So much of a body is kept to be sent again.
    keep_max: usize,
    /// A larger one is refused.
    body_max: u64,
    /// Bytes of the body so far.
    received: u64,
    /// The start is gone: this request can never be sent again.
    discarded: bool,
    /// The client waits for `100 Continue`. Mainstay answers it itself, once there is a server to send to: so a
    /// body that was asked for can still go to another server.
    expects_continue: bool,
    continue_at_client: bool,
}

/// Why an upload ended early.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The client went away.
    Client,
    /// The client's body is malformed.
    Refused(Refusal),
    /// The server takes no more.
    Server,
}

impl Upload {
    /// `head`: of the request, with what came of its body.
    pub(crate) fn new(head: Vec<u8>, request: &Request, service: &Service) -> Self {
        let received = (head.len() - request.head_length) as u64;
        let still_to_come = match request.body {
            BodyLength::Length(n) => BodyLength::Length(n - received),
            other => other,
        };
        Self {
            out: head,
            head_length: request.head_length,
            sent: 0,
            flushing: false,
            // Servers of HTTP/1 have no use for them.
            rest: Rest::of(still_to_come, service.carriage.protocol == Protocol::Http2),
            keep_max: service.carriage.retry.body_max,
            body_max: request.body_max(service).unwrap_or(u64::MAX),
            received,
            discarded: false,
            expects_continue: request.expects_continue,
            continue_at_client: false,
        }
    }

    /// All of the body was taken from the client.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self.rest, Rest::Done)
    }

    /// Something is waiting for the server to take it.
    pub(crate) fn is_held_up_by_server(&self) -> bool {
        self.flushing || self.sent < self.out.len()
    }

    /// Some of it was given to the kernel in this attempt.
    pub(crate) fn is_begun(&self) -> bool {
        self.sent > 0 || self.discarded
    }

    /// Bytes of its body that came from the client.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// It can be sent again from the start.
    pub(crate) fn can_rewind(&self) -> bool {
        !self.discarded
    }

    /// Another server has got all of it: there is no body.
    pub(crate) fn was_sent(&mut self) {
        debug_assert!(self.is_taken());
        self.sent = self.out.len();
        self.flushing = false;
    }

    pub(crate) fn rewind(&mut self) {
        debug_assert!(self.can_rewind());
        self.sent = 0;
        self.flushing = false;
    }

    /// The head as servers get it.
    pub(crate) fn head(&self) -> &[u8] {
        &self.out[..self.head_length]
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.out
    }

    /// Sends on. Ready when all is sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut Client,
        server: &mut ServerConnection,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            if !self.is_taken() && !client.inbox.is_empty() && self.out.len() - self.sent < READ_MAX {
                self.absorb(client).map_err(UploadError::Refused)?;
            }
            if self.sent < self.out.len() {
                let written = ready!(server.stream.poll_write(cx, &self.out[self.sent..]));
                self.sent += written.map_err(|_| UploadError::Server)?;
                worker.progress.set(true);
                continue;
            }
            if self.out.len() - self.head_length > self.keep_max || self.discarded {
                self.out.truncate(self.head_length);
                self.sent = self.head_length;
                self.discarded = true;
            }
            let flushed = server.stream.poll_flush(cx).map_err(|_| UploadError::Server)?;
            self.flushing = flushed.is_pending();
            ready!(flushed);
            if self.is_taken() {
                return Poll::Ready(Ok(()));
            }
            if !client.inbox.is_empty() {
                continue;
            }
            if self.expects_continue && !self.continue_at_client {
                self.continue_at_client = true;
                worker.buffers.extend(&mut client.outbox, CONTINUE);
            }
            // Only an interim answer is ever in the way here, and the body may come all the same.
            let _ = client.poll_flush(cx, worker)?;
            if ready!(client.poll_fill(cx, worker, READ_MAX))? == 0 {
                return Poll::Ready(Err(UploadError::Client));
            }
            worker.progress.set(true);
        }
    }

    /// Takes from the inbox what belongs to the body.
    fn absorb(&mut self, client: &mut Client) -> Result<(), Refusal> {
        let inbox = client.inbox.bytes();
        let mut taken = 0;
        let mut ended = false;
        match &mut self.rest {
            Rest::Length(rest) => {
                taken = usize::try_from(*rest).unwrap_or(usize::MAX).min(inbox.len());
                self.out.extend_from_slice(&inbox[..taken]);
                *rest -= taken as u64;
                self.received += taken as u64;
                ended = *rest == 0;
            }
            Rest::Chunked(decoder) => {
                while taken < inbox.len() && !decoder.is_done() {
                    let decoded = decoder.decode(&inbox[taken..])?;
                    self.received += decoded.data.len() as u64;
                    // How long a chunked body is shows only as it comes.
                    if self.received > self.body_max {
                        return Err(Refusal::BodyTooLarge);
                    }
                    encode_chunk(decoded.data, &mut self.out);
                    taken += decoded.consumed;
                }
                if decoder.is_done() {
                    encode_end(decoder.trailers(), &mut self.out);
                    ended = true;
                }
            }
            Rest::Done | Rest::UntilClose => {}
        }
        if ended {
            self.rest = Rest::Done;
        }
        client.inbox.consume(taken);
        Ok(())
    }
}

impl From<io::Error> for UploadError {
    /// Only the client's socket is read and flushed with `?`.
    fn from(_: io::Error) -> Self {
        UploadError::Client
    }
}

/// An answer on its way to the client.
#[derive(Debug)]
pub(crate) struct Download {
    rest: Rest,
    /// The client gets it in chunks.
    chunked: bool,
    /// The server sent more than its answer: its connection is not used again.
    excess: bool,
    /// Lines behind the last chunk.
    trailers: Vec<u8>,
}

/// Why a download ended early.
#[derive(Debug)]
pub(crate) enum DownloadError {
    /// The client went away.
    Client,
    /// The server closed or reset before the end, or what it sends cannot be read on.
    Server,
    /// The server is to go, and this was waited for long enough.
    Drained,
}

impl Download {
    /// `chunked`: the client gets it in chunks; `trailers`: with the trailers behind them.
    pub(crate) fn new(body: BodyLength, chunked: bool, trailers: bool) -> Self {
        Self { rest: Rest::of(body, trailers), chunked, excess: false, trailers: Vec::new() }
    }

    pub(crate) fn is_taken(&self) -> bool {
        matches!(self.rest, Rest::Done)
    }

    /// The trailers behind it, as lines, once it is taken.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    pub(crate) fn has_excess(&self) -> bool {
        self.excess
    }

    /// Takes the body's first bytes, which came with the head, into the buffer that holds the head.
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DownloadError> {
        let mut at = 0;
        match &mut self.rest {
            Rest::Length(_) | Rest::UntilClose => {
                at = self.account(bytes.len());
                if self.chunked {
                    encode_chunk(&bytes[..at], out)
                } else {
                    out.extend_from_slice(&bytes[..at])
                }
            }
            Rest::Chunked(decoder) => {
                while at < bytes.len() && !decoder.is_done() {
                    let decoded = decoder.decode(&bytes[at..]).map_err(|_| DownloadError::Server)?;
                    if self.chunked {
                        encode_chunk(decoded.data, out)
                    } else {
                        out.extend_from_slice(decoded.data)
                    }
                    at += decoded.consumed;
                }
                if decoder.is_done() {
                    self.end(out);
                }
            }
            Rest::Done => {}
        }
        self.excess |= at < bytes.len();
        Ok(())
    }

    /// Passes on. Ready when the whole answer was given to the client's socket.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        client: &mut Client,
        server: &mut ServerConnection,
    ) -> Poll<Result<(), DownloadError>> {
        loop {
            ready!(client.poll_flush(cx, worker)).map_err(|_| DownloadError::Client)?;
            if self.is_taken() {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = worker.scratch.borrow_mut();
            let n = match ready!(server.stream.poll_read(cx, &mut scratch[..READ_MAX])) {
                Ok(n) => n,
                Err(_) => return Poll::Ready(Err(DownloadError::Server)),
            };
            worker.progress.set(true);
            match (n, &self.rest) {
                (0, Rest::UntilClose) => self.end(worker.buffers.prepare(&mut client.outbox)),
                (0, _) => return Poll::Ready(Err(DownloadError::Server)),
                (_, Rest::Length(_) | Rest::UntilClose) if !self.chunked => {
                    let taken = self.account(n);
                    self.excess |= taken < n;
                    client.write_through(cx, worker, &scratch[..taken]).map_err(|_| DownloadError::Client)?;
                }
                _ => self.take(&scratch[..n], worker.buffers.prepare(&mut client.outbox))?,
            }
        }
    }

    /// Counts `n` bytes of a body that is not chunked; how many of them belong to it.
    fn account(&mut self, n: usize) -> usize {
        let Rest::Length(rest) = &mut self.rest else { return n };
        let taken = usize::try_from(*rest).unwrap_or(usize::MAX).min(n);
        *rest -= taken as u64;
        if *rest == 0 {
            self.rest = Rest::Done;
        }
        taken
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if let Rest::Chunked(decoder) = &self.rest {
            self.trailers.extend_from_slice(decoder.trailers());
        }
        if self.chunked {
            encode_end(&self.trailers, out);
        }
        self.rest = Rest::Done;
    }
}
