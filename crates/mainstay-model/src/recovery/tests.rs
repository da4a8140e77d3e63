//! Recovery on the bench.

use std::time::Duration;

use super::OUTCOME_DEADLINE;
use crate::effect::{ActionKind, NoticeKind, Record};
use crate::id::{ServerId, ServiceId};
use crate::incident::EntryKind;
use crate::input::{AdminState, Input, ProbeFailure, ProcessEvent, Restored};
use crate::needs::Needed;
use crate::policy::{Policy, ProbeKind, ServerPolicy, ServicePolicy};
use crate::snapshot::Health;
use crate::testing::{Bench, Supervisor, app, policy, shop};
use crate::time::Mono;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn restarts(bench: &Bench) -> Vec<(Mono, ServerId)> {
    let orders = bench.orders().into_iter().filter(|(_, o)| o.kind == ActionKind::Restart);
    orders.map(|(at, o)| (at, o.server)).collect()
}

#[test]
fn a_new_supervised_server_is_started_for_no_incident() {
    let bench = Bench::fresh(policy(2, true));
    let orders = bench.orders();
    assert_eq!(orders.len(), 2);
    assert!(orders.iter().all(|(_, o)| o.kind == ActionKind::Start && o.incident.is_none()));
}

#[test]
fn a_crashed_server_is_restarted_at_once_and_serves_again_within_a_second() {
    let mut bench = Bench::settled(policy(3, true));
    bench.crash(&app(2));
    assert_eq!(bench.targets(), ["app-1", "app-3"]);
    assert_eq!(restarts(&bench), [(bench.now.mono, app(2))]);
    bench.advance(MS(1000));
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
}

#[test]
fn further_restarts_wait_longer_and_longer_with_jitter() {
    let mut bench = Bench::settled(policy(2, true));
    for expected_ms in [0, 1000, 2000, 4000, 8000] {
        bench.crash(&app(1));
        let crashed = bench.now.mono;
        bench.effects.clear();
        if expected_ms > 0 {
            bench.advance(MS(expected_ms - 1));
            assert!(restarts(&bench).is_empty(), "{expected_ms}");
            bench.advance(MS(expected_ms / 5 + 1));
            let waited = restarts(&bench)[0].0 - crashed;
            assert!((MS(expected_ms)..=MS(expected_ms * 6 / 5)).contains(&waited), "{waited:?}");
        }
        bench.advance(MS(500));
    }
}

#[test]
fn long_good_health_starts_the_ladder_over() {
    let mut bench = Bench::settled(policy(2, true));
    for _ in 0..3 {
        bench.crash(&app(1));
        bench.advance(Duration::from_secs(602));
    }
    bench.effects.clear();
    bench.crash(&app(1));
    assert_eq!(restarts(&bench).len(), 1, "at once");
}

#[test]
fn servers_that_died_together_are_restarted_together() {
    let mut bench = Bench::settled(policy(3, true));
    (1..=3).for_each(|n| bench.crash(&app(n)));
    assert_eq!(restarts(&bench).len(), 3);
    bench.advance(MS(500));
    assert_eq!(bench.targets().len(), 3);
}

#[test]
fn servers_that_hang_are_restarted_one_at_a_time() {
    let mut bench = Bench::settled(policy(3, true));
    (1..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::AnswerTimeout));
    bench.advance(Duration::from_secs(4));
    assert_eq!(restarts(&bench).len(), 1);
    let first = restarts(&bench)[0].1.clone();
    bench.is_good(&first);
    bench.advance(Duration::from_secs(2));
    assert_eq!(restarts(&bench).len(), 2, "the first is good: the second's turn");
    bench.advance(Duration::from_secs(20));
    assert_eq!(restarts(&bench).len(), 2, "the second has yet to pass its first probe");
    bench.advance(Duration::from_secs(12));
    assert_eq!(restarts(&bench).len(), 3, "its grace is over");
}

#[test]
fn a_server_that_answers_real_requests_is_not_restarted_for_its_probes() {
    let mut bench = Bench::settled(policy(1, true));
    bench.attempts(&app(1), 10, 0, 0);
    bench.is_bad(&app(1), ProbeFailure::Status(503));
    for _ in 0..120 {
        bench.advance(MS(250));
        bench.attempts(&app(1), 10, 0, 0);
    }
    let server = bench.server(&app(1));
    assert_eq!(server.health, Health::Degraded);
    assert!(server.why.signals.iter().any(|s| s.name == "witnesses disagree"), "{:?}", server.why);
    assert!(restarts(&bench).is_empty());
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    for _ in 0..20 {
        bench.advance(MS(250));
        bench.attempts(&app(1), 0, 0, 10);
    }
    assert_eq!(restarts(&bench).len(), 1, "now both witnesses speak against it");
}

#[test]
fn a_server_that_is_starting_is_given_its_grace() {
    let mut bench = Bench::fresh(policy(1, true));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(Duration::from_secs(29));
    assert_eq!(bench.server(&app(1)).health, Health::Unknown);
    assert!(restarts(&bench).is_empty() && bench.incidents().is_empty());
    bench.advance(Duration::from_secs(3));
    assert_eq!(bench.server(&app(1)).health, Health::Unhealthy);
    assert_eq!(restarts(&bench).len(), 1);
}

#[test]
fn a_spent_budget_calls_a_person_once_and_tries_again_when_the_window_has_room() {
    let mut bench = Bench::settled(policy(2, true));
    bench.supervisor = Supervisor::Fails;
    bench.crash(&app(1));
    bench.advance(Duration::from_secs(590));
    assert_eq!(restarts(&bench).len(), 5);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
    let server = bench.server(&app(1));
    assert!(server.why.would_change.contains("budget = 5 in budget-window = 10m"), "{:?}", server.why);
    bench.supervisor = Supervisor::Works;
    bench.advance(Duration::from_secs(40));
    assert_eq!(restarts(&bench).len(), 6);
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson, NoticeKind::Resolved]);
}

#[test]
fn without_a_budget_nothing_is_restarted_and_a_person_is_called() {
    let mut policy = policy(1, true);
    policy.services.values_mut().for_each(|s| s.recovery.budget = 0);
    let mut bench = Bench::settled(policy);
    bench.crash(&app(1));
    bench.advance(Duration::from_secs(3600));
    assert!(restarts(&bench).is_empty());
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
}

#[test]
fn a_changed_command_is_tried_at_once_with_a_new_budget() {
    let mut policy = policy(2, true);
    policy.services.values_mut().for_each(|s| s.recovery.budget = 1);
    let mut bench = Bench::settled(policy.clone());
    bench.supervisor = Supervisor::Fails;
    bench.crash(&app(1));
    bench.advance(Duration::from_secs(30));
    let before = bench.orders().len();
    bench.tell(Input::Policy(policy.clone()));
    assert_eq!(bench.orders().len(), before, "the same command is still out of budget");
    let service = policy.services.values_mut().next().unwrap();
    service.servers.get_mut(&app(1).name).unwrap().command_version = 1;
    bench.supervisor = Supervisor::Works;
    bench.tell(Input::Policy(policy));
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.orders().len(), before + 1);
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
}

#[test]
fn restarts_of_an_earlier_run_count() {
    let mut bench = Bench::empty(policy(1, true));
    let at = crate::Wall(bench.now.wall.0 - 300_000);
    let restarts_before = vec![(app(1), at); 5];
    bench.tell(Input::Restored(Restored { restarts: restarts_before, ..Restored::default() }));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.advance(Duration::from_secs(2));
    bench.crash(&app(1));
    assert!(restarts(&bench).is_empty());
    assert_eq!(bench.server(&app(1)).process.unwrap().restarts_in_window, 5);
    bench.advance(Duration::from_secs(300));
    assert_eq!(restarts(&bench).len(), 1);
}

#[test]
fn a_server_in_maintenance_stays_down_and_is_started_when_it_is_made_ready() {
    let mut bench = Bench::settled(policy(2, true));
    bench.admin(&app(1), AdminState::Maintenance);
    bench.crash(&app(1));
    bench.advance(Duration::from_secs(60));
    assert!(bench.orders().is_empty() && bench.incidents().is_empty());
    bench.admin(&app(1), AdminState::Ready);
    assert_eq!(bench.orders()[0].1.kind, ActionKind::Start);
    bench.advance(Duration::from_secs(15));
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    assert!(bench.incidents().is_empty());
}

#[test]
fn a_server_that_cannot_be_started_climbs_the_same_ladder() {
    let mut bench = Bench::empty(policy(1, true));
    bench.supervisor = Supervisor::Fails;
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.advance(MS(500));
    assert!(restarts(&bench).is_empty(), "an attempt was made already");
    bench.advance(MS(1000));
    assert_eq!(restarts(&bench).len(), 1);
    let title = bench.incidents()[0].title.clone();
    assert_eq!(title, "app-1 of shop could not be started: no such file or directory");
}

#[test]
fn an_order_without_an_outcome_has_failed_in_the_end() {
    let mut bench = Bench::settled(policy(2, true));
    bench.supervisor = Supervisor::Silent;
    bench.crash(&app(1));
    bench.advance(OUTCOME_DEADLINE);
    bench.supervisor = Supervisor::Works;
    bench.advance(Duration::from_secs(3));
    assert_eq!(restarts(&bench).len(), 2);
    let ended =
        |r: &Record| matches!(r, Record::ActionEnded { error: Some(e), .. } if e.contains("no outcome"));
    assert!(bench.records().iter().any(ended));
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
}

#[test]
fn who_is_made_ready_is_started_also_when_an_earlier_order_was_given_up() {
    let mut bench = Bench::settled(policy(2, true));
    bench.supervisor = Supervisor::Silent;
    bench.crash(&app(1));
    bench.advance(MS(500));
    bench.admin(&app(1), AdminState::Maintenance);
    bench.advance(OUTCOME_DEADLINE);
    bench.supervisor = Supervisor::Works;
    bench.admin(&app(1), AdminState::Ready);
    assert_eq!(bench.orders().last().map(|(_, order)| order.kind), Some(ActionKind::Start));
}

#[test]
fn a_process_that_somebody_else_was_asked_to_end_stays_down() {
    let mut bench = Bench::settled(policy(2, true));
    let exit = crate::input::Exit::Signal(15);
    let event = ProcessEvent::Exited { exit, asked: true, last_lines: vec![] };
    bench.tell(Input::Process { server: app(1), event });
    bench.advance(Duration::from_secs(30));
    assert!(bench.orders().is_empty() && bench.incidents().is_empty());
    assert_eq!(bench.targets(), ["app-2"]);
}

#[test]
fn the_outcome_may_come_before_the_word_that_it_runs() {
    let mut bench = Bench::settled(policy(2, true));
    bench.supervisor = Supervisor::Silent;
    bench.crash(&app(1));
    let action = bench.orders()[0].1.id;
    bench.tell(Input::Outcome { action, result: Ok(()) });
    bench.advance(MS(500));
    bench.tell(Input::Process { server: app(1), event: ProcessEvent::Started { pid: 9 } });
    bench.advance(Duration::from_secs(10));
    assert_eq!(bench.orders().len(), 1);
}

/// Servers whose probes ask for a page.
fn asked(servers: u32) -> Policy {
    let mut policy = policy(servers, true);
    let probe = ProbeKind::Http { path: "/health".to_owned(), host: None };
    policy.services.values_mut().for_each(|s| s.health.probe = probe.clone());
    policy
}

/// These servers answer their probes and all visitors with an error for so long.
fn answer_badly(bench: &mut Bench, servers: &[u32], seconds: u64) {
    servers.iter().for_each(|n| bench.is_bad(&app(*n), ProbeFailure::Status(503)));
    for _ in 0..seconds * 4 {
        bench.advance(MS(250));
        servers.iter().for_each(|n| bench.attempts(&app(*n), 0, 10, 0));
    }
}

#[test]
fn servers_that_all_answer_badly_lack_what_they_need_and_none_is_restarted() {
    let mut bench = Bench::settled(asked(3));
    answer_badly(&mut bench, &[1, 2, 3], 120);
    assert!(restarts(&bench).is_empty(), "{:?}", restarts(&bench));
    let incident = bench.incidents()[0].clone();
    let held = incident.timeline.iter().filter(|e| e.kind == EntryKind::Withheld);
    let held: Vec<&str> = held.map(|e| e.text.as_str()).collect();
    assert!(held.contains(&"app-1 is not restarted: all 3 servers answer and none of them well, so it is something that they need"), "{held:?}");
    let told: Vec<String> = bench.notices().into_iter().map(|n| n.advice).collect();
    assert!(
        told.iter().any(|advice| advice.starts_with("Look at what the servers of shop need")),
        "{told:?}"
    );
    // What they need comes back, and they do one after the other: nobody is restarted on the way.
    for n in 1..=3 {
        bench.is_good(&app(n));
        bench.advance(MS(700));
    }
    bench.advance(Duration::from_secs(60));
    assert!(restarts(&bench).is_empty());
    assert_eq!(bench.targets().len(), 3);
}

#[test]
fn one_server_that_answers_badly_among_good_ones_is_restarted() {
    let mut bench = Bench::settled(asked(3));
    answer_badly(&mut bench, &[2], 5);
    assert_eq!(restarts(&bench).first().map(|(_, id)| id.clone()), Some(app(2)));
}

#[test]
fn an_only_server_that_answers_badly_is_restarted_because_nobody_can_tell() {
    let mut bench = Bench::settled(asked(1));
    answer_badly(&mut bench, &[1], 5);
    assert!(!restarts(&bench).is_empty());
}

#[test]
fn where_a_restart_did_not_help_nobody_else_is_restarted_for_the_same() {
    let mut bench = Bench::settled(asked(3));
    answer_badly(&mut bench, &[1], 40);
    assert!(restarts(&bench).iter().all(|(_, id)| *id == app(1)) && !restarts(&bench).is_empty());
    answer_badly(&mut bench, &[1, 2], 60);
    assert!(restarts(&bench).iter().all(|(_, id)| *id == app(1)), "{:?}", restarts(&bench));
    let held = bench.incidents()[0]
        .timeline
        .iter()
        .any(|e| e.text == "app-2 is not restarted: a restart of app-1 for the same did not help");
    assert!(held, "{:?}", bench.incidents()[0].timeline);
    bench.is_good(&app(1));
    answer_badly(&mut bench, &[2], 60);
    assert_eq!(restarts(&bench).last().map(|(_, id)| id.clone()), Some(app(2)), "that was another fault");
}

#[test]
fn servers_of_a_service_that_suffers_from_what_it_needs_are_not_restarted_for_their_silence() {
    let mut policy = policy(2, true);
    let database = ServiceId::new("database");
    let mut needed = ServicePolicy::default();
    needed.servers.insert("db".into(), ServerPolicy::default());
    policy.services.insert(database.clone(), needed);
    policy.services.get_mut(&shop()).unwrap().needs = vec![Needed::Service(database.clone())];
    let mut bench = Bench::settled(policy);
    let db = database.server("db");
    bench.is_bad(&db, ProbeFailure::Refused);
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    bench.advance(Duration::from_secs(120));
    assert!(restarts(&bench).is_empty(), "{:?}", restarts(&bench));
    bench.is_good(&db);
    bench.advance(Duration::from_secs(120));
    assert!(!restarts(&bench).is_empty(), "it goes on by itself");
}

#[test]
fn dead_servers_are_restarted_one_at_a_time_from_the_second_restart_on() {
    let mut bench = Bench::settled(policy(3, true));
    (1..=3).for_each(|n| bench.crash(&app(n)));
    assert_eq!(restarts(&bench).len(), 3, "at once");
    bench.advance(Duration::from_secs(5));
    bench.effects.clear();
    bench.supervisor = Supervisor::Silent;
    (1..=3).for_each(|n| bench.crash(&app(n)));
    bench.advance(Duration::from_secs(20));
    assert_eq!(restarts(&bench).len(), 1, "the others wait for its outcome");
    let action = bench.orders()[0].1.id;
    bench.tell(Input::Outcome { action, result: Err("no such file or directory".to_owned()) });
    assert_eq!(restarts(&bench).len(), 2);
}

#[test]
fn not_more_than_a_third_of_the_fleet_is_restarted_within_an_hour_without_a_person() {
    let mut bench = Bench::settled(policy(6, true));
    (1..=6).for_each(|n| bench.is_bad(&app(n), ProbeFailure::AnswerTimeout));
    bench.advance(Duration::from_secs(600));
    let mut restarted: Vec<ServerId> = restarts(&bench).into_iter().map(|(_, id)| id).collect();
    restarted.sort();
    restarted.dedup();
    assert_eq!(restarted, [app(1), app(2)]);
    let held = bench.incidents()[0].timeline.iter().any(|e| {
        e.text == "app-3 is not restarted: 2 of 6 servers were restarted within the hour, which is a third of them"
    });
    assert!(held, "{:?}", bench.incidents()[0].timeline);
    assert!(bench.notices().iter().any(|n| n.advice.contains("2 of 6 were restarted within the hour")));
    bench.admin(&app(5), AdminState::Ready);
    bench.advance(Duration::from_secs(60));
    assert!(restarts(&bench).iter().any(|(_, id)| *id == app(5)), "a person wants it");
    assert!(!restarts(&bench).iter().any(|(_, id)| *id == app(6)), "and no other");
    bench.advance(Duration::from_secs(3600));
    assert!(restarts(&bench).iter().any(|(_, id)| *id == app(3)), "the hour is over");
}

#[test]
fn who_died_is_started_however_many_were_and_few_servers_know_no_third() {
    let mut bench = Bench::settled(policy(6, true));
    (1..=6).for_each(|n| bench.crash(&app(n)));
    assert_eq!(restarts(&bench).len(), 6);
    let mut few = Bench::settled(policy(3, true));
    (1..=3).for_each(|n| few.is_bad(&app(n), ProbeFailure::AnswerTimeout));
    few.advance(Duration::from_secs(120));
    assert!((1..=3).all(|n| restarts(&few).iter().any(|(_, id)| *id == app(n))));
}

#[test]
fn who_says_that_they_are_at_it_is_waited_for_and_who_falls_silent_is_not() {
    let mut bench = Bench::settled(policy(2, true));
    bench.supervisor = Supervisor::Silent;
    bench.crash(&app(1));
    let action = bench.orders()[0].1.id;
    for _ in 0..120 {
        bench.advance(Duration::from_secs(5));
        bench.tell(Input::Acting { action });
    }
    assert_eq!(restarts(&bench).len(), 1, "one order for ten minutes");
    bench.advance(Duration::from_secs(29));
    assert_eq!(restarts(&bench).len(), 1);
    bench.advance(Duration::from_secs(4));
    assert_eq!(restarts(&bench).len(), 2);
    bench.tell(Input::Acting { action });
    assert_eq!(restarts(&bench).len(), 2, "what was given up is no longer heard");
}
