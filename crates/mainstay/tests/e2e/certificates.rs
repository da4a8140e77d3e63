//! The certificates that visitors are shown: which one for which name, to which clients, until when, and the next one in its place.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::Mainstay;
use crate::harness::program::{Ran, ran};
use crate::harness::shop::Shop;
use crate::harness::site::{Authority, Files, Leaf, Shown};
use crate::harness::{run, until};

const SHOP: &str = "shop.example.com";
const SIDE: &str = "side.example.com";

/// Debian's curl at `host`, trusting this authority alone.
async fn curl(at: SocketAddr, host: &str, ca: &str, more: &[&str]) -> Ran {
    let resolve = format!("{host}:{}:127.0.0.1", at.port());
    let url = format!("https://{host}:{}/healthz", at.port());
    let common = ["-sS", "--max-time", "30", "--noproxy", "*", "--cacert", ca, "--resolve", &resolve, &url];
    ran("curl", [&common, more].concat()).await
}

/// A connection over TLS to `host`, trusting this authority alone.
async fn connection(at: SocketAddr, host: &'static str, ca: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(at).await.expect("it listens");
    let name = ServerName::try_from(host).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("it is trusted")
}

/// The shop's answer to one more request over a kept connection.
async fn asked(connection: &mut TlsStream<TcpStream>, host: &str) -> String {
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("it is open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        assert_ne!(connection.read_buf(&mut answer).await.expect("it is open"), 0, "it was closed");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn each_name_has_its_certificate_and_one_that_expires_soon_is_an_incident_until_its_file_is_another() {
    run(async {
        let home = Home::new();
        let folder = home.path();
        let shop = Shop::start(&home, "app-1").await;
        let soon = Leaf { host: SIDE, days: (-85, 5), shown: Shown::Chain };
        let [of_shop, of_side, next] =
            [("shop", Leaf::fine(SHOP)), ("side", soon), ("next", Leaf::fine(SIDE))]
                .map(|(name, leaf)| Authority::new(name).files(folder, name, &leaf));
        // Chain and key in one file, so that the next ones come at once.
        let both = |files: &Files| {
            [&files.chain, &files.key].map(|file| std::fs::read_to_string(file).expect("a file")).concat()
        };
        let shown = folder.join("shown.pem");
        let put = |text: String| {
            let new = folder.join("new.pem");
            std::fs::write(&new, text).expect("a file");
            std::fs::rename(&new, &shown).expect("renamed");
        };
        put(both(&of_side));
        let mut config = Config::new().external("app-1", shop.address).table(&format!(
            "[tls]\nmin-version = \"1.3\"\n[[tls.certificate]]\nchain = {:?}\nkey = {:?}\n[[tls.certificate]]\nchain = {shown:?}",
            of_shop.chain, of_shop.key
        ));
        config.listen = "https = \"127.0.0.1:0\"\n".into();
        let mainstay = Mainstay::start(&home, &config).await;
        let (api, at) = (mainstay.api(), mainstay.secure());
        api.all_serve().await;

        let id = api.first_incident().await;
        let incident = api.incident(id).await;
        assert_eq!(incident["diagnosis"]["cause"], "certificate", "{incident:#}");
        let told = incident.to_string();
        assert!(told.contains(&format!("the certificate of {SIDE} expires on ")), "{incident:#}");
        assert!(told.contains("shown.pem") && !told.contains(SHOP), "{incident:#}");

        let trusts = async |host: &str, ca: &str| match curl(at, host, ca, &[]).await {
            Ran { status: Some(0), out, .. } => out == "ok\n",
            Ran { status: Some(60), .. } => false,
            other => panic!("{host}: {other:?}"),
        };
        assert!(trusts(SHOP, &of_shop.ca).await && !trusts(SHOP, &of_side.ca).await);
        assert!(trusts(SIDE, &of_side.ca).await && !trusts(SIDE, &of_shop.ca).await);
        let older = curl(at, SHOP, &of_shop.ca, &["--tls-max", "1.2"]).await;
        assert_eq!(older.status, Some(35), "no version in common: {older:?}");
        let newer = curl(at, SHOP, &of_shop.ca, &["--tls-max", "1.3"]).await;
        assert_eq!(newer.good(), "ok\n");

        let mut kept = connection(at, SIDE, &of_side.ca).await;
        assert!(asked(&mut kept, SIDE).await.starts_with("HTTP/1.1 200"));
        put(both(&next));
        until("the next one is shown", async || trusts(SIDE, &next.ca).await.then_some(())).await;
        assert!(!trusts(SIDE, &of_side.ca).await && trusts(SHOP, &of_shop.ca).await);
        let answer = asked(&mut kept, SIDE).await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("close"), "{answer}");
        api.resolved(id).await;
        assert_eq!(api.incidents().await.len(), 1);
    });
}
