//! The whole router against fakes.

mod access;
mod ack;
mod api;
mod demo;
mod drills;
pub(super) mod fake;
mod freeze;
mod listener;
mod live;
pub(super) mod maintenance;
mod pages;
mod publishing;
pub(super) mod releases;
mod show;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use mainstay_model::{Input, Snapshot};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

use super::demo::Demo;
use super::past::Past;
use super::{App, Context, Shared, router};
use crate::ack::Links;
use crate::config::{AdminAccess, Secret, StatusConfig};

/// The pages with everything around them made up.
struct Stage {
    app: App,
    snapshots: watch::Sender<Arc<Snapshot>>,
    access: watch::Sender<AdminAccess>,
    ready: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    status: watch::Sender<Option<Arc<StatusConfig>>>,
    /// What was handed to the judge.
    inputs: mpsc::UnboundedReceiver<Input>,
}

impl Stage {
    fn new(snapshot: Snapshot, loopback: bool, past: fake::FakePast) -> Self {
        Self::of(snapshot, loopback, past, None)
    }

    /// The dashboard of a demo.
    fn demo(demo: Demo) -> Self {
        Self::of(fake::snapshot(), true, fake::FakePast::default(), Some(demo))
    }

    fn of(snapshot: Snapshot, loopback: bool, past: fake::FakePast, demo: Option<Demo>) -> Self {
        let (snapshots, watched) = watch::channel(Arc::new(snapshot));
        let (access, access_watched) = watch::channel(AdminAccess::default());
        let (ready, ready_watched) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let (submitted, inputs) = mpsc::unbounded_channel();
        let (status, status_watched) = watch::channel(None);
        let stopped = stop.subscribe();
        let keys = tempfile::tempdir().unwrap();
        let links = Links::new(keys.path());
        links.prepare().unwrap();
        let context = Context {
            snapshots: watched,
            reader: Arc::new(past) as Arc<dyn Past>,
            submit: Arc::new(move |input| {
                let taken = !*stopped.borrow() && submitted.send(input).is_ok();
                Box::pin(async move { taken })
            }),
            last_lines: Arc::new(|server| {
                vec![format!("{} listens on 3000", server.name), "<script>alert(1)</script>".to_owned()]
            }),
            dump: Arc::new(|server| {
                Box::pin(async move {
                    match &*server.name {
                        "app-1" => {
                            Ok(("1 thread".to_owned(), vec!["process 7 (shop), 1 thread:".to_owned()]))
                        }
                        _ => Err(format!("no process of {server} runs")),
                    }
                })
            }),
            dns_queries: Arc::new(|| vec![("NOERROR", 7)]),
            find_request: Arc::new(|id| (id == "c0ffee").then(fake::request)),
            unusual: Arc::new(super::UnusualCounts::default),
            lateness: Arc::new(|| (0.75, vec![(0.1, 2), (f64::MAX, 1)])),
            ask_probe: Arc::new(|module, _, _| {
                Box::pin(async move { Err(format!("there is no module `{module}`")) })
            }),
            access_lines: Arc::new(|| Some((41, 1))),
            write_freeze: Arc::new(|freeze| match freeze {
                Some(freeze) if freeze.why == "disk full" => Err("no space left".to_owned()),
                _ => Ok(()),
            }),
            check_release: Arc::new(|_, path| {
                Box::pin(async move {
                    if path.starts_with("/srv/") { Ok(path) } else { Err(format!("{path}: no such folder")) }
                })
            }),
            access: access_watched,
            ready: ready_watched,
            links: Arc::new(links),
            demo,
            status: status_watched,
            pings: Arc::new(crate::heartbeat::Door::new().0),
        };
        let app = Arc::new(Shared::new(context, loopback, stopping));
        Self { app, snapshots, access, ready, stop, status, inputs }
    }

    /// On loopback without credentials, with a bit of everything.
    fn open() -> Self {
        Self::new(fake::snapshot(), true, fake::FakePast::default())
    }

    /// With a token and a password.
    fn guarded() -> Self {
        let stage = Self::new(fake::snapshot(), false, fake::FakePast::default());
        let secret = |text: &str| Some(Secret::new(text.to_owned()));
        let _ = stage.access.send(AdminAccess { token: secret("t0ken"), password: secret("correct horse") });
        stage
    }

    /// Answers a request as it is.
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = router::router(self.app.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body).unwrap() }
    }

    /// What a browser on this machine gets.
    async fn get(&self, path: &str) -> Answer {
        self.send(get(path).header(header::ACCEPT, "text/html").body(Body::empty()).unwrap()).await
    }

    /// What a program on this machine gets.
    async fn get_json(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.send(get(path).body(Body::empty()).unwrap()).await;
        (answer.status, answer.json())
    }

    /// A form sent from our own page.
    async fn post_form(&self, path: &str, form: &str) -> Answer {
        let request = post(path)
            .header("sec-fetch-site", "same-origin")
            .header(header::ACCEPT, "text/html")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// Something that a program takes back.
    async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).header(header::HOST, "localhost:9900").body(Body::empty()).unwrap())
            .await
    }

    /// An order of a program.
    async fn post_json(&self, path: &str, body: &str) -> Answer {
        let request = post(path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// It is a problem of RFC 9457 with this status and name.
    fn assert_problem(&self, status: u16, name: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:mainstay:problem:{name}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
}

fn get(path: &str) -> axum::http::request::Builder {
    Request::get(path).header(header::HOST, "localhost:9900")
}

fn post(path: &str) -> axum::http::request::Builder {
    Request::post(path).header(header::HOST, "localhost:9900")
}
