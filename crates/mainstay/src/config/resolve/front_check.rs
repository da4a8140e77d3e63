//! Looks at a service as its visitors see it: a monitor at Mainstay's own front door.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::monitor::{MonitorPolicy, OutOf};
use mainstay_model::needs::Needed;
use mainstay_model::{Endpoint, MonitorId, ServiceId};
use mainstay_proxy::own_request_id;
use rustls::pki_types::ServerName;

use super::probe::{HttpProbe, ProbeSpec};
use super::whole::Resolver;
use super::{Config, MonitorSpec, Over, Secret};
use crate::config::address;
use crate::config::mistake::Place;
use crate::config::raw::{RawConfig, RawFrontCheck, RawServerTls};
use crate::config::read::{At, Field, TextOr};
use crate::tls::servers::BackTls;

/// Between two looks, unless somebody says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
const INTERVAL_LEAST: Duration = Duration::from_secs(1);
const TIMEOUT_LEAST: Duration = Duration::from_millis(10);

impl Resolver<'_> {
    /// `front-check` of services; after services and monitors are known.
    pub(super) fn front_checks(&self, raw: &RawConfig, config: &mut Config) {
        for (name, service) in raw.service.get().map_or(&[][..], |named| &named.value.0) {
            let Field::Here(service) = service else { continue };
            let Some(check) = service.value.front_check.get() else { continue };
            let id = MonitorId::new(format!("{}-front", name.value));
            if config.policy.monitors.contains_key(&id) {
                let remedy = "give that monitor another name";
                self.mistakes.key(&check.place, format!("there is a monitor {id} already"), remedy);
                continue;
            }
            if let Some((policy, spec)) =
                self.front_check(&ServiceId::new(name.value.as_str()), check, config)
            {
                config.policy.monitors.insert(id.clone(), policy);
                config.monitors.insert(id, spec);
            }
        }
    }

    fn front_check(
        &self,
        id: &ServiceId,
        At { value: raw, place }: &At<RawFrontCheck>,
        config: &Config,
    ) -> Option<(MonitorPolicy, MonitorSpec)> {
        let default = MonitorPolicy { interval: INTERVAL, ..MonitorPolicy::default() };
        let service = config.policy.services.get(id)?;
        if service.carriage.tcp.is_some() {
            let remedy = "remove it, or write a monitor with address = \"127.0.0.1:5432\"";
            self.mistakes.key(place, "a TCP service is not asked by HTTP", remedy);
            return None;
        }
        let written = raw.host.get().and_then(|at| self.accept(&at.place, address::host_header(&at.value.0)));
        let host =
            written.or_else(|| service.carriage.hosts.iter().find(|host| !host.contains('*')).cloned());
        let (address, tls) = self.door(config, place)?;
        if tls && host.is_none() {
            let remedy = "write host = \"shop.example.com\"";
            self.mistakes.key(place, "no host says which certificate is to be shown", remedy);
            return None;
        }
        let mut http = match raw.http.get() {
            Some(At { value: TextOr::Table(table), place }) => {
                self.http_probe(table, place, host.as_ref(), None)
            }
            Some(At { value: TextOr::Text(path), place }) => {
                self.path(path, place);
                HttpProbe { path: path.clone(), host: host.clone(), ..HttpProbe::default() }
            }
            None => HttpProbe { host: host.clone(), ..HttpProbe::default() },
        };
        // By which the data plane knows that it is nobody's visit.
        http.headers.push(("X-Request-Id".to_owned(), Secret::new(own_request_id().to_owned())));
        let scheme = if tls { "https" } else { "http" };
        let shown = host.clone().unwrap_or_else(|| address.to_string());
        let spec = ProbeSpec::Http(http);
        let policy = MonitorPolicy {
            target: format!("{scheme}://{shown} at {address}, the front door of {id}").into(),
            address: address.into(),
            probe: spec.kind(),
            tls,
            interval: self.duration(&raw.interval, default.interval, INTERVAL_LEAST),
            timeout: self.duration(&raw.timeout, default.timeout, TIMEOUT_LEAST),
            fail: raw.fail.get().and_then(|at| self.out_of(at)).unwrap_or(default.fail),
            recover: self.count(&raw.recover, default.recover, 1..=OutOf::OF_MOST),
            needs: vec![Needed::Service(id.clone())],
            front_of: Some(id.clone()),
            on_call: service.on_call.clone(),
            ..default
        };
        let tls = self.door_tls(&raw.tls, tls, host.as_deref());
        Some((policy, MonitorSpec { spec: Some(Arc::new(spec)), tls, over: Over::Any, schedule: None }))
    }

    /// Where visitors come in, as seen from this machine, and whether over TLS.
    fn door(&self, config: &Config, place: &Place) -> Option<(SocketAddr, bool)> {
        let first = |listeners: &[Endpoint]| listeners.iter().find_map(Endpoint::tcp);
        let secured = first(&config.https).map(|address| (address, true));
        let Some((address, tls)) = secured.or_else(|| first(&config.http).map(|address| (address, false)))
        else {
            let remedy = "write listen.http = \"127.0.0.1:8080\" too, or remove it";
            self.mistakes.key(place, "visitors come by Unix sockets alone", remedy);
            return None;
        };
        if address.port() == 0 {
            self.mistakes.key(place, "the port that visitors come to is not known", "write it in listen");
            return None;
        }
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv6Addr::LOCALHOST.into(),
        };
        let proxies = if tls { &config.https_proxies } else { &config.proxies };
        if proxies.iter().any(|proxies| proxies.contains(Some(ip))) {
            let what = "this machine itself is expected to speak the PROXY protocol first";
            self.mistakes.key(place, what, "take 127.0.0.1 out of proxy-protocol, or remove it");
            return None;
        }
        Some((SocketAddr::new(ip, address.port()), tls))
    }

    fn door_tls(&self, field: &Field<RawServerTls>, tls: bool, host: Option<&str>) -> Option<BackTls> {
        if !tls {
            if let Some(written) = field.get() {
                self.mistakes.key(&written.place, "visitors are not served over TLS", "remove it");
            }
            return None;
        }
        let absent = RawServerTls::default();
        let tls = self.back_tls(field.get().map_or(&absent, |at| &at.value), false, false);
        let name = host.and_then(|host| {
            let host = host
                .rsplit_once(':')
                .filter(|(_, port)| port.parse::<u16>().is_ok())
                .map_or(host, |(h, _)| h);
            ServerName::try_from(host.to_owned()).ok()
        });
        Some(BackTls { name: tls.name.clone().or(name), ..tls })
    }
}
