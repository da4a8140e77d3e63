//! The user's own command for switching a service to something else: `service.NAME.switch`.

use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::policy::SwitchPolicy;
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
        let written = at.value.switch.get()?;
        let raw: &RawSwitch = &written.value;
        if raw.command.is_absent() {
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
        };
        let spec = SwitchSpec { there: there?, fence, back, dir: self.base_dir.to_owned() };
        config.switches.insert(id.clone(), spec);
        Some(policy)
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
