//! The release gate: is a new release worse than the old one, judged by both under the same concurrent traffic?
//!
//! *The test.* Requests are given to the two releases by chance, and what each counted between two reports is a block:
//! `a` of the new one's `n` requests went wrong, `b` of the old one's `m`. For any pair of rates `p > q` that was chosen
//! before the block was seen, with `r = (n·p + m·q) / (n + m)`,
//!
//! ```text
//! e = (p/r)^a · ((1-p)/(1-r))^(n-a) · (q/r)^b · ((1-q)/(1-r))^(m-b)
//! ```
//!
//! has an expected value of at most 1 as long as the new release's true rate is not above the old one's, whatever that
//! rate is in this block. (Each factor's expectation is linear in its own true rate, rising for the new release and
//! falling for the old, so the worst case is that both are equal; there the weighted mean of the factors is exactly 1,
//! and by the inequality of arithmetic and geometric means their product is at most 1. Turner, Ly and Grünwald, *Generic
//! E-variables for exact sequential k-sample tests that allow for optional stopping*, 2024.) So the product over blocks
//! is a test martingale: by Ville's inequality the chance that it *ever* reaches `1/α` is at most `α`, however often it
//! is looked at. Because blocks are compared only with what happened at the same time, both releases worsening alike is
//! no evidence. (The setting is that of Lindon, Sanden and Shirikian, *Rapid regression detection in software
//! deployments through sequential testing*, KDD 2022.)
//!
//! *The bets.* `q` is what the old release did so far; `p` is `q` raised by each of [`LIFTS`], and the capital is spread
//! over these and over the blocks in which the harm might begin (`1/(t(t+1))` to block `t`). A mixture of test
//! martingales is one.
//!
//! *What it sees.* Errors (failed attempts and 5xx), and slowness: answers later than one and a half times the old
//! release's 95th percentile as it was known before the block. Differences smaller than about one request in a hundred
//! are not bet on, and are not found.

use std::time::Duration;

use crate::histogram::Histogram;
use crate::input::ServerTraffic;
use crate::release::Figures;
use crate::time::Mono;
use crate::words::{count, percent, span};

/// The chance of rolling a release back that is not worse, for each of the two comparisons.
pub(crate) const ALPHA: f64 = 0.001;
/// While the evidence of harm is above this (1 is none), a release is neither promoted nor rolled back.
const SUSPICION: f64 = 10.0;
/// The current release must have had so many requests, or as many as the new one, before the two are compared.
const OLD_MIN: u32 = 20;
/// Alternatives: the share of good requests that turns bad.
const LIFTS: [f64; 4] = [0.03, 0.1, 0.3, 0.9];
/// More than enough evidence, so that nothing overflows.
const EVIDENCE_MAX: f64 = 1e12;
/// The old release's rate is learned from about so many of its last requests.
const MEMORY: f64 = 2000.0;
/// Answers of the old release that must be known before slowness is compared.
const LATENCIES_MIN: u64 = 50;
/// A new process' first answers are slow for reasons of their own.
const WARM_UP: Duration = Duration::from_secs(3);
/// Both releases failing at this share at the same time is the fault of something that both need.
const ALIKE_SHARE: f64 = 0.05;
/// So many requests of the old release at least are needed to say so.
const ALIKE_MIN: u64 = 20;

/// How many of how many went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    all: u64,
    bad: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.all += other.all;
        self.bad += other.bad;
    }
}

/// One comparison of two rates.
#[derive(Debug)]
struct Comparison {
    /// The capital of each alternative, and what was not yet bet.
    capital: [f64; LIFTS.len()],
    blocks: u64,
    /// What was counted since the last block in which both releases had requests.
    pending: (Tally, Tally),
    new: Tally,
    old: Tally,
    /// The old release's requests and failures as they are remembered for the bets, the older ones fading.
    learned: (f64, f64),
}

impl Comparison {
    fn new() -> Self {
        Self {
            capital: [0.0; LIFTS.len()],
            blocks: 0,
            pending: Default::default(),
            new: Tally::default(),
            old: Tally::default(),
            // Before anything is known: one in a hundred fails.
            learned: (50.0, 0.5),
        }
    }

    fn report(&mut self, new: Tally, old: Tally) {
        self.new.add(new);
        self.old.add(old);
        self.pending.0.add(new);
        self.pending.1.add(old);
        // A block is complete by its counts, never by what became of the requests.
        let (new, old) = self.pending;
        if new.all == 0 || old.all == 0 {
            return;
        }
        self.pending = Default::default();
        self.blocks += 1;
        let t = self.blocks as f64;
        let fresh = 1.0 / (t * (t + 1.0)) / LIFTS.len() as f64;
        let q = (self.learned.1 / self.learned.0).clamp(0.001, 0.999);
        for (capital, lift) in self.capital.iter_mut().zip(LIFTS) {
            let p = (q + (1.0 - q) * lift).min(0.9999);
            *capital = ((*capital + fresh) * factor(p, q, new, old)).min(EVIDENCE_MAX);
        }
        self.learned.0 += old.all as f64;
        self.learned.1 += old.bad as f64;
        if self.learned.0 > MEMORY {
            let fade = MEMORY / self.learned.0;
            self.learned = (self.learned.0 * fade, self.learned.1 * fade);
        }
    }

    /// 1 is none; at `1/α` chance alone is ruled out.
    fn evidence(&self) -> f64 {
        let not_yet_bet = 1.0 / (self.blocks as f64 + 1.0);
        self.capital.iter().sum::<f64>() + not_yet_bet
    }
}

/// What a block says for `p` and `q` against equal rates.
fn factor(p: f64, q: f64, new: Tally, old: Tally) -> f64 {
    let (n, m) = (new.all as f64, old.all as f64);
    let r = (n * p + m * q) / (n + m);
    let of = |rate: f64, tally: Tally| {
        let good = (tally.all - tally.bad.min(tally.all)) as f64;
        tally.bad as f64 * (rate / r).ln() + good * ((1.0 - rate) / (1.0 - r)).ln()
    };
    (of(p, new) + of(q, old)).exp()
}

/// What the gate makes of what it saw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// The new release is worse.
    Worse(String),
    /// Nothing speaks against it, and enough would have shown.
    NotWorse(String),
    /// More must be seen; why.
    Wait(String),
}

/// The comparison of one trial.
#[derive(Debug)]
pub(crate) struct Gate {
    since: Mono,
    errors: Comparison,
    slow: Comparison,
    /// Of the old release, in this trial.
    latency: Histogram,
    latency_new: Histogram,
    /// The old release's last block of some seconds.
    lately: Tally,
    /// Of the new release's requests and the old one's, those that Mainstay made itself.
    asked: (Tally, Tally),
}

impl Gate {
    pub(crate) fn new(now: Mono) -> Self {
        Self {
            since: now,
            errors: Comparison::new(),
            slow: Comparison::new(),
            latency: Histogram::new(),
            latency_new: Histogram::new(),
            lately: Tally::default(),
            asked: Default::default(),
        }
    }

    /// What both releases counted in the same interval.
    pub(crate) fn report(&mut self, new: &ServerTraffic, old: &ServerTraffic, now: Mono) {
        let errors =
            |t: &ServerTraffic| Tally { all: t.answered() + t.failed(), bad: t.failed() + t.server_errors };
        self.errors.report(errors(new), errors(old));
        // Fades to half with each twenty requests, so it tells of the last few dozen.
        self.lately.add(errors(old));
        while self.lately.all > 2 * ALIKE_MIN {
            self.lately = Tally { all: self.lately.all / 2, bad: self.lately.bad / 2 };
        }
        if let Some(limit) = self.slow_limit()
            && now.since(self.since) >= WARM_UP
        {
            let slow =
                |t: &ServerTraffic| Tally { all: t.latency.count(), bad: t.latency.count_above(limit) };
            self.slow.report(slow(new), slow(old));
        }
        self.latency.merge(&old.latency);
        self.latency_new.merge(&new.latency);
    }

    /// The same of requests that Mainstay made itself.
    pub(crate) fn asked(&mut self, new: &ServerTraffic, old: &ServerTraffic, now: Mono) {
        let all =
            |t: &ServerTraffic| Tally { all: t.answered() + t.failed(), bad: t.failed() + t.server_errors };
        self.asked.0.add(all(new));
        self.asked.1.add(all(old));
        self.report(new, old, now);
    }

    /// Visitors had failures of the new release.
    pub(crate) fn hurt_visitors(&self) -> bool {
        self.errors.new.bad > self.asked.0.bad
    }

    /// Answers later than this are slow, by what the old release did before.
    fn slow_limit(&self) -> Option<Duration> {
        if self.latency.count() < LATENCIES_MIN {
            return None;
        }
        let p95 = self.latency.quantile(0.95)?;
        Some(p95.mul_f64(1.5) + Duration::from_millis(1))
    }

    /// What is to be done, if at least `min_requests` and `min_time` are asked for before a release passes.
    pub(crate) fn verdict(&self, min_requests: u32, min_time: Duration, now: Mono) -> Verdict {
        if self.fails_more() {
            return Verdict::Worse(self.errors_text());
        }
        if self.is_slower() {
            return Verdict::Worse(self.slow_text());
        }
        let seen = self.errors.new.all;
        if seen == 0 {
            return Verdict::Wait("it has not had a request yet".to_owned());
        }
        if self.both_fail() {
            let text = format!("both releases fail alike ({}): something that both need", self.errors_text());
            return Verdict::Wait(text);
        }
        if self.errors.evidence() >= SUSPICION {
            return Verdict::Wait(format!("there is a suspicion: {}", self.errors_text()));
        }
        if self.slow.evidence() >= SUSPICION {
            return Verdict::Wait(format!("there is a suspicion: {}", self.slow_text()));
        }
        let old = self.errors.old.all;
        if old < seen.min(u64::from(OLD_MIN)) {
            return Verdict::Wait(format!(
                "there is nothing to compare it with: the current release had only {}",
                count(old, "request")
            ));
        }
        let lasted = now.since(self.since);
        if seen < u64::from(min_requests) {
            return Verdict::Wait(format!(
                "{seen} of {} (min-requests): {}",
                count(u64::from(min_requests), "request"),
                self.errors_text()
            ));
        }
        if lasted < min_time {
            let left = span(Duration::from_secs((min_time - lasted).as_secs() + 1));
            return Verdict::Wait(format!("{left} are left of min-time: {}", self.errors_text()));
        }
        Verdict::NotWorse(self.errors_text())
    }

    /// More of the new one's requests fail, and chance alone is ruled out.
    pub(crate) fn fails_more(&self) -> bool {
        self.errors.evidence() >= 1.0 / ALPHA
    }

    /// More of the new one's answers are slow, and chance alone is ruled out.
    pub(crate) fn is_slower(&self) -> bool {
        self.slow.evidence() >= 1.0 / ALPHA
    }

    /// Both fail alike: something that both need is wrong.
    pub(crate) fn both_fail(&self) -> bool {
        let Tally { all, bad } = self.lately;
        all >= ALIKE_MIN && bad as f64 >= ALIKE_SHARE * all as f64
    }

    fn errors_text(&self) -> String {
        let of = |t: Tally| format!("{} of {} failed", t.bad, t.all);
        let own = match self.asked.0.all {
            0 => String::new(),
            asked => format!(" ({asked} of the new one's requests were Mainstay's own)"),
        };
        format!("new: {}, old: {}{own}", of(self.errors.new), of(self.errors.old))
    }

    fn slow_text(&self) -> String {
        let share = |t: Tally| percent(if t.all == 0 { 0.0 } else { t.bad as f64 / t.all as f64 });
        format!(
            "new: {} of {} were slow (median {}), old: {} of {} (median {})",
            share(self.slow.new),
            count(self.slow.new.all, "answer"),
            median(&self.latency_new),
            share(self.slow.old),
            count(self.slow.old.all, "answer"),
            median(&self.latency),
        )
    }

    /// The new release's figures and the old one's.
    pub(crate) fn figures(&self) -> (Figures, Figures) {
        let of = |errors: Tally, asked: Tally, slow: Tally, latency: &Histogram| Figures {
            requests: errors.all,
            asked: asked.all,
            failed: errors.bad,
            slow: slow.bad,
            p50_ms: latency.quantile(0.5).map(|d| d.as_secs_f64() * 1000.0),
            p99_ms: latency.quantile(0.99).map(|d| d.as_secs_f64() * 1000.0),
        };
        (
            of(self.errors.new, self.asked.0, self.slow.new, &self.latency_new),
            of(self.errors.old, self.asked.1, self.slow.old, &self.latency),
        )
    }

    /// How far the evidence of harm has come, 0 to 1, on the scale on which evidence adds up.
    pub(crate) fn harm(&self) -> f64 {
        let evidence = self.errors.evidence().max(self.slow.evidence()).max(1.0);
        (evidence.ln() / (1.0 / ALPHA).ln()).clamp(0.0, 1.0)
    }
}

fn median(latency: &Histogram) -> String {
    latency.quantile(0.5).map_or_else(|| "unknown".to_owned(), |d| span(rounded(d)))
}

/// To a tenth of a millisecond.
fn rounded(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) / 100 * 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// One block: requests given out by chance, each failing by the rate of its release.
    fn block(rng: &mut Rng, requests: u64, share: f64, rates: (f64, f64)) -> (Tally, Tally) {
        let (mut new, mut old) = (Tally::default(), Tally::default());
        for _ in 0..requests {
            let (tally, rate) = if rng.unit() < share { (&mut new, rates.0) } else { (&mut old, rates.1) };
            tally.all += 1;
            tally.bad += u64::from(rng.unit() < rate);
        }
        (new, old)
    }

    /// The new release's requests until the evidence reaches the limit; `None` when it does not within `blocks`.
    fn found(seed: u64, limit: f64, blocks: u32, mut rates: impl FnMut(u32) -> (f64, f64)) -> Option<u64> {
        let mut rng = Rng::new(seed);
        let mut comparison = Comparison::new();
        let size = [1, 3, 10, 40][(seed % 4) as usize];
        for at in 0..blocks {
            let (new, old) = block(&mut rng, size, 0.2, rates(at));
            comparison.report(new, old);
            if comparison.evidence() >= limit {
                return Some(comparison.new.all);
            }
        }
        None
    }

    #[test]
    fn equal_rates_are_hardly_ever_called_worse_however_often_one_looks() {
        const RUNS: u64 = 1500;
        for rate in [0.0, 0.01, 0.2, 0.7] {
            let wrong = (0..RUNS).filter(|seed| found(*seed, 20.0, 150, |_| (rate, rate)).is_some()).count();
            // At a limit of 20 at most one run in twenty may be wrong.
            assert!(wrong as u64 <= RUNS / 20, "{wrong} of {RUNS} at {rate}");
            let wrong = (0..RUNS).filter(|s| found(*s, 1.0 / ALPHA, 150, |_| (rate, rate)).is_some()).count();
            assert!(wrong as u64 <= RUNS / 1000 + 3, "{wrong} of {RUNS} at {rate}");
        }
    }

    #[test]
    fn releases_that_worsen_alike_are_not_told_apart() {
        let both = |at: u32| if at > 40 { (0.5, 0.5) } else { (0.01, 0.01) };
        let wrong = (0..1000).filter(|seed| found(*seed, 20.0, 150, both).is_some()).count();
        assert!(wrong <= 50, "{wrong}");
    }

    #[test]
    fn a_better_release_is_not_called_worse() {
        let wrong = (0..1000).filter(|seed| found(*seed, 20.0, 150, |_| (0.01, 0.05)).is_some()).count();
        assert!(wrong <= 10, "{wrong}");
    }

    #[test]
    fn ten_percent_instead_of_one_are_found_within_some_hundred_requests() {
        let mut needed: Vec<u64> =
            (0..400).map(|seed| found(seed, 1.0 / ALPHA, 20_000, |_| (0.1, 0.01)).expect("found")).collect();
        needed.sort_unstable();
        let (median, most) = (needed[200], needed[380]);
        assert!(median <= 200 && most <= 500, "median {median}, 95 % within {most}");
    }

    #[test]
    fn total_breakage_is_found_within_a_handful() {
        let needed: Vec<u64> =
            (0..400).map(|seed| found(seed, 1.0 / ALPHA, 20_000, |_| (1.0, 0.01)).expect("found")).collect();
        // A block of forty holds eight of the new release.
        let most = needed.iter().max().unwrap();
        let mean = needed.iter().sum::<u64>() as f64 / needed.len() as f64;
        assert!(*most <= 40 && mean <= 12.0, "most {most}, mean {mean}");
    }

    #[test]
    fn harm_that_begins_late_is_found_too() {
        let late = |at: u32| if at < 200 { (0.01, 0.01) } else { (0.3, 0.01) };
        for seed in 0..100 {
            assert!(found(seed, 1.0 / ALPHA, 3000, late).is_some(), "{seed}");
        }
    }

    fn traffic(ok: u64, bad: u64, ms: u64) -> ServerTraffic {
        let mut traffic = ServerTraffic { ok, server_errors: bad, ..ServerTraffic::default() };
        (0..ok + bad).for_each(|_| traffic.latency.record(Duration::from_millis(ms)));
        traffic
    }

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_slow_release_is_worse_although_nothing_fails() {
        let mut gate = Gate::new(at(0));
        let mut verdict = Verdict::Wait(String::new());
        let mut seen = 0;
        for n in 0..200 {
            gate.report(&traffic(4, 0, 60), &traffic(16, 0, 5), at(250 * n));
            verdict = gate.verdict(1000, Duration::from_secs(600), at(250 * n));
            seen = 4 * (n + 1);
            if matches!(verdict, Verdict::Worse(_)) {
                break;
            }
        }
        let Verdict::Worse(text) = &verdict else { panic!("{verdict:?}") };
        assert!(text.contains("were slow") && text.contains("median 60ms"), "{text}");
        assert!(seen <= 80, "{seen}");
    }

    #[test]
    fn nothing_passes_without_requests_or_before_its_time() {
        let mut gate = Gate::new(at(0));
        let verdict = |gate: &Gate, ms| gate.verdict(20, Duration::from_secs(5), at(ms));
        assert!(matches!(verdict(&gate, 3_600_000), Verdict::Wait(t) if t.contains("not had a request")));
        gate.report(&traffic(19, 0, 5), &traffic(80, 0, 5), at(4000));
        assert!(matches!(verdict(&gate, 6000), Verdict::Wait(t) if t.contains("19 of 20 requests")));
        gate.report(&traffic(1, 0, 5), &traffic(4, 0, 5), at(4250));
        assert!(matches!(verdict(&gate, 4250), Verdict::Wait(t) if t.contains("min-time")));
        let passed = verdict(&gate, 6000);
        assert_eq!(passed, Verdict::NotWorse("new: 0 of 20 failed, old: 0 of 84 failed".to_owned()));
    }

    #[test]
    fn what_both_suffer_from_holds_the_release_and_does_not_condemn_it() {
        let mut gate = Gate::new(at(0));
        for n in 0..100 {
            gate.report(&traffic(3, 2, 5), &traffic(12, 8, 5), at(250 * n));
        }
        let verdict = gate.verdict(20, Duration::from_secs(1), at(30_000));
        assert!(
            matches!(&verdict, Verdict::Wait(t) if t.contains("both releases fail alike")),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_worse_release_is_told_in_figures() {
        let mut gate = Gate::new(at(0));
        for n in 0..40 {
            gate.report(&traffic(8, 2, 5), &traffic(40, 0, 5), at(250 * n));
        }
        let verdict = gate.verdict(20, Duration::from_secs(1), at(10_000));
        assert_eq!(verdict, Verdict::Worse("new: 80 of 400 failed, old: 0 of 1600 failed".to_owned()));
        assert!(gate.harm() >= 1.0);
    }
}
