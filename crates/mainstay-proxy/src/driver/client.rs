//! The client's side of a connection: its socket, what was read from it too early, what is still to be written to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use mainstay_model::carriage::Carriage;

use super::buffer::{Buffer, READ_MAX};
use super::io::Stream;
use super::listener::Entrance;
use super::log::{Lines, Record, Texts};
use super::worker::Worker;
use crate::codec::write_proxy_header;

/// What a client may send ahead while it waits for an answer.
const AHEAD_MAX: usize = 16 * 1024;

/// Who a visitor is of whom nothing is known, as lists of addresses have it (RFC 7239, 6.2).
pub(crate) const UNKNOWN: &str = "unknown";

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// `None`: it came by a Unix socket, and nobody says who it is.
    pub(crate) address: Option<SocketAddr>,
    /// What it reached, where a proxy in front says so.
    pub(crate) reached: Option<SocketAddr>,
}

impl Peer {
    /// Its IP address.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// By which it came.
    pub(crate) entrance: Rc<Entrance>,
    /// Read and not yet used: a head in the making, a body's start, the next requests.
    pub(crate) inbox: Buffer,
    /// To be written.
    pub(crate) outbox: Buffer,
    /// Its address for X-Forwarded-For.
    pub(crate) address: Box<str>,
    /// Its address for Forwarded if it is written in another way there.
    pub(crate) node: Option<Box<str>>,
    /// The other end of the connection; `None`: a Unix socket's, of which nothing is known.
    pub(crate) peer: Option<IpAddr>,
    port: u16,
    /// What it reached, where a proxy in front says so.
    reached: Option<SocketAddr>,
    /// Bytes that came.
    pub(crate) read: u64,
    /// Bytes that its socket has taken.
    pub(crate) written: u64,
    /// Requests that its connection may still carry.
    requests_left: u32,
    /// What the access log is to say of the request under way; `None`: nothing.
    record: Option<Record>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end_record();
    }
}

impl Client {
    pub(crate) fn new(stream: Stream, entrance: Rc<Entrance>, peer: Peer, requests_max: u32) -> Self {
        let ip = peer.ip().map(|ip| ip.to_canonical());
        let node = match ip {
            Some(IpAddr::V4(_)) | None => None,
            Some(IpAddr::V6(ip)) => Some(format!("\"[{ip}]\"").into()),
        };
        let address = ip.map_or_else(|| UNKNOWN.into(), text_of);
        Self {
            stream,
            entrance,
            inbox: Buffer::default(),
            outbox: Buffer::default(),
            address,
            node,
            peer: ip,
            port: peer.address.map_or(0, |address| address.port()),
            reached: peer.reached,
            read: 0,
            written: 0,
            requests_left: requests_max,
            record: None,
        }
    }

    /// Begins what the access log is to say of a request that began at `started`; its head is still in the inbox.
    pub(crate) fn begin_record(
        &self,
        lines: &Rc<Lines>,
        started: Instant,
        protocol: &'static str,
        texts: &Texts<'_>,
    ) -> Record {
        lines.begin(started, protocol, texts, (self.taken(), self.written))
    }

    /// What servers that want to know are told of a connection for this visitor; empty: nothing.
    pub(crate) fn greeting(&self, carriage: &Carriage, visitor: Option<IpAddr>) -> Vec<u8> {
        let mut greeting = Vec::new();
        if let Some(version) = carriage.send_proxy {
            let port = if visitor == self.peer { self.port } else { 0 };
            let nowhere = |visitor| match visitor {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let addresses = visitor.map(|visitor| {
                let reached = self.reached.or_else(|| self.stream.local_socket_address());
                let reached = reached.unwrap_or_else(|| SocketAddr::new(nowhere(visitor), 0));
                (SocketAddr::new(visitor, port), reached)
            });
            write_proxy_header(version, addresses, &mut greeting);
        }
        greeting
    }

    pub(crate) fn set_record(&mut self, record: Option<Record>) {
        self.record = record;
    }

    /// Notes something for the access log, if there is one.
    pub(crate) fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            note(record);
        }
    }

    /// The request has ended, so its line is whole.
    pub(crate) fn end_record(&mut self) {
        if let Some(record) = self.record.take() {
            record.finish(&self.address, self.taken(), self.written);
        }
    }

    /// Bytes that were read, less those that wait for the next request.
    fn taken(&self) -> u64 {
        self.read - self.inbox.len() as u64
    }

    /// It has sent a request.
    pub(crate) fn count_request(&mut self) {
        self.requests_left = self.requests_left.saturating_sub(1);
    }

    /// No further request is to come by this connection: Mainstay drains, or gives its address up, or it has carried as many as it
    /// may.
    pub(crate) fn is_leaving(&self, worker: &Worker) -> bool {
        worker.draining.get() || self.entrance.is_closed() || self.requests_left == 0
    }

    /// And while it is idle it is closed.
    pub(crate) fn is_sent_away(&self, worker: &Worker) -> bool {
        worker.sends_idle_away() || self.entrance.is_closed()
    }

    /// Reads once into the inbox; 0 at the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = worker.scratch.borrow_mut();
        let limit = limit.min(READ_MAX);
        let n = ready!(self.stream.poll_read(cx, &mut scratch[..limit]))?;
        if n > 0 {
            self.read += n as u64;
            worker.buffers.extend(&mut self.inbox, &scratch[..n]);
        }
        Poll::Ready(Ok(n))
    }

    /// Reads what the client sends ahead while it waits; true when it has closed. One that closes only its half has gone
    /// too, as nginx, Envoy and Go take it.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, worker: &Worker) -> bool {
        while self.inbox.len() < AHEAD_MAX {
            match self.poll_fill(cx, worker, AHEAD_MAX) {
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        false
    }

    /// Writes the outbox. Ready when it is empty and the kernel has it all.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let n = ready!(self.stream.poll_write(cx, self.outbox.bytes()))?;
            self.outbox.consume(n);
            self.written += n as u64;
            worker.progress.set(true);
        }
        worker.buffers.recycle(&mut self.outbox);
        self.stream.poll_flush(cx)
    }

    /// Something is waiting for the client to read.
    pub(crate) fn is_behind(&self) -> bool {
        !self.outbox.is_empty() || self.stream.holds_back()
    }

    /// Writes bytes past the outbox, which gets what the socket does not take.
    pub(crate) fn write_through(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        mut bytes: &[u8],
    ) -> io::Result<()> {
        while self.outbox.is_empty() && !bytes.is_empty() {
            match self.stream.poll_write(cx, bytes) {
                Poll::Ready(n) => {
                    let n = n?;
                    bytes = &bytes[n..];
                    self.written += n as u64;
                    worker.progress.set(true);
                }
                Poll::Pending => break,
            }
        }
        if !bytes.is_empty() {
            worker.buffers.extend(&mut self.outbox, bytes);
        }
        Ok(())
    }
}

/// An address as text; that of version 4 without the machinery of formatting, because each connection has one.
fn text_of(ip: IpAddr) -> Box<str> {
    let IpAddr::V4(ip) = ip else { return ip.to_string().into() };
    let (mut text, mut length) = ([b'.'; 15], 0);
    for (nth, octet) in ip.octets().into_iter().enumerate() {
        length += usize::from(nth > 0);
        for (least, digit) in [(100, octet / 100), (10, octet / 10), (0, octet)] {
            if octet >= least {
                text[length] = b'0' + digit % 10;
                length += 1;
            }
        }
    }
    std::str::from_utf8(&text[..length]).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_reads_as_the_standard_library_writes_it(four: u32, six: u128) {
            for ip in [IpAddr::from(four.to_be_bytes()), IpAddr::from(six.to_be_bytes())] {
                prop_assert_eq!(&*text_of(ip), ip.to_string());
            }
        }
    }
}
