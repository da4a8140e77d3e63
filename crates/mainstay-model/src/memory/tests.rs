//! What helped before, on the bench.

use std::time::Duration;

use super::{Failing, Remedy, Spread};
use crate::cause::Cause;
use crate::effect::Record;
use crate::incident::EntryKind;
use crate::input::{Input, Restored};
use crate::rung::{Level, Levels, Rung};
use crate::testing::{Bench, app, policy};

const SECS: fn(u64) -> Duration = Duration::from_secs;

fn remedies(bench: &Bench) -> Vec<Remedy> {
    bench.model.snapshot(bench.now).remedies.to_vec()
}

fn recalled(bench: &Bench) -> Vec<String> {
    let incidents = bench.incidents();
    let entries = incidents[0].timeline.iter().filter(|e| e.kind == EntryKind::Recalled);
    entries.map(|e| e.text.clone()).collect()
}

/// One of two dies, comes back, and answers real requests.
fn dies_and_is_mended(bench: &mut Bench) {
    bench.crash(&app(1));
    for _ in 0..120 {
        bench.advance(Duration::from_millis(250));
        bench.attempts(&app(1), 5, 0, 0);
    }
}

#[test]
fn what_helped_with_the_like_is_told_when_it_is_done_again() {
    let mut bench = Bench::settled(policy(2, true));
    dies_and_is_mended(&mut bench);
    assert!(recalled(&bench).is_empty());
    let remedy = remedies(&bench)[0].clone();
    assert_eq!((remedy.rung, remedy.tried, remedy.helped), (Rung::Restart, 1, 1));
    let print = &remedy.fingerprint;
    assert_eq!(
        (print.failing, print.spread, print.cause, print.fresh_release),
        (Failing::Died, Spread::One, Cause::Crash, false)
    );
    dies_and_is_mended(&mut bench);
    let text = &recalled(&bench)[0];
    assert!(
        text.starts_with("when one of the servers died (crash) before, a restart helped 1 of 1 time, after "),
        "{text}"
    );
    assert_eq!(remedies(&bench)[0].helped, 2);
    (1..=2).for_each(|n| bench.crash(&app(n)));
    assert!(recalled(&bench).len() <= 1, "all at once is another failure: {:?}", recalled(&bench));
}

#[test]
fn it_outlives_a_restart_and_stands_in_what_is_proposed() {
    let mut bench = Bench::settled(policy(2, true));
    dies_and_is_mended(&mut bench);
    let of = |record: Record| match record {
        Record::Remedy(remedy) => Some(remedy),
        _ => None,
    };
    let remedies: Vec<Remedy> = bench.records().into_iter().filter_map(of).collect();
    let mut policy = policy(2, true);
    policy.services.values_mut().for_each(|s| s.recovery.levels = Levels::all(Level::Ask));
    let mut again = Bench::empty(policy);
    again.tell(Input::Restored(Restored { remedies, ..Restored::default() }));
    again.tell(Input::Policy(again.policy.clone()));
    again.advance(SECS(5));
    again.crash(&app(1));
    let why = again.model.snapshot(again.now).proposals[0].why.clone();
    assert!(why.starts_with("its process was killed by SIGKILL; when one of the servers died"), "{why}");
    assert!(why.contains("a restart helped 1 of 1 time"), "{why}");
}
