//! Alerts: turns a notice into a message for people and keeps trying until it is delivered. One file a channel.

mod capped;
mod email;
mod lane;
mod message;
mod webhook;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_model::IncidentId;
use mainstay_model::effect::Notice;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::config::AlertConfig;
use crate::tls;
use lane::Lane;

/// Messages that may wait to be delivered. More stay in the outbox and are sent after the next start.
pub const WAITING_MAX: usize = 500;

/// Attempts at one time on one channel, so that a slow provider is not flooded.
const AT_ONE_TIME: usize = 4;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// One attempt at a mail as a whole: connecting, TLS, login and the message.
    email: Duration,
    /// One call of a webhook as a whole (Standard Webhooks: 15 to 30 s).
    webhook: Duration,
    /// The wait after the first failed attempt; it doubles with each further one.
    delay_base: Duration,
    /// The longest wait between two attempts.
    delay_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            email: Duration::from_secs(30),
            webhook: Duration::from_secs(15),
            delay_base: Duration::from_secs(1),
            delay_max: Duration::from_secs(300),
        }
    }
}

/// A way to tell people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// Mail by SMTP.
    Email,
    /// A signed webhook.
    Webhook,
}

impl Channel {
    /// The word for people and the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Email => "email",
            Channel::Webhook => "webhook",
        }
    }
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
    pub incident: IncidentId,
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

impl DeliveryError {
    /// Worth another attempt.
    fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), permanent: false }
    }

    /// Not to be tried again.
    fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), permanent: true }
    }
}

/// Delivers messages, each until it is accepted or refused for good.
///
/// Messages of one incident on one channel go one after the other, so that nobody hears of the end before the beginning.
/// When it is dropped, what waits is left to the outbox.
#[derive(Debug)]
pub struct Alerts {
    config: watch::Sender<Arc<AlertConfig>>,
    shared: Arc<Shared>,
}

impl Alerts {
    /// A deliverer that says in `attempted` what became of each attempt.
    pub fn new(config: AlertConfig, attempted: mpsc::Sender<Attempted>) -> Self {
        Self::with_limits(config, attempted, Limits::default())
    }

    fn with_limits(config: AlertConfig, attempted: mpsc::Sender<Attempted>, limits: Limits) -> Self {
        tls::install_provider();
        let turns = || Arc::new(Semaphore::new(AT_ONE_TIME));
        let shared = Shared {
            attempted,
            limits,
            lanes: Mutex::default(),
            tasks: Mutex::default(),
            closing: watch::Sender::new(false),
            email: turns(),
            webhook: turns(),
        };
        Self { config: watch::Sender::new(Arc::new(config)), shared: Arc::new(shared) }
    }

    /// The channels that a notice goes to.
    pub fn channels(&self) -> Vec<Channel> {
        let config = self.config.borrow();
        let email = config.email.is_some().then_some(Channel::Email);
        let webhook = config.webhook.is_some().then_some(Channel::Webhook);
        email.into_iter().chain(webhook).collect()
    }

    /// A changed config; what waits is tried by it at once.
    pub fn apply(&self, config: AlertConfig) {
        self.config.send_replace(Arc::new(config));
    }

    /// Delivers one message, in a task of its own, trying again with growing delay. Must be called within the runtime.
    ///
    /// When [`WAITING_MAX`] messages wait already it stays in the outbox, and is sent after the next start.
    pub fn deliver(&self, delivery: Delivery) {
        let key = (delivery.channel, delivery.notice.incident);
        let mut lanes = self.shared.lanes();
        if *self.shared.closing.borrow() {
            return;
        }
        if lanes.waiting >= WAITING_MAX {
            tracing::error!(
                row = delivery.row,
                incident = delivery.notice.incident.0,
                "too many messages wait already; this one stays in the outbox until the next start"
            );
            return;
        }
        lanes.waiting += 1;
        if let Some(queue) = lanes.queues.get_mut(&key) {
            queue.push_back(delivery);
            return;
        }
        lanes.queues.insert(key, [delivery].into());
        drop(lanes);
        let mut tasks = self.shared.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(Lane::new(key, self.shared.clone(), self.config.subscribe()).run());
    }

    /// Begins no attempt any more, and gives those under way so long to end and be told. What is left stays in the outbox.
    pub async fn close(&self, longest: Duration) {
        self.shared.closing.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.shared.tasks());
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(longest, ended).await.is_err() {
            tracing::warn!(
                "messages that were being handed over were cut; they are sent again after the next start"
            );
        }
    }
}

/// What the lanes have in common.
#[derive(Debug)]
struct Shared {
    attempted: mpsc::Sender<Attempted>,
    limits: Limits,
    lanes: Mutex<Lanes>,
    /// Locked by nobody who holds the lanes: a task that cannot be spawned any more ends at once, and leaves its lane.
    tasks: Mutex<JoinSet<()>>,
    /// No attempt is begun any more.
    closing: watch::Sender<bool>,
    email: Arc<Semaphore>,
    webhook: Arc<Semaphore>,
}

/// What waits, by channel and incident; a lane that is here has a task.
#[derive(Debug, Default)]
struct Lanes {
    queues: BTreeMap<(Channel, IncidentId), VecDeque<Delivery>>,
    waiting: usize,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self, channel: Channel) -> &Semaphore {
        match channel {
            Channel::Email => &self.email,
            Channel::Webhook => &self.webhook,
        }
    }
}
