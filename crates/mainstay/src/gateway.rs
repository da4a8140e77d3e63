//! The default gateways of this machine, as the kernel's tables have them: where whoever looks at the own network knocks.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;

/// The port of a gateway that is knocked at; any answer will do, a refusal too.
const PORT: u16 = 53;

/// The default gateway of the lowest metric in `/proc/net/route` (hexadecimal, in this machine's order of bytes), and its interface.
pub fn v4(table: &str) -> Option<(SocketAddr, String)> {
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
        let address = SocketAddr::new(Ipv4Addr::from(gateway.to_ne_bytes()).into(), PORT);
        if best.as_ref().is_none_or(|(other, _)| metric < *other) {
            best = Some((metric, (address, name.to_owned())));
        }
    }
    best.map(|(_, gateway)| gateway)
}

/// The same of `/proc/net/ipv6_route`; an address of a link has its scope.
pub fn v6(table: &str) -> Option<(SocketAddr, String)> {
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
        let address = SocketAddrV6::new(Ipv6Addr::from(gateway), PORT, 0, scope);
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
        assert_eq!(v4(&table), Some(("10.0.0.1:53".parse().unwrap(), "eth0".to_owned())));
        assert_eq!(v4("nonsense\nmore of it"), None);
    }

    #[test]
    fn the_default_gateway_of_ipv6_is_found_and_a_reject_route_is_none() {
        let zero = "0".repeat(32);
        let line = |gateway: &str, flags: &str, name: &str| {
            format!("{zero} 00 {zero} 00 {gateway} 00000400 00000003 00000000 {flags} {name}\n")
        };
        let table =
            line(&zero, "00200200", "lo") + &line("fd000000000000000000000000000001", "00000003", "eth7");
        assert_eq!(v6(&table), Some(("[fd00::1]:53".parse().unwrap(), "eth7".to_owned())));
        assert_eq!(v6(&line(&zero, "00200200", "lo")), None);
    }
}
