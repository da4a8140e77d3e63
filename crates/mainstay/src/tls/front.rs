//! How TLS is spoken with visitors: which certificate a name gets, which versions, whether clients have to show one, and tickets
//! that outlive a reload.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::certificate::{Authorities, Certificate};

/// What is offered to clients, the best first. Who offers nothing of it is turned away in the handshake, and curl's `--http1.0` says so.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// How TLS is spoken with visitors; without certificates not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrontTls {
    /// The first is for clients that name no host or one that no certificate has.
    pub certificates: Vec<Certificate>,
    /// The oldest version that is spoken.
    pub oldest: Version,
    /// Certificates of clients; `None`: nobody is asked for one.
    pub clients: Option<ClientCertificates>,
    /// A certificate that is valid for less time than this is trouble.
    pub warn_before: Duration,
}

impl FrontTls {
    /// Files that it was read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let certificates = self.certificates.iter().flat_map(|c| [c.chain.clone(), c.key.clone()]);
        let mut files: Vec<_> = certificates.collect();
        files.extend(self.clients.as_ref().map(|clients| clients.authorities.path.clone()));
        files.sort();
        files.dedup();
        files
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// What clients have to show.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientCertificates {
    /// Who issues them.
    pub authorities: Authorities,
    /// Who shows none is turned away; otherwise only who shows a wrong one.
    pub required: bool,
}

/// Makes the data plane's side of TLS, again and again.
#[derive(Debug, Default)]
pub struct Front {
    /// Clients come back with these for as long as Mainstay runs.
    tickets: Option<Arc<dyn ProducesTickets>>,
    /// What clients had to show when these tickets were given: a ticket stands for a certificate that was shown.
    given_to: Option<ClientCertificates>,
}

impl Front {
    /// How TLS is spoken from now on; `None` without certificates.
    ///
    /// # Errors
    /// When the authorities of clients are of no use, or there is no randomness.
    pub fn config(&mut self, tls: &FrontTls) -> Result<Option<Arc<ServerConfig>>, String> {
        let Some(names) = Names::of(&tls.certificates) else { return Ok(None) };
        let versions: &[&SupportedProtocolVersion] = match tls.oldest {
            Version::Tls12 => &[&version::TLS13, &version::TLS12],
            Version::Tls13 => &[&version::TLS13],
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match &tls.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = clients.authorities.roots();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match clients.required {
                    true => verifier.build(),
                    false => verifier.allow_unauthenticated().build(),
                };
                builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(names));
        config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = self.tickets(tls.clients.as_ref())?;
        // Tickets carry all there is to know, so no thread waits for another one's memory of sessions.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Some(Arc::new(config)))
    }

    fn tickets(&mut self, clients: Option<&ClientCertificates>) -> Result<Arc<dyn ProducesTickets>, String> {
        match &self.tickets {
            Some(tickets) if self.given_to.as_ref() == clients => Ok(tickets.clone()),
            _ => {
                let tickets = ring::Ticketer::new().map_err(|error| error.to_string())?;
                self.tickets = Some(tickets.clone());
                self.given_to = clients.cloned();
                Ok(tickets)
            }
        }
    }
}

/// Which certificate a host name gets.
#[derive(Debug)]
struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `example.com` for `*.example.com`.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Names {
    /// The first certificate with a name has it; `None` without any certificate.
    fn of(certificates: &[Certificate]) -> Option<Self> {
        let default = certificates.first()?.certified();
        let (mut exact, mut wildcards) = (HashMap::new(), HashMap::new());
        for certificate in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcards, parent),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_insert_with(|| certificate.certified());
            }
        }
        Some(Self { exact, wildcards, default })
    }

    fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let by_parent = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(by_parent)
        });
        found.unwrap_or(&self.default).clone()
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has made the name lower case.
        Some(self.find(hello.server_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::{authority, written};
    use super::*;

    #[test]
    fn a_name_gets_its_own_certificate_then_a_wildcard_then_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let root = authority("root");
        let read = |file: &str, names: &[&str]| {
            let (chain, key) = written(folder.path(), file, names, &root);
            Certificate::read(&chain, &key).unwrap()
        };
        let all = [
            read("default", &["default.example"]),
            read("wild", &["*.shop.example"]),
            read("exact", &["www.shop.example", "default.example"]),
        ];
        let names = Names::of(&all).unwrap();
        for (name, index) in [
            (Some("default.example"), 0),
            (Some("a.shop.example"), 1),
            (Some("www.shop.example"), 2),
            (Some("a.b.shop.example"), 0),
            (Some("shop.example"), 0),
            (Some("other"), 0),
            (None, 0),
        ] {
            assert!(Arc::ptr_eq(&names.find(name), &all[index].certified()), "{name:?}");
        }
    }

    #[test]
    fn tickets_outlive_a_reload_but_not_a_change_of_who_may_come() {
        let folder = tempfile::tempdir().unwrap();
        let root = authority("root");
        let (chain, key) = written(folder.path(), "shop", &["shop.example"], &root);
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, root.pem()).unwrap();
        let mut tls =
            FrontTls { certificates: vec![Certificate::read(&chain, &key).unwrap()], ..FrontTls::default() };
        let mut front = Front::default();
        let first = front.config(&tls).unwrap().unwrap();
        let again = front.config(&tls).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first.ticketer, &again.ticketer));
        let authorities = Authorities::read(&ca).unwrap();
        tls.clients = Some(ClientCertificates { authorities, required: true });
        let strict = front.config(&tls).unwrap().unwrap();
        assert!(!Arc::ptr_eq(&first.ticketer, &strict.ticketer));
        tls.certificates.clear();
        assert!(front.config(&tls).unwrap().is_none());
    }
}
