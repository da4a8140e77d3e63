//! Why it happened: what an incident is put down to, with the evidence, because the cause decides which action is right.
//!
//! The rules for an incident of a service, in the order in which they are asked; the first that holds is the cause:
//!
//! | cause | when |
//! | --- | --- |
//! | attack | a few networks make most of the requests (see `load`), and did before the first server failed |
//! | hardware | the kernel killed a server of this machine for want of memory, or a disk of a machine is full or reports errors while servers on it fail |
//! | overload | there are more requests than can be answered (see `load`), and were before the first server failed |
//! | crash | a server's process ended, or nothing listens where it should, or it accepts and does not answer |
//! | network | there is no way to a server, or connections to it are not accepted in time |
//! | unknown | servers answer with errors, or nothing of all that is the case |
//!
//! What comes later may turn out to be the cause of what came first, so a diagnosis is replaced by a stronger one
//! ([`Cause::strength`]) and never by a weaker. Those that somebody else proves by a measurement of its own (a bad update, DNS,
//! a certificate, a dependency) are the strongest: no rule here replaces them.
//!
//! How sure that is, is said with it:
//!
//! | confidence | when |
//! | --- | --- |
//! | high | it was seen itself: a process ended, the kernel killed, nothing listens, a disk is full or reports errors, a measurement of its own proves it, requests are turned away |
//! | medium | it follows from what was seen, and something else might look the same: a server hangs, there is no way to it, all are late alike |
//! | low | nothing points at a cause |
//!
//! A second witness raises medium to high: real requests that fail the same way, or a second server that shows the same.
//!
//! An incident of the machine itself is an overload (processors, memory) or hardware (disks) by what it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::host::judge::HostView;
use crate::incident::EntryKind;
use crate::input::{Exit, ProbeFailure};
use crate::load::{Established, Strain};
use crate::open::Open;
use crate::out::Out;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Mono;

/// Sentences of evidence in one diagnosis.
const EVIDENCE_MAX: usize = 8;
/// Evidence is brought up to date no oftener than this.
const EVIDENCE_EVERY: Duration = Duration::from_secs(10);
/// A strain that began so much after the incident is still its cause: it takes seconds to be sure of one.
const STRAIN_MARGIN: Duration = Duration::from_secs(2);

/// What an incident is put down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// More honest traffic than there is capacity for.
    Overload,
    /// A full disk or one that fails, memory that ran out, a machine that failed.
    Hardware,
    /// A release that is worse than the one before it.
    BadUpdate,
    /// The way to the servers.
    Network,
    /// A flood of requests from few addresses.
    Attack,
    /// Something that the servers themselves need.
    Dependency,
    /// A certificate that has expired or is of another host.
    Certificate,
    /// Names that lead nowhere or to a dead address.
    Dns,
    /// A server's own process: it crashed or hangs.
    Crash,
    /// Nothing points at one of the others.
    Unknown,
}

impl Cause {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Overload => "overload",
            Cause::Hardware => "hardware",
            Cause::BadUpdate => "bad update",
            Cause::Network => "network",
            Cause::Attack => "attack",
            Cause::Dependency => "dependency",
            Cause::Certificate => "certificate",
            Cause::Dns => "DNS",
            Cause::Crash => "crash",
            Cause::Unknown => "unknown",
        }
    }

    /// A diagnosis gives way to one of a cause that is stronger, never to one that is weaker.
    pub fn strength(self) -> u8 {
        match self {
            Cause::Unknown => 0,
            Cause::Network => 1,
            Cause::Crash => 2,
            Cause::Overload => 3,
            Cause::Hardware => 4,
            Cause::Attack => 5,
            Cause::BadUpdate | Cause::Dependency | Cause::Certificate | Cause::Dns => 6,
        }
    }

    /// The cause as part of a sentence: "put down to …".
    pub fn in_words(self) -> &'static str {
        match self {
            Cause::Overload => "overload",
            Cause::Hardware => "a fault of the hardware, or what it has run out of",
            Cause::BadUpdate => "a bad update",
            Cause::Network => "the network",
            Cause::Attack => "an attack",
            Cause::Dependency => "something that the servers need",
            Cause::Certificate => "a certificate",
            Cause::Dns => "DNS",
            Cause::Crash => "a crash",
            Cause::Unknown => "nothing in particular",
        }
    }
}

/// How sure a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Nothing points at a cause.
    #[default]
    Low,
    /// It follows from what was seen, and something else might look the same.
    Medium,
    /// It was seen itself, or two witnesses say so.
    High,
}

impl Confidence {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

/// A cause with what speaks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// How sure it is.
    #[serde(default)]
    pub confidence: Confidence,
    /// The cause.
    pub cause: Cause,
    /// What speaks for it, one sentence each without a full stop, the strongest first.
    pub evidence: Vec<String>,
}

impl Diagnosis {
    /// What was seen itself, or is proven by a measurement of its own.
    pub fn sure(cause: Cause, evidence: Vec<String>) -> Self {
        Self { cause, confidence: Confidence::High, evidence }
    }

    /// What follows from what one witness saw.
    pub(crate) fn likely(cause: Cause, evidence: Vec<String>) -> Self {
        let confidence = if cause == Cause::Unknown { Confidence::Low } else { Confidence::Medium };
        Self { cause, confidence, evidence }
    }

    /// The cause and how sure it is: `crash, confidence high`.
    pub fn in_words(&self) -> String {
        format!("{}, confidence {}", self.cause.as_str(), self.confidence.as_str())
    }
}

impl Open {
    /// Puts the incident down to this cause, unless a stronger one is known already.
    pub(crate) fn diagnose(&mut self, mut diagnosis: Diagnosis, out: &mut Out) {
        diagnosis.evidence.truncate(EVIDENCE_MAX);
        let now = out.now.mono;
        let known = self.incident().diagnosis.as_ref();
        match known {
            Some(known) if known.cause.strength() > diagnosis.cause.strength() => return,
            Some(known) if known.cause == diagnosis.cause && known.confidence >= diagnosis.confidence => {
                diagnosis.confidence = known.confidence;
                let early = self.diagnosed_at.is_some_and(|at| now.since(at) < EVIDENCE_EVERY);
                // When there is nothing more to see, what was seen stands.
                if early || *known == diagnosis || diagnosis.evidence.len() < known.evidence.len() {
                    return;
                }
            }
            _ => {
                let first = diagnosis.evidence.first().map(|text| format!(": {text}")).unwrap_or_default();
                let news = known.is_none_or(|known| known.cause != diagnosis.cause);
                // Of a crash the title and the timeline tell already.
                if news && !matches!(diagnosis.cause, Cause::Crash | Cause::Unknown | Cause::Network) {
                    let text = format!("put down to {}{first}", diagnosis.cause.in_words());
                    self.entry(EntryKind::Diagnosed, None, None, text, out);
                }
            }
        }
        self.diagnosed_at = Some(now);
        self.edit().diagnosis = Some(diagnosis);
    }
}

impl Service {
    /// What the service's incident is put down to as things stand; `None` when nothing new is to be said.
    pub(crate) fn diagnosis(&self, out: &Out) -> Option<Diagnosis> {
        let open = self.incident.as_ref()?;
        let now = out.now.mono;
        let strain = self.load.strain();
        let in_time = |s: &Established| s.since <= open.began + STRAIN_MARGIN;
        let saturated = self.saturated(out, now);
        // That all are late alike is how a slow database behind them looks too.
        let turned_away = strain.is_some_and(|s| s.hurts);
        let confidence = if turned_away { Confidence::High } else { Confidence::Medium };
        let strained =
            |cause| Some(Diagnosis { cause, confidence, evidence: self.load.evidence(saturated, now) });
        if strain.is_some_and(|s| s.strain == Strain::Attack && in_time(&s)) {
            return strained(Cause::Attack);
        }
        if let Some(evidence) = self.hardware(out) {
            return Some(Diagnosis::sure(Cause::Hardware, evidence));
        }
        if strain.is_some_and(|s| s.strain == Strain::Overload && in_time(&s)) {
            return strained(Cause::Overload);
        }
        let mut diagnosis = self.by_servers(now)?;
        // A strain that came later is what the fault led to.
        if strain.is_some() {
            diagnosis.evidence.extend(self.load.evidence(saturated, now));
        }
        // A server that is not there makes segments be sent again too, so this proves nothing by itself.
        if diagnosis.confidence != Confidence::High || diagnosis.cause == Cause::Network {
            let faulty = self.servers.values().filter(|s| s.at_fault).filter_map(|s| machine_of(s, out));
            let lossy = faulty.chain([&out.host]).find_map(|view| view.lossy(now));
            diagnosis.evidence.extend(lossy.map(str::to_owned));
        }
        Some(diagnosis)
    }

    /// How a machine that servers of it run on is saturated, if one is.
    pub(crate) fn saturated<'a>(&self, out: &'a Out, now: Mono) -> Option<&'a str> {
        self.servers.values().find_map(|server| machine_of(server, out)?.saturated(now))
    }

    /// A machine has run out of memory or disk, or a disk fails, and servers that run on it fail.
    fn hardware(&self, out: &Out) -> Option<Vec<String>> {
        let killed = |s: &Server| {
            let killed = s.process.last_exit == Some(Exit::Signal(9)) && !s.process.last_exit_asked;
            killed && s.process.ended_at.is_some_and(|at| out.host.out_of_memory_near(at))
        };
        let killed: Vec<String> = self
            .servers
            .iter()
            .filter(|(_, s)| killed(s))
            .map(|(id, _)| format!("the kernel killed {}'s process because memory had run out", id.name))
            .collect();
        if !killed.is_empty() {
            return Some(killed);
        }
        let now = out.now.mono;
        self.servers.iter().filter(|(_, s)| s.at_fault).find_map(|(id, s)| {
            let view = machine_of(s, out)?;
            let disk = view.failing_disk(now).or_else(|| view.full_disk(now))?;
            Some(vec![disk.to_owned(), format!("{} runs on {} and fails", id.name, view.name())])
        })
    }

    /// What the servers that are at fault show by themselves.
    fn by_servers(&self, now: Mono) -> Option<Diagnosis> {
        let faulty = self.servers.iter().filter(|(_, s)| s.at_fault);
        let mut found: Vec<(Cause, Confidence, String)> =
            faulty.map(|(id, s)| raised(sign_of(&id.name, s), s, now)).collect();
        if found.is_empty() {
            return None;
        }
        found.sort_by_key(|(cause, sure, _)| std::cmp::Reverse((cause.strength(), *sure)));
        let (cause, mut confidence, _) = found[0];
        found.retain(|(other, ..)| *other == cause);
        if confidence == Confidence::Medium && found.len() > 1 {
            confidence = Confidence::High;
        }
        let evidence = found.into_iter().map(|(.., text)| text);
        Some(Diagnosis { cause, confidence, evidence: evidence.take(EVIDENCE_MAX).collect() })
    }
}

/// The machine that a server runs on, if its figures are known.
fn machine_of<'a>(server: &Server, out: &'a Out) -> Option<&'a HostView> {
    let ip = server.address.as_ref().and_then(Endpoint::ip).filter(|_| !server.policy.supervised);
    let other = ip.and_then(|ip| out.machines.values().find(|view| view.is_at(ip)));
    let is_here = || server.policy.supervised || server.address.as_ref().is_some_and(Endpoint::is_here);
    other.or_else(|| is_here().then_some(&out.host))
}

/// Real requests that fail the same way are a second witness.
fn raised(
    (cause, confidence, text): (Cause, Confidence, String),
    server: &Server,
    now: Mono,
) -> (Cause, Confidence, String) {
    let agrees = confidence == Confidence::Medium
        && server.traffic.last_failure.is_some_and(|at| now.since(at) <= EVIDENCE_EVERY);
    (cause, if agrees { Confidence::High } else { confidence }, text)
}

/// What a failing server shows: the cause, how sure it is, and a sentence.
fn sign_of(name: &str, server: &Server) -> (Cause, Confidence, String) {
    let (cause, text) = shown_by(name, server);
    let confidence = match (cause, &server.probes.last_result) {
        (Cause::Unknown, _) => Confidence::Low,
        (
            Cause::Crash,
            Some(ProbeFailure::AnswerTimeout | ProbeFailure::Reset | ProbeFailure::BrokenOff(_)),
        ) if !server.is_ended() => Confidence::Medium,
        (Cause::Network, _) => Confidence::Medium,
        _ => Confidence::High,
    };
    (cause, confidence, text)
}

fn shown_by(name: &str, server: &Server) -> (Cause, String) {
    // What Mainstay itself does to mend it is not what was wrong.
    if server.is_ended() && server.process.last_exit_asked {
        return (Cause::Unknown, format!("{name} is being started anew"));
    }
    if server.process.pid.is_some() && server.process.last_exit_asked && !server.probes.passed {
        return (Cause::Unknown, format!("{name} was started anew and has yet to answer"));
    }
    if let Some(ended) = server.process.ended.as_ref().filter(|_| server.is_ended()) {
        return (Cause::Crash, format!("{name}'s process {ended}"));
    }
    let failure = server.probes.last_result.as_ref().filter(|_| server.probes.verdict == Verdict::Bad);
    match failure {
        Some(ProbeFailure::Refused) => {
            (Cause::Crash, format!("{name} refuses connections: nothing listens there"))
        }
        Some(ProbeFailure::NoSocket(why)) => (Cause::Crash, format!("{name} does not listen: {why}")),
        // There is no network on the way to a Unix socket: it is the socket's own fault, its permissions for one.
        Some(ProbeFailure::Unreachable(why)) if matches!(server.address, Some(Endpoint::Unix(_))) => {
            (Cause::Unknown, format!("{name} cannot be reached: {why}"))
        }
        Some(ProbeFailure::AnswerTimeout) => {
            (Cause::Crash, format!("{name} hangs: it accepts connections and does not answer"))
        }
        Some(ProbeFailure::Reset) => {
            (Cause::Crash, format!("{name} breaks connections off before it has answered"))
        }
        Some(ProbeFailure::BrokenOff(why)) => (Cause::Crash, format!("{name} {why}")),
        Some(failure @ (ProbeFailure::Unreachable(_) | ProbeFailure::ConnectTimeout)) => {
            (Cause::Network, format!("{name} cannot be reached: it {failure}"))
        }
        Some(failure @ ProbeFailure::Certificate(_)) => (Cause::Certificate, format!("{name} {failure}")),
        Some(failure) => (Cause::Unknown, format!("{name} {failure}")),
        None => {
            let slow = server.ejection.as_ref().is_some_and(|ejection| ejection.for_slowness);
            let gray = server.witnesses.gray.as_ref().map(|gray| format!("is {gray}"));
            let how = if slow { "is slow" } else { gray.as_deref().unwrap_or("fails real requests") };
            let rule =
                server.ejection.as_ref().map(|e| e.reason.clone()).or_else(|| server.condemned.clone());
            if let (None, Some(slowed)) = (&rule, server.pace.slowed()) {
                return (Cause::Unknown, format!("{name} is {slowed}"));
            }
            (Cause::Unknown, format!("{name} {how}: {}", rule.unwrap_or_else(|| server.rule.clone())))
        }
    }
}

/// When an incident of this beginning began for the judge.
pub(crate) fn began(first_sign: crate::time::Wall, now: crate::time::Now) -> Mono {
    let ago = u64::try_from(now.wall.ms_since(first_sign)).unwrap_or(0);
    Mono(now.mono.0.saturating_sub(ago.saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Disk, HostPolicy, HostReport, IoErrors, Tcp};
    use crate::input::{FailureKind, Input};
    use crate::testing::{Bench, app, policy};

    const SECOND: Duration = Duration::from_secs(1);

    fn diagnosis(bench: &Bench) -> Diagnosis {
        bench.incidents()[0].diagnosis.clone().expect("a diagnosis")
    }

    fn watched(servers: u32, supervised: bool) -> Bench {
        let mut policy = policy(servers, supervised);
        policy.host = Some(HostPolicy::default());
        Bench::settled(policy)
    }

    #[test]
    fn a_process_that_ended_is_a_crash() {
        let mut bench = Bench::settled(policy(2, true));
        bench.crash(&app(2));
        let found = diagnosis(&bench);
        assert_eq!(
            (found.cause, found.evidence[0].as_str()),
            (Cause::Crash, "app-2's process was killed by SIGKILL")
        );
        assert!(!bench.kinds().contains(&EntryKind::Diagnosed), "its title says so already");
    }

    #[test]
    fn what_probes_saw_tells_a_crash_from_a_hang_and_from_the_way_there() {
        for (failure, cause, words) in [
            (ProbeFailure::Refused, Cause::Crash, "nothing listens there"),
            (ProbeFailure::NoSocket("/run/app.sock does not exist".into()), Cause::Crash, "does not listen"),
            (ProbeFailure::AnswerTimeout, Cause::Crash, "hangs"),
            (
                ProbeFailure::BrokenOff("broke off after 7 of 99 bytes".into()),
                Cause::Crash,
                "app-1 broke off",
            ),
            (ProbeFailure::Unreachable("no route to host".into()), Cause::Network, "cannot be reached"),
            (ProbeFailure::Status(500), Cause::Unknown, "answered status 500"),
        ] {
            let mut bench = Bench::settled(policy(2, false));
            bench.is_bad(&app(1), failure);
            bench.advance(SECOND * 5);
            let found = diagnosis(&bench);
            assert_eq!(found.cause, cause, "{found:?}");
            assert!(found.evidence[0].contains(words), "{found:?}");
        }
    }

    #[test]
    fn a_unix_socket_that_may_not_be_opened_is_not_the_networks_fault() {
        let mut bench = Bench::settled(policy(2, false));
        bench.tell(Input::Address { server: app(1), address: Some(Endpoint::Unix("/run/app.sock".into())) });
        bench.is_bad(&app(1), ProbeFailure::Unreachable("Mainstay may not connect to it".into()));
        bench.advance(SECOND * 5);
        assert_eq!(diagnosis(&bench).cause, Cause::Unknown);
    }

    #[test]
    fn a_kill_for_want_of_memory_is_the_hardwares() {
        for (kills_after, wanted) in [(1, Cause::Hardware), (0, Cause::Crash)] {
            let mut bench = watched(2, true);
            let report = |kills| Input::Host(HostReport { oom_kills: Some(kills), ..HostReport::default() });
            bench.tell(report(7));
            bench.advance(SECOND);
            bench.crash(&app(2));
            bench.advance(SECOND / 2);
            bench.tell(report(7 + kills_after));
            assert_eq!(diagnosis(&bench).cause, wanted);
        }
    }

    #[test]
    fn a_full_disk_is_the_hardwares_while_servers_of_this_machine_fail() {
        let mut bench = watched(2, true);
        let disk = Disk { mount: "/var".into(), used: 1000, available: 1, ..Disk::default() };
        bench.tell(Input::Host(HostReport { disks: vec![disk], ..HostReport::default() }));
        bench.crash(&app(1));
        let found = bench.incidents().iter().find(|i| i.title.contains("app-1")).cloned().unwrap();
        let found = found.diagnosis.clone().unwrap();
        assert_eq!(
            (found.cause, found.evidence[0].as_str()),
            (Cause::Hardware, "the disk /var of this machine is full")
        );
    }

    #[test]
    fn a_disk_that_reports_errors_is_the_hardwares_while_servers_of_this_machine_fail() {
        let report = |count| {
            let errors = IoErrors { device: "sda1".into(), filesystem: Some("ext4".into()), count };
            Input::Host(HostReport { io_errors: vec![errors], ..HostReport::default() })
        };
        for (before, after, wanted) in [(3, 4, Cause::Hardware), (3, 3, Cause::Crash)] {
            let mut bench = watched(2, true);
            bench.tell(report(before));
            bench.advance(SECOND);
            bench.tell(report(after));
            bench.crash(&app(1));
            let incident = bench.incidents().iter().find(|i| i.title.contains("app-1")).cloned().unwrap();
            let found = incident.diagnosis.clone().unwrap();
            assert_eq!(found.cause, wanted, "{found:?}");
            if wanted == Cause::Hardware {
                assert_eq!(found.evidence[0], "the disk sda1 (ext4) of this machine reports errors");
            }
        }
    }

    #[test]
    fn segments_that_are_sent_again_speak_for_the_network() {
        let tcp = Tcp { sent: 80.0, retransmitted: 20.0, ..Tcp::default() };
        let mut bench = watched(2, false);
        bench.is_bad(&app(1), ProbeFailure::ConnectTimeout);
        for _ in 0..15 {
            bench.tell(Input::Host(HostReport { tcp: Some(tcp), ..HostReport::default() }));
            bench.advance(SECOND);
            bench.attempts(&app(2), 10, 0, 0);
        }
        let found = diagnosis(&bench);
        assert_eq!(found.cause, Cause::Network);
        let said = "this machine has to send 20% of its TCP segments again";
        assert!(found.evidence.iter().any(|text| text == said), "{found:?}");
    }

    #[test]
    fn a_diagnosis_gives_way_to_a_stronger_one_only() {
        let mut bench = Bench::settled(policy(2, true));
        bench.crash(&app(2));
        let service = bench.model.services.values_mut().next().unwrap();
        let open = service.incident.as_mut().unwrap();
        let proven = Diagnosis::sure(Cause::BadUpdate, vec!["it began with the release".into()]);
        open.diagnose(proven.clone(), &mut bench.model.out);
        bench.advance(SECOND * 5);
        bench.crash(&app(1));
        assert_eq!(diagnosis(&bench), proven);
        assert!(bench.kinds().contains(&EntryKind::Diagnosed));
    }

    #[test]
    fn how_sure_a_cause_is_depends_on_what_was_seen_and_by_how_many() {
        for (failure, alone, with_requests) in [
            (ProbeFailure::Refused, Confidence::High, Confidence::High),
            (ProbeFailure::AnswerTimeout, Confidence::Medium, Confidence::High),
            (ProbeFailure::Unreachable("no route to host".into()), Confidence::Medium, Confidence::High),
            (ProbeFailure::Status(503), Confidence::Low, Confidence::Low),
        ] {
            let mut policy = policy(3, false);
            for service in policy.services.values_mut() {
                service.health.probe = crate::policy::ProbeKind::Http { path: "/healthz".into(), host: None };
            }
            let mut bench = Bench::settled(policy);
            bench.is_bad(&app(1), failure.clone());
            bench.advance(SECOND * 5);
            assert_eq!(diagnosis(&bench).confidence, alone, "{failure}");
            bench.attempt_fails(&app(1), FailureKind::Timeout, None);
            bench.advance(SECOND);
            assert_eq!(diagnosis(&bench).confidence, with_requests, "{failure}");
        }
    }

    #[test]
    fn the_page_about_causes_has_every_cause_and_every_rule_of_confidence() {
        let page = include_str!("../../../docs/causes.md");
        let rules = include_str!("cause.rs");
        let table = rules.lines().filter_map(|line| line.strip_prefix("//! | "));
        let rows: Vec<&str> = table.filter(|row| !row.starts_with("---") && !row.starts_with("c")).collect();
        assert!(rows.len() >= 6, "{rows:?}");
        for row in rows.iter().filter(|row| ["high", "medium", "low"].iter().any(|c| row.starts_with(c))) {
            assert!(page.contains(&format!("| {row}")), "docs/causes.md lacks: {row}");
        }
        for cause in [Cause::Attack, Cause::Hardware, Cause::Overload, Cause::Crash, Cause::Network] {
            assert!(
                page.contains(&format!("| {} |", cause.as_str())),
                "docs/causes.md lacks {}",
                cause.as_str()
            );
        }
    }

    #[test]
    fn evidence_is_brought_up_to_date_now_and_then() {
        let mut bench = Bench::settled(policy(3, true));
        bench.supervisor = crate::testing::Supervisor::Silent;
        bench.crash(&app(1));
        bench.crash(&app(2));
        assert_eq!(diagnosis(&bench).evidence.len(), 1);
        bench.advance(SECOND * 11);
        bench.attempts(&app(3), 10, 0, 0);
        assert_eq!(diagnosis(&bench).evidence.len(), 2);
    }

    #[test]
    fn answers_with_errors_point_at_nothing_in_particular() {
        let mut bench = Bench::settled(policy(2, false));
        for _ in 0..8 {
            bench.attempts(&app(1), 0, 10, 0);
            bench.advance(SECOND / 4);
        }
        assert_eq!(diagnosis(&bench).cause, Cause::Unknown);
        bench.attempt_fails(&app(1), FailureKind::Refused, None);
        assert_eq!(diagnosis(&bench).cause, Cause::Unknown);
    }
}
