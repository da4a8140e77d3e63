//! Modules: ways to look that whoever asks `/probe` chooses by name, at a target that is named with the question.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::{Endpoint, Whereabouts};
use rustls::pki_types::ServerName;

use super::monitors::{of_address, of_url};
use super::probe::{HttpProbe, IcmpProbe, ProbeSpec};
use super::whole::Resolver;
use super::{Config, ServerAddress};
use crate::config::address::host_and_port;
use crate::config::raw::{RawConfig, RawHealth, RawServerTls};
use crate::config::read::Field;
use crate::tls::servers::BackTls;

/// As a probe of a monitor.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_LEAST: Duration = Duration::from_millis(10);

/// A way to look.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// How; `None`: a connection that is accepted is good.
    pub spec: Option<ProbeSpec>,
    /// So long it may take.
    pub timeout: Duration,
    /// How TLS is spoken, where it is.
    pub tls: BackTls,
}

/// A module at a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Aim {
    /// Where it is.
    pub address: Whereabouts,
    /// How it is looked at.
    pub kind: ProbeKind,
    /// The particulars, if there are some.
    pub spec: Option<Arc<ProbeSpec>>,
    /// TLS is spoken from the beginning.
    pub over_tls: bool,
    /// The name that its certificate must have, where it is looked at by name.
    pub name: Option<ServerName<'static>>,
    /// What is spoken.
    pub protocol: Protocol,
}

impl Module {
    /// Those that are there without being written, by the names that `blackbox_exporter` gives them in its own example.
    pub fn built_in() -> BTreeMap<String, Self> {
        let http = |method: &str| {
            let probe = HttpProbe {
                method: method.to_owned(),
                status: vec![200..=299],
                follow: true,
                ..HttpProbe::default()
            };
            Some(ProbeSpec::Http(probe))
        };
        let all = [
            ("http_2xx", http("GET")),
            ("http_post_2xx", http("POST")),
            ("tcp_connect", None),
            ("icmp", Some(ProbeSpec::Icmp(IcmpProbe { packets: 1, loss_max: 0.0, slow_after: None }))),
        ];
        let module = |spec| Self { spec, timeout: TIMEOUT, tls: BackTls::default() };
        all.into_iter().map(|(name, spec)| (name.to_owned(), module(spec))).collect()
    }

    /// Where and how to look at a target: a URL, or `host` for HTTP; `host:port` for the others, `host` where there is but one port.
    ///
    /// # Errors
    /// What is wrong with the target, and what to write.
    pub fn at(&self, target: &str) -> Result<Aim, String> {
        let said = |(what, remedy): (String, String)| format!("{what}; {remedy}");
        let (target, spec) = match &self.spec {
            Some(ProbeSpec::Http(http)) => {
                let url = if target.contains("://") { target.to_owned() } else { format!("http://{target}") };
                let target = of_url(&url).map_err(said)?;
                let (authority, path) = target.url.clone().unwrap_or_default();
                let host = http.host.clone().or(Some(authority));
                (target, Some(ProbeSpec::Http(HttpProbe { path, host, ..http.clone() })))
            }
            Some(spec) => {
                let port = match spec {
                    ProbeSpec::Dns(_) => Some(53),
                    // It has none, but an address is written with one.
                    ProbeSpec::Icmp(_) => Some(1),
                    _ => None,
                };
                let whole = match (port, host_and_port(target)) {
                    (Some(port), Some((_, None))) => format!("{target}:{port}"),
                    _ => target.to_owned(),
                };
                (of_address(&whole).map_err(said)?, Some(spec.clone()))
            }
            None => (of_address(target).map_err(said)?, None),
        };
        let kind = spec.as_ref().map_or(ProbeKind::Tcp, ProbeSpec::kind);
        let name = match &target.address {
            ServerAddress::Name(host, _) => ServerName::try_from(host.clone()).ok(),
            ServerAddress::Fixed(address) => Some(ServerName::from(address.ip())),
            ServerAddress::Unix(_) | ServerAddress::Srv(_) => None,
        };
        Ok(Aim {
            address: match target.address {
                ServerAddress::Fixed(address) => address.into(),
                ServerAddress::Unix(path) => Endpoint::Unix(path).into(),
                ServerAddress::Name(host, port) => Whereabouts::Named { host: host.into(), port },
                ServerAddress::Srv(_) => return Err("a target is one address".to_owned()),
            },
            protocol: if kind == ProbeKind::Grpc { Protocol::Http2 } else { Protocol::Http1 },
            kind,
            spec: spec.map(Arc::new),
            over_tls: target.tls,
            name: self.tls.name.clone().or(name),
        })
    }
}

impl Resolver<'_> {
    /// All modules; one that is written takes the place of the built-in one of its name.
    pub(super) fn modules(&self, raw: &RawConfig, config: &mut Config) {
        config.modules = Module::built_in();
        let Some(named) = raw.module.get() else { return };
        for (name, module) in &named.value.0 {
            self.accept_name(name);
            let Field::Here(at) = module else { continue };
            let (absent, no_tls) = (RawHealth::default(), RawServerTls::default());
            let probe = at.value.probe.get().map_or(&absent, |at| &at.value);
            self.no_times(probe);
            self.one_kind(probe);
            let host = self.probe_host(probe, true);
            let spec = self.probe_spec(probe, host.as_ref(), Some("/"));
            let spec = spec.or_else(|| match self.plain_probe(probe, host.clone()) {
                ProbeKind::Http { .. } => Some(ProbeSpec::Http(HttpProbe { host, ..HttpProbe::default() })),
                _ => None,
            });
            let by_http = matches!(spec, Some(ProbeSpec::Http(_)));
            let by_grpc = matches!(spec, Some(ProbeSpec::Grpc(_)));
            let tls = at.value.tls.get().map_or(&no_tls, |at| &at.value);
            let module = Module {
                tls: self.back_tls(tls, by_grpc, !by_http && !by_grpc),
                timeout: self.duration(&at.value.timeout, TIMEOUT, TIMEOUT_LEAST),
                spec,
            };
            config.modules.insert(name.value.as_str().to_owned(), module);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(module: &str, target: &str) -> Result<Aim, String> {
        Module::built_in()[module].at(target)
    }

    #[test]
    fn a_target_is_written_as_prometheus_configs_have_it() {
        let aim = at("http_2xx", "https://shop.example.com/health?full=1").unwrap();
        let http = ProbeKind::Http { path: "/health?full=1".into(), host: Some("shop.example.com".into()) };
        assert_eq!((aim.kind, aim.over_tls), (http, true));
        assert_eq!(aim.address, Whereabouts::Named { host: "shop.example.com".into(), port: 443 });
        assert_eq!(aim.name, ServerName::try_from("shop.example.com").ok());
        let aim = at("http_2xx", "10.0.0.1:8080").unwrap();
        assert_eq!(
            (aim.address, aim.over_tls),
            ("10.0.0.1:8080".parse::<std::net::SocketAddr>().unwrap().into(), false)
        );
        assert!(matches!(at("icmp", "10.0.0.1").unwrap().kind, ProbeKind::Icmp));
        assert_eq!(at("tcp_connect", "db.example.com:5432").unwrap().kind, ProbeKind::Tcp);
    }

    #[test]
    fn a_target_that_is_none_is_told_with_what_to_write() {
        for (module, target) in
            [("http_2xx", "http://"), ("tcp_connect", "db.example.com"), ("http_2xx", "ftp://a/")]
        {
            assert!(at(module, target).is_err_and(|why| why.contains("; ")), "{target}");
        }
    }
}
