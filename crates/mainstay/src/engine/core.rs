//! The loop: inputs in, effects out, one at a time and in order.

mod ending;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::carried::Carried;
use mainstay_model::chain;
use mainstay_model::change::{Change, ChangeKind};
use mainstay_model::effect::{Notice, Record};
use mainstay_model::escalation::Recipient;
use mainstay_model::host::seconds::Second;
use mainstay_model::input::{MessageReport, OwnPart, Restored};
use mainstay_model::pace::PaceNews;
use mainstay_model::routing::{RoutedService, RoutingTable};
use mainstay_model::snapshot::ServiceState;
use mainstay_model::substitute::Provided;
use mainstay_model::window::HandWindow;
use mainstay_model::{Effect, Input, Model, MonitorId, Now, Policy, ServerId, ServiceId, Snapshot, Wall};
use mainstay_proxy::{Proxy, Report, ServersTls};
use rustls::ServerConfig;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::around::Around;
use super::certificates::Certificates;
use super::clock::Clock;
use super::drilling::Drilling;
use super::errands::{Errand, Errands, Held};
use super::maintenance::Maintenance;
use super::names::{self, LookedUp, News as NamesNews};

use super::status;
use super::targets::{Target, Targets};
use crate::alert::{Alerts, Attempted, Channel, Delivery, Receipted, Report as News};
use crate::calendar::Schedule;
use crate::config::{AlertConfig, Config, MonitorSpec, Retention, ServerAddress};
use crate::dns::Dns;
use crate::freeze::FreezeFile;
use crate::heartbeat::Taken;
use crate::host::Host;
use crate::journal::Journal;
use crate::probe::{Prober, Watched};
use crate::recovery::Supervisor;
use crate::recovery::backup::Backups;
use crate::store::{Accumulator, MachineAccumulator, MonitorAccumulator, Store, Write};
use crate::tls::servers::{Backs, watchers};

/// Between two snapshots for the pages.
const PUBLISH: Duration = Duration::from_millis(250);
/// Between two notes in the record that Mainstay is alive: how exactly a gap is known afterwards.
const ALIVE: Duration = Duration::from_secs(1);
/// Between two flushes of the current minute's roll-ups: how much of them a crash may lose.
const FLUSH: Duration = Duration::from_secs(5);
/// When Mainstay stops, messages that are just being handed over have so long.
const CLOSE_ALERTS: Duration = Duration::from_secs(5);
/// Before a hand-over, what waits to be begun has so long.
const ERRANDS_TAKE: Duration = Duration::from_secs(3);
/// After a hand-over that failed, the record may be held for so long.
const RECORD_RETURNS: Duration = Duration::from_secs(10);
/// Pings that are judged together.
const PINGS_AT_ONCE: usize = 1024;
/// For pings to be on the disk; a record in trouble keeps them in memory until it is well.
const PINGS_TAKE: Duration = Duration::from_secs(2);
/// A channel that has failed for so long is trouble of Mainstay's own.
const ALERTS_PATIENCE: i64 = 5 * 60 * 1000;

/// What the rest of the program asks of the loop.
#[derive(Debug)]
pub enum Message {
    /// Judge an input that a person caused; `done` when the snapshot shows it.
    Judge { input: Input, done: oneshot::Sender<()> },
    /// Go by a changed config.
    Apply { config: Box<Config>, page_routes: Vec<RoutedService>, done: oneshot::Sender<()> },
    /// Decide no more and close the record: another Mainstay is to go on.
    Freeze { done: oneshot::Sender<Carried> },
    /// It does not: go on.
    Thaw { done: oneshot::Sender<()> },
    /// It does: end, and leave everything to it.
    Leave,
    /// Drain and stop everything.
    Stop { drain: Duration, done: oneshot::Sender<()> },
}

/// What the loop works with.
pub struct Parts {
    pub clock: Clock,
    /// What the judge rolls its dice from.
    pub seed: u64,
    pub model: Model,
    pub host: Host,
    pub prober: Arc<Prober>,
    pub supervisor: Arc<Supervisor>,
    pub backups: Backups,
    pub alerts: Arc<Alerts>,
    pub store: Store,
    pub journal: Journal,
    pub freeze: FreezeFile,
    pub dns: Arc<Dns>,
    pub names: watch::Sender<names::Wanted>,
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    pub events: broadcast::Sender<Record>,
}

/// Where inputs come from.
pub struct Sources {
    pub from_adapters: mpsc::Receiver<Input>,
    pub from_proxy: mpsc::Receiver<Report>,
    pub from_alerts: mpsc::Receiver<News>,
    pub from_names: mpsc::Receiver<NamesNews>,
    pub from_jobs: mpsc::Receiver<Taken>,
    pub control: mpsc::Receiver<Message>,
}

/// The loop and all that it owns.
pub struct Core {
    parts: Parts,
    errands: Errands,
    /// Until the data plane listens nothing is done that could be seen outside.
    held: Option<Held>,
    /// Where servers listen that Mainstay does not start itself.
    addresses: BTreeMap<ServerId, ServerAddress>,
    /// What the config says of servers, before names are replaced by what they stand for.
    written: Written,
    /// What names of services stand for.
    targets: Targets,
    alert_config: AlertConfig,
    maintenance: Maintenance,
    drilling: Drilling,
    certificates: Certificates,
    /// How TLS is spoken with servers.
    backs: Backs,
    /// The longest that a supervised server may take to end.
    stop_servers: Duration,
    history: Accumulator,
    machine: MachineAccumulator,
    around: Around,
    monitors: MonitorAccumulator,
    /// When jobs that go by a calendar are to ping.
    schedules: BTreeMap<MonitorId, Schedule>,
    /// What the judge asked the calendar, answered.
    occurs: Vec<Input>,
    /// The newest table, until the data plane is there to take it.
    table: Arc<RoutingTable>,
    /// What the data plane is told beside the judge's table: where the status page is.
    page_routes: Vec<RoutedService>,
    proxy: Option<Arc<Proxy>>,
    /// Where the record is, and how long it keeps what.
    record: Option<(PathBuf, Retention)>,
    /// Since when each way of telling somebody has failed without a success between.
    failing: BTreeMap<(Channel, Option<Recipient>), Wall>,
    alerts_in_trouble: bool,
}

/// What a config says of servers.
#[derive(Debug, Default)]
struct Written {
    policy: Policy,
    addresses: BTreeMap<ServerId, ServerAddress>,
    resolver: Option<SocketAddr>,
}

impl Core {
    /// A loop that has not begun.
    pub fn new(parts: Parts) -> Self {
        let (errands, held) = Errands::new();
        Self {
            parts,
            errands,
            held: Some(held),
            addresses: BTreeMap::new(),
            written: Written::default(),
            targets: Targets::default(),
            alert_config: AlertConfig::default(),
            maintenance: Maintenance::default(),
            drilling: Drilling::default(),
            certificates: Certificates::default(),
            backs: Backs::default(),
            stop_servers: Duration::ZERO,
            history: Accumulator::default(),
            machine: MachineAccumulator::default(),
            around: Around::default(),
            monitors: MonitorAccumulator::default(),
            schedules: BTreeMap::new(),
            occurs: Vec::new(),
            table: Arc::default(),
            page_routes: Vec::new(),
            proxy: None,
            record: None,
            failing: BTreeMap::new(),
            alerts_in_trouble: false,
        }
    }

    /// Tells the judge what is in the record and in the config; returns the first routing table.
    pub fn begin(
        &mut self,
        restored: Restored,
        config: &Config,
        targets: Targets,
        page_routes: Vec<RoutedService>,
    ) -> Arc<RoutingTable> {
        if let Some(last_alive) = restored.last_alive {
            let gap = self.parts.clock.now().wall.ms_since(last_alive);
            info!(
                gap_ms = gap,
                open_incidents = restored.incidents.len(),
                "the record of an earlier run was found"
            );
        }
        restored.incidents.iter().for_each(|incident| self.around.incident(incident));
        self.parts.journal.begin(self.parts.clock.now(), &restored, self.parts.seed);
        self.judge(Input::Restored(restored));
        // Before anything is done about servers; what changes later is followed.
        let freeze = self.parts.freeze.read(self.parts.clock.now().wall);
        self.judge(Input::Freeze(freeze));
        self.targets = targets;
        self.page_routes = page_routes;
        self.apply(config);
        // Whoever asks as soon as the pages answer is told of every server, not of none.
        self.publish_snapshot();
        status::with_routes(&self.table, &self.page_routes)
    }

    fn apply(&mut self, config: &Config) {
        self.parts.supervisor.apply(config.commands.clone(), config.secret_variables.clone());
        self.parts.supervisor.apply_switches(config.switches.clone());
        self.parts.supervisor.apply_replaces(config.replaces.clone());
        self.parts.supervisor.apply_restarts(config.restarts.clone());
        self.parts.backups.apply(config.backups.clone());
        self.stop_servers =
            config.commands.values().map(|command| command.stop_timeout).max().unwrap_or_default();
        self.apply_alerts(&config.alerts);
        let tls = self.certificates.apply(&config.tls);
        self.look_for_new_certificates();
        if let Some(proxy) = &self.proxy {
            proxy.set_tls(tls);
        }
        // Before the judge hears of servers that are to be spoken to so.
        let server_tls = self.server_tls(config);
        let withheld = config.secret_variables.clone();
        self.parts.prober.apply(server_tls.clone(), config.probes.clone(), withheld);
        self.parts.prober.apply_monitors(watched(&config.monitors));
        self.parts.prober.apply_modules(&config.modules);
        let by_calendar = config.monitors.iter();
        self.schedules =
            by_calendar.filter_map(|(id, monitor)| Some((id.clone(), monitor.schedule.clone()?))).collect();
        if let Some(proxy) = &self.proxy {
            proxy.set_server_tls(server_tls);
        }
        self.parts.store.apply(config.retention);
        self.parts.journal.apply(config.retention.inputs);
        self.record = Some((config.data.clone(), config.retention));
        self.written = Written {
            policy: config.policy.clone(),
            addresses: config.addresses.clone(),
            resolver: config.dns.resolver,
        };
        self.maintenance.apply(&config.maintenance);
        self.drilling.apply(&config.drills);
        // Before the judge hears of the windows themselves.
        self.look_at_calendar();
        self.apply_servers();
        self.parts.host.apply(config.host.clone());
        self.parts.host.apply_machines(&config.machines);
        // After the judge has said what the names of a new service are to say.
        self.parts.dns.apply(&config.dns);
        self.follow_names();
        self.judge(Input::Own { part: OwnPart::Config, trouble: None });
        self.look_at_certificates(true);
    }

    /// How TLS is spoken with visitors from the start.
    pub fn tls(&mut self, config: &Config) -> Option<Arc<ServerConfig>> {
        self.certificates.apply(&config.tls)
    }

    /// How TLS is spoken with servers from the start.
    pub fn server_tls(&mut self, config: &Config) -> Arc<ServersTls> {
        let (made, errors) = self.backs.take(&config.server_tls);
        for (service, error) in errors {
            error!(%service, error, "server-tls is of no use; its servers are spoken to as before, or not at all");
        }
        made
    }

    /// Another certificate may be what breaks a service.
    fn look_for_new_certificates(&mut self) {
        for what in self.certificates.changes() {
            let at = self.parts.clock.now().wall;
            let by = "a changed file".to_owned();
            self.judge(Input::Changed(Change { at, kind: ChangeKind::Certificate, service: None, what, by }));
        }
    }

    /// Says whether a certificate expires soon. `anyway`: also that none does, which an incident of an earlier run waits for.
    fn look_at_certificates(&mut self, anyway: bool) {
        let now = self.parts.clock.now().wall;
        match self.certificates.news(now) {
            Some(trouble) => self.judge(Input::Own { part: OwnPart::Certificates, trouble }),
            None if anyway && self.certificates.are_well() => {
                self.judge(Input::Own { part: OwnPart::Certificates, trouble: None });
            }
            None => {}
        }
    }

    /// Says when the windows of the config are open, when the last answer to that has run out.
    fn look_at_calendar(&mut self) {
        if let Some(occurrences) = self.maintenance.news(self.parts.clock.now().wall) {
            self.judge(Input::Occurrences(occurrences));
        }
    }

    /// Orders the drill that is planned for this time, if one is.
    fn look_at_drills(&mut self, now: Now) {
        let drills = self.parts.snapshot.borrow().drills.clone();
        if let Some(order) = self.drilling.due(now.wall, &drills) {
            self.judge(Input::Drill(order));
        }
    }

    /// Tells the judge of the servers, and where those are whose addresses are written.
    fn apply_servers(&mut self) {
        let (policy, addresses) = self.targets.expand(&self.written.policy, &self.written.addresses);
        self.addresses = addresses;
        self.judge(Input::Policy(policy));
        let fixed = self.addresses.iter();
        let fixed = fixed.filter_map(|(server, address)| Some((server.clone(), address.endpoint()?)));
        let fixed: Vec<_> = fixed.collect();
        for (server, address) in fixed {
            self.judge(Input::Address { server, address: Some(address) });
        }
    }

    fn follow_names(&self) {
        let Written { addresses, resolver, .. } = &self.written;
        self.parts.names.send_replace(names::wanted(addresses, &self.addresses, *resolver));
    }

    /// A name of a service was answered: the servers that it stands for come and go like those of a changed config.
    fn targets_found(&mut self, server: &ServerId, name: &str, targets: Vec<Target>) {
        let is_wanted =
            matches!(self.written.addresses.get(server), Some(ServerAddress::Srv(wanted)) if wanted == name);
        let count = targets.len();
        if is_wanted && self.targets.found(server, name, targets) {
            info!(%server, %name, servers = count, "the name stands for other servers");
            self.apply_servers();
            self.follow_names();
        }
    }

    /// A changed way to tell people is taken to be mended until it fails again.
    fn apply_alerts(&mut self, config: &AlertConfig) {
        self.parts.alerts.apply(config.clone());
        if self.alert_config != *config {
            self.alert_config = config.clone();
            self.failing.clear();
            self.alerts_mended();
        }
    }

    /// Runs until it is told to stop. What the data plane goes on to report is returned if another Mainstay goes on.
    pub async fn run(
        mut self,
        proxy: Arc<Proxy>,
        mut sources: Sources,
        ready: watch::Sender<bool>,
    ) -> Option<mpsc::Receiver<Report>> {
        proxy.publish(status::with_routes(&self.table, &self.page_routes));
        self.proxy = Some(proxy);
        if let Some(held) = self.held.take() {
            held.begin(self.parts.supervisor.clone(), self.parts.prober.clone(), self.parts.alerts.clone());
        }
        ready.send_replace(true);
        let mut publish = ticker(PUBLISH);
        let mut alive = ticker(ALIVE);
        let mut flush = ticker(FLUSH);
        let mut trouble = self.parts.store.trouble();
        let (drained, mut drain_ended) = mpsc::channel::<usize>(1);
        let mut stopping: Vec<oneshot::Sender<()>> = Vec::new();
        let mut pings = Vec::new();
        loop {
            let due = self.parts.model.poll_timeout().map(|at| self.parts.clock.instant(at));
            tokio::select! {
                Some(message) = sources.control.recv() => match message {
                    Message::Judge { input, done } => {
                        self.judge(input);
                        self.publish_snapshot();
                        let _ = done.send(());
                    }
                    Message::Apply { config, page_routes, done } => {
                        self.page_routes = page_routes;
                        self.apply(&config);
                        self.publish_table();
                        self.publish_snapshot();
                        let _ = done.send(());
                    }
                    Message::Freeze { done } => {
                        self.freeze(&mut sources, done).await;
                        match self.while_frozen(&mut sources.control).await {
                            Some(thawed) => {
                                trouble = self.parts.store.trouble();
                                let _ = thawed.send(());
                            }
                            None => return Some(sources.from_proxy),
                        }
                    }
                    Message::Thaw { done } => drop(done.send(())),
                    Message::Leave => return Some(sources.from_proxy),
                    Message::Stop { drain, done } => {
                        stopping.push(done);
                        ready.send_replace(false);
                        // Requests under way still go by the newest table.
                        if let Some(proxy) = self.proxy.clone().filter(|_| stopping.len() == 1) {
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
                Some(report) = sources.from_proxy.recv() => match status::without_page(report) {
                    Some(Report::Failure(failure)) => self.judge(Input::Failure(failure)),
                    Some(Report::Traffic(traffic)) => self.judge(Input::Traffic(traffic)),
                    Some(Report::Answered(seen)) => self.judge(Input::Answered(seen)),
                    None => {}
                },
                Some(input) = sources.from_adapters.recv() => self.adapter_says(input),
                Some(news) = sources.from_names.recv() => match news {
                    NamesNews::Address(looked_up) => self.looked_up(looked_up),
                    NamesNews::Targets { server, name, targets } => self.targets_found(&server, &name, targets),
                    NamesNews::Trouble(trouble) => self.judge(Input::Own { part: OwnPart::Names, trouble }),
                },
                Some(news) = sources.from_alerts.recv() => self.alerts_say(news),
                1.. = sources.from_jobs.recv_many(&mut pings, PINGS_AT_ONCE) => self.pinged(&mut pings),
                () = due_or_never(due) => self.time_passed(),
                Ok(()) = trouble.changed() => {
                    let trouble = trouble.borrow_and_update().clone();
                    self.judge(Input::Own { part: OwnPart::Record, trouble });
                }
                _ = publish.tick() => self.publish_snapshot(),
                _ = alive.tick() => {
                    let now = self.parts.clock.now();
                    self.write(vec![Write::Alive(now.wall)]);
                    self.look_at_certificates(false);
                    self.look_at_calendar();
                    self.look_at_drills(now);
                    self.keep_inputs(now);
                }
                _ = flush.tick() => self.flush(false),
            }
        }
        self.end(sources).await;
        for done in stopping {
            let _ = done.send(());
        }
        None
    }

    fn judge(&mut self, input: Input) {
        let now = self.parts.clock.now();
        self.history.observe(now, &input);
        self.monitors.observe(now, &input);
        if let Input::Host(report) = &input {
            self.machine.observe(now.wall, report);
            self.around.second(Second::of(now.wall, report));
        }
        self.parts.journal.input(now, &input);
        self.parts.model.handle(now, input);
        self.carry_out(now);
        self.answer_from_calendar();
    }

    /// Hands on what the judge was told; now and then into a new file.
    fn keep_inputs(&mut self, now: Now) {
        let calm =
            self.parts.snapshot.borrow().incidents.iter().all(|incident| incident.resolved_at.is_some());
        if self.parts.journal.is_due(now, calm) {
            self.parts.journal.begin_next(now, self.parts.model.carry(now));
        }
        self.parts.journal.tick();
    }

    fn time_passed(&mut self) {
        let now = self.parts.clock.now();
        self.parts.model.handle_timeout(now);
        self.carry_out(now);
        self.answer_from_calendar();
    }

    /// The judge knows no calendar.
    fn answer_from_calendar(&mut self) {
        while let Some(input) = self.occurs.pop() {
            self.judge(input);
        }
    }

    /// Jobs ping: judged together, and answered when they are on the disk.
    fn pinged(&mut self, taken: &mut Vec<Taken>) {
        let mut waiting = Vec::with_capacity(taken.len());
        let pings = taken.drain(..).map(|taken| {
            waiting.push(taken.done);
            taken.ping
        });
        let pings = pings.collect();
        self.judge(Input::Pings(pings));
        // Whatever was queued before this is written before it.
        let written = self.parts.store.write(Vec::new());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PINGS_TAKE, written).await;
            for done in waiting {
                // Who no longer waits has been told to try again.
                let _ = done.send(());
            }
        });
    }

    /// Supervised servers tell where they listen. One that has just become a server of somebody else's may still tell
    /// of its end; where it listens now is in the config.
    fn adapter_says(&mut self, input: Input) {
        match &input {
            Input::Address { server, .. } if self.addresses.contains_key(server) => {}
            _ => self.judge(input),
        }
    }

    /// Heeds an answer only while it is asked for: a reload may have overtaken the look-up.
    fn looked_up(&mut self, looked_up: LookedUp) {
        if looked_up.is_wanted(&self.addresses) {
            let LookedUp { server, address, .. } = looked_up;
            self.judge(Input::Address { server, address: Some(address.into()) });
        }
    }

    /// Writes down all that one judgement asks for in one piece, then has it done: a message is never in the outbox, or
    /// sent, without its incident in the record.
    fn carry_out(&mut self, now: Now) {
        let mut changes = Vec::new();
        let mut errand = Errand::default();
        while let Some(effect) = self.parts.model.poll_effect() {
            match effect {
                Effect::Route(table) => {
                    self.table = table;
                    self.publish_table();
                }
                Effect::Probe(order) => {
                    let due = self.parts.clock.instant(order.due);
                    self.parts.prober.order(order, due);
                }
                Effect::Watch(pids) => self.parts.host.watch(pids),
                Effect::Inspect(inspection) => self.parts.host.inspect(inspection),
                Effect::LookAtFront(order) => self.parts.prober.order_front(order),
                Effect::LookAround(order) => self.parts.prober.order_sight(order, self.written.resolver),
                Effect::LookInto(order) => self.parts.supervisor.look_into(order),
                Effect::LookUp(order) => self.parts.dns.look_up(order),
                Effect::AskCalendar { monitor, after } => {
                    let at = self.schedules.get(&monitor).and_then(|schedule| schedule.after(after));
                    self.occurs.push(Input::Occurs { monitor, at });
                }
                Effect::Live(table) => self.parts.dns.live(table),
                Effect::Backup(order) => {
                    info!(backup = %order.backup, task = order.task.as_str(), "a backup begins");
                    self.parts.backups.carry_out(order);
                }
                Effect::Recover(order) => {
                    info!(action = order.id.0, server = %order.server, kind = order.kind.as_str(), reason = order.reason, "recovery");
                    changes.push(Write::Intent { order: order.clone(), at: now.wall });
                    errand.orders.push(order);
                }
                Effect::Switch(order) => {
                    info!(action = order.id.0, service = %order.service, by = order.by, reason = order.reason, "{}", order.step.in_words());
                    errand.switches.push(order);
                }
                // Undone at once, whatever the disk does.
                Effect::Drill(step) if !step.begin => self.parts.supervisor.drill(step),
                Effect::Drill(step) => errand.drills.push(step),
                Effect::Provide(order) => {
                    info!(action = order.action.0, instance = %order.instance, reason = order.reason, "replacement");
                    errand.provides.push(order);
                }
                Effect::Notify(mut notice) => {
                    notice.chain = self.chain(&notice.scope, now);
                    let deliveries = self.tell(&notice);
                    let rows = deliveries.iter().cloned();
                    changes.extend(rows.map(|delivery| Write::Outbox { delivery, at: now.wall }));
                    errand.deliveries.extend(deliveries);
                }
                Effect::Record(record) => {
                    log(&record);
                    if let Record::Incident(incident) = &record {
                        self.around.incident(incident);
                        if incident.resolved_at.is_none() {
                            self.parts.journal.keep();
                        }
                    }
                    let _ = self.parts.events.send(record.clone());
                    changes.push(Write::Record(record));
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        if !errand.deliveries.is_empty() {
            // Whoever follows the link of a message finds what it speaks of.
            self.publish_snapshot();
        }
        let confirmation = self.parts.store.write(changes);
        if !errand.is_empty()
            && let Err(refused) = self.errands.run(errand, confirmation)
        {
            self.not_begun(*refused);
        }
    }

    fn not_begun(&mut self, errand: Errand) {
        for delivery in errand.deliveries {
            error!(
                row = delivery.row,
                "too much waits; this message stays in the outbox until the next start"
            );
        }
        for order in errand.switches {
            error!(action = order.id.0, "too much waits; the switch was not run");
            let result = Err("too many actions wait already".to_owned());
            let (service, action) = (order.service, order.id);
            self.judge(Input::Switched { service, action, result, output: Vec::new() });
        }
        for step in errand.drills {
            let result = Err("too much waits already".to_owned());
            self.judge(Input::Injected { drill: step.drill, result });
        }
        for order in errand.provides {
            error!(action = order.action.0, "too much waits; nothing was made or destroyed");
            let provided = Provided::Nothing("too many actions wait already".to_owned());
            let (service, action) = (order.instance.service, order.action);
            self.judge(Input::Provided { service, action, provided });
        }
        for order in errand.orders {
            error!(action = order.id.0, "too much waits; this action was not begun");
            let result = Err("too many actions wait already".to_owned());
            self.judge(Input::Outcome { action: order.id, result });
        }
    }

    /// The chain of the service that people are told of, if it is one.
    fn chain(&self, scope: &str, now: Now) -> Option<String> {
        let mut snapshot = self.parts.model.snapshot(now);
        snapshot.certificates = self.certificates.shown();
        let links = snapshot.chain(&ServiceId::new(scope));
        (!links.is_empty()).then(|| chain::line(&links))
    }

    fn tell(&self, notice: &Notice) -> Vec<Delivery> {
        warn!(
            incident = notice.incident.0,
            kind = notice.kind.as_str(),
            title = notice.title,
            "telling people"
        );
        let channels = self.parts.alerts.channels();
        let people = notice.to.iter().map(|to| (Channel::from(to.way), Some(to.clone())));
        let wanted =
            people.chain([(Channel::Webhook, None)]).filter(|(channel, _)| channels.contains(channel));
        let delivery = |(channel, to)| Delivery {
            row: self.parts.store.next_outbox_row(),
            channel,
            to,
            notice: notice.clone(),
            attempts: 0,
        };
        let deliveries: Vec<Delivery> = wanted.map(delivery).collect();
        if channels.is_empty() {
            warn!("nobody hears of it: the config has no way to tell people; see [alert] and [on-call]");
        }
        deliveries
    }

    fn alerts_say(&mut self, news: News) {
        match news {
            News::Attempted(attempted) => self.tried(attempted),
            News::Receipt(receipt) => self.receipted(receipt),
        }
    }

    /// A provider says what became of a message.
    fn receipted(&mut self, receipt: Receipted) {
        let Receipted { row, incident, to, result } = receipt;
        let at = self.parts.clock.now().wall;
        if let Err(error) = &result {
            warn!(incident = incident.0, error, "a message was taken and did not arrive");
        }
        self.write(vec![Write::OutboxReceipt { row, at, error: result.as_ref().err().cloned() }]);
        self.judge(Input::Message(MessageReport { incident, to, result }));
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
            held_back: attempted.result.as_ref().is_err_and(|error| error.held_back),
            reference: attempted.reference.clone(),
            spent: attempted.spent,
        };
        self.write(vec![row]);
        let way = (attempted.channel, attempted.to.clone());
        match error {
            None => {
                self.failing.remove(&way);
            }
            Some(error) if attempted.result.as_ref().is_err_and(|error| error.held_back) => {
                warn!(incident = attempted.incident.0, error, "a message is held back");
            }
            // It waited for a channel that was taken out of the config; nobody can mend that, nor wants to.
            Some(error) if !self.parts.alerts.channels().contains(&attempted.channel) => {
                warn!(
                    incident = attempted.incident.0,
                    channel = attempted.channel.as_str(),
                    error,
                    "a message is given up"
                );
            }
            Some(error) => {
                warn!(
                    incident = attempted.incident.0,
                    channel = attempted.channel.as_str(),
                    attempts = attempted.attempts,
                    error,
                    "a message was not delivered"
                );
                if let Some(to) = attempted.to.filter(|_| done) {
                    let result = Err(error.clone());
                    self.judge(Input::Message(MessageReport { incident: attempted.incident, to, result }));
                }
                let since = *self.failing.entry(way.clone()).or_insert(now.wall);
                if done || now.wall.ms_since(since) >= ALERTS_PATIENCE {
                    self.alerts_in_trouble = true;
                    // A mail server that is away is one trouble, whomever it keeps from hearing.
                    let whom =
                        way.1.filter(|_| done).map_or_else(String::new, |to| format!(" to {}", to.name));
                    let trouble = Some(format!("{}{whom}: {error}", attempted.channel.in_words()));
                    self.judge(Input::Own { part: OwnPart::Alerts, trouble });
                }
            }
        }
        self.alerts_mended();
    }

    fn alerts_mended(&mut self) {
        if self.failing.is_empty() && std::mem::take(&mut self.alerts_in_trouble) {
            self.judge(Input::Own { part: OwnPart::Alerts, trouble: None });
        }
    }

    /// `last`: nothing more is written for some time.
    fn flush(&mut self, last: bool) {
        let (servers, services) = self.history.take(self.parts.clock.now());
        if !servers.is_empty() || !services.is_empty() {
            self.write(vec![Write::Minute { servers, services }]);
        }
        let machine = self.machine.take();
        if !machine.is_empty() {
            self.write(vec![Write::Machine(machine)]);
        }
        let seconds = self.around.take(self.parts.clock.now().wall);
        if !seconds.is_empty() {
            self.write(vec![Write::Seconds(seconds)]);
        }
        let monitors = self.monitors.take(self.parts.clock.now(), last);
        if !monitors.is_empty() {
            self.write(vec![Write::Monitors(monitors)]);
        }
        let mut looks = self.monitors.take_looks();
        looks.extend(self.history.take_looks());
        if !looks.is_empty() {
            self.write(vec![Write::Looks(looks)]);
        }
    }

    /// Queues changes of the record. Nobody waits for them: what cannot be written shows as trouble of the record's own.
    fn write(&self, changes: Vec<Write>) {
        if !changes.is_empty() {
            drop(self.parts.store.write(changes));
        }
    }

    fn publish_table(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.publish(status::with_routes(&self.table, &self.page_routes));
        }
    }

    fn publish_snapshot(&mut self) {
        let now = self.parts.clock.now();
        let mut snapshot = self.parts.model.snapshot(now);
        snapshot.certificates = self.certificates.shown();
        let in_state = |state: ServiceState| {
            let services = snapshot.services.iter().filter(move |service| service.state == state);
            services.map(|service| service.id.clone()).collect::<BTreeSet<_>>()
        };
        // What is broken on purpose counts against nobody.
        let drilled = snapshot.drills.first().filter(|drill| !drill.state.is_over());
        let drilled = drilled.map(|drill| drill.service.clone());
        let excused = in_state(ServiceState::Maintenance).into_iter().chain(drilled).collect();
        self.history.are(now, in_state(ServiceState::Down), excused);
        self.monitors.are(now, &snapshot.monitors);
        self.parts.snapshot.send_replace(Arc::new(snapshot));
    }
}

/// How monitors are looked at.
fn watched(monitors: &BTreeMap<MonitorId, MonitorSpec>) -> BTreeMap<MonitorId, Watched> {
    let over_tls = monitors.iter().filter_map(|(id, monitor)| Some((id, monitor.tls.as_ref()?)));
    let (mut tls, errors) = watchers(over_tls);
    for (monitor, error) in errors {
        error!(%monitor, error, "its tls is of no use; it cannot be looked at");
    }
    let watched = |(id, monitor): (&MonitorId, &MonitorSpec)| {
        (id.clone(), Watched { spec: monitor.spec.clone(), tls: tls.remove(id), over: monitor.over })
    };
    monitors.iter().map(watched).collect()
}

/// What an operator would want to read in the log, whether or not anybody is told.
fn log(record: &Record) {
    match record {
        Record::Entry { incident, entry, .. } if entry.times == 1 => {
            let server = entry.server.as_ref().map(tracing::field::display);
            // What a job wrote itself may have many lines.
            info!(incident = incident.0, server, "{}", entry.text.lines().next().unwrap_or_default());
        }
        Record::Admin { server, state } => info!(%server, %state, "admin state"),
        Record::Backup(record) => {
            let outcome = &record.outcome;
            let (backup, task, took) = (&outcome.backup, outcome.task.as_str(), outcome.took);
            if let Ok(done) = &outcome.result {
                let (snapshot, files, bytes) = (&done.snapshot, done.files, done.bytes);
                info!(%backup, task, ?took, snapshot, files, bytes, note = done.note, "a backup is done");
            }
        }
        Record::Proposal(proposal) => {
            let (number, level, stands) = (proposal.number, proposal.level.as_str(), proposal.stands());
            info!(number, service = %proposal.service, level, stands, "proposed: {}", proposal.what);
        }
        Record::Publication { incident, .. } => info!(incident = incident.0, "the public is told something"),
        Record::Release { service, release } => {
            let text = release.steps.last().map_or("", |step| &step.text);
            info!(%service, release = release.number, state = release.state.as_str(), "{text}");
        }
        Record::Switch { service, run } => {
            let error = run.end.as_ref().and_then(|end| end.error.as_ref());
            let step = run.step().as_str();
            info!(%service, action = run.action.0, step, ended = run.end.is_some(), error, "switch");
        }
        Record::Substitute(one) => {
            let (stage, instance) = (one.stage.as_str(), &one.id);
            info!(action = one.action.0, %instance, in_place_of = %one.server, stage, error = one.error, "replacement");
        }
        Record::Lead { service, lead } => {
            let server = lead.as_ref().map(|lead| tracing::field::display(&lead.server));
            info!(%service, server, term = lead.as_ref().map(|lead| lead.term), "lead");
        }
        Record::Change(change) => {
            let (kind, service) =
                (change.kind.as_str(), change.service.as_ref().map(tracing::field::display));
            info!(kind, service, by = change.by, "changed: {}", change.what);
        }
        Record::Drill(drill) => {
            let (server, fault) = (drill.server.as_ref().map(tracing::field::display), drill.fault.as_str());
            let (state, why) = (drill.state.as_str(), &drill.why);
            info!(drill = drill.id, service = %drill.service, server, fault, state, why, by = drill.by, "drill");
        }
        Record::Window { number, window } => {
            let HandWindow { policy, when, by } = window;
            let covers = policy.covers.words();
            let seconds = when.to.ms_since(when.from) / 1000;
            info!(number, covers, seconds, by, reason = policy.reason, "a maintenance window was opened");
        }
        Record::WindowOver { number } => info!(number, "a maintenance window is over"),
        Record::WindowEnded { name, .. } => info!(window = %name, "a person ended a maintenance window"),
        Record::Instances { service, instances } => info!(%service, instances, "scaled"),
        Record::Pace { server, news } => match news {
            PaceNews::Slow(slowed) => warn!(%server, "{slowed}"),
            PaceNews::Well => info!(%server, "answers about as fast as it usually does again"),
            PaceNews::Forgotten => info!(%server, "was slow for a day: how fast it is now is learned anew"),
            PaceNews::Hour(_) => {}
        },
        Record::Entry { .. }
        | Record::Heartbeat(_)
        | Record::Incident(_)
        | Record::Impact { .. }
        | Record::ActionEnded { .. }
        | Record::ActionHelped { .. }
        | Record::Remedy(_)
        | Record::ReleaseForgotten { .. } => {}
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
