//! What helped before: for each sort of failure how often which rung was tried, how often real requests got better, and how soon.
//!
//! It is told when the same is about to be done again, so that whoever reads the message or decides on a proposal knows what to
//! expect. The order of the rungs is not changed by it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::effect::Record;
use crate::helped::{Help, Helped};
use crate::id::{ServerId, ServiceId};
use crate::out::Out;
use crate::rung::Rung;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Wall;
use crate::words::span;

/// A release that became the current one so shortly before counts as fresh.
const FRESH: Duration = Duration::from_secs(3600);

/// How a server fails, or what visitors see where none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failing {
    /// Its process ended, or nothing listens.
    Died,
    /// It is silent.
    Hangs,
    /// It answers its probes, and not well.
    AnswersBadly,
    /// Real requests fail, and its probes do not.
    Errors,
}

/// How many of the service's servers fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// One of several.
    One,
    /// Several, and not all.
    Several,
    /// All; also the only one.
    All,
}

/// One sort of failure of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Of which service.
    pub service: ServiceId,
    /// How it fails.
    pub failing: Failing,
    /// How many servers do.
    pub spread: Spread,
    /// What it was put down to when something was done about it.
    pub cause: Cause,
    /// A release had become the current one within the hour before.
    pub fresh_release: bool,
}

impl fmt::Display for Fingerprint {
    /// `one of the servers died (crash)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.spread {
            Spread::One => "one of the servers",
            Spread::Several => "several servers",
            Spread::All => "all servers",
        };
        let what = match self.failing {
            Failing::Died => "died",
            Failing::Hangs => "hung",
            Failing::AnswersBadly => "answered badly",
            Failing::Errors => "failed real requests",
        };
        write!(f, "{who} {what} ({}", self.cause.as_str())?;
        if self.fresh_release {
            f.write_str(", a release younger than an hour")?;
        }
        f.write_str(")")
    }
}

/// What one rung did for one sort of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// Of failure.
    pub fingerprint: Fingerprint,
    /// What was done.
    pub rung: Rung,
    /// It was judged so often, with or without requests.
    pub tried: u32,
    /// It helped so often.
    pub helped: u32,
    /// It did not help so often.
    pub in_vain: u32,
    /// Milliseconds until it answered, over all times when it helped.
    pub took_ms: u64,
    /// When it was last judged.
    pub last: Wall,
}

impl Remedy {
    fn new(fingerprint: Fingerprint, rung: Rung, last: Wall) -> Self {
        Self { fingerprint, rung, tried: 0, helped: 0, in_vain: 0, took_ms: 0, last }
    }

    fn count(&mut self, helped: &Helped, at: Wall) {
        self.tried = self.tried.saturating_add(1);
        self.last = at;
        match helped.help {
            Help::Yes => {
                self.helped = self.helped.saturating_add(1);
                self.took_ms = self.took_ms.saturating_add(helped.took_ms.unwrap_or(0));
            }
            Help::No => self.in_vain = self.in_vain.saturating_add(1),
            Help::NotKnown => {}
        }
    }

    /// `a restart helped 3 of 4 times, after 2s; 1 time that is not known`
    pub fn in_words(&self) -> String {
        let what = match self.rung {
            Rung::Restart => "a restart",
            Rung::RollBack => "going back to the release before",
            Rung::Switch => "the switch",
            Rung::Scale => "another number of instances",
            Rung::Replace => "a new instance in its place",
        };
        let judged = self.helped + self.in_vain;
        let unknown = self.tried - judged;
        let times = |n: u32| if n == 1 { "1 time".to_owned() } else { format!("{n} times") };
        if judged == 0 {
            return format!("{what} was tried {}, and whether it helped is not known", times(self.tried));
        }
        let mut text = format!("{what} helped {} of {}", self.helped, times(judged));
        if let Some(mean) = self.took_ms.checked_div(u64::from(self.helped)).filter(|_| self.took_ms > 0) {
            // To a tenth of a second.
            let mean = Duration::from_millis((mean / 100 * 100).max(100));
            text.push_str(&format!(", after {}", span(mean)));
        }
        if unknown > 0 {
            text.push_str(&format!("; {} it is not known", times(unknown)));
        }
        text
    }
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    remedies: BTreeMap<(Fingerprint, Rung), Remedy>,
    /// The same, as it is shown.
    pub(crate) shown: Arc<Vec<Remedy>>,
}

impl Memory {
    /// What an earlier run left.
    pub(crate) fn restored(remedies: Vec<Remedy>) -> Self {
        let keyed = remedies.into_iter().map(|remedy| ((remedy.fingerprint.clone(), remedy.rung), remedy));
        let mut memory = Self { remedies: keyed.collect(), shown: Arc::default() };
        memory.show();
        memory
    }

    fn show(&mut self) {
        self.shown = Arc::new(self.remedies.values().cloned().collect());
    }

    fn of(&self, fingerprint: &Fingerprint, rung: Rung) -> Option<&Remedy> {
        self.remedies.get(&(fingerprint.clone(), rung))
    }
}

impl Out {
    /// It was judged whether something helped.
    pub(crate) fn remember(&mut self, fingerprint: Fingerprint, rung: Rung, helped: &Helped) {
        let now = self.now.wall;
        let new = || Remedy::new(fingerprint.clone(), rung, now);
        let remedy = self.memory.remedies.entry((fingerprint.clone(), rung)).or_insert_with(new);
        remedy.count(helped, now);
        let record = Record::Remedy(remedy.clone());
        self.memory.show();
        self.record(record);
    }
}

impl Server {
    fn failing(&self) -> Failing {
        match () {
            () if self.is_ended() || self.probes.all_refused || self.probes.of_life => Failing::Died,
            () if self.answers_badly() => Failing::AnswersBadly,
            () if self.probes.verdict == Verdict::Bad => Failing::Hangs,
            () => Failing::Errors,
        }
    }
}

impl Service {
    /// What sort of failure it is just now: of this server, or of the service as a whole.
    pub(crate) fn fingerprint(&self, server: Option<&ServerId>, out: &Out) -> Fingerprint {
        let ready = self.servers.values().filter(|s| s.is_ready());
        let faulty: Vec<&Server> = ready.clone().filter(|s| s.at_fault).collect();
        let whose = server.and_then(|id| self.servers.get(id)).or(faulty.first().copied());
        let known = self.incident.as_ref().and_then(|open| open.incident().diagnosis.clone());
        let cause = known.or_else(|| self.diagnosis(out)).map_or(Cause::Unknown, |found| found.cause);
        let since = self.releases.current().and_then(|release| release.current_since);
        let fresh = |since: Wall| u128::from(out.now.wall.ms_since(since).max(0).unsigned_abs());
        Fingerprint {
            service: self.id.clone(),
            failing: whose.map_or(Failing::Errors, Server::failing),
            spread: match faulty.len() {
                n if n >= ready.count() => Spread::All,
                0 | 1 => Spread::One,
                _ => Spread::Several,
            },
            cause,
            fresh_release: self.releases.known.len() > 1
                && since.is_some_and(|at| fresh(at) < FRESH.as_millis()),
        }
    }

    /// What is known of this rung for what is the matter, in words; empty: nothing.
    pub(crate) fn recall(&self, rung: Rung, server: Option<&ServerId>, out: &Out) -> String {
        let fingerprint = self.fingerprint(server, out);
        let remedy = out.memory.of(&fingerprint, rung);
        remedy.map_or_else(String::new, |remedy| format!("when {fingerprint} before, {}", remedy.in_words()))
    }
}

#[cfg(test)]
mod tests;
