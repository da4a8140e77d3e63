//! Clients that send anything: refused by name, without a panic, a leak or a byte to a server.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use mainstay_proxy::ClientLimits;

use crate::support::{Origin, PATIENCE, Rig, Then, carriage, eventually, get, ok, table};

#[test]
fn what_could_be_read_in_two_ways_reaches_no_server() {
    let origin = Origin::of("never");
    let rig = Rig::new(table(&[origin.address]));
    for (request, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
    ] {
        let answer = rig.ask(request);
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{request:?}");
    }
    assert_eq!(origin.count(), 0);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.service().failed, 0);
}

#[test]
fn a_smuggled_request_behind_a_refused_one_is_never_served() {
    let origin = Origin::of("never");
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.answer().unwrap().status, 400);
    assert!(wire.rest().unwrap().is_empty());
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_malformed_chunk_is_refused_and_its_server_sees_no_whole_request() {
    let origin = Origin::of("never");
    let rig = Rig::new(table(&[origin.address]));
    let answer =
        rig.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbodyX0\r\n\r\n");
    assert_eq!(answer.status, 400);
    let answer =
        rig.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n");
    assert_eq!(answer.status, 400);
    assert_eq!(origin.count(), 0);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (2, 0));
}

#[test]
fn what_is_too_large_is_refused() {
    let origin = Origin::of("never");
    let rig = Rig::new(table(&[origin.address]));
    let long = "x".repeat(40_000);
    assert_eq!(rig.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")).status, 431);
    assert_eq!(rig.ask(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[..9000])).status, 414);
    assert_eq!(rig.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(200))).status, 431);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_head_that_trickles_in_is_cut_off_as_a_whole() {
    let origin = Origin::of("never");
    let rig = Rig::with(table(&[origin.address]), |s| s.head_timeout = Duration::from_millis(300));
    let mut wire = rig.connect();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n");
    // Each byte comes long before any deadline for a single read would pass.
    let mut drip = wire.stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        let mut n = 0;
        while n < 2000 && drip.write_all(b"X").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
            n += 1;
        }
        n
    });
    assert_eq!(wire.answer().unwrap().status, 408);
    drop(wire);
    assert!(dripping.join().unwrap() < 2000, "the connection was closed");
}

#[test]
fn a_head_in_single_bytes_is_served() {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.stream.set_nodelay(true).unwrap();
    for byte in get("/").bytes() {
        wire.send([byte]);
    }
    assert_eq!(wire.answer().unwrap().text(), "hello");
}

#[test]
fn a_body_that_stops_coming_is_cut_off() {
    let origin = Origin::of("never");
    let mut table = table(&[origin.address]);
    carriage(&mut table).timeouts.idle = Duration::from_millis(200);
    let rig = Rig::new(table);
    assert_eq!(rig.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").status, 408);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.server("a").failed()), (0, 0));
}

#[test]
fn an_idle_client_is_let_go() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.client_idle = Duration::from_millis(100));
    let mut wire = rig.connect();
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().status, 200);
    assert!(wire.rest().unwrap().is_empty());
}

#[test]
fn a_storm_of_random_bytes_leaves_no_trace() {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    let mut rng = fastrand::Rng::with_seed(42);
    let pieces: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\n",
        b"\0",
        b": ",
        b"\x16\x03\x01",
    ];
    for _ in 0..400 {
        let mut bytes = Vec::new();
        for _ in 0..rng.usize(1..12) {
            if rng.bool() {
                bytes.extend_from_slice(pieces[rng.usize(..pieces.len())]);
            } else {
                let length = rng.usize(..40);
                bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(length));
            }
        }
        let mut stream = TcpStream::connect(rig.address()).unwrap();
        // It may be refused and closed before all of it is written.
        let _ = stream.write_all(&bytes);
    }
    assert_eq!(rig.get("/").text(), "hello");
    let (cut, told) = rig.finish(PATIENCE);
    assert_eq!((cut, told.service().failed), (0, 0));
    assert_eq!(told.traffic.servers.values().map(|s| s.in_flight).sum::<u64>(), 0);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.connections_max = 2);
    let mut held: Vec<_> = (0..2).map(|_| rig.connect()).collect();
    for wire in &mut held {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    let answer = rig.connect().answer().unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("too-many-connections"));
    held.pop();
    eventually("there is room again", || {
        let mut wire = rig.connect();
        let _ = wire.stream.write_all(get("/").as_bytes());
        wire.answer().is_ok_and(|a| a.status == 200)
    });
}

#[test]
fn an_address_that_holds_as_many_connections_as_it_may_is_told_so_and_others_are_served() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| {
        s.workers = 2;
        s.listen = vec![std::net::SocketAddr::from(([0, 0, 0, 0], 0)).into()];
        s.clients.connections_per_address = 3;
        s.clients.exempt = vec!["127.0.0.9".parse().unwrap()];
    });
    let from = |last: u8| rig.connect_from([127, 0, 0, last].into());
    let served = |mut wire: crate::support::Wire| {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().text(), "hello");
        wire
    };
    let mut held: Vec<_> = (0..3).map(|_| served(from(5))).collect();
    let answer = from(5).answer().unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("2")));
    assert!(answer.text().contains("too-many-connections-of-address"));
    served(from(6));
    let _exempt: Vec<_> = (0..6).map(|_| served(from(9))).collect();
    held.pop();
    eventually("there is room for it again", || {
        let mut wire = from(5);
        let _ = wire.stream.write_all(get("/").as_bytes());
        wire.answer().is_ok_and(|a| a.status == 200)
    });
    let more = ClientLimits { connections_per_address: 9, ..ClientLimits::default() };
    rig.proxy().set_client_limits(more);
    let _more: Vec<_> = (0..3).map(|_| served(from(5))).collect();
    let (_, told) = rig.finish(PATIENCE);
    assert!(told.traffic.refusals["too-many-connections-of-address"] >= 1);
}

#[test]
fn a_connection_that_has_carried_as_many_requests_as_it_may_is_closed_with_the_last_answer() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.clients.requests_per_connection = 3);
    let mut wire = rig.connect();
    wire.send([get("/"), get("/"), get("/"), get("/never")].concat());
    for last in [false, false, true] {
        let answer = wire.answer().unwrap();
        assert_eq!((answer.text(), answer.header("connection") == Some("close")), ("hello".to_owned(), last));
    }
    assert!(wire.rest().unwrap().is_empty());
    assert_eq!((origin.count(), origin.connections()), (3, 1), "the server's connection goes on");
}

#[test]
fn bytes_after_an_answer_end_the_servers_connection() {
    let origin = Origin::start(|_, wire| {
        wire.send([ok("one"), ok("smuggled")].concat());
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    for _ in 0..3 {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().text(), "one");
    }
    assert_eq!(origin.connections(), 3);
}
