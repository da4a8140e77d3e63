//! The judge as a whole: policies that come and go, what an earlier run left, and clocks that misbehave.

use super::*;
use crate::input::{FailureKind, ProbeFailure, ServerTraffic, TrafficFailure};
use crate::snapshot::{Health, ServiceState, Snapshot};
use crate::testing::{Bench, app, policy, shop, start};

#[test]
fn a_table_comes_out_with_the_first_policy_even_if_nothing_can_be_routed() {
    let bench = Bench::fresh(policy(2, true));
    assert_eq!(bench.routes(), 1);
    assert_eq!(bench.model.table.as_ref().unwrap().version, 1);
    assert!(bench.targets().is_empty());
    let empty = Bench::fresh(Policy::default());
    assert_eq!(empty.routes(), 1);
}

#[test]
fn a_server_that_is_down_is_not_up_again_because_the_config_was_read_again() {
    let mut bench = Bench::settled(policy(3, false));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(Duration::from_secs(5));
    assert_eq!(bench.targets(), ["app-2", "app-3"]);
    bench.service_policy().slow_start = Duration::from_secs(30);
    bench.tell(Input::Policy(bench.policy.clone()));
    assert_eq!(bench.targets(), ["app-2", "app-3"]);
    assert_eq!(bench.server(&app(1)).health, Health::Unhealthy);
}

#[test]
fn two_services_with_a_server_at_one_address_do_not_share_its_health() {
    let mut both = policy(2, false);
    let api = crate::ServiceId::new("api");
    both.services.insert(api.clone(), both.services[&shop()].clone());
    let mut bench = Bench::settled(both);
    bench.is_bad(&app(1), ProbeFailure::Reset);
    bench.advance(Duration::from_secs(5));
    let other = api.server(app(1).name);
    assert_eq!(bench.server(&app(1)).address, bench.server(&other).address);
    assert_eq!(bench.server(&app(1)).health, Health::Unhealthy);
    assert_eq!(bench.server(&other).health, Health::Healthy);
}

#[test]
fn a_reload_keeps_what_is_known_of_servers_that_stay() {
    let mut bench = Bench::settled(policy(3, true));
    bench.crash(&app(2));
    bench.advance(Duration::from_millis(500));
    bench.effects.clear();
    let before = bench.model.snapshot(bench.now);
    bench.service_policy().slow_start = Duration::from_secs(30);
    bench.tell(Input::Policy(bench.policy.clone()));
    let after = bench.model.snapshot(bench.now);
    assert!(bench.orders().is_empty());
    for (before, after) in before.services[0].servers.iter().zip(&after.services[0].servers) {
        assert_eq!((before.health, &before.address), (after.health, &after.address));
        assert_eq!(before.process, after.process);
    }
    assert_eq!(bench.incidents().len(), 1);
}

#[test]
fn the_incident_of_a_service_that_left_the_config_is_over() {
    let mut bench = Bench::settled(policy(2, false));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(Duration::from_secs(5));
    bench.tell(Input::Policy(Policy::default()));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    assert_eq!(bench.notices().len(), 2);
}

#[test]
fn admin_states_of_an_earlier_run_hold() {
    let mut bench = Bench::empty(policy(2, true));
    let admin = BTreeMap::from([(app(1), AdminState::Maintenance)]);
    bench.tell(Input::Restored(Restored { admin, ..Restored::default() }));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.advance(Duration::from_secs(5));
    assert_eq!(bench.targets(), ["app-2"]);
    assert_eq!(bench.orders().len(), 1, "a server in maintenance is not started");
}

#[test]
fn the_admin_state_of_a_server_that_left_the_config_is_forgotten() {
    let mut bench = Bench::empty(policy(2, true));
    let admin = BTreeMap::from([(app(3), AdminState::Maintenance)]);
    bench.tell(Input::Restored(Restored { admin, ..Restored::default() }));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.admin(&app(2), AdminState::Draining);
    bench.tell(Input::Policy(policy(1, true)));
    let ready = |r: &Record| match r {
        Record::Admin { server, state: AdminState::Ready } => Some(server.clone()),
        _ => None,
    };
    let forgotten: Vec<ServerId> = bench.records().iter().filter_map(ready).collect();
    assert_eq!(forgotten, [app(3), app(2)]);
}

#[test]
fn a_drain_says_until_when_and_going_on_to_maintenance_gives_it_no_more_time() {
    let mut bench = Bench::fresh(policy(2, true));
    let drain = |bench: &Bench| bench.server(&app(2)).drain.map(|drain| (drain.since, drain.until));
    assert_eq!(drain(&bench), None);
    bench.admin(&app(2), AdminState::Draining);
    let begun = bench.now;
    let expected = Some((begun.wall, (begun + Duration::from_secs(600)).wall));
    assert_eq!(drain(&bench), expected);
    bench.advance(Duration::from_secs(20));
    let mut server = bench.server(&app(2));
    server.in_flight = 2;
    let told = server.drain_progress(bench.now.wall).unwrap();
    assert_eq!(told, "2 requests still under way; what is left in 9m 40s is ended");
    let over = (bench.now + Duration::from_secs(580)).wall;
    assert_eq!(server.drain_ends(over), "; its time is over");
    bench.admin(&app(2), AdminState::Maintenance);
    assert_eq!(drain(&bench), expected);
    bench.admin(&app(2), AdminState::Ready);
    assert_eq!(drain(&bench), None);
}

#[test]
fn a_drain_is_done_when_a_report_of_the_time_since_says_that_nothing_is_under_way() {
    let mut bench = Bench::fresh(policy(2, true));
    bench.admin(&app(2), AdminState::Draining);
    let report = |bench: &mut Bench, in_flight| {
        bench.advance(Duration::from_millis(250));
        let servers = [(app(2), ServerTraffic { in_flight, ..ServerTraffic::default() })].into();
        bench.tell(Input::Traffic(TrafficReport { servers, ..TrafficReport::default() }));
    };
    let done = |bench: &Bench| bench.server(&app(2)).drain.is_some_and(|drain| drain.done);
    assert!(!done(&bench), "what is known of it is older than the drain");
    report(&mut bench, 0);
    assert!(!done(&bench), "this may tell of the time before");
    report(&mut bench, 1);
    assert!(!done(&bench));
    bench.advance(Duration::from_millis(250));
    bench.tell(Input::Traffic(TrafficReport::default()));
    assert!(done(&bench), "one that does not speak of it says so too");
}

#[test]
fn numbers_go_on_where_an_earlier_run_ended() {
    let mut bench = Bench::empty(policy(1, true));
    let unfinished = vec![(ActionId(12), app(1))];
    let restored = Restored { last_incident: 7, last_action: 11, unfinished, ..Restored::default() };
    bench.tell(Input::Restored(restored));
    bench.tell(Input::Policy(bench.policy.clone()));
    assert!(bench.records().iter().any(|r| matches!(r, Record::ActionEnded { action: ActionId(12), .. })));
    assert_eq!(bench.orders()[0].1.id, ActionId(13));
    bench.advance(Duration::from_secs(1));
    bench.crash(&app(1));
    assert_eq!(bench.incidents()[0].id, IncidentId(8));
}

#[test]
fn a_timeout_too_early_does_nothing() {
    let mut bench = Bench::settled(policy(2, false));
    bench.advance(Duration::from_millis(10));
    let due = bench.model.poll_timeout().unwrap();
    bench.model.handle_timeout(bench.now);
    assert_eq!(bench.model.poll_timeout(), Some(due));
    assert!(bench.model.poll_effect().is_none());
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut bench = Bench::settled(policy(2, true));
    let late = bench.now;
    bench.now = start();
    bench.crash(&app(1));
    bench.now = Now { mono: late.mono, wall: crate::Wall(0) };
    bench.advance(Duration::from_secs(60));
    assert_eq!(bench.targets().len(), 2);
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
}

#[test]
fn what_is_said_of_unknown_servers_is_ignored() {
    let mut bench = Bench::settled(policy(1, false));
    let nobody = ServiceId::new("nothing").server("nobody");
    bench.attempts(&nobody, 1, 1, 1);
    bench.crash(&nobody);
    bench.crash(&shop().server("nobody"));
    bench.admin(&nobody, AdminState::Draining);
    bench.tell(Input::Address { server: nobody, address: None });
    bench.tell(Input::Outcome { action: ActionId(99), result: Ok(()) });
    bench.tell(Input::Acknowledge { incident: IncidentId(99), by: "ann".to_owned() });
    bench.tell(Input::Restored(Restored::default()));
    assert!(bench.effects.is_empty());
}

#[test]
fn inputs_and_snapshots_survive_being_stored() {
    let mut bench = Bench::settled(policy(2, true));
    bench.crash(&app(1));
    let failure = TrafficFailure { server: app(1), kind: FailureKind::ConnectTimeout, retried_on: None };
    let restored = Restored { restarts: vec![(app(1), crate::Wall(5))], ..Restored::default() };
    let inputs = [
        Input::Policy(bench.policy.clone()),
        Input::Restored(restored),
        Input::Failure(failure),
        Input::Outcome { action: ActionId(3), result: Err("no".to_owned()) },
        Input::Own { part: OwnPart::Alerts, trouble: Some("refused".to_owned()) },
    ];
    for input in inputs {
        let stored = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<Input>(&stored).unwrap(), input);
    }
    let snapshot = bench.model.snapshot(bench.now);
    let stored = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&stored).unwrap(), snapshot);
}

#[test]
fn a_service_is_healthy_when_all_of_its_servers_are() {
    let mut bench = Bench::fresh(policy(2, false));
    let state = |bench: &Bench| bench.model.snapshot(bench.now).services[0].state;
    assert_eq!(state(&bench), ServiceState::Unknown);
    bench.addresses();
    bench.advance(Duration::from_secs(2));
    assert_eq!(state(&bench), ServiceState::Healthy);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(Duration::from_secs(2));
    assert_eq!(state(&bench), ServiceState::Degraded);
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(Duration::from_secs(2));
    assert_eq!(state(&bench), ServiceState::Down);
}
