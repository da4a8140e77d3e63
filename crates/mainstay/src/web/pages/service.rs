//! The page of a service: what its visitors see, and its servers.

use askama::Template;
use mainstay_model::snapshot::{DnsSays, FrontAddress, FrontSnapshot, LimitsSnapshot, ServiceSnapshot};
use mainstay_model::{ServiceId, Snapshot};

use super::look::{self, Look, State};
use super::maintenance::{self, Inside};
use super::overview::{Figure, ServerRow, hosts};
use super::{Loaded, Part, Rendered, change, proposals, releases, render as html, service_address, traffic};
use crate::web::history::{OF_SERVICE, OF_TCP, Range};
use crate::web::problem::Problem;
use crate::web::recent::Recent;
use crate::web::words::{self, Ago};

/// A service as it is now.
pub(super) fn render(
    recent: &Recent,
    snapshot: &Snapshot,
    id: &ServiceId,
    range: Range,
    loaded: &Loaded,
) -> Result<Rendered, Problem> {
    let Some(service) = snapshot.service(id) else {
        return Err(Problem::not_found(format!("There is no service `{id}` in the config.")));
    };
    let servers = service.servers.iter().map(|server| ServerRow::of(recent, server, snapshot)).collect();
    let parts = vec![
        Part { id: "head", html: html(&HeadPart::of(service, snapshot)) },
        Part {
            id: "front",
            html: service.front.as_ref().map_or_else(String::new, |f| html(&FrontPart::of(f, snapshot))),
        },
        proposals::of_service(snapshot, id),
        Part { id: "deploy", html: releases::under_way(service, snapshot.at) },
        Part { id: "servers", html: html(&ServersPart { servers, tcp: service.tcp }) },
        Part { id: "changes", html: change::of_service(id, snapshot) },
        Part { id: "releases", html: releases::part(service, snapshot.at) },
        traffic::part(
            &service_address(id),
            range,
            loaded,
            if service.tcp { OF_TCP } else { OF_SERVICE },
            false,
        ),
    ];
    Ok(Rendered { title: format!("{id} is {} · Mainstay", service.state.as_str()), parts })
}

#[derive(Template)]
#[template(path = "service-head.html")]
struct HeadPart {
    name: String,
    state: State,
    maintenance: Option<Inside>,
    window: String,
    hosts: String,
    tcp: bool,
    open: String,
    mode: Option<&'static str>,
    rate: String,
    errors: Figure,
    p50: String,
    p99: String,
    requests: String,
    failed: Figure,
    server_errors: Figure,
    saved: String,
    limits: Option<LimitFigures>,
}

/// What the service takes on, and what it refuses.
struct LimitFigures {
    /// Requests under way of how many, and those that wait of how many.
    room: Option<(String, Figure)>,
    per_address: Option<String>,
    shed: Figure,
    limited: Figure,
}

impl HeadPart {
    fn of(service: &ServiceSnapshot, snapshot: &Snapshot) -> Self {
        let bad = |n: u64| Figure { text: words::count(n), bad: n > 0 };
        Self {
            name: service.id.to_string(),
            state: Look::of_service(service.state).state(),
            maintenance: Inside::of(service.maintenance.as_ref(), snapshot.at)
                .map(|inside| Inside { felt: Some(Look::of_service(service.felt).state()), ..inside }),
            window: maintenance::address(service.id.as_str()),
            hosts: hosts(service),
            tcp: service.tcp,
            open: words::count(service.in_flight),
            mode: look::mode(service.mode),
            rate: words::per_second(service.rates.per_second),
            errors: Figure::error_share(service.rates.error_share),
            p50: words::latency(service.rates.p50_ms),
            p99: words::latency(service.rates.p99_ms),
            requests: words::count(service.totals.requests),
            failed: bad(service.totals.failed),
            server_errors: bad(service.totals.server_errors),
            saved: words::count(service.totals.saved),
            limits: service.limits.as_ref().map(|limits| LimitFigures::of(service, limits)),
        }
    }
}

impl LimitFigures {
    fn of(service: &ServiceSnapshot, limits: &LimitsSnapshot) -> Self {
        let of = |n: u64, most: u32| format!("{} of {}", words::count(n), words::count(u64::from(most)));
        let refused = |per_second: f64, total: u64| Figure {
            text: format!("{} · {}", words::per_second(per_second), words::count(total)),
            bad: per_second > 0.0,
        };
        Self {
            room: limits.concurrent.map(|most| {
                // Those over it have been let in or turned away already, and were not yet told so when it was counted.
                let queued = service.queued.min(u64::from(limits.queue));
                let waiting = Figure { text: of(queued, limits.queue), bad: queued > 0 };
                let most = limits.places.map_or(most, |places| u32::try_from(places).unwrap_or(most));
                (of(service.in_flight, most), waiting)
            }),
            per_address: limits.per_address.clone(),
            shed: refused(limits.shed_per_second, service.totals.shed),
            limited: refused(limits.limited_per_second, service.totals.limited),
        }
    }
}

#[derive(Template)]
#[template(path = "servers-part.html")]
struct ServersPart {
    tcp: bool,
    servers: Vec<ServerRow>,
}

/// Where visitors reach the service, and what DNS tells them.
#[derive(Template)]
#[template(path = "service-front.html")]
struct FrontPart {
    addresses: Vec<FrontRow>,
    /// What live names say; `None` when no name follows the service.
    answers: Option<String>,
    dns: Vec<DnsRow>,
}

struct FrontRow {
    address: String,
    state: State,
    here: bool,
    since: Ago,
    last: String,
}

struct DnsRow {
    name: String,
    from: String,
    text: String,
    ago: Ago,
    stale: bool,
}

impl FrontPart {
    fn of(front: &FrontSnapshot, snapshot: &Snapshot) -> Self {
        let address = |known: &FrontAddress| FrontRow {
            address: known.address.to_string(),
            state: if known.good { Look::Healthy } else { Look::Down }.state(),
            here: known.own,
            since: words::held(known.since, snapshot.at),
            last: known.last.clone(),
        };
        let says = |says: &DnsSays| DnsRow {
            name: says.name.clone(),
            from: says.from.clone(),
            text: says.text.clone(),
            ago: words::ago(says.at, snapshot.at),
            stale: says.stale,
        };
        let answers = front.answers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let answers = if answers.is_empty() { "not known yet".to_owned() } else { answers };
        Self {
            addresses: front.addresses.iter().map(address).collect(),
            answers: front.live.then_some(answers),
            dns: front.dns.iter().map(says).collect(),
        }
    }
}
