//! The loop: inputs in, effects out, one at a time and in order.

use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::Record;
use mainstay_model::input::{OwnPart, Restored};
use mainstay_model::routing::RoutingTable;
use mainstay_model::{Effect, Input, Model, Now, Snapshot, Wall};
use mainstay_proxy::{Proxy, Report};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::clock::Clock;
use super::errands::Errands;
use super::{STOP_SERVERS, names};
use crate::alert::{Alerts, Attempted, Delivery};
use crate::config::{Config, ServerAddress};
use crate::probe::Prober;
use crate::recovery::Supervisor;
use crate::store::{Accumulator, Store, Write};

/// Between two snapshots for the pages.
const PUBLISH: Duration = Duration::from_millis(250);
/// Between two notes in the record that Mainstay is alive: how exactly a gap is known afterwards.
const ALIVE: Duration = Duration::from_secs(1);
/// Between two flushes of the current minute's roll-ups: how much of them a crash may lose.
const FLUSH: Duration = Duration::from_secs(5);
/// A channel that has failed for so long is trouble of Mainstay's own.
const ALERTS_PATIENCE: i64 = 5 * 60 * 1000;

/// What the rest of the program asks of the loop.
#[derive(Debug)]
pub enum Message {
    /// Judge an input that a person caused; `done` when the snapshot shows it.
    Judge { input: Input, done: oneshot::Sender<()> },
    /// Go by a changed config.
    Apply { config: Box<Config>, done: oneshot::Sender<()> },
    /// Drain and stop everything.
    Stop { drain: Duration, done: oneshot::Sender<()> },
}

/// What the loop works with.
pub struct Parts {
    pub clock: Clock,
    pub model: Model,
    pub prober: Prober,
    pub supervisor: Arc<Supervisor>,
    pub alerts: Arc<Alerts>,
    pub store: Store,
    pub names: watch::Sender<std::collections::BTreeMap<mainstay_model::ServerId, (String, u16)>>,
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    pub events: broadcast::Sender<Record>,
}

/// Where inputs come from.
pub struct Sources {
    pub from_adapters: mpsc::Receiver<Input>,
    pub from_proxy: mpsc::Receiver<Report>,
    pub from_alerts: mpsc::Receiver<Attempted>,
    pub control: mpsc::Receiver<Message>,
}

/// The loop and all that it owns.
pub struct Core {
    parts: Parts,
    errands: Errands,
    history: Accumulator,
    /// The newest table, until the data plane is there to take it.
    table: Arc<RoutingTable>,
    proxy: Option<Proxy>,
    /// Since when each channel has failed without a success between.
    failing: std::collections::BTreeMap<crate::alert::Channel, Wall>,
    alerts_in_trouble: bool,
}

impl Core {
    /// A loop that has not begun.
    pub fn new(parts: Parts) -> Self {
        let errands = Errands::start(parts.supervisor.clone(), parts.alerts.clone());
        Self {
            parts,
            errands,
            history: Accumulator::default(),
            table: Arc::default(),
            proxy: None,
            failing: std::collections::BTreeMap::new(),
            alerts_in_trouble: false,
        }
    }

    /// Tells the judge what is in the record and in the config; returns the first routing table.
    pub fn begin(&mut self, restored: Restored, config: &Config) -> Arc<RoutingTable> {
        if let Some(last_alive) = restored.last_alive {
            let gap = self.parts.clock.now().wall.ms_since(last_alive);
            info!(
                gap_ms = gap,
                open_incidents = restored.incidents.len(),
                "the record of an earlier run was found"
            );
        }
        self.judge(Input::Restored(restored));
        self.apply(config);
        self.table.clone()
    }

    fn apply(&mut self, config: &Config) {
        self.parts.supervisor.apply(config.commands.clone(), config.secret_variables.clone());
        self.parts.alerts.apply(config.alerts.clone());
        self.parts.store.apply(config.retention);
        self.judge(Input::Policy(config.policy.clone()));
        for (server, address) in &config.addresses {
            if let ServerAddress::Fixed(address) = address {
                self.judge(Input::Address { server: server.clone(), address: Some(*address) });
            }
        }
        self.parts.names.send_replace(names::named(&config.addresses));
        self.judge(Input::Own { part: OwnPart::Config, trouble: None });
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, proxy: Proxy, mut sources: Sources, ready: watch::Sender<bool>) {
        proxy.publish(self.table.clone());
        self.proxy = Some(proxy);
        self.publish_snapshot();
        ready.send_replace(true);
        let mut publish = ticker(PUBLISH);
        let mut alive = ticker(ALIVE);
        let mut flush = ticker(FLUSH);
        let mut trouble = self.parts.store.trouble();
        let (drained, mut drain_ended) = mpsc::channel::<usize>(1);
        let mut stopping: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            let due = self.parts.model.poll_timeout().map(|at| self.parts.clock.instant(at));
            tokio::select! {
                Some(message) = sources.control.recv() => match message {
                    Message::Judge { input, done } => {
                        self.judge(input);
                        self.publish_snapshot();
                        let _ = done.send(());
                    }
                    Message::Apply { config, done } => {
                        self.apply(&config);
                        self.publish_snapshot();
                        let _ = done.send(());
                    }
                    Message::Stop { drain, done } => {
                        stopping.push(done);
                        ready.send_replace(false);
                        if let Some(proxy) = self.proxy.take() {
                            let drained = drained.clone();
                            tokio::spawn(async move {
                                let _ = drained.send(proxy.drain(drain).await).await;
                            });
                        }
                    }
                },
                Some(cut) = drain_ended.recv() => {
                    if cut > 0 {
                        warn!(cut, "connections were cut at the end of the drain deadline");
                    }
                    break;
                }
                Some(report) = sources.from_proxy.recv() => self.judge(match report {
                    Report::Failure(failure) => Input::Failure(failure),
                    Report::Traffic(traffic) => Input::Traffic(traffic),
                }),
                Some(input) = sources.from_adapters.recv() => self.judge(input),
                Some(attempted) = sources.from_alerts.recv() => self.tried(attempted),
                () = due_or_never(due) => self.time_passed(),
                Ok(()) = trouble.changed() => {
                    let trouble = trouble.borrow_and_update().clone();
                    self.judge(Input::Own { part: OwnPart::Record, trouble });
                }
                _ = publish.tick() => self.publish_snapshot(),
                _ = alive.tick() => {
                    let now = self.parts.clock.now();
                    self.write(vec![Write::Alive(now.wall)]);
                }
                _ = flush.tick() => self.flush(),
            }
        }
        self.end(sources).await;
        for done in stopping {
            let _ = done.send(());
        }
    }

    /// The data plane is gone: takes in its last counts, ends the supervised servers, and closes the record.
    async fn end(mut self, mut sources: Sources) {
        while let Ok(report) = sources.from_proxy.try_recv() {
            if let Report::Traffic(traffic) = report {
                self.judge(Input::Traffic(traffic));
            }
        }
        self.parts.supervisor.stop_all(STOP_SERVERS).await;
        self.flush();
        self.publish_snapshot();
        let store = self.parts.store;
        let closed = tokio::task::spawn_blocking(move || store.close());
        if closed.await.is_err() {
            error!("the record's writer has panicked; what it had not written is lost");
        }
    }

    fn judge(&mut self, input: Input) {
        let now = self.parts.clock.now();
        self.history.observe(now, &input);
        self.parts.model.handle(now, input);
        self.carry_out(now);
    }

    fn time_passed(&mut self) {
        let now = self.parts.clock.now();
        self.parts.model.handle_timeout(now);
        self.carry_out(now);
    }

    fn carry_out(&mut self, now: Now) {
        let mut records = Vec::new();
        while let Some(effect) = self.parts.model.poll_effect() {
            match effect {
                Effect::Route(table) => {
                    if let Some(proxy) = &self.proxy {
                        proxy.publish(table.clone());
                    }
                    self.table = table;
                }
                Effect::Probe(order) => self.parts.prober.order(order),
                Effect::Recover(order) => {
                    info!(action = order.id.0, server = %order.server, kind = order.kind.as_str(), reason = order.reason, "recovery");
                    let intent = Write::Intent { order: order.clone(), at: now.wall };
                    let confirmation = self.parts.store.write(vec![intent]);
                    if let Err(order) = self.errands.act(order, confirmation) {
                        error!(action = order.id.0, "too many actions wait; this one was not begun");
                        let result = Err("too many actions wait already".to_owned());
                        self.parts.model.handle(now, Input::Outcome { action: order.id, result });
                    }
                }
                Effect::Notify(notice) => self.tell(now, notice),
                Effect::Record(record) => {
                    let _ = self.parts.events.send(record.clone());
                    records.push(Write::Record(record));
                }
            }
        }
        self.write(records);
    }

    fn tell(&self, now: Now, notice: mainstay_model::effect::Notice) {
        warn!(
            incident = notice.incident.0,
            kind = notice.kind.as_str(),
            title = notice.title,
            "telling people"
        );
        let channels = self.parts.alerts.channels().into_iter();
        let deliveries: Vec<Delivery> = channels
            .map(|channel| Delivery {
                row: self.parts.store.next_outbox_row(),
                channel,
                notice: notice.clone(),
                attempts: 0,
            })
            .collect();
        if deliveries.is_empty() {
            return;
        }
        let rows =
            deliveries.iter().map(|delivery| Write::Outbox { delivery: delivery.clone(), at: now.wall });
        let confirmation = self.parts.store.write(rows.collect());
        self.errands.tell(deliveries, confirmation);
    }

    fn tried(&mut self, attempted: Attempted) {
        let now = self.parts.clock.now();
        let (error, done) = match &attempted.result {
            Ok(()) => (None, true),
            Err(error) => (Some(error.text.clone()), error.permanent),
        };
        let row = Write::OutboxTried {
            row: attempted.row,
            at: now.wall,
            attempts: attempted.attempts,
            error: error.clone(),
            done,
        };
        self.write(vec![row]);
        match error {
            None => {
                self.failing.remove(&attempted.channel);
            }
            Some(error) => {
                warn!(incident = attempted.incident.0, channel = ?attempted.channel, attempts = attempted.attempts, error, "a message was not delivered");
                let since = *self.failing.entry(attempted.channel).or_insert(now.wall);
                if done || now.wall.ms_since(since) >= ALERTS_PATIENCE {
                    self.alerts_in_trouble = true;
                    let trouble = Some(format!("{:?}: {error}", attempted.channel));
                    self.judge(Input::Own { part: OwnPart::Alerts, trouble });
                }
            }
        }
        if self.failing.is_empty() && std::mem::take(&mut self.alerts_in_trouble) {
            self.judge(Input::Own { part: OwnPart::Alerts, trouble: None });
        }
    }

    fn flush(&mut self) {
        let (servers, services) = self.history.take(self.parts.clock.now());
        if !servers.is_empty() || !services.is_empty() {
            self.write(vec![Write::Minute { servers, services }]);
        }
    }

    /// Queues changes of the record. Nobody waits for them: what cannot be written shows as trouble of the record's own.
    fn write(&self, changes: Vec<Write>) {
        if !changes.is_empty() {
            drop(self.parts.store.write(changes));
        }
    }

    fn publish_snapshot(&self) {
        self.parts.snapshot.send_replace(Arc::new(self.parts.model.snapshot(self.parts.clock.now())));
    }
}

fn ticker(every: Duration) -> Interval {
    let mut ticker = interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

async fn due_or_never(due: Option<tokio::time::Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
