//! What goes wrong in a world, and what people do in it.

use super::*;

impl World {
    /// One thing goes wrong, or somebody does something.
    pub(super) fn fault(&mut self) {
        if !self.policy.monitors.is_empty() && self.dice.chance(15) {
            return self.fault_elsewhere();
        }
        let servers: Vec<ServerId> = self.policy_servers().into_iter().collect();
        let mut server = servers[self.dice.range(0, servers.len() as u64) as usize].clone();
        if let Some(beside) = self.servers.keys().find(|id| id.name.contains('@'))
            && self.dice.chance(10)
        {
            server = beside.clone();
        }
        if self.kind.windows && self.dice.chance(10) {
            return self.somebody_plans();
        }
        if self.kind.freezes && self.dice.chance(10) {
            return self.somebody_freezes();
        }
        if self.kind.drills && self.dice.chance(20) {
            return self.somebody_drills(&server.service);
        }
        if self.dice.chance(8) {
            return self.release_order();
        }
        if self.dice.chance(3) {
            let service = server.service.clone();
            let (back, fenced) = (self.dice.chance(50), self.dice.chance(30));
            return self.tell(Input::Switch { service, back, fenced, by: "the simulation".to_owned() });
        }
        if self.dice.chance(8) {
            self.burst = [0, 5, 30, 80][self.dice.range(0, 4) as usize];
            return;
        }
        if self.trace {
            println!("{:>12.4} ---- fault at {server}", self.now as f64 / SECOND as f64);
        }
        match self.dice.range(0, 100) {
            0..=19 => self.crash(&server, None),
            20..=24 => {
                let fronts = self.far_fronts();
                self.fronts.fault(&mut self.dice, &fronts);
            }
            25..=59 => {
                let condition = Condition::random(&mut self.dice);
                self.set_condition(&server, condition);
            }
            60..=65 => self.surge_begins(&server.service),
            66..=67 => self.machine_fault(),
            68..=71 => {
                self.set_condition(&server, Condition::Good);
                self.servers.get_mut(&server).unwrap().heal();
            }
            72..=74 => {
                for server in &servers {
                    self.crash(server, None);
                }
            }
            75..=80 => {
                let state = [AdminState::Ready, AdminState::Draining, AdminState::Maintenance]
                    [self.dice.range(0, 3) as usize];
                self.set_admin(server, state);
            }
            81..=84 if self.kind.reloads => self.reload(),
            85..=87 if self.kind.restarts => self.restart_mainstay(),
            88..=90 if self.kind.wall_jumps => {
                self.clock_jumps();
            }
            91..=92 => {
                self.own_trouble = !self.own_trouble;
                let trouble = self.own_trouble.then(|| "the disk is full".to_owned());
                self.tell(Input::Own { part: OwnPart::Record, trouble });
            }
            93 if self.kind.far => self.cut_off(!self.cut_off),
            93 => self.machine_fault(),
            94 => {
                let open = self.store.open_incidents().next();
                if let Some(incident) = open {
                    self.tell(Input::Acknowledge { incident, by: "somebody".to_owned() });
                }
                self.publish();
                if let Some(report) = self.people.report(&mut self.dice) {
                    self.tell(Input::Message(report));
                }
            }
            95..=97 => {
                let sim = self.servers.get_mut(&server).unwrap();
                sim.start_fails = self.dice.chance(50);
                sim.crash_loop = !sim.start_fails;
            }
            _ => self.nonsense(&server),
        }
    }

    /// Somebody deploys, goes back, or loses patience.
    pub(super) fn release_order(&mut self) {
        let deployable = self.policy.services.iter().filter(|(_, s)| s.deploy.is_some());
        let deployable: Vec<ServiceId> = deployable.map(|(id, _)| id.clone()).collect();
        if deployable.is_empty() {
            return;
        }
        let service = deployable[self.dice.range(0, deployable.len() as u64) as usize].clone();
        let order = match self.dice.range(0, 10) {
            0 => ReleaseOrder::RollBack,
            1 => ReleaseOrder::Promote,
            _ => {
                let how = ["good", "good", "good", "bad", "slow", "crash", "crashlate", "nostart"];
                let how = how[self.dice.range(0, how.len() as u64) as usize];
                let path = format!("{how}-{}", self.dice.range(0, 1000));
                ReleaseOrder::Deploy { path, force: self.dice.chance(20) }
            }
        };
        self.tell(Input::Release { service, order, by: "the simulation".to_owned() });
    }

    pub(super) fn reload(&mut self) {
        let services: Vec<ServiceId> = self.policy.services.keys().cloned().collect();
        let id = services[self.dice.range(0, services.len() as u64) as usize].clone();
        let service = self.policy.services.get_mut(&id).unwrap();
        match self.dice.range(0, 4) {
            0 if service.servers.len() > 2 => {
                let nth = self.dice.range(0, service.servers.len() as u64) as usize;
                let name = service.servers.keys().nth(nth).unwrap().clone();
                service.servers.remove(&name);
                if !service.servers.values().any(|s| s.role == Role::Primary) {
                    service.servers.values_mut().next().unwrap().role = Role::Primary;
                }
            }
            1 if service.servers.len() < 6 => {
                let name = format!("s{}", self.dice.range(0, 9));
                let server = random_server(&mut self.dice, true);
                service.servers.entry(name.into()).or_insert(server);
            }
            2 if self.dice.chance(50) => {
                let number = self.dice.range(0, 9);
                service.front = random_front(&mut self.dice, number);
                self.fronts.learn(&id, &service.front);
            }
            2 => service.slow_start = Duration::from_secs(self.dice.range(0, 8)),
            _ => service.health.interval = Duration::from_millis(self.dice.range(300, 3000)),
        }
        let scalable = service.servers.get("s0").is_some_and(|s| s.supervised);
        service.scale = service.scale.take().filter(|_| scalable);
        let releasable = service.servers.values().any(|s| s.releasable);
        service.deploy = service.deploy.take().filter(|_| releasable);
        self.apply_policy();
    }

    /// The config is read again.
    pub(super) fn apply_policy(&mut self) {
        self.adopt_servers();
        let policy = self.policy.clone();
        self.people.policy(&policy);
        self.tell(Input::Policy(policy));
        self.store.check_admin(&self.known_servers());
        self.resolve_addresses();
    }

    /// The wall clock is set by some hours.
    pub(super) fn clock_jumps(&mut self) {
        self.people.clock_jumped();
        let hours = self.dice.range(0, 48) as i64 - 24;
        self.wall_offset_ms += hours * 3_600_000;
        self.tell_of_windows();
    }

    /// Inputs that make no sense, as an adapter with a bug might send them.
    pub(super) fn nonsense(&mut self, server: &ServerId) {
        let input = match self.dice.range(0, 7) {
            0 => Input::Outcome { action: mainstay_model::ActionId(self.dice.range(0, 50)), result: Ok(()) },
            1 => Input::Restored(Default::default()),
            2 => Input::Acknowledge { incident: IncidentId(self.dice.range(0, 9)), by: "nobody".to_owned() },
            3 => Input::Admin {
                server: ServiceId::new("nothing").server("nobody"),
                state: AdminState::Ready,
                by: "nobody".to_owned(),
            },
            4 => Input::Address { server: ServiceId::new("nothing").server("nobody"), address: None },
            5 => Fronts::nonsense(server.service.clone(), &mut self.dice),
            _ if !self.servers[server].supervised => {
                Input::Process { server: server.clone(), event: ProcessEvent::Started { pid: 1 } }
            }
            _ => Input::Traffic(Default::default()),
        };
        // An outcome that was not ordered would confuse the world's own supervisor, not the judge.
        if !matches!(input, Input::Outcome { .. }) || self.store.unfinished().is_empty() {
            self.tell(input);
        }
    }

    /// Primaries that were switched away from serve again only when a person says so.
    pub(super) fn somebody_goes_back(&mut self) {
        let switched = self.snapshot().services.into_iter();
        let switched = switched.filter(|s| s.switch.as_ref().is_some_and(|switch| switch.switched));
        for service in switched.map(|service| service.id).collect::<Vec<_>>() {
            self.tell(Input::Switch { service, back: true, fenced: false, by: "the simulation".to_owned() });
        }
    }

    pub(super) fn faults_end(&mut self) {
        self.faulty = false;
        self.quiet = true;
        self.calm_ends();
        if self.cut_off {
            self.cut_off(false);
        }
        self.machine_heals();
        self.fronts.heal();
        self.elsewhere_heals();
        self.jobs_heal();
        self.windows_end();
        self.thaw();
        // By then it is known what became of each run.
        for seconds in [1, 40, 80, 160, 240] {
            self.at(self.now + seconds * SECOND, Event::GoBack);
        }
        if self.own_trouble {
            self.own_trouble = false;
            self.tell(Input::Own { part: OwnPart::Record, trouble: None });
        }
        self.servers.values_mut().for_each(SimServer::heal);
        for server in self.policy_servers() {
            if self.store.admin(&server) != AdminState::Ready {
                self.set_admin(server, AdminState::Ready);
            }
        }
    }
}
