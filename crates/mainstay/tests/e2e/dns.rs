//! Names that lead visitors here: zones that Mainstay answers, servers of zones that it tells, and what it says when DNS leads to a
//! dead address. Asked with dig and kdig; Knot and BIND are the other servers.

use serde_json::Value;

use crate::harness::api::{Api, entries};
use crate::harness::config::Config;
use crate::harness::dns::{DnsServer, KEY, Kind, SECRET, Site, addresses, dig, free_dns_address, kdig};
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::Mainstay;
use crate::harness::shop::Shop;
use crate::harness::site::{fine, serve};
use crate::harness::{free_address, http, run, until};

const NS: &str = "\"@ NS ns1\", \"ns1 A 127.0.0.1\"";

/// A shop whose servers are looked at by connections only, with these further lines.
fn shop(lines: &str) -> Config {
    let mut config = Config::new();
    config.service =
        format!("health = {{ interval = \"1s\" }}\nslow-start = \"0s\"\nresolve-after = \"1s\"\n{lines}\n");
    config
}

/// Writes the config, with these lines in `[listen]`, and runs it.
async fn start(home: &Home, config: &Config, listen: &str) -> Mainstay {
    write(home, config, listen);
    Mainstay::again(home).await
}

fn write(home: &Home, config: &Config, listen: &str) {
    let text = config.text(home);
    let text = match listen.contains("http =") {
        true => text.replacen("http = \"127.0.0.1:0\"\n", "", 1),
        false => text,
    };
    home.write_config(&text.replacen("[listen]\n", &format!("[listen]\n{listen}\n"), 1));
}

/// Where DNS is answered, as it was printed.
fn dns(mainstay: &Mainstay) -> std::net::SocketAddr {
    let printed = mainstay.printed();
    let line = printed.iter().find_map(|line| line.strip_prefix("dns"));
    line.and_then(|address| address.trim().parse().ok()).expect("a line `dns        ADDRESS`")
}

async fn says(server: std::net::SocketAddr, name: &str, wanted: &[&str]) {
    let what = format!("{name} is {wanted:?}");
    until(&what, async || (addresses(server, name, "A").await == wanted).then_some(())).await;
}

/// Trouble of Mainstay's own DNS, if there is any.
async fn trouble(api: &Api, part: &str) -> Option<String> {
    let status = api.status().await;
    let all = status["own_trouble"].as_array().cloned().unwrap_or_default();
    all.iter().find(|one| one[0] == part).and_then(|one| one[1].as_str().map(str::to_owned))
}

fn texts(incident: &Value, kind: &str) -> Vec<String> {
    let texts =
        entries(incident, kind).into_iter().filter_map(|entry| entry["text"].as_str().map(str::to_owned));
    texts.collect()
}

async fn told(api: &Api, id: u64, kind: &str, part: &str) {
    until(&format!("a {kind:?} says {part:?}"), async || {
        let incident = api.incident(id).await;
        texts(&incident, kind).iter().any(|text| text.contains(part)).then_some(())
    })
    .await;
}

#[test]
fn a_zone_is_answered_as_dig_and_kdig_expect_it() {
    run(async {
        let home = Home::new();
        let server = Shop::start(&home, "app-1").await;
        let mut zone = "$TTL 1h\n@ SOA ns1 host 2026112201 3600 900 1209600 120\n@ NS ns1\nns1 A 127.0.0.1\n\
                        mail A 192.0.2.25\nmail AAAA 2001:db8::25\nwww CNAME mail\n*.w A 192.0.2.3\n"
            .to_owned();
        (0..60).for_each(|n| zone.push_str(&format!("many A 192.0.2.{n}\n")));
        let file = home.path().join("example.com.zone");
        std::fs::write(&file, &zone).expect("the zone can be written");
        let config = shop("").external("app-1", server.address).table(
            "[zone.\"example.com\"]\nfile = \"example.com.zone\"\nrecords = [\"inline 60 A 192.0.2.7\"]\n\
             live = { direct = \"shop\" }",
        );
        let mainstay = start(&home, &config, "dns = \"127.0.0.1:0\"").await;
        let at = dns(&mainstay);

        let mail = kdig(at, &["mail.example.com", "A"]).await;
        assert!(mail.contains("status: NOERROR") && mail.contains("Flags: qr aa rd;"), "{mail}");
        assert!(mail.contains("3600") && mail.contains("192.0.2.25"), "{mail}");
        assert_eq!(dig(at, &["mail.example.com", "AAAA", "+short"]).await, "2001:db8::25\n");
        assert_eq!(dig(at, &["www.example.com", "A", "+short"]).await, "mail.example.com.\n192.0.2.25\n");
        assert_eq!(dig(at, &["a.b.w.example.com", "A", "+short"]).await, "192.0.2.3\n");
        assert_eq!(dig(at, &["inline.example.com", "A", "+short"]).await, "192.0.2.7\n");
        assert_eq!(dig(at, &["example.com", "NS", "+short"]).await, "ns1.example.com.\n");
        let soa = dig(at, &["example.com", "SOA", "+short"]).await;
        assert!(soa.starts_with("ns1.example.com. host.example.com. 20"), "{soa}");
        says(at, "direct.example.com", &["127.0.0.1 60"]).await;

        for (name, kind, status) in
            [("nobody.example.com", "A", "NXDOMAIN"), ("mail.example.com", "TXT", "NOERROR")]
        {
            let answer = dig(at, &[name, kind]).await;
            assert!(
                answer.contains(&format!("status: {status}")) && answer.contains("ANSWER: 0"),
                "{answer}"
            );
            let soa =
                answer.lines().find(|line| line.contains("SOA") && line.contains("host")).expect("a SOA");
            assert!(soa.split_whitespace().nth(1) == Some("120"), "the negative TTL: {soa}");
        }
        let stranger = dig(at, &["www.example.net", "A"]).await;
        assert!(stranger.contains("status: REFUSED") && !stranger.contains(" ra"), "{stranger}");
        assert!(dig(at, &["example.com", "AXFR"]).await.contains("Transfer failed"));
        assert!(dig(at, &["example.com", "IXFR=1"]).await.contains("Transfer failed"));
        assert!(dig(at, &["example.com", "ANY"]).await.contains("RFC8482"));
        assert!(dig(at, &["+opcode=notify", "example.com", "SOA"]).await.contains("status: NOTIMP"));
        assert!(dig(at, &["+edns=1", "+noednsneg", "example.com", "SOA"]).await.contains("status: BADVERS"));

        let cut = dig(at, &["many.example.com", "A", "+ignore", "+noedns"]).await;
        assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
        let size = cut.split("MSG SIZE  rcvd: ").nth(1).and_then(|n| n.trim().parse::<usize>().ok());
        assert!(size.is_some_and(|size| size <= 512), "{cut}");
        assert_eq!(
            dig(at, &["many.example.com", "A", "+short"]).await.lines().count(),
            60,
            "over TCP by itself"
        );
        assert!(kdig(at, &["+tcp", "mail.example.com"]).await.contains("192.0.2.25"));

        // A saved zone file is read at once; a wrong one is named with its line, and the old one goes on.
        std::fs::write(&file, format!("{zone}new A 192.0.2.77\n")).expect("the zone can be written");
        says(at, "new.example.com", &["192.0.2.77 3600"]).await;
        std::fs::write(&file, format!("{zone}new A 192.0.2.777\n")).expect("the zone can be written");
        let api = mainstay.api();
        let trouble = until("the mistake is said", async || trouble(&api, "config").await).await;
        assert!(trouble.contains("example.com.zone:69:1: not a record"), "{trouble}");
        says(at, "new.example.com", &["192.0.2.77 3600"]).await;
        let metrics = api.get("/metrics").await.text();
        assert!(metrics.contains("mainstay_dns_queries_total{rcode=\"NOTIMP\"} 1"), "{metrics}");
    });
}

#[test]
fn a_live_name_follows_its_front_addresses_and_is_never_emptied() {
    run(async {
        let home = Home::new();
        let mut server = Shop::start(&home, "app-1").await;
        let (mut two, mut three) = (Site::open(2).await, Site::open(3).await);
        let here = free_address();
        let front = format!("front = [\"{here}\", \"{}\", \"{}\"]", two.address, three.address);
        let config = shop(&front).external("app-1", server.address).table(&format!(
            "[zone.\"example.com\"]\nrecords = [{NS}]\nlive = {{ shop = \"shop\", \"@\" = \"shop\" }}"
        ));
        let mainstay = start(&home, &config, &format!("http = \"{here}\"\ndns = \"127.0.0.1:0\"")).await;
        let (at, api) = (dns(&mainstay), mainstay.api());
        let all = ["127.0.0.1 60", "127.0.0.2 60", "127.0.0.3 60"];
        says(at, "shop.example.com", &all).await;
        says(at, "example.com", &all).await;
        let watch = tokio::spawn(async move {
            let (mut asked, mut empty) = (0, 0);
            loop {
                let answer = dig(at, &["shop.example.com", "A", "+short"]).await;
                asked += 1;
                empty += usize::from(answer.trim().is_empty());
                if ENOUGH.load(std::sync::atomic::Ordering::Relaxed) {
                    return (asked, empty);
                }
            }
        });

        let serial = async || {
            let soa = dig(at, &["example.com", "SOA", "+short"]).await;
            soa.split_whitespace().nth(2).and_then(|n| n.parse::<u64>().ok()).expect("a serial")
        };
        let before = serial().await;
        two.down().await;
        says(at, "shop.example.com", &["127.0.0.1 5", "127.0.0.3 5"]).await;
        assert!(serial().await > before, "the serial moves");
        let id = api.first_incident().await;
        assert!(texts(&api.incident(id).await, "front-lost")[0].contains("127.0.0.2 does not answer"));
        // The own address goes with the service.
        server.kill();
        says(at, "shop.example.com", &["127.0.0.3 5"]).await;
        // All look bad: all are answered.
        three.down().await;
        says(at, "shop.example.com", &["127.0.0.1 5", "127.0.0.2 5", "127.0.0.3 5"]).await;
        until("the status shows it", async || {
            let answers = &api.status().await["services"][0]["front"]["answers"];
            (answers.as_array().map(Vec::len) == Some(3)).then_some(())
        })
        .await;

        two.up().await;
        three.up().await;
        server.up().await;
        says(at, "shop.example.com", &all).await;
        api.resolved(id).await;
        ENOUGH.store(true, std::sync::atomic::Ordering::Relaxed);
        let (asked, empty) = watch.await.expect("no panic");
        assert!(asked > 10 && empty == 0, "{empty} of {asked} answers were empty");
    });
}

/// The watcher of the test above may stop.
static ENOUGH: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[test]
fn dns_that_still_leads_to_a_dead_address_is_said_once_and_once_when_it_is_over() {
    run(async {
        let home = Home::new();
        let server = Shop::start(&home, "app-1").await;
        let (mut two, three) = (Site::open(2).await, Site::open(3).await);
        let elsewhere =
            DnsServer::start(&home, Kind::Knot, "shop 300 A 127.0.0.2\nshop 300 A 127.0.0.3").await;
        let config = shop(&format!(
            "hosts = [\"shop.example.com\"]\nfront = [\"{}\", \"{}\"]",
            two.address, three.address
        ))
        .external("app-1", server.address)
        .table(&format!("[dns]\nresolver = \"{}\"", elsewhere.address));
        let mainstay = start(&home, &config, "").await;
        let api = mainstay.api();
        two.down().await;
        let id = api.first_incident().await;
        let text =
            format!("DNS still answers 127.0.0.2 for shop.example.com, TTL 300, from {}", elsewhere.address);
        told(&api, id, "dns-stale", &text).await;
        assert_eq!(api.incident(id).await["diagnosis"]["cause"], "dns");
        until("the status shows it", async || {
            (api.status().await["services"][0]["front"]["dns"][0]["stale"] == true).then_some(())
        })
        .await;
        elsewhere.change("update delete shop.example.com A 127.0.0.2").await;
        told(&api, id, "dns-good", "DNS no longer answers 127.0.0.2").await;
        assert_eq!(texts(&api.incident(id).await, "dns-stale").len(), 1);
        two.up().await;
        api.resolved(id).await;
    });
}

/// `dns.update` with this secret.
fn update(home: &Home, server: &DnsServer, secret: &str) -> String {
    std::fs::write(home.path().join("dns.key"), secret).expect("the key can be written");
    format!(
        "[dns]\nresolver = \"{0}\"\n[dns.update.\"example.com\"]\nserver = \"{0}\"\nkey = \"{KEY}\"\n\
         secret = {{ file = \"dns.key\" }}\nlive = {{ shop = \"shop\" }}",
        server.address
    )
}

async fn the_zones_own_server_is_told(kind: Kind) {
    let home = Home::new();
    let server = Shop::start(&home, "app-1").await;
    let (mut two, three) = (Site::open(2).await, Site::open(3).await);
    let mut zone = DnsServer::start(&home, kind, "shop 300 A 203.0.113.9\nwww A 203.0.113.80").await;
    let config = shop(&format!("front = [\"{}\", \"{}\"]", two.address, three.address))
        .external("app-1", server.address)
        .table(&update(&home, &zone, SECRET));
    let mainstay = start(&home, &config, "").await;
    let says = async |zone: &DnsServer, wanted: &[&str]| {
        until(&format!("{kind:?} says {wanted:?}"), async || (zone.shop().await == wanted).then_some(()))
            .await;
    };
    let both = ["127.0.0.2 60", "127.0.0.3 60"];
    says(&zone, &both).await;

    // A front address dies: the zone follows, and the incident says so.
    two.down().await;
    says(&zone, &["127.0.0.3 5"]).await;
    let id = mainstay.api().first_incident().await;
    told(&mainstay.api(), id, "dns-updated", "is now 127.0.0.3 (TTL 5), was 127.0.0.2, 127.0.0.3").await;

    // Mainstay is killed in the middle, and somebody else changes the record meanwhile; the next run reads first.
    mainstay.kill().await;
    zone.change("update delete shop.example.com A\nupdate add shop.example.com 30 A 203.0.113.1").await;
    let mainstay = Mainstay::again(&home).await;
    let api = mainstay.api();
    says(&zone, &["127.0.0.3 5"]).await;
    // Somebody changes it again behind the back of this run: it is named, and changed back with the next change.
    zone.change("update add shop.example.com 30 A 203.0.113.2").await;
    two.up().await;
    says(&zone, &both).await;
    assert!(
        addresses(zone.address, "www.example.com", "A").await == ["203.0.113.80 300"],
        "others are left alone"
    );

    // The zone's server is away while an address dies, and comes back.
    zone.down();
    two.down().await;
    let said = until("the trouble is said", async || trouble(&api, "dns").await).await;
    assert!(said.contains(&zone.address.to_string()), "{said}");
    zone.up().await;
    says(&zone, &["127.0.0.3 5"]).await;
    until("the trouble is over", async || trouble(&api, "dns").await.is_none().then_some(())).await;
    let log = mainstay.log().join("\n");
    assert!(log.contains("somebody else changed shop.example.com A"), "{log}");
    assert!(!log.contains(SECRET), "the secret is in the log");
}

#[test]
fn knot_is_told_by_signed_updates() {
    run(the_zones_own_server_is_told(Kind::Knot));
}

#[test]
fn bind_is_told_by_signed_updates() {
    run(the_zones_own_server_is_told(Kind::Bind));
}

#[test]
fn a_key_that_is_refused_is_named_and_nothing_is_changed() {
    run(async {
        for kind in [Kind::Knot, Kind::Bind] {
            let home = Home::new();
            let server = Shop::start(&home, "app-1").await;
            let zone = DnsServer::start(&home, kind, "shop 300 A 203.0.113.9").await;
            let two = Site::open(2).await;
            let config = shop(&format!("front = [\"{}\"]", two.address))
                .external("app-1", server.address)
                .table(&update(&home, &zone, "YW5vdGhlciBzZWNyZXQgb2YgMjQgYnl0ZXM="));
            let mainstay = start(&home, &config, "").await;
            let api = mainstay.api();
            let said = until("the trouble is said", async || trouble(&api, "dns").await).await;
            assert!(
                said.contains("refuses the key mainstay.: its secret is another one"),
                "{kind:?}: {said}"
            );
            assert_eq!(zone.shop().await, ["203.0.113.9 300"], "{kind:?}");
        }
    });
}

#[test]
fn what_is_wrong_with_dns_in_a_config_is_said_with_what_to_do() {
    run(async {
        let home = Home::new();
        let at = free_dns_address();
        std::fs::write(home.path().join("z"), "@ NS ns1\n").expect("a zone");
        write(
            &home,
            &shop("front = [\"0.0.0.0\"]")
                .external("app-1", "127.0.0.1:1")
                .table("[zone.\"example.com\"]\nfile = \"z\"\nlive = { shop = \"shopp\" }"),
            &format!("dns = \"{at}\""),
        );
        let output = crate::harness::mainstay::once(&home, &["check-config", "-c", "mainstay.toml"]).await;
        let text = String::from_utf8_lossy(&output.stdout);
        for part in [
            "did you mean \"shop\"?",
            "z:1:1: the zone's server ns1.example.com. has no address",
            "visitors cannot be led there",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    });
}

#[test]
fn a_server_that_is_written_by_name_is_followed_at_its_ttl_and_kept_when_dns_is_gone() {
    run(async {
        let home = Home::new();
        let shop_server = Shop::start(&home, "app-1").await;
        let port = shop_server.address.port();
        let mut server = DnsServer::start(&home, Kind::Knot, "app 5 A 127.0.0.1").await;
        let config = shop("")
            .external("app-1", format!("app.example.com:{port}"))
            .table(&format!("[dns]\nresolver = \"{}\"", server.address));
        let mainstay = start(&home, &config, "").await;
        let api = mainstay.api();
        api.all_serve().await;
        let is_at = async |address: &str| {
            let wanted = format!("{address}:{port}");
            until(&format!("it is looked for at {wanted}"), async || {
                (api.server("shop/app-1").await["address"] == wanted.as_str()).then_some(())
            })
            .await;
        };
        is_at("127.0.0.1").await;
        server.change("del app.example.com A\nadd app.example.com 5 A 127.0.0.2").await;
        is_at("127.0.0.2").await;
        server.change("del app.example.com A").await;
        until("the empty answer is in the log", async || {
            mainstay
                .log()
                .iter()
                .any(|line| line.contains("look-up failed; the last good address stays"))
                .then_some(())
        })
        .await;
        server.down();
        assert_eq!(api.server("shop/app-1").await["address"], format!("127.0.0.2:{port}").as_str());
        server.up().await;
        server.change("add app.example.com 5 A 127.0.0.1").await;
        is_at("127.0.0.1").await;
    });
}

#[test]
fn a_name_that_has_an_ipv6_address_alone_is_a_server_there() {
    run(async {
        let home = Home::new();
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.expect("IPv6 on this machine");
        let port = listener.local_addr().expect("its address").port();
        serve(listener, None, |_| fine());
        let server = DnsServer::start(&home, Kind::Knot, "app 5 AAAA ::1").await;
        let config = shop("")
            .external("app-1", format!("app.example.com:{port}"))
            .table(&format!("[dns]\nresolver = \"{}\"", server.address));
        let mainstay = start(&home, &config, "").await;
        let api = mainstay.api();
        api.all_serve().await;
        assert_eq!(api.server("shop/app-1").await["address"], format!("[::1]:{port}").as_str());
        let answer = http::get(mainstay.front(), "/").await.expect("an answer");
        assert!(answer.text().contains("Welcome to the shop"), "{answer:?}");
    });
}

#[test]
fn the_servers_of_a_service_come_and_go_with_its_srv_records_and_stay_when_dns_is_gone() {
    run(async {
        let home = Home::new();
        let [first, second, third] = Shop::three(&home).await;
        let port = |shop: &Shop<'_>| shop.address.port();
        let srv = |priority: u16, weight: u16, shop: &Shop<'_>| {
            format!("_http._tcp 5 SRV {priority} {weight} {} app", port(shop))
        };
        let records = format!("app 5 A 127.0.0.1\n{}\n{}", srv(10, 20, &first), srv(20, 0, &second));
        let mut server = DnsServer::start(&home, Kind::Knot, &records).await;
        let config = shop("")
            .external("app", "srv+http://_http._tcp.example.com")
            .table(&format!("[dns]\nresolver = \"{}\"", server.address));
        let mainstay = start(&home, &config, "").await;
        let api = mainstay.api();
        let id = |shop: &Shop<'_>| format!("shop/app.app-{}", port(shop));
        let servers = async || {
            let status = api.status().await;
            let servers = status["services"][0]["servers"].as_array().cloned().unwrap_or_default();
            let state =
                |s: &serde_json::Value| (s["id"].as_str()?.to_owned(), s["role"].as_str()?.to_owned()).into();
            servers.iter().filter_map(state).collect::<std::collections::BTreeMap<String, String>>()
        };
        let are = async |wanted: &[(String, &str)]| {
            let wanted = wanted.iter().map(|(id, role)| (id.clone(), (*role).to_owned())).collect();
            until(&format!("the servers are {wanted:?}"), async || (servers().await == wanted).then_some(()))
                .await;
        };
        are(&[(id(&first), "primary"), (id(&second), "backup")]).await;
        until("the first one is well", async || {
            (api.server(&id(&first)).await["health"] == "healthy").then_some(())
        })
        .await;
        let load = Load::start(mainstay.front(), 100, "/");
        load.more(50).await;

        let name = "_http._tcp.example.com";
        let add = format!("add {name} 5 SRV 10 20 {} app.example.com", port(&third));
        let del = format!("del {name} SRV 10 20 {} app.example.com", port(&first));
        server.change(&format!("{add}\n{del}")).await;
        are(&[(id(&second), "backup"), (id(&third), "primary")]).await;
        let before = third.requests().await;
        until("the new server gets traffic", async || (third.requests().await > before + 20).then_some(()))
            .await;
        server.change("del _http._tcp.example.com SRV").await;
        until("the empty answer is in the log", async || {
            mainstay
                .log()
                .iter()
                .any(|line| line.contains("the servers that it stood for last stay in use"))
                .then_some(())
        })
        .await;
        server.down();
        load.more(50).await;
        load.finish().await.assert_none_failed();
        assert!(mainstay.stop().await.success());

        // It starts with what it knew.
        let again = Mainstay::again(&home).await;
        let api = again.api();
        until("the servers are known", async || {
            api.status().await.to_string().contains(&id(&third)).then_some(())
        })
        .await;
        assert!(again.stop().await.success());
    });
}
