//! What is counted: requests as visitors saw them, and the one report of all workers in each interval.
//!
//! A worker counts in cells of its own; each interval it hands its counts to the [`Collector`], and whoever finds the
//! interval over sends the sum. A full channel delays counts and never loses them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_model::input::{Circuit, ServiceTraffic, TrafficFailure, TrafficReport};
use mainstay_model::sample::TrafficSample;
use mainstay_model::{ServerId, ServiceId};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::sources::{self, Sources};
use super::visitor::Network;
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
    /// Refused because there was no room.
    Shed,
    /// Refused because its address had asked too often.
    Limited,
}

impl Ending {
    /// The visitor got nothing of use.
    pub(crate) fn hurts(self) -> bool {
        matches!(self, Ending::Failed | Ending::Shed | Ending::Answered { status: 500.. })
    }
}

/// How long a visitor waited for the answer to begin, if it did, and from when on that is slow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) first_byte: Option<Duration>,
    pub(crate) slow_after: Duration,
}

/// Counts of one service on one worker.
#[derive(Debug, Default)]
pub(crate) struct ServiceCounts {
    counts: RefCell<ServiceTraffic>,
    dirty: Cell<bool>,
    /// Requests under way.
    in_flight: Cell<u32>,
    /// Of them, waiting for room.
    queued: Cell<u32>,
    reported_in_flight: Cell<u32>,
    sources: RefCell<Sources>,
}

/// A request that waits for room, until this is dropped.
#[derive(Debug)]
pub(crate) struct CountedAsQueued<'c>(&'c ServiceCounts);

impl Drop for CountedAsQueued<'_> {
    fn drop(&mut self) {
        self.0.queued.set(self.0.queued.get().saturating_sub(1));
    }
}

impl ServiceCounts {
    /// A request begins.
    pub(crate) fn began(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// A request that is under way waits for room.
    pub(crate) fn waits(&self) -> CountedAsQueued<'_> {
        self.queued.set(self.queued.get() + 1);
        CountedAsQueued(self)
    }

    /// Somebody asked while it is counted who asks most.
    pub(crate) fn asked(&self, network: Network, limited: bool) {
        self.sources.borrow_mut().add(network, limited);
    }

    /// A request ended after `attempts`.
    pub(crate) fn ended(&self, ending: Ending, attempts: u32, wait: Wait) {
        self.left();
        self.tally(ending, attempts, wait);
    }

    /// A connection was taken by a server after `attempts`; it stays under way.
    pub(crate) fn connected(&self, attempts: u32, wait: Wait) {
        self.tally(Ending::Answered { status: 200 }, attempts, wait);
    }

    /// A connection that a server had taken was cut by a fault.
    pub(crate) fn cut(&self) {
        self.ended(Ending::Failed, 0, Wait { first_byte: None, slow_after: Duration::MAX });
    }

    /// What was under way is no longer, and all of it is counted or counts for nothing.
    pub(crate) fn left(&self) {
        self.dirty.set(true);
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    fn tally(&self, ending: Ending, attempts: u32, wait: Wait) {
        self.dirty.set(true);
        let mut counts = self.counts.borrow_mut();
        counts.requests += 1;
        match ending {
            Ending::Answered { status: 500.. } => counts.server_errors += 1,
            Ending::Answered { .. } if attempts > 1 => counts.saved += 1,
            Ending::Failed => counts.failed += 1,
            Ending::Abandoned => counts.abandoned += 1,
            Ending::Shed => counts.shed += 1,
            Ending::Limited => counts.limited += 1,
            Ending::Answered { .. } | Ending::Refused => {}
        }
        if let Some(first_byte) = wait.first_byte {
            let well_answered = matches!(ending, Ending::Answered { status: ..500 });
            counts.slow += u64::from(well_answered && first_byte > wait.slow_after);
            counts.latency.record(first_byte);
        }
    }

    /// A visitor was hurt: a hash that is the same for all its requests of a day.
    pub(crate) fn hurt(&self, visitor: u64) {
        self.dirty.set(true);
        self.counts.borrow_mut().hurt.add(visitor);
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

    /// The counts since the last call; `None` if nothing happened that the last report did not say.
    pub(crate) fn take(&self) -> Option<ServiceTraffic> {
        let in_flight = self.in_flight.get();
        if !self.dirty.replace(false) && in_flight == 0 && self.reported_in_flight.get() == 0 {
            return None;
        }
        self.reported_in_flight.set(in_flight);
        let queued = self.queued.get().min(in_flight);
        Some(ServiceTraffic {
            in_flight: u64::from(in_flight - queued),
            queued: u64::from(queued),
            ..self.counts.take()
        })
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
    /// What is under way, by worker: a state and no count, so it is never added up over time.
    under_way: Vec<UnderWay>,
    /// Failures for which the channel had no room; at most one for each server.
    failures: BTreeMap<ServerId, TrafficFailure>,
    last_sent: Instant,
}

/// What one worker has under way.
#[derive(Debug, Clone, Default)]
struct UnderWay {
    /// Attempts under way, upgraded connections among them, and what the worker makes of the server.
    attempts: BTreeMap<ServerId, (u64, u64, Circuit)>,
    /// Requests under way, and requests that wait for room.
    requests: BTreeMap<ServiceId, (u64, u64)>,
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
            under_way: vec![UnderWay::default(); workers],
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

    /// A bad answer, as evidence; the counts tell of it in any case.
    pub(crate) fn answered(&self, sample: TrafficSample) {
        // Full: whoever is overwhelmed has had examples.
        let _ = self.reports.try_send(Report::Answered(sample));
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
        // An empty one is sent too: that nothing happened is not the same as that nobody looked.
        let report = state.take();
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
        if let Some(under_way) = self.under_way.get_mut(worker) {
            // A server or service that a worker leaves out has nothing under way there.
            let requests = report.services.iter();
            *under_way = UnderWay {
                attempts: report
                    .servers
                    .iter()
                    .map(|(id, s)| (id.clone(), (s.in_flight, s.tunnels, s.circuit)))
                    .collect(),
                requests: requests.map(|(id, s)| (id.clone(), (s.in_flight, s.queued))).collect(),
            };
        }
        sources::merge(&mut self.unsent.sources, report.sources);
        for (name, n) in report.refusals {
            *self.unsent.refusals.entry(name).or_default() += n;
        }
        for (id, mut server) in report.servers {
            (server.in_flight, server.tunnels, server.circuit) = (0, 0, Circuit::Closed);
            self.unsent.servers.entry(id).or_default().merge(&server);
        }
        for (id, mut service) in report.services {
            (service.in_flight, service.queued) = (0, 0);
            self.unsent.services.entry(id).or_default().merge(&service);
        }
    }

    fn take(&mut self) -> TrafficReport {
        let mut report = std::mem::take(&mut self.unsent);
        report.sources = sources::busiest(report.sources);
        for worker in &self.under_way {
            for (id, &(n, tunnels, circuit)) in &worker.attempts {
                if n > 0 || circuit != Circuit::Closed {
                    let server = report.servers.entry(id.clone()).or_default();
                    server.in_flight += n;
                    server.tunnels += tunnels;
                    server.circuit = server.circuit.max(circuit);
                }
            }
            for (id, &(in_flight, queued)) in worker.requests.iter().filter(|(_, n)| **n != (0, 0)) {
                let service = report.services.entry(id.clone()).or_default();
                service.in_flight += in_flight;
                service.queued += queued;
            }
        }
        report
    }

    fn put_back(&mut self, mut report: TrafficReport) {
        for server in report.servers.values_mut() {
            (server.in_flight, server.tunnels) = (0, 0);
        }
        for service in report.services.values_mut() {
            (service.in_flight, service.queued) = (0, 0);
        }
        self.unsent = report;
    }
}

/// A worker's report: only what has something to say.
pub(crate) fn report<'a>(
    servers: impl Iterator<Item = &'a super::server::ServerState>,
    services: impl Iterator<Item = (&'a ServiceId, &'a ServiceCounts)> + Clone,
    refusals: &RefCell<BTreeMap<&'static str, u64>>,
    now: Instant,
) -> TrafficReport {
    TrafficReport {
        servers: servers.filter_map(|s| Some((s.id.clone(), s.take_counts(now)?))).collect(),
        sources: services.clone().flat_map(|(id, counts)| counts.sources.borrow_mut().take(id)).collect(),
        services: services.filter_map(|(id, counts)| Some((id.clone(), counts.take()?))).collect(),
        refusals: refusals.take().into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
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
                ServerTraffic { ok: requests, in_flight, tunnels: in_flight, ..ServerTraffic::default() },
            )]
            .into(),
            services: [(service, ServiceTraffic { requests, in_flight, ..ServiceTraffic::default() })].into(),
            ..TrafficReport::default()
        }
    }

    fn traffic(report: Report) -> (u64, u64, u64) {
        let Report::Traffic(report) = report else { panic!("{report:?} is no traffic") };
        let (server, service) = (&report.servers.values().next(), &report.services.values().next());
        let in_flight = server.map_or(0, |s| s.in_flight);
        assert_eq!(service.map_or(0, |s| s.in_flight), in_flight, "requests go like attempts here");
        assert_eq!(server.map_or(0, |s| s.tunnels), in_flight, "and so do upgraded connections");
        (server.map_or(0, |s| s.ok), service.map_or(0, |s| s.requests), in_flight)
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
        let slow_after = Duration::from_secs(1);
        let ms = Wait { first_byte: Some(Duration::from_millis(1)), slow_after };
        let late = Wait { first_byte: Some(slow_after + Duration::from_millis(1)), slow_after };
        let never = Wait { first_byte: None, slow_after };
        (0..8).for_each(|_| counts.began());
        counts.hurt(7);
        counts.hurt(7);
        counts.ended(Ending::Answered { status: 200 }, 1, ms);
        counts.ended(Ending::Answered { status: 200 }, 2, ms);
        counts.ended(Ending::Answered { status: 503 }, 2, ms);
        counts.ended(Ending::Answered { status: 404 }, 1, late);
        counts.ended(Ending::Answered { status: 503 }, 1, late);
        counts.ended(Ending::Failed, 3, never);
        counts.ended(Ending::Refused, 1, never);
        counts.ended(Ending::Abandoned, 1, never);
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
            (8, 1, 2, 1, 1, 5)
        );
        assert_eq!((seen.slow, seen.in_flight, seen.hurt.count()), (1, 0, 1));
        assert_eq!(counts.take(), None);
        counts.began();
        assert_eq!(counts.take().map(|c| (c.in_flight, c.requests)), Some((1, 0)));
        counts.ended(Ending::Abandoned, 0, never);
        assert_eq!(counts.take().map(|c| (c.in_flight, c.requests)), Some((0, 1)));
        assert_eq!(counts.take(), None);
    }
}
