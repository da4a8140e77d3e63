//! Servers that keep state as they are written, and what is refused of them.

use mainstay_model::ServiceId;
use mainstay_model::policy::{Promote, Serves, ServicePolicy};

use super::{read, told};
use crate::config::probe::ProbeSpec;

/// A service with two databases, and these lines.
fn db(lines: &str) -> String {
    format!(
        "[service.db]\nlisten = \"tcp://127.0.0.1:5432\"\n{lines}\n\
         [service.db.server.a]\naddress = \"10.0.0.11:5432\"\n[service.db.server.b]\naddress = \"10.0.0.12:5432\"\n"
    )
}

const ASKS: &str = "health = { postgres = { user = \"mainstay\" } }";

fn policy(lines: &str) -> ServicePolicy {
    let config = read(&db(&format!("{ASKS}\n{lines}"))).expect("no mistake");
    let id = ServiceId::new("db");
    let asks = |spec: &ProbeSpec| matches!(spec, ProbeSpec::Postgres(probe) if probe.state);
    assert!(asks(&config.probes[&id]), "the probe asks for more");
    config.policy.services[&id].clone()
}

#[test]
fn a_database_is_said_in_one_word_and_may_be_switched_by_a_person_without_a_switch() {
    let service = policy("state = \"postgres\"");
    assert_eq!(service.state.map(|state| state.serves), Some(Serves::Writes));
    let switch = service.switch.expect("for a person");
    assert_eq!((switch.fence, switch.promote), (false, Promote::Nobody));
    let reads = policy("state = { kind = \"postgres\", serves = \"reads\" }");
    assert_eq!(reads.state.map(|state| state.serves), Some(Serves::Reads));
}

#[test]
fn who_promotes_is_the_command_or_mainstay_or_somebody_else() {
    let promote = |keys: &str| {
        let lines = format!("state = \"postgres\"\nswitch = {{ fence = [\"/bin/true\"], {keys} }}");
        let switch = policy(&lines).switch.expect("a switch");
        (switch.promote, switch.lag_max)
    };
    assert_eq!(promote("promote = \"pg_promote\""), (Promote::Postgres, 1 << 20));
    assert_eq!(promote("promote = \"pg_promote\", lag-max = \"16MiB\""), (Promote::Postgres, 16 << 20));
    assert_eq!(promote("command = [\"/bin/promote\"]").0, Promote::Command);
    assert_eq!(promote("after = \"1s\"").0, Promote::Nobody);
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_remedy() {
    let state = format!("{ASKS}\nstate = \"postgres\"");
    for (lines, wanted) in [
        ("state = \"oracle\"".to_owned(), "unknown value"),
        ("state = { serves = \"reads\" }".to_owned(), "no kind of server"),
        ("state = \"postgres\"".to_owned(), "no probe tells who is the primary"),
        (
            "state = \"postgres\"\nhealth = { postgres = true }".to_owned(),
            "no probe tells who is the primary",
        ),
        (
            "state = \"postgres\"\nhealth = { postgres = { user = \"a\", role = \"primary\" } }".to_owned(),
            "each of them may be the primary",
        ),
        (format!("{state}\non-down = \"keep\""), "one server takes the writes"),
        (format!("{state}\nserver.b.role = \"backup\""), "one server takes the writes"),
        (format!("{state}\nswitch = {{ back = [\"/bin/back\"] }}"), "have no usual side"),
        (
            format!("{state}\nswitch = {{ promote = \"pg_promote\", command = [\"/bin/promote\"] }}"),
            "command promotes already",
        ),
        (format!("{state}\nswitch = {{ lag-max = \"1MiB\" }}"), "only Mainstay itself goes by lag-max"),
        (
            format!(
                "{state}\nrecovery = {{ level = \"automatic\" }}\nswitch = {{ promote = \"pg_promote\" }}"
            ),
            "no fence, without which it is not run by itself",
        ),
        (
            format!(
                "{ASKS}\nstate = {{ kind = \"postgres\", serves = \"reads\" }}\n\
                 switch = {{ fence = [\"/bin/true\"] }}"
            ),
            "only the service that takes the writes is switched",
        ),
        (
            format!("{ASKS}\nswitch = {{ command = [\"/bin/a\"], promote = \"pg_promote\" }}"),
            "it says nothing without state",
        ),
    ] {
        let mistakes = told(&db(&lines)).join("\n");
        assert!(mistakes.contains(wanted), "{lines}: {mistakes}");
    }
    let http = "[service.db]\nstate = \"postgres\"\nserver.a.address = \"10.0.0.11:5432\"\n";
    assert!(told(http).join("\n").contains("state says nothing without listen"));
}
