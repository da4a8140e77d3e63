//! Certificates and keys in PEM files: read once, outside the data plane, and checked so that what is wrong with them is said
//! before a visitor's browser says it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A longer file is neither a certificate nor a key.
const FILE_MAX: u64 = 4 << 20;

/// What is wrong with a file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}; {remedy}", path.display())]
pub struct Flaw {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Flaw {
    fn new(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into(), remedy: remedy.into() }
    }
}

/// A certificate with its chain and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Where its chain was read.
    pub chain: PathBuf,
    /// Where its key was read.
    pub key: PathBuf,
    /// The host names that it is made out to, lower case, `*.` before those that stand for many.
    pub names: Vec<String>,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// For the handshake.
    certified: Arc<CertifiedKey>,
    /// The key is compared, so that a changed one is a change, and never shown.
    digest: [u8; 32],
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.chain, &self.key, &self.digest) == (&other.chain, &other.key, &other.digest)
            && self.certified.cert == other.certified.cert
    }
}

impl Certificate {
    /// Reads a chain (the site's own certificate first, then who issued it) and its key.
    ///
    /// # Errors
    /// What is wrong with which of the files.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, Flaw> {
        let certificates = certificates(chain)?;
        in_order(chain, &certificates)?;
        let (names, not_before, not_after) = facts(chain, &certificates[0])?;
        let bytes = read(key)?;
        let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
            Flaw::new(
                key,
                "there is no private key in it that can be read",
                "name a file in PEM form with an unencrypted key (-----BEGIN PRIVATE KEY-----)",
            )
        })?;
        let digest = digest(private.secret_der());
        let certified = CertifiedKey::from_der(certificates, private, &ring::default_provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Flaw::new(
                key,
                format!("this key does not belong to the certificate in {}", chain.display()),
                "name the key that the certificate was requested with",
            ),
            other => Flaw::new(
                key,
                format!("this key is of no use: {other}"),
                "use an ECDSA (P-256, P-384), Ed25519 or RSA (2,048 bits or more) key",
            ),
        })?;
        let (chain, key) = (chain.to_owned(), key.to_owned());
        Ok(Self { chain, key, names, not_before, not_after, certified: Arc::new(certified), digest })
    }

    /// What a handshake shows and signs with.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    /// For how long it is still valid; zero when it has expired.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// The day of its end, in UTC.
    pub fn last_day(&self) -> String {
        let date =
            jiff::Timestamp::try_from(self.not_after).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
        date.map_or_else(|_| "a day far away".to_owned(), |date| date.to_string())
    }

    /// It in a few words: the first of its names, or its file.
    pub fn title(&self) -> String {
        match self.names.as_slice() {
            [] => self.chain.display().to_string(),
            [name] => name.clone(),
            [name, rest @ ..] => format!("{name} and {} more", rest.len()),
        }
    }
}

/// Certificate authorities.
#[derive(Debug, Clone)]
pub struct Authorities {
    /// Where they were read.
    pub path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.roots.roots == other.roots.roots
    }
}

impl Authorities {
    /// Reads them.
    ///
    /// # Errors
    /// When the file cannot be read or holds none.
    pub fn read(path: &Path) -> Result<Self, Flaw> {
        let mut roots = RootCertStore::empty();
        let certificates = certificates(path)?;
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| {
                let what = format!("a certificate in it is of no use: {error}");
                Flaw::new(path, what, "name a file with the certificates of authorities alone")
            })?;
        }
        Ok(Self { path: path.to_owned(), certificates, roots: Arc::new(roots) })
    }

    /// As they are in the file.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.clone()
    }

    /// For a verifier.
    pub fn roots(&self) -> Arc<RootCertStore> {
        self.roots.clone()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Flaw> {
    let remedy = "name a file that Mainstay may read";
    let cannot = |error: std::io::Error| Flaw::new(path, format!("cannot be read: {error}"), remedy);
    // A pipe or a device would wait for ever or never end.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(Flaw::new(path, "not a file", remedy));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)).map_err(cannot)?;
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Flaw::new(
            path,
            "there is no certificate in it that can be read",
            "name a file in PEM form (-----BEGIN CERTIFICATE-----)",
        )),
    }
}

/// Each certificate was issued by the next one; browsers mend a wrong order, programs refuse it.
fn in_order(path: &Path, certificates: &[CertificateDer<'_>]) -> Result<(), Flaw> {
    for (index, pair) in certificates.windows(2).enumerate() {
        let (this, next) = (parsed(path, &pair[0])?, parsed(path, &pair[1])?);
        if this.issuer().as_raw() != next.subject().as_raw() {
            let what = format!(
                "certificate {} in it was issued by \"{}\", but \"{}\" follows it",
                index + 1,
                this.issuer(),
                next.subject()
            );
            return Err(Flaw::new(
                path,
                what,
                "put the site's own certificate first and after each one the one that issued it",
            ));
        }
    }
    Ok(())
}

fn parsed<'c>(path: &Path, certificate: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, Flaw> {
    let parsed = X509Certificate::from_der(certificate.as_ref());
    parsed.map(|(_, certificate)| certificate).map_err(|error| {
        Flaw::new(path, format!("a certificate in it cannot be read: {error}"), "request it again")
    })
}

/// Its names, and from when and until when it is valid.
fn facts(
    path: &Path,
    certificate: &CertificateDer<'_>,
) -> Result<(Vec<String>, SystemTime, SystemTime), Flaw> {
    let certificate = parsed(path, certificate)?;
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let validity = certificate.validity();
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let from = at(validity.not_before.timestamp());
    Ok((names.collect(), from, at(validity.not_after.timestamp())))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    /// An authority of the test's own.
    pub(crate) fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Writes a chain and its key; returns their paths.
    pub(crate) fn written(
        folder: &Path,
        name: &str,
        names: &[&str],
        authority: &CertifiedIssuer<'static, KeyPair>,
    ) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let paths = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&paths.0, certificate.pem() + &authority.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    #[test]
    fn a_chain_with_its_key_is_read_and_told_by_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["Shop.example", "*.shop.example"];
        let (chain, key) = written(folder.path(), "shop", &names, &authority("root"));
        let certificate = Certificate::read(&chain, &key).unwrap();
        assert_eq!(certificate.names, ["shop.example", "*.shop.example"]);
        assert_eq!(certificate.title(), "shop.example and 1 more");
        assert_eq!(certificate.certified().cert.len(), 2);
        assert!(certificate.left(SystemTime::now()) > Duration::from_secs(86_400));
        assert_eq!(certificate.left(certificate.not_after), Duration::ZERO);
        assert_eq!(certificate, Certificate::read(&chain, &key).unwrap());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let root = authority("root");
        let (one, one_key) = written(folder.path(), "one", &["one.example"], &root);
        let (two, two_key) = written(folder.path(), "two", &["two.example"], &root);
        let (missing, turned, empty) =
            (folder.path().join("missing"), folder.path().join("turned"), folder.path().join("empty"));
        let own = std::fs::read_to_string(&one).unwrap().replace(&root.pem(), "");
        std::fs::write(&turned, root.pem() + &own).unwrap();
        std::fs::write(&empty, "").unwrap();
        for (chain, key, flawed, what) in [
            (&missing, &one_key, &missing, "cannot be read: No such file"),
            (&empty, &one_key, &empty, "no certificate"),
            (&one, &empty, &empty, "no private key"),
            (&one, &one, &one, "no private key"),
            (&one, &two_key, &two_key, "does not belong to the certificate"),
            (&turned, &one_key, &turned, "certificate 1 in it was issued by \"CN=root\""),
            (&two, &folder.path().to_owned(), &folder.path().to_owned(), "not a file"),
        ] {
            let flaw = Certificate::read(chain, key).unwrap_err();
            assert!(flaw.path == *flawed && flaw.what.contains(what), "{flaw}");
        }
    }

    #[test]
    fn authorities_are_read_and_nothing_is_no_authority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, authority("root").pem() + &authority("other").pem()).unwrap();
        assert_eq!(Authorities::read(&path).unwrap().roots().len(), 2);
        std::fs::write(&path, "nothing").unwrap();
        assert!(Authorities::read(&path).unwrap_err().what.contains("no certificate"));
    }
}
