//! Probes as they are written, and what is refused of them.

use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::policy::ProbeKind;

use super::{read, told};
use crate::config::probe::{DataRole, Expect, ProbeSpec, StartTls};

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
    ] {
        let told = told(&service(health)).join("\n");
        assert!(told.contains(what), "{health}: {told}");
    }
    let told = read(&format!("{}[service.db.server-tls]\nname = \"db.internal\"\n", service("redis = true")))
        .unwrap_err()
        .to_string();
    assert!(told.contains("write tls = true in the table of its probe"), "{told}");
}
