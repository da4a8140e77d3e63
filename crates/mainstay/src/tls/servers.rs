//! How TLS is spoken with servers: whom to trust, which name their certificates must have, what to show them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mainstay_model::{ServerId, ServiceId};
use mainstay_proxy::{ServerTls, ServersTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, version,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::{Authorities, Certificate};
use super::front::Version;

/// How TLS is spoken with the servers of one service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BackTls {
    /// Who may issue their certificates; `None`: whom the system trusts.
    pub authorities: Option<Authorities>,
    /// Their certificates are not looked at.
    pub unverified: bool,
    /// The name that their certificates must have; `None`: that of each server's address.
    pub name: Option<ServerName<'static>>,
    /// The names of servers that are written by name.
    pub names: BTreeMap<ServerId, ServerName<'static>>,
    /// What is shown to a server that asks for it.
    pub certificate: Option<Certificate>,
    /// The oldest version that is spoken.
    pub oldest: Version,
    /// HTTP/2 is spoken, and nothing else.
    pub http2: bool,
    /// What is spoken is none of HTTP, and is not agreed on (ALPN).
    pub tcp: bool,
}

impl BackTls {
    /// Files that it was read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let certificate = self.certificate.iter().flat_map(|c| [c.chain.clone(), c.key.clone()]);
        certificate.chain(self.authorities.iter().map(|authorities| authorities.path.clone())).collect()
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = match self.oldest {
            Version::Tls12 => &[&version::TLS13, &version::TLS12],
            Version::Tls13 => &[&version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let verifier: Arc<dyn ServerCertVerifier> = match (&self.authorities, self.unverified) {
            (_, true) => Arc::new(Anybody(provider)),
            (None, false) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(system_roots(), provider);
                verifier.build().map_err(|error| error.to_string())?
            }
            (Some(own), false) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(own.roots(), provider);
                let usual = verifier.build().map_err(|error| error.to_string())?;
                Arc::new(Own { usual, certificates: own.certificates() })
            }
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let shown = rustls::sign::SingleCertAndKey::from(certificate.certified());
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        };
        config.alpn_protocols = match (self.tcp, self.http2) {
            (true, _) => Vec::new(),
            (false, true) => vec![b"h2".to_vec()],
            (false, false) => vec![b"http/1.1".to_vec()],
        };
        Ok(config)
    }
}

/// Makes the data plane's side of TLS with servers, again and again.
#[derive(Debug, Default)]
pub struct Backs {
    wanted: BTreeMap<ServiceId, BackTls>,
    made: Arc<ServersTls>,
}

impl Backs {
    /// How TLS is spoken from now on. What has not changed stays as it is, with the sessions that it remembers. What cannot be
    /// used is told by service, and stays as it was.
    pub fn take(
        &mut self,
        wanted: &BTreeMap<ServiceId, BackTls>,
    ) -> (Arc<ServersTls>, Vec<(ServiceId, String)>) {
        if self.wanted == *wanted {
            return (self.made.clone(), Vec::new());
        }
        let mut errors = Vec::new();
        let mut made = ServersTls::new();
        for (service, tls) in wanted {
            let before = self.made.get(service);
            let same = before.filter(|_| self.wanted.get(service) == Some(tls)).cloned();
            let now = match (same, tls.config()) {
                (Some(same), _) => Some(same),
                (None, Ok(config)) => {
                    let (name, names) = (tls.name.clone(), tls.names.clone());
                    Some(Arc::new(ServerTls { config: Arc::new(config), name, names }))
                }
                (None, Err(error)) => {
                    errors.push((service.clone(), error));
                    before.cloned()
                }
            };
            made.extend(now.map(|tls| (service.clone(), tls)));
        }
        self.wanted.clone_from(wanted);
        self.made = Arc::new(made);
        (self.made.clone(), errors)
    }
}

/// What could be made, and whose settings are of no use, with the reason.
pub type Made<I> = (BTreeMap<I, Arc<ServerTls>>, Vec<(I, String)>);

/// Makes the side of TLS of those who only look, each by its own settings and name. What is the same is made once. Sessions are not
/// taken up again: a certificate that has expired since the last look would not be seen.
pub fn watchers<'a, I: Ord + Clone + 'a>(wanted: impl Iterator<Item = (&'a I, &'a BackTls)>) -> Made<I> {
    let mut configs: Vec<(BackTls, Result<Arc<ClientConfig>, String>)> = Vec::new();
    let (mut made, mut errors) = (BTreeMap::new(), Vec::new());
    for (id, tls) in wanted {
        let nameless = BackTls { name: None, ..tls.clone() };
        let known = configs.iter().find(|(known, _)| *known == nameless).map(|(_, config)| config.clone());
        let config = known.unwrap_or_else(|| {
            let config = nameless.config().map(|mut config| {
                config.resumption = Resumption::disabled();
                Arc::new(config)
            });
            configs.push((nameless, config.clone()));
            config
        });
        match config {
            Ok(config) => {
                let tls = ServerTls { config, name: tls.name.clone(), names: BTreeMap::new() };
                made.insert(id.clone(), Arc::new(tls));
            }
            Err(error) => errors.push((id.clone(), error)),
        }
    }
    (made, errors)
}

/// Whom this machine trusts; where it has no store of its own, whom browsers trust. Read once: a changed store needs a restart.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        // What of the store is of no use is left out, as every other program does.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

/// The user's own authorities; and certificates that the user has named themselves, because many a server inside a network
/// shows one that nobody has issued.
#[derive(Debug)]
struct Own {
    usual: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usual = self.usual.verify_server_cert(shown, between, name, ocsp, now);
        let Err(error) = usual else { return usual };
        if !self.certificates.iter().any(|known| known.as_ref() == shown.as_ref()) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        let (_, parsed) =
            X509Certificate::from_der(shown).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        if seconds > validity.not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        if seconds < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Takes every certificate: as the user has said in so many words, or to say what is wrong with one. Who shows it must still have
/// its key.
#[derive(Debug)]
pub struct Anybody(Arc<CryptoProvider>);

impl Anybody {
    /// Signatures are checked with this cryptography.
    pub fn of(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _shown: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::super::certificate::tests::authority;
    use super::*;

    fn verdict(own: &Authorities, shown: &CertificateDer<'_>, name: &'static str) -> Result<(), Error> {
        let provider = Arc::new(ring::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(own.roots(), provider).build().unwrap();
        let verifier = Own { usual, certificates: own.certificates() };
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_certificate_that_nobody_issued_is_trusted_when_it_was_named_itself_and_only_for_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["app.internal".to_owned()]).unwrap();
        // As `openssl req -x509` makes them.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        let path = folder.path().join("own.pem");
        std::fs::write(&path, own.pem()).unwrap();
        let named = Authorities::read(&path).unwrap();
        assert_eq!(verdict(&named, own.der(), "app.internal"), Ok(()));
        let other = verdict(&named, own.der(), "other.internal").unwrap_err();
        assert!(matches!(other, Error::InvalidCertificate(_)), "{other}");
        let another = authority("another");
        std::fs::write(&path, another.pem()).unwrap();
        let others = Authorities::read(&path).unwrap();
        assert!(verdict(&others, own.der(), "app.internal").is_err());
    }

    #[test]
    fn what_has_not_changed_stays_with_its_sessions() {
        let mut backs = Backs::default();
        let service = ServiceId::new("shop");
        let plain = BTreeMap::from([(service.clone(), BackTls::default())]);
        let (first, errors) = backs.take(&plain);
        assert!(errors.is_empty());
        let mut more = plain.clone();
        more.insert(ServiceId::new("other"), BackTls { unverified: true, ..BackTls::default() });
        let (second, _) = backs.take(&more);
        assert!(Arc::ptr_eq(&first[&service], &second[&service]));
        more.insert(service.clone(), BackTls { oldest: Version::Tls13, ..BackTls::default() });
        let (third, _) = backs.take(&more);
        assert!(!Arc::ptr_eq(&second[&service], &third[&service]));
    }
}
