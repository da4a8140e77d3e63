//! What is spoken with visitors and servers, with programs that others wrote at the other end: curl, gRPC's own library, Python's
//! HTTP/2, nginx and OpenSSL's TLS.

use std::net::SocketAddr;

use crate::harness::api::serves;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::program::{Program, Ran, Script, nginx, ran};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::shop::Shop;
use crate::harness::site::{Act, Authority, Files, Leaf, Shown, fine, serve};
use crate::harness::{free_address, run, until};

const HOST: &str = "shop.example.com";

/// A config that serves HTTPS with such a certificate, and lines for `[tls]`.
fn secure(files: &Files, tls: &str) -> Config {
    let mut config = Config::new().table(&format!(
        "[tls]\n{tls}\n[[tls.certificate]]\nchain = {:?}\nkey = {:?}",
        files.chain, files.key
    ));
    config.listen = "https = \"127.0.0.1:0\"\n".into();
    config
}

/// Debian's curl, which knows the shop's host at this address and trusts this authority.
async fn curl(at: SocketAddr, ca: &str, arguments: &[&str]) -> Ran {
    let resolve = format!("{HOST}:{}:127.0.0.1", at.port());
    let common = ["-sS", "--max-time", "30", "--noproxy", "*", "--cacert", ca, "--resolve", &resolve];
    ran("curl", [&common, arguments].concat()).await
}

#[test]
fn curl_is_served_over_every_version_in_the_clear_and_over_tls() {
    run(async {
        let home = Home::new();
        let files = Authority::new("of visitors").files(home.path(), "shop", &Leaf::fine(HOST));
        let shop = Shop::start(&home, "app-1").await;
        let mainstay = Mainstay::start(&home, &secure(&files, "").external("app-1", shop.address)).await;
        mainstay.api().all_serve().await;
        let body: Vec<u8> = (0u32..500_000).flat_map(u32::to_le_bytes).collect();
        let [sent, came] = ["sent", "came"].map(|name| home.path().join(name).display().to_string());
        std::fs::write(&sent, &body).expect("a file");
        let (front, secure) = (mainstay.front(), mainstay.secure());
        let ways = [
            ("http", front, "--http1.0", "1.1"),
            ("http", front, "--http1.1", "1.1"),
            ("http", front, "--http2", "1.1"),
            ("http", front, "--http2-prior-knowledge", "2"),
            ("https", secure, "--http1.0", "1.1"),
            ("https", secure, "--http1.1", "1.1"),
            ("https", secure, "--http2", "2"),
        ];
        let mut orders = 0;
        for (scheme, at, version, spoken) in ways {
            let url = |path: &str| format!("{scheme}://{HOST}:{}{path}", at.port());
            let ask = async |more: &[&str]| curl(at, &files.ca, &[&[version], more].concat()).await;
            let said = "%{response_code} %{http_version} %{num_connects} %{size_download}\n";
            let null = "/dev/null";
            // Two requests over one connection, and one whose answer has no body. This curl cannot use a connection again that was
            // begun with prior knowledge, whoever the server is.
            let bytes = url("/bytes?n=1000000");
            let kept = match version {
                "--http2-prior-knowledge" => ask(&["-o", null, "-w", said, &bytes]).await,
                _ => ask(&["-o", null, "-o", null, "-w", said, &bytes, &bytes]).await,
            };
            let lines: Vec<&str> = kept.good().lines().collect();
            assert_eq!(lines[0], format!("200 {spoken} 1 1000000"), "{scheme} {version}: {kept:?}");
            if let Some(second) = lines.get(1) {
                let connects = u8::from(version == "--http1.0");
                assert_eq!(
                    *second,
                    format!("200 {spoken} {connects} 1000000"),
                    "{scheme} {version}: {kept:?}"
                );
            }
            let head = ask(&["-I", "-o", null, "-w", said, &bytes]).await;
            assert_eq!(head.good(), format!("200 {spoken} 1 0\n"), "{scheme} {version}");
            // A body whose length is known, and one that goes in pieces (in HTTP/1.0 there is no such thing).
            let length = format!("@{sent}");
            let mut bodies = vec![vec!["--data-binary", &length]];
            if version != "--http1.0" {
                bodies.push(vec!["-H", "Transfer-Encoding: chunked", "--data-binary", &length]);
                bodies.push(vec!["-H", "Expect: 100-continue", "--data-binary", &length]);
            }
            for how in bodies {
                let order = url("/order");
                let answer =
                    ask(&[&how[..], &["-o", &came, "-w", "%{response_code}", &order]].concat()).await;
                assert_eq!(answer.good(), "200", "{scheme} {version} {how:?}: {answer:?}");
                assert!(std::fs::read(&came).expect("a file") == body, "{scheme} {version} {how:?}");
                orders += 1;
            }
        }
        assert_eq!(shop.orders().await, orders, "each order was carried out once");
        let other = Authority::new("of nobody").files(home.path(), "other", &Leaf::fine(HOST));
        let distrust = curl(secure, &other.ca, &[&format!("https://{HOST}:{}/", secure.port())]).await;
        assert_eq!(distrust.status, Some(60), "curl verifies the certificate: {distrust:?}");
    });
}

#[test]
fn trailers_reach_a_client_that_can_take_them_and_harm_no_other() {
    run(async {
        let home = Home::new();
        let files = Authority::new("of visitors").files(home.path(), "shop", &Leaf::fine(HOST));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let config = secure(&files, "").external("app-1", listener.local_addr().expect("its address"));
        serve(listener, None, |request| {
            match request.split(' ').nth(1) {
            Some("/sum") => vec![Act::Say(
                b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"
                    .to_vec(),
            )],
            _ => fine(),
        }
        });
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let at = mainstay.secure();
        let url = format!("https://{HOST}:{}/sum", at.port());
        for (version, passed) in [("--http2", true), ("--http1.1", false)] {
            let heads = home.path().join("heads").display().to_string();
            let answer = curl(at, &files.ca, &[version, "-H", "TE: trailers", "-D", &heads, &url]).await;
            assert_eq!(answer.good(), "hello", "{version}");
            let heads = std::fs::read_to_string(&heads).expect("a file").to_lowercase();
            assert_eq!(heads.contains("x-sum: 42"), passed, "{version}: {heads}");
        }
    });
}

#[test]
fn visitors_who_must_show_a_certificate_are_told_apart_by_it() {
    run(async {
        let home = Home::new();
        let folder = home.path();
        let files = Authority::new("of visitors").files(folder, "shop", &Leaf::fine(HOST));
        let staff = Authority::new("of staff");
        let ada = staff.files(folder, "ada", &Leaf::fine("ada"));
        let late = staff.files(folder, "late", &Leaf { host: "late", days: (-90, -1), shown: Shown::Chain });
        let eve = Authority::new("of nobody").files(folder, "eve", &Leaf::fine("eve"));
        let shop = Shop::start(&home, "app-1").await;
        let with = |auth: &str| {
            let tls = format!("client-ca = {:?}\nclient-auth = \"{auth}\"", ada.ca);
            secure(&files, &tls).external("app-1", shop.address)
        };
        let mainstay = Mainstay::start(&home, &with("required")).await;
        mainstay.api().all_serve().await;
        let at = mainstay.secure();
        let url = format!("https://{HOST}:{}/healthz", at.port());
        let shows = async |who: Option<&Files>, tls: &str| {
            let mut arguments = vec!["--tls-max", tls, &url];
            if let Some(files) = who {
                arguments.extend(["--cert", &files.chain, "--key", &files.key]);
            }
            let answer = curl(at, &files.ca, &arguments).await;
            answer.status == Some(0) && answer.out == "ok\n"
        };
        for tls in ["1.2", "1.3"] {
            assert!(shows(Some(&ada), tls).await, "TLS {tls}: one of ours");
            assert!(!shows(Some(&eve), tls).await, "TLS {tls}: another authority's");
            assert!(!shows(Some(&late), tls).await, "TLS {tls}: expired");
            assert!(!shows(None, tls).await, "TLS {tls}: none");
        }
        until("they are counted", async || {
            let metrics = mainstay.api().get("/metrics").await.text();
            metrics.contains("mainstay_refusals_total{refusal=\"tls-handshake\"} 6").then_some(())
        })
        .await;
        home.write_config(&with("optional").text(&home));
        until("who has none is let in", async || shows(None, "1.3").await.then_some(())).await;
        assert!(shows(Some(&ada), "1.3").await && !shows(Some(&eve), "1.3").await);
    });
}

#[test]
fn a_websocket_over_http_2_is_a_stream_beside_others() {
    run(async {
        let home = Home::new();
        let files = Authority::new("of visitors").files(home.path(), "shop", &Leaf::fine(HOST));
        let server = Scripted::start(|request| match request.target.as_str() {
            "/socket" => Reply::Echo,
            _ => Reply::Answer(200, b"a page".to_vec()),
        })
        .await;
        let config = secure(&files, "").external("app-1", server.address);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let port = mainstay.secure().port().to_string();
        let mut client = Script::start(&home, "websocket_http2.py", &["127.0.0.1", &port, &files.ca]);
        client.says("open").await;
        let seen = server.seen();
        let sockets: Vec<_> = seen.iter().filter(|request| request.target == "/socket").collect();
        assert_eq!(sockets.len(), 2);
        for socket in sockets {
            assert_eq!(socket.header("upgrade"), Some("websocket"));
            assert_eq!(socket.header("sec-websocket-version"), Some("13"));
            assert!(socket.header("sec-websocket-key").is_some_and(|key| key.len() == 24), "{socket:?}");
            assert_eq!(socket.header("origin"), Some("https://shop.example.com"));
        }
        // A reload cuts none.
        home.write_config(&config.service_lines("slow-after = \"3s\"").text(&home));
        mainstay.signal(libc::SIGHUP);
        until("it is in force", async || {
            mainstay.log().iter().any(|line| line.contains("changed config is in force")).then_some(())
        })
        .await;
        client.tell("on");
        client.says("done").await;
        client.ended().await;
    });
}

/// An nginx that answers over TLS what it is, and counts nothing.
async fn nginx_over_tls(home: &Home, files: &Files, more: &str) -> Program {
    let address = free_address();
    let server = format!(
        "server {{ listen {address} ssl; ssl_certificate {}; ssl_certificate_key {}; {more}\n\
         location / {{ return 200 'sni=$ssl_server_name client=$ssl_client_verify'; }} }}",
        files.chain, files.key
    );
    nginx(home, address, &server).await
}

#[test]
fn servers_over_tls_are_verified_unless_it_was_said_that_they_are_not_to_be() {
    run(async {
        let home = Home::new();
        let folder = home.path();
        let own = Authority::new("of the machine room");
        let good = own.files(folder, "good", &Leaf::fine("app.internal"));
        let other = own.files(folder, "other", &Leaf::fine("elsewhere.internal"));
        let expired = Leaf { host: "app.internal", days: (-90, -1), shown: Shown::Chain };
        let expired = own.files(folder, "expired", &expired);
        let stranger = Authority::new("of nobody").files(folder, "stranger", &Leaf::fine("app.internal"));
        let asks = format!("ssl_client_certificate {}; ssl_verify_client on; ssl_verify_depth 2;", good.ca);
        let servers = [
            ("good", nginx_over_tls(&home, &good, &asks).await, "client=SUCCESS"),
            ("other", nginx_over_tls(&home, &other, "").await, "made out to another name"),
            ("expired", nginx_over_tls(&home, &expired, "").await, "has expired"),
            ("stranger", nginx_over_tls(&home, &stranger, "").await, "no trusted authority has issued"),
        ];
        // Each is a service of its own, so that none can answer for another.
        let tables = servers.iter().map(|(name, server, _)| {
            format!(
                "[service.{name}]\nhosts = [\"{name}.example.com\"]\nhealth = {{ interval = \"1h\" }}\n\
                 [service.{name}.server-tls]\nca = {ca:?}\nname = \"app.internal\"\ncertificate = {chain:?}\nkey = {key:?}\n\
                 [service.{name}.server.app-1]\naddress = \"https://{address}\"\n\
                 [service.open-{name}]\nhosts = [\"open-{name}.example.com\"]\nhealth = {{ interval = \"1h\" }}\n\
                 [service.open-{name}.server-tls]\nverify = false\ncertificate = {chain:?}\nkey = {key:?}\n\
                 [service.open-{name}.server.app-1]\naddress = \"https://{address}\"\n",
                ca = good.ca,
                chain = good.chain,
                key = good.key,
                address = server.address,
            )
        });
        let config = tables.fold(Config::new(), |config, table| config.table(&table));
        let plain = Shop::start(&home, "plain").await;
        let mainstay = Mainstay::start(&home, &config.external("app-1", plain.address)).await;
        let ask = async |host: &str| {
            let mut connection = http::Connection::open(mainstay.front()).await.expect("it listens");
            let host = format!("{host}.example.com");
            connection.send("POST", "/", &[("Host", &host)], b"x").await.expect("an answer")
        };
        for (name, _, words) in &servers {
            let answer = ask(name).await;
            if *name == "good" {
                assert_eq!(answer.text(), format!("sni=app.internal {words}"));
            } else {
                assert_eq!(answer.status, 503, "{name}: {}", answer.text());
                let id = answer.header("x-request-id").expect("an id");
                let admin = mainstay.admin.to_string();
                let why = once(&home, &["why", id, "--admin", &admin]).await;
                let why = String::from_utf8_lossy(&why.stdout).into_owned();
                assert!(why.contains(words), "{name}: {why}");
            }
            let answer = ask(&format!("open-{name}")).await;
            assert_eq!(answer.status, 200, "{name} is not verified: {}", answer.text());
        }
        // The file that is trusted is another one now, and so is who is believed.
        std::fs::copy(&stranger.ca, &good.ca).expect("a file");
        mainstay.signal(libc::SIGHUP);
        until("the stranger is believed", async || {
            (ask("stranger").await.status == 200 && ask("good").await.status == 503).then_some(())
        })
        .await;
    });
}

#[test]
fn servers_that_end_connections_after_so_many_requests_lose_none_and_run_none_twice() {
    const ORDERS: usize = 2000;
    run(async {
        let home = Home::new();
        let files = Authority::new("of all").files(home.path(), "shop", &Leaf::fine(HOST));
        let kinds = [("http1", ""), ("h2c", "http2"), ("h2", "ssl http2")];
        let at = kinds.map(|_| free_address());
        let log = |name: &str| home.path().join(format!("{name}.log"));
        // As nginx does it by default, only sooner.
        let servers = kinds.iter().zip(at).map(|((name, how), address)| {
            format!(
                "server {{ listen {address} {how}; keepalive_requests 100; keepalive_timeout 1s; access_log {};\n\
                 ssl_certificate {}; ssl_certificate_key {}; location / {{ return 200 'done'; }} }}\n",
                log(name).display(),
                files.chain,
                files.key
            )
        });
        let _nginx = nginx(&home, at[0], &servers.collect::<String>()).await;
        let tables = kinds.iter().zip(at).map(|((name, how), address)| {
            let protocol = if how.is_empty() { "http1" } else { "http2" };
            let (scheme, tls) = match how.contains("ssl") {
                true => ("https://", format!("server-tls = {{ ca = {:?}, name = \"{HOST}\" }}", files.ca)),
                false => ("", String::new()),
            };
            format!(
                "[service.{name}]\nhosts = [\"{name}.example.com\"]\nserver-protocol = \"{protocol}\"\n{tls}\n\
                 [service.{name}.server.app-1]\naddress = \"{scheme}{address}\"\n"
            )
        });
        let plain = Shop::start(&home, "plain").await;
        let config = tables.fold(secure(&files, ""), |config, table| config.table(&table));
        let mainstay = Mainstay::start(&home, &config.external("app-1", plain.address)).await;
        mainstay.api().all_serve().await;
        let body = home.path().join("body").display().to_string();
        std::fs::write(&body, [b'x'; 3000]).expect("a file");
        for (name, _) in kinds {
            let authority = format!(":authority: {name}.example.com");
            let url = format!("https://{}/order", mainstay.secure());
            let orders = ORDERS.to_string();
            let load = ["-n", &orders, "-c", "10", "-m", "10", "-d", &body, "-H", &authority, &url];
            let load = ran("h2load", load).await;
            assert!(load.good().contains(&format!("status codes: {ORDERS} 2xx")), "{name}: {}", load.out);
            let log = std::fs::read_to_string(log(name)).expect("a log");
            assert_eq!(log.matches("\"POST /order ").count(), ORDERS, "{name}: each was carried out once");
        }
        assert!(mainstay.api().incidents().await.is_empty(), "that is no fault of theirs");
    });
}

/// How the servers of gRPC are looked at where that is not what is tested.
const BY_TCP: &str = "{ interval = \"500ms\", rise = 1, fall = 2 }";

/// Two servers of gRPC that are probed in this way, and their config.
async fn grpc(home: &Home, files: Option<&Files>, health: &str) -> (Vec<Program>, Config) {
    let mut config = match files {
        Some(files) => secure(files, ""),
        None => Config::new(),
    };
    config.service = format!(
        "server-protocol = \"http2\"\nhealth = {health}\nbalance = \"round-robin\"\nretry = {{ max-tries = 3 }}\n"
    );
    let mut servers = Vec::new();
    for name in ["a", "b"] {
        let address = free_address();
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.arg(crate::harness::program::peer("grpc_server.py")).args([name, &address.to_string()]);
        let mut url = address.to_string();
        if let Some(files) = files {
            command.args([&files.chain, &files.key]);
            url = format!("https://{address}");
        }
        servers.push(Program::start(home, address, command).await);
        config = config.external(name, url);
    }
    if let Some(files) = files {
        config = config.table(&format!("[service.shop.server-tls]\nca = {:?}\nname = \"{HOST}\"", files.ca));
    }
    (servers, config)
}

/// Every shape of call, a server that is killed in the middle of one, and a new Mainstay in the middle of many.
async fn grpc_works(tls: bool) {
    let home = Home::new();
    let names = "shop.example.com localhost";
    let files = tls.then(|| Authority::new("of all").files(home.path(), "shop", &Leaf::fine(names)));
    let (mut servers, config) = grpc(&home, files.as_ref(), BY_TCP).await;
    let mainstay = Mainstay::start(&home, &config).await;
    let api = mainstay.api();
    api.all_serve().await;
    let mut client = match &files {
        Some(files) => {
            let at = format!("localhost:{}", mainstay.secure().port());
            Script::start(&home, "grpc_client.py", &[&at, &files.ca])
        }
        None => Script::start(&home, "grpc_client.py", &[&mainstay.front().to_string()]),
    };
    client.says("calls").await;
    let by = client.line().await;
    let (dead, alive) = match by.as_str() {
        "served by a" => (0, "b"),
        "served by b" => (1, "a"),
        other => panic!("{other}"),
    };
    servers[dead].kill();
    assert!(client.line().await.starts_with("ended "));
    client.tell("on");
    client.says(&format!("answered by {alive}")).await;
    client.says("orders 100 0").await;
    client.says("on").await;
    let path = home.config();
    for _ in 0..2 {
        let output = once(&home, &["upgrade", "-c", path.to_str().expect("UTF-8")]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        until("the new one serves calls", async || {
            let status = api.status().await;
            let requests = status["services"][0]["totals"]["requests"].as_u64();
            requests.is_some_and(|requests| requests > 100).then_some(())
        })
        .await;
    }
    client.tell("enough");
    let sent = client.line().await;
    let sent = sent.strip_prefix("sent ").expect("how many").to_owned();
    client.says(&format!("orders {sent} 0")).await;
    client.ended().await;
    assert!(serves(&api.server(&format!("shop/{alive}")).await));
}

#[test]
fn calls_of_grpc_in_the_clear_survive_a_dead_server_and_an_upgrade() {
    run(grpc_works(false));
}

#[test]
fn calls_of_grpc_over_tls_survive_a_dead_server_and_an_upgrade() {
    run(grpc_works(true));
}

#[test]
fn what_the_health_service_of_a_grpc_server_says_takes_it_out_and_brings_it_back() {
    run(async {
        let home = Home::new();
        let health = "{ grpc = { service = \"test.Peer\" }, interval = \"500ms\", timeout = \"1s\", rise = 1, fall = 2 }";
        let (mut servers, config) = grpc(&home, None, health).await;
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let says = async |words: &str| {
            api.server_until("shop/a", words, |server| {
                let rule = server["why"]["rule"].as_str().unwrap_or_default();
                server["health"] == "unhealthy" && rule.ends_with(words)
            })
            .await;
        };
        servers[0].signal(libc::SIGUSR1);
        says("says that its service test.Peer is NOT_SERVING").await;
        servers[0].signal(libc::SIGUSR2);
        api.server_until("shop/a", "serves", serves).await;
        servers[0].signal(libc::SIGSTOP);
        says("accepted the connection but did not answer in time").await;
        servers[0].signal(libc::SIGCONT);
        api.server_until("shop/a", "serves", serves).await;
        servers[0].kill();
        says("connection refused").await;
        assert!(serves(&api.server("shop/b").await));
    });
}
