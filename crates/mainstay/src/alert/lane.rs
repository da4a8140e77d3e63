//! A lane: the messages of one incident on one channel, delivered one after the other, each until it is accepted or given up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_model::IncidentId;
use tokio::sync::watch;

use super::{Attempted, Channel, Delivery, DeliveryError, Shared, email, webhook};
use crate::config::AlertConfig;

/// A message about something older is given up when an attempt fails: the dashboard tells it better by then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// One lane's task.
pub(super) struct Lane {
    key: (Channel, IncidentId),
    shared: Arc<Shared>,
    config: watch::Receiver<Arc<AlertConfig>>,
    /// It was found empty and removed.
    over: bool,
}

/// The deliverer is closing or was dropped, or nobody listens any longer: what waits is left to the outbox.
struct Stopped;

impl Lane {
    pub(super) fn new(
        key: (Channel, IncidentId),
        shared: Arc<Shared>,
        config: watch::Receiver<Arc<AlertConfig>>,
    ) -> Self {
        Self { key, shared, config, over: false }
    }

    /// Runs until the lane is empty.
    pub(super) async fn run(mut self) {
        while let Some(delivery) = self.first() {
            if self.deliver(delivery).await.is_err() {
                return;
            }
            let mut lanes = self.shared.lanes();
            if let Some(queue) = lanes.queues.get_mut(&self.key) {
                queue.pop_front();
                lanes.waiting = lanes.waiting.saturating_sub(1);
            }
        }
    }

    /// The first that waits; an empty lane is removed, under the same lock, so that the next message opens a new one.
    fn first(&mut self) -> Option<Delivery> {
        let mut lanes = self.shared.lanes();
        let first = lanes.queues.get(&self.key).and_then(|queue| queue.front().cloned());
        if first.is_none() {
            lanes.queues.remove(&self.key);
            self.over = true;
        }
        first
    }

    async fn deliver(&mut self, mut delivery: Delivery) -> Result<(), Stopped> {
        let mut delay = self.shared.limits.delay_base;
        // Recipients whose mail server took the message in an earlier attempt: they do not get it twice.
        let mut accepted = BTreeSet::new();
        loop {
            let config = self.config.borrow_and_update().clone();
            let result = self.attempt(&config, &delivery, &mut accepted).await?;
            let result = result.map_err(|error| give_up_if_old(error, &delivery));
            delivery.attempts = delivery.attempts.saturating_add(1);
            let over = result.as_ref().map_or_else(|error| error.permanent, |()| true);
            self.report(&delivery, result).await?;
            if over {
                return Ok(());
            }
            self.wait(jittered(delay)).await?;
            delay = self.shared.limits.delay_max.min(delay * 2);
        }
    }

    /// One attempt, when it is this lane's turn.
    async fn attempt(
        &mut self,
        config: &AlertConfig,
        delivery: &Delivery,
        accepted: &mut BTreeSet<String>,
    ) -> Result<Result<(), DeliveryError>, Stopped> {
        let shared = self.shared.clone();
        let attempt = async {
            // The semaphore is never closed; without a permit it would only be less polite.
            let _turn = tokio::select! {
                turn = shared.turns(delivery.channel).acquire() => turn,
                () = closing(&shared) => return Err(Stopped),
            };
            if *shared.closing.borrow() {
                return Err(Stopped);
            }
            let limits = shared.limits;
            let dashboard = config.dashboard.as_deref();
            let result = match delivery.channel {
                Channel::Email => match &config.email {
                    Some(email) => {
                        email::send(email, dashboard, &delivery.notice, accepted, limits.email).await
                    }
                    None => Err(gone("alert.email")),
                },
                Channel::Webhook => match &config.webhook {
                    Some(webhook) => webhook::send(webhook, dashboard, delivery, limits.webhook).await,
                    None => Err(gone("alert.webhook")),
                },
            };
            Ok(result)
        };
        tokio::select! {
            result = attempt => result,
            () = dropped(self.config.clone()) => Err(Stopped),
        }
    }

    /// Waits for the engine to take the report, which may take as long as it likes: no turn is held meanwhile.
    async fn report(&self, delivery: &Delivery, result: Result<(), DeliveryError>) -> Result<(), Stopped> {
        let attempted = Attempted {
            row: delivery.row,
            incident: delivery.notice.incident,
            channel: delivery.channel,
            attempts: delivery.attempts,
            result,
        };
        tokio::select! {
            sent = self.shared.attempted.send(attempted) => sent.map_err(|_| Stopped),
            () = dropped(self.config.clone()) => Err(Stopped),
        }
    }

    /// Waits out the delay, or less when the config is changed.
    async fn wait(&mut self, delay: Duration) -> Result<(), Stopped> {
        let shared = self.shared.clone();
        tokio::select! {
            changed = self.config.changed() => changed.map_err(|_| Stopped),
            () = tokio::time::sleep(delay) => Ok(()),
            () = closing(&shared) => Err(Stopped),
        }
    }
}

impl Drop for Lane {
    /// Whatever made it end early, the next message of the incident opens a new lane.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut lanes = self.shared.lanes();
        let left = lanes.queues.remove(&self.key).map_or(0, |queue| queue.len());
        lanes.waiting = lanes.waiting.saturating_sub(left);
    }
}

/// Returns when no attempt is to be begun any more.
async fn closing(shared: &Shared) {
    // The sender is the shared state's own, so it cannot be gone.
    let _ = shared.closing.subscribe().wait_for(|closing| *closing).await;
}

/// Returns when the deliverer was dropped.
async fn dropped(mut config: watch::Receiver<Arc<AlertConfig>>) {
    while config.changed().await.is_ok() {}
}

fn gone(key: &str) -> DeliveryError {
    DeliveryError::permanent(format!("`{key}` was taken out of the config, so the message was not sent"))
}

fn give_up_if_old(error: DeliveryError, delivery: &Delivery) -> DeliveryError {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let told = Duration::from_millis(u64::try_from(delivery.notice.at.0).unwrap_or(0));
    if error.permanent || now.saturating_sub(told) < GIVE_UP_AFTER {
        return error;
    }
    DeliveryError::permanent(format!("given up after 24 hours; the last attempt: {}", error.text))
}

/// Up to a fifth more or less, so that many lanes do not come at one moment.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.8 + 0.4 * fastrand::f64())
}
