//! TCP services as they are written, and what is refused of them.

use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::carriage::SendProxy;
use mainstay_model::policy::Balance;

use super::{read, told};

const DB: &str = r#"
[listen]
proxy-protocol = "10.0.0.0/8"
[service.db]
listen = "tcp://127.0.0.1:5432"
hosts = ["db.example.com", "*.db.example.com"]
send-proxy = "v2"
proxy-protocol = ["127.0.0.1"]
[service.db.server.one]
address = "10.0.0.11:5432"
[service.rest]
listen = ["tcp://127.0.0.1:5432", "tcp://127.0.0.1:5433"]
on-down = "keep"
[service.rest.server.one]
address = "10.0.0.12:5432"
"#;

#[test]
fn tcp_services_share_an_address_and_have_their_own_defaults() {
    let config = read(DB).expect("no mistake");
    assert!(config.http.is_empty(), "there is nothing of HTTP to serve");
    let fronts: Vec<(String, usize, usize)> = config
        .tcp
        .iter()
        .map(|front| (front.address.to_string(), front.services.len(), front.proxies.len()))
        .collect();
    assert_eq!(fronts, [("127.0.0.1:5432".into(), 2, 1), ("127.0.0.1:5433".into(), 1, 0)]);
    let carriage = &config.policy.services[&ServiceId::new("db")].carriage;
    assert_eq!(carriage.hosts, ["db.example.com", "*.db.example.com"]);
    assert_eq!((carriage.send_proxy, carriage.balance), (Some(SendProxy::V2), Balance::LeastRequests));
    assert_eq!(carriage.timeouts.idle, Duration::from_secs(3600));
    assert!(carriage.tcp.is_some_and(|tcp| tcp.close_when_down) && carriage.rules().count() == 0);
    let rest = &config.policy.services[&ServiceId::new("rest")].carriage;
    assert!(rest.tcp.is_some_and(|tcp| !tcp.close_when_down) && rest.hosts.is_empty());
}

#[test]
fn each_of_http_and_https_may_have_proxies_in_front_of_its_own() {
    let proxies = |lines: &str| {
        let text = format!(
            "[listen]\nhttp = \"127.0.0.1:1\"\n{lines}\n[service.shop]\nserver.a.address = \"10.0.0.1:1\"\n"
        );
        read(&text).map(|config| (config.proxies.len(), config.https_proxies.len()))
    };
    let both = "proxy-protocol = [\"10.0.0.0/8\", \"10.1.0.1\"]";
    assert_eq!(proxies(both).unwrap(), (2, 2));
    let told = proxies(&format!("{both}\nhttps-proxy-protocol = []")).unwrap_err().to_string();
    assert!(told.contains("says nothing without https"), "{told}");
}

#[test]
fn what_makes_no_sense_of_a_tcp_service_is_a_mistake() {
    for (change, what) in [
        (("tcp://127.0.0.1:5432\"\nhosts", "127.0.0.1:5432\"\nhosts"), "address is one of TCP"),
        (
            ("hosts = [\"db.example.com\"", "paths = \"/x\"\nhosts = [\"db.example.com\""),
            "about requests of HTTP",
        ),
        (
            ("hosts = [\"db.example.com\", \"*.db.example.com\"]\n", ""),
            "takes every connection there already",
        ),
        (
            ("proxy-protocol = \"10.0.0.0/8\"", "admin = \"127.0.0.1:5433\""),
            "Mainstay listens on 127.0.0.1:5433",
        ),
        (
            ("listen = [\"tcp://127.0.0.1:5432\", \"tcp://127.0.0.1:5433\"]\n", ""),
            "says nothing without listen",
        ),
        (("\"v2\"", "\"v3\""), "unknown value"),
    ] {
        let text = DB.replacen(change.0, change.1, 1);
        let told = told(&text).join("\n");
        assert!(told.contains(what), "{what}: {told}");
    }
}

#[test]
fn no_route_leads_requests_to_a_tcp_service() {
    let text = format!(
        "{DB}[service.shop]\nserver.a.address = \"10.0.0.1:1\"\n[[service.shop.route]]\npath = \"/x\"\nservice = \"db\"\n"
    );
    let told = told(&text);
    assert!(told.len() == 1 && told[0].contains("db is a TCP service"), "{told:?}");
}
