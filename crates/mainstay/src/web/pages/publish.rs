//! What a person tells the public of an incident: whether the status page shows it, under which title, and updates as it goes on.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::incident::Incident;
use mainstay_model::publication::{PublicChange, PublicState, PublicUpdate, Publication};
use mainstay_model::{IncidentId, Input, Snapshot, Wall};
use serde::{Deserialize, Serialize};

use super::incident::name_of;
use super::{Loaded, Part, render as html};
use crate::config::StatusConfig;
use crate::web::App;
use crate::web::problem::Problem;
use crate::web::public::view::{component_of, is_shown, public_title};
use crate::web::words::{self, Ago};

/// How an incident stands on the status page.
#[derive(Debug, Serialize)]
pub(in crate::web) struct Face {
    incident: IncidentId,
    /// The part of the site that it is about.
    component: String,
    /// The page shows it.
    shown: bool,
    /// A person's choice whether it does; `None`: it does if visitors are hurt.
    choice: Option<bool>,
    /// What it is called there.
    title: String,
    /// A person's own title, in place of the one that is made for it.
    own_title: Option<String>,
    /// Oldest first.
    updates: Vec<PublicUpdate>,
}

impl Face {
    /// `None` when it is about nothing that the page shows.
    fn of(config: &StatusConfig, incident: &Incident, told: Option<&Publication>) -> Option<Self> {
        let nothing = Publication::default();
        let publication = told.unwrap_or(&nothing);
        Some(Self {
            incident: incident.id,
            component: component_of(config, incident)?.name.clone(),
            shown: is_shown(incident, told),
            choice: publication.shown,
            title: public_title(config, incident, told)?,
            own_title: publication.title.clone(),
            updates: publication.updates.clone(),
        })
    }
}

/// The part of an incident's page; `None` when the status page would never show it.
pub(super) fn part(app: &App, snapshot: &Snapshot, id: IncidentId, loaded: &Loaded) -> Option<Part> {
    let config = app.context.status.borrow().clone()?;
    let live = snapshot.incidents.iter().find(|incident| incident.id == id).map(|incident| &**incident);
    let (stored, stored_told) = match loaded {
        Loaded::Incident { incident, told, .. } => (incident.as_deref(), told.as_ref()),
        _ => (None, None),
    };
    let told = snapshot.publications.get(&id).map(|told| &**told).or(stored_told);
    let face = Face::of(&config, live.or(stored)?, told)?;
    Some(Part { id: "public", html: html(&PublicPart::of(face, config.url.as_deref(), snapshot.at)) })
}

#[derive(Template)]
#[template(path = "incident-public.html")]
struct PublicPart {
    id: String,
    shown: bool,
    choice: Option<bool>,
    title: String,
    own_title: String,
    component: String,
    page: Option<String>,
    /// Newest first.
    updates: Vec<(PublicUpdate, Ago)>,
    /// Each with whether it is chosen beforehand: the one that it is in.
    states: [(&'static str, bool); 4],
    full: bool,
    text_max: usize,
    title_max: usize,
}

impl PublicPart {
    fn of(face: Face, page: Option<&str>, now: Wall) -> Self {
        let state = face.updates.last().map_or(PublicState::Investigating, |update| update.state);
        let full = face.updates.len() >= Publication::UPDATES_MAX;
        let updates = face.updates.into_iter().rev();
        Self {
            id: face.incident.to_string(),
            shown: face.shown,
            choice: face.choice,
            title: face.title,
            own_title: face.own_title.unwrap_or_default(),
            component: face.component,
            page: page.map(str::to_owned),
            updates: updates.map(|update| (update.clone(), words::ago(update.at, now))).collect(),
            states: PublicState::ALL.map(|one| (one.as_str(), one == state)),
            full,
            text_max: Publication::TEXT_MAX,
            title_max: Publication::TITLE_MAX,
        }
    }
}

/// The form of an update.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct UpdateForm {
    state: PublicState,
    text: String,
    #[serde(default)]
    by: String,
}

/// The form of the title and of whether it is shown.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct FaceForm {
    #[serde(default)]
    title: String,
    /// `auto`, `yes` or `no`.
    shown: Shown,
    #[serde(default)]
    by: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Shown {
    Auto,
    Yes,
    No,
}

type AskedPath = Result<Path<u64>, axum::extract::rejection::PathRejection>;
type AskedForm<T> = Result<Form<T>, axum::extract::rejection::FormRejection>;

/// Writes an update and leads back to the incident's page.
pub(in crate::web) async fn update(
    State(app): State<App>,
    path: AskedPath,
    form: AskedForm<UpdateForm>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let Form(UpdateForm { state, text, by }) = form?;
    write(&app, id, state, &text, name_of(&by, "dashboard")?).await?;
    Ok(back(id))
}

/// Changes title and visibility and leads back to the incident's page.
pub(in crate::web) async fn change(
    State(app): State<App>,
    path: AskedPath,
    form: AskedForm<FaceForm>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let Form(FaceForm { title, shown, by }) = form?;
    let shown = match shown {
        Shown::Auto => None,
        Shown::Yes => Some(true),
        Shown::No => Some(false),
    };
    show(&app, id, Some(title), shown, name_of(&by, "dashboard")?).await?;
    Ok(back(id))
}

fn back(id: IncidentId) -> Response {
    Redirect::to(&format!("/incidents/{id}#public")).into_response()
}

/// Tells the public something more.
pub(in crate::web) async fn write(
    app: &App,
    id: IncidentId,
    state: PublicState,
    text: &str,
    by: String,
) -> Result<Face, Problem> {
    let text = text.replace("\r\n", "\n").trim().to_owned();
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.is_empty() || text.chars().count() > Publication::TEXT_MAX || text.chars().any(is_odd) {
        let most = Publication::TEXT_MAX;
        return Err(Problem::bad_request(format!("`text` is plain text of 1 to {most} characters.")));
    }
    let before = face(app, id).await?;
    if before.updates.len() >= Publication::UPDATES_MAX {
        let most = Publication::UPDATES_MAX;
        return Err(Problem::conflict(format!(
            "Incident {id} has {most} updates already; it takes no more."
        )));
    }
    publish(app, id, PublicChange::Update { state, text }, by).await
}

/// Calls it otherwise, and shows it or not. An empty title is the one that is made for it.
pub(in crate::web) async fn show(
    app: &App,
    id: IncidentId,
    title: Option<String>,
    shown: Option<bool>,
    by: String,
) -> Result<Face, Problem> {
    let title = title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
    let most = Publication::TITLE_MAX;
    if title.as_ref().is_some_and(|t| t.chars().count() > most || t.chars().any(char::is_control)) {
        return Err(Problem::bad_request(format!("`title` is one line of at most {most} characters.")));
    }
    let before = face(app, id).await?;
    if (&before.own_title, before.choice) == (&title, shown) {
        return Ok(before);
    }
    publish(app, id, PublicChange::Face { title, shown }, by).await
}

async fn publish(app: &App, id: IncidentId, change: PublicChange, by: String) -> Result<Face, Problem> {
    if !(app.context.submit)(Input::Publish { incident: id, change, by }).await {
        return Err(Problem::stopping());
    }
    if !app.snapshot().publications.contains_key(&id) {
        let most = Publication::KEPT_MAX;
        return Err(Problem::conflict(format!(
            "Incident {id} is too old: only what is told of the last {most} incidents can be changed."
        )));
    }
    face(app, id).await
}

/// How an incident stands on the status page now.
pub(in crate::web) async fn face(app: &App, id: IncidentId) -> Result<Face, Problem> {
    let Some(config) = app.context.status.borrow().clone() else {
        return Err(Problem::conflict("There is no status page: the config has no [status]."));
    };
    let snapshot = app.snapshot();
    let reader = &app.context.reader;
    let incident = match snapshot.incidents.iter().find(|incident| incident.id == id) {
        Some(incident) => incident.clone(),
        None => match reader.incident(id).await.map_err(|error| Problem::record(&error))? {
            Some(incident) => Arc::new(incident),
            None => return Err(Problem::not_found(format!("There is no incident {id}."))),
        },
    };
    let stored;
    let told = match snapshot.publications.get(&id) {
        Some(told) => Some(&**told),
        // What is open was never told of, or the judge would know.
        None if snapshot.incidents.iter().any(|incident| incident.id == id) => None,
        None => {
            stored = reader.publication(id).await.map_err(|error| Problem::record(&error))?;
            stored.as_ref()
        }
    };
    Face::of(&config, &incident, told).ok_or_else(|| {
        let what = format!("Incident {id} is about nothing that the status page shows.");
        Problem::conflict(what)
    })
}
