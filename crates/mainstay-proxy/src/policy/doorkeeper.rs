//! How many connections one address may hold, over all workers.
//!
//! Only addresses that hold a connection have an entry, so the table is never larger than the limit of all connections. Each shard
//! has a lock of its own, taken when a connection comes and when it goes, and never for a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_model::limits::Subnet;

use super::visitor::{HashKey, Network};

/// Each with a lock of its own, so that workers rarely meet.
const SHARDS: usize = 64;

/// What one client may take of Mainstay itself, whichever service it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections of one IPv4 address or IPv6 /64 at once, over all workers. By default half of all that there may be: so no
    /// address alone shuts all others out, and no office or carrier behind one address is ever in its way.
    pub connections_per_address: usize,
    /// Addresses of which there may be any number: proxies in front, that bring many visitors.
    pub exempt: Vec<Subnet>,
    /// Requests over one connection before it is closed with an answer (nginx: 1,000, to free memory that it keeps for a connection;
    /// Mainstay keeps none, and closes one only so that none sticks to a thread for ever).
    pub requests_per_connection: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { connections_per_address: 10_000, exempt: Vec::new(), requests_per_connection: 100_000 }
    }
}

/// Open connections by who made them.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    /// By which networks find their shard: random, so that nobody can aim at one.
    key: HashKey,
    shards: Box<[Mutex<HashMap<Network, usize>>]>,
}

/// One connection's part in its address's number; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    doorkeeper: Arc<Doorkeeper>,
    network: Network,
}

impl Doorkeeper {
    pub(crate) fn new(key: HashKey) -> Self {
        Self { key, shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() }
    }

    /// Takes a connection from this address on; `None`: it holds as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr, limits: &ClientLimits) -> Option<Held> {
        let network = Network::of(from);
        let mut shard = self.shard(network);
        let held = shard.entry(network).or_insert(0);
        let from = from.to_canonical();
        if *held >= limits.connections_per_address && !limits.exempt.iter().any(|net| net.contains(from)) {
            return None;
        }
        *held += 1;
        drop(shard);
        Some(Held { doorkeeper: Arc::clone(self), network })
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, usize>> {
        let shard = network.hash(&self.key) as usize % SHARDS;
        // A count stays a count whatever thread panicked.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut shard = self.doorkeeper.shard(self.network);
        match shard.get_mut(&self.network) {
            Some(held) if *held > 1 => *held -= 1,
            _ => {
                shard.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper() -> Arc<Doorkeeper> {
        Arc::new(Doorkeeper::new(HashKey::new([5; 16])))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_holds_as_many_as_it_may_and_gives_each_back() {
        let (keeper, limits) =
            (keeper(), ClientLimits { connections_per_address: 2, ..ClientLimits::default() });
        let first = keeper.enter(ip("192.0.2.1"), &limits);
        let second = keeper.enter(ip("::ffff:192.0.2.1"), &limits);
        assert!(first.is_some() && second.is_some());
        assert!(keeper.enter(ip("192.0.2.1"), &limits).is_none());
        assert!(keeper.enter(ip("192.0.2.2"), &limits).is_some(), "another address has its own");
        drop(first);
        let third = keeper.enter(ip("192.0.2.1"), &limits);
        assert!(third.is_some() && keeper.enter(ip("192.0.2.1"), &limits).is_none());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_proxy_in_front_has_no_limit() {
        let exempt = vec!["10.0.0.0/8".parse().expect("a network")];
        let limits = ClientLimits { connections_per_address: 1, exempt, ..ClientLimits::default() };
        let keeper = keeper();
        let held = keeper.enter(ip("2001:db8:0:1::1"), &limits);
        assert!(held.is_some() && keeper.enter(ip("2001:db8:0:1:ffff::2"), &limits).is_none());
        assert!(keeper.enter(ip("2001:db8:0:2::1"), &limits).is_some());
        let all: Vec<_> = (0..50).filter_map(|_| keeper.enter(ip("10.1.2.3"), &limits)).collect();
        assert_eq!(all.len(), 50);
    }

    #[test]
    fn who_holds_nothing_takes_no_memory() {
        let (keeper, limits) =
            (keeper(), ClientLimits { connections_per_address: 1, ..ClientLimits::default() });
        for n in 0..10_000u32 {
            let from = IpAddr::from(n.to_be_bytes());
            let held = keeper.enter(from, &limits);
            assert!(held.is_some() && keeper.enter(from, &limits).is_none());
        }
        assert!(keeper.shards.iter().all(|shard| shard.lock().expect("no thread panicked").is_empty()));
    }
}
