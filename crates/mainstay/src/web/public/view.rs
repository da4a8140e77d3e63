//! The gate: what of the judgement and of the record may be said in public, in a visitor's words. Titles, servers, causes and
//! timelines stay behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use mainstay_model::incident::{Incident, IncidentState, Scope, Severity};
use mainstay_model::publication::{PublicState, Publication};
use mainstay_model::snapshot::{ServiceSnapshot, ServiceState};
use mainstay_model::window::Occurrence;
use mainstay_model::{IncidentId, ServiceId, Snapshot, Wall};

use super::days::Days;
use super::zone;
use crate::config::{Component, StatusConfig, Support};

/// A window is announced so long before it opens.
const ANNOUNCED_MS: i64 = 7 * 86_400_000;
/// More windows than these are not for the public.
const MAINTENANCE_MAX: usize = 10;

/// How a component is for its visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Works,
    SomeFail,
    Down,
    Maintenance,
    Unsure,
}

impl State {
    /// In a visitor's words.
    pub(super) fn words(self) -> &'static str {
        match self {
            State::Works => "Works",
            State::SomeFail => "Some requests fail",
            State::Down => "Not available",
            State::Maintenance => "Under maintenance",
            State::Unsure => "We are not sure",
        }
    }

    /// The name of its style and of its shape.
    pub(super) fn class(self) -> &'static str {
        match self {
            State::Works => "works",
            State::SomeFail => "some",
            State::Down => "down",
            State::Maintenance => "maint",
            State::Unsure => "unsure",
        }
    }
}

/// All that is said in public.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) title: String,
    /// The page's own address, if the config has it.
    pub(super) url: Option<String>,
    pub(super) support: Option<Support>,
    /// When it was made.
    pub(super) at: Wall,
    /// In which days and times are told.
    pub(super) zone: TimeZone,
    pub(super) overall: State,
    /// How things are, in a sentence without a full stop.
    pub(super) sentence: String,
    pub(super) components: Vec<ComponentView>,
    /// Those that are open, then those that come soon, the next first.
    pub(super) maintenance: Vec<MaintenanceView>,
    /// Newest first, those that last and those that are over.
    pub(super) incidents: Vec<IncidentView>,
    /// What was before could not be read.
    pub(super) history_missing: bool,
}

#[derive(Debug, Clone)]
pub(super) struct ComponentView {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) about: Option<String>,
    pub(super) state: State,
    pub(super) days: Days,
}

/// A maintenance window as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MaintenanceView {
    /// Its name, which stays the same from time to time.
    pub(super) id: String,
    pub(super) title: String,
    /// The components that it is about: their addresses and their names.
    pub(super) components: Vec<(String, String)>,
    pub(super) time: Occurrence,
    /// It is open now.
    pub(super) open: bool,
    /// The zone in which its times were written; empty: UTC.
    pub(super) zone: String,
}

/// An incident as it is told.
#[derive(Debug, Clone)]
pub(super) struct IncidentView {
    pub(super) id: IncidentId,
    pub(super) title: String,
    /// The component that it hurts: its address and its name.
    pub(super) component: (String, String),
    pub(super) severity: Severity,
    pub(super) state: PublicState,
    pub(super) began: Wall,
    /// When everything was answered again, once it is over.
    pub(super) ended: Option<Wall>,
    /// Oldest first.
    pub(super) updates: Vec<UpdateView>,
}

#[derive(Debug, Clone)]
pub(super) struct UpdateView {
    pub(super) at: Wall,
    pub(super) state: PublicState,
    pub(super) text: String,
}

/// Incidents with what people told of them.
pub(super) type Told = (Incident, Option<Publication>);

/// A year and a month, in the page's zone.
pub(super) type Month = (i16, i8);

impl View {
    /// What is said when the judgement is this. `past`: what the record knows of incidents; `None`: it cannot be read.
    /// `doubtful`: the judgement is too old to go by.
    pub(super) fn of(
        config: &StatusConfig,
        snapshot: &Snapshot,
        past: Option<&[Told]>,
        days: BTreeMap<String, Days>,
        at: Wall,
        doubtful: bool,
    ) -> Self {
        let states = states(config, snapshot, doubtful);
        let mut days = days;
        let components: Vec<ComponentView> = config
            .components
            .iter()
            .zip(&states)
            .map(|(component, &state)| ComponentView {
                id: component.id.clone(),
                name: component.name.clone(),
                about: component.about.clone(),
                state,
                days: days.remove(&component.id).unwrap_or_else(|| Days::unknown(at, &config.zone)),
            })
            .collect();
        let history_missing = past.is_none();
        Self {
            title: config.title.clone(),
            url: config.url.clone(),
            support: config.support.clone(),
            at,
            zone: config.zone.clone(),
            overall: overall(&states),
            sentence: sentence(&components),
            components,
            maintenance: maintenance(config, snapshot),
            incidents: incidents(config, snapshot, past.unwrap_or_default()),
            history_missing,
        }
    }

    /// The months in which an incident began, newest first.
    pub(super) fn months(&self) -> Vec<Month> {
        let months: BTreeSet<Month> =
            self.incidents.iter().map(|incident| zone::month_of(incident.began, &self.zone)).collect();
        months.into_iter().rev().collect()
    }
}

impl IncidentView {
    /// It is not over.
    pub(super) fn lasts(&self) -> bool {
        self.ended.is_none()
    }

    /// When something was last told of it.
    pub(super) fn updated(&self) -> Wall {
        let last = self.updates.last().map(|update| update.at);
        [last, self.ended].into_iter().flatten().fold(self.began, Wall::max)
    }
}

/// How each component is, in the config's order.
pub(super) fn states(config: &StatusConfig, snapshot: &Snapshot, doubtful: bool) -> Vec<State> {
    let of = |component: &Component| match doubtful {
        true => State::Unsure,
        false => component_state(component, snapshot),
    };
    config.components.iter().map(of).collect()
}

fn component_state(component: &Component, snapshot: &Snapshot) -> State {
    let states: Vec<State> = component
        .services
        .iter()
        .map(|id| {
            let Some(service) = snapshot.service(id) else { return State::Unsure };
            // A window that is not for the public hides nothing from it.
            let hidden = service.maintenance.is_some() && !is_publicly_inside(service, snapshot);
            let state = if hidden { service.felt } else { service.state };
            match state {
                ServiceState::Maintenance => State::Maintenance,
                ServiceState::Down => State::Down,
                ServiceState::Unknown => State::Unsure,
                ServiceState::Healthy => State::Works,
                // A server less is nobody's business until somebody's request fails.
                ServiceState::Degraded if is_hurting(service, snapshot) => State::SomeFail,
                ServiceState::Degraded => State::Works,
            }
        })
        .collect();
    overall(&states)
}

/// It is in a maintenance window of which visitors are told.
fn is_publicly_inside(service: &ServiceSnapshot, snapshot: &Snapshot) -> bool {
    let Some(inside) = &service.maintenance else { return false };
    snapshot.windows.iter().any(|window| {
        let mine = window.policy.covers.service(&service.id) || window.id == inside.window;
        window.open.is_some() && window.policy.public && mine
    })
}

/// The windows that concern a component and that visitors are told of.
pub(super) fn maintenance(config: &StatusConfig, snapshot: &Snapshot) -> Vec<MaintenanceView> {
    let mut views = Vec::new();
    for window in snapshot.windows.iter().filter(|window| window.policy.public) {
        let covers = &window.policy.covers;
        // A single server of several is nobody's business.
        let covered = |id: &ServiceId| {
            let servers = || snapshot.service(id).map_or(&[][..], |service| &service.servers);
            covers.service(id)
                || (!servers().is_empty() && servers().iter().all(|server| covers.server(&server.id)))
        };
        let concerned = config.components.iter().filter(|component| component.services.iter().any(covered));
        let components: Vec<(String, String)> =
            concerned.map(|component| (component.id.clone(), component.name.clone())).collect();
        if components.is_empty() {
            continue;
        }
        let soon = window.next.first().filter(|time| time.from.ms_since(snapshot.at) < ANNOUNCED_MS);
        let times = window.open.map(|time| (time, true)).into_iter().chain(soon.map(|time| (*time, false)));
        views.extend(times.map(|(time, open)| MaintenanceView {
            id: window.id.to_string(),
            title: window.policy.title.clone(),
            components: components.clone(),
            time,
            open,
            zone: window.policy.zone.clone(),
        }));
    }
    views.sort_by_key(|view| (!view.open, view.time, view.id.clone()));
    views.truncate(MAINTENANCE_MAX);
    views
}

/// Requests fail now, and it is no odd one: an incident says so too.
fn is_hurting(service: &ServiceSnapshot, snapshot: &Snapshot) -> bool {
    let told = snapshot.incidents.iter().any(|incident| {
        incident.state != IncidentState::Resolved
            && incident.severity >= Severity::Partial
            && incident.drill.is_none()
            && matches!(&incident.scope, Scope::Service(id) if *id == service.id)
    });
    let turned_away = service.limits.as_ref().is_some_and(|limits| limits.shed_per_second > 0.0);
    told && (turned_away || service.rates.error_share.is_some_and(|share| share > 0.0))
}

/// Several as one: what fails in part fails some requests.
fn overall(states: &[State]) -> State {
    let any = |state| states.contains(&state);
    if !states.is_empty() && states.iter().all(|state| *state == State::Down) {
        State::Down
    } else if any(State::Down) || any(State::SomeFail) {
        State::SomeFail
    } else if any(State::Maintenance) {
        State::Maintenance
    } else if any(State::Unsure) || states.is_empty() {
        State::Unsure
    } else {
        State::Works
    }
}

fn sentence(components: &[ComponentView]) -> String {
    let those = |state| -> Vec<&str> {
        components.iter().filter(|c| c.state == state).map(|c| c.name.as_str()).collect()
    };
    let (down, some, unsure) = (those(State::Down), those(State::SomeFail), those(State::Unsure));
    if down.is_empty() && some.is_empty() {
        match those(State::Maintenance).as_slice() {
            [] => {}
            all if all.len() == components.len() => {
                return "We are working on everything, as planned".to_owned();
            }
            [one] => return format!("{one} is under maintenance, as planned"),
            parts => return format!("{} parts are under maintenance, as planned", parts.len()),
        }
    }
    match (down.as_slice(), some.as_slice(), unsure.as_slice()) {
        ([], [], []) => "Everything works".to_owned(),
        ([], [], unsure) if unsure.len() == components.len() => "We are not sure how things are".to_owned(),
        ([], [], [one]) => format!("We are not sure about {one}"),
        ([], [], _) => "We are not sure about some parts".to_owned(),
        ([], [one], _) => format!("Some requests to {one} fail"),
        ([], some, _) => format!("Some requests to {} parts fail", some.len()),
        ([one], ..) => format!("{one} is not available"),
        (down, ..) if down.len() == components.len() => "Nothing is available".to_owned(),
        (down, ..) => format!("{} of {} parts are not available", down.len(), components.len()),
    }
}

/// What the record knows, and over it what is fresher in the judgement; newest first.
fn incidents(config: &StatusConfig, snapshot: &Snapshot, past: &[Told]) -> Vec<IncidentView> {
    let mut all: BTreeMap<IncidentId, (&Incident, Option<&Publication>)> =
        past.iter().map(|(incident, told)| (incident.id, (incident, told.as_ref()))).collect();
    for incident in &snapshot.incidents {
        let incident: &Arc<Incident> = incident;
        all.entry(incident.id).or_insert((incident, None)).0 = incident;
    }
    let told = |id: &IncidentId| snapshot.publications.get(id).map(|told| &**told);
    let mut views: Vec<IncidentView> = all
        .iter()
        .filter_map(|(id, (incident, stored))| incident_view(config, incident, told(id).or(*stored)))
        .collect();
    views.sort_by_key(|view| std::cmp::Reverse((view.began, view.id)));
    views
}

/// The incident as it is told; `None` when it is not.
fn incident_view(
    config: &StatusConfig,
    incident: &Incident,
    told: Option<&Publication>,
) -> Option<IncidentView> {
    let component = component_of(config, incident)?;
    if !is_shown(incident, told) {
        return None;
    }
    let updates: Vec<UpdateView> = told
        .map_or(&[][..], |told| &told.updates)
        .iter()
        .map(|update| UpdateView { at: update.at, state: update.state, text: update.text.clone() })
        .collect();
    let over = incident.state == IncidentState::Resolved;
    let ended = over.then(|| incident.recovered_at.or(incident.resolved_at).unwrap_or(incident.began_at));
    Some(IncidentView {
        id: incident.id,
        title: public_title(config, incident, told)?,
        component: (component.id.clone(), component.name.clone()),
        severity: incident.severity,
        state: match (over, updates.last()) {
            (true, _) => PublicState::Resolved,
            (false, Some(update)) => update.state,
            (false, None) if incident.recovered_at.is_some() => PublicState::Monitoring,
            (false, None) => PublicState::Investigating,
        },
        began: incident.began_at,
        ended,
        updates,
    })
}

/// The component of the page that an incident is about, if there is one.
pub(in crate::web) fn component_of<'a>(
    config: &'a StatusConfig,
    incident: &Incident,
) -> Option<&'a Component> {
    let Scope::Service(service) = &incident.scope else { return None };
    config.components.iter().find(|component| component.services.contains(service))
}

/// Whether the page shows an incident: as people want it, otherwise if it hurts visitors.
pub(in crate::web) fn is_shown(incident: &Incident, told: Option<&Publication>) -> bool {
    let hurts = incident.severity >= Severity::Partial && incident.drill.is_none();
    told.and_then(|told| told.shown).unwrap_or(hurts)
}

/// What the public is told that it is: what people call it, or plain words that name nothing inside.
pub(in crate::web) fn public_title(
    config: &StatusConfig,
    incident: &Incident,
    told: Option<&Publication>,
) -> Option<String> {
    if let Some(title) = told.and_then(|told| told.title.clone()) {
        return Some(title);
    }
    let name = &component_of(config, incident)?.name;
    let now = incident.state != IncidentState::Resolved && incident.recovered_at.is_none();
    Some(match (incident.severity, now) {
        (Severity::Down, true) => format!("{name} is not available"),
        (Severity::Down, false) => format!("{name} was not available"),
        (Severity::Partial, true) => format!("Some requests to {name} fail"),
        (Severity::Partial, false) => format!("Some requests to {name} failed"),
        (Severity::Degraded, true) => format!("{name} works with less in reserve"),
        (Severity::Degraded, false) => format!("{name} worked with less in reserve"),
    })
}
