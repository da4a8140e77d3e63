//! Connections to servers: made with a deadline, kept without a task, looked at before they are used again.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use mainstay_model::Endpoint;
use mainstay_model::drill::Injection;
use mainstay_model::input::FailureKind;
use mainstay_model::policy::Protocol;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_rustls::rustls::{self, CertificateError};

use super::http2::link;
use super::io::{Socket, Stream};
use super::slots::{Nudge, Slot};
use super::unix::connect_unix;
use super::view::{Server, Speech};
use super::worker::Worker;
use crate::policy::server::Waiting;
use crate::policy::story::Cause;
use crate::policy::tls::TlsFlaw;

/// A connection that waits for its next request.
#[derive(Debug)]
pub(crate) struct Idle {
    stream: Stream,
    since: Instant,
    doubtful: bool,
    _waiting: Waiting,
}

/// A connection that carries a request.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    pub(crate) stream: Stream,
    /// How often its server had moved when it was made.
    pub(crate) moves: u32,
    /// It has carried a request before, so the server may have closed it in the meantime.
    pub(crate) reused: bool,
    /// Its last answer had no body by HTTP's rules, which some servers send all the same, a moment later.
    pub(crate) doubtful: bool,
    /// It began with saying who it is from, so it is nobody else's.
    pub(crate) of_visitor: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The server's fault, or its network's.
    Server(Cause),
    /// Mainstay itself has no descriptor, port or memory left: says nothing about the server.
    Own,
    /// The server hangs, and there is another one.
    Left,
}

/// The newest idle connection that is still open. `once`: for a request that must not be sent in vain, so that the kernel itself is
/// asked, and an old connection is left to others.
pub(crate) fn take_idle(worker: &Worker, server: &Server, once: bool) -> Option<ServerConnection> {
    let (now, most) = (worker.now(), worker.settings.server_idle);
    let limit = if once { server.keep.limit_for_once(most, now) } else { server.keep.limit(most, now) };
    if server.injection.get().is_some_and(Injection::is_of_connections) {
        return None;
    }
    let mut idle = server.idle.borrow_mut();
    while idle.back().is_some_and(|idle| idle.age(now) < limit) {
        let Some(Idle { mut stream, doubtful, .. }) = idle.pop_back() else { break };
        if stream.is_open() && (!(once || doubtful) || stream.is_open_by_kernel()) {
            return Some(ServerConnection {
                stream,
                moves: server.moves.get(),
                reused: true,
                doubtful: false,
                of_visitor: false,
            });
        }
    }
    None
}

/// Keeps a connection for the next request, unless the server moved or there are enough. The request that it carried still counts.
pub(crate) fn give_back(worker: &Worker, server: &Server, connection: ServerConnection) {
    // A stream has carried its request; its connection stays where it is.
    if connection.stream.fate().is_some() {
        return;
    }
    let mut idle = server.idle.borrow_mut();
    if connection.moves == server.moves.get()
        && idle.len() < worker.settings.server_connections_idle
        && !worker.draining.get()
        && !connection.of_visitor
        && !server.state.is_crowded()
    {
        let ServerConnection { stream, doubtful, .. } = connection;
        idle.push_back(Idle { stream, since: worker.now(), doubtful, _waiting: server.state.begin_wait() });
    }
}

/// Closes what has been idle for longer than the server's patience, or `most`, and learns from what the server has closed itself.
pub(crate) fn close_idle(server: &Server, most: Duration, now: Instant) {
    let mut idle = server.idle.borrow_mut();
    if idle.is_empty() {
        return;
    }
    let (mut closed, mut oldest) = (0, Duration::ZERO);
    idle.retain_mut(|idle| {
        let open = idle.stream.is_open();
        if !open {
            closed += 1;
            oldest = oldest.max(idle.age(now));
        }
        open
    });
    // All of several at once is how a server ends; a timeout leaves the younger ones.
    if closed == 1 || closed > 0 && !idle.is_empty() {
        server.keep.closed(oldest, now);
    }
    let limit = server.keep.limit(most, now);
    // Where a connection holds a process of the server, those that wait make room for those of other workers.
    while idle.front().is_some_and(|idle| idle.age(now) >= limit || server.state.is_crowded()) {
        idle.pop_front();
    }
}

impl Idle {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// Makes a new connection, on which `greeting` is sent first, or takes a place on one that carries many requests, which has no
/// greeting. `may_leave` is asked when others find that the server hangs.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    server: &Server,
    deadline: Instant,
    greeting: &[u8],
    may_leave: impl Fn() -> bool,
) -> Result<ServerConnection, ConnectError> {
    match server.protocol.get() {
        Protocol::Http1 => connect_alone(worker, slot, server, deadline, greeting, may_leave).await,
        // Boxed, so that requests in HTTP/1 do not pay for its size.
        Protocol::Http2 => Box::pin(link::reach(worker, slot, server, deadline, may_leave)).await,
    }
}

/// Makes a new connection.
pub(super) async fn connect_alone(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    server: &Server,
    deadline: Instant,
    greeting: &[u8],
    may_leave: impl Fn() -> bool,
) -> Result<ServerConnection, ConnectError> {
    let moves = server.moves.get();
    worker.slots.arm(slot, deadline);
    let mut connecting = pin!(speak(server, greeting));
    let connected = std::future::poll_fn(|cx| {
        slot.watch(cx);
        match connecting.as_mut().poll(cx) {
            Poll::Pending if slot.fired() => Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
            Poll::Pending if slot.take_nudge() == Some(Nudge::Hang) && may_leave() => Poll::Ready(None),
            other => other.map(Some),
        }
    })
    .await;
    match connected {
        None => Err(ConnectError::Left),
        Some(Ok(stream)) => {
            let of_visitor = !greeting.is_empty();
            Ok(ServerConnection { stream, moves, reused: false, doubtful: false, of_visitor })
        }
        Some(Err(error)) => Err(classify(&error)),
    }
}

/// The socket is new, so its buffer has room for all of it at once.
async fn greet(stream: &mut (impl AsyncWrite + Unpin), greeting: &[u8]) -> io::Result<()> {
    match stream.write(greeting).await? {
        n if n == greeting.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Connects, and shakes hands with a server that speaks TLS.
async fn speak(server: &Server, greeting: &[u8]) -> io::Result<Stream> {
    match server.injection.get() {
        Some(Injection::Refuse) => return Err(io::ErrorKind::ConnectionRefused.into()),
        // Whoever waits for it has a deadline.
        Some(Injection::BlackHole) => std::future::pending().await,
        Some(Injection::Certificate) => {
            let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
            return Err(io::Error::other(expired));
        }
        Some(Injection::Reset | Injection::Slow { .. } | Injection::Errors { .. }) | None => {}
    }
    // A copy, because nothing may be borrowed while it is waited.
    let address = server.address.borrow().clone();
    let address = match address {
        Endpoint::Tcp(address) => address,
        // Boxed, so that the others do not pay for its size.
        Endpoint::Unix(path) => return Box::pin(speak_unix(server, &path, greeting)).await,
    };
    let mut stream = TcpStream::connect(address).await?;
    // Failing here means that the connection is gone, which the first write will say.
    let _ = stream.set_nodelay(true);
    if !greeting.is_empty() {
        greet(&mut stream, greeting).await?;
    }
    let speech = server.speech.borrow().clone();
    match speech {
        Speech::Plain => Ok(Stream::Tcp(stream)),
        Speech::Tls(None) => Err(io::Error::other(NotSetUp)),
        Speech::Tls(Some(tls)) => {
            // Boxed, so that connections in the clear do not pay for its size.
            let shaken = Box::pin(tls.connect(&server.state.id, address, Socket::Tcp(stream))).await?;
            Ok(Stream::Tls(Box::new(TlsStream::Client(shaken))))
        }
    }
}

/// The same by a Unix socket, where nobody speaks TLS.
async fn speak_unix(server: &Server, path: &str, greeting: &[u8]) -> io::Result<Stream> {
    if server.is_secure() {
        return Err(io::Error::other(NotSetUp));
    }
    let mut stream = connect_unix(path).await?;
    if !greeting.is_empty() {
        greet(&mut stream, greeting).await?;
    }
    Ok(Stream::Unix(stream))
}

/// TLS is wanted, and nobody has said how to speak it.
#[derive(Debug, thiserror::Error)]
#[error("TLS is not set up")]
struct NotSetUp;

fn classify(error: &io::Error) -> ConnectError {
    use io::ErrorKind;
    let server = |kind| ConnectError::Server(Cause::Fault(kind));
    if let Some(flaw) = TlsFlaw::of(error) {
        return ConnectError::Server(Cause::Tls(flaw));
    }
    if error.get_ref().is_some_and(|inner| inner.is::<NotSetUp>()) {
        return ConnectError::Server(Cause::Tls(TlsFlaw::NotSetUp));
    }
    match error.kind() {
        // Where there is no socket (Unix) nobody listens.
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::NotFound => server(FailureKind::Refused),
        // It accepts, and breaks the handshake off.
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => server(FailureKind::Reset),
        ErrorKind::TimedOut => server(FailureKind::ConnectTimeout),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            server(FailureKind::Unreachable)
        }
        ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse | ErrorKind::OutOfMemory => ConnectError::Own,
        // Too many open files, of the process or the system (EMFILE, ENFILE), or no buffers (ENOBUFS).
        _ if matches!(error.raw_os_error(), Some(24 | 23 | 105)) => ConnectError::Own,
        _ => server(FailureKind::Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_shortage_is_never_held_against_a_server() {
        let server = |kind| ConnectError::Server(Cause::Fault(kind));
        for (code, expected) in [
            (24, ConnectError::Own),
            (23, ConnectError::Own),
            (99, ConnectError::Own),
            (12, ConnectError::Own),
            (111, server(FailureKind::Refused)),
            (2, server(FailureKind::Refused)),
            (13, server(FailureKind::Unreachable)),
            (110, server(FailureKind::ConnectTimeout)),
            (113, server(FailureKind::Unreachable)),
            (101, server(FailureKind::Unreachable)),
        ] {
            assert_eq!(classify(&io::Error::from_raw_os_error(code)), expected, "{code}");
        }
    }
}
