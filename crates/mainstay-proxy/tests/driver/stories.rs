//! What became of single requests, as it is told to whoever asks for their id, and how often it happened.

use std::sync::Arc;
use std::time::Duration;

use mainstay_model::limits::{AddressLimit, Limits};

use crate::support::{
    Origin, Refusing, Rig, Then, carriage, eventually, get, ok, post, server_id, service_id, table,
};

#[test]
fn a_request_that_was_saved_is_told_attempt_by_attempt_and_a_plain_one_is_not_remembered() {
    let (refusing, good) = (Refusing::new(), Origin::of("good"));
    let rig = Rig::new(table(&[refusing.address, good.address]));
    let story = rig.story(&rig.get("/cart?x=1"));
    assert_eq!(
        (story.service, story.line.as_str(), story.status),
        (Some(service_id()), "GET /cart?x=1", Some(200))
    );
    assert_eq!(story.ending, "answered by b");
    let attempts: Vec<_> =
        story.attempts.iter().map(|a| (a.server.clone(), a.outcome.as_str(), a.verdict.as_str())).collect();
    assert_eq!(
        attempts,
        [
            (
                server_id("a"),
                "the connection was refused",
                "tried again, because no byte of it had been sent"
            ),
            (server_id("b"), "it answered 200", ""),
        ]
    );
    assert!(
        story.took_ms >= story.attempts[1].after_ms
            && story.attempts[1].after_ms >= story.attempts[0].after_ms
    );
    assert_eq!(rig.unusual().retries, [((service_id(), "refused"), 1)].into());
    assert_eq!(rig.known(&rig.get("/")), None, "the server is avoided, so it goes as usual");
}

#[test]
fn a_post_that_was_not_tried_again_says_why() {
    let dying = Origin::start(|_, _| Then::Close);
    let good = Origin::of("never");
    let rig = Rig::new(table(&[dying.address, good.address]));
    let story = rig.story(&rig.post("order"));
    assert_eq!((story.status, story.attempts.len()), (Some(502), 1));
    assert_eq!(story.attempts[0].outcome, "it closed the connection without an answer");
    assert_eq!(
        story.attempts[0].verdict,
        "not tried again, because the server may have received it and its method must not be repeated"
    );
    let mut stingy = table(&[dying.address, good.address]);
    (carriage(&mut stingy).retry.budget, carriage(&mut stingy).retry.budget_min) = (0.0, 0);
    let rig = Rig::new(stingy);
    let story = rig.story(&rig.get("/"));
    assert_eq!(
        story.attempts[0].verdict,
        "not tried again, because the budget of retries was used up (retry.budget)"
    );
    assert!(rig.unusual().retries.is_empty());
}

#[test]
fn what_a_server_answered_badly_is_shown_once_a_second_without_its_secrets() {
    let origin = Origin::start(|_, wire| {
        let error = "HTTP/1.1 503 No\r\nSet-Cookie: id=7\r\nX-Why: db\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nno disk\r\n0\r\n\r\n";
        wire.send(error);
        Then::Continue
    });
    let mut rig = Rig::new(table(&[origin.address]));
    let story = rig.story(&rig.get("/cart?card=4711"));
    (0..5).for_each(|_| assert_eq!(rig.get("/").status, 503));
    eventually("all are counted", || rig.told().server("a").server_errors == 6);
    let seen = rig.told().answers.clone();
    assert!(matches!(seen.len(), 1 | 2), "{seen:?}");
    let first = &seen[0];
    assert_eq!((&first.server, &first.request), (&server_id("a"), &story.id));
    let sample = &first.sample;
    assert_eq!((sample.asked.as_str(), sample.status), ("GET /cart", Some(503)));
    assert_eq!(sample.headers, "Set-Cookie: (not kept)\nX-Why: db\nTransfer-Encoding: chunked\n");
    assert_eq!((sample.body.as_str(), sample.cut), ("no disk", false));
    assert!(sample.phases.first_byte.is_some());
}

#[test]
fn a_slow_a_failed_and_a_refused_request_are_remembered_with_the_id_that_their_visitor_has() {
    let origin = Origin::start(|request, wire| {
        if request.path() == "/slow" {
            std::thread::sleep(Duration::from_millis(40));
        }
        let error = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into();
        wire.send(if request.path() == "/bad" { error } else { ok("fine") });
        Then::Continue
    });
    let mut limited = table(&[origin.address]);
    carriage(&mut limited).slow_after = Duration::from_millis(20);
    let per_address = AddressLimit { requests: 3, per: Duration::from_secs(3600), burst: 3, close: false };
    carriage(&mut limited).limits = Arc::new(Limits { per_address: Some(per_address), ..Limits::NONE });
    let rig = Rig::new(limited);
    let told = |answer| {
        let story = rig.story(&answer);
        (story.status, story.ending)
    };
    let slow = told(rig.get("/slow"));
    assert!(slow.0 == Some(200) && slow.1.starts_with("answered by a, slowly"), "{slow:?}");
    assert_eq!(told(rig.get("/bad")), (Some(500), "answered by a".to_owned()));
    let mine = rig.ask("GET /bad HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n");
    assert_eq!((mine.header("x-request-id"), told(mine.clone()).0), (Some("mine"), Some(500)));
    let (status, ending) = told(rig.get("/"));
    assert!(status == Some(429) && ending.contains("limits.per-address"), "{ending}");
    let (status, ending) = told(rig.ask("GET / HTTP/1.1\r\n\r\n"));
    assert!(status == Some(400) && ending.contains("missing-host"), "{ending}");
}

#[test]
fn a_large_body_that_was_not_kept_still_has_its_line() {
    let dying = Origin::start(|_, _| Then::Close);
    let mut one = table(&[dying.address]);
    carriage(&mut one).retry.body_max = 10;
    let rig = Rig::new(one);
    let body = "x".repeat(200_000);
    let answer =
        rig.ask(format!("PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let story = rig.story(&answer);
    assert_eq!(story.line, "PUT /file");
    assert!(story.attempts[0].verdict.contains("retry.body-max"), "{story:?}");
    assert_eq!(rig.ask(get("/")).status, 502);
    assert_eq!(rig.ask(post("order")).status, 502);
}
