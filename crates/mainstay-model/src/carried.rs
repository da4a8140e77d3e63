//! What the judge of a Mainstay that is replaced tells the one that goes on, beside the record: how each server is.
//!
//! Without it every server would count as up until it was looked at, and a supervised one would be started a second time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::flap::{CarriedFlaps, Flaps};
use crate::id::ServerId;
use crate::input::Exit;
use crate::server::{Ejection, Server, Verdict};
use crate::snapshot::{Health, LastProbe, StateChange};
use crate::time::{Now, Wall};
use crate::witness::Gray;

/// What is carried over, by server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Carried {
    servers: BTreeMap<ServerId, CarriedServer>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CarriedServer {
    address: Option<Endpoint>,
    health: Health,
    health_since: Wall,
    rule: String,
    /// `None`: the probes have not decided.
    good: Option<bool>,
    because: String,
    good_in_row: u32,
    failed_in_row: u32,
    #[serde(default)]
    recent: u32,
    all_refused: bool,
    passed: bool,
    last: Option<LastProbe>,
    last_failure: Option<String>,
    ejection: Option<CarriedEjection>,
    ejections: u32,
    process: Option<CarriedProcess>,
    release: Option<u64>,
    /// It may carry traffic.
    eligible: bool,
    /// How long its share has been rising.
    slow_for: Option<Duration>,
    good_for: Option<Duration>,
    changes: Vec<StateChange>,
    #[serde(default)]
    flaps: CarriedFlaps,
    #[serde(default)]
    gray: Option<Gray>,
}

/// Out of rotation for real traffic's sake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CarriedEjection {
    left: Duration,
    reason: String,
    for_slowness: bool,
}

/// A supervised server's process, which goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CarriedProcess {
    pid: u32,
    since: Wall,
    last_exit: Option<Exit>,
    last_exit_asked: bool,
}

impl Carried {
    /// These servers, as they are now.
    pub(crate) fn of<'a>(servers: impl Iterator<Item = (&'a ServerId, &'a Server)>, now: Now) -> Self {
        Self { servers: servers.map(|(id, server)| (id.clone(), carry(server, now))).collect() }
    }

    /// Forgets the process of every server that is not `kept`: nobody holds it any more.
    pub fn keep_processes(&mut self, kept: impl Fn(&ServerId, u32) -> bool) {
        for (id, server) in &mut self.servers {
            if server.process.as_ref().is_some_and(|process| !kept(id, process.pid)) {
                server.process = None;
            }
        }
    }

    /// Puts a server that is new to this run into the state in which the earlier one had it.
    pub(crate) fn take_up(&self, id: &ServerId, server: &mut Server, now: Now) {
        let Some(carried) = self.servers.get(id) else { return };
        let supervised = server.policy.supervised;
        if supervised != carried.process.is_some() {
            // It is run in another way now, or does not run: it is begun with anew.
            return;
        }
        if let Some(process) = &carried.process {
            server.process.pid = Some(process.pid);
            server.process.since = process.since;
            server.process.last_exit = process.last_exit;
            server.process.last_exit_asked = process.last_exit_asked;
            server.process.grace_from = now.mono;
            server.recovery.start_wanted = false;
        }
        server.address.clone_from(&carried.address);
        server.release = carried.release;
        (server.health, server.health_since) = (carried.health, carried.health_since);
        server.rule.clone_from(&carried.rule);
        server.changes = carried.changes.iter().cloned().collect();
        server.ejections = carried.ejections;
        server.flaps = Flaps::carried(&carried.flaps, now.mono);
        if let Some(gray) = &carried.gray {
            server.witnesses.goes_on(gray.clone(), now.mono);
        }
        server.ejection = carried.ejection.as_ref().map(|ejection| Ejection {
            until: now.mono + ejection.left,
            reason: ejection.reason.clone(),
            for_slowness: ejection.for_slowness,
        });
        let probes = &mut server.probes;
        probes.verdict = match carried.good {
            Some(true) => Verdict::Good,
            Some(false) => Verdict::Bad,
            None => Verdict::Unknown,
        };
        probes.because.clone_from(&carried.because);
        (probes.good_in_row, probes.failed_in_row) = (carried.good_in_row, carried.failed_in_row);
        probes.recent = carried.recent;
        (probes.all_refused, probes.passed) = (carried.all_refused, carried.passed);
        probes.last.clone_from(&carried.last);
        probes.last_failure.clone_from(&carried.last_failure);
        probes.next_at = server.address.as_ref().map(|_| now.mono);
        let before = |age: Duration| now.mono.before(age);
        server.good_since = carried.good_for.map(before);
        if carried.eligible && server.may_serve() {
            server.eligible = true;
            server.eligible_since = Some(now.mono);
            server.slow_since = carried.slow_for.map(before);
        }
        server.fresh = false;
    }
}

fn carry(server: &Server, now: Now) -> CarriedServer {
    let probes = &server.probes;
    CarriedServer {
        address: server.address.clone(),
        health: server.health,
        health_since: server.health_since,
        rule: server.rule.clone(),
        good: match probes.verdict {
            Verdict::Unknown => None,
            Verdict::Good => Some(true),
            Verdict::Bad => Some(false),
        },
        because: probes.because.clone(),
        good_in_row: probes.good_in_row,
        failed_in_row: probes.failed_in_row,
        recent: probes.recent,
        all_refused: probes.all_refused,
        passed: probes.passed,
        last: probes.last.clone(),
        last_failure: probes.last_failure.clone(),
        ejection: server.ejection.as_ref().map(|ejection| CarriedEjection {
            left: ejection.until.since(now.mono),
            reason: ejection.reason.clone(),
            for_slowness: ejection.for_slowness,
        }),
        ejections: server.ejections,
        process: server.process.pid.map(|pid| CarriedProcess {
            pid,
            since: server.process.since,
            last_exit: server.process.last_exit,
            last_exit_asked: server.process.last_exit_asked,
        }),
        release: server.release,
        eligible: server.eligible,
        slow_for: server.slow_since.map(|since| now.mono.since(since)),
        good_for: server.good_since.map(|since| now.mono.since(since)),
        changes: server.changes.iter().cloned().collect(),
        flaps: server.flaps.carry(now.mono),
        gray: server.witnesses.gray.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Input, ProbeFailure, Restored};
    use crate::testing::{Bench, app, policy};

    /// A bench that goes on with what another knew.
    fn goes_on(old: &mut Bench) -> Bench {
        let carried = old.carry();
        let mut new = Bench::empty(old.policy.clone());
        new.tell(Input::Restored(Restored { carried, ..Restored::default() }));
        new.tell(Input::Policy(new.policy.clone()));
        new
    }

    #[test]
    fn a_server_that_was_down_is_not_taken_to_be_up_by_the_one_that_goes_on() {
        let mut old = Bench::settled(policy(3, false));
        old.is_bad(&app(1), ProbeFailure::Refused);
        old.advance(Duration::from_secs(5));
        assert_eq!(old.targets(), ["app-2", "app-3"]);
        let new = goes_on(&mut old);
        assert_eq!(new.targets(), ["app-2", "app-3"]);
        let (before, after) = (old.server(&app(1)), new.server(&app(1)));
        assert_eq!((after.health, after.health_since), (before.health, before.health_since));
        assert_eq!(after.why.rule, before.why.rule);
        assert!(new.routed().targets.iter().all(|target| target.share == 1.0), "nobody starts slowly");
    }

    #[test]
    fn a_process_that_goes_on_is_not_started_again_and_one_that_nobody_holds_is() {
        let mut old = Bench::settled(policy(2, true));
        let pid = old.server(&app(1)).process.and_then(|process| process.pid);
        assert!(pid.is_some());
        let new = goes_on(&mut old);
        assert_eq!(new.server(&app(1)).process.and_then(|process| process.pid), pid);
        assert_eq!(new.targets(), ["app-1", "app-2"]);
        let mut carried = old.carry();
        carried.keep_processes(|id, _| *id != app(1));
        assert!(carried.servers[&app(1)].process.is_none() && carried.servers[&app(2)].process.is_some());
    }

    #[test]
    fn a_server_that_flaps_is_held_down_on_as_before() {
        let mut old = Bench::settled(policy(3, false));
        for _ in 0..3 {
            old.is_bad(&app(1), ProbeFailure::Refused);
            old.advance(Duration::from_secs(3));
            old.is_good(&app(1));
            old.advance(Duration::from_secs(2));
        }
        assert_eq!(old.targets(), ["app-2", "app-3"], "held down");
        let mut new = goes_on(&mut old);
        assert_eq!(new.targets(), ["app-2", "app-3"]);
        assert!(new.server(&app(1)).why.rule.contains("down 3 times"), "{}", new.server(&app(1)).why.rule);
        new.addresses();
        new.advance(Duration::from_secs(6));
        assert_eq!(new.targets(), ["app-1", "app-2", "app-3"], "as long as it would have been");
    }

    #[test]
    fn a_gray_server_has_still_to_prove_itself() {
        let mut old = Bench::settled(policy(3, false));
        old.advance(Duration::from_secs(2));
        old.attempts(&app(2), 30, 20, 0);
        old.advance(Duration::from_secs(2));
        let rule = old.server(&app(2)).why.rule;
        assert!(rule.starts_with("gray"), "{rule}");
        let new = goes_on(&mut old);
        assert_eq!(new.server(&app(2)).why.rule, rule);
        assert_eq!(new.targets(), ["app-1", "app-3"]);
    }

    #[test]
    fn what_is_carried_is_the_same_after_it_was_written_and_read() {
        let old = Bench::settled(policy(2, true));
        let carried = old.carry();
        let text = serde_json::to_string(&carried).unwrap();
        assert_eq!(serde_json::from_str::<Carried>(&text).unwrap(), carried);
    }
}
