//! The world's adapters: what becomes of what the judge orders, slowly, badly or not at all.

use super::*;

impl World {
    /// An adapter answers after so many milliseconds, or, in a bad world, never.
    pub(super) fn answer(&mut self, (ms, input): (u64, Input)) {
        if self.faulty && self.kind.lossy_prober && self.dice.chance(4) {
            return;
        }
        let generation = self.generation;
        self.at(self.now + ms * MS, Event::Answer { generation, input });
    }

    pub(super) fn probe(&mut self, order: ProbeOrder) {
        assert!(
            self.outstanding_probes.insert(order.target.clone())
                || self.kind.lossy_prober
                || self.kind.peaceful,
            "two probes at once of {}",
            order.target
        );
        if self.faulty && self.kind.lossy_prober && self.dice.chance(4) {
            return;
        }
        if let Some(lost) = self.is_lost(&order.target) {
            let Some(result) = lost.result() else { return };
            let report = ProbeReport::new(order.target, order.timeout, result);
            let at = self.now + u64::try_from(order.timeout.as_nanos()).unwrap();
            return self.at(at, Event::ProbeAnswer { generation: self.generation, report });
        }
        let (took, result) = match &order.target {
            ProbeTarget::Server(id) => self.look_at(&id.clone(), &order),
            ProbeTarget::Monitor(id) => self.look_elsewhere(&id.clone(), &order),
        };
        let report = ProbeReport::new(order.target, took, result);
        let at = self.now + u64::try_from(took.as_nanos()).unwrap();
        self.at(at, Event::ProbeAnswer { generation: self.generation, report });
    }

    /// A backup takes a while, fails at times, and at times nobody ever says how it ended.
    pub(super) fn back_up(&mut self, order: &BackupOrder) {
        let at_once = self.backup_until.is_some_and(|until| self.now < until);
        assert!(!at_once, "two backups at once: {order:?}");
        assert!(self.policy.backups.contains_key(&order.backup), "{} left the config", order.backup);
        let took = Duration::from_millis(self.dice.range(50, 4000));
        let ends = self.now + u64::try_from(took.as_nanos()).unwrap();
        self.backup_until = Some(ends);
        if self.faulty && self.dice.chance(5) {
            return;
        }
        let done = BackupDone {
            snapshot: format!("{:08x}", self.dice.range(0, 1 << 32)),
            data_at: self.clock().wall,
            files: 3,
            bytes: 300,
            note: String::new(),
        };
        let fails = self.faulty && self.dice.chance(30);
        let result = if fails { Err("the disk is full".to_owned()) } else { Ok(done) };
        let outcome = BackupOutcome { backup: order.backup.clone(), task: order.task, took, result };
        self.at(ends, Event::BackupDone { generation: self.generation, outcome });
    }

    /// The user's own command: begun once an incident unless a person asks, with its intent in the record.
    pub(super) fn switch(&mut self, order: SwitchOrder) {
        let run = &self.store.switches[&order.service];
        let fence = run.fence.as_ref().filter(|fence| fence.end.is_none());
        let intent = fence.map_or(run.action, |fence| fence.action);
        assert!(intent == order.id && run.end.is_none(), "a switch without an intent: {order:?}");
        // What is fenced off and not switched yet serves nobody: that goes on to its end.
        let begins = order.step != SwitchStep::There || run.fence.is_none();
        if order.step == SwitchStep::There
            && let Some(fence) = &run.fence
        {
            let fenced = self.fenced.remove(&fence.action);
            assert!(fenced, "promoted although nobody was fenced: {order:?}");
        }
        if order.by == "Mainstay" {
            let incident = order.incident.expect("it acts on its own for an incident only");
            assert!(order.step != SwitchStep::Back, "back by itself");
            assert!(!(begins && self.is_frozen()), "switched in a freeze: {order:?}");
            assert!(self.switched.insert((order.service.clone(), incident, order.step)), "again: {order:?}");
            assert!(!(begins && self.is_blind()), "switched by who sees nothing: {order:?}");
        }
        let at = self.now + self.dice.range(1, 3000) * MS;
        if !(self.faulty && self.dice.chance(10)) {
            self.at(at, Event::Switched { generation: self.generation, order });
        }
    }

    pub(super) fn carry_out(&mut self, order: ActionOrder) {
        self.store.intent(&order, self.clock().wall);
        if order.kind == ActionKind::Start {
            // Another instance may come under the name of one that is gone, whose last probe is still under way.
            self.outstanding_probes.remove(&ProbeTarget::Server(order.server.clone()));
        }
        self.check_holds(&order);
        if order.kind == ActionKind::Restart {
            self.check_restart(&order.server);
            assert!(self.is_allowed(&order), "{} was restarted, and nobody allowed it", order.server);
            if !self.is_approved(&order.server) {
                self.check_lacking(&order);
                self.check_fleet(&order.server);
                assert!(!self.is_frozen(), "{} was restarted in a freeze", order.server);
                assert!(!self.is_expected(&order.server), "{} was restarted in its window", order.server);
                assert!(!self.is_blind(), "{} was restarted by who sees nothing", order.server);
            }
            let mut unfinished = self.store.unfinished().iter();
            let unknown =
                unfinished.find(|(action, server)| **action != order.id && **server == order.server);
            let outside = self.servers.get(&order.server).is_some_and(|s| !s.supervised);
            assert!(!outside || unknown.is_none(), "{} was restarted blindly again", order.server);
            let (budget, window) = (RECOVERY_BUDGET as usize, RECOVERY_WINDOW);
            let times = self.restarts.entry(order.server.clone()).or_default();
            times.push(self.now);
            // A wall clock that jumps makes restarts of an earlier run look older than they are.
            let comparable = !(self.kind.wall_jumps && self.kind.restarts);
            let recent = times.iter().filter(|t| self.now - **t < window).count();
            // Ages of an earlier run are known to the millisecond.
            assert!(!comparable || recent <= budget, "{} was restarted {recent} times", order.server);
        }
        if self.faulty && self.kind.loses_orders && self.dice.chance(1) {
            return; // Its outcome never comes.
        }
        let running = self.servers.get(&order.server).is_some_and(|s| s.pid.is_some());
        let delay = if running && order.kind != ActionKind::Start {
            self.dice.range(1, 3000)
        } else {
            self.dice.range(1, 20)
        };
        let generation = self.generation;
        self.at(self.now + delay * MS, Event::Stopped { generation, order });
    }
}
