//! Streams of events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header;
use mainstay_model::monitor::MonitorState;
use mainstay_model::snapshot::Health;
use serde_json::Value;
use tokio_stream::StreamExt;
use tower::ServiceExt;

use super::{Stage, fake, get};
use crate::config::AdminAccess;
use crate::web::router;

/// Far above what anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

struct Stream {
    body: BodyDataStream,
    text: String,
}

impl Stream {
    async fn open(stage: &Stage, page: &str) -> Self {
        let request = get(&format!("/events?page={}", crate::web::words::encode(page)));
        let response =
            router::router(stage.app.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event that is not a sign of life: name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned()
                };
                let found = (field("event:"), field("data:"));
                self.text = rest.to_owned();
                if found.0 != "alive" {
                    return Some(found);
                }
            }
            let chunk =
                tokio::time::timeout(DEADLINE, self.body.next()).await.expect("the stream is silent")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    async fn changes(&mut self) -> Value {
        let (name, data) = self.next().await.expect("the stream has ended");
        assert_eq!(name, "changes");
        serde_json::from_str(&data).unwrap()
    }
}

fn ids(changes: &Value) -> Vec<&str> {
    changes["parts"].as_array().unwrap().iter().map(|part| part["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_begins_with_the_whole_page_and_goes_on_with_what_changed() {
    let stage = Stage::open();
    let mut stream = Stream::open(&stage, "/").await;
    let first = stream.changes().await;
    assert_eq!(
        ids(&first),
        [
            "freeze",
            "headline",
            "incidents-open",
            "proposals",
            "maintenance-line",
            "services",
            "monitors-line",
            "machine",
            "incidents-recent"
        ]
    );
    assert_eq!(first["title"], "shop runs on 2 of 4\u{a0}servers · Mainstay");

    let mut snapshot = fake::snapshot();
    snapshot.services[1].servers[0].health = Health::Unhealthy;
    stage.snapshots.send(Arc::new(snapshot)).unwrap();
    let second = stream.changes().await;
    assert_eq!(ids(&second), ["services"], "only what changed is sent");
    assert!(second["parts"][0]["html"].as_str().unwrap().contains("data-state=\"down\""));
}

#[tokio::test]
async fn the_streamed_parts_are_the_parts_of_the_page() {
    let stage = Stage::open();
    for path in ["/", "/services/shop", "/servers/shop/app-2?range=24h", "/incidents", "/incidents/7"] {
        let page = stage.get(path).await.body;
        let changes = Stream::open(&stage, path).await.changes().await;
        for part in changes["parts"].as_array().unwrap() {
            let whole = format!(
                "<div class=\"part\" id=\"{}\">{}</div>",
                part["id"].as_str().unwrap(),
                part["html"].as_str().unwrap()
            );
            assert!(page.contains(&whole), "{path}: {}", part["id"]);
        }
        assert!(page.contains(&format!("data-live=\"{path}\"")), "{path}");
    }
}

#[tokio::test]
async fn a_monitor_that_fails_is_sent_without_the_form_of_the_list() {
    let stage = Stage::open();
    let mut stream = Stream::open(&stage, "/monitors").await;
    let whole = ["freeze", "monitors-head", "monitors-filter", "monitors"];
    assert_eq!(ids(&stream.changes().await), whole);
    let mut snapshot = fake::snapshot();
    let mut monitors = (*snapshot.monitors).clone();
    Arc::make_mut(&mut monitors[2]).state = MonitorState::Down;
    snapshot.monitors = Arc::new(monitors);
    snapshot.monitor_counts.down += 1;
    stage.snapshots.send(Arc::new(snapshot)).unwrap();
    assert_eq!(ids(&stream.changes().await), ["monitors-head", "monitors"], "counts and rows are sent");
}

#[tokio::test]
async fn a_drill_that_begins_is_sent_without_the_form() {
    let stage = Stage::open();
    let mut stream = Stream::open(&stage, "/drills").await;
    assert_eq!(ids(&stream.changes().await), ["freeze", "drill", "drills", "drill-form"]);
    stage.snapshots.send(Arc::new(super::drills::drilled())).unwrap();
    assert_eq!(ids(&stream.changes().await), ["drill", "drills"]);
}

#[tokio::test]
async fn a_server_that_leaves_the_config_is_told_as_gone() {
    let stage = Stage::open();
    let mut stream = Stream::open(&stage, "/servers/shop/app-2").await;
    stream.changes().await;
    stage.snapshots.send(Arc::default()).unwrap();
    assert_eq!(stream.next().await.map(|(name, _)| name).as_deref(), Some("gone"));
}

#[tokio::test]
async fn a_part_that_goes_has_the_page_loaded_anew() {
    let stage = Stage::open();
    let mut stream = Stream::open(&stage, "/servers/shop/app-2").await;
    assert_eq!(ids(&stream.changes().await), ["freeze", "head", "why", "process", "charts", "looks"]);
    stage.snapshots.send(Arc::new(fake::healthy())).unwrap();
    assert_eq!(
        stream.next().await.map(|(name, _)| name).as_deref(),
        Some("gone"),
        "it is no longer supervised"
    );
}

#[tokio::test]
async fn streams_end_when_mainstay_stops_or_the_password_changes() {
    let stage = Stage::open();
    let mut stopped = Stream::open(&stage, "/").await;
    stopped.changes().await;
    stage.stop.send(true).unwrap();
    assert_eq!(stopped.next().await, None);

    let stage = Stage::open();
    let mut locked = Stream::open(&stage, "/").await;
    locked.changes().await;
    let token = Some(crate::config::Secret::new("new".to_owned()));
    stage.access.send(AdminAccess { token, password: None }).unwrap();
    stage.snapshots.send(Arc::new(fake::healthy())).unwrap();
    assert_eq!(locked.next().await, None);
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_gives_its_place_back() {
    let stage = Stage::open();
    let mut streams = Vec::new();
    for _ in 0..crate::web::live::STREAMS_MAX {
        streams.push(Stream::open(&stage, "/incidents").await);
    }
    let refused = stage.send(get("/events?page=/").body(Body::empty()).unwrap()).await;
    refused.assert_problem(503, "busy");
    drop(streams);
    let freed = async {
        while stage.app.streams.available_permits() < crate::web::live::STREAMS_MAX {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, freed).await.expect("places are given back");
}

#[tokio::test]
async fn only_pages_that_change_are_streamed() {
    let stage = Stage::open();
    for page in ["/login", "/metrics", "x", "", "/servers/shop/app-1/state"] {
        let path = format!("/events?page={}", crate::web::words::encode(page));
        stage.send(get(&path).body(Body::empty()).unwrap()).await.assert_problem(404, "not-found");
    }
    stage.send(get("/events").body(Body::empty()).unwrap()).await.assert_problem(400, "bad-request");
}
