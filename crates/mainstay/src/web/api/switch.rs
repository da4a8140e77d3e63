//! The order to run the user's own `switch` command.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::switch::SwitchSnapshot;
use mainstay_model::{Input, ServiceId};
use serde::Deserialize;

use super::{no_service, release_schema, schema};
use crate::web::App;
use crate::web::pages::incident::name_of;
use crate::web::problem::Problem;

/// Runs the service's own switch command, or the one for the way back.
#[utoipa::path(post, path = "/api/v1/services/{service}/switch", tag = "orders",
    params(("service" = String, Path, description = "Its name in the config")),
    request_body = release_schema::RunSwitch,
    responses((status = 200, description = "The switch as it is now", body = release_schema::Switch),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem), (status = 413, response = schema::Problem),
        (status = 415, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn switch(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<RunSwitch>, JsonRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    let Json(RunSwitch { back, fenced, by }) = body?;
    let by = name_of(&by, "api")?;
    Ok(Json(order(&app, &service, back, fenced, by).await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunSwitch {
    #[serde(default)]
    back: bool,
    #[serde(default)]
    fenced: bool,
    #[serde(default)]
    by: String,
}

/// Orders it, if it may be run now.
pub(in crate::web) async fn order(
    app: &App,
    service: &ServiceId,
    back: bool,
    fenced: bool,
    by: String,
) -> Result<SwitchSnapshot, Problem> {
    let now = look(app, service)?;
    if now.is_running() {
        return Err(refused("switch-running", "It runs already. It is never run twice at a time."));
    }
    if back && !now.can_go_back {
        return Err(refused("no-way-back", "The config has no command for the way back (switch.back)."));
    }
    if !(app.context.submit)(Input::Switch { service: service.clone(), back, fenced, by }).await {
        return Err(Problem::stopping());
    }
    look(app, service)
}

fn look(app: &App, service: &ServiceId) -> Result<SwitchSnapshot, Problem> {
    let snapshot = app.snapshot();
    let shown = snapshot.service(service).ok_or_else(|| no_service(service))?;
    let none = || refused("no-switch", "The config has no switch command for this service.");
    shown.switch.clone().ok_or_else(none)
}

fn refused(name: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, name, "That is not possible now", detail)
}
