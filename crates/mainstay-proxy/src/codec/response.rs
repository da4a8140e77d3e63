//! The head of a server's answer: parsed, and its framing decided. What is ambiguous is an answer that is not HTTP.

use httparse::Header;

use super::header::{Known, decimal, known, list};
use super::request::HeaderSlots;
use super::{BodyLength, HEAD_MAX, HEADERS_MAX, Version, lines_end_in_crlf};

/// Why an answer was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MalformedAnswer {
    /// The status line or a header line is not HTTP/1.
    #[error("the answer's head is not HTTP/1")]
    BadHead,
    /// A line that does not end in CRLF.
    #[error("a line of the answer's head does not end in CRLF")]
    BareLineFeed,
    /// The head is longer than Mainstay reads.
    #[error("the answer's head is longer than 32 KiB or has more than 100 lines")]
    HeadTooLarge,
    /// Content-Length is no number, or two different ones, or stands beside Transfer-Encoding.
    #[error("the answer's length is ambiguous")]
    AmbiguousLength,
    /// A transfer coding other than `chunked`.
    #[error("the answer has an unknown transfer coding")]
    UnknownTransferCoding,
    /// A status below 100 or above 599, or 101 that was not asked for.
    #[error("the answer's status is not expected")]
    UnexpectedStatus,
    /// More interim answers than any server sends.
    #[error("too many interim answers")]
    TooManyInterim,
}

/// A server's answer.
#[derive(Debug)]
pub struct ResponseHead<'s, 'b> {
    /// 100 to 599.
    pub status: u16,
    /// The words after the status.
    pub reason: &'b str,
    /// How the body's end is found, given the request's method.
    pub body: BodyLength,
    /// Content-Length as sent; also of an answer without a body, as that to HEAD.
    pub content_length: Option<u64>,
    /// The connection can carry another request after this answer.
    pub keep_alive: bool,
    /// For how many seconds the server keeps the connection, if it says so.
    pub keep_alive_seconds: Option<u32>,
    /// What a 101 switches to.
    pub upgrade: Option<&'b [u8]>,
    /// Bytes of the head, its empty line included.
    pub length: usize,
    pub(crate) headers: &'s [Header<'b>],
    pub(super) kinds: &'s [Known],
    pub(super) hop_by_hop_names: bool,
}

/// Looks for a whole answer head at the start of `buf`; `None` when more bytes are needed. `to_head`: the request's method was HEAD.
///
/// # Errors
/// When it is no answer that every reader understands alike.
pub fn parse_response<'s, 'b>(
    buf: &'b [u8],
    to_head: bool,
    slots: &'s mut HeaderSlots<'b>,
) -> Result<Option<ResponseHead<'s, 'b>>, MalformedAnswer> {
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    // httparse skips empty lines before an answer; nobody sends them.
    if matches!(buf.first(), Some(b'\r' | b'\n')) {
        return Err(MalformedAnswer::BadHead);
    }
    let length = match config.parse_response_with_uninit_headers(&mut parsed, buf, &mut slots.lines) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX => length,
        Ok(httparse::Status::Partial) if buf.len() < HEAD_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(MalformedAnswer::HeadTooLarge),
        Err(_) => return Err(MalformedAnswer::BadHead),
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(MalformedAnswer::BadHead);
    };
    let headers: &'s [Header<'b>] = parsed.headers;
    if !lines_end_in_crlf(&buf[..length], headers) {
        return Err(MalformedAnswer::BareLineFeed);
    }
    if !(100..600).contains(&status) {
        return Err(MalformedAnswer::UnexpectedStatus);
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let mut head = ResponseHead {
        status,
        reason: parsed.reason.unwrap_or_default(),
        body: BodyLength::None,
        content_length: None,
        keep_alive: false,
        keep_alive_seconds: None,
        upgrade: None,
        length,
        headers,
        kinds: &[],
        hop_by_hop_names: false,
    };
    head.read_headers(version, to_head, &mut slots.kinds)?;
    head.kinds = &slots.kinds[..headers.len()];
    Ok(Some(head))
}

impl ResponseHead<'_, '_> {
    fn read_headers(
        &mut self,
        version: Version,
        to_head: bool,
        kinds: &mut [Known; HEADERS_MAX],
    ) -> Result<(), MalformedAnswer> {
        let (mut close, mut keep, mut chunked) = (false, false, false);
        for (header, kind) in self.headers.iter().zip(kinds.iter_mut()) {
            *kind = known(header.name);
            match *kind {
                // Two equal lengths are one length; two different ones are none (RFC 9112, 6.3).
                Known::ContentLength => match (decimal(header.value), self.content_length) {
                    (Some(n), None) => self.content_length = Some(n),
                    (Some(n), Some(m)) if n == m => {}
                    _ => return Err(MalformedAnswer::AmbiguousLength),
                },
                Known::TransferEncoding if !chunked && header.value.eq_ignore_ascii_case(b"chunked") => {
                    chunked = true
                }
                Known::TransferEncoding => return Err(MalformedAnswer::UnknownTransferCoding),
                // What nearly all servers say that say anything.
                Known::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                Known::Connection => {
                    for token in list(header.value) {
                        close |= token.eq_ignore_ascii_case(b"close");
                        keep |= token.eq_ignore_ascii_case(b"keep-alive");
                        self.hop_by_hop_names |= !token.eq_ignore_ascii_case(b"close")
                            && !token.eq_ignore_ascii_case(b"keep-alive")
                            && !token.eq_ignore_ascii_case(b"upgrade");
                    }
                }
                Known::KeepAlive => self.keep_alive_seconds = timeout_of(header.value),
                Known::Upgrade => self.upgrade = Some(header.value),
                _ => {}
            }
        }
        if chunked && self.content_length.is_some() {
            return Err(MalformedAnswer::AmbiguousLength);
        }
        if chunked && version == Version::Http10 {
            return Err(MalformedAnswer::UnknownTransferCoding);
        }
        self.body =
            match (to_head || matches!(self.status, 100..=199 | 204 | 304), chunked, self.content_length) {
                (true, _, _) => BodyLength::None,
                (false, true, _) => BodyLength::Chunked,
                (false, false, Some(length)) => BodyLength::Length(length),
                (false, false, None) => BodyLength::UntilClose,
            };
        self.keep_alive =
            !close && (version == Version::Http11 || keep) && self.body != BodyLength::UntilClose;
        Ok(())
    }
}

/// `timeout=5` of a Keep-Alive line.
fn timeout_of(value: &[u8]) -> Option<u32> {
    let seconds = list(value).find_map(|part| {
        let (name, value) = part.split_at_checked(8)?;
        name.eq_ignore_ascii_case(b"timeout=").then_some(value)
    })?;
    u32::try_from(decimal(seconds)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> MalformedAnswer {
        let mut slots = HeaderSlots::default();
        parse_response(text.as_bytes(), false, &mut slots).expect_err(text)
    }

    fn framing(text: &str, to_head: bool) -> (BodyLength, bool) {
        let mut slots = HeaderSlots::default();
        let head = parse_response(text.as_bytes(), to_head, &mut slots).expect("valid").expect("whole");
        (head.body, head.keep_alive)
    }

    #[test]
    fn ambiguous_answers_are_malformed() {
        for (text, expected) in [
            ("hello\r\n\r\n", MalformedAnswer::BadHead),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", MalformedAnswer::BadHead),
            ("HTTP/2.0 200 OK\r\n\r\n", MalformedAnswer::BadHead),
            ("HTTP/1.1 200 OK\nA: b\r\n\r\n", MalformedAnswer::BareLineFeed),
            ("HTTP/1.1 200 OK\r\nA: b\n\r\n", MalformedAnswer::BareLineFeed),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", MalformedAnswer::BadHead),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", MalformedAnswer::BadHead),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                MalformedAnswer::AmbiguousLength,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", MalformedAnswer::AmbiguousLength),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                MalformedAnswer::AmbiguousLength,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", MalformedAnswer::UnknownTransferCoding),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", MalformedAnswer::UnknownTransferCoding),
            ("HTTP/1.1 099 OK\r\n\r\n", MalformedAnswer::UnexpectedStatus),
            ("HTTP/1.1 600 OK\r\n\r\n", MalformedAnswer::UnexpectedStatus),
        ] {
            assert_eq!(error(text), expected, "{text:?}");
        }
        assert_eq!(
            error(&format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(40_000))),
            MalformedAnswer::HeadTooLarge
        );
    }

    #[test]
    fn an_answers_body_follows_method_status_and_headers() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(framing(length, false), (BodyLength::Length(5), true));
        assert_eq!(framing(length, true), (BodyLength::None, true));
        for status in ["204", "304", "103"] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(framing(&text, false).0, BodyLength::None);
        }
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", false), (BodyLength::UntilClose, false));
        assert_eq!(
            framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            (BodyLength::Chunked, true)
        );
        assert_eq!(
            framing("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false),
            (BodyLength::Length(5), false)
        );
        assert_eq!(
            framing("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", false),
            (BodyLength::Length(5), true)
        );
        assert_eq!(
            framing(
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
                false
            ),
            (BodyLength::Length(5), false)
        );
    }

    #[test]
    fn a_server_says_how_long_it_keeps_a_connection() {
        for (value, expected) in [
            ("timeout=5", Some(5)),
            ("max=100, Timeout=75", Some(75)),
            ("timeout=", None),
            ("timeout=-1", None),
            ("timeout=99999999999", None),
            ("max=5", None),
        ] {
            assert_eq!(timeout_of(value.as_bytes()), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"HTTP/1.1 200\r\n: ".to_vec())], 0..300)) {
            let mut slots = HeaderSlots::default();
            let _ = parse_response(&bytes, false, &mut slots);
        }
    }
}
