//! What every page says while Mainstay is frozen, and where that is turned on and off.

use askama::Template;
use axum::Form;
use axum::extract::State as Shared;
use axum::extract::rejection::FormRejection;
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::Snapshot;
use serde::Deserialize;

use super::{Part, render as html};
use crate::web::App;
use crate::web::api::freeze::{Freezing, freeze, thaw};
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// How long it may be chosen to last, in the form.
const LENGTHS: [(&str, &str); 5] =
    [("30m", "30 minutes"), ("1h", "1 hour"), ("4h", "4 hours"), ("12h", "12 hours"), ("24h", "24 hours")];

/// On top of every page; nothing while it is not frozen.
pub(super) fn banner(snapshot: &Snapshot) -> Part {
    let freeze = snapshot.freeze.as_ref().map(|freeze| Shown {
        by: freeze.by.clone(),
        until: words::ago(freeze.until, snapshot.at),
        clock: words::clock(freeze.until),
        why: freeze.why.clone(),
    });
    Part { id: "freeze", html: html(&BannerPart { freeze }) }
}

#[derive(Template)]
#[template(path = "freeze.html")]
struct BannerPart {
    freeze: Option<Shown>,
}

struct Shown {
    by: String,
    until: Ago,
    clock: String,
    why: String,
}

/// Where it is turned on.
pub(super) fn form(snapshot: &Snapshot) -> Part {
    let part = FormPart { lengths: LENGTHS, frozen: snapshot.freeze.is_some() };
    Part { id: "freeze-form", html: html(&part) }
}

#[derive(Template)]
#[template(path = "freeze-form.html")]
struct FormPart {
    lengths: [(&'static str, &'static str); 5],
    frozen: bool,
}

/// The form's fields.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Fields {
    lasts: String,
    #[serde(default)]
    why: String,
}

/// Turns it on and leads to the overview.
pub(in crate::web) async fn on(
    Shared(app): Shared<App>,
    fields: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(Fields { lasts, why }) = fields?;
    freeze(&app, &Freezing { r#for: lasts, why, by: String::new() }, "dashboard").await?;
    Ok(Redirect::to("/").into_response())
}

/// Turns it off and leads to the overview.
pub(in crate::web) async fn off(Shared(app): Shared<App>) -> Result<Response, Problem> {
    thaw(&app).await?;
    Ok(Redirect::to("/").into_response())
}
