//! Effects that must be written down before they are done: intents of actions, and messages.
//!
//! A record that cannot be written delays them for a moment, but stops few: a server that is down is started, and people are told,
//! also with a full disk. A switch that is not written down is not run: a Mainstay that dies and comes back would run it twice. Nor is the fault
//! of a drill made: it would not be known for one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::drill::DrillStep;
use mainstay_model::effect::{ActionOrder, SwitchOrder};
use mainstay_model::substitute::ProvideOrder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::alert::{Alerts, Delivery};
use crate::probe::Prober;
use crate::recovery::Supervisor;
use crate::store::StoreError;

/// How long the record may take to confirm before the errand is run all the same, from when it was asked for: errands
/// that wait behind one another wait for a slow disk only once.
const CONFIRM: Duration = Duration::from_millis(500);
/// And how long until a switch is refused; nobody waits behind it.
const CONFIRM_SWITCH: Duration = Duration::from_secs(10);
/// Errands that may wait; more than a site of 50 servers can cause at once.
const WAITING: usize = 1024;

type Confirmation = oneshot::Receiver<Result<(), StoreError>>;

/// What one judgement asks for.
#[derive(Debug, Default)]
pub struct Errand {
    /// Actions to be carried out.
    pub orders: Vec<ActionOrder>,
    /// The users' own commands to be run, and servers to be promoted.
    pub switches: Vec<SwitchOrder>,
    /// Faults to be made.
    pub drills: Vec<DrillStep>,
    /// Instances to be made or destroyed.
    pub provides: Vec<ProvideOrder>,
    /// Messages to be sent.
    pub deliveries: Vec<Delivery>,
    /// Told when everything before it was begun.
    pub passed: Option<oneshot::Sender<()>>,
}

impl Errand {
    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
            && self.switches.is_empty()
            && self.drills.is_empty()
            && self.provides.is_empty()
            && self.deliveries.is_empty()
            && self.passed.is_none()
    }
}

/// An errand, its confirmation, and until when that is waited for.
type Waiting = (Errand, Confirmation, Instant);

/// Takes errands, in their order.
#[derive(Debug)]
pub struct Errands(mpsc::Sender<Waiting>);

/// Errands that were taken and are not begun.
#[derive(Debug)]
pub struct Held(mpsc::Receiver<Waiting>);

impl Errands {
    /// A queue that holds errands until [`Held::begin`].
    pub fn new() -> (Self, Held) {
        let (errands, waiting) = mpsc::channel(WAITING);
        (Self(errands), Held(waiting))
    }

    /// Runs an errand once what it does is on disk.
    ///
    /// # Errors
    /// The errand itself, when too many wait. Its messages stay in the outbox and are sent by the next run.
    pub fn run(&self, errand: Errand, confirmation: Confirmation) -> Result<(), Box<Errand>> {
        let waiting = (errand, confirmation, Instant::now() + CONFIRM);
        self.0.try_send(waiting).map_err(|refused| Box::new(refused.into_inner().0))
    }
}

impl Held {
    /// Runs errands in a task of its own until the [`Errands`] are dropped.
    pub fn begin(mut self, supervisor: Arc<Supervisor>, prober: Arc<Prober>, alerts: Arc<Alerts>) {
        tokio::spawn(async move {
            while let Some((errand, mut confirmation, until)) = self.0.recv().await {
                let written = confirmed(&mut confirmation, until).await;
                if let Err(how) = &written {
                    warn!("what is about to be done is not written down: {how}; it is done all the same");
                }
                for order in errand.orders {
                    supervisor.carry_out(order);
                }
                if !errand.switches.is_empty() || !errand.drills.is_empty() || !errand.provides.is_empty() {
                    let (supervisor, prober) = (Arc::clone(&supervisor), Arc::clone(&prober));
                    let (switches, drills, provides) = (errand.switches, errand.drills, errand.provides);
                    tokio::spawn(async move {
                        let written = match written {
                            // It may come yet.
                            Err(NotWritten::Late) => {
                                confirmed(&mut confirmation, until + CONFIRM_SWITCH).await
                            }
                            known => known,
                        };
                        for order in switches {
                            match &written {
                                Ok(()) if order.promote.is_some() => prober.promote(order),
                                Ok(()) => supervisor.switch(order),
                                Err(how) => supervisor.refuse_switch(order, how.to_string()).await,
                            }
                        }
                        for step in drills {
                            match &written {
                                Ok(()) => supervisor.drill(step),
                                Err(how) => supervisor.refuse_drill(&step, how.to_string()).await,
                            }
                        }
                        for order in provides {
                            match &written {
                                Ok(()) => supervisor.provide(order),
                                Err(how) => supervisor.refuse_to_provide(order, how.to_string()).await,
                            }
                        }
                    });
                }
                for delivery in errand.deliveries {
                    alerts.deliver(delivery);
                }
                if let Some(passed) = errand.passed {
                    let _ = passed.send(());
                }
            }
        });
    }
}

/// Why an errand is not known to be on disk.
#[derive(Debug)]
enum NotWritten {
    /// Nobody has said yet.
    Late,
    /// It cannot be.
    Failed(String),
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotWritten::Late => f.write_str("the record takes long"),
            NotWritten::Failed(why) => f.write_str(why),
        }
    }
}

async fn confirmed(confirmation: &mut Confirmation, until: Instant) -> Result<(), NotWritten> {
    match timeout_at(until, confirmation).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(NotWritten::Failed(error.to_string())),
        Ok(Err(_)) => Err(NotWritten::Failed("the record is closed".to_owned())),
        Err(_) => Err(NotWritten::Late),
    }
}
