//! Maintenance windows as they are written, and what is refused of them.

use mainstay_model::Wall;
use mainstay_model::window::Covers;
use mainstay_model::{MonitorId, ServiceId};

use super::{read, told};
use crate::config::Config;

/// A shop with two servers, a monitor with a group and tags, and this window.
fn written(lines: &str) -> String {
    format!(
        "[service.shop.server.app-1]\naddress = \"127.0.0.1:3000\"\n[service.shop.server.app-2]\naddress = \"127.0.0.1:3001\"\n\
         [monitor.pay]\naddress = \"127.0.0.1:5432\"\ngroup = \"suppliers\"\ntags = [\"db\"]\n[maintenance.disks]\n{lines}\n"
    )
}

fn of(lines: &str) -> Config {
    read(&written(lines)).unwrap_or_else(|mistakes| panic!("{lines}: {mistakes}"))
}

#[test]
fn every_key_arrives() {
    let config = of(r#"
        services = ["shop"]
        servers = "shop/app-1"
        monitors = ["pay"]
        groups = ["suppliers"]
        tags = ["db"]
        weekly = ["sun 02:00", "mon-fri 23:30"]
        for = "45m"
        zone = "Europe/Berlin"
        title = "New disks"
        reason = "OPS-42"
        public = false"#);
    let window = &config.policy.windows["disks"];
    let shop = ServiceId::new("shop");
    let covers = Covers {
        everything: false,
        services: [shop.clone()].into(),
        servers: [shop.server("app-1")].into(),
        monitors: [MonitorId::new("pay")].into(),
        groups: ["suppliers".into()].into(),
        tags: ["db".into()].into(),
    };
    assert_eq!(window.covers, covers);
    assert_eq!((window.title.as_str(), window.reason.as_str()), ("New disks", "OPS-42"));
    assert_eq!((window.public, window.zone.as_str()), (false, "Europe/Berlin"));
    // Sunday, 22 November 2026, noon in UTC.
    let times = config.maintenance["disks"].occurrences(Wall(1_795_348_800_000), 1);
    assert_eq!((times[0].from, times[0].to), (Wall(1_795_473_000_000), Wall(1_795_475_700_000)));
}

#[test]
fn what_is_not_written_is_as_documented() {
    let config = of("everything = true\nfrom = \"2026-12-01 02:00\"\nfor = \"2h\"");
    let window = &config.policy.windows["disks"];
    assert!(window.covers.everything && window.public);
    assert_eq!((window.title.as_str(), window.reason.as_str()), ("Planned maintenance", ""));
    let times = config.maintenance["disks"].occurrences(Wall(0), 3);
    assert_eq!(
        (times[0].from, times[0].to, times.len()),
        (Wall(1_796_090_400_000), Wall(1_796_097_600_000), 1)
    );
    let same = of(
        "everything = true\nfrom = \"2026-12-01 03:00\"\nto = \"2026-12-01T05:00:00+01:00\"\nzone = \"Europe/Berlin\"",
    );
    assert_eq!(same.maintenance["disks"].occurrences(Wall(0), 3), times);
    let past = of("services = \"shop\"\nfrom = \"2020-12-01 02:00\"\nfor = \"2h\"");
    assert!(past.maintenance["disks"].occurrences(Wall(1_796_090_400_000), 3).is_empty(), "it is no mistake");
}

#[test]
fn each_mistake_is_told_where_it_is_with_its_remedy() {
    let weekly = "weekly = \"sun 02:00\"\nfor = \"2h\"";
    for (lines, what) in [
        (weekly, "maintenance.disks: nothing says what is in the window"),
        ("services = \"shop\"", "maintenance.disks: nothing says when the window comes"),
        ("services = \"shop\"\nweekly = \"sun 02:00\"", "maintenance.disks: nothing says how long it lasts"),
        ("services = \"shop\"\nfrom = \"2026-12-01 02:00\"", "maintenance.disks: nothing says when it ends"),
        (&format!("services = \"shpo\"\n{weekly}"), "maintenance.disks.services: there is no service"),
        (&format!("servers = \"shop/app-3\"\n{weekly}"), "maintenance.disks.servers: there is no server"),
        (
            &format!("monitors = [\"pay\", \"pya\"]\n{weekly}"),
            "maintenance.disks.monitors: there is no monitor",
        ),
        (&format!("groups = \"supplier\"\n{weekly}"), "there is no monitor with this group"),
        (&format!("tags = \"dba\"\n{weekly}"), "there is no monitor with this tag"),
        (&format!("services = []\n{weekly}"), "it names nothing"),
        (&format!("services = \"shop\"\neverything = true\n{weekly}"), "everything is in the window already"),
        ("services = \"shop\"\nweekly = \"son 02:00\"\nfor = \"2h\"", "\"son\" is no day of the week"),
        ("services = \"shop\"\nweekly = \"sun 2\"\nfor = \"2h\"", "\"2\" is no time of the day"),
        ("services = \"shop\"\ncron = \"0 2 * *\"\nfor = \"2h\"", "five fields, and this one has 4"),
        ("services = \"shop\"\ncron = \"0 2 31 2 *\"\nfor = \"2h\"", "no such day ever comes"),
        ("services = \"shop\"\ncron = \"0 * * * *\"\nfor = \"2h\"", "so it never ends"),
        ("services = \"shop\"\nweekly = \"sun 02:00\"\nfor = \"8d\"", "it lasts from 1s to 7d"),
        (
            &format!("services = \"shop\"\n{weekly}\nzone = \"Europe/Berln\""),
            "this machine knows no such time zone",
        ),
        (
            &format!("services = \"shop\"\n{weekly}\ncron = \"0 2 * * *\""),
            "weekly says when it comes already",
        ),
        (&format!("services = \"shop\"\n{weekly}\nto = \"2026-12-01 02:00\""), "ends after a time"),
        ("services = \"shop\"\nfrom = \"2026-12-01\"\nfor = \"2h\"", "not a day with a time"),
        (
            "services = \"shop\"\nfrom = \"2026-12-01 02:00\"\nto = \"2026-12-01 01:00\"",
            "it ends before it begins",
        ),
        (
            "services = \"shop\"\nfrom = \"2026-12-01 02:00\"\nto = \"2026-12-01 04:00\"\nfor = \"2h\"",
            "to says when it ends already",
        ),
        (&format!("services = \"shop\"\n{weekly}\ntitle = \"\""), "one line of 1 to 200 characters"),
        (&format!("services = \"shop\"\n{weekly}\nlength = \"2h\""), "unknown key"),
    ] {
        let mistakes = told(&written(lines));
        assert!(mistakes.len() == 1 && mistakes[0].contains(what), "{lines}\n{mistakes:?}");
        let remedies = read(&written(lines)).unwrap_err().iter().all(|mistake| !mistake.remedy.is_empty());
        assert!(remedies, "{lines}");
    }
    let numbered = written("services = \"shop\"").replace("maintenance.disks", "maintenance.7");
    assert!(told(&numbered)[0].contains("numbers are the names of windows that people open"));
}
