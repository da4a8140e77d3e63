//! The config changes and Mainstay is told to end, both without a visitor noticing.

use crate::harness::api::{find_server, serves};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Connection};
use crate::harness::load::Load;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left, once};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::shop::Shop;
use crate::harness::{run, until};

/// How the changed file becomes known.
#[derive(Clone, Copy)]
enum Told {
    BySignal,
    BySaving,
}

async fn a_changed_config_is_applied(told: Told) {
    let home = Home::new();
    let first = Shop::start(&home, "app-1").await;
    let second = Shop::start(&home, "app-2").await;
    // With round-robin a new server's first request does not depend on luck.
    let before = Config::new().service_lines("balance = \"round-robin\"").external("app-1", first.address);
    let after = before.clone().external("app-2", second.address);
    let mainstay = Mainstay::start(&home, &before).await;
    let api = mainstay.api();
    api.all_serve().await;
    let since = api.server("shop/app-1").await["health_since"].clone();
    let mut kept = Connection::open(mainstay.front()).await.expect("it listens");
    assert_eq!(kept.send("GET", "/", &[], b"").await.expect("an answer").status, 200);
    let load = Load::start(mainstay.front(), 200, "/");
    load.more(100).await;

    home.write_config(&after.text(&home));
    if matches!(told, Told::BySignal) {
        mainstay.signal(libc::SIGHUP);
    }
    until("the new server serves", async || {
        let status = api.status().await;
        find_server(&status, "shop/app-2").is_some_and(serves).then_some(())
    })
    .await;
    let requests = second.requests().await;
    until("the new server gets traffic", async || (second.requests().await > requests + 50).then_some(()))
        .await;
    let answer = kept.send("GET", "/", &[], b"").await.expect("the kept connection is still served");
    assert_eq!(answer.status, 200);
    assert!(kept.is_open());
    assert_eq!(api.server("shop/app-1").await["health_since"], since, "a server that stays keeps its health");
    load.finish().await.assert_none_failed();
}

#[test]
fn a_signal_applies_a_changed_config_and_closes_no_connection() {
    run(a_changed_config_is_applied(Told::BySignal));
}

#[test]
fn saving_the_file_applies_a_changed_config_and_closes_no_connection() {
    run(a_changed_config_is_applied(Told::BySaving));
}

#[test]
fn a_config_with_a_mistake_is_refused_with_its_reason_and_the_old_one_goes_on() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let config = Config::new().external("app-1", shop.address);
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(20).await;
        home.write_config(&config.clone().service_lines("slow-strat = \"3s\"").text(&home));
        mainstay.signal(libc::SIGHUP);
        until("the mistake is in the log", async || {
            mainstay.log().iter().any(|line| line.contains("slow-strat")).then_some(())
        })
        .await;
        until("the mistake is shown", async || {
            api.status().await["own_trouble"].to_string().contains("slow-strat").then_some(())
        })
        .await;
        load.more(100).await;
        assert!(serves(&api.server("shop/app-1").await));

        home.write_config(&config.text(&home));
        mainstay.signal(libc::SIGHUP);
        until("the trouble is over", async || {
            api.status().await["own_trouble"].as_array()?.is_empty().then_some(())
        })
        .await;
        load.finish().await.assert_none_failed();
    });
}

#[test]
fn a_server_that_left_the_config_is_stopped() {
    run(async {
        let home = Home::new();
        let before = Config::new().supervised("app-1").supervised("app-2");
        let mainstay = Mainstay::start(&home, &before).await;
        let api = mainstay.api();
        api.all_serve().await;
        let stays = api.server("shop/app-1").await["process"]["pid"].clone();
        assert_eq!(home.supervised().len(), 2);
        let load = Load::start(mainstay.front(), 200, "/");
        load.more(50).await;
        home.write_config(&Config::new().supervised("app-1").text(&home));
        mainstay.signal(libc::SIGHUP);
        until("one supervised process is left", async || (home.supervised().len() == 1).then_some(())).await;
        assert_eq!(api.server("shop/app-1").await["process"]["pid"], stays, "the other one was not touched");
        load.more(50).await;
        load.finish().await.assert_none_failed();
    });
}

#[test]
fn asked_to_end_mainstay_finishes_what_is_under_way_and_leaves_nothing_behind() {
    run(async {
        let home = Home::new();
        let patient = Config::new().service_lines("timeouts = { per-try = \"20s\" }");
        let mut mainstay = Mainstay::start(&home, &patient.supervised("app-1")).await;
        let api = mainstay.api();
        api.all_serve().await;
        let front = mainstay.front();
        let slow = tokio::spawn(http::get(front, "/slow?ms=2000"));
        until("the request is under way", async || {
            (api.server("shop/app-1").await["in_flight"].as_u64()? > 0).then_some(())
        })
        .await;
        mainstay.signal(libc::SIGTERM);
        until("nobody new is let in", async || Connection::open(front).await.is_err().then_some(())).await;
        let answer = slow.await.expect("no panic").expect("the request under way is answered");
        assert_eq!(answer.status, 200);
        assert!(mainstay.ended().await.success());
        no_orphan_is_left(&home).await;
    });
}

#[test]
fn draining_ends_at_its_deadline_when_a_request_does_not() {
    run(async {
        let home = Home::new();
        let hanging = Scripted::start(|_| Reply::Hang).await;
        let mut config = Config::new().external("app-1", hanging.address);
        config.top = "drain = \"1s\"\n".into();
        let mut mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;
        let request = tokio::spawn(http::post(mainstay.front(), "/", b"x"));
        until("the request is under way", async || {
            (mainstay.api().server("shop/app-1").await["in_flight"].as_u64()? > 0).then_some(())
        })
        .await;
        mainstay.signal(libc::SIGTERM);
        mainstay.ended().await;
        request.abort();
    });
}

#[test]
fn an_incident_names_the_changes_before_it_also_after_a_restart() {
    run(async {
        let home = Home::new();
        let mut shop = Shop::start(&home, "app-1").await;
        let spare = Shop::start(&home, "app-2").await;
        let before = Config::new().external("app-1", shop.address);
        let mainstay = Mainstay::start(&home, &before).await;
        mainstay.api().all_serve().await;
        let admin = format!("http://{}", mainstay.api().address());
        let tell =
            ["change", "deployed v42", "--service", "shop", "--by", "ci", "--ago", "8m", "--admin", &admin];
        let told = once(&home, &tell).await;
        assert!(told.status.success(), "{told:?}");
        mainstay.kill().await;

        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        home.write_config(&before.clone().external("app-2", spare.address).text(&home));
        until("the reload is known", async || {
            let changes = api.get("/api/v1/changes").await.json();
            (changes.as_array().is_some_and(|all| all.len() == 2)).then_some(())
        })
        .await;
        shop.kill();
        let id = api.first_incident().await;
        let incident = api.incident(id).await;
        let named: Vec<_> =
            incident["changes"].as_array().expect("a list").iter().map(|c| &c["what"]).collect();
        assert_eq!(named, ["its config changed: server app-2 is new", "deployed v42"]);

        let admin = format!("http://{}", api.address());
        let report = once(&home, &["report", &id.to_string(), "--admin", &admin]).await;
        let report = String::from_utf8_lossy(&report.stdout).into_owned();
        assert!(report.contains("told of shop, by ci: deployed v42"), "{report}");
        let list = once(&home, &["change", "--admin", &admin]).await;
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(list.contains("deployed v42") && list.contains("server app-2 is new"), "{list}");
    });
}
