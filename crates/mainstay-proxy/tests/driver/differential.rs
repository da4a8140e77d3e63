//! The codec against hyper's parser, on generated messages: what the codec accepts, another reader frames in the same way, as it
//! came and as it is passed on.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_proxy::codec::rewrite::{Edits, Origin, write_request};
use mainstay_proxy::codec::{BodyLength, ChunkedDecoder, HeaderSlots, chunked, parse_request};
use tokio::io::AsyncWriteExt as _;

/// A request as a reader framed it: method and body.
type Framed = (String, Vec<u8>);

/// What the codec makes of bytes: the requests until the first that it refuses or that is not whole, and what it would pass on.
fn ours(mut bytes: &[u8]) -> (Vec<Framed>, Vec<u8>) {
    let (mut framed, mut passed_on) = (Vec::new(), Vec::new());
    loop {
        let mut slots = HeaderSlots::default();
        let Ok(Some(head)) = parse_request(bytes, &mut slots) else { return (framed, passed_on) };
        let (mut body, mut rest) = (Vec::new(), &bytes[head.length..]);
        match head.body {
            BodyLength::None => {}
            BodyLength::Length(n) => {
                let Some((whole, after)) = rest.split_at_checked(n.min(1 << 30) as usize) else {
                    return (framed, passed_on);
                };
                body.extend_from_slice(whole);
                rest = after;
            }
            BodyLength::Chunked => {
                let mut decoder = ChunkedDecoder::new();
                while !decoder.is_done() {
                    match decoder.decode(rest) {
                        Ok(decoded) if decoded.consumed > 0 => {
                            body.extend_from_slice(decoded.data);
                            rest = &rest[decoded.consumed..];
                        }
                        _ => return (framed, passed_on),
                    }
                }
            }
            BodyLength::UntilClose => panic!("no request ends with its connection"),
        }
        let origin = ORIGIN;
        write_request(&head, &origin, &Edits::default(), &mut passed_on);
        match head.body {
            BodyLength::Chunked => {
                chunked::encode_chunk(&body, &mut passed_on);
                chunked::encode_end(b"", &mut passed_on);
            }
            _ => passed_on.extend_from_slice(&body),
        }
        framed.push((head.method.to_owned(), body));
        if !head.keep_alive {
            return (framed, passed_on);
        }
        bytes = rest;
    }
}

/// What hyper makes of bytes: the requests that it read whole.
async fn theirs(bytes: &[u8]) -> Vec<Framed> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.expect("it fits");
    client.shutdown().await.expect("it ends");
    let framed: Arc<Mutex<Vec<Framed>>> = Arc::default();
    let seen = Arc::clone(&framed);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let method = request.method().to_string();
            if let Ok(body) = request.into_body().collect().await {
                seen.lock().unwrap().push((method, body.to_bytes().to_vec()));
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    // An error is a refusal, which ends the connection there as here.
    let _ = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(server), service)
        .await;
    std::mem::take(&mut *framed.lock().unwrap())
}

/// A message out of good and bad pieces; most are nearly right.
fn message(rng: &mut fastrand::Rng) -> Vec<u8> {
    fn pick<'a>(rng: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
        from[rng.usize(..from.len())]
    }
    let mut out = Vec::new();
    for _ in 0..rng.usize(1..4) {
        let line = pick(
            rng,
            &[
                "GET / HTTP/1.1",
                "POST /a HTTP/1.1",
                "PUT /b HTTP/1.1",
                "POST /c HTTP/1.0",
                "HEAD / HTTP/1.1",
                "OPTIONS * HTTP/1.1",
                "POST http://a/x HTTP/1.1",
                "DELETE /d HTTP/1.1",
                "get / HTTP/1.1",
                "POST  / HTTP/1.1",
                "POST / HTTP/1.1 ",
            ],
        );
        let eol =
            if rng.usize(..12) == 0 { pick(rng, &["\n", "\r", "\r\r\n", "\0\r\n", " \r\n"]) } else { "\r\n" };
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(eol.as_bytes());
        out.extend_from_slice(b"Host: a\r\n");
        for _ in 0..rng.usize(..4) {
            let header = pick(
                rng,
                &[
                    "Content-Length: 5",
                    "Content-Length: 5",
                    "Content-Length: 0",
                    "Content-Length: 05",
                    "Content-Length: 5,5",
                    "Content-Length: +5",
                    "content-length:5",
                    "Content-Length:  5 ",
                    "Content-Length: 3",
                    "Transfer-Encoding: chunked",
                    "Transfer-Encoding: chunked",
                    "transfer-encoding: Chunked",
                    "Transfer-Encoding: gzip, chunked",
                    "Transfer-Encoding: identity",
                    "Transfer-Encoding:chunked ",
                    "Transfer-Encoding : chunked",
                    "X: y",
                    "X:",
                    "X: a, b",
                    " folded",
                    "Connection: close",
                    "Connection: keep-alive",
                    "Expect: 100-continue",
                    "Host: b",
                    "Content_Length: 9",
                    "Upgrade: h2c",
                    "Connection: Content-Length",
                    "Connection: Transfer-Encoding",
                    "Trailer: Content-Length",
                ],
            );
            let eol = if rng.usize(..16) == 0 { pick(rng, &["\n", "\r", "\0\r\n"]) } else { "\r\n" };
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(eol.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(
            pick(
                rng,
                &[
                    "",
                    "hello",
                    "hel",
                    "5\r\nhello\r\n0\r\n\r\n",
                    "5;a=b\r\nhello\r\n0\r\n\r\n",
                    "0\r\n\r\n",
                    "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
                    "00005\r\nhello\r\n0\r\n\r\n",
                    "5\nhello\r\n0\r\n\r\n",
                    "5 \r\nhello\r\n0\r\n\r\n",
                    "5\r\nhello0\r\n\r\n",
                    "\r\n",
                    "2\r\nhe\r\n3\r\nllo\r\n00\r\n\r\n",
                    "A\r\n0123456789\r\n0\r\n\r\n",
                ],
            )
            .as_bytes(),
        );
    }
    if rng.usize(..8) == 0 {
        let at = rng.usize(..out.len());
        out[at] = *b"\r\n\0 :\t0x,".get(rng.usize(..9)).unwrap_or(&0);
    }
    out
}

const ORIGIN: Origin<'_> = Origin {
    unsaid: false,
    address: "192.0.2.1",
    node: "192.0.2.1",
    scheme: "http",
    own_host: "192.0.2.2",
    request_id: b"made",
};

#[test]
fn what_is_accepted_is_framed_alike_by_another_reader_as_it_came_and_as_it_is_passed_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut rng = fastrand::Rng::with_seed(20_261_122);
    let (mut accepted, mut compared) = (0, 0);
    for _ in 0..20_000 {
        let bytes = message(&mut rng);
        let text = || bytes.escape_ascii().to_string();
        let (framed, passed_on) = ours(&bytes);
        let other = runtime.block_on(theirs(&bytes));
        accepted += framed.len();
        for (a, b) in framed.iter().zip(&other) {
            compared += 1;
            assert_eq!(a, b, "framed differently: {}", text());
        }
        let read = runtime.block_on(theirs(&passed_on));
        assert_eq!(framed, read, "passed on as something else: {}", text());
    }
    assert!(accepted > 5000 && compared > 4000, "{accepted} accepted, {compared} compared");
}
