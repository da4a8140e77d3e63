//! The routing table as one worker uses it: each service with its servers, and each server with its state and its pool.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_model::affinity::Sticky;
use mainstay_model::carriage::Carriage;
use mainstay_model::drill::Injection;
use mainstay_model::input::Circuit;
use mainstay_model::limits::Room;
use mainstay_model::policy::Protocol;
use mainstay_model::routing::{Leaving, RoutedService, RoutingMode, RoutingTable, Target};
use mainstay_model::{Endpoint, ServerId, ServiceId};

use super::gate::{Gate, Gates};
use super::http2::link::Links;
use super::pool::Idle;
use super::server_tls::{ServerTls, ServersTls};
use super::way::Way;
use crate::policy::accounting::ServiceCounts;
use crate::policy::affinity::SessionKey;
use crate::policy::balance::{Candidate, Rotation, Weighted};
use crate::policy::hedge::Tail;
use crate::policy::keep::Keep;
use crate::policy::learned::{Learned, Lesson};
use crate::policy::retry::{Budget, Hope};
use crate::policy::router::{Asked, Lost, Router};
use crate::policy::server::ServerState;

/// One server: what is known of it, and its idle connections.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) state: ServerState,
    pub(crate) address: RefCell<Endpoint>,
    /// How often that has changed: connections know by it whether they still lead there.
    pub(crate) moves: Cell<u32>,
    pub(crate) idle: RefCell<VecDeque<Idle>>,
    /// How long they may be idle.
    pub(crate) keep: Keep,
    /// How often it was put out of rotation for its health.
    pub(crate) expelled: Cell<u64>,
    /// Connections with it that are passed on as they are.
    pub(crate) sessions: Cell<u32>,
    /// Its connections in HTTP/2.
    pub(crate) links: Links,
    /// How it is spoken to.
    pub(crate) speech: RefCell<Speech>,
    /// And in what.
    pub(crate) protocol: Cell<Protocol>,
    /// It is to seem as broken as this, for a drill.
    pub(crate) injection: Cell<Option<Injection>>,
    place: Cell<Place>,
    /// Since when it is to go: drained or taken out by a person, about to be replaced, or gone from the config.
    leaving_since: Cell<Option<Instant>>,
    /// When what is still under way there is ended; `None`: it stays.
    pub(crate) ends: Cell<Option<Instant>>,
    /// How long what is under way there may go on when it is to go.
    pub(crate) drain_timeout: Cell<Duration>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Default)]
pub(crate) enum Speech {
    /// In the clear.
    #[default]
    Plain,
    /// Over TLS; `None`: nobody has said how, so not at all.
    Tls(Option<Arc<ServerTls>>),
}

impl Speech {
    fn is_same(&self, other: &Speech) -> bool {
        match (self, other) {
            (Speech::Plain, Speech::Plain) | (Speech::Tls(None), Speech::Tls(None)) => true,
            (Speech::Tls(Some(a)), Speech::Tls(Some(b))) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Target,
    LastResort,
    /// Only visitors that keep to it go there.
    Draining,
    Unlisted,
}

impl Server {
    /// No further request goes over a connection that stands.
    pub(crate) fn give_up_connections(&self) {
        self.idle.borrow_mut().clear();
        self.links.clear();
    }

    /// It is spoken to over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(*self.speech.borrow(), Speech::Tls(_))
    }

    /// Keeps the time since which it is to go. `true`: what is under way there has another deadline now.
    fn leave(&self, place: Place, now: Instant) -> bool {
        let leaves = matches!(place, Place::Draining | Place::Unlisted);
        let since = leaves.then(|| self.leaving_since.get().unwrap_or(now));
        self.leaving_since.set(since);
        let ends = since.map(|since| since + self.drain_timeout.get());
        self.ends.replace(ends) != ends
    }

    /// Visitors that keep to it may go on with it.
    pub(crate) fn keeps_visitors(&self) -> bool {
        matches!(self.place.get(), Place::Target | Place::Draining)
    }
}

impl Candidate for Rc<Server> {
    fn state(&self) -> &ServerState {
        &self.state
    }
}

/// One service as the present table has it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) rotation: Rotation<Rc<Server>>,
    pub(crate) carriage: Arc<Carriage>,
    /// By what visitors keep to their servers.
    pub(crate) sessions: Option<Sessions>,
    /// How many requests may be under way; `None`: all.
    pub(crate) room: Option<Room>,
    /// Where requests are counted if there are limits for them.
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) lasting: Rc<Lasting>,
    mode: RoutingMode,
    /// How long servers that are about to be ended have.
    leaving: Vec<Leaving>,
}

/// The servers that visitors of a service may keep to.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) sticky: Sticky,
    /// By what stands for them in a cookie.
    by_id: HashMap<String, Rc<Server>>,
}

impl Sessions {
    fn new<'s>(sticky: &Sticky, key: &SessionKey, servers: impl Iterator<Item = &'s Rc<Server>>) -> Self {
        let by_id = servers.map(|server| (key.id(&server.state.id), Rc::clone(server))).collect();
        Self { sticky: sticky.clone(), by_id }
    }

    /// The server that a cookie names, if it may have this visitor's next request.
    pub(crate) fn server(&self, cookie: &[u8], now: Instant) -> Option<&Rc<Server>> {
        let server = self.by_id.get(std::str::from_utf8(cookie).ok()?)?;
        let drained = |since: Instant| now.saturating_duration_since(since) >= self.sticky.drain;
        (!server.leaving_since.get().is_some_and(drained)).then_some(server)
    }

    /// What stands for a server.
    pub(crate) fn id(&self, server: &Rc<Server>) -> Option<&str> {
        self.by_id.iter().find(|(_, known)| Rc::ptr_eq(known, server)).map(|(id, _)| id.as_str())
    }
}

/// What of a service survives changes of the table.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) id: ServiceId,
    pub(crate) counts: ServiceCounts,
    pub(crate) budget: Budget,
    pub(crate) hope: Hope,
    pub(crate) tail: Tail,
}

/// All services, and all servers that were ever in use and are not forgotten yet.
#[derive(Debug, Default)]
pub(crate) struct View {
    router: Router<Way>,
    services: BTreeMap<ServiceId, Rc<Service>>,
    servers: BTreeMap<ServerId, Rc<Server>>,
    /// Services that the table has no longer, until their last counts are handed in.
    gone: Vec<Rc<Lasting>>,
    /// Of the ids in cookies; without it nobody is given one.
    pub(crate) session_key: Option<Arc<SessionKey>>,
    /// How TLS is spoken with servers.
    pub(crate) server_tls: Arc<ServersTls>,
    /// What another process has learned of servers that the first table may name.
    learned: Learned,
    /// Servers that the table at hand has at another address.
    moved: Vec<Rc<Server>>,
}

/// Servers of which a new table says something that those who are there should know.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Put out of rotation for their health.
    pub(crate) ejected: Vec<Rc<Server>>,
    /// To go by another time than before, or no longer where they were.
    pub(crate) leaving: Vec<Rc<Server>>,
}

impl View {
    /// An empty one, with what another process has learned.
    pub(crate) fn with(learned: Learned) -> Self {
        Self { learned, ..Self::default() }
    }

    /// Takes a new table.
    pub(crate) fn update(&mut self, table: &RoutingTable, gates: &Gates, now: Instant) -> Changed {
        let before = std::mem::take(&mut self.services);
        let mut places: BTreeMap<ServerId, (Place, RoutingMode)> = BTreeMap::new();
        self.router = Router::default();
        for routed in &table.services {
            let old = before.get(&routed.id);
            let lasting = old.map_or_else(|| self.revive(&routed.id, now), |old| Rc::clone(&old.lasting));
            let targets: Vec<_> =
                routed.targets.iter().map(|t| Weighted::new(self.server(t, now), t.share)).collect();
            let trial = routed.trial.as_ref().map(|t| (self.server(&t.target, now), t.share));
            if let Some((server, _)) = &trial {
                places.insert(server.state.id.clone(), (Place::Target, routed.mode));
            }
            let draining: Vec<_> = routed.draining.iter().map(|t| self.server(t, now)).collect();
            for server in &draining {
                places.insert(server.state.id.clone(), (Place::Draining, routed.mode));
            }
            let last_resort: Vec<_> = routed.last_resort.iter().map(|t| self.server(t, now)).collect();
            for target in &last_resort {
                places.insert(target.state.id.clone(), (Place::LastResort, routed.mode));
            }
            for target in &targets {
                places.insert(target.server.state.id.clone(), (Place::Target, routed.mode));
            }
            let gate = routed.counts_requests().then(|| gates.of(&routed.id)).flatten();
            let sessions =
                routed.carriage.sticky.as_ref().zip(self.session_key.as_ref()).map(|(sticky, key)| {
                    let in_rotation = targets.iter().map(|t| &t.server).chain(trial.as_ref().map(|(s, _)| s));
                    Sessions::new(sticky, key, in_rotation.chain(&draining).chain(&last_resort))
                });
            let mut service = Service::new(routed, targets, last_resort, trial, lasting, gate);
            service.sessions = sessions;
            let service = Rc::new(service);
            self.services.insert(routed.id.clone(), service);
        }
        self.add_rules(table);
        let old_mode = |id: &ServerId| before.get(&id.service).map_or(RoutingMode::Normal, |s| s.mode);
        let mut changed = Changed { leaving: std::mem::take(&mut self.moved), ejected: Vec::new() };
        for (id, server) in &self.servers {
            if let Some(service) = self.services.get(&id.service)
                && server.protocol.replace(service.carriage.protocol) != service.carriage.protocol
            {
                server.give_up_connections();
            }
            server.state.shares_load(gates.load_of(id));
            let (place, mode) = places.get(id).copied().unwrap_or((Place::Unlisted, RoutingMode::Normal));
            let was = server.place.replace(place);
            if was != Place::Target && place == Place::Target {
                server.state.forgive();
            }
            if let Some(service) = self.services.get(&id.service) {
                // With the last service its last word goes on holding.
                server.drain_timeout.set(service.drains_within(id, place));
            }
            if server.leave(place, now) {
                changed.leaving.push(Rc::clone(server));
            }
            if place == Place::Unlisted {
                server.give_up_connections();
            }
            // Backups that stand down because the primaries are back are well, and nobody need leave them.
            let stood_down = mode == RoutingMode::Normal && old_mode(id) != RoutingMode::Normal;
            if was == Place::Target && place == Place::LastResort && !stood_down {
                server.expelled.set(server.expelled.get() + 1);
                changed.ejected.push(Rc::clone(server));
            }
        }
        let lost = before.into_iter().filter(|(id, _)| !self.services.contains_key(id));
        self.gone.extend(lost.map(|(_, service)| Rc::clone(&service.lasting)));
        changed
    }

    /// The way of a request.
    pub(crate) fn route(&self, asked: &impl Asked) -> Result<&Way, Lost> {
        self.router.route(asked)
    }

    /// The service as the present table has it.
    pub(crate) fn newest(&self, id: &ServiceId) -> Option<&Rc<Service>> {
        self.services.get(id)
    }

    /// What was learned of each server, for another process.
    pub(crate) fn learned(&self, now: Instant) -> Learned {
        Learned::of(self.servers.iter().map(|(id, server)| {
            let address = Some(server.address.borrow().clone());
            (id.clone(), Lesson { address, keep: server.keep.learned(), ..server.state.lesson(now) })
        }))
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Rc<Server>> {
        self.servers.values()
    }

    /// Another server of its service does well: it has answered somebody since, or nobody waits for it.
    pub(crate) fn goes_on_besides(&self, server: &Rc<Server>, since: Instant, now: Instant) -> bool {
        let service = &server.state.id.service;
        self.servers().any(|fellow| {
            !Rc::ptr_eq(fellow, server)
                && fellow.state.id.service == *service
                && fellow.place.get() == Place::Target
                && fellow.state.reflex.borrow().circuit(now) == Circuit::Closed
                && (fellow.state.in_flight() == 0 || fellow.state.has_answered_since(since))
        })
    }

    pub(crate) fn lasting(&self) -> impl Iterator<Item = &Rc<Lasting>> + Clone {
        self.services.values().map(|s| &s.lasting).chain(&self.gone)
    }

    /// Forgets servers and services that are no longer listed and that nobody uses; to be called after counts were taken.
    pub(crate) fn forget_unused(&mut self) {
        self.servers.retain(|_, s| s.place.get() != Place::Unlisted || Rc::strong_count(s) > 1);
        self.gone.retain(|lasting| Rc::strong_count(lasting) > 1);
    }

    /// A service takes what its hosts and paths say, and its routes take from that or add to it.
    fn add_rules(&mut self, table: &RoutingTable) {
        for routed in &table.services {
            for rule in routed.carriage.rules() {
                // A service that is not there takes nothing; the config has none.
                let Some(service) = self.services.get(rule.service.unwrap_or(&routed.id)) else { continue };
                let handling = (!rule.handling.is_nothing()).then(|| Arc::clone(rule.handling));
                self.router.add(&rule.when, |prefix| Way {
                    service: Rc::clone(service),
                    handling: handling.clone(),
                    prefix,
                });
            }
        }
    }

    fn revive(&mut self, id: &ServiceId, now: Instant) -> Rc<Lasting> {
        match self.gone.iter().position(|lasting| lasting.id == *id) {
            Some(at) => self.gone.swap_remove(at),
            None => {
                let budget = Budget::new(now);
                Rc::new(Lasting {
                    id: id.clone(),
                    counts: ServiceCounts::default(),
                    budget,
                    hope: Hope::default(),
                    tail: Tail::default(),
                })
            }
        }
    }

    fn server(&mut self, target: &Target, now: Instant) -> Rc<Server> {
        let learned = &mut self.learned;
        let server = self.servers.entry(target.id.clone()).or_insert_with(|| {
            let (state, keep) = (ServerState::new(target.id.clone()), Keep::default());
            let mut place = Place::Unlisted;
            if let Some(lesson) = learned.take(&target.id, &target.address) {
                state.take_up(&lesson, now);
                keep.take_up(lesson.keep, now);
                // It is not new in its place, which would be a reason to forget what was held against it.
                place = Place::Target;
            }
            Rc::new(Server {
                state,
                address: RefCell::new(target.address.clone()),
                moves: Cell::new(0),
                idle: RefCell::default(),
                keep,
                expelled: Cell::new(0),
                sessions: Cell::new(0),
                links: Links::default(),
                speech: RefCell::default(),
                protocol: Cell::default(),
                injection: Cell::new(None),
                place: Cell::new(place),
                leaving_since: Cell::new(None),
                ends: Cell::new(None),
                drain_timeout: Cell::new(Carriage::DRAIN_TIMEOUT),
            })
        });
        if server.injection.replace(target.injection) != target.injection
            && target.injection.is_some_and(Injection::is_of_connections)
        {
            server.give_up_connections();
        }
        let speech = match target.tls {
            false => Speech::Plain,
            true => Speech::Tls(self.server_tls.get(&target.id.service).cloned()),
        };
        if !server.speech.borrow().is_same(&speech) {
            // Connections that stand were made by other settings.
            server.speech.replace(speech);
            server.give_up_connections();
        }
        if *server.address.borrow() != target.address {
            // Another address is another process: what was known of the old one does not hold.
            server.address.replace(target.address.clone());
            server.moves.set(server.moves.get().wrapping_add(1));
            server.give_up_connections();
            server.keep.forget();
            server.state.forgive();
            self.moved.push(Rc::clone(server));
        }
        Rc::clone(server)
    }
}

impl Service {
    fn new(
        routed: &RoutedService,
        targets: Vec<Weighted<Rc<Server>>>,
        last_resort: Vec<Rc<Server>>,
        trial: Option<(Rc<Server>, f64)>,
        lasting: Rc<Lasting>,
        gate: Option<Arc<Gate>>,
    ) -> Self {
        Self {
            rotation: Rotation::new(routed.carriage.balance, targets, last_resort).with_trial(trial),
            carriage: Arc::clone(&routed.carriage),
            sessions: None,
            room: routed.room(),
            gate,
            lasting,
            mode: routed.mode,
            leaving: routed.leaving.clone(),
        }
    }

    /// How long what is under way at a server may go on once that is to go.
    fn drains_within(&self, server: &ServerId, place: Place) -> Duration {
        let own = self.leaving.iter().find(|leaving| leaving.server == *server);
        match (own, place) {
            (Some(leaving), _) => leaving.within,
            (None, Place::Draining) => self.carriage.drains_within(),
            (None, _) => self.carriage.drain_timeout,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use mainstay_model::input::Circuit;
    use mainstay_model::policy::Balance;

    use super::*;
    use crate::policy::reflex::FAILED;

    pub(crate) fn table(mode: RoutingMode, targets: &[&str], last_resort: &[&str]) -> RoutingTable {
        let id = ServiceId::new("shop");
        let target = |name: &&str| Target {
            id: id.server(*name),
            address: SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(name.as_bytes()[0]))).into(),
            share: 1.0,
            concurrent: None,
            tls: false,
            injection: None,
        };
        let service = RoutedService {
            id: id.clone(),
            carriage: Arc::new(Carriage { balance: Balance::LeastLatency, ..Carriage::default() }),
            mode,
            trial: None,
            targets: targets.iter().map(target).collect(),
            last_resort: last_resort.iter().map(target).collect(),
            draining: Vec::new(),
            leaving: Vec::new(),
        };
        RoutingTable { version: 0, services: vec![service] }
    }

    fn names(servers: &[Rc<Server>]) -> Vec<&str> {
        servers.iter().map(|s| &*s.state.id.name).collect()
    }

    #[test]
    fn only_a_server_put_out_for_its_health_is_ejected() {
        let (mut view, now) = (View::default(), Instant::now());
        let mut ejected = |table: &RoutingTable| view.update(table, &Gates::default(), now).ejected;
        assert!(ejected(&table(RoutingMode::Normal, &["a", "b"], &["c"])).is_empty());
        assert_eq!(names(&ejected(&table(RoutingMode::Normal, &["b"], &["c", "a"]))), ["a"]);
        assert!(ejected(&table(RoutingMode::Normal, &["a"], &["c"])).is_empty(), "b drains");
        assert_eq!(names(&ejected(&table(RoutingMode::Backup, &["c"], &["a"]))), ["a"]);
        assert!(ejected(&table(RoutingMode::Normal, &["a"], &["c"])).is_empty(), "c stands down");
    }

    #[test]
    fn a_server_that_is_to_go_has_its_time_from_the_first_table_that_says_so_until_it_is_back() {
        let (mut view, t) = (View::default(), Instant::now());
        let at = |seconds| t + Duration::from_secs(seconds);
        let both = table(RoutingMode::Normal, &["a", "b"], &[]);
        let without = table(RoutingMode::Normal, &["a"], &[]);
        assert!(view.update(&both, &Gates::default(), t).leaving.is_empty());
        let b = Rc::clone(view.servers().nth(1).expect("b is there"));
        assert_eq!(names(&view.update(&without, &Gates::default(), at(1)).leaving), ["b"]);
        let ends = Some(at(1) + Carriage::DRAIN_TIMEOUT);
        assert_eq!(b.ends.get(), ends);
        assert!(view.update(&without, &Gates::default(), at(9)).leaving.is_empty(), "nothing new of it");
        assert_eq!(b.ends.get(), ends);
        let mut soon = without.clone();
        let within = Duration::from_secs(28);
        soon.services[0].leaving.push(Leaving { server: b.state.id.clone(), within });
        assert_eq!(names(&view.update(&soon, &Gates::default(), at(10)).leaving), ["b"]);
        assert_eq!(b.ends.get(), Some(at(29)), "it is about to be ended");
        view.update(&RoutingTable::default(), &Gates::default(), at(11));
        assert_eq!(b.ends.get(), Some(at(29)), "its service has left the config");
        view.update(&both, &Gates::default(), at(12));
        assert_eq!(b.ends.get(), None);
    }

    #[test]
    fn a_server_that_keeps_its_visitors_while_it_is_drained_has_as_long_as_they_may_come() {
        let (mut view, now) = (View::default(), Instant::now());
        let mut routed = table(RoutingMode::Normal, &["a", "b"], &[]);
        let sticky = Sticky {
            cookie: "srv".into(),
            path: "/".into(),
            max_age: None,
            drain: Duration::from_secs(3600),
        };
        Arc::make_mut(&mut routed.services[0].carriage).sticky = Some(sticky);
        view.update(&routed, &Gates::default(), now);
        let out = routed.services[0].targets.remove(1);
        routed.services[0].draining.push(out);
        view.update(&routed, &Gates::default(), now);
        let b = Rc::clone(view.servers().nth(1).expect("b is there"));
        assert_eq!(b.ends.get(), Some(now + Duration::from_secs(3600)));
    }

    #[test]
    fn what_is_known_of_a_server_survives_a_new_table_and_ends_with_its_address_or_return() {
        let (mut view, now) = (View::default(), Instant::now());
        view.update(&table(RoutingMode::Normal, &["a", "b"], &[]), &Gates::default(), now);
        let a = Rc::clone(view.servers().next().expect("a is there"));
        a.state.reflex.borrow_mut().failure(now, FAILED);
        let avoided = |s: &Server| s.state.reflex.borrow().circuit(now) != Circuit::Closed;
        view.update(&table(RoutingMode::Normal, &["a", "b"], &[]), &Gates::default(), now);
        assert!(avoided(&a), "a table that says nothing new of it changes nothing");
        view.update(&table(RoutingMode::Normal, &["b"], &["a"]), &Gates::default(), now);
        assert!(avoided(&a));
        view.update(&table(RoutingMode::Normal, &["a", "b"], &[]), &Gates::default(), now);
        assert!(!avoided(&a), "newly listed");
        a.state.reflex.borrow_mut().failure(now, FAILED);
        let mut moved = table(RoutingMode::Normal, &["a", "b"], &[]);
        moved.services[0].targets[0].address = Endpoint::Unix("/run/a.sock".into());
        view.update(&moved, &Gates::default(), now);
        assert!(!avoided(&a), "another address");
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let (mut view, now) = (View::default(), Instant::now());
        view.update(&table(RoutingMode::Normal, &["a", "b"], &[]), &Gates::default(), now);
        let a = Rc::clone(view.servers().next().expect("a is there"));
        view.update(&RoutingTable::default(), &Gates::default(), now);
        view.forget_unused();
        assert_eq!(view.servers().count(), 1, "a is in use");
        drop(a);
        view.forget_unused();
        assert_eq!((view.servers().count(), view.lasting().count()), (0, 0));
    }
}
