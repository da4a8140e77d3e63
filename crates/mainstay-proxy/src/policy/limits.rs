//! How often one address may ask: a token bucket for each, in a table that never grows.
//!
//! A bucket is one number, the time at which it will be full again (GCRA, as ATM's rate control has it): a bucket that is
//! full says nothing, so its place is free. The table is a set-associative cache shared by all workers: a keyed hash of
//! the address chooses one of the sets, and in a full set the newcomer takes the place of the bucket that is nearest to
//! full, so of the address that owes least. Whoever is over the limit owes most and stays: a stranger drives it out only
//! with [`WAYS`] addresses in the same set that owe more, and nobody knows the key to aim with. Against more addresses
//! than the table has places, each of them over its limit, a limit per address is no help anyway.
//!
//! The bound: [`SHARDS`] × [`SETS`] × [`WAYS`] = 65,536 buckets of 16 bytes are 1 MiB for each service with such a limit.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_model::limits::AddressLimit;

use super::visitor::{HashKey, Network};

/// Each with a lock of its own, so that workers rarely meet.
const SHARDS: usize = 64;
/// In a shard.
const SETS: usize = 128;
/// Buckets in a set.
const WAYS: usize = 8;

/// The buckets of all addresses that asked lately.
#[derive(Debug)]
pub(crate) struct AddressTable {
    key: HashKey,
    /// Time is counted from here, in nanoseconds.
    epoch: Instant,
    shards: Box<[Mutex<Shard>]>,
}

type Shard = Box<[Bucket]>;

/// One address's bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    address: u64,
    /// When it is full again; in the past: it is full.
    full_at: u64,
}

impl AddressTable {
    pub(crate) fn new(key: HashKey, epoch: Instant) -> Self {
        let shard = || Mutex::new(vec![Bucket::default(); SETS * WAYS].into_boxed_slice());
        Self { key, epoch, shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    /// Takes a token out of an address's bucket.
    ///
    /// # Errors
    /// When there is none: how long until there is one. A refusal takes nothing, so that who goes on asking still gets
    /// what the limit allows. `now` must be the present: an older one would forgive what was taken since.
    pub(crate) fn take(&self, from: Network, limit: &AddressLimit, now: Instant) -> Result<(), Duration> {
        let now = nanos(now.saturating_duration_since(self.epoch));
        let token = (nanos(limit.per) / u64::from(limit.requests.max(1))).max(1);
        let whole = token.saturating_mul(u64::from(limit.burst.max(1)));
        let address = from.hash(&self.key);
        let (mut shard, set) = self.set(address);
        let set = &mut shard[set..set + WAYS];
        let place = set.iter().position(|bucket| bucket.address == address).unwrap_or_else(|| {
            let nearest_to_full = set.iter().enumerate().min_by_key(|(_, bucket)| bucket.full_at);
            let (place, _) = nearest_to_full.unwrap_or((0, &Bucket::default()));
            set[place] = Bucket { address, full_at: 0 };
            place
        });
        let bucket = &mut set[place];
        // Under a limit that was just lowered nobody owes more than a whole bucket.
        bucket.full_at = bucket.full_at.clamp(now, now.saturating_add(whole));
        let full_at = bucket.full_at.saturating_add(token);
        let over = full_at.saturating_sub(now.saturating_add(whole));
        if over > 0 {
            return Err(Duration::from_nanos(over));
        }
        bucket.full_at = full_at;
        Ok(())
    }

    fn set(&self, address: u64) -> (MutexGuard<'_, Shard>, usize) {
        let shard = address as usize % SHARDS;
        let set = address as usize / SHARDS % SETS;
        (self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner), set * WAYS)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn limit(requests: u32, per_ms: u64, burst: u32) -> AddressLimit {
        AddressLimit { requests, per: Duration::from_millis(per_ms), burst, close: false }
    }

    fn table(now: Instant) -> AddressTable {
        AddressTable::new(HashKey::new([3; 16]), now)
    }

    fn v4(n: u32) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    #[test]
    fn a_whole_bucket_may_be_taken_at_once_and_then_what_flows_in() {
        let t = Instant::now();
        let (table, limit) = (table(t), limit(10, 1000, 5));
        let taken = (0..20).filter(|_| table.take(v4(1), &limit, t).is_ok()).count();
        assert_eq!(taken, 5);
        assert_eq!(table.take(v4(1), &limit, t), Err(Duration::from_millis(100)));
        assert_eq!(table.take(v4(2), &limit, t), Ok(()), "another address has its own");
        let later = t + Duration::from_millis(250);
        let taken = (0..20).filter(|_| table.take(v4(1), &limit, later).is_ok()).count();
        assert_eq!(taken, 2);
        let much_later = t + Duration::from_secs(3600);
        let taken = (0..20).filter(|_| table.take(v4(1), &limit, much_later).is_ok()).count();
        assert_eq!(taken, 5, "a bucket holds no more than it holds");
    }

    #[test]
    fn a_lowered_limit_holds_at_once_and_asks_for_no_old_debt() {
        let t = Instant::now();
        let table = table(t);
        let generous = limit(1, 60_000, 60);
        (0..60).for_each(|_| table.take(v4(1), &generous, t).expect("within the limit"));
        let brief = limit(10, 1000, 1);
        assert_eq!(table.take(v4(1), &brief, t), Err(Duration::from_millis(100)));
        assert_eq!(table.take(v4(1), &brief, t + Duration::from_millis(200)), Ok(()));
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_lets_the_limited_off() {
        let t = Instant::now();
        let (table, limit) = (table(t), limit(50, 1000, 50));
        let attackers: Vec<Network> = (0..20).map(v4).collect();
        let mut allowed = 0;
        for step in 0..100u32 {
            let now = t + Duration::from_millis(u64::from(step) * 10);
            for attacker in &attackers {
                allowed += (0..5).filter(|_| table.take(*attacker, &limit, now).is_ok()).count();
            }
            // A thousand strangers in each hundredth of a second, no address twice.
            for stranger in 0..1000 {
                let network = u128::from(step * 1000 + stranger + 1) << 64;
                let address = IpAddr::V6(Ipv6Addr::from_bits(network));
                assert_eq!(table.take(Network::of(address), &limit, now), Ok(()), "a stranger is served");
            }
        }
        let entitled = 20 * (50 + 50 * 99 / 100 + 1);
        assert!(allowed <= entitled, "{allowed} of {entitled}");
        assert!(allowed * 100 >= entitled * 97, "{allowed} of {entitled}");
        let places: usize = table.shards.iter().map(|shard| shard.lock().map_or(0, |s| s.len())).sum();
        assert_eq!((places, std::mem::size_of::<Bucket>()), (65_536, 16));
    }

    #[test]
    fn all_workers_together_keep_to_the_limit() {
        let t = Instant::now();
        let (table, limit) = (table(t), limit(100, 1000, 100));
        let allowed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| table.take(v4(1), &limit, t).is_ok()).count()))
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("a worker")).sum()
        });
        assert_eq!(allowed, 100);
    }

    proptest! {
        /// Against the plain definition: a bucket with a number of tokens that fills by the clock.
        #[test]
        fn it_is_a_token_bucket(
            requests in 1..20u32,
            burst in 1..20u32,
            asks in prop::collection::vec((0..4u32, 0..400u64), 1..200),
        ) {
            let t = Instant::now();
            let (table, limit) = (table(t), limit(requests, 1000, burst));
            // In millionths of a token; the table's token is rounded down to whole nanoseconds, so it may fill a hair sooner.
            let mut plain: BTreeMap<u32, (f64, u64)> = BTreeMap::new();
            let mut now = 0;
            for (who, after) in asks {
                now += after;
                let (tokens, at) = plain.entry(who).or_insert((f64::from(burst), now));
                *tokens = (*tokens + (now - *at) as f64 * f64::from(requests) / 1000.0).min(f64::from(burst));
                *at = now;
                let taken = table.take(v4(who), &limit, t + Duration::from_millis(now)).is_ok();
                let near = (*tokens - 1.0).abs() < 1e-3;
                prop_assert!(near || taken == (*tokens > 1.0), "{} tokens, taken: {}", tokens, taken);
                *tokens -= f64::from(u8::from(taken));
            }
        }
    }
}
