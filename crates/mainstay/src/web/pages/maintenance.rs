//! The page of maintenance windows, where one is opened and ended, and what other pages say of one.

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Redirect, Response};
use jiff::tz::TimeZone;
use mainstay_model::window::{InMaintenance, Occurrence, WindowSnapshot};
use mainstay_model::{Snapshot, Wall};
use serde::Deserialize;

use super::look::{Look, Mark, State};
use super::{Part, Rendered, freeze, render as html};
use crate::web::App;
use crate::web::api::maintenance::{Opening, end_window, open_window};
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// How long a window may be chosen to last, in the form.
const LENGTHS: [(&str, &str); 7] = [
    ("15m", "15 minutes"),
    ("30m", "30 minutes"),
    ("1h", "1 hour"),
    ("2h", "2 hours"),
    ("4h", "4 hours"),
    ("12h", "12 hours"),
    ("1d", "1 day"),
];
/// Names that are offered while a target is written.
const OFFERED: usize = 300;

/// That something is in a window, as its own page says it.
pub(super) struct Inside {
    pub(super) window: String,
    pub(super) until: Ago,
    pub(super) clock: String,
    pub(super) reason: String,
    /// How it is for visitors all the same.
    pub(super) felt: Option<State>,
}

impl Inside {
    pub(super) fn of(maintenance: Option<&InMaintenance>, now: Wall) -> Option<Self> {
        maintenance.map(|inside| Self {
            window: inside.window.to_string(),
            until: words::ago(inside.until, now),
            clock: words::clock(inside.until),
            reason: inside.reason.clone(),
            felt: None,
        })
    }
}

/// The page's address, with its form filled in.
pub(super) fn address(target: &str) -> String {
    format!("/maintenance?target={}", words::encode(target))
}

/// Times as people write them, in the zone of a window.
pub(in crate::web) fn times(time: Occurrence, zone: &str) -> String {
    let (zone, name) = match TimeZone::get(zone) {
        Ok(found) if !zone.is_empty() => (found, zone),
        _ => (TimeZone::UTC, "UTC"),
    };
    let local = |at: Wall, form: &str| {
        jiff::Timestamp::from_millisecond(at.0)
            .map_or_else(|_| "unknown".to_owned(), |at| at.to_zoned(zone.clone()).strftime(form).to_string())
    };
    let day = "%a %-d %b %Y, %H:%M";
    let same_day = local(time.from, "%F") == local(time.to, "%F");
    let to = local(time.to, if same_day { "%H:%M" } else { day });
    format!("{} to {to} {name}", local(time.from, day))
}

/// The page as it is now.
pub(super) fn render(snapshot: &Snapshot, target: &str) -> Rendered {
    let mut windows: Vec<&WindowSnapshot> = snapshot.windows.iter().collect();
    // What is open stands first, then what comes next.
    windows.sort_by_key(|window| {
        let next = window.next.first().map_or(i64::MAX, |time| time.from.0);
        (window.open.is_none(), next)
    });
    let cards = windows.into_iter().map(|window| Card::of(window, snapshot.at)).collect();
    let parts = vec![
        Part { id: "windows", html: html(&WindowsPart { cards }) },
        // Beside the list, so that what is being written is not replaced by news.
        Part { id: "window-form", html: html(&FormPart::of(snapshot, target)) },
        freeze::form(snapshot),
    ];
    Rendered { title: "Maintenance · Mainstay".to_owned(), parts }
}

#[derive(Template)]
#[template(path = "maintenance.html")]
struct WindowsPart {
    cards: Vec<Card>,
}

/// One window.
struct Card {
    name: String,
    class: &'static str,
    mark: Mark,
    covers: String,
    title: String,
    reason: String,
    public: bool,
    by: Option<String>,
    open: Option<(String, Ago)>,
    next: Vec<(String, Ago)>,
    /// It can be ended.
    end: Option<String>,
}

impl Card {
    fn of(window: &WindowSnapshot, now: Wall) -> Self {
        let policy = &window.policy;
        let look = if window.open.is_some() { Look::Maintenance } else { Look::Unknown };
        let by_hand = window.by.is_some();
        Self {
            name: if by_hand { format!("Window {}", window.id) } else { window.id.to_string() },
            class: if window.open.is_some() { "maintenance" } else { "" },
            mark: look.mark(),
            covers: policy.covers.words(),
            title: policy.title.clone(),
            reason: policy.reason.clone(),
            public: policy.public,
            by: window.by.clone(),
            open: window.open.map(|time| (times(time, &policy.zone), words::ago(time.to, now))),
            next: window
                .next
                .iter()
                .map(|time| (times(*time, &policy.zone), words::ago(time.from, now)))
                .collect(),
            end: (by_hand || window.open.is_some())
                .then(|| format!("/maintenance/{}/end", words::encode(&window.id))),
        }
    }
}

#[derive(Template)]
#[template(path = "maintenance-form.html")]
struct FormPart<'a> {
    target: &'a str,
    lengths: [(&'static str, &'static str); 7],
    offered: Vec<String>,
}

impl<'a> FormPart<'a> {
    fn of(snapshot: &Snapshot, target: &'a str) -> Self {
        let services = snapshot.services.iter().flat_map(|service| {
            let servers = service.servers.iter().map(|server| server.id.to_string());
            std::iter::once(service.id.to_string()).chain(servers)
        });
        let monitors = snapshot.monitors.iter().map(|monitor| format!("monitor:{}", monitor.id));
        let mut tags: Vec<String> =
            snapshot.monitors.iter().flat_map(|m| m.tags.iter().map(|tag| format!("tag:{tag}"))).collect();
        let groups = snapshot.monitors.iter().filter_map(|m| Some(format!("group:{}", m.group.as_ref()?)));
        tags.extend(groups);
        tags.sort();
        tags.dedup();
        let all = services.chain(tags).chain(monitors).chain(["everything".to_owned()]);
        Self { target, lengths: LENGTHS, offered: all.take(OFFERED).collect() }
    }
}

/// The windows that are open or come within a day, for the overview; nothing without any.
pub(super) fn line(snapshot: &Snapshot) -> Part {
    const SOON_MS: i64 = 86_400_000;
    let now = snapshot.at;
    let row = |window: &WindowSnapshot| {
        let soon = window.next.first().filter(|time| time.from.ms_since(now) <= SOON_MS);
        let (time, is_open) = match (window.open, soon) {
            (Some(time), _) => (time, true),
            (None, Some(time)) => (*time, false),
            (None, None) => return None,
        };
        Some(LineRow {
            mark: if is_open { Look::Maintenance } else { Look::Unknown }.mark(),
            covers: window.policy.covers.words(),
            is_open,
            when: words::ago(if is_open { time.to } else { time.from }, now),
            times: times(time, &window.policy.zone),
            reason: window.policy.reason.clone(),
        })
    };
    let rows: Vec<LineRow> = snapshot.windows.iter().filter_map(row).collect();
    Part { id: "maintenance-line", html: html(&LinePart { rows }) }
}

#[derive(Template)]
#[template(path = "maintenance-line.html")]
struct LinePart {
    rows: Vec<LineRow>,
}

struct LineRow {
    mark: Mark,
    covers: String,
    is_open: bool,
    when: Ago,
    times: String,
    reason: String,
}

/// The form's fields.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Fields {
    targets: String,
    lasts: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    public: String,
}

/// Opens a window and leads back to the page.
pub(in crate::web) async fn open(
    Shared(app): Shared<App>,
    fields: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(fields) = fields?;
    let Fields { targets, lasts, reason, title, public } = &fields;
    let opening = Opening::of_form(targets, lasts, reason, title, !public.is_empty());
    open_window(&app, &opening, "dashboard").await?;
    Ok(Redirect::to("/maintenance").into_response())
}

/// Ends a window and leads back to the page.
pub(in crate::web) async fn end(
    Shared(app): Shared<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    end_window(&app, &path?.0).await?;
    Ok(Redirect::to("/maintenance").into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_zone_that_they_were_written_in() {
        let time = Occurrence { from: Wall(1_795_914_000_000), to: Wall(1_795_921_200_000) };
        assert_eq!(times(time, "Europe/Berlin"), "Sun 29 Nov 2026, 02:00 to 04:00 Europe/Berlin");
        assert_eq!(times(time, ""), "Sun 29 Nov 2026, 01:00 to 03:00 UTC");
        assert_eq!(times(time, "America/New_York"), "Sat 28 Nov 2026, 20:00 to 22:00 America/New_York");
        let over_midnight = Occurrence { from: Wall(time.from.0 - 3 * 3_600_000), ..time };
        let words = times(over_midnight, "");
        assert_eq!(words, "Sat 28 Nov 2026, 22:00 to Sun 29 Nov 2026, 03:00 UTC");
    }
}
