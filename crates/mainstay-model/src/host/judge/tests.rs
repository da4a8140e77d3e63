//! What the machine's figures are judged to be.

use super::*;
use crate::effect::NoticeKind;
use crate::host::{Cpu, IoErrors, Memory, Pressure, ProcessFound, ProcessUse};
use crate::incident::{IncidentState, Severity};
use crate::input::{Input, ProbeFailure, Restored};
use crate::snapshot::Health;
use crate::testing::{Bench, Look, app, policy};

const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

fn watched() -> Bench {
    let mut policy = policy(2, true);
    policy.host = Some(HostPolicy::default());
    Bench::settled(policy)
}

fn busy(share: f64) -> HostReport {
    HostReport {
        processors: Some(4),
        cpu: Some(Cpu { user: share, ..Cpu::default() }),
        load: Some([6.25, 3.0, 1.0]),
        ..HostReport::default()
    }
}

fn disk(used: u64) -> HostReport {
    let disk = Disk {
        mount: "/var".into(),
        used: used * MIB,
        available: (1000 - used) * MIB,
        inodes: Some((10, 90)),
        own_data: true,
    };
    HostReport { disks: vec![disk], ..HostReport::default() }
}

fn memory(available: u64) -> HostReport {
    let memory =
        Memory { total: 8000 * MIB, available: available * MIB, swap_total: 100 * MIB, swap_used: 99 * MIB };
    HostReport { memory: Some(memory), ..HostReport::default() }
}

fn seconds(bench: &mut Bench, n: u64, report: &HostReport) {
    for _ in 0..n {
        bench.tell(Input::Host(report.clone()));
        bench.advance(SECOND);
    }
}

fn inspections(bench: &Bench) -> Vec<Inspection> {
    let inspection = |(_, effect): &(Mono, Effect)| match effect {
        Effect::Inspect(inspection) => Some(inspection.clone()),
        _ => None,
    };
    bench.effects.iter().filter_map(inspection).collect()
}

fn burner() -> Findings {
    let found =
        ProcessFound { name: "rustc".into(), pid: 42, server: None, processors: 3.5, memory: 700 * MIB };
    let mine =
        ProcessFound { server: Some(app(1)), processors: 0.2, pid: 7, name: "shop".into(), ..found.clone() };
    Findings::Processes { by_cpu: vec![found.clone(), mine], by_memory: vec![found] }
}

#[test]
fn a_busy_machine_is_an_incident_after_half_a_minute_with_the_processes_that_make_it_so() {
    let mut bench = watched();
    seconds(&mut bench, 10, &busy(0.2));
    seconds(&mut bench, 25, &busy(1.0));
    assert!(bench.incidents().is_empty());
    assert_eq!(inspections(&bench).first(), Some(&Inspection::Processes), "asked for on the way there");
    bench.tell(Input::Inspected(burner()));
    seconds(&mut bench, 12, &busy(1.0));
    let incident = &bench.incidents()[0];
    assert_eq!((incident.severity, &incident.scope), (Severity::Degraded, &Scope::Host(HostPart::Cpu)));
    assert!(incident.title.starts_with("this machine has no processor time left: "), "{}", incident.title);
    let diagnosis = incident.diagnosis.as_ref().unwrap();
    assert_eq!(diagnosis.cause, Cause::Overload);
    let named = "most processor time is used by rustc (pid 42) 88%, shop of shop/app-1 (pid 7) 5%";
    assert_eq!(diagnosis.evidence[0], named);
    assert!(diagnosis.evidence.iter().any(|e| e == "a load of 6.2 on 4 processors"), "{diagnosis:?}");
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
    assert!(bench.notices()[0].advice.starts_with("Look at rustc (pid 42)"));
    seconds(&mut bench, 3, &busy(0.1));
    assert_eq!(bench.incidents()[0].state, IncidentState::Open);
    seconds(&mut bench, 30, &busy(0.1));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
}

fn errors(filesystem: Option<&str>, count: u64) -> HostReport {
    let errors = IoErrors { device: "sda1".into(), filesystem: filesystem.map(str::to_owned), count };
    HostReport { io_errors: vec![errors], ..HostReport::default() }
}

/// db-1 at 198.51.100.1, where app-1 is, told of each 15 s.
fn with_db_1() -> Bench {
    let mut policy = policy(2, false);
    let machine = MachinePolicy {
        addresses: vec!["198.51.100.1".parse().unwrap()],
        interval: SECOND * 15,
        limits: HostPolicy::default(),
    };
    policy.machines = BTreeMap::from([(MachineId::new("db-1"), machine)]);
    Bench::settled(policy)
}

fn news(bench: &mut Bench, times: u32, report: &Result<HostReport, String>) {
    for _ in 0..times {
        bench.tell(Input::Machine { machine: MachineId::new("db-1"), report: report.clone() });
        bench.advance(SECOND * 15);
    }
}

#[test]
fn another_machine_is_judged_by_the_same_rules_and_called_by_its_name() {
    let mut bench = with_db_1();
    news(&mut bench, 4, &Ok(busy(1.0)));
    let incident = &bench.incidents()[0];
    let scope = Scope::Machine { machine: MachineId::new("db-1"), part: HostPart::Cpu };
    assert_eq!((&incident.scope, incident.scope.to_string().as_str()), (&scope, "db-1's processors"));
    assert!(incident.title.starts_with("db-1 has no processor time left: 100% busy"), "{}", incident.title);
    assert_eq!(incident.diagnosis.as_ref().unwrap().cause, Cause::Overload);
    assert!(inspections(&bench).is_empty(), "nobody can look into it");
    news(&mut bench, 2, &Ok(busy(1.0)));
    assert!(bench.notices()[0].advice.starts_with("On db-1: "), "{}", bench.notices()[0].advice);
    news(&mut bench, 8, &Ok(busy(0.1)));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
}

#[test]
fn a_machine_that_is_not_heard_of_is_unknown_and_no_outage() {
    let mut bench = with_db_1();
    news(&mut bench, 3, &Ok(disk(950)));
    let titles: Vec<_> = bench.incidents().iter().map(|i| i.title.clone()).collect();
    assert_eq!(titles, ["/var of db-1 is almost full: 95% used, 50 MiB left"]);
    news(&mut bench, 20, &Err("connection refused".to_owned()));
    assert_eq!((bench.incidents().len(), bench.incidents()[0].state), (1, IncidentState::Open));
    let machine = &bench.model.snapshot(bench.now).machines[0];
    assert_eq!((machine.now.is_none(), machine.trouble.as_deref()), (true, Some("connection refused")));
    news(&mut bench, 4, &Ok(disk(100)));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    assert!(bench.model.snapshot(bench.now).machines[0].now.is_some());
}

#[test]
fn what_fails_on_another_machine_carries_what_is_wrong_with_it() {
    for (address, wanted) in [("198.51.100.1:3000", Cause::Hardware), ("198.51.100.2:3000", Cause::Crash)] {
        let mut bench = with_db_1();
        bench.tell(Input::Address { server: app(1), address: Some(address.parse().unwrap()) });
        news(&mut bench, 2, &Ok(disk(999)));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECOND * 5);
        let incident = bench.incidents().iter().find(|i| i.title.contains("app-1")).cloned().unwrap();
        let found = incident.diagnosis.clone().unwrap();
        assert_eq!(found.cause, wanted, "{found:?}");
        if wanted == Cause::Hardware {
            let expected = ["the disk /var of db-1 is full", "app-1 runs on db-1 and fails"];
            assert_eq!(found.evidence, expected);
        }
    }
}

#[test]
fn a_machine_that_leaves_the_config_takes_its_incidents_along() {
    let mut bench = with_db_1();
    news(&mut bench, 3, &Ok(disk(950)));
    let mut without = bench.policy.clone();
    without.machines.clear();
    bench.tell(Input::Policy(without));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    let resolved = bench.incidents()[0].clone();
    let last = resolved.timeline.iter().rev().find(|e| e.kind == EntryKind::Resolved).unwrap();
    assert_eq!(last.text, "db-1 is no longer watched");
    news(&mut bench, 3, &Ok(disk(950)));
    assert_eq!(bench.incidents().len(), 1, "nobody watches it");
}

#[test]
fn one_new_error_of_a_file_system_is_an_incident_until_ten_minutes_passed_without() {
    let mut bench = watched();
    seconds(&mut bench, 100, &errors(Some("ext4"), 7));
    assert!(bench.incidents().is_empty(), "what was counted long ago says nothing");
    seconds(&mut bench, 2, &errors(Some("ext4"), 8));
    let incident = &bench.incidents()[0];
    assert_eq!(incident.scope, Scope::Host(HostPart::Device("sda1 (ext4)".into())));
    assert_eq!(incident.title, "the disk sda1 (ext4) of this machine reports 1 error");
    let diagnosis = incident.diagnosis.as_ref().unwrap();
    assert_eq!(
        (diagnosis.cause, &*diagnosis.evidence[0]),
        (Cause::Hardware, "sda1 (ext4): 1 error in the last 1s, 8 in all")
    );
    seconds(&mut bench, 300, &errors(Some("ext4"), 8));
    assert!(bench.notices()[0].advice.contains("smartctl -a /dev/sda1"), "{}", bench.notices()[0].advice);
    seconds(&mut bench, 400, &errors(Some("ext4"), 9));
    assert_eq!(bench.incidents()[0].state, IncidentState::Open, "there was another");
    seconds(&mut bench, 300, &errors(Some("ext4"), 9));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    let resolved = bench.incidents()[0].clone();
    let last = resolved.timeline.iter().rev().find(|e| e.kind == EntryKind::Resolved).unwrap();
    assert_eq!(last.text, "over: no new errors of this machine's disk sda1 (ext4) for 10m");
}

#[test]
fn a_disk_that_does_not_know_a_command_now_and_then_is_no_incident_and_one_that_fails_is() {
    let mut bench = watched();
    for asked in 0..5 {
        seconds(&mut bench, 700, &errors(None, 2 * asked));
    }
    assert!(bench.incidents().is_empty());
    seconds(&mut bench, 5, &errors(None, 20));
    assert_eq!(bench.incidents()[0].title, "the disk sda1 of this machine reports 12 errors");
}

#[test]
fn programs_that_wait_most_of_the_time_are_a_machine_with_nothing_left_to_give() {
    let waits = |cpu, memory, io| {
        let pressure = Pressure { cpu: Some(cpu), memory: Some(memory), io: Some(io) };
        HostReport { pressure, ..busy(0.5) }
    };
    let table = [
        (waits(0.7, 0.0, 0.0), Some("programs of this machine wait for a processor in 70% of the time")),
        (waits(0.1, 0.25, 0.0), Some("programs of this machine wait for memory in 25% of the time")),
        (waits(0.1, 0.0, 0.8), Some("programs of this machine wait for a disk in 80% of the time")),
        (waits(0.5, 0.1, 0.5), None),
    ];
    for (report, wanted) in table {
        let mut bench = watched();
        seconds(&mut bench, 10, &report);
        assert_eq!(bench.model.out.host.saturated(bench.now.mono), wanted);
        assert!(bench.incidents().is_empty());
    }
}

#[test]
fn a_busy_moment_and_a_machine_between_the_thresholds_are_no_news() {
    let mut bench = watched();
    for _ in 0..20 {
        seconds(&mut bench, 8, &busy(1.0));
        seconds(&mut bench, 8, &busy(0.5));
    }
    assert!(bench.incidents().is_empty());
    seconds(&mut bench, 45, &busy(1.0));
    seconds(&mut bench, 120, &busy(0.85));
    assert_eq!(bench.incidents().len(), 1);
    assert_eq!(bench.incidents()[0].state, IncidentState::Open, "not well again before it is below 80%");
}

#[test]
fn what_is_unknown_neither_opens_an_incident_nor_ends_one() {
    let mut bench = watched();
    seconds(&mut bench, 120, &HostReport::default());
    assert!(bench.incidents().is_empty());
    seconds(&mut bench, 40, &busy(1.0));
    assert_eq!(bench.incidents()[0].state, IncidentState::Open);
    bench.advance(SECOND * 300);
    assert_eq!(bench.incidents()[0].state, IncidentState::Open, "nothing was heard");
    assert_eq!(bench.model.snapshot(bench.now).host, None);
}

#[test]
fn an_answer_that_never_came_is_asked_for_again_but_not_each_second() {
    let mut bench = watched();
    seconds(&mut bench, 90, &busy(1.0));
    let asked = inspections(&bench).len();
    assert!((4..=10).contains(&asked), "{asked}");
    bench.tell(Input::Inspected(Findings::Disk { mount: "/nobody/asked".into(), own: vec![] }));
    bench.tell(Input::Inspected(burner()));
    bench.effects.clear();
    seconds(&mut bench, 30, &busy(1.0));
    assert!(inspections(&bench).is_empty());
}

#[test]
fn memory_that_is_nearly_gone_names_who_has_it() {
    let mut bench = watched();
    seconds(&mut bench, 20, &memory(100));
    bench.tell(Input::Inspected(burner()));
    seconds(&mut bench, 20, &memory(100));
    let incident = &bench.incidents()[0];
    assert_eq!(incident.title, "this machine is almost out of memory: 100 MiB of 7.8 GiB available (1%)");
    let evidence = &incident.diagnosis.as_ref().unwrap().evidence;
    assert_eq!(evidence[0], "most memory is used by rustc (pid 42) 700 MiB");
    assert!(evidence.iter().any(|e| e == "99 MiB of 100 MiB swap are in use"), "{evidence:?}");
}

#[test]
fn the_limit_of_the_control_group_counts_where_it_is_tighter() {
    let mut bench = watched();
    let group = Group { memory: Some((1000 * MIB, 990 * MIB)), processors: Some(2.0), throttled: Some(0.5) };
    let report = HostReport { group: Some(group), ..memory(4000) };
    seconds(&mut bench, 40, &report);
    let mut titles: Vec<String> = bench.incidents().iter().map(|i| i.title.clone()).collect();
    titles.sort();
    assert_eq!(titles.len(), 2);
    assert!(titles[0].starts_with("Mainstay and its servers want more processor time"), "{titles:?}");
    assert!(titles[1].contains("control group uses 990 MiB of the 1.0 GiB"), "{titles:?}");
}

#[test]
fn a_disk_is_an_incident_before_it_is_full_and_over_when_it_was_cleaned() {
    let mut bench = watched();
    seconds(&mut bench, 3, &disk(899));
    assert!(bench.incidents().is_empty());
    seconds(&mut bench, 1, &disk(910));
    assert_eq!(inspections(&bench), [Inspection::Disk("/var".into())]);
    bench.tell(Input::Inspected(Findings::Disk {
        mount: "/var".into(),
        own: vec![("/var/d/logs".into(), 3 * MIB)],
    }));
    seconds(&mut bench, 1, &disk(910));
    let incident = bench.incidents()[0].clone();
    assert_eq!(incident.title, "/var is almost full: 91% used, 90 MiB left");
    let diagnosis = incident.diagnosis.as_ref().unwrap();
    assert_eq!(
        (diagnosis.cause, diagnosis.evidence[0].as_str()),
        (Cause::Hardware, "of it Mainstay's own are /var/d/logs 3.0 MiB")
    );
    seconds(&mut bench, 20, &disk(885));
    assert_eq!(bench.incidents()[0].state, IncidentState::Open, "less than two points below");
    seconds(&mut bench, 12, &disk(300));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
}

#[test]
fn a_disk_that_fills_is_told_of_long_before_it_is_full() {
    let mut bench = watched();
    for used in 0..300 {
        seconds(&mut bench, 1, &disk(500 + used / 2));
    }
    let incident = &bench.incidents()[0];
    assert!(incident.title.starts_with("/var will be full in about 1"), "{}", incident.title);
    assert!(
        incident.diagnosis.as_ref().unwrap().evidence.iter().any(|e| e.contains("1.8 GiB an hour")),
        "{incident:?}"
    );
}

#[test]
fn a_disk_that_is_not_there_any_more_is_let_go_after_a_while() {
    let mut bench = watched();
    seconds(&mut bench, 2, &disk(950));
    seconds(&mut bench, 500, &busy(0.1));
    assert_eq!(bench.incidents()[0].state, IncidentState::Open);
    seconds(&mut bench, 150, &busy(0.1));
    assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
}

#[test]
fn an_incident_of_an_earlier_run_goes_on_and_is_told_once() {
    let mut before = watched();
    seconds(&mut before, 5, &disk(950));
    let incident = (*before.incidents()[0]).clone();
    let mut bench = Bench::empty(before.policy.clone());
    bench.now = before.now + SECOND * 30;
    let last_alive = Some(before.now.wall);
    bench.tell(Input::Restored(Restored {
        incidents: vec![incident],
        last_incident: 1,
        last_alive,
        ..Restored::default()
    }));
    bench.tell(Input::Policy(bench.policy.clone()));
    seconds(&mut bench, 5, &disk(950));
    assert_eq!((bench.incidents().len(), bench.notice_kinds().len()), (1, 0));
    seconds(&mut bench, 12, &disk(300));
    assert_eq!(bench.notice_kinds(), [NoticeKind::Resolved]);
    let mut unwatched = Bench::empty(crate::testing::policy(1, false));
    let incident = (*before.incidents()[0]).clone();
    unwatched.tell(Input::Restored(Restored {
        incidents: vec![incident],
        last_incident: 1,
        ..Restored::default()
    }));
    unwatched.tell(Input::Policy(unwatched.policy.clone()));
    assert_eq!(
        unwatched.incidents()[0].state,
        IncidentState::Resolved,
        "the machine is not watched any more"
    );
}

#[test]
fn a_third_of_the_time_is_enough_while_visitors_are_turned_away() {
    use crate::input::{ServiceTraffic, TrafficReport};
    let mut bench = watched();
    seconds(&mut bench, 30, &busy(0.1));
    for _ in 0..14 {
        let away = ServiceTraffic { requests: 100, shed: 50, ..ServiceTraffic::default() };
        let services = BTreeMap::from([(crate::testing::shop(), away)]);
        bench.tell(Input::Traffic(TrafficReport { services, ..TrafficReport::default() }));
        seconds(&mut bench, 1, &busy(1.0));
    }
    assert!(bench.incidents().iter().any(|i| i.scope == Scope::Host(HostPart::Cpu)));
}

#[test]
fn supervised_processes_are_watched_and_nothing_is_while_the_machine_is_not() {
    let watches = |bench: &Bench| -> Vec<usize> {
        let watch = |(_, effect): &(Mono, Effect)| match effect {
            Effect::Watch(pids) => Some(pids.len()),
            _ => None,
        };
        bench.effects.iter().filter_map(watch).collect()
    };
    let mut bench = watched();
    bench.crash(&app(1));
    bench.advance(SECOND);
    assert_eq!(watches(&bench), [1, 2]);
    bench.effects.clear();
    bench.policy.host = None;
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.crash(&app(1));
    seconds(&mut bench, 60, &busy(1.0));
    assert!(watches(&bench).is_empty() && inspections(&bench).is_empty());
    assert_eq!(bench.model.snapshot(bench.now).host, None);
}

#[test]
fn the_snapshot_shows_the_figures_while_they_are_fresh() {
    let mut bench = watched();
    let servers = BTreeMap::from([(app(1), ProcessUse { processors: 0.5, memory: 9, processes: 2 })]);
    seconds(&mut bench, 1, &HostReport { servers, ..busy(0.25) });
    let shown = bench.model.snapshot(bench.now).host.unwrap();
    assert_eq!((shown.figures.cpu.unwrap().user, shown.figures.servers.len()), (0.25, 1));
}

#[test]
fn a_probe_that_timed_out_while_mainstay_got_no_processor_time_says_nothing() {
    let mut bench = watched();
    bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
    for _ in 0..8 {
        seconds(&mut bench, 1, &HostReport { late_ms: 900, ..busy(1.0) });
    }
    assert_eq!(bench.server(&app(1)).health, Health::Healthy);
    seconds(&mut bench, 8, &busy(1.0));
    assert_eq!(bench.server(&app(1)).health, Health::Unhealthy, "now it was looked at in time");
}

#[test]
fn a_timer_that_is_called_much_too_late_counts_as_starvation_too() {
    let mut bench = Bench::settled(policy(2, false));
    bench.looks.insert(app(1), Look::Silent);
    bench.advance(SECOND);
    bench.now = bench.now + SECOND * 2;
    bench.tell(Input::Probe(crate::input::ProbeReport::new(
        app(1).into(),
        SECOND,
        Err(ProbeFailure::AnswerTimeout),
    )));
    assert_ne!(bench.server(&app(1)).health, Health::Unhealthy);
    assert!(bench.model.out.host.starved_since(Mono::default()) > SECOND);
}
