//! What was really answered when something failed: the first bytes of it, for who looks into the incident afterwards, and when
//! each part of it was done.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ServerId;

/// An answer that was not good, as it came. Names of headers that carry secrets keep their names and lose their values; nothing
/// can be known of secrets within a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What was asked: `GET /health`.
    pub asked: String,
    /// HTTP status; `None`: there was no answer, or it was not HTTP.
    #[serde(default)]
    pub status: Option<u16>,
    /// `name: value` in lines, in the order in which they came. At most [`Sample::HEADERS_MAX`] bytes.
    #[serde(default)]
    pub headers: String,
    /// The beginning of the body, as text. At most [`Sample::BODY_MAX`] bytes of it were looked at.
    #[serde(default)]
    pub body: String,
    /// The body is longer than what is here, or broke off.
    #[serde(default)]
    pub cut: bool,
    /// When each part was done.
    #[serde(default)]
    pub phases: Phases,
}

/// An answer as it came, of which a sample is made.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// HTTP status.
    pub status: u16,
    /// As much of its body as was read.
    pub body: &'a [u8],
    /// That was all of it.
    pub whole: bool,
}

impl Sample {
    /// Bytes of a body that are kept.
    pub const BODY_MAX: usize = 4096;
    /// Bytes of what threads were at that are kept.
    pub const THREADS_MAX: usize = 32 * 1024;
    /// Bytes of headers that are kept.
    pub const HEADERS_MAX: usize = 2048;
    /// Samples that one incident keeps: the first tell how it began, and more of them tell the same.
    pub const IN_INCIDENT: usize = 6;

    /// What came no further than this.
    pub fn unanswered(asked: impl Into<String>, phases: Phases) -> Self {
        let (headers, body) = (String::new(), String::new());
        Self { asked: asked.into(), status: None, headers, body, cut: false, phases }
    }

    /// What was answered.
    pub fn answered<'h>(
        asked: impl Into<String>,
        answer: Answered<'_>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        phases: Phases,
    ) -> Self {
        let kept = &answer.body[..answer.body.len().min(Self::BODY_MAX)];
        Self {
            asked: asked.into(),
            status: Some(answer.status),
            headers: lines(headers),
            body: legible(kept),
            cut: !answer.whole || kept.len() < answer.body.len(),
            phases,
        }
    }

    /// The last lines that a process wrote, oldest first; `None`: it wrote nothing.
    pub fn written(lines: &[String]) -> Option<Self> {
        let mut first = lines.len();
        let mut room = Self::BODY_MAX;
        while first > 0 && lines[first - 1].len() < room {
            first -= 1;
            room -= lines[first].len() + 1;
        }
        let body = legible(lines[first..].join("\n").as_bytes());
        let (asked, headers) = (WRITTEN.to_owned(), String::new());
        let sample = Self { asked, status: None, headers, body, cut: first > 0, phases: Phases::default() };
        (!sample.body.trim().is_empty()).then_some(sample)
    }

    /// What the threads of a process were at, in lines; `None`: there are none.
    pub fn seen(lines: &[String]) -> Option<Self> {
        let whole = lines.join("\n");
        let mut end = whole.len().min(Self::THREADS_MAX);
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        let (asked, headers) = (SEEN.to_owned(), String::new());
        let (body, cut) = (legible(&whole.as_bytes()[..end]), end < whole.len());
        let sample = Self { asked, status: None, headers, body, cut, phases: Phases::default() };
        (!sample.body.trim().is_empty()).then_some(sample)
    }

    /// What it is a sample of.
    pub(crate) fn sort(&self) -> Sort {
        match self.asked.as_str() {
            WRITTEN => Sort::Written,
            SEEN => Sort::Seen,
            _ => Sort::Answered,
        }
    }

    /// `GET /health: status 503`, `GET /: no answer`, `the last lines that it wrote`.
    pub fn words(&self) -> String {
        match self.status {
            Some(status) => format!("{}: status {status}", self.asked),
            None if self.sort() != Sort::Answered => self.asked.clone(),
            None => format!("{}: no answer", self.asked),
        }
    }
}

/// Sorts of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Answered,
    /// By a process.
    Written,
    /// Of the threads of a process.
    Seen,
}

/// What stands in place of a question above what the threads of a process were at.
const SEEN: &str = "what its threads were at";
/// What stands in place of a question above the lines of a process.
const WRITTEN: &str = "the last lines that it wrote";

/// A server's answer to a visitor that was not good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficSample {
    /// Who answered.
    pub server: ServerId,
    /// The request's id, as its visitor was told it.
    pub request: String,
    /// What was answered.
    pub sample: Arc<Sample>,
}

/// When each part of a look was done, counted from its beginning; `None`: it did not come to that, or there is no such part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Phases {
    /// The name was looked up.
    #[serde(rename = "resolved_ms", with = "milliseconds", default)]
    pub resolved: Option<Duration>,
    /// The connection was accepted.
    #[serde(rename = "connected_ms", with = "milliseconds", default)]
    pub connected: Option<Duration>,
    /// TLS was agreed on.
    #[serde(rename = "secured_ms", with = "milliseconds", default)]
    pub secured: Option<Duration>,
    /// The answer began.
    #[serde(rename = "first_byte_ms", with = "milliseconds", default)]
    pub first_byte: Option<Duration>,
    /// The answer was whole.
    #[serde(rename = "last_byte_ms", with = "milliseconds", default)]
    pub last_byte: Option<Duration>,
}

impl Phases {
    /// Each part's name and how long it took, in their order.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let ends = [
            ("resolve", self.resolved),
            ("connect", self.connected),
            ("TLS", self.secured),
            ("first byte", self.first_byte),
            ("rest", self.last_byte),
        ];
        let mut before = Duration::ZERO;
        ends.into_iter().filter_map(move |(name, at)| {
            let at = at?;
            let took = at.saturating_sub(before);
            before = at;
            Some((name, took))
        })
    }

    /// `connect 0.2 ms, TLS 4.1 ms, first byte 210 ms, rest 0.1 ms`; empty when nothing was done.
    pub fn words(&self) -> String {
        let ms = |took: Duration| {
            let ms = took.as_secs_f64() * 1000.0;
            if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
        };
        let parts: Vec<String> = self.parts().map(|(name, took)| format!("{name} {}", ms(took))).collect();
        parts.join(", ")
    }
}

/// In the record and the API a time is a number of milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands it over so")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64() * 1000.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let ms = Option::<f64>::deserialize(from)?;
        Ok(ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()))
    }
}

/// Words within the names of headers whose values are nobody's business.
const SECRET: &[&str] =
    &["auth", "cookie", "token", "secret", "key", "session", "passw", "credential", "signature", "csrf"];

fn lines<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> String {
    let mut out = String::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let secret = SECRET.iter().any(|word| lower.contains(word));
        let value = if secret { "(not kept)".to_owned() } else { legible(value).replace('\n', " ") };
        if out.len() + name.len() + value.len() + 3 > Sample::HEADERS_MAX {
            out.push_str("…\n");
            break;
        }
        out.push_str(name);
        out.push_str(": ");
        out.push_str(&value);
        out.push('\n');
    }
    out
}

/// What a person can read of it; of what is no text only how much there was.
fn legible(bytes: &[u8]) -> String {
    // A letter that was cut in two at the end is no sign of a binary.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return format!("({} bytes that are no text)", bytes.len()),
    };
    let strange = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.chars().filter(|c| strange(*c)).count() > text.len() / 16 {
        return format!("({} bytes that are no text)", bytes.len());
    }
    text.chars().filter(|c| *c != '\r').map(|c| if strange(c) { '·' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::EntryKind;
    use crate::input::{Input, ProbeFailure};
    use crate::testing::{Bench, app, policy};

    fn of(headers: &[(&str, &str)], body: &[u8], whole: bool) -> Sample {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let answer = Answered { status: 503, body, whole };
        Sample::answered("GET /", answer, headers, Phases::default())
    }

    #[test]
    fn what_could_let_somebody_in_is_not_kept() {
        let names = [
            "Set-Cookie",
            "Authorization",
            "X-Api-Key",
            "X-Auth-Token",
            "WWW-Authenticate",
            "X-CSRF",
            "Session-Id",
        ];
        for name in names {
            let sample = of(&[(name, "hunter2"), ("Server", "nginx")], b"", true);
            assert_eq!(sample.headers, format!("{name}: (not kept)\nServer: nginx\n"));
        }
    }

    #[test]
    fn four_kibibytes_of_a_body_and_two_of_headers_are_kept_at_most() {
        let long = "é".repeat(5000);
        let sample =
            of(&[("a", &long[..900]), ("b", &long[..900]), ("c", &long[..900])], long.as_bytes(), true);
        assert_eq!(sample.body.len(), Sample::BODY_MAX);
        assert!(sample.cut);
        assert!(sample.headers.len() <= Sample::HEADERS_MAX + "…\n".len(), "{}", sample.headers.len());
        assert!(sample.headers.ends_with("…\n"));
        assert!(!of(&[], b"short", true).cut);
        assert!(of(&[], b"broke off", false).cut);
    }

    #[test]
    fn bad_answers_to_visitors_wait_for_an_incident_and_open_none() {
        let mut bench = Bench::settled(policy(3, false));
        let answered = |n: u32| {
            let sample = Arc::new(of(&[], b"no database", true));
            Input::Answered(TrafficSample { server: app(1), request: format!("id-{n}"), sample })
        };
        (0..9).for_each(|n| bench.tell(answered(n)));
        bench.advance(Duration::from_secs(30));
        assert!(bench.incidents().is_empty());
        (10..15).for_each(|n| bench.tell(answered(n)));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(5));
        (20..29).for_each(|n| bench.tell(answered(n)));
        let incident = &bench.incidents()[0];
        let of_traffic = incident.timeline.iter().filter(|e| e.kind == EntryKind::TrafficFailed);
        let texts: Vec<&str> = of_traffic.clone().map(|e| e.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "app-1 answered 503 to GET /, request id-13",
                "app-1 answered 503 to GET /, request id-14",
                "app-1 answered 503 to GET /, request id-20",
            ],
            "those of long ago have nothing to do with it, and many alike say no more than a few"
        );
        assert!(of_traffic.clone().all(|e| e.sample.as_ref().is_some_and(|s| s.body == "no database")));
        let told = bench.notices();
        assert!(told[0].timeline.iter().all(|entry| entry.sample.is_none()), "it leaves in no message");
    }

    #[test]
    fn of_what_a_process_wrote_the_end_is_kept() {
        let lines: Vec<String> = (0..1000).map(|n| format!("line {n} of many")).collect();
        let kept = Sample::written(&lines).unwrap();
        assert!(kept.body.starts_with("line ") && kept.body.ends_with("\nline 999 of many") && kept.cut);
        assert!(kept.body.len() <= Sample::BODY_MAX, "{}", kept.body.len());
        assert_eq!(kept.words(), "the last lines that it wrote");
        assert_eq!(Sample::written(&[]), None);
    }

    #[test]
    fn of_what_threads_were_at_the_beginning_is_kept() {
        let lines: Vec<String> = (0..10_000).map(|n| format!("thread {n}: räder")).collect();
        let kept = Sample::seen(&lines).unwrap();
        assert!(kept.body.starts_with("thread 0: räder\n") && kept.cut);
        assert!(kept.body.len() <= Sample::THREADS_MAX, "{}", kept.body.len());
        assert_eq!(kept.words(), "what its threads were at");
        assert_eq!(Sample::seen(&[]), None);
    }

    #[test]
    fn what_is_no_text_is_counted_and_what_would_move_a_cursor_is_not_shown() {
        assert_eq!(of(&[], &[0x1f, 0x8b, 8, 0, 0xff, 0xfe], true).body, "(6 bytes that are no text)");
        assert_eq!(of(&[], &[0; 40], true).body, "(40 bytes that are no text)");
        let text = "Error:\r\n\tno database \u{1b}[31mred, and much more of it so that it is text";
        assert_eq!(of(&[], text.as_bytes(), true).body, text.replace('\r', "").replace('\u{1b}', "·"));
        let header = of(&[("X-Error", "a\nb")], b"", true);
        assert_eq!(header.headers, "X-Error: a b\n");
    }

    #[test]
    fn a_letter_cut_in_two_is_left_out() {
        assert_eq!(of(&[], &"aé".as_bytes()[..2], false).body, "a");
    }

    #[test]
    fn phases_are_told_by_how_long_each_took_and_those_that_were_not_are_not() {
        let ms = |n| Some(Duration::from_millis(n));
        let phases = Phases { connected: ms(2), secured: ms(5), first_byte: ms(215), ..Phases::default() };
        assert_eq!(phases.words(), "connect 2.0 ms, TLS 3.0 ms, first byte 210 ms");
        assert_eq!(Phases::default().words(), "");
        let named = Phases { resolved: ms(12), connected: ms(13), ..Phases::default() };
        assert_eq!(named.words(), "resolve 12 ms, connect 1.0 ms");
    }

    #[test]
    fn a_sample_of_the_record_is_read_as_it_was_written() {
        let connected = Some(Duration::from_micros(1_500));
        let sample = Sample::unanswered("GET /", Phases { connected, ..Phases::default() });
        let text = serde_json::to_string(&sample).unwrap();
        assert!(text.contains(r#""resolved_ms":null,"connected_ms":1.5"#), "{text}");
        assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample);
        assert_eq!(serde_json::from_str::<Phases>(r#"{"connected_ms":-1.0}"#).unwrap(), Phases::default());
    }
}
