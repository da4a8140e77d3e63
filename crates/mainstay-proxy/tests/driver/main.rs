//! The data plane against real sockets: servers that answer, refuse, hang and break off, and clients of every kind.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own sockets fails the test")]

mod balancing;
mod faults;
mod hostile;
mod limits;
mod messages;
mod operation;
mod support;
mod tls;
