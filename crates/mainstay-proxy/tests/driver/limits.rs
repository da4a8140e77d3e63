//! What a service takes on: addresses that ask too often, places and the queue, bodies that are too large or too slow.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mainstay_model::limits::{AddressLimit, Level, Limits, Priority, Room};
use mainstay_model::route::{Condition, Handling, PathRule, Route};
use mainstay_model::routing::RoutingTable;

use crate::support::*;

fn with(limits: Limits, origin: &Origin) -> RoutingTable {
    let mut table = table(&[origin.address]);
    carriage(&mut table).limits = Arc::new(limits);
    table
}

/// So many requests of one address in an hour, so that none flows in while a test runs.
fn per_address(requests: u32) -> AddressLimit {
    AddressLimit { requests, per: Duration::from_secs(3600), burst: requests, close: false }
}

fn room(concurrent: u32, queue: u32) -> Limits {
    let room = Room { queue, queue_deadline: PATIENCE, ..Room::of(concurrent) };
    let priority = |path: &str, level| Priority { path: path.to_owned(), level };
    Limits {
        room: Some(room),
        priorities: vec![priority("/high", Level::High), priority("/low", Level::Low)],
        ..Limits::NONE
    }
}

/// Answers each request when its gate is opened.
fn gated(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |_, wire| {
        gate.wait();
        wire.send(ok("at last"));
        Then::Continue
    })
}

fn seconds(answer: &Answer) -> u64 {
    answer.header("retry-after").expect("Retry-After").parse().expect("seconds")
}

#[test]
fn an_address_that_asks_too_often_is_told_so_and_another_is_served_over_all_workers() {
    let origin = Origin::of("hello");
    let limits = Limits { per_address: Some(per_address(10)), ..Limits::NONE };
    let mut rig = Rig::with(with(limits, &origin), |s| s.workers = 3);
    let mut statuses = Vec::new();
    for _ in 0..30 {
        let mut wire = rig.connect_from([127, 0, 0, 2].into());
        wire.send(get("/"));
        let answer = wire.answer().unwrap();
        if answer.status == 429 {
            assert!((1..=3600).contains(&seconds(&answer)));
            wire.send(get("/"));
            assert_eq!(wire.answer().unwrap().status, 429, "the connection is kept");
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10);
    for _ in 0..10 {
        let mut wire = rig.connect_from([127, 0, 0, 3].into());
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().status, 200, "another address has a limit of its own");
    }
    eventually("all is counted", || rig.told().service().requests == 60);
    let (_, told) = rig.finish(PATIENCE);
    let service = told.service();
    assert_eq!((service.limited, service.shed, service.failed, service.hurt.count()), (40, 0, 0, 0));
    assert_eq!((origin.count(), told.server("a").ok), (20, 20), "no server sees what is refused");
    let of = |network: &str| {
        let all = told.traffic.sources.iter().filter(|source| source.network == network);
        all.fold((0, 0), |(requests, limited), source| (requests + source.requests, limited + source.limited))
    };
    // Who asks is counted from the first refusal on.
    assert_eq!((of("127.0.0.2"), of("127.0.0.3")), ((40, 40), (10, 0)));
}

#[test]
fn nobody_is_watched_while_nobody_is_refused() {
    let origin = Origin::of("hello");
    let limits = Limits { per_address: Some(per_address(1000)), ..room(100, 0) };
    let rig = Rig::new(with(limits, &origin));
    (0..20).for_each(|_| assert_eq!(rig.get("/").status, 200));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.traffic.sources.len()), (20, 0));
}

#[test]
fn the_connection_of_who_is_over_the_limit_is_closed_if_it_is_to_be() {
    let origin = Origin::of("hello");
    let limit = AddressLimit { close: true, ..per_address(1) };
    let rig = Rig::new(with(Limits { per_address: Some(limit), ..Limits::NONE }, &origin));
    let mut wire = rig.connect();
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().status, 200);
    wire.send(get("/"));
    let answer = wire.answer().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    assert!(wire.rest().unwrap().is_empty());
}

#[test]
fn exempt_addresses_have_no_limit_and_only_a_trusted_proxy_is_believed() {
    let origin = Origin::of("hello");
    let limits = Limits {
        per_address: Some(per_address(1)),
        exempt: vec!["127.0.0.9".parse().unwrap(), "203.0.113.0/24".parse().unwrap()],
        trusted_proxies: vec!["127.0.0.7".parse().unwrap()],
        ..Limits::NONE
    };
    let rig = Rig::new(with(limits, &origin));
    let ask = |from: u8, header: &str| {
        let mut wire = rig.connect_from([127, 0, 0, from].into());
        wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
        wire.answer().unwrap().status
    };
    assert_eq!([ask(9, ""), ask(9, ""), ask(9, "")], [200, 200, 200]);
    for (header, statuses) in [
        ("X-Forwarded-For: 198.51.100.1\r\n", [200, 429]),
        ("X-Forwarded-For: 198.51.100.1, 198.51.100.2\r\n", [200, 429]),
        ("X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 198.51.100.2:4711\r\n", [429, 429]),
        ("Forwarded: for=198.51.100.3;proto=https, For=\"[2001:db8::1]:80\"\r\n", [200, 429]),
        ("X-Forwarded-For: 2001:db8::ffff:2\r\n", [429, 429]),
        ("X-Forwarded-For: 203.0.113.5\r\n", [200, 200]),
        ("X-Forwarded-For: unknown\r\n", [200, 429]),
        ("", [429, 429]),
    ] {
        assert_eq!([ask(7, header), ask(7, header)], statuses, "{header:?}");
    }
    assert_eq!(ask(8, "X-Forwarded-For: 203.0.113.5\r\n"), 200);
    assert_eq!(ask(8, "X-Forwarded-For: 203.0.113.6\r\n"), 429, "a stranger's word counts for nothing");
}

#[test]
fn who_finds_no_room_waits_and_the_lowest_is_shed_for_a_higher_one() {
    let gate = Gate::default();
    let origin = gated(&gate);
    let mut rig = Rig::with(with(room(1, 2), &origin), |s| s.workers = 2);
    let ask = |rig: &Rig, path: &str| {
        let mut wire = rig.connect();
        wire.send(get(path));
        wire
    };
    let mut held = ask(&rig, "/first");
    eventually("one has the only place", || origin.count() == 1);
    let mut low = ask(&rig, "/low/1");
    eventually("one waits", || rig.told().service().queued == 1);
    let mut newer = ask(&rig, "/low/2");
    eventually("two wait", || rig.told().service().queued == 2);
    assert_eq!(rig.told().service().in_flight, 1);
    let mut high = ask(&rig, "/high");
    let shed = newer.answer().unwrap();
    assert_eq!(shed.status, 503, "the newest of the lowest makes way");
    assert!((2..=6).contains(&seconds(&shed)));
    let refused = ask(&rig, "/low/3").answer().unwrap();
    assert_eq!(refused.status, 503, "and nobody is lower than who comes now");
    gate.open();
    for wire in [&mut held, &mut low, &mut high] {
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    let order: Vec<_> = origin.seen().iter().map(|seen| seen.path().to_owned()).collect();
    assert_eq!(order, ["/first", "/high", "/low/1"]);
    newer.send(get("/again"));
    assert_eq!(newer.answer().unwrap().status, 200, "the connection of who was shed is kept");
    let (_, told) = rig.finish(PATIENCE);
    let service = told.service();
    assert_eq!((service.requests, service.shed, service.failed, service.hurt.count()), (6, 2, 0, 1));
    assert_eq!((service.in_flight, service.queued), (0, 0));
}

#[test]
fn the_priority_of_a_route_counts_before_that_of_its_service() {
    let gate = Gate::default();
    let origin = gated(&gate);
    let mut table = with(room(1, 1), &origin);
    let vip = Condition { paths: vec![PathRule::below("/low/vip")], ..Condition::default() };
    let handling = Handling { level: Some(Level::High), ..Handling::default() };
    carriage(&mut table).routes = vec![Route { when: vip, service: None, handling: Arc::new(handling) }];
    let mut rig = Rig::new(table);
    let ask = |rig: &Rig, path: &str| {
        let mut wire = rig.connect();
        wire.send(get(path));
        wire
    };
    let mut held = ask(&rig, "/first");
    eventually("one has the only place", || origin.count() == 1);
    let mut low = ask(&rig, "/low/1");
    eventually("one waits", || rig.told().service().queued == 1);
    let mut vip = ask(&rig, "/low/vip");
    assert_eq!(low.answer().unwrap().status, 503, "it makes way for the route");
    assert_eq!(ask(&rig, "/other").answer().unwrap().status, 503, "which is above what has no level");
    gate.open();
    assert_eq!((held.answer().unwrap().status, vip.answer().unwrap().status), (200, 200));
}

#[test]
fn a_full_server_is_passed_over_and_when_all_are_full_who_comes_waits() {
    let gates: [Gate; 2] = Default::default();
    let origins = gates.each_ref().map(gated);
    let mut table = table(&[origins[0].address, origins[1].address]);
    for (target, concurrent) in table.services[0].targets.iter_mut().zip([1, 2]) {
        target.concurrent = Some(concurrent);
    }
    let mut rig = Rig::with(table, |s| s.workers = 2);
    let mut wires: Vec<Wire> = (0..4)
        .map(|nth| {
            let mut wire = rig.connect();
            wire.send(get("/"));
            eventually("it is under way or waits", || {
                let service = rig.told().service();
                service.in_flight + service.queued > nth
            });
            wire
        })
        .collect();
    let under_way = || [origins[0].count(), origins[1].count()];
    eventually("each has what it takes", || under_way() == [1, 2]);
    assert_eq!(rig.told().service().queued, 1);
    gates.iter().for_each(Gate::open);
    for wire in &mut wires {
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    assert_eq!(under_way().iter().sum::<usize>(), 4);
}

#[test]
fn connections_that_wait_make_room_for_those_of_another_worker() {
    // One process, which belongs to a connection until that is closed.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut wire = Wire::new(stream.unwrap());
            while wire.head().is_ok_and(|head| head.is_some()) {
                wire.send(ok("done"));
            }
        }
    });
    let mut table = table(&[address]);
    table.services[0].targets[0].concurrent = Some(1);
    let rig = Rig::with(table, |s| (s.workers, s.server_idle) = (2, 60 * PATIENCE));
    // Connections of visitors come to either worker.
    for _ in 0..12 {
        assert_eq!(rig.get("/").status, 200);
    }
}

#[test]
fn a_service_that_answers_more_slowly_than_usual_takes_on_less() {
    let pause = Arc::new(AtomicUsize::new(2));
    let pauses = pause.clone();
    let origin = Origin::start(move |_, wire| {
        thread::sleep(Duration::from_millis(pauses.load(Ordering::SeqCst) as u64));
        wire.send(ok("well"));
        Then::Continue
    });
    let room = Room { queue: 100, queue_deadline: PATIENCE, adaptive: true, ..Room::of(50) };
    let mut rig = Rig::new(with(Limits { room: Some(room), ..Limits::NONE }, &origin));
    let (address, asking) = (rig.address(), Arc::new(AtomicBool::new(true)));
    let visitors: Vec<_> = (0..24)
        .map(|_| {
            let asking = asking.clone();
            thread::spawn(move || {
                let mut wire = Wire::new(TcpStream::connect(address).unwrap());
                let mut answered = 0;
                while asking.load(Ordering::SeqCst) {
                    wire.send(get("/"));
                    assert_eq!(wire.answer().unwrap().status, 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut places = || rig.told().service().places;
    eventually("it found that there is room for all who come", || places() >= 22);
    pause.store(100, Ordering::SeqCst);
    eventually("it takes on less", || places() <= 12);
    asking.store(false, Ordering::SeqCst);
    assert!(visitors.into_iter().all(|visitor| visitor.join().unwrap() > 0), "and nobody was refused");
}

#[test]
fn who_waits_too_long_is_shed() {
    let gate = Gate::default();
    let origin = gated(&gate);
    let mut limits = room(1, 5);
    limits.room.as_mut().unwrap().queue_deadline = Duration::from_millis(100);
    let mut rig = Rig::new(with(limits, &origin));
    let mut held = rig.connect();
    held.send(get("/"));
    eventually("one has the only place", || origin.count() == 1);
    let answer = rig.get("/");
    assert_eq!(answer.status, 503);
    assert!(seconds(&answer) > 0 && answer.text().contains("busy"));
    eventually("it is counted", || rig.told().service().shed == 1);
    gate.open();
    assert_eq!(held.answer().unwrap().status, 200);
    assert_eq!(rig.get("/").status, 200, "the place is free again");
}

#[test]
fn who_leaves_frees_its_place_waiting_or_served() {
    let gate = Gate::default();
    let origin = gated(&gate);
    let mut rig = Rig::new(with(room(1, 1), &origin));
    let held = {
        let mut wire = rig.connect();
        wire.send(get("/held"));
        wire
    };
    eventually("one has the only place", || origin.count() == 1);
    for _ in 0..3 {
        let mut waits = rig.connect();
        waits.send(get("/waits"));
        eventually("one waits", || rig.told().service().queued == 1);
        drop(waits);
        eventually("nobody waits", || rig.told().service().queued == 0);
    }
    let mut next = rig.connect();
    next.send(get("/next"));
    eventually("one waits", || rig.told().service().queued == 1);
    drop(held);
    eventually("who waited has the place", || origin.seen().iter().any(|seen| seen.path() == "/next"));
    gate.open();
    assert_eq!(next.answer().unwrap().status, 200);
    let (_, told) = rig.finish(PATIENCE);
    let service = told.service();
    assert_eq!((service.requests, service.abandoned, service.shed, service.failed), (5, 4, 0, 0));
}

#[test]
fn an_upgraded_connection_holds_no_place() {
    let origin = Origin::start(|request, wire| {
        if request.path() != "/socket" {
            wire.send(ok("hello"));
            return Then::Continue;
        }
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        let _ = wire.rest();
        Then::Close
    });
    let rig = Rig::new(with(room(1, 0), &origin));
    let mut socket = rig.connect();
    socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(socket.answer().unwrap().status, 101);
    assert_eq!(rig.get("/").status, 200);
    socket.stream.shutdown(Shutdown::Both).unwrap();
}

#[test]
fn a_request_that_is_tried_again_holds_one_place() {
    let (dead, gate) = (Refusing::new(), Gate::default());
    let origin = gated(&gate);
    let mut table = table(&[dead.address, origin.address]);
    carriage(&mut table).limits = Arc::new(room(1, 0));
    let mut rig = Rig::new(table);
    let mut held = rig.connect();
    held.send(get("/"));
    eventually("it is at the second server", || origin.count() == 1);
    assert_eq!(rig.get("/").status, 503, "there is one place, and it is taken");
    gate.open();
    assert_eq!(held.answer().unwrap().status, 200);
    assert_eq!(rig.get("/").status, 200);
    eventually("all is counted", || rig.told().service().requests == 3);
    assert_eq!((rig.told().service().saved, rig.told().service().shed), (1, 1));
}

#[test]
fn who_waits_goes_on_waiting_under_a_new_table_and_goes_when_it_has_more_room_or_none() {
    for more in [room(2, 1), Limits::NONE] {
        let gate = Gate::default();
        let origin = gated(&gate);
        let mut rig = Rig::with(with(room(1, 2), &origin), |s| s.workers = 2);
        let mut wires: Vec<_> = (0..2).map(|_| rig.connect()).collect();
        for (nth, wire) in wires.iter_mut().enumerate() {
            wire.send(get("/"));
            eventually("it is taken on", || {
                let service = rig.told().service();
                (service.in_flight, service.queued) == (1, nth as u64)
            });
        }
        rig.publish(with(room(1, 1), &origin));
        thread::sleep(Duration::from_millis(50));
        assert_eq!(origin.count(), 1, "there is no more room than before");
        rig.publish(with(more, &origin));
        eventually("there is room for the second", || origin.count() == 2);
        gate.open();
        wires.iter_mut().for_each(|wire| assert_eq!(wire.answer().unwrap().status, 200));
    }
}

#[test]
fn who_waits_is_served_while_mainstay_drains_and_cut_at_its_deadline() {
    for (deadline, served) in [(PATIENCE, true), (Duration::from_millis(50), false)] {
        let gate = Gate::default();
        let origin = gated(&gate);
        let mut rig = Rig::new(with(room(1, 2), &origin));
        let mut wires: Vec<_> = (0..3).map(|_| rig.connect()).collect();
        wires.iter_mut().for_each(|wire| wire.send(get("/")));
        eventually("two wait", || rig.told().service().queued == 2);
        if served {
            gate.open();
        }
        let (cut, told) = rig.finish(deadline);
        let service = told.service();
        assert_eq!((service.requests, service.queued, service.in_flight), (3, 0, 0));
        if served {
            assert_eq!((cut, service.failed), (0, 0));
            wires.iter_mut().for_each(|wire| assert_eq!(wire.answer().unwrap().status, 200));
        } else {
            assert_eq!((cut, service.failed), (3, 3));
            gate.open();
        }
    }
}

#[test]
fn over_all_workers_no_more_are_under_way_than_there_is_room_for_and_all_are_served() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&now), Arc::clone(&most));
    let origin = Origin::start(move |_, wire| {
        peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1));
        counted.fetch_sub(1, Ordering::SeqCst);
        wire.send(ok("hello"));
        Then::Continue
    });
    let rig = Rig::with(with(room(3, 1000), &origin), |s| s.workers = 4);
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut wire = rig.connect();
                for _ in 0..20 {
                    wire.send(get("/"));
                    assert_eq!(wire.answer().unwrap().status, 200);
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().shed, told.service().queued), (480, 0, 0));
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_whole() {
    let origin = Origin::of("hello");
    let rig = Rig::new(with(Limits { body_max: Some(10), ..Limits::NONE }, &origin));
    assert_eq!(rig.post("0123456789").status, 200);
    let answer = rig.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n01234567\r\n";
    assert_eq!(rig.ask(chunked).status, 413);
    assert_eq!(origin.count(), 1, "no server took it for whole");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.server("a").failed()), (0, 0), "it is the visitor's fault");
}

#[test]
fn who_sends_on_after_being_refused_reads_the_answer_all_the_same() {
    let origin = Origin::of("hello");
    let rig = Rig::new(with(Limits { body_max: Some(10), ..Limits::NONE }, &origin));
    let mut wire = rig.connect();
    // More than the buffers of both kernels hold: it is all sent before the client looks for an answer.
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12000000\r\n\r\n");
    wire.send(vec![b'x'; 12_000_000]);
    assert_eq!(wire.answer().expect("no reset").status, 413);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_body_that_trickles_is_refused_and_one_that_keeps_pace_is_not() {
    let origin = Origin::of("hello");
    let mut slow = table(&[origin.address]);
    carriage(&mut slow).timeouts.body_min_rate = 1000;
    carriage(&mut slow).timeouts.body_grace = Duration::from_millis(200);
    let rig = Rig::new(slow);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n";
    let mut wire = rig.connect();
    wire.send(head);
    let mut trickles = wire.stream.try_clone().unwrap();
    let trickling = thread::spawn(move || {
        use std::io::Write as _;
        // Until it is refused, which a write to the closed connection says.
        while trickles.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(wire.answer().unwrap().status, 408);
    drop(wire);
    trickling.join().unwrap();
    let mut wire = rig.connect();
    wire.send(head);
    for _ in 0..40 {
        wire.send([b'x'; 100]);
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(wire.answer().unwrap().status, 200);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (2, 0));
}

#[test]
fn a_visitor_who_reads_an_answer_in_trickles_is_let_go_and_its_place_is_free() {
    let origin = Origin::start(|request, wire| {
        let length = if request.path() == "/big" { 32 << 20 } else { 5 };
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        // It is broken off when the visitor is let go.
        let _ = std::io::Write::write_all(&mut wire.stream, &vec![b'x'; length]);
        Then::Continue
    });
    let mut table = with(room(1, 0), &origin);
    carriage(&mut table).timeouts.idle = Duration::from_millis(300);
    carriage(&mut table).timeouts.body_min_rate = 1_000_000_000;
    let mut rig = Rig::new(table);
    let mut wire = rig.connect();
    wire.send(get("/big"));
    let mut reads = wire.stream.try_clone().unwrap();
    let (seen, enough) = std::sync::mpsc::channel::<()>();
    // So slow that the server is ahead of it on the busiest machine.
    let reading = thread::spawn(move || {
        use std::io::Read as _;
        let mut buffer = [0; 16 * 1024];
        while let Ok(1..) = reads.read(&mut buffer) {
            if enough.recv_timeout(Duration::from_millis(20))
                != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                return;
            }
        }
    });
    eventually("it is let go", || rig.told().service().abandoned == 1);
    assert_eq!(rig.get("/").status, 200);
    drop(seen);
    reading.join().unwrap();
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.server("a").failed()), (0, 0), "it is the visitor's fault");
}

#[test]
fn a_body_that_stops_is_refused_when_its_time_is_over() {
    let origin = Origin::of("hello");
    let mut table = table(&[origin.address]);
    carriage(&mut table).timeouts.body = Duration::from_millis(100);
    let rig = Rig::new(table);
    let mut wire = rig.connect();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx");
    assert_eq!(wire.answer().unwrap().status, 408);
}
