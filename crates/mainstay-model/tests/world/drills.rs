//! People make faults on purpose in the middle of everything: never two at once, and never at the last server that serves.

use mainstay_model::drill::{DrillOrder, DrillStep, Fault, Injection};

use super::*;

impl World {
    /// Somebody wants a drill, or wants the one that is under way to end.
    pub(super) fn somebody_drills(&mut self, service: &ServiceId) {
        if self.dice.chance(15) {
            return self.tell(Input::StopDrill { by: "the simulation".to_owned() });
        }
        let names: Vec<Arc<str>> = self.policy.services[service].servers.keys().cloned().collect();
        let named = self.dice.chance(50);
        let name = names[self.dice.range(0, names.len() as u64) as usize].clone();
        let at_servers: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| fault.part().is_none()).collect();
        let fault = at_servers[self.dice.range(0, at_servers.len() as u64) as usize];
        let ms = self.dice.range(1000, 20_000);
        // One in four is about Mainstay itself, by a roll that is there anyway: more rolls would make another world of each seed.
        let own = [Fault::DiskFull, Fault::Dns].get((ms % 8) as usize).copied();
        let order = DrillOrder {
            service: service.clone(),
            server: (named && own.is_none()).then_some(name),
            fault: own.unwrap_or(fault),
            lasts: Duration::from_millis(ms),
            // So that people are told of it as of any other, and in time.
            alert: true,
            stateful: self.dice.chance(50),
            by: "the simulation".to_owned(),
            ticket: 0,
        };
        self.tell(Input::Drill(order));
    }

    /// A fault is to be made, or undone.
    pub(super) fn drill_step(&mut self, step: &DrillStep) {
        if !step.begin {
            assert_eq!(self.drilled.take(), Some(step.drill), "what was not made is undone: {step:?}");
            let Some(server) = &step.server else { return self.own_fault(step.fault, None) };
            let hangs = self.servers.get(server).is_some_and(|s| s.condition == Condition::Hangs);
            if step.fault == Fault::Hang && hangs {
                self.set_condition(server, Condition::Good);
            }
            return;
        }
        assert_eq!(self.drilled.replace(step.drill), None, "two drills at once: {step:?}");
        assert!(!self.is_frozen(), "a drill in a freeze: {step:?}");
        if let Some(server) = &step.server {
            let others = self.table.services.iter().find(|routed| routed.id == server.service);
            let others = others.is_some_and(|routed| routed.targets.iter().any(|t| t.id != *server));
            assert!(others, "the last server is drilled: {step:?}");
            let open = self.snapshot().open_incident(&server.service);
            assert_eq!(open, None, "a drill in the middle of an incident: {step:?}");
        }
        if self.dice.chance(10) {
            // Nobody ever says whether it was made.
            return;
        }
        let result = if self.dice.chance(10) { Err("it cannot be".to_owned()) } else { Ok(()) };
        let made = result.is_ok();
        let ms = self.dice.range(0, 20);
        self.answer((ms, Input::Injected { drill: step.drill, result }));
        let Some(server) = &step.server else {
            return self.own_fault(step.fault, made.then(|| "it is a drill".to_owned()));
        };
        match step.fault {
            Fault::Kill if made => {
                let Some(incarnation) = self.servers.get(server).map(|s| s.incarnation) else { return };
                let at = self.now + self.dice.range(1, 20) * MS;
                self.at(at, Event::Crash { server: server.clone(), incarnation });
            }
            Fault::Hang if made => self.set_condition(server, Condition::Hangs),
            _ => {}
        }
    }

    /// A part of Mainstay itself fails, or is well again.
    fn own_fault(&mut self, fault: Fault, trouble: Option<String>) {
        let Some(part) = fault.part() else { return };
        let ms = self.dice.range(21, 1000);
        self.answer((ms, Input::Own { part, trouble }));
    }

    /// An attempt fails for a drill.
    pub(super) fn breaks(&mut self, injection: Injection) -> bool {
        match injection {
            Injection::Refuse | Injection::BlackHole | Injection::Reset | Injection::Certificate => true,
            Injection::Errors { percent } => self.dice.chance(u64::from(percent)),
            Injection::Slow { .. } => false,
        }
    }
}
