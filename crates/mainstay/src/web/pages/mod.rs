//! The pages. Each is a list of parts, so that the same code makes the whole page and, for [`super::live`], what has changed.

pub(super) mod ack;
pub(super) mod backups;
mod change;
pub(super) mod decide;
mod demo;
pub(super) mod drills;
mod escalation;
pub(super) mod freeze;
mod headline;
mod heartbeat;
mod host;
pub(super) mod incident;
pub(super) mod login;
mod look;
pub(super) mod maintenance;
mod map;
mod monitors;
mod overview;
pub(super) mod proposals;
pub(super) mod publish;
pub(super) mod releases;
pub(super) mod server;
mod service;
mod traffic;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use mainstay_model::host::seconds::Seconds;
use mainstay_model::incident::Incident;
use mainstay_model::publication::Publication;
use mainstay_model::results::Look;
use mainstay_model::{IncidentId, MonitorId, ServerId, ServiceId, Snapshot};

use self::monitors::Filter;
use super::history::{self, Column, Range};
use super::machine::Machine;
use super::problem::Problem;
use super::{App, assets, words};
use crate::store::{Message, StoreError};

/// The longest text of a query that is looked for, in bytes as written.
const TEXT_MAX: usize = 600;
/// Incidents on one page of the list.
const INCIDENTS_A_PAGE: usize = 50;
/// Looks at a server on its page.
const LAST_LOOKS: usize = 30;

/// A page that changes by itself, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Host(Range),
    Service(ServiceId, Range),
    Server(ServerId, Range),
    /// Those with a lower number, or the newest.
    Incidents(Option<IncidentId>),
    /// With the middle of a long timeline, or without.
    Incident(IncidentId, bool),
    Backups,
    Drills,
    Map,
    /// With what the form is filled with.
    Maintenance(String),
    Monitors(Filter),
    Monitor(MonitorId, Range),
}

/// A page, ready to be sent.
pub(super) struct Rendered {
    pub(super) title: String,
    pub(super) parts: Vec<Part>,
}

/// A part of a page that is replaced by itself.
pub(super) struct Part {
    pub(super) id: &'static str,
    pub(super) html: String,
}

/// What a page shows from the record, or why it cannot.
pub(super) enum Loaded {
    Nothing,
    Columns(Vec<Column>),
    /// The last looks at a server as well, newest first.
    Server(Vec<Column>, Vec<Look>),
    Machine(Machine),
    Incidents(Vec<Incident>),
    Incident {
        incident: Option<Box<Incident>>,
        /// What the public is told of it.
        told: Option<Publication>,
        messages: Vec<Message>,
        /// The machine second by second around it.
        machine: Seconds,
    },
    Failed(StoreError),
}

impl Loaded {
    /// What a page of charts shows, or why it cannot.
    fn columns(&self) -> (&[Column], Option<String>) {
        match self {
            Loaded::Columns(columns) | Loaded::Server(columns, _) => (columns, None),
            Loaded::Failed(error) => (&[], Some(error.to_string())),
            _ => (&[], None),
        }
    }
}

impl Page {
    /// The page at an address.
    pub(super) fn of(uri: &Uri) -> Option<Page> {
        let mut segments = uri.path().strip_prefix('/')?.split('/');
        let page = match (segments.next()?, segments.next(), segments.next()) {
            ("", None, None) => Page::Overview,
            ("host", None, None) => Page::Host(range_of(uri)),
            ("services", Some(service), None) => {
                Page::Service(ServiceId::new(decode(service)?), long_range_of(uri))
            }
            ("servers", Some(service), Some(server)) => {
                Page::Server(ServiceId::new(decode(service)?).server(decode(server)?), long_range_of(uri))
            }
            ("backups", None, None) => Page::Backups,
            ("drills", None, None) => Page::Drills,
            ("map", None, None) => Page::Map,
            ("maintenance", None, None) => {
                Page::Maintenance(text_parameter(uri, "target").unwrap_or_default())
            }
            ("monitors", None, None) => Page::Monitors(Filter::of(uri)),
            ("monitors", Some(monitor), None) => {
                Page::Monitor(MonitorId::new(decode(monitor)?), long_range_of(uri))
            }
            ("incidents", None, None) => {
                Page::Incidents(parameter(uri, "before").and_then(|n| n.parse().ok()).map(IncidentId))
            }
            ("incidents", Some(id), None) => {
                Page::Incident(IncidentId(id.parse().ok()?), parameter(uri, "timeline") == Some("whole"))
            }
            _ => return None,
        };
        segments.next().is_none().then_some(page)
    }

    /// Reads from the record what the page needs of it.
    pub(super) async fn load(&self, app: &App) -> Loaded {
        let now = app.snapshot().at;
        let loaded = match self {
            Page::Host(range) => {
                let (from, to) = range.window(now);
                let buckets = app.context.reader.machine_history(range.step(), from, to).await;
                buckets.map(|buckets| Loaded::Machine(Machine::of(*range, now, &buckets)))
            }
            Page::Overview
            | Page::Backups
            | Page::Drills
            | Page::Map
            | Page::Maintenance(_)
            | Page::Monitors(_) => Ok(Loaded::Nothing),
            Page::Monitor(id, range) => {
                let (from, to) = range.window(now);
                let buckets = app.context.reader.monitor_history(id, range.step(), from, to).await;
                buckets.map(|buckets| Loaded::Columns(history::of_monitor(*range, now, &buckets)))
            }
            Page::Server(id, range) => {
                let (from, to) = range.window(now);
                let reader = &app.context.reader;
                let read = async {
                    let buckets = reader.server_history(id, range.step(), from, to).await?;
                    let looks = reader.last_results(id, to, LAST_LOOKS).await?;
                    Ok(Loaded::Server(history::of_server(*range, now, &buckets), looks))
                };
                read.await
            }
            Page::Service(id, range) => {
                let (from, to) = range.window(now);
                let buckets = app.context.reader.service_history(id, range.step(), from, to).await;
                buckets.map(|buckets| Loaded::Columns(history::of_service(*range, now, &buckets)))
            }
            Page::Incidents(before) => {
                app.context.reader.incidents(*before, INCIDENTS_A_PAGE).await.map(Loaded::Incidents)
            }
            Page::Incident(id, _) => load_incident(app, *id).await,
        };
        loaded.unwrap_or_else(Loaded::Failed)
    }

    /// The page as it is now.
    pub(super) fn render(
        &self,
        app: &App,
        snapshot: &Snapshot,
        loaded: &Loaded,
    ) -> Result<Rendered, Problem> {
        let mut page = self.render_own(app, snapshot, loaded)?;
        page.parts.insert(0, freeze::banner(snapshot));
        Ok(page)
    }

    /// Without what is on every page.
    fn render_own(&self, app: &App, snapshot: &Snapshot, loaded: &Loaded) -> Result<Rendered, Problem> {
        match self {
            Page::Overview => {
                let mut page = overview::render(&app.recent, snapshot);
                page.parts.extend(app.context.demo.as_ref().map(demo::part));
                Ok(page)
            }
            Page::Host(range) => Ok(host::render(snapshot, *range, loaded)),
            Page::Service(id, range) => service::render(&app.recent, snapshot, id, *range, loaded),
            Page::Server(id, range) => {
                server::render(snapshot, id, *range, loaded, || (app.context.last_lines)(id))
            }
            Page::Incidents(before) => incident::render_list(snapshot, *before, loaded),
            Page::Backups => Ok(backups::render(snapshot)),
            Page::Drills => Ok(drills::render(snapshot)),
            Page::Map => Ok(map::render(snapshot)),
            Page::Maintenance(target) => Ok(maintenance::render(snapshot, target)),
            Page::Monitors(filter) => monitors::render_list(snapshot, filter),
            Page::Monitor(id, range) => monitors::render_one(snapshot, id, *range, loaded),
            Page::Incident(id, whole) => {
                let mut page = incident::render(snapshot, *id, *whole, loaded)?;
                if let Some(part) = publish::part(app, snapshot, *id, loaded) {
                    // Above the timeline, which may be long.
                    let place = page.parts.iter().position(|part| part.id == "timeline");
                    page.parts.insert(place.unwrap_or(page.parts.len()), part);
                }
                Ok(page)
            }
        }
    }
}

async fn load_incident(app: &App, id: IncidentId) -> Result<Loaded, StoreError> {
    let incident = app.context.reader.incident(id).await?;
    let is_public = app.context.status.borrow().is_some();
    let told = if is_public { app.context.reader.publication(id).await? } else { None };
    let messages = app.context.reader.messages(id).await?;
    let machine = match &incident {
        Some(incident) => app.context.reader.machine_around(incident).await?,
        None => Seconds::default(),
    };
    Ok(Loaded::Incident { incident: incident.map(Box::new), told, messages, machine })
}

/// Answers with a whole page.
pub(super) async fn show(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let Some(page) = Page::of(request.uri()) else {
        return Err(Problem::not_found("No page has this address."));
    };
    let loaded = page.load(&app).await;
    let rendered = page.render(&app, &app.snapshot(), &loaded)?;
    let live = request.uri().path_and_query().map_or("/", |address| address.as_str());
    Ok(respond(&app, StatusCode::OK, &rendered.title, live, &rendered.parts))
}

/// A refusal, for a person.
pub(super) fn problem(app: &App, problem: &Problem) -> Response {
    let html = ProblemPage { status: problem.status.as_u16(), title: problem.title, detail: &problem.detail };
    let part = Part { id: "problem", html: render(&html) };
    respond(app, problem.status, problem.title, "", &[part])
}

/// A page that opens an address once more, from our own site.
pub(super) fn open_again(uri: &Uri) -> Response {
    let address = uri.path_and_query().map_or("/", |address| address.as_str());
    html(StatusCode::OK, render(&OpenAgain { address, style: assets::style() }))
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    status: u16,
    title: &'a str,
    detail: &'a str,
}

#[derive(Template)]
#[template(path = "open-again.html")]
struct OpenAgain<'a> {
    address: &'a str,
    style: String,
}

#[derive(Template)]
#[template(path = "layout.html")]
struct Layout<'a> {
    title: &'a str,
    /// The address whose changes are streamed; empty when nothing changes.
    live: &'a str,
    /// The address in the navigation that the page belongs to.
    section: &'a str,
    /// Somebody is logged in and can log out.
    login: bool,
    parts: &'a [Part],
    style: String,
    script: String,
    icon: String,
    version: &'static str,
}

fn respond(app: &App, status: StatusCode, title: &str, live: &str, parts: &[Part]) -> Response {
    let access = app.context.access.borrow();
    let layout = Layout {
        title,
        live,
        section: live.split('?').next().unwrap_or_default(),
        login: access.token.is_some() || access.password.is_some(),
        parts,
        style: assets::style(),
        script: assets::script(),
        icon: assets::icon(),
        version: env!("CARGO_PKG_VERSION"),
    };
    html(status, render(&layout))
}

fn html(status: StatusCode, text: String) -> Response {
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Writing into a string fails only if a `Display` of ours does, and none does.
fn render(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a page could not be written");
        String::from("This part of the page could not be written; the log says more.")
    })
}

fn range_of(uri: &Uri) -> Range {
    parameter(uri, "range").and_then(Range::parse).unwrap_or_default()
}

fn long_range_of(uri: &Uri) -> Range {
    parameter(uri, "range").and_then(Range::parse_long).unwrap_or_default()
}

/// A parameter of the query, as written; none of ours needs decoding.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v)
}

/// A parameter of the query that a form may have written, decoded; nothing when it is none.
fn text_parameter(uri: &Uri, name: &str) -> Option<String> {
    parameter(uri, name)
        .filter(|text| text.len() <= TEXT_MAX)
        .and_then(|text| decode(&text.replace('+', " ")))
}

/// A segment of a path, percent-decoded.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

/// The address of a server's page.
fn server_address(id: &ServerId) -> String {
    format!("/servers/{}/{}", words::encode(id.service.as_str()), words::encode(&id.name))
}

/// The address of a monitor's page.
fn monitor_address(id: &MonitorId) -> String {
    format!("/monitors/{}", words::encode(id.as_str()))
}

/// The address of a service's page.
fn service_address(id: &ServiceId) -> String {
    format!("/services/{}", words::encode(id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(address: &str) -> Option<Page> {
        Page::of(&address.parse().unwrap())
    }

    #[test]
    fn an_address_names_one_page() {
        let shop = ServiceId::new("shop");
        assert_eq!(page("/"), Some(Page::Overview));
        assert_eq!(page("/host?range=30d"), Some(Page::Host(Range::Month)));
        assert_eq!(page("/services/shop?range=24h"), Some(Page::Service(shop.clone(), Range::Day)));
        assert_eq!(page("/services/shop?range=1y"), Some(Page::Service(shop.clone(), Range::Year)));
        assert_eq!(page("/servers/shop/app-1"), Some(Page::Server(shop.server("app-1"), Range::Hour)));
        assert_eq!(
            page("/servers/shop/a%2Fb%20%C3%BC?range=x"),
            Some(Page::Server(shop.server("a/b ü"), Range::Hour))
        );
        assert_eq!(page("/backups"), Some(Page::Backups));
        assert_eq!(page("/drills"), Some(Page::Drills));
        assert_eq!(page("/incidents?before=7"), Some(Page::Incidents(Some(IncidentId(7)))));
        assert_eq!(page("/incidents/7"), Some(Page::Incident(IncidentId(7), false)));
        assert_eq!(page("/incidents/7?timeline=whole"), Some(Page::Incident(IncidentId(7), true)));
    }

    #[test]
    fn what_is_no_page_is_none() {
        for address in [
            "/servers/shop",
            "/servers/shop/",
            "/servers/a/b/c",
            "/incidents/x",
            "/incidents/-1",
            "/metrics",
            "/services/%ff",
            "/services/%z1",
            "/services/%",
            "//",
        ] {
            assert_eq!(page(address), None, "{address}");
        }
    }
}
