//! The dashboard in a real browser, as the person on call uses it.

mod many;

use crate::harness::api::serves;
use crate::harness::browser::Browser;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::Mainstay;
use crate::harness::run;
use crate::harness::shop::Shop;

/// A script that is true when the overview shows a server in a state.
fn shows(server: &str, state: &str) -> String {
    format!(
        "const link = document.querySelector('tr a[href=\"/servers/{server}\"]');\
         const shown = link && link.closest('tr').querySelector('[data-state]');\
         return !!shown && shown.dataset.state === '{state}' && shown.textContent.includes('{state}');"
    )
}

async fn three_shops(home: &Home) -> ([Shop<'_>; 3], Mainstay) {
    let shops = Shop::three(home).await;
    let config = shops.iter().fold(Config::new(), |config, shop| config.external(&shop.name, shop.address));
    let mainstay = Mainstay::start(home, &config).await;
    mainstay.api().all_serve().await;
    (shops, mainstay)
}

#[test]
fn the_overview_shows_a_server_go_down_and_come_back_without_a_reload() {
    run(async {
        let home = Home::new();
        let (mut shops, mainstay) = three_shops(&home).await;
        let browser = Browser::open(&home).await;
        browser.go(&format!("http://{}/", mainstay.admin)).await;
        browser.until("all is well", &shows("shop/app-2", "healthy")).await;
        // A reload would lose this.
        browser.ask("window.notReloaded = true; return true").await;
        shops[1].kill();
        browser.until("the server is shown as down", &shows("shop/app-2", "down")).await;
        browser.until("the others are not", &shows("shop/app-1", "healthy")).await;
        browser
            .until("the incident is shown", "return !!document.querySelector('a[href=\"/incidents/1\"]')")
            .await;
        shops[1].up().await;
        browser.until("the server is shown as healthy again", &shows("shop/app-2", "healthy")).await;
        assert_eq!(browser.ask("return window.notReloaded").await, true);
        browser.close().await;
    });
}

#[test]
fn a_person_takes_an_incident_on() {
    run(async {
        let home = Home::new();
        let (mut shops, mainstay) = three_shops(&home).await;
        shops[0].kill();
        let id = mainstay.api().first_incident().await;
        let browser = Browser::open(&home).await;
        browser.go(&format!("http://{}/", mainstay.admin)).await;
        browser.click(&format!("a[href=\"/incidents/{id}\"]")).await;
        browser
            .until("the incident's page is open", &format!("return location.pathname === '/incidents/{id}'"))
            .await;
        browser
            .ask("document.querySelector('form.acknowledge input[name=by]').value = 'Ada'; return true")
            .await;
        browser.click("form.acknowledge button").await;
        browser.until("it says who took it on", "return document.body.textContent.includes('Ada')").await;
        let incident = mainstay.api().incident(id).await;
        assert_eq!(incident["state"], "acknowledged", "{incident:#}");
        assert_eq!(incident["acknowledged"][0], "Ada", "{incident:#}");
        browser.close().await;
    });
}

#[test]
fn a_person_drains_a_server_and_makes_it_ready_again_after_confirming() {
    run(async {
        let home = Home::new();
        let (_shops, mainstay) = three_shops(&home).await;
        let api = mainstay.api();
        let browser = Browser::open(&home).await;
        let page = format!("http://{}/servers/shop/app-3", mainstay.admin);
        browser.go(&page).await;
        browser.click("a[data-confirm][href*=\"draining\"]").await;
        browser.until("it asks first", "return !!document.querySelector('form.confirm button')").await;
        assert_eq!(
            api.server("shop/app-3").await["admin"],
            "ready",
            "nothing happens before the confirmation"
        );
        browser.click("form.confirm button").await;
        api.server_until("shop/app-3", "drains", |s| s["admin"] == "draining" && s["in_rotation"] == false)
            .await;
        browser.until("the page says so", "return document.body.textContent.includes('draining')").await;

        browser.go(&page).await;
        browser.click("a[data-confirm][href*=\"ready\"]").await;
        browser.click("form.confirm button").await;
        api.server_until("shop/app-3", "serves again", serves).await;
        browser.close().await;
    });
}

#[test]
fn the_pages_keep_their_own_content_security_policy() {
    run(async {
        let home = Home::new();
        let (_shops, mainstay) = three_shops(&home).await;
        let browser = Browser::open(&home).await;
        for path in ["/", "/services/shop", "/servers/shop/app-1", "/incidents"] {
            browser.go(&format!("http://{}{path}", mainstay.admin)).await;
            browser
                .until(
                    &format!("{path} is drawn with its style and all of its pictures"),
                    "return document.readyState === 'complete' && document.styleSheets.length > 0 \
                     && [...document.images].every(i => i.naturalWidth > 0)",
                )
                .await;
            let complaints = browser.complaints().await;
            assert!(complaints.is_empty(), "{path}: {complaints:?}");
            let bytes = browser.ask("return document.documentElement.outerHTML.length").await;
            assert!(bytes.as_u64() < Some(100_000), "{path} has {bytes} characters");
        }
        browser.close().await;
    });
}

#[test]
fn a_person_writes_an_update_and_the_public_reads_it() {
    run(async {
        let home = Home::new();
        let mut shop = Shop::start(&home, "app-1").await;
        let config = Config::new().external(&shop.name, shop.address);
        let config = config.table("[status]\nlisten = \"127.0.0.1:0\"\npath = \"/status\"");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        shop.kill();
        let id = mainstay.api().first_incident().await;
        let browser = Browser::open(&home).await;
        browser.go(&format!("http://{}/incidents/{id}", mainstay.admin)).await;
        browser
            .until(
                "the form is filled in",
                "const form = document.querySelector('form.publish.update'); if (!form) return false;\
                 form.text.value = 'A cable was cut.'; form.state.value = 'identified'; form.by.value = 'Ada'; return true",
            )
            .await;
        browser.click("form.publish.update button").await;
        browser
            .until(
                "the page shows it",
                "return !!document.querySelector('.updates .update')?.textContent.includes('cable')",
            )
            .await;
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        let page = format!("http://{}/", crate::status_page::own_address(&mainstay));
        browser
            .until_at(
                &page,
                "the public reads it",
                "return document.body.textContent.includes('A cable was cut.')",
            )
            .await;
        let drawn = "return document.styleSheets.length === 1 && document.cookie === '' && document.scripts.length === 0";
        browser.until("it is drawn with its style, and nothing else", drawn).await;
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        browser.go(&format!("http://{}/status", mainstay.front())).await;
        browser
            .until(
                "it is below its path too",
                "return location.pathname === '/status/' && document.styleSheets[0].cssRules.length > 10",
            )
            .await;
        browser.close().await;
    });
}
