//! What an incident names of what was changed before it, and what is remembered of changes.

use super::*;
use crate::id::{MonitorId, ServerId};
use crate::incident::IncidentState;
use crate::input::{Input, ProbeFailure};
use crate::monitor::MonitorPolicy;
use crate::testing::{Bench, Look, app, policy, shop};

const MINUTE: Duration = Duration::from_secs(60);

fn told(bench: &Bench, ago: Duration, what: &str) -> Change {
    let ago = i64::try_from(ago.as_millis()).unwrap();
    Change {
        at: Wall(bench.now.wall.0 - ago),
        kind: ChangeKind::Told,
        service: Some(shop()),
        what: what.to_owned(),
        by: "ci".to_owned(),
    }
}

fn fail(bench: &mut Bench, server: ServerId) {
    bench.looks.insert(server, Look::Bad(ProbeFailure::Refused));
    bench.advance(Duration::from_secs(5));
}

fn named(bench: &Bench) -> Vec<String> {
    let incident = &bench.model.snapshot(bench.now).incidents[0];
    assert_eq!(incident.state, IncidentState::Open);
    incident.changes.iter().map(|change| change.what.clone()).collect()
}

#[test]
fn an_incident_names_what_was_changed_in_the_hour_before_it_the_nearest_first() {
    let mut bench = Bench::settled(policy(3, false));
    for (minutes, what) in [(2, "second"), (61, "too long ago"), (30, "first")] {
        let change = told(&bench, minutes * MINUTE, what);
        bench.tell(Input::Changed(change));
    }
    let other = Change { service: Some(ServiceId::new("api")), ..told(&bench, MINUTE, "of another service") };
    bench.tell(Input::Changed(other));
    let all = Change { service: None, ..told(&bench, 10 * MINUTE, "of everything") };
    bench.tell(Input::Changed(all));
    fail(&mut bench, app(1));
    assert_eq!(named(&bench), ["second", "of everything", "first"]);
}

#[test]
fn a_change_that_is_told_of_late_is_named_by_the_incident_that_is_open() {
    let mut bench = Bench::settled(policy(3, false));
    fail(&mut bench, app(1));
    let change = told(&bench, MINUTE, "deployed v42");
    bench.tell(Input::Changed(change));
    assert_eq!(named(&bench), ["deployed v42"]);
    let incident = &bench.model.snapshot(bench.now).incidents[0];
    let entry = incident.timeline.last().unwrap();
    assert_eq!((entry.kind, entry.text.as_str()), (EntryKind::Changed, "ci says: deployed v42"));
}

#[test]
fn a_change_of_everything_that_is_told_of_late_is_named_by_the_incident_of_a_monitor_too() {
    let mut all = policy(0, false);
    let watched = MonitorId::new("payments");
    all.monitors.insert(watched.clone(), MonitorPolicy::default());
    let mut bench = Bench::fresh(all);
    bench.advance(Duration::from_secs(11));
    bench.monitor_looks.insert(watched.clone(), Look::Bad(ProbeFailure::Refused));
    bench.advance(2 * MINUTE);
    let change = Change { service: None, ..told(&bench, 30 * MINUTE, "moved the firewall") };
    bench.tell(Input::Changed(change));
    assert_eq!(named(&bench), ["moved the firewall"]);
    let snapshot = bench.model.snapshot(bench.now);
    assert_eq!(snapshot.incidents[0].scope, Scope::Monitor(watched));
}

#[test]
fn a_change_of_a_service_touches_what_is_said_of_its_checks() {
    let change = Change { service: Some(shop()), ..told(&Bench::settled(policy(1, false)), MINUTE, "v42") };
    assert!(change.touches(&Scope::Check(shop())));
    assert!(!change.touches(&Scope::Check(ServiceId::new("api"))));
    assert!(!change.touches(&Scope::Monitors));
}

#[test]
fn what_is_done_while_an_incident_is_open_is_in_its_timeline_and_not_before_it() {
    let mut bench = Bench::settled(policy(3, false));
    fail(&mut bench, app(1));
    let change = told(&bench, Duration::ZERO, "raised the limit");
    bench.tell(Input::Changed(change));
    assert!(named(&bench).is_empty());
    let incident = &bench.model.snapshot(bench.now).incidents[0];
    assert!(incident.timeline.iter().any(|entry| entry.kind == EntryKind::Changed));
}

#[test]
fn a_reload_says_what_of_a_service_it_changes_and_one_that_changes_nothing_says_nothing() {
    let mut bench = Bench::settled(policy(3, false));
    bench.tell(Input::Policy(bench.policy.clone()));
    assert!(bench.model.snapshot(bench.now).changes.is_empty());
    let mut changed = policy(4, false);
    changed.services.get_mut(&shop()).unwrap().health.timeout = Duration::from_secs(3);
    bench.tell(Input::Policy(changed));
    let changes = bench.model.snapshot(bench.now).changes;
    let whats: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
    assert_eq!(whats, ["its config changed: server app-4 is new, health"]);
    assert_eq!(changes[0].kind, ChangeKind::Config);
}

#[test]
fn changes_are_written_down_kept_for_a_day_and_never_without_bound() {
    let mut bench = Bench::settled(policy(1, false));
    for n in 0..KEPT_MAX + 50 {
        let change = told(&bench, Duration::ZERO, &format!("change {n}"));
        bench.tell(Input::Changed(change));
    }
    assert_eq!(bench.model.snapshot(bench.now).changes.len(), KEPT_MAX);
    let written = bench.records().iter().filter(|r| matches!(r, Record::Change(_))).count();
    assert_eq!(written, KEPT_MAX + 50);
    bench.now.wall.0 += i64::try_from(KEPT.as_millis()).unwrap() + 1000;
    let change = told(&bench, Duration::ZERO, &"é".repeat(1000));
    bench.tell(Input::Changed(change));
    let changes = bench.model.snapshot(bench.now).changes;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].what.chars().count(), Change::WHAT_MAX);
}

#[test]
fn a_change_from_the_future_is_of_now() {
    let mut bench = Bench::settled(policy(1, false));
    let now = bench.now.wall;
    let change = Change { at: Wall(i64::MAX), ..told(&bench, Duration::ZERO, "a clock is wrong") };
    bench.tell(Input::Changed(change));
    assert_eq!(bench.model.snapshot(bench.now).changes[0].at, now);
}
