//! The part of the config about probes, as written: one key a kind, and what all kinds have in common.

use crate::config::read::{
    Amount, List, ListOr, Named, OneOrMany, Share, Size, Span, Text, TextOr, TrueOr, Whole, table,
};
use crate::config::secrets::SecretRef;

table! {
    /// How servers are probed: by one kind of probe, `http` to `command`.
    RawHealth {
        /// Probe with `GET` of this path; 2xx and 3xx are good. A table: with more than a path, and what the answer must be. Without
        /// it a connection that is accepted is good.
        http: TextOr<RawHttpProbe>,
        /// The Host header of the probe. By default the server's address. Only with `http`, `grpc` and `websocket`.
        host: Text,
        /// Probe by gRPC's health service (`grpc.health.v1`), which must say `SERVING`. Needs `server-protocol = "http2"`.
        grpc: TrueOr<RawGrpcProbe>,
        /// Probe with a connection. `true`: that it is accepted is enough, which the kernel does for a program that hangs. A table:
        /// what is said on it and what must be heard.
        #[schemars(extend("default" = true))]
        tcp: TrueOr<RawTcpProbe>,
        /// Probe a Redis (or what speaks like one): it must answer `PING`.
        redis: TrueOr<RawRedisProbe>,
        /// Probe a PostgreSQL. `true`: it must take logins, as `pg_isready` asks; with `user` it must let that user in and answer
        /// a query.
        postgres: TrueOr<RawPostgresProbe>,
        /// Probe a MySQL or a MariaDB. `true`: it must take logins, as `mysqladmin ping` asks; with `user` it must let that user in
        /// and answer a query.
        mysql: TrueOr<RawMysqlProbe>,
        /// Probe a mail server: it must greet. A table: what it must offer, and for whom it must take mail.
        smtp: TrueOr<RawSmtpProbe>,
        /// Probe by opening a WebSocket on this path, which must answer a ping. A table: with more than a path.
        websocket: TextOr<RawWebSocketProbe>,
        /// Probe by a handshake of TLS alone, by the settings of `server-tls`: the certificate must be good.
        certificate: TrueOr<RawCertificateProbe>,
        /// Probe with a ping, which a machine's kernel answers though all its programs are gone.
        icmp: TrueOr<RawIcmpProbe>,
        /// Probe by asking the Docker Engine whether this container runs and is healthy. `{server}` and the like stand in it as in
        /// `command`.
        docker: TextOr<RawDockerProbe>,
        /// Probe by asking systemd whether this unit is active. `{server}` and the like stand in it as in `command`.
        systemd: Text,
        /// Probe a DNS server with a question, or a name in DNS.
        dns: RawDnsProbe,
        /// Probe by running a program with the exit codes of Nagios' plugins: 0 is good, 1 degraded, 2 failed; 3 and everything else
        /// say nothing about the server. `["check_http", "-I", "{host}", "-p", "{port}"]`: `{address}`, `{host}`, `{port}`, `{server}`
        /// and `{service}` stand for whom it looks at. No shell runs it.
        command: ListOr<RawCommandProbe>,
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
        /// Failed probes of the last ones, in a row or not, before a healthy server is unhealthy: at most of 30. By default `"3 of 5"`;
        /// where `fall` is more than 3, as many of two more.
        fail: Text,
        /// Time to the next probe after a first failure, so that certainty does not wait for the interval.
        #[schemars(extend("default" = "100ms"))]
        reprobe: Span,
        /// What Mainstay itself asks an HTTP server with `GET` where its probe says too little: a server whose probe is good while
        /// its visitors get errors, before it returns; and, where a probe is a bare connection, one that was down or that nobody
        /// asks. Every answer but 5xx is good. `"never"`: nothing is asked.
        #[schemars(extend("default" = "/"))]
        ask: Text,
    }
}

table! {
    /// A request, and what its answer must be.
    RawHttpProbe {
        /// Path and query.
        path: Text,
        /// The method.
        #[schemars(extend("default" = "GET", "enum" = ["GET", "HEAD", "POST", "PUT", "OPTIONS"]))]
        method: Text,
        /// Headers that are sent, by their names.
        headers: Named<Text>,
        /// The `Authorization` header that is sent: `Bearer …`, `Basic …`.
        authorization: SecretRef,
        /// The body that is sent. Only with `POST` and `PUT`.
        body: Text,
        /// Good status codes: `"200"`, `"2xx"`, `"200-204"`, or a list of them.
        #[schemars(extend("default" = "200-399"))]
        status: OneOrMany<Text>,
        /// Text that must be in the body.
        expect: Text,
        /// A regular expression that the body must match.
        expect_regex: Text,
        /// Text that must not be in the body.
        refuse: Text,
        /// A regular expression that the body must not match.
        refuse_regex: Text,
        /// What headers of the answer must have in them, by their names.
        expect_header: Named<Text>,
        /// What values in a body of JSON must be.
        json: List<RawJsonTest>,
        /// A longer body is not good; at most `16MiB`.
        size_max: Size,
        /// Redirects are followed, five at most. A check of a server follows those to other paths of the server, and one that leads
        /// elsewhere is not good. A monitor follows them to other hosts and from http to https as a visitor would, and leaves
        /// `headers`, `authorization` and its own certificate behind.
        #[schemars(extend("default" = false))]
        follow: bool,
        /// The body is a health document, whatever its type says: a status of its own that is bad is not good, whatever the code.
        /// `application/health+json` and Spring Boot's actuator are known by their type.
        #[schemars(extend("default" = false))]
        document: bool,
        /// A certificate that is good for less time is not good.
        certificate_min: Span,
        /// A good answer that took longer makes the server degraded; it stays in rotation. After `timeout` it has failed.
        slow_after: Span,
    }
}

table! {
    /// What a value in a body of JSON must be. Without `is`, `not`, `min`, `max` and `present` it must be there.
    RawJsonTest {
        /// Where it stands: keys and numbers of items with points between them, `queues.0.depth`.
        at: Text,
        /// It must be this: `"ok"`, `"3"`, `"true"`.
        is: Text,
        /// It must be something else.
        not: Text,
        /// It must be a number, and no less.
        min: Amount,
        /// It must be a number, and no more.
        max: Amount,
        /// `false`: it must not be there.
        #[schemars(extend("default" = true))]
        present: bool,
    }
}

table! {
    /// What is said on a connection, and what must be heard.
    RawTcpProbe {
        /// What is said first, `"PING\r\n"`. Without it the server has to speak first.
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
    /// A probe by gRPC's health service.
    RawGrpcProbe {
        /// The service that is asked about, `shop.v1.Shop`. By default the server as a whole.
        service: Text,
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

table! {
    /// A program that looks.
    RawCommandProbe {
        /// The program and its arguments.
        run: List<Text>,
        /// Variables that are added to Mainstay's own environment, which it gets without Mainstay's secrets. `MAINSTAY_ADDRESS`, `_HOST`,
        /// `_PORT`, `_SERVER` and `_SERVICE` are always set.
        env: Named<Text>,
        /// Variables whose values are secret.
        secrets: Named<SecretRef>,
    }
}

table! {
    /// A question to a DNS server, and what its answer must be. Without `expect` and `expect-any` any record will do.
    RawDnsProbe {
        /// The name that is asked about. With `record = "PTR"` an IP address will do.
        name: Text,
        /// What is asked for.
        #[schemars(extend("default" = "A", "enum" = ["A", "AAAA", "CAA", "CNAME", "DS", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "TLSA", "TXT"]))]
        record: Text,
        /// Who is asked, `"9.9.9.9"`. By default the server itself.
        resolver: Text,
        /// Records that must all be in the answer, as they stand in a zone file: `"192.0.2.1"`, `"10 mail.example.com"`.
        expect: OneOrMany<Text>,
        /// Records of which one must be in the answer.
        expect_any: OneOrMany<Text>,
        /// A record that neither of the two names is not good.
        #[schemars(extend("default" = false))]
        only: bool,
        /// The answer must be that of a server of the zone, not of a resolver's memory.
        #[schemars(extend("default" = false))]
        authoritative: bool,
    }
}

table! {
    /// A probe of MySQL or MariaDB.
    RawMysqlProbe {
        /// The user that logs in. Without it nobody does.
        user: Text,
        /// Its password, if it needs one (`mysql_native_password`, `caching_sha2_password`).
        password: SecretRef,
        /// The database. By default none.
        database: Text,
        /// A query that must be answered without an error, in a transaction that reads only.
        query: Text,
        /// What the first value of its answer must be.
        expect: Text,
        /// `primary`: one that takes no writes (`read_only`) is not good. `replica`: only one that follows another is.
        #[schemars(extend("default" = "any", "enum" = ["any", "primary", "replica"]))]
        role: Text,
        /// A replica that is further behind its primary than this is not good, nor is one that does not follow.
        lag_max: Span,
        /// It is spoken to over TLS, by the settings of `server-tls`.
        #[schemars(extend("default" = false))]
        tls: bool,
    }
}

table! {
    /// What a mail server is asked. No mail is sent.
    RawSmtpProbe {
        /// How Mainstay names itself.
        #[schemars(extend("default" = "mainstay-probe"))]
        hello: Text,
        /// The connection is one of TLS from its beginning, by the settings of `server-tls`.
        #[schemars(extend("default" = false))]
        tls: bool,
        /// It must offer `STARTTLS`, and TLS begins by it, by the settings of `server-tls`.
        #[schemars(extend("default" = false))]
        starttls: bool,
        /// Extensions that it must offer: `"8BITMIME"`, `"AUTH PLAIN"`.
        require: OneOrMany<Text>,
        /// Whom mail would come from. Only with `to`. By default nobody, `<>`.
        from: Text,
        /// It must take mail for this address.
        to: Text,
    }
}

table! {
    /// A WebSocket that is opened.
    RawWebSocketProbe {
        /// Path and query.
        path: Text,
        /// The protocol within the WebSocket that is asked for, and that must be agreed to.
        protocol: Text,
        /// The page that it would be opened from, `https://shop.example.com`.
        origin: Text,
        /// What is said first.
        send: Text,
        /// Text that must be in a message then.
        expect: Text,
        /// A regular expression that a message must match, in place of `expect`.
        expect_regex: Text,
        /// It is opened over TLS, by the settings of `server-tls`, though the address does not say so.
        #[schemars(extend("default" = false))]
        tls: bool,
    }
}

table! {
    /// How long a certificate must be good, with all of its chain that is shown.
    RawCertificateProbe {
        /// One that is good for less time is not good. By default one that has not expired is.
        min: Span,
        /// One that is good for less time makes the server degraded; `"0s"`: none does.
        #[schemars(extend("default" = "14d"))]
        warn: Span,
        /// TLS begins by this protocol's own command.
        #[schemars(extend("enum" = ["smtp", "imap", "pop3", "ftp"]))]
        starttls: Text,
    }
}

table! {
    /// Pings, and what may be lost of them.
    RawIcmpProbe {
        /// How many are sent each time; at most 20.
        #[schemars(extend("default" = 1))]
        packets: Whole,
        /// A greater share that is lost is not good.
        #[schemars(extend("default" = "0%"))]
        loss_max: Share,
        /// When they take longer on average, the server is degraded.
        slow_after: Span,
    }
}

table! {
    /// A container whose state is asked for.
    RawDockerProbe {
        /// Its name or id.
        container: Text,
        /// The Engine's Unix socket.
        #[schemars(extend("default" = "/var/run/docker.sock"))]
        socket: Text,
    }
}
