//! Who takes the writes: found out, followed, switched, and never two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::carriage::{Carriage, Tcp};
use crate::effect::{Effect, NoticeKind, SwitchOrder};
use crate::input::{Input, ProbeFailure, Restored};
use crate::policy::{Policy, ProbeKind, StatePolicy};
use crate::routing::{Leaving, RoutingMode};
use crate::rung::Level;
use crate::snapshot::{ServerNote, ServiceState};
use crate::switch::{SwitchSnapshot, SwitchStep};
use crate::testing::{Bench, Look, app, policy, shop};

const MB: u64 = 1 << 20;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Three databases; the fence is a program, and Mainstay promotes by itself.
fn databases() -> Policy {
    let mut policy = policy(3, false);
    let service = policy.services.get_mut(&shop()).unwrap();
    service.state = Some(StatePolicy { serves: Serves::Writes });
    service.health.probe = ProbeKind::Postgres;
    let tcp = Some(Tcp { close_when_down: true });
    service.carriage = Arc::new(Carriage { tcp, ..Carriage::default() });
    service.recovery.levels.switch = Level::Automatic;
    service.switch = Some(SwitchPolicy {
        after: seconds(5),
        deadline: seconds(30),
        fence: true,
        can_go_back: false,
        promote: Promote::Postgres,
        lag_max: MB,
    });
    policy
}

/// Who was not a primary from the beginning writes on a later timeline.
fn is_primary(bench: &mut Bench, n: u32, position: u64) {
    let timeline = Some(if n == 1 { 1 } else { 2 });
    let state = DataState { role: DataRole::Primary, position: Some(position), receives: false, timeline };
    bench.looks.insert(app(n), Look::Data(state));
}

fn is_replica(bench: &mut Bench, n: u32, position: u64, receives: bool) {
    let state = DataState { role: DataRole::Replica, position: Some(position), receives, timeline: Some(1) };
    bench.looks.insert(app(n), Look::Data(state));
}

/// `app-1` leads, and the others follow.
fn settled_with(policy: Policy) -> Bench {
    let mut bench = Bench::fresh(policy);
    is_primary(&mut bench, 1, 10 * MB);
    is_replica(&mut bench, 2, 10 * MB - 100, true);
    is_replica(&mut bench, 3, 10 * MB - 200, true);
    bench.addresses();
    bench.advance(seconds(3));
    bench.effects.clear();
    bench
}

fn settled() -> Bench {
    settled_with(databases())
}

fn dies(bench: &mut Bench, n: u32) {
    bench.is_bad(&app(n), ProbeFailure::Refused);
    for (n, position) in [(2, 10 * MB - 100), (3, 10 * MB - 200)] {
        is_replica(bench, n, position, false);
    }
}

fn orders(bench: &Bench) -> Vec<SwitchOrder> {
    let order = |(_, e): &(Mono, Effect)| match e {
        Effect::Switch(order) => Some(order.clone()),
        _ => None,
    };
    bench.effects.iter().filter_map(order).collect()
}

fn steps(bench: &Bench) -> Vec<SwitchStep> {
    orders(bench).iter().map(|order| order.step).collect()
}

fn ends(bench: &mut Bench, result: Result<(), &str>) {
    let action = orders(bench).last().unwrap().id;
    let result = result.map_err(str::to_owned);
    bench.tell(Input::Switched { service: shop(), action, result, output: Vec::new() });
}

fn lead(bench: &Bench) -> LeadSnapshot {
    bench.model.snapshot(bench.now).services[0].lead.clone().unwrap()
}

fn leader(bench: &Bench) -> Option<String> {
    lead(bench).server.map(|id| id.name.to_string())
}

fn switch(bench: &Bench) -> SwitchSnapshot {
    bench.model.snapshot(bench.now).services[0].switch.clone().unwrap()
}

fn note(bench: &Bench, n: u32) -> Option<ServerNote> {
    bench.server(&app(n)).note
}

fn error(bench: &Bench) -> String {
    switch(bench).last.unwrap().end.unwrap().error.unwrap_or_default()
}

fn timeline(bench: &Bench) -> Vec<String> {
    bench.incidents()[0].timeline.iter().map(|e| e.text.clone()).collect()
}

fn advice(bench: &Bench) -> String {
    bench
        .notices()
        .into_iter()
        .rfind(|n| n.kind == NoticeKind::NeedsPerson)
        .map_or_else(String::new, |n| n.advice)
}

/// What is in the record.
fn written(bench: &Bench) -> Option<LeadRecord> {
    let lead = |record: &Record| match record {
        Record::Lead { lead, .. } => Some(lead.clone()),
        _ => None,
    };
    bench.records().iter().filter_map(lead).next_back().flatten()
}

/// Another run goes on with what is written down.
fn again(before: &Bench, record: LeadRecord, looks: impl Fn(&mut Bench)) -> Bench {
    let mut bench = Bench::empty(before.policy.clone());
    looks(&mut bench);
    let restored = Restored {
        incidents: before.incidents().iter().map(|incident| incident.as_ref().clone()).collect(),
        last_action: 50,
        leads: BTreeMap::from([(shop(), record)]),
        switches: switch(before).last.map(|run| (shop(), run)).into_iter().collect(),
        ..Restored::default()
    };
    bench.tell(Input::Restored(restored));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.addresses();
    bench
}

#[test]
fn writes_go_to_the_one_that_says_that_it_is_the_primary_and_replicas_are_well_and_stand_by() {
    let bench = settled();
    assert_eq!(bench.targets(), ["app-1"]);
    assert!(bench.routed().last_resort.is_empty());
    let cut = |leaving: &Leaving| leaving.within.is_zero().then(|| leaving.server.clone());
    let cut: Vec<_> = bench.routed().leaving.iter().filter_map(cut).collect();
    assert_eq!(cut, [app(2), app(3)], "no session stays where the writes do not go");
    assert_eq!(note(&bench, 1), Some(ServerNote::Lead));
    for n in 2..=3 {
        assert_eq!(
            (bench.server(&app(n)).health, note(&bench, n)),
            (Health::Healthy, Some(ServerNote::Standby))
        );
    }
    let service = &bench.model.snapshot(bench.now).services[0];
    assert_eq!((service.state, service.mode), (ServiceState::Healthy, RoutingMode::Normal));
    assert!(bench.incidents().is_empty());
}

#[test]
fn nobody_gets_writes_before_all_were_asked_and_of_two_primaries_none() {
    let mut bench = Bench::fresh(databases());
    bench.addresses();
    is_primary(&mut bench, 1, MB);
    is_primary(&mut bench, 2, MB);
    bench.looks.insert(app(3), Look::Silent);
    bench.advance(seconds(2));
    assert!(bench.targets().is_empty());
    bench.advance(seconds(60));
    assert!(bench.targets().is_empty());
    assert_eq!(bench.incidents()[0].title, "two primaries of shop: app-1 and app-2; nobody gets writes");
    is_replica(&mut bench, 2, MB, true);
    bench.advance(seconds(3));
    assert_eq!(bench.targets(), ["app-1"]);
}

#[test]
fn a_lead_that_is_down_takes_no_replica_into_rotation_and_the_service_is_down() {
    let mut policy = databases();
    policy.services.get_mut(&shop()).unwrap().recovery.levels.switch = Level::Ask;
    let mut bench = settled_with(policy);
    dies(&mut bench, 1);
    bench.advance(seconds(20));
    assert_eq!(bench.targets(), ["app-1"], "whoever takes writes first when it is back");
    assert!(bench.routed().last_resort.is_empty());
    assert_eq!(bench.model.snapshot(bench.now).services[0].state, ServiceState::Down);
    assert!(switch(&bench).wanted && orders(&bench).is_empty());
    is_primary(&mut bench, 1, 10 * MB);
    bench.advance(seconds(20));
    assert!(bench.incidents()[0].resolved_at.is_some());
}

#[test]
fn a_switchover_that_people_make_moves_the_writes_without_an_incident() {
    let mut bench = settled();
    is_replica(&mut bench, 1, 10 * MB, true);
    bench.advance(seconds(3));
    assert!(bench.targets().is_empty(), "a replica takes no writes");
    is_primary(&mut bench, 2, 10 * MB);
    bench.advance(seconds(2));
    assert_eq!((bench.targets(), leader(&bench)), (vec!["app-2".to_owned()], Some("app-2".to_owned())));
    assert_eq!((note(&bench, 1), lead(&bench).term), (Some(ServerNote::Standby), 1));
    assert!(bench.incidents().is_empty());
    assert_eq!(written(&bench).unwrap().server, app(2));
}

#[test]
fn when_nobody_takes_writes_for_some_seconds_people_are_told() {
    let mut bench = settled();
    is_replica(&mut bench, 1, 10 * MB, false);
    bench.advance(seconds(30));
    assert_eq!(bench.incidents()[0].title, "nobody takes the writes of shop: app-1 is a replica");
    assert!(steps(&bench).is_empty());
    is_primary(&mut bench, 3, 10 * MB);
    bench.advance(seconds(20));
    assert_eq!(bench.targets(), ["app-3"]);
    assert!(bench.incidents()[0].resolved_at.is_some());
}

#[test]
fn two_primaries_are_told_of_the_lead_alone_gets_writes_and_nobody_is_promoted() {
    let mut bench = settled();
    is_primary(&mut bench, 2, 10 * MB);
    bench.advance(seconds(3));
    assert_eq!(bench.targets(), ["app-1"]);
    let title = "two primaries of shop: app-2 beside app-1; writes go to app-1 alone";
    assert_eq!((bench.incidents()[0].title.as_str(), note(&bench, 2)), (title, Some(ServerNote::KeptOut)));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(seconds(60));
    assert!(steps(&bench).is_empty(), "what they hold has parted");
    assert!(timeline(&bench).iter().any(|t| t.contains("app-2 takes itself for the primary too")));
    assert_eq!(bench.targets(), ["app-1"]);
    is_primary(&mut bench, 1, 10 * MB);
    is_replica(&mut bench, 2, 10 * MB, true);
    bench.advance(seconds(30));
    assert_eq!(note(&bench, 2), Some(ServerNote::Standby));
    assert!(bench.incidents()[0].resolved_at.is_some());
}

#[test]
fn what_was_kept_out_leads_again_only_when_a_person_says_so() {
    let mut bench = settled();
    is_primary(&mut bench, 2, 10 * MB);
    bench.advance(seconds(3));
    is_replica(&mut bench, 1, 10 * MB, false);
    bench.advance(seconds(30));
    assert!(bench.targets().is_empty(), "whose data is right?");
    let title = "nobody takes the writes of shop: app-1 is a replica, and app-2 has parted from it";
    assert_eq!(lead(&bench).trouble.as_deref(), Some(title));
    bench.tell(Input::Switch { service: shop(), back: false, fenced: true, by: "ada".to_owned() });
    bench.advance(seconds(3));
    assert_eq!(bench.targets(), ["app-2"]);
    assert!(orders(&bench).is_empty(), "it need not be promoted");
}

#[test]
fn after_the_fence_the_replica_that_has_the_most_is_promoted_and_gets_writes_when_it_says_so() {
    let mut bench = settled();
    is_replica(&mut bench, 3, 10 * MB - 50, true);
    bench.advance(seconds(2));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    is_replica(&mut bench, 2, 10 * MB - 100, false);
    is_replica(&mut bench, 3, 10 * MB - 50, false);
    bench.advance(seconds(8));
    assert_eq!(steps(&bench), [SwitchStep::Fence]);
    assert!(bench.targets().is_empty(), "from the fence on nobody gets writes");
    assert_eq!(orders(&bench)[0].from, Some(app(1)));
    ends(&mut bench, Ok(()));
    let promoted = orders(&bench)[1].promote.clone().unwrap();
    assert_eq!((steps(&bench)[1], promoted.server), (SwitchStep::There, app(3)));
    ends(&mut bench, Ok(()));
    bench.advance(seconds(3));
    assert!(bench.targets().is_empty(), "it still says that it is a replica");
    assert!(switch(&bench).is_running());
    is_primary(&mut bench, 3, 10 * MB);
    bench.advance(seconds(2));
    assert_eq!((bench.targets(), error(&bench)), (vec!["app-3".to_owned()], String::new()));
    let record = written(&bench).unwrap();
    assert_eq!((record.server, record.term, record.kept_out), (app(3), 1, [app(1)].into()));
    // The old one comes back and takes itself for the primary still.
    is_primary(&mut bench, 1, 11 * MB);
    bench.advance(seconds(30));
    assert_eq!((bench.targets(), note(&bench, 1)), (vec!["app-3".to_owned()], Some(ServerNote::KeptOut)));
    assert!(timeline(&bench).iter().any(|t| t.contains("two primaries of shop: app-1 beside app-3")));
    assert!(advice(&bench).starts_with("Make app-1 a replica of app-3 again"), "{}", advice(&bench));
    assert!(bench.incidents()[0].resolved_at.is_none());
    is_replica(&mut bench, 1, 10 * MB, true);
    bench.advance(seconds(30));
    assert_eq!((bench.targets(), note(&bench, 1)), (vec!["app-3".to_owned()], Some(ServerNote::Standby)));
    assert!(bench.incidents()[0].resolved_at.is_some());
}

#[test]
fn a_fence_that_failed_promotes_nobody_and_a_person_is_called() {
    let mut bench = settled();
    dies(&mut bench, 1);
    bench.advance(seconds(8));
    ends(&mut bench, Err("exited with status 1"));
    bench.advance(seconds(600));
    assert_eq!((steps(&bench), leader(&bench)), (vec![SwitchStep::Fence], Some("app-1".to_owned())));
    assert!(advice(&bench).contains("mainstay switch shop --fenced"), "{}", advice(&bench));
    assert_eq!(bench.notice_kinds().iter().filter(|k| **k == NoticeKind::NeedsPerson).count(), 1);
    bench.tell(Input::Switch { service: shop(), back: false, fenced: true, by: "ada".to_owned() });
    assert_eq!(orders(&bench)[1].promote.as_ref().unwrap().server, app(2));
    ends(&mut bench, Ok(()));
    is_primary(&mut bench, 2, 10 * MB);
    bench.advance(seconds(2));
    assert_eq!(bench.targets(), ["app-2"]);
}

#[test]
fn a_replica_that_is_too_far_behind_or_never_received_is_left_to_a_person() {
    type Change = fn(&mut Bench);
    let cases: [(Change, &str); 3] = [
        (
            |b| (2..=3).for_each(|n| is_replica(b, n, 8 * MB, true)),
            "app-2 is 2.0 MiB behind app-1 (lag-max = 1.0 MiB)",
        ),
        (|b| (2..=3).for_each(|n| b.is_bad(&app(n), ProbeFailure::Refused)), "no replica is healthy"),
        (
            |_| {},
            "none of app-2 and app-3 was seen to receive from app-1 (the user of the probe needs pg_monitor to see it)",
        ),
    ];
    for (change, why) in cases {
        let never = why.contains("none of");
        let mut bench = Bench::fresh(databases());
        is_primary(&mut bench, 1, 10 * MB);
        (2..=3).for_each(|n| is_replica(&mut bench, n, 10 * MB, !never));
        bench.addresses();
        bench.advance(seconds(3));
        change(&mut bench);
        bench.advance(seconds(3));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(seconds(30));
        assert!(steps(&bench).is_empty());
        let asked = format!("app-1, which takes the writes, is down for 5s; {why}");
        assert!(timeline(&bench).iter().any(|t| t.ends_with(&asked)), "{why}: {:?}", timeline(&bench));
        assert!(switch(&bench).wanted);
    }
}

#[test]
fn a_replica_of_somebody_else_is_not_promoted() {
    let mut bench = settled();
    for n in 2..=3 {
        let position = Some(10 * MB);
        let state = DataState { role: DataRole::Replica, position, receives: true, timeline: Some(2) };
        bench.looks.insert(app(n), Look::Data(state));
    }
    bench.advance(seconds(3));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(seconds(30));
    assert!(steps(&bench).is_empty());
    assert!(
        timeline(&bench).iter().any(|t| t.contains("none of app-2 and app-3 was seen to receive from app-1"))
    );
}

#[test]
fn what_is_in_the_way_for_a_moment_delays_it_and_calls_nobody() {
    let mut bench = settled();
    dies(&mut bench, 1);
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.is_bad(&app(3), ProbeFailure::Refused);
    bench.advance(seconds(8));
    assert!(steps(&bench).is_empty());
    is_replica(&mut bench, 2, 10 * MB - 100, false);
    bench.advance(seconds(3));
    assert_eq!(steps(&bench), [SwitchStep::Fence]);
    assert!(!bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
}

#[test]
fn a_promotion_that_failed_leaves_the_lead_and_one_of_which_nobody_knows_leaves_nobody() {
    let begun = || {
        let mut bench = settled();
        dies(&mut bench, 1);
        bench.advance(seconds(8));
        ends(&mut bench, Ok(()));
        bench
    };
    let mut bench = begun();
    ends(&mut bench, Err("permission denied for function pg_promote"));
    bench.advance(seconds(10));
    assert_eq!(error(&bench), "permission denied for function pg_promote; app-2 is a replica");
    assert_eq!(leader(&bench).as_deref(), Some("app-1"));

    let mut bench = begun();
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    ends(&mut bench, Err("no answer in time"));
    bench.advance(seconds(20));
    assert!(error(&bench).starts_with("app-2 does not say whether it is the primary"), "{}", error(&bench));
    assert!(bench.targets().is_empty());
    is_primary(&mut bench, 1, 10 * MB);
    bench.advance(seconds(20));
    assert!(bench.targets().is_empty(), "the old one may be one of two");
    let record = written(&bench).unwrap();
    let mut next = again(&bench, record, |b| is_primary(b, 1, 10 * MB));
    next.looks.insert(app(2), Look::Silent);
    next.advance(seconds(20));
    assert!(next.targets().is_empty(), "also after a restart");
    is_primary(&mut next, 2, 10 * MB);
    next.advance(seconds(20));
    assert_eq!((next.targets(), note(&next, 1)), (vec!["app-2".to_owned()], Some(ServerNote::KeptOut)));
}

#[test]
fn a_promotion_that_failed_and_took_effect_all_the_same_is_found_out() {
    let mut bench = settled();
    dies(&mut bench, 1);
    bench.advance(seconds(8));
    ends(&mut bench, Ok(()));
    is_primary(&mut bench, 2, 10 * MB);
    ends(&mut bench, Err("the connection broke"));
    bench.advance(seconds(3));
    assert_eq!((bench.targets(), error(&bench)), (vec!["app-2".to_owned()], String::new()));
}

#[test]
fn a_restart_in_the_middle_asks_the_servers_and_repeats_nothing() {
    for (fenced, promoted) in [(false, false), (true, false), (true, true)] {
        let mut bench = settled();
        dies(&mut bench, 1);
        bench.advance(seconds(8));
        if fenced {
            ends(&mut bench, Ok(()));
        }
        let before = LeadRecord {
            server: app(1),
            since: bench.now.wall,
            term: 0,
            kept_out: BTreeSet::new(),
            unclear: None,
        };
        let mut next = again(&bench, before, |b| {
            dies(b, 1);
            if promoted {
                is_primary(b, 2, 10 * MB);
            }
        });
        next.advance(seconds(5));
        assert_eq!(switch(&next).is_running(), fenced && !promoted, "a promotion takes its time");
        if fenced {
            assert_eq!(next.targets().is_empty(), !promoted);
        }
        next.advance(seconds(60));
        assert!(orders(&next).is_empty(), "nothing is repeated");
        let (who, why) = match (fenced, promoted) {
            (_, true) => ("app-2", ""),
            (true, false) => (
                "app-1",
                "Mainstay was restarted while it ran, and it did not take effect; app-2 is a replica",
            ),
            (false, false) => (
                "app-1",
                "nothing was switched, because the fence failed: Mainstay was restarted while the fence ran; nothing was switched",
            ),
        };
        assert_eq!((next.targets(), error(&next).as_str()), (vec![who.to_owned()], why));
        assert_eq!(advice(&next).is_empty(), promoted, "{}", advice(&next));
    }
}

#[test]
fn a_start_goes_on_with_the_lead_that_is_written_down_and_not_with_who_answers_first() {
    let before = settled();
    let record = LeadRecord {
        server: app(2),
        since: before.now.wall,
        term: 1,
        kept_out: [app(1)].into(),
        unclear: None,
    };
    let mut bench = again(&before, record, |b| {
        is_primary(b, 1, 10 * MB);
        b.looks.insert(app(2), Look::Silent);
    });
    assert_eq!(bench.targets(), ["app-2"]);
    bench.advance(seconds(60));
    assert_eq!(bench.targets(), ["app-2"]);
    assert!(orders(&bench).is_empty());
}

#[test]
fn a_second_outage_within_the_hour_asks_a_person_and_one_after_it_does_not() {
    for (later, automatic) in [(60, false), (4000, true)] {
        let mut bench = settled();
        dies(&mut bench, 1);
        bench.advance(seconds(8));
        ends(&mut bench, Ok(()));
        is_primary(&mut bench, 2, 10 * MB);
        let (role, position) = (DataRole::Replica, Some(10 * MB));
        let follows = DataState { role, position, receives: true, timeline: Some(2) };
        bench.looks.insert(app(3), Look::Data(follows));
        ends(&mut bench, Ok(()));
        bench.advance(seconds(later));
        assert_eq!(bench.targets(), ["app-2"]);
        bench.effects.clear();
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(seconds(8));
        assert_eq!(!steps(&bench).is_empty(), automatic);
        assert_eq!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson), !automatic);
    }
}

#[test]
fn where_somebody_else_promotes_the_writes_follow_after_the_fence() {
    let mut policy = databases();
    policy.services.get_mut(&shop()).unwrap().switch.as_mut().unwrap().promote = Promote::Nobody;
    let mut bench = settled_with(policy);
    dies(&mut bench, 1);
    bench.advance(seconds(8));
    ends(&mut bench, Ok(()));
    assert_eq!(steps(&bench), [SwitchStep::Fence]);
    bench.advance(seconds(5));
    assert!(switch(&bench).is_running());
    is_primary(&mut bench, 3, 10 * MB);
    bench.advance(seconds(2));
    assert_eq!((bench.targets(), error(&bench)), (vec!["app-3".to_owned()], String::new()));
}

#[test]
fn a_service_for_reads_goes_to_the_replicas_and_to_the_primary_when_none_is_left() {
    let mut policy = databases();
    let service = policy.services.get_mut(&shop()).unwrap();
    service.state = Some(StatePolicy { serves: Serves::Reads });
    service.switch = None;
    service.slow_start = Duration::ZERO;
    let mut bench = settled_with(policy);
    assert_eq!(bench.targets(), ["app-2", "app-3"]);
    (2..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
    bench.advance(seconds(5));
    assert_eq!(bench.targets(), ["app-1"]);
    is_replica(&mut bench, 1, 10 * MB, true);
    is_primary(&mut bench, 2, 10 * MB);
    is_replica(&mut bench, 3, 10 * MB, true);
    bench.advance(seconds(5));
    assert_eq!(bench.targets(), ["app-1", "app-3"], "who is what is found out anew");
}
