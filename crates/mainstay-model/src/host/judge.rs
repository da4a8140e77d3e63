//! What the judge makes of a machine's figures: when its processors, its memory or a disk are an incident, and what
//! other incidents are told of it. It is the one that Mainstay runs on, or another one that tells its figures less often.
//!
//! Processors and memory are judged by their mean over `sustained`, so that a busy second is no news; while visitors of a
//! service wait or are turned away, a third of that is enough. A disk is judged as it is. Each has a lower threshold
//! that it must pass again before the incident is over. A figure that is unknown neither opens an incident nor ends one. What
//! a disk reports of itself is in `faults`.
//!
//! Halfway to an incident, and when it opens, the judge asks which processes it is, or what fills the disk
//! ([`Effect::Inspect`]); the answer becomes evidence.

mod faults;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use self::faults::DeviceErrors;
use self::told::{
    advice, cpu_evidence, findings_text, is_or_are, lossy, memory_text, pressed, roughly, round,
};
use super::trend::{Forecast, Trend};
use super::{
    Disk, Findings, Group, HostPart, HostPolicy, HostReport, HostSnapshot, Inspection, MachinePolicy,
    MachineSnapshot,
};
use crate::cause::{Cause, Diagnosis};
use crate::effect::Effect;
use crate::id::{MachineId, ServerId};
use crate::incident::{EntryKind, Incident, Scope};
use crate::open::{Beginning, Open};
use crate::out::Out;
use crate::time::{Mono, Now, Wall};
use crate::traffic::Ring;
use crate::words::{bytes, percent, span};

/// What Mainstay's own machine is called.
const HERE: &str = "this machine";
/// Between two reports of it.
const EVERY: Duration = Duration::from_secs(1);
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

/// What a machine's state means for services. Kept where all of them can see it.
#[derive(Debug, Default)]
pub(crate) struct HostView {
    /// It is another one, at these addresses.
    elsewhere: Option<(MachineId, Vec<IpAddr>)>,
    /// Figures that are older say nothing any more; at least [`FIGURES_LIVE`].
    live: Duration,
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
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        self.elsewhere.as_ref().map_or(HERE, |(id, _)| id.as_str())
    }

    /// It is another one, and whoever listens at this address runs on it.
    pub(crate) fn is_at(&self, ip: IpAddr) -> bool {
        self.elsewhere.as_ref().is_some_and(|(_, addresses)| addresses.contains(&ip))
    }

    /// What was said lately.
    fn lately<'a>(&self, said: Option<&'a (Mono, String)>, now: Mono) -> Option<&'a str> {
        let live = self.live.max(FIGURES_LIVE);
        said.filter(|(at, _)| now.since(*at) <= live).map(|(_, text)| text.as_str())
    }

    /// How the machine is saturated, if it is.
    pub(crate) fn saturated(&self, now: Mono) -> Option<&str> {
        self.lately(self.saturated.as_ref(), now)
    }

    /// A disk of this machine takes no more writes.
    pub(crate) fn full_disk(&self, now: Mono) -> Option<&str> {
        let live = self.live.max(FIGURES_LIVE) * 4;
        self.full_disk.as_ref().filter(|(at, _)| now.since(*at) <= live).map(|(_, text)| text.as_str())
    }

    /// A disk of this machine reports errors.
    pub(crate) fn failing_disk(&self, now: Mono) -> Option<&str> {
        self.lately(self.failing_disk.as_ref(), now)
    }

    /// The network of this machine loses much of what is sent.
    pub(crate) fn lossy(&self, now: Mono) -> Option<&str> {
        self.lately(self.lossy.as_ref(), now)
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

/// A machine.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// It is another one than Mainstay's own.
    elsewhere: Option<Elsewhere>,
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

/// Another machine than Mainstay's own.
#[derive(Debug)]
struct Elsewhere {
    id: MachineId,
    addresses: Vec<IpAddr>,
    /// Between two reports.
    interval: Duration,
    /// Why nothing could be read the last time.
    trouble: Option<String>,
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
    /// Another machine, of which the config has yet to say more.
    pub(crate) fn elsewhere(id: MachineId) -> Self {
        let elsewhere = Elsewhere { id, addresses: Vec::new(), interval: Duration::ZERO, trouble: None };
        Self { elsewhere: Some(elsewhere), ..Self::default() }
    }

    /// What it is called.
    fn name(&self) -> &str {
        self.elsewhere.as_ref().map_or(HERE, |elsewhere| elsewhere.id.as_str())
    }

    /// Between two reports.
    fn interval(&self) -> Duration {
        self.elsewhere.as_ref().map_or(EVERY, |elsewhere| elsewhere.interval.max(EVERY))
    }

    /// Figures that are older say nothing any more.
    fn live(&self) -> Duration {
        FIGURES_LIVE.max(self.interval().mul_f64(2.5))
    }

    fn scope(&self, part: HostPart) -> Scope {
        match &self.elsewhere {
            Some(Elsewhere { id, .. }) => Scope::Machine { machine: id.clone(), part },
            None => Scope::Host(part),
        }
    }

    /// Where services see what it means for them.
    fn view<'a>(&self, out: &'a mut Out) -> &'a mut HostView {
        match &self.elsewhere {
            Some(Elsewhere { id, .. }) => out.machines.entry(id.clone()).or_default(),
            None => &mut out.host,
        }
    }

    /// A changed config of another machine.
    pub(crate) fn apply_elsewhere(&mut self, policy: &MachinePolicy, out: &mut Out) {
        if let Some(elsewhere) = &mut self.elsewhere {
            if elsewhere.interval != policy.interval {
                elsewhere.interval = policy.interval;
                self.means = None;
            }
            elsewhere.addresses.clone_from(&policy.addresses);
            let known = Some((elsewhere.id.clone(), policy.addresses.clone()));
            let live = self.live();
            let view = self.view(out);
            (view.elsewhere, view.live) = (known, live);
        }
        self.apply(Some(policy.limits.clone()), out);
    }

    /// It has left the config.
    pub(crate) fn leave(mut self, out: &mut Out) {
        self.apply(None, out);
        if let Some(Elsewhere { id, .. }) = &self.elsewhere {
            out.machines.remove(id);
        }
    }

    /// What was read of another machine, or why nothing could be.
    pub(crate) fn on_news(&mut self, news: &Result<HostReport, String>, strained: bool, out: &mut Out) {
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.trouble = news.as_ref().err().cloned();
        }
        if let Ok(report) = news {
            self.on_report(report, strained, out);
        }
    }

    /// Another machine as people and programs see it.
    pub(crate) fn machine(&self, now: Mono) -> Option<MachineSnapshot> {
        let Elsewhere { id, addresses, trouble, .. } = self.elsewhere.as_ref()?;
        let (id, addresses) = (id.clone(), addresses.clone());
        Some(MachineSnapshot { id, addresses, now: self.snapshot(now), trouble: trouble.clone() })
    }

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
        *self.view(out) = HostView::default();
        for trouble in std::mem::take(&mut self.troubles).into_values() {
            if let Some(open) = trouble.incident {
                open.resolve(format!("{} is no longer watched", self.name()), None, out);
            }
        }
    }

    /// An earlier run left this incident open.
    pub(crate) fn restore(&mut self, incident: Incident, last_alive: Option<Wall>, out: &mut Out) {
        let (Scope::Host(part) | Scope::Machine { part, .. }) = incident.scope.clone() else { return };
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
                self.view(out).oom = Some(now);
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
        let over = self.at_least_three(policy.sustained);
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

    /// A mean is over three reports or more.
    fn at_least_three(&self, over: Duration) -> Duration {
        over.max(self.interval() * 3)
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
        let enough = (back.as_secs_f64() / self.interval().as_secs_f64() * COVERED_MIN).max(1.0);
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
        let (open, remembered) = (&self.troubles, self.live() * 12);
        // One that is not reported any more is remembered only while it has an incident.
        self.disks.retain(|mount, state| {
            now.since(state.at) < remembered || open.contains_key(&HostPart::Disk(mount.clone()))
        });
    }

    /// What services are told: by the last seconds, whether or not it is an incident of the machine's yet.
    fn tell_services(&self, policy: &HostPolicy, out: &mut Out) {
        let now = out.now.mono;
        let (name, mean) = (self.name(), self.means(self.at_least_three(FIGURES_LIVE), now));
        let saturated = match (mean.cpu, mean.throttled, mean.memory) {
            (Some(cpu), ..) if cpu >= policy.cpu_high => {
                Some(format!("{name}'s processors are {} busy", percent(round(cpu))))
            }
            (_, Some(throttled), _) if throttled >= THROTTLED => {
                Some("Mainstay's control group has used up the processor time that it may use".to_owned())
            }
            (.., Some(left)) if left <= policy.memory_low => {
                Some(format!("{name} has {} of its memory left", percent(round(left))))
            }
            _ => pressed(name, &mean),
        };
        let full = self
            .disks
            .values()
            .find(|disk| now.since(disk.at) < self.live() && disk.last.used_share() >= DISK_REFUSES);
        let full = full.map(|disk| (now, format!("the disk {} of {name} is full", disk.last.mount)));
        let lossy = lossy(name, &mean).map(|text| (now, text));
        let failing = self.errors.failing(name, now).map(|text| (now, text));
        let view = self.view(out);
        view.saturated = saturated.map(|text| (now, text));
        (view.lossy, view.failing_disk, view.full_disk) = (lossy, failing, full);
    }

    fn judge(&mut self, policy: &HostPolicy, strained: bool, out: &mut Out) {
        let now = out.now.mono;
        let back = self.at_least_three(if strained { policy.sustained / 3 } else { policy.sustained });
        let mut judged: BTreeMap<HostPart, Judged> = BTreeMap::new();
        judged.insert(HostPart::Cpu, self.judge_cpu(policy, back, now));
        judged.insert(HostPart::Memory, self.judge_memory(policy, back, now));
        for (mount, disk) in &self.disks {
            judged.insert(HostPart::Disk(mount.clone()), self.judge_disk(disk, policy, now));
        }
        judged.extend(self.errors.judge(self.name(), now));
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
        let scope = self.scope(part.clone());
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
            let beginning = Beginning::of(scope, judged.title);
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
                "{} has no processor time left: {} busy for {}",
                self.name(),
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
        let name = self.name();
        let title = match (low, thrashes) {
            (false, true) => format!("{name}'s programs wait for memory most of the time: {text}"),
            _ => format!("{name} is almost out of memory: {text}"),
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

    fn judge_disk(&self, disk: &DiskState, policy: &HostPolicy, now: Mono) -> Judged {
        if now.since(disk.at) > self.live() * 4 {
            return Judged::unknown();
        }
        let Disk { mount, available, .. } = &disk.last;
        let mount = match &self.elsewhere {
            Some(Elsewhere { id, .. }) => format!("{mount} of {id}"),
            None => mount.clone(),
        };
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

    fn ask(&mut self, inspection: Option<Inspection>, out: &mut Out) {
        // Nobody can look into another machine.
        let inspection = inspection.filter(|_| self.elsewhere.is_none());
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
        let (now, live, name) = (out.now, self.live(), self.name().to_owned());
        let parts: Vec<HostPart> = self.troubles.keys().cloned().collect();
        for part in parts {
            let Some(trouble) = self.troubles.get_mut(&part) else { continue };
            let Some(mut open) = trouble.incident.take() else { continue };
            let stale = self.latest.as_ref().is_none_or(|(at, _)| now.mono.since(at.mono) > live);
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
                        format!("over: no new errors of {} for {}", part.of(&name), span(faults::CALM_AFTER))
                    }
                    _ => format!("over: {} well for {}", is_or_are(&name, &part), span(RESOLVE_AFTER)),
                };
                self.troubles.remove(&part);
                open.resolve(text, None, out);
                continue;
            }
            if trouble.missing_since.is_some_and(|since| now.mono >= since + GONE_AFTER) {
                let text = format!(
                    "over: nothing was seen of {} for {}; it is not there, or not watched, any more",
                    part.of(&name),
                    span(GONE_AFTER)
                );
                self.troubles.remove(&part);
                open.resolve(text, None, out);
                continue;
            }
            let found = inspection_of(&part).and_then(|inspection| self.found.get(&inspection));
            let mut advice = advice(&name, &part, found);
            if self.elsewhere.is_some() {
                advice = format!("On {name}: {advice}");
            }
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
        let (at, figures) = self.latest.as_ref().filter(|(at, _)| now.since(at.mono) <= self.live())?;
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

/// The share of memory that is left: of the machine, or of the control group where that is tighter.
fn memory_left(report: &HostReport) -> Option<f64> {
    let machine = report.memory.filter(|m| m.total > 0).map(|m| m.available as f64 / m.total as f64);
    [machine, group_memory_left(report.group)].into_iter().flatten().reduce(f64::min)
}

fn group_memory_left(group: Option<Group>) -> Option<f64> {
    let (max, used) = group?.memory.filter(|(max, _)| *max > 0)?;
    Some(max.saturating_sub(used) as f64 / max as f64)
}

fn inspection_of(part: &HostPart) -> Option<Inspection> {
    match part {
        HostPart::Cpu | HostPart::Memory => Some(Inspection::Processes),
        HostPart::Disk(mount) => Some(Inspection::Disk(mount.clone())),
        HostPart::Device(_) => None,
    }
}

#[cfg(test)]
mod tests;
