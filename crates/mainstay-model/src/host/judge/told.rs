//! How a machine's trouble is told: in evidence, and in advice.

use std::time::Duration;

use super::{
    CARD_ERRORS, LOSSY, LOSSY_MIN, Mean, PRESSED_CPU, PRESSED_IO, PRESSED_MEMORY, THROTTLED,
    group_memory_left,
};
use crate::host::{Findings, Group, HostPart, HostReport, Memory, ProcessFound};
use crate::time::Mono;
use crate::words::{bytes, count, percent, span};

/// Programs wait for something most of the time.
pub(super) fn pressed(name: &str, mean: &Mean) -> Option<String> {
    let waits = [
        ("a processor", mean.waits_cpu, PRESSED_CPU),
        ("memory", mean.thrashing, PRESSED_MEMORY),
        ("a disk", mean.waits_io, PRESSED_IO),
    ];
    let (what, share) =
        waits.into_iter().find_map(|(what, share, most)| Some((what, share.filter(|s| *s >= most)?)))?;
    Some(format!("programs of {name} wait for {what} in {} of the time", percent(round(share))))
}

/// The network loses what is sent.
pub(super) fn lossy(name: &str, mean: &Mean) -> Option<String> {
    if let (Some(sent), Some(again)) = (mean.sent, mean.retransmitted)
        && again >= LOSSY_MIN
        && again >= (sent + again) * LOSSY
    {
        let share = percent(round(again / (sent + again)));
        return Some(format!("{name} has to send {share} of its TCP segments again"));
    }
    let errors = mean.card_errors.filter(|errors| *errors >= CARD_ERRORS)?;
    Some(format!("{name}'s network cards count {} a second", count(errors.round() as u64, "error")))
}

pub(super) fn memory_text(report: &HostReport) -> Option<String> {
    let machine = report.memory.filter(|m| m.total > 0);
    let machine_left = machine.map(|m| m.available as f64 / m.total as f64);
    if let (Some(left), Some(Group { memory: Some((max, used)), .. })) =
        (group_memory_left(report.group), report.group)
        && machine_left.is_none_or(|machine| left < machine)
    {
        let (used, max) = (bytes(used), bytes(max));
        return Some(format!("Mainstay's control group uses {used} of the {max} that it may use"));
    }
    let Memory { total, available, .. } = machine?;
    let left = percent(round(machine_left?));
    Some(format!("{} of {} available ({left})", bytes(available), bytes(total)))
}

pub(super) fn cpu_evidence(report: &HostReport) -> Vec<String> {
    let mut evidence = Vec::new();
    if let Some(cpu) = report.cpu {
        let part = |share: f64| percent(round(share));
        let mut text = format!("{} in programs, {} in the kernel", part(cpu.user), part(cpu.system));
        if cpu.steal >= 0.01 {
            text.push_str(&format!(", {} taken by other machines of the same host", part(cpu.steal)));
        }
        evidence.push(text);
    }
    if let (Some([one, ..]), Some(processors)) = (report.load, report.processors) {
        let are = if processors == 1 { "1 processor".to_owned() } else { format!("{processors} processors") };
        evidence.push(format!("a load of {one:.1} on {are}"));
    }
    if let Some(waited) = report.pressure.cpu.filter(|share| *share >= 0.01) {
        evidence
            .push(format!("programs waited for a processor in {} of the last 10s", percent(round(waited))));
    }
    if let Some(Group { processors: Some(limit), throttled: Some(share), .. }) = report.group
        && share >= THROTTLED
    {
        evidence.push(format!(
            "the control group may use {limit:.1} processors and was stopped in {} of its periods",
            percent(round(share))
        ));
    }
    if report.late_ms >= 500 {
        evidence.push(format!(
            "Mainstay itself got no processor time for {}",
            span(Duration::from_millis(report.late_ms))
        ));
    }
    evidence
}

/// What was found as one sentence; `None` when nothing was.
pub(super) fn findings_text(
    part: &HostPart,
    findings: &Findings,
    report: Option<&HostReport>,
) -> Option<String> {
    let processors = f64::from(report.and_then(|r| r.processors).unwrap_or(1).max(1));
    let named = |found: &ProcessFound| match &found.server {
        Some(server) => format!("{} of {server} (pid {})", found.name, found.pid),
        None => format!("{} (pid {})", found.name, found.pid),
    };
    match (part, findings) {
        (HostPart::Cpu, Findings::Processes { by_cpu, .. }) => {
            let used = by_cpu.iter().filter(|found| found.processors >= 0.01);
            let list: Vec<String> = used
                .map(|found| format!("{} {}", named(found), percent(round(found.processors / processors))))
                .collect();
            (!list.is_empty()).then(|| format!("most processor time is used by {}", list.join(", ")))
        }
        (HostPart::Memory, Findings::Processes { by_memory, .. }) => {
            let list: Vec<String> =
                by_memory.iter().map(|found| format!("{} {}", named(found), bytes(found.memory))).collect();
            (!list.is_empty()).then(|| format!("most memory is used by {}", list.join(", ")))
        }
        (HostPart::Disk(mount), Findings::Disk { own, .. }) => {
            let list: Vec<String> =
                own.iter().map(|(path, size)| format!("{path} {}", bytes(*size))).collect();
            Some(match list.is_empty() {
                true => format!("nothing on {mount} is Mainstay's own"),
                false => format!("of it Mainstay's own are {}", list.join(", ")),
            })
        }
        _ => None,
    }
}

/// What a person should do.
pub(super) fn advice(name: &str, part: &HostPart, found: Option<&(Mono, Findings)>) -> String {
    let first =
        |list: &[ProcessFound]| list.first().map(|found| format!("{} (pid {})", found.name, found.pid));
    let found = found.map(|(_, findings)| findings);
    match (part, found) {
        (HostPart::Cpu, Some(Findings::Processes { by_cpu, .. })) if !by_cpu.is_empty() => format!(
            "Look at {}: stop it, move it elsewhere, or give {name} more processors",
            first(by_cpu).unwrap_or_default()
        ),
        (HostPart::Memory, Some(Findings::Processes { by_memory, .. })) if !by_memory.is_empty() => format!(
            "Look at {}: restart it if it leaks, move it elsewhere, or give {name} more memory; when none is left \
             the kernel kills a process",
            first(by_memory).unwrap_or_default()
        ),
        (HostPart::Cpu, _) => "Find out what uses the processors: top -o %CPU".to_owned(),
        (HostPart::Memory, _) => "Find out what uses the memory: top -o %MEM".to_owned(),
        (HostPart::Disk(mount), _) => {
            format!("Make room on {mount}. What is large there: du -xh {mount} | sort -h | tail -20")
        }
        (HostPart::Device(name), _) => {
            let device = name.split([' ', '+']).next().unwrap_or(name);
            format!(
                "See what the kernel says of it (dmesg -T | grep {device}) and what the disk says itself \
                 (smartctl -a /dev/{device}); copy what matters elsewhere before it is lost"
            )
        }
    }
}

pub(super) fn is_or_are(name: &str, part: &HostPart) -> String {
    let whose = part.of(name);
    match part {
        HostPart::Cpu => format!("{whose} have been"),
        HostPart::Memory | HostPart::Disk(_) | HostPart::Device(_) => format!("{whose} has been"),
    }
}

/// `3h`, `40m`, `under a minute`: a forecast is no measurement.
pub(super) fn roughly(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => "a minute".to_owned(),
        seconds @ 60..7200 => span(Duration::from_secs(seconds / 60 * 60)),
        seconds => span(Duration::from_secs(seconds / 3600 * 3600)),
    }
}

/// To a whole percent.
pub(super) fn round(share: f64) -> f64 {
    (share * 100.0).round() / 100.0
}
