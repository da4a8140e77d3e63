//! Servers that Mainstay runs itself: a dead or frozen one is back before anybody is called, and when it cannot be
//! brought back somebody is called.

use std::time::Duration;

use serde_json::Value;

use crate::harness::api::{at, entries, serves};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left, once};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::{http, measured, process, run, until};

pub fn pid_of(server: &Value) -> u32 {
    let pid = server["process"]["pid"].as_u64().unwrap_or_else(|| panic!("no process in {server}"));
    u32::try_from(pid).expect("a process id")
}

pub fn three_supervised() -> Config {
    Config::new().supervised("app-1").supervised("app-2").supervised("app-3")
}

/// Asserts that the timeline has these kinds in this order, other entries between them allowed.
fn assert_in_order(incident: &Value, kinds: &[&str]) {
    let timeline = incident["timeline"].as_array().expect("a timeline");
    let mut rest = timeline.iter();
    for kind in kinds {
        assert!(
            rest.any(|entry| entry["kind"] == *kind),
            "no `{kind}` in its place of {kinds:?} in {incident:#}"
        );
    }
    let times: Vec<i64> = timeline.iter().filter_map(|entry| entry["at"].as_i64()).collect();
    assert_eq!(times.len(), timeline.len(), "every entry has its time");
    assert!(times.iter().all(|time| *time > 1_600_000_000_000), "times are milliseconds: {times:?}");
}

#[test]
fn a_killed_server_is_started_again_and_no_request_fails() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 500, "/");
        load.more(500).await;

        let killed = pid_of(&api.server("shop/app-2").await);
        process::signal(killed, libc::SIGKILL);
        let rising = api
            .server_until("shop/app-2", "takes a rising share", |s| {
                s["in_rotation"] == true
                    && s["share"].as_f64().is_some_and(|share| share > 0.0 && share < 0.999)
            })
            .await;
        assert_ne!(pid_of(&rising), killed);
        let id = api.first_incident().await;
        let incident = api.resolved(id).await;
        api.all_serve().await;
        load.more(200).await;
        let run = load.finish().await;
        run.assert_none_failed();

        assert_in_order(
            &incident,
            &["process-exited", "action-begun", "process-started", "returned", "full-share"],
        );
        for kind in ["ejected", "opened", "action-done", "probe-good", "resolved"] {
            assert!(!entries(&incident, kind).is_empty(), "no `{kind}` in {incident:#}");
        }
        let back = at(&incident, "process-started") - at(&incident, "process-exited");
        measured("killed to running again, ms", back);
        measured(
            "killed to first good probe, ms",
            at(&incident, "probe-good") - at(&incident, "process-exited"),
        );
        measured("killed to full share, ms", at(&incident, "full-share") - at(&incident, "process-exited"));
        measured("supervised killed: slowest of all requests, ms", run.slowest().as_millis());
        assert!(back <= 3000, "running again only after {back} ms");
        let text = incident["timeline"].to_string();
        assert!(text.contains("SIGKILL"), "the timeline names how it died: {incident:#}");
        let helped = entries(&incident, "helped")[0]["text"].as_str().unwrap_or_default().to_owned();
        // An attempt may have failed after it and been saved on another server.
        assert!(helped.starts_with("the restart of app-2 helped: "), "{helped}");
        let report = api.get_json(&format!("/api/v1/incidents/{id}/report")).await;
        assert_eq!(report["actions"][0]["helped"]["help"], "yes", "{report:#}");
    });
}

#[test]
fn what_helped_is_remembered_by_a_mainstay_that_was_killed_and_told_with_the_next_failure() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 200, "/");
        load.more(100).await;
        process::signal(pid_of(&api.server("shop/app-2").await), libc::SIGKILL);
        let first = api.first_incident().await;
        api.resolved(first).await;
        load.finish().await;
        mainstay.kill().await;

        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        let known = api.get_json("/api/v1/remedies").await;
        assert_eq!(
            (&known[0]["helped"], &known[0]["rung"]),
            (&Value::from(1), &Value::from("restart")),
            "{known}"
        );
        assert_eq!(known[0]["fingerprint"]["failing"], "died", "{known}");
        process::signal(pid_of(&api.server("shop/app-1").await), libc::SIGKILL);
        let second = until("another incident is opened", async || {
            let ids: Vec<u64> = api.incidents().await.iter().filter_map(|i| i["id"].as_u64()).collect();
            ids.into_iter().find(|id| *id > first)
        })
        .await;
        let incident = api.incident_with(second, "recalled").await;
        let text = entries(&incident, "recalled")[0]["text"].as_str().unwrap_or_default().to_owned();
        assert!(
            text.starts_with("when one of the servers died (crash) before, a restart helped 1 of 1 time"),
            "{text}"
        );
    });
}

#[test]
fn a_frozen_server_is_ended_and_started_again_and_no_request_fails() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 200, "/");
        load.more(200).await;
        let frozen = pid_of(&api.server("shop/app-1").await);
        process::signal(frozen, libc::SIGSTOP);
        api.server_until("shop/app-1", "runs as another process", |s| {
            s["process"]["pid"].as_u64().is_some_and(|pid| pid != u64::from(frozen)) && serves(s)
        })
        .await;
        assert!(!process::runs(frozen), "the frozen process is gone");
        let id = api.first_incident().await;
        let incident = api.resolved(id).await;
        let found = entries(&incident, "found");
        let seen = found.iter().find(|e| e["sample"]["asked"] == "what its threads were at");
        let seen = seen.unwrap_or_else(|| panic!("nobody looked at it: {incident:#}"));
        let body = seen["sample"]["body"].as_str().expect("a text");
        assert!(body.contains(&format!("process {frozen} ")) && body.contains("stopped"), "{body}");
        let admin = format!("http://{}", mainstay.admin);
        let output = once(&home, &["dump", "shop/app-1", "--admin", &admin]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.starts_with("process "), "{said}");
        load.finish().await.assert_none_failed();
    });
}

#[test]
fn a_server_that_cannot_be_brought_back_calls_a_person_and_never_falls_silent() {
    run(async {
        let home = Home::new();
        let hook = Scripted::start(|_| Reply::Answer(204, Vec::new())).await;
        let config = Config::new()
            .supervised("app-1")
            .command("app-2", &["/bin/sh", "-c", "echo the last words; exit 3"])
            .service_lines("recovery = { budget = 2, budget-window = \"10m\", delay-base = \"100ms\", start-grace = \"5s\" }")
            .table(&format!("[alert.webhook]\nurl = \"http://{}/hook\"", hook.address));
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        let id = api.first_incident().await;
        let incident = api.incident_with(id, "budget-spent").await;
        assert_ne!(incident["state"], "resolved");
        until("a person is called", async || {
            let calls = hook.seen();
            calls.iter().any(|r| String::from_utf8_lossy(&r.body).contains("needs-person")).then_some(())
        })
        .await;
        let server = api.server("shop/app-2").await;
        assert_eq!(server["process"]["restart_budget"], 2, "{server:#}");
        assert!(!server["why"]["rule"].as_str().unwrap_or_default().is_empty(), "{server:#}");
        let text = incident["timeline"].to_string();
        assert!(text.contains("exited with status 3"), "the timeline says how it ended: {incident:#}");
        assert_eq!(http::get(mainstay.front(), "/").await.expect("an answer").status, 200);
    });
}

#[test]
fn a_server_gets_its_port_its_variables_and_its_folder() {
    run(async {
        let home = Home::new();
        let script = "echo \"port=$PORT color=$COLOR dir=$(pwd)\"; exec \"$0\" sample-shop --port \"$PORT\" --name app-1";
        let folder = home.path().join("shop");
        std::fs::create_dir(&folder).expect("a folder");
        let config = Config::new()
            .command("app-1", &["/bin/sh", "-c", script, env!("CARGO_BIN_EXE_mainstay")])
            .server_lines("env = { COLOR = \"green\" }\ndir = \"shop\"");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let address = api.server("shop/app-1").await["address"].as_str().expect("an address").to_owned();
        let port = address.rsplit_once(':').expect("a port").1;
        let wanted =
            format!("port={port} color=green dir={}", folder.canonicalize().expect("it is there").display());
        until("the server's first line is in its log", async || {
            let logs = std::fs::read_dir(home.data().join("logs")).ok()?;
            let texts = logs.filter_map(|e| std::fs::read_to_string(e.ok()?.path()).ok());
            texts.into_iter().any(|text| text.contains(&wanted)).then_some(())
        })
        .await;
    });
}

#[test]
fn stopping_mainstay_stops_what_it_started_within_the_stop_timeout() {
    run(async {
        let home = Home::new();
        let stubborn = "trap '' TERM; while :; do sleep 0.2; done";
        let config = Config::new()
            .supervised("app-1")
            .command("app-2", &["/bin/sh", "-c", stubborn])
            .server_lines("# It does not end by itself.");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;
        mainstay.api().server_until("shop/app-2", "runs", |s| s["process"]["pid"].is_u64()).await;
        assert!(!home.supervised().is_empty());
        assert!(mainstay.stop().await.success());
        assert_eq!(home.supervised(), Vec::<u32>::new());
        no_orphan_is_left(&home).await;
    });
}

#[test]
fn a_server_in_maintenance_is_left_alone_when_it_dies() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        assert!(api.set_admin("shop/app-3", "maintenance").await.status < 300);
        let server = api.server_until("shop/app-3", "is out", |s| s["in_rotation"] == false).await;
        process::signal(pid_of(&server), libc::SIGKILL);
        api.server_until("shop/app-3", "is seen to be gone", |s| s["process"]["pid"].is_null()).await;
        crate::harness::pause(Duration::from_secs(2)).await;
        assert!(api.server("shop/app-3").await["process"]["pid"].is_null(), "it was not started again");
        assert!(api.incidents().await.is_empty());
        assert!(api.set_admin("shop/app-3", "ready").await.status < 300);
        api.all_serve().await;
    });
}
