//! A body that the engine writes as HTTP/1, on its way into frames as the other side's windows allow.

use std::io;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};

use super::inward::io_error;
use crate::codec::http2::response::trailers;
use crate::codec::{BodyLength, ChunkedDecoder};

/// The most that waits in the h2 crate for the other side of one stream.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// What is still to come.
#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(ChunkedDecoder),
    /// A tunnel: until somebody ends it.
    Open,
    Done,
}

/// A body under way.
#[derive(Debug)]
pub(super) struct Outward {
    stream: SendStream<Bytes>,
    rest: Rest,
}

impl Outward {
    /// A body that follows its head, which did not end the stream.
    pub(super) fn new(stream: SendStream<Bytes>, body: BodyLength) -> Self {
        let rest = match body {
            BodyLength::Length(n) => Rest::Length(n),
            BodyLength::Chunked => Rest::Chunked(ChunkedDecoder::keeping_trailers()),
            BodyLength::None | BodyLength::UntilClose => Rest::Open,
        };
        Self { stream, rest }
    }

    /// A head that was all.
    pub(super) fn ended(stream: SendStream<Bytes>) -> Self {
        Self { stream, rest: Rest::Done }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Done)
    }

    /// It is a tunnel.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.rest, Rest::Open)
    }

    /// Ready when the other side has given the stream up.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }

    /// Takes as much as the other side's windows allow; how many bytes of HTTP/1 that was.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.rest {
            Rest::Done => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Rest::Chunked(_) => self.poll_write_chunks(cx, bytes),
            Rest::Length(_) | Rest::Open => {
                let room = std::task::ready!(self.poll_room(cx, bytes.len()))?;
                let mut n = bytes.len().min(room);
                let mut end = false;
                if let Rest::Length(rest) = &mut self.rest {
                    n = n.min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    *rest -= n as u64;
                    end = *rest == 0;
                }
                self.send(Bytes::copy_from_slice(&bytes[..n]), end)?;
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_write_chunks(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Rest::Chunked(decoder) = &mut self.rest else { return Poll::Ready(Ok(0)) };
        // What is between two chunks, and the end, need no window.
        let mut taken = decoder.skip_to_data(bytes).map_err(not_http)?;
        if taken < bytes.len() && !decoder.is_done() {
            let room = match self.poll_room(cx, bytes.len() - taken) {
                Poll::Ready(room) => room?,
                Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                Poll::Pending => return Poll::Pending,
            };
            let end = bytes.len().min(taken + room);
            let Rest::Chunked(decoder) = &mut self.rest else { return Poll::Ready(Ok(taken)) };
            let mut data = BytesMut::with_capacity(end - taken);
            while taken < end && !decoder.is_done() {
                let decoded = decoder.decode(&bytes[taken..end]).map_err(not_http)?;
                data.extend_from_slice(decoded.data);
                taken += decoded.consumed;
            }
            taken += decoder.skip_to_data(&bytes[taken..]).map_err(not_http)?;
            let ended = decoder.is_done() && decoder.trailers().is_empty();
            if !data.is_empty() || ended {
                self.send(data.freeze(), ended)?;
            }
        }
        self.end_chunks()?;
        Poll::Ready(Ok(taken))
    }

    /// Ends the stream behind the last chunk.
    fn end_chunks(&mut self) -> io::Result<()> {
        match &self.rest {
            Rest::Chunked(decoder) if decoder.is_done() => {
                let trailers = trailers(decoder.trailers());
                self.rest = Rest::Done;
                match trailers.is_empty() {
                    true => self.stream.send_data(Bytes::new(), true).map_err(io_error),
                    false => self.stream.send_trailers(trailers).map_err(io_error),
                }
            }
            _ => Ok(()),
        }
    }

    fn send(&mut self, data: Bytes, end: bool) -> io::Result<()> {
        if end {
            self.rest = Rest::Done;
        }
        self.stream.send_data(data, end).map_err(io_error)
    }

    /// How much may be sent now, at least 1.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(wanted.min(SEND_BUFFER));
        loop {
            match self.stream.capacity() {
                0 => {}
                room => return Poll::Ready(Ok(room)),
            }
            match std::task::ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Nothing more is written: the end of a tunnel, or of a message that was cut short.
    pub(super) fn shut(&mut self) -> io::Result<()> {
        match self.rest {
            Rest::Done => Ok(()),
            Rest::Open => self.send(Bytes::new(), true),
            Rest::Length(_) | Rest::Chunked(_) => {
                self.reset(Reason::INTERNAL_ERROR);
                Ok(())
            }
        }
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.rest = Rest::Done;
        self.stream.send_reset(reason);
    }
}

/// The engine itself writes what is decoded here.
fn not_http(error: crate::codec::ChunkError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
