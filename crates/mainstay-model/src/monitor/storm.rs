//! Many monitors at once: a crowd of failures that begins together has one cause, so it is one incident.
//!
//! Monitors that fail are counted while their failing is fresh. A crowd is enough when at least five of them have failed twice
//! in a row and are half of all that were looked at meanwhile, or when there are twenty. What of it is still down when the rest
//! has come back, and is no crowd any more, goes on by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::judge::{GATHER, RESOLVE_AFTER, cause_of};
use crate::cause::{Cause, Diagnosis};
use crate::id::{IncidentId, MonitorId};
use crate::incident::{EntryKind, Incident, Scope, Severity};
use crate::incidents::restarted_text;
use crate::input::ProbeFailure;
use crate::open::{Beginning, Open};
use crate::out::Out;
use crate::time::{Mono, Now, Wall};
use crate::words::{count, grouped, span};

/// Fewer monitors that fail are told one by one.
pub(super) const FEW: usize = 5;
/// So many at once have one cause, however many others are well.
const MANY: usize = 20;
/// A failing that began so long ago is no part of a crowd any more.
const FRESH: Duration = Duration::from_secs(60);
/// What was looked at within so long counts as looked at meanwhile.
const MEANWHILE: Duration = Duration::from_secs(10);
/// A monitor takes part if it began to fail so long, and its own interval, after the crowd did.
const JOINS_WITHIN: Duration = Duration::from_secs(30);
/// How many take part is told anew no oftener than this.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// When nobody has come back for so long, few that are left go on by themselves.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// After a restart those that take part have to be found again; it takes a first look and the second thoughts.
const FOUND_WITHIN: Duration = Duration::from_secs(60);
/// Names that one sentence lists.
const NAMED_MAX: usize = 5;

/// Who fails and who was looked at, a moment ago.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    failing: BTreeMap<MonitorId, Fresh>,
    /// In the order in which they began to fail.
    began: VecDeque<(Mono, MonitorId)>,
    /// Of the failing, those that failed twice in a row at least.
    confirmed: usize,
    looked: BTreeMap<MonitorId, Mono>,
    looks: VecDeque<(Mono, MonitorId)>,
}

#[derive(Debug, Clone)]
struct Fresh {
    since: Mono,
    host: Arc<str>,
    times: u32,
}

/// A crowd that is one incident.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) began: Now,
    pub(super) members: Vec<MonitorId>,
    pub(super) hosts: usize,
}

impl Crowd {
    /// It was looked at and is good, or is as bad as it was known to be.
    pub(super) fn is_settled(&mut self, id: &MonitorId, now: Mono) {
        self.look(id, now);
        self.forget(id);
    }

    /// It was looked at and fails, so often in a row.
    pub(super) fn fails(&mut self, id: &MonitorId, host: &Arc<str>, times: u32, now: Mono) {
        self.look(id, now);
        let known = self.failing.get_mut(id);
        let before = known.as_ref().map_or(0, |fresh| fresh.times);
        match known {
            Some(fresh) => fresh.times = times,
            // Who has failed for long and is only now heard of is no news.
            None if times > 1 => return,
            None => {
                let fresh = Fresh { since: now, host: Arc::clone(host), times };
                self.failing.insert(id.clone(), fresh);
                self.began.push_back((now, id.clone()));
            }
        }
        self.confirmed = self.confirmed + usize::from(times >= 2) - usize::from(before >= 2);
    }

    /// It takes part in something, or is gone.
    pub(super) fn forget(&mut self, id: &MonitorId) {
        if let Some(fresh) = self.failing.remove(id) {
            self.confirmed -= usize::from(fresh.times >= 2);
        }
    }

    fn look(&mut self, id: &MonitorId, now: Mono) {
        self.looked.insert(id.clone(), now);
        self.looks.push_back((now, id.clone()));
        while self.looks.front().is_some_and(|(at, _)| now.since(*at) > MEANWHILE)
            && let Some((at, id)) = self.looks.pop_front()
        {
            if self.looked.get(&id) == Some(&at) {
                self.looked.remove(&id);
            }
        }
        while self.began.front().is_some_and(|(at, _)| now.since(*at) > FRESH)
            && let Some((at, id)) = self.began.pop_front()
        {
            if self.failing.get(&id).is_some_and(|fresh| fresh.since == at) {
                self.forget(&id);
            }
        }
    }

    /// Whether those that fail are a crowd.
    pub(super) fn found(&self, now: Now) -> Option<Found> {
        if self.confirmed < FEW {
            return None;
        }
        let seen = self.failing.keys().filter(|id| self.looked.contains_key(*id)).count();
        if self.confirmed < MANY && (seen < FEW || seen * 2 < self.looked.len()) {
            return None;
        }
        let first = self.failing.values().map(|fresh| fresh.since).min().unwrap_or(now.mono);
        let ago = i64::try_from(now.mono.since(first).as_millis()).unwrap_or(i64::MAX);
        let hosts: BTreeSet<&str> = self.failing.values().map(|fresh| &*fresh.host).collect();
        Some(Found {
            began: Now { mono: first, wall: Wall(now.wall.0.saturating_sub(ago)) },
            members: self.failing.keys().cloned().collect(),
            hosts: hosts.len(),
        })
    }

    /// It fails freshly.
    pub(super) fn has(&self, id: &MonitorId) -> bool {
        self.failing.contains_key(id)
    }

    pub(super) fn is_consistent(&self) -> bool {
        self.confirmed == self.failing.values().filter(|fresh| fresh.times >= 2).count()
    }
}

/// What most of a crowd point at.
#[derive(Debug)]
pub(super) struct Commonest {
    cause: Cause,
    /// What the first of them shows.
    example: String,
    /// So many of so many show it.
    share: (usize, usize),
}

impl Commonest {
    /// Of these failures of so many hosts; `None` without any. Several hosts from which nothing comes back at once have the way to them
    /// in common; whatever answers does not.
    pub(super) fn of(failures: &[&ProbeFailure], hosts: usize) -> Option<Self> {
        let cause = |failure: &ProbeFailure| match cause_of(failure) {
            Cause::Dns => Cause::Dns,
            _ if hosts > 1 && failure.is_nothing_back() => Cause::Network,
            cause => cause,
        };
        let mut counts: BTreeMap<Cause, usize> = BTreeMap::new();
        failures.iter().for_each(|failure| *counts.entry(cause(failure)).or_default() += 1);
        let (most, n) = counts.into_iter().max_by_key(|(cause, n)| (*n, cause.strength()))?;
        let example = failures.iter().find(|failure| cause(failure) == most)?.to_string();
        Some(Self { cause: most, example, share: (n, failures.len()) })
    }
}

/// The incident of many.
#[derive(Debug)]
pub(super) struct Storm {
    pub(super) open: Open,
    /// Those that are not up again.
    pub(super) members: BTreeSet<MonitorId>,
    /// The most that there were.
    most: usize,
    /// Of so many hosts, when it was found.
    hosts: usize,
    /// The latest beginning of a crowd that takes part.
    began: Mono,
    /// When somebody last came back or took part.
    moved: Mono,
    /// When its title last said how many there are.
    counted: Mono,
    /// When it was last found out who hears of it.
    grouped: Option<Mono>,
    /// What most of them show, as far as was heard.
    example: String,
    /// Until then those that take part are still to be found.
    found_by: Option<Mono>,
}

impl Storm {
    /// Opens the incident. Those that take part are told of by [`Storm::join`].
    pub(super) fn begin(found: &Found, all: usize, commonest: &Commonest, out: &mut Out) -> Self {
        let n = found.members.len();
        let example = commonest.example.clone();
        let title = title(n, all, &example);
        let signs = Vec::new();
        let beginning =
            Beginning { began_at: Some(found.began.wall), signs, ..Beginning::of(Scope::Monitors, title) };
        let mut open = Open::begin(beginning, None, out);
        open.edit().severity = Severity::Down;
        open.told.opened_due = Some(out.now.mono + GATHER);
        let evidence = match found.hosts {
            1 => "all of them are on one host, and began to fail together".to_owned(),
            hosts => {
                format!("they are on {} and began to fail together", count(hosts as u64, "different host"))
            }
        };
        let shown = match commonest.share {
            (n, of) if n == of => example.clone(),
            (n, of) => format!("{} of {} show this: {example}", grouped(n as u64), grouped(of as u64)),
        };
        open.diagnose(Diagnosis::likely(commonest.cause, vec![evidence, shown]), out);
        let mut storm = Self {
            open,
            members: BTreeSet::new(),
            most: 0,
            hosts: found.hosts,
            began: found.began.mono,
            moved: out.now.mono,
            counted: out.now.mono,
            grouped: None,
            example,
            found_by: None,
        };
        storm.open.entry(EntryKind::ProbeFailed, None, None, names(&found.members), out);
        storm
    }

    /// An earlier run left it open.
    pub(super) fn restored(incident: Incident, last_alive: Option<Wall>, out: &mut Out) -> Self {
        let mut open = Open::restored(incident, None, out);
        open.entry(EntryKind::Own, None, None, restarted_text(last_alive, out), out);
        let now = out.now.mono;
        Self {
            open,
            members: BTreeSet::new(),
            most: 0,
            hosts: 0,
            began: now,
            moved: now,
            counted: now,
            grouped: None,
            example: String::new(),
            found_by: Some(now + FOUND_WITHIN),
        }
    }

    fn cause(&self) -> Cause {
        self.open.incident().diagnosis.as_ref().map_or(Cause::Unknown, |diagnosis| diagnosis.cause)
    }

    pub(super) fn id(&self) -> IncidentId {
        self.open.incident().id
    }

    /// Another crowd began to fail.
    pub(super) fn swells(&mut self, found: &Found) {
        self.began = self.began.max(found.began.mono);
        self.hosts = self.hosts.max(found.hosts);
    }

    /// One that began to fail then, and has this interval, takes part.
    pub(super) fn takes(&self, since: Mono, interval: Duration) -> bool {
        since <= self.began + JOINS_WITHIN + interval
    }

    pub(super) fn join(&mut self, id: &MonitorId, failure: Option<&ProbeFailure>, now: Mono) {
        self.members.insert(id.clone());
        self.most = self.most.max(self.members.len());
        self.moved = now;
        if let Some(failure) = failure.filter(|_| self.example.is_empty()) {
            self.example = failure.to_string();
        }
    }

    /// One is up again, or gone.
    pub(super) fn leave(&mut self, id: &MonitorId, now: Mono) {
        if self.members.remove(id) {
            self.moved = now;
        }
    }

    /// Others take part than when it was last asked, which is no oftener than is told how many.
    pub(super) fn has_other_members(&mut self, now: Mono) -> bool {
        let told_now = self.open.told.due().is_some_and(|due| now >= due);
        let later = |at: Mono| self.moved >= at && now >= at + COUNT_EVERY;
        let asks = told_now || self.grouped.is_none_or(later);
        if asks {
            self.grouped = Some(now);
        }
        asks
    }

    /// It is over when this is past: everybody has been back for long enough.
    fn over_at(&self) -> Option<Mono> {
        self.open.quiet_since.map(|since| since + RESOLVE_AFTER)
    }

    /// Few are left and none of them comes back: each goes on by itself from here.
    pub(super) fn is_stuck(&self, now: Mono) -> bool {
        let few = (1..FEW).contains(&self.members.len());
        few && self.found_by.is_none() && now >= self.moved + STUCK_AFTER
    }

    /// Closes or tells, as it now stands; `false` when it is over.
    #[must_use]
    pub(super) fn tend(&mut self, all: usize, out: &mut Out) -> bool {
        let now = out.now.mono;
        self.found_by = self.found_by.filter(|by| now < *by);
        // After a restart somebody has to be found before it can be said that all are back.
        let back = self.members.is_empty() && (self.found_by.is_none() || self.most > 0);
        if self.open.quiet_since.is_none() && back && self.most > 0 {
            let text = format!("all {} answer again", grouped(self.most as u64));
            self.open.entry(EntryKind::ProbeGood, None, None, text, out);
        }
        self.open.set_quiet(back, out.now);
        if self.over_at().is_some_and(|at| now >= at) {
            return false;
        }
        self.count(all, out);
        let advice = self.advice();
        if self.open.told.due().is_some_and(|due| now >= due) {
            self.open.tell_opened(advice.clone(), out);
        }
        self.open.escalate(&advice, out);
        self.open.write_down(out, false);
        true
    }

    /// The title says how many there were at most.
    fn count(&mut self, all: usize, out: &mut Out) {
        let now = out.now.mono;
        let title = title(self.most, all, &self.example);
        let told_soon = self.open.told.due().is_some_and(|due| now >= due);
        let due = now >= self.counted + COUNT_EVERY || told_soon;
        if self.most > 0 && due && self.open.incident().title != title {
            self.counted = now;
            self.open.edit().title = title;
        }
    }

    fn advice(&self) -> String {
        match self.hosts {
            1 => "Look at the host that they are on".to_owned(),
            _ if self.cause() == Cause::Network => {
                "Look at what they have in common, and at this machine's own way to the network".to_owned()
            }
            _ => "Look at what they have in common".to_owned(),
        }
    }

    pub(super) fn over(self, text: Option<String>, out: &mut Out) {
        let text = text.unwrap_or_else(|| format!("over: all of them up for {}", span(RESOLVE_AFTER)));
        self.open.resolve(text, None, out);
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        let stuck = (1..FEW).contains(&self.members.len()).then_some(self.moved + STUCK_AFTER);
        let stuck = stuck.map(|at| self.found_by.map_or(at, |by| at.max(by)));
        [
            self.over_at(),
            self.found_by,
            stuck,
            self.open.told.due(),
            self.open.steps.due(),
            self.open.write_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

fn title(n: usize, all: usize, example: &str) -> String {
    let (n, all) = (grouped(n as u64), grouped(all as u64));
    let example = if example.is_empty() { String::new() } else { format!(": {example}") };
    format!("{n} of {all} monitors fail at once{example}")
}

/// `a, b, c fail, and 9,995 more`
fn names(members: &[MonitorId]) -> String {
    let named: Vec<&str> = members.iter().take(NAMED_MAX).map(MonitorId::as_str).collect();
    let more = match members.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(", and {} more", grouped(more as u64)),
    };
    format!("probes of {}{more} failed twice in a row", named.join(", "))
}
