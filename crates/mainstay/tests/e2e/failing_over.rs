//! A server dies, hangs or comes back under steady traffic, and its visitors do not notice. These servers are run by
//! somebody else: Mainstay can only route around them.

use std::time::{Duration, Instant};

use crate::harness::api::{at, entries, now_ms, serves};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::Mainstay;
use crate::harness::shop::Shop;
use crate::harness::{http, measured, pause, run, until};

/// The steady load.
const RATE: u32 = 500;

/// Limits that are promised for an idle machine are asserted with this factor, because the tests share theirs.
const SLACK: i64 = 3;

fn in_front_of(shops: &[Shop<'_>]) -> Config {
    shops.iter().fold(Config::new(), |config, shop| config.external(&shop.name, shop.address))
}

#[test]
fn killing_one_of_three_servers_fails_no_request() {
    run(async {
        let home = Home::new();
        let mut shops = Shop::three(&home).await;
        let mainstay = Mainstay::start(&home, &in_front_of(&shops)).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), RATE, "/");
        load.more(500).await;

        let killed_at = now_ms();
        shops[1].kill();
        let id = api.first_incident().await;
        let incident = api.incident_with(id, "ejected").await;
        load.more(1000).await;
        measured("killed to out of rotation, ms", at(&incident, "ejected") - killed_at);
        assert!(at(&incident, "ejected") - killed_at <= 2000 * SLACK, "{incident:#}");
        assert!(!serves(&api.server("shop/app-2").await));

        shops[1].up().await;
        let incident = api.resolved(id).await;
        api.all_serve().await;
        load.more(500).await;
        let run = load.finish().await;
        run.assert_none_failed();
        measured("killed: slowest of all requests, ms", run.slowest().as_millis());
        assert!(shops[1].requests().await > 0, "the server that came back gets traffic");
        assert_eq!(incident["seen"]["failed"], 0, "{incident:#}");
    });
}

#[test]
fn freezing_one_of_three_servers_fails_no_request_and_hardly_any_waits_for_half_a_second() {
    run(async {
        let home = Home::new();
        let shops = Shop::three(&home).await;
        let mainstay = Mainstay::start(&home, &in_front_of(&shops)).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), RATE, "/");
        load.more(500).await;

        let frozen_at = now_ms();
        shops[0].signal(libc::SIGSTOP);
        let id = api.first_incident().await;
        let incident = api.incident_with(id, "ejected").await;
        measured("frozen to out of rotation, ms", at(&incident, "ejected") - frozen_at);
        assert!(at(&incident, "ejected") - frozen_at <= 2000 * SLACK, "{incident:#}");
        load.more(1000).await;

        shops[0].signal(libc::SIGCONT);
        api.resolved(id).await;
        api.all_serve().await;
        let run = load.finish().await;
        run.assert_none_failed();
        let per_try = Duration::from_secs(1);
        measured("frozen: slowest of all requests, ms", run.slowest().as_millis());
        let slow = run.slower_than(per_try / 2);
        measured("frozen: requests slower than 0.5 s", slow);
        assert!(slow <= 20 * usize::try_from(SLACK).expect("a small factor"), "{slow} waited");
        assert!(run.slowest() < per_try * 2, "the slowest took {:?}", run.slowest());
    });
}

#[test]
fn after_all_servers_were_down_the_first_to_return_serves_at_once() {
    run(async {
        let home = Home::new();
        let mut shops = Shop::three(&home).await;
        let mainstay = Mainstay::start(&home, &in_front_of(&shops)).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(100).await;
        for shop in &mut shops {
            shop.kill();
        }
        until("the service counts as down", async || {
            (api.status().await["services"][0]["state"] == "down").then_some(())
        })
        .await;
        let refused = http::get(mainstay.front(), "/").await.expect("an answer");
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");

        shops[2].up().await;
        let returned = Instant::now();
        until("visitors are served again", async || {
            let answer = http::get(mainstay.front(), "/").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        load.more(100).await;
        let run = load.finish().await;
        let good = run.first_good_after(returned).expect("a good answer");
        measured("all were down: first return to first good answer, ms", (good - returned).as_millis());
        assert!(
            good - returned <= Duration::from_millis(200) * SLACK.unsigned_abs() as u32,
            "{:?}",
            good - returned
        );
    });
}

#[test]
fn a_refusal_speaks_html_to_people_and_problem_json_to_programs() {
    run(async {
        let home = Home::new();
        let nobody = crate::harness::free_address();
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", nobody)).await;
        for (accept, kind) in [("text/html", "text/html"), ("application/json", "application/problem+json")] {
            let mut connection = http::Connection::open(mainstay.front()).await.expect("it listens");
            let answer = connection.send("GET", "/", &[("Accept", accept)], b"").await.expect("an answer");
            assert_eq!(answer.status, 503);
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            let found = answer.header("content-type").unwrap_or_default();
            assert!(found.starts_with(kind), "{found} for {accept}");
        }
    });
}

#[test]
fn a_backup_server_serves_only_while_the_primary_is_down() {
    run(async {
        let home = Home::new();
        let mut primary = Shop::start(&home, "app-1").await;
        let backup = Shop::start(&home, "spare").await;
        let config = Config::new()
            .external("app-1", primary.address)
            .external("spare", backup.address)
            .server_lines("role = \"backup\"");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.server_until("shop/app-1", "serves", serves).await;
        let who = async || {
            let answer = http::get(mainstay.front(), "/stats").await.expect("an answer");
            if answer.status == 200 { answer.json()["name"].as_str().map(str::to_owned) } else { None }
        };
        assert_eq!(who().await.as_deref(), Some("app-1"));
        primary.kill();
        until("the backup serves", async || (who().await.as_deref() == Some("spare")).then_some(())).await;
        let id = api.first_incident().await;
        api.incident_with(id, "ejected").await;
        primary.up().await;
        until("the primary serves again", async || (who().await.as_deref() == Some("app-1")).then_some(()))
            .await;
        let incident = api.resolved(id).await;
        assert!(!entries(&incident, "mode-changed").is_empty(), "{incident:#}");
        for _ in 0..20 {
            assert_eq!(who().await.as_deref(), Some("app-1"));
        }
    });
}

#[test]
fn a_drained_server_gets_no_new_request_and_no_incident_is_opened() {
    run(async {
        let home = Home::new();
        let shops = Shop::three(&home).await;
        let mainstay = Mainstay::start(&home, &in_front_of(&shops)).await;
        let api = mainstay.api();
        api.all_serve().await;
        let answer = api.set_admin("shop/app-1", "draining").await;
        assert!(answer.status < 300, "{}: {}", answer.status, answer.text());
        api.server_until("shop/app-1", "is out of rotation", |s| s["in_rotation"] == false).await;
        let load = Load::start(mainstay.front(), 200, "/slow?ms=1");
        // The data plane's table is swapped after the snapshot shows it at the latest.
        load.more(20).await;
        let visits = |server: &serde_json::Value| server["totals"]["requests"].as_u64().unwrap_or_default();
        pause(Duration::from_millis(500)).await;
        let before = visits(&api.server("shop/app-1").await);
        load.more(200).await;
        pause(Duration::from_millis(500)).await;
        assert_eq!(visits(&api.server("shop/app-1").await), before);
        load.finish().await.assert_none_failed();
        assert!(api.incidents().await.is_empty(), "to drain a server is no outage");
        api.set_admin("shop/app-1", "ready").await;
        api.all_serve().await;
    });
}
