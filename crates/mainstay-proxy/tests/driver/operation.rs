//! Tables that change, draining, limits of time, and counts that add up.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mainstay_proxy::{Proxy, Settings, StartError};

use crate::support::{Gate, Origin, PATIENCE, Rig, Then, carriage, eventually, get, ok, table};

#[test]
fn tables_change_under_traffic_without_a_failed_request() {
    let origins = [Origin::of("a"), Origin::of("b")];
    let addresses = origins.each_ref().map(|o| o.address);
    let rig = Arc::new(Rig::with(table(&addresses), |s| s.workers = 2));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (rig, stop) = (Arc::clone(&rig), Arc::clone(&stop));
            thread::spawn(move || {
                let (mut n, mut wire) = (0u64, rig.connect());
                while !stop.load(Ordering::SeqCst) {
                    wire.send(get("/"));
                    assert_eq!(wire.answer().unwrap().status, 200);
                    n += 1;
                }
                n
            })
        })
        .collect();
    for i in 0..60 {
        let mut next = table(&addresses);
        next.version = i;
        match i % 3 {
            0 => next.services[0].targets.truncate(1),
            1 => {
                let moved = next.services[0].targets.remove(0);
                next.services[0].last_resort.push(moved);
            }
            _ => {}
        }
        rig.publish(next);
        thread::sleep(Duration::from_millis(5));
    }
    stop.store(true, Ordering::SeqCst);
    let sent: u64 = clients.into_iter().map(|c| c.join().expect("every answer was good")).sum();
    let (_, told) = Arc::into_inner(rig).expect("the clients are done").finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (sent, 0));
    assert_eq!(told.server("a").ok + told.server("b").ok, sent);
}

#[test]
fn a_published_table_holds_for_the_next_request() {
    let (a, b) = (Origin::of("a"), Origin::of("b"));
    let rig = Rig::new(table(&[a.address]));
    let mut wire = rig.connect();
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "a");
    rig.publish(table(&[b.address]));
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "b", "the same server, at another address");
}

#[test]
fn draining_lets_requests_finish_and_idle_connections_go() {
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |request, wire| {
        if request.path() == "/slow" {
            inner.wait();
        }
        wire.send(ok("done"));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let (mut idle, mut busy) = (rig.connect(), rig.connect());
    idle.send(get("/"));
    idle.answer().unwrap();
    busy.send(get("/slow"));
    eventually("the request is there", || origin.count() == 2);
    let address = rig.address();
    let draining = thread::spawn(move || rig.finish(PATIENCE));
    assert!(idle.rest().unwrap().is_empty(), "closed at once");
    eventually("nobody listens", || TcpStream::connect(address).is_err());
    gate.open();
    let answer = busy.answer().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", Some("close")));
    let (cut, told) = draining.join().unwrap();
    assert_eq!((cut, told.service().requests, told.service().failed), (0, 2, 0));
}

#[test]
fn draining_cuts_what_is_left_at_the_deadline_and_says_how_much() {
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |_, _| {
        inner.wait();
        Then::Close
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wires: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    for wire in &mut wires {
        wire.send(get("/"));
    }
    eventually("the requests are there", || origin.count() == 3);
    let (cut, told) = rig.finish(Duration::from_millis(50));
    assert_eq!((cut, told.service().requests, told.service().failed), (3, 3, 3));
    assert_eq!(told.server("a").in_flight, 0);
    gate.open();
}

#[test]
fn dropping_the_proxy_ends_it() {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send(get("/"));
    wire.answer().unwrap();
    let address = rig.address();
    drop(rig);
    assert!(wire.rest().is_ok_and(|rest| rest.is_empty()));
    eventually("nobody listens", || TcpStream::connect(address).is_err());
}

#[test]
fn an_address_in_use_is_an_error_and_nothing_is_left_listening() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings { listen: vec![address.into()], workers: 2, ..Settings::default() };
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    let started = Proxy::start(settings, Arc::new(table(&[])), sender);
    assert!(matches!(started, Err(StartError::Listen { address: a, .. }) if a == address.into()));
}

#[test]
fn an_idle_connection_to_a_server_is_closed_before_the_server_would() {
    let (closed, is_closed) = std::sync::mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let origin = Origin::start(move |_, wire| {
        wire.send(ok("hello"));
        let rest = wire.rest();
        closed.lock().unwrap().send(rest.map(|r| r.len()).ok()).unwrap();
        Then::Close
    });
    let rig = Rig::with(table(&[origin.address]), |s| s.server_idle = Duration::from_millis(100));
    assert_eq!(rig.get("/").text(), "hello");
    assert_eq!(is_closed.recv_timeout(PATIENCE).unwrap(), Some(0));
}

#[test]
fn every_request_is_counted_once_over_all_workers() {
    let origin = Origin::start(|request, wire| {
        let status = request.path().trim_start_matches('/').to_owned();
        wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        Then::Continue
    });
    let rig = Rig::with(table(&[origin.address]), |s| {
        s.workers = 3;
        s.report_interval = Duration::from_millis(20);
    });
    for _ in 0..10 {
        for status in ["200", "302", "404", "500"] {
            assert_eq!(rig.get(&format!("/{status}")).status.to_string(), status);
        }
    }
    let (_, told) = rig.finish(PATIENCE);
    let (server, service) = (told.server("a"), told.service());
    assert_eq!((server.ok, server.client_errors, server.server_errors, server.in_flight), (20, 10, 10, 0));
    assert_eq!((server.latency.count(), service.latency.count()), (40, 40));
    assert_eq!((service.requests, service.server_errors, service.failed, service.abandoned), (40, 10, 0, 0));
    assert_eq!((service.hurt.count(), service.in_flight, service.slow), (1, 0, 0), "one visitor, ten times");
}

#[test]
fn visitors_who_are_hurt_are_told_apart_by_address_and_those_who_are_served_are_not_counted() {
    let origin = Origin::start(|request, wire| {
        let status = if request.path() == "/bad" { 500 } else { 200 };
        wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        Then::Continue
    });
    let rig = Rig::with(table(&[origin.address]), |s| s.workers = 2);
    for visitor in 1..=9 {
        for _ in 0..2 {
            let mut wire = rig.connect_from([127, 0, 1, visitor].into());
            wire.send(get(if visitor <= 5 { "/bad" } else { "/" }));
            wire.answer().unwrap();
        }
    }
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().hurt.count()), (18, 5));
}

#[test]
fn an_answer_that_begins_late_is_slow_unless_it_was_an_error() {
    let origin = Origin::start(|request, wire| {
        let status = request.path().trim_start_matches('/').to_owned();
        std::thread::sleep(Duration::from_millis(30));
        wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        Then::Continue
    });
    let mut table = table(&[origin.address]);
    carriage(&mut table).slow_after = Duration::from_millis(10);
    let rig = Rig::new(table);
    for status in ["200", "404", "500"] {
        assert_eq!(rig.get(&format!("/{status}")).status.to_string(), status);
    }
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().slow), (3, 2));
}
