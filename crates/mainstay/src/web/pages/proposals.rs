//! What Mainstay would do if it might, on the pages of its incident and its service, each with buttons while it is open; on
//! the overview what waits for a person.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::proposal::Proposal;
use mainstay_model::{IncidentId, ServiceId, Snapshot, Wall};
use serde::Deserialize;

use super::{Part, render as html, service_address};
use crate::web::App;
use crate::web::api::proposals;
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// Of a service, so many are shown beside those that are open.
const SHOWN: usize = 5;

#[derive(Template)]
#[template(path = "proposals.html")]
struct ProposalsPart {
    heading: &'static str,
    /// They are about several services.
    several: bool,
    rows: Vec<Row>,
}

/// On the page of what they are about.
const WOULD: &str = "What Mainstay would do";
/// On the overview.
const WAITS: &str = "Waits for your decision";

struct Row {
    number: u64,
    service: String,
    service_address: String,
    what: String,
    why: String,
    level: &'static str,
    at: Ago,
    stands: String,
    undecided: bool,
    asked: bool,
}

impl Row {
    fn of(proposal: &Proposal, now: Wall) -> Self {
        Self {
            number: proposal.number,
            service: proposal.service.to_string(),
            service_address: service_address(&proposal.service),
            what: proposal.what.clone(),
            why: proposal.why.clone(),
            level: proposal.level.as_str(),
            at: words::ago(proposal.at, now),
            stands: proposal.stands(),
            undecided: proposal.is_undecided(),
            asked: proposal.is_asked(),
        }
    }
}

/// Those that were made in an incident.
pub(super) fn of_incident(snapshot: &Snapshot, id: IncidentId) -> Part {
    part(WOULD, snapshot.proposals.iter().filter(|p| p.incident == Some(id)), snapshot.at)
}

/// Those that a person is asked about and has not decided on, of all services.
pub(super) fn waiting(snapshot: &Snapshot) -> Part {
    let asked = snapshot.proposals.iter().filter(|p| p.is_asked());
    part(WAITS, asked, snapshot.at)
}

/// The last ones about a service.
pub(super) fn of_service(snapshot: &Snapshot, id: &ServiceId) -> Part {
    let mine = snapshot.proposals.iter().filter(|p| p.service == *id);
    let (open, over): (Vec<_>, Vec<_>) = mine.partition(|p| p.end.is_none());
    part(WOULD, open.into_iter().chain(over.into_iter().take(SHOWN)), snapshot.at)
}

fn part<'a>(heading: &'static str, proposals: impl Iterator<Item = &'a Arc<Proposal>>, now: Wall) -> Part {
    let rows = proposals.map(|proposal| Row::of(proposal, now)).collect();
    Part { id: "proposals", html: html(&ProposalsPart { heading, several: heading == WAITS, rows }) }
}

/// The form's field.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Decision {
    pub(super) approved: bool,
}

/// Decides, and leads to the service's page.
pub(in crate::web) async fn decide(
    State(app): State<App>,
    path: Result<Path<u64>, PathRejection>,
    form: Result<Form<Decision>, FormRejection>,
) -> Result<Response, Problem> {
    let number = path?.0;
    let Form(Decision { approved }) = form?;
    let proposal = proposals::decide(&app, number, approved, "dashboard".to_owned()).await?;
    let page = match proposal.incident {
        Some(incident) => format!("/incidents/{incident}"),
        None => service_address(&proposal.service),
    };
    Ok(Redirect::to(&page).into_response())
}
