//! The page of a server: how it is and why, its process, its charts, and the buttons that put it into another state.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::input::{AdminState, Input};
use mainstay_model::policy::Role;
use mainstay_model::snapshot::{ProcessSnapshot, ServerSnapshot, Signal};
use mainstay_model::{ServerId, ServiceId, Snapshot};
use serde::Deserialize;

use super::look::{self, Look};
use super::maintenance::{self, Inside};
use super::overview::Figure;
use super::{
    Loaded, Part, Rendered, monitors, render as html, respond, server_address, service_address, traffic,
};
use crate::web::App;
use crate::web::history::{OF_SERVER, OF_TCP_SERVER, Range};
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// A server as it is now.
pub(super) fn render(
    snapshot: &Snapshot,
    id: &ServerId,
    range: Range,
    loaded: &Loaded,
    last_lines: impl FnOnce() -> Vec<String>,
) -> Result<Rendered, Problem> {
    let server = find(snapshot, id)?;
    let mut parts = vec![
        Part { id: "head", html: html(&HeadPart::of(server, snapshot)) },
        Part { id: "why", html: html(&WhyPart::of(server, snapshot)) },
    ];
    if let Some(process) = &server.process {
        parts.push(Part { id: "process", html: html(&ProcessPart::of(process, snapshot, last_lines())) });
    }
    let outcomes = if server.tcp { OF_TCP_SERVER } else { OF_SERVER };
    parts.push(traffic::part(&server_address(id), range, loaded, outcomes, true));
    parts.push(monitors::looks_at_server(loaded, snapshot));
    let look = Look::of_health(server.health);
    Ok(Rendered { title: format!("{id} is {} · Mainstay", look.class()), parts })
}

fn find<'a>(snapshot: &'a Snapshot, id: &ServerId) -> Result<&'a ServerSnapshot, Problem> {
    snapshot.server(id).ok_or_else(|| Problem::not_found(format!("There is no server `{id}` in the config.")))
}

#[derive(Template)]
#[template(path = "server-head.html")]
struct HeadPart {
    name: String,
    service: String,
    service_address: String,
    look: Look,
    since: Ago,
    notes: Vec<&'static str>,
    listens: Option<String>,
    role: &'static str,
    share: u32,
    rate: String,
    errors: Figure,
    p50: String,
    p99: String,
    in_flight: String,
    tcp: bool,
    drain: Option<String>,
    maintenance: Option<Inside>,
    window: String,
    attempts: String,
    failed: Figure,
    probe: Option<(String, bool, Ago)>,
    actions: Vec<Action>,
}

/// A state that the server can be put into.
struct Action {
    address: String,
    words: &'static str,
}

impl HeadPart {
    fn of(server: &ServerSnapshot, snapshot: &Snapshot) -> Self {
        let others = [AdminState::Ready, AdminState::Draining, AdminState::Maintenance];
        let actions = others.into_iter().filter(|state| *state != server.admin).map(|state| Action {
            address: format!("{}/state?to={state}", server_address(&server.id)),
            words: Order::to(state).words,
        });
        Self {
            name: server.id.name.to_string(),
            service: server.id.service.to_string(),
            service_address: service_address(&server.id.service),
            look: Look::of_health(server.health),
            since: words::held(server.health_since, snapshot.at),
            notes: look::notes(server),
            listens: server.address.as_ref().map(ToString::to_string),
            role: if server.role == Role::Backup { "backup" } else { "primary" },
            share: if server.in_rotation { (server.share.clamp(0.0, 1.0) * 100.0).round() as u32 } else { 0 },
            rate: words::per_second(server.rates.per_second),
            errors: Figure::error_share(server.rates.error_share),
            p50: words::latency(server.rates.p50_ms),
            p99: words::latency(server.rates.p99_ms),
            in_flight: words::count(server.in_flight),
            tcp: server.tcp,
            maintenance: Inside::of(server.maintenance.as_ref(), snapshot.at),
            window: maintenance::address(&server.id.to_string()),
            drain: server.drain_progress(snapshot.at),
            attempts: words::count(server.totals.requests),
            failed: Figure { text: words::count(server.totals.failed), bad: server.totals.failed > 0 },
            probe: server
                .last_probe
                .as_ref()
                .map(|probe| (probe.text.clone(), probe.good, words::ago(probe.at, snapshot.at))),
            actions: actions.collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "server-why.html")]
struct WhyPart {
    rule: String,
    would_change: String,
    signals: Vec<Signal>,
    changes: Vec<(Ago, String)>,
}

impl WhyPart {
    fn of(server: &ServerSnapshot, snapshot: &Snapshot) -> Self {
        let why = &server.why;
        Self {
            rule: why.rule.clone(),
            would_change: why.would_change.clone(),
            signals: why.signals.clone(),
            changes: why.changes.iter().map(|c| (words::ago(c.at, snapshot.at), c.text.clone())).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "server-process.html")]
struct ProcessPart {
    pid: Option<u32>,
    since: Ago,
    last_exit: Option<String>,
    restarts: u32,
    budget: u32,
    spent: bool,
    next_restart: Option<Ago>,
    lines: Vec<String>,
}

impl ProcessPart {
    fn of(process: &ProcessSnapshot, snapshot: &Snapshot, lines: Vec<String>) -> Self {
        Self {
            pid: process.pid,
            since: words::held(process.since, snapshot.at),
            last_exit: process.last_exit.map(|exit| exit.to_string()),
            restarts: process.restarts_in_window,
            budget: process.restart_budget,
            spent: process.restarts_in_window >= process.restart_budget,
            next_restart: process.next_restart_at.map(|at| words::ago(at, snapshot.at)),
            lines,
        }
    }
}

/// What is asked before a server is put into another state.
struct Order {
    words: &'static str,
    consequence: &'static str,
}

impl Order {
    fn to(state: AdminState) -> Self {
        match state {
            AdminState::Ready => Self {
                words: "Make ready",
                consequence: "It serves again as soon as it is healthy, with a share that rises slowly.",
            },
            AdminState::Draining => Self {
                words: "Drain",
                consequence: "It finishes what it has and gets nothing new. Its fellows carry its share.",
            },
            AdminState::Maintenance => Self {
                words: "Maintenance",
                consequence: "It leaves rotation, its failures raise nobody, and it is not restarted.",
            },
        }
    }
}

/// `?to=draining`, and the form's field.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Change {
    to: AdminState,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPart {
    words: &'static str,
    consequence: &'static str,
    server: String,
    /// It is the last one in rotation.
    last: bool,
    state: &'static str,
    action: String,
    back: String,
}

/// Asks whether it is meant.
pub(in crate::web) async fn confirm(
    State(app): State<App>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    change: Result<Query<Change>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let id = server_of(path)?;
    let Query(Change { to }) = change?;
    let snapshot = app.snapshot();
    let server = find(&snapshot, &id)?;
    let order = Order::to(to);
    let fellows = snapshot.service(&id.service).into_iter().flat_map(|service| &service.servers);
    let in_rotation = fellows.filter(|fellow| fellow.in_rotation).count();
    let title = format!("{} {id}? · Mainstay", order.words);
    let part = ConfirmPart {
        words: order.words,
        consequence: order.consequence,
        server: id.to_string(),
        last: to != AdminState::Ready && server.in_rotation && in_rotation == 1,
        state: to.as_str(),
        action: format!("{}/state", server_address(&id)),
        back: server_address(&id),
    };
    Ok(respond(&app, StatusCode::OK, &title, "", &[Part { id: "confirm", html: html(&part) }]))
}

/// Puts a server into another state and leads back to its page.
pub(in crate::web) async fn change(
    State(app): State<App>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    change: Result<Form<Change>, axum::extract::rejection::FormRejection>,
) -> Result<Response, Problem> {
    let id = server_of(path)?;
    let Form(Change { to }) = change?;
    find(&app.snapshot(), &id)?;
    let input = Input::Admin { server: id.clone(), state: to, by: "dashboard".to_owned() };
    if !(app.context.submit)(input).await {
        return Err(Problem::stopping());
    }
    Ok(Redirect::to(&server_address(&id)).into_response())
}

fn server_of(
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
) -> Result<ServerId, Problem> {
    let Path((service, server)) = path?;
    Ok(ServiceId::new(service).server(server))
}
