//! People turn the freeze switch in the middle of everything; it outlives Mainstay.

use mainstay_model::freeze::Freeze;

use super::*;

impl World {
    /// Somebody turns the switch on, renews it, or turns it off.
    pub(super) fn somebody_freezes(&mut self) {
        let on = self.frozen.is_none() || self.dice.chance(50);
        let lasts = self.dice.range(1, 60_000) as i64;
        self.frozen = on.then(|| Freeze {
            until: Wall(self.clock().wall.0 + lasts),
            by: "somebody".to_owned(),
            why: String::new(),
        });
        self.tell(Input::Freeze(self.frozen.clone()));
    }

    /// One that has run out is over for good, also when the wall clock goes back.
    pub(super) fn freeze_runs_out(&mut self) {
        if !self.is_frozen() {
            self.frozen = None;
        }
    }

    /// The switch is on.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.as_ref().is_some_and(|freeze| self.clock().wall < freeze.until)
    }

    /// Nobody freezes anything any more.
    pub(super) fn thaw(&mut self) {
        self.frozen = None;
        self.tell(Input::Freeze(None));
        assert_eq!(self.snapshot().freeze, None);
    }
}
