//! Requests of Mainstay's own to both releases of a trial that too few visitors ask.
//!
//! While the release on trial had no request of a visitor for [`QUIET`], it and each server of the current release are asked for
//! the paths of `deploy.ask` in turn, every [`EVERY`]; probes go on between them. What they answer is compared as any other
//! request is, and told apart, for nobody was hurt by it. One that could not be asked tells nothing: a release that nobody
//! answered for never passes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::deploy::Phase;
use crate::id::ServerId;
use crate::input::{FailureKind, ProbeFailure, ProbeReport, ServerTraffic};
use crate::policy::ProbeKind;
use crate::server::{Server, Standing, Verdict};
use crate::service::Service;
use crate::time::Mono;

/// Visitors may come so late.
const QUIET: Duration = Duration::from_secs(2);
/// Low enough for any server.
const EVERY: Duration = Duration::from_millis(200);

impl Service {
    /// Who is asked what at this moment, where its own probe has not its turn.
    pub(crate) fn trial_questions(&self, now: Mono) -> BTreeMap<ServerId, ProbeKind> {
        let interval = self.policy.health.interval;
        let question = |server: &Server| {
            let asked = self.policy.deploy.as_ref().map_or(&[][..], |policy| &policy.ask);
            let path = asked.get(server.probes.asked as usize % asked.len().max(1))?.clone();
            let host = self.policy.carriage.hosts.iter().find(|host| !host.contains('*')).cloned();
            (now < server.probes.probed_at + interval).then_some(ProbeKind::Visit { path, host })
        };
        let asked = self.servers.iter().filter(|(id, server)| self.is_asked(id, server, now));
        asked.filter_map(|(id, server)| Some((id.clone(), question(server)?))).collect()
    }

    /// It takes part in a trial that too few visitors ask.
    fn is_asked(&self, id: &ServerId, server: &Server, now: Mono) -> bool {
        let wanted = self.policy.deploy.as_ref().is_some_and(|policy| !policy.ask.is_empty());
        let trial = self.releases.deployment.as_ref().filter(|d| matches!(d.phase, Phase::Trial));
        let Some(trial) = trial.filter(|_| wanted && self.policy.carriage.tcp.is_none()) else {
            return false;
        };
        let is_new = trial.beside.as_ref() == Some(id);
        let new = trial.beside.as_ref().and_then(|id| self.servers.get(id));
        let quiet = |new: &Server| now >= trial.since.mono.max(new.traffic.last_attempt) + QUIET;
        let takes_part = match is_new {
            true => server.standing == Standing::Trial,
            false => server.release == Some(trial.from) && server.eligible,
        };
        let is_well = server.probes.verdict == Verdict::Good && server.probes.failed_in_row == 0;
        takes_part && is_well && new.is_some_and(quiet)
    }

    /// The next question comes before the next probe.
    pub(crate) fn ask_soon(&mut self, id: &ServerId, now: Mono) {
        let asked = self.servers.get(id).is_some_and(|server| self.is_asked(id, server, now));
        let Some(server) = self.servers.get_mut(id).filter(|_| asked) else { return };
        server.probes.next_at = server.probes.next_at.map(|next| next.min(now + EVERY));
    }

    /// A server of a trial has answered Mainstay, or has not.
    pub(crate) fn on_asked(&mut self, id: &ServerId, report: &ProbeReport, now: Mono) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.probes.asked = server.probes.asked.wrapping_add(1);
        let release = server.release;
        let mut answer = ServerTraffic::default();
        match &report.result {
            Err(ProbeFailure::NotProbed(_)) => return,
            Ok(_) => answer.ok = 1,
            Err(failure) if failure.is_an_answer() => answer.server_errors = 1,
            Err(_) => drop(answer.failures.insert(FailureKind::Timeout, 1)),
        }
        if answer.failures.is_empty() {
            answer.latency.record(report.took);
        }
        let Some(trial) = self.releases.deployment.as_mut().filter(|d| matches!(d.phase, Phase::Trial))
        else {
            return;
        };
        let nothing = ServerTraffic::default();
        if trial.beside.as_ref() == Some(id) {
            trial.gate.asked(&answer, &nothing, now);
        } else if release == Some(trial.from) {
            trial.gate.asked(&nothing, &answer, now);
        }
    }
}
