//! How servers that Mainstay does not start itself are restarted, as it is written, and what is refused of it.

use std::time::Duration;

use super::*;

fn restart(text: &str) -> Result<Config, Mistakes> {
    read(&format!("{SMALLEST}restart = {{ {text} }}\n"))
}

fn spec(text: &str) -> RestartSpec {
    restart(text).unwrap().restarts.into_values().next().expect("a restart")
}

#[test]
fn each_kind_has_its_defaults_and_knows_its_server() {
    let unit = spec("systemd = \"{service}@{server}.service\"");
    let systemctl = vec!["systemctl".to_owned()];
    assert_eq!(unit.how, RestartHow::Systemd { unit: "shop@app-1.service".to_owned(), systemctl });
    assert_eq!((unit.over.as_ref(), unit.deadline), (None, Duration::from_secs(60)));
    assert_eq!(unit.to_string(), "systemctl restart shop@app-1.service");
    let container = spec("docker = \"shop-{server}\", over = \"ssh://deploy@10.0.0.11\"");
    let socket = "/run/docker.sock".into();
    assert_eq!(container.how, RestartHow::Docker { container: "shop-app-1".to_owned(), socket });
    assert_eq!(container.to_string(), "docker restart shop-app-1 on 10.0.0.11");
    let over = "{ to = \"ssh://app:2222\", key = \"id\", known-hosts = \"/etc/known\" }";
    let text = "command = [\"./bounce\", \"{host}:{port}\"], deadline = \"5s\"";
    let command = spec(&format!("{text}, over = {over}"));
    assert_eq!(command.how, RestartHow::Command(vec!["./bounce".to_owned(), "127.0.0.1:3000".to_owned()]));
    let remote = command.over.expect("another machine");
    assert_eq!((remote.user, remote.port), (None, Some(2222)));
    assert_eq!(remote.key.as_deref(), Some(Path::new("/etc/mainstay/id")));
    assert_eq!(remote.known_hosts.as_deref(), Some(Path::new("/etc/known")));
}

#[test]
fn the_judge_knows_by_what_it_is_done_and_that_it_has_changed() {
    let policy = |text: &str| {
        let config = restart(text).unwrap();
        config.policy.services.into_values().next().unwrap().servers.into_values().next().unwrap()
    };
    let one = policy("systemd = \"shop.service\"");
    let by = one.restart.expect("a restart");
    assert_eq!((by.by.as_str(), by.deadline), ("systemctl restart shop.service", Duration::from_secs(60)));
    let other = policy("systemd = \"shop.service\", over = \"ssh://app\"");
    assert_ne!(one.command_version, other.command_version, "another way has a budget of its own");
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_remedy() {
    for (text, wanted) in [
        ("", "a server is restarted in one way"),
        ("systemd = \"a.service\", docker = \"a\"", "a server is restarted in one way"),
        ("systemd = \"-f\"", "not the name of a unit"),
        ("systemd = \"a b\"", "not the name of a unit"),
        ("systemd = \"a.service\", systemctl = []", "no program to run"),
        ("systemd = \"a.service\", socket = \"/run/docker.sock\"", "says nothing here"),
        ("docker = \"../x\"", "not the name of a container"),
        ("docker = \"a\", systemctl = [\"sudo\"]", "says nothing here"),
        ("command = []", "no program to run"),
        ("command = [\"a\"], over = \"deploy@app\"", "not a machine that ssh could reach"),
        ("command = [\"a\"], over = { key = \"id\" }", "nothing says which machine"),
        ("command = [\"a\"], over = \"ssh://-oProxyCommand=x\"", "not a machine that ssh could reach"),
    ] {
        let told = restart(text).expect_err(text).to_string();
        assert!(told.contains(wanted), "{text}: {told}");
    }
    let beside = "[service.shop.server.app-1]\ncommand = [\"./shop\"]\nrestart = { docker = \"a\" }\n";
    let told = read(beside).unwrap_err().to_string();
    assert!(told.contains("Mainstay starts this server itself"), "{told}");
    let many = "[service.shop.server.app]\naddress = \"srv+http://_http._tcp.shop.internal\"\nrestart = { docker = \"a\" }\n";
    let told = read(many).unwrap_err().to_string();
    assert!(told.contains("may stand for many servers"), "{told}");
}
