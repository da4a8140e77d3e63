//! Answers as the engine writes them, in HTTP/1, for clients of HTTP/2; and answers of servers of HTTP/2 for the engine.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version as HttpVersion, header, response};

use super::super::header::{Known, known, mimics_known};
use super::super::{BodyLength, HeaderSlots, MalformedAnswer, parse_response};
use super::request::is_of_the_connection;

/// An answer of the engine's, for a client of HTTP/2.
#[derive(Debug)]
pub struct Http2Answer {
    /// Its head.
    pub head: Response<()>,
    /// How its body follows in HTTP/1.
    pub body: BodyLength,
    /// It agrees to become a tunnel.
    pub tunnel: bool,
    /// Bytes of the head in HTTP/1.
    pub length: usize,
}

/// Reads a whole head that the engine wrote; `None` when it is not whole yet.
///
/// # Errors
/// When the engine wrote no HTTP, which it never does.
pub fn read_http1(bytes: &[u8], to_head: bool) -> Result<Option<Http2Answer>, MalformedAnswer> {
    let mut slots = HeaderSlots::default();
    let Some(head) = parse_response(bytes, to_head, &mut slots)? else { return Ok(None) };
    let tunnel = head.status == 101;
    let mut answer = Response::new(());
    let status = if tunnel { 200 } else { head.status };
    *answer.status_mut() = StatusCode::from_u16(status).map_err(|_| MalformedAnswer::UnexpectedStatus)?;
    *answer.version_mut() = HttpVersion::HTTP_2;
    for (line, kind) in head.headers.iter().zip(head.kinds) {
        let of_the_handshake = tunnel && line.name.eq_ignore_ascii_case("sec-websocket-accept");
        if is_of_the_connection(*kind) || of_the_handshake {
            continue;
        }
        // What HTTP/2 cannot carry is left out; HTTP/1 allows a little more.
        let name = HeaderName::from_bytes(line.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line.value)) {
            answer.headers_mut().append(name, value);
        }
    }
    // Trailers without a body (gRPC) have no length: the head ends the stream.
    if answer.headers().contains_key("grpc-status") && head.body == BodyLength::Length(0) {
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    }
    Ok(Some(Http2Answer { head: answer, body: head.body, tunnel, length: head.length }))
}

/// What follows the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Nothing can, whatever its head says.
    Nothing,
    /// Nothing does: its body is empty.
    NothingMore,
    /// A body, perhaps with trailers.
    Body,
}

/// Adds the head of an answer as HTTP/1, and says whether its body follows in chunks.
pub fn write_http1(head: &response::Parts, follows: Follows, out: &mut Vec<u8>) -> bool {
    put(out, &[b"HTTP/1.1 ", head.status.as_str().as_bytes(), b" "]);
    put(out, &[head.status.canonical_reason().unwrap_or_default().as_bytes(), b"\r\n"]);
    let has_length = head.headers.contains_key(header::CONTENT_LENGTH);
    // Only what goes in chunks can have trailers.
    let chunked = follows == Follows::Body && (!has_length || announces_trailers(&head.headers));
    for (name, value) in &head.headers {
        let in_chunks = chunked && *name == header::CONTENT_LENGTH;
        if !is_of_the_connection(known(name.as_str())) && !in_chunks {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if follows == Follows::NothingMore && !has_length {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    chunked
}

fn announces_trailers(headers: &HeaderMap) -> bool {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    headers.contains_key(header::TRAILER) || headers.get(header::CONTENT_TYPE).is_some_and(grpc)
}

/// Trailers out of their lines in HTTP/1; those that mean something of the message or the connection are left out, because a
/// reader that takes trailers for headers would be deceived (RFC 9110, 6.5.1).
pub fn trailers(lines: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in lines.split(|&b| b == b'\n') {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        if may_trail(&name) {
            trailers.append(name, value);
        }
    }
    trailers
}

/// Adds trailers as lines of HTTP/1.
pub fn write_trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        if may_trail(name) {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
}

fn may_trail(name: &HeaderName) -> bool {
    let of_the_message = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
    ];
    known(name.as_str()) == Known::Other && !mimics_known(name.as_str()) && !of_the_message.contains(name)
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_loses_what_is_of_the_connection() {
        let text =
            b"HTTP/1.1 200 Fine\r\nX-End: 1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nrest";
        let answer = read_http1(text, false).unwrap().unwrap();
        assert_eq!((answer.head.status().as_u16(), answer.body), (200, BodyLength::Chunked));
        assert_eq!((answer.length, answer.tunnel), (text.len() - 4, false));
        assert!(answer.head.headers().keys().eq(["x-end"]));
        assert!(read_http1(&text[..20], false).unwrap().is_none());
    }

    #[test]
    fn a_switched_connection_is_an_agreed_tunnel() {
        let text = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        let answer = read_http1(text, false).unwrap().unwrap();
        assert_eq!((answer.head.status().as_u16(), answer.tunnel), (200, true));
        assert!(answer.head.headers().keys().eq(["sec-websocket-protocol"]));
    }

    #[test]
    fn an_answer_of_a_server_is_framed_as_http_1() {
        let parts = |length: Option<&str>, trailer: bool| {
            let mut builder = Response::builder().status(200).header("x-end", "1");
            if trailer {
                builder = builder.header("trailer", "x-sum");
            }
            if let Some(length) = length {
                builder = builder.header("content-length", length);
            }
            builder.body(()).unwrap().into_parts().0
        };
        for (length, trailer, follows, text) in [
            (None, false, Follows::Body, "x-end: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (None, false, Follows::Nothing, "x-end: 1\r\n\r\n"),
            (None, false, Follows::NothingMore, "x-end: 1\r\nContent-Length: 0\r\n\r\n"),
            (Some("3"), false, Follows::Body, "x-end: 1\r\ncontent-length: 3\r\n\r\n"),
            (
                Some("3"),
                true,
                Follows::Body,
                "x-end: 1\r\ntrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
        ] {
            let mut out = Vec::new();
            assert_eq!(write_http1(&parts(length, trailer), follows, &mut out), text.contains("chunked"));
            assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 200 OK\r\n{text}"));
        }
    }

    #[test]
    fn trailers_go_both_ways_but_never_what_belongs_to_the_head() {
        let lines = b"grpc-status: 0\r\nContent-Length: 5\r\nHost: evil\r\nauthorization: x\r\nX_Forwarded-For: 1\r\nGrpc-Message:  a b \r\n";
        let trailers = trailers(lines);
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["grpc-message"], "a b");
        let mut out = Vec::new();
        write_trailers(&trailers, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("grpc-status: 0\r\n") && !text.contains("evil") && !text.contains("ength"),
            "{text}"
        );
    }
}
