//! Who asks most: the busiest networks of an interval, in a fixed number of places (Space-Saving: Metwally, Agrawal and
//! El Abbadi, 2005).
//!
//! What is reported of a network is what it asked for certain, so a crowd of many never looks like a few who ask much.

use mainstay_model::ServiceId;
use mainstay_model::input::{SourceTraffic, TrafficReport};

use super::visitor::Network;

/// Networks that are looked at; whoever asks more than one in so many requests is surely among them.
const PLACES: usize = 64;

/// The busiest networks of one service on one worker.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    places: Vec<Source>,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    network: Network,
    requests: u64,
    /// Of `requests`, counted for others before it took their place.
    inherited: u64,
    limited: u64,
}

impl Sources {
    /// Counts a request.
    pub(crate) fn add(&mut self, network: Network, limited: bool) {
        let limited = u64::from(limited);
        if let Some(source) = self.places.iter_mut().find(|source| source.network == network) {
            source.requests += 1;
            source.limited += limited;
            return;
        }
        let new = Source { network, requests: 1, inherited: 0, limited };
        if self.places.len() < PLACES {
            return self.places.push(new);
        }
        if let Some(least) = self.places.iter_mut().min_by_key(|source| source.requests) {
            *least = Source { requests: least.requests + 1, inherited: least.requests, ..new };
        }
    }

    /// What was counted since the last call.
    pub(crate) fn take(&mut self, service: &ServiceId) -> Vec<SourceTraffic> {
        let report = |source: Source| SourceTraffic {
            service: service.clone(),
            network: source.network.to_string(),
            requests: source.requests - source.inherited,
            limited: source.limited,
        };
        std::mem::take(&mut self.places).into_iter().map(report).collect()
    }
}

/// Adds another worker's or interval's sources, the busiest first, and keeps no more than are worth it.
pub(crate) fn merge(into: &mut Vec<SourceTraffic>, other: Vec<SourceTraffic>) {
    for source in other {
        match into.iter_mut().find(|s| s.service == source.service && s.network == source.network) {
            Some(same) => {
                same.requests += source.requests;
                same.limited += source.limited;
            }
            None => into.push(source),
        }
    }
    into.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.network.cmp(&b.network)));
    into.truncate(PLACES);
}

/// The busiest alone, as they are reported.
pub(crate) fn busiest(mut sources: Vec<SourceTraffic>) -> Vec<SourceTraffic> {
    sources.truncate(TrafficReport::SOURCES_MAX);
    sources
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn network(n: u32) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    fn shop() -> ServiceId {
        ServiceId::new("shop")
    }

    #[test]
    fn the_busiest_are_found_among_a_crowd_and_nobody_in_the_crowd_looks_busy() {
        let mut sources = Sources::default();
        for n in 0..10_000 {
            sources.add(network(1_000_000 + n), false);
            if n % 5 == 0 {
                sources.add(network(1), true);
            }
        }
        let mut merged = Vec::new();
        merge(&mut merged, sources.take(&shop()));
        assert_eq!(merged.len(), PLACES);
        assert_eq!((merged[0].network.as_str(), merged[0].limited), ("0.0.0.1", 2000));
        assert_eq!(merged[0].requests, 2000);
        assert!(merged[1..].iter().all(|source| source.requests <= 2), "{:?}", &merged[1..3]);
        assert_eq!(sources.take(&shop()), [], "an interval begins with nobody");
    }

    #[test]
    fn workers_add_up_and_only_the_busiest_are_reported() {
        let of = |n: u32, requests| SourceTraffic {
            service: shop(),
            network: network(n).to_string(),
            requests,
            limited: requests / 2,
        };
        let mut merged = Vec::new();
        merge(&mut merged, (0..20).map(|n| of(n, u64::from(n))).collect());
        merge(&mut merged, vec![of(19, 100), of(3, 50)]);
        let busiest = busiest(merged);
        assert_eq!(busiest.len(), TrafficReport::SOURCES_MAX);
        assert_eq!((busiest[0].network.as_str(), busiest[0].requests), ("0.0.0.19", 119));
        assert_eq!(
            (busiest[1].network.as_str(), busiest[1].requests, busiest[1].limited),
            ("0.0.0.3", 53, 26)
        );
    }
}
