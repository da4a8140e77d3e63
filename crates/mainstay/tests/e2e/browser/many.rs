//! Ten thousand monitors in the browser: the list is opened, searched, filtered and turned over, and a failure shows by itself.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::harness::browser::Browser;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::Mainstay;
use crate::harness::{measured, run, until};
use crate::monitors::web;

/// In a hundred groups and fifty racks; the one in the middle is looked at each second and may fail.
const MANY: usize = 10_000;
const MIDDLE: &str = "target-05037";

fn tables(site: &str, middle: &str) -> String {
    let mut tables = String::new();
    for n in 0..MANY {
        let (url, interval, fail) = match n {
            5037 => (middle, "1s", "fail = \"2 of 3\"\n"),
            _ => (site, "120s", ""),
        };
        let _ = write!(
            tables,
            "[monitor.target-{n:05}]\nurl = \"{url}/{n}\"\ninterval = \"{interval}\"\n{fail}group = \"customer-{:03}\"\n\
             tags = [\"rack-{:02}\", \"web\"]\n",
            n / 100,
            n % 50
        );
    }
    tables
}

/// True when so many rows are shown of so many that are found, as the page says it.
fn list_is(rows: usize, found: &str) -> String {
    format!(
        "const text = document.querySelector('#monitors')?.textContent.replace(/[\\u202f\\u00a0]/g, ' ') ?? '';\
         return document.readyState === 'complete' && text.includes('{found}')\
         && document.querySelectorAll('#monitors li').length === {rows};"
    )
}

/// The name of the first row.
const FIRST: &str = "return document.querySelector('#monitors li b').textContent";

/// True when the first row is this monitor in this state.
fn first_is(name: &str, state: &str) -> String {
    format!(
        "const row = document.querySelector('#monitors li');\
         return row.querySelector('b').textContent === '{name}' && row.querySelector('.st').textContent.includes('{state}');"
    )
}

async fn choose(browser: &Browser, field: &str, value: &str) {
    let script = format!(
        "const form = document.querySelector('form.filter'); form.elements['{field}'].value = '{value}';\
         form.requestSubmit(); return true"
    );
    browser.ask(&script).await;
}

#[test]
fn ten_thousand_monitors_are_found_and_followed() {
    run(async {
        let home = Home::new();
        let well = Arc::new(AtomicBool::new(true));
        let (site, middle) = (web(Arc::new(AtomicBool::new(true))).await, web(well.clone()).await);
        let config = Config::new()
            .external("app-1", site)
            .table(&tables(&format!("http://{site}"), &format!("http://{middle}")));
        let begun = Instant::now();
        let mainstay = Mainstay::start(&home, &config).await;
        measured("Mainstay with 10,000 monitors is ready after, ms", begun.elapsed().as_millis());
        let browser = Browser::open(&home).await;
        let list = format!("http://{}/monitors", mainstay.admin);

        let begun = Instant::now();
        browser.go(&list).await;
        browser.until("the list is there", &list_is(50, "10 000 monitors")).await;
        measured("a list of 10,000 monitors is shown after, ms", begun.elapsed().as_millis());
        let bytes = browser.ask("return document.documentElement.outerHTML.length").await;
        assert!(bytes.as_u64() < Some(100_000), "it has {bytes} characters");

        let begun = Instant::now();
        choose(&browser, "q", "TARGET-0499").await;
        browser.until("ten are found", &list_is(10, "10 monitors of 10 000")).await;
        measured("a search among 10,000 monitors is answered after, ms", begun.elapsed().as_millis());

        browser.go(&list).await;
        choose(&browser, "group", "customer-042").await;
        browser.until("a group is shown", &list_is(50, "100 monitors of 10 000")).await;
        browser.click(".pages a").await;
        browser.until("its second page is shown", "return location.search.includes('page=2')").await;
        browser.until("the rest of it is there", &list_is(50, "page 2 of 2")).await;
        browser.click("#monitors li a.tag").await;
        browser
            .until(
                "the group is narrowed by a tag",
                "return /group=customer-042&tag=rack-/.test(location.search)",
            )
            .await;
        browser.until("two are left", &list_is(2, "2 monitors of 10 000")).await;

        // What fails comes to the top of its group without a reload, and goes back when it is well.
        let middle = async || mainstay.api().get_json(&format!("/api/v1/monitors/{MIDDLE}")).await;
        until("it is well", async || (middle().await["state"] == "up").then_some(())).await;
        browser.go(&format!("{list}?group=customer-050")).await;
        browser
            .ask(
                "window.longest = 0; window.notReloaded = true;\
                 new PerformanceObserver((list) => list.getEntries().forEach((task) => {\
                   window.longest = Math.max(window.longest, task.duration) })).observe({ type: 'longtask' }); return true",
            )
            .await;
        assert_ne!(browser.ask(FIRST).await, MIDDLE);
        well.store(false, Ordering::SeqCst);
        until("it is known to be down", async || (middle().await["state"] == "down").then_some(())).await;
        let begun = Instant::now();
        browser.until("it is shown as down, on top", &first_is(MIDDLE, "down")).await;
        measured("one of 10,000 that fails is shown after it is known, ms", begun.elapsed().as_millis());
        well.store(true, Ordering::SeqCst);
        browser.until("it went back to its place", &format!("{FIRST} !== '{MIDDLE}'")).await;
        assert_eq!(browser.ask("return window.notReloaded").await, true, "nothing was loaded anew");
        measured(
            "the longest task of the page while it is live, ms",
            browser.ask("return window.longest").await,
        );
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        browser.close().await;
    });
}
