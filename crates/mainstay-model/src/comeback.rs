//! A server that returns is compared, in its slow start, with those that carry a full share at the same time.
//!
//! The comparison is the release gate's (see `gate`), with the same chance of a wrong verdict: one in a thousand, however often it is
//! looked at. It finds a tenth of errors after some fifty requests, long before the limits for all servers would.
//!
//! - *It fails more than they do*: it goes out again, as whatever real requests eject does, and for longer each time.
//! - *It is slower than they are*: its share starts over at a tenth, [`AGAIN_MAX`] times. Its caches may be cold, and nothing warms them
//!   but requests; more of them than it can bear would only be slow too.
//!
//! Both failing alike is no reason: then something that all need is wrong.

use crate::gate::Gate;
use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::input::{ServerTraffic, TrafficReport};
use crate::out::Out;
use crate::server::Server;
use crate::service::Service;
use crate::time::Mono;
use crate::traffic::Condemnation;
use crate::words::percent;

/// So often a share starts over because a server is slow.
const AGAIN_MAX: u32 = 3;

/// The comparison of one slow start.
#[derive(Debug)]
pub(crate) struct Comeback {
    /// When that began.
    since: Mono,
    gate: Gate,
    /// How often its share started over.
    again: u32,
}

impl Server {
    /// The comparison of the slow start that it is in.
    fn comeback(&self) -> Option<&Comeback> {
        self.comeback.as_ref().filter(|comeback| self.slow_since == Some(comeback.since))
    }

    /// It fails more often than those that carry a full share, since it returned.
    pub(crate) fn is_worse_since_return(&self) -> Option<Condemnation> {
        let gate = &self.comeback()?.gate;
        if !gate.fails_more() || gate.both_fail() {
            return None;
        }
        let (own, others) = gate.figures();
        let text = format!(
            "since it returned {} of {} of its attempts failed, and {} of {} of the others' at the same time",
            own.failed, own.requests, others.failed, others.requests
        );
        Some(Condemnation { text, by_answers: true, for_slowness: false })
    }
}

impl Service {
    /// What returning servers and the others counted in the same interval.
    pub(crate) fn on_return_traffic(&mut self, report: &TrafficReport, now: Mono) {
        let returning: Vec<ServerId> =
            self.servers.iter().filter(|(_, s)| s.slow_since.is_some()).map(|(id, _)| id.clone()).collect();
        if returning.is_empty() {
            return;
        }
        let mut others = ServerTraffic::default();
        for (id, server) in self.servers.iter().filter(|(_, s)| s.eligible && s.slow_since.is_none()) {
            if let Some(traffic) = report.servers.get(id)
                && server.is_ready()
            {
                others.merge(traffic);
            }
        }
        let none = ServerTraffic::default();
        for id in returning {
            let Some(server) = self.servers.get_mut(&id) else { continue };
            let Some(since) = server.slow_since else { continue };
            if server.comeback.as_ref().is_none_or(|comeback| comeback.since != since) {
                server.comeback = Some(Comeback { since, gate: Gate::new(now), again: 0 });
            }
            if let Some(comeback) = &mut server.comeback {
                comeback.gate.report(report.servers.get(&id).unwrap_or(&none), &others, now);
            }
        }
    }

    /// Who is slower than the others since it returned starts over at a tenth of its share.
    pub(crate) fn start_over_who_is_slow(&mut self, out: &mut Out) {
        let now = out.now;
        for (id, server) in &mut self.servers {
            let slower = |comeback: &&Comeback| comeback.again < AGAIN_MAX && comeback.gate.is_slower();
            let Some(comeback) = server.comeback().filter(slower) else { continue };
            let (own, others) = comeback.gate.figures();
            let share = |slow: u64, of: u64| percent(if of == 0 { 0.0 } else { slow as f64 / of as f64 });
            let text = format!(
                "its share starts over: since it returned {} of its answers were slow, and {} of the others'",
                share(own.slow, own.requests),
                share(others.slow, others.requests)
            );
            let again = comeback.again + 1;
            server.slow_since = Some(now.mono);
            server.comeback = Some(Comeback { since: now.mono, gate: Gate::new(now.mono), again });
            server.changed(now.wall, text.clone());
            if let Some(open) = &mut self.incident {
                open.entry(EntryKind::Returned, Some(id), None, format!("{}: {text}", id.name), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::histogram::Histogram;
    use crate::input::{Input, ProbeFailure};
    use crate::testing::{Bench, app, policy, shop};

    /// Three servers, of which the first was down and has just returned, with slow starts of a minute.
    fn returned() -> Bench {
        let mut policy = policy(3, false);
        policy.services.get_mut(&shop()).unwrap().slow_start = Duration::from_secs(60);
        let mut bench = Bench::settled(policy);
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(10));
        bench.is_good(&app(1));
        while share(&bench) == 0.0 {
            bench.advance(Duration::from_millis(250));
        }
        bench
    }

    fn share(bench: &Bench) -> f64 {
        bench.server(&app(1)).share
    }

    /// A quarter of a second in which the first server has some requests and each of the others ten times as many.
    fn passes(bench: &mut Bench, bad: u64, bad_of_others: u64, took: Duration) {
        bench.advance(Duration::from_millis(250));
        let of = |all: u64, bad: u64, took: Duration| {
            let mut latency = Histogram::new();
            (0..all).for_each(|_| latency.record(took));
            ServerTraffic { ok: all - bad, server_errors: bad, latency, ..ServerTraffic::default() }
        };
        let usual = Duration::from_millis(10);
        let servers = [
            (app(1), of(4, bad, took)),
            (app(2), of(40, bad_of_others, usual)),
            (app(3), of(40, bad_of_others, usual)),
        ];
        bench.tell(Input::Traffic(TrafficReport { servers: servers.into(), ..TrafficReport::default() }));
    }

    const USUAL: Duration = Duration::from_millis(10);

    #[test]
    fn a_returning_server_that_fails_more_than_the_others_goes_back_out_and_for_longer_each_time() {
        let mut bench = returned();
        let mut quarters = 0;
        while share(&bench) > 0.0 {
            passes(&mut bench, u64::from(quarters % 2 == 0), 0, USUAL);
            quarters += 1;
            assert!(quarters < 60, "an eighth of its requests fails, and it goes on rising");
        }
        let rule = bench.server(&app(1)).why.rule;
        assert!(rule.contains("since it returned ") && rule.contains("and 0 of "), "{rule}");
        assert_eq!(bench.targets(), ["app-2", "app-3"]);
        let out_for = |bench: &mut Bench| {
            let since = bench.now.mono;
            while share(bench) == 0.0 {
                bench.advance(Duration::from_millis(250));
            }
            bench.now.mono.since(since)
        };
        let first = out_for(&mut bench);
        while share(&bench) > 0.0 {
            passes(&mut bench, 2, 0, USUAL);
        }
        assert!(out_for(&mut bench) > first);
    }

    #[test]
    fn a_returning_server_that_is_as_well_as_the_others_rises_to_its_full_share() {
        let mut bench = returned();
        for quarter in 0..260 {
            passes(&mut bench, u64::from(quarter % 50 == 0), u64::from(quarter % 5 == 0), USUAL);
        }
        assert_eq!(share(&bench), 1.0);
    }

    #[test]
    fn what_all_of_them_fail_at_puts_no_returning_server_out() {
        let mut bench = returned();
        for quarter in 0..80 {
            passes(&mut bench, u64::from(quarter % 2 == 0), 5, USUAL);
            assert!(share(&bench) > 0.0);
        }
    }

    #[test]
    fn a_returning_server_that_is_slow_starts_over_and_in_the_end_is_let_go_on() {
        let mut bench = returned();
        let mut quarters = 0;
        while share(&bench) < 1.0 {
            // Not so slow that it is ejected for it.
            passes(&mut bench, 0, 0, Duration::from_millis(19));
            quarters += 1;
            assert!(quarters < 400, "it never gets its share");
        }
        assert!(quarters > 250, "it had its share after {} s", quarters / 4);
        let changes = bench.server(&app(1)).why.changes;
        let started_over =
            changes.iter().filter(|c| c.text.starts_with("its share starts over: since it returned"));
        assert_eq!(started_over.count(), AGAIN_MAX as usize, "{changes:?}");
    }
}
