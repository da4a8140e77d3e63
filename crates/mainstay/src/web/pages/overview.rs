//! The overview: how things are, every service with its servers, and the incidents.

use askama::Template;
use mainstay_model::Snapshot;
use mainstay_model::incident::{Incident, IncidentState};
use mainstay_model::snapshot::{Health, ServerSnapshot, ServiceSnapshot};

use super::headline::headline;
use super::incident::IncidentRow;
use super::look::{self, Look, Mark, State};
use super::{Part, Rendered, render as html, server_address, service_address};
use super::{host, maintenance, monitors, proposals};
use crate::web::recent::Recent;
use crate::web::words::{self, Ago};

/// The overview as it is now.
pub(super) fn render(recent: &Recent, snapshot: &Snapshot) -> Rendered {
    let told = headline(snapshot);
    let services: Vec<_> =
        snapshot.services.iter().map(|service| ServiceCard::of(recent, service, snapshot)).collect();
    let of = |open: bool| {
        let incidents =
            snapshot.incidents.iter().filter(move |i| (i.state != IncidentState::Resolved) == open);
        incidents.map(|incident: &std::sync::Arc<Incident>| IncidentRow::of(incident, snapshot.at)).collect()
    };
    let (open, over): (Vec<_>, Vec<_>) = (of(true), of(false));
    let others = !open.is_empty();
    let title = format!("{} · Mainstay", told.sentence);
    let own_trouble = own_trouble(snapshot);
    let parts = vec![
        Part {
            id: "headline",
            html: html(&HeadlinePart {
                mark: told.look.mark(),
                class: told.look.class(),
                sentence: told.sentence,
                note: told.note,
                own_trouble,
            }),
        },
        Part {
            id: "incidents-open",
            html: html(&IncidentsPart { heading: "Open incidents", others: false, rows: open, open: true }),
        },
        proposals::waiting(snapshot),
        maintenance::line(snapshot),
        Part { id: "services", html: html(&ServicesPart { services }) },
        monitors::line(snapshot),
        host::line(snapshot),
        Part {
            id: "incidents-recent",
            html: html(&IncidentsPart { heading: "Last incidents", others, rows: over, open: false }),
        },
    ];
    Rendered { title, parts }
}

/// What is wrong with Mainstay itself: part and words.
pub(super) fn own_trouble(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    snapshot.own_trouble.iter().map(|(part, text)| (part.as_str(), text.clone())).collect()
}

#[derive(Template)]
#[template(path = "headline.html")]
struct HeadlinePart {
    mark: Mark,
    class: &'static str,
    sentence: String,
    note: Option<String>,
    own_trouble: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "incidents-part.html")]
struct IncidentsPart {
    heading: &'static str,
    rows: Vec<IncidentRow>,
    /// There are some that are not over.
    others: bool,
    open: bool,
}

#[derive(Template)]
#[template(path = "services-part.html")]
struct ServicesPart {
    services: Vec<ServiceCard>,
}

/// A service with its servers.
struct ServiceCard {
    name: String,
    address: String,
    state: State,
    class: &'static str,
    hosts: String,
    tcp: bool,
    open: String,
    mode: Option<&'static str>,
    rate: String,
    errors: Figure,
    p50: String,
    p99: String,
    saved: String,
    spark: String,
    servers: Vec<ServerRow>,
}

/// A figure that may be bad.
pub(super) struct Figure {
    pub(super) text: String,
    pub(super) bad: bool,
}

impl Figure {
    /// A share of requests that failed.
    pub(super) fn error_share(share: Option<f64>) -> Self {
        Self { text: words::share(share), bad: share.is_some_and(|share| share > 0.0) }
    }
}

impl ServiceCard {
    fn of(recent: &Recent, service: &ServiceSnapshot, snapshot: &Snapshot) -> Self {
        let look = Look::of_service(service.state);
        Self {
            name: service.id.to_string(),
            address: service_address(&service.id),
            state: look.state(),
            class: look.class(),
            hosts: hosts(service),
            tcp: service.tcp,
            open: words::count(service.in_flight),
            mode: look::mode(service.mode),
            rate: words::per_second(service.rates.per_second),
            errors: Figure::error_share(service.rates.error_share),
            p50: words::latency(service.rates.p50_ms),
            p99: words::latency(service.rates.p99_ms),
            saved: words::count(service.totals.saved),
            spark: recent.spark(service.id.as_str()),
            servers: service.servers.iter().map(|server| ServerRow::of(recent, server, snapshot)).collect(),
        }
    }
}

/// The host names that lead to a service.
pub(super) fn hosts(service: &ServiceSnapshot) -> String {
    if service.tcp {
        return format!(
            "TCP{}{}",
            if service.hosts.is_empty() { "" } else { ": " },
            service.hosts.join(", ")
        );
    }
    if service.hosts.is_empty() { "every host".to_owned() } else { service.hosts.join(", ") }
}

/// A server in a table.
pub(super) struct ServerRow {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) state: State,
    pub(super) class: &'static str,
    pub(super) since: Ago,
    pub(super) notes: Vec<&'static str>,
    /// In percent, of a full share.
    pub(super) share: u32,
    pub(super) rate: String,
    pub(super) errors: Figure,
    pub(super) p50: String,
    pub(super) p99: String,
    pub(super) in_flight: String,
    /// How far a drain has come.
    pub(super) drain: Option<String>,
    pub(super) probe: Option<Probe>,
    /// Why it is not healthy.
    pub(super) rule: Option<String>,
    pub(super) spark: String,
}

/// The last probe of a server.
pub(super) struct Probe {
    pub(super) text: String,
    pub(super) good: bool,
    pub(super) ago: Ago,
}

impl ServerRow {
    pub(super) fn of(recent: &Recent, server: &ServerSnapshot, snapshot: &Snapshot) -> Self {
        let look = Look::of_health(server.health);
        let well = server.health == Health::Healthy || server.why.rule.is_empty();
        Self {
            name: server.id.name.to_string(),
            address: server_address(&server.id),
            state: look.state(),
            class: look.class(),
            since: words::held(server.health_since, snapshot.at),
            notes: look::notes(server),
            share: if server.in_rotation { (server.share.clamp(0.0, 1.0) * 100.0).round() as u32 } else { 0 },
            rate: words::per_second(server.rates.per_second),
            errors: Figure::error_share(server.rates.error_share),
            p50: words::latency(server.rates.p50_ms),
            p99: words::latency(server.rates.p99_ms),
            in_flight: words::count(server.in_flight),
            drain: server.drain_progress(snapshot.at),
            probe: server.last_probe.as_ref().map(|probe| Probe {
                text: probe.text.clone(),
                good: probe.good,
                ago: words::ago(probe.at, snapshot.at),
            }),
            rule: (!well).then(|| server.why.rule.clone()),
            spark: recent.spark(&server.id.to_string()),
        }
    }
}
