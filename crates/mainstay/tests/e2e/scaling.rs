//! More instances of a server when more is under way than it is meant for, fewer when not, without a failed request.

use std::time::Duration;

use crate::harness::api::Api;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left};
use crate::harness::{process, run, until, until_within};

/// One instance does not finish what comes: each request takes a tenth of a second.
fn shop() -> Config {
    let program = env!("CARGO_BIN_EXE_mainstay");
    let lines = "scale = { min = 1, max = 3, concurrency = 10, in-after = \"3s\" }";
    let mut config = Config::new()
        .service_lines(lines)
        .command("app", &[program, "sample-shop", "--port", "{port}", "--name", "app", "--delay-ms", "100"]);
    config.service = config.service.replace("slow-start = \"2s\"", "slow-start = \"500ms\"");
    config
}

async fn instances(api: &Api) -> Vec<String> {
    let status = api.status().await;
    let servers = status["services"][0]["servers"].as_array().cloned().unwrap_or_default();
    servers.iter().filter_map(|s| s["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn instances_come_under_load_and_go_when_it_is_over_without_a_failed_request() {
    run(async {
        let home = Home::new();
        let mainstay = Mainstay::start(&home, &shop()).await;
        let api = mainstay.api();
        api.all_serve().await;
        assert_eq!(instances(&api).await, ["shop/app"]);
        // 250 a second, a tenth of a second each: 25 under way.
        let heavy = Load::start(mainstay.front(), 250, "/");
        until("there are three instances", async || (instances(&api).await.len() == 3).then_some(())).await;
        api.all_serve().await;
        heavy.more(100).await;
        heavy.finish().await.assert_none_failed();
        let light = Load::start(mainstay.front(), 20, "/");
        until_within(Duration::from_secs(60), "one instance is left", async || {
            (instances(&api).await == ["shop/app"]).then_some(())
        })
        .await;
        light.more(10).await;
        light.finish().await.assert_none_failed();
        assert!(api.incidents().await.is_empty());
        let text = api.status().await["services"][0]["scale"]["text"].as_str().unwrap_or_default().to_owned();
        assert!(text.starts_with("1 instance: "), "{text}");
        assert!(mainstay.stop().await.success());
        no_orphan_is_left(&home).await;
    });
}

#[test]
fn an_instance_that_dies_is_restarted_and_a_killed_mainstay_has_as_many_as_before() {
    run(async {
        let home = Home::new();
        let mut config = shop();
        config.service = config.service.replace("\"3s\"", "\"10m\"");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let heavy = Load::start(mainstay.front(), 170, "/");
        until("there are two instances", async || (instances(&api).await.len() >= 2).then_some(())).await;
        heavy.finish().await;
        api.all_serve().await;
        let have = instances(&api).await;
        let pid = api.server("shop/app-2").await["process"]["pid"].as_u64().expect("it runs");
        process::signal(u32::try_from(pid).expect("a pid"), libc::SIGKILL);
        api.server_until("shop/app-2", "runs again", |s| {
            s["process"]["pid"].as_u64().is_some_and(|new| new != pid) && s["health"] == "healthy"
        })
        .await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        mainstay.api().all_serve().await;
        assert_eq!(instances(&mainstay.api()).await, have);
        assert_eq!(home.supervised().len(), have.len());
    });
}
