//! Windows on the judge's bench: who is told of nothing, for how long, and what is told afterwards.

use super::*;
use crate::effect::NoticeKind;
use crate::id::MonitorId;
use crate::incident::{EntryKind, IncidentState};
use crate::input::{Input, ProbeFailure, Restored};
use crate::monitor::{MonitorPolicy, MonitorState};
use crate::policy::Policy;
use crate::snapshot::ServiceState;
use crate::testing::{Bench, Look, app, policy, shop};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn covers_shop() -> Covers {
    Covers { services: [shop()].into(), ..Covers::default() }
}

fn of(covers: Covers) -> WindowPolicy {
    WindowPolicy {
        covers,
        title: "Planned maintenance".into(),
        reason: "new disks".into(),
        public: true,
        ..WindowPolicy::default()
    }
}

/// A window that begins after `begins` and lasts for `lasts`, opened by a person.
fn open(bench: &mut Bench, covers: Covers, begins: Duration, lasts: Duration) {
    let from = (bench.now + begins).wall;
    let when = Occurrence { from, to: (bench.now + begins + lasts).wall };
    bench.tell(Input::OpenWindow(HandWindow { policy: of(covers), when, by: "ada".into() }));
}

fn state(bench: &Bench) -> ServiceState {
    bench.model.snapshot(bench.now).services[0].state
}

fn all_are_bad(bench: &mut Bench) {
    (1..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
}

#[test]
fn expected_downtime_raises_nobody_and_is_routed_round_all_the_same() {
    let mut bench = Bench::settled(policy(3, false));
    open(&mut bench, covers_shop(), Duration::ZERO, 10 * MINUTE);
    assert_eq!(state(&bench), ServiceState::Maintenance);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.visitors(100, 20);
    bench.advance(MINUTE);
    assert_eq!(bench.targets(), ["app-2", "app-3"]);
    assert!(bench.incidents().is_empty() && bench.notices().is_empty());
    bench.is_good(&app(1));
    bench.advance(20 * MINUTE);
    assert_eq!(state(&bench), ServiceState::Healthy);
    assert!(bench.incidents().is_empty() && bench.notices().is_empty());
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
}

#[test]
fn what_still_fails_when_its_window_ends_is_told_once_and_from_then_on() {
    let mut bench = Bench::settled(policy(3, false));
    open(&mut bench, covers_shop(), Duration::ZERO, 10 * MINUTE);
    all_are_bad(&mut bench);
    bench.advance(10 * MINUTE - SECOND);
    assert!(bench.incidents().is_empty());
    let ends = (bench.now + SECOND).wall;
    bench.advance(10 * SECOND);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
    let incident = &bench.incidents()[0];
    assert!(incident.began_at >= ends, "what was before belongs to the window");
    assert_eq!(incident.servers.len(), 3);
    (1..=3).for_each(|n| bench.is_good(&app(n)));
    bench.advance(2 * MINUTE);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
}

#[test]
fn visitors_who_were_hurt_in_a_window_are_no_news_after_it() {
    let mut bench = Bench::settled(policy(3, false));
    open(&mut bench, covers_shop(), Duration::ZERO, MINUTE);
    bench.advance(MINUTE - SECOND);
    bench.visitors(100, 100);
    bench.advance(2 * MINUTE);
    assert!(bench.incidents().is_empty());
}

#[test]
fn an_incident_that_was_open_before_goes_on_being_told() {
    let mut bench = Bench::settled(policy(3, false));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(5 * SECOND);
    open(&mut bench, covers_shop(), Duration::ZERO, 10 * MINUTE);
    bench.advance(MINUTE);
    assert_eq!(bench.incidents()[0].state, IncidentState::Open);
    bench.is_good(&app(1));
    bench.advance(2 * MINUTE);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(MINUTE);
    assert_eq!(bench.incidents().len(), 1, "what fails anew is expected");
}

#[test]
fn of_a_service_with_one_server_in_a_window_the_others_are_told_of() {
    let mut bench = Bench::settled(policy(3, false));
    let covers = Covers { servers: [app(1)].into(), ..Covers::default() };
    open(&mut bench, covers, Duration::ZERO, 10 * MINUTE);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(MINUTE);
    assert!(bench.incidents().is_empty());
    assert_eq!(state(&bench), ServiceState::Healthy, "its service does what it should");
    assert!(bench.server(&app(1)).maintenance.is_some());
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(5 * SECOND);
    assert_eq!(bench.incidents()[0].servers, [app(2)]);
    bench.is_good(&app(2));
    bench.advance(MINUTE);
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved, "app-1 does not keep it open");
    bench.advance(10 * MINUTE);
    assert_eq!(bench.incidents()[0].servers, [app(1)]);
}

#[test]
fn a_service_is_in_a_window_when_each_of_its_servers_is() {
    let mut bench = Bench::settled(policy(2, false));
    let covers = Covers { servers: [app(1), app(2)].into(), ..Covers::default() };
    open(&mut bench, covers, Duration::ZERO, MINUTE);
    assert_eq!(state(&bench), ServiceState::Maintenance);
    bench.visitors(100, 100);
    bench.advance(10 * SECOND);
    assert!(bench.incidents().is_empty());
}

#[test]
fn nothing_is_restarted_in_a_window_and_at_once_after_it() {
    let mut bench = Bench::settled(policy(3, true));
    open(&mut bench, covers_shop(), Duration::ZERO, MINUTE);
    let before = bench.orders().len();
    bench.crash(&app(2));
    bench.advance(MINUTE - SECOND);
    assert_eq!(bench.orders().len(), before);
    let why = &bench.server(&app(2)).why;
    assert!(why.changes[0].text.contains("in maintenance until"), "{why:?}");
    bench.advance(5 * SECOND);
    assert_eq!(bench.orders().len(), before + 1);
    let told = bench.incidents();
    assert!(told[0].timeline.iter().any(|entry| entry.kind == EntryKind::ActionDone));
}

#[test]
fn what_was_never_started_is_started_in_a_window_too() {
    let mut bench = Bench::empty(policy(2, true));
    let when = Occurrence { from: Wall(bench.now.wall.0 - 1000), to: (bench.now + MINUTE).wall };
    let window = HandWindow { policy: of(covers_shop()), when, by: "ada".into() };
    bench.tell(Input::Restored(Restored { windows: [(7, window)].into(), ..Restored::default() }));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.advance(5 * SECOND);
    assert_eq!(bench.orders().len(), 2);
    assert_eq!(state(&bench), ServiceState::Maintenance);
    open(&mut bench, covers_shop(), Duration::ZERO, MINUTE);
    let last = bench.records().into_iter().rev().find_map(|record| match record {
        Record::Window { number, .. } => Some(number),
        _ => None,
    });
    assert_eq!(last, Some(8), "no number is used twice");
}

fn planned(occurrences: &[Occurrence]) -> Bench {
    let mut policy = policy(3, false);
    policy.windows.insert("disks".into(), of(covers_shop()));
    let mut bench = Bench::empty(policy);
    bench.tell(Input::Occurrences([("disks".into(), occurrences.to_vec())].into()));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.addresses();
    bench.advance(3 * SECOND);
    bench
}

fn after(minutes: i64, lasts: i64) -> Occurrence {
    let start = crate::testing::start().wall.0;
    Occurrence { from: Wall(start + minutes * 60_000), to: Wall(start + (minutes + lasts) * 60_000) }
}

#[test]
fn a_planned_window_opens_and_closes_by_itself_each_time() {
    let mut bench = planned(&[after(1, 2), after(5, 2), after(60, 2), after(120, 2), after(180, 2)]);
    assert_eq!(state(&bench), ServiceState::Healthy);
    let mut seen = Vec::new();
    for _ in 0..8 {
        bench.advance(MINUTE);
        seen.push(state(&bench) == ServiceState::Maintenance);
    }
    assert_eq!(seen, [true, true, false, false, true, true, false, false]);
    let shown = &bench.model.snapshot(bench.now).windows[0];
    assert_eq!((shown.open, shown.next.len(), shown.next[0]), (None, 3, after(60, 2)));
}

#[test]
fn a_person_ends_the_time_that_is_open_and_not_the_next_one() {
    let mut bench = planned(&[after(0, 3), after(5, 2)]);
    bench.advance(MINUTE);
    assert_eq!(state(&bench), ServiceState::Maintenance);
    bench.tell(Input::EndWindow { id: "disks".into() });
    assert_eq!(state(&bench), ServiceState::Healthy);
    let kept = bench.records();
    assert!(kept.iter().any(|r| matches!(r, Record::WindowEnded { name, .. } if &**name == "disks")));
    bench.advance(5 * MINUTE);
    assert_eq!(state(&bench), ServiceState::Maintenance);
    open(&mut bench, covers_shop(), Duration::ZERO, 60 * MINUTE);
    bench.advance(10 * MINUTE);
    bench.tell(Input::EndWindow { id: "1".into() });
    assert_eq!(state(&bench), ServiceState::Healthy);
    assert!(bench.records().iter().any(|r| matches!(r, Record::WindowOver { number: 1 })));
}

#[test]
fn windows_go_by_the_wall_clock_when_it_is_set() {
    let mut bench = planned(&[after(60, 10)]);
    bench.now.wall = after(61, 0).from;
    bench.visitors(1, 0);
    assert_eq!(state(&bench), ServiceState::Maintenance);
    bench.now.wall = after(1, 0).from;
    bench.visitors(1, 0);
    assert_eq!(state(&bench), ServiceState::Healthy);
}

fn watched(n: usize) -> Policy {
    let mut all = policy(0, false);
    all.services.clear();
    let address = std::net::SocketAddr::from(([10, 1, 0, 1], 80));
    let monitor = MonitorPolicy {
        address: address.into(),
        interval: 5 * SECOND,
        tags: vec!["db".into()],
        ..MonitorPolicy::default()
    };
    all.monitors = (0..n).map(|n| (MonitorId::new(format!("m-{n}")), monitor.clone())).collect();
    all
}

#[test]
fn monitors_with_a_tag_are_shown_in_maintenance_and_told_of_after_it_as_one() {
    for (n, incidents) in [(2, 2), (10, 1)] {
        let mut bench = Bench::fresh(watched(n));
        bench.advance(10 * SECOND);
        let covers = Covers { tags: ["db".into()].into(), ..Covers::default() };
        open(&mut bench, covers, Duration::ZERO, 5 * MINUTE);
        for id in bench.policy.monitors.keys() {
            bench.monitor_looks.insert(id.clone(), Look::Bad(ProbeFailure::Refused));
        }
        bench.advance(4 * MINUTE);
        let shown = bench.model.snapshot(bench.now);
        assert_eq!(shown.monitor_counts.maintenance, n as u64);
        assert_eq!(shown.monitors[0].state, MonitorState::Maintenance);
        assert!(bench.incidents().is_empty() && bench.notices().is_empty());
        bench.advance(2 * MINUTE);
        assert_eq!(bench.incidents().len(), incidents);
        assert_eq!(bench.notices().len(), incidents);
        assert_eq!(bench.model.snapshot(bench.now).monitor_counts.down, n as u64);
    }
}

#[test]
fn what_was_held_against_a_server_in_its_window_is_forgotten_when_that_ends() {
    let mut bench = Bench::settled(policy(3, false));
    open(&mut bench, covers_shop(), Duration::ZERO, 5 * MINUTE);
    for _ in 0..4 {
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(5 * SECOND);
        bench.is_good(&app(1));
        bench.advance(5 * SECOND);
    }
    bench.advance(4 * MINUTE + 15 * SECOND);
    bench.attempts(&app(2), 0, 30, 0);
    bench.advance(SECOND);
    assert!(!bench.targets().contains(&"app-2".to_owned()), "it is ejected as ever: {:?}", bench.targets());
    bench.advance(MINUTE);
    assert!(bench.incidents().is_empty(), "{:#?}", bench.incidents());
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
}

#[test]
fn windows_without_end_or_without_a_target_are_not_taken_nor_more_than_are_bounded() {
    let mut bench = Bench::settled(policy(1, false));
    open(&mut bench, Covers::default(), Duration::ZERO, MINUTE);
    open(&mut bench, covers_shop(), Duration::ZERO, Duration::ZERO);
    assert!(bench.model.snapshot(bench.now).windows.is_empty());
    for _ in 0..BY_HAND_MAX + 5 {
        open(&mut bench, covers_shop(), MINUTE, MINUTE);
    }
    assert_eq!(bench.model.snapshot(bench.now).windows.len(), BY_HAND_MAX);
    bench.advance(5 * MINUTE);
    assert!(bench.model.snapshot(bench.now).windows.is_empty());
}
