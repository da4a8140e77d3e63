//! The part of the config about maintenance windows, as written.

use crate::config::read::{OneOrMany, Span, Text, table};

table! {
    /// A time in which something may be down and nobody is told. It comes by `weekly`, `cron`, or `from`.
    RawMaintenance {
        /// Services that it is about, with all of their servers.
        services: OneOrMany<Text>,
        /// Single servers: `"shop/app-1"`.
        servers: OneOrMany<Text>,
        /// Single monitors.
        monitors: OneOrMany<Text>,
        /// All monitors of these groups.
        groups: OneOrMany<Text>,
        /// All monitors with one of these tags.
        tags: OneOrMany<Text>,
        /// All services and monitors, and the machine that Mainstay runs on.
        everything: bool,
        /// Days of the week and a time of the day: `"sun 02:00"`, `"mon-fri 22:30"`. Needs `for`.
        weekly: OneOrMany<Text>,
        /// A cron expression of five fields: `"0 2 1 * *"`. Needs `for`.
        cron: Text,
        /// How long it lasts each time: `"2h"`. At most 7 days.
        r#for: Span,
        /// When it begins, once: `"2026-12-01 02:00"`. Needs `to` or `for`.
        from: Text,
        /// When it ends: `"2026-12-01 04:00"`.
        to: Text,
        /// The time zone in which all of that is written, as the IANA database has it: `"Europe/Berlin"`.
        #[schemars(extend("default" = "UTC"))]
        zone: Text,
        /// What visitors read of it on the status page.
        #[schemars(extend("default" = "Planned maintenance"))]
        title: Text,
        /// Why, for colleagues: on the dashboard, in the API and in the log, never on the status page.
        reason: Text,
        /// The status page announces it seven days before, and shows it while it is open.
        #[schemars(extend("default" = true))]
        public: bool,
    }
}
