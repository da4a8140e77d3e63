//! What the public is told of an incident, for programs: a chat command that publishes an update, for example.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use mainstay_model::IncidentId;
use mainstay_model::publication::PublicState;
use serde::Deserialize;

use super::{App, Problem, schema};
use crate::web::pages::incident::name_of;
use crate::web::pages::publish;

/// How an incident stands on the status page.
#[utoipa::path(get, path = "/api/v1/incidents/{id}/public", tag = "incidents",
    params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, description = "What the public is told", body = schema::Public), (status = 404, response = schema::Problem),
        (status = 409, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn public(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    Ok(Json(publish::face(&app, IncidentId(path?.0)).await?).into_response())
}

/// Calls an incident otherwise on the status page, and shows it there or not. What is left out is up to Mainstay again.
#[utoipa::path(post, path = "/api/v1/incidents/{id}/public", tag = "orders",
    params(("id" = u64, Path, description = "Its number")),
    request_body = schema::ChangePublic,
    responses((status = 200, description = "What the public is told now", body = schema::Public),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem), (status = 404, response = schema::Problem),
        (status = 409, response = schema::Problem), (status = 413, response = schema::Problem), (status = 415, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn change_public(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
    body: Result<Json<ChangePublic>, JsonRejection>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let Json(ChangePublic { title, shown, by }) = body?;
    let by = name_of(&by, "api")?;
    Ok(Json(publish::show(&app, id, title, shown, by).await?).into_response())
}

/// Tells the public something more of an incident.
#[utoipa::path(post, path = "/api/v1/incidents/{id}/public/updates", tag = "orders",
    params(("id" = u64, Path, description = "Its number")),
    request_body = schema::AddUpdate,
    responses((status = 200, description = "What the public is told now", body = schema::Public),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem), (status = 404, response = schema::Problem),
        (status = 409, response = schema::Problem), (status = 413, response = schema::Problem), (status = 415, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn add_update(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
    body: Result<Json<AddUpdate>, JsonRejection>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let Json(AddUpdate { state, text, by }) = body?;
    let by = name_of(&by, "api")?;
    Ok(Json(publish::write(&app, id, state, &text, by).await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePublic {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    shown: Option<bool>,
    #[serde(default)]
    by: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddUpdate {
    state: PublicState,
    text: String,
    #[serde(default)]
    by: String,
}
