//! Changes for programs: what was changed in the last day, and telling of one.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::change::{Change, ChangeKind};
use mainstay_model::{Input, ServiceId, Wall};
use serde::Deserialize;

use super::{no_service, schema};
use crate::web::App;
use crate::web::pages::incident::name_of;
use crate::web::problem::Problem;

/// A change of longer ago has nothing to do with what happens now.
const OLDEST_MS: i64 = 24 * 60 * 60 * 1000;

/// What was changed in the last day, the newest first.
#[utoipa::path(get, path = "/api/v1/changes", tag = "status",
    responses((status = 200, description = "At most 200", body = [schema::Change])))]
pub(super) async fn all(State(app): State<App>) -> Response {
    Json(&app.snapshot().changes).into_response()
}

/// Tells of a change that was made by other means, so that incidents after it name it.
#[utoipa::path(post, path = "/api/v1/changes", tag = "orders",
    request_body = schema::TellChange,
    responses((status = 201, description = "It is remembered", body = schema::Change),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 413, response = schema::Problem),
        (status = 415, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn tell(
    State(app): State<App>,
    body: Result<Json<TellChange>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(told) = body?;
    let snapshot = app.snapshot();
    let release = told.release.as_deref().map(str::trim);
    let what = match (release, told.what.trim()) {
        (None, what) => what.to_owned(),
        (Some(release), "") => format!("release {release}"),
        (Some(release), what) => format!("release {release}: {what}"),
    };
    if release.is_some_and(|release| release.is_empty() || told.service.is_none()) {
        return Err(Problem::bad_request("A release has a name, and is one of a `service`."));
    }
    if what.is_empty() || what.chars().count() > Change::WHAT_MAX || what.chars().any(char::is_control) {
        let most = Change::WHAT_MAX;
        let detail = format!("`what` is one line of 1 to {most} characters that says what was done.");
        return Err(Problem::bad_request(detail));
    }
    if let Some(id) = &told.service
        && snapshot.service(id).is_none()
    {
        return Err(no_service(id));
    }
    let at = told.at.unwrap_or(snapshot.at);
    if at.0 < 0 || snapshot.at.ms_since(at) > OLDEST_MS {
        return Err(Problem::bad_request(
            "A change of longer than a day ago is not remembered. `at` is in milliseconds since 1970; leave it out for now.",
        ));
    }
    let by = name_of(&told.by, "api")?;
    let kind = if told.release.is_some() { ChangeKind::Announced } else { ChangeKind::Told };
    let change = Change { at, kind, service: told.service, what, by };
    if !(app.context.submit)(Input::Changed(change.clone())).await {
        return Err(Problem::stopping());
    }
    Ok((StatusCode::CREATED, Json(change)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TellChange {
    #[serde(default)]
    what: String,
    #[serde(default)]
    release: Option<String>,
    #[serde(default)]
    service: Option<ServiceId>,
    #[serde(default)]
    by: String,
    #[serde(default)]
    at: Option<Wall>,
}
