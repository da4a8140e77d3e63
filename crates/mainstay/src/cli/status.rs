//! `mainstay status`: how the services and servers are, for a person or for a program.

use clap::Args;
use mainstay_model::chain;
use mainstay_model::escalation::Recipient;
use mainstay_model::host::MachineSnapshot;
use mainstay_model::impact::Impact;
use mainstay_model::incident::{Incident, IncidentState, Severity};
use mainstay_model::monitor::{MonitorCounts, MonitorSnapshot, MonitorState};
use mainstay_model::policy::Role;
use mainstay_model::routing::RoutingMode;
use mainstay_model::snapshot::{FrontSnapshot, ServerSnapshot, ServiceSnapshot, ServiceState};
use mainstay_model::substitute::{Stage, Substitute};
use mainstay_model::{Snapshot, Wall};

use super::ask::AskArgs;
use super::paint::{
    Cell, Paint, Tone, between, clean, counted, incident_tone, milliseconds, moment, per_second,
    server_state, service_state, share, table,
};
use crate::exit_code::Exit;

/// Options of `mainstay status`.
#[derive(Debug, Args)]
#[command(after_help = "\
● healthy  ◐ degraded  ○ down or unhealthy  ◌ unknown  ◇ in maintenance. Rates are of the last ten seconds.

Examples:
  mainstay status
  mainstay status --json | jq '.services[].state'
  mainstay status --check > /dev/null || echo 'look at it'
  MAINSTAY_TOKEN=… mainstay status --admin http://10.0.0.5:9900

Exit status: 0 it answered, 1 it did not; with --check also 1 unless every service is healthy or in maintenance,
no open incident hurts visitors, and no part of Mainstay is in trouble.")]
pub struct StatusArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Print for a program: the API's /api/v1/status
    #[arg(long)]
    json: bool,
    /// Exit with 1 unless all is well
    #[arg(long)]
    check: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked.
pub fn run(args: StatusArgs) -> anyhow::Result<Exit> {
    let snapshot = args.ask.snapshot()?;
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&snapshot)?),
        false => {
            let mut text = render(&snapshot, &args.ask.origin()?, Paint::for_stdout());
            if snapshot.monitor_counts.total() > 0 {
                let unwell = unwell_monitors(&args.ask, &snapshot.monitor_counts)?;
                text.push_str(&monitor_lines(&snapshot, &unwell, Paint::for_stdout()));
            }
            text
        }
    };
    super::print(&text)?;
    Ok(if args.check && !all_is_well(&snapshot) { Exit::Failed } else { Exit::Ok })
}

fn all_is_well(snapshot: &Snapshot) -> bool {
    let expected = [ServiceState::Healthy, ServiceState::Maintenance];
    let healthy = snapshot.services.iter().all(|service| expected.contains(&service.state));
    let hurt = snapshot
        .incidents
        .iter()
        .any(|incident| incident.state != IncidentState::Resolved && incident.severity >= Severity::Partial);
    healthy && !hurt && snapshot.own_trouble.is_empty()
}

/// A row for each of the other machines.
fn machine_rows(machines: &[MachineSnapshot]) -> Vec<Vec<Cell>> {
    let share = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{:.0}%", value * 100.0));
    let row = |machine: &MachineSnapshot| {
        let name = Cell::text(machine.id.as_str());
        let Some(now) = &machine.now else {
            let why = machine.trouble.as_deref().unwrap_or("nothing was heard of it yet");
            return vec![name, Cell::text(format!("not known: {why}")).tone(Tone::Quiet)];
        };
        let figures = &now.figures;
        let memory = figures.memory.filter(|memory| memory.total > 0);
        let used = memory.map(|memory| 1.0 - memory.available as f64 / memory.total as f64);
        let fullest = figures.disks.iter().max_by(|a, b| a.used_share().total_cmp(&b.used_share()));
        let disk = fullest.map_or(String::new(), |disk| {
            format!(", disk {} {}", disk.mount, share(Some(disk.used_share())))
        });
        let busy = share(figures.cpu.map(|cpu| cpu.busy()));
        vec![name, Cell::text(format!("processors {busy}, memory {}{disk}", share(used)))]
    };
    machines.iter().map(row).collect()
}

/// The status for a person.
fn render(snapshot: &Snapshot, origin: &str, paint: Paint) -> String {
    let mut out =
        format!("{} at {}\n", paint.tone(Tone::Heading, &format!("Mainstay {origin}")), moment(snapshot.at));
    if let Some(freeze) = &snapshot.freeze {
        out.push_str(&format!("\n{}\n", paint.tone(Tone::Warning, &super::freeze::line(freeze))));
    }
    for proposal in snapshot.proposals.iter().filter(|proposal| proposal.is_asked()) {
        out.push_str(&format!("\n{}\n", paint.tone(Tone::Bad, &super::proposals::asks(proposal))));
    }
    if snapshot.services.is_empty() && snapshot.monitor_counts.total() == 0 {
        out.push_str("\nno service\n");
    }
    for service in &snapshot.services {
        out.push('\n');
        out.push_str(&service_lines(service, snapshot, paint));
    }
    let open: Vec<&Incident> = snapshot
        .incidents
        .iter()
        .map(|incident| &**incident)
        .filter(|incident| incident.state != IncidentState::Resolved)
        .collect();
    if open.is_empty() {
        out.push_str("\nno open incident\n");
    } else {
        out.push_str(&format!("\n{}\n", paint.tone(Tone::Heading, "open incidents")));
        let rows: Vec<_> = open.iter().flat_map(|incident| incident_rows(incident, snapshot)).collect();
        out.push_str(&table(paint, &rows));
    }
    let windows = super::maintenance::lines(&snapshot.windows, snapshot.at, false, paint);
    if !windows.is_empty() {
        out.push_str(&format!("\n{}\n{windows}", paint.tone(Tone::Heading, "maintenance")));
    }
    if !snapshot.machines.is_empty() {
        out.push_str(&format!("\n{}\n", paint.tone(Tone::Heading, "machines")));
        out.push_str(&table(paint, &machine_rows(&snapshot.machines)));
    }
    if !snapshot.own_trouble.is_empty() {
        out.push_str(&format!("\n{}\n", paint.tone(Tone::Heading, "Mainstay itself is in trouble")));
        let trouble = snapshot.own_trouble.iter();
        let rows: Vec<_> = trouble
            .map(|(part, text)| vec![Cell::text(part.as_str()).tone(Tone::Bad), Cell::text(text)])
            .collect();
        out.push_str(&table(paint, &rows));
    }
    out
}

/// Monitors that are shown by name.
const MONITORS_SHOWN: u64 = 20;

/// Those that are not well, the worst first.
fn unwell_monitors(ask: &AskArgs, counts: &MonitorCounts) -> anyhow::Result<Vec<MonitorSnapshot>> {
    #[derive(serde::Deserialize)]
    struct Answer {
        monitors: Vec<MonitorSnapshot>,
    }
    let mut unwell = Vec::new();
    for (state, n) in [("down", counts.down), ("degraded", counts.degraded), ("unknown", counts.unknown)] {
        if n > 0 && (unwell.len() as u64) < MONITORS_SHOWN {
            let path = format!("/api/v1/monitors?state={state}&limit={MONITORS_SHOWN}");
            let answer: Answer = serde_json::from_slice(&ask.get(&path)?)?;
            unwell.extend(answer.monitors);
        }
    }
    unwell.truncate(MONITORS_SHOWN as usize);
    Ok(unwell)
}

fn monitor_lines(snapshot: &Snapshot, unwell: &[MonitorSnapshot], paint: Paint) -> String {
    let counts = &snapshot.monitor_counts;
    let all = [
        (counts.down, "down", Tone::Bad),
        (counts.degraded, "degraded", Tone::Warning),
        (counts.unknown, "unknown", Tone::Quiet),
        (counts.maintenance, "in maintenance", Tone::Quiet),
        (counts.up, "up", Tone::Good),
    ];
    let told = all.into_iter().filter(|(n, ..)| *n > 0);
    let told: Vec<String> = told.map(|(n, word, tone)| paint.tone(tone, &format!("{n} {word}"))).collect();
    let mut out = format!("\n{}  {}\n", paint.tone(Tone::Heading, "monitors"), told.join(", "));
    let row = |monitor: &MonitorSnapshot| {
        let (mark, tone) = match monitor.state {
            MonitorState::Up => ("● up", Tone::Good),
            MonitorState::Degraded => ("◐ degraded", Tone::Warning),
            MonitorState::Unknown => ("◌ unknown", Tone::Quiet),
            MonitorState::Down => ("○ down", Tone::Bad),
            MonitorState::Maintenance => ("◇ maintenance", Tone::Quiet),
        };
        vec![
            Cell::text(monitor.id.as_str()),
            Cell::text(mark).tone(tone),
            Cell::text(between(monitor.since, snapshot.at)),
            Cell::text(&*monitor.target),
            Cell::text(monitor.last.as_ref().map_or(monitor.because.as_str(), |last| &last.text)),
        ]
    };
    let rows: Vec<_> = unwell.iter().map(row).collect();
    out.push_str(&table(paint, &rows));
    let not_well = counts.total() - counts.up - counts.maintenance;
    if not_well > unwell.len() as u64 {
        let more = not_well - unwell.len() as u64;
        out.push_str(&format!("  and {more} more: /monitors on the dashboard\n"));
    }
    out
}

fn service_lines(service: &ServiceSnapshot, snapshot: &Snapshot, paint: Paint) -> String {
    let (state, tone) = service_state(service.state);
    let rates = &service.rates;
    let hosts = if service.tcp {
        format!("TCP{}{}", if service.hosts.is_empty() { "" } else { ": " }, service.hosts.join(", "))
    } else if service.hosts.is_empty() {
        "every host".to_owned()
    } else {
        service.hosts.join(", ")
    };
    let mode = mode_words(service.mode);
    let mut out = format!(
        "{}  {}{mode}  {}  errors {}  p50 {}  p99 {}  {}\n",
        paint.tone(Tone::Heading, &clean(service.id.as_str())),
        paint.tone(tone, &state),
        match service.tcp {
            true => format!("{} open, {} new", service.in_flight, per_second(rates)),
            false => per_second(rates),
        },
        share(rates.error_share),
        milliseconds(rates.p50_ms),
        milliseconds(rates.p99_ms),
        paint.tone(Tone::Quiet, &clean(&hosts)),
    );
    if let Some(window) = &service.maintenance {
        let (felt, _) = service_state(service.felt);
        let until = between(snapshot.at, window.until);
        out.push_str(&format!("  in maintenance for {until} more, {felt} for visitors\n"));
    }
    let words = ["SERVER", "STATE", "SINCE"].map(Cell::text).into_iter();
    let figures = ["SHARE", "RATE", "ERRORS", "P50", "P99"].map(Cell::figure);
    let heading = words.chain(figures).chain(["ADDRESS", "LAST PROBE"].map(Cell::text));
    let mut rows = vec![heading.map(|cell| cell.tone(Tone::Quiet)).collect()];
    rows.extend(service.servers.iter().map(|server| server_row(server, snapshot)));
    out.push_str(&table(paint, &rows));
    out.push_str(&release_line(service, snapshot.at, paint));
    let trouble = service.lead.as_ref().and_then(|lead| lead.trouble.as_ref());
    out.extend(trouble.map(|text| format!("  {}\n", paint.tone(Tone::Bad, &clean(text)))));
    out.push_str(&switch_line(service, paint));
    out.push_str(&substitute_lines(service, paint));
    out.extend(service.front.as_ref().map(|front| front_lines(front, paint)));
    if service.state != ServiceState::Healthy {
        let chain = chain::line(&snapshot.chain(&service.id));
        out.push_str(&format!("  {}\n", paint.tone(tone, &clean(&chain))));
    }
    out
}

/// The release that serves, and what is being done about another one.
fn release_line(service: &ServiceSnapshot, now: Wall, paint: Paint) -> String {
    let Some(releases) = &service.releases else { return String::new() };
    if let Some(deployment) = &releases.deployment {
        let text = format!("release {}: {}", deployment.release, clean(&deployment.text));
        return format!("  {}\n", paint.tone(Tone::Warning, &text));
    }
    let Some(current) = releases.current() else { return String::new() };
    let since = current.current_since.map_or_else(String::new, |at| format!(" for {}", between(at, now)));
    let text = format!("release {} ({}) serves{since}", current.number, clean(&current.path));
    format!("  {}\n", paint.tone(Tone::Quiet, &text))
}

/// Servers that others have taken the place of, and what went wrong with that.
fn substitute_lines(service: &ServiceSnapshot, paint: Paint) -> String {
    let line = |one: &Substitute| {
        let (id, place) = (clean(&one.id.name), clean(&one.server.name));
        let (tone, text) = match &one.error {
            Some(error) => (Tone::Bad, clean(error)),
            None if one.stage == Stage::Over => return String::new(),
            None => {
                let text = format!("{id}, made in the place of {place}, {}", one.stage.in_words());
                (Tone::Warning, text)
            }
        };
        format!("  {}\n", paint.tone(tone, &text))
    };
    service.substitutes.iter().map(line).collect()
}

/// A switch that runs, has failed, or waits for a person.
fn switch_line(service: &ServiceSnapshot, paint: Paint) -> String {
    let Some(switch) = &service.switch else { return String::new() };
    let id = clean(service.id.as_str());
    let error = switch.last.as_ref().and_then(|run| run.end.as_ref()?.error.as_deref());
    let (what, down) = match &service.lead {
        None => ("its switch command", "every primary is down"),
        Some(_) => ("its switch", "nobody takes writes"),
    };
    let (tone, text) = match (switch.is_running(), error) {
        (true, _) => (Tone::Warning, format!("{what} runs")),
        (false, Some(why)) => (Tone::Bad, format!("{what} failed: {}", clean(why))),
        (false, None) if switch.wanted && !switch.switched => {
            let text = format!("{down}, and a person is to decide: mainstay switch {id}");
            (Tone::Bad, text)
        }
        (false, None) if switch.switched && switch.can_go_back => {
            (Tone::Warning, format!("it is switched; the way back: mainstay switch {id} --back"))
        }
        (false, None) if switch.switched => (Tone::Warning, "it is switched".to_owned()),
        (false, None) => return String::new(),
    };
    format!("  {}\n", paint.tone(tone, &text))
}

/// Where visitors are led: front addresses, what live names say, and DNS where it leads to a dead address.
fn front_lines(front: &FrontSnapshot, paint: Paint) -> String {
    let mut rows = Vec::new();
    for known in &front.addresses {
        let (state, tone) =
            service_state(if known.good { ServiceState::Healthy } else { ServiceState::Down });
        let here = if known.own { "here" } else { "" };
        rows.push(vec![
            Cell::text(format!("front {}", known.address)),
            Cell::text(state).tone(tone),
            Cell::text(here),
            Cell::text(&known.last),
        ]);
    }
    let mut out = table(paint, &rows);
    if front.live {
        let answers: Vec<String> = front.answers.iter().map(ToString::to_string).collect();
        let names = clean(&front.names.join(", "));
        out.push_str(&format!(
            "  {} {}\n",
            paint.tone(Tone::Quiet, &format!("DNS {names}:")),
            answers.join(", ")
        ));
    }
    for says in front.dns.iter().filter(|says| says.stale) {
        let text =
            format!("DNS still leads {} to a dead address: {}, from {}", says.name, says.text, says.from);
        out.push_str(&format!("  {}\n", paint.tone(Tone::Bad, &clean(&text))));
    }
    out
}

fn server_row(server: &ServerSnapshot, snapshot: &Snapshot) -> Vec<Cell> {
    let (state, tone) = server_state(server);
    let name = match server.role {
        Role::Primary => server.id.name.to_string(),
        Role::Backup => format!("{} (backup)", server.id.name),
    };
    let probe = server.last_probe.as_ref().map_or_else(
        || "none yet".to_owned(),
        |probe| format!("{}, {} ago", probe.text, between(probe.at, snapshot.at)),
    );
    let state = match server.drain_progress(snapshot.at) {
        Some(_) if server.in_flight > 0 => {
            format!("{state} ({} under way{})", server.under_way(), server.drain_ends(snapshot.at))
        }
        _ => state,
    };
    vec![
        Cell::text(name),
        Cell::text(state).tone(tone),
        Cell::text(between(server.health_since, snapshot.at)),
        Cell::figure(share(Some(server.share))),
        Cell::figure(per_second(&server.rates)),
        Cell::figure(share(server.rates.error_share)),
        Cell::figure(milliseconds(server.rates.p50_ms)),
        Cell::figure(milliseconds(server.rates.p99_ms)),
        Cell::text(server.address.as_ref().map_or_else(|| "–".to_owned(), ToString::to_string)),
        Cell::text(probe),
    ]
}

fn incident_row(incident: &Incident, snapshot: &Snapshot) -> Vec<Cell> {
    let seen = &incident.seen;
    let by = match &incident.acknowledged {
        Some((by, _)) => format!("acknowledged by {by}"),
        None => incident.state.as_str().to_owned(),
    };
    let told = told_words(incident, snapshot.at);
    vec![
        Cell::figure(format!("#{}", incident.id)),
        Cell::text(incident.severity.as_str()).tone(incident_tone(incident.state, incident.severity)),
        Cell::text(by),
        Cell::text(format!("for {}", between(incident.began_at, snapshot.at))),
        Cell::text(&incident.title),
        Cell::text(format!(
            "{} failed, {}{} saved of {}{}",
            seen.failed + seen.server_errors,
            if seen.shed > 0 { format!("{} refused for want of room, ", seen.shed) } else { String::new() },
            seen.saved,
            counted(seen.requests, seen.noun()),
            impact_words(&incident.impact)
        )),
        Cell::text(told),
    ]
}

/// `told ops@example.com, Ada; next Bob in 4m`
fn told_words(incident: &Incident, now: Wall) -> String {
    let names = |to: &mut dyn Iterator<Item = &Recipient>| {
        to.map(|to| to.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let escalation = &incident.escalation;
    let mut parts = Vec::new();
    if !escalation.told.is_empty() {
        parts.push(format!("told {}", names(&mut escalation.told.iter().map(|telling| &telling.to))));
    }
    if let Some(next) = &escalation.next {
        parts.push(format!("next {} in {}", names(&mut next.to.iter()), between(now, next.at)));
    }
    parts.join("; ")
}

/// Who was hurt and what it cost, if anybody was.
fn impact_words(impact: &Impact) -> String {
    let about = if impact.visitors_exact { "" } else { "about " };
    let mut words = match impact.visitors {
        0 => String::new(),
        n => format!("; {about}{} hurt", counted(n, "visitor")),
    };
    if let Some(money) = impact.money.as_ref().filter(|money| money.amount > 0.0) {
        words.push_str(&format!("; about {}", money.text()));
    }
    words
}

/// The incident, and below it why it happened.
fn incident_rows(incident: &Incident, snapshot: &Snapshot) -> Vec<Vec<Cell>> {
    let mut rows = vec![incident_row(incident, snapshot)];
    let mut below = |text: String| {
        let mut row = vec![Cell::text(""); 4];
        row.push(Cell::text(text).tone(Tone::Quiet));
        rows.push(row);
    };
    if let Some(root) = incident.part_of {
        below(format!("part of #{root}, of which people are told"));
    }
    if incident.affected.iter().any(|affected| affected.until.is_none()) {
        let names = incident.affected.iter().filter(|affected| affected.until.is_none());
        let names: Vec<String> = names.map(|affected| affected.what.to_string()).collect();
        below(format!("also affected: {}", names.join(", ")));
    }
    if let Some(diagnosis) = &incident.diagnosis {
        let first = diagnosis.evidence.first().map(|text| format!(": {text}")).unwrap_or_default();
        let mut row = vec![Cell::text(""); 4];
        row.push(Cell::text(format!("cause {}{first}", diagnosis.in_words())).tone(Tone::Quiet));
        rows.push(row);
    }
    rows
}

/// How the service is carried, when not as usual.
fn mode_words(mode: RoutingMode) -> &'static str {
    match mode {
        RoutingMode::Normal => "",
        RoutingMode::Backup => "  on its backups",
        RoutingMode::Panic => "  panic: traffic goes to all",
        RoutingMode::Nobody => "  nobody to send to",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use mainstay_model::escalation::{Escalation, NextStep, Telling, Way};
    use mainstay_model::host::{Cpu, Disk, HostPolicy, HostReport, HostSnapshot, Memory};
    use mainstay_model::impact::Money;
    use mainstay_model::incident::{Scope, Severity, VisitorsSaw};
    use mainstay_model::input::{AdminState, Exit as ProcessExit, OwnPart};
    use mainstay_model::release::{Release, ReleaseState, ReleasesSnapshot};
    use mainstay_model::sample::Phases;
    use mainstay_model::snapshot::{
        Health, LastProbe, ProcessSnapshot, Rates, Signal, StateChange, Totals, Why,
    };
    use mainstay_model::switch::SwitchSnapshot;
    use mainstay_model::{IncidentId, MachineId, ServiceId};

    use super::*;

    const NOW: i64 = 1_795_335_601_000;

    fn server(name: &str, health: Health) -> ServerSnapshot {
        let good = health == Health::Healthy;
        ServerSnapshot {
            id: ServiceId::new("shop").server(name),
            address: Some("10.0.0.11:3000".parse().unwrap()),
            role: Role::Primary,
            health,
            health_since: Wall(NOW - 200_000),
            admin: AdminState::Ready,
            maintenance: None,
            drain: None,
            in_rotation: good,
            share: if good { 1.0 } else { 0.0 },
            rates: Rates {
                per_second: 60.25,
                error_share: Some(0.004),
                p50_ms: Some(2.14),
                p99_ms: Some(1200.0),
            },
            totals: Totals::default(),
            in_flight: 0,
            tcp: false,
            tunnels: 0,
            circuit: mainstay_model::input::Circuit::Closed,
            last_probe: Some(LastProbe {
                at: Wall(NOW - 1_000),
                good,
                text: if good { "200 in 3 ms" } else { "connection refused" }.to_owned(),
                took_ms: 3.0,
                phases: Phases::default(),
            }),
            release: None,
            note: None,
            data: None,
            process: None,
            why: Why::default(),
        }
    }

    /// Ops was told, Ada is next.
    fn escalation() -> Escalation {
        let to =
            |way, address: &str, name: &str| Recipient { way, address: address.into(), name: name.into() };
        let ops = to(Way::Email, "ops@example.com", "ops@example.com");
        Escalation {
            since: Some(Wall(NOW - 11_000)),
            told: vec![Telling { to: ops, after_ms: 0, at: Wall(NOW - 11_000) }],
            next: Some(NextStep { at: Wall(NOW + 289_000), to: vec![to(Way::Sms, "+491701234567", "Ada")] }),
        }
    }

    /// A shop with a healthy server, a dead one and a backup that is drained.
    pub(in crate::cli) fn sample() -> Snapshot {
        let mut dead = server("app-2", Health::Unhealthy);
        dead.rates = Rates::default();
        dead.process = Some(ProcessSnapshot {
            pid: None,
            since: Wall(NOW - 12_000),
            last_exit: Some(ProcessExit::Signal(9)),
            restarts_in_window: 2,
            restart_budget: 5,
            next_restart_at: Some(Wall(NOW + 1_500)),
        });
        dead.why = Why {
            rule: "2 probes in a row failed (fall = 2)".to_owned(),
            would_change: "2 good probes in a row (rise = 2)".to_owned(),
            signals: vec![
                Signal {
                    name: "probes failed in a row".to_owned(),
                    value: "2".to_owned(),
                    threshold: "fall = 2".to_owned(),
                    bad: true,
                },
                Signal {
                    name: "failed attempts".to_owned(),
                    value: "4%".to_owned(),
                    threshold: "failure-share = 20%".to_owned(),
                    bad: false,
                },
            ],
            changes: vec![StateChange {
                at: Wall(NOW - 12_000),
                text: "unhealthy: connection refused".to_owned(),
            }],
        };
        let mut spare = server("spare", Health::Healthy);
        (spare.role, spare.admin, spare.in_rotation, spare.share) =
            (Role::Backup, AdminState::Draining, false, 0.0);
        (spare.last_probe, spare.address) = (None, None);
        let incident = Incident {
            id: IncidentId(12),
            scope: Scope::Service(ServiceId::new("shop")),
            title: "app-2 of shop was killed by SIGKILL".to_owned(),
            state: IncidentState::Open,
            severity: Severity::Degraded,
            servers: vec![dead.id.clone()],
            began_at: Wall(NOW - 12_000),
            opened_at: Wall(NOW - 11_000),
            diverted_at: None,
            recovered_at: None,
            resolved_at: None,
            acknowledged: None,
            seen: VisitorsSaw {
                requests: 1200,
                failed: 0,
                server_errors: 0,
                saved: 3,
                ..VisitorsSaw::default()
            },
            timeline: Vec::new(),
            escalation: escalation(),
            acted_at: None,
            impact: mainstay_model::impact::Impact::default(),
            curve: mainstay_model::impact::Curve::default(),
            diagnosis: None,
            changes: Vec::new(),
            part_of: None,
            affected: Vec::new(),
            affected_left_out: 0,
            drill: None,
            timeline_left_out: 0,
        };
        Snapshot {
            at: Wall(NOW),
            services: vec![ServiceSnapshot {
                id: ServiceId::new("shop"),
                hosts: vec!["shop.example.com".to_owned()],
                tcp: false,
                state: ServiceState::Degraded,
                felt: ServiceState::Degraded,
                maintenance: None,
                mode: RoutingMode::Normal,
                rates: Rates {
                    per_second: 120.3,
                    error_share: Some(0.0),
                    p50_ms: Some(2.0),
                    p99_ms: Some(14.0),
                },
                totals: Totals::default(),
                in_flight: 0,
                queued: 0,
                releases: None,
                scale: None,
                substitutes: Vec::new(),
                switch: None,
                lead: None,
                limits: None,
                servers: vec![server("app-1", Health::Healthy), dead, spare],
                needs: Vec::new(),
                door: None,
                front: None,
            }],
            incidents: vec![Arc::new(incident)],
            own_trouble: Vec::new(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_person_sees_services_servers_and_incidents_in_line() {
        let text = render(&sample(), "http://127.0.0.1:9900", Paint::Plain);
        let expected = "\
Mainstay http://127.0.0.1:9900 at 2026-11-22 08:20:01 UTC

shop  ◐ degraded  120/s  errors 0%  p50 2.0 ms  p99 14 ms  shop.example.com
  SERVER          STATE                SINCE   SHARE    RATE  ERRORS     P50     P99  ADDRESS         LAST PROBE
  app-1           ● healthy            3m 20s   100%  60.2/s    0.4%  2.1 ms  1.20 s  10.0.0.11:3000  200 in 3 ms, 1s ago
  app-2           ○ unhealthy, out     3m 20s     0%   0.0/s       –       –       –  10.0.0.11:3000  connection refused, 1s ago
  spare (backup)  ● healthy, draining  3m 20s     0%  60.2/s    0.4%  2.1 ms  1.20 s  –               none yet
  listener ok → shop 1/3 → app-2 connection refused since 08:16:41 → was killed by SIGKILL

open incidents
  #12  degraded  open  for 12s  app-2 of shop was killed by SIGKILL  0 failed, 3 saved of 1200 requests  told ops@example.com; next Ada in 4m 49s
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn a_switch_that_waits_for_a_person_says_what_to_type() {
        let mut snapshot = sample();
        let switch = SwitchSnapshot {
            automatic: false,
            fence: false,
            can_go_back: true,
            wanted: true,
            switched: false,
            last: None,
        };
        let mut line = |switch: SwitchSnapshot| {
            snapshot.services[0].switch = Some(switch);
            switch_line(&snapshot.services[0], Paint::Plain)
        };
        let waits = line(switch.clone());
        assert_eq!(waits, "  every primary is down, and a person is to decide: mainstay switch shop\n");
        let there = line(SwitchSnapshot { switched: true, ..switch.clone() });
        assert_eq!(there, "  it is switched; the way back: mainstay switch shop --back\n");
        assert_eq!(line(SwitchSnapshot { wanted: false, ..switch }), "");
    }

    #[test]
    fn the_release_that_serves_is_named() {
        let mut snapshot = sample();
        let current = Release {
            number: 4,
            path: "/srv/v42".to_owned(),
            at: Wall(NOW - 100_000),
            by: "alice".to_owned(),
            state: ReleaseState::Current,
            why: String::new(),
            current_since: Some(Wall(NOW - 60_000)),
            watched_until: None,
            warm_until: None,
            steps: Vec::new(),
        };
        let releases = ReleasesSnapshot { releases: vec![current], deployment: None };
        snapshot.services[0].releases = Some(releases);
        let line = release_line(&snapshot.services[0], snapshot.at, Paint::Plain);
        assert_eq!(line, "  release 4 (/srv/v42) serves for 1m\n");
    }

    #[test]
    fn who_was_hurt_is_said_if_anybody_was() {
        assert_eq!(impact_words(&Impact::default()), "");
        let money = Money { amount: 3.29, currency: "EUR".to_owned(), ..Money::default() };
        let impact = Impact { visitors: 41, money: Some(money), ..Impact::default() };
        assert_eq!(impact_words(&impact), "; about 41 visitors hurt; about 3.29 EUR");
    }

    #[test]
    fn colour_changes_no_word() {
        let (plain, colour) = (render(&sample(), "x", Paint::Plain), render(&sample(), "x", Paint::Colour));
        assert!(colour.contains("\x1b[31m"));
        let mut stripped = String::new();
        let mut rest = colour.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            stripped.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(stripped + rest, plain);
    }

    #[test]
    fn trouble_of_mainstay_itself_is_shown_and_checked() {
        let mut snapshot = sample();
        snapshot.own_trouble.push((OwnPart::Record, "the disk is full\x1b[2J".to_owned()));
        let text = render(&snapshot, "x", Paint::Plain);
        assert!(text.contains("Mainstay itself is in trouble\n  record  the disk is full [2J\n"), "{text}");
        snapshot.services.iter_mut().for_each(|service| service.state = ServiceState::Healthy);
        assert!(!all_is_well(&snapshot));
        snapshot.own_trouble.clear();
        assert!(all_is_well(&snapshot));
    }

    #[test]
    fn other_machines_are_told_of_and_one_that_is_not_heard_of_is_not_known() {
        let disk = Disk { mount: "/srv".to_owned(), used: 3, available: 1, ..Disk::default() };
        let cpu = Some(Cpu { user: 0.25, ..Cpu::default() });
        let memory = Some(Memory { total: 100, available: 40, ..Memory::default() });
        let figures = HostReport { cpu, memory, disks: vec![disk], ..HostReport::default() };
        let machine = |name: &str, now: Option<HostReport>| MachineSnapshot {
            id: MachineId::new(name),
            addresses: Vec::new(),
            now: now.map(|figures| HostSnapshot { at: Wall(0), figures, policy: HostPolicy::default() }),
            trouble: Some("connection refused".to_owned()),
        };
        let machines = vec![machine("db-1", Some(figures)), machine("db-2", None)];
        let text = render(&Snapshot { machines, ..sample() }, "x", Paint::Plain);
        let expected = "machines\n  db-1  processors 25%, memory 60%, disk /srv 75%\n  db-2  not known: connection refused\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_snapshot_reads_back_as_it_was_sent() {
        let json = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), sample());
    }
}
