//! A test message over each configured way, so that somebody learns that a way does not work before an incident does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_model::effect::{Notice, NoticeKind};
use mainstay_model::escalation::{OnCall, Recipient};
use mainstay_model::impact::Impact;
use mainstay_model::incident::{Severity, VisitorsSaw};
use mainstay_model::{IncidentId, Wall};

use super::sms::{Receipt, Sent, Sms};
use super::{Channel, Delivery, DeliveryError, Limits, email, sms, webhook};
use crate::config::AlertConfig;
use crate::tls;

/// A provider is asked so often what became of a text message.
const RECEIPTS: u32 = 5;

/// A message to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The channel.
    pub channel: Channel,
    /// Whom; `None` for a webhook.
    pub to: Option<Recipient>,
}

/// Everybody who is on call by each of their ways, and the webhook; or only whoever has this name or address.
pub fn trials(config: &AlertConfig, on_call: &OnCall, person: Option<&str>) -> Vec<Trial> {
    let calls = on_call.calls(None).into_iter().map(|call| call.to.clone());
    let wanted = calls.filter(|to| person.is_none_or(|person| to.name == person || to.address == person));
    let mut trials: Vec<Trial> = wanted.map(|to| Trial { channel: to.way.into(), to: Some(to) }).collect();
    if person.is_none() && config.webhook.is_some() {
        trials.push(Trial { channel: Channel::Webhook, to: None });
    }
    trials
}

/// Sends one test message once, beside every budget; says what became of it as far as that is known.
///
/// # Errors
/// Why it was not taken, for a person.
pub async fn try_out(config: &AlertConfig, trial: &Trial) -> Result<String, DeliveryError> {
    tls::install_provider();
    let limits = Limits::default();
    let dashboard = config.dashboard.as_deref();
    let missing = |key: &str| DeliveryError::permanent(format!("the config has no [{key}]"));
    let notice = notice(trial.to.clone());
    match (trial.channel, &trial.to) {
        (Channel::Email, Some(to)) => {
            let email = config.email.as_ref().ok_or_else(|| missing("alert.email"))?;
            let links = email::LinksIn::default();
            email::send(email, links, &notice, to, limits.email).await?;
            Ok(format!("taken by {}:{}", email.host, email.port))
        }
        (Channel::Sms, Some(to)) => {
            let config = config.sms.as_ref().ok_or_else(|| missing("alert.sms"))?;
            let text = sms::text(&notice, None);
            match sms::send(config, Sms { to, notice: &notice, text: &text }, limits.sms).await {
                Sent::Accepted(Some(reference)) => receipt(config, &reference, limits).await,
                Sent::Accepted(None) => Ok("taken by the provider".to_owned()),
                Sent::Refused(error) | Sent::Perhaps(error) => Err(error),
            }
        }
        (Channel::Webhook, _) => {
            let webhook = config.webhook.as_ref().ok_or_else(|| missing("alert.webhook"))?;
            let delivery = Delivery { row: 0, channel: Channel::Webhook, to: None, notice, attempts: 0 };
            webhook::send(webhook, dashboard, &delivery, limits.webhook).await?;
            Ok("taken".to_owned())
        }
        (Channel::Email | Channel::Sms, None) => Err(DeliveryError::permanent("nobody to tell")),
    }
}

async fn receipt(
    config: &crate::config::SmsConfig,
    reference: &str,
    limits: Limits,
) -> Result<String, DeliveryError> {
    for _ in 0..RECEIPTS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match sms::receipt(config, reference, limits.sms).await {
            Some(Receipt::Delivered) => return Ok("delivered".to_owned()),
            Some(Receipt::Undelivered(why)) => return Err(DeliveryError::permanent(why)),
            Some(Receipt::NotYet) => {}
            None => break,
        }
    }
    Ok("taken by the provider, which does not say yet whether it arrived".to_owned())
}

fn notice(to: Option<Recipient>) -> Notice {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Wall(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    Notice {
        incident: IncidentId(0),
        kind: NoticeKind::Opened,
        severity: Severity::Degraded,
        title: "this is a TEST of Mainstay's alerts, nothing is wrong".to_owned(),
        scope: "TEST".to_owned(),
        began_at: now,
        at: now,
        seen: VisitorsSaw::default(),
        timeline: Vec::new(),
        advice: "Nothing: somebody ran `mainstay test-alert`".to_owned(),
        to: to.into_iter().collect(),
        asked: Vec::new(),
        acknowledged_by: None,
        diagnosis: None,
        chain: None,
        affected: Vec::new(),
        last_change: None,
        impact: Impact::default(),
    }
}
