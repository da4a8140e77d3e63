//! Jobs on the judge's bench: who is missed when, and what a restart does not put down to them.

use std::sync::Arc;
use std::time::Duration;

use crate::effect::{Effect, NoticeKind, Record};
use crate::heartbeat::{
    HeartbeatPhase, HeartbeatPolicy, HeartbeatRecord, HeartbeatSnapshot, Ping, PingKind, Recurs,
};
use crate::id::MonitorId;
use crate::incident::{Incident, IncidentState};
use crate::input::{Input, Restored};
use crate::monitor::{MonitorPolicy, MonitorSnapshot, MonitorState};
use crate::testing::{Bench, policy};
use crate::time::Wall;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn backup() -> MonitorId {
    MonitorId::new("backup-job")
}

fn nth(n: usize) -> MonitorId {
    MonitorId::new(format!("job-{n:02}"))
}

fn job(recurs: Recurs) -> MonitorPolicy {
    let heartbeat = Some(HeartbeatPolicy { recurs, grace: 5 * MINUTE });
    MonitorPolicy { heartbeat, ..MonitorPolicy::default() }
}

fn with(jobs: impl IntoIterator<Item = (MonitorId, Recurs)>) -> crate::Policy {
    let mut all = policy(0, false);
    all.services.clear();
    all.monitors = jobs.into_iter().map(|(id, recurs)| (id, job(recurs))).collect();
    all
}

fn hourly() -> Bench {
    Bench::fresh(with([(backup(), Recurs::Every(HOUR))]))
}

fn says(bench: &mut Bench, id: &MonitorId, kind: PingKind, tail: Option<&str>) {
    let ping = Ping { monitor: id.clone(), kind, tail: tail.map(Into::into) };
    bench.tell(Input::Pings(vec![ping]));
}

fn pings(bench: &mut Bench, kind: PingKind) {
    says(bench, &backup(), kind, None);
}

fn shown(bench: &Bench) -> Arc<MonitorSnapshot> {
    Arc::clone(bench.model.snapshot(bench.now).monitor(&backup()).unwrap())
}

fn beat(bench: &Bench) -> HeartbeatSnapshot {
    shown(bench).heartbeat.clone().unwrap()
}

fn open(bench: &Bench) -> Vec<Incident> {
    let all = bench.model.snapshot(bench.now).incidents;
    all.iter().filter(|i| i.state != IncidentState::Resolved).map(|i| Incident::clone(i)).collect()
}

fn told(bench: &Bench, kind: NoticeKind) -> usize {
    let is = |effect: &Effect| matches!(effect, Effect::Notify(notice) if notice.kind == kind);
    bench.effects.iter().filter(|(_, effect)| is(effect)).count()
}

/// The last that was written down of the job.
fn record(bench: &Bench) -> HeartbeatRecord {
    let of = |(_, effect): &(_, Effect)| match effect {
        Effect::Record(Record::Heartbeat(record)) => Some(record.clone()),
        _ => None,
    };
    bench.effects.iter().rev().find_map(of).unwrap()
}

/// Another Mainstay that finds this record, so long after the first one ended.
fn restarted(bench: &Bench, away: Duration, incidents: Vec<Incident>) -> Bench {
    let mut next = Bench::empty(bench.policy.clone());
    next.now = bench.now + away;
    next.model = crate::Model::new(8, next.now);
    let last_incident = incidents.iter().map(|incident| incident.id.0).max().unwrap_or(0);
    next.tell(Input::Restored(Restored {
        heartbeats: vec![record(bench)],
        last_alive: Some(bench.now.wall),
        last_incident,
        incidents,
        ..Restored::default()
    }));
    next.tell(Input::Policy(next.policy.clone()));
    next
}

#[test]
fn a_job_that_never_pinged_is_waited_for_and_not_down() {
    let mut bench = hourly();
    bench.advance(100 * HOUR);
    assert_eq!((shown(&bench).state, beat(&bench).phase), (MonitorState::Unknown, HeartbeatPhase::Waiting));
    assert_eq!(shown(&bench).because, "waiting for first ping");
    assert!(open(&bench).is_empty());
}

#[test]
fn a_ping_that_does_not_come_is_missed_after_its_grace_and_a_late_one_brings_the_job_back() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    assert_eq!(beat(&bench).phase, HeartbeatPhase::OnTime);
    bench.advance(HOUR + MINUTE);
    assert_eq!((shown(&bench).state, beat(&bench).phase), (MonitorState::Up, HeartbeatPhase::Late));
    bench.advance(4 * MINUTE - SECOND);
    assert!(open(&bench).is_empty());
    bench.advance(5 * SECOND);
    let incidents = open(&bench);
    let title = &incidents[0].title;
    assert!(
        title.starts_with("no ping from backup-job since 20") && title.contains(", expected by 20"),
        "{title}"
    );
    assert_eq!((incidents.len(), told(&bench, NoticeKind::Opened)), (1, 1));
    bench.advance(3 * HOUR);
    assert_eq!(open(&bench).len(), 1, "it is missed once");
    pings(&mut bench, PingKind::Success);
    assert_eq!((shown(&bench).state, beat(&bench).phase), (MonitorState::Up, HeartbeatPhase::OnTime));
    bench.advance(MINUTE);
    assert!(open(&bench).is_empty());
    assert_eq!((told(&bench, NoticeKind::Opened), told(&bench, NoticeKind::Resolved)), (1, 1));
}

#[test]
fn from_start_to_success_a_run_is_measured_and_one_without_an_end_is_missed() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Start);
    assert_eq!(beat(&bench).phase, HeartbeatPhase::Running);
    bench.advance(12 * SECOND);
    pings(&mut bench, PingKind::Exit(0));
    assert_eq!(beat(&bench).durations_ms, [12_000]);
    assert_eq!(shown(&bench).last.as_ref().unwrap().text, "done after 12s");
    bench.advance(HOUR);
    pings(&mut bench, PingKind::Start);
    bench.advance(5 * MINUTE - SECOND);
    assert!(open(&bench).is_empty());
    bench.advance(2 * SECOND);
    let incidents = open(&bench);
    assert!(
        incidents[0].title.contains("has not said that it is done (grace = 5m)"),
        "{}",
        incidents[0].title
    );
    assert_eq!(incidents[0].diagnosis.as_ref().unwrap().cause, crate::cause::Cause::Crash);
}

#[test]
fn a_failure_is_told_at_once_with_its_exit_code_and_the_end_of_its_log() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    bench.advance(MINUTE);
    let log = format!("{}the disk is full\n", "copying\n".repeat(1000));
    says(&mut bench, &backup(), PingKind::Exit(3), Some(&log));
    let incident = &open(&bench)[0];
    assert_eq!(incident.title, "backup-job failed: exit code 3");
    let end = incident.timeline.iter().find(|entry| entry.text.contains("the disk is full")).unwrap();
    assert!(end.text.starts_with("the end of the log of backup-job:\ncopying\n") && end.text.len() < 2100);
    assert_eq!(beat(&bench).tail.as_deref(), Some(log.as_str()), "all of what was sent is kept");
    pings(&mut bench, PingKind::Fail);
    bench.advance(MINUTE);
    assert_eq!(open(&bench).len(), 1);
    assert_eq!(told(&bench, NoticeKind::Opened), 1);
}

#[test]
fn a_job_that_goes_by_a_calendar_is_expected_when_the_calendar_says() {
    let cron = Recurs::Calendar { cron: "30 3 * * *".into(), zone: "Europe/Berlin".into() };
    let mut bench = Bench::fresh(with([(backup(), cron)]));
    pings(&mut bench, PingKind::Success);
    let asked = bench.effects.iter().rev().find_map(|(_, effect)| match effect {
        Effect::AskCalendar { monitor, after } => Some((monitor.clone(), *after)),
        _ => None,
    });
    assert_eq!(asked, Some((backup(), bench.now.wall)));
    let at = Wall(bench.now.wall.0 + 7_200_000);
    bench.tell(Input::Occurs { monitor: backup(), at: Some(at) });
    assert_eq!(beat(&bench).expected, Some(at));
    bench.advance(2 * HOUR + 4 * MINUTE);
    assert_eq!(beat(&bench).phase, HeartbeatPhase::Late);
    bench.advance(2 * MINUTE);
    assert_eq!(open(&bench).len(), 1);
}

#[test]
fn a_clock_that_is_set_back_puts_off_only_what_goes_by_a_calendar() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    bench.now.wall = Wall(bench.now.wall.0 - 6 * 3_600_000);
    bench.advance(HOUR + 4 * MINUTE);
    assert!(open(&bench).is_empty());
    bench.advance(2 * MINUTE);
    assert_eq!(open(&bench).len(), 1, "an hour is an hour, whatever the clock says");
}

#[test]
fn what_was_due_while_mainstay_did_not_run_is_unknown_for_one_more_period_and_never_down() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    bench.advance(30 * MINUTE);
    let mut next = restarted(&bench, 2 * HOUR, Vec::new());
    assert_eq!((shown(&next).state, beat(&next).phase), (MonitorState::Unknown, HeartbeatPhase::Unknown));
    assert!(
        shown(&next).because.contains("Mainstay did not run when it was due"),
        "{}",
        shown(&next).because
    );
    next.advance(HOUR + 4 * MINUTE);
    assert!(open(&next).is_empty());
    next.advance(2 * MINUTE);
    assert_eq!(open(&next).len(), 1, "by then it had another period, and its grace");
}

#[test]
fn a_short_restart_long_before_the_next_ping_changes_nothing() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    bench.advance(10 * MINUTE);
    let mut next = restarted(&bench, SECOND, Vec::new());
    assert_eq!((shown(&next).state, beat(&next).phase), (MonitorState::Up, HeartbeatPhase::OnTime));
    assert_eq!(beat(&next).pings, 1);
    next.advance(50 * MINUTE + 6 * MINUTE);
    assert_eq!(open(&next).len(), 1);
}

#[test]
fn a_job_that_was_missed_before_a_restart_is_still_missed_and_told_once() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    bench.advance(2 * HOUR);
    let incidents = open(&bench);
    assert_eq!(incidents.len(), 1);
    let mut next = restarted(&bench, MINUTE, incidents);
    next.advance(2 * HOUR);
    assert_eq!((shown(&next).state, open(&next).len()), (MonitorState::Down, 1));
    assert_eq!(told(&next, NoticeKind::Opened), 0);
    pings(&mut next, PingKind::Success);
    next.advance(MINUTE);
    assert!(open(&next).is_empty());
}

#[test]
fn a_mainstay_that_overslept_hears_the_pings_that_wait_before_it_misses_any() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    // The machine stood still for two hours; what pinged meanwhile waits in the kernel.
    bench.now = bench.now + 2 * HOUR;
    bench.model.handle_timeout(bench.now);
    bench.advance(5 * SECOND);
    assert!(open(&bench).is_empty());
    pings(&mut bench, PingKind::Success);
    bench.advance(HOUR);
    assert!(open(&bench).is_empty());
}

#[test]
fn jobs_that_are_missed_together_are_one_incident() {
    let mut bench = Bench::fresh(with((0..30).map(|n| (nth(n), Recurs::Every(HOUR)))));
    for n in 0..30 {
        says(&mut bench, &nth(n), PingKind::Success, None);
        bench.advance(Duration::from_millis(10));
    }
    bench.advance(HOUR + 6 * MINUTE);
    let incidents = open(&bench);
    assert_eq!((incidents.len(), told(&bench, NoticeKind::Opened)), (1, 1), "{incidents:?}");
    assert!(incidents[0].title.starts_with("30 of 30 monitors fail at once"), "{}", incidents[0].title);
    for n in 0..30 {
        says(&mut bench, &nth(n), PingKind::Success, None);
    }
    bench.advance(MINUTE);
    assert!(open(&bench).is_empty());
}

#[test]
fn a_config_that_waits_longer_is_heeded_and_one_that_waits_less_misses_nobody_at_once() {
    let mut bench = hourly();
    pings(&mut bench, PingKind::Success);
    bench.advance(30 * MINUTE);
    bench.tell(Input::Policy(with([(backup(), Recurs::Every(3 * HOUR))])));
    bench.advance(2 * HOUR);
    assert!(open(&bench).is_empty());
    bench.tell(Input::Policy(with([(backup(), Recurs::Every(HOUR))])));
    bench.advance(30 * MINUTE);
    assert!(open(&bench).is_empty(), "it has a whole period from the new config on");
    bench.advance(HOUR);
    assert_eq!(open(&bench).len(), 1);
    assert_eq!(beat(&bench).pings, 1);
}
