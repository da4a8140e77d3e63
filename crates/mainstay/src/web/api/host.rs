//! The machine for programs: its figures now, and as they are recorded.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use mainstay_model::IncidentId;
use serde::Serialize;
use utoipa::ToSchema;

use super::history::{Window, resolve, word};
use super::{App, Problem, machine_schema, schema};
use crate::store::MachineBucket;

/// The machine as it is now, and others.
#[derive(Serialize, ToSchema)]
pub(super) struct Machine {
    /// The config lets it be watched.
    watched: bool,
    /// Its figures; null while nothing is known.
    #[schema(value_type = Option<machine_schema::Host>)]
    now: Option<mainstay_model::host::HostSnapshot>,
    /// Other machines.
    #[schema(value_type = Vec<machine_schema::OtherMachine>)]
    machines: Vec<mainstay_model::host::MachineSnapshot>,
}

/// Buckets, oldest first. One in which Mainstay was not looking is absent: nothing is known of it.
#[derive(Serialize, ToSchema)]
pub(super) struct MachineHistory {
    step: String,
    /// Milliseconds since the Unix epoch.
    from: i64,
    /// Milliseconds since the Unix epoch.
    to: i64,
    #[schema(value_type = Vec<machine_schema::MachineBucket>)]
    buckets: Vec<MachineBucket>,
}

/// The machine that Mainstay runs on.
#[utoipa::path(get, path = "/api/v1/host", tag = "status",
    responses((status = 200, description = "Its figures, at most a second old", body = Machine)))]
pub(super) async fn now(State(app): State<App>) -> Response {
    let snapshot = app.snapshot();
    let machines = snapshot.machines.clone();
    Json(Machine { watched: snapshot.host_watched, now: snapshot.host.clone(), machines }).into_response()
}

/// What was read of the machine.
#[utoipa::path(get, path = "/api/v1/host/history", tag = "history", params(Window),
    responses((status = 200, description = "Buckets, oldest first", body = MachineHistory), (status = 400, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn history(
    State(app): State<App>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Problem> {
    let (step, from, to) = resolve(&window?.0, app.snapshot().at)?;
    let buckets =
        app.context.reader.machine_history(step, from, to).await.map_err(|error| Problem::record(&error))?;
    let history = MachineHistory { step: word(step).to_owned(), from: from.0, to: to.0, buckets };
    Ok(Json(history).into_response())
}

/// The machine second by second around an incident; empty lists where it was not watched.
#[utoipa::path(get, path = "/api/v1/incidents/{id}/machine", tag = "incidents",
    params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, description = "Its figures", body = machine_schema::MachineSeconds), (status = 404, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn around(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let live = app.snapshot().incidents.iter().find(|incident| incident.id == id).cloned();
    let incident = match live {
        Some(incident) => Some(incident),
        None => app.context.reader.incident(id).await.map_err(|error| Problem::record(&error))?.map(Arc::new),
    };
    let Some(incident) = incident else {
        return Err(Problem::not_found(format!("There is no incident {id}.")));
    };
    let seconds =
        app.context.reader.machine_around(&incident).await.map_err(|error| Problem::record(&error))?;
    Ok(Json(seconds).into_response())
}
