//! Windows across the changes of clocks.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn berlin() -> TimeZone {
    zone("Europe/Berlin").unwrap()
}

fn at(text: &str) -> Wall {
    Wall(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn timestamp(at: Wall) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap()
}

/// From and to in UTC, as `03-29 01:00 to 03-29 03:00`.
fn shown(times: &[Occurrence]) -> Vec<String> {
    let utc = |at: Wall| timestamp(at).strftime("%m-%d %H:%M").to_string();
    times.iter().map(|time| format!("{} to {}", utc(time.from), utc(time.to))).collect()
}

fn by_cron(text: &str, lasts: Duration) -> Planned {
    Planned::again(vec![Schedule::parse(text, "Europe/Berlin").unwrap()], lasts)
}

fn by_week(text: &str, lasts: Duration) -> Planned {
    by_cron(&weekly(text).unwrap(), lasts)
}

#[test]
fn a_week_keeps_its_local_time_through_both_changes() {
    // Clocks are put forward on 2027-03-28 and back on 2026-10-25.
    let sunday = by_week("sun 04:00", 2 * HOUR);
    let times = sunday.occurrences(at("2026-10-19T00:00:00Z"), 3);
    assert_eq!(
        shown(&times),
        ["10-25 03:00 to 10-25 05:00", "11-01 03:00 to 11-01 05:00", "11-08 03:00 to 11-08 05:00"]
    );
    let times = sunday.occurrences(at("2027-03-16T00:00:00Z"), 3);
    assert_eq!(
        shown(&times),
        ["03-21 03:00 to 03-21 05:00", "03-28 02:00 to 03-28 04:00", "04-04 02:00 to 04-04 04:00"]
    );
}

#[test]
fn a_time_that_is_skipped_comes_when_the_clock_goes_on_and_lasts_as_long() {
    // 02:30 is not there on 2027-03-28: it is 03:00 of summer time, 01:00 UTC.
    let times = by_week("sun 02:30", 2 * HOUR).occurrences(at("2027-03-27T00:00:00Z"), 2);
    assert_eq!(shown(&times), ["03-28 01:00 to 03-28 03:00", "04-04 00:30 to 04-04 02:30"]);
}

#[test]
fn a_time_that_is_there_twice_comes_once() {
    // 02:30 is there at 00:30 and at 01:30 UTC on 2026-10-25.
    let times = by_week("sun 02:30", HOUR).occurrences(at("2026-10-24T00:00:00Z"), 2);
    assert_eq!(shown(&times), ["10-25 00:30 to 10-25 01:30", "11-01 01:30 to 11-01 02:30"]);
}

#[test]
fn the_time_that_is_open_is_among_them_until_it_is_over() {
    let sunday = by_week("sun 23:00", 3 * HOUR);
    let open = Occurrence { from: at("2026-11-22T22:00:00Z"), to: at("2026-11-23T01:00:00Z") };
    assert_eq!(sunday.occurrences(at("2026-11-22T22:00:00Z"), 1)[0], open);
    let times = sunday.occurrences(at("2026-11-23T00:59:59Z"), 2);
    assert_eq!((times.len(), times[0]), (3, open), "the open one, and two more");
    assert!(sunday.occurrences(at("2026-11-23T01:00:00Z"), 1)[0].from > open.to);
}

#[test]
fn times_that_touch_are_one() {
    let all_weekend = by_week("sat,sun 00:00", 24 * HOUR).occurrences(at("2026-11-23T00:00:00Z"), 2);
    assert_eq!(shown(&all_weekend), ["11-27 23:00 to 11-29 23:00", "12-04 23:00 to 12-06 23:00"]);
    let always = by_cron("* * * * *", 2 * HOUR).occurrences(at("2026-11-23T00:00:00Z"), 3);
    assert_eq!(always.len(), 1);
    let two = ["sun 02:00", "mon 02:00"].map(|text| Schedule::parse(&weekly(text).unwrap(), "UTC").unwrap());
    let times = Planned::again(two.to_vec(), HOUR).occurrences(at("2026-11-23T00:00:00Z"), 2);
    assert_eq!(shown(&times), ["11-23 02:00 to 11-23 03:00", "11-29 02:00 to 11-29 03:00"]);
}

#[test]
fn a_beginning_and_an_end_hold_all_that_was_meant() {
    let local = |text, later| timestamp(moment(text, &berlin(), later).unwrap()).to_string();
    assert_eq!(local("2026-12-01 02:00", false), "2026-12-01T01:00:00Z");
    assert_eq!(local("2026-10-25 02:30", false), "2026-10-25T00:30:00Z");
    assert_eq!(local("2026-10-25 02:30", true), "2026-10-25T01:30:00Z");
    assert_eq!(local("2027-03-28T02:30", true), "2027-03-28T01:30:00Z");
    assert_eq!(local("2026-12-01T02:00:00-05:00", false), "2026-12-01T07:00:00Z");
    for wrong in ["2026-12-01", "02:00", "2026-02-30 02:00", "tomorrow 02:00", ""] {
        assert!(moment(wrong, &berlin(), false).is_err(), "{wrong}");
    }
}

#[test]
fn days_and_times_are_written_as_people_do() {
    assert_eq!(weekly("sun 02:00").as_deref(), Ok("0 2 * * 0"));
    assert_eq!(weekly("Mon-Fri 22:30").as_deref(), Ok("30 22 * * 1,2,3,4,5"));
    assert_eq!(weekly("fri-mon,wednesday 03:00").as_deref(), Ok("0 3 * * 5,6,0,1,3"));
    assert_eq!(weekly("04:05").as_deref(), Ok("5 4 * * *"));
    for wrong in ["sun", "sun 2", "sun 25:00", "son 02:00", "sun 02:00 04:00", "", "sun 0200"] {
        assert!(weekly(wrong).is_err(), "{wrong}");
    }
    assert!(zone("Europe/Berln").unwrap_err().1.contains("Europe/Berlin"));
}

proptest! {
    /// However clocks are put: a daily window comes once on each local day, at its time or as much later as was skipped.
    #[test]
    fn a_daily_window_comes_once_a_day(
        name in prop::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo",
            "Asia/Kathmandu", "UTC",
        ]),
        hour in 0i8..24, minute in 0i8..60, days in 0i64..2500,
    ) {
        let zone = zone(name).unwrap();
        let expression = weekly(&format!("{hour:02}:{minute:02}")).unwrap();
        let daily = Planned::again(vec![Schedule::parse(&expression, name).unwrap()], HOUR / 2);
        let times = daily.occurrences(Wall(1_700_000_000_000 + days * 86_400_000), 5);
        for two in times.windows(2) {
            let apart = two[1].from.ms_since(two[0].from) / 60_000;
            prop_assert!((23 * 60..=25 * 60).contains(&apart), "{apart} min");
        }
        for time in &times {
            prop_assert_eq!(time.to.ms_since(time.from), 1_800_000);
            let local = timestamp(time.from).to_zoned(zone.clone()).time();
            prop_assert!(local >= Time::constant(hour, minute, 0, 0), "{}", local);
        }
    }

    /// Whatever moment is asked about: the open time holds it, the others lie ahead, and asking a moment later agrees.
    #[test]
    fn times_are_in_their_order_and_agree_with_one_another(
        minute in 0u8..60, hour in 0u8..24, lasts in 1u64..3000, ms in 0i64..100_000_000_000,
    ) {
        let planned = by_cron(&format!("{minute} {hour} * * 1,4"), Duration::from_secs(60 * lasts));
        let now = Wall(1_750_000_000_000 + ms);
        let times = planned.occurrences(now, 3);
        prop_assert!(times.iter().all(|time| time.to > now));
        prop_assert!(times.windows(2).all(|two| two[0].to < two[1].from));
        let ahead: Vec<Occurrence> = times.iter().copied().filter(|time| time.from > now).collect();
        prop_assert_eq!(ahead.len(), 3);
        prop_assert!(times.len() <= 4);
        let later = planned.occurrences(ahead[0].from, 2);
        prop_assert_eq!(&later[..2], &ahead[..2]);
    }
}
