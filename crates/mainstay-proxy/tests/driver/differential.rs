//! The codec against hyper's parser, on generated messages: what the codec accepts, another reader frames in the same way, as it
//! came and as it is passed on.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_proxy::codec::rewrite::{Edits, Origin, write_request};
use mainstay_proxy::codec::{
    BodyLength, ChunkedDecoder, HeaderSlots, chunked, parse_request, parse_response,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A request as a reader understood it.
#[derive(Debug, PartialEq, Eq)]
struct Framed {
    method: String,
    target: String,
    host: Option<String>,
    body: Vec<u8>,
}

/// What a reader calls the path and query, with the path that an absolute form may leave out.
fn target(read: &str) -> String {
    if read.starts_with(['/', '*']) { read.to_owned() } else { format!("/{read}") }
}

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
        framed.push(Framed {
            method: head.method.to_owned(),
            target: target(head.target),
            host: head.host.map(str::to_owned),
            body,
        });
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
            let (head, body) = request.into_parts();
            let host = head.headers.get("host").map(|host| host.to_str().expect("text").to_owned());
            let (method, uri) = (head.method.to_string(), head.uri);
            let target = target(uri.path_and_query().map_or("", |target| target.as_str()));
            if let Ok(body) = body.collect().await {
                let body = body.to_bytes().to_vec();
                seen.lock().unwrap().push(Framed { method, target, host, body });
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

fn pick<'a>(rng: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

/// A message out of good and bad pieces; most are nearly right.
fn message(rng: &mut fastrand::Rng) -> Vec<u8> {
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
                "POST http://a/x?y=/z HTTP/1.1",
                "PUT http://a HTTP/1.1",
                "GET http://a?q HTTP/1.1",
                "GET http://b/ HTTP/1.1",
                "GET /x?y=http://b/ HTTP/1.1",
                "GET //b/x HTTP/1.1",
                "GET /a%20b;c HTTP/1.1",
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

/// Who named no host, as HTTP/1.0 allows, is passed on with Mainstay's own.
fn with_host(framed: Framed) -> Framed {
    let host = framed.host.or_else(|| Some(ORIGIN.own_host.to_owned()));
    Framed { host, ..framed }
}

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
        let framed: Vec<Framed> = framed.into_iter().map(with_host).collect();
        assert_eq!(framed, read, "passed on as something else: {}", text());
    }
    assert!(accepted > 5000 && compared > 4000, "{accepted} accepted, {compared} compared");
}

/// An answer as a reader understood it: its status and its body.
type Answered = (u16, Vec<u8>);

/// What the codec makes of an answer that is followed by the connection's end; `None` when it refuses it or it is not whole.
fn our_answer(bytes: &[u8], to_head: bool) -> Option<Answered> {
    let mut rest = bytes;
    loop {
        let mut slots = HeaderSlots::default();
        let head = parse_response(rest, to_head, &mut slots).ok()??;
        rest = &rest[head.length..];
        if (100..200).contains(&head.status) && head.status != 101 {
            continue;
        }
        let body = match head.body {
            BodyLength::None => Vec::new(),
            BodyLength::Length(n) => rest.get(..usize::try_from(n).ok()?)?.to_vec(),
            BodyLength::UntilClose => rest.to_vec(),
            BodyLength::Chunked => {
                let (mut decoder, mut body) = (ChunkedDecoder::new(), Vec::new());
                while !decoder.is_done() {
                    let decoded = decoder.decode(rest).ok().filter(|decoded| decoded.consumed > 0)?;
                    body.extend_from_slice(decoded.data);
                    rest = &rest[decoded.consumed..];
                }
                body
            }
        };
        return Some((head.status, body));
    }
}

/// What hyper makes of it.
async fn their_answer(bytes: &[u8], to_head: bool) -> Option<Answered> {
    let (client, mut server) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.expect("ready");
    let answering = async move {
        // An answer that is there before its request is an error.
        let mut request = [0; 1024];
        assert_ne!(server.read(&mut request).await.expect("a request"), 0);
        server.write_all(bytes).await.expect("it fits");
    };
    let asking = async move {
        let method = if to_head { "HEAD" } else { "GET" };
        let request =
            hyper::Request::builder().method(method).header("host", "a").uri("/").body(Empty::new());
        let answer = sender.send_request(request.expect("a request")).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes().to_vec();
        Some((status, body))
    };
    // What comes behind an answer that is whole is an error of the connection, and none of the answer.
    let (answered, _, ()) = tokio::join!(asking, connection, answering);
    answered
}

/// An answer out of good and bad pieces; most are nearly right.
fn answer(rng: &mut fastrand::Rng) -> Vec<u8> {
    const LINES: &[&str] = &[
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 ",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 304 Not Modified",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 503",
        "HTTP/1.1  200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1 20 OK",
    ];
    const HEADERS: &[&str] = &[
        "Content-Length: 5",
        "Content-Length: 5",
        "Content-Length: 3",
        "Content-Length: 0",
        "Content-Length: 05",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: -1",
        "content-length:5 ",
        "Content_Length: 9",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked",
        "transfer-encoding: Chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: Content-Length",
        "Keep-Alive: timeout=5",
        "X: y",
        "X:",
        " folded",
    ];
    const BODIES: &[&str] = &[
        "",
        "hello",
        "hel",
        "hello, and more",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n00\r\n\r\n",
    ];
    let mut out = Vec::new();
    if rng.usize(..8) == 0 {
        out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    }
    let mut line = |text: &str, rng: &mut fastrand::Rng| {
        out.extend_from_slice(text.as_bytes());
        let eol = if rng.usize(..16) == 0 { pick(rng, &["\n", "\r", "\0\r\n"]) } else { "\r\n" };
        out.extend_from_slice(eol.as_bytes());
    };
    line(pick(rng, LINES), rng);
    for _ in 0..rng.usize(..4) {
        line(pick(rng, HEADERS), rng);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(pick(rng, BODIES).as_bytes());
    out
}

#[test]
fn an_answer_that_is_accepted_is_framed_alike_by_another_reader() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut rng = fastrand::Rng::with_seed(20_261_123);
    let (mut accepted, mut compared) = (0, 0);
    for n in 0..20_000 {
        let (bytes, to_head) = (answer(&mut rng), n % 8 == 0);
        let Some(ours) = our_answer(&bytes, to_head) else { continue };
        accepted += 1;
        let Some(theirs) = runtime.block_on(their_answer(&bytes, to_head)) else { continue };
        compared += 1;
        assert_eq!(ours, theirs, "framed differently: {}", bytes.escape_ascii());
    }
    assert!(accepted > 5000 && compared > 4000, "{accepted} accepted, {compared} compared");
}
