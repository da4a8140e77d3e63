//! Header names that mean something to Mainstay, and small grammar helpers.

/// Headers that Mainstay acts on, drops or replaces; everything else is passed on as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Http2Settings,
    Expect,
    Accept,
    IdempotencyKey,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    Forwarded,
    XRequestId,
}

const NAMES: [(&str, Known); 18] = [
    ("host", Known::Host),
    ("content-length", Known::ContentLength),
    ("transfer-encoding", Known::TransferEncoding),
    ("connection", Known::Connection),
    ("keep-alive", Known::KeepAlive),
    ("proxy-connection", Known::ProxyConnection),
    ("te", Known::Te),
    ("trailer", Known::Trailer),
    ("upgrade", Known::Upgrade),
    ("http2-settings", Known::Http2Settings),
    ("expect", Known::Expect),
    ("accept", Known::Accept),
    ("idempotency-key", Known::IdempotencyKey),
    ("x-forwarded-for", Known::XForwardedFor),
    ("x-forwarded-proto", Known::XForwardedProto),
    ("x-forwarded-host", Known::XForwardedHost),
    ("forwarded", Known::Forwarded),
    ("x-request-id", Known::XRequestId),
];

/// Which known header a name is, in any case.
pub(crate) fn known(name: &str) -> Known {
    // The length alone tells most names apart.
    let candidates: &[usize] = match name.len() {
        2 => &[6],
        4 => &[0],
        6 => &[10, 11],
        7 => &[7, 8],
        9 => &[16],
        10 => &[3, 4],
        12 => &[17],
        14 => &[1, 9],
        15 => &[12, 13],
        16 => &[5, 15],
        17 => &[2, 14],
        _ => &[],
    };
    for &i in candidates {
        let (known, kind) = NAMES[i];
        // Of the bytes that a name is made of, only an upper-case letter becomes one of these by this bit.
        if known.bytes().zip(name.bytes()).all(|(known, byte)| known == byte | 0x20) {
            return kind;
        }
    }
    Known::Other
}

/// A name with `_` that a server may read as one of the known ones: CGI and its heirs turn both `-` and `_` into `_`,
/// so `X_Forwarded_For` would be a way around what Mainstay writes.
pub(crate) fn mimics_known(name: &str) -> bool {
    name.contains('_')
        && NAMES.iter().any(|(known, _)| {
            known.len() == name.len()
                && known
                    .bytes()
                    .zip(name.bytes())
                    .all(|(k, n)| k == if n == b'_' { b'-' } else { n.to_ascii_lowercase() })
        })
}

/// The elements of a comma-separated list, trimmed, without empty ones.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether this is what W3C Trace Context calls a valid traceparent: `00-<32 digits>-<16 digits>-<2 digits>`, neither id
/// all zeros. Later versions may go on after that.
pub(crate) fn is_traceparent(value: &[u8]) -> bool {
    let digits = |range: std::ops::Range<usize>| {
        value.get(range).is_some_and(|d| d.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    if ![2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-')) {
        return false;
    }
    let (version, trace, span) = (&value[..2], &value[3..35], &value[36..52]);
    let known = |id: &[u8]| id.iter().any(|&b| b != b'0');
    let ended = value.len() == 55 || (version != b"00" && value.get(55) == Some(&b'-'));
    digits(0..2)
        && digits(3..35)
        && digits(36..52)
        && digits(53..55)
        && version != b"ff"
        && known(trace)
        && known(span)
        && ended
}

/// One decimal number and nothing else, at most 2^63 − 1.
pub(crate) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = value.iter().fold(0u64, |n, &digit| n * 10 + u64::from(digit - b'0'));
    (n <= i64::MAX as u64).then_some(n)
}

/// Which bytes a host's name may be made of (`reg-name` of RFC 3986).
const IN_NAME: [bool; 256] = {
    let (mut table, marks, mut byte) = ([false; 256], b"-._~%!$&'()*+,;=", 0);
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether this is `host` or `host:port` of a URI: a name, an IPv4 address or a bracketed IPv6 address.
pub(crate) fn is_valid_host(host: &[u8]) -> bool {
    let (name, port) = split_port(host);
    let name_ok = match name {
        [b'[', inner @ .., b']'] => {
            std::str::from_utf8(inner).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        _ => !name.is_empty() && name.len() <= 255 && name.iter().all(|&b| IN_NAME[usize::from(b)]),
    };
    let port_ok = port.is_none_or(|port| port.is_empty() || decimal(port).is_some_and(|n| n <= 65_535));
    name_ok && port_ok
}

/// A host without its port, and the port if there is a colon.
pub(crate) fn split_port(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end_of = |byte| host.iter().position(|&b| b == byte);
    let name_end = match host.first() {
        Some(b'[') => end_of(b']').map(|bracket| bracket + 1),
        _ => end_of(b':'),
    };
    let name_end = name_end.unwrap_or(host.len());
    match host.get(name_end) {
        Some(b':') => (&host[..name_end], Some(&host[name_end + 1..])),
        Some(_) => (host, None),
        None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_by_its_length() {
        for (name, kind) in NAMES {
            assert_eq!(known(name), kind);
            assert_eq!(known(&name.to_ascii_uppercase()), kind);
        }
        assert_eq!(known("cookie"), Known::Other);
    }

    #[test]
    fn underscores_do_not_hide_a_known_name() {
        assert!(mimics_known("X_Forwarded_For"));
        assert!(mimics_known("content_length"));
        assert!(!mimics_known("x-forwarded-for"));
        assert!(!mimics_known("my_header"));
    }

    #[test]
    fn hosts_are_names_or_addresses_with_a_port_or_none() {
        for good in
            ["a", "shop.example.com", "shop.example.com:8080", "127.0.0.1:80", "[::1]", "[::1]:80", "a_b"]
        {
            assert!(is_valid_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a/b", "a@b", "a:b", "a:80:80", "a:99999", "[::1", "[::1]x", "[zz]", "a\\b",
            "::1",
        ] {
            assert!(!is_valid_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_traceparent_is_as_w3c_has_it() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good.as_bytes()));
        assert!(is_traceparent(good.replacen("00", "01", 1).as_bytes()));
        assert!(is_traceparent(format!("{}-more", good.replacen("00", "01", 1)).as_bytes()));
        for bad in [
            "",
            "00",
            &format!("{good}-more"),
            &good[..54],
            &good.replacen("00", "ff", 1),
            &good.to_ascii_uppercase(),
            &good.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &good.replace("b7ad6b7169203331", "0000000000000000"),
            &good.replace('-', "_"),
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_number_is_digits_only_and_does_not_overflow() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in
            [&b""[..], b"+1", b"-1", b"1 ", b"0x1", b"1,1", b"9223372036854775808", b"99999999999999999999"]
        {
            assert_eq!(decimal(bad), None);
        }
    }
}
