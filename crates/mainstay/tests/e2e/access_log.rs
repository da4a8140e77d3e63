//! The access log of the running program: every request of a load is in it, over a rotation and a disk that is full; who does not read it
//! holds up nobody.

use std::path::Path;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http;
use crate::harness::load::Load;
use crate::harness::mainstay::Mainstay;
use crate::harness::shop::Shop;
use crate::harness::{run, until};

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.matches('\n').count())
}

#[test]
fn no_request_is_missing_from_a_log_that_is_rotated_and_whose_disk_fills() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let [path, rotated] = ["access.log", "access.log.1"].map(|name| home.path().join(name));
        let logging_to = |path: &Path| {
            let log = format!("[log]\naccess = {path:?}\naccess-format = \"combined\"");
            Config::new().external("app-1", shop.address).table(&log)
        };
        let mainstay = Mainstay::start(&home, &logging_to(&path)).await;
        mainstay.api().all_serve().await;
        let load = Load::start(mainstay.front(), 300, "/");
        load.more(150).await;
        std::fs::rename(&path, &rotated).expect("renamed");
        mainstay.signal(libc::SIGHUP);
        load.more(150).await;
        let done = load.finish().await;
        done.assert_none_failed();
        let sent = done.samples.len();
        until("every line", async || (lines(&path) + lines(&rotated) >= sent).then_some(())).await;
        assert_eq!(lines(&path) + lines(&rotated), sent);
        assert!(lines(&rotated) > 0 && lines(&path) > 0);
        let metrics = mainstay.api().get("/metrics").await.text();
        let written = format!("mainstay_access_log_lines_total{{outcome=\"written\"}} {sent}");
        assert!(metrics.contains(&written), "{metrics}");

        let trouble = async || mainstay.api().status().await["own_trouble"].clone();
        home.write_config(&logging_to(Path::new("/dev/full")).text(&home));
        until("the other log", async || {
            http::get(mainstay.front(), "/").await.expect("traffic goes on");
            trouble().await.to_string().contains("free some space").then_some(())
        })
        .await;
        home.write_config(&logging_to(&path).text(&home));
        until("no trouble", async || trouble().await.as_array()?.is_empty().then_some(())).await;
        assert!(mainstay.stop().await.success());
    });
}

#[test]
fn a_log_on_standard_output_that_nobody_reads_holds_up_no_request_and_no_end() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        // Lines so long that what may wait for their reader is soon full.
        let target: &str = format!("/?{}", "x".repeat(200)).leak();
        let log =
            format!("[log]\naccess = \"stdout\"\naccess-format = \"the log: {}\"", "{target}".repeat(200));
        let config = Config::new().external("app-1", shop.address).table(&log);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        http::get(mainstay.front(), "/").await.expect("an answer");
        until("the line", async || {
            mainstay.printed().iter().any(|line| line.starts_with("the log: /")).then_some(())
        })
        .await;
        mainstay.leave_unread();
        let load = Load::start(mainstay.front(), 300, target);
        let dropped = "mainstay_access_log_lines_total{outcome=\"dropped\"} ";
        until("lines are left out", async || {
            let metrics = mainstay.api().get("/metrics").await.text();
            let lines = metrics.lines().find_map(|line| line.strip_prefix(dropped)).expect("it is counted");
            lines.parse::<f64>().is_ok_and(|lines| lines > 0.0).then_some(())
        })
        .await;
        load.more(100).await;
        load.finish().await.assert_none_failed();
        assert!(mainstay.stop().await.success());
    });
}
