//! Requests of HTTP/2 as HTTP/1, and back for servers that speak HTTP/2.
//!
//! A request is written as HTTP/1 text and then read by the same parser as any other: what that parser refuses is refused here
//! too, and what reaches a server was framed by Mainstay.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version as HttpVersion, request};

use super::super::header::Known;
use super::super::{BodyLength, HeaderSlots, RequestHead, parse_request};

/// How the body of a request goes into the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes, as the client says and the h2 crate holds it to.
    Length,
    /// In chunks.
    Chunked,
    /// A tunnel (RFC 8441): bytes both ways, once the server has agreed.
    Tunnel,
}

/// Adds a request's head as HTTP/1 and says how its body is to follow. `ended`: nothing follows. `key`: for a WebSocket handshake.
pub fn write_http1(
    parts: &request::Parts,
    protocol: Option<&str>,
    ended: bool,
    key: [u8; 16],
    out: &mut Vec<u8>,
) -> Framing {
    let websocket = protocol == Some("websocket") && !ended;
    let method = if websocket { "GET" } else { parts.method.as_str() };
    put(out, &[method.as_bytes(), b" ", target(parts).as_bytes(), b" HTTP/1.1\r\n"]);
    write_host(parts, out);
    let mut length = false;
    for (name, value) in &parts.headers {
        length |= *name == header::CONTENT_LENGTH;
        let elsewhere = *name == header::HOST
            || *name == header::COOKIE
            || (websocket && *name == header::CONTENT_LENGTH);
        if !elsewhere {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    write_cookies(&parts.headers, out);
    let framing = match (websocket, ended, length) {
        (true, ..) => Framing::Tunnel,
        (_, true, _) => Framing::None,
        (_, _, true) => Framing::Length,
        _ => Framing::Chunked,
    };
    match framing {
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Tunnel => {
            let key = base64(key);
            put(out, &[b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ", &key, b"\r\n"]);
        }
        Framing::None | Framing::Length => {}
    }
    out.extend_from_slice(b"\r\n");
    framing
}

/// What stands in the request line. A plain CONNECT has no path; the parser refuses it by its method.
fn target(parts: &request::Parts) -> &str {
    match parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
        // The h2 crate reads `*` as such, for OPTIONS alone.
        Some(path) if !path.is_empty() => path,
        _ => "/",
    }
}

/// Two hosts that differ are written as two, which the parser refuses.
fn write_host(parts: &request::Parts, out: &mut Vec<u8>) {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        put(out, &[b"Host: ", authority, b"\r\n"]);
    }
    for host in parts.headers.get_all(header::HOST) {
        let same = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()));
        if !same {
            put(out, &[b"Host: ", host.as_bytes(), b"\r\n"]);
        }
    }
}

/// Cookies may come in pieces, for the sake of compression; servers of HTTP/1 want one line (RFC 9113, 8.2.3).
fn write_cookies(headers: &HeaderMap, out: &mut Vec<u8>) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let Some(first) = cookies.next() {
        put(out, &[b"Cookie: ", first.as_bytes()]);
        for cookie in cookies {
            put(out, &[b"; ", cookie.as_bytes()]);
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn base64(bytes: [u8; 16]) -> [u8; 24] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = [b'='; 24];
    for (three, four) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let mut group = [0; 4];
        group[1..1 + three.len()].copy_from_slice(three);
        let group = u32::from_be_bytes(group);
        for (i, digit) in four.iter_mut().enumerate().take(three.len() + 1) {
            *digit = DIGITS[(group >> (18 - 6 * i) & 63) as usize];
        }
    }
    text
}

/// A request of the engine's own, for a server that speaks HTTP/2.
#[derive(Debug)]
pub struct Http2Request {
    /// Its head.
    pub head: Request<()>,
    /// How its body follows in HTTP/1.
    pub body: BodyLength,
    /// Bytes of the head in HTTP/1.
    pub length: usize,
    /// Its method is HEAD.
    pub to_head: bool,
}

/// Reads a whole head that the engine wrote; `None` when it is not whole yet. A wish to upgrade is left out: who does not know
/// it may pass it over (RFC 9110, 7.8).
///
/// # Errors
/// When HTTP/2 cannot carry it.
pub fn read_http1(bytes: &[u8], secure: bool) -> Result<Option<Http2Request>, NotHttp2> {
    let mut slots = HeaderSlots::default();
    let Some(head) = parse_request(bytes, &mut slots).map_err(|_| NotHttp2)? else { return Ok(None) };
    let request = translated(&head, secure).ok_or(NotHttp2)?;
    Ok(Some(Http2Request {
        head: request,
        body: head.body,
        length: head.length,
        to_head: head.method == "HEAD",
    }))
}

/// A request that HTTP/2 cannot carry: its host or target is none that has a place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("HTTP/2 cannot carry this request")]
pub struct NotHttp2;

fn translated(head: &RequestHead<'_, '_>, secure: bool) -> Option<Request<()>> {
    let uri = Uri::builder()
        .scheme(if secure { "https" } else { "http" })
        .authority(head.host?)
        .path_and_query(head.target)
        .build()
        .ok()?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.uri_mut() = uri;
    *request.version_mut() = HttpVersion::HTTP_2;
    let headers = request.headers_mut();
    for (line, kind) in head.headers.iter().zip(head.kinds) {
        if is_of_the_connection(*kind) || *kind == Known::Host {
            continue;
        }
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    // Servers of gRPC insist on it, and Mainstay does pass trailers on.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Some(request)
}

/// Headers that HTTP/2 has no place for (RFC 9113, 8.2.2).
pub(super) fn is_of_the_connection(kind: Known) -> bool {
    matches!(
        kind,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Te
            | Known::Http2Settings
    )
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Refusal;
    use super::*;

    fn written(request: Request<()>, protocol: Option<&str>, ended: bool) -> (String, Framing) {
        let mut out = Vec::new();
        let framing = write_http1(&request.into_parts().0, protocol, ended, *b"the sample nonce", &mut out);
        (String::from_utf8(out).unwrap(), framing)
    }

    #[test]
    fn a_request_is_written_as_http_1_with_one_host_and_one_line_of_cookies() {
        let request = Request::get("https://shop.example:8443/a?b=c")
            .header("cookie", "a=1")
            .header("host", "Shop.example:8443")
            .header("x-end", "2")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        assert_eq!(
            written(request, None, true),
            (
                "GET /a?b=c HTTP/1.1\r\nHost: shop.example:8443\r\nx-end: 2\r\nCookie: a=1; b=2\r\n\r\n"
                    .to_owned(),
                Framing::None
            )
        );
    }

    #[test]
    fn a_body_has_its_length_or_goes_in_chunks() {
        let request = || Request::post("https://a/").header("content-length", "3");
        let (text, framing) = written(request().body(()).unwrap(), None, false);
        assert!(text.contains("\r\ncontent-length: 3\r\n") && framing == Framing::Length, "{text}");
        let (text, framing) = written(Request::post("https://a/").body(()).unwrap(), None, false);
        assert!(text.contains("\r\nTransfer-Encoding: chunked\r\n") && framing == Framing::Chunked, "{text}");
    }

    #[test]
    fn a_websocket_becomes_an_upgrade_and_every_other_tunnel_is_refused() {
        let connect = || {
            let mut request = Request::new(());
            *request.method_mut() = Method::CONNECT;
            *request.uri_mut() = Uri::from_static("https://a/chat");
            request
        };
        let (text, framing) = written(connect(), Some("websocket"), false);
        assert_eq!(framing, Framing::Tunnel);
        assert!(text.starts_with("GET /chat HTTP/1.1\r\n"), "{text}");
        // The key of RFC 6455's example.
        assert!(
            text.contains("Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            "{text}"
        );
        for protocol in [None, Some("connect-udp")] {
            let (text, _) = written(connect(), protocol, false);
            let refused = parse_request(text.as_bytes(), &mut HeaderSlots::default()).unwrap_err();
            assert_eq!(refused, Refusal::ConnectNotAllowed);
        }
    }

    #[test]
    fn what_http_1_refuses_is_refused_over_http_2_too() {
        for (request, refusal) in [
            (Request::get("https://a/").header("host", "b"), Refusal::DoubledHost),
            (Request::get("/"), Refusal::MissingHost),
            (Request::get("https://a/").header("content-length", "x"), Refusal::InvalidContentLength),
            (Request::get("https://a/").header("transfer-encoding", "gzip"), Refusal::UnknownTransferCoding),
            (Request::post("https://a/").header("expect", "a miracle"), Refusal::UnknownExpectation),
        ] {
            let (text, _) = written(request.body(()).unwrap(), None, true);
            let mut slots = HeaderSlots::default();
            let refused = parse_request(text.as_bytes(), &mut slots).map(|_| ());
            assert_eq!(refused, Err(refusal), "{text}");
        }
    }

    #[test]
    fn a_request_for_a_server_of_http_2_loses_what_is_of_the_connection() {
        let text = b"POST /a?b HTTP/1.1\r\nHost: a:1\r\nX-End: 1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = read_http1(text, true).unwrap().unwrap();
        assert_eq!((request.body, request.length, request.to_head), (BodyLength::Chunked, text.len(), false));
        assert_eq!(request.head.uri(), "https://a:1/a?b");
        let headers: Vec<_> =
            request.head.headers().iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        assert_eq!(headers, [("x-end", &b"1"[..]), ("te", b"trailers")]);
        let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let plain = read_http1(upgrade, false).unwrap().unwrap();
        assert!(plain.head.headers().keys().eq(["te"]), "{:?}", plain.head);
    }
}
