//! Text messages against providers that speak HTTP: what is sent, what each answer means, and what the budget does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use mainstay_model::IncidentId;
use mainstay_model::effect::NoticeKind;
use tokio::sync::mpsc;

use crate::alert::testing::{DEADLINE, ada, delivery, news, next};
use crate::alert::tests::{QUICK, alerts_within};
use crate::alert::{Alerts, Awaited, Channel, Delivery, Limits, Remembered, Report};
use crate::config::{self, AlertConfig, SmsConfig};

/// A call as it arrived.
#[derive(Debug, Clone)]
struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
}

/// Answers with what is next in its script, the last again and again; 0 is silence.
struct Provider {
    address: std::net::SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

type Script = Arc<(Mutex<VecDeque<(u16, &'static str)>>, Arc<Mutex<Vec<Call>>>)>;

impl Provider {
    async fn start(script: &[(u16, &'static str)]) -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let state: Script = Arc::new((Mutex::new(script.iter().copied().collect()), calls.clone()));
        let router = Router::new().fallback(answer).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, calls }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn twilio(&self, budget: u32) -> AlertConfig {
        self.parse(&format!(
            "budget = {budget}\ntwilio = {{ account = \"AC0123456789abcdef0123456789abcdef\", token = {{ env = \"TOKEN\" }}, \
             from = \"+15005550006\", url = \"http://{}/\" }}",
            self.address
        ))
    }

    fn parse(&self, sms: &str) -> AlertConfig {
        let text = format!(
            "data = \"/d\"\nservice.shop.server.a.address = \"10.0.0.1:1\"\n[on-call.web]\ntell = [{{ sms = \"+491701234567\" }}]\n\
             [alert]\ndashboard = \"https://ops.example.com\"\n[alert.sms]\n{sms}\n"
        );
        let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        config::parse(&text, "m.toml", std::path::Path::new("/"), &env).unwrap().alerts
    }
}

async fn answer(
    State(state): State<Script>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    state.1.lock().unwrap().push(Call { method, uri, headers, body });
    let (status, body) = {
        let mut script = state.0.lock().unwrap();
        let next = *script.front().unwrap();
        if script.len() > 1 {
            script.pop_front();
        }
        next
    };
    if status == 0 {
        std::future::pending::<()>().await;
    }
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn sms(row: i64) -> Delivery {
    let mut delivery = delivery(row, Channel::Sms, NoticeKind::Opened);
    delivery.notice.incident = IncidentId(row.unsigned_abs());
    delivery
}

fn sending(config: AlertConfig) -> (Alerts, mpsc::Receiver<Report>) {
    alerts_within(config, QUICK, 64)
}

const QUEUED: (u16, &str) = (201, r#"{"sid": "SM1", "status": "queued"}"#);

#[tokio::test]
async fn twilio_gets_a_form_with_basic_auth_and_is_asked_until_it_knows_the_end() {
    let script = [QUEUED, (200, r#"{"status": "sent"}"#), (503, ""), (200, r#"{"status": "delivered"}"#)];
    let provider = Provider::start(&script).await;
    let (alerts, mut reports) = sending(provider.twilio(10));
    assert_eq!(alerts.channels(), [Channel::Sms]);
    alerts.deliver(sms(1));
    let tried = next(&mut reports).await;
    assert_eq!((tried.result, tried.reference.as_deref(), tried.spent), (Ok(()), Some("SM1"), 1));
    let Report::Receipt(receipt) = news(&mut reports).await else { panic!("a receipt is awaited") };
    assert_eq!((receipt.row, receipt.to, receipt.result), (1, ada(), Ok(())));
    let calls = provider.calls();
    let account = "/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef";
    assert_eq!(
        (&calls[0].method, calls[0].uri.path()),
        (&Method::POST, &*format!("{account}/Messages.json"))
    );
    let basic = "Basic QUMwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjpzM2NyZXQ=";
    assert_eq!(calls[0].headers["authorization"], basic);
    assert_eq!(calls[0].headers["content-type"], "application/x-www-form-urlencoded");
    assert!(
        calls[0].body.starts_with("To=%2B491701234567&From=%2B15005550006&Body=shop%20degraded%3A%20app-2"),
        "{}",
        calls[0].body
    );
    assert!(calls[0].body.contains("https%3A%2F%2Fops.example.com%2Fack%2F"), "{}", calls[0].body);
    assert_eq!(calls.len(), 4);
    assert_eq!(
        (&calls[3].method, calls[3].uri.path()),
        (&Method::GET, &*format!("{account}/Messages/SM1.json"))
    );
}

#[tokio::test]
async fn a_message_that_did_not_arrive_says_why() {
    let undelivered =
        r#"{"status": "undelivered", "error_code": 30003, "error_message": "Unreachable\nhandset"}"#;
    let provider = Provider::start(&[QUEUED, (200, undelivered)]).await;
    let (alerts, mut reports) = sending(provider.twilio(10));
    alerts.deliver(sms(1));
    assert_eq!(next(&mut reports).await.result, Ok(()));
    let Report::Receipt(receipt) = news(&mut reports).await else { panic!("a receipt is awaited") };
    let why = receipt.result.unwrap_err();
    assert!(why.ends_with("the message is undelivered (error 30003): Unreachable handset"), "{why}");
}

#[tokio::test]
async fn what_an_earlier_run_sent_is_asked_for_and_counts() {
    let provider = Provider::start(&[(200, r#"{"status": "delivered"}"#)]).await;
    let (alerts, mut reports) = sending(provider.twilio(2));
    let number = ada().address;
    let awaited = Awaited { row: 3, incident: IncidentId(7), to: ada(), reference: "SM9".to_owned() };
    alerts.remember(Remembered {
        sent: vec![(number.clone(), Duration::from_secs(60)), (number, Duration::from_secs(5))],
        held_back: Vec::new(),
        awaited: vec![awaited],
    });
    let Report::Receipt(receipt) = news(&mut reports).await else { panic!("a receipt is awaited") };
    assert_eq!(receipt.row, 3);
    alerts.deliver(sms(4));
    let error = next(&mut reports).await.result.unwrap_err();
    assert!(error.held_back && error.permanent, "{error}");
}

#[tokio::test]
async fn refusals_are_final_or_tried_again_by_their_status() {
    let refused = r#"{"code": 21211, "message": "The 'To' number is not valid", "status": 400}"#;
    let script = [(500, ""), (429, ""), (401, r#"{"code": 20003}"#), (302, ""), (400, refused)];
    let provider = Provider::start(&script).await;
    let (alerts, mut reports) = sending(provider.twilio(10));
    alerts.deliver(sms(1));
    for (status, permanent) in [("500", false), ("429", false), ("401", false), ("302", false), ("400", true)]
    {
        let tried = next(&mut reports).await;
        let error = tried.result.unwrap_err();
        assert!(error.text.contains(status) && error.permanent == permanent, "{status}: {error}");
        assert_eq!(tried.spent, 0, "a refused message costs nothing");
        assert!(!error.text.contains("s3cret"));
        if permanent {
            assert!(error.text.ends_with("error 21211: The 'To' number is not valid"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_stalls_is_left_and_the_message_counts_as_perhaps_sent() {
    let provider = Provider::start(&[(0, ""), QUEUED]).await;
    let limits = Limits { sms: Duration::from_secs(1), receipt: DEADLINE, ..QUICK };
    let (alerts, mut reports) = alerts_within(provider.twilio(10), limits, 64);
    alerts.deliver(sms(1));
    let tried = next(&mut reports).await;
    assert!(tried.result.unwrap_err().text.contains("did not answer within 1s"));
    assert_eq!(tried.spent, 1);
    let tried = next(&mut reports).await;
    assert_eq!((tried.result, tried.spent), (Ok(()), 2));
}

#[tokio::test]
async fn a_storm_is_cut_to_the_budget_and_the_last_message_counts_the_others() {
    let provider = Provider::start(&[(201, "{}")]).await;
    let (alerts, mut reports) = sending(provider.twilio(4));
    for row in 1..=20 {
        alerts.deliver(sms(row));
    }
    let mut outcomes = (0, 0);
    for _ in 0..20 {
        match next(&mut reports).await.result {
            Ok(()) => outcomes.0 += 1,
            Err(error) => outcomes.1 += u32::from(error.held_back && error.permanent),
        }
    }
    assert_eq!(outcomes, (4, 16));
    let calls = provider.calls();
    assert_eq!(calls.len(), 4);
    let digests: Vec<&Call> = calls.iter().filter(|call| call.body.contains("held%20back")).collect();
    assert_eq!(digests.len(), 1);
    assert!(
        digests[0].body.contains("Body=Mainstay%3A%2017%20more%20alerts%20were%20held%20back"),
        "{}",
        digests[0].body
    );
}

#[tokio::test]
async fn the_last_message_of_an_hour_is_itself_when_nothing_else_comes() {
    let provider = Provider::start(&[(201, "{}")]).await;
    let limits = Limits { gather: Duration::from_millis(10), ..QUICK };
    let (alerts, mut reports) = alerts_within(provider.twilio(2), limits, 64);
    for row in 1..=2 {
        alerts.deliver(sms(row));
        assert_eq!(next(&mut reports).await.result, Ok(()));
    }
    assert!(provider.calls().iter().all(|call| call.body.contains("Body=shop%20degraded")));
}

#[tokio::test]
async fn any_other_provider_is_called_as_its_templates_say() {
    let provider = Provider::start(&[(402, "no credit for s3cret"), (202, "")]).await;
    let config = provider.parse(&format!(
        r#"http = {{ url = "http://{}/send?ref={{{{ incident }}}}", method = "PUT", headers = {{ X-Key = "k {{{{ secret }}}}" }},
           body = '{{"to": {{{{ to|tojson }}}}, "text": {{{{ text|tojson }}}}, "kind": "{{{{ kind }}}}"}}', secret = {{ env = "TOKEN" }} }}"#,
        provider.address
    ).replace(",\n", ","));
    let (alerts, mut reports) = sending(config);
    let mut first = sms(5);
    first.notice.title = "it's \"broken\"".to_owned();
    alerts.deliver(first);
    let error = next(&mut reports).await.result.unwrap_err();
    assert!(error.permanent && error.text.contains("402") && !error.text.contains("s3cret"), "{error}");
    alerts.deliver(sms(6));
    let tried = next(&mut reports).await;
    assert_eq!((tried.result, tried.reference), (Ok(()), None));
    let call = &provider.calls()[0];
    assert_eq!((&call.method, call.uri.to_string().as_str()), (&Method::PUT, "/send?ref=5"));
    assert_eq!(
        (&call.headers["x-key"], &call.headers["content-type"]),
        (&"k s3cret".parse().unwrap(), &"application/json".parse().unwrap())
    );
    let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!((&body["to"], &body["kind"]), (&"+491701234567".into(), &"opened".into()));
    assert!(body["text"].as_str().unwrap().contains("it's \"broken\""), "{body}");
}

#[tokio::test]
async fn nothing_is_asked_of_a_provider_that_left_the_config() {
    let provider = Provider::start(&[(500, "")]).await;
    let (alerts, mut reports) = sending(provider.twilio(10));
    alerts.deliver(sms(1));
    assert!(!next(&mut reports).await.result.unwrap_err().permanent);
    let none: Option<SmsConfig> = None;
    alerts.apply(AlertConfig { sms: none, ..AlertConfig::default() });
    let error = loop {
        let error = next(&mut reports).await.result.unwrap_err();
        if error.permanent {
            break error;
        }
    };
    assert!(error.text.contains("`alert.sms` was taken out of the config"), "{error}");
}
