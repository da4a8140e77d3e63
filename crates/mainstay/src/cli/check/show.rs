//! The check for a person: a line a layer with its mark and time, then the verdict in a few sentences.

use super::layers::{Layer, State, layers};
use super::observed::Observations;
use super::verdict::{Fault, Verdict};
use crate::cli::paint::{Cell, Paint, Tone, clean, milliseconds, table};

/// Sentences are broken into lines of so many letters.
const WIDTH: usize = 96;

/// The whole text.
pub(super) fn render(seen: &Observations, verdict: &Verdict, paint: Paint) -> String {
    let mut out = format!("{}\n\n", paint.tone(Tone::Heading, &clean(&seen.url)));
    let layers = layers(seen);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut url = None;
    for layer in &layers {
        if let Some(next) = layer.url.as_deref().filter(|next| Some(*next) != url) {
            if url.is_some() {
                rows.push(vec![
                    Cell::text("→"),
                    Cell::text(""),
                    Cell::text(""),
                    Cell::text(next).tone(Tone::Heading),
                ]);
            }
            url = Some(next);
        }
        rows.extend(lines_of(layer));
    }
    out.push_str(&table(paint, &rows));
    let finding = &verdict.finding;
    let tone = if finding.fault == Fault::None { Tone::Good } else { Tone::Bad };
    let headline = clean(&finding.headline);
    let fault = paint.tone(tone, finding.fault.words());
    out.push_str(&format!("\n{}  {fault}: {headline}\n", paint.tone(Tone::Heading, "verdict")));
    for paragraph in [&finding.seen, &finding.advice] {
        out.push('\n');
        out.push_str(&wrapped(&clean(paragraph), "  ", "  "));
    }
    for (at, warning) in verdict.warnings.iter().enumerate() {
        if at == 0 {
            out.push('\n');
        }
        out.push_str(&wrapped(&clean(warning), "  ! ", "    "));
    }
    out
}

fn lines_of(layer: &Layer) -> Vec<Vec<Cell>> {
    let (mark, tone) = match layer.state {
        State::Ok => ("✓", Tone::Good),
        State::Warning => ("!", Tone::Warning),
        State::Failed => ("✗", Tone::Bad),
        State::Skipped => ("–", Tone::Quiet),
    };
    let took = if layer.took.is_zero() {
        String::new()
    } else {
        milliseconds(Some(layer.took.as_secs_f64() * 1000.0))
    };
    let mut lines = vec![vec![
        Cell::text(mark).tone(tone),
        Cell::text(words(layer.name)),
        Cell::figure(took).tone(Tone::Quiet),
        Cell::text(&layer.text),
    ]];
    // What is as it should be is told in one line, and so is what two resolvers say.
    let is_told = layer.name == "dns" && layer.details.len() <= 2;
    if matches!(layer.state, State::Warning | State::Failed) && !is_told {
        let more = layer.details.iter().filter(|detail| !layer.text.contains(detail.as_str()));
        lines.extend(more.map(|detail| {
            vec![
                Cell::text(""),
                Cell::text(""),
                Cell::text(""),
                Cell::text(format!("  {detail}")).tone(Tone::Quiet),
            ]
        }));
    }
    lines
}

/// What a person calls a layer.
fn words(name: &str) -> &str {
    match name {
        "machine" => "this machine",
        "network" => "this network",
        "dns" => "DNS",
        "tcp" => "TCP",
        "tls" => "TLS",
        "http" => "HTTP",
        other => other,
    }
}

/// A paragraph in lines that fit, the first and the others each with what they begin with.
fn wrapped(text: &str, first: &str, others: &str) -> String {
    let mut out = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = others.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_is_broken_between_words_and_keeps_them_all() {
        let text = "word ".repeat(60) + &"x".repeat(200);
        let shown = wrapped(&text, "  ! ", "    ");
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH || line.contains("xxx")), "{shown}");
        assert_eq!(shown.split_whitespace().filter(|word| *word == "word").count(), 60);
        assert!(shown.starts_with("  ! word"));
    }
}
