//! A stream of a client, as the engine sees it: a connection of HTTP/1 that brings one request and takes its answer.

use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;

use super::inward::{Coding, Inward, io_error};
use super::outward::Outward;
use crate::codec::BodyLength;
use crate::codec::http2::request::{Framing, write_http1};
use crate::codec::http2::response::read_http1;

/// One stream of a client.
#[derive(Debug)]
pub(crate) struct ClientStream {
    inward: Inward,
    /// What the client sends into a tunnel waits until there is one.
    tunnel: Option<RecvStream>,
    /// Who waits for the first bytes of the tunnel meanwhile.
    waits: Option<Waker>,
    answer: Answer,
    to_head: bool,
    secure: bool,
}

#[derive(Debug)]
enum Answer {
    /// Its head is not whole; what is here of it.
    Head(SendResponse<Bytes>, Vec<u8>),
    Body(Outward),
}

impl ClientStream {
    /// A stream that begins with this request. `key`: for the handshake of a WebSocket.
    pub(crate) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        secure: bool,
        key: [u8; 16],
    ) -> Self {
        let (parts, body) = request.into_parts();
        let protocol =
            parts.extensions.get::<h2::ext::Protocol>().map(|protocol| protocol.as_str().to_owned());
        let mut inward = Inward::default();
        let framing = write_http1(&parts, protocol.as_deref(), body.is_end_stream(), key, inward.text());
        let mut tunnel = None;
        match framing {
            Framing::None => {}
            Framing::Length => inward.follow(body, Coding::Plain),
            Framing::Chunked => inward.follow(body, Coding::Chunked),
            Framing::Tunnel => tunnel = Some(body),
        }
        let to_head = parts.method == http::Method::HEAD;
        Self { inward, tunnel, waits: None, answer: Answer::Head(respond, Vec::new()), to_head, secure }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Reads on. 0 once the answer is whole: a stream carries one request.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if matches!(&self.answer, Answer::Body(answer) if answer.is_done()) {
            // What the client still sends is nobody's.
            return Poll::Ready(Ok(0));
        }
        let n = ready!(self.inward.poll_read(cx, into))?;
        if n > 0 {
            return Poll::Ready(Ok(n));
        }
        match &mut self.answer {
            Answer::Body(answer) if answer.is_open() => Poll::Ready(Ok(0)),
            Answer::Body(answer) => {
                answer.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
            }
            Answer::Head(respond, _) => {
                if self.tunnel.is_some() {
                    self.waits = Some(cx.waker().clone());
                }
                respond.poll_reset(cx).map(|_| Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    /// Takes the answer, piece by piece.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.answer {
            Answer::Body(answer) => answer.poll_write(cx, bytes),
            Answer::Head(_, begun) if begun.is_empty() => Poll::Ready(self.take_head(bytes)),
            Answer::Head(_, begun) => {
                let had = begun.len();
                let mut all = std::mem::take(begun);
                all.extend_from_slice(bytes);
                Poll::Ready(self.take_head(&all).map(|taken| taken.saturating_sub(had)))
            }
        }
    }

    /// Takes one head at the start of `bytes`; how many bytes that was. What is not whole is kept.
    fn take_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Answer::Head(respond, begun) = &mut self.answer else { return Ok(0) };
        let read = read_http1(bytes, self.to_head);
        let Some(mut answer) = read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        else {
            begun.extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        if answer.head.status().is_informational() {
            respond.send_informational(answer.head).map_err(io_error)?;
            return Ok(answer.length);
        }
        if self.tunnel.is_some() && !answer.tunnel && answer.head.status().is_success() {
            // To the client 200 would mean that there is a tunnel; the server has passed the wish over.
            *answer.head.status_mut() = http::StatusCode::BAD_GATEWAY;
        }
        let ended = !answer.tunnel && matches!(answer.body, BodyLength::None | BodyLength::Length(0));
        let stream = respond.send_response(answer.head, ended).map_err(io_error)?;
        self.answer = Answer::Body(match ended {
            true => Outward::ended(stream),
            false => Outward::new(stream, answer.body),
        });
        if let (true, Some(body)) = (answer.tunnel, self.tunnel.take()) {
            self.inward.follow(body, Coding::Plain);
            if let Some(waker) = self.waits.take() {
                waker.wake();
            }
        }
        Ok(answer.length)
    }

    /// Nothing more is written.
    pub(crate) fn shut(&mut self) -> io::Result<()> {
        match &mut self.answer {
            Answer::Body(answer) => answer.shut(),
            Answer::Head(respond, _) => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                Ok(())
            }
        }
    }
}

impl Drop for ClientStream {
    /// An answer that is not whole must not look as if it were.
    fn drop(&mut self) {
        match &mut self.answer {
            Answer::Body(answer) if answer.is_done() => {}
            Answer::Body(answer) => answer.reset(Reason::INTERNAL_ERROR),
            Answer::Head(respond, _) => respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}
