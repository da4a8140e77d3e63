//! Monitors as they are written, and what is refused of them.

use std::time::Duration;

use mainstay_model::heartbeat::Recurs;
use mainstay_model::monitor::OutOf;
use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::{MonitorId, ServiceId, Whereabouts};

use super::read;
use crate::config::Config;
use crate::config::probe::ProbeSpec;

fn of(lines: &str) -> Config {
    read(&format!("[monitor.pay]\n{lines}\n[on-call.web]\ntell = [{{ email = \"ops@example.com\" }}]\n[alert.email]\nsmtp = \"smtp://127.0.0.1\"\nfrom = \"m@example.com\"\n"))
        .unwrap()
}

fn pay() -> MonitorId {
    MonitorId::new("pay")
}

#[test]
fn a_url_says_all_that_is_needed() {
    let config = of(r#"url = "https://Pay.example.com/health?full=1""#);
    let policy = &config.policy.monitors[&pay()];
    let host = Some("pay.example.com".to_owned());
    assert_eq!(policy.probe, ProbeKind::Http { path: "/health?full=1".into(), host });
    assert_eq!(policy.address, Whereabouts::Named { host: "pay.example.com".into(), port: 443 });
    assert_eq!(
        (policy.tls, policy.interval, policy.timeout),
        (true, Duration::from_secs(60), Duration::from_secs(10))
    );
    assert_eq!((policy.fail, policy.recover), (OutOf { bad: 3, of: 5 }, 2));
    assert!(config.monitors[&pay()].tls.as_ref().is_some_and(|tls| !tls.tcp && tls.name.is_some()));
    assert!(config.http.is_empty() && config.policy.services.is_empty(), "who only watches serves nobody");
    let config = of(r#"url = "http://10.0.0.5:8080""#);
    let policy = &config.policy.monitors[&pay()];
    let host = Some("10.0.0.5:8080".to_owned());
    assert_eq!((&policy.probe, policy.tls), (&ProbeKind::Http { path: "/".into(), host }, false));
}

#[test]
fn every_key_arrives() {
    let config = of(r#"
        url = "https://pay.example.com/health"
        probe = { http = { expect = "ok", status = "200" }, host = "other.example.com" }
        interval = "30s"
        timeout = "5s"
        fail = "2 of 3"
        recover = 4
        group = "suppliers"
        tags = ["payments", "eu", "payments"]
        on-call = ["web"]
        tls = { verify = false }"#);
    let policy = &config.policy.monitors[&pay()];
    assert_eq!((policy.fail, policy.recover), (OutOf { bad: 2, of: 3 }, 4));
    assert_eq!(policy.group.as_deref(), Some("suppliers"));
    assert_eq!(policy.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["eu", "payments"]);
    assert_eq!(policy.on_call.as_deref(), Some(&["web".into()][..]));
    let spec = &config.monitors[&pay()];
    assert!(spec.tls.as_ref().is_some_and(|tls| tls.unverified));
    let Some(ProbeSpec::Http(http)) = spec.spec.as_deref() else { panic!("{spec:?}") };
    assert_eq!((http.path.as_str(), http.host.as_deref()), ("/health", Some("other.example.com")));
}

#[test]
fn what_is_not_http_has_an_address() {
    let policy = |lines: &str| of(lines).policy.monitors[&pay()].clone();
    assert_eq!(policy(r#"address = "db.example.com:5432""#).probe, ProbeKind::Tcp);
    let unix = policy(r#"address = "unix:/run/app.sock""#);
    assert_eq!(unix.address.to_string(), "unix:/run/app.sock");
    let redis = policy("address = \"10.0.0.5:6379\"\nprobe = { redis = true }");
    assert_eq!((redis.probe, redis.protocol), (ProbeKind::Redis, Protocol::Http1));
    let grpc = policy("address = \"https://app.internal:50051\"\nprobe = { grpc = true }");
    assert_eq!((grpc.probe, grpc.protocol, grpc.tls), (ProbeKind::Grpc, Protocol::Http2, true));
    let tls = of("address = \"mail.example.com:993\"\nprobe = { tcp = { tls = true, expect = \"OK\" } }");
    assert!(tls.monitors[&pay()].tls.as_ref().is_some_and(|tls| tls.tcp));
}

#[test]
fn a_wrong_monitor_says_what_to_write() {
    let mistakes = |lines: &str| read(&format!("[monitor.pay]\n{lines}\n")).unwrap_err().to_string();
    for (lines, what) in [
        ("interval = \"30s\"", "nothing says what is watched"),
        ("url = \"https://a.example.com\"\naddress = \"a:1\"", "url is written too"),
        ("url = \"pay.example.com\"", "write \"https://pay.example.com\""),
        ("url = \"tcp://db.example.com:5432\"", "write address = \"db.example.com:5432\""),
        ("url = \"https://ann:secret@a.example.com/\"", "a password does not belong into a URL"),
        ("address = \"http://a.example.com/x\"", "write url = \"http://a.example.com/x\""),
        ("address = \"srv+http://_http._tcp.a.internal\"", "several servers"),
        ("address = \"a.example.com\"", "the port is missing"),
        ("url = \"https://a.example.com\"\nprobe = { redis = true }", "a URL is looked at by HTTP"),
        (
            "url = \"https://a.example.com\"\nprobe = { http = \"/x\", interval = \"5s\" }",
            "write interval in the monitor itself",
        ),
        (
            "url = \"https://a.example.com\"\nprobe = { fall = 3 }",
            "write fail = \"3 of 5\" in the monitor itself",
        ),
        ("url = \"https://a.example.com\"\nfail = \"5\"", "write \"5 of 5\""),
        ("url = \"https://a.example.com\"\nfail = \"6 of 5\"", "no more than the second"),
        ("url = \"https://a.example.com\"\nfail = \"often\"", "write \"3 of 5\""),
        ("url = \"https://a.example.com\"\ninterval = \"10ms\"", "must be at least 1s"),
        ("url = \"https://a.example.com\"\nip = \"v5\"", "write \"any\", \"v4\", \"v6\" or \"both\""),
        ("address = \"10.0.0.1:80\"\nip = \"both\"", "an address, not a name"),
        ("url = \"https://a.example.com\"\nprobe = { fail = \"3 of 5\" }", "write it in the monitor itself"),
        ("url = \"https://a.example.com\"\ntimeout = \"1h\"", "nobody waits so long"),
        ("url = \"http://a.example.com\"\ntls = { verify = false }", "it is not spoken to over TLS"),
        ("url = \"https://a.example.com\"\non-call = [\"web\"]", "no group of [on-call] has this name"),
        ("url = \"https://a.example.com\"\ngroup = \"\"", "a group or a tag is one line"),
        ("url = \"https://a.example.com\"\nintervall = \"5s\"", "did you mean `interval`?"),
        ("url = \"https://a.example.com/x\"\nprobe = { http = { path = \"/y\" } }", "url has a path already"),
    ] {
        let text = mistakes(lines);
        assert!(text.contains(what), "{lines}\n{text}");
    }
}

#[test]
fn ten_thousand_are_the_most() {
    let one = |n: usize| format!("[monitor.m-{n}]\naddress = \"10.0.0.1:{}\"\n", 1 + n % 60_000);
    let text: String = (0..10_001).map(one).collect();
    let mistakes = read(&text).unwrap_err().to_string();
    assert!(mistakes.contains("10001 monitors, and at most 10000 are watched"), "{mistakes}");
}

fn mistakes(lines: &str) -> String {
    read(&format!("[monitor.pay]\n{lines}\n")).unwrap_err().to_string()
}

#[test]
fn a_job_pings_every_so_often_or_by_a_calendar() {
    let every = of("heartbeat = { every = \"1h\", grace = \"10m\" }\ngroup = \"jobs\"");
    let heartbeat = every.policy.monitors[&pay()].heartbeat.clone().unwrap();
    assert_eq!(heartbeat.recurs, Recurs::Every(Duration::from_secs(3600)));
    assert_eq!(heartbeat.grace, Duration::from_secs(600));
    assert!(every.monitors[&pay()].schedule.is_none());
    let cron = of("heartbeat = { cron = \"30 3 * * *\", zone = \"Europe/Berlin\" }");
    let heartbeat = cron.policy.monitors[&pay()].heartbeat.clone().unwrap();
    assert_eq!(heartbeat.recurs.to_string(), "at 30 3 * * * (Europe/Berlin)");
    assert!(cron.monitors[&pay()].schedule.is_some());
    for (lines, what) in [
        ("heartbeat = {}", "nothing says when it is to ping"),
        ("heartbeat = { every = \"1h\", cron = \"@daily\" }", "every is written too"),
        ("heartbeat = { every = \"1h\", zone = \"UTC\" }", "a zone is that of cron"),
        ("heartbeat = { cron = \"61 * * * *\" }", "is no minute: it is 0 to 59"),
        ("heartbeat = { cron = \"@daily\", zone = \"Berlin\" }", "there is no time zone"),
        ("heartbeat = { every = \"1h\" }\nurl = \"https://a.example.com\"", "this one pings by itself"),
    ] {
        let text = mistakes(lines);
        assert!(text.contains(what), "{lines}\n{text}");
    }
}

#[test]
fn what_is_needed_is_there_and_nothing_needs_itself() {
    let service = |name: &str, needs: &str| {
        format!(
            "[service.{name}]\nhosts = \"{name}\"\nneeds = {needs}\n[service.{name}.server.app-1]\naddress = \"10.0.0.1:80\"\n"
        )
    };
    let monitor =
        |name: &str, needs: &str| format!("[monitor.{name}]\naddress = \"10.0.0.9:5432\"\nneeds = {needs}\n");
    let good = service("shop", "[\"db\", \"cart/app-1\"]")
        + &service("cart", "\"monitor:both\"")
        + &service("both", "[]")
        + &monitor("db", "[]")
        + &monitor("both", "[]");
    let config = read(&good).unwrap();
    let needs = |name: &str| {
        config.policy.services[&ServiceId::new(name)]
            .needs
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (needs("shop"), needs("cart")),
        (vec!["db".to_owned(), "cart/app-1".to_owned()], vec!["both".to_owned()])
    );
    for (text, what) in [
        (service("shop", "\"bd\"") + &monitor("db", "[]"), "did you mean \"db\"?"),
        (service("shop", "\"shop/app-9\""), "no such service, server or monitor"),
        (service("shop", "\"shop/app-1\""), "it needs itself: shop → shop"),
        (service("shop", "\"db\"") + &monitor("db", "\"shop\""), "it needs itself: shop → db → shop"),
        (
            service("both", "[]") + &service("shop", "\"both\"") + &monitor("both", "[]"),
            "write \"service:both\" or \"monitor:both\"",
        ),
    ] {
        let mistakes = read(&text).unwrap_err().to_string();
        assert!(mistakes.contains(what), "{text}\n{mistakes}");
    }
}

fn shop_with(listen: &str, service: &str) -> Result<Config, crate::config::Mistakes> {
    read(&format!(
        "[listen]\n{listen}\n[service.shop]\n{service}\n[service.shop.server.a]\naddress = \"10.0.0.1:80\"\n"
    ))
}

#[test]
fn a_front_check_is_a_monitor_at_ones_own_door() {
    let id = MonitorId::new("shop-front");
    let hosts = "hosts = [\"*.example.com\", \"shop.example.com\"]";
    let config =
        shop_with("http = \"0.0.0.0:8080\"", &format!("{hosts}\nfront-check = {{ http = \"/basket\" }}"))
            .unwrap();
    let policy = &config.policy.monitors[&id];
    let host = Some("shop.example.com".to_owned());
    assert_eq!(policy.probe, ProbeKind::Http { path: "/basket".into(), host });
    assert_eq!(policy.address, std::net::SocketAddr::from(([127, 0, 0, 1], 8080)).into());
    assert_eq!(
        (policy.tls, policy.interval, policy.fail),
        (false, Duration::from_secs(10), OutOf { bad: 3, of: 5 })
    );
    assert_eq!((policy.timeout, policy.recover), (Duration::from_secs(10), 2));
    assert_eq!(policy.front_of, Some(ServiceId::new("shop")));
    assert_eq!(policy.needs, [mainstay_model::needs::Needed::Service(ServiceId::new("shop"))]);
    let Some(ProbeSpec::Http(http)) = config.monitors[&id].spec.as_deref() else { panic!("HTTP") };
    assert_eq!(http.headers.len(), 1, "by which it is known as nobody's visit");

    let whole = "front-check = { http = { path = \"/\", status = \"2xx\" }, host = \"a.example.com\", interval = \"2s\", timeout = \"1s\", \
                 fail = \"1 of 2\", recover = 4 }";
    let config = shop_with("http = \"192.0.2.1:80\"", whole).unwrap();
    let policy = &config.policy.monitors[&id];
    assert_eq!(policy.address, std::net::SocketAddr::from(([192, 0, 2, 1], 80)).into());
    assert_eq!((policy.interval, policy.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((policy.fail, policy.recover), (OutOf { bad: 1, of: 2 }, 4));
}

#[test]
fn a_front_check_that_finds_no_door_is_refused() {
    for (listen, service, what) in [
        ("http = \"127.0.0.1:0\"", "front-check = {}", "the port that visitors come to is not known"),
        ("http = \"unix:/run/x.sock\"", "front-check = {}", "visitors come by Unix sockets alone"),
        (
            "http = \"127.0.0.1:80\"\nproxy-protocol = [\"127.0.0.0/8\"]",
            "front-check = {}",
            "this machine itself is expected to speak the PROXY protocol first",
        ),
        ("http = \"127.0.0.1:80\"", "front-check = { tls = {} }", "visitors are not served over TLS"),
        ("http = \"127.0.0.1:80\"", "front-check = { http = \"basket\" }", "a path starts with /"),
        ("http = \"127.0.0.1:80\"", "front-check = { htp = \"/\" }", "htp"),
    ] {
        let told = format!("{:?}", shop_with(listen, service).unwrap_err());
        assert!(told.contains(what), "{what}: {told}");
    }
}
