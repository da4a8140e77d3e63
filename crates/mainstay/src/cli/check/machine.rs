//! The first layer: this machine's own end of the network. Nothing is sent: the kernel is asked for its interfaces and its
//! routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Instant;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use super::observed::{Interface, Machine, Own, Route};

/// Two addresses of the world, for which the kernel is asked whether it knows a way. Nothing is sent to them.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe));

/// The port of a gateway that is knocked at; any answer will do, a refusal too.
const GATEWAY_PORT: u16 = 53;

/// Looks at interfaces and routes.
pub(super) fn look() -> Machine {
    let begun = Instant::now();
    let v4_gateway = default_v4(&read("/proc/self/net/route"));
    let v6_gateway = default_v6(&read("/proc/self/net/ipv6_route"));
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

/// The default gateway in the kernel's table, /proc/net/route: hexadecimal, in this machine's order of bytes.
fn default_v4(table: &str) -> Option<(SocketAddr, String)> {
    let mut best = None;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[name, destination, gateway, flags, _, _, metric, mask, ..] = fields.as_slice() else {
            continue;
        };
        let up_with_gateway = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 3 == 3);
        if destination != "00000000" || mask != "00000000" || !up_with_gateway {
            continue;
        }
        let (Ok(gateway), Ok(metric)) = (u32::from_str_radix(gateway, 16), metric.parse::<u32>()) else {
            continue;
        };
        let address = SocketAddr::new(Ipv4Addr::from(gateway.to_ne_bytes()).into(), GATEWAY_PORT);
        if best.as_ref().is_none_or(|(other, _)| metric < *other) {
            best = Some((metric, (address, name.to_owned())));
        }
    }
    best.map(|(_, gateway)| gateway)
}

/// The same of /proc/net/ipv6_route.
fn default_v6(table: &str) -> Option<(SocketAddr, String)> {
    let mut best = None;
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[destination, length, _, _, gateway, metric, _, _, flags, name] = fields.as_slice() else {
            continue;
        };
        let up_with_gateway = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 0x203 == 3);
        if length != "00" || destination.bytes().any(|digit| digit != b'0') || !up_with_gateway {
            continue;
        }
        let (Ok(gateway), Ok(metric)) = (u128::from_str_radix(gateway, 16), u32::from_str_radix(metric, 16))
        else {
            continue;
        };
        let scope = if_nametoindex(name).unwrap_or(0);
        let address = SocketAddrV6::new(Ipv6Addr::from(gateway), GATEWAY_PORT, 0, scope);
        if best.as_ref().is_none_or(|(other, _)| metric < *other) {
            best = Some((metric, (SocketAddr::V6(address), name.to_owned())));
        }
    }
    best.map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_gateway_with_the_lowest_metric_is_found() {
        let address = |text: &str| u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets());
        let table = format!(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
             wlan0\t00000000\t{:08X}\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t{:08X}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
            address("10.1.0.1"),
            address("10.0.0.1"),
        );
        assert_eq!(default_v4(&table), Some(("10.0.0.1:53".parse().unwrap(), "eth0".to_owned())));
        assert_eq!(default_v4("nonsense\nmore of it"), None);
    }

    #[test]
    fn the_default_gateway_of_ipv6_is_found_and_a_reject_route_is_none() {
        let zero = "0".repeat(32);
        let line = |gateway: &str, flags: &str, name: &str| {
            format!("{zero} 00 {zero} 00 {gateway} 00000400 00000003 00000000 {flags} {name}\n")
        };
        let table =
            line(&zero, "00200200", "lo") + &line("fd000000000000000000000000000001", "00000003", "eth7");
        assert_eq!(default_v6(&table), Some(("[fd00::1]:53".parse().unwrap(), "eth7".to_owned())));
        assert_eq!(default_v6(&line(&zero, "00200200", "lo")), None);
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let machine = look();
        assert!(machine.has_loopback(), "{machine:?}");
        assert!(knows_way_to(Ipv4Addr::LOCALHOST.into()));
    }
}
