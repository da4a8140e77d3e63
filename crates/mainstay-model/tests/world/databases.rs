//! A world of databases: a primary and two replicas, clients that write through the routing table, people who make mistakes and mend
//! them, a fence that works or does not, and a Mainstay that is killed in the middle of everything.
//!
//! What is true is known here, and the judge is held to it: writes never go back to what has parted from what was written last, nobody
//! is promoted without a fence that succeeded, and of what was promoted by Mainstay nothing is missing but the lag that the
//! config allows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::effect::SwitchOrder;
use mainstay_model::input::{ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::lead::{DataRole, DataState};
use mainstay_model::policy::{
    Policy, ProbeKind, Promote, ServerPolicy, Serves, ServicePolicy, StatePolicy, SwitchPolicy,
};
use mainstay_model::routing::RoutedService;
use mainstay_model::rung::Level;
use mainstay_model::sight::{Seen, SightReport};
use mainstay_model::switch::SwitchStep;
use mainstay_model::{
    ActionId, Effect, Input, Model, Mono, Now, ProbeTarget, ServerId, ServiceId, Wall, invariants,
};

use super::store::Store;
use super::{Dice, MS, SECOND};

/// Bytes of one write.
const WRITE: u64 = 100;
const LAG_MAX: u64 = 20 * WRITE;

/// A database as it is.
struct Database {
    alive: bool,
    hangs: bool,
    /// Mainstay has no way to it.
    cut_off: bool,
    primary: bool,
    /// Grows with every promotion in the world: who is promoted parts from all others.
    lineage: u64,
    position: u64,
    /// Where it receives from.
    follows: Option<usize>,
}

enum Event {
    Write,
    Trouble,
    Answer {
        generation: u64,
        input: Input,
    },
    /// The fence takes effect, and says so or something else.
    Fenced {
        order: SwitchOrder,
        generation: u64,
    },
    Promoted {
        order: SwitchOrder,
        generation: u64,
    },
}

pub struct Databases {
    dice: Dice,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    model: Model,
    generation: u64,
    policy: Policy,
    store: Store,
    all: Vec<Database>,
    routed: Option<RoutedService>,
    /// Of the last write that was taken.
    written: u64,
    lineages: u64,
    fenced: BTreeSet<ActionId>,
    promoted: BTreeSet<ActionId>,
    troubled: bool,
    pub writes: u64,
    pub promotions: u64,
}

fn db() -> ServiceId {
    ServiceId::new("db")
}

fn id(n: usize) -> ServerId {
    db().server(format!("d{n}"))
}

fn number(id: &ServerId) -> usize {
    id.name[1..].parse().unwrap()
}

impl Databases {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut service = ServicePolicy {
            state: Some(StatePolicy { serves: Serves::Writes }),
            resolve_after: Duration::from_secs(2),
            ..ServicePolicy::default()
        };
        service.health.probe = ProbeKind::Postgres;
        service.health.interval = Duration::from_millis([500, 1000][dice.range(0, 2) as usize]);
        service.recovery.levels.switch = if dice.chance(80) { Level::Automatic } else { Level::Ask };
        service.switch = Some(SwitchPolicy {
            after: Duration::from_secs(dice.range(0, 4)),
            deadline: Duration::from_secs(dice.range(2, 8)),
            fence: true,
            promote: if dice.chance(85) { Promote::Postgres } else { Promote::Nobody },
            lag_max: LAG_MAX,
            can_go_back: false,
        });
        for n in 0..3 {
            service.servers.insert(Arc::clone(&id(n).name), ServerPolicy::default());
        }
        let policy =
            Policy { services: BTreeMap::from([(db(), service)]), people: true, ..Policy::default() };
        let all = (0..3).map(|n| Database {
            alive: true,
            hangs: false,
            cut_off: false,
            primary: n == 0,
            lineage: 1,
            position: 1000 * WRITE,
            follows: (n > 0).then_some(0),
        });
        let now = 1000 * SECOND;
        let clock = Now { mono: Mono(now), wall: Wall(1_760_000_000_000) };
        let mut world = Self {
            now,
            queue: BTreeMap::new(),
            queued: 0,
            model: Model::new(seed, clock),
            generation: 0,
            policy,
            store: Store::default(),
            all: all.collect(),
            routed: None,
            written: 1,
            lineages: 1,
            fenced: BTreeSet::new(),
            promoted: BTreeSet::new(),
            troubled: true,
            writes: 0,
            promotions: 0,
            dice,
        };
        world.begin();
        world
    }

    /// Lives through troubles, then through a time in which people mend what is broken.
    pub fn run(&mut self) {
        let calm = self.now + 5 * SECOND;
        self.at(self.now, Event::Write);
        self.live_until(calm);
        self.at(self.now, Event::Trouble);
        let ends = self.now + self.dice.range(20, 120) * SECOND;
        self.live_until(ends);
        self.troubled = false;
        for _ in 0..40 {
            self.mend();
            self.live_until(self.now + 5 * SECOND);
            if self.is_good() {
                break;
            }
        }
        let service = &self.model.snapshot(self.clock()).services[0];
        assert!(self.is_good(), "it does not become good: {:?} {:?}", service.lead, service.switch);
        let before = self.writes;
        self.live_until(self.now + SECOND);
        assert!(self.writes > before, "nobody writes");
    }

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), wall: Wall(1_760_000_000_000 + (self.now / MS) as i64) }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((time, self.queued), event);
    }

    fn live_until(&mut self, until: u64) {
        loop {
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let timer = self.model.poll_timeout().map(|at| at.0);
            let next = [event, timer].into_iter().flatten().min().filter(|at| *at <= until);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if timer.is_some_and(|timer| timer <= next) {
                let clock = self.clock();
                self.model.handle_timeout(clock);
                self.drain();
                continue;
            }
            let Some((_, event)) = self.queue.pop_first() else { break };
            self.happen(event);
        }
        self.now = until;
    }

    fn begin(&mut self) {
        self.tell(Input::Policy(self.policy.clone()));
        for n in 0..3 {
            let address = SocketAddr::from(([10, 0, 0, n as u8 + 1], 5432)).into();
            self.tell(Input::Address { server: id(n), address: Some(address) });
        }
    }

    /// Mainstay is killed, and started again with what is on its disk.
    fn killed(&mut self) {
        self.generation += 1;
        self.model = Model::new(self.generation, self.clock());
        self.routed = None;
        self.now += self.dice.range(1, 3000) * MS;
        let restored = self.store.restored(self.clock().wall);
        self.tell(Input::Restored(restored));
        self.begin();
    }

    fn tell(&mut self, input: Input) {
        let clock = self.clock();
        self.model.handle(clock, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.model.poll_effect() {
            match effect {
                Effect::Probe(order) => {
                    let ProbeTarget::Server(server) = &order.target else { panic!("a monitor") };
                    let (after, result) = self.look(number(server), order.timeout);
                    let report = ProbeReport::new(order.target, after, result);
                    self.answer(after.as_millis() as u64, Input::Probe(report));
                }
                Effect::Switch(order) => self.ordered(order),
                Effect::Route(table) => self.routed = table.services.first().cloned(),
                Effect::Record(record) => self.store.write(record),
                Effect::LookAround(order) => {
                    let seen = |what: String| Seen { what, answers: true };
                    let control = order.control.iter().map(|at| seen(at.to_string())).collect();
                    let gateway = Some(seen("192.0.2.1".to_owned()));
                    let report = SightReport { gateway, control, ..SightReport::default() };
                    self.answer(2, Input::Sight(report));
                }
                _ => {}
            }
        }
        if let Err(broken) = invariants::check(&self.model) {
            panic!("{broken}");
        }
    }

    fn answer(&mut self, ms: u64, input: Input) {
        self.at(self.now + ms.max(1) * MS, Event::Answer { generation: self.generation, input });
    }

    fn look(&mut self, n: usize, timeout: Duration) -> (Duration, Result<ProbeAnswer, ProbeFailure>) {
        let quick = Duration::from_millis(self.dice.range(1, 60));
        let database = &self.all[n];
        if database.cut_off {
            return (timeout, Err(ProbeFailure::ConnectTimeout));
        }
        if !database.alive {
            return (quick, Err(ProbeFailure::Refused));
        }
        if database.hangs {
            return (timeout, Err(ProbeFailure::AnswerTimeout));
        }
        let role = if database.primary { DataRole::Primary } else { DataRole::Replica };
        let timeline = Some(database.lineage as u32);
        let (position, receives) = (Some(database.position), self.receives(n));
        let data = Some(DataState { role, position, receives, timeline });
        (quick, Ok(ProbeAnswer { data, ..ProbeAnswer::default() }))
    }

    /// It follows a primary that lives and holds the beginning of what it holds itself.
    fn receives(&self, n: usize) -> bool {
        let from = self.all[n].follows.map(|from| &self.all[from]);
        let same = |from: &Database| from.alive && from.primary && from.lineage == self.all[n].lineage;
        self.all[n].alive && !self.all[n].primary && from.is_some_and(same)
    }

    fn ordered(&mut self, order: SwitchOrder) {
        let run = &self.store.switches[&order.service];
        let fence = run.fence.as_ref().filter(|fence| fence.end.is_none());
        assert!(
            run.end.is_none() && fence.map_or(run.action, |f| f.action) == order.id,
            "no intent: {order:?}"
        );
        let by_itself = order.by == "Mainstay";
        let took = self.dice.range(10, 4000) * MS;
        let generation = self.generation;
        match order.step {
            SwitchStep::Fence => self.at(self.now + took, Event::Fenced { order, generation }),
            SwitchStep::Back => panic!("there is no way back"),
            SwitchStep::There => {
                if let Some(fence) = &run.fence {
                    assert!(self.fenced.contains(&fence.action), "promoted without a fence: {order:?}");
                }
                assert!(!by_itself || run.fence.is_some(), "promoted by itself without a fence");
                assert!(self.promoted.insert(order.id), "promoted twice");
                let promotion = order.promote.as_ref().expect("nobody is to be promoted");
                let chosen = &self.all[number(&promotion.server)];
                let lead = &self.all[number(order.from.as_ref().expect("somebody leads"))];
                // People may have promoted it a moment ago.
                let holds_it = chosen.lineage == self.written || chosen.lineage == lead.lineage;
                assert!(
                    !by_itself || chosen.primary || holds_it,
                    "{} holds something else",
                    promotion.server
                );
                self.at(self.now + took, Event::Promoted { order, generation });
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Write => {
                self.write();
                self.at(self.now + 50 * MS, Event::Write);
            }
            Event::Trouble if self.troubled => {
                self.trouble();
                let next = self.now + self.dice.range(200, 9000) * MS;
                self.at(next, Event::Trouble);
            }
            Event::Trouble => {}
            Event::Answer { generation, input } => {
                if generation == self.generation {
                    self.tell(input);
                }
            }
            Event::Fenced { order, generation } => self.fence_ends(&order, generation),
            Event::Promoted { order, generation } => self.promotion_ends(&order, generation),
        }
    }

    /// What a program says when it ends; `None`: Mainstay is another one by now, or nobody hears it.
    fn says(&mut self, order: &SwitchOrder, generation: u64, result: Result<(), &str>) {
        if generation != self.generation || (self.troubled && self.dice.chance(8)) {
            return;
        }
        let (service, action, result) = (order.service.clone(), order.id, result.map_err(str::to_owned));
        self.tell(Input::Switched { service, action, result, output: Vec::new() });
    }

    fn fence_ends(&mut self, order: &SwitchOrder, generation: u64) {
        let lead = number(order.from.as_ref().expect("somebody leads"));
        // Killed with Mainstay before it did anything, or it does not work.
        if (generation != self.generation && self.dice.chance(50)) || (self.troubled && self.dice.chance(20))
        {
            return self.says(order, generation, Err("no answer from its power switch"));
        }
        self.all[lead].alive = false;
        if self.troubled && self.dice.chance(10) {
            return self.says(order, generation, Err("and it says that it did not"));
        }
        self.fenced.insert(order.id);
        self.says(order, generation, Ok(()));
    }

    fn promotion_ends(&mut self, order: &SwitchOrder, generation: u64) {
        let n = number(&order.promote.as_ref().expect("it is one").server);
        let fails = (generation != self.generation && self.dice.chance(50))
            || (self.troubled && self.dice.chance(15));
        if fails || !self.all[n].alive {
            return self.says(order, generation, Err("the connection broke"));
        }
        if !self.all[n].primary {
            self.promote(n);
            self.promotions += 1;
        }
        let broke = self.troubled && self.dice.chance(15);
        self.says(order, generation, if broke { Err("the connection broke") } else { Ok(()) });
    }

    fn promote(&mut self, n: usize) {
        self.lineages += 1;
        let promoted = &mut self.all[n];
        (promoted.primary, promoted.follows, promoted.lineage) = (true, None, self.lineages);
    }

    /// Clients write to whoever they are led to.
    fn write(&mut self) {
        let targets = self.routed.as_ref().map(|routed| (routed.targets.clone(), routed.last_resort.len()));
        if let Some((targets, last_resort)) = targets {
            assert!(targets.len() <= 1 && last_resort == 0, "writes go to two");
            for target in targets {
                let database = &mut self.all[number(&target.id)];
                if database.alive && !database.hangs && !database.cut_off && database.primary {
                    assert!(database.lineage >= self.written, "writes go to {}, which has parted", target.id);
                    self.written = database.lineage;
                    database.position += WRITE;
                    self.writes += 1;
                }
            }
        }
        for n in 0..self.all.len() {
            if self.receives(n) && self.dice.chance(80) {
                let from = self.all[n].follows.expect("it receives");
                self.all[n].position = self.all[from].position;
            }
        }
    }

    /// Makes it a replica of another one, with what that one holds.
    fn follow(&mut self, n: usize, from: usize) {
        let (lineage, position) = (self.all[from].lineage, self.all[from].position);
        let cut_off = self.all[n].cut_off;
        self.all[n] = Database {
            alive: true,
            hangs: false,
            cut_off,
            primary: false,
            lineage,
            position,
            follows: Some(from),
        };
    }

    fn trouble(&mut self) {
        let (n, other) = (self.dice.range(0, 3) as usize, self.dice.range(0, 3) as usize);
        let lead = self.lead();
        match self.dice.range(0, 12) {
            0 | 1 => self.all[lead.unwrap_or(n)].alive = false,
            2 => self.all[n].alive = false,
            3 => self.all[lead.unwrap_or(n)].hangs ^= true,
            4 => self.all[n].cut_off ^= true,
            // It comes back as it was.
            5 | 6 => {
                self.all.iter_mut().for_each(|database| database.alive = true);
                self.all[n].hangs = false;
            }
            // A replica that has parted, and believes that it follows.
            7 if n != other => {
                (self.all[n].primary, self.all[n].follows, self.all[n].alive) = (false, Some(other), true)
            }
            // Somebody promotes the wrong one.
            8 if self.all[n].alive && !self.all[n].primary && self.dice.chance(40) => self.promote(n),
            8 | 9 => self.mend(),
            10 => self.killed(),
            // A switchover of people: the old one first.
            11 => {
                if let Some(lead) =
                    lead.filter(|lead| *lead != n && self.receives(n) && self.all[*lead].alive)
                {
                    self.all[n].position = self.all[lead].position;
                    self.promote(n);
                    self.follow(lead, n);
                }
            }
            _ => {}
        }
    }

    fn lead(&self) -> Option<usize> {
        let lead = self.model.snapshot(self.clock()).services[0].lead.clone();
        lead.and_then(|lead| lead.server).map(|server| number(&server))
    }

    /// People do what they are told: the lead is brought back, and everybody else made its replica.
    fn mend(&mut self) {
        let snapshot = self.model.snapshot(self.clock());
        if snapshot.services[0].switch.as_ref().is_some_and(|switch| switch.is_running()) {
            return;
        }
        self.all.iter_mut().for_each(|database| (database.cut_off, database.hangs) = (false, false));
        let Some(lead) = self.lead() else { return };
        let unclear =
            snapshot.services[0].lead.as_ref().is_some_and(|lead| lead.trouble.is_some() && !lead.writes);
        if unclear {
            self.all.iter_mut().for_each(|database| database.alive = true);
        }
        if unclear && self.dice.chance(50) {
            return;
        }
        if self.all[lead].primary && self.all[lead].lineage >= self.written {
            self.all[lead].alive = true;
        } else {
            let right = |n: &usize| self.all[*n].primary && self.all[*n].lineage >= self.written;
            let has_most = || (0..3).max_by_key(|n| (self.all[*n].lineage, self.all[*n].position));
            let best = (0..3).find(right).or_else(has_most).expect("three");
            self.all[best].alive = true;
            if !self.all[best].primary {
                self.promote(best);
            }
            let others = (0..3).filter(|n| *n != best).collect::<Vec<_>>();
            others.into_iter().for_each(|n| self.follow(n, best));
            if self.dice.chance(50) {
                // Nobody else writes any more, and that is the truth.
                let by = "somebody".to_owned();
                self.tell(Input::Switch { service: db(), back: false, fenced: true, by });
            }
            return;
        }
        let others = (0..3).filter(|n| *n != lead).collect::<Vec<_>>();
        others.into_iter().for_each(|n| self.follow(n, lead));
    }

    fn is_good(&self) -> bool {
        let snapshot = self.model.snapshot(self.clock());
        let service = &snapshot.services[0];
        let lead = service.lead.as_ref().expect("it has one");
        let over = snapshot.incidents.iter().all(|incident| incident.resolved_at.is_some());
        let runs = service.switch.as_ref().is_some_and(|switch| switch.is_running());
        lead.writes && lead.trouble.is_none() && lead.kept_out.is_empty() && over && !runs
    }
}
