//! A corpus of requests that two programs could read differently, each followed by one that would be smuggled: refused by its
//! name, counted, the connection closed, and not a whole request at the server.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Shutdown;

use crate::support::{Origin, PATIENCE, Rig, get, table};

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
