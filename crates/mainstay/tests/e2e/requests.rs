//! Single requests through the data plane: what may be sent twice and what must not, bodies, upgrades, headers.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::api::serves;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Connection};
use crate::harness::mainstay::Mainstay;
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::shop::Shop;
use crate::harness::{run, until};

/// Probes that do not notice anything within a test: only traffic does.
const RARELY_PROBED: &str =
    "health = { http = \"/healthz\", interval = \"60s\" }\nbalance = \"round-robin\"\n";

fn rarely_probed() -> Config {
    let mut config = Config::new();
    config.service = RARELY_PROBED.into();
    config
}

#[test]
fn a_post_whose_server_closed_after_it_was_sent_is_answered_502_and_executed_once() {
    run(async {
        let home = Home::new();
        let dying = Scripted::start(|_| Reply::Close).await;
        let good = Scripted::start(|_| Reply::Answer(200, b"done".to_vec())).await;
        let config = rarely_probed().external("app-1", dying.address).external("app-2", good.address);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().server_until("shop/app-2", "serves", serves).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;

        let mut refused = 0;
        for number in 0..20 {
            let order = format!("order {number}");
            let answer = http::post(mainstay.front(), "/order", order.as_bytes()).await.expect("an answer");
            let reached =
                |server: &Scripted| server.seen().iter().filter(|r| r.body == order.as_bytes()).count();
            match (reached(&dying), reached(&good)) {
                (1, 0) => assert_eq!(answer.status, 502, "{}", answer.text()),
                (0, 1) => assert_eq!(answer.status, 200, "{}", answer.text()),
                counts => panic!("{order} was executed {counts:?} times and answered {}", answer.status),
            }
            refused += usize::from(answer.status == 502);
        }
        assert!(refused > 0, "no order reached the dying server");
    });
}

#[test]
fn a_get_whose_server_closed_after_it_was_sent_is_answered_by_another() {
    run(async {
        let home = Home::new();
        let dying = Scripted::start(|_| Reply::Close).await;
        let good = Scripted::start(|_| Reply::Answer(200, b"done".to_vec())).await;
        let config = rarely_probed().external("app-1", dying.address).external("app-2", good.address);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().server_until("shop/app-2", "serves", serves).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;
        for number in 0..20 {
            let answer = http::get(mainstay.front(), &format!("/page/{number}")).await.expect("an answer");
            assert_eq!(answer.status, 200);
        }
        assert!(!dying.seen().is_empty(), "no request reached the dying server");
    });
}

#[test]
fn a_post_that_was_provably_not_sent_is_retried_on_another_server() {
    run(async {
        let home = Home::new();
        let mut dead = Shop::start(&home, "app-1").await;
        let good = Shop::start(&home, "app-2").await;
        let config = rarely_probed().external("app-1", dead.address).external("app-2", good.address);
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        dead.kill();
        for number in 0..20 {
            let order = format!("order {number}");
            let answer = http::post(mainstay.front(), "/order", order.as_bytes()).await.expect("an answer");
            assert_eq!((answer.status, answer.text()), (200, order));
        }
        assert_eq!(good.orders().await, 20);
        until("the saved requests are counted", async || {
            (api.status().await["services"][0]["totals"]["saved"].as_u64()? > 0).then_some(())
        })
        .await;
    });
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() {
    run(async {
        let home = Home::new();
        let server = Scripted::start(|_| Reply::Echo).await;
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", server.address)).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;
        let mut connection = Connection::open(mainstay.front()).await.expect("it listens");
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        let answer = connection.send("GET", "/chat", &headers, b"").await.expect("an answer");
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(server.seen()[0].header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        for size in [1, 1000, 100_000] {
            let sent: Vec<u8> = (0u8..=255).cycle().take(size).collect();
            let mut back = vec![0; size];
            let (mut reader, mut writer) = connection.stream.split();
            let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut back));
            wrote.and(read.map(drop)).expect("the echo comes");
            assert!(back == sent, "an echo of {size} bytes came back changed");
        }
    });
}

#[test]
fn large_bodies_pass_unchanged_in_both_directions() {
    run(async {
        let home = Home::new();
        let server = Scripted::start(|request| Reply::Answer(200, request.body.clone())).await;
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", server.address)).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;
        let body: Vec<u8> = (0u32..1_000_000).flat_map(u32::to_le_bytes).collect();
        let mut connection = Connection::open(mainstay.front()).await.expect("it listens");
        for _ in 0..2 {
            let answer = connection.send("POST", "/", &[], &body).await.expect("an answer");
            assert_eq!(answer.status, 200);
            assert!(answer.body == body, "{} of {} bytes came back", answer.body.len(), body.len());
            assert!(connection.is_open());
        }
    });
}

#[test]
fn a_server_learns_who_asked_and_nothing_that_was_meant_for_the_next_hop_only() {
    run(async {
        let home = Home::new();
        let server = Scripted::start(|_| Reply::Answer(200, Vec::new())).await;
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", server.address)).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;
        let mut connection = Connection::open(mainstay.front()).await.expect("it listens");
        let headers = [
            ("Host", "shop.example.com"),
            ("Connection", "X-Private"),
            ("X-Private", "1"),
            ("X-Public", "2"),
        ];
        let answer = connection.send("GET", "/page?a=b", &headers, b"").await.expect("an answer");
        assert_eq!(answer.status, 200);
        let seen = server.seen().pop().expect("it reached the server");
        assert_eq!(seen.target, "/page?a=b");
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
        assert_eq!(seen.header("x-forwarded-host"), Some("shop.example.com"));
        assert!(seen.header("forwarded").is_some_and(|f| f.contains("for=127.0.0.1")), "{seen:?}");
        assert_eq!(seen.header("x-public"), Some("2"));
        assert_eq!(seen.header("x-private"), None);
    });
}

#[test]
fn what_became_of_a_request_is_told_by_its_id_over_the_api_and_counted_in_the_metrics() {
    run(async {
        let home = Home::new();
        let dying = Scripted::start(|_| Reply::Close).await;
        let good = Scripted::start(|_| Reply::Answer(200, b"done".to_vec())).await;
        let config = rarely_probed().external("app-1", dying.address).external("app-2", good.address);
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let mut ids = Vec::new();
        for _ in 0..4 {
            let answer = http::get(mainstay.front(), "/cart").await.expect("an answer");
            assert_eq!(answer.status, 200);
            ids.push(answer.header("x-request-id").expect("an id").to_owned());
        }
        // A story and a count are told once its visitor has the answer, not before.
        let told = until("one of them was saved", async || {
            for id in &ids {
                let path = format!("/api/v1/requests/{id}");
                let found = http::get(mainstay.admin, &path).await.expect("an answer");
                if found.status == 200 {
                    return Some(found.json());
                }
            }
            None
        })
        .await;
        assert_eq!(
            (told["line"].as_str(), told["status"].as_u64()),
            (Some("GET /cart"), Some(200)),
            "{told}"
        );
        assert_eq!(told["attempts"][0]["server"], "shop/app-1");
        assert_eq!(told["attempts"][1]["outcome"], "it answered 200");
        let saved = dying.seen().iter().filter(|seen| seen.target == "/cart").count();
        let counted =
            format!("mainstay_service_retries_total{{service=\"shop\",reason=\"reset\"}} {saved}\n");
        until("each of them is counted", async || {
            let metrics = http::get(mainstay.admin, "/metrics").await.expect("an answer").text();
            metrics.contains(&counted).then_some(())
        })
        .await;
    });
}
