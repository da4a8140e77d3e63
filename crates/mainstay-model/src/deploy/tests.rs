//! Deploys on the judge's bench: good, bad, slow and crashing releases, and ways back.

mod asked;
mod warm;

use super::*;
use crate::effect::{NoticeKind, Record};
use crate::input::{AdminState, Input, ProbeFailure, Restored};
use crate::policy::Policy;
use crate::snapshot::ServerNote;
use crate::testing::{Bench, Supervisor, app, policy, shop};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn deployable(servers: u32) -> Policy {
    let mut policy = policy(servers, true);
    let service = policy.services.values_mut().next().unwrap();
    service.deploy = Some(DeployPolicy {
        first: "/srv/1".to_owned(),
        min_requests: 50,
        min_time: seconds(5),
        warm: Duration::ZERO,
        ..DeployPolicy::default()
    });
    service.slow_start = seconds(2);
    service.servers.values_mut().for_each(|s| s.releasable = true);
    policy
}

fn beside() -> ServerId {
    shop().server(format!("app-1{BESIDE}"))
}

fn deploy(bench: &mut Bench, path: &str) {
    let order = ReleaseOrder::Deploy { path: path.to_owned(), force: false };
    bench.tell(Input::Release { service: shop(), order, by: "alice".to_owned() });
}

fn roll_back(bench: &mut Bench) {
    bench.tell(Input::Release { service: shop(), order: ReleaseOrder::RollBack, by: "alice".to_owned() });
}

fn release(bench: &Bench, number: u64) -> Release {
    let snapshot = bench.model.snapshot(bench.now);
    let releases = snapshot.services[0].releases.clone().unwrap();
    releases.releases.into_iter().find(|r| r.number == number).unwrap()
}

fn under_way(bench: &Bench) -> Option<DeploymentSnapshot> {
    bench.model.snapshot(bench.now).services[0].releases.clone().unwrap().deployment
}

/// The paths with which the servers run, by name.
fn runs(bench: &Bench) -> Vec<u64> {
    let snapshot = bench.model.snapshot(bench.now);
    snapshot.services[0].servers.iter().map(|s| s.release.unwrap()).collect()
}

fn good(_: u64) -> (f64, u64) {
    (0.0, 5)
}

#[test]
fn servers_are_started_with_the_release_that_the_config_begins_with() {
    let bench = Bench::fresh(deployable(2));
    let launches: Vec<_> = bench.orders().into_iter().map(|(_, o)| o.launch.release).collect();
    assert_eq!(launches, [Some("/srv/1".to_owned()), Some("/srv/1".to_owned())]);
    assert_eq!(release(&bench, 1).state, ReleaseState::Current);
}

#[test]
fn a_good_release_is_promoted_without_ever_having_less_capacity() {
    let mut bench = Bench::settled(deployable(3));
    deploy(&mut bench, "/srv/2");
    assert_eq!(release(&bench, 2).state, ReleaseState::Starting);
    let mut least = 3.0;
    for _ in 0..240 {
        bench.serve(Duration::from_millis(250), 40, good);
        let share: f64 = bench.routed().targets.iter().map(|t| t.share).sum();
        least = f64::min(least, share);
    }
    assert_eq!(
        (release(&bench, 2).state, release(&bench, 1).state),
        (ReleaseState::Current, ReleaseState::Former)
    );
    assert_eq!(runs(&bench), [2, 2, 2], "{:?}", under_way(&bench));
    assert!(least >= 3.0, "{least}");
    assert!(under_way(&bench).is_none() && bench.incidents().is_empty());
    let replaced: Vec<_> =
        bench.orders().into_iter().filter(|(_, o)| o.kind == ActionKind::Replace).collect();
    assert_eq!(replaced.len(), 3);
    assert!(replaced.iter().all(|(_, o)| o.launch.release.as_deref() == Some("/srv/2")));
    let last = bench.orders().pop().unwrap().1;
    assert_eq!((last.kind, last.server), (ActionKind::Stop, beside()));
}

#[test]
fn a_trial_gets_its_share_by_chance_and_only_when_its_probes_are_good() {
    let mut bench = Bench::settled(deployable(2));
    bench.is_bad(&beside(), ProbeFailure::Refused);
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(3), 10, good);
    assert_eq!(bench.routed().trial, None);
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    bench.is_good(&beside());
    bench.serve(seconds(1), 10, good);
    let trial = bench.routed().trial.clone().unwrap();
    assert_eq!((trial.target.id, trial.share), (beside(), 0.2));
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    assert_eq!(bench.server(&beside()).note, Some(crate::snapshot::ServerNote::OnTrial));
}

#[test]
fn a_release_that_fails_more_is_taken_back_with_the_figures_and_people_hear_of_it() {
    let mut bench = Bench::settled(deployable(3));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(20), 40, |release| (if release == 2 { 0.3 } else { 0.0 }, 5));
    let bad = release(&bench, 2);
    assert_eq!(bad.state, ReleaseState::RolledBack);
    assert!(bad.why.starts_with("new: ") && bad.why.contains(" failed, old: 0 of "), "{}", bad.why);
    assert_eq!(runs(&bench), [1, 1, 1]);
    assert_eq!(bench.routed().trial, None);
    let incident = bench.incidents()[0].clone();
    assert_eq!(incident.diagnosis.as_ref().unwrap().cause, Cause::BadUpdate);
    assert!(incident.title.contains("release 2 of shop was worse than release 1"), "{}", incident.title);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
    let orders: Vec<_> = bench.orders().into_iter().map(|(_, o)| o.kind).collect();
    assert_eq!(orders, [ActionKind::Start, ActionKind::Stop], "no server was touched");
    bench.serve(seconds(600), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::RolledBack, "it is not tried again by itself");
}

#[test]
fn a_bad_release_takes_only_itself_back_although_the_current_one_is_still_watched() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(60), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    deploy(&mut bench, "/srv/3");
    bench.serve(seconds(20), 40, |release| (if release == 3 { 0.3 } else { 0.0 }, 5));
    assert_eq!(release(&bench, 3).state, ReleaseState::RolledBack);
    assert_eq!(bench.incidents().len(), 1, "visitors were hurt");
    bench.serve(seconds(60), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    assert_eq!(runs(&bench), [2, 2]);
    // It is watched as before.
    bench.supervisor = Supervisor::Fails;
    (1..=2).for_each(|n| bench.crash(&app(n)));
    bench.advance(seconds(2));
    assert_eq!(release(&bench, 1).state, ReleaseState::Returning);
}

#[test]
fn a_slow_release_is_taken_back() {
    let mut bench = Bench::settled(deployable(3));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(20), 40, |release| (0.0, if release == 2 { 90 } else { 6 }));
    let slow = release(&bench, 2);
    assert_eq!(slow.state, ReleaseState::RolledBack);
    assert!(slow.why.contains("were slow"), "{}", slow.why);
}

#[test]
fn a_release_that_crashes_at_once_has_failed_and_was_never_routed_to() {
    let mut bench = Bench::settled(deployable(2));
    bench.is_bad(&beside(), ProbeFailure::Refused);
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(1), 10, good);
    bench.crash(&beside());
    let failed = release(&bench, 2);
    assert_eq!(failed.state, ReleaseState::Failed);
    assert!(failed.why.contains("was killed by SIGKILL") && failed.why.contains("bye"), "{}", failed.why);
    assert!(
        !bench
            .effects
            .iter()
            .any(|(_, e)| matches!(e, crate::Effect::Route(t) if t.services[0].trial.is_some()))
    );
    bench.serve(seconds(1), 10, good);
    assert!(under_way(&bench).is_none() && bench.incidents().is_empty());
}

#[test]
fn a_release_that_cannot_be_started_or_does_not_come_up_has_failed() {
    let mut bench = Bench::settled(deployable(2));
    bench.supervisor = Supervisor::Fails;
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(1), 10, good);
    assert!(release(&bench, 2).why.contains("no such file or directory"), "{:?}", release(&bench, 2));
    bench.supervisor = Supervisor::Works;
    bench.is_bad(&beside(), ProbeFailure::Status(500));
    deploy(&mut bench, "/srv/3");
    bench.serve(seconds(31), 10, good);
    let failed = release(&bench, 3);
    assert_eq!(failed.state, ReleaseState::Failed);
    assert_eq!(failed.why, "no good probe within 30s (start-grace): answered status 500");
}

#[test]
fn a_crash_during_the_trial_takes_the_release_back_at_once() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(2), 10, good);
    assert!(bench.routed().trial.is_some());
    bench.crash(&beside());
    assert_eq!(bench.routed().trial, None);
    assert_eq!(release(&bench, 2).state, ReleaseState::RolledBack);
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
}

#[test]
fn without_traffic_a_release_never_passes_and_is_undecided_in_the_end() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.advance(seconds(3000));
    assert_eq!(release(&bench, 2).state, ReleaseState::Trial);
    assert_eq!(under_way(&bench).unwrap().text, "it has not had a request yet");
    bench.advance(seconds(700));
    let undecided = release(&bench, 2);
    assert_eq!(undecided.state, ReleaseState::RolledBack);
    assert!(undecided.why.starts_with("undecided after 1h (deadline)"), "{}", undecided.why);
}

#[test]
fn what_both_releases_suffer_from_is_waited_for() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(2), 20, good);
    bench.serve(seconds(60), 40, |_| (0.15, 5));
    assert_eq!(release(&bench, 2).state, ReleaseState::Trial);
    assert!(under_way(&bench).unwrap().text.contains("both releases fail alike"), "{:?}", under_way(&bench));
    bench.serve(seconds(60), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
}

#[test]
fn a_person_promotes_or_rolls_back_by_hand() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(1), 4, good);
    bench.tell(Input::Release { service: shop(), order: ReleaseOrder::Promote, by: "bob".to_owned() });
    bench.serve(seconds(20), 10, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    roll_back(&mut bench);
    assert_eq!(release(&bench, 1).state, ReleaseState::Returning);
    bench.serve(seconds(30), 10, good);
    assert_eq!(
        (release(&bench, 1).state, release(&bench, 2).state),
        (ReleaseState::Current, ReleaseState::RolledBack)
    );
    assert_eq!(runs(&bench), [1, 1]);
    deploy(&mut bench, "/srv/3");
    bench.serve(seconds(1), 4, good);
    roll_back(&mut bench);
    assert_eq!(release(&bench, 3).why, "rolled back by alice");
    roll_back(&mut bench);
    bench.serve(seconds(2), 4, good);
    assert_eq!(release(&bench, 1).state, ReleaseState::Current, "there is nothing before it");
}

#[test]
fn one_deploy_at_a_time_and_none_into_an_open_incident() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    deploy(&mut bench, "/srv/3");
    assert_eq!(bench.model.snapshot(bench.now).services[0].releases.as_ref().unwrap().releases.len(), 2);
    roll_back(&mut bench);
    bench.serve(seconds(2), 4, good);
    bench.crash(&app(2));
    deploy(&mut bench, "/srv/3");
    assert!(under_way(&bench).is_none());
    let order = ReleaseOrder::Deploy { path: "/srv/3".to_owned(), force: true };
    bench.tell(Input::Release { service: shop(), order, by: "alice".to_owned() });
    assert_eq!(under_way(&bench).unwrap().release, 3);
}

/// Two or more servers that run release 2, which was promoted a moment ago.
fn watched(policy: Policy) -> Bench {
    let mut bench = Bench::settled(policy);
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(60), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    bench.effects.clear();
    bench
}

/// So that a probe's answer is one of the server's.
fn asked(servers: u32) -> Policy {
    let mut policy = deployable(servers);
    let probe = crate::policy::ProbeKind::Http { path: "/".to_owned(), host: None };
    policy.services.values_mut().for_each(|s| s.health.probe = probe.clone());
    policy
}

#[test]
fn a_server_that_dies_soon_after_a_deploy_is_restarted_first_and_gone_back_from_before_a_second_restart_once()
{
    let mut bench = watched(deployable(2));
    bench.crash(&app(1));
    bench.serve(seconds(20), 40, good);
    assert_eq!((release(&bench, 2).state, runs(&bench)), (ReleaseState::Current, vec![2, 2]));
    assert_eq!(bench.server(&app(1)).health, crate::snapshot::Health::Healthy, "a restart was enough");
    bench.effects.clear();
    bench.crash(&app(1));
    assert!(bench.orders().is_empty(), "not before it was thought of the release");
    bench.serve(seconds(3), 40, good);
    assert_ne!(release(&bench, 1).state, ReleaseState::Former);
    let first = bench.orders().into_iter().map(|(_, o)| o).find(|o| o.server == app(1)).unwrap();
    assert_eq!((first.kind, first.launch.release.as_deref()), (ActionKind::Restart, Some("/srv/1")));
    let incident = bench.incidents()[0].clone();
    assert_eq!(incident.diagnosis.as_ref().unwrap().cause, Cause::BadUpdate);
    bench.serve(seconds(30), 40, good);
    assert_eq!(runs(&bench), [1, 1]);
    assert_eq!(
        (release(&bench, 1).state, release(&bench, 2).state),
        (ReleaseState::Current, ReleaseState::RolledBack)
    );
    bench.crash(&app(1));
    bench.serve(seconds(30), 40, good);
    assert_eq!(runs(&bench), [1, 1], "once");
    assert_eq!(bench.model.snapshot(bench.now).services[0].state, crate::snapshot::ServiceState::Healthy);
}

#[test]
fn several_servers_that_fail_soon_after_a_deploy_are_gone_back_from_at_once() {
    let mut bench = watched(deployable(3));
    bench.supervisor = Supervisor::Fails;
    bench.crash(&app(1));
    bench.crash(&app(3));
    bench.advance(seconds(2));
    assert_eq!(release(&bench, 1).state, ReleaseState::Returning);
}

#[test]
fn visitors_who_are_answered_badly_soon_after_a_deploy_are_reason_enough() {
    let mut bench = watched(deployable(3));
    bench.serve(seconds(12), 40, |release| (if release == 2 { 0.5 } else { 0.0 }, 5));
    assert_ne!(release(&bench, 1).state, ReleaseState::Former);
}

#[test]
fn one_server_that_hangs_among_good_ones_of_its_release_is_restarted_first() {
    let mut bench = watched(asked(3));
    bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
    bench.advance(seconds(10));
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    assert!(bench.orders().iter().any(|(_, o)| o.kind == ActionKind::Restart && o.server == app(2)));
    bench.advance(seconds(30));
    assert_ne!(release(&bench, 1).state, ReleaseState::Former, "that did not help");
}

/// Why the release is kept, as the incident says.
fn kept(bench: &Bench) -> String {
    let incident = bench.incidents()[0].clone();
    let why = incident.timeline.iter().find_map(|e| e.text.strip_prefix("release 2 is not gone back from: "));
    why.unwrap_or_else(|| panic!("{:?}", incident.timeline)).to_owned()
}

#[test]
fn a_good_release_is_kept_when_the_cause_is_another_one() {
    for (failure, words) in [
        (ProbeFailure::Certificate("has expired".to_owned()), "it is put down to a certificate"),
        (ProbeFailure::ConnectTimeout, "it is put down to the network"),
    ] {
        let mut bench = watched(asked(3));
        (1..=3).for_each(|n| bench.is_bad(&app(n), failure.clone()));
        bench.advance(seconds(20));
        assert_eq!(release(&bench, 2).state, ReleaseState::Current, "{failure:?}");
        assert_eq!(kept(&bench), words);
    }
}

#[test]
fn a_good_release_is_kept_when_memory_had_run_out() {
    let mut policy = deployable(2);
    policy.host = Some(crate::host::HostPolicy::default());
    let mut bench = watched(policy);
    let report = |kills| {
        Input::Host(crate::host::HostReport { oom_kills: Some(kills), ..crate::host::HostReport::default() })
    };
    bench.tell(report(7));
    bench.supervisor = Supervisor::Fails;
    (1..=2).for_each(|n| bench.crash(&app(n)));
    bench.advance(seconds(1));
    bench.tell(report(9));
    bench.advance(seconds(20));
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    assert_eq!(kept(&bench), "it is put down to a fault of the hardware, or what it has run out of");
}

#[test]
fn a_good_release_is_kept_when_what_the_service_needs_fails() {
    let mut policy = asked(3);
    let database = crate::ServiceId::new("database");
    let mut needed = crate::policy::ServicePolicy::default();
    needed.servers.insert("db".into(), crate::policy::ServerPolicy::default());
    policy.services.insert(database.clone(), needed);
    policy.services.get_mut(&shop()).unwrap().needs = vec![crate::needs::Needed::Service(database.clone())];
    let mut bench = Bench::settled(policy);
    deploy_in(&mut bench);
    bench.is_bad(&database.server("db"), ProbeFailure::Refused);
    (1..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Status(503)));
    bench.advance(seconds(60));
    let snapshot = bench.model.snapshot(bench.now);
    let shop = snapshot.services.iter().find(|s| s.id == shop()).unwrap();
    let releases = &shop.releases.as_ref().unwrap().releases;
    assert_eq!(releases.iter().find(|r| r.number == 2).unwrap().state, ReleaseState::Current, "{releases:?}");
}

/// Deploys where the shop is not the only service.
fn deploy_in(bench: &mut Bench) {
    deploy(bench, "/srv/2");
    bench.advance(seconds(2));
    bench.tell(Input::Release { service: shop(), order: ReleaseOrder::Promote, by: "alice".to_owned() });
    bench.advance(seconds(120));
}

#[test]
fn an_incident_long_after_a_deploy_or_of_overload_is_not_put_down_to_it() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(60), 40, good);
    bench.advance(seconds(3600));
    bench.crash(&app(1));
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    assert!(under_way(&bench).is_none());
}

#[test]
fn a_release_that_dies_while_servers_are_replaced_is_taken_back_everywhere() {
    let mut bench = Bench::settled(deployable(3));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(10), 40, good);
    while runs(&bench).iter().filter(|r| **r == 2).count() < 2 {
        bench.serve(Duration::from_millis(250), 40, good);
    }
    bench.serve(seconds(1), 40, good);
    bench.crash(&beside());
    assert_eq!(release(&bench, 2).state, ReleaseState::RolledBack);
    bench.serve(seconds(40), 40, good);
    assert_eq!(runs(&bench), [1, 1, 1]);
    assert_eq!(release(&bench, 1).state, ReleaseState::Current);
    assert!(under_way(&bench).is_none());
}

#[test]
fn a_server_that_dies_while_it_drains_is_in_an_incident_before_it_is_started_with_the_release() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    while release(&bench, 2).state != ReleaseState::Promoting {
        bench.serve(Duration::from_millis(250), 40, good);
    }
    let snapshot = bench.model.snapshot(bench.now);
    let mut draining = snapshot.services[0].servers.iter();
    let draining = draining.find(|s| s.note == Some(ServerNote::BeingReplaced)).unwrap().id.clone();
    assert!(bench.incidents().is_empty());
    bench.effects.clear();
    bench.crash(&draining);
    let orders = bench.orders();
    let (_, order) = orders.iter().find(|(_, order)| order.server == draining).unwrap();
    assert_eq!((order.kind, order.launch.release.as_deref()), (ActionKind::Restart, Some("/srv/2")));
    assert_eq!(order.incident, Some(bench.incidents()[0].id));
}

/// What the record holds of the releases.
fn stored(bench: &Bench) -> Restored {
    let mut releases = BTreeMap::new();
    for record in bench.records() {
        match record {
            Record::Release { service, release } => drop(releases.insert(release.number, (service, release))),
            Record::ReleaseForgotten { number, .. } => drop(releases.remove(&number)),
            _ => {}
        }
    }
    Restored { releases: releases.into_values().collect(), ..Restored::default() }
}

fn restarted(from: &Bench) -> Bench {
    let mut bench = Bench::empty(from.policy.clone());
    bench.tell(Input::Restored(stored(from)));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench
}

#[test]
fn a_restart_in_the_middle_of_a_trial_ends_it_and_the_old_release_serves() {
    let mut bench = Bench::fresh(deployable(2));
    bench.advance(seconds(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(2), 10, good);
    let bench = restarted(&bench);
    assert_eq!(release(&bench, 2).state, ReleaseState::RolledBack);
    assert!(release(&bench, 2).why.contains("Mainstay was restarted"));
    let orders: Vec<_> = bench.orders().into_iter().map(|(_, o)| (o.server, o.launch.release)).collect();
    assert_eq!(orders, [(app(1), Some("/srv/1".to_owned())), (app(2), Some("/srv/1".to_owned()))]);
}

#[test]
fn a_restart_while_servers_are_replaced_starts_all_with_the_new_release() {
    let mut bench = Bench::fresh(deployable(2));
    bench.advance(seconds(2));
    deploy(&mut bench, "/srv/2");
    while release(&bench, 2).state != ReleaseState::Promoting {
        bench.serve(Duration::from_millis(250), 40, good);
    }
    let bench = restarted(&bench);
    assert_eq!(
        (release(&bench, 2).state, release(&bench, 1).state),
        (ReleaseState::Current, ReleaseState::Former)
    );
    assert!(bench.orders().iter().all(|(_, o)| o.launch.release.as_deref() == Some("/srv/2")));
}

#[test]
fn the_last_releases_are_remembered_and_the_one_before_always() {
    let mut policy = deployable(1);
    policy.services.values_mut().for_each(|s| s.deploy.as_mut().unwrap().keep = 2);
    let mut bench = Bench::settled(policy);
    for n in 2..8 {
        bench.is_bad(&beside(), ProbeFailure::Refused);
        deploy(&mut bench, &format!("/srv/{n}"));
        bench.serve(seconds(1), 10, good);
        roll_back(&mut bench);
        bench.serve(seconds(1), 10, good);
    }
    let releases = bench.model.snapshot(bench.now).services[0].releases.clone().unwrap().releases;
    let numbers: Vec<u64> = releases.iter().map(|r| r.number).collect();
    assert_eq!(numbers, [7, 6, 1]);
}

#[test]
fn a_config_without_deploy_ends_what_is_under_way() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(2), 10, good);
    let mut policy = bench.policy.clone();
    policy.services.values_mut().for_each(|s| {
        s.deploy = None;
        s.servers.values_mut().for_each(|s| s.releasable = false);
    });
    bench.tell(Input::Policy(policy));
    assert_eq!(bench.routed().trial, None);
    assert!(bench.model.snapshot(bench.now).server(&beside()).is_none());
}

#[test]
fn a_template_that_leaves_the_config_ends_its_trial() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(2), 10, good);
    let mut policy = bench.policy.clone();
    for service in policy.services.values_mut() {
        service.servers.remove(&app(1).name);
    }
    bench.tell(Input::Policy(policy));
    assert_eq!(release(&bench, 2).state, ReleaseState::RolledBack);
    assert!(under_way(&bench).is_none());
    deploy(&mut bench, "/srv/3");
    bench.serve(seconds(20), 40, good);
    assert_eq!(release(&bench, 3).state, ReleaseState::Current);
}

#[test]
fn a_server_in_maintenance_is_left_alone_and_gets_the_release_when_it_is_ready() {
    let mut bench = Bench::settled(deployable(2));
    bench.admin(&app(2), AdminState::Maintenance);
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(30), 40, good);
    assert_eq!((release(&bench, 2).state, runs(&bench)), (ReleaseState::Current, vec![2, 1]));
    bench.admin(&app(2), AdminState::Ready);
    bench.serve(seconds(20), 40, good);
    assert_eq!(runs(&bench), [2, 2]);
}

fn freeze(bench: &mut Bench, on: bool) {
    let until = Wall(bench.now.wall.0 + 1_800_000);
    let freeze = crate::freeze::Freeze { until, by: "bob".to_owned(), why: String::new() };
    bench.tell(Input::Freeze(on.then_some(freeze)));
}

#[test]
fn in_a_freeze_a_trial_goes_on_and_is_promoted_after_it_and_a_bad_one_is_taken_back_at_once() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    freeze(&mut bench, true);
    bench.serve(seconds(60), 40, good);
    let trial = under_way(&bench).unwrap();
    assert!(trial.text.starts_with("not promoted, frozen by bob until "), "{}", trial.text);
    deploy(&mut bench, "/srv/3");
    freeze(&mut bench, false);
    bench.serve(seconds(60), 40, good);
    assert_eq!(runs(&bench), [2, 2]);
    freeze(&mut bench, true);
    deploy(&mut bench, "/srv/3");
    assert_eq!(under_way(&bench), None, "nobody would promote it");
    let order = ReleaseOrder::Deploy { path: "/srv/3".to_owned(), force: true };
    bench.tell(Input::Release { service: shop(), order, by: "alice".to_owned() });
    bench.serve(seconds(20), 40, |release| (if release == 3 { 0.3 } else { 0.0 }, 5));
    assert_eq!(release(&bench, 3).state, ReleaseState::RolledBack);
}

#[test]
fn an_incident_in_a_freeze_goes_back_from_the_release_when_the_freeze_is_over() {
    let mut bench = Bench::settled(deployable(2));
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(60), 40, good);
    freeze(&mut bench, true);
    bench.crash(&app(1));
    bench.crash(&app(2));
    bench.serve(seconds(30), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    let held =
        |e: &&crate::incident::TimelineEntry| e.text.starts_with("release 2 is not gone back from: frozen");
    assert_eq!(bench.incidents()[0].timeline.iter().filter(held).count(), 1);
    freeze(&mut bench, false);
    assert_eq!(release(&bench, 1).state, ReleaseState::Returning);
}

#[test]
fn at_level_ask_a_release_is_gone_back_from_when_a_person_approves_also_late() {
    let mut policy = deployable(2);
    policy.services.values_mut().for_each(|s| {
        s.recovery.levels.roll_back = crate::rung::Level::Ask;
        s.recovery.budget = 0;
    });
    let mut bench = watched(policy);
    (1..=2).for_each(|n| bench.crash(&app(n)));
    bench.advance(seconds(60));
    let proposed = |bench: &Bench| bench.model.snapshot(bench.now).proposals[0].clone();
    assert_eq!(proposed(&bench).what, "go back from release 2 to release 1");
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    let told: Vec<_> = bench.notices().into_iter().filter(|n| !n.asked.is_empty()).collect();
    assert_eq!(told.last().unwrap().asked[0].proposal, proposed(&bench).number);
    bench.advance(seconds(2 * 3600));
    let (proposal, by) = (proposed(&bench).number, "anna".to_owned());
    bench.tell(Input::Decide { proposal, approved: true, by });
    bench.advance(seconds(120));
    assert_eq!(release(&bench, 1).state, ReleaseState::Current, "{:?}", proposed(&bench));
}
