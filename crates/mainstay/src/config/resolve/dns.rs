//! DNS: zones that Mainstay answers, zones whose own server it tells, and where visitors reach the services that live names
//! follow. A zone is read and checked here, so that a wrong one is a mistake like any other and the old one stays in force.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hickory_proto::rr::{LowerName, Name};
use mainstay_model::policy::FrontPolicy;
use mainstay_model::{Endpoint, ServiceId};

use super::whole::Resolver;
use super::{Config, DnsConfig, LiveNames, ServerAddress, UpdateConfig, ZoneConfig};
use crate::config::address::{self, Refusal};
use crate::config::mistake::{Place, nearest};
use crate::config::raw::{RawConfig, RawDns, RawListen, RawUpdate, RawZone};
use crate::config::read::{At, Field, Named, OneOrMany, Span, Text};
use crate::dns::zone::{Slip, Spot, Zone};
use crate::dns::zone_file;

/// A longer zone file is a slip.
const FILE_MAX: u64 = 64 << 20;
/// TTL of live records while all is well, and while something is wrong (Route 53's 60 s; gdnsd lowers it, too).
const TTLS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));
/// Names of one service that are watched.
const NAMES_MAX: usize = 8;

impl Resolver<'_> {
    /// All about DNS; after the services, because live names follow them.
    pub(super) fn dns(&self, raw: &RawConfig, config: &mut Config) {
        let zones = self.zones(&raw.zone, config);
        let absent = RawDns::default();
        let dns = raw.dns.get().map_or(&absent, |at| &at.value);
        let updates = self.updates(&dns.update, config);
        let resolver = dns.resolver.get().and_then(|at| self.accept(&at.place, name_server(&at.value.0)));
        let listen = self.dns_listen(raw, config);
        for (zone, update) in zones.iter().flat_map(|z| updates.iter().map(move |u| (z, u))) {
            if *zone.zone.origin() == update.zone {
                let place =
                    Place { key: format!("dns.update.{:?}", plain(&update.zone)), ..Place::default() };
                let what = "Mainstay answers this zone itself, so there is nobody to tell";
                self.mistakes.absent(&place, what, "keep either the zone or dns.update");
            }
        }
        follow(config, zones.iter().map(|z| &z.live).chain(updates.iter().map(|u| &u.live)));
        config.dns = DnsConfig { listen, zones, updates, resolver };
    }

    fn dns_listen(&self, raw: &RawConfig, config: &Config) -> Vec<SocketAddr> {
        let absent = RawListen::default();
        let listen = raw.listen.get().map_or(&absent, |at| &at.value);
        let Some(list) = listen.dns.get() else {
            if let (Field::Here(at), true) = (&raw.zone, listen.dns.is_absent()) {
                let remedy = "write dns = \"0.0.0.0:53\" in [listen]";
                self.mistakes.key(&at.place, "nobody can ask for this zone", remedy);
            }
            return Vec::new();
        };
        if raw.zone.is_absent() {
            let remedy = "write [zone.\"example.com\"] with its records, or remove dns";
            self.mistakes.value(&list.place, "there is no zone to answer", remedy);
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for item in &list.value.0.items {
            let Some(address) = self.accept(&item.place, address::listen(&item.value.0)) else { continue };
            let at = Endpoint::from(address);
            let mut own = addresses.iter().copied().map(Endpoint::from);
            if let Some(other) = config.taken(&at).or_else(|| own.find(|own| address::overlap(own, &at))) {
                let what = format!("{other} is taken already, and DNS needs TCP too");
                self.mistakes.value(&item.place, what, "give each listener a port of its own");
            }
            addresses.push(address);
        }
        addresses
    }

    fn zones(&self, field: &Field<Named<RawZone>>, config: &Config) -> Vec<ZoneConfig> {
        let mut zones = Vec::new();
        for (name, zone) in field.get().map_or(&[][..], |at| &at.value.0) {
            let origin = self.accept(&name.place, zone_name(&name.value));
            let (Some(origin), Field::Here(at)) = (origin, zone) else { continue };
            let raw = &at.value;
            if raw.file.is_absent() && raw.records.is_absent() {
                let remedy =
                    "write file = \"example.com.zone\", or records = [\"@ NS ns1\", \"ns1 A 192.0.2.53\"]";
                self.mistakes.absent(&at.place, "a zone without records", remedy);
                continue;
            }
            let live = self.live(&raw.live, (&raw.ttl, &raw.trouble_ttl), &origin, config);
            zones.extend(self.zone(at, &origin, live));
        }
        zones
    }

    fn zone(&self, at: &At<RawZone>, origin: &Name, live: LiveNames) -> Option<ZoneConfig> {
        let raw = &at.value;
        let mut written = Vec::new();
        let mut slips = Vec::new();
        let file = match raw.file.get() {
            Some(file) => {
                let path = self.base_dir.join(&file.value.0);
                let text = self.accept(&file.place, read_zone(&path))?;
                let (records, wrong) = zone_file::read(&text, origin);
                written.extend(records);
                slips.extend(wrong);
                Some(path)
            }
            None => None,
        };
        let items = raw.records.get().map_or(&[][..], |at| &at.value.items);
        let (records, wrong) = zone_file::read_items(items.iter().map(|item| item.value.0.as_str()), origin);
        written.extend(records);
        slips.extend(wrong);
        let names: Vec<LowerName> = live.names.keys().cloned().collect();
        let zone =
            match slips.is_empty() && !matches!(raw.file, Field::Bad) && !matches!(raw.records, Field::Bad) {
                true => Zone::new(origin, written, &names).map_err(|wrong| slips = wrong).ok(),
                false => None,
            };
        slips.iter().for_each(|slip| self.slip(slip, at, file.as_deref()));
        Some(ZoneConfig { zone: Arc::new(zone?), file, live })
    }

    fn slip(&self, slip: &Slip, at: &At<RawZone>, file: Option<&Path>) {
        let (what, remedy) = (slip.what.clone(), slip.remedy.clone());
        let item = |index: usize| Some(&at.value.records.get()?.value.items.get(index)?.place);
        match (slip.spot, file, at.value.file.get()) {
            (Spot::Line(line), Some(path), Some(written)) => {
                self.mistakes.in_file(&written.place, path.display().to_string(), line, what, remedy);
            }
            (Spot::Whole, Some(path), Some(written)) => {
                self.mistakes.in_file(&written.place, path.display().to_string(), 0, what, remedy);
            }
            (Spot::Item(index), ..) if item(index).is_some() => {
                item(index)
                    .into_iter()
                    .for_each(|place| self.mistakes.value(place, what.clone(), remedy.clone()));
            }
            _ => self.mistakes.key(&at.place, what, remedy),
        }
    }

    fn live(
        &self,
        field: &Field<Named<Text>>,
        ttls: (&Field<Span>, &Field<Span>),
        origin: &Name,
        config: &Config,
    ) -> LiveNames {
        let second = Duration::from_secs(1);
        let mut names = BTreeMap::new();
        for (owner, service) in field.get().map_or(&[][..], |at| &at.value.0) {
            let name = self.accept(&owner.place, live_name(&owner.value, origin));
            let Field::Here(service) = service else { continue };
            let id = ServiceId::new(service.value.0.as_str());
            if !config.policy.services.contains_key(&id) {
                let known = config.policy.services.keys().map(ServiceId::as_str);
                let remedy = match nearest(id.as_str(), known) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!("write [service.{id}], or name another service"),
                };
                self.mistakes.value(&service.place, "there is no such service", remedy);
            }
            if nobody_else_reaches(&id, config) {
                let what =
                    "visitors cannot be led to its servers, which listen on Unix sockets of this machine";
                let remedy =
                    format!("write where visitors reach it: front = [\"192.0.2.10\"] in [service.{id}]");
                self.mistakes.value(&service.place, what, remedy);
            }
            names.extend(name.map(|name| (name, id)));
        }
        LiveNames {
            names,
            ttl: self.duration(ttls.0, TTLS.0, second),
            trouble_ttl: self.duration(ttls.1, TTLS.1, second),
        }
    }

    fn updates(&self, field: &Field<Named<RawUpdate>>, config: &Config) -> Vec<UpdateConfig> {
        let mut updates = Vec::new();
        for (name, update) in field.get().map_or(&[][..], |at| &at.value.0) {
            let zone = self.accept(&name.place, zone_name(&name.value));
            let Field::Here(at) = update else { continue };
            let raw = &at.value;
            let needed = [
                (raw.server.is_absent(), "server", "write server = \"192.0.2.53\", the zone's primary"),
                (raw.key.is_absent(), "key", "write key = \"mainstay\", the name of the TSIG key"),
                (raw.secret.is_absent(), "secret", "write secret = { file = \"/etc/mainstay/dns.key\" }"),
                (raw.live.is_absent(), "live", "write live = { shop = \"shop\" }: a name and its service"),
            ];
            for (_, key, remedy) in needed.iter().filter(|(absent, ..)| *absent) {
                self.mistakes.absent(&at.place, format!("{key} is missing"), *remedy);
            }
            let server = raw.server.get().and_then(|at| self.accept(&at.place, name_server(&at.value.0)));
            let key = raw.key.get().and_then(|at| self.accept(&at.place, key_name(&at.value.0)));
            let secret = self.secret(&raw.secret);
            if let (Some(secret), Some(at)) = (&secret, raw.secret.get()) {
                self.accept(&at.place, tsig_key(secret.reveal()));
            }
            let (Some(zone), Some(server), Some(key), Some(secret)) = (zone, server, key, secret) else {
                continue;
            };
            let live = self.live(&raw.live, (&raw.ttl, &raw.trouble_ttl), &zone, config);
            updates.push(UpdateConfig { zone: LowerName::new(&zone), server, key, secret, live });
        }
        updates
    }

    /// Where visitors reach a service.
    pub(super) fn front(&self, field: &Field<OneOrMany<Text>>, fronts: &[SocketAddr]) -> FrontPolicy {
        let mut front = FrontPolicy::default();
        let usual = fronts.first().map(SocketAddr::port).filter(|port| *port > 0).unwrap_or(80);
        let Some(at) = field.get() else { return front };
        if at.value.0.is_empty() {
            self.mistakes.value(&at.place, "no front address", "write [\"192.0.2.10\"], or leave it out");
        }
        for item in &at.value.0.items {
            let Some(address) = self.accept(&item.place, front_address(&item.value.0, usual)) else {
                continue;
            };
            let own = fronts.iter().any(|listen| is_own(*listen, address));
            if front.addresses.insert(address, own).is_some() {
                self.mistakes.value(&item.place, "this address stands here twice", "remove one");
            }
        }
        front
    }
}

/// Tells each service that names follow it, and which names lead its visitors here.
fn follow<'l>(config: &mut Config, live: impl Iterator<Item = &'l LiveNames>) {
    for (name, service) in live.flat_map(|live| &live.names) {
        if let Some(service) = config.policy.services.get_mut(service) {
            service.front.live = true;
            if !name.is_wildcard() {
                service.front.names.push(plain(name));
            }
        }
    }
    for service in config.policy.services.values_mut() {
        let front = &mut service.front;
        if front.live || !front.addresses.is_empty() {
            let is_name = |host: &&String| !host.starts_with(['[', '*']) && host.parse::<IpAddr>().is_err();
            front.names.extend(service.carriage.hosts.iter().filter(is_name).cloned());
            front.names.sort();
            front.names.dedup();
            front.names.truncate(NAMES_MAX);
        }
    }
}

/// All servers of a service are behind Unix sockets, and it is not said where else it is reached.
fn nobody_else_reaches(id: &ServiceId, config: &Config) -> bool {
    let Some(service) = config.policy.services.get(id) else { return false };
    let is_unix = |name| matches!(config.addresses.get(&id.server(name)), Some(ServerAddress::Unix(_)));
    service.front.addresses.is_empty()
        && !service.servers.is_empty()
        && service.servers.keys().all(|name| is_unix(Arc::clone(name)))
}

/// A name as people write it: without the dot at its end.
fn plain(name: &LowerName) -> String {
    let text = name.to_string();
    text.strip_suffix('.').map_or(text.clone(), str::to_owned)
}

/// Whether visitors who are led to `front` reach Mainstay, which listens on `listen`.
fn is_own(listen: SocketAddr, front: SocketAddr) -> bool {
    let here = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    let every = listen.ip().is_unspecified() && (listen.is_ipv6() || front.is_ipv4());
    listen.port() == front.port() && (listen.ip() == front.ip() || (every && here(front.ip())))
}

fn refuse<T>(what: &str, remedy: &str) -> Result<T, Refusal> {
    Err((what.to_owned(), remedy.to_owned()))
}

fn zone_name(text: &str) -> Result<Name, Refusal> {
    match Name::from_ascii(text) {
        Ok(mut name) if name.num_labels() > 0 && !text.contains(char::is_whitespace) => {
            name.set_fqdn(true);
            Ok(name.to_lowercase())
        }
        _ => refuse("not the name of a zone", "write \"example.com\"; other letters than ASCII as \"xn--…\""),
    }
}

fn live_name(text: &str, origin: &Name) -> Result<LowerName, Refusal> {
    let name = match text {
        "@" => Ok(origin.clone()),
        text => Name::parse(text, Some(origin)),
    };
    match name {
        Ok(mut name) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            name.set_fqdn(true);
            match origin.zone_of(&name) {
                true => Ok(LowerName::new(&name)),
                false => refuse(
                    "this name is not in the zone",
                    "write it without a dot at its end; \"@\" is the zone itself",
                ),
            }
        }
        _ => refuse("not a name", "write \"shop\"; \"@\" is the zone itself"),
    }
}

fn key_name(text: &str) -> Result<LowerName, Refusal> {
    match Name::from_ascii(text) {
        Ok(mut name) if name.num_labels() > 0 && !text.contains(char::is_whitespace) => {
            name.set_fqdn(true);
            Ok(LowerName::new(&name))
        }
        _ => refuse("not the name of a key", "write it as the zone's server has it: \"mainstay\""),
    }
}

/// A DNS server: an IP address, on port 53 unless it says otherwise.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, Refusal> {
    let address = ip_and_port(text, 53).filter(|address| address.port() > 0);
    address.map_or_else(
        || refuse("not the IP address of a DNS server", "write \"192.0.2.53\" or \"192.0.2.53:53\""),
        Ok,
    )
}

fn front_address(text: &str, port: u16) -> Result<SocketAddr, Refusal> {
    match ip_and_port(text, port) {
        Some(address) if address.ip().is_unspecified() || address.port() == 0 => {
            refuse("visitors cannot be led there", "write the address that visitors use: \"192.0.2.10\"")
        }
        Some(address) => Ok(address),
        None => refuse("not an IP address", "write \"192.0.2.10\", or \"192.0.2.10:8080\" with its port"),
    }
}

fn ip_and_port(text: &str, port: u16) -> Option<SocketAddr> {
    let ip = text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    ip.map(|ip| SocketAddr::new(ip, port)).or_else(|| text.parse().ok())
}

fn tsig_key(secret: &str) -> Result<Vec<u8>, Refusal> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(secret.trim());
    match decoded {
        Ok(key) if key.len() >= 16 => Ok(key),
        _ => refuse(
            "not a TSIG key: at least 16 bytes in base64",
            "make one: keymgr -t mainstay hmac-sha256, or tsig-keygen mainstay; put the secret alone there",
        ),
    }
}

fn read_zone(path: &Path) -> Result<String, Refusal> {
    let remedy = || "name a zone file that Mainstay may read".to_owned();
    let cannot = |error: std::io::Error| (format!("cannot read {}: {error}", path.display()), remedy());
    // A pipe or a device would wait for ever or never end.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err((format!("{} is not a file", path.display()), remedy()));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > FILE_MAX => {
            Err((format!("{} is too long for a zone", path.display()), remedy()))
        }
        Ok(_) => String::from_utf8(bytes).map_err(|_| (format!("{} is not text", path.display()), remedy())),
        Err(error) => Err(cannot(error)),
    }
}

impl DnsConfig {
    /// Files that zones are read from.
    pub fn files(&self) -> Vec<PathBuf> {
        self.zones.iter().filter_map(|zone| zone.file.clone()).collect()
    }
}
