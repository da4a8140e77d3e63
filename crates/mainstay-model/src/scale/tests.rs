//! Bursts, lulls and lost reports on the judge's bench.

use std::collections::BTreeMap;

use super::*;
use crate::effect::{ActionKind, Record};
use crate::input::{Input, Restored, ServerTraffic, ServiceTraffic};
use crate::policy::Policy;
use crate::testing::{Bench, policy, shop};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn scaled(min: u32, max: u32) -> Policy {
    let mut policy = policy(1, true);
    let service = policy.services.values_mut().next().unwrap();
    service.slow_start = seconds(2);
    service.scale =
        Some(ScalePolicy { template: "app-1".into(), min, max, concurrency: 50, in_after: seconds(300) });
    policy
}

fn names(bench: &Bench) -> Vec<String> {
    bench.model.snapshot(bench.now).services[0].servers.iter().map(|s| s.id.name.to_string()).collect()
}

fn scale(bench: &Bench) -> ScaleSnapshot {
    bench.model.snapshot(bench.now).services[0].scale.clone().unwrap()
}

/// Reports for so long, with so many attempts under way, spread over the targets.
fn load(bench: &mut Bench, time: Duration, under_way: u64, queued: u64) {
    let until = bench.now.mono + time;
    while bench.now.mono < until {
        bench.advance(Duration::from_millis(250));
        let targets: Vec<ServerId> = bench.routed().targets.iter().map(|t| t.id.clone()).collect();
        let each = under_way / targets.len().max(1) as u64;
        let of = |id: &ServerId| (id.clone(), ServerTraffic { ok: 5, in_flight: each, ..Default::default() });
        let servers: BTreeMap<_, _> = targets.iter().map(of).collect();
        let service = ServiceTraffic { requests: 5, queued, ..ServiceTraffic::default() };
        let services = BTreeMap::from([(shop(), service)]);
        bench.tell(Input::Traffic(TrafficReport { servers, services, ..Default::default() }));
    }
}

#[test]
fn more_is_started_within_seconds_by_what_is_under_way_and_never_beyond_max() {
    let mut bench = Bench::settled(scaled(1, 4));
    load(&mut bench, seconds(3), 40, 0);
    assert_eq!(names(&bench), ["app-1"]);
    load(&mut bench, seconds(4), 140, 0);
    assert_eq!(names(&bench), ["app-1", "app-1-2", "app-1-3"], "{:?}", scale(&bench));
    assert!(scale(&bench).text.starts_with("3 instances: 1"), "{}", scale(&bench).text);
    load(&mut bench, seconds(20), 900, 0);
    assert_eq!(names(&bench).len(), 4);
    assert_eq!(bench.targets().len(), 4);
    assert!(bench.incidents().is_empty());
}

#[test]
fn requests_that_wait_bring_one_more_when_all_are_up() {
    let mut bench = Bench::settled(scaled(1, 4));
    load(&mut bench, seconds(3), 10, 3);
    assert_eq!(names(&bench), ["app-1", "app-1-2"]);
    load(&mut bench, seconds(20), 10, 3);
    assert_eq!(names(&bench).len(), 4);
}

#[test]
fn fewer_come_slowly_one_at_a_time_and_drained() {
    let mut bench = Bench::settled(scaled(1, 4));
    load(&mut bench, seconds(10), 190, 0);
    assert_eq!(bench.targets().len(), 4);
    load(&mut bench, seconds(295), 10, 0);
    assert_eq!(names(&bench).len(), 4);
    bench.effects.clear();
    load(&mut bench, seconds(10), 10, 0);
    assert_eq!(names(&bench), ["app-1", "app-1-2", "app-1-3"]);
    let stops: Vec<_> =
        bench.orders().into_iter().map(|(_, o)| (o.kind, o.server.name.to_string())).collect();
    assert_eq!(stops, [(ActionKind::Stop, "app-1-4".to_owned())]);
    load(&mut bench, seconds(280), 10, 0);
    assert_eq!(names(&bench).len(), 3);
    load(&mut bench, seconds(700), 10, 0);
    assert_eq!(names(&bench), ["app-1"], "never below min");
    assert!(bench.incidents().is_empty(), "an end that was wanted is no fault");
}

#[test]
fn an_instance_that_is_not_needed_is_stopped_only_after_its_last_request() {
    let mut bench = Bench::settled(scaled(1, 2));
    load(&mut bench, seconds(10), 90, 0);
    load(&mut bench, seconds(299), 10, 0);
    while bench.targets().len() == 2 {
        load(&mut bench, Duration::from_millis(250), 10, 0);
    }
    let second = shop().server("app-1-2");
    for _ in 0..40 {
        bench.advance(Duration::from_millis(250));
        let busy = |n| ServerTraffic { in_flight: n, ..ServerTraffic::default() };
        let servers = BTreeMap::from([(shop().server("app-1"), busy(5)), (second.clone(), busy(1))]);
        bench.tell(Input::Traffic(TrafficReport { servers, ..Default::default() }));
    }
    assert_eq!(names(&bench).len(), 2, "it still has a request");
    load(&mut bench, seconds(1), 5, 0);
    assert_eq!(names(&bench), ["app-1"]);
}

#[test]
fn no_report_is_no_zero() {
    let mut bench = Bench::settled(scaled(1, 4));
    load(&mut bench, seconds(10), 190, 0);
    bench.advance(seconds(3600));
    assert_eq!(names(&bench).len(), 4);
    assert_eq!(scale(&bench).under_way, None);
    for _ in 0..40 {
        load(&mut bench, seconds(60), 10, 0);
        bench.advance(seconds(3));
    }
    assert_eq!(names(&bench).len(), 4, "it was never known for long enough");
}

#[test]
fn nothing_is_taken_away_during_an_incident() {
    let mut bench = Bench::settled(scaled(1, 3));
    load(&mut bench, seconds(10), 140, 0);
    bench.supervisor = crate::testing::Supervisor::Fails;
    bench.crash(&shop().server("app-1-2"));
    load(&mut bench, seconds(400), 10, 0);
    assert_eq!(names(&bench).len(), 3);
}

#[test]
fn a_changed_policy_and_an_earlier_run_are_heeded() {
    let mut bench = Bench::settled(scaled(2, 4));
    assert_eq!(names(&bench), ["app-1", "app-1-2"]);
    bench.policy = scaled(3, 4);
    bench.tell(Input::Policy(bench.policy.clone()));
    assert_eq!(names(&bench).len(), 3);
    bench.policy = policy(1, true);
    bench.tell(Input::Policy(bench.policy.clone()));
    assert_eq!(names(&bench), ["app-1"]);
    let mut bench = Bench::empty(scaled(1, 4));
    let instances = BTreeMap::from([(shop(), 3)]);
    bench.tell(Input::Restored(Restored { instances, ..Restored::default() }));
    bench.tell(Input::Policy(bench.policy.clone()));
    assert_eq!(names(&bench).len(), 3);
    bench.advance(seconds(2));
    load(&mut bench, seconds(4), 190, 0);
    let recorded = bench.records().into_iter().any(|r| matches!(r, Record::Instances { instances: 4, .. }));
    assert!(recorded && names(&bench).len() == 4);
}

#[test]
fn in_a_freeze_nothing_is_added_or_taken_away_and_after_it_what_is_needed() {
    let mut bench = Bench::settled(scaled(1, 4));
    load(&mut bench, seconds(3), 40, 0);
    let until = crate::Wall(bench.now.wall.0 + 30_000);
    let freeze = crate::freeze::Freeze { until, by: String::new(), why: String::new() };
    bench.tell(Input::Freeze(Some(freeze)));
    load(&mut bench, seconds(25), 140, 0);
    assert_eq!(names(&bench), ["app-1"]);
    load(&mut bench, seconds(10), 140, 0);
    assert_eq!(names(&bench).len(), 3);
}
