//! The outbox read back: what was told to whom and what became of it, and what that means for the next run.

use std::time::Duration;

use mainstay_model::effect::NoticeKind;
use mainstay_model::escalation::Recipient;
use mainstay_model::{IncidentId, Wall};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::restore::{parse, rows};
use crate::alert::{Awaited, Delivery, Remembered};

/// Budgets of text messages look back no further.
const HOUR_MS: i64 = 3_600_000;
/// What became of a text message is asked for no longer than this after it was sent.
const AWAITED_MS: i64 = 30 * 60_000;
/// Messages of one answer.
const MESSAGES_MAX: usize = 500;

/// A message about an incident to one person, or to the webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Whom, and how; `None`: the webhook.
    pub to: Option<Recipient>,
    /// Why.
    pub kind: NoticeKind,
    /// When it was written down to be sent.
    pub at: Wall,
    /// What became of it.
    pub state: MessageState,
    /// When it was last tried, or its provider said what became of it.
    pub changed_at: Option<Wall>,
    /// Attempts so far.
    pub attempts: u32,
    /// Why it was not delivered, or not yet; for a person.
    pub error: Option<String>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageState {
    /// It was not tried yet.
    Waiting,
    /// It failed, and is tried again.
    Trying,
    /// A mail server, a provider or the webhook has taken it.
    Accepted,
    /// Its provider says that it arrived.
    Delivered,
    /// It was given up.
    Failed,
    /// It was not sent, because its person had enough messages for now.
    HeldBack,
}

/// The messages about an incident, the oldest first.
pub(super) fn messages(connection: &Connection, incident: i64) -> rusqlite::Result<Vec<Message>> {
    let sql = format!(
        "SELECT delivery, queued_at, attempts, tried_at, error, done, held_back, receipt_at, receipt FROM outbox
         WHERE incident = {incident} ORDER BY row DESC LIMIT {MESSAGES_MAX}"
    );
    let mut messages = rows(connection, &sql, |row| {
        let Some(delivery) = parse::<Delivery>("a message", row.get(0)?) else { return Ok(None) };
        let (attempts, tried_at): (u32, Option<i64>) = (row.get(2)?, row.get(3)?);
        let (error, done, held_back): (Option<String>, bool, bool) = (row.get(4)?, row.get(5)?, row.get(6)?);
        let (receipt_at, undelivered): (Option<i64>, Option<String>) = (row.get(7)?, row.get(8)?);
        let state = match (&error, receipt_at, &undelivered) {
            _ if held_back => MessageState::HeldBack,
            (_, _, Some(_)) => MessageState::Failed,
            (None, Some(_), None) => MessageState::Delivered,
            (None, None, None) if done => MessageState::Accepted,
            (Some(_), _, None) if done => MessageState::Failed,
            _ if attempts > 0 => MessageState::Trying,
            _ => MessageState::Waiting,
        };
        Ok(Some(Message {
            to: delivery.to,
            kind: delivery.notice.kind,
            at: Wall(row.get(1)?),
            state,
            changed_at: receipt_at.or(tried_at).map(Wall),
            attempts,
            error: undelivered.or(error),
        }))
    })?;
    messages.reverse();
    Ok(messages)
}

/// What earlier runs sent by SMS lately.
pub(super) fn remembered(connection: &Connection, now: Wall) -> rusqlite::Result<Remembered> {
    // A clock that was set back must not make a storm look as if it were still to come.
    let ago = |at: i64| Duration::from_millis(u64::try_from(now.ms_since(Wall(at))).unwrap_or(0));
    let since = now.0.saturating_sub(HOUR_MS);
    let sql = format!(
        "SELECT recipient, tried_at, spent FROM outbox
         WHERE channel = 'sms' AND spent > 0 AND tried_at > {since} AND recipient IS NOT NULL ORDER BY tried_at"
    );
    let spent = rows(connection, &sql, |row| {
        let (number, at, times): (String, i64, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Some(vec![(number, ago(at)); times.min(1000) as usize]))
    })?;
    let sql = format!(
        "SELECT recipient FROM outbox AS held
         WHERE held_back = 1 AND tried_at > {since} AND recipient IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM outbox AS told WHERE told.recipient = held.recipient AND told.spent > 0 AND told.tried_at > held.tried_at)
         LIMIT 10000"
    );
    let held_back = rows(connection, &sql, |row| Ok(Some(row.get(0)?)))?;
    let sql = format!(
        "SELECT row, incident, delivery, reference FROM outbox
         WHERE reference IS NOT NULL AND receipt_at IS NULL AND tried_at > {} ORDER BY row",
        now.0.saturating_sub(AWAITED_MS)
    );
    let awaited = rows(connection, &sql, |row| {
        let (number, incident): (i64, i64) = (row.get(0)?, row.get(1)?);
        let to = parse::<Delivery>("a message", row.get(2)?).and_then(|delivery| delivery.to);
        let reference = row.get(3)?;
        Ok(to.map(|to| Awaited { row: number, incident: IncidentId(incident.unsigned_abs()), to, reference }))
    })?;
    Ok(Remembered { sent: spent.into_iter().flatten().collect(), held_back, awaited })
}
