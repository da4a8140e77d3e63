//! Probes against real listeners that behave well and badly.

use std::net::SocketAddr;
use std::time::Duration;

use mainstay_model::{Mono, ServiceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};

use super::*;

mod command;
mod dns;
mod families;
mod grpc;
mod http;
mod machine;
mod matrix;
mod mysql;
mod peers;
mod postgres;
mod redis;
mod smtp;
mod talk;
mod websocket;

/// Long enough for a loaded machine; the tests of a late answer use [`SHORT`].
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

fn http() -> ProbeKind {
    ProbeKind::Http { path: "/healthz?full=1".into(), host: Some("shop.example.com".into()) }
}

fn order(address: impl Into<Endpoint>, kind: ProbeKind, timeout: Duration) -> ProbeOrder {
    let server = ServiceId::new("shop").server("app-1");
    ProbeOrder {
        target: server.into(),
        address: address.into().into(),
        kind,
        tls: false,
        protocol: Protocol::Http1,
        send_proxy: None,
        timeout,
        due: Mono::default(),
        injection: None,
    }
}

async fn probe(address: impl Into<Endpoint>, kind: ProbeKind, timeout: Duration) -> ProbeReport {
    let (inputs, mut reports) = mpsc::channel(4);
    Prober::new(inputs).order(order(address, kind, timeout), Instant::now());
    let input = tokio::time::timeout(LONG * 2, reports.recv()).await.expect("a report in time");
    let Some(Input::Probe(report)) = input else { panic!("not a report of a probe: {input:?}") };
    assert_eq!(report.target.to_string(), "shop/app-1");
    report
}

/// A server that does `behaviour` with each connection.
async fn server<F, Fut>(behaviour: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behaviour(stream));
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text")
}

/// A server that reads the head, sends these bytes and closes.
async fn answers(bytes: &'static [u8]) -> SocketAddr {
    server(move |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(bytes).await;
    })
    .await
}

async fn failure_of(address: SocketAddr) -> ProbeFailure {
    probe(address, http(), LONG).await.result.expect_err("the probe fails")
}

#[tokio::test]
async fn a_good_answer_is_reported_with_its_status() {
    let address = answers(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(probe(address, http(), LONG).await.result, Ok(ProbeAnswer::status(204)));
    let address = answers(b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(probe(address, http(), LONG).await.result, Ok(ProbeAnswer::status(302)));
}

#[tokio::test]
async fn the_request_names_path_host_and_asks_to_close() {
    let (heads, mut head) = mpsc::channel(1);
    let address = server(move |mut stream| {
        let heads = heads.clone();
        async move {
            heads.send(read_head(&mut stream).await).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nfine").await.unwrap();
        }
    })
    .await;
    assert!(probe(address, http(), LONG).await.result.is_ok());
    let head = head.recv().await.unwrap();
    assert!(head.starts_with("GET /healthz?full=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: shop.example.com\r\n"), "{head}");
    assert!(head.contains("connection: close\r\n"), "{head}");

    let without_host = ProbeKind::Http { path: "/".into(), host: None };
    assert_eq!(request(address, without_host).await, format!("host: {address}"));
}

/// The Host header that a probe sends to a fresh server in place of `address`.
async fn request(address: SocketAddr, kind: ProbeKind) -> String {
    let listener = TcpListener::bind((address.ip(), 0)).await.unwrap();
    let fresh = listener.local_addr().unwrap();
    let (inputs, _reports) = mpsc::channel(4);
    Prober::new(inputs).order(order(fresh, kind, LONG), Instant::now());
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = read_head(&mut stream).await;
    let line = head.lines().find(|l| l.starts_with("host: ")).expect("a Host header");
    line.replace(&fresh.to_string(), &address.to_string())
}

#[tokio::test]
async fn a_bad_status_is_reported_as_such_even_if_the_body_never_ends() {
    let address = answers(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(failure_of(address).await, ProbeFailure::Status(404));
    let address = server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 9\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(failure_of(address).await, ProbeFailure::Status(500));
}

#[tokio::test]
async fn a_port_where_nothing_listens_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(failure_of(address).await, ProbeFailure::Refused);
    assert_eq!(probe(address, ProbeKind::Tcp, LONG).await.result, Err(ProbeFailure::Refused));
}

#[tokio::test]
async fn a_silent_server_is_an_answer_timeout_by_http_and_good_by_tcp() {
    // Never accepted by the program, but by the kernel: as when a process is stopped.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let report = probe(address, http(), SHORT).await;
    assert_eq!(report.result, Err(ProbeFailure::AnswerTimeout));
    assert!(report.took >= SHORT, "{:?}", report.took);
    assert_eq!(probe(address, ProbeKind::Tcp, LONG).await.result, Ok(ProbeAnswer::default()));
}

#[tokio::test]
async fn a_full_backlog_is_a_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        held.push(stream);
        assert!(held.len() < 100, "the backlog of 1 never fills");
    }
    assert_eq!(probe(address, http(), SHORT).await.result, Err(ProbeFailure::ConnectTimeout));
    assert_eq!(probe(address, ProbeKind::Tcp, SHORT).await.result, Err(ProbeFailure::ConnectTimeout));
}

#[tokio::test]
async fn a_connection_closed_before_the_answer_is_a_reset_and_within_it_says_how_far_it_came() {
    let closes = answers(b"").await;
    assert_eq!(failure_of(closes).await, ProbeFailure::Reset);
    let within_the_head = answers(b"HTTP/1.1 200 OK\r\ncontent-le").await;
    assert_eq!(failure_of(within_the_head).await, ProbeFailure::Reset);
    let within_the_body = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let half = ProbeFailure::BrokenOff("answered status 200 and broke off after 4 of 10 bytes".to_owned());
    assert_eq!(failure_of(within_the_body).await, half);
    let resets = server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    // What came just before a reset may be lost with it.
    let reset = failure_of(resets).await;
    assert!(matches!(reset, ProbeFailure::Reset | ProbeFailure::BrokenOff(_)), "{reset:?}");
}

#[tokio::test]
async fn what_is_not_http_is_malformed() {
    let garbage = answers(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(matches!(failure_of(garbage).await, ProbeFailure::Malformed(_)));
    let bad_chunk = answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
    assert!(matches!(failure_of(bad_chunk).await, ProbeFailure::Malformed(_)));
    let giant_head = server(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        let line = format!("x-much: {}\r\n", "a".repeat(1000));
        while stream.write_all(line.as_bytes()).await.is_ok() {}
    })
    .await;
    assert!(matches!(failure_of(giant_head).await, ProbeFailure::Malformed(_)));
}

#[tokio::test]
async fn whatever_a_server_sends_ends_in_a_report() {
    let beginnings =
        ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.0 "];
    let mut random = fastrand::Rng::with_seed(7);
    for n in 0..200 {
        let mut bytes = beginnings[n % beginnings.len()].as_bytes().to_vec();
        bytes.extend(
            (0..random.usize(..300)).map(|_| *random.choice(b"\0\r\n :;=1aF\xff\x80%HTP/.").expect("some")),
        );
        let address = answers(bytes.leak()).await;
        let result = probe(address, http(), LONG).await.result;
        // The server closes, so that it is never a matter of time.
        assert_ne!(result, Err(ProbeFailure::AnswerTimeout), "case {n}");
        assert_ne!(result, Err(ProbeFailure::ConnectTimeout), "case {n}");
    }
}

#[tokio::test]
async fn an_answer_that_drips_for_ever_ends_at_the_deadline() {
    let head = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let body = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for address in [head, body] {
        assert_eq!(probe(address, http(), SHORT).await.result, Err(ProbeFailure::AnswerTimeout));
    }
}

#[tokio::test]
async fn an_endless_body_is_good_once_enough_of_it_was_read() {
    let address = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'a'; 4096]).await.is_ok() {}
    })
    .await;
    assert_eq!(probe(address, http(), LONG).await.result, Ok(ProbeAnswer::status(200)));
}

#[tokio::test]
async fn a_path_that_cannot_be_sent_is_not_the_servers_fault() {
    let address = answers(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let kind = ProbeKind::Http { path: "/a b".into(), host: None };
    assert!(matches!(probe(address, kind, LONG).await.result, Err(ProbeFailure::NotProbed(_))));
    let kind = ProbeKind::Http { path: "/".into(), host: Some("a\nb".into()) };
    assert!(matches!(probe(address, kind, LONG).await.result, Err(ProbeFailure::NotProbed(_))));
}

#[tokio::test]
async fn a_probe_over_the_limit_is_not_made_and_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (inputs, mut reports) = mpsc::channel(4);
    let prober = Prober::with_slots(inputs, 1);
    prober.order(order(address, http(), LONG), Instant::now());
    prober.order(order(address, http(), LONG), Instant::now());
    let Some(Input::Probe(report)) = reports.recv().await else { panic!("a report of a probe") };
    assert!(matches!(report.result, Err(ProbeFailure::NotProbed(_))), "{:?}", report.result);

    // The slot is free again when the first has ended.
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    drop(stream);
    let Some(Input::Probe(report)) = reports.recv().await else { panic!("a report of a probe") };
    assert_eq!(report.result, Ok(ProbeAnswer::status(200)));
    while prober.slots.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_probe_ends_quietly_when_the_judge_is_gone() {
    let address = answers(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let (inputs, reports) = mpsc::channel(4);
    drop(reports);
    let prober = Prober::with_slots(inputs, 1);
    prober.order(order(address, http(), LONG), Instant::now());
    assert_eq!(prober.slots.available_permits(), 0);
    tokio::time::timeout(LONG, async {
        while prober.slots.available_permits() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the slot comes back");
}

/// Run twice: as the test, and by the test, in a process of its own that may open no more files.
#[test]
fn a_probe_without_a_file_descriptor_left_says_nothing_about_the_server() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    const ROLE: &str = "MAINSTAY_TEST_HAS_NO_FILES";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    if std::env::var_os(ROLE).is_none() {
        let name = "probe::tests::a_probe_without_a_file_descriptor_left_says_nothing_about_the_server";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact"])
            .env(ROLE, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    for kind in [http(), ProbeKind::Tcp] {
        let result = runtime.block_on(probe(address, kind, LONG)).result;
        assert!(
            matches!(&result, Err(ProbeFailure::NotProbed(text)) if text.contains("Too many open files")),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_expects_it_is_told_first_that_nobody_else_looks() {
    for version in [SendProxy::V1, SendProxy::V2] {
        let address = server(move |mut stream| async move {
            let mut greeting = vec![0; version.own_greeting().len()];
            stream.read_exact(&mut greeting).await.unwrap();
            assert_eq!(greeting, version.own_greeting());
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        })
        .await;
        let order = ProbeOrder { send_proxy: Some(version), ..order(address, http(), LONG) };
        let report = look(order, &Settings::default()).await;
        assert_eq!(report.result, Ok(ProbeAnswer::status(204)));
    }
}

/// A server of HTTP/2 that answers this status, and how often it was asked for what.
async fn http2_server(status: u16) -> (SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    seen.lock().unwrap().push(request.uri().to_string());
                    let answer = hyper::Response::builder().status(status).body(()).unwrap();
                    let mut stream = respond.send_response(answer, false).unwrap();
                    stream.send_data("well".into(), true).unwrap();
                }
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_server_of_http_2_is_asked_in_http_2() {
    for (status, good) in [(200, true), (503, false)] {
        let (address, asked) = http2_server(status).await;
        let order = ProbeOrder { protocol: Protocol::Http2, ..order(address, http(), LONG) };
        let report = look(order, &Settings::default()).await;
        assert_eq!(report.result.is_ok(), good, "{report:?}");
        assert_eq!(*asked.lock().unwrap(), ["http://shop.example.com/healthz?full=1"]);
    }
    // One of HTTP/1 is not taken for one of HTTP/2.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 512]).await;
    });
    let order = ProbeOrder { protocol: Protocol::Http2, ..order(address, http(), LONG) };
    let report = look(order, &Settings::default()).await;
    assert!(matches!(report.result, Err(ProbeFailure::Malformed(_))), "{report:?}");
}

/// Looks in this way, over TLS with those whom `root` has issued a certificate for `app.internal`.
async fn probe_by(address: SocketAddr, spec: ProbeSpec, root: Option<&Root>) -> Looked {
    let kind = spec.kind();
    let service = ServiceId::new("shop");
    let tls = root.map(|root| (service.clone(), root.trusted())).into_iter().collect();
    let settings =
        Settings { tls: Arc::new(tls), probes: [(service, Arc::new(spec))].into(), ..Settings::default() };
    look(order(address, kind, SHORT * 5), &settings).await.result
}

type Looked = Result<ProbeAnswer, ProbeFailure>;

/// What a person reads of it.
fn words(looked: &Looked) -> String {
    match looked {
        Ok(answer) => format!("good: {}", answer.said.as_deref().unwrap_or("accepted")),
        Err(failure) => failure.to_string(),
    }
}

/// An authority, and the certificate of `app.internal` that it has issued.
struct Root {
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    server: Arc<rustls::ServerConfig>,
    /// The certificate of `app.internal` and its key.
    pem: (String, String),
}

impl Root {
    fn new() -> Self {
        let key = || rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, key()).unwrap();
        let own = key();
        let leaf = rcgen::CertificateParams::new(vec!["app.internal".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&own, &authority).unwrap();
        let chain = vec![leaf.der().clone()];
        let pem = (leaf.pem(), own.serialize_pem());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, own.serialize_der().try_into().unwrap())
            .unwrap();
        Self { authority, server: Arc::new(server), pem }
    }

    /// Writes the certificate and its key into a folder, for servers of others.
    fn write(&self, folder: &std::path::Path) {
        std::fs::write(folder.join("cert.pem"), &self.pem.0).unwrap();
        std::fs::write(folder.join("key.pem"), &self.pem.1).unwrap();
    }

    /// The server's side of a handshake.
    fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.server.clone().into()
    }

    /// The probe's side.
    fn trusted(&self) -> Arc<mainstay_proxy::ServerTls> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = Some("app.internal".try_into().unwrap());
        Arc::new(mainstay_proxy::ServerTls { config: Arc::new(config), name, names: BTreeMap::new() })
    }
}

#[tokio::test]
async fn a_server_behind_a_unix_socket_is_looked_at_as_any_other_and_called_localhost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (heads, mut head) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap_or_default();
            // A probe of TCP says nothing.
            if n > 0 {
                heads.send(String::from_utf8_lossy(&head[..n]).into_owned()).await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    });
    let at = Endpoint::Unix(path.to_str().unwrap().into());
    let kind = ProbeKind::Http { path: "/".into(), host: None };
    assert_eq!(probe(at.clone(), kind, LONG).await.result, Ok(ProbeAnswer::status(200)));
    let head = head.recv().await.unwrap();
    assert!(head.contains("host: localhost\r\n"), "{head}");
    assert_eq!(probe(at, ProbeKind::Tcp, LONG).await.result, Ok(ProbeAnswer::default()));
}

#[tokio::test]
async fn what_is_wrong_with_a_unix_socket_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let result = async |name: &str| {
        let path = folder.path().join(name).to_str().unwrap().into();
        probe(Endpoint::Unix(path), ProbeKind::Tcp, LONG).await.result.expect_err("nobody listens")
    };
    let ProbeFailure::NoSocket(why) = result("gone.sock").await else { panic!("something is there") };
    assert!(why.contains("does not exist; start the server"), "{why}");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let ProbeFailure::Unreachable(why) = result("file").await else { panic!("a file is no socket") };
    assert!(why.contains("is no socket"), "{why}");
    drop(UnixListener::bind(folder.path().join("left.sock")).unwrap());
    assert_eq!(result("left.sock").await, ProbeFailure::Refused);
    let _datagrams = tokio::net::UnixDatagram::bind(folder.path().join("other.sock")).unwrap();
    let ProbeFailure::Unreachable(why) = result("other.sock").await else { panic!("another kind") };
    assert!(why.contains("another kind"), "{why}");
    let long = format!("{}.sock", "x".repeat(200));
    assert!(matches!(result(&long).await, ProbeFailure::Unreachable(_)));
}

#[tokio::test]
async fn a_unix_socket_whose_queue_is_full_is_not_accepting_in_time_and_not_our_own_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy.sock");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let at = Endpoint::Unix(path.to_str().unwrap().into());
    assert_eq!(probe(at, ProbeKind::Tcp, SHORT).await.result, Err(ProbeFailure::ConnectTimeout));
}
