//! What one worker thread has in common for all its connections, and the sweep that keeps it in order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use mainstay_model::ServiceId;
use mainstay_model::request::RequestRecord;
use mainstay_model::routing::RoutingTable;
use tokio::sync::Notify;
use tokio_rustls::rustls::ServerConfig;

use super::buffer::{Buffers, READ_MAX};
use super::gate::Gates;
use super::log::Lines;
use super::pool;
use super::server_tls::ServersTls;
use super::sessions::{Session, SessionBook};
use super::slots::{Slot, Slots};
use super::view::{Service, View};
use super::waits::Waits;
use crate::access::AccessLog;
use crate::policy::accounting::{Collector, report};
use crate::policy::affinity::SessionKey;
use crate::policy::doorkeeper::{ClientLimits, Doorkeeper, Held};
use crate::policy::learned::Inquiry;
use crate::policy::story::{Cause, Stories};
use crate::policy::visitor::{HashKey, Network};
use crate::{Settings, Unusual};

/// Time between two sweeps while a request waits for a server: the resolution of what is found out about a hang.
const SWEEP_BUSY: Duration = Duration::from_millis(25);
/// The same while none does: the resolution of every other deadline.
const SWEEP_IDLE: Duration = Duration::from_millis(100);

/// Idle clients that are let go at once when descriptors have run short (nginx: 32).
const ROOM: usize = 32;

/// An order to end, for all workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave {
    /// What is left then is cut.
    pub(crate) until: Instant,
    /// Somebody else listens at the same sockets, so nobody is sent away before then: a connection is closed with its next
    /// answer.
    pub(crate) gently: bool,
}

/// What all workers share with the engine.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<RoutingTable>,
    /// Counts up with each published table.
    pub(crate) version: AtomicU64,
    pub(crate) collector: Collector,
    /// What was learned of servers is asked for.
    pub(crate) inquiry: Inquiry,
    pub(crate) gates: Gates,
    /// Of the day; `None`: nobody gave one, and visitors are not counted.
    pub(crate) visitor_key: ArcSwapOption<HashKey>,
    /// By worker.
    pub(crate) stories: Vec<Mutex<Stories>>,
    pub(crate) unusual: Mutex<Unusual>,
    pub(crate) sessions: SessionBook,
    /// How TLS is spoken with clients; `None`: there are no certificates.
    pub(crate) tls: ArcSwapOption<ServerConfig>,
    /// How it is spoken with servers.
    pub(crate) server_tls: ArcSwap<ServersTls>,
    pub(crate) access_log: ArcSwapOption<AccessLog>,
    /// Of the ids of servers in cookies; `None`: nobody gave one, and no visitor is given a cookie.
    pub(crate) session_key: ArcSwapOption<SessionKey>,
    /// What one client may take.
    pub(crate) clients: ArcSwap<ClientLimits>,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
}

/// One worker thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) settings: Arc<Settings>,
    shared: Arc<Shared>,
    version: Cell<u64>,
    pub(crate) view: RefCell<View>,
    pub(crate) slots: Slots,
    pub(crate) waits: Waits,
    pub(crate) buffers: Buffers,
    /// What a read goes into; used within one poll only.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// Of the access log, if there is one.
    lines: RefCell<Option<Rc<Lines>>>,
    /// The time of the last sweep.
    now: Cell<Instant>,
    /// Some bytes moved since a connection looked last; used within one poll only.
    pub(crate) progress: Cell<bool>,
    pub(crate) draining: Cell<bool>,
    /// It drains, and idle connections may wait for their next request.
    gently: Cell<bool>,
    /// When Mainstay ends: sessions that are left by then are ended.
    pub(crate) ends: Cell<Option<Instant>>,
    connections: Cell<usize>,
    /// Of them, or of their streams, those that are passed on as they are.
    sessions: Cell<usize>,
    /// Sessions that were ended because Mainstay ends.
    pub(crate) sessions_ended: Cell<usize>,
    /// Of connections in HTTP/2, that carry a request.
    streams: Cell<usize>,
    /// Told when the last connection is gone, and when the last session is.
    pub(crate) emptied: Notify,
    last_report: Cell<Instant>,
    /// What clients did that was refused, by its name.
    refusals: RefCell<BTreeMap<&'static str, u64>>,
}

impl Worker {
    pub(crate) fn new(index: usize, settings: Arc<Settings>, shared: Arc<Shared>) -> Self {
        let (now, learned) = (Instant::now(), settings.learned.clone());
        let worker = Self {
            index,
            settings,
            shared,
            version: Cell::new(0),
            view: RefCell::new(View::with(learned)),
            slots: Slots::default(),
            waits: Waits::default(),
            buffers: Buffers::default(),
            scratch: RefCell::new(vec![0; READ_MAX].into_boxed_slice()),
            rng: RefCell::new(fastrand::Rng::new()),
            lines: RefCell::default(),
            now: Cell::new(now),
            progress: Cell::new(false),
            draining: Cell::new(false),
            gently: Cell::new(false),
            ends: Cell::new(None),
            sessions: Cell::new(0),
            sessions_ended: Cell::new(0),
            connections: Cell::new(0),
            streams: Cell::new(0),
            emptied: Notify::new(),
            last_report: Cell::new(now),
            refusals: RefCell::default(),
        };
        worker.load_table(now);
        worker
    }

    /// The time to the resolution of a sweep, for deadlines.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// The present table's view of a service that a request began with.
    pub(crate) fn newest(&self, service: &Rc<Service>) -> Rc<Service> {
        let view = self.view.borrow();
        Rc::clone(view.newest(&service.lasting.id).unwrap_or(service))
    }

    /// Where lines of the access log go, if there is one.
    pub(crate) fn lines(&self) -> Option<Rc<Lines>> {
        self.lines.borrow().clone()
    }

    /// Takes a newly published table, if there is one. A single load when there is none.
    pub(crate) fn refresh(&self) {
        if self.shared.version.load(Ordering::Acquire) != self.version.get() {
            self.load_table(Instant::now());
        }
    }

    /// Under which a visitor is counted today.
    pub(crate) fn visitor_hash(&self, visitor: Option<IpAddr>) -> Option<u64> {
        // All of whom nothing is known are one: so many at least.
        let visitor = visitor.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.shared.visitor_key.load().as_ref().map(|key| Network::of(visitor).hash(key))
    }

    /// Remembers a request that did not go the usual way.
    pub(crate) fn remember(&self, record: RequestRecord, refused: bool) {
        if let Some(stories) = self.shared.stories.get(self.index) {
            stories.lock().unwrap_or_else(PoisonError::into_inner).remember(record, refused);
        }
    }

    /// A request of a service is tried again.
    pub(crate) fn retried(&self, service: &ServiceId, cause: Cause) {
        *self.unusual().retries.entry((service.clone(), cause.as_str())).or_default() += 1;
    }

    /// A session of a service begins.
    pub(crate) fn session(&self, service: &ServiceId) -> Session {
        self.shared.sessions.begin(service)
    }

    /// What was still under way at a server was ended, because that or Mainstay is to go.
    pub(crate) fn drained(&self, service: &ServiceId, what: &'static str) {
        *self.unusual().drained.entry((service.clone(), what)).or_default() += 1;
    }

    /// Never on the way of a request that goes as usual.
    fn unusual(&self) -> MutexGuard<'_, Unusual> {
        self.shared.unusual.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How TLS is spoken with a client that comes now.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.shared.tls.load_full()
    }

    /// A client comes from there: its part in what its address may hold, and how many requests its connection may carry. `None`: its
    /// address holds as many as it may. Who has no address is not counted by it.
    pub(crate) fn enter(&self, from: Option<IpAddr>) -> Option<(Option<Held>, u32)> {
        let limits = self.shared.clients.load();
        let held = match from {
            Some(from) => Some(self.shared.doorkeeper.enter(from, &limits)?),
            None => None,
        };
        Some((held, limits.requests_per_connection))
    }

    pub(crate) fn collector(&self) -> &Collector {
        &self.shared.collector
    }

    /// What a client did is refused.
    pub(crate) fn refused(&self, refusal: &'static str) {
        tracing::debug!(refusal, "refused");
        *self.refusals.borrow_mut().entry(refusal).or_default() += 1;
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Sessions that are open.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.get()
    }

    pub(crate) fn session_opened(&self) {
        self.sessions.set(self.sessions.get() + 1);
    }

    pub(crate) fn session_closed(&self) {
        self.sessions.set(self.sessions.get().saturating_sub(1));
        if self.sessions.get() == 0 {
            self.emptied.notify_one();
        }
    }

    pub(crate) fn connection_opened(&self) -> Rc<Slot> {
        self.connections.set(self.connections.get() + 1);
        self.slots.register()
    }

    /// A stream of a connection begins; `None`: there are too many.
    pub(crate) fn stream_opened(&self) -> Option<Rc<Slot>> {
        if self.streams.get() >= self.settings.connections_max_per_worker() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        Some(self.slots.register())
    }

    pub(crate) fn stream_closed(&self, slot: &Slot) {
        self.slots.unregister(slot);
        self.streams.set(self.streams.get() - 1);
    }

    pub(crate) fn connection_closed(&self, slot: &Slot) {
        self.slots.unregister(slot);
        self.connections.set(self.connections.get() - 1);
        if self.connections.get() == 0 {
            self.emptied.notify_one();
        }
    }

    /// Runs for the worker's life.
    pub(crate) async fn sweep_forever(self: Rc<Self>) {
        loop {
            let pause = if self.waits.is_empty() { SWEEP_IDLE } else { SWEEP_BUSY };
            tokio::time::sleep(pause).await;
            self.sweep(Instant::now());
        }
    }

    /// Idle connections are to go at once.
    pub(crate) fn sends_idle_away(&self) -> bool {
        self.draining.get() && !self.gently.get()
    }

    /// No new connection is taken; idle ones go at once, unless it is to be done gently. Sessions go at the end.
    pub(crate) fn begin_drain(&self, gently: bool, ends: Instant) {
        self.draining.set(true);
        self.ends.set(Some(ends));
        self.gently.set(gently);
        self.close_server_connections();
        self.slots.wake_all();
    }

    /// Descriptors or memory have run short: what only waits is closed, on both sides. It takes a turn of the event loop.
    pub(crate) fn make_room(&self) {
        self.close_server_connections();
        self.slots.let_idle_go(ROOM);
    }

    pub(crate) fn close_server_connections(&self) {
        for server in self.view.borrow().servers() {
            server.give_up_connections();
        }
    }

    /// Hands in what was counted since the last time.
    pub(crate) fn hand_in(&self, now: Instant) {
        self.last_report.set(now);
        let mut view = self.view.borrow_mut();
        let lasting = view.lasting().map(|l| (&l.id, &l.counts));
        let mut counted = report(view.servers().map(|s| &s.state), lasting, &self.refusals, now);
        for (id, traffic) in &mut counted.services {
            if let Some(gate) = view.newest(id).and_then(|service| service.gate.as_ref()) {
                traffic.places = gate.places_found();
            }
        }
        self.shared.inquiry.answer(self.index, || view.learned(now));
        view.forget_unused();
        if let Some(lines) = &*self.lines.borrow() {
            lines.hand_over(now);
        }
        self.shared.collector.hand_in(self.index, counted, now);
    }

    fn sweep(&self, now: Instant) {
        self.now.set(now);
        self.refresh();
        let view = self.view.borrow();
        for server in view.servers() {
            server.state.begin_sweep();
            pool::close_idle(server, self.settings.server_idle, now);
            server.links.sweep(now);
        }
        self.waits.sweep(now, |server, since| view.goes_on_besides(server, since, now));
        drop(view);
        self.slots.sweep(now);
        if let Some(lines) = &*self.lines.borrow() {
            lines.sweep(now);
        }
        if now.saturating_duration_since(self.last_report.get()) >= self.settings.report_interval {
            self.hand_in(now);
        }
    }

    fn load_table(&self, now: Instant) {
        // The version is read first: a table published in between is at worst loaded twice.
        self.version.set(self.shared.version.load(Ordering::Acquire));
        let table = self.shared.table.load_full();
        self.view.borrow_mut().session_key = self.shared.session_key.load_full();
        self.view.borrow_mut().server_tls = self.shared.server_tls.load_full();
        let changed = self.view.borrow_mut().update(&table, &self.shared.gates, now);
        for server in &changed.ejected {
            self.waits.ejected(server);
        }
        if changed.ejected.iter().any(|server| server.sessions.get() > 0)
            || changed.leaving.iter().any(|server| server.state.in_flight() > 0)
        {
            self.slots.wake_all();
        }
        self.take_access_log(now);
    }

    /// Lines that are due to another log go there first.
    fn take_access_log(&self, now: Instant) {
        let log = self.shared.access_log.load_full();
        let mut lines = self.lines.borrow_mut();
        let same = match (&*lines, &log) {
            (Some(lines), Some(log)) => Arc::ptr_eq(lines.log(), log),
            (None, None) => true,
            _ => false,
        };
        if !same {
            if let Some(old) = &*lines {
                old.hand_over(now);
            }
            *lines = log.map(|log| Rc::new(Lines::new(log, now)));
        }
    }
}
