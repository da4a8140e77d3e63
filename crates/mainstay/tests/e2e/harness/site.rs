//! Web servers that do exactly what a test wants, byte by byte, with or without TLS, and certificates that are right or wrong in
//! just one way.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One step of an answer.
pub enum Act {
    Say(Vec<u8>),
    Wait(Duration),
    /// Says this again and again, until nobody listens any more.
    SayForEver(Vec<u8>),
    /// Keeps the connection open and is silent.
    Hang,
}

/// A whole answer with a status, more headers and a content.
pub fn answer(status: u16, headers: &str, content: &str) -> Vec<Act> {
    let length = content.len();
    vec![Act::Say(
        format!("HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {length}\r\n\r\n{content}")
            .into_bytes(),
    )]
}

/// A page that is as it should be.
pub fn fine() -> Vec<Act> {
    answer(200, "Content-Type: text/html\r\n", "<h1>Welcome to the shop</h1>")
}

/// Serves what the script says for the beginning of each request (`GET /path HTTP/1.1`), until the test's runtime ends.
pub fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    script: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static,
) {
    let script = Arc::new(script);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (script, tls) = (script.clone(), tls.clone());
            // A client that goes away in the middle is no fault of this server.
            tokio::spawn(async move {
                match tls {
                    None => drop(converse(stream, &*script).await),
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            drop(converse(stream, &*script).await);
                        }
                    }
                }
            });
        }
    });
}

async fn converse<S>(mut stream: S, script: &(impl Fn(&str) -> Vec<Act> + Sync)) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const HANDSHAKE: u8 = 0x16;
    let mut request = Vec::new();
    // What is no HTTP is answered as soon as it comes, as web servers do it.
    while !request.ends_with(b"\r\n\r\n") && request.first() != Some(&HANDSHAKE) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    for act in script(&request) {
        match act {
            Act::Say(bytes) => stream.write_all(&bytes).await?,
            Act::Wait(time) => tokio::time::sleep(time).await,
            Act::SayForEver(bytes) => loop {
                stream.write_all(&bytes).await?;
            },
            Act::Hang => std::future::pending().await,
        }
        stream.flush().await?;
    }
    stream.shutdown().await
}

/// An authority of the test's own, with one between it and its certificates.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    between: CertifiedIssuer<'static, KeyPair>,
}

/// Where a certificate, its key and its root lie.
pub struct Files {
    pub ca: String,
    pub chain: String,
    pub key: String,
}

/// A certificate and what is shown with it.
pub struct Leaf {
    /// Names and addresses, with a space between two.
    pub host: &'static str,
    /// From how many days from now on it is valid, and until when.
    pub days: (i64, i64),
    pub shown: Shown,
}

impl Leaf {
    /// One that is as it should be.
    pub fn fine(host: &'static str) -> Self {
        Self { host, days: (-1, 90), shown: Shown::Chain }
    }
}

/// What a server shows.
pub enum Shown {
    /// Its certificate and the one between.
    Chain,
    /// Its certificate alone.
    Alone,
    /// A certificate that it signed itself.
    SelfSigned,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let root = CertifiedIssuer::self_signed(authority(name), key()).expect("a root");
        let between = CertifiedIssuer::signed_by(authority(&format!("{name} between")), key(), &root);
        Self { between: between.expect("an intermediate"), root }
    }

    /// The root, as a file for `--ca`.
    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// A TLS server with such a certificate.
    pub fn server(&self, leaf: &Leaf) -> TlsAcceptor {
        let (chain, own) = self.issue(leaf);
        acceptor(chain.into_iter().map(|certificate| certificate.der().clone()).collect(), &own)
    }

    /// The root and such a certificate with its key, as files for programs.
    pub fn files(&self, folder: &Path, name: &str, leaf: &Leaf) -> Files {
        let (chain, own) = self.issue(leaf);
        let chain: String = chain.iter().map(Certificate::pem).collect();
        let write = |name: String, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file");
            path.to_str().expect("UTF-8").to_owned()
        };
        Files {
            ca: write(format!("{name}-ca.pem"), &self.pem()),
            chain: write(format!("{name}.pem"), &chain),
            key: write(format!("{name}.key"), &own.serialize_pem()),
        }
    }

    fn issue(&self, leaf: &Leaf) -> (Vec<Certificate>, KeyPair) {
        let names = leaf.host.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("a host");
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs();
        let day = |days: i64| {
            date_time_ymd(1970, 1, 1) + Duration::from_secs(now.saturating_add_signed(days * 86_400))
        };
        (params.not_before, params.not_after) = (day(leaf.days.0), day(leaf.days.1));
        params.distinguished_name.push(DnType::CommonName, leaf.host);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // As public authorities do, it says where the certificate between can be had: id-pe-authorityInfoAccess with one caIssuers.
        let place = b"http://ca.test/between.der";
        let length = u8::try_from(place.len()).expect("short");
        let mut der = vec![0x30, 14 + length, 0x30, 12 + length];
        der.extend([0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02, 0x86, length]);
        der.extend(place);
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], der));
        let own = key();
        let certificate = match leaf.shown {
            Shown::SelfSigned => params.self_signed(&own),
            _ => params.signed_by(&own, &self.between),
        };
        let mut chain = vec![certificate.expect("a certificate")];
        if let Shown::Chain = leaf.shown {
            chain.push(self.between.as_ref().clone());
        }
        (chain, own)
    }
}

fn acceptor(chain: Vec<CertificateDer<'static>>, own: &KeyPair) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::try_from(own.serialize_der()).expect("a key");
    let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key);
    TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}
