//! Too many requests: a flood from one address is limited and nobody else notices, and what the servers cannot carry
//! waits or is shed by its priority, counted exactly.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Connection};
use crate::harness::mainstay::Mainstay;
use crate::harness::process::resident_kib;
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::shop::Shop;
use crate::harness::{measured, pause, run, until};

/// A connection from an address of this machine.
async fn from(source: Ipv4Addr, to: SocketAddr) -> Connection {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((source, 0).into()).expect("loopback has all of 127.0.0.0/8");
    Connection::of(socket.connect(to).await.expect("Mainstay listens"))
}

async fn shop(mainstay: &Mainstay) -> Value {
    let status = mainstay.api().status().await;
    status["services"][0].clone()
}

/// What of the service is under way and what waits.
async fn until_under_way(mainstay: &Mainstay, in_flight: u64, queued: u64) {
    until("so many are under way and wait", async || {
        let shop = shop(mainstay).await;
        (shop["in_flight"] == in_flight && shop["queued"] == queued).then_some(())
    })
    .await;
}

#[test]
fn a_flood_from_one_address_is_limited_and_another_is_served_untouched() {
    run(async {
        let home = Home::new();
        let server = Shop::start(&home, "app-1").await;
        let config = Config::new()
            .external("app-1", server.address)
            .service_lines("limits = { per-address = \"50/s\", burst = 20 }");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let (front, begun) = (mainstay.front(), Instant::now());
        let flood = async |_: u32| {
            let mut connection = from(Ipv4Addr::new(127, 0, 0, 2), front).await;
            let (mut served, mut limited) = (0u64, 0u64);
            while begun.elapsed() < Duration::from_secs(3) {
                match connection.send("GET", "/", &[], b"").await.expect("an answer").status {
                    200 => served += 1,
                    429 => limited += 1,
                    other => panic!("{other}"),
                }
            }
            (served, limited)
        };
        let calm = async {
            let mut connection = from(Ipv4Addr::new(127, 0, 0, 3), front).await;
            let mut served = 0;
            while begun.elapsed() < Duration::from_secs(3) {
                assert_eq!(connection.send("GET", "/", &[], b"").await.expect("an answer").status, 200);
                served += 1;
                pause(Duration::from_millis(40)).await;
            }
            served
        };
        let (a, b, c, calm) = tokio::join!(flood(1), flood(2), flood(3), calm);
        let took = begun.elapsed().as_secs_f64();
        let (served, limited) = (a.0 + b.0 + c.0, a.1 + b.1 + c.1);
        measured("served of the flood", format!("{served} of {} in {took:.1} s", served + limited));
        let most = 20.0 + 50.0 * took;
        assert!(served as f64 <= most + 1.0, "{served} of at most {most}");
        assert!(limited > 0 && calm > 10);
        // Each worker reports for itself, so what was refused may be counted before all that was served.
        let totals = until("all is counted", async || {
            let totals = shop(&mainstay).await["totals"].clone();
            (totals["requests"] == served + limited + calm).then_some(totals)
        })
        .await;
        assert_eq!((&totals["limited"], &totals["shed"]), (&limited.into(), &0.into()));
        mainstay.stop().await;
    });
}

#[test]
fn overload_is_shed_by_priority_and_counted_as_its_visitors_count_it() {
    run(async {
        let home = Home::new();
        let server = Shop::start(&home, "app-1").await;
        let config = Config::new()
            .external("app-1", server.address)
            .service_lines("limits = { concurrent = 2, queue = 3, queue-deadline = \"20s\" }")
            .service_lines("timeouts = { per-try = \"20s\" }")
            .service_lines("priority = [{ path = \"/checkout\", level = \"high\" }]");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let front = mainstay.front();
        let held: Vec<_> = (0..2).map(|_| tokio::spawn(http::get(front, "/slow?ms=4000"))).collect();
        until_under_way(&mainstay, 2, 0).await;
        let low: Vec<_> = (0..3).map(|_| tokio::spawn(http::get(front, "/"))).collect();
        until_under_way(&mainstay, 2, 3).await;
        let refused = http::get(front, "/").await.expect("an answer");
        assert_eq!(refused.status, 503, "the queue is full, and nobody in it is lower");
        let after: u64 = refused.header("retry-after").expect("Retry-After").parse().expect("seconds");
        assert!((2..=6).contains(&after));
        let high: Vec<_> = (0..2).map(|_| tokio::spawn(http::get(front, "/checkout/pay"))).collect();
        let (mut served, mut shed) = (0u64, 1u64);
        for request in held.into_iter().chain(low).chain(high) {
            match request.await.expect("no panic").expect("an answer").status {
                // The sample shop knows no checkout: its 404 is an answer too.
                200 | 404 => served += 1,
                503 => shed += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!((served, shed), (5, 3), "two of three made way for the checkouts");
        let shop = until("all is counted", async || {
            let shop = shop(&mainstay).await;
            (shop["totals"]["requests"] == 8).then_some(shop)
        })
        .await;
        assert_eq!((&shop["totals"]["shed"], &shop["totals"]["failed"]), (&3.into(), &0.into()));
        assert_eq!((&shop["limits"]["concurrent"], &shop["limits"]["queue"]), (&2.into(), &3.into()));
        let metrics = mainstay.api().get("/metrics").await.text();
        assert!(metrics.contains("mainstay_requests_shed_total{service=\"shop\"} 3"), "{metrics}");
        assert!(metrics.contains("mainstay_service_queued{service=\"shop\"} 0"), "{metrics}");
        let page = mainstay.api().get("/services/shop").await.text();
        assert!(page.contains("waiting for room") && page.contains("0 of 3"), "{page}");
        mainstay.stop().await;
    });
}

#[test]
fn who_waits_is_shed_at_the_deadline_and_keeps_waiting_over_a_reload_that_makes_room() {
    run(async {
        let home = Home::new();
        let hanging = Scripted::start(|request| match request.target.as_str() {
            "/hang" => Reply::Hang,
            _ => Reply::Answer(200, b"hello".to_vec()),
        })
        .await;
        let limits = |limits: &str| {
            Config::new()
                .external("app-1", hanging.address)
                .service_lines("timeouts = { per-try = \"30s\" }")
                .service_lines(limits)
        };
        let brief = limits("limits = { concurrent = 1, queue-deadline = \"200ms\" }");
        let mainstay = Mainstay::start(&home, &brief).await;
        mainstay.api().all_serve().await;
        let front = mainstay.front();
        let hung = tokio::spawn(http::post(front, "/hang", b"x"));
        until_under_way(&mainstay, 1, 0).await;
        let shed = http::get(front, "/").await.expect("an answer");
        assert_eq!(shed.status, 503);
        assert!(shed.header("retry-after").is_some() && shed.text().contains("busy"));
        let reload = |config: Config| {
            home.write_config(&config.text(&home));
            mainstay.signal(libc::SIGHUP);
        };
        reload(limits("limits = { concurrent = 1, queue = 5, queue-deadline = \"25s\" }"));
        until("the new limits hold", async || (shop(&mainstay).await["limits"]["queue"] == 5).then_some(()))
            .await;
        let waits = tokio::spawn(http::get(front, "/"));
        until_under_way(&mainstay, 1, 1).await;
        reload(limits("limits = { concurrent = 2 }"));
        let answer = waits.await.expect("no panic").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        hung.abort();
        until_under_way(&mainstay, 0, 0).await;
        mainstay.stop().await;
    });
}

#[test]
fn a_hundred_thousand_sources_take_no_more_memory_than_the_table_has() {
    const SOURCES: u32 = 100_000;
    run(async {
        let home = Home::new();
        let hanging = Scripted::start(|_| Reply::Hang).await;
        let mut config = Config::new().external("app-1", hanging.address).service_lines(
            "limits = { per-address = \"1/h\", concurrent = 1, queue = 0 }\ntimeouts = { per-try = \"60s\" }",
        );
        config.listen = "trusted-proxies = \"127.0.0.0/8\"\n".into();
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let front = mainstay.front();
        let hung = tokio::spawn(http::post(front, "/", b"x"));
        until_under_way(&mainstay, 1, 0).await;
        // Each of another network of IPv6, on few connections; there is no room, so none goes on to a server.
        let ask = async |first: u32, last: u32| {
            let mut connection = Connection::open(front).await.expect("Mainstay listens");
            for batch in (first..last).step_by(50) {
                let mut heads = String::new();
                for n in batch..batch + 50 {
                    let (high, low) = (n >> 16, n & 0xffff);
                    heads += &format!(
                        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:{high:x}:{low:x}::1\r\n\r\n"
                    );
                }
                connection.stream.write_all(heads.as_bytes()).await.expect("sent");
                for _ in 0..50 {
                    assert_eq!(connection.read_answer("GET").await.expect("an answer").status, 503);
                }
            }
        };
        // The table's pages are touched by the first thousands; what comes after must fit into them.
        ask(0, SOURCES / 5).await;
        let before = resident_kib(mainstay.pid());
        tokio::join!(ask(SOURCES / 5, SOURCES / 5 * 3), ask(SOURCES / 5 * 3, SOURCES));
        let after = resident_kib(mainstay.pid());
        measured("memory for 80,000 further sources", format!("{before} KiB -> {after} KiB"));
        assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
        let totals = until("all is counted", async || {
            let totals = shop(&mainstay).await["totals"].clone();
            (totals["shed"].as_u64()? == u64::from(SOURCES)).then_some(totals)
        })
        .await;
        assert_eq!(totals["limited"], 0);
        hung.abort();
        mainstay.stop().await;
    });
}
