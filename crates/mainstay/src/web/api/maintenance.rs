//! Maintenance windows for programs: which there are, opening one, and ending one.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mainstay_model::window::{BY_HAND_MAX, Covers, HandWindow, Occurrence, WindowPolicy, WindowSnapshot};
use mainstay_model::{Input, MonitorId, ServerId, ServiceId, Snapshot, Wall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::config::{MAINTENANCE_TITLE, duration_from_text};
use crate::web::App;
use crate::web::pages::incident::name_of;
use crate::web::problem::Problem;

/// What is out of service for longer is no maintenance.
const LASTS_MOST: Duration = Duration::from_secs(31 * 86_400);
/// Further ahead belongs into the config.
const AHEAD_MOST_MS: i64 = 366 * 86_400_000;
/// The longest title or reason, in characters.
const TEXT_MAX: usize = 200;
/// Targets of one window.
const TARGETS_MOST: usize = 100;

/// A maintenance window.
#[derive(Serialize, ToSchema)]
pub(super) struct MaintenanceWindow {
    /// Its name in the config, or its number if a person opened it.
    id: String,
    covers: Covered,
    /// What visitors read of it.
    title: String,
    /// Why, for colleagues.
    reason: String,
    /// The status page shows it.
    public: bool,
    /// The time zone of the IANA database in which people read its times; empty: UTC.
    zone: String,
    /// Who opened it; null: it is in the config.
    by: Option<String>,
    /// The time that it is open now.
    open: Option<WindowTime>,
    /// The next times, at most 3.
    next: Vec<WindowTime>,
}

/// What a window is about.
#[derive(Serialize, ToSchema)]
struct Covered {
    everything: bool,
    services: Vec<String>,
    servers: Vec<String>,
    monitors: Vec<String>,
    groups: Vec<String>,
    tags: Vec<String>,
}

/// One time that a window is open.
#[derive(Serialize, ToSchema)]
struct WindowTime {
    /// Its first moment.
    from: i64,
    /// The first moment after it.
    to: i64,
}

/// Something is in a window now.
#[derive(Serialize, ToSchema)]
pub(super) struct InMaintenance {
    /// The window.
    window: String,
    /// When that ends.
    until: i64,
    /// Why.
    reason: String,
}

/// A window to be opened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::web) struct Opening {
    /// `everything`, a service `shop`, a server `shop/app-1`, `monitor:pay`, `group:suppliers` or `tag:db`.
    targets: Vec<String>,
    /// How long: `90m`, `2h`. At most 31 days.
    r#for: String,
    /// When it begins, milliseconds since the Unix epoch; now by default.
    #[serde(default)]
    from: Option<i64>,
    /// Why, for colleagues.
    #[serde(default)]
    reason: String,
    /// What visitors read; `Planned maintenance` by default.
    #[serde(default)]
    title: String,
    /// The status page shows it; true by default.
    #[serde(default)]
    public: Option<bool>,
    /// Who opens it.
    #[serde(default)]
    by: String,
}

/// All windows: those of the config, then those that people opened.
#[utoipa::path(get, path = "/api/v1/maintenance", tag = "status",
    responses((status = 200, description = "With their next times", body = [MaintenanceWindow])))]
pub(super) async fn all(State(app): State<App>) -> Response {
    Json(&app.snapshot().windows).into_response()
}

/// Opens a window: what it covers raises nobody until it is over.
#[utoipa::path(post, path = "/api/v1/maintenance", tag = "orders",
    request_body = Opening,
    responses((status = 201, description = "The window", body = MaintenanceWindow),
        (status = 400, response = schema::Problem), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem),
        (status = 413, response = schema::Problem), (status = 415, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn open(
    State(app): State<App>,
    body: Result<Json<Opening>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(opening) = body?;
    let window = open_window(&app, &opening, "api").await?;
    Ok((StatusCode::CREATED, Json(window)).into_response())
}

/// Ends a window that a person opened; of one in the config, the time that is open now.
#[utoipa::path(delete, path = "/api/v1/maintenance/{window}", tag = "orders",
    params(("window" = String, Path, description = "Its number, or its name in the config")),
    responses((status = 204, description = "It is over"), (status = 403, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 409, response = schema::Problem),
        (status = 503, response = schema::Problem)))]
pub(super) async fn end(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    end_window(&app, &path?.0).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Hands it to the judge; the window as it is then.
pub(in crate::web) async fn open_window(
    app: &App,
    opening: &Opening,
    otherwise: &str,
) -> Result<WindowSnapshot, Problem> {
    let snapshot = app.snapshot();
    let window = opening.window(&snapshot, otherwise)?;
    let by_hand = |snapshot: &Snapshot| snapshot.windows.iter().filter(|w| w.by.is_some()).count();
    if by_hand(&snapshot) >= BY_HAND_MAX {
        return Err(Problem::conflict(format!("{BY_HAND_MAX} windows are open already; end some of them.")));
    }
    if !(app.context.submit)(Input::OpenWindow(window)).await {
        return Err(Problem::stopping());
    }
    // Numbers only grow, so the newest is the last.
    let newest = app.snapshot().windows.iter().rev().find(|w| w.by.is_some()).cloned();
    newest.ok_or_else(|| Problem::conflict("The window was over at once."))
}

/// Ends it.
pub(in crate::web) async fn end_window(app: &App, id: &str) -> Result<(), Problem> {
    let snapshot = app.snapshot();
    let Some(window) = snapshot.windows.iter().find(|window| &*window.id == id) else {
        return Err(Problem::not_found(format!("There is no maintenance window `{id}`.")));
    };
    if window.by.is_none() && window.open.is_none() {
        let detail = format!("The window `{id}` is not open now. It is in the config: take it out there.");
        return Err(Problem::conflict(detail));
    }
    if !(app.context.submit)(Input::EndWindow { id: window.id.clone() }).await {
        return Err(Problem::stopping());
    }
    Ok(())
}

impl Opening {
    /// From a form: targets in one text, separated by commas or spaces.
    pub(in crate::web) fn of_form(
        targets: &str,
        lasts: &str,
        reason: &str,
        title: &str,
        public: bool,
    ) -> Self {
        let targets = targets.split([',', '\n']).map(str::trim).filter(|target| !target.is_empty());
        Self {
            targets: targets.map(str::to_owned).collect(),
            r#for: lasts.to_owned(),
            from: None,
            reason: reason.to_owned(),
            title: title.to_owned(),
            public: Some(public),
            by: String::new(),
        }
    }

    fn window(&self, snapshot: &Snapshot, otherwise: &str) -> Result<HandWindow, Problem> {
        let lasts = duration_from_text(self.r#for.trim())
            .map_err(|error| Problem::bad_request(format!("`for` is how long it lasts: {error}.")))?;
        if lasts < Duration::from_secs(1) || lasts > LASTS_MOST {
            return Err(Problem::bad_request("`for` is from 1s to 31d."));
        }
        let from = self.from.map_or(snapshot.at, Wall);
        if from.0 < snapshot.at.0 - 60_000 || from.ms_since(snapshot.at) > AHEAD_MOST_MS {
            let detail = "`from` is in milliseconds since 1970: now, or within a year.";
            return Err(Problem::bad_request(detail));
        }
        let ms = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
        let line = |name: &str, text: &str| {
            let text = text.trim();
            match text.chars().count() > TEXT_MAX || text.chars().any(char::is_control) {
                true => Err(Problem::bad_request(format!(
                    "`{name}` is one line of at most {TEXT_MAX} characters."
                ))),
                false => Ok(text.to_owned()),
            }
        };
        let title = line("title", &self.title)?;
        let policy = WindowPolicy {
            covers: covers(&self.targets, snapshot)?,
            title: if title.is_empty() { MAINTENANCE_TITLE.to_owned() } else { title },
            reason: line("reason", &self.reason)?,
            public: self.public.unwrap_or(true),
            zone: String::new(),
        };
        let when = Occurrence { from, to: Wall(from.0.saturating_add(ms)) };
        Ok(HandWindow { policy, when, by: name_of(&self.by, otherwise)? })
    }
}

/// What these words are about, if all of it is there.
fn covers(targets: &[String], snapshot: &Snapshot) -> Result<Covers, Problem> {
    if targets.is_empty() || targets.len() > TARGETS_MOST {
        let detail = format!(
            "`targets` names 1 to {TARGETS_MOST} things: a service `shop`, a server `shop/app-1`, `monitor:pay`, \
             `group:suppliers`, `tag:db`, or `everything`."
        );
        return Err(Problem::bad_request(detail));
    }
    let mut covers = Covers::default();
    for target in targets {
        add(&mut covers, target.trim(), snapshot).ok_or_else(|| {
            Problem::not_found(format!("There is nothing called `{target}` in the config."))
        })?;
    }
    if covers.everything {
        // It is said already.
        covers = Covers { everything: true, ..Covers::default() };
    }
    Ok(covers)
}

/// Adds what a word is about; `None`: there is no such thing.
fn add(covers: &mut Covers, target: &str, snapshot: &Snapshot) -> Option<()> {
    let monitor = |name: &str| Some(snapshot.monitor(&MonitorId::new(name))?.id.clone());
    match target.split_once(':') {
        _ if target == "everything" => covers.everything = true,
        Some(("monitor", name)) => _ = covers.monitors.insert(monitor(name)?),
        Some(("group", name)) => {
            let mut groups = snapshot.monitors.iter().filter_map(|monitor| monitor.group.as_ref());
            covers.groups.insert(groups.find(|group| ***group == *name)?.clone());
        }
        Some(("tag", name)) => {
            let mut tags = snapshot.monitors.iter().flat_map(|monitor| &monitor.tags);
            covers.tags.insert(tags.find(|tag| ***tag == *name)?.clone());
        }
        _ if target.contains('/') => {
            covers.servers.insert(snapshot.server(&target.parse::<ServerId>().ok()?)?.id.clone());
        }
        _ => match snapshot.service(&ServiceId::new(target)) {
            Some(service) => _ = covers.services.insert(service.id.clone()),
            None => _ = covers.monitors.insert(monitor(target)?),
        },
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::fake;

    fn of(targets: &[&str]) -> Result<String, String> {
        let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
        covers(&targets, &fake::snapshot()).map(|covers| covers.words()).map_err(|problem| problem.detail)
    }

    #[test]
    fn targets_are_what_there_is_by_the_names_that_people_use() {
        let all = [
            "shop",
            "shop/app-1",
            "check-001",
            "monitor:check-002",
            "tag:payments",
            "group:suppliers",
            "shop",
        ];
        let words = "shop, shop/app-1, monitor:check-001, monitor:check-002, group:suppliers, tag:payments";
        assert_eq!(of(&all), Ok(words.to_owned()));
        assert_eq!(of(&["everything", "shop"]), Ok("everything".to_owned()));
        for wrong in ["nobody", "shop/app-99", "monitor:shop", "tag:none", "group:none", "", "a:b"] {
            assert!(of(&[wrong]).unwrap_err().contains("nothing called"), "{wrong}");
        }
        assert!(of(&[]).unwrap_err().contains("1 to 100"));
    }
}
