//! What was changed lately, by people and by machines: most outages follow a change, so each incident names those before it,
//! the nearest first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::id::ServiceId;
use crate::incident::{EntryKind, Incident, Scope};
use crate::model::Model;
use crate::out::Out;
use crate::policy::ServicePolicy;
use crate::time::Wall;
use crate::words::measured;

/// Changes are remembered for so long: a day, as far as somebody asks for the last ones.
const KEPT: Duration = Duration::from_hours(24);
/// And no more of them than this.
const KEPT_MAX: usize = 200;
/// A change so long before the first sign of an incident may have to do with it.
pub const BEFORE: Duration = Duration::from_hours(1);
/// So many are named by an incident.
const NAMED_MAX: usize = 10;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it was made.
    pub at: Wall,
    /// What sort of change.
    pub kind: ChangeKind,
    /// Whom it touched; `None`: everything.
    #[serde(default)]
    pub service: Option<ServiceId>,
    /// What was done, for a person, without a full stop: "release 42 is brought out".
    pub what: String,
    /// Who did it; `Mainstay` when nobody in particular.
    pub by: String,
}

impl Change {
    /// Letters of what was done, at most.
    pub const WHAT_MAX: usize = 200;

    /// How long before a moment it was, in words: `8m before`, or `2s after`.
    pub fn beside(&self, moment: Wall) -> String {
        let ms = moment.ms_since(self.at);
        let words = measured(ms.unsigned_abs());
        if ms >= 0 { format!("{words} before") } else { format!("{words} after") }
    }

    fn touches(&self, scope: &Scope) -> bool {
        match (&self.service, scope) {
            (None, _) => true,
            (Some(service), Scope::Service(id) | Scope::Check(id)) => service == id,
            (Some(_), _) => false,
        }
    }

    fn is_shortly_before(&self, moment: Wall) -> bool {
        let ms = moment.ms_since(self.at);
        ms >= 0 && Duration::from_millis(ms.unsigned_abs()) <= BEFORE
    }
}

/// The sort of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// Somebody told of it: a deploy by other means, work in the data centre.
    Told,
    /// Somebody tells of a release that was brought out by other means: `release 42`.
    Announced,
    /// Another config.
    Config,
    /// A release that Mainstay brings out or takes back.
    Release,
    /// Another certificate.
    Certificate,
    /// DNS answers differently where a server is.
    Dns,
}

impl ChangeKind {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Told => "told",
            ChangeKind::Announced => "announced",
            ChangeKind::Config => "config",
            ChangeKind::Release => "release",
            ChangeKind::Certificate => "certificate",
            ChangeKind::Dns => "DNS",
        }
    }
}

/// The changes that are remembered, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    known: VecDeque<Arc<Change>>,
}

impl Changes {
    /// Those of an earlier run.
    pub(crate) fn restored(changes: Vec<Change>) -> Self {
        let mut all = Self::default();
        changes.into_iter().for_each(|change| all.insert(Arc::new(change)));
        all
    }

    /// The release of a service that was announced last.
    pub(crate) fn announced(&self, service: &ServiceId) -> Option<Arc<Change>> {
        let of_it = |c: &&Arc<Change>| c.kind == ChangeKind::Announced && c.service.as_ref() == Some(service);
        self.known.iter().find(of_it).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Change>> {
        self.known.iter().cloned().collect()
    }

    /// What may have to do with an incident that began then, the nearest first.
    pub(crate) fn before(&self, scope: &Scope, began_at: Wall) -> Vec<Change> {
        let near = self.known.iter().filter(|c| c.touches(scope) && c.is_shortly_before(began_at));
        near.take(NAMED_MAX).map(|change| Change::clone(change)).collect()
    }

    /// Somebody may tell of a change only after others were made.
    fn insert(&mut self, change: Arc<Change>) {
        let place = self.known.partition_point(|known| known.at > change.at);
        self.known.insert(place, change);
        self.known.truncate(KEPT_MAX);
    }

    /// The newest is the first, and there are not too many.
    pub(crate) fn is_in_order(&self) -> bool {
        self.known.len() <= KEPT_MAX && self.known.iter().rev().is_sorted_by_key(|change| change.at)
    }

    fn forget(&mut self, now: Wall) {
        let old = |c: &Arc<Change>| now.ms_since(c.at) > i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
        while self.known.back().is_some_and(old) {
            self.known.pop_back();
        }
    }
}

impl Out {
    /// Something is changed now.
    pub(crate) fn changed(&mut self, kind: ChangeKind, service: Option<ServiceId>, what: String, by: &str) {
        self.note(Change { at: self.now.wall, kind, service, what, by: by.to_owned() });
    }

    fn note(&mut self, change: Change) {
        self.changes.forget(self.now.wall);
        self.record(Record::Change(change.clone()));
        self.changes.insert(Arc::new(change));
    }
}

impl Model {
    /// Somebody, or a part of Mainstay, tells of a change. What was before an incident that is open is named by it.
    pub(crate) fn on_change(&mut self, mut change: Change) {
        if let Some((end, _)) = change.what.char_indices().nth(Change::WHAT_MAX) {
            change.what.truncate(end);
        }
        // Nobody knows the future; clocks differ.
        change.at = change.at.min(self.out.now.wall);
        self.out.note(change.clone());
        let (open_incidents, out) = self.open_incidents();
        for open in open_incidents {
            let incident = open.incident();
            if !change.touches(&incident.scope) {
                continue;
            }
            if change.is_shortly_before(incident.began_at) {
                let changes = out.changes.before(&incident.scope, incident.began_at);
                open.edit().changes = changes;
                open.write_down(out, true);
            }
            let text = match change.kind {
                ChangeKind::Told | ChangeKind::Announced => format!("{} says: {}", change.by, change.what),
                _ => change.what.clone(),
            };
            open.entry(EntryKind::Changed, None, None, text, out);
        }
        if change.kind == ChangeKind::Announced
            && let Some(service) = &change.service
        {
            self.with(service, |service, out| service.on_announced(&change, out));
        }
    }
}

impl Incident {
    /// The change right before it, if there was one.
    pub fn last_change(&self) -> Option<&Change> {
        self.changes.first()
    }
}

/// What a service's new policy changes, in the words of the config; `None`: nothing.
pub(crate) fn difference(before: &ServicePolicy, after: &ServicePolicy) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for (name, server) in &after.servers {
        match before.servers.get(name) {
            None => parts.push(format!("server {name} is new")),
            Some(known) if known != server => parts.push(format!("server {name}")),
            Some(_) => {}
        }
    }
    let gone = before.servers.keys().filter(|name| !after.servers.contains_key(*name));
    parts.extend(gone.map(|name| format!("server {name} is gone")));
    let mut other = |differs: bool, name: &str| {
        if differs {
            parts.push(name.to_owned());
        }
    };
    other(before.carriage != after.carriage, "how requests are carried");
    other(before.health != after.health, "health");
    other(before.traffic != after.traffic, "ejection");
    other(before.recovery != after.recovery, "recovery");
    other(before.deploy != after.deploy, "deploy");
    other(before.scale != after.scale, "scale");
    other(before.switch != after.switch, "switch");
    other(before.replace != after.replace, "replace");
    other(before.front != after.front, "front addresses");
    let rest = before.slow_start != after.slow_start
        || before.panic_threshold.to_bits() != after.panic_threshold.to_bits();
    other(rest, "slow start or panic");
    (!parts.is_empty()).then(|| format!("its config changed: {}", parts.join(", ")))
}

#[cfg(test)]
mod tests;
