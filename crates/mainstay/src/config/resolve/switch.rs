//! The user's own command for switching a service to something else: `service.NAME.switch`.

use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::policy::{Promote, SwitchPolicy};
use mainstay_model::rung::Level;

use super::whole::Resolver;
use super::{Config, SwitchSpec};
use crate::config::raw::{RawService, RawSwitch};
use crate::config::read::{At, Field, List, Text};

impl Resolver<'_> {
    /// What is written, or nothing.
    pub(super) fn switch(
        &self,
        id: &ServiceId,
        at: &At<RawService>,
        level: Level,
        config: &mut Config,
    ) -> Option<SwitchPolicy> {
        let has_state = !at.value.state.is_absent();
        let Some(written) = at.value.switch.get() else {
            // A person may say that somebody else takes the writes from now on.
            let by_person = SwitchPolicy { promote: Promote::Nobody, ..SwitchPolicy::default() };
            return has_state.then_some(by_person);
        };
        let raw: &RawSwitch = &written.value;
        self.promotes(raw, has_state);
        if raw.command.is_absent() && !has_state {
            let remedy = "write command = [\"/usr/local/bin/promote-standby\"]";
            self.mistakes.absent(&written.place, "no command to run", remedy);
        }
        let there = self.program(&raw.command);
        let back = self.program(&raw.back);
        let fence = self.program(&raw.fence);
        self.word(&raw.when, &["down"]);
        if level == Level::Automatic && raw.fence.is_absent() {
            let remedy = "write fence = [\"/usr/local/bin/stop-the-old-primary\"]; [\"/bin/true\"] where nothing is written, or \
                          command sees to it itself";
            self.mistakes.absent(&written.place, "no fence, without which it is not run by itself", remedy);
        }
        let policy = SwitchPolicy {
            after: self.duration(&raw.after, Duration::from_secs(5), Duration::ZERO),
            deadline: self.duration(&raw.deadline, Duration::from_secs(30), Duration::from_millis(100)),
            fence: fence.is_some(),
            can_go_back: back.is_some(),
            promote: match self.word(&raw.promote, &["pg_promote"]) {
                Some(_) => Promote::Postgres,
                None if has_state && raw.command.is_absent() => Promote::Nobody,
                None => Promote::Command,
            },
            lag_max: raw.lag_max.get().map_or(SwitchPolicy::default().lag_max, |at| at.value.0),
        };
        let spec = SwitchSpec { there, fence, back, dir: self.base_dir.to_owned() };
        config.switches.insert(id.clone(), spec);
        Some(policy)
    }

    /// Whether and how Mainstay promotes agrees with the rest.
    fn promotes(&self, raw: &RawSwitch, has_state: bool) {
        let only_with_state = [raw.promote.get().map(|at| &at.place), raw.lag_max.get().map(|at| &at.place)];
        for place in only_with_state.into_iter().flatten().filter(|_| !has_state) {
            self.mistakes.absent(
                place,
                "it says nothing without state",
                "write state = \"postgres\" in its service",
            );
        }
        if let (Some(at), false) = (raw.promote.get(), raw.command.is_absent()) {
            self.mistakes.value(&at.place, "command promotes already", "remove one of them");
        }
        if let (Some(at), true) = (raw.lag_max.get(), raw.promote.is_absent() && has_state) {
            let remedy = "write promote = \"pg_promote\", or remove it";
            self.mistakes.absent(&at.place, "only Mainstay itself goes by lag-max", remedy);
        }
        if let (Some(at), true) = (raw.back.get(), has_state) {
            let what = "servers that keep state have no usual side";
            self.mistakes.value(&at.place, what, "remove it: the way back is another switch");
        }
    }

    fn program(&self, field: &Field<List<Text>>) -> Option<Vec<String>> {
        let command = field.get()?;
        let argv: Vec<String> = command.value.items.iter().map(|item| item.value.0.clone()).collect();
        if argv.first().is_none_or(|program| program.trim().is_empty()) {
            self.mistakes.value(&command.place, "no program to run", "write [\"/usr/local/bin/switch\"]");
            return None;
        }
        for item in command.value.items.iter().filter(|item| item.value.0.contains('\0')) {
            self.mistakes.value(&item.place, "a NUL character cannot be given to a program", "remove it");
        }
        Some(argv)
    }
}
