//! How releases are tried: `service.NAME.deploy`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::policy::{DeployPolicy, ServerPolicy};

use super::whole::Resolver;
use crate::config::raw::{RawDeploy, RawService};
use crate::config::read::{At, Field, List, Text};

impl Resolver<'_> {
    /// What is written, or nothing when no command has a place for a release.
    pub(super) fn deploy(
        &self,
        at: &At<RawService>,
        servers: &BTreeMap<Arc<str>, ServerPolicy>,
    ) -> Option<DeployPolicy> {
        let place_for_it = servers.values().any(|server| server.releasable);
        let raw = match &at.value.deploy {
            Field::Bad => return None,
            Field::Absent => {
                if place_for_it {
                    self.mistakes.absent(
                        &at.place,
                        "a command has {release}, and nothing says which release to begin with",
                        "write deploy = { release = \"/srv/shop/1\" }",
                    );
                }
                return None;
            }
            Field::Here(raw) => raw,
        };
        if !place_for_it {
            let remedy = "write command = [\"{release}/bin/shop\", \"--port\", \"{port}\"], or remove deploy";
            self.mistakes.absent(&raw.place, "no command of this service has {release} in it", remedy);
        }
        let (place, raw, default): (_, &RawDeploy, _) = (&raw.place, &raw.value, DeployPolicy::default());
        let first = match &raw.release {
            Field::Here(release) if release.value.0.is_empty() || release.value.0.contains('\0') => {
                self.mistakes.value(&release.place, "not a path", "write \"/srv/shop/1\"");
                None
            }
            Field::Here(release) => self.base_dir.join(&release.value.0).to_str().map(str::to_owned),
            Field::Absent => {
                let remedy = "write release = \"/srv/shop/1\"";
                self.mistakes.absent(place, "nothing says which release to begin with", remedy);
                None
            }
            Field::Bad => None,
        };
        let min_time = self.duration(&raw.min_time, default.min_time, Duration::from_secs(1));
        let deadline = self.duration(&raw.deadline, default.deadline, Duration::from_secs(1));
        // Either may be the one that was written.
        let written = raw.deadline.get().or(raw.min_time.get());
        if let Some(written) = written.filter(|_| deadline <= min_time) {
            self.mistakes.value(
                &written.place,
                "no trial could pass before it is over",
                "make deadline longer than min-time",
            );
        }
        if let (Some(ask), true) = (raw.ask.get(), at.value.listen.get().is_some()) {
            let remedy = "remove it: nobody knows what to ask of a TCP service";
            self.mistakes.value(&ask.place, "paths are asked for by HTTP", remedy);
        }
        let share = self.share(&raw.share, default.share, 0.001);
        if let Some(written) = raw.share.get().filter(|_| share > 0.5) {
            self.mistakes.value(&written.place, "a release on trial gets at most half", "write \"20%\"");
        }
        Some(DeployPolicy {
            first: first?,
            share,
            min_requests: self.count(&raw.min_requests, default.min_requests, 1..=1_000_000),
            min_time,
            deadline,
            watch: self.duration(&raw.watch, default.watch, Duration::ZERO),
            ask: self.asked(&raw.ask),
            warm: self.duration(&raw.warm, default.warm, Duration::ZERO),
            keep: self.count(&raw.keep, default.keep, 1..=100),
        })
    }

    fn asked(&self, paths: &Field<List<Text>>) -> Vec<String> {
        let Some(at) = paths.get() else { return Vec::new() };
        at.value.items.iter().for_each(|item| self.path(&item.value.0, &item.place));
        at.value.items.iter().map(|item| item.value.0.clone()).collect()
    }
}
