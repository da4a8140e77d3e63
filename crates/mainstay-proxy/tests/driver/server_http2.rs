//! HTTP/2 to servers, as gRPC needs it: trailers both ways, streams both ways at once, few connections, and refusals that prove that
//! a request was not looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use mainstay_model::input::FailureKind;
use mainstay_model::policy::Protocol;
use mainstay_model::routing::RoutingTable;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::floods::frame;
use crate::http2::{send_all, whole, with_plain_client};
use crate::server_tls::speaks;
use crate::support::{PATIENCE, Rig, carriage, eventually, get, table};
use crate::tls::Identity;

/// What a server of HTTP/2 does with a connection before it serves requests.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// Requests at a time.
    streams: Option<u32>,
    /// After so many requests it says GOAWAY; those above are not looked at.
    goaway_after: Option<usize>,
    /// The first connection ends with GOAWAY once a request with a body has come, before it is looked at.
    goaway_first: bool,
}

/// A server of HTTP/2 whose every answer is the test's own.
struct Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

impl Origin {
    fn start<F>(handle: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(Manners::default(), None, handle)
    }

    fn with<F>(
        manners: Manners,
        tls: Option<Arc<ServerConfig>>,
        handle: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (made, asked) = (Arc::clone(&connections), Arc::clone(&requests));
        let handle = Arc::new(handle);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if made.fetch_add(1, Ordering::SeqCst) == 0 && manners.goaway_first {
                    tokio::spawn(go_away(stream));
                    continue;
                }
                let (tls, handle, asked) = (tls.clone(), Arc::clone(&handle), Arc::clone(&asked));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, manners, &*handle, &asked).await,
                        Some(config) => {
                            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                                serve(stream, manners, &*handle, &asked).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, connections, requests, _runtime: runtime }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    manners: Manners,
    handle: &(impl Fn(Asked) -> F + Send + Sync),
    requests: &AtomicUsize,
) {
    let mut builder = h2::server::Builder::new();
    if let Some(streams) = manners.streams {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut served = 0;
    while let Some(Ok(asked)) = connection.accept().await {
        served += 1;
        requests.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(handle(asked));
        if manners.goaway_after == Some(served) {
            connection.graceful_shutdown();
        }
    }
}

/// Takes a request and says that it has not looked at it.
async fn go_away(mut stream: tokio::net::TcpStream) {
    let settings = frame(4, 0, 0, &[]);
    stream.write_all(&settings).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(8).any(|bytes| bytes == b"an order") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
    }
    // The last stream is 0, and there was no error.
    stream.write_all(&frame(7, 0, 0, &[0; 8])).await.unwrap();
    while stream.read_buf(&mut seen).await.is_ok_and(|n| n > 0) {}
}

/// Servers of HTTP/2.
fn http2_table(addresses: &[SocketAddr]) -> RoutingTable {
    let mut table = table(addresses);
    carriage(&mut table).protocol = Protocol::Http2;
    table
}

fn answer(respond: &mut SendResponse<Bytes>, body: &str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
}

fn grpc(path: &str) -> Request<()> {
    Request::post(format!("http://shop.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

fn trailer(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

#[test]
fn trailers_arrive_both_ways_and_both_sides_may_speak_at_once() {
    let origin = Origin::start(async |(request, mut respond): Asked| {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/shop.Orders/Chat"));
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        let mut body = request.into_body();
        // Each message is answered before the next one comes.
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        let sent = body.trailers().await.unwrap().expect("trailers of the request");
        assert_eq!(sent["x-sum"], "6");
        stream.send_trailers(trailer("grpc-status", "0")).unwrap();
    });
    let rig = Rig::new(http2_table(&[origin.address]));
    with_plain_client(rig.address(), async |client| {
        let (answer, mut stream) =
            client.clone().ready().await.unwrap().send_request(grpc("/shop.Orders/Chat"), false).unwrap();
        stream.send_data(Bytes::from_static(b"one"), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let mut body = answer.into_body();
        for message in ["one", "two", "three"] {
            let data = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            assert_eq!(data, message);
            match message {
                "one" => stream.send_data(Bytes::from_static(b"two"), false).unwrap(),
                "two" => stream.send_data(Bytes::from_static(b"three"), false).unwrap(),
                _ => stream.send_trailers(trailer("x-sum", "6")).unwrap(),
            }
        }
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().expect("trailers")["grpc-status"], "0");
    });
}

#[test]
fn an_answer_of_trailers_alone_stays_one() {
    let origin = Origin::start(async |(_, mut respond): Asked| {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "5")
            .body(())
            .unwrap();
        respond.send_response(head, true).unwrap();
    });
    let rig = Rig::new(http2_table(&[origin.address]));
    with_plain_client(rig.address(), async |client| {
        let (answer, _) =
            client.clone().ready().await.unwrap().send_request(grpc("/shop.Orders/Find"), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert!(answer.body().is_end_stream(), "the head ends the stream");
        assert!(!answer.headers().contains_key("content-length"));
    });
}

#[test]
fn many_requests_share_a_connection_as_far_as_the_server_allows() {
    let all_here = Arc::new(tokio::sync::Barrier::new(6));
    let origin = Origin::with(Manners { streams: Some(3), ..Manners::default() }, None, {
        let all_here = Arc::clone(&all_here);
        move |(_, mut respond): Asked| {
            let all_here = Arc::clone(&all_here);
            async move {
                all_here.wait().await;
                answer(&mut respond, "together");
            }
        }
    });
    let rig = Rig::new(http2_table(&[origin.address]));
    // The barrier opens when six are there at once.
    for round in 0..3 {
        with_plain_client(rig.address(), async |client| {
            let asks = (0..6).map(|_| {
                let client = client.clone();
                tokio::spawn(async move { crate::http2::get(&client, "/").await.unwrap().text() })
            });
            for asked in asks.collect::<Vec<_>>() {
                assert_eq!(asked.await.unwrap(), "together");
            }
        });
        assert_eq!(origin.connections(), 2, "three at a time, in round {round}");
    }
}

#[test]
fn clients_of_http_1_are_served_by_servers_of_http_2() {
    let origin = Origin::start(async |(request, mut respond): Asked| {
        let path = request.uri().path().to_owned();
        let mut body = request.into_body();
        let mut n = 0;
        while let Some(data) = body.data().await {
            n += data.as_ref().unwrap().len();
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        answer(&mut respond, &format!("{path} {n}"));
    });
    let mut rig = Rig::new(http2_table(&[origin.address]));
    let mut wire = rig.connect();
    for n in 0..5 {
        wire.send(get(&format!("/{n}")));
        assert_eq!(wire.answer().unwrap().text(), format!("/{n} 0"));
    }
    assert_eq!(rig.post("an order").text(), "/order 8");
    // A wish to upgrade is passed over, as HTTP allows.
    wire.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(wire.answer().unwrap().text(), "/ws 0");
    assert_eq!((origin.connections(), origin.requests()), (1, 7));
    eventually("they are counted", || rig.told().server("a").ok == 7);
}

#[test]
fn large_bodies_pass_both_ways_within_the_windows() {
    let origin = Origin::start(async |(request, mut respond): Asked| {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            send_all(&mut stream, &data).await.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let rig = Rig::new(http2_table(&[origin.address]));
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    with_plain_client(rig.address(), async |client| {
        let (answer, mut stream) =
            client.clone().ready().await.unwrap().send_request(grpc("/echo"), false).unwrap();
        let sending = async {
            send_all(&mut stream, &sent).await.unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
        };
        let receiving = async { whole(answer.await.unwrap()).await.unwrap() };
        let ((), got) = tokio::join!(sending, receiving);
        assert!(got.body == sent, "{} bytes", got.body.len());
    });
}

#[test]
fn a_refused_stream_is_sent_to_another_server_whatever_its_method() {
    let refusing = Origin::start(async |(_, mut respond): Asked| respond.send_reset(Reason::REFUSED_STREAM));
    let good = Origin::start(async |(_, mut respond): Asked| answer(&mut respond, "good"));
    let mut rig = Rig::new(http2_table(&[refusing.address, good.address]));
    let got = rig.post("an order");
    assert_eq!((got.status, got.text().as_str()), (200, "good"));
    let story = rig.story(&got);
    assert!(story.attempts[0].outcome.contains("REFUSED_STREAM"), "{story:?}");
    assert_eq!((refusing.requests(), good.requests()), (1, 1));
    eventually("it is counted", || rig.told().server("a").failures.get(&FailureKind::Refused) == Some(&1));
    assert_eq!(
        rig.unusual().retries.keys().map(|(_, reason)| *reason).collect::<Vec<_>>(),
        ["refused-stream"]
    );
}

#[test]
fn a_stream_that_is_reset_otherwise_is_no_proof_and_an_order_is_not_sent_twice() {
    let failing = Origin::start(async |(_, mut respond): Asked| respond.send_reset(Reason::INTERNAL_ERROR));
    let good = Origin::start(async |(_, mut respond): Asked| answer(&mut respond, "good"));
    let rig = Rig::new(http2_table(&[failing.address, good.address]));
    assert_eq!(rig.post("an order").status, 502);
    assert_eq!(good.requests(), 0);
}

#[test]
fn requests_go_on_over_another_connection_when_a_server_says_that_one_ends() {
    let origin = Origin::with(
        Manners { goaway_after: Some(2), ..Manners::default() },
        None,
        async |(_, mut respond): Asked| answer(&mut respond, "good"),
    );
    let rig = Rig::new(http2_table(&[origin.address]));
    for n in 0..10 {
        let got = rig.post("an order");
        assert_eq!((got.status, got.text().as_str()), (200, "good"), "{n}");
    }
    assert_eq!(origin.requests(), 10, "each once");
    assert!(origin.connections() >= 4, "{}", origin.connections());
}

#[test]
fn an_order_that_a_server_did_not_look_at_before_it_ended_the_connection_goes_there_over_another_one() {
    let manners = Manners { goaway_first: true, ..Manners::default() };
    let origin = Origin::with(manners, None, async |(_, mut respond): Asked| answer(&mut respond, "good"));
    let rig = Rig::new(http2_table(&[origin.address]));
    let got = rig.post("an order");
    assert_eq!((got.status, got.text().as_str()), (200, "good"));
    assert!(rig.story(&got).attempts[0].outcome.contains("GOAWAY"));
    assert_eq!((origin.connections(), origin.requests()), (2, 1));
    assert_eq!(rig.unusual().retries.keys().map(|(_, reason)| *reason).collect::<Vec<_>>(), ["goaway"]);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.server("a").ok, told.server("a").failed()), (1, 0), "that is no failure");
}

#[test]
fn http_2_is_agreed_on_over_tls_and_a_server_that_does_not_speak_it_gets_nothing() {
    let identity = Identity::of("app.internal");
    let handle = async |(_, mut respond): Asked| answer(&mut respond, "good");
    let good = Origin::with(Manners::default(), Some(identity.server(&[b"h2"])), handle);
    let old = Origin::with(Manners::default(), Some(identity.server(&[])), handle);
    let mut table = http2_table(&[old.address, good.address]);
    table.services[0].targets.iter_mut().for_each(|target| target.tls = true);
    let rig = Rig::with(table, |settings| {
        settings.server_tls = speaks(identity.client(&[b"h2"]), "app.internal");
    });
    let got = rig.post("an order");
    assert_eq!((got.status, got.text().as_str()), (200, "good"));
    let story = rig.story(&got);
    assert!(story.attempts[0].outcome.contains("does not speak HTTP/2 over TLS"), "{story:?}");
    assert_eq!(old.requests(), 0);
}

#[test]
fn a_server_of_http_1_where_http_2_is_spoken_is_found_out() {
    let old = crate::support::Origin::of("HTTP/1");
    let mut rig = Rig::new(http2_table(&[old.address]));
    assert_eq!(rig.post("an order").status, 503, "nothing was sent");
    eventually("it is counted", || rig.told().server("a").failures.contains_key(&FailureKind::Malformed));
}

#[test]
fn a_client_that_goes_away_ends_its_stream_and_no_other() {
    let (begun, reset) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = Origin::start({
        let (begun, reset) = (Arc::clone(&begun), Arc::clone(&reset));
        move |(request, mut respond): Asked| {
            let (begun, reset) = (Arc::clone(&begun), Arc::clone(&reset));
            async move {
                if request.uri().path() != "/long" {
                    return answer(&mut respond, "good");
                }
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"begun"), false).unwrap();
                begun.notify_one();
                let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
                assert_eq!(reason, Reason::CANCEL);
                reset.notify_one();
            }
        }
    });
    let rig = Rig::new(http2_table(&[origin.address]));
    with_plain_client(rig.address(), async |client| {
        let (answer, _) = client.clone().ready().await.unwrap().send_request(grpc("/long"), true).unwrap();
        let answer = answer.await.unwrap();
        begun.notified().await;
        drop(answer);
        reset.notified().await;
        assert_eq!(crate::http2::get(&client, "/").await.unwrap().text(), "good");
    });
    assert_eq!(origin.connections(), 1);
}

/// The status of a call, wherever it is; and whether the head was all.
async fn call(client: &h2::client::SendRequest<Bytes>, path: &str) -> (String, bool) {
    let (answer, mut stream) = client.clone().ready().await.unwrap().send_request(grpc(path), false).unwrap();
    // Who is refused early does not want the rest.
    let _ = stream.send_data(Bytes::from_static(b"call"), true);
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    if let Some(status) = answer.headers().get("grpc-status") {
        return (status.to_str().unwrap().to_owned(), answer.body().is_end_stream());
    }
    let trailers = whole(answer).await.unwrap().trailers.expect("trailers");
    (trailers["grpc-status"].to_str().unwrap().to_owned(), false)
}

#[test]
fn a_client_of_grpc_is_refused_by_a_status_of_grpc() {
    let refusing = crate::support::Refusing::new();
    let mut table = http2_table(&[refusing.address]);
    carriage(&mut table).hosts = vec!["shop.example".to_owned()];
    let rig = Rig::new(table);
    with_plain_client(rig.address(), async |client| {
        assert_eq!(call(&client, "/shop.Orders/Buy").await, ("14".to_owned(), true));
        let elsewhere =
            Request::post("http://other.example/x").header("content-type", "application/grpc+proto");
        let (answer, _) =
            client.clone().ready().await.unwrap().send_request(elsewhere.body(()).unwrap(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &HeaderValue::from(12))
        );
        // Everybody else gets a page.
        let page = crate::http2::get(&client, "/").await.unwrap();
        assert!(page.status() == 503 && page.text().contains("<html"), "{}", page.text());
    });
}

#[test]
fn what_a_server_says_of_itself_by_a_status_of_grpc_is_held_against_it() {
    let origin = Origin::start(async |(request, mut respond): Asked| {
        let status = HeaderValue::from_str(request.uri().path().rsplit('/').next().unwrap()).unwrap();
        let head = Response::builder().header("content-type", "application/grpc");
        if request.uri().path().starts_with("/head/") {
            respond.send_response(head.header("grpc-status", status).body(()).unwrap(), true).unwrap();
            return;
        }
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from_static(b"a message"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status);
        stream.send_trailers(trailers).unwrap();
    });
    let mut rig = Rig::new(http2_table(&[origin.address]));
    with_plain_client(rig.address(), async |client| {
        for (path, status) in
            [("/body/0", "0"), ("/body/14", "14"), ("/head/13", "13"), ("/head/5", "5"), ("/body/4", "4")]
        {
            assert_eq!(call(&client, path).await.0, status, "{path}");
        }
    });
    eventually("all are counted", || {
        let server = rig.told().server("a");
        (server.ok, server.server_errors, server.client_errors) == (3, 2, 0)
    });
    assert_eq!(rig.told().service().server_errors, 2);
}
