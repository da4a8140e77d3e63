//! The list of incidents, and the page of one: what visitors saw and what happened, millisecond by millisecond.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_model::cause::Cause;
use mainstay_model::chain::{Link, LinkState};
use mainstay_model::incident::{
    EntryKind, Incident, IncidentState, Scope, Severity, TimelineEntry, VisitorsSaw, Witness,
};
use mainstay_model::input::Input;
use mainstay_model::needs::{Affected, Needed};
use mainstay_model::sample::Sample;
use mainstay_model::{IncidentId, Snapshot, Wall};
use serde::Deserialize;

use super::change::ChangeRow;
use super::escalation::ToldPart;
use super::headline::what_visitors_noticed;
use super::look::{Look, Mark};
use super::overview::Figure;
use super::{
    INCIDENTS_A_PAGE, Loaded, Part, Rendered, monitor_address, proposals, render as html, server_address,
    service_address,
};
use crate::web::App;
use crate::web::chart;
use crate::web::problem::Problem;
use crate::web::seconds::{self, Span};
use crate::web::words::{self, Ago};

/// The list as it is now: what the record has, and over it what is fresher in the snapshot.
pub(super) fn render_list(
    snapshot: &Snapshot,
    before: Option<IncidentId>,
    loaded: &Loaded,
) -> Result<Rendered, Problem> {
    let (stored, trouble) = match loaded {
        Loaded::Incidents(incidents) => (incidents.as_slice(), None),
        Loaded::Failed(error) => (&[][..], Some(error.to_string())),
        _ => (&[][..], None),
    };
    let fresh = snapshot.incidents.iter().map(|incident| &**incident);
    let newer = fresh.clone().filter(|i| before.is_none() && stored.iter().all(|s| s.id != i.id));
    let mut all: Vec<&Incident> = newer.collect();
    all.extend(stored.iter().map(|s| fresh.clone().find(|i| i.id == s.id).unwrap_or(s)));
    all.sort_by_key(|incident| std::cmp::Reverse(incident.id));
    let full = stored.len() >= INCIDENTS_A_PAGE;
    let older = stored.last().filter(|_| full).map(|last| format!("/incidents?before={}", last.id));
    let rows = all.into_iter().map(|incident| IncidentRow::of(incident, snapshot.at)).collect();
    let list = ListPart { rows, older, trouble, first: before.is_none() };
    Ok(Rendered {
        title: "Incidents · Mainstay".to_owned(),
        parts: vec![Part { id: "list", html: html(&list) }],
    })
}

/// Entries of a timeline that are shown from its beginning, and from its end, unless the whole is asked for.
const SHOWN_EACH_END: usize = 100;

/// One incident as it is now.
pub(super) fn render(
    snapshot: &Snapshot,
    id: IncidentId,
    whole: bool,
    loaded: &Loaded,
) -> Result<Rendered, Problem> {
    let live = snapshot.incidents.iter().find(|incident| incident.id == id).map(|incident| &**incident);
    let stored = match loaded {
        Loaded::Incident { incident: Some(incident), .. } => Some(&**incident),
        _ => None,
    };
    let messages = match loaded {
        Loaded::Incident { messages, .. } => Ok(messages.as_slice()),
        Loaded::Failed(error) => Err(error),
        _ => Ok(&[][..]),
    };
    let machine = match loaded {
        Loaded::Incident { machine, .. } => machine.0.as_slice(),
        _ => &[][..],
    };
    let Some(incident) = live.or(stored) else {
        return Err(match loaded {
            Loaded::Failed(error) => Problem::record(error),
            _ => Problem::not_found(format!("There is no incident {id}.")),
        });
    };
    let parts = vec![
        Part { id: "head", html: html(&HeadPart::of(incident, snapshot)) },
        proposals::of_incident(snapshot, id),
        Part { id: "impact", html: html(&ImpactPart::of(incident, snapshot.at)) },
        Part { id: "told", html: html(&ToldPart::of(incident, messages, snapshot.at)) },
        Part { id: "timeline", html: html(&TimelinePart::of(incident, whole)) },
        Part { id: "answers", html: html(&AnswersPart::of(incident)) },
        Part { id: "machine", html: html(&MachinePart { spans: seconds::charts(incident, machine) }) },
    ];
    Ok(Rendered { title: format!("{} · incident {id} · Mainstay", incident.title), parts })
}

/// An incident in a list.
pub(super) struct IncidentRow {
    pub(super) id: String,
    pub(super) mark: Mark,
    pub(super) class: &'static str,
    pub(super) title: String,
    pub(super) scope: String,
    pub(super) state: &'static str,
    pub(super) severity: &'static str,
    pub(super) began: Ago,
    pub(super) lasted: String,
    pub(super) over: bool,
    pub(super) noticed: String,
    pub(super) cause: Option<&'static str>,
}

impl IncidentRow {
    pub(super) fn of(incident: &Incident, now: Wall) -> Self {
        let look = Look::of_incident(incident.state, incident.severity);
        Self {
            id: incident.id.to_string(),
            mark: look.mark(),
            class: look.class(),
            title: incident.title.clone(),
            scope: incident.scope.to_string(),
            state: incident.state.as_str(),
            severity: incident.severity.as_str(),
            began: words::ago(incident.began_at, now),
            lasted: words::lasted(lasted(incident, now)),
            over: incident.state == IncidentState::Resolved,
            noticed: what_visitors_noticed(incident),
            cause: incident
                .diagnosis
                .as_ref()
                .map(|d| d.cause)
                .filter(|c| *c != Cause::Unknown)
                .map(Cause::as_str),
        }
    }
}

/// Until everything served again; until now while it lasts.
pub(super) fn lasted(incident: &Incident, now: Wall) -> i64 {
    incident.recovered_at.or(incident.resolved_at).unwrap_or(now).ms_since(incident.began_at).max(0)
}

#[derive(Template)]
#[template(path = "incidents.html")]
struct ListPart {
    rows: Vec<IncidentRow>,
    older: Option<String>,
    trouble: Option<String>,
    first: bool,
}

#[derive(Template)]
#[template(path = "incident-head.html")]
struct HeadPart {
    id: String,
    mark: Mark,
    title: String,
    state: &'static str,
    severity: &'static str,
    severity_words: &'static str,
    scope: String,
    scope_address: Option<String>,
    servers: Vec<(String, String)>,
    began: Ago,
    began_date: String,
    steps: Vec<Step>,
    /// In place of the time of a step that was not taken.
    without: &'static str,
    acknowledged: Option<(String, Ago)>,
    can_acknowledge: bool,
    /// The cause, and what speaks for it.
    diagnosis: Option<(&'static str, &'static str, Vec<String>)>,
    changes: Vec<ChangeRow>,
    /// From the visitor inwards, while it is open: the class of each link, and its text.
    chain: Vec<(&'static str, String)>,
    /// The incident that it is a part of.
    part_of: Option<String>,
    /// What fails because of it: its page, its name, what it needs, its incident, and for how long.
    affected: Vec<(String, String, String, String, Ago, bool)>,
    affected_more: u64,
}

/// A step from the first sign to the last, with the time since the first.
struct Step {
    name: &'static str,
    /// What is reached by it.
    when: &'static str,
    after: Option<String>,
    at: Option<String>,
}

impl HeadPart {
    fn of(incident: &Incident, snapshot: &Snapshot) -> Self {
        let now = snapshot.at;
        let step = |name, when, at: Option<Wall>| Step {
            name,
            when,
            after: at.map(|at| words::lasted(at.ms_since(incident.began_at).max(0))),
            at: at.map(words::absolute),
        };
        let mut steps = vec![
            step("Noticed", "clear that it is an incident", Some(incident.opened_at)),
            step("Diverted", "first server out of rotation", incident.diverted_at),
            step("Acted", "first recovery action begun", incident.acted_at),
            step("Recovered", "everything is well again", incident.recovered_at),
            step("Closed", "good for long enough", incident.resolved_at),
        ];
        if !matches!(incident.scope, Scope::Service(_)) {
            // There is nothing to divert, and only a person can act.
            steps.retain(|step| step.after.is_some() || !matches!(step.name, "Diverted" | "Acted"));
        }
        Self {
            id: incident.id.to_string(),
            mark: Look::of_incident(incident.state, incident.severity).mark(),
            title: incident.title.clone(),
            state: incident.state.as_str(),
            severity: incident.severity.as_str(),
            severity_words: match (&incident.scope, incident.severity) {
                (Scope::Service(_), Severity::Degraded) => "visitors were served, with less in reserve",
                (_, Severity::Degraded) => "no visitor was hurt by it as far as is known",
                (Scope::Monitor(_), _) => "what is watched does not answer well",
                (Scope::Monitors, _) => "much of what is watched does not answer well",
                (Scope::Address(_), _) => "what is on this machine answers nobody",
                (_, Severity::Partial) => "some requests failed",
                (_, Severity::Down) => "the service answered nobody",
            },
            scope: incident.scope.to_string(),
            scope_address: match &incident.scope {
                Scope::Service(id) | Scope::Check(id) => Some(service_address(id)),
                Scope::Own(_) | Scope::Address(_) => None,
                Scope::Host(_) | Scope::Machine { .. } => Some("/host".to_owned()),
                Scope::Backup(_) => Some("/backups".to_owned()),
                Scope::Monitor(id) => Some(monitor_address(id)),
                Scope::Monitors => Some(format!("/monitors?incident={}", incident.id)),
            },
            servers: incident.servers.iter().map(|id| (server_address(id), id.to_string())).collect(),
            began: words::ago(incident.began_at, now),
            began_date: words::absolute(incident.began_at),
            steps,
            without: if incident.state == IncidentState::Resolved { "not done" } else { "not yet" },
            acknowledged: incident.acknowledged.as_ref().map(|(by, at)| (by.clone(), words::ago(*at, now))),
            can_acknowledge: incident.state == IncidentState::Open,
            changes: incident.changes.iter().map(|c| ChangeRow::of(c, c.beside(incident.began_at))).collect(),
            chain: match &incident.scope {
                Scope::Service(id) if incident.state != IncidentState::Resolved => links(snapshot.chain(id)),
                _ => Vec::new(),
            },
            part_of: incident.part_of.map(|id| id.to_string()),
            affected: incident.affected.iter().map(|affected| affected_row(affected, now)).collect(),
            affected_more: incident.affected_left_out,
            diagnosis: incident.diagnosis.as_ref().map(|d| {
                let cause = if d.cause == Cause::Unknown { "not known" } else { d.cause.as_str() };
                (cause, d.confidence.as_str(), d.evidence.clone())
            }),
        }
    }
}

/// The links of a chain, each with its class.
fn links(chain: Vec<Link>) -> Vec<(&'static str, String)> {
    let class = |state| match state {
        LinkState::Ok => "healthy",
        LinkState::Weak => "degraded",
        LinkState::Broken => "down",
        LinkState::Why => "unknown",
    };
    chain.into_iter().map(|link| (class(link.state), link.text)).collect()
}

fn affected_row(affected: &Affected, now: Wall) -> (String, String, String, String, Ago, bool) {
    let address = match &affected.what {
        Needed::Service(id) => service_address(id),
        Needed::Server(id) => server_address(id),
        Needed::Monitor(id) => monitor_address(id),
        Needed::Address(_) => format!("/incidents/{}", affected.incident),
    };
    let since = words::ago(affected.since, now);
    let (what, needs) = (affected.what.to_string(), affected.needs.to_string());
    (address, what, needs, affected.incident.to_string(), since, affected.until.is_some())
}

/// Columns of the curve on the page, and rows of the table beside it: it is sent again each time it changes.
const CURVE_COLUMNS: usize = 120;
const CURVE_ROWS: usize = 60;

/// Who was hurt, and what it cost.
#[derive(Template)]
#[template(path = "incident-impact.html")]
struct ImpactPart {
    id: String,
    /// It is about a service, so visitors can be hurt by it.
    of_service: bool,
    noticed: String,
    figures: Vec<(&'static str, Figure)>,
    money: Option<(String, String)>,
    chart: Option<String>,
    row: String,
    rows: Vec<ImpactRow>,
}

/// A point of the curve as a row of the table.
struct ImpactRow {
    after: String,
    known: bool,
    counts: [String; 7],
}

impl ImpactPart {
    fn of(incident: &Incident, now: Wall) -> Self {
        let (seen, impact) = (&incident.seen, &incident.impact);
        let good = |text: String| Figure { text, bad: false };
        let bad = |n: u64| Figure { text: words::count(n), bad: n > 0 };
        let span = |seconds: u64| match seconds {
            0 => "–".to_owned(),
            _ => words::lasted(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)),
        };
        let about = if impact.visitors_exact || impact.visitors == 0 { "" } else { "about " };
        let visitors =
            Figure { text: format!("{about}{}", words::count(impact.visitors)), bad: impact.visitors > 0 };
        let mut figures = vec![
            ("visitors hurt", visitors),
            ("hurt for", Figure { text: span(impact.hurt_seconds), bad: impact.hurt_seconds > 0 }),
            ("nobody answered for", Figure { text: span(impact.down_seconds), bad: impact.down_seconds > 0 }),
            (seen.nouns().1, good(words::count(seen.requests))),
            ("failed", bad(seen.failed)),
            ("5xx of servers", bad(seen.server_errors)),
            ("shed", bad(seen.shed)),
            ("limited", good(words::count(seen.limited))),
            ("saved by a retry", good(words::count(seen.saved))),
            ("slow", good(words::count(seen.slow))),
        ];
        // What happens under limits only says nothing to those who have none; and where nobody asked, nobody was hurt,
        // however long nobody would have been answered.
        let hurt = seen.failed + seen.server_errors + seen.shed > 0;
        figures.retain(|(name, figure)| match *name {
            "shed" | "limited" => figure.text != "0",
            "hurt for" => hurt,
            _ => true,
        });
        let table = incident.curve.at_most(CURVE_ROWS);
        let width = i64::try_from(table.step_ms).unwrap_or(i64::MAX);
        let row = |(i, point): (usize, &Option<VisitorsSaw>)| {
            let p = point.unwrap_or_default();
            ImpactRow {
                after: words::lasted(width.saturating_mul(i as i64)),
                known: point.is_some(),
                counts: [p.requests, p.failed, p.server_errors, p.shed, p.limited, p.saved, p.slow]
                    .map(words::count),
            }
        };
        let curve = incident.curve.at_most(CURVE_COLUMNS);
        let counted_ms = incident.resolved_at.unwrap_or(now).ms_since(incident.began_at).max(0);
        Self {
            id: incident.id.to_string(),
            of_service: matches!(incident.scope, Scope::Service(_)),
            noticed: what_visitors_noticed(incident),
            figures,
            money: impact.money.as_ref().map(|money| (money.text(), money.how.clone())),
            chart: (seen.requests > 0 && !curve.points.is_empty())
                .then(|| chart::impact(&curve, counted_ms.unsigned_abs())),
            row: words::lasted(width),
            rows: table.points.iter().enumerate().map(row).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "incident-timeline.html")]
struct TimelinePart {
    date: String,
    /// The beginning and the end; the end is empty when nothing is hidden between them.
    halves: [Vec<Entry>; 2],
    /// Where the whole is, and how much is hidden here.
    hidden: Option<(String, String)>,
    /// What the record itself left out.
    left_out: Option<String>,
}

impl TimelinePart {
    fn of(incident: &Incident, whole: bool) -> Self {
        let all = incident.timeline.as_slice();
        let entry = |entry| Entry::of(entry, incident.began_at);
        let hidden = if whole { 0 } else { all.len().saturating_sub(2 * SHOWN_EACH_END) };
        let (first, last) = match hidden {
            0 => (all, &[][..]),
            _ => (&all[..SHOWN_EACH_END], &all[SHOWN_EACH_END + hidden..]),
        };
        let hidden = (hidden > 0).then(|| {
            let address = format!("/incidents/{}?timeline=whole", incident.id);
            (address, words::counted(hidden as u64, "entry", "entries"))
        });
        let left_out = (incident.timeline_left_out > 0).then(|| {
            let entries = words::counted(incident.timeline_left_out, "entry", "entries");
            format!("{entries} of the middle left out")
        });
        Self {
            date: words::date(incident.began_at),
            halves: [first.iter().map(entry).collect(), last.iter().map(entry).collect()],
            hidden,
            left_out,
        }
    }
}

/// What was really answered; apart from the timeline, so that it is not sent again with each entry.
#[derive(Template)]
#[template(path = "incident-answers.html")]
struct AnswersPart {
    answers: Vec<Answer>,
}

/// One answer, folded up.
struct Answer {
    clock: String,
    absolute: String,
    datetime: String,
    /// Who was asked for what, and what came, in a line.
    summary: String,
    phases: String,
    /// Headers and body as they came.
    text: String,
    cut: bool,
}

impl AnswersPart {
    fn of(incident: &Incident) -> Self {
        let kept = incident.timeline.iter().filter_map(|entry| Some((entry, entry.sample.as_deref()?)));
        Self { answers: kept.map(|(entry, sample)| Answer::of(entry, sample)).collect() }
    }
}

impl Answer {
    fn of(entry: &TimelineEntry, sample: &Sample) -> Self {
        let from = entry.server.as_ref().map_or(String::new(), |id| format!("{}, ", id.name));
        let gap = if sample.headers.is_empty() || sample.body.is_empty() { "" } else { "\n" };
        Self {
            clock: words::clock_ms(entry.at),
            absolute: words::absolute(entry.at),
            datetime: words::rfc3339(entry.at),
            summary: format!("{from}{}", sample.words()),
            phases: sample.phases.words(),
            text: format!("{}{gap}{}", sample.headers, sample.body),
            cut: sample.cut,
        }
    }
}

struct Entry {
    sort: &'static str,
    clock: String,
    absolute: String,
    datetime: String,
    after: String,
    /// What stands before the server's name, if the sentence names it.
    lead: String,
    server: Option<(String, String)>,
    text: String,
    times: Option<u32>,
}

impl Entry {
    fn of(entry: &TimelineEntry, began: Wall) -> Self {
        let after = entry.at.ms_since(began);
        let named = entry.server.as_ref().and_then(|id| around(&entry.text, &id.name));
        let (lead, text) = named.unwrap_or(("", &entry.text));
        // A sentence that does not name its server gets the name in front.
        let gap = if named.is_none() && entry.server.is_some() { " " } else { "" };
        Self {
            sort: sort(entry.kind),
            clock: words::clock_ms(entry.at),
            absolute: words::absolute(entry.at),
            datetime: words::rfc3339(entry.at),
            after: if after < 0 {
                format!("−{}", words::lasted(-after))
            } else {
                format!("+{}", words::lasted(after))
            },
            lead: lead.to_owned(),
            text: format!("{gap}{text}"),
            server: entry.server.as_ref().map(|id| (server_address(id), id.name.to_string())),
            times: (entry.times > 1).then_some(entry.times),
        }
    }
}

/// What stands before and after a name in a sentence; `None` when it is not there as a word of its own.
fn around<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let part_of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    text.match_indices(name)
        .map(|(at, _)| (&text[..at], &text[at + name.len()..]))
        .find(|(before, after)| !before.ends_with(part_of_a_name) && !after.starts_with(part_of_a_name))
}

/// The class and the word of an entry.
fn sort(kind: EntryKind) -> &'static str {
    match kind.witness() {
        Witness::Observed => "observed",
        Witness::Decided => "decided",
        Witness::Acted => "acted",
        Witness::Person => "person",
        Witness::Own => "own",
    }
}

/// The machine around it; nothing where it was not watched.
#[derive(Template)]
#[template(path = "incident-machine.html")]
struct MachinePart {
    spans: Vec<Span>,
}

/// The form's field.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Acknowledge {
    #[serde(default)]
    by: String,
}

/// Takes an incident on and leads back to its page.
pub(in crate::web) async fn acknowledge(
    State(app): State<App>,
    path: Result<Path<u64>, axum::extract::rejection::PathRejection>,
    form: Result<Form<Acknowledge>, axum::extract::rejection::FormRejection>,
) -> Result<Response, Problem> {
    let id = IncidentId(path?.0);
    let by = name_of(&form?.0.by, "dashboard")?;
    take_on(&app, id, by).await?;
    Ok(Redirect::to(&format!("/incidents/{id}")).into_response())
}

/// Takes an incident on; one that somebody has already taken on stays theirs.
pub(in crate::web) async fn take_on(app: &App, id: IncidentId, by: String) -> Result<Arc<Incident>, Problem> {
    let of = |snapshot: &Snapshot| snapshot.incidents.iter().find(|incident| incident.id == id).cloned();
    let incident = match of(&app.snapshot()) {
        Some(incident) => incident,
        // Only what is long over is not in the snapshot.
        None => match app.context.reader.incident(id).await.map_err(|error| Problem::record(&error))? {
            Some(incident) => Arc::new(incident),
            None => return Err(Problem::not_found(format!("There is no incident {id}."))),
        },
    };
    match incident.state {
        IncidentState::Resolved => Err(Problem::conflict(format!("Incident {id} is over already."))),
        IncidentState::Acknowledged => Ok(incident),
        IncidentState::Open => {
            if !(app.context.submit)(Input::Acknowledge { incident: id, by }).await {
                return Err(Problem::stopping());
            }
            Ok(of(&app.snapshot()).unwrap_or(incident))
        }
    }
}

/// Who somebody says to be, for the record: one short line.
pub(in crate::web) fn name_of(given: &str, otherwise: &str) -> Result<String, Problem> {
    const MOST: usize = 64;
    let given = given.trim();
    if given.chars().count() > MOST || given.chars().any(char::is_control) {
        return Err(Problem::bad_request(format!(
            "`by` is a name of at most {MOST} characters in one line."
        )));
    }
    Ok(if given.is_empty() { otherwise.to_owned() } else { given.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::around;

    #[test]
    fn a_name_is_found_as_a_word_of_its_own_only() {
        assert_eq!(around("app-2 was restarted", "app-2"), Some(("", " was restarted")));
        assert_eq!(around("app-2's process ended", "app-2"), Some(("", "'s process ended")));
        assert_eq!(around("an attempt at app-2 failed", "app-2"), Some(("an attempt at ", " failed")));
        assert_eq!(around("app-21 was restarted", "app-2"), None);
        assert_eq!(around("my-app-2 was restarted", "app-2"), None);
        assert_eq!(around("app-21, then app-2", "app-2"), Some(("app-21, then ", "")));
    }
}
