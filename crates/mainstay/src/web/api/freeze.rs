//! The freeze switch for programs: how it stands, on, off.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::freeze::{FREEZE_MAX, Freeze as Frozen, TEXT_MAX};
use mainstay_model::{Input, Wall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::config::duration_from_text;
use crate::web::App;
use crate::web::pages::incident::name_of;
use crate::web::problem::Problem;

/// Mainstay does nothing on its own but watch, route, shed and tell.
#[derive(Serialize, ToSchema)]
pub(super) struct Freeze {
    /// Until then, unless somebody ends or renews it.
    until: i64,
    /// Who turned it on; empty: nobody has said.
    by: String,
    /// Why; empty: nobody has said.
    why: String,
}

/// Turn the freeze switch on, or renew it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::web) struct Freezing {
    /// How long: `90m`, `2h`. At most 24h, which is the default.
    #[serde(default)]
    pub(in crate::web) r#for: String,
    /// Why, for colleagues.
    #[serde(default)]
    pub(in crate::web) why: String,
    /// Who does it.
    #[serde(default)]
    pub(in crate::web) by: String,
}

/// How the freeze switch stands: null, or until when and why.
#[utoipa::path(get, path = "/api/v1/freeze", tag = "status",
    responses((status = 200, description = "The freeze; null: there is none", body = Option<Freeze>)))]
pub(super) async fn now(State(app): State<App>) -> Response {
    Json(&app.snapshot().freeze).into_response()
}

/// Turns the freeze switch on, or renews it.
#[utoipa::path(post, path = "/api/v1/freeze", tag = "orders",
    request_body = Freezing,
    responses((status = 200, description = "The freeze", body = Freeze),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 413, response = schema::Problem), (status = 415, response = schema::Problem),
        (status = 500, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn on(
    State(app): State<App>,
    body: Result<Json<Freezing>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(freezing) = body?;
    Ok(Json(freeze(&app, &freezing, "api").await?).into_response())
}

/// Turns the freeze switch off.
#[utoipa::path(delete, path = "/api/v1/freeze", tag = "orders",
    responses((status = 204, description = "It is off"), (status = 403, response = schema::Problem),
        (status = 500, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn off(State(app): State<App>) -> Result<Response, Problem> {
    thaw(&app).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Writes the file and tells the judge.
pub(in crate::web) async fn freeze(
    app: &App,
    freezing: &Freezing,
    otherwise: &str,
) -> Result<Frozen, Problem> {
    let lasts = match freezing.r#for.trim() {
        "" => FREEZE_MAX,
        text => duration_from_text(text)
            .map_err(|error| Problem::bad_request(format!("`for` is how long it lasts: {error}.")))?,
    };
    if lasts < Duration::from_secs(1) || lasts > FREEZE_MAX {
        return Err(Problem::bad_request("`for` is from 1s to 24h; renew a freeze that is to last longer."));
    }
    let why = freezing.why.trim();
    if why.chars().count() > TEXT_MAX || why.chars().any(char::is_control) {
        let detail = format!("`why` is one line of at most {TEXT_MAX} characters.");
        return Err(Problem::bad_request(detail));
    }
    let lasts = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
    let until = Wall(app.snapshot().at.0.saturating_add(lasts));
    let freeze = Frozen { until, by: name_of(&freezing.by, otherwise)?, why: why.to_owned() };
    turn(app, Some(freeze.clone())).await?;
    Ok(freeze)
}

/// Removes the file and tells the judge.
pub(in crate::web) async fn thaw(app: &App) -> Result<(), Problem> {
    turn(app, None).await
}

async fn turn(app: &App, freeze: Option<Frozen>) -> Result<(), Problem> {
    let write = app.context.write_freeze.clone();
    let written = freeze.clone();
    let done = tokio::task::spawn_blocking(move || write(written.as_ref())).await;
    if let Err(why) = done.unwrap_or_else(|error| Err(error.to_string())) {
        return Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "freeze-file",
            "That could not be done",
            why,
        ));
    }
    match (app.context.submit)(Input::Freeze(freeze)).await {
        true => Ok(()),
        false => Err(Problem::stopping()),
    }
}
