//! Drills on the bench.

use std::time::Duration;

use super::*;
use crate::effect::{Effect, NoticeKind, Record};
use crate::freeze::Freeze;
use crate::incident::{EntryKind, IncidentState};
use crate::input::{Input, ProbeFailure, Restored};
use crate::policy::SwitchPolicy;
use crate::testing::{Bench, app, policy, shop};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn order(fault: Fault) -> DrillOrder {
    DrillOrder {
        service: shop(),
        server: Some("app-1".into()),
        fault,
        lasts: seconds(30),
        alert: false,
        stateful: false,
        by: "anna".to_owned(),
        ticket: 0,
    }
}

fn newest(bench: &Bench) -> Drill {
    Drill::clone(bench.model.snapshot(bench.now).drills.first().expect("there was one"))
}

/// The steps that somebody outside was asked for.
fn steps(bench: &Bench) -> Vec<(Fault, bool)> {
    let step = |(_, effect): &(_, Effect)| match effect {
        Effect::Drill(step) => Some((step.fault, step.begin)),
        _ => None,
    };
    bench.effects.iter().filter_map(step).collect()
}

fn begin(bench: &mut Bench, order: DrillOrder) -> Drill {
    bench.tell(Input::Drill(order));
    let drill = newest(bench);
    assert_eq!(drill.state, DrillState::Ordered, "{}", drill.why);
    bench.tell(Input::Injected { drill: drill.id, result: Ok(()) });
    newest(bench)
}

fn refused(bench: &mut Bench, order: DrillOrder) -> String {
    let before = steps(bench).len();
    bench.tell(Input::Drill(order));
    let drill = newest(bench);
    assert_eq!((drill.state, steps(bench).len()), (DrillState::Refused, before));
    assert!(bench.routed().targets.iter().all(|target| target.injection.is_none()));
    drill.why
}

fn injections(bench: &Bench) -> Vec<Option<Injection>> {
    bench.routed().targets.iter().map(|target| target.injection).collect()
}

#[test]
fn a_kill_is_written_down_first_and_measured_from_its_first_moment_to_its_last_and_nobody_is_told() {
    let mut bench = Bench::settled(policy(3, true));
    bench.tell(Input::Drill(order(Fault::Kill)));
    let written = bench.effects.iter().position(|(_, e)| matches!(e, Effect::Record(Record::Drill(_))));
    let made = bench.effects.iter().position(|(_, e)| matches!(e, Effect::Drill(_)));
    assert!(written.is_some() && written < made);
    bench.tell(Input::Injected { drill: 1, result: Ok(()) });
    bench.advance(Duration::from_millis(3));
    bench.crash(&app(1));
    bench.advance(seconds(1));
    let incident = bench.incidents()[0].clone();
    assert_eq!(incident.drill, Some(OfDrill { drill: 1, quiet: true }));
    assert_eq!(newest(&bench).state, DrillState::Recovering);
    bench.advance(seconds(40));
    let drill = newest(&bench);
    assert_eq!(drill.state, DrillState::Recovered, "{drill:?}");
    let measured = drill.measured;
    assert_eq!((measured.notice_ms, measured.divert_ms, measured.act_ms), (Some(3), Some(3), Some(3)));
    assert!(measured.recover_ms > Some(3) && measured.alert_ms > Some(3), "{measured:?}");
    assert_eq!(measured.done, ["taken out", "restarted"]);
    assert_eq!(steps(&bench), [(Fault::Kill, true), (Fault::Kill, false)]);
    assert!(bench.notices().is_empty());
    let kept = bench.records().into_iter().filter_map(|record| match record {
        Record::Drill(drill) => Some(drill.state),
        _ => None,
    });
    let states: Vec<DrillState> = kept.collect();
    let (before, after) = (DrillState::Ordered, DrillState::Recovered);
    assert_eq!((states.first(), states.last()), (Some(&before), Some(&after)));
}

#[test]
fn with_alert_people_are_told_as_of_any_other_incident() {
    let mut bench = Bench::settled(policy(2, true));
    begin(&mut bench, DrillOrder { alert: true, ..order(Fault::Kill) });
    bench.crash(&app(1));
    bench.advance(seconds(40));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
}

#[test]
fn a_server_refuses_for_its_time_and_no_longer_and_probes_meet_it_too() {
    let mut bench = Bench::settled(policy(3, false));
    begin(&mut bench, order(Fault::Refuse));
    assert_eq!(injections(&bench), [Some(Injection::Refuse), None, None]);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(seconds(10));
    let asked = |bench: &Bench| {
        bench.effects.iter().rev().find_map(|(_, effect)| match effect {
            Effect::Probe(order) if order.target == app(1).into() => Some(order.injection),
            _ => None,
        })
    };
    assert_eq!(asked(&bench), Some(Some(Injection::Refuse)));
    assert_eq!(bench.targets(), ["app-2", "app-3"]);
    assert_eq!(bench.routed().last_resort[0].injection, Some(Injection::Refuse), "also as a last resort");
    bench.advance(seconds(21));
    assert_eq!(bench.routed().last_resort[0].injection, None);
    bench.is_good(&app(1));
    bench.advance(seconds(40));
    assert_eq!((newest(&bench).state, asked(&bench)), (DrillState::Recovered, Some(None)));
}

#[test]
fn probes_know_nothing_of_slowness_and_errors() {
    for fault in [Fault::Slow, Fault::Errors] {
        let mut bench = Bench::settled(policy(3, false));
        begin(&mut bench, order(fault));
        bench.advance(seconds(5));
        let looks = bench.effects.iter().filter_map(|(_, effect)| match effect {
            Effect::Probe(order) => Some(order.injection),
            _ => None,
        });
        assert!(looks.into_iter().all(|injection| injection.is_none()));
        assert_eq!(injections(&bench)[0], fault.injection());
        bench.advance(seconds(60));
        assert_eq!(newest(&bench).state, DrillState::Unnoticed, "there was no traffic to notice it");
        assert_eq!(newest(&bench).measured.requests, 0);
    }
}

#[test]
fn it_is_stopped_when_visitors_are_hurt_and_not_by_the_first_few() {
    let mut bench = Bench::settled(policy(3, false));
    begin(&mut bench, order(Fault::Reset));
    bench.visitors(40, 20);
    bench.advance(seconds(1));
    assert_eq!(newest(&bench).state, DrillState::UnderWay, "they find the fault");
    bench.visitors(20, 9);
    bench.advance(Duration::from_millis(250));
    assert_eq!(newest(&bench).state, DrillState::UnderWay, "nine are few");
    bench.visitors(80, 1);
    let drill = newest(&bench);
    assert_eq!(drill.state, DrillState::Recovering);
    assert!(drill.why.starts_with("10% of the requests failed after the first second"), "{}", drill.why);
    assert_eq!((steps(&bench).last(), injections(&bench)[0]), (Some(&(Fault::Reset, false)), None));
    bench.advance(seconds(60));
    let drill = newest(&bench);
    assert_eq!((drill.state, drill.measured.failed), (DrillState::Stopped, 30));
}

#[test]
fn many_requests_that_go_well_bear_a_few_that_do_not() {
    let mut bench = Bench::settled(policy(3, false));
    begin(&mut bench, order(Fault::Errors));
    bench.visitors(5000, 40);
    bench.advance(seconds(1));
    assert_eq!(newest(&bench).state, DrillState::UnderWay);
}

#[test]
fn a_person_stops_it() {
    let mut bench = Bench::settled(policy(2, false));
    begin(&mut bench, order(Fault::BlackHole));
    bench.tell(Input::StopDrill { by: "bert".to_owned() });
    assert_eq!((injections(&bench)[0], newest(&bench).why), (None, "bert stopped it".to_owned()));
    bench.advance(seconds(20));
    assert_eq!(newest(&bench).state, DrillState::Stopped);
}

#[test]
fn it_ends_as_soon_as_nobody_else_is_left() {
    let mut bench = Bench::settled(policy(2, true));
    begin(&mut bench, order(Fault::Slow));
    bench.crash(&app(2));
    assert_eq!((injections(&bench)[0], newest(&bench).why), (None, "nobody else was left".to_owned()));
}

#[test]
fn a_hang_is_over_when_its_process_is_another_one() {
    let mut bench = Bench::settled(policy(2, true));
    begin(&mut bench, order(Fault::Hang));
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    while bench.orders().is_empty() {
        bench.advance(Duration::from_millis(100));
    }
    bench.is_good(&app(1));
    bench.advance(seconds(1));
    assert_eq!(newest(&bench).state, DrillState::Recovering);
    assert_eq!(steps(&bench), [(Fault::Hang, true), (Fault::Hang, false)]);
    bench.advance(seconds(40));
    assert_eq!(newest(&bench).state, DrillState::Recovered);
}

#[test]
fn the_last_healthy_server_is_never_drilled() {
    let mut bench = Bench::settled(policy(1, true));
    assert_eq!(refused(&mut bench, order(Fault::Kill)), "nobody else would be left");
    let mut bench = Bench::settled(policy(4, true));
    bench.service_policy().panic_threshold = 0.8;
    bench.tell(Input::Policy(bench.policy.clone()));
    let why = refused(&mut bench, order(Fault::Kill));
    assert!(why.starts_with("3 would be left, which is below panic-threshold"), "{why}");
}

#[test]
fn others_that_could_not_carry_it_are_too_few() {
    let mut with_limits = policy(3, true);
    for server in with_limits.services.get_mut(&shop()).unwrap().servers.values_mut() {
        server.concurrent = Some(2);
    }
    let mut bench = Bench::settled(with_limits);
    let mut report = crate::input::TrafficReport::default();
    let busy = crate::input::ServiceTraffic { in_flight: 5, ..Default::default() };
    report.services.insert(shop(), busy);
    bench.tell(Input::Traffic(report));
    assert_eq!(
        refused(&mut bench, order(Fault::Slow)),
        "the others could not carry what this server carries"
    );
}

#[test]
fn what_is_under_way_already_makes_it_more_than_a_drill() {
    let mut bench = Bench::settled(policy(3, true));
    let until = Wall(bench.now.wall.0 + 60_000);
    bench.tell(Input::Freeze(Some(Freeze { until, by: "anna".to_owned(), why: String::new() })));
    assert!(refused(&mut bench, order(Fault::Kill)).starts_with("frozen by anna"));
    bench.tell(Input::Freeze(None));
    begin(&mut bench, order(Fault::Slow));
    assert_eq!(refused_beside(&mut bench), "drill 2 is under way, and there is only one at a time");
    bench.tell(Input::StopDrill { by: "anna".to_owned() });
    bench.advance(seconds(20));
    bench.crash(&app(3));
    assert_eq!(refused(&mut bench, order(Fault::Kill)), "incident 1 is open");
}

/// The drill that is under way stays the newest.
fn refused_beside(bench: &mut Bench) -> String {
    bench.tell(Input::Drill(order(Fault::Kill)));
    let drills = bench.model.snapshot(bench.now).drills;
    assert_eq!((drills[0].state, drills[1].state), (DrillState::UnderWay, DrillState::Refused));
    drills[1].why.clone()
}

#[test]
fn requests_that_fail_already_refuse_it() {
    let mut bench = Bench::settled(policy(3, false));
    let mut report = crate::input::TrafficReport::default();
    let err = crate::input::ServiceTraffic { requests: 1000, server_errors: 20, ..Default::default() };
    report.services.insert(shop(), err);
    bench.tell(Input::Traffic(report));
    assert_eq!(refused(&mut bench, order(Fault::Slow)), "2% of its requests fail already");
}

#[test]
fn a_service_with_state_is_drilled_by_a_person_who_says_so() {
    let mut with_state = policy(2, false);
    with_state.services.get_mut(&shop()).unwrap().switch = Some(SwitchPolicy {
        after: seconds(5),
        deadline: seconds(60),
        fence: false,
        can_go_back: false,
        ..Default::default()
    });
    let mut bench = Bench::settled(with_state);
    assert!(refused(&mut bench, order(Fault::Refuse)).starts_with("it has state"));
    begin(&mut bench, DrillOrder { stateful: true, ..order(Fault::Refuse) });
}

#[test]
fn a_fault_that_cannot_be_made_at_a_server_is_refused_with_why() {
    let mut bench = Bench::settled(policy(2, false));
    let why = refused(&mut bench, order(Fault::Kill));
    assert_eq!(why, "Mainstay does not start app-1 itself, so it cannot kill it");
    assert_eq!(refused(&mut bench, order(Fault::Certificate)), "app-1 is not spoken to over TLS");
    let other = DrillOrder { server: Some("app-9".into()), ..order(Fault::Slow) };
    assert_eq!(refused(&mut bench, other), "the service has no server app-9");
    let elsewhere = DrillOrder { service: ServiceId::new("cafe"), ..order(Fault::Slow) };
    assert_eq!(refused(&mut bench, elsewhere), "there is no such service");
}

#[test]
fn a_spent_budget_of_restarts_refuses_a_kill() {
    let mut tight = policy(2, true);
    tight.services.get_mut(&shop()).unwrap().recovery.budget = 1;
    let mut bench = Bench::settled(tight);
    begin(&mut bench, order(Fault::Kill));
    bench.crash(&app(1));
    bench.advance(seconds(60));
    assert_eq!(newest(&bench).state, DrillState::Recovered);
    let why = refused(&mut bench, order(Fault::Kill));
    assert_eq!(why, "the budget of restarts of app-1 is spent, so it would not come back");
}

#[test]
fn without_a_name_the_server_that_was_drilled_longest_ago_is_chosen() {
    let mut bench = Bench::settled(policy(3, false));
    let mut chosen = Vec::new();
    for _ in 0..4 {
        let drill = begin(&mut bench, DrillOrder { server: None, ..order(Fault::Slow) });
        chosen.push(drill.server.unwrap().name.to_string());
        bench.advance(seconds(60));
    }
    assert_eq!(chosen, ["app-1", "app-2", "app-3", "app-1"]);
}

#[test]
fn a_fault_that_could_not_be_made_leaves_nothing() {
    let mut bench = Bench::settled(policy(2, true));
    bench.tell(Input::Drill(order(Fault::Hang)));
    bench.tell(Input::Injected { drill: 1, result: Err("it does not run".to_owned()) });
    let drill = newest(&bench);
    assert_eq!((drill.state, drill.why.as_str()), (DrillState::Failed, "it does not run"));
    bench.tell(Input::Drill(order(Fault::Hang)));
    bench.advance(seconds(20));
    assert_eq!(steps(&bench).last(), Some(&(Fault::Hang, false)), "it may have been made all the same");
}

#[test]
fn what_is_not_well_long_after_the_fault_is_no_drill_any_more() {
    let mut bench = Bench::settled(policy(2, false));
    begin(&mut bench, DrillOrder { lasts: seconds(5), ..order(Fault::Refuse) });
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(seconds(60));
    assert!(bench.notices().is_empty());
    bench.advance(seconds(6));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
    bench.advance(seconds(300));
    assert_eq!(newest(&bench).state, DrillState::NotRecovered);
    bench.is_good(&app(1));
    bench.advance(seconds(60));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
}

#[test]
fn a_restart_in_its_middle_breaks_it_off_and_people_are_told_only_if_it_is_not_over_soon() {
    let mut before = Bench::settled(policy(2, false));
    begin(&mut before, order(Fault::Refuse));
    before.is_bad(&app(1), ProbeFailure::Refused);
    before.advance(seconds(5));
    let left = || Restored {
        incidents: vec![crate::incident::Incident::clone(&before.incidents()[0])],
        drills: vec![newest(&before)],
        ..Restored::default()
    };
    for (well, told) in [(true, 0), (false, 1)] {
        let mut bench = Bench::empty(policy(2, false));
        bench.tell(Input::Restored(left()));
        bench.tell(Input::Policy(bench.policy.clone()));
        if !well {
            bench.is_bad(&app(1), ProbeFailure::Refused);
        }
        bench.addresses();
        bench.advance(seconds(70));
        let drill = newest(&bench);
        assert_eq!((drill.state, drill.incident), (DrillState::BrokenOff, Some(bench.incidents()[0].id)));
        assert_eq!(bench.notices().len(), told);
        assert_eq!(bench.incidents()[0].state == IncidentState::Resolved, well);
        assert!(injections(&bench).iter().all(Option::is_none));
    }
}

#[test]
fn a_release_is_not_taken_back_for_a_drill() {
    let mut bench = Bench::settled(policy(2, true));
    begin(&mut bench, order(Fault::Kill));
    bench.crash(&app(1));
    let service = &bench.model.services[&shop()];
    assert_eq!(service.may_go_back(&bench.model.out).unwrap_err(), crate::recovery::Refusal::Drill);
    assert!(bench.kinds().contains(&EntryKind::Changed), "it says that it is a drill");
}

#[test]
fn a_full_disk_is_an_incident_of_the_record_that_is_a_drills_and_hurts_nobody() {
    let mut bench = Bench::settled(policy(1, false));
    let full = DrillOrder { server: None, ..order(Fault::DiskFull) };
    assert_eq!(
        refused(&mut bench, order(Fault::DiskFull)),
        "`disk-full` is made at Mainstay itself, at no server"
    );
    begin(&mut bench, full.clone());
    let own = |trouble: Option<&str>| Input::Own {
        part: crate::input::OwnPart::Record,
        trouble: trouble.map(str::to_owned),
    };
    bench.advance(seconds(1));
    bench.tell(own(Some("the disk is full")));
    bench.advance(seconds(30));
    bench.tell(own(None));
    bench.advance(seconds(15));
    let drill = newest(&bench);
    assert_eq!((drill.state, drill.server.as_ref(), drill.went_well()), (DrillState::Recovered, None, true));
    assert_eq!((drill.measured.notice_ms, drill.measured.recover_ms), (Some(1000), Some(31_000)));
    let incident = bench.incidents()[0].clone();
    assert_eq!(
        (incident.drill, Some(incident.id)),
        (Some(OfDrill { drill: 2, quiet: true }), drill.incident)
    );
    assert!(bench.notices().is_empty(), "{:?}", bench.notices());
    assert_eq!(steps(&bench), [(Fault::DiskFull, true), (Fault::DiskFull, false)]);

    // A trouble that is there already is no drill.
    bench.tell(own(Some("the disk is full")));
    assert!(refused(&mut bench, full).contains("is open"));
}

#[test]
fn a_part_that_stays_in_trouble_after_its_fault_is_no_drill_any_more() {
    let mut bench = Bench::settled(policy(2, false));
    begin(&mut bench, DrillOrder { server: None, ..order(Fault::Dns) });
    let part = crate::input::OwnPart::Names;
    bench.tell(Input::Own { part, trouble: Some("db cannot be looked up".to_owned()) });
    bench.advance(seconds(60));
    assert!(bench.notices().is_empty());
    bench.advance(seconds(40));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
}

#[test]
fn a_fault_of_mainstays_own_that_nobody_notices_went_well() {
    let mut bench = Bench::settled(policy(2, false));
    begin(&mut bench, DrillOrder { server: None, ..order(Fault::Dns) });
    bench.advance(seconds(45));
    assert_eq!((newest(&bench).state, newest(&bench).went_well()), (DrillState::Unnoticed, true));
}
