//! What the world's monitors watch: things elsewhere that fail one by one or all at once, and come back.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_model::MonitorId;
use mainstay_model::effect::ProbeOrder;
use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_model::monitor::{MonitorPolicy, MonitorState, OutOf};

use super::{Deadline, Dice, Event, MS, World};

/// Things that are watched.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Those that fail, with the number of their fault.
    failing: BTreeMap<MonitorId, (u64, ProbeFailure)>,
    faults: u64,
}

/// Few worlds watch anything.
pub(super) fn random_monitors(dice: &mut Dice) -> BTreeMap<MonitorId, MonitorPolicy> {
    if !dice.chance(20) {
        return BTreeMap::new();
    }
    let policy = |dice: &mut Dice, n: u64| {
        let of = dice.range(1, 7) as u32;
        let address = std::net::SocketAddr::from(([10, 9, 0, n as u8], 80));
        MonitorPolicy {
            address: address.into(),
            interval: Duration::from_secs(dice.range(1, 12)),
            timeout: Duration::from_millis(dice.range(200, 1500)),
            fail: OutOf { bad: dice.range(1, u64::from(of) + 1) as u32, of },
            recover: dice.range(1, 4) as u32,
            ..MonitorPolicy::default()
        }
    };
    let many = dice.range(1, 12);
    (0..many).map(|n| (MonitorId::new(format!("monitor-{n}")), policy(dice, n))).collect()
}

impl World {
    pub(super) fn look_elsewhere(
        &mut self,
        id: &MonitorId,
        order: &ProbeOrder,
    ) -> (Duration, Result<ProbeAnswer, ProbeFailure>) {
        let quick = Duration::from_micros(self.dice.range(200, 90_000));
        if self.faulty && self.kind.lossy_prober && self.dice.chance(5) {
            return (quick, Err(ProbeFailure::NotProbed("too many open files".to_owned())));
        }
        if self.cut_off {
            return (order.timeout, Err(ProbeFailure::ConnectTimeout));
        }
        match self.elsewhere.failing.get(id) {
            Some((_, ProbeFailure::AnswerTimeout)) => (order.timeout, Err(ProbeFailure::AnswerTimeout)),
            Some((_, failure)) => (quick, Err(failure.clone())),
            None => (quick, Ok(ProbeAnswer::status(200))),
        }
    }

    /// Something that is watched fails or comes back; at times all of it does.
    pub(super) fn fault_elsewhere(&mut self) {
        let looked_at = self.policy.monitors.iter().filter(|(_, policy)| policy.heartbeat.is_none());
        let all: Vec<MonitorId> = looked_at.map(|(id, _)| id.clone()).collect();
        if all.is_empty() {
            return;
        }
        let whom = match self.dice.chance(25) {
            true => all,
            false => vec![all[self.dice.range(0, all.len() as u64) as usize].clone()],
        };
        let failure = match self.dice.range(0, 6) {
            0 => Some(ProbeFailure::AnswerTimeout),
            1 => Some(ProbeFailure::Refused),
            2 => Some(ProbeFailure::Name("it does not exist".to_owned())),
            3 => Some(ProbeFailure::Unresolved("DNS does not say where it is".to_owned())),
            _ => None,
        };
        for id in whom {
            let Some(failure) = failure.clone() else {
                self.elsewhere.failing.remove(&id);
                continue;
            };
            self.elsewhere.faults += 1;
            let fault = self.elsewhere.faults;
            self.elsewhere.failing.insert(id.clone(), (fault, failure));
            let policy = &self.policy.monitors[&id];
            // The interval, then as many looks as it takes: after 1, 2, 4 seconds, or the interval if that is less; and one more, a
            // second later, if Mainstay looked at its own sight first.
            let quick: u64 =
                (0..policy.fail.bad).map(|n| (1 << n.min(10)).min(policy.interval.as_secs())).sum();
            let seen = policy.interval.mul_f64(1.05)
                + policy.timeout * (policy.fail.bad + 2)
                + Duration::from_secs(quick + 2);
            let within = u64::try_from(seen.as_nanos()).unwrap();
            let notice = Deadline { generation: self.generation, fault, within };
            self.at(self.now + within, Event::MustBeDown(id, notice));
        }
    }

    /// A fault that lasted must have been noticed.
    pub(super) fn must_be_down(&mut self, id: &MonitorId, fault: u64) {
        let same = self.elsewhere.failing.get(id).is_some_and(|(now, _)| *now == fault);
        if !same || self.kind.lossy_prober || self.kind.starves {
            return;
        }
        let snapshot = self.snapshot();
        let Some(shown) = snapshot.monitor(id) else { return };
        if shown.state == MonitorState::Maintenance {
            return;
        }
        assert!(
            shown.state == MonitorState::Down,
            "{id} was not noticed in time: {shown:?} at {}",
            self.now / MS
        );
        assert!(shown.incident.is_some(), "{id} is down without an incident");
    }

    pub(super) fn elsewhere_heals(&mut self) {
        self.elsewhere.failing.clear();
    }
}
