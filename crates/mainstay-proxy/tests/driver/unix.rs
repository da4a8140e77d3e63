//! Unix sockets: servers behind them.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mainstay_model::Endpoint;
use mainstay_model::carriage::{SendProxy, Tcp};
use mainstay_model::input::FailureKind;
use mainstay_model::routing::RoutingTable;
use mainstay_proxy::Serves;

use crate::support::{
    Origin, PATIENCE, Rig, Seen, Then, Wire, carriage, eventually, get, ok, post, serve, service_id, table,
};

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mainstay-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint::Unix(self.path(name).to_str().unwrap().into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server of HTTP behind a Unix socket, which answers `body` to everything.
struct Server {
    path: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<Mutex<Vec<UnixStream>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    fn at(path: PathBuf, body: &'static str) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let server = Self { path, seen: Arc::default(), open: Arc::default(), stopped: Arc::default() };
        let (seen, open, stopped) =
            (Arc::clone(&server.seen), Arc::clone(&server.open), Arc::clone(&server.stopped));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let seen = Arc::clone(&seen);
                let answer = move |_: &Seen, wire: &mut Wire| {
                    wire.send(ok(body));
                    Then::Continue
                };
                thread::spawn(move || serve(Wire::unix(stream), &answer, &seen));
            }
        });
        server
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// Ends as a killed process does: its file stays, and nobody listens there.
    fn kill(&self) {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        drop(UnixStream::connect(&self.path));
        eventually("the listener is gone", || UnixStream::connect(&self.path).is_err());
        self.open.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.kill();
        }
    }
}

/// Servers there, in turn.
fn behind(endpoints: &[Endpoint]) -> RoutingTable {
    let nowhere = vec![([127, 0, 0, 1], 1).into(); endpoints.len()];
    let mut table = table(&nowhere);
    for (target, endpoint) in table.services[0].targets.iter_mut().zip(endpoints) {
        target.address = endpoint.clone();
    }
    table
}

#[test]
fn requests_go_to_a_server_behind_a_unix_socket_over_connections_that_are_kept() {
    let folder = Folder::new();
    let server = Server::at(folder.path("app.sock"), "hello");
    let rig = Rig::new(behind(&[folder.endpoint("app.sock")]));
    let mut wire = rig.connect();
    for _ in 0..3 {
        wire.send("GET /x HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
        assert_eq!(wire.answer().unwrap().text(), "hello");
    }
    let large = "x".repeat(300_000);
    wire.send(post(&large));
    assert_eq!(wire.answer().unwrap().status, 200);
    let seen = server.seen();
    assert_eq!(server.connections(), 1);
    assert_eq!(seen[0].all("host"), ["shop.example.com"], "the name that the visitor asked for");
    assert_eq!(seen[0].all("x-forwarded-for").len(), 1);
    assert_eq!(seen[3].body.len(), large.len());
    let (cut, told) = rig.finish(PATIENCE);
    assert_eq!((cut, told.service().failed, told.server("a").ok), (0, 0, 4));
}

#[test]
fn a_server_that_is_killed_or_gone_with_its_file_refuses_and_is_used_again_when_it_is_back() {
    let folder = Folder::new();
    let path = folder.path("app.sock");
    let other = Origin::of("other");
    let mut servers = behind(&[folder.endpoint("app.sock"), folder.endpoint("app.sock")]);
    servers.services[0].targets[1].address = other.address.into();
    let rig = Rig::new(servers);
    let first = Server::at(path.clone(), "first");
    assert_eq!(rig.get("/").text(), "first");
    first.kill();
    assert!(path.exists(), "as a killed process leaves it");
    for _ in 0..4 {
        assert_eq!(rig.get("/").text(), "other");
    }
    std::fs::remove_file(&path).unwrap();
    for _ in 0..4 {
        assert_eq!(rig.get("/").text(), "other");
    }
    let second = Server::at(path, "second");
    eventually("it is asked again", || rig.get("/").text() == "second");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.service().failed, 0);
    let failures = told.server("a").failures;
    assert!(
        failures.keys().all(|kind| *kind == FailureKind::Refused) && !failures.is_empty(),
        "{failures:?}"
    );
    assert!(!second.seen().is_empty());
}

#[test]
fn a_server_whose_queue_is_full_is_waited_for_as_long_as_connecting_may_take() {
    let folder = Folder::new();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(folder.path("busy.sock")).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let first = UnixStream::connect(folder.path("busy.sock")).unwrap();
    let mut waits = behind(&[folder.endpoint("busy.sock")]);
    carriage(&mut waits).timeouts.connect = Duration::from_secs(20);
    let rig = Rig::new(waits.clone());
    let mut wire = rig.connect();
    wire.send(get("/"));
    // The one that fills the queue, then the one that waited for room in it.
    let accepting = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(socket.accept().unwrap());
        let (stream, _) = socket.accept().unwrap();
        let mut wire = Wire::new(stream.into());
        assert!(wire.head().unwrap().is_some());
        wire.send(ok("at last"));
        socket
    });
    assert_eq!(wire.answer().unwrap().text(), "at last");
    let socket = accepting.join().unwrap();
    drop((first, rig));

    let _full = UnixStream::connect(folder.path("busy.sock")).unwrap();
    carriage(&mut waits).timeouts.connect = Duration::from_millis(50);
    let good = Server::at(folder.path("good.sock"), "good");
    let mut both = behind(&[folder.endpoint("busy.sock"), folder.endpoint("good.sock")]);
    *carriage(&mut both) = carriage(&mut waits).clone();
    let rig = Rig::new(both);
    assert_eq!(rig.get("/").text(), "good");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.server("a").failures.get(&FailureKind::ConnectTimeout), Some(&1));
    drop((socket, good));
}

#[test]
fn connections_to_a_server_that_has_moved_to_a_unix_socket_are_not_used_again() {
    let folder = Folder::new();
    let (before, after) = (Origin::of("before"), Server::at(folder.path("app.sock"), "after"));
    let rig = Rig::new(table(&[before.address]));
    let mut wire = rig.connect();
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "before");
    rig.publish(behind(&[folder.endpoint("app.sock")]));
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "after");
    rig.publish(table(&[before.address]));
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "before");
    assert_eq!((before.connections(), after.connections()), (2, 1));
}

/// Accepts one connection and says what came first on it, so many bytes.
fn first_bytes(path: &Path, n: usize) -> thread::JoinHandle<(Vec<u8>, UnixStream)> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut first = vec![0; n];
        stream.read_exact(&mut first).unwrap();
        (first, stream)
    })
}

#[test]
fn a_server_behind_a_unix_socket_is_told_who_a_connection_comes_from() {
    let folder = Folder::new();
    let accepted = first_bytes(&folder.path("app.sock"), 16);
    let mut said = behind(&[folder.endpoint("app.sock")]);
    carriage(&mut said).send_proxy = Some(SendProxy::V1);
    let rig = Rig::new(said);
    let mut wire = rig.connect();
    wire.send(get("/"));
    let (first, mut stream) = accepted.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&first), "PROXY TCP4 127.0");
    stream.write_all(&ok("hello")).unwrap();
    assert_eq!(wire.answer().unwrap().text(), "hello");
}

#[test]
fn a_tcp_service_passes_connections_on_to_a_unix_socket() {
    let folder = Folder::new();
    let accepted = first_bytes(&folder.path("db.sock"), 4);
    let mut passed = behind(&[folder.endpoint("gone.sock"), folder.endpoint("db.sock")]);
    carriage(&mut passed).tcp = Some(Tcp { close_when_down: true });
    let rig = Rig::with(passed, |settings| settings.listen[0].serves = Serves::Tcp(vec![service_id()]));
    let mut wire = rig.connect();
    wire.send("ping");
    let (first, mut stream) = accepted.join().unwrap();
    assert_eq!(first, b"ping");
    stream.write_all(b"pong").unwrap();
    assert_eq!(wire.exactly(4).unwrap(), b"pong");
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "its half has ended");
    drop(stream);
    assert_eq!(wire.rest().unwrap(), b"");
    eventually("it is over", || rig.proxy().sessions()[&service_id()].open == 0);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed, told.service().saved), (1, 0, 1));
}
