//! The four states, each with a shape and a word of its own beside its colour, and what else a server is called.

use std::fmt;

use askama::filters::HtmlSafe;
use mainstay_model::incident::{IncidentState, Severity};
use mainstay_model::input::AdminState;
use mainstay_model::policy::Role;
use mainstay_model::routing::RoutingMode;
use mainstay_model::snapshot::{Health, ServerSnapshot, ServiceState};

/// How something looks: its class in the stylesheet and its symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    Healthy,
    Maintenance,
    Unknown,
    Degraded,
    Down,
}

impl Look {
    pub(super) fn of_health(health: Health) -> Self {
        match health {
            Health::Unknown => Look::Unknown,
            Health::Healthy => Look::Healthy,
            Health::Degraded => Look::Degraded,
            Health::Unhealthy => Look::Down,
        }
    }

    pub(super) fn of_service(state: ServiceState) -> Self {
        match state {
            ServiceState::Unknown => Look::Unknown,
            ServiceState::Healthy => Look::Healthy,
            ServiceState::Degraded => Look::Degraded,
            ServiceState::Down => Look::Down,
            ServiceState::Maintenance => Look::Maintenance,
        }
    }

    /// How an incident looks: by what visitors feel while it lasts, as healthy once it is over.
    pub(super) fn of_incident(state: IncidentState, severity: Severity) -> Self {
        match (state, severity) {
            (IncidentState::Resolved, _) => Look::Healthy,
            (_, Severity::Down) => Look::Down,
            (_, Severity::Degraded | Severity::Partial) => Look::Degraded,
        }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            Look::Healthy => "healthy",
            Look::Maintenance => "maintenance",
            Look::Unknown => "unknown",
            Look::Degraded => "degraded",
            Look::Down => "down",
        }
    }

    /// The shape alone, where the word stands beside it.
    pub(super) fn mark(self) -> Mark {
        Mark(self)
    }

    /// Shape and word.
    pub(super) fn state(self) -> State {
        State(self, self.class())
    }

    /// Shape and a word of its own.
    pub(super) fn named(self, word: &'static str) -> State {
        State(self, word)
    }
}

/// A state's shape.
pub(super) struct Mark(Look);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.0.class();
        write!(f, "<svg class=\"mark {class}\" aria-hidden=\"true\"><use href=\"#{class}\"/></svg>")
    }
}

impl HtmlSafe for Mark {}

/// A state's shape and word.
pub(super) struct State(Look, &'static str);

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.0.class();
        let word = self.1;
        write!(f, "<span class=\"state {class}\" data-state=\"{word}\">{}{word}</span>", Mark(self.0))
    }
}

impl HtmlSafe for State {}

/// What stands beside a server's state when it is not as usual.
pub(super) fn notes(server: &ServerSnapshot) -> Vec<&'static str> {
    let mut notes = Vec::new();
    match server.admin {
        AdminState::Ready => {}
        AdminState::Draining => notes.push("draining"),
        AdminState::Maintenance => notes.push("maintenance"),
    }
    if server.maintenance.is_some() {
        notes.push("in maintenance");
    }
    if server.role == Role::Backup {
        notes.push("backup");
    }
    if let Some(note) = server.note {
        notes.push(note.as_str());
        return notes;
    }
    if server.in_rotation && server.share < 1.0 {
        notes.push("slow start");
    }
    if !server.in_rotation && server.admin == AdminState::Ready && server.role == Role::Primary {
        notes.push("out of rotation");
    }
    notes
}

/// How a service is carried, when it is not as usual.
pub(super) fn mode(mode: RoutingMode) -> Option<&'static str> {
    match mode {
        RoutingMode::Normal => None,
        RoutingMode::Backup => Some("backup servers carry traffic: too few primaries are healthy"),
        RoutingMode::Panic => Some("too few healthy servers: traffic goes to all, health notwithstanding"),
        RoutingMode::Nobody => Some("no server to send to: visitors get the 503 page"),
    }
}
