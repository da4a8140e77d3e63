//! What is decided about a request, without any IO: where it goes, whether it is tried again, what is counted.
//!
//! Everything here belongs to one worker thread and takes the time as a parameter.

pub(crate) mod accounting;
pub(crate) mod balance;
pub(crate) mod reflex;
pub(crate) mod retry;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod visitor;
