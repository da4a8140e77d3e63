//! Mainstay doubts its own sight, on the bench.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::incident::IncidentState;
use crate::input::Input;
use crate::snapshot::{Health, ServiceState};
use crate::testing::{Bench, app, policy};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn seen(what: &str, answers: bool) -> Seen {
    Seen { what: what.to_owned(), answers }
}

fn gateway(answers: bool) -> SightReport {
    SightReport { gateway: Some(seen("192.0.2.1", answers)), ..SightReport::default() }
}

/// Servers on machines of their own.
fn far(servers: u32) -> Bench {
    let mut bench = Bench::settled(policy(servers, false));
    for n in 1..=servers {
        let address: SocketAddr = format!("198.51.100.{n}:80").parse().unwrap();
        bench.tell(Input::Address { server: app(n), address: Some(address.into()) });
    }
    bench.advance(seconds(2));
    bench.effects.clear();
    bench
}

fn looks(bench: &Bench) -> usize {
    bench.effects.iter().filter(|(_, effect)| matches!(effect, Effect::LookAround(_))).count()
}

fn all_silent(bench: &mut Bench, servers: u32) {
    (1..=servers).for_each(|n| bench.is_bad(&app(n), ProbeFailure::ConnectTimeout));
}

/// So long, in which each look is answered by this.
fn see(bench: &mut Bench, time: Duration, report: &SightReport) {
    let until = bench.now.mono + time;
    let mut answered = looks(bench);
    while bench.now.mono < until {
        bench.advance(Duration::from_millis(20));
        while looks(bench) > answered {
            answered += 1;
            bench.tell(Input::Sight(report.clone()));
        }
    }
}

#[test]
fn what_was_seen_of_control_targets_gateway_and_resolvers_decides_in_this_order() {
    let report = |control: &[bool], gateway: Option<bool>, resolvers: &[bool]| SightReport {
        control: control.iter().map(|a| seen("1.1.1.1:443", *a)).collect(),
        gateway: gateway.map(|a| seen("192.0.2.1", a)),
        resolvers: resolvers.iter().map(|a| seen("192.0.2.53", *a)).collect(),
        names: Vec::new(),
    };
    let blind = |c: &[bool], g, r: &[bool]| report(c, g, r).blindness().is_some();
    assert!(blind(&[false, false], Some(true), &[true]));
    assert!(!blind(&[false, true], Some(false), &[false]));
    assert!(blind(&[], Some(false), &[true]));
    assert!(!blind(&[], Some(true), &[false]));
    assert!(blind(&[], None, &[false, false]));
    assert!(!blind(&[], None, &[false, true]) && !blind(&[], None, &[]), "nobody knows");
}

#[test]
fn names_lead_nowhere_when_no_resolver_answers_and_one_is_known() {
    let said = |names: &[(&str, bool)]| {
        let names = names.iter().map(|(what, answers)| seen(what, *answers)).collect();
        SightReport { names, ..gateway(true) }.namelessness()
    };
    assert_eq!(said(&[("192.0.2.53", false)]).unwrap(), "its resolver 192.0.2.53 does not answer");
    let both = said(&[("192.0.2.53", false), ("192.0.2.54", false)]);
    assert_eq!(both.unwrap(), "none of its resolvers answers (192.0.2.53, 192.0.2.54)");
    assert_eq!(said(&[("192.0.2.53", false), ("192.0.2.54", true)]), None);
    assert_eq!(said(&[]), None);
}

#[test]
fn a_dead_resolver_hides_no_server() {
    let mut bench = far(4);
    let nameless = SightReport { names: vec![seen("192.0.2.53", false)], ..gateway(true) };
    all_silent(&mut bench, 2);
    see(&mut bench, seconds(10), &nameless);
    assert_eq!(bench.targets(), ["app-3", "app-4"]);
    assert!((1..=2).all(|n| bench.server(&app(n)).health == Health::Unhealthy));
}

#[test]
fn a_lost_gateway_is_one_incident_about_the_observer_and_calls_nobody_down() {
    let mut bench = far(4);
    all_silent(&mut bench, 4);
    see(&mut bench, seconds(20), &gateway(false));
    let incidents = bench.incidents();
    assert_eq!(incidents.len(), 1, "{:?}", incidents.iter().map(|i| &i.title).collect::<Vec<_>>());
    assert_eq!(incidents[0].title, "this observer is suspect: the gateway 192.0.2.1 does not answer");
    let evidence = vec!["the gateway 192.0.2.1 does not answer".to_owned()];
    assert_eq!(incidents[0].diagnosis, Some(Diagnosis::sure(Cause::Network, evidence)));
    assert_eq!(bench.targets().len(), 4, "requests go on to them");
    for n in 1..=4 {
        let server = bench.server(&app(n));
        assert_eq!(server.health, Health::Unknown);
        assert!(
            server.why.rule.starts_with("Mainstay cannot see it: the gateway 192.0.2.1"),
            "{:?}",
            server.why
        );
    }
    assert_eq!(bench.model.snapshot(bench.now).services[0].state, ServiceState::Unknown);
    (1..=4).for_each(|n| bench.is_good(&app(n)));
    see(&mut bench, seconds(15), &gateway(true));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    assert!((1..=4).all(|n| bench.server(&app(n)).health == Health::Healthy));
}

#[test]
fn servers_that_fail_while_mainstay_sees_are_down() {
    let mut bench = far(4);
    all_silent(&mut bench, 2);
    see(&mut bench, seconds(5), &gateway(true));
    assert_eq!((looks(&bench), bench.targets()), (1, vec!["app-3".to_owned(), "app-4".to_owned()]));
    assert_eq!(bench.server(&app(1)).health, Health::Unhealthy);
}

#[test]
fn a_look_that_is_never_answered_explains_nothing_away() {
    let mut bench = far(4);
    all_silent(&mut bench, 2);
    bench.advance(seconds(8));
    assert!(looks(&bench) > 0);
    assert_eq!(bench.targets(), ["app-3", "app-4"]);
}

#[test]
fn one_silent_host_and_refusals_are_no_reason_to_doubt() {
    let mut bench = far(3);
    bench.is_bad(&app(1), ProbeFailure::ConnectTimeout);
    (2..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
    bench.advance(seconds(5));
    assert_eq!(looks(&bench), 0);
    assert_eq!(bench.server(&app(1)).health, Health::Unhealthy);
}

#[test]
fn what_is_on_this_machine_is_judged_also_while_the_gateway_is_lost() {
    let mut bench = far(3);
    bench.tell(Input::Address { server: app(3), address: Some(crate::testing::address(8003)) });
    bench.advance(seconds(2));
    all_silent(&mut bench, 2);
    see(&mut bench, seconds(5), &gateway(false));
    bench.is_bad(&app(3), ProbeFailure::AnswerTimeout);
    see(&mut bench, seconds(5), &gateway(false));
    assert_eq!(bench.server(&app(3)).health, Health::Unhealthy);
    assert_eq!(bench.server(&app(1)).health, Health::Unknown);
}

#[test]
fn requests_that_fail_while_mainstay_is_blind_eject_nobody() {
    let mut bench = far(3);
    all_silent(&mut bench, 3);
    see(&mut bench, seconds(3), &gateway(false));
    for _ in 0..20 {
        (1..=3).for_each(|n| bench.attempts_unanswered(&app(n), 5));
        bench.visitors(15, 15);
        see(&mut bench, Duration::from_millis(250), &gateway(false));
    }
    assert_eq!(bench.targets().len(), 3);
    assert_eq!(bench.incidents().len(), 1);
}

#[test]
fn an_error_from_before_takes_nobody_out_who_is_silent_while_mainstay_is_blind() {
    let mut bench = far(3);
    all_silent(&mut bench, 3);
    see(&mut bench, seconds(3), &gateway(false));
    (1..=3).for_each(|n| bench.attempts(&app(n), 40, 1, 0));
    see(&mut bench, Duration::from_millis(1500), &gateway(false));
    (1..=3).for_each(|n| bench.attempts_unanswered(&app(n), 5));
    see(&mut bench, Duration::from_millis(100), &gateway(false));
    assert_eq!(bench.targets().len(), 3);
}

#[test]
fn who_doubts_what_it_sees_restarts_nobody_on_this_machine_either() {
    let mut policy = policy(3, false);
    let server = |n: u32| app(n).name.to_string();
    for (name, one) in &mut policy.services.values_mut().next().unwrap().servers {
        one.supervised = **name == *server(3);
    }
    let mut bench = Bench::settled(policy);
    for n in 1..=2 {
        let address: SocketAddr = format!("198.51.100.{n}:80").parse().unwrap();
        bench.tell(Input::Address { server: app(n), address: Some(address.into()) });
    }
    bench.advance(seconds(2));
    bench.effects.clear();
    all_silent(&mut bench, 2);
    see(&mut bench, seconds(5), &gateway(false));
    bench.crash(&app(3));
    see(&mut bench, seconds(20), &gateway(false));
    assert!(bench.orders().is_empty());
    let rule = bench.server(&app(3)).why.changes[0].text.clone();
    assert_eq!(rule, "not restarted: Mainstay doubts what it sees");
    (1..=2).for_each(|n| bench.is_good(&app(n)));
    see(&mut bench, seconds(10), &gateway(true));
    assert_eq!(bench.orders().len(), 1, "it sees again");
}
