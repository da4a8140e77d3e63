//! Twilio's Messages API: a form is posted, and the message's status is asked for until it is final. A callback would need an
//! address that Twilio can reach, which a dashboard seldom has.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use super::{Sent, Sms, failure, refusal, too_late};
use crate::alert::{DeliveryError, call};
use crate::config::{Secret, url_encoded};

/// Of an answer's body; a message's is about one kilobyte.
const ANSWER_MAX: usize = 64 * 1024;

/// The API as one account sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api<'a> {
    pub(super) url: &'a str,
    pub(super) account: &'a str,
    pub(super) token: &'a Secret,
}

/// What became of a message that the provider has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::alert) enum Receipt {
    /// The telephone has it.
    Delivered,
    /// It was given up; why, for a person.
    Undelivered(String),
    /// Not known yet, or it could not be asked.
    NotYet,
}

/// What we read of a message, and of a refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    sid: Option<String>,
    /// Of a message a word, of a refusal a number.
    status: serde_json::Value,
    error_code: Option<u32>,
    error_message: Option<String>,
    code: Option<u32>,
    message: Option<String>,
}

impl Api<'_> {
    pub(super) async fn send(&self, from: &str, sms: Sms<'_>, deadline: Duration) -> Sent {
        let sender = if from.starts_with("MG") && from.len() == 34 { "MessagingServiceSid" } else { "From" };
        let fields = [("To", sms.to.address.as_str()), (sender, from), ("Body", sms.text)];
        let form: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", url_encoded(value))).collect();
        let request = match self.request(Method::POST, "Messages.json") {
            Ok(request) => request,
            Err(error) => return Sent::Refused(error),
        };
        let request =
            request.header("content-type", "application/x-www-form-urlencoded").body(form.join("&"));
        match tokio::time::timeout(deadline, ask(request)).await {
            Ok(Ok((status, answer))) => self.judge(status, answer),
            Ok(Err(error)) => failure(self.place(), error),
            Err(_) => too_late(self.place(), deadline),
        }
    }

    fn judge(&self, status: StatusCode, answer: Answer) -> Sent {
        if status.is_success() {
            // Only what can be part of an address is asked for again.
            let usable = |sid: &String| {
                (1..=64).contains(&sid.len()) && sid.bytes().all(|b| b.is_ascii_alphanumeric())
            };
            return Sent::Accepted(answer.sid.filter(usable));
        }
        let code = answer.code.map(|code| format!("error {code}"));
        let said = [code, answer.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let error = refusal(self.place(), status, &call::one_line(said.as_bytes()));
        Sent::Refused(error)
    }

    pub(super) async fn receipt(&self, sid: &str, deadline: Duration) -> Receipt {
        let Ok(request) = self.request(Method::GET, &format!("Messages/{sid}.json")) else {
            return Receipt::NotYet;
        };
        let answer = match tokio::time::timeout(deadline, ask(request)).await {
            Ok(Ok((status, answer))) if status.is_success() => answer,
            _ => return Receipt::NotYet,
        };
        match answer.status.as_str() {
            Some("delivered" | "read") => Receipt::Delivered,
            Some(status @ ("undelivered" | "failed" | "canceled")) => {
                let code = answer.error_code.map(|code| format!(" (error {code})")).unwrap_or_default();
                let why = answer.error_message.map(|text| format!(": {text}")).unwrap_or_default();
                let text = format!("{}: the message is {status}{code}{why}", self.place());
                Receipt::Undelivered(call::one_line(text.as_bytes()))
            }
            _ => Receipt::NotYet,
        }
    }

    fn request(&self, method: Method, resource: &str) -> Result<RequestBuilder, DeliveryError> {
        let wrong = |error: &dyn std::fmt::Display| DeliveryError::transient(format!("alert.sms: {error}"));
        let address = format!("{}/2010-04-01/Accounts/{}/{resource}", self.url, self.account);
        let url = Url::parse(&address).map_err(|error| wrong(&error))?;
        let client = call::client(&url).map_err(|error| wrong(&error))?;
        Ok(client.request(method, url).basic_auth(self.account, Some(self.token.reveal())))
    }

    /// For texts.
    fn place(&self) -> &str {
        let host = self.url.split_once("://").map_or(self.url, |(_, rest)| rest);
        host.split('/').next().unwrap_or(host)
    }
}

async fn ask(request: RequestBuilder) -> Result<(StatusCode, Answer), reqwest::Error> {
    let response = request.send().await?;
    let status = response.status();
    let body = call::beginning(response, ANSWER_MAX).await;
    // What is not JSON, or breaks off, is still an answer: its status counts.
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}
