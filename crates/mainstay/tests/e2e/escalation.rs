//! One person on call after another is told, by mail and by SMS, until somebody takes the incident on: on the dashboard, on
//! the command line, or by the link in a message; whatever the provider does, and also when Mainstay is killed between.

use std::time::Duration;

use serde_json::Value;

use crate::harness::api::Api;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::{self, Connection};
use crate::harness::mail::{MailSink, Message};
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::shop::Shop;
use crate::harness::sms::{Mood, Sms, SmsSink, TOKEN};
use crate::harness::{pause, run, until, until_within};

/// Long enough for a further step to be told if there were one.
const NO_MORE_FOR: Duration = Duration::from_secs(3);

const ADA: &str = "+491701234567";

/// A config with one server of somebody else's, both sinks, and these people on call.
fn config(home: &Home, shop: &Shop<'_>, mail: &MailSink, sms: &SmsSink, tell: &str) -> Config {
    std::fs::write(home.path().join("sms-token"), TOKEN).expect("a file");
    Config::new()
        .external(&shop.name, shop.address)
        .table("[alert]\ndashboard = \"http://ops.example.com\"")
        .table(&format!("[alert.email]\nsmtp = \"smtp://{}\"\nfrom = \"mainstay@example.com\"", mail.address))
        .table(&sms.table(10))
        .table(&format!("[on-call.web]\ntell = [{tell}]"))
}

/// The part of a message's `Message-ID` that says why it was sent.
fn kind(message: &Message) -> String {
    message.header("message-id").split('.').nth(1).unwrap_or_default().to_owned()
}

/// To whom and why, in the order in which they arrived.
fn mails(sink: &MailSink) -> Vec<(String, String)> {
    sink.messages().iter().map(|message| (message.header("to").to_owned(), kind(message))).collect()
}

fn mail(to: &str, kind: &str) -> (String, String) {
    (to.to_owned(), kind.to_owned())
}

/// The path of the link to take it on, from a mail's or an SMS's text.
fn link(text: &str) -> String {
    let text = text.replace("=\n", "").replace("=3D", "=");
    let (_, rest) =
        text.split_once("http://ops.example.com/ack/").unwrap_or_else(|| panic!("no link in {text}"));
    let token: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    format!("/ack/{token}")
}

async fn first_mail(sink: &MailSink) -> Message {
    until("the first mail arrived", async || sink.messages().first().cloned()).await
}

async fn first_sms(sink: &SmsSink) -> Sms {
    until("the first SMS arrived", async || sink.taken().first().cloned()).await
}

/// The messages about an incident as the API tells them: whom, why, and what became of each.
async fn messages(api: &Api, id: u64) -> Vec<(String, String, String)> {
    let answer = api.get(&format!("/api/v1/incidents/{id}/messages")).await.json();
    let text = |value: &Value| value.as_str().unwrap_or("webhook").to_owned();
    let all = answer["messages"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    all.map(|m| (text(&m["to"]["address"]), text(&m["kind"]), text(&m["state"]))).collect()
}

#[test]
fn one_step_follows_another_and_who_was_told_hears_the_end() {
    run(async {
        let home = Home::new();
        let (mail_sink, sms) = (MailSink::start(&home).await, SmsSink::start().await);
        let mut shop = Shop::start(&home, "app-1").await;
        let tell = format!(
            "{{ email = \"ops@example.com\" }}, {{ name = \"Ada\", sms = \"{ADA}\", after = \"2s\" }}, \
             {{ email = \"boss@example.com\", after = \"4s\" }}, {{ email = \"owner@example.com\", after = \"1h\" }}"
        );
        let mainstay = Mainstay::start(&home, &config(&home, &shop, &mail_sink, &sms, &tell)).await;
        let api = mainstay.api();
        api.all_serve().await;
        shop.kill();
        let told = first_sms(&sms).await;
        assert_eq!(mails(&mail_sink), [mail("ops@example.com", "opened")], "the SMS is the second step");
        assert_eq!((told.to.as_str(), told.from.as_str()), (ADA, "+15005550006"));
        assert!(told.body.starts_with("shop DOWN: ") && told.body.contains(", since "), "{}", told.body);
        assert!(told.body.contains(" UTC") && told.body.chars().count() <= 160, "{}", told.body);
        link(&told.body);
        until("the boss is told", async || {
            (sms.taken().len() == 1 && mail_sink.messages().len() == 2).then_some(())
        })
        .await;
        let id = api.first_incident().await;
        until("the provider's receipt is in the record", async || {
            messages(&api, id)
                .await
                .contains(&(ADA.into(), "escalated".into(), "delivered".into()))
                .then_some(())
        })
        .await;
        let incident = api.incident(id).await;
        let names: Vec<&str> = incident["escalation"]["told"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|t| t["to"]["name"].as_str())
            .collect();
        assert_eq!(names, ["ops@example.com", "Ada", "boss@example.com"]);
        assert_eq!(incident["escalation"]["next"]["to"][0]["address"], "owner@example.com");
        until("the timeline says so too", async || {
            api.incident(id).await["timeline"]
                .to_string()
                .contains("the SMS to Ada was delivered")
                .then_some(())
        })
        .await;
        shop.up().await;
        api.resolved(id).await;
        until("everybody hears the end", async || {
            (mail_sink.messages().len() == 4 && sms.taken().len() == 2).then_some(())
        })
        .await;
        let mut all = mails(&mail_sink)[1..].to_vec();
        all.sort();
        let end = [
            ("boss@example.com", "escalated"),
            ("boss@example.com", "resolved"),
            ("ops@example.com", "resolved"),
        ];
        assert_eq!(all, end.map(|(to, kind)| mail(to, kind)));
        assert!(sms.taken()[1].body.starts_with("shop over after "), "{:?}", sms.taken());
    });
}

#[test]
fn a_link_shows_the_incident_takes_it_on_only_by_its_button_and_stops_the_steps() {
    run(async {
        let home = Home::new();
        let (mail_sink, sms) = (MailSink::start(&home).await, SmsSink::start().await);
        let mut shop = Shop::start(&home, "app-1").await;
        let tell = format!("{{ email = \"Bob <bob@example.com>\" }}, {{ sms = \"{ADA}\", after = \"12s\" }}");
        let mut config = config(&home, &shop, &mail_sink, &sms, &tell);
        // Links must work for who cannot log in.
        std::fs::write(home.path().join("password"), "correct horse").expect("a file");
        config = config.table("[admin]\npassword = { file = \"password\" }\ntoken = { file = \"password\" }");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api().with_token("correct horse");
        api.all_serve().await;
        shop.kill();
        let path = link(&first_mail(&mail_sink).await.body);
        let page = http::get(mainstay.admin, &path).await.expect("an answer");
        assert_eq!(page.status, 200);
        assert!(page.text().contains("Take it on as Bob"), "{}", page.text());
        let id = api.first_incident().await;
        assert_eq!(api.incident(id).await["state"], "open", "opening a link changes nothing");
        let forged = format!("{}A{}", &path[..10], &path[11..]);
        let forged = if forged == path { format!("{}B{}", &path[..10], &path[11..]) } else { forged };
        for method in ["GET", "POST"] {
            let mut connection = Connection::open(mainstay.admin).await.expect("it listens");
            let answer =
                connection.send(method, &forged, &[("Connection", "close")], b"").await.expect("an answer");
            assert_eq!(answer.status, 404, "a forged link is none");
        }
        let mut connection = Connection::open(mainstay.admin).await.expect("it listens");
        let headers = [("Origin", "https://evil.example"), ("Connection", "close")];
        let foreign = connection.send("POST", &path, &headers, b"").await.expect("an answer");
        assert_eq!(foreign.status, 403, "another site's page cannot press the button");
        assert_eq!(api.incident(id).await["state"], "open");

        let pressed = http::post(mainstay.admin, &path, b"").await.expect("an answer");
        assert_eq!((pressed.status, pressed.header("location")), (303, Some(path.as_str())));
        let incident = api.incident(id).await;
        assert_eq!(incident["acknowledged"][0], "Bob");
        assert_eq!(incident["escalation"]["next"], Value::Null);
        let page = http::get(mainstay.admin, &path).await.expect("an answer").text();
        assert!(
            page.contains("Taken on by <b>Bob</b>") && !page.contains("<form method=\"post\">"),
            "{page}"
        );
        let taken_at = incident["acknowledged"][1].as_i64().expect("a time");
        until_within(Duration::from_secs(60), "the next step's time has passed", async || {
            (crate::harness::api::now_ms() > taken_at + 13_000).then_some(())
        })
        .await;
        assert_eq!(sms.tried(), 0, "nobody else is told");
        shop.up().await;
        api.resolved(id).await;
        let page = http::get(mainstay.admin, &path).await.expect("an answer").text();
        assert!(page.contains("It is over"), "{page}");
    });
}

#[test]
fn a_provider_that_is_ill_is_tried_again_and_a_bad_number_is_said() {
    run(async {
        let home = Home::new();
        let (mail_sink, sms) = (MailSink::start(&home).await, SmsSink::start().await);
        let mut shop = Shop::start(&home, "app-1").await;
        let tell = format!("{{ sms = \"{ADA}\" }}");
        let config = config(&home, &shop, &mail_sink, &sms, &tell);
        let mut text = config.text(&home);
        // Nobody is told by mail here.
        let (from, to) = (
            text.find("[alert.email]").expect("it is there"),
            text.find("[alert.sms]").expect("it is there"),
        );
        text.replace_range(from..to, "");
        home.write_config(&text);
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        sms.is(Mood::Away);
        shop.kill();
        let mut tried = 0;
        for mood in [Mood::Broken, Mood::Busy, Mood::Undelivered] {
            until("it was tried again", async || (sms.tried() > tried).then_some(())).await;
            sms.is(mood);
            tried = sms.tried();
        }
        first_sms(&sms).await;
        let id = api.first_incident().await;
        until("the provider says that it did not arrive", async || {
            api.incident(id).await["timeline"].to_string().contains("not delivered: ").then_some(())
        })
        .await;
        assert!(messages(&api, id).await.contains(&(ADA.into(), "opened".into(), "failed".into())));
        sms.is(Mood::BadNumber);
        shop.up().await;
        api.resolved(id).await;
        until("the end was refused for good", async || {
            let messages = messages(&api, id).await;
            messages.contains(&(ADA.into(), "resolved".into(), "failed".into())).then_some(())
        })
        .await;
        let answer = api.get(&format!("/api/v1/incidents/{id}/messages")).await.text();
        assert!(answer.contains("21211"), "{answer}");
        assert_eq!(sms.taken().len(), 1);
        until("it is trouble of Mainstay's own", async || {
            api.status().await["own_trouble"].to_string().contains("21211").then_some(())
        })
        .await;
    });
}

#[test]
fn a_storm_sends_no_more_than_the_budget_also_over_a_kill_of_mainstay() {
    run(async {
        let home = Home::new();
        let (mail_sink, sms) = (MailSink::start(&home).await, SmsSink::start().await);
        let mut shop = Shop::start(&home, "app-1").await;
        let tell = format!("{{ email = \"ops@example.com\" }}, {{ sms = \"{ADA}\" }}");
        let mut config = config(&home, &shop, &mail_sink, &sms, &tell);
        config.tables = config.tables.replace(&sms.table(10), &sms.table(3));
        for n in 1..=7 {
            config = config.table(&format!(
                "[service.s{n}]\nhosts = \"s{n}.example.com\"\nhealth = {{ http = \"/healthz\" }}\nresolve-after = \"2s\"\n\
                 server.app.address = \"{}\"",
                shop.address
            ));
        }
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        shop.kill();
        until("the budget's last message arrived", async || (sms.taken().len() == 3).then_some(())).await;
        let last = sms.taken()[2].body.clone();
        assert!(last.starts_with("Mainstay: 6 more alerts were held back"), "{:#?}", sms.taken());
        assert!(sms.taken()[0].body.contains(" DOWN: "));
        until("all mails arrived", async || (mail_sink.messages().len() >= 8).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        shop.up().await;
        let api = mainstay.api();
        until("every incident is over", async || {
            api.incidents().await.iter().all(|incident| incident["state"] == "resolved").then_some(())
        })
        .await;
        until("the end was held back", async || {
            let held: Vec<_> = messages(&api, 1).await;
            held.contains(&(ADA.into(), "resolved".into(), "held-back".into())).then_some(())
        })
        .await;
        pause(NO_MORE_FOR).await;
        assert_eq!(sms.taken().len(), 3, "{:#?}", sms.taken());
        assert_eq!(api.status().await["own_trouble"], serde_json::json!([]), "a budget is no trouble");
    });
}

#[test]
fn mainstay_that_is_killed_between_two_steps_loses_none_and_doubles_none() {
    run(async {
        let home = Home::new();
        let (mail_sink, sms) = (MailSink::start(&home).await, SmsSink::start().await);
        let mut shop = Shop::start(&home, "app-1").await;
        let tell = format!(
            "{{ email = \"ops@example.com\" }}, {{ sms = \"{ADA}\", after = \"4s\" }}, \
             {{ email = \"boss@example.com\", after = \"8s\" }}"
        );
        let mainstay = Mainstay::start(&home, &config(&home, &shop, &mail_sink, &sms, &tell)).await;
        mainstay.api().all_serve().await;
        shop.kill();
        first_mail(&mail_sink).await;
        // It is noted that the mail was taken before the kill, or it would rightly be sent again.
        let taken = ("ops@example.com".to_owned(), "opened".to_owned(), "accepted".to_owned());
        until("the mail is noted", async || {
            messages(&mainstay.api(), 1).await.contains(&taken).then_some(())
        })
        .await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        first_sms(&sms).await;
        let taken = |state: &str| (ADA.to_owned(), "escalated".to_owned(), state.to_owned());
        until("the SMS is noted", async || {
            let messages = messages(&mainstay.api(), 1).await;
            (messages.contains(&taken("accepted")) || messages.contains(&taken("delivered"))).then_some(())
        })
        .await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        until("the boss is told", async || {
            mails(&mail_sink).contains(&mail("boss@example.com", "escalated")).then_some(())
        })
        .await;
        let printed = once(&home, &["ack", "1", "--by", "Ada", "--admin", &mainstay.admin.to_string()]).await;
        let said = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(printed.status.success() && said.contains("taken on by Ada"), "{said}");
        pause(NO_MORE_FOR).await;
        assert_eq!(sms.taken().len(), 1, "{:?}", sms.taken());
        assert_eq!(mails(&mail_sink).len(), 2, "{:?}", mails(&mail_sink));
    });
}

#[test]
fn a_test_message_goes_over_every_way_and_says_what_became_of_each() {
    run(async {
        let home = Home::new();
        let (mail_sink, sms) = (MailSink::start(&home).await, SmsSink::start().await);
        let shop = Shop::start(&home, "app-1").await;
        let tell = format!(
            "{{ email = \"ops@example.com\" }}, {{ name = \"Ada\", sms = \"{ADA}\", after = \"5m\" }}"
        );
        home.write_config(&config(&home, &shop, &mail_sink, &sms, &tell).text(&home));
        let path = home.config();
        let path = path.to_str().expect("UTF-8");
        let printed = once(&home, &["test-alert", "-c", path]).await;
        let said = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(printed.status.success(), "{said}");
        assert!(
            said.contains("mail to ops@example.com") && said.contains("SMS to Ada (+491701234567)"),
            "{said}"
        );
        assert!(
            said.contains("delivered") && sms.taken()[0].body.contains("TEST"),
            "{said} {:?}",
            sms.taken()
        );
        let mail = first_mail(&mail_sink).await;
        assert!(mail.header("subject").contains("TEST") && !mail.body.contains("/ack/"), "{mail:?}");
        sms.is(Mood::BadNumber);
        let printed = once(&home, &["test-alert", "Ada", "-c", path]).await;
        let said = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert_eq!(printed.status.code(), Some(1));
        assert!(said.contains("error 21211") && !said.contains("mail"), "{said}");
    });
}
