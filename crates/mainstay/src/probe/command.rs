//! The command probe: the user's own program, or one of the thousands of plugins that Nagios has taught to speak: exit code, a line
//! for people, and figures.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use mainstay_model::input::{ProbeAnswer, ProbeFailure};

use super::Look;
use super::program::{Ended, Program, filled, known};
use super::wire::shortened;
use crate::config::Secret;
use crate::config::probe::CommandProbe;

/// So many figures of one answer are read.
const FIGURES_MAX: usize = 32;
/// So many of them are told.
const FIGURES_TOLD: usize = 4;
/// A longer name of a figure is cut.
const LABEL_MAX: usize = 64;
/// So much of the line for people is told.
const LINE_MAX: usize = 200;

/// A figure of a plugin: `'/home'=41MB;80;90;0;100`.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    label: String,
    value: f64,
    unit: String,
    /// What it is worth a warning beyond, as written.
    warn: Option<String>,
    /// What it is critical beyond, as written.
    crit: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
}

/// Runs it and goes by its exit code.
pub(super) async fn probe(
    look: &Look<'_>,
    probe: &CommandProbe,
    withheld: &BTreeSet<String>,
) -> Result<ProbeAnswer, ProbeFailure> {
    let mut env: std::collections::BTreeMap<String, String> = known(look)
        .into_iter()
        .map(|(name, value)| (format!("MAINSTAY_{}", name.to_ascii_uppercase()), value))
        .collect();
    env.extend(probe.env.iter().map(|(name, value)| (name.clone(), filled(value, look))));
    env.extend(probe.secrets.iter().map(|(name, value)| (name.clone(), Secret::reveal(value).to_owned())));
    let argv = probe.argv.iter().map(|argument| filled(argument, look)).collect();
    let program = Program { argv, dir: &probe.dir, env, withheld };
    judge(&program.run(look).await?)
}

/// What an end means by the rules of Nagios' plugins.
fn judge(ended: &Ended) -> Result<ProbeAnswer, ProbeFailure> {
    let (line, figures) = read(&ended.output);
    let line = match (line.is_empty(), ended.errors.lines().find(|line| !line.trim().is_empty())) {
        (true, Some(error)) => error.trim().to_owned(),
        _ => line,
    };
    let line = shortened(&line, LINE_MAX);
    let or = |otherwise: &str| if line.is_empty() { otherwise.to_owned() } else { line.clone() };
    match ended.code {
        Some(0) => Ok(ProbeAnswer::said(with_figures(or("OK"), &figures))),
        Some(1) => Ok(ProbeAnswer {
            warning: Some(or("its check warns")),
            ..ProbeAnswer::said(with_figures(or("its check warns"), &figures))
        }),
        Some(2) => Err(ProbeFailure::Answer(with_figures(or("its check says CRITICAL"), &figures))),
        Some(3) => Err(ProbeFailure::NotProbed(or("its check does not know (UNKNOWN)"))),
        Some(code) => Err(ProbeFailure::NotProbed(format!(
            "the check ended with status {code}, and only 0 to 3 say something: {}",
            or("it wrote nothing")
        ))),
        None => {
            let signal = ended.signal.and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok());
            let by = signal.map_or_else(|| "a signal".to_owned(), |signal| signal.to_string());
            Err(ProbeFailure::NotProbed(format!("the check was killed by {by}")))
        }
    }
}

fn with_figures(mut line: String, figures: &[Figure]) -> String {
    for (at, figure) in figures.iter().take(FIGURES_TOLD).enumerate() {
        let between = if at == 0 { "; " } else { ", " };
        let _ = write!(line, "{between}{} {}{}", figure.label, figure.value, figure.unit);
        match (&figure.warn, &figure.crit) {
            (Some(warn), Some(crit)) => {
                let _ = write!(line, " (warn {warn}, crit {crit})");
            }
            (Some(warn), None) => {
                let _ = write!(line, " (warn {warn})");
            }
            (None, Some(crit)) => {
                let _ = write!(line, " (crit {crit})");
            }
            (None, None) => {
                if let Some(max) = figure.max.filter(|max| *max > figure.min.unwrap_or(0.0)) {
                    let _ = write!(line, " of {max}{}", figure.unit);
                }
            }
        }
    }
    if figures.len() > FIGURES_TOLD {
        let _ = write!(line, " and {} more", figures.len() - FIGURES_TOLD);
    }
    line
}

/// The line for people and the figures of an output: behind the bar of the first line, and behind the next bar further down.
fn read(output: &str) -> (String, Vec<Figure>) {
    let mut lines = output.lines().skip_while(|line| line.trim().is_empty());
    let (line, first) = split(lines.next().unwrap_or_default());
    let mut figures = Vec::new();
    read_figures(first, &mut figures);
    let mut behind_the_bar = false;
    for further in lines {
        let data = match behind_the_bar {
            true => further,
            false => {
                let Some((_, data)) = further.split_once('|') else { continue };
                behind_the_bar = true;
                data
            }
        };
        read_figures(data, &mut figures);
    }
    (line.trim().to_owned(), figures)
}

fn split(line: &str) -> (&str, &str) {
    line.split_once('|').unwrap_or((line, ""))
}

/// Reads figures up to the first thing that is none.
fn read_figures(mut data: &str, into: &mut Vec<Figure>) {
    while into.len() < FIGURES_MAX {
        data = data.trim_start();
        let Some((label, rest)) = label(data) else { return };
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        // `U` stands for a value that could not be found out.
        into.extend(figure(label, &rest[..end]));
        data = &rest[end..];
    }
}

/// A name up to its `=`; in quotes if there is a space or a `=` in it, and a quote in it is doubled.
fn label(data: &str) -> Option<(String, &str)> {
    let Some(mut rest) = data.strip_prefix('\'') else {
        let (label, rest) = data.split_once('=')?;
        let good = !label.is_empty() && !label.contains(char::is_whitespace);
        return good.then(|| (shortened(label, LABEL_MAX), rest));
    };
    let mut label = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        label.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                label.push('\'');
                rest = after;
            }
            None => return Some((shortened(&label, LABEL_MAX), after.strip_prefix('=')?)),
        }
    }
}

fn figure(label: String, text: &str) -> Option<Figure> {
    let mut parts = text.split(';');
    let value = parts.next()?;
    let unit_at = value.find(|c: char| !c.is_ascii_digit() && !"+-.,eE".contains(c)).unwrap_or(value.len());
    let (number, unit) = value.split_at(unit_at);
    let mut range = || parts.next().filter(|text| !text.is_empty()).map(|text| shortened(text, 40));
    let (warn, crit) = (range(), range());
    let mut end = || parts.next().and_then(self::number);
    let (min, max) = (end(), end());
    Some(Figure { label, value: self::number(number)?, unit: shortened(unit, 8), warn, crit, min, max })
}

/// Some plugins write numbers as their country does.
fn number(text: &str) -> Option<f64> {
    text.replace(',', ".").parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn figures_are_read_as_plugins_write_them() {
        let (line, figures) = read(
            "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n/ 15272 MB\n/home 5 | '/var log''s'=68,5%;@10:20;~:90;;\nload1=0.52 bad=U next=1s\n",
        );
        assert_eq!(line, "DISK OK - free space: / 3326 MB (56%);");
        let root = Figure {
            label: "/".to_owned(),
            value: 2643.0,
            unit: "MB".to_owned(),
            warn: Some("5948".to_owned()),
            crit: Some("5958".to_owned()),
            min: Some(0.0),
            max: Some(5968.0),
        };
        assert_eq!(figures[0], root);
        assert_eq!((figures[1].label.as_str(), figures[1].value), ("/var log's", 68.5));
        assert_eq!((figures[1].unit.as_str(), figures[1].warn.as_deref()), ("%", Some("@10:20")));
        assert_eq!((figures[2].label.as_str(), figures[2].value), ("load1", 0.52));
        assert_eq!((figures[3].label.as_str(), figures[3].unit.as_str()), ("next", "s"));
        assert_eq!(figures.len(), 4);
    }

    #[test]
    fn what_is_no_figure_ends_them_and_they_are_never_too_many() {
        for none in
            ["", "| a", "| =1", "| 'a=1", "| 'a'1", "| a b=1", "| a=", "| a=x", "| a=1e999", "| a=nan"]
        {
            assert_eq!(read(none).1, [], "{none}");
        }
        let many = format!("x | {}", "a=1 ".repeat(5000));
        assert_eq!(read(&many).1.len(), FIGURES_MAX);
        let told = with_figures("x".to_owned(), &read(&many).1);
        assert_eq!(told, "x; a 1, a 1, a 1, a 1 and 28 more");
        let long = format!("x | {}=1", "a".repeat(5000));
        assert_eq!(read(&long).1[0].label.chars().count(), LABEL_MAX + 1);
    }

    proptest! {
        #[test]
        fn no_output_is_too_strange_to_be_judged(output in "[ -~\\n|'=;é]{0,200}", code in -1i32..6) {
            let (_, figures) = read(&output);
            prop_assert!(figures.len() <= FIGURES_MAX);
            let _ = judge(&Ended { code: Some(code), signal: None, output, errors: String::new() });
        }
    }
}
