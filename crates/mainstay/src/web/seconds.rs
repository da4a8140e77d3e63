//! The machine second by second around an incident, as charts.

use std::fmt::Write as _;

use mainstay_model::Wall;
use mainstay_model::host::seconds::{Second, around};
use mainstay_model::incident::Incident;

use super::chart::{Frame, Hit, nice, short, steps};
use super::words;

/// Columns of all spans together: more are narrower than a line, and make the page long.
const COLUMNS_MAX: i64 = 150;
/// Widths of a column, seconds.
const WIDTHS: [i64; 4] = [1, 2, 5, 10];

/// A part of the time around an incident.
#[derive(Debug)]
pub(super) struct Span {
    /// Which part, when there are two.
    pub(super) name: Option<&'static str>,
    pub(super) charts: Vec<String>,
}

/// All charts; none of a machine of which nothing is known.
pub(super) fn charts(incident: &Incident, seconds: &[Second]) -> Vec<Span> {
    // What has not come yet is not unknown, nor is what was before Mainstay looked for the first time.
    let within = |(from, to): (Wall, Wall)| {
        let mut found = seconds.iter().map(|second| second.at).filter(|at| (from..=to).contains(at));
        let first = found.next()?;
        Some((first, found.next_back().unwrap_or(first)))
    };
    let spans = around(incident.opened_at, incident.resolved_at);
    let spans: Vec<(Wall, Wall)> = spans.into_iter().filter_map(within).collect();
    let whole_s: i64 = spans.iter().map(|(from, to)| to.ms_since(*from) / 1000 + 1).sum();
    let width = WIDTHS.into_iter().find(|width| whole_s / width <= COLUMNS_MAX).unwrap_or(WIDTHS[3]);
    let names = if spans.len() > 1 { [Some("As it began"), Some("As it ended")] } else { [None, None] };
    let span = |((from, to), name): ((Wall, Wall), Option<&'static str>)| {
        let columns = Columns::of(incident, seconds, (from, to), width * 1000);
        Span { name, charts: columns.charts() }
    };
    spans.into_iter().zip(names).map(span).collect()
}

/// A span in columns of one width.
struct Columns {
    from: Wall,
    width_ms: i64,
    began: Wall,
    over: Option<Wall>,
    /// The mean of each; `None`: nothing was read.
    means: Vec<Option<Second>>,
}

type Value = fn(&Second) -> Option<f64>;
/// A line or a part of a bar: its name, its style, its figure.
type Series = (&'static str, &'static str, Value);

impl Columns {
    fn of(incident: &Incident, seconds: &[Second], (from, to): (Wall, Wall), width_ms: i64) -> Self {
        let count = usize::try_from(to.ms_since(from) / width_ms).unwrap_or(0) + 1;
        let mut columns: Vec<Vec<Second>> = vec![Vec::new(); count];
        for second in seconds {
            // Reports come a few milliseconds early or late, and each belongs to a column of its own.
            let place = (second.at.ms_since(from) + 500).div_euclid(width_ms);
            if let Some(column) = usize::try_from(place).ok().and_then(|place| columns.get_mut(place)) {
                column.push(*second);
            }
        }
        let means = columns.iter().map(|column| Second::mean(column)).collect();
        let over = incident.recovered_at.or(incident.resolved_at);
        Self { from, width_ms, began: incident.began_at, over, means }
    }

    fn charts(&self) -> Vec<String> {
        let memory: [Series; 3] = [
            ("in use", "p50", |s| s.memory),
            ("swap", "p90", |s| s.swap),
            ("waited for", "p99", |s| s.pressure_memory),
        ];
        let traffic: [Series; 2] = [
            ("disks", "p50", |s| Some(s.io_read? + s.io_written?)),
            ("network", "p99", |s| Some(s.network_received? + s.network_sent?)),
        ];
        let rate = |value: f64| format!("{}/s", words::size(value));
        vec![
            self.processors(),
            self.lines("Memory", Some(1.0), &memory, share),
            self.lines("Disks and network", None, &traffic, rate),
        ]
    }

    fn highest(&self, value: Value) -> Option<f64> {
        self.means.iter().flatten().filter_map(value).reduce(f64::max)
    }

    /// What the processors did, stacked.
    fn processors(&self) -> String {
        const PARTS: [Series; 3] = [
            ("busy", "ok", |s| Some((s.cpu? - s.cpu_steal?).max(0.0))),
            ("other machines", "failed", |s| s.cpu_steal),
            ("disk wait", "client", |s| s.cpu_iowait),
        ];
        const WAITED: Series = ("waited for", "p99", |s| s.pressure_cpu);
        let mut paths: [String; PARTS.len()] = Default::default();
        for (x, mean) in self.means.iter().enumerate() {
            let mut top = 100.0;
            for (path, (.., value)) in paths.iter_mut().zip(PARTS) {
                let height = (mean.as_ref().and_then(value).unwrap_or(0.0) * 100.0).clamp(0.0, top);
                if height >= 0.05 {
                    top -= height;
                    let _ = write!(path, "M{x}.04 {}h.92v{}h-.92z", short(top), short(height));
                }
            }
        }
        let mut marks = String::new();
        for (path, (_, class, _)) in paths.iter().zip(PARTS) {
            let _ = write!(marks, "<path class=\"bar {class}\" d=\"{path}\"/>");
        }
        let mut series = PARTS.to_vec();
        if self.highest(WAITED.2).is_some() {
            marks.push_str(&self.line(WAITED, 1.0));
            series.push(WAITED);
        }
        self.draw("Processors", 1.0, &series, share, &marks)
    }

    /// Means as lines; `top`: the scale's end, by default a round number above all.
    fn lines(&self, title: &str, top: Option<f64>, lines: &[Series], words: fn(f64) -> String) -> String {
        let lines: Vec<Series> =
            lines.iter().copied().filter(|(.., value)| self.highest(*value).is_some()).collect();
        let highest = lines.iter().filter_map(|(.., value)| self.highest(*value)).fold(0.01, f64::max);
        let top = top.unwrap_or_else(|| nice(highest));
        let marks: String = lines.iter().map(|series| self.line(*series, top)).collect();
        self.draw(title, top, &lines, words, &marks)
    }

    fn line(&self, (_, class, value): Series, top: f64) -> String {
        let height =
            |mean: &Option<Second>| Some(100.0 - (value(mean.as_ref()?)? / top * 100.0).clamp(0.0, 100.0));
        let heights: Vec<Option<f64>> = self.means.iter().map(height).collect();
        format!("<path class=\"line {class}\" d=\"{}\"/>", steps(&heights))
    }

    fn draw(
        &self,
        title: &str,
        top: f64,
        series: &[Series],
        words: fn(f64) -> String,
        marks: &str,
    ) -> String {
        let hit = |(x, mean): (usize, &Option<Second>)| {
            let at = self.after(x as i64 * self.width_ms);
            let parts = series.iter().filter_map(|(name, _, value)| {
                let value = value(mean.as_ref()?)?;
                Some(format!("{name} {}", words(value)))
            });
            let parts: Vec<String> = parts.collect();
            let value = if parts.is_empty() { "unknown".to_owned() } else { parts.join(", ") };
            Hit { known: !parts.is_empty(), title: format!("{at} {value}") }
        };
        let hits: Vec<Hit> = self.means.iter().enumerate().map(hit).collect();
        let legend: Vec<(&str, &str)> = series.iter().map(|(name, class, _)| (*name, *class)).collect();
        let said = series
            .iter()
            .filter_map(|(name, _, value)| Some(format!("{name} at most {}", words(self.highest(*value)?))));
        let said: Vec<String> = said.collect();
        let whole_ms = self.width_ms * self.means.len() as i64;
        let ticks: Vec<String> = (0..=4).map(|i| self.after(whole_ms * i / 4)).collect();
        let frame = Frame {
            title,
            unit: &format!("{} s a column", self.width_ms / 1000),
            legend: &legend,
            scale: &[words(top), words(top / 2.0), "0".to_owned()],
            label: &if said.is_empty() { "nothing is known".to_owned() } else { said.join(", ") },
            class: "tall",
        };
        frame.draw(&hits, &ticks, &format!("{marks}{}", self.moments()))
    }

    /// How long after it began: `+12 s`, `−40 s`.
    fn after(&self, ms: i64) -> String {
        let ms = self.from.0.saturating_add(ms).saturating_sub(self.began.0);
        let seconds = (ms as f64 / 1000.0).round() as i64;
        let sign = if seconds < 0 { '−' } else { '+' };
        match seconds.abs() {
            seconds @ 0..=90 => format!("{sign}{seconds}\u{202f}s"),
            seconds => format!("{sign}{}", words::lasted(seconds * 1000)),
        }
    }

    /// When it began and when it was over, as upright lines.
    fn moments(&self) -> String {
        let mut path = String::new();
        for at in [Some(self.began), self.over].into_iter().flatten() {
            let x = at.ms_since(self.from) as f64 / self.width_ms as f64;
            if (0.0..=self.means.len() as f64).contains(&x) {
                let _ = write!(path, "M{} 0V100", short(x));
            }
        }
        format!("<path class=\"moment\" d=\"{path}\"/>")
    }
}

fn share(value: f64) -> String {
    words::share(Some(value))
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake;
    use super::*;

    fn incident(opened_s: i64, resolved_s: Option<i64>) -> Incident {
        let mut incident = fake::resolved_incident(3);
        (incident.began_at, incident.opened_at) = (Wall(opened_s * 1000), Wall(opened_s * 1000));
        incident.recovered_at = resolved_s.map(|s| Wall(s * 1000));
        incident.resolved_at = incident.recovered_at;
        incident
    }

    fn seconds(of: impl Iterator<Item = i64>) -> Vec<Second> {
        let second = |n: i64| Second {
            at: Wall(n * 1000),
            cpu: Some(0.5),
            cpu_steal: Some(0.1),
            memory: Some(0.4),
            ..Second::default()
        };
        of.map(second).collect()
    }

    #[test]
    fn a_short_incident_is_shown_second_by_second_with_its_gap() {
        let seconds = seconds((940..1080).filter(|n| !(1010..1020).contains(n)));
        let spans = charts(&incident(1000, Some(1020)), &seconds);
        assert_eq!((spans.len(), spans[0].name, spans[0].charts.len()), (1, None, 3));
        let chart = &spans[0].charts[0];
        assert!(chart.contains("unknown for 10 of 140 columns"), "{chart}");
        assert!(chart.contains("<small>1 s a column</small>"), "{chart}");
        assert!(chart.contains("<path class=\"moment\" d=\"M60 0V100M80 0V100\"/>"), "{chart}");
        assert!(
            chart.contains("+5\u{202f}s busy 40\u{202f}%, other machines 10\u{202f}%</title>"),
            "{chart}"
        );
        assert!(chart.contains("−60\u{202f}s busy"), "{chart}");
        let traffic = &spans[0].charts[2];
        assert!(
            traffic.contains("nothing is known") && traffic.contains("unknown for 140 of 140"),
            "{traffic}"
        );
    }

    #[test]
    fn of_a_long_one_the_beginning_and_the_end_are_shown() {
        let seconds = seconds((940..=1600).chain(8880..=9060));
        let spans = charts(&incident(1000, Some(9000)), &seconds);
        let names: Vec<_> = spans.iter().map(|span| span.name).collect();
        assert_eq!(names, [Some("As it began"), Some("As it ended")]);
        for span in &spans {
            assert!(!span.charts[0].contains("unknown"), "{}", span.charts[0]);
        }
        let columns = |span: &Span| span.charts[0].matches("<title>").count();
        assert!(columns(&spans[0]) + columns(&spans[1]) <= COLUMNS_MAX as usize + 2);
    }

    #[test]
    fn what_has_not_come_yet_is_not_drawn_and_without_a_machine_nothing_is() {
        let open = incident(1000, None);
        let spans = charts(&open, &seconds(940..1003));
        assert_eq!(spans[0].charts[0].matches("<title>").count(), 63);
        assert!(charts(&open, &[]).is_empty());
    }
}
