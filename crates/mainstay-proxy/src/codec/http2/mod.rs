//! HTTP/2 as the engine sees it: its messages as HTTP/1, so that every check, limit and count of HTTP/1 holds for them too.
//!
//! Frames and header compression are the h2 crate's. What is here is pure: heads from one form into the other, and a meter
//! for frames that cost their sender nothing.

pub mod meter;
pub mod request;
pub mod response;

/// What a client that speaks HTTP/2 without TLS sends first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
