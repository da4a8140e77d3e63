//! Proposals: what Mainstay would do about a service if it might, by the level of each rung; and what became of it.
//!
//! At level `observe` it is written down and no more, at `suggest` the incident tells of it, at `ask` a person is called and
//! decides. A proposal is made at the moment in which it would have been done, when the gate and the budget let it pass, and once for a
//! need: until that is over. Then it is scored by what happened: it came back by itself, a person did it, Mainstay did it
//! because somebody approved, or it was still broken a day later.
//!
//! What is approved passes the gate again. A person's word counts for more there than Mainstay's own judgement, but not for
//! everything: see `yields_to_a_person` in `recovery/guard.rs`. Budgets hold all the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::id::{IncidentId, ServerId, ServiceId};
use crate::incident::EntryKind;
use crate::model::Model;
use crate::out::Out;
use crate::policy::ServicePolicy;
use crate::recovery::Refusal;
use crate::rung::{Level, Rung};
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::{Mono, Wall};

/// What is still broken after so long is scored as that.
pub const OPEN_MAX: Duration = Duration::from_secs(24 * 3600);
/// Proposals that are over and still shown.
pub const KEPT_MAX: usize = 100;

/// Something that Mainstay would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Counts up from 1.
    pub number: u64,
    /// About which service.
    pub service: ServiceId,
    /// What kind of thing.
    pub rung: Rung,
    /// To which server; `None`: to none in particular.
    pub server: Option<ServerId>,
    /// The level that it was made at.
    pub level: Level,
    /// What would be done, in the infinitive: `restart app-2`.
    pub what: String,
    /// Why.
    pub why: String,
    /// The incident that it is to mend.
    pub incident: Option<IncidentId>,
    /// When it was made.
    pub at: Wall,
    /// What a person said to it.
    pub decided: Option<Decided>,
    /// A person did something about it by hand meanwhile.
    #[serde(default)]
    pub by_hand: bool,
    /// Mainstay began to do it: it was approved, or need not be any more.
    #[serde(default)]
    pub done: bool,
    /// How it ended; `None`: it is open.
    pub end: Option<End>,
}

/// What a person said to a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// It is to be done.
    pub approved: bool,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Wall,
    /// Why it is not done although it was approved; empty when nothing is in the way.
    pub withheld: String,
}

/// What a message asks people to decide on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The proposal's number.
    pub proposal: u64,
    /// What would be done, in the infinitive: `restart app-2`.
    pub what: String,
}

/// How a proposal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Wall,
    /// What became of the need for it.
    pub score: Score,
}

/// What became of the need for what was proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// It was over without anybody having done anything that Mainstay knows of.
    ByItself,
    /// A person did the same, or something else about it, by hand.
    ByPerson,
    /// Mainstay did it.
    ByMainstay,
    /// It was still broken after a day, or what it was about is gone.
    StillBroken,
}

impl Score {
    /// The word used in the record, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Score::ByItself => "by-itself",
            Score::ByPerson => "by-person",
            Score::ByMainstay => "by-mainstay",
            Score::StillBroken => "still-broken",
        }
    }

    /// In a sentence.
    pub fn in_words(self) -> &'static str {
        match self {
            Score::ByItself => "it came back by itself",
            Score::ByPerson => "a person did it",
            Score::ByMainstay => "Mainstay did it",
            Score::StillBroken => "it was still broken",
        }
    }
}

impl Proposal {
    /// A person may decide on it: it is open, and nobody has.
    pub fn is_undecided(&self) -> bool {
        self.end.is_none() && self.decided.is_none()
    }

    /// Nothing has become of it yet.
    pub fn is_new(&self) -> bool {
        self.is_undecided() && !self.done && !self.by_hand
    }

    /// A person is to decide on it.
    pub fn is_asked(&self) -> bool {
        self.level == Level::Ask && self.is_undecided()
    }

    fn is(&self, rung: Rung, server: Option<&ServerId>) -> bool {
        self.rung == rung && self.server.as_ref() == server
    }

    fn is_granted(&self) -> bool {
        !self.done && self.decided.as_ref().is_some_and(|decided| decided.approved)
    }

    /// How it stands, in a sentence without a full stop.
    pub fn stands(&self) -> String {
        let decided = match &self.decided {
            None if self.end.is_some() || self.done => String::new(),
            None if self.level == Level::Ask => "waits for a person".to_owned(),
            None => "was not done".to_owned(),
            Some(Decided { approved: false, by, .. }) => format!("declined by {by}"),
            Some(Decided { by, .. }) if self.done => format!("done, approved by {by}"),
            Some(Decided { withheld, by, .. }) if withheld.is_empty() => {
                format!("approved by {by}, and waits for its turn")
            }
            Some(Decided { withheld, by, .. }) => format!("approved by {by}, and not done: {withheld}"),
        };
        match (self.end, decided.is_empty()) {
            (None, true) => "done".to_owned(),
            (None, false) => decided,
            (Some(end), true) => end.score.in_words().to_owned(),
            (Some(end), false) => format!("{decided}; {}", end.score.in_words()),
        }
    }
}

/// The proposals of all services.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    /// The highest number ever used.
    pub(crate) last: u64,
    /// Those that are over, newest first.
    over: VecDeque<Arc<Proposal>>,
}

impl Proposals {
    /// What an earlier run left; those that were open are for their services to take up.
    pub(crate) fn restored(all: &[Proposal], last: u64) -> Self {
        let mut proposals = Self { last, over: VecDeque::new() };
        all.iter().for_each(|proposal| proposals.last = proposals.last.max(proposal.number));
        all.iter().filter(|p| p.end.is_some()).for_each(|p| proposals.keep(p.clone()));
        proposals
    }

    fn keep(&mut self, proposal: Proposal) {
        self.over.push_front(Arc::new(proposal));
        self.over.truncate(KEPT_MAX);
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.over.len() <= KEPT_MAX
    }
}

impl Service {
    /// Whether something that the gate lets pass is done now: by its level, or because a person approved. If not, it is proposed.
    pub(crate) fn is_to_be_done(
        &mut self,
        rung: Rung,
        server: Option<&ServerId>,
        what: &str,
        why: &str,
        out: &mut Out,
    ) -> bool {
        let level = self.policy.recovery.levels.of(rung);
        self.is_to_be_done_at(level, rung, server, what, why, out)
    }

    /// The same at another level than the config's.
    pub(crate) fn is_to_be_done_at(
        &mut self,
        level: Level,
        rung: Rung,
        server: Option<&ServerId>,
        what: &str,
        why: &str,
        out: &mut Out,
    ) -> bool {
        if let Some(place) = self.proposals.iter().position(|p| p.is(rung, server) && p.done) {
            // It was done, and is needed again.
            let done = self.proposals.remove(place);
            out.end_proposal(done, Score::StillBroken);
        }
        let proposal = self.proposals.iter_mut().find(|p| p.is(rung, server));
        let decided = proposal.as_ref().and_then(|p| p.decided.as_ref()).map(|decided| decided.approved);
        if decided == Some(false) {
            return false;
        }
        let Some(proposal) = proposal.filter(|p| level == Level::Automatic || p.is_granted()) else {
            if level != Level::Automatic {
                self.propose(level, rung, server, what, why, out);
            }
            return level == Level::Automatic;
        };
        if !std::mem::replace(&mut proposal.done, true) {
            proposal.decided.iter_mut().for_each(|decided| decided.withheld.clear());
            out.record(Record::Proposal(proposal.clone()));
        }
        self.say_what_is_asked();
        true
    }

    /// Who wants what is just begun: Mainstay, or who approved it.
    pub(crate) fn wanted_by(&self, rung: Rung) -> String {
        let decided = self.proposals.iter().find(|p| p.is(rung, None)).and_then(|p| p.decided.as_ref());
        decided.map_or_else(|| "Mainstay".to_owned(), |decided| decided.by.clone())
    }

    /// What is just begun was approved by a person.
    pub(crate) fn was_approved(&self, rung: Rung, server: Option<&ServerId>) -> bool {
        let approved = |p: &Proposal| p.decided.as_ref().is_some_and(|decided| decided.approved);
        self.proposals.iter().any(|p| p.is(rung, server) && p.done && approved(p))
    }

    /// A person approved it, and it was not begun yet.
    pub(crate) fn is_granted(&self, rung: Rung, server: Option<&ServerId>) -> bool {
        self.proposals.iter().any(|p| p.is(rung, server) && p.is_granted())
    }

    /// A refusal of the gate, unless a person approved what it refuses and their word counts for more.
    pub(crate) fn weigh_grant(
        &mut self,
        rung: Rung,
        server: Option<&ServerId>,
        verdict: Result<(), Refusal>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let Err(refusal) = verdict else { return Ok(()) };
        let granted = self.proposals.iter_mut().find(|p| p.is(rung, server) && p.is_granted());
        let Some(proposal) = granted else { return Err(refusal) };
        if refusal.yields_to_a_person() {
            return Ok(());
        }
        let text = refusal.to_string();
        if let Some(decided) = proposal.decided.as_mut().filter(|decided| decided.withheld != text) {
            decided.withheld = text;
            out.record(Record::Proposal(proposal.clone()));
        }
        Err(refusal)
    }

    fn propose(
        &mut self,
        level: Level,
        rung: Rung,
        server: Option<&ServerId>,
        what: &str,
        why: &str,
        out: &mut Out,
    ) {
        if self.proposals.iter().any(|p| p.is(rung, server)) {
            return;
        }
        let recalled = self.recall(rung, server, out);
        let why = if recalled.is_empty() { why.to_owned() } else { format!("{why}; {recalled}") };
        let why = why.as_str();
        out.proposals.last += 1;
        let proposal = Proposal {
            number: out.proposals.last,
            service: self.id.clone(),
            rung,
            server: server.cloned(),
            level,
            what: what.to_owned(),
            why: why.to_owned(),
            incident: self.incident.as_ref().map(|open| open.incident().id),
            at: out.now.wall,
            decided: None,
            by_hand: false,
            done: false,
            end: None,
        };
        out.record(Record::Proposal(proposal.clone()));
        let number = proposal.number;
        self.proposals.push(proposal);
        self.say_what_is_asked();
        if let Some(server) = server.and_then(|id| self.servers.get_mut(id)) {
            server.changed(out.now.wall, format!("proposed: {what} (level {level}): {why}"));
        }
        let Some(open) = &mut self.incident else { return };
        let text = match level {
            Level::Observe => format!("Mainstay would {what} (level = observe): {why}"),
            Level::Suggest => format!("Mainstay suggests to {what} (level = suggest): {why}"),
            Level::Ask | Level::Automatic => {
                format!("a person may have Mainstay {what} (proposal {number}): {why}")
            }
        };
        open.entry(EntryKind::Proposed, server, None, text, out);
        match level {
            Level::Observe => {}
            // It stands in the first message; who was told before it is told of it once.
            Level::Suggest if !open.told.opened() => {}
            Level::Suggest => open.tell_needs_person(format!("Decide whether to {what}: {why}"), out),
            Level::Ask | Level::Automatic => {
                let advice = format!("Decide whether to {what}: {why}. Then run mainstay approve {number}");
                open.tell_needs_person_anew(advice, out);
            }
        }
    }

    /// A person decided. `false`: there is nothing of this number to be decided here.
    pub(crate) fn on_decided(&mut self, number: u64, approved: bool, by: &str, out: &mut Out) -> bool {
        let Some(proposal) = self.proposals.iter_mut().find(|p| p.number == number) else { return false };
        if proposal.decided.is_some() {
            return true;
        }
        let at = out.now.wall;
        let by = by.to_owned();
        let what = proposal.what.clone();
        let text = match approved {
            true => format!("{by} approved to {what} (proposal {number})"),
            false => format!("{by} declined to {what} (proposal {number})"),
        };
        proposal.decided = Some(Decided { approved, by, at, withheld: String::new() });
        let (rung, server) = (proposal.rung, proposal.server.clone());
        out.record(Record::Proposal(proposal.clone()));
        self.say_what_is_asked();
        if let Some(open) = &mut self.incident {
            open.entry(EntryKind::Changed, server.as_ref(), None, text, out);
        }
        if let Some(server) = server.as_ref().and_then(|id| self.servers.get_mut(id))
            && rung == Rung::Restart
            && approved
        {
            server.recovery.due = Some(out.now.mono);
        }
        true
    }

    /// A person did something by hand that bears on what is proposed.
    pub(crate) fn person_acts(&mut self, rung: Rung, server: Option<&ServerId>) {
        let mine = |p: &&mut Proposal| p.is(rung, server) && !p.done;
        self.proposals.iter_mut().filter(mine).for_each(|proposal| proposal.by_hand = true);
    }

    /// A person wants a server brought back, whatever was said of it before.
    pub(crate) fn person_wants(&mut self, id: &ServerId, by: &str, out: &mut Out) {
        let mine = |p: &&mut Proposal| p.is(Rung::Restart, Some(id)) && !p.done;
        let Some(proposal) = self.proposals.iter_mut().find(mine) else { return };
        let (by, at) = (by.to_owned(), out.now.wall);
        proposal.decided = Some(Decided { approved: true, by, at, withheld: String::new() });
        out.record(Record::Proposal(proposal.clone()));
        self.say_what_is_asked();
    }

    /// Ends and scores the proposals for which there is no need any more.
    pub(crate) fn tend_proposals(&mut self, out: &mut Out) {
        if self.proposals.is_empty() {
            return;
        }
        for proposal in std::mem::take(&mut self.proposals) {
            let age = out.now.wall.ms_since(proposal.at).max(0).unsigned_abs();
            let gone = proposal.server.as_ref().is_some_and(|id| !self.servers.contains_key(id));
            let score = if self.is_well_again(&proposal, out.now.mono) {
                match (proposal.done, proposal.by_hand) {
                    (true, _) => Score::ByMainstay,
                    (false, true) => Score::ByPerson,
                    (false, false) => Score::ByItself,
                }
            } else if gone || u128::from(age) >= OPEN_MAX.as_millis() {
                Score::StillBroken
            } else {
                self.proposals.push(proposal);
                continue;
            };
            out.end_proposal(proposal, score);
        }
        self.say_what_is_asked();
    }

    /// Whoever is told of the incident is told what they may decide on.
    pub(crate) fn say_what_is_asked(&mut self) {
        let Some(open) = &mut self.incident else { return };
        let asked = self.proposals.iter().filter(|p| p.is_asked());
        open.asked = asked.map(|p| Asked { proposal: p.number, what: p.what.clone() }).collect();
    }

    /// There is no need any more for what was proposed.
    fn is_well_again(&self, proposal: &Proposal, now: Mono) -> bool {
        match (proposal.rung, &proposal.server) {
            (Rung::Restart, Some(id)) => self.servers.get(id).is_some_and(|s| {
                let fall = self.policy.health.fall.max(1);
                s.recovery.pending.is_none()
                    && s.need(&self.policy.recovery, fall, now).is_none()
                    && (s.health == Health::Healthy || !s.is_ready())
            }),
            (Rung::Replace, Some(id)) => {
                self.servers.get(id).is_some_and(|s| s.health == Health::Healthy || !s.is_ready())
            }
            (Rung::Scale, _) => self.scaling.wanted.as_ref() != Some(&proposal.what),
            _ => self.incident.is_none(),
        }
    }

    /// What an earlier run left open.
    pub(crate) fn restore_proposals(&mut self, all: &[Proposal]) {
        let mine = all.iter().filter(|p| p.service == self.id && p.end.is_none());
        self.proposals = mine.cloned().collect();
    }
}

impl Out {
    /// It is over: what became of it is written down.
    pub(crate) fn end_proposal(&mut self, mut proposal: Proposal, score: Score) {
        proposal.end = Some(End { at: self.now.wall, score });
        self.record(Record::Proposal(proposal.clone()));
        self.proposals.keep(proposal);
    }
}

impl Model {
    /// Proposals about services that left the config are over.
    pub(crate) fn forget_proposals(
        &mut self,
        restored: &[Proposal],
        services: &BTreeMap<ServiceId, ServicePolicy>,
    ) {
        let open = restored.iter().filter(|p| p.end.is_none() && !services.contains_key(&p.service));
        open.for_each(|proposal| self.out.end_proposal(proposal.clone(), Score::StillBroken));
    }

    /// A person decided on a proposal.
    pub(crate) fn on_decide(&mut self, number: u64, approved: bool, by: &str) {
        let mut services = self.services.iter_mut();
        let out = &mut self.out;
        let owner = services.find_map(|(id, s)| s.on_decided(number, approved, by, out).then(|| id.clone()));
        if let Some(id) = owner {
            self.with(&id, |_, _| {});
        }
    }

    /// All that are open, and the last ones that are over, newest first.
    pub(crate) fn present_proposals(&self) -> Vec<Arc<Proposal>> {
        let open = self.services.values().flat_map(|service| &service.proposals);
        let open = open.map(|proposal| Arc::new(proposal.clone()));
        let mut all: Vec<Arc<Proposal>> = open.chain(self.out.proposals.over.iter().cloned()).collect();
        all.sort_by_key(|proposal| std::cmp::Reverse(proposal.number));
        all
    }
}

#[cfg(test)]
mod tests;
