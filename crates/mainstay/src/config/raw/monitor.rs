//! The part of the config about monitors, as written.

use super::RawServerTls;
use super::health::RawHealth;
use crate::config::raw::health::RawHttpProbe;
use crate::config::read::{List, OneOrMany, Span, Text, TextOr, Whole, table};

table! {
    /// Something that is watched and not served. By `url` or `address`; or a job that says by itself that it ran: `heartbeat`.
    RawMonitor {
        /// What is watched by HTTP: `https://pay.example.com/health`. A name is looked up at each probe.
        url: Text,
        /// What is watched otherwise: `db.example.com:5432`, `10.0.0.5:25` or `unix:/run/app.sock`. Without `probe` a connection that
        /// is accepted is good.
        address: Text,
        /// How it is looked at: the same kinds and keys as `health` of a service, without its times and counts.
        probe: RawHealth,
        /// A job that pings: it is not looked at, but missed when it does not ping. `mainstay heartbeat NAME` shows where it does.
        heartbeat: RawHeartbeat,
        /// Over which addresses of its name it is looked at: `"any"` that takes a connection, `"v4"` or `"v6"` alone, or `"both"`, each of
        /// which must be well.
        #[schemars(extend("default" = "any", "enum" = ["any", "v4", "v6", "both"]))]
        ip: Text,
        /// Time between two probes. After a first failure the next ones follow within 1, 2 and 4 seconds.
        #[schemars(extend("default" = "60s"))]
        interval: Span,
        /// A probe that takes longer has failed.
        #[schemars(extend("default" = "10s"))]
        timeout: Span,
        /// It is down when so many of its last probes failed: `"3 of 5"`.
        #[schemars(extend("default" = "3 of 5"))]
        fail: Text,
        /// Good probes in a row before it is up again.
        #[schemars(extend("default" = 2))]
        recover: Whole,
        /// What it needs: services, monitors, or servers as `shop/app-1`. When one of these is down and this fails, it is one incident,
        /// of what is down.
        needs: OneOrMany<Text>,
        /// What it is shown under.
        group: Text,
        /// Words by which it is found.
        tags: List<Text>,
        /// The groups of `on-call` who are told of it. By default all.
        on_call: OneOrMany<Text>,
        /// How TLS is spoken with it, where it is.
        tls: RawServerTls,
    }
}

table! {
    /// A look at the service as its visitors see it: at Mainstay's own front door.
    RawFrontCheck {
        /// What is asked for: a path, or a table as in `health`.
        http: TextOr<RawHttpProbe>,
        /// For which of its hosts. By default the first of `hosts` that is no pattern.
        host: Text,
        /// Time between two looks. After a first failure the next ones follow within 1, 2 and 4 seconds.
        #[schemars(extend("default" = "10s"))]
        interval: Span,
        /// A look that takes longer has failed.
        #[schemars(extend("default" = "10s"))]
        timeout: Span,
        /// The door is shut when so many of the last looks failed: `"3 of 5"`.
        #[schemars(extend("default" = "3 of 5"))]
        fail: Text,
        /// Good looks in a row before it is open again.
        #[schemars(extend("default" = 2))]
        recover: Whole,
        /// How TLS is spoken with it, where visitors are served over TLS: who may issue its certificate.
        tls: RawServerTls,
    }
}

table! {
    /// A way to look, for `/probe?module=NAME&target=…` at the admin address: what blackbox_exporter calls a module.
    RawModule {
        /// How it is looked: the same kinds and keys as `health` of a service, without its times and counts. Without it a connection that is
        /// accepted is good.
        probe: RawHealth,
        /// A probe that takes longer has failed; so has one that takes longer than Prometheus waits.
        #[schemars(extend("default" = "10s"))]
        timeout: Span,
        /// How TLS is spoken, where it is.
        tls: RawServerTls,
    }
}

table! {
    /// When a job is to ping: `every`, or `cron`.
    RawHeartbeat {
        /// The longest time from one ping to the next: `"1h"`.
        every: Span,
        /// When it runs, as in its crontab: `"30 3 * * *"`, `"@daily"`.
        cron: Text,
        /// The time zone of `cron`, by its name in the IANA database: `"Europe/Berlin"`.
        #[schemars(extend("default" = "UTC"))]
        zone: Text,
        /// So long after it was expected it is missed. A job that tells when it starts may run so long.
        #[schemars(extend("default" = "5m"))]
        grace: Span,
    }
}
