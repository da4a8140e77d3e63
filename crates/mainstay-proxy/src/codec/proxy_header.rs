//! The PROXY protocol, versions 1 and 2: who a connection comes from, said in front of its first byte by a proxy that passes it
//! on (the specification is HAProxy's `proxy-protocol.txt`).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mainstay_model::carriage::SendProxy;

/// The longest line of version 1, with its end.
const LINE_MAX: usize = 107;
/// What begins version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 whose length is known.
const FIXED: usize = 16;
/// The longest header: addresses and what senders add to them, such as the name in a client's certificate.
pub const PROXY_HEADER_MAX: usize = FIXED + 4096;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its bytes; what follows is the visitor's.
    pub length: usize,
    /// The visitor's address and the one that it reached; `None`: the proxy speaks for itself (`LOCAL`), or does not know.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadProxyHeader {
    /// They begin in another way.
    Missing,
    /// They go on in another way.
    Malformed,
    /// It says that it is longer than anybody's.
    TooLong,
}

impl BadProxyHeader {
    /// The refusal's name.
    pub fn as_str(self) -> &'static str {
        match self {
            BadProxyHeader::Missing => "proxy-header-missing",
            BadProxyHeader::Malformed => "proxy-header-malformed",
            BadProxyHeader::TooLong => "proxy-header-too-long",
        }
    }
}

/// Reads a header; `None`: more is to come.
///
/// # Errors
/// When the bytes cannot become one any more.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    const LINE: &[u8] = b"PROXY ";
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    match (begins(LINE), begins(&SIGNATURE)) {
        (false, false) => Err(BadProxyHeader::Missing),
        (true, _) if bytes.len() >= LINE.len() => line(bytes),
        (_, true) if bytes.len() >= FIXED => binary(bytes),
        _ => Ok(None),
    }
}

fn line(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let bad = BadProxyHeader::Malformed;
    let Some(end) = bytes.iter().take(LINE_MAX).position(|&b| b == b'\n') else {
        return if bytes.len() >= LINE_MAX { Err(bad) } else { Ok(None) };
    };
    let text = bytes[..end].strip_suffix(b"\r").ok_or(bad)?;
    let text = std::str::from_utf8(text).map_err(|_| bad)?;
    let length = end + 1;
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().ok_or(bad);
    let family = word()?;
    if family == "UNKNOWN" {
        return Ok(Some(ProxyHeader { length, addresses: None }));
    }
    let (source, target, from, to) = (word()?, word()?, word()?, word()?);
    let ip = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| bad),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| bad),
        _ => Err(bad),
    };
    let addresses = (SocketAddr::new(ip(source)?, port(from)?), SocketAddr::new(ip(target)?, port(to)?));
    match words.next() {
        None => Ok(Some(ProxyHeader { length, addresses: Some(addresses) })),
        Some(_) => Err(bad),
    }
}

/// As the specification has it: digits alone, none of them a leading zero.
fn port(text: &str) -> Result<u16, BadProxyHeader> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(BadProxyHeader::Malformed)
}

fn binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let bad = BadProxyHeader::Malformed;
    let (command, family) = (bytes[12], bytes[13]);
    let body = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let length = FIXED + body;
    if !matches!(command, 0x20 | 0x21) {
        return Err(bad);
    }
    // What the addresses take; what follows them may be skipped.
    let needed = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        // Datagrams, or what nobody knows, over a stream.
        _ => return Err(bad),
    };
    if length > PROXY_HEADER_MAX {
        return Err(BadProxyHeader::TooLong);
    }
    if command == 0x21 && body < needed {
        return Err(bad);
    }
    let Some(body) = bytes.get(FIXED..length) else { return Ok(None) };
    let addresses = match (command, family) {
        (0x21, 0x11) => v4(body),
        (0x21, 0x21) => v6(body),
        _ => None,
    };
    Ok(Some(ProxyHeader { length, addresses }))
}

fn v4(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?));
    Some((SocketAddr::new(ip(0)?.into(), short(body, 8)?), SocketAddr::new(ip(4)?.into(), short(body, 10)?)))
}

fn v6(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ip = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?));
    Some((
        SocketAddr::new(ip(0)?.into(), short(body, 32)?),
        SocketAddr::new(ip(16)?.into(), short(body, 34)?),
    ))
}

fn short(body: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
}

/// Writes a header. `addresses`: the visitor's and the one that it reached; `None`: the connection is Mainstay's own.
pub fn write_proxy_header(
    version: SendProxy,
    addresses: Option<(SocketAddr, SocketAddr)>,
    out: &mut Vec<u8>,
) {
    let addresses = addresses.map(|(source, target)| alike(source, target));
    match version {
        SendProxy::V1 => {
            // Writing to memory cannot fail.
            let _ = match addresses {
                None => out.write_all(version.own_greeting()),
                Some((source, target)) => {
                    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                    let (from, to) = (source.port(), target.port());
                    write!(out, "PROXY {family} {} {} {from} {to}\r\n", source.ip(), target.ip())
                }
            };
        }
        SendProxy::V2 => {
            out.extend_from_slice(&SIGNATURE);
            match addresses {
                None => out.extend_from_slice(&[0x20, 0, 0, 0]),
                Some((source, target)) => {
                    let (family, length) = if source.is_ipv4() { (0x11, 12u16) } else { (0x21, 36) };
                    out.extend_from_slice(&[0x21, family]);
                    out.extend_from_slice(&length.to_be_bytes());
                    for address in [source, target] {
                        match address.ip() {
                            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                        }
                    }
                    out.extend_from_slice(&source.port().to_be_bytes());
                    out.extend_from_slice(&target.port().to_be_bytes());
                }
            }
        }
    }
}

/// Both of one family, as a header must have them: IPv4 as it is if both are, and else written as IPv6.
fn alike(source: SocketAddr, target: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    let (source, target) = (plain(source), plain(target));
    let as_v6 = |a: SocketAddr| match a.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), a.port()),
        IpAddr::V6(_) => a,
    };
    match source.is_ipv4() == target.is_ipv4() {
        true => (source, target),
        false => (as_v6(source), as_v6(target)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(text: &str) -> Option<(SocketAddr, SocketAddr)> {
        parse_proxy_header(text.as_bytes()).expect("a header").expect("whole").addresses
    }

    #[test]
    fn version_1_says_who_comes_or_that_nobody_knows() {
        let of = addresses("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET /").expect("addresses");
        assert_eq!(
            (of.0.to_string(), of.1.to_string()),
            ("192.0.2.7:56324".into(), "198.51.100.1:443".into())
        );
        assert!(addresses("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n").is_some());
        assert_eq!(addresses("PROXY UNKNOWN\r\n"), None);
        assert_eq!(addresses("PROXY UNKNOWN ff::1 ff::2 1 2\r\n"), None);
    }

    #[test]
    fn what_is_nearly_a_header_is_refused() {
        for text in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n",
            "PROXY  TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(parse_proxy_header(text.as_bytes()), Err(BadProxyHeader::Malformed), "{text:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(parse_proxy_header(long.as_bytes()), Err(BadProxyHeader::Malformed));
        assert_eq!(parse_proxy_header(b"GET / HTTP/1.1\r\n"), Err(BadProxyHeader::Missing));
        let binary = |rest: &[u8]| parse_proxy_header(&[&SIGNATURE[..], rest].concat());
        assert_eq!(binary(&[0x11, 0x11, 0, 12]), Err(BadProxyHeader::Malformed), "version 1 in binary");
        assert_eq!(binary(&[0x22, 0x11, 0, 12]), Err(BadProxyHeader::Malformed), "no such command");
        assert_eq!(binary(&[0x21, 0x12, 0, 12]), Err(BadProxyHeader::Malformed), "datagrams");
        assert_eq!(binary(&[0x21, 0x11, 0, 11]), Err(BadProxyHeader::Malformed), "too short for addresses");
        assert_eq!(binary(&[0x21, 0x11, 0xff, 0xff]), Err(BadProxyHeader::TooLong));
    }

    #[test]
    fn what_follows_the_addresses_of_version_2_is_skipped_and_local_has_none() {
        let mut bytes = Vec::new();
        let pair = ("192.0.2.7:1".parse().expect("one"), "198.51.100.1:2".parse().expect("one"));
        write_proxy_header(SendProxy::V2, Some(pair), &mut bytes);
        bytes[15] += 5;
        bytes.extend_from_slice(&[4, 0, 2, 9, 9, b'G']);
        let header = parse_proxy_header(&bytes).expect("a header").expect("whole");
        assert_eq!((header.length, header.addresses), (bytes.len() - 1, Some(pair)));
        for rest in [&[0x20, 0, 0, 0][..], &[0x20, 0x11, 0, 1, 7], &[0x21, 0, 0, 2, 7, 7]] {
            let bytes = [&SIGNATURE[..], rest].concat();
            let header = parse_proxy_header(&bytes).expect("a header").expect("whole");
            assert_eq!((header.length, header.addresses), (bytes.len(), None));
        }
    }

    #[test]
    fn addresses_of_two_families_are_written_as_one() {
        let mut bytes = Vec::new();
        let pair = ("192.0.2.7:1".parse().expect("one"), "[2001:db8::1]:2".parse().expect("one"));
        write_proxy_header(SendProxy::V1, Some(pair), &mut bytes);
        assert_eq!(bytes, b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n");
    }

    fn any_address() -> impl Strategy<Value = SocketAddr> {
        (
            prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::from), any::<Ipv6Addr>().prop_map(IpAddr::from)],
            any::<u16>(),
        )
            .prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_never_before_it_is_whole(
            source in any_address(),
            target in any_address(),
            v1 in any::<bool>(),
            local in any::<bool>(),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let version = if v1 { SendProxy::V1 } else { SendProxy::V2 };
            let addresses = (!local).then_some((source, target));
            let mut bytes = Vec::new();
            write_proxy_header(version, addresses, &mut bytes);
            let length = bytes.len();
            prop_assert_eq!(parse_proxy_header(&bytes[..cut.index(length)]), Ok(None));
            bytes.extend_from_slice(&rest);
            let expected = addresses.map(|(source, target)| alike(source, target));
            prop_assert_eq!(parse_proxy_header(&bytes), Ok(Some(ProxyHeader { length, addresses: expected })));
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
            let begin: &[u8] = match kind { 0 => b"PROXY ", 1 => &SIGNATURE, _ => b"" };
            let all = [begin, &bytes].concat();
            if let Ok(Some(header)) = parse_proxy_header(&all) {
                prop_assert!(header.length <= all.len());
            }
        }
    }
}
