//! What a service takes on: from what was written to what the data plane keeps to.

use std::sync::Arc;
use std::time::Duration;

use mainstay_model::limits::{AddressLimit, Level, Limits, Priority, Room, Subnet};

use mainstay_proxy::ClientLimits;

use super::whole::Resolver;
use crate::config::mistake::Place;
use crate::config::raw::{RawLimits, RawListen, RawPriority, RawServer, RawService};
use crate::config::read::{At, Field, OneOrMany, Text};

/// A queue holds a connection for each that waits; more than this is no queue but a leak.
const QUEUE_MAX: u32 = 100_000;
/// More requests of one service at once than a machine has room for.
pub(super) const CONCURRENT_MAX: u32 = 1_000_000;
/// Connections of visitors at once, unless the config says otherwise.
pub(super) const CONNECTIONS: u32 = 20_000;
/// More than a machine has descriptors for.
const CONNECTIONS_MOST: u32 = 10_000_000;
/// Deadlines are looked at that often.
const QUEUE_DEADLINE_LEAST: Duration = Duration::from_millis(100);

impl Resolver<'_> {
    /// The limits of a service.
    pub(super) fn limits(&self, service: &At<RawService>, trusted_proxies: &[Subnet]) -> Arc<Limits> {
        let absent = RawLimits::default();
        let raw = service.value.limits.get().map_or(&absent, |at| &at.value);
        let room = self.room(raw);
        let servers_have_room = service.value.server.get().is_some_and(|servers| {
            let has_limit =
                |server: &Field<RawServer>| server.get().is_some_and(|at| !at.value.concurrent.is_absent());
            servers.value.0.iter().any(|(_, server)| has_limit(server))
        });
        let has_room = room.is_some() || servers_have_room;
        let priorities = self.priorities(&service.value.priority, has_room);
        Arc::new(Limits {
            per_address: self.per_address(raw),
            exempt: raw.exempt.get().map_or_else(Vec::new, |at| self.subnets(&at.value)),
            trusted_proxies: trusted_proxies.to_vec(),
            room,
            priorities,
            body_max: raw.body_max.get().map(|at| at.value.0),
        })
    }

    /// `listen.trusted-proxies`, which every service goes by.
    pub(super) fn trusted_proxies(&self, listen: &Field<RawListen>) -> Vec<Subnet> {
        let written = listen.get().and_then(|listen| listen.value.trusted_proxies.get());
        written.map_or_else(Vec::new, |at| self.subnets(&at.value))
    }

    /// `listen.connections`.
    pub(super) fn connections(&self, listen: &RawListen) -> usize {
        self.count(&listen.connections, CONNECTIONS, 1..=CONNECTIONS_MOST) as usize
    }

    /// What one client may take.
    pub(super) fn client_limits(
        &self,
        listen: &RawListen,
        connections: usize,
        exempt: Vec<Subnet>,
    ) -> ClientLimits {
        let half = u32::try_from(connections / 2).unwrap_or(CONNECTIONS).max(1);
        let most = self.count(&listen.connections_per_address, half, 1..=CONNECTIONS_MOST);
        let default = ClientLimits::default().requests_per_connection;
        let requests_per_connection = self.count(&listen.requests_per_connection, default, 1..=u32::MAX);
        ClientLimits { connections_per_address: most as usize, exempt, requests_per_connection }
    }

    fn per_address(&self, raw: &RawLimits) -> Option<AddressLimit> {
        let Some(at) = raw.per_address.get() else {
            let alone = [raw.burst.get().map(|at| &at.place), raw.exempt.get().map(|at| &at.place)];
            for place in alone.into_iter().flatten().filter(|_| raw.per_address.is_absent()) {
                self.says_nothing(place, "per-address = \"50/s\"");
            }
            return None;
        };
        let (requests, per) = (at.value.0, at.value.1);
        let burst = self.count(&raw.burst, requests, 1..=1_000_000);
        Some(AddressLimit { requests, per, burst, close: raw.close.get().is_some_and(|at| at.value) })
    }

    fn room(&self, raw: &RawLimits) -> Option<Room> {
        let queue = self.count(&raw.queue, Room::QUEUE, 0..=QUEUE_MAX);
        let queue_deadline = self.duration(&raw.queue_deadline, Room::QUEUE_DEADLINE, QUEUE_DEADLINE_LEAST);
        if raw.concurrent.is_absent() {
            let other = [
                raw.queue.get().map(|at| &at.place).filter(|_| queue != Room::QUEUE),
                raw.queue_deadline
                    .get()
                    .map(|at| &at.place)
                    .filter(|_| queue_deadline != Room::QUEUE_DEADLINE),
                raw.adaptive.get().filter(|at| at.value).map(|at| &at.place),
            ];
            for place in other.into_iter().flatten() {
                self.says_nothing(place, "concurrent = 200");
            }
            return None;
        }
        let concurrent = self.count(&raw.concurrent, 200, 1..=CONCURRENT_MAX);
        let adaptive = raw.adaptive.get().is_some_and(|at| at.value);
        Some(Room { concurrent, adaptive, queue, queue_deadline })
    }

    fn priorities(
        &self,
        field: &Field<crate::config::read::List<RawPriority>>,
        has_room: bool,
    ) -> Vec<Priority> {
        let Some(at) = field.get() else { return Vec::new() };
        if !has_room && !at.value.is_empty() {
            let remedy = "write limits.concurrent = 200, or remove it";
            self.mistakes.absent(&at.place, "priority says nothing without limits.concurrent", remedy);
        }
        let mut priorities: Vec<Priority> = Vec::new();
        for item in &at.value.items {
            let Some(priority) = self.priority(item) else { continue };
            if priorities.iter().any(|other| other.path == priority.path) {
                let what = format!("{} has a level already", priority.path);
                self.mistakes.absent(&item.place, what, "keep one of the two");
            }
            priorities.push(priority);
        }
        priorities
    }

    fn priority(&self, item: &At<RawPriority>) -> Option<Priority> {
        let remedy = "write { path = \"/checkout\", level = \"high\" }";
        for (absent, what) in [
            (item.value.path.is_absent(), "path is missing"),
            (item.value.level.is_absent(), "level is missing"),
        ] {
            if absent {
                self.mistakes.absent(&item.place, what, remedy);
            }
        }
        let path = item.value.path.get()?;
        let text = &path.value.0;
        if !text.starts_with('/') || text.contains(['?', '#']) {
            self.mistakes.value(&path.place, "not a path", "write \"/checkout\", without a query");
        }
        let level = match self.word(&item.value.level, &["high", "normal", "low"])? {
            "high" => Level::High,
            "low" => Level::Low,
            _ => Level::Normal,
        };
        Some(Priority { path: text.clone(), level })
    }

    pub(super) fn subnets(&self, list: &OneOrMany<Text>) -> Vec<Subnet> {
        let subnet = |item: &At<Text>| match item.value.0.parse::<Subnet>() {
            Ok(subnet) => Some(subnet),
            Err(bad) => {
                self.mistakes.value(&item.place, bad.to_string(), "write \"10.0.0.0/8\" or \"192.0.2.7\"");
                None
            }
        };
        list.0.items.iter().filter_map(subnet).collect()
    }

    fn says_nothing(&self, place: &Place, without: &str) {
        let key = without.split(' ').next().unwrap_or_default();
        let what = format!("says nothing without {key}");
        self.mistakes.absent(place, what, format!("write {without}, or remove it"));
    }
}
