//! The head of a request: parsed, and its framing decided or refused.

use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

use httparse::Header;

use super::header::{Known, decimal, is_token_byte, is_valid_host, known, list};
use super::{BodyLength, HEAD_MAX, HEADERS_MAX, Refusal, TARGET_MAX, Version, lines_end_in_crlf};

/// Where header lines are put while a head is looked at; nothing of it needs to be initialised.
#[derive(Debug)]
pub struct HeaderSlots<'b> {
    pub(super) lines: [MaybeUninit<Header<'b>>; HEADERS_MAX],
    pub(super) kinds: [Known; HEADERS_MAX],
}

impl Default for HeaderSlots<'_> {
    fn default() -> Self {
        Self { lines: [const { MaybeUninit::uninit() }; HEADERS_MAX], kinds: [Known::Other; HEADERS_MAX] }
    }
}

/// A request's head that passed every check.
#[derive(Debug)]
pub struct RequestHead<'s, 'b> {
    /// Its method, case-sensitive.
    pub method: &'b str,
    /// The target for the server: path and query, or `*`. Empty or `?…` after an absolute form without a path.
    pub target: &'b str,
    /// The protocol's version.
    pub version: Version,
    /// Host as sent; `None` only in HTTP/1.0.
    pub host: Option<&'b str>,
    /// How the body's end is found; never [`BodyLength::UntilClose`].
    pub body: BodyLength,
    /// The client wants to go on with this connection.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// What the client wants to switch to; never HTTP/2, which would lead past every check here.
    pub upgrade: Option<&'b [u8]>,
    /// The first Accept line.
    pub accept: Option<&'b [u8]>,
    /// The client vouches that the request may be sent twice.
    pub has_idempotency_key: bool,
    /// The client's own request id, if it is one to pass on.
    pub request_id: Option<&'b [u8]>,
    /// Bytes of the head, its empty line and an empty line before it included.
    pub length: usize,
    pub(super) headers: &'s [Header<'b>],
    pub(super) kinds: &'s [Known],
    pub(super) hop_by_hop_names: bool,
}

/// Looks for a whole request head at the start of `buf`; `None` when more bytes are needed.
///
/// # Errors
/// The first rule that it breaks.
pub fn parse_request<'s, 'b>(
    buf: &'b [u8],
    slots: &'s mut HeaderSlots<'b>,
) -> Result<Option<RequestHead<'s, 'b>>, Refusal> {
    let Some(start) = skip_empty_line(buf)? else { return Ok(None) };
    let bytes = &buf[start..];
    let mut parsed = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut slots.lines) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return partial_within_limits(bytes).map(|()| None),
        Err(error) => return Err(diagnose(bytes, error)),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::BadRequestLine);
    };
    if target.len() > TARGET_MAX {
        return Err(Refusal::TargetTooLong);
    }
    if length > HEAD_MAX {
        return Err(Refusal::HeadTooLarge);
    }
    let headers: &'s [Header<'b>] = parsed.headers;
    if !lines_end_in_crlf(&bytes[..length], headers) {
        return Err(Refusal::BareLineFeed);
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let mut head = RequestHead {
        method,
        target,
        version,
        host: None,
        body: BodyLength::None,
        keep_alive: version == Version::Http11,
        expects_continue: false,
        upgrade: None,
        accept: None,
        has_idempotency_key: false,
        request_id: None,
        length: start + length,
        headers,
        kinds: &[],
        hop_by_hop_names: false,
    };
    head.read_headers(&mut slots.kinds)?;
    head.kinds = &slots.kinds[..headers.len()];
    head.check_target()?;
    Ok(Some(head))
}

/// What header lines say before they are weighed against each other.
#[derive(Default)]
struct Seen<'b> {
    length: Option<u64>,
    transfer_encoding: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    upgrade_token: bool,
    upgrade: Option<&'b [u8]>,
}

impl<'b> RequestHead<'_, 'b> {
    /// Whom the proxy in front names last: the last element of X-Forwarded-For, or of Forwarded when there is none. To be
    /// asked only of a proxy that is trusted.
    pub fn last_forwarded_for(&self) -> Option<IpAddr> {
        let last = |kind| {
            let mut lines = self.headers.iter().zip(self.kinds).rev();
            lines.find(|(_, k)| **k == kind).map(|(header, _)| header.value)
        };
        match (last(Known::XForwardedFor), last(Known::Forwarded)) {
            (Some(value), _) => node_address(list(value).last()?),
            (None, Some(value)) => {
                let pairs = list(value).last()?.split(|&b| b == b';').map(<[u8]>::trim_ascii);
                let mut nodes = pairs.filter_map(|pair| {
                    let (name, value) = pair.split_at_checked(4)?;
                    name.eq_ignore_ascii_case(b"for=").then_some(value)
                });
                node_address(nodes.next()?)
            }
            (None, None) => None,
        }
    }

    /// The values of all lines of a name, in any case and in their order.
    pub fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'b [u8]> + 'h {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    fn read_headers(&mut self, kinds: &mut [Known; HEADERS_MAX]) -> Result<(), Refusal> {
        let mut seen = Seen::default();
        for (header, kind) in self.headers.iter().zip(kinds.iter_mut()) {
            *kind = known(header.name);
            let value = header.value;
            match *kind {
                Known::Host if self.host.is_some() => return Err(Refusal::DoubledHost),
                Known::Host => {
                    let valid = std::str::from_utf8(value).ok().filter(|host| is_valid_host(host.as_bytes()));
                    self.host = Some(valid.ok_or(Refusal::InvalidHost)?);
                }
                Known::ContentLength => match decimal(value) {
                    Some(length) if seen.length.is_none() => seen.length = Some(length),
                    _ => return Err(Refusal::InvalidContentLength),
                },
                Known::TransferEncoding if seen.transfer_encoding.is_some() => {
                    return Err(Refusal::UnknownTransferCoding);
                }
                Known::TransferEncoding => seen.transfer_encoding = Some(value),
                Known::Connection => self.hop_by_hop_names |= read_connection(value, &mut seen),
                Known::Upgrade => seen.upgrade = Some(value),
                Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                    self.expects_continue = self.version == Version::Http11;
                }
                Known::Expect => return Err(Refusal::UnknownExpectation),
                Known::Accept => self.accept = self.accept.or(Some(value)),
                Known::IdempotencyKey => self.has_idempotency_key = !value.is_empty(),
                Known::XRequestId if is_request_id(value) => {
                    self.request_id = self.request_id.or(Some(value))
                }
                _ => {}
            }
        }
        self.decide(&seen)
    }

    fn decide(&mut self, seen: &Seen<'b>) -> Result<(), Refusal> {
        self.body = match (seen.length, seen.transfer_encoding) {
            (Some(_), Some(_)) => return Err(Refusal::LengthAndTransferEncoding),
            (None, Some(_)) if self.version == Version::Http10 => {
                return Err(Refusal::TransferEncodingInHttp10);
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => BodyLength::Chunked,
            (None, Some(_)) => return Err(Refusal::UnknownTransferCoding),
            (Some(length), None) => BodyLength::Length(length),
            (None, None) => BodyLength::None,
        };
        if self.host.is_none() && self.version == Version::Http11 {
            return Err(Refusal::MissingHost);
        }
        self.keep_alive = !seen.close && (self.version == Version::Http11 || seen.keep_alive);
        let bodiless = matches!(self.body, BodyLength::None | BodyLength::Length(0));
        if seen.upgrade_token && bodiless && self.version == Version::Http11 {
            self.upgrade = seen.upgrade.filter(|value| is_upgrade_passed_on(value));
        }
        self.expects_continue &= !bodiless;
        Ok(())
    }

    fn check_target(&mut self) -> Result<(), Refusal> {
        if self.method == "CONNECT" {
            return Err(Refusal::ConnectNotAllowed);
        }
        if !self.target.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'#') {
            return Err(Refusal::InvalidTarget);
        }
        if self.target.starts_with('/') || (self.target == "*" && self.method == "OPTIONS") {
            return Ok(());
        }
        let (scheme, rest) = self.target.split_once("://").ok_or(Refusal::InvalidTarget)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Refusal::InvalidTarget);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority = &rest[..end];
        if !is_valid_host(authority.as_bytes()) {
            return Err(Refusal::InvalidTarget);
        }
        match self.host {
            Some(host) if !host.eq_ignore_ascii_case(authority) => return Err(Refusal::HostMismatch),
            _ => self.host = Some(authority),
        }
        self.target = if end == rest.len() && self.method == "OPTIONS" { "*" } else { &rest[end..] };
        Ok(())
    }
}

/// An address as proxies write it: bare, with a port, in brackets, in quotes.
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?.trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Reads one Connection line; whether it names headers that end here.
fn read_connection(value: &[u8], seen: &mut Seen<'_>) -> bool {
    let mut names = false;
    for token in list(value) {
        if token.eq_ignore_ascii_case(b"close") {
            seen.close = true;
        } else if token.eq_ignore_ascii_case(b"keep-alive") {
            seen.keep_alive = true;
        } else if token.eq_ignore_ascii_case(b"upgrade") {
            seen.upgrade_token = true;
        } else {
            names = true;
        }
    }
    names
}

/// HTTP/2 and TLS inside an upgraded connection would pass by routing and every check.
fn is_upgrade_passed_on(value: &[u8]) -> bool {
    let mut protocols = list(value).peekable();
    protocols.peek().is_some()
        && protocols.all(|protocol| {
            let name = protocol.split(|&b| b == b'/').next().unwrap_or(protocol);
            !["h2c", "h2", "http", "tls"].iter().any(|banned| name.eq_ignore_ascii_case(banned.as_bytes()))
        })
}

fn is_request_id(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= 128 && value.iter().all(|b| (0x21..=0x7e).contains(b))
}

/// One empty line before a request is allowed (RFC 9112, 2.2); where the request starts, or `None` when that is not known yet.
fn skip_empty_line(buf: &[u8]) -> Result<Option<usize>, Refusal> {
    match buf {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(Refusal::EmptyLines),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r', ..] => Err(Refusal::BareCarriageReturn),
        [b'\n', ..] => Err(Refusal::BareLineFeed),
        _ => Ok(Some(0)),
    }
}

fn partial_within_limits(bytes: &[u8]) -> Result<(), Refusal> {
    // A method and a version take a few bytes more than the target alone.
    if bytes.len() > TARGET_MAX + 64 && !bytes[..TARGET_MAX + 64].contains(&b'\n') {
        return Err(Refusal::TargetTooLong);
    }
    if bytes.len() >= HEAD_MAX {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(())
}

/// Finds the name for what httparse did not like; only on the way to a refusal, so it may take its time.
fn diagnose(bytes: &[u8], error: httparse::Error) -> Refusal {
    let line_end = bytes.iter().position(|&b| b == b'\n').unwrap_or(bytes.len());
    let first_line = bytes[..line_end].strip_suffix(b"\r").unwrap_or(&bytes[..line_end]);
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::NewLine if has_bare_cr(bytes) => Refusal::BareCarriageReturn,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => diagnose_headers(&bytes[line_end..]),
        _ if line_end > TARGET_MAX + 64 => Refusal::TargetTooLong,
        _ if first_line.contains(&b'\r') => Refusal::BareCarriageReturn,
        _ if first_line.iter().any(u8::is_ascii_control) => Refusal::ControlCharacter,
        httparse::Error::Version => {
            let words: Vec<&[u8]> = first_line.split(|&b| b == b' ').collect();
            let is_line = matches!(words[..], [_, _, version] if version.starts_with(b"HTTP/"));
            if is_line { Refusal::UnsupportedVersion } else { Refusal::BadRequestLine }
        }
        _ => Refusal::BadRequestLine,
    }
}

fn has_bare_cr(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n')
}

fn diagnose_headers(bytes: &[u8]) -> Refusal {
    for line in bytes.split(|&b| b == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Refusal::FoldedHeader;
        }
        if line.contains(&b'\r') {
            return Refusal::BareCarriageReturn;
        }
        let name_end = line.iter().position(|&b| !is_token_byte(b)).unwrap_or(line.len());
        match line.get(name_end) {
            Some(b':') if name_end > 0 => {
                if line[name_end..].iter().any(|&b| b.is_ascii_control() && b != b'\t') {
                    return Refusal::ControlCharacter;
                }
            }
            Some(b' ' | b'\t') if line[name_end..].trim_ascii_start().starts_with(b":") => {
                return Refusal::SpaceBeforeColon;
            }
            Some(b) if b.is_ascii_control() => return Refusal::ControlCharacter,
            None if line.is_empty() => {}
            _ => return Refusal::InvalidHeaderName,
        }
    }
    Refusal::InvalidHeaderName
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: impl AsRef<[u8]>) -> Refusal {
        let mut slots = HeaderSlots::default();
        let text = text.as_ref();
        match parse_request(text, &mut slots) {
            Err(refusal) => refusal,
            Ok(head) => panic!("{:?} was taken: {head:?}", String::from_utf8_lossy(text)),
        }
    }

    fn with<T>(text: &str, look: impl FnOnce(&RequestHead<'_, '_>) -> T) -> T {
        let mut slots = HeaderSlots::default();
        look(&parse_request(text.as_bytes(), &mut slots).expect("is valid").expect("is whole"))
    }

    #[test]
    fn every_way_to_smuggle_is_refused_by_its_name() {
        for (text, expected) in [
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                Refusal::LengthAndTransferEncoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
                Refusal::InvalidContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
                Refusal::InvalidContentLength,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", Refusal::InvalidContentLength),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", Refusal::InvalidContentLength),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", Refusal::InvalidContentLength),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", Refusal::InvalidContentLength),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 4\r\n\r\n", Refusal::InvalidContentLength),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Refusal::InvalidContentLength),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                Refusal::InvalidContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Refusal::UnknownTransferCoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                Refusal::UnknownTransferCoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
                Refusal::UnknownTransferCoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
                Refusal::UnknownTransferCoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
                Refusal::ControlCharacter,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
                Refusal::UnknownTransferCoding,
            ),
            (
                "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                Refusal::TransferEncodingInHttp10,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", Refusal::SpaceBeforeColon),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n", Refusal::SpaceBeforeColon),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n",
                Refusal::FoldedHeader,
            ),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refusal::FoldedHeader),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Refusal::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", Refusal::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Refusal::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\n\n", Refusal::BareLineFeed),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareLineFeed),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::EmptyLines),
            ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareCarriageReturn),
            ("GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n", Refusal::BareCarriageReturn),
            ("GET / HTTP/1.1\rHost: a\r\n\r\n", Refusal::BareCarriageReturn),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Refusal::ControlCharacter),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", Refusal::ControlCharacter),
            ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::ControlCharacter),
            ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", Refusal::InvalidHeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Refusal::InvalidHeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n", Refusal::InvalidHeaderName),
            ("GET / HTTP/1.1\r\n\r\n", Refusal::MissingHost),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::DoubledHost),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Refusal::DoubledHost),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Refusal::InvalidHost),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::InvalidHost),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Refusal::InvalidHost),
            ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", Refusal::InvalidHost),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::HostMismatch),
            ("GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
            ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refusal::ConnectNotAllowed),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BadRequestLine),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Refusal::BadRequestLine),
            ("GET /\r\nHost: a\r\n\r\n", Refusal::BadRequestLine),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refusal::UnsupportedVersion),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::UnsupportedVersion),
            ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BadRequestLine),
            ("\x16\x03\x01\x02\x00\x01\x00", Refusal::ControlCharacter),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\n",
                Refusal::UnknownExpectation,
            ),
        ] {
            let found = refusal(text);
            assert_eq!(found, expected, "{text:?}");
            assert!((400..600).contains(&found.status()));
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_whole() {
        assert_eq!(refusal(format!("GET /{}", "a".repeat(9000))), Refusal::TargetTooLong);
        assert_eq!(
            refusal(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8192))),
            Refusal::TargetTooLong
        );
        assert_eq!(refusal(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(33_000))), Refusal::HeadTooLarge);
        assert_eq!(refusal(format!("GET / HTTP/1.1\r\n{}", "X: 1\r\n".repeat(101))), Refusal::TooManyHeaders);
    }

    #[test]
    fn framing_follows_the_headers() {
        assert_eq!(with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", |h| h.body), BodyLength::None);
        assert_eq!(
            with("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n", |h| h.body),
            BodyLength::Length(7)
        );
        assert_eq!(
            with("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", |h| h.body),
            BodyLength::Chunked
        );
    }

    #[test]
    fn one_empty_line_before_a_request_is_skipped() {
        assert_eq!(with("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest", |h| h.length), 29);
    }

    #[test]
    fn an_absolute_target_for_the_same_host_is_taken() {
        let seen = with("GET HTTP://Shop:80/a?b HTTP/1.1\r\nHost: shop:80\r\n\r\n", |h| h.target.to_owned());
        assert_eq!(seen, "/a?b");
        assert_eq!(with("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", |h| h.target.to_owned()), "*");
        assert_eq!(with("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", |h| h.target.to_owned()), "");
    }

    #[test]
    fn connections_persist_by_version_and_header() {
        for (text, keep) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
        ] {
            assert_eq!(with(text, |h| h.keep_alive), keep, "{text:?}");
        }
    }

    #[test]
    fn an_upgrade_to_http_2_is_not_passed_on() {
        let ask = |to: &str| {
            with(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n"), |h| {
                h.upgrade.is_some()
            })
        };
        assert!(ask("websocket"));
        assert!(!ask("h2c"));
        assert!(!ask("websocket, h2c"));
        assert!(!ask("HTTP/2.0"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"GET / HTTP/1.1\r\n: ".to_vec())], 0..300)) {
            let mut slots = HeaderSlots::default();
            let _ = parse_request(&bytes, &mut slots);
        }

        #[test]
        fn a_valid_head_is_taken_only_when_whole(names in prop::collection::vec("[a-zA-Z][a-zA-Z0-9-]{0,12}X", 0..20), value in "[ -~]{0,40}", cut in any::<usize>()) {
            let mut text = String::from("GET /x HTTP/1.1\r\nHost: a\r\n");
            for name in &names { text.push_str(&format!("{name}: {value}\r\n")); }
            text.push_str("\r\n");
            let cut = cut % text.len();
            let mut slots = HeaderSlots::default();
            prop_assert!(matches!(parse_request(&text.as_bytes()[..cut], &mut slots), Ok(None)));
            let mut slots = HeaderSlots::default();
            let head = parse_request(text.as_bytes(), &mut slots).expect("valid").expect("whole");
            prop_assert_eq!(head.length, text.len());
            prop_assert_eq!(head.headers.len(), names.len() + 1);
        }
    }
}
