//! Maintenance windows: times in which what they cover may be down, and nobody is told.
//!
//! Those of the config are planned: the judge knows what they cover, and is told when they come ([`crate::Input::Occurrences`]),
//! because it knows no calendar. Others are opened by a person, last for so long, and are remembered across restarts. A window
//! is open from its first millisecond up to but not including its last, by the wall clock.
//!
//! What is in a window is judged, ejected and routed round as ever. But it opens no incident and is not restarted, and its time
//! counts neither as up nor as down. What still fails when its window ends fails from then on like anything else. An incident
//! that was open before goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::id::{MonitorId, ServerId, ServiceId};
use crate::incidents::HURT_FORGOTTEN;
use crate::input::AdminState;
use crate::model::Model;
use crate::monitor::MonitorPolicy;
use crate::out::Out;
use crate::server::Server;
use crate::service::Service;
use crate::time::{Mono, Now, Wall};
use crate::witness::Witnesses;

/// Windows opened by people that are open or still to come; further ones are not taken.
pub const BY_HAND_MAX: usize = 200;
/// Occurrences of one window that are shown beside the one that is open.
pub const NEXT_MAX: usize = 3;
/// The longest wait for a boundary: the wall clock may be set meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a window is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Covers {
    /// All services and monitors, and the machine.
    pub everything: bool,
    /// Services, with all of their servers.
    pub services: BTreeSet<ServiceId>,
    /// Single servers.
    pub servers: BTreeSet<ServerId>,
    /// Single monitors.
    pub monitors: BTreeSet<MonitorId>,
    /// All monitors of these groups.
    pub groups: BTreeSet<Arc<str>>,
    /// All monitors with one of these tags.
    pub tags: BTreeSet<Arc<str>>,
}

impl Covers {
    /// It is about nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The service as a whole.
    pub fn service(&self, id: &ServiceId) -> bool {
        self.everything || self.services.contains(id)
    }

    /// A server, by itself or with its service.
    pub fn server(&self, id: &ServerId) -> bool {
        self.service(&id.service) || self.servers.contains(id)
    }

    /// A monitor, by its name, its group or a tag.
    pub fn monitor(&self, id: &MonitorId, policy: &MonitorPolicy) -> bool {
        self.everything
            || self.monitors.contains(id)
            || policy.group.as_ref().is_some_and(|group| self.groups.contains(group))
            || policy.tags.iter().any(|tag| self.tags.contains(tag))
    }

    /// As people name it: `everything`, `shop, shop/app-1, monitor:pay, tag:db`.
    pub fn words(&self) -> String {
        if self.everything {
            return "everything".to_owned();
        }
        let services = self.services.iter().map(ToString::to_string);
        let servers = self.servers.iter().map(ToString::to_string);
        let monitors = self.monitors.iter().map(|id| format!("monitor:{id}"));
        let groups = self.groups.iter().map(|group| format!("group:{group}"));
        let tags = self.tags.iter().map(|tag| format!("tag:{tag}"));
        let all: Vec<String> = services.chain(servers).chain(monitors).chain(groups).chain(tags).collect();
        all.join(", ")
    }
}

/// One time that a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Occurrence {
    /// Its first moment.
    pub from: Wall,
    /// The first moment after it.
    pub to: Wall,
}

impl Occurrence {
    /// It is open then.
    pub fn holds(&self, at: Wall) -> bool {
        self.from <= at && at < self.to
    }
}

/// A window of the config. When it is open is told by [`crate::Input::Occurrences`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WindowPolicy {
    /// What it is about.
    pub covers: Covers,
    /// What visitors read of it.
    pub title: String,
    /// Why, for colleagues; may be empty.
    pub reason: String,
    /// The status page shows it.
    pub public: bool,
    /// The time zone of the IANA database in which people read its times; empty: UTC.
    #[serde(default)]
    pub zone: String,
}

/// A window that a person opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandWindow {
    /// What it is about, and what is told of it.
    pub policy: WindowPolicy,
    /// When.
    pub when: Occurrence,
    /// Who opened it.
    pub by: String,
}

/// A window as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSnapshot {
    /// Its name in the config, or its number if a person opened it.
    pub id: Arc<str>,
    /// What it is about, and what is told of it.
    #[serde(flatten)]
    pub policy: WindowPolicy,
    /// Who opened it; `None`: it is in the config.
    pub by: Option<String>,
    /// The time that it is open now.
    pub open: Option<Occurrence>,
    /// The next times, at most [`NEXT_MAX`].
    pub next: Vec<Occurrence>,
}

/// Something is in a window now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InMaintenance {
    /// The window.
    pub window: Arc<str>,
    /// When that ends.
    pub until: Wall,
    /// Why, for colleagues; may be empty.
    pub reason: String,
}

/// All windows.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    planned: BTreeMap<Arc<str>, WindowPolicy>,
    occurrences: BTreeMap<Arc<str>, Vec<Occurrence>>,
    /// Of the planned ones, what began before then was ended by a person.
    ended: BTreeMap<Arc<str>, Wall>,
    by_hand: BTreeMap<u64, HandWindow>,
    last: u64,
    /// Those that are open, as long as the wall clock shows a time in `valid`.
    open: Vec<OpenWindow>,
    valid: Option<Occurrence>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OpenWindow {
    id: Arc<str>,
    until: Wall,
    policy: WindowPolicy,
}

impl Windows {
    /// What an earlier run left.
    pub(crate) fn restore(
        &mut self,
        by_hand: BTreeMap<u64, HandWindow>,
        ended: BTreeMap<Arc<str>, Wall>,
        last: u64,
    ) {
        self.last = by_hand.keys().copied().max().unwrap_or(0).max(last);
        self.by_hand = by_hand;
        self.ended = ended;
        self.valid = None;
    }

    /// The config says this of windows now.
    pub(crate) fn apply(&mut self, planned: BTreeMap<Arc<str>, WindowPolicy>) {
        if self.planned != planned {
            self.planned = planned;
            self.valid = None;
        }
    }

    /// They come at these times.
    pub(crate) fn on_occurrences(&mut self, occurrences: BTreeMap<Arc<str>, Vec<Occurrence>>) {
        self.occurrences = occurrences;
        self.valid = None;
    }

    /// A person opens one.
    pub(crate) fn open_by_hand(&mut self, window: HandWindow) -> Option<Record> {
        let sound = window.when.from < window.when.to && !window.policy.covers.is_empty();
        if !sound || self.by_hand.len() >= BY_HAND_MAX {
            return None;
        }
        self.last += 1;
        self.by_hand.insert(self.last, window.clone());
        self.valid = None;
        Some(Record::Window { number: self.last, window })
    }

    /// A person ends one: one opened by hand is gone, of one in the config the time that is open now is over.
    pub(crate) fn end(&mut self, id: &str, now: Wall) -> Option<Record> {
        self.valid = None;
        if let Some(number) = id.parse().ok().filter(|number| self.by_hand.contains_key(number)) {
            self.by_hand.remove(&number);
            return Some(Record::WindowOver { number });
        }
        let (name, times) = self.occurrences.get_key_value(id)?;
        times.iter().find(|time| time.holds(now))?;
        let name = Arc::clone(name);
        self.ended.insert(Arc::clone(&name), now);
        Some(Record::WindowEnded { name, at: now })
    }

    /// Finds out which are open, if that may have changed; `true` when it has.
    fn tend(&mut self, now: Wall, forget: &mut Vec<u64>) -> bool {
        if self.valid.is_some_and(|valid| valid.holds(now)) {
            return false;
        }
        let over: Vec<u64> = self.by_hand.iter().filter(|(_, w)| w.when.to <= now).map(|(n, _)| *n).collect();
        for number in over {
            self.by_hand.remove(&number);
            forget.push(number);
        }
        let mut open = Vec::new();
        let mut valid = Occurrence { from: Wall(i64::MIN), to: Wall(i64::MAX) };
        for (id, policy, time) in self.times() {
            if time.holds(now) {
                open.push(OpenWindow { id, until: time.to, policy: policy.clone() });
            }
            for edge in [time.from, time.to] {
                if edge > now {
                    valid.to = valid.to.min(edge);
                } else {
                    valid.from = valid.from.max(edge);
                }
            }
        }
        self.valid = Some(valid);
        let changed = self.open != open;
        self.open = open;
        changed
    }

    /// All times that are known, but for those that a person ended.
    fn times(&self) -> impl Iterator<Item = (Arc<str>, &WindowPolicy, Occurrence)> {
        let planned = self.planned.iter().flat_map(|(id, policy)| {
            let ended = self.ended.get(id).copied();
            let times = self.occurrences.get(id).into_iter().flatten();
            let times = times.filter(move |time| ended.is_none_or(|ended| time.from >= ended));
            times.map(move |time| (Arc::clone(id), policy, *time))
        });
        let by_hand = self.by_hand.iter().map(|(n, w)| (Arc::from(n.to_string()), &w.policy, w.when));
        planned.chain(by_hand)
    }

    /// When it is next to be found out which are open.
    fn due(&self, now: Now) -> Option<Mono> {
        let at = self.valid?.to;
        let left = Duration::from_millis(u64::try_from(at.ms_since(now.wall)).unwrap_or(0));
        (at.0 != i64::MAX).then(|| now.mono + left.min(WAIT_MAX))
    }

    /// The window that lasts longest among those which cover it.
    fn covering(&self, covers: impl Fn(&Covers) -> bool) -> Option<InMaintenance> {
        let mine = self.open.iter().filter(|window| covers(&window.policy.covers));
        mine.max_by_key(|window| window.until).map(|window| InMaintenance {
            window: Arc::clone(&window.id),
            until: window.until,
            reason: window.policy.reason.clone(),
        })
    }

    pub(crate) fn monitor(&self, id: &MonitorId, policy: &MonitorPolicy) -> Option<InMaintenance> {
        self.covering(|covers| covers.monitor(id, policy))
    }

    /// The machine itself is in a window.
    pub(crate) fn machine(&self) -> bool {
        self.open.iter().any(|window| window.policy.covers.everything)
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.by_hand.len() <= BY_HAND_MAX
    }

    /// All of them, those of the config first.
    pub(crate) fn present(&self, now: Wall) -> Vec<WindowSnapshot> {
        let mut all: BTreeMap<(bool, u64, Arc<str>), WindowSnapshot> = BTreeMap::new();
        let blank = |id: &Arc<str>, policy: &WindowPolicy, by| WindowSnapshot {
            id: Arc::clone(id),
            policy: policy.clone(),
            by,
            open: None,
            next: Vec::new(),
        };
        for (id, policy) in &self.planned {
            all.insert((false, 0, Arc::clone(id)), blank(id, policy, None));
        }
        for (number, window) in &self.by_hand {
            let id: Arc<str> = number.to_string().into();
            let by = Some(window.by.clone());
            all.insert((true, *number, Arc::clone(&id)), blank(&id, &window.policy, by));
        }
        let mut times: Vec<(Arc<str>, Occurrence)> = self.times().map(|(id, _, time)| (id, time)).collect();
        times.sort_by_key(|(_, time)| *time);
        for (id, time) in times {
            let Some(shown) = all.values_mut().find(|shown| shown.id == id) else { continue };
            if time.holds(now) {
                shown.open.get_or_insert(time);
            } else if time.from > now && shown.next.len() < NEXT_MAX {
                shown.next.push(time);
            }
        }
        all.into_values().collect()
    }
}

impl Service {
    /// The window that a server is in, by itself or with its service. An instance that the config does not name is where the
    /// server is that it is started like.
    pub(crate) fn server_in_window(
        &self,
        id: &ServerId,
        server: &Server,
        out: &Out,
    ) -> Option<InMaintenance> {
        if out.windows.open.is_empty() {
            return None;
        }
        let named = self.id.server(Arc::clone(server.origin.template(&id.name)));
        out.windows.covering(|covers| covers.server(id) || covers.server(&named))
    }

    /// The window that the whole service is in: by its name, or because each of its servers that should serve is in one.
    pub(crate) fn in_window(&self, out: &Out) -> Option<InMaintenance> {
        if out.windows.open.is_empty() {
            return None;
        }
        if let Some(window) = out.windows.covering(|covers| covers.service(&self.id)) {
            return Some(window);
        }
        let ready = self.servers.iter().filter(|(_, server)| server.admin == AdminState::Ready);
        let windows: Option<Vec<InMaintenance>> =
            ready.map(|(id, server)| self.server_in_window(id, server, out)).collect();
        windows?.into_iter().min_by_key(|window| window.until)
    }

    /// Goes into a window and comes out of it.
    pub(crate) fn heed_windows(&mut self, out: &mut Out) {
        let inside = self.in_window(out).is_some();
        if std::mem::replace(&mut self.excused, inside) && !inside {
            self.leave_window(out);
        }
        let servers: Vec<(ServerId, bool)> = self
            .servers
            .iter()
            .map(|(id, server)| (server.excused, id, self.server_in_window(id, server, out).is_some()))
            .filter(|(before, _, inside)| before != inside)
            .map(|(_, id, inside)| (id.clone(), inside))
            .collect();
        for (id, inside) in servers {
            let Some(server) = self.servers.get_mut(&id) else { continue };
            server.excused = inside;
            if !inside && !server.at_fault {
                server.leave_window(out.now.mono);
            }
        }
    }

    /// Its window is over: what visitors felt in it is forgotten, and what still fails is told of now.
    fn leave_window(&mut self, out: &mut Out) {
        self.hurt_from = self.hurt_from.max(out.now.mono + HURT_FORGOTTEN);
        self.front_after_window(out);
    }
}

impl Server {
    /// What was held against it in its window is forgotten; what its probes say now is not, and requests speak anew.
    fn leave_window(&mut self, now: Mono) {
        (self.ejection, self.condemned) = (None, None);
        self.witnesses = Witnesses::default();
        self.traffic.start_over(now);
        self.pace.begins_anew(now);
        self.flaps.forgive();
        self.forget_signs();
    }
}

impl Model {
    /// Goes by the windows that are open now, which the wall clock decides.
    pub(crate) fn tend_windows(&mut self) -> bool {
        let mut over = Vec::new();
        let changed = self.out.windows.tend(self.out.now.wall, &mut over);
        over.into_iter().for_each(|number| self.out.record(Record::WindowOver { number }));
        if !changed {
            return false;
        }
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            self.with(&id, |_, _| {});
        }
        self.monitors.on_windows(&mut self.out);
        true
    }

    /// When that is next due.
    pub(crate) fn windows_due(&self) -> Option<Mono> {
        self.out.windows.due(self.out.now)
    }
}

#[cfg(test)]
mod tests;
