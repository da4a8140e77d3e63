//! The part of the config about probes, as written: one key a kind, and what all kinds have in common.

use crate::config::read::{List, Span, Text, TrueOr, Whole, table};
use crate::config::secrets::SecretRef;

table! {
    /// How servers are probed: by one of `http`, `tcp`, `redis` and `postgres`.
    RawHealth {
        /// Probe with `GET` of this path; 2xx and 3xx are good. Without it a connection that is accepted is good.
        http: Text,
        /// The Host header of the probe. By default the server's address. Only with `http`.
        host: Text,
        /// Probe with a connection. `true`: that it is accepted is enough, which the kernel does for a program that hangs. A table:
        /// what is said on it and what must be heard.
        #[schemars(extend("default" = true))]
        tcp: TrueOr<RawTcpProbe>,
        /// Probe a Redis (or what speaks like one): it must answer `PING`.
        redis: TrueOr<RawRedisProbe>,
        /// Probe a PostgreSQL. `true`: it must take logins, as `pg_isready` asks; with `user` it must let that user in and answer
        /// a query.
        postgres: TrueOr<RawPostgresProbe>,
        /// Time between two probes of one server.
        #[schemars(extend("default" = "1s"))]
        interval: Span,
        /// A probe that takes longer has failed.
        #[schemars(extend("default" = "800ms"))]
        timeout: Span,
        /// Good probes in a row before an unhealthy server is healthy.
        #[schemars(extend("default" = 2))]
        rise: Whole,
        /// Failed probes in a row before a healthy server is unhealthy.
        #[schemars(extend("default" = 2))]
        fall: Whole,
        /// Time to the next probe after a first failure, so that certainty does not wait for the interval.
        #[schemars(extend("default" = "100ms"))]
        reprobe: Span,
    }
}

table! {
    /// What is said on a connection, and what must be heard.
    RawTcpProbe {
        /// What is said first, `"PING\\r\\n"`. Without it the server has to speak first.
        send: Text,
        /// Text that must be heard then.
        expect: Text,
        /// A regular expression that what is heard must match, in place of `expect`.
        expect_regex: Text,
        /// What is said and expected after that, in this order.
        then: List<RawTcpStep>,
        /// The connection is one of TLS from its beginning, by the settings of `server-tls`.
        #[schemars(extend("default" = false))]
        tls: bool,
        /// TLS begins by this protocol's own command (STARTTLS), by the settings of `server-tls`; `send` and `expect` come after it.
        #[schemars(extend("enum" = ["smtp", "imap", "pop3", "ftp"]))]
        starttls: Text,
    }
}

table! {
    /// Something that is said, and what must be heard then.
    RawTcpStep {
        /// What is said.
        send: Text,
        /// Text that must be heard.
        expect: Text,
        /// A regular expression that what is heard must match, in place of `expect`.
        expect_regex: Text,
    }
}

table! {
    /// A probe of Redis.
    RawRedisProbe {
        /// The user that logs in (`AUTH`). Only with `password`; by default Redis's `default`.
        user: Text,
        /// Its password.
        password: SecretRef,
        /// `primary`: a replica, which takes no writes, is not good. `replica`: only a replica is.
        #[schemars(extend("default" = "any", "enum" = ["any", "primary", "replica"]))]
        role: Text,
        /// A replica that has lost its primary is not good.
        #[schemars(extend("default" = false))]
        linked: bool,
        /// It is spoken to over TLS, by the settings of `server-tls`.
        #[schemars(extend("default" = false))]
        tls: bool,
    }
}

table! {
    /// A probe of PostgreSQL.
    RawPostgresProbe {
        /// The user that logs in. Without it nobody does.
        user: Text,
        /// Its password, if it needs one (md5 or SCRAM-SHA-256).
        password: SecretRef,
        /// The database. By default the one that is named like the user.
        database: Text,
        /// A query that must be answered without an error, in a transaction that is rolled back.
        query: Text,
        /// What the first value of its answer must be.
        expect: Text,
        /// `primary`: a replica is not good. `replica`: only a replica is.
        #[schemars(extend("default" = "any", "enum" = ["any", "primary", "replica"]))]
        role: Text,
        /// A replica that is further behind its primary than this is not good.
        lag_max: Span,
        /// It is spoken to over TLS, by the settings of `server-tls`.
        #[schemars(extend("default" = false))]
        tls: bool,
    }
}
