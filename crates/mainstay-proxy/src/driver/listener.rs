//! Listening: a socket per worker and address, and the loop that accepts.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::{self, Registered};
use super::io::Stream;
use super::tls;
use super::worker::Worker;
use crate::Serves;
use crate::page::TOO_MANY_CONNECTIONS;

/// Connections that may wait to be accepted; the kernel's own limit (net.core.somaxconn, usually 4096) applies too.
const BACKLOG: i32 = 4096;
/// First wait after accepting failed, as when there are no file descriptors left; it doubles up to a second.
const BACK_OFF: Duration = Duration::from_millis(10);

/// One listening socket for each worker, all on one address, and the address with the port that the kernel chose.
pub(crate) fn listen(
    address: SocketAddr,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // SO_REUSEPORT would let two programs of one user share a port without a word; a socket without it finds out.
    if address.port() != 0 {
        let probe = socket(address)?;
        probe.bind(&address.into())?;
    }
    let mut listeners: Vec<std::net::TcpListener> = Vec::with_capacity(workers);
    let mut bound = address;
    for _ in 0..workers.max(1) {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = std::net::TcpListener::from(socket);
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok((bound, listeners))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != std::net::Ipv6Addr::UNSPECIFIED)?;
    }
    Ok(socket)
}

/// Accepts until the worker drains, and then what is already waiting to be accepted.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    serves: Serves,
    listener: TcpListener,
    mut drain: watch::Receiver<Option<Instant>>,
) {
    let mut back_off = BACK_OFF;
    loop {
        tokio::select! {
            biased;
            _ = drain.wait_for(Option::is_some) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    back_off = BACK_OFF;
                    take(&worker, &serves, stream, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, wait = ?back_off, "cannot accept connections");
                    worker.make_room();
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(Duration::from_secs(1));
                }
            },
        }
    }
    // A connection that the kernel has accepted for us would be reset if the socket were closed now.
    poll_fn(|cx| {
        while let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(cx) {
            take(&worker, &serves, stream, peer);
        }
        Poll::Ready(())
    })
    .await;
}

fn take(worker: &Rc<Worker>, serves: &Serves, stream: TcpStream, peer: SocketAddr) {
    if worker.connections() >= worker.settings.connections_max_per_worker() {
        worker.refused("too-many-connections");
        if *serves == Serves::Http {
            // The socket is new, so its buffer has room; if not, closing says enough.
            let _ = SockRef::from(&stream).send(TOO_MANY_CONNECTIONS);
        }
        return;
    }
    // Failing here means that the client has gone, which the first read will say.
    let _ = stream.set_nodelay(true);
    let registered = Registered::new(Rc::clone(worker));
    match serves {
        Serves::Http => {
            tokio::task::spawn_local(connection::serve(registered, Stream::Tcp(stream), peer));
        }
        Serves::Https => {
            tokio::task::spawn_local(tls::serve(registered, stream, peer));
        }
    }
}

/// The client went away before it was accepted: nothing to wait for.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_program_listens_on_is_not_shared_with_it() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, listeners) = listen(any, 2).expect("a free port");
        assert_eq!(listeners.len(), 2);
        assert_eq!(listen(address, 1).map_err(|e| e.kind()).err(), Some(io::ErrorKind::AddrInUse));
        drop(listeners);
        assert!(listen(address, 1).is_ok());
    }
}
