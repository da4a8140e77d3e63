//! Connections to servers: made with a deadline, kept without a task, looked at before they are used again.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use mainstay_model::input::FailureKind;
use tokio::net::TcpStream;

use super::io::Stream;
use super::slots::Slot;
use super::view::Server;
use super::worker::Worker;

/// A connection that waits for its next request.
#[derive(Debug)]
pub(crate) struct Idle {
    stream: Stream,
    since: Instant,
}

/// A connection that carries a request.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    pub(crate) stream: Stream,
    pub(crate) address: SocketAddr,
    /// It has carried a request before, so the server may have closed it in the meantime.
    pub(crate) reused: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The server's fault, or its network's.
    Server(FailureKind),
    /// Mainstay itself has no descriptor, port or memory left: says nothing about the server.
    Own,
}

/// The newest idle connection that is still open. `careful`: ask the kernel itself, for a request that must not be sent in vain.
pub(crate) fn take_idle(server: &Server, careful: bool) -> Option<ServerConnection> {
    let mut idle = server.idle.borrow_mut();
    while let Some(Idle { mut stream, .. }) = idle.pop_back() {
        if stream.is_open() && (!careful || stream.is_open_by_kernel()) {
            return Some(ServerConnection { stream, address: server.address.get(), reused: true });
        }
    }
    None
}

/// Keeps a connection for the next request, unless the server moved or there are enough.
pub(crate) fn give_back(worker: &Worker, server: &Server, connection: ServerConnection) {
    let mut idle = server.idle.borrow_mut();
    if connection.address == server.address.get()
        && idle.len() < worker.settings.server_connections_idle
        && !worker.draining.get()
    {
        idle.push_back(Idle { stream: connection.stream, since: worker.now() });
    }
}

/// Closes what has been idle for longer than `limit`; the oldest are in front.
pub(crate) fn close_idle(server: &Server, limit: Duration, now: Instant) {
    let mut idle = server.idle.borrow_mut();
    while idle.front().is_some_and(|i| now.saturating_duration_since(i.since) >= limit) {
        idle.pop_front();
    }
}

/// Makes a new connection.
pub(crate) async fn connect(
    worker: &Worker,
    slot: &Rc<Slot>,
    server: &Server,
    deadline: Instant,
) -> Result<ServerConnection, ConnectError> {
    let address = server.address.get();
    worker.slots.arm(slot, deadline);
    let mut connecting = pin!(TcpStream::connect(address));
    let connected = std::future::poll_fn(|cx| {
        slot.watch(cx);
        match connecting.as_mut().poll(cx) {
            Poll::Pending if slot.fired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    })
    .await;
    match connected {
        Ok(stream) => {
            // Failing here means that the connection is gone, which the first write will say.
            let _ = stream.set_nodelay(true);
            Ok(ServerConnection { stream: Stream::Tcp(stream), address, reused: false })
        }
        Err(error) => Err(classify(&error)),
    }
}

fn classify(error: &io::Error) -> ConnectError {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            ConnectError::Server(FailureKind::Refused)
        }
        ErrorKind::TimedOut => ConnectError::Server(FailureKind::ConnectTimeout),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            ConnectError::Server(FailureKind::Unreachable)
        }
        ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse | ErrorKind::OutOfMemory => ConnectError::Own,
        // Too many open files, of the process or the system (EMFILE, ENFILE), or no buffers (ENOBUFS).
        _ if matches!(error.raw_os_error(), Some(24 | 23 | 105)) => ConnectError::Own,
        _ => ConnectError::Server(FailureKind::Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_shortage_is_never_held_against_a_server() {
        for (code, expected) in [
            (24, ConnectError::Own),
            (23, ConnectError::Own),
            (99, ConnectError::Own),
            (12, ConnectError::Own),
            (111, ConnectError::Server(FailureKind::Refused)),
            (110, ConnectError::Server(FailureKind::ConnectTimeout)),
            (113, ConnectError::Server(FailureKind::Unreachable)),
            (101, ConnectError::Server(FailureKind::Unreachable)),
        ] {
            assert_eq!(classify(&io::Error::from_raw_os_error(code)), expected, "{code}");
        }
    }
}
