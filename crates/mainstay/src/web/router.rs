//! Which address is answered by whom, and what every answer carries.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::problem::Problem;
use super::{App, api, assets, blackbox, demo, guard, live, metrics, pages};

/// Requests under way at a time; streams of events are counted apart.
pub(super) const REQUESTS_MAX: usize = 64;
/// The largest body that is taken, in bytes: a text of two thousand characters as a form writes the longest of them.
pub(super) const BODY_MAX: usize = 32 * 1024;
/// For a request with its body to be answered; a stream of events has only to begin.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Nothing but our own files, no inline style or script, nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// All addresses.
pub(super) fn router(app: App) -> Router {
    let mut router = Router::new()
        .route("/", get(pages::show))
        .route("/services/{service}", get(pages::show))
        .route("/services/{service}/deploy", post(pages::releases::deploy))
        .route("/services/{service}/promote", post(pages::releases::promote))
        .route("/services/{service}/rollback", post(pages::releases::roll_back))
        .route("/services/{service}/switch", post(pages::releases::run_switch))
        .route("/servers/{service}/{server}", get(pages::show))
        .route("/servers/{service}/{server}/state", get(pages::server::confirm).post(pages::server::change))
        .route("/host", get(pages::show))
        .route("/incidents", get(pages::show))
        .route("/incidents/{id}", get(pages::show))
        .route("/incidents/{id}/acknowledge", post(pages::incident::acknowledge))
        .route("/ack/{token}", get(pages::ack::show).post(pages::ack::take_on))
        .route("/decide/{token}", get(pages::decide::show).post(pages::decide::decide))
        .route("/proposals/{id}", post(pages::proposals::decide))
        .route("/monitors", get(pages::show))
        .route("/monitors/{monitor}", get(pages::show))
        .route("/map", get(pages::show))
        .route("/maintenance", get(pages::show).post(pages::maintenance::open))
        .route("/maintenance/{window}/end", post(pages::maintenance::end))
        .route("/drills", get(pages::show).post(pages::drills::begin))
        .route("/drills/{drill}/stop", post(pages::drills::stop))
        .route("/freeze", post(pages::freeze::on))
        .route("/thaw", post(pages::freeze::off))
        .route("/backups", get(pages::show))
        .route("/backups/{backup}/run", post(pages::backups::run))
        .route("/backups/{backup}/verify", post(pages::backups::verify))
        .route("/incidents/{id}/public", post(pages::publish::change))
        .route("/incidents/{id}/public/updates", post(pages::publish::update))
        .route("/demo/{fault}", post(demo::break_it))
        .route("/login", get(pages::login::form).post(pages::login::log_in))
        .route("/logout", post(pages::login::log_out))
        .route("/events", get(live::events))
        .route("/metrics", get(metrics::metrics))
        .route("/probe", get(blackbox::probe))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/assets/{name}", get(assets::serve));
    for (path, methods) in api::routes() {
        router = router.route(path, methods);
    }
    router
        .fallback(|| async { Problem::not_found("No page, file or resource has this address.") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(middleware::from_fn_with_state(app.clone(), limit))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| broken().into_response()))
        .layer(middleware::from_fn_with_state(app.clone(), dress))
        .with_state(app)
}

/// A person's browser asks for a page, so that a refusal should be one too.
pub(super) fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let is_machine = path.starts_with("/api/")
        || matches!(path, "/metrics" | "/probe" | "/livez" | "/readyz" | "/events")
        || path.starts_with("/assets/");
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    !is_machine && accepts.is_some_and(|accept| accept.contains("text/html"))
}

/// Bounds how many requests are under way and how long each may take.
async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let Ok(_place) = app.requests.try_acquire() else {
        return Problem::busy("requests under way on the admin address").into_response();
    };
    match tokio::time::timeout(ANSWER_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("It was not answered within {} s.", ANSWER_MAX.as_secs());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-slow", "The request took too long", detail)
                .into_response()
        }
    }
}

/// Puts on every answer what it must carry, and shows problems as pages to people.
async fn dress(State(app): State<App>, request: Request, next: Next) -> Response {
    let as_page = wants_page(request.uri().path(), request.headers());
    let mut response = next.run(request).await;
    if as_page && let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut page = pages::problem(&app, &problem);
        for (name, value) in response.headers() {
            if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
                page.headers_mut().insert(name, value.clone());
            }
        }
        response = page;
    }
    let headers = response.headers_mut();
    let mut always = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    always(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    always(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Not `no-referrer`: with it browsers send `Origin: null` with our own forms, which cannot be told from a foreign page's.
    always(header::REFERRER_POLICY, "same-origin");
    always(header::CACHE_CONTROL, "no-store");
    always(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    always(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    response
}

fn broken() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "broken",
        "Mainstay has a mistake here",
        "The log says more. Traffic is not affected.",
    )
}

/// The process runs.
async fn livez() -> &'static str {
    "running\n"
}

/// Mainstay serves visitors.
async fn readyz(State(app): State<App>) -> Response {
    if *app.stop.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: Mainstay is stopping\n").into_response();
    }
    if *app.context.ready.borrow() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: Mainstay does not serve visitors yet\n").into_response()
}
