//! The bytes of a connection on their way to and from the h2 crate, with a meter on those that come in.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec::http2::meter::{Flood, Meter};
use crate::driver::io::Stream;
use crate::driver::worker::Worker;

/// A connection as the h2 crate reads and writes it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// What was read before it was known to be HTTP/2.
    ahead: Vec<u8>,
    meter: Meter,
    /// Told when the other side floods; nothing more is read then.
    flood: Rc<Cell<Option<Flood>>>,
    worker: Rc<Worker>,
}

impl Wire {
    pub(super) fn new(
        worker: &Rc<Worker>,
        stream: Stream,
        ahead: Vec<u8>,
        of_client: bool,
        flood: &Rc<Cell<Option<Flood>>>,
    ) -> Self {
        let meter = Meter::new(of_client, worker.now());
        Self { stream, ahead, meter, flood: Rc::clone(flood), worker: Rc::clone(worker) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.flood.get().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(this.stream.poll_read_buf(cx, buf))?;
        } else {
            let n = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..n]);
            this.ahead.drain(..n);
        }
        if let Err(flood) = this.meter.pass(&buf.filled()[before..], this.worker.now()) {
            this.flood.set(Some(flood));
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_shutdown(cx)
    }
}
