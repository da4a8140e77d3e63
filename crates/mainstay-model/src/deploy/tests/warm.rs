//! The release before, kept warm after a promotion: gone back to by a change of weights, counted as nobody's instance, and gone
//! when it cannot be had.

use super::*;
use crate::policy::ScalePolicy;

fn warmed(servers: u32) -> Policy {
    let mut policy = deployable(servers);
    let service = policy.services.values_mut().next().unwrap();
    service.deploy.as_mut().unwrap().warm = seconds(600);
    policy
}

fn old() -> ServerId {
    shop().server("app-1@old")
}

fn promoted(policy: Policy) -> Bench {
    let mut bench = from_the_beginning(policy);
    bench.effects.clear();
    bench
}

/// Release 2 serves, and release 1 is warm.
fn from_the_beginning(policy: Policy) -> Bench {
    let mut bench = Bench::settled(policy);
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(60), 40, good);
    assert_eq!((release(&bench, 2).state, under_way(&bench)), (ReleaseState::Current, None));
    assert!(is_warm(&bench), "{:?}", release(&bench, 1));
    bench
}

fn is_warm(bench: &Bench) -> bool {
    let snapshot = bench.model.snapshot(bench.now);
    let kept = snapshot.server(&old()).is_some_and(|server| {
        (server.release, server.note) == (Some(1), Some(ServerNote::Warm)) && server.share == 0.0
    });
    assert!(!bench.targets().contains(&old().name.to_string()), "it gets nothing");
    kept && release(bench, 1).warm_until.is_some()
}

/// Releases of the servers in rotation.
fn carried_by(bench: &Bench) -> Vec<u64> {
    bench.routed().targets.iter().map(|t| bench.server(&t.id).release.unwrap()).collect()
}

#[test]
fn the_release_before_carries_all_visitors_before_any_process_is_started() {
    let mut bench = promoted(warmed(2));
    roll_back(&mut bench);
    let place = |wanted: &dyn Fn(&crate::Effect) -> bool| bench.effects.iter().position(|(_, e)| wanted(e));
    let routed = place(&|e| match e {
        crate::Effect::Route(table) => table.services[0].targets.iter().all(|t| t.id == old()),
        _ => false,
    });
    let ordered = place(&|e| matches!(e, crate::Effect::Recover(_)));
    assert!(routed.is_some() && ordered.is_none_or(|at| at > routed.unwrap()), "{:?}", bench.effects);
    assert_eq!(carried_by(&bench), [1]);
    bench.serve(seconds(30), 40, good);
    assert_eq!((runs(&bench), carried_by(&bench)), (vec![1, 1], vec![1, 1]));
    let of = |n| release(&bench, n).state;
    assert_eq!((of(1), of(2)), (ReleaseState::Current, ReleaseState::RolledBack));
    let last = bench.orders().pop().unwrap().1;
    assert_eq!((last.kind, last.server), (ActionKind::Stop, old()));
    bench.serve(seconds(700), 40, good);
    assert!(under_way(&bench).is_none() && runs(&bench) == [1, 1], "what was gone back from is not kept");
}

#[test]
fn with_many_servers_half_of_them_stay_until_the_others_are_back() {
    let mut bench = promoted(warmed(6));
    roll_back(&mut bench);
    assert_eq!(carried_by(&bench), [1, 2, 2], "{:?}", bench.targets());
    let mut least = 6;
    let mut of_the_bad_one = 2;
    for _ in 0..200 {
        bench.serve(Duration::from_millis(250), 40, good);
        let by = carried_by(&bench);
        least = least.min(by.len());
        let bad = by.iter().filter(|n| **n == 2).count();
        assert!(bad <= of_the_bad_one, "more visitors get the release that is gone back from: {by:?}");
        of_the_bad_one = bad;
    }
    assert!(least >= 3, "{least}");
    assert_eq!(runs(&bench), [1; 6]);
}

#[test]
fn an_incident_in_its_time_gives_the_visitors_to_the_release_before() {
    let mut bench = promoted(warmed(2));
    bench.serve(seconds(30), 40, |release| (if release == 2 { 0.9 } else { 0.0 }, 5));
    assert_eq!(release(&bench, 2).state, ReleaseState::RolledBack);
    let first = bench.orders().remove(0).1;
    assert_eq!((first.kind, first.launch.release.as_deref()), (ActionKind::Replace, Some("/srv/1")));
}

#[test]
fn it_ends_with_its_time_and_going_back_then_begins_with_a_start() {
    let mut bench = promoted(warmed(2));
    bench.serve(seconds(700), 40, good);
    assert!(!is_warm(&bench) && bench.model.snapshot(bench.now).server(&old()).is_none());
    let (kind, of) = bench.orders().pop().map(|(_, o)| (o.kind, o.server)).unwrap();
    assert_eq!((kind, of), (ActionKind::Stop, old()));
    let told = release(&bench, 1).steps.pop().unwrap().text;
    assert_eq!(told, "not kept warm any more: its time is over");
    bench.effects.clear();
    roll_back(&mut bench);
    assert_eq!(bench.orders().remove(0).1.server, beside());
    bench.serve(seconds(60), 40, good);
    assert_eq!(runs(&bench), [1, 1]);
}

#[test]
fn one_that_dies_or_does_not_come_up_is_not_warm_and_nobody_is_called() {
    let mut bench = promoted(warmed(2));
    bench.crash(&old());
    bench.serve(seconds(30), 40, good);
    assert!(!is_warm(&bench) && bench.incidents().is_empty());
    let told = release(&bench, 1).steps.pop().unwrap().text;
    assert_eq!(told, "not kept warm any more: its process was killed by SIGKILL");
    assert_eq!(bench.orders().iter().filter(|(_, o)| o.kind != ActionKind::Stop).count(), 0);
    let mut bench = Bench::settled(warmed(2));
    bench.is_bad(&old(), ProbeFailure::Refused);
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(100), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    assert!(!is_warm(&bench) && bench.incidents().is_empty());
}

#[test]
fn one_that_fails_its_probes_is_not_gone_back_to() {
    let mut bench = promoted(warmed(2));
    bench.is_bad(&old(), ProbeFailure::Status(500));
    bench.serve(seconds(10), 40, good);
    assert!(bench.incidents().is_empty(), "nobody is served by it");
    bench.effects.clear();
    roll_back(&mut bench);
    assert_eq!(carried_by(&bench), [2, 2]);
    bench.serve(seconds(60), 40, good);
    assert_eq!(runs(&bench), [1, 1]);
}

#[test]
fn another_deploy_has_its_place_and_it_is_warm_again_when_that_one_is_taken_back() {
    let mut bench = promoted(warmed(2));
    deploy(&mut bench, "/srv/3");
    bench.serve(seconds(1), 40, good);
    assert!(bench.model.snapshot(bench.now).server(&old()).is_none(), "one instance more, not two");
    roll_back(&mut bench);
    bench.serve(seconds(20), 40, good);
    assert!(is_warm(&bench), "{:?}", release(&bench, 1));
}

#[test]
fn a_restarted_mainstay_keeps_it_warm_for_what_is_left() {
    let mut bench = restarted(&from_the_beginning(warmed(2)));
    bench.serve(seconds(10), 40, good);
    assert!(is_warm(&bench));
    assert_eq!(bench.orders().iter().filter(|(_, o)| o.server == old()).count(), 1, "it is started once");
    let mut promoting = Bench::fresh(warmed(2));
    promoting.advance(seconds(2));
    deploy(&mut promoting, "/srv/2");
    while release(&promoting, 2).state != ReleaseState::Promoting {
        promoting.serve(seconds(1), 40, good);
    }
    let mut promoting = restarted(&promoting);
    promoting.serve(seconds(10), 40, good);
    assert!(is_warm(&promoting), "{:?}", release(&promoting, 1));
    let mut late = from_the_beginning(warmed(2));
    late.serve(seconds(700), 40, good);
    let mut late = restarted(&late);
    late.serve(seconds(10), 40, good);
    assert!(!is_warm(&late) && late.orders().iter().all(|(_, o)| o.server != old()));
}

#[test]
fn one_that_goes_on_for_another_mainstay_takes_it_over_as_it_is() {
    let before = from_the_beginning(warmed(2));
    let mut bench = Bench::empty(before.policy.clone());
    bench.now = before.now;
    bench.tell(Input::Restored(Restored { carried: before.carry(), ..stored(&before) }));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.serve(seconds(10), 40, good);
    assert!(is_warm(&bench) && bench.orders().is_empty(), "{:?}", bench.orders());
}

#[test]
fn the_number_of_instances_does_not_count_it() {
    let mut policy = warmed(1);
    let service = policy.services.values_mut().next().unwrap();
    service.scale = Some(ScalePolicy {
        template: "app-1".into(),
        min: 1,
        max: 3,
        concurrency: 1000,
        in_after: seconds(60),
    });
    let bench = promoted(policy);
    let scale = bench.model.snapshot(bench.now).services[0].scale.clone().unwrap();
    assert_eq!(scale.instances, 1);
}

#[test]
fn a_config_without_it_ends_it() {
    let mut bench = promoted(warmed(2));
    let mut policy = bench.policy.clone();
    policy.services.values_mut().for_each(|s| s.deploy.as_mut().unwrap().warm = Duration::ZERO);
    bench.tell(Input::Policy(policy));
    assert!(bench.model.snapshot(bench.now).server(&old()).is_none());
}
