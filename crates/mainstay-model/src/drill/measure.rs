//! What came of a drill: how long each step took, by the record of its incident, and what visitors saw, by counted requests.

use crate::drill::Measured;
use crate::incident::{EntryKind, Incident};
use crate::time::Wall;

impl Measured {
    /// Of a fault that was made then, by the incident that it led to and what was counted since: requests, failed, saved.
    pub(super) fn of(began: Option<Wall>, incident: Option<&Incident>, seen: (u64, u64, u64)) -> Self {
        let (requests, failed, saved) = seen;
        let counted = Self { requests, failed, saved, ..Self::default() };
        let (Some(began), Some(incident)) = (began, incident) else { return counted };
        let since = |at: Wall| u64::try_from(at.ms_since(began)).unwrap_or(0);
        let told = incident.timeline.iter().find(|entry| entry.kind == EntryKind::Notified);
        Self {
            notice_ms: Some(since(incident.began_at)),
            divert_ms: incident.diverted_at.map(since),
            alert_ms: told.map(|entry| since(entry.at)),
            act_ms: incident.acted_at.map(since),
            recover_ms: incident.recovered_at.map(since),
            done: what_was_done(incident),
            ..counted
        }
    }
}

/// What Mainstay did, in words.
pub fn what_was_done(incident: &Incident) -> Vec<String> {
    let count = |kind: EntryKind| {
        let entries = incident.timeline.iter().filter(|entry| entry.kind == kind);
        entries.map(|entry| entry.times).sum::<u32>()
    };
    let mut words = Vec::new();
    match count(EntryKind::Ejected) {
        0 => {}
        1 => words.push("taken out".to_owned()),
        ejected => words.push(format!("{ejected} servers taken out")),
    }
    match count(EntryKind::ProcessStarted) {
        0 => {}
        1 => words.push("restarted".to_owned()),
        restarted => words.push(format!("{restarted} restarted")),
    }
    words
}
