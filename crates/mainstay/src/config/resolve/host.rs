//! The machine: whether it is watched, which of its file systems, and when it is in trouble.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_model::host::{HostPolicy, HostReport};

use super::{HostConfig, Resolver};
use crate::config::raw::RawHost;
use crate::config::read::{Field, OneOrMany, Text};

/// A mean over more seconds would come too late to be of use.
const SUSTAINED_MAX: Duration = Duration::from_secs(3600);

impl Resolver<'_> {
    /// What is watched, if anything is, and when a machine is in trouble.
    pub(super) fn host(&self, field: &Field<RawHost>, data: &Path) -> (Option<HostConfig>, HostPolicy) {
        let absent = RawHost::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let default = HostPolicy::default();
        let sustained = self.duration(&raw.sustained, default.sustained, Duration::from_secs(1));
        if let Some(at) = raw.sustained.get()
            && sustained > SUSTAINED_MAX
        {
            self.mistakes.value(&at.place, "must be at most 1h", "the default is \"30s\"");
        }
        let policy = HostPolicy {
            cpu_high: self.share(&raw.cpu_high, default.cpu_high, 0.01),
            memory_low: self.share(&raw.memory_low, default.memory_low, 0.0),
            sustained,
            disk_full: self.share(&raw.disk_full, default.disk_full, 0.01),
            disk_full_within: self.duration(&raw.disk_full_within, default.disk_full_within, Duration::ZERO),
        };
        let config = HostConfig { data: data.to_owned(), disks: self.disks(&raw.disks) };
        let watched = raw.watch.get().is_none_or(|at| at.value);
        (watched.then_some(config), policy)
    }

    fn disks(&self, field: &Field<OneOrMany<Text>>) -> Vec<PathBuf> {
        // The root and the data directory take two places.
        const MOST: usize = HostReport::DISKS_MAX - 2;
        let Some(list) = field.get() else { return Vec::new() };
        let items = &list.value.0.items;
        if items.len() > MOST {
            self.mistakes.value(&list.place, format!("at most {MOST} are watched"), "name fewer");
        }
        let path = |item: &crate::config::read::At<Text>| {
            let path = Path::new(&item.value.0);
            if !path.is_absolute() || item.value.0.contains('\0') {
                let remedy =
                    format!("write the whole path: \"/{}\"", item.value.0.trim_start_matches(['.', '/']));
                self.mistakes.value(&item.place, "not a folder of this machine", remedy);
            }
            path.to_owned()
        };
        items.iter().map(path).collect()
    }
}
