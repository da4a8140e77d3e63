//! What a person tells the public, from the dashboard and through the API.

use std::sync::Arc;

use mainstay_model::publication::{PublicChange, PublicState, Publication};
use mainstay_model::{IncidentId, Input};
use serde_json::json;

use super::{Stage, fake};

/// With a status page, and incident 7 already told of.
fn stage() -> Stage {
    let mut snapshot = fake::snapshot();
    let told = Arc::new(fake::told("We are on it.\n<b>Soon</b>"));
    snapshot.publications = Arc::new([(IncidentId(7), told)].into());
    let stage = Stage::new(snapshot, true, fake::FakePast::default());
    let _ = stage.status.send(Some(Arc::new(fake::status_config())));
    stage
}

fn change(stage: &mut Stage) -> (IncidentId, PublicChange, String) {
    match stage.inputs.try_recv() {
        Ok(Input::Publish { incident, change, by }) => (incident, change, by),
        other => panic!("nothing is published but {other:?}"),
    }
}

#[tokio::test]
async fn an_incidents_page_shows_what_the_public_is_told_and_takes_more() {
    let mut stage = stage();
    let page = stage.get("/incidents/7").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("On the status page"), "{}", page.body);
    assert!(page.body.contains("Shop works with less in reserve"));
    assert!(page.body.contains("&#60;b&#62;Soon") && !page.body.contains("<b>Soon"));
    let answer =
        stage.post_form("/incidents/7/public/updates", "state=monitoring&text=a%0D%0Ab+%3C&by=Ada").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/incidents/7#public"));
    let update = PublicChange::Update { state: PublicState::Monitoring, text: "a\nb <".to_owned() };
    assert_eq!(change(&mut stage), (IncidentId(7), update, "Ada".to_owned()));
    let answer = stage.post_form("/incidents/7/public", "title=+No+lamps+&shown=no").await;
    assert_eq!(answer.status, 303);
    let face = PublicChange::Face { title: Some("No lamps".to_owned()), shown: Some(false) };
    assert_eq!(change(&mut stage), (IncidentId(7), face, "dashboard".to_owned()));
}

#[tokio::test]
async fn without_a_status_page_there_is_nothing_to_publish() {
    let mut stage = Stage::open();
    assert!(!stage.get("/incidents/7").await.body.contains("On the status page"));
    let answer = stage.post_json("/api/v1/incidents/7/public/updates", r#"{"state":"resolved","text":"x"}"#);
    answer.await.assert_problem(409, "conflict");
    assert!(stage.inputs.try_recv().is_err());
}

#[tokio::test]
async fn the_api_publishes_as_the_page_does_and_says_how_things_stand() {
    let mut stage = stage();
    let (status, face) = stage.get_json("/api/v1/incidents/5/public").await;
    assert_eq!(status, 200);
    assert_eq!((&face["shown"], &face["component"]), (&json!(true), &json!("Shop")));
    assert_eq!(face["title"], "Some requests to Shop failed");
    assert_eq!(face["updates"][0]["state"], "identified");
    let body = r#"{"state":"identified","text":"A cable was cut.","by":"bot"}"#;
    let answer = stage.post_json("/api/v1/incidents/7/public/updates", body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["incident"]), (200, &json!(7)));
    assert_eq!(change(&mut stage).2, "bot");
    let answer = stage.post_json("/api/v1/incidents/7/public", r#"{"shown":false}"#).await;
    assert_eq!(answer.status, 200);
    assert_eq!(change(&mut stage).1, PublicChange::Face { title: None, shown: Some(false) });
    let same = stage.post_json("/api/v1/incidents/7/public", r#"{"shown":true}"#).await;
    assert_eq!(same.status, 200);
    assert!(stage.inputs.try_recv().is_err(), "what changes nothing is not handed on");
}

#[tokio::test]
async fn orders_with_mistakes_are_named_and_change_nothing() {
    let mut stage = stage();
    let updates = "/api/v1/incidents/7/public/updates";
    let long = "x".repeat(Publication::TEXT_MAX + 1);
    for body in [
        json!({ "state": "asleep", "text": "x" }),
        json!({ "state": "resolved", "text": " \n " }),
        json!({ "state": "resolved", "text": long }),
        json!({ "state": "resolved", "text": "a\u{1}b" }),
        json!({ "state": "resolved", "text": "x", "z": 1 }),
    ] {
        stage.post_json(updates, &body.to_string()).await.assert_problem(400, "bad-request");
    }
    let title = json!({ "title": "x".repeat(Publication::TITLE_MAX + 1) }).to_string();
    stage.post_json("/api/v1/incidents/7/public", &title).await.assert_problem(400, "bad-request");
    let fine = r#"{"state":"resolved","text":"x"}"#;
    stage.post_json("/api/v1/incidents/99/public/updates", fine).await.assert_problem(404, "not-found");
    let mut full = (*stage.app.snapshot()).clone();
    let mut told = fake::told("x");
    told.updates = vec![told.updates[0].clone(); Publication::UPDATES_MAX];
    full.publications = Arc::new([(IncidentId(7), Arc::new(told))].into());
    stage.snapshots.send_replace(Arc::new(full));
    stage.post_json(updates, fine).await.assert_problem(409, "conflict");
    assert!(stage.inputs.try_recv().is_err());
    // The judge does not take it: nothing is known of it afterwards.
    stage.post_json("/api/v1/incidents/6/public/updates", fine).await.assert_problem(409, "conflict");
}
