//! The report of an incident: what the record knows of it in one piece, for a post-mortem. Made by the API of a running
//! Mainstay and by the command line from the data directory alone, so it can be written while Mainstay is down.

mod markdown;

use mainstay_model::Wall;
use mainstay_model::host::seconds::Seconds;
use mainstay_model::incident::{Incident, Times};
use serde::{Deserialize, Serialize};

use crate::store::{Evidence, StoredAction, StoredMessage};

/// All that is known of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it was written.
    pub at: Wall,
    /// The incident with its timeline, impact and curve.
    pub incident: Incident,
    /// How long each step took.
    pub times: Times,
    /// What was done, oldest first.
    pub actions: Vec<StoredAction>,
    /// Who was told, by which way and when, oldest first.
    pub messages: Vec<StoredMessage>,
    /// The machine second by second, from a minute before it was opened to a minute after it was over.
    #[serde(default)]
    pub machine: Seconds,
}

impl Report {
    /// Puts it together.
    pub fn new(incident: Incident, evidence: Evidence, at: Wall) -> Self {
        let times = incident.times();
        let Evidence { actions, messages, machine } = evidence;
        Self { at, incident, times, actions, messages, machine }
    }

    /// As Markdown, fit to be pasted into a post-mortem. Times are UTC.
    pub fn markdown(&self) -> String {
        markdown::write(self)
    }
}
