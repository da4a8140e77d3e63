//! Every look at a monitor or at a server, one by one.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use mainstay_model::results::{Look, LookVerdict};
use mainstay_model::{MonitorId, ProbeTarget, Wall};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::history::moment;
use super::monitors::no_monitor;
use super::{no_server, schema, server_id};
use crate::web::App;
use crate::web::problem::Problem;

/// Looks in one answer, at most.
const MOST: usize = 10_000;
/// Looks in one answer, unless asked otherwise.
const USUAL: usize = 1000;

/// Of which time, and how many.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    /// The first moment, as RFC 3339 or milliseconds since the Unix epoch; an hour before `to` by default.
    from: Option<String>,
    /// The moment after the last, likewise; now by default.
    to: Option<String>,
    /// At most so many, 1 to 10000; 1000 by default.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<usize>,
}

/// Looks at a monitor one by one, oldest first. A time of which there is none is one in which nobody looked.
#[derive(Serialize, ToSchema)]
pub(super) struct MonitorResults {
    monitor: String,
    #[serde(flatten)]
    looks: Looks,
}

/// Looks at a server one by one, oldest first. A time of which there is none is one in which nobody looked.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerResults {
    server: String,
    #[serde(flatten)]
    looks: Looks,
}

/// Looks of a time.
#[derive(Serialize, ToSchema)]
struct Looks {
    /// Milliseconds since the Unix epoch.
    from: i64,
    /// Milliseconds since the Unix epoch.
    to: i64,
    results: Vec<ProbeResult>,
    /// Give this as `from` for the next ones; absent when there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_from: Option<i64>,
}

/// One look.
#[derive(Serialize, ToSchema)]
struct ProbeResult {
    /// When, to 10 ms.
    at: i64,
    /// `good`, `failed`, or `unknown`: Mainstay itself could not look.
    result: &'static str,
    /// How long it took, to about 2 %.
    took_ms: f64,
    /// What was seen.
    text: String,
}

impl From<Look> for ProbeResult {
    fn from(look: Look) -> Self {
        let result = match look.verdict {
            LookVerdict::Good => "good",
            LookVerdict::Failed => "failed",
            LookVerdict::Unknown => "unknown",
        };
        let took_ms = look.took.as_micros() as f64 / 1000.0;
        Self { at: look.at.0, result, took_ms, text: look.words.to_string() }
    }
}

/// Every look at a monitor.
#[utoipa::path(get, path = "/api/v1/monitors/{monitor}/results", tag = "history",
    params(("monitor" = String, Path, description = "Its name in the config"), Span),
    responses((status = 200, description = "Looks, oldest first", body = MonitorResults), (status = 400, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn of_monitor(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    span: Result<Query<Span>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = MonitorId::new(path?.0);
    let looks = read(&app, &id.clone().into(), &span?.0).await?;
    // One that left the config still has its past.
    if looks.results.is_empty() && app.snapshot().monitor(&id).is_none() {
        return Err(no_monitor(&id));
    }
    Ok(Json(MonitorResults { monitor: id.to_string(), looks }).into_response())
}

/// Every look at a server.
#[utoipa::path(get, path = "/api/v1/servers/{service}/{server}/results", tag = "history",
    params(("service" = String, Path, description = "Its service"), ("server" = String, Path, description = "Its name within the service"), Span),
    responses((status = 200, description = "Looks, oldest first", body = ServerResults), (status = 400, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn of_server(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    span: Result<Query<Span>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = server_id(path)?;
    let looks = read(&app, &id.clone().into(), &span?.0).await?;
    if looks.results.is_empty() && app.snapshot().server(&id).is_none() {
        return Err(no_server(&id));
    }
    Ok(Json(ServerResults { server: id.to_string(), looks }).into_response())
}

async fn read(app: &App, target: &ProbeTarget, span: &Span) -> Result<Looks, Problem> {
    let to = span.to.as_deref().map_or(Ok(app.snapshot().at), |text| moment("to", text))?;
    let an_hour_before = Wall(to.0.saturating_sub(3_600_000));
    let from = span.from.as_deref().map_or(Ok(an_hour_before), |text| moment("from", text))?;
    if from >= to {
        return Err(Problem::bad_request("`from` must be before `to`."));
    }
    let limit = span.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` is {limit}; it must be 1 to {MOST}.")));
    }
    // One more than asked for says whether there are more.
    let read = app.context.reader.results(target, from, to, limit + 1).await;
    let mut looks = read.map_err(|error| Problem::record(&error))?;
    let next_from = looks.get(limit).map(|look| look.at.0);
    looks.truncate(limit);
    let results = looks.into_iter().map(ProbeResult::from).collect();
    Ok(Looks { from: from.0, to: to.0, results, next_from })
}
