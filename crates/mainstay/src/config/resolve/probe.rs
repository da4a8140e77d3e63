//! How servers are probed: which kind, its particulars, and what of them makes no sense together.

mod command;
mod dns;
mod http;
mod machine;
mod mail;
mod network;
mod sql;
mod websocket;

use std::sync::Arc;

use mainstay_model::ServiceId;
use mainstay_model::policy::{HealthPolicy, ProbeKind, Protocol};
use regex::bytes::Regex;

use super::service::LEAST;
use super::whole::Resolver;
use super::{Config, Secret};
use crate::config::address;
use crate::config::mistake::Place;
use crate::config::raw::{RawGrpcProbe, RawHealth, RawRedisProbe, RawService, RawTcpProbe};
use crate::config::read::{At, Field, Text, TextOr, TrueOr};

pub use command::CommandProbe;
pub use dns::DnsProbe;
pub use http::{Demand, HttpProbe, JsonTest};
pub use machine::{DockerProbe, SystemdProbe};
pub use mail::SmtpProbe;
pub use network::{CertificateProbe, IcmpProbe};
pub use sql::{MysqlProbe, PostgresProbe, SqlLogin};
pub use websocket::WebSocketProbe;

/// The particulars of a probe: what the prober has to know and the judge need not.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeSpec {
    /// A request in HTTP with more than a path.
    Http(HttpProbe),
    /// gRPC's health service.
    Grpc(GrpcProbe),
    /// Something is said on a connection, and something must be heard.
    Tcp(TcpProbe),
    /// Redis.
    Redis(RedisProbe),
    /// PostgreSQL.
    Postgres(PostgresProbe),
    /// MySQL or MariaDB.
    Mysql(MysqlProbe),
    /// A mail server.
    Smtp(SmtpProbe),
    /// A WebSocket.
    WebSocket(WebSocketProbe),
    /// A certificate.
    Certificate(CertificateProbe),
    /// A ping.
    Icmp(IcmpProbe),
    /// A container.
    Docker(DockerProbe),
    /// A unit of systemd.
    Systemd(SystemdProbe),
    /// A question to DNS.
    Dns(DnsProbe),
    /// A program of the user's.
    Command(CommandProbe),
}

impl ProbeSpec {
    /// It speaks TLS, whatever the addresses of servers say.
    pub fn needs_tls(&self) -> bool {
        self.begins_with_tls()
            || match self {
                ProbeSpec::Tcp(probe) => probe.starttls.is_some(),
                ProbeSpec::Smtp(probe) => probe.starttls,
                ProbeSpec::Postgres(probe) => probe.tls,
                ProbeSpec::Mysql(probe) => probe.tls,
                ProbeSpec::Certificate(_) => true,
                _ => false,
            }
    }

    /// It is TLS from the first byte on; otherwise it begins later, or there is none.
    pub fn begins_with_tls(&self) -> bool {
        match self {
            ProbeSpec::Tcp(probe) => probe.tls,
            ProbeSpec::Redis(probe) => probe.tls,
            ProbeSpec::Smtp(probe) => probe.tls,
            ProbeSpec::WebSocket(probe) => probe.tls,
            ProbeSpec::Certificate(probe) => probe.starttls.is_none(),
            ProbeSpec::Http(_)
            | ProbeSpec::Grpc(_)
            | ProbeSpec::Postgres(_)
            | ProbeSpec::Mysql(_)
            | ProbeSpec::Icmp(_)
            | ProbeSpec::Docker(_)
            | ProbeSpec::Systemd(_)
            | ProbeSpec::Dns(_)
            | ProbeSpec::Command(_) => false,
        }
    }

    /// Which kind the judge knows it as.
    pub fn kind(&self) -> ProbeKind {
        match self {
            ProbeSpec::Http(probe) => ProbeKind::Http { path: probe.path.clone(), host: probe.host.clone() },
            ProbeSpec::Grpc(_) => ProbeKind::Grpc,
            ProbeSpec::Tcp(_) => ProbeKind::Talk,
            ProbeSpec::Redis(_) => ProbeKind::Redis,
            ProbeSpec::Postgres(_) => ProbeKind::Postgres,
            ProbeSpec::Mysql(_) => ProbeKind::Mysql,
            ProbeSpec::Smtp(_) => ProbeKind::Smtp,
            ProbeSpec::WebSocket(_) => ProbeKind::WebSocket,
            ProbeSpec::Certificate(_) => ProbeKind::Certificate,
            ProbeSpec::Icmp(_) => ProbeKind::Icmp,
            ProbeSpec::Docker(_) => ProbeKind::Docker,
            ProbeSpec::Systemd(_) => ProbeKind::Systemd,
            ProbeSpec::Dns(_) => ProbeKind::Dns,
            ProbeSpec::Command(_) => ProbeKind::Command,
        }
    }
}

/// A question to gRPC's health service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrpcProbe {
    /// Whom it is about; empty: the server as a whole.
    pub service: String,
    /// Whom the request is for; `None`: the server's address.
    pub host: Option<String>,
}

/// What is said and heard on a connection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TcpProbe {
    /// TLS from the beginning.
    pub tls: bool,
    /// TLS by a protocol's own command.
    pub starttls: Option<StartTls>,
    /// One after the other.
    pub steps: Vec<Step>,
}

/// Protocols in which TLS begins by a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// Mail.
    Smtp,
    /// Mailboxes.
    Imap,
    /// Mailboxes.
    Pop3,
    /// Files.
    Ftp,
}

/// Something that is said, and what must be heard then.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// Nothing when empty.
    pub send: Vec<u8>,
    /// `None`: nothing is waited for.
    pub expect: Option<Expect>,
}

/// What must be heard.
#[derive(Debug, Clone)]
pub enum Expect {
    /// This text, anywhere.
    Text(String),
    /// What this expression matches, anywhere.
    Pattern(Regex),
}

impl Expect {
    /// It is somewhere in there.
    pub fn is_in(&self, body: &[u8]) -> bool {
        match self {
            Expect::Text(text) => {
                text.is_empty() || body.windows(text.len()).any(|part| part == text.as_bytes())
            }
            Expect::Pattern(pattern) => pattern.is_match(body),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Expect::Text(text) => text,
            Expect::Pattern(pattern) => pattern.as_str(),
        }
    }
}

impl PartialEq for Expect {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Expect::Text(one), Expect::Text(other)) => one == other,
            (Expect::Pattern(one), Expect::Pattern(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

/// A probe of Redis.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisProbe {
    /// `None`: Redis's `default`.
    pub user: Option<String>,
    /// `None`: nobody logs in.
    pub password: Option<Secret>,
    /// What it must be.
    pub role: Option<DataRole>,
    /// A replica must have its primary.
    pub linked: bool,
    /// Over TLS.
    pub tls: bool,
}

/// Which of those that hold the same data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataRole {
    /// It takes writes.
    Primary,
    /// It follows a primary and takes none.
    Replica,
}

impl DataRole {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            DataRole::Primary => "primary",
            DataRole::Replica => "replica",
        }
    }
}

/// A longer conversation is not a probe but a slip.
const STEPS_MOST: usize = 20;

/// What is written as a table, or as `true`, which is a table without keys.
fn wanted<T: Default, R>(field: &Field<TrueOr<T>>, resolve: impl FnOnce(&T) -> R) -> Option<R> {
    match &field.get()?.value {
        TrueOr::Bare(true) => Some(resolve(&T::default())),
        TrueOr::Bare(false) => None,
        TrueOr::Table(table) => Some(resolve(table)),
    }
}

impl Resolver<'_> {
    /// How the servers of a service are probed. The particulars, if there are any, go into the config.
    pub(super) fn health(
        &self,
        id: &ServiceId,
        service: &RawService,
        protocol: Protocol,
        config: &mut Config,
    ) -> HealthPolicy {
        let (absent, default) = (RawHealth::default(), HealthPolicy::default());
        let raw = service.health.get().map_or(&absent, |at| &at.value);
        if let (Some(at), true, Protocol::Http1) = (raw.grpc.get(), service.listen.is_absent(), protocol) {
            let remedy = "write server-protocol = \"http2\" in its service";
            self.mistakes.value(&at.place, "gRPC is spoken in HTTP/2, and these servers are not", remedy);
        }
        let (probe, spec) = self.probe(raw);
        if let Some(spec) = spec {
            let spec = Self::ask_state(service, spec);
            config.probes.insert(id.clone(), Arc::new(spec));
        }
        let fall = self.count(&raw.fall, default.fall, 1..=1000);
        let written = raw.fail.get().and_then(|at| Some((at, self.out_of(at)?)));
        if let Some((at, fail)) = written.filter(|(_, fail)| fail.bad < fall && raw.fall.get().is_some()) {
            let what = format!("{} failures decide before fall = {fall} can", fail.bad);
            self.mistakes.value(&at.place, what, format!("write fall = {} or less, or remove it", fail.bad));
        }
        let fail = written.map(|(_, fail)| fail).or_else(|| HealthPolicy::fail_beside(fall));
        HealthPolicy {
            probe,
            interval: self.duration(&raw.interval, default.interval, LEAST),
            timeout: self.duration(&raw.timeout, default.timeout, LEAST),
            rise: self.count(&raw.rise, default.rise, 1..=1000),
            fall,
            fail,
            reprobe: self.duration(&raw.reprobe, default.reprobe, LEAST),
            ask: self.ask(raw).unwrap_or(default.ask),
        }
    }

    /// What a probe does, whomever it looks at: its kind, and its particulars if it has some.
    pub(super) fn probe(&self, raw: &RawHealth) -> (ProbeKind, Option<ProbeSpec>) {
        self.one_kind(raw);
        let host = self.probe_host(raw, false);
        let spec = self.probe_spec(raw, host.as_ref(), None);
        let kind = spec.as_ref().map_or_else(|| self.plain_probe(raw, host), ProbeSpec::kind);
        (kind, spec)
    }

    /// What is asked beside the probe, if the config says.
    fn ask(&self, raw: &RawHealth) -> Option<Option<String>> {
        let at = raw.ask.get()?;
        if at.value.0 == "never" {
            return Some(None);
        }
        self.path(&at.value.0, &at.place);
        Some(Some(at.value.0.clone()))
    }

    /// A probe is of one kind, and of one at least.
    pub(super) fn one_kind(&self, raw: &RawHealth) {
        fn written<T>(field: &Field<TrueOr<T>>) -> Option<(&Place, bool)> {
            field.get().map(|at| (&at.place, !matches!(at.value, TrueOr::Bare(false))))
        }
        let kinds = [
            ("http", raw.http.get().map(|at| (&at.place, true))),
            ("grpc", written(&raw.grpc)),
            ("tcp", written(&raw.tcp)),
            ("redis", written(&raw.redis)),
            ("postgres", written(&raw.postgres)),
            ("mysql", written(&raw.mysql)),
            ("smtp", written(&raw.smtp)),
            ("websocket", raw.websocket.get().map(|at| (&at.place, true))),
            ("certificate", written(&raw.certificate)),
            ("icmp", written(&raw.icmp)),
            ("docker", raw.docker.get().map(|at| (&at.place, true))),
            ("systemd", raw.systemd.get().map(|at| (&at.place, true))),
            ("dns", raw.dns.get().map(|at| (&at.place, true))),
            ("command", raw.command.get().map(|at| (&at.place, true))),
        ];
        let mut first: Option<&str> = None;
        for (name, place) in kinds.iter().filter_map(|(name, written)| Some((name, (*written)?))) {
            let (place, wanted) = place;
            match first {
                Some(other) if wanted => {
                    let what = format!("a probe is of one kind, and {other} is written too");
                    self.mistakes.value(place, what, "remove one of them");
                }
                _ if wanted => first = Some(name),
                _ => {}
            }
        }
        let off = kinds.iter().find_map(|(name, written)| written.filter(|w| !w.1).map(|w| (name, w.0)));
        if let (None, Some((name, place)), true) = (first, off, raw.http.is_absent()) {
            let remedy = format!("write http = \"/healthz\", or remove {name}");
            self.mistakes.absent(place, "no probe is left", remedy);
        }
    }

    /// What has particulars. `path`: where a URL leads, if there is one.
    pub(super) fn probe_spec(
        &self,
        raw: &RawHealth,
        host: Option<&String>,
        path: Option<&str>,
    ) -> Option<ProbeSpec> {
        if let Some(At { value: TextOr::Table(table), place }) = raw.http.get() {
            return Some(ProbeSpec::Http(self.http_probe(table, place, host, path)));
        }
        if let Some(At { value: TrueOr::Table(table), place }) = raw.tcp.get() {
            return Some(ProbeSpec::Tcp(self.tcp_probe(table, place)));
        }
        if let Some(At { value, place }) = raw.dns.get() {
            return Some(ProbeSpec::Dns(self.dns_probe(value, place)));
        }
        if let Some(At { value, place }) = raw.command.get() {
            return Some(ProbeSpec::Command(self.command_probe(value, place)));
        }
        if let Some(At { value, place }) = raw.websocket.get() {
            return Some(ProbeSpec::WebSocket(self.websocket_probe(value, place, host)));
        }
        if let Some(At { value, place }) = raw.docker.get() {
            return Some(ProbeSpec::Docker(self.docker_probe(value, place)));
        }
        if let Some(unit) = raw.systemd.get() {
            return Some(ProbeSpec::Systemd(self.systemd_probe(unit)));
        }
        let grpc = wanted(&raw.grpc, |table| ProbeSpec::Grpc(self.grpc_probe(table, host)));
        grpc.or_else(|| wanted(&raw.redis, |table| ProbeSpec::Redis(self.redis_probe(table))))
            .or_else(|| wanted(&raw.postgres, |table| ProbeSpec::Postgres(self.postgres_probe(table))))
            .or_else(|| wanted(&raw.mysql, |table| ProbeSpec::Mysql(self.mysql_probe(table))))
            .or_else(|| wanted(&raw.smtp, |table| ProbeSpec::Smtp(self.smtp_probe(table))))
            .or_else(|| {
                wanted(&raw.certificate, |table| ProbeSpec::Certificate(self.certificate_probe(table)))
            })
            .or_else(|| wanted(&raw.icmp, |table| ProbeSpec::Icmp(self.icmp_probe(table))))
    }

    pub(super) fn probe_host(&self, raw: &RawHealth, of_url: bool) -> Option<String> {
        let host = raw.host.get()?;
        if raw.http.is_absent() && raw.grpc.is_absent() && raw.websocket.is_absent() && !of_url {
            let remedy = "write http = \"/healthz\", or remove host";
            self.mistakes.absent(&host.place, "host says nothing without http", remedy);
        }
        self.accept(&host.place, address::host_header(&host.value.0))
    }

    /// What a path or a connection is enough for.
    pub(super) fn plain_probe(&self, raw: &RawHealth, host: Option<String>) -> ProbeKind {
        match raw.http.get() {
            Some(At { value: TextOr::Text(path), place }) => {
                self.path(path, place);
                ProbeKind::Http { path: path.clone(), host }
            }
            _ => ProbeKind::Tcp,
        }
    }

    pub(super) fn path(&self, text: &str, place: &Place) {
        if !text.starts_with('/') {
            let better = format!(
                "/{}",
                text.split_once("://")
                    .map_or(text, |(_, rest)| { rest.split_once('/').map_or("", |(_, path)| path) })
            );
            self.mistakes.value(place, "a path starts with /", format!("write {better:?}"));
        } else if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            self.mistakes.value(place, "not a path", "write spaces and special letters as %20 and the like");
        }
    }

    fn grpc_probe(&self, raw: &RawGrpcProbe, host: Option<&String>) -> GrpcProbe {
        const LONGEST: usize = 100;
        let service = raw.service.get();
        if let Some(at) = service
            && !(1..=LONGEST).contains(&at.value.0.len())
        {
            let what = format!("a service's name has from 1 to {LONGEST} bytes");
            self.mistakes.value(&at.place, what, "write \"shop.v1.Shop\", or remove it");
        }
        GrpcProbe { service: service.map_or_else(String::new, |at| at.value.0.clone()), host: host.cloned() }
    }

    fn tcp_probe(&self, raw: &RawTcpProbe, place: &Place) -> TcpProbe {
        let tls = raw.tls.get().is_some_and(|at| at.value);
        let starttls = self.starttls(&raw.starttls);
        if let (true, Some(at)) = (tls, raw.starttls.get()) {
            let what = "TLS begins with the connection or by a command, not by both";
            self.mistakes.value(&at.place, what, "remove starttls or tls");
        }
        let mut steps = vec![self.step(&raw.send, &raw.expect, &raw.expect_regex)];
        if let Some(then) = raw.then.get() {
            for At { value, place } in &then.value.items {
                let step = self.step(&value.send, &value.expect, &value.expect_regex);
                if step == Step::default() {
                    let remedy = "write { send = \"QUIT\\r\\n\", expect = \"221\" }";
                    self.mistakes.absent(place, "neither send nor expect", remedy);
                }
                steps.push(step);
            }
            if steps.len() > STEPS_MOST {
                let what = format!("more than {STEPS_MOST} steps");
                self.mistakes.value(&then.place, what, "leave out what another step shows");
            }
        }
        steps.retain(|step| *step != Step::default());
        if steps.is_empty() && !tls && starttls.is_none() {
            let remedy = "write expect = \"220\", send and expect, or tcp = true for a connection alone";
            self.mistakes.absent(place, "nothing is said and nothing expected", remedy);
        } else if !steps.is_empty() && steps.iter().all(|step| step.expect.is_none()) {
            let what = "nothing is expected, so a program that hangs would be good";
            self.mistakes.absent(place, what, "write expect = \"…\", what it answers");
        }
        TcpProbe { tls, starttls, steps }
    }

    fn starttls(&self, field: &Field<Text>) -> Option<StartTls> {
        Some(match self.word(field, &["smtp", "imap", "pop3", "ftp"])? {
            "smtp" => StartTls::Smtp,
            "imap" => StartTls::Imap,
            "pop3" => StartTls::Pop3,
            _ => StartTls::Ftp,
        })
    }

    fn step(&self, send: &Field<Text>, text: &Field<Text>, pattern: &Field<Text>) -> Step {
        for at in [send, text, pattern].into_iter().filter_map(Field::get) {
            if at.value.0.is_empty() {
                self.mistakes.value(&at.place, "empty", "write some text, or remove it");
            }
        }
        if let (Some(_), Some(at)) = (text.get(), pattern.get()) {
            let what = "expect is written too";
            self.mistakes.value(&at.place, what, "remove one of them");
        }
        let text = text.get().map(|at| Expect::Text(at.value.0.clone()));
        let pattern = pattern.get().and_then(|at| self.pattern(at)).map(Expect::Pattern);
        let send = send.get().map_or_else(Vec::new, |at| at.value.0.clone().into_bytes());
        Step { send, expect: text.or(pattern) }
    }

    /// A regular expression.
    fn pattern(&self, at: &At<Text>) -> Option<Regex> {
        let refuse = |error: regex::Error| {
            // The library draws the expression over several lines; the last one says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            (format!("not a regular expression: {last}"), "write one, or expect for plain text".to_owned())
        };
        self.accept(&at.place, Regex::new(&at.value.0).map_err(refuse))
    }

    fn redis_probe(&self, raw: &RawRedisProbe) -> RedisProbe {
        if let (Some(user), true) = (raw.user.get(), raw.password.is_absent()) {
            let remedy = "write password = { env = \"REDIS_PASSWORD\" }, or remove user";
            self.mistakes.absent(&user.place, "user says nothing without password", remedy);
        }
        let role = self.data_role(&raw.role);
        let linked = raw.linked.get().is_some_and(|at| at.value);
        if let (Some(DataRole::Primary), true, Some(at)) = (role, linked, raw.linked.get()) {
            let what = "a primary follows nobody";
            self.mistakes.value(&at.place, what, "remove linked, or write role = \"replica\"");
        }
        RedisProbe {
            user: raw.user.get().map(|at| at.value.0.clone()),
            password: self.secret(&raw.password),
            role,
            linked,
            tls: raw.tls.get().is_some_and(|at| at.value),
        }
    }

    fn data_role(&self, field: &Field<Text>) -> Option<DataRole> {
        match self.word(field, &["any", "primary", "replica"])? {
            "primary" => Some(DataRole::Primary),
            "replica" => Some(DataRole::Replica),
            _ => None,
        }
    }

    /// Text that goes out with a NUL at its end.
    fn no_nul(&self, at: &At<Text>) {
        if at.value.0.is_empty() || at.value.0.contains('\0') {
            self.mistakes.value(&at.place, "empty, or with a NUL character in it", "write it without");
        }
    }
}
