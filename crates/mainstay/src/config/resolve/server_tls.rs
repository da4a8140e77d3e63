//! What servers speak, and how TLS is spoken with them: files are read and checked here, so that a wrong one is a mistake like
//! any other and the old one stays in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_model::policy::{Protocol, ServerPolicy};
use mainstay_model::{ServerId, ServiceId};
use rustls::pki_types::ServerName;

use super::whole::Resolver;
use super::{Config, ServerAddress};
use crate::config::address;
use crate::config::raw::{RawServerTls, RawService};
use crate::config::read::{At, Text};
use crate::tls::certificate::{Authorities, Certificate};
use crate::tls::front::Version;
use crate::tls::servers::BackTls;

impl Resolver<'_> {
    /// What the servers of a service speak.
    pub(super) fn server_protocol(&self, raw: &RawService) -> Protocol {
        match self.word(&raw.server_protocol, &["http1", "http2"]) {
            Some("http2") => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }

    /// How TLS is spoken with those of its servers that speak it.
    pub(super) fn server_tls(
        &self,
        id: &ServiceId,
        at: &At<RawService>,
        servers: &BTreeMap<Arc<str>, ServerPolicy>,
        protocol: Protocol,
        config: &mut Config,
    ) {
        let written = at.value.server_tls.get();
        let probed = probed_over_tls(id, config);
        if !probed && !servers.values().any(|server| server.tls) {
            let says_much = |at: &&At<RawServerTls>| {
                let raw = &at.value;
                [&raw.ca, &raw.name, &raw.certificate].iter().any(|field| !field.is_absent())
                    || raw.verify.get().is_some_and(|at| !at.value)
            };
            if let (Some(written), false) = (written.filter(says_much), servers.is_empty()) {
                let remedy = match at.value.listen.is_absent() {
                    true => "write address = \"https://app-1.internal:8443\" for a server that speaks TLS",
                    false => {
                        "write tls = true in the table of its probe, or remove it: connections are passed on unread"
                    }
                };
                self.mistakes.key(&written.place, "none of the servers is spoken to over TLS", remedy);
            }
            return;
        }
        let absent = RawServerTls::default();
        let raw = written.map_or(&absent, |at| &at.value);
        let tls = self.back_tls(raw, protocol == Protocol::Http2, !at.value.listen.is_absent());
        let tls = BackTls { names: server_names(id, servers, config), ..tls };
        config.server_tls.insert(id.clone(), tls);
    }

    /// How TLS is spoken, as written.
    pub(super) fn back_tls(&self, raw: &RawServerTls, http2: bool, tcp: bool) -> BackTls {
        BackTls {
            authorities: raw.ca.get().and_then(|at| {
                let read = Authorities::read(&self.base_dir.join(&at.value.0));
                read.map_err(|flaw| self.flaw(&at.place, flaw)).ok()
            }),
            unverified: !self.verifies(raw),
            name: raw.name.get().and_then(|at| self.name(at)),
            names: BTreeMap::new(),
            certificate: self.shown_to_servers(raw),
            oldest: match self.word(&raw.min_version, &["1.2", "1.3"]) {
                Some("1.3") => Version::Tls13,
                _ => Version::Tls12,
            },
            http2,
            tcp,
        }
    }

    fn verifies(&self, raw: &RawServerTls) -> bool {
        let verifies = raw.verify.get().is_none_or(|at| at.value);
        if let (false, Some(at)) = (verifies, raw.ca.get()) {
            let remedy = "remove ca, or verify = false";
            self.mistakes.value(&at.place, "nobody is asked for it with verify = false", remedy);
        }
        verifies
    }

    fn name(&self, at: &At<Text>) -> Option<ServerName<'static>> {
        let name = self.accept(&at.place, address::host_name(&at.value.0))?;
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned());
        let refusal = || ("not a host name".to_owned(), "write \"shop.internal\"".to_owned());
        self.accept(&at.place, name.map_err(|_| refusal()))
    }

    fn shown_to_servers(&self, raw: &RawServerTls) -> Option<Certificate> {
        if let (Some(key), true) = (raw.key.get(), raw.certificate.is_absent()) {
            let remedy = "write certificate = \"mainstay.pem\", the certificate that it belongs to";
            self.mistakes.absent(&key.place, "a key without a certificate", remedy);
        }
        let chain = raw.certificate.get()?;
        let key = raw.key.get();
        let path = |at: &At<Text>| self.base_dir.join(&at.value.0);
        let read = Certificate::read(&path(chain), &path(key.unwrap_or(chain)));
        let place = |flawed| key.filter(|key| path(key) == flawed).unwrap_or(chain).place.clone();
        read.map_err(|flaw| self.flaw(&place(flaw.path.clone()), flaw)).ok()
    }
}

/// Its probes speak TLS, whatever its servers' addresses say.
fn probed_over_tls(id: &ServiceId, config: &Config) -> bool {
    config.probes.get(id).is_some_and(|probe| probe.needs_tls())
}

/// The names in the addresses of servers that speak TLS.
pub(super) fn server_names(
    id: &ServiceId,
    servers: &BTreeMap<Arc<str>, ServerPolicy>,
    config: &Config,
) -> BTreeMap<ServerId, ServerName<'static>> {
    let probed = probed_over_tls(id, config);
    let named = servers.iter().filter(|(_, policy)| policy.tls || probed).filter_map(|(name, _)| {
        let server = id.server(&**name);
        let Some(ServerAddress::Name(host, _)) = config.addresses.get(&server) else { return None };
        // What is no name in a certificate, an underscore in it, is asked for by its address.
        let name = ServerName::try_from(host.clone()).ok()?;
        Some((server, name))
    });
    named.collect()
}
