//! The world's record: what a restarted Mainstay finds again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainstay_model::change::Change;
use mainstay_model::drill::Drill;
use mainstay_model::effect::{ActionKind, ActionOrder, Record};
use mainstay_model::heartbeat::HeartbeatRecord;
use mainstay_model::impact::{Curve, Tally};
use mainstay_model::incident::{Incident, IncidentState, Scope, TimelineEntry};
use mainstay_model::input::{AdminState, BackupRecord, OwnPart, Restored};
use mainstay_model::lead::LeadRecord;
use mainstay_model::memory::{Fingerprint, Remedy};
use mainstay_model::pace::{PaceHour, PaceNews, Slowed};
use mainstay_model::proposal::Proposal;
use mainstay_model::publication::Publication;
use mainstay_model::release::Release;
use mainstay_model::rung::Rung;
use mainstay_model::substitute::Substitute;
use mainstay_model::switch::SwitchRun;
use mainstay_model::window::HandWindow;
use mainstay_model::{ActionId, IncidentId, MonitorId, ServerId, ServiceId, Wall};

#[derive(Default)]
pub struct Store {
    incidents: BTreeMap<IncidentId, (Incident, BTreeMap<u64, TimelineEntry>)>,
    impacts: BTreeMap<IncidentId, (Curve, Tally)>,
    admin: BTreeMap<ServerId, AdminState>,
    restarts: Vec<(ServerId, Wall)>,
    unfinished: BTreeMap<ActionId, ServerId>,
    unfinished_since: BTreeMap<ActionId, Wall>,
    last_action: u64,
    pub publications: BTreeMap<IncidentId, Publication>,
    changes: Vec<Change>,
    backups: Vec<BackupRecord>,
    releases: BTreeMap<(ServiceId, u64), Release>,
    instances: BTreeMap<ServiceId, u32>,
    pub switches: BTreeMap<ServiceId, SwitchRun>,
    substitutes: BTreeMap<ActionId, Substitute>,
    pub proposals: BTreeMap<u64, Proposal>,
    remedies: BTreeMap<(Fingerprint, Rung), Remedy>,
    leads: BTreeMap<ServiceId, LeadRecord>,
    pub windows: BTreeMap<u64, HandWindow>,
    /// When a person ended the window of the config that was open.
    pub windows_ended: BTreeMap<Arc<str>, Wall>,
    heartbeats: BTreeMap<MonitorId, HeartbeatRecord>,
    paces: BTreeMap<ServerId, Vec<PaceHour>>,
    slowed: BTreeMap<ServerId, Slowed>,
    drills: BTreeMap<u64, Drill>,
}

impl Store {
    pub fn write(&mut self, record: Record) {
        match record {
            Record::Incident(header) => {
                assert!(header.timeline.is_empty(), "a header carries its timeline");
                let known =
                    self.incidents.entry(header.id).or_insert_with(|| (header.clone(), BTreeMap::new()));
                assert_ne!(known.0.state, IncidentState::Resolved, "incident {} after its end", header.id);
                assert!(header.curve.points.is_empty(), "a header carries its curve");
                runs_forward(&known.0, &header);
                known.0 = header;
            }
            Record::Entry { incident, place, entry } => {
                let (_, timeline) =
                    self.incidents.get_mut(&incident).expect("an entry of an unknown incident");
                assert!(place <= timeline.len() as u64, "a hole in the timeline of {incident}");
                timeline.insert(place, entry);
            }
            Record::Impact { incident, curve, tally } => {
                let (header, _) = &self.incidents[&incident];
                assert_eq!(curve.sum(), header.seen, "curve and header of {incident} do not agree");
                if header.state == IncidentState::Resolved {
                    assert_eq!(
                        tally,
                        Tally::default(),
                        "visitors of {incident} are remembered after its end"
                    );
                }
                self.impacts.insert(incident, (curve, tally));
            }
            Record::Change(change) => self.changes.push(change),
            Record::Drill(drill) => {
                let known = self.drills.insert(drill.id, drill.clone());
                let was_over = known.is_some_and(|known| known.state.is_over());
                assert!(!was_over, "a drill goes on after its end: {drill:?}");
            }
            Record::Pace { server, news } => match news {
                PaceNews::Hour(hour) => {
                    let hours = self.paces.entry(server).or_default();
                    hours.retain(|known| known.at != hour.at);
                    hours.push(hour);
                }
                PaceNews::Slow(slowed) => drop(self.slowed.insert(server, slowed)),
                PaceNews::Well => drop(self.slowed.remove(&server)),
                PaceNews::Forgotten => drop(self.paces.remove(&server)),
            },
            Record::Heartbeat(record) => {
                self.heartbeats.insert(record.monitor.clone(), record);
            }
            Record::Admin { server, state: AdminState::Ready } => {
                self.admin.remove(&server);
            }
            Record::Admin { server, state } => {
                self.admin.insert(server, state);
            }
            Record::Switch { service, run } => {
                let fence = run.fence.as_ref().map_or(0, |fence| fence.action.0);
                self.last_action = self.last_action.max(run.action.0).max(fence);
                self.switches.insert(service, run);
            }
            Record::Substitute(one) => {
                self.last_action = self.last_action.max(one.action.0);
                self.substitutes.insert(one.action, one);
            }
            Record::Lead { service, lead } => match lead {
                Some(lead) => {
                    let before = self.leads.get(&service).map_or(0, |lead| lead.term);
                    assert!(lead.term >= before, "a lead of an earlier term: {lead:?}");
                    self.leads.insert(service, lead);
                }
                None => drop(self.leads.remove(&service)),
            },
            Record::WindowEnded { name, at } => {
                self.windows_ended.insert(name, at);
            }
            window @ (Record::Window { .. } | Record::WindowOver { .. }) => {
                super::windows::write(&mut self.windows, window);
            }
            Record::Instances { service, instances } => {
                self.instances.insert(service, instances);
            }
            Record::Release { service, release } => {
                self.releases.insert((service, release.number), release);
            }
            Record::ReleaseForgotten { service, number } => {
                self.releases.remove(&(service, number));
            }
            Record::Remedy(remedy) => {
                assert!(remedy.helped + remedy.in_vain <= remedy.tried, "{remedy:?}");
                self.remedies.insert((remedy.fingerprint.clone(), remedy.rung), remedy);
            }
            Record::Proposal(proposal) => {
                if let Some(known) = self.proposals.get(&proposal.number) {
                    assert_eq!(known.end, None, "a proposal after its end: {proposal:?}");
                }
                self.proposals.insert(proposal.number, proposal);
            }
            Record::ActionHelped { action, .. } => {
                assert!(
                    self.unfinished().iter().all(|(open, _)| *open != action),
                    "{action:?} is judged before it ended"
                );
            }
            Record::ActionEnded { action, .. } => {
                self.unfinished.remove(&action);
                self.unfinished_since.remove(&action);
            }
            Record::Publication { incident, publication } => {
                assert!(self.incidents.contains_key(&incident), "the public is told of no incident");
                self.publications.insert(incident, publication);
            }
            Record::Backup(record) => {
                let last = self.backups.last().map_or(record.ended_at, |last| last.ended_at);
                assert!(record.outcome.took > std::time::Duration::ZERO, "it took no time: {record:?}");
                self.backups.retain(|r| r.ended_at.ms_since(last) > -86_400_000);
                self.backups.push(record);
            }
        }
    }

    pub fn knows(&self, incident: IncidentId) -> bool {
        self.incidents.contains_key(&incident)
    }

    pub fn intent(&mut self, order: &ActionOrder, at: Wall) {
        assert!(order.id.0 > self.last_action, "action {} again", order.id);
        self.last_action = order.id.0;
        self.unfinished.insert(order.id, order.server.clone());
        self.unfinished_since.insert(order.id, at);
        if order.kind == ActionKind::Restart {
            self.restarts.push((order.server.clone(), at));
            if let Some(id) = order.incident {
                let (incident, _) = &self.incidents[&id];
                assert_ne!(incident.state, IncidentState::Resolved, "an action for an incident that is over");
            } else {
                panic!("a restart without an incident: {order:?}");
            }
        }
    }

    /// The number of the last action that was ordered.
    pub fn last_action(&self) -> u64 {
        self.last_action
    }

    pub fn knows_no_past(&self) -> bool {
        self.paces.is_empty()
    }

    /// Servers had answered within a few milliseconds at every hour of the last days.
    pub fn had_a_past(&mut self, servers: impl Iterator<Item = ServerId>, per_minute: u64, now: Wall) {
        const HOUR_MS: i64 = 3_600_000;
        let hour = |n| PaceHour {
            at: Wall((now.0 / HOUR_MS - n) * HOUR_MS),
            minutes: 60,
            mean_us: 3400,
            p90_us: 5700,
            per_minute,
        };
        let hours: Vec<PaceHour> = (1..=3 * 24).map(hour).collect();
        self.paces.extend(servers.map(|server| (server, hours.clone())));
    }

    pub fn restored(&self, last_alive: Wall) -> Restored {
        let open = self.incidents.values().filter(|(i, _)| i.state != IncidentState::Resolved);
        let curve = |id| self.impacts.get(&id).map(|(curve, _)| curve.clone()).unwrap_or_default();
        let whole = open.map(|(header, timeline)| Incident {
            timeline: timeline.values().cloned().collect(),
            curve: curve(header.id),
            ..header.clone()
        });
        Restored {
            incidents: whole.collect(),
            drills: self.drills.values().cloned().collect(),
            tallies: self.impacts.iter().map(|(id, (_, tally))| (*id, tally.clone())).collect(),
            last_incident: self.incidents.keys().next_back().map_or(0, |id| id.0),
            last_action: self.last_action,
            admin: self.admin.clone(),
            restarts: self.restarts.clone(),
            unfinished: self.unfinished.iter().map(|(action, server)| (*action, server.clone())).collect(),
            unfinished_since: self.unfinished_since.clone(),
            heartbeats: self.heartbeats.values().cloned().collect(),
            changes: self.changes.clone(),
            publications: self.publications.clone(),
            publications_left_out: 0,
            windows: self.windows.clone(),
            windows_ended: self.windows_ended.clone(),
            last_window: 0,
            backups: self.backups.clone(),
            releases: self.releases.iter().map(|((service, _), r)| (service.clone(), r.clone())).collect(),
            instances: self.instances.clone(),
            paces: self.paces.clone(),
            slowed: self.slowed.clone(),
            switches: self.switches.clone(),
            proposals: self.proposals.values().cloned().collect(),
            remedies: self.remedies.values().cloned().collect(),
            last_proposal: self.proposals.keys().next_back().copied().unwrap_or(0),
            leads: self.leads.clone(),
            substitutes: self.substitutes.values().cloned().collect(),
            last_alive: Some(last_alive),
            ..Restored::default()
        }
    }

    pub fn admin(&self, server: &ServerId) -> AdminState {
        self.admin.get(server).copied().unwrap_or_default()
    }

    /// The judge forgets what a person wanted of a server that left the config.
    pub fn check_admin(&self, known: &BTreeSet<ServerId>) {
        assert!(self.admin.keys().all(|server| known.contains(server)), "an admin state of nobody");
    }

    pub fn unfinished(&self) -> &BTreeMap<ActionId, ServerId> {
        &self.unfinished
    }

    /// Mainstay's own sight is suspect.
    pub fn is_suspect(&self) -> bool {
        let sight = Scope::Own(OwnPart::Sight);
        self.incidents().any(|i| i.scope == sight && i.state != IncidentState::Resolved)
    }

    pub fn open_incidents(&self) -> impl Iterator<Item = IncidentId> {
        self.incidents.values().filter(|(i, _)| i.state != IncidentState::Resolved).map(|(i, _)| i.id)
    }

    /// All incidents, without their timelines, in the order of their numbers.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values().map(|(header, _)| header)
    }

    pub fn incident_ids(&self) -> impl Iterator<Item = IncidentId> {
        self.incidents.keys().copied()
    }

    /// Another incident went on for it before anybody was told.
    pub fn was_merged(&self, id: IncidentId) -> bool {
        let Some((_, timeline)) = self.incidents.get(&id) else { return false };
        timeline.values().next_back().is_some_and(|last| last.text.contains("fails together"))
    }

    /// It is, or was when it ended, a part of the incident of what it needs.
    pub fn is_part(&self, id: IncidentId) -> bool {
        self.incidents.get(&id).is_some_and(|(incident, _)| incident.part_of.is_some())
    }

    /// What must hold of every incident when it is over.
    pub fn check(&self) {
        for (incident, timeline) in self.incidents.values() {
            assert_eq!(incident.state, IncidentState::Resolved);
            assert!(incident.resolved_at.is_some() && incident.recovered_at.is_some(), "{incident:?}");
            assert!(timeline.len() <= Incident::TIMELINE_MAX);
            assert!(incident.seen.failed <= incident.seen.requests);
        }
    }
}

/// Nothing that was written down of an incident is ever less, also after a restart.
fn runs_forward(before: &Incident, now: &Incident) {
    let counts = |i: &Incident| {
        let (seen, impact) = (&i.seen, &i.impact);
        let of_requests = [seen.requests, seen.failed, seen.server_errors, seen.saved, seen.slow];
        let of_impact = [impact.visitors, impact.hurt_seconds, impact.down_seconds, impact.lost_ms];
        (of_requests, of_impact)
    };
    let pairs = [counts(before), counts(now)].map(|(a, b)| a.into_iter().chain(b).collect::<Vec<_>>());
    assert!(pairs[0].iter().zip(&pairs[1]).all(|(a, b)| a <= b), "{} ran backwards: {pairs:?}", now.id);
}

/// Equal but for the last digits of numbers with a fraction, which a reader of JSON may round.
pub fn alike(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(1.0)
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| alike(v, w)))
        }
        (a, b) => a == b,
    }
}
