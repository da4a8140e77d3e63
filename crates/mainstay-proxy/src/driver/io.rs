//! The seam between the engine and what carries its bytes: a connection to a client or a server, whatever it is made of.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection. Reading and writing never wait: what cannot be done now wakes the task when it can.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP, as it is.
    Tcp(TcpStream),
}

impl Stream {
    /// Reads once; 0 at the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(into);
        match self {
            Stream::Tcp(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buf))?,
        }
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Writes once; never 0.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self {
            Stream::Tcp(stream) => ready!(Pin::new(stream).poll_write(cx, bytes))?,
        };
        match written {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n => Poll::Ready(Ok(n)),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Whether it is open and nothing has arrived, by its readiness alone, without a system call while nothing has happened: a
    /// byte or an end that nobody asked for means closed.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Stream::Tcp(stream) => {
                matches!(stream.try_read(&mut [0u8; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }

    /// The same by asking the kernel. Readiness lags behind it by one turn of the event loop; this does not.
    pub(crate) fn is_open_by_kernel(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        matches!(self.socket().peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Closing it from now on is seen as a reset by the other side: a clean end would make half an answer look whole.
    pub(crate) fn reset_on_close(&self) {
        // Failing means that there is nobody left to see it.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// Whether what is said on it is hidden from others on the way.
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            Stream::Tcp(_) => false,
        }
    }

    /// This side's own address, as a client may have written it; empty when there is none.
    pub(crate) fn local_address(&self) -> String {
        match self {
            Stream::Tcp(stream) => stream.local_addr().map(|address| address.to_string()).unwrap_or_default(),
        }
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream),
        }
    }
}
