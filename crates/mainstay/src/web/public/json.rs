//! The page for programs, in the shape of Statuspage's `/api/v2/summary.json`, which many programs read; the days are beside it.

use mainstay_model::Wall;
use mainstay_model::incident::Severity;
use mainstay_model::window::Occurrence;
use serde_json::{Value, json};

use super::days::Day;
use super::page::incident_address;
use super::view::{ComponentView, IncidentView, MaintenanceView, State, View};
use super::zone;
use crate::web::words;

/// Incidents that are over and still told, at most.
const PAST_MAX: usize = 50;

/// All of it.
pub(super) fn summary(view: &View) -> String {
    let (current, over): (Vec<_>, Vec<_>) = view.incidents.iter().partition(|incident| incident.lasts());
    let incidents = |list: &[&IncidentView]| list.iter().map(|i| incident(view, i)).collect::<Vec<_>>();
    let body = json!({
        "page": {
            "id": "mainstay", "name": view.title, "url": view.url, "time_zone": time_zone(view), "updated_at": time(view.at),
        },
        "status": { "indicator": indicator(view.overall), "description": view.sentence },
        "components": view.components.iter().enumerate().map(|(place, c)| component(place, c, view)).collect::<Vec<_>>(),
        "incidents": incidents(&current),
        "past_incidents": incidents(&over[..over.len().min(PAST_MAX)]),
        "scheduled_maintenances": view.maintenance.iter().map(|window| maintenance(view, window)).collect::<Vec<_>>(),
    });
    format!("{body}\n")
}

fn component(place: usize, component: &ComponentView, view: &View) -> Value {
    json!({
        "id": component.id,
        "name": component.name,
        "description": component.about,
        "status": match component.state {
            State::Works => "operational",
            State::SomeFail => "partial_outage",
            State::Down => "major_outage",
            State::Maintenance => "under_maintenance",
            State::Unsure => "unknown",
        },
        "words": component.state.words(),
        "position": place + 1,
        "updated_at": time(view.at),
        "availability": component.days.availability(),
        "days": component.days.0.iter().map(|each| day(each, view)).collect::<Vec<_>>(),
    })
}

/// As Statuspage names it.
fn time_zone(view: &View) -> &str {
    match zone::name(&view.zone) {
        "UTC" => "Etc/UTC",
        name => name,
    }
}

fn day(day: &Day, view: &View) -> Value {
    json!({
        "date": zone::iso_date(day.start, &view.zone), "begins_at": time(day.start),
        "availability": day.availability, "watched": day.watched,
        "maintenance_seconds": day.excused_ms / 1000,
    })
}

fn maintenance(view: &View, window: &MaintenanceView) -> Value {
    let Occurrence { from, to } = window.time;
    let components: Vec<Value> =
        window.components.iter().map(|(id, name)| json!({ "id": id, "name": name })).collect();
    json!({
        "id": format!("{}-{}", window.id, from.0 / 1000),
        "name": window.title,
        "status": if window.open { "in_progress" } else { "scheduled" },
        "impact": "maintenance",
        "scheduled_for": time(from),
        "scheduled_until": time(to),
        "started_at": window.open.then(|| time(from)),
        "updated_at": time(view.at),
        "components": components,
        "incident_updates": [],
    })
}

fn incident(view: &View, incident: &IncidentView) -> Value {
    let id = incident.id.to_string();
    let updates: Vec<Value> = incident
        .updates
        .iter()
        .enumerate()
        .rev()
        .map(|(place, update)| {
            let at = time(update.at);
            json!({
                "id": format!("{id}-{}", place + 1), "incident_id": id, "status": update.state.as_str(), "body": update.text,
                "created_at": at, "updated_at": at, "display_at": at,
            })
        })
        .collect();
    json!({
        "id": id,
        "name": incident.title,
        "status": incident.state.as_str(),
        "impact": match incident.severity {
            Severity::Degraded => "none",
            Severity::Partial => "minor",
            Severity::Down => "critical",
        },
        "created_at": time(incident.began),
        "started_at": time(incident.began),
        "updated_at": time(incident.updated()),
        "resolved_at": incident.ended.map(time),
        "shortlink": view.url.as_ref().map(|url| format!("{url}{}", incident_address(incident, &view.zone))),
        "components": [{ "id": incident.component.0, "name": incident.component.1 }],
        "incident_updates": updates,
    })
}

fn indicator(state: State) -> &'static str {
    match state {
        State::Works => "none",
        State::SomeFail => "major",
        State::Down => "critical",
        State::Maintenance => "maintenance",
        State::Unsure => "unknown",
    }
}

fn time(at: Wall) -> String {
    words::rfc3339(at)
}
