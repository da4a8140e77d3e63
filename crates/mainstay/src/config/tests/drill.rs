//! Drills that are planned in the config.

use mainstay_model::ServiceId;
use mainstay_model::drill::Fault;

use super::*;

fn with(lines: &str) -> Result<Config, String> {
    let text = format!("[service.shop]\nserver.a.address = \"10.0.0.1:1\"\n[service.shop.drill]\n{lines}\n");
    read(&text).map_err(|mistakes| mistakes.to_string())
}

fn at(text: &str) -> mainstay_model::Wall {
    mainstay_model::Wall(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

#[test]
fn a_plan_says_which_how_often_and_when() {
    let text = "faults = [\"kill\", \"slow\"]\nevery = \"3d\"\nlasts = \"10s\"\nstop-at = \"2%\"\n\
        window = \"tue 10:00\"\nwindow-length = \"2h\"\nzone = \"Europe/Berlin\"";
    let config = with(text).unwrap();
    let shop = ServiceId::new("shop");
    let plan = &config.drills[&shop];
    assert_eq!(plan.faults, [Fault::Kill, Fault::Slow]);
    assert_eq!((plan.every.as_secs(), plan.lasts.as_secs()), (3 * 86_400, 10));
    assert_eq!(config.policy.services[&shop].drill.stop_at, 0.02);
    // Tuesday, 2026-11-24, in winter time.
    for (moment, open) in [("08:59", false), ("09:00", true), ("10:59", true), ("11:00", false)] {
        assert_eq!(plan.is_open(at(&format!("2026-11-24T{moment}:00Z"))), open, "{moment}");
    }
    assert!(!plan.is_open(at("2026-11-25T09:30:00Z")));
}

#[test]
fn without_faults_nothing_is_planned_and_without_a_window_it_is_open_always() {
    let config = with("stop-at = \"5%\"").unwrap();
    assert!(config.drills.is_empty());
    assert_eq!(config.policy.services[&ServiceId::new("shop")].drill.stop_at, 0.05);
    let config = with("faults = \"refuse\"").unwrap();
    let plan = &config.drills[&ServiceId::new("shop")];
    assert!(plan.is_open(at("2026-11-25T03:30:00Z")));
    assert_eq!((plan.every.as_secs(), plan.lasts.as_secs()), (7 * 86_400, 30));
}

#[test]
fn what_cannot_be_is_said() {
    for (lines, what) in [
        ("faults = \"kil\"", "did you mean \"kill\"?"),
        ("window = \"tue 10:00\"", "nothing says which faults are made"),
        ("faults = \"kill\"\nevery = \"5m\"", "must be at least 1h"),
        ("faults = \"kill\"\nlasts = \"11m\"", "it lasts 10 min at most"),
        ("faults = \"kill\"\nwindow = \"tuesday noon\"", "is no time of the day"),
        ("faults = \"kill\"\nwindow = \"tue 10:00\"\nwindow-length = \"2d\"", "1 day long at most"),
        ("faults = \"kill\"\nzone = \"Europe/Bärlin\"", "no such time zone"),
    ] {
        let told = with(lines).expect_err(lines);
        assert!(told.contains(what), "{lines}: {told}");
    }
}
