//! What helped before, for programs.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::web::App;

/// What one rung did for one sort of failure.
#[derive(Serialize, ToSchema)]
pub(super) struct Remedy {
    fingerprint: Fingerprint,
    /// `restart`, `roll-back`, `switch`, `replace`.
    rung: String,
    /// It was judged so often, with or without requests.
    tried: u32,
    /// It helped so often.
    helped: u32,
    /// It did not help so often.
    in_vain: u32,
    /// Milliseconds until it answered, over all times when it helped.
    took_ms: u64,
    /// When it was last judged.
    last: i64,
}

/// One sort of failure of a service.
#[derive(Serialize, ToSchema)]
struct Fingerprint {
    service: String,
    /// `died`, `hangs`, `answers-badly`, `errors`.
    failing: String,
    /// How many of its servers: `one`, `several`, `all`.
    spread: String,
    /// What it was put down to when something was done about it.
    cause: String,
    /// A release had become the current one within the hour before.
    fresh_release: bool,
}

/// What helped with which sort of failure before.
#[utoipa::path(get, path = "/api/v1/remedies", tag = "incidents",
    responses((status = 200, description = "By service", body = [Remedy])))]
pub(super) async fn all(State(app): State<App>) -> Response {
    Json(&*app.snapshot().remedies).into_response()
}
