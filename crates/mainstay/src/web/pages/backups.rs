//! The page of the backups: how each is, when it was last made and tried out, and the buttons for now.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::input::{BackupRecord, BackupTask};
use mainstay_model::snapshot::BackupSnapshot;
use mainstay_model::{BackupId, Snapshot, Wall};

use super::look::{Look, Mark};
use super::{Part, Rendered, render as html};
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};
use crate::web::{App, api};

/// The page as it is now.
pub(super) fn render(snapshot: &Snapshot) -> Rendered {
    let cards = snapshot.backups.iter().map(|backup| Card::of(backup, snapshot.at)).collect();
    Rendered {
        title: "Backups · Mainstay".to_owned(),
        parts: vec![Part { id: "backups", html: html(&BackupsPart { cards }) }],
    }
}

#[derive(Template)]
#[template(path = "backups.html")]
struct BackupsPart {
    cards: Vec<Card>,
}

/// One backup.
struct Card {
    name: String,
    address: String,
    mark: Mark,
    class: &'static str,
    trouble: Option<String>,
    running: Option<(&'static str, Ago)>,
    /// The last good run, if there was one.
    good: Option<Ended>,
    /// The last run, if it failed.
    failed: Option<Ended>,
    verify: Option<Ended>,
    next_run: Ago,
    next_verify: Option<Ago>,
}

/// How a run or a trial ended.
struct Ended {
    at: Ago,
    took: String,
    size: String,
    snapshot: String,
    /// How old the data was by then.
    age: String,
    note: String,
    error: Option<String>,
}

impl Card {
    fn of(backup: &BackupSnapshot, now: Wall) -> Self {
        let failed = backup.last_run.as_ref().filter(|run| run.outcome.result.is_err());
        let look = match (&backup.trouble, failed, &backup.last_good_run) {
            (Some(_), ..) => Look::Down,
            // Not yet worth an incident, but not well either.
            (None, Some(_), _) => Look::Degraded,
            (None, None, Some(_)) => Look::Healthy,
            (None, None, None) => Look::Unknown,
        };
        Self {
            name: backup.id.to_string(),
            address: format!("/backups/{}", words::encode(backup.id.as_str())),
            mark: look.mark(),
            class: look.class(),
            trouble: backup.trouble.clone(),
            running: backup.running.map(|(task, since)| (doing(task), words::held(since, now))),
            good: backup.last_good_run.as_ref().map(|run| Ended::of(run, now)),
            failed: failed.map(|run| Ended::of(run, now)),
            verify: backup.last_verify.as_ref().map(|run| Ended::of(run, now)),
            next_run: words::ago(backup.next_run_at, now),
            next_verify: backup.next_verify_at.map(|at| words::ago(at, now)),
        }
    }
}

impl Ended {
    fn of(record: &BackupRecord, now: Wall) -> Self {
        let done = record.outcome.result.as_ref().ok();
        Self {
            at: words::ago(record.began_at, now),
            took: words::lasted(i64::try_from(record.outcome.took.as_millis()).unwrap_or(i64::MAX)),
            size: done.map_or_else(String::new, |done| {
                format!("{}, {}", words::counted(done.files, "file", "files"), words::bytes(done.bytes))
            }),
            snapshot: done.map_or_else(String::new, |done| done.snapshot.clone()),
            age: done.map_or_else(String::new, |done| {
                words::coarse(record.began_at.ms_since(done.data_at).max(0))
            }),
            note: done.map_or_else(String::new, |done| done.note.clone()),
            error: record.outcome.result.as_ref().err().cloned(),
        }
    }
}

fn doing(task: BackupTask) -> &'static str {
    match task {
        BackupTask::Run => "being made",
        BackupTask::Verify => "being tried out",
    }
}

/// Makes a backup now and leads back to the page.
pub(in crate::web) async fn run(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    order(&app, path?.0, BackupTask::Run).await
}

/// Tries the newest backup out now and leads back to the page.
pub(in crate::web) async fn verify(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    order(&app, path?.0, BackupTask::Verify).await
}

async fn order(app: &App, name: String, task: BackupTask) -> Result<Response, Problem> {
    api::backups::order(app, &BackupId::new(name), task).await?;
    Ok(Redirect::to("/backups").into_response())
}
