//! How each server is, by probes and by traffic, on the bench.

use super::*;
use crate::input::{FailureKind, Input, ServerTraffic, TrafficReport};
use crate::policy::HealthPolicy;
use crate::testing::{Bench, Look, address, app, policy, shop};

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn a_server_that_nobody_looked_at_is_unknown_and_routed_to() {
    let mut bench = Bench::fresh(policy(2, false));
    bench.looks.insert(app(1), Look::Silent);
    bench.addresses();
    assert_eq!(bench.server(&app(1)).health, Health::Unknown);
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
}

/// Reports of some seconds in which each server answers 100 requests a second in so many milliseconds.
fn answers_take(bench: &mut Bench, time: Duration, ms: &[u64]) {
    for _ in 0..time.as_millis() / 250 {
        bench.advance(MS(250));
        let mut report = TrafficReport::default();
        for (id, ms) in (1..).map(app).zip(ms) {
            let mut traffic = ServerTraffic { ok: 25, ..ServerTraffic::default() };
            (0..25).for_each(|_| traffic.latency.record(MS(*ms)));
            report.servers.insert(id, traffic);
        }
        bench.tell(Input::Traffic(report));
    }
}

#[test]
fn a_server_far_slower_than_its_fellows_is_ejected_and_comes_back_when_its_time_is_over() {
    let mut bench = Bench::settled(policy(3, false));
    answers_take(&mut bench, MS(2000), &[20, 1000, 30]);
    assert_eq!(bench.targets(), ["app-1", "app-3"]);
    let server = bench.server(&app(2));
    assert_eq!(server.health, Health::Degraded);
    assert!(
        server.why.rule.contains("half of its answers take 1s or longer, its fellows' 30ms (slow-times = 5)")
    );
    assert!(bench.incidents()[0].title.ends_with("answers far more slowly than its fellows"));
    answers_take(&mut bench, Duration::from_secs(11), &[20, 20, 30]);
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"], "what it was slow at before says nothing now");
}

#[test]
fn a_server_is_not_slow_where_its_fellows_are_nor_by_a_little_nor_with_none_to_compare() {
    for ms in [&[900, 1000, 800][..], &[1, 90, 1], &[200, 900, 300], &[2000]] {
        let mut bench = Bench::settled(policy(ms.len() as u32, false));
        answers_take(&mut bench, MS(5000), ms);
        assert_eq!(bench.targets().len(), ms.len(), "{ms:?}");
    }
}

#[test]
fn no_more_than_a_share_of_the_servers_is_ejected_for_traffic_at_once() {
    let mut bench = Bench::settled(policy(5, false));
    (1..=4).for_each(|n| bench.attempts(&app(n), 0, 0, 5));
    assert_eq!(bench.targets(), ["app-3", "app-4", "app-5"]);
    let rule = bench.server(&app(3)).why.rule;
    assert!(
        rule.ends_with(
            "but 2 are out of rotation already, and more would leave too little (eject-share = 50%)"
        )
    );
    assert_eq!(bench.server(&app(3)).health, Health::Degraded);
}

#[test]
fn nothing_is_looked_at_or_routed_to_without_an_address() {
    let mut bench = Bench::fresh(policy(1, false));
    bench.advance(MS(5000));
    assert_eq!(bench.routed().mode, crate::routing::RoutingMode::Nobody);
    assert!(bench.probes_of(&app(1)).is_empty());
    bench.addresses();
    assert_eq!(bench.targets(), ["app-1"]);
    bench.tell(Input::Address { server: app(1), address: None });
    assert!(bench.targets().is_empty());
}

#[test]
fn first_probes_are_spread_over_a_second_and_not_later() {
    let mut policy = policy(50, false);
    policy.services.values_mut().for_each(|s| s.health.interval = Duration::from_secs(60));
    let mut bench = Bench::fresh(policy);
    bench.addresses();
    let began = bench.now.mono;
    bench.advance(MS(1000));
    let first: Vec<Duration> = (1..=50).map(|n| bench.probes_of(&app(n))[0] - began).collect();
    let early = first.iter().filter(|at| **at < MS(500)).count();
    assert!((10..=40).contains(&early), "{first:?}");
}

#[test]
fn fall_failed_probes_in_quick_succession_make_it_unhealthy() {
    let mut bench = Bench::settled(policy(3, false));
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(MS(1200));
    let server = bench.server(&app(2));
    assert_eq!(server.health, Health::Unhealthy);
    assert!(server.why.rule.ends_with("probes in a row failed (fall = 2): connection refused"));
    assert_eq!(bench.targets(), ["app-1", "app-3"]);
    let probes = bench.probes_of(&app(2));
    assert!(probes.windows(2).any(|pair| pair[1] - pair[0] == MS(101)), "{probes:?}");
}

#[test]
fn one_probe_that_timed_out_is_enough_when_real_requests_fail_too() {
    let mut bench = Bench::settled(policy(3, false));
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    bench.attempt_fails(&app(2), FailureKind::Timeout, Some(app(1)));
    // One probe, begun at once, has used its whole timeout; a second one has not.
    bench.advance(MS(950));
    let server = bench.server(&app(2));
    assert_eq!(server.health, Health::Unhealthy, "{:?}", server.why);
    assert!(server.why.rule.starts_with("a probe timed out, and real requests fail"), "{:?}", server.why);
}

#[test]
fn one_probe_that_timed_out_is_not_enough_when_a_request_was_answered_since() {
    let mut bench = Bench::settled(policy(3, false));
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    bench.attempt_fails(&app(2), FailureKind::Timeout, Some(app(1)));
    bench.attempts(&app(2), 5, 0, 0);
    // One probe, begun at once, has used its whole timeout; a second one has not.
    bench.advance(MS(950));
    assert_eq!(bench.server(&app(2)).health, Health::Healthy);
}

#[test]
fn a_good_probe_that_warns_makes_a_server_degraded_which_goes_on_serving_and_hurts_nobody() {
    let mut bench = Bench::settled(policy(2, false));
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(MS(2000));
    assert_eq!(bench.incidents().len(), 1);
    bench.looks.insert(app(1), Look::Warns("answers late".to_owned()));
    bench.is_good(&app(2));
    bench.advance(Duration::from_secs(60));
    let server = bench.server(&app(1));
    assert_eq!((server.health, server.share), (Health::Degraded, 1.0));
    assert_eq!(server.why.rule, "its probe is good and warns: answers late");
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    let open = bench.incidents().iter().filter(|i| i.resolved_at.is_none()).count();
    assert_eq!(open, 0, "a warning keeps no incident open, and opens none");
    bench.is_good(&app(1));
    bench.advance(MS(2000));
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
}

/// Supervised servers of a TCP service that are asked in their own protocol.
fn databases(servers: u32) -> Bench {
    let mut policy = policy(servers, true);
    for service in policy.services.values_mut() {
        let tcp = Some(crate::carriage::Tcp { close_when_down: true });
        service.carriage = crate::carriage::Carriage { tcp, ..Default::default() }.into();
        service.health.probe = crate::policy::ProbeKind::Redis;
    }
    Bench::settled(policy)
}

fn restarts(bench: &Bench) -> usize {
    bench.effects.iter().filter(|(_, effect)| matches!(effect, Effect::Recover(_))).count()
}

#[test]
fn connections_that_the_kernel_takes_do_not_speak_for_a_database_that_hangs() {
    let mut bench = databases(2);
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    for _ in 0..20 {
        bench.attempts(&app(2), 5, 0, 0);
        bench.advance(MS(250));
    }
    assert_eq!(bench.server(&app(2)).health, Health::Unhealthy);
    assert!(bench.server(&app(2)).why.signals.iter().all(|s| s.name != "witnesses disagree"));
    assert!(restarts(&bench) > 0, "it hangs, whatever its kernel says");
}

#[test]
fn a_database_that_says_what_it_lacks_is_not_started_anew() {
    let mut bench = databases(2);
    bench.is_bad(&app(2), ProbeFailure::Answer("is loading its data".to_owned()));
    bench.advance(Duration::from_secs(120));
    assert_eq!(bench.server(&app(2)).health, Health::Unhealthy);
    assert_eq!(bench.targets(), ["app-1"]);
    assert_eq!(restarts(&bench), 0, "it would only begin to load again");
    // One that hung and was started anew is given the time to load.
    let mut bench = databases(2);
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    bench.advance(MS(3000));
    assert_eq!(restarts(&bench), 1);
    bench.is_bad(&app(2), ProbeFailure::Answer("is loading its data".to_owned()));
    bench.advance(Duration::from_secs(120));
    assert_eq!(restarts(&bench), 1);
}

#[test]
fn the_only_server_goes_on_serving_when_its_probes_time_out() {
    let mut bench = Bench::settled(policy(1, false));
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    for _ in 0..40 {
        bench.attempts(&app(1), 5, 0, 0);
        bench.advance(MS(500));
        assert_eq!(bench.targets(), ["app-1"], "{:?}", bench.server(&app(1)).why);
    }
}

#[test]
fn rise_good_probes_make_it_healthy_again() {
    let mut bench = Bench::settled(policy(3, false));
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(MS(3000));
    bench.is_good(&app(2));
    bench.advance(MS(1000 + 102));
    let server = bench.server(&app(2));
    assert_eq!(server.health, Health::Healthy);
    assert_eq!(server.why.rule, "2 probes in a row good (rise = 2)");
}

#[test]
fn a_probe_that_could_not_be_made_says_nothing() {
    let mut bench = Bench::settled(policy(2, false));
    bench.is_bad(&app(1), ProbeFailure::NotProbed("no file descriptors".to_owned()));
    bench.advance(Duration::from_secs(60));
    let server = bench.server(&app(1));
    assert_eq!(server.health, Health::Healthy);
    assert!(server.why.signals.iter().any(|s| s.name == "could not be probed" && !s.bad));
    assert!(bench.incidents().is_empty());
}

#[test]
fn an_answer_that_never_comes_is_given_up_and_says_nothing() {
    let mut bench = Bench::settled(policy(2, false));
    bench.looks.insert(app(1), Look::Silent);
    bench.advance(Duration::from_secs(20));
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    let probes = bench.probes_of(&app(1));
    assert!(probes.len() > 5, "{probes:?}");
    assert!(probes.windows(2).all(|pair| pair[1] - pair[0] >= MS(1000)), "{probes:?}");
}

#[test]
fn a_failed_attempt_of_traffic_is_checked_at_once() {
    let mut bench = Bench::settled(policy(2, false));
    bench.advance(MS(300));
    bench.effects.clear();
    bench.attempt_fails(&app(1), FailureKind::Refused, Some(app(2)));
    assert_eq!(bench.probes_of(&app(1)), [bench.now.mono]);
    assert_eq!(bench.targets(), ["app-1", "app-2"], "a suspicion is no verdict");
}

#[test]
fn an_answer_about_where_it_no_longer_listens_is_not_believed() {
    let mut bench = Bench::settled(policy(2, false));
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    bench.service_policy().health.fall = 1;
    let changed = bench.policy.clone();
    bench.tell(Input::Policy(changed));
    bench.advance(MS(1000));
    bench.tell(Input::Address { server: app(1), address: Some(address(7777)) });
    bench.is_good(&app(1));
    bench.advance(MS(2000));
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    assert!(bench.incidents().is_empty());
}

#[test]
fn traffic_ejects_a_server_whose_probes_are_good() {
    let mut bench = Bench::settled(policy(3, false));
    bench.attempts(&app(2), 30, 20, 0);
    let server = bench.server(&app(2));
    assert_eq!(server.health, Health::Degraded);
    assert!(server.why.rule.contains("failure-share = 20%"), "{}", server.why.rule);
    assert_eq!(bench.targets(), ["app-1", "app-3"]);
    bench.advance(MS(9_900));
    assert_eq!(bench.targets(), ["app-1", "app-3"]);
    bench.advance(MS(200));
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
    assert_eq!(bench.server(&app(2)).share, 0.1);
}

#[test]
fn each_ejection_lasts_twice_as_long_as_the_last() {
    let mut bench = Bench::settled(policy(3, false));
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        bench.attempts(&app(2), 0, 0, 5);
        bench.advance(Duration::from_secs(seconds) - MS(1));
        assert_eq!(bench.targets(), ["app-1", "app-3"], "{seconds}");
        bench.advance(MS(1));
        assert_eq!(bench.targets().len(), 3, "{seconds}");
        bench.advance(MS(600));
    }
}

#[test]
fn the_last_server_is_never_ejected_by_traffic() {
    let mut bench = Bench::settled(policy(2, false));
    bench.attempts(&app(1), 0, 0, 5);
    bench.attempts(&app(2), 0, 0, 5);
    assert_eq!(bench.targets(), ["app-2"]);
    let server = bench.server(&app(2));
    assert_eq!(server.health, Health::Degraded);
    assert!(server.why.rule.ends_with("the last server of its service, which is never ejected"));
}

#[test]
fn a_first_good_probe_is_enough_for_a_server_nobody_knew() {
    let mut bench = Bench::fresh(policy(1, false));
    bench.addresses();
    bench.advance(MS(1002));
    let server = bench.server(&app(1));
    assert_eq!((server.health, server.share), (Health::Healthy, 1.0));
}

/// Every other probe fails; returns whether the server was ever down.
fn fails_every_other_probe(bench: &mut Bench) -> bool {
    (0..400).any(|_| {
        match bench.probes_of(&app(1)).len() % 2 {
            0 => bench.is_bad(&app(1), ProbeFailure::Status(503)),
            _ => bench.is_good(&app(1)),
        }
        bench.advance(MS(25));
        bench.server(&app(1)).health == Health::Unhealthy
    })
}

#[test]
fn a_server_that_fails_every_other_probe_is_down_though_never_twice_in_a_row() {
    let mut bench = Bench::settled(policy(3, false));
    assert!(fails_every_other_probe(&mut bench));
    let rule = bench.server(&app(1)).why.rule;
    assert!(rule.starts_with("3 of the last 5 probes failed (fail = 3 of 5)"), "{rule}");
    assert_eq!(bench.targets(), ["app-2", "app-3"]);
    bench.is_good(&app(1));
    bench.advance(Duration::from_secs(3));
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    assert_eq!(bench.server(&app(1)).why.signals[1].value, "0 of the last 5");
}

#[test]
fn a_longer_fall_is_not_overtaken_and_none_but_in_a_row_may_be_asked_for() {
    let mut patient = policy(3, false);
    patient.services.get_mut(&shop()).unwrap().health.fall = 5;
    patient.services.get_mut(&shop()).unwrap().health.fail = HealthPolicy::fail_beside(5);
    assert!(!fails_every_other_probe(&mut Bench::settled(patient.clone())), "5 of 7 are needed");
    patient.services.get_mut(&shop()).unwrap().health.fail = None;
    assert!(!fails_every_other_probe(&mut Bench::settled(patient)));
    assert_eq!(HealthPolicy::fail_beside(29), None);
}
