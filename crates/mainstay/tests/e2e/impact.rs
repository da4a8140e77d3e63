//! What an incident cost, held against a client that counts for itself: every request's fate and every visitor, to the last
//! one, also when Mainstay is killed in the middle.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::Connection;
use crate::harness::mail::MailSink;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::shop::Shop;
use crate::harness::{run, until};

/// Answers later than this are slow; far above what a busy machine adds to a quick one. What was sent is not sent again: a slow
/// request would be moved, and so be saved, if the other server has come back by then.
const VALUED: &str = "slow-after = \"3s\"\nvalue = { per-hour = 3600, currency = \"EUR\" }\n\
                      timeouts = { per-try = \"20s\" }\nretry = { max-tries = 1 }\nresolve-after = \"7s\"\nslow-start = \"1s\"\n\
                      health = { http = \"/healthz\", interval = \"1s\", timeout = \"800ms\" }";

/// What a client saw, by its own count.
#[derive(Debug, Default)]
struct Client {
    requests: u64,
    failed: u64,
    server_errors: u64,
    slow: u64,
    hurt: BTreeSet<Ipv4Addr>,
}

impl Client {
    /// A visitor with the address 127.0.0.`last` asks so often, one request after the other on one connection.
    async fn visit(&mut self, front: SocketAddr, last: u8, times: u64, target: &str) -> u16 {
        let source = Ipv4Addr::new(127, 0, 0, last);
        let mut connection = Connection::open_from(source, front).await.expect("Mainstay accepts");
        let mut status = 0;
        for _ in 0..times {
            if !connection.is_open() {
                connection = Connection::open_from(source, front).await.expect("Mainstay accepts");
            }
            let answer = connection.send("GET", target, &[], b"").await.expect("Mainstay always answers");
            status = answer.status;
            self.requests += 1;
            match status {
                200 if target.starts_with("/slow") => self.slow += 1,
                200 => {}
                // The sample shop says 500; only Mainstay itself says these.
                502..=504 => self.failed += 1,
                500 => self.server_errors += 1,
                other => panic!("an answer of {other}"),
            }
            if status >= 500 {
                self.hurt.insert(source);
            }
        }
        status
    }

    fn seen(&self) -> Value {
        json!({
            "requests": self.requests, "failed": self.failed, "server_errors": self.server_errors, "saved": 0,
            "slow": self.slow, "shed": 0, "limited": 0, "connections": false
        })
    }
}

/// Waits until the service has counted so many requests in this run.
async fn counted(mainstay: &Mainstay, requests: u64) {
    until("what was sent is counted", async || {
        let status = mainstay.api().status().await;
        (status["services"][0]["totals"]["requests"] == requests).then_some(())
    })
    .await;
}

/// Waits until an incident's counts are those of the client, and holds all else that is known of them against one another.
async fn agrees(mainstay: &Mainstay, id: u64, client: &Client) -> Value {
    let incident = until("the incident has counted every request", async || {
        let incident = mainstay.api().incident(id).await;
        (incident["seen"]["requests"].as_u64() >= Some(client.requests)).then_some(incident)
    })
    .await;
    assert_eq!(incident["seen"], client.seen(), "{incident:#}");
    let impact = &incident["impact"];
    assert_eq!(impact["visitors"], client.hurt.len(), "{impact:#}");
    assert_eq!(impact["visitors_exact"], true);
    for (name, total) in client.seen().as_object().expect("an object") {
        // Whether requests or connections are counted is no count.
        let Some(total) = total.as_u64() else { continue };
        let points = incident["curve"][name].as_array().unwrap_or_else(|| panic!("no {name} in the curve"));
        let sum: u64 = points.iter().filter_map(Value::as_u64).sum();
        assert_eq!(sum, total, "the curve of {name}: {:#}", incident["curve"]);
    }
    incident
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn the_impact_of_an_outage_is_what_a_client_counts_for_itself() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let mut shops = [Shop::start(&home, "app-1").await, Shop::start(&home, "app-2").await];
        let mut config = Config::new();
        config.service = VALUED.to_owned() + "\n";
        let config = shops.iter().fold(config, |config, shop| config.external(&shop.name, shop.address));
        let mainstay = Mainstay::start(&home, &config.mail_to(sink.address)).await;
        let (api, front) = (mainstay.api(), mainstay.front());
        api.all_serve().await;

        // Before it begins: none of this is the incident's.
        let mut before = Client::default();
        before.visit(front, 1, 40, "/").await;
        counted(&mainstay, before.requests).await;

        shops.iter_mut().for_each(Shop::kill);
        let mut client = Client::default();
        for visitor in 2..=8 {
            client.visit(front, visitor, 40, "/").await;
        }
        assert_eq!((client.failed, client.hurt.len()), (280, 7), "{client:?}");
        let id = api.first_incident().await;
        let down = until("the service is down for some seconds", async || {
            let incident = api.incident(id).await;
            (incident["impact"]["down_seconds"].as_u64() >= Some(2)).then_some(incident)
        })
        .await;
        assert_eq!(down["severity"], "down");
        agrees(&mainstay, id, &client).await;

        for shop in &mut shops {
            shop.up().await;
        }
        until("the first good answer", async || (client.visit(front, 2, 1, "/").await == 200).then_some(()))
            .await;
        client.visit(front, 9, 3, "/status?code=500").await;
        client.visit(front, 3, 60, "/").await;
        client.visit(front, 4, 1, "/slow?ms=3300").await;
        let incident = agrees(&mainstay, id, &client).await;
        assert_eq!((client.hurt.len(), client.slow), (8, 1), "{client:?}");
        let impact = &incident["impact"];
        let (hurt, down, lost) =
            (number(&impact["hurt_seconds"]), number(&impact["down_seconds"]), number(&impact["lost_ms"]));
        assert!(2 <= down && down <= hurt && lost <= hurt * 1000 && lost >= (down - 2) * 1000, "{impact:#}");

        let over = api.resolved(id).await;
        assert_eq!(over["seen"], client.seen());
        let impact = &over["impact"];
        // 3,600 EUR an hour are 1 EUR a second.
        let (lost, amount) = (number(&impact["lost_ms"]), &impact["money"]["amount"]);
        assert!((amount.as_f64().expect("a number") - lost as f64 / 1000.0).abs() < 0.006, "{impact:#}");
        let mails = until("the mail that it is over arrived", async || {
            let mails = sink.messages();
            mails.iter().any(|m| m.header("subject").contains("resolved")).then_some(mails)
        })
        .await;
        let last = mails.iter().find(|m| m.header("subject").contains("resolved")).expect("just seen");
        assert!(last.body.contains("  hurt      8 visitors, during "), "{}", last.body);
        report_is_the_same_from_everywhere(&home, mainstay, id).await;
    });
}

/// The report by the API, by the command line while Mainstay runs, and from the record when it does not.
async fn report_is_the_same_from_everywhere(home: &Home, mainstay: Mainstay, id: u64) {
    let (id, admin) = (id.to_string(), mainstay.admin.to_string());
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let facts = |markdown: &str| {
        let lines = markdown.lines().filter(|line| !line.starts_with("Written by"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let markdown = until("the record knows that both mails were accepted", async || {
        let by_api = mainstay.api().get(&format!("/api/v1/incidents/{id}/report?format=md")).await;
        assert_eq!(by_api.header("content-type"), Some("text/markdown; charset=utf-8"));
        Some(by_api.text()).filter(|text| text.matches("| accepted ").count() == 2)
    })
    .await;
    for part in [
        "## Times",
        "## Impact",
        "- Different visitors hurt: 8.",
        "## Timeline",
        "| email | began | accepted",
    ] {
        assert!(markdown.contains(part), "no {part} in\n{markdown}");
    }
    let asked = once(home, &["report", &id, "--admin", &admin]).await;
    assert_eq!(facts(&text(&asked)), facts(&markdown));
    let unknown = once(home, &["report", "999", "--admin", &admin]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("There is no incident 999."));
    assert!(mainstay.stop().await.success());

    // The config names port 0, on which nobody answers: the record is read instead.
    let config = home.config();
    let config = config.to_str().expect("UTF-8");
    let offline = once(home, &["report", &id, "-c", config, "--output", "post-mortem.md"]).await;
    assert!(offline.status.success(), "{}", String::from_utf8_lossy(&offline.stderr));
    let written = std::fs::read_to_string(home.path().join("post-mortem.md")).expect("it was written");
    assert_eq!(facts(&written), facts(&markdown));
    let unknown = once(home, &["report", "999", "-c", config]).await;
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && said.contains("there is no incident 999; the newest is"), "{said}");
    let nowhere = once(home, &["report", &id, "--data", "nowhere"]).await;
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(!nowhere.status.success() && said.contains("there is no record here"), "{said}");
}

#[test]
fn killing_mainstay_in_the_middle_loses_no_recorded_impact_and_counts_none_twice() {
    run(async {
        let home = Home::new();
        let mut shop = Shop::start(&home, "app-1").await;
        let mut config = Config::new().external("app-1", shop.address);
        config.service = VALUED.to_owned() + "\n";
        let mut mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        shop.kill();
        let mut client = Client::default();
        client.visit(mainstay.front(), 2, 30, "/").await;
        client.visit(mainstay.front(), 3, 30, "/").await;
        let id = mainstay.api().first_incident().await;
        agrees(&mainstay, id, &client).await;
        let data = home.data();
        let data = data.to_str().expect("UTF-8");
        let arguments = ["report", &id.to_string(), "--json", "--data", data].map(str::to_owned);
        let recorded = async || -> Value {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = once(&home, &arguments).await;
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
                panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
            })
        };
        until("what was counted is written down", async || {
            (recorded().await["incident"]["seen"] == client.seen()).then_some(())
        })
        .await;

        mainstay.kill().await;
        let left = recorded().await;
        assert_eq!(left["incident"]["seen"], client.seen());
        mainstay = Mainstay::again(&home).await;
        let after = agrees(&mainstay, id, &client).await;
        for figure in ["hurt_seconds", "down_seconds", "lost_ms", "visitors"] {
            let (before, after) = (&left["incident"]["impact"][figure], &after["impact"][figure]);
            assert!(number(after) >= number(before), "{figure}: {before} became {after}");
        }

        // An old visitor, whom the new run still knows, and a new one.
        client.visit(mainstay.front(), 3, 20, "/").await;
        client.visit(mainstay.front(), 4, 20, "/").await;
        agrees(&mainstay, id, &client).await;
        // In the middle of counting: some may be lost, none is doubled.
        client.visit(mainstay.front(), 5, 50, "/").await;
        mainstay.kill().await;
        let left = recorded().await["incident"].clone();
        mainstay = Mainstay::again(&home).await;
        let after = mainstay.api().incident(id).await;
        for figure in ["requests", "failed"] {
            let (left, after) = (number(&left["seen"][figure]), number(&after["seen"][figure]));
            assert!(
                left <= after && after <= client.requests,
                "{figure}: {left} became {after}, not {client:?}"
            );
        }
        shop.up().await;
        let over = mainstay.api().resolved(id).await;
        assert!(number(&over["impact"]["visitors"]) >= 3 && number(&over["impact"]["visitors"]) <= 4);
        assert_eq!(over["state"], "resolved");
    });
}

#[test]
fn an_incident_that_hurts_nobody_costs_nothing() {
    run(async {
        let home = Home::new();
        let mut shops = Shop::three(&home).await;
        let mut config = Config::new();
        config.service = VALUED.to_owned() + "\n";
        let config = shops.iter().fold(config, |config, shop| config.external(&shop.name, shop.address));
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        shops[1].kill();
        let id = mainstay.api().first_incident().await;
        let mut client = Client::default();
        client.visit(mainstay.front(), 2, 120, "/").await;
        let incident = agrees(&mainstay, id, &client).await;
        assert_eq!(client.failed + client.server_errors, 0, "{client:?}");
        assert_eq!(
            (&incident["impact"]["hurt_seconds"], &incident["impact"]["visitors"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(incident["impact"]["money"]["amount"], 0.0);
    });
}
