//! What of a service's page is about its releases, its instances and its switch, and the buttons there.

use askama::Template;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::lead::LeadSnapshot;
use mainstay_model::release::{
    DeployPhase, DeploymentSnapshot, Figures, ReleaseOrder, ReleaseState, ReleasesSnapshot,
};
use mainstay_model::scale::ScaleSnapshot;
use mainstay_model::snapshot::ServiceSnapshot;
use mainstay_model::substitute::Substitute;
use mainstay_model::switch::{SwitchRun, SwitchSnapshot, SwitchStep};
use mainstay_model::{ServiceId, Wall};
use serde::Deserialize;

use super::overview::Figure;
use super::{render as html, service_address};
use crate::web::App;
use crate::web::api::{releases, switch};
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// The deploy or roll-back under way; empty when there is none.
pub(super) fn under_way(service: &ServiceSnapshot, now: Wall) -> String {
    let Some(releases) = &service.releases else { return String::new() };
    let Some(deployment) = &releases.deployment else { return String::new() };
    html(&DeploymentPart {
        address: service_address(&service.id),
        d: Deployment::of(deployment, releases, now),
    })
}

/// The part, empty when there is nothing to say of them.
pub(super) fn part(service: &ServiceSnapshot, now: Wall) -> String {
    let nothing = service.releases.is_none() && service.scale.is_none() && service.switch.is_none();
    if nothing && service.substitutes.is_empty() {
        return String::new();
    }
    html(&ReleasesPart {
        name: service.id.to_string(),
        address: service_address(&service.id),
        releases: service.releases.as_ref().map(|r| Releases::of(r, now)),
        scale: service.scale.as_ref().map(|s| Scale::of(s, now)),
        substitutes: service.substitutes.iter().map(|one| SubstituteRow::of(one, now)).collect(),
        switch: service.switch.as_ref().map(|s| Switch::of(s, service.lead.as_ref(), now)),
    })
}

#[derive(Template)]
#[template(path = "service-deployment.html")]
struct DeploymentPart {
    address: String,
    d: Deployment,
}

#[derive(Template)]
#[template(path = "service-releases.html")]
struct ReleasesPart {
    name: String,
    address: String,
    releases: Option<Releases>,
    scale: Option<Scale>,
    substitutes: Vec<SubstituteRow>,
    switch: Option<Switch>,
}

struct Releases {
    busy: bool,
    rows: Vec<Row>,
    previous: Option<u64>,
}

struct Row {
    number: u64,
    state: &'static str,
    bad: bool,
    path: String,
    by: String,
    at: Ago,
    why: String,
}

struct Deployment {
    title: String,
    since: Ago,
    text: String,
    compared: Option<Vec<Compared>>,
    harm: u32,
    can_promote: bool,
    can_end: bool,
}

/// What one of the two releases did in the trial.
struct Compared {
    name: String,
    requests: String,
    failed: Figure,
    slow: Figure,
    p50: String,
    p99: String,
}

impl Releases {
    fn of(releases: &ReleasesSnapshot, now: Wall) -> Self {
        let rows = releases.releases.iter().map(|release| Row {
            number: release.number,
            state: match release.state {
                ReleaseState::RolledBack => "rolled back",
                other => other.as_str(),
            },
            bad: matches!(release.state, ReleaseState::RolledBack | ReleaseState::Failed),
            path: release.path.clone(),
            by: release.by.clone(),
            at: words::ago(release.at, now),
            why: release.why.clone(),
        });
        Self {
            busy: releases.deployment.is_some(),
            rows: rows.collect(),
            previous: releases.previous().map(|release| release.number),
        }
    }
}

impl Deployment {
    fn of(deployment: &DeploymentSnapshot, releases: &ReleasesSnapshot, now: Wall) -> Self {
        let number = deployment.release;
        let title = match (deployment.back, deployment.phase) {
            (true, _) => format!("Going back to release {number}"),
            (false, DeployPhase::Starting) => format!("Release {number} is being started"),
            (false, DeployPhase::Trial) => {
                format!("Release {number} is on trial with {:.0} % of the requests", deployment.share * 100.0)
            }
            (false, DeployPhase::Replacing) => format!("Release {number} takes over"),
            (false, DeployPhase::Withdrawing) => {
                format!("The instance of release {number} beside the servers is being stopped")
            }
        };
        let compared = || {
            vec![
                Compared::of(format!("{number}, on trial"), &deployment.new),
                Compared::of(format!("{}, current", deployment.from), &deployment.old),
            ]
        };
        Self {
            title,
            since: words::held(deployment.since, now),
            text: deployment.text.clone(),
            compared: (!deployment.back && deployment.phase == DeployPhase::Trial).then(compared),
            harm: (deployment.harm.clamp(0.0, 1.0) * 100.0).round() as u32,
            can_promote: releases.may(&ReleaseOrder::Promote, None, None).is_ok(),
            can_end: releases.may(&ReleaseOrder::RollBack, None, None).is_ok(),
        }
    }
}

impl Compared {
    fn of(name: String, figures: &Figures) -> Self {
        let bad = |n: u64| Figure { text: words::count(n), bad: n > 0 };
        Self {
            name,
            requests: words::count(figures.requests),
            failed: bad(figures.failed),
            slow: Figure { text: words::count(figures.slow), bad: false },
            p50: words::latency(figures.p50_ms),
            p99: words::latency(figures.p99_ms),
        }
    }
}

struct Scale {
    template: String,
    instances: u32,
    min: u32,
    max: u32,
    concurrency: u32,
    under_way: String,
    changes: Vec<(Ago, String)>,
}

impl Scale {
    fn of(scale: &ScaleSnapshot, now: Wall) -> Self {
        Self {
            template: scale.template.clone(),
            instances: scale.instances,
            min: scale.min,
            max: scale.max,
            concurrency: scale.concurrency,
            under_way: scale.under_way.map_or_else(|| "not known".to_owned(), |n| format!("{n:.0}")),
            changes: scale.changes.iter().map(|c| (words::ago(c.at, now), c.text.clone())).collect(),
        }
    }
}

/// A server whose place another instance has taken, or was to take.
struct SubstituteRow {
    id: String,
    place: String,
    stage: String,
    by: String,
    made: String,
    at: Ago,
    why: String,
    bad: bool,
}

impl SubstituteRow {
    fn of(one: &Substitute, now: Wall) -> Self {
        Self {
            id: one.id.name.to_string(),
            place: one.server.name.to_string(),
            stage: one.stage.in_words().to_owned(),
            by: one.by.clone(),
            made: one
                .made
                .as_ref()
                .map_or_else(String::new, |made| format!("{} at {}", made.id, made.address)),
            at: words::ago(one.at, now),
            why: one.error.clone().unwrap_or_else(|| one.reason.clone()),
            bad: one.error.is_some(),
        }
    }
}

struct Switch {
    title: &'static str,
    /// Who takes the writes, where servers keep state, and what is wrong with that.
    lead: Option<(String, Option<String>)>,
    /// How the last run went, when, whether it failed, and what it wrote.
    last: Option<(String, Ago, bool, Vec<String>)>,
    running: bool,
    wanted: bool,
    can_go_back: bool,
    /// The fence failed: a person may vouch that nothing writes on the old side.
    may_vouch: bool,
}

impl Switch {
    fn of(switch: &SwitchSnapshot, lead: Option<&LeadSnapshot>, now: Wall) -> Self {
        let failed =
            switch.last.as_ref().and_then(|run| run.end.as_ref()).is_some_and(|end| end.error.is_some());
        let title = match switch {
            switch if lead.is_some() => Self::title_with_lead(switch, failed),
            switch if switch.runs(SwitchStep::Fence) => "The fence runs now; the command comes after it",
            switch if switch.is_running() => "The command runs now",
            SwitchSnapshot { wanted: true, .. } => "Every primary is down: decide whether to switch",
            _ if failed => "The last run failed, and Mainstay does not repeat it in the same incident",
            SwitchSnapshot { switched: true, .. } => "Switched over; back only when a person says so",
            SwitchSnapshot { automatic: true, .. } => "Run by Mainstay itself when every primary is down",
            _ => "Run only when a person says so",
        };
        let last = switch.last.as_ref().map(|run| {
            let what = if run.back { "switching back" } else { "switching" };
            match &run.end {
                None => {
                    let text = format!("{what}, wanted by {}: {}", run.by, run.reason);
                    (text, words::held(run.at, now), false, Vec::new())
                }
                Some(end) => {
                    let how = end.error.as_ref().map_or("carried out".to_owned(), |e| format!("failed: {e}"));
                    let text = format!("{what}, wanted by {} ({}), {how}", run.by, run.reason);
                    (text, words::ago(end.at, now), end.error.is_some(), end.output.clone())
                }
            }
        });
        let unfenced = |run: &SwitchRun| run.end.is_some() && run.step() == SwitchStep::Fence;
        let lead = lead.map(|lead| {
            let text = match (&lead.server, lead.since) {
                (Some(server), Some(since)) => {
                    format!("{} takes the writes ({})", server.name, words::held(since, now))
                }
                _ => "Nobody is known to be the primary".to_owned(),
            };
            (text, lead.trouble.clone())
        });
        Self {
            title,
            lead,
            last,
            running: switch.is_running(),
            wanted: switch.wanted,
            can_go_back: switch.can_go_back,
            may_vouch: switch.last.as_ref().is_some_and(unfenced),
        }
    }

    fn title_with_lead(switch: &SwitchSnapshot, failed: bool) -> &'static str {
        match switch {
            switch if switch.runs(SwitchStep::Fence) => "The fence runs now; the promotion comes after it",
            switch if switch.is_running() => {
                "Another server is to take the writes; until it says that it is the primary, nobody gets any"
            }
            SwitchSnapshot { wanted: true, .. } => "Nobody takes writes: decide whether to switch",
            _ if failed => "The last switch failed, and Mainstay does not repeat it",
            SwitchSnapshot { automatic: true, .. } => {
                "Another server is promoted by Mainstay itself when this one is down"
            }
            _ => "Writes go elsewhere only when a person says so",
        }
    }
}

/// The form's field.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Deploy {
    path: String,
}

/// Hands a release in and leads back to the page.
pub(in crate::web) async fn deploy(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<Deploy>, FormRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    let Form(Deploy { path }) = form?;
    releases::hand_in(&app, &service, &path, false, "dashboard".to_owned()).await?;
    Ok(Redirect::to(&service_address(&service)).into_response())
}

/// Takes a release back, or goes back to the one before.
pub(in crate::web) async fn roll_back(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    releases::give(&app, &service, ReleaseOrder::RollBack, "dashboard".to_owned()).await?;
    Ok(Redirect::to(&service_address(&service)).into_response())
}

/// Promotes the release on trial.
pub(in crate::web) async fn promote(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    releases::give(&app, &service, ReleaseOrder::Promote, "dashboard".to_owned()).await?;
    Ok(Redirect::to(&service_address(&service)).into_response())
}

/// The form's field.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Run {
    back: bool,
    #[serde(default)]
    fenced: bool,
}

/// Runs the switch.
pub(in crate::web) async fn run_switch(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<Run>, FormRejection>,
) -> Result<Response, Problem> {
    let service = ServiceId::new(path?.0);
    let Form(Run { back, fenced }) = form?;
    switch::order(&app, &service, back, fenced, "dashboard".to_owned()).await?;
    Ok(Redirect::to(&service_address(&service)).into_response())
}
