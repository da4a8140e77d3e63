//! The world's data plane: requests by the latest table, tried again elsewhere, counted and reported.

use std::time::Duration;

use mainstay_model::input::{FailureKind, ServerTraffic, ServiceTraffic, TrafficFailure, TrafficReport};
use mainstay_model::routing::{RoutedService, Target};
use mainstay_model::{Input, ServerId};

use super::World;
use super::calm::spread;
use super::servers::{Attempt, Condition};

const TRIES: usize = 3;
const SLOW_AFTER: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn traffic_tick(&mut self) {
        let table = self.table.clone();
        let mut report = TrafficReport::default();
        let mut failures = Vec::new();
        self.surge_tick();
        for routed in &table.services {
            let mut visitors = ServiceTraffic::default();
            let surge = self.surge_adds(&routed.id, routed.targets.len() as u64, &mut visitors);
            for _ in 0..self.visitors_now() + surge {
                self.request(routed, &mut visitors, &mut report, &mut failures);
            }
            report.sources.extend(self.sources(&routed.id, &visitors));
            if visitors.requests > 0 {
                report.services.insert(routed.id.clone(), visitors);
            }
        }
        for routed in &table.services {
            for target in &routed.targets {
                let traffic = report.servers.entry(target.id.clone()).or_default();
                traffic.in_flight = self.burst / routed.targets.len() as u64;
            }
        }
        for (server, traffic) in &mut report.servers {
            traffic.failures_in_a_row = self.in_a_row.get(server).copied().unwrap_or(0);
        }
        failures.into_iter().for_each(|failure| self.tell(Input::Failure(failure)));
        let lost = self.faulty && self.kind.lossy_prober && self.dice.chance(3) || self.report_is_lost();
        if lost {
            self.ledger.report_is_lost();
        } else if report != TrafficReport::default() {
            let at = self.clock().wall;
            self.ledger.report(&report, at, self.inputs + 1);
            self.tell(Input::Traffic(report));
        }
    }

    fn request(
        &mut self,
        routed: &RoutedService,
        visitors: &mut ServiceTraffic,
        report: &mut TrafficReport,
        failures: &mut Vec<TrafficFailure>,
    ) {
        visitors.requests += 1;
        let visitor = self.ledger.visitor();
        let mut tried: Vec<ServerId> = Vec::new();
        let mut failed: Option<TrafficFailure> = None;
        for nth in 0..TRIES {
            let Some(target) = self.choose(routed, &tried) else { break };
            tried.push(target.id.clone());
            if let Some(mut failure) = failed.take() {
                visitors.retries += 1;
                failure.retried_on = Some(target.id.clone());
                failures.push(failure);
            }
            let bad = self.faulty && self.dice.chance(30);
            let fifth = self.dice.chance(20);
            let broken = target.injection.is_some_and(|injection| self.breaks(injection));
            let attempt = match self.servers.get(&target.id) {
                Some(server) if self.cut_off && server.far => Attempt::TimedOut,
                Some(_) if broken => Attempt::Refused,
                Some(server) => match server.attempt(&target.address, self.now) {
                    Attempt::Answered(_, took) if fifth && server.condition == Condition::SomeErrors => {
                        Attempt::Answered(500, took)
                    }
                    Attempt::Answered(_, took) if bad && server.release.starts_with("bad") => {
                        Attempt::Answered(500, took)
                    }
                    attempt => attempt,
                },
                None => Attempt::Refused,
            };
            let well =
                matches!(&attempt, Attempt::Answered(status, took) if *status < 500 && *took <= SLOW_AFTER);
            self.holds.answered(&target.id, well, self.now);
            if !well && !matches!(attempt, Attempt::TimedOut) {
                self.holds.spoke_ill(&target.id, self.now);
            }
            let counts = report.servers.entry(target.id.clone()).or_default();
            let kind = match attempt {
                Attempt::Answered(status, took) => {
                    let took = spread(took, &mut self.dice);
                    let status = if self.is_stray_error() { 500 } else { status };
                    self.in_a_row.insert(target.id.clone(), 0);
                    counts.latency.record(took);
                    visitors.latency.record(took);
                    if status >= 500 {
                        counts.server_errors += 1;
                        visitors.server_errors += 1;
                        self.ledger.hurt(&routed.id, visitor, visitors);
                    } else {
                        counts.ok += 1;
                        visitors.saved += u64::from(nth > 0);
                        visitors.slow += u64::from(took > SLOW_AFTER);
                    }
                    return;
                }
                Attempt::Refused => FailureKind::Refused,
                Attempt::TimedOut => FailureKind::Timeout,
                Attempt::Untrusted => FailureKind::Tls,
            };
            count_failure(counts, kind);
            let row = self.in_a_row.entry(target.id.clone()).or_default();
            *row += 1;
            if *row == 1 {
                failed = Some(TrafficFailure { server: target.id.clone(), kind, retried_on: None });
            }
        }
        failures.extend(failed);
        visitors.failed += 1;
        self.ledger.hurt(&routed.id, visitor, visitors);
    }

    /// By share among the targets that were not tried, then the last resort in its order.
    fn choose<'a>(&mut self, routed: &'a RoutedService, tried: &[ServerId]) -> Option<&'a Target> {
        if let Some(trial) = &routed.trial
            && tried.is_empty()
            && self.dice.range(0, 1000) < (trial.share * 1000.0) as u64
        {
            return Some(&trial.target);
        }
        let untried: Vec<&Target> = routed.targets.iter().filter(|t| !tried.contains(&t.id)).collect();
        let all: f64 = untried.iter().map(|t| t.share).sum();
        let mut point = all * self.dice.range(0, 1_000_000) as f64 / 1_000_000.0;
        for target in &untried {
            point -= target.share;
            if point <= 0.0 {
                return Some(target);
            }
        }
        untried.last().copied().or_else(|| routed.last_resort.iter().find(|t| !tried.contains(&t.id)))
    }
}

fn count_failure(counts: &mut ServerTraffic, kind: FailureKind) {
    *counts.failures.entry(kind).or_default() += 1;
}
