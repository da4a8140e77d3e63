//! The first layer: this machine's own end of the network. Nothing is sent: the kernel is asked for its interfaces and its
//! routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Instant;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::observed::{Interface, Machine, Own, Route};
use crate::gateway;

/// Two addresses of the world, for which the kernel is asked whether it knows a way. Nothing is sent to them.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe));

/// Looks at interfaces and routes.
pub(super) fn look() -> Machine {
    let begun = Instant::now();
    let v4_gateway = gateway::v4(&read("/proc/self/net/route"));
    let v6_gateway = gateway::v6(&read("/proc/self/net/ipv6_route"));
    Machine {
        interfaces: interfaces(),
        v4: Route { exists: knows_way_to(FAR_V4), gateway: v4_gateway },
        v6: Route { exists: knows_way_to(FAR_V6), gateway: v6_gateway },
        took: begun.elapsed(),
    }
}

fn read(path: &str) -> String {
    // A kernel without IPv6 has no such file, and then no such route.
    std::fs::read_to_string(path).unwrap_or_default()
}

fn interfaces() -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    // A kernel that does not tell is taken for one without interfaces; the routes decide then.
    for entry in getifaddrs().into_iter().flatten() {
        let flags = entry.flags;
        let at = interfaces.iter().position(|known| known.name == entry.interface_name);
        let at = at.unwrap_or_else(|| {
            interfaces.push(Interface {
                name: entry.interface_name.clone(),
                loopback: flags.contains(InterfaceFlags::IFF_LOOPBACK),
                works: flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
                addresses: Vec::new(),
            });
            interfaces.len() - 1
        });
        interfaces[at].addresses.extend(own_address(&entry));
    }
    interfaces
}

fn own_address(entry: &InterfaceAddress) -> Option<Own> {
    let ip = entry.address.as_ref().and_then(ip_of)?;
    let prefix = match entry.netmask.as_ref().and_then(ip_of)? {
        IpAddr::V4(mask) => u32::from(mask).leading_ones(),
        IpAddr::V6(mask) => u128::from(mask).leading_ones(),
    };
    Some(Own { ip, prefix })
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// Whether the kernel would know where to send a packet for this address. Connecting a UDP socket sends none.
fn knows_way_to(address: IpAddr) -> bool {
    let own: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((own, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback() {
        let machine = look();
        assert!(machine.has_loopback(), "{machine:?}");
        assert!(knows_way_to(Ipv4Addr::LOCALHOST.into()));
    }
}
