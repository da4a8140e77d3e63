//! How a line of the access log looks: JSON, the format that most log tools read (`combined`), or a template with named
//! fields. A template is checked once, with the config; writing a line allocates nothing.

use std::fmt;

use super::line::{Line, write_escaped, write_json_text};

/// Apache's and nginx's "combined", which log tools know by that name.
const COMBINED: &str =
    "{visitor} - - [{time_clf}] \"{request}\" {status} {bytes_out} \"{referer}\" \"{user_agent}\"";

/// Longer templates are no line of a log.
const TEMPLATE_MAX: usize = 4096;

/// How lines look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Json,
    Template(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Field(Field),
}

/// What is wrong with a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatError {
    /// Neither a known name nor a template.
    NoFields,
    /// There is no such field; its name.
    UnknownField(String),
    /// A `{` without its `}`; what follows it.
    Unclosed(String),
    /// A `}` without its `{`.
    Unopened,
    /// A line break or another control character: a request is one line.
    ControlCharacter,
    /// Longer than a line should be.
    TooLong,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::NoFields => f.write_str("neither `json` nor `combined`, and no field in it"),
            FormatError::UnknownField(name) => write!(f, "there is no field {{{name}}}"),
            FormatError::Unclosed(rest) => write!(f, "a {{ without its }}: {{{rest}"),
            FormatError::Unopened => f.write_str("a } without its {"),
            FormatError::ControlCharacter => f.write_str("a line break or another control character in it"),
            FormatError::TooLong => write!(f, "longer than {TEMPLATE_MAX} bytes"),
        }
    }
}

impl std::error::Error for FormatError {}

/// What a template may name, and a line in JSON has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    TimeClf,
    Visitor,
    Protocol,
    Method,
    Host,
    Target,
    Path,
    Request,
    Status,
    Outcome,
    Reason,
    BytesIn,
    BytesOut,
    Duration,
    FirstByte,
    Service,
    Server,
    Attempts,
    Failures,
    RequestId,
    Traceparent,
    UserAgent,
    Referer,
}

/// By their names.
const FIELDS: [(&str, Field); 24] = [
    ("time", Field::Time),
    ("time_clf", Field::TimeClf),
    ("visitor", Field::Visitor),
    ("protocol", Field::Protocol),
    ("method", Field::Method),
    ("host", Field::Host),
    ("target", Field::Target),
    ("path", Field::Path),
    ("request", Field::Request),
    ("status", Field::Status),
    ("outcome", Field::Outcome),
    ("reason", Field::Reason),
    ("bytes_in", Field::BytesIn),
    ("bytes_out", Field::BytesOut),
    ("duration_ms", Field::Duration),
    ("first_byte_ms", Field::FirstByte),
    ("service", Field::Service),
    ("server", Field::Server),
    ("attempts", Field::Attempts),
    ("failures", Field::Failures),
    ("request_id", Field::RequestId),
    ("traceparent", Field::Traceparent),
    ("user_agent", Field::UserAgent),
    ("referer", Field::Referer),
];

impl Format {
    /// One JSON object a line.
    pub const JSON: Format = Format(Kind::Json);

    /// Takes `json`, `combined` or a template: text with fields in braces, where `{{` stands for a brace.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        match text {
            "json" => Ok(Self::JSON),
            "combined" => Ok(Self(Kind::Template(pieces(COMBINED)?))),
            _ => Ok(Self(Kind::Template(pieces(text)?))),
        }
    }

    /// The names that a template may use.
    pub fn field_names() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(name, _)| *name)
    }

    /// Adds a line with its end.
    pub(super) fn write(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Json => write_json(line, out),
            Kind::Template(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Field(field) => write_value(*field, line, out),
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, FormatError> {
    if text.len() > TEMPLATE_MAX {
        return Err(FormatError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(FormatError::ControlCharacter);
    }
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if rest.starts_with(brace) {
            plain.push_str(brace);
            rest = &rest[1..];
            continue;
        }
        if brace == "}" {
            return Err(FormatError::Unopened);
        }
        let Some(end) = rest.find('}') else { return Err(FormatError::Unclosed(rest.to_owned())) };
        let name = rest[..end].trim();
        let Some(&(_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
            return Err(FormatError::UnknownField(name.to_owned()));
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
        }
        pieces.push(Piece::Field(field));
        rest = &rest[end + 1..];
    }
    if pieces.is_empty() {
        return Err(FormatError::NoFields);
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Ok(pieces)
}

/// A field that has no value is `-`.
fn write_value(field: Field, line: &Line<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    match field {
        Field::Request if line.method.is_empty() => {}
        Field::Request => {
            write_escaped(line.method, out);
            out.push(b' ');
            write_escaped(line.target, out);
            out.push(b' ');
            out.extend_from_slice(line.protocol.as_bytes());
        }
        _ => {
            line.write_plain(field, out);
            write_escaped(line.text(field), out);
        }
    }
    if out.len() == start {
        out.push(b'-');
    }
}

/// What has no value is left out, and what a line repeats in another form.
///
/// Written out rather than as a table: a key of known length is a few moves of the processor, and keys are half of a line.
fn write_json(line: &Line<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    line.write_plain(Field::Time, out);
    out.push(b'"');
    json_text(b",\"visitor\":\"", line.text(Field::Visitor), out);
    json_text(b",\"protocol\":\"", line.text(Field::Protocol), out);
    json_text(b",\"method\":\"", line.text(Field::Method), out);
    json_text(b",\"host\":\"", line.text(Field::Host), out);
    json_text(b",\"target\":\"", line.text(Field::Target), out);
    json_number(b",\"status\":", line, Field::Status, out);
    json_text(b",\"outcome\":\"", line.text(Field::Outcome), out);
    json_text(b",\"reason\":\"", line.text(Field::Reason), out);
    json_number(b",\"bytes_in\":", line, Field::BytesIn, out);
    json_number(b",\"bytes_out\":", line, Field::BytesOut, out);
    json_number(b",\"duration_ms\":", line, Field::Duration, out);
    json_number(b",\"first_byte_ms\":", line, Field::FirstByte, out);
    json_text(b",\"service\":\"", line.text(Field::Service), out);
    json_text(b",\"server\":\"", line.text(Field::Server), out);
    json_number(b",\"attempts\":", line, Field::Attempts, out);
    json_text(b",\"failures\":\"", line.text(Field::Failures), out);
    json_text(b",\"request_id\":\"", line.text(Field::RequestId), out);
    json_text(b",\"traceparent\":\"", line.text(Field::Traceparent), out);
    json_text(b",\"user_agent\":\"", line.text(Field::UserAgent), out);
    json_text(b",\"referer\":\"", line.text(Field::Referer), out);
    out.push(b'}');
}

/// `key` ends with the quote that the text begins with.
#[inline]
fn json_text<const N: usize>(key: &[u8; N], text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() {
        out.extend_from_slice(key);
        write_json_text(text, out);
        out.push(b'"');
    }
}

#[inline]
fn json_number<const N: usize>(key: &[u8; N], line: &Line<'_>, field: Field, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(key);
    line.write_plain(field, out);
    if out.len() == start + N {
        out.truncate(start);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::line::Clock;
    use super::*;

    fn line() -> Line<'static> {
        Line {
            started_ms: 1_763_837_000_123,
            clock: Clock::default(),
            visitor: "198.51.100.7",
            protocol: "HTTP/1.1",
            method: b"GET",
            host: b"shop.example.com",
            target: b"/basket?id=7",
            status: 200,
            outcome: "answered",
            reason: "",
            bytes_in: 180,
            bytes_out: 1234,
            took: Duration::from_micros(12_345),
            first_byte: Some(Duration::from_micros(7)),
            service: "shop",
            server: "app-1",
            attempts: 2,
            failures: b"app-2:refused",
            request_id: b"0af7651916cd43dd8448eb211c80319c",
            traceparent: b"",
            user_agent: b"Mozilla/5.0 \"x\\y\" \xc3\xa9 \xff",
            referer: b"",
        }
    }

    fn written(format: &str, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        Format::parse(format).expect("a format").write(line, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_line_in_json_has_what_is_known_and_nothing_else() {
        assert_eq!(
            written("json", &line()),
            "{\"time\":\"2025-11-22T18:43:20.123Z\",\"visitor\":\"198.51.100.7\",\"protocol\":\"HTTP/1.1\",\"method\":\"GET\",\
             \"host\":\"shop.example.com\",\"target\":\"/basket?id=7\",\"status\":200,\"outcome\":\"answered\",\"bytes_in\":180,\
             \"bytes_out\":1234,\"duration_ms\":12.345,\"first_byte_ms\":0.007,\"service\":\"shop\",\"server\":\"app-1\",\
             \"attempts\":2,\"failures\":\"app-2:refused\",\"request_id\":\"0af7651916cd43dd8448eb211c80319c\",\
             \"user_agent\":\"Mozilla/5.0 \\\"x\\\\y\\\" \u{e9} \u{fffd}\"}\n"
        );
    }

    #[test]
    fn combined_is_as_log_tools_know_it() {
        assert_eq!(
            written("combined", &line()),
            "198.51.100.7 - - [22/Nov/2025:18:43:20 +0000] \"GET /basket?id=7 HTTP/1.1\" 200 1234 \"-\" \
             \"Mozilla/5.0 \\x22x\\x5Cy\\x22 \\xC3\\xA9 \\xFF\"\n"
        );
        let unread = Line { method: b"", target: b"", status: 400, ..line() };
        assert!(written("combined", &unread).contains("] \"-\" 400 "));
    }

    #[test]
    fn a_template_names_fields_and_doubles_braces() {
        assert_eq!(
            written("{{{ method }}} {path} {referer} {first_byte_ms}", &line()),
            "{GET} /basket - 0.007\n"
        );
    }

    #[test]
    fn every_field_can_be_named() {
        for name in Format::field_names() {
            assert!(Format::parse(&format!("{{{name}}}")).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_wrong_template_is_told_by_what_is_wrong_with_it() {
        for (text, error) in [
            ("jsn", FormatError::NoFields),
            ("", FormatError::NoFields),
            ("{statuss}", FormatError::UnknownField("statuss".to_owned())),
            ("{}", FormatError::UnknownField(String::new())),
            ("{time", FormatError::Unclosed("time".to_owned())),
            ("time}", FormatError::Unopened),
            ("{time}\n", FormatError::ControlCharacter),
        ] {
            assert_eq!(Format::parse(text), Err(error), "{text}");
        }
        assert_eq!(Format::parse(&"{time}".repeat(1000)), Err(FormatError::TooLong));
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let long = vec![b'a'; 100_000];
        assert_eq!(written("{user_agent}", &Line { user_agent: &long, ..line() }).len(), 8 * 1024 + 1);
    }

    proptest! {
        /// Whatever a client sends, a line stays one line, JSON stays JSON, and a quoted value of a template ends where it ends.
        #[test]
        fn nobody_can_forge_a_line(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let line = Line { target: &bytes, user_agent: &bytes, host: &bytes, ..line() };
            let json = written("json", &line);
            prop_assert_eq!(json.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            let text = String::from_utf8_lossy(&bytes);
            let host = (!bytes.is_empty()).then_some(&*text);
            prop_assert_eq!(parsed.get("host").and_then(|v| v.as_str()), host);
            let quoted = written("\"{user_agent}\"", &line);
            prop_assert_eq!(quoted.matches('"').count(), 2);
            prop_assert!(quoted.trim_end_matches('\n').bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
    }
}
