//! Connections to servers that are used again: never one that its server is just closing, never one that says more than it was
//! asked.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{Origin, Rig, Then, eventually, get, ok, post, table};

/// A server that closes connections which have been idle for so long, and counts how many it closed and how many were closed by
/// the other side before.
struct Impatient {
    origin: Origin,
    closed: Arc<AtomicUsize>,
    spared: Arc<AtomicUsize>,
}

impl Impatient {
    fn start(patience: Duration, header: &'static str) -> Self {
        let (closed, spared) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&closed), Arc::clone(&spared));
        let origin = Origin::start(move |_, wire| {
            wire.send(format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 5\r\n\r\ntaken"));
            wire.stream.set_read_timeout(Some(patience)).unwrap();
            let next = wire.stream.peek(&mut [0]);
            wire.stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
            match next {
                Ok(1..) => return Then::Continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    counts.0.fetch_add(1, Ordering::SeqCst)
                }
                _ => counts.1.fetch_add(1, Ordering::SeqCst),
            };
            Then::Close
        });
        Self { origin, closed, spared }
    }

    fn spared(&self) -> usize {
        self.spared.load(Ordering::SeqCst)
    }
}

#[test]
fn when_a_server_closes_idle_connections_is_learned_and_undercut() {
    let server = Impatient::start(Duration::from_millis(600), "");
    let rig = Rig::new(table(&[server.origin.address]));
    for _ in 0..12 {
        assert_eq!(rig.get("/").status, 200);
        let (before, spared) = (server.closed.load(Ordering::SeqCst), server.spared());
        eventually("somebody closes", || {
            server.closed.load(Ordering::SeqCst) + server.spared() > before + spared
        });
        // The proxy has to notice it before another request does.
        thread::sleep(Duration::from_millis(150));
        if server.spared() >= 2 {
            return;
        }
    }
    panic!(
        "closed by the server {} times, by the proxy {} times",
        server.closed.load(Ordering::SeqCst),
        server.spared()
    );
}

#[test]
fn a_server_that_says_how_long_it_waits_never_has_to_close_itself() {
    let server = Impatient::start(Duration::from_secs(1), "Keep-Alive: timeout=1, max=100\r\n");
    let rig = Rig::new(table(&[server.origin.address]));
    for n in 1..=3 {
        assert_eq!(rig.post("order").text(), "taken");
        eventually("the proxy closes", || server.spared() == n);
    }
    assert_eq!(server.closed.load(Ordering::SeqCst), 0);
}

#[test]
fn a_post_takes_no_connection_of_which_nobody_knows_how_long_it_still_lives() {
    let origin = Origin::of("taken");
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send(post("order"));
    assert_eq!(wire.answer().unwrap().text(), "taken");
    wire.send(post("order"));
    assert_eq!(wire.answer().unwrap().text(), "taken");
    assert_eq!(origin.connections(), 1, "one that was just in use lives");
    thread::sleep(Duration::from_millis(1300));
    wire.send(post("order"));
    assert_eq!(wire.answer().unwrap().text(), "taken");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn what_a_server_says_unasked_never_becomes_an_answer() {
    let origin = Origin::start(|request, wire| {
        if request.path() == "/babble" {
            wire.send(ok("one"));
            thread::sleep(Duration::from_millis(20));
            let _ = std::io::Write::write_all(&mut wire.stream, &ok("smuggled"));
            return Then::Continue;
        }
        wire.send(ok("right"));
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    for _ in 0..5 {
        wire.send(get("/babble"));
        assert_eq!(wire.answer().unwrap().text(), "one");
        thread::sleep(Duration::from_millis(60));
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().text(), "right");
    }
}

#[test]
fn a_body_where_none_may_be_never_becomes_the_next_answer() {
    let origin = Origin::start(|request, wire| {
        if request.line.starts_with("HEAD") {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n");
            let _ = std::io::Write::write_all(
                &mut wire.stream,
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!!",
            );
        } else {
            wire.send(ok("right"));
        }
        Then::Continue
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    for _ in 0..50 {
        wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.answer_to("HEAD").unwrap().status, 200);
        thread::sleep(Duration::from_millis(1));
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().text(), "right");
    }
}
