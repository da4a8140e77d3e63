//! TCP services: where they listen, by which names they are told apart, and what says nothing for them.

use mainstay_model::carriage::{SendProxy, Tcp};
use mainstay_model::endpoint::UNIX;
use mainstay_model::limits::Subnet;
use mainstay_model::{Endpoint, ServiceId};

use super::whole::Resolver;
use super::{Config, TcpFront};
use crate::config::address;
use crate::config::mistake::Place;
use crate::config::raw::{RawListen, RawService};
use crate::config::read::{At, Field, OneOrMany, Text};

const REMEDY: &str = "write \"tcp://0.0.0.0:5432\"";

impl Resolver<'_> {
    /// Every address of every TCP service; several services may share one.
    pub(super) fn tcp_fronts(&self, services: &[(At<String>, Field<RawService>)], config: &mut Config) {
        let written = services.iter().filter_map(|(name, service)| Some((name, service.get()?)));
        let mut names: Vec<(usize, Option<String>, String)> = Vec::new();
        for (name, service) in written {
            let Some(list) = service.value.listen.get() else { continue };
            if list.value.0.is_empty() {
                self.mistakes.value(&list.place, "no address to listen on", REMEDY);
            }
            let proxies = self.networks(&service.value.proxy_protocol);
            let id = ServiceId::new(name.value.as_str());
            for item in &list.value.0.items {
                let text = item.value.0.as_str();
                let accepted = match text.strip_prefix("tcp://") {
                    Some(text) => address::listen(text).map(Endpoint::Tcp),
                    None if text.starts_with(UNIX) => address::listen_for_visitors(text),
                    None => {
                        let what = "a service's own address is one of TCP; HTTP is listened for in [listen]";
                        Err((what.to_owned(), REMEDY.to_owned()))
                    }
                };
                let Some(address) = self.accept(&item.place, accepted) else { continue };
                let is_it = |front: &TcpFront| front.address == address && address.port() != Some(0);
                let place = config.tcp.iter().position(is_it).unwrap_or_else(|| {
                    self.tcp_address_is_free(&item.place, &address, config);
                    config.tcp.push(TcpFront {
                        address: address.clone(),
                        services: Vec::new(),
                        proxies: Vec::new(),
                    });
                    config.tcp.len() - 1
                });
                let front = &mut config.tcp[place];
                if front.services.contains(&id) {
                    self.mistakes.value(&item.place, "this address stands here twice", "remove one");
                    continue;
                }
                front.services.push(id.clone());
                front.proxies.extend(
                    proxies.iter().filter(|p| !front.proxies.contains(p)).copied().collect::<Vec<_>>(),
                );
                for asked in self.names_of(service) {
                    let taken = names.iter().find(|(p, other, _)| *p == place && *other == asked);
                    if let Some((_, _, other)) = taken {
                        let what = match &asked {
                            Some(host) => format!("connections for {host} go to service {other} already"),
                            None => format!("service {other} takes every connection there already"),
                        };
                        let remedy = "give each of them hosts of its own (names that TLS asks for), or another address";
                        self.mistakes.value(&item.place, what, remedy);
                    }
                    names.push((place, asked, name.value.clone()));
                }
            }
        }
    }

    /// The names that lead to a TCP service; `None`: every connection that no other one has.
    fn names_of(&self, service: &At<RawService>) -> Vec<Option<String>> {
        let Some(at) = service.value.hosts.get() else { return vec![None] };
        // What is wrong in them is said where they are resolved.
        at.value
            .0
            .items
            .iter()
            .map(|item| (item.value.0 != "*").then(|| item.value.0.to_ascii_lowercase()))
            .collect()
    }

    fn tcp_address_is_free(&self, place: &Place, address: &Endpoint, config: &Config) {
        if let Some(other) = config.taken(address) {
            let what = format!("Mainstay listens on {other} already");
            let of_its_own = if other.tcp().is_some() { "a port" } else { "a path" };
            self.mistakes.value(place, what, format!("give each listener {of_its_own} of its own"));
        }
    }

    /// How a TCP service is carried; `None`: it is one of HTTP.
    pub(super) fn tcp(&self, service: &At<RawService>) -> Option<Tcp> {
        let raw = &service.value;
        if raw.listen.is_absent() {
            for (place, key) in [
                (raw.on_down.get().filter(|at| at.value.0 != "close").map(|at| &at.place), "on-down"),
                (raw.proxy_protocol.get().map(|at| &at.place), "proxy-protocol"),
            ] {
                if let Some(place) = place {
                    let what = format!("{key} says nothing without listen");
                    let remedy = "write listen = \"tcp://0.0.0.0:5432\", or remove it (for HTTP: listen.proxy-protocol)";
                    self.mistakes.absent(place, what, remedy);
                }
            }
            return None;
        }
        self.nothing_of_http(raw);
        let close_when_down = self.word(&raw.on_down, &["close", "keep"]) != Some("keep");
        Some(Tcp { close_when_down })
    }

    /// What is about requests says nothing of connections.
    fn nothing_of_http(&self, raw: &RawService) {
        let limits = raw.limits.get().map(|at| &at.value);
        let timeouts = raw.timeouts.get().map(|at| &at.value);
        let places = [
            raw.paths.get().map(|at| &at.place),
            raw.route.get().map(|at| &at.place),
            raw.redirect_https.get().map(|at| &at.place),
            raw.request_headers.get().map(|at| &at.place),
            raw.response_headers.get().map(|at| &at.place),
            raw.sticky.get().map(|at| &at.place),
            raw.retry.get().map(|at| &at.place),
            raw.priority.get().map(|at| &at.place),
            raw.server_protocol.get().map(|at| &at.place),
            raw.hash_by.get().filter(|at| at.value.0 != "visitor").map(|at| &at.place),
            limits.and_then(|limits| limits.adaptive.get()).map(|at| &at.place),
            limits.and_then(|limits| limits.body_max.get()).map(|at| &at.place),
            timeouts.and_then(|timeouts| timeouts.per_try.get()).map(|at| &at.place),
            timeouts.and_then(|timeouts| timeouts.body.get()).map(|at| &at.place),
            timeouts.and_then(|timeouts| timeouts.body_min_rate.get()).map(|at| &at.place),
            timeouts.and_then(|timeouts| timeouts.body_grace.get()).map(|at| &at.place),
        ];
        for place in places.into_iter().flatten() {
            let what = "it is about requests of HTTP, and a service with listen passes connections on unread";
            self.mistakes.absent(place, what, "remove it, or remove listen");
        }
    }

    /// Whether servers are told who a connection comes from.
    pub(super) fn send_proxy(&self, raw: &RawService) -> Option<SendProxy> {
        let protocol = raw.server_protocol.get().filter(|at| at.value.0 == "http2");
        if let (Some(at), Some(_)) = (raw.send_proxy.get(), protocol) {
            let what =
                "a connection in HTTP/2 carries requests of many visitors, so it cannot say whose it is";
            self.mistakes.value(&at.place, what, "remove it, or server-protocol");
        }
        match self.word(&raw.send_proxy, &["v1", "v2"])? {
            "v1" => Some(SendProxy::V1),
            _ => Some(SendProxy::V2),
        }
    }

    /// `listen.proxy-protocol`, and `listen.https-proxy-protocol` where that says otherwise: for the addresses of `http` and of
    /// `https`.
    pub(super) fn front_proxies(&self, listen: &Field<RawListen>) -> (Vec<Subnet>, Vec<Subnet>) {
        let Some(at) = listen.get() else { return (Vec::new(), Vec::new()) };
        if let (Some(own), true) = (at.value.https_proxy_protocol.get(), at.value.https.is_absent()) {
            let what = "https-proxy-protocol says nothing without https";
            self.mistakes.absent(&own.place, what, "write https = \"0.0.0.0:443\", or remove it");
        }
        let both = self.networks(&at.value.proxy_protocol);
        match at.value.https_proxy_protocol.is_absent() {
            true => (both.clone(), both),
            false => (both, self.networks(&at.value.https_proxy_protocol)),
        }
    }

    fn networks(&self, field: &Field<OneOrMany<Text>>) -> Vec<Subnet> {
        field.get().map_or_else(Vec::new, |at| self.subnets(&at.value))
    }
}
