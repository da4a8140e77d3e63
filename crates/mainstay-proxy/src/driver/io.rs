//! The seam between the engine and what carries its bytes: a connection to a client or a server, whatever it is made of.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::http2::server_stream::{Fate, ServerStream};
use super::http2::stream::ClientStream;

/// What a connection is made on.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Looks at what has come without taking it.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => stream.poll_peek(cx, buf),
            Socket::Unix(stream) => {
                // The standard library looks ahead for TCP alone, in a way that is every socket's.
                let same = std::net::TcpStream::from(SockRef::from(stream).try_clone()?);
                loop {
                    ready!(stream.poll_read_ready(cx))?;
                    let look = || same.peek(buf.initialize_unfilled());
                    match stream.try_io(Interest::READABLE, look) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Poll::Ready(Err(error)),
                        Ok(n) => {
                            buf.advance(n);
                            return Poll::Ready(Ok(n));
                        }
                    }
                }
            }
        }
    }

    /// Takes what is there.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read(into),
            Socket::Unix(stream) => stream.try_read(into),
        }
    }

    /// Writes once, past tokio's idea of whether it can.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket().send(bytes)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Socket::Tcp(stream) => Some(stream),
            Socket::Unix(_) => None,
        }
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Unix(stream) => SockRef::from(stream),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Tcp(stream) => Stream::Tcp(stream),
            Socket::Unix(stream) => Stream::Unix(stream),
        }
    }
}

/// A connection. Reading and writing never wait: what cannot be done now wakes the task when it can.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP, as it is.
    Tcp(TcpStream),
    /// A Unix socket, as it is.
    Unix(UnixStream),
    /// TLS over a socket. Boxed, because its state is a kilobyte and most connections have none.
    Tls(Box<TlsStream<Socket>>),
    /// A stream of a client's connection in HTTP/2: a request as HTTP/1, and room for its answer.
    Http2(Box<ClientStream>),
    /// A stream of a connection in HTTP/2 to a server: room for a request as HTTP/1, and its answer.
    Http2Server(Box<ServerStream>),
    /// Somebody else has it now.
    HandedOver,
}

impl Stream {
    /// Reads once; 0 at the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Http2(stream) => return stream.poll_read(cx, into),
            Stream::Http2Server(stream) => return stream.poll_read(cx, into),
            _ => {}
        }
        let mut buf = ReadBuf::new(into);
        ready!(self.poll_read_buf(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads once; nothing more is filled at the end.
    pub(crate) fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Http2(stream) => {
                let n = ready!(stream.poll_read(cx, buf.initialize_unfilled()))?;
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Stream::Http2Server(stream) => {
                let n = ready!(stream.poll_read(cx, buf.initialize_unfilled()))?;
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Stream::HandedOver => Poll::Ready(Ok(())),
        }
    }

    /// Writes once; never 0. What was taken may still be on its way: [`Stream::poll_flush`] says when it is not.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self {
            Stream::Tcp(stream) => ready!(Pin::new(stream).poll_write(cx, bytes))?,
            Stream::Unix(stream) => ready!(Pin::new(stream).poll_write(cx, bytes))?,
            Stream::Tls(stream) => ready!(Pin::new(stream).poll_write(cx, bytes))?,
            Stream::Http2(stream) => ready!(stream.poll_write(cx, bytes))?,
            Stream::Http2Server(stream) => ready!(stream.poll_write(cx, bytes))?,
            Stream::HandedOver => 0,
        };
        match written {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n => Poll::Ready(Ok(n)),
        }
    }

    /// Ready when the kernel has all that was written. Plain sockets keep nothing back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tls(stream) if stream.get_ref().1.wants_write() => Pin::new(stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Something that was written has not gone to the kernel yet, because the other side reads too slowly.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            // What a stream of HTTP/2 has taken is within the other side's own window.
            Stream::Tcp(_)
            | Stream::Unix(_)
            | Stream::Http2(_)
            | Stream::Http2Server(_)
            | Stream::HandedOver => false,
            Stream::Tls(stream) => stream.get_ref().1.wants_write(),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Http2(stream) => Poll::Ready(stream.shut()),
            Stream::Http2Server(stream) => Poll::Ready(stream.shut()),
            Stream::HandedOver => Poll::Ready(Ok(())),
        }
    }

    /// Says that the end is meant, where closing alone would not: who reads TLS takes a bare end for an attack. It waits for
    /// nothing.
    pub(crate) fn say_goodbye(&mut self) {
        if let Stream::Tls(stream) = self {
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Whether it is open and nothing has arrived, by its readiness alone, without a system call while nothing has happened: a
    /// byte or an end that nobody asked for means closed.
    pub(crate) fn is_open(&mut self) -> bool {
        match self {
            Stream::Tcp(stream) => is_silent(&stream.try_read(&mut [0u8; 1])),
            Stream::Unix(stream) => is_silent(&stream.try_read(&mut [0u8; 1])),
            // Session tickets come unasked for and mean nothing; reading takes them.
            Stream::Tls(stream) => {
                let mut byte = [0u8; 1];
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
            }
            Stream::Http2(_) | Stream::Http2Server(_) | Stream::HandedOver => false,
        }
    }

    /// The same by asking the kernel. Readiness lags behind it by one turn of the event loop; this does not.
    pub(crate) fn is_open_by_kernel(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        self.socket().is_some_and(|socket| is_silent(&socket.peek(&mut byte)))
    }

    /// Closing it from now on is seen as a reset by the other side: a clean end would make half an answer look whole. Unix
    /// sockets know no reset; there the framing of HTTP has to say it.
    pub(crate) fn reset_on_close(&self) {
        // Failing means that there is nobody left to see it.
        if let Some(socket) = self.socket() {
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// Whether what is said on it is hidden from others on the way.
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Http2Server(_) | Stream::HandedOver => false,
            Stream::Tls(_) => true,
            Stream::Http2(stream) => stream.is_secure(),
        }
    }

    /// Both sides have agreed on HTTP/2 while they shook hands.
    pub(crate) fn has_agreed_on_http2(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// It is a stream of a connection in HTTP/2, which carries trailers.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Stream::Http2(_))
    }

    /// This side's own address, if it has one.
    pub(crate) fn local_socket_address(&self) -> Option<SocketAddr> {
        self.tcp().and_then(|stream| stream.local_addr().ok())
    }

    /// Of a stream to a server that brought no answer: why. `None`: it is no such stream.
    pub(crate) fn fate(&self) -> Option<Fate> {
        match self {
            Stream::Http2Server(stream) => Some(stream.fate()),
            _ => None,
        }
    }

    /// This side's own address, as a client may have written it; empty when there is none.
    pub(crate) fn local_address(&self) -> String {
        match self.local_socket_address() {
            Some(address) => address.to_string(),
            // Of a Unix socket it can only be this machine.
            None if self.socket().is_some() => "localhost".to_owned(),
            None => String::new(),
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => stream.get_ref().0.tcp(),
            Stream::Unix(_) | Stream::Http2(_) | Stream::Http2Server(_) | Stream::HandedOver => None,
        }
    }

    fn socket(&self) -> Option<SockRef<'_>> {
        match self {
            Stream::Tcp(stream) => Some(SockRef::from(stream)),
            Stream::Unix(stream) => Some(SockRef::from(stream)),
            Stream::Tls(stream) => Some(stream.get_ref().0.socket()),
            Stream::Http2(_) | Stream::Http2Server(_) | Stream::HandedOver => None,
        }
    }
}

/// Nothing came, and no end.
fn is_silent<T>(read: &io::Result<T>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
