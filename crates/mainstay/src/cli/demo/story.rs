//! Turns what happened into lines that a person follows, each with the time since the fault.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_model::effect::Record;
use mainstay_model::incident::{EntryKind, Incident, TimelineEntry};
use mainstay_model::{IncidentId, Wall};
use serde::Serialize;

use super::load::LoadSnapshot;

/// What is said of an entry, and how it is marked.
struct Telling {
    label: &'static str,
    /// Only the first entry of the kind in an incident is told.
    once: bool,
}

fn telling(kind: EntryKind) -> Option<Telling> {
    let (label, once) = match kind {
        EntryKind::TrafficFailed => ("noticed", true),
        EntryKind::ProbeFailed => ("probe failed", true),
        EntryKind::ProcessExited => ("process ended", false),
        EntryKind::Ejected => ("ejected", false),
        EntryKind::ModeChanged => ("routing", false),
        EntryKind::Opened => ("incident", false),
        EntryKind::Worsened => ("worse", false),
        EntryKind::ActionBegun => ("recovery", false),
        EntryKind::ActionDone | EntryKind::ActionFailed => ("recovery", false),
        EntryKind::ProcessStarted => ("restarted", false),
        EntryKind::ProbeGood => ("good probe", true),
        EntryKind::Returned => ("returned", false),
        EntryKind::FullShare => ("full share", false),
        EntryKind::TrafficGood => ("traffic", true),
        EntryKind::BudgetSpent => ("budget spent", false),
        EntryKind::ReleaseChanged => ("release", false),
        EntryKind::Scaled => ("scaled", false),
        EntryKind::Resolved => ("closed", false),
        EntryKind::Acknowledged | EntryKind::AdminChanged | EntryKind::Published => ("a person", false),
        EntryKind::Own => ("Mainstay", false),
        EntryKind::Found => ("looked into", false),
        EntryKind::Diagnosed => ("cause", false),
        EntryKind::Withheld => ("not done", false),
        EntryKind::FrontLost | EntryKind::FrontReturned => ("front", false),
        EntryKind::DnsStale | EntryKind::DnsGood => ("DNS", false),
        EntryKind::DnsUpdated | EntryKind::DnsFailed => ("DNS", false),
        EntryKind::Notified => return None,
    };
    Some(Telling { label, once })
}

/// Follows incidents and tells them.
#[derive(Debug, Default)]
pub struct Story {
    /// When the demo itself did harm, and has not seen an incident for it yet.
    fault: Option<Wall>,
    incidents: BTreeMap<IncidentId, Told>,
}

#[derive(Debug)]
struct Told {
    since: Wall,
    kinds: Vec<EntryKind>,
}

impl Story {
    /// The demo does harm now; the next incident is measured from here.
    pub fn fault(&mut self, at: Wall) {
        self.fault = Some(at);
    }

    /// The line for one change of the record, if it is worth one.
    pub fn recorded(&mut self, record: &Record) -> Option<String> {
        match record {
            Record::Incident(incident) => {
                self.follow(incident);
                None
            }
            Record::Entry { incident, entry, .. } => self.entry(*incident, entry),
            Record::Admin { .. }
            | Record::ActionEnded { .. }
            | Record::Backup(_)
            | Record::Publication { .. }
            | Record::Impact { .. }
            | Record::Release { .. }
            | Record::ReleaseForgotten { .. }
            | Record::Switch { .. }
            | Record::Instances { .. } => None,
        }
    }

    /// The line for a mail that the sink received just now.
    pub fn mail(&self, at: Wall, subject: &str) -> String {
        let newest = self.incidents.values().next_back().map(|told| told.since);
        line(at.ms_since(newest.or(self.fault).unwrap_or(at)), "mail", subject)
    }

    fn follow(&mut self, incident: &Incident) {
        if !self.incidents.contains_key(&incident.id) {
            // Only the first incident after the fault is the fault's; a later one is measured from its own first sign.
            let since = self.fault.take().unwrap_or(incident.began_at).min(incident.began_at);
            self.incidents.insert(incident.id, Told { since, kinds: Vec::new() });
        }
    }

    fn since(&self, incident: IncidentId) -> Option<Wall> {
        self.incidents.get(&incident).map(|told| told.since).or(self.fault)
    }

    fn entry(&mut self, incident: IncidentId, entry: &TimelineEntry) -> Option<String> {
        let telling = telling(entry.kind)?;
        let since = self.since(incident).unwrap_or(entry.at);
        let told = self.incidents.entry(incident).or_insert_with(|| Told { since, kinds: Vec::new() });
        if telling.once && told.kinds.contains(&entry.kind) || entry.times > 1 {
            return None;
        }
        told.kinds.push(entry.kind);
        Some(line(entry.at.ms_since(told.since), telling.label, &entry.text))
    }
}

fn line(ms: i64, label: &str, text: &str) -> String {
    format!("{:>9} ms  {label:<13} {text}", format!("+{}", ms.max(0)))
}

/// The demo's result. Times are milliseconds since the fault; `null` where it did not come to that.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Requests that the demo's visitors sent.
    pub requests: u64,
    /// Of them not well answered.
    pub failed: u64,
    /// Of them well answered only because they were tried again.
    pub saved: u64,
    /// To the first sign in the record.
    pub notice_ms: Option<i64>,
    /// To the server being out of rotation.
    pub divert_ms: Option<i64>,
    /// To every server serving at its full share again.
    pub recover_ms: Option<i64>,
    /// The incident's number.
    pub incident: Option<u64>,
}

impl Summary {
    /// What the record says of the incident, and the visitors of their requests.
    pub fn of(incident: Option<&Incident>, fault: Wall, counted: &LoadSnapshot, saved: u64) -> Self {
        let since = |at: Wall| at.ms_since(fault).max(0);
        Self {
            requests: counted.sent,
            failed: counted.failed,
            saved,
            notice_ms: incident.map(|i| since(i.began_at)),
            divert_ms: incident.and_then(|i| i.diverted_at).map(since),
            recover_ms: incident.and_then(|i| i.recovered_at).map(since),
            incident: incident.map(|i| i.id.0),
        }
    }

    /// Nobody was hurt and the server came back.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.requests > 0 && self.recover_ms.is_some()
    }

    /// The summary for a person; `slowest` is the longest that a visitor waited.
    pub fn for_a_person(&self, slowest: Duration) -> String {
        let ms = |value: Option<i64>| value.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        format!(
            "  requests sent    {}\n  failed           {}\n  saved by a retry {}\n  time to notice   {}\n  time to divert   {}\n  time to recover  {}\n  slowest answer   {} ms\n",
            self.requests,
            self.failed,
            self.saved,
            ms(self.notice_ms),
            ms(self.divert_ms),
            ms(self.recover_ms),
            slowest.as_millis(),
        )
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::ServiceId;
    use mainstay_model::incident::{IncidentState, Scope, Severity, VisitorsSaw};

    use super::*;

    fn incident(began: i64) -> Incident {
        Incident {
            id: IncidentId(7),
            scope: Scope::Service(ServiceId::new("shop")),
            title: "app-2 is down".to_owned(),
            state: IncidentState::Open,
            severity: Severity::Degraded,
            servers: vec![],
            began_at: Wall(began),
            opened_at: Wall(began + 1),
            diverted_at: Some(Wall(began + 2)),
            recovered_at: None,
            resolved_at: None,
            acknowledged: None,
            seen: VisitorsSaw::default(),
            timeline: vec![],
            acted_at: None,
            impact: mainstay_model::impact::Impact::default(),
            curve: mainstay_model::impact::Curve::default(),
            diagnosis: None,
            escalation: Default::default(),
            timeline_left_out: 0,
        }
    }

    fn entry(at: i64, kind: EntryKind, text: &str) -> Record {
        Record::Entry {
            incident: IncidentId(7),
            place: 0,
            entry: TimelineEntry {
                at: Wall(at),
                kind,
                server: None,
                action: None,
                text: text.to_owned(),
                times: 1,
            },
        }
    }

    #[test]
    fn lines_carry_the_time_since_the_fault() {
        let mut story = Story::default();
        story.fault(Wall(1000));
        assert_eq!(story.recorded(&Record::Incident(incident(1003))), None);
        let line = story.recorded(&entry(1004, EntryKind::Ejected, "app-2 is out of rotation")).unwrap();
        assert_eq!(line, "       +4 ms  ejected       app-2 is out of rotation");
    }

    #[test]
    fn a_later_incident_is_measured_from_its_own_first_sign() {
        let mut story = Story::default();
        story.fault(Wall(1000));
        story.recorded(&Record::Incident(incident(1003)));
        story.recorded(&Record::Incident(Incident { id: IncidentId(8), ..incident(60_000) }));
        let Record::Entry { place, entry, .. } =
            entry(60_004, EntryKind::Ejected, "app-3 is out of rotation")
        else {
            unreachable!("an entry")
        };
        let line = story.recorded(&Record::Entry { incident: IncidentId(8), place, entry }).unwrap();
        assert_eq!(line, "       +4 ms  ejected       app-3 is out of rotation");
    }

    #[test]
    fn only_the_first_failed_attempt_is_told() {
        let mut story = Story::default();
        story.recorded(&Record::Incident(incident(1000)));
        assert!(story.recorded(&entry(1000, EntryKind::TrafficFailed, "refused")).is_some());
        assert_eq!(story.recorded(&entry(1001, EntryKind::TrafficFailed, "refused")), None);
    }

    fn counted(sent: u64, failed: u64) -> LoadSnapshot {
        LoadSnapshot { sent, ok: sent - failed, failed, ..LoadSnapshot::default() }
    }

    #[test]
    fn a_server_that_did_not_come_back_is_not_a_good_end() {
        let summary = Summary::of(Some(&incident(1003)), Wall(1000), &counted(100, 0), 1);
        assert_eq!((summary.notice_ms, summary.divert_ms, summary.recover_ms), (Some(3), Some(5), None));
        assert!(!summary.is_good());
    }

    #[test]
    fn a_failed_request_is_not_a_good_end() {
        let mut incident = incident(1003);
        incident.recovered_at = Some(Wall(3000));
        assert!(Summary::of(Some(&incident), Wall(1000), &counted(100, 0), 1).is_good());
        assert!(!Summary::of(Some(&incident), Wall(1000), &counted(100, 1), 1).is_good());
    }
}
