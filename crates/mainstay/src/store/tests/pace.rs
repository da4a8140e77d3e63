//! How long servers usually take: what was learned is there after a restart, for as long as it is of use.

use mainstay_model::pace::{PaceHour, PaceNews, Slowed};

use super::*;

#[test]
fn what_was_learned_of_a_servers_pace_outlives_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    let hour = |n: i64, minutes| PaceHour {
        at: Wall(EIGHT + n * HOUR),
        minutes,
        mean_us: 110_000,
        p90_us: 240_000,
        per_minute: 90,
    };
    let slowed = Slowed { since: Wall(EIGHT), mean_us: 480_000, usual_us: 110_000 };
    let news = |n, news| Write::Record(Record::Pace { server: app(n), news });
    write(
        &store,
        vec![
            news(1, PaceNews::Hour(hour(-20 * 24, 60))),
            news(1, PaceNews::Hour(hour(0, 15))),
            news(1, PaceNews::Hour(hour(0, 30))),
            news(1, PaceNews::Hour(hour(1, 15))),
            news(2, PaceNews::Hour(hour(1, 15))),
            news(1, PaceNews::Slow(slowed)),
            news(2, PaceNews::Slow(slowed)),
            news(2, PaceNews::Well),
        ],
    );
    store.close();
    let (store, restored, _) = open(data.path());
    let hours = vec![hour(0, 30), hour(1, 15)];
    assert_eq!(restored.paces, BTreeMap::from([(app(1), hours), (app(2), vec![hour(1, 15)])]));
    assert_eq!(restored.slowed, BTreeMap::from([(app(1), slowed)]));
    write(&store, vec![news(1, PaceNews::Forgotten)]);
    store.close();
    let (_store, restored, _) = open(data.path());
    assert_eq!(restored.paces, BTreeMap::from([(app(2), vec![hour(1, 15)])]));
}
