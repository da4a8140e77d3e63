//! What a person is told of a broken config, and what a good one means.

mod drill;
mod log;
mod machines;
mod maintenance;
mod monitors;
mod probe;
mod replace;
mod restart;
mod routes;
mod server_tls;
mod state;
mod status;
mod tcp;
mod tls;

use std::path::Path;
use std::time::Duration;

use mainstay_model::limits::{AddressLimit, Level, Limits, Priority, Room};
use mainstay_model::monitor::OutOf;
use mainstay_model::policy::{Balance, HealthPolicy, Hedge, ProbeKind, Role, ServicePolicy, Value};
use mainstay_model::rung::{self, Levels};
use proptest::prelude::*;

use mainstay_model::policy::DeployPolicy;

use super::*;

const SMALLEST: &str = "[service.shop.server.app-1]\naddress = \"127.0.0.1:3000\"\n";

fn environment(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("a token nobody guesses".to_owned()),
        "SHORT" => Some("short".to_owned()),
        "EMPTY" => Some(String::new()),
        "HOOK" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        "HOME" => Some("/home/ops".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Mistakes> {
    parse(text, "mainstay.toml", Path::new("/etc/mainstay"), &environment)
}

/// `line:column key: what` of each mistake.
fn told(text: &str) -> Vec<String> {
    let Err(mistakes) = read(text) else { return Vec::new() };
    mistakes.iter().map(|m| format!("{}:{} {}: {}", m.line, m.column, m.key, m.what)).collect()
}

#[test]
fn one_server_is_a_whole_config() {
    let config = read(SMALLEST).unwrap();
    assert_eq!(config.http, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.admin.to_string(), "127.0.0.1:9900");
    assert!(config.workers >= 1);
    assert_eq!(config.addresses.len(), 1);
    let service = &config.policy.services[&mainstay_model::ServiceId::new("shop")];
    let servers = service.servers.clone();
    assert_eq!(*service, ServicePolicy { servers, ..ServicePolicy::default() });
}

#[test]
fn every_key_arrives_where_it_is_meant() {
    let config = read(
        r#"
        data = "state"
        workers = 3
        drain = "5s"
        listen = { http = ["0.0.0.0:80", "[::1]:8080"], admin = "0.0.0.0:9900", trusted-proxies = "10.1.0.0/16", head-timeout = "9s", idle = "30s", connections = 500, requests-per-connection = 77 }
        admin = { token = { env = "TOKEN" } }
        [service.shop]
        hosts = ["Shop.example.com", "www.shop.example.com"]
        balance = "round-robin"
        health = { http = "/healthz?x=1", host = "shop.example.com", interval = "2s", timeout = "3s", rise = 3, fall = 4, fail = "4 of 9", reprobe = "50ms", ask = "/basket" }
        traffic = { consecutive-failures = 6, failure-share = "30%", min-requests = 21, window = "11s", slow-times = 7.5, past-times = 4, eject-share = "40%", eject-base = "12s", eject-max = "6m" }
        timeouts = { connect = "2s", per-try = "3s", request = "61s", idle = "62s", body = "29s", body-min-rate = "1KiB/s", body-grace = "5s" }
        limits = { per-address = "600/m", burst = 60, exempt = ["10.0.0.0/8", "::1"], close = true, concurrent = 201, adaptive = true, queue = 50, queue-deadline = "3s", body-max = "10MiB" }
        priority = [{ path = "/checkout", level = "high" }, { path = "/search", level = "low" }]
        retry = { max-tries = 4, budget = 0.25, budget-min = 11, body-max = "1MiB", hedge = "p95" }
        recovery = { budget = 6, budget-window = "11m", delay-base = "2s", delay-max = "61s", reset-after = "12m", start-grace = "31s", helped-within = "45s", level = { restart = "ask", scale = "observe" } }
        slow-start = "0s"
        value = { per-hour = 1_200.5, currency = "EUR" }
        panic-threshold = "40%"
        resolve-after = "20s"
        on-call = "night"
        [service.shop.server.app-1]
        address = "app-1.internal:3000"
        weight = 5
        concurrent = 20
        [service.shop.server.app-2]
        command = ["./shop", "--port", "{port}"]
        dir = "shop"
        env = { RUST_LOG = "info" }
        stop-timeout = "3s"
        capture = ["/usr/bin/jstack", "{pid}"]
        address = "127.0.0.2:3001"
        [service.shop.server.spare]
        address = "10.0.1.11:3000"
        role = "backup"
        [alert]
        dashboard = "https://ops.example.com"
        escalate-from = "down"
        [alert.email]
        smtp = "smtps://user@smtp.example.com"
        password = { env = "TOKEN" }
        from = "Mainstay <mainstay@example.com>"
        [alert.webhook]
        url = "https://hooks.example.com/mainstay"
        secret = { env = "HOOK" }
        [alert.sms]
        twilio = { account = "AC0123456789abcdef0123456789abcdef", token = { env = "TOKEN" }, from = "Mainstay" }
        budget = 5
        [on-call.web]
        tell = [{ email = "ops@example.com" }, { email = "dev@example.com" }]
        [on-call.night]
        tell = [{ email = "ops@example.com" }, { name = "Ada", sms = "+491701234567", after = "5m" }]
        [record]
        minutes = "1d"
        hours = "30d"
        incidents = "1y"
        "#,
    )
    .unwrap();
    let shop = mainstay_model::ServiceId::new("shop");
    let service = &config.policy.services[&shop];
    assert_eq!(config.data, Path::new("/etc/mainstay/state"));
    assert_eq!((config.workers, config.drain, config.http.len()), (3, Duration::from_secs(5), 2));
    assert_eq!(config.access.token.as_ref().unwrap().reveal(), "a token nobody guesses");
    assert_eq!(service.carriage.hosts, ["shop.example.com", "www.shop.example.com"]);
    assert_eq!(service.carriage.balance, Balance::RoundRobin);
    let probe = ProbeKind::Http { path: "/healthz?x=1".into(), host: Some("shop.example.com".into()) };
    assert_eq!(
        service.health,
        HealthPolicy {
            probe,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(3),
            rise: 3,
            fall: 4,
            fail: Some(OutOf { bad: 4, of: 9 }),
            reprobe: Duration::from_millis(50),
            ask: Some("/basket".to_owned()),
        }
    );
    assert_eq!((service.traffic.consecutive_failures, service.traffic.failure_share), (6, 0.3));
    assert_eq!((service.traffic.slow_times, service.traffic.eject_share), (7.5, 0.4));
    assert_eq!(service.traffic.past_times, 4.0);
    assert_eq!((service.traffic.min_requests, service.traffic.eject_max), (21, Duration::from_secs(360)));
    assert_eq!(
        (service.carriage.timeouts.per_try, service.carriage.timeouts.idle),
        (Duration::from_secs(3), Duration::from_secs(62))
    );
    assert_eq!(
        (
            service.carriage.timeouts.body,
            service.carriage.timeouts.body_min_rate,
            service.carriage.timeouts.body_grace
        ),
        (Duration::from_secs(29), 1024, Duration::from_secs(5))
    );
    assert_eq!(config.head_timeout, Duration::from_secs(9));
    assert_eq!((config.client_idle, config.connections), (Duration::from_secs(30), 500));
    let clients = &config.clients;
    assert_eq!((clients.connections_per_address, clients.requests_per_connection), (250, 77));
    assert_eq!(clients.exempt, ["10.1.0.0/16".parse().unwrap()]);
    let priority = |path: &str, level| Priority { path: path.into(), level };
    assert_eq!(
        *service.carriage.limits,
        Limits {
            per_address: Some(AddressLimit {
                requests: 600,
                per: Duration::from_secs(60),
                burst: 60,
                close: true
            }),
            exempt: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
            trusted_proxies: vec!["10.1.0.0/16".parse().unwrap()],
            room: Some(Room {
                concurrent: 201,
                adaptive: true,
                queue: 50,
                queue_deadline: Duration::from_secs(3)
            }),
            priorities: vec![priority("/checkout", Level::High), priority("/search", Level::Low)],
            body_max: Some(10 << 20),
        }
    );
    assert_eq!((service.carriage.retry.budget, service.carriage.retry.body_max), (0.25, 1 << 20));
    assert_eq!(service.carriage.retry.hedge, Some(Hedge::Percentile(95)));
    assert_eq!((service.recovery.budget, service.recovery.start_grace), (6, Duration::from_secs(31)));
    assert_eq!(service.recovery.helped_within, Duration::from_secs(45));
    let levels = Levels { restart: rung::Level::Ask, scale: rung::Level::Observe, ..Levels::default() };
    assert_eq!(service.recovery.levels, levels);
    assert_eq!((service.slow_start, service.panic_threshold), (Duration::ZERO, 0.4));
    assert_eq!(service.resolve_after, Duration::from_secs(20));
    assert_eq!(service.value, Some(Value { per_hour: 1200.5, currency: "EUR".to_owned() }));
    assert_eq!((service.servers["app-1"].weight, service.servers["app-1"].concurrent), (5, Some(20)));
    assert_eq!(service.servers["spare"].role, Role::Backup);
    assert_eq!(config.addresses[&shop.server("app-1")], ServerAddress::Name("app-1.internal".into(), 3000));
    assert!(!config.addresses.contains_key(&shop.server("app-2")));
    let command = &config.commands[&shop.server("app-2")];
    assert_eq!((command.port, command.host.to_string().as_str()), (Some(3001), "127.0.0.2"));
    assert_eq!(command.dir.as_deref(), Some(Path::new("/etc/mainstay/shop")));
    assert_eq!(command.env["RUST_LOG"], "info");
    let email = config.alerts.email.as_ref().unwrap();
    let on_call = &config.policy.on_call;
    let told = |groups: Option<&[std::sync::Arc<str>]>| -> Vec<(String, u64)> {
        on_call.calls(groups).iter().map(|c| (c.to.name.clone(), c.after.as_secs())).collect()
    };
    let expected = [("ops@example.com", 0), ("dev@example.com", 0), ("Ada", 300)];
    assert_eq!(told(None), expected.map(|(name, after)| (name.to_owned(), after)));
    assert_eq!(
        told(service.on_call.as_deref()),
        [("ops@example.com".to_owned(), 0), ("Ada".to_owned(), 300)]
    );
    assert_eq!(on_call.escalate_from, mainstay_model::incident::Severity::Down);
    let sms = config.alerts.sms.as_ref().unwrap();
    assert!(
        matches!(&sms.provider, SmsProvider::Twilio { from, .. } if from == "Mainstay") && sms.budget == 5
    );
    assert_eq!((email.port, email.login.as_ref().unwrap().0.as_str()), (465, "user"));
    assert_eq!(config.alerts.webhook.as_ref().unwrap().secret.as_ref().unwrap().len(), 24);
    assert_eq!(config.retention.minutes, Duration::from_secs(86_400));
}

#[test]
fn ten_different_mistakes_are_ten_mistakes_each_in_its_place() {
    let text = r#"drain = 30
[listen]
http = "localhost:80"
admin = "0.0.0.0:9900"
[service.shop]
helth = { http = "/healthz" }
balance = "least-latncy"
health = { http = "healthz", interval = "1", rise = 0 }
panic-threshold = 150
[service.shop.server.App]
address = "10.0.0.1"
[alert.email]
smtp = "smtps://smtp.example.com"
from = "mainstay@example.com"
password = "hunter2"
"#;
    assert_eq!(
        told(text),
        [
            "1:9 drain: a duration needs a unit",
            "3:8 listen.http: an IP address is needed to listen on",
            "4:9 listen.admin: everybody who reaches this address could drain your servers",
            "6:1 service.shop.helth: unknown key",
            "7:11 service.shop.balance: unknown value",
            "8:19 service.shop.health.http: a path starts with /",
            "8:41 service.shop.health.interval: a duration needs a unit",
            "8:53 service.shop.health.rise: must be from 1 to 1000",
            "9:19 service.shop.panic-threshold: a share is from 0% to 100%",
            "10:22 service.shop.server.App: a name has lower-case letters, digits, dots, hyphens and underscores only, starts with a letter or a digit, and is at most 64 long",
            "11:11 service.shop.server.App.address: the port is missing",
            "12:8 alert.email: nobody is on call by mail",
            "15:12 alert.email.password: a secret does not belong in the config",
        ]
    );
}

#[test]
fn what_other_programs_call_a_key_is_understood() {
    let mistakes = read(&format!("{SMALLEST}url = \"http://a\"\n")).unwrap_err();
    assert!(mistakes.to_string().ends_with("did you mean `address`?"), "{mistakes}");
}

#[test]
fn a_key_below_the_wrong_table_is_told_where_it_belongs() {
    let told = read("listen.drain = \"1s\"\nhealth.tcp = true\n").unwrap_err().to_string();
    assert!(
        told.contains(
            "listen.drain: unknown key\n    it belongs at the top of the file, above the first [table]"
        ),
        "{told}"
    );
    assert!(told.contains("health: unknown key\n    it belongs in [service.NAME]"), "{told}");
}

#[test]
fn a_table_whose_name_is_not_closed_takes_its_own_keys_along_only() {
    let told = told(&format!("[listen\nhttp = 1\n{SMALLEST}weight = 0\n"));
    assert_eq!(
        told,
        ["1:8 : not TOML: unclosed table", "5:10 service.shop.server.app-1.weight: must be from 1 to 100"]
    );
}

#[test]
fn a_config_of_nothing_but_mistakes_is_told_in_bounded_time_and_space() {
    let keys: String = (0..40_000).map(|n| format!("k{n}=1,")).collect();
    let mistakes = read(&format!("service.shop.server.a = {{{keys} z=1}}")).unwrap_err();
    assert_eq!(mistakes.count(), 1000);
}

#[test]
fn the_variables_that_hold_secrets_are_known_and_files_are_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "correct horse").unwrap();
    let text = r#"
        admin = { token = { env = "TOKEN" }, password = { file = "password" } }
        service.shop.server.a.address = "10.0.0.1:80"
        alert.webhook = { url = "https://hooks.example.com/mainstay", secret = { env = "HOOK" } }
        "#;
    let config = parse(text, "mainstay.toml", folder.path(), &environment).unwrap();
    assert_eq!(config.secret_variables, ["HOOK".to_owned(), "TOKEN".to_owned()].into());
}

#[test]
fn the_example_of_the_reference_is_a_good_config() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let text = schema::EXAMPLE.replace("/etc/mainstay/password", password.to_str().unwrap());
    let env = |name: &str| match name {
        "WEBHOOK_SECRET" => environment("HOOK"),
        _ => Some("correct horse".to_owned()),
    };
    let config = parse(&text, "example", Path::new("/etc/mainstay"), &env).unwrap();
    assert_eq!(config.policy.services.len(), 1);
    assert_eq!(config.access.password.unwrap().reveal(), "correct horse");
}

#[test]
fn a_mistake_reads_as_place_value_reason_and_remedy() {
    let text =
        "[service.shop]\nhealth = { interval = \"1\" }\n[service.shop.server.a]\naddress = \"10.0.0.1:80\"\n";
    assert_eq!(
        read(text).unwrap_err().to_string(),
        "mainstay.toml:2:23: service.shop.health.interval = \"1\": a duration needs a unit\n    write \"1s\", \"800ms\", \"5m\" or \"2h\""
    );
}

/// Each row: what is added to the smallest config, and what is told of it.
const BROKEN: &[(&str, &[&str])] = &[
    ("[listen]\ndns = \"0.0.0.0:53\"", &["4:7 listen.dns: there is no zone to answer"]),
    (
        "[zone.\"example.com\"]\nrecords = [\"@ NS ns1\", \"ns1 A 192.0.2.53\", \"www 300 A 192.0.2.300\"]",
        &[
            "3:2 zone: nobody can ask for this zone",
            "4:44 zone.\"example.com\".records: not a record: network address parse error: invalid IPv4 address syntax",
        ],
    ),
    (
        "[dns.update.\"example.com\"]\nserver = \"ns1.example.com\"\nlive = { shop = \"shopp\" }",
        &[
            "3:13 dns.update.\"example.com\": key is missing",
            "3:13 dns.update.\"example.com\": secret is missing",
            "4:10 dns.update.\"example.com\".server: not the IP address of a DNS server",
        ],
    ),
    (
        "[service.empty]",
        &[
            "3:10 service.empty: a service without servers",
            "3:10 service.empty: every host leads to service shop already",
        ],
    ),
    (
        "[service.b]\nserver.x.weight = 1\nhosts = \"b.example.com\"",
        &["4:8 service.b.server.x: neither address nor command"],
    ),
    ("url = \"http://a\"", &["3:1 service.shop.server.app-1.url: unknown key"]),
    (
        "[listen]\nhttp = [\"0.0.0.0:80\", \"[::]:80\"]",
        &["4:23 listen.http: [::]:80 is taken by listen.http already (0.0.0.0:80)"],
    ),
    ("weight = 0", &["3:10 service.shop.server.app-1.weight: must be from 1 to 100"]),
    ("role = \"bakup\"", &["3:8 service.shop.server.app-1.role: unknown value"]),
    ("role = \"backup\"", &["1:10 service.shop: every server is a backup"]),
    ("dir = \"/srv\"", &["3:7 service.shop.server.app-1.dir: says nothing without command"]),
    ("command = \"./shop --port 1\"", &["3:11 service.shop.server.app-1.command: text where a list belongs"]),
    ("command = []", &["3:11 service.shop.server.app-1.command: no program to start"]),
    (
        "command = [\"./shop\"]\nenv = { PORT = \"1\" }",
        &["4:9 service.shop.server.app-1.env.PORT: PORT is set by Mainstay"],
    ),
    (
        "[service.shop.value]\nper-hour = 0\ncurrency = \"\"",
        &[
            "4:12 service.shop.value.per-hour: must be more than 0 and at most a thousand millions",
            "5:12 service.shop.value.currency: not a currency",
        ],
    ),
    (
        "[service.shop.value]\nper-hour = \"1200\"",
        &[
            "3:15 service.shop.value: currency is missing",
            "4:12 service.shop.value.per-hour: text where a number belongs",
        ],
    ),
    ("[listen]\nhttps = \"0.0.0.0:443\"", &["4:9 listen.https: there is no certificate to show"]),
    ("[listen]\nhttp = []", &["4:8 listen.http: no address to serve visitors on"]),
    ("[listen]\nhttp = 8080", &["4:8 listen.http: a number where an address belongs"]),
    (
        "[listen]\nhttp = [\"127.0.0.1:80\", \"0.0.0.0:80\"]",
        &["4:25 listen.http: 0.0.0.0:80 is taken by listen.http already (127.0.0.1:80)"],
    ),
    (
        "[listen]\nadmin = \"127.0.0.1:8080\"",
        &["4:9 listen.admin: 127.0.0.1:8080 is taken by listen.http already"],
    ),
    (
        "[listen]\nadmin = \"127.0.0.1:3000\"",
        &[
            "2:11 service.shop.server.app-1.address: Mainstay itself listens there, so requests would go round in circles",
        ],
    ),
    (
        "[service.shop.server.app-2]\naddress = \"127.0.0.1:3000\"",
        &["4:11 service.shop.server.app-2.address: server app-1 has this address already"],
    ),
    (
        "[service.shop.server.app-2]\naddress = \"https://unix:/run/app.sock\"",
        &[
            "4:11 service.shop.server.app-2.address: nobody speaks TLS by a Unix socket, which does not leave this machine",
        ],
    ),
    (
        "[service.shop.server.app-2]\ncommand = [\"./shop\"]\naddress = \"unix:/run/app.sock\"",
        &[
            "5:11 service.shop.server.app-2.address: a server that Mainstay starts is told a port to listen on",
        ],
    ),
    (
        "[service.shop.server.app-2]\naddress = \"unix:/a\"\n[service.shop.server.app-3]\naddress = \"unix:///a\"",
        &["6:11 service.shop.server.app-3.address: server app-2 has this address already"],
    ),
    (
        "[service.shop.server.app-2]\naddress = \"http://10.0.0.1\"",
        &["4:11 service.shop.server.app-2.address: a server's address has no scheme"],
    ),
    (
        "[service.b]\nserver.a.address = \"10.0.0.1:1\"",
        &["3:10 service.b: every host leads to service shop already"],
    ),
    (
        "[service.shop.timeouts]\nconnect = \"0s\"\nper-try = \"2m\"",
        &[
            "4:11 service.shop.timeouts.connect: must be more than 0",
            "5:11 service.shop.timeouts.per-try: per-try is longer than the whole request",
        ],
    ),
    (
        "[service.shop.health]\ntimeout = \"0s\"\nhttp = \"/\"\ntcp = true",
        &[
            "4:11 service.shop.health.timeout: must be more than 0",
            "6:7 service.shop.health.tcp: a probe is of one kind, and http is written too",
        ],
    ),
    (
        "[service.shop.health]\nhost = \"a\"",
        &["4:8 service.shop.health.host: host says nothing without http"],
    ),
    ("[service.shop.health]\ntcp = false", &["4:7 service.shop.health.tcp: no probe is left"]),
    (
        "[service.shop.traffic]\nfailure-share = 0\neject-max = \"1s\"",
        &[
            "4:17 service.shop.traffic.failure-share: must be more than 0",
            "5:13 service.shop.traffic.eject-max: eject-max is shorter than eject-base",
        ],
    ),
    (
        "[service.shop.retry]\nbody-max = 64\nbudget = \"lots\"",
        &[
            "4:12 service.shop.retry.body-max: a size needs a unit",
            "5:10 service.shop.retry.budget: not a share",
        ],
    ),
    (
        "[service.shop.retry]\nhedge = \"p100\"",
        &["4:9 service.shop.retry.hedge: a percentile is from p50 to p99"],
    ),
    ("[service.shop.retry]\nhedge = \"soon\"", &["4:9 service.shop.retry.hedge: not a duration"]),
    (
        "[service.shop.retry]\nhedge = \"0ms\"",
        &["4:9 service.shop.retry.hedge: every request would be sent twice"],
    ),
    (
        "[service.shop.limits]\nper-address = 50\nexempt = [\"10.0.0.0/33\"]\nqueue = 7\nconcurent = 1",
        &[
            "4:15 service.shop.limits.per-address: a rate needs a time",
            "5:11 service.shop.limits.exempt: a network has at most 32 bits in IPv4 and 128 in IPv6",
            "6:9 service.shop.limits.queue: says nothing without concurrent",
            "7:1 service.shop.limits.concurent: unknown key",
        ],
    ),
    (
        "[service.shop.limits]\nburst = 7\nconcurrent = 0",
        &[
            "4:9 service.shop.limits.burst: says nothing without per-address",
            "5:14 service.shop.limits.concurrent: must be from 1 to 1000000",
        ],
    ),
    (
        "[[service.shop.priority]]\npath = \"checkout\"\nlevel = \"hi\"",
        &[
            "3:1 service.shop.priority: priority says nothing without limits.concurrent",
            "4:8 service.shop.priority.path: not a path",
            "5:9 service.shop.priority.level: unknown value",
        ],
    ),
    (
        "[service.shop.recovery]\ndelay-max = \"10ms\"",
        &["4:13 service.shop.recovery.delay-max: delay-max is shorter than delay-base"],
    ),
    (
        "[on-call.web]\ntell = [{ email = \"ops@example.com\" }]",
        &["4:19 on-call.web.tell.email: there is no mail server to tell people by"],
    ),
    (
        "[on-call.web]\ntell = [{ sms = \"+49\" }]",
        &["4:17 on-call.web.tell.sms: a telephone number with its country has 7 to 15 digits"],
    ),
    (
        "[on-call.web]\ntell = [{ sms = \"+491701234567\" }, { sms = \"+491701234567\", after = \"5m\" }, { after = \"1m\" }]",
        &[
            "4:17 on-call.web.tell.sms: there is no provider to send text messages by",
            "4:44 on-call.web.tell.sms: +491701234567 is told after 0s already; everybody is told once that it began",
            "4:77 on-call.web.tell: no way to tell this person",
        ],
    ),
    (
        "[service.shop]\non-call = [\"web\", \"nigth\"]\n[on-call.web]\ntell = []\n[on-call.night]\n[alert]\nescalate-from = \"bad\"",
        &[
            "4:19 service.shop.on-call: no group of [on-call] has this name",
            "6:8 on-call.web.tell: a group of nobody",
            "7:10 on-call.night: a group of nobody",
            "9:17 alert.escalate-from: not a severity",
        ],
    ),
    (
        "[alert.sms]\nbudget = 1",
        &[
            "3:8 alert.sms: nobody is on call by SMS",
            "3:8 alert.sms: it does not say who sends text messages",
            "4:10 alert.sms.budget: must be from 2 to 1000",
        ],
    ),
    (
        "[on-call.web]\ntell = [{ sms = \"+491701234567\" }]\n[alert.sms]\ntwilio = { account = \"AC1\", from = \"0800\", url = \"twilio\" }",
        &[
            "6:1 alert.sms.twilio: token is missing",
            "6:22 alert.sms.twilio.account: not an account of Twilio",
            "6:36 alert.sms.twilio.from: the country is missing",
            "6:50 alert.sms.twilio.url: not a web address",
        ],
    ),
    (
        "[on-call.web]\ntell = [{ sms = \"+491701234567\" }]\n[alert.sms.http]\nurl = \"https://x.example/{{ too }}\"\nmethod = \"SEND\"\nbody = '{\"t\": \"{{ text }}\"}'\nheaders = { \"a b\" = \"{{\" }",
        &[
            "6:7 alert.sms.http.url: a mistake in the template: it names a value that there is not",
            "7:10 alert.sms.http.method: not a method for this",
            "8:8 alert.sms.http.body: not JSON once a text with quotation marks is in it",
            "9:13 alert.sms.http.headers.\"a b\": not the name of a header",
            "9:21 alert.sms.http.headers.\"a b\": a mistake in the template: unexpected end of input, expected expression",
        ],
    ),
    (
        "[on-call.web]\ntell = [{ sms = \"+491701234567\" }]\n[alert.sms]\nhttp = { url = \"https://{{ to }}.x.example/a b\" }\ntwilio = {}",
        &["6:1 alert.sms.http: two providers of text messages"],
    ),
    (
        "[service.shop.switch]\n[service.shop.recovery]\nlevel = \"automatic\"",
        &[
            "3:15 service.shop.switch: no command to run",
            "3:15 service.shop.switch: no fence, without which it is not run by itself",
        ],
    ),
    ("[service.shop.recovery]\nlevel = \"auto\"", &["4:9 service.shop.recovery.level: unknown value"]),
    (
        "[service.shop.recovery]\nlevel = { restart = \"never\" }",
        &["4:21 service.shop.recovery.level.restart: unknown value"],
    ),
    (
        "[alert.email]",
        &[
            "3:8 alert.email: smtp is missing",
            "3:8 alert.email: from is missing",
            "3:8 alert.email: nobody is on call by mail",
        ],
    ),
    (
        "[admin]\ntoken = { env = \"GONE\" }\npassword = { env = \"SHORT\" }",
        &[
            "4:9 admin.token: the environment has no variable GONE",
            "5:12 admin.password: too short to be safe",
        ],
    ),
    (
        "[admin]\ntoken = { env = \"EMPTY\" }\npassword = { file = \"/gone\" }",
        &[
            "4:9 admin.token: the secret is empty",
            "5:12 admin.password: cannot read /gone: No such file or directory (os error 2)",
        ],
    ),
    (
        "[admin]\ntoken = {}\npassword = { env = \"A\", file = \"b\" }",
        &[
            "4:9 admin.token: does not say where the secret is",
            "5:12 admin.password: names two places for one secret",
        ],
    ),
    (
        "[alert.webhook]\nurl = \"hooks.example.com\"\nsecret = { env = \"TOKEN\" }",
        &[
            "4:7 alert.webhook.url: not a web address",
            "5:10 alert.webhook.secret: not a signing secret: whsec_ and 24 to 64 bytes in base64",
        ],
    ),
    (
        "[record]\nminutes = \"1m\"\nhours = true",
        &[
            "4:11 record.minutes: must be at least 1h",
            "5:9 record.hours: true or false where a duration belongs",
        ],
    ),
    ("[service]\nx = 1", &["4:5 service.x: a number where a table belongs"]),
];

#[test]
fn each_broken_config_is_told_what_is_wrong_with_it() {
    for (added, expected) in BROKEN {
        assert_eq!(told(&format!("{SMALLEST}{added}\n")), *expected, "{added}");
    }
}

#[test]
fn text_messages_have_their_documented_defaults() {
    let text = format!(
        "{SMALLEST}[on-call.web]\ntell = [{{ sms = \"+491701234567\" }}]\n[alert.sms]\n\
         twilio = {{ account = \"AC0123456789abcdef0123456789abcdef\", token = {{ env = \"TOKEN\" }}, from = \"+15005550006\" }}"
    );
    let config = read(&text).unwrap();
    let sms = config.alerts.sms.unwrap();
    assert_eq!(sms.budget, 10);
    assert!(matches!(sms.provider, SmsProvider::Twilio { url, .. } if url == "https://api.twilio.com"));
    let call = &config.policy.on_call.calls(None)[0].clone();
    assert_eq!((call.after, call.to.name.as_str()), (Duration::ZERO, "+491701234567"));
    let from = text.find("twilio = ").unwrap();
    let http = "http = { url = \"https://sms.example.com/?t={{ text|urlencode }}\" }";
    let config = read(&format!("{}{http}", &text[..from])).unwrap();
    let Some(SmsProvider::Http(call)) = config.alerts.sms.map(|sms| sms.provider) else { panic!("by HTTP") };
    assert_eq!((call.method.as_str(), call.headers.len(), call.body), ("POST", 0, None));
}

#[test]
fn a_host_that_two_services_claim_is_told_at_the_second() {
    let text = "[service.a]\nhosts = [\"x.example.com\"]\nserver.s.address = \"10.0.0.1:1\"\n[service.b]\nhosts = [\"y.example.com\", \"X.example.com\"]\nserver.s.address = \"10.0.0.1:1\"\n";
    assert_eq!(told(text), ["5:27 service.b.hosts: x.example.com leads to service a already"]);
}

#[test]
fn a_file_without_a_service_says_how_to_write_one() {
    assert_eq!(told(""), ["1:1 service: there is no service"]);
    assert!(read("").unwrap_err().to_string().contains("[service.shop.server.app-1]"));
}

#[test]
fn syntax_errors_do_not_hide_other_mistakes() {
    let text = format!("drain = 30s\nworkers 4\n{SMALLEST}weight = 500\nfoo = {{\n");
    let text = text.replace("foo = {\n", "role = \"bakup\"\n");
    let told = told(&text);
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told[0].starts_with("1:9 : not TOML"), "{told:#?}");
    assert!(told[1].starts_with("2:"), "{told:#?}");
    assert!(told[2].starts_with("5:10 service.shop.server.app-1.weight"), "{told:#?}");
    assert!(read(&text).unwrap_err().to_string().contains("write text in quotes: \"30s\""));
}

#[test]
fn what_a_broken_line_hides_is_not_called_missing() {
    let told = told("[service.shop.server.app-1]\naddress = 127.0.0.1:3000\n");
    assert_eq!(told.len(), 1, "{told:#?}");
}

#[test]
fn a_bracket_that_is_never_closed_is_one_mistake() {
    let told = told(&format!("[listen]\nhttp = [\"127.0.0.1:1\"\n{SMALLEST}"));
    assert!(told.iter().all(|line| line.contains("not TOML")), "{told:#?}");
    assert!(told.len() <= 3, "{told:#?}");
}

#[test]
fn no_secret_is_ever_shown() {
    let text = format!(
        "{SMALLEST}env = {{ KEY = 4711 }}\n[admin]\ntoken = [\"hunter2\"]\npassword = {{ env = \"hunter2\" }}\n[alert.email]\nsmtp = \"smtps://u:hunter2@h\"\npassword = \"hunter2\"\nfrom = 1\n[alert.webhook]\nurl = \"hunter2\"\nsecret = {{ file = 1, pasword = \"hunter2\" }}\n[record]\nsecret = hunter2\n"
    );
    let mistakes = read(&text).unwrap_err();
    assert!(mistakes.count() >= 10, "{mistakes}");
    let shown = format!("{mistakes} {mistakes:?} {}", serde_json::to_string(&mistakes).unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
}

#[test]
fn a_documented_default_is_the_default_that_is_used() {
    fn keys(schema: &serde_json::Value, path: &str, out: &mut String) {
        let properties = schema["properties"].as_object();
        for (key, schema) in properties.into_iter().flatten() {
            // What these need beside is not in the smallest file; their defaults have a test of their own.
            if matches!(
                key.as_str(),
                "deploy" | "replace" | "scale" | "switch" | "state" | "sticky" | "front-check" | "restart"
            ) {
                continue;
            }
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            // Keys of supervised servers are refused beside an address.
            // So are text messages without a provider and a format without a log; their defaults have a test of their own.
            let alone = key == "stop-timeout"
                || key == "capture"
                || path.starts_with("alert.sms.")
                || path == "log.access-format";
            if let Some(default) = schema.get("default").filter(|_| !alone) {
                out.push_str(&format!("{path} = {default}\n"));
            }
            // A probe is of one kind; the particulars of each have a test of their own.
            if !path.starts_with("service.shop.health.") {
                keys(schema, &path, out);
            }
            let named = match key.as_str() {
                "service" => "shop",
                "server" => "app-1",
                _ => continue,
            };
            keys(&schema["additionalProperties"], &format!("{path}.{named}"), out);
        }
    }
    let mut written = String::new();
    keys(&json_schema(), "", &mut written);
    written.push_str("service.shop.server.app-1.address = \"127.0.0.1:3000\"\n");
    assert!(written.contains("service.shop.server.app-1.weight = 1"), "{written}");
    // A status page that nobody could reach is a mistake.
    written.push_str("status.path = \"/status\"\n");
    let smallest = format!("{SMALLEST}[status]\npath = \"/status\"\n");
    assert_eq!(read(&written).unwrap(), read(&smallest).unwrap(), "{written}");
}

#[test]
fn shortening_the_request_shortens_its_tries() {
    let config = read(&format!("{SMALLEST}[service.shop]\ntimeouts.request = \"500ms\"\n")).unwrap();
    let timeouts = config.policy.services[&mainstay_model::ServiceId::new("shop")].carriage.timeouts;
    assert_eq!((timeouts.connect, timeouts.per_try), (timeouts.request, timeouts.request));
}

fn overrides(admin: &str) -> Overrides {
    Overrides { admin: Some(admin.parse().unwrap()), ..Overrides::default() }
}

#[test]
fn servers_of_the_command_line_need_no_file() {
    let servers = ["http://127.0.0.1:3000".to_owned(), "http://app-2:3001/".to_owned()];
    let config = from_servers(&overrides("127.0.0.1:9900"), &servers).unwrap();
    let id = mainstay_model::ServiceId::new("default");
    assert_eq!(config.http[0].to_string(), "127.0.0.1:8080");
    assert_eq!(config.addresses[&id.server("server-2")], ServerAddress::Name("app-2".into(), 3001));
    assert_eq!(config.policy.services[&id].servers.len(), 2);
}

#[test]
fn mistakes_of_the_command_line_name_the_option() {
    let servers =
        ["ftp://127.0.0.1:3000", "http://127.0.0.1:8080", "http://a:1", "http://a:1"].map(str::to_owned);
    let mistakes = from_servers(&overrides("0.0.0.0:9900"), &servers).unwrap_err();
    let keys: Vec<&str> = mistakes.iter().map(|m| m.key.as_str()).collect();
    assert_eq!(
        keys,
        ["--admin", "--server ftp://127.0.0.1:3000", "--server http://127.0.0.1:8080", "--server http://a:1"]
    );
    assert!(mistakes.to_string().starts_with("command line: --admin: "), "{mistakes}");
}

#[test]
fn the_command_line_takes_the_place_of_the_config() {
    let overrides = Overrides {
        listen: vec!["127.0.0.1:1234".parse().unwrap()],
        admin: Some("127.0.0.1:1235".parse().unwrap()),
        data: Some("/tmp/x".into()),
    };
    let config = parse_with(SMALLEST, "m", Path::new("/"), &environment, &overrides).unwrap();
    assert_eq!(
        (config.http, config.admin, config.data),
        (overrides.listen, overrides.admin.unwrap(), "/tmp/x".into())
    );
}

#[test]
fn the_record_is_kept_where_systemd_says() {
    let env = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/private/m:/x".to_owned());
    assert_eq!(user_data_dir(&env), Some("/var/lib/private/m".into()));
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let gone = load(&folder.path().join("gone.toml")).unwrap_err().to_string();
    assert!(gone.contains("there is no such file") && gone.contains("mainstay init"), "{gone}");
    assert!(load(folder.path()).unwrap_err().to_string().contains("cannot be read"));
    let latin1 = folder.path().join("latin1.toml");
    std::fs::write(&latin1, b"a = 1\nb = \"\xe4\"").unwrap();
    let mistake = load(&latin1).unwrap_err();
    let mistake = mistake.iter().next().unwrap();
    assert_eq!((mistake.line, mistake.column), (2, 6));
}

#[test]
fn the_admin_address_is_found_in_a_config_with_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.toml");
    std::fs::write(&path, "foo = 1\n[listen]\nadmin = \"127.0.0.1:1\"\n").unwrap();
    assert_eq!(admin_address(&path).unwrap().to_string(), "127.0.0.1:1");
}

/// Pieces that make texts close to real configs.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        "\n",
        "\n",
        "\"",
        "'",
        ".",
        ",",
        " ",
        "#",
        "\"\"\"",
        "service",
        "shop",
        "server",
        "a",
        "address",
        "\"127.0.0.1:0\"",
        "hosts",
        "\"*\"",
        "listen",
        "http",
        "admin",
        "token",
        "env",
        "file",
        "on-call",
        "tell",
        "email",
        "sms",
        "after",
        "escalate-from",
        "\"{{ text }}\"",
        "alert",
        "smtp",
        "\"smtps://u:p@h\"",
        "health",
        "interval",
        "\"1s\"",
        "1",
        "-1",
        "0.5",
        "nan",
        "true",
        "1979-05-27",
        "command",
        "\"{port}\"",
        "role",
        "é",
        "\u{0}",
        "panic-threshold",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn almost_a_config_never_panics_and_each_mistake_has_its_place(text in pieces()) {
        if let Err(mistakes) = read(&text) {
            prop_assert!(mistakes.count() > 0);
            for mistake in mistakes.iter() {
                prop_assert!(mistake.line >= 1 && mistake.line <= text.matches('\n').count() + 1);
                prop_assert!(mistake.column >= 1);
                prop_assert!(!mistake.what.is_empty() && !mistake.remedy.is_empty());
            }
        }
    }
}

/// The mistakes in a service with these lines, and with a server `app` that is started by this command.
fn told_of(service: &str, command: &str) -> Vec<String> {
    told(&format!(
        "[service.shop]\n{service}\n[service.shop.server.app]\ncommand = [{command}, \"{{port}}\"]\n"
    ))
}

#[test]
fn a_release_to_begin_with_and_a_place_for_it_belong_together() {
    let deploy = "deploy = { release = \"/srv/1\" }";
    assert_eq!(told_of(deploy, "\"{release}/shop\""), Vec::<String>::new());
    assert_eq!(
        told_of("", "\"{release}/shop\""),
        ["1:10 service.shop: a command has {release}, and nothing says which release to begin with"]
    );
    assert!(told_of(deploy, "\"./shop\"")[0].contains("no command of this service has {release}"));
    assert!(
        told_of("deploy = { share = \"20%\" }", "\"{release}/shop\"")[0]
            .contains("nothing says which release")
    );
    let long = "deploy = { release = \"/srv/1\", share = \"60%\", min-time = \"2h\", deadline = \"1h\" }";
    let told = told_of(long, "\"{release}/shop\"");
    assert!(
        told.iter().any(|t| t.contains("at most half"))
            && told.iter().any(|t| t.contains("no trial could pass")),
        "{told:?}"
    );
    let text = format!(
        "[service.shop]\n{deploy}\n[service.shop.server.app]\ncommand = [\"{{release}}/shop\"]\ndir = \"{{release}}\"\n"
    );
    let config = read(&text).unwrap();
    let policy = &config.policy.services[&mainstay_model::ServiceId::new("shop")];
    assert_eq!(policy.deploy, Some(DeployPolicy { first: "/srv/1".to_owned(), ..DeployPolicy::default() }));
    let spec = config.commands.values().next().unwrap().with_release("/srv/2");
    assert_eq!((spec.argv[0].as_str(), spec.dir.unwrap().to_str()), ("/srv/2/shop", Some("/srv/2")));
}

#[test]
fn what_is_scaled_is_one_server_that_mainstay_runs_and_its_instances_have_names() {
    let told = told_of("scale = { max = 4, concurrency = 50 }", "\"./shop\"");
    assert_eq!(told, Vec::<String>::new());
    let told = told_of("scale = { min = 3, max = 2 }", "\"./shop\"");
    assert!(told.iter().any(|t| t.contains("max is less than min")), "{told:?}");
    assert!(told.iter().any(|t| t.contains("nothing says when one instance is not enough")), "{told:?}");
    let told = told_of("scale = { max = 2, concurrency = 5, server = \"web\" }", "\"./shop\"");
    assert!(told[0].contains("no server of this service has this name"), "{told:?}");
    let clash = "[service.shop]\nscale = { max = 3, concurrency = 5, server = \"app\" }\n\
                 [service.shop.server.app]\ncommand = [\"a\"]\n[service.shop.server.app-2]\ncommand = [\"a\"]\n";
    assert!(self::told(clash)[0].contains("server app-2 has the name of an instance of app"));
    let both = clash.replace(", server = \"app\"", "");
    assert!(self::told(&both)[0].contains("several servers have a command"));
    assert!(
        self::told(&format!("{SMALLEST}[service.shop]\nscale = {{ max = 3, concurrency = 5 }}\n"))[0]
            .contains("runs no server")
    );
}

#[test]
fn a_live_name_leads_nobody_to_a_unix_socket() {
    let text = |front: &str| {
        format!(
            "[service.local]\nserver.a.address = \"unix:/run/a.sock\"\n{front}\n[dns.update.\"example.com\"]\n\
             server = \"192.0.2.53\"\nkey = \"mainstay\"\nsecret = {{ env = \"TOKEN\" }}\nlive = {{ local = \"local\" }}"
        )
    };
    let says = |front: &str| {
        told(&text(front)).iter().any(|mistake| mistake.contains("cannot be led to its servers"))
    };
    assert!(says("") && !says("front = \"192.0.2.10\""));
}

#[test]
fn visitors_are_listened_for_at_unix_sockets_and_what_cannot_be_is_told() {
    let listen = "[listen]\nhttp = [\"unix:/run/a.sock\", \"127.0.0.1:80\"]\ntrusted-proxies = \"unix:\"\n";
    let config = read(&format!("{SMALLEST}{listen}unix = {{ mode = \"666\", group = \"root\" }}")).unwrap();
    assert_eq!(config.http[0].to_string(), "unix:/run/a.sock");
    assert_eq!((config.unix.mode, config.unix.user, config.unix.group), (0o666, None, Some(0)));
    assert_eq!(read(SMALLEST).unwrap().unix.mode, 0o660);
    for (more, what) in [
        ("unix.mode = \"999\"", "listen.unix.mode: not a mode"),
        ("unix.mode = \"rw\"", "listen.unix.mode: not a mode"),
        ("unix.group = \"nobody-has-this\"", "there is no group nobody-has-this"),
        ("https = \"unix:/run/a.sock\"", "unix:/run/a.sock is taken by listen.http already"),
        ("https = \"unix:a.sock\"", "begins at the root"),
        ("admin = \"unix:/run/b.sock\"", "this is reached over the network alone"),
        (
            "[service.db]\nlisten = \"unix:/run/a.sock\"\nserver.a.address = \"10.0.0.1:1\"",
            "Mainstay listens on unix:/run/a.sock already",
        ),
        ("[service.shop.server.b]\naddress = \"unix:/run/a.sock\"", "Mainstay itself listens there"),
    ] {
        let told = told(&format!("{SMALLEST}{listen}{more}"));
        assert!(told.iter().any(|mistake| mistake.contains(what)), "{more}: {told:?}");
    }
    let db = "[service.db]\nlisten = [\"unix:/run/db.sock\", \"tcp://127.0.0.1:5432\"]\nserver.a.address = \"unix:/run/pg.sock\"";
    assert_eq!(read(&format!("{SMALLEST}{db}")).unwrap().tcp[0].address.to_string(), "unix:/run/db.sock");
}
