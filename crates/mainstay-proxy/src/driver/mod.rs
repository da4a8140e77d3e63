//! The IO: one thread per worker with its own runtime, listeners, connections and pool.
//!
//! One task a client connection; it owns a server connection only while a request is in flight. Deadlines are cells
//! that one sweep per thread looks at, so that no await pays for a timer. Heads and bodies pass through buffers of the
//! thread, so that an idle connection holds none.

pub(crate) mod admit;
pub(crate) mod attempt;
pub(crate) mod buffer;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod door;
pub(crate) mod exchange;
pub(crate) mod gate;
pub(crate) mod hedge;
pub(crate) mod http2;
pub(crate) mod in_flight;
pub(crate) mod io;
pub(crate) mod listener;
pub(crate) mod log;
pub(crate) mod passage;
pub(crate) mod pool;
pub(crate) mod proxy_header;
pub(crate) mod relay;
pub(crate) mod server_tls;
pub(crate) mod sessions;
pub(crate) mod slots;
pub(crate) mod story;
pub(crate) mod thread;
pub(crate) mod tls;
pub(crate) mod tunnel;
pub(crate) mod unix;
pub(crate) mod view;
pub(crate) mod waits;
pub(crate) mod way;
pub(crate) mod worker;
