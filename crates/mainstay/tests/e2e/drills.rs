//! Drills with the real program: each fault at real servers under traffic, measured, told to nobody, and gone afterwards, also when
//! Mainstay dies in its middle.

use std::time::Duration;

use serde_json::Value;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::{Mainstay, once_within};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::{http, measured, process, run, until};
use crate::recovery::{pid_of, three_supervised};

/// A drill takes as long as its fault lasts and a service needs to be well again.
const TAKES: Duration = Duration::from_secs(120);

/// `mainstay drill` with these words: its status, and what it printed.
async fn drill(home: &Home, mainstay: &Mainstay, words: &[&str]) -> (i32, String) {
    let admin = format!("http://{}", mainstay.admin);
    let all: Vec<&str> =
        ["drill"].into_iter().chain(words.iter().copied()).chain(["--admin", &admin]).collect();
    let output = once_within(TAKES, home, &all).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ends by itself"), text(&output.stdout) + &text(&output.stderr))
}

/// The same as a program reads it.
async fn drilled(home: &Home, mainstay: &Mainstay, words: &[&str]) -> Value {
    let all: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    let (_, text) = drill(home, mainstay, &all).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn ms(drill: &Value, what: &str) -> u64 {
    drill["measured"][what].as_u64().unwrap_or_else(|| panic!("no {what} in {drill:#}"))
}

/// A webhook that counts what it hears.
async fn with_webhook(config: Config) -> (Config, Scripted) {
    let hook = Scripted::start(|_| Reply::Answer(204, Vec::new())).await;
    let config = config.table(&format!("[alert.webhook]\nurl = \"http://{}/hook\"", hook.address));
    (config, hook)
}

/// One fault after another, at one server after another, under traffic.
fn faults_cost_no_request(faults: &'static [&'static str]) {
    run(async {
        let home = Home::new();
        let (config, hook) = with_webhook(three_supervised()).await;
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 200, "/");
        load.more(200).await;
        for fault in faults {
            let drill = drilled(&home, &mainstay, &["shop", fault, "--for", "6s"]).await;
            assert_eq!(drill["state"], "recovered", "{drill:#}");
            assert_eq!(
                (drill["measured"]["failed"].as_u64(), &drill["why"]),
                (Some(0), &Value::from("")),
                "{drill:#}"
            );
            assert!(ms(&drill, "requests") > 200, "{drill:#}");
            assert!(ms(&drill, "notice_ms") <= ms(&drill, "divert_ms"), "{drill:#}");
            assert!(ms(&drill, "divert_ms") < ms(&drill, "recover_ms"), "{drill:#}");
            for what in ["notice_ms", "divert_ms", "recover_ms", "saved"] {
                measured(&format!("drill {fault}: {what}"), ms(&drill, what));
            }
            let incident = api.incident(drill["incident"].as_u64().expect("it led to one")).await;
            assert_eq!(
                (&incident["drill"]["quiet"], &incident["drill"]["drill"]),
                (&Value::from(true), &drill["id"])
            );
            api.all_serve().await;
        }
        load.finish().await.assert_none_failed();
        assert_eq!(hook.seen().len(), 0, "nobody is told of a drill");
        let (_, list) = self::drill(&home, &mainstay, &["list", "shop"]).await;
        assert!(faults.iter().all(|fault| list.contains(&format!("| {fault} "))), "{list}");
    });
}

#[test]
fn a_kill_and_a_hang_are_measured_and_cost_no_request() {
    faults_cost_no_request(&["kill", "hang"]);
}

#[test]
fn a_server_that_refuses_or_vanishes_is_measured_and_costs_no_request() {
    faults_cost_no_request(&["refuse", "black-hole"]);
}

#[test]
fn a_server_that_errs_is_measured_and_costs_no_request() {
    faults_cost_no_request(&["errors"]);
}

#[test]
fn a_slow_server_is_noticed_by_its_visitors_alone_and_taken_out() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        mainstay.api().all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(1000).await;
        let drill = drilled(&home, &mainstay, &["shop", "slow", "--server", "app-2", "--for", "15s"]).await;
        assert_eq!(
            (&drill["state"], &drill["server"]),
            (&Value::from("recovered"), &Value::from("shop/app-2")),
            "{drill:#}"
        );
        measured("drill slow: divert_ms", ms(&drill, "divert_ms"));
        load.finish().await.assert_none_failed();
    });
}

#[test]
fn answers_that_are_broken_off_are_counted_as_their_visitors_count_them() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        mainstay.api().all_serve().await;
        let load = Load::start(mainstay.front(), 200, "/");
        load.more(400).await;
        let drill = drilled(&home, &mainstay, &["shop", "reset", "--for", "6s"]).await;
        let run = load.finish().await;
        let failed = run.samples.iter().filter(|sample| !sample.good()).count() as u64;
        assert!(failed > 0, "nobody can save what was begun");
        assert_eq!(ms(&drill, "failed"), failed, "{drill:#}");
        assert!(ms(&drill, "divert_ms") < ms(&drill, "recover_ms"), "{drill:#}");
    });
}

#[test]
fn the_last_server_is_not_drilled_and_why_is_said_and_kept() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &Config::new().supervised("app-1")).await;
        let api = mainstay.api();
        api.all_serve().await;
        let pid = pid_of(&api.server("shop/app-1").await);
        let (status, text) = drill(&home, &mainstay, &["shop", "kill"]).await;
        assert_eq!((status, text.as_str()), (1, "mainstay: There is no drill: nobody else would be left.\n"));
        assert_eq!(pid_of(&api.server("shop/app-1").await), pid);
        let (_, list) = drill(&home, &mainstay, &["list"]).await;
        assert!(list.contains("refused: nobody else would be left"), "{list}");
        let (status, text) = drill(&home, &mainstay, &["shop", "flood"]).await;
        assert_eq!(status, 2, "{text}");
    });
}

#[test]
fn it_is_stopped_as_soon_as_it_hurts_too_many() {
    run(async {
        let home = Home::new();
        // Nobody is taken out for these errors.
        let config = Config::new()
            .supervised("app-1")
            .supervised("app-2")
            .service_lines("traffic = { failure-share = \"95%\" }");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let front = mainstay.front();
        let posts = tokio::spawn(async move {
            loop {
                // What is sent once only cannot be saved.
                let _ = http::post(front, "/order", b"x").await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let begun = std::time::Instant::now();
        let drill = drilled(&home, &mainstay, &["shop", "errors", "--for", "60s"]).await;
        posts.abort();
        assert_eq!(drill["state"], "stopped", "{drill:#}");
        let why = drill["why"].as_str().unwrap_or_default();
        assert!(
            why.contains("of the requests failed after the first second, which is more than 1% (stop-at)"),
            "{why}"
        );
        assert!(begun.elapsed() < Duration::from_secs(50));
    });
}

#[test]
fn a_full_disk_costs_no_request_is_told_by_the_record_and_nothing_of_it_is_lost() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 200, "/");
        load.more(200).await;
        let drill = drilled(&home, &mainstay, &["shop", "disk-full", "--for", "5s"]).await;
        assert_eq!(
            (&drill["state"], &drill["server"]),
            (&Value::from("recovered"), &Value::Null),
            "{drill:#}"
        );
        assert!(ms(&drill, "notice_ms") < 5000 && ms(&drill, "recover_ms") >= 5000, "{drill:#}");
        let incident = api.incident(drill["incident"].as_u64().expect("it led to one")).await;
        assert_eq!(incident["drill"]["quiet"], true, "{incident:#}");
        let text = incident.to_string();
        assert!(text.contains("the disk is full") && text.contains("is well again"), "{text}");
        load.finish().await.assert_none_failed();
        // No server is written by name, so there is no DNS to be silent.
        let (status, text) = self::drill(&home, &mainstay, &["shop", "dns"]).await;
        assert!(status == 1 && text.contains("no server is written by name"), "{status} {text}");
        // Killed while the disk seems full, it finds its record as it was.
        let order = serde_json::json!({ "fault": "disk-full", "for": "60s" });
        assert_eq!(api.post("/api/v1/services/shop/drill", &order).await.status, 200);
        until("the record is in trouble", async || {
            let status = api.get_json("/api/v1/status").await;
            status.to_string().contains("the disk is full").then_some(())
        })
        .await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        assert_eq!(api.get_json("/api/v1/drills/3").await["state"], "broken-off");
        assert_eq!(api.get_json("/api/v1/drills/1").await["measured"]["failed"], 0);
    });
}

#[test]
fn a_plan_is_carried_out_by_itself_and_what_it_is_refused_is_kept() {
    run(async {
        let home = Home::new();
        let config = three_supervised()
            .table("[service.shop.drill]\nfaults = [\"certificate\", \"refuse\"]\nlasts = \"1s\"");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        // It lets a minute pass first.
        let begun = std::time::Instant::now();
        let drills = loop {
            let drills = api.get_json("/api/v1/drills").await["drills"].clone();
            let all = drills.as_array().expect("a list").clone();
            if all.iter().any(|drill| drill["fault"] == "refuse" && drill["state"] == "recovered") {
                break all;
            }
            assert!(begun.elapsed() < TAKES * 2, "{drills:#}");
            crate::harness::pause(Duration::from_millis(500)).await;
        };
        assert!(drills.iter().all(|drill| drill["by"] == "schedule"), "{drills:#?}");
        let refused = drills.last().expect("the first");
        assert_eq!(
            (&refused["fault"], &refused["state"]),
            (&Value::from("certificate"), &Value::from("refused"))
        );
        assert_eq!(drills.len(), 2, "what is refused is left for an hour: {drills:#?}");
    });
}

#[test]
fn of_two_orders_at_once_one_begins_and_the_other_is_refused() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let order = serde_json::json!({ "fault": "refuse", "for": "60s" });
        let path = "/api/v1/services/shop/drill";
        let (one, other) = tokio::join!(api.post(path, &order), api.post(path, &order));
        let (begun, refused) = if one.status == 200 { (one, other) } else { (other, one) };
        assert_eq!((begun.status, refused.status), (200, 409), "{} {}", begun.text(), refused.text());
        let text = refused.text();
        assert!(text.contains("is under way, and there is only one at a time"), "{text}");
        drill(&home, &mainstay, &["stop"]).await;
    });
}

#[test]
fn a_person_ends_it_and_an_upgrade_waits_for_its_end() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let order = serde_json::json!({ "fault": "hang", "server": "app-3", "for": "60s" });
        let begun = api.post("/api/v1/services/shop/drill", &order).await;
        assert_eq!(begun.status, 200, "{}", begun.text());
        let path = home.config();
        let upgrade = ["upgrade", "-c", path.to_str().expect("UTF-8")];
        let refused = once_within(TAKES, &home, &upgrade).await;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("drill 1 is under way"), "{text}");
        let (status, text) = drill(&home, &mainstay, &["stop"]).await;
        assert_eq!((status, text.as_str()), (0, "the fault of drill 1 is undone\n"));
        until("it goes on", async || {
            let drill = api.get_json("/api/v1/drills/1").await;
            (drill["state"] == "stopped" || drill["state"] == "recovered").then_some(())
        })
        .await;
        api.all_serve().await;
    });
}

#[test]
fn nothing_of_a_hang_is_left_when_mainstay_is_killed_in_its_middle() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let stopped = pid_of(&api.server("shop/app-2").await);
        let order = serde_json::json!({ "fault": "hang", "server": "app-2", "for": "60s" });
        api.post("/api/v1/services/shop/drill", &order).await;
        until("it is stopped", async || is_stopped(stopped).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        assert!(!process::runs(stopped));
        let drill = api.get_json("/api/v1/drills/1").await;
        assert_eq!(drill["state"], "broken-off", "{drill:#}");
        assert_eq!(drill["why"], "Mainstay was restarted in its middle; the fault was undone");
    });
}

fn is_stopped(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}
