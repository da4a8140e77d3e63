//! Effects that must be written down before they are done: intents of actions, and messages.
//!
//! A record that cannot be written delays them for a moment, but never stops them: a server that is down is started,
//! and people are told, also with a full disk.

use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::ActionOrder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use crate::alert::{Alerts, Delivery};
use crate::recovery::Supervisor;
use crate::store::StoreError;

/// How long the record may take to confirm before the errand is run all the same.
const CONFIRM: Duration = Duration::from_millis(500);
/// Errands that may wait; more than a site of 50 servers can cause at once.
const WAITING: usize = 1024;

type Confirmation = oneshot::Receiver<Result<(), StoreError>>;

/// Takes errands; clones share one queue a kind, so that each kind keeps its order.
#[derive(Debug, Clone)]
pub struct Errands {
    actions: mpsc::Sender<(ActionOrder, Confirmation)>,
    messages: mpsc::Sender<(Vec<Delivery>, Confirmation)>,
}

impl Errands {
    /// Runs errands in two tasks of their own until the last clone is dropped.
    pub fn start(supervisor: Arc<Supervisor>, alerts: Arc<Alerts>) -> Self {
        let (actions, mut waiting) = mpsc::channel::<(ActionOrder, Confirmation)>(WAITING);
        tokio::spawn(async move {
            while let Some((order, confirmation)) = waiting.recv().await {
                confirmed("the intent of an action", confirmation).await;
                supervisor.carry_out(order);
            }
        });
        let (messages, mut waiting) = mpsc::channel::<(Vec<Delivery>, Confirmation)>(WAITING);
        tokio::spawn(async move {
            while let Some((deliveries, confirmation)) = waiting.recv().await {
                confirmed("a message", confirmation).await;
                for delivery in deliveries {
                    alerts.deliver(delivery);
                }
            }
        });
        Self { actions, messages }
    }

    /// Carries an action out once its intent is on disk.
    ///
    /// # Errors
    /// The order itself, when too many wait.
    pub fn act(&self, order: ActionOrder, confirmation: Confirmation) -> Result<(), Box<ActionOrder>> {
        self.actions.try_send((order, confirmation)).map_err(|refused| Box::new(refused.into_inner().0))
    }

    /// Sends messages once they are in the outbox. Messages that find the queue full stay in the outbox and are sent by
    /// the next run.
    pub fn tell(&self, deliveries: Vec<Delivery>, confirmation: Confirmation) {
        if self.messages.try_send((deliveries, confirmation)).is_err() {
            warn!("more than {WAITING} messages wait; further ones stay in the outbox until the next start");
        }
    }
}

async fn confirmed(what: &str, confirmation: Confirmation) {
    match timeout(CONFIRM, confirmation).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!(%error, "{what} could not be written down; it is done all the same"),
        Ok(Err(_)) => warn!("{what} was not written down: the record is closed; it is done all the same"),
        Err(_) => warn!("{what} is not written down yet; it is done all the same"),
    }
}
