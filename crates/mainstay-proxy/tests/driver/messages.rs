//! Requests and answers of every shape, passed on exactly.

use std::net::Shutdown;

use crate::support::{Origin, PATIENCE, Rig, Then, get, ok, post, table};

/// A body whose every position is recognisable.
fn pattern(n: usize) -> Vec<u8> {
    (0..n as u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).take(n).collect()
}

fn echo() -> Origin {
    Origin::start(|request, wire| {
        wire.send(ok(&request.body));
        Then::Continue
    })
}

#[test]
fn connections_are_kept_alive_on_both_sides() {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    for _ in 0..5 {
        wire.send(get("/"));
        let answer = wire.answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    assert_eq!((origin.count(), origin.connections()), (5, 1));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.server("a").ok, told.service().requests, told.service().failed), (5, 5, 0));
}

#[test]
fn a_large_body_goes_both_ways_unchanged() {
    let origin = echo();
    let rig = Rig::new(table(&[origin.address]));
    let body = pattern(5_000_000);
    let mut wire = rig.connect();
    for _ in 0..2 {
        wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        wire.send(&body);
        assert!(wire.answer().unwrap().body == body);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_large_body_in_chunks_goes_both_ways_unchanged() {
    let origin = Origin::start(|request, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in request.body.chunks(30_011) {
            wire.send(format!("{:X};ext=1\r\n", chunk.len()));
            wire.send(chunk);
            wire.send("\r\n");
        }
        wire.send("0\r\nX-Trailer: dropped\r\n\r\n");
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let body = pattern(3_000_000);
    let mut wire = rig.connect();
    for _ in 0..2 {
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(70_001) {
            wire.send(format!("{:x}\r\n", chunk.len()));
            wire.send(chunk);
            wire.send("\r\n");
        }
        wire.send("0\r\n\r\n");
        let answer = wire.answer().unwrap();
        assert!(answer.body == body);
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let origin = Origin::start(|request, wire| {
        wire.send(match request.path() {
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            _ => "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: x\r\n\r\n",
        });
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    for (method, path, status, length) in
        [("HEAD", "/head", 200, Some("500")), ("GET", "/204", 204, None), ("GET", "/304", 304, Some("500"))]
    {
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = wire.answer_to(method).unwrap();
        assert_eq!((answer.status, answer.header("content-length")), (status, length));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_expected_continue_is_answered_before_the_body_is_sent() {
    let origin = echo();
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(wire.answer().unwrap().status, 100);
    wire.send("body");
    assert_eq!(wire.answer().unwrap().text(), "body");
    assert!(origin.seen()[0].all("expect").is_empty());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|request, wire| {
        wire.send(ok([request.path().as_bytes(), &request.body].concat()));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send([get("/1"), post("x"), get("/3")].concat());
    let answers: Vec<String> = (0..3).map(|_| wire.answer().unwrap().text()).collect();
    assert_eq!(answers, ["/1", "/orderx", "/3"]);
}

#[test]
fn an_upgraded_connection_is_a_tunnel_in_both_directions() {
    let origin = Origin::start(|request, wire| {
        assert_eq!((request.all("upgrade"), request.all("connection")), (vec!["websocket"], vec!["upgrade"]));
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst");
        for _ in 0..3 {
            let bytes = wire.exactly(1000).unwrap();
            wire.send(bytes);
        }
        assert!(wire.rest().unwrap().is_empty());
        wire.send("last");
        Then::Close
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let answer = wire.answer().unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    assert_eq!(wire.exactly(5).unwrap(), b"first");
    for _ in 0..3 {
        wire.send(pattern(1000));
        assert_eq!(wire.exactly(1000).unwrap(), pattern(1000));
    }
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest().unwrap(), b"last");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.server("a").ok, told.server("a").in_flight, told.service().requests), (1, 0, 1));
}

#[test]
fn what_follows_an_upgrade_that_was_not_agreed_to_is_a_request_of_its_own() {
    let origin = Origin::start(|request, wire| {
        wire.send(ok(format!("{} {}", request.path(), request.all("x-forwarded-for").join(","))));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    // A server that reads on would take the second for a request of Mainstay's own, with whatever headers it likes.
    wire.send(
        "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
         GET /admin HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
    );
    assert_eq!(wire.answer().unwrap().text(), "/socket 127.0.0.1");
    assert_eq!(wire.answer().unwrap().text(), "/admin 10.0.0.1, 127.0.0.1", "it went through every check");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.service().requests, 2);
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_no_answer() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    assert_eq!(rig.post("x").status, 502);
}

#[test]
fn hop_by_hop_headers_end_at_the_proxy_and_the_origin_of_a_request_is_told() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\n\r\n");
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let answer = rig.ask(
        "GET / HTTP/1.1\r\nHost: Shop.example:81\r\nConnection: X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\n\
         X-Forwarded-For: 10.1.1.1\r\nForwarded: for=10.1.1.1\r\nX-Keep: 3\r\n\r\n",
    );
    assert_eq!(
        (answer.header("x-hop"), answer.header("keep-alive"), answer.header("x-end")),
        (None, None, Some("2"))
    );
    let seen = &origin.seen()[0];
    for gone in ["connection", "x-mine", "te"] {
        assert!(seen.all(gone).is_empty(), "{gone}");
    }
    assert_eq!(seen.all("host"), ["Shop.example:81"]);
    assert_eq!(seen.all("x-keep"), ["3"]);
    assert_eq!(seen.all("x-forwarded-for"), ["10.1.1.1, 127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["Shop.example:81"]);
    assert_eq!(seen.all("forwarded"), ["for=10.1.1.1, for=127.0.0.1;host=\"Shop.example:81\";proto=http"]);
    assert_eq!(seen.all("x-request-id")[0].len(), 32);
}

#[test]
fn old_clients_and_old_servers_are_served() {
    let origin = Origin::start(|request, wire| match request.path() {
        "/chunked" => {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
            Then::Continue
        }
        "/length" => {
            wire.send("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc");
            Then::Close
        }
        _ => {
            wire.send("HTTP/1.0 200 OK\r\n\r\nabc");
            Then::Close
        }
    });
    let rig = Rig::new(table(&[origin.address]));
    for path in ["/chunked", "/length", "/close"] {
        let answer = rig.ask(format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "abc"), "{path}");
        assert_eq!((answer.header("transfer-encoding"), answer.header("connection")), (None, Some("close")));
        let answer = rig.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, "abc"), "{path}");
    }
    let mut wire = rig.connect();
    for _ in 0..2 {
        wire.send("GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = wire.answer().unwrap();
        assert_eq!((answer.header("connection"), answer.text().as_str()), (Some("keep-alive"), "abc"));
    }
}

#[test]
fn interim_answers_are_passed_on_except_the_servers_own_continue() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        wire.send(ok("done"));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send(get("/"));
    let hints = wire.answer().unwrap();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    assert_eq!(wire.answer().unwrap().text(), "done");
    assert_eq!(rig.ask("GET / HTTP/1.0\r\n\r\n").text(), "done", "an old client knows no interim answers");
}

#[test]
fn an_answer_before_the_whole_request_is_passed_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::new(table(&[listener.local_addr().unwrap()]));
    let mut wire = rig.connect();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nstart");
    let mut server = crate::support::Wire::new(listener.accept().unwrap().0);
    server.head().unwrap();
    server.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
    let answer = wire.answer().unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.header("connection")),
        (413, "big", Some("close"))
    );
}
