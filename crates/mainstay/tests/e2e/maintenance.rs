//! Maintenance windows through the whole program: opened by hand and by the config, over a SIGKILL and an upgrade, told to nobody while
//! they last and to somebody afterwards.

use serde_json::{Value, json};

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::get;
use crate::harness::mail::MailSink;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::shop::Shop;
use crate::harness::{run, until};

async fn command(home: &Home, mainstay: &Mainstay, words: &[&str]) -> String {
    let admin = format!("http://{}", mainstay.api().address());
    let all: Vec<&str> = words.iter().copied().chain(["--admin", &admin]).collect();
    let output = once(home, &all).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn state(mainstay: &Mainstay) -> Value {
    mainstay.api().status().await["services"][0]["state"].clone()
}

#[test]
fn a_window_opened_by_hand_outlives_a_kill_raises_nobody_and_what_still_fails_is_told_when_it_ends() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let mut shop = Shop::start(&home, "app-1").await;
        let status = "[status]\npath = \"/status\"\n[status.component.shop]\nname = \"Lamps\"";
        let config = Config::new().external("app-1", shop.address).mail_to(sink.address).table(status);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;

        let words = ["maintenance", "start", "shop", "--for", "1h", "--reason", "new disks", "--by", "ada"];
        let opened = command(&home, &mainstay, &words).await;
        assert!(opened.starts_with("window 1 is open for shop: "), "{opened}");
        assert_eq!(state(&mainstay).await, "maintenance");
        shop.kill();
        let down = |server: &Value| server["health"] == "unhealthy";
        mainstay.api().server_until("shop/app-1", "is down", down).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        mainstay.api().server_until("shop/app-1", "is down again", down).await;
        let listed = command(&home, &mainstay, &["maintenance", "list"]).await;
        assert!(
            listed.contains("open") && listed.contains("new disks") && listed.contains("by ada"),
            "{listed}"
        );
        let status = command(&home, &mainstay, &["status"]).await;
        assert!(status.contains("in maintenance for") && status.contains("no open incident"), "{status}");

        let page = until("the page tells visitors of it", async || {
            let page = get(mainstay.front(), "/status/").await.ok()?;
            page.text().contains("Under way").then(|| page.text())
        })
        .await;
        assert!(
            page.contains("Lamps is under maintenance") || page.contains("working on everything"),
            "{page}"
        );
        assert!(!page.contains("new disks") && !page.contains("app-1"), "reasons and servers stay inside");
        assert!(mainstay.api().incidents().await.is_empty());
        assert!(sink.messages().is_empty());

        let ended = command(&home, &mainstay, &["maintenance", "end", "1"]).await;
        assert_eq!(ended, "window 1 is over\n");
        until("what still fails is told", async || (sink.messages().len() == 1).then_some(())).await;
        assert_eq!(mainstay.api().incidents().await.len(), 1);
        assert!(sink.messages()[0].header("subject").contains("app-1"));
    });
}

#[test]
fn a_window_of_the_config_opens_by_itself_and_check_config_says_when() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "a").await;
        let soon = jiff::Timestamp::now() - std::time::Duration::from_secs(60);
        let window = format!(
            "[maintenance.disks]\nservices = [\"shop\"]\nfrom = \"{soon}\"\nfor = \"1h\"\n\
             [maintenance.updates]\neverything = true\nweekly = \"sun 02:00\"\nfor = \"2h\"\nzone = \"Europe/Berlin\"\n"
        );
        let config = Config::new().external("app-1", shop.address).table(&window);
        let mainstay = Mainstay::start(&home, &config).await;
        until("it is in maintenance", async || (state(&mainstay).await == "maintenance").then_some(())).await;
        let windows = mainstay.api().get_json("/api/v1/maintenance").await;
        assert_eq!((&windows[0]["id"], &windows[1]["id"]), (&json!("disks"), &json!("updates")));
        assert!(
            windows[0]["open"].is_object() && windows[1]["next"].as_array().map(Vec::len) == Some(3),
            "{windows}"
        );
        let file = home.path().join("checked.toml");
        std::fs::write(&file, config.text(&home)).expect("it is written");
        let checked = once(&home, &["check-config", "-c", &file.display().to_string()]).await;
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        let line = text
            .lines()
            .find(|line| line.contains("updates: everything"))
            .unwrap_or_else(|| panic!("{text}"));
        assert_eq!(line.matches("Europe/Berlin").count(), 3, "{line}");
        command(&home, &mainstay, &["maintenance", "end", "disks"]).await;
        until("it is over", async || (state(&mainstay).await == "healthy").then_some(())).await;
    });
}
