//! What the judge makes of the machine's figures: when its processors, its memory or a disk are an incident, and what
//! other incidents are told of it.
//!
//! Processors and memory are judged by their mean over `sustained`, so that a busy second is no news; while visitors of a
//! service wait or are turned away, a third of that is enough. A disk is judged as it is. Each has a lower threshold
//! that it must pass again before the incident is over. A figure that is unknown neither opens an incident nor ends one. What
//! a disk reports of itself is in `faults`.
//!
//! Halfway to an incident, and when it opens, the judge asks which processes it is, or what fills the disk
//! ([`Effect::Inspect`]); the answer becomes evidence.

mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::faults::DeviceErrors;
use super::trend::{Forecast, Trend};
use super::{
    Disk, Findings, Group, HostPart, HostPolicy, HostReport, HostSnapshot, Inspection, Memory, ProcessFound,
};
use crate::cause::{Cause, Diagnosis};
use crate::effect::Effect;
use crate::id::ServerId;
use crate::incident::{EntryKind, Incident, Scope};
use crate::open::{Beginning, Open};
use crate::out::Out;
use crate::time::{Mono, Now, Wall};
use crate::traffic::Ring;
use crate::words::{bytes, count, percent, span};

/// Figures that are older say nothing any more.
pub(crate) const FIGURES_LIVE: Duration = Duration::from_secs(5);
/// The machine must have been well for so long before an incident is over.
const RESOLVE_AFTER: Duration = Duration::from_secs(10);
/// An inspection that was not answered is asked for again after so long, and no oftener.
const INSPECT_AGAIN: Duration = Duration::from_secs(10);
/// Buckets of a mean.
const BUCKETS: u64 = 30;
/// A mean says something once so much of its time was seen.
const COVERED_MIN: f64 = 0.5;
/// Processors are well again this far below `cpu-high`.
const CPU_BACK: f64 = 0.1;
/// Memory is well again at so many times `memory-low`.
const MEMORY_BACK: f64 = 1.5;
/// A disk is well again this far below `disk-full`.
const DISK_BACK: f64 = 0.02;
/// A control group that was stopped for a quarter of its periods wants more processors than it may use.
const THROTTLED: f64 = 0.25;
/// Somebody waits for memory for so much of the time only when pages are thrown out and read again and again.
const THRASHING: f64 = 0.4;
/// Somebody waits for a processor for so much of the time: with answers that become late it is an overload.
const PRESSED_CPU: f64 = 0.6;
/// The same of memory.
const PRESSED_MEMORY: f64 = 0.2;
/// The same of a disk.
const PRESSED_IO: f64 = 0.6;
/// The network loses packets when so much of what TCP sends has to be sent again, and at least [`LOSSY_MIN`] segments a second.
const LOSSY: f64 = 0.05;
/// See [`LOSSY`].
const LOSSY_MIN: f64 = 5.0;
/// Packets a second with errors that are no accident.
const CARD_ERRORS: f64 = 1.0;
/// A disk this full refuses writes now or in a moment.
const DISK_REFUSES: f64 = 0.99;
/// A process that the kernel killed for want of memory is told of within so long around the word that it ended.
const OOM_NEAR: Duration = Duration::from_secs(5);
/// A disk of which nothing was seen for so long is taken to be gone.
const GONE_AFTER: Duration = Duration::from_secs(600);
/// Parts of the machine that may have an incident; the disks and devices of a report are fewer.
const PARTS_MAX: usize = HostReport::DISKS_MAX + HostReport::DEVICES_MAX + 2;

/// What the machine's state means for services. Kept where all of them can see it.
#[derive(Debug, Default)]
pub(crate) struct HostView {
    /// The machine has no processor time or memory left, with the figures; and when that was seen.
    saturated: Option<(Mono, String)>,
    /// A disk that takes no more writes.
    full_disk: Option<(Mono, String)>,
    /// A disk that reports errors.
    failing_disk: Option<(Mono, String)>,
    /// How the network of this machine loses what it sends.
    lossy: Option<(Mono, String)>,
    /// When the kernel last killed for want of memory.
    oom: Option<Mono>,
    /// When Mainstay itself was last found to be late, and how late.
    starved: Option<(Mono, Duration)>,
}

impl HostView {
    /// How the machine is saturated, if it is.
    pub(crate) fn saturated(&self, now: Mono) -> Option<&str> {
        live(self.saturated.as_ref(), now)
    }

    /// A disk of this machine takes no more writes.
    pub(crate) fn full_disk(&self, now: Mono) -> Option<&str> {
        self.full_disk
            .as_ref()
            .filter(|(at, _)| now.since(*at) <= FIGURES_LIVE * 4)
            .map(|(_, text)| text.as_str())
    }

    /// A disk of this machine reports errors.
    pub(crate) fn failing_disk(&self, now: Mono) -> Option<&str> {
        live(self.failing_disk.as_ref(), now)
    }

    /// The network of this machine loses much of what is sent.
    pub(crate) fn lossy(&self, now: Mono) -> Option<&str> {
        live(self.lossy.as_ref(), now)
    }

    /// The kernel killed something for want of memory around this moment.
    pub(crate) fn out_of_memory_near(&self, at: Mono) -> bool {
        self.oom.is_some_and(|oom| at.since(oom).max(oom.since(at)) <= OOM_NEAR)
    }

    /// Mainstay was late by so much.
    pub(crate) fn was_late(&mut self, by: Duration, now: Mono) {
        // Of two that overlap the longer stands.
        if self.starved.is_none_or(|(at, before)| now.since(at) > before || by >= before) {
            self.starved = Some((now, by));
        }
    }

    /// For how long Mainstay got no processor time at some moment since `since`.
    pub(crate) fn starved_since(&self, since: Mono) -> Duration {
        self.starved.filter(|(at, _)| *at >= since).map_or(Duration::ZERO, |(_, by)| by)
    }
}

/// What was said lately.
fn live(said: Option<&(Mono, String)>, now: Mono) -> Option<&str> {
    said.filter(|(at, _)| now.since(*at) <= FIGURES_LIVE).map(|(_, text)| text.as_str())
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Host {
    policy: Option<HostPolicy>,
    latest: Option<(Now, HostReport)>,
    means: Option<Means>,
    disks: BTreeMap<String, DiskState>,
    errors: DeviceErrors,
    troubles: BTreeMap<HostPart, Trouble>,
    /// When each inspection was last asked for.
    asked: BTreeMap<Inspection, Mono>,
    /// What was last found, and when.
    found: BTreeMap<Inspection, (Mono, Findings)>,
    /// The processes that are watched on their servers' account.
    watched: BTreeMap<ServerId, u32>,
    oom_kills: Option<u64>,
}

/// Means over `sustained`.
#[derive(Debug)]
struct Means {
    over: Duration,
    since: Mono,
    ring: Ring<Sums>,
}

/// Sums of figures and how many they were.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    cpu: (f64, u32),
    throttled: (f64, u32),
    memory: (f64, u32),
    thrashing: (f64, u32),
    waits_cpu: (f64, u32),
    waits_io: (f64, u32),
    sent: (f64, u32),
    retransmitted: (f64, u32),
    card_errors: (f64, u32),
}

/// Means of figures; `None` where too little was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    cpu: Option<f64>,
    throttled: Option<f64>,
    memory: Option<f64>,
    thrashing: Option<f64>,
    waits_cpu: Option<f64>,
    waits_io: Option<f64>,
    sent: Option<f64>,
    retransmitted: Option<f64>,
    card_errors: Option<f64>,
}

/// One of the sums, with how many values went into it.
type Figure = fn(&mut Sums) -> &mut (f64, u32);

impl Sums {
    fn add(&mut self, figure: Figure, value: Option<f64>) {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            let (sum, n) = figure(self);
            (*sum, *n) = (*sum + value, *n + 1);
        }
    }

    fn merge(&mut self, other: &Sums) {
        let figures: [Figure; 9] = [
            |s| &mut s.cpu,
            |s| &mut s.throttled,
            |s| &mut s.memory,
            |s| &mut s.thrashing,
            |s| &mut s.waits_cpu,
            |s| &mut s.waits_io,
            |s| &mut s.sent,
            |s| &mut s.retransmitted,
            |s| &mut s.card_errors,
        ];
        let mut other = *other;
        for figure in figures {
            let (sum, n) = *figure(&mut other);
            let mine = figure(self);
            *mine = (mine.0 + sum, mine.1 + n);
        }
    }
}

#[derive(Debug)]
struct DiskState {
    trend: Trend,
    last: Disk,
    at: Mono,
    forecast: Option<Forecast>,
}

/// An incident of the machine, or the way to one.
#[derive(Debug, Default)]
struct Trouble {
    incident: Option<Open>,
    /// What the figures say: `Some(true)`: in trouble; `Some(false)`: well; `None`: unknown, or between the thresholds.
    verdict: Option<bool>,
    /// Findings are in the timeline.
    told_findings: bool,
    /// Since when its figures are missing although the machine's others are not.
    missing_since: Option<Mono>,
}

/// What one part's figures say.
struct Judged {
    verdict: Option<bool>,
    /// It was not reported.
    missing: bool,
    /// On the way to trouble.
    near: bool,
    title: String,
    evidence: Vec<String>,
}

impl Host {
    /// A changed config; without a policy the machine is not watched.
    pub(crate) fn apply(&mut self, policy: Option<HostPolicy>, out: &mut Out) {
        if self.policy == policy && (policy.is_some() || self.troubles.is_empty()) {
            return;
        }
        self.policy = policy;
        self.means = None;
        if self.policy.is_some() {
            return;
        }
        self.latest = None;
        self.disks.clear();
        self.errors = DeviceErrors::default();
        self.watched.clear();
        self.asked.clear();
        self.found.clear();
        out.host = HostView::default();
        for trouble in std::mem::take(&mut self.troubles).into_values() {
            if let Some(open) = trouble.incident {
                open.resolve("the machine is no longer watched".to_owned(), None, out);
            }
        }
    }

    /// An earlier run left this incident open.
    pub(crate) fn restore(&mut self, incident: Incident, last_alive: Option<Wall>, out: &mut Out) {
        let Scope::Host(part) = incident.scope.clone() else { return };
        let mut open = Open::restored(incident, None, out);
        open.entry(EntryKind::Own, None, None, crate::incidents::restarted_text(last_alive, out), out);
        let trouble = self.troubles.entry(part).or_default();
        trouble.told_findings = true;
        if let Some(doubled) = trouble.incident.replace(open) {
            doubled.resolve("over: another incident goes on for it".to_owned(), None, out);
        }
    }

    /// The supervised processes are these now: an adapter is to watch them.
    pub(crate) fn watch(&mut self, pids: impl Iterator<Item = (ServerId, u32)>, out: &mut Out) {
        if self.policy.is_none() {
            return;
        }
        let pids: BTreeMap<ServerId, u32> = pids.collect();
        if pids != self.watched {
            self.watched.clone_from(&pids);
            out.effect(Effect::Watch(pids));
        }
    }

    /// What was read of the machine. `strained`: visitors of a service wait or are turned away.
    pub(crate) fn on_report(&mut self, report: &HostReport, strained: bool, out: &mut Out) {
        let Some(policy) = self.policy.clone() else { return };
        let now = out.now.mono;
        self.count(report, &policy, now);
        self.look_at_disks(report, now);
        self.errors.read(&report.io_errors, now);
        if let Some(kills) = report.oom_kills {
            if self.oom_kills.is_some_and(|before| kills > before) {
                out.host.oom = Some(now);
            }
            self.oom_kills = Some(kills);
        }
        if report.late_ms > 0 {
            out.host.was_late(Duration::from_millis(report.late_ms), now);
        }
        self.latest = Some((out.now, report.clone()));
        self.tell_services(&policy, out);
        self.judge(&policy, strained, out);
        self.tend(out);
    }

    /// An answer to [`Effect::Inspect`].
    pub(crate) fn on_findings(&mut self, findings: &Findings, out: &mut Out) {
        let inspection = match findings {
            Findings::Processes { .. } => Inspection::Processes,
            Findings::Disk { mount, .. } => Inspection::Disk(mount.clone()),
        };
        // Nobody asked, or the answer is to an older question.
        if !self.asked.contains_key(&inspection) {
            return;
        }
        let mut findings = findings.clone();
        match &mut findings {
            Findings::Processes { by_cpu, by_memory } => {
                by_cpu.truncate(Findings::MAX);
                by_memory.truncate(Findings::MAX);
            }
            Findings::Disk { own, .. } => own.truncate(Findings::MAX),
        }
        self.found.insert(inspection, (out.now.mono, findings));
        self.add_findings(out);
        self.tend(out);
    }

    fn count(&mut self, report: &HostReport, policy: &HostPolicy, now: Mono) {
        let over = policy.sustained.max(Duration::from_secs(1));
        let means =
            self.means.get_or_insert_with(|| Means { over, since: now, ring: Ring::new(over, BUCKETS) });
        let sums = means.ring.at(now);
        sums.add(|s| &mut s.cpu, report.cpu.map(|cpu| cpu.busy()));
        sums.add(|s| &mut s.throttled, report.group.and_then(|group| group.throttled));
        sums.add(|s| &mut s.memory, memory_left(report));
        sums.add(|s| &mut s.thrashing, report.pressure.memory);
        sums.add(|s| &mut s.waits_cpu, report.pressure.cpu);
        sums.add(|s| &mut s.waits_io, report.pressure.io);
        sums.add(|s| &mut s.sent, report.tcp.map(|tcp| tcp.sent));
        sums.add(|s| &mut s.retransmitted, report.tcp.map(|tcp| tcp.retransmitted));
        sums.add(|s| &mut s.card_errors, report.network.map(|network| network.errors));
    }

    /// The means over the last `back`.
    fn means(&self, back: Duration, now: Mono) -> Mean {
        let Some(means) = &self.means else { return Mean::default() };
        let back = back.min(means.over);
        if now.since(means.since) < back.mul_f64(0.9) {
            return Mean::default();
        }
        let since = Mono(now.0.saturating_sub(u64::try_from(back.as_nanos()).unwrap_or(u64::MAX)));
        let mut sums = Sums::default();
        means.ring.since(since, now).for_each(|bucket| sums.merge(bucket));
        let enough = (back.as_secs_f64() * COVERED_MIN).max(1.0);
        let mean = |(sum, n): (f64, u32)| (f64::from(n) >= enough).then(|| sum / f64::from(n));
        Mean {
            cpu: mean(sums.cpu),
            throttled: mean(sums.throttled),
            memory: mean(sums.memory),
            thrashing: mean(sums.thrashing),
            waits_cpu: mean(sums.waits_cpu),
            waits_io: mean(sums.waits_io),
            sent: mean(sums.sent),
            retransmitted: mean(sums.retransmitted),
            card_errors: mean(sums.card_errors),
        }
    }

    fn look_at_disks(&mut self, report: &HostReport, now: Mono) {
        for disk in report.disks.iter().take(HostReport::DISKS_MAX) {
            let state = self.disks.entry(disk.mount.clone()).or_insert_with(|| DiskState {
                trend: Trend::new(),
                last: disk.clone(),
                at: now,
                forecast: None,
            });
            state.trend.add(disk.used, now);
            state.forecast = state.trend.forecast(disk.used, disk.available);
            state.last.clone_from(disk);
            state.at = now;
        }
        let open = &self.troubles;
        // One that is not reported any more is remembered only while it has an incident.
        self.disks.retain(|mount, state| {
            now.since(state.at) < Duration::from_secs(60) || open.contains_key(&HostPart::Disk(mount.clone()))
        });
    }

    /// What services are told: by the last seconds, whether or not it is an incident of the machine's yet.
    fn tell_services(&self, policy: &HostPolicy, out: &mut Out) {
        let now = out.now.mono;
        let mean = self.means(FIGURES_LIVE, now);
        let saturated = match (mean.cpu, mean.throttled, mean.memory) {
            (Some(cpu), ..) if cpu >= policy.cpu_high => {
                Some(format!("this machine's processors are {} busy", percent(round(cpu))))
            }
            (_, Some(throttled), _) if throttled >= THROTTLED => {
                Some("Mainstay's control group has used up the processor time that it may use".to_owned())
            }
            (.., Some(left)) if left <= policy.memory_low => {
                Some(format!("this machine has {} of its memory left", percent(round(left))))
            }
            _ => pressed(&mean),
        };
        out.host.saturated = saturated.map(|text| (now, text));
        out.host.lossy = lossy(&mean).map(|text| (now, text));
        out.host.failing_disk = self.errors.failing(now).map(|text| (now, text));
        let full = self
            .disks
            .values()
            .find(|disk| now.since(disk.at) < FIGURES_LIVE && disk.last.used_share() >= DISK_REFUSES);
        out.host.full_disk =
            full.map(|disk| (now, format!("the disk {} of this machine is full", disk.last.mount)));
    }

    fn judge(&mut self, policy: &HostPolicy, strained: bool, out: &mut Out) {
        let now = out.now.mono;
        let back = if strained { policy.sustained / 3 } else { policy.sustained };
        let mut judged: BTreeMap<HostPart, Judged> = BTreeMap::new();
        judged.insert(HostPart::Cpu, self.judge_cpu(policy, back, now));
        judged.insert(HostPart::Memory, self.judge_memory(policy, back, now));
        for (mount, disk) in &self.disks {
            judged.insert(HostPart::Disk(mount.clone()), judge_disk(disk, policy, now));
        }
        judged.extend(self.errors.judge(now));
        // A part that is not reported any more is unknown.
        for part in self.troubles.keys() {
            judged.entry(part.clone()).or_insert_with(Judged::unknown);
        }
        for (part, judged) in judged {
            let has_incident = self.troubles.get(&part).is_some_and(|trouble| trouble.incident.is_some());
            if judged.near && !has_incident {
                self.ask(inspection_of(&part), out);
            }
            if !has_incident && judged.verdict != Some(true) {
                self.troubles.remove(&part);
                continue;
            }
            if self.troubles.len() < PARTS_MAX || self.troubles.contains_key(&part) {
                self.update(part, judged, out);
            }
        }
        self.add_findings(out);
    }

    fn update(&mut self, part: HostPart, judged: Judged, out: &mut Out) {
        let trouble = self.troubles.entry(part.clone()).or_default();
        trouble.verdict = judged.verdict;
        trouble.missing_since =
            if judged.missing { trouble.missing_since.or(Some(out.now.mono)) } else { None };
        if judged.verdict != Some(true) {
            return;
        }
        if trouble.incident.is_none() && out.windows.machine() {
            return;
        }
        if trouble.incident.is_none() {
            let beginning = Beginning::of(Scope::Host(part.clone()), judged.title);
            let mut open = Open::begin(beginning, None, out);
            let cause = match part {
                HostPart::Cpu | HostPart::Memory => Cause::Overload,
                HostPart::Disk(_) | HostPart::Device(_) => Cause::Hardware,
            };
            open.diagnose(Diagnosis::sure(cause, judged.evidence), out);
            trouble.incident = Some(open);
        }
        let told = trouble.told_findings;
        if !told {
            self.ask(inspection_of(&part), out);
        }
    }

    fn judge_cpu(&self, policy: &HostPolicy, back: Duration, now: Mono) -> Judged {
        let Mean { cpu, throttled, .. } = self.means(back, now);
        let half = self.means(back / 2, now);
        let high = cpu.is_some_and(|cpu| cpu >= policy.cpu_high);
        let stopped = throttled.is_some_and(|share| share >= THROTTLED);
        let low = cpu.is_none_or(|cpu| cpu < policy.cpu_high - CPU_BACK)
            && throttled.is_none_or(|share| share < THROTTLED / 2.0)
            && cpu.or(throttled).is_some();
        let near = half.cpu.is_some_and(|cpu| cpu >= policy.cpu_high)
            || half.throttled.is_some_and(|share| share >= THROTTLED);
        let title = match (cpu, throttled) {
            (_, Some(share)) if stopped && !high => format!(
                "Mainstay and its servers want more processor time than their control group may use: stopped for {} of {}",
                percent(round(share)),
                span(back)
            ),
            (cpu, _) => format!(
                "this machine has no processor time left: {} busy for {}",
                percent(round(cpu.unwrap_or(1.0))),
                span(back)
            ),
        };
        let mut evidence = Vec::new();
        if let Some((_, report)) = &self.latest {
            evidence.extend(cpu_evidence(report));
        }
        Judged { verdict: verdict(high || stopped, low), missing: false, near, title, evidence }
    }

    fn judge_memory(&self, policy: &HostPolicy, back: Duration, now: Mono) -> Judged {
        let Mean { memory: left, thrashing, .. } = self.means(back, now);
        let half = self.means(back / 2, now);
        let thrashes = thrashing.is_some_and(|share| share >= THRASHING);
        let low = left.is_some_and(|left| left <= policy.memory_low);
        let well = left.is_some_and(|left| left > policy.memory_low * MEMORY_BACK)
            && thrashing.is_none_or(|share| share < THRASHING / 2.0);
        let near = half.memory.is_some_and(|left| left <= policy.memory_low)
            || half.thrashing.is_some_and(|share| share >= THRASHING);
        let report = self.latest.as_ref().map(|(_, report)| report);
        let text = report.and_then(memory_text).unwrap_or_else(|| "its figures are not known".to_owned());
        let title = match (low, thrashes) {
            (false, true) => format!("this machine's programs wait for memory most of the time: {text}"),
            _ => format!("this machine is almost out of memory: {text}"),
        };
        let mut evidence = vec![text];
        if let Some(share) = thrashing.filter(|share| *share >= 0.01) {
            evidence.push(format!(
                "programs waited for memory in {} of {}",
                percent(round(share)),
                span(back)
            ));
        }
        if let Some(memory) = report.and_then(|r| r.memory).filter(|m| m.swap_total > 0) {
            let (used, total) = (bytes(memory.swap_used), bytes(memory.swap_total));
            evidence.push(format!("{used} of {total} swap are in use"));
        }
        Judged { verdict: verdict(low || thrashes, well), missing: false, near, title, evidence }
    }

    fn ask(&mut self, inspection: Option<Inspection>, out: &mut Out) {
        let (now, Some(inspection)) = (out.now.mono, inspection) else { return };
        if self.asked.get(&inspection).is_some_and(|at| now.since(*at) < INSPECT_AGAIN) {
            return;
        }
        let disks = &self.disks;
        self.asked.retain(|asked, _| match asked {
            Inspection::Processes => true,
            Inspection::Disk(mount) => disks.contains_key(mount),
        });
        let asked: BTreeSet<&Inspection> = self.asked.keys().collect();
        self.found.retain(|found, _| asked.contains(found));
        self.asked.insert(inspection.clone(), now);
        out.effect(Effect::Inspect(inspection));
    }

    /// Puts what was found lately into the incidents that it explains, once each.
    fn add_findings(&mut self, out: &mut Out) {
        let now = out.now.mono;
        for (part, trouble) in &mut self.troubles {
            let Some(open) = &mut trouble.incident else { continue };
            let found = inspection_of(part).and_then(|inspection| self.found.get(&inspection));
            let Some((at, findings)) = found else { continue };
            if trouble.told_findings || now.since(*at) > INSPECT_AGAIN * 2 {
                continue;
            }
            let Some(text) = findings_text(part, findings, self.latest.as_ref().map(|(_, report)| report))
            else {
                continue;
            };
            trouble.told_findings = true;
            if let Some(diagnosis) = open.incident().diagnosis.clone() {
                let evidence = std::iter::once(text.clone()).chain(diagnosis.evidence.clone()).collect();
                open.edit().diagnosis = Some(Diagnosis { evidence, ..diagnosis.clone() });
            }
            open.entry(EntryKind::Found, None, None, text, out);
        }
    }

    /// Closes what is over, tells and writes down.
    pub(crate) fn tend(&mut self, out: &mut Out) {
        let now = out.now;
        let parts: Vec<HostPart> = self.troubles.keys().cloned().collect();
        for part in parts {
            let Some(trouble) = self.troubles.get_mut(&part) else { continue };
            let Some(mut open) = trouble.incident.take() else { continue };
            let stale = self.latest.as_ref().is_none_or(|(at, _)| now.mono.since(at.mono) > FIGURES_LIVE);
            match trouble.verdict {
                // What is not known any more is not known to be well.
                _ if stale => open.set_quiet(false, now),
                Some(true) => open.set_quiet(false, now),
                Some(false) => open.set_quiet(true, now),
                // Between the thresholds: as it was.
                None => {}
            }
            if open.quiet_since.is_some_and(|since| now.mono >= since + RESOLVE_AFTER) {
                let text = match &part {
                    HostPart::Device(_) => {
                        format!("over: no new errors of {part} for {}", span(faults::CALM_AFTER))
                    }
                    _ => format!("over: {} well for {}", is_or_are(&part), span(RESOLVE_AFTER)),
                };
                self.troubles.remove(&part);
                open.resolve(text, None, out);
                continue;
            }
            if trouble.missing_since.is_some_and(|since| now.mono >= since + GONE_AFTER) {
                let text = format!(
                    "over: nothing was seen of {part} for {}; it is not there, or not watched, any more",
                    span(GONE_AFTER)
                );
                self.troubles.remove(&part);
                open.resolve(text, None, out);
                continue;
            }
            let found = inspection_of(&part).and_then(|inspection| self.found.get(&inspection));
            let advice = advice(&part, found);
            if open.told.due().is_some_and(|due| now.mono >= due) {
                open.tell_opened(advice.clone(), out);
            }
            open.escalate(&advice, out);
            open.write_down(out, false);
            trouble.incident = Some(open);
        }
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        let due = |open: &Open| {
            let quiet = open.quiet_since.map(|since| since + RESOLVE_AFTER);
            [quiet, open.told.due(), open.steps.due(), open.write_due()].into_iter().flatten().min()
        };
        self.troubles.values().filter_map(|trouble| trouble.incident.as_ref()).filter_map(due).min()
    }

    pub(crate) fn incidents(&self) -> impl Iterator<Item = &Open> {
        self.troubles.values().filter_map(|trouble| trouble.incident.as_ref())
    }

    pub(crate) fn incidents_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.troubles.values_mut().filter_map(|trouble| trouble.incident.as_mut())
    }

    /// The figures, while they are live.
    pub(crate) fn snapshot(&self, now: Mono) -> Option<HostSnapshot> {
        let policy = self.policy.clone()?;
        let (at, figures) = self.latest.as_ref().filter(|(at, _)| now.since(at.mono) <= FIGURES_LIVE)?;
        Some(HostSnapshot { at: at.wall, figures: figures.clone(), policy })
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.policy.is_some()
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.disks.len() <= 2 * HostReport::DISKS_MAX
            && self.troubles.len() <= PARTS_MAX
            && self.asked.len() <= 2 * HostReport::DISKS_MAX + 1
            && self.found.len() <= self.asked.len()
            && self.disks.values().all(|disk| disk.trend.is_within_limits())
            && self.errors.is_within_limits()
            && self.means.as_ref().is_none_or(|means| means.ring.len() as u64 <= means.ring.keep())
    }
}

impl Judged {
    fn unknown() -> Self {
        Self { verdict: None, missing: true, near: false, title: String::new(), evidence: Vec::new() }
    }
}

fn verdict(bad: bool, well: bool) -> Option<bool> {
    match (bad, well) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// Programs wait for something most of the time.
fn pressed(mean: &Mean) -> Option<String> {
    let waits = [
        ("a processor", mean.waits_cpu, PRESSED_CPU),
        ("memory", mean.thrashing, PRESSED_MEMORY),
        ("a disk", mean.waits_io, PRESSED_IO),
    ];
    let (what, share) =
        waits.into_iter().find_map(|(what, share, most)| Some((what, share.filter(|s| *s >= most)?)))?;
    Some(format!("programs of this machine wait for {what} in {} of the time", percent(round(share))))
}

/// The network loses what is sent.
fn lossy(mean: &Mean) -> Option<String> {
    if let (Some(sent), Some(again)) = (mean.sent, mean.retransmitted)
        && again >= LOSSY_MIN
        && again >= (sent + again) * LOSSY
    {
        let share = percent(round(again / (sent + again)));
        return Some(format!("this machine has to send {share} of its TCP segments again"));
    }
    let errors = mean.card_errors.filter(|errors| *errors >= CARD_ERRORS)?;
    Some(format!("this machine's network cards count {} a second", count(errors.round() as u64, "error")))
}

fn judge_disk(disk: &DiskState, policy: &HostPolicy, now: Mono) -> Judged {
    if now.since(disk.at) > FIGURES_LIVE * 4 {
        return Judged::unknown();
    }
    let Disk { mount, available, .. } = &disk.last;
    let (share, inodes) = (disk.last.used_share(), disk.last.inode_share().unwrap_or(0.0));
    let soon = disk.forecast.filter(|forecast| forecast.full_in <= policy.disk_full_within);
    let full = share >= policy.disk_full;
    let left = format!("{} used, {} left", percent(round(share)), bytes(*available));
    let title = match (full, soon) {
        (true, _) => format!("{mount} is almost full: {left}"),
        (false, _) if inodes >= policy.disk_full => {
            format!("{mount} is almost out of inodes: {} used", percent(round(inodes)))
        }
        (false, Some(forecast)) => {
            format!("{mount} will be full in about {}: {left}", roughly(forecast.full_in))
        }
        (false, None) => String::new(),
    };
    let mut evidence = vec![format!("{mount}: {left}")];
    if let Some(forecast) = disk.forecast {
        let growth = bytes(forecast.growth as u64);
        evidence.push(format!(
            "it grows by {growth} an hour, and will be full in about {} at that rate",
            roughly(forecast.full_in)
        ));
    }
    let bad = full || inodes >= policy.disk_full || soon.is_some();
    let well =
        share < policy.disk_full - DISK_BACK && inodes < policy.disk_full - DISK_BACK && soon.is_none();
    Judged { verdict: verdict(bad, well), missing: false, near: false, title, evidence }
}

/// The share of memory that is left: of the machine, or of the control group where that is tighter.
fn memory_left(report: &HostReport) -> Option<f64> {
    let machine = report.memory.filter(|m| m.total > 0).map(|m| m.available as f64 / m.total as f64);
    [machine, group_memory_left(report.group)].into_iter().flatten().reduce(f64::min)
}

fn group_memory_left(group: Option<Group>) -> Option<f64> {
    let (max, used) = group?.memory.filter(|(max, _)| *max > 0)?;
    Some(max.saturating_sub(used) as f64 / max as f64)
}

fn memory_text(report: &HostReport) -> Option<String> {
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

fn cpu_evidence(report: &HostReport) -> Vec<String> {
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

fn inspection_of(part: &HostPart) -> Option<Inspection> {
    match part {
        HostPart::Cpu | HostPart::Memory => Some(Inspection::Processes),
        HostPart::Disk(mount) => Some(Inspection::Disk(mount.clone())),
        HostPart::Device(_) => None,
    }
}

/// What was found as one sentence; `None` when nothing was.
fn findings_text(part: &HostPart, findings: &Findings, report: Option<&HostReport>) -> Option<String> {
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
fn advice(part: &HostPart, found: Option<&(Mono, Findings)>) -> String {
    let first =
        |list: &[ProcessFound]| list.first().map(|found| format!("{} (pid {})", found.name, found.pid));
    let found = found.map(|(_, findings)| findings);
    match (part, found) {
        (HostPart::Cpu, Some(Findings::Processes { by_cpu, .. })) if !by_cpu.is_empty() => format!(
            "Look at {}: stop it, move it elsewhere, or give this machine more processors",
            first(by_cpu).unwrap_or_default()
        ),
        (HostPart::Memory, Some(Findings::Processes { by_memory, .. })) if !by_memory.is_empty() => format!(
            "Look at {}: restart it if it leaks, move it elsewhere, or give this machine more memory; when none is left \
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

fn is_or_are(part: &HostPart) -> String {
    match part {
        HostPart::Cpu => format!("{part} have been"),
        HostPart::Memory | HostPart::Disk(_) | HostPart::Device(_) => format!("{part} has been"),
    }
}

/// `3h`, `40m`, `under a minute`: a forecast is no measurement.
fn roughly(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => "a minute".to_owned(),
        seconds @ 60..7200 => span(Duration::from_secs(seconds / 60 * 60)),
        seconds => span(Duration::from_secs(seconds / 3600 * 3600)),
    }
}

/// To a whole percent.
fn round(share: f64) -> f64 {
    (share * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
