//! Charts as SVG, drawn here and styled by the stylesheet.
//!
//! The plot is hatched and means *unknown* until something was measured: what is known is drawn over it. One unit of the
//! drawing's width is one column and its height is always 100, so it stretches to any screen; words stand beside it in
//! HTML, where they do not stretch. No text of a user is in here, only numbers.

use std::fmt::Write as _;

use mainstay_model::Wall;
use mainstay_model::impact::Curve;
use mainstay_model::incident::VisitorsSaw;

use super::history::{Column, Outcomes, Range};
use super::words;

/// A count that is not zero is at least this high, so that five failures among a million are seen.
const SEEN_MIN: f64 = 2.5;

/// The percentiles that are drawn, with their style.
const PERCENTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")];

/// Percentiles of the time to what visitors wait for, on a logarithmic scale: a slow hundredth must not flatten the rest.
pub(super) fn latency(range: Range, columns: &[Column], wait: &'static str) -> String {
    let scale = Decades::of(columns);
    let mut marks = String::new();
    for (quantile, class) in PERCENTILES {
        let height = |column: &Column| {
            column.quantile_ms(quantile).filter(|_| column.known).map(|ms| scale.height(ms))
        };
        let heights: Vec<_> = columns.iter().map(height).collect();
        let _ = write!(marks, "<path class=\"line {class}\" d=\"{}\"/>", steps(&heights));
    }
    let highest = columns.iter().filter_map(|c| c.quantile_ms(0.99)).reduce(f64::max);
    let label = match columns.iter().rev().find_map(|c| c.quantile_ms(0.99)) {
        None => "Nothing was answered in this time".to_owned(),
        last => format!("99th percentile at most {}, last {}", words::latency(highest), words::latency(last)),
    };
    Figure {
        title: wait,
        unit: "log scale",
        legend: &PERCENTILES.map(|(_, class)| (class, class)),
        scale: scale.marks(),
        label,
        class: "tall",
        value: &|column| {
            let [p50, p90, p99] =
                PERCENTILES.map(|(quantile, _)| words::latency(column.quantile_ms(quantile)));
            format!("p50 {p50}, p90 {p90}, p99 {p99}")
        },
    }
    .draw(range, columns, &marks)
}

/// A logarithmic scale over whole powers of ten of milliseconds.
struct Decades {
    lowest: i32,
    count: i32,
}

impl Decades {
    fn of(columns: &[Column]) -> Self {
        let power = |ms: f64| ms.max(0.01).log10();
        let lowest =
            columns.iter().filter_map(|c| c.quantile_ms(0.5)).map(power).reduce(f64::min).unwrap_or(0.0);
        let highest =
            columns.iter().filter_map(|c| c.quantile_ms(0.99)).map(power).reduce(f64::max).unwrap_or(1.0);
        let lowest = lowest.floor() as i32;
        Self { lowest, count: (highest.ceil() as i32 - lowest).max(1) }
    }

    fn height(&self, ms: f64) -> f64 {
        let power = ms.max(0.01).log10() - f64::from(self.lowest);
        100.0 - (power / f64::from(self.count) * 100.0).clamp(0.0, 100.0)
    }

    /// From the top to the bottom; halves of a single decade, so that there are three at least.
    fn marks(&self) -> Vec<String> {
        let parts = if self.count == 1 { 2 } else { self.count };
        let power = |i: i32| f64::from(self.lowest) + f64::from(self.count) * f64::from(i) / f64::from(parts);
        let round = |ms: f64| if self.count == 1 { two_digits(ms) } else { ms };
        (0..=parts).rev().map(|i| words::latency_mark(round(10f64.powf(power(i))))).collect()
    }
}

/// The middle of a decade, as short as a mark may be: 32 instead of 31.62.
fn two_digits(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor() - 1.0);
    (value / power).round() * power
}

/// Counts by outcome, stacked, as a rate.
pub(super) fn outcomes(range: Range, columns: &[Column], outcomes: Outcomes) -> String {
    let highest = columns.iter().map(|c| c.per_second(c.total())).fold(0.0, f64::max);
    let top = nice(highest);
    let mut paths = vec![String::new(); outcomes.series.len()];
    for (x, column) in columns.iter().enumerate().filter(|(_, column)| column.known) {
        let mut y = 100.0;
        for (path, count) in paths.iter_mut().zip(column.counts) {
            if count == 0 {
                continue;
            }
            let height = (column.per_second(count) / top * 100.0).max(SEEN_MIN).min(y);
            y -= height;
            let _ = write!(path, "M{x}.08 {}h.84v{}h-.84z", short(y), short(height));
        }
    }
    let mut marks = String::new();
    for (path, (_, class)) in paths.iter().zip(outcomes.series) {
        let _ = write!(marks, "<path class=\"bar {class}\" d=\"{path}\"/>");
    }
    let shown = outcomes.shown(columns);
    let sum = |i: usize| columns.iter().map(|c| c.counts[i]).sum::<u64>();
    let sums: Vec<String> =
        shown.iter().map(|(i, (name, _))| format!("{} {name}", words::count(sum(*i)))).collect();
    let legend: Vec<(&str, &str)> = shown.iter().map(|(_, series)| *series).collect();
    Figure {
        title: outcomes.noun,
        unit: "a second",
        legend: &legend,
        scale: vec![words::rate_mark(top), words::rate_mark(top / 2.0), "0".to_owned()],
        label: sums.join(", "),
        class: "tall",
        value: &|column| {
            let counts = outcomes.series.iter().zip(column.counts).filter(|(_, n)| *n > 0);
            let counts: Vec<_> = counts.map(|((name, _), n)| format!("{} {name}", words::count(n))).collect();
            let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
            format!("{}: {counts}", words::per_second(column.per_second(column.total())))
        },
    }
    .draw(range, columns, &marks)
}

/// What probes saw: the share of each column that was good.
pub(super) fn probes(range: Range, columns: &[Column]) -> String {
    let mut good = String::new();
    let mut failed = String::new();
    for (x, column) in columns.iter().enumerate().filter(|(_, column)| column.known) {
        let total = column.probes_good + column.probes_failed;
        if total == 0 {
            continue;
        }
        let mut part = column.probes_failed as f64 / total as f64 * 100.0;
        if column.probes_failed > 0 {
            part = part.max(20.0);
        }
        if part < 100.0 {
            let _ = write!(good, "M{x}.08 {}h.84V100h-.84z", short(part));
        }
        if part > 0.0 {
            let _ = write!(failed, "M{x}.08 0h.84v{}h-.84z", short(part));
        }
    }
    let marks = format!("<path class=\"bar good\" d=\"{good}\"/><path class=\"bar failed\" d=\"{failed}\"/>");
    let sum = |f: fn(&Column) -> u64| words::count(columns.iter().map(f).sum());
    Figure {
        title: "Probes",
        unit: "",
        legend: &[("good", "good"), ("failed", "failed")],
        scale: vec!["all".to_owned(), String::new()],
        label: format!("{} good, {} failed", sum(|c| c.probes_good), sum(|c| c.probes_failed)),
        class: "low",
        value: &|column| {
            let median = column.probe_latency.quantile(0.5).map(|took| took.as_secs_f64() * 1000.0);
            format!(
                "{} good, {} failed, median {}",
                column.probes_good,
                column.probes_failed,
                words::latency(median)
            )
        },
    }
    .draw(range, columns, &marks)
}

/// What every chart has.
pub(super) struct Figure<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    /// Name and style.
    pub(super) legend: &'a [(&'a str, &'a str)],
    /// Marks at even distances, from the top to the bottom.
    pub(super) scale: Vec<String>,
    /// The whole in one sentence, for a screen reader.
    pub(super) label: String,
    pub(super) class: &'a str,
    /// A column in words.
    pub(super) value: &'a dyn Fn(&Column) -> String,
}

impl Figure<'_> {
    pub(super) fn draw(&self, range: Range, columns: &[Column], marks: &str) -> String {
        let column = |column: &Column| {
            let value = if column.known { (self.value)(column) } else { "unknown".to_owned() };
            Hit { known: column.known, title: format!("{} {value}", moment(range, column.start)) }
        };
        let hits: Vec<Hit> = columns.iter().map(column).collect();
        let frame = Frame {
            title: self.title,
            unit: self.unit,
            legend: self.legend,
            scale: &self.scale,
            label: &self.label,
            class: self.class,
        };
        frame.draw(&hits, &ticks(range, columns), marks)
    }
}

/// A column as a pointer and a screen reader find it.
pub(super) struct Hit {
    pub(super) known: bool,
    /// When it was and what it holds, in words.
    pub(super) title: String,
}

/// What stands around the marks of every chart.
pub(super) struct Frame<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) legend: &'a [(&'a str, &'a str)],
    pub(super) scale: &'a [String],
    pub(super) label: &'a str,
    pub(super) class: &'a str,
}

impl Frame<'_> {
    pub(super) fn draw(&self, hits: &[Hit], ticks: &[String], marks: &str) -> String {
        let mut html = String::with_capacity(24 * 1024);
        let unknown = hits.iter().filter(|hit| !hit.known).count();
        let _ =
            write!(html, "<figure class=\"chart {}\" data-chart><figcaption><h3>{}", self.class, self.title);
        if !self.unit.is_empty() {
            let _ = write!(html, " <small>{}</small>", self.unit);
        }
        html.push_str("</h3><ul class=\"legend\">");
        for (name, class) in self.legend {
            let _ = write!(html, "<li class=\"{class}\">{name}</li>");
        }
        if unknown > 0 {
            html.push_str("<li class=\"unknown\">unknown</li>");
        }
        html.push_str(
            "</ul><output></output></figcaption><div class=\"plot\"><div class=\"y\" aria-hidden=\"true\">",
        );
        for mark in self.scale {
            let _ = write!(html, "<span>{mark}</span>");
        }
        let _ = write!(
            html,
            "</div><svg role=\"img\" tabindex=\"0\" viewBox=\"0 0 {} 100\" preserveAspectRatio=\"none\" aria-label=\"{}: {}",
            hits.len(),
            self.title,
            self.label
        );
        if unknown > 0 {
            let _ = write!(html, "; unknown for {unknown} of {} columns", hits.len());
        }
        let _ = write!(html, "\"><path class=\"known\" d=\"{}\"/>", known_area(hits));
        html.push_str("<path class=\"grid\" d=\"");
        for i in 0..self.scale.len() {
            let y = i as f64 * 100.0 / (self.scale.len() - 1) as f64;
            let _ = write!(html, "M0 {}H{}", short(y), hits.len());
        }
        let _ = write!(html, "\"/>{marks}");
        html.push_str("<g class=\"hits\">");
        for (x, hit) in hits.iter().enumerate() {
            let _ = write!(html, "<path d=\"M{x} 0h1v100h-1z\"><title>{}</title></path>", hit.title);
        }
        html.push_str("</g></svg></div><div class=\"x\" aria-hidden=\"true\">");
        for mark in ticks {
            let _ = write!(html, "<span>{mark}</span>");
        }
        html.push_str("</div></figure>");
        html
    }
}

/// What visitors of an incident saw, from its beginning on, stacked as a rate: the harm at the bottom, where it is seen.
///
/// The last point is seldom whole when the incident ends, and is a rate over what there is of it: after `lasted_ms` nothing
/// was counted any more.
pub(super) fn impact(curve: &Curve, lasted_ms: u64) -> String {
    let last = curve.points.len().saturating_sub(1);
    let covered_ms = lasted_ms.saturating_sub(curve.step_ms.saturating_mul(last as u64));
    let width_s = |x: usize| match x == last {
        true => covered_ms.clamp(curve.step_ms / 4, curve.step_ms) as f64 / 1000.0,
        false => curve.step_ms as f64 / 1000.0,
    };
    let rates =
        curve.points.iter().enumerate().filter_map(|(x, p)| Some(p.as_ref()?.requests as f64 / width_s(x)));
    let top = nice(rates.fold(0.0, f64::max));
    let mut paths: [String; 7] = Default::default();
    let mut hits = Vec::with_capacity(curve.points.len());
    for (x, point) in curve.points.iter().enumerate() {
        let after = words::lasted(curve.step_ms.saturating_mul(x as u64).try_into().unwrap_or(i64::MAX));
        let Some(point) = point else {
            hits.push(Hit { known: false, title: format!("+{after} unknown") });
            continue;
        };
        let parts = impact_parts(point);
        let mut y = 100.0;
        for (path, (_, count)) in paths.iter_mut().zip(parts) {
            if count > 0 {
                let height = (count as f64 / width_s(x) / top * 100.0).max(SEEN_MIN).min(y);
                y -= height;
                let _ = write!(path, "M{x}.04 {}h.92v{}h-.92z", short(y), short(height));
            }
        }
        let counts = parts.into_iter().filter(|(_, n)| *n > 0);
        let counts: Vec<_> = counts.map(|((name, _), n)| format!("{} {name}", words::count(n))).collect();
        let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        hits.push(Hit { known: true, title: format!("+{after} {counts}") });
    }
    let sum = impact_parts(&curve.sum());
    let mut marks = String::new();
    for (path, ((_, class), _)) in paths.iter().zip(sum) {
        let _ = write!(marks, "<path class=\"bar {class}\" d=\"{path}\"/>");
    }
    let seen = sum.into_iter().filter(|(_, n)| *n > 0);
    let legend: Vec<(&str, &str)> = seen.clone().map(|(part, _)| part).collect();
    let label: Vec<String> = seen.map(|((name, _), n)| format!("{} {name}", words::count(n))).collect();
    let whole = curve.step_ms.saturating_mul(curve.points.len() as u64);
    let tick = |i: u64| format!("+{}", words::lasted(i64::try_from(whole / 4 * i).unwrap_or(i64::MAX)));
    let frame = Frame {
        title: "Requests since it began",
        unit: "a second",
        legend: &legend,
        scale: &[words::rate_mark(top), words::rate_mark(top / 2.0), "0".to_owned()],
        label: &if label.is_empty() { "none".to_owned() } else { label.join(", ") },
        class: "tall",
    };
    frame.draw(&hits, &(0..=4).map(tick).collect::<Vec<_>>(), &marks)
}

/// Each request once, by what was worst about it, with name and style. A well answered one may have been saved and slow: it
/// is shown as saved.
fn impact_parts(point: &VisitorsSaw) -> [((&'static str, &'static str), u64); 7] {
    let VisitorsSaw { requests, failed, server_errors, saved, slow, shed, limited, .. } = *point;
    let well = requests.saturating_sub(failed + server_errors + shed + limited);
    let saved = saved.min(well);
    let slow = slow.min(well - saved);
    [
        (("failed", "failed"), failed),
        (("5xx", "error"), server_errors),
        (("shed", "shed"), shed),
        (("limited", "limited"), limited),
        (("saved by a retry", "saved"), saved),
        (("slow", "slow"), slow),
        (("answered", "ok"), well - saved - slow),
    ]
}

/// When a column begins, as short as its range allows.
pub(super) fn moment(range: Range, at: Wall) -> String {
    match range {
        Range::Hour | Range::Day => words::clock(at),
        Range::Month => format!("{} {}", words::day(at), words::clock(at)),
        Range::Year => words::date(at),
    }
}

/// A round number at or above `highest`: 1, 2 or 5 times a power of ten. 1 when there is nothing.
pub(super) fn nice(highest: f64) -> f64 {
    if !highest.is_finite() || highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(highest.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|&top| top >= highest)
        .unwrap_or(power * 10.0)
}

/// A level line for each column, joined where neighbours are known and broken at gaps.
pub(super) fn steps(heights: &[Option<f64>]) -> String {
    let mut path = String::new();
    let mut last: Option<f64> = None;
    for (x, height) in heights.iter().enumerate() {
        if let Some(y) = height {
            match last {
                Some(before) if (before - y).abs() < f64::EPSILON => {}
                Some(_) => {
                    let _ = write!(path, "V{}", short(*y));
                }
                None => {
                    let _ = write!(path, "M{x} {}", short(*y));
                }
            }
            let _ = write!(path, "H{}", x + 1);
        }
        last = *height;
    }
    path
}

/// The area over which something is known.
fn known_area(hits: &[Hit]) -> String {
    let mut path = String::new();
    let mut from = None;
    for (x, hit) in hits.iter().enumerate() {
        match (hit.known, from) {
            (true, None) => from = Some(x),
            (false, Some(start)) => {
                let _ = write!(path, "M{start} 0H{x}V100H{start}z");
                from = None;
            }
            _ => {}
        }
    }
    if let Some(start) = from {
        let _ = write!(path, "M{start} 0H{}V100H{start}z", hits.len());
    }
    path
}

/// Five moments at even distances, from one edge to the other.
fn ticks(range: Range, columns: &[Column]) -> Vec<String> {
    let Some(first) = columns.first() else { return Vec::new() };
    let whole = range.column() * columns.len() as i64;
    (0..=4)
        .map(|i| Wall(first.start.0.saturating_add(whole / 4 * i)))
        .map(|at| if range >= Range::Month { words::day(at) } else { words::clock(at) })
        .collect()
}

/// A coordinate with at most one decimal.
pub(super) fn short(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mainstay_model::histogram::Histogram;

    use super::super::history::{OF_SERVER, of_server};
    use super::*;

    const NOW: Wall = Wall(1_794_453_247_250);

    fn columns(gaps: &[usize]) -> Vec<Column> {
        let mut columns = of_server(Range::Hour, NOW, &[]);
        for (i, column) in columns.iter_mut().enumerate() {
            column.known = !gaps.contains(&i);
            if column.known {
                column.observed_ms = 60_000;
                column.counts = [6_000, 0, 0, u64::from(i == 30), 0, 0];
                column.probes_good = 60;
                column.latency = Histogram::new();
                column.latency.record(Duration::from_millis(10 + i as u64));
            }
        }
        columns
    }

    #[test]
    fn a_gap_is_left_unknown_and_breaks_the_lines() {
        let html = latency(Range::Hour, &columns(&[20, 21, 22]), OF_SERVER.wait);
        assert!(html.contains("<path class=\"known\" d=\"M0 0H20V100H0zM23 0H60V100H23z\"/>"), "{html}");
        assert_eq!(html.matches("unknown</title>").count(), 3);
        assert!(html.contains("; unknown for 3 of 60 columns"));
        let line = html.split("line p50\" d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert!(line.contains("H20M23 "), "{line}");
    }

    #[test]
    fn without_gaps_nothing_is_called_unknown() {
        for html in [
            latency(Range::Hour, &columns(&[]), OF_SERVER.wait),
            outcomes(Range::Hour, &columns(&[]), OF_SERVER),
            probes(Range::Hour, &columns(&[])),
        ] {
            assert!(!html.contains("unknown"));
            assert!(html.contains("d=\"M0 0H60V100H0z\""));
            assert_eq!(html.matches("<title>").count(), 60);
        }
    }

    #[test]
    fn one_failure_among_thousands_is_seen() {
        let html = outcomes(Range::Hour, &columns(&[]), OF_SERVER);
        assert!(html.contains("bar failed\" d=\"M30.08"), "{html}");
        assert!(html.contains("v2.5h-.84z"));
        assert!(html.contains("1 failed</title>"));
    }

    #[test]
    fn nothing_measured_makes_a_whole_chart_of_unknown() {
        let html = outcomes(Range::Hour, &columns(&(0..60).collect::<Vec<_>>()), OF_SERVER);
        assert!(html.contains("<path class=\"known\" d=\"\"/>"));
        assert!(html.contains("unknown for 60 of 60"));
    }

    #[test]
    fn scales_end_at_round_numbers() {
        for (highest, top) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (12.0, 20.0),
            (480.0, 500.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
        ] {
            assert!((nice(highest) - top).abs() < 1e-9, "{highest} gave {}", nice(highest));
        }
    }

    #[test]
    fn latencies_are_drawn_over_whole_decades() {
        let mut columns = columns(&[]);
        columns[3].latency.record(Duration::from_millis(1_200));
        let scale = Decades::of(&columns);
        assert_eq!((scale.lowest, scale.count), (1, 3));
        assert_eq!(scale.marks().join(" ").replace('\u{202f}', " "), "10 s 1 s 100 ms 10 ms");
        assert!((scale.height(10.0) - 100.0).abs() < 1e-9 && scale.height(10_000.0).abs() < 1e-9);
        assert!(scale.height(0.0).is_finite());
        let nothing = Decades::of(&[]);
        assert_eq!(nothing.marks().join(" ").replace('\u{202f}', " "), "10 ms 3.2 ms 1 ms");
    }

    #[test]
    fn the_curve_of_an_incident_shows_each_request_once_and_gaps_as_gaps() {
        let bad = VisitorsSaw {
            connections: false,
            requests: 100,
            failed: 1,
            server_errors: 2,
            saved: 30,
            slow: 80,
            shed: 4,
            limited: 5,
        };
        assert_eq!(impact_parts(&bad).map(|(_, n)| n).iter().sum::<u64>(), 100);
        let points = vec![Some(VisitorsSaw { requests: 50, ..VisitorsSaw::default() }), None, Some(bad)];
        let html = impact(&Curve { step_ms: 2000, points }, u64::MAX);
        assert!(html.contains("<path class=\"known\" d=\"M0 0H1V100H0zM2 0H3V100H2z\"/>"), "{html}");
        assert!(html.contains("<title>+2.0\u{202f}s unknown</title>"), "{html}");
        assert!(
            html.contains("1 failed, 2 5xx, 4 shed, 5 limited, 30 saved by a retry, 58 slow</title>"),
            "{html}"
        );
        let html = impact(&Curve::default(), 0);
        assert!(html.contains("viewBox=\"0 0 0 100\"") && html.contains(": none\""), "{html}");
    }

    #[test]
    fn a_single_known_column_between_gaps_is_drawn() {
        assert_eq!(steps(&[None, Some(40.0), None, Some(1.0), Some(1.0), Some(2.0)]), "M1 40H2M3 1H4H5V2H6");
    }
}
