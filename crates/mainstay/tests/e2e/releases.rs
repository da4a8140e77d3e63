//! New releases of supervised servers under steady traffic: good ones take over without a failed request, bad ones are
//! taken back before many visitors noticed, and it is always known what runs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, find_server};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::get;
use crate::harness::load::Load;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left, once};
use crate::harness::{measured, process, run, until, until_within};

/// A trial at a few hundred requests a second is decided in seconds; the machine may be busy.
const TRIAL: Duration = Duration::from_secs(60);

/// Servers `app-1` and so on, which begin with the release `first`.
fn shop(first: &str, servers: &[&str]) -> Config {
    let config = Config::new()
        .service_lines(&format!(
            "deploy = {{ release = {first:?}, min-requests = 100, min-time = \"2s\", warm = \"0s\" }}\nrecovery = {{ start-grace = \"10s\" }}"
        ));
    let mut config = servers.iter().fold(config, |config, name| config.releasable(name));
    config.service = config.service.replace("slow-start = \"2s\"", "slow-start = \"500ms\"");
    config
}

async fn releases(api: &Api) -> Value {
    api.status().await["services"][0]["releases"].clone()
}

async fn release(api: &Api, number: u64) -> Value {
    let all = releases(api).await;
    let found = all["releases"].as_array().into_iter().flatten().find(|r| r["number"] == number);
    found.unwrap_or_else(|| panic!("no release {number} in {all:#}")).clone()
}

/// Waits until nothing is under way about a release, and returns it.
async fn decided(api: &Api, number: u64) -> Value {
    until_within(TRIAL, &format!("release {number} is decided"), async || {
        let all = releases(api).await;
        all["deployment"].is_null().then_some(())
    })
    .await;
    release(api, number).await
}

async fn deploy(api: &Api, path: &str) {
    let answer = api.post("/api/v1/services/shop/deploy", &json!({ "path": path })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Which release each server runs.
async fn running(api: &Api) -> Vec<u64> {
    let status = api.status().await;
    let servers = status["services"][0]["servers"].as_array().cloned().unwrap_or_default();
    servers.iter().map(|s| s["release"].as_u64().expect("a release")).collect()
}

#[test]
fn a_good_release_takes_over_without_a_failed_request_and_is_gone_back_from() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let second = home.release("r2", "");
        let mainstay = Mainstay::start(&home, &shop(&first, &["app-1", "app-2"])).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 300, "/");
        load.more(100).await;
        let admin = format!("http://{}", mainstay.admin);
        let output =
            once(&home, &["deploy", "shop", &second, "--wait", "--by", "alice", "--admin", &admin]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        for step in [
            "handed in by alice",
            "trial: on trial with 20% of the requests",
            "promoting: not worse: new: 0 of",
            "every server runs it",
        ] {
            assert!(said.contains(step), "no {step:?} in {said}");
        }
        let status = decided(&api, 2).await;
        assert_eq!((&status["state"], &status["by"]), (&json!("current"), &json!("alice")));
        assert_eq!(running(&api).await, [2, 2]);
        let output = once(&home, &["rollback", "shop", "--wait", "--admin", &admin]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(running(&api).await, [1, 1]);
        assert_eq!(release(&api, 2).await["state"], "rolled-back");
        load.more(100).await;
        load.finish().await.assert_none_failed();
        assert!(api.incidents().await.is_empty());
        assert!(mainstay.stop().await.success());
        no_orphan_is_left(&home).await;
    });
}

#[test]
fn a_release_that_fails_more_is_taken_back_by_itself_with_the_figures() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let bad = home.release("r2", "--fail-share 0.3");
        let mainstay = Mainstay::start(&home, &shop(&first, &["app-1", "app-2"])).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 300, "/");
        load.more(100).await;
        deploy(&api, &bad).await;
        let taken_back = decided(&api, 2).await;
        assert_eq!(taken_back["state"], "rolled-back", "{taken_back:#}");
        let why = taken_back["why"].as_str().expect("a text");
        assert!(why.starts_with("new: ") && why.contains("failed, old: 0 of "), "{why}");
        assert_eq!(running(&api).await, [1, 1]);
        let incident = api.resolved(api.first_incident().await).await;
        assert_eq!(incident["diagnosis"]["cause"], "bad-update", "{incident:#}");
        load.more(50).await;
        let run = load.finish().await;
        let failed = run.samples.iter().filter(|s| !s.good()).count();
        measured(
            "visitors who saw an error of the bad release",
            format!("{failed} of {}", run.samples.len()),
        );
        assert!(failed <= 60, "{failed} of {}", run.samples.len());
    });
}

/// The tenth of 100 requests a second goes to the release on trial.
fn a_tenth(first: &str) -> Config {
    let mut config = shop(first, &["app-1", "app-2"]);
    config.service = config.service.replace("min-requests = 100", "share = 0.1, min-requests = 1000");
    config
}

/// Failed and all requests to the new release, from the reason for taking it back.
fn figures(why: &str) -> (u64, u64) {
    let words: Vec<&str> = why.split(' ').collect();
    let [_, failed, _, all] = words[..4] else { panic!("no figures in {why}") };
    (failed.parse().expect(why), all.parse().expect(why))
}

#[test]
fn a_release_that_fails_one_request_in_ten_is_taken_back_within_fifteen_seconds_of_its_share() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let bad = home.release("r2", "--fail-share 0.1");
        let mainstay = Mainstay::start(&home, &a_tenth(&first)).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(100).await;
        deploy(&api, &bad).await;
        let taken_back = decided(&api, 2).await;
        assert_eq!(taken_back["state"], "rolled-back", "{taken_back:#}");
        let steps = taken_back["steps"].as_array().expect("steps");
        let says =
            |step: &Value, state: &str| step["text"].as_str().is_some_and(|text| text.starts_with(state));
        let at =
            |state: &str| steps.iter().find(|step| says(step, state)).and_then(|step| step["at"].as_i64());
        let took = at("rolled-back").expect("an end") - at("trial").expect("a trial");
        let (failed, all) = figures(taken_back["why"].as_str().expect("a text"));
        measured("10 % errors, a tenth of 100 requests a second: taken back after, ms", took);
        measured("of its requests failed", format!("{failed} of {all}"));
        assert!(all <= 150, "fifteen seconds of ten requests a second: {taken_back:#}");
        let seen = load.finish().await.samples.iter().filter(|s| !s.good()).count();
        let incident = api.resolved(api.first_incident().await).await;
        assert_eq!(incident["seen"]["server_errors"], seen, "people are told how many saw it: {incident:#}");
    });
}

#[test]
fn a_release_that_fails_every_request_is_taken_back_after_a_handful() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let broken = home.release("r2", "--fail-share 1");
        let mainstay = Mainstay::start(&home, &a_tenth(&first)).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(100).await;
        deploy(&api, &broken).await;
        let taken_back = decided(&api, 2).await;
        assert_eq!(taken_back["state"], "rolled-back", "{taken_back:#}");
        let (failed, all) = figures(taken_back["why"].as_str().expect("a text"));
        measured(
            "a release that is all broken: its requests, and those that failed",
            format!("{all}, {failed}"),
        );
        assert!(all <= 12, "{taken_back:#}");
        // A page that one server answers with 500 is asked of another: the old release had them all.
        load.finish().await.assert_none_failed();
    });
}

#[test]
fn a_release_is_not_taken_back_for_what_both_need() {
    run(async {
        let home = Home::new();
        let database = home.path().join("database");
        std::fs::write(&database, "").expect("a file");
        let needs = format!("--needs {}", database.display());
        let (first, second) = (home.release("r1", &needs), home.release("r2", &needs));
        let mut config = shop(&first, &["app-1", "app-2"]);
        // On trial until the database was gone and is back.
        config.service = config.service.replace("min-requests = 100", "min-requests = 400");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 150, "/");
        load.more(100).await;
        deploy(&api, &second).await;
        until("it is on trial", async || (release(&api, 2).await["state"] == "trial").then_some(())).await;
        load.more(150).await;
        std::fs::remove_file(&database).expect("it was there");
        load.more(450).await;
        let now = releases(&api).await;
        assert_eq!(now["releases"][0]["state"], "trial", "{now:#}");
        std::fs::write(&database, "").expect("a file");
        let ended = decided(&api, 2).await;
        assert_eq!(ended["state"], "current", "{ended:#}");
        assert_eq!(running(&api).await, [2, 2]);
        load.finish().await;
    });
}

#[test]
fn a_slow_release_is_taken_back() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "--delay-ms 5");
        let slow = home.release("r2", "--delay-ms 250");
        let mainstay = Mainstay::start(&home, &shop(&first, &["app-1", "app-2"])).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 150, "/");
        deploy(&api, &slow).await;
        let taken_back = decided(&api, 2).await;
        assert_eq!(taken_back["state"], "rolled-back", "{taken_back:#}");
        assert!(taken_back["why"].as_str().is_some_and(|why| why.contains("were slow")), "{taken_back:#}");
        load.finish().await.assert_none_failed();
    });
}

#[test]
fn a_release_that_does_not_come_up_is_never_routed_to_and_one_that_is_not_there_is_refused() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let crashing = home.script("r2", "echo it has no database >&2; exit 3");
        let mainstay = Mainstay::start(&home, &shop(&first, &["app-1"])).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 100, "/");
        let admin = format!("http://{}", mainstay.admin);
        let output = once(&home, &["deploy", "shop", &crashing, "--wait", "--json", "--admin", &admin]).await;
        assert_eq!(output.status.code(), Some(1));
        let failed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(failed["state"], "failed");
        let why = failed["why"].as_str().expect("a text");
        assert!(why.contains("exited with status 3") && why.contains("it has no database"), "{why}");
        for (path, problem, says) in [
            ("/no/such/release", "not-a-release", "No such file"),
            (first.as_str(), "release-is-current", "current release"),
        ] {
            let answer = api.post("/api/v1/services/shop/deploy", &json!({ "path": path })).await;
            assert!(answer.status >= 400, "{path}");
            assert!(answer.text().contains(problem) && answer.text().contains(says), "{}", answer.text());
        }
        load.more(20).await;
        load.finish().await.assert_none_failed();
        assert!(api.incidents().await.is_empty());
    });
}

#[test]
fn without_traffic_a_release_waits_until_a_person_decides() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let second = home.release("r2", "");
        let mainstay = Mainstay::start(&home, &shop(&first, &["app-1", "app-2"])).await;
        let api = mainstay.api();
        api.all_serve().await;
        deploy(&api, &second).await;
        until("the trial waits for requests", async || {
            let all = releases(&api).await;
            (all["deployment"]["text"] == "it has not had a request yet").then_some(())
        })
        .await;
        let busy = api.post("/api/v1/services/shop/deploy", &json!({ "path": first })).await;
        assert!(busy.status == 409 && busy.text().contains("deploy-under-way"), "{}", busy.text());
        crate::harness::pause(Duration::from_secs(3)).await;
        assert_eq!(release(&api, 2).await["state"], "trial", "min-time alone passes nothing");
        let answer = api.post("/api/v1/services/shop/promote", &json!({ "by": "bob" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(decided(&api, 2).await["state"], "current");
        assert_eq!(running(&api).await, [2, 2]);
    });
}

#[test]
fn an_incident_soon_after_a_deploy_is_answered_by_going_back() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let second = home.release("r2", "");
        let mainstay = Mainstay::start(&home, &shop(&first, &["app-1", "app-2"])).await;
        let api = mainstay.api();
        api.all_serve().await;
        deploy(&api, &second).await;
        until("it is on trial", async || (release(&api, 2).await["state"] == "trial").then_some(())).await;
        let answer = api.post("/api/v1/services/shop/promote", &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(decided(&api, 2).await["state"], "current");
        let pid = async || api.server("shop/app-1").await["process"]["pid"].as_u64();
        let first = pid().await.expect("it runs");
        process::signal(u32::try_from(first).expect("a pid"), libc::SIGKILL);
        // Any process may be killed once.
        let second = until("it was restarted", async || pid().await.filter(|second| *second != first)).await;
        api.all_serve().await;
        assert_eq!(release(&api, 2).await["state"], "current");
        process::signal(u32::try_from(second).expect("a pid"), libc::SIGKILL);
        let incident = api.first_incident().await;
        until("release 1 serves again", async || {
            (release(&api, 1).await["state"] == "current").then_some(())
        })
        .await;
        decided(&api, 1).await;
        assert_eq!(running(&api).await, [1, 1]);
        let incident = api.resolved(incident).await;
        assert_eq!(incident["diagnosis"]["cause"], "bad-update", "{incident:#}");
        assert_eq!(release(&api, 2).await["state"], "rolled-back");
    });
}

#[test]
fn mainstay_killed_in_the_middle_of_a_trial_knows_afterwards_what_ran() {
    run(async {
        let home = Home::new();
        let first = home.release("r1", "");
        let second = home.release("r2", "");
        let config = shop(&first, &["app-1", "app-2"]);
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        deploy(&api, &second).await;
        until("it is on trial", async || (release(&api, 2).await["state"] == "trial").then_some(())).await;
        mainstay.kill().await;
        no_orphan_is_left(&home).await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        let ended = release(&api, 2).await;
        assert_eq!(ended["state"], "rolled-back");
        assert!(ended["why"].as_str().is_some_and(|why| why.contains("Mainstay was restarted")), "{ended:#}");
        assert_eq!(running(&api).await, [1, 1]);
        assert_eq!(home.supervised().len(), 2, "no server runs twice");
    });
}

/// The sample shop, which is not started before the file `go` is there.
fn hesitant(home: &Home, name: &str) -> String {
    let program = env!("CARGO_BIN_EXE_mainstay");
    let go = home.path().join("go");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.05; done\nexec {program} sample-shop --release {name} \"$@\"",
        go.display()
    );
    std::fs::write(go, "").expect("a file");
    home.script(name, &script)
}

/// Two servers that run the second release, with the first one kept warm.
async fn promoted(home: &Home) -> Mainstay {
    let first = hesitant(home, "r1");
    let second = home.release("r2", "");
    let mut config = shop(&first, &["app-1", "app-2"]);
    config.service = config.service.replace("warm = \"0s\"", "warm = \"10m\"");
    let mainstay = Mainstay::start(home, &config).await;
    let api = mainstay.api();
    api.all_serve().await;
    deploy(&api, &second).await;
    until("it is on trial", async || (release(&api, 2).await["state"] == "trial").then_some(())).await;
    let answer = api.post("/api/v1/services/shop/promote", &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(decided(&api, 2).await["state"], "current");
    is_warm(&api).await;
    mainstay
}

/// Waits until release 1 is kept warm, and returns the process that does.
async fn is_warm(api: &Api) -> u64 {
    until_within(TRIAL, "release 1 is kept warm", async || {
        let status = api.status().await;
        let server = find_server(&status, "shop/app-1@old")?;
        let good = server["note"] == "warm" && server["health"] == "healthy" && server["release"] == 1;
        server["process"]["pid"].as_u64().filter(|_| good)
    })
    .await
}

#[test]
fn a_release_that_is_kept_warm_answers_all_visitors_before_another_process_of_it_could_have_started() {
    run(async {
        let home = Home::new();
        let mainstay = promoted(&home).await;
        let api = mainstay.api();
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(50).await;
        // From here on no process of the first release comes up: only the one that runs can answer.
        std::fs::remove_file(home.path().join("go")).expect("it was there");
        let answer = api.post("/api/v1/services/shop/rollback", &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        until("all visitors get the release before", async || {
            for _ in 0..20 {
                let page = get(mainstay.front(), "/").await.ok()?;
                (page.status == 200 && page.text().contains("r1")).then_some(())?;
            }
            Some(())
        })
        .await;
        std::fs::write(home.path().join("go"), "").expect("a file");
        decided(&api, 1).await;
        assert_eq!(running(&api).await, [1, 1]);
        load.more(50).await;
        load.finish().await.assert_none_failed();
        assert_eq!(release(&api, 2).await["state"], "rolled-back");
        assert!(api.incidents().await.is_empty());
        assert!(mainstay.stop().await.success());
        no_orphan_is_left(&home).await;
    });
}

#[test]
fn what_is_kept_warm_is_warm_again_after_a_crash_and_goes_on_in_an_upgrade() {
    run(async {
        let home = Home::new();
        let mainstay = promoted(&home).await;
        mainstay.kill().await;
        no_orphan_is_left(&home).await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        let pid = is_warm(&api).await;
        assert_eq!(running(&api).await, [2, 1, 2], "app-1, app-1@old and app-2");
        assert_eq!(home.supervised().len(), 3, "no server runs twice");
        let path = home.config();
        let output = once(&home, &["upgrade", "-c", path.to_str().expect("UTF-8")]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(is_warm(&api).await, pid);
        assert_eq!(home.supervised().len(), 3, "no server runs twice");
    });
}
