//! A second server is asked beside the first that takes long: who wins, what it costs, and what is never asked twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mainstay_model::policy::{Hedge, OnError};
use mainstay_model::routing::RoutingTable;

use crate::support::{
    Gate, Origin, PATIENCE, Refusing, Rig, Then, carriage, eventually, get, ok, server_id, service_id, table,
};

const ERROR: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops";

fn hedging(mut table: RoutingTable, hedge: Hedge) -> RoutingTable {
    carriage(&mut table).retry.hedge = Some(hedge);
    // No test of a hedge is decided by the notice of a hang.
    carriage(&mut table).timeouts.per_try = PATIENCE;
    table
}

fn soon(table: RoutingTable) -> RoutingTable {
    hedging(table, Hedge::After(Duration::from_millis(20)))
}

/// Answers once its door is open, and says whether its connection was closed under it.
fn waiting(gate: &Gate, left: &Arc<AtomicBool>, answer: &'static str) -> Origin {
    let (gate, left) = (gate.clone(), Arc::clone(left));
    Origin::start(move |_, wire| {
        if answer.is_empty() {
            // Until the other side closes.
            left.store(
                matches!(wire.exactly(1), Err(e) if e.kind() != std::io::ErrorKind::WouldBlock),
                Ordering::SeqCst,
            );
            return Then::Close;
        }
        gate.wait();
        wire.send(answer);
        Then::Continue
    })
}

#[test]
fn a_get_that_waits_is_answered_by_a_second_server_and_the_first_is_left_without_reproach() {
    let left = Arc::new(AtomicBool::new(false));
    let (slow, quick) = (waiting(&Gate::default(), &left, ""), Origin::of("quick"));
    let rig = Rig::new(soon(table(&[slow.address, quick.address])));
    let answer = rig.get("/cart");
    assert_eq!(answer.text(), "quick");
    eventually("the first one's connection is closed", || left.load(Ordering::SeqCst));
    let story = rig.story(&answer);
    assert_eq!(story.ending, "answered by b");
    let attempts: Vec<_> = story.attempts.iter().map(|a| (&a.server, a.outcome.as_str())).collect();
    let (a, b) = (server_id("a"), server_id("b"));
    assert_eq!(attempts, [(&a, "it had not answered yet"), (&b, "it answered 200")]);
    assert_eq!(
        story.attempts[0].verdict,
        "given up, because another server was asked too and answered first (retry.hedge)"
    );
    assert_eq!(rig.unusual().retries, [((service_id(), "hedge"), 1)].into());
    let (_, told) = rig.finish(PATIENCE);
    assert!(told.failures.is_empty() && told.server("a").failures.is_empty(), "{:?}", told.failures);
    let service = told.service();
    assert_eq!((service.requests, service.retries, service.failed, service.saved), (1, 1, 0, 0));
}

#[test]
fn the_first_server_wins_when_it_answers_first_and_the_second_is_left() {
    let (gate, left) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let first = waiting(&gate, &Arc::default(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
    let second = waiting(&Gate::default(), &left, "");
    let rig = Rig::new(soon(table(&[first.address, second.address])));
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("the second is asked", || second.count() == 1);
    gate.open();
    let answer = wire.answer_to("GET").expect("a whole answer");
    assert_eq!(answer.text(), "first");
    eventually("the second one's connection is closed", || left.load(Ordering::SeqCst));
    let story = rig.story(&answer);
    assert_eq!((story.ending.as_str(), story.attempts.len()), ("answered by a", 2));
    assert!(story.attempts[0].verdict.contains("only because the first took long"), "{story:?}");
    wire.send(get("/"));
    assert_eq!(
        wire.answer_to("GET").expect("a whole answer").status,
        200,
        "the visitor's connection goes on"
    );
}

#[test]
fn what_changes_something_has_a_body_or_keeps_to_a_server_is_never_asked_of_two() {
    let gate = Gate::default();
    let slow = waiting(&gate, &Arc::default(), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
    let other = Origin::of("other");
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nContent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let rig = Rig::new(soon(table(&[slow.address, other.address])));
        let mut wire = rig.connect();
        let before = slow.count();
        wire.send(request);
        eventually("it is at its server", || slow.count() > before);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(other.count(), 0, "{request}");
    }
    gate.open();
}

#[test]
fn hedges_are_within_the_budget_of_retries_and_never_over_max_tries() {
    let gate = Gate::default();
    let slow = waiting(&gate, &Arc::default(), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
    let other = Origin::of("other");
    let mut poor = soon(table(&[slow.address, other.address]));
    (carriage(&mut poor).retry.budget, carriage(&mut poor).retry.budget_min) = (0.0, 0);
    let mut single = soon(table(&[slow.address, other.address]));
    carriage(&mut single).retry.max_tries = 1;
    for table in [poor, single] {
        let rig = Rig::new(table);
        let mut wire = rig.connect();
        let before = slow.count();
        wire.send(get("/"));
        eventually("it is at its server", || slow.count() > before);
        thread::sleep(Duration::from_millis(100));
        assert_eq!((other.count(), rig.unusual().retries.len()), (0, 0));
    }
    gate.open();
}

#[test]
fn a_server_that_takes_no_connection_is_overtaken_too_whatever_comes_first() {
    // A full backlog: the kernel answers nothing.
    let deaf = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = deaf.local_addr().unwrap();
    let stuffed: Vec<_> = (0..300)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let quick = Origin::of("quick");
    let rig = Rig::new(soon(table(&[address, quick.address])));
    assert_eq!(rig.get("/").text(), "quick");
    drop(stuffed);
    let (_, told) = rig.finish(PATIENCE);
    assert!(told.failures.is_empty(), "{:?}", told.failures);
}

#[test]
fn a_first_server_that_breaks_off_is_charged_and_the_second_answers_all_the_same() {
    let gate = Gate::default();
    let (dies, lives) = (gate.clone(), gate.clone());
    let first = Origin::start(move |_, _| {
        dies.wait();
        Then::Close
    });
    let second = Origin::start(move |_, wire| {
        lives.wait();
        thread::sleep(Duration::from_millis(30));
        wire.send(ok("second"));
        Then::Continue
    });
    let rig = Rig::new(soon(table(&[first.address, second.address])));
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("both are asked", || first.count() + second.count() == 2);
    gate.open();
    let answer = wire.answer_to("GET").expect("a whole answer");
    assert_eq!(answer.text(), "second");
    let story = rig.story(&answer);
    assert_eq!(story.attempts[0].outcome, "it closed the connection without an answer");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.failures.first().map(|f| f.retried_on.clone()), Some(Some(server_id("b"))));
    assert_eq!((told.service().saved, told.service().failed), (1, 0));
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[test]
fn an_error_wins_only_when_there_is_nothing_better() {
    let gate = Gate::default();
    let fine = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    // The second errs at once, and the first is waited for.
    let (first, second) = (
        waiting(&gate, &Arc::default(), fine),
        Origin::start(|_, wire| {
            wire.send(ERROR);
            Then::Continue
        }),
    );
    let rig = Rig::new(soon(table(&[first.address, second.address])));
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("the second has erred", || second.count() == 1);
    gate.open();
    assert_eq!(wire.answer_to("GET").expect("a whole answer").text(), "fine");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.server("b").server_errors, 1, "it is counted all the same");
    // The first errs while the second is asked, and the second is waited for.
    for (answer, expected) in [(fine, "fine"), (ERROR, "oops")] {
        let (errs, second_gate) = (Gate::default(), Gate::default());
        let first = waiting(&errs, &Arc::default(), "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
        let second = waiting(&second_gate, &Arc::default(), answer);
        let mut hedged = soon(table(&[first.address, second.address]));
        carriage(&mut hedged).retry.on_5xx = OnError::Safe;
        let rig = Rig::new(hedged);
        let mut wire = rig.connect();
        wire.send(get("/"));
        eventually("the second is asked", || second.count() == 1);
        errs.open();
        thread::sleep(Duration::from_millis(30));
        second_gate.open();
        assert_eq!(wire.answer_to("GET").expect("a whole answer").text(), expected);
    }
}

#[test]
fn a_second_server_that_refuses_is_charged_and_the_first_is_waited_for() {
    let gate = Gate::default();
    let first = waiting(&gate, &Arc::default(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
    let refusing = Refusing::new();
    let rig = Rig::new(soon(table(&[first.address, refusing.address])));
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("the second was tried", || !rig.unusual().retries.is_empty());
    thread::sleep(Duration::from_millis(30));
    gate.open();
    let answer = wire.answer_to("GET").expect("a whole answer");
    assert_eq!(answer.text(), "first");
    assert_eq!(rig.story(&answer).attempts[0].outcome, "the connection was refused");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.failures.len(), 1);
}

#[test]
fn a_percentile_is_learned_before_anybody_is_asked_twice() {
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let first = Origin::start(move |_, wire| {
        if is_slow.load(Ordering::SeqCst) {
            let _ = wire.exactly(1);
            return Then::Close;
        }
        wire.send(ok("usual"));
        Then::Continue
    });
    let second = Origin::of("usual");
    let rig = Rig::new(hedging(table(&[first.address, second.address]), Hedge::Percentile(95)));
    let mut wire = rig.connect();
    for _ in 0..60 {
        wire.send(get("/"));
        assert_eq!(wire.answer_to("GET").expect("a whole answer").status, 200);
    }
    thread::sleep(Duration::from_millis(120));
    slow.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        wire.send(get("/"));
        assert_eq!(wire.answer_to("GET").expect("a whole answer").text(), "usual");
    }
    assert!(rig.unusual().retries.contains_key(&(service_id(), "hedge")));
}
