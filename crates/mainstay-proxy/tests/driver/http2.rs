//! HTTP/2 with clients: streams that share a connection, bodies, trailers, tunnels, and ends of every kind.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::support::{Gate, Origin, PATIENCE, Refusing, Rig, Then, carriage, eventually, ok, table};
use crate::tls::SecureRig;

/// An answer as a client of HTTP/2 sees it.
#[derive(Debug)]
pub struct Got {
    pub head: Response<()>,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Got {
    pub fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads all that is left of an answer.
pub async fn whole(answer: Response<RecvStream>) -> Result<Got, h2::Error> {
    let (parts, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Got { head: Response::from_parts(parts, ()), body, trailers })
}

/// Asks without a body.
pub async fn get(client: &SendRequest<Bytes>, path: &str) -> Result<Got, h2::Error> {
    let request = Request::get(format!("https://shop.example{path}")).body(()).unwrap();
    let (answer, _) = client.clone().ready().await?.send_request(request, true)?;
    whole(answer.await?).await
}

/// Sends a body as the other side's windows allow, and then trailers if there are some.
pub async fn send_all(stream: &mut h2::SendStream<Bytes>, body: &[u8]) -> Result<(), h2::Error> {
    let mut rest = body;
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let n = match stream.capacity() {
            0 => match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? {
                Some(_) => continue,
                // The answer was there before all was sent.
                None => return Ok(()),
            },
            n => n.min(rest.len()),
        };
        stream.send_data(Bytes::copy_from_slice(&rest[..n]), false)?;
        rest = &rest[n..];
    }
    Ok(())
}

/// Sends a body and reads the answer.
pub async fn post(client: &SendRequest<Bytes>, path: &str, body: &[u8]) -> Result<Got, h2::Error> {
    let request = Request::post(format!("https://shop.example{path}")).body(()).unwrap();
    let (answer, mut stream) = client.clone().ready().await?.send_request(request, false)?;
    let sending = async {
        send_all(&mut stream, body).await?;
        stream.send_data(Bytes::new(), true)
    };
    // Who answers early does not want the rest.
    let (_, answer) = tokio::join!(sending, answer);
    whole(answer?).await
}

/// Runs a client in the clear, which knows that HTTP/2 is spoken.
pub fn with_plain_client<F: Future>(
    address: SocketAddr,
    run: impl FnOnce(SendRequest<Bytes>) -> F,
) -> F::Output {
    run_client(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = builder().handshake(stream).await.unwrap();
        tokio::spawn(async move { connection.await.unwrap_or(()) });
        run(client).await
    })
}

/// Runs a client over TLS.
pub fn with_client<F: Future>(secure: &SecureRig, run: impl FnOnce(SendRequest<Bytes>) -> F) -> F::Output {
    let address = secure.rig.addresses()[1];
    let config = secure.identity.client(&[b"h2"]);
    run_client(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("shop.example").unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (client, connection) = builder().handshake(stream).await.unwrap();
        tokio::spawn(async move { connection.await.unwrap_or(()) });
        run(client).await
    })
}

/// One stream that is not read does not take the others' window away.
fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    builder
}

fn run_client<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, run).await.expect("in time") })
}

fn rig(origins: &[SocketAddr]) -> SecureRig {
    SecureRig::new(table(origins), &[b"h2", b"http/1.1"])
}

#[test]
fn streams_share_a_connection_and_are_requests_of_http_1_to_servers() {
    let origin = Origin::start(|request, wire| {
        wire.send(ok(request.path()));
        Then::Continue
    });
    let secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        let asks = (0..20).map(|n| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, &format!("/{n}")).await.unwrap() })
        });
        for (n, asked) in asks.collect::<Vec<_>>().into_iter().enumerate() {
            let got = asked.await.unwrap();
            assert_eq!((got.status(), got.text()), (200, format!("/{n}")));
        }
        let request = Request::get("https://shop.example/cookies")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "10.1.1.1")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (answer, _) = client.clone().send_request(request, true).unwrap();
        whole(answer.await.unwrap()).await.unwrap();
    });
    let seen = origin.seen();
    let last = seen.last().unwrap();
    assert_eq!(last.line, "GET /cookies HTTP/1.1");
    assert_eq!((last.all("host"), last.all("cookie")), (vec!["shop.example"], vec!["a=1; b=2"]));
    assert_eq!(last.all("x-forwarded-proto"), ["https"]);
    assert_eq!(last.all("x-forwarded-for"), ["10.1.1.1, 127.0.0.1"]);
    assert!(last.all("te").is_empty() && last.all("transfer-encoding").is_empty());
    let (cut, told) = secure.rig.finish(PATIENCE);
    assert_eq!((cut, told.service().requests, told.service().failed), (0, 21, 0));
    assert_eq!(told.server("a").in_flight, 0);
}

#[test]
fn bodies_of_every_framing_go_both_ways_unchanged() {
    let origin = Origin::start(|request, wire| {
        match request.path() {
            "/chunked" => {
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for chunk in request.body.chunks(30_011) {
                    wire.send(format!("{:X};ext=1\r\n", chunk.len()));
                    wire.send(chunk);
                    wire.send("\r\n");
                }
                wire.send("0\r\n\r\n");
            }
            "/close" => {
                wire.send("HTTP/1.1 200 OK\r\n\r\n");
                wire.send(&request.body);
                return Then::Close;
            }
            _ => wire.send(ok(&request.body)),
        }
        Then::Continue
    });
    let secure = rig(&[origin.address]);
    let body: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
    with_client(&secure, async |client| {
        for path in ["/length", "/chunked", "/close"] {
            let got = post(&client, path, &body).await.unwrap();
            assert!(got.status() == 200 && got.body == body, "{path}");
        }
        assert!(post(&client, "/chunked", b"").await.unwrap().body.is_empty());
        assert!(post(&client, "/length", b"").await.unwrap().body.is_empty());
    });
    assert_eq!(origin.seen()[0].all("transfer-encoding"), ["chunked"]);
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let origin = Origin::start(|request, wire| {
        wire.send(match request.path() {
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            _ => "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
        });
        Then::Continue
    });
    let secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        for (method, path, status) in [("HEAD", "/head", 200), ("GET", "/204", 204), ("GET", "/304", 304)] {
            let request = Request::builder().method(method).uri(format!("https://a{path}")).body(()).unwrap();
            let (answer, _) = client.clone().ready().await.unwrap().send_request(request, true).unwrap();
            let got = whole(answer.await.unwrap()).await.unwrap();
            assert_eq!((got.status(), got.body.len()), (status, 0), "{path}");
        }
    });
}

#[test]
fn trailers_and_interim_answers_are_passed_on() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n");
        wire.send("grpc-status: 0\r\nContent-Length: 9\r\n\r\n");
        Then::Continue
    });
    let secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        let request = Request::get("https://shop.example/").body(()).unwrap();
        let (mut answer, _) = client.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let hints = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.expect("hints").unwrap();
        assert_eq!((hints.status().as_u16(), &hints.headers()["link"]), (103, &"</a>".parse().unwrap()));
        let got = whole(answer.await.unwrap()).await.unwrap();
        let trailers = got.trailers.clone().expect("trailers");
        assert_eq!(
            (got.text().as_str(), trailers.len(), &trailers["grpc-status"]),
            ("abc", 1, &"0".parse().unwrap())
        );
    });
}

#[test]
fn a_slow_reader_holds_up_its_server_and_nobody_else() {
    let written = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&written);
    let origin = Origin::start(move |request, wire| {
        if request.path() != "/large" {
            wire.send(ok("small"));
            return Then::Continue;
        }
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 256 << 20));
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..(256 << 20) / piece.len() {
            if wire.stream.write_all(&piece).is_err() {
                break;
            }
            counting.fetch_add(piece.len(), Ordering::SeqCst);
        }
        Then::Close
    });
    let secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        let request = Request::get("https://shop.example/large").body(()).unwrap();
        let (answer, _) = client.clone().send_request(request, true).unwrap();
        let slow = answer.await.unwrap();
        for _ in 0..50 {
            assert_eq!(get(&client, "/small").await.unwrap().text(), "small");
        }
        // What the kernel's buffers between server and Mainstay hold, and one window.
        assert!(written.load(Ordering::SeqCst) < 64 << 20);
        drop(slow);
    });
}

#[test]
fn a_websocket_is_a_stream_among_others() {
    let origin = Origin::start(|request, wire| {
        assert_eq!(
            (request.all("upgrade"), request.all("sec-websocket-key")[0].len()),
            (vec!["websocket"], 24)
        );
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nfirst");
        let bytes = wire.exactly(1000).unwrap();
        wire.send(bytes);
        assert!(wire.rest().unwrap().is_empty());
        wire.send("last");
        Then::Close
    });
    let secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri("https://shop.example/chat")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, mut stream) = client.clone().send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        assert!(!answer.headers().contains_key("sec-websocket-accept"));
        send_all(&mut stream, &[b'x'; 1000]).await.unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
        let got = whole(answer).await.unwrap();
        assert_eq!(got.body, [&b"first"[..], &[b'x'; 1000], b"last"].concat());
    });
    let (_, told) = secure.rig.finish(PATIENCE);
    assert_eq!((told.server("a").ok, told.server("a").in_flight, told.service().requests), (1, 0, 1));
}

#[test]
fn a_websocket_whose_client_speaks_first_is_heard() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        for _ in 0..3 {
            let bytes = wire.exactly(4).unwrap();
            wire.send(bytes);
        }
        Then::Close
    });
    let secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        let request = Request::builder().method(Method::CONNECT).uri("https://shop.example/chat");
        let mut request = request.body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, mut stream) = client.clone().send_request(request, false).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        for word in [&b"ping"[..], b"pong", b"pang"] {
            stream.send_data(Bytes::from_static(word), false).unwrap();
            let back = tokio::time::timeout(PATIENCE, answer.data()).await.expect("it comes back at once");
            assert_eq!(back.unwrap().unwrap(), word);
        }
    });
}

#[test]
fn an_answer_that_is_cut_short_is_a_reset_stream_and_the_others_go_on() {
    let origin = Origin::start(|request, wire| {
        match request.path() {
            "/cut" => wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
            _ => wire.send(ok("whole")),
        }
        Then::Close
    });
    let secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        let error = get(&client, "/cut").await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        assert_eq!(get(&client, "/").await.unwrap().text(), "whole");
    });
}

#[test]
fn a_post_goes_to_another_server_when_nothing_of_it_was_sent() {
    let (refusing, origin) = (Refusing::new(), Origin::of("taken"));
    let secure = rig(&[refusing.address, origin.address]);
    with_client(&secure, async |client| {
        for _ in 0..2 {
            assert_eq!(post(&client, "/", &[b'x'; 200_000]).await.unwrap().text(), "taken");
        }
    });
}

#[test]
fn pages_of_mainstays_own_and_refusals_are_answers_like_any_other() {
    let refusing = Refusing::new();
    let secure = rig(&[refusing.address]);
    with_client(&secure, async |client| {
        let got = get(&client, "/").await.unwrap();
        assert_eq!((got.status(), &got.head.headers()["retry-after"]), (503, &"2".parse().unwrap()));
        assert!(!got.head.headers().contains_key("connection"));
        let request = Request::get("https://shop.example/").header("host", "other.example").body(()).unwrap();
        let (answer, _) = client.clone().send_request(request, true).unwrap();
        let got = whole(answer.await.unwrap()).await.unwrap();
        assert_eq!(got.status(), 400);
        let request = Request::builder().method(Method::CONNECT).uri("shop.example:443").body(()).unwrap();
        let (answer, _) = client.clone().send_request(request, false).unwrap();
        assert_eq!(whole(answer.await.unwrap()).await.unwrap().status(), 405);
        assert_eq!(get(&client, "/").await.unwrap().status(), 503, "the connection goes on");
    });
}

#[test]
fn who_resets_a_stream_has_gone_away() {
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |_, wire| {
        inner.wait();
        wire.send(ok("late"));
        Then::Continue
    });
    let mut secure = rig(&[origin.address]);
    with_client(&secure, async |client| {
        let request = Request::get("https://shop.example/").body(()).unwrap();
        let (answer, mut stream) = client.clone().send_request(request, true).unwrap();
        let waiting = tokio::time::timeout(PATIENCE, async {
            while origin.count() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waiting.await.unwrap();
        stream.send_reset(Reason::CANCEL);
        assert!(answer.await.is_err());
        // Given time to arrive.
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    eventually("it is counted", || secure.rig.told().service().abandoned == 1);
    gate.open();
}

#[test]
fn draining_lets_streams_finish_and_takes_no_more() {
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |_, wire| {
        inner.wait();
        wire.send(ok("done"));
        Then::Continue
    });
    let secure = rig(&[origin.address]);
    let address = secure.rig.addresses()[0];
    let rig = secure.rig;
    with_plain_client(address, async |client| {
        let request = Request::get("http://shop.example/").body(()).unwrap();
        let (answer, _) = client.clone().send_request(request, true).unwrap();
        while origin.count() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let draining = tokio::task::spawn_blocking(move || rig.finish(PATIENCE));
        let refused = async {
            // The client hears of it with the GOAWAY.
            while client.clone().ready().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        refused.await;
        gate.open();
        assert_eq!(whole(answer.await.unwrap()).await.unwrap().text(), "done");
        drop(client);
        let (cut, told) = draining.await.unwrap();
        assert_eq!((cut, told.service().requests, told.service().failed), (0, 1, 0));
    });
}

#[test]
fn a_connection_that_has_carried_as_many_requests_as_it_may_is_told_to_go() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.clients.requests_per_connection = 3);
    with_plain_client(rig.address(), async |client| {
        for _ in 0..3 {
            assert_eq!(get(&client, "/").await.unwrap().text(), "hello");
        }
        let over = async {
            while client.clone().ready().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, over).await.expect("it is told");
    });
    assert_eq!(origin.count(), 3);
}

#[test]
fn http_2_is_spoken_in_the_clear_with_who_begins_with_it() {
    let origin = Origin::start(|request, wire| {
        wire.send(ok(request.all("x-forwarded-proto")[0]));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    with_plain_client(rig.address(), async |client| {
        assert_eq!(get(&client, "/").await.unwrap().text(), "http");
    });
    assert_eq!(rig.get("/").text(), "http", "and HTTP/1 with everybody else");
}

#[test]
fn a_connection_without_a_request_is_let_go() {
    let origin = Origin::of("hello");
    let rig =
        Rig::with(table(&[origin.address]), |settings| settings.client_idle = Duration::from_millis(100));
    with_plain_client(rig.address(), async |client| {
        get(&client, "/").await.unwrap();
        while client.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let (cut, _) = rig.finish(PATIENCE);
    assert_eq!(cut, 0);
}

#[test]
fn a_body_over_the_services_limit_is_refused_on_its_stream_alone() {
    let origin = Origin::of("hello");
    let mut table = table(&[origin.address]);
    let limits =
        mainstay_model::limits::Limits { body_max: Some(1000), ..mainstay_model::limits::Limits::NONE };
    carriage(&mut table).limits = Arc::new(limits);
    let secure = SecureRig::new(table, &[b"h2"]);
    with_client(&secure, async |client| {
        let got = post(&client, "/", &[b'x'; 100_000]).await;
        assert!(got.is_err() || got.is_ok_and(|got| got.status() == 413));
        assert_eq!(get(&client, "/").await.unwrap().text(), "hello");
    });
}
