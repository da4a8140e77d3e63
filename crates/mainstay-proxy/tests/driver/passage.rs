//! TCP services: bytes both ways, a server that accepts, names by TLS, and who a proxy in front says that it is.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::carriage::{SendProxy, Tcp};
use mainstay_model::input::FailureKind;
use mainstay_model::limits::{Limits, Room};
use mainstay_model::routing::RoutingTable;
use mainstay_proxy::{Listen, Serves, Settings};

use crate::support::{
    Origin, PATIENCE, Refusing, Rig, Wire, carriage, eventually, get, server_id, service_id, table,
};

/// A server that says its name to whoever connects and then says back what it hears, half-closed sockets too.
struct Echo {
    address: SocketAddr,
    open: mpsc::Receiver<TcpStream>,
}

impl Echo {
    fn of(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, open) = mpsc::channel();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if opened.send(stream.try_clone().unwrap()).is_err() {
                    return;
                }
                thread::spawn(move || {
                    let _ = stream.write_all(name.as_bytes());
                    let mut from = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut from, &mut stream);
                    let _ = stream.shutdown(Shutdown::Write);
                });
            }
        });
        Self { address, open }
    }

    fn accepted(&self) -> TcpStream {
        self.open.recv_timeout(PATIENCE).expect("a connection")
    }
}

fn tcp(table: &mut RoutingTable) {
    let carriage = carriage(table);
    carriage.tcp = Some(Tcp { close_when_down: true });
    carriage.timeouts.idle = Duration::from_secs(60);
}

fn at_tcp(settings: &mut Settings) {
    settings.listen[0].serves = Serves::Tcp(vec![service_id()]);
}

fn rig(addresses: &[SocketAddr]) -> Rig {
    let mut table = table(addresses);
    tcp(&mut table);
    Rig::with(table, at_tcp)
}

fn says(wire: &mut Wire, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&wire.exactly(expected.len()).unwrap()), expected);
}

/// The client sees that its connection is gone.
fn is_gone(wire: &mut Wire) -> bool {
    let mut rest = Vec::new();
    // A reset is an end like any other here.
    let _ = wire.stream.read_to_end(&mut rest);
    rest.is_empty()
}

#[test]
fn a_server_may_speak_first_and_each_side_may_end_its_half_alone() {
    let echo = Echo::of("a");
    let mut rig = rig(&[echo.address]);
    let mut wire = rig.connect();
    says(&mut wire, "a");
    eventually("it is under way", || {
        rig.told().traffic.services.get(&service_id()).is_some_and(|s| (s.requests, s.in_flight) == (1, 1))
    });
    let text = "x".repeat(300_000);
    let mut writer = wire.stream.try_clone().unwrap();
    let sent = text.clone();
    let writing = thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(wire.rest().unwrap(), text.as_bytes(), "what was sent before the half was closed came back");
    writing.join().unwrap();
    eventually("it is over", || rig.proxy().sessions()[&service_id()].open == 0);
    let sessions = rig.proxy().sessions()[&service_id()];
    assert_eq!((sessions.begun, sessions.bytes_in, sessions.bytes_out), (1, 300_000, 300_001));
    let (cut, told) = rig.finish(PATIENCE);
    let service = told.service();
    assert_eq!((cut, service.requests, service.failed, service.in_flight), (0, 1, 0, 0));
    assert_eq!(told.server("a").ok, 1);
}

#[test]
fn a_connection_goes_on_to_the_next_server_when_one_refuses_and_is_cut_by_nobody() {
    let (refusing, echo) = (Refusing::new(), Echo::of("b"));
    let rig = rig(&[refusing.address, echo.address]);
    for _ in 0..4 {
        let mut wire = rig.connect();
        says(&mut wire, "b");
    }
    let (_, told) = rig.finish(PATIENCE);
    let service = told.service();
    assert_eq!((service.requests, service.failed, service.saved), (4, 0, 1));
    assert_eq!(told.server("a").failures.get(&FailureKind::Refused), Some(&1), "it is avoided from then on");
    assert_eq!(told.failures.len(), 1);
}

#[test]
fn with_nobody_to_take_it_a_connection_is_closed_and_counted_as_failed() {
    let refusing = Refusing::new();
    let rig = rig(&[refusing.address]);
    assert!(is_gone(&mut rig.connect()));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (1, 1));
}

#[test]
fn sessions_leave_a_server_that_is_put_out_of_rotation_and_stay_where_that_is_not_wanted() {
    for closes in [true, false] {
        let (a, b) = (Echo::of("a"), Echo::of("b"));
        let mut both = table(&[a.address, b.address]);
        tcp(&mut both);
        carriage(&mut both).tcp = Some(Tcp { close_when_down: closes });
        let rig = Rig::with(both.clone(), at_tcp);
        let (mut on_a, mut on_b) = (rig.connect(), rig.connect());
        says(&mut on_a, "a");
        says(&mut on_b, "b");
        let mut without = both.clone();
        let out = without.services[0].targets.remove(0);
        without.services[0].last_resort.push(out);
        rig.publish(without);
        if closes {
            assert!(is_gone(&mut on_a));
        } else {
            on_a.send("x");
            says(&mut on_a, "x");
        }
        on_b.send("y");
        says(&mut on_b, "y");
        let mut again = rig.connect();
        says(&mut again, "b");
        let (cut, told) = rig.finish(Duration::ZERO);
        let expected = if closes { 2 } else { 3 };
        assert_eq!(cut, expected);
        assert_eq!(
            told.service().failed,
            u64::from(closes),
            "those that were cut at the end are no failures"
        );
    }
}

#[test]
fn a_session_that_says_nothing_for_the_idle_time_is_closed_and_is_no_failure() {
    let echo = Echo::of("a");
    let mut table = table(&[echo.address]);
    tcp(&mut table);
    carriage(&mut table).timeouts.idle = Duration::from_millis(50);
    let rig = Rig::with(table, at_tcp);
    let mut wire = rig.connect();
    says(&mut wire, "a");
    assert!(is_gone(&mut wire));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (1, 0));
}

#[test]
fn a_server_that_resets_a_session_has_cut_it() {
    let echo = Echo::of("a");
    let mut rig = rig(&[echo.address]);
    let mut wire = rig.connect();
    says(&mut wire, "a");
    let server = echo.accepted();
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    // The echoing thread's copies of the socket go once it is shut down; a reset needs something unread.
    wire.send("unread");
    drop(server);
    says(&mut wire, "unread");
    drop(echo);
    drop(wire);
    eventually("it is over", || rig.proxy().sessions()[&service_id()].open == 0);
    assert_eq!(rig.told().server("a").failures, <_>::default(), "only accepting is judged");
}

#[test]
fn a_drain_lets_sessions_go_on_until_its_deadline() {
    let echo = Echo::of("a");
    let rig = rig(&[echo.address]);
    let mut wire = rig.connect();
    says(&mut wire, "a");
    let going_on = thread::spawn(move || {
        wire.send("x");
        says(&mut wire, "x");
        wire.stream.shutdown(Shutdown::Write).unwrap();
        wire.rest().unwrap()
    });
    let (cut, _) = rig.finish(PATIENCE);
    assert_eq!((cut, going_on.join().unwrap()), (0, Vec::new()));
}

#[test]
fn a_session_that_a_drain_ends_at_its_deadline_is_no_failure() {
    let echo = Echo::of("a");
    let rig = rig(&[echo.address]);
    let mut wire = rig.connect();
    says(&mut wire, "a");
    let (cut, told) = rig.finish(Duration::from_millis(50));
    let service = told.service();
    assert_eq!((cut, service.requests, service.failed), (1, 1, 0));
    assert!(is_gone(&mut wire));
}

#[test]
fn a_connection_over_the_limit_waits_for_a_place_and_is_let_go_at_the_queues_deadline() {
    let echo = Echo::of("a");
    let mut table = table(&[echo.address]);
    tcp(&mut table);
    let room = Room { queue: 1, queue_deadline: Duration::from_secs(20), ..Room::of(1) };
    carriage(&mut table).limits = std::sync::Arc::new(Limits { room: Some(room), ..Limits::NONE });
    let mut rig = Rig::with(table, at_tcp);
    let mut first = rig.connect();
    says(&mut first, "a");
    let mut second = rig.connect();
    eventually("it waits", || {
        rig.told().traffic.services.get(&service_id()).is_some_and(|s| (s.in_flight, s.queued) == (1, 1))
    });
    assert!(is_gone(&mut rig.connect()), "the queue is full");
    drop(first);
    says(&mut second, "a");
    drop(second);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().shed), (3, 1));
}

/// A hello with a name, as few bytes as can be.
fn hello(name: &str) -> Vec<u8> {
    let list = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &list(name.as_bytes())].concat();
    let extensions = [&[0, 0][..], &list(&list(&entry))].concat();
    let body = [&[3, 3][..], &[9; 32], &[0], &list(&[0x13, 1]), &[1, 0], &list(&extensions)].concat();
    let message = [&[1, 0][..], &list(&body)].concat();
    [&[22, 3, 1][..], &list(&message)].concat()
}

#[test]
fn services_on_one_address_are_told_apart_by_the_name_that_tls_asks_for() {
    let (one, other) = (Echo::of(""), Echo::of(""));
    let mut first = table(&[one.address]);
    tcp(&mut first);
    carriage(&mut first).hosts = vec!["db.example.com".into()];
    let mut second = table(&[other.address]);
    tcp(&mut second);
    carriage(&mut second).hosts = vec!["*.example.com".into()];
    let id = ServiceId::new("other");
    second.services[0].id = id.clone();
    second.services[0].targets[0].id = id.server("a");
    first.services.extend(second.services);
    let rig = Rig::with(first, |settings| {
        settings.listen[0].serves = Serves::Tcp(vec![service_id(), id.clone()]);
    });
    for (name, echo) in [("DB.example.com", &one), ("x.example.com", &other)] {
        let mut wire = rig.connect();
        let hello = hello(name);
        let (begin, rest) = hello.split_at(20);
        wire.send(begin);
        wire.send(rest);
        wire.send("more");
        let all = [&hello[..], b"more"].concat();
        assert_eq!(wire.exactly(all.len()).unwrap(), all, "the server saw the hello as it was");
        echo.accepted();
    }
    let mut wire = rig.connect();
    wire.send(hello("elsewhere.org"));
    assert_eq!(wire.exactly(7).unwrap(), [21, 3, 3, 0, 2, 2, 112]);
    let mut plain = rig.connect();
    plain.send("GET / HTTP/1.1\r\n\r\n");
    assert!(is_gone(&mut plain));
    let (_, told) = rig.finish(PATIENCE);
    for name in ["tls-name-unknown", "tls-hello-missing"] {
        assert_eq!(told.traffic.refusals.get(name), Some(&1), "{name}");
    }
    assert_eq!((told.service().requests, told.traffic.services[&id].requests), (1, 1));
}

#[test]
fn a_hello_that_never_comes_is_waited_for_no_longer_than_a_head() {
    let echo = Echo::of("a");
    let mut table = table(&[echo.address]);
    tcp(&mut table);
    carriage(&mut table).hosts = vec!["db.example.com".into()];
    let rig = Rig::with(table, |settings| {
        at_tcp(settings);
        settings.head_timeout = Duration::from_millis(50);
    });
    let mut wire = rig.connect();
    wire.send(&hello("db.example.com")[..9]);
    assert!(is_gone(&mut wire));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.traffic.refusals.get("tls-hello-timeout"), Some(&1));
}

fn behind_a_proxy(settings: &mut Settings) {
    settings.listen[0].proxies = vec!["127.0.0.1".parse().unwrap()];
    settings.head_timeout = Duration::from_millis(200);
}

#[test]
fn who_a_trusted_proxy_says_that_it_is_the_visitor_and_nobody_else_may_say() {
    let origin = Origin::of("hi");
    let rig = Rig::with(table(&[origin.address]), behind_a_proxy);
    let header = "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n";
    for chunk in [1, 7, 1000] {
        let mut wire = rig.connect();
        let bytes = [header, &get("/")].concat();
        for part in bytes.as_bytes().chunks(chunk) {
            wire.send(part);
        }
        assert_eq!(wire.answer().unwrap().text(), "hi");
    }
    assert!(origin.seen().iter().all(|seen| seen.all("x-forwarded-for") == ["198.51.100.7"]));
    let mut stranger = rig.connect_from([127, 0, 0, 2].into());
    stranger.send([header, &get("/")].concat());
    assert_eq!(stranger.answer().unwrap().status, 400, "from a stranger it is no header");
    for (sent, reason) in [
        (get("/"), "proxy-header-missing"),
        ("PROXY TCP4 nonsense\r\n".to_owned(), "proxy-header-malformed"),
        ("PROXY TCP4".to_owned(), "proxy-header-timeout"),
    ] {
        let mut wire = rig.connect();
        wire.send(&sent);
        assert!(is_gone(&mut wire), "{reason}");
    }
    let (_, told) = rig.finish(PATIENCE);
    for reason in ["proxy-header-missing", "proxy-header-malformed", "proxy-header-timeout"] {
        assert_eq!(told.traffic.refusals.get(reason), Some(&1), "{reason}");
    }
}

#[test]
fn servers_are_told_who_a_connection_comes_from_when_they_want_to_know() {
    let echo = Echo::of("");
    for (version, expected) in [
        (SendProxy::V1, b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\nx".to_vec()),
        (
            SendProxy::V2,
            [
                &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
                &[198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80, b'x'],
            ]
            .concat(),
        ),
    ] {
        let mut table = table(&[echo.address]);
        tcp(&mut table);
        carriage(&mut table).send_proxy = Some(version);
        let rig = Rig::with(table, |settings| {
            at_tcp(settings);
            behind_a_proxy(settings);
        });
        let mut wire = rig.connect();
        wire.send("PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\nx");
        assert_eq!(wire.exactly(expected.len()).unwrap(), expected);
    }
}

#[test]
fn a_connection_that_says_who_it_is_from_carries_one_request_to_a_server_of_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut table = table(&[listener.local_addr().unwrap()]);
    carriage(&mut table).send_proxy = Some(SendProxy::V1);
    let rig = Rig::with(table, |_| {});
    let server = thread::spawn(move || {
        for _ in 0..2 {
            let mut wire = Wire::new(listener.accept().unwrap().0);
            let head = wire.head().unwrap().unwrap();
            assert!(head[0].starts_with("PROXY TCP4 127.0.0.1 127."), "{head:?}");
            assert!(head[1].starts_with("GET /"), "{head:?}");
            wire.send(crate::support::ok("hi"));
        }
    });
    let mut wire = rig.connect();
    for _ in 0..2 {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().text(), "hi");
    }
    server.join().unwrap();
}

#[test]
fn an_address_may_become_one_of_a_tcp_service_while_it_is_listened_on() {
    let (origin, echo) = (Origin::of("hi"), Echo::of("a"));
    let mut was = None;
    let rig = Rig::with(table(&[origin.address]), |settings| was = settings.listen.first().cloned());
    assert_eq!(rig.get("/").text(), "hi");
    let mut tcp_table = table(&[echo.address]);
    tcp(&mut tcp_table);
    rig.publish(tcp_table);
    let address = rig.address();
    rig.listen(&[Listen { serves: Serves::Tcp(vec![service_id()]), ..was.unwrap() }]).unwrap();
    assert_eq!(rig.address(), address);
    eventually("all workers know", || {
        let mut wire = rig.connect();
        wire.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        wire.exactly(1).is_ok_and(|said| said == b"a")
    });
    assert_eq!(server_id("a"), service_id().server("a"));
}
