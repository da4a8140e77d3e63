//! A stream to a server, as the engine sees it: a connection of HTTP/1 that takes one request and brings its answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::Response;

use super::inward::{Coding, Inward};
use super::link::Place;
use super::outward::Outward;
use crate::codec::BodyLength;
use crate::codec::http2::request::read_http1;
use crate::codec::http2::response::{Follows, write_http1};

/// What is known of a request that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The connection ended, or the stream did.
    Gone,
    /// The server has said, or could not but know, that it has not looked at the request.
    NotTaken,
    /// It has said so as one who has had enough of the connection, and of nothing else.
    GoneAway,
    /// The server turned the request down before it looked at it.
    Declined,
    /// What the server sent is no HTTP/2.
    Malformed,
    /// The request is one that HTTP/2 cannot carry.
    NotCarried,
}

/// One stream to a server.
#[derive(Debug)]
pub(crate) struct ServerStream {
    request: Request,
    answer: Answer,
    to_head: bool,
    secure: bool,
    fate: Fate,
    place: Place,
}

#[derive(Debug)]
enum Request {
    /// Its head is not whole; what is here of it.
    Head(Option<SendRequest<Bytes>>, Vec<u8>),
    Body(Outward),
}

#[derive(Debug)]
enum Answer {
    /// The request was not sent.
    None,
    Head(ResponseFuture, Inward),
    Body(Inward),
    /// None comes.
    Failed,
}

impl ServerStream {
    pub(super) fn new(sender: SendRequest<Bytes>, place: Place, secure: bool) -> Self {
        let request = Request::Head(Some(sender), Vec::new());
        Self { request, answer: Answer::None, to_head: false, secure, fate: Fate::Gone, place }
    }

    /// Why no answer came.
    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    /// Takes the request, piece by piece.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.request {
            Request::Body(body) => body.poll_write(cx, bytes),
            Request::Head(_, begun) => {
                let had = begun.len();
                let mut all = std::mem::take(begun);
                all.extend_from_slice(bytes);
                Poll::Ready(self.take_head(all).map(|taken| taken.saturating_sub(had)))
            }
        }
    }

    /// Takes a head at the start of `bytes`; how many bytes that was. What is not whole is kept.
    fn take_head(&mut self, bytes: Vec<u8>) -> io::Result<usize> {
        let Request::Head(sender, begun) = &mut self.request else { return Ok(0) };
        let request = match read_http1(&bytes, self.secure) {
            Ok(Some(request)) => request,
            Ok(None) => {
                let taken = bytes.len();
                *begun = bytes;
                return Ok(taken);
            }
            Err(error) => {
                (self.answer, self.fate) = (Answer::Failed, Fate::NotCarried);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
            }
        };
        self.to_head = request.to_head;
        let ended = matches!(request.body, BodyLength::None | BodyLength::Length(0));
        let sent = sender.take().map(|mut sender| sender.send_request(request.head, ended));
        let Some(Ok((answer, stream))) = sent else {
            // The connection has ended since it was found, so nothing was sent.
            (self.answer, self.fate) = (Answer::Failed, Fate::NotTaken);
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        self.answer = Answer::Head(answer, Inward::default());
        self.request = Request::Body(match ended {
            true => Outward::ended(stream),
            false => Outward::new(stream, request.body),
        });
        Ok(request.length)
    }

    /// Reads on; 0 when the answer is whole, or when there will be none.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.answer {
                // The task that reads is the one that writes, so it comes again.
                Answer::None => return Poll::Pending,
                Answer::Failed => return Poll::Ready(Ok(0)),
                Answer::Body(body) => return body.poll_read(cx, into),
                Answer::Head(head, interim) => {
                    let n = match interim.poll_read(cx, into)? {
                        Poll::Ready(n) => n,
                        Poll::Pending => 0,
                    };
                    if n > 0 {
                        return Poll::Ready(Ok(n));
                    }
                    match ready!(poll_head(head, cx)) {
                        Ok(Came::Interim(head)) => {
                            write_http1(&head.into_parts().0, Follows::Nothing, interim.text());
                        }
                        Ok(Came::Final(answer)) => {
                            self.place.prove();
                            self.answer = begin_answer(answer, self.to_head);
                        }
                        Err(error) => {
                            tracing::debug!(%error, "no answer over HTTP/2");
                            (self.answer, self.fate) = (Answer::Failed, fate(&error));
                        }
                    }
                }
            }
        }
    }

    /// Nothing more is written. What is not whole is reset when this is dropped.
    pub(crate) fn shut(&mut self) -> io::Result<()> {
        match &mut self.request {
            Request::Body(body) => body.shut(),
            Request::Head(..) => Ok(()),
        }
    }
}

impl Drop for ServerStream {
    /// A request that is not whole must not look as if it were.
    fn drop(&mut self) {
        if let Request::Body(body) = &mut self.request
            && !body.is_done()
        {
            body.reset(Reason::CANCEL);
        }
    }
}

/// A head of an answer.
enum Came {
    Interim(Response<()>),
    Final(Response<h2::RecvStream>),
}

fn poll_head(head: &mut ResponseFuture, cx: &mut Context<'_>) -> Poll<Result<Came, h2::Error>> {
    match head.poll_informational(cx) {
        Poll::Ready(Some(interim)) => return Poll::Ready(interim.map(Came::Interim)),
        Poll::Ready(None) | Poll::Pending => {}
    }
    Pin::new(head).poll(cx).map_ok(Came::Final)
}

fn begin_answer(answer: Response<h2::RecvStream>, to_head: bool) -> Answer {
    let (parts, body) = answer.into_parts();
    let status = parts.status.as_u16();
    let follows = match to_head || matches!(status, 204 | 304) {
        true => Follows::Nothing,
        false if body.is_end_stream() => Follows::NothingMore,
        false => Follows::Body,
    };
    let mut inward = Inward::default();
    let chunked = write_http1(&parts, follows, inward.text());
    match follows {
        Follows::Nothing | Follows::NothingMore => {}
        Follows::Body if chunked => inward.follow(body, Coding::Chunked),
        Follows::Body => inward.follow(body, Coding::Plain),
    }
    Answer::Body(inward)
}

/// What an error says of a request that got no answer.
fn fate(error: &h2::Error) -> Fate {
    let refusals = [Reason::REFUSED_STREAM, Reason::HTTP_1_1_REQUIRED];
    match error {
        // The h2 crate says so only of streams above the last one that GOAWAY names.
        _ if error.is_go_away() && error.is_remote() => match error.reason() {
            Some(Reason::NO_ERROR) => Fate::GoneAway,
            _ => Fate::NotTaken,
        },
        _ if error.is_reset() && error.is_remote() => match error.reason() {
            Some(reason) if refusals.contains(&reason) => Fate::Declined,
            _ => Fate::Gone,
        },
        _ if error.is_io() || error.is_remote() => Fate::Gone,
        _ => Fate::Malformed,
    }
}
