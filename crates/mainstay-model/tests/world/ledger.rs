//! The world's ledger: what really became of every request, to hold what incidents count against.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_model::incident::{Incident, IncidentState, Scope, VisitorsSaw};
use mainstay_model::input::{ServiceTraffic, TrafficReport};
use mainstay_model::{IncidentId, ServiceId, Wall};

use super::World;

/// One report of one service.
struct Entry {
    service: ServiceId,
    at: Wall,
    /// The number of the input that it was.
    input: u64,
    saw: VisitorsSaw,
    hurt: BTreeSet<u64>,
}

#[derive(Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    /// Visitors hurt since the last report, by service.
    hurt: BTreeMap<ServiceId, BTreeSet<u64>>,
    /// By which input an incident ended.
    ended: BTreeMap<IncidentId, u64>,
    visitors: u64,
}

impl Ledger {
    /// The next visitor; some come again.
    pub fn visitor(&mut self) -> u64 {
        self.visitors += 1;
        self.visitors % 61
    }

    /// A visitor's request did not go well.
    pub fn hurt(&mut self, service: &ServiceId, visitor: u64, report: &mut ServiceTraffic) {
        self.hurt.entry(service.clone()).or_default().insert(visitor);
        report.hurt.add(visitor);
    }

    /// What the judge is told next, as its input number `input`.
    pub fn report(&mut self, report: &TrafficReport, at: Wall, input: u64) {
        for (service, traffic) in &report.services {
            let ServiceTraffic { requests, failed, server_errors, saved, slow, shed, limited, .. } = *traffic;
            let saw = VisitorsSaw {
                connections: false,
                requests,
                failed,
                server_errors,
                saved,
                slow,
                shed,
                limited,
            };
            let hurt = self.hurt.remove(service).unwrap_or_default();
            self.entries.push(Entry { service: service.clone(), at, input, saw, hurt });
        }
    }

    /// The judge is not told what became of these visitors.
    pub fn report_is_lost(&mut self) {
        self.hurt.clear();
    }

    /// An incident was written down while this input was taken in.
    pub fn incident(&mut self, incident: &Incident, input: u64) {
        if incident.state == IncidentState::Resolved {
            self.ended.insert(incident.id, input);
        }
    }
}

impl World {
    /// Every incident counted what the world did to visitors between its beginning and its end, neither more nor less; when
    /// Mainstay was killed in between, not more.
    pub(super) fn check_the_ledger(&self) {
        // A wall clock that jumps makes beginnings incomparable.
        if self.kind.wall_jumps {
            return;
        }
        let mut ended_before: BTreeMap<&Scope, u64> = BTreeMap::new();
        for incident in self.store.incidents() {
            let Scope::Service(service) = &incident.scope else { continue };
            let end = self.ledger.ended[&incident.id];
            let start = ended_before.insert(&incident.scope, end).unwrap_or(0);
            let mut saw = VisitorsSaw::default();
            let mut hurt: BTreeSet<u64> = BTreeSet::new();
            let entries = self.ledger.entries.iter().filter(|e| e.service == *service);
            for entry in entries.filter(|e| e.at >= incident.began_at && e.input > start && e.input <= end) {
                saw.add(&entry.saw);
                hurt.extend(&entry.hurt);
            }
            let (id, impact) = (incident.id, &incident.impact);
            if self.kind.restarts {
                assert!(incident.seen.requests <= saw.requests, "{id}: {:?} of {saw:?}", incident.seen);
                assert!(incident.seen.hurt() <= saw.hurt(), "{id}: {:?} of {saw:?}", incident.seen);
                assert!(impact.visitors <= hurt.len() as u64, "{id}: {} of {}", impact.visitors, hurt.len());
            } else {
                assert_eq!(incident.seen, saw, "{id} from {:?} on", incident.began_at);
                assert_eq!(impact.visitors, hurt.len() as u64, "{id}: visitors");
            }
            let lasted = incident.resolved_at.unwrap_or_default().ms_since(incident.began_at);
            assert!(
                impact.hurt_seconds <= lasted.unsigned_abs() / 1000 + 2,
                "{id}: {impact:?} in {lasted} ms"
            );
            assert!(impact.down_seconds <= impact.hurt_seconds, "{id}: {impact:?}");
            assert!(impact.lost_ms <= impact.hurt_seconds * 1000, "{id}: {impact:?}");
            let money = impact.money.as_ref().expect("every service of the world has a value");
            let expected = impact.lost_ms as f64 / 3_600_000.0 * money.per_hour;
            assert!((money.amount - expected).abs() <= 0.006, "{id}: {impact:?}");
        }
    }
}
