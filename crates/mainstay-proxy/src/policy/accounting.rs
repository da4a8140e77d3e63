//! What is counted: requests as visitors saw them, and the one report of all workers in each interval.
//!
//! A worker counts in cells of its own; each interval it hands its counts to the [`Collector`], and whoever finds the
//! interval over sends the sum. A full channel delays counts and never loses them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_model::input::{ServiceTraffic, TrafficFailure, TrafficReport};
use mainstay_model::{ServerId, ServiceId};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::Report;

/// How a request ended for its visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A server's answer was passed on whole.
    Answered { status: u16 },
    /// Refused or cut short by a fault.
    Failed,
    /// Refused because of the request itself.
    Refused,
    /// The visitor went away.
    Abandoned,
}

/// Counts of one service on one worker.
#[derive(Debug, Default)]
pub(crate) struct ServiceCounts {
    counts: RefCell<ServiceTraffic>,
    dirty: Cell<bool>,
}

impl ServiceCounts {
    /// A request ended after `attempts`; `first_byte` is how long its visitor waited for the answer to begin.
    pub(crate) fn ended(&self, ending: Ending, attempts: u32, first_byte: Option<Duration>) {
        self.dirty.set(true);
        let mut counts = self.counts.borrow_mut();
        counts.requests += 1;
        match ending {
            Ending::Answered { status: 500.. } => counts.server_errors += 1,
            Ending::Answered { .. } if attempts > 1 => counts.saved += 1,
            Ending::Failed => counts.failed += 1,
            Ending::Abandoned => counts.abandoned += 1,
            Ending::Answered { .. } | Ending::Refused => {}
        }
        if let Some(first_byte) = first_byte {
            counts.latency.record(first_byte);
        }
    }

    /// A request is tried again.
    pub(crate) fn retried(&self) {
        self.dirty.set(true);
        self.counts.borrow_mut().retries += 1;
    }

    /// A safe retry was over the budget.
    pub(crate) fn retry_refused(&self) {
        self.dirty.set(true);
        self.counts.borrow_mut().retries_refused += 1;
    }

    /// The counts since the last call, if there are any.
    pub(crate) fn take(&self) -> Option<ServiceTraffic> {
        self.dirty.replace(false).then(|| self.counts.take())
    }
}

/// Where workers hand in what they counted.
#[derive(Debug)]
pub(crate) struct Collector {
    reports: mpsc::Sender<Report>,
    interval: Duration,
    state: Mutex<Collected>,
}

#[derive(Debug)]
struct Collected {
    unsent: TrafficReport,
    /// Attempts under way, by worker: a state and no count, so it is never added up over time.
    in_flight: Vec<BTreeMap<ServerId, u64>>,
    /// Failures for which the channel had no room; at most one for each server.
    failures: BTreeMap<ServerId, TrafficFailure>,
    last_sent: Instant,
}

impl Collector {
    pub(crate) fn new(
        reports: mpsc::Sender<Report>,
        workers: usize,
        interval: Duration,
        now: Instant,
    ) -> Self {
        let state = Collected {
            unsent: TrafficReport::default(),
            in_flight: vec![BTreeMap::new(); workers],
            failures: BTreeMap::new(),
            last_sent: now,
        };
        Self { reports, interval, state: Mutex::new(state) }
    }

    /// A worker began to avoid a server: said at once, or with the next report if the channel is full.
    pub(crate) fn failure(&self, failure: TrafficFailure) {
        if let Err(TrySendError::Full(Report::Failure(failure))) =
            self.reports.try_send(Report::Failure(failure))
        {
            self.lock().failures.insert(failure.server.clone(), failure);
        }
    }

    /// Takes one worker's counts of its interval, and sends the sum of all if it is time.
    pub(crate) fn hand_in(&self, worker: usize, report: TrafficReport, now: Instant) {
        let mut state = self.lock();
        state.add(worker, report);
        // Workers hand in at slightly different times; half an interval's slack keeps one report an interval.
        if now.saturating_duration_since(state.last_sent) + self.interval / 2 < self.interval {
            return;
        }
        state.last_sent = now;
        while let Some((server, failure)) = state.failures.pop_first() {
            if let Err(TrySendError::Full(_)) = self.reports.try_send(Report::Failure(failure.clone())) {
                state.failures.insert(server, failure);
                return;
            }
        }
        let report = state.take();
        if report == TrafficReport::default() {
            return;
        }
        if let Err(TrySendError::Full(Report::Traffic(report))) =
            self.reports.try_send(Report::Traffic(report))
        {
            state.put_back(report);
        }
    }

    /// What is still unsent, for the end.
    pub(crate) fn last(&self) -> Vec<Report> {
        let mut state = self.lock();
        let mut reports: Vec<Report> =
            std::mem::take(&mut state.failures).into_values().map(Report::Failure).collect();
        let report = state.take();
        if report != TrafficReport::default() {
            reports.push(Report::Traffic(report));
        }
        reports
    }

    /// The channel, for the end.
    pub(crate) fn reports(&self) -> &mpsc::Sender<Report> {
        &self.reports
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        // Counts stay counts whatever thread panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    fn add(&mut self, worker: usize, report: TrafficReport) {
        if let Some(in_flight) = self.in_flight.get_mut(worker) {
            // A server that a worker leaves out has nothing under way there.
            *in_flight = report.servers.iter().map(|(id, s)| (id.clone(), s.in_flight)).collect();
        }
        for (id, mut server) in report.servers {
            server.in_flight = 0;
            self.unsent.servers.entry(id).or_default().merge(&server);
        }
        for (id, service) in report.services {
            self.unsent.services.entry(id).or_default().merge(&service);
        }
    }

    fn take(&mut self) -> TrafficReport {
        let mut report = std::mem::take(&mut self.unsent);
        for (id, &n) in self.in_flight.iter().flatten().filter(|(_, n)| **n > 0) {
            report.servers.entry(id.clone()).or_default().in_flight += n;
        }
        report
    }

    fn put_back(&mut self, mut report: TrafficReport) {
        for server in report.servers.values_mut() {
            server.in_flight = 0;
        }
        self.unsent = report;
    }
}

/// A worker's report: only what has something to say.
pub(crate) fn report<'a>(
    servers: impl Iterator<Item = &'a super::server::ServerState>,
    services: impl Iterator<Item = (&'a ServiceId, &'a ServiceCounts)>,
) -> TrafficReport {
    TrafficReport {
        servers: servers.filter_map(|s| Some((s.id.clone(), s.take_counts()?))).collect(),
        services: services.filter_map(|(id, counts)| Some((id.clone(), counts.take()?))).collect(),
        sources: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::input::{FailureKind, ServerTraffic};

    use super::*;

    fn of(requests: u64, in_flight: u64) -> TrafficReport {
        let service = ServiceId::new("shop");
        TrafficReport {
            servers: [(
                service.server("a"),
                ServerTraffic { ok: requests, in_flight, ..ServerTraffic::default() },
            )]
            .into(),
            services: [(service, ServiceTraffic { requests, ..ServiceTraffic::default() })].into(),
            ..TrafficReport::default()
        }
    }

    fn traffic(report: Report) -> (u64, u64, u64) {
        let Report::Traffic(report) = report else { panic!("{report:?} is no traffic") };
        let (server, service) = (&report.servers.values().next(), &report.services.values().next());
        (server.map_or(0, |s| s.ok), service.map_or(0, |s| s.requests), server.map_or(0, |s| s.in_flight))
    }

    #[test]
    fn a_full_channel_delays_counts_and_loses_none() {
        let (sender, mut receiver) = mpsc::channel(1);
        let interval = Duration::from_millis(250);
        let mut now = Instant::now();
        let collector = Collector::new(sender, 2, interval, now);
        let mut handed = 0;
        for i in 0..10 {
            now += interval;
            collector.hand_in(i % 2, of(3, 1), now);
            handed += 3;
        }
        let mut seen = traffic(receiver.try_recv().expect("the first report")).1;
        now += interval;
        collector.hand_in(0, of(1, 4), now);
        let (ok, requests, in_flight) = traffic(receiver.try_recv().expect("the rest"));
        seen += requests;
        assert_eq!(seen, handed + 1);
        assert_eq!(ok + 3, seen);
        assert_eq!(in_flight, 5, "worker 0 has 4, worker 1 has 1 under way; earlier intervals do not count");
    }

    #[test]
    fn a_failure_that_found_no_room_is_said_later() {
        let (sender, mut receiver) = mpsc::channel(1);
        let now = Instant::now();
        let collector = Collector::new(sender, 1, Duration::from_millis(250), now);
        let server = ServiceId::new("shop").server("a");
        let failure = |kind| TrafficFailure { server: server.clone(), kind, retried_on: None };
        collector.failure(failure(FailureKind::Refused));
        collector.failure(failure(FailureKind::Reset));
        assert_eq!(receiver.try_recv(), Ok(Report::Failure(failure(FailureKind::Refused))));
        collector.hand_in(0, TrafficReport::default(), now + Duration::from_secs(1));
        assert_eq!(receiver.try_recv(), Ok(Report::Failure(failure(FailureKind::Reset))));
    }

    #[test]
    fn endings_are_counted_as_visitors_saw_them() {
        let counts = ServiceCounts::default();
        let ms = Some(Duration::from_millis(1));
        counts.ended(Ending::Answered { status: 200 }, 1, ms);
        counts.ended(Ending::Answered { status: 200 }, 2, ms);
        counts.ended(Ending::Answered { status: 503 }, 2, ms);
        counts.ended(Ending::Failed, 3, None);
        counts.ended(Ending::Refused, 1, None);
        counts.ended(Ending::Abandoned, 1, None);
        let seen = counts.take().expect("something was counted");
        assert_eq!(
            (
                seen.requests,
                seen.saved,
                seen.server_errors,
                seen.failed,
                seen.abandoned,
                seen.latency.count()
            ),
            (6, 1, 1, 1, 1, 3)
        );
        assert_eq!(counts.take(), None);
    }
}
