//! The data plane against real sockets: servers that answer, refuse, hang and break off, and clients of every kind.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own sockets fails the test")]

mod access_log;
mod affinity;
mod balancing;
mod conformance;
mod differential;
mod draining;
mod errors;
mod faults;
mod floods;
mod hangs;
mod hedging;
mod hostile;
mod http2;
mod limits;
mod listening;
mod messages;
mod operation;
mod passage;
mod reuse;
mod routing;
mod server_http2;
mod server_tls;
mod smuggling;
mod stories;
mod support;
mod tls;
mod unix;
