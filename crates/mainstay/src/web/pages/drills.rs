//! The page of drills: the one that is under way, what each fault came to at each service, how that changed, and where one is begun.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::drill::{Drill, DrillState, Fault};
use mainstay_model::{ServiceId, Snapshot, Wall};
use serde::Deserialize;

use super::look::{Look, Mark};
use super::{Part, Rendered, render as html, service_address};
use crate::web::App;
use crate::web::api::drills::{Drilling, drill, end};
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// How long a fault may be chosen to last, in the form.
const LENGTHS: [(&str, &str); 5] = [
    ("10s", "10 seconds"),
    ("30s", "30 seconds"),
    ("1m", "1 minute"),
    ("3m", "3 minutes"),
    ("10m", "10 minutes"),
];
/// Earlier runs that a picture shows.
const RUNS: usize = 12;
/// The picture's size.
const WIDE: usize = 96;
const HIGH: u64 = 20;

/// The page as it is now.
pub(super) fn render(snapshot: &Snapshot) -> Rendered {
    let parts = vec![
        Part { id: "drill", html: html(&NowPart { now: Now::of(snapshot) }) },
        Part { id: "drills", html: html(&DrillsPart::of(snapshot)) },
        // Beside the list, so that what is being chosen is not replaced by news.
        Part { id: "drill-form", html: html(&FormPart::of(snapshot)) },
    ];
    Rendered { title: "Drills · Mainstay".to_owned(), parts }
}

#[derive(Template)]
#[template(path = "drill.html")]
struct NowPart {
    now: Option<Now>,
}

/// The drill that is under way.
struct Now {
    id: u64,
    title: &'static str,
    server: String,
    by: String,
    state: &'static str,
    at: Ago,
    /// The fault is still there, or about to be made.
    ends_in: Option<Ago>,
    figures: Vec<Figure>,
}

impl Now {
    fn of(snapshot: &Snapshot) -> Option<Self> {
        let drill = snapshot.drills.iter().find(|drill| !drill.state.is_over())?;
        let lasts = i64::try_from(drill.lasts_ms).unwrap_or(i64::MAX);
        let ends = drill.began_at.map(|began| Wall(began.0.saturating_add(lasts)));
        let there = drill.state != DrillState::Recovering;
        Some(Self {
            id: drill.id,
            title: drill.fault.title(),
            server: drill.server.as_ref().map_or_else(|| drill.service.to_string(), ToString::to_string),
            by: drill.by.clone(),
            state: in_words(drill.state),
            at: words::ago(drill.at, snapshot.at),
            ends_in: ends.filter(|_| there).map(|ends| words::ago(ends, snapshot.at)),
            figures: figures(drill, &[]),
        })
    }
}

#[derive(Template)]
#[template(path = "drills.html")]
struct DrillsPart {
    /// There was none at all.
    none: bool,
    cards: Vec<Card>,
    /// Services that were never drilled.
    never: Vec<String>,
}

/// What drills of one service came to.
struct Card {
    service: String,
    address: String,
    rows: Vec<Row>,
    /// Faults that were not tried.
    untried: Vec<&'static str>,
    /// The newest that was refused: when, what, and why.
    refused: Option<(Ago, &'static str, String)>,
}

/// The last result of one fault.
struct Row {
    id: u64,
    mark: Mark,
    title: &'static str,
    fault: &'static str,
    outcome: String,
    server: String,
    at: Ago,
    stale: bool,
    incident: Option<u64>,
    figures: Vec<Figure>,
}

/// One figure, and how it was before.
struct Figure {
    name: &'static str,
    value: String,
    picture: String,
}

impl DrillsPart {
    fn of(snapshot: &Snapshot) -> Self {
        let mut of: BTreeMap<&ServiceId, Vec<&Drill>> = BTreeMap::new();
        for drill in snapshot.drills.iter().filter(|drill| drill.state.is_over()) {
            of.entry(&drill.service).or_default().push(drill);
        }
        let never = snapshot.services.iter().filter(|service| !of.contains_key(&service.id));
        Self {
            none: of.is_empty(),
            never: never.map(|service| service.id.to_string()).collect(),
            cards: of.into_iter().map(|(service, drills)| Card::of(service, &drills, snapshot.at)).collect(),
        }
    }
}

impl Card {
    /// Of drills, the newest first.
    fn of(service: &ServiceId, drills: &[&Drill], now: Wall) -> Self {
        let refused = drills.iter().find(|drill| drill.state == DrillState::Refused);
        let runs = |fault: Fault| {
            drills.iter().copied().filter(move |d| d.fault == fault && d.state != DrillState::Refused)
        };
        let row = |fault: Fault| {
            let last = runs(fault).next()?;
            let earlier: Vec<&Drill> = runs(fault).take(RUNS).collect();
            Some(Row::of(last, &earlier, now))
        };
        let untried = Fault::ALL.into_iter().filter(|fault| runs(*fault).next().is_none());
        Self {
            service: service.to_string(),
            address: service_address(service),
            rows: Fault::ALL.into_iter().filter_map(row).collect(),
            untried: untried.map(Fault::as_str).collect(),
            refused: refused.map(|d| (words::ago(d.at, now), d.fault.as_str(), d.why.clone())),
        }
    }
}

impl Row {
    fn of(drill: &Drill, runs: &[&Drill], now: Wall) -> Self {
        let look = match drill.state {
            _ if drill.went_well() => Look::Healthy,
            DrillState::Stopped => Look::Degraded,
            DrillState::NotRecovered => Look::Down,
            _ => Look::Unknown,
        };
        let word = in_words(drill.state);
        Self {
            id: drill.id,
            mark: look.mark(),
            title: drill.fault.title(),
            fault: drill.fault.as_str(),
            outcome: if drill.why.is_empty() { word.to_owned() } else { format!("{word}: {}", drill.why) },
            server: drill.server.as_ref().map_or_else(String::new, |server| server.name.to_string()),
            at: words::ago(drill.at, now),
            stale: drill.is_stale(now),
            incident: drill.incident.map(|id| id.0),
            figures: figures(drill, runs),
        }
    }
}

/// What is measured in milliseconds, with how it was in earlier runs, and what visitors saw.
fn figures(drill: &Drill, runs: &[&Drill]) -> Vec<Figure> {
    let m = &drill.measured;
    let timed = |name, of: fn(&Drill) -> Option<u64>| Figure {
        name,
        value: of(drill).map_or_else(|| "–".to_owned(), |ms| words::latency(Some(ms as f64))),
        picture: picture(name, runs, of),
    };
    let mut all = vec![
        timed("noticed", |drill| drill.measured.notice_ms),
        timed("diverted", |drill| drill.measured.divert_ms),
        timed("first action", |drill| drill.measured.act_ms),
        timed("recovered", |drill| drill.measured.recover_ms),
    ];
    let plain = |name, value| Figure { name, value, picture: String::new() };
    if m.requests == 0 {
        all.push(plain("requests", "nobody came".to_owned()));
    } else {
        let failed = format!("{} of {}", words::count(m.failed), words::count(m.requests));
        all.extend([plain("failed", failed), plain("saved", words::count(m.saved))]);
    }
    all
}

/// One bar a run, the oldest first, with its value under the pointer and to a screen reader; nothing of fewer than two.
fn picture(name: &str, runs: &[&Drill], of: impl Fn(&Drill) -> Option<u64>) -> String {
    let highest = runs.iter().filter_map(|drill| of(drill)).max().unwrap_or(0).max(1);
    let count = runs.iter().filter(|drill| of(drill).is_some()).count();
    if count < 2 {
        return String::new();
    }
    let (step, mut bars) = (WIDE / RUNS, String::new());
    for (place, drill) in runs.iter().rev().enumerate() {
        // A run without the figure is a gap.
        let Some(ms) = of(drill) else { continue };
        let high = (ms * HIGH).div_ceil(highest).max(1);
        let value = words::latency(Some(ms as f64));
        let (x, y, day) = (place * step, HIGH - high, words::date(drill.at));
        let _ = write!(
            bars,
            "<path d=\"M{x} {HIGH}V{y}h{}V{HIGH}z\"><title>{value}, {day}</title></path>",
            step - 2
        );
    }
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {WIDE} {HIGH}\" role=\"img\" aria-label=\"{name} in the last {count} runs\">{bars}</svg>"
    )
}

fn in_words(state: DrillState) -> &'static str {
    match state {
        DrillState::Ordered => "about to begin",
        DrillState::UnderWay => "the fault is there",
        DrillState::Recovering => "the fault is gone, and all has yet to be well",
        DrillState::Recovered => "recovered",
        DrillState::Unnoticed => "nobody noticed it",
        DrillState::Stopped => "stopped",
        DrillState::NotRecovered => "not well again in time",
        DrillState::Refused => "refused",
        DrillState::Failed => "could not be made",
        DrillState::BrokenOff => "broken off",
    }
}

#[derive(Template)]
#[template(path = "drill-form.html")]
struct FormPart {
    services: Vec<String>,
    faults: Vec<(&'static str, &'static str)>,
    lengths: [(&'static str, &'static str); 5],
}

impl FormPart {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            services: snapshot.services.iter().map(|service| service.id.to_string()).collect(),
            faults: Fault::ALL.into_iter().map(|fault| (fault.as_str(), fault.title())).collect(),
            lengths: LENGTHS,
        }
    }
}

/// The form's fields.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Fields {
    service: String,
    fault: String,
    lasts: String,
    #[serde(default)]
    server: String,
}

/// Begins a drill and leads to the page.
pub(in crate::web) async fn begin(
    Shared(app): Shared<App>,
    fields: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(Fields { service, fault, lasts, server }) = fields?;
    let drilling = Drilling { fault, server, r#for: lasts, alert: false, stateful: false, by: String::new() };
    drill(&app, ServiceId::new(service), &drilling, "dashboard").await?;
    Ok(Redirect::to("/drills").into_response())
}

/// Ends a drill and leads to the page.
pub(in crate::web) async fn stop(
    Shared(app): Shared<App>,
    path: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    end(&app, path?.0, "dashboard").await?;
    Ok(Redirect::to("/drills").into_response())
}
