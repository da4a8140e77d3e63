//! A body that comes in frames, as the engine reads it: bytes of HTTP/1 behind their head.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::RecvStream;

use crate::codec::http2::response::write_trailers;

/// How a body goes on behind its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is: its length is in the head, or it is a tunnel.
    Plain,
    /// In chunks, with trailers behind the last.
    Chunked,
}

/// What the engine is still to read.
#[derive(Debug, Default)]
pub(super) struct Inward {
    /// Text of HTTP/1: a head, a chunk's size, trailers.
    text: Vec<u8>,
    at: usize,
    /// Data behind the text.
    data: Bytes,
    /// What ends the data.
    tail: &'static [u8],
    body: Option<(RecvStream, Coding)>,
}

impl Inward {
    /// Text that is read before anything else that is to come.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// A body follows.
    pub(super) fn follow(&mut self, body: RecvStream, coding: Coding) {
        self.body = Some((body, coding));
    }

    /// Reads once; 0 when all is read.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut n = 0;
        loop {
            n += self.take(&mut into[n..]);
            if n == into.len() {
                return Poll::Ready(Ok(n));
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Err(error)) if n == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if n == 0 => return Poll::Pending,
                _ => return Poll::Ready(Ok(n)),
            }
        }
    }

    /// Moves what is here.
    fn take(&mut self, into: &mut [u8]) -> usize {
        let mut n = (self.text.len() - self.at).min(into.len());
        into[..n].copy_from_slice(&self.text[self.at..self.at + n]);
        self.at += n;
        if self.at < self.text.len() {
            return n;
        }
        (self.text, self.at) = (Vec::new(), 0);
        let data = self.data.len().min(into.len() - n);
        if data > 0 {
            into[n..n + data].copy_from_slice(&self.data[..data]);
            self.data.advance(data);
            n += data;
            if let Some((body, _)) = &mut self.body {
                // The sender may send as much again, now that the engine has it. Failing means that the stream is gone.
                let _ = body.flow_control().release_capacity(data);
            }
        }
        if self.data.is_empty() {
            let tail = self.tail.len().min(into.len() - n);
            into[n..n + tail].copy_from_slice(&self.tail[..tail]);
            self.tail = &self.tail[tail..];
            n += tail;
        }
        n
    }

    /// Gets the next piece of the body; false at its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some((body, coding)) = &mut self.body else { return Poll::Ready(Ok(false)) };
        match ready!(body.poll_data(cx)) {
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                if *coding == Coding::Chunked {
                    self.text.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                    self.tail = b"\r\n";
                }
                self.data = data;
            }
            Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            None => {
                let trailers = ready!(body.poll_trailers(cx)).map_err(io_error)?;
                if *coding == Coding::Chunked {
                    self.text.extend_from_slice(b"0\r\n");
                    if let Some(trailers) = &trailers {
                        write_trailers(trailers, &mut self.text);
                    }
                    self.text.extend_from_slice(b"\r\n");
                }
                self.body = None;
            }
        }
        Poll::Ready(Ok(true))
    }
}

/// What the engine makes of an error of a stream: the other side is gone.
pub(super) fn io_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    } else {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}
