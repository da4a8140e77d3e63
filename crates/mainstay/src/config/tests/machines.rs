//! Other machines in the config.

use std::net::IpAddr;

use mainstay_model::MachineId;

use super::*;

#[test]
fn a_machine_has_its_exporters_address_or_those_that_are_written() {
    let text = format!(
        "{SMALLEST}[host]\nwatch = false\ncpu-high = \"70%\"\n\
         [machine.db-1]\nnode-exporter = \"http://10.0.0.5:9100/metrics\"\n\
         [machine.db-2]\nnode-exporter = \"http://[fd00::5]:9100/metrics\"\ninterval = \"5s\"\n\
         [machine.web]\nnode-exporter = \"https://web.example.com/metrics\"\naddresses = [\"10.0.0.7\", \"fd00::7\"]\n"
    );
    let config = read(&text).unwrap();
    let machine = |name: &str| {
        let id = MachineId::new(name);
        (config.machines[&id].clone(), config.policy.machines[&id].clone())
    };
    let addresses = |name: &str| machine(name).1.addresses;
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(addresses("db-1"), [ip("10.0.0.5")]);
    assert_eq!(addresses("db-2"), [ip("fd00::5")]);
    assert_eq!(addresses("web"), [ip("10.0.0.7"), ip("fd00::7")]);
    let (asked, judged) = machine("db-1");
    assert_eq!(
        (asked.url.as_str(), asked.interval),
        ("http://10.0.0.5:9100/metrics", Duration::from_secs(15))
    );
    assert!((judged.limits.cpu_high - 0.7).abs() < 1e-9 && config.policy.host.is_none());
    assert_eq!(machine("db-2").1.interval, Duration::from_secs(5));
}

#[test]
fn what_is_wrong_with_a_machine_is_told_where_it_is_written() {
    let table = [
        ("[machine.db-1]\n", "node-exporter is missing"),
        ("[machine.db-1]\nnode-exporter = \"http://db.example.com/metrics\"\n", "addresses are missing"),
        ("[machine.db-1]\nnode-exporter = \"10.0.0.5:9100\"\n", "machine.db-1.node-exporter"),
        (
            "[machine.db-1]\nnode-exporter = \"http://10.0.0.5:9100/\"\ninterval = \"2m\"\n",
            "must be at most 60s",
        ),
        (
            "[machine.db-1]\nnode-exporter = \"http://10.0.0.5:9100/\"\naddresses = \"10.0.0.5:80\"\n",
            "not an IP address",
        ),
    ];
    for (text, expected) in table {
        let mistakes = told(&format!("{SMALLEST}{text}"));
        assert!(mistakes.len() == 1 && mistakes[0].contains(expected), "{text}: {mistakes:?}");
    }
}
