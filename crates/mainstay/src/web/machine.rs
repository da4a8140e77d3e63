//! The machine's roll-ups as charts: of each figure its mean, as lines over one scale.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mainstay_model::Wall;

use super::chart::{Figure, nice, short, steps};
use super::history::{Column, Range, blank_columns, mark_known};
use super::words;
use crate::store::{MachineBucket, Summary};

/// What the columns of the machine's charts are made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    pub(super) columns: Vec<Column>,
    /// By the start of the column and the name of the figure.
    figures: BTreeMap<Wall, BTreeMap<String, Summary>>,
}

/// The styles of lines, the first for what matters most.
const STYLES: [&str; 3] = ["p50", "p90", "p99"];

/// How a figure is written.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Share,
    Number,
    BytesASecond,
}

impl Unit {
    fn words(self, value: f64) -> String {
        match self {
            Unit::Share => words::share(Some(value)),
            Unit::Number => format!("{value:.2}"),
            Unit::BytesASecond => format!("{}/s", words::size(value)),
        }
    }

    /// A scale goes at least so far: half a byte is no mark.
    fn least(self) -> f64 {
        match self {
            Unit::Share | Unit::Number => 0.0,
            Unit::BytesASecond => 1000.0,
        }
    }

    fn mark(self, value: f64) -> String {
        match self {
            Unit::Share => words::share(Some(value)),
            Unit::Number => format!("{}", (value * 100.0).round() / 100.0),
            Unit::BytesASecond => format!("{}/s", words::size(value)),
        }
    }
}

/// A line of a chart: its name for people, the name of its figure, its style.
type Line<'a> = (&'a str, &'a str, &'a str);

/// A row of the table: what it is about, and its cells, unless Mainstay was not looking.
type Row = (String, Option<Vec<String>>);

impl Machine {
    /// Merges roll-ups to the columns of a page.
    pub(super) fn of(range: Range, now: Wall, buckets: &[MachineBucket]) -> Self {
        let mut columns = blank_columns(range, now);
        let mut figures: BTreeMap<Wall, BTreeMap<String, Summary>> = BTreeMap::new();
        let Some(from) = columns.first().map(|column| column.start) else {
            return Self { columns, figures };
        };
        for bucket in buckets {
            let index = bucket.start.ms_since(from).div_euclid(range.column());
            let Some(column) = usize::try_from(index).ok().and_then(|index| columns.get_mut(index)) else {
                continue;
            };
            column.observed_ms += bucket.observed_ms;
            let merged = figures.entry(column.start).or_default();
            for (name, summary) in &bucket.figures {
                merged.entry(name.clone()).or_default().add(*summary);
            }
        }
        mark_known(&mut columns, range, now);
        Self { columns, figures }
    }

    fn figure(&self, column: &Column, name: &str) -> Option<Summary> {
        self.figures.get(&column.start)?.get(name).copied().filter(|_| column.known)
    }

    /// It was known at some time.
    fn has(&self, name: &str) -> bool {
        self.figures.values().any(|figures| figures.contains_key(name))
    }

    /// The mount points of disks, the fullest first.
    fn disks(&self) -> Vec<String> {
        let names: BTreeSet<&str> = self
            .figures
            .values()
            .flat_map(|f| f.keys())
            .filter_map(|name| name.strip_prefix("disk:"))
            .collect();
        let highest = |mount: &str| {
            let of = |figures: &BTreeMap<String, Summary>| Some(figures.get(&format!("disk:{mount}"))?.max);
            self.figures.values().filter_map(of).fold(0.0, f64::max)
        };
        let mut disks: Vec<(f64, &str)> = names.into_iter().map(|mount| (highest(mount), mount)).collect();
        disks.sort_by(|a, b| b.0.total_cmp(&a.0));
        disks.into_iter().map(|(_, mount)| mount.to_owned()).collect()
    }

    /// Every chart of the page; what was never known has none.
    pub(super) fn charts(&self, range: Range) -> Vec<String> {
        let mut charts = vec![self.processors(range)];
        let memory =
            [("used", "memory", "p50"), ("swap", "swap", "p90"), ("control group", "group-memory", "p99")];
        charts.push(self.lines(range, "Memory", Unit::Share, Some(1.0), &memory));
        let load = [("over a minute", "load", "p50")];
        charts.push(self.lines(range, "Load", Unit::Number, None, &load));
        let disks = self.disks();
        let keys: Vec<String> =
            disks.iter().take(STYLES.len()).map(|mount| format!("disk:{mount}")).collect();
        let names: Vec<String> = disks.iter().take(STYLES.len()).map(|mount| words::text(mount)).collect();
        let lines: Vec<Line<'_>> = names
            .iter()
            .zip(&keys)
            .zip(STYLES)
            .map(|((name, key), style)| (name.as_str(), key.as_str(), style))
            .collect();
        charts.push(self.lines(range, "Disk space in use", Unit::Share, Some(1.0), &lines));
        let io = [("written", "io-written", "p50"), ("read", "io-read", "p99")];
        charts.push(self.lines(range, "Disk traffic", Unit::BytesASecond, None, &io));
        let network = [("sent", "network-sent", "p50"), ("received", "network-received", "p99")];
        charts.push(self.lines(range, "Network", Unit::BytesASecond, None, &network));
        if self.has("tcp-retransmitted") {
            let again = [("of what TCP sends", "tcp-retransmitted", "p50")];
            charts.push(self.lines(range, "Sent again", Unit::Share, None, &again));
        }
        let waited = [
            ("a processor", "pressure-cpu", "p50"),
            ("memory", "pressure-memory", "p90"),
            ("a disk", "pressure-io", "p99"),
        ];
        if waited.iter().any(|(_, key, _)| self.has(key)) {
            charts.push(self.lines(range, "Time in which programs waited for", Unit::Share, None, &waited));
        }
        charts
    }

    /// What the processors did, stacked.
    fn processors(&self, range: Range) -> String {
        const PARTS: [(&str, &str, &str); 4] = [
            ("programs", "cpu-user", "ok"),
            ("kernel", "cpu-system", "saved"),
            ("waiting for a disk", "cpu-iowait", "client"),
            ("taken by other machines", "cpu-steal", "failed"),
        ];
        let mut marks = String::new();
        let mut tops: Vec<f64> = vec![100.0; self.columns.len()];
        for (_, key, class) in PARTS {
            let mut path = String::new();
            for (x, column) in self.columns.iter().enumerate() {
                let height =
                    self.figure(column, key).map_or(0.0, |figure| figure.mean * 100.0).clamp(0.0, tops[x]);
                if height < 0.05 {
                    continue;
                }
                tops[x] -= height;
                let _ = write!(path, "M{x}.08 {}h.84v{}h-.84z", short(tops[x]), short(height));
            }
            let _ = write!(marks, "<path class=\"bar {class}\" d=\"{path}\"/>");
        }
        let highest = self.highest("cpu");
        Figure {
            title: "Processors",
            unit: "share of all of them",
            legend: &PARTS.map(|(name, _, class)| (name, class)),
            scale: vec!["100 %".to_owned(), "50 %".to_owned(), "0".to_owned()],
            label: match highest {
                Some(highest) => format!("busy for at most {}", words::share(Some(highest))),
                None => "nothing is known".to_owned(),
            },
            class: "tall",
            value: &|column| {
                let parts = PARTS.iter().filter_map(|(name, key, _)| {
                    let figure = self.figure(column, key).filter(|figure| figure.mean >= 0.0005)?;
                    Some(format!("{name} {}", words::share(Some(figure.mean))))
                });
                let parts: Vec<String> = parts.collect();
                if parts.is_empty() { "unknown".to_owned() } else { parts.join(", ") }
            },
        }
        .draw(range, &self.columns, &marks)
    }

    fn highest(&self, name: &str) -> Option<f64> {
        self.columns.iter().filter_map(|column| Some(self.figure(column, name)?.max)).reduce(f64::max)
    }

    /// Means as lines; `top`: the scale's end, by default a round number above all.
    fn lines(&self, range: Range, title: &str, unit: Unit, top: Option<f64>, lines: &[Line<'_>]) -> String {
        let lines: Vec<Line<'_>> = lines.iter().copied().filter(|(_, key, _)| self.has(key)).collect();
        let means = |key: &str| {
            self.columns.iter().filter_map(|c| Some(self.figure(c, key)?.mean)).fold(0.0, f64::max)
        };
        let top = top
            .unwrap_or_else(|| nice(lines.iter().map(|(_, key, _)| means(key)).fold(unit.least(), f64::max)));
        let mut marks = String::new();
        for (_, key, class) in &lines {
            let height = |column: &Column| {
                self.figure(column, key).map(|figure| 100.0 - (figure.mean / top * 100.0).clamp(0.0, 100.0))
            };
            let heights: Vec<Option<f64>> = self.columns.iter().map(height).collect();
            let _ = write!(marks, "<path class=\"line {class}\" d=\"{}\"/>", steps(&heights));
        }
        let legend: Vec<(&str, &str)> = lines.iter().map(|(name, _, class)| (*name, *class)).collect();
        let said = lines
            .iter()
            .filter_map(|(name, key, _)| Some(format!("{name} at most {}", unit.words(self.highest(key)?))));
        let said: Vec<String> = said.collect();
        Figure {
            title,
            unit: "",
            legend: &legend,
            scale: vec![unit.mark(top), unit.mark(top / 2.0), "0".to_owned()],
            label: if said.is_empty() { "nothing is known".to_owned() } else { said.join(", ") },
            class: "tall",
            value: &|column| {
                let values = lines.iter().filter_map(|(name, key, _)| {
                    Some(format!("{name} {}", unit.words(self.figure(column, key)?.mean)))
                });
                let values: Vec<String> = values.collect();
                if values.is_empty() { "unknown".to_owned() } else { values.join(", ") }
            },
        }
        .draw(range, &self.columns, &marks)
    }

    /// The figures of the table: the words of a column, and each row's cells.
    pub(super) fn rows(&self, range: Range) -> (Vec<String>, Vec<Row>) {
        let mut wanted: Vec<(String, String, Unit)> = [
            ("busy", "cpu", Unit::Share),
            ("load", "load", Unit::Number),
            ("memory", "memory", Unit::Share),
            ("swap", "swap", Unit::Share),
            ("read", "io-read", Unit::BytesASecond),
            ("written", "io-written", Unit::BytesASecond),
            ("received", "network-received", Unit::BytesASecond),
            ("sent", "network-sent", Unit::BytesASecond),
            ("sent again", "tcp-retransmitted", Unit::Share),
        ]
        .map(|(name, key, unit)| (name.to_owned(), key.to_owned(), unit))
        .into();
        wanted.extend(
            self.disks().into_iter().map(|mount| (mount.clone(), format!("disk:{mount}"), Unit::Share)),
        );
        wanted.retain(|(_, key, _)| self.has(key));
        let cell = |column: &Column, key: &str, unit: Unit| {
            self.figure(column, key).map_or("–".to_owned(), |figure| unit.words(figure.mean))
        };
        let rows = self.columns.iter().rev().map(|column| {
            let known = self.figures.contains_key(&column.start) && column.known;
            let cells = known.then(|| wanted.iter().map(|(_, key, unit)| cell(column, key, *unit)).collect());
            (super::chart::moment(range, column.start), cells)
        });
        let rows = rows.collect();
        (wanted.into_iter().map(|(name, ..)| name).collect(), rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Machine as Name;

    const NOW: Wall = Wall(1_794_453_247_250);

    fn bucket(start: Wall, cpu: f64) -> MachineBucket {
        let figure = |mean: f64| Summary { samples: 60, mean, max: mean };
        let figures = [("cpu", cpu), ("cpu-user", cpu), ("disk:/<b>", 0.5), ("memory", 0.4)];
        MachineBucket {
            machine: Name::this(),
            start,
            observed_ms: 60_000,
            figures: figures.map(|(name, mean)| (name.to_owned(), figure(mean))).into(),
        }
    }

    fn hour(gap: std::ops::Range<i64>) -> Machine {
        let (from, _) = Range::Hour.window(NOW);
        let minutes = (0..60).filter(|i| !gap.contains(i));
        let buckets: Vec<MachineBucket> = minutes.map(|i| bucket(Wall(from.0 + i * 60_000), 0.5)).collect();
        Machine::of(Range::Hour, NOW, &buckets)
    }

    #[test]
    fn a_gap_is_unknown_in_every_chart_and_in_the_table() {
        let machine = hour(10..20);
        let charts = machine.charts(Range::Hour);
        assert_eq!(charts.len(), 6, "what programs waited for is not known here");
        assert!(charts.iter().all(|chart| chart.contains("unknown for 10 of 60 columns")), "{}", charts[0]);
        assert_eq!(charts[0].matches("v50h-.84z").count(), 50);
        let (_, rows) = machine.rows(Range::Hour);
        assert_eq!(rows.iter().filter(|(_, cells)| cells.is_none()).count(), 10);
    }

    #[test]
    fn the_name_of_a_mount_stays_text() {
        let charts = hour(0..0).charts(Range::Hour);
        assert!(charts.iter().all(|chart| !chart.contains("<b>")));
        assert!(charts[3].contains("/&lt;b&gt;"), "{}", charts[3]);
    }

    #[test]
    fn minutes_are_merged_into_the_columns_of_a_day() {
        let (from, _) = Range::Day.window(NOW);
        let buckets: Vec<MachineBucket> =
            (0..15).map(|i| bucket(Wall(from.0 + i * 60_000), if i < 5 { 1.0 } else { 0.1 })).collect();
        let machine = Machine::of(Range::Day, NOW, &buckets);
        let figure = machine.figure(&machine.columns[0], "cpu").unwrap();
        assert_eq!((figure.samples, (figure.mean * 100.0).round(), figure.max), (900, 40.0, 1.0));
    }

    #[test]
    fn without_a_record_every_chart_is_unknown() {
        let machine = Machine::of(Range::Hour, NOW, &[]);
        let columns = machine.columns.iter().filter(|column| !column.known).count();
        assert!(columns >= 59);
        assert!(machine.charts(Range::Hour).iter().all(|chart| chart.contains("nothing is known")));
    }
}
