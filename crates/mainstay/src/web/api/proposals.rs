//! Proposals for programs: what Mainstay would do if it might, and deciding on it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::Input;
use mainstay_model::proposal::Proposal as Proposed;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::web::App;
use crate::web::pages::incident::name_of;
use crate::web::problem::Problem;

/// What Mainstay would do, or would have done, about a service.
#[derive(Serialize, ToSchema)]
pub(super) struct Proposal {
    number: u64,
    service: String,
    /// `restart`, `roll-back`, `switch`, `scale`, `replace`.
    rung: String,
    /// `service/server`; null: about none in particular.
    server: Option<String>,
    /// `observe`, `suggest`, `ask`.
    level: String,
    /// In the infinitive: `restart app-2`.
    what: String,
    why: String,
    incident: Option<u64>,
    at: i64,
    /// Null: nobody has decided.
    decided: Option<Decided>,
    /// A person did something about it by hand meanwhile.
    by_hand: bool,
    /// Mainstay began to do it.
    done: bool,
    /// Null: it is open.
    end: Option<End>,
}

/// What a person said.
#[derive(Serialize, ToSchema)]
struct Decided {
    approved: bool,
    by: String,
    at: i64,
    /// Why it is not done although it was approved; empty: nothing is in the way.
    withheld: String,
}

/// How it ended.
#[derive(Serialize, ToSchema)]
struct End {
    at: i64,
    /// What became of the need for it: `by-itself`, `by-person`, `by-mainstay`, `still-broken`.
    score: String,
}

/// A decision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    /// It is to be done.
    approved: bool,
    /// Who decides, for the record: one line.
    #[serde(default)]
    #[schema(required = false, default = "api", max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    by: String,
}

/// What Mainstay would do if it might: what is open, and the last hundred that are over, the newest first.
#[utoipa::path(get, path = "/api/v1/proposals", tag = "status",
    responses((status = 200, description = "The newest first", body = [Proposal])))]
pub(super) async fn all(State(app): State<App>) -> Response {
    Json(&app.snapshot().proposals).into_response()
}

/// Approves a proposal, or declines it. What is approved passes what forbids it once more (docs/recovery.md).
#[utoipa::path(post, path = "/api/v1/proposals/{id}", tag = "orders",
    params(("id" = u64, Path, description = "Its number")),
    request_body = Decide,
    responses((status = 200, description = "The proposal as it is now", body = Proposal),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem), (status = 413, response = schema::Problem),
        (status = 415, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn one(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
    body: Result<Json<Decide>, JsonRejection>,
) -> Result<Response, Problem> {
    let number = path?.0;
    let Json(Decide { approved, by }) = body?;
    let by = name_of(&by, "api")?;
    Ok(Json(decide(&app, number, approved, by).await?).into_response())
}

/// Decides, if there is anything to be decided.
pub(in crate::web) async fn decide(
    app: &App,
    number: u64,
    approved: bool,
    by: String,
) -> Result<Arc<Proposed>, Problem> {
    let known = find(app, number)?;
    if !known.is_undecided() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "decided",
            "There is nothing to decide any more",
            format!("Proposal {number} is over or was decided on: {}.", known.stands()),
        ));
    }
    if !(app.context.submit)(Input::Decide { proposal: number, approved, by }).await {
        return Err(Problem::stopping());
    }
    find(app, number)
}

/// One that is open, or was not long ago.
pub(in crate::web) fn find(app: &App, number: u64) -> Result<Arc<Proposed>, Problem> {
    let snapshot = app.snapshot();
    let found = snapshot.proposals.iter().find(|proposal| proposal.number == number).cloned();
    found.ok_or_else(|| Problem::not_found(format!("There is no proposal {number}, or it was long ago.")))
}
