//! The world's servers: how they fail, what a probe sees of them, and the supervisor that runs some of them.

use std::net::SocketAddr;
use std::time::Duration;

use mainstay_model::effect::{ActionKind, ActionOrder, LookOrder, ProbeOrder};
use mainstay_model::input::{AdminState, Exit, LookedInto, ProbeAnswer, ProbeFailure, ProcessEvent};
use mainstay_model::policy::ProbeKind;
use mainstay_model::routing::RoutingMode;
use mainstay_model::sight::{Seen, SightOrder, SightReport};
use mainstay_model::{Endpoint, Input, ServerId, Whereabouts};

use super::{Deadline, Dice, Event, MS, SECOND, World};

/// How a server is, truly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Good,
    /// Answers, but late.
    Slow,
    /// Accepts and never answers.
    Hangs,
    /// Nothing listens.
    Refuses,
    /// Answers 500 to everything.
    Errors,
    /// Answers 500 to visitors, and its probes well: gray.
    Gray,
    /// The same to every fifth of them.
    SomeErrors,
    /// Shows a certificate that is not to be trusted.
    BadCertificate,
    /// Fails its probes and answers visitors well.
    BadProbes,
    /// Its machine is gone: nothing comes back.
    Vanished,
}

impl Condition {
    pub fn random(dice: &mut Dice) -> Self {
        use Condition::*;
        [Slow, Hangs, Refuses, Errors, Gray, SomeErrors, BadProbes, BadCertificate][dice.range(0, 8) as usize]
    }
}

/// What becomes of one attempt.
pub enum Attempt {
    Answered(u16, Duration),
    Refused,
    TimedOut,
    Untrusted,
}

pub struct SimServer {
    pub supervised: bool,
    port: u16,
    /// It is on a machine of its own.
    pub far: bool,
    /// The machine that it is on, if it is far.
    machine: u8,
    pub pid: Option<u32>,
    pub incarnation: u64,
    pub condition: Condition,
    /// Which fault it has, so that a check can tell whether it is still the same.
    pub fault: u64,
    listens_from: u64,
    pub start_fails: bool,
    pub crash_loop: bool,
    /// There is more to do than it can.
    pub overloaded: bool,
    /// What it needs fails.
    pub lacking: bool,
    /// The release that it was started with, by its path: the word before the hyphen says how it is.
    pub release: String,
}

impl SimServer {
    pub fn new(supervised: bool, port: u16, far: bool, machine: u16) -> Self {
        Self {
            machine: (machine % 250) as u8,
            far: far && !supervised,
            supervised,
            port,
            pid: None,
            incarnation: 0,
            condition: Condition::Good,
            fault: 0,
            listens_from: 0,
            start_fails: false,
            crash_loop: false,
            overloaded: false,
            lacking: false,
            release: String::new(),
        }
    }

    pub fn address(&self) -> Option<Endpoint> {
        let runs = !self.supervised || self.pid.is_some();
        let ip = if self.far { [198, 51, 100, self.machine()] } else { [127, 0, 0, 1] };
        runs.then(|| SocketAddr::from((ip, self.port)).into())
    }

    /// The machine that a far one is on.
    pub fn machine(&self) -> u8 {
        self.machine
    }

    pub fn heal(&mut self) {
        self.condition = Condition::Good;
        self.fault += 1;
        self.start_fails = false;
        self.crash_loop = false;
    }

    /// What an earlier Mainstay left running is ended by the next one.
    pub fn mainstay_restarted(&mut self) {
        self.pid = None;
        self.incarnation += 1;
    }

    pub fn attempt(&self, address: &Endpoint, now: u64) -> Attempt {
        if self.address().as_ref() != Some(address) || now < self.listens_from {
            return Attempt::Refused;
        }
        match self.condition {
            Condition::Good if self.lacking => Attempt::Answered(503, Duration::from_millis(2)),
            Condition::Good | Condition::BadProbes | Condition::SomeErrors if self.overloaded => {
                Attempt::Answered(200, Duration::from_millis(700))
            }
            Condition::Good | Condition::BadProbes | Condition::SomeErrors => {
                Attempt::Answered(200, Duration::from_millis(3))
            }
            Condition::BadCertificate => Attempt::Untrusted,
            Condition::Slow => Attempt::Answered(200, Duration::from_millis(600)),
            Condition::Hangs | Condition::Vanished => Attempt::TimedOut,
            Condition::Refuses => Attempt::Refused,
            Condition::Errors | Condition::Gray => Attempt::Answered(500, Duration::from_millis(2)),
        }
    }
}

impl World {
    pub(super) fn look_at(
        &mut self,
        id: &ServerId,
        order: &ProbeOrder,
    ) -> (Duration, Result<ProbeAnswer, ProbeFailure>) {
        if self.faulty && self.kind.lossy_prober && self.dice.chance(5) {
            let why = "too many open files".to_owned();
            return (Duration::from_micros(50), Err(ProbeFailure::NotProbed(why)));
        }
        let quick = Duration::from_micros(self.dice.range(200, 9000));
        let timed_out = (order.timeout, Err(ProbeFailure::AnswerTimeout));
        let Whereabouts::Known(address) = &order.address else { panic!("a server has an address") };
        let Some(server) = self.servers.get(id) else {
            return (quick, Err(ProbeFailure::Refused));
        };
        if server.condition == Condition::Vanished || (self.cut_off && server.far) {
            return (order.timeout, Err(ProbeFailure::ConnectTimeout));
        }
        if order.injection.is_some_and(|i| self.breaks(i)) {
            return (quick, Err(ProbeFailure::Refused));
        }
        let Some(server) = self.servers.get(id) else { return (quick, Err(ProbeFailure::Refused)) };
        let connects = order.kind == ProbeKind::Tcp;
        let visits = matches!(order.kind, ProbeKind::Visit { .. });
        let asks_the_check = !connects && !visits;
        let listens = server.address().as_ref() == Some(address) && self.now >= server.listens_from;
        if server.condition == Condition::BadProbes && asks_the_check && listens {
            return (quick, Err(ProbeFailure::Status(503)));
        }
        if connects && listens && server.condition != Condition::Refuses {
            return (quick, Ok(ProbeAnswer::default()));
        }
        match server.attempt(address, self.now) {
            Attempt::Refused => (quick, Err(ProbeFailure::Refused)),
            Attempt::Untrusted => {
                let why = "shows a certificate that has expired".to_owned();
                (quick, Err(ProbeFailure::Certificate(why)))
            }
            Attempt::TimedOut => timed_out,
            Attempt::Answered(_, took) if took > order.timeout => timed_out,
            Attempt::Answered(503, _) => (quick, Err(ProbeFailure::Status(503))),
            Attempt::Answered(500, _) if server.condition == Condition::Errors || visits => {
                (quick, Err(ProbeFailure::Status(500)))
            }
            Attempt::Answered(_, took) => (took + quick, Ok(ProbeAnswer::status(200))),
        }
    }

    pub(super) fn set_condition(&mut self, id: &ServerId, condition: Condition) {
        self.surge_is_not_alone(id);
        self.holds.forget(id);
        self.faults += 1;
        let fault = self.faults;
        let server = self.servers.get_mut(id).unwrap();
        server.condition = condition;
        server.fault = fault;
        let seen =
            condition == Condition::Hangs && self.policy.services[&id.service].health.probe != ProbeKind::Tcp;
        let dead = condition == Condition::Refuses || seen;
        if dead && !server.supervised && !self.kind.lossy_prober {
            let health = &self.policy.services[&id.service].health;
            let fall = health.fall;
            // The documented time: an interval, then `fall` probes that time out, a re-probe apart; a probe or two
            // that had begun before the fault, and a margin for one that was on its way.
            let sure = health.interval + health.timeout * (fall + 2) + health.reprobe * fall;
            let within = u64::try_from(sure.as_nanos()).unwrap() + SECOND;
            let notice = Deadline { generation: self.generation, fault, within };
            self.at(self.now + within, Event::MustBeOut(id.clone(), notice));
        }
    }

    /// Who sees nothing notices nothing: then it is to be looked at again when Mainstay has seen for so long.
    pub(super) fn cannot_tell_before(&self, within: u64) -> Option<u64> {
        // It finds out within some seconds that it sees again, and probes everything anew.
        let again = self.sees_since + 5 * SECOND + within;
        if self.cut_off { Some(self.now + within) } else { Some(again).filter(|at| *at > self.now) }
    }

    /// By now a dead server must have been noticed.
    pub(super) fn must_be_out(&mut self, id: &ServerId, fault: u64) {
        let same = self.servers.get(id).is_some_and(|s| s.fault == fault && !s.supervised);
        if !same || self.policy.server(id).is_none() || self.store.admin(id) != AdminState::Ready {
            return;
        }
        let Some(routed) = self.table.services.iter().find(|s| s.id == id.service) else { return };
        let panics = routed.mode == RoutingMode::Panic;
        // A reload or a person may have made it new meanwhile; then it is held back at least.
        let in_rotation = routed.targets.iter().any(|t| &t.id == id);
        assert!(!in_rotation || panics || routed.targets.len() == 1, "{id} was not noticed in time");
    }

    /// Mainstay loses its own network, or has it back.
    pub fn cut_off(&mut self, cut_off: bool) {
        if self.cut_off && !cut_off {
            self.sees_since = self.now;
        }
        self.cut_off = cut_off;
        self.servers.keys().cloned().collect::<Vec<_>>().iter().for_each(|id| self.surge_is_not_alone(id));
    }

    /// What Mainstay sees of its own network.
    pub(super) fn look_around(&self, order: &SightOrder) -> Input {
        let seen = |what: String| Seen { what, answers: !self.cut_off };
        let control = order.control.iter().map(|at| seen(at.to_string())).collect();
        let gateway = Some(seen("192.0.2.1".to_owned()));
        Input::Sight(SightReport { gateway, control, ..SightReport::default() })
    }

    /// A supervised process dies by itself; another server's machine reboots, as it were.
    pub(super) fn crash(&mut self, id: &ServerId, incarnation: Option<u64>) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if incarnation.is_some_and(|i| i != server.incarnation) {
            return;
        }
        if !server.supervised {
            if self.faulty {
                self.set_condition(id, Condition::Refuses);
            }
            return;
        }
        let exit = if self.dice.chance(50) { Exit::Signal(9) } else { Exit::Code(1) };
        self.dies(id, exit);
    }

    /// A supervised process ends, if it runs.
    pub(super) fn dies(&mut self, id: &ServerId, exit: Exit) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.pid.take().is_none() {
            return;
        }
        server.incarnation += 1;
        self.surge_is_not_alone(id);
        let last_lines = vec!["it was a good day".to_owned(), "and then it was not".to_owned()];
        self.process_gone(id, exit, false, last_lines);
    }

    fn process_gone(&mut self, id: &ServerId, exit: Exit, asked: bool, last_lines: Vec<String>) {
        let exited =
            Input::Process { server: id.clone(), event: ProcessEvent::Exited { exit, asked, last_lines } };
        let address = Input::Address { server: id.clone(), address: None };
        if self.dice.chance(50) {
            self.tell(address);
            self.tell(exited);
        } else {
            self.tell(exited);
            self.tell(address);
        }
    }

    /// The first half of an action: whatever runs is ended.
    pub(super) fn stopped(&mut self, order: ActionOrder) {
        if self.is_outside(&order) {
            let generation = self.generation;
            let at = self.now + self.dice.range(1, 4000) * MS;
            return self.at(at, Event::Spawned { generation, order });
        }
        if order.launch.template != order.server.name && order.kind != ActionKind::Stop {
            // An instance that the config does not name.
            let port = 10_000 + self.servers.len() as u16;
            self.servers.entry(order.server.clone()).or_insert_with(|| SimServer::new(true, port, false, 0));
        }
        let Some(server) = self.servers.get_mut(&order.server) else {
            if order.kind == ActionKind::Stop {
                self.tell(Input::Outcome { action: order.id, result: Ok(()) });
            }
            return;
        };
        let runs = server.pid.is_some();
        if order.kind == ActionKind::Start && runs {
            return self.tell(Input::Outcome { action: order.id, result: Ok(()) });
        }
        if runs {
            server.pid = None;
            server.incarnation += 1;
            self.surge_is_not_alone(&order.server);
            self.process_gone(&order.server, Exit::Signal(15), true, Vec::new());
        }
        if order.kind == ActionKind::Stop {
            return self.tell(Input::Outcome { action: order.id, result: Ok(()) });
        }
        let generation = self.generation;
        let at = self.now + self.dice.range(1, 30) * MS;
        self.at(at, Event::Spawned { generation, order });
    }

    /// It is to restart a server that Mainstay does not start itself.
    pub(super) fn is_outside(&self, order: &ActionOrder) -> bool {
        order.kind == ActionKind::Restart
            && self.servers.get(&order.server).is_some_and(|server| !server.supervised)
    }

    /// One that Mainstay does not start itself is restarted, whether or not Mainstay is still there to hear of it.
    pub(super) fn restarted_outside(&mut self, order: &ActionOrder) -> Result<(), String> {
        let (works, healed) = (self.dice.chance(90), self.dice.chance(80));
        let ready_after = self.dice.range(1, 2500) * MS;
        let Some(server) = self.servers.get_mut(&order.server).filter(|_| works) else {
            return Err("Unit not found".to_owned());
        };
        server.listens_from = self.now + ready_after;
        if healed {
            server.condition = Condition::Good;
            server.fault += 1;
        }
        self.restarted_outside.insert(order.id);
        self.holds.forget(&order.server);
        self.surge_is_not_alone(&order.server);
        Ok(())
    }

    /// What became of a restart of an earlier Mainstay.
    pub(super) fn look_into(&mut self, order: LookOrder) {
        let found = match self.restarted_outside.contains(&order.action) {
            _ if self.dice.chance(15) => LookedInto::NotKnown("nobody can be asked".to_owned()),
            true => LookedInto::Done("it has run for a second".to_owned()),
            false => LookedInto::NotDone("it has run for an hour".to_owned()),
        };
        self.tell(Input::LookedInto { action: order.action, server: order.server, found });
    }

    /// The second half: it is started anew.
    pub(super) fn spawned(&mut self, order: ActionOrder) {
        if self.is_outside(&order) {
            let result = self.restarted_outside(&order);
            return self.tell(Input::Outcome { action: order.id, result });
        }
        let id = order.server.clone();
        let (pid, ready_after, incarnation) = (
            self.dice.range(100, 30_000) as u32,
            self.dice.range(1, 2500) * MS,
            self.dice.range(1, u64::MAX),
        );
        let healed = self.dice.chance(80);
        let release = order.launch.release.clone().unwrap_or_default();
        // Releases are as good as others when the faults are over.
        let is = |how: &str| self.faulty && release.starts_with(how);
        let (no_start, crashes, slow) = (is("nostart"), is("crash"), is("slow"));
        let crash_after = if is("crashlate") { 12_000 } else { 400 };
        if order.launch.template != id.name {
            // A config that was read meanwhile does not name it.
            let port = 10_000 + self.servers.len() as u16;
            self.servers.entry(id.clone()).or_insert_with(|| SimServer::new(true, port, false, 0));
        }
        let Some(server) = self.servers.get_mut(&id) else { return };
        server.release = release;
        if server.start_fails || no_start {
            let error = "no such file or directory".to_owned();
            return self.tell(Input::Outcome { action: order.id, result: Err(error) });
        }
        self.holds.forget(&id);
        server.pid = Some(pid);
        server.incarnation = incarnation;
        server.listens_from = self.now + ready_after;
        server.port = 20_000 + (pid % 20_000) as u16;
        if healed {
            server.condition = Condition::Good;
            server.fault += 1;
        }
        if slow {
            server.condition = Condition::Slow;
        }
        let (crash_loop, address) = (server.crash_loop || crashes, server.address());
        let started = Input::Process { server: id.clone(), event: ProcessEvent::Started { pid } };
        let listens = Input::Address { server: id.clone(), address };
        let outcome = Input::Outcome { action: order.id, result: Ok(()) };
        let in_order = match self.dice.range(0, 3) {
            0 => [started, listens, outcome],
            1 => [listens, started, outcome],
            _ => [outcome, started, listens],
        };
        if crash_loop {
            let longest = if crashes { crash_after } else { 3000 };
            let at = self.now + self.dice.range(10, longest) * MS;
            self.at(at, Event::Crash { server: id, incarnation });
        }
        in_order.into_iter().for_each(|input| self.tell(input));
    }
}
