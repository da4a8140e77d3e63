//! Roll-ups: what was measured, by minute and by hour, with histograms that can be merged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_model::histogram::Histogram;
use mainstay_model::input::{FailureKind, ProbeFailure, ProbeReport, TrafficReport};
use mainstay_model::results::Look;
use mainstay_model::{Input, Now, Policy, ProbeTarget, ServerId, ServiceId, Wall};
use serde::Serialize;

use super::results::look_of;

/// The width of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// One minute.
    Minute,
    /// One hour.
    Hour,
}

/// One server in one bucket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerBucket {
    /// The server.
    pub server: ServerId,
    /// Where the bucket begins, a multiple of its width.
    pub start: Wall,
    /// Milliseconds of the bucket in which Mainstay was looking; the rest is unknown.
    pub observed_ms: u64,
    /// Attempts answered 1xx to 3xx.
    pub ok: u64,
    /// Attempts answered 4xx.
    pub client_errors: u64,
    /// Attempts answered 5xx.
    pub server_errors: u64,
    /// Failed attempts by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Time to the answer's first byte.
    #[serde(skip)]
    pub latency: Histogram,
    /// Good probes.
    pub probes_good: u64,
    /// Failed probes.
    pub probes_failed: u64,
    /// How long good probes took.
    #[serde(skip)]
    pub probe_latency: Histogram,
}

/// One service in one bucket, as its visitors saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceBucket {
    /// The service.
    pub service: ServiceId,
    /// Where the bucket begins, a multiple of its width.
    pub start: Wall,
    /// Milliseconds of the bucket in which Mainstay was looking; the rest is unknown.
    pub observed_ms: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Refused or cut short by a fault.
    pub failed: u64,
    /// Answered 5xx by a server.
    pub server_errors: u64,
    /// Saved by a retry.
    pub saved: u64,
    /// Well answered, but later than `slow-after`.
    pub slow: u64,
    /// Refused because there was no room.
    pub shed: u64,
    /// Refused because their address had asked too often.
    pub limited: u64,
    /// Milliseconds of the observed ones in which it answered nobody, and should have.
    pub down_ms: u64,
    /// Milliseconds of the observed ones in which it was in a maintenance window: neither up nor down.
    pub excused_ms: u64,
    /// Requests of that time.
    pub excused_requests: u64,
    /// Of them, those that went wrong.
    pub excused_bad: u64,
    /// Time to the answer's first byte.
    #[serde(skip)]
    pub latency: Histogram,
}

/// Gathers inputs into the current minute's buckets. The engine shows it each input that it hands to the judge.
#[derive(Debug, Default)]
pub struct Accumulator {
    /// The last moment it was told of; `None` before the first.
    last: Option<Now>,
    /// Where the current minute begins.
    minute: Wall,
    /// Looking time of the current minute that is not yet in the buckets.
    unbooked: Duration,
    known_servers: BTreeSet<ServerId>,
    known_services: BTreeSet<ServiceId>,
    /// Those that answer nobody now.
    down: BTreeSet<ServiceId>,
    /// Those that are in a maintenance window.
    excused: BTreeSet<ServiceId>,
    servers: BTreeMap<ServerId, ServerBucket>,
    services: BTreeMap<ServiceId, ServiceBucket>,
    /// Buckets of minutes that ended since the last [`Accumulator::take`].
    ended: (Vec<ServerBucket>, Vec<ServiceBucket>),
    /// Every look at a server since they were last taken.
    looks: Vec<(ProbeTarget, Look)>,
}

impl Accumulator {
    /// A longer silence of the engine than this is a gap: it was not looking.
    const SILENCE_MAX: Duration = Duration::from_secs(60);
    /// A clock set back by no more than this waits in its minute until it has caught up; after a larger jump the minutes
    /// are counted once more, and the record adds them to what it has.
    const SET_BACK_MS: i64 = 2 * Step::Minute.width_ms();
    /// Ended minutes that are kept when nobody takes them, in buckets.
    const ENDED_MAX: usize = 10_000;
    /// Looks that are kept when nobody takes them.
    const LOOKS_MAX: usize = 60_000;

    /// Counts what an input says of servers and services.
    pub fn observe(&mut self, now: Now, input: &Input) {
        self.advance(now);
        match input {
            Input::Policy(policy) => self.know(policy),
            Input::Probe(report) => self.count_probe(now.wall, report),
            Input::Traffic(report) => self.count_traffic(report),
            _ => {}
        }
    }

    /// These services answer nobody from now on, these are in a maintenance window, and the others answer.
    pub fn are(&mut self, now: Now, down: BTreeSet<ServiceId>, excused: BTreeSet<ServiceId>) {
        if self.down != down || self.excused != excused {
            self.advance(now);
            self.book();
            (self.down, self.excused) = (down, excused);
        }
    }

    /// The buckets that changed since the last call, to be written; call it every few seconds, so that little is lost in a crash.
    pub fn take(&mut self, now: Now) -> (Vec<ServerBucket>, Vec<ServiceBucket>) {
        self.advance(now);
        self.book();
        let (mut servers, mut services) = std::mem::take(&mut self.ended);
        servers.extend(self.servers.values().cloned());
        services.extend(self.services.values().cloned());
        (servers, services)
    }

    /// Every look at a server since they were last taken.
    pub fn take_looks(&mut self) -> Vec<(ProbeTarget, Look)> {
        std::mem::take(&mut self.looks)
    }

    /// Moves on to `now`: books the time that was looked, and ends the minute when it is over.
    fn advance(&mut self, now: Now) {
        let Some(last) = self.last else {
            self.last = Some(now);
            self.minute = start_of_minute(now.wall);
            return;
        };
        let set_back = now.wall < last.wall && last.wall.ms_since(now.wall) <= Self::SET_BACK_MS;
        let wall = if set_back { last.wall } else { now.wall };
        let looked = now.mono.since(last.mono);
        let looked = if looked > Self::SILENCE_MAX { Duration::ZERO } else { looked };
        self.last = Some(Now { mono: now.mono, wall });
        let minute = start_of_minute(wall);
        if minute == self.minute {
            self.unbooked += looked;
            return;
        }
        // What of it lies in the new minute; the rest belongs to the one that ended.
        let into_new = u64::try_from(wall.ms_since(minute)).unwrap_or(0);
        let in_new = looked.min(Duration::from_millis(into_new));
        self.unbooked += looked - in_new;
        self.end_minute(minute);
        self.unbooked = in_new;
    }

    fn end_minute(&mut self, next: Wall) {
        self.book();
        self.ended.0.extend(std::mem::take(&mut self.servers).into_values());
        self.ended.1.extend(std::mem::take(&mut self.services).into_values());
        keep_newest(&mut self.ended.0, Self::ENDED_MAX);
        keep_newest(&mut self.ended.1, Self::ENDED_MAX);
        self.minute = next;
    }

    /// Puts the looking time into the buckets of all that are known.
    fn book(&mut self) {
        let ms = u64::try_from(self.unbooked.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return;
        }
        self.unbooked -= Duration::from_millis(ms);
        let whole = Step::Minute.width_ms().unsigned_abs();
        for id in &self.known_servers {
            let bucket = server_bucket(&mut self.servers, id, self.minute);
            bucket.observed_ms = (bucket.observed_ms + ms).min(whole);
        }
        for id in &self.known_services {
            let bucket = service_bucket(&mut self.services, id, self.minute);
            bucket.observed_ms = (bucket.observed_ms + ms).min(whole);
            if self.excused.contains(id) {
                bucket.excused_ms = (bucket.excused_ms + ms).min(whole);
            } else if self.down.contains(id) {
                bucket.down_ms = (bucket.down_ms + ms).min(whole);
            }
        }
    }

    fn know(&mut self, policy: &Policy) {
        self.book();
        // A part of a millisecond must not be booked on those who were not known in it.
        self.unbooked = Duration::ZERO;
        self.known_services = policy.services.keys().cloned().collect();
        self.known_servers = policy
            .services
            .iter()
            .flat_map(|(id, service)| service.servers.keys().map(|name| id.server(name.clone())))
            .collect();
    }

    fn count_probe(&mut self, at: Wall, report: &ProbeReport) {
        let ProbeTarget::Server(server) = &report.target else { return };
        if self.looks.len() < Self::LOOKS_MAX {
            self.looks.push((report.target.clone(), look_of(report, at)));
        }
        let bucket = server_bucket(&mut self.servers, server, self.minute);
        match &report.result {
            Ok(_) => {
                bucket.probes_good += 1;
                bucket.probe_latency.record(report.took);
            }
            // Says something of Mainstay, nothing of the server.
            Err(ProbeFailure::NotProbed(_)) => {}
            Err(_) => bucket.probes_failed += 1,
        }
    }

    fn count_traffic(&mut self, report: &TrafficReport) {
        for (id, traffic) in &report.servers {
            let bucket = server_bucket(&mut self.servers, id, self.minute);
            bucket.ok += traffic.ok;
            bucket.client_errors += traffic.client_errors;
            bucket.server_errors += traffic.server_errors;
            for (&kind, &n) in &traffic.failures {
                *bucket.failures.entry(kind).or_default() += n;
            }
            bucket.latency.merge(&traffic.latency);
        }
        for (id, traffic) in &report.services {
            let bucket = service_bucket(&mut self.services, id, self.minute);
            if self.excused.contains(id) {
                bucket.excused_requests += traffic.requests;
                bucket.excused_bad += traffic.failed + traffic.server_errors + traffic.shed;
            }
            bucket.requests += traffic.requests;
            bucket.failed += traffic.failed;
            bucket.server_errors += traffic.server_errors;
            bucket.saved += traffic.saved;
            bucket.slow += traffic.slow;
            bucket.shed += traffic.shed;
            bucket.limited += traffic.limited;
            bucket.latency.merge(&traffic.latency);
        }
    }
}

fn server_bucket<'a>(
    buckets: &'a mut BTreeMap<ServerId, ServerBucket>,
    id: &ServerId,
    minute: Wall,
) -> &'a mut ServerBucket {
    buckets.entry(id.clone()).or_insert_with(|| ServerBucket::empty(id.clone(), minute))
}

fn service_bucket<'a>(
    buckets: &'a mut BTreeMap<ServiceId, ServiceBucket>,
    id: &ServiceId,
    minute: Wall,
) -> &'a mut ServiceBucket {
    buckets.entry(id.clone()).or_insert_with(|| ServiceBucket::empty(id.clone(), minute))
}

fn start_of_minute(at: Wall) -> Wall {
    Step::Minute.start(Step::Minute.index(at))
}

fn keep_newest<T>(buckets: &mut Vec<T>, most: usize) {
    let over = buckets.len().saturating_sub(most);
    buckets.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Mono;
    use mainstay_model::input::{ProbeAnswer, ServerTraffic, ServiceTraffic};
    use mainstay_model::policy::{ServerPolicy, ServicePolicy};

    /// 2026-11-22 08:00:00 UTC.
    const EIGHT: i64 = 1_795_334_400_000;

    fn at(ms: i64) -> Now {
        Now { mono: Mono(5_000_000_000 + ms.unsigned_abs() * 1_000_000), wall: Wall(EIGHT + ms) }
    }

    fn shop() -> ServiceId {
        ServiceId::new("shop")
    }

    fn policy(servers: &[&str]) -> Input {
        let servers = servers.iter().map(|&name| (name.into(), ServerPolicy::default())).collect();
        let service = ServicePolicy { servers, ..ServicePolicy::default() };
        Input::Policy(Policy { services: [(shop(), service)].into(), ..Policy::default() })
    }

    fn probe(server: &str, result: Result<ProbeAnswer, ProbeFailure>) -> Input {
        let took = Duration::from_millis(3);
        Input::Probe(ProbeReport::new(shop().server(server).into(), took, result))
    }

    fn traffic(server: &str, ok: u64) -> Input {
        let failures = [(FailureKind::Refused, 1)].into();
        let mut latency = Histogram::new();
        latency.record(Duration::from_millis(7));
        let one = ServerTraffic { ok, failures, latency: latency.clone(), ..ServerTraffic::default() };
        let all = ServiceTraffic { requests: ok + 1, saved: 1, latency, ..ServiceTraffic::default() };
        Input::Traffic(TrafficReport {
            servers: [(shop().server(server), one)].into(),
            services: [(shop(), all)].into(),
            ..TrafficReport::default()
        })
    }

    fn looking_from(ms: i64) -> Accumulator {
        let mut accumulator = Accumulator::default();
        accumulator.observe(at(ms), &policy(&["a", "b"]));
        accumulator
    }

    #[test]
    fn probes_and_traffic_are_counted_in_the_minute_in_which_they_were_seen() {
        let mut accumulator = looking_from(0);
        accumulator.observe(at(1_000), &probe("a", Ok(ProbeAnswer::status(200))));
        accumulator.observe(at(2_000), &probe("a", Err(ProbeFailure::Refused)));
        accumulator.observe(at(3_000), &probe("a", Err(ProbeFailure::NotProbed("no files".into()))));
        accumulator.observe(at(4_000), &traffic("a", 9));
        accumulator.observe(at(61_000), &traffic("a", 5));
        let (servers, services) = accumulator.take(at(62_000));
        let of_a: Vec<_> = servers.iter().filter(|b| &*b.server.name == "a").collect();
        assert_eq!(of_a.iter().map(|b| b.start.0 - EIGHT).collect::<Vec<_>>(), [0, 60_000]);
        assert_eq!((of_a[0].probes_good, of_a[0].probes_failed, of_a[0].ok), (1, 1, 9));
        assert_eq!(of_a[0].failures, [(FailureKind::Refused, 1)].into());
        assert_eq!((of_a[0].latency.count(), of_a[0].probe_latency.count()), (1, 1));
        assert_eq!((of_a[1].ok, of_a[1].probes_good), (5, 0));
        assert_eq!(services.iter().map(|b| (b.requests, b.saved)).collect::<Vec<_>>(), [(10, 1), (6, 1)]);
    }

    #[test]
    fn observed_time_begins_when_the_run_began_to_look_and_a_known_server_without_traffic_has_it_too() {
        let mut accumulator = looking_from(45_000);
        let (servers, services) = accumulator.take(at(60_500));
        let observed: Vec<_> = servers.iter().map(|b| (b.start.0 - EIGHT, b.observed_ms)).collect();
        assert_eq!(observed, [(0, 15_000), (0, 15_000), (60_000, 500), (60_000, 500)]);
        assert_eq!(services.iter().map(|b| b.observed_ms).collect::<Vec<_>>(), [15_000, 500]);
    }

    #[test]
    fn a_server_that_comes_later_has_only_its_own_time_and_one_that_left_has_no_more() {
        let mut accumulator = looking_from(0);
        accumulator.observe(at(20_000), &policy(&["b", "c"]));
        let (servers, _) = accumulator.take(at(50_000));
        let observed: Vec<_> = servers.iter().map(|b| (&*b.server.name, b.observed_ms)).collect();
        assert_eq!(observed, [("a", 20_000), ("b", 50_000), ("c", 30_000)]);
    }

    #[test]
    fn a_long_silence_of_the_engine_is_a_gap() {
        let mut accumulator = looking_from(0);
        drop(accumulator.take(at(10_000)));
        let (servers, _) = accumulator.take(at(200_000));
        let observed: Vec<_> = servers.iter().map(|b| (b.start.0 - EIGHT, b.observed_ms)).collect();
        assert_eq!(observed, [(0, 10_000), (0, 10_000)], "nothing was seen in the minute of the second look");
    }

    #[test]
    fn a_bucket_is_given_again_as_a_whole_until_its_minute_is_over() {
        let mut accumulator = looking_from(0);
        accumulator.observe(at(1_000), &traffic("a", 1));
        assert_eq!(accumulator.take(at(2_000)).0[0].ok, 1);
        accumulator.observe(at(3_000), &traffic("a", 1));
        assert_eq!(accumulator.take(at(4_000)).0[0].ok, 2);
        assert_eq!(accumulator.take(at(60_000)).0[0].ok, 2);
        let (servers, _) = accumulator.take(at(61_000));
        assert!(servers.iter().all(|b| b.start.0 == EIGHT + 60_000), "the ended minute is given once");
    }

    #[test]
    fn a_clock_set_back_a_little_waits_in_its_minute_and_never_observes_more_than_a_minute() {
        let mut accumulator = looking_from(60_000);
        let mono = |ms: u64| Mono(at(60_000).mono.0 + ms * 1_000_000);
        for (ms, wall) in [(10_000, 70_000), (20_000, 20_000), (50_000, 50_000), (80_000, 80_000)] {
            accumulator.observe(Now { mono: mono(ms), wall: Wall(EIGHT + wall) }, &traffic("a", 1));
        }
        let (servers, _) = accumulator.take(Now { mono: mono(85_000), wall: Wall(EIGHT + 85_000) });
        assert_eq!((servers.len(), servers[0].start.0 - EIGHT), (2, 60_000));
        assert_eq!((servers[0].ok, servers[0].observed_ms), (4, 60_000));
    }

    #[test]
    fn a_clock_set_back_by_an_hour_goes_on_from_there() {
        let mut accumulator = looking_from(0);
        drop(accumulator.take(at(10_000)));
        let back = Now { mono: at(11_000).mono, wall: Wall(EIGHT - 3_600_000) };
        accumulator.observe(back, &traffic("a", 3));
        let (servers, _) = accumulator.take(back + Duration::from_secs(1));
        let of_a: Vec<_> = servers.iter().filter(|b| &*b.server.name == "a").collect();
        assert_eq!(of_a.iter().map(|b| b.start.0 - EIGHT).collect::<Vec<_>>(), [0, -3_600_000]);
        assert_eq!(of_a.iter().map(|b| b.ok).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn the_time_in_which_a_service_answered_nobody_is_counted_apart() {
        let mut accumulator = looking_from(0);
        accumulator.are(at(50_000), [shop()].into(), BTreeSet::new());
        accumulator.are(at(55_000), [shop()].into(), BTreeSet::new());
        accumulator.are(at(70_000), BTreeSet::new(), BTreeSet::new());
        let (_, services) = accumulator.take(at(90_000));
        let counted: Vec<_> = services.iter().map(|b| (b.observed_ms, b.down_ms)).collect();
        assert_eq!(counted, [(60_000, 10_000), (30_000, 10_000)]);
    }

    #[test]
    fn the_time_in_a_maintenance_window_is_neither_up_nor_down() {
        let mut accumulator = looking_from(0);
        accumulator.are(at(10_000), [shop()].into(), [shop()].into());
        let requests = ServiceTraffic { requests: 9, failed: 4, shed: 1, ..ServiceTraffic::default() };
        let services = BTreeMap::from([(shop(), requests)]);
        let report = Input::Traffic(TrafficReport { services, ..TrafficReport::default() });
        accumulator.observe(at(20_000), &report);
        accumulator.are(at(40_000), [shop()].into(), BTreeSet::new());
        accumulator.observe(at(50_000), &report);
        let (_, services) = accumulator.take(at(60_000));
        let first = &services[0];
        assert_eq!((first.observed_ms, first.excused_ms, first.down_ms), (60_000, 30_000, 20_000));
        assert_eq!((first.requests, first.excused_requests, first.excused_bad), (18, 9, 5));
    }
}
