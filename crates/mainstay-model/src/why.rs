//! Why a server is what it is: enough for an operator to agree or to disagree, each threshold with its key in the config.

use crate::id::ServerId;
use crate::input::{AdminState, Circuit};
use crate::pace::ANSWERS_MIN;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::snapshot::{Health, ServerNote, Signal, Why};
use crate::time::{Mono, Now};
use crate::traffic::took;
use crate::witness::{PROOF, QUIET};
use crate::words::{count, percent, span};

impl Service {
    /// Explains one server.
    pub(crate) fn why(&self, id: &ServerId, server: &Server, now: Mono) -> Why {
        let mut signals = self.probe_signals(server);
        signals.extend(self.traffic_signals(id, server, now));
        if server.is_restartable() {
            signals.push(self.budget_signal(server, now));
        }
        signals.extend(server.flap_signal(now));
        signals.extend(self.scale_signal(id, server, now));
        Why {
            rule: self.rule(id, server),
            would_change: self.would_change(id, server, now),
            signals,
            changes: server.changes.iter().cloned().collect(),
        }
    }

    fn probe_signals(&self, server: &Server) -> Vec<Signal> {
        let (probes, health) = (&server.probes, &self.policy.health);
        let mut signals = vec![
            signal(
                "probes failed in a row",
                probes.failed_in_row.to_string(),
                format!("fall = {}", health.fall),
                probes.failed_in_row >= health.fall.max(1),
            ),
            signal(
                "probes good in a row",
                probes.good_in_row.to_string(),
                format!("rise = {}", health.rise),
                probes.verdict == Verdict::Bad,
            ),
        ];
        if let Some((failed, fail)) = probes.failed_of(health.fail) {
            let seen = format!("{failed} of the last {}", fail.of);
            let enough = failed >= fail.bad;
            signals.insert(1, signal("probes that failed lately", seen, format!("fail = {fail}"), enough));
        }
        if let Some(last) = &probes.last {
            let limit = format!("timeout = {}", span(health.timeout));
            signals.push(signal("last probe", last.text.clone(), limit, !last.good));
        }
        if self.policy.knows_connections_only() {
            let limit = "a kernel accepts for a program that hangs; health.http asks more".to_owned();
            signals.push(signal(
                "what the probe asks",
                "that a connection is accepted".to_owned(),
                limit,
                false,
            ));
        }
        if let Some(why) = &probes.not_probed {
            let limit = "says nothing about the server".to_owned();
            signals.push(signal("could not be probed", why.clone(), limit, false));
        }
        signals
    }

    fn traffic_signals(&self, id: &ServerId, server: &Server, now: Mono) -> Vec<Signal> {
        let policy = &self.policy.traffic;
        let counts = server.traffic.window(now);
        let row = server.traffic.in_a_row(now);
        let enough = counts.attempts >= u64::from(policy.min_requests);
        let share_bad = enough && counts.bad() > 0 && counts.bad_share() >= policy.failure_share;
        let mut signals = vec![
            signal(
                "attempts failed in a row",
                row.to_string(),
                format!("consecutive-failures = {}", policy.consecutive_failures),
                policy.consecutive_failures > 0 && row >= u64::from(policy.consecutive_failures),
            ),
            signal(
                "attempts that failed or were answered 5xx",
                format!("{} of {} in {}", percent(counts.bad_share()), counts.attempts, span(policy.window)),
                format!(
                    "failure-share = {} of at least min-requests = {} in window = {}",
                    percent(policy.failure_share),
                    policy.min_requests,
                    span(policy.window)
                ),
                share_bad,
            ),
        ];
        if server.is_quiet(now) {
            let limit = "silence is not health: it is known by its probes alone".to_owned();
            signals.push(signal(
                "real requests",
                format!("none for {} or longer", span(QUIET)),
                limit,
                false,
            ));
        }
        if let Some(gray) = &server.witnesses.gray {
            let limit = "requests decide, and it has to answer Mainstay's own before it returns".to_owned();
            signals.push(signal("witnesses disagree", gray.to_string(), limit, true));
        }
        if let Some(wrong) = &server.witnesses.check_wrong {
            let limit = "requests decide, as long as there are half of min-requests in window".to_owned();
            signals.push(signal("witnesses disagree", wrong.to_string(), limit, false));
        }
        let circuit = server.traffic.circuit(now);
        if circuit != Circuit::Closed {
            let limit = "by the data plane itself: 1s after a failure, doubled to 4s".to_owned();
            signals.push(signal("circuit", circuit.as_str().to_owned(), limit, true));
        }
        if let Some(compared) = self.comparison(id, now) {
            signals.push(signal(
                "median of its answers",
                format!("{}, its fellows' {}", took(compared.own), took(compared.fellows)),
                format!(
                    "slow-times = {} of at least min-requests = {}",
                    policy.slow_times, policy.min_requests
                ),
                compared.is_slow(policy),
            ));
        }
        if let Some(judged) = server.pace.judged(now) {
            let limit =
                format!("past-times = {} of at least {ANSWERS_MIN} answers a minute", policy.past_times);
            signals.push(signal("mean of its answers", judged.to_string(), limit, judged.slow));
        }
        if let Some(ejection) = &server.ejection {
            let limit = format!(
                "eject-base = {}, doubled with each to eject-max = {}",
                span(policy.eject_base),
                span(policy.eject_max)
            );
            let left = format!("{} left of ejection {}", span(round(ejection.until - now)), server.ejections);
            signals.push(signal("ejected", left, limit, true));
        }
        if server.probes.verdict == Verdict::Bad
            && self.policy.traffic_hears_the_server()
            && server.traffic.is_good_since_bad(policy, now)
        {
            let since = server.traffic.since_bad(now);
            let value = format!(
                "probes fail, but {} of {} since were good",
                since.attempts - since.bad(),
                count(since.attempts, "real attempt")
            );
            let limit = "not restarted while real requests are answered".to_owned();
            signals.push(signal("witnesses disagree", value, limit, false));
        }
        signals
    }

    fn budget_signal(&self, server: &Server, now: Mono) -> Signal {
        let policy = &self.policy.recovery;
        let restarts = server.recovery.restarts_in(policy.budget_window, now);
        signal(
            "restarts",
            format!("{restarts} in {}", span(policy.budget_window)),
            format!("budget = {} in budget-window = {}", policy.budget, span(policy.budget_window)),
            restarts >= policy.budget,
        )
    }

    /// Why there are so many instances of it.
    fn scale_signal(&self, id: &ServerId, server: &Server, now: Mono) -> Option<Signal> {
        let policy = self.policy.scale.as_ref()?;
        if *server.origin.template(&id.name) != policy.template {
            return None;
        }
        let scale = self.present_scale(Now { mono: now, ..Now::default() })?;
        let limits =
            format!("concurrency = {}, min = {}, max = {}", policy.concurrency, policy.min, policy.max);
        Some(signal("instances", scale.text, limits, false))
    }

    fn would_change(&self, id: &ServerId, server: &Server, now: Mono) -> String {
        if server.admin != AdminState::Ready {
            return format!("a person makes {} ready", id.name);
        }
        if server.is_ended() {
            return self.restart_would_change(server, now);
        }
        let health = &self.policy.health;
        if server.probes.verdict == Verdict::Bad {
            let rise = health.rise.max(1);
            let good = format!("{} in a row (rise = {rise})", count(u64::from(rise), "good probe"));
            let waits = server.is_restartable() && server.recovery.due.is_some();
            return if waits { format!("{good}; {}", self.restart_would_change(server, now)) } else { good };
        }
        if server.has_to_prove(&self.policy) {
            let path = self.policy.health.ask.as_deref().unwrap_or("/");
            let left = server.ejection.as_ref().map_or_else(Default::default, |e| span(round(e.until - now)));
            return format!(
                "the end of its ejection, in {left}, and {PROOF} good answers in a row when Mainstay asks for {path}"
            );
        }
        if let Some(ejection) = &server.ejection {
            return format!("the end of its ejection, in {}", span(round(ejection.until - now)));
        }
        if let Some(until) = server.flaps.held_until() {
            return format!("the end of its hold-down, in {}", span(round(until - now)));
        }
        if server.condemned.is_some() {
            return "real requests that are answered well, or another server that can take its place"
                .to_owned();
        }
        if server.pace.slowed().is_some() {
            return "two minutes in which it answers nearly as fast as usual".to_owned();
        }
        let traffic = &self.policy.traffic;
        let fall = health.fall.max(1);
        match server.health {
            Health::Unknown => format!(
                "a good probe, or {} in a row (fall = {fall})",
                count(u64::from(fall), "failed probe")
            ),
            _ => format!(
                "{} in a row (fall = {fall}), {} in a row (consecutive-failures = {}), or {} of its attempts failing \
                 (failure-share)",
                count(u64::from(fall), "failed probe"),
                count(u64::from(traffic.consecutive_failures), "failed attempt"),
                traffic.consecutive_failures,
                percent(traffic.failure_share),
            ),
        }
    }

    fn restart_would_change(&self, server: &Server, now: Mono) -> String {
        let (recovery, policy) = (&server.recovery, &self.policy.recovery);
        if server.process.asked_down {
            return "a person makes it ready again".to_owned();
        }
        if recovery.pending.is_some() {
            return "the restart that is under way".to_owned();
        }
        match recovery.due {
            Some(due) if recovery.spent && recovery.room_at(policy, now).is_some_and(|at| at > now) => {
                format!(
                    "one more restart in {}, when the budget has room again (budget = {} in budget-window = {})",
                    span(round(due - now)),
                    policy.budget,
                    span(policy.budget_window)
                )
            }
            Some(due) => format!("its next restart, in {}", span(round(due - now))),
            None if policy.budget == 0 => "a person starts it (budget = 0)".to_owned(),
            None => "its process is started".to_owned(),
        }
    }

    fn rule(&self, id: &ServerId, server: &Server) -> String {
        match server.admin {
            AdminState::Ready => {}
            AdminState::Draining => return "a person drains it; it gets nothing new".to_owned(),
            AdminState::Maintenance => return "a person put it into maintenance".to_owned(),
        }
        let said_by_the_rule = |note: &ServerNote| matches!(note, ServerNote::Gray | ServerNote::CheckWrong);
        if let Some(note) = self.note(id, server).filter(|note| !said_by_the_rule(note)) {
            return format!("it {}; {}", note.about(), server.rule);
        }
        if server.hold_until.is_some() && server.health == Health::Unknown {
            return format!(
                "{}; it gets no traffic before its first good probe, unless it is needed",
                server.rule
            );
        }
        server.rule.clone()
    }
}

fn signal(name: &str, value: String, threshold: String, bad: bool) -> Signal {
    Signal { name: name.to_owned(), value, threshold, bad }
}

/// To a tenth of a second: nobody waits by the millisecond.
fn round(left: std::time::Duration) -> std::time::Duration {
    let tenths = u64::try_from(left.as_millis().div_ceil(100)).unwrap_or(u64::MAX / 100);
    std::time::Duration::from_millis(tenths * 100)
}

#[cfg(test)]
mod tests {
    use crate::input::{AdminState, ProbeFailure};
    use crate::testing::{Bench, app, policy};
    use std::time::Duration;

    #[test]
    fn every_threshold_is_named_by_its_key_in_the_config() {
        let bench = Bench::settled(policy(2, true));
        let why = bench.server(&app(1)).why;
        let thresholds: Vec<&str> = why.signals.iter().map(|s| s.threshold.as_str()).collect();
        let expected = [
            "fall = 2",
            "fail = 3 of 5",
            "rise = 2",
            "timeout = 800ms",
            "a kernel accepts for a program that hangs; health.http asks more",
            "consecutive-failures = 5",
            "failure-share = 20% of at least min-requests = 20 in window = 10s",
            "budget = 5 in budget-window = 10m",
        ];
        assert_eq!(thresholds, expected);
        assert!(why.signals.iter().all(|s| !s.bad), "{why:?}");
        assert!(
            why.would_change.starts_with("2 failed probes in a row (fall = 2), 5 failed attempts in a row")
        );
    }

    #[test]
    fn a_server_that_is_out_says_what_brings_it_back() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.attempts_unanswered(&app(2), 5);
        bench.admin(&app(3), AdminState::Draining);
        bench.advance(Duration::from_secs(2));
        assert_eq!(bench.server(&app(1)).why.would_change, "2 good probes in a row (rise = 2)");
        assert_eq!(
            bench.server(&app(2)).why.would_change,
            "the end of its ejection, in 8s, and 3 good answers in a row when Mainstay asks for /"
        );
        assert_eq!(bench.server(&app(3)).why.would_change, "a person makes app-3 ready");
        assert_eq!(bench.server(&app(3)).why.rule, "a person drains it; it gets nothing new");
    }

    #[test]
    fn the_next_restart_is_announced() {
        let mut bench = Bench::settled(policy(2, true));
        bench.crash(&app(1));
        bench.advance(Duration::from_secs(1));
        bench.crash(&app(1));
        let server = bench.server(&app(1));
        assert!(server.why.would_change.starts_with("its next restart, in 1."), "{:?}", server.why);
        let due = server.process.unwrap().next_restart_at.unwrap().ms_since(bench.now.wall);
        assert!((1000..=1200).contains(&due), "{due}");
    }

    #[test]
    fn the_last_ten_changes_are_kept_newest_first() {
        let mut bench = Bench::settled(policy(2, false));
        for _ in 0..10 {
            bench.admin(&app(1), AdminState::Draining);
            bench.advance(Duration::from_millis(100));
            bench.admin(&app(1), AdminState::Ready);
        }
        let changes = bench.server(&app(1)).why.changes;
        assert_eq!(changes.len(), 10);
        assert!(changes.windows(2).all(|pair| pair[0].at >= pair[1].at));
    }
}
