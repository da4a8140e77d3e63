//! Pages that change by themselves: the parts of a page that differ from what was last sent, as server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Extension, Query, State};
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::guard::Visitor;
use super::listener::stopped;
use super::pages::Page;
use super::problem::Problem;

/// Streams at a time; each open tab of a browser has one.
pub(super) const STREAMS_MAX: usize = 128;
/// Snapshots come faster than an eye can follow.
const PACE: Duration = Duration::from_millis(500);
/// How often what comes from the record is read again.
const RELOAD: Duration = Duration::from_secs(15);
/// A sign of life, so that a broken stream is noticed; the script waits three times as long.
const ALIVE: Duration = Duration::from_secs(5);
/// A stream ends after this; the browser opens the next one.
const STREAM_MAX: Duration = Duration::from_secs(3600);

/// `?page=/servers/shop/app-1?range=24h`
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    page: String,
}

/// The parts of a page that have changed.
#[derive(Serialize)]
struct Changes<'a> {
    title: &'a str,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    id: &'a str,
    html: &'a str,
}

/// Streams the changes of one page.
pub(super) async fn events(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let page = match wanted {
        Ok(Query(wanted)) => wanted.page.parse::<Uri>().ok().and_then(|uri| Page::of(&uri)),
        Err(rejection) => return Problem::from(rejection).into_response(),
    };
    let Some(page) = page else {
        return Problem::not_found("`page` is not the address of a page that changes.").into_response();
    };
    let Ok(place) = app.streams.clone().try_acquire_owned() else {
        return Problem::busy("open pages").into_response();
    };
    // A slow reader holds back its own stream only: what is not taken is not made.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(stream(app, visitor, page, sender, place));
    // A proxy before us must not wait for more.
    let headers = [("x-accel-buffering", "no")];
    let sse =
        Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(ALIVE).event(alive()));
    (headers, sse).into_response()
}

fn alive() -> Event {
    Event::default().event("alive").data("")
}

async fn stream(
    app: App,
    visitor: Visitor,
    page: Page,
    sender: mpsc::Sender<Result<Event, Infallible>>,
    place: OwnedSemaphorePermit,
) {
    let mut stop = app.stop.clone();
    tokio::select! {
        () = sender.closed() => {}
        () = stopped(&mut stop) => {}
        () = tokio::time::sleep(STREAM_MAX) => {}
        () = follow(&app, visitor, &page, &sender) => {}
    }
    drop(place);
}

/// Sends changes until the page is gone or the visitor may no longer see it.
async fn follow(app: &App, visitor: Visitor, page: &Page, sender: &mpsc::Sender<Result<Event, Infallible>>) {
    let mut snapshots = app.context.snapshots.clone();
    let mut sent: BTreeMap<&'static str, String> = BTreeMap::new();
    let mut loaded = page.load(app).await;
    let mut loaded_at = Instant::now();
    loop {
        let access = app.context.access.borrow().clone();
        if !app.guard.still_admits(&access, visitor) {
            return;
        }
        if loaded_at.elapsed() >= RELOAD {
            loaded = page.load(app).await;
            loaded_at = Instant::now();
        }
        let snapshot = snapshots.borrow_and_update().clone();
        let event = match page.render(app, &snapshot, &loaded) {
            Ok(rendered) => {
                let changed = rendered.parts.iter().filter(|part| sent.get(part.id) != Some(&part.html));
                let parts: Vec<_> = changed.map(|part| Part { id: part.id, html: &part.html }).collect();
                let event = (!parts.is_empty()).then(|| {
                    Event::default().event("changes").json_data(Changes { title: &rendered.title, parts })
                });
                sent = rendered.parts.into_iter().map(|part| (part.id, part.html)).collect();
                event.and_then(Result::ok)
            }
            // A server that left the config, for example: the page is loaded anew and says so.
            Err(_) => Some(Event::default().event("gone").data("")),
        };
        if let Some(event) = event
            && sender.send(Ok(event)).await.is_err()
        {
            return;
        }
        tokio::time::sleep(PACE).await;
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}
