//! The routing table: all that the data plane knows of the judgement, immutable and swapped whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::carriage::Carriage;
use crate::drill::Injection;
use crate::endpoint::Endpoint;
use crate::id::{ServerId, ServiceId};
use crate::limits::Room;

/// Where requests go, for every service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoutingTable {
    /// Counts up with each table of one run.
    pub version: u64,
    /// In the order of their names.
    pub services: Vec<RoutedService>,
}

/// Where requests for one service go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutedService {
    /// The service.
    pub id: ServiceId,
    /// How its requests are carried.
    pub carriage: Arc<Carriage>,
    /// Which servers `targets` are.
    pub mode: RoutingMode,
    /// A new release on trial: beside the targets, and given its share of the requests by chance alone.
    pub trial: Option<Trial>,
    /// Servers in rotation. Empty only when no server has an address or all are drained or in maintenance.
    pub targets: Vec<Target>,
    /// Not in rotation, but tried as a last resort before a visitor is refused: backups first, then ejected servers.
    /// Never a server that is drained or in maintenance.
    pub last_resort: Vec<Target>,
    /// Servers that a person drains and that are well: they may go on with visitors that keep to them by a cookie.
    #[serde(default)]
    pub draining: Vec<Target>,
    /// Servers that Mainstay is about to end, and that have less time to finish than the service's others would.
    #[serde(default)]
    pub leaving: Vec<Leaving>,
}

/// A server that is about to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Which.
    pub server: ServerId,
    /// What is under way there may go on for so long since it left rotation.
    pub within: Duration,
}

/// Which servers carry a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingMode {
    /// The healthy primaries.
    #[default]
    Normal,
    /// Too few primaries: the healthy backups share the traffic.
    Backup,
    /// Too few healthy servers of any role: traffic goes to all, health notwithstanding.
    Panic,
    /// There is no server to send to: visitors get the 503 page.
    Nobody,
}

/// An instance of a new release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Where it is. Its own share is not used.
    pub target: Target,
    /// Its part (0 to 1) of the requests.
    pub share: f64,
}

/// One server that requests may be sent to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The server.
    pub id: ServerId,
    /// Where it listens now.
    pub address: Endpoint,
    /// Its part of the traffic relative to the other targets: weight times slow start, more than 0.
    pub share: f64,
    /// So many requests at most are under way there at once, over all workers; `None`: as many as come.
    pub concurrent: Option<u32>,
    /// It is spoken to over TLS.
    #[serde(default)]
    pub tls: bool,
    /// It is to seem as broken as this, for a drill.
    #[serde(default)]
    pub injection: Option<Injection>,
}

impl RoutedService {
    /// The room that the data plane keeps to: the config's, and no more than all servers in rotation take at once where
    /// each of them has a limit of its own. What is over waits in the queue.
    pub fn room(&self) -> Option<Room> {
        let all: Option<u32> = self
            .targets
            .iter()
            .map(|target| target.concurrent)
            .try_fold(0u32, |sum, n| Some(sum.saturating_add(n?)));
        let room = self.carriage.limits.room;
        match all.filter(|_| !self.targets.is_empty()) {
            Some(all) => {
                let room = room.unwrap_or(Room::of(all));
                Some(Room { concurrent: room.concurrent.min(all), ..room })
            }
            None => room,
        }
    }

    /// Whether requests may be refused for how many they are.
    pub fn counts_requests(&self) -> bool {
        self.carriage.limits.per_address.is_some() || self.room().is_some()
    }
}

/// What names in DNS are to say, for every service that names follow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveTable {
    /// In the order of their names.
    pub services: Vec<LiveService>,
}

/// Where names that follow one service are to lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveService {
    /// The service.
    pub id: ServiceId,
    /// In their order. Empty only as long as not a single address is known.
    pub addresses: Vec<IpAddr>,
    /// Something is wrong, so answers should not be kept for long.
    pub trouble: bool,
    /// Everything was looked at once in this run. Before, what another server says already is not to be changed.
    pub settled: bool,
}
