//! Whether actions helped, on the bench.

use std::time::Duration;

use super::{Help, Helped};
use crate::effect::{ActionKind, Effect, NoticeKind, Record};
use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::input::{Input, ProbeFailure};
use crate::policy::SwitchPolicy;
use crate::testing::{Bench, app, policy, shop};

const SECS: fn(u64) -> Duration = Duration::from_secs;

fn verdicts(bench: &Bench) -> Vec<Helped> {
    let of = |record: Record| match record {
        Record::ActionHelped { helped, .. } => Some(helped),
        _ => None,
    };
    bench.records().into_iter().filter_map(of).collect()
}

fn restarts(bench: &Bench) -> usize {
    bench.orders().iter().filter(|(_, order)| order.kind == ActionKind::Restart).count()
}

fn told(bench: &Bench, kind: EntryKind) -> Vec<String> {
    let incidents = bench.incidents();
    let entries = incidents[0].timeline.iter().filter(|e| e.kind == kind);
    entries.map(|e| e.text.clone()).collect()
}

/// It answers some requests in each quarter of a second, and so many of them are bad.
fn serves(bench: &mut Bench, server: &ServerId, time: Duration, requests: u64, bad: u64) {
    let until = bench.now.mono + time;
    while bench.now.mono < until {
        bench.advance(Duration::from_millis(250));
        bench.attempts(server, requests - bad, bad, 0);
    }
}

#[test]
fn a_restart_helped_when_real_requests_are_answered_again() {
    let mut bench = Bench::settled(policy(2, true));
    serves(&mut bench, &app(1), SECS(3), 5, 0);
    bench.attempts(&app(1), 0, 0, 4);
    bench.crash(&app(1));
    serves(&mut bench, &app(1), SECS(4), 5, 0);
    assert!(verdicts(&bench).is_empty(), "too early to say");
    serves(&mut bench, &app(1), SECS(3), 5, 0);
    let helped = verdicts(&bench)[0].clone();
    assert_eq!((helped.help, helped.before.bad, helped.after.bad), (Help::Yes, 4, 0));
    assert!(helped.took_ms.is_some_and(|ms| ms < 1000), "{helped:?}");
    let text = &told(&bench, EntryKind::Helped)[0];
    assert!(text.starts_with("the restart of app-1 helped: 0 of "), "{text}");
    assert!(text.ends_with(" requests to app-1 went wrong since, 4 of 9 before"), "{text}");
}

#[test]
fn without_requests_it_is_not_known_whatever_the_probes_say_but_no() {
    let mut bench = Bench::settled(policy(2, true));
    bench.crash(&app(1));
    bench.advance(SECS(30));
    let helped = verdicts(&bench)[0].clone();
    assert_eq!(helped.help, Help::NotKnown, "said before the incident is closed: {helped:?}");
    assert_eq!(helped.why, "no request came to app-1 since; its probes are good");
    assert!(
        told(&bench, EntryKind::Helped)[0].starts_with("whether the restart of app-1 helped is not known")
    );
}

#[test]
fn two_restarts_that_did_not_help_call_a_person_and_the_next_ones_come_slowly() {
    let mut bench = Bench::settled(policy(2, true));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.crash(&app(1));
    for _ in 0..40 {
        bench.advance(Duration::from_millis(500));
        if bench.server(&app(1)).process.is_some_and(|p| p.pid.is_some()) {
            bench.crash(&app(1));
        }
    }
    assert_eq!(restarts(&bench), 2, "twice in 20 s, and not five times");
    assert!(verdicts(&bench).iter().all(|helped| helped.help == Help::No));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
    let advice = &bench.notices()[1].advice;
    assert!(
        advice.starts_with("Look at why app-1 does not get well: 2 restarts in a row did not help"),
        "{advice}"
    );
    assert!(advice.ends_with("Mainstay tries once more in 1m"), "{advice}");
    bench.advance(SECS(60));
    assert_eq!(restarts(&bench), 3, "once more");
    bench.crash(&app(1));
    bench.advance(SECS(500));
    assert_eq!(restarts(&bench), 3);
    bench.is_good(&app(1));
    bench.advance(SECS(200));
    assert_eq!(restarts(&bench), 4, "what is down is tried again when the window is over");
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
}

#[test]
fn one_that_serves_a_while_between_its_ends_is_restarted_within_its_budget() {
    let mut bench = Bench::settled(policy(2, true));
    for _ in 0..4 {
        bench.crash(&app(1));
        serves(&mut bench, &app(1), SECS(20), 5, 0);
    }
    assert_eq!(restarts(&bench), 4);
    assert!(verdicts(&bench).iter().all(|helped| helped.help == Help::Yes));
}

#[test]
fn a_restart_after_which_visitors_get_errors_did_not_help() {
    let mut bench = Bench::settled(policy(2, true));
    serves(&mut bench, &app(1), SECS(3), 5, 0);
    bench.crash(&app(1));
    serves(&mut bench, &app(1), SECS(15), 10, 6);
    let helped = verdicts(&bench)[0].clone();
    assert_eq!(helped.help, Help::No, "{helped:?}");
    assert!(helped.after.bad * 2 > helped.after.attempts);
}

#[test]
fn a_person_who_wants_it_back_begins_anew() {
    let mut bench = Bench::settled(policy(2, true));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.crash(&app(1));
    for _ in 0..10 {
        bench.advance(SECS(1));
        if bench.server(&app(1)).process.is_some_and(|p| p.pid.is_some()) {
            bench.crash(&app(1));
        }
    }
    assert_eq!(restarts(&bench), 2);
    bench.is_good(&app(1));
    bench.admin(&app(1), crate::input::AdminState::Ready);
    bench.advance(SECS(2));
    assert_eq!(restarts(&bench), 3);
}

/// Every primary is down, visitors are refused, the switch is run, and of each ten requests after it so many fail.
fn switched(bad_since: u64) -> Bench {
    let mut policy = policy(2, false);
    let service = policy.services.get_mut(&shop()).unwrap();
    service.recovery.levels.switch = crate::rung::Level::Automatic;
    service.switch = Some(SwitchPolicy {
        after: SECS(2),
        deadline: SECS(30),
        fence: false,
        can_go_back: false,
        ..Default::default()
    });
    let mut bench = Bench::settled(policy);
    (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
    while !bench.effects.iter().any(|(_, e)| matches!(e, Effect::Switch(_))) {
        bench.visitors(10, 10);
        bench.advance(Duration::from_millis(250));
    }
    let order = bench.effects.iter().find_map(|(_, e)| match e {
        Effect::Switch(order) => Some(order.id),
        _ => None,
    });
    let (action, output) = (order.unwrap(), Vec::new());
    bench.tell(Input::Switched { service: shop(), action, result: Ok(()), output });
    for _ in 0..60 {
        bench.visitors(10, bad_since);
        bench.advance(Duration::from_millis(250));
    }
    bench
}

fn verdict_of_the_switch(bench: &Bench) -> Helped {
    let switch = bench.model.snapshot(bench.now).services[0].switch.clone().unwrap();
    switch.last.unwrap().helped.unwrap()
}

#[test]
fn a_switch_is_judged_by_what_visitors_see() {
    let bench = switched(0);
    let helped = verdict_of_the_switch(&bench);
    assert_eq!((helped.help, helped.after.visitors_bad), (Help::Yes, 0));
    assert!(told(&bench, EntryKind::Helped)[0].starts_with("the switch helped: 0 of "));
    assert!(!bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
}

#[test]
fn when_the_switch_did_not_help_a_person_is_called() {
    let bench = switched(9);
    assert_eq!(verdict_of_the_switch(&bench).help, Help::No);
    let advice = &bench.notices().last().unwrap().advice.clone();
    assert_eq!(advice, "Look at what else is wrong with shop: the switch did not help");
}
