//! A corpus of requests that two programs could read differently, each followed by one that would be smuggled: refused by its
//! name, counted, the connection closed, and not a whole request at the server.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Shutdown;

use crate::conformance::{Client, DATA, GOAWAY, HEADERS as HEADERS_FRAME, RST_STREAM, header};
use crate::floods::{END_HEADERS, END_STREAM, frame};
use crate::support::{Origin, PATIENCE, Rig, Seen, get, table};

/// What would come through.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// The name of the rule, and a request's head without `POST / HTTP/1.1`, its `Host` and its end.
const HEADERS: &[(&str, &str)] = &[
    ("length-and-transfer-encoding", "Content-Length: 6\r\nTransfer-Encoding: chunked"),
    ("length-and-transfer-encoding", "Transfer-Encoding: chunked\r\nContent-Length: 0"),
    ("length-and-transfer-encoding", "content-length: 6\r\ntransfer-encoding: identity"),
    ("invalid-content-length", "Content-Length: 5\r\nContent-Length: 6"),
    ("invalid-content-length", "Content-Length: 5\r\nContent-Length: 5"),
    ("invalid-content-length", "Content-Length: 5, 5"),
    ("invalid-content-length", "Content-Length: 5,6"),
    ("invalid-content-length", "Content-Length: +5"),
    ("invalid-content-length", "Content-Length: -5"),
    ("invalid-content-length", "Content-Length: 0x5"),
    ("invalid-content-length", "Content-Length: 5 0"),
    ("invalid-content-length", "Content-Length: 5e1"),
    ("invalid-content-length", "Content-Length: \"5\""),
    ("invalid-content-length", "Content-Length:"),
    ("invalid-content-length", "Content-Length: 18446744073709551621"),
    ("unknown-transfer-coding", "Transfer-Encoding: gzip, chunked"),
    ("unknown-transfer-coding", "Transfer-Encoding: chunked, identity"),
    ("unknown-transfer-coding", "Transfer-Encoding: chunked, chunked"),
    ("unknown-transfer-coding", "Transfer-Encoding: xchunked"),
    ("unknown-transfer-coding", "Transfer-Encoding: chunked;q=1"),
    ("unknown-transfer-coding", "Transfer-Encoding: \"chunked\""),
    ("unknown-transfer-coding", "Transfer-Encoding: identity"),
    ("unknown-transfer-coding", "Transfer-Encoding:"),
    ("unknown-transfer-coding", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("unknown-transfer-coding", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
    ("unknown-transfer-coding", "Transfer-Encoding: ch\u{131}unked"),
    ("space-before-colon", "Transfer-Encoding : chunked"),
    ("space-before-colon", "Transfer-Encoding\t: chunked"),
    ("space-before-colon", "Content-Length : 6"),
    ("folded-header", "X: y\r\n Transfer-Encoding: chunked"),
    ("folded-header", "X: y\r\n\tz"),
    ("folded-header", "Transfer-Encoding:\r\n chunked"),
    ("bare-line-feed", "X: y\nTransfer-Encoding: chunked"),
    ("bare-carriage-return", "X: y\rTransfer-Encoding: chunked"),
    ("bare-carriage-return", "X: y\r\rTransfer-Encoding: chunked"),
    ("control-character", "X: a\0b"),
    ("control-character", "X: a\u{b}b"),
    ("control-character", "X: a\u{7f}b"),
    ("control-character", "X\0: b"),
    ("control-character", "Transfer-Encoding: \u{b}chunked"),
    ("invalid-header-name", "X Y: b"),
    ("invalid-header-name", "X"),
    ("invalid-header-name", ": b"),
    ("invalid-header-name", "(X): b"),
    ("doubled-host", "Host: b"),
    ("unknown-expectation", "Content-Length: 5\r\nExpect: 100-continue, x"),
];

/// The name of the rule, and a whole request's beginning.
const WHOLE: &[(&str, &str)] = &[
    ("missing-host", "POST / HTTP/1.1\r\nX: y\r\n\r\n"),
    ("invalid-host", "POST / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("invalid-host", "POST / HTTP/1.1\r\nHost: a/../b\r\n\r\n"),
    ("invalid-host", "POST / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("invalid-host", "POST / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    ("invalid-host", "POST / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    ("invalid-host", "POST / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("host-mismatch", "POST http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("host-mismatch", "POST http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("invalid-target", "POST http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("invalid-target", "POST a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("invalid-target", "POST /#a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-request-line", "POST / / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-request-line", "POST /\r\nHost: a\r\n\r\n"),
    ("control-character", "POST\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("unsupported-version", "POST / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("unsupported-version", "POST / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("bare-line-feed", "POST / HTTP/1.1\nHost: a\n\n"),
    ("bare-line-feed", "\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("empty-lines", "\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("connect-not-allowed", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    ("transfer-encoding-in-http-1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
];

/// The name of the rule, and a chunked body.
const CHUNKED: &[(&str, &str)] = &[
    ("invalid-chunk-size", "x\r\n"),
    ("invalid-chunk-size", "\r\n"),
    ("invalid-chunk-size", " 5\r\nhello\r\n0\r\n\r\n"),
    ("invalid-chunk-size", "5 \r\nhello\r\n0\r\n\r\n"),
    ("invalid-chunk-size", "+5\r\nhello\r\n0\r\n\r\n"),
    ("invalid-chunk-size", "-1\r\n"),
    ("invalid-chunk-size", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size-overflow", "fffffffffffffffff\r\n"),
    ("chunk-size-overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("invalid-chunk-line-end", "5\nhello\r\n0\r\n\r\n"),
    ("invalid-chunk-line-end", "5\r\rhello\r\n0\r\n\r\n"),
    ("invalid-chunk-line-end", "5;a\nhello\r\n0\r\n\r\n"),
    ("invalid-chunk-data-end", "5\r\nhello!\r\n0\r\n\r\n"),
    ("invalid-chunk-data-end", "5\r\nhello\n0\r\n\r\n"),
    ("invalid-chunk-data-end", "5\r\nhello0\r\n\r\n"),
    ("invalid-chunk-extension", "5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("invalid-trailer", "5\r\nhello\r\n0\r\nX Y: z\r\n\r\n"),
    ("invalid-trailer", "5\r\nhello\r\n0\r\n X: z\r\n\r\n"),
    ("invalid-chunk-line-end", "5\r\nhello\r\n0\r\nX: z\n\r\n"),
    ("invalid-chunk-line-end", "5\r\nhello\r\n0\r\n\n"),
];

fn corpus() -> Vec<(&'static str, String)> {
    let headers = HEADERS
        .iter()
        .map(|(rule, lines)| (*rule, format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n0\r\n\r\n")));
    let whole = WHOLE.iter().map(|(rule, request)| (*rule, (*request).to_owned()));
    let chunked = CHUNKED.iter().map(|(rule, body)| {
        (*rule, format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))
    });
    headers.chain(whole).chain(chunked).collect()
}

#[test]
fn each_ambiguous_request_is_refused_by_its_name_counted_and_closes_the_connection() {
    let origin = Origin::of("smuggled");
    let rig = Rig::new(table(&[origin.address]));
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (rule, request) in corpus() {
        *expected.entry(rule.to_owned()).or_default() += 1;
        let mut wire = rig.connect();
        // It may be refused and closed before all of it is written.
        let _ = wire.stream.write_all(format!("{request}{SMUGGLED}").as_bytes());
        let _ = wire.stream.shutdown(Shutdown::Write);
        let answer = wire.answer().unwrap_or_else(|error| panic!("{request:?}: {error}"));
        assert!(
            (400..600).contains(&answer.status) && answer.status != 502,
            "{request:?}: {}",
            answer.status
        );
        assert!(answer.text().contains("<html"), "{request:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
        assert!(wire.rest().is_ok_and(|rest| rest.is_empty()), "{request:?}: a second answer");
        let ending = rig.story(&answer).ending;
        assert!(ending.starts_with(&format!("refused by Mainstay as {rule}: ")), "{request:?}: {ending}");
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.seen());
    assert_eq!(rig.get("/").text(), "smuggled", "a good request is served");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.server("a").failed()), (0, 0));
    assert_eq!(told.traffic.refusals, expected);
}

#[test]
fn what_only_looks_strange_is_served_and_framed_anew() {
    let origin = Origin::of("fine");
    let rig = Rig::new(table(&[origin.address]));
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t5  \r\n\r\nhello",
        "\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent_Length: 500\r\n\r\nhello",
    ] {
        let mut wire = rig.connect();
        wire.send(format!("{request}{}", get("/next")));
        assert_eq!(wire.answer().unwrap().text(), "fine", "{request:?}");
        assert_eq!(wire.answer().unwrap().text(), "fine", "{request:?}");
    }
    let seen = origin.seen();
    assert_eq!(seen.len(), 8);
    for (post, next) in seen.iter().zip(&seen[1..]).step_by(2) {
        assert_eq!((post.body.as_slice(), next.path()), (&b"hello"[..], "/next"));
        let framings = post.all("content-length").len() + post.all("transfer-encoding").len();
        assert_eq!((framings, post.all("content_length").len()), (1, 0));
    }
}

/// The lines of a request in HTTP/2, in place of `POST http://a/` where they say something else.
const HTTP2: &[&[(&str, &str)]] = &[
    // Lines that would become more than one.
    &[("x", "y\r\ntransfer-encoding: chunked")],
    &[("x", "y\r\n\r\nGET /smuggled HTTP/1.1")],
    &[("x", "y\ntransfer-encoding: chunked")],
    &[("x", "y\rtransfer-encoding: chunked")],
    &[("x", "y\0z")],
    &[("x: y\r\ntransfer-encoding", "chunked")],
    &[("x\ny", "z")],
    // Names that HTTP/1 would read as others.
    &[("transfer-encoding: chunked\r\nx", "y")],
    &[("transfer-encoding:chunked", "")],
    &[("transfer-encoding ", "chunked")],
    &[(" transfer-encoding", "chunked")],
    &[("x:y", "z")],
    &[("", "y")],
    &[("Transfer-Encoding", "chunked")],
    // Request lines that would have more parts, or end sooner.
    &[(":method", "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\nPOST")],
    &[(":method", "GET /smuggled")],
    &[(":method", "")],
    &[(":path", "/smuggled HTTP/1.1\r\nhost: a\r\n\r\nGET /")],
    &[(":path", "/ HTTP/1.1")],
    &[(":path", "/\r\nx: y")],
    &[(":path", "/\0")],
    &[(":path", "smuggled")],
    &[(":path", "")],
    &[(":path", "*")],
    // Hosts that are none, or two.
    &[(":authority", "a\r\nx: y")],
    &[(":authority", "a b")],
    &[(":authority", "a/smuggled")],
    &[(":authority", "b@a")],
    &[(":authority", "a, b")],
    &[(":authority", "")],
    &[("host", "b")],
    &[("host", "a\r\nx: y")],
    // Lengths.
    &[("content-length", "3")],
    &[("content-length", "35"), ("content-length", "0")],
    &[("content-length", "0"), ("content-length", "35")],
    &[("content-length", "35"), ("content-length", "35")],
    &[("content-length", "35, 35")],
    &[("content-length", "+35")],
    &[("content-length", "0x23")],
    &[("content-length", "")],
    &[("content-length", "18446744073709551651")],
    &[("transfer-encoding", "chunked")],
    &[("transfer-encoding", "identity")],
    &[("content-length", "35"), ("transfer-encoding", "chunked")],
];

/// A head of HTTP/2 with these lines.
fn http2(lines: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let of = |name: &str, usual| lines.iter().find(|(n, _)| *n == name).map_or(usual, |(_, value)| *value);
    let mut block: Vec<u8> = pseudo.iter().flat_map(|(name, usual)| header(name, of(name, usual))).collect();
    let others = lines.iter().filter(|(name, _)| !pseudo.iter().any(|(pseudo, _)| pseudo == name));
    block.extend(others.flat_map(|(name, value)| header(name, value)));
    block
}

/// Sends a request with such a head and what would be smuggled as its body. Whether it was answered as one that is good.
fn is_good(rig: &Rig, lines: &[(&str, &str)]) -> bool {
    /// `:status: 200`, the first line of an answer.
    const OK: u8 = 0x88;
    let mut client = Client::greeted(rig);
    client.send(&frame(HEADERS_FRAME, END_HEADERS, 1, &http2(lines)));
    client.send(&frame(DATA, END_STREAM, 1, SMUGGLED.as_bytes()));
    let end = client.next_of(&[HEADERS_FRAME, RST_STREAM, GOAWAY]).expect("an answer or an end");
    end.kind == HEADERS_FRAME && end.payload[0] == OK
}

#[test]
fn nothing_in_a_request_of_http_2_becomes_another_request_or_another_framing() {
    assert_eq!(SMUGGLED.len(), 35, "which the lengths above speak of");
    let origin = Origin::of("fine");
    let rig = Rig::new(table(&[origin.address]));
    for lines in HTTP2 {
        assert!(!is_good(&rig, lines), "{lines:?}");
        assert_eq!(origin.count(), 0, "{lines:?}: {:?}", origin.seen());
    }
    // One that ends with its head may be there before it turns out that it has a body.
    is_good(&rig, &[("content-length", "0")]);
    // A good one behind all of them: whatever had come through would be in front of it.
    assert_eq!(rig.get("/good").text(), "fine");
    let (good, before) =
        origin.seen().split_last().map(|(good, before)| (good.clone(), before.to_vec())).unwrap();
    assert_eq!(good.line, "GET /good HTTP/1.1");
    let is_empty = |seen: &Seen| seen.line == "POST / HTTP/1.1" && seen.body.is_empty();
    assert!(before.len() <= 1 && before.iter().all(is_empty), "{before:?}");
}

#[test]
fn what_only_looks_strange_in_http_2_is_one_request_with_its_body() {
    let origin = Origin::of("fine");
    let rig = Rig::new(table(&[origin.address]));
    let strange: &[&[(&str, &str)]] = &[
        &[],
        &[("content_length", "0")],
        &[("content-length", "35"), ("transfer_encoding", "chunked")],
        &[("x", "GET /smuggled HTTP/1.1")],
        &[("host", "A")],
    ];
    for lines in strange {
        assert!(is_good(&rig, lines), "{lines:?}");
    }
    let seen = origin.seen();
    assert_eq!(seen.len(), strange.len(), "{seen:?}");
    for request in seen {
        assert_eq!(
            (request.line.as_str(), request.body.as_slice()),
            ("POST / HTTP/1.1", SMUGGLED.as_bytes())
        );
        let framings = request.all("content-length").len() + request.all("transfer-encoding").len();
        let others = request.all("content_length").len() + request.all("transfer_encoding").len();
        assert_eq!((framings, others), (1, 0), "{request:?}");
    }
}
