//! Monitors on the judge's bench: who is down when, what is told of it, and that ten thousand of them cost little.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{MonitorCounts, MonitorPolicy, MonitorState, OutOf};
use crate::cause::Cause;
use crate::effect::{Effect, NoticeKind, Record};
use crate::endpoint::Whereabouts;
use crate::escalation::{Call, Recipient, Way};
use crate::id::{IncidentId, MonitorId, ProbeTarget};
use crate::incident::{EntryKind, Incident, IncidentState, Scope, Severity};
use crate::input::{Input, OwnPart, ProbeFailure, Restored};
use crate::sight::{Seen, SightReport};
use crate::testing::{Bench, Look, policy};
use crate::time::{Mono, Wall};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn id(n: usize) -> MonitorId {
    MonitorId::new(format!("m-{n:05}"))
}

fn monitor(n: usize, interval: Duration) -> MonitorPolicy {
    let address = SocketAddr::from(([10, 1, (n / 250) as u8, (n % 250) as u8], 80));
    MonitorPolicy {
        target: format!("http://{address}/").into(),
        address: address.into(),
        interval,
        ..MonitorPolicy::default()
    }
}

/// So many monitors and nothing else, all of them known to be up.
fn bench(n: usize, interval: Duration) -> Bench {
    let mut bench = fresh(n, interval);
    bench.advance(Duration::from_secs(11));
    bench.effects.clear();
    bench
}

fn fresh(n: usize, interval: Duration) -> Bench {
    Bench::fresh(with(n, interval))
}

fn with(n: usize, interval: Duration) -> crate::Policy {
    let mut all = policy(0, false);
    all.services.clear();
    all.monitors = (0..n).map(|n| (id(n), monitor(n, interval))).collect();
    all
}

fn fails(bench: &mut Bench, n: usize, failure: ProbeFailure) {
    bench.monitor_looks.insert(id(n), Look::Bad(failure));
}

fn heals(bench: &mut Bench, n: usize) {
    bench.monitor_looks.remove(&id(n));
}

fn looks(bench: &Bench, n: usize) -> Vec<Mono> {
    let wanted = ProbeTarget::Monitor(id(n));
    let order = |(at, effect): &(Mono, Effect)| match effect {
        Effect::Probe(order) if order.target == wanted => Some(*at),
        _ => None,
    };
    bench.effects.iter().filter_map(order).collect()
}

/// Moves on until the monitor has been looked at so many times more.
fn after_looks(bench: &mut Bench, n: usize, times: usize) {
    let before = looks(bench, n).len();
    for _ in 0..200_000 {
        if looks(bench, n).len() >= before + times {
            // The answer follows the order.
            return bench.advance(Duration::from_millis(2));
        }
        bench.advance(Duration::from_millis(50));
    }
    panic!("it is not looked at");
}

#[test]
fn nobody_is_up_before_somebody_has_looked_and_everybody_is_within_ten_seconds() {
    let mut bench = fresh(20, MINUTE);
    let counts = |bench: &Bench| bench.model.snapshot(bench.now).monitor_counts;
    assert_eq!(counts(&bench), MonitorCounts { unknown: 20, ..MonitorCounts::default() });
    bench.advance(11 * SECOND);
    assert_eq!(counts(&bench), MonitorCounts { up: 20, ..MonitorCounts::default() });
    assert!(bench.incidents().is_empty());
}

#[test]
fn three_of_five_are_certain_within_seven_seconds_of_the_first_failure() {
    let mut bench = bench(1, MINUTE);
    fails(&mut bench, 0, ProbeFailure::Refused);
    after_looks(&mut bench, 0, 1);
    let first = bench.now;
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Up);
    bench.advance(3 * SECOND + SECOND / 10);
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Down);
    let gaps: Vec<u64> = looks(&bench, 0).windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(gaps, [1, 2]);
    let incident = &bench.incidents()[0];
    assert_eq!(incident.scope, Scope::Monitor(id(0)));
    assert_eq!(incident.title, "m-00000 is down: connection refused");
    assert_eq!(incident.severity, Severity::Down);
    assert!(incident.began_at.ms_since(first.wall).abs() < 100, "it began with the first failure");
    assert_eq!(incident.timeline[0].text, "a probe of m-00000 failed: connection refused");
    assert_eq!(incident.diagnosis.as_ref().unwrap().cause, Cause::Crash);
}

#[test]
fn a_failure_between_good_looks_counts_until_it_is_forgotten() {
    let mut bench = bench(1, 10 * SECOND);
    for (failing, state) in [
        (true, MonitorState::Up),
        (false, MonitorState::Up),
        (true, MonitorState::Up),
        (false, MonitorState::Up),
        (true, MonitorState::Down),
    ] {
        match failing {
            true => fails(&mut bench, 0, ProbeFailure::Reset),
            false => heals(&mut bench, 0),
        }
        after_looks(&mut bench, 0, 1);
        assert_eq!(bench.model.monitors.state(&id(0)), state, "3 of 5");
    }
}

#[test]
fn one_blip_is_no_incident_and_costs_a_few_quick_looks() {
    let mut bench = bench(1, MINUTE);
    fails(&mut bench, 0, ProbeFailure::Reset);
    after_looks(&mut bench, 0, 1);
    heals(&mut bench, 0);
    bench.advance(10 * MINUTE);
    assert!(bench.incidents().is_empty());
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Up);
    assert!((14..=16).contains(&looks(&bench, 0).len()), "{}", looks(&bench, 0).len());
}

#[test]
fn two_good_looks_in_a_row_bring_it_back_and_ten_seconds_later_it_is_over() {
    let mut bench = bench(1, MINUTE);
    fails(&mut bench, 0, ProbeFailure::Status(503));
    bench.advance(2 * MINUTE);
    heals(&mut bench, 0);
    after_looks(&mut bench, 0, 1);
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Down);
    bench.advance(SECOND + SECOND / 2);
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Up);
    assert_eq!(bench.incidents()[0].state, IncidentState::Open);
    bench.advance(10 * SECOND);
    let incident = bench.incidents()[0].clone();
    assert_eq!(incident.state, IncidentState::Resolved);
    assert!(incident.timeline.iter().any(|e| e.kind == EntryKind::ProbeGood));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
    assert!(bench.notices()[0].advice.contains("http://10.1.0.0:80/"), "{}", bench.notices()[0].advice);
}

#[test]
fn the_cause_is_that_of_the_failure() {
    let causes = [
        (ProbeFailure::Name("pay.example.com does not exist".into()), Cause::Dns),
        (ProbeFailure::Unresolved("DNS does not say where pay.example.com is".into()), Cause::Dns),
        (ProbeFailure::Certificate("shows a certificate that has expired".into()), Cause::Certificate),
        (ProbeFailure::Unreachable("no route to host".into()), Cause::Network),
        (ProbeFailure::AnswerTimeout, Cause::Crash),
        (ProbeFailure::Reset, Cause::Unknown),
        (ProbeFailure::BrokenOff("answered status 200 and broke off".into()), Cause::Unknown),
        (ProbeFailure::Status(500), Cause::Unknown),
    ];
    for (failure, cause) in causes {
        let mut bench = bench(1, MINUTE);
        fails(&mut bench, 0, failure.clone());
        bench.advance(4 * MINUTE);
        let incident = &bench.incidents()[0];
        assert_eq!(incident.diagnosis.as_ref().unwrap().cause, cause, "{failure}");
        assert_eq!(incident.title, format!("m-00000 is down: {failure}"));
    }
}

#[test]
fn who_could_not_look_says_nothing_and_after_three_times_nothing_is_known() {
    let mut bench = bench(1, MINUTE);
    fails(&mut bench, 0, ProbeFailure::NotProbed("no file descriptors".into()));
    after_looks(&mut bench, 0, 1);
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Up);
    after_looks(&mut bench, 0, 2);
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Unknown);
    bench.advance(10 * MINUTE);
    assert!(bench.incidents().is_empty());
    heals(&mut bench, 0);
    bench.advance(MINUTE);
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Up);
}

#[test]
fn an_answer_that_never_comes_is_given_up_and_says_nothing() {
    let mut bench = bench(1, MINUTE);
    bench.monitor_looks.insert(id(0), Look::Silent);
    bench.advance(10 * MINUTE);
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Unknown);
    assert!(bench.incidents().is_empty());
    assert!(looks(&bench, 0).len() > 10, "it is tried again and again");
}

#[test]
fn a_warning_makes_it_degraded_and_no_incident() {
    let mut bench = bench(1, MINUTE);
    bench.monitor_looks.insert(id(0), Look::Warns("its certificate ends in 5 days".into()));
    bench.advance(2 * MINUTE);
    let snapshot = bench.model.snapshot(bench.now);
    let shown = snapshot.monitor(&id(0)).unwrap();
    assert_eq!(
        (shown.state, shown.because.as_str()),
        (MonitorState::Degraded, "its certificate ends in 5 days")
    );
    assert!(bench.incidents().is_empty());
}

#[test]
fn one_that_goes_up_and_down_all_day_soon_has_one_incident_for_it() {
    let mut bench = bench(1, 10 * SECOND);
    for _ in 0..20 {
        fails(&mut bench, 0, ProbeFailure::Refused);
        bench.advance(20 * SECOND);
        heals(&mut bench, 0);
        bench.advance(20 * SECOND);
    }
    let numbers: Vec<IncidentId> = bench.incidents().iter().map(|i| i.id).collect();
    assert!(numbers.len() <= 3, "{numbers:?}");
    assert!(bench.notices().len() <= 5, "{:?}", bench.notice_kinds());
}

#[test]
fn looks_are_spread_and_keep_their_beat() {
    let mut bench = fresh(300, 10 * SECOND);
    bench.advance(30 * SECOND);
    bench.effects.clear();
    let from = bench.now.mono;
    bench.advance(100 * SECOND);
    let mut by_second: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, effect) in &bench.effects {
        if matches!(effect, Effect::Probe(_)) {
            *by_second.entry(at.since(from).as_secs()).or_default() += 1;
        }
    }
    let sum: usize = by_second.values().sum();
    assert!((2940..=3060).contains(&sum), "{sum} looks in 100 s");
    assert!(by_second.values().all(|n| (10..60).contains(n)), "{by_second:?}");
}

#[test]
fn six_that_fail_together_are_one_incident_within_seconds_though_each_is_looked_at_once_a_minute() {
    let mut bench = bench(6, MINUTE);
    (0..6).for_each(|n| fails(&mut bench, n, ProbeFailure::Unreachable("no route to host".into())));
    let first = loop {
        bench.advance(SECOND / 10);
        if bench.effects.iter().any(|(_, e)| matches!(e, Effect::Probe(_))) {
            break bench.now;
        }
    };
    bench.advance(5 * SECOND);
    let incidents = bench.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0].scope, Scope::Monitors);
    assert!(incidents[0].opened_at.ms_since(first.wall) < 5_000);
    bench.advance(5 * MINUTE);
    assert_eq!(bench.incidents()[0].title, "6 of 6 monitors fail at once: unreachable: no route to host");
    assert_eq!(bench.incidents()[0].diagnosis.as_ref().unwrap().cause, Cause::Network);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
    let counts = bench.model.snapshot(bench.now).monitor_counts;
    assert_eq!(counts.down, 6);
    (0..6).for_each(|n| heals(&mut bench, n));
    bench.advance(3 * MINUTE);
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
}

#[test]
fn a_crowd_is_put_down_to_what_most_of_it_show_and_to_the_network_only_if_nothing_comes_back() {
    let away = || ProbeFailure::Unreachable("no route to host".into());
    let expired = || ProbeFailure::Certificate("shows a certificate that has expired".into());
    let gone = || ProbeFailure::Name("it does not exist in DNS (NXDOMAIN)".into());
    // How many of the twelve fail like this, and the others like that; on different hosts, and on one.
    for (n, failure, other, cause, on_one) in [
        (12, away(), away(), Cause::Network, Cause::Network),
        (12, ProbeFailure::AnswerTimeout, away(), Cause::Network, Cause::Crash),
        (8, ProbeFailure::ConnectTimeout, ProbeFailure::AnswerTimeout, Cause::Network, Cause::Network),
        (12, gone(), away(), Cause::Dns, Cause::Dns),
        (12, unresolved(), away(), Cause::Dns, Cause::Dns),
        (12, expired(), away(), Cause::Certificate, Cause::Certificate),
        (12, ProbeFailure::Status(503), away(), Cause::Unknown, Cause::Unknown),
        (12, ProbeFailure::Refused, away(), Cause::Crash, Cause::Crash),
        (8, expired(), away(), Cause::Certificate, Cause::Certificate),
        (4, expired(), away(), Cause::Network, Cause::Network),
    ] {
        for one_host in [false, true] {
            let mut policy = with(12, 10 * SECOND);
            if one_host {
                policy.monitors.values_mut().for_each(|m| m.address = monitor(0, SECOND).address);
            }
            let mut bench = Bench::fresh(policy);
            bench.advance(11 * SECOND);
            (0..12).for_each(|m| fails(&mut bench, m, if m < n { failure.clone() } else { other.clone() }));
            bench.advance(MINUTE);
            let incidents = bench.incidents();
            assert_eq!(incidents.len(), 1, "{failure}");
            let found = incidents[0].diagnosis.as_ref().unwrap();
            let wanted = if one_host { on_one } else { cause };
            assert_eq!(found.cause, wanted, "{failure}, on one host: {one_host}: {found:?}");
        }
    }
}

#[test]
fn a_few_that_fail_while_most_are_well_are_told_one_by_one() {
    let mut bench = bench(30, 10 * SECOND);
    (0..3).for_each(|n| fails(&mut bench, n, ProbeFailure::Refused));
    bench.advance(MINUTE);
    let incidents = bench.incidents();
    assert_eq!(incidents.len(), 3);
    assert!(incidents.iter().all(|i| matches!(i.scope, Scope::Monitor(_))));
}

#[test]
fn what_stays_down_when_the_rest_has_come_back_goes_on_by_itself() {
    let mut bench = bench(8, 10 * SECOND);
    (0..8).for_each(|n| fails(&mut bench, n, ProbeFailure::Refused));
    bench.advance(MINUTE);
    (1..8).for_each(|n| heals(&mut bench, n));
    bench.advance(3 * MINUTE);
    let open: Vec<Arc<Incident>> =
        bench.incidents().into_iter().filter(|i| i.state != IncidentState::Resolved).collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].scope, Scope::Monitor(id(0)));
}

#[test]
fn one_that_fails_long_after_the_crowd_has_an_incident_of_its_own() {
    let mut bench = bench(12, 10 * SECOND);
    (0..8).for_each(|n| fails(&mut bench, n, ProbeFailure::Refused));
    bench.advance(3 * MINUTE);
    fails(&mut bench, 10, ProbeFailure::Refused);
    bench.advance(MINUTE);
    let scopes: Vec<Scope> = bench.incidents().iter().map(|i| i.scope.clone()).collect();
    assert_eq!(scopes, [Scope::Monitor(id(10)), Scope::Monitors]);
}

#[test]
fn ten_thousand_that_fail_at_once_are_one_incident_within_five_seconds_and_two_messages() {
    const ALL: usize = 10_000;
    let mut bench = bench(ALL, 10 * SECOND);
    let began = bench.now;
    (0..ALL).for_each(|n| fails(&mut bench, n, ProbeFailure::Refused));
    bench.advance(5 * SECOND);
    let incidents = bench.incidents();
    assert_eq!(incidents.len(), 1, "{}", incidents.len());
    assert!(incidents[0].opened_at.ms_since(began.wall) <= 5_000);
    bench.advance(9 * SECOND);
    assert_eq!(bench.model.snapshot(bench.now).monitor_counts.down as usize, ALL);
    assert_eq!(bench.incidents()[0].title, "10,000 of 10,000 monitors fail at once: connection refused");
    let records = bench.records().len();
    assert!(records < 100, "{records} records of one incident");
    bench.monitor_looks.clear();
    bench.advance(23 * SECOND);
    assert_eq!(bench.model.snapshot(bench.now).monitor_counts.up as usize, ALL);
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    assert_eq!(bench.incidents().len(), 1);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
    assert_eq!(crate::invariants::check(&bench.model), Ok(()));
}

#[test]
fn only_who_is_named_hears_of_it() {
    let to = |address: &str| Call {
        to: Recipient { way: Way::Email, address: address.into(), name: address.into() },
        after: Duration::ZERO,
    };
    let mut all = with(1, MINUTE);
    all.on_call.groups = [("web".into(), vec![to("web@x")]), ("db".into(), vec![to("db@x")])].into();
    all.monitors.get_mut(&id(0)).unwrap().on_call = Some(vec!["db".into()]);
    let mut bench = Bench::fresh(all);
    fails(&mut bench, 0, ProbeFailure::Refused);
    bench.advance(MINUTE);
    let told: Vec<String> = bench.notices()[0].to.iter().map(|to| to.name.clone()).collect();
    assert_eq!(told, ["db@x"]);
}

/// The incidents that are in the record, as a restarted Mainstay finds them.
fn recorded(bench: &Bench) -> Restored {
    let mut incidents: BTreeMap<IncidentId, Incident> = BTreeMap::new();
    for record in bench.records() {
        match record {
            Record::Incident(incident) => {
                let timeline = incidents.remove(&incident.id).map(|known| known.timeline);
                let timeline = timeline.unwrap_or_default();
                incidents.insert(incident.id, Incident { timeline, ..incident });
            }
            Record::Entry { incident, entry, .. } => {
                incidents.get_mut(&incident).unwrap().timeline.push(entry);
            }
            _ => {}
        }
    }
    let open = incidents.into_values().filter(|incident| incident.state != IncidentState::Resolved);
    Restored { incidents: open.collect(), last_alive: Some(bench.now.wall), ..Restored::default() }
}

fn restarted(before: &Bench, policy: crate::Policy) -> Bench {
    let mut after = Bench::empty(policy);
    after.now = before.now;
    after.monitor_looks.clone_from(&before.monitor_looks);
    after.tell(Input::Restored(recorded(before)));
    after.tell(Input::Policy(after.policy.clone()));
    after
}

#[test]
fn a_restart_goes_on_with_what_was_down_and_tells_nobody_twice() {
    let mut before = bench(4, MINUTE);
    fails(&mut before, 0, ProbeFailure::Refused);
    before.advance(2 * MINUTE);
    assert_eq!(before.notice_kinds(), [NoticeKind::Opened]);
    let mut after = restarted(&before, before.policy.clone());
    assert_eq!(after.model.monitors.state(&id(0)), MonitorState::Down);
    after.advance(5 * MINUTE);
    assert!(after.notices().is_empty(), "{:?}", after.notice_kinds());
    heals(&mut after, 0);
    after.advance(3 * MINUTE);
    assert_eq!(after.notice_kinds(), [NoticeKind::Resolved]);
    assert_eq!(after.incidents().len(), 1);
}

#[test]
fn a_restart_in_the_middle_of_a_storm_stays_one_incident() {
    let mut before = bench(10, 10 * SECOND);
    (0..10).for_each(|n| fails(&mut before, n, ProbeFailure::Refused));
    before.advance(MINUTE);
    let mut after = restarted(&before, before.policy.clone());
    after.advance(3 * MINUTE);
    assert_eq!(after.incidents().len(), 1, "{:?}", after.incidents());
    assert!(after.notices().is_empty());
    (0..10).for_each(|n| heals(&mut after, n));
    after.advance(2 * MINUTE);
    assert_eq!(after.incidents()[0].state, IncidentState::Resolved);
    assert_eq!(after.notice_kinds(), [NoticeKind::Resolved]);
}

#[test]
fn what_left_the_config_is_over_and_what_came_new_is_looked_at_soon() {
    let mut bench = bench(2, MINUTE);
    fails(&mut bench, 0, ProbeFailure::Refused);
    bench.advance(2 * MINUTE);
    bench.policy.monitors.remove(&id(0));
    bench.policy.monitors.insert(id(7), monitor(7, MINUTE));
    bench.tell(Input::Policy(bench.policy.clone()));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    bench.advance(11 * SECOND);
    assert_eq!(bench.model.monitors.state(&id(7)), MonitorState::Up);
    let mut again = restarted(&bench, bench.policy.clone());
    again.advance(MINUTE);
    assert!(again.incidents().is_empty());
}

#[test]
fn a_changed_target_begins_anew_and_an_unchanged_one_keeps_what_is_known() {
    let mut bench = bench(2, MINUTE);
    let since = |bench: &Bench, n| bench.model.snapshot(bench.now).monitor(&id(n)).unwrap().since;
    let before: Wall = since(&bench, 1);
    bench.policy.monitors.get_mut(&id(0)).unwrap().target = "http://elsewhere/".into();
    bench.policy.monitors.get_mut(&id(1)).unwrap().fail = OutOf { bad: 1, of: 1 };
    bench.tell(Input::Policy(bench.policy.clone()));
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Unknown);
    assert_eq!(bench.model.monitors.state(&id(1)), MonitorState::Up);
    assert_eq!(since(&bench, 1), before);
    fails(&mut bench, 1, ProbeFailure::Refused);
    after_looks(&mut bench, 1, 1);
    assert_eq!(bench.model.monitors.state(&id(1)), MonitorState::Down);
}

#[test]
fn a_person_takes_the_incident_of_one_or_of_many_on() {
    let mut bench = bench(9, 10 * SECOND);
    fails(&mut bench, 0, ProbeFailure::Refused);
    bench.advance(2 * MINUTE);
    (1..9).for_each(|n| fails(&mut bench, n, ProbeFailure::Refused));
    bench.advance(MINUTE);
    for incident in bench.incidents() {
        bench.tell(Input::Acknowledge { incident: incident.id, by: "ann".to_owned() });
    }
    assert_eq!(bench.incidents().len(), 2);
    assert!(bench.incidents().iter().all(|i| i.state == IncidentState::Acknowledged));
}

#[test]
fn who_cannot_see_calls_nothing_down_that_is_elsewhere() {
    let mut bench = bench(6, Duration::from_secs(10));
    (0..6).for_each(|n| fails(&mut bench, n, ProbeFailure::ConnectTimeout));
    let sight = SightReport { gateway: Some(seen("192.0.2.1", false)), ..SightReport::default() };
    let asked = |bench: &Bench| bench.effects.iter().any(|(_, e)| matches!(e, Effect::LookAround(_)));
    while !asked(&bench) {
        bench.advance(Duration::from_millis(20));
    }
    bench.tell(Input::Sight(sight));
    let confirmed = |bench: &Bench| {
        let snapshot = bench.model.snapshot(bench.now);
        snapshot.incidents.iter().filter(|i| matches!(i.scope, Scope::Monitor(_) | Scope::Monitors)).count()
    };
    bench.advance(Duration::from_secs(1));
    assert_eq!(confirmed(&bench), 0);
    let snapshot = bench.model.snapshot(bench.now);
    assert!(snapshot.incidents[0].title.starts_with("this observer is suspect"), "{:?}", snapshot.incidents);
}

/// So many monitors of sites that are known by their names, as a Mainstay has that watches nothing else.
fn named(n: usize, interval: Duration) -> Bench {
    let mut policy = with(n, interval);
    for (id, monitor) in &mut policy.monitors {
        monitor.address = Whereabouts::Named { host: format!("{id}.example.com").into(), port: 443 };
    }
    let mut bench = Bench::fresh(policy);
    bench.advance(Duration::from_secs(11));
    bench.effects.clear();
    bench
}

fn unresolved() -> ProbeFailure {
    ProbeFailure::Unresolved("DNS does not say where it is: no answer in time".to_owned())
}

fn seen(what: &str, answers: bool) -> Seen {
    Seen { what: what.to_owned(), answers }
}

/// Moves on, and each look around sees this; how many there were.
fn seeing(bench: &mut Bench, time: Duration, report: &SightReport) -> usize {
    let asked =
        |bench: &Bench| bench.effects.iter().filter(|(_, e)| matches!(e, Effect::LookAround(_))).count();
    let (end, mut answered) = (bench.now.mono + time, asked(bench));
    let begun = answered;
    while bench.now.mono < end {
        bench.advance(Duration::from_millis(20));
        while answered < asked(bench) {
            answered += 1;
            bench.tell(Input::Sight(report.clone()));
        }
    }
    answered - begun
}

fn scopes(bench: &Bench) -> Vec<Scope> {
    bench.incidents().iter().map(|incident| incident.scope.clone()).collect()
}

const RESOLVER: &str = "192.0.2.53";

fn no_names() -> SightReport {
    let gateway = Some(seen("192.0.2.1", true));
    SightReport { gateway, names: vec![seen(RESOLVER, false)], ..SightReport::default() }
}

fn well() -> SightReport {
    let gateway = Some(seen("192.0.2.1", true));
    SightReport { gateway, names: vec![seen(RESOLVER, true)], ..SightReport::default() }
}

#[test]
fn who_watches_names_only_and_loses_the_network_pages_for_itself_and_for_none_of_them() {
    for failure in [unresolved(), ProbeFailure::ConnectTimeout] {
        let mut bench = named(12, 10 * SECOND);
        (0..12).for_each(|n| fails(&mut bench, n, failure.clone()));
        let blind = SightReport { gateway: Some(seen("192.0.2.1", false)), ..no_names() };
        seeing(&mut bench, 2 * MINUTE, &blind);
        assert_eq!(scopes(&bench), [Scope::Own(OwnPart::Sight)], "{failure}");
        let title = "this observer is suspect: the gateway 192.0.2.1 does not answer";
        assert_eq!(bench.incidents()[0].title, title);
        assert_eq!(bench.model.snapshot(bench.now).monitor_counts.unknown, 12, "{failure}");
        (0..12).for_each(|n| heals(&mut bench, n));
        seeing(&mut bench, MINUTE, &well());
        assert_eq!(bench.model.snapshot(bench.now).monitor_counts.up, 12, "{failure}");
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }
}

#[test]
fn a_dead_resolver_makes_what_is_known_by_name_unknown_and_the_rest_is_judged() {
    let mut policy = named(8, 10 * SECOND).policy.clone();
    policy.monitors.insert(id(8), monitor(8, 10 * SECOND));
    let mut bench = Bench::fresh(policy);
    seeing(&mut bench, 11 * SECOND, &well());
    (0..8).for_each(|n| fails(&mut bench, n, unresolved()));
    seeing(&mut bench, MINUTE, &no_names());
    assert_eq!(scopes(&bench), [Scope::Own(OwnPart::Sight)]);
    let title = "this observer is suspect: its resolver 192.0.2.53 does not answer";
    assert_eq!(bench.incidents()[0].title, title);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened], "nobody is paged for each");
    assert_eq!(bench.model.monitors.state(&id(0)), MonitorState::Unknown);
    let snapshot = bench.model.snapshot(bench.now);
    let why = "nobody could look: Mainstay itself cannot see: its resolver 192.0.2.53 does not answer";
    assert_eq!(snapshot.monitor(&id(0)).unwrap().because, why);
    assert_eq!(bench.model.monitors.state(&id(8)), MonitorState::Up);

    fails(&mut bench, 8, ProbeFailure::ConnectTimeout);
    seeing(&mut bench, 30 * SECOND, &no_names());
    assert_eq!(bench.model.monitors.state(&id(8)), MonitorState::Down, "its address is known");

    bench.monitor_looks.clear();
    assert!(seeing(&mut bench, 30 * SECOND, &well()) > 0, "it looks whether its resolver is back");
    assert_eq!(bench.model.snapshot(bench.now).monitor_counts.up, 9);
    assert!(bench.incidents().iter().all(|i| i.state == IncidentState::Resolved), "{:?}", bench.incidents());
}

#[test]
fn names_that_fail_while_the_resolver_answers_are_down() {
    for (failure, looks) in [(unresolved(), true), (ProbeFailure::Name("gone (NXDOMAIN)".into()), false)] {
        let mut bench = named(6, 10 * SECOND);
        (0..6).for_each(|n| fails(&mut bench, n, failure.clone()));
        let looked = seeing(&mut bench, MINUTE, &well());
        assert_eq!(looked > 0, looks, "that a name does not exist is an answer: {failure}");
        assert_eq!(scopes(&bench), [Scope::Monitors], "{failure}");
        assert_eq!(bench.model.snapshot(bench.now).monitor_counts.down, 6);
    }
}

#[test]
fn nothing_silent_is_called_down_before_the_look_has_its_answer() {
    let mut policy = named(6, 10 * SECOND).policy.clone();
    policy.monitors.values_mut().for_each(|monitor| monitor.fail = OutOf { bad: 2, of: 2 });
    let mut bench = Bench::fresh(policy);
    bench.advance(11 * SECOND);
    bench.effects.clear();
    (0..6).for_each(|n| fails(&mut bench, n, unresolved()));
    let asked = |bench: &Bench| bench.effects.iter().any(|(_, e)| matches!(e, Effect::LookAround(_)));
    while !asked(&bench) {
        bench.advance(Duration::from_millis(20));
    }
    let down = |bench: &Bench| bench.model.snapshot(bench.now).monitor_counts.down;
    // A look takes a second, and is given up after two.
    bench.advance(SECOND + SECOND / 2);
    assert_eq!((down(&bench), scopes(&bench)), (0, vec![]));
    bench.advance(10 * SECOND);
    assert_eq!(down(&bench), 6, "a look that is never answered explains nothing away");
}
