//! How a server that cannot be brought back is replaced, as it is written, and what is refused of it.

use std::time::Duration;

use mainstay_model::policy::{Provider, ReplacePolicy};

use super::*;

fn text(replace: &str) -> String {
    format!(
        "[service.shop]\nreplace = {{ {replace} }}\n{SMALLEST}[service.shop.server.own]\ncommand = [\"./shop\"]\n"
    )
}

fn policy(replace: &str) -> (ReplacePolicy, Option<ReplaceSpec>) {
    let config = read(&text(replace)).unwrap();
    let service = config.policy.services.into_values().next().unwrap();
    (service.replace.expect("it is written"), config.replaces.into_values().next())
}

#[test]
fn each_provider_has_its_defaults() {
    let (policy_, spec) = policy("process = \"own\"");
    assert_eq!(policy_, ReplacePolicy { by: Provider::Process("own".into()), ..ReplacePolicy::default() });
    assert_eq!(spec, None, "Mainstay does it itself");
    let (policy_, spec) =
        policy("docker = { image = \"shop:42\", port = 3000, env = { A = \"b\" } }, max = 2, budget = 5");
    assert_eq!(
        (policy_.by, policy_.max, policy_.budget),
        (Provider::Other("docker shop:42".to_owned()), 2, 5)
    );
    let Some(ReplaceSpec { how: ReplaceHow::Docker(container), .. }) = spec else { panic!("{spec:?}") };
    assert_eq!((container.network.as_str(), container.port, container.command), ("bridge", Some(3000), None));
    assert_eq!(container.env, [("A".to_owned(), "b".to_owned())].into());
    assert_eq!(&*container.socket, "/run/docker.sock");
    let (policy_, spec) =
        policy("command = { create = [\"./make\", \"one\"] }, destroy-after = \"0s\", after = \"5s\"");
    assert_eq!((policy_.destroy_after, policy_.after), (Duration::ZERO, Duration::from_secs(5)));
    let create = vec!["./make".to_owned(), "one".to_owned()];
    assert_eq!(spec.unwrap().how, ReplaceHow::Command { create, destroy: None, list: None });
}

#[test]
fn the_defaults_of_the_reference_are_those_that_are_used() {
    let written = "docker = { image = \"shop:42\", port = 3000, network = \"bridge\", socket = \"/run/docker.sock\" }, \
                   after = \"1m\", deadline = \"60s\", healthy-within = \"1m\", destroy-after = \"1h\", max = 1, budget = 3";
    assert_eq!(policy(written), policy("docker = { image = \"shop:42\", port = 3000 }"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (replace, wanted) in [
        ("", "an instance is made in one way"),
        ("process = \"own\", command = { create = [\"a\"] }", "an instance is made in one way"),
        ("process = \"app-1\"", "Mainstay does not run this server"),
        ("process = \"nobody\"", "no server of this service has this name"),
        ("docker = { port = 80 }", "no image"),
        ("docker = { image = \"a b\", port = 80 }", "not the name of an image"),
        ("docker = { image = \"shop:42\" }", "nothing says on which port it listens"),
        ("command = { list = [\"a\"] }", "no program makes an instance"),
        ("command = { create = [] }", "no program to run"),
    ] {
        let told = told(&text(replace));
        assert!(told.iter().any(|mistake| mistake.contains(wanted)), "{replace}: {told:?}");
    }
    let like_ours = format!("{}[service.shop.server.own-r2]\ncommand = [\"a\"]\n", text("process = \"own\""));
    assert!(told(&like_ours)[0].contains("has the name of an instance in the place of another one"));
}
