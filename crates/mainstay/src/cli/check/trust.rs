//! Whose certificates are believed: the authorities that browsers trust, then those of this machine's own store and of `--ca`. Whether a
//! chain of certificates leads to one of them is asked piece by piece, so that each fault of a broken certificate can be named.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use thiserror::Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use super::observed::{Certificate, CertificateProblem};

/// Where distributions keep the authorities of the machine; the first that exists is read.
const STORES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// A store is not read beyond this.
const STORE_MAX: u64 = 16 << 20;
/// As many hosts of one certificate are told.
const NAMES_MAX: usize = 100;

/// The authorities that are believed.
#[derive(Debug)]
pub(super) struct Trust {
    browsers: RootCertStore,
    own: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a file of `--ca` is of no use.
#[derive(Debug, Error)]
pub(super) enum BadAuthority {
    /// It cannot be read.
    #[error("--ca {path}: {reason}; name a file with certificates in PEM form (-----BEGIN CERTIFICATE-----)")]
    Unreadable {
        /// The file.
        path: String,
        /// What the reader says.
        reason: String,
    },
    /// No certificate is in it.
    #[error("--ca {0}: there is no certificate in it; name a file in PEM form (-----BEGIN CERTIFICATE-----)")]
    Empty(String),
}

impl Trust {
    /// The usual authorities and those in the file.
    ///
    /// # Errors
    /// When the file is of no use.
    pub(super) fn load(ca: Option<&Path>) -> Result<Arc<Self>, BadAuthority> {
        let browsers = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut own = RootCertStore::empty();
        if let Some(path) = ca {
            add_file(&mut own, path)?;
        }
        let variable = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
        let store = variable
            .into_iter()
            .chain(STORES.iter().map(std::path::PathBuf::from))
            .find(|path| path.exists());
        if let Some(path) = store {
            // What the machine's store holds besides, or that it cannot be read, decides nothing by itself.
            let _ = add_file(&mut own, &path);
        }
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        Ok(Arc::new(Self { browsers, own, algorithms }))
    }

    /// The algorithms for signatures in a handshake.
    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Describes what a server showed, with all that is wrong with it. `None` when it is no certificate at all.
    pub(super) fn describe(
        &self,
        shown: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: i64,
    ) -> Option<Certificate> {
        let (own, between) = shown.split_first()?;
        let (_, parsed) = X509Certificate::from_der(own).ok()?;
        let mut certificate = Certificate {
            subject: name_words(parsed.subject()),
            names: names_of(&parsed),
            issuer: name_words(parsed.issuer()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            by_own_authority: false,
            problems: Vec::new(),
        };
        if now > certificate.not_after {
            certificate.problems.push(CertificateProblem::Expired);
        } else if now < certificate.not_before {
            certificate.problems.push(CertificateProblem::NotYetValid);
        }
        let Ok(checked) = ParsedCertificate::try_from(own) else {
            let why = "it is not written as certificates for web servers are".to_owned();
            certificate.problems.push(CertificateProblem::Other(why));
            return Some(certificate);
        };
        if verify_server_name(&checked, host).is_err() {
            certificate.problems.push(CertificateProblem::WrongHost);
        }
        // A moment at which its own dates fit, so that only the rest is judged.
        // (`clamp` would panic at a certificate that ends before it begins.)
        let moment = now.max(certificate.not_before).min(certificate.not_after);
        match self.vouched(&checked, between, moment) {
            Ok(by_own_authority) => certificate.by_own_authority = by_own_authority,
            Err(error) => certificate.problems.push(self.chain_problem(&error, &parsed, between)),
        }
        Some(certificate)
    }

    /// Whether an authority vouches for it, and whether that is only one of this machine's own.
    fn vouched(
        &self,
        certificate: &ParsedCertificate<'_>,
        between: &[CertificateDer<'_>],
        moment: i64,
    ) -> Result<bool, rustls::Error> {
        let moment = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(moment).unwrap_or(0)));
        let by = |roots| {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(certificate, roots, between, moment, algorithms)
        };
        by(&self.browsers).map(|()| false).or_else(|error| match by(&self.own) {
            Ok(()) => Ok(true),
            // The more telling of the two: that an authority is known, and something else is wrong.
            Err(own) if is_unknown(&error) => Err(own),
            Err(_) => Err(error),
        })
    }

    fn chain_problem(
        &self,
        error: &rustls::Error,
        certificate: &X509Certificate<'_>,
        between: &[CertificateDer<'_>],
    ) -> CertificateProblem {
        let rustls::Error::InvalidCertificate(error) = error else {
            return CertificateProblem::Other(error.to_string());
        };
        match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => CertificateProblem::ChainExpired,
            _ if !is_unknown(&rustls::Error::InvalidCertificate(error.clone())) => {
                CertificateProblem::Other(error.to_string())
            }
            _ if certificate.subject().as_raw() == certificate.issuer().as_raw() => {
                CertificateProblem::SelfSigned
            }
            _ if names_its_issuers_certificate(certificate) && !has_issuer(certificate, between) => {
                CertificateProblem::ChainMissing
            }
            _ => CertificateProblem::UnknownAuthority,
        }
    }
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), BadAuthority> {
    let shown = path.display().to_string();
    let unreadable = |reason: String| BadAuthority::Unreadable { path: shown.clone(), reason };
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !length.is_file() || length.len() > STORE_MAX {
        return Err(unreadable("it is no file of a usual length".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
    match store.add_parsable_certificates(certificates) {
        (0, _) => Err(BadAuthority::Empty(shown)),
        _ => Ok(()),
    }
}

/// Whether what is missing is somebody who vouches. A self-signed certificate that may not sign others says so in other words.
fn is_unknown(error: &rustls::Error) -> bool {
    use rustls::Error::InvalidCertificate;
    matches!(error, InvalidCertificate(CertificateError::UnknownIssuer))
        || matches!(error, InvalidCertificate(CertificateError::Other(other)) if other.to_string().contains("CaUsedAsEndEntity"))
}

fn has_issuer(certificate: &X509Certificate<'_>, between: &[CertificateDer<'_>]) -> bool {
    between.iter().any(|der| {
        X509Certificate::from_der(der)
            .is_ok_and(|(_, other)| other.subject().as_raw() == certificate.issuer().as_raw())
    })
}

/// Public authorities write into each certificate where their own one can be fetched; some browsers do that, most programs do not.
fn names_its_issuers_certificate(certificate: &X509Certificate<'_>) -> bool {
    let is = |extension: &ParsedExtension<'_>| matches!(extension, ParsedExtension::AuthorityInfoAccess(_));
    certificate.extensions().iter().any(|extension| is(extension.parsed_extension()))
}

/// The name that a person would use for somebody in a certificate.
fn name_words(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().chain(name.iter_organization()).find_map(|part| part.as_str().ok());
    let text = common.map_or_else(|| name.to_string(), str::to_owned);
    match crate::cli::paint::clean(&text) {
        text if text.is_empty() => "nobody".to_owned(),
        text => text.chars().take(100).collect(),
    }
}

/// The hosts that a certificate is made out to.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => Some(crate::cli::paint::clean(name)),
        GeneralName::IPAddress(bytes) => ip_words(bytes),
        _ => None,
    };
    alternatives.value.general_names.iter().filter_map(name).take(NAMES_MAX).collect()
}

fn ip_words(bytes: &[u8]) -> Option<String> {
    match *bytes {
        [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
    }
}
