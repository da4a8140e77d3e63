//! Probes and requests that contradict one another, on the bench.

use std::time::Duration;

use crate::incident::{EntryKind, IncidentState, Scope, Severity};
use crate::input::ProbeFailure;
use crate::policy::ProbeKind;
use crate::snapshot::{Health, ServerNote, ServiceState};
use crate::testing::{Bench, Look, app, policy, shop};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A shop whose servers are probed by a path.
fn probed(servers: u32) -> Bench {
    let mut policy = policy(servers, false);
    for service in policy.services.values_mut() {
        service.health.probe = ProbeKind::Http { path: "/healthz".to_owned(), host: None };
    }
    Bench::settled(policy)
}

/// So many seconds in which a server answers so many requests a quarter of a second well.
fn served(bench: &mut Bench, server: u32, time: Duration, ok: u64) {
    for _ in 0..time.as_millis() / 250 {
        bench.attempts(&app(server), ok, 0, 0);
        bench.advance(MS(250));
    }
}

#[test]
fn a_server_whose_probe_is_good_and_whose_requests_fail_is_gray_and_says_so() {
    let mut bench = probed(3);
    bench.attempts(&app(2), 30, 20, 0);
    bench.advance(MS(20));
    let server = bench.server(&app(2));
    assert_eq!((server.health, server.note), (Health::Degraded, Some(ServerNote::Gray)));
    assert_eq!(
        server.why.rule,
        "gray, its health check says fine (200 in 1.0 ms) and its users say otherwise: 40% of 50 attempts \
         in 10s failed or were answered 5xx (failure-share = 20%)"
    );
    assert_eq!(bench.targets(), ["app-1", "app-3"]);
    let incident = &bench.incidents()[0];
    assert_eq!(incident.title, "app-2 of shop is gray: its health check says fine, its users say otherwise");
    let told = incident.timeline.iter().find(|e| e.kind == EntryKind::Diagnosed).unwrap();
    assert!(told.text.contains("40% of 50 attempts"), "{}", told.text);
}

#[test]
fn a_server_that_is_dead_is_not_called_gray_though_its_last_probe_was_good() {
    let mut bench = probed(3);
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.attempts(&app(2), 0, 0, 5);
    assert_eq!(bench.targets(), ["app-1", "app-3"], "at once, by requests alone");
    bench.advance(seconds(3));
    assert_eq!(bench.server(&app(2)).note, None);
    assert_eq!(bench.server(&app(2)).health, Health::Unhealthy);
}

#[test]
fn a_server_that_was_started_anew_between_two_probes_is_not_called_gray() {
    let mut bench = probed(3);
    bench.attempts(&app(2), 0, 0, 5);
    assert_eq!(bench.targets(), ["app-1", "app-3"], "nothing listened, and its probes never saw that");
    bench.advance(seconds(3));
    assert_eq!(bench.server(&app(2)).note, None);
    assert!(!bench.incidents()[0].title.contains("gray"), "{}", bench.incidents()[0].title);
    bench.advance(seconds(10));
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
}

#[test]
fn requests_that_come_slowly_are_waited_for_too() {
    let mut bench = probed(3);
    for n in 0..24 {
        if n == 8 {
            bench.is_bad(&app(2), ProbeFailure::Status(503));
        }
        bench.attempts(&app(2), 1, 0, 0);
        bench.advance(MS(300));
    }
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
}

#[test]
fn a_gray_server_returns_only_when_it_has_answered_what_its_probe_did_not_ask() {
    let mut bench = probed(3);
    bench.visits.insert(app(2), Look::Bad(ProbeFailure::Status(500)));
    bench.attempts(&app(2), 30, 20, 0);
    bench.advance(MS(10_100));
    assert_eq!(bench.targets(), ["app-1", "app-3"], "it would have been back by its time alone");
    let server = bench.server(&app(2));
    assert!(server.why.rule.contains("it answered status 500 for GET /"), "{}", server.why.rule);
    assert!(
        server.why.would_change.ends_with("3 good answers in a row when Mainstay asks for /"),
        "{:?}",
        server.why
    );
    assert_eq!(bench.visits_to(&app(2)), 1, "one bad answer is enough to wait twice as long");
    bench.advance(seconds(60));
    assert_eq!(bench.targets(), ["app-1", "app-3"]);
    bench.visits.remove(&app(2));
    bench.advance(seconds(300));
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
    assert_eq!(bench.server(&app(2)).note, None);
}

#[test]
fn a_gray_server_that_nobody_may_ask_returns_when_its_time_is_over() {
    let mut bench = probed(3);
    bench.service_policy().health.ask = None;
    bench.tell(crate::Input::Policy(bench.policy.clone()));
    bench.visits.insert(app(2), Look::Bad(ProbeFailure::Status(500)));
    bench.attempts(&app(2), 30, 20, 0);
    bench.advance(MS(10_001));
    assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
    assert_eq!(bench.visits_to(&app(2)), 0);
}

#[test]
fn a_check_that_says_503_of_a_server_that_answers_everybody_is_wrong_and_takes_nothing_out() {
    let mut bench = probed(2);
    served(&mut bench, 2, seconds(5), 10);
    bench.is_bad(&app(2), ProbeFailure::Status(503));
    served(&mut bench, 2, seconds(20), 10);
    let server = bench.server(&app(2));
    assert_eq!((server.health, server.note), (Health::Degraded, Some(ServerNote::CheckWrong)));
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    assert!(
        server
            .why
            .rule
            .contains("its probe says 503, and 400 of 400 requests of the last 10s were answered well"),
        "{}",
        server.why.rule
    );
    let incidents = bench.incidents();
    assert_eq!(incidents.len(), 1);
    assert_eq!((&incidents[0].scope, incidents[0].severity), (&Scope::Check(shop()), Severity::Degraded));
    let title = "the check of shop/app-2 is wrong: its probe says 503, and 20 of 20 requests of the last 10s were answered well";
    assert_eq!(incidents[0].title, title);
    assert_eq!(bench.model.snapshot(bench.now).services[0].state, ServiceState::Healthy);
    bench.is_good(&app(2));
    bench.advance(seconds(15));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
}

#[test]
fn when_requests_begin_to_fail_too_the_probe_is_believed_at_once() {
    let mut bench = probed(2);
    served(&mut bench, 2, seconds(3), 10);
    bench.is_bad(&app(2), ProbeFailure::Status(503));
    served(&mut bench, 2, seconds(1), 10);
    assert_eq!(bench.targets(), ["app-1", "app-2"], "they are heard");
    bench.attempts(&app(2), 0, 10, 0);
    assert_eq!(bench.targets(), ["app-1"]);
    assert_eq!(bench.server(&app(2)).health, Health::Unhealthy);
}

#[test]
fn when_requests_cease_there_is_nobody_to_contradict_the_probe() {
    let mut bench = probed(2);
    served(&mut bench, 2, seconds(3), 10);
    bench.is_bad(&app(2), ProbeFailure::Status(503));
    served(&mut bench, 2, seconds(10), 10);
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    bench.advance(seconds(9));
    assert_eq!(bench.targets(), ["app-1", "app-2"], "what they said is not old yet");
    bench.advance(seconds(4));
    assert_eq!(bench.targets(), ["app-1"]);
    assert!(bench.server(&app(2)).why.rule.contains("probes in a row failed"));
}

#[test]
fn a_quiet_server_is_out_by_its_probes_as_soon_as_ever() {
    let mut bench = probed(2);
    bench.is_bad(&app(2), ProbeFailure::Status(503));
    bench.advance(MS(1200));
    assert_eq!(bench.targets(), ["app-1"]);
}

#[test]
fn a_refused_connection_is_not_contradicted_by_requests_on_older_ones() {
    let mut bench = probed(2);
    served(&mut bench, 2, seconds(5), 20);
    bench.is_bad(&app(2), ProbeFailure::Refused);
    served(&mut bench, 2, seconds(2), 20);
    assert_eq!(bench.targets(), ["app-1"]);
}

#[test]
fn a_probe_that_hangs_is_contradicted_only_by_answers_that_came_since() {
    let mut bench = probed(2);
    served(&mut bench, 2, seconds(5), 20);
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    // Nothing is answered any more: as soon as by probes alone.
    bench.advance(MS(2900));
    assert_eq!(bench.targets(), ["app-1"]);
    let mut bench = probed(2);
    served(&mut bench, 2, seconds(5), 20);
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    served(&mut bench, 2, seconds(10), 20);
    assert_eq!(bench.targets(), ["app-1", "app-2"], "only its check hangs");
    assert_eq!(bench.server(&app(2)).note, Some(ServerNote::CheckWrong));
}

#[test]
fn an_http_server_known_by_connections_alone_is_asked_before_it_is_trusted_again() {
    let mut bench = Bench::settled(policy(2, false));
    assert_eq!(bench.visits_to(&app(2)), 0);
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(seconds(3));
    // It accepts again, and hangs.
    bench.is_good(&app(2));
    bench.visits.insert(app(2), Look::Bad(ProbeFailure::AnswerTimeout));
    bench.advance(seconds(20));
    assert_eq!(bench.targets(), ["app-1"]);
    bench.visits.remove(&app(2));
    bench.advance(seconds(3));
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    let asked = bench.visits_to(&app(2));
    bench.advance(seconds(20));
    assert_eq!(bench.visits_to(&app(2)), asked, "it is trusted: a connection is enough");
}

#[test]
fn a_quiet_http_server_known_by_connections_alone_is_asked_now_and_then() {
    let mut bench = Bench::settled(policy(2, false));
    bench.advance(seconds(25));
    assert_eq!(bench.visits_to(&app(2)), 0);
    bench.advance(seconds(10));
    assert_ne!(bench.visits_to(&app(2)), 0);
    bench.visits.insert(app(2), Look::Bad(ProbeFailure::AnswerTimeout));
    bench.advance(seconds(20));
    assert_eq!(bench.targets(), ["app-1"], "it accepts connections, has answered before, and hangs");
    let quiet = bench.server(&app(1)).why.signals.into_iter().find(|s| s.name == "real requests").unwrap();
    assert_eq!((quiet.value.as_str(), quiet.bad), ("none for 30s or longer", false));
    // An error is an answer, and the config did not say what a good one is.
    bench.visits.insert(app(1), Look::Bad(ProbeFailure::Status(500)));
    bench.advance(seconds(12));
    let server = bench.server(&app(1));
    assert!(server.in_rotation && server.why.rule.contains("answered GET / with 500"), "{:?}", server.why);
}

#[test]
fn a_server_that_never_answered_such_a_question_in_time_is_warned_of_and_kept() {
    let mut bench = Bench::settled(policy(2, false));
    bench.visits.insert(app(2), Look::Bad(ProbeFailure::AnswerTimeout));
    bench.advance(seconds(60));
    assert_ne!(bench.visits_to(&app(2)), 0);
    let server = bench.server(&app(2));
    assert!(server.in_rotation && server.why.rule.contains("health.timeout"), "{:?}", server.why);
}
