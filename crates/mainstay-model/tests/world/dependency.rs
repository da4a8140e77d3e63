//! What all servers of a service need fails: each of them answers 503 to everybody, and no restart mends any of them; and how much
//! of all that runs is restarted.

use super::*;

impl World {
    /// Once, while nothing else is wrong.
    pub(super) fn dependency_will_fail(&mut self) {
        let services: Vec<ServiceId> = self.policy.services.keys().cloned().collect();
        let service = services[self.dice.range(0, services.len() as u64) as usize].clone();
        let lasts = self.dice.range(1, 25) * SECOND;
        self.at(self.now + 15 * SECOND, Event::Dependency(Some(service)));
        self.at(self.now + 15 * SECOND + lasts, Event::Dependency(None));
    }

    pub(super) fn lacking(&mut self, service: Option<ServiceId>) {
        for (id, server) in &mut self.servers {
            server.lacking = service.as_ref() == Some(&id.service);
        }
        self.lacking = service;
    }

    /// Who has fellows to be compared with is not restarted for what they all lack.
    pub(super) fn check_lacking(&self, order: &ActionOrder) {
        let id = &order.server;
        let several = self.policy.services.get(&id.service).is_some_and(|s| s.servers.len() > 1);
        let lacks = self.lacking.as_ref() == Some(&id.service) && several && !self.kind.lossy_prober;
        assert!(!lacks, "{id} was restarted for what all servers of its service lack: {}", order.reason);
    }

    /// Of what runs not more than a third is restarted without a person. A world is shorter than the hour.
    pub(super) fn check_fleet(&mut self, id: &ServerId) {
        let may_run = self.servers.get(id).is_some_and(|s| s.pid.is_some() || !s.supervised);
        if !may_run || self.fleet.1.contains(id) || !self.fleet.0.insert(id.clone()) {
            return;
        }
        let outside =
            |id: &ServerId| self.policy.server(id).is_some_and(|(_, server)| server.restart.is_some());
        let snapshot = self.snapshot();
        let servers = snapshot.services.iter().flat_map(|s| &s.servers);
        let all = servers.filter(|s| s.process.is_some() || outside(&s.id)).count();
        // One may have been taken away in the same moment.
        let most = ((all + 1) / 3).max(1);
        assert!(all < 4 || self.fleet.0.len() <= most, "{:?} of {all} were restarted", self.fleet.0);
    }
}
