//! People are told exactly once that something is wrong and exactly once that it is over, also when the mail server was
//! away in the meantime.

use std::time::{Duration, Instant};

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};

use crate::harness::api::Api;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mail::{MailSink, Message};
use crate::harness::mainstay::Mainstay;
use crate::harness::scripted::{Reply, Request, Scripted};
use crate::harness::{measured, pause, process, run, until, until_within};
use crate::recovery::pid_of;

/// How long the mail server stays away. A shorter time is for trying the test out, not for believing it.
fn outage() -> Duration {
    let seconds = std::env::var("MAINSTAY_TEST_OUTAGE_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// Long enough for a third message to arrive if there were one.
const NO_MORE_FOR: Duration = Duration::from_secs(4);

fn two_supervised() -> Config {
    Config::new().supervised("app-1").supervised("app-2")
}

/// Kills a server and waits until its incident is over.
async fn suffer_an_incident(api: &Api) {
    api.all_serve().await;
    process::signal(pid_of(&api.server("shop/app-1").await), libc::SIGKILL);
    let id = api.first_incident().await;
    api.resolved(id).await;
}

fn assert_one_thread(messages: &[Message]) {
    let [opened, resolved] = messages else { panic!("not two messages: {messages:#?}") };
    for message in [opened, resolved] {
        assert!(message.header("to").contains("ops@example.com"), "{message:#?}");
        assert!(message.header("from").contains("mainstay@example.com"), "{message:#?}");
        assert!(message.header("subject").contains("shop"), "{message:#?}");
        assert!(!message.header("date").is_empty(), "{message:#?}");
        assert_eq!(message.header("auto-submitted"), "auto-generated", "{message:#?}");
    }
    let first = opened.header("message-id");
    assert!(!first.is_empty() && first != resolved.header("message-id"), "{messages:#?}");
    assert!(
        resolved.header("references").contains(first),
        "the second message belongs to the first: {messages:#?}"
    );
    assert!(!opened.body.trim().is_empty() && !resolved.body.trim().is_empty());
}

#[test]
fn an_incident_sends_exactly_two_messages_in_one_thread() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let mainstay = Mainstay::start(&home, &two_supervised().mail_to(sink.address)).await;
        suffer_an_incident(&mainstay.api()).await;
        until("two messages arrived", async || (sink.messages().len() >= 2).then_some(())).await;
        pause(NO_MORE_FOR).await;
        assert_one_thread(&sink.messages());
    });
}

#[test]
fn a_mail_server_that_was_away_still_gets_exactly_two_messages() {
    run(async {
        let home = Home::new();
        let mut sink = MailSink::down(&home);
        let mainstay = Mainstay::start(&home, &two_supervised().mail_to(sink.address)).await;
        let away_since = Instant::now();
        suffer_an_incident(&mainstay.api()).await;
        pause(outage().saturating_sub(away_since.elapsed())).await;
        sink.up().await;
        let back = Instant::now();
        until_within(Duration::from_secs(120), "two messages arrived", async || {
            (sink.messages().len() >= 2).then_some(())
        })
        .await;
        measured("mail server back to both messages there, ms", back.elapsed().as_millis());
        pause(NO_MORE_FOR).await;
        assert_one_thread(&sink.messages());
    });
}

#[test]
fn a_message_that_waits_survives_a_restart_of_mainstay() {
    run(async {
        let home = Home::new();
        let mut sink = MailSink::down(&home);
        let mainstay = Mainstay::start(&home, &two_supervised().mail_to(sink.address)).await;
        suffer_an_incident(&mainstay.api()).await;
        assert!(mainstay.stop().await.success());
        sink.up().await;
        let _mainstay = Mainstay::again(&home).await;
        until_within(Duration::from_secs(120), "two messages arrived", async || {
            (sink.messages().len() >= 2).then_some(())
        })
        .await;
        pause(NO_MORE_FOR).await;
        assert_one_thread(&sink.messages());
    });
}

#[test]
fn a_webhook_is_signed_as_standard_webhooks_says() {
    run(async {
        let home = Home::new();
        let hook = Scripted::start(|_| Reply::Answer(204, Vec::new())).await;
        let key = b"a key of at least twenty-four bytes";
        let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key));
        std::fs::write(home.path().join("secret"), &secret).expect("a file");
        let config = two_supervised().table(&format!(
            "[alert.webhook]\nurl = \"http://{}/hook\"\nsecret = {{ file = {:?} }}",
            hook.address,
            home.path().join("secret")
        ));
        let mainstay = Mainstay::start(&home, &config).await;
        suffer_an_incident(&mainstay.api()).await;
        until("two calls arrived", async || (hook.seen().len() >= 2).then_some(())).await;
        pause(NO_MORE_FOR).await;
        let calls = hook.seen();
        assert_eq!(calls.len(), 2, "{calls:#?}");
        for call in &calls {
            assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/hook"));
            assert_signed(call, key);
        }
        assert_ne!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
        let bodies: Vec<String> =
            calls.iter().map(|c| String::from_utf8_lossy(&c.body).into_owned()).collect();
        assert!(bodies[0].contains("opened") && bodies[1].contains("resolved"), "{bodies:#?}");
        assert!(!mainstay.log().join("\n").contains(&secret), "a secret is never printed");
    });
}

fn assert_signed(call: &Request, key: &[u8]) {
    let header = |name: &str| call.header(name).unwrap_or_else(|| panic!("no {name} in {call:?}"));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    mac.update(&call.body);
    let right =
        format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes()));
    let given = header("webhook-signature");
    assert!(given.split(' ').any(|one| one == right), "{given} is not {right}");
    serde_json::from_slice::<serde_json::Value>(&call.body).expect("the body is JSON");
}
