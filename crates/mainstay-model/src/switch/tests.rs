//! When the user's own switch is run, and when it is not.

use std::collections::BTreeMap;

use super::*;
use crate::effect::NoticeKind;
use crate::input::{Input, ProbeFailure, Restored};
use crate::policy::Policy;
use crate::testing::{Bench, app, policy, shop};

fn switchable(automatic: bool) -> Policy {
    let mut policy = policy(2, false);
    policy.services.values_mut().for_each(|s| {
        s.recovery.levels.switch = if automatic { Level::Automatic } else { Level::Ask };
        s.switch = Some(SwitchPolicy {
            after: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
            fence: false,
            can_go_back: true,
            ..Default::default()
        });
    });
    policy
}

fn all_down(bench: &mut Bench) {
    (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
}

fn orders(bench: &Bench) -> Vec<SwitchOrder> {
    let order = |(_, e): &(Mono, Effect)| match e {
        Effect::Switch(order) => Some(order.clone()),
        _ => None,
    };
    bench.effects.iter().filter_map(order).collect()
}

fn switch(bench: &Bench) -> SwitchSnapshot {
    bench.model.snapshot(bench.now).services[0].switch.clone().unwrap()
}

fn ends(bench: &mut Bench, result: Result<(), String>) {
    let action = orders(bench).last().unwrap().id;
    let output = vec!["promoting the standby".to_owned(), "done".to_owned()];
    bench.tell(Input::Switched { service: shop(), action, result, output });
}

#[test]
fn it_is_run_once_an_incident_when_every_primary_is_down_for_long_enough() {
    let mut bench = Bench::settled(switchable(true));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(Duration::from_secs(60));
    assert!(orders(&bench).is_empty(), "one primary is left");
    all_down(&mut bench);
    bench.advance(Duration::from_secs(4));
    assert!(orders(&bench).is_empty());
    bench.advance(Duration::from_secs(3));
    let order = orders(&bench)[0].clone();
    assert_eq!(
        (order.step, order.servers.len(), order.reason.as_str()),
        (SwitchStep::There, 2, "every primary is down for 5s")
    );
    let first = bench.effects.iter().position(|(_, e)| matches!(e, Effect::Record(Record::Switch { .. })));
    let second = bench.effects.iter().position(|(_, e)| matches!(e, Effect::Switch(_)));
    assert!(first < second, "the intent is written down first");
    ends(&mut bench, Ok(()));
    assert!(switch(&bench).switched);
    bench.advance(Duration::from_secs(600));
    (1..=2).for_each(|n| bench.is_good(&app(n)));
    bench.advance(Duration::from_secs(5));
    all_down(&mut bench);
    bench.advance(Duration::from_secs(60));
    assert_eq!(orders(&bench).len(), 1, "the same incident");
}

#[test]
fn at_level_ask_a_person_is_called_and_decides_and_only_a_person_goes_back() {
    let mut bench = Bench::settled(switchable(false));
    all_down(&mut bench);
    bench.advance(Duration::from_secs(20));
    assert!(orders(&bench).is_empty());
    assert!(switch(&bench).wanted);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
    let tell = |bench: &mut Bench, back| {
        bench.tell(Input::Switch { service: shop(), back, fenced: false, by: "alice".to_owned() })
    };
    tell(&mut bench, false);
    tell(&mut bench, false);
    assert_eq!(orders(&bench).len(), 1, "it runs already");
    ends(&mut bench, Ok(()));
    (1..=2).for_each(|n| bench.is_good(&app(n)));
    bench.advance(Duration::from_secs(3600));
    assert!(switch(&bench).switched && orders(&bench).len() == 1, "never back by itself");
    tell(&mut bench, true);
    assert_eq!(orders(&bench)[1].step, SwitchStep::Back);
    ends(&mut bench, Ok(()));
    assert!(!switch(&bench).switched);
}

#[test]
fn a_failure_calls_a_person_and_is_not_repeated() {
    let mut bench = Bench::settled(switchable(true));
    all_down(&mut bench);
    bench.advance(Duration::from_secs(10));
    ends(&mut bench, Err("exited with status 1".to_owned()));
    bench.advance(Duration::from_secs(600));
    assert_eq!(orders(&bench).len(), 1);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
    let text = bench.incidents()[0]
        .timeline
        .iter()
        .find(|e| e.kind == EntryKind::ActionFailed)
        .unwrap()
        .text
        .clone();
    assert_eq!(text, "the switch failed: exited with status 1; the last line it wrote: done");
}

#[test]
fn an_outcome_that_never_comes_is_a_failure() {
    let mut bench = Bench::settled(switchable(true));
    all_down(&mut bench);
    bench.advance(Duration::from_secs(80));
    assert!(switch(&bench).last.unwrap().end.unwrap().error.unwrap().contains("no outcome in time"));
    assert_eq!(orders(&bench).len(), 1);
}

#[test]
fn a_restart_in_the_middle_looks_into_it_and_never_repeats_it() {
    let mut bench = Bench::settled(switchable(true));
    all_down(&mut bench);
    bench.advance(Duration::from_secs(10));
    let run = switch(&bench).last.unwrap();
    assert!(run.end.is_none());
    let incident = bench.incidents()[0].as_ref().clone();
    let mut next = Bench::empty(bench.policy.clone());
    let restored = Restored {
        incidents: vec![incident],
        last_action: 50,
        switches: BTreeMap::from([(shop(), run)]),
        ..Restored::default()
    };
    next.tell(Input::Restored(restored));
    next.tell(Input::Policy(next.policy.clone()));
    next.addresses();
    all_down(&mut next);
    next.advance(Duration::from_secs(60));
    assert!(orders(&next).is_empty());
    assert!(switch(&next).last.unwrap().end.unwrap().error.unwrap().contains("Mainstay was restarted"));
    let failed = next.incidents()[0].timeline.iter().any(|e| e.kind == EntryKind::ActionFailed);
    assert!(failed, "{:?}", next.incidents()[0].timeline);
}

/// Two primaries and a backup; with a switch.
fn with_standby(supervised: bool, can_go_back: bool) -> Policy {
    let mut policy = crate::testing::with_spare(policy(2, supervised));
    let service = policy.services.get_mut(&shop()).unwrap();
    service.switch = switchable(true).services[&shop()].switch.clone();
    service.recovery.levels.switch = Level::Automatic;
    service.switch.as_mut().unwrap().can_go_back = can_go_back;
    policy
}

fn goes_back(bench: &mut Bench) {
    bench.tell(Input::Switch { service: shop(), back: true, fenced: false, by: "alice".to_owned() });
}

#[test]
fn what_was_switched_away_from_gets_nothing_until_a_person_goes_back_however_well_it_is() {
    for can_go_back in [true, false] {
        let mut bench = Bench::settled(with_standby(false, can_go_back));
        all_down(&mut bench);
        bench.advance(Duration::from_secs(8));
        // From the moment in which it runs: what comes back now would be a second writer.
        bench.is_good(&app(1));
        bench.advance(Duration::from_secs(5));
        assert_eq!(bench.targets(), ["spare"]);
        ends(&mut bench, Ok(()));
        bench.is_good(&app(2));
        bench.advance(Duration::from_secs(120));
        assert_eq!(bench.targets(), ["spare"]);
        assert_eq!(bench.server(&app(1)).note, Some(crate::snapshot::ServerNote::SwitchedAway));
        // Not even when nobody else is left.
        bench.is_bad(&crate::testing::spare(), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(20));
        assert_eq!(bench.targets(), ["spare"], "tried, and nobody else");
        assert!(bench.routed().last_resort.is_empty());
        bench.is_good(&crate::testing::spare());
        bench.advance(Duration::from_secs(20));
        goes_back(&mut bench);
        if can_go_back {
            ends(&mut bench, Ok(()));
        }
        assert!(!switch(&bench).switched);
        bench.advance(Duration::from_secs(60));
        assert_eq!(bench.targets(), ["app-1", "app-2"], "{can_go_back}");
    }
}

#[test]
fn a_primary_that_was_switched_away_from_is_not_restarted_and_one_that_is_being_restarted_is_waited_for() {
    let mut bench = Bench::settled(with_standby(true, true));
    bench.supervisor = crate::testing::Supervisor::Silent;
    (1..=2).for_each(|n| bench.crash(&app(n)));
    bench.advance(Duration::from_secs(30));
    assert!(orders(&bench).is_empty(), "their restarts are under way");
    let held = |e: &crate::incident::TimelineEntry| e.text == "not switched: app-1 is being started anew";
    assert!(bench.incidents()[0].timeline.iter().any(held), "{:?}", bench.incidents()[0].timeline);

    let mut bench = Bench::settled(with_standby(true, true));
    bench.tell(Input::Switch { service: shop(), back: false, fenced: false, by: "alice".to_owned() });
    ends(&mut bench, Ok(()));
    bench.effects.clear();
    bench.crash(&app(1));
    bench.advance(Duration::from_secs(60));
    assert!(bench.orders().is_empty());
    let withheld = |e: &crate::incident::TimelineEntry| e.text.contains("was switched away from it");
    assert!(bench.incidents()[0].timeline.iter().any(withheld));
    goes_back(&mut bench);
    ends(&mut bench, Ok(()));
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.orders().len(), 1, "now it is");
}

#[test]
fn it_is_not_run_in_a_maintenance_window_that_opened_meanwhile_but_after_it() {
    use crate::window::{Covers, HandWindow, Occurrence, WindowPolicy};
    let mut bench = Bench::settled(switchable(true));
    all_down(&mut bench);
    bench.advance(Duration::from_secs(3));
    let covers = Covers { services: [shop()].into(), ..Covers::default() };
    let when = Occurrence { from: bench.now.wall, to: Wall(bench.now.wall.0 + 60_000) };
    let policy = WindowPolicy { covers, ..WindowPolicy::default() };
    bench.tell(Input::OpenWindow(HandWindow { policy, when, by: "alice".to_owned() }));
    bench.advance(Duration::from_secs(50));
    assert!(orders(&bench).is_empty());
    bench.advance(Duration::from_secs(20));
    assert_eq!(orders(&bench).len(), 1);
}

#[test]
fn a_person_is_asked_to_decide_although_one_was_called_for_something_else() {
    let mut policy = with_standby(true, true);
    let service = policy.services.get_mut(&shop()).unwrap();
    service.recovery.budget = 0;
    service.recovery.levels.switch = Level::Ask;
    let mut bench = Bench::settled(policy);
    (1..=2).for_each(|n| bench.crash(&app(n)));
    bench.advance(Duration::from_secs(60));
    let called: Vec<String> =
        bench.notices().into_iter().filter(|n| n.kind == NoticeKind::NeedsPerson).map(|n| n.advice).collect();
    assert_eq!(called.len(), 2, "{called:?}");
    assert!(called[1].starts_with("Decide whether to run the switch command of shop"), "{called:?}");
}

#[test]
fn a_way_back_that_failed_and_an_outcome_that_nobody_knows_leave_it_switched_over_restarts() {
    let mut bench = Bench::settled(with_standby(false, true));
    all_down(&mut bench);
    bench.advance(Duration::from_secs(8));
    let lost = switch(&bench).last.unwrap();
    assert!(!lost.switched);
    let again = |run: SwitchRun| {
        let mut bench = Bench::empty(with_standby(false, true));
        let switches = BTreeMap::from([(shop(), run)]);
        bench.tell(Input::Restored(Restored { switches, ..Restored::default() }));
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.addresses();
        bench.advance(Duration::from_secs(20));
        bench
    };
    let bench = again(lost);
    assert_eq!((switch(&bench).switched, bench.targets()), (true, vec!["spare".to_owned()]));
    let mut bench = again(switch(&bench).last.unwrap());
    assert!(switch(&bench).switched, "also after another restart");
    goes_back(&mut bench);
    ends(&mut bench, Err("exited with status 1".to_owned()));
    let bench = again(switch(&bench).last.unwrap());
    assert_eq!((switch(&bench).switched, bench.targets()), (true, vec!["spare".to_owned()]));
}

/// Two primaries, a backup, and a fence that comes before the switch.
fn fenced() -> Bench {
    let mut policy = with_standby(false, true);
    policy.services.get_mut(&shop()).unwrap().switch.as_mut().unwrap().fence = true;
    let mut bench = Bench::settled(policy);
    all_down(&mut bench);
    bench.advance(Duration::from_secs(8));
    bench
}

fn steps(bench: &Bench) -> Vec<SwitchStep> {
    orders(bench).iter().map(|order| order.step).collect()
}

#[test]
fn connections_with_what_is_switched_away_from_are_cut_and_requests_are_not() {
    for tcp in [false, true] {
        let mut policy = with_standby(false, true);
        let carriage = &mut policy.services.get_mut(&shop()).unwrap().carriage;
        let close = crate::carriage::Tcp { close_when_down: true };
        std::sync::Arc::make_mut(carriage).tcp = tcp.then_some(close);
        let mut bench = Bench::settled(policy);
        assert!(bench.routed().leaving.is_empty());
        all_down(&mut bench);
        bench.advance(Duration::from_secs(8));
        let cut: Vec<ServerId> =
            bench.routed().leaving.iter().map(|leaving| leaving.server.clone()).collect();
        assert_eq!(cut, if tcp { vec![app(1), app(2)] } else { Vec::new() });
    }
}

#[test]
fn nothing_is_switched_before_the_fence_has_succeeded() {
    let mut bench = fenced();
    assert_eq!(steps(&bench), [SwitchStep::Fence]);
    assert_eq!(bench.targets(), ["spare"], "what is being fenced gets nothing");
    bench.is_good(&app(1));
    bench.advance(Duration::from_secs(5));
    assert_eq!(bench.targets(), ["spare"]);
    ends(&mut bench, Ok(()));
    assert_eq!(steps(&bench), [SwitchStep::Fence, SwitchStep::There]);
    let (fence, there) = (orders(&bench)[0].id, orders(&bench)[1].id);
    let run = switch(&bench).last.unwrap();
    assert_eq!((run.fence.map(|fence| fence.action), run.action), (Some(fence), there));
    ends(&mut bench, Ok(()));
    assert!(switch(&bench).switched);
    let said: Vec<String> = bench.incidents()[0].timeline.iter().map(|e| e.text.clone()).collect();
    let at = |text: &str| said.iter().position(|said| said.starts_with(text)).expect(text);
    assert!(at("the fence of the switch was carried out") < at("the switch is run, wanted by Mainstay"));
}

#[test]
fn a_fence_that_failed_switches_nothing_and_a_person_is_asked() {
    for unknown in [false, true] {
        let mut bench = fenced();
        match unknown {
            true => bench.advance(Duration::from_secs(80)),
            false => ends(&mut bench, Err("exited with status 1".to_owned())),
        }
        let now = switch(&bench);
        assert_eq!((now.switched, steps(&bench)), (false, vec![SwitchStep::Fence]), "{unknown}");
        let why = now.last.unwrap().end.unwrap().error.unwrap();
        assert!(why.starts_with("nothing was switched, because the fence failed: "), "{why}");
        let advice = bench.notices().into_iter().rfind(|n| n.kind == NoticeKind::NeedsPerson).unwrap().advice;
        assert!(advice.contains("mainstay switch shop --fenced"), "{advice}");
        bench.advance(Duration::from_secs(600));
        assert_eq!(steps(&bench).len(), 1, "it is not tried again");
        // Nobody was promoted: whoever comes back may serve.
        bench.is_good(&app(1));
        bench.advance(Duration::from_secs(120));
        assert_eq!(bench.targets(), ["app-1"]);
    }
}

#[test]
fn a_person_who_vouches_for_it_needs_no_fence() {
    let mut bench = fenced();
    ends(&mut bench, Err("exited with status 1".to_owned()));
    bench.tell(Input::Switch { service: shop(), back: false, fenced: true, by: "alice".to_owned() });
    assert_eq!(steps(&bench), [SwitchStep::Fence, SwitchStep::There]);
    let run = switch(&bench).last.unwrap();
    assert_eq!((run.fence, run.reason.contains("vouches")), (None, true));
    ends(&mut bench, Ok(()));
    assert!(switch(&bench).switched);
}

#[test]
fn a_restart_while_the_fence_runs_leaves_it_unswitched_and_while_the_switch_runs_switched() {
    for fenced_before in [false, true] {
        let mut bench = fenced();
        if fenced_before {
            ends(&mut bench, Ok(()));
        }
        let run = switch(&bench).last.unwrap();
        let mut next = Bench::empty(bench.policy.clone());
        let incidents = vec![bench.incidents()[0].as_ref().clone()];
        let switches = BTreeMap::from([(shop(), run)]);
        next.tell(Input::Restored(Restored { incidents, last_action: 50, switches, ..Restored::default() }));
        next.tell(Input::Policy(next.policy.clone()));
        next.addresses();
        all_down(&mut next);
        next.advance(Duration::from_secs(60));
        assert!(orders(&next).is_empty(), "nothing is repeated");
        assert_eq!(switch(&next).switched, fenced_before);
        let why = switch(&next).last.unwrap().end.unwrap().error.unwrap();
        assert!(why.contains("Mainstay was restarted while"), "{why}");
    }
}
