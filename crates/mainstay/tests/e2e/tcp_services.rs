//! TCP services with real databases and real TLS behind them: a primary dies, names tell services apart, and what the PROXY protocol
//! says of a visitor arrives, from a real balancer in front and at real servers behind.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Connection};
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::postgres::Postgres;
use crate::harness::program::{haproxy, nginx, ran, redis};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::shop::Shop;
use crate::harness::site::{Authority, Files, Leaf};
use crate::harness::{free_address, run, until};

/// A TCP service with a primary and a backup.
fn database(name: &str, primary: SocketAddr, backup: SocketAddr, lines: &str) -> String {
    format!(
        "[service.{name}]\nlisten = \"tcp://127.0.0.1:0\"\nhealth = {{ interval = \"500ms\", rise = 2, fall = 2 }}\n{lines}\n\
         [service.{name}.server.primary]\naddress = \"{primary}\"\n\
         [service.{name}.server.standby]\naddress = \"{backup}\"\nrole = \"backup\"\n"
    )
}

/// A connection to Redis, one command after another.
struct Session(TcpStream);

impl Session {
    async fn open(at: SocketAddr) -> Self {
        Self(TcpStream::connect(at).await.expect("it listens"))
    }

    /// The first line of the answer; `None` when the connection is closed.
    async fn ask(&mut self, command: &str) -> Option<String> {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        self.line().await
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = async {
            while !line.ends_with(b"\r\n") {
                line.push(self.0.read_u8().await.ok()?);
            }
            Some(String::from_utf8_lossy(&line).trim_end().to_owned())
        };
        tokio::time::timeout(crate::harness::PATIENCE, read).await.expect("an answer or an end")
    }
}

async fn redis_cli(at: SocketAddr, arguments: &[&str]) -> String {
    let port = at.port().to_string();
    let ran = ran("redis-cli", [&["-h", "127.0.0.1", "-p", &port], arguments].concat()).await;
    ran.out.trim().to_owned()
}

/// Waits until both are known to be well; a backup has no share of the traffic while its primary is.
async fn both_are_well(mainstay: &Mainstay, service: &str) {
    for name in ["primary", "standby"] {
        let id = format!("{service}/{name}");
        mainstay.api().server_until(&id, "is healthy", |server| server["health"] == "healthy").await;
    }
}

/// A shop, because every config of a test has one.
async fn beside<'a>(home: &'a Home) -> (Shop<'a>, Config) {
    let shop = Shop::start(home, "app-1").await;
    let config = Config::new().external("app-1", shop.address);
    (shop, config)
}

#[test]
fn when_a_primary_redis_is_killed_the_backup_takes_over_and_gives_back() {
    run(async {
        let home = Home::new();
        let (mut primary, standby) = (redis(&home).await, redis(&home).await);
        for (server, name) in [(&primary, "primary"), (&standby, "standby")] {
            assert_eq!(redis_cli(server.address, &["SET", "who", name]).await, "OK");
        }
        let (_shop, config) = beside(&home).await;
        let config =
            config.table(&database("cache", primary.address, standby.address, "slow-start = \"0s\""));
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        both_are_well(&mainstay, "cache").await;
        let at = mainstay.tcp()[0];
        let who = async || redis_cli(at, &["GET", "who"]).await;
        assert_eq!(who().await, "primary");
        let mut session = Session::open(at).await;
        assert_eq!(session.ask("PING").await.as_deref(), Some("+PONG"));
        primary.kill();
        assert_eq!(session.line().await, None, "nobody sits on a dead database");
        // From the very first connection on, before any probe has failed.
        assert_eq!(who().await, "standby");
        let mut session = Session::open(at).await;
        assert_eq!(session.ask("PING").await.as_deref(), Some("+PONG"));
        api.server_until("cache/primary", "is unhealthy", |server| server["health"] == "unhealthy").await;
        assert_eq!(who().await, "standby");
        let port = primary.address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]).arg("--dir").arg(home.path());
        let back = crate::harness::program::Program::start(&home, primary.address, command).await;
        redis_cli(back.address, &["SET", "who", "primary again"]).await;
        until("the primary is used again", async || (who().await == "primary again").then_some(())).await;
        assert_eq!(
            session.ask("GET who").await.as_deref(),
            Some("$7"),
            "who is there stays with the standby"
        );
        // A process that has stopped goes on accepting in its kernel: sessions wait and are not cut.
        back.signal(libc::SIGSTOP);
        let mut waiting = Session::open(at).await;
        waiting.0.write_all(b"PING\r\n").await.expect("it is open");
        back.signal(libc::SIGCONT);
        assert_eq!(waiting.line().await.as_deref(), Some("+PONG"));
    });
}

#[test]
fn when_a_primary_postgresql_is_killed_its_replica_answers_at_the_same_address() {
    run(async {
        let home = Home::new();
        let primary = Postgres::start(&home).await;
        let replica = primary.replica(&home).await;
        let (_shop, config) = beside(&home).await;
        let config = config.table(&database("db", primary.address(), replica.address(), ""));
        let mainstay = Mainstay::start(&home, &config).await;
        both_are_well(&mainstay, "db").await;
        let at = mainstay.tcp()[0];
        let ask = async |sql: &str| Postgres::ask(at, sql).await;
        assert_eq!(ask("SELECT pg_is_in_recovery()").await.good().trim(), "f");
        ask("CREATE TABLE orders (what text); INSERT INTO orders VALUES ('tea')").await.good();
        // More than any buffer, in both directions.
        let copied =
            ask("SELECT length(string_agg(md5(n::text), '')) FROM generate_series(1, 50000) n").await;
        assert_eq!(copied.good().trim(), "1600000");
        assert_eq!(
            ask("COPY (SELECT repeat('x', 100) FROM generate_series(1, 20000)) TO STDOUT").await.good().len(),
            2_020_000
        );
        until("the replica has it", async || {
            let there = Postgres::ask(replica.address(), "SELECT what FROM orders").await;
            (there.out.trim() == "tea").then_some(())
        })
        .await;
        let long = tokio::spawn(Postgres::ask(at, "SELECT pg_sleep(60)"));
        until("it is under way", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
            (Postgres::ask(primary.address(), sql).await.out.trim() == "1").then_some(())
        })
        .await;
        primary.kill();
        let cut = long.await.expect("no panic");
        assert_eq!(cut.status, Some(2), "a session that is cut is told so: {cut:?}");
        let answer = ask("SELECT pg_is_in_recovery(), what FROM orders").await;
        assert_eq!(answer.good().trim(), "t|tea", "from the first connection on");
    });
}

/// Writes through `at` until it is stopped; what was acknowledged.
async fn writes(at: SocketAddr, mut stop: tokio::sync::watch::Receiver<bool>) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if *stop.borrow_and_update() {
            break;
        }
        let done = Postgres::ask(at, &format!("INSERT INTO orders VALUES ({number})")).await;
        if done.status == Some(0) {
            acknowledged.push(number);
        }
    }
    acknowledged
}

#[test]
fn after_a_switch_the_promoted_postgresql_has_all_writes_and_the_old_one_that_returns_gets_none() {
    run(async {
        let home = Home::new();
        let mut primary = Postgres::start(&home).await;
        let replica = primary.replica(&home).await;
        let (_shop, config) = beside(&home).await;
        // What a person would write: the old primary does not live any more when this has succeeded.
        let steps = home.path().join("steps");
        let fence = format!(
            "kill -9 $(head -n 1 {}/postmaster.pid) && echo fenced >> {}",
            primary.folder().display(),
            steps.display()
        );
        let promote = format!(
            "echo promoted >> {}; exec psql -X -q -h 127.0.0.1 -U postgres -p {} -c 'SELECT pg_promote()'",
            steps.display(),
            replica.address().port()
        );
        let (fence, promote) =
            (serde_json::json!(["/bin/sh", "-c", fence]), serde_json::json!(["/bin/sh", "-c", promote]));
        let lines = format!(
            "switch = {{ command = {promote}, fence = {fence}, after = \"1s\" }}\nrecovery = {{ level = {{ switch = \"automatic\" }} }}"
        );
        let config = config.table(&database("db", primary.address(), replica.address(), &lines));
        let mainstay = Mainstay::start(&home, &config).await;
        both_are_well(&mainstay, "db").await;
        let (at, api) = (mainstay.tcp()[0], mainstay.api());
        Postgres::ask(at, "CREATE TABLE orders (n int)").await.good();
        // Whoever acknowledges waits for the replica, so that nothing acknowledged is on the primary alone.
        primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.query("SELECT pg_reload_conf()");
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writer = tokio::spawn(writes(at, stopped));
        let count = async |of: SocketAddr| -> usize {
            Postgres::ask(of, "SELECT count(*) FROM orders").await.out.trim().parse().unwrap_or(0)
        };
        until("orders come in", async || (count(at).await > 20).then_some(())).await;
        primary.kill();
        let before = until("it is promoted and written to", async || {
            let there = Postgres::ask(replica.address(), "SELECT pg_is_in_recovery()").await;
            let written = count(replica.address()).await;
            (there.out.trim() == "f").then_some(written)
        })
        .await;
        assert_eq!(std::fs::read_to_string(&steps).expect("both were run"), "fenced\npromoted\n");
        until("writes follow", async || (count(replica.address()).await > before + 5).then_some(())).await;

        // The old one comes back, believes itself to be the primary, and would take writes from anybody.
        primary.again().await;
        primary.query("ALTER SYSTEM SET synchronous_standby_names = ''");
        primary.query("SELECT pg_reload_conf()");
        let old = count(primary.address()).await;
        let told =
            |server: &serde_json::Value| server["health"] == "healthy" && server["in_rotation"] == false;
        let server = api.server_until("db/primary", "is well and out of rotation", told).await;
        assert_eq!(server["note"], "switched-away", "{server}");
        let now = count(replica.address()).await;
        until("many more are written", async || (count(replica.address()).await > now + 50).then_some(()))
            .await;
        stop.send(true).expect("it is heard");
        let acknowledged = writer.await.expect("no panic");
        assert_eq!(count(primary.address()).await, old, "nobody wrote to both");
        let kept = Postgres::ask(replica.address(), "SELECT n FROM orders").await.out;
        let kept: std::collections::BTreeSet<u32> = kept.lines().filter_map(|n| n.parse().ok()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|n| !kept.contains(n)).collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");

        // A person goes back, though there is no command for it.
        let back =
            api.post("/api/v1/services/db/switch", &serde_json::json!({ "back": true, "by": "ada" })).await;
        assert_eq!(back.status, 200, "{}", back.text());
        api.server_until("db/primary", "serves", crate::harness::api::serves).await;
    });
}

/// Two web servers over TLS that Mainstay does not decrypt, told apart by name.
async fn two_sites(home: &Home) -> (Vec<crate::harness::program::Program>, Vec<Files>, String) {
    let authority = Authority::new("of two sites");
    let (mut servers, mut all, mut tables) = (Vec::new(), Vec::new(), String::new());
    for (name, host) in [("one", "one.example.com"), ("two", "two.example.com")] {
        let files = authority.files(home.path(), name, &Leaf::fine(host));
        let address = free_address();
        let server = format!(
            "server {{ listen {address} ssl http2; ssl_certificate {}; ssl_certificate_key {};\n\
             location / {{ return 200 '{name} $ssl_server_name'; }} }}",
            files.chain, files.key
        );
        servers.push(nginx(home, address, &server).await);
        all.push(files);
        tables += &format!(
            "[service.{name}]\nlisten = \"tcp://127.0.0.1:{{port}}\"\nhosts = [\"{host}\"]\n\
             [service.{name}.server.app-1]\naddress = \"{address}\"\n"
        );
    }
    (servers, all, tables)
}

#[test]
fn sites_over_tls_are_told_apart_by_name_without_being_decrypted() {
    run(async {
        let home = Home::new();
        let (_servers, files, tables) = two_sites(&home).await;
        let (_shop, config) = beside(&home).await;
        let address = free_address();
        let config = config.table(&tables.replace("{port}", &address.port().to_string()));
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let at = mainstay.tcp()[0];
        assert_eq!((at, mainstay.tcp().len()), (address, 1));
        let ca = files[0].ca.as_str();
        for host in ["one.example.com", "two.example.com"] {
            let url = format!("https://{host}:{}/", at.port());
            let resolve = format!("{host}:{}:127.0.0.1", at.port());
            for version in ["--http1.1", "--http2"] {
                let arguments =
                    ["-sS", "--noproxy", "*", "--cacert", ca, "--resolve", &resolve, version, &url];
                let answer = ran("curl", arguments).await;
                assert_eq!(answer.good(), format!("{} {host}", &host[..3]), "the server's own certificate");
            }
            let to = at.to_string();
            let shown =
                ran("openssl", ["s_client", "-connect", &to, "-servername", host, "-CAfile", ca]).await;
            assert!(shown.good().contains(&format!("CN = {host}")), "{shown:?}");
            assert!(shown.out.contains("Verify return code: 0 (ok)"), "{shown:?}");
        }
        let to = at.to_string();
        let unknown = ran("openssl", ["s_client", "-connect", &to, "-servername", "no.example.com"]).await;
        assert!(unknown.err.contains("unrecognized name"), "{unknown:?}");
        let nameless = ran("openssl", ["s_client", "-connect", &to, "-noservername"]).await;
        assert!(nameless.err.contains("unrecognized name"), "{nameless:?}");
        let plain = ran("curl", ["-sS", "--noproxy", "*", &format!("http://{at}/")]).await;
        assert_ne!(plain.status, Some(0), "something else than TLS is let go");
        until("they are counted", async || {
            let metrics = mainstay.api().get("/metrics").await.text();
            let counted = |what: &str| metrics.contains(&format!("refusal=\"{what}\"}}"));
            (counted("tls-name-unknown") && counted("tls-hello-missing")).then_some(())
        })
        .await;
    });
}

#[test]
fn a_limit_of_sessions_holds_and_a_drained_database_keeps_those_that_it_has() {
    run(async {
        let home = Home::new();
        let (first, second) = (redis(&home).await, redis(&home).await);
        let (_shop, config) = beside(&home).await;
        let limits = "limits = { concurrent = 3, queue = 1, queue-deadline = \"20s\" }";
        let config = config.table(&database("cache", first.address, second.address, limits));
        let mainstay = Mainstay::start(&home, &config).await;
        both_are_well(&mainstay, "cache").await;
        let at = mainstay.tcp()[0];
        let mut sessions = Vec::new();
        for _ in 0..3 {
            let mut session = Session::open(at).await;
            assert_eq!(session.ask("SET a 1").await.as_deref(), Some("+OK"));
            sessions.push(session);
        }
        // One waits, the next is let go; the first that ends makes room for the one that waits.
        let mut waits = Session::open(at).await;
        waits.0.write_all(b"PING\r\n").await.expect("it is open");
        let service = async |what: &str| {
            let status = mainstay.api().status().await;
            let services = status["services"].as_array().expect("services").clone();
            services.iter().find(|service| service["id"] == "cache").expect("the service")[what].clone()
        };
        until("it waits", async || (service("queued").await == 1).then_some(())).await;
        let mut too_many = Session::open(at).await;
        assert_eq!(too_many.line().await, None);
        drop(sessions.pop());
        assert_eq!(waits.line().await.as_deref(), Some("+PONG"));
        sessions.push(waits);
        drop(sessions.pop());

        let admin = mainstay.admin.to_string();
        let drain = once(&home, &["drain", "cache/primary", "--wait", "1s", "--admin", &admin]).await;
        assert!(!drain.status.success(), "two sessions are still open: {drain:?}");
        assert_eq!(redis_cli(at, &["GET", "a"]).await, "", "what comes now goes to the standby");
        for session in &mut sessions {
            assert_eq!(session.ask("GET a").await.as_deref(), Some("$1"), "who was there stays");
        }
        drop(sessions);
        let drain = once(&home, &["drain", "cache/primary", "--wait", "30s", "--admin", &admin]).await;
        assert!(drain.status.success(), "{}", String::from_utf8_lossy(&drain.stderr));
    });
}

/// The visitor's address in these tests: not that of anything else.
const VISITOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// The body of an answer to such a visitor.
async fn ask_as_visitor(at: SocketAddr) -> String {
    let mut connection = Connection::open_from(VISITOR, at).await.expect("it listens");
    let answer = connection.send("GET", "/", &[("Connection", "close")], b"").await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn a_balancer_in_front_says_who_the_visitor_is_in_both_versions() {
    run(async {
        let home = Home::new();
        let seen = Scripted::start(|request| {
            let from = request.header("x-forwarded-for").unwrap_or("nobody").to_owned();
            Reply::Answer(200, from.into_bytes())
        })
        .await;
        let cache = redis(&home).await;
        let files = Authority::new("of visitors").files(home.path(), "shop", &Leaf::fine("shop.example.com"));
        let log = home.path().join("access.log");
        let tcp = format!(
            "[service.cache]\nlisten = \"tcp://127.0.0.1:0\"\nproxy-protocol = \"127.0.0.1\"\n\
             limits = {{ per-address = \"3/m\", burst = 3 }}\n[service.cache.server.one]\naddress = \"{}\"",
            cache.address
        );
        let mut config = Config::new()
            .external("app-1", seen.address)
            .table(&tcp)
            .table(&format!("[log]\naccess = {log:?}\naccess-format = \"json\""))
            .table(&format!("[[tls.certificate]]\nchain = {:?}\nkey = {:?}", files.chain, files.key));
        config.listen = "https = \"127.0.0.1:0\"\nproxy-protocol = [\"127.0.0.1\"]\n".into();
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let [v1, v2, tcp, tls] = [free_address(), free_address(), free_address(), free_address()];
        let sections = format!(
            "listen v1\n  bind {v1}\n  server m {front} send-proxy\n\
             listen v2\n  bind {v2}\n  server m {front} send-proxy-v2 proxy-v2-options crc32c,unique-id\n\
             listen tcp\n  mode tcp\n  bind {tcp}\n  server m {cache} send-proxy-v2\n\
             listen tls\n  mode tcp\n  bind {tls}\n  server m {secure} send-proxy-v2\n",
            secure = mainstay.secure(),
            front = mainstay.front(),
            cache = mainstay.tcp()[0],
        );
        let _haproxy = haproxy(&home, v1, &sections).await;
        for at in [v1, v2] {
            assert_eq!(ask_as_visitor(at).await, VISITOR.to_string());
        }
        let url = format!("https://{tls}/");
        let from = VISITOR.to_string();
        for version in ["--http1.1", "--http2"] {
            let as_visitor = ["-sSk", "--noproxy", "*", "--interface", &from, version, &url];
            assert_eq!(ran("curl", as_visitor).await.good(), from, "TLS behind the header");
        }
        // HAProxy keeps connections to Mainstay for its visitor alone; another one is another connection.
        let other = http::get(v2, "/").await.expect("an answer");
        assert_eq!(other.text(), "127.0.0.1");
        let log_has = async |protocol: &str| {
            until("the log has the visitor", async || {
                let log = fs::read_to_string(&log).unwrap_or_default();
                let mut lines = log.lines().filter(|line| line.contains(protocol));
                lines.any(|line| line.contains(&VISITOR.to_string())).then_some(())
            })
            .await;
        };
        log_has("HTTP/1.1").await;
        // Limits hold for visitors and not for the balancer.
        let as_visitor = async |from: Ipv4Addr| {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((IpAddr::from(from), 0).into()).expect("loopback has all of 127.0.0.0/8");
            let mut session = Session(socket.connect(tcp).await.expect("it listens"));
            session.ask("PING").await
        };
        for _ in 0..3 {
            assert_eq!(as_visitor(VISITOR).await.as_deref(), Some("+PONG"));
        }
        assert_eq!(as_visitor(VISITOR).await, None, "the fourth of this visitor");
        assert_eq!(as_visitor(Ipv4Addr::new(127, 0, 0, 78)).await.as_deref(), Some("+PONG"));
        log_has("TCP").await;
        // Who is no such balancer may not say it, and who is one must.
        let mut silent = Connection::open(mainstay.front()).await.expect("it listens");
        assert!(
            silent.send("GET", "/", &[], b"").await.is_err(),
            "the balancer's own address, without a header"
        );
        let mut liar = Connection::open_from(VISITOR, mainstay.front()).await.expect("it listens");
        liar.stream.write_all(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n").await.expect("it reads");
        assert_eq!(liar.send("GET", "/", &[], b"").await.map(|answer| answer.status).ok(), Some(400));
    });
}

#[test]
fn servers_that_want_the_proxy_header_get_the_visitor_in_both_versions() {
    run(async {
        let home = Home::new();
        let [to_haproxy, to_nginx] = [free_address(), free_address()];
        let sections = format!(
            "frontend f\n  bind {to_haproxy} accept-proxy\n  \
             http-request return status 200 content-type text/plain lf-string \"%[src]\"\n"
        );
        let _haproxy = haproxy(&home, to_haproxy, &sections).await;
        let server = format!(
            "server {{ listen {to_nginx} proxy_protocol; location / {{ return 200 $proxy_protocol_addr; }} }}"
        );
        let _nginx = nginx(&home, to_nginx, &server).await;
        let (_shop, mut config) = beside(&home).await;
        for (kind, address) in [("haproxy", to_haproxy), ("nginx", to_nginx)] {
            for version in ["v1", "v2"] {
                config = config.table(&format!(
                    "[service.{kind}-{version}]\nlisten = \"tcp://127.0.0.1:0\"\nsend-proxy = \"{version}\"\n\
                     [service.{kind}-{version}.server.one]\naddress = \"{address}\"\n\
                     [service.web-{kind}-{version}]\nhosts = [\"{kind}-{version}.example.com\"]\nsend-proxy = \"{version}\"\n\
                     health = {{ http = \"/\" }}\n[service.web-{kind}-{version}.server.one]\naddress = \"{address}\"\n"
                ));
            }
        }
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let tcp = mainstay.tcp();
        assert_eq!(tcp.len(), 4);
        for at in tcp {
            assert_eq!(ask_as_visitor(at).await, VISITOR.to_string());
        }
        for host in ["haproxy-v1", "haproxy-v2", "nginx-v1", "nginx-v2"] {
            let mut connection = Connection::open_from(VISITOR, mainstay.front()).await.expect("it listens");
            for _ in 0..3 {
                let host = format!("{host}.example.com");
                let answer = connection.send("GET", "/", &[("Host", &host)], b"").await.expect("an answer");
                assert_eq!((answer.status, answer.text()), (200, VISITOR.to_string()), "{host}");
            }
        }
        assert!(mainstay.api().incidents().await.is_empty(), "probes say who they are, too");
    });
}

#[test]
fn a_session_that_an_upgrade_left_behind_is_seen_and_leaves_a_server_that_hangs() {
    run(async {
        let home = Home::new();
        let (primary, standby) = (redis(&home).await, redis(&home).await);
        let (_shop, config) = beside(&home).await;
        let lines =
            "health = { redis = true, interval = \"500ms\", timeout = \"400ms\", rise = 2, fall = 2 }";
        let cache = database("cache", primary.address, standby.address, "")
            .replace("health = { interval = \"500ms\", rise = 2, fall = 2 }", lines);
        let mainstay = Mainstay::start(&home, &config.table(&cache)).await;
        both_are_well(&mainstay, "cache").await;
        let mut session = Session::open(mainstay.tcp()[0]).await;
        assert_eq!(session.ask("PING").await.as_deref(), Some("+PONG"));
        for turn in ["once", "twice"] {
            let path = home.config();
            let output = once(&home, &["upgrade", "-c", path.to_str().expect("UTF-8")]).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let has_it = |server: &serde_json::Value| server["in_flight"] == 1;
            mainstay.api().server_until("cache/primary", &format!("has it after {turn}"), has_it).await;
            assert_eq!(session.ask("PING").await.as_deref(), Some("+PONG"));
        }
        primary.signal(libc::SIGSTOP);
        assert_eq!(
            session.line().await,
            None,
            "the process that has the session is told that its server is down"
        );
        let none = |server: &serde_json::Value| server["in_flight"] == 0;
        mainstay.api().server_until("cache/primary", "has nothing under way", none).await;
        mainstay.stop().await;
    });
}
