//! Ports for supervised servers that were given none: kept over restarts, and free when they are chosen.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use mainstay_model::ServerId;
use socket2::{Domain, Socket, Type};

/// Random ports tried before the kernel is asked for one.
const TRIES: usize = 64;
/// Linux' own default for ports that outgoing connections take.
const USUAL_OUTGOING: RangeInclusive<u16> = 32_768..=60_999;
/// Below it are the ports that people choose themselves.
const LOWEST: u16 = 20_000;

/// The ports given so far, so that two servers started at once do not get the same one.
#[derive(Debug, Default)]
pub(super) struct Ports {
    given: Mutex<BTreeMap<ServerId, u16>>,
}

impl Ports {
    /// The port that the server had before if it is still free, else another.
    ///
    /// # Errors
    /// When no port can be bound on `host` at all.
    pub(super) fn choose(&self, server: &ServerId, host: IpAddr) -> io::Result<u16> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&port) = given.get(server)
            && bind(host, port).is_ok()
        {
            return Ok(port);
        }
        let port = new_port(&given, host)?;
        given.insert(server.clone(), port);
        Ok(port)
    }

    /// It has this port already.
    pub(super) fn remember(&self, server: ServerId, port: u16) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(server, port);
    }

    /// The port that it was given.
    pub(super) fn of(&self, server: &ServerId) -> Option<u16> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(server).copied()
    }

    /// The server left the config.
    pub(super) fn forget(&self, server: &ServerId) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}

/// A free port that no outgoing connection takes while the server is down: with one from the kernel's own range, a
/// restarted server may find its port in use by somebody's connection.
fn new_port(given: &BTreeMap<ServerId, u16>, host: IpAddr) -> io::Result<u16> {
    let outgoing = outgoing_ports();
    for _ in 0..TRIES {
        let port = fastrand::u16(LOWEST..);
        if !outgoing.contains(&port) && !given.values().any(|&p| p == port) && bind(host, port).is_ok() {
            return Ok(port);
        }
    }
    bind(host, 0)
}

fn outgoing_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map_while(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => USUAL_OUTGOING,
    }
}

/// Binds as a server would and lets go again; it does not listen, so that nobody connects to it meanwhile.
fn bind(host: IpAddr, port: u16) -> io::Result<u16> {
    let address = SocketAddr::new(host, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?;
    bound.as_socket().map(|a| a.port()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use mainstay_model::ServiceId;

    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_server_keeps_its_port_while_it_is_free_and_gets_another_when_it_is_taken() {
        let ports = Ports::default();
        let server = ServiceId::new("shop").server("app-1");
        let first = ports.choose(&server, HOST).unwrap();
        assert_eq!(ports.choose(&server, HOST).unwrap(), first);
        let _squatter = TcpListener::bind((HOST, first)).unwrap();
        assert_ne!(ports.choose(&server, HOST).unwrap(), first);
    }

    #[test]
    fn servers_get_different_ports_outside_the_range_of_outgoing_connections() {
        let ports = Ports::default();
        let outgoing = outgoing_ports();
        let mut seen = Vec::new();
        for n in 0..50 {
            let port = ports.choose(&ServiceId::new("shop").server(format!("app-{n}")), HOST).unwrap();
            assert!(!seen.contains(&port));
            assert!(!outgoing.contains(&port), "{port}");
            seen.push(port);
        }
    }

    #[test]
    fn an_address_of_another_machine_is_an_error() {
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert!(Ports::default().choose(&ServiceId::new("shop").server("app-1"), elsewhere).is_err());
    }
}
