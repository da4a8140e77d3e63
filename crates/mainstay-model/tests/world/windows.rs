//! The world's maintenance windows: planned in the config once or again and again, opened by people in the middle of everything,
//! ended early or by themselves, and kept over restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_model::effect::Record;
use mainstay_model::incident::{Incident, Scope};
use mainstay_model::window::{Covers, HandWindow, Occurrence, WindowPolicy};
use mainstay_model::{Input, ServerId, Wall};

use super::{SECOND, World};

/// As many times of a window are told at once.
const TOLD_AT_ONCE: i64 = 4;

/// The windows of the config.
#[derive(Default)]
pub struct Planned {
    /// The first time of each, and how many milliseconds lie between two, if it comes again.
    rules: BTreeMap<Arc<str>, (Occurrence, Option<i64>)>,
    /// What the judge was told last.
    told: BTreeMap<Arc<str>, Vec<Occurrence>>,
}

impl World {
    /// The config plans something: one window once, another one again and again, as if a week were a minute.
    pub(super) fn somebody_writes_windows(&mut self) {
        for (name, again) in [("once", false), ("weekly", true)] {
            if self.dice.chance(40) {
                continue;
            }
            let covers = self.something_to_cover();
            let from = Wall(self.clock().wall.0 + self.dice.range(2_000, 60_000) as i64);
            let to = Wall(from.0 + self.dice.range(1_000, 25_000) as i64);
            let every = again.then(|| self.dice.range(30_000, 70_000) as i64);
            self.planned.rules.insert(name.into(), (Occurrence { from, to }, every));
            self.policy.windows.insert(name.into(), WindowPolicy { covers, ..WindowPolicy::default() });
        }
    }

    /// Says when the windows of the config come next.
    pub(super) fn tell_of_windows(&mut self) {
        if self.policy.windows.is_empty() && self.planned.told.is_empty() {
            return;
        }
        let now = self.clock().wall;
        let next = |(first, every): &(Occurrence, Option<i64>)| -> Vec<Occurrence> {
            let Some(every) = *every else { return vec![*first] };
            let gone = ((now.0 - first.to.0).div_euclid(every) + 1).max(0);
            let times = gone..gone + TOLD_AT_ONCE;
            times
                .map(|n| Occurrence {
                    from: Wall(first.from.0 + n * every),
                    to: Wall(first.to.0 + n * every),
                })
                .collect()
        };
        let told: BTreeMap<_, _> =
            self.planned.rules.iter().map(|(name, rule)| (Arc::clone(name), next(rule))).collect();
        self.tell(Input::Occurrences(told.clone()));
        // From now on: what the clock showed before it heard of these it went by those from before.
        self.planned.told = told;
    }

    /// What the windows that are open now are about.
    fn open_windows(&self) -> Vec<&Covers> {
        let now = self.clock().wall;
        let by_hand = self.store.windows.values().filter(|window| window.when.holds(now));
        let planned = self.policy.windows.iter().filter(|(name, _)| {
            let ended = self.store.windows_ended.get(*name);
            let times = self.planned.told.get(*name).into_iter().flatten();
            times.filter(|time| ended.is_none_or(|ended| time.from >= *ended)).any(|time| time.holds(now))
        });
        by_hand.map(|window| &window.policy.covers).chain(planned.map(|(_, policy)| &policy.covers)).collect()
    }

    /// A server is in a window.
    pub(super) fn is_expected(&self, server: &ServerId) -> bool {
        self.open_windows().iter().any(|covers| covers.server(server))
    }

    /// Somebody opens a window over something, or ends one early.
    pub(super) fn somebody_plans(&mut self) {
        if let Some(name) = self.policy.windows.keys().next().cloned().filter(|_| self.dice.chance(15)) {
            return self.tell(Input::EndWindow { id: name });
        }
        if let Some(number) = self.store.windows.keys().next().copied().filter(|_| self.dice.chance(30)) {
            return self.tell(Input::EndWindow { id: number.to_string().into() });
        }
        let covers = self.something_to_cover();
        let from = Wall(self.clock().wall.0 + self.dice.range(0, 3) as i64 * 2000);
        let lasts = self.dice.range(1, 60) * SECOND / super::MS;
        let when = Occurrence { from, to: Wall(from.0 + lasts as i64) };
        let policy = WindowPolicy { covers, ..WindowPolicy::default() };
        self.tell(Input::OpenWindow(HandWindow { policy, when, by: "somebody".to_owned() }));
    }

    fn something_to_cover(&mut self) -> Covers {
        let services = self.policy.services.iter();
        let servers: Vec<ServerId> =
            services.flat_map(|(id, s)| s.servers.keys().map(|name| id.server(Arc::clone(name)))).collect();
        let server = servers[self.dice.range(0, servers.len() as u64) as usize].clone();
        let monitor = self.policy.monitors.keys().next().cloned();
        let mut covers = Covers::default();
        match (self.dice.range(0, 4), monitor) {
            (0, Some(monitor)) => drop(covers.monitors.insert(monitor)),
            (1, _) => covers.everything = true,
            (2, _) => drop(covers.servers.insert(server)),
            _ => drop(covers.services.insert(server.service)),
        }
        covers
    }

    /// Nothing is expected to fail any more.
    pub(super) fn windows_end(&mut self) {
        if !self.policy.windows.is_empty() {
            self.policy.windows.clear();
            self.planned.rules.clear();
            self.apply_policy();
            self.tell_of_windows();
        }
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
        let open = self.open_windows();
        let expected = |id: &ServerId| open.iter().any(|covers| covers.server(id));
        for covers in &open {
            let inside = match &incident.scope {
                Scope::Service(id) | Scope::Check(id) => covers.service(id),
                Scope::Monitor(id) => covers.monitor(id, &self.policy.monitors[id]),
                Scope::Host(_) | Scope::Monitors => covers.everything,
                _ => false,
            };
            assert!(!inside, "opened in a window: {incident:?}, {covers:?}");
        }
        let all_expected = !incident.servers.is_empty() && incident.servers.iter().all(expected);
        assert!(!all_expected, "opened for what is in a window: {incident:?}, {open:?}");
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
