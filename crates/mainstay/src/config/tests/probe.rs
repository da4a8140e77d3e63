//! Probes as they are written, and what is refused of them.

use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::policy::ProbeKind;

use super::{read, told};
use crate::config::probe::{DataRole, Demand, Expect, GrpcProbe, HttpProbe, JsonTest, ProbeSpec, StartTls};

/// A service of TCP with this as its probe.
fn service(health: &str) -> String {
    format!(
        "[service.db]\nlisten = \"tcp://127.0.0.1:5432\"\nhealth = {{ {health} }}\n\
         [service.db.server.one]\naddress = \"db-1.internal:5432\"\n"
    )
}

fn spec(health: &str) -> (ProbeKind, Option<ProbeSpec>) {
    let config = read(&service(health)).unwrap();
    let id = ServiceId::new("db");
    let tls = config.server_tls.get(&id);
    assert_eq!(tls.is_some(), health.contains("tls"), "{health}");
    assert!(tls.is_none_or(|tls| tls.tcp && tls.names.len() == 1), "{health}");
    let probe = config.probes.get(&id).map(|probe| (**probe).clone());
    (config.policy.services[&id].health.probe.clone(), probe)
}

#[test]
fn every_kind_of_probe_arrives_with_its_particulars() {
    for plain in ["tcp = true", "redis = false, tcp = true", "interval = \"1s\""] {
        assert_eq!(spec(plain), (ProbeKind::Tcp, None), "{plain}");
    }
    let (kind, talk) = spec(
        r#"tcp = { expect = "220 ", then = [{ send = "QUIT\r\n", expect-regex = "^221" }], starttls = "smtp" }"#,
    );
    let Some(ProbeSpec::Tcp(talk)) = talk else { panic!("{talk:?}") };
    assert_eq!((kind, talk.starttls, talk.tls), (ProbeKind::Talk, Some(StartTls::Smtp), false));
    assert_eq!(talk.steps[0].expect, Some(Expect::Text("220 ".to_owned())));
    assert_eq!(talk.steps[1].send, b"QUIT\r\n");
    assert!(matches!(&talk.steps[1].expect, Some(Expect::Pattern(pattern)) if pattern.as_str() == "^221"));

    let (kind, redis) = spec("redis = true");
    assert!(kind == ProbeKind::Redis && redis.is_some_and(|redis| !redis.needs_tls()));
    let (_, redis) = spec(r#"redis = { password = { env = "TOKEN" }, role = "primary", tls = true }"#);
    let Some(ProbeSpec::Redis(redis)) = redis else { panic!("{redis:?}") };
    assert_eq!((redis.role, redis.linked, redis.tls), (Some(DataRole::Primary), false, true));
    assert!(redis.password.is_some());

    let (kind, postgres) = spec("postgres = true");
    assert!(kind == ProbeKind::Postgres && postgres.is_some());
    let (_, postgres) = spec(
        r#"postgres = { user = "probe", password = { env = "TOKEN" }, role = "replica", lag-max = "30s", query = "SELECT 1", expect = "1", tls = true }"#,
    );
    let Some(ProbeSpec::Postgres(postgres)) = postgres else { panic!("{postgres:?}") };
    let login = postgres.login.unwrap();
    assert_eq!((login.user.as_str(), login.database.as_str()), ("probe", "probe"));
    assert_eq!((login.role, login.lag_max), (Some(DataRole::Replica), Some(Duration::from_secs(30))));
    assert_eq!((login.query.as_deref(), login.expect.as_deref()), (Some("SELECT 1"), Some("1")));
    assert!(postgres.tls);
}

#[test]
fn what_makes_no_sense_of_a_probe_is_a_mistake() {
    for (health, what) in [
        ("redis = true, postgres = true", "a probe is of one kind, and redis is written too"),
        ("redis = true, http = \"/\"", "a probe is of one kind, and http is written too"),
        ("redis = true, host = \"a\"", "host says nothing without http"),
        ("redis = \"yes\"", "text where true or a table belongs"),
        ("redis = false", "no probe is left"),
        ("redis = { paswort = 1 }", "unknown key"),
        ("redis = { user = \"a\" }", "user says nothing without password"),
        ("redis = { password = \"a\" }", "a secret does not belong in the config"),
        ("redis = { role = \"master\" }", "unknown value"),
        ("redis = { role = \"primary\", linked = true }", "a primary follows nobody"),
        ("tcp = {}", "nothing is said and nothing expected"),
        ("tcp = { send = \"PING\" }", "a program that hangs would be good"),
        ("tcp = { expect = \"\" }", "empty"),
        ("tcp = { expect = \"a\", expect-regex = \"a\" }", "expect is written too"),
        ("tcp = { expect-regex = \"(\" }", "not a regular expression: unclosed group"),
        ("tcp = { expect = \"a\", then = [{}] }", "neither send nor expect"),
        ("tcp = { tls = true, starttls = \"smtp\" }", "TLS begins with the connection or by a command"),
        ("tcp = { starttls = \"xmpp\" }", "unknown value"),
        ("postgres = { role = \"primary\" }", "it says nothing without user"),
        ("postgres = { user = \"\" }", "empty"),
        ("postgres = { user = \"a\", expect = \"1\" }", "expect says nothing without query"),
        ("postgres = { user = \"a\", role = \"primary\", lag-max = \"1s\" }", "a primary is behind nobody"),
        ("postgres = { user = \"a\", lag-max = 1 }", "a duration needs a unit"),
        (
            "dns = { name = \"a.example\" }, command = [\"x\"]",
            "a probe is of one kind, and dns is written too",
        ),
        ("dns = {}", "name is missing"),
        ("dns = { name = \"a..b\" }", "not a name in DNS"),
        ("dns = { name = \"192.0.2.1\" }", "not a name in DNS"),
        ("dns = { name = \"a.example\", record = \"ANY\" }", "unknown value"),
        ("dns = { name = \"a.example\", expect = \"2001:db8::1\" }", "no answer of type A looks like this"),
        ("dns = { name = \"a.example\", only = true }", "no record would be good"),
        ("dns = { name = \"a.example\", resolver = \"dns.example\" }", "not the IP address of a DNS server"),
        ("mysql = { role = \"primary\" }", "it says nothing without user"),
        ("mysql = { user = \"a\", role = \"primary\", lag-max = \"1s\" }", "a primary is behind nobody"),
        ("smtp = { from = \"a@b.example\" }", "from says nothing without to"),
        ("smtp = { to = \"a b\" }", "empty, or with spaces or brackets"),
        ("smtp = { tls = true, starttls = true }", "TLS begins with the connection or by a command"),
        ("websocket = \"socket\"", "a path starts with /"),
        ("websocket = {}", "path is missing"),
        ("websocket = { path = \"/\", send = \"a\" }", "nobody would hear whether it was understood"),
        ("websocket = { path = \"/\", origin = \"\\n\" }", "cannot be sent in a header"),
        ("certificate = { min = \"30d\", warn = \"7d\" }", "nobody would be warned"),
        ("certificate = { starttls = \"xmpp\" }", "unknown value"),
        ("icmp = { packets = 0 }", "must be from 1 to 20"),
        ("icmp = { loss-max = \"20%\" }", "of one ping either all is lost or nothing"),
        ("docker = \"a b\"", "not the name of a container"),
        ("docker = {}", "container is missing"),
        ("docker = { container = \"a\", socket = \"docker.sock\" }", "begins at the root"),
        ("systemd = \"a b.service\"", "not the name of a unit"),
        ("systemd = true", "true or false where text belongs"),
        ("command = []", "no program"),
        ("command = \"check_http -I x\"", "text where a list belongs"),
        ("command = {}", "run is missing"),
        (
            "command = { run = [\"a\"], env = { MAINSTAY_HOST = \"a\" } }",
            "not the name of a variable that a probe may set",
        ),
        ("command = { run = [\"a\"], secrets = { A = \"b\" } }", "a secret does not belong in the config"),
    ] {
        let told = told(&service(health)).join("\n");
        assert!(told.contains(what), "{health}: {told}");
    }
    let told = read(&format!("{}[service.db.server-tls]\nname = \"db.internal\"\n", service("redis = true")))
        .unwrap_err()
        .to_string();
    assert!(told.contains("write tls = true in the table of its probe"), "{told}");
}

fn http(health: &str) -> String {
    format!("[service.shop]\nhealth = {{ {health} }}\n[service.shop.server.one]\naddress = \"10.0.0.1:80\"\n")
}

#[test]
fn a_request_and_what_its_answer_must_be_arrive_as_they_are_written() {
    let config = read(&http(
        r#"host = "shop.example.com", http = { path = "/rpc", method = "POST", body = "ping", headers = { X-Probe = "1" }, authorization = { env = "TOKEN" }, status = ["200", "3xx", "418-420"], expect = "pong", refuse-regex = "(?i)error", expect-header = { Content-Type = "json" }, json = [{ at = "a.0", is = "1" }, { at = "b", not = "2" }, { at = "c", min = 1, max = 2.5 }, { at = "d", present = false }, { at = "e" }], size-max = "1MiB", certificate-min = "14d", slow-after = "300ms", document = true }"#,
    ))
    .unwrap();
    let shop = ServiceId::new("shop");
    let kind = ProbeKind::Http { path: "/rpc".into(), host: Some("shop.example.com".into()) };
    assert_eq!(config.policy.services[&shop].health.probe, kind);
    let ProbeSpec::Http(probe) = &*config.probes[&shop] else { panic!("{:?}", config.probes) };
    assert_eq!((probe.method.as_str(), probe.body.as_deref()), ("POST", Some("ping")));
    let headers: Vec<(&str, &str)> = probe.headers.iter().map(|(n, v)| (n.as_str(), v.reveal())).collect();
    assert_eq!(headers, [("X-Probe", "1"), ("authorization", "a token nobody guesses")]);
    assert_eq!(probe.status, [200..=200, 300..=399, 418..=420]);
    assert_eq!((probe.size_max, probe.document, probe.follow), (Some(1 << 20), true, false));
    assert_eq!(probe.certificate_min, Some(Duration::from_secs(14 * 86_400)));
    assert_eq!(probe.slow_after, Some(Duration::from_millis(300)));
    let json: Vec<&JsonTest> = probe
        .demands
        .iter()
        .filter_map(|demand| if let Demand::Json { test, .. } = demand { Some(test) } else { None })
        .collect();
    assert_eq!(
        json,
        [
            &JsonTest::Is("1".into()),
            &JsonTest::Not("2".into()),
            &JsonTest::Between(Some(1.0), Some(2.5)),
            &JsonTest::Absent,
            &JsonTest::Present
        ]
    );
    assert_eq!(probe.demands.len(), 8);
    // What is not written is as with a path alone.
    let config = read(&http(r#"http = { path = "/x" }"#)).unwrap();
    let probe = HttpProbe { path: "/x".into(), ..HttpProbe::default() };
    assert_eq!(*config.probes[&shop], ProbeSpec::Http(probe));
    assert!(read(&http(r#"http = "/x""#)).unwrap().probes.is_empty());
}

#[test]
fn what_makes_no_sense_of_a_request_is_a_mistake() {
    for (health, what) in [
        ("http = {}", "path is missing"),
        ("http = { path = \"x\" }", "a path starts with /"),
        ("http = 1", "a number where text belongs"),
        ("http = { path = \"/\", body = \"x\" }", "GET has no body"),
        ("http = { path = \"/\", method = \"get\" }", "unknown value"),
        ("http = { path = \"/\", method = \"POST\", follow = true }", "a POST would be sent again"),
        (
            "http = { path = \"/\", method = \"HEAD\", expect = \"x\" }",
            "an answer to HEAD has no body in which x could be",
        ),
        ("http = { path = \"/\", status = 200 }", "a number where text belongs"),
        ("http = { path = \"/\", status = \"20x\" }", "not a status code"),
        ("http = { path = \"/\", status = \"300-200\" }", "not a status code"),
        ("http = { path = \"/\", status = [] }", "no status would be good"),
        ("http = { path = \"/\", headers = { Host = \"x\" } }", "this header is written by other means"),
        ("http = { path = \"/\", headers = { \"a b\" = \"x\" } }", "not the name of a header"),
        ("http = { path = \"/\", headers = { a = \"\\n\" } }", "cannot be sent in a header"),
        ("http = { path = \"/\", json = [{ is = \"x\" }] }", "at is missing"),
        (
            "http = { path = \"/\", json = [{ at = \"a\", is = \"x\", min = 1 }] }",
            "a value is tested by one of",
        ),
        ("http = { path = \"/\", size-max = \"1GiB\" }", "too much for a probe to read"),
        ("http = { path = \"/\", expect = \"\" }", "empty"),
        ("http = { path = \"/\", refuse-regex = \"[\" }", "not a regular expression"),
        ("http = { path = \"/\", slow-after = \"0s\" }", "must be more than 0"),
    ] {
        let told = told(&http(health)).join("\n");
        assert!(told.contains(what), "{health}: {told}");
    }
}

#[test]
fn grpc_is_asked_for_where_http_2_is_spoken() {
    let spec = |text: &str| {
        let over = "[service.shop]\nserver-protocol = \"http2\"\n";
        let config = read(&http(text).replacen("[service.shop]\n", over, 1));
        config.map(|config| (*config.probes[&ServiceId::new("shop")]).clone()).map_err(|m| m.to_string())
    };
    assert_eq!(spec("grpc = true"), Ok(ProbeSpec::Grpc(GrpcProbe::default())));
    let named = GrpcProbe { service: "shop.v1.Shop".into(), host: Some("shop.internal".into()) };
    let written = "host = \"shop.internal\", grpc = { service = \"shop.v1.Shop\" }";
    assert_eq!(spec(written), Ok(ProbeSpec::Grpc(named)));
    assert!(spec("grpc = { service = \"\" }").unwrap_err().contains("a service's name has from 1 to 100"));
    let told = told(&http("grpc = true")).join("\n");
    assert!(told.contains("gRPC is spoken in HTTP/2"), "{told}");
}

#[test]
fn programs_and_questions_to_dns_arrive_as_they_are_written() {
    let (kind, check) = spec(
        r#"command = { run = ["check_pgsql", "-H", "{host}"], env = { LANG = "C" }, secrets = { PGPASSWORD = { env = "TOKEN" } } }"#,
    );
    let Some(ProbeSpec::Command(check)) = check else { panic!("{check:?}") };
    assert_eq!((kind, check.dir.to_str()), (ProbeKind::Command, Some("/etc/mainstay")));
    assert_eq!(check.argv, ["check_pgsql", "-H", "{host}"]);
    assert_eq!(check.env["LANG"], "C");
    assert_eq!(check.secrets["PGPASSWORD"].reveal(), "a token nobody guesses");
    let (_, list) = spec(r#"command = ["./check"]"#);
    assert!(matches!(list, Some(ProbeSpec::Command(list)) if list.argv == ["./check"]));

    let (kind, dns) = spec(
        r#"dns = { name = "Example.com", record = "MX", resolver = "192.0.2.53", expect = "10 Mail.example.com.", authoritative = true, only = true }"#,
    );
    let Some(ProbeSpec::Dns(dns)) = dns else { panic!("{dns:?}") };
    assert_eq!((kind, dns.name.to_ascii().as_str()), (ProbeKind::Dns, "Example.com."));
    assert_eq!(dns.resolver, Some("192.0.2.53:53".parse().unwrap()));
    assert_eq!((dns.all, dns.any, dns.only), (vec!["10 mail.example.com".to_owned()], vec![], true));
    let (_, reverse) = spec(r#"dns = { name = "192.0.2.7", record = "PTR" }"#);
    assert!(matches!(reverse, Some(ProbeSpec::Dns(dns)) if dns.name.to_ascii() == "7.2.0.192.in-addr.arpa."));
}

#[test]
fn the_newer_kinds_arrive_as_they_are_written() {
    for (written, kind) in [
        ("mysql = true", ProbeKind::Mysql),
        ("smtp = true", ProbeKind::Smtp),
        ("websocket = \"/socket\"", ProbeKind::WebSocket),
        ("icmp = true", ProbeKind::Icmp),
        ("docker = \"shop-{server}\"", ProbeKind::Docker),
        ("systemd = \"shop@{server}.service\"", ProbeKind::Systemd),
        ("dns = { name = \"example.com\" }", ProbeKind::Dns),
    ] {
        let (read, spec) = spec(written);
        assert_eq!((read, spec.map(|spec| spec.needs_tls())), (kind, Some(false)), "{written}");
    }
    let (_, mysql) = spec(r#"mysql = { user = "probe", role = "replica", lag-max = "30s", tls = true }"#);
    let Some(ProbeSpec::Mysql(mysql)) = mysql else { panic!("{mysql:?}") };
    let login = mysql.login.unwrap();
    assert_eq!((login.database.as_str(), login.role, mysql.tls), ("", Some(DataRole::Replica), true));
    let (_, smtp) = spec(r#"smtp = { starttls = true, require = "SIZE", to = "a@example.com" }"#);
    let Some(ProbeSpec::Smtp(smtp)) = smtp else { panic!("{smtp:?}") };
    assert_eq!(
        (smtp.hello.as_str(), smtp.require.len(), smtp.to.as_deref()),
        ("mainstay-probe", 1, Some("a@example.com"))
    );
    let (_, socket) =
        spec(r#"host = "chat.example.com", websocket = { path = "/s", send = "a", expect-regex = "^b" }"#);
    let Some(ProbeSpec::WebSocket(socket)) = socket else { panic!("{socket:?}") };
    assert_eq!((socket.path.as_str(), socket.host.as_deref()), ("/s", Some("chat.example.com")));
    assert!(matches!(socket.expect, Some(Expect::Pattern(_))));
    let (_, pings) = spec(r#"icmp = { packets = 5, loss-max = "40%", slow-after = "50ms" }"#);
    let Some(ProbeSpec::Icmp(pings)) = pings else { panic!("{pings:?}") };
    assert_eq!((pings.packets, pings.loss_max), (5, 0.4));
    let (_, docker) = spec(r#"docker = { container = "web", socket = "unix:/run/podman.sock" }"#);
    assert!(matches!(docker, Some(ProbeSpec::Docker(docker)) if &*docker.socket == "/run/podman.sock"));
    // Whoever looks at a certificate needs to know whom to trust.
    let config = read(&service("certificate = { min = \"3d\", warn = \"0s\" }")).unwrap();
    let id = ServiceId::new("db");
    let ProbeSpec::Certificate(certificate) = &*config.probes[&id] else { panic!("{:?}", config.probes) };
    assert_eq!((certificate.min, certificate.warn), (Some(Duration::from_secs(3 * 86_400)), None));
    assert!(config.server_tls.contains_key(&id));
}

#[test]
fn so_many_failures_of_so_many_are_enough_and_never_fewer_than_in_a_row() {
    use mainstay_model::monitor::OutOf;
    let fail =
        |health: &str| read(&service(health)).unwrap().policy.services[&ServiceId::new("db")].health.fail;
    let of = |bad, of| Some(OutOf { bad, of });
    assert_eq!(fail("tcp = true"), of(3, 5));
    assert_eq!(fail("fall = 5"), of(5, 7));
    assert_eq!(fail("fall = 29"), None);
    assert_eq!(fail("fall = 4, fail = \"6 of 10\""), of(6, 10));
    assert_eq!(fail("fail = \"1 of 1\""), of(1, 1));
    let refused = told(&service("fall = 4, fail = \"3 of 5\""));
    assert!(refused[0].contains("3 failures decide before fall = 4 can"), "{refused:?}");
}
