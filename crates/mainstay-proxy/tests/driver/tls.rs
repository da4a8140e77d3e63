//! TLS with visitors: requests over it, names and certificates, clients that break off, and certificates that change.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::Endpoint;
use mainstay_proxy::{Listen, Serves, Settings};
use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, StreamOwned,
};

use crate::support::{Origin, PATIENCE, Rig, Then, carriage, eventually, get, ok, table};

/// A certificate of the test's own: what the proxy shows, and what a client believes.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn of(name: &str) -> Self {
        Self::from(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// One that was valid until yesterday.
    pub fn expired(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        Self::from(params)
    }

    fn from(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    pub fn server(&self, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        config.ticketer = ring::Ticketer::new().unwrap();
        Arc::new(config)
    }

    pub fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = Arc::unwrap_or_clone(Self::client_of(&[self]));
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Arc::new(config)
    }

    /// A client that believes these.
    pub fn client_of(identities: &[&Self]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for identity in identities {
            roots.add(identity.certificate.clone()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// A connection of a client over TLS.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A proxy that listens in the clear and over TLS.
pub struct SecureRig {
    pub rig: Rig,
    pub identity: Identity,
}

impl SecureRig {
    pub fn new(table: mainstay_model::routing::RoutingTable, protocols: &[&[u8]]) -> Self {
        Self::with(table, protocols, |_| {})
    }

    pub fn with(
        table: mainstay_model::routing::RoutingTable,
        protocols: &[&[u8]],
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let identity = Identity::of("shop.example");
        let rig = Rig::with(table, |settings| {
            settings.listen.push(Listen {
                serves: Serves::Https,
                ..Listen::from(SocketAddr::from(([127, 0, 0, 1], 0)))
            });
            settings.tls = Some(identity.server(protocols));
            change(settings);
        });
        Self { rig, identity }
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.rig.addresses()[1]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn connect(&self, config: &Arc<ClientConfig>) -> Secure {
        let name = ServerName::try_from("shop.example").unwrap();
        StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), self.tcp())
    }
}

/// Reads one whole answer with a length.
fn answer(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0; 4096];
    loop {
        let n = stream.read(&mut byte).unwrap();
        assert!(n > 0, "closed in the middle");
        text.extend_from_slice(&byte[..n]);
        let all = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = all.split_once("\r\n\r\n") else { continue };
        let length = head.split("\r\nContent-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        if body.len() >= length.parse().unwrap() {
            return all;
        }
    }
}

#[test]
fn requests_over_tls_are_kept_alive_and_servers_are_told_that_they_are_secure() {
    let origin = Origin::start(|request, wire| {
        wire.send(ok(request.all("x-forwarded-proto")[0]));
        Then::Continue
    });
    let secure = SecureRig::new(table(&[origin.address]), &[b"http/1.1"]);
    let mut client = secure.connect(&secure.identity.client(&[]));
    for _ in 0..3 {
        client.write_all(get("/").as_bytes()).unwrap();
        assert!(answer(&mut client).ends_with("\r\n\r\nhttps"));
    }
    assert!(origin.seen()[0].all("forwarded")[0].ends_with(";proto=https"));
    assert_eq!(secure.rig.get("/").text(), "http", "the other listener is in the clear");
    let (cut, told) = secure.rig.finish(PATIENCE);
    assert_eq!((cut, told.service().requests, told.service().failed), (0, 4, 0));
}

#[test]
fn tls_is_spoken_by_a_unix_socket_too() {
    let path = std::env::temp_dir().join(format!("mainstay-tls-{}.sock", std::process::id()));
    let origin = Origin::of("hello");
    let secure = SecureRig::with(table(&[origin.address]), &[b"http/1.1"], |settings| {
        settings.listen[1].address = Endpoint::Unix(path.to_str().unwrap().into());
    });
    let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("shop.example").unwrap();
    let session = ClientConnection::new(secure.identity.client(&[]), name).unwrap();
    let mut client = StreamOwned::new(session, stream);
    for _ in 0..2 {
        client.write_all(get("/").as_bytes()).unwrap();
        assert!(answer(&mut client).ends_with("\r\n\r\nhello"));
    }
    assert_eq!(origin.seen()[0].all("x-forwarded-proto"), ["https"]);
    let (cut, told) = secure.rig.finish(PATIENCE);
    assert_eq!((cut, told.service().requests), (0, 2));
    assert!(!path.exists());
}

#[test]
fn large_bodies_go_both_ways_over_tls_unchanged() {
    let origin = Origin::start(|request, wire| {
        wire.send(ok(&request.body));
        Then::Continue
    });
    let secure = SecureRig::new(table(&[origin.address]), &[]);
    let body: String = (0..400_000u32).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let mut client = secure.connect(&secure.identity.client(&[]));
    for _ in 0..2 {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(head.as_bytes()).unwrap();
        client.write_all(body.as_bytes()).unwrap();
        assert!(answer(&mut client).ends_with(&body));
    }
}

#[test]
fn a_connection_that_mainstay_closes_ends_with_a_goodbye() {
    let origin = Origin::of("hello");
    let secure = SecureRig::new(table(&[origin.address]), &[]);
    let mut client = secure.connect(&secure.identity.client(&[]));
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).expect("a TLS end before the TCP end");
    assert!(all.ends_with("hello"));
}

#[test]
fn who_comes_back_is_recognised_on_every_thread_and_after_new_certificates() {
    let origin = Origin::of("hello");
    let secure = SecureRig::with(table(&[origin.address]), &[], |settings| settings.workers = 2);
    let config = secure.identity.client(&[]);
    let first = secure.identity.server(&[]);
    secure.rig.proxy().set_tls(Some(first.clone()));
    let ask = || {
        let mut client = secure.connect(&config);
        client.write_all(get("/").as_bytes()).unwrap();
        assert!(answer(&mut client).ends_with("hello"));
        client.conn.handshake_kind().unwrap()
    };
    assert_eq!(ask(), HandshakeKind::Full);
    let mut renewed = (*secure.identity.server(&[])).clone();
    renewed.ticketer = first.ticketer.clone();
    secure.rig.proxy().set_tls(Some(Arc::new(renewed)));
    for _ in 0..8 {
        assert_eq!(ask(), HandshakeKind::Resumed);
    }
}

#[test]
fn new_certificates_hold_for_new_connections_and_old_ones_go_on() {
    let origin = Origin::of("hello");
    let secure = SecureRig::new(table(&[origin.address]), &[]);
    let mut old = secure.connect(&secure.identity.client(&[]));
    old.write_all(get("/").as_bytes()).unwrap();
    answer(&mut old);
    let renewed = Identity::of("shop.example");
    secure.rig.proxy().set_tls(Some(renewed.server(&[])));
    let mut distrusting = secure.connect(&secure.identity.client(&[]));
    assert!(distrusting.write_all(get("/").as_bytes()).is_err(), "it is shown the new one");
    let mut new = secure.connect(&renewed.client(&[]));
    new.write_all(get("/").as_bytes()).unwrap();
    assert!(answer(&mut new).ends_with("hello"));
    old.write_all(get("/").as_bytes()).unwrap();
    assert!(answer(&mut old).ends_with("hello"));
}

#[test]
fn who_does_not_shake_hands_is_let_go_and_nobody_else_suffers() {
    let origin = Origin::of("hello");
    let secure = SecureRig::with(table(&[origin.address]), &[], |settings| {
        settings.head_timeout = Duration::from_millis(200);
    });
    let mut silent = secure.tcp();
    let mut plain = secure.tcp();
    plain.write_all(get("/").as_bytes()).unwrap();
    let mut rest = Vec::new();
    // An alert, and then the end, or a reset, because the request was not read.
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"));
    let mut client = secure.connect(&secure.identity.client(&[]));
    client.write_all(get("/").as_bytes()).unwrap();
    assert!(answer(&mut client).ends_with("hello"));
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "closed at the deadline");
    let (_, told) = secure.rig.finish(PATIENCE);
    assert_eq!(told.traffic.refusals.get("tls-handshake"), Some(&2));
}

#[test]
fn a_client_that_reads_too_slowly_is_not_held_against_the_server() {
    let origin = Origin::start(|_, wire| {
        let body = vec![b'x'; 64 << 20];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = wire.stream.write_all(head.as_bytes()).and_then(|()| wire.stream.write_all(&body));
        Then::Close
    });
    let mut table = table(&[origin.address]);
    carriage(&mut table).timeouts.idle = Duration::from_millis(300);
    let mut secure = SecureRig::new(table, &[]);
    let mut client = secure.connect(&secure.identity.client(&[]));
    client.write_all(get("/").as_bytes()).unwrap();
    eventually("the client is given up", || {
        secure.rig.told().service().abandoned + secure.rig.told().service().failed == 1
    });
    assert_eq!((secure.rig.told().service().abandoned, secure.rig.told().server("a").failed()), (1, 0));
}
