//! How a service is drilled, as written.

use crate::config::read::{OneOrMany, Share, Span, Text, table};

table! {
    /// Which faults are made on purpose at its servers by themselves, how often and when: see `mainstay drill`.
    RawDrill {
        /// These faults, each as often as `every` says, the one first that was tried longest ago: `["kill", "slow"]`.
        faults: OneOrMany<Text>,
        /// A fault is made again so long after its last drill, whoever made that. At least 1 h.
        #[schemars(extend("default" = "7d"))]
        every: Span,
        /// Only then: days of the week and a time of the day at which it begins, `"tue 10:00"`, `"mon-fri 14:30"`. Needs `faults`.
        window: OneOrMany<Text>,
        /// How long the window is each time. At most 1 day.
        #[schemars(extend("default" = "1h"))]
        window_length: Span,
        /// The time zone of `window`, as the IANA database has it: `"Europe/Berlin"`.
        #[schemars(extend("default" = "UTC"))]
        zone: Text,
        /// How long the fault lasts at most, from 1 s to 10 min.
        #[schemars(extend("default" = "30s"))]
        lasts: Span,
        /// Every drill of the service is stopped when more than this share of its requests fails after the first second.
        #[schemars(extend("default" = "1%"))]
        stop_at: Share,
    }
}
