//! The page itself and the pages of past months. Everything can be read without JavaScript, which there is none of.

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;
use jiff::tz::TimeZone;
use mainstay_model::Wall;
use mainstay_model::incident::Severity;
use mainstay_model::publication::PublicState;
use mainstay_model::window::Occurrence;

use super::days::{DAYS, Day, Days, Sort, percent};
use super::edition;
use super::view::{ComponentView, IncidentView, MaintenanceView, Month, State, View};
use super::zone;
use crate::web::pages::maintenance::times;
use crate::web::words;

/// Incidents that are over stay on the first page for so long.
const RECENT_MS: i64 = 15 * 86_400_000;

/// The first page.
pub(super) fn index(view: &View) -> String {
    let part = |incident| IncidentPart::of(incident, &view.zone);
    let current: Vec<_> = view.incidents.iter().filter(|i| i.lasts()).map(part).collect();
    let is_recent = |i: &&IncidentView| !i.lasts() && view.at.ms_since(i.began) < RECENT_MS;
    let recent: Vec<_> = view.incidents.iter().filter(is_recent).map(part).collect();
    let old = view.incidents.iter().find(|i| !i.lasts() && !is_recent(i));
    write(&Index {
        frame: Frame::of(view, view.title.clone()),
        class: view.overall.class(),
        sentence: &view.sentence,
        current,
        maintenance: view.maintenance.iter().map(|window| MaintenancePart::of(window, view)).collect(),
        components: view.components.iter().map(|part| ComponentPart::of(part, &view.zone)).collect(),
        history_missing: view.history_missing,
        recent,
        older: old.map(|incident| month_path(zone::month_of(incident.began, &view.zone))),
    })
}

/// The page of a month.
pub(super) fn month(view: &View, month: Month) -> String {
    let months = view.months();
    let place = months.iter().position(|other| *other == month);
    let link = |place: Option<usize>| {
        let month = *months.get(place?)?;
        Some((month_path(month), month_words(month)))
    };
    let of_it = view.incidents.iter().filter(|incident| zone::month_of(incident.began, &view.zone) == month);
    write(&MonthPage {
        frame: Frame::of(view, format!("{} · {}", month_words(month), view.title)),
        name: month_words(month),
        incidents: of_it.map(|incident| IncidentPart::of(incident, &view.zone)).collect(),
        older: link(place.map(|place| place + 1)),
        newer: link(place.and_then(|place| place.checked_sub(1))),
    })
}

/// The path of a month's page.
pub(super) fn month_path((year, month): Month) -> String {
    format!("history-{year:04}-{month:02}.html")
}

/// Where an incident stands for good.
pub(super) fn incident_address(incident: &IncidentView, zone: &TimeZone) -> String {
    format!("{}#incident-{}", month_path(zone::month_of(incident.began, zone)), incident.id)
}

/// How far things are, as it stands in front of an update.
pub(super) fn state_words(state: PublicState) -> &'static str {
    match state {
        PublicState::Investigating => "Investigating",
        PublicState::Identified => "Identified",
        PublicState::Monitoring => "Monitoring",
        PublicState::Resolved => "Resolved",
    }
}

/// What every page has around it.
struct Frame<'a> {
    title: String,
    name: &'a str,
    support: Option<(&'a str, Option<&'a str>)>,
    at: Moment<'a>,
    /// In which times and days are told.
    zone: &'a str,
    style: &'static str,
    icon: &'static str,
}

impl<'a> Frame<'a> {
    fn of(view: &'a View, title: String) -> Self {
        Self {
            title,
            name: &view.title,
            support: view.support.as_ref().map(|s| (s.text.as_str(), s.link.as_deref())),
            at: Moment::of(view.at, &view.zone),
            zone: zone::name(&view.zone),
            style: edition::style(),
            icon: edition::icon(),
        }
    }
}

#[derive(Template)]
#[template(path = "public/index.html")]
struct Index<'a> {
    frame: Frame<'a>,
    class: &'static str,
    sentence: &'a str,
    current: Vec<IncidentPart<'a>>,
    maintenance: Vec<MaintenancePart<'a>>,
    components: Vec<ComponentPart<'a>>,
    history_missing: bool,
    recent: Vec<IncidentPart<'a>>,
    older: Option<String>,
}

#[derive(Template)]
#[template(path = "public/month.html")]
struct MonthPage<'a> {
    frame: Frame<'a>,
    name: String,
    incidents: Vec<IncidentPart<'a>>,
    older: Option<(String, String)>,
    newer: Option<(String, String)>,
}

/// A maintenance window, in a visitor's words.
struct MaintenancePart<'a> {
    title: &'a str,
    components: String,
    open: bool,
    /// When it begins, or ends if it is open, from now on: the same in every time zone.
    when: String,
    lasts: String,
    from: Moment<'a>,
    to: Moment<'a>,
    /// The same in the zone that it was written in, unless that is the page's own or UTC.
    local: Option<String>,
}

impl<'a> MaintenancePart<'a> {
    fn of(window: &'a MaintenanceView, view: &'a View) -> Self {
        let (now, zone) = (view.at, &view.zone);
        let same = |name: &str| matches!(name, "" | "UTC") || name == zone::name(zone);
        let names: Vec<&str> = window.components.iter().map(|(_, name)| name.as_str()).collect();
        let Occurrence { from, to } = window.time;
        let left = if window.open { to } else { from }.ms_since(now).max(0);
        Self {
            title: &window.title,
            components: names.join(", "),
            open: window.open,
            when: format!("in {}", words::coarse(left)),
            lasts: words::coarse(to.ms_since(from)),
            from: Moment::of(from, zone),
            to: Moment::after(to, from, zone),
            local: (!same(&window.zone)).then(|| times(window.time, &window.zone)),
        }
    }
}

/// A component with its bars.
struct ComponentPart<'a> {
    name: &'a str,
    about: Option<&'a str>,
    class: &'static str,
    words: &'static str,
    availability: String,
    summary: String,
    bars: Bars<'a>,
    lines: Vec<DayLine>,
}

impl<'a> ComponentPart<'a> {
    fn of(component: &'a ComponentView, zone: &'a TimeZone) -> Self {
        let days = &component.days;
        let known = days.known();
        let availability = match days.availability() {
            Some(share) => format!("{} available", percent(share)),
            None => "Nothing known yet".to_owned(),
        };
        let of_days = match known {
            DAYS => format!("{DAYS} days"),
            1 => format!("1 of {DAYS} days is known"),
            known => format!("{known} of {DAYS} days are known"),
        };
        Self {
            name: &component.name,
            about: component.about.as_deref(),
            class: component.state.class(),
            words: component.state.words(),
            summary: format!("{availability}; {of_days}"),
            availability,
            bars: Bars(days, zone),
            lines: lines(days, zone),
        }
    }
}

/// A line of the days in words.
struct DayLine {
    when: String,
    what: String,
}

/// The days that were not wholly good, the newest first; days in a row of which nothing is known are one line.
fn lines(days: &Days, zone: &TimeZone) -> Vec<DayLine> {
    let mut lines = Vec::new();
    if days.known() == 0 {
        return lines;
    }
    for run in days.0.chunk_by(|a, b| a.sort() == Sort::Unknown && b.sort() == Sort::Unknown).rev() {
        let (first, last) = (run[0], run[run.len() - 1]);
        match first.sort() {
            Sort::Good => {}
            Sort::Unknown if run.len() > 1 => lines.push(DayLine {
                when: format!("{} – {}", zone::date(first.start, zone), zone::date(last.start, zone)),
                what: "not known".to_owned(),
            }),
            _ => lines.push(DayLine { when: zone::date(first.start, zone), what: day_words(&first) }),
        }
    }
    lines
}

/// `99.98 % available`, and how much of the day is known if that is not nearly all of it.
fn day_words(day: &Day) -> String {
    let maintenance = if day.excused_ms >= 60_000 { " outside of planned maintenance" } else { "" };
    match day.availability {
        None if !maintenance.is_empty() => "planned maintenance".to_owned(),
        None => "not known".to_owned(),
        Some(share) if day.watched < 0.95 => {
            format!(
                "{} available{maintenance}, {} of the day known",
                percent(share),
                words::share(Some(day.watched))
            )
        }
        Some(share) => format!("{} available{maintenance}", percent(share)),
    }
}

/// The bars as a picture: one a day, whose shape says as much as its colour.
struct Bars<'a>(&'a Days, &'a TimeZone);

impl fmt::Display for Bars<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, day) in self.0.0.iter().enumerate() {
            let x = place * 4;
            let (class, from, to) = match day.sort() {
                Sort::Good => ("good", 6, 34),
                Sort::Some => ("some", 3, 34),
                Sort::Bad => ("bad", 0, 34),
                Sort::Unknown => ("none", 28, 34),
            };
            write!(f, "<path class=\"{class}\" d=\"M{x} {from}h3V{to}h-3z")?;
            match day.sort() {
                // A notch, and a longer one.
                Sort::Some => write!(f, "M{x} 10v3h3v-3z")?,
                Sort::Bad => write!(f, "M{x} 8v7h3v-7z")?,
                Sort::Good | Sort::Unknown => {}
            }
            write!(f, "\"><title>{}: {}</title></path>", zone::day(day.start, self.1), day_words(day))?;
        }
        Ok(())
    }
}

impl HtmlSafe for Bars<'_> {}

/// An incident with its updates.
struct IncidentPart<'a> {
    id: String,
    title: &'a str,
    class: &'static str,
    state: &'static str,
    component: &'a str,
    began: Moment<'a>,
    ended: Option<Moment<'a>>,
    lasted: Option<String>,
    /// Newest first.
    updates: Vec<UpdatePart<'a>>,
    address: String,
}

struct UpdatePart<'a> {
    state: &'static str,
    at: Moment<'a>,
    text: &'a str,
}

impl<'a> IncidentPart<'a> {
    fn of(incident: &'a IncidentView, zone: &'a TimeZone) -> Self {
        let state = match (incident.lasts(), incident.severity) {
            (false, _) => State::Works,
            (true, Severity::Down) => State::Down,
            (true, Severity::Partial) => State::SomeFail,
            (true, Severity::Degraded) => State::Unsure,
        };
        let update = |update: &'a super::view::UpdateView| UpdatePart {
            state: state_words(update.state),
            at: Moment::of(update.at, zone),
            text: &update.text,
        };
        Self {
            id: incident.id.to_string(),
            title: &incident.title,
            class: state.class(),
            state: state_words(incident.state),
            component: &incident.component.1,
            began: Moment::of(incident.began, zone),
            ended: incident.ended.map(|ended| Moment::after(ended, incident.began, zone)),
            lasted: incident.ended.map(|ended| words::lasted(ended.ms_since(incident.began).max(0))),
            updates: incident.updates.iter().rev().map(update).collect(),
            address: incident_address(incident, zone),
        }
    }
}

/// A moment as an element.
struct Moment<'a> {
    at: Wall,
    zone: &'a TimeZone,
    /// The day is clear from what stands before it.
    clock_only: bool,
}

impl<'a> Moment<'a> {
    fn of(at: Wall, zone: &'a TimeZone) -> Self {
        Self { at, zone, clock_only: false }
    }

    fn after(at: Wall, before: Wall, zone: &'a TimeZone) -> Self {
        Self { at, zone, clock_only: zone::date(at, zone) == zone::date(before, zone) }
    }
}

impl fmt::Display for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.clock_only {
            true => zone::clock(self.at, self.zone),
            false => zone::moment(self.at, self.zone),
        };
        write!(f, "<time datetime=\"{}\">{text}</time>", words::rfc3339(self.at))
    }
}

impl HtmlSafe for Moment<'_> {}

/// `November 2026`
fn month_words((year, month): Month) -> String {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let name = usize::try_from(month - 1).ok().and_then(|month| NAMES.get(month)).unwrap_or(&"");
    format!("{name} {year}")
}

/// Writing into a string fails only if a `Display` of ours does, and none does.
fn write(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "the status page could not be written");
        String::from("This page could not be written.")
    })
}
