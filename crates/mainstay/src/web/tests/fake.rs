//! Snapshots and a record for tests: one of everything that can be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::cause::{Cause, Diagnosis};
use mainstay_model::change::{Change, ChangeKind};
use mainstay_model::escalation::{Escalation, NextStep, Recipient, Telling, Way};
use mainstay_model::histogram::Histogram;
use mainstay_model::host::seconds::{Second, Seconds, around};
use mainstay_model::host::{
    Cpu, Disk, Group, HostPolicy, HostReport, HostSnapshot, Io, IoErrors, MachineSnapshot, Memory, Network,
    Pressure, ProcessUse, Tcp,
};
use mainstay_model::impact::{Curve, Impact, Money};
use mainstay_model::incident::{
    EntryKind, Incident, IncidentState, Scope, Severity, TimelineEntry, VisitorsSaw,
};
use mainstay_model::input::{
    AdminState, BackupDone, BackupOutcome, BackupRecord, BackupTask, Exit, FailureKind, OwnPart,
};
use mainstay_model::monitor::{MonitorCounts, MonitorLook, MonitorSnapshot, MonitorState};
use mainstay_model::policy::Role;
use mainstay_model::publication::{PublicState, PublicUpdate, Publication};
use mainstay_model::request::{AttemptRecord, RequestRecord};
use mainstay_model::results::{Look, LookVerdict};
use mainstay_model::routing::RoutingMode;
use mainstay_model::sample::{Phases, Sample};
use mainstay_model::snapshot::{
    BackupSnapshot, DnsSays, FrontAddress, FrontSnapshot, Health, LastProbe, ProcessSnapshot, Rates,
    ServerSnapshot, ServiceSnapshot, ServiceState, Signal, StateChange, Totals, Why,
};
use mainstay_model::{
    BackupId, IncidentId, MachineId, MonitorId, ProbeTarget, ServerId, ServiceId, Snapshot, Wall,
};

use super::releases;
use crate::config::{Component, StatusConfig, Support};
use crate::store::{
    Evidence, Machine, MachineBucket, Message, MessageState, MonitorBucket, ServerBucket, ServiceBucket,
    ServiceDay, Step, StoreError, StoredAction, StoredMessage, Summary,
};
use crate::web::App;
use crate::web::past::{Answer, Past};

/// 2026-11-12 03:14:07.250 UTC
pub(in crate::web) const NOW: Wall = Wall(1_794_453_247_250);

/// A request that was saved.
pub(in crate::web) fn request() -> RequestRecord {
    let shop = ServiceId::new("shop");
    let attempt = |name: &str, after_ms, outcome: &str, verdict: &str| AttemptRecord {
        server: shop.server(name),
        after_ms,
        took_ms: 1.5,
        outcome: outcome.to_owned(),
        verdict: verdict.to_owned(),
    };
    RequestRecord {
        id: "c0ffee".to_owned(),
        service: Some(shop.clone()),
        at: NOW,
        line: "GET /cart".to_owned(),
        attempts: vec![
            attempt(
                "app-2",
                0.25,
                "the connection was refused",
                "tried again, because no byte of it had been sent",
            ),
            attempt("app-1", 1.75, "answered 200", ""),
        ],
        ending: "answered by app-1".to_owned(),
        status: Some(200),
        took_ms: 3.5,
    }
}

/// One healthy service with three servers.
pub(in crate::web) fn healthy() -> Snapshot {
    let shop = ServiceId::new("shop");
    let servers = ["app-1", "app-2", "app-3"].map(|name| server(&shop, name)).to_vec();
    Snapshot { at: NOW, services: vec![service(&shop, servers)], ..Snapshot::default() }
}

/// A shop that lost a server, an API without any, an open incident and a resolved one, and alerts in trouble.
pub(in crate::web) fn snapshot() -> Snapshot {
    let shop = ServiceId::new("shop");
    let mut servers = vec![server(&shop, "app-1"), killed(&shop), returning(&shop), server(&shop, "spare")];
    servers[3].role = Role::Backup;
    servers[3].in_rotation = false;
    servers[3].share = 0.0;
    servers[3].rates = Rates::default();
    servers[3].totals = Totals::default();
    let mut shop = service(&shop, servers);
    shop.state = ServiceState::Degraded;
    shop.front = Some(front());
    shop.releases = Some(releases::releases());
    shop.scale = Some(releases::scale());
    shop.switch = Some(releases::switch());
    shop.hosts = vec!["shop.example.com".to_owned()];
    let api = ServiceId::new("api");
    let mut only = server(&api, "one");
    only.health = Health::Unknown;
    only.admin = AdminState::Draining;
    only.address = None;
    only.last_probe = None;
    only.rates = Rates::default();
    only.why = Why::default();
    let mut api = service(&api, vec![only]);
    api.state = ServiceState::Unknown;
    api.mode = RoutingMode::Nobody;
    api.rates = Rates::default();
    Snapshot {
        changes: vec![Arc::new(change(NOW.0 - 9 * 60_000, ChangeKind::Told, "deployed v42", "ci"))],
        at: NOW,
        services: vec![api, shop],
        incidents: vec![Arc::new(open_incident()), Arc::new(resolved_incident(6))],
        machines: vec![other("db-1", Some(machine()), None), other("db-2", None, Some("connection refused"))],
        own_trouble: vec![(
            OwnPart::Alerts,
            "smtp.example.com:465 does not answer; tried 3 times".to_owned(),
        )],
        host: Some(machine()),
        host_watched: true,
        backups: vec![backup("nightly", true), backup("weekly", false)],
        monitor_counts: MonitorCounts { up: 118, degraded: 1, down: 2, ..MonitorCounts::default() },
        monitors: monitors(),
        ..Snapshot::default()
    }
}

/// More than one page of them, in groups; two are down and one is degraded.
fn monitors() -> Arc<Vec<Arc<MonitorSnapshot>>> {
    let one = |n: i64| {
        let (state, because) = match n {
            7 | 50 => {
                (MonitorState::Down, "3 of the last 5 probes failed (fail = 3 of 5): connection refused")
            }
            8 => (MonitorState::Degraded, "its certificate ends in 5 days"),
            _ => (MonitorState::Up, "its last probe was good"),
        };
        let good = state != MonitorState::Down;
        let look = |i: i64| MonitorLook {
            at: Wall(NOW.0 - i * 60_000),
            good: good || i > 3,
            took_ms: 20.0 + i as f64,
            text: if good || i > 3 { "200".into() } else { "connection refused".into() },
        };
        MonitorSnapshot {
            id: MonitorId::new(format!("check-{n:03}")),
            target: format!("https://check-{n:03}.example.com/health").into(),
            probe: "GET /health".to_owned(),
            group: [Some("suppliers".into()), Some("own <b>sites</b>".into()), None][n as usize % 3].clone(),
            tags: if n % 2 == 0 { vec!["payments".into()] } else { Vec::new() },
            state,
            since: Wall(NOW.0 - 7_200_000),
            because: because.to_owned(),
            maintenance: None,
            last: Some(LastProbe {
                at: NOW,
                good,
                text: if good { "200 in 21 ms" } else { "connection refused" }.to_owned(),
                took_ms: 21.0,
                phases: Phases::default(),
            }),
            not_probed: None,
            interval_ms: 60_000,
            timeout_ms: 10_000,
            fail: "3 of 5".to_owned(),
            recover: 2,
            good: 100,
            failed: 3,
            incident: (!good).then_some(IncidentId(8)),
            needs: Vec::new(),
            heartbeat: None,
            recent: (0..40).rev().map(look).collect(),
        }
    };
    Arc::new((0..121).map(|n| Arc::new(one(n))).collect())
}

/// A machine that has little disk left.
fn machine() -> HostSnapshot {
    const GIB: u64 = 1 << 30;
    let disk = |mount: &str, used, available| Disk {
        mount: mount.to_owned(),
        used,
        available,
        inodes: Some((40_000, 900_000)),
        own_data: mount != "/",
    };
    let servers = [("app-1", 0.31), ("app-3", 0.42)].map(|(name, processors)| {
        let used = ProcessUse { processors, memory: 212 << 20, processes: 3 };
        (ServiceId::new("shop").server(name), used)
    });
    let figures = HostReport {
        late_ms: 0,
        processors: Some(4),
        cpu: Some(Cpu { user: 0.31, system: 0.08, iowait: 0.02, steal: 0.0 }),
        load: Some([1.42, 1.2, 0.9]),
        memory: Some(Memory {
            total: 16 * GIB,
            available: 6 * GIB,
            swap_total: 2 * GIB,
            swap_used: 100 << 20,
        }),
        pressure: Pressure { cpu: Some(0.06), memory: Some(0.0), io: None },
        disks: vec![disk("/", 60 * GIB, 40 * GIB), disk("/var/lib/mainstay", 93 * GIB, 7 * GIB)],
        io: Some(Io { read: 12_000.0, written: 2.4e6, busy: 0.11 }),
        network: Some(Network { received: 8.1e6, sent: 21.4e6, errors_total: 3, ..Network::default() }),
        tcp: Some(Tcp { sent: 9_950.0, retransmitted: 50.0, sent_total: 81_000, retransmitted_total: 410 }),
        io_errors: vec![
            IoErrors { device: "sda".to_owned(), filesystem: None, count: 0 },
            IoErrors { device: "sda1".to_owned(), filesystem: Some("ext4".to_owned()), count: 2 },
        ],
        group: Some(Group { memory: Some((4 * GIB, GIB)), processors: Some(2.0), throttled: Some(0.0) }),
        oom_kills: Some(0),
        servers: servers.into(),
    };
    HostSnapshot { at: Wall(NOW.0 - 300), figures, policy: HostPolicy::default() }
}

/// Another machine.
fn other(name: &str, now: Option<HostSnapshot>, trouble: Option<&str>) -> MachineSnapshot {
    let addresses = vec!["10.0.0.5".parse().unwrap()];
    MachineSnapshot { id: MachineId::new(name), addresses, now, trouble: trouble.map(str::to_owned) }
}

/// A front address here and a dead one elsewhere, which DNS still answers.
fn front() -> FrontSnapshot {
    let address = |text: &str, own, good, last: &str| FrontAddress {
        address: text.parse().unwrap(),
        own,
        good,
        since: Wall(NOW.0 - 12_000),
        last: last.to_owned(),
    };
    FrontSnapshot {
        addresses: vec![
            address("192.0.2.10:80", true, true, "the service answers"),
            address("198.51.100.10:80", false, false, "connection refused"),
        ],
        live: true,
        answers: vec!["192.0.2.10".parse().unwrap()],
        trouble: true,
        names: vec!["shop.example.com".to_owned()],
        dns: vec![DnsSays {
            name: "shop.example.com".to_owned(),
            from: "192.0.2.53".to_owned(),
            at: Wall(NOW.0 - 3_000),
            text: "192.0.2.10, 198.51.100.10, TTL 42".to_owned(),
            stale: true,
        }],
    }
}

/// A backup that was made and tried out, or that fails.
fn backup(name: &str, good: bool) -> BackupSnapshot {
    let id = BackupId::new(name);
    let record = |task, good: bool| {
        let done = BackupDone {
            snapshot: "1a2b3c4d".into(),
            data_at: NOW,
            files: 1204,
            bytes: 812_000_000,
            note: "restored in 3.1 s; 1201 of 1204 files compared with those in use, 1 database opens".into(),
        };
        let result = if good { Ok(done) } else { Err("the disk <is> full".to_owned()) };
        let took = std::time::Duration::from_millis(12_500);
        let outcome = BackupOutcome { backup: id.clone(), task, took, result };
        BackupRecord { began_at: Wall(NOW.0 - 7_200_000), ended_at: Wall(NOW.0 - 7_187_500), outcome }
    };
    BackupSnapshot {
        id: id.clone(),
        running: (!good).then_some((BackupTask::Run, Wall(NOW.0 - 5000))),
        last_run: Some(record(BackupTask::Run, good)),
        last_good_run: good.then(|| record(BackupTask::Run, true)),
        last_verify: good.then(|| record(BackupTask::Verify, true)),
        next_run_at: Wall(NOW.0 + 3_600_000),
        next_verify_at: good.then_some(Wall(NOW.0 + 86_400_000)),
        trouble: (!good).then(|| "fails: the disk <is> full".to_owned()),
    }
}

/// A healthy service of these servers.
pub(in crate::web) fn service(id: &ServiceId, servers: Vec<ServerSnapshot>) -> ServiceSnapshot {
    ServiceSnapshot {
        id: id.clone(),
        hosts: Vec::new(),
        tcp: false,
        state: ServiceState::Healthy,
        felt: ServiceState::Healthy,
        maintenance: None,
        mode: RoutingMode::Normal,
        rates: Rates { per_second: 498.2, error_share: Some(0.0), p50_ms: Some(4.2), p99_ms: Some(48.0) },
        totals: Totals { requests: 1_234_567, server_errors: 3, saved: 12, ..Totals::default() },
        in_flight: 12,
        queued: 0,
        releases: None,
        scale: None,
        substitutes: Vec::new(),
        switch: None,
        lead: None,
        limits: None,
        servers,
        needs: Vec::new(),
        door: None,
        front: None,
    }
}

/// A healthy server.
pub(in crate::web) fn server(service: &ServiceId, name: &str) -> ServerSnapshot {
    ServerSnapshot {
        id: service.server(name),
        address: Some("10.0.0.11:3000".parse().unwrap()),
        role: Role::Primary,
        health: Health::Healthy,
        health_since: Wall(NOW.0 - 7_200_000),
        admin: AdminState::Ready,
        maintenance: None,
        drain: None,
        in_rotation: true,
        share: 1.0,
        rates: Rates { per_second: 166.1, error_share: Some(0.0), p50_ms: Some(4.1), p99_ms: Some(48.0) },
        totals: Totals { requests: 411_522, server_errors: 1, ..Totals::default() },
        in_flight: 3,
        tcp: false,
        tunnels: 0,
        circuit: Default::default(),
        last_probe: Some(LastProbe {
            at: Wall(NOW.0 - 400),
            good: true,
            text: "200 in 2 ms".to_owned(),
            took_ms: 2.1,
            phases: Phases::default(),
        }),
        release: None,
        note: None,
        data: None,
        process: None,
        why: Why {
            rule: "2 good probes in a row (rise = 2)".to_owned(),
            would_change: "2 failed probes in a row (fall = 2), or 5 failed attempts in a row".to_owned(),
            signals: vec![
                Signal {
                    name: "probes failed in a row".to_owned(),
                    value: "0".to_owned(),
                    threshold: "fall = 2".to_owned(),
                    bad: false,
                },
                Signal {
                    name: "share of failed attempts".to_owned(),
                    value: "0 % of 1661".to_owned(),
                    threshold: "failure-share = 20 %".to_owned(),
                    bad: false,
                },
            ],
            changes: vec![StateChange {
                at: Wall(NOW.0 - 7_200_000),
                text: "healthy: 2 good probes".to_owned(),
            }],
        },
    }
}

fn killed(service: &ServiceId) -> ServerSnapshot {
    let mut server = server(service, "app-2");
    server.health = Health::Unhealthy;
    server.health_since = Wall(NOW.0 - 12_300);
    server.in_rotation = false;
    server.share = 0.0;
    server.rates = Rates { per_second: 1.2, error_share: Some(1.0), p50_ms: None, p99_ms: None };
    server.totals = Totals { requests: 411_520, failed: 12, server_errors: 2, ..Totals::default() };
    server.in_flight = 0;
    server.last_probe = Some(LastProbe {
        at: Wall(NOW.0 - 90),
        good: false,
        text: "connection refused".to_owned(),
        took_ms: 0.2,
        phases: Phases::default(),
    });
    server.process = Some(ProcessSnapshot {
        pid: None,
        since: Wall(NOW.0 - 12_300),
        last_exit: Some(Exit::Signal(9)),
        restarts_in_window: 2,
        restart_budget: 5,
        next_restart_at: Some(Wall(NOW.0 + 4_000)),
    });
    server.why = Why {
        rule: "its process was killed by SIGKILL".to_owned(),
        would_change: "a restart, then 2 good probes in a row (rise = 2)".to_owned(),
        signals: vec![
            Signal {
                name: "probes failed in a row".to_owned(),
                value: "7".to_owned(),
                threshold: "fall = 2".to_owned(),
                bad: true,
            },
            Signal {
                name: "failed attempts in a row".to_owned(),
                value: "12".to_owned(),
                threshold: "consecutive-failures = 5".to_owned(),
                bad: true,
            },
            Signal {
                name: "share of failed attempts".to_owned(),
                value: "7 % of 171".to_owned(),
                threshold: "failure-share = 20 %".to_owned(),
                bad: false,
            },
        ],
        changes: vec![
            StateChange {
                at: Wall(NOW.0 - 12_290),
                text: "out of rotation: its process was killed by SIGKILL".to_owned(),
            },
            StateChange { at: Wall(NOW.0 - 7_200_000), text: "healthy: 2 good probes".to_owned() },
        ],
    };
    server
}

fn returning(service: &ServiceId) -> ServerSnapshot {
    let mut server = server(service, "app-3");
    server.health = Health::Degraded;
    server.health_since = Wall(NOW.0 - 4_100);
    server.share = 0.4;
    server.rates =
        Rates { per_second: 66.0, error_share: Some(0.004), p50_ms: Some(6.4), p99_ms: Some(312.0) };
    server.process = Some(ProcessSnapshot {
        pid: Some(4711),
        since: Wall(NOW.0 - 9_000),
        last_exit: None,
        restarts_in_window: 5,
        restart_budget: 5,
        next_restart_at: None,
    });
    server.why.rule = "its answers take 3 times as long as its fellows'".to_owned();
    server
}

/// Incident 7, which still lasts.
pub(in crate::web) fn open_incident() -> Incident {
    let began = NOW.0 - 12_300;
    let shop = ServiceId::new("shop");
    let entry = |ms: i64, kind, text: &str| TimelineEntry {
        at: Wall(began + ms),
        kind,
        server: Some(shop.server("app-2")),
        action: None,
        text: text.to_owned(),
        times: 1,
        sample: None,
    };
    let mut timeline = vec![
        entry(0, EntryKind::TrafficFailed, "an attempt was reset; it was tried again on app-1"),
        entry(3, EntryKind::ProcessExited, "was killed by SIGKILL"),
        entry(4, EntryKind::Ejected, "out of rotation: its process is gone"),
        entry(4, EntryKind::Opened, "incident opened"),
        entry(5, EntryKind::ActionBegun, "restart begun"),
        entry(61, EntryKind::Notified, "mail sent to ops@example.com"),
        entry(212, EntryKind::ProbeFailed, "connection refused"),
        entry(4_050, EntryKind::AdminChanged, "somebody looked at it"),
        entry(5_120, EntryKind::Own, "the record was slow for 2 s"),
    ];
    timeline[6].times = 7;
    timeline[6].sample = Some(Arc::new(Sample {
        asked: "GET /health".to_owned(),
        status: Some(503),
        headers: "content-type: text/html\nset-cookie: (not kept)\n".to_owned(),
        body: "<h1>no database</h1>".to_owned(),
        cut: true,
        phases: Phases { connected: Some(Duration::from_millis(2)), ..Phases::default() },
    }));
    Incident {
        id: IncidentId(7),
        scope: Scope::Service(shop.clone()),
        title: "app-2 of shop was killed by SIGKILL".to_owned(),
        state: IncidentState::Open,
        severity: Severity::Degraded,
        servers: vec![shop.server("app-2")],
        began_at: Wall(began),
        opened_at: Wall(began + 4),
        diverted_at: Some(Wall(began + 4)),
        recovered_at: None,
        resolved_at: None,
        acknowledged: None,
        seen: VisitorsSaw {
            requests: 6_180,
            failed: 0,
            server_errors: 0,
            saved: 12,
            ..VisitorsSaw::default()
        },
        timeline,
        acted_at: Some(Wall(began + 5)),
        impact: Impact::default(),
        curve: curve(13, 0),
        escalation: escalation(began),
        diagnosis: Some(Diagnosis::sure(
            Cause::Crash,
            vec!["app-2's process was killed by SIGKILL".to_owned()],
        )),
        changes: vec![
            change(began - 8 * 60_000, ChangeKind::Told, "deployed v42", "ci"),
            change(began - 41 * 60_000, ChangeKind::Config, "its config changed: health", "a reload"),
        ],
        part_of: None,
        affected: Vec::new(),
        affected_left_out: 0,
        drill: None,
        timeline_left_out: 3,
    }
}

pub(in crate::web) fn change(at: i64, kind: ChangeKind, what: &str, by: &str) -> Change {
    let service = Some(ServiceId::new("shop"));
    Change { at: Wall(at), kind, service, what: what.to_owned(), by: by.to_owned() }
}

/// An incident that is over.
pub(in crate::web) fn resolved_incident(id: u64) -> Incident {
    let mut incident = open_incident();
    incident.id = IncidentId(id);
    incident.title = "app-1 of shop did not answer".to_owned();
    incident.state = IncidentState::Resolved;
    incident.severity = Severity::Partial;
    for at in [&mut incident.began_at, &mut incident.opened_at] {
        at.0 -= 86_400_000;
    }
    for entry in &mut incident.timeline {
        entry.at.0 -= 86_400_000;
    }
    incident.diverted_at = Some(Wall(incident.began_at.0 + 1_210));
    incident.recovered_at = Some(Wall(incident.began_at.0 + 184_000));
    incident.resolved_at = Some(Wall(incident.began_at.0 + 194_000));
    incident.acknowledged = Some(("Ada".to_owned(), Wall(incident.began_at.0 + 60_000)));
    incident.escalation.next = None;
    // It came back by itself.
    incident.acted_at = None;
    incident.seen = VisitorsSaw {
        connections: false,
        requests: 92_180,
        failed: 14,
        server_errors: 3,
        saved: 61,
        slow: 402,
        shed: 9,
        limited: 5,
    };
    incident.curve = curve(195, 2);
    incident.impact = Impact {
        visitors: 21,
        visitors_exact: true,
        hurt_seconds: 8,
        down_seconds: 2,
        lost_ms: 3_120,
        missing: 410,
        money: Some(Money {
            amount: 1.04,
            currency: "EUR".to_owned(),
            per_hour: 1200.0,
            how: "26 of 92,180 requests were hurt during 8.0 s; each second by its share, that is 3.1 s of 1,200 EUR an \
                  hour: about 1.04 EUR"
                .to_owned(),
        }),
    };
    let causes = vec!["app-1 answered 3 of 14 probes".to_owned()];
    incident.diagnosis = Some(Diagnosis::sure(Cause::Overload, causes));
    incident
}

/// So many seconds of visitors, with a gap and some harm.
fn curve(seconds: usize, failed: u64) -> Curve {
    let point = |i: usize| VisitorsSaw {
        requests: 450 + (i as u64 * 37) % 90,
        failed: if (4..11).contains(&i) { failed } else { 0 },
        saved: u64::from(i < 4) * 3,
        slow: u64::from(i > 60 && i < 90) * 14,
        ..VisitorsSaw::default()
    };
    let points = (0..seconds).map(|i| (!(30..36).contains(&i)).then(|| point(i)));
    Curve { step_ms: 1000, points: points.collect() }
}

/// Ops by mail at once, Ada by SMS after five minutes; Bob is next.
fn escalation(began: i64) -> Escalation {
    let telling = |to, after_ms, at| Telling { to, after_ms, at: Wall(began + at) };
    Escalation {
        since: Some(Wall(began + 504)),
        told: vec![telling(ops(), 0, 504), telling(ada(), 300_000, 300_504)],
        next: Some(NextStep { at: Wall(NOW.0 + 540_000), to: vec![bob()] }),
    }
}

fn person(way: Way, address: &str, name: &str) -> Recipient {
    Recipient { way, address: address.to_owned(), name: name.to_owned() }
}

pub(in crate::web) fn ops() -> Recipient {
    person(Way::Email, "ops@example.com", "ops@example.com")
}

pub(in crate::web) fn ada() -> Recipient {
    person(Way::Sms, "+491701234567", "Ada <b>")
}

fn bob() -> Recipient {
    person(Way::Email, "bob@example.com", "Bob")
}

/// One of each outcome.
fn messages() -> Vec<Message> {
    let message = |to, kind, state, error: Option<&str>| Message {
        to,
        kind,
        at: Wall(NOW.0 - 60_000),
        state,
        changed_at: (state != MessageState::Waiting).then_some(Wall(NOW.0 - 59_000)),
        attempts: u32::from(state != MessageState::Waiting) * 3,
        error: error.map(str::to_owned),
    };
    let refused =
        "api.twilio.com: the provider answered 400 Bad Request: error 21211: <script>alert(1)</script>";
    use mainstay_model::effect::NoticeKind::{Escalated, NeedsPerson, Opened, Worsened};
    vec![
        message(Some(ops()), Opened, MessageState::Accepted, None),
        message(None, Opened, MessageState::Trying, Some("hooks.example.com: 500")),
        message(Some(ada()), Escalated, MessageState::Delivered, None),
        message(Some(ada()), Worsened, MessageState::Failed, Some(refused)),
        message(
            Some(ada()),
            NeedsPerson,
            MessageState::HeldBack,
            Some("held back: more than 10 text messages in an hour"),
        ),
        message(Some(ops()), NeedsPerson, MessageState::Waiting, None),
    ]
}

/// Fills the small charts with ups and downs.
pub(in crate::web) fn pass_ten_minutes(app: &App) {
    for i in 0..60u32 {
        let mut then = Snapshot::clone(&app.snapshot());
        let services = then.services.iter_mut();
        for service in services {
            let servers = service.servers.iter_mut().map(|server| &mut server.rates);
            for rates in servers.chain([&mut service.rates]) {
                rates.per_second *= 1.0 + f64::from(i * 7 % 13) / 20.0;
                rates.error_share = rates.error_share.filter(|_| i > 54);
            }
        }
        app.recent.sample(&then);
    }
}

/// A record that holds incidents 1 to 6, and 30 days of minutes and hours with a gap.
#[derive(Debug, Default)]
pub(in crate::web) struct FakePast {
    /// It cannot be read.
    pub(in crate::web) broken: bool,
}

impl FakePast {
    fn answer<T: Send + 'static>(&self, value: T) -> Answer<'_, T> {
        let broken = self.broken;
        Box::pin(async move { if broken { Err(StoreError::Overloaded) } else { Ok(value) } })
    }
}

/// Buckets of an hour ago are missing for ten minutes (or one bucket), as after a restart of Mainstay.
fn starts(step: Step, from: Wall, to: Wall) -> (u64, Vec<Wall>) {
    let width = match step {
        Step::Minute => 60_000,
        Step::Hour => 3_600_000,
    };
    let gap = NOW.0 - 2_000_000..NOW.0 - 1_400_000;
    let first = from.0.div_euclid(width) * width;
    let starts = (0..).map(|i| first + i * width).take_while(|&start| start < to.0 && start <= NOW.0);
    (width as u64, starts.filter(|start| !gap.contains(start)).map(Wall).collect())
}

/// Busy from a few seconds before it began until it was over; for ten seconds nothing was read.
fn machine_around(incident: &Incident) -> Seconds {
    let spans = around(incident.opened_at, incident.resolved_at);
    let seconds = spans.into_iter().flat_map(|(from, to)| (from.0..=to.0.min(NOW.0)).step_by(1000));
    let second = |at: i64| {
        let noise = (at / 1000).wrapping_mul(2_654_435_761) as u64 % 1000;
        let noise = noise as f64 / 1000.0;
        let busy = at > incident.began_at.0 - 5_000 && incident.recovered_at.is_none_or(|over| at < over.0);
        let load = if busy { 0.7 + noise * 0.3 } else { 0.1 + noise * 0.1 };
        let report = HostReport {
            cpu: Some(Cpu {
                user: load * 0.8,
                system: load * 0.15,
                iowait: 0.03 * noise,
                steal: 0.05 * load,
            }),
            memory: Some(Memory {
                total: 8 << 30,
                available: ((1.0 - load / 2.0) * f64::from(1u32 << 31)) as u64 * 4,
                swap_total: 1 << 30,
                swap_used: 1 << 27,
            }),
            io: Some(Io { read: 1e5 * noise, written: 2e6 * load, busy: load / 3.0 }),
            network: Some(Network { received: 4e6 * load, sent: 3e7 * load * noise, ..Network::default() }),
            pressure: Pressure { cpu: Some(load / 2.0), memory: Some(0.01), io: Some(noise / 10.0) },
            ..HostReport::default()
        };
        Second::of(Wall(at), &report)
    };
    let gap = incident.opened_at.0 + 20_000..incident.opened_at.0 + 30_000;
    Seconds(seconds.filter(|at| !gap.contains(at)).map(second).collect())
}

/// Repeatable ups and downs.
fn wave(at: Wall) -> u64 {
    let day = (at.0 % 86_400_000) as f64 / 86_400_000.0 * std::f64::consts::TAU;
    let noise = (at.0 / 60_000).wrapping_mul(2_654_435_761) as u64 % 400;
    (6_000.0 - 2_500.0 * day.cos()) as u64 + noise
}

fn latency_at(at: Wall, bad: bool) -> Histogram {
    let mut latency = Histogram::new();
    for i in 0..200u64 {
        let slow = if bad && i > 150 { 300 } else { 1 };
        latency.record(Duration::from_micros((2_000 + wave(at) / 4 + i * i / 2) * slow.min(1 + i / 3)));
    }
    latency
}

impl Past for FakePast {
    fn incidents(&self, before: Option<IncidentId>, most: usize) -> Answer<'_, Vec<Incident>> {
        let below = before.map_or(7, |before| before.0.min(7));
        let mut incidents: Vec<_> = (1..below).rev().map(resolved_incident).take(most).collect();
        incidents.iter_mut().for_each(|incident| incident.timeline.clear());
        self.answer(incidents)
    }

    fn incident(&self, id: IncidentId) -> Answer<'_, Option<Incident>> {
        self.answer((1..7).contains(&id.0).then(|| resolved_incident(id.0)))
    }

    fn messages(&self, _: IncidentId) -> Answer<'_, Vec<Message>> {
        self.answer(messages())
    }

    fn evidence<'a>(&'a self, incident: &'a Incident) -> Answer<'a, Evidence> {
        let began = NOW.0 - 86_412_300;
        let action = StoredAction {
            id: 3,
            server: "shop/app-1".to_owned(),
            kind: "restart".to_owned(),
            reason: "it did not answer | <b>3</b> probes".to_owned(),
            begun_at: Wall(began + 1_215),
            ended_at: Some(Wall(began + 1_290)),
            error: None,
            helped: None,
        };
        let message = StoredMessage {
            channel: "email".to_owned(),
            kind: "opened".to_owned(),
            queued_at: Wall(began + 1_700),
            tried_at: Some(Wall(began + 1_790)),
            attempts: 1,
            error: None,
            done: true,
        };
        let machine = machine_around(incident);
        self.answer(Evidence { actions: vec![action], messages: vec![message], machine })
    }

    fn machine_around<'a>(&'a self, incident: &'a Incident) -> Answer<'a, Seconds> {
        self.answer(machine_around(incident))
    }

    fn server_history<'a>(
        &'a self,
        server: &'a ServerId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<ServerBucket>> {
        let (width, starts) = starts(step, from, to);
        let observed = move |start: Wall| width.min((NOW.0 - start.0) as u64);
        let scale = move |start: Wall, n: u64| n * observed(start) / 60_000;
        let buckets = starts.into_iter().map(|start| {
            let bad = (start.0 / 60_000) % 17 == 3;
            ServerBucket {
                server: server.clone(),
                start,
                observed_ms: observed(start),
                ok: scale(start, wave(start)),
                client_errors: scale(start, wave(start) / 40),
                server_errors: if bad { scale(start, 240) } else { 0 },
                failures: if bad { BTreeMap::from([(FailureKind::Reset, 9)]) } else { BTreeMap::new() },
                latency: latency_at(start, bad),
                probes_good: scale(start, 57),
                probes_failed: u64::from(bad) * 3,
                probe_latency: latency_at(start, false),
            }
        });
        self.answer(buckets.collect())
    }

    fn last_results<'a>(&'a self, _: &'a ServerId, before: Wall, most: usize) -> Answer<'a, Vec<Look>> {
        let look = |n: usize| {
            let (verdict, words) = match n {
                3 => (LookVerdict::Failed, "answered 503, not 200"),
                7 => (LookVerdict::Unknown, "no file descriptors"),
                _ => (LookVerdict::Good, "200"),
            };
            let at = Wall(before.0.min(NOW.0) - n as i64 * 1_000);
            Look { at, took: Duration::from_micros(1_700), verdict, words: words.into() }
        };
        self.answer((0..most).map(look).collect())
    }

    fn results<'a>(&'a self, _: &'a ProbeTarget, from: Wall, to: Wall, most: usize) -> Answer<'a, Vec<Look>> {
        let look = |n: usize| {
            let (verdict, words) = match n % 23 {
                5 => (LookVerdict::Failed, "connection refused"),
                _ => (LookVerdict::Good, "200"),
            };
            let at = Wall(from.0 + n as i64 * 10_000);
            Look { at, took: Duration::from_millis(3), verdict, words: words.into() }
        };
        self.answer((0..most).map(look).take_while(|look| look.at < to).collect())
    }

    fn monitor_history<'a>(
        &'a self,
        monitor: &'a MonitorId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<MonitorBucket>> {
        let (width, starts) = starts(step, from, to);
        let bucket = |start: Wall| {
            let bad = (start.0 / 60_000) % 23 == 5;
            let observed_ms = width.min((NOW.0 - start.0) as u64);
            MonitorBucket {
                monitor: monitor.clone(),
                start,
                observed_ms,
                good: if bad { 1 } else { 6 },
                failed: if bad { 5 } else { 0 },
                down_ms: if bad { observed_ms / 2 } else { 0 },
                excused_ms: 0,
                latency: latency_at(start, bad),
            }
        };
        self.answer(starts.into_iter().map(bucket).collect())
    }

    fn machine_history(&self, step: Step, from: Wall, to: Wall) -> Answer<'_, Vec<MachineBucket>> {
        let (width, starts) = starts(step, from, to);
        let bucket = |start: Wall| {
            let share = (wave(start) as f64 - 3_000.0) / 8_000.0;
            let figure = |mean: f64| Summary { samples: width / 1000, mean, max: mean * 1.3 };
            let figures = [
                ("cpu", share),
                ("cpu-user", share * 0.7),
                ("cpu-system", share * 0.3),
                ("cpu-iowait", 0.02),
                ("cpu-steal", 0.01),
                ("load", share * 4.0),
                ("memory", 0.4 + share / 4.0),
                ("swap", 0.05),
                ("pressure-cpu", share / 3.0),
                ("io-read", share * 1e6),
                ("io-written", share * 4e6),
                ("network-received", share * 2e7),
                ("network-sent", share * 5e7),
                ("disk:/", 0.6),
                ("disk:/var/lib/mainstay", 0.93),
            ];
            MachineBucket {
                machine: Machine::this(),
                start,
                observed_ms: width.min((NOW.0 - start.0) as u64),
                figures: figures.map(|(name, mean)| (name.to_owned(), figure(mean))).into(),
            }
        };
        self.answer(starts.into_iter().map(bucket).collect())
    }

    fn service_history<'a>(
        &'a self,
        service: &'a ServiceId,
        step: Step,
        from: Wall,
        to: Wall,
    ) -> Answer<'a, Vec<ServiceBucket>> {
        let (width, starts) = starts(step, from, to);
        let observed = move |start: Wall| width.min((NOW.0 - start.0) as u64);
        let scale = move |start: Wall, n: u64| n * observed(start) / 60_000;
        let buckets = starts.into_iter().map(|start| {
            let bad = (start.0 / 60_000) % 23 == 4;
            ServiceBucket {
                service: service.clone(),
                start,
                observed_ms: observed(start),
                requests: scale(start, wave(start) * 3),
                failed: u64::from(bad) * 5,
                server_errors: u64::from(bad) * 180,
                saved: u64::from(bad) * 400,
                slow: u64::from(bad) * 70,
                shed: u64::from(bad) * 90,
                limited: 0,
                down_ms: 0,
                excused_ms: 0,
                excused_requests: 0,
                excused_bad: 0,
                latency: latency_at(start, bad),
            }
        });
        self.answer(buckets.collect())
    }

    fn public_incidents(&self, since: Wall, most: usize) -> Answer<'_, Vec<(Incident, Option<Publication>)>> {
        let incidents = (1..=6).rev().map(resolved_incident).filter(|incident| incident.began_at >= since);
        self.answer(incidents.map(|incident| (incident, None)).take(most).collect())
    }

    fn publication(&self, id: IncidentId) -> Answer<'_, Option<Publication>> {
        self.answer((id.0 == 5).then(|| told("The lamps are back.")))
    }

    fn service_days<'a>(&'a self, _: &'a ServiceId, midnights: &'a [Wall]) -> Answer<'a, Vec<ServiceDay>> {
        let lasts = |pair: &[Wall]| pair[1].min(NOW).ms_since(pair[0]).unsigned_abs();
        let days = (0..90).rev().zip(midnights.windows(2)).filter(|(ago, _)| !(20..27).contains(ago));
        let days = days.map(|(ago, pair)| ServiceDay {
            start: pair[0],
            observed_ms: lasts(pair),
            requests: 100_000,
            failed: if ago == 9 { 900 } else { 0 },
            server_errors: if ago == 41 { 12_000 } else { 0 },
            shed: if ago == 60 { 4_000 } else { 0 },
            down_ms: if ago == 3 { 9_000_000 } else { 0 },
            excused_ms: if ago == 12 { 7_200_000 } else { 0 },
            excused_requests: 0,
            excused_bad: 0,
        });
        self.answer(days.collect())
    }
}

/// What a person told of an incident.
pub(in crate::web) fn told(text: &str) -> Publication {
    let update = PublicUpdate {
        at: Wall(NOW.0 - 6_000),
        state: PublicState::Identified,
        text: text.to_owned(),
        by: "Ada".to_owned(),
    };
    Publication { title: None, shown: Some(true), updates: vec![update] }
}

/// A status page of the shop and the API.
pub(in crate::web) fn status_config() -> StatusConfig {
    let component = |id: &str, name: &str, about: Option<&str>| Component {
        id: id.to_owned(),
        name: name.to_owned(),
        about: about.map(str::to_owned),
        services: vec![ServiceId::new(id)],
    };
    StatusConfig {
        host: None,
        path: Some("/status".to_owned()),
        path_hosts: vec!["*".to_owned()],
        listen: None,
        url: Some("https://status.example.com/".to_owned()),
        title: "Lamps & Co".to_owned(),
        zone: jiff::tz::TimeZone::UTC,
        support: Some(Support {
            text: "Write to us".to_owned(),
            link: Some("mailto:help@example.com".to_owned()),
        }),
        folder: None,
        components: vec![
            component("shop", "Shop", Some("Where lamps are bought")),
            component("api", "API", None),
        ],
    }
}
