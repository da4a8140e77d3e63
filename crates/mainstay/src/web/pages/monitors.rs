//! The list of monitors, filtered and paged here because there may be ten thousand, and the page of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use axum::http::Uri;
use mainstay_model::monitor::{MonitorLook, MonitorSnapshot, MonitorState};
use mainstay_model::results::{Look as Seen, LookVerdict};
use mainstay_model::{MonitorId, Snapshot};

use super::heartbeat;
use super::look::{Look, Mark, State};
use super::maintenance::{self, Inside};
use super::{Loaded, Part, Rendered, monitor_address, render as html, text_parameter, traffic};
use crate::web::api::monitors::{Which, no_monitor};
use crate::web::history::{Column, Range};
use crate::web::problem::Problem;
use crate::web::words::{self, Ago};

/// Monitors on one page of the list.
const A_PAGE: usize = 50;
/// Looks in a row of the list.
const LOOKS: usize = 20;

/// Which part of the list is shown, by its address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::web) struct Filter {
    state: String,
    group: String,
    tag: String,
    q: String,
    incident: Option<u64>,
    /// From 0.
    page: usize,
}

impl Filter {
    pub(super) fn of(uri: &Uri) -> Self {
        let text = |name| text_parameter(uri, name).unwrap_or_default();
        Self {
            state: text("state"),
            group: text("group"),
            tag: text("tag"),
            q: text("q"),
            incident: text("incident").parse().ok(),
            page: text("page").parse::<usize>().unwrap_or(1).saturating_sub(1),
        }
    }

    /// The address of the same list, but for this.
    fn address(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut filter = Filter { page: 0, ..self.clone() };
        change(&mut filter);
        let mut address = "/monitors".to_owned();
        let page = if filter.page > 0 { (filter.page + 1).to_string() } else { String::new() };
        let incident = filter.incident.map_or_else(String::new, |id| id.to_string());
        let all = [
            ("state", &filter.state),
            ("group", &filter.group),
            ("tag", &filter.tag),
            ("q", &filter.q),
            ("incident", &incident),
            ("page", &page),
        ];
        let mut mark = '?';
        for (name, value) in all.into_iter().filter(|(_, value)| !value.is_empty()) {
            let _ = write!(address, "{mark}{name}={}", words::encode(value));
            mark = '&';
        }
        address
    }
}

/// The list as it is now.
pub(super) fn render_list(snapshot: &Snapshot, filter: &Filter) -> Result<Rendered, Problem> {
    let written = |text: &str| Some(text.to_owned());
    let which = Which {
        state: written(&filter.state),
        group: written(&filter.group),
        tag: written(&filter.tag),
        q: written(&filter.q),
        incident: filter.incident,
        ..Which::default()
    };
    let mut found = which.of(snapshot)?;
    let page = sort_page(&mut found, filter.page);
    let filtered = *filter != Filter { page: filter.page, ..Filter::default() };
    let list = ListPart::of(snapshot, &found, page, filter, filtered);
    let counts = &snapshot.monitor_counts;
    let title = match counts.down {
        0 => "Monitors · Mainstay".to_owned(),
        down => format!("{} · Mainstay", words::counted(down, "monitor down", "monitors down")),
    };
    let parts = vec![
        Part { id: "monitors-head", html: html(&HeadPart::of(snapshot, filter)) },
        Part { id: "monitors-filter", html: html(&FilterPart::of(snapshot, filter)) },
        Part { id: "monitors", html: html(&list) },
    ];
    Ok(Rendered { title, parts })
}

/// Puts the monitors of a page into their places, and says which page there is. Only those are sorted: there may be ten thousand, and
/// this is done twice a second for everybody who looks on.
fn sort_page(found: &mut [&Arc<MonitorSnapshot>], wanted: usize) -> usize {
    // What is not well stands first, within its group.
    fn key(monitor: &MonitorSnapshot) -> (&Option<Arc<str>>, u8, &MonitorId) {
        (&monitor.group, rank(monitor.state), &monitor.id)
    }
    let page = wanted.min(found.len().div_ceil(A_PAGE).max(1) - 1);
    let mut rest = found;
    if page > 0 {
        rest = rest.select_nth_unstable_by(page * A_PAGE - 1, |a, b| key(a).cmp(&key(b))).2;
    }
    if rest.len() > A_PAGE {
        rest = rest.select_nth_unstable_by(A_PAGE, |a, b| key(a).cmp(&key(b))).0;
    }
    rest.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    page
}

fn rank(state: MonitorState) -> u8 {
    match state {
        MonitorState::Down => 0,
        MonitorState::Degraded => 1,
        MonitorState::Unknown => 2,
        MonitorState::Maintenance => 3,
        MonitorState::Up => 4,
    }
}

/// Jobs that ping are in states of their own.
fn word_of(monitor: &MonitorSnapshot) -> &'static str {
    monitor.heartbeat.as_ref().map_or(monitor.state.as_str(), |heartbeat| heartbeat.phase.in_words())
}

fn look_of(state: MonitorState) -> Look {
    match state {
        MonitorState::Up => Look::Healthy,
        MonitorState::Degraded => Look::Degraded,
        MonitorState::Unknown => Look::Unknown,
        MonitorState::Down => Look::Down,
        MonitorState::Maintenance => Look::Maintenance,
    }
}

/// How many are in which state.
#[derive(Template)]
#[template(path = "monitors-head.html")]
struct HeadPart {
    none: bool,
    chips: Vec<Chip>,
}

/// How many are in a state; leads to them.
struct Chip {
    address: String,
    mark: Mark,
    words: &'static str,
    count: String,
    current: bool,
}

impl HeadPart {
    fn of(snapshot: &Snapshot, filter: &Filter) -> Self {
        let counts = &snapshot.monitor_counts;
        let all = [
            (MonitorState::Down, counts.down),
            (MonitorState::Degraded, counts.degraded),
            (MonitorState::Unknown, counts.unknown),
            (MonitorState::Maintenance, counts.maintenance),
            (MonitorState::Up, counts.up),
        ];
        let chip = |(state, count): (MonitorState, u64)| {
            let current = filter.state == state.as_str();
            let wanted = if current { String::new() } else { state.as_str().to_owned() };
            Chip {
                address: filter.address(|filter| filter.state = wanted),
                mark: look_of(state).mark(),
                words: state.as_str(),
                count: words::count(count),
                current,
            }
        };
        Self {
            none: snapshot.monitors.is_empty(),
            chips: all
                .into_iter()
                .filter(|(state, n)| *n > 0 || *state == MonitorState::Up)
                .map(chip)
                .collect(),
        }
    }
}

/// The form of the list. It is a part of its own, because it hardly ever changes and the counts beside it do all the time.
#[derive(Template)]
#[template(path = "monitors-filter.html")]
struct FilterPart {
    none: bool,
    q: String,
    state: String,
    group: String,
    tag: String,
    groups: Choice,
    tags: Choice,
    incident: Option<u64>,
    everything: &'static str,
}

impl FilterPart {
    fn of(snapshot: &Snapshot, filter: &Filter) -> Self {
        let monitors = || snapshot.monitors.iter();
        Self {
            none: snapshot.monitors.is_empty(),
            q: filter.q.clone(),
            state: filter.state.clone(),
            group: filter.group.clone(),
            tag: filter.tag.clone(),
            groups: Choice::of(monitors().filter_map(|monitor| monitor.group.as_deref()), &filter.group),
            tags: Choice::of(
                monitors().flat_map(|monitor| monitor.tags.iter().map(|tag| &**tag)),
                &filter.tag,
            ),
            incident: filter.incident,
            everything: "/monitors",
        }
    }
}

/// Words to choose from.
#[derive(Debug, PartialEq)]
struct Choice {
    words: Vec<String>,
    left_out: bool,
}

impl Choice {
    /// More are no help, and would be most of the page.
    const MOST: usize = 200;

    /// The most used of these words and the one that is `chosen`, in their order.
    fn of<'a>(all: impl Iterator<Item = &'a str>, chosen: &str) -> Self {
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        all.for_each(|word| *uses.entry(word).or_default() += 1);
        let left_out = uses.len() > Self::MOST;
        let mut words: Vec<(&str, usize)> = uses.into_iter().collect();
        if left_out {
            words.sort_by_key(|(word, n)| (*word != chosen, std::cmp::Reverse(*n)));
            words.truncate(Self::MOST);
            words.sort_unstable();
        }
        Self { words: words.into_iter().map(|(word, _)| word.to_owned()).collect(), left_out }
    }
}

#[derive(Template)]
#[template(path = "monitors.html")]
struct ListPart {
    none: bool,
    /// Of how many, and which of them these are.
    found: String,
    groups: Vec<Group>,
    before: Option<String>,
    next: Option<String>,
    page: String,
}

/// Monitors under one heading.
struct Group {
    name: Option<String>,
    /// How the whole group is.
    summary: String,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    address: String,
    target: String,
    state: State,
    class: &'static str,
    since: Ago,
    /// Why it is not up.
    because: Option<String>,
    /// The last look.
    last: String,
    bad: bool,
    tags: Vec<(String, String)>,
    looks: String,
}

impl ListPart {
    fn of(
        snapshot: &Snapshot,
        found: &[&Arc<MonitorSnapshot>],
        page: usize,
        filter: &Filter,
        filtered: bool,
    ) -> Self {
        let pages = found.len().div_ceil(A_PAGE).max(1);
        let shown = &found[page * A_PAGE..found.len().min((page + 1) * A_PAGE)];
        let mut sums: BTreeMap<Option<&str>, [u64; 2]> = BTreeMap::new();
        for monitor in found {
            let [down, all] = sums.entry(monitor.group.as_deref()).or_default();
            *down += u64::from(monitor.state == MonitorState::Down);
            *all += 1;
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut last: Option<Option<&str>> = None;
        for monitor in shown {
            let group = monitor.group.as_deref();
            if last != Some(group) {
                let [down, all] = sums.get(&group).copied().unwrap_or_default();
                groups.push(Group {
                    name: group.map(str::to_owned),
                    summary: match down {
                        0 => words::count(all),
                        down => format!("{} of {} down", words::count(down), words::count(all)),
                    },
                    rows: Vec::new(),
                });
                last = Some(group);
            }
            if let Some(group) = groups.last_mut() {
                group.rows.push(Row::of(monitor, snapshot, filter));
            }
        }
        let n = words::counted(found.len() as u64, "monitor", "monitors");
        Self {
            none: found.is_empty(),
            found: match filtered {
                true => format!("{n} of {}", words::count(snapshot.monitors.len() as u64)),
                false => n,
            },
            groups,
            before: (page > 0).then(|| filter.address(|filter| filter.page = page - 1)),
            next: (page + 1 < pages).then(|| filter.address(|filter| filter.page = page + 1)),
            page: format!("{} of {}", words::count(page as u64 + 1), words::count(pages as u64)),
        }
    }
}

impl Row {
    fn of(monitor: &MonitorSnapshot, snapshot: &Snapshot, filter: &Filter) -> Self {
        let look = look_of(monitor.state);
        let last = monitor.last.as_ref();
        let tag = |tag: &Arc<str>| (filter.address(|filter| filter.tag = tag.to_string()), tag.to_string());
        let first = monitor.recent.len().saturating_sub(LOOKS);
        Self {
            name: monitor.id.to_string(),
            address: monitor_address(&monitor.id),
            target: monitor.target.to_string(),
            state: look.named(word_of(monitor)),
            class: look.class(),
            since: words::held(monitor.since, snapshot.at),
            because: (monitor.state != MonitorState::Up).then(|| monitor.because.clone()),
            last: match last.filter(|_| monitor.heartbeat.is_none() || monitor.state == MonitorState::Down) {
                None if monitor.heartbeat.is_some() => heartbeat::brief(monitor, snapshot),
                Some(last) if last.good => words::latency(Some(last.took_ms)),
                Some(last) => last.text.clone(),
                None => "–".to_owned(),
            },
            bad: last.is_some_and(|last| !last.good),
            tags: monitor.tags.iter().map(tag).collect(),
            looks: looks(&monitor.recent[first..], LOOKS),
        }
    }
}

/// The last looks as marks, the newest on the right: a failure is as high as the row and a good look half of it.
fn looks(recent: &[MonitorLook], places: usize) -> String {
    let (mut good, mut bad) = (String::new(), String::new());
    let first = places.saturating_sub(recent.len());
    for (x, look) in (first..).zip(recent) {
        let _ = match look.good {
            true => write!(good, "M{x}.1 8h.8v8h-.8z"),
            false => write!(bad, "M{x}.1 0h.8v16h-.8z"),
        };
    }
    let failed = recent.iter().filter(|look| !look.good).count();
    let mut svg = format!(
        "<svg class=\"looks\" viewBox=\"0 0 {places} 16\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{failed} of the last {} looks failed\">",
        recent.len()
    );
    for (class, path) in [("good", good), ("bad", bad)] {
        if !path.is_empty() {
            let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    svg.push_str("</svg>");
    svg
}

/// One monitor as it is now.
pub(super) fn render_one(
    snapshot: &Snapshot,
    id: &MonitorId,
    range: Range,
    loaded: &Loaded,
) -> Result<Rendered, Problem> {
    let monitor = snapshot.monitor(id).ok_or_else(|| no_monitor(id))?;
    let (columns, _) = loaded.columns();
    let parts = vec![
        Part { id: "head", html: html(&OneHead::of(monitor, snapshot, range, columns)) },
        heartbeat::part(monitor, snapshot),
        traffic::of_monitor(&monitor_address(id), range, loaded),
        Part { id: "looks", html: html(&LooksPart::of(monitor, snapshot)) },
    ];
    Ok(Rendered { title: format!("{id} is {} · Mainstay", monitor.state.as_str()), parts })
}

#[derive(Template)]
#[template(path = "monitor-head.html")]
struct OneHead {
    /// It is not looked at.
    job: bool,
    name: String,
    group: Option<(String, String)>,
    state: State,
    since: Ago,
    tags: Vec<(String, String)>,
    target: String,
    because: String,
    not_probed: Option<String>,
    incident: Option<String>,
    maintenance: Option<Inside>,
    window: String,
    uptime: String,
    uptime_bad: bool,
    range: &'static str,
    median: String,
    last: String,
    last_bad: bool,
    last_at: Option<Ago>,
    probe: String,
    interval: String,
    timeout: String,
    fail: String,
    recover: u32,
}

impl OneHead {
    fn of(monitor: &MonitorSnapshot, snapshot: &Snapshot, range: Range, columns: &[Column]) -> Self {
        let list = |change: &dyn Fn(&mut Filter)| Filter::default().address(change);
        let (observed, down) = columns
            .iter()
            .fold((0, 0), |(observed, down), column| (observed + column.observed_ms, down + column.down_ms));
        let up = (observed > 0).then(|| 1.0 - down as f64 / observed as f64);
        let mut latency = mainstay_model::histogram::Histogram::new();
        columns.iter().for_each(|column| latency.merge(&column.latency));
        let ms = |ms: u64| words::lasted(i64::try_from(ms).unwrap_or(i64::MAX));
        let last = monitor.last.as_ref();
        Self {
            name: monitor.id.to_string(),
            group: monitor
                .group
                .as_ref()
                .map(|group| (list(&|filter| filter.group = group.to_string()), group.to_string())),
            job: monitor.heartbeat.is_some(),
            state: look_of(monitor.state).named(word_of(monitor)),
            since: words::held(monitor.since, snapshot.at),
            tags: monitor
                .tags
                .iter()
                .map(|tag| (list(&|filter| filter.tag = tag.to_string()), tag.to_string()))
                .collect(),
            target: monitor.target.to_string(),
            because: monitor.because.clone(),
            not_probed: monitor.not_probed.as_ref().map(ToString::to_string),
            incident: monitor.incident.map(|id| id.to_string()),
            maintenance: Inside::of(monitor.maintenance.as_ref(), snapshot.at),
            window: maintenance::address(&format!("monitor:{}", monitor.id)),
            uptime: up.map_or_else(|| "–".to_owned(), uptime),
            uptime_bad: up.is_some_and(|up| up < 1.0),
            range: range.words(),
            median: words::latency(latency.quantile(0.5).map(|took| took.as_secs_f64() * 1000.0)),
            last: last.map_or_else(|| "none yet".to_owned(), |last| last.text.clone()),
            last_bad: last.is_some_and(|last| !last.good),
            last_at: last.map(|last| words::ago(last.at, snapshot.at)),
            probe: monitor.probe.clone(),
            interval: ms(monitor.interval_ms),
            timeout: ms(monitor.timeout_ms),
            fail: monitor.fail.clone(),
            recover: monitor.recover,
        }
    }
}

/// `99.95 %`; what is not all is never rounded up to it.
fn uptime(share: f64) -> String {
    let percent = (share * 10_000.0).floor() / 100.0;
    if share >= 1.0 { "100\u{202f}%".to_owned() } else { format!("{percent:.2}\u{202f}%") }
}

#[derive(Template)]
#[template(path = "monitor-looks.html")]
struct LooksPart {
    job: bool,
    /// Why they cannot be read.
    trouble: Option<String>,
    rows: Vec<(Ago, Mark, &'static str, String, String)>,
}

impl LooksPart {
    fn of(monitor: &MonitorSnapshot, snapshot: &Snapshot) -> Self {
        let job = monitor.heartbeat.is_some();
        let row = |look: &MonitorLook| {
            let (mark, word) = match look.good {
                true => (Look::Healthy.mark(), "good"),
                false => (Look::Down.mark(), "failed"),
            };
            // A job that does not tell when it begins takes nobody knows how long.
            let took = (look.took_ms > 0.0).then_some(look.took_ms);
            let took = words::latency(took.or((!job).then_some(0.0)));
            (words::ago(look.at, snapshot.at), mark, word, took, look.text.to_string())
        };
        Self { job, trouble: None, rows: monitor.recent.iter().rev().map(row).collect() }
    }

    fn of_server(loaded: &Loaded, snapshot: &Snapshot) -> Self {
        let (looks, trouble) = match loaded {
            Loaded::Server(_, looks) => (looks.as_slice(), None),
            Loaded::Failed(error) => (&[][..], Some(error.to_string())),
            _ => (&[][..], None),
        };
        let row = |look: &Seen| {
            let (mark, word) = match look.verdict {
                LookVerdict::Good => (Look::Healthy.mark(), "good"),
                LookVerdict::Failed => (Look::Down.mark(), "failed"),
                LookVerdict::Unknown => (Look::Unknown.mark(), "unknown"),
            };
            let took = words::latency(Some(look.took.as_secs_f64() * 1000.0));
            (words::ago(look.at, snapshot.at), mark, word, took, look.words.to_string())
        };
        Self { job: false, trouble, rows: looks.iter().map(row).collect() }
    }
}

/// The last looks at a server, as the record has them.
pub(super) fn looks_at_server(loaded: &Loaded, snapshot: &Snapshot) -> Part {
    Part { id: "looks", html: html(&LooksPart::of_server(loaded, snapshot)) }
}

/// How the monitors are in one line, for the overview; nothing where there are none.
pub(super) fn line(snapshot: &Snapshot) -> Part {
    let counts = &snapshot.monitor_counts;
    let figures = [
        ("down", counts.down, true),
        ("degraded", counts.degraded, false),
        ("unknown", counts.unknown, false),
        ("maintenance", counts.maintenance, false),
        ("up", counts.up, false),
    ];
    let figure = |(state, n, bad): (&'static str, u64, bool)| {
        let address = Filter::default().address(|filter| state.clone_into(&mut filter.state));
        (state, words::count(n), bad && n > 0, address)
    };
    let any = counts.total() > 0;
    let figures = figures.into_iter().filter(|(state, n, _)| any && (*n > 0 || *state == "up"));
    let class = if counts.down > 0 { "down" } else { "" };
    Part { id: "monitors-line", html: html(&LinePart { figures: figures.map(figure).collect(), class }) }
}

#[derive(Template)]
#[template(path = "monitors-line.html")]
struct LinePart {
    figures: Vec<(&'static str, String, bool, String)>,
    class: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_an_address_and_back() {
        let uri: Uri = "/monitors?q=pay%20%C3%BC&state=down&group=eu%2Fwest&page=3".parse().unwrap();
        let filter = Filter::of(&uri);
        assert_eq!((filter.q.as_str(), filter.group.as_str(), filter.page), ("pay ü", "eu/west", 2));
        let again: Uri = filter.address(|filter| filter.page = 2).parse().unwrap();
        assert_eq!(Filter::of(&again), filter);
        let plus: Uri = "/monitors?q=two+words".parse().unwrap();
        assert_eq!(Filter::of(&plus).q, "two words");
    }

    #[test]
    fn of_many_words_the_most_used_and_the_chosen_one_are_offered() {
        let few = Choice::of(["eu", "us", "eu"].into_iter(), "");
        assert_eq!((few.words, few.left_out), (vec!["eu".to_owned(), "us".to_owned()], false));
        let names: Vec<String> = (0..1000).map(|n| format!("tag-{n:03}")).collect();
        let all = || names.iter().chain(&names[300..499]).map(String::as_str);
        let Choice { words, left_out } = Choice::of(all(), "tag-999");
        assert!(left_out && words.is_sorted());
        let expected: Vec<&String> = names[300..499].iter().chain(&names[999..]).collect();
        assert_eq!(words.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_was_not_always_up_is_never_called_a_hundred_percent() {
        assert_eq!(uptime(1.0), "100\u{202f}%");
        assert_eq!(uptime(0.999_999), "99.99\u{202f}%");
    }
}
