//! Hands out what is printed. It asks nobody and waits for nothing, so it answers also when all else is down.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::Settings;
use super::edition::{Edition, File};

/// Nothing but our own style and pictures: no script, no form, nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; \
     frame-ancestors 'none'; base-uri 'none'";
/// Whoever looks again within this sees the same; during an outage that is most.
const SHORT: &str = "public, max-age=5";
const LASTING: &str = "public, max-age=31536000, immutable";

struct Server {
    editions: watch::Receiver<Arc<Edition>>,
    settings: Settings,
}

/// Answers every address.
pub(super) fn router(editions: watch::Receiver<Arc<Edition>>, settings: Settings) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(Server { editions, settings }))
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let mut response = respond(&server, &request);
    let headers = response.headers_mut();
    let mut always = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    always(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    always(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    always(header::REFERRER_POLICY, "no-referrer");
    always(header::CACHE_CONTROL, SHORT);
    // Badges and JSON are made for other people's pages.
    always(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    always(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
    response
}

fn respond(server: &Server, request: &Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allowed = [(header::ALLOW, HeaderValue::from_static("GET, HEAD"))];
        return (StatusCode::METHOD_NOT_ALLOWED, allowed, "This page can only be read.\n").into_response();
    }
    let path = request.uri().path();
    let prefix = server.settings.borrow().as_ref().and_then(|settings| settings.path.clone());
    let path = match prefix.as_deref().and_then(|prefix| Some((prefix, path.strip_prefix(prefix)?))) {
        // Links are relative, so the page must seem to lie in a folder.
        Some((prefix, "")) => {
            let folder = HeaderValue::from_str(&format!("{prefix}/"));
            return (
                StatusCode::FOUND,
                folder
                    .map(|to| [(header::LOCATION, to)])
                    .unwrap_or_else(|_| [(header::LOCATION, HeaderValue::from_static("/"))]),
            )
                .into_response();
        }
        Some((_, rest)) if rest.starts_with('/') => rest,
        _ => path,
    };
    let edition = server.editions.borrow().clone();
    if edition.files.is_empty() {
        let soon = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
        let text = "The page is being prepared; look again in a moment.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, soon, text).into_response();
    }
    let name = match path.strip_prefix('/').unwrap_or(path) {
        "" if wants_json(request.headers()) => "status.json",
        "" => "index.html",
        name => name,
    };
    match edition.files.get(name) {
        Some(file) => hand_out(file, request.headers(), path == "/"),
        None => (StatusCode::NOT_FOUND, "There is no such page here.\n").into_response(),
    }
}

fn hand_out(file: &File, asked: &HeaderMap, varies: bool) -> Response {
    let known = asked.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    let same =
        known.trim() == "*" || known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == file.etag);
    let mut response = match same {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Body::from(file.body.clone()).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.extend(HeaderValue::from_str(&file.etag).map(|etag| (header::ETAG, etag)));
    if file.lasting {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(LASTING));
    }
    if varies {
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    }
    response
}

/// A program asks, as opposed to a person's browser.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accepts.contains("application/json") && !accepts.contains("text/html")
}
