//! What real requests say: sliding windows of counts, and when they condemn a server or show that visitors are hurt.

use std::collections::VecDeque;
use std::time::Duration;

use crate::histogram::Histogram;
use crate::incident::VisitorsSaw;
use crate::input::{Circuit, FailureKind, ServerTraffic, ServiceTraffic};
use crate::policy::TrafficPolicy;
use crate::snapshot::{Rates, Totals};
use crate::time::Mono;
use crate::words::{count, percent, span};

/// A report may tell of attempts that were made so long before it came in: two of the data plane's intervals. For so
/// long after a server came back, reports say nothing about it.
pub(crate) const REPORT_LAG: Duration = Duration::from_millis(500);
/// What is under way is forgotten when no report has told of it for so long: while anything is, every report does.
const UNDER_WAY_FORGOTTEN: Duration = Duration::from_secs(1);
/// Rates are shown over so long.
const RATES_SPAN: Duration = Duration::from_secs(10);
/// Service counts are kept a little longer, so that an incident's first sign is still among them.
const VISITORS_SPAN: Duration = Duration::from_secs(20);
/// Failed requests within the window before visitors count as hurt; fewer are bad luck.
const HURT_MIN: u64 = 3;
/// One in so many requests must have failed: long transfers cut short by visitors' networks are always with us.
const HURT_ONE_IN: u64 = 100;
/// An attempt's failure keeps a server's first signs alive for so long, even if a probe is good meanwhile.
pub(crate) const FAILURE_LINGERS: Duration = Duration::from_secs(2);

/// The newest part of the window is judged by itself too: one in so many. In ten seconds of good answers the first seconds of a
/// fault would be lost.
const NEWEST: u32 = 5;
/// A server is compared with its fellows by its answers of so much of the last time: long enough that a median means
/// something, short enough that who was slow a moment ago is not out for it now.
const COMPARED_SPAN: Duration = Duration::from_secs(5);
/// A median that is longer than the fellows' by less is never called slow: it is what a page of another kind costs.
const SLOW_LEAST: Duration = Duration::from_millis(100);

/// How fast a server answers is asked of so much of the last time.
const PACE_SPAN: Duration = Duration::from_secs(2);
/// What came back in so long is news to one who sees nothing.
const BLIND_SPAN: Duration = Duration::from_secs(1);

/// Counts in a fixed number of buckets of time.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    width_ns: u64,
    keep: u64,
    buckets: VecDeque<(u64, T)>,
}

impl<T: Default> Ring<T> {
    /// Looks back over `span` in `keep` buckets.
    pub(crate) fn new(span: Duration, keep: u64) -> Self {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self { width_ns: (ns / keep).max(1_000_000), keep, buckets: VecDeque::new() }
    }

    /// The bucket of this moment.
    pub(crate) fn at(&mut self, now: Mono) -> &mut T {
        let index = now.0 / self.width_ns;
        while self.buckets.front().is_some_and(|(i, _)| i + self.keep <= index) {
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|(i, _)| *i < index) {
            self.buckets.push_back((index, T::default()));
        }
        &mut self.buckets.back_mut().expect("pushed above if it was empty").1
    }

    /// The buckets that are not older than the ring looks back, and end after `since`.
    pub(crate) fn since(&self, since: Mono, now: Mono) -> impl Iterator<Item = &T> {
        let (width, keep, index) = (self.width_ns, self.keep, now.0 / self.width_ns);
        self.buckets
            .iter()
            .filter(move |(i, _)| i + keep > index && i.saturating_add(1).saturating_mul(width) > since.0)
            .map(|(_, bucket)| bucket)
    }

    pub(crate) fn width(&self) -> Duration {
        Duration::from_nanos(self.width_ns)
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    pub(crate) fn keep(&self) -> u64 {
        self.keep
    }
}

/// Attempts that count for or against a server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) server_errors: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.server_errors += other.server_errors;
    }

    pub(crate) fn bad(&self) -> u64 {
        self.failed + self.server_errors
    }

    pub(crate) fn bad_share(&self) -> f64 {
        if self.attempts == 0 { 0.0 } else { self.bad() as f64 / self.attempts as f64 }
    }

    /// What the share is at least, with 97.5 % certainty: the lower end of Wilson's score interval.
    pub(crate) fn bad_share_at_least(&self) -> f64 {
        const Z: f64 = 1.96;
        let (n, share) = (self.attempts as f64, self.bad_share());
        if n == 0.0 {
            return 0.0;
        }
        let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        (share + Z * Z / (2.0 * n) - spread) / (1.0 + Z * Z / n)
    }
}

/// Why traffic condemns a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condemnation {
    pub(crate) text: String,
    /// For 5xx answers that visitors saw, rather than for attempts that could be tried again.
    pub(crate) by_answers: bool,
    /// For being slow, though it answers well.
    pub(crate) for_slowness: bool,
}

/// How long a server takes over its answers, beside the others of its service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Comparison {
    /// Its own median.
    pub(crate) own: Duration,
    /// The median of its fellows' medians.
    pub(crate) fellows: Duration,
}

impl Comparison {
    /// It is slower than can be put down to chance or to a weaker machine.
    pub(crate) fn is_slow(&self, policy: &TrafficPolicy) -> bool {
        policy.slow_times > 0.0
            && self.own >= self.fellows + SLOW_LEAST
            && self.own.as_secs_f64() >= self.fellows.as_secs_f64() * policy.slow_times
    }

    pub(crate) fn condemnation(&self, policy: &TrafficPolicy) -> Option<Condemnation> {
        let text = || {
            format!(
                "half of its answers take {} or longer, its fellows' {} (slow-times = {})",
                took(self.own),
                took(self.fellows),
                policy.slow_times
            )
        };
        self.is_slow(policy).then(|| Condemnation { text: text(), by_answers: false, for_slowness: true })
    }
}

/// What real requests say of one server.
#[derive(Debug)]
pub(crate) struct Traffic {
    window: Ring<Counts>,
    window_span: Duration,
    recent: Ring<ServerTraffic>,
    pub(crate) totals: Totals,
    in_flight: (u64, Mono),
    /// Of them, upgraded connections.
    tunnels: u64,
    circuit: (Circuit, Mono),
    /// Failed attempts in a row, and when a report last told of one more.
    in_a_row: (u64, Mono),
    /// Reports before this time tell of the server as it was before it came back.
    deaf_until: Mono,
    /// When it came back.
    begun_over: Mono,
    /// When a failure was last heard of.
    pub(crate) last_failure: Option<Mono>,
    /// When a report last told of an attempt.
    pub(crate) last_attempt: Mono,
    /// Nothing was answered since then, as far as reports tell.
    silent: bool,
    /// Counts since the present run of failed probes began, within the window.
    since_bad: Ring<Counts>,
    first_report: Option<Mono>,
    /// The median of the last answers with how many they were, and when that was reckoned.
    typical: Option<(Duration, u64, Mono)>,
    /// The same of the very last ones.
    newest: Option<(Duration, u64)>,
}

impl Traffic {
    pub(crate) fn new(policy: &TrafficPolicy) -> Self {
        Self {
            window: Ring::new(policy.window, 20),
            window_span: policy.window,
            recent: Ring::new(RATES_SPAN, 20),
            totals: Totals::default(),
            in_flight: (0, Mono::default()),
            tunnels: 0,
            circuit: (Circuit::Closed, Mono::default()),
            in_a_row: (0, Mono::default()),
            deaf_until: Mono::default(),
            begun_over: Mono::default(),
            last_failure: None,
            last_attempt: Mono::default(),
            silent: false,
            since_bad: Ring::new(policy.window, 20),
            first_report: None,
            typical: None,
            newest: None,
        }
    }

    /// A changed policy; the window is begun anew only if its length changed.
    pub(crate) fn apply(&mut self, policy: &TrafficPolicy) {
        if self.window_span != policy.window {
            self.window = Ring::new(policy.window, 20);
            self.since_bad = Ring::new(policy.window, 20);
            self.window_span = policy.window;
        }
    }

    /// Takes a report in. `bad_since`: when the present run of failed probes began.
    pub(crate) fn report(&mut self, report: &ServerTraffic, bad_since: Option<Mono>, now: Mono) {
        let (answered, failed) = (report.answered(), report.failed());
        let counts = Counts { attempts: answered + failed, failed, server_errors: report.server_errors };
        self.first_report.get_or_insert(now);
        self.recent.at(now).go_on(report);
        self.totals.requests += counts.attempts;
        self.totals.failed += failed;
        self.totals.server_errors += report.server_errors;
        self.in_flight = (report.in_flight, now);
        self.tunnels = report.tunnels;
        self.circuit = (report.circuit, now);
        if counts.attempts > 0 || report.in_flight > 0 {
            self.last_attempt = now;
        }
        if now < self.deaf_until {
            return;
        }
        self.window.at(now).add(counts);
        if answered > 0 {
            self.reckon_typical(now);
        }
        if answered > 0 && report.failures_in_a_row == 0 {
            self.silent = false;
        }
        if failed > 0 {
            // Each worker counts its own run; where no worker had an answer, all that failed is one run.
            let run = if answered == 0 { self.in_a_row(now).saturating_add(failed) } else { 0 };
            self.in_a_row = (run.max(report.failures_in_a_row), now);
            self.last_failure = Some(now);
        } else if answered > 0 {
            self.in_a_row.0 = 0;
        }
        if bad_since.is_some_and(|since| now >= since + REPORT_LAG) {
            self.since_bad.at(now).add(counts);
        }
    }

    /// The data plane saw an attempt fail.
    pub(crate) fn failed(&mut self, now: Mono) {
        self.last_failure = Some(now);
        self.silent = true;
    }

    /// Real requests failed a moment ago, and none was answered since: the other witness of a hang.
    pub(crate) fn is_silent(&self, now: Mono) -> bool {
        self.silent && self.last_failure.is_some_and(|at| now.since(at) <= FAILURE_LINGERS)
    }

    /// Old counts say nothing about what the server is from now on.
    pub(crate) fn start_over(&mut self, now: Mono) {
        self.window.clear();
        self.in_a_row = (0, now);
        self.last_failure = None;
        self.silent = false;
        self.since_bad.clear();
        (self.typical, self.newest) = (None, None);
        self.begun_over = now;
        self.deaf_until = now + REPORT_LAG;
    }

    /// It came back so short a time ago.
    pub(crate) fn came_back_within(&self, within: Duration, now: Mono) -> bool {
        self.begun_over != Mono::default() && now < self.begun_over + within
    }

    /// Reports tell of the server as it is now.
    pub(crate) fn hears(&self, now: Mono) -> bool {
        now >= self.deaf_until
    }

    pub(crate) fn window(&self, now: Mono) -> Counts {
        let mut sum = Counts::default();
        self.window.since(Mono::default(), now).for_each(|c| sum.add(*c));
        sum
    }

    fn lately(&self, within: Duration, now: Mono) -> Counts {
        let mut sum = Counts::default();
        self.window.since(now.before(within), now).for_each(|c| sum.add(*c));
        sum
    }

    /// Failed attempts in a row, as far as it is news: a run that ended with the traffic says nothing later.
    pub(crate) fn in_a_row(&self, now: Mono) -> u64 {
        if now.since(self.in_a_row.1) < self.window_span { self.in_a_row.0 } else { 0 }
    }

    /// Whether and why traffic speaks against the server.
    pub(crate) fn condemnation(&self, policy: &TrafficPolicy, now: Mono) -> Option<Condemnation> {
        let row = self.in_a_row(now);
        if policy.consecutive_failures > 0 && row >= u64::from(policy.consecutive_failures) {
            let limit = policy.consecutive_failures;
            let text = format!("{} in a row failed (consecutive-failures = {limit})", count(row, "attempt"));
            return Some(Condemnation { text, by_answers: false, for_slowness: false });
        }
        let (whole, newest) = (self.window(now), policy.window / NEWEST);
        let lately = self.lately(newest, now);
        let enough = |counts: &Counts| counts.bad() > 0 && counts.attempts >= u64::from(policy.min_requests);
        let (counts, within) = if enough(&whole) && whole.bad_share() >= policy.failure_share {
            (whole, policy.window)
        } else if enough(&lately) && lately.bad_share_at_least() >= policy.failure_share {
            (lately, newest)
        } else {
            return None;
        };
        let text = format!(
            "{} of {} in {} failed or were answered 5xx (failure-share = {})",
            percent(counts.bad_share()),
            count(counts.attempts, "attempt"),
            span(within),
            percent(policy.failure_share),
        );
        Some(Condemnation { text, by_answers: counts.server_errors > 0, for_slowness: false })
    }

    /// The median of its last answers, if they are enough to be compared and still news.
    fn typical(&self, policy: &TrafficPolicy, now: Mono) -> Option<Duration> {
        let (median, answers, at) = self.typical?;
        (answers >= u64::from(policy.min_requests) && now.since(at) <= COMPARED_SPAN).then_some(median)
    }

    /// The least and the most that may be said of the median of its last answers: while every server becomes slow or fast at
    /// once, some have a little more old answers than others among their last ones.
    pub(crate) fn typical_bounds(&self, policy: &TrafficPolicy, now: Mono) -> Option<(Duration, Duration)> {
        let typical = self.typical(policy, now)?;
        let enough = |(_, answers): &(Duration, u64)| answers * 4 >= u64::from(policy.min_requests);
        let newest = self.newest.filter(enough).map_or(typical, |(median, _)| median);
        Some((typical.min(newest), typical.max(newest)))
    }

    fn reckon_typical(&mut self, now: Mono) {
        let since = Mono(now.0.saturating_sub(nanos(COMPARED_SPAN))).max(self.begun_over);
        let mut latency = Histogram::new();
        self.recent.since(since, now).for_each(|bucket| latency.merge(&bucket.latency));
        self.typical = latency.quantile(0.5).map(|median| (median, latency.count(), now));
        latency.clear();
        let since = now.before(PACE_SPAN).max(self.begun_over);
        self.recent.since(since, now).for_each(|bucket| latency.merge(&bucket.latency));
        self.newest = latency.quantile(0.5).map(|median| (median, latency.count()));
    }

    /// The probes began to fail: what is counted from now on may contradict them.
    pub(crate) fn probes_fail(&mut self) {
        self.since_bad.clear();
    }

    /// What was counted while the probes failed, within the window.
    pub(crate) fn since_bad(&self, now: Mono) -> Counts {
        let mut sum = Counts::default();
        self.since_bad.since(Mono::default(), now).for_each(|c| sum.add(*c));
        sum
    }

    /// Requests have been answered well while the probes failed.
    pub(crate) fn is_good_since_bad(&self, policy: &TrafficPolicy, now: Mono) -> bool {
        let counts = self.since_bad(now);
        counts.attempts > counts.bad() && counts.bad_share() < policy.failure_share
    }

    /// What was counted since then, to half a second; as long as rates look back at most.
    pub(crate) fn counts_since(&self, since: Mono, now: Mono) -> Counts {
        let mut counts = Counts::default();
        for bucket in self.recent.since(since, now) {
            let (attempts, failed) = (bucket.answered() + bucket.failed(), bucket.failed());
            counts.add(Counts { attempts, failed, server_errors: bucket.server_errors });
        }
        counts
    }

    /// Requests have been answered well in the last second.
    pub(crate) fn is_good_lately(&self, policy: &TrafficPolicy, now: Mono) -> bool {
        let counts = self.counts_since(now.before(Duration::from_secs(1)), now);
        counts.attempts > counts.bad() && counts.bad_share() < policy.failure_share
    }

    /// Attempts in the last seconds.
    pub(crate) fn attempts_lately(&self, now: Mono) -> u64 {
        self.pace(now).0
    }

    /// Of the last seconds: attempts, those of them that were not answered in time, and the median of the others in
    /// milliseconds.
    pub(crate) fn pace(&self, now: Mono) -> (u64, u64, Option<f64>) {
        let (mut attempts, mut unanswered, mut latency) = (0, 0, Histogram::new());
        for bucket in self.recent.since(Mono(now.0.saturating_sub(nanos(PACE_SPAN))), now) {
            let late = |kind| bucket.failures.get(&kind).copied().unwrap_or(0);
            attempts += bucket.answered() + bucket.failed();
            unanswered += late(FailureKind::Timeout) + late(FailureKind::ConnectTimeout);
            latency.merge(&bucket.latency);
        }
        (attempts, unanswered, latency.quantile(0.5).map(|d| d.as_secs_f64() * 1000.0))
    }

    /// An attempt was answered in the last seconds.
    pub(crate) fn answered_lately(&self, now: Mono) -> bool {
        self.recent
            .since(Mono(now.0.saturating_sub(nanos(PACE_SPAN))), now)
            .any(|bucket| bucket.answered() > 0)
    }

    /// Nothing but lateness speaks against it: no attempt was refused, cut or answered 5xx.
    pub(crate) fn is_only_late(&self, now: Mono) -> bool {
        self.recent.since(Mono(now.0.saturating_sub(nanos(PACE_SPAN))), now).all(|bucket| {
            let late =
                |kind: &FailureKind| matches!(kind, FailureKind::Timeout | FailureKind::ConnectTimeout);
            bucket.server_errors == 0 && bucket.failures.iter().all(|(kind, n)| *n == 0 || late(kind))
        })
    }

    /// Whatever speaks against it came back as silence: no attempt was refused, cut or answered 5xx. Of one who knows that
    /// nothing comes back to him (`blind`) only the last moment tells.
    pub(crate) fn is_only_silent(&self, blind: bool, now: Mono) -> bool {
        let span = if blind { BLIND_SPAN } else { PACE_SPAN };
        self.recent.since(now.before(span), now).all(|bucket| {
            bucket.server_errors == 0 && bucket.failures.iter().all(|(kind, n)| *n == 0 || kind.is_silence())
        })
    }

    /// What spoke against it since then were refused connections alone, one after the other, up to the last attempt.
    pub(crate) fn was_refused(&self, policy: &TrafficPolicy, since: Mono, now: Mono) -> bool {
        let in_a_row = u64::from(policy.consecutive_failures.max(1));
        let refused = |bucket: &ServerTraffic| {
            let others = bucket.failures.iter().filter(|(kind, _)| **kind != FailureKind::Refused);
            bucket.server_errors == 0 && others.map(|(_, n)| n).sum::<u64>() == 0
        };
        self.in_a_row.0 >= in_a_row && self.recent.since(since.before(PACE_SPAN), now).all(refused)
    }

    /// How soon a judgement by the window can change without another report.
    pub(crate) fn recheck(&self) -> Duration {
        self.window.width()
    }

    /// A report did not speak of it: nothing is under way there.
    pub(crate) fn not_mentioned(&mut self, now: Mono) {
        self.in_flight = (0, now);
        self.tunnels = 0;
        self.circuit = (Circuit::Closed, now);
    }

    /// A report that tells of the time after `since` said that nothing is under way.
    pub(crate) fn is_idle_since(&self, since: Mono) -> bool {
        self.in_flight.0 == 0 && self.in_flight.1 >= since + REPORT_LAG
    }

    /// Attempts under way; forgotten when reports no longer speak of the server.
    pub(crate) fn in_flight(&self, now: Mono) -> u64 {
        if now.since(self.in_flight.1) < UNDER_WAY_FORGOTTEN { self.in_flight.0 } else { 0 }
    }

    /// Of the attempts under way, upgraded connections.
    pub(crate) fn tunnels(&self, now: Mono) -> u64 {
        self.tunnels.min(self.in_flight(now))
    }

    /// What the data plane makes of it; forgotten when reports no longer speak of the server.
    pub(crate) fn circuit(&self, now: Mono) -> Circuit {
        if now.since(self.circuit.1) < UNDER_WAY_FORGOTTEN { self.circuit.0 } else { Circuit::Closed }
    }

    pub(crate) fn rates(&self, now: Mono) -> Rates {
        let (mut ended, mut bad, mut latency) = (0, 0, Histogram::new());
        for bucket in self.recent.since(Mono::default(), now) {
            ended += bucket.answered() + bucket.failed();
            bad += bucket.failed() + bucket.server_errors;
            latency.merge(&bucket.latency);
        }
        rates(ended, bad, &latency, self.first_report, now)
    }

    pub(crate) fn buckets_within_limits(&self) -> bool {
        self.window.len() as u64 <= self.window.keep()
            && self.since_bad.len() as u64 <= self.since_bad.keep()
            && self.recent.len() as u64 <= self.recent.keep()
    }
}

/// What the visitors of one service see.
#[derive(Debug)]
pub(crate) struct Visitors {
    recent: Ring<ServiceTraffic>,
    pub(crate) totals: Totals,
    /// When a report last told of more than a few failed requests.
    pub(crate) last_hurt: Option<Mono>,
    /// When a share of requests worth telling was last turned away for want of room.
    pub(crate) last_shed: Option<Mono>,
    first_report: Option<Mono>,
    /// Requests under way and requests that wait for room, and when a report last told of them.
    under_way: (u64, u64, Mono),
    /// Requests that may be under way, where that is found out; else 0.
    places: u64,
}

impl Visitors {
    pub(crate) fn new() -> Self {
        Self {
            recent: Ring::new(VISITORS_SPAN, 40),
            totals: Totals::default(),
            last_hurt: None,
            last_shed: None,
            first_report: None,
            under_way: (0, 0, Mono::default()),
            places: 0,
        }
    }

    pub(crate) fn report(&mut self, report: &ServiceTraffic, now: Mono) {
        self.first_report.get_or_insert(now);
        self.recent.at(now).go_on(report);
        self.totals.requests += report.requests;
        self.totals.failed += report.failed;
        self.totals.server_errors += report.server_errors;
        self.totals.saved += report.saved;
        self.totals.slow += report.slow;
        self.totals.shed += report.shed;
        self.totals.limited += report.limited;
        self.under_way = (report.in_flight, report.queued, now);
        self.places = report.places;
        if report.failed > 0 && report.failed * HURT_ONE_IN >= report.requests {
            self.last_hurt = Some(now);
        }
        if report.shed > 0 && report.shed * HURT_ONE_IN >= report.requests {
            self.last_shed = Some(now);
        }
    }

    /// Requests under way, less those that wait for room; forgotten when reports no longer speak of the service.
    pub(crate) fn in_flight(&self, now: Mono) -> u64 {
        if self.is_current(now) { self.under_way.0 } else { 0 }
    }

    /// Requests that wait for room.
    pub(crate) fn queued(&self, now: Mono) -> u64 {
        if self.is_current(now) { self.under_way.1 } else { 0 }
    }

    /// Requests limited and requests shed a second, over as long as rates look back.
    pub(crate) fn refused_per_second(&self, now: Mono) -> (f64, f64) {
        let Some(first) = self.first_report else { return (0.0, 0.0) };
        let since = Mono(now.0.saturating_sub(nanos(RATES_SPAN)));
        let covered = now.since(first).clamp(Duration::from_secs(1), RATES_SPAN).as_secs_f64();
        let buckets = self.recent.since(since, now);
        let (limited, shed) = buckets.fold((0, 0), |(l, s), b| (l + b.limited, s + b.shed));
        (limited as f64 / covered, shed as f64 / covered)
    }

    /// How many may be under way, where that is found out.
    pub(crate) fn places(&self, now: Mono) -> Option<u64> {
        Some(self.places).filter(|places| *places > 0 && self.is_current(now))
    }

    fn is_current(&self, now: Mono) -> bool {
        now.since(self.under_way.2) < UNDER_WAY_FORGOTTEN
    }

    /// How many requests of how many failed in the window, if they are enough to call the visitors hurt.
    pub(crate) fn hurt(&self, window: Duration, now: Mono) -> Option<(u64, u64)> {
        let saw = self.saw(Mono(now.0.saturating_sub(nanos(window))), now);
        (saw.failed >= HURT_MIN && saw.failed * HURT_ONE_IN >= saw.requests)
            .then_some((saw.failed, saw.requests))
    }

    /// What visitors saw from `since` on, to half a second; the ring's span at most.
    pub(crate) fn saw(&self, since: Mono, now: Mono) -> VisitorsSaw {
        let mut saw = VisitorsSaw::default();
        self.recent.since(since, now).for_each(|bucket| saw.add(&VisitorsSaw::of(bucket)));
        saw
    }

    pub(crate) fn rates(&self, now: Mono) -> Rates {
        let since = Mono(now.0.saturating_sub(nanos(RATES_SPAN)));
        let (mut ended, mut bad, mut latency) = (0, 0, Histogram::new());
        for bucket in self.recent.since(since, now) {
            ended += bucket.requests;
            bad += bucket.failed + bucket.server_errors;
            latency.merge(&bucket.latency);
        }
        rates(ended, bad, &latency, self.first_report, now)
    }

    pub(crate) fn buckets_within_limits(&self) -> bool {
        self.recent.len() as u64 <= self.recent.keep()
    }
}

fn rates(ended: u64, bad: u64, latency: &Histogram, first: Option<Mono>, now: Mono) -> Rates {
    let Some(first) = first else { return Rates::default() };
    let covered = now.since(first).clamp(Duration::from_secs(1), RATES_SPAN);
    let ms = |q| latency.quantile(q).map(|d| d.as_secs_f64() * 1000.0);
    Rates {
        per_second: ended as f64 / covered.as_secs_f64(),
        error_share: (ended > 0).then(|| bad as f64 / ended as f64),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    }
}

/// How long an answer took, to a millisecond.
pub(crate) fn took(duration: Duration) -> String {
    if duration < Duration::from_millis(1) { "less than 1ms".to_owned() } else { span(duration) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn report(ok: u64, errors: u64, refused: u64, row: u64) -> ServerTraffic {
        let mut t = ServerTraffic { ok, server_errors: errors, failures_in_a_row: row, ..Default::default() };
        if refused > 0 {
            t.failures.insert(FailureKind::Refused, refused);
        }
        t
    }

    #[test]
    fn five_failures_in_a_row_condemn() {
        let policy = TrafficPolicy::default();
        let mut traffic = Traffic::new(&policy);
        traffic.report(&report(0, 0, 4, 4), None, at(1000));
        assert_eq!(traffic.condemnation(&policy, at(1000)), None);
        traffic.report(&report(0, 0, 1, 5), None, at(1250));
        let text = traffic.condemnation(&policy, at(1250)).unwrap().text;
        assert_eq!(text, "5 attempts in a row failed (consecutive-failures = 5)");
    }

    #[test]
    fn a_fault_after_a_long_good_time_is_seen_within_two_seconds_and_bad_luck_is_not() {
        let policy = TrafficPolicy::default();
        let mut traffic = Traffic::new(&policy);
        (4..40).for_each(|n| traffic.report(&report(12, 0, 0, 0), None, at(n * 250)));
        // Three in ten of fifty a second.
        let seen = (40..60).find(|n| {
            traffic.report(&report(9, 4, 0, 1), None, at(n * 250));
            traffic.condemnation(&policy, at(n * 250)).is_some()
        });
        let text = traffic.condemnation(&policy, at(seen.unwrap() * 250)).unwrap().text;
        assert!(seen <= Some(48), "{seen:?}");
        assert!(text.contains(" in 2s failed or were answered 5xx (failure-share = 20%)"), "{text}");

        let mut unlucky = Traffic::new(&policy);
        (4..40).for_each(|n| unlucky.report(&report(12, 0, 0, 0), None, at(n * 250)));
        for n in 40..44 {
            unlucky.report(&report(5, 1, 0, 1), None, at(n * 250));
            assert_eq!(unlucky.condemnation(&policy, at(n * 250)), None, "one in six of a few says little");
        }
    }

    #[test]
    fn failures_of_several_workers_are_one_run_as_long_as_none_has_an_answer() {
        let policy = TrafficPolicy::default();
        let mut traffic = Traffic::new(&policy);
        traffic.report(&report(0, 0, 2, 1), None, at(1000));
        traffic.report(&report(0, 0, 2, 2), None, at(1250));
        assert_eq!(traffic.in_a_row(at(1250)), 4);
        traffic.report(&report(1, 0, 1, 2), None, at(1500));
        assert_eq!(
            traffic.in_a_row(at(1500)),
            2,
            "one of them was answered, so only a worker's own run is sure"
        );
        traffic.report(&report(0, 0, 3, 2), None, at(1750));
        assert!(traffic.condemnation(&policy, at(1750)).is_some());
    }

    #[test]
    fn a_run_of_failures_is_old_news_after_the_window() {
        let policy = TrafficPolicy::default();
        let mut traffic = Traffic::new(&policy);
        traffic.report(&report(0, 0, 5, 5), None, at(1000));
        assert!(traffic.condemnation(&policy, at(10_900)).is_some());
        assert!(traffic.condemnation(&policy, at(11_000)).is_none());
    }

    #[test]
    fn a_share_says_nothing_below_the_minimum() {
        let policy = TrafficPolicy::default();
        let mut traffic = Traffic::new(&policy);
        traffic.report(&report(9, 10, 0, 0), None, at(1000));
        assert_eq!(traffic.condemnation(&policy, at(1000)), None);
        traffic.report(&report(1, 0, 0, 0), None, at(1250));
        let condemned = traffic.condemnation(&policy, at(1250)).unwrap();
        assert!(condemned.by_answers);
        assert_eq!(
            condemned.text,
            "50% of 20 attempts in 10s failed or were answered 5xx (failure-share = 20%)"
        );
    }

    #[test]
    fn reports_that_may_tell_of_the_time_before_the_return_say_nothing() {
        let policy = TrafficPolicy::default();
        let mut traffic = Traffic::new(&policy);
        traffic.start_over(at(1000));
        traffic.report(&report(0, 0, 9, 9), None, at(1250));
        assert_eq!(traffic.condemnation(&policy, at(1250)), None);
        traffic.report(&report(0, 0, 9, 18), None, at(1500));
        assert!(traffic.condemnation(&policy, at(1500)).is_some());
    }

    #[test]
    fn a_ring_never_holds_more_than_its_buckets() {
        let mut ring: Ring<u64> = Ring::new(Duration::from_secs(10), 20);
        for ms in 0..100_000 {
            *ring.at(at(ms)) += 1;
            assert!(ring.len() <= 20);
        }
        assert_eq!(ring.since(Mono(0), at(99_999)).sum::<u64>(), 10_000);
    }

    #[test]
    fn what_is_under_way_is_a_state_and_never_added_up_over_time() {
        let mut visitors = Visitors::new();
        for (ms, in_flight, queued) in [(100, 7, 3), (110, 5, 2)] {
            let report = ServiceTraffic { requests: 1, in_flight, queued, ..Default::default() };
            visitors.report(&report, at(ms));
        }
        assert_eq!((visitors.in_flight(at(120)), visitors.queued(at(120))), (5, 2));
        let kept: Vec<_> = visitors.recent.since(at(0), at(120)).collect();
        assert_eq!((kept.len(), kept[0].requests, kept[0].in_flight, kept[0].queued), (1, 2, 5, 2));
        assert_eq!((visitors.in_flight(at(2000)), visitors.queued(at(2000))), (0, 0), "nobody speaks of it");
    }

    #[test]
    fn one_failed_request_in_a_thousand_hurts_nobody() {
        let mut visitors = Visitors::new();
        for i in 0..40 {
            let report = ServiceTraffic { requests: 1000, failed: 1, ..Default::default() };
            visitors.report(&report, at(250 * i));
        }
        assert_eq!(visitors.hurt(Duration::from_secs(10), at(10_000)), None);
        assert_eq!(visitors.last_hurt, None);
        visitors.report(&ServiceTraffic { requests: 1000, failed: 900, ..Default::default() }, at(10_000));
        assert!(visitors.hurt(Duration::from_secs(10), at(10_000)).is_some());
        assert_eq!(visitors.last_shed, None);
        visitors.report(&ServiceTraffic { requests: 1000, shed: 300, ..Default::default() }, at(10_250));
        assert_eq!(visitors.last_shed, Some(at(10_250)));
    }

    #[test]
    fn rates_are_a_second_over_the_last_ten() {
        let mut visitors = Visitors::new();
        for i in 0..80 {
            let mut latency = Histogram::new();
            latency.record(Duration::from_millis(4));
            let report = ServiceTraffic { requests: 25, server_errors: 5, latency, ..Default::default() };
            visitors.report(&report, at(250 * i));
        }
        let rates = visitors.rates(at(250 * 79));
        assert!((95.0..=105.0).contains(&rates.per_second), "{rates:?}");
        assert_eq!(rates.error_share, Some(0.2));
        assert_eq!(rates.p50_ms, Some(4.0));
    }
}
