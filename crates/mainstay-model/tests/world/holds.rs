//! What must hold of every restart by what the world itself saw, whatever the judge believes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_model::effect::{ActionKind, ActionOrder};
use mainstay_model::{ActionId, ServerId, ServiceId};

use super::servers::Attempt;
use super::{SECOND, World};

/// What visitors got in so long before.
const LATELY: u64 = 5 * SECOND;
/// So many good answers, and no bad one, are twice what the judge asks for (`min-requests`) before it believes them.
const ENOUGH: usize = 40;
/// The judge forgives what went before after half of so long.
const FOR: u64 = 2 * SECOND;
/// Whoever does not hear in so long how an order ended has given it up.
const GIVEN_UP: u64 = 30 * SECOND;

#[derive(Default)]
pub struct Holds {
    /// When each server answered a visitor lately, and whether well.
    answers: BTreeMap<ServerId, VecDeque<(u64, bool)>>,
    /// The restart of a running server of each service that was ordered last, and when, until its outcome is known.
    under_way: BTreeMap<ServiceId, (ActionId, ServerId, u64)>,
    /// When each server last refused a visitor, or answered one badly: what came back was no silence.
    spoke_ill: BTreeMap<ServerId, u64>,
    /// Whose restart a person approved: it is done also where visitors are served.
    approved: BTreeSet<ServerId>,
}

impl Holds {
    /// A visitor's request came to this server.
    pub fn answered(&mut self, server: &ServerId, well: bool, now: u64) {
        let answers = self.answers.entry(server.clone()).or_default();
        answers.retain(|(at, _)| now - at < LATELY);
        answers.push_back((now, well));
    }

    /// A visitor's request came back from this server, and not well.
    pub fn spoke_ill(&mut self, server: &ServerId, now: u64) {
        self.spoke_ill.insert(server.clone(), now);
    }

    /// That was a moment ago, so that it may be taken out by one who has seen nothing since.
    pub fn has_just_spoken_ill(&self, server: &ServerId, now: u64) -> bool {
        self.spoke_ill.get(server).is_some_and(|at| now - at < 2 * SECOND)
    }

    /// Something happened to this server: what it answered before says nothing.
    pub fn forget(&mut self, server: &ServerId) {
        self.answers.remove(server);
    }

    /// A person wants this server restarted.
    pub fn approved(&mut self, server: &ServerId) {
        self.approved.insert(server.clone());
    }

    /// Mainstay was told how an action ended.
    pub fn ended(&mut self, action: ActionId) {
        self.under_way.retain(|_, (id, ..)| *id != action);
    }

    /// Whoever gave the orders is gone.
    pub fn mainstay_restarted(&mut self) {
        self.under_way.clear();
    }

    fn serves(&self, server: &ServerId, now: u64) -> bool {
        let Some(answers) = self.answers.get(server) else { return false };
        let lately = answers.iter().filter(|(at, _)| now - at < LATELY);
        let newest = lately.clone().next_back().is_some_and(|(at, _)| now - at < SECOND);
        let for_a_while = lately.clone().next().is_some_and(|(at, _)| now - at >= FOR);
        newest && for_a_while && lately.clone().count() >= ENOUGH && lately.clone().all(|(_, well)| *well)
    }
}

impl World {
    /// Nobody by whom visitors are served well is restarted but by a person's word, and not two of a service that run at once.
    pub(super) fn check_holds(&mut self, order: &ActionOrder) {
        let id = &order.server;
        if order.kind == ActionKind::Stop {
            self.holds.under_way.retain(|_, (_, server, _)| server != id);
        }
        let runs = self.servers.get(id).is_some_and(|s| s.pid.is_some() || !s.supervised);
        if order.kind != ActionKind::Restart || !runs {
            return;
        }
        let reason = &order.reason;
        let server = &self.servers[id];
        let answers = server.address().map(|address| server.attempt(&address, self.now));
        let answers = matches!(answers, Some(Attempt::Answered(200, _)));
        let approved = self.holds.approved.remove(id);
        assert!(
            approved || !answers || !self.holds.serves(id, self.now),
            "{id} serves visitors, and was restarted: {reason}"
        );
        let before = self.holds.under_way.insert(id.service.clone(), (order.id, id.clone(), self.now));
        if let Some((_, other, at)) = before {
            let given_up = self.now - at >= GIVEN_UP;
            let left = self.policy.server(&other).is_none();
            assert!(other == *id || given_up || left, "{id} was restarted while {other} was: {reason}");
        }
    }
}
