//! Witnesses that contradict one another, and a server that goes up and down: with the real prober, the real data plane and real
//! requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness::api::serves;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::Mainstay;
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::{run, until};

fn answer(status: u16) -> Reply {
    Reply::Answer(status, b"a page".to_vec())
}

fn rule(server: &Value) -> &str {
    server["why"]["rule"].as_str().expect("a rule")
}

#[test]
fn a_server_whose_check_says_fine_and_whose_users_say_otherwise_is_gray_and_out() {
    run(async {
        let home = Home::new();
        let bad = Arc::new(AtomicBool::new(false));
        let good = Scripted::start(|_| answer(200)).await;
        let gray = Scripted::start({
            let bad = bad.clone();
            move |_| answer(if bad.load(Ordering::Relaxed) { 500 } else { 200 })
        })
        .await;
        let config = Config::new().external("good", good.address).external("gray", gray.address);
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(100).await;
        bad.store(true, Ordering::Relaxed);
        let out = api
            .server_until("shop/gray", "is out as gray", |server| {
                server["in_rotation"] == false && rule(server).contains("its health check says fine")
            })
            .await;
        assert!(rule(&out).contains("its users say otherwise"), "{out:#}");
        assert_eq!(out["last_probe"]["good"], true, "the probe goes on saying so: {out:#}");
        let id = api.first_incident().await;
        until("the incident says so", async || {
            let title = api.incident(id).await["title"].as_str().expect("a title").to_owned();
            title.contains("is gray: its health check says fine, its users say otherwise").then_some(())
        })
        .await;

        // Mainstay asks by itself whether it answers again, and takes it back for that alone.
        bad.store(false, Ordering::Relaxed);
        api.server_until("shop/gray", "serves again", serves).await;
        api.resolved(id).await;
        load.finish().await;
    });
}

#[test]
fn a_check_that_fails_while_requests_are_answered_is_wrong_and_takes_nobody_out() {
    run(async {
        let home = Home::new();
        let wrong = Arc::new(AtomicBool::new(false));
        let one = Scripted::start({
            let wrong = wrong.clone();
            move |request| {
                let is_check = request.target == "/check";
                answer(if is_check && wrong.load(Ordering::Relaxed) { 503 } else { 200 })
            }
        })
        .await;
        let other = Scripted::start(|_| answer(200)).await;
        let mut config = Config::new().external("one", one.address).external("other", other.address);
        config.service = Config::QUICK.replace("/healthz", "/check");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(100).await;
        wrong.store(true, Ordering::Relaxed);
        let called = api
            .server_until("shop/one", "has a check that is wrong", |server| {
                rule(server).contains("its check is wrong")
            })
            .await;
        assert_eq!(called["in_rotation"], true, "{called:#}");
        let id = api.first_incident().await;
        let incident = api.incident(id).await;
        let title = incident["title"].as_str().expect("a title");
        assert!(title.starts_with("the check of shop/one is wrong") && title.contains("503"), "{title}");
        // It stays, and nobody is hurt.
        load.more(300).await;
        let after = api.server("shop/one").await;
        assert_eq!(after["in_rotation"], true, "{after:#}");
        load.finish().await.assert_none_failed();

        wrong.store(false, Ordering::Relaxed);
        api.server_until("shop/one", "is well", |server| server["health"] == "healthy").await;
        api.resolved(id).await;
    });
}

#[test]
fn a_server_that_goes_up_and_down_is_held_down_for_longer_and_one_incident_with_the_count() {
    run(async {
        let home = Home::new();
        let down = Arc::new(AtomicBool::new(false));
        let flapping = Scripted::start({
            let down = down.clone();
            move |_| answer(if down.load(Ordering::Relaxed) { 503 } else { 200 })
        })
        .await;
        let steady = Scripted::start(|_| answer(200)).await;
        let mut config =
            Config::new().external("flapping", flapping.address).external("steady", steady.address);
        config.service =
            Config::QUICK.replace("/healthz", "/check").replace("interval = \"1s\"", "interval = \"200ms\"");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        for _ in 0..3 {
            down.store(true, Ordering::Relaxed);
            api.server_until("shop/flapping", "is down", |server| server["health"] == "unhealthy").await;
            down.store(false, Ordering::Relaxed);
            api.server_until("shop/flapping", "passes its probes", |server| {
                server["health"] == "healthy" || rule(server).contains("held out of rotation")
            })
            .await;
        }
        let held = api.server("shop/flapping").await;
        assert_eq!(held["in_rotation"], false, "the third time it is held down: {held:#}");
        let id = api.first_incident().await;
        api.server_until("shop/flapping", "serves again", serves).await;
        let over = api.resolved(id).await;
        assert_eq!(api.incidents().await.len(), 1, "one incident for the whole spell");
        assert!(over["title"].as_str().expect("a title").contains("3 times"), "{over:#}");
        // Damped for five seconds at least.
        let ms = |key: &str| over[key].as_i64().expect("a time");
        assert!(ms("resolved_at") - ms("opened_at") >= Duration::from_secs(5).as_millis() as i64, "{over:#}");
    });
}
