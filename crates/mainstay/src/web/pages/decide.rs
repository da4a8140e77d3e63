//! The page behind a link in a message that asks: it shows what Mainstay would do and why, and two buttons.
//!
//! Opening it changes nothing: mail programs and scanners open every link. It needs no login, so it shows little. A link is good for
//! one decision: once the proposal was decided on, by whomever, or is over, it only says so.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Form, FromRequest as _, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::proposal::Proposal;

use super::ack::{claim_of, from_where, name_among};
use super::proposals::Decision;
use super::{Part, render as html, respond};
use crate::ack::{Claim, Links};
use crate::web::App;
use crate::web::api::proposals;
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

#[derive(Template)]
#[template(path = "decide.html")]
struct DecidePart {
    number: u64,
    service: String,
    what: String,
    why: String,
    at: Ago,
    date: String,
    incident: Option<String>,
    name: String,
    undecided: bool,
    stands: String,
}

/// Shows the proposal and, while it is open and undecided, the buttons.
pub(in crate::web) async fn show(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let from = from_where(&request);
    drop(request);
    let claim = claim_of(&app, token, from, Links::read_decision)?;
    let proposal = proposals::find(&app, claim.number)?;
    let part = DecidePart {
        number: proposal.number,
        service: proposal.service.to_string(),
        what: proposal.what.clone(),
        why: proposal.why.clone(),
        at: words::ago(proposal.at, app.snapshot().at),
        date: words::absolute(proposal.at),
        incident: proposal.incident.map(|id| id.to_string()),
        name: name(&app, &claim, &proposal),
        undecided: proposal.is_undecided(),
        stands: proposal.stands(),
    };
    let part = Part { id: "decide", html: html(&part) };
    Ok(respond(&app, StatusCode::OK, "Decide · Mainstay", "", &[part]))
}

/// Decides in the name of whom the link was made for, and shows how it stands.
pub(in crate::web) async fn decide(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (from, path) = (from_where(&request), request.uri().path().to_owned());
    let claim = claim_of(&app, token, from, Links::read_decision)?;
    let form: Result<Form<Decision>, FormRejection> = Form::from_request(request, &()).await;
    let Form(Decision { approved }) = form?;
    let by = name(&app, &claim, &*proposals::find(&app, claim.number)?);
    match proposals::decide(&app, claim.number, approved, by).await {
        Ok(_) => {}
        // It was decided in this moment, and the page says so.
        Err(problem) if problem.status == StatusCode::CONFLICT => {}
        Err(problem) => return Err(problem),
    }
    Ok(Redirect::to(&path).into_response())
}

/// Whom the link was made for.
fn name(app: &App, claim: &Claim, proposal: &Proposal) -> String {
    let snapshot = app.snapshot();
    let incident = snapshot.incidents.iter().find(|incident| Some(incident.id) == proposal.incident);
    name_among(app, claim, incident.map(Arc::as_ref))
}
