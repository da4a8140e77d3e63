//! Text for a terminal: aligned columns, the words and shapes of states, times. Colour only ever underlines what shape and
//! word say already, and only on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;
use mainstay_model::Wall;
use mainstay_model::incident::{IncidentState, Severity};
use mainstay_model::input::AdminState;
use mainstay_model::snapshot::{Health, Rates, ServerSnapshot, ServiceState};

use crate::config::people_duration;

/// Whether escape sequences are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Colour,
}

/// How good what is shown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
    Heading,
}

impl Paint {
    /// Colour on a terminal that can show it, unless <https://no-color.org> is asked for.
    pub(super) fn for_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb {
            Paint::Colour
        } else {
            Paint::Plain
        }
    }

    /// The text in the colour of its tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Quiet => "2",
            Tone::Heading => "1",
        };
        match self {
            Paint::Plain => text.to_owned(),
            Paint::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    tone: Option<Tone>,
    right: bool,
}

impl Cell {
    /// Words.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: clean(&text.into()), tone: None, right: false }
    }

    /// A figure, which stands at the right.
    pub(super) fn figure(text: impl Into<String>) -> Self {
        Self { right: true, ..Self::text(text) }
    }

    /// In this tone.
    pub(super) fn tone(self, tone: Tone) -> Self {
        Self { tone: Some(tone), ..self }
    }
}

/// Rows with their columns in line, each row indented by two.
pub(super) fn table(paint: Paint, rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            let gap = " ".repeat(width - cell.text.chars().count());
            let shown = cell.tone.map_or_else(|| cell.text.clone(), |tone| paint.tone(tone, &cell.text));
            line.push_str("  ");
            line.push_str(&if cell.right { gap + &shown } else { shown + &gap });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What came over the network, without anything that could steer a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Shape and word of a server's state.
pub(super) fn server_state(server: &ServerSnapshot) -> (String, Tone) {
    let (shape, tone) = match server.health {
        Health::Healthy => ('●', Tone::Good),
        Health::Degraded => ('◐', Tone::Warning),
        Health::Unhealthy => ('○', Tone::Bad),
        Health::Unknown => ('◌', Tone::Quiet),
    };
    let mut words = format!("{shape} {}", server.health.as_str());
    if server.maintenance.is_some() {
        words.push_str(", in maintenance");
    }
    match server.admin {
        AdminState::Ready => match server.note {
            Some(note) => {
                words.push_str(", ");
                words.push_str(note.as_str());
            }
            None if !server.in_rotation => words.push_str(", out"),
            None => {}
        },
        AdminState::Draining | AdminState::Maintenance => {
            words.push_str(", ");
            words.push_str(server.admin.as_str());
        }
    }
    (words, tone)
}

/// Shape and word of a service's state.
pub(super) fn service_state(state: ServiceState) -> (String, Tone) {
    let (shape, tone) = match state {
        ServiceState::Healthy => ('●', Tone::Good),
        ServiceState::Degraded => ('◐', Tone::Warning),
        ServiceState::Down => ('○', Tone::Bad),
        ServiceState::Unknown => ('◌', Tone::Quiet),
        ServiceState::Maintenance => ('◇', Tone::Quiet),
    };
    (format!("{shape} {}", state.as_str()), tone)
}

/// The tone of an incident.
pub(super) fn incident_tone(state: IncidentState, severity: Severity) -> Tone {
    match (state, severity) {
        (IncidentState::Resolved, _) => Tone::Quiet,
        (_, Severity::Degraded) => Tone::Warning,
        (_, Severity::Partial | Severity::Down) => Tone::Bad,
    }
}

/// `2026-11-22 08:20:01 UTC`.
pub(super) fn moment(at: Wall) -> String {
    Timestamp::from_millisecond(at.0)
        .map_or_else(|_| "unknown".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// `08:20:01.123`.
pub(super) fn moment_ms(at: Wall) -> String {
    Timestamp::from_millisecond(at.0)
        .map_or_else(|_| "unknown".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string())
}

/// The time from one moment to a later one; a clock that was set back makes no time.
pub(super) fn between(earlier: Wall, later: Wall) -> String {
    people_duration(Duration::from_millis(u64::try_from(later.ms_since(earlier)).unwrap_or(0)))
}

/// `1 file`, `2 files`.
pub(super) fn counted(n: u64, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// `12.3/s`.
pub(super) fn per_second(rates: &Rates) -> String {
    match rates.per_second {
        rate if rate >= 100.0 => format!("{rate:.0}/s"),
        rate => format!("{rate:.1}/s"),
    }
}

/// `0.4%`; a dash when there was nothing to fail.
pub(super) fn share(share: Option<f64>) -> String {
    match share {
        None => "–".to_owned(),
        Some(share) if share == 0.0 || share >= 0.1 => format!("{:.0}%", share * 100.0),
        // Never round a fault away.
        Some(share) => format!("{:.1}%", (share * 100.0).max(0.1)),
    }
}

/// `3.2 ms`, `1.20 s`; a dash without any.
pub(super) fn milliseconds(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms >= 1000.0 => format!("{:.2} s", ms / 1000.0),
        Some(ms) if ms >= 10.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_line_whatever_their_letters() {
        let rows = vec![
            vec![Cell::text("SERVER"), Cell::figure("REQ")],
            vec![Cell::text("●é"), Cell::figure("1").tone(Tone::Good)],
        ];
        assert_eq!(table(Paint::Plain, &rows), "  SERVER  REQ\n  ●é        1\n");
        assert_eq!(table(Paint::Colour, &rows).matches("\x1b[").count(), 2);
    }

    #[test]
    fn text_from_the_network_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn small_shares_are_not_rounded_away() {
        assert_eq!(share(Some(0.0)), "0%");
        assert_eq!(share(Some(0.0001)), "0.1%");
        assert_eq!(share(Some(0.25)), "25%");
        assert_eq!(share(None), "–");
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(moment(Wall(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment_ms(Wall(1_234)), "1970-01-01 00:00:01.234");
        assert_eq!(between(Wall(5_000), Wall(0)), "0s");
    }
}
