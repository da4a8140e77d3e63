//! `mainstay replay`: an incident that really happened, tried with another config.

use std::time::Duration;

use serde_json::Value;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left, once};
use crate::harness::shop::Shop;
use crate::harness::{pause, process, run};
use crate::recovery::{pid_of, three_supervised};

/// What the program says of a replay, as JSON.
async fn tried(home: &Home, config: &str, more: &[&str]) -> Value {
    std::fs::write(home.path().join("new.toml"), config).expect("written");
    let file = home.path().join("new.toml");
    let mut arguments = vec!["replay", "--json", "--config", file.to_str().expect("a path")];
    arguments.extend(more);
    let output = once(home, &arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn decisions<'a>(answer: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = answer["decisions"].as_array().expect("decisions");
    all.iter().filter(|decision| decision["kind"] == kind).collect()
}

/// The config as it was written, with something else in it.
fn changed(home: &Home, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(home.config()).expect("the config");
    assert!(text.contains(from), "{text}");
    text.replace(from, to)
}

/// All that was decided was decided so then, at the same time.
fn nothing_is_another(answer: &Value) {
    let all = answer["decisions"].as_array().expect("decisions");
    assert!(!all.is_empty());
    for decision in all {
        assert_eq!(decision["then"], decision["tried"], "{decision}");
    }
}

fn ms(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no time"))
}

#[test]
fn an_incident_is_tried_with_a_config_that_looks_longer_before_it_judges() {
    run(async {
        let home = Home::new();
        let shops = Shop::three(&home).await;
        let mut config = Config::new();
        for (name, shop) in ["app-1", "app-2", "app-3"].into_iter().zip(&shops) {
            config = config.external(name, shop.address);
        }
        config.service = Config::QUICK.replace("fall = 2", "fall = 3");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        pause(Duration::from_secs(2)).await;
        shops[1].signal(libc::SIGSTOP);
        let id = api.first_incident().await;
        pause(Duration::from_secs(5)).await;
        shops[1].signal(libc::SIGCONT);
        let incident = api.resolved(id).await;
        pause(Duration::from_secs(2)).await;

        // While it runs, and with what it was run with.
        let number = id.to_string();
        let same = tried(&home, &changed(&home, "fall = 3", "fall = 3"), &[&number]).await;
        nothing_is_another(&same);
        let opened = decisions(&same, "opened");
        assert_eq!(opened.len(), 1, "{same:#}");
        // A timer of then may have been late, and is not late here.
        assert!((ms(&opened[0]["then"]) - ms(&incident["opened_at"])).abs() <= 250, "{same:#} {incident:#}");
        mainstay.stop().await;

        let later = tried(&home, &changed(&home, "fall = 3", "fall = 5"), &[&number]).await;
        let opened = decisions(&later, "opened")[0];
        // Two more probes, each of which takes its timeout.
        assert!(ms(&opened["tried"]) - ms(&opened["then"]) >= 1000, "{later:#}");
        let never = tried(&home, &changed(&home, "fall = 3", "fall = 50"), &[&number]).await;
        let opened = decisions(&never, "opened")[0];
        assert!(opened["then"].is_i64() && opened["tried"].is_null(), "{never:#}");
    });
}

#[test]
fn a_restart_that_another_config_would_not_have_made_is_named() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        pause(Duration::from_secs(2)).await;
        let frozen = pid_of(&api.server("shop/app-2").await);
        process::signal(frozen, libc::SIGSTOP);
        let id = api.first_incident().await;
        api.resolved(id).await;
        pause(Duration::from_secs(2)).await;
        mainstay.stop().await;

        let number = id.to_string();
        nothing_is_another(&tried(&home, &changed(&home, "fall = 2", "fall = 2"), &[&number]).await);
        let by_hand = changed(&home, "resolve-after", "recovery = { budget = 0 }\nresolve-after");
        let budget = tried(&home, &by_hand, &[&number]).await;
        let restart = decisions(&budget, "recover-restart")[0];
        assert!(restart["then"].is_i64() && restart["tried"].is_null(), "{budget:#}");
        let calls = decisions(&budget, "told-needs-person");
        assert!(calls.len() == 1 && calls[0]["then"].is_null(), "a person is called instead: {budget:#}");

        // For people, over all that is kept.
        let file = home.path().join("new.toml");
        let all = once(&home, &["replay", "--config", file.to_str().expect("a path")]).await;
        let text = String::from_utf8_lossy(&all.stdout).into_owned();
        for words in [
            "restart of shop/app-2",
            "would have been another.",
            "What would have come of the other is not known",
        ] {
            assert!(text.contains(words), "{words} is not in:\n{text}");
        }
        let unknown = once(&home, &["replay", "--config", file.to_str().expect("a path"), "77"]).await;
        assert_eq!(unknown.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no incident 77"));
        no_orphan_is_left(&home).await;
    });
}
