//! The demo's buttons, and what they show.

use axum::http::{StatusCode, header};
use tokio::sync::{mpsc, watch};

use super::Stage;
use crate::web::demo::{Demo, DemoResult, DemoState};

fn demo() -> (Demo, mpsc::Receiver<String>, watch::Sender<DemoState>) {
    let (wishes, wished) = mpsc::channel(1);
    let (told, state) = watch::channel(DemoState::default());
    (Demo { faults: vec![("kill", "Kill a server"), ("hang", "Hang a server")], wishes, state }, wished, told)
}

#[tokio::test]
async fn without_a_demo_there_is_nothing_to_break() {
    let stage = Stage::open();
    assert!(!stage.get("/").await.body.contains("Break something"));
    assert_eq!(stage.post_form("/demo/kill", "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_button_hands_its_wish_over_and_a_second_one_has_to_wait() {
    let (demo, mut wished, _told) = demo();
    let stage = Stage::demo(demo);
    let page = stage.get("/").await.body;
    assert!(page.contains("action=\"/demo/kill\"") && page.contains("Hang a server"), "{page}");
    let pressed = stage.post_form("/demo/hang", "").await;
    assert_eq!(
        (pressed.status, &pressed.headers[header::LOCATION]),
        (StatusCode::SEE_OTHER, &"/#demo".parse().unwrap())
    );
    assert_eq!(stage.post_form("/demo/kill", "").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(wished.recv().await.as_deref(), Some("hang"));
    assert_eq!(stage.post_form("/demo/nothing", "").await.status, StatusCode::NOT_FOUND);
    let foreign = super::post("/demo/kill").header("sec-fetch-site", "cross-site");
    let refused = stage.send(foreign.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(wished.try_recv().is_err(), "what was refused is not handed over");
}

#[tokio::test]
async fn what_is_under_way_and_what_came_of_it_is_shown_as_text() {
    let (demo, _wished, told) = demo();
    let stage = Stage::demo(demo);
    told.send_modify(|state| state.playing = "Under way: a server hangs".to_owned());
    let page = stage.get("/").await.body;
    assert!(page.contains("Under way: a server hangs") && page.contains("disabled"), "{page}");
    told.send_modify(|state| {
        state.playing.clear();
        state.note = "Not possible just now: <b>".to_owned();
        state.results = vec![DemoResult {
            title: "a server hangs".to_owned(),
            noticed: "512 ms".to_owned(),
            diverted: "882 ms".to_owned(),
            recovered: "3620 ms".to_owned(),
            visitors: "0 of 866 failed".to_owned(),
            done: "taken out, restarted".to_owned(),
            incident: Some(2),
        }];
    });
    let page = stage.get("/").await.body;
    assert!(
        page.contains("href=\"/incidents/2\">a server hangs") && page.contains("0 of 866 failed"),
        "{page}"
    );
    assert!(page.contains("just now: &#60;b&#62;") && !page.contains("disabled"), "{page}");
}
