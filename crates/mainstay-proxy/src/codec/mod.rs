//! HTTP/1 as bytes: strict parsing, framing, rewriting and chunked coding, without any IO.
//!
//! What is ambiguous is refused and never repaired, because a request that two programs read differently is how
//! requests are smuggled. What leaves Mainstay is always framed by Mainstay itself.

pub mod chunked;

pub mod client_hello;
pub mod header;
pub mod http2;
pub mod proxy_header;
pub mod refusal;
pub mod request;
pub mod request_id;
pub mod response;
pub mod rewrite;
pub mod websocket;

pub use chunked::{ChunkError, ChunkedDecoder};
pub use client_hello::{HELLO_MAX, NoHello, server_name};
pub use proxy_header::{
    BadProxyHeader, PROXY_HEADER_MAX, ProxyHeader, parse_proxy_header, write_proxy_header,
};
pub use refusal::Refusal;
pub use request::{HeaderSlots, RequestHead, parse_request};
pub use request_id::RequestId;
pub use response::{MalformedAnswer, ResponseHead, parse_response};
pub use websocket::{Frames, GOING_AWAY};

/// The longest head of a request or an answer, in bytes. nginx and HAProxy allow 16 to 32 KiB.
pub const HEAD_MAX: usize = 32 * 1024;
/// The longest request target, in bytes.
pub const TARGET_MAX: usize = 8 * 1024;
/// The most header lines in one head (HAProxy's default is 101).
pub const HEADERS_MAX: usize = 100;

/// Which HTTP/1 is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How a body's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, and no header says so either.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// All until the server closes; answers only.
    UntilClose,
}

/// Whether every header line of a complete head ends in CRLF and the head in an empty line.
///
/// httparse takes a bare LF for a line's end; the lines' positions tell without looking at every byte.
pub(crate) fn lines_end_in_crlf(head: &[u8], headers: &[httparse::Header<'_>]) -> bool {
    let base = head.as_ptr() as usize;
    head.ends_with(b"\r\n\r\n")
        && headers.iter().all(|header| {
            let at = (header.name.as_ptr() as usize).wrapping_sub(base);
            at >= 2 && at <= head.len() && &head[at - 2..at] == b"\r\n"
        })
}
