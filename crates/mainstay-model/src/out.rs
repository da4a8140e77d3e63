//! What every part of the judge needs at hand: the time, the dice, the counters, and the way out for effects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::change::Changes;
use crate::departure::Departures;
use crate::drill::Drilled;
use crate::effect::{Effect, Record};
use crate::escalation::OnCall;
use crate::freeze::Freeze;
use crate::host::judge::HostView;
use crate::id::{ActionId, IncidentId, MachineId, ServerId};
use crate::incident::Incident;
use crate::memory::Memory;
use crate::proposal::Proposals;
use crate::recovery::Fleet;
use crate::rng::Rng;
use crate::sight::Sight;
use crate::time::Now;
use crate::window::Windows;

/// Resolved incidents that a snapshot still shows.
const CLOSED_MAX: usize = 10;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) now: Now,
    pub(crate) rng: Rng,
    /// The config names somebody to tell.
    pub(crate) people: bool,
    /// Who is told by name.
    pub(crate) on_call: OnCall,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) last_incident: u64,
    pub(crate) last_action: u64,
    /// What the machine's state means for services.
    pub(crate) host: HostView,
    /// What the state of other machines means for the servers on them.
    pub(crate) machines: BTreeMap<MachineId, HostView>,
    /// What was changed in the last day.
    pub(crate) changes: Changes,
    /// Whether Mainstay itself can see.
    pub(crate) sight: Sight,
    /// Maintenance windows.
    pub(crate) windows: Windows,
    /// The freeze switch, as it was turned last.
    pub(crate) freeze: Option<Freeze>,
    /// The drill that is under way.
    pub(crate) drilled: Option<Drilled>,
    /// How much was restarted lately.
    pub(crate) fleet: Fleet,
    /// What Mainstay would have done, of all services.
    pub(crate) proposals: Proposals,
    /// What helped before.
    pub(crate) memory: Memory,
    /// Newest first.
    pub(crate) closed: VecDeque<Arc<Incident>>,
    /// Servers that are none any more, and have still to end.
    pub(crate) departures: Departures,
}

impl Out {
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.effects.push_back(Effect::Record(record));
    }

    pub(crate) fn next_incident(&mut self) -> IncidentId {
        self.last_incident += 1;
        IncidentId(self.last_incident)
    }

    pub(crate) fn next_action(&mut self) -> ActionId {
        self.last_action += 1;
        ActionId(self.last_action)
    }

    pub(crate) fn closed(&mut self, incident: Arc<Incident>) {
        self.closed.push_front(incident);
        self.closed.truncate(CLOSED_MAX);
    }

    /// A server of this name that left the config is still being stopped.
    pub(crate) fn is_stopping(&self, server: &ServerId) -> bool {
        self.departures.has(server)
    }
}

#[cfg(test)]
impl Out {
    pub(crate) fn for_tests() -> Self {
        Self {
            now: Now { mono: crate::Mono(1_000_000_000), wall: crate::Wall(1_700_000_000_000) },
            rng: Rng::new(1),
            people: true,
            on_call: OnCall::default(),
            effects: VecDeque::new(),
            last_incident: 0,
            last_action: 0,
            host: HostView::default(),
            machines: BTreeMap::new(),
            changes: Changes::default(),
            sight: Sight::default(),
            windows: Windows::default(),
            freeze: None,
            drilled: None,
            fleet: Fleet::default(),
            proposals: Proposals::default(),
            memory: Memory::default(),
            closed: VecDeque::new(),
            departures: Departures::default(),
        }
    }
}
