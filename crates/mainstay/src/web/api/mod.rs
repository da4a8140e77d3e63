//! The JSON API under `/api/v1/`. It shows what the pages show; every refusal is a problem of RFC 9457.

pub(in crate::web) mod backups;
mod changes;
pub(super) mod drills;
mod dump;
pub(super) mod freeze;
mod front_schema;
mod history;
mod host;
mod machine_schema;
pub(super) mod maintenance;
mod monitor_schema;
pub(super) mod monitors;
mod openapi;
pub(super) mod proposals;
mod publication;
mod release_schema;
pub(super) mod releases;
mod remedies;
mod requests;
mod results;
mod schema;
pub(super) mod switch;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use mainstay_model::incident::Incident;
use mainstay_model::input::{AdminState, Input};
use mainstay_model::{IncidentId, ServerId, ServiceId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::pages::incident::{name_of, take_on};
use super::problem::Problem;
use crate::report::Report;
use crate::store::Message;

/// Incidents in one answer, at most.
const INCIDENTS_MOST: usize = 200;
/// Incidents in one answer, unless asked otherwise.
const INCIDENTS_USUAL: usize = 50;

/// Every resource, with its methods. The router and the test that holds the document to it both go by this.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/api/v1/openapi.json", get(document)),
        ("/api/v1/status", get(status)),
        ("/api/v1/services", get(services)),
        ("/api/v1/services/{service}", get(service)),
        ("/api/v1/services/{service}/history", get(history::of_service)),
        ("/api/v1/services/{service}/deploy", post(releases::deploy)),
        ("/api/v1/services/{service}/promote", post(releases::promote)),
        ("/api/v1/services/{service}/rollback", post(releases::roll_back)),
        ("/api/v1/services/{service}/switch", post(switch::switch)),
        ("/api/v1/servers/{service}/{server}", get(server)),
        ("/api/v1/servers/{service}/{server}/history", get(history::of_server)),
        ("/api/v1/servers/{service}/{server}/results", get(results::of_server)),
        ("/api/v1/servers/{service}/{server}/state", post(change_state)),
        ("/api/v1/servers/{service}/{server}/dump", post(dump::dump)),
        ("/api/v1/host", get(host::now)),
        ("/api/v1/host/history", get(host::history)),
        ("/api/v1/incidents", get(incidents)),
        ("/api/v1/incidents/{id}", get(incident)),
        ("/api/v1/incidents/{id}/messages", get(messages)),
        ("/api/v1/incidents/{id}/machine", get(host::around)),
        ("/api/v1/incidents/{id}/report", get(report)),
        ("/api/v1/incidents/{id}/acknowledge", post(acknowledge)),
        ("/api/v1/requests/{id}", get(requests::request)),
        ("/api/v1/changes", get(changes::all).post(changes::tell)),
        ("/api/v1/maintenance", get(maintenance::all).post(maintenance::open)),
        ("/api/v1/maintenance/{window}", delete(maintenance::end)),
        ("/api/v1/freeze", get(freeze::now).post(freeze::on).delete(freeze::off)),
        ("/api/v1/remedies", get(remedies::all)),
        ("/api/v1/proposals", get(proposals::all)),
        ("/api/v1/proposals/{id}", post(proposals::one)),
        ("/api/v1/drills", get(drills::all)),
        ("/api/v1/drills/{drill}", get(drills::one).delete(drills::stop)),
        ("/api/v1/services/{service}/drill", post(drills::begin)),
        ("/api/v1/monitors", get(monitors::all)),
        ("/api/v1/monitors/{monitor}", get(monitors::one)),
        ("/api/v1/monitors/{monitor}/history", get(monitors::history)),
        ("/api/v1/monitors/{monitor}/results", get(results::of_monitor)),
        ("/api/v1/backups", get(backups::all)),
        ("/api/v1/backups/{backup}/run", post(backups::run)),
        ("/api/v1/backups/{backup}/verify", post(backups::verify)),
        ("/api/v1/incidents/{id}/public", get(publication::public).post(publication::change_public)),
        ("/api/v1/incidents/{id}/public/updates", post(publication::add_update)),
    ]
}

/// The API's own description, in OpenAPI 3.1.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "description",
    responses((status = 200, description = "This document", body = Object)))]
async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}

/// Everything at once: services, servers, open and last incidents, Mainstay's own troubles.
#[utoipa::path(get, path = "/api/v1/status", tag = "status",
    responses((status = 200, description = "The judgement, at most a quarter of a second old", body = schema::Status)))]
async fn status(State(app): State<App>) -> Response {
    Json(&*app.snapshot()).into_response()
}

/// All services.
#[utoipa::path(get, path = "/api/v1/services", tag = "status",
    responses((status = 200, description = "By name", body = [schema::Service])))]
async fn services(State(app): State<App>) -> Response {
    Json(&app.snapshot().services).into_response()
}

/// One service with its servers.
#[utoipa::path(get, path = "/api/v1/services/{service}", tag = "status",
    params(("service" = String, Path, description = "Its name in the config")),
    responses((status = 200, description = "The service", body = schema::Service), (status = 404, response = schema::Problem)))]
async fn service(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = ServiceId::new(path?.0);
    let snapshot = app.snapshot();
    let service = snapshot.service(&id).ok_or_else(|| no_service(&id))?;
    Ok(Json(service).into_response())
}

/// One server, with why it is what it is.
#[utoipa::path(get, path = "/api/v1/servers/{service}/{server}", tag = "status",
    params(("service" = String, Path, description = "Its service"), ("server" = String, Path, description = "Its name within the service")),
    responses((status = 200, description = "The server", body = schema::Server), (status = 404, response = schema::Problem)))]
async fn server(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    answer_server(&app, &server_id(path)?)
}

/// Puts a server into another admin state.
#[utoipa::path(post, path = "/api/v1/servers/{service}/{server}/state", tag = "orders",
    params(("service" = String, Path, description = "Its service"), ("server" = String, Path, description = "Its name within the service")),
    request_body = schema::ChangeState,
    responses((status = 200, description = "The server as it is now", body = schema::Server),
        (status = 400, response = schema::Problem), (status = 404, response = schema::Problem),
        (status = 403, response = schema::Problem), (status = 413, response = schema::Problem), (status = 415, response = schema::Problem),  (status = 503, response = schema::Problem)))]
async fn change_state(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Result<Json<ChangeState>, JsonRejection>,
) -> Result<Response, Problem> {
    let id = server_id(path)?;
    let Json(ChangeState { state, by }) = body?;
    let by = name_of(&by, "api")?;
    if app.snapshot().server(&id).is_none() {
        return Err(no_server(&id));
    }
    if !(app.context.submit)(Input::Admin { server: id.clone(), state, by }).await {
        return Err(Problem::stopping());
    }
    answer_server(&app, &id)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeState {
    state: AdminState,
    #[serde(default)]
    by: String,
}

/// Which incidents.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only those with a lower number.
    before: Option<u64>,
    /// At most so many, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// Incidents without their timelines.
#[derive(Serialize, ToSchema)]
struct Incidents {
    /// Newest first.
    #[schema(value_type = Vec<schema::Incident>)]
    incidents: Vec<Incident>,
    /// Give this as `before` for the next ones; absent when there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<u64>,
}

/// Incidents, newest first, without their timelines.
#[utoipa::path(get, path = "/api/v1/incidents", tag = "incidents", params(Which),
    responses((status = 200, description = "Some of them", body = Incidents), (status = 400, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
async fn incidents(
    State(app): State<App>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Which { before, limit }) = which?;
    let limit = limit.unwrap_or(INCIDENTS_USUAL);
    if !(1..=INCIDENTS_MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` is {limit}; it must be 1 to {INCIDENTS_MOST}.")));
    }
    let stored = app.context.reader.incidents(before.map(IncidentId), limit).await;
    let incidents = stored.map_err(|error| Problem::record(&error))?;
    let next_before = incidents.last().filter(|_| incidents.len() == limit).map(|last| last.id.0);
    Ok(Json(Incidents { incidents, next_before }).into_response())
}

/// One incident with its timeline.
#[utoipa::path(get, path = "/api/v1/incidents/{id}", tag = "incidents",
    params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, description = "The incident", body = schema::Incident), (status = 404, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
async fn incident(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    if let Some(live) = app.snapshot().incidents.iter().find(|incident| incident.id == id) {
        return Ok(Json(&**live).into_response());
    }
    match app.context.reader.incident(id).await.map_err(|error| Problem::record(&error))? {
        Some(incident) => Ok(Json(incident).into_response()),
        None => Err(Problem::not_found(format!("There is no incident {id}."))),
    }
}

/// What was told of an incident.
#[derive(Serialize, ToSchema)]
struct Messages {
    /// In the order in which they were written down to be sent; at most the last 500.
    #[schema(value_type = Vec<schema::IncidentMessage>)]
    messages: Vec<Message>,
}

/// The messages about an incident: to whom, by which way, and what became of each.
#[utoipa::path(get, path = "/api/v1/incidents/{id}/messages", tag = "incidents",
    params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, description = "The messages; none for an incident that there is not", body = Messages),
        (status = 404, response = schema::Problem), (status = 503, response = schema::Problem)))]
async fn messages(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let messages = app.context.reader.messages(id).await.map_err(|error| Problem::record(&error))?;
    Ok(Json(Messages { messages }).into_response())
}

/// The report of an incident: its timeline, times, impact and evidence. Markdown by `Accept` or by `?format=md`.
#[utoipa::path(get, path = "/api/v1/incidents/{id}/report", tag = "incidents",
    params(("id" = u64, Path, description = "Its number"), ReportQuery),
    responses((status = 200, description = "The report", content(
            (schema::Report = "application/json"), (String = "text/markdown"))),
        (status = 400, response = schema::Problem), (status = 404, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
async fn report(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
    query: Result<Query<ReportQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let accepts = |kind: &str| {
        headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains(kind))
    };
    let markdown = match query?.0.format.as_deref() {
        Some("md") => true,
        Some("json") => false,
        None => accepts("text/markdown"),
        Some(other) => {
            let detail = format!("`format` is `{other}`; it must be `md` or `json`.");
            return Err(Problem::bad_request(detail));
        }
    };
    let snapshot = app.snapshot();
    let live = snapshot.incidents.iter().find(|incident| incident.id == id).map(|live| (**live).clone());
    let incident = match live {
        Some(incident) => incident,
        None => {
            let stored = app.context.reader.incident(id).await.map_err(|error| Problem::record(&error))?;
            stored.ok_or_else(|| Problem::not_found(format!("There is no incident {id}.")))?
        }
    };
    let evidence = app.context.reader.evidence(&incident).await.map_err(|error| Problem::record(&error))?;
    let report = Report::new(incident, evidence, snapshot.at);
    if markdown {
        return Ok(
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], report.markdown()).into_response()
        );
    }
    Ok(Json(report).into_response())
}

/// In which form.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ReportQuery {
    /// `md` or `json`; without it as `Accept` says, else JSON.
    #[param(pattern = "^(md|json)$")]
    format: Option<String>,
}

/// Takes an incident on. One that somebody has already taken on stays theirs.
#[utoipa::path(post, path = "/api/v1/incidents/{id}/acknowledge", tag = "orders",
    params(("id" = u64, Path, description = "Its number")),
    request_body = schema::Acknowledge,
    responses((status = 200, description = "The incident as it is now", body = schema::Incident),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem), (status = 413, response = schema::Problem),
        (status = 415, response = schema::Problem),  (status = 503, response = schema::Problem)))]
async fn acknowledge(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
    body: Result<Json<Acknowledge>, JsonRejection>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let by = name_of(&body?.0.by, "api")?;
    let incident = take_on(&app, id, by).await?;
    Ok(Json(&*incident).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledge {
    #[serde(default)]
    by: String,
}

fn answer_server(app: &App, id: &ServerId) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let server = snapshot.server(id).ok_or_else(|| no_server(id))?;
    Ok(Json(server).into_response())
}

fn server_id(path: Result<Path<(String, String)>, PathRejection>) -> Result<ServerId, Problem> {
    let Path((service, server)) = path?;
    Ok(ServiceId::new(service).server(server))
}

fn no_service(id: &ServiceId) -> Problem {
    Problem::not_found(format!("There is no service `{id}` in the config."))
}

fn no_server(id: &ServerId) -> Problem {
    Problem::not_found(format!("There is no server `{id}` in the config."))
}
