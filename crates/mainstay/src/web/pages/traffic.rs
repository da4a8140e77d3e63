//! The charts of a server or service, and the same figures as a table.

use askama::Template;

use super::{Loaded, Part, render as html};
use crate::web::chart;
use crate::web::history::{Column, Outcomes, Range};
use crate::web::words;

/// The charts, in a part of their own.
pub(super) fn part(address: &str, range: Range, loaded: &Loaded, outcomes: Outcomes, probes: bool) -> Part {
    let ranges = ranges(address, range);
    let (columns, trouble) = loaded.columns();
    let mut charts = Vec::new();
    if trouble.is_none() {
        charts.push(chart::latency(range, columns, outcomes.wait));
        charts.push(chart::outcomes(range, columns, outcomes));
        if probes {
            charts.push(chart::probes(range, columns));
        }
    }
    let shown = outcomes.shown(columns);
    let template = ChartsPart {
        ranges,
        column: range.column_words(),
        charts,
        trouble,
        series: shown.iter().map(|(_, (name, _))| *name).collect(),
        cells: 3 + shown.len() + if probes { 2 } else { 0 },
        probes,
        rows: columns.iter().rev().map(|column| Row::of(range, column, &shown)).collect(),
    };
    Part { id: "charts", html: html(&template) }
}

/// The charts of a monitor: how long its probes took, and how they went.
pub(super) fn of_monitor(address: &str, range: Range, loaded: &Loaded) -> Part {
    let (columns, trouble) = loaded.columns();
    let charts = match trouble {
        None => vec![chart::latency(range, columns, "Time of good probes"), chart::probes(range, columns)],
        Some(_) => Vec::new(),
    };
    let template = ChartsPart {
        ranges: ranges(address, range),
        column: range.column_words(),
        charts,
        trouble,
        series: Vec::new(),
        cells: 5,
        probes: true,
        rows: columns.iter().rev().map(|column| Row::of(range, column, &[])).collect(),
    };
    Part { id: "charts", html: html(&template) }
}

fn ranges(address: &str, current: Range) -> Vec<RangeLink> {
    let link = |range: &Range| RangeLink {
        address: format!("{address}?range={}", range.as_str()),
        words: range.words(),
        current: *range == current,
    };
    Range::LONG.iter().map(link).collect()
}

#[derive(Template)]
#[template(path = "charts-part.html")]
struct ChartsPart {
    ranges: Vec<RangeLink>,
    column: &'static str,
    charts: Vec<String>,
    trouble: Option<String>,
    series: Vec<&'static str>,
    /// Of a row, without its time.
    cells: usize,
    probes: bool,
    rows: Vec<Row>,
}

struct RangeLink {
    address: String,
    words: &'static str,
    current: bool,
}

/// A column of the charts as a row of the table.
struct Row {
    at: String,
    known: bool,
    percentiles: [String; 3],
    counts: Vec<String>,
    probes: [String; 2],
}

impl Row {
    fn of(range: Range, column: &Column, shown: &[(usize, (&str, &str))]) -> Self {
        Self {
            at: chart::moment(range, column.start),
            known: column.known,
            percentiles: [0.5, 0.9, 0.99].map(|quantile| words::latency(column.quantile_ms(quantile))),
            counts: shown.iter().map(|(i, _)| words::count(column.counts[*i])).collect(),
            probes: [column.probes_good, column.probes_failed].map(words::count),
        }
    }
}
