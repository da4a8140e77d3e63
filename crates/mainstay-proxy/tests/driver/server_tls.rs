//! TLS to servers: kept connections and sessions, certificates that are not to be trusted, and servers that speak none.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use mainstay_model::input::FailureKind;
use mainstay_model::routing::RoutingTable;
use mainstay_proxy::{ServerTls, ServersTls};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::support::{Answer, Origin, PATIENCE, Rig, eventually, server_id, service_id, table};
use crate::tls::Identity;

/// A server that speaks TLS and answers its name to everything.
pub struct SecureOrigin {
    pub address: SocketAddr,
    /// How each of its handshakes went.
    handshakes: Arc<Mutex<Vec<Option<HandshakeKind>>>>,
    /// The names that were asked for.
    names: Arc<Mutex<Vec<Option<String>>>>,
    closes: Arc<AtomicBool>,
}

impl SecureOrigin {
    pub fn start(config: Arc<ServerConfig>, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            handshakes: Arc::default(),
            names: Arc::default(),
            closes: Arc::default(),
        };
        let (handshakes, names) = (Arc::clone(&origin.handshakes), Arc::clone(&origin.names));
        let closes = Arc::clone(&origin.closes);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
                let (handshakes, names) = (Arc::clone(&handshakes), Arc::clone(&names));
                let closes = Arc::clone(&closes);
                thread::spawn(move || {
                    let shaken = tls.conn.complete_io(&mut tls.sock);
                    handshakes.lock().unwrap().push(shaken.ok().and(tls.conn.handshake_kind()));
                    names.lock().unwrap().push(tls.conn.server_name().map(str::to_owned));
                    let (mut seen, mut buf) = (Vec::new(), [0; 4096]);
                    while let Ok(n @ 1..) = tls.read(&mut buf) {
                        seen.extend_from_slice(&buf[..n]);
                        if seen.ends_with(b"\r\n\r\n") || seen.ends_with(b"an order") {
                            seen.clear();
                            let closes = closes.load(Ordering::SeqCst);
                            let connection = if closes { "Connection: close\r\n" } else { "" };
                            let length = body.len();
                            let answer = format!(
                                "HTTP/1.1 200 OK\r\n{connection}Content-Length: {length}\r\n\r\n{body}"
                            );
                            if tls.write_all(answer.as_bytes()).is_err() || closes {
                                break;
                            }
                        }
                    }
                    tls.conn.send_close_notify();
                    let _ = tls.flush();
                });
            }
        });
        origin
    }

    fn handshakes(&self) -> Vec<Option<HandshakeKind>> {
        self.handshakes.lock().unwrap().clone()
    }
}

/// Servers that are spoken to over TLS.
pub fn secure_table(addresses: &[SocketAddr]) -> RoutingTable {
    let mut table = table(addresses);
    table.services[0].targets.iter_mut().for_each(|target| target.tls = true);
    table
}

/// How TLS is spoken with the servers of the only service.
pub fn speaks(config: Arc<ClientConfig>, name: &'static str) -> Arc<ServersTls> {
    let name = Some(ServerName::try_from(name).unwrap());
    let tls = ServerTls { config, name, names: BTreeMap::new() };
    Arc::new(BTreeMap::from([(service_id(), Arc::new(tls))]))
}

fn rig(addresses: &[SocketAddr], config: Arc<ClientConfig>, name: &'static str) -> Rig {
    Rig::with(secure_table(addresses), |settings| settings.server_tls = speaks(config, name))
}

#[test]
fn a_connection_over_tls_is_kept_and_its_session_is_resumed() {
    let identity = Identity::of("app.internal");
    let origin = SecureOrigin::start(identity.server(&[]), "secret");
    let mut rig = rig(&[origin.address], identity.client(&[]), "app.internal");
    for _ in 0..5 {
        assert_eq!(rig.get("/").text(), "secret");
    }
    assert_eq!(origin.handshakes(), [Some(HandshakeKind::Full)], "one connection carried them all");
    assert_eq!(*origin.names.lock().unwrap(), [Some("app.internal".to_owned())]);
    origin.closes.store(true, Ordering::SeqCst);
    assert_eq!(rig.get("/").text(), "secret");
    assert_eq!(rig.get("/").text(), "secret");
    assert_eq!(origin.handshakes(), [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
    assert_eq!(rig.told().server("a").failed(), 0);
}

/// What is told of a request whose first server could not be spoken to, and whose second answered.
fn story_of(rig: &mut Rig, answer: &Answer) -> String {
    assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "an order is sent elsewhere too");
    eventually("it is counted", || rig.told().server("a").failures.contains_key(&FailureKind::Tls));
    let failure = rig.told().failures[0].clone();
    assert_eq!((failure.kind, failure.retried_on), (FailureKind::Tls, Some(server_id("b"))));
    let retries = rig.unusual().retries;
    assert!(retries.keys().all(|(_, reason)| *reason == "tls"), "{retries:?}");
    let story = rig.story(answer);
    assert_eq!(story.attempts[0].verdict, "tried again, because no byte of it had been sent");
    story.attempts[0].outcome.clone()
}

#[test]
fn a_server_that_is_not_to_be_trusted_gets_nothing_and_another_one_answers() {
    let good = Identity::of("app.internal");
    let second = SecureOrigin::start(good.server(&[]), "good");
    for (bad, name, words) in [
        (Identity::of("app.internal"), "app.internal", "no trusted authority has issued"),
        (Identity::expired("app.internal"), "app.internal", "has expired"),
        (Identity::of("other.internal"), "app.internal", "made out to another name"),
    ] {
        let first = SecureOrigin::start(bad.server(&[]), "evil");
        let both = if words.starts_with("no trusted") { vec![&good] } else { vec![&good, &bad] };
        let mut rig = rig(&[first.address, second.address], Identity::client_of(&both), name);
        let answer = rig.post("an order");
        let told = story_of(&mut rig, &answer);
        assert!(told.starts_with("it shows a certificate") && told.contains(words), "{told}");
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_told_as_such() {
    let good = Identity::of("app.internal");
    let second = SecureOrigin::start(good.server(&[]), "good");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let mut rig = rig(&[plain, second.address], good.client(&[]), "app.internal");
    let answer = rig.post("an order");
    assert_eq!(story_of(&mut rig, &answer), "it does not speak TLS");
}

#[test]
fn nothing_is_sent_in_the_clear_to_a_server_that_nobody_has_said_how_to_speak_tls_with() {
    let origin = Origin::of("in the clear");
    let mut rig = Rig::new(secure_table(&[origin.address]));
    assert_eq!(rig.get("/").status, 503);
    eventually("it is counted", || rig.told().server("a").failures.contains_key(&FailureKind::Tls));
    assert_eq!(origin.count(), 0);
    // Whoever says so later is heard.
    let identity = Identity::of("app.internal");
    let secure = SecureOrigin::start(identity.server(&[]), "secret");
    rig.proxy().set_server_tls(speaks(identity.client(&[]), "app.internal"));
    rig.publish(secure_table(&[secure.address]));
    eventually("it answers", || rig.get("/").status == 200);
}

#[test]
fn connections_that_other_settings_made_are_not_used_again() {
    let identity = Identity::of("app.internal");
    let origin = SecureOrigin::start(identity.server(&[]), "secret");
    let rig = rig(&[origin.address], identity.client(&[]), "app.internal");
    assert_eq!(rig.get("/").text(), "secret");
    let stranger = Identity::of("app.internal");
    rig.proxy().set_server_tls(speaks(stranger.client(&[]), "app.internal"));
    eventually("it is trusted no longer", || rig.get("/").status == 503);
}
