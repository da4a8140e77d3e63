//! What the threads of a supervised server are at.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{no_server, schema, server_id};
use crate::web::App;
use crate::web::problem::Problem;

/// What was seen.
#[derive(Serialize, ToSchema)]
pub(super) struct Dump {
    /// In a sentence.
    text: String,
    /// The processes with their threads, and what `capture` wrote.
    lines: Vec<String>,
}

/// Looks at the threads of a server that Mainstay starts, and runs its `capture`. Takes up to four seconds, and ends nothing.
#[utoipa::path(post, path = "/api/v1/servers/{service}/{server}/dump", tag = "orders",
    params(("service" = String, Path, description = "Its service"), ("server" = String, Path, description = "Its name within the service")),
    responses((status = 200, description = "What was seen", body = Dump), (status = 400, response = schema::Problem),
        (status = 403, response = schema::Problem), (status = 404, response = schema::Problem), (status = 409, response = schema::Problem)))]
pub(super) async fn dump(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let id = server_id(path)?;
    if app.snapshot().server(&id).is_none() {
        return Err(no_server(&id));
    }
    let refused = |why| Problem::new(StatusCode::CONFLICT, "no-process", "There is nothing to look at", why);
    let (text, lines) = (app.context.dump)(id).await.map_err(refused)?;
    Ok(Json(Dump { text, lines }).into_response())
}
