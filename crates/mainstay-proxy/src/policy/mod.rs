//! What is decided about a request, without any IO: where it goes, whether it is tried again, what is counted.
//!
//! Everything here takes the time as a parameter, and belongs to one worker thread but for what limits are kept by:
//! `admission` and the table of `limits` are of all workers together.

pub(crate) mod accounting;
pub(crate) mod adaptive;
pub(crate) mod admission;
pub(crate) mod affinity;
pub(crate) mod balance;
pub(crate) mod changes;
pub(crate) mod doorkeeper;
pub(crate) mod grpc;
pub(crate) mod hedge;
pub(crate) mod keep;
pub(crate) mod learned;
pub(crate) mod limits;
pub(crate) mod names;
pub(crate) mod own;
pub(crate) mod path;
pub(crate) mod reflex;
pub(crate) mod retry;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod sources;
pub(crate) mod story;
pub(crate) mod tls;
pub(crate) mod usual;
pub(crate) mod visitor;
