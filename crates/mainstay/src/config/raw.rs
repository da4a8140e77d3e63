//! The config as written: every key that this version knows, with its default and its meaning. The comments here are the
//! text of docs/config-reference.md; `#[schemars(extend("default" = …))]` is the default that is shown there, and a test
//! holds it against the default that is used.

mod drill;
mod health;
mod maintenance;
mod monitor;
mod replace;
mod restart;
mod routing;
mod state;
mod tls;

pub(super) use drill::RawDrill;
pub(super) use health::{
    RawCertificateProbe, RawCommandProbe, RawDnsProbe, RawDockerProbe, RawGrpcProbe, RawHealth, RawHttpProbe,
    RawIcmpProbe, RawJsonTest, RawMysqlProbe, RawPostgresProbe, RawRedisProbe, RawSmtpProbe, RawTcpProbe,
    RawWebSocketProbe,
};
pub(super) use maintenance::RawMaintenance;
pub(super) use monitor::{RawFrontCheck, RawHeartbeat, RawModule, RawMonitor};
pub(super) use replace::{RawReplace, RawReplaceCommand, RawReplaceDocker};
pub(super) use restart::{RawOver, RawRestart};
pub(super) use state::RawState;
pub(super) use tls::{RawCertificate, RawServerTls, RawTls};

use super::read::{
    Address, Amount, Flow, List, Named, OneOrMany, Private, Rate, Share, Size, Span, Text, TextOr, Whole,
    table,
};
use super::secrets::SecretRef;

pub(super) use routing::{RawHeaders, RawRoute, RawSticky};

table! {
    /// The whole file.
    RawConfig {
        /// Folder of the record and of the logs of supervised servers. By default `$STATE_DIRECTORY` (set by systemd), else
        /// `/var/lib/mainstay` for root, else `$XDG_STATE_HOME/mainstay`, else `~/.local/state/mainstay`.
        data: Text,
        /// Threads that carry traffic. By default one per processor.
        workers: Whole,
        /// How long requests under way may take to finish when Mainstay stops.
        #[schemars(extend("default" = "30s"))]
        drain: Span,
        /// How long a Mainstay that was replaced by `mainstay upgrade` lets requests and WebSockets go on before it cuts them.
        #[schemars(extend("default" = "10m"))]
        upgrade_grace: Span,
        /// Where Mainstay listens.
        listen: RawListen,
        /// TLS with visitors. Needs `listen.https`.
        tls: RawTls,
        /// What is written down of requests.
        log: RawLog,
        /// Who may use the admin address. Loopback needs neither; any other address needs one of them.
        admin: RawAdmin,
        /// What visitors reach. At least one is needed, or a monitor.
        service: Named<RawService>,
        /// What is watched and not served, by names of your own; at most 10,000.
        monitor: Named<RawMonitor>,
        /// Ways to look that Prometheus chooses by name, in place of blackbox_exporter. `http_2xx`, `http_post_2xx`, `tcp_connect` and `icmp` are
        /// there without being written.
        module: Named<RawModule>,
        /// When something is expected to be down and nobody is told: maintenance windows, by names of your own.
        maintenance: Named<RawMaintenance>,
        /// How people are told.
        alert: RawAlert,
        /// Who is told, by groups of your own naming.
        on_call: Named<RawOnCall>,
        /// How long the record is kept.
        record: RawRecord,
        /// The machine that Mainstay runs on.
        host: RawHost,
        /// Other machines, by names of your own: their figures come from a node_exporter that they have already. At most 256.
        machine: Named<RawMachine>,
        /// How Mainstay finds out whether it sees anything at all.
        observer: RawObserver,
        /// Zones that Mainstay answers itself, by their names. Needs `listen.dns`.
        zone: Named<RawZone>,
        /// Zones that other DNS servers answer.
        dns: RawDns,
        /// The public status page, for visitors.
        status: RawStatus,
        /// What is backed up, by names of your own.
        backup: Named<RawBackup>,
    }
}

table! {
    /// Where Mainstay listens.
    RawListen {
        /// Where visitors are served: an IP address and a port, a Unix socket, `unix:/run/mainstay/http.sock`, or a list of them.
        /// `0.0.0.0:80` is every IPv4 address, `[::]:80` every address; port 0 lets the system choose. Without it and `https` visitors are served on this machine only.
        #[schemars(extend("default" = "127.0.0.1:8080"))]
        http: OneOrMany<Address>,
        /// Where visitors are served over TLS: an IP address and a port, a Unix socket, or a list of them. Needs `[tls]` with a certificate.
        https: OneOrMany<Address>,
        /// Who may connect to the Unix sockets among `http`, `https` and the addresses of TCP services.
        unix: RawUnix,
        /// Dashboard, API and metrics.
        #[schemars(extend("default" = "127.0.0.1:9900"))]
        admin: Address,
        /// Where jobs ping, and nothing else is answered; for jobs on other machines. They may always ping at `admin` too. A change needs a
        /// restart.
        pings: Address,
        /// Where DNS is answered, over UDP and TCP: an IP address and a port, or a list of them. Only with `zone`. On a machine with
        /// several addresses name each of them instead of `0.0.0.0`.
        dns: OneOrMany<Address>,
        /// Proxies in front of Mainstay, by address or network: `["10.0.0.0/8"]`; `"unix:"` is whoever comes by a Unix socket. From them the address that they name last in
        /// `X-Forwarded-For` (in `Forwarded` when there is none) is taken for the visitor's, for limits and for counting.
        trusted_proxies: OneOrMany<Text>,
        /// Proxies in front that pass connections on and say in front of each who it comes from (the PROXY protocol, version 1 or 2),
        /// by address or network: `["10.0.0.0/8"]`, or `"unix:"`. From them a connection without that is closed; from everybody else nothing is
        /// expected. For `http`, and for `https` unless `https-proxy-protocol` says otherwise.
        proxy_protocol: OneOrMany<Text>,
        /// The same for `https` alone; `[]`: nobody.
        https_proxy_protocol: OneOrMany<Text>,
        /// For a request's whole head, from its first byte; past it the connection is closed with 408. A change needs a restart.
        #[schemars(extend("default" = "10s"))]
        head_timeout: Span,
        /// How long a connection may be open without a request, before its first or between two. A change needs a restart.
        #[schemars(extend("default" = "60s"))]
        idle: Span,
        /// Connections of visitors at once, of all together; one more is answered with 503 and closed. A change needs a restart.
        #[schemars(extend("default" = 20000))]
        connections: Whole,
        /// Connections of one IPv4 address or IPv6 /64 at once; one more is answered with 429 and closed. By default half of
        /// `connections`. `trusted-proxies` may have any number.
        connections_per_address: Whole,
        /// Requests over one connection; with the last of them it is closed.
        #[schemars(extend("default" = 100000))]
        requests_per_connection: Whole,
    }
}

table! {
    /// Who may connect to a Unix socket that Mainstay listens at.
    RawUnix {
        /// The mode of its file, in octal; who may write may connect.
        #[schemars(extend("default" = "660"))]
        mode: Text,
        /// Whose it is, by name or number. By default Mainstay's own user's; only root may give it to another.
        user: Text,
        /// Its group, by name or number. By default Mainstay's own.
        group: Text,
    }
}

table! {
    /// What is written down of requests.
    RawLog {
        /// A file that gets a line for each request, or `"stdout"`. It is opened again on SIGHUP. By default nothing is written
        /// down.
        access: Text,
        /// How a line looks: `json`, `combined`, or your own with fields in braces: `"{time} {visitor} {method} {target} {status}"`.
        /// docs/access-log.md lists the fields.
        #[schemars(extend("default" = "json"))]
        access_format: Text,
    }
}

table! {
    /// Who may use the admin address.
    RawAdmin {
        /// For programs: `Authorization: Bearer …`. At least 8 characters.
        token: SecretRef,
        /// For people, in the browser's login. At least 8 characters.
        password: SecretRef,
    }
}

table! {
    /// One service.
    RawService {
        /// Makes it a TCP service, whose connections are passed on unread: where it listens, `tcp://0.0.0.0:5432`, a Unix socket,
        /// `unix:/run/mainstay/db.sock`, or a list. Several
        /// services may share an address; `hosts` are then the names that their clients ask for by TLS.
        listen: OneOrMany<Address>,
        /// As `listen.proxy-protocol`, for `listen` of this service.
        proxy_protocol: OneOrMany<Text>,
        /// What becomes of a TCP service's connections with a server that is put out of rotation because it is down: `close`, so that
        /// clients make new ones with another server, or `keep`. Only with `listen`.
        #[schemars(extend("default" = "close", "enum" = ["close", "keep"]))]
        on_down: Text,
        /// Servers are told in front of each connection who it comes from, by the PROXY protocol: `v1` or `v2`. Every server must
        /// understand it. A service of HTTP then needs a new connection for each request.
        #[schemars(extend("enum" = ["v1", "v2"]))]
        send_proxy: Text,
        /// What its servers need: services, monitors, or servers as `shop/app-1`. When one of these is down and this service fails,
        /// it is one incident, of what is down.
        needs: OneOrMany<Text>,
        /// Host names that lead here; `*.example.com` is every name below example.com. Absent or `"*"`: every host that no other
        /// service claims. `[]`: none, only routes of other services lead here.
        #[schemars(extend("default" = "*"))]
        hosts: OneOrMany<Text>,
        /// Paths that lead here, each with everything below it: `["/api"]`.
        #[schemars(extend("default" = "/"))]
        paths: OneOrMany<Text>,
        /// Parts of its requests that are treated in their own way.
        route: List<RawRoute>,
        /// Send requests in the clear to the same address by https, with 308.
        #[schemars(extend("default" = false))]
        redirect_https: bool,
        /// Changes of requests' headers.
        request_headers: RawHeaders,
        /// Changes of answers' headers.
        response_headers: RawHeaders,
        /// How a server is chosen for a request: the better of two by latency (`least-latency`) or by requests under way
        /// (`least-requests`), one after the other (`round-robin`), by chance (`random`), or the same one for the same key (`hash`).
        #[schemars(extend("default" = "least-latency", "enum" = ["least-latency", "least-requests", "round-robin", "random", "hash"]))]
        balance: Text,
        /// The key, with `balance = "hash"`: `visitor` (the address), `path`, `header:X-Tenant`, `cookie:session` or `query:id`.
        #[schemars(extend("default" = "visitor"))]
        hash_by: Text,
        /// Visitors keep to their server.
        sticky: RawSticky,
        /// How its servers are probed.
        health: RawHealth,
        /// When real traffic takes a server out of rotation.
        traffic: RawTraffic,
        /// Deadlines of a request.
        timeouts: RawTimeouts,
        /// An answer that begins later than this is slow for its visitor; it is counted in incidents, and fails nobody.
        #[schemars(extend("default" = "1s"))]
        slow_after: Span,
        /// What it is worth, for the estimate of what an incident cost.
        value: RawValue,
        /// When a request is tried again on another server.
        retry: RawRetry,
        /// What it takes on; more is refused before it reaches a server. By default everything.
        limits: RawLimits,
        /// Which requests go first when there is no room for all. Only with `limits.concurrent`.
        priority: List<RawPriority>,
        /// How a server with `command` is brought back.
        recovery: RawRecovery,
        /// How long a returning server's share takes to rise from a tenth to full. `0s`: at once.
        #[schemars(extend("default" = "10s"))]
        slow_start: Span,
        /// How long what is under way at a server may go on once that is drained, in maintenance, or gone from the config: requests,
        /// WebSockets, connections of TCP. What is left then is ended. `1y`: nobody ends it.
        #[schemars(extend("default" = "10m"))]
        drain_timeout: Span,
        /// Below this share of primary servers in rotation, traffic goes to all of them, healthy or not.
        #[schemars(extend("default" = "50%"))]
        panic_threshold: Share,
        /// How long everything must have been good before an incident is closed.
        #[schemars(extend("default" = "10s"))]
        resolve_after: Span,
        /// The groups of `[on-call]` that are told of its incidents: one name, or a list. By default all of them.
        on_call: OneOrMany<Text>,
        /// Your own command for switching to something else when the primaries are down.
        switch: RawSwitch,
        /// Its servers keep state, as databases do, and one of them takes the writes: `"postgres"`. A table: with more than that. Needs
        /// `listen`, and a probe that logs in.
        state: TextOr<RawState>,
        /// How many instances of a server with `command` there are.
        scale: RawScale,
        /// What takes the place of a server that cannot be brought back.
        replace: RawReplace,
        /// How it is drilled: faults that Mainstay makes by itself from time to time, to measure what comes of them.
        drill: RawDrill,
        /// How a new release is tried. Needs a server whose `command` has `{release}` in it.
        deploy: RawDeploy,
        /// What its servers speak: `http1` is HTTP/1.1; `http2` is HTTP/2, over TLS by agreement (ALPN), in the clear by prior
        /// knowledge (h2c). gRPC needs `http2`.
        #[schemars(extend("default" = "http1", "enum" = ["http1", "http2"]))]
        server_protocol: Text,
        /// TLS to servers whose address begins with `https://`.
        server_tls: RawServerTls,
        /// The servers, by names of your own. At least one is needed.
        server: Named<RawServer>,
        /// Where visitors reach the service, here and on other machines: IP addresses, with a port unless it is the first one of
        /// `listen.http`. Names that follow the service lead to those that answer; without it, straight to its servers.
        front: OneOrMany<Text>,
        /// The service is looked at as its visitors see it: by HTTP at the first of `listen.https`, else of `listen.http`, for one of its hosts. What
        /// is looked at is shown as the monitor `SERVICE-front`, and is not counted as a visitor.
        front_check: RawFrontCheck,
    }
}

table! {
    /// What the service is worth to you. Every incident then says about how much money it cost; docs/impact.md says how that is reckoned.
    RawValue {
        /// What an ordinary hour of it brings: turnover, or what an hour without it costs you.
        per_hour: Amount,
        /// In which currency, as it is to be shown: `EUR`.
        currency: Text,
    }
}

table! {
    /// When real traffic takes a server out.
    RawTraffic {
        /// Attempts in a row that were refused, reset or not answered in time.
        #[schemars(extend("default" = 5))]
        consecutive_failures: Whole,
        /// Share of attempts in the window that failed or were answered 5xx.
        #[schemars(extend("default" = "20%"))]
        failure_share: Share,
        /// Attempts in the window below which a share says nothing.
        #[schemars(extend("default" = 20))]
        min_requests: Whole,
        /// The window of the share.
        #[schemars(extend("default" = "10s"))]
        window: Span,
        /// A server is taken out when half of its answers of the last 5 s took so many times as long as its fellows', and at least
        /// 100 ms longer. `0`: it never is for being slow.
        #[schemars(extend("default" = 5))]
        slow_times: Amount,
        /// A server is degraded, and stays in rotation, when the mean of its answers and the time within which nine of ten of them
        /// come are so many times as long as they usually are at this hour, and at least 100 ms longer, for two minutes. `0`: it
        /// never is for that.
        #[schemars(extend("default" = 3))]
        past_times: Amount,
        /// So many of a service's servers may be out for traffic alone at the same time; one always may, but never the last.
        #[schemars(extend("default" = "50%"))]
        eject_share: Share,
        /// First time out of rotation for traffic alone. It doubles with each time.
        #[schemars(extend("default" = "10s"))]
        eject_base: Span,
        /// The longest time out of rotation for traffic alone.
        #[schemars(extend("default" = "5m"))]
        eject_max: Span,
    }
}

table! {
    /// Deadlines of a request.
    RawTimeouts {
        /// To connect to a server, when there is no other one to go to: longer than the second after which the kernel sends a lost
        /// first packet again. With another one it is left after `per-try`.
        #[schemars(extend("default" = "2s"))]
        connect: Span,
        /// For a server that answers nobody to begin its answer; past it an idempotent request is tried elsewhere. Never more than
        /// `request`.
        #[schemars(extend("default" = "1s"))]
        per_try: Span,
        /// For the whole request until the answer begins; past it the visitor gets 504.
        #[schemars(extend("default" = "60s"))]
        request: Span,
        /// Without a byte in either direction while an answer or a body is under way.
        #[schemars(extend("default" = "60s"))]
        idle: Span,
        /// Without a byte of a request's body from the visitor; past it the visitor gets 408. Never more than `idle`.
        #[schemars(extend("default" = "30s"))]
        body: Span,
        /// What a request's body must bring on average, once `body-grace` is over, while the server takes it; and what a visitor must
        /// read of an answer, once `idle` is over, while there is more. `"0B/s"`: as slowly as it likes.
        #[schemars(extend("default" = "500B/s"))]
        body_min_rate: Flow,
        /// How long a body may be slower than that.
        #[schemars(extend("default" = "20s"))]
        body_grace: Span,
    }
}

table! {
    /// What a service takes on.
    RawLimits {
        /// How often one IPv4 address, or one IPv6 network of 64 bits, may ask, over all workers. More is refused with 429.
        per_address: Rate,
        /// How many requests of one address may come at once. By default the number in `per-address`.
        burst: Whole,
        /// Addresses and networks that may ask as often as they like: `["10.0.0.0/8", "2001:db8::/32"]`.
        exempt: OneOrMany<Text>,
        /// Close the connection of who is over the limit, after the answer. Kept, it costs both sides less.
        #[schemars(extend("default" = false))]
        close: bool,
        /// Requests under way at once, over all workers. More wait in the queue.
        concurrent: Whole,
        /// Find out how many requests the service can do at once from how long its answers take: `concurrent` is then the most, and
        /// fewer are let in as soon as answers take longer than usual.
        #[schemars(extend("default" = false))]
        adaptive: bool,
        /// Requests that wait for one to end. More are refused with 503, the lowest `priority` first.
        #[schemars(extend("default" = 100))]
        queue: Whole,
        /// How long a request waits before it is refused with 503.
        #[schemars(extend("default" = "2s"))]
        queue_deadline: Span,
        /// A larger request body is refused with 413.
        body_max: Size,
    }
}

table! {
    /// Which requests go first.
    RawPriority {
        /// `/checkout` is that path and everything below it. The longest that fits decides.
        path: Text,
        /// `high`, `normal` or `low`.
        #[schemars(extend("enum" = ["high", "normal", "low"]))]
        level: Text,
    }
}

table! {
    /// When a request is tried again.
    RawRetry {
        /// Servers tried for one request, the first included. 1: never again.
        #[schemars(extend("default" = 3))]
        max_tries: Whole,
        /// Retries in the last ten seconds as a share of requests.
        #[schemars(extend("default" = "20%"))]
        budget: Share,
        /// Retries allowed in the last ten seconds whatever the share, so that a quiet site can retry at all.
        #[schemars(extend("default" = 10))]
        budget_min: Whole,
        /// A body up to this size is kept so that it can be sent again.
        #[schemars(extend("default" = "64KiB"))]
        body_max: Size,
        /// Which requests that a server answers with 500, 502, 503 or 504 are asked once on another server that does well: `safe`, GET,
        /// HEAD, OPTIONS and TRACE; `idempotent`, PUT, DELETE and those with an `Idempotency-Key` too; `never`.
        #[schemars(extend("default" = "safe", "enum" = ["safe", "idempotent", "never"]))]
        on_5xx: Text,
        /// A GET, HEAD, OPTIONS or TRACE without a body that waits for so long is asked of a second server too, inside the budget, and the
        /// first good answer wins: a time (`"50ms"`), or `p95`, as long as 95 of 100 answers of the service take (`p50` to `p99`).
        /// Without it a server is asked only after another has failed.
        hedge: Text,
    }
}

table! {
    /// How servers are brought back that Mainstay starts itself, or knows how to restart.
    RawRecovery {
        /// How far Mainstay may go on its own: `observe` (what it would do is written down), `suggest` (it stands in the message), `ask` (a
        /// person is called and decides by a button or a link) or `automatic` (it does it). One of them for all, or a table with
        /// one for each rung.
        level: TextOr<RawLevels>,
        /// Restarts within the window before a person is called instead. 0: never restarted.
        #[schemars(extend("default" = 5))]
        budget: Whole,
        /// The window of the budget.
        #[schemars(extend("default" = "10m"))]
        budget_window: Span,
        /// The first restart is at once, the second waits this long; then it doubles.
        #[schemars(extend("default" = "1s"))]
        delay_base: Span,
        /// The longest wait.
        #[schemars(extend("default" = "60s"))]
        delay_max: Span,
        /// After so long in good health the wait starts over.
        #[schemars(extend("default" = "10m"))]
        reset_after: Span,
        /// A server that was started has this long to pass its first probe.
        #[schemars(extend("default" = "30s"))]
        start_grace: Span,
        /// Whether an action helped is judged by the real requests of so long a time after it.
        #[schemars(extend("default" = "60s"))]
        helped_within: Span,
    }
}

table! {
    /// How far Mainstay may go on its own with each rung: `observe`, `suggest`, `ask` or `automatic`.
    RawLevels {
        /// Restarts of servers that died or hang. The first start of a server is always done.
        #[schemars(extend("default" = "automatic", "enum" = ["observe", "suggest", "ask", "automatic"]))]
        restart: Text,
        /// Going back to the release before.
        #[schemars(extend("default" = "automatic", "enum" = ["observe", "suggest", "ask", "automatic"]))]
        roll_back: Text,
        /// The `switch` command, once an incident. `automatic` needs `switch.fence`.
        #[schemars(extend("default" = "ask", "enum" = ["observe", "suggest", "ask", "automatic"]))]
        switch: Text,
        /// More and fewer instances, by `scale`.
        #[schemars(extend("default" = "automatic", "enum" = ["observe", "suggest", "ask", "automatic"]))]
        scale: Text,
        /// A new instance in the place of a server that cannot be brought back, by `replace`.
        #[schemars(extend("default" = "ask", "enum" = ["observe", "suggest", "ask", "automatic"]))]
        replace: Text,
    }
}

table! {
    /// Your own command for what Mainstay cannot switch itself: a database's standby, another data centre, a router.
    RawSwitch {
        /// The program and its arguments. It gets what is known as JSON on its standard input. Needed, but where servers keep `state`.
        command: List<Text>,
        /// In place of `command`, where servers keep `state`: `pg_promote`, Mainstay promotes the replica that has received the most, and
        /// sends writes there when it says that it is the primary. Without both, Mainstay waits for another server to say so.
        #[schemars(extend("enum" = ["pg_promote"]))]
        promote: Text,
        /// A replica that is further behind is not promoted by Mainstay alone. Only with `promote`.
        #[schemars(extend("default" = "1MiB"))]
        lag_max: Size,
        /// The program that is run before it and sees to it that nothing writes on the old side any more. Without its success
        /// nothing is switched, unless a person vouches for it. Needed for `recovery.level.switch = "automatic"`; where nothing is
        /// written, or `command` does it itself, `["/bin/true"]`. Where servers keep `state`, `{lead}` in it is the name of the one that takes
        /// the writes up to now.
        fence: List<Text>,
        /// The program for the way back, which only a person runs.
        back: List<Text>,
        /// Each of them is killed with all that it started after so long.
        #[schemars(extend("default" = "30s"))]
        deadline: Span,
        /// When: `down`, every primary is unhealthy.
        #[schemars(extend("default" = "down", "enum" = ["down"]))]
        when: Text,
        /// For so long.
        #[schemars(extend("default" = "5s"))]
        after: Span,
    }
}

table! {
    /// How many instances of a server with `command` there are, by what is under way.
    RawScale {
        /// The server. Needed when several have a `command`. Its further instances are called `NAME-2`, `NAME-3`, ….
        server: Text,
        /// At least so many.
        #[schemars(extend("default" = 1))]
        min: Whole,
        /// At most so many. Needed.
        max: Whole,
        /// Requests under way that one instance is meant for. Needed.
        concurrency: Whole,
        /// One is taken away when fewer were enough for so long.
        #[schemars(extend("default" = "5m"))]
        in_after: Span,
    }
}

table! {
    /// How a new release of servers with `command` is tried: see `mainstay deploy`.
    RawDeploy {
        /// The release to begin with, until another one was deployed: what `{release}` stands for in `command` and `dir`.
        release: Text,
        /// The share of the requests that a release on trial gets.
        #[schemars(extend("default" = "20%"))]
        share: Share,
        /// Requests that it must have had before it passes.
        #[schemars(extend("default" = 200))]
        min_requests: Whole,
        /// Time that it must have been on trial before it passes.
        #[schemars(extend("default" = "30s"))]
        min_time: Span,
        /// A trial that is undecided after so long is rolled back.
        #[schemars(extend("default" = "1h"))]
        deadline: Span,
        /// For so long after a deploy an incident of its servers is answered by going back first. `0s`: never.
        #[schemars(extend("default" = "1h"))]
        watch: Span,
        /// Paths that Mainstay asks both releases for, five times a second, while no visitor asks the one on trial.
        ask: List<Text>,
        /// For so long after a promotion one instance of the release before is kept up and gets nothing, so that going back is
        /// a change of weights. `0s`: none.
        #[schemars(extend("default" = "10m"))]
        warm: Span,
        /// Releases that are remembered beside the current one. Their files are never touched.
        #[schemars(extend("default" = 5))]
        keep: Whole,
    }
}

table! {
    /// One server: with `address` it is yours to run, with `command` Mainstay runs it.
    RawServer {
        /// Where it listens, `10.0.0.11:3000` or `app-1.internal:3000`; over TLS `https://app-1.internal:8443`; a Unix socket of this
        /// machine, `unix:/run/app.sock`; or SRV records, each target of which is a server of its own:
        /// `srv+http://_http._tcp.shop.internal`. With `command`: the port it is to use; by default one that
        /// is free.
        address: Address,
        /// The program that Mainstay starts and supervises, with its arguments. `{port}` stands for the port it is to listen on, which is
        /// also in the variable `PORT`; `{release}` for the path of the release that it is to run.
        command: List<Text>,
        /// Its working directory. By default the folder of the config file. Only with `command`.
        dir: Text,
        /// Variables added to Mainstay's own environment. Only with `command`.
        env: Named<Private>,
        /// From SIGTERM to SIGKILL. Only with `command`.
        #[schemars(extend("default" = "10s"))]
        stop_timeout: Span,
        /// A program that is run before its process is ended because it hangs, killed after 3 s; what it writes is kept in the
        /// incident. `{pid}` stands for the process: `["/usr/bin/jstack", "{pid}"]`. Only with `command`.
        capture: List<Text>,
        /// How Mainstay restarts it when it is down. Not with `command`, for then Mainstay does so by itself.
        restart: RawRestart,
        /// Its part of the traffic relative to its fellows, 1 to 100.
        #[schemars(extend("default" = 1))]
        weight: Whole,
        /// Requests under way at it at once, over all workers: what a server with so many worker processes can do. A full one is
        /// passed over; when all of a service's servers are full, requests wait in the service's queue (`limits.queue`).
        concurrent: Whole,
        /// `primary` serves always, `backup` when too few primaries are left.
        #[schemars(extend("default" = "primary", "enum" = ["primary", "backup"]))]
        role: Text,
    }
}

table! {
    /// How people are told.
    RawAlert {
        /// The address of the dashboard as people reach it, for links in messages: to the incident, and to take it on without
        /// logging in.
        dashboard: Text,
        /// Incidents of at least this severity go through all steps of `on-call` and are told by SMS: `degraded` (nobody noticed),
        /// `partial` (some requests failed) or `down`. Below it only mail of the first step is sent, unless a person is needed.
        #[schemars(extend("default" = "partial", "enum" = ["degraded", "partial", "down"]))]
        escalate_from: Text,
        /// Mail. Needs somebody in `on-call`.
        email: RawEmail,
        /// Text messages. Needs somebody in `on-call`, and one of `twilio` and `http`.
        sms: RawSms,
        /// A signed call of your own program or of another service (Standard Webhooks).
        webhook: RawWebhook,
    }
}

table! {
    /// Mail by SMTP.
    RawEmail {
        /// The mail server. `smtps://` is TLS from the first byte (port 465), `smtp://` requires STARTTLS (port 587) except on loopback,
        /// `smtp+plain://` is unprotected (port 25). A user goes in front: `smtps://user@smtp.example.com`.
        smtp: Private,
        /// The user's password.
        password: SecretRef,
        /// A PEM file with the mail server's own certificate authority, beside the public ones.
        ca: Text,
        /// The sender, `mainstay@example.com` or `Mainstay <mainstay@example.com>`.
        from: Text,
    }
}

table! {
    /// Text messages, by one provider.
    RawSms {
        /// Twilio's API, or one that speaks like it.
        twilio: RawTwilio,
        /// Any other provider with an API over HTTP.
        http: RawSmsHttp,
        /// Text messages to one person within an hour, at least 2. The last of them says how many more were held back.
        #[schemars(extend("default" = 10))]
        budget: Whole,
    }
}

table! {
    /// Twilio's API.
    RawTwilio {
        /// The account: `AC` and 32 digits.
        account: Text,
        /// Its auth token.
        token: SecretRef,
        /// The sender: a number, `+15005550006`, a messaging service, `MG…`, or a name of at most 11 letters and digits.
        from: Text,
        /// Where the API is, for another region.
        #[schemars(extend("default" = "https://api.twilio.com"))]
        url: Text,
    }
}

table! {
    /// A provider with an API over HTTP. `url`, `headers` and `body` are templates: `{{ to }}`, `{{ text }}`, `{{ incident }}`,
    /// `{{ kind }}`, `{{ severity }}`, `{{ service }}`, `{{ name }}`, `{{ secret }}`, with `|tojson` (which writes the quotes too)
    /// and `|urlencode`. An answer of 2xx is a message taken, 408, 429 and 5xx are tried again, other refusals are final.
    RawSmsHttp {
        /// Where to: `https://…` or `http://…`.
        url: Private,
        /// The method: `POST`, `PUT` or `GET`.
        #[schemars(extend("default" = "POST", "enum" = ["POST", "PUT", "GET"]))]
        method: Text,
        /// Headers, by their names. `Content-Type` is JSON for a body that begins like it, else that of a form.
        headers: Named<Private>,
        /// The body.
        body: Private,
        /// What `{{ secret }}` stands for.
        secret: SecretRef,
    }
}

table! {
    /// A signed call.
    RawWebhook {
        /// Where to: `https://…` or `http://…`.
        url: Private,
        /// The signing secret, `whsec_…`: 24 to 64 bytes in base64. Without it calls are not signed.
        secret: SecretRef,
    }
}

table! {
    /// A group of people.
    RawOnCall {
        /// Who is told.
        tell: List<RawTell>,
    }
}

table! {
    /// One person.
    RawTell {
        /// A mail address.
        email: Text,
        /// A telephone number with its country: `+491701234567`. Needs `[alert.sms]`.
        sms: Text,
        /// What they are called in the record. By default the address.
        name: Text,
        /// How long nobody may have taken an incident on before they are told.
        #[schemars(extend("default" = "0s"))]
        after: Span,
    }
}

table! {
    /// How long the record is kept.
    RawRecord {
        /// Figures by minute.
        #[schemars(extend("default" = "7d"))]
        minutes: Span,
        /// Figures by hour.
        #[schemars(extend("default" = "2y"))]
        hours: Span,
        /// Every look at a monitor or server, one by one: about two bytes each, and from them the figures of monitors by minute.
        #[schemars(extend("default" = "1y"))]
        results: Span,
        /// Incidents, after they were resolved.
        #[schemars(extend("default" = "5y"))]
        incidents: Span,
        /// What Mainstay was told, by the quarter of a second, so that another config can be tried on it by `mainstay replay`: at most
        /// so many bytes, those of incidents the longest. `"0B"`: none.
        #[schemars(extend("default" = "256MB"))]
        inputs: Size,
    }
}

table! {
    /// How Mainstay finds out whether it sees anything at all, before it calls servers on several machines down for their silence.
    RawObserver {
        /// Places on other machines that are there as long as Mainstay's own network is: an IP address with a port, `1.1.1.1:443`,
        /// or a list of them. When none of them answers, the observer is suspect and not the servers. Without them the default
        /// gateway is asked, and where it cannot be, the resolvers of this machine.
        control: OneOrMany<Text>,
    }
}

table! {
    /// The machine that Mainstay runs on: its processors, memory, disks, network.
    RawHost {
        /// Read its figures each second, keep them, and make an incident of an overload or of a disk that fills. Costs about a
        /// thousandth of a processor.
        #[schemars(extend("default" = true))]
        watch: bool,
        /// Processors busy for more than this share of their time are an incident.
        #[schemars(extend("default" = "90%"))]
        cpu_high: Share,
        /// Less of the memory available than this share is an incident.
        #[schemars(extend("default" = "5%"))]
        memory_low: Share,
        /// For so long, on average, before processors or memory are an incident; a third of it while visitors wait or are turned away.
        #[schemars(extend("default" = "30s"))]
        sustained: Span,
        /// Folders whose file systems are watched too, beside those of `/` and `data`.
        disks: OneOrMany<Text>,
        /// A file system with more of its space or inodes in use is an incident.
        #[schemars(extend("default" = "90%"))]
        disk_full: Share,
        /// One that will be full so soon if it goes on filling is an incident already. `0s`: never.
        #[schemars(extend("default" = "6h"))]
        disk_full_within: Span,
    }
}

table! {
    /// Another machine, `[machine.db-1]`. It is in trouble when `[host]` says so of Mainstay's own.
    RawMachine {
        /// Where its node_exporter answers: `"http://10.0.0.5:9100/metrics"`.
        node_exporter: Text,
        /// IP addresses of the servers that run on it; by default the one of `node-exporter`, if that is written as a number.
        addresses: OneOrMany<Text>,
        /// How often it is asked, `1s` to `60s`.
        #[schemars(extend("default" = "15s"))]
        interval: Span,
    }
}

table! {
    /// A zone that Mainstay answers, `[zone."example.com"]`.
    RawZone {
        /// Its records, in a zone file (RFC 1035).
        file: Text,
        /// Records, each as a line of a zone file: `"www 300 A 192.0.2.1"`. Beside those of `file`.
        records: List<Text>,
        /// Names whose A and AAAA records follow the health of a service: `{ shop = "shop" }`; `"@"` is the zone's own name.
        live: Named<Text>,
        /// TTL of live records while all is well.
        #[schemars(extend("default" = "60s"))]
        ttl: Span,
        /// TTL of live records while something is wrong, so that clients follow soon.
        #[schemars(extend("default" = "5s"))]
        trouble_ttl: Span,
    }
}

table! {
    /// The public status page. It is reached in at least one of the four ways `host`, `path`, `listen` and `folder`, and never on
    /// the admin address.
    RawStatus {
        /// Requests for this host name are answered with it, on the visitors' own ports.
        host: Text,
        /// Requests for this path and below are answered with it, on the visitors' own ports and whatever the host name.
        path: Text,
        /// An address and a port of its own.
        listen: Address,
        /// A folder into which a copy of it is written at each change, for another web server. Relative to the config file.
        folder: Text,
        /// Its address as visitors write it, `https://status.example.com/`, for links in the feed.
        url: Text,
        /// What stands on top of it.
        #[schemars(extend("default" = "Status"))]
        title: Text,
        /// The time zone of its days and times, by its name in the IANA database: `"Europe/Berlin"`.
        #[schemars(extend("default" = "UTC"))]
        zone: Text,
        /// The services that it shows, in this order. By default all of them.
        services: List<Text>,
        /// What visitors call a service, by the service's name; or, with `services`, several of them by a name of your own.
        component: Named<RawComponent>,
        /// Where a visitor finds help.
        support: RawSupport,
    }
}

table! {
    /// Zones that other DNS servers answer.
    RawDns {
        /// The resolver by which Mainstay looks at what visitors are told: an IP address. By default the first of /etc/resolv.conf.
        resolver: Text,
        /// Zones whose own server is told of live addresses, by their names.
        update: Named<RawUpdate>,
    }
}

table! {
    /// A part of the site as visitors know it.
    RawComponent {
        /// What visitors call it. By default its name in this file with a capital.
        name: Text,
        /// What it is for, in a sentence.
        about: Text,
        /// The services that it stands on. By default the one of its name.
        services: List<Text>,
    }
}

table! {
    /// A zone whose own server is told by signed updates (RFC 2136, TSIG with hmac-sha256), `[dns.update."example.com"]`.
    RawUpdate {
        /// The zone's primary server: an IP address, with a port unless it is 53.
        server: Text,
        /// The name of the key.
        key: Text,
        /// The key in base64.
        secret: SecretRef,
        /// Names whose A and AAAA records follow the health of a service: `{ shop = "shop" }`; `"@"` is the zone's own name.
        live: Named<Text>,
        /// TTL of these records while all is well.
        #[schemars(extend("default" = "60s"))]
        ttl: Span,
        /// TTL of these records while something is wrong, so that clients follow soon.
        #[schemars(extend("default" = "5s"))]
        trouble_ttl: Span,
    }
}

table! {
    /// Where a visitor finds help.
    RawSupport {
        /// What is said: `Write to us`.
        text: Text,
        /// Where it leads: `https://…` or `mailto:…`.
        link: Text,
    }
}

table! {
    /// One backup: folders and databases in a repository of restic's format, encrypted, tried out by restoring it.
    RawBackup {
        /// Folder of the repository, made by the first run; best on another disk. Several backups may share one.
        repository: Text,
        /// What the repository is encrypted with. Without it nothing can be restored: keep a copy elsewhere.
        password: SecretRef,
        /// Folders.
        folders: OneOrMany<Text>,
        /// Patterns of what is left out, as in a `.gitignore`.
        exclude: OneOrMany<Text>,
        /// SQLite databases, copied as of one moment while they are in use.
        sqlite: OneOrMany<Text>,
        /// PostgreSQL databases as `postgresql://user@host:5432/database`, dumped with `pg_dump`. A password in it is not shown.
        postgres: OneOrMany<Private>,
        /// Time between two runs.
        #[schemars(extend("default" = "1d"))]
        every: Span,
        /// The time of the day at which it begins, in UTC: `03:15`. Only with whole days. By default `every` after the last one.
        at: Text,
        /// Without a good run for so long it is late, which is an incident. By default one and a half times `every`.
        late_after: Span,
        /// Time between two trials: the newest snapshot is restored to a scratch folder and compared. `0s`: never.
        #[schemars(extend("default" = "7d"))]
        verify_every: Span,
        /// Folder for copies of databases and for trials, with room for all that is backed up. By default `data`.
        scratch: Text,
        /// A run that takes longer is ended.
        #[schemars(extend("default" = "6h"))]
        deadline: Span,
        /// Which snapshots are kept.
        keep: RawKeep,
    }
}

table! {
    /// Which snapshots of a backup are kept; what no rule wants is removed.
    RawKeep {
        /// The newest so many.
        #[schemars(extend("default" = 3))]
        last: Whole,
        /// The newest of each of so many days.
        #[schemars(extend("default" = 7))]
        daily: Whole,
        /// Of each of so many weeks.
        #[schemars(extend("default" = 5))]
        weekly: Whole,
        /// Of each of so many months.
        #[schemars(extend("default" = 12))]
        monthly: Whole,
    }
}
