//! Heads as Mainstay writes them: hop-by-hop headers ended, framing its own, where a request came from added.

use super::header::{Known, list, mimics_known};
use super::{BodyLength, RequestHead, ResponseHead};

/// What a request head gets beside what the client sent.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The client's address, for X-Forwarded-For.
    pub address: &'a str,
    /// The client's address as a node of RFC 7239: IPv6 in brackets and quotes.
    pub node: &'a str,
    /// Nothing is added to what earlier proxies say of the client, if they say something.
    pub unsaid: bool,
    /// How the client came: `http` or `https`.
    pub scheme: &'a str,
    /// Host for a request that came without one (HTTP/1.0): the address the client connected to.
    pub own_host: &'a str,
    /// The request's id, whoever made it.
    pub request_id: &'a [u8],
}

/// What is changed of a head beside that. By default nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Edits<'a> {
    /// In place of the request's target.
    pub target: Option<&'a [u8]>,
    /// Names in lower case: their lines are left out, also where a server might take `_` for `-` in them. None of them is
    /// about framing.
    pub remove: &'a [String],
    /// The Cookie lines are left out too.
    pub without_cookies: bool,
    /// Whole lines that are put in.
    pub lines: &'a [u8],
    /// The request's id for its answer, whatever the server calls it; an interim answer has none.
    pub request_id: Option<&'a [u8]>,
}

impl Edits<'_> {
    fn removes(&self, name: &str) -> bool {
        (self.without_cookies && name.eq_ignore_ascii_case("cookie"))
            || self.remove.iter().any(|removed| is_alike(removed, name))
    }
}

/// The same name to a server that knows no difference between `-` and `_`.
fn is_alike(removed: &str, name: &str) -> bool {
    let plain = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    removed.len() == name.len() && removed.bytes().zip(name.bytes()).all(|(a, b)| plain(a) == plain(b))
}

/// Adds the head for the server, in HTTP/1.1.
pub fn write_request(head: &RequestHead<'_, '_>, origin: &Origin<'_>, edits: &Edits<'_>, out: &mut Vec<u8>) {
    put(out, &[head.method.as_bytes(), b" "]);
    let target = edits.target.unwrap_or(head.target.as_bytes());
    if target.first() != Some(&b'/') && target != b"*" {
        out.push(b'/');
    }
    put(out, &[target, b" HTTP/1.1\r\nHost: "]);
    put(out, &[head.host.unwrap_or(origin.own_host).as_bytes(), b"\r\n"]);
    for (header, kind) in head.headers.iter().zip(head.kinds) {
        let passed_on = match kind {
            Known::Other => {
                !(mimics_known(header.name) || head.hop_by_hop_names && is_named(head, header.name))
            }
            Known::Accept | Known::IdempotencyKey => true,
            _ => false,
        };
        if passed_on && !edits.removes(header.name) {
            line(out, header.name, header.value);
        }
    }
    match head.body {
        BodyLength::Length(length) => write_length(out, length),
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // A server must not have to guess whether a body follows.
        _ if matches!(head.method, "POST" | "PUT" | "PATCH") => write_length(out, 0),
        _ => {}
    }
    if let Some(protocol) = head.upgrade {
        put(out, &[b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
    }
    if edits.remove.is_empty() {
        write_origin(head, origin, out);
    } else {
        // Lines of Mainstay's own are left out like any other.
        let mut own = Vec::new();
        write_origin(head, origin, &mut own);
        for line in own.split_inclusive(|&b| b == b'\n') {
            let name = line.split(|&b| b == b':').next().unwrap_or_default();
            if !std::str::from_utf8(name).is_ok_and(|name| edits.removes(name)) {
                out.extend_from_slice(line);
            }
        }
    }
    put(out, &[edits.lines, b"\r\n"]);
}

fn write_origin(head: &RequestHead<'_, '_>, origin: &Origin<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if !earlier(head, Known::XForwardedFor, out) || !origin.unsaid {
        out.extend_from_slice(origin.address.as_bytes());
    } else {
        out.truncate(out.len() - SEPARATOR.len());
    }
    put(out, &[b"\r\nX-Forwarded-Proto: ", origin.scheme.as_bytes(), b"\r\n"]);
    if let Some(host) = head.host {
        put(out, &[b"X-Forwarded-Host: ", host.as_bytes(), b"\r\n"]);
    }
    out.extend_from_slice(b"Forwarded: ");
    earlier(head, Known::Forwarded, out);
    put(out, &[b"for=", origin.node.as_bytes()]);
    if let Some(host) = head.host {
        put(out, &[b";host=\"", host.as_bytes(), b"\""]);
    }
    put(out, &[b";proto=", origin.scheme.as_bytes(), b"\r\nX-Request-Id: ", origin.request_id, b"\r\n"]);
}

/// Between the elements of a list.
const SEPARATOR: &[u8] = b", ";

/// What earlier proxies wrote into a list header, each followed by a comma. Returns whether they did.
fn earlier(head: &RequestHead<'_, '_>, kind: Known, out: &mut Vec<u8>) -> bool {
    let mut any = false;
    for (header, _) in head.headers.iter().zip(head.kinds).filter(|(_, k)| **k == kind) {
        // An open quote would swallow what Mainstay adds, and leave the client's own word as the last one.
        if !header.value.is_empty() && (kind != Known::Forwarded || ends_outside_quotes(header.value)) {
            put(out, &[header.value, SEPARATOR]);
            any = true;
        }
    }
    any
}

fn ends_outside_quotes(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for &byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

fn is_named(head: &RequestHead<'_, '_>, name: &str) -> bool {
    head.headers.iter().zip(head.kinds).any(|(h, k)| {
        *k == Known::Connection && list(h.value).any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// What an answer's head says of the connection to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 and it stays open: nothing needs to be said.
    Implied,
    /// HTTP/1.0 and it stays open.
    KeepAlive,
    /// It is closed after this answer.
    Close,
    /// It becomes something else.
    Upgrade,
}

/// Adds the head for the client. `framing` is how the body goes to the client, which may differ from how it came.
pub fn write_response(
    head: &ResponseHead<'_, '_>,
    framing: BodyLength,
    persistence: Persistence,
    edits: &Edits<'_>,
    out: &mut Vec<u8>,
) {
    let status = head.status;
    let digits = [b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
    put(out, &[b"HTTP/1.1 ", &digits, b" ", head.reason.as_bytes(), b"\r\n"]);
    for (header, kind) in head.headers.iter().zip(head.kinds) {
        let passed_on = match kind {
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::ContentLength => false,
            Known::Upgrade => persistence == Persistence::Upgrade,
            Known::XRequestId => edits.request_id.is_none(),
            _ => !(head.hop_by_hop_names && is_named_by_answer(head, header.name)),
        };
        if passed_on && !edits.removes(header.name) {
            line(out, header.name, header.value);
        }
    }
    if let Some(id) = edits.request_id.filter(|_| !edits.removes("x-request-id")) {
        put(out, &[b"X-Request-Id: ", id, b"\r\n"]);
    }
    out.extend_from_slice(edits.lines);
    match framing {
        BodyLength::Length(length) => write_length(out, length),
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // The length an answer to GET would have had.
        BodyLength::None if status >= 200 && status != 204 => {
            if let Some(length) = head.content_length {
                write_length(out, length);
            }
        }
        BodyLength::None | BodyLength::UntilClose => {}
    }
    out.extend_from_slice(match persistence {
        Persistence::Implied => b"\r\n",
        Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Persistence::Close => b"Connection: close\r\n\r\n",
        Persistence::Upgrade => b"Connection: upgrade\r\n\r\n",
    });
}

fn is_named_by_answer(head: &ResponseHead<'_, '_>, name: &str) -> bool {
    head.headers.iter().zip(head.kinds).any(|(h, k)| {
        *k == Known::Connection && list(h.value).any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    })
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    put(out, &[name.as_bytes(), b": ", value, b"\r\n"]);
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    put(out, &[b"Content-Length: ", &digits[at..], b"\r\n"]);
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{HeaderSlots, parse_request, parse_response};
    use super::*;

    const ORIGIN: Origin<'_> = Origin {
        unsaid: false,
        address: "2001:db8::1",
        node: "\"[2001:db8::1]\"",
        scheme: "http",
        own_host: "127.0.0.1:80",
        request_id: b"made",
    };

    fn rewritten(text: &str) -> String {
        let mut slots = HeaderSlots::default();
        let head = parse_request(text.as_bytes(), &mut slots).expect("valid").expect("whole");
        let mut out = Vec::new();
        write_request(&head, &ORIGIN, &Edits::default(), &mut out);
        String::from_utf8(out).expect("text")
    }

    fn answered(text: &str, framing: BodyLength, persistence: Persistence) -> String {
        let mut slots = HeaderSlots::default();
        let head = parse_response(text.as_bytes(), false, &mut slots).expect("valid").expect("whole");
        let mut out = Vec::new();
        write_response(&head, framing, persistence, &Edits::default(), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_request_gets_its_origin_and_loses_what_is_hop_by_hop() {
        let out = rewritten(
            "GET /a HTTP/1.1\r\nHost: Shop:80\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: x\r\nTE: trailers\r\nTrailer: x\r\nUpgrade: websocket\r\nX-Forwarded-For: 10.0.0.1\r\n\
             X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=10.0.0.1\r\nX-Request-Id: mine\r\nCookie: a\r\n\r\n",
        );
        assert_eq!(
            out,
            "GET /a HTTP/1.1\r\nHost: Shop:80\r\nCookie: a\r\nX-Forwarded-For: 10.0.0.1, 2001:db8::1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: Shop:80\r\n\
             Forwarded: for=10.0.0.1, for=\"[2001:db8::1]\";host=\"Shop:80\";proto=http\r\nX-Request-Id: made\r\n\r\n"
        );
    }

    #[test]
    fn a_client_cannot_hide_its_address_behind_an_open_quote() {
        for open in ["for=6.6.6.6;by=\"", "for=6.6.6.6;by=\"a\\\""] {
            let out = rewritten(&format!("GET / HTTP/1.1\r\nHost: a\r\nForwarded: {open}\r\n\r\n"));
            assert!(out.contains("\r\nForwarded: for=\"[2001:db8::1]\";host"), "{out}");
        }
        let out = rewritten("GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=\"[::2]\";by=\"\\\"\"\r\n\r\n");
        assert!(out.contains("\r\nForwarded: for=\"[::2]\";by=\"\\\"\", for="), "{out}");
    }

    #[test]
    fn edits_replace_the_target_and_lines_however_they_are_written_and_never_the_framing() {
        let text = "POST /api/x HTTP/1.1\r\nHost: a\r\nX-Internal: 1\r\nx_internal: 2\r\nCookie: a=b\r\nKept: 3\r\nContent-Length: 2\r\n\r\n";
        let mut slots = HeaderSlots::default();
        let head = parse_request(text.as_bytes(), &mut slots).expect("valid").expect("whole");
        let remove = ["x-internal".to_owned(), "x-forwarded-host".to_owned(), "forwarded".to_owned()];
        let edits = Edits {
            target: Some(b"/x"),
            remove: &remove,
            without_cookies: true,
            lines: b"X-Internal: mine\r\n",
            request_id: None,
        };
        let mut out = Vec::new();
        write_request(&head, &ORIGIN, &edits, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "POST /x HTTP/1.1\r\nHost: a\r\nKept: 3\r\nContent-Length: 2\r\nX-Forwarded-For: 2001:db8::1\r\n\
             X-Forwarded-Proto: http\r\nX-Request-Id: made\r\nX-Internal: mine\r\n\r\n"
        );
        let text = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\nA: b\r\n\r\n";
        let mut slots = HeaderSlots::default();
        let head = parse_response(text.as_bytes(), false, &mut slots).expect("valid").expect("whole");
        let edits = Edits { remove: &["server".to_owned()], lines: b"C: d\r\n", ..Edits::default() };
        let mut out = Vec::new();
        write_response(&head, head.body, Persistence::Implied, &edits, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\nContent-Length: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_request_of_http_1_0_gets_a_host() {
        let out = rewritten("POST http://a?b HTTP/1.0\r\nContent-Length: 3\r\n\r\n");
        assert!(out.starts_with("POST /?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"), "{out}");
        let out = rewritten("GET / HTTP/1.0\r\n\r\n");
        assert!(out.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"), "{out}");
        assert!(out.contains("X-Request-Id: made\r\n") && !out.contains("X-Forwarded-Host"), "{out}");
    }

    #[test]
    fn an_upgrade_is_passed_on_with_its_own_connection_header() {
        let out = rewritten(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        );
        assert!(
            out.contains("Sec-WebSocket-Key: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"),
            "{out}"
        );
    }

    #[test]
    fn an_answer_names_the_request_once_and_by_the_id_that_the_server_was_told() {
        let text = "HTTP/1.1 200 Fine\r\nx-request-id: other\r\nContent-Length: 0\r\n\r\n";
        let mut slots = HeaderSlots::default();
        let head = parse_response(text.as_bytes(), false, &mut slots).expect("valid").expect("whole");
        let mut out = Vec::new();
        let edits = Edits { request_id: Some(b"mine"), ..Edits::default() };
        write_response(&head, BodyLength::Length(0), Persistence::Implied, &edits, &mut out);
        assert_eq!(out, b"HTTP/1.1 200 Fine\r\nX-Request-Id: mine\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn an_answer_is_framed_anew() {
        let text = "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nA: b\r\n\r\n";
        assert_eq!(
            answered(text, BodyLength::Chunked, Persistence::Implied),
            "HTTP/1.1 200 Fine\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            answered(text, BodyLength::UntilClose, Persistence::Close),
            "HTTP/1.1 200 Fine\r\nA: b\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            answered(
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
                BodyLength::None,
                Persistence::KeepAlive
            ),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            answered(
                "HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n",
                BodyLength::None,
                Persistence::Implied
            ),
            "HTTP/1.1 204 No Content\r\n\r\n"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_what_was_meant(headers in prop::collection::vec(("[A-Za-z][A-Za-z0-9_-]{0,20}", "[!-~]([ -~]{0,20}[!-~])?"), 0..20), length in prop::option::of(0u64..1 << 60)) {
            let mut text = String::from("PUT /x?y HTTP/1.1\r\nHost: a\r\n");
            for (name, value) in &headers { text.push_str(&format!("{name}: {value}\r\n")); }
            if let Some(length) = length { text.push_str(&format!("Content-Length: {length}\r\n")); }
            text.push_str("\r\n");
            let mut slots = HeaderSlots::default();
            let Ok(Some(head)) = parse_request(text.as_bytes(), &mut slots) else { return Ok(()) };
            let mut out = Vec::new();
            write_request(&head, &ORIGIN, &Edits::default(), &mut out);
            let mut again = HeaderSlots::default();
            let read = parse_request(&out, &mut again).expect("what we write is valid").expect("and whole");
            prop_assert_eq!(read.length, out.len());
            prop_assert_eq!(read.method, head.method);
            prop_assert_eq!(read.target, head.target);
            prop_assert_eq!(read.host, head.host);
            let meant = if head.body == BodyLength::None { BodyLength::Length(0) } else { head.body };
            prop_assert_eq!(read.body, meant);
        }
    }
}
