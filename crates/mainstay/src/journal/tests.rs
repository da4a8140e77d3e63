//! The journal is read as it was written, is bounded, and does no harm.

use std::path::PathBuf;

use mainstay_model::Mono;
use mainstay_model::input::OwnPart;

use super::*;

fn at(second: u64) -> Now {
    Now { mono: Mono(second * 1_000_000_000), wall: Wall(i64::try_from(second).unwrap() * 1000) }
}

fn trouble(n: u64) -> Input {
    Input::Own { part: OwnPart::Record, trouble: Some(format!("{n} of it")) }
}

/// A record in which one thing is known.
fn left() -> Left {
    Box::new(|| Some(Restored { last_incident: 41, ..Restored::default() }))
}

fn contents(folder: &Path) -> Vec<(Wall, Option<Wall>, usize)> {
    let all = segments(folder).unwrap();
    let open = |segment: &Segment| {
        let contents = segment.open().unwrap();
        (segment.from, contents.after, contents.count())
    };
    all.iter().map(open).collect()
}

fn started(data: &Path, most: u64) -> (Journal, PathBuf) {
    (Journal::start(data, most, left()), data.join(FOLDER))
}

#[test]
fn what_was_told_is_read_again_in_its_order() {
    let data = tempfile::tempdir().unwrap();
    let (mut journal, folder) = started(data.path(), 1 << 20);
    let restored = Restored { last_incident: 7, ..Restored::default() };
    journal.begin(at(100), &restored, 1);
    let told: Vec<(Now, Input)> = (101..200).map(|second| (at(second), trouble(second))).collect();
    for (now, input) in &told {
        journal.input(*now, input);
    }
    journal.close();
    let all = segments(&folder).unwrap();
    assert_eq!(all.len(), 1);
    let contents = all[0].open().unwrap();
    assert_eq!((contents.beginning.at, &contents.beginning.restored), (at(100), &restored));
    assert_eq!(contents.after, None);
    assert_eq!(contents.collect::<Vec<_>>(), told);
}

#[test]
fn the_next_file_goes_on_from_what_is_in_the_record() {
    let data = tempfile::tempdir().unwrap();
    let (mut journal, folder) = started(data.path(), 1 << 20);
    journal.begin(at(100), &Restored::default(), 1);
    journal.input(at(100), &Input::Policy(Policy::default()));
    assert!(!journal.is_due(at(690), true));
    assert!(journal.is_due(at(700), true));
    assert!(!journal.is_due(at(700), false), "not in the middle of an incident");
    assert!(journal.is_due(at(3700), false), "but not for ever");
    journal.begin_next(at(700), Carried::default());
    journal.input(at(701), &trouble(1));
    journal.close();
    assert_eq!(contents(&folder), [(at(100).wall, None, 1), (at(700).wall, Some(at(100).wall), 1)]);
    let next = segments(&folder).unwrap()[1].open().unwrap();
    assert_eq!(next.beginning.restored.last_incident, 41);
    assert_eq!(next.beginning.policy, Some(Policy::default()));
}

#[test]
fn a_file_that_a_crash_cut_off_is_read_as_far_as_it_goes() {
    let data = tempfile::tempdir().unwrap();
    let (mut journal, folder) = started(data.path(), 1 << 20);
    journal.begin(at(100), &Restored::default(), 1);
    for second in 101..400 {
        journal.input(at(second), &trouble(second));
        if second % 10 == 0 {
            journal.tick();
        }
    }
    journal.close();
    let path = segments(&folder).unwrap()[0].path.clone();
    let whole = std::fs::read(&path).unwrap();
    let mut before = 0;
    for part in [whole.len() / 2, whole.len() - 9, whole.len()] {
        std::fs::write(&path, &whole[..part]).unwrap();
        let count = contents(&folder)[0].2;
        assert!(count > before || part == whole.len(), "{count} of {part} bytes");
        before = count;
    }
    assert!(before > 100, "{before}");
    std::fs::write(&path, b"nothing of the kind").unwrap();
    assert!(segments(&folder).unwrap()[0].open().is_err());
}

#[test]
fn the_oldest_go_first_and_those_of_incidents_last() {
    let data = tempfile::tempdir().unwrap();
    let (mut journal, folder) = started(data.path(), 8_000);
    journal.begin(at(1000), &Restored::default(), 1);
    journal.input(at(1000), &Input::Policy(Policy::default()));
    let mut noise = fastrand::Rng::with_seed(7);
    for file in 1..=10 {
        let from = 1000 + file * 600;
        journal.begin_next(at(from), Carried::default());
        for second in 1..4 {
            let text: String = std::iter::repeat_with(|| noise.alphanumeric()).take(500).collect();
            let input = Input::Own { part: OwnPart::Record, trouble: Some(text) };
            journal.input(at(from + second), &input);
        }
        if file == 3 {
            journal.keep();
        }
        journal.tick();
    }
    journal.close();
    let all = segments(&folder).unwrap();
    let kept: Vec<Wall> =
        all.iter().filter(|segment| segment.of_an_incident).map(|segment| segment.from).collect();
    assert_eq!(kept, [at(1000 + 2 * 600).wall, at(1000 + 3 * 600).wall], "also the one before");
    assert!(all.len() < 10 && all.iter().map(|segment| segment.bytes).sum::<u64>() <= 8_000, "{all:?}");
    assert_eq!(all.last().unwrap().from, at(1000 + 10 * 600).wall);
}

#[test]
fn nothing_is_written_when_nothing_may_be_kept() {
    let data = tempfile::tempdir().unwrap();
    let (mut journal, folder) = started(data.path(), 0);
    journal.begin(at(100), &Restored::default(), 1);
    journal.input(at(100), &Input::Policy(Policy::default()));
    assert!(!journal.is_due(at(9000), true));
    journal.apply(1 << 20);
    assert!(journal.is_due(at(9000), false), "it begins when it may");
    journal.begin_next(at(9000), Carried::default());
    journal.close();
    assert_eq!(contents(&folder), [(at(9000).wall, None, 0)]);
}

#[test]
fn a_folder_that_cannot_be_written_does_no_harm() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join(FOLDER), "in the way").unwrap();
    let (mut journal, _) = started(data.path(), 1 << 20);
    journal.begin(at(100), &Restored::default(), 1);
    journal.input(at(101), &trouble(1));
    journal.close();
}
