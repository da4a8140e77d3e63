//! Backups for programs: how each is, and the order to make one or to try it out.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::BackupId;
use mainstay_model::input::{BackupTask, Input};

use super::schema;
use crate::web::App;
use crate::web::problem::Problem;

/// All backups.
#[utoipa::path(get, path = "/api/v1/backups", tag = "backups",
    responses((status = 200, description = "By name", body = [schema::Backup])))]
pub(super) async fn all(State(app): State<App>) -> Response {
    Json(&app.snapshot().backups).into_response()
}

/// Makes a backup as soon as no other is under way. How it ended is in the backup's `last_run`.
#[utoipa::path(post, path = "/api/v1/backups/{backup}/run", tag = "orders",
    params(("backup" = String, Path, description = "Its name in the config")),
    responses((status = 202, description = "It is taken in", body = schema::Backup),
        (status = 403, response = schema::Problem), (status = 404, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn run(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    ask(&app, path?.0, BackupTask::Run).await
}

/// Restores the newest snapshot to a scratch folder and compares it. How it ended is in the backup's `last_verify`.
#[utoipa::path(post, path = "/api/v1/backups/{backup}/verify", tag = "orders",
    params(("backup" = String, Path, description = "Its name in the config")),
    responses((status = 202, description = "It is taken in", body = schema::Backup),
        (status = 403, response = schema::Problem), (status = 404, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn verify(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    ask(&app, path?.0, BackupTask::Verify).await
}

async fn ask(app: &App, name: String, task: BackupTask) -> Result<Response, Problem> {
    let id = BackupId::new(name);
    order(app, &id, task).await?;
    let snapshot = app.snapshot();
    let backup = snapshot.backups.iter().find(|backup| backup.id == id).ok_or_else(|| no_backup(&id))?;
    Ok((StatusCode::ACCEPTED, Json(backup)).into_response())
}

/// Hands the order to the judge.
pub(in crate::web) async fn order(app: &App, id: &BackupId, task: BackupTask) -> Result<(), Problem> {
    if app.snapshot().backups.iter().all(|backup| backup.id != *id) {
        return Err(no_backup(id));
    }
    match (app.context.submit)(Input::AskBackup { backup: id.clone(), task }).await {
        true => Ok(()),
        false => Err(Problem::stopping()),
    }
}

fn no_backup(id: &BackupId) -> Problem {
    Problem::not_found(format!("There is no backup `{id}` in the config."))
}
