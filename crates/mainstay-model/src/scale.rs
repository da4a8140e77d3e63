//! How many instances of a supervised server there are: more within seconds when more is under way than they are meant
//! for, fewer one at a time and slowly, and never for want of data.
//!
//! What is under way is measured by the data plane: attempts at the instances, and requests that wait for room. Over
//! two seconds its mean, divided by `concurrency`, is what is needed; when requests wait or are refused although that
//! says otherwise, one more than there is, once all are up. Fewer are enough when for `in-after` without a break a fifth
//! less than that would do. An instance that is not needed gets nothing new and is stopped after its last request, or
//! past a deadline. While a release is tried or an incident is open none is taken away. No report is no zero: then
//! nothing changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::input::TrafficReport;
use crate::out::Out;
use crate::policy::ScalePolicy;
use crate::replace::DRAIN_MAX;
use crate::rung::Rung;
use crate::server::{Origin, Server, Standing};
use crate::service::Service;
use crate::snapshot::StateChange;
use crate::time::{Mono, Now};
use crate::words::{count, span};

/// What is under way is the mean over so long.
const OUT_SPAN: Duration = Duration::from_secs(2);
/// With fewer reports within the span nothing is decided.
const SAMPLES_MIN: usize = 4;
/// More are not kept, however often reports come.
const SAMPLES_MAX: usize = 64;
/// So much of `concurrency` is counted on when instances are taken away, so that the next moment does not bring them back.
const IN_FILL: f64 = 0.8;
/// Changes that are kept for people.
const CHANGES_MAX: usize = 10;

/// How many instances a service has, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleSnapshot {
    /// The server that they are instances of.
    pub template: String,
    /// Instances that serve or are being started.
    pub instances: u32,
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// Requests under way that one is meant for.
    pub concurrency: u32,
    /// Requests under way or waiting, the mean of the last seconds; `None` when that is not known.
    pub under_way: Option<f64>,
    /// In a sentence without a full stop: "3 instances: 140 requests under way, 50 to an instance".
    pub text: String,
    /// The last changes, newest first.
    pub changes: Vec<StateChange>,
}

/// One report.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Mono,
    under_way: u64,
    /// Requests wait, or were refused for want of room.
    overfull: bool,
}

/// What is known of a service's need.
#[derive(Debug, Default)]
pub(crate) struct Scaling {
    samples: VecDeque<Sample>,
    /// Since when fewer would do.
    low_since: Option<Mono>,
    /// The instance that finishes what it has.
    pub(crate) leaving: Option<ServerId>,
    changes: VecDeque<StateChange>,
    /// What would be done about the number now, if it might be.
    pub(crate) wanted: Option<String>,
}

impl Scaling {
    fn report(&mut self, sample: Sample) {
        if self.samples.back().is_some_and(|last| sample.at.since(last.at) > OUT_SPAN) {
            // Nobody was looking in between, so it is not known whether fewer would have done.
            self.samples.clear();
            self.low_since = None;
        }
        self.samples.push_back(sample);
        while self.samples.len() > SAMPLES_MAX
            || self.samples.front().is_some_and(|first| sample.at.since(first.at) > OUT_SPAN)
        {
            self.samples.pop_front();
        }
    }

    /// The mean of what is under way, and whether there was no room; `None` when that is not known.
    fn need(&self, now: Mono) -> Option<(f64, bool)> {
        let fresh = self.samples.back().is_some_and(|last| now.since(last.at) < OUT_SPAN);
        if !fresh || self.samples.len() < SAMPLES_MIN {
            return None;
        }
        let sum: u64 = self.samples.iter().map(|s| s.under_way).sum();
        let overfull = self.samples.iter().filter(|s| s.overfull).count() * 2 >= self.samples.len();
        Some((sum as f64 / self.samples.len() as f64, overfull))
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.samples.len() <= SAMPLES_MAX && self.changes.len() <= CHANGES_MAX
    }
}

impl Service {
    /// The instances of the template, the template first; without the one that is leaving.
    fn instances(&self, policy: &ScalePolicy) -> Vec<ServerId> {
        let mine = |id: &ServerId, s: &Server| match &s.origin {
            Origin::Config => id.name == policy.template,
            Origin::Scaled(template) => {
                *template == policy.template && self.scaling.leaving.as_ref() != Some(id)
            }
            Origin::Beside(_) | Origin::Substitute(_) => false,
        };
        let mut all: Vec<ServerId> =
            self.servers.iter().filter(|(id, s)| mine(id, s)).map(|(id, _)| id.clone()).collect();
        all.sort_by_key(|id| number_of(id, &policy.template));
        all
    }

    /// The policy is new or changed. `wanted`: what an earlier run had.
    pub(crate) fn apply_scale(&mut self, wanted: Option<u32>, first: bool, out: &mut Out) {
        let Some(policy) = self.policy.scale.clone() else {
            let scaled = |s: &Server| matches!(s.origin, Origin::Scaled(_));
            let ids: Vec<ServerId> =
                self.servers.iter().filter(|(_, s)| scaled(s)).map(|(id, _)| id.clone()).collect();
            ids.iter().for_each(|id| self.dismiss_server(id, "the config does not scale it any more", out));
            self.scaling = Scaling::default();
            return;
        };
        let stale = |s: &Server| matches!(&s.origin, Origin::Scaled(t) if *t != policy.template);
        let ids: Vec<ServerId> =
            self.servers.iter().filter(|(_, s)| stale(s)).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.dismiss_server(id, "another server is scaled now", out));
        if self.scaling.leaving.as_ref().is_some_and(|id| !self.servers.contains_key(id)) {
            self.scaling.leaving = None;
        }
        let have = self.instances(&policy).len() as u32;
        let wanted = wanted.unwrap_or(have).clamp(policy.min, policy.max);
        for _ in have..wanted {
            self.add_instance(&policy, first, out);
        }
    }

    /// What was under way when the data plane reported.
    pub(crate) fn on_scale_report(&mut self, report: &TrafficReport, now: Mono) {
        let Some(policy) = &self.policy.scale else { return };
        let service = report.services.get(&self.id);
        let queued = service.map_or(0, |s| s.queued);
        let instances = self.instances(policy);
        let under_way: u64 =
            instances.iter().filter_map(|id| report.servers.get(id)).map(|s| s.in_flight).sum();
        let overfull = queued > 0 || service.is_some_and(|s| s.shed > 0);
        self.scaling.report(Sample { at: now, under_way: under_way + queued, overfull });
    }

    /// Adds what is needed and takes away what is not.
    pub(crate) fn advance_scale(&mut self, out: &mut Out) {
        let Some(policy) = self.policy.scale.clone() else { return };
        self.stop_leaving(out);
        let have = self.instances(&policy).len() as u32;
        let now = out.now.mono;
        let Some((under_way, overfull)) = self.scaling.need(now) else {
            return;
        };
        if self.may_scale(out).is_err() {
            self.scaling.low_since = None;
            return;
        }
        let per = f64::from(policy.concurrency.max(1));
        let mut needed = (under_way / per).ceil() as u32;
        if overfull && self.all_are_up(&policy) {
            needed = needed.max(have + 1);
        }
        let needed = needed.clamp(policy.min, policy.max);
        let more = format!("run more instances of {}", policy.template);
        if needed > have {
            self.scaling.low_since = None;
            let why = match overfull {
                true => format!("{}; some wait for room", load(under_way, policy.concurrency)),
                false => load(under_way, policy.concurrency),
            };
            if !self.would_scale(Some(more), &why, out) {
                return;
            }
            for _ in have..needed {
                self.add_instance(&policy, false, out);
            }
            return self.scaled(needed, &why, out);
        }
        let enough = ((under_way / (per * IN_FILL)).ceil() as u32).clamp(policy.min, policy.max);
        if enough >= have || overfull {
            self.scaling.low_since = None;
            self.would_scale(None, "", out);
            return;
        }
        let since = *self.scaling.low_since.get_or_insert(now);
        let over_max = have > policy.max;
        if self.scaling.leaving.is_some() || (now < since + policy.in_after && !over_max) {
            return;
        }
        let why = format!("{}, for {}", load(under_way, policy.concurrency), span(policy.in_after));
        self.take_one_away(&policy, &why, out);
    }

    /// What would be done about the number of instances is this, or nothing; whether it is done.
    fn would_scale(&mut self, what: Option<String>, why: &str, out: &mut Out) -> bool {
        self.scaling.wanted.clone_from(&what);
        self.tend_proposals(out);
        what.is_some_and(|what| self.is_to_be_done(Rung::Scale, None, &what, why, out))
    }

    /// When something about the number of instances is next due without another report.
    pub(crate) fn scale_due(&self) -> Option<Mono> {
        let leaving = self.scaling.leaving.as_ref().and_then(|id| self.servers.get(id))?;
        match leaving.standing {
            Standing::Aside(since) => Some(since + DRAIN_MAX),
            _ => None,
        }
    }

    /// The number of instances as people see it.
    pub(crate) fn present_scale(&self, now: Now) -> Option<ScaleSnapshot> {
        let policy = self.policy.scale.as_ref()?;
        let instances = self.instances(policy).len() as u32;
        let under_way = self.scaling.need(now.mono).map(|(mean, _)| mean);
        let load = under_way.map_or_else(
            || "not known how much is under way".to_owned(),
            |mean| load(mean, policy.concurrency),
        );
        let text = format!("{}: {load}", count(u64::from(instances), "instance"));
        Some(ScaleSnapshot {
            template: policy.template.to_string(),
            instances,
            min: policy.min,
            max: policy.max,
            concurrency: policy.concurrency,
            under_way,
            text,
            changes: self.scaling.changes.iter().cloned().collect(),
        })
    }

    fn all_are_up(&self, policy: &ScalePolicy) -> bool {
        let up = |id: &ServerId| {
            self.servers.get(id).is_some_and(|s| !s.is_ready() || (s.eligible && s.slow_since.is_none()))
        };
        self.instances(policy).iter().all(up)
    }

    fn add_instance(&mut self, policy: &ScalePolicy, first: bool, out: &mut Out) {
        let Some(template) = self.policy.servers.get(&policy.template).cloned() else { return };
        let taken = |id: &ServerId| self.servers.contains_key(id) || out.is_stopping(id);
        let mut names = (2..).map(|n| self.id.server(format!("{}-{n}", policy.template)));
        let Some(id) = names.find(|id| !taken(id)) else { return };
        let mut server = Server::new(template, &self.policy, out.now);
        server.origin = Origin::Scaled(Arc::clone(&policy.template));
        if !first {
            // It is new among servers that carry the traffic already.
            server.fresh = false;
            server.hold_until = Some(out.now.mono + self.policy.recovery.start_grace);
        }
        self.servers.insert(id, server);
    }

    fn take_one_away(&mut self, policy: &ScalePolicy, why: &str, out: &mut Out) {
        let instances = self.instances(policy);
        let Some(id) = instances.last().filter(|id| id.name != policy.template).cloned() else { return };
        if self.may_take_away(&id).is_err() {
            return;
        }
        let fewer = format!("run fewer instances of {}", policy.template);
        if !self.would_scale(Some(fewer), why, out) {
            return;
        }
        let Some(server) = self.servers.get_mut(&id) else { return };
        server.standing = Standing::Aside(out.now.mono);
        server.changed(out.now.wall, format!("gets nothing new, because fewer instances are enough: {why}"));
        self.scaling.leaving = Some(id);
        // The next one's turn comes after as long a time again.
        self.scaling.low_since = None;
        self.scaled(instances.len() as u32 - 1, why, out);
    }

    fn stop_leaving(&mut self, out: &mut Out) {
        let Some(id) = self.scaling.leaving.clone() else { return };
        if self.servers.get(&id).is_some_and(|s| s.is_drained(out.now.mono) && s.recovery.pending.is_none()) {
            self.scaling.leaving = None;
            self.remove_server(&id, "fewer instances are enough", out);
        } else if !self.servers.contains_key(&id) {
            self.scaling.leaving = None;
        }
    }

    fn scaled(&mut self, instances: u32, why: &str, out: &mut Out) {
        let text = format!("{}: {why}", count(u64::from(instances), "instance"));
        self.scaling.changes.push_front(StateChange { at: out.now.wall, text: text.clone() });
        self.scaling.changes.truncate(CHANGES_MAX);
        if let Some(open) = &mut self.incident {
            open.entry(EntryKind::Scaled, None, None, text, out);
        }
        out.record(Record::Instances { service: self.id.clone(), instances });
    }
}

/// `app` is 1, `app-2` is 2.
/// What is under way and what of it one instance is meant for.
fn load(under_way: f64, per_instance: u32) -> String {
    format!("{} under way, {per_instance} to an instance", count(under_way.round() as u64, "request"))
}

fn number_of(id: &ServerId, template: &str) -> u32 {
    let rest = id.name.strip_prefix(template).and_then(|rest| rest.strip_prefix('-'));
    rest.and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests;
