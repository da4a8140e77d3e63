//! What an incident cost: who was hurt, for how long, and about how much money, counted second by second from requests.
//!
//! All of it is from `began_at` on. What must survive a restart of Mainstay ([`Tally`], [`Curve`]) is written down with the
//! incident; figures never run backwards.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::incident::VisitorsSaw;
use crate::input::ServiceTraffic;
use crate::policy::Value;
use crate::sketch::Sketch;
use crate::time::Mono;
use crate::traffic::Ring;
use crate::words::{amount, grouped, measured};

/// A report may tell of requests that ended so long before it came in: the data plane's interval.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// Slices of the time before an incident that are kept; the horizon of first signs has fewer.
const SLICES_MAX: usize = 1024;
/// What usually comes is asked of so long.
const USUAL_SPAN: Duration = Duration::from_secs(3600);
/// Traffic that is lower than usual by less than one in so many is as usual.
const CHANCE_ONE_IN: u64 = 10;
/// A second of the service, in the unit of lost time.
const SECOND_US: u64 = 1_000_000;

/// What an incident was for visitors and for the business, up to now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Impact {
    /// Different visitors of whom a request failed, was answered 5xx or was shed.
    pub visitors: u64,
    /// `visitors` was counted; otherwise it is an estimate with a standard error of 1.15 %.
    pub visitors_exact: bool,
    /// Seconds in which at least one request was hurt, or nobody was answered.
    pub hurt_seconds: u64,
    /// Of them, seconds in which nobody was answered.
    pub down_seconds: u64,
    /// Each second by the share of its requests that were hurt, added up: milliseconds of the service that were lost.
    pub lost_ms: u64,
    /// Requests that were to be expected by the traffic before and did not come while nobody was answered.
    pub missing: u64,
    /// What that is in money, if the service has a `value`.
    pub money: Option<Money>,
}

/// An estimate of money, with how it was made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Money {
    /// To the hundredth.
    pub amount: f64,
    /// As the config has it: `EUR`.
    pub currency: String,
    /// What an hour of the service is worth, by the config.
    pub per_hour: f64,
    /// How the estimate was made, in one sentence without a full stop.
    pub how: String,
}

impl Money {
    /// `3.30 EUR`, `12,400 EUR`.
    pub fn text(&self) -> String {
        format!("{} {}", amount(self.amount), self.currency)
    }
}

impl VisitorsSaw {
    /// What is counted: a request, or a connection of a TCP service.
    pub fn noun(&self) -> &'static str {
        self.nouns().0
    }

    /// One and several of what is counted.
    pub fn nouns(&self) -> (&'static str, &'static str) {
        if self.connections { ("connection", "connections") } else { ("request", "requests") }
    }

    /// Requests that did not go well for their visitor: failed, answered 5xx, or shed.
    pub fn hurt(&self) -> u64 {
        self.failed.saturating_add(self.server_errors).saturating_add(self.shed)
    }

    /// The counts of one report. One that contradicts itself is taken to have had as many requests as endings.
    pub(crate) fn of(report: &ServiceTraffic) -> Self {
        let ServiceTraffic { failed, server_errors, saved, slow, shed, limited, .. } = *report;
        let endings = failed.saturating_add(server_errors).saturating_add(shed).saturating_add(limited);
        let requests = report.requests.max(endings).max(saved).max(slow);
        Self { connections: false, requests, failed, server_errors, saved, slow, shed, limited }
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &VisitorsSaw) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.server_errors += other.server_errors;
        self.saved += other.saved;
        self.slow += other.slow;
        self.shed += other.shed;
        self.limited += other.limited;
    }

    /// The counts are the same, whatever they are counts of.
    pub(crate) fn is_as_many_as(&self, other: &VisitorsSaw) -> bool {
        *self == VisitorsSaw { connections: self.connections, ..*other }
    }

    /// No count is below that of an earlier time.
    pub(crate) fn is_at_least(&self, earlier: &VisitorsSaw) -> bool {
        let pairs = [
            (self.requests, earlier.requests),
            (self.failed, earlier.failed),
            (self.server_errors, earlier.server_errors),
            (self.saved, earlier.saved),
            (self.slow, earlier.slow),
            (self.shed, earlier.shed),
            (self.limited, earlier.limited),
        ];
        pairs.iter().all(|(now, before)| now >= before)
    }
}

/// Counts of an incident over time, from its beginning on. Long incidents have wider points, so there are never many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Columns", into = "Columns")]
pub struct Curve {
    /// The width of a point; it doubles when there would be too many.
    pub step_ms: u64,
    /// The first begins with the incident; `None`: Mainstay was not looking.
    pub points: Vec<Option<VisitorsSaw>>,
}

impl Default for Curve {
    fn default() -> Self {
        Self { step_ms: Self::FINEST_MS, points: Vec::new() }
    }
}

impl Curve {
    /// More points than these are narrower than a line on a page.
    pub const POINTS_MAX: usize = 240;
    /// The width of the points of a short incident.
    pub const FINEST_MS: u64 = 1000;

    /// All points together.
    pub fn sum(&self) -> VisitorsSaw {
        let mut sum = VisitorsSaw::default();
        self.points.iter().flatten().for_each(|point| sum.add(point));
        sum
    }

    /// The same with wider points, so that there are at most so many.
    pub fn at_most(&self, points: usize) -> Curve {
        let mut curve = self.clone();
        while curve.points.len() > points.max(1) {
            curve.coarsen();
        }
        curve
    }

    /// Counts of so many milliseconds after the beginning. Time since the last point was looked at and had none.
    fn add(&mut self, at_ms: u64, saw: &VisitorsSaw) {
        self.reach(at_ms, Some(VisitorsSaw::default()));
        if let Some(last) = self.points.last_mut() {
            last.get_or_insert_default().add(saw);
        }
    }

    /// It reaches to this time already.
    fn reaches(&self, at_ms: u64) -> bool {
        at_ms / self.step_ms < self.points.len() as u64
    }

    /// Fills up to and with the point of this time.
    fn reach(&mut self, at_ms: u64, with: Option<VisitorsSaw>) {
        while at_ms / self.step_ms >= Self::POINTS_MAX as u64 {
            self.coarsen();
        }
        let points = usize::try_from(at_ms / self.step_ms).unwrap_or(Self::POINTS_MAX - 1) + 1;
        if points > self.points.len() {
            self.points.resize(points, with);
        }
    }

    fn coarsen(&mut self) {
        self.step_ms = self.step_ms.saturating_mul(2);
        let pair = |pair: &[Option<VisitorsSaw>]| {
            pair.iter().flatten().copied().reduce(|mut a, b| {
                a.add(&b);
                a
            })
        };
        self.points = self.points.chunks(2).map(pair).collect();
    }

    /// Where the time after its last point begins.
    fn end_ms(&self) -> u64 {
        (self.points.len() as u64).saturating_mul(self.step_ms)
    }
}

/// A curve as it is stored and sent: a list a figure, with `null` requests where Mainstay was not looking.
#[derive(Serialize, Deserialize)]
struct Columns {
    step_ms: u64,
    requests: Vec<Option<u64>>,
    failed: Vec<u64>,
    server_errors: Vec<u64>,
    saved: Vec<u64>,
    slow: Vec<u64>,
    shed: Vec<u64>,
    limited: Vec<u64>,
}

impl From<Curve> for Columns {
    fn from(curve: Curve) -> Self {
        let column =
            |f: fn(&VisitorsSaw) -> u64| curve.points.iter().map(|p| p.as_ref().map_or(0, f)).collect();
        Self {
            step_ms: curve.step_ms,
            requests: curve.points.iter().map(|p| p.map(|p| p.requests)).collect(),
            failed: column(|p| p.failed),
            server_errors: column(|p| p.server_errors),
            saved: column(|p| p.saved),
            slow: column(|p| p.slow),
            shed: column(|p| p.shed),
            limited: column(|p| p.limited),
        }
    }
}

impl From<Columns> for Curve {
    fn from(columns: Columns) -> Self {
        let at = |column: &[u64], i: usize| column.get(i).copied().unwrap_or(0);
        let point = |(i, requests): (usize, &Option<u64>)| {
            requests.map(|requests| VisitorsSaw {
                connections: false,
                requests,
                failed: at(&columns.failed, i),
                server_errors: at(&columns.server_errors, i),
                saved: at(&columns.saved, i),
                slow: at(&columns.slow, i),
                shed: at(&columns.shed, i),
                limited: at(&columns.limited, i),
            })
        };
        Self {
            step_ms: columns.step_ms.max(Self::FINEST_MS),
            points: columns.requests.iter().take(Self::POINTS_MAX).enumerate().map(point).collect(),
        }
    }
}

/// What counting goes on from after a restart. It is kept while the incident is open and forgotten when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The visitors that were hurt.
    pub hurt: Sketch,
    /// Requests that come in a thousand seconds when all is well.
    expected: u64,
    hurt_seconds: u64,
    down_seconds: u64,
    /// Of the seconds that are over, in microseconds.
    lost_us: u64,
    /// Requests in the seconds that are over and in which nobody was answered.
    while_down: u64,
    /// What was to be expected in the same seconds, in thousandths of a request.
    expected_while_down: u64,
    second: Second,
}

/// The second that is being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Second {
    /// Its number, from the beginning of the incident.
    number: u64,
    requests: u64,
    hurt: u64,
    /// Nobody was answered at some moment of it.
    down: bool,
}

impl Second {
    fn expected_to_come(&self, expected: u64) -> u64 {
        if self.down { expected.saturating_sub(self.requests.saturating_mul(1000)) } else { 0 }
    }

    /// The share of it that was lost, in microseconds: of the requests that came, and, while nobody is answered, of those
    /// that were to be expected and did not.
    fn lost_us(&self, expected: u64) -> u64 {
        let missing = self.expected_to_come(expected);
        let (lost, all) = (
            self.hurt.min(self.requests).saturating_mul(1000).saturating_add(missing),
            self.requests.saturating_mul(1000).saturating_add(missing),
        );
        if all == 0 { 0 } else { (u128::from(SECOND_US) * u128::from(lost) / u128::from(all)) as u64 }
    }
}

impl Tally {
    /// It is this second now; `down`: nobody was answered since the last call.
    fn advance(&mut self, number: u64, down: bool) {
        let second = self.second;
        let Some(between) = number.checked_sub(second.number + 1) else { return };
        self.lost_us += second.lost_us(self.expected);
        if second.down {
            self.while_down = self.while_down.saturating_add(second.requests);
            self.expected_while_down = self.expected_while_down.saturating_add(self.expected);
        }
        if down {
            let empty = Second { down: true, ..Second::default() };
            self.lost_us = self.lost_us.saturating_add(between.saturating_mul(empty.lost_us(self.expected)));
            self.expected_while_down =
                self.expected_while_down.saturating_add(between.saturating_mul(self.expected));
            self.down_seconds += between;
            self.hurt_seconds += between;
        }
        self.second = Second { number, ..Second::default() };
        if down {
            self.is_down();
        }
    }

    /// Requests that did not come while nobody was answered. Less than a tenth below the usual is chance.
    fn missing(&self) -> u64 {
        let missing = self.expected_while_down.saturating_sub(self.while_down.saturating_mul(1000));
        if missing.saturating_mul(CHANCE_ONE_IN) < self.expected_while_down { 0 } else { missing / 1000 }
    }

    /// Nobody is answered now.
    fn is_down(&mut self) {
        if !self.second.down {
            self.hurt_seconds += u64::from(self.second.hurt == 0);
            self.down_seconds += 1;
            self.second.down = true;
        }
    }

    fn count(&mut self, saw: &VisitorsSaw, hurt: &Sketch) {
        if saw.hurt() > 0 && self.second.hurt == 0 && !self.second.down {
            self.hurt_seconds += 1;
        }
        self.second.requests += saw.requests;
        self.second.hurt += saw.hurt();
        self.hurt.merge(hurt);
    }
}

/// The counting of one incident while it is open.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) tally: Tally,
    /// So much after its beginning the incident was at `since`.
    offset: Duration,
    since: Mono,
}

impl Counting {
    /// Of an incident that began at `began`; `expected`: requests that usually come in a thousand seconds.
    pub(crate) fn begin(began: Mono, expected: u64) -> Self {
        Self { tally: Tally { expected, ..Tally::default() }, offset: Duration::ZERO, since: began }
    }

    /// Goes on after a restart, so long after the incident began by the wall clock. What a curve does not have, because it was
    /// not written down, is put at its beginning; the time between is unknown.
    pub(crate) fn resume(
        tally: Tally,
        curve: &mut Curve,
        seen: &VisitorsSaw,
        age: Duration,
        now: Mono,
    ) -> Self {
        if !curve.sum().is_as_many_as(seen) {
            *curve = Curve::default();
            curve.add(0, seen);
        }
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let next_second = tally.second.number.saturating_add(1).saturating_mul(1000);
        // A clock that was set back, or that has been lost, must not count anything twice.
        let offset = Duration::from_millis(age_ms.max(curve.end_ms()).max(next_second));
        let mut counting = Self { tally, offset, since: now };
        let at = counting.at_ms(now);
        if let Some(before) = at.checked_sub(curve.step_ms) {
            curve.reach(before, None);
        }
        counting.tally.advance(at / 1000, false);
        counting
    }

    /// Counts a report that came in at `at`; `down`: nobody was answered up to then.
    pub(crate) fn count(
        &mut self,
        at: Mono,
        saw: &VisitorsSaw,
        hurt: &Sketch,
        down: bool,
        curve: &mut Curve,
    ) {
        let at_ms = self.at_ms(at);
        self.tally.advance(at_ms / 1000, down);
        self.tally.count(saw, hurt);
        curve.add(at_ms, saw);
    }

    /// Time passed: `was_down` says whether nobody was answered since the last call, `is_down` whether nobody is now.
    pub(crate) fn pass(&mut self, now: Mono, was_down: bool, is_down: bool) {
        self.tally.advance(self.at_ms(now) / 1000, was_down);
        if is_down {
            self.tally.is_down();
        }
    }

    /// The curve lacks the point of this moment.
    pub(crate) fn outgrew(&self, curve: &Curve, now: Mono) -> bool {
        !curve.reaches(self.at_ms(now))
    }

    /// The curve is known up to now.
    pub(crate) fn extend(&self, curve: &mut Curve, now: Mono) {
        curve.reach(self.at_ms(now), Some(VisitorsSaw::default()));
    }

    /// When the present second is over, if it costs anything.
    pub(crate) fn due(&self) -> Option<Mono> {
        let second = &self.tally.second;
        (second.hurt > 0 || second.down)
            .then(|| self.since + Duration::from_secs(second.number + 1).saturating_sub(self.offset))
    }

    /// The figures. Those of the second under way count when it is over, or when the incident is.
    pub(crate) fn impact(&self, seen: &VisitorsSaw, value: Option<&Value>, before: &Impact) -> Impact {
        let tally = &self.tally;
        let mut impact = Impact {
            visitors: tally.hurt.count().max(before.visitors),
            visitors_exact: match tally.hurt.count() >= before.visitors {
                true => tally.hurt.is_exact(),
                false => before.visitors_exact,
            },
            hurt_seconds: tally.hurt_seconds.max(before.hurt_seconds),
            down_seconds: tally.down_seconds.max(before.down_seconds),
            lost_ms: (tally.lost_us / 1000).max(before.lost_ms),
            missing: tally.missing().max(before.missing),
            money: None,
        };
        // A value that was taken out of the config leaves the estimate as it was.
        impact.money = value.map(|value| money(&impact, seen, value)).or_else(|| before.money.clone());
        impact
    }

    /// The incident is over: the second under way counts as it stands, and nobody is remembered.
    pub(crate) fn finish(&mut self) {
        self.tally.advance(self.tally.second.number + 1, false);
    }

    fn at_ms(&self, at: Mono) -> u64 {
        u64::try_from((self.offset + at.since(self.since)).as_millis()).unwrap_or(u64::MAX)
    }
}

/// `per_hour` times the time that was lost. See docs/impact.md.
fn money(impact: &Impact, seen: &VisitorsSaw, value: &Value) -> Money {
    let lost = impact.lost_ms as f64 / 3_600_000.0 * value.per_hour;
    let estimate = (lost * 100.0).round() / 100.0;
    let missing = match impact.missing {
        0 => String::new(),
        n => format!(
            ", and about {} that were to be expected did not come while nobody was answered",
            grouped(n)
        ),
    };
    let Value { per_hour, currency } = value;
    let how = format!(
        "{} of {} {} hurt during {}{missing}; each second by its share, that is {} of {} {currency} an hour: about {} {currency}",
        grouped(seen.hurt()),
        grouped(seen.requests),
        if seen.requests == 1 { "request was" } else { "requests were" },
        measured(impact.hurt_seconds.saturating_mul(1000)),
        measured(impact.lost_ms),
        amount(*per_hour),
        amount(estimate),
    );
    Money { amount: estimate, currency: currency.clone(), per_hour: *per_hour, how }
}

/// The reports of a service up to now, as far back as a first sign may lie, and how much usually comes.
#[derive(Debug)]
pub(crate) struct Before {
    slices: VecDeque<Slice>,
    /// Requests by the minute, for what is usual.
    hour: Ring<u64>,
    first: Option<Mono>,
}

/// One report.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) at: Mono,
    pub(crate) saw: VisitorsSaw,
    pub(crate) hurt: Sketch,
}

impl Before {
    pub(crate) fn new() -> Self {
        Self { slices: VecDeque::new(), hour: Ring::new(USUAL_SPAN, USUAL_SPAN.as_secs() / 60), first: None }
    }

    /// Keeps a report; those that came in before `horizon` are forgotten.
    pub(crate) fn keep(&mut self, report: &ServiceTraffic, now: Mono, horizon: Mono) {
        while self.slices.len() >= SLICES_MAX || self.slices.front().is_some_and(|s| s.at < horizon) {
            self.slices.pop_front();
        }
        let saw = VisitorsSaw::of(report);
        self.first.get_or_insert(now);
        *self.hour.at(now) += saw.requests;
        self.slices.push_back(Slice { at: now, saw, hurt: report.hurt.clone() });
    }

    /// Requests that come in a thousand seconds, by the last hour or as much of it as was seen.
    pub(crate) fn usual(&self, now: Mono) -> u64 {
        let Some(first) = self.first else { return 0 };
        let covered = now.since(first).clamp(Duration::from_secs(1), USUAL_SPAN);
        let requests: u64 = self.hour.since(Mono::default(), now).sum();
        u64::try_from(u128::from(requests) * 1_000_000 / covered.as_millis()).unwrap_or(u64::MAX)
    }

    /// Reports that came in at `began` or later, to the millisecond with which it is written down.
    pub(crate) fn since(&self, began: Mono) -> impl Iterator<Item = &Slice> {
        let ms = |at: Mono| at.0 / 1_000_000;
        self.slices.iter().filter(move |s| ms(s.at) >= ms(began))
    }

    /// When the first failed request since `from` may have ended.
    pub(crate) fn first_hurt(&self, from: Mono) -> Option<Mono> {
        let at = self.since(from).find(|slice| slice.saw.failed > 0)?.at;
        let interval = u64::try_from(REPORT_INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        Some(Mono(at.0.saturating_sub(interval)).max(from))
    }

    /// An incident is over: what has been reported up to now was counted.
    pub(crate) fn counted(&mut self) {
        self.slices.clear();
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.slices.len() <= SLICES_MAX && self.hour.len() as u64 <= self.hour.keep()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Wall;
    use crate::effect::Record;
    use crate::incident::IncidentState;
    use crate::input::{Input, ProbeFailure, Restored, TrafficReport};
    use crate::testing::{Bench, app, policy, shop};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn valued(servers: u32, supervised: bool) -> Bench {
        let mut policy = policy(servers, supervised);
        let value = Value { per_hour: 3600.0, currency: "EUR".to_owned() };
        policy.services.get_mut(&shop()).unwrap().value = Some(value);
        Bench::settled(policy)
    }

    /// A report of so many requests and failures, of these visitors.
    fn visit(bench: &mut Bench, requests: u64, failed: u64, hurt: &[u64]) {
        let mut traffic = ServiceTraffic { requests, failed, ..ServiceTraffic::default() };
        hurt.iter().for_each(|&visitor| traffic.hurt.add(visitor));
        let services = [(shop(), traffic)].into();
        bench.tell(Input::Traffic(TrafficReport { services, ..TrafficReport::default() }));
    }

    fn tally(expected: u64) -> Tally {
        Tally { expected, ..Tally::default() }
    }

    fn failed(requests: u64, failed: u64) -> VisitorsSaw {
        VisitorsSaw { requests, failed, ..VisitorsSaw::default() }
    }

    #[test]
    fn each_second_costs_the_share_of_its_requests_that_were_hurt() {
        let mut tally = tally(10_000);
        for (second, (requests, hurt)) in [(10, 5), (10, 0), (20, 20), (0, 0), (4, 1)].into_iter().enumerate()
        {
            tally.advance(second as u64, false);
            tally.count(&failed(requests, hurt), &Sketch::default());
        }
        tally.advance(10, false);
        assert_eq!((tally.lost_us, tally.hurt_seconds, tally.down_seconds), (1_750_000, 3, 0));
    }

    #[test]
    fn who_does_not_come_because_nobody_is_answered_is_lost_too() {
        let mut some = tally(10_000);
        some.count(&failed(10, 0), &Sketch::default());
        some.advance(1, false);
        some.is_down();
        some.count(&failed(4, 4), &Sketch::default());
        // An hour in which nobody comes.
        some.advance(3601, true);
        some.advance(3602, false);
        assert_eq!((some.hurt_seconds, some.down_seconds), (3601, 3601));
        assert_eq!(some.lost_us, 3601 * SECOND_US);
        assert_eq!(some.missing(), 3600 * 10 + 6);

        let mut nobody = tally(0);
        nobody.is_down();
        nobody.advance(3600, true);
        assert_eq!(
            (nobody.lost_us, nobody.down_seconds),
            (0, 3601),
            "where nobody ever comes nothing is lost"
        );
    }

    #[test]
    fn a_little_less_traffic_than_usual_is_chance_and_not_missing() {
        let mut tally = tally(10_000);
        tally.is_down();
        for second in 1..=10 {
            tally.count(&failed(10 - second % 2, 10 - second % 2), &Sketch::default());
            tally.advance(second, true);
        }
        assert_eq!((tally.missing(), tally.lost_us), (0, 10 * SECOND_US));
        tally.advance(20, true);
        assert_eq!(tally.missing(), 105, "100 in the ten empty seconds, 5 before");
    }

    #[test]
    fn an_estimate_says_how_it_was_made() {
        let value = Value { per_hour: 1200.0, currency: "EUR".to_owned() };
        let impact = Impact { hurt_seconds: 126, lost_ms: 9_880, ..Impact::default() };
        let money = money(&impact, &failed(4_020, 312), &value);
        assert_eq!(money.text(), "3.29 EUR");
        assert_eq!(
            money.how,
            "312 of 4,020 requests were hurt during 2.1 min; each second by its share, that is 9.9 s of 1,200 EUR an hour: \
             about 3.29 EUR"
        );
        let impact = Impact { missing: 1_500, ..impact };
        let how = super::money(&impact, &failed(4_020, 312), &value).how;
        assert!(
            how.contains("during 2.1 min, and about 1,500 that were to be expected did not come"),
            "{how}"
        );
    }

    #[test]
    fn an_incident_of_a_tcp_service_counts_connections() {
        let mut policy = policy(2, false);
        let carriage = &mut policy.services.get_mut(&shop()).unwrap().carriage;
        std::sync::Arc::make_mut(carriage).tcp = Some(crate::carriage::Tcp { close_when_down: true });
        let mut bench = Bench::settled(policy);
        bench.attempt_fails(&app(1), crate::input::FailureKind::Refused, None);
        visit(&mut bench, 10, 2, &[1, 2]);
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(MS(2000));
        let seen = bench.incidents()[0].seen;
        assert_eq!((seen.noun(), seen.requests, seen.failed), ("connection", 10, 2));
        assert!(bench.server(&app(1)).tcp);
    }

    #[test]
    fn counts_begin_with_the_first_sign_and_not_with_the_opening() {
        let mut bench = valued(2, false);
        visit(&mut bench, 100, 0, &[]);
        bench.advance(MS(250));
        bench.attempt_fails(&app(1), crate::input::FailureKind::Refused, None);
        let first_sign = bench.now.wall;
        visit(&mut bench, 10, 2, &[1, 2]);
        bench.advance(MS(250));
        visit(&mut bench, 10, 0, &[]);
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(MS(2000));
        let incident = &bench.incidents()[0];
        assert_eq!(incident.began_at, first_sign);
        assert!(incident.opened_at > first_sign);
        assert_eq!((incident.seen.requests, incident.seen.failed, incident.impact.visitors), (20, 2, 2));
        assert_eq!((incident.impact.hurt_seconds, incident.impact.lost_ms), (1, 100));
        assert_eq!(incident.impact.money.as_ref().unwrap().text(), "0.10 EUR");
        assert_eq!(incident.curve.sum(), incident.seen);
        assert_eq!(incident.times().to_notice_ms, incident.opened_at.ms_since(first_sign).unsigned_abs());
    }

    #[test]
    fn visitors_who_are_hurt_without_a_failed_server_are_counted_from_the_first_one_on() {
        let mut bench = valued(2, false);
        for _ in 0..8 {
            visit(&mut bench, 100, 0, &[]);
            bench.advance(MS(250));
        }
        visit(&mut bench, 100, 2, &[1]);
        bench.advance(MS(250));
        visit(&mut bench, 100, 50, &[1, 2]);
        let incident = &bench.incidents()[0];
        assert_eq!((incident.seen.requests, incident.seen.failed, incident.impact.visitors), (300, 52, 2));
        assert_eq!(incident.opened_at.ms_since(incident.began_at), 500);
    }

    #[test]
    fn when_all_are_down_and_nobody_comes_any_more_the_time_is_lost() {
        let mut bench = valued(2, false);
        for _ in 0..40 {
            visit(&mut bench, 25, 0, &[]);
            bench.advance(MS(250));
        }
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(MS(1000));
        visit(&mut bench, 50, 50, &[7]);
        bench.advance(Duration::from_secs(60));
        let incident = bench.incidents()[0].clone();
        assert!((60..=62).contains(&incident.impact.down_seconds), "{:?}", incident.impact);
        assert!((59_000..=62_000).contains(&incident.impact.lost_ms), "{:?}", incident.impact);
        let how = &incident.impact.money.as_ref().unwrap().how;
        assert!(how.contains("did not come while nobody was answered"), "{how}");
        assert!(incident.impact.missing > 4_000, "{:?}", incident.impact);
    }

    /// What was last written down of the first incident.
    fn recorded(bench: &Bench) -> Restored {
        let mut restored =
            Restored { last_incident: 1, last_alive: Some(bench.now.wall), ..Restored::default() };
        for record in bench.records() {
            match record {
                Record::Incident(header) => restored.incidents = vec![header],
                Record::Impact { incident, curve, tally } => {
                    restored.incidents[0].curve = curve;
                    restored.tallies = [(incident, tally)].into();
                }
                _ => {}
            }
        }
        restored
    }

    #[test]
    fn a_restart_counts_nothing_twice_and_the_time_between_is_unknown() {
        let mut before = valued(2, false);
        before.is_bad(&app(1), ProbeFailure::Refused);
        before.advance(MS(3000));
        visit(&mut before, 10, 4, &[1, 2, 3]);
        before.advance(MS(2000));
        let stored = recorded(&before);
        assert_eq!(stored.incidents[0].seen, failed(10, 4));
        for wall_ms in [30_000, -3_600_000] {
            let mut bench = Bench::empty(before.policy.clone());
            bench.now = before.now;
            bench.now.wall = Wall(before.now.wall.0 + wall_ms);
            bench.tell(Input::Restored(stored.clone()));
            bench.tell(Input::Policy(bench.policy.clone()));
            bench.addresses();
            bench.is_bad(&app(1), ProbeFailure::Refused);
            let restored = bench.incidents()[0].clone();
            assert_eq!((restored.seen, restored.impact.visitors), (failed(10, 4), 3));
            visit(&mut bench, 5, 1, &[3]);
            visit(&mut bench, 5, 1, &[4]);
            bench.advance(MS(1500));
            let incident = bench.incidents()[0].clone();
            assert_eq!((incident.seen, incident.impact.visitors), (failed(20, 6), 4));
            assert_eq!(incident.impact.hurt_seconds, 2);
            assert_eq!(incident.curve.sum(), incident.seen);
            let unknown = incident.curve.points.iter().filter(|point| point.is_none()).count();
            assert_eq!(unknown > 20, wall_ms > 0, "{:?}", incident.curve);
        }
    }

    #[test]
    fn when_it_is_over_no_visitor_is_remembered() {
        let mut bench = valued(2, true);
        bench.crash(&app(1));
        visit(&mut bench, 10, 4, &[1, 2, 3]);
        bench.advance(Duration::from_secs(60));
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
        assert_eq!(bench.incidents()[0].impact.visitors, 3);
        assert_eq!(recorded(&bench).tallies.into_values().next(), Some(Tally::default()));
    }

    proptest! {
        #[test]
        fn a_curve_keeps_every_count_and_never_grows(
            reports in prop::collection::vec((0u64..400_000, 1u64..50), 1..200),
        ) {
            let mut curve = Curve::default();
            let (mut at, mut all) = (0, 0);
            for (pause, requests) in reports {
                at += pause;
                all += requests;
                curve.add(at, &failed(requests, 0));
                prop_assert!(curve.points.len() <= Curve::POINTS_MAX);
                prop_assert_eq!(curve.sum().requests, all);
                prop_assert!(curve.end_ms() > at && curve.end_ms() - curve.step_ms <= at);
            }
            let stored = serde_json::to_string(&curve).unwrap();
            prop_assert_eq!(serde_json::from_str::<Curve>(&stored).unwrap(), curve);
        }
    }

    #[test]
    fn a_gap_stays_a_gap_until_it_is_narrower_than_a_point() {
        let mut curve = Curve::default();
        curve.add(0, &failed(1, 0));
        curve.reach(9_000, None);
        curve.add(10_000, &failed(1, 0));
        assert_eq!(curve.points.iter().filter(|p| p.is_none()).count(), 9);
        let stored = serde_json::to_string(&curve).unwrap();
        assert_eq!(serde_json::from_str::<Curve>(&stored).unwrap(), curve);
        curve.add(Curve::POINTS_MAX as u64 * 1000, &failed(1, 0));
        assert_eq!((curve.step_ms, curve.points[1], curve.points[5]), (2000, None, Some(failed(1, 0))));
    }
}
