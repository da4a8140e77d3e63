//! Alerts: turns a notice into a message for people and keeps trying until it is delivered. One file a channel.

mod call;
mod capped;
mod email;
mod lane;
mod message;
mod receipts;
mod sms;
mod trial;
mod webhook;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_model::IncidentId;
use mainstay_model::effect::{Notice, NoticeKind};
use mainstay_model::escalation::{Recipient, Way};
use mainstay_model::proposal::Asked;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::ack::Links;
use crate::config::AlertConfig;
use crate::tls;
use lane::Lane;
use sms::budget::Budgets;
pub use trial::{Trial, trials, try_out};

/// Messages that may wait to be delivered. More stay in the outbox and are sent after the next start.
pub const WAITING_MAX: usize = 500;

/// Attempts at one time on one channel, so that a slow provider is not flooded.
const AT_ONE_TIME: usize = 4;

/// Text messages whose end is asked for at one time.
const RECEIPTS_MAX: usize = 100;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// One attempt at a mail as a whole: connecting, TLS, login and the message.
    email: Duration,
    /// One call of a webhook as a whole (Standard Webhooks: 15 to 30 s).
    webhook: Duration,
    /// One call of a provider of text messages as a whole.
    sms: Duration,
    /// From a text message that was taken to the first asking what became of it.
    receipt: Duration,
    /// So long the last text message of an hour waits, to say how many more there would have been.
    gather: Duration,
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
            sms: Duration::from_secs(15),
            receipt: Duration::from_secs(3),
            gather: Duration::from_secs(10),
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
    /// Text messages.
    Sms,
    /// A signed webhook.
    Webhook,
}

impl From<Way> for Channel {
    fn from(way: Way) -> Self {
        match way {
            Way::Email => Channel::Email,
            Way::Sms => Channel::Sms,
        }
    }
}

impl Channel {
    /// The word for people and the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Email => "email",
            Channel::Sms => "sms",
            Channel::Webhook => "webhook",
        }
    }

    /// The word in a sentence.
    pub fn in_words(self) -> &'static str {
        match self {
            Channel::Email => "mail",
            Channel::Sms => "SMS",
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
    /// Whom; `None` for a webhook.
    #[serde(default)]
    pub to: Option<Recipient>,
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
    /// Whom it is for; `None` for a webhook.
    pub to: Option<Recipient>,
    /// Attempts made so far, this one included.
    pub attempts: u32,
    /// `Err` says why not, for a person, without secrets.
    pub result: Result<(), DeliveryError>,
    /// By which the provider can be asked later what became of it.
    pub reference: Option<String>,
    /// Text messages that it cost its person's budget so far.
    pub spent: u32,
}

/// What a provider says of a message that it had taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipted {
    /// The row.
    pub row: i64,
    /// Its incident.
    pub incident: IncidentId,
    /// Whom it was for.
    pub to: Recipient,
    /// `Err` says why it did not arrive, for a person.
    pub result: Result<(), String>,
}

/// News of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// It was tried.
    Attempted(Attempted),
    /// Its provider knows what became of it.
    Receipt(Receipted),
}

/// A message that its provider has taken and not yet told the end of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The row.
    pub row: i64,
    /// Its incident.
    pub incident: IncidentId,
    /// Whom it was for.
    pub to: Recipient,
    /// The provider's number for it.
    pub reference: String,
}

/// What the outbox of earlier runs means for text messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// To which number one was sent within the last hour, and how long ago.
    pub sent: Vec<(String, Duration)>,
    /// To which number one was held back since the last that was sent.
    pub held_back: Vec<String>,
    /// Messages whose end is to be asked for.
    pub awaited: Vec<Awaited>,
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DeliveryError {
    /// What happened and what to do, for a person.
    pub text: String,
    /// It will never succeed as it is (a refused recipient): not tried again.
    pub permanent: bool,
    /// It was not tried at all, because its person had enough messages for now; nobody needs to mend anything.
    pub held_back: bool,
}

impl DeliveryError {
    /// Worth another attempt.
    fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), permanent: false, held_back: false }
    }

    /// Not to be tried again.
    fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), permanent: true, held_back: false }
    }
}

/// Delivers messages, each until it is accepted or refused for good.
///
/// Messages of one incident to one person go one after the other, so that nobody hears of the end before the beginning.
/// When it is dropped, what waits is left to the outbox.
#[derive(Debug)]
pub struct Alerts {
    config: watch::Sender<Arc<AlertConfig>>,
    shared: Arc<Shared>,
}

impl Alerts {
    /// A deliverer that says in `reports` what became of each attempt, and writes `links` into messages.
    pub fn new(config: AlertConfig, reports: mpsc::Sender<Report>, links: Arc<Links>) -> Self {
        Self::with_limits(config, reports, links, Limits::default())
    }

    fn with_limits(
        config: AlertConfig,
        reports: mpsc::Sender<Report>,
        links: Arc<Links>,
        limits: Limits,
    ) -> Self {
        tls::install_provider();
        let turns = || Arc::new(Semaphore::new(AT_ONE_TIME));
        let shared = Shared {
            reports,
            links,
            limits,
            lanes: Mutex::default(),
            tasks: Mutex::default(),
            budgets: Mutex::default(),
            closing: watch::Sender::new(false),
            email: turns(),
            sms: turns(),
            webhook: turns(),
            receipts: Arc::new(Semaphore::new(RECEIPTS_MAX)),
        };
        Self { config: watch::Sender::new(Arc::new(config)), shared: Arc::new(shared) }
    }

    /// Takes up what earlier runs have sent. Must be called within the runtime, before anything is delivered.
    pub fn remember(&self, remembered: Remembered) {
        let now = std::time::Instant::now();
        {
            let mut budgets = self.shared.budgets();
            remembered.sent.iter().for_each(|(number, ago)| budgets.remember(number, *ago, now));
            remembered.held_back.iter().for_each(|number| budgets.remember_held_back(number));
        }
        for awaited in remembered.awaited {
            receipts::follow(&self.shared, self.config.subscribe(), awaited);
        }
    }

    /// The channels that a notice goes to.
    pub fn channels(&self) -> Vec<Channel> {
        let config = self.config.borrow();
        let email = config.email.is_some().then_some(Channel::Email);
        let webhook = config.webhook.is_some().then_some(Channel::Webhook);
        let sms = config.sms.is_some().then_some(Channel::Sms);
        email.into_iter().chain(sms).chain(webhook).collect()
    }

    /// A changed config; what waits is tried by it at once.
    pub fn apply(&self, config: AlertConfig) {
        self.config.send_replace(Arc::new(config));
    }

    /// Delivers one message, in a task of its own, trying again with growing delay. Must be called within the runtime.
    ///
    /// When [`WAITING_MAX`] messages wait already it stays in the outbox, and is sent after the next start.
    pub fn deliver(&self, delivery: Delivery) {
        let key = (delivery.channel, delivery.to.clone(), delivery.notice.incident);
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
        lanes.queues.insert(key.clone(), [delivery].into());
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
    reports: mpsc::Sender<Report>,
    links: Arc<Links>,
    limits: Limits,
    lanes: Mutex<Lanes>,
    /// Locked by nobody who holds the lanes: a task that cannot be spawned any more ends at once, and leaves its lane.
    tasks: Mutex<JoinSet<()>>,
    /// Locked for a moment, and never while another lock is taken.
    budgets: Mutex<Budgets>,
    /// No attempt is begun any more.
    closing: watch::Sender<bool>,
    email: Arc<Semaphore>,
    sms: Arc<Semaphore>,
    webhook: Arc<Semaphore>,
    /// Places for messages whose end is asked for.
    receipts: Arc<Semaphore>,
}

/// What a lane is known by: a person (or the webhook) and an incident.
type Key = (Channel, Option<Recipient>, IncidentId);

/// What waits, by lane; one that is here has a task.
#[derive(Debug, Default)]
struct Lanes {
    queues: BTreeMap<Key, VecDeque<Delivery>>,
    waiting: usize,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link by which somebody takes an incident on; none when it is over, or somebody has.
    fn take_on(&self, config: &AlertConfig, notice: &Notice, to: &Recipient) -> Option<String> {
        let dashboard = config.dashboard.as_deref()?;
        let open = notice.kind != NoticeKind::Resolved && notice.acknowledged_by.is_none();
        open.then(|| self.links.link(dashboard, notice.incident, to, notice.at)).flatten()
    }

    /// What somebody is asked, and their own links to decide on it.
    fn decide(&self, config: &AlertConfig, notice: &Notice, to: &Recipient) -> Vec<(String, String)> {
        let Some(dashboard) = config.dashboard.as_deref() else { return Vec::new() };
        let link = |asked: &Asked| {
            let link = self.links.decision(dashboard, asked.proposal, to, notice.at)?;
            Some((asked.what.clone(), link))
        };
        notice.asked.iter().filter_map(link).collect()
    }

    fn turns(&self, channel: Channel) -> &Semaphore {
        match channel {
            Channel::Email => &self.email,
            Channel::Sms => &self.sms,
            Channel::Webhook => &self.webhook,
        }
    }
}
