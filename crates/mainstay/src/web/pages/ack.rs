//! The page behind a link in a message: it shows what is wrong in three lines and a button, and says who has taken it on.
//!
//! Opening it changes nothing: mail programs and scanners open every link. It needs no login, so it shows little.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::incident::{Incident, IncidentState};
use mainstay_model::{IncidentId, Wall};

use super::headline::what_visitors_noticed;
use super::look::{Look, Mark};
use super::{Part, incident, render as html, respond};
use crate::ack::{Claim, Links, Refused};
use crate::web::App;
use crate::web::listener::ClientAddress;
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// In place of the name of somebody whom the incident does not know.
const SOMEBODY: &str = "somebody with a link";

#[derive(Template)]
#[template(path = "ack.html")]
struct AckPart {
    id: String,
    mark: Mark,
    title: String,
    scope: String,
    severity: &'static str,
    began: Ago,
    began_date: String,
    lasted: String,
    noticed: String,
    name: String,
    over: bool,
    taken: Option<(String, Ago)>,
}

/// Shows the incident and, while nobody has taken it on, the button.
pub(in crate::web) async fn show(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let from = from_where(&request);
    drop(request);
    let (claim, incident) = claimed(&app, token, from).await?;
    let now = app.snapshot().at;
    let part = AckPart {
        id: incident.id.to_string(),
        mark: Look::of_incident(incident.state, incident.severity).mark(),
        title: incident.title.clone(),
        scope: incident.scope.to_string(),
        severity: incident.severity.as_str(),
        began: words::ago(incident.began_at, now),
        began_date: words::absolute(incident.began_at),
        lasted: words::lasted(incident::lasted(&incident, now)),
        noticed: what_visitors_noticed(&incident),
        name: name(&app, &claim, &incident),
        over: incident.state == IncidentState::Resolved,
        taken: incident.acknowledged.as_ref().map(|(by, at)| (by.clone(), words::ago(*at, now))),
    };
    let part = Part { id: "ack", html: html(&part) };
    Ok(respond(&app, StatusCode::OK, "Take it on · Mainstay", "", &[part]))
}

/// Takes the incident on in the name of whom the link was made for, and shows how it stands.
pub(in crate::web) async fn take_on(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (from, path) = (from_where(&request), request.uri().path().to_owned());
    drop(request);
    let (claim, incident) = claimed(&app, token, from).await?;
    let by = name(&app, &claim, &incident);
    match incident::take_on(&app, incident.id, by).await {
        Ok(_) => {}
        // It ended in this moment, and the page says so.
        Err(problem) if problem.status == StatusCode::CONFLICT => {}
        Err(problem) => return Err(problem),
    }
    Ok(Redirect::to(&path).into_response())
}

pub(super) fn from_where(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ClientAddress>().map(|from| from.0.ip())
}

/// What the link says.
pub(super) fn claim_of(
    app: &App,
    token: Result<Path<String>, PathRejection>,
    from: Option<IpAddr>,
    read: fn(&Links, &str, Wall) -> Result<Claim, Refused>,
) -> Result<Claim, Problem> {
    let Path(token) = token?;
    match read(&app.context.links, &token, now()) {
        Ok(claim) => Ok(claim),
        Err(Refused::Expired) => Err(expired()),
        Err(Refused::Forged) => {
            app.guard.wrong_link(from)?;
            Err(Problem::not_found("This is no link of this Mainstay, or its data directory is a new one."))
        }
    }
}

/// What the link says, and its incident.
async fn claimed(
    app: &App,
    token: Result<Path<String>, PathRejection>,
    from: Option<IpAddr>,
) -> Result<(Claim, Arc<Incident>), Problem> {
    let claim = claim_of(app, token, from, Links::read)?;
    let id = IncidentId(claim.number);
    let snapshot = app.snapshot();
    if let Some(incident) = snapshot.incidents.iter().find(|incident| incident.id == id) {
        return Ok((claim, incident.clone()));
    }
    let stored = app.context.reader.incident(id).await;
    match stored.map_err(|error| Problem::record(&error))? {
        Some(incident) => Ok((claim, Arc::new(incident))),
        None => Err(Problem::not_found("The record no longer has this incident.")),
    }
}

/// Whom the link was made for.
fn name(app: &App, claim: &Claim, incident: &Incident) -> String {
    name_among(app, claim, Some(incident))
}

/// The one of those who were told of an incident for whom the link was made.
pub(super) fn name_among(app: &App, claim: &Claim, incident: Option<&Incident>) -> String {
    let told = incident.into_iter().flat_map(|i| &i.escalation.told).map(|telling| &telling.to);
    let person = told.into_iter().find(|to| app.context.links.is_for(claim, to));
    person.map_or(SOMEBODY, |to| &to.name).to_owned()
}

fn expired() -> Problem {
    Problem::new(
        StatusCode::GONE,
        "link-expired",
        "This link is too old",
        "A link in a message is valid for 24 hours. The dashboard does the same.",
    )
}

/// Links expire by the clock on the wall, whether or not anything is judged meanwhile.
fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
