//! The lead of a service whose servers keep state: the one server that takes the writes.
//!
//! Servers with data say themselves what they are, primary or replica, when they are probed. Writes go to the lead alone, and only
//! while it does not say that it is a replica; all others stand by, however well they are. Who is lead is written down and
//! outlives Mainstay, so that a start goes on with it and not with whoever answers first.
//!
//! The lead moves in two ways only. People moved it themselves: the lead says that it is a replica, and one other server that it
//! is the primary, which was not kept out. Or a switch was run (see `switch`), and its outcome was confirmed by asking: the promoted server says that it is
//! the primary.
//!
//! **One writer a term.** A server that says *primary* beside the lead is *kept out* until it says that it is a replica: what it
//! holds has parted from what the lead holds. So is a lead from which the service was switched away. As long as one of
//! them says that it is the primary nobody is promoted by Mainstay alone, and people are told which ones do.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::input::AdminState;
use crate::out::Out;
use crate::policy::{Promote, Role, Serves, SwitchPolicy};
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::{Mono, Wall};
use crate::words::bytes;

/// Nobody takes writes for so long before people are told: a switchover that people make takes its time.
const NOBODY_WRITES: Duration = Duration::from_secs(10);

/// What a server with data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataRole {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
}

/// What a server with data says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataState {
    /// What it is.
    pub role: DataRole,
    /// How far its log goes, in bytes: what a primary has written, what a replica has received. `None`: it does not say.
    pub position: Option<u64>,
    /// A replica receives from its primary just now.
    pub receives: bool,
    /// The timeline of its log, another one after each promotion: what a primary writes, what a replica receives.
    pub timeline: Option<u32>,
}

/// Who takes the writes of a service, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadRecord {
    /// The lead.
    pub server: ServerId,
    /// Since when.
    pub since: Wall,
    /// How often it has moved.
    #[serde(default)]
    pub term: u64,
    /// These were primaries beside it, or before it, and have not been replicas since.
    #[serde(default)]
    pub kept_out: BTreeSet<ServerId>,
    /// Whether this server was promoted is not known: until it says so, or that it is a replica, nobody gets writes.
    #[serde(default)]
    pub unclear: Option<ServerId>,
}

/// Who takes the writes of a service, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadSnapshot {
    /// The lead; `None`: nobody is known to be.
    pub server: Option<ServerId>,
    /// Since when.
    pub since: Option<Wall>,
    /// How often it has moved.
    pub term: u64,
    /// It gets writes now.
    pub writes: bool,
    /// Who is kept out until it is a replica.
    pub kept_out: Vec<ServerId>,
    /// What is wrong, for a person; `None`: nothing.
    pub trouble: Option<String>,
}

/// What a server with data has said of itself, and when it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    pub(crate) state: DataState,
    asked_at: Mono,
    /// When it first said, without a break, that it is a primary.
    primary_since: Option<Mono>,
    /// The timeline on which it was last seen to receive, and the one on which it last wrote as a primary.
    received: Option<u32>,
    wrote: Option<u32>,
}

/// What is known of the lead of a service.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    record: Option<LeadRecord>,
    /// Since when nobody takes writes though nothing is under way.
    nobody_since: Option<Mono>,
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone, PartialEq)]
enum Trouble {
    /// These say that they are primaries, beside the lead if there is one.
    Primaries(Vec<ServerId>),
    /// Nobody says that it is.
    Nobody(Option<ServerId>),
    /// Whether this one was promoted is not known.
    Unclear(ServerId),
}

/// Who is to take the writes after a switch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Successor {
    /// It says that it is a primary already.
    Is(ServerId),
    /// It is a replica that may be promoted.
    Promote(ServerId),
}

impl Lead {
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    pub(crate) fn server(&self) -> Option<&ServerId> {
        self.record.as_ref().map(|record| &record.server)
    }

    fn keeps_out(&self, id: &ServerId) -> bool {
        self.record.as_ref().is_some_and(|record| record.kept_out.contains(id))
    }
}

impl Server {
    /// A good probe told what it is.
    pub(crate) fn says(&mut self, state: DataState, now: Mono) {
        let asked_at = self.probes.ordered_at;
        let before = self.data.take();
        let primary_since = match state.role {
            DataRole::Primary => before.and_then(|data| data.primary_since).or(Some(now)),
            DataRole::Replica => None,
        };
        let received = state.timeline.filter(|_| state.receives);
        let wrote = state.timeline.filter(|_| state.role == DataRole::Primary);
        self.data = Some(Data {
            state,
            asked_at,
            primary_since,
            received: received.or_else(|| before.and_then(|data| data.received)),
            wrote: wrote.or_else(|| before.and_then(|data| data.wrote)),
        });
    }

    /// Its last probe was good, and it said that it is this.
    fn is_now(&self, role: DataRole) -> bool {
        let answers = self.is_reachable() && self.probes.last_result.is_none();
        answers && self.data.is_some_and(|data| data.state.role == role)
    }

    fn said_after(&self, role: DataRole, at: Mono) -> bool {
        self.is_now(role) && self.data.is_some_and(|data| data.asked_at >= at)
    }
}

impl Service {
    /// One of its servers is to take all writes.
    pub(crate) fn has_lead(&self) -> bool {
        self.policy.state.as_ref().is_some_and(|state| state.serves == Serves::Writes)
    }

    /// Who gets writes now.
    pub(crate) fn writer(&self) -> Option<&ServerId> {
        let record = self.lead.record.as_ref()?;
        let is_replica = |s: &Server| s.data.is_some_and(|data| data.state.role == DataRole::Replica);
        let may = self.servers.get(&record.server).is_some_and(|s| !is_replica(s));
        (may && record.unclear.is_none() && !self.is_switching_there()).then_some(&record.server)
    }

    /// A server gets nothing for the sake of the service's state, however well it is.
    pub(crate) fn is_held_back(&self, id: &ServerId, server: &Server) -> bool {
        if self.has_lead() {
            return self.writer() != Some(id);
        }
        self.is_switched_away() && server.is_primary()
    }

    /// It is not started anew: what it holds is behind, and it might take itself for the primary.
    pub(crate) fn is_kept_down(&self, id: &ServerId, server: &Server) -> bool {
        if self.has_lead() {
            let leaves = self.is_switching_there() && self.lead.server() == Some(id);
            return leaves || self.lead.keeps_out(id);
        }
        self.is_switched_away() && server.is_primary()
    }

    /// What an earlier run wrote down.
    pub(crate) fn restore_lead(&mut self, record: LeadRecord) {
        self.lead.record = Some(record);
    }

    /// Who is lead, who stands by, and who is kept out, by what the servers say of themselves.
    pub(crate) fn tend_lead(&mut self, out: &mut Out) {
        match self.policy.state.as_ref().map(|state| state.serves) {
            None => return self.servers.values_mut().for_each(|server| server.acts_as = None),
            Some(Serves::Reads) => {
                for server in self.servers.values_mut() {
                    let primary = server.data.is_some_and(|data| data.state.role == DataRole::Primary);
                    server.acts_as = Some(if primary { Role::Backup } else { Role::Primary });
                }
                return;
            }
            Some(Serves::Writes) => {}
        }
        if self.lead.server().is_some_and(|id| !self.servers.contains_key(id)) {
            self.lead.record = None;
            out.record(Record::Lead { service: self.id.clone(), lead: None });
        }
        self.let_replicas_in(out);
        self.keep_primaries_out(out);
        self.follow_people(out);
        self.clear_up(out);
        let lead = self.lead.server().cloned();
        for (id, server) in &mut self.servers {
            server.acts_as = Some(if lead.as_ref() == Some(id) { Role::Primary } else { Role::Backup });
        }
        self.tend_lead_trouble(out);
    }

    /// Who was kept out and follows somebody now is a replica like any other.
    fn let_replicas_in(&mut self, out: &mut Out) {
        let Some(record) = &self.lead.record else { return };
        let is_replica = |id: &&ServerId| self.servers.get(*id).is_none_or(|s| s.is_now(DataRole::Replica));
        let back: Vec<ServerId> = record.kept_out.iter().filter(is_replica).cloned().collect();
        for id in back {
            let text = format!("{} is a replica again and stands by", id.name);
            self.tell_lead(Some(&id), text, out);
            self.edit_lead(out, |record| {
                record.kept_out.remove(&id);
            });
        }
    }

    /// Two that are primaries at one time have parted.
    fn keep_primaries_out(&mut self, out: &mut Out) {
        let Some(record) = &self.lead.record else { return };
        if record.unclear.is_some() || self.is_switching_there() {
            return;
        }
        let Some(lead) = self.servers.get(&record.server) else { return };
        let beside = |(id, server): &(&ServerId, &Server)| {
            let since = server.data.and_then(|data| data.primary_since);
            *id != &record.server
                && !record.kept_out.contains(*id)
                && server.is_now(DataRole::Primary)
                && since.is_some_and(|since| lead.said_after(DataRole::Primary, since))
        };
        let found: Vec<ServerId> = self.servers.iter().filter(beside).map(|(id, _)| id.clone()).collect();
        found.into_iter().for_each(|id| self.keep_out(id, out));
        // Whoever says so first has the lead asked again at once.
        let news = self.servers.values().any(|s| !s.is_primary() && s.is_now(DataRole::Primary));
        if let Some(lead) = self.lead.server().cloned()
            && news
            && let Some(server) = self.servers.get_mut(&lead)
            && let Some(next) = &mut server.probes.next_at
        {
            *next = (*next).min(server.probes.ordered_at + self.policy.health.reprobe).max(out.now.mono);
        }
    }

    fn keep_out(&mut self, id: ServerId, out: &mut Out) {
        if !self.lead.keeps_out(&id) {
            self.edit_lead(out, |record| {
                record.kept_out.insert(id);
            });
        }
    }

    /// What another primary holds goes on from what the lead has written: each promotion begins a later timeline.
    fn may_follow_the_lead(&self, id: &ServerId) -> bool {
        let data = |id: &ServerId| self.servers.get(id).and_then(|s| s.data);
        let wrote = self.lead.server().and_then(data).and_then(|data| data.wrote);
        let writes = data(id).and_then(|data| data.state.timeline);
        !self.lead.keeps_out(id) && wrote.zip(writes).is_none_or(|(wrote, writes)| writes > wrote)
    }

    /// People made another one the primary; or it is found out who is, for the first time.
    fn follow_people(&mut self, out: &mut Out) {
        if self.is_switching_there() || self.lead.record.as_ref().is_some_and(|r| r.unclear.is_some()) {
            return;
        }
        let primaries: Vec<ServerId> = self.now_are(DataRole::Primary).cloned().collect();
        let [one] = primaries.as_slice() else { return };
        let text = match self.lead.server() {
            None if self.all_were_asked(out.now.mono) => {
                format!("{} is the primary: writes go to it", one.name)
            }
            Some(lead) if self.servers.get(lead).is_some_and(|s| s.is_now(DataRole::Replica)) => {
                if !self.may_follow_the_lead(one) {
                    let one = one.clone();
                    return self.keep_out(one, out);
                }
                let before = &lead.name;
                format!("{} is the primary now and {before} a replica: writes go to {}", one.name, one.name)
            }
            _ => return,
        };
        self.lead_is(&one.clone(), None, text, out);
    }

    /// What nobody knew after a switch is known now.
    fn clear_up(&mut self, out: &mut Out) {
        let Some(unclear) = self.lead.record.as_ref().and_then(|r| r.unclear.clone()) else { return };
        match self.servers.get(&unclear) {
            Some(server) if server.is_now(DataRole::Primary) => {
                let text = format!("{} was promoted, as it says: writes go to it", unclear.name);
                let before = self.lead.server().cloned();
                self.lead_is(&unclear, before, text, out);
            }
            Some(server) if !server.is_now(DataRole::Replica) => {}
            _ => {
                let text = format!("{} was not promoted: it is a replica", unclear.name);
                self.tell_lead(Some(&unclear), text, out);
                self.edit_lead(out, |record| record.unclear = None);
            }
        }
    }

    /// Whether it was promoted has to be found out; until then nobody gets writes.
    pub(crate) fn lead_is_unclear(&mut self, promoted: &ServerId, out: &mut Out) {
        self.edit_lead(out, |record| record.unclear = Some(promoted.clone()));
    }

    /// From now on this one takes the writes; `left` has parted from it, as far as anybody knows.
    pub(crate) fn lead_is(&mut self, id: &ServerId, left: Option<ServerId>, text: String, out: &mut Out) {
        let before = self.lead.record.take();
        let term = before.as_ref().map_or(0, |record| record.term + 1);
        let mut kept_out = before.map(|record| record.kept_out).unwrap_or_default();
        kept_out.extend(left);
        kept_out.remove(id);
        let record = LeadRecord { server: id.clone(), since: out.now.wall, term, kept_out, unclear: None };
        self.lead.record = Some(record);
        self.edit_lead(out, |_| {});
        if term > 0 {
            self.tell_lead(Some(id), text, out);
        } else if let Some(server) = self.servers.get_mut(id) {
            server.changed(out.now.wall, text);
        }
    }

    fn edit_lead(&mut self, out: &mut Out, edit: impl FnOnce(&mut LeadRecord)) {
        let Some(record) = &mut self.lead.record else { return };
        edit(record);
        out.record(Record::Lead { service: self.id.clone(), lead: Some(record.clone()) });
    }

    fn tell_lead(&mut self, about: Option<&ServerId>, text: String, out: &mut Out) {
        if let Some(server) = about.and_then(|id| self.servers.get_mut(id)) {
            server.changed(out.now.wall, text.clone());
        }
        if let Some(open) = &mut self.incident {
            open.entry(EntryKind::ModeChanged, about, None, text, out);
        }
    }

    /// Every server has said what it is, or is known not to answer, or has had its time.
    fn all_were_asked(&self, now: Mono) -> bool {
        let had_their_time = now >= self.known_since + self.policy.recovery.start_grace;
        let asked = |s: &Server| s.admin == AdminState::Maintenance || s.probes.verdict != Verdict::Unknown;
        had_their_time || self.servers.values().all(asked)
    }

    fn now_are(&self, role: DataRole) -> impl Iterator<Item = &ServerId> {
        self.servers.iter().filter(move |(_, s)| s.is_now(role)).map(|(id, _)| id)
    }

    fn tend_lead_trouble(&mut self, out: &mut Out) {
        let now = out.now.mono;
        let waits = self.lead.record.is_none() && !self.all_were_asked(now);
        let nobody = self.writer().is_none() && !self.is_switching_there() && !waits;
        self.lead.nobody_since = nobody.then(|| self.lead.nobody_since.unwrap_or(now));
        let trouble = self.find_lead_trouble(now);
        let before = std::mem::replace(&mut self.lead.trouble, trouble);
        match self.lead_title() {
            Some(title) if self.incident.is_none() => {
                if !self.excused {
                    self.open(&title, Vec::new(), now, out);
                }
            }
            _ if before == self.lead.trouble => {}
            Some(title) => {
                self.tell_lead(None, title, out);
                let advice = self.lead_advice().unwrap_or_default();
                if let Some(open) = self.incident.as_mut().filter(|open| open.told.opened()) {
                    open.tell_needs_person_anew(advice, out);
                }
            }
            None => {
                let text = match self.writer() {
                    Some(writer) => format!("{} is the only primary", writer.name),
                    None => "it is clear again who is to take writes".to_owned(),
                };
                self.tell_lead(None, text, out);
            }
        }
    }

    fn find_lead_trouble(&self, now: Mono) -> Option<Trouble> {
        let record = self.lead.record.as_ref();
        if let Some(unclear) = record.and_then(|record| record.unclear.clone()) {
            return Some(Trouble::Unclear(unclear));
        }
        let beside = |id: &&ServerId| record.is_none_or(|record| record.kept_out.contains(*id));
        let primaries: Vec<ServerId> = self.now_are(DataRole::Primary).filter(beside).cloned().collect();
        if primaries.len() > usize::from(record.is_none()) {
            return Some(Trouble::Primaries(primaries));
        }
        let due = self.lead.nobody_since.is_some_and(|since| now >= since + NOBODY_WRITES);
        due.then(|| Trouble::Nobody(record.map(|record| record.server.clone())))
    }

    fn lead_title(&self) -> Option<String> {
        let service = &self.id;
        Some(match self.lead.trouble.as_ref()? {
            Trouble::Primaries(who) => match (self.lead.server(), self.writer()) {
                (Some(lead), Some(_)) => format!(
                    "two primaries of {service}: {} beside {}; writes go to {} alone",
                    names(who),
                    lead.name,
                    lead.name
                ),
                (Some(lead), None) => format!(
                    "nobody takes the writes of {service}: {} is a replica, and {} has parted from it",
                    lead.name,
                    names(who)
                ),
                (None, _) => format!("two primaries of {service}: {}; nobody gets writes", names(who)),
            },
            Trouble::Nobody(Some(lead)) => {
                format!("nobody takes the writes of {service}: {} is a replica", lead.name)
            }
            Trouble::Nobody(None) => format!("nobody takes the writes of {service}: no server is a primary"),
            Trouble::Unclear(server) => {
                format!(
                    "nobody takes the writes of {service}: whether {} was promoted is not known",
                    server.name
                )
            }
        })
    }

    /// What a person should do about who takes the writes.
    pub(crate) fn lead_advice(&self) -> Option<String> {
        let service = &self.id;
        Some(match self.lead.trouble.as_ref()? {
            Trouble::Primaries(who) => match (self.lead.server(), self.writer()) {
                (Some(lead), Some(_)) => format!(
                    "Make {} a replica of {} again, or stop it: whoever reaches it past Mainstay may write there. Nobody is \
                     promoted meanwhile",
                    names(who),
                    lead.name
                ),
                (Some(lead), None) => format!(
                    "Decide whose data is right: make {} the primary again, or run mainstay switch {service} --fenced, which \
                     sends writes to {}",
                    lead.name,
                    names(who)
                ),
                (None, _) => {
                    format!("Leave one of {} a primary: then writes of {service} go there", names(who))
                }
            },
            Trouble::Nobody(_) => format!("Make one server of {service} the primary: then writes go there"),
            Trouble::Unclear(server) => format!(
                "See whether {} is a primary: as soon as Mainstay can ask it, it goes by that",
                server.name
            ),
        })
    }

    /// Nobody takes writes, and none is expected to any moment.
    pub(crate) fn nobody_writes(&self, now: Mono) -> bool {
        let for_long = |since: Mono| now >= since + self.policy.health.interval;
        self.is_switching_there() || self.lead.nobody_since.is_some_and(for_long)
    }

    /// When the lead is next to be looked at without another input.
    pub(crate) fn lead_due(&self, now: Mono) -> Option<Mono> {
        if !self.has_lead() {
            return None;
        }
        let told = self.lead.nobody_since.map(|since| since + NOBODY_WRITES);
        let down = self.lead.nobody_since.map(|since| since + self.policy.health.interval);
        let asked = self.lead.record.is_none().then(|| self.known_since + self.policy.recovery.start_grace);
        [told, down, asked].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Nobody but the lead may be promoted while another one takes itself for the primary.
    fn no_other_primary(&self) -> Result<(), String> {
        let lead = self.lead.server();
        let mut others = self.now_are(DataRole::Primary).filter(|id| Some(*id) != lead);
        let other = others.find(|id| !self.may_follow_the_lead(id));
        other.map_or(Ok(()), |id| Err(format!("{} takes itself for the primary too", id.name)))
    }

    /// Why nobody can take the writes after the lead without a person; `None`: nothing is in the way.
    pub(crate) fn obstacle(&self, policy: &SwitchPolicy) -> Option<String> {
        if !self.has_lead() {
            return None;
        }
        let successor = || match policy.promote {
            Promote::Postgres => self.successor(policy, false).map(drop),
            // Somebody else sees to it that there is one.
            Promote::Command | Promote::Nobody => Ok(()),
        };
        self.no_other_primary().and_then(|()| successor()).err()
    }

    /// Who is to take the writes after the lead; `Err` says why nobody may. A person may choose what Mainstay may not: one that
    /// was kept out, or a replica of which nobody knows how far it is behind.
    pub(crate) fn successor(&self, policy: &SwitchPolicy, by_person: bool) -> Result<Successor, String> {
        let Some(lead) = self.lead.server() else {
            return Err("nobody is known to be the primary".to_owned());
        };
        let others = || self.servers.iter().filter(move |(id, s)| *id != lead && s.is_ready());
        let may = |id: &ServerId| by_person || !self.lead.keeps_out(id);
        let goes_on = |id: &ServerId| by_person || self.may_follow_the_lead(id);
        let primaries: Vec<&ServerId> =
            others().filter(|(id, s)| s.is_now(DataRole::Primary) && goes_on(id)).map(|(id, _)| id).collect();
        match primaries.as_slice() {
            [] => {}
            [one] => return Ok(Successor::Is((*one).clone())),
            several => return Err(format!("{} say that they are primaries", names(several.iter().copied()))),
        }
        let replicas: Vec<(&ServerId, Data)> = others()
            .filter(|(id, s)| s.is_now(DataRole::Replica) && s.health == Health::Healthy && may(id))
            .filter_map(|(id, s)| Some((id, s.data?)))
            .collect();
        // A replica may follow somebody else, who has parted from the lead: another timeline tells.
        let wrote = self.servers.get(lead).and_then(|s| s.data).and_then(|data| data.wrote);
        let followed =
            |(_, data): &&(&ServerId, Data)| by_person || data.received.is_some() && data.received == wrote;
        // The one that has the most; of two alike the first by name.
        let most = |(id, data): &&(&ServerId, Data)| (data.state.position, std::cmp::Reverse((*id).clone()));
        let Some((id, data)) = replicas.iter().filter(followed).max_by_key(most) else {
            return Err(match replicas.is_empty() {
                true => "no replica is healthy".to_owned(),
                false => format!(
                    "none of {} was seen to receive from {} (the user of the probe needs pg_monitor to see it)",
                    names(replicas.iter().map(|(id, _)| *id)),
                    lead.name
                ),
            });
        };
        let written = self.servers.get(lead).and_then(|s| s.data).and_then(|data| data.state.position);
        if by_person {
            return Ok(Successor::Promote((*id).clone()));
        }
        match written.zip(data.state.position) {
            None => Err(format!("how far {} is behind {} is not known", id.name, lead.name)),
            Some((written, received)) if written.saturating_sub(received) > policy.lag_max => Err(format!(
                "{} is {} behind {} (lag-max = {})",
                id.name,
                bytes(written - received),
                lead.name,
                bytes(policy.lag_max)
            )),
            Some(_) => Ok(Successor::Promote((*id).clone())),
        }
    }

    /// Who says, in answer to a question of after then, that it is a primary: this one, or whoever it is beside the lead.
    pub(crate) fn says_primary(&self, id: Option<&ServerId>, after: Mono) -> Option<ServerId> {
        let lead = self.lead.server();
        let says = |(other, s): &(&ServerId, &Server)| {
            id.map_or(Some(*other) != lead, |id| id == *other) && s.said_after(DataRole::Primary, after)
        };
        let mut who = self.servers.iter().filter(says).map(|(id, _)| id.clone());
        let one = who.next()?;
        who.next().is_none().then_some(one)
    }

    /// It says that it is a replica, in answer to a question of after then.
    pub(crate) fn says_replica(&self, id: &ServerId, after: Mono) -> bool {
        self.servers.get(id).is_some_and(|s| s.said_after(DataRole::Replica, after))
    }

    /// All are asked as soon as may be.
    pub(crate) fn ask_roles(&mut self, now: Mono) {
        for server in self.servers.values_mut() {
            if let Some(next) = &mut server.probes.next_at {
                *next = now;
            }
        }
    }

    pub(crate) fn present_lead(&self) -> Option<LeadSnapshot> {
        let record = self.lead.record.as_ref();
        self.has_lead().then(|| LeadSnapshot {
            server: record.map(|record| record.server.clone()),
            since: record.map(|record| record.since),
            term: record.map_or(0, |record| record.term),
            writes: self.writer().is_some(),
            kept_out: record.map_or_else(Vec::new, |record| record.kept_out.iter().cloned().collect()),
            trouble: self.lead_title(),
        })
    }

    /// Who it is among those that keep the service's state.
    pub(crate) fn lead_note(&self, id: &ServerId, server: &Server) -> Option<crate::snapshot::ServerNote> {
        use crate::snapshot::ServerNote;
        let serves = self.policy.state.as_ref()?.serves;
        Some(match (serves, self.lead.server() == Some(id)) {
            (Serves::Reads, _) => return (!server.is_primary()).then_some(ServerNote::Primary),
            (Serves::Writes, true) if self.writer().is_none() => ServerNote::NoLonger,
            (Serves::Writes, true) => ServerNote::Lead,
            (Serves::Writes, false) if self.lead.keeps_out(id) => ServerNote::KeptOut,
            (Serves::Writes, false) => ServerNote::Standby,
        })
    }
}

fn names<'i>(ids: impl IntoIterator<Item = &'i ServerId>) -> String {
    let names: Vec<&str> = ids.into_iter().map(|id| id.name.as_ref()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => "nobody".to_owned(),
    }
}

#[cfg(test)]
mod tests;
