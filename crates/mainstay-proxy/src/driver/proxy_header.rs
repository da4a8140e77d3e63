//! The PROXY header in front of a connection from a trusted proxy: read to its last byte and not a byte further, so that
//! whatever follows, TLS or anything else, finds the connection as its visitor sent it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::client::Peer;
use super::connection::Registered;
use super::io::Socket;
use super::listener::{self, Entrance};
use crate::codec::{ProxyHeader, parse_proxy_header};

/// What is looked at at once; most headers are shorter.
const LOOK: usize = 512;

/// Reads the header and serves the connection as its visitor's.
pub(crate) async fn serve(
    registered: Registered,
    entrance: Rc<Entrance>,
    stream: Socket,
    peer: Option<SocketAddr>,
) {
    // Boxed, so that the task is small once the header is read.
    match Box::pin(read(&registered, &stream)).await {
        Ok(header) => {
            let said = header.addresses;
            let unsaid = Peer { address: peer, reached: None };
            let peer = said.map_or(unsaid, |(from, to)| Peer { address: Some(from), reached: Some(to) });
            listener::serve(registered, entrance, stream, peer).await;
        }
        // A proxy that only looks whether somebody listens.
        Err(Bad::Silent) => {}
        Err(Bad::Refused(reason)) => {
            registered.worker.refused(reason);
            if let Some(lines) = registered.worker.lines() {
                lines.refused_connection(peer.map(|peer| peer.ip().to_canonical()), 0, reason, 0);
            }
        }
    }
}

enum Bad {
    /// Closed without a byte.
    Silent,
    Refused(&'static str),
}

async fn read(registered: &Registered, stream: &Socket) -> Result<ProxyHeader, Bad> {
    let Registered { worker, slot, .. } = registered;
    worker.slots.arm(slot, worker.now() + worker.settings.head_timeout);
    let mut header = Vec::new();
    poll_fn(|cx| {
        slot.watch(cx);
        match poll_header(cx, stream, &mut header) {
            Poll::Pending if slot.fired() => Poll::Ready(Err(Bad::Refused("proxy-header-timeout"))),
            other => other,
        }
    })
    .await
}

/// What is there is looked at first, and only what belongs to the header is taken.
fn poll_header(
    cx: &mut Context<'_>,
    stream: &Socket,
    header: &mut Vec<u8>,
) -> Poll<Result<ProxyHeader, Bad>> {
    let gone = |header: &[u8]| {
        if header.is_empty() { Bad::Silent } else { Bad::Refused("proxy-header-cut-short") }
    };
    loop {
        let mut seen = [0; LOOK];
        let mut buf = ReadBuf::new(&mut seen);
        let n = match ready!(stream.poll_peek(cx, &mut buf)) {
            Ok(0) | Err(_) => return Poll::Ready(Err(gone(header))),
            Ok(n) => n,
        };
        let before = header.len();
        header.extend_from_slice(&seen[..n]);
        let parsed = parse_proxy_header(header).map_err(|bad| Bad::Refused(bad.as_str()));
        let whole = match parsed {
            Ok(whole) => whole,
            Err(bad) => return Poll::Ready(Err(bad)),
        };
        let own = whole.map_or(header.len(), |whole| whole.length) - before;
        if take(stream, &mut seen[..own]).is_err() {
            return Poll::Ready(Err(gone(header)));
        }
        if let Some(whole) = whole {
            return Poll::Ready(Ok(whole));
        }
    }
}

/// Takes bytes that were seen, so they are there.
fn take(stream: &Socket, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match stream.try_read(into)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => into = &mut into[n..],
        }
    }
    Ok(())
}
