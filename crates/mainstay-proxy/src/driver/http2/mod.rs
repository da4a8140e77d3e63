//! HTTP/2: a connection's streams, each of which is to the engine a connection of HTTP/1 that carries one request.
//!
//! So there is one engine and one set of rules: admission, choosing, retries, limits, pages and counts know nothing of
//! HTTP/2. The h2 crate keeps frames, header compression and flow control; both directions pass its windows on, so a slow
//! reader holds up the writer as it does in HTTP/1.

pub(crate) mod connection;
mod inward;
pub(crate) mod link;
mod outward;
pub(crate) mod server_stream;
pub(crate) mod stream;
mod wire;
