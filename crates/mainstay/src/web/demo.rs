//! What the dashboard of `mainstay demo` has beside that of any other Mainstay: buttons that break the demo's world, and
//! what came of it each time.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use tokio::sync::{mpsc, watch};

use super::App;
use super::problem::Problem;

/// The demo, as its pages know it.
#[derive(Debug, Clone)]
pub struct Demo {
    /// What can be done to its world: the last part of an address, and the words on the button.
    pub faults: Vec<(&'static str, &'static str)>,
    /// Takes the first of those, one at a time.
    pub wishes: mpsc::Sender<String>,
    /// How it goes.
    pub state: watch::Receiver<DemoState>,
}

/// How the demo goes.
#[derive(Debug, Clone, Default)]
pub struct DemoState {
    /// What is being done just now, in a sentence; empty: nothing. Nothing else is begun meanwhile.
    pub playing: String,
    /// Why the last wish could not be, in a sentence; empty: it could.
    pub note: String,
    /// What came of each, newest first.
    pub results: Vec<DemoResult>,
}

/// What came of one fault, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoResult {
    /// The fault.
    pub title: String,
    /// Times since the fault, with their units.
    pub noticed: String,
    /// Until the server was out of rotation.
    pub diverted: String,
    /// Until everything served again.
    pub recovered: String,
    /// What visitors saw.
    pub visitors: String,
    /// What Mainstay did.
    pub done: String,
    /// Its incident, if there was one.
    pub incident: Option<u64>,
}

/// Breaks something.
pub(super) async fn break_it(
    State(app): State<App>,
    fault: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(fault) = fault?;
    let demo = app.context.demo.as_ref().filter(|demo| demo.faults.iter().any(|(id, _)| *id == fault));
    let Some(demo) = demo else {
        return Err(Problem::not_found("No page, file or resource has this address."));
    };
    if demo.wishes.try_send(fault).is_err() {
        return Err(Problem::busy("faults under way"));
    }
    Ok(Redirect::to("/#demo").into_response())
}
