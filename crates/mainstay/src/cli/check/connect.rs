//! TCP: a connection to every address of the host at the same time, over IPv4 and IPv6, each with its own outcome. The first that
//! stands is used, IPv6 with a little advantage, as browsers do it; all the others are closed again at once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::observed::{Outcome, Tcp, Try};

/// As many addresses are tried; some hosts have hundreds.
const ADDRESSES_MAX: usize = 32;

/// IPv6 is used when it stands at most so much later than IPv4 (RFC 8305 names 250 ms).
const V6_ADVANTAGE: Duration = Duration::from_millis(250);

/// Once a connection stands, the others get four times as long as it took, and at least this: a lost first packet is sent again
/// after one second.
const GRACE: Duration = Duration::from_millis(2_500);

/// What is connected to.
pub(super) struct Wanted {
    /// Where this machine would go.
    pub own: Vec<IpAddr>,
    /// Where only the other resolver leads.
    pub other: Vec<IpAddr>,
    pub port: u16,
    /// When the whole check ends.
    pub end: Instant,
}

/// The connections that stand, at most one of each kind.
#[derive(Default)]
pub(super) struct Standing {
    pub own: Option<(TcpStream, SocketAddr)>,
    pub other: Option<(TcpStream, SocketAddr)>,
}

/// Connects to all addresses by the deadline.
pub(super) async fn to_all(wanted: Wanted, deadline: Instant) -> (Tcp, Standing) {
    let begun = Instant::now();
    let own = wanted.own.iter().map(|ip| (*ip, false));
    let mut addresses: Vec<(SocketAddr, bool)> = own
        .chain(wanted.other.iter().map(|ip| (*ip, true)))
        .map(|(ip, other)| (SocketAddr::new(ip, wanted.port), other))
        .collect();
    let left_out = addresses.len().saturating_sub(ADDRESSES_MAX);
    addresses.truncate(ADDRESSES_MAX);

    let mut attempts = JoinSet::new();
    for (at, &(address, other)) in addresses.iter().enumerate() {
        attempts.spawn(async move {
            (at, other, begun.elapsed(), attempt(address, deadline).await, begun.elapsed())
        });
    }
    let mut ended: Vec<Option<Try>> = vec![None; addresses.len()];
    let mut best = (Best::default(), Best::default());
    let mut until = deadline;
    loop {
        let next = tokio::select! {
            next = attempts.join_next() => next,
            () = sleep_until(until) => None,
        };
        let Some(Ok((at, other, from, result, to))) = next else { break };
        let (address, took) = (addresses[at].0, to.saturating_sub(from));
        let outcome = match result {
            Ok(stream) => {
                until = until.min(Instant::now() + GRACE.max(took * 4));
                if other { &mut best.1 } else { &mut best.0 }.offer(stream, address, took);
                Outcome::Connected
            }
            Err(outcome) => outcome,
        };
        ended[at] = Some(Try { address, other, took, outcome });
    }
    let took = begun.elapsed();
    let silent =
        |&(address, other): &(SocketAddr, bool)| Try { address, other, took, outcome: Outcome::TimedOut };
    let tries =
        ended.into_iter().zip(&addresses).map(|(ended, known)| ended.unwrap_or_else(|| silent(known)));
    let mut tcp = Tcp { took, tries: tries.collect(), left_out, other_port: None };
    let standing = Standing { own: best.0.0.map(Best::parts), other: best.1.0.map(Best::parts) };
    if standing.own.is_none() && standing.other.is_none() {
        tcp.other_port = knock_elsewhere(&tcp, wanted.end).await;
        tcp.took = begun.elapsed();
    }
    (tcp, standing)
}

/// The connection to be used so far, with the time it took.
#[derive(Default)]
struct Best(Option<(TcpStream, SocketAddr, Duration)>);

impl Best {
    fn offer(&mut self, stream: TcpStream, address: SocketAddr, took: Duration) {
        let handicap = |address: &SocketAddr| if address.is_ipv4() { V6_ADVANTAGE } else { Duration::ZERO };
        let better = self
            .0
            .as_ref()
            .is_none_or(|(_, known, time)| took + handicap(&address) < *time + handicap(known));
        if better {
            self.0 = Some((stream, address, took));
        }
    }

    fn parts((stream, address, _): (TcpStream, SocketAddr, Duration)) -> (TcpStream, SocketAddr) {
        (stream, address)
    }
}

/// One attempt.
///
/// # Errors
/// How it ended instead of a connection.
pub(super) async fn attempt(address: SocketAddr, deadline: Instant) -> Result<TcpStream, Outcome> {
    let connecting = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.connect(address).await
    };
    let begun = Instant::now();
    match timeout_at(deadline, connecting).await {
        Err(_) => Err(Outcome::TimedOut),
        // The kernel may connect a socket with itself where nothing listens; nobody answered then.
        Ok(Ok(stream)) if stream.local_addr().ok() == stream.peer_addr().ok() => Err(Outcome::Refused),
        Ok(Ok(stream)) => {
            // Only a delay would follow if it failed.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(outcome_of(&error, begun.elapsed())),
    }
}

/// What an error of connecting says. The kernel refuses at once where it knows no way; a router's word takes its time.
fn outcome_of(error: &io::Error, took: Duration) -> Outcome {
    const AT_ONCE: Duration = Duration::from_micros(500);
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::ECONNABORTED) => Outcome::Refused,
        Some(libc::ETIMEDOUT) => Outcome::TimedOut,
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Outcome::NoRoute,
        Some(libc::ENETUNREACH | libc::ENETDOWN) if took < AT_ONCE => Outcome::NoRoute,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN) => {
            Outcome::Unreachable
        }
        _ => Outcome::NotTried(error.to_string()),
    }
}

/// Asks whether the host is there at all, when it stayed silent on the wanted port: on another port that web servers have.
async fn knock_elsewhere(tcp: &Tcp, end: Instant) -> Option<(SocketAddr, bool)> {
    const ENOUGH: Duration = Duration::from_millis(1_200);
    let silent = tcp.own().chain(tcp.tries.iter()).find(|attempt| attempt.outcome == Outcome::TimedOut)?;
    if tcp.tries.iter().any(|attempt| attempt.outcome.is_alive()) {
        return None;
    }
    let mut address = silent.address;
    address.set_port(if address.port() == 443 { 80 } else { 443 });
    let result = attempt(address, end.min(Instant::now() + ENOUGH)).await;
    Some((address, result.map_or_else(|outcome| outcome.is_alive(), |_| true)))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn every_address_has_its_own_outcome_and_one_that_stands_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = ["127.0.0.1", "127.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
        let other = vec!["127.0.0.3".parse().unwrap()];
        let (tcp, standing) = to_all(Wanted { own, other, port, end: soon() }, soon()).await;
        let outcomes: Vec<_> =
            tcp.tries.iter().map(|attempt| (attempt.other, attempt.outcome.clone())).collect();
        assert_eq!(
            outcomes,
            [(false, Outcome::Connected), (false, Outcome::Refused), (true, Outcome::Refused)]
        );
        assert_eq!(standing.own.unwrap().1, listener.local_addr().unwrap());
        assert!(standing.other.is_none());
        assert_eq!(tcp.other_port, None);
    }

    #[tokio::test]
    async fn no_more_addresses_than_the_limit_are_tried() {
        let own = (1..=40).map(|last| IpAddr::from([127, 0, 1, last])).collect();
        let (tcp, standing) = to_all(Wanted { own, other: Vec::new(), port: 1, end: soon() }, soon()).await;
        assert_eq!((tcp.tries.len(), tcp.left_out), (ADDRESSES_MAX, 40 - ADDRESSES_MAX));
        assert!(standing.own.is_none());
    }

    #[tokio::test]
    async fn ipv6_is_used_when_it_is_not_much_slower() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (v4, v6): (SocketAddr, SocketAddr) = (address, "[2001:db8::1]:443".parse().unwrap());
        for (v6_took, used) in [(200, v6), (400, v4)] {
            let mut best = Best::default();
            let stream = async || TcpStream::connect(address).await.unwrap();
            best.offer(stream().await, v4, Duration::from_millis(20));
            best.offer(stream().await, v6, Duration::from_millis(v6_took));
            assert_eq!(best.0.unwrap().1, used);
        }
    }

    #[test]
    fn errors_of_the_kernel_and_of_routers_are_told_apart() {
        let outcome = |code, ms| outcome_of(&io::Error::from_raw_os_error(code), Duration::from_millis(ms));
        assert_eq!(outcome(libc::ECONNREFUSED, 3), Outcome::Refused);
        assert_eq!(outcome(libc::ENETUNREACH, 0), Outcome::NoRoute);
        assert_eq!(outcome(libc::ENETUNREACH, 30), Outcome::Unreachable);
        assert_eq!(outcome(libc::EHOSTUNREACH, 3_000), Outcome::Unreachable);
        assert_eq!(outcome(libc::EAFNOSUPPORT, 0), Outcome::NoRoute);
        assert_eq!(outcome(libc::ETIMEDOUT, 3_000), Outcome::TimedOut);
        assert!(matches!(outcome(libc::EMFILE, 0), Outcome::NotTried(_)));
    }
}
