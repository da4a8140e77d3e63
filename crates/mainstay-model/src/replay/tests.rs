//! Two judges who hear the same differ only where their policies do.

use super::*;
use crate::input::ProbeFailure;
use crate::policy::HealthPolicy;
use crate::testing::{Bench, app, policy, shop, start};

const SECOND: Duration = Duration::from_secs(1);

/// What a bench was told, tried with another policy.
fn tried(bench: &Bench, change: impl Fn(&mut Policy)) -> Vec<Compared> {
    let mut policy = bench.policy.clone();
    change(&mut policy);
    let beginning = Beginning { at: start(), restored: Restored::default(), policy: None, seed: 7 };
    let mut trial = Trial::begin(beginning, policy);
    for (now, input) in &bench.heard {
        trial.tell(*now, input.clone());
    }
    trial.end(bench.now)
}

fn fall(policy: &mut Policy, n: u32) {
    let health = &mut policy.services.get_mut(&shop()).unwrap().health;
    (health.fall, health.fail) = (n, HealthPolicy::fail_beside(n));
}

fn of(all: &[Compared], kind: DecisionKind) -> Vec<&Compared> {
    all.iter().filter(|compared| compared.what.kind == kind).collect()
}

/// A server refuses for a while and is back.
fn refused_for_a_while(mut policy: Policy) -> Bench {
    policy.people = true;
    let mut bench = Bench::settled(policy);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(SECOND * 20);
    bench.is_good(&app(1));
    bench.advance(SECOND * 120);
    bench
}

#[test]
fn the_same_policy_decides_the_same_at_the_same_time() {
    let all = tried(&refused_for_a_while(policy(3, false)), |_| {});
    assert!(all.iter().all(|one| one.then == one.tried), "{all:#?}");
    for kind in [DecisionKind::Out, DecisionKind::Opened, DecisionKind::Resolved] {
        assert_eq!(of(&all, kind).len(), 1, "{kind:?} of {all:#?}");
    }
    let back = of(&all, DecisionKind::In).into_iter().rfind(|back| back.what.about == "shop/app-1");
    assert!(back.unwrap().then > of(&all, DecisionKind::Out)[0].then);
    let told = of(&all, DecisionKind::Told(NoticeKind::Opened));
    assert_eq!(told.len(), 1, "{all:#?}");
}

#[test]
fn the_one_of_then_decides_what_was_decided() {
    let bench = refused_for_a_while(policy(3, false));
    let all = tried(&bench, |_| {});
    let records = bench.records();
    let opened = records.iter().find_map(|record| match record {
        Record::Incident(incident) => Some(incident.opened_at),
        _ => None,
    });
    assert_eq!(of(&all, DecisionKind::Opened)[0].then, opened);
}

#[test]
fn who_waits_for_more_failures_notices_later_and_who_waits_for_very_many_never_does() {
    let bench = refused_for_a_while(policy(3, false));
    let falls = |n| move |policy: &mut Policy| fall(policy, n);
    let later = tried(&bench, falls(4));
    let out = of(&later, DecisionKind::Out)[0];
    assert!(out.tried > out.then && !out.is_same(), "{out:?}");
    assert_eq!(out.what.about, "shop/app-1");
    let never = tried(&bench, falls(500));
    let opened = of(&never, DecisionKind::Opened)[0];
    assert!(opened.then.is_some() && opened.tried.is_none(), "{opened:?}");
}

#[test]
fn what_only_one_of_them_does_is_done_by_one_alone() {
    let mut bench = Bench::settled(policy(2, true));
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    bench.advance(SECOND * 60);
    let restart = DecisionKind::Recover(ActionKind::Restart);
    assert!(!of(&tried(&bench, |_| {}), restart).is_empty());
    let all = tried(&bench, |policy| {
        policy.services.get_mut(&shop()).unwrap().recovery.budget = 0;
    });
    let restarts = of(&all, restart);
    assert!(!restarts.is_empty() && restarts.iter().all(|one| one.then.is_some() && one.tried.is_none()));
}

#[test]
fn who_would_not_have_restarted_it_does_not_see_it_end() {
    let mut supervised = policy(2, true);
    fall(&mut supervised, 2);
    let mut bench = Bench::settled(supervised);
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    while bench.orders().iter().all(|(_, order)| order.kind != ActionKind::Restart) {
        bench.advance(Duration::from_millis(10));
    }
    // The bench starts processes without ending the one before; a supervisor does not.
    let exit = crate::input::Exit::Signal(9);
    let ended = ProcessEvent::Exited { exit, asked: true, last_lines: Vec::new() };
    bench.tell(Input::Process { server: app(1), event: ended });
    bench.is_good(&app(1));
    bench.advance(SECOND * 30);
    let all = tried(&bench, |policy| fall(policy, 4));
    let opened = of(&all, DecisionKind::Opened)[0];
    assert!(opened.then.is_some() && opened.tried.is_none(), "four failures were never seen: {all:#?}");
}

#[test]
fn an_action_that_was_never_carried_out_holds_nothing_up_for_ever() {
    let mut watched = policy(2, true);
    fall(&mut watched, 500);
    let mut bench = Bench::settled(watched);
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    bench.advance(SECOND * 90);
    let all = tried(&bench, |policy| fall(policy, 2));
    let restarts = of(&all, DecisionKind::Recover(ActionKind::Restart));
    assert!(restarts.len() > 1, "the next one came when the first had not helped: {all:#?}");
    assert!(restarts.iter().all(|one| one.then.is_none() && one.tried.is_some()));
}

#[test]
fn an_action_that_takes_long_ends_when_it_did() {
    let mut bench = Bench::settled(policy(2, true));
    bench.supervisor = crate::testing::Supervisor::Silent;
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    bench.advance(SECOND * 40);
    let failed = Err("it took too long".to_owned());
    let (_, order) = bench.orders().into_iter().find(|(_, order)| order.kind == ActionKind::Restart).unwrap();
    bench.tell(Input::Outcome { action: order.id, result: failed });
    bench.advance(SECOND * 20);
    let restarts = bench.orders().iter().filter(|(_, order)| order.kind == ActionKind::Restart).count();
    let all = tried(&bench, |_| {});
    assert!(all.iter().all(|one| one.then == one.tried), "{all:#?}");
    assert_eq!(of(&all, DecisionKind::Recover(ActionKind::Restart)).len(), restarts);
}

#[test]
fn at_another_level_what_was_done_would_have_been_proposed() {
    let mut bench = Bench::settled(policy(2, true));
    bench.crash(&app(1));
    bench.advance(SECOND * 60);
    let all = tried(&bench, |policy| {
        policy.services.values_mut().for_each(|s| s.recovery.levels.restart = crate::rung::Level::Observe);
    });
    let restart = of(&all, DecisionKind::Recover(ActionKind::Restart))[0];
    assert!(restart.then.is_some() && restart.tried.is_none(), "{restart:?}");
    let proposed = of(&all, DecisionKind::Proposed(Rung::Restart))[0];
    assert!(proposed.then.is_none() && proposed.tried == restart.then, "{proposed:?}");
    assert_eq!(proposed.what.text, "restart app-1: its process was killed by SIGKILL");
}
