//! The public status page: there by host name, by path and on an address of its own, there when nothing else is, and
//! silent about all that is inside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::harness::api::Api;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Answer, Connection};
use crate::harness::mainstay::Mainstay;
use crate::harness::shop::Shop;
use crate::harness::{run, until};

const HOST: &str = "status.example.com";

fn config(home: &Home, shops: &[Shop<'_>]) -> Config {
    let config = shops.iter().fold(Config::new(), |config, shop| config.external(&shop.name, shop.address));
    let folder = home.path().join("copy");
    config.table(&format!(
        "[status]\nhost = \"{HOST}\"\npath = \"/status\"\nlisten = \"127.0.0.1:0\"\nfolder = {folder:?}\n\
         title = \"Lamps & Co\"\n[status.component.shop]\nname = \"Lamp shop\"\nabout = \"Where lamps are bought\""
    ))
}

/// The page's own address, from what was printed.
pub fn own_address(mainstay: &Mainstay) -> SocketAddr {
    let printed = mainstay.printed();
    let line = printed.iter().find_map(|line| line.strip_prefix("status     http://"));
    let address = line.and_then(|line| line.trim_end_matches('/').parse().ok());
    address.unwrap_or_else(|| panic!("no line `status     http://…/` in {printed:?}"))
}

async fn get(address: SocketAddr, host: &str, path: &str) -> Answer {
    let headers = [("Host", host), ("Connection", "close")];
    let mut connection = Connection::open(address).await.expect("it listens");
    connection.send("GET", path, &headers, b"").await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first page by every way that there is.
async fn everywhere(home: &Home, mainstay: &Mainstay) -> [String; 4] {
    let copy = std::fs::read_to_string(home.path().join("copy/index.html")).unwrap_or_default();
    let by_host = get(mainstay.front(), HOST, "/").await;
    let by_path = get(mainstay.front(), "shop.example.com", "/status/").await;
    let own = http::get(own_address(mainstay), "/").await.expect("it is served");
    for answer in [&by_host, &by_path, &own] {
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    }
    [by_host.text(), by_path.text(), own.text(), copy]
}

/// Waits until the first page is as wanted by every way.
async fn until_everywhere(home: &Home, mainstay: &Mainstay, what: &str, wanted: impl Fn(&str) -> bool) {
    until(&format!("{what}, by every way"), async || {
        everywhere(home, mainstay).await.iter().all(|page| wanted(page)).then_some(())
    })
    .await;
}

/// Every file of the static copy.
fn files(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("the copy is there").flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{name}/"), found);
        } else if !name.ends_with(".tmp") {
            found.insert(name, std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
}

/// Asserts that nothing of the inside is in the copy, or in what is served under the copy's names.
async fn nothing_leaks(home: &Home, mainstay: &Mainstay, shops: &[Shop<'_>]) {
    let mut found = BTreeMap::new();
    files(&home.path().join("copy"), "", &mut found);
    assert!(found.len() >= 9, "{:?}", found.keys());
    for path in found.keys().cloned().collect::<Vec<_>>() {
        let answer = http::get(own_address(mainstay), &format!("/{path}")).await.expect("it is served");
        assert_eq!(answer.status, 200, "{path}");
        found.insert(format!("served {path}"), answer.text());
    }
    let mut inner =
        vec![mainstay.admin.to_string(), "127.0.0.1".to_owned(), env!("CARGO_PKG_VERSION").to_owned()];
    inner.extend(shops.iter().flat_map(|shop| [shop.name.clone(), shop.address.port().to_string()]));
    for (path, text) in &found {
        // Tags and times are made of digits too; only what people read is looked at for ports.
        for inner in
            inner.iter().filter(|inner| inner.contains(['.', '-', ':']) || path.ends_with("index.html"))
        {
            assert!(!text.contains(inner.as_str()) || path.contains(".svg"), "{path} has {inner}");
        }
        assert!(!text.contains("refused") && !text.contains("unhealthy"), "{path}");
    }
}

async fn requests(api: &Api) -> u64 {
    api.status().await["services"][0]["totals"]["requests"].as_u64().expect("a count")
}

#[test]
fn the_page_stays_up_when_every_server_is_dead_and_says_so_without_saying_more() {
    run(async {
        let home = Home::new();
        let mut shops = [Shop::start(&home, "app-1").await, Shop::start(&home, "app-2").await];
        let mainstay = Mainstay::start(&home, &config(&home, &shops)).await;
        let api = mainstay.api();
        api.all_serve().await;
        until_everywhere(&home, &mainstay, "all is well", |page| page.contains("Everything works")).await;
        for path in ["/", "/statuses"] {
            let shops = get(mainstay.front(), "shop.example.com", path).await.text();
            assert!(!shops.contains("Lamp shop") && !shops.contains("There is no such page here"), "{shops}");
        }
        // The page's visitors are nobody's requests.
        for _ in 0..20 {
            assert_eq!(get(mainstay.front(), HOST, "/badge.svg").await.status, 200);
        }
        shops.iter_mut().for_each(Shop::kill);
        assert!(http::get(mainstay.front(), "/").await.expect("an honest page").status >= 500);
        let down = |page: &str| page.contains("Lamp shop is not available") && page.contains("incident-1");
        until_everywhere(&home, &mainstay, "it says that all is down", down).await;
        // Two above, and the one that was refused.
        until("the counts are in", async || (requests(&api).await >= 3).then_some(())).await;
        assert_eq!(requests(&api).await, 3, "requests for the page are counted as the shop's");
        let status = api.status().await;
        assert_eq!(status["services"].as_array().map(Vec::len), Some(1), "{status}");
        assert_eq!(api.incidents().await.len(), 1);
        nothing_leaks(&home, &mainstay, &shops).await;
        for shop in &mut shops {
            shop.up().await;
        }
        let over = |page: &str| page.contains("Everything works") && page.contains("was not available");
        until_everywhere(&home, &mainstay, "it says that it is over", over).await;
        nothing_leaks(&home, &mainstay, &shops).await;
    });
}

#[test]
fn what_a_person_writes_is_everywhere_survives_a_kill_and_can_be_hidden() {
    run(async {
        let home = Home::new();
        let mut shops = [Shop::start(&home, "app-1").await];
        let mut mainstay = Mainstay::start(&home, &config(&home, &shops)).await;
        mainstay.api().all_serve().await;
        shops[0].kill();
        let id = mainstay.api().first_incident().await;
        let path = format!("/api/v1/incidents/{id}/public");
        let text = "A cable was cut. <We> are on our way.";
        let update = json!({ "state": "identified", "text": text, "by": "Ada Secret" });
        let answer = mainstay.api().post(&format!("{path}/updates"), &update).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let title = json!({ "title": "No lamps today", "by": "Ada Secret" });
        assert_eq!(mainstay.api().post(&path, &title).await.json()["title"], "No lamps today");
        let told = |page: &str| {
            assert!(!page.contains("Ada Secret"), "who wrote it is not told");
            page.contains("A cable was cut. &#60;We&#62; are") && page.contains("No lamps today")
        };
        until_everywhere(&home, &mainstay, "the update is there", told).await;
        // The timeline names who wrote it; the record keeps it.
        let incident = mainstay.api().incident_with(id, "published").await;
        assert!(incident["timeline"].to_string().contains("Ada Secret"), "{incident:#}");
        mainstay.kill().await;
        mainstay = Mainstay::again(&home).await;
        until_everywhere(&home, &mainstay, "the update is there after a kill", told).await;
        let feed = get(mainstay.front(), HOST, "/feed.atom").await;
        assert_eq!(feed.header("content-type"), Some("application/atom+xml; charset=utf-8"));
        assert!(feed.text().contains("A cable was cut. &amp;lt;We&amp;gt;"), "{}", feed.text());
        let summary = get(mainstay.front(), HOST, "/status.json").await.json();
        assert_eq!(summary["incidents"][0]["incident_updates"][0]["body"], text, "{summary:#}");
        assert_eq!(summary["components"][0]["name"], "Lamp shop");

        let hidden = mainstay.api().post(&path, &json!({ "shown": false })).await;
        assert_eq!(hidden.json()["shown"], false);
        let gone = |page: &str| !page.contains("A cable was cut") && page.contains("Lamp shop");
        until_everywhere(&home, &mainstay, "it is hidden", gone).await;
        mainstay.kill().await;
        mainstay = Mainstay::again(&home).await;
        until_everywhere(&home, &mainstay, "it is hidden after a kill", gone).await;
        let mut copy = BTreeMap::new();
        files(&home.path().join("copy"), "", &mut copy);
        assert!(copy.values().all(|text| !text.contains("A cable was cut")), "it is in a file of the copy");
    });
}

#[test]
fn a_broken_record_and_a_folder_that_cannot_be_written_leave_the_page_up() {
    run(async {
        let home = Home::new();
        let shops = [Shop::start(&home, "app-1").await];
        std::fs::write(home.path().join("copy"), "no folder").expect("it is written");
        let mainstay = Mainstay::start(&home, &config(&home, &shops)).await;
        mainstay.api().all_serve().await;
        let trouble = until("the folder is told of", async || {
            let status = mainstay.api().status().await;
            let troubles = status["own_trouble"].as_array()?.clone();
            troubles.into_iter().find(|trouble| trouble[0] == "status-page")
        })
        .await;
        assert!(trouble[1].as_str().is_some_and(|text| text.contains("status.folder")), "{trouble}");
        std::fs::remove_file(home.path().join("copy")).expect("it is a file");
        until("the copy is written", async || home.path().join("copy/index.html").exists().then_some(()))
            .await;

        // Nothing can be read from a folder. The record's writer may make a file again in between.
        let record = home.data().join("record.db");
        until("a folder is in the record's place", async || {
            let _ = std::fs::remove_file(&record);
            std::fs::create_dir(&record).ok()
        })
        .await;
        // A changed page is read anew.
        let changed = config(&home, &shops).text(&home).replace("Lamps & Co", "Lamps anew");
        home.write_config(&changed);
        mainstay.signal(libc::SIGHUP);
        let unknown = |page: &str| {
            page.contains("Lamps anew")
                && page.contains("Everything works")
                && page.contains("cannot be read")
                && !page.contains("class=\"good\"")
        };
        until_everywhere(&home, &mainstay, "the page is up without a record", unknown).await;
    });
}
