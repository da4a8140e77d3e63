//! Every reason for which a request is refused before any server sees it (or before its body is whole), by name.

use std::fmt;

use super::chunked::ChunkError;

/// Why a request was refused. The connection is closed after the answer, because what follows cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request line is not `METHOD target HTTP/1.x`.
    BadRequestLine,
    /// The protocol's version is neither 1.0 nor 1.1.
    UnsupportedVersion,
    /// The target has bytes that no URI has, or none of the allowed forms.
    InvalidTarget,
    /// `CONNECT`: Mainstay is no forward proxy.
    ConnectNotAllowed,
    /// The target is longer than [`super::TARGET_MAX`].
    TargetTooLong,
    /// The head is longer than [`super::HEAD_MAX`].
    HeadTooLarge,
    /// More than [`super::HEADERS_MAX`] header lines.
    TooManyHeaders,
    /// A line of the head ends in LF without CR.
    BareLineFeed,
    /// A CR without LF.
    BareCarriageReturn,
    /// More than one empty line before the request.
    EmptyLines,
    /// A control character, NUL among them.
    ControlCharacter,
    /// White space between a header's name and its colon.
    SpaceBeforeColon,
    /// A header continued on the next line.
    FoldedHeader,
    /// A header's name is not a token, or there is no colon.
    InvalidHeaderName,
    /// Content-Length and Transfer-Encoding together.
    LengthAndTransferEncoding,
    /// Content-Length is not one decimal number, or comes twice.
    InvalidContentLength,
    /// A transfer coding other than `chunked`, or not exactly once.
    UnknownTransferCoding,
    /// Transfer-Encoding in an HTTP/1.0 request.
    TransferEncodingInHttp10,
    /// HTTP/1.1 without Host.
    MissingHost,
    /// More than one Host.
    DoubledHost,
    /// Host is not a host name or address with an optional port.
    InvalidHost,
    /// The target names another host than Host does.
    HostMismatch,
    /// An expectation other than `100-continue`.
    UnknownExpectation,
    /// A segment of the path leads upwards (`..`), plainly or encoded, where routes go by the path.
    DotSegment,
    /// The path leads to different routes when it is decoded and when it is not.
    AmbiguousPath,
    /// The head was not whole in time.
    HeadTimeout,
    /// The body stopped coming, or came too slowly.
    BodyTimeout,
    /// The body is larger than the service takes.
    BodyTooLarge,
    /// The chunked body is malformed.
    BadChunk(ChunkError),
}

impl Refusal {
    /// The status it is answered with.
    pub fn status(self) -> u16 {
        match self {
            Refusal::UnsupportedVersion => 505,
            Refusal::UnknownTransferCoding => 501,
            Refusal::ConnectNotAllowed => 405,
            Refusal::TargetTooLong => 414,
            Refusal::HeadTooLarge | Refusal::TooManyHeaders => 431,
            Refusal::UnknownExpectation => 417,
            Refusal::HeadTimeout | Refusal::BodyTimeout => 408,
            Refusal::BodyTooLarge => 413,
            _ => 400,
        }
    }

    /// The word used in logs and in the answer's problem type.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::BadRequestLine => "bad-request-line",
            Refusal::UnsupportedVersion => "unsupported-version",
            Refusal::InvalidTarget => "invalid-target",
            Refusal::ConnectNotAllowed => "connect-not-allowed",
            Refusal::TargetTooLong => "target-too-long",
            Refusal::HeadTooLarge => "head-too-large",
            Refusal::TooManyHeaders => "too-many-headers",
            Refusal::BareLineFeed => "bare-line-feed",
            Refusal::BareCarriageReturn => "bare-carriage-return",
            Refusal::EmptyLines => "empty-lines",
            Refusal::ControlCharacter => "control-character",
            Refusal::SpaceBeforeColon => "space-before-colon",
            Refusal::FoldedHeader => "folded-header",
            Refusal::InvalidHeaderName => "invalid-header-name",
            Refusal::LengthAndTransferEncoding => "length-and-transfer-encoding",
            Refusal::InvalidContentLength => "invalid-content-length",
            Refusal::UnknownTransferCoding => "unknown-transfer-coding",
            Refusal::TransferEncodingInHttp10 => "transfer-encoding-in-http-1.0",
            Refusal::MissingHost => "missing-host",
            Refusal::DoubledHost => "doubled-host",
            Refusal::InvalidHost => "invalid-host",
            Refusal::HostMismatch => "host-mismatch",
            Refusal::UnknownExpectation => "unknown-expectation",
            Refusal::DotSegment => "dot-segment",
            Refusal::AmbiguousPath => "ambiguous-path",
            Refusal::HeadTimeout => "head-timeout",
            Refusal::BodyTimeout => "body-timeout",
            Refusal::BodyTooLarge => "body-too-large",
            Refusal::BadChunk(error) => error.as_str(),
        }
    }

    /// What is wrong, for the person who sent it.
    pub fn detail(self) -> &'static str {
        match self {
            Refusal::BadRequestLine => "The request line is not of the form METHOD target HTTP/1.1.",
            Refusal::UnsupportedVersion => "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
            Refusal::InvalidTarget => "The request's target is not a valid path or URI.",
            Refusal::ConnectNotAllowed => "This is not a forward proxy.",
            Refusal::TargetTooLong => "The request's target is longer than 8 KiB.",
            Refusal::HeadTooLarge => "The request's head is longer than 32 KiB.",
            Refusal::TooManyHeaders => "The request has more than 100 header lines.",
            Refusal::BareLineFeed => "A line of the request's head ends in LF without CR.",
            Refusal::BareCarriageReturn => "The request's head has a CR without LF.",
            Refusal::EmptyLines => "There is more than one empty line before the request.",
            Refusal::ControlCharacter => "The request's head has a control character.",
            Refusal::SpaceBeforeColon => "A header has white space before its colon.",
            Refusal::FoldedHeader => "A header is continued on the next line.",
            Refusal::InvalidHeaderName => "A header's name is not valid.",
            Refusal::LengthAndTransferEncoding => {
                "The request has both Content-Length and Transfer-Encoding."
            }
            Refusal::InvalidContentLength => "Content-Length is not one decimal number.",
            Refusal::UnknownTransferCoding => "The only transfer coding known here is chunked.",
            Refusal::TransferEncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding.",
            Refusal::MissingHost => "The request has no Host header.",
            Refusal::DoubledHost => "The request has more than one Host header.",
            Refusal::InvalidHost => "The Host header is not a valid host.",
            Refusal::HostMismatch => "The request's target names another host than the Host header.",
            Refusal::UnknownExpectation => "The only expectation known here is 100-continue.",
            Refusal::DotSegment => "The request's path has a segment that leads upwards.",
            Refusal::AmbiguousPath => "The request's path could be read in two ways.",
            Refusal::HeadTimeout => "The request's head did not arrive in time.",
            Refusal::BodyTimeout => "The request's body stopped arriving, or came too slowly.",
            Refusal::BodyTooLarge => "The request's body is larger than this site takes.",
            Refusal::BadChunk(_) => "The request's chunked body is malformed.",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<ChunkError> for Refusal {
    fn from(error: ChunkError) -> Self {
        Refusal::BadChunk(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Refusal; 34] = [
        Refusal::BadRequestLine,
        Refusal::UnsupportedVersion,
        Refusal::InvalidTarget,
        Refusal::ConnectNotAllowed,
        Refusal::TargetTooLong,
        Refusal::HeadTooLarge,
        Refusal::TooManyHeaders,
        Refusal::BareLineFeed,
        Refusal::BareCarriageReturn,
        Refusal::EmptyLines,
        Refusal::ControlCharacter,
        Refusal::SpaceBeforeColon,
        Refusal::FoldedHeader,
        Refusal::InvalidHeaderName,
        Refusal::LengthAndTransferEncoding,
        Refusal::InvalidContentLength,
        Refusal::UnknownTransferCoding,
        Refusal::TransferEncodingInHttp10,
        Refusal::MissingHost,
        Refusal::DoubledHost,
        Refusal::InvalidHost,
        Refusal::HostMismatch,
        Refusal::UnknownExpectation,
        Refusal::DotSegment,
        Refusal::AmbiguousPath,
        Refusal::HeadTimeout,
        Refusal::BodyTimeout,
        Refusal::BodyTooLarge,
        Refusal::BadChunk(ChunkError::InvalidSize),
        Refusal::BadChunk(ChunkError::SizeOverflow),
        Refusal::BadChunk(ChunkError::InvalidExtension),
        Refusal::BadChunk(ChunkError::InvalidLineEnd),
        Refusal::BadChunk(ChunkError::InvalidDataEnd),
        Refusal::BadChunk(ChunkError::InvalidTrailer),
    ];

    /// The names as the code spells them, in this file and in that of chunked bodies.
    fn names() -> impl Iterator<Item = &'static str> {
        let sources = [include_str!("refusal.rs"), include_str!("chunked.rs")];
        let lines = sources.into_iter().flat_map(str::lines).map(str::trim);
        let arms = lines.filter(|line| line.starts_with("Refusal::") || line.starts_with("ChunkError::"));
        let names = arms.filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\","));
        names.filter(|name| !name.contains(' '))
    }

    #[test]
    fn the_guide_names_each_refusal_with_its_status() {
        for name in names() {
            assert!(ALL.iter().any(|refusal| refusal.as_str() == name), "{name} is not in the list");
        }
        assert_eq!(names().count(), ALL.len());
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
        let guide = std::fs::read_to_string(guide).expect("the guide");
        for refusal in ALL {
            let what = match refusal {
                Refusal::BadChunk(error) => format!("In a chunked body {error}."),
                _ => refusal.detail().to_owned(),
            };
            let line = format!("| `{refusal}` | {} | {what} |", refusal.status());
            assert!(guide.contains(&line), "docs/limits.md has no line {line}");
        }
    }
}
