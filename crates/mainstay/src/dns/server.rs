//! The DNS server's sockets: UDP and TCP with a limit on everything. What is answered is the business of `authority`.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, error, warn};

use super::authority::{Authority, Way};

/// A query is never longer over UDP: names are at most 255 bytes long, and EDNS options few.
const QUERY_MAX: usize = 4096;
/// Connections at once; each holds a file descriptor.
const CONNECTIONS_MAX: usize = 256;
/// A connection may be silent for so long (RFC 7766, 6.2.3: seconds).
const IDLE: Duration = Duration::from_secs(10);
/// A query that has begun, or an answer, may take so long.
const EXCHANGE: Duration = Duration::from_secs(5);
/// A connection may last so long, however busy it is, so that nobody keeps the others out.
const LIFE: Duration = Duration::from_secs(60);
/// Pause after an error of a socket, so that one which lasts does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(50);
/// Response codes with a counter of their own; further ones share the last.
const CODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "OTHER",
];

/// Sockets that listen and are not read yet.
#[derive(Debug)]
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Listens on each address, over UDP and TCP on the same port; with the sockets that another process listened with, TCP
    /// first, where there are some.
    ///
    /// # Errors
    /// The address that could not be listened on.
    pub async fn bind(
        addresses: &[SocketAddr],
        mut inherited: impl FnMut(SocketAddr) -> Option<(OwnedFd, OwnedFd)>,
    ) -> Result<Self, (SocketAddr, std::io::Error)> {
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new() };
        for address in addresses {
            let given = inherited(*address);
            let both = async {
                if let Some((tcp, udp)) = given {
                    let (tcp, udp) = (std::net::TcpListener::from(tcp), std::net::UdpSocket::from(udp));
                    tcp.set_nonblocking(true)?;
                    udp.set_nonblocking(true)?;
                    return Ok((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?));
                }
                let tcp = TcpListener::bind(address).await?;
                // Port 0 has become a real one by now.
                let udp = UdpSocket::bind(tcp.local_addr()?).await?;
                std::io::Result::Ok((udp, tcp))
            };
            let (udp, tcp) = both.await.map_err(|error| (*address, error))?;
            sockets.udp.push(udp);
            sockets.tcp.push(tcp);
        }
        Ok(sockets)
    }

    /// Their descriptors, of TCP and of UDP.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, BorrowedFd<'_>)> {
        self.tcp.iter().zip(&self.udp).map(|(tcp, udp)| (tcp.as_fd(), udp.as_fd()))
    }

    /// Where they listen, with the ports that the kernel chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|tcp| tcp.local_addr().ok()).collect()
    }
}

/// Queries by what they were answered.
#[derive(Debug, Default)]
pub struct Counters {
    codes: [AtomicU64; CODES.len()],
    dropped: AtomicU64,
}

impl Counters {
    /// Each response code with its count, and what was dropped without an answer.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let codes = CODES.iter().zip(&self.codes).map(|(name, count)| (*name, count.load(Ordering::Relaxed)));
        codes.chain([("DROPPED", self.dropped.load(Ordering::Relaxed))]).collect()
    }

    fn count(&self, code: hickory_proto::op::ResponseCode) {
        let place = usize::from(u16::from(code)).min(CODES.len() - 1);
        self.codes[place].fetch_add(1, Ordering::Relaxed);
    }
}

/// What every socket needs.
#[derive(Debug)]
struct Shared {
    authority: watch::Receiver<Arc<Authority>>,
    counters: Arc<Counters>,
    turn: AtomicUsize,
}

impl Shared {
    fn answer(&self, query: &[u8], way: Way) -> Option<Vec<u8>> {
        let authority = self.authority.borrow().clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // A fault in reading somebody's bytes must not end the server for everybody.
        let answer = catch_unwind(AssertUnwindSafe(|| authority.answer(query, way, turn)));
        let answer = answer.unwrap_or_else(|_| {
            error!(query = ?query.get(..64.min(query.len())), "a DNS query could not be read; please report it");
            None
        });
        match answer {
            Some(answer) => {
                self.counters.count(answer.code);
                Some(answer.bytes)
            }
            None => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

/// Answers on these sockets, in tasks of their own, until the other end of `authority` is gone.
pub fn serve(sockets: Sockets, authority: watch::Receiver<Arc<Authority>>, counters: Arc<Counters>) {
    let shared = Arc::new(Shared { authority, counters, turn: AtomicUsize::new(fastrand::usize(..)) });
    for socket in sockets.udp {
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut over = shared.authority.clone();
            tokio::select! {
                () = serve_udp(&socket, &shared) => {}
                () = gone(&mut over) => {}
            }
        });
    }
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for listener in sockets.tcp {
        let (shared, slots) = (shared.clone(), slots.clone());
        tokio::spawn(async move {
            let mut over = shared.authority.clone();
            tokio::select! {
                () = serve_tcp(&listener, &shared, &slots) => {}
                () = gone(&mut over) => {}
            }
        });
    }
}

async fn gone(authority: &mut watch::Receiver<Arc<Authority>>) {
    while authority.changed().await.is_ok() {}
}

async fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "receiving a DNS query failed");
                sleep(PAUSE).await;
                continue;
            }
        };
        // Port 0 can only be forged.
        if from.port() == 0 {
            continue;
        }
        if let Some(answer) = shared.answer(&buffer[..length], Way::Udp) {
            // What does not fit into the kernel's buffer at once is lost, as datagrams are; the asker asks again.
            let _ = timeout(PAUSE, socket.send_to(&answer, from)).await;
        }
    }
}

async fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>, slots: &Arc<Semaphore>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a DNS connection could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            debug!("too many DNS connections at once; this one is closed");
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let life = Instant::now() + LIFE;
            let _ = timeout_at(life, converse(stream, &shared)).await;
            drop(slot);
        });
    }
}

/// One connection: query after query, until it is silent for too long or breaks a rule.
async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let _ = stream.set_nodelay(true);
    loop {
        let Ok(length) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let mut query = vec![0; usize::from(length?)];
        timeout(EXCHANGE, stream.read_exact(&mut query)).await??;
        let Some(answer) = shared.answer(&query, Way::Tcp) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut framed = Vec::with_capacity(answer.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        timeout(EXCHANGE, stream.write_all(&framed)).await??;
    }
}
