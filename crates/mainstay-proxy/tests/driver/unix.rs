//! Unix sockets: servers behind them, and listeners for visitors.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mainstay_model::Endpoint;
use mainstay_model::carriage::{SendProxy, Tcp};
use mainstay_model::input::FailureKind;
use mainstay_model::limits::{AddressLimit, Limits, Subnet};
use mainstay_model::policy::Balance;
use mainstay_model::routing::RoutingTable;
use mainstay_proxy::{Access, ClientLimits, Listen, Serves};

use crate::support::{
    Gate, Origin, PATIENCE, Rig, Seen, Then, Wire, carriage, eventually, get, ok, own_address, post, serve,
    service_id, table,
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

fn listening(folder: &Folder) -> Listen {
    folder.endpoint("front.sock").into()
}

fn at(folder: &Folder) -> Wire {
    Wire::unix(UnixStream::connect(folder.path("front.sock")).unwrap())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn visitors_are_served_by_a_unix_socket_by_all_workers_and_its_file_goes_with_the_drain() {
    let folder = Folder::new();
    let origin = Origin::of("hello");
    let listen = listening(&folder);
    let rig = Rig::with(table(&[origin.address]), |s| (s.workers, s.listen) = (3, vec![listen]));
    assert_eq!(rig.proxy().addresses(), [folder.endpoint("front.sock")]);
    assert_eq!(mode(&folder.path("front.sock")), 0o660);
    let mut wires: Vec<Wire> = (0..30).map(|_| at(&folder)).collect();
    for _ in 0..2 {
        for wire in &mut wires {
            wire.send(get("/"));
            assert_eq!(wire.answer().unwrap().text(), "hello");
        }
    }
    let seen = &origin.seen()[0];
    assert_eq!(seen.all("x-forwarded-for"), ["unknown"]);
    assert_eq!(seen.all("forwarded"), ["for=unknown;host=\"a\";proto=http"]);
    let (cut, told) = rig.finish(PATIENCE);
    assert_eq!((cut, told.service().requests, told.service().failed), (0, 60, 0));
    assert!(!folder.path("front.sock").exists(), "a clean end leaves nothing behind");
}

#[test]
fn a_request_without_a_host_is_for_this_machine_when_it_comes_by_a_unix_socket() {
    let folder = Folder::new();
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.listen = vec![listening(&folder)]);
    let mut wire = at(&folder);
    wire.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(wire.answer().unwrap().text(), "hello");
    assert_eq!(origin.seen()[0].all("host"), ["localhost"]);
    drop(rig);
}

#[test]
fn who_comes_by_a_unix_socket_is_believed_only_if_the_config_says_so() {
    let folder = Folder::new();
    let origin = Origin::of("hello");
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n\r\n";
    for (trusted, passed_on) in [
        (vec![], "203.0.113.9, 198.51.100.7, unknown"),
        (vec!["0.0.0.0/0".parse().unwrap()], "203.0.113.9, 198.51.100.7, unknown"),
        (vec![Subnet::Unix], "203.0.113.9, 198.51.100.7"),
    ] {
        let believed = trusted == [Subnet::Unix];
        let mut limited = table(&[origin.address]);
        let per_address =
            AddressLimit { requests: 1, per: Duration::from_secs(3600), burst: 1, close: false };
        carriage(&mut limited).limits =
            Arc::new(Limits { per_address: Some(per_address), trusted_proxies: trusted, ..Limits::NONE });
        let rig = Rig::with(limited, |s| s.listen = vec![listening(&folder)]);
        let mut wire = at(&folder);
        wire.send(asked);
        assert_eq!(wire.answer().unwrap().status, 200);
        assert_eq!(origin.seen().last().unwrap().all("x-forwarded-for"), [passed_on]);
        // Of whom nothing is known is in nobody's bucket; who is named is in its own.
        wire.send(asked);
        assert_eq!(wire.answer().unwrap().status, if believed { 429 } else { 200 });
        rig.finish(PATIENCE);
    }
}

#[test]
fn visitors_of_whom_nothing_is_known_are_spread_over_the_servers_and_share_no_limit_of_connections() {
    let folder = Folder::new();
    let origins = [Origin::of("a"), Origin::of("b"), Origin::of("c")];
    let mut hashed = table(&origins.each_ref().map(|origin| origin.address));
    carriage(&mut hashed).balance = Balance::Hash;
    let rig = Rig::with(hashed, |s| {
        s.listen = vec![listening(&folder)];
        s.clients = ClientLimits { connections_per_address: 1, ..ClientLimits::default() };
    });
    let mut wires: Vec<Wire> = (0..40).map(|_| at(&folder)).collect();
    for wire in &mut wires {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    assert!(origins.iter().all(|origin| origin.count() > 0), "not all to one");
    rig.finish(PATIENCE);
}

#[test]
fn a_proxy_says_by_a_unix_socket_who_a_connection_comes_from() {
    let folder = Folder::new();
    let origin = Origin::of("hello");
    let listen = Listen { proxies: vec![Subnet::Unix], ..listening(&folder) };
    let mut rig = Rig::with(table(&[origin.address]), |s| s.listen = vec![listen]);
    let mut wire = at(&folder);
    wire.send("PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n");
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "hello");
    let mut own = at(&folder);
    own.send("PROXY UNKNOWN\r\n");
    own.send(get("/"));
    assert_eq!(own.answer().unwrap().text(), "hello");
    let from: Vec<String> = origin.seen().iter().map(|seen| seen.all("x-forwarded-for").concat()).collect();
    assert_eq!(from, ["203.0.113.9", "unknown"]);
    let mut bare = at(&folder);
    bare.send(get("/"));
    assert!(bare.rest().unwrap_or_default().is_empty(), "a header must come first");
    eventually("it is counted", || rig.told().traffic.refusals.contains_key("proxy-header-missing"));
}

#[test]
fn a_socket_that_a_dead_process_left_is_taken_and_one_that_is_in_use_never() {
    let folder = Folder::new();
    let path = folder.path("front.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.listen = vec![own_address().into()]);
    rig.listen(&[listening(&folder)]).unwrap();
    let mut wire = at(&folder);
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "hello");

    let other = Rig::with(table(&[origin.address]), |s| s.listen = vec![own_address().into()]);
    let refused = other.listen(&[listening(&folder)]).unwrap_err().to_string();
    assert!(refused.contains("front.sock: another program listens there"), "{refused}");
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "hello", "and the one who listens notices nothing");
    std::fs::write(folder.path("file"), "precious").unwrap();
    let refused = other.listen(&[folder.endpoint("file").into()]).unwrap_err().to_string();
    assert!(refused.contains("which is no socket"), "{refused}");
    assert_eq!(std::fs::read(folder.path("file")).unwrap(), b"precious");
    let refused = other.listen(&[folder.endpoint("none/front.sock").into()]).unwrap_err().to_string();
    assert!(refused.contains("its folder does not exist"), "{refused}");
    other.finish(PATIENCE);
    assert!(path.exists(), "it was not the other's to remove");
    rig.finish(PATIENCE);
}

#[test]
fn a_unix_socket_comes_and_goes_by_a_reload_and_whoever_is_there_is_served() {
    let folder = Folder::new();
    let path = folder.path("front.sock");
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |_, wire| {
        inner.wait();
        wire.send(ok("done"));
        Then::Continue
    });
    let rig = Rig::with(table(&[origin.address]), |s| s.workers = 2);
    let tcp = Listen::from(Endpoint::from(rig.address()));
    rig.listen(&[tcp.clone(), listening(&folder)]).unwrap();
    let (mut idle, mut busy) = (at(&folder), at(&folder));
    busy.send(post("an order"));
    eventually("it is there", || origin.count() == 1);
    let access = Access { mode: 0o600, ..Access::default() };
    rig.listen(&[tcp.clone(), Listen { access, ..listening(&folder) }]).unwrap();
    assert_eq!(mode(&path), 0o600, "another mode is in force at once, and the socket is the same");
    rig.listen(std::slice::from_ref(&tcp)).unwrap();
    assert!(!path.exists());
    gate.open();
    let answer = busy.answer().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", Some("close")));
    assert_eq!(idle.rest().unwrap(), b"");
    rig.listen(&[tcp, listening(&folder)]).unwrap();
    let mut again = at(&folder);
    again.send(get("/"));
    assert_eq!(again.answer().unwrap().text(), "done");
    assert_eq!(rig.finish(PATIENCE).1.service().failed, 0);
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_is_handed_over_with_its_file_and_one_that_is_not_wanted_goes_with_it() {
    let folder = Folder::new();
    let (path, more) = (folder.path("front.sock"), folder.path("more.sock"));
    let origin = Origin::of("hello");
    let both = vec![listening(&folder), folder.endpoint("more.sock").into()];
    let old = Rig::with(table(&[origin.address]), |s| (s.workers, s.listen) = (2, both));
    let mut kept = at(&folder);
    kept.send(get("/"));
    assert_eq!(kept.answer().unwrap().text(), "hello");

    // One that does not come to serve leaves everything as it was.
    let listen = listening(&folder);
    let failed =
        Rig::taking_over(table(&[origin.address]), old.sockets(), |s| s.listen = vec![listen.clone()]);
    failed.finish(PATIENCE);
    assert!(path.exists() && more.exists());
    drop(UnixStream::connect(&more).unwrap());

    let new = Rig::taking_over(table(&[origin.address]), old.sockets(), |s| {
        (s.workers, s.listen) = (3, vec![listen]);
    });
    new.proxy().is_in_charge();
    assert!(path.exists() && !more.exists(), "nobody listens there any more");
    let retiring = thread::spawn(move || old.retire(PATIENCE));
    eventually("its connection is let go with an answer", || {
        kept.send(get("/"));
        let answer = kept.answer().expect("it is not cut");
        answer.header("connection") == Some("close")
    });
    assert_eq!(retiring.join().unwrap().0, 0);
    assert!(path.exists(), "the one before has left the file alone");
    let mut wire = at(&folder);
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "hello");
    new.finish(PATIENCE);
    assert!(!path.exists());
}

#[test]
fn a_tcp_service_takes_connections_by_a_unix_socket_too() {
    let folder = Folder::new();
    let echo = Server::at(folder.path("app.sock"), "echo");
    let mut passed = behind(&[folder.endpoint("app.sock")]);
    carriage(&mut passed).tcp = Some(Tcp { close_when_down: true });
    let listen = Listen { serves: Serves::Tcp(vec![service_id()]), ..listening(&folder) };
    let rig = Rig::with(passed, |s| s.listen = vec![listen]);
    let mut wire = at(&folder);
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "echo");
    drop((wire, rig, echo));
}
