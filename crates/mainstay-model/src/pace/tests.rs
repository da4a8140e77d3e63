//! Servers beside their own past, on the judge's bench, and weeks of a site that is well.

use super::*;
use crate::effect::ActionKind;
use crate::incident::{IncidentState, Severity};
use crate::input::{Input, Restored, ServiceTraffic, TrafficReport};
use crate::rng::Rng;
use crate::snapshot::Health;
use crate::testing::{Bench, app, policy, shop, start};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a record holds of servers that take 110 ms at every hour of the last days.
fn past(servers: u32, days: i64) -> Restored {
    let now = hour_of(start().wall);
    let hour = |n| PaceHour {
        at: Wall(now.0 - n * HOUR_MS),
        minutes: 60,
        mean_us: 110_000,
        p90_us: 120_000,
        per_minute: 600,
    };
    let hours: Vec<PaceHour> = (1..=24 * days).map(hour).collect();
    let paces = (1..=servers).map(|n| (app(n), hours.clone())).collect();
    Restored { paces, ..Restored::default() }
}

/// A shop with a past.
fn bench(servers: u32, days: i64) -> Bench {
    bench_of(policy(servers, false), servers, days)
}

fn bench_of(policy: crate::policy::Policy, servers: u32, days: i64) -> Bench {
    let mut bench = Bench::empty(policy);
    bench.tell(Input::Restored(past(servers, days)));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.addresses();
    bench.advance(Duration::from_secs(3));
    bench.effects.clear();
    bench
}

/// So many answers a second of each server, which take so many milliseconds, or not many fewer.
fn answers(bench: &mut Bench, servers: u32, seconds: u64, per_second: u64, ms: u64) {
    for _ in 0..seconds {
        let mut latency = Histogram::new();
        (0..per_second).for_each(|n| latency.record(Duration::from_millis(ms - n % 3)));
        let server = ServerTraffic { ok: per_second, latency: latency.clone(), ..ServerTraffic::default() };
        let requests = per_second * u64::from(servers);
        let visitors = ServiceTraffic { requests, latency, ..ServiceTraffic::default() };
        bench.tell(Input::Traffic(TrafficReport {
            servers: (1..=servers).map(|n| (app(n), server.clone())).collect(),
            services: [(shop(), visitors)].into(),
            ..TrafficReport::default()
        }));
        bench.advance(Duration::from_secs(1));
    }
}

fn title(bench: &Bench) -> String {
    bench.incidents()[0].title.clone()
}

#[test]
fn a_lone_server_that_is_far_slower_than_its_past_is_degraded_and_stays() {
    let mut bench = bench(1, 2);
    answers(&mut bench, 1, 120, 10, 110);
    assert!(bench.incidents().is_empty());
    answers(&mut bench, 1, 181, 10, 480);
    let server = bench.server(&app(1));
    assert_eq!(server.health, Health::Degraded);
    let told = "4.4x slower than it usually is at this hour: 479ms instead of 110ms";
    assert_eq!(server.why.rule, told);
    assert_eq!(title(&bench), format!("shop is {told}"));
    assert_eq!(bench.incidents()[0].severity, Severity::Degraded);
    assert_eq!(bench.targets(), ["app-1"], "nobody is taken out for that");
    assert!(bench.orders().is_empty(), "nor restarted");
    let advice = &bench.notices()[0].advice;
    assert!(advice.starts_with("Look at what the servers of shop wait for"), "{advice}");

    answers(&mut bench, 1, 181, 10, 110);
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    answers(&mut bench, 1, 61, 10, 110);
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
}

#[test]
fn all_servers_that_are_slow_alike_are_one_incident_of_the_service() {
    let mut bench = bench(3, 7);
    answers(&mut bench, 3, 60, 10, 110);
    answers(&mut bench, 3, 181, 10, 480);
    assert_eq!(bench.incidents().len(), 1);
    assert!(title(&bench).starts_with("shop is 4.4x slower than it usually is"), "{}", title(&bench));
    assert_eq!(bench.incidents()[0].servers.len(), 3);
    assert_eq!(bench.targets().len(), 3);
}

#[test]
fn who_has_no_past_at_this_hour_is_not_judged_by_it() {
    for days in [0, 1] {
        let mut bench = bench(1, days);
        answers(&mut bench, 1, 120, 10, 110);
        answers(&mut bench, 1, 300, 10, 2000);
        assert!(bench.incidents().is_empty(), "{days} days");
    }
}

#[test]
fn little_that_is_unusual_calls_nobody_slow() {
    // A factor below `past-times`, a difference below the least, too few answers, and more requests than usual.
    for (per_second, ms) in [(10, 300), (10, 200), (1, 900), (40, 480)] {
        let mut bench = bench(1, 3);
        let seconds = if per_second == 1 { 59 } else { 60 };
        for _ in 0..5 {
            answers(&mut bench, 1, seconds, per_second, ms);
            bench.advance(Duration::from_secs(60 - seconds));
        }
        assert!(bench.incidents().is_empty(), "{per_second} a second, {ms} ms: {}", title(&bench));
    }
    let mut fast = past(1, 3);
    fast.paces.values_mut().flatten().for_each(|hour| (hour.mean_us, hour.p90_us) = (4000, 6000));
    let mut bench = Bench::empty(policy(1, false));
    bench.tell(Input::Restored(fast));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.addresses();
    answers(&mut bench, 1, 300, 10, 90);
    assert!(bench.incidents().is_empty(), "twenty times as long, and nobody feels it");
    answers(&mut bench, 1, 181, 10, 120);
    assert_eq!(bench.incidents().len(), 1);
}

#[test]
fn one_slow_minute_is_forgiven_and_a_few_long_answers_say_nothing() {
    let mut bench = bench(1, 3);
    let to_go = 60 - bench.now.mono.0 / 1_000_000_000 % 60;
    answers(&mut bench, 1, to_go, 10, 110);
    for _ in 0..4 {
        answers(&mut bench, 1, 60, 10, 900);
        answers(&mut bench, 1, 60, 10, 110);
    }
    // One in twenty takes ten seconds: the mean is far above, but nine of ten are as fast as ever.
    for _ in 0..240 {
        answers(&mut bench, 1, 1, 19, 110);
        let mut latency = Histogram::new();
        latency.record(Duration::from_secs(10));
        let traffic = ServerTraffic { ok: 1, latency, ..ServerTraffic::default() };
        let servers = [(app(1), traffic)].into();
        bench.tell(Input::Traffic(TrafficReport { servers, ..TrafficReport::default() }));
    }
    assert!(bench.incidents().is_empty(), "{}", title(&bench));
}

#[test]
fn zero_times_is_never() {
    let mut policy = policy(1, false);
    policy.services.get_mut(&shop()).unwrap().traffic.past_times = 0.0;
    let mut bench = bench_of(policy, 1, 7);
    answers(&mut bench, 1, 300, 10, 5000);
    assert!(bench.incidents().is_empty());
}

#[test]
fn a_process_that_was_just_started_may_be_slow_for_five_minutes() {
    let mut bench = bench_of(policy(1, true), 1, 7);
    answers(&mut bench, 1, 240, 10, 900);
    assert!(bench.incidents().is_empty());
    answers(&mut bench, 1, 241, 10, 900);
    assert_eq!(bench.incidents().len(), 1);
    assert_eq!(bench.orders().iter().filter(|(_, o)| o.kind != ActionKind::Start).count(), 0);
}

#[test]
fn what_an_hour_was_like_is_written_down_and_an_incident_is_not_learned() {
    let mut bench = bench(1, 3);
    answers(&mut bench, 1, 3 * 3600, 10, 120);
    let hours = |bench: &Bench| -> Vec<PaceHour> {
        let hour = |record: &Record| match record {
            Record::Pace { news: PaceNews::Hour(hour), .. } => Some(*hour),
            _ => None,
        };
        bench.records().iter().filter_map(hour).collect()
    };
    let learned = hours(&bench);
    assert!((10..=14).contains(&learned.len()), "about four an hour: {}", learned.len());
    assert!(learned.iter().all(|hour| (118_000..=120_000).contains(&hour.mean_us) && hour.per_minute <= 600));
    let means = |bench: &Bench| -> Vec<u64> {
        let hours = &bench.model.services[&shop()].servers[&app(1)].pace.hours;
        hours.values().map(|hour| hour.mean_us).collect()
    };
    let before = means(&bench);
    bench.effects.clear();
    answers(&mut bench, 1, 5 * 3600, 10, 700);
    assert_eq!(bench.incidents().len(), 1);
    assert_eq!(hours(&bench), [], "slow hours are not learned");
    assert!(before == means(&bench), "and neither is the minute in which it began");
}

#[test]
fn what_was_learned_and_that_it_is_slow_outlive_a_restart_and_a_reload() {
    let mut bench = bench(1, 3);
    answers(&mut bench, 1, 181, 10, 480);
    let incident = bench.incidents()[0].clone();
    bench.service_policy().slow_start = Duration::from_secs(3);
    bench.tell(Input::Policy(bench.policy.clone()));
    assert_eq!(bench.server(&app(1)).health, Health::Degraded);

    let slow = bench.records().into_iter().find_map(|record| match record {
        Record::Pace { server, news: PaceNews::Slow(slowed) } => Some((server, slowed)),
        _ => None,
    });
    let incidents = vec![(*incident).clone()];
    let restored = Restored { slowed: slow.into_iter().collect(), incidents, ..past(1, 3) };
    let stored = serde_json::to_string(&restored).unwrap();
    let restored: Restored = serde_json::from_str(&stored).unwrap();
    let mut next = Bench::empty(bench.policy.clone());
    next.now = bench.now;
    next.tell(Input::Restored(restored));
    next.tell(Input::Policy(next.policy.clone()));
    next.addresses();
    answers(&mut next, 1, 120, 10, 480);
    assert_eq!(next.server(&app(1)).health, Health::Degraded);
    assert_eq!(next.incidents()[0].id, incident.id);
    assert_eq!(next.incidents()[0].state, IncidentState::Open);
    // Nobody asks it any more: nothing can be said of it.
    next.advance(Duration::from_secs(240));
    assert_eq!(next.server(&app(1)).health, Health::Healthy);
    let well = |record: &Record| matches!(record, Record::Pace { news: PaceNews::Well, .. });
    assert_eq!(next.records().iter().filter(|record| well(record)).count(), 1);
}

#[test]
fn what_is_slow_for_a_day_is_how_it_is_now() {
    let mut bench = bench(1, 3);
    answers(&mut bench, 1, 300, 10, 480);
    assert_eq!(bench.incidents().len(), 1);
    for _ in 0..24 * 60 {
        answers(&mut bench, 1, 4, 100, 480);
        bench.advance(Duration::from_secs(56));
    }
    answers(&mut bench, 1, 120, 10, 480);
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    let forgotten = |record: &Record| matches!(record, Record::Pace { news: PaceNews::Forgotten, .. });
    assert_eq!(bench.records().iter().filter(|record| forgotten(record)).count(), 1);
    answers(&mut bench, 1, 600, 10, 480);
    assert_eq!(bench.incidents().len(), 1);
}

/// Days of a site whose pages are light and heavy, with a night and a noon, weekends, a nightly job, now few requests and now
/// many: nobody is ever called slow. Then it takes four times as long, and is.
#[test]
fn weeks_of_ups_and_downs_are_usual() {
    let seeds = 4;
    let mut noticed = 0;
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        let mut pace = Pace::default();
        let policy = TrafficPolicy::default();
        let day = Day::of(&mut rng);
        let mut now = start();
        let mut news = |_| {};
        let calm = 10 * 24 * 60 + 13 * 60;
        for minute in 0..calm {
            pace.report(&day.minute(minute, 1.0, &mut rng), false, false, now);
            now = now + MINUTE;
            pace.tend(&policy, now, &mut news);
            assert_eq!(pace.slowed(), None, "seed {seed}, minute {minute}");
            assert!(pace.is_within_limits());
        }
        for minute in calm..calm + 30 {
            pace.report(&day.minute(minute, 8.0, &mut rng), false, false, now);
            now = now + MINUTE;
            pace.tend(&policy, now, &mut news);
        }
        noticed += u64::from(pace.slowed().is_some());
        now = now + DAY + HOUR;
        pace.tend(&policy, now, &mut news);
        assert_eq!(pace.slowed(), None);
    }
    assert_eq!(noticed, seeds);
}

/// A site's ups and downs.
struct Day {
    /// Requests a minute at noon.
    busy: f64,
    light_ms: f64,
    heavy_ms: f64,
    /// The share of its heavy pages.
    heavy: f64,
    /// The hour of the nightly job, and how many times as long everything takes meanwhile.
    job: (i64, f64),
}

impl Day {
    fn of(rng: &mut Rng) -> Self {
        Self {
            busy: 100.0 * 2f64.powf(rng.unit() * 3.0),
            light_ms: 5.0 + 80.0 * rng.unit(),
            heavy_ms: 200.0 + 900.0 * rng.unit(),
            heavy: rng.unit() * 0.3,
            job: ((rng.unit() * 6.0) as i64, 1.0 + 1.5 * rng.unit()),
        }
    }

    fn minute(&self, minute: i64, times: f64, rng: &mut Rng) -> ServerTraffic {
        let (hour, weekday) = (minute / 60 % 24, minute / 1440 % 7);
        let noon = 0.5 - 0.5 * ((hour as f64 - 2.0) / 24.0 * std::f64::consts::TAU).cos();
        let weekend = if weekday >= 5 { 0.6 } else { 1.0 };
        // Some minutes have far more requests than the others.
        let crowd = if rng.unit() < 0.01 { 3.0 } else { 0.7 + 0.6 * rng.unit() };
        let requests = (self.busy * (0.15 + 0.85 * noon) * weekend * crowd) as u64;
        let late = minute % 60 + (rng.unit() * 20.0) as i64 - 10;
        let job = if hour == self.job.0 && (0..50).contains(&late) { self.job.1 } else { 1.0 };
        let mut latency = Histogram::new();
        for _ in 0..requests {
            let typical = if rng.unit() < self.heavy { self.heavy_ms } else { self.light_ms };
            let normal: f64 = (0..6).map(|_| rng.unit() - 0.5).sum::<f64>() * std::f64::consts::SQRT_2;
            let stall = if rng.unit() < 0.002 { 2000.0 } else { 0.0 };
            let ms = typical * (0.6 * normal).exp() * job * (1.0 + noon * 0.5) + stall;
            latency.record(Duration::from_secs_f64(ms * times / 1000.0));
        }
        ServerTraffic { ok: requests, latency, ..ServerTraffic::default() }
    }
}
