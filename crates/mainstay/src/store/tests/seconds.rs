//! The machine second by second: what was written around an incident is read with it, and goes when incidents of its time do.

use mainstay_model::host::seconds::{Second, Seconds};

use super::*;

/// A second, with a figure by which it is known again.
fn second(n: i64) -> Second {
    Second { at: Wall(EIGHT + n * 1000), cpu: Some((n % 100) as f64 / 100.0), ..Second::default() }
}

fn around(store: &Store, opened_s: i64, resolved_s: i64) -> Vec<Second> {
    let (opened_at, resolved_at) = (Wall(EIGHT + opened_s * 1000), Some(Wall(EIGHT + resolved_s * 1000)));
    let incident = Incident { opened_at, resolved_at, ..incident(7) };
    let Seconds(seconds) = ask(store.reader().machine_around(&incident)).expect("it can be read");
    let evidence = ask(store.reader().evidence(&incident)).expect("it can be read");
    assert_eq!(evidence.machine.0, seconds);
    seconds
}

#[test]
fn an_incident_reads_its_own_seconds_after_a_restart_too() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    assert!(around(&store, 100, 200).is_empty());
    for part in (0..2000).collect::<Vec<i64>>().chunks(7) {
        write(&store, vec![Write::Seconds(part.iter().map(|n| second(*n)).collect())]);
    }
    let expected: Vec<Second> = (40..=260).map(second).collect();
    assert_eq!(around(&store, 100, 200), expected);
    let of_a_long_one: Vec<Second> = (40..=700).chain(1380..=1560).map(second).collect();
    assert_eq!(around(&store, 100, 1500), of_a_long_one);
    store.close();
    let (store, ..) = open(data.path());
    assert_eq!(around(&store, 100, 200), expected);
}

#[test]
fn a_damaged_row_is_left_out_and_the_others_are_read() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Seconds((100..105).map(second).collect())]);
    write(&store, vec![Write::Seconds((105..110).map(second).collect())]);
    let connection = rusqlite::Connection::open(data.path().join(FILE)).expect("it opens");
    connection
        .execute("UPDATE machine_seconds SET data = x'ff00' WHERE at = ?", [second(100).at.0])
        .expect("it is damaged");
    assert_eq!(around(&store, 100, 100), (105..110).map(second).collect::<Vec<_>>());
}

#[test]
fn seconds_go_with_the_incidents_of_their_time() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Seconds((0..5).map(second).collect())]);
    write(&store, vec![Write::Seconds((1000..1005).map(second).collect())]);
    let kept = i64::try_from(Retention::default().incidents.as_millis()).expect("it fits");
    write(&store, vec![Write::Alive(Wall(EIGHT + kept + 500_000))]);
    wait_for("the old ones to go", || around(&store, 0, 1).is_empty().then_some(()));
    assert_eq!(around(&store, 1000, 1001).len(), 5);
}
