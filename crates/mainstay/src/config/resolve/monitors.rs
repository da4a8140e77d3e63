//! Monitors: from what was written to what is looked at, and how.

use std::sync::Arc;
use std::time::Duration;

use mainstay_model::heartbeat::{HeartbeatPolicy, Recurs};
use mainstay_model::input::IpFamily;
use mainstay_model::monitor::{MonitorPolicy, OutOf};
use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::{MonitorId, Whereabouts};
use rustls::pki_types::ServerName;

use super::probe::ProbeSpec;
use super::whole::Resolver;
use super::{Config, MonitorSpec, Over, ServerAddress};
use crate::calendar::Schedule;
use crate::config::address::{self, Refusal};
use crate::config::mistake::Place;
use crate::config::raw::{RawConfig, RawHealth, RawHeartbeat, RawMonitor, RawServerTls};
use crate::config::read::{At, Field, Text};
use crate::tls::servers::BackTls;

/// Who is asked more often than that should be a server.
const INTERVAL_LEAST: Duration = Duration::from_secs(1);
/// A shorter one says more about the network's jitter than about what is watched.
const TIMEOUT_LEAST: Duration = Duration::from_millis(10);
/// A longer one is a slip.
const TIMEOUT_MOST: Duration = Duration::from_secs(300);
/// A job that pings more often is a server, and should be looked at.
const EVERY_LEAST: Duration = Duration::from_secs(1);
/// The longest group or tag, in characters.
const WORD_MAX: usize = 64;
/// Tags of one monitor.
const TAGS_MOST: usize = 20;

/// What a monitor looks at.
pub(super) struct Target {
    /// As it is shown.
    shown: String,
    pub(super) address: ServerAddress,
    pub(super) tls: bool,
    /// Of a URL: what the Host header says, and the path.
    pub(super) url: Option<(String, String)>,
}

impl Resolver<'_> {
    /// All monitors.
    pub(super) fn monitors(&self, raw: &RawConfig, config: &mut Config) {
        let Some(named) = raw.monitor.get() else { return };
        let all = &named.value.0;
        if all.len() > MonitorPolicy::MOST {
            let what = format!("{} monitors, and at most {} are watched", all.len(), MonitorPolicy::MOST);
            self.mistakes.key(&named.place, what, "share them out among several Mainstays");
        }
        for (name, monitor) in all {
            self.accept_name(name);
            let Field::Here(at) = monitor else { continue };
            let id = MonitorId::new(name.value.as_str());
            let groups = self.groups(&at.value.on_call, &raw.on_call);
            let resolved = match at.value.heartbeat.get() {
                Some(heartbeat) => self.job(&at.value, heartbeat),
                None => self.monitor(at),
            };
            if let Some((policy, spec)) = resolved {
                config.policy.monitors.insert(id.clone(), MonitorPolicy { on_call: groups, ..policy });
                config.monitors.insert(id, spec);
            }
        }
    }

    /// A job that pings.
    fn job(&self, raw: &RawMonitor, at: &At<RawHeartbeat>) -> Option<(MonitorPolicy, MonitorSpec)> {
        self.only_waited_for(raw);
        let written = &at.value;
        let grace = self.duration(&written.grace, HeartbeatPolicy::GRACE, EVERY_LEAST);
        let zone = written.zone.get().map_or("UTC", |zone| zone.value.0.trim());
        let (group, tags) = (raw.group.get().and_then(|at| self.label(at)), self.tags(raw));
        let (recurs, schedule) = match (&written.every, &written.cron) {
            (Field::Here(_), Field::Here(cron)) => {
                self.mistakes.key(&cron.place, "every is written too", "keep every, or cron");
                return None;
            }
            (Field::Here(_), _) => {
                if let Some(zone) = written.zone.get() {
                    self.mistakes.key(
                        &zone.place,
                        "a zone is that of cron",
                        "remove it, or write cron in place of every",
                    );
                }
                (Recurs::Every(self.duration(&written.every, EVERY_LEAST, EVERY_LEAST)), None)
            }
            (_, Field::Here(cron)) => {
                let text = cron.value.0.trim();
                let place = match (crate::calendar::parse_zone(zone), written.zone.get()) {
                    (Err(_), Some(zone)) => &zone.place,
                    _ => &cron.place,
                };
                let refused = |bad: crate::calendar::BadSchedule| (bad.what, bad.remedy);
                let schedule = self.accept(place, Schedule::parse(text, zone).map_err(refused))?;
                (Recurs::Calendar { cron: text.into(), zone: zone.into() }, Some(schedule))
            }
            (Field::Absent, Field::Absent) => {
                let remedy = "write every = \"1h\", or cron = \"30 3 * * *\"";
                self.mistakes.absent(&at.place, "nothing says when it is to ping", remedy);
                return None;
            }
            _ => return None,
        };
        let policy = MonitorPolicy {
            target: format!("a ping {recurs}").into(),
            heartbeat: Some(HeartbeatPolicy { recurs, grace }),
            group,
            tags,
            ..MonitorPolicy::default()
        };
        Some((policy, MonitorSpec { schedule, ..MonitorSpec::default() }))
    }

    /// Nobody looks at a job that pings.
    fn only_waited_for(&self, raw: &RawMonitor) {
        let looks = [
            ("url", raw.url.get().map(|at| &at.place)),
            ("address", raw.address.get().map(|at| &at.place)),
            ("probe", raw.probe.get().map(|at| &at.place)),
            ("interval", raw.interval.get().map(|at| &at.place)),
            ("timeout", raw.timeout.get().map(|at| &at.place)),
            ("fail", raw.fail.get().map(|at| &at.place)),
            ("recover", raw.recover.get().map(|at| &at.place)),
            ("ip", raw.ip.get().map(|at| &at.place)),
            ("tls", raw.tls.get().map(|at| &at.place)),
        ];
        for (key, place) in looks {
            if let Some(place) = place {
                let what = format!("{key} is of a monitor that is looked at, and this one pings by itself");
                self.mistakes.key(place, what, "remove it, or write a monitor of its own for it");
            }
        }
    }

    fn monitor(&self, at: &At<RawMonitor>) -> Option<(MonitorPolicy, MonitorSpec)> {
        let (raw, default) = (&at.value, MonitorPolicy::default());
        let absent = RawHealth::default();
        let probe = raw.probe.get().map_or(&absent, |at| &at.value);
        self.no_times(probe);
        let interval = self.duration(&raw.interval, default.interval, INTERVAL_LEAST);
        let timeout = self.duration(&raw.timeout, default.timeout, TIMEOUT_LEAST);
        if let Some(written) = raw.timeout.get().filter(|_| timeout > TIMEOUT_MOST) {
            self.mistakes.value(&written.place, "nobody waits so long", "the default is \"10s\"");
        }
        let recover = self.count(&raw.recover, default.recover, 1..=OutOf::OF_MOST);
        let group = raw.group.get().and_then(|at| self.label(at));
        let tags = self.tags(raw);
        let target = self.target(at);
        let (kind, spec) = self.looked_at_by(probe, target.as_ref());
        let tls = self.monitor_tls(&raw.tls, target.as_ref(), &kind, spec.as_ref());
        let target = target?;
        let policy = MonitorPolicy {
            target: target.shown.as_str().into(),
            address: match target.address {
                ServerAddress::Fixed(address) => address.into(),
                ServerAddress::Unix(path) => mainstay_model::Endpoint::Unix(path).into(),
                ServerAddress::Name(host, port) => Whereabouts::Named { host: host.into(), port },
                ServerAddress::Srv(_) => return None,
            },
            protocol: if kind == ProbeKind::Grpc { Protocol::Http2 } else { Protocol::Http1 },
            probe: kind,
            tls: target.tls,
            interval,
            timeout,
            fail: raw.fail.get().and_then(|at| self.out_of(at)).unwrap_or(default.fail),
            recover,
            heartbeat: None,
            needs: Vec::new(),
            front_of: None,
            group,
            tags,
            on_call: None,
        };
        let over = self.over(raw, &policy.address);
        Some((policy, MonitorSpec { spec: spec.map(Arc::new), tls, over, schedule: None }))
    }

    /// Over which addresses it is looked at. Only a name can have more than one.
    fn over(&self, raw: &RawMonitor, address: &Whereabouts) -> Over {
        let Some(at) = raw.ip.get() else { return Over::Any };
        let over = match at.value.0.as_str() {
            "any" => return Over::Any,
            "v4" => Over::One(IpFamily::V4),
            "v6" => Over::One(IpFamily::V6),
            "both" => Over::Both,
            _ => {
                let remedy = "write \"any\", \"v4\", \"v6\" or \"both\"";
                self.mistakes.value(&at.place, "not a kind of addresses", remedy);
                return Over::Any;
            }
        };
        if !matches!(address, Whereabouts::Named { .. }) {
            let remedy = "remove it, or write a name instead of the address";
            self.mistakes.value(&at.place, "what is watched is an address, not a name", remedy);
        }
        over
    }

    /// So many failures of so many.
    pub(super) fn out_of(&self, at: &At<Text>) -> Option<OutOf> {
        self.accept(&at.place, out_of(&at.value.0))
    }

    /// A monitor has one interval and one judgement, beside its probe.
    pub(super) fn no_times(&self, raw: &RawHealth) {
        let times = [
            ("interval", raw.interval.get().map(|at| &at.place), "write interval in the monitor itself"),
            ("timeout", raw.timeout.get().map(|at| &at.place), "write timeout in the monitor itself"),
            ("rise", raw.rise.get().map(|at| &at.place), "write recover = 2 in the monitor itself"),
            ("ask", raw.ask.get().map(|at| &at.place), "remove it; a monitor asks for nothing but its probe"),
            ("fall", raw.fall.get().map(|at| &at.place), "write fail = \"3 of 5\" in the monitor itself"),
            ("fail", raw.fail.get().map(|at| &at.place), "write it in the monitor itself"),
            (
                "reprobe",
                raw.reprobe.get().map(|at| &at.place),
                "remove it; quick looks come after 1, 2 and 4 seconds",
            ),
        ];
        for (key, place, remedy) in times {
            if let Some(place) = place {
                self.mistakes.key(place, format!("{key} is not a part of a monitor's probe"), remedy);
            }
        }
    }

    fn target(&self, at: &At<RawMonitor>) -> Option<Target> {
        let raw = &at.value;
        match (&raw.url, &raw.address) {
            (Field::Here(url), Field::Here(address)) => {
                let remedy = "keep url for HTTP, or address for everything else";
                self.mistakes.value(&address.place, format!("url is written too ({})", url.value.0), remedy);
                None
            }
            (Field::Here(url), _) => self.accept(&url.place, of_url(&url.value.0)),
            (_, Field::Here(address)) => self.accept(&address.place, of_address(&address.value.0)),
            (Field::Absent, Field::Absent) => {
                let remedy = "write url = \"https://example.com/\", address = \"db.example.com:5432\", or heartbeat = { every = \"1h\" }";
                self.mistakes.absent(&at.place, "nothing says what is watched", remedy);
                None
            }
            _ => None,
        }
    }

    fn looked_at_by(&self, raw: &RawHealth, target: Option<&Target>) -> (ProbeKind, Option<ProbeSpec>) {
        let url = target.and_then(|target| target.url.as_ref());
        self.one_kind(raw);
        let written = self.probe_host(raw, url.is_some());
        // Who asks by name says so, as a browser does.
        let host = written.or_else(|| match (url, target) {
            (Some((authority, _)), _) => Some(authority.clone()),
            (None, Some(Target { address: ServerAddress::Name(host, port), .. })) => {
                Some(format!("{host}:{port}"))
            }
            _ => None,
        });
        let path = url.map(|(_, path)| path.as_str());
        if let Some(place) = self.other_kind(raw).filter(|_| url.is_some()) {
            let remedy = "write address = \"host:port\" in place of url, or remove it";
            self.mistakes.key(place, "a URL is looked at by HTTP", remedy);
        }
        if let Some(spec) = self.probe_spec(raw, host.as_ref(), path) {
            return (spec.kind(), Some(spec));
        }
        match (self.plain_probe(raw, host.clone()), path) {
            (ProbeKind::Tcp, Some(path)) => (ProbeKind::Http { path: path.to_owned(), host }, None),
            (kind, _) => (kind, None),
        }
    }

    /// How TLS is spoken with it, if it is.
    fn monitor_tls(
        &self,
        field: &Field<RawServerTls>,
        target: Option<&Target>,
        kind: &ProbeKind,
        spec: Option<&ProbeSpec>,
    ) -> Option<BackTls> {
        let target = target?;
        let follows = matches!(spec, Some(ProbeSpec::Http(http)) if http.follow);
        if !target.tls && !follows && !spec.is_some_and(ProbeSpec::needs_tls) {
            if let Some(written) = field.get() {
                let remedy = "write https:// before it, tls = true in the table of its probe, or remove tls";
                self.mistakes.key(&written.place, "it is not spoken to over TLS", remedy);
            }
            return None;
        }
        let absent = RawServerTls::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let http2 = *kind == ProbeKind::Grpc;
        let tcp = !http2 && !matches!(kind, ProbeKind::Http { .. });
        let tls = self.back_tls(raw, http2, tcp);
        let own = match &target.address {
            ServerAddress::Name(host, _) => ServerName::try_from(host.clone()).ok(),
            ServerAddress::Fixed(address) => Some(ServerName::from(address.ip())),
            ServerAddress::Unix(_) | ServerAddress::Srv(_) => None,
        };
        Some(BackTls { name: tls.name.clone().or(own), ..tls })
    }

    fn tags(&self, raw: &RawMonitor) -> Vec<Arc<str>> {
        let Some(list) = raw.tags.get() else { return Vec::new() };
        if list.value.items.len() > TAGS_MOST {
            let what = format!("more than {TAGS_MOST} tags");
            self.mistakes.value(&list.place, what, "keep those that somebody looks for");
        }
        let mut tags: Vec<Arc<str>> = list.value.items.iter().filter_map(|item| self.label(item)).collect();
        tags.sort();
        tags.dedup();
        tags
    }

    /// A group or a tag.
    fn label(&self, at: &At<Text>) -> Option<Arc<str>> {
        let text = at.value.0.trim();
        let fine =
            !text.is_empty() && text.chars().count() <= WORD_MAX && !text.chars().any(char::is_control);
        let refusal = || {
            let what = format!("a group or a tag is one line of 1 to {WORD_MAX} characters");
            (what, "write \"suppliers\"".to_owned())
        };
        self.accept(&at.place, if fine { Ok(text.into()) } else { Err(refusal()) })
    }

    /// Where a kind other than HTTP is written.
    fn other_kind<'r>(&self, raw: &'r RawHealth) -> Option<&'r Place> {
        use crate::config::read::TrueOr;
        fn wanted<T>(field: &Field<TrueOr<T>>) -> Option<&Place> {
            field.get().filter(|at| !matches!(at.value, TrueOr::Bare(false))).map(|at| &at.place)
        }
        let dns = || raw.dns.get().map(|at| &at.place);
        let command = || raw.command.get().map(|at| &at.place);
        let data = wanted(&raw.redis).or_else(|| wanted(&raw.postgres));
        wanted(&raw.tcp).or(data).or_else(dns).or_else(command)
    }
}

/// `3 of 5`.
fn out_of(text: &str) -> Result<OutOf, Refusal> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let parts = text.split_once(" of ").and_then(|(bad, of)| Some((number(bad)?, number(of)?)));
    match parts {
        Some((bad, of)) if 1 <= bad && bad <= of && of <= OutOf::OF_MOST => Ok(OutOf { bad, of }),
        Some(_) => Err((
            format!(
                "so many of so many: the first is at least 1 and no more than the second, which is at most {}",
                OutOf::OF_MOST
            ),
            "write \"3 of 5\"".to_owned(),
        )),
        None => match number(text) {
            Some(n @ 1..=OutOf::OF_MOST) => {
                Err(("of how many?".to_owned(), format!("write \"{n} of {n}\" for as many in a row")))
            }
            _ => Err(("not a judgement".to_owned(), "write \"3 of 5\"".to_owned())),
        },
    }
}

/// `https://pay.example.com/health`.
pub(super) fn of_url(text: &str) -> Result<Target, Refusal> {
    let refuse = |what: &str, remedy: &str| Err((what.to_owned(), remedy.to_owned()));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err((
            "not a URL".to_owned(),
            format!("write \"https://{text}\", or address for what is not HTTP"),
        ));
    };
    let tls = match scheme {
        "https" => true,
        "http" => false,
        "tcp" | "tls" | "redis" | "postgres" | "postgresql" | "grpc" | "smtp" | "unix" => {
            let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let what = "a URL is looked at by HTTP";
            return Err((
                what.to_owned(),
                format!("write address = \"{place}\", and probe = {{ … }} for how"),
            ));
        }
        _ => return refuse("not a URL of HTTP", "write \"https://example.com/\""),
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) || !text.is_ascii() {
        return refuse("not a URL", "write spaces and special letters as %20 and the like, names as xn--…");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        let remedy = "write probe = { http = { authorization = { env = \"…\" } } }, so that it stays secret";
        return refuse("a password does not belong into a URL", remedy);
    }
    let Some((host, port)) = address::host_and_port(authority).filter(|(host, _)| !host.is_empty()) else {
        return refuse("there is no host in it", "write \"https://example.com/\"");
    };
    let host = address::host_name(host)?;
    let tail = tail.split('#').next().unwrap_or_default();
    let path = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
    let usual = if tls { 443 } else { 80 };
    let authority = match port.filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host.clone(),
    };
    let address = ServerAddress::of(host.trim_matches(['[', ']']), port.unwrap_or(usual));
    Ok(Target { shown: text.to_owned(), address, tls, url: Some((authority, path)) })
}

/// `db.example.com:5432`.
pub(super) fn of_address(text: &str) -> Result<Target, Refusal> {
    if text.starts_with("http://") || (text.starts_with("https://") && text[8..].contains('/')) {
        return Err(("this is a URL".to_owned(), format!("write url = {text:?}")));
    }
    let (address, tls) = address::server_with_scheme(text)?;
    if matches!(address, ServerAddress::Srv(_)) {
        let what = "the name of a service stands for several servers";
        return Err((what.to_owned(), "write the host and port of each".to_owned()));
    }
    if matches!(&address, ServerAddress::Fixed(address) if address.port() == 0) {
        return Err(("nothing listens on port 0".to_owned(), "write its port".to_owned()));
    }
    Ok(Target { shown: text.to_owned(), address, tls, url: None })
}
