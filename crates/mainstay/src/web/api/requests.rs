//! Single requests for programs: what became of one that did not go the usual way.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Problem, schema};

/// A request that was tried again, refused, shed, failed or slow.
#[derive(Serialize, ToSchema)]
pub(super) struct Request {
    /// As its visitor was told it in `X-Request-Id`.
    id: String,
    /// Null: its host leads nowhere, or its head could not be read.
    service: Option<String>,
    /// When its head began to arrive.
    at: i64,
    /// Method and target, the beginning of a long one; empty when they could not be read.
    line: String,
    /// In their order.
    attempts: Vec<Attempt>,
    /// How it ended.
    ending: String,
    /// What its visitor was answered; null: nothing whole.
    status: Option<u16>,
    /// Until it was dealt with.
    took_ms: f64,
}

/// One attempt at one server.
#[derive(Serialize, ToSchema)]
pub(super) struct Attempt {
    /// At whom.
    server: String,
    /// After the request began.
    after_ms: f64,
    /// Until an answer began or it was given up.
    took_ms: f64,
    /// What came of it.
    outcome: String,
    /// Whether it was tried again and why; empty after the last good one.
    verdict: String,
}

/// What became of a request. The last few thousand are remembered that were tried again, refused, shed, failed or slow.
#[utoipa::path(get, path = "/api/v1/requests/{id}", tag = "status",
    params(("id" = String, Path, description = "Its X-Request-Id")),
    responses((status = 200, description = "Its attempts and how it ended", body = Request), (status = 404, response = schema::Problem)))]
pub(super) async fn request(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(id) = path?;
    let record = (app.context.find_request)(&id).ok_or_else(|| {
        Problem::not_found(
            "No request of this id is remembered. A request that was answered at once by the first server is not, nor one \
             that is long ago, of an earlier run, or of another Mainstay; the access log may have it.",
        )
    })?;
    Ok(Json(record).into_response())
}
