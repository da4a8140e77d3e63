//! Roots and what they take along, on the judge's bench.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Needed;
use crate::cause::Cause;
use crate::effect::{Effect, Notice, NoticeKind};
use crate::id::{IncidentId, MonitorId, ServerId, ServiceId};
use crate::incident::{Incident, IncidentState};
use crate::input::{Input, ProbeFailure, Restored};
use crate::monitor::MonitorPolicy;
use crate::policy::Policy;
use crate::testing::{Bench, Look, app, policy, shop};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn db() -> MonitorId {
    MonitorId::new("db")
}

fn cart() -> ServiceId {
    ServiceId::new("cart")
}

fn cart_1() -> ServerId {
    cart().server("app-1")
}

/// `cart` needs `shop`, which has two servers and needs the monitor `db`.
fn needing(interval: Duration) -> Policy {
    let mut all = policy(2, false);
    let address = std::net::SocketAddr::from(([10, 1, 0, 9], 5432));
    let monitor = MonitorPolicy { address: address.into(), interval, ..MonitorPolicy::default() };
    all.monitors = BTreeMap::from([(db(), monitor)]);
    let mut other = all.services[&shop()].clone();
    other.servers.retain(|name, _| **name == *"app-1");
    other.needs = vec![Needed::Service(shop())];
    all.services.get_mut(&shop()).unwrap().needs = vec![Needed::Monitor(db())];
    all.services.insert(cart(), other);
    all
}

fn bench(interval: Duration) -> Bench {
    let mut bench = Bench::settled(needing(interval));
    bench.advance(2 * MINUTE);
    bench.effects.clear();
    bench
}

fn db_fails(bench: &mut Bench) {
    bench.monitor_looks.insert(db(), Look::Bad(ProbeFailure::Refused));
}

fn db_heals(bench: &mut Bench) {
    bench.monitor_looks.remove(&db());
}

fn fails(bench: &mut Bench, server: &ServerId) {
    bench.looks.insert(server.clone(), Look::Bad(ProbeFailure::Refused));
}

fn heals(bench: &mut Bench, server: &ServerId) {
    bench.looks.remove(server);
}

fn incidents(bench: &Bench) -> Vec<Arc<Incident>> {
    bench.model.snapshot(bench.now).incidents
}

fn open(bench: &Bench) -> Vec<Arc<Incident>> {
    incidents(bench).into_iter().filter(|incident| incident.state != IncidentState::Resolved).collect()
}

fn of(bench: &Bench, scope: &str) -> Arc<Incident> {
    incidents(bench).into_iter().find(|incident| incident.scope.to_string() == scope).unwrap()
}

fn notices(bench: &Bench) -> Vec<Notice> {
    let notice = |(_, effect): &(_, Effect)| match effect {
        Effect::Notify(notice) => Some(notice.clone()),
        _ => None,
    };
    bench.effects.iter().filter_map(notice).collect()
}

fn kinds(bench: &Bench) -> Vec<(IncidentId, NoticeKind)> {
    notices(bench).iter().map(|notice| (notice.incident, notice.kind)).collect()
}

/// The database dies, and with it everything that needs it.
fn all_die(bench: &mut Bench) {
    db_fails(bench);
    bench.advance(300 * Duration::from_millis(1));
    for server in [app(1), app(2), cart_1()] {
        fails(bench, &server);
    }
}

fn all_heal(bench: &mut Bench) {
    db_heals(bench);
    for server in [app(1), app(2), cart_1()] {
        heals(bench, &server);
    }
}

#[test]
fn the_death_of_what_is_needed_is_one_incident_that_names_what_it_took_along() {
    for interval in [SECOND, MINUTE] {
        let mut bench = bench(interval);
        all_die(&mut bench);
        bench.advance(MINUTE);
        let root = of(&bench, "monitor db");
        assert_eq!(root.part_of, None);
        let parts: Vec<_> =
            open(&bench).iter().filter(|i| i.part_of == Some(root.id)).map(|i| i.scope.to_string()).collect();
        assert_eq!((parts.len(), open(&bench).len()), (2, 3), "{parts:?}");
        let mut affected: Vec<String> =
            root.affected.iter().map(|affected| affected.what.to_string()).collect();
        affected.sort();
        assert_eq!(affected, ["cart", "shop"]);
        assert_eq!(kinds(&bench), [(root.id, NoticeKind::Opened)], "with an interval of {interval:?}");
        let part = of(&bench, "shop");
        let diagnosis = part.diagnosis.as_ref().unwrap();
        assert_eq!(diagnosis.cause, Cause::Dependency);
        assert!(diagnosis.evidence[0].starts_with("shop needs db, which fails too"), "{diagnosis:?}");

        all_heal(&mut bench);
        bench.advance(5 * MINUTE);
        assert!(open(&bench).is_empty(), "{:?}", open(&bench));
        assert_eq!(kinds(&bench), [(root.id, NoticeKind::Opened), (root.id, NoticeKind::Resolved)]);
        let told = notices(&bench);
        assert_eq!(told[1].affected.len(), 2);
    }
}

#[test]
fn what_still_fails_after_its_root_is_well_becomes_an_incident_of_its_own() {
    let mut bench = bench(SECOND);
    all_die(&mut bench);
    bench.advance(MINUTE);
    let (root, part) = (of(&bench, "monitor db"), of(&bench, "shop"));
    db_heals(&mut bench);
    heals(&mut bench, &cart_1());
    bench.advance(20 * SECOND);
    assert_eq!(of(&bench, "shop").part_of, Some(root.id), "it gets a while to come back");
    bench.advance(2 * MINUTE);
    let own = of(&bench, "shop");
    assert_eq!((own.id, own.part_of), (part.id, None));
    assert!(own.timeline.iter().any(|entry| entry.text.contains("goes on by itself")));
    assert_ne!(own.diagnosis.as_ref().map(|d| d.cause), Some(Cause::Dependency));
    let told = kinds(&bench);
    assert_eq!(told.iter().filter(|told| **told == (own.id, NoticeKind::Opened)).count(), 1, "{told:?}");
    assert_eq!(of(&bench, "cart").state, IncidentState::Resolved);
    heals(&mut bench, &app(1));
    heals(&mut bench, &app(2));
    bench.advance(2 * MINUTE);
    assert!(open(&bench).is_empty());
    assert!(kinds(&bench).contains(&(own.id, NoticeKind::Resolved)));
}

#[test]
fn what_fails_by_itself_is_told_as_soon_as_what_it_needs_was_looked_at() {
    let mut bench = bench(MINUTE);
    fails(&mut bench, &app(1));
    fails(&mut bench, &app(2));
    bench.advance(5 * SECOND);
    let incident = of(&bench, "shop");
    assert_eq!(
        (incident.part_of, kinds(&bench).first().copied()),
        (None, Some((incident.id, NoticeKind::Opened)))
    );
}

#[test]
fn what_failed_long_before_is_not_put_down_to_what_it_needs() {
    let mut bench = bench(SECOND);
    fails(&mut bench, &app(1));
    fails(&mut bench, &app(2));
    bench.advance(10 * MINUTE);
    db_fails(&mut bench);
    bench.advance(MINUTE);
    assert_eq!(of(&bench, "shop").part_of, None);
    assert_eq!(open(&bench).iter().filter(|incident| incident.part_of.is_none()).count(), 2);
}

#[test]
fn a_server_of_a_need_that_is_only_less_redundant_takes_nobody_along() {
    let mut bench = bench(SECOND);
    fails(&mut bench, &app(1));
    bench.advance(5 * SECOND);
    fails(&mut bench, &cart_1());
    bench.advance(MINUTE);
    assert_eq!(of(&bench, "cart").part_of, None);
}

#[test]
fn a_restart_forgets_neither_root_nor_part() {
    let mut bench = bench(SECOND);
    all_die(&mut bench);
    bench.advance(MINUTE);
    let root = of(&bench, "monitor db").id;
    let mut next = Bench::empty(bench.policy.clone());
    next.now = bench.now + 3 * SECOND;
    next.model = crate::Model::new(9, next.now);
    next.looks.clone_from(&bench.looks);
    next.monitor_looks.clone_from(&bench.monitor_looks);
    let left: Vec<Incident> = open(&bench).iter().map(|incident| Incident::clone(incident)).collect();
    let last_incident = left.iter().map(|incident| incident.id.0).max().unwrap();
    next.tell(Input::Restored(Restored {
        incidents: left,
        last_incident,
        last_alive: Some(bench.now.wall),
        ..Restored::default()
    }));
    next.tell(Input::Policy(next.policy.clone()));
    next.addresses();
    next.advance(2 * MINUTE);
    assert_eq!(of(&next, "shop").part_of, Some(root));
    assert!(notices(&next).is_empty(), "{:?}", kinds(&next));
    all_heal(&mut next);
    next.advance(5 * MINUTE);
    assert!(open(&next).is_empty());
    assert_eq!(kinds(&next), [(root, NoticeKind::Resolved)]);
}
