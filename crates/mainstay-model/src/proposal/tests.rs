//! Proposals on the bench.

use std::time::Duration;

use super::{Proposal, Score};
use crate::effect::{ActionKind, NoticeKind};
use crate::incident::EntryKind;
use crate::input::{AdminState, Input, ProbeFailure, Restored};
use crate::policy::Policy;
use crate::rung::{Level, Levels};
use crate::testing::{Bench, app, policy};

const SECS: fn(u64) -> Duration = Duration::from_secs;

fn at(level: Level) -> Policy {
    let mut policy = policy(2, true);
    policy.services.values_mut().for_each(|s| s.recovery.levels = Levels::all(level));
    policy
}

fn proposals(bench: &Bench) -> Vec<Proposal> {
    bench.model.snapshot(bench.now).proposals.iter().map(|p| (**p).clone()).collect()
}

fn restarts(bench: &Bench) -> usize {
    bench.orders().iter().filter(|(_, order)| order.kind == ActionKind::Restart).count()
}

fn decide(bench: &mut Bench, proposal: u64, approved: bool) {
    bench.tell(Input::Decide { proposal, approved, by: "anna".to_owned() });
}

#[test]
fn at_level_observe_it_is_written_down_and_nobody_is_called() {
    let mut bench = Bench::settled(at(Level::Observe));
    bench.crash(&app(1));
    bench.advance(SECS(30));
    assert_eq!(restarts(&bench), 0);
    let proposal = proposals(&bench)[0].clone();
    assert_eq!((proposal.number, proposal.what.as_str()), (1, "restart app-1"));
    assert_eq!(proposal.why, "its process was killed by SIGKILL");
    assert_eq!(proposal.stands(), "was not done");
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
    assert!(bench.notices()[0].asked.is_empty());
}

#[test]
fn at_level_suggest_the_message_tells_of_it() {
    let mut bench = Bench::settled(at(Level::Suggest));
    bench.crash(&app(1));
    bench.advance(SECS(30));
    assert_eq!((restarts(&bench), bench.notice_kinds()), (0, vec![NoticeKind::Opened]));
    let told = &bench.notices()[0].timeline;
    let text = &told.iter().find(|entry| entry.kind == EntryKind::Proposed).unwrap().text;
    assert!(text.starts_with("Mainstay suggests to restart app-1"), "{text}");
}

#[test]
fn at_level_ask_a_person_is_called_once_and_what_they_approve_is_done() {
    let mut bench = Bench::settled(at(Level::Ask));
    bench.crash(&app(1));
    bench.advance(SECS(60));
    assert_eq!((restarts(&bench), proposals(&bench).len()), (0, 1));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
    let asked = &bench.notices()[1].asked;
    assert_eq!((asked[0].proposal, asked[0].what.as_str()), (1, "restart app-1"));
    decide(&mut bench, 1, true);
    assert_eq!(restarts(&bench), 1);
    decide(&mut bench, 1, true);
    bench.advance(SECS(60));
    assert_eq!((restarts(&bench), bench.targets()), (1, vec!["app-1".to_owned(), "app-2".to_owned()]));
    let proposal = proposals(&bench)[0].clone();
    assert_eq!(proposal.end.unwrap().score, Score::ByMainstay);
    assert_eq!(proposal.stands(), "done, approved by anna; Mainstay did it");
}

#[test]
fn what_is_declined_is_not_done_until_a_person_says_otherwise() {
    let mut bench = Bench::settled(at(Level::Ask));
    bench.crash(&app(1));
    bench.advance(SECS(2));
    decide(&mut bench, 1, false);
    decide(&mut bench, 1, true);
    bench.advance(SECS(600));
    assert_eq!(restarts(&bench), 0, "it was decided");
    assert_eq!(proposals(&bench)[0].stands(), "declined by anna");
    bench.admin(&app(1), AdminState::Ready);
    bench.advance(SECS(5));
    assert_eq!(restarts(&bench), 1);
}

#[test]
fn what_comes_back_by_itself_and_what_is_still_broken_after_a_day_are_told_apart() {
    let mut policy = at(Level::Observe);
    policy.services.values_mut().for_each(|s| {
        s.health.fall = 1;
        s.recovery.start_grace = SECS(1);
    });
    let mut bench = Bench::settled(policy);
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    bench.crash(&app(2));
    bench.advance(SECS(120));
    bench.is_good(&app(1));
    bench.advance(SECS(24 * 3600));
    let mut scores: Vec<_> =
        proposals(&bench).into_iter().map(|p| (p.server.unwrap(), p.end.map(|end| end.score))).collect();
    scores.sort();
    assert_eq!(scores[0], (app(1), Some(Score::ByItself)));
    assert!(scores.contains(&(app(2), Some(Score::StillBroken))), "{scores:?}");
}

#[test]
fn they_outlive_a_restart_of_mainstay() {
    let mut bench = Bench::settled(at(Level::Ask));
    bench.crash(&app(1));
    bench.advance(SECS(2));
    let known = proposals(&bench);
    let mut again = Bench::empty(at(Level::Ask));
    let gone = Proposal { number: 7, service: crate::ServiceId::new("gone"), ..known[0].clone() };
    let left = vec![known[0].clone(), gone];
    again.tell(Input::Restored(Restored { proposals: left, last_proposal: 7, ..Restored::default() }));
    again.tell(Input::Policy(again.policy.clone()));
    let numbers = |bench: &Bench| -> Vec<_> {
        proposals(bench).into_iter().map(|p| (p.number, p.end.map(|end| end.score))).collect()
    };
    assert_eq!(numbers(&again), [(7, Some(Score::StillBroken)), (1, None)]);
    again.advance(SECS(10));
    assert_eq!(numbers(&again)[1], (1, Some(Score::ByItself)), "it was started anew with Mainstay");
    again.crash(&app(2));
    again.advance(SECS(2));
    assert_eq!(numbers(&again)[0], (8, None));
}

#[test]
fn an_approval_counts_for_more_than_doubt_or_a_freeze_and_not_for_two_writers() {
    let mut bench = Bench::settled(at(Level::Ask));
    bench.crash(&app(1));
    bench.advance(SECS(2));
    let until = crate::Wall(bench.now.wall.0 + 3_600_000);
    let freeze = crate::freeze::Freeze { until, by: String::new(), why: String::new() };
    bench.tell(Input::Freeze(Some(freeze)));
    bench.advance(SECS(2));
    assert_eq!(restarts(&bench), 0);
    decide(&mut bench, 1, true);
    bench.advance(SECS(1));
    assert_eq!(restarts(&bench), 1, "a person wants it");
}
