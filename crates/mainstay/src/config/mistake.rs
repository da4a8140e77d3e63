//! Mistakes in a config: where each one is, what is wrong and what to write instead. All of them are gathered before any
//! is shown, because a person who mends a config wants one round, not ten.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// One mistake, for a person and for `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file as it was named, or `command line`.
    pub file: String,
    /// Its line, from 1; 0 when it is not in a file's text.
    pub line: usize,
    /// Its column in characters, from 1; 0 when it is not in a file's text.
    pub column: usize,
    /// The key with its path, `service.shop.health.interval`; empty for the file as a whole.
    pub key: String,
    /// The value as written; `None` when there is none to show or it may be secret.
    pub value: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}\n    {}", self.what, self.remedy)
    }
}

/// All mistakes of a config in the order of their places; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// A config that could not even be read.
    pub(super) fn one(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }

    /// Each of them.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    /// All in one line, for a log or a page: how many, and the first.
    pub fn in_one_line(&self) -> String {
        let first =
            self.0.first().map_or_else(String::new, |first| first.to_string().replace("\n    ", "; "));
        match self.0.len() {
            1 => first,
            count => format!("{count} mistakes, the first: {first}"),
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

/// What stands in place of a file's name when an option is wrong.
pub(super) const COMMAND_LINE: &str = "command line";

/// Nobody reads more mistakes than this at once.
const MOST: usize = 1000;

/// A place in the config's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The key with its path.
    pub(super) key: String,
    /// The bytes a mistake points at; an empty range at 0 for the file as a whole.
    pub(super) span: Range<usize>,
    /// The value may be secret and is not shown.
    pub(super) secret: bool,
}

/// A key below another one, quoted where TOML wants it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Gathers mistakes while a config is read and resolved.
#[derive(Debug)]
pub(super) struct Collector<'t> {
    file: String,
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    found: RefCell<Vec<Found>>,
}

#[derive(Debug)]
struct Found {
    start: usize,
    sort: Sort,
    mistake: Mistake,
}

/// What a mistake is about decides whether it can be believed beside a syntax error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// The text is not TOML.
    Syntax,
    /// Something that was written.
    Written,
    /// Something that is missing, perhaps only because a syntax error hid it.
    Absent,
}

impl<'t> Collector<'t> {
    /// A collector for one text.
    pub(super) fn new(file: &str, text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.to_owned(), text, lines, found: RefCell::default() }
    }

    /// A value is wrong.
    pub(super) fn value(&self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        let value = (!place.secret).then(|| self.excerpt(&place.span)).filter(|value| !value.is_empty());
        self.add(Sort::Written, place, value, what.into(), remedy.into());
    }

    /// A key, or a table as a whole, is wrong.
    pub(super) fn key(&self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Sort::Written, place, None, what.into(), remedy.into());
    }

    /// Something is missing at this place.
    pub(super) fn absent(&self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Sort::Absent, place, None, what.into(), remedy.into());
    }

    /// The text is not TOML.
    pub(super) fn syntax(&self, span: Range<usize>, what: impl Into<String>, remedy: impl Into<String>) {
        let place = Place { span, ..Place::default() };
        self.add(Sort::Syntax, &place, None, what.into(), remedy.into());
    }

    /// Something in another file that the config names is wrong, in this line of it (0: the file as a whole).
    pub(super) fn in_file(&self, place: &Place, file: String, line: usize, what: String, remedy: String) {
        if self.found.borrow().len() >= MOST {
            return;
        }
        let (key, value) = (String::new(), None);
        let mistake = Mistake { file, line, column: usize::from(line > 0), key, value, what, remedy };
        self.found.borrow_mut().push(Found { start: place.span.start, sort: Sort::Written, mistake });
    }

    /// The line that a place is in, from 1.
    pub(super) fn line(&self, place: &Place) -> usize {
        self.position(place.span.start).0
    }

    /// The text of the line that a byte is in, without its end.
    pub(super) fn line_text(&self, at: usize) -> &'t str {
        let (line, _) = self.position(at);
        let start = self.lines[line - 1];
        self.text[start..].lines().next().unwrap_or("")
    }

    /// `result`, unless there were mistakes.
    ///
    /// # Errors
    /// All mistakes in the order of their places.
    pub(super) fn finish<T>(self, result: T) -> Result<T, Mistakes> {
        if self.found.borrow().is_empty() { Ok(result) } else { Err(self.into_mistakes()) }
    }

    /// All mistakes in the order of their places; there must be at least one.
    pub(super) fn into_mistakes(self) -> Mistakes {
        let mut found = self.found.into_inner();
        if found.iter().any(|f| f.sort == Sort::Syntax) {
            // What is missing may stand in a line that could not be read.
            found.retain(|f| f.sort != Sort::Absent);
        }
        found.sort_by_key(|f| f.start);
        let mut mistakes: Vec<Mistake> = found.into_iter().map(|f| f.mistake).collect();
        mistakes.dedup();
        Mistakes(mistakes)
    }

    fn add(&self, sort: Sort, place: &Place, value: Option<String>, what: String, remedy: String) {
        if self.found.borrow().len() >= MOST {
            return;
        }
        // An option of the command line has no place in the file.
        let (file, (line, column)) = match place.key.starts_with("--") {
            true => (COMMAND_LINE, (0, 0)),
            false => (self.file.as_str(), self.position(place.span.start)),
        };
        self.found.borrow_mut().push(Found {
            start: place.span.start,
            sort,
            mistake: Mistake {
                file: file.to_owned(),
                line,
                column,
                key: place.key.clone(),
                value,
                what,
                remedy,
            },
        });
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|&start| start <= at);
        let start = self.lines[line - 1];
        (line, self.text.get(start..at).map_or(0, |before| before.chars().count()) + 1)
    }

    /// A value as written, at most one line of 60 characters.
    fn excerpt(&self, span: &Range<usize>) -> String {
        const LONGEST: usize = 60;
        let written = self.text.get(span.clone()).unwrap_or("").trim();
        let first = written.lines().next().unwrap_or("");
        let mut shown: String =
            first.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if shown.len() < written.len() {
            shown.push('…');
        }
        shown
    }
}

/// The known word that somebody most likely meant: at most a third of its letters wrong.
pub(super) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let written = written.to_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|word| (distance(&written, word), word))
        .filter(|&(distance, word)| distance <= word.len().div_ceil(3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

/// Letters to change, add, drop or swap with their neighbour to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    // A longer word is never a slip of a known one, and the work grows with the product of the lengths.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().max(b.len()) > LONGEST {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_two_lines_with_place_value_and_remedy() {
        let text = "a = 1\n[b]\ninterval = \"1\"\n";
        let collector = Collector::new("mainstay.toml", text);
        let start = text.find("\"1\"").unwrap();
        let place = Place { key: "b.interval".to_owned(), span: start..start + 3, secret: false };
        collector.value(&place, "a duration needs a unit", "write \"1s\"");
        let mistakes = collector.finish(()).unwrap_err();
        assert_eq!(
            mistakes.to_string(),
            "mainstay.toml:3:12: b.interval = \"1\": a duration needs a unit\n    write \"1s\""
        );
        assert_eq!(
            mistakes.in_one_line(),
            "mainstay.toml:3:12: b.interval = \"1\": a duration needs a unit; write \"1s\""
        );
    }

    #[test]
    fn a_secret_value_is_not_shown() {
        let text = "password = \"hunter2\"";
        let collector = Collector::new("f", text);
        collector.value(&Place { key: "password".to_owned(), span: 11..20, secret: true }, "no", "yes");
        assert!(!collector.finish(()).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let collector = Collector::new("f", "äöü x");
        assert_eq!(collector.position("äöü ".len()), (1, 5));
    }

    #[test]
    fn a_slip_of_the_pen_finds_the_word_that_was_meant() {
        assert_eq!(nearest("helth", ["hosts", "health"]), Some("health"));
        assert_eq!(nearest("per_try", ["per-try", "retry"]), Some("per-try"));
        assert_eq!(nearest("weigth", ["weight"]), Some("weight"));
        assert_eq!(nearest("colour", ["weight", "address"]), None);
    }

    #[test]
    fn keys_that_toml_would_quote_are_quoted_in_the_path() {
        assert_eq!(join("service", "a b"), "service.\"a b\"");
    }
}
