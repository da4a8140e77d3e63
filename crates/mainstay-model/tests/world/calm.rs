//! What happens in a world where all is well, and is nobody's news: people change the config, restart Mainstay, drain a
//! server and bring it back; the clock is set; visitors are now few and now many; and once in a while an answer is an
//! error, a probe is lost or late, or a report never comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_model::change::{Change, ChangeKind};
use mainstay_model::input::{AdminState, ProbeAnswer, ProbeFailure};
use mainstay_model::policy::{Policy, ServerPolicy};
use mainstay_model::{Input, ProbeTarget, ServerId};

use super::{Dice, Event, MS, SECOND, World};

/// A server that is new or comes back is at its full share again within so long.
const SETTLES: u64 = 25 * SECOND;

/// Between two probes of one target that are lost.
const LOST_APART: u64 = 20 * SECOND;

/// The small things that are under way.
#[derive(Default)]
pub struct Calm {
    /// Whose next probe is lost on the way.
    lost_probes: BTreeSet<ProbeTarget>,
    /// When one of theirs was last lost.
    lost_at: BTreeMap<ProbeTarget, u64>,
    /// So many of the next answers are an error: none or one.
    errors: u64,
    /// The next report of the traffic does not come.
    report_lost: bool,
    /// Mainstay was restarted, which takes a release on trial back.
    pub restarted: bool,
}

/// A policy that bears what is usual: one failed look is no outage.
pub fn bears_noise(policy: &mut Policy, dice: &mut Dice) {
    for service in policy.services.values_mut() {
        service.health.fall = service.health.fall.max(2);
        service.health.timeout = service.health.timeout.max(Duration::from_millis(800));
        // A server that starts for some seconds, and a lost probe that is waited for meanwhile, are within it.
        service.recovery.start_grace = Duration::from_secs(15);
        // Also one request a tick is enough for a release to pass by.
        if let Some(deploy) = &mut service.deploy {
            (deploy.min_requests, deploy.deadline) = (10, Duration::from_secs(200));
        }
    }
    for monitor in policy.monitors.values_mut() {
        monitor.fail.bad = monitor.fail.bad.max(2);
        monitor.fail.of = monitor.fail.of.max(monitor.fail.bad);
    }
    if let Some(host) = &mut policy.host {
        host.sustained = Duration::from_secs(dice.range(5, 12));
    }
}

impl World {
    /// One small thing happens.
    pub(super) fn calm_moment(&mut self) {
        match self.dice.range(0, 12) {
            0 => self.apply_policy(),
            1 => self.harmless_change(),
            2 if self.kind.restarts => {
                self.calm.restarted = true;
                self.unsettle();
                self.restart_mainstay();
            }
            // How old a backup of an earlier run is only the wall clock can tell.
            3 if self.kind.wall_jumps && !self.kind.restarts => self.clock_jumps(),
            4 if self.kind.windows => self.somebody_plans(),
            5 | 6 => self.load_percent = [50, 80, 100, 150, 300][self.dice.range(0, 5) as usize],
            7 => self.calm.errors = 1,
            8 => self.lose_a_probe(),
            9 => self.calm.report_lost = true,
            10 => self.drain_for_a_while(),
            _ => self.somebody_tells_of_a_change(),
        }
    }

    fn unsettle(&mut self) {
        self.settled_at = self.settled_at.max(self.now + SETTLES);
    }

    /// Another figure in the config that changes nothing of how things are, or one server more.
    fn harmless_change(&mut self) {
        let ids: Vec<_> = self.policy.services.keys().cloned().collect();
        let id = &ids[self.dice.range(0, ids.len() as u64) as usize];
        let seconds = Duration::from_secs(self.dice.range(1, 9));
        let Some(service) = self.policy.services.get_mut(id) else { return };
        match self.dice.range(0, 4) {
            0 => service.health.interval = seconds.min(Duration::from_secs(3)),
            1 => service.slow_start = seconds,
            2 => service.resolve_after = seconds,
            _ if service.servers.len() < 6 => {
                service.servers.insert("added".into(), ServerPolicy::default());
                self.unsettle();
            }
            _ => service.value = None,
        }
        self.apply_policy();
    }

    /// One of several is taken out by a person and brought back.
    fn drain_for_a_while(&mut self) {
        let nth = self.dice.range(0, self.table.services.len().max(1) as u64) as usize;
        let Some(routed) = self.table.services.get(nth) else { return };
        // An instance beside the servers goes when it is no longer needed.
        let mut own = routed.targets.iter().filter(|target| self.policy.server(&target.id).is_some());
        let (Some(one), Some(_)) = (own.next(), own.next()) else { return };
        let server = one.id.clone();
        self.unsettle();
        let state = if self.dice.chance(50) { AdminState::Draining } else { AdminState::Maintenance };
        self.set_admin(server.clone(), state);
        let at = self.now + self.dice.range(2, 9) * SECOND;
        self.at(at, Event::Back(server));
    }

    pub(super) fn back_from_a_drain(&mut self, server: ServerId) {
        if self.policy.server(&server).is_some() && self.store.admin(&server) != AdminState::Ready {
            self.unsettle();
            self.set_admin(server, AdminState::Ready);
        }
    }

    pub(super) fn somebody_tells_of_a_change(&mut self) {
        let services: Vec<_> = self.policy.services.keys().cloned().collect();
        let service = services.get(self.dice.range(0, services.len() as u64 + 1) as usize).cloned();
        let change = Change {
            at: self.clock().wall,
            kind: ChangeKind::Told,
            service,
            what: "the index was built anew".to_owned(),
            by: "somebody".to_owned(),
        };
        self.tell(Input::Changed(change));
    }

    fn lose_a_probe(&mut self) {
        let monitors = self.policy.monitors.iter().filter(|(_, policy)| policy.heartbeat.is_none());
        let monitors = monitors.map(|(id, _)| ProbeTarget::Monitor(id.clone()));
        let servers = self.servers.keys().cloned().map(ProbeTarget::Server);
        let all: Vec<ProbeTarget> = servers.chain(monitors).collect();
        let one = all[self.dice.range(0, all.len() as u64) as usize].clone();
        self.calm.lost_probes.insert(one);
    }

    /// What becomes of a probe that is lost: no answer in time, or no word from the prober at all.
    pub(super) fn is_lost(&mut self, target: &ProbeTarget) -> Option<Lost> {
        if !self.calm.lost_probes.remove(target) {
            return None;
        }
        // Two in a row would be a fault.
        let last = self.calm.lost_at.insert(target.clone(), self.now);
        let lost = last.is_none_or(|at| self.now > at + LOST_APART);
        lost.then(|| if self.dice.chance(50) { Lost::TimedOut } else { Lost::Unheard })
    }

    /// This answer is the one in thousands that is an error.
    pub(super) fn is_stray_error(&mut self) -> bool {
        std::mem::take(&mut self.calm.errors) > 0
    }

    pub(super) fn report_is_lost(&mut self) -> bool {
        std::mem::take(&mut self.calm.report_lost)
    }

    /// Requests of this tick: the load as it is now, spread a little.
    pub(super) fn visitors_now(&mut self) -> u64 {
        let hundredths = self.load * self.load_percent;
        hundredths / 100 + u64::from(self.dice.range(0, 100) < hundredths % 100)
    }

    /// Nothing small happens any more.
    pub(super) fn calm_ends(&mut self) {
        let restarted = self.calm.restarted;
        self.calm = Calm { restarted, ..Calm::default() };
        self.load_percent = 100;
    }
}

/// See [`World::is_lost`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    TimedOut,
    Unheard,
}

impl Lost {
    /// What the prober says, if it says anything.
    pub fn result(self) -> Option<Result<ProbeAnswer, ProbeFailure>> {
        (self == Lost::TimedOut).then_some(Err(ProbeFailure::AnswerTimeout))
    }
}

/// How long an answer takes that takes `typical` in the middle: log-normal, as latencies of real servers nearly are, and one in a
/// thousand waits for something for a tenth of a second.
pub fn spread(typical: Duration, dice: &mut Dice) -> Duration {
    let sum: u64 = (0..6).map(|_| dice.range(0, 1000)).sum();
    // Six even ones are as good as normal, with a deviation of one.
    let normal = (sum as f64 - 3000.0) / 707.0;
    let pause = if dice.range(0, 1000) == 0 { 100 * MS } else { 0 };
    typical.mul_f64((0.5 * normal).exp()) + Duration::from_nanos(pause)
}
