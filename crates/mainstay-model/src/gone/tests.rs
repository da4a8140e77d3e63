//! Machines that are gone with what is on them, on the judge's bench.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::drill::{DrillOrder, Fault};
use crate::effect::{Effect, NoticeKind};
use crate::id::IncidentId;
use crate::incident::{Incident, IncidentState};
use crate::input::{Input, Restored};
use crate::monitor::MonitorPolicy;
use crate::policy::ServicePolicy;
use crate::sight::{Seen, SightReport};
use crate::testing::{Bench, Look, app, policy, shop};

const SECOND: Duration = Duration::from_secs(1);

fn api() -> ServiceId {
    ServiceId::new("api")
}

fn ping() -> MonitorId {
    MonitorId::new("ping")
}

fn ip() -> IpAddr {
    [10, 1, 0, 1].into()
}

/// `shop` and `api` with two servers each, the first of both on one machine, and a monitor there.
fn shared() -> Policy {
    let mut all = policy(2, false);
    let other: ServicePolicy = all.services[&shop()].clone();
    all.services.insert(api(), other);
    let address = SocketAddr::from((ip(), 22));
    let interval = Duration::from_secs(60);
    let monitor = MonitorPolicy { address: address.into(), interval, ..MonitorPolicy::default() };
    all.monitors = [(ping(), monitor)].into();
    all
}

fn listens(bench: &mut Bench) {
    for (service, port) in [(shop(), 80), (api(), 81)] {
        for n in 1..=2u8 {
            let server = service.server(format!("app-{n}"));
            let address = Some(SocketAddr::from(([10, 1, 0, n], port)).into());
            bench.tell(Input::Address { server, address });
        }
    }
}

fn bench_of(policy: Policy) -> Bench {
    let mut bench = Bench::fresh(policy);
    listens(&mut bench);
    bench.advance(120 * SECOND);
    bench.effects.clear();
    bench
}

fn on_it() -> [ServerId; 2] {
    [app(1), api().server("app-1")]
}

fn dies(bench: &mut Bench) {
    let silent = || Look::Bad(ProbeFailure::ConnectTimeout);
    on_it().into_iter().for_each(|id| drop(bench.looks.insert(id, silent())));
    bench.monitor_looks.insert(ping(), silent());
}

fn lives(bench: &mut Bench) {
    on_it().iter().for_each(|id| drop(bench.looks.remove(id)));
    bench.monitor_looks.clear();
}

/// Mainstay looks around, and sees.
fn sees(bench: &mut Bench, seconds: u32) {
    for _ in 0..seconds * 4 {
        bench.advance(SECOND / 4);
        if bench.effects.iter().any(|(_, effect)| matches!(effect, Effect::LookAround(_))) {
            let gateway = Some(Seen { what: "192.0.2.1".to_owned(), answers: true });
            bench.tell(Input::Sight(SightReport { gateway, ..SightReport::default() }));
        }
    }
}

fn incidents(bench: &Bench) -> Vec<Arc<Incident>> {
    bench.model.snapshot(bench.now).incidents
}

fn of(bench: &Bench, scope: &str) -> Arc<Incident> {
    incidents(bench).into_iter().find(|incident| incident.scope.to_string() == scope).unwrap()
}

fn told(bench: &Bench) -> Vec<(IncidentId, NoticeKind)> {
    bench.notices().iter().map(|notice| (notice.incident, notice.kind)).collect()
}

#[test]
fn a_machine_that_several_things_share_is_one_incident_when_it_is_gone() {
    let mut bench = bench_of(shared());
    dies(&mut bench);
    sees(&mut bench, 40);
    let root = of(&bench, "machine 10.1.0.1");
    let title = "machine 10.1.0.1 is gone: nothing comes back from api/app-1, shop/app-1, ping";
    assert_eq!(root.title, title);
    assert_eq!(root.severity, Severity::Down, "the monitor is");
    assert_eq!(root.diagnosis.as_ref().unwrap().cause, Cause::Network);
    let mut affected: Vec<String> = root.affected.iter().map(|a| a.what.to_string()).collect();
    affected.sort();
    assert_eq!(affected, ["api", "ping", "shop"]);
    for scope in ["shop", "api", "monitor ping"] {
        assert_eq!(of(&bench, scope).part_of, Some(root.id), "{scope}");
    }
    let why = &of(&bench, "shop").diagnosis.as_ref().unwrap().evidence[0].clone();
    assert!(why.starts_with("shop needs machine 10.1.0.1, which fails too"), "{why}");
    assert_eq!(told(&bench), [(root.id, NoticeKind::Opened)], "people are told once");

    lives(&mut bench);
    sees(&mut bench, 200);
    assert!(incidents(&bench).iter().all(|i| i.state == IncidentState::Resolved));
    assert_eq!(told(&bench), [(root.id, NoticeKind::Opened), (root.id, NoticeKind::Resolved)]);
}

#[test]
fn what_fails_elsewhere_too_is_an_incident_of_its_own() {
    let mut bench = bench_of(shared());
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(10 * SECOND);
    dies(&mut bench);
    sees(&mut bench, 40);
    assert_eq!(of(&bench, "shop").part_of, None);
    let root = of(&bench, "machine 10.1.0.1");
    assert_eq!(of(&bench, "api").part_of, Some(root.id));
}

#[test]
fn a_machine_on_which_anything_answers_is_there() {
    let mut bench = bench_of(shared());
    dies(&mut bench);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    sees(&mut bench, 60);
    let mut scopes: Vec<String> = incidents(&bench).iter().map(|i| i.scope.to_string()).collect();
    scopes.sort();
    assert_eq!(scopes, ["api", "monitor ping", "shop"]);
    assert!(incidents(&bench).iter().all(|i| i.part_of.is_none()));
    assert_eq!(told(&bench).len(), 3);
}

#[test]
fn a_monitor_that_is_not_down_yet_hides_no_machine_that_is_gone() {
    let mut patient = shared();
    let monitor = patient.monitors.get_mut(&ping()).unwrap();
    (monitor.fail.bad, monitor.fail.of) = (20, 20);
    let mut bench = bench_of(patient);
    dies(&mut bench);
    sees(&mut bench, 40);
    let root = of(&bench, "machine 10.1.0.1");
    assert_eq!(told(&bench), [(root.id, NoticeKind::Opened)]);
    assert_eq!(of(&bench, "shop").part_of, Some(root.id));
    sees(&mut bench, 200);
    assert_eq!(of(&bench, "monitor ping").part_of, Some(root.id));
    assert_eq!(told(&bench).len(), 1, "people are told once");
}

#[test]
fn one_service_alone_on_a_machine_is_its_own_incident() {
    let mut alone = shared();
    alone.monitors.clear();
    alone.services.remove(&api());
    let mut bench = bench_of(alone);
    dies(&mut bench);
    sees(&mut bench, 30);
    let all = incidents(&bench);
    assert_eq!((all.len(), all[0].scope.to_string(), all[0].part_of), (1, "shop".to_owned(), None));
}

#[test]
fn what_still_fails_when_its_machine_is_back_goes_on_by_itself() {
    let mut bench = bench_of(shared());
    dies(&mut bench);
    sees(&mut bench, 40);
    let root = of(&bench, "machine 10.1.0.1");
    lives(&mut bench);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    sees(&mut bench, 120);
    let own = of(&bench, "shop");
    assert_eq!((own.part_of, own.state), (None, IncidentState::Open));
    assert_eq!(of(&bench, "machine 10.1.0.1").state, IncidentState::Resolved);
    assert!(told(&bench).contains(&(own.id, NoticeKind::Opened)));
    assert_ne!(own.id, root.id);
}

#[test]
fn it_is_one_incident_still_after_a_restart() {
    let mut bench = bench_of(shared());
    dies(&mut bench);
    sees(&mut bench, 40);
    let open: Vec<Incident> = incidents(&bench).iter().map(|incident| (**incident).clone()).collect();
    let root = of(&bench, "machine 10.1.0.1").id;
    let stored = serde_json::to_string(&open).unwrap();
    let incidents_of_before: Vec<Incident> = serde_json::from_str(&stored).unwrap();
    let mut next = Bench::empty(bench.policy.clone());
    next.now = bench.now + SECOND;
    dies(&mut next);
    next.tell(Input::Restored(Restored {
        incidents: incidents_of_before,
        last_incident: 9,
        ..Restored::default()
    }));
    next.tell(Input::Policy(next.policy.clone()));
    listens(&mut next);
    sees(&mut next, 60);
    for scope in ["shop", "api", "monitor ping"] {
        assert_eq!(of(&next, scope).part_of, Some(root), "{scope}");
    }
    assert_eq!(of(&next, "machine 10.1.0.1").state, IncidentState::Open);
    assert_eq!(incidents(&next).len(), 4, "none is new");
    assert_eq!(told(&next), [], "and nobody is told again");
}

#[test]
fn a_machine_is_not_gone_because_a_drill_makes_its_last_server_seem_so() {
    let mut bench = bench_of(shared());
    bench.is_bad(&api().server("app-1"), ProbeFailure::ConnectTimeout);
    bench.monitor_looks.insert(ping(), Look::Bad(ProbeFailure::ConnectTimeout));
    sees(&mut bench, 100);
    let loud = told(&bench).len();
    bench.tell(Input::Drill(DrillOrder {
        service: shop(),
        server: Some("app-1".into()),
        fault: Fault::BlackHole,
        lasts: 30 * SECOND,
        alert: false,
        stateful: false,
        by: "anna".to_owned(),
        ticket: 0,
    }));
    bench.tell(Input::Injected { drill: 1, result: Ok(()) });
    bench.is_bad(&app(1), ProbeFailure::ConnectTimeout);
    sees(&mut bench, 30);
    bench.is_good(&app(1));
    sees(&mut bench, 20);
    assert!(incidents(&bench).iter().all(|incident| !matches!(incident.scope, Scope::Address(_))));
    let drill = of(&bench, "shop");
    assert_eq!((drill.part_of, drill.drill.map(|of| of.quiet)), (None, Some(true)));
    assert_eq!(told(&bench).len(), loud, "nobody hears of it");
}
