//! Links in messages: what they show to whom, and that only the button takes an incident on.

use axum::body::Body;
use axum::http::header;
use mainstay_model::incident::IncidentState;
use mainstay_model::{IncidentId, Input, Wall};

use super::{Stage, fake, get, post};

fn now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Wall(i64::try_from(since.as_millis()).unwrap())
}

fn link(stage: &Stage, incident: u64, at: Wall) -> String {
    let links = &stage.app.context.links;
    links.link("", IncidentId(incident), &fake::ada(), at).unwrap()
}

#[tokio::test]
async fn a_link_needs_no_login_and_shows_little() {
    let stage = Stage::guarded();
    let answer = stage.get(&link(&stage, 7, now())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    for shown in ["app-2 of shop was killed by SIGKILL", "degraded", "Take it on as Ada &#60;b&#62;"] {
        assert!(answer.body.contains(shown), "{shown} is missing: {}", answer.body);
    }
    for hidden in ["10.0.0.11", "ops@example.com", "+491701234567", "data-live", "timeline"] {
        assert!(!answer.body.contains(hidden), "{hidden} is shown: {}", answer.body);
    }
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn only_the_button_takes_it_on_in_the_name_of_whom_the_link_is_for() {
    let mut stage = Stage::guarded();
    let link = link(&stage, 7, now());
    for method in ["GET", "HEAD"] {
        let request = axum::http::Request::builder().method(method).uri(&link).body(Body::empty()).unwrap();
        assert_eq!(stage.send(request).await.status, 200);
    }
    assert!(stage.inputs.try_recv().is_err(), "looking changes nothing");
    let answer = stage.post_form(&link, "").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, link.as_str()));
    let Ok(Input::Acknowledge { incident, by }) = stage.inputs.try_recv() else {
        panic!("nobody took it on")
    };
    assert_eq!((incident, by.as_str()), (IncidentId(7), "Ada <b>"));
}

#[tokio::test]
async fn another_sites_page_cannot_press_the_button() {
    let mut stage = Stage::guarded();
    let request = post(&link(&stage, 7, now())).header("sec-fetch-site", "cross-site").body(Body::empty());
    stage.send(request.unwrap()).await.assert_problem(403, "cross-site");
    assert!(stage.inputs.try_recv().is_err());
}

#[tokio::test]
async fn an_incident_that_is_over_or_taken_on_says_so() {
    let mut stage = Stage::guarded();
    let answer = stage.get(&link(&stage, 5, now())).await;
    assert!(
        answer.body.contains("It is over") && !answer.body.contains("<form method=\"post\">"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("Taken on by <b>Ada</b>"), "{}", answer.body);
    assert_eq!(stage.post_form(&link(&stage, 5, now()), "").await.status, 303);
    let mut snapshot = fake::snapshot();
    let incident = std::sync::Arc::make_mut(&mut snapshot.incidents[0]);
    incident.state = IncidentState::Acknowledged;
    incident.acknowledged = Some(("Eve".to_owned(), Wall(fake::NOW.0 - 5_000)));
    stage.snapshots.send_replace(snapshot.into());
    let answer = stage.get(&link(&stage, 7, now())).await;
    assert!(answer.body.contains("Taken on by <b>Eve</b>"), "{}", answer.body);
    assert_eq!(stage.post_form(&link(&stage, 7, now()), "").await.status, 303);
    assert!(stage.inputs.try_recv().is_err(), "it stays Eve's");
}

#[tokio::test]
async fn an_old_link_and_one_of_an_incident_that_is_gone_are_refused_by_name() {
    let stage = Stage::guarded();
    let old = link(&stage, 7, Wall(now().0 - 25 * 3_600_000));
    stage.send(get(&old).body(Body::empty()).unwrap()).await.assert_problem(410, "link-expired");
    let gone = link(&stage, 99, now());
    stage.send(get(&gone).body(Body::empty()).unwrap()).await.assert_problem(404, "not-found");
}

#[tokio::test]
async fn who_guesses_has_to_wait_and_locks_nobody_out() {
    let stage = Stage::guarded();
    let guess = |n: usize| get(&format!("/ack/{n:032}")).body(Body::empty()).unwrap();
    for n in 0..5 {
        stage.send(guess(n)).await.assert_problem(404, "not-found");
    }
    stage.send(guess(5)).await.assert_problem(429, "too-many-attempts");
    assert_eq!(stage.get(&link(&stage, 7, now())).await.status, 200, "a right link is never refused");
    let login = stage.post_form("/login", "password=correct+horse&next=%2F").await;
    assert!(!login.header(header::SET_COOKIE.as_str()).is_empty(), "a login is another matter");
}

#[tokio::test]
async fn the_incidents_page_and_the_api_show_who_was_told_with_what_outcome_and_who_is_next() {
    let stage = Stage::open();
    let page = stage.get("/incidents/7").await.body;
    for shown in [
        "ops@example.com</b> <span class=\"quiet\">mail · first step",
        "Ada &#60;b&#62;</b> <span class=\"quiet\">SMS · after 5\u{202f}min",
        "Webhook</b>",
        "delivered",
        "not yet, tried 3\u{a0}times",
        "error 21211: &#60;script&#62;",
        "held back: more than 10",
        "waits to be sent",
        "<b>Bob by mail</b>",
        "in 9\u{202f}min",
    ] {
        let shown = shown.replace('\u{a0}', " ");
        let page = page.replace('\u{a0}', " ");
        assert!(page.contains(&shown), "{shown} is missing: {page}");
    }
    let (status, json) = stage.get_json("/api/v1/incidents/7/messages").await;
    assert_eq!(status, 200);
    assert_eq!(json["messages"][2]["to"]["address"], "+491701234567");
    assert_eq!(json["messages"][2]["state"], "delivered");
    let broken = Stage::new(fake::snapshot(), true, fake::FakePast { broken: true });
    let page = broken.get("/incidents/7").await;
    assert!(page.body.contains("cannot be read"), "{}", page.body);
}
