//! Mainstay looks at its own sight: the default gateway, the resolvers that probes go by, and what the config names to compare with.
//! Each gets one connection, which is closed again at once, and a refusal is an answer too; a resolver gets a question, of which
//! every resolver knows the answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{LowerName, Name, RecordType};
use mainstay_model::input::ProbeFailure;
use mainstay_model::sight::{Seen, SightOrder, SightReport};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connect::connect_plain;
use crate::dns_client::{AskError, ask};
use crate::gateway;

/// Resolvers of the system that are asked at most, as the C library does.
const RESOLVERS_MAX: usize = 3;

/// Looks at all of it at the same time. It ends by the order's timeout. Probes ask `resolver` first, if there is one, and else those of
/// the system.
pub(super) async fn look_around(order: &SightOrder, resolver: Option<SocketAddr>) -> SightReport {
    let timeout = order.timeout;
    let deadline = Instant::now() + timeout;
    let v4 = gateway::v4(&read("/proc/self/net/route").await).map(|(at, _)| at);
    let v6 = gateway::v6(&read("/proc/self/net/ipv6_route").await).map(|(at, _)| at);
    let resolvers = resolvers(resolver, &read("/etc/resolv.conf").await);
    let (v4, v6, asked, control) = tokio::join!(
        knock(v4, deadline),
        knock(v6, deadline),
        each(&resolvers, |at| asked(at, timeout)),
        each(&order.control, |at| answers(at, deadline))
    );
    let seen = |at: &SocketAddr, answers| Seen { what: at.to_string(), answers };
    let said = resolvers.iter().zip(asked);
    SightReport {
        // One way out is enough to see by.
        gateway: [v4, v6].into_iter().flatten().max_by_key(|seen| seen.answers),
        // One on this machine is there whatever becomes of the network.
        resolvers: said
            .clone()
            .filter(|(at, _)| !at.ip().is_loopback())
            .map(|(at, said)| seen(at, said != Said::Nothing))
            .collect(),
        control: order.control.iter().zip(control).map(|(at, answers)| seen(at, answers)).collect(),
        names: said.map(|(at, said)| Seen { what: written(*at), answers: said == Said::Something }).collect(),
    }
}

/// Whether a gateway is there; `None`: there is none, or nobody can say.
async fn knock(gateway: Option<SocketAddr>, deadline: Instant) -> Option<Seen> {
    let gateway = gateway?;
    let answers = match knocked(gateway, deadline).await {
        Ok(()) | Err(ProbeFailure::Refused | ProbeFailure::Reset) => true,
        // Many gateways are silent; whether it is there at all is known one layer below. Of IPv6 the kernel says it by itself.
        Err(ProbeFailure::Unreachable(_)) => false,
        Err(_) => neighbour(&read("/proc/self/net/arp").await, gateway.ip())?,
    };
    Some(Seen { what: gateway.ip().to_string(), answers })
}

/// Looks at each of them, all at the same time, and tells what came of it in their order.
async fn each<T: Send + 'static, L: Future<Output = T> + Send + 'static>(
    addresses: &[SocketAddr],
    look: impl Fn(SocketAddr) -> L,
) -> Vec<T> {
    let mut looks = JoinSet::new();
    for (place, &address) in addresses.iter().enumerate() {
        let look = look(address);
        looks.spawn(async move { (place, look.await) });
    }
    let mut seen = looks.join_all().await;
    seen.sort_by_key(|(place, _)| *place);
    seen.into_iter().map(|(_, seen)| seen).collect()
}

/// What came of a question to a resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// An answer, whichever: that it does not know is one.
    Something,
    /// There is nobody who would answer, which the machine there has said.
    Refused,
    Nothing,
}

/// Asks a resolver who serves the root of all names. A datagram may be lost, so it is asked twice.
async fn asked(resolver: SocketAddr, time: Duration) -> Said {
    for _ in 0..2 {
        let deadline = Instant::now() + time / 2;
        match ask(resolver, &LowerName::new(&Name::root()), RecordType::NS, true, deadline).await {
            Ok(_) | Err(AskError::Garbled(_)) => return Said::Something,
            Err(AskError::Io { code: Some(libc::ECONNREFUSED), .. }) => return Said::Refused,
            Err(AskError::Io { .. } | AskError::Late) => {}
        }
    }
    Said::Nothing
}

/// An address without the port that everybody uses.
fn written(resolver: SocketAddr) -> String {
    if resolver.port() == 53 { resolver.ip().to_string() } else { resolver.to_string() }
}

/// Somebody there takes a connection, or refuses it.
async fn answers(address: SocketAddr, deadline: Instant) -> bool {
    matches!(knocked(address, deadline).await, Ok(()) | Err(ProbeFailure::Refused | ProbeFailure::Reset))
}

/// A connection, which is closed again at once.
async fn knocked(address: SocketAddr, deadline: Instant) -> Result<(), ProbeFailure> {
    let stream = connect_plain(address, deadline).await?;
    let _ = stream.set_zero_linger();
    Ok(())
}

/// A file of the kernel's, or of the C library's; one that is not there says nothing.
async fn read(path: &str) -> String {
    tokio::fs::read_to_string(path).await.unwrap_or_default()
}

/// The resolver of the config, if there is one, and those of resolv.conf.
fn resolvers(chosen: Option<SocketAddr>, conf: &str) -> Vec<SocketAddr> {
    let named = conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = named.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    let systems = addresses.take(RESOLVERS_MAX).map(|ip| SocketAddr::new(ip, 53));
    let systems = systems.filter(|at| Some(*at) != chosen);
    chosen.into_iter().chain(systems).collect()
}

/// Whether a neighbour that was tried has told its hardware address; `None` when the kernel does not say.
fn neighbour(table: &str, address: IpAddr) -> Option<bool> {
    let address = address.to_string();
    let mut rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&address.as_str()))?;
    Some(*row.get(2)? != "0x0")
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_chosen_resolver_is_asked_and_three_of_the_system_at_most() {
        let conf = "# a comment\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n nameserver 2001:db8::53\n\
                    nameserver 192.0.2.54\nnameserver 192.0.2.55\nsearch example.com\n";
        let found = |chosen: Option<&str>| -> Vec<String> {
            let chosen = chosen.map(|at| at.parse().unwrap());
            resolvers(chosen, conf).iter().map(SocketAddr::to_string).collect()
        };
        assert_eq!(found(None), ["127.0.0.53:53", "192.0.2.53:53", "[2001:db8::53]:53"]);
        assert_eq!(found(Some("192.0.2.53:53")), ["192.0.2.53:53", "127.0.0.53:53", "[2001:db8::53]:53"]);
        assert_eq!(found(Some("127.0.0.1:5353"))[0], "127.0.0.1:5353");
    }

    #[tokio::test]
    async fn a_resolver_answers_by_what_it_says_and_not_by_being_there() {
        let time = Duration::from_secs(2);
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(asked(silent.local_addr().unwrap(), time).await, Said::Nothing);
        let gone = silent.local_addr().unwrap();
        drop(silent);
        assert_eq!(asked(gone, time).await, Said::Refused);

        // The first question is lost; that it could not find out is an answer all the same.
        let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = resolver.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            resolver.recv_from(&mut buffer).await.unwrap();
            let (length, from) = resolver.recv_from(&mut buffer).await.unwrap();
            // QR, and SERVFAIL.
            (buffer[2], buffer[3]) = (buffer[2] | 0x80, 2);
            resolver.send_to(&buffer[..length], from).await.unwrap();
        });
        assert_eq!(asked(at, time).await, Said::Something);
        serving.await.unwrap();
    }

    #[test]
    fn a_neighbour_that_did_not_answer_is_told_from_one_that_did() {
        let table = "IP address  HW type  Flags  HW address         Mask  Device\n\
                     192.0.2.1   0x1      0x2    52:54:00:12:34:56  *     eth0\n\
                     192.0.2.2   0x1      0x0    00:00:00:00:00:00  *     eth0\n";
        let is = |text: &str| neighbour(table, text.parse().unwrap());
        assert_eq!((is("192.0.2.1"), is("192.0.2.2"), is("192.0.2.3")), (Some(true), Some(false), None));
    }

    #[tokio::test]
    async fn a_gateway_of_ipv6_that_refuses_is_there_and_one_of_nowhere_is_not_known() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let seen = |answers| Some(Seen { what: "::1".to_owned(), answers });
        assert_eq!(knock(Some(there), deadline).await, seen(true));
        drop(listener);
        assert_eq!(knock(Some(there), deadline).await, seen(true));
        assert_eq!(knock(None, deadline).await, None);
    }

    #[tokio::test]
    async fn a_control_target_answers_by_a_connection_or_a_refusal_and_not_by_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let nowhere: SocketAddr = "255.255.255.255:1".parse().unwrap();
        let order = SightOrder { control: vec![there, gone, nowhere], timeout: Duration::from_secs(5) };
        let report = look_around(&order, Some(gone)).await;
        let seen: Vec<bool> = report.control.iter().map(|seen| seen.answers).collect();
        assert_eq!(seen, [true, true, false]);
        assert_eq!(report.names[0], Seen { what: gone.to_string(), answers: false });
        assert!(report.resolvers.iter().all(|seen| seen.what != gone.to_string()), "it is on this machine");
    }
}
