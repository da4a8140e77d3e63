//! A lane: the messages of one incident to one person, delivered one after the other, each until it is accepted or given up.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_model::escalation::Recipient;
use tokio::sync::watch;

use super::sms::budget::Verdict;
use super::sms::{Sent, Sms};
use super::{
    Attempted, Awaited, Channel, Delivery, DeliveryError, Key, Report, Shared, email, receipts, sms, webhook,
};
use crate::config::{AlertConfig, SmsConfig};

/// A message about something older is given up when an attempt fails: the dashboard tells it better by then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Nobody is woken for what is as old as this.
const GIVE_UP_SMS_AFTER: Duration = Duration::from_secs(6 * 3600);

/// One lane's task.
pub(super) struct Lane {
    key: Key,
    shared: Arc<Shared>,
    config: watch::Receiver<Arc<AlertConfig>>,
    /// It was found empty and removed.
    over: bool,
}

/// The deliverer is closing or was dropped, or nobody listens any longer: what waits is left to the outbox.
pub(super) struct Stopped;

/// How one message stands with its person's budget.
#[derive(Debug, Default)]
struct Place {
    /// It has a place that is neither used nor given back.
    taken: bool,
    /// Places that it has used.
    spent: u32,
    /// It is the last of the hour and stands for so many.
    stands_for: Option<u32>,
}

/// What became of one attempt.
struct Tried {
    result: Result<(), DeliveryError>,
    /// By which the provider can be asked what became of it.
    reference: Option<String>,
}

impl From<Result<(), DeliveryError>> for Tried {
    fn from(result: Result<(), DeliveryError>) -> Self {
        Self { result, reference: None }
    }
}

impl Lane {
    pub(super) fn new(key: Key, shared: Arc<Shared>, config: watch::Receiver<Arc<AlertConfig>>) -> Self {
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
        let mut place = Place::default();
        loop {
            let config = self.config.borrow_and_update().clone();
            let tried = match self.find_place(&config, &delivery, &mut place).await? {
                Ok(()) => self.attempt(&config, &delivery, &mut place).await?,
                Err(held_back) => Err(held_back).into(),
            };
            let result = tried.result.map_err(|error| give_up_if_old(error, &delivery));
            delivery.attempts = delivery.attempts.saturating_add(1);
            let over = result.as_ref().map_or_else(|error| error.permanent, |()| true);
            if over && place.taken {
                place.taken = false;
                self.shared.budgets().not_sent(number(&delivery));
            }
            let reference = tried.reference.filter(|_| result.is_ok());
            self.report(&delivery, result, reference.clone(), place.spent).await?;
            if let (Some(reference), Some(to)) = (reference, &delivery.to) {
                let incident = delivery.notice.incident;
                let awaited = Awaited { row: delivery.row, incident, to: to.clone(), reference };
                receipts::follow(&self.shared, self.config.clone(), awaited);
            }
            if over {
                return Ok(());
            }
            self.wait(jittered(delay)).await?;
            delay = self.shared.limits.delay_max.min(delay * 2);
        }
    }

    /// A text message needs a place in its person's budget. The last one of the hour waits for a while, to say how many more
    /// there would have been.
    async fn find_place(
        &mut self,
        config: &AlertConfig,
        delivery: &Delivery,
        place: &mut Place,
    ) -> Result<Result<(), DeliveryError>, Stopped> {
        let Some(sms) = config.sms.as_ref().filter(|_| delivery.channel == Channel::Sms && !place.taken)
        else {
            return Ok(Ok(()));
        };
        let verdict = self.shared.budgets().ask(number(delivery), sms.budget, Instant::now());
        match verdict {
            Verdict::HoldBack => {
                let text = format!(
                    "held back: more than {} text messages in an hour (alert.sms.budget)",
                    sms.budget
                );
                return Ok(Err(DeliveryError { text, permanent: true, held_back: true }));
            }
            Verdict::Send => place.taken = true,
            Verdict::Last => {
                place.taken = true;
                self.wait(self.shared.limits.gather).await?;
                let others = self.shared.budgets().take_held_back(number(delivery));
                let before = place.stands_for.unwrap_or(1);
                place.stands_for = (others > 0 || before > 1).then(|| before.saturating_add(others));
            }
        }
        Ok(Ok(()))
    }

    /// One attempt, when it is this lane's turn.
    async fn attempt(
        &mut self,
        config: &AlertConfig,
        delivery: &Delivery,
        place: &mut Place,
    ) -> Result<Tried, Stopped> {
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
            Ok(attempt(&shared, config, delivery, place).await)
        };
        tokio::select! {
            result = attempt => result,
            () = dropped(self.config.clone()) => Err(Stopped),
        }
    }

    /// Waits for the engine to take the report, which may take as long as it likes: no turn is held meanwhile.
    async fn report(
        &self,
        delivery: &Delivery,
        result: Result<(), DeliveryError>,
        reference: Option<String>,
        spent: u32,
    ) -> Result<(), Stopped> {
        let attempted = Attempted {
            row: delivery.row,
            incident: delivery.notice.incident,
            channel: delivery.channel,
            to: delivery.to.clone(),
            attempts: delivery.attempts,
            result,
            reference,
            spent,
        };
        tokio::select! {
            sent = self.shared.reports.send(Report::Attempted(attempted)) => sent.map_err(|_| Stopped),
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

/// Sends it once.
async fn attempt(shared: &Shared, config: &AlertConfig, delivery: &Delivery, place: &mut Place) -> Tried {
    let limits = shared.limits;
    let dashboard = config.dashboard.as_deref();
    let nobody = || {
        let text = "an earlier version of Mainstay wrote it down, without saying whom it is for";
        Tried::from(Err(DeliveryError::permanent(text)))
    };
    match delivery.channel {
        Channel::Email => match (&config.email, &delivery.to) {
            (Some(email), Some(to)) => {
                let take_on = shared.take_on(config, &delivery.notice, to);
                let decide = shared.decide(config, &delivery.notice, to);
                let links = email::LinksIn { dashboard, take_on: take_on.as_deref(), decide: &decide };
                email::send(email, links, &delivery.notice, to, limits.email).await.into()
            }
            (None, _) => Err(gone("alert.email")).into(),
            (_, None) => nobody(),
        },
        Channel::Sms => match (&config.sms, &delivery.to) {
            (Some(sms), Some(to)) => text_message(shared, config, sms, (delivery, to), place).await,
            (None, _) => Err(gone("alert.sms")).into(),
            (_, None) => nobody(),
        },
        Channel::Webhook => match &config.webhook {
            Some(webhook) => webhook::send(webhook, dashboard, delivery, limits.webhook).await.into(),
            None => Err(gone("alert.webhook")).into(),
        },
    }
}

async fn text_message(
    shared: &Shared,
    config: &AlertConfig,
    sms: &SmsConfig,
    (delivery, to): (&Delivery, &Recipient),
    place: &mut Place,
) -> Tried {
    let notice = &delivery.notice;
    let text = match place.stands_for {
        Some(count) => sms::held_back(count, sms, config.dashboard.as_deref()),
        // One link fits into a text message: what is asked comes first.
        None => {
            let decide = shared.decide(config, notice, to).into_iter().next().map(|(_, link)| link);
            sms::text(notice, decide.or_else(|| shared.take_on(config, notice, to)).as_deref())
        }
    };
    let sent = sms::send(sms, Sms { to, notice, text: &text }, shared.limits.sms).await;
    // From here on it may have been sent, or was.
    let mut use_place = || {
        place.taken = false;
        place.spent = place.spent.saturating_add(1);
        shared.budgets().sent(&to.address, Instant::now());
    };
    match sent {
        Sent::Accepted(reference) => {
            use_place();
            Tried { result: Ok(()), reference }
        }
        Sent::Perhaps(error) => {
            use_place();
            Err(error).into()
        }
        Sent::Refused(error) => Err(error).into(),
    }
}

fn number(delivery: &Delivery) -> &str {
    delivery.to.as_ref().map_or("", |to| &to.address)
}

/// Returns when no attempt is to be begun any more.
pub(super) async fn closing(shared: &Shared) {
    // The sender is the shared state's own, so it cannot be gone.
    let _ = shared.closing.subscribe().wait_for(|closing| *closing).await;
}

/// Returns when the deliverer was dropped.
pub(super) async fn dropped(mut config: watch::Receiver<Arc<AlertConfig>>) {
    while config.changed().await.is_ok() {}
}

fn gone(key: &str) -> DeliveryError {
    DeliveryError::permanent(format!("`{key}` was taken out of the config, so the message was not sent"))
}

fn give_up_if_old(error: DeliveryError, delivery: &Delivery) -> DeliveryError {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let told = Duration::from_millis(u64::try_from(delivery.notice.at.0).unwrap_or(0));
    let longest = if delivery.channel == Channel::Sms { GIVE_UP_SMS_AFTER } else { GIVE_UP_AFTER };
    if error.permanent || now.saturating_sub(told) < longest {
        return error;
    }
    let hours = longest.as_secs() / 3600;
    DeliveryError::permanent(format!("given up after {hours} hours; the last attempt: {}", error.text))
}

/// Up to a fifth more or less, so that many lanes do not come at one moment.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.8 + 0.4 * fastrand::f64())
}
