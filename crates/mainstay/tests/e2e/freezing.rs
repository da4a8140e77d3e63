//! The freeze switch: what dies is left alone until somebody thaws, whoever turned it and however Mainstay ended.

use std::time::Duration;

use crate::harness::api::{entries, serves};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::{pause, process, run};
use crate::recovery::{pid_of, three_supervised};

/// A command of the program about this Mainstay, which succeeds.
async fn says(home: &Home, mainstay: &Mainstay, words: &[&str]) -> String {
    let admin = format!("http://{}", mainstay.admin);
    let all: Vec<&str> = words.iter().copied().chain(["--admin", &admin]).collect();
    let output = once(home, &all).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn kill(mainstay: &Mainstay, id: &str) {
    process::signal(pid_of(&mainstay.api().server(id).await), libc::SIGKILL);
    mainstay.api().server_until(id, "is known to be dead", |s| s["health"] == "unhealthy").await;
}

#[test]
fn what_dies_in_a_freeze_is_routed_round_and_started_when_somebody_thaws() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &three_supervised()).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 200, "/");
        let frozen =
            says(&home, &mainstay, &["freeze", "--for", "2h", "--why", "racks are moved", "--by", "anna"])
                .await;
        assert!(frozen.starts_with("frozen until "), "{frozen}");
        kill(&mainstay, "shop/app-2").await;
        load.more(600).await;
        let server = api.server("shop/app-2").await;
        assert_eq!((server["health"].as_str(), server["process"]["pid"].as_u64()), (Some("unhealthy"), None));
        let id = api.first_incident().await;
        let incident = api.incident_with(id, "withheld").await;
        let text = entries(&incident, "withheld")[0]["text"].as_str().unwrap_or_default();
        assert!(text.starts_with("app-2 is not restarted: frozen by anna until "), "{text}");
        let status = says(&home, &mainstay, &["status"]).await;
        assert!(status.contains("racks are moved: nothing is restarted"), "{status}");

        assert_eq!(says(&home, &mainstay, &["thaw"]).await, "no longer frozen\n");
        api.server_until("shop/app-2", "serves", serves).await;
        api.resolved(id).await;
        load.finish().await.assert_none_failed();
        assert!(!home.data().join("freeze").exists());
    });
}

#[test]
fn a_file_freezes_and_a_freeze_outlives_a_killed_mainstay_and_an_upgrade() {
    run(async {
        let home = Home::new();
        let config = Config::new().supervised("app-1").supervised("app-2");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        std::fs::write(home.data().join("freeze"), "ask anna\n").expect("it is written");
        let told = async |mainstay: &Mainstay, frozen: bool| {
            crate::harness::until("it is known", async || {
                let freeze = mainstay.api().get_json("/api/v1/freeze").await;
                (freeze["why"] == "ask anna" && frozen || freeze.is_null() && !frozen).then_some(())
            })
            .await;
        };
        told(&mainstay, true).await;
        mainstay.kill().await;
        // What it starts with is what it would start with anyway.
        let mainstay = Mainstay::again(&home).await;
        told(&mainstay, true).await;
        mainstay.api().all_serve().await;
        says_upgrade(&home).await;
        told(&mainstay, true).await;
        kill(&mainstay, "shop/app-1").await;
        pause(Duration::from_secs(2)).await;
        assert_eq!(mainstay.api().server("shop/app-1").await["process"]["pid"].as_u64(), None);
        std::fs::remove_file(home.data().join("freeze")).expect("it is there");
        told(&mainstay, false).await;
        mainstay.api().server_until("shop/app-1", "serves", serves).await;
    });
}

async fn says_upgrade(home: &Home) {
    let path = home.config();
    let output = once(home, &["upgrade", "-c", path.to_str().expect("UTF-8")]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
