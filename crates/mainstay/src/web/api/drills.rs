//! Drills for programs: what came of them, one more, and an early end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::drill::{Drill as Known, DrillOrder, DrillState, Fault, LASTS, LASTS_MAX, LASTS_MIN};
use mainstay_model::{Input, ServiceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{no_service, schema};
use crate::config::duration_from_text;
use crate::web::App;
use crate::web::pages::incident::name_of;
use crate::web::problem::Problem;

/// By which an order is told from others that come at the same moment. None has 0.
static TICKETS: AtomicU64 = AtomicU64::new(1);

/// One drill, and what came of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Drill {
    /// Its number.
    id: u64,
    /// The service.
    service: String,
    /// The server, written `shop/app-1`; null: it was refused before one was chosen, or is about Mainstay itself.
    server: Option<String>,
    /// What is made to fail: `kill`, `hang`, …
    fault: String,
    /// Who wanted it.
    by: String,
    /// How long the fault was to last at most.
    lasts_ms: u64,
    /// People are told of it.
    alert: bool,
    /// When it was ordered.
    at: i64,
    /// `ordered`, `under-way`, `recovering`, `recovered`, `unnoticed`, `stopped`, `not-recovered`, `refused`, `failed` or
    /// `broken-off`.
    state: String,
    /// Why it was refused, was stopped or did not come about; empty: nothing of it.
    why: String,
    /// When the fault was made.
    began_at: Option<i64>,
    /// When it was gone again.
    undone_at: Option<i64>,
    /// When all of it was over.
    over_at: Option<i64>,
    /// The incident that it led to.
    incident: Option<u64>,
    /// What was measured.
    measured: Measured,
}

/// What a drill measured. Times are milliseconds since the fault was made; null where there was none.
#[derive(Serialize, ToSchema)]
struct Measured {
    /// To the first sign in the record.
    notice_ms: Option<u64>,
    /// To the server being out of rotation.
    divert_ms: Option<u64>,
    /// To the first message to people, or when it would have been sent.
    alert_ms: Option<u64>,
    /// To the first action.
    act_ms: Option<u64>,
    /// To every server serving at its full share again.
    recover_ms: Option<u64>,
    /// Requests of visitors that ended meanwhile. 0: nobody came, so nobody could be hurt.
    requests: u64,
    /// Of them failed, or turned away.
    failed: u64,
    /// Of them well answered only because they were tried again.
    saved: u64,
    /// What Mainstay did, in words.
    done: Vec<String>,
}

/// Drills, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Drills {
    /// At most 200.
    drills: Vec<Drill>,
}

/// Make a fault on purpose.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::web) struct Drilling {
    /// What is made to fail: `kill`, `hang`, `refuse`, `black-hole`, `reset`, `slow`, `errors`, `certificate`, `disk-full` or `dns`.
    pub(in crate::web) fault: String,
    /// Which server, by its name; the one that was drilled longest ago if none is given.
    #[serde(default)]
    pub(in crate::web) server: String,
    /// How long the fault lasts at most: `30s`, which is the default; at most 10m.
    #[serde(default)]
    pub(in crate::web) r#for: String,
    /// People are told as of any other incident.
    #[serde(default)]
    pub(in crate::web) alert: bool,
    /// Also if the service has state.
    #[serde(default)]
    pub(in crate::web) stateful: bool,
    /// Who does it.
    #[serde(default)]
    pub(in crate::web) by: String,
}

/// Drills, and what came of them.
#[utoipa::path(get, path = "/api/v1/drills", tag = "history",
    responses((status = 200, description = "The newest first", body = Drills)))]
pub(super) async fn all(State(app): State<App>) -> Response {
    Json(serde_json::json!({ "drills": *app.snapshot().drills })).into_response()
}

/// One drill.
#[utoipa::path(get, path = "/api/v1/drills/{drill}", tag = "history",
    params(("drill" = u64, Path, description = "Its number")),
    responses((status = 200, description = "The drill", body = Drill), (status = 404, response = schema::Problem)))]
pub(super) async fn one(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    Ok(Json(known(&app, path?.0)?).into_response())
}

/// Makes a fault at one server on purpose, for a while.
#[utoipa::path(post, path = "/api/v1/services/{service}/drill", tag = "orders",
    params(("service" = String, Path, description = "Its name in the config")),
    request_body = Drilling,
    responses((status = 200, description = "The drill, just ordered", body = Drill),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem),
        (status = 413, response = schema::Problem), (status = 415, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn begin(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<Drilling>, JsonRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    let Json(drilling) = body?;
    Ok(Json(drill(&app, service, &drilling, "api").await?).into_response())
}

/// Ends the drill that is under way.
#[utoipa::path(delete, path = "/api/v1/drills/{drill}", tag = "orders",
    params(("drill" = u64, Path, description = "Its number")),
    responses((status = 204, description = "The fault is undone, or was already"),
        (status = 403, response = schema::Problem), (status = 404, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn stop(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    end(&app, path?.0, "api").await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Orders a drill, unless the judge refuses it.
pub(in crate::web) async fn drill(
    app: &App,
    service: ServiceId,
    drilling: &Drilling,
    otherwise: &str,
) -> Result<Arc<Known>, Problem> {
    if app.snapshot().service(&service).is_none() {
        return Err(no_service(&service));
    }
    let fault = Fault::of(drilling.fault.trim()).ok_or_else(|| {
        let known: Vec<&str> = Fault::ALL.into_iter().map(Fault::as_str).collect();
        Problem::bad_request(format!("`fault` is one of {}.", known.join(", ")))
    })?;
    let lasts = match drilling.r#for.trim() {
        "" => LASTS,
        text => duration_from_text(text)
            .map_err(|error| Problem::bad_request(format!("`for` is how long it lasts: {error}.")))?,
    };
    if lasts < LASTS_MIN || lasts > LASTS_MAX {
        return Err(Problem::bad_request("`for` is from 1s to 10m."));
    }
    let server = Some(drilling.server.trim()).filter(|name| !name.is_empty()).map(Arc::from);
    let by = name_of(&drilling.by, otherwise)?;
    let (alert, stateful) = (drilling.alert, drilling.stateful);
    let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
    let order = DrillOrder { service, server, fault, lasts, alert, stateful, by, ticket };
    if !(app.context.submit)(Input::Drill(order)).await {
        return Err(Problem::stopping());
    }
    let after = app.snapshot();
    let mine = after.drills.iter().find(|drill| drill.ticket == ticket);
    let Some(drill) = mine else { return Err(Problem::stopping()) };
    match drill.state {
        DrillState::Refused => {
            let detail = format!("There is no drill: {}.", drill.why);
            Err(Problem::new(StatusCode::CONFLICT, "no-drill", "That is not possible now", detail))
        }
        _ => Ok(Arc::clone(drill)),
    }
}

/// Ends a drill, if its fault is still there.
pub(in crate::web) async fn end(app: &App, id: u64, by: &str) -> Result<(), Problem> {
    if known(app, id)?.state.is_over() {
        return Ok(());
    }
    match (app.context.submit)(Input::StopDrill { by: by.to_owned() }).await {
        true => Ok(()),
        false => Err(Problem::stopping()),
    }
}

fn known(app: &App, id: u64) -> Result<Arc<Known>, Problem> {
    let snapshot = app.snapshot();
    let drill = snapshot.drills.iter().find(|drill| drill.id == id).cloned();
    let detail = || format!("There is no drill {id}, or it was so long ago that it is forgotten.");
    drill.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no-drill", "There is no such drill", detail()))
}
