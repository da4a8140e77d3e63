//! People decide on what Mainstay proposes, late and not always as it would; what nobody allowed is not done.

use mainstay_model::proposal::Proposal;
use mainstay_model::rung::{Level, Levels, Rung};

use super::*;

impl World {
    /// Each rung of every service gets a level of its own.
    pub(super) fn set_levels(policy: &mut Policy, dice: &mut Dice) {
        const ALL: [Level; 4] = [Level::Observe, Level::Suggest, Level::Ask, Level::Automatic];
        for service in policy.services.values_mut() {
            let [restart, roll_back, switch, scale] = [(); 4].map(|()| ALL[dice.range(0, 4) as usize]);
            service.recovery.levels = Levels { restart, roll_back, switch, scale, ..Levels::default() };
        }
    }

    /// Something is proposed: somebody looks at it sooner or later.
    pub(super) fn proposed(&mut self, proposal: &Proposal) {
        assert!(proposal.level != Level::Automatic, "what is automatic is done: {proposal:?}");
        if proposal.is_undecided() && !self.seen_proposals.insert(proposal.number) {
            return;
        }
        let at = self.now + self.dice.range(1, 20_000) * MS;
        self.at(at, Event::Decide(proposal.number));
    }

    pub(super) fn decide(&mut self, number: u64) {
        let Some(proposal) = self.store.proposals.get(&number).cloned() else { return };
        if !proposal.is_undecided() {
            return;
        }
        let declines = !self.quiet && self.dice.chance(20);
        let by = "a person".to_owned();
        // Who makes it ready wants it brought back, too.
        if let Some(server) = &proposal.server {
            self.holds.approved(server);
        }
        self.tell(Input::Decide { proposal: number, approved: !declines, by: by.clone() });
        // Who declines sees to it by hand.
        if declines && let Some(server) = proposal.server {
            self.tell(Input::Admin { server, state: AdminState::Ready, by });
        }
    }

    /// What Mainstay does to a server, somebody has allowed: in the config, or when it asked.
    pub(super) fn is_allowed(&self, order: &ActionOrder) -> bool {
        let service = &self.policy.services.get(&order.server.service);
        let automatic = service.is_none_or(|s| s.recovery.levels.restart == Level::Automatic);
        automatic || self.is_approved(&order.server)
    }

    /// Somebody wants this server restarted.
    pub(super) fn is_approved(&self, server: &ServerId) -> bool {
        self.store.proposals.values().any(|p| {
            let approved = p.decided.as_ref().is_some_and(|decided| decided.approved);
            p.rung == Rung::Restart && p.server.as_ref() == Some(server) && approved && p.end.is_none()
        })
    }
}
