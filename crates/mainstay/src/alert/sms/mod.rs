//! Text messages: by Twilio's API, or by the call of any other provider that the config describes.

pub(super) mod budget;
mod gsm7;
mod http;
#[cfg(test)]
mod tests;
mod text;
mod twilio;

use std::time::Duration;

use mainstay_model::effect::Notice;
use mainstay_model::escalation::Recipient;
use reqwest::StatusCode;

use super::DeliveryError;
use crate::config::{SmsConfig, SmsProvider};

pub(super) use twilio::Receipt;

/// One message, ready to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sms<'a> {
    pub(super) to: &'a Recipient,
    pub(super) notice: &'a Notice,
    pub(super) text: &'a str,
}

/// What became of an attempt.
#[derive(Debug)]
pub(super) enum Sent {
    /// The provider has taken it, under this number if it gives one by which it can be asked later.
    Accepted(Option<String>),
    /// It surely was not sent.
    Refused(DeliveryError),
    /// Nobody knows: the provider had it, and did not say what it made of it.
    Perhaps(DeliveryError),
}

/// The text of a notice.
pub(super) fn text(notice: &Notice, link: Option<&str>) -> String {
    text::of(notice, link)
}

/// The text in place of those that were held back.
pub(super) fn held_back(count: u32, config: &SmsConfig, dashboard: Option<&str>) -> String {
    text::held_back(count, config.budget, dashboard)
}

/// Sends one message.
pub(super) async fn send(config: &SmsConfig, sms: Sms<'_>, deadline: Duration) -> Sent {
    match &config.provider {
        SmsProvider::Twilio { url, account, token, from } => {
            let api = twilio::Api { url, account, token };
            api.send(from, sms, deadline).await
        }
        SmsProvider::Http(call) => http::send(call, sms, deadline).await,
    }
}

/// Asks what became of a message that the provider has taken; `None`: this provider cannot be asked.
pub(super) async fn receipt(config: &SmsConfig, reference: &str, deadline: Duration) -> Option<Receipt> {
    match &config.provider {
        SmsProvider::Twilio { url, account, token, .. } => {
            Some(twilio::Api { url, account, token }.receipt(reference, deadline).await)
        }
        SmsProvider::Http(_) => None,
    }
}

/// What an answer other than 2xx means: refused for good, or worth another attempt.
fn refusal(place: &str, status: StatusCode, said: &str) -> DeliveryError {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let text = format!("{place}: the provider answered {status}{said}");
    match status {
        // The config is to be mended, the message is well.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            DeliveryError::transient(format!("{text}; check the account and its token in `alert.sms`"))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => DeliveryError::transient(text),
        status if status.is_client_error() => DeliveryError::permanent(text),
        status if status.is_redirection() => DeliveryError::transient(format!(
            "{text}; redirects are not followed, put the new address into `alert.sms`"
        )),
        _ => DeliveryError::transient(text),
    }
}

/// What a call that failed means: without a connection nothing was sent.
fn failure(place: &str, error: reqwest::Error) -> Sent {
    let surely_not = error.is_connect() || error.is_builder();
    let error = DeliveryError::transient(format!("{place}: {}", super::call::causes(error)));
    if surely_not { Sent::Refused(error) } else { Sent::Perhaps(error) }
}

fn too_late(place: &str, deadline: Duration) -> Sent {
    Sent::Perhaps(DeliveryError::transient(format!(
        "{place}: the provider did not answer within {deadline:?}"
    )))
}
