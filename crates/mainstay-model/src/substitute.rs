//! A new instance in the place of a server that cannot be brought back: made, put in when it is well, and the old one taken out.
//!
//! It is the rung after restarts: for a server whose restarts are spent or did not help, and for one that nobody can restart once it
//! has been down for `after`. Who makes the instance is the provider: Mainstay itself (one more process of a server with a
//! `command`), the Docker Engine, or a program of the user's.
//!
//! An instance is judged by its probes before it gets anything; one that is not well within `healthy-within` is taken away again,
//! and a person is called. When it is well it starts slowly, and the old one gets nothing more until a person makes it ready: then
//! it is brought back, and the instance leaves once the old one carries its full share. What a provider made is destroyed
//! `destroy-after` later, and nothing else ever is.
//!
//! Each step is written down before it is taken, and its outcome after. What an earlier run had begun to make may be there: the
//! provider is asked, and nothing is made twice. What nobody can tell is a person's to find out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::{ActionKind, Effect, Record};
use crate::endpoint::Endpoint;
use crate::helped::VAIN_MAX;
use crate::id::{ActionId, IncidentId, ServerId, ServiceId};
use crate::incident::EntryKind;
use crate::out::Out;
use crate::outside::OUTCOME_MARGIN;
use crate::policy::{Provider, ReplacePolicy, ServerPolicy};
use crate::recovery::{Need, Refusal};
use crate::replace::DRAIN_MAX;
use crate::rung::{Level, Rung};
use crate::server::{Origin, Server, Standing, Verdict};
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::{Mono, Wall};
use crate::words::{count, span};

/// The budget of replacements looks back so far.
pub const BUDGET_SPAN: Duration = Duration::from_secs(24 * 3600);
/// Replacements of a service that are remembered.
const KEPT_MAX: usize = 100;

/// One replacement of a server, from its beginning to the end of the instance that was made for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Substitute {
    /// Its number among all actions.
    pub action: ActionId,
    /// The server of the config whose place it takes.
    pub server: ServerId,
    /// Who is taken out for it: that server, or an earlier substitute.
    pub instead_of: ServerId,
    /// Its own name.
    pub id: ServerId,
    /// The server of the config whose command it runs.
    pub template: Arc<str>,
    /// Mainstay runs it itself.
    pub supervised: bool,
    /// By what it was made, for a person: `docker shop:42`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The incident that it is to mend.
    pub incident: Option<IncidentId>,
    /// When it was begun.
    pub at: Wall,
    /// What the provider made.
    pub made: Option<Made>,
    /// How far it is.
    pub stage: Stage,
    /// Since when.
    pub since: Wall,
    /// It was in rotation.
    pub served: bool,
    /// What went wrong with it.
    pub error: Option<String>,
}

/// How far a replacement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is being made.
    Making,
    /// It is there, and has yet to be well.
    Starting,
    /// It serves in the old one's place.
    Serving,
    /// It serves, and a person wants the old one back.
    Yielding,
    /// It gets nothing more, and is destroyed in a while.
    Leaving,
    /// It is being destroyed.
    Destroying,
    /// It is no more, or is nothing of Mainstay's any longer.
    Over,
}

impl Stage {
    /// The word used in the record, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Making => "making",
            Stage::Starting => "starting",
            Stage::Serving => "serving",
            Stage::Yielding => "yielding",
            Stage::Leaving => "leaving",
            Stage::Destroying => "destroying",
            Stage::Over => "over",
        }
    }

    /// How it stands, in a sentence about the instance.
    pub fn in_words(self) -> &'static str {
        match self {
            Stage::Making => "is being made",
            Stage::Starting => "is to be well before it serves",
            Stage::Serving => "serves in its place",
            Stage::Yielding => "serves until the old one carries its full share",
            Stage::Leaving => "gets nothing more, and will be destroyed",
            Stage::Destroying => "is being destroyed",
            Stage::Over => "is no more",
        }
    }
}

/// What a provider made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The provider's own name for it.
    pub id: String,
    /// Where it listens.
    pub address: Endpoint,
}

/// What a provider is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvideOrder {
    /// Its number among all actions: that of the replacement.
    pub action: ActionId,
    /// In whose place.
    pub server: ServerId,
    /// The instance's name here.
    pub instance: ServerId,
    /// What is to be done.
    pub task: ProvideTask,
    /// Why.
    pub reason: String,
    /// The incident that it is to mend.
    pub incident: Option<IncidentId>,
    /// It is given up after so long.
    pub deadline: Duration,
}

/// What a provider can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvideTask {
    /// Make the instance and start it.
    Create,
    /// Find out whether it was made, by an earlier run.
    Find,
    /// Destroy what was made under this name of the provider's.
    Destroy(String),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provided {
    /// It is there.
    Made(Made),
    /// It surely is not there: why not, or an empty text after it was destroyed.
    Nothing(String),
    /// Nobody can tell: why.
    NotKnown(String),
}

/// One replacement, and what of it is not written down.
#[derive(Debug)]
struct Known {
    record: Substitute,
    /// When its stage is over, or is given up.
    due: Option<Mono>,
    /// An earlier run had begun it, and the provider is asked what became of it.
    looking: bool,
}

/// The replacements of a service.
#[derive(Debug, Default)]
pub(crate) struct Substitutes {
    all: BTreeMap<ActionId, Known>,
    /// Why a server is not replaced just now.
    refused: BTreeMap<ServerId, Refusal>,
    /// Servers of which people were told that there is no room for a replacement.
    full: BTreeSet<ServerId>,
}

impl Substitutes {
    fn live(&self) -> impl Iterator<Item = &Substitute> {
        self.all.values().map(|known| &known.record).filter(|one| one.stage != Stage::Over)
    }

    /// The instance that is being made or has yet to be well.
    pub(crate) fn under_way(&self) -> Option<&Substitute> {
        self.live().find(|one| matches!(one.stage, Stage::Making | Stage::Starting))
    }

    /// Something is waited for that reports of requests may tell.
    pub(crate) fn is_busy(&self) -> bool {
        self.live().any(|one| one.stage == Stage::Leaving)
    }

    fn of(&self, id: &ServerId) -> Option<&Substitute> {
        self.live().find(|one| one.id == *id)
    }

    /// Who serves in the place of this server of the config.
    pub(crate) fn in_place_of(&self, server: &ServerId) -> Option<&Substitute> {
        self.live().find(|one| one.server == *server && one.stage == Stage::Serving)
    }

    /// It is an instance that gets nothing, or a server whose place is taken.
    pub(crate) fn keeps_aside(&self, id: &ServerId) -> bool {
        self.of(id).is_some_and(|one| !matches!(one.stage, Stage::Serving | Stage::Yielding))
            || self.in_place_of(id).is_some()
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.all.len() <= KEPT_MAX
    }
}

impl Service {
    /// Goes on with replacements. `true`: somebody serves by it, or does not any more.
    pub(crate) fn advance_substitutes(&mut self, out: &mut Out) -> bool {
        let numbers: Vec<ActionId> = self.substitutes.all.keys().copied().collect();
        let mut moved = false;
        for number in numbers {
            moved |= self.advance_substitute(number, out);
        }
        moved
    }

    fn advance_substitute(&mut self, number: ActionId, out: &mut Out) -> bool {
        let now = out.now.mono;
        let Some(known) = self.substitutes.all.get(&number) else { return false };
        let is_due = known.due.is_some_and(|due| now >= due);
        let one = known.record.clone();
        match one.stage {
            Stage::Making | Stage::Destroying if is_due => {
                let late = Provided::NotKnown("it had no outcome in time".to_owned());
                self.on_provided(number, late, out);
                true
            }
            Stage::Starting => self.bring_up(&one, is_due, out),
            Stage::Serving => {
                self.end_replaced(&one, is_due, out);
                false
            }
            Stage::Yielding => self.yield_to(&one, out),
            Stage::Leaving if is_due => self.destroy(&one, out),
            _ => false,
        }
    }

    /// It is put in when it is well, and taken away when it is not in time, or needed no longer.
    fn bring_up(&mut self, one: &Substitute, late: bool, out: &mut Out) -> bool {
        let now = out.now.mono;
        if one.supervised
            && let Some(server) = self.servers.get_mut(&one.id)
            && server.recovery.start_wanted
            && server.process.pid.is_none()
            && server.recovery.pending.is_none()
        {
            server.recovery.start_wanted = false;
            let reason = format!("it is to take the place of {}", one.instead_of.name);
            self.order(&one.id, ActionKind::Start, false, &reason, out);
            return false;
        }
        let Some(server) = self.servers.get(&one.id) else { return false };
        if server.probes.passed && server.probes.verdict == Verdict::Good {
            self.put_in(one, out);
            return true;
        }
        let old = self.servers.get(&one.instead_of);
        if old.is_none_or(|old| old.is_ready() && old.eligible && old.health == Health::Healthy) {
            let text = format!("{} is well by itself: {} is not needed", one.instead_of.name, one.id.name);
            self.tell_of_substitute(one, EntryKind::ActionDone, text, out);
            self.forget_action(Rung::Replace, None);
            self.take_away(one, None, out);
            return true;
        }
        let ended = server.is_ended() && !server.recovery.may_yet_start(now);
        if !ended && !late {
            return false;
        }
        let why = match &server.process.ended {
            Some(why) if one.supervised => format!("its process {why}"),
            _ => {
                let within =
                    self.policy.replace.as_ref().map_or_else(Duration::default, |p| p.healthy_within);
                let seen = if server.probes.because.is_empty() { "no probe" } else { &server.probes.because };
                format!("it was not well within {} (healthy-within): {seen}", span(within))
            }
        };
        let error = format!(
            "{} was made in the place of {} and is not well: {why}",
            one.id.name, one.instead_of.name
        );
        self.replacement_failed(one, error.clone(), out);
        self.take_away(one, Some(error), out);
        true
    }

    fn put_in(&mut self, one: &Substitute, out: &mut Out) {
        let now = out.now;
        if let Some(server) = self.servers.get_mut(&one.id) {
            server.standing = Standing::Serves;
            server.fresh = false;
            server.hold_until = None;
            server.changed(now.wall, format!("serves in the place of {}", one.instead_of.name));
        }
        let after = self.policy.replace.as_ref().map_or(Duration::ZERO, |policy| policy.destroy_after);
        self.stage_of(one.action, Stage::Serving, Some(now.mono + after), out, |one| one.served = true);
        let text = format!("{} is well, and takes the place of {}", one.id.name, one.instead_of.name);
        self.tell_of_substitute(one, EntryKind::ActionDone, text, out);
        self.action_is_done(Rung::Replace, None, now.mono);
        self.set_aside(&one.instead_of, &format!("{} took its place", one.id.name), out);
        let earlier = self.substitutes.of(&one.instead_of).cloned();
        if let Some(earlier) = earlier {
            self.leave(&earlier, None, out);
        }
    }

    /// It gets nothing more.
    fn set_aside(&mut self, id: &ServerId, why: &str, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.standing = Standing::Aside(out.now.mono);
        server.changed(out.now.wall, format!("gets nothing more: {why}"));
        let text = format!("{} gets nothing more: {why}", id.name);
        if let Some(open) = &mut self.incident {
            open.entry(EntryKind::Changed, Some(id), None, text, out);
        }
    }

    /// A process that was replaced by another one is ended in the end.
    fn end_replaced(&mut self, one: &Substitute, is_due: bool, out: &mut Out) {
        let runs = |s: &Server| {
            s.process.pid.is_some()
                && s.recovery.pending.is_none()
                && matches!(s.standing, Standing::Aside(_))
        };
        if !is_due {
            return;
        }
        if let Some(known) = self.substitutes.all.get_mut(&one.action) {
            known.due = None;
        }
        if one.supervised && self.servers.get(&one.server).is_some_and(runs) {
            let reason = format!("{} took its place", one.id.name);
            self.order(&one.server, ActionKind::Stop, false, &reason, out);
        }
    }

    /// A person wants a server back whose place is taken.
    pub(crate) fn wants_back(&mut self, id: &ServerId, by: &str, out: &mut Out) -> bool {
        let Some(one) = self.substitutes.in_place_of(id).cloned() else { return false };
        self.stage_of(one.action, Stage::Yielding, None, out, |_| {});
        if let Some(server) = self.servers.get_mut(id) {
            server.standing = Standing::Serves;
            server.changed(out.now.wall, format!("to be brought back: {by} wants it"));
        }
        let text =
            format!("{} is to be brought back by {by}'s wish; {} serves until then", id.name, one.id.name);
        self.tell_of_substitute(&one, EntryKind::Changed, text, out);
        true
    }

    /// The old one is back, or is lost again.
    fn yield_to(&mut self, one: &Substitute, out: &mut Out) -> bool {
        let Some(old) = self.servers.get(&one.server) else { return false };
        if old.eligible && old.slow_since.is_none() && old.health == Health::Healthy {
            self.set_aside(&one.id, &format!("{} is back", one.server.name), out);
            self.leave(one, None, out);
            return true;
        }
        if old.is_ready() && self.is_lost(&one.server, old, out).is_some() {
            self.stage_of(one.action, Stage::Serving, None, out, |_| {});
            self.set_aside(
                &one.server,
                &format!("it could not be brought back, and {} serves", one.id.name),
                out,
            );
            return true;
        }
        false
    }

    /// It gets nothing any more, and is destroyed in a while.
    fn leave(&mut self, one: &Substitute, error: Option<String>, out: &mut Out) {
        let after = self.policy.replace.as_ref().map_or(Duration::ZERO, |policy| policy.destroy_after);
        self.stage_of(one.action, Stage::Leaving, Some(out.now.mono + after), out, |one| one.error = error);
    }

    /// It never served: it is destroyed at once.
    fn take_away(&mut self, one: &Substitute, error: Option<String>, out: &mut Out) {
        self.stage_of(one.action, Stage::Leaving, Some(out.now.mono), out, |one| one.error = error);
    }

    fn destroy(&mut self, one: &Substitute, out: &mut Out) -> bool {
        let now = out.now.mono;
        let busy = self.servers.get(&one.id).is_some_and(|server| one.served && !server.is_drained(now));
        if busy {
            return false;
        }
        if one.supervised {
            self.stage_of(one.action, Stage::Over, None, out, |_| {});
            self.remove_server(&one.id, "another server serves in its place", out);
            return true;
        }
        let Some(made) = &one.made else {
            self.stage_of(one.action, Stage::Over, None, out, |_| {});
            return true;
        };
        self.remove_server(&one.id, "it is destroyed", out);
        let task = ProvideTask::Destroy(made.id.clone());
        self.ask_provider(one, Stage::Destroying, task, out);
        true
    }

    /// A provider says what became of what it was asked to do.
    pub(crate) fn on_provided(&mut self, number: ActionId, provided: Provided, out: &mut Out) {
        let Some(known) = self.substitutes.all.get_mut(&number) else { return };
        let looking = std::mem::take(&mut known.looking);
        let one = known.record.clone();
        match (one.stage, provided) {
            (Stage::Making, Provided::Made(made)) => {
                let text = match looking {
                    true => format!(
                        "{} was made before Mainstay was restarted: {} at {}",
                        one.id.name, made.id, made.address
                    ),
                    false => format!("{} was made: {} at {}", one.id.name, made.id, made.address),
                };
                self.tell_of_substitute(&one, EntryKind::Found, text, out);
                self.is_made(&one, made, out);
            }
            (Stage::Making, Provided::Nothing(why)) => {
                let failed = (!looking).then(|| format!("{} could not be made: {why}", one.id.name));
                match &failed {
                    Some(error) => self.replacement_failed(&one, error.clone(), out),
                    None => {
                        let text =
                            format!("{} was not made before Mainstay was restarted: {why}", one.id.name);
                        self.tell_of_substitute(&one, EntryKind::ActionFailed, text, out);
                    }
                }
                self.stage_of(number, Stage::Over, None, out, |one| one.error = failed);
            }
            (Stage::Making, Provided::NotKnown(why)) => {
                let error = format!("whether {} was made is not known: {why}", one.id.name);
                self.replacement_failed(&one, error.clone(), out);
                self.stage_of(number, Stage::Over, None, out, |one| one.error = Some(error));
            }
            (Stage::Destroying, Provided::Made(made)) => {
                let task = ProvideTask::Destroy(made.id);
                self.ask_provider(&one, Stage::Destroying, task, out);
            }
            (Stage::Destroying, Provided::Nothing(_)) => {
                let text = format!("{} was destroyed", one.id.name);
                self.tell_of_substitute(&one, EntryKind::ActionDone, text, out);
                self.stage_of(number, Stage::Over, None, out, |_| {});
            }
            (Stage::Destroying, Provided::NotKnown(why)) => {
                let made = one.made.as_ref().map_or("", |made| made.id.as_str());
                let error = format!("whether {} ({made}) was destroyed is not known: {why}", one.id.name);
                self.tell_of_substitute(&one, EntryKind::ActionFailed, error.clone(), out);
                let advice = format!("See whether {made} is still there, and destroy it yourself: {why}");
                if let Some(open) = &mut self.incident {
                    open.tell_needs_person_anew(advice, out);
                }
                self.stage_of(number, Stage::Over, None, out, |one| one.error = Some(error));
            }
            // Given up meanwhile.
            _ => {}
        }
    }

    fn is_made(&mut self, one: &Substitute, made: Made, out: &mut Out) {
        let within = self.policy.replace.as_ref().map_or(Duration::ZERO, |policy| policy.healthy_within);
        let address = made.address.clone();
        self.stage_of(one.action, Stage::Starting, Some(out.now.mono + within), out, |one| {
            one.made = Some(made)
        });
        if self.add_substitute(one, out) {
            self.on_address(&one.id, Some(address), out);
        }
    }

    /// The instance as a server, which gets nothing yet.
    fn add_substitute(&mut self, one: &Substitute, out: &mut Out) -> bool {
        let Some(policy) = self.substitute_policy(one) else { return false };
        let mut server = Server::new(policy, &self.policy, out.now);
        server.origin = Origin::Substitute(Arc::clone(&one.template));
        server.standing = Standing::Aside(out.now.mono);
        server.fresh = false;
        self.servers.insert(one.id.clone(), server);
        true
    }

    /// How the instance is looked at and what it gets: as the server whose place it takes.
    fn substitute_policy(&self, one: &Substitute) -> Option<ServerPolicy> {
        let place = self.policy.servers.get(&one.server.name)?;
        let (role, weight, concurrent) = (place.role, place.weight, place.concurrent);
        if one.supervised {
            let template = self.policy.servers.get(&one.template).filter(|template| template.supervised)?;
            return Some(ServerPolicy { role, weight, concurrent, ..template.clone() });
        }
        let tls = place.tls;
        Some(ServerPolicy { role, weight, concurrent, tls, ..ServerPolicy::default() })
    }

    fn ask_provider(&mut self, one: &Substitute, stage: Stage, task: ProvideTask, out: &mut Out) {
        let deadline = self.policy.replace.as_ref().map_or(Duration::from_secs(60), |policy| policy.deadline);
        self.stage_of(one.action, stage, Some(out.now.mono + deadline + OUTCOME_MARGIN), out, |_| {});
        out.effect(Effect::Provide(ProvideOrder {
            action: one.action,
            server: one.server.clone(),
            instance: one.id.clone(),
            task,
            reason: one.reason.clone(),
            incident: one.incident,
            deadline,
        }));
    }

    /// It has come so far, which is written down.
    fn stage_of(
        &mut self,
        number: ActionId,
        stage: Stage,
        due: Option<Mono>,
        out: &mut Out,
        change: impl FnOnce(&mut Substitute),
    ) {
        let Some(known) = self.substitutes.all.get_mut(&number) else { return };
        change(&mut known.record);
        known.record.stage = stage;
        known.record.since = out.now.wall;
        known.due = due;
        out.record(Record::Substitute(known.record.clone()));
    }

    fn tell_of_substitute(&mut self, one: &Substitute, kind: EntryKind, text: String, out: &mut Out) {
        if let Some(open) = &mut self.incident {
            open.entry(kind, Some(&one.server), Some(one.action), text, out);
        }
    }

    /// Nothing took the server's place: a person is called.
    fn replacement_failed(&mut self, one: &Substitute, error: String, out: &mut Out) {
        self.forget_action(Rung::Replace, None);
        let advice = format!(
            "Bring {} back yourself, or put another server in its place: {error}. Mainstay does not try again by itself",
            one.server.name
        );
        if let Some(server) = self.servers.get_mut(&one.server) {
            server.changed(out.now.wall, error.clone());
        }
        self.tell_of_substitute(one, EntryKind::ActionFailed, error, out);
        if let Some(open) = &mut self.incident {
            open.tell_needs_person_anew(advice, out);
        }
    }

    /// Replaces a server that cannot be brought back. `true`: one is being replaced from now on.
    pub(crate) fn replace_who_is_lost(&mut self, out: &mut Out) -> bool {
        let Some(policy) = self.policy.replace.clone() else { return false };
        let lost =
            |(id, server): (&ServerId, &Server)| self.is_lost(id, server, out).map(|why| (id.clone(), why));
        let lost: Vec<(ServerId, String)> = self.servers.iter().filter_map(lost).collect();
        self.substitutes.refused.retain(|id, _| lost.iter().any(|(other, _)| other == id));
        self.substitutes.full.retain(|id| lost.iter().any(|(other, _)| other == id));
        for (id, why) in lost {
            if let Some(no_room) = self.has_no_room(&id, &policy, out) {
                self.tell_no_room(&id, no_room, out);
                continue;
            }
            self.substitutes.full.remove(&id);
            let verdict = self.may_replace(&id, out);
            if let Err(refusal) = self.weigh_grant(Rung::Replace, Some(&id), verdict, out) {
                self.refuse_replacement(&id, refusal, out);
                continue;
            }
            self.substitutes.refused.remove(&id);
            let level = self.policy.recovery.levels.replace;
            let (level, why) = match self.failed_before(&id) {
                Some(error) if level == Level::Automatic => (Level::Ask, format!("{why}; {error}")),
                _ => (level, why),
            };
            let what = format!("replace {} by a new instance", id.name);
            if self.is_to_be_done_at(level, Rung::Replace, Some(&id), &what, &why, out) {
                self.begin_substitute(&id, &policy, why, out);
                return true;
            }
        }
        false
    }

    /// Why a server cannot be brought back by what comes before.
    fn is_lost(&self, id: &ServerId, server: &Server, out: &Out) -> Option<String> {
        let policy = self.policy.replace.as_ref()?;
        let now = out.now.mono;
        let mine = match &server.origin {
            Origin::Config => true,
            Origin::Substitute(_) => self.substitutes.of(id).is_some_and(|one| one.stage == Stage::Serving),
            Origin::Beside(_) | Origin::Scaled(_) => false,
        };
        let under_way = server.recovery.pending.is_some() || server.recovery.outside.is_looking();
        if !mine || !server.is_ready() || under_way || out.is_stopping(id) {
            return None;
        }
        let need = server.need(&self.policy.recovery, self.policy.health.fall.max(1), now)?;
        let (Need::Dead(reason) | Need::Hang(reason) | Need::Ill(reason)) = need else { return None };
        if !server.is_restartable() {
            let since = server.probes.run_since?;
            let long = now >= since + policy.after;
            return long.then(|| {
                format!(
                    "Mainstay cannot restart it, and it has been down for {}: {reason}",
                    span(policy.after)
                )
            });
        }
        if server.recovery.spent {
            return Some(format!("its restarts are spent: {reason}"));
        }
        let in_vain = server.recovery.in_vain >= VAIN_MAX;
        in_vain.then(|| format!("{} in a row did not help: {reason}", count(VAIN_MAX.into(), "restart")))
    }

    /// A server that cannot be brought back is replaced, or a person is asked to decide on it; so nobody need be called for less.
    pub(crate) fn is_replaced_next(&self, id: &ServerId) -> bool {
        let config =
            self.servers.get(id).is_some_and(|s| matches!(s.origin, Origin::Config | Origin::Substitute(_)));
        config && self.policy.replace.is_some() && self.policy.recovery.levels.replace >= Level::Ask
    }

    /// In this incident it was tried, and failed.
    fn failed_before(&self, id: &ServerId) -> Option<String> {
        let incident = self.incident.as_ref().map(|open| open.incident().id)?;
        let failed = self.substitutes.all.values().map(|known| &known.record);
        let mut failed = failed.filter(|one| one.instead_of == *id && one.incident == Some(incident));
        failed.find_map(|one| one.error.clone())
    }

    /// Why there is no room for a replacement, in a sentence without a full stop.
    fn has_no_room(&self, id: &ServerId, policy: &ReplacePolicy, out: &Out) -> Option<String> {
        let serves =
            |one: &&Substitute| !matches!(one.stage, Stage::Leaving | Stage::Destroying) && one.id != *id;
        let there = self.substitutes.live().filter(serves).count();
        if there >= policy.max as usize {
            return Some(format!(
                "{} take{} the place of others already (max = {})",
                count(there as u64, "instance"),
                if there == 1 { "s" } else { "" },
                policy.max
            ));
        }
        let young = |one: &Substitute| u128::from(out.now.wall.ms_since(one.at).max(0).unsigned_abs());
        let lately = self.substitutes.all.values().map(|known| &known.record);
        let lately = lately.filter(|one| young(one) < BUDGET_SPAN.as_millis()).count();
        (lately >= policy.budget as usize).then(|| {
            format!(
                "{} in {} are spent (budget = {})",
                count(lately as u64, "replacement"),
                span(BUDGET_SPAN),
                policy.budget
            )
        })
    }

    /// Told once a spell.
    fn tell_no_room(&mut self, id: &ServerId, why: String, out: &mut Out) {
        if self.substitutes.under_way().is_some() || !self.substitutes.full.insert(id.clone()) {
            return;
        }
        if let Some(server) = self.servers.get_mut(id) {
            server.changed(out.now.wall, format!("not replaced: {why}"));
        }
        let Some(open) = &mut self.incident else { return };
        open.entry(
            EntryKind::BudgetSpent,
            Some(id),
            None,
            format!("{} is not replaced: {why}", id.name),
            out,
        );
        open.tell_needs_person(format!("Look at why {} does not get well: {why}", id.name), out);
    }

    /// Told once a spell. What passes in a moment is not told.
    fn refuse_replacement(&mut self, id: &ServerId, refusal: Refusal, out: &mut Out) {
        let before = self.substitutes.refused.insert(id.clone(), refusal.clone());
        if !refusal.is_told() || before.is_some_and(|before| before.is_like(&refusal)) {
            return;
        }
        if let Some(server) = self.servers.get_mut(id) {
            server.changed(out.now.wall, format!("not replaced: {refusal}"));
        }
        let Some(open) = &mut self.incident else { return };
        open.entry(
            EntryKind::Withheld,
            Some(id),
            None,
            format!("{} is not replaced: {refusal}", id.name),
            out,
        );
        open.tell_needs_person(
            format!("Look at why {} does not get well; it is not replaced: {refusal}", id.name),
            out,
        );
    }

    fn begin_substitute(&mut self, lost: &ServerId, policy: &ReplacePolicy, reason: String, out: &mut Out) {
        let server = self.substitutes.of(lost).map_or_else(|| lost.clone(), |one| one.server.clone());
        let action = out.next_action();
        let (supervised, template) = match &policy.by {
            Provider::Process(template) => (true, Arc::clone(template)),
            Provider::Other(_) => (false, Arc::clone(&server.name)),
        };
        let one = Substitute {
            action,
            id: self.id.server(format!("{}-r{}", server.name, action.0)),
            server,
            instead_of: lost.clone(),
            template,
            supervised,
            by: policy.by.to_string(),
            reason,
            incident: self.incident.as_ref().map(|open| open.incident().id),
            at: out.now.wall,
            made: None,
            stage: Stage::Making,
            since: out.now.wall,
            served: false,
            error: None,
        };
        let text = format!(
            "{} is made by {} in the place of {}, because {}",
            one.id.name, one.by, lost.name, one.reason
        );
        self.tell_of_substitute(&one, EntryKind::ActionBegun, text, out);
        self.watch_action(
            Rung::Replace,
            Some(action),
            None,
            format!("the replacement of {}", lost.name),
            out,
        );
        out.fleet.restarts(lost, out.now.mono);
        self.forget_old_substitutes(out);
        self.substitutes.all.insert(action, Known { record: one.clone(), due: None, looking: false });
        if supervised {
            let within = policy.healthy_within;
            self.stage_of(action, Stage::Starting, Some(out.now.mono + within), out, |_| {});
            self.add_substitute(&one, out);
        } else {
            self.ask_provider(&one, Stage::Making, ProvideTask::Create, out);
        }
    }

    fn forget_old_substitutes(&mut self, out: &Out) {
        let old = |one: &Substitute| out.now.wall.ms_since(one.at) >= BUDGET_SPAN.as_millis() as i64;
        let all = &mut self.substitutes.all;
        all.retain(|_, known| known.record.stage != Stage::Over || !old(&known.record));
        while all.len() >= KEPT_MAX {
            let over = all.iter().find(|(_, known)| known.record.stage == Stage::Over);
            let Some(number) = over.map(|(number, _)| *number) else { return };
            all.remove(&number);
        }
    }

    /// What an earlier run left.
    pub(crate) fn restore_substitutes(&mut self, all: &[Substitute], out: &mut Out) {
        let mine = all.iter().filter(|one| one.id.service == self.id).cloned();
        for one in mine.collect::<Vec<_>>() {
            let known = Known { record: one.clone(), due: None, looking: false };
            self.substitutes.all.insert(one.action, known);
            self.take_up_substitute(&one, out);
        }
    }

    fn take_up_substitute(&mut self, one: &Substitute, out: &mut Out) {
        let now = out.now;
        let policy = self.policy.replace.clone().unwrap_or_default();
        let passed = Duration::from_millis(now.wall.ms_since(one.since).max(0).unsigned_abs());
        let due = match one.stage {
            Stage::Over => return,
            Stage::Making | Stage::Destroying => {
                self.ask_provider(one, one.stage, ProvideTask::Find, out);
                if let Some(known) = self.substitutes.all.get_mut(&one.action) {
                    known.looking = true;
                }
                return;
            }
            Stage::Starting => Some(now.mono + policy.healthy_within),
            Stage::Serving | Stage::Leaving => Some(now.mono + policy.destroy_after.saturating_sub(passed)),
            Stage::Yielding => None,
        };
        if let Some(known) = self.substitutes.all.get_mut(&one.action) {
            known.due = due;
        }
        if !self.add_substitute(one, out) {
            return;
        }
        let serves = matches!(one.stage, Stage::Serving | Stage::Yielding);
        if let Some(server) = self.servers.get_mut(&one.id) {
            server.fresh = serves;
            if serves {
                server.standing = Standing::Serves;
            }
            if one.stage == Stage::Leaving {
                server.recovery.start_wanted = false;
            }
        }
        if one.stage == Stage::Serving
            && let Some(old) = self.servers.get_mut(&one.server)
        {
            old.standing = Standing::Aside(now.mono);
        }
        if let Some(made) = &one.made {
            self.on_address(&one.id, Some(made.address.clone()), out);
        }
    }

    /// The config is new: instances whose place is gone, or of which it says nothing any more, go.
    pub(crate) fn apply_substitutes(&mut self, out: &mut Out) {
        let live: Vec<Substitute> = self.substitutes.live().cloned().collect();
        for one in live {
            let policy = self.substitute_policy(&one).filter(|_| self.policy.replace.is_some());
            if let Some(policy) = policy {
                if let Some(server) = self.servers.get_mut(&one.id) {
                    server.policy = policy;
                }
                continue;
            }
            if let Some(old) = self.servers.get_mut(&one.server)
                && one.stage == Stage::Serving
            {
                old.standing = Standing::Serves;
            }
            let why = "the config has no place for it any more";
            if self.servers.contains_key(&one.id) {
                self.dismiss_server(&one.id, why, out);
            }
            let made = one.made.as_ref().map(|made| made.id.as_str());
            let error = made.map(|made| format!("{why}, and {made} was not destroyed"));
            if let Some(error) = &error {
                self.tell_of_substitute(
                    &one,
                    EntryKind::ActionFailed,
                    format!("{}: {error}", one.id.name),
                    out,
                );
            }
            self.stage_of(one.action, Stage::Over, None, out, |one| one.error = error.or(one.error.take()));
        }
    }

    /// When something about them is next due.
    pub(crate) fn substitutes_due(&self, now: Mono) -> Option<Mono> {
        let drains = |known: &Known| match self.servers.get(&known.record.id)?.standing {
            Standing::Aside(since) if known.record.stage == Stage::Leaving => Some(since + DRAIN_MAX),
            _ => None,
        };
        let dues = self.substitutes.all.values().flat_map(|known| [known.due, drains(known)]);
        let after = self.policy.replace.as_ref().map(|policy| policy.after);
        let runs = self.servers.values().filter(|s| !s.is_restartable()).filter_map(|s| s.probes.run_since);
        let lost = runs.filter_map(|since| Some(since + after?));
        dues.flatten().chain(lost).filter(|at| *at > now).min()
    }

    /// The replacements as people see them, newest first.
    pub(crate) fn present_substitutes(&self) -> Vec<Substitute> {
        self.substitutes.all.values().rev().map(|known| known.record.clone()).collect()
    }
}

/// The service that a replacement is about.
impl Substitute {
    /// Whose it is.
    pub fn service(&self) -> &ServiceId {
        &self.id.service
    }
}

#[cfg(test)]
mod tests;
