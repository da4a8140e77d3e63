//! Turns what happened into lines that a person follows, each with the time since the fault.

use std::collections::BTreeMap;

use mainstay_model::effect::Record;
use mainstay_model::incident::{EntryKind, Incident, TimelineEntry};
use mainstay_model::{IncidentId, Wall};

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
        EntryKind::Recalled => ("remembered", false),
        EntryKind::Proposed => ("proposed", false),
        EntryKind::Helped => ("did it help", false),
        EntryKind::BudgetSpent => ("budget spent", false),
        EntryKind::Resolved => ("closed", false),
        EntryKind::Acknowledged | EntryKind::AdminChanged | EntryKind::Published | EntryKind::Changed => {
            ("a person", false)
        }
        EntryKind::Own => ("Mainstay", false),
        EntryKind::Found => ("looked into", false),
        EntryKind::Diagnosed => ("cause", false),
        EntryKind::Withheld => ("not done", false),
        EntryKind::FrontLost | EntryKind::FrontReturned => ("front", false),
        EntryKind::DnsStale | EntryKind::DnsGood => ("DNS", false),
        EntryKind::DnsUpdated | EntryKind::DnsFailed => ("DNS", false),
        // Told as they are recorded by themselves, also where no incident is open.
        EntryKind::ReleaseChanged | EntryKind::Scaled => return None,
        EntryKind::Notified => return None,
    };
    Some(Telling { label, once })
}

/// Follows incidents and tells them.
#[derive(Debug, Default)]
pub struct Story {
    /// When the demo itself did harm.
    began: Option<Wall>,
    /// The same, until an incident was seen for it.
    fault: Option<Wall>,
    incidents: BTreeMap<IncidentId, Told>,
    /// Steps told, by the release's number.
    steps: BTreeMap<u64, usize>,
}

#[derive(Debug)]
struct Told {
    since: Wall,
    kinds: Vec<EntryKind>,
}

impl Story {
    /// The demo does harm now; the next incident is measured from here.
    pub fn fault(&mut self, at: Wall) {
        self.began = Some(at);
        self.fault = Some(at);
    }

    /// The line for one change of the record, if it is worth one.
    pub fn recorded(&mut self, record: &Record) -> Option<String> {
        let began = self.began;
        match record {
            Record::Incident(incident) => {
                self.follow(incident);
                None
            }
            Record::Entry { incident, entry, .. } => self.entry(*incident, entry),
            Record::Admin { .. }
            | Record::ActionEnded { .. }
            | Record::ActionHelped { .. }
            | Record::Proposal(_)
            | Record::Remedy(_)
            | Record::Backup(_)
            | Record::Publication { .. }
            | Record::Change(_)
            | Record::Drill(_)
            | Record::Heartbeat(_)
            | Record::Impact { .. }
            | Record::Lead { .. }
            | Record::Pace { .. }
            | Record::ReleaseForgotten { .. }
            | Record::Window { .. }
            | Record::WindowOver { .. }
            | Record::WindowEnded { .. }
            | Record::Substitute(_)
            | Record::Switch { .. } => None,
            Record::Release { release, .. } => {
                let told = self.steps.insert(release.number, release.steps.len()).unwrap_or(0);
                let new = release.steps.iter().skip(told);
                let lines: Vec<_> =
                    new.map(|step| line(since(began, step.at), "release", &step.text)).collect();
                (!lines.is_empty()).then(|| lines.join("\n"))
            }
            Record::Instances { instances, .. } => {
                let now = Wall(jiff::Timestamp::now().as_millisecond());
                Some(line(since(began, now), "instances", &format!("{instances} are to run")))
            }
        }
    }

    /// The line for something that the demo did or saw itself.
    pub fn said(&self, at: Wall, label: &str, text: &str) -> String {
        line(since(self.began, at), label, text)
    }

    /// The line for a mail that the sink received just now.
    pub fn mail(&self, at: Wall, subject: &str) -> String {
        let newest = self.incidents.values().next_back().map(|told| told.since);
        line(since(newest.or(self.began), at), "mail", subject)
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

/// Milliseconds from then, or none.
fn since(then: Option<Wall>, at: Wall) -> i64 {
    then.map_or(0, |then| at.ms_since(then))
}

fn line(ms: i64, label: &str, text: &str) -> String {
    format!("{:>9} ms  {label:<13} {text}", format!("+{}", ms.max(0)))
}

#[cfg(test)]
pub mod testing {
    //! An incident to tell of.

    use mainstay_model::ServiceId;
    use mainstay_model::incident::{IncidentState, Scope, Severity, VisitorsSaw};

    use super::*;

    /// One of app-2, noticed then and diverted two milliseconds later.
    pub fn incident(began: i64) -> Incident {
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
            changes: Vec::new(),
            escalation: Default::default(),
            part_of: None,
            affected: Vec::new(),
            affected_left_out: 0,
            drill: None,
            timeline_left_out: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::incident;
    use super::*;

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
                sample: None,
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
}
