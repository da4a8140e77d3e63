//! Orders about releases: deploy, promote, roll back.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::Input;
use mainstay_model::ServiceId;
use mainstay_model::release::{Refusal, ReleaseOrder, ReleasesSnapshot};
use serde::Deserialize;

use super::{no_service, release_schema, schema};
use crate::web::App;
use crate::web::pages::incident::name_of;
use crate::web::problem::Problem;

/// Tries a release beside the servers, and promotes it if it is not worse.
#[utoipa::path(post, path = "/api/v1/services/{service}/deploy", tag = "orders",
    params(("service" = String, Path, description = "Its name in the config")),
    request_body = release_schema::Deploy,
    responses((status = 200, description = "The releases as they are now; the new one is on top", body = release_schema::Releases),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem), (status = 413, response = schema::Problem),
        (status = 415, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn deploy(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<Deploy>, JsonRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    let Json(Deploy { path, force, by }) = body?;
    let by = name_of(&by, "api")?;
    Ok(Json(hand_in(&app, &service, &path, force, by).await?).into_response())
}

/// Ends a deploy under way, or goes back to the release before the current one.
#[utoipa::path(post, path = "/api/v1/services/{service}/rollback", tag = "orders",
    params(("service" = String, Path, description = "Its name in the config")),
    request_body = schema::Acknowledge,
    responses((status = 200, description = "The releases as they are now", body = release_schema::Releases),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem), (status = 413, response = schema::Problem),
        (status = 415, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn roll_back(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<By>, JsonRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    let by = name_of(&body?.0.by, "api")?;
    Ok(Json(give(&app, &service, ReleaseOrder::RollBack, by).await?).into_response())
}

/// Promotes the release on trial without waiting for more evidence.
#[utoipa::path(post, path = "/api/v1/services/{service}/promote", tag = "orders",
    params(("service" = String, Path, description = "Its name in the config")),
    request_body = schema::Acknowledge,
    responses((status = 200, description = "The releases as they are now", body = release_schema::Releases),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem), (status = 413, response = schema::Problem),
        (status = 415, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn promote(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<By>, JsonRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    let by = name_of(&body?.0.by, "api")?;
    Ok(Json(give(&app, &service, ReleaseOrder::Promote, by).await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    path: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    by: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct By {
    #[serde(default)]
    by: String,
}

/// Looks at a release and hands it to the judge.
pub(in crate::web) async fn hand_in(
    app: &App,
    service: &ServiceId,
    path: &str,
    force: bool,
    by: String,
) -> Result<ReleasesSnapshot, Problem> {
    let order = ReleaseOrder::Deploy { path: path.to_owned(), force };
    allowed(app, service, &order)?;
    let found = (app.context.check_release)(service.clone(), path.to_owned()).await;
    let path = found.map_err(|why| {
        Problem::new(StatusCode::BAD_REQUEST, "not-a-release", "This is no release of the service", why)
    })?;
    give(app, service, ReleaseOrder::Deploy { path, force }, by).await
}

/// Gives an order about releases.
pub(in crate::web) async fn give(
    app: &App,
    service: &ServiceId,
    order: ReleaseOrder,
    by: String,
) -> Result<ReleasesSnapshot, Problem> {
    let before = allowed(app, service, &order)?;
    let input = Input::Release { service: service.clone(), order: order.clone(), by };
    if !(app.context.submit)(input).await {
        return Err(Problem::stopping());
    }
    let after = releases(app, service)?;
    if after == before {
        // Something else happened in between.
        allowed(app, service, &order)?;
    }
    Ok(after)
}

fn releases(app: &App, service: &ServiceId) -> Result<ReleasesSnapshot, Problem> {
    let snapshot = app.snapshot();
    let shown = snapshot.service(service).ok_or_else(|| no_service(service))?;
    shown.releases.clone().ok_or_else(|| refused(&Refusal::NotDeployable))
}

fn allowed(app: &App, service: &ServiceId, order: &ReleaseOrder) -> Result<ReleasesSnapshot, Problem> {
    let releases = releases(app, service)?;
    let snapshot = app.snapshot();
    let incident = snapshot.open_incident(service).map(|id| id.0);
    releases.may(order, incident, snapshot.freeze.as_ref()).map_err(|refusal| refused(&refusal))?;
    Ok(releases)
}

fn refused(refusal: &Refusal) -> Problem {
    Problem::new(StatusCode::CONFLICT, refusal.name(), "That is not possible now", refusal.to_string())
}
