//! Services and their servers: from what was written to what the judge and the supervisor need.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::carriage::Carriage;
use mainstay_model::limits::Subnet;
use mainstay_model::policy::{
    Balance, Hedge, OnError, RecoveryPolicy, RetryPolicy, Role, ServerPolicy, ServicePolicy, Timeouts,
    TrafficPolicy, Value,
};
use mainstay_model::{Endpoint, ServerId, ServiceId};

use super::limits::CONCURRENT_MAX;
use super::server_tls::server_names;
use super::whole::Resolver;
use super::{CommandSpec, Config, PID, RELEASE, RestartSpec, ServerAddress};
use crate::config::address;
use crate::config::mistake::{Place, nearest};
use crate::config::raw::{
    RawConfig, RawRecovery, RawRetry, RawServer, RawService, RawTimeouts, RawTraffic, RawValue,
};
use crate::config::read::{Amount, At, Field, Named, Private, Text};
use crate::config::units;
use crate::tls::servers::BackTls;

/// A probe or a try shorter than this says more about the network's jitter than about a server.
pub(super) const LEAST: Duration = Duration::from_millis(10);

/// A session of a TCP service may be silent for so long (HAProxy's usual `timeout tunnel`): pools of connections to databases
/// are, for minutes.
const SESSION_IDLE: Duration = Duration::from_secs(3600);

/// Nobody's hour is worth more; a longer number is a slip.
const WORTH_MOST: f64 = 1e9;

/// A server as meant.
#[derive(Default)]
struct Server {
    policy: ServerPolicy,
    address: Option<ServerAddress>,
    command: Option<CommandSpec>,
    restart: Option<RestartSpec>,
}

impl Resolver<'_> {
    /// Every service with its servers.
    pub(super) fn services(&self, raw: &RawConfig, config: &mut Config) {
        let remedy = "write [service.shop.server.app-1] with address = \"127.0.0.1:3000\"";
        let services = match &raw.service {
            Field::Here(services) if !services.value.0.is_empty() => &services.value.0,
            Field::Bad => return,
            Field::Absent if !raw.monitor.is_absent() => return,
            Field::Absent | Field::Here(_) => {
                let place = Place { key: "service".to_owned(), ..Place::default() };
                self.mistakes.absent(&place, "there is no service", remedy);
                return;
            }
        };
        let trusted_proxies = self.trusted_proxies(&raw.listen);
        self.tcp_fronts(services, config);
        for (name, service) in services {
            self.accept_name(name);
            if let Field::Here(service) = service {
                let id = ServiceId::new(name.value.as_str());
                let mut policy = self.service(&id, service, &trusted_proxies, config);
                policy.on_call = self.groups(&service.value.on_call, &raw.on_call);
                config.policy.services.insert(id, policy);
            }
        }
        self.routes(services, config);
    }

    /// One service for every host, with these servers.
    pub(super) fn only_servers(&self, servers: &[String], config: &mut Config) {
        let id = ServiceId::new("default");
        let mut policy = ServicePolicy::default();
        for (index, text) in servers.iter().enumerate() {
            let place = Place { key: format!("--server {text}"), ..Place::default() };
            let Some((address, tls)) = self.accept(&place, address::server_url(text)) else { continue };
            if matches!(address, ServerAddress::Fixed(address) if address.port() == 0) {
                self.mistakes.key(&place, "no server listens on port 0", "write its port");
            }
            if config.addresses.values().any(|other| *other == address) {
                self.mistakes.key(&place, "this server was given twice", "give each server once");
            }
            self.not_back_here(&place, &address, config);
            let server = id.server(format!("server-{}", index + 1));
            policy.servers.insert(server.name.clone(), ServerPolicy { tls, ..ServerPolicy::default() });
            config.addresses.insert(server, address);
        }
        if policy.servers.values().any(|server| server.tls) {
            let names = server_names(&id, &policy.servers, config);
            config.server_tls.insert(id.clone(), BackTls { names, ..BackTls::default() });
        }
        if servers.is_empty() {
            let place = Place { key: "--server".to_owned(), ..Place::default() };
            self.mistakes.absent(
                &place,
                "no server was given",
                "give at least one, --server http://127.0.0.1:3000",
            );
        }
        config.policy.services.insert(id, policy);
    }

    /// A request must not be sent to Mainstay itself.
    fn not_back_here(&self, place: &Place, address: &ServerAddress, config: &Config) {
        let admin = Endpoint::from(config.admin);
        if config.fronts().chain([&admin]).any(|own| address::leads_back(own, address)) {
            self.mistakes.value(
                place,
                "Mainstay itself listens there, so requests would go round in circles",
                "write the address of the server, or listen elsewhere",
            );
        }
    }

    fn service(
        &self,
        id: &ServiceId,
        at: &At<RawService>,
        trusted_proxies: &[Subnet],
        config: &mut Config,
    ) -> ServicePolicy {
        let (raw, default) = (&at.value, ServicePolicy::default());
        let servers = self.servers(id, at, config);
        let tcp = self.tcp(at);
        let timeouts = match tcp {
            Some(_) => Timeouts { idle: SESSION_IDLE, ..Timeouts::default() },
            None => Timeouts::default(),
        };
        let protocol = self.server_protocol(raw);
        // Before it is known whether TLS is spoken with servers.
        let health = self.health(id, raw, protocol, config);
        self.server_tls(id, at, &servers, protocol, config);
        let carriage = Carriage {
            protocol,
            // How long a server takes to accept says nothing of how busy it is.
            balance: match tcp {
                Some(_) if raw.balance.is_absent() => Balance::LeastRequests,
                _ => self.balance(&raw.balance),
            },
            tcp,
            send_proxy: self.send_proxy(raw),
            hash_by: self.hash_by(raw),
            sticky: raw.sticky.get().and_then(|at| self.sticky(at)),
            timeouts: self.timeouts(&raw.timeouts, timeouts),
            slow_after: self.duration(&raw.slow_after, default.carriage.slow_after, LEAST),
            retry: self.retry(&raw.retry),
            limits: self.limits(at, trusted_proxies),
            drain_timeout: self.duration(&raw.drain_timeout, Carriage::DRAIN_TIMEOUT, Duration::ZERO),
            ..Carriage::default()
        };
        let recovery = self.recovery(&raw.recovery);
        let level = recovery.levels.switch;
        ServicePolicy {
            needs: Vec::new(),
            drill: self.drill(id, at, config),
            carriage: Arc::new(carriage),
            health,
            traffic: self.traffic(&raw.traffic),
            slow_start: self.duration(&raw.slow_start, default.slow_start, Duration::ZERO),
            panic_threshold: self.share(&raw.panic_threshold, default.panic_threshold, 0.0),
            value: raw.value.get().and_then(|at| self.value(at)),
            recovery,
            resolve_after: self.duration(&raw.resolve_after, default.resolve_after, LEAST),
            on_call: None,
            front: self.front(&raw.front, &config.fronts().filter_map(Endpoint::tcp).collect::<Vec<_>>()),
            deploy: self.deploy(at, &servers),
            scale: self.scale(at, &servers),
            replace: self.replace(id, at, &servers, config),
            switch: self.switch(id, at, level, config),
            state: self.state(at),
            servers,
        }
    }

    /// What it is worth; both of its keys are needed.
    fn value(&self, at: &At<RawValue>) -> Option<Value> {
        let raw = &at.value;
        for (missing, name, example) in [
            (raw.per_hour.is_absent(), "per-hour", "per-hour = 1200"),
            (raw.currency.is_absent(), "currency", "currency = \"EUR\""),
        ] {
            if missing {
                self.mistakes.absent(&at.place, format!("{name} is missing"), format!("write {example}"));
            }
        }
        let per_hour = raw.per_hour.get()?;
        // Also refuses what is not a number.
        if !(per_hour.value.0 > 0.0 && per_hour.value.0 <= WORTH_MOST) {
            let remedy = "write what an hour of it brings, or remove `value`";
            self.mistakes.value(
                &per_hour.place,
                "must be more than 0 and at most a thousand millions",
                remedy,
            );
        }
        let currency = raw.currency.get()?;
        let text = currency.value.0.trim();
        if text.is_empty()
            || text.chars().count() > 8
            || text.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            self.mistakes.value(&currency.place, "not a currency", "write its code: \"EUR\"");
        }
        Some(Value { per_hour: per_hour.value.0, currency: text.to_owned() })
    }

    fn traffic(&self, field: &Field<RawTraffic>) -> TrafficPolicy {
        let (absent, default) = (RawTraffic::default(), TrafficPolicy::default());
        let raw = field.get().map_or(&absent, |at| &at.value);
        let policy = TrafficPolicy {
            consecutive_failures: self.count(
                &raw.consecutive_failures,
                default.consecutive_failures,
                1..=100_000,
            ),
            failure_share: self.share(&raw.failure_share, default.failure_share, 0.001),
            min_requests: self.count(&raw.min_requests, default.min_requests, 1..=1_000_000),
            window: self.duration(&raw.window, default.window, Duration::from_secs(1)),
            slow_times: self.slow_times(&raw.slow_times, default.slow_times),
            past_times: self.slow_times(&raw.past_times, default.past_times),
            eject_share: self.share(&raw.eject_share, default.eject_share, 0.0),
            eject_base: self.duration(&raw.eject_base, default.eject_base, LEAST),
            eject_max: self.duration(&raw.eject_max, default.eject_max, LEAST),
        };
        let written = raw.eject_max.get().or(raw.eject_base.get());
        if let Some(at) = written.filter(|_| policy.eject_max < policy.eject_base) {
            self.mistakes.value(
                &at.place,
                "eject-max is shorter than eject-base",
                "make eject-max the longer one",
            );
        }
        policy
    }

    fn slow_times(&self, field: &Field<Amount>, default: f64) -> f64 {
        let Some(at) = field.get() else { return default };
        let times = at.value.0;
        // Also refuses what is not a number.
        if times == 0.0 || (1.5..=1000.0).contains(&times) {
            return times;
        }
        let remedy = "write a number from 1.5 to 1000, or 0 for never";
        self.mistakes.value(&at.place, "servers and hours differ by more than that", remedy);
        default
    }

    /// Deadlines; what is not written is as in `default`.
    pub(super) fn timeouts(&self, field: &Field<RawTimeouts>, default: Timeouts) -> Timeouts {
        let absent = RawTimeouts::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let request = self.duration(&raw.request, default.request, LEAST);
        // Who shortens the whole has shortened its parts.
        let part = |field, default: Duration| self.duration(field, default.min(request), LEAST);
        let timeouts = Timeouts {
            connect: part(&raw.connect, default.connect),
            per_try: part(&raw.per_try, default.per_try),
            request,
            idle: self.duration(&raw.idle, default.idle, LEAST),
            body: self.duration(&raw.body, default.body, LEAST),
            body_min_rate: raw.body_min_rate.get().map_or(default.body_min_rate, |at| at.value.0),
            body_grace: self.duration(&raw.body_grace, default.body_grace, LEAST),
        };
        for (field, value, name) in
            [(&raw.connect, timeouts.connect, "connect"), (&raw.per_try, timeouts.per_try, "per-try")]
        {
            if let Some(at) = field.get()
                && value > request
            {
                let what = format!("{name} is longer than the whole request");
                self.mistakes.value(&at.place, what, format!("make {name} shorter or request longer"));
            }
        }
        timeouts
    }

    fn retry(&self, field: &Field<RawRetry>) -> RetryPolicy {
        /// A larger body would be kept once for each request under way.
        const LARGEST_BODY: u64 = 16 << 20;
        let (absent, default) = (RawRetry::default(), RetryPolicy::default());
        let raw = field.get().map_or(&absent, |at| &at.value);
        let body_max = raw.body_max.get().map_or(default.body_max as u64, |at| {
            if at.value.0 > LARGEST_BODY {
                self.mistakes.value(&at.place, "too much memory for each request", "write at most \"16MiB\"");
            }
            at.value.0
        });
        RetryPolicy {
            max_tries: self.count(&raw.max_tries, default.max_tries, 1..=20),
            budget: self.share(&raw.budget, default.budget, 0.0),
            budget_min: self.count(&raw.budget_min, default.budget_min, 0..=100_000),
            body_max: usize::try_from(body_max).unwrap_or(default.body_max),
            on_5xx: match self.word(&raw.on_5xx, &["safe", "idempotent", "never"]) {
                Some("idempotent") => OnError::Idempotent,
                Some("never") => OnError::Never,
                _ => default.on_5xx,
            },
            hedge: self.hedge(&raw.hedge),
        }
    }

    fn hedge(&self, field: &Field<Text>) -> Option<Hedge> {
        const REMEDY: &str = "write \"p95\" or a time like \"50ms\"";
        let at = field.get()?;
        let text = at.value.0.as_str();
        if let Some(percent) = text.strip_prefix('p') {
            let percent = percent.parse::<u8>().ok().filter(|percent| (50..=99).contains(percent));
            if percent.is_none() {
                self.mistakes.value(&at.place, "a percentile is from p50 to p99", REMEDY);
            }
            return percent.map(Hedge::Percentile);
        }
        match units::duration(text) {
            Ok(delay) if !delay.is_zero() => Some(Hedge::After(delay)),
            Ok(_) => {
                self.mistakes.value(&at.place, "every request would be sent twice", REMEDY);
                None
            }
            Err(bad) => {
                self.mistakes.value(&at.place, bad.what, REMEDY);
                None
            }
        }
    }

    fn recovery(&self, field: &Field<RawRecovery>) -> RecoveryPolicy {
        let (absent, default) = (RawRecovery::default(), RecoveryPolicy::default());
        let raw = field.get().map_or(&absent, |at| &at.value);
        let policy = RecoveryPolicy {
            budget: self.count(&raw.budget, default.budget, 0..=1000),
            budget_window: self.duration(&raw.budget_window, default.budget_window, Duration::from_secs(1)),
            delay_base: self.duration(&raw.delay_base, default.delay_base, LEAST),
            delay_max: self.duration(&raw.delay_max, default.delay_max, LEAST),
            reset_after: self.duration(&raw.reset_after, default.reset_after, LEAST),
            start_grace: self.duration(&raw.start_grace, default.start_grace, Duration::ZERO),
            helped_within: self.duration(&raw.helped_within, default.helped_within, Duration::from_secs(1)),
            levels: self.levels(&raw.level),
        };
        let written = raw.delay_max.get().or(raw.delay_base.get());
        if let Some(at) = written.filter(|_| policy.delay_max < policy.delay_base) {
            self.mistakes.value(
                &at.place,
                "delay-max is shorter than delay-base",
                "make delay-max the longer one",
            );
        }
        policy
    }

    fn servers(
        &self,
        id: &ServiceId,
        at: &At<RawService>,
        config: &mut Config,
    ) -> BTreeMap<Arc<str>, ServerPolicy> {
        let written: &[_] = match &at.value.server {
            Field::Here(servers) => &servers.value.0,
            Field::Absent => &[],
            Field::Bad => return BTreeMap::new(),
        };
        if written.is_empty() {
            let remedy = format!("write [service.{id}.server.app-1] with address = \"127.0.0.1:3000\"");
            self.mistakes.absent(&at.place, "a service without servers", remedy);
        }
        let mut policies = BTreeMap::new();
        for (name, server) in written {
            self.accept_name(name);
            let Field::Here(server) = server else { continue };
            let server_id = id.server(name.value.as_str());
            let server = self.server(&server_id, server, config);
            policies.insert(server_id.name.clone(), server.policy);
            if let Some(restart) = server.restart {
                config.restarts.insert(server_id.clone(), restart);
            }
            match (server.command, server.address) {
                (Some(command), _) => drop(config.commands.insert(server_id, command)),
                (None, Some(address)) => drop(config.addresses.insert(server_id, address)),
                (None, None) => {}
            }
        }
        self.addresses_apart(written);
        let backups = policies.values().filter(|policy| policy.role == Role::Backup).count();
        if backups > 0 && backups == written.len() {
            self.mistakes.absent(
                &at.place,
                "every server is a backup",
                "leave role out of at least one server",
            );
        }
        policies
    }

    fn server(&self, id: &ServerId, at: &At<RawServer>, config: &Config) -> Server {
        let raw = &at.value;
        let address = raw.address.get().and_then(|written| {
            let (address, tls) =
                self.accept(&written.place, address::server_with_scheme(&written.value.0))?;
            self.not_back_here(&written.place, &address, config);
            Some((address, tls))
        });
        let tls = address.as_ref().is_some_and(|(_, tls)| *tls);
        let address = address.map(|(address, _)| address);
        let supervised = !raw.command.is_absent();
        if !supervised {
            self.only_with_command(raw);
            if raw.address.is_absent() {
                self.mistakes.absent(
                    &at.place,
                    "neither address nor command",
                    "write address = \"127.0.0.1:3000\", or command = [\"./shop\", \"--port\", \"{port}\"]",
                );
            }
            if let (Some(written), Some(ServerAddress::Fixed(address))) = (raw.address.get(), &address)
                && address.port() == 0
            {
                self.mistakes.value(&written.place, "no server listens on port 0", "write its port");
            }
        }
        let role = match self.word(&raw.role, &["primary", "backup"]) {
            Some("backup") => Role::Backup,
            _ => Role::Primary,
        };
        let command = if supervised { self.command(raw, address.as_ref()) } else { None };
        let restart = self.restart(id, raw, address.as_ref());
        let (by, version) = restart.as_ref().map(RestartSpec::policy).unzip();
        let policy = ServerPolicy {
            role,
            weight: self.count(&raw.weight, 1, 1..=100),
            concurrent: raw.concurrent.get().map(|_| self.count(&raw.concurrent, 1, 1..=CONCURRENT_MAX)),
            supervised,
            restart: by,
            command_version: command.as_ref().map_or(version.unwrap_or(0), CommandSpec::version),
            releasable: command.as_ref().is_some_and(CommandSpec::has_release),
            tls,
        };
        Server { policy, address, command, restart }
    }

    fn only_with_command(&self, raw: &RawServer) {
        let places = [
            raw.dir.get().map(|at| &at.place),
            raw.env.get().map(|at| &at.place),
            raw.stop_timeout.get().map(|at| &at.place),
            raw.capture.get().map(|at| &at.place),
        ];
        for place in places.into_iter().flatten() {
            self.mistakes.absent(
                place,
                "says nothing without command",
                "write command = [\"./shop\", \"--port\", \"{port}\"], or remove it",
            );
        }
    }

    fn command(&self, raw: &RawServer, address: Option<&ServerAddress>) -> Option<CommandSpec> {
        let command = raw.command.get()?;
        let argv: Vec<String> = command.value.items.iter().map(|item| item.value.0.clone()).collect();
        if argv.first().is_some_and(|program| program.trim().is_empty()) || command.value.is_empty() {
            let remedy = "write [\"./shop\", \"--port\", \"{port}\"]";
            self.mistakes.value(&command.place, "no program to start", remedy);
        }
        for item in command.value.items.iter().filter(|item| item.value.0.contains('\0')) {
            self.mistakes.value(&item.place, "a NUL character cannot be given to a program", "remove it");
        }
        let host = match address {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(ServerAddress::Fixed(address)) => address.ip(),
            Some(ServerAddress::Name(name, _)) if name == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(ServerAddress::Unix(_)) => {
                if let Some(written) = raw.address.get() {
                    let what = "a server that Mainstay starts is told a port to listen on";
                    let remedy = "write address = \"127.0.0.1:3000\", or start it yourself (systemd) and remove command";
                    self.mistakes.value(&written.place, what, remedy);
                }
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            }
            Some(ServerAddress::Srv(_)) => {
                if let Some(written) = raw.address.get() {
                    let remedy = "write address = \"127.0.0.1:3000\", or remove command";
                    let what = "a server that Mainstay starts has one address, and this name may have many";
                    self.mistakes.value(&written.place, what, remedy);
                }
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            }
            Some(ServerAddress::Name(_, port)) => {
                if let Some(written) = raw.address.get() {
                    self.mistakes.value(
                        &written.place,
                        "a server that Mainstay starts needs an IP address of this machine",
                        format!("write \"127.0.0.1:{port}\""),
                    );
                }
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            }
        };
        let port = address.map(|address| match address {
            ServerAddress::Fixed(address) => address.port(),
            ServerAddress::Name(_, port) => *port,
            // Those are mistakes of their own.
            ServerAddress::Srv(_) | ServerAddress::Unix(_) => 0,
        });
        Some(CommandSpec {
            argv,
            port: port.filter(|&port| port > 0),
            host,
            dir: Some(self.dir(&raw.dir)),
            env: raw.env.get().map_or_else(BTreeMap::new, |env| self.variables(&env.value)),
            stop_timeout: self.duration(&raw.stop_timeout, Duration::from_secs(10), Duration::ZERO),
            capture: self.capture(raw),
        })
    }

    fn capture(&self, raw: &RawServer) -> Vec<String> {
        let Some(at) = raw.capture.get() else { return Vec::new() };
        let argv: Vec<String> = at.value.items.iter().map(|item| item.value.0.clone()).collect();
        let remedy = "write [\"/usr/bin/jstack\", \"{pid}\"]";
        if argv.first().is_none_or(|program| program.trim().is_empty()) {
            self.mistakes.value(&at.place, "no program to run", remedy);
        } else if !argv.iter().any(|word| word.contains(PID)) {
            self.mistakes.value(&at.place, "nothing says which process to look at", remedy);
        }
        for item in at.value.items.iter().filter(|item| item.value.0.contains('\0')) {
            self.mistakes.value(&item.place, "a NUL character cannot be given to a program", "remove it");
        }
        argv
    }

    fn dir(&self, field: &Field<Text>) -> PathBuf {
        let Some(at) = field.get() else { return self.base_dir.to_owned() };
        if at.value.0.is_empty() || at.value.0.contains('\0') {
            self.mistakes.value(&at.place, "not a folder", "write \"/srv/shop\", or leave it out");
        }
        if at.value.0.starts_with(RELEASE) {
            return PathBuf::from(&at.value.0);
        }
        self.base_dir.join(&at.value.0)
    }

    fn variables(&self, env: &Named<Private>) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (name, value) in &env.0 {
            if name.value.is_empty() || name.value.contains(['=', '\0']) {
                self.mistakes.key(
                    &name.place,
                    "not a variable's name",
                    "write letters, digits and underscores",
                );
            }
            if name.value == "PORT" {
                let remedy = "remove it; to choose the port write address = \"127.0.0.1:3000\"";
                self.mistakes.key(&name.place, "PORT is set by Mainstay", remedy);
            }
            let Field::Here(value) = value else { continue };
            if value.value.0.contains('\0') {
                self.mistakes.value(
                    &value.place,
                    "a NUL character cannot be given to a program",
                    "remove it",
                );
            }
            variables.insert(name.value.clone(), value.value.0.clone());
        }
        variables
    }

    /// No two servers of a service share an address.
    fn addresses_apart(&self, servers: &[(At<String>, Field<RawServer>)]) {
        let mut written: Vec<(&str, ServerAddress, &Place)> = Vec::new();
        for (name, server) in servers {
            let Some(at) = server.get().and_then(|server| server.value.address.get()) else { continue };
            if let Ok((address, _)) = address::server_with_scheme(&at.value.0) {
                written.push((&name.value, address, &at.place));
            }
        }
        written.sort_by_key(|(_, _, place)| place.span.start);
        for (index, (_, address, place)) in written.iter().enumerate() {
            let free = matches!(address, ServerAddress::Fixed(address) if address.port() == 0);
            let earlier = written[..index].iter().find(|(_, other, _)| other == address && !free);
            if let Some((other, _, _)) = earlier {
                let what = format!("server {other} has this address already");
                self.mistakes.value(place, what, "give each server an address of its own, or remove one");
            }
        }
    }

    pub(super) fn accept_name(&self, name: &At<String>) {
        if let Err((what, remedy)) = address::own_name(&name.value) {
            self.mistakes.key(&name.place, what, remedy);
        }
    }

    /// One of a few words.
    pub(super) fn word(&self, field: &Field<Text>, words: &[&'static str]) -> Option<&'static str> {
        let at = field.get()?;
        self.one_of(&at.value.0, &at.place, words)
    }

    /// The same of what was read already.
    pub(super) fn one_of(
        &self,
        written: &str,
        place: &Place,
        words: &[&'static str],
    ) -> Option<&'static str> {
        let found = words.iter().find(|word| **word == written).copied();
        if found.is_none() {
            let all: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let remedy = match nearest(written, words.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("write {}", all.join(" or ")),
            };
            self.mistakes.value(place, "unknown value", remedy);
        }
        found
    }
}
