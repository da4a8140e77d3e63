//! How a service's requests are carried: what the data plane is told of a service and the judge has no say in.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::policy::{Balance, RetryPolicy, Timeouts};

/// How requests of one service are carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carriage {
    /// Host names that lead here, lower case, without port; empty: every host.
    pub hosts: Vec<String>,
    /// Only this path and what lies below it leads here, `/status`; it goes before services that have no path. `None`: every
    /// path.
    pub path: Option<String>,
    /// How a server is chosen for a request.
    pub balance: Balance,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// An answer that begins later than this is slow for its visitor.
    pub slow_after: Duration,
    /// When a request is tried again.
    pub retry: RetryPolicy,
    /// What the service takes on.
    pub limits: Arc<Limits>,
}

impl Default for Carriage {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            path: None,
            balance: Balance::default(),
            timeouts: Timeouts::default(),
            slow_after: Duration::from_secs(1),
            retry: RetryPolicy::default(),
            limits: Arc::default(),
        }
    }
}
