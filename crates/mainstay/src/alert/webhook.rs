//! A signed webhook, by the Standard Webhooks specification.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mainstay_model::cause::Diagnosis;
use mainstay_model::escalation::Recipient;
use mainstay_model::impact::Impact;
use mainstay_model::incident::{TimelineEntry, VisitorsSaw};
use mainstay_model::proposal::Asked;
use reqwest::{StatusCode, Url};
use serde::Serialize;
use sha2::Sha256;

use super::{Delivery, DeliveryError, call, message};
use crate::config::WebhookConfig;

/// Calls the webhook once.
pub(super) async fn send(
    config: &WebhookConfig,
    dashboard: Option<&str>,
    delivery: &Delivery,
    deadline: Duration,
) -> Result<(), DeliveryError> {
    let wrong = |error: &dyn std::fmt::Display| DeliveryError::transient(format!("alert.webhook: {error}"));
    let url = Url::parse(&config.url).map_err(|error| wrong(&error))?;
    // The path of a webhook's address is often a secret, so texts name the host alone.
    let place = url.host_str().unwrap_or("the webhook").to_owned();
    let body = serde_json::to_vec(&Body::new(delivery, dashboard)).map_err(|error| wrong(&error))?;
    let attempt = async {
        let response = request(config, url, delivery, body)?.send().await?;
        let status = response.status();
        let reason = if status.is_success() { String::new() } else { call::reason(response).await };
        Ok::<_, reqwest::Error>((status, reason))
    };
    match tokio::time::timeout(deadline, attempt).await {
        Ok(Ok((status, reason))) => judge(&place, status, &reason),
        Ok(Err(error)) => Err(DeliveryError::transient(format!("{place}: {}", call::causes(error)))),
        Err(_) => {
            let text = format!("{place}: the webhook did not answer within {deadline:?}");
            Err(DeliveryError::transient(text))
        }
    }
}

fn judge(place: &str, status: StatusCode, reason: &str) -> Result<(), DeliveryError> {
    let said = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(DeliveryError::permanent(format!(
            "{place}: the webhook answered 410 and wants no more messages; remove or correct `alert.webhook`{said}"
        ))),
        status if status.is_redirection() => Err(DeliveryError::transient(format!(
            "{place}: the webhook answered {status}, and redirects are not followed; put the new address into `alert.webhook`"
        ))),
        status => Err(DeliveryError::transient(format!("{place}: the webhook answered {status}{said}"))),
    }
}

fn request(
    config: &WebhookConfig,
    url: Url,
    delivery: &Delivery,
    body: Vec<u8>,
) -> Result<reqwest::RequestBuilder, reqwest::Error> {
    let client = call::client(&url)?;
    let id = message_id(delivery);
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let mut request = client
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", &timestamp);
    if let Some(secret) = &config.secret {
        request = request.header("webhook-signature", signature(secret, &id, &timestamp, &body));
    }
    Ok(request.body(body))
}

/// The same at every attempt and after a restart, so that the receiver can tell a repetition.
fn message_id(delivery: &Delivery) -> String {
    let notice = &delivery.notice;
    format!("msg_{}_{}_{}_{}", notice.began_at.0, notice.incident, notice.kind.as_str(), delivery.row)
}

/// `v1,` and the HMAC-SHA256 of id, timestamp and body in base64.
pub(super) fn signature(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// What is sent.
#[derive(Debug, Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    data: Facts<'a>,
}

#[derive(Debug, Serialize)]
struct Facts<'a> {
    incident: u64,
    scope: &'a str,
    title: &'a str,
    severity: &'static str,
    began_at: String,
    at: String,
    visitors: &'a VisitorsSaw,
    /// How many visitors were hurt, for how long, and about how much money that is.
    impact: &'a Impact,
    advice: &'a str,
    /// What a person is to decide on: `proposal` (its number) and `what`.
    asked: &'a [Asked],
    /// Why it happened, if that is known: `cause` and `evidence`.
    diagnosis: Option<&'a Diagnosis>,
    /// From the visitor inwards, each link with its state.
    chain: Option<&'a str>,
    /// What fails because of it.
    affected: &'a [String],
    /// The whole message in words, for a chat.
    text: String,
    link: Option<String>,
    /// Who is told by name.
    to: &'a [Recipient],
    acknowledged_by: Option<&'a str>,
    timeline: Vec<Happened<'a>>,
}

#[derive(Debug, Serialize)]
struct Happened<'a> {
    at: String,
    kind: &'a mainstay_model::incident::EntryKind,
    server: Option<&'a mainstay_model::ServerId>,
    text: &'a str,
    times: u32,
}

impl<'a> Body<'a> {
    fn new(delivery: &'a Delivery, dashboard: Option<&str>) -> Self {
        let notice = &delivery.notice;
        let happened = |entry: &'a TimelineEntry| Happened {
            at: message::rfc3339(entry.at),
            kind: &entry.kind,
            server: entry.server.as_ref(),
            text: &entry.text,
            times: entry.times,
        };
        Self {
            kind: format!("incident.{}", notice.kind.as_str()),
            timestamp: message::rfc3339(notice.at),
            data: Facts {
                incident: notice.incident.0,
                scope: &notice.scope,
                title: &notice.title,
                severity: notice.severity.as_str(),
                began_at: message::rfc3339(notice.began_at),
                at: message::rfc3339(notice.at),
                visitors: &notice.seen,
                impact: &notice.impact,
                advice: &notice.advice,
                asked: &notice.asked,
                diagnosis: notice.diagnosis.as_ref(),
                chain: notice.chain.as_deref(),
                affected: &notice.affected,
                text: message::subject(notice),
                link: message::link(notice, dashboard),
                to: &notice.to,
                acknowledged_by: notice.acknowledged_by.as_deref(),
                timeline: notice.timeline.iter().map(happened).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference implementations.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signed =
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
