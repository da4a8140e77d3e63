//! The judge in a seeded world of servers that crash, hang, slow down, refuse, err, flap and come back.
//!
//! Invariants hold after every input, and everything comes to a good end. A failure names its seed:
//! `MAINSTAY_SEED=42 cargo test -p mainstay-model --test simulation -- --nocapture` replays one with a trace, and
//! `MAINSTAY_SEEDS=10000` tries more than the usual number.

mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mainstay_model::input::Restored;
use mainstay_model::policy::ServicePolicy;
use mainstay_model::replay::{Beginning, DecisionKind, Trial};
use mainstay_model::{Input, Now};
use world::World;
use world::causes::Fault;
use world::databases::Databases;

/// Enough to find most mistakes, few enough for every test run.
const SEEDS: u64 = 200;
/// Each of them with every fault.
const CAUSE_SEEDS: u64 = 10;
/// Worlds of databases.
const DATABASE_SEEDS: u64 = 300;
/// Worlds in which nothing fails, beside those among the others.
const HEALTHY_SEEDS: u64 = 100;

#[test]
fn every_world_comes_to_a_good_end() {
    if let Some(seed) = variable("MAINSTAY_SEED") {
        World::new(seed, true).run();
        return;
    }
    let seeds = variable("MAINSTAY_SEEDS").unwrap_or(SEEDS);
    let first = variable("MAINSTAY_FIRST_SEED").unwrap_or(0);
    let inputs = live(first..first + seeds, |world| world.inputs);
    println!("{seeds} worlds, {inputs} inputs");
    assert!(inputs > seeds * 100, "hardly anything happened");
}

/// Lives through the worlds of these seeds; returns the sum of what is asked of each. One that fails keeps no other from
/// being tried.
fn live(seeds: impl Iterator<Item = u64>, ask: impl Fn(&World) -> u64) -> u64 {
    let mut sum = 0;
    let mut failed = Vec::new();
    for seed in seeds {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed, false);
            world.run();
            ask(&world)
        }));
        match lived {
            Ok(n) => sum += n,
            Err(_) => {
                eprintln!("replay with MAINSTAY_SEED={seed}");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "worlds that came to a bad end: {failed:?}");
    sum
}

/// One fault in a world that is well otherwise is called by its name: `cargo test -p mainstay-model --test simulation causes --
/// --nocapture` prints the table, and `MAINSTAY_CAUSE_SEEDS=100` makes it longer.
#[test]
fn causes_are_found_in_at_least_95_of_100_seeded_faults() {
    let share = world::causes::confusions(variable("MAINSTAY_CAUSE_SEEDS").unwrap_or(CAUSE_SEEDS));
    assert!(share >= 0.95, "{:.1} %", share * 100.0);
}

/// `MAINSTAY_DATABASE_SEEDS=10000` tries as many worlds of databases, and `MAINSTAY_FIRST_SEED` begins elsewhere.
#[test]
fn writes_of_databases_go_to_one_at_a_time_whatever_fails() {
    let seeds = variable("MAINSTAY_DATABASE_SEEDS").unwrap_or(DATABASE_SEEDS);
    let first = variable("MAINSTAY_FIRST_SEED").unwrap_or(0);
    let (mut writes, mut promotions, mut failed) = (0, 0, Vec::new());
    for seed in first..first + seeds {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let mut world = Databases::new(seed);
            world.run();
            (world.writes, world.promotions)
        }));
        match lived {
            Ok((written, promoted)) => (writes, promotions) = (writes + written, promotions + promoted),
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "worlds that came to a bad end: {failed:?}");
    println!("{seeds} worlds, {writes} writes, {promotions} promotions");
    assert!(promotions > seeds / 10, "hardly anybody was promoted");
}

#[test]
fn the_page_says_within_how_long_a_fault_is_noticed() {
    let page = include_str!("../../../docs/judgement.md");
    for fault in Fault::ALL.into_iter().filter(|fault| fault.wanted() != "nothing") {
        let row = page.lines().find(|line| line.starts_with(&format!("| {} |", fault.words())));
        let row = row.unwrap_or_else(|| panic!("the page has no row for {fault:?}"));
        let within = fault.noticed_within(&ServicePolicy::default()).as_secs_f64();
        assert!(row.ends_with(&format!("| {within:.1} s |")), "{row}, and it is {within:.1} s");
    }
}

/// `MAINSTAY_HEALTHY_SEEDS=10000` tries as many worlds in which nothing ever fails.
#[test]
fn nobody_is_told_of_anything_in_a_world_that_is_well() {
    let seeds = variable("MAINSTAY_HEALTHY_SEEDS").unwrap_or(HEALTHY_SEEDS);
    let first = variable("MAINSTAY_FIRST_SEED").unwrap_or(0);
    // It fails for an incident and for a message.
    let peaceful = live((first..first + seeds).map(|n| 12 * n + 5), |world| u64::from(world.kind.peaceful));
    assert_eq!(peaceful, seeds, "some of the worlds were not well");
    println!("{seeds} worlds that are well, and no message");
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    for seed in 0..4 {
        let hashes = [(); 2].map(|()| {
            let mut world = World::new(seed, false);
            world.effects_hash = Some(0xcbf2_9ce4_8422_2325);
            world.run();
            world.effects_hash
        });
        assert!(hashes[0].is_some());
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}

#[test]
fn what_was_decided_is_decided_again_from_what_was_heard() {
    let (mut replayed, mut all) = (0, 0);
    for seed in (0..400).filter(|seed| seed % 8 == 1) {
        let mut world = World::new(seed, false);
        world.run();
        let Some(heard) = world.heard.take() else { continue };
        let is_policy = |(_, input): &&(Now, Input)| matches!(input, Input::Policy(_));
        let Some((_, Input::Policy(last))) = heard.iter().rfind(is_policy) else { panic!("no policy") };
        let beginning = Beginning { at: heard[0].0, restored: Restored::default(), policy: None, seed };
        let mut trial = Trial::begin(beginning, last.clone());
        heard.iter().for_each(|(now, input)| trial.tell(*now, input.clone()));
        let mut told = BTreeMap::new();
        for decision in trial.end(world.clock()).iter().filter(|decision| decision.then.is_some()) {
            if let DecisionKind::Told(kind) = decision.what.kind {
                *told.entry(kind).or_default() += 1;
            }
        }
        assert_eq!(told, world.told, "seed {seed}");
        replayed += 1;
        all += told.values().sum::<u32>();
    }
    println!("{replayed} worlds, {all} messages");
    assert!(replayed > 20 && all > 100, "hardly anything happened: {replayed} worlds, {all} messages");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the judge reads no environment, but its test is told a seed by it"
)]
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}
