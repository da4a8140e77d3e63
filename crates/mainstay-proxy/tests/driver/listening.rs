//! Addresses that come and go while requests run.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mainstay_proxy::{Listen, StartError};

use crate::support::{
    Gate, Origin, PATIENCE, Rig, Then, Wire, carriage, eventually, get, ok, own_address, post, table,
};

fn loopback(port: u16) -> Listen {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

fn at(address: SocketAddr) -> Wire {
    Wire::new(TcpStream::connect(address).unwrap())
}

fn is_served(wire: &mut Wire) -> bool {
    wire.send(get("/"));
    wire.answer().is_ok_and(|answer| answer.status == 200 && answer.header("connection").is_none())
}

#[test]
fn an_address_is_added_and_taken_away_while_the_others_go_on() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| (s.workers, s.listen) = (2, vec![loopback(0)]));
    let mut stays = rig.connect();
    assert!(is_served(&mut stays));
    rig.listen(&[loopback(0), own_address().into()]).unwrap();
    let addresses = rig.addresses();
    assert_eq!(addresses[0], stays.stream.peer_addr().unwrap(), "an address that stays keeps its sockets");
    let mut added = at(addresses[1]);
    assert!(is_served(&mut added));
    rig.listen(&[loopback(0)]).unwrap();
    assert_eq!(added.rest().unwrap(), b"", "idle, so it is closed at once, and properly");
    eventually("nobody listens", || TcpStream::connect(addresses[1]).is_err());
    assert!(is_served(&mut stays));
    assert_eq!(rig.finish(PATIENCE).0, 0);
}

#[test]
fn what_is_under_way_at_an_address_that_goes_is_finished_and_its_client_told_to_close() {
    let gate = Gate::default();
    let inner = gate.clone();
    let origin = Origin::start(move |request, wire| {
        match request.path() {
            "/socket" => {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
                while let Ok(bytes) = wire.exactly(4) {
                    wire.send(bytes);
                }
                return Then::Close;
            }
            _ => inner.wait(),
        }
        wire.send(ok("done"));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let (mut socket, mut busy) = (rig.connect(), rig.connect());
    socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(socket.head().unwrap().unwrap()[0], "HTTP/1.1 101 Switching Protocols");
    busy.send(post("an order"));
    eventually("the requests are there", || origin.count() == 2);
    let address = rig.address();
    rig.listen(&[]).unwrap();
    eventually("nobody listens", || TcpStream::connect(address).is_err());
    gate.open();
    let answer = busy.answer().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", Some("close")));
    socket.send("ping");
    assert_eq!(socket.exactly(4).unwrap(), b"ping", "a WebSocket is not cut");
    drop(socket);
    let (cut, told) = rig.finish(PATIENCE);
    assert_eq!((cut, told.service().failed), (0, 0));
}

#[test]
fn no_connection_is_lost_that_was_made_before_its_address_went() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.workers = 3);
    for _ in 0..2 {
        rig.listen(&[loopback(0), loopback(0)]).unwrap();
        let address = rig.addresses()[1];
        let (served, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..6)
            .map(|_| {
                let (served, gone) = (Arc::clone(&served), Arc::clone(&gone));
                thread::spawn(move || {
                    loop {
                        let stream = match TcpStream::connect(address) {
                            Ok(stream) => stream,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                                assert!(gone.load(Ordering::SeqCst), "refused while it was open");
                                return;
                            }
                        };
                        let mut wire = Wire::new(stream);
                        wire.send(get("/"));
                        assert_eq!(wire.answer().expect("whoever got in is served").status, 200);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        eventually("they are served", || served.load(Ordering::SeqCst) > 50);
        gone.store(true, Ordering::SeqCst);
        rig.listen(&[loopback(0)]).unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
    assert_eq!(rig.finish(PATIENCE).1.service().failed, 0);
}

#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    let before = rig.addresses();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = [loopback(0), loopback(0), taken.local_addr().unwrap().into()];
    let refused = rig.listen(&wanted).unwrap_err();
    assert!(
        matches!(&refused, StartError::Listen { address, .. } if *address == wanted[2].address),
        "{refused}"
    );
    assert_eq!(rig.addresses(), before);
    assert!(is_served(&mut rig.connect()));
}

#[test]
fn an_address_is_widened_to_all_of_its_port_without_a_gap() {
    let origin = Origin::of("hello");
    let rig = Rig::with(table(&[origin.address]), |s| s.workers = 2);
    rig.listen(&[loopback(0)]).unwrap();
    // The port that the kernel chose is now asked for by its number, at every address.
    let port = rig.address().port();
    rig.listen(&[SocketAddr::from(([0, 0, 0, 0], port)).into()]).unwrap();
    for host in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        assert!(is_served(&mut at((host, port).into())));
    }
    rig.listen(&[loopback(port)]).unwrap();
    assert!(is_served(&mut at(([127, 0, 0, 1], port).into())));
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], port));
    eventually("nobody listens elsewhere", || TcpStream::connect(elsewhere).is_err());
}

#[test]
fn sockets_that_are_handed_over_lose_no_connection_and_close_none_that_is_idle() {
    let origin = Origin::of("hello");
    let old = Rig::with(table(&[origin.address]), |s| (s.workers, s.listen) = (3, vec![loopback(0)]));
    let mut idle = old.connect();
    assert!(is_served(&mut idle));
    let sockets = old.sockets();
    let address = old.address();
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                let mut wire = at(address);
                while !stop.load(Ordering::SeqCst) {
                    wire.send(post("an order"));
                    let answer = wire.answer().expect("nothing is lost");
                    assert_eq!(answer.status, 200);
                    served.fetch_add(1, Ordering::SeqCst);
                    if answer.header("connection") == Some("close") {
                        wire = at(address);
                    }
                }
            })
        })
        .collect();
    eventually("they are served", || served.load(Ordering::SeqCst) > 100);
    let new = Rig::taking_over(table(&[origin.address]), sockets, |s| {
        (s.workers, s.listen) = (2, vec![loopback(0)])
    });
    assert_eq!(new.address(), address);
    let retiring = thread::spawn(move || old.retire(PATIENCE));
    let before = served.load(Ordering::SeqCst);
    eventually("they are served on", || served.load(Ordering::SeqCst) > before + 200);
    idle.send(post("a late order"));
    let answer = idle.answer().expect("it was not closed under its client");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let (cut, old) = retiring.join().unwrap();
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let (_, new) = new.finish(PATIENCE);
    assert_eq!((cut, old.service().failed, new.service().failed), (0, 0, 0));
    assert_eq!(origin.count() as u64, old.service().requests + new.service().requests, "none was run twice");
    assert_eq!(origin.count(), served.load(Ordering::SeqCst) + 2);
}

#[test]
fn what_was_learned_of_servers_is_handed_over_and_only_of_those_at_the_same_address() {
    let (origin, other) = (Origin::of("hello"), Origin::of("hello"));
    let both = table(&[origin.address, other.address]);
    let old = Rig::with(both.clone(), |s| s.workers = 2);
    for _ in 0..60 {
        assert!(is_served(&mut old.connect()));
    }
    let learned = old.learned();
    let known = |of: &serde_json::Value| -> Vec<(u64, bool)> {
        let servers = of.as_object().unwrap().values();
        let usual = |server: &serde_json::Value| -> u64 {
            server["usual"].as_array().unwrap().iter().filter_map(serde_json::Value::as_u64).sum()
        };
        servers.map(|server| (usual(server), server["latency"].as_f64() > Some(0.0))).collect()
    };
    let told = known(&learned);
    assert_eq!(told.iter().map(|(answers, _)| answers).sum::<u64>(), 60, "of both workers: {learned}");
    let mut moved = both;
    moved.services[0].targets[1].address = own_address().into();
    let new = Rig::with(moved, |s| s.learned = serde_json::from_value(learned.clone()).unwrap());
    assert_eq!(known(&new.learned()), [told[0], (0, false)], "{learned}");
}

#[test]
fn sockets_at_ports_of_the_kernel_s_choice_are_handed_over_in_their_order() {
    let origin = Origin::of("hello");
    let listen = vec![loopback(0), loopback(0), loopback(0)];
    let old = Rig::with(table(&[origin.address]), |s| (s.workers, s.listen) = (2, listen.clone()));
    let new =
        Rig::taking_over(table(&[origin.address]), old.sockets(), |s| (s.workers, s.listen) = (3, listen));
    assert_eq!(new.addresses(), old.addresses());
    let (cut, _) = old.retire(PATIENCE);
    assert_eq!(cut, 0);
    assert!(new.addresses().into_iter().all(|address| is_served(&mut at(address))));
}

#[test]
fn who_retires_and_is_told_to_hurry_cuts_what_is_left() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        while let Ok(bytes) = wire.exactly(4) {
            wire.send(bytes);
        }
        Then::Close
    });
    let rig = Rig::new(table(&[origin.address]));
    let (mut socket, idle) = (rig.connect(), rig.connect());
    socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(socket.head().unwrap().unwrap()[0], "HTTP/1.1 101 Switching Protocols");
    let (cut, _) = rig.retire_until(PATIENCE, || {
        socket.send("ping");
        assert_eq!(socket.exactly(4).unwrap(), b"ping", "a WebSocket goes on");
    });
    assert_eq!(cut, 1, "who is idle is no loss");
    drop(idle);
}

#[test]
fn a_request_to_a_process_that_retires_leaves_a_server_that_has_died() {
    let (mut dying, good) = (Some(Origin::of("dead")), Origin::of("good"));
    let rig = Rig::new(table(&[dying.as_ref().expect("it lives").address, good.address]));
    let mut kept: Vec<_> = (0..6).map(|_| rig.connect()).collect();
    kept.iter_mut().for_each(|wire| assert!(is_served(wire)));
    let (_, told) = rig.retire_until(PATIENCE, || {
        // The judge belongs to the new process by now: nobody tells this one.
        drop(dying.take());
        for wire in &mut kept {
            wire.send(post("an order"));
            let answer = wire.answer().expect("an answer");
            assert_eq!((answer.text().as_str(), answer.header("connection")), ("good", Some("close")));
        }
    });
    assert_eq!(told.service().failed, 0);
}

#[test]
fn a_changed_table_drops_no_websocket_and_closes_no_connection_that_is_kept() {
    let origin = Origin::start(|request, wire| {
        if request.path() != "/socket" {
            wire.send(ok("done"));
            return Then::Continue;
        }
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        while let Ok(bytes) = wire.exactly(4) {
            wire.send(bytes);
        }
        Then::Close
    });
    let rig = Rig::new(table(&[origin.address]));
    let (mut socket, mut kept) = (rig.connect(), rig.connect());
    socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(socket.head().unwrap().unwrap()[0], "HTTP/1.1 101 Switching Protocols");
    assert!(is_served(&mut kept));
    let other = Origin::of("other");
    for n in 0..10 {
        let mut next = table(&[origin.address, other.address]);
        next.version = n;
        // The server of the WebSocket is out of rotation in every second one.
        if n % 2 == 0 {
            next.services[0].targets.remove(0);
        }
        rig.publish(next);
        kept.send(post("an order"));
        let answer = kept.answer().expect("the next POST is not reset");
        assert_eq!((answer.status, answer.header("connection")), (200, None));
        socket.send("ping");
        assert_eq!(socket.exactly(4).unwrap(), b"ping");
    }
    drop(socket);
}

#[test]
fn a_changed_table_leaves_the_connections_to_servers_open() {
    let origin = Origin::of("hello");
    let rig = Rig::new(table(&[origin.address]));
    let mut kept = rig.connect();
    for version in 1..10 {
        let mut next = table(&[origin.address]);
        next.version = version;
        carriage(&mut next).timeouts.request += Duration::from_secs(version);
        rig.publish(next);
        assert!(is_served(&mut kept));
    }
    assert_eq!((origin.count(), origin.connections()), (9, 1));
}
