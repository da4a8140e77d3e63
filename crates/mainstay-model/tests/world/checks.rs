//! What must hold of a world: of every table, and when everything is over.

use super::*;

impl World {
    /// What is not good yet.
    pub(super) fn trouble(&self) -> Option<String> {
        let snapshot = self.snapshot();
        for service in &snapshot.services {
            for server in &service.servers {
                if server.health != Health::Healthy {
                    return Some(format!("{} is {:?}: {:?}", server.id, server.health, server.why));
                }
                let is_to_serve = server.role == Role::Primary && server.note != Some(ServerNote::Warm);
                if is_to_serve && server.share < 1.0 {
                    return Some(format!("{} has a share of {}", server.id, server.share));
                }
            }
            if let Some(front) = &service.front
                && (front.trouble
                    || front.addresses.iter().any(|a| !a.good)
                    || front.dns.iter().any(|s| s.stale))
            {
                return Some(format!("the front of {} is {front:?}", service.id));
            }
            if !service.servers.is_empty() && service.state != ServiceState::Healthy {
                return Some(format!("{} is {:?}", service.id, service.state));
            }
            if let Some(deployment) = service.releases.as_ref().and_then(|r| r.deployment.as_ref()) {
                return Some(format!("a deploy is under way: {deployment:?}"));
            }
            let primaries = service.servers.iter().any(|s| s.role == Role::Primary);
            if primaries && service.mode != RoutingMode::Normal {
                return Some(format!("{} is carried by {:?}", service.id, service.mode));
            }
        }
        if let Some(monitor) = snapshot.monitors.iter().find(|m| m.state != MonitorState::Up) {
            return Some(format!("{monitor:?}"));
        }
        self.store.open_incidents().next().map(|incident| format!("incident {incident:?} is open"))
    }

    pub(super) fn check_the_end(&self) {
        for id in self.store.incident_ids() {
            let merged = self.store.was_merged(id) || self.store.is_part(id);
            for kind in [NoticeKind::Opened, NoticeKind::Resolved] {
                let told = self.notices.get(&(id, kind)).copied().unwrap_or(0);
                assert!(told == 1 || merged && told == 0, "incident {id} was told {told} times as {kind:?}");
            }
        }
        if self.kind.peaceful {
            assert!(self.notices.is_empty(), "a notice in a peaceful world");
            for service in self.snapshot().services.iter().filter(|_| self.load > 0) {
                let Some(releases) = &service.releases else { continue };
                let policy = &self.policy.services[&service.id];
                let primary = policy.servers.values().any(|s| s.releasable && s.role == Role::Primary);
                // What gets no requests is never compared, and a restart takes back what is on trial.
                if !primary || self.calm.restarted {
                    continue;
                }
                let passed =
                    releases.releases.iter().any(|r| r.number == 2 && r.state == ReleaseState::Current);
                assert!(passed, "a good release did not pass: {releases:?}");
                let runs_it =
                    |s: &ServerSnapshot| s.note == Some(ServerNote::Warm) || s.release.is_none_or(|n| n == 2);
                assert!(service.servers.iter().all(runs_it), "{:?}", service.servers);
            }
        }
        self.store.check();
        self.check_the_ledger();
    }

    /// What must hold of a table by what the world knows, rather than by what the judge believes.
    pub(super) fn check_table(&self, table: &RoutingTable) {
        for routed in &table.services {
            self.check_capacity(routed);
            for target in routed.targets.iter().chain(&routed.last_resort) {
                let admin = self.store.admin(&target.id);
                assert_eq!(admin, AdminState::Ready, "{} is routed to although it is {admin}", target.id);
                let template = target.id.name.split(['@', '-']).next().unwrap();
                let template = target.id.service.server(template);
                assert!(self.policy.server(&template).is_some(), "{} left the config", target.id);
            }
        }
    }

    /// Mainstay sees nothing, and knows it.
    pub(super) fn is_blind(&self) -> bool {
        self.cut_off && self.knows_blind && self.store.is_suspect()
    }

    /// While nobody can see them, those on other machines that got requests go on getting them.
    pub(super) fn check_blind(&self, table: &RoutingTable) {
        if !self.is_blind() {
            return;
        }
        for before in &self.table.services {
            let Some(policy) = self.policy.services.get(&before.id) else { continue };
            let Some(now) = table.services.iter().find(|s| s.id == before.id) else { continue };
            let here = self.servers.iter().any(|(id, s)| id.service == before.id && !s.far);
            // In doubt also those get requests that were known to be dead before.
            // Whom a person, or what was ordered before, switches away from gets nothing.
            let run = self.store.switches.get(&before.id);
            let switched = run.is_some_and(|run| run.switched || run.end.is_none());
            if here || switched || before.mode == RoutingMode::Panic {
                continue;
            }
            for target in &before.targets {
                let id = &target.id;
                let primary = policy.servers.get(&id.name).is_some_and(|s| s.role == Role::Primary);
                let ready = self.store.admin(id) == AdminState::Ready;
                let serves = now.targets.iter().any(|t| &t.id == id);
                let excused = !primary || !ready || self.holds.has_just_spoken_ill(id, self.now);
                assert!(serves || excused, "nobody can see {id}, and it was taken out");
            }
        }
    }

    /// Where nothing fails, nothing that the judge does costs capacity.
    pub(super) fn check_capacity(&self, routed: &RoutedService) {
        let policy = &self.policy.services.get(&routed.id);
        if let Some(scale) = policy.and_then(|p| p.scale.as_ref()) {
            let mine = |id: &ServerId| id.name.split(['@', '-']).next() == Some(&*scale.template);
            let instances = routed.targets.iter().filter(|t| mine(&t.id)).count();
            // One may be leaving, and one be beside them for a deploy.
            assert!(
                instances <= scale.max as usize + 2 || self.kind.reloads,
                "{instances} instances: {routed:?}"
            );
        }
        if !self.kind.peaceful || self.now < self.settled_at || !self.policy.services.contains_key(&routed.id)
        {
            return;
        }
        let primaries = self.policy.services[&routed.id].servers.values().filter(|s| s.role == Role::Primary);
        let weights: f64 = primaries.map(|s| f64::from(s.weight)).sum();
        let shares: f64 = routed.targets.iter().map(|t| t.share).sum();
        assert!(shares + 1e-9 >= weights, "{} is carried by {shares} of {weights}: {routed:?}", routed.id);
    }
}
