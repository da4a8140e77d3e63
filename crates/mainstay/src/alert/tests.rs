//! Alerts against real peers: what arrives, in which order, how often, and what is said when it does not.

use mainstay_model::effect::NoticeKind::{NeedsPerson, Opened, Resolved};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::testing::{DEADLINE, MailServer, Receiver, delivery, header, next, night};
use super::*;
use crate::config::{EmailConfig, SmtpTls, WebhookConfig};

/// As in earnest, but with little time between attempts.
pub(super) const QUICK: Limits = Limits {
    email: DEADLINE,
    webhook: DEADLINE,
    sms: DEADLINE,
    receipt: Duration::from_millis(20),
    gather: Duration::from_millis(500),
    delay_base: Duration::from_millis(20),
    delay_max: Duration::from_millis(100),
};

fn by_mail(email: EmailConfig) -> AlertConfig {
    let dashboard = Some("https://ops.example.com".to_owned());
    AlertConfig { email: Some(email), dashboard, ..AlertConfig::default() }
}

fn by_webhook(webhook: WebhookConfig) -> AlertConfig {
    AlertConfig { webhook: Some(webhook), ..AlertConfig::default() }
}

/// Links by a key that is kept nowhere.
fn links() -> Arc<Links> {
    let folder = tempfile::tempdir().expect("a folder");
    let links = Links::new(folder.path());
    links.prepare().expect("a key");
    Arc::new(links)
}

fn alerts(config: AlertConfig) -> (Alerts, mpsc::Receiver<Report>) {
    alerts_within(config, QUICK, 64)
}

pub(super) fn alerts_within(
    config: AlertConfig,
    limits: Limits,
    room: usize,
) -> (Alerts, mpsc::Receiver<Report>) {
    let (tell, reports) = mpsc::channel(room);
    (Alerts::with_limits(config, tell, links(), limits), reports)
}

fn failure(attempted: Attempted) -> DeliveryError {
    attempted.result.expect_err("it fails")
}

#[tokio::test]
async fn mails_of_one_incident_form_a_thread_and_go_to_one_person_with_a_link_of_their_own() {
    let server = MailServer::start(json!({}));
    let (alerts, mut attempted) = alerts(by_mail(server.config(SmtpTls::None)));
    assert_eq!(alerts.channels(), [Channel::Email]);
    for (row, kind) in [(1, Opened), (2, NeedsPerson), (3, Resolved)] {
        alerts.deliver(delivery(row, Channel::Email, kind));
    }
    for row in 1..=3 {
        let attempted = next(&mut attempted).await;
        assert_eq!((attempted.row, attempted.attempts, attempted.result), (row, 1, Ok(())));
    }
    let opened = server.told().await;
    let id = header(&opened, "Message-ID").expect("an id");
    assert!(id.starts_with("<incident-7.opened.") && id.ends_with("@example.com>"), "{id}");
    assert_eq!(opened["to"], json!(["ops@example.com"]));
    assert_eq!(header(&opened, "To").as_deref(), Some("ops@example.com"));
    let data = opened["data"].as_str().expect("a message").replace("=\r\n", "");
    assert!(data.contains("https://ops.example.com/ack/"), "{data}");
    assert_eq!(header(&opened, "From").as_deref(), Some("Mainstay <mainstay@example.com>"));
    assert_eq!(header(&opened, "Auto-Submitted").as_deref(), Some("auto-generated"));
    assert_eq!(header(&opened, "In-Reply-To"), None);
    for _ in [NeedsPerson, Resolved] {
        let reply = server.told().await;
        assert_eq!(header(&reply, "In-Reply-To").as_ref(), Some(&id));
        assert_eq!(header(&reply, "References").as_ref(), Some(&id));
        assert_ne!(header(&reply, "Message-ID").as_ref(), Some(&id));
        println!("{}", reply["data"].as_str().expect("a message"));
    }
    assert!(server.more().is_empty());
    println!("{}", opened["data"].as_str().expect("a message"));
}

#[tokio::test]
async fn mail_goes_by_tls_from_the_first_byte_with_the_configs_own_authority() {
    let server = MailServer::start(json!({ "tls": "implicit", "login": ["user", "right"] }));
    let config = server.login(SmtpTls::Implicit, "user", "right");
    let (alerts, mut attempted) = alerts(by_mail(EmailConfig { ca: None, ..config.clone() }));
    alerts.deliver(delivery(1, Channel::Email, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(!error.permanent && error.text.to_lowercase().contains("certificate"), "{error}");
    alerts.apply(by_mail(config));
    while next(&mut attempted).await.result.is_err() {}
    let told = server.told().await;
    assert_eq!((&told["tls"], &told["login"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn mail_goes_by_starttls_and_a_refused_login_is_tried_again_with_the_mended_config() {
    let server = MailServer::start(json!({ "tls": "starttls", "login": ["user", "right"] }));
    let (alerts, mut attempted) = alerts(by_mail(server.login(SmtpTls::StartTls, "user", "wr0ng")));
    alerts.deliver(delivery(1, Channel::Email, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(!error.permanent && error.text.contains("check user and password"), "{error}");
    assert!(!error.text.contains("wr0ng"), "no secret in a text: {error}");
    alerts.apply(by_mail(server.login(SmtpTls::StartTls, "user", "right")));
    while next(&mut attempted).await.result.is_err() {}
    let told = server.told().await;
    assert_eq!((&told["tls"], &told["login"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn a_server_that_offers_no_starttls_gets_nothing() {
    let server = MailServer::start(json!({}));
    let (alerts, mut attempted) = alerts(by_mail(server.config(SmtpTls::StartTls)));
    alerts.deliver(delivery(1, Channel::Email, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(!error.permanent && error.text.contains("STARTTLS"), "{error}");
    assert!(server.more().is_empty());
}

#[tokio::test]
async fn a_server_that_answers_451_gets_the_message_once_when_it_is_ready() {
    let server = MailServer::start(json!({ "fail_first": 2 }));
    let (alerts, mut attempted) = alerts(by_mail(server.config(SmtpTls::None)));
    alerts.deliver(Delivery { attempts: 5, ..delivery(1, Channel::Email, Opened) });
    for attempts in [6, 7] {
        let tried = next(&mut attempted).await;
        assert_eq!(tried.attempts, attempts, "counted on from the earlier run");
        assert!(!failure(tried).permanent);
        assert_eq!(server.told().await, json!({ "event": "451" }));
    }
    assert_eq!(next(&mut attempted).await.result, Ok(()));
    assert!(server.told().await["data"].is_string());
    assert!(server.more().is_empty());
}

#[tokio::test]
async fn a_provider_that_was_away_gets_exactly_the_opened_and_then_the_resolved() {
    let port = MailServer::start(json!({})).port;
    let away = EmailConfig {
        host: "127.0.0.1".to_owned(),
        port,
        tls: SmtpTls::None,
        login: None,
        ca: None,
        from: "mainstay@example.com".to_owned(),
    };
    let (alerts, mut attempted) = alerts(by_mail(away));
    alerts.deliver(delivery(1, Channel::Email, Opened));
    let refused = failure(next(&mut attempted).await);
    assert!(refused.text.contains("refused"), "{refused}");
    alerts.deliver(delivery(2, Channel::Email, Resolved));
    for _ in 0..3 {
        assert_eq!(next(&mut attempted).await.row, 1, "the second waits for the first");
    }
    let server = MailServer::start(json!({ "port": port }));
    let mut delivered = Vec::new();
    while delivered.len() < 2 {
        let attempted = next(&mut attempted).await;
        if attempted.result.is_ok() {
            delivered.push(attempted.row);
        }
    }
    assert_eq!(delivered, [1, 2]);
    let subject = |message| header(&message, "Subject").expect("a subject");
    assert!(subject(server.told().await).starts_with("[shop] degraded: "));
    assert!(subject(server.told().await).starts_with("[shop] resolved after "));
    assert!(server.more().is_empty());
}

#[tokio::test]
async fn a_message_that_is_refused_for_good_is_given_up_and_the_next_goes_on() {
    let server = MailServer::start(json!({ "answer": "554 5.7.1 this looks like spam" }));
    let (alerts, mut attempted) = alerts(by_mail(server.config(SmtpTls::None)));
    alerts.deliver(delivery(1, Channel::Email, Opened));
    alerts.deliver(delivery(2, Channel::Email, Resolved));
    for row in [1, 2] {
        let tried = next(&mut attempted).await;
        assert_eq!((tried.row, tried.attempts), (row, 1));
        let error = failure(tried);
        assert!(error.permanent && error.text.contains("looks like spam"), "{error}");
    }
}

#[tokio::test]
async fn one_refused_recipient_does_not_keep_the_others_from_hearing() {
    let server = MailServer::start(json!({ "refuse": ["ops@example.com"], "later": ["night@example.com"] }));
    let (alerts, mut attempted) = alerts(by_mail(server.config(SmtpTls::None)));
    alerts.deliver(delivery(1, Channel::Email, Opened));
    alerts.deliver(Delivery { to: Some(night()), ..delivery(2, Channel::Email, Opened) });
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        let tried = next(&mut attempted).await;
        outcomes.push((tried.row, tried.result.map_err(|error| error.permanent)));
    }
    outcomes.sort();
    assert_eq!(outcomes, [(1, Err(true)), (2, Ok(())), (2, Err(false))]);
    assert_eq!(server.told().await["to"], json!(["night@example.com"]));
    assert!(server.more().is_empty());
}

#[tokio::test]
async fn a_mail_server_that_stalls_is_left_after_the_deadline() {
    let server = MailServer::start(json!({ "stall": true }));
    let (alerts, mut attempted) = alerts_within(
        by_mail(server.config(SmtpTls::None)),
        Limits { email: Duration::from_secs(2), ..QUICK },
        64,
    );
    alerts.deliver(delivery(1, Channel::Email, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(!error.permanent && error.text.contains("did not finish within 2s"), "{error}");
}

#[tokio::test]
async fn a_mail_server_that_never_ends_its_line_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.expect("a connection");
        while peer.write_all(&[b'2'; 4096]).await.is_ok() {}
    });
    let email = EmailConfig {
        host: "127.0.0.1".to_owned(),
        port,
        tls: SmtpTls::None,
        login: None,
        ca: None,
        from: "mainstay@example.com".to_owned(),
    };
    let (alerts, mut attempted) = alerts(by_mail(email));
    alerts.deliver(delivery(1, Channel::Email, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(!error.permanent && error.text.contains("more than a mail server has to say"), "{error}");
}

#[tokio::test]
async fn other_letters_than_english_ones_arrive() {
    let server = MailServer::start(json!({}));
    let (alerts, mut attempted) = alerts(by_mail(server.config(SmtpTls::None)));
    let mut delivery = delivery(1, Channel::Email, Opened);
    delivery.notice.title = "Die Bücherei ist aus".to_owned();
    alerts.deliver(delivery);
    assert_eq!(next(&mut attempted).await.result, Ok(()));
    let told = server.told().await;
    assert_eq!(header(&told, "MIME-Version").as_deref(), Some("1.0"));
    assert_eq!(header(&told, "Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
    let data = told["data"].as_str().expect("a message");
    assert!(data.is_ascii() && data.contains("B=C3=BCcherei"), "{data}");
}

#[tokio::test]
async fn when_it_is_dropped_nothing_is_tried_any_longer() {
    let away = WebhookConfig { url: "http://127.0.0.1:1/".to_owned(), secret: None };
    let (alerts, mut attempted) = alerts(by_webhook(away));
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    next(&mut attempted).await;
    drop(alerts);
    let end = tokio::time::timeout(DEADLINE, async { while attempted.recv().await.is_some() {} }).await;
    assert_eq!(end, Ok(()), "the lanes have ended");
}

#[tokio::test]
async fn a_channel_that_left_the_config_ends_what_waits_for_it_and_says_so() {
    let (alerts, mut attempted) =
        alerts(by_webhook(WebhookConfig { url: "http://127.0.0.1:1/never".to_owned(), secret: None }));
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    assert!(!failure(next(&mut attempted).await).permanent);
    alerts.apply(AlertConfig::default());
    assert_eq!(alerts.channels(), []);
    let error = loop {
        let error = failure(next(&mut attempted).await);
        if error.permanent {
            break error;
        }
    };
    assert!(error.text.contains("`alert.webhook` was taken out of the config"), "{error}");
}

#[tokio::test]
async fn a_message_older_than_a_day_is_tried_once_and_then_given_up() {
    let webhook = WebhookConfig { url: "http://127.0.0.1:1/secret-path".to_owned(), secret: None };
    let (alerts, mut attempted) = alerts(by_webhook(webhook));
    let mut old = delivery(1, Channel::Webhook, Opened);
    old.notice.at.0 -= 25 * 3_600_000;
    alerts.deliver(old);
    let error = failure(next(&mut attempted).await);
    assert!(error.permanent && error.text.starts_with("given up after 24 hours"), "{error}");
    assert!(!error.text.contains("secret-path"), "a webhook's path may be a secret: {error}");
}

#[tokio::test]
async fn a_slow_engine_loses_no_report_and_blocks_no_caller() {
    let mut receiver = Receiver::start().await;
    let (alerts, mut attempted) = alerts_within(by_webhook(receiver.config("/ok")), QUICK, 1);
    for row in 1..=40 {
        let mut delivery = delivery(row, Channel::Webhook, Opened);
        delivery.notice.incident = IncidentId(row.unsigned_abs());
        alerts.deliver(delivery);
    }
    let mut called = 0;
    while called < 40 {
        receiver.call().await;
        called += 1;
    }
    let mut rows = Vec::new();
    for _ in 0..40 {
        rows.push(next(&mut attempted).await.row);
    }
    rows.sort_unstable();
    assert_eq!(rows, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_more_messages_wait_than_the_limit() {
    let away = WebhookConfig { url: "http://127.0.0.1:1/".to_owned(), secret: None };
    let (alerts, _attempted) = alerts(by_webhook(away));
    for row in 0..WAITING_MAX as i64 + 50 {
        alerts.deliver(delivery(row, Channel::Webhook, Opened));
    }
    let lanes = alerts.shared.lanes();
    let waiting: usize = lanes.queues.values().map(VecDeque::len).sum();
    assert_eq!((waiting, lanes.waiting), (WAITING_MAX, WAITING_MAX));
}

#[tokio::test]
async fn a_webhook_is_signed_and_called_again_under_the_same_id_until_it_accepts() {
    let mut receiver = Receiver::start().await;
    let config = AlertConfig {
        dashboard: Some("https://ops.example.com/".to_owned()),
        ..by_webhook(receiver.config("/500-then-ok"))
    };
    let (alerts, mut attempted) = alerts(config);
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    let error = failure(next(&mut attempted).await);
    assert_eq!(error.text, "127.0.0.1: the webhook answered 500 Internal Server Error: the database is away");
    assert_eq!(next(&mut attempted).await.result, Ok(()));
    let (first, second) = (receiver.call().await, receiver.call().await);
    assert!(first.signed && second.signed);
    assert_eq!((&first.id, &first.body), (&second.id, &second.body));
    assert_eq!(first.body["type"], "incident.opened");
    let data = &first.body["data"];
    assert_eq!(
        (&data["incident"], &data["link"]),
        (&json!(7), &json!("https://ops.example.com/incidents/7"))
    );
    assert_eq!(data["began_at"], "2026-11-22T08:26:08.123Z");
    assert_eq!(data["timeline"][1]["server"], "shop/app-2");
    assert_eq!(data["visitors"]["saved"], 3);
}

#[tokio::test]
async fn a_webhook_that_is_gone_is_not_called_again() {
    let mut receiver = Receiver::start().await;
    let (alerts, mut attempted) = alerts(by_webhook(receiver.config("/gone")));
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(error.permanent && error.text.contains("410"), "{error}");
    receiver.call().await;
    assert!(receiver.calls.try_recv().is_err());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut receiver = Receiver::start().await;
    let (alerts, mut attempted) = alerts(by_webhook(receiver.config("/moved")));
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    for _ in 0..2 {
        let error = failure(next(&mut attempted).await);
        assert!(!error.permanent && error.text.contains("redirects are not followed"), "{error}");
        assert_eq!(receiver.call().await.path, "/moved");
    }
}

#[tokio::test]
async fn a_webhook_that_stalls_is_left_after_the_deadline() {
    let receiver = Receiver::start().await;
    let (alerts, mut attempted) = alerts_within(
        by_webhook(receiver.config("/stall")),
        Limits { webhook: Duration::from_secs(1), ..QUICK },
        64,
    );
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(!error.permanent && error.text.contains("did not answer within 1s"), "{error}");
}

#[tokio::test]
async fn of_an_endless_answer_only_the_beginning_is_read() {
    let receiver = Receiver::start().await;
    let (alerts, mut attempted) = alerts(by_webhook(receiver.config("/huge")));
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    let error = failure(next(&mut attempted).await);
    assert!(error.text.contains("400 Bad Request: xxx") && error.text.len() < 500, "{error}");
}

#[tokio::test]
async fn a_message_under_way_is_still_told_when_closing_and_no_other_is_begun() {
    let mut receiver = Receiver::start().await;
    let (alerts, mut attempted) = alerts(by_webhook(receiver.config("/slow")));
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    alerts.deliver(delivery(2, Channel::Webhook, Resolved));
    receiver.call().await;
    tokio::join!(alerts.close(DEADLINE), async {
        let mut closing = alerts.shared.closing.subscribe();
        closing.wait_for(|closing| *closing).await.expect("the sender is there");
        receiver.let_go.notify_one();
    });
    let Ok(Report::Attempted(told)) = attempted.try_recv() else { panic!("told before closing ends") };
    assert_eq!((told.row, told.result), (1, Ok(())));
    alerts.deliver(delivery(3, Channel::Webhook, NeedsPerson));
    assert!(attempted.try_recv().is_err(), "the others stay in the outbox");
    assert_eq!(alerts.shared.lanes().waiting, 0);
}

#[tokio::test]
async fn a_stalled_receiver_does_not_hold_up_closing() {
    let mut receiver = Receiver::start().await;
    let (alerts, mut attempted) = alerts(by_webhook(receiver.config("/stall")));
    alerts.deliver(delivery(1, Channel::Webhook, Opened));
    receiver.call().await;
    tokio::time::timeout(DEADLINE / 2, alerts.close(Duration::from_millis(50))).await.expect("it is cut");
    assert!(attempted.try_recv().is_err());
}
