//! The days of a service, cut from its hours in whatever time zone they are read.

use mainstay_model::histogram::Histogram;

use super::*;

/// A minute in which all of it was watched.
fn minute_at(start: i64, requests: u64) -> ServiceBucket {
    ServiceBucket {
        service: shop(),
        start: Wall(start),
        observed_ms: 60_000,
        requests,
        failed: 2,
        server_errors: 1,
        saved: 1,
        slow: 1,
        shed: 3,
        limited: 4,
        down_ms: 1_000,
        excused_ms: 500,
        excused_requests: 4,
        excused_bad: 2,
        latency: Histogram::new(),
    }
}

fn put(store: &Store, services: Vec<ServiceBucket>) {
    write(store, vec![Write::Minute { servers: Vec::new(), services }]);
}

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("a moment").as_millisecond()
}

/// Midnights of a zone from the day that begins on `from`, as many as make `count` days.
fn midnights(zone: &str, from: &str, count: i64) -> Vec<Wall> {
    let zone = jiff::tz::TimeZone::get(zone).expect("a zone");
    let first: jiff::civil::Date = from.parse().expect("a date");
    let midnight = |day: i64| {
        let date = first.checked_add(jiff::Span::new().days(day)).expect("a date");
        let midnight = date.to_zoned(zone.clone()).expect("a midnight");
        Wall(midnight.timestamp().as_millisecond())
    };
    (0..=count).map(midnight).collect()
}

fn days(store: &Store, midnights: &[Wall]) -> Vec<ServiceDay> {
    ask(store.reader().service_days(&shop(), midnights)).expect("it is read")
}

#[test]
fn a_day_is_the_sum_of_its_hours_and_of_the_minutes_that_are_not_rolled_up() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    // The last minute of yesterday, the first of today, and one of an hour that is not over.
    let midnight = EIGHT - 8 * HOUR;
    put(&store, [midnight - MINUTE, midnight, EIGHT].map(|start| minute_at(start, 10)).to_vec());
    keep_house(&store, Wall(EIGHT + MINUTE), || count(&store, "service_hour") == 2);
    let day = |start: i64, times: u64| ServiceDay {
        start: Wall(start),
        observed_ms: times * 60_000,
        requests: times * 10,
        failed: times * 2,
        server_errors: times,
        shed: times * 3,
        down_ms: times * 1_000,
        excused_ms: times * 500,
        excused_requests: times * 4,
        excused_bad: times * 2,
    };
    let two = midnights("UTC", "2026-11-21", 2);
    assert_eq!(days(&store, &two), [day(midnight - 24 * HOUR, 1), day(midnight, 2)]);
    assert_eq!(days(&store, &two[1..]), [day(midnight, 2)]);
    assert_eq!(days(&store, &two[..2]), [day(midnight - 24 * HOUR, 1)], "what comes later is of no day");
    assert_eq!((days(&store, &two[..1]), days(&store, &[])), (Vec::new(), Vec::new()));
    let nobody = ask(store.reader().service_days(&ServiceId::new("nobody"), &two));
    assert_eq!(nobody.expect("it is read"), []);
}

#[test]
fn where_clocks_are_put_a_day_has_23_or_25_hours() {
    for (first, date, hours) in [
        ("2026-10-24T00:00:00Z", "2026-10-24", [22, 25, 13]),
        ("2026-03-28T00:00:00Z", "2026-03-28", [23, 23, 14]),
    ] {
        let data = tempfile::tempdir().expect("a folder");
        let (store, ..) = open(data.path());
        // A minute with one request in each of sixty hours, the last of which is not rolled up.
        put(&store, (0..60).map(|hour| minute_at(at(first) + hour * HOUR, 1)).collect());
        keep_house(&store, Wall(at(first) + 59 * HOUR + MINUTE), || count(&store, "service_hour") == 59);
        let found = days(&store, &midnights("Europe/Berlin", date, 3));
        assert_eq!(found.iter().map(|day| day.requests).collect::<Vec<_>>(), hours, "{date}");
        assert_eq!(found[1].observed_ms, hours[1] * 60_000);
    }
}

#[test]
fn an_hour_that_midnight_cuts_is_read_by_the_minute_and_later_divided_by_time() {
    let data = tempfile::tempdir().expect("a folder");
    let retention = Retention { minutes: Duration::from_secs(24 * 3600), ..Retention::default() };
    let (store, ..) = Store::open(data.path(), retention).expect("it opens");
    // In Kolkata it is midnight at 18:30 UTC.
    let half_past = at("2026-11-22T18:30:00Z");
    put(&store, vec![minute_at(half_past - MINUTE, 10), minute_at(half_past, 3)]);
    let three = midnights("Asia/Kolkata", "2026-11-22", 2);
    assert_eq!(three[1], Wall(half_past));
    let requests = || days(&store, &three).iter().map(|day| (day.requests, day.failed)).collect::<Vec<_>>();
    assert_eq!(requests(), [(10, 2), (3, 2)], "the hour is not over");
    keep_house(&store, Wall(half_past + HOUR), || count(&store, "service_hour") == 1);
    assert_eq!(requests(), [(10, 2), (3, 2)], "its minutes are still there");
    assert_eq!(days(&store, &three[1..]).len(), 1, "what was before the first day is left out");
    // The first of the two minutes is too old, the other is not yet.
    keep_house(&store, Wall(half_past + 24 * HOUR), || count(&store, "service_minute") == 1);
    assert_eq!(requests(), [(6, 2), (7, 2)], "of thirteen each half has its share, and none is lost");
    keep_house(&store, Wall(half_past + 25 * HOUR), || count(&store, "service_minute") == 0);
    assert_eq!(requests(), [(6, 2), (7, 2)]);
}
