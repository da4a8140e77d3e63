//! The world's maintenance windows: opened by people in the middle of everything, ended early or by themselves, and kept over restarts.

use std::collections::BTreeMap;

use mainstay_model::effect::Record;
use mainstay_model::incident::{Incident, Scope};
use mainstay_model::window::{Covers, HandWindow, Occurrence, WindowPolicy};
use mainstay_model::{Input, Wall};

use super::{SECOND, World};

impl World {
    /// Somebody opens a window over something, or ends one early.
    pub(super) fn somebody_plans(&mut self) {
        if let Some(number) = self.store.windows.keys().next().copied().filter(|_| self.dice.chance(30)) {
            return self.tell(Input::EndWindow { id: number.to_string().into() });
        }
        let servers: Vec<_> = self.policy_servers().into_iter().collect();
        let server = servers[self.dice.range(0, servers.len() as u64) as usize].clone();
        let monitor = self.policy.monitors.keys().next().cloned();
        let mut covers = Covers::default();
        match (self.dice.range(0, 4), monitor) {
            (0, Some(monitor)) => drop(covers.monitors.insert(monitor)),
            (1, _) => covers.everything = true,
            (2, _) => drop(covers.servers.insert(server)),
            _ => drop(covers.services.insert(server.service)),
        }
        let from = Wall(self.clock().wall.0 + self.dice.range(0, 3) as i64 * 2000);
        let lasts = self.dice.range(1, 60) * SECOND / super::MS;
        let when = Occurrence { from, to: Wall(from.0 + lasts as i64) };
        let policy = WindowPolicy { covers, ..WindowPolicy::default() };
        self.tell(Input::OpenWindow(HandWindow { policy, when, by: "somebody".to_owned() }));
    }

    /// Nothing is expected to fail any more.
    pub(super) fn windows_end(&mut self) {
        let numbers: Vec<u64> = self.store.windows.keys().copied().collect();
        for number in numbers {
            self.tell(Input::EndWindow { id: number.to_string().into() });
        }
        assert!(self.snapshot().windows.is_empty(), "a window is open that the record does not know");
    }

    /// An incident that is new must not be about something that is wholly inside a window: people would be told of it.
    pub(super) fn check_opened(&self, incident: &Incident) {
        if self.store.knows(incident.id) {
            return;
        }
        let now = self.clock().wall;
        let open = self.store.windows.values().filter(|window| window.when.holds(now));
        for window in open {
            let covers = &window.policy.covers;
            let inside = match &incident.scope {
                Scope::Service(id) | Scope::Check(id) => covers.service(id),
                Scope::Monitor(id) => covers.monitor(id, &self.policy.monitors[id]),
                Scope::Host(_) => covers.everything,
                _ => false,
            };
            assert!(!inside, "opened in a window: {incident:?}, {window:?}");
        }
    }
}

/// The windows that the record knows.
pub(super) fn write(windows: &mut BTreeMap<u64, HandWindow>, record: Record) {
    match record {
        Record::Window { number, window } => {
            assert!(windows.insert(number, window).is_none(), "window {number} again");
        }
        Record::WindowOver { number } => {
            assert!(windows.remove(&number).is_some(), "window {number} is over, and never was");
        }
        other => panic!("nothing of a window: {other:?}"),
    }
}
