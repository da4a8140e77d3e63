//! The second layer: whether anything outside answers at all. The gateway is knocked at, and one or two neutral places (`--reference`)
//! get one connection each, which is closed again at once. What the page itself does is no part of it.

use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use super::connect::attempt;
use super::observed::{Gateway, Machine, Network, Outcome, Try};

/// Public resolvers that run everywhere and are made to be asked: the reference unless another one is wanted.
const USUAL_V4: [&str; 2] = ["1.1.1.1:443", "9.9.9.9:443"];
/// The same for a machine without IPv4.
const USUAL_V6: [&str; 2] = ["[2606:4700:4700::1111]:443", "[2620:fe::fe]:443"];

/// Which places are asked for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum References {
    Usual,
    These(Vec<SocketAddr>),
    None,
}

/// Knocks at the gateway and the references at the same time.
pub(super) async fn look(
    machine: &Machine,
    references: &References,
    target_is_near: bool,
    deadline: Instant,
) -> Network {
    let begun = Instant::now();
    let usual =
        |list: [&str; 2]| list.iter().filter_map(|text| text.parse().ok()).collect::<Vec<SocketAddr>>();
    let (wanted, unasked) = match references {
        References::None => (Vec::new(), Some("none is wanted")),
        References::These(list) => (list.clone(), None),
        References::Usual if target_is_near => (Vec::new(), Some("the page is not on the Internet")),
        References::Usual if !machine.has_route() => (Vec::new(), Some("there is no way to any")),
        References::Usual if machine.v4.exists => (usual(USUAL_V4), None),
        References::Usual => (usual(USUAL_V6), None),
    };
    let gateway = machine.v4.gateway.as_ref().or(machine.v6.gateway.as_ref());
    let gateway = gateway.filter(|_| !target_is_near);
    let knocking = async {
        match gateway {
            Some((address, _)) => Some(knock(*address, deadline).await),
            None => None,
        }
    };
    let (gateway, references) = tokio::join!(knocking, connect_each(&wanted, deadline));
    Network { gateway, references, unasked, took: begun.elapsed() }
}

async fn connect_each(wanted: &[SocketAddr], deadline: Instant) -> Vec<Try> {
    let mut attempts = tokio::task::JoinSet::new();
    for &address in wanted {
        attempts.spawn(async move {
            let begun = Instant::now();
            let outcome =
                attempt(address, deadline).await.map_or_else(|outcome| outcome, |_| Outcome::Connected);
            Try { address, other: false, took: begun.elapsed(), outcome }
        });
    }
    let mut tries = attempts.join_all().await;
    tries.sort_by_key(|reference| wanted.iter().position(|address| *address == reference.address));
    tries
}

async fn knock(address: SocketAddr, deadline: Instant) -> Gateway {
    let reached = match attempt(address, deadline).await {
        Ok(_) | Err(Outcome::Connected | Outcome::Refused) => Some(true),
        Err(Outcome::Unreachable) => Some(false),
        // Silence is usual; whether it is there at all is known one layer below.
        Err(_) => is_there(address.ip()),
    };
    Gateway { address: address.ip(), reached }
}

/// Whether a neighbour that was tried has told its hardware address; `None` when the kernel does not say.
pub(super) fn is_there(address: IpAddr) -> Option<bool> {
    neighbour(&std::fs::read_to_string("/proc/self/net/arp").ok()?, address)
}

/// Whether a neighbour has told its hardware address; `None` when it was not asked.
fn neighbour(table: &str, address: IpAddr) -> Option<bool> {
    let address = address.to_string();
    let mut rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let flags =
        rows.find_map(|row| (row.first() == Some(&address.as_str())).then(|| row.get(2).copied()))??;
    Some(flags != "0x0")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_neighbour_that_did_not_answer_is_told_from_one_that_did() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.0.1         0x1         0x2         52:54:00:12:34:56     *        eth0\n\
                     10.0.0.2         0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        let is = |text: &str| neighbour(table, text.parse().unwrap());
        assert_eq!((is("10.0.0.1"), is("10.0.0.2"), is("10.0.0.3")), (Some(true), Some(false), None));
    }

    #[tokio::test]
    async fn the_usual_references_are_left_alone_when_they_could_tell_nothing() {
        let machine = Machine::default();
        let network = look(&machine, &References::Usual, true, soon()).await;
        assert_eq!((network.world(), network.unasked), (None, Some("the page is not on the Internet")));
        let network = look(&machine, &References::Usual, false, soon()).await;
        assert_eq!((network.world(), network.unasked), (None, Some("there is no way to any")));
        let network = look(&machine, &References::None, false, soon()).await;
        assert_eq!((network.world(), network.unasked), (None, Some("none is wanted")));
    }

    #[tokio::test]
    async fn one_reference_that_answers_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let wanted = References::These(vec!["255.255.255.255:1".parse().unwrap(), there]);
        let network = look(&Machine::default(), &wanted, true, soon()).await;
        assert_eq!(network.world(), Some(true));
        assert_eq!(network.references[1].outcome, Outcome::Connected);
    }
}
