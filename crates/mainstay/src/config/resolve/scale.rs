//! How many instances of a server there are: `service.NAME.scale`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::policy::{ScalePolicy, ServerPolicy};

use super::whole::Resolver;
use crate::config::raw::{RawScale, RawService};
use crate::config::read::At;

impl Resolver<'_> {
    /// What is written, or nothing.
    pub(super) fn scale(
        &self,
        at: &At<RawService>,
        servers: &BTreeMap<Arc<str>, ServerPolicy>,
    ) -> Option<ScalePolicy> {
        let written = at.value.scale.get()?;
        let (place, raw): (_, &RawScale) = (&written.place, &written.value);
        let template = self.scaled_server(written, servers)?;
        let min = self.count(&raw.min, 1, 1..=100);
        let max = self.count(&raw.max, min, 1..=100);
        if raw.max.is_absent() {
            self.mistakes.absent(place, "nothing says how many instances there may be", "write max = 4");
        } else if let Some(written) = raw.max.get().filter(|_| max < min) {
            self.mistakes.value(&written.place, "max is less than min", "make max the larger one");
        }
        if raw.concurrency.is_absent() {
            let remedy = "write concurrency = 50: requests under way that one instance is meant for";
            self.mistakes.absent(place, "nothing says when one instance is not enough", remedy);
        }
        // The instances have names of their own.
        for n in 2..=max.min(100) {
            let name = format!("{template}-{n}");
            if servers.contains_key(name.as_str()) {
                let what = format!("server {name} has the name of an instance of {template}");
                self.mistakes.absent(place, what, format!("call server {name} otherwise, or {template}"));
            }
        }
        Some(ScalePolicy {
            template,
            min,
            max,
            concurrency: self.count(&raw.concurrency, 50, 1..=100_000),
            in_after: self.duration(&raw.in_after, Duration::from_secs(300), Duration::from_secs(1)),
        })
    }

    /// The server that is scaled: the one that is named, or the only one with a command.
    fn scaled_server(
        &self,
        written: &At<RawScale>,
        servers: &BTreeMap<Arc<str>, ServerPolicy>,
    ) -> Option<Arc<str>> {
        let mut supervised = servers.iter().filter(|(_, policy)| policy.supervised).map(|(name, _)| name);
        if let Some(named) = written.value.server.get() {
            let name = named.value.0.as_str();
            return match servers.get_key_value(name) {
                Some((name, policy)) if policy.supervised => Some(Arc::clone(name)),
                Some(_) => {
                    let what = "Mainstay does not run this server, so it cannot start another one";
                    self.mistakes.value(&named.place, what, "name a server with command");
                    None
                }
                None => {
                    self.mistakes.value(
                        &named.place,
                        "no server of this service has this name",
                        "name one that has",
                    );
                    None
                }
            };
        }
        match (supervised.next(), supervised.next()) {
            (Some(only), None) => Some(Arc::clone(only)),
            (Some(first), Some(_)) => {
                let remedy = format!("write server = \"{first}\"");
                self.mistakes.absent(&written.place, "several servers have a command", remedy);
                None
            }
            (None, _) => {
                let remedy =
                    "write command = [\"./shop\", \"--port\", \"{port}\"] for a server, or remove scale";
                self.mistakes.absent(
                    &written.place,
                    "Mainstay runs no server of this service itself",
                    remedy,
                );
                None
            }
        }
    }
}
