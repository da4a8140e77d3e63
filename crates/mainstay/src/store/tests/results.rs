//! Every look at a monitor: written down as it comes, packed when its hour is long over, and read in the same way before and after.

use mainstay_model::histogram::Histogram;
use mainstay_model::results::{Look, LookVerdict, rounded};

use super::*;

/// Time between two looks, milliseconds.
const EVERY: i64 = 10_000;

fn pay() -> MonitorId {
    MonitorId::new("pay")
}

/// The look at the `n`th turn: every hundredth fails, and one in the second hour could not be made.
fn look(n: i64) -> Look {
    let (verdict, words) = match n {
        400 => (LookVerdict::Unknown, "no file descriptors"),
        n if n % 100 == 99 => (LookVerdict::Failed, "connection refused"),
        _ => (LookVerdict::Good, "200"),
    };
    let late = n * 7 % 30;
    let took = rounded(Duration::from_micros(900 + (n * 37 % 500).unsigned_abs()));
    Look { at: Wall(EIGHT + n * EVERY + late / 10 * 10), took, verdict, words: words.into() }
}

/// The minute as the accumulator hands it over.
fn minute_of(monitor: &MonitorId, index: i64) -> MonitorBucket {
    let start = Wall(EIGHT + index * MINUTE);
    let looks: Vec<Look> = (index * 6..index * 6 + 6).map(look).collect();
    let mut latency = Histogram::new();
    looks.iter().filter(|l| l.verdict == LookVerdict::Good).for_each(|l| latency.record(l.took));
    let of = |verdict| looks.iter().filter(|l| l.verdict == verdict).count() as u64;
    let (good, failed) = (of(LookVerdict::Good), of(LookVerdict::Failed));
    let down_ms = if index == 3 { 20_000 } else { 0 };
    MonitorBucket {
        monitor: monitor.clone(),
        start,
        observed_ms: 60_000,
        good,
        failed,
        down_ms,
        excused_ms: if index == 9 { 60_000 } else { 0 },
        latency,
    }
}

fn minutes(store: &Store) -> Vec<MonitorBucket> {
    history_of_pay(store, Step::Minute)
}

fn history_of_pay(store: &Store, step: Step) -> Vec<MonitorBucket> {
    ask(store.reader().monitor_history(&pay(), step, Wall(EIGHT), Wall(EIGHT + 9 * HOUR)))
        .expect("it can be read")
}

fn looks(store: &Store, from: i64, to: i64, most: usize) -> Vec<Look> {
    ask(store.reader().monitor_results(&pay(), Wall(EIGHT + from), Wall(EIGHT + to), most))
        .expect("it can be read")
}

/// Two hours of two monitors.
fn two_hours(store: &Store) {
    for monitor in [pay(), MonitorId::new("mail")] {
        for part in (0..720).collect::<Vec<i64>>().chunks(60) {
            let looks = part.iter().map(|n| (monitor.clone(), look(*n))).collect();
            write(store, vec![Write::Looks(looks)]);
        }
        write(store, vec![Write::Monitors((0..120).map(|index| minute_of(&monitor, index)).collect())]);
    }
}

#[test]
fn looks_and_minutes_read_the_same_before_and_after_they_are_packed() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    two_hours(&store);
    let expected: Vec<Look> = (0..720).map(look).collect();
    assert_eq!(looks(&store, 0, 9 * HOUR, 10_000), expected);
    let before = minutes(&store);
    assert_eq!(before, (0..120).map(|index| minute_of(&pay(), index)).collect::<Vec<_>>());
    keep_house(&store, Wall(EIGHT + 2 * HOUR), || count(&store, "monitor_looks") == 2);
    assert_eq!(count(&store, "monitor_minute"), 120, "the second hour may still have something to come");
    keep_house(&store, Wall(EIGHT + 3 * HOUR), || count(&store, "monitor_looks") == 4);
    wait_for("the journal is gone", || (count(&store, "monitor_journal") == 0).then_some(()));
    assert_eq!(count(&store, "monitor_minute"), 0, "they are in what is packed");
    assert_eq!(minutes(&store), before);
    assert_eq!(looks(&store, 0, 9 * HOUR, 10_000), expected);
    assert_eq!(looks(&store, HOUR - EVERY, HOUR + EVERY, 2), expected[359..361]);
    let counted: Vec<_> =
        history_of_pay(&store, Step::Hour).iter().map(|h| (h.good, h.failed, h.down_ms)).collect();
    assert_eq!(counted, [(357, 3, 20_000), (355, 4, 0)]);
}

#[test]
fn a_minute_that_comes_after_its_hour_was_packed_is_added_to_it() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    two_hours(&store);
    keep_house(&store, Wall(EIGHT + 3 * HOUR), || {
        count(&store, "monitor_looks") == 4 && count(&store, "monitor_journal") == 0
    });
    let late = MonitorBucket {
        good: 5,
        failed: 0,
        observed_ms: 0,
        latency: Histogram::new(),
        ..minute_of(&pay(), 7)
    };
    write(&store, vec![Write::Monitors(vec![late])]);
    assert_eq!(minutes(&store)[7].good, 11);
    keep_house(&store, Wall(EIGHT + 4 * HOUR), || history_of_pay(&store, Step::Hour)[0].good == 362);
}

#[test]
fn looks_are_kept_as_long_as_the_config_says_and_take_little_room() {
    let data = tempfile::tempdir().expect("a folder");
    let retention = Retention { results: Duration::from_secs(7200), ..Retention::default() };
    let (store, ..) = Store::open(data.path(), retention).expect("it opens");
    two_hours(&store);
    keep_house(&store, Wall(EIGHT + 3 * HOUR), || {
        count(&store, "monitor_journal") == 0 && count(&store, "monitor_looks") == 2
    });
    assert_eq!(looks(&store, 0, 9 * HOUR, 10_000).first().map(|l| l.at >= Wall(EIGHT + HOUR)), Some(true));
    let connection = schema::open_reader(&data.path().join(FILE), Duration::from_secs(1)).expect("it opens");
    let bytes: i64 = connection
        .query_row("SELECT max(length(data)) FROM monitor_looks", [], |row| row.get(0))
        .expect("there are some");
    assert!(bytes < 2 * 360, "{bytes} bytes for 360 looks");
}

#[test]
fn what_was_not_packed_when_mainstay_was_killed_is_there_again() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Looks((0..30).map(|n| (pay(), look(n))).collect())]);
    store.close();
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Looks((30..60).map(|n| (pay(), look(n))).collect())]);
    assert_eq!(looks(&store, 0, HOUR, 1000), (0..60).map(look).collect::<Vec<_>>());
}
