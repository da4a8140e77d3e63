//! What the Internet sends when nobody asked: garbage, half requests, known attacks. Nothing panics, nothing leaks, and
//! visitors are served all the while.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::Mainstay;
use crate::harness::program::ran;
use crate::harness::shop::Shop;
use crate::harness::site::{Authority, Leaf};
use crate::harness::{http, measured, process, run, until};

/// Byte strings sent to each port.
const STRINGS: usize = 1000;

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long an answer to garbage is waited for.
const PATIENCE: Duration = Duration::from_millis(150);

/// Written by hand: each is a known way to hurt a server of HTTP.
const ATTACKS: &[&[u8]] = &[
    b"",
    b"\r\n\r\n\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhelloX\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET http://user:pass@elsewhere.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\x7f\xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded: yes\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAAA\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%00%ff%2e%2e%2f HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /servers/%2e%2e/%00 HTTP/1.1\r\nHost: a\r\nCookie: \xff=\xfe; ;;=\r\n\r\n",
    b"POST /api/v1/servers/shop/app-1/state HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n[[[[",
    b"GET /api/v1/incidents?before=-1&most=999999999999999999999 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /api/v1/incidents/18446744073709551616 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"EHLO spam.example\r\n",
];

/// The `number`th string: the attacks first, then attacks and good requests with bytes changed, cut, doubled, and noise.
fn hostile(number: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    if let Some(attack) = ATTACKS.get(number) {
        return attack.to_vec();
    }
    let mut bytes = match random.u8(0..5) {
        0 => (0..random.usize(1..4096)).map(|_| random.u8(..)).collect(),
        1 => [b"GET /".as_slice(), &vec![b'a'; random.usize(1..200_000)], b" HTTP/1.1\r\nHost: a\r\n\r\n"]
            .concat(),
        2 => {
            let header = format!("X-{}: {}\r\n", random.u32(..), "v".repeat(random.usize(0..300)));
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", header.repeat(random.usize(1..1000))).into_bytes()
        }
        _ => ATTACKS[random.usize(0..ATTACKS.len())].to_vec(),
    };
    for _ in 0..random.usize(0..8) {
        let place = random.usize(0..=bytes.len());
        match random.u8(0..4) {
            0 if place < bytes.len() => bytes[place] = random.u8(..),
            1 => bytes.truncate(place),
            2 => bytes.insert(place, *b"\r\n: \0,;/".get(random.usize(0..8)).unwrap_or(&0)),
            _ => bytes.extend_from_within(..place.min(2000)),
        }
    }
    bytes
}

async fn attack(address: SocketAddr, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let strings: Vec<Vec<u8>> = (0..STRINGS).map(|number| hostile(number, &mut random)).collect();
    for batch in strings.chunks(40) {
        let sent = batch.iter().map(|bytes| {
            let bytes = bytes.clone();
            tokio::spawn(async move { http::raw(address, &bytes, PATIENCE).await })
        });
        for one in sent.collect::<Vec<_>>() {
            one.await.expect("no panic").expect("the port still takes connections");
        }
    }
}

#[test]
fn a_thousand_hostile_strings_to_each_port_hurt_nobody() {
    run(async {
        let home = Home::new();
        let shops = Shop::three(&home).await;
        let config =
            shops.iter().fold(Config::new(), |config, shop| config.external(&shop.name, shop.address));
        let mut mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        // Once beforehand, so that what is allocated only once does not count as a leak.
        attack(mainstay.front(), 1).await;
        attack(mainstay.admin, 2).await;
        let pid = mainstay.pid();
        let settled = async || {
            until("connections of the attack are closed", async || {
                (process::descriptors(pid) < 150).then_some(process::descriptors(pid))
            })
            .await
        };
        let descriptors = settled().await;
        let memory = process::resident_kib(pid);

        let load = Load::start(mainstay.front(), 100, "/");
        attack(mainstay.front(), 3).await;
        attack(mainstay.admin, 4).await;
        load.finish().await.assert_none_failed();

        assert!(mainstay.runs());
        let descriptors_after = settled().await;
        let memory_after = process::resident_kib(pid);
        measured(
            "hostile strings: descriptors before and after",
            format!("{descriptors} {descriptors_after}"),
        );
        measured("hostile strings: resident KiB before and after", format!("{memory} {memory_after}"));
        assert!(memory_after < memory + 64 * 1024, "{memory} KiB became {memory_after} KiB");
        assert_eq!(http::get(mainstay.front(), "/").await.expect("an answer").status, 200);
        api.all_serve().await;
        assert!(api.incidents().await.is_empty(), "an attack on the door is no server's fault");
    });
}

#[test]
fn a_client_that_never_finishes_its_request_holds_up_nobody() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", shop.address)).await;
        mainstay.api().all_serve().await;
        let mut held = Vec::new();
        for _ in 0..300 {
            use tokio::io::AsyncWriteExt;
            let mut stream = tokio::net::TcpStream::connect(mainstay.front()).await.expect("it listens");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.expect("it reads");
            held.push(stream);
        }
        let load = Load::start(mainstay.front(), 200, "/");
        load.more(200).await;
        load.finish().await.assert_none_failed();
        mainstay.api().all_serve().await;
    });
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What floods of HTTP/2 send behind their preface, and the name by which each is refused.
fn floods() -> [(&'static str, Vec<u8>); 6] {
    let [data, headers, rst_stream, settings, ping, continuation] = [0, 1, 3, 4, 6, 9];
    let [end_stream, end_headers] = [1, 4];
    // `GET http://a/` and `POST http://a/` by the static table.
    let [get, post]: [&[u8]; 2] = [b"\x82\x86\x84\x41\x01a", b"\x83\x86\x84\x41\x01a"];
    let many = |frame: &dyn Fn(u32) -> Vec<u8>| (0..3000).flat_map(frame).collect::<Vec<u8>>();
    let ask = |stream| frame(headers, end_headers | end_stream, stream, get);
    let reset = |n| [ask(2 * n + 1), frame(rst_stream, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    // One line of 4 KB goes into the table and stands in the head a thousand times.
    let line = [&b"\x40\x01x\x7f\x81\x1e"[..], &[b'y'; 3968], &[0xbe; 1000]].concat();
    let after = |first: Vec<u8>, rest: Vec<u8>| [first, rest].concat();
    [
        ("http2-too-much", many(&reset)),
        ("http2-ping-flood", many(&|_| frame(ping, 0, 0, &[0; 8]))),
        ("http2-settings-flood", many(&|_| frame(settings, 0, 0, &[]))),
        (
            "http2-continuation-flood",
            after(frame(headers, end_stream, 1, get), many(&|_| frame(continuation, 0, 1, b"\0\x01x\x01y"))),
        ),
        ("http2-too-much", after(frame(headers, end_headers, 1, post), many(&|_| frame(data, 0, 1, &[])))),
        ("http2-too-much", frame(headers, end_headers | end_stream, 1, &[get, &line].concat())),
    ]
}

/// Sends that over a connection of its own and reads on until Mainstay has closed it.
async fn is_closed(address: SocketAddr, bytes: &[u8]) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let (mut from, mut to) = stream.into_split();
    let reading = tokio::spawn(async move { while let Ok(1..) = from.read(&mut [0; 4096]).await {} });
    // Whoever is sent away does not get to say all.
    let _ = to.write_all(&[PREFACE, &frame(4, 0, 0, &[]), bytes].concat()).await;
    let ended = tokio::time::timeout(crate::harness::PATIENCE, reading).await;
    ended.expect("the flood is ended").expect("no panic");
}

/// Asks over one connection for so many answers as there may be, none of which may be sent.
async fn window_shut(address: SocketAddr) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    // As `GET http://a/`, with another path.
    let get = [b"\x82\x86\x41\x01a\x04\x0f", &b"/bytes?n=200000"[..]].concat();
    let gets = (0..128).flat_map(|n| frame(1, 5, 2 * n + 1, &get));
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let all = [PREFACE, &no_window, &gets.collect::<Vec<u8>>()].concat();
    stream.write_all(&all).await.expect("it reads");
    stream
}

#[test]
fn floods_of_http2_cost_little_memory_and_fail_no_visitor() {
    /// Connections of each kind.
    const EACH: usize = 50;
    const SHUT: usize = 4;
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let config =
            Config::new().external("app-1", shop.address).service_lines("timeouts = { idle = \"2s\" }");
        let mut mainstay = Mainstay::start(&home, &config).await;
        let (api, front) = (mainstay.api(), mainstay.front());
        api.all_serve().await;
        let load = Load::start(front, 100, "/");
        let mut resident = vec![process::resident_kib(mainstay.pid())];
        for round in 1..=3 {
            let mut shut = Vec::new();
            for _ in 0..SHUT {
                shut.push(window_shut(front).await);
            }
            let asked = async || shop.requests().await as usize;
            until("the server has answered", async || (asked().await >= round * SHUT * 128).then_some(()))
                .await;
            let attacks: Vec<_> = std::iter::repeat_n(floods(), EACH)
                .flatten()
                .map(|(_, bytes)| tokio::spawn(async move { is_closed(front, &bytes).await }))
                .collect();
            for attack in attacks {
                attack.await.expect("it is ended");
            }
            until("who opens no window is let go", async || {
                let under_way = api.status().await["services"][0]["in_flight"].as_u64();
                under_way.is_some_and(|requests| requests < 100).then_some(())
            })
            .await;
            resident.push(process::resident_kib(mainstay.pid()));
        }
        load.more(100).await;
        load.finish().await.assert_none_failed();
        assert!(mainstay.runs());
        measured("floods of HTTP/2: resident KiB before and after each round", format!("{resident:?}"));
        // What 500 requests under way at once take, some of which is kept for the next ones; each round unpacks 200 MB of headers alone.
        assert!(resident.iter().all(|now| *now < resident[0] + 96 * 1024), "{resident:?}");
        let metrics = api.get("/metrics").await.text();
        for (name, _) in floods() {
            let counted = metrics.contains(&format!("mainstay_refusals_total{{refusal=\"{name}\"}}"));
            assert!(counted, "{name}: {metrics}");
        }
        let log = mainstay.log();
        assert!(log.len() < EACH, "whoever comes by does not fill the log: {log:#?}");
        api.all_serve().await;
    });
}

#[test]
fn slow_clients_over_every_protocol_leave_room_and_memory_for_visitors() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let files = Authority::new("of visitors").files(home.path(), "shop", &Leaf::fine("shop.example.com"));
        let mut config = Config::new()
            .external("app-1", shop.address)
            .table(&format!("[[tls.certificate]]\nchain = {:?}\nkey = {:?}", files.chain, files.key));
        // So short that each of them fires while the attacks last.
        config.listen = "https = \"127.0.0.1:0\"\nhead-timeout = \"2s\"\n".into();
        let config = config.service_lines("timeouts = { body = \"1s\", body-grace = \"1s\", idle = \"2s\" }");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let memory = process::resident_kib(mainstay.pid());
        let [plain, secure] =
            [format!("http://{}/", mainstay.front()), format!("https://{}/", mainstay.secure())];
        // A body that somebody waits for, and an answer that the kernel does not take whole from who is not read.
        let order = format!("{plain}order");
        let [large, secure_large] = [&plain, &secure].map(|url| format!("{url}bytes?n=300000"));
        let load = Load::start(mainstay.front(), 100, "/");
        // Slow heads, slow bodies, many ranges, slow readers; heads and readers over TLS too.
        let kinds: [(&str, &[&str]); 6] = [
            (&plain, &["-H"]),
            (&order, &["-B", "-s", "8192"]),
            (&plain, &["-R", "-a", "1", "-b", "2000"]),
            (&large, &["-X", "-w", "64", "-y", "256", "-n", "1", "-z", "16"]),
            (&secure, &["-H"]),
            (&secure_large, &["-X", "-w", "64", "-y", "256", "-n", "1", "-z", "16"]),
        ];
        // Somebody who asks for much, and takes it: that is no attack.
        let url = format!("{secure}bytes?n=20000");
        let heavy = tokio::spawn(async move { h2load(&url, &["-n", "6000", "-c", "20", "-m", "20"]).await });
        until("it has begun", async || (shop.requests().await > 500).then_some(())).await;
        let attacks = kinds.map(|(url, kind)| {
            let mut attack = tokio::process::Command::new("slowhttptest");
            // 300 connections, 150 a second, a byte or so each second, for four seconds.
            attack.args(kind).args(["-c", "300", "-r", "150", "-i", "1", "-l", "4", "-p", "3", "-u", url]);
            attack.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
            attack.spawn().expect("slowhttptest is installed")
        });
        for mut attack in attacks {
            attack.wait().await.expect("it ends");
        }
        let heavy = heavy.await.expect("h2load ends well");
        load.finish().await.assert_none_failed();
        let after = process::resident_kib(mainstay.pid());
        measured("slow clients: resident KiB before and after", format!("{memory} {after}"));
        assert!(after < memory + 64 * 1024, "{memory} KiB became {after} KiB");
        let metrics = mainstay.api().get("/metrics").await.text();
        for name in ["head-timeout", "body-timeout"] {
            let line = format!("mainstay_refusals_total{{refusal=\"{name}\"}} ");
            let refused = metrics.lines().find_map(|metric| metric.strip_prefix(&line)?.parse::<u32>().ok());
            measured(&format!("slow clients: {name}"), refused.unwrap_or(0));
            assert!(refused.is_some(), "{name}: {refused:?}");
        }
        assert!(heavy.contains("6000 succeeded, 0 failed, 0 errored, 0 timeout"), "{heavy}");
        assert!(heavy.contains("status codes: 6000 2xx"), "{heavy}");
        let body = home.path().join("body");
        std::fs::write(&body, vec![b'x'; 5000]).expect("a file");
        let body = body.to_str().expect("UTF-8");
        for url in [format!("{secure}order"), format!("{plain}order")] {
            let posts = h2load(&url, &["-n", "1000", "-c", "10", "-m", "10", "-d", body]).await;
            assert!(posts.contains("status codes: 1000 2xx"), "{posts}");
        }
        assert_eq!(shop.orders().await, 2000, "each was carried out once");
        mainstay.api().all_serve().await;
    });
}

/// What Debian's h2load says of its load.
async fn h2load(url: &str, arguments: &[&str]) -> String {
    ran("h2load", [arguments, &[url]].concat()).await.good().to_owned()
}
