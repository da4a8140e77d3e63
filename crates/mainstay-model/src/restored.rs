//! What an earlier run left in the record, for the judge of the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::carried::Carried;
use crate::change::Change;
use crate::drill::Drill;
use crate::heartbeat::HeartbeatRecord;
use crate::id::{ActionId, IncidentId, ServerId, ServiceId};
use crate::impact::Tally;
use crate::incident::Incident;
use crate::input::{AdminState, BackupRecord};
use crate::lead::LeadRecord;
use crate::memory::Remedy;
use crate::pace::{PaceHour, Slowed};
use crate::proposal::Proposal;
use crate::publication::Publication;
use crate::release::Release;
use crate::substitute::Substitute;
use crate::switch::SwitchRun;
use crate::time::Wall;
use crate::window::HandWindow;

/// What an earlier run left in the record.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Restored {
    /// Incidents that were not resolved.
    pub incidents: Vec<Incident>,
    /// From what counting goes on in them.
    #[serde(default)]
    pub tallies: BTreeMap<IncidentId, Tally>,
    /// The highest incident number ever used; 0 if none.
    pub last_incident: u64,
    /// The highest action number ever used; 0 if none.
    pub last_action: u64,
    /// Admin states other than Ready.
    pub admin: BTreeMap<ServerId, AdminState>,
    /// When servers were restarted, oldest first, as far as budgets look back.
    pub restarts: Vec<(ServerId, Wall)>,
    /// Actions begun and not known to have ended: looked into, never repeated blindly.
    pub unfinished: Vec<(ActionId, ServerId)>,
    /// When these were begun.
    #[serde(default)]
    pub unfinished_since: BTreeMap<ActionId, Wall>,
    /// What was changed in the last day.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// What is told the public, of the newest incidents of which anything is.
    #[serde(default)]
    pub publications: BTreeMap<IncidentId, Publication>,
    /// The highest number of an incident whose publication was left out of them; 0 if none was.
    #[serde(default)]
    pub publications_left_out: u64,
    /// The last outcomes of backups, for each backup and task the last good one and the last one, oldest first.
    pub backups: Vec<BackupRecord>,
    /// What is remembered of jobs that ping.
    #[serde(default)]
    pub heartbeats: Vec<HeartbeatRecord>,
    /// Releases of services, as far as they are remembered.
    pub releases: Vec<(ServiceId, Release)>,
    /// Instances that services had of their scaled servers.
    pub instances: BTreeMap<ServiceId, u32>,
    /// What was learned of how long servers take over their answers.
    #[serde(default)]
    pub paces: BTreeMap<ServerId, Vec<PaceHour>>,
    /// Servers that were slow by their own past.
    #[serde(default)]
    pub slowed: BTreeMap<ServerId, Slowed>,
    /// The last run of the `switch` command of services.
    pub switches: BTreeMap<ServiceId, SwitchRun>,
    /// Who takes the writes of services whose servers keep state.
    #[serde(default)]
    pub leads: BTreeMap<ServiceId, LeadRecord>,
    /// Replacements of servers that are not over, and those of the last day, oldest first.
    #[serde(default)]
    pub substitutes: Vec<Substitute>,
    /// What the Mainstay that this one takes over from knew; nothing after an ordinary start.
    #[serde(default)]
    pub carried: Carried,
    /// Maintenance windows that people opened, by number.
    #[serde(default)]
    pub windows: BTreeMap<u64, HandWindow>,
    /// When a person last ended the open time of a window in the config, by its name.
    #[serde(default)]
    pub windows_ended: BTreeMap<Arc<str>, Wall>,
    /// Proposals that are open, and the last ones that are over, oldest first.
    #[serde(default)]
    pub proposals: Vec<Proposal>,
    /// What helped before.
    #[serde(default)]
    pub remedies: Vec<Remedy>,
    /// The highest number of a proposal ever used; 0 if none.
    #[serde(default)]
    pub last_proposal: u64,
    /// The highest number of a window ever used; 0 if none.
    #[serde(default)]
    pub last_window: u64,
    /// The last drills, and what came of them.
    #[serde(default)]
    pub drills: Vec<Drill>,
    /// When the earlier run was last alive; `None` on a new data directory.
    pub last_alive: Option<Wall>,
}
