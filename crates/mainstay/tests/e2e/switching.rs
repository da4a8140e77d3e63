//! The user's own switch: run once an incident, killed at its deadline, and never repeated because Mainstay died.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, entries};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left, once};
use crate::harness::shop::Shop;
use crate::harness::{free_address, pause, run, until};

/// What the command did: a line for each run.
fn ran(home: &Home) -> Vec<String> {
    let text = std::fs::read_to_string(file(home)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn file(home: &Home) -> PathBuf {
    home.path().join("switched")
}

/// A service whose only primary is not there, with a switch that does this by itself after it has noted what it was told.
fn dead_shop(home: &Home, further: &str, script: &str) -> Config {
    dead_shop_at("automatic", home, further, script)
}

/// The same at another level.
fn dead_shop_at(level: &str, home: &Home, further: &str, script: &str) -> Config {
    let note = format!("cat >> {}; ", file(home).display());
    let command = json!(["/bin/sh", "-c", format!("{note}{script}")]);
    Config::new()
        .external("app-1", free_address())
        .service_lines(&format!("switch = {{ command = {command}, after = \"1s\", {further} }}"))
        .service_lines(&format!("recovery = {{ level = {{ switch = {level:?} }} }}"))
}

/// Run by itself, with nobody to fence.
const AUTOMATIC: &str = "fence = [\"/bin/true\"]";

async fn last_run(api: &Api) -> Value {
    until("the switch has ended", async || {
        let last = api.status().await["services"][0]["switch"]["last"].clone();
        (!last["end"].is_null()).then_some(last)
    })
    .await
}

#[test]
fn it_is_run_once_with_what_is_known_and_gone_back_from_only_by_a_person() {
    run(async {
        let home = Home::new();
        let further = format!(
            "fence = [\"/bin/true\"], back = [\"/bin/sh\", \"-c\", \"cat >> {}\"]",
            file(&home).display()
        );
        let mainstay =
            Mainstay::start(&home, &dead_shop(&home, &further, "echo the standby serves now")).await;
        let api = mainstay.api();
        let last = last_run(&api).await;
        assert_eq!(
            (&last["end"]["error"], &last["end"]["output"]),
            (&Value::Null, &json!(["the standby serves now"]))
        );
        let incident = api.incident_with(api.first_incident().await, "action-done").await;
        assert!(
            incident["timeline"]
                .to_string()
                .contains("the switch was carried out; the last line it wrote: the standby serves now")
        );
        pause(Duration::from_secs(2)).await;
        let lines = ran(&home);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let told: Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(
            (&told["service"], &told["direction"], &told["by"]),
            (&json!("shop"), &json!("there"), &json!("Mainstay"))
        );
        assert_eq!(told["servers"]["app-1"], "unhealthy");
        let answer = api.post("/api/v1/services/shop/switch", &json!({ "back": true, "by": "alice" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        until("it was gone back", async || (ran(&home).len() == 2).then_some(())).await;
        assert!(ran(&home)[1].contains("\"back\"") && ran(&home)[1].contains("alice"), "{:?}", ran(&home));
    });
}

#[test]
fn what_a_switch_that_succeeded_left_running_stays_also_when_mainstay_is_started_again() {
    run(async {
        let home = Home::new();
        let left = home.path().join("left");
        let script = format!("sleep 300 > /dev/null 2>&1 & echo $! > {}", left.display());
        let mainstay = Mainstay::start(&home, &dead_shop(&home, AUTOMATIC, &script)).await;
        let last = last_run(&mainstay.api()).await;
        assert_eq!(last["end"]["error"], Value::Null, "{last:#}");
        let pid = std::fs::read_to_string(&left).expect("a process id");
        let standby = Leftover(pid.trim().parse().expect("a process id"));
        assert!(standby.lives());
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        mainstay.api().status().await;
        assert!(standby.lives(), "the standby is still there");
        assert!(mainstay.stop().await.success());
        assert!(standby.lives(), "also when Mainstay is stopped");
    });
}

#[test]
fn one_that_runs_when_mainstay_is_stopped_comes_to_its_end_and_how_it_ended_is_known() {
    run(async {
        let home = Home::new();
        let script = format!("sleep 2; echo promoted; echo promoted >> {}", file(&home).display());
        let mainstay = Mainstay::start(&home, &dead_shop(&home, AUTOMATIC, &script)).await;
        until("it runs", async || (!ran(&home).is_empty()).then_some(())).await;
        assert!(mainstay.stop().await.success());
        assert_eq!(ran(&home).last().map(String::as_str), Some("promoted"), "it was not cut in the middle");
        let mainstay = Mainstay::again(&home).await;
        let switch = mainstay.api().status().await["services"][0]["switch"].clone();
        assert_eq!(switch["last"]["end"]["error"], Value::Null, "{switch:#}");
        assert_eq!(
            (&switch["switched"], &switch["last"]["end"]["output"]),
            (&json!(true), &json!(["promoted"]))
        );
        pause(Duration::from_secs(3)).await;
        assert_eq!(ran(&home).len(), 2, "and not run again");
    });
}

/// A process that outlives Mainstay on purpose; ended with the test.
struct Leftover(i32);

impl Leftover {
    fn lives(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/cmdline", self.0)).is_ok_and(|line| line.contains("sleep"))
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.lives() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn it_is_killed_with_all_that_it_started_at_its_deadline_and_a_person_is_called() {
    run(async {
        let home = Home::new();
        let further = "fence = [\"/bin/true\"], deadline = \"1s\"";
        let mainstay =
            Mainstay::start(&home, &dead_shop(&home, further, "echo waiting; sleep 300 & sleep 300")).await;
        let api = mainstay.api();
        let last = last_run(&api).await;
        assert_eq!(last["end"]["error"], "killed after 1000 ms (deadline)", "{last:#}");
        assert_eq!(last["end"]["output"], json!(["waiting"]));
        no_orphan_is_left(&home).await;
        let incident = api.incident_with(api.first_incident().await, "action-failed").await;
        assert!(
            entries(&incident, "action-failed")[0]["text"]
                .as_str()
                .is_some_and(|t| t.contains("the switch failed"))
        );
        until("people are told that they are needed", async || {
            mainstay
                .log()
                .iter()
                .any(|line| line.contains("telling people") && line.contains("needs-person"))
                .then_some(())
        })
        .await;
        assert_eq!(ran(&home).len(), 1);
    });
}

#[test]
fn mainstay_killed_in_the_middle_looks_into_it_and_does_not_run_it_again() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &dead_shop(&home, AUTOMATIC, "sleep 300")).await;
        until("the switch runs", async || (ran(&home).len() == 1).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        no_orphan_is_left(&home).await;
        let last = last_run(&mainstay.api()).await;
        assert!(
            last["end"]["error"].as_str().is_some_and(|e| e.contains("Mainstay was restarted")),
            "{last:#}"
        );
        pause(Duration::from_secs(3)).await;
        assert_eq!(ran(&home).len(), 1);
    });
}

#[test]
fn nothing_is_switched_after_a_fence_that_failed_until_a_person_vouches_for_it() {
    run(async {
        let home = Home::new();
        let note = format!("cat >> {}; ", file(&home).display());
        let fence = json!(["/bin/sh", "-c", format!("{note} echo no answer from its power switch; exit 3")]);
        let further = format!("fence = {fence}");
        let mainstay = Mainstay::start(&home, &dead_shop(&home, &further, "echo promoted")).await;
        let api = mainstay.api();
        let last = last_run(&api).await;
        let why = "nothing was switched, because the fence failed: exited with status 3";
        assert_eq!((&last["end"]["error"], &last["switched"]), (&json!(why), &json!(false)));
        let incident = api.incident_with(api.first_incident().await, "action-failed").await;
        let failed = "the fence of the switch failed: exited with status 3; the last line it wrote: no answer from its power switch";
        assert_eq!(entries(&incident, "action-failed")[0]["text"], failed);
        pause(Duration::from_secs(2)).await;
        let directions = || -> Vec<String> {
            let told = ran(&home).into_iter().map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
            told.map(|told| told["direction"].as_str().expect("a word").to_owned()).collect()
        };
        assert_eq!(directions(), ["fence"], "it is not tried again");

        let admin = mainstay.admin.to_string();
        let again = once(&home, &["switch", "shop", "--wait", "--admin", &admin]).await;
        assert!(!again.status.success(), "the fence fails for a person too");
        assert_eq!(directions(), ["fence", "fence"]);
        let vouched =
            once(&home, &["switch", "shop", "--fenced", "--wait", "--by", "ada", "--admin", &admin]).await;
        assert!(vouched.status.success(), "{}", String::from_utf8_lossy(&vouched.stderr));
        assert_eq!(directions(), ["fence", "fence", "there"]);
        let switch = api.status().await["services"][0]["switch"].clone();
        assert_eq!((&switch["switched"], &switch["last"]["fence"]), (&json!(true), &Value::Null));
    });
}

#[test]
fn mainstay_killed_while_the_fence_runs_has_switched_nothing_and_does_not_go_on() {
    run(async {
        let home = Home::new();
        let fence = json!(["/bin/sh", "-c", format!("cat >> {}; sleep 300", file(&home).display())]);
        let further = format!("fence = {fence}");
        let mainstay = Mainstay::start(&home, &dead_shop(&home, &further, "echo promoted")).await;
        until("the fence runs", async || (ran(&home).len() == 1).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        no_orphan_is_left(&home).await;
        let last = last_run(&mainstay.api()).await;
        let why = last["end"]["error"].as_str().expect("it did not succeed");
        assert!(why.contains("Mainstay was restarted while the fence ran; nothing was switched"), "{why}");
        assert_eq!(last["switched"], false);
        pause(Duration::from_secs(3)).await;
        assert_eq!(ran(&home).len(), 1);
    });
}

#[test]
fn at_level_ask_it_waits_for_a_person() {
    run(async {
        let home = Home::new();
        let mainstay =
            Mainstay::start(&home, &dead_shop_at("ask", &home, "deadline = \"30s\"", "exit 7")).await;
        let api = mainstay.api();
        until("a person is asked", async || {
            (api.status().await["services"][0]["switch"]["wanted"] == true).then_some(())
        })
        .await;
        assert!(ran(&home).is_empty());
        let admin = mainstay.admin.to_string();
        let status = once(&home, &["status", "--admin", &admin]).await;
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.contains("a person is to decide: mainstay switch shop\n"), "{status}");
        let ordered = once(&home, &["switch", "shop", "--wait", "--by", "bob", "--admin", &admin]).await;
        let said = String::from_utf8_lossy(&ordered.stdout).into_owned();
        assert_eq!(said, "switch.command of shop failed: exited with status 7\n");
        assert_eq!(ordered.status.code(), Some(1));
        let last = last_run(&api).await;
        assert_eq!((&last["by"], &last["end"]["error"]), (&json!("bob"), &json!("exited with status 7")));
        let back = api.post("/api/v1/services/shop/switch", &json!({ "back": true })).await;
        assert!(back.status == 409 && back.text().contains("no-way-back"), "{}", back.text());
    });
}

#[test]
fn a_backup_takes_over_at_once_and_gives_back_slowly() {
    run(async {
        let home = Home::new();
        let (mut primary, spare) = (Shop::start(&home, "app-1").await, Shop::start(&home, "spare").await);
        let config = Config::new()
            .external("app-1", primary.address)
            .external("spare", spare.address)
            .server_lines("role = \"backup\"");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        let mode = async || api.status().await["services"][0]["mode"].as_str().unwrap_or_default().to_owned();
        until("the primary serves", async || (mode().await == "normal").then_some(())).await;
        primary.kill();
        until("the backup serves", async || (mode().await == "backup").then_some(())).await;
        primary.up().await;
        until("both serve while the backup gives back", async || {
            let server = api.server("shop/spare").await;
            let share = server["share"].as_f64().unwrap_or_default();
            (share > 0.0 && share < 1.0 && api.server("shop/app-1").await["in_rotation"] == true)
                .then_some(())
        })
        .await;
        until("the primary serves alone", async || (mode().await == "normal").then_some(())).await;
        assert_eq!(api.server("shop/spare").await["in_rotation"], false);
    });
}
