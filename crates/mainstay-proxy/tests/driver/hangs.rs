//! Servers that fall silent: noticed by what is usual for them, long before a timeout; and what looks like it and is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mainstay_model::input::FailureKind;
use mainstay_model::routing::RoutingTable;

use crate::support::{
    Gate, Origin, PATIENCE, Rig, Then, carriage, eventually, get, ok, post, server_id, table,
};

/// Timeouts so long that a test which needs one of them fails.
fn patient(origins: &[&Origin]) -> RoutingTable {
    let mut table = table(&origins.iter().map(|o| o.address).collect::<Vec<_>>());
    let timeouts = &mut carriage(&mut table).timeouts;
    (timeouts.connect, timeouts.per_try, timeouts.request) = (3 * PATIENCE, 3 * PATIENCE, 3 * PATIENCE);
    table
}

/// A server that stops in the middle of everything when it is told, as with SIGSTOP, and goes on when its gate is opened.
struct Pausing {
    origin: Origin,
    stopped: Arc<AtomicBool>,
    gate: Gate,
}

impl Pausing {
    fn of(body: &'static str) -> Self {
        let (stopped, gate) = (Arc::new(AtomicBool::new(false)), Gate::default());
        let (is_stopped, inner) = (Arc::clone(&stopped), gate.clone());
        let origin = Origin::start(move |request, wire| {
            if is_stopped.load(Ordering::SeqCst) || request.path() == "/report" {
                inner.wait();
            }
            wire.send(ok(body));
            Then::Continue
        });
        Self { origin, stopped, gate }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// So many answers that it is known what is usual.
fn warm(rig: &Rig) {
    let mut wire = rig.connect();
    for _ in 0..120 {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().status, 200);
    }
}

/// Asks over several connections until it is told to stop; how many answers there were.
fn traffic(rig: &Arc<Rig>, stop: &Arc<AtomicBool>, request: fn() -> String) -> Vec<thread::JoinHandle<u64>> {
    let client = |_| {
        let (rig, stop) = (Arc::clone(rig), Arc::clone(stop));
        thread::spawn(move || {
            let (mut n, mut wire) = (0, rig.connect());
            while !stop.load(Ordering::SeqCst) {
                wire.send(request());
                assert_eq!(wire.answer().unwrap().status, 200);
                thread::sleep(Duration::from_millis(3));
                n += 1;
            }
            n
        })
    };
    (0..4).map(client).collect()
}

#[test]
fn a_server_that_falls_silent_is_left_and_avoided_long_before_any_timeout() {
    let (silent, b, c) = (Pausing::of("a"), Origin::of("b"), Origin::of("c"));
    let rig = Arc::new(Rig::new(patient(&[&silent.origin, &b, &c])));
    warm(&rig);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = traffic(&rig, &stop, || get("/"));
    silent.stop();
    let asked = silent.origin.count();
    eventually("it was asked while it is silent", || silent.origin.count() > asked);
    let served = b.count() + c.count();
    eventually("traffic goes on", || b.count() + c.count() > served + 500);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("every answer was good");
    }
    silent.gate.open();
    let (_, told) = Arc::into_inner(rig).expect("the clients are done").finish(PATIENCE);
    assert_eq!((told.service().failed, told.service().retries_refused), (0, 0));
    assert!(told.service().saved > 0);
    let failures: Vec<_> = told.failures.iter().map(|f| (f.server.clone(), f.kind)).collect();
    assert!(failures.contains(&(server_id("a"), FailureKind::Timeout)), "{failures:?}");
    assert!(failures.iter().all(|(server, _)| *server == server_id("a")), "{failures:?}");
}

#[test]
fn a_post_that_waits_for_a_silent_server_is_sent_once_and_later_ones_go_elsewhere() {
    let (silent, b, c) = (Pausing::of("a"), Origin::of("b"), Origin::of("c"));
    let rig = Arc::new(Rig::new(patient(&[&silent.origin, &b, &c])));
    warm(&rig);
    silent.stop();
    let mut stuck: Vec<_> = (0..6).map(|_| rig.connect()).collect();
    let asked = silent.origin.count();
    for wire in &mut stuck {
        wire.send(post("order"));
    }
    eventually("two of them are stuck", || silent.origin.count() == asked + 2);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = traffic(&rig, &stop, || get("/"));
    let served = b.count() + c.count();
    eventually("traffic goes on", || b.count() + c.count() > served + 300);
    assert_eq!(rig.post("order").status, 200);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("every answer was good");
    }
    silent.gate.open();
    for wire in &mut stuck {
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    let orders = |o: &Origin| o.seen().iter().filter(|r| r.path() == "/order").count();
    assert_eq!(orders(&silent.origin) + orders(&b) + orders(&c), 7, "none was sent twice");
}

#[test]
fn a_page_that_takes_long_gets_no_server_avoided() {
    // On a machine that stalls a server is rightly avoided for the time.
    assert!((0..10).any(|_| stays_with_a_page_that_takes_long()), "the machine stalled ten times");
}

/// Tries it once. `false`: the machine stalled so long that it proves nothing.
fn stays_with_a_page_that_takes_long() -> bool {
    const STALL: Duration = Duration::from_millis(100);
    let (a, b) = (Pausing::of("a"), Pausing::of("b"));
    let rig = Rig::new(patient(&[&a.origin, &b.origin]));
    warm(&rig);
    let mut reports: Vec<_> = (0..6).map(|_| rig.connect()).collect();
    for wire in &mut reports {
        wire.send(get("/report"));
    }
    let asked = |p: &Pausing, path: &str| p.origin.seen().iter().filter(|r| r.path() == path).count();
    eventually("they are there", || asked(&a, "/report") + asked(&b, "/report") == 6);
    // The others of the site go on asking, far longer than it takes to notice a server that hangs.
    let before = (asked(&a, "/"), asked(&b, "/"));
    let mut wire = rig.connect();
    for _ in 0..60 {
        let sent = Instant::now();
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().status, 200);
        thread::sleep(Duration::from_millis(10));
        if sent.elapsed() > STALL {
            a.gate.open();
            b.gate.open();
            return false;
        }
    }
    assert_eq!((asked(&a, "/") - before.0, asked(&b, "/") - before.1), (30, 30), "both in turn");
    assert_eq!(asked(&a, "/report") + asked(&b, "/report"), 6, "nobody was moved");
    a.gate.open();
    b.gate.open();
    for wire in &mut reports {
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    let (_, told) = rig.finish(PATIENCE);
    assert!(told.failures.is_empty(), "{:?}", told.failures);
    true
}

#[test]
fn a_standstill_of_all_servers_moves_nobody() {
    let (a, b) = (Pausing::of("a"), Pausing::of("b"));
    let mut rig = Rig::new(patient(&[&a.origin, &b.origin]));
    warm(&rig);
    let before = a.origin.count() + b.origin.count();
    a.stop();
    b.stop();
    let mut wires: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    for wire in &mut wires {
        wire.send(get("/"));
    }
    eventually("they are there", || a.origin.count() + b.origin.count() == before + 8);
    thread::sleep(Duration::from_millis(600));
    // One of them begins to answer before the other, and whoever waits for that one then may rightly be moved.
    assert_eq!(a.origin.count() + b.origin.count(), before + 8, "nobody was moved");
    assert!(rig.told().failures.is_empty(), "{:?}", rig.told().failures);
    a.gate.open();
    b.gate.open();
    for wire in &mut wires {
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.service().failed, 0);
}

#[test]
fn a_server_that_takes_no_more_connections_is_left_before_the_timeout_of_one_even_with_a_post() {
    // One that listens and never accepts: once its queue is full the kernel drops what comes.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let listener: std::net::TcpListener = socket.into();
    // It answers for long enough to be known, each time on a new connection.
    let answering = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&answering);
    socket2::SockRef::from(&listener).listen(1).unwrap();
    let held = listener.try_clone().unwrap();
    let server = thread::spawn(move || {
        while goes_on.load(Ordering::SeqCst) {
            let mut wire = crate::support::Wire::new(listener.accept().unwrap().0);
            if let Ok(Some(_)) = wire.head() {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na");
            }
        }
    });
    let good = Origin::of("b");
    let mut both = patient(&[&good]);
    let mut target = both.services[0].targets[0].clone();
    (target.id, target.address) = (server_id("full"), address.into());
    both.services[0].targets.push(target);
    let rig = Arc::new(Rig::new(both));
    warm(&rig);
    answering.store(false, Ordering::SeqCst);
    drop(std::net::TcpStream::connect(address));
    server.join().unwrap();
    let fill: Vec<_> =
        (0..8).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(20))).collect();
    assert!(fill.iter().any(Result::is_err), "its queue is full");
    let stop = Arc::new(AtomicBool::new(false));
    let clients = traffic(&rig, &stop, || post("order"));
    let served = good.count();
    eventually("traffic goes on", || good.count() > served + 100);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("every answer was good");
    }
    drop(held);
}
