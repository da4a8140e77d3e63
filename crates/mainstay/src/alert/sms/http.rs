//! Any provider with an API over HTTP: the call that the config describes by templates.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Url};

use super::{Sent, Sms, failure, refusal, too_late};
use crate::alert::{DeliveryError, call};
use crate::config::{Secret, SmsCall, SmsValues};

/// Calls the provider once.
pub(super) async fn send(config: &SmsCall, sms: Sms<'_>, deadline: Duration) -> Sent {
    let (request, place) = match request(config, sms) {
        Ok(ready) => ready,
        Err(text) => return Sent::Refused(DeliveryError::transient(format!("alert.sms.http: {text}"))),
    };
    let attempt = async {
        let response = request.send().await?;
        let status = response.status();
        let said = if status.is_success() { String::new() } else { call::reason(response).await };
        Ok::<_, reqwest::Error>((status, said))
    };
    match tokio::time::timeout(deadline, attempt).await {
        Ok(Ok((status, _))) if status.is_success() => Sent::Accepted(None),
        Ok(Ok((status, said))) => Sent::Refused(refusal(&place, status, &hidden(config, said))),
        Ok(Err(error)) => failure(&place, error),
        Err(_) => too_late(&place, deadline),
    }
}

fn request(config: &SmsCall, sms: Sms<'_>) -> Result<(RequestBuilder, String), String> {
    let notice = sms.notice;
    let values = SmsValues {
        to: &sms.to.address,
        text: sms.text,
        incident: notice.incident.0,
        kind: notice.kind.as_str(),
        severity: notice.severity.as_str(),
        service: &notice.scope,
        name: &sms.to.name,
        secret: config.secret.as_ref().map_or("", Secret::reveal),
    };
    let url = Url::parse(&config.url.render(&values)?).map_err(|error| error.to_string())?;
    let place = url.host_str().unwrap_or("the provider").to_owned();
    let method = Method::from_bytes(config.method.as_bytes()).map_err(|error| error.to_string())?;
    let client = call::client(&url).map_err(call::causes)?;
    let mut request = client.request(method, url);
    let mut typed = false;
    for (name, value) in &config.headers {
        typed |= name.eq_ignore_ascii_case("content-type");
        request = request.header(name, value.render(&values)?);
    }
    if let Some(body) = &config.body {
        let body = body.render(&values)?;
        if !typed {
            let json = body.trim_start().starts_with(['{', '[']);
            let kind = if json { "application/json" } else { "application/x-www-form-urlencoded" };
            request = request.header("content-type", kind);
        }
        request = request.body(body);
    }
    Ok((request, place))
}

/// A provider may quote what it was sent.
fn hidden(config: &SmsCall, said: String) -> String {
    match &config.secret {
        Some(secret) => said.replace(secret.reveal(), "…"),
        None => said,
    }
}
