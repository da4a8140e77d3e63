//! What a person is told of a broken `[status]`, and what a good one means.

use super::*;

const SERVICES: &str = "[service.shop]\nhosts = [\"shop.example.com\"]\nserver.a.address = \"10.0.0.1:1\"\n\
     [service.web-api]\nserver.b.address = \"10.0.0.1:2\"\n[service.login]\nhosts = [\"login.example.com\"]\n\
     server.c.address = \"10.0.0.1:3\"\n";

fn status(text: &str) -> StatusConfig {
    let config = read(&format!("{SERVICES}{text}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    config.status.expect("it has a status page")
}

/// The keys and texts of the mistakes, without their places.
fn mistakes(text: &str) -> Vec<String> {
    let told = told(&format!("{SERVICES}{text}"));
    told.iter().map(|line| line.split_once(' ').map_or(line.as_str(), |(_, rest)| rest).to_owned()).collect()
}

#[test]
fn without_a_table_there_is_no_page() {
    assert_eq!(read(SERVICES).unwrap().status, None);
}

#[test]
fn a_path_is_enough_and_every_service_is_a_component() {
    let page = status("[status]\npath = \"/status/\"\n");
    assert_eq!(page.path.as_deref(), Some("/status"));
    assert_eq!((page.title.as_str(), page.host, page.listen), ("Status", None, None));
    assert_eq!(page.zone, jiff::tz::TimeZone::UTC);
    let components: Vec<_> = page.components.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect();
    assert_eq!(components, [("login", "Login"), ("shop", "Shop"), ("web-api", "Web api")]);
}

#[test]
fn every_key_arrives_where_it_is_meant() {
    let page = status(
        r#"[status]
        host = "Status.example.com"
        listen = "0.0.0.0:8081"
        folder = "page"
        url = "https://status.example.com"
        title = "Lamps & Co"
        zone = "Europe/Berlin"
        services = ["web-api", "shop", "login"]
        support = { text = "Write to us", link = "mailto:help@example.com" }
        [status.component.shop]
        name = "The shop"
        about = "Where lamps are bought"
        [status.component.account]
        services = ["login", "web-api"]
        "#,
    );
    assert_eq!(page.host.as_deref(), Some("status.example.com"));
    assert_eq!(page.listen, Some("0.0.0.0:8081".parse().unwrap()));
    assert_eq!(page.folder, Some("/etc/mainstay/page".into()));
    assert_eq!(page.url.as_deref(), Some("https://status.example.com/"));
    assert_eq!(page.zone.iana_name(), Some("Europe/Berlin"));
    let support = page.support.unwrap();
    assert_eq!(
        (support.text.as_str(), support.link.as_deref()),
        ("Write to us", Some("mailto:help@example.com"))
    );
    let components: Vec<_> = page
        .components
        .iter()
        .map(|c| (c.id.as_str(), c.name.as_str(), c.about.as_deref(), c.services.len()))
        .collect();
    let shop = ("shop", "The shop", Some("Where lamps are bought"), 1);
    assert_eq!(components, [("account", "Account", None, 2), shop]);
}

#[test]
fn each_mistake_is_told() {
    for (text, what) in [
        ("[status]\ntitle = \"x\"", "status: nobody could reach the status page"),
        (
            "[status]\nhost = \"shop.example.com\"",
            "status.host: shop.example.com leads to service shop already",
        ),
        ("[status]\nhost = \"*\"", "status.host: a wildcard stands in front of a whole name"),
        ("[status]\npath = \"/\"", "status.path: not a path for the status page"),
        ("[status]\npath = \"/a/../b\"", "status.path: not a path for the status page"),
        ("[status]\npath = \"status\"", "status.path: not a path for the status page"),
        (
            "[status]\nlisten = \"127.0.0.1:9900\"",
            "status.listen: 127.0.0.1:9900 is taken already (127.0.0.1:9900)",
        ),
        (
            "[status]\nlisten = \"0.0.0.0:8080\"",
            "status.listen: 0.0.0.0:8080 is taken already (127.0.0.1:8080)",
        ),
        ("[status]\nfolder = \"\"", "status.folder: not a folder"),
        ("[status]\npath = \"/s\"\nservices = [\"shoop\"]", "status.services: there is no service shoop"),
        ("[status]\npath = \"/s\"\nservices = []", "status.services: a page about nothing"),
        ("[status]\npath = \"/s\"\nservices = [\"shop\", \"shop\"]", "status.services: named twice"),
        (
            "[status]\npath = \"/s\"\ncomponent.lamp.name = \"x\"",
            "status.component.lamp: the page shows no service lamp",
        ),
        (
            "[status]\npath = \"/s\"\nzone = \"Europe/Berln\"",
            "status.zone: this machine knows no such time zone",
        ),
        ("[status]\npath = \"/s\"\ntitle = \" \"", "status.title: empty"),
        ("[status]\npath = \"/s\"\ntitle = \"a\\nb\"", "status.title: more than one line"),
        (
            "[status]\npath = \"/s\"\nsupport.link = \"javascript:alert(1)\"",
            "status.support.link: not a web address",
        ),
        ("[status]\npath = \"/s\"\nsupport = {}", "status.support: support says nothing"),
        (
            "[status]\npath = \"/s\"\nurl = \"https://a.example/?x\"",
            "status.url: a page's address ends with its path",
        ),
    ] {
        let told = mistakes(text);
        assert_eq!(told.first().map(String::as_str), Some(what), "{text}: {told:?}");
    }
    let twice =
        "[status]\npath = \"/s\"\ncomponent.a.services = [\"shop\"]\ncomponent.b.services = [\"shop\"]";
    assert_eq!(mistakes(twice), ["status.component.b: shop belongs to the component a already"]);
    let clash = "[status]\npath = \"/s\"\ncomponent.login.services = [\"shop\"]";
    assert_eq!(mistakes(clash), ["status: two parts are called login"]);
}
