//! Every look at a monitor or server: written down as it comes, packed when its hour is long over, and read in the same way before and after.

use mainstay_model::histogram::Histogram;
use mainstay_model::input::{ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::results::{Look, LookVerdict, rounded};
use mainstay_model::{Input, MonitorId, Mono, Now, ProbeTarget};

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
    looks_at(store, &pay().into(), (from, to), most)
}

fn looks_at(store: &Store, target: &ProbeTarget, (from, to): (i64, i64), most: usize) -> Vec<Look> {
    ask(store.reader().results(target, Wall(EIGHT + from), Wall(EIGHT + to), most)).expect("it can be read")
}

/// Two hours of two monitors.
fn two_hours(store: &Store) {
    for monitor in [pay(), MonitorId::new("mail")] {
        for part in (0..720).collect::<Vec<i64>>().chunks(60) {
            let looks = part.iter().map(|n| (monitor.clone().into(), look(*n))).collect();
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

/// The minute of a server in which it answered a request as well.
fn minute_of_server(index: i64) -> ServerBucket {
    let MonitorBucket { good, failed, latency, .. } = minute_of(&pay(), index);
    ServerBucket { probes_good: good, probes_failed: failed, probe_latency: latency, ..bucket(index, 1) }
}

#[test]
fn looks_at_a_server_are_packed_and_its_minutes_stay() {
    let data = tempfile::tempdir().expect("a folder");
    let retention = Retention { results: Duration::from_secs(7200), ..Retention::default() };
    let (store, ..) = Store::open(data.path(), retention).expect("it opens");
    let servers = [app(1), app(2)];
    // Nobody looked in the second half of the first hour.
    let turns: Vec<i64> = (0..180).chain(360..720).collect();
    for part in turns.chunks(60) {
        let both = part.iter().flat_map(|n| servers.iter().map(|id| (id.clone().into(), look(*n))));
        write(&store, vec![Write::Looks(both.collect())]);
    }
    write(&store, vec![minute((0..120).map(minute_of_server).collect())]);
    let of = |span, most| looks_at(&store, &app(1).into(), span, most);
    let expected: Vec<Look> = turns.iter().map(|n| look(*n)).collect();
    assert_eq!(of((0, 9 * HOUR), 10_000), expected);
    let last = || ask(store.reader().last_results(&app(1), Wall(EIGHT + 2 * HOUR), 400)).expect("it is read");
    let newest: Vec<Look> = expected.iter().rev().take(400).cloned().collect();
    assert_eq!(last(), newest, "also across the gap");
    keep_house(&store, Wall(EIGHT + 3 * HOUR - MINUTE), || count(&store, "server_looks") == 2);
    assert!(count(&store, "server_journal") > 0, "the second hour may still have something to come");
    assert_eq!(of((0, 9 * HOUR), 10_000), expected);
    assert_eq!(last(), newest);
    keep_house(&store, Wall(EIGHT + 3 * HOUR), || {
        count(&store, "server_journal") == 0 && count(&store, "server_looks") == 2
    });
    assert_eq!(of((0, 9 * HOUR), 10_000), expected[180..], "what is older than `record.results` is gone");
    assert_eq!(of((HOUR, 2 * HOUR), 5), expected[180..185]);
    let minutes =
        ask(store.reader().server_history(&app(1), Step::Minute, Wall(EIGHT), Wall(EIGHT + 9 * HOUR)));
    assert_eq!(minutes.expect("it is read"), (0..120).map(minute_of_server).collect::<Vec<_>>());
}

#[test]
fn what_is_seen_of_servers_goes_into_their_looks() {
    let mut accumulator = Accumulator::default();
    let at = |ms: i64| Now { mono: Mono(5_000_000_000), wall: Wall(EIGHT + ms) };
    let says = |result| Input::Probe(ProbeReport::new(app(1).into(), Duration::from_millis(2), result));
    accumulator.observe(at(0), &says(Ok(ProbeAnswer::status(204))));
    accumulator.observe(at(1000), &says(Err(ProbeFailure::Refused)));
    accumulator.observe(at(2000), &says(Err(ProbeFailure::NotProbed("no sockets".to_owned()))));
    let seen = accumulator.take_looks();
    let told: Vec<_> = seen.iter().map(|(of, look)| (of.to_string(), look.verdict, &*look.words)).collect();
    let server = || "shop/app-1".to_owned();
    assert_eq!(
        told,
        [
            (server(), LookVerdict::Good, "204"),
            (server(), LookVerdict::Failed, "connection refused"),
            (server(), LookVerdict::Unknown, "no sockets"),
        ]
    );
    assert!(accumulator.take_looks().is_empty(), "they are handed over once");
}

#[test]
fn what_was_not_packed_when_mainstay_was_killed_is_there_again() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Looks((0..30).map(|n| (pay().into(), look(n))).collect())]);
    store.close();
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Looks((30..60).map(|n| (pay().into(), look(n))).collect())]);
    assert_eq!(looks(&store, 0, HOUR, 1000), (0..60).map(look).collect::<Vec<_>>());
}
