//! What disks and file systems say of themselves: errors that the kernel counts. What was counted before Mainstay looked for
//! the first time says nothing of now; only what comes is judged.
//!
//! A file system counts what it could not read, write or understand: one error is one too many. A disk also counts commands
//! that it merely does not know, such as those of a program that asks for its health; so it takes some errors within a spell.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Judged;
use crate::host::{HostPart, HostReport, IoErrors};
use crate::time::Mono;
use crate::words::{count, span};

/// Without a new error for so long a spell is over.
pub(super) const CALM_AFTER: Duration = Duration::from_secs(600);
/// Errors of a disk within one spell that are no accident.
const OF_A_DISK: u64 = 5;
/// An error of so long ago has nothing to do with what fails now.
const FRESH: Duration = Duration::from_secs(60);
/// A device of which nothing was heard for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1200);

/// Every device of which errors are counted.
#[derive(Debug, Default)]
pub(super) struct DeviceErrors {
    devices: BTreeMap<String, Device>,
}

#[derive(Debug)]
struct Device {
    of_filesystem: bool,
    count: u64,
    since: Mono,
    at: Mono,
    spell: Option<Spell>,
}

/// Errors that came one after the other.
#[derive(Debug)]
struct Spell {
    began: Mono,
    last: Mono,
    errors: u64,
}

impl DeviceErrors {
    /// What was counted up to now.
    pub(super) fn read(&mut self, errors: &[IoErrors], now: Mono) {
        for found in errors.iter().take(HostReport::DEVICES_MAX) {
            let device = self.devices.entry(found.name()).or_insert_with(|| Device {
                of_filesystem: found.filesystem.is_some(),
                count: found.count,
                since: now,
                at: now,
                spell: None,
            });
            device.at = now;
            // One that was counted anew, after a repair for one, has fewer.
            let more = found.count.saturating_sub(device.count);
            device.count = found.count;
            if device.spell.as_ref().is_some_and(|spell| now.since(spell.last) >= CALM_AFTER) {
                device.spell = None;
            }
            if more > 0 {
                let spell = device.spell.get_or_insert(Spell { began: now, last: now, errors: 0 });
                spell.last = now;
                spell.errors = spell.errors.saturating_add(more);
            }
        }
        self.devices.retain(|_, device| now.since(device.at) < FORGOTTEN_AFTER);
        while self.devices.len() > 2 * HostReport::DEVICES_MAX {
            self.devices.pop_first();
        }
    }

    /// What each of them is judged to be.
    pub(super) fn judge(&self, machine: &str, now: Mono) -> impl Iterator<Item = (HostPart, Judged)> {
        self.devices
            .iter()
            .map(move |(name, device)| (HostPart::Device(name.clone()), device.judge(machine, name, now)))
    }

    /// One that has just failed.
    pub(super) fn failing(&self, machine: &str, now: Mono) -> Option<String> {
        let fails = |device: &Device| {
            device
                .spell()
                .is_some_and(|spell| now.since(spell.last) <= FRESH && now.since(device.at) <= FRESH)
        };
        let (name, _) = self.devices.iter().find(|(_, device)| fails(device))?;
        Some(format!("the disk {name} of {machine} reports errors"))
    }

    pub(super) fn is_within_limits(&self) -> bool {
        self.devices.len() <= 2 * HostReport::DEVICES_MAX
    }
}

impl Device {
    /// The errors, if they are no accident.
    fn spell(&self) -> Option<&Spell> {
        let enough = if self.of_filesystem { 1 } else { OF_A_DISK };
        self.spell.as_ref().filter(|spell| spell.errors >= enough)
    }

    fn judge(&self, machine: &str, name: &str, now: Mono) -> Judged {
        if now.since(self.at) > FRESH {
            return Judged::unknown();
        }
        let Some(spell) = self.spell() else {
            // After a restart nobody knows how long it has been calm.
            let calm = now.since(self.since) >= CALM_AFTER;
            return Judged { verdict: calm.then_some(false), missing: false, ..Judged::unknown() };
        };
        let over = now.since(spell.began).max(Duration::from_secs(1));
        let errors = count(spell.errors, "error");
        let evidence = vec![format!("{name}: {errors} in the last {}, {} in all", span(over), self.count)];
        let title = format!("the disk {name} of {machine} reports {errors}");
        Judged { verdict: Some(true), missing: false, title, evidence, ..Judged::unknown() }
    }
}
