//! Servers that refuse, break off, hang or lie: what is saved, what is answered honestly, and what is never sent twice.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mainstay_model::input::FailureKind;
use mainstay_model::routing::RoutingTable;

use crate::support::{
    Gate, Origin, PATIENCE, Refusing, Rig, Then, carriage, eventually, get, ok, post, server_id, table,
};

/// Reads every request and closes without an answer.
fn dying() -> Origin {
    Origin::start(|_, _| Then::Close)
}

fn hanging(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |_, wire| {
        gate.wait();
        wire.send(ok("late"));
        Then::Close
    })
}

fn impatient(mut table: RoutingTable, per_try_ms: u64, request_ms: u64) -> RoutingTable {
    carriage(&mut table).timeouts.per_try = Duration::from_millis(per_try_ms);
    carriage(&mut table).timeouts.request = Duration::from_millis(request_ms);
    table
}

#[test]
fn a_post_that_was_provably_not_sent_goes_to_another_server() {
    let (refusing, good) = (Refusing::new(), Origin::of("taken"));
    let rig = Rig::new(table(&[refusing.address, good.address]));
    for _ in 0..4 {
        assert_eq!(rig.post("order").text(), "taken");
    }
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.failures.len(), 1, "once a spell");
    assert_eq!(told.failures[0].server, server_id("a"));
    assert_eq!(told.failures[0].kind, FailureKind::Refused);
    assert_eq!(told.failures[0].retried_on, Some(server_id("b")));
    let service = told.service();
    assert_eq!((service.requests, service.saved, service.retries, service.failed), (4, 1, 1, 0));
    assert_eq!(told.server("a").failures.get(&FailureKind::Refused), Some(&1), "avoided after the first");
}

#[test]
fn a_post_whose_server_died_is_answered_502_and_sent_once() {
    let (dying, good) = (dying(), Origin::of("taken"));
    let rig = Rig::new(table(&[dying.address, good.address]));
    assert_eq!(rig.post("order").status, 502);
    assert_eq!((dying.count(), good.count()), (1, 0));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.service().retries), (1, 0));
    assert_eq!(told.server("a").failures.get(&FailureKind::Reset), Some(&1));
    assert_eq!(told.failures.first().map(|f| f.retried_on.clone()), Some(None));
}

#[test]
fn a_post_with_an_idempotency_key_whose_server_died_is_saved() {
    let (dying, good) = (dying(), Origin::of("taken"));
    let rig = Rig::new(table(&[dying.address, good.address]));
    let answer =
        rig.ask("POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 7\r\nContent-Length: 5\r\n\r\norder");
    assert_eq!(answer.text(), "taken");
    assert_eq!(good.seen()[0].body, b"order");
}

#[test]
fn a_get_whose_server_died_is_saved() {
    let (dying, good) = (dying(), Origin::of("saved"));
    let rig = Rig::new(table(&[dying.address, good.address]));
    assert_eq!(rig.get("/").text(), "saved");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().saved, told.service().failed), (1, 0));
}

#[test]
fn a_put_is_replayed_with_its_body_up_to_the_limit() {
    let (dying, good) = (
        dying(),
        Origin::start(|r, wire| {
            wire.send(ok(r.body.len().to_string()));
            Then::Continue
        }),
    );
    let mut table = table(&[dying.address, good.address]);
    carriage(&mut table).retry.body_max = 1000;
    let rig = Rig::new(table);
    let put = |n: usize| {
        rig.ask(
            [format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n").into_bytes(), vec![b'x'; n]]
                .concat(),
        )
    };
    assert_eq!(put(1000).text(), "1000");
    assert_eq!((dying.count(), good.count()), (1, 1));
}

#[test]
fn a_body_over_the_limit_that_was_sent_cannot_be_replayed() {
    let dying = dying();
    let good = Origin::of("never");
    let mut table = table(&[dying.address, good.address]);
    carriage(&mut table).retry.body_max = 1000;
    let rig = Rig::new(table);
    let body = vec![b'x'; 300_000];
    let answer =
        rig.ask([b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n".to_vec(), body].concat());
    assert_eq!(answer.status, 502);
    assert_eq!(good.count(), 0);
}

#[test]
fn a_large_post_to_a_server_that_refuses_goes_to_another_whole() {
    let refusing = Refusing::new();
    let good = Origin::start(|r, wire| {
        wire.send(ok(r.body.len().to_string()));
        Then::Continue
    });
    let rig = Rig::new(table(&[refusing.address, good.address]));
    let body = vec![b'x'; 300_000];
    let answer =
        rig.ask([b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n".to_vec(), body].concat());
    assert_eq!(answer.text(), "300000");
}

#[test]
fn a_get_on_a_connection_that_just_went_stale_is_saved_on_a_new_one() {
    // The race: the server closes while the request is on its way. A reused connection dies, a new one works.
    let origin = Origin::start(|request, wire| {
        if request.nth > 0 {
            return Then::Close;
        }
        wire.send(ok("fresh"));
        Then::Continue
    });
    // Nor does it cost anything of what is kept for real failures.
    let mut stingy = table(&[origin.address]);
    carriage(&mut stingy).retry.budget = 0.0;
    carriage(&mut stingy).retry.budget_min = 0;
    let rig = Rig::new(stingy);
    let mut wire = rig.connect();
    for _ in 0..3 {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().text(), "fresh");
    }
    let (_, told) = rig.finish(PATIENCE);
    assert!(told.failures.is_empty(), "a stale connection says nothing of its server");
    assert_eq!(told.service().failed, 0);
}

#[test]
fn a_post_never_meets_a_connection_that_its_server_has_closed() {
    let (closed, is_closed) = mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let origin = Origin::start(move |_, wire| {
        wire.send(ok("taken"));
        wire.stream.shutdown(Shutdown::Both).unwrap();
        closed.lock().unwrap().send(()).unwrap();
        Then::Close
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    for _ in 0..20 {
        wire.send(post("order"));
        assert_eq!(wire.answer().unwrap().text(), "taken");
        is_closed.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(origin.count(), 20);
}

#[test]
fn a_get_leaves_a_server_that_answers_nobody() {
    let gate = Gate::default();
    let (hung, good) = (hanging(&gate), Origin::of("saved"));
    let rig = Rig::new(impatient(table(&[hung.address, good.address]), 100, 60_000));
    assert_eq!(rig.get("/").text(), "saved");
    assert_eq!((hung.count(), good.count()), (1, 1));
    gate.open();
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.server("a").failures.get(&FailureKind::Timeout), Some(&1));
    assert_eq!(told.failures[0].kind, FailureKind::Timeout);
    assert_eq!(told.service().saved, 1);
}

#[test]
fn a_get_leaves_a_server_that_fell_silent_after_it_had_answered_others() {
    let gate = Gate::default();
    let inner = gate.clone();
    let hung = Origin::start(move |request, wire| {
        if request.path() == "/hang" {
            inner.wait();
        }
        wire.send(ok("a"));
        Then::Continue
    });
    let good = Origin::of("saved");
    let rig = Rig::new(impatient(table(&[hung.address, good.address]), 150, 60_000));
    let mut waiting = rig.connect();
    waiting.send(get("/hang"));
    eventually("the request is there", || hung.count() == 1);
    let answers: Vec<String> = (0..2).map(|_| rig.get("/").text()).collect();
    assert!(answers.contains(&"a".to_owned()), "it answered another after the first was sent");
    assert_eq!(waiting.answer().unwrap().text(), "saved");
    gate.open();
}

#[test]
fn a_post_waits_for_a_server_that_answers_nobody_until_its_deadline_and_is_sent_once() {
    let gate = Gate::default();
    let (hung, good) = (hanging(&gate), Origin::of("never"));
    let rig = Rig::new(impatient(table(&[hung.address, good.address]), 50, 400));
    assert_eq!(rig.post("order").status, 504);
    assert_eq!((hung.count(), good.count()), (1, 0));
    gate.open();
}

#[test]
fn a_get_that_waits_for_the_only_server_is_not_given_up_before_its_deadline() {
    let gate = Gate::default();
    let hung = hanging(&gate);
    let rig = Rig::new(impatient(table(&[hung.address]), 20, 60_000));
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("the request is there", || hung.count() == 1);
    thread::sleep(Duration::from_millis(200));
    gate.open();
    assert_eq!(wire.answer().unwrap().text(), "late");
    assert_eq!(hung.count(), 1);
}

#[test]
fn a_server_that_answers_others_is_only_slow_and_is_waited_for() {
    let gate = Gate::default();
    let inner = gate.clone();
    let slow = Origin::start(move |request, wire| {
        if request.path() == "/slow" {
            inner.wait();
        }
        wire.send(ok("a"));
        Then::Continue
    });
    let other = Origin::of("b");
    let rig = Rig::new(impatient(table(&[slow.address, other.address]), 1000, 60_000));
    let mut waiting = rig.connect();
    waiting.send(get("/slow"));
    eventually("the request is there", || slow.count() == 1);
    let end = Instant::now() + Duration::from_millis(2500);
    let mut wire = rig.connect();
    while Instant::now() < end {
        wire.send(get("/"));
        wire.answer().unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    gate.open();
    assert_eq!(waiting.answer().unwrap().text(), "a");
    assert!(other.seen().iter().all(|r| r.path() != "/slow"), "never tried elsewhere");
    assert!(slow.count() > 10, "it did answer others");
}

#[test]
fn a_get_that_waits_for_a_server_leaves_it_when_it_is_ejected() {
    let gate = Gate::default();
    let (hung, good) = (hanging(&gate), Origin::of("saved"));
    let both = impatient(table(&[hung.address, good.address]), 60_000, 60_000);
    let rig = Rig::new(both.clone());
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("the request is there", || hung.count() == 1);
    let mut ejected = both;
    let target = ejected.services[0].targets.remove(0);
    ejected.services[0].last_resort.push(target);
    rig.publish(ejected);
    assert_eq!(wire.answer().unwrap().text(), "saved");
    gate.open();
}

#[test]
fn a_get_that_waits_for_a_server_that_drains_stays_with_it() {
    let gate = Gate::default();
    let (hung, good) = (hanging(&gate), Origin::of("b"));
    let both = impatient(table(&[hung.address, good.address]), 60_000, 60_000);
    let rig = Rig::new(both.clone());
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("the request is there", || hung.count() == 1);
    let mut drained = both;
    drained.services[0].targets.remove(0);
    rig.publish(drained);
    assert_eq!(rig.get("/").text(), "b");
    gate.open();
    assert_eq!(wire.answer().unwrap().text(), "late");
}

#[test]
fn retries_end_with_the_budget_and_the_number_of_tries() {
    let (one, two, three) = (dying(), dying(), dying());
    let mut stingy = table(&[one.address, two.address, three.address]);
    carriage(&mut stingy).retry.budget = 0.0;
    carriage(&mut stingy).retry.budget_min = 0;
    let rig = Rig::new(stingy);
    assert_eq!(rig.get("/").status, 502);
    assert_eq!(one.count() + two.count() + three.count(), 1);
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().retries_refused, told.service().retries), (1, 0));

    let mut twice = table(&[one.address, two.address, three.address]);
    carriage(&mut twice).retry.max_tries = 2;
    let rig = Rig::new(twice);
    assert_eq!(rig.get("/").status, 502);
    assert_eq!(one.count() + two.count() + three.count(), 3);
}

#[test]
fn refused_connections_are_free_and_every_server_is_tried_before_a_visitor_is_refused() {
    let refusing: Vec<Refusing> = (0..5).map(|_| Refusing::new()).collect();
    let good = Origin::of("last resort");
    let mut addresses: Vec<_> = refusing.iter().map(|r| r.address).collect();
    addresses.push(good.address);
    let mut table = table(&addresses);
    carriage(&mut table).retry.budget = 0.0;
    carriage(&mut table).retry.budget_min = 0;
    carriage(&mut table).retry.max_tries = 1;
    let last = table.services[0].targets.pop().unwrap();
    table.services[0].last_resort.push(last);
    let rig = Rig::new(table);
    for _ in 0..3 {
        assert_eq!(rig.post("order").text(), "last resort");
    }
}

#[test]
fn with_no_server_there_is_an_honest_page_for_people_and_a_problem_for_programs() {
    let refusing = Refusing::new();
    for table in [table(&[refusing.address]), table(&[])] {
        let rig = Rig::new(table);
        let page = rig.ask("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
        assert_eq!(
            (page.status, page.header("retry-after"), page.header("cache-control")),
            (503, Some("2"), Some("no-store"))
        );
        assert!(page.text().contains("http-equiv=\"refresh\""), "{}", page.text());
        let problem = rig.ask("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
        assert_eq!((problem.status, problem.header("content-type")), (503, Some("application/problem+json")));
        assert!(problem.text().contains("\"status\":503"));
        let head = rig.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(head.status, 503);
        let (_, told) = rig.finish(PATIENCE);
        assert_eq!((told.service().requests, told.service().failed), (3, 3));
    }
}

#[test]
fn the_first_request_after_all_servers_were_down_is_answered() {
    let (a, b) = (Refusing::new(), Refusing::new());
    let rig = Rig::new(table(&[a.address, b.address]));
    let mut wire = rig.connect();
    for _ in 0..5 {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().status, 503);
    }
    let address = b.address;
    drop(b);
    let _back = Origin::start_on(std::net::TcpListener::bind(address).unwrap(), |_, wire| {
        wire.send(ok("back"));
        Then::Continue
    });
    wire.send(get("/"));
    assert_eq!(wire.answer().unwrap().text(), "back");
}

#[test]
fn an_answer_that_is_not_http_is_tried_elsewhere_or_is_502() {
    let liar = Origin::start(|_, wire| {
        wire.send("SSH-2.0-OpenSSH_9.2\r\n");
        Then::Close
    });
    let good = Origin::of("saved");
    let rig = Rig::new(table(&[liar.address, good.address]));
    assert_eq!(rig.get("/").text(), "saved");
    assert_eq!((liar.count(), good.count()), (1, 1));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!(told.server("a").failures.get(&FailureKind::Malformed), Some(&1));
    let rig = Rig::new(table(&[liar.address]));
    assert_eq!((rig.get("/").status, rig.post("order").status), (502, 502));
}

#[test]
fn an_answer_cut_short_never_looks_whole() {
    let origin = Origin::start(|request, wire| {
        wire.send(match request.path() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nnonsense\r\n",
        });
        Then::Close
    });
    let rig = Rig::new(table(&[origin.address]));
    for path in ["/length", "/chunked", "/nonsense"] {
        for version in ["1.1", "1.0"] {
            let mut wire = rig.connect();
            wire.send(format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n"));
            let answer = wire.answer();
            // A server's chunks that are nonsense from the start are known to be so before anything is passed on.
            let refused = answer.as_ref().is_ok_and(|a| a.status == 502);
            assert!(answer.is_err() || refused, "{path} {version}: {answer:?}");
        }
    }
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (6, 6));
    assert!(told.server("a").failures.get(&FailureKind::Truncated).is_some_and(|&n| n >= 4));
}

#[test]
fn a_request_cut_short_never_looks_whole_to_the_server() {
    let origin = Origin::of("never");
    let rig = Rig::new(table(&[origin.address]));
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    ] {
        let mut wire = rig.connect();
        wire.send(request);
        wire.stream.shutdown(Shutdown::Write).unwrap();
        assert!(wire.rest().unwrap().is_empty());
    }
    assert_eq!(rig.get("/").text(), "never");
    assert_eq!(origin.count(), 1, "only the whole request was taken for one");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().abandoned, told.service().failed), (3, 2, 0));
}

#[test]
fn a_visitor_who_gives_up_is_no_failure() {
    let gate = Gate::default();
    let hung = hanging(&gate);
    let mut rig = Rig::new(table(&[hung.address]));
    let mut wire = rig.connect();
    wire.send(get("/"));
    eventually("the request is there", || hung.count() == 1);
    eventually("it is reported as under way", || {
        (rig.told().server("a").in_flight, rig.told().service().in_flight) == (1, 1)
    });
    drop(wire);
    eventually("it is counted", || rig.told().service().abandoned == 1);
    eventually("nothing is under way", || {
        (rig.told().server("a").in_flight, rig.told().service().in_flight) == (0, 0)
    });
    gate.open();
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().failed, told.server("a").failed()), (0, 0));
    assert!(told.service().hurt.is_empty());
}

#[test]
fn a_visitor_who_leaves_a_quiet_answer_is_noticed_and_is_no_failure_of_the_server() {
    let (left, is_left) = mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let origin = Origin::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        // Nothing more to say, as a stream of events most of the time.
        let _ = left.lock().unwrap().send(wire.rest().map(|rest| rest.len()).unwrap_or_default());
        Then::Close
    });
    let rig = Rig::new(table(&[origin.address]));
    let mut wire = rig.connect();
    wire.send(get("/events"));
    wire.head().unwrap().expect("the answer began");
    drop(wire);
    assert_eq!(is_left.recv_timeout(PATIENCE), Ok(0), "its server is told");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().abandoned, told.service().failed), (1, 0));
    assert_eq!(told.server("a").failed(), 0);
}

#[test]
fn a_killed_server_costs_no_get_while_traffic_runs() {
    let origins = [Origin::of("a"), Origin::of("b"), Origin::of("c")];
    let rig = Arc::new(Rig::new(table(&origins.each_ref().map(|o| o.address))));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (rig, stop) = (Arc::clone(&rig), Arc::clone(&stop));
            thread::spawn(move || {
                let mut wire = rig.connect();
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    wire.send(get("/"));
                    assert_eq!(wire.answer().unwrap().status, 200);
                    n += 1;
                }
                n
            })
        })
        .collect();
    let served = |n: usize| origins.iter().map(Origin::count).sum::<usize>() > n;
    eventually("traffic runs", || served(200));
    origins[1].kill();
    let before: usize = origins.iter().map(Origin::count).sum();
    eventually("traffic goes on", || served(before + 500));
    stop.store(true, Ordering::SeqCst);
    let sent: u64 = clients.into_iter().map(|c| c.join().expect("every answer was good")).sum();
    let rig = Arc::into_inner(rig).expect("the clients are done");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (sent, 0));
    assert_eq!(told.failures.iter().filter(|f| f.server == server_id("b")).count().min(1), 1);
}
