//! From the raw config to the resolved one: what is about the program as a whole, and the checks that several parts share.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_model::{Endpoint, Policy};
use mainstay_proxy::Access;
use nix::unistd::{Group, User};

use super::{AdminAccess, Config, Retention, Secret};
use crate::config::address::{self, Refusal};
use crate::config::mistake::{Collector, Place};
use crate::config::raw::{RawAdmin, RawConfig, RawListen, RawRecord, RawService, RawUnix};
use crate::config::read::{Address, At, Field, Share, Span, Text, Whole};
use crate::config::secrets::{self, SecretRef};
use crate::config::units::write_duration;
use crate::config::user_data_dir;

/// What the command line says in place of the config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// In place of `listen.http`; empty: as the config says.
    pub listen: Vec<Endpoint>,
    /// In place of `listen.admin`.
    pub admin: Option<SocketAddr>,
    /// In place of `data`.
    pub data: Option<PathBuf>,
}

/// Where visitors are served unless somebody says otherwise: for this machine only, and without root's help.
pub const DEFAULT_HTTP: SocketAddr = SocketAddr::new(LOOPBACK, 8080);
/// Where the dashboard is unless somebody says otherwise.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 9900);
/// A head is a few hundred bytes; who needs longer is slow on purpose.
const DEFAULT_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Between nginx's 75 s and HAProxy's usual 10 s.
const DEFAULT_CLIENT_IDLE: Duration = Duration::from_secs(60);
/// A journal of inputs that is kept at all has room for some minutes.
const INPUTS_MIN: u64 = 1_000_000;
const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Turns what was written into what was meant and notes every mistake on the way. Where something is wrong it goes on with
/// the default, so that the rest is still checked.
pub(in crate::config) struct Resolver<'a> {
    pub(in crate::config) mistakes: &'a Collector<'a>,
    pub(in crate::config) base_dir: &'a Path,
    pub(in crate::config) env: &'a dyn Fn(&str) -> Option<String>,
    pub(in crate::config) overrides: &'a Overrides,
    /// Variables that secrets were to be read from.
    pub(in crate::config) secret_variables: RefCell<BTreeSet<String>>,
}

/// An address that Mainstay listens on, and who says so.
struct Listener {
    address: Endpoint,
    place: Place,
}

impl<'a> Resolver<'a> {
    pub(in crate::config) fn new(
        mistakes: &'a Collector<'a>,
        base_dir: &'a Path,
        env: &'a dyn Fn(&str) -> Option<String>,
        overrides: &'a Overrides,
    ) -> Self {
        Self { mistakes, base_dir, env, overrides, secret_variables: RefCell::default() }
    }
}

impl Resolver<'_> {
    /// The whole config. It is worth something only when no mistake was noted.
    pub(in crate::config) fn config(&self, raw: &RawConfig) -> Config {
        let mut config = self.frame(raw);
        self.services(raw, &mut config);
        self.monitors(raw, &mut config);
        self.front_checks(raw, &mut config);
        self.modules(raw, &mut config);
        self.maintenance(raw, &mut config);
        self.needs(raw, &mut config);
        self.dns(raw, &mut config);
        self.status(raw, &mut config);
        config.secret_variables = self.secret_variables.take();
        config
    }

    /// A secret that was written, with a note where it comes from.
    pub(super) fn secret(&self, field: &Field<SecretRef>) -> Option<Secret> {
        let variable = field.get().and_then(|at| at.value.variable());
        self.secret_variables.borrow_mut().extend(variable.map(str::to_owned));
        secrets::fetch(field, self.base_dir, self.env, self.mistakes)
    }

    /// The config of nothing but servers.
    pub(in crate::config) fn config_of_servers(&self, servers: &[String]) -> Config {
        let mut config = self.frame(&RawConfig::default());
        self.only_servers(servers, &mut config);
        config
    }

    /// All but the services.
    fn frame(&self, raw: &RawConfig) -> Config {
        let (http, https, (admin, admin_place), pings) = self.listen(&raw.listen, has_http(raw));
        let head_timeout = raw.listen.get().map_or(DEFAULT_HEAD_TIMEOUT, |listen| {
            self.duration(&listen.value.head_timeout, DEFAULT_HEAD_TIMEOUT, Duration::from_secs(1))
        });
        let absent = RawListen::default();
        let listen = raw.listen.get().map_or(&absent, |listen| &listen.value);
        let connections = self.connections(listen);
        let access = self.access(&raw.admin, (admin, &admin_place));
        let (alerts, on_call) = self.alerts(&raw.alert, &raw.on_call);
        let people = alerts.email.is_some() || alerts.sms.is_some() || alerts.webhook.is_some();
        let data = self.data(&raw.data);
        let (host, limits) = self.host(&raw.host, &data);
        let (machine_policies, machines) = self.machines(raw, &limits);
        let (backup_policies, backups) = self.backups(&raw.backup, &data);
        let (proxies, https_proxies) = self.front_proxies(&raw.listen);
        Config {
            http,
            tls: self.tls(&raw.tls, &https, &raw.listen),
            https,
            tcp: Vec::new(),
            proxies,
            https_proxies,
            server_tls: BTreeMap::new(),
            probes: BTreeMap::new(),
            monitors: BTreeMap::new(),
            modules: BTreeMap::new(),
            admin,
            pings,
            unix: self.socket_access(&listen.unix),
            head_timeout,
            client_idle: self.duration(&listen.idle, DEFAULT_CLIENT_IDLE, Duration::from_secs(1)),
            connections,
            clients: self.client_limits(listen, connections, self.trusted_proxies(&raw.listen)),
            access_log: self.access_log(&raw.log),
            access,
            data,
            workers: self.workers(&raw.workers),
            drain: self.duration(&raw.drain, Duration::from_secs(30), Duration::ZERO),
            upgrade_grace: self.duration(&raw.upgrade_grace, Duration::from_secs(600), Duration::ZERO),
            policy: Policy {
                people,
                on_call,
                host: host.is_some().then_some(limits),
                machines: machine_policies,
                control: self.control(&raw.observer),
                backups: backup_policies,
                ..Policy::default()
            },
            addresses: BTreeMap::new(),
            commands: BTreeMap::new(),
            restarts: BTreeMap::new(),
            switches: BTreeMap::new(),
            replaces: BTreeMap::new(),
            secret_variables: BTreeSet::new(),
            alerts,
            retention: self.retention(&raw.record),
            host,
            machines,
            dns: super::DnsConfig::default(),
            backups,
            maintenance: BTreeMap::new(),
            drills: BTreeMap::new(),
            status: None,
        }
    }

    /// In the clear, over TLS, and the admin address.
    fn listen(
        &self,
        field: &Field<RawListen>,
        has_http: bool,
    ) -> (Vec<Endpoint>, Vec<Endpoint>, (SocketAddr, Place), Option<SocketAddr>) {
        let absent = RawListen::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let option = |flag: &str| Place { key: flag.to_owned(), ..Place::default() };
        let default = |key: &str| option(&format!("listen.{key}"));

        let mut http: Vec<Listener> = Vec::new();
        let mut https: Vec<Listener> = Vec::new();
        if let Some(list) = raw.https.get() {
            if list.value.0.is_empty() {
                self.mistakes.value(&list.place, "no address to serve visitors on", "write \"0.0.0.0:443\"");
            }
            let items = list.value.0.items.iter();
            https.extend(items.filter_map(|item| self.listener(&item.value, &item.place)));
        }
        if !self.overrides.listen.is_empty() {
            let given = |address: &Endpoint| Listener { address: address.clone(), place: option("--listen") };
            http.extend(self.overrides.listen.iter().map(given));
        } else if let Some(list) = raw.http.get() {
            if list.value.0.is_empty() {
                self.mistakes.value(&list.place, "no address to serve visitors on", "write \"0.0.0.0:80\"");
            }
            let items = list.value.0.items.iter();
            http.extend(items.filter_map(|item| self.listener(&item.value, &item.place)));
        } else if raw.http.is_absent() && raw.https.is_absent() && has_http {
            http.push(Listener { address: DEFAULT_HTTP.into(), place: default("http") });
        }
        let admin = match (self.overrides.admin, raw.admin.get()) {
            (Some(address), _) => (address, option("--admin")),
            (None, Some(at)) => match self.accept(&at.place, address::listen(&at.value.0)) {
                Some(address) => (address, at.place.clone()),
                None => (DEFAULT_ADMIN, default("admin")),
            },
            (None, None) => (DEFAULT_ADMIN, default("admin")),
        };
        let last = Listener { address: admin.0.into(), place: admin.1.clone() };
        let pings = raw.pings.get().and_then(|at| {
            let address = self.accept(&at.place, address::listen(&at.value.0))?;
            Some((address, Listener { address: address.into(), place: at.place.clone() }))
        });
        let own = pings.as_ref().map(|(_, listener)| listener);
        self.listeners_apart(http.iter().chain(&https).chain([&last]).chain(own).collect());
        let addresses = |listeners: Vec<Listener>| listeners.into_iter().map(|l| l.address).collect();
        (addresses(http), addresses(https), admin, pings.map(|(address, _)| address))
    }

    fn listener(&self, address: &Address, place: &Place) -> Option<Listener> {
        let address = self.accept(place, address::listen_for_visitors(&address.0))?;
        Some(Listener { address, place: place.clone() })
    }

    /// No two listeners share an address.
    fn listeners_apart(&self, all: Vec<&Listener>) {
        for (index, later) in all.iter().enumerate() {
            let Some(earlier) = all[..index].iter().find(|l| address::overlap(&l.address, &later.address))
            else {
                continue;
            };
            // The one that was written carries the blame, not a default.
            let (at, other) = match later.place.span.is_empty() {
                true => (earlier, later),
                false => (later, earlier),
            };
            let what = format!("{} is taken by {} already", at.address, other.place.key);
            let what = match at.address == other.address {
                true => what,
                false => format!("{what} ({})", other.address),
            };
            let both = [&at.address, &other.address];
            let is_every = |a: &&&Endpoint| a.ip().is_some_and(|ip| ip.is_unspecified() && ip.is_ipv6());
            let remedy = match both.iter().find(is_every) {
                Some(every) => {
                    format!("keep {:?} alone, which takes IPv4 too, or use another port", every.to_string())
                }
                None if at.address.tcp().is_none() => "give each listener a path of its own".to_owned(),
                None => "give each listener a port of its own".to_owned(),
            };
            self.mistakes.value(&at.place, what, remedy);
        }
    }

    /// Who may connect to the Unix sockets that are listened at.
    fn socket_access(&self, field: &Field<RawUnix>) -> Access {
        let (absent, default) = (RawUnix::default(), Access::default());
        let raw = field.get().map_or(&absent, |at| &at.value);
        let refusal = |what: &str, name: &str, example: &str| {
            Err((format!("there is no {what} {name}"), format!("write {example}, or make it")))
        };
        let id_of = |at: &At<Text>, what: &str, example: &str, found: Option<u32>| {
            let id = found.or_else(|| at.value.0.parse().ok());
            self.accept(&at.place, id.map_or_else(|| refusal(what, &at.value.0, example), Ok))
        };
        let user = raw.user.get().and_then(|at| {
            let found = User::from_name(&at.value.0).ok().flatten().map(|user| user.uid.as_raw());
            id_of(at, "user", "\"mainstay\"", found)
        });
        let group = raw.group.get().and_then(|at| {
            let found = Group::from_name(&at.value.0).ok().flatten().map(|group| group.gid.as_raw());
            id_of(at, "group", "\"www-data\"", found)
        });
        let mode = raw.mode.get().and_then(|at| {
            let mode = u32::from_str_radix(&at.value.0, 8).ok().filter(|mode| *mode <= 0o777);
            let refusal = (
                "not a mode".to_owned(),
                "write \"660\" for user and group, or \"666\" for everybody".to_owned(),
            );
            self.accept(&at.place, mode.ok_or(refusal))
        });
        Access { mode: mode.unwrap_or(default.mode), user, group }
    }

    fn access(&self, field: &Field<RawAdmin>, (admin, place): (SocketAddr, &Place)) -> AdminAccess {
        const SHORTEST: usize = 8;
        let absent = RawAdmin::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let fetch = |field| {
            let secret = self.secret(field)?;
            if secret.reveal().chars().count() < SHORTEST
                && let Some(at) = field.get()
            {
                self.mistakes.value(
                    &at.place,
                    "too short to be safe",
                    format!("use at least {SHORTEST} characters"),
                );
            }
            Some(secret)
        };
        let access = AdminAccess { token: fetch(&raw.token), password: fetch(&raw.password) };
        let written = !raw.token.is_absent() || !raw.password.is_absent() || matches!(field, Field::Bad);
        if !admin.ip().is_loopback() && !written {
            self.mistakes.absent(
                place,
                "everybody who reaches this address could drain your servers",
                "set admin.token = { env = \"MAINSTAY_TOKEN\" } or admin.password = { file = \"/etc/mainstay/password\" }, or listen on 127.0.0.1",
            );
        }
        access
    }

    fn data(&self, field: &Field<crate::config::read::Text>) -> PathBuf {
        if let Some(data) = &self.overrides.data {
            return data.clone();
        }
        if let Some(at) = field.get() {
            if at.value.0.is_empty() || at.value.0.contains('\0') {
                self.mistakes.value(&at.place, "not a folder", "write \"/var/lib/mainstay\"");
            }
            return self.base_dir.join(&at.value.0);
        }
        if matches!(field, Field::Bad) {
            return PathBuf::new();
        }
        user_data_dir(self.env).unwrap_or_else(|| {
            let place = Place { key: "data".to_owned(), ..Place::default() };
            self.mistakes.absent(
                &place,
                "there is no home folder to keep the record in",
                "write data = \"/var/lib/mainstay\"",
            );
            PathBuf::new()
        })
    }

    fn workers(&self, field: &Field<Whole>) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        usize::try_from(self.whole(field, processors as u64, 1..=1024)).unwrap_or(processors)
    }

    fn retention(&self, field: &Field<RawRecord>) -> Retention {
        const HOUR: Duration = Duration::from_secs(3600);
        let absent = RawRecord::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let default = Retention::default();
        Retention {
            minutes: self.duration(&raw.minutes, default.minutes, HOUR),
            hours: self.duration(&raw.hours, default.hours, 24 * HOUR),
            results: self.duration(&raw.results, default.results, HOUR),
            incidents: self.duration(&raw.incidents, default.incidents, 24 * HOUR),
            inputs: raw.inputs.get().map_or(default.inputs, |at| {
                let bytes = at.value.0;
                if (1..INPUTS_MIN).contains(&bytes) {
                    let remedy = "write at least \"1MB\", or \"0B\" to keep none";
                    self.mistakes.value(&at.place, "too little to keep a minute in", remedy);
                }
                bytes
            }),
        }
    }

    /// What was accepted; a refusal is noted.
    pub(super) fn accept<T>(&self, place: &Place, result: Result<T, Refusal>) -> Option<T> {
        result.map_err(|(what, remedy)| self.mistakes.value(place, what, remedy)).ok()
    }

    /// A duration of at least `least`.
    pub(super) fn duration(&self, field: &Field<Span>, default: Duration, least: Duration) -> Duration {
        let Some(at) = field.get() else { return default };
        let value = at.value.0;
        if value < least {
            let what = match value.is_zero() {
                true => "must be more than 0".to_owned(),
                false => format!("must be at least {}", write_duration(least)),
            };
            self.mistakes.value(&at.place, what, format!("the default is {:?}", write_duration(default)));
        }
        value
    }

    /// A whole number in a range.
    pub(super) fn whole(&self, field: &Field<Whole>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(at) = field.get() else { return default };
        if !range.contains(&at.value.0) {
            let what = format!("must be from {} to {}", range.start(), range.end());
            self.mistakes.value(&at.place, what, format!("the default is {default}"));
        }
        at.value.0
    }

    /// As [`Resolver::whole`], for the judge's counts. The range ends far below its type's.
    pub(super) fn count(&self, field: &Field<Whole>, default: u32, range: RangeInclusive<u32>) -> u32 {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.whole(field, u64::from(default), range)).unwrap_or(default)
    }

    /// A share from `least` to 1.
    pub(super) fn share(&self, field: &Field<Share>, default: f64, least: f64) -> f64 {
        let Some(at) = field.get() else { return default };
        let value = at.value.0;
        // Also refuses what is not a number.
        if !(least..=1.0).contains(&value) {
            let remedy = match value > 1.0 && value <= 100.0 && value.fract() == 0.0 {
                true => format!("write \"{value}%\" or {}", value / 100.0),
                false => format!("the default is \"{}%\"", default * 100.0),
            };
            let what = match value {
                0.0 => "must be more than 0".to_owned(),
                value if value > 0.0 && value < least => format!("must be at least {}%", least * 100.0),
                _ => "a share is from 0% to 100%".to_owned(),
            };
            self.mistakes.value(&at.place, what, remedy);
        }
        value
    }
}

/// Not every service is one of TCP.
fn has_http(raw: &RawConfig) -> bool {
    let services = raw.service.get().map_or(&[][..], |services| &services.value.0);
    let is_tcp = |service: &Field<RawService>| service.get().is_some_and(|at| !at.value.listen.is_absent());
    match services {
        // Who only watches serves nobody.
        [] => raw.monitor.is_absent(),
        services => !services.iter().all(|(_, service)| is_tcp(service)),
    }
}
