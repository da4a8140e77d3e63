//! A new Mainstay takes the place of the running one, under traffic.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use h2::{RecvStream, SendStream};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::api::serves;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::Connection;
use crate::harness::load::Load;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left, once};
use crate::harness::program::{self, Program, redis};
use crate::harness::scripted::{Reply, Request, Scripted};
use crate::harness::{free_address, measured, process, run, until};

/// Pages a second under which nothing is to be lost; they are asked for whatever the answers do. Orders come on top.
const RATE: u32 = 1000;

/// Orders over kept connections, one after the other on each; none is sent twice.
struct Orders {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Orders {
    /// So many clients, by turns at each of these addresses.
    fn start(fronts: &[SocketAddr], clients: usize) -> Self {
        let (stop, answered, next) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
        let client = |front: SocketAddr| {
            let (stop, answered, next) = (stop.clone(), answered.clone(), next.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(front).await.expect("it listens");
                while !stop.load(Ordering::SeqCst) {
                    let order = format!("order {}", next.fetch_add(1, Ordering::SeqCst));
                    let answer = connection.send("POST", "/order", &[], order.as_bytes()).await;
                    assert_eq!(answer.expect("no order is lost").status, 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                    if !connection.is_open() {
                        connection = Connection::open(front).await.expect("it listens");
                    }
                }
            })
        };
        let clients = fronts.iter().copied().cycle().take(clients).map(client).collect();
        Self { stop, answered, clients }
    }

    async fn more(&self, orders: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + orders;
        until("orders are answered", async || (self.answered.load(Ordering::SeqCst) >= goal).then_some(()))
            .await;
    }

    async fn finish(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("every order was answered well");
        }
        self.answered.load(Ordering::SeqCst)
    }
}

/// Sessions of a TCP service that go on counting in a real Redis, each command once.
struct Counting {
    stop: Arc<AtomicBool>,
    counted: Arc<AtomicUsize>,
    sessions: Vec<JoinHandle<()>>,
}

impl Counting {
    fn start(at: SocketAddr, sessions: usize) -> Self {
        let (stop, counted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let session = |_| {
            let (stop, counted) = (stop.clone(), counted.clone());
            tokio::spawn(async move {
                let mut session = TcpStream::connect(at).await.expect("it listens");
                while !stop.load(Ordering::SeqCst) {
                    assert!(count_once(&mut session).await.starts_with(':'));
                    counted.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let sessions = (0..sessions).map(session).collect();
        Self { stop, counted, sessions }
    }

    async fn finish(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for session in self.sessions {
            session.await.expect("no session was cut");
        }
        self.counted.load(Ordering::SeqCst)
    }
}

/// Redis's answer to one command.
async fn count_once(session: &mut TcpStream) -> String {
    session.write_all(b"INCR n\r\n").await.expect("it is open");
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(session.read_u8().await.expect("it is open"));
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

fn script(request: &Request) -> Reply {
    match request.target.as_str() {
        "/socket" => Reply::Echo,
        _ => Reply::Answer(200, b"done".to_vec()),
    }
}

/// An upgraded connection to an echo.
enum Socket {
    Http1(Connection),
    Http2(SendStream<Bytes>, RecvStream),
}

impl Socket {
    async fn over_http1(front: SocketAddr) -> Self {
        let mut connection = Connection::open(front).await.expect("it listens");
        let headers = [("Connection", "upgrade"), ("Upgrade", "websocket")];
        let answer = connection.send("GET", "/socket", &headers, b"").await.expect("an answer");
        assert_eq!(answer.status, 101);
        Self::Http1(connection)
    }

    /// A stream of a connection of its own (RFC 8441).
    async fn over_http2(front: SocketAddr) -> Self {
        let stream = TcpStream::connect(front).await.expect("it listens");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut client = client.ready().await.expect("it is open");
        let extended = async || client.is_extended_connect_protocol_enabled().then_some(());
        until("WebSockets over HTTP/2 are offered", extended).await;
        let request = hyper::Request::connect("http://shop.example.com/socket");
        let mut request = request.header("sec-websocket-version", "13").body(()).expect("a request");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, to) = client.send_request(request, false).expect("it is open");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        Self::Http2(to, answer.into_body())
    }

    async fn echoes(&mut self) {
        let mut bytes = Vec::new();
        match self {
            Self::Http1(connection) => {
                connection.stream.write_all(b"ping").await.expect("it is open");
                while bytes.len() < 4 {
                    assert_ne!(connection.stream.read_buf(&mut bytes).await.expect("it is open"), 0);
                }
            }
            Self::Http2(to, from) => {
                to.send_data(Bytes::from_static(b"ping"), false).expect("it is open");
                while bytes.len() < 4 {
                    let data = from.data().await.expect("it goes on").expect("it is open");
                    from.flow_control().release_capacity(data.len()).expect("it is open");
                    bytes.extend_from_slice(&data);
                }
            }
        }
        assert_eq!(bytes, b"ping");
    }
}

/// WebSockets that echo all the time.
struct Echoing {
    stop: Arc<AtomicBool>,
    /// What came back to each.
    echoes: Vec<Arc<AtomicUsize>>,
    clients: Vec<JoinHandle<()>>,
}

impl Echoing {
    fn start(sockets: Vec<Socket>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let echoes: Vec<Arc<AtomicUsize>> = sockets.iter().map(|_| Arc::default()).collect();
        let client = |(mut socket, echoes): (Socket, &Arc<AtomicUsize>)| {
            let (stop, echoes) = (stop.clone(), echoes.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    socket.echoes().await;
                    echoes.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let clients = sockets.into_iter().zip(&echoes).map(client).collect();
        Self { stop, echoes, clients }
    }

    /// Waits until something sent from now on has come back to each.
    async fn each_again(&self) {
        let counts = || self.echoes.iter().map(|echoes| echoes.load(Ordering::SeqCst));
        // What is on its way now was sent before.
        let goals: Vec<usize> = counts().map(|count| count + 2).collect();
        until("each WebSocket echoes", async || {
            counts().zip(&goals).all(|(now, goal)| now >= *goal).then_some(())
        })
        .await;
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("no WebSocket was cut");
        }
    }
}

#[test]
fn an_upgrade_ten_reloads_and_a_drain_under_traffic_lose_nothing() {
    run(async {
        let home = Home::new();
        let (server, second) = (Scripted::start(script).await, Scripted::start(script).await);
        let cache = redis(&home).await;
        let config = Config::new()
            .external("app-1", server.address)
            .external("app-2", second.address)
            .table("[service.side]\nhosts = [\"side.example.com\"]\nhealth = { http = \"/healthz\" }")
            .table(&format!(
                "[service.side.server.own]\ncommand = [{:?}, \"sample-shop\", \"--port\", \"{{port}}\", \"--name\", \"own\"]",
                env!("CARGO_BIN_EXE_mainstay")
            ))
            .table(&format!(
                "[service.cache]\nlisten = \"tcp://127.0.0.1:0\"\n[service.cache.server.one]\naddress = \"{}\"",
                cache.address
            ));
        let mut mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let pid = |of: serde_json::Value| of["process"]["pid"].as_u64();
        let own = pid(api.server("side/own").await);
        let since = api.server("shop/app-1").await["health_since"].clone();
        let mut sockets = vec![Socket::over_http2(mainstay.front()).await];
        for _ in 0..20 {
            sockets.push(Socket::over_http1(mainstay.front()).await);
        }
        let echoing = Echoing::start(sockets);
        let (nginx, haproxy) = in_front(&home, &mainstay).await;
        let orders = Orders::start(&[mainstay.front(), nginx.address, haproxy.address], 18);
        let load = Load::start(mainstay.front(), RATE, "/");
        let tcp = mainstay.tcp()[0];
        let counting = Counting::start(tcp, 5);
        let began = std::time::Instant::now();
        orders.more(100).await;

        for n in 1..=10 {
            let changed = config.clone().service_lines(&format!("timeouts = {{ per-try = \"{n}s\" }}"));
            home.write_config(&changed.text(&home));
            mainstay.signal(libc::SIGHUP);
            let applied =
                || mainstay.log().iter().filter(|l| l.contains("changed config is in force")).count();
            until("it is applied", async || (applied() >= n).then_some(())).await;
            orders.more(20).await;
        }

        let path = home.config();
        let output = once(&home, &["upgrade", "-c", path.to_str().expect("UTF-8")]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let new: u32 = said.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("process N serves");
        assert_ne!(new, mainstay.pid());
        orders.more(300).await;
        echoing.each_again().await;
        a_drain_loses_nothing(&home, &mainstay, &second, &orders).await;
        echoing.each_again().await;
        assert_eq!(pid(api.server("side/own").await), own, "a supervised server was not touched");
        assert_eq!(api.server("shop/app-1").await["health_since"], since, "health was carried over");
        assert!(serves(&api.server("side/own").await));
        let seen = |text: &str| mainstay.log().iter().any(|line| line.contains(text));
        assert!(!seen("the last connection is gone"), "WebSockets are still open in the old one");
        echoing.finish().await;
        let mut counted = counting.finish().await;
        let mut later = TcpStream::connect(tcp).await.expect("the new one listens there");
        counted += 1;
        assert_eq!(count_once(&mut later).await, format!(":{counted}"), "each was carried out once");
        until("the old one has finished", async || seen("the last connection is gone").then_some(())).await;
        assert!(mainstay.runs(), "it is the parent of a server that runs");
        orders.more(50).await;
        let answered = orders.finish().await;
        let gets = load.finish().await;
        gets.assert_none_failed();
        let rate = (answered + gets.samples.len()) as f64 / began.elapsed().as_secs_f64();
        let pages = gets.samples.len();
        measured(
            "reloads, an upgrade and a drain",
            format!("{answered} orders, {pages} pages, {rate:.0} a second"),
        );
        assert!(rate >= f64::from(RATE), "{rate:.0} a second");
        let seen = [server.seen(), second.seen()].concat();
        let posts: Vec<&[u8]> =
            seen.iter().filter(|r| r.method == "POST").map(|r| r.body.as_slice()).collect();
        assert_eq!(posts.iter().collect::<BTreeSet<_>>().len(), posts.len(), "none was run twice");
        assert_eq!(posts.len(), answered, "what clients and servers count agrees");
        assert!(api.incidents().await.is_empty());

        let own = own.and_then(|pid| u32::try_from(pid).ok()).expect("a process");
        process::signal(own, libc::SIGKILL);
        until("the new one has restarted it", async || {
            let now = api.server("side/own").await;
            (serves(&now) && pid(now) != Some(own.into())).then_some(())
        })
        .await;
        assert!(mainstay.ended().await.success(), "nothing is left that the old one is the parent of");
        process::signal(new, libc::SIGTERM);
        no_orphan_is_left(&home).await;
    });
}

/// Balancers before Mainstay that keep connections to it, in HTTP/1.1 and in HTTP/2, and try nothing again.
async fn in_front(home: &Home, mainstay: &Mainstay) -> (Program, Program) {
    let (to, address) = (mainstay.front(), free_address());
    let nginx = format!(
        "upstream mainstay {{ server {to}; keepalive 8; }}\nserver {{ listen {address}; location / {{\n\
         proxy_pass http://mainstay; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_next_upstream off; }} }}"
    );
    let nginx = program::nginx(home, address, &nginx).await;
    let address = free_address();
    let haproxy = format!("listen h2c\n  bind {address}\n  retries 0\n  server mainstay {to} proto h2\n");
    (nginx, program::haproxy(home, address, &haproxy).await)
}

/// What is under way is finished, nothing new is begun there, and the other server carries on.
async fn a_drain_loses_nothing(home: &Home, mainstay: &Mainstay, second: &Scripted, orders: &Orders) {
    let admin = mainstay.admin.to_string();
    let order = async |word: &str| {
        let output = once(home, &[word, "shop/app-2", "--admin", &admin]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    order("drain").await;
    // WebSockets that the process before still has there are seen, and have `drain-timeout`.
    let only_sockets = |s: &Value| s["in_flight"].as_u64() > Some(0) && s["in_flight"] == s["tunnels"];
    mainstay.api().server_until("shop/app-2", "has nothing but WebSockets", only_sockets).await;
    orders.more(50).await;
    let before = second.seen().len();
    orders.more(200).await;
    assert_eq!(second.seen().len(), before, "a server that is drained gets nothing new");
    order("ready").await;
    until("it is back", async || (second.seen().len() > before).then_some(())).await;
}

#[test]
fn a_new_one_that_does_not_serve_changes_nothing() {
    run(async {
        let home = Home::new();
        let server = Scripted::start(script).await;
        let config = Config::new().external("app-1", server.address).supervised("app-2");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let pid = api.server("shop/app-2").await["process"]["pid"].clone();
        let load = Load::start(mainstay.front(), 100, "/");
        let data = home.data();
        let upgrade = async |binary: &str| {
            let data = data.to_str().expect("UTF-8");
            let output = once(&home, &["upgrade", "--data", data, "--binary", binary]).await;
            assert!(!output.status.success());
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let said = upgrade("/bin/false").await;
        assert!(said.contains("/bin/false ended with status 1") && said.contains("goes on"), "{said}");
        let said = upgrade("/nowhere/mainstay").await;
        assert!(said.contains("/nowhere/mainstay cannot be started"), "{said}");
        home.write_config(&config.clone().service_lines("slow-strat = \"3s\"").text(&home));
        let said = upgrade(env!("CARGO_BIN_EXE_mainstay")).await;
        assert!(said.contains("the config has mistakes"), "{said}");
        // A new address that is taken is found out only when everything else was handed over.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut other = config.clone();
        let both = format!("http = [\"127.0.0.1:0\", \"{}\"]\n", taken.local_addr().expect("its address"));
        other.listen = both;
        let text = other.text(&home);
        let text = text.replacen("http = \"127.0.0.1:0\"\n", "", 1);
        home.write_config(&text);
        let said = upgrade(env!("CARGO_BIN_EXE_mainstay")).await;
        assert!(said.contains("ended with status 1"), "{said}");
        home.write_config(&config.text(&home));
        load.more(100).await;
        load.finish().await.assert_none_failed();
        assert_eq!(api.server("shop/app-2").await["process"]["pid"], pid);
        let order =
            once(&home, &["drain", "shop/app-2", "--wait", "10s", "--admin", &mainstay.admin.to_string()])
                .await;
        assert!(order.status.success(), "{}", String::from_utf8_lossy(&order.stderr));
        assert_eq!(api.server("shop/app-2").await["admin"], "draining");
        let order = once(&home, &["ready", "shop/app-2", "--admin", &mainstay.admin.to_string()]).await;
        assert!(order.status.success(), "{}", String::from_utf8_lossy(&order.stderr));
        assert!(api.status().await["own_trouble"].as_array().is_some_and(Vec::is_empty));
        assert!(mainstay.stop().await.success());
        no_orphan_is_left(&home).await;
    });
}

#[test]
fn what_the_old_one_still_has_when_its_time_is_up_is_told_and_cut() {
    run(async {
        let home = Home::new();
        let server = Scripted::start(script).await;
        let mut config = Config::new().external("app-1", server.address);
        config.top += "upgrade-grace = \"2s\"\n";
        let mut mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let Socket::Http1(mut socket) = Socket::over_http1(mainstay.front()).await else { unreachable!() };
        let path = home.config();
        let output = once(&home, &["upgrade", "-c", path.to_str().expect("UTF-8")]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let new: u32 = said.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("process N serves");
        let mut close = Vec::new();
        while let Ok(1..) = socket.stream.read_buf(&mut close).await {}
        // 1001, going away (RFC 6455, 7.4.1).
        assert_eq!(close, [0x88, 2, 0x03, 0xe9]);
        assert!(mainstay.ended().await.success());
        let last = mainstay.log().into_iter().find(|line| line.contains("the last connection is gone"));
        assert!(last.as_ref().is_some_and(|line| line.contains("cut=1")), "{last:?}");
        process::signal(new, libc::SIGTERM);
        no_orphan_is_left(&home).await;
    });
}
