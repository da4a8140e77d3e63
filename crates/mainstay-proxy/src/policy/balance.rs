//! Which server a request goes to.
//!
//! *Least latency*: two different servers are drawn by share; the second takes the place of the first if it costs less
//! (peak-EWMA of latency, times attempts under way), and, where it has the smaller share, only with a chance of shares
//! times costs. So equal servers are used in proportion to their shares even while one starts slowly, and a server that
//! hangs loses every comparison. Being a little better never brings more than twice a share. *Round-robin*: nginx's
//! smooth weighted one.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use mainstay_model::input::Circuit;
use mainstay_model::policy::Balance;

use super::retry::Safety;
use super::server::ServerState;

/// Anything that stands for a server.
pub(crate) trait Candidate {
    fn state(&self) -> &ServerState;
}

/// One server in rotation, with its part of the traffic.
#[derive(Debug)]
pub(crate) struct Weighted<S> {
    pub(crate) server: S,
    pub(crate) share: f64,
    /// Smooth round-robin: what it is owed.
    owed: Cell<f64>,
}

impl<S> Weighted<S> {
    pub(crate) fn new(server: S, share: f64) -> Self {
        // A share comes from arithmetic elsewhere; a zero or NaN must not make a server unreachable or poison the sum.
        let share = if share.is_finite() && share > 0.0 { share } else { f64::MIN_POSITIVE };
        Self { server, share, owed: Cell::new(0.0) }
    }
}

/// The servers of one service in the order in which a request may use them.
#[derive(Debug)]
pub(crate) struct Rotation<S> {
    pub(crate) balance: Balance,
    pub(crate) targets: Vec<Weighted<S>>,
    pub(crate) last_resort: Vec<S>,
    /// A new release on trial, with its part (0 to 1) of the requests.
    trial: Option<(S, f64)>,
    /// Indices that may be chosen; kept to spare the allocation.
    usable: RefCell<Vec<usize>>,
}

impl<S: Candidate> Rotation<S> {
    pub(crate) fn new(balance: Balance, targets: Vec<Weighted<S>>, last_resort: Vec<S>) -> Self {
        Self { balance, targets, last_resort, trial: None, usable: RefCell::default() }
    }

    /// With a server beside the others that gets so large a part of the requests by chance alone, however it does: only
    /// so can what becomes of them be compared.
    pub(crate) fn with_trial(self, trial: Option<(S, f64)>) -> Self {
        Self { trial, ..self }
    }

    /// The server for the next attempt of a request of this `safety` that has tried those for which `tried` is true; `None` when all were.
    ///
    /// First servers that nothing is against, then the suspected, the full, the avoided, then the last resort: a visitor is
    /// refused only when there is nobody left.
    pub(crate) fn choose(
        &self,
        safety: Safety,
        tried: impl Fn(&S) -> bool,
        rng: &mut fastrand::Rng,
        now: Instant,
    ) -> Option<&S> {
        if let Some((server, share)) = &self.trial
            && rng.f64() < *share
            && grade_of(server.state(), safety, now) == Grade::Good
            && !tried(server)
            && !self.targets.iter().any(|t| tried(&t.server))
        {
            return Some(server);
        }
        let mut usable = self.usable.borrow_mut();
        for grade in [Grade::Good, Grade::Suspect, Grade::Full, Grade::Avoided] {
            usable.clear();
            usable.extend((0..self.targets.len()).filter(|&i| {
                let server = &self.targets[i].server;
                grade_of(server.state(), safety, now) == grade && !tried(server)
            }));
            if let Some(i) = self.choose_among(&usable, rng, now) {
                return Some(&self.targets[i].server);
            }
        }
        self.last_resort.iter().find(|server| !tried(server))
    }

    /// Whether a target that nothing is against is left for a request.
    pub(crate) fn has_good(&self, safety: Safety, tried: impl Fn(&S) -> bool, now: Instant) -> bool {
        let is_good = |s: &S| grade_of(s.state(), safety, now) == Grade::Good && !tried(s);
        self.targets.iter().any(|t| is_good(&t.server))
    }

    fn choose_among(&self, usable: &[usize], rng: &mut fastrand::Rng, now: Instant) -> Option<usize> {
        match (usable, self.balance) {
            ([], _) => None,
            ([only], _) => Some(*only),
            (_, Balance::RoundRobin) => self.next_in_turn(usable),
            (_, Balance::LeastLatency) => self.better_of_two(usable, rng, now),
        }
    }

    fn next_in_turn(&self, usable: &[usize]) -> Option<usize> {
        let mut total = 0.0;
        let mut best: Option<usize> = None;
        for &i in usable {
            let target = &self.targets[i];
            total += target.share;
            target.owed.set(target.owed.get() + target.share);
            if best.is_none_or(|b| target.owed.get() > self.targets[b].owed.get()) {
                best = Some(i);
            }
        }
        let chosen = &self.targets[best?];
        chosen.owed.set(chosen.owed.get() - total);
        best
    }

    fn better_of_two(&self, usable: &[usize], rng: &mut fastrand::Rng, now: Instant) -> Option<usize> {
        let first = self.draw(usable, None, rng)?;
        // What is known of it is what led to its spell, so a comparison would put the trial off for ever.
        if self.targets[first].server.state().reflex.borrow().circuit(now) == Circuit::HalfOpen {
            return Some(first);
        }
        let Some(second) = self.draw(usable, Some(first), rng) else { return Some(first) };
        let (a, b) = (&self.targets[first], &self.targets[second]);
        let (cost_a, cost_b) = costs(a.server.state(), b.server.state(), now);
        let takes_over = cost_b < cost_a && {
            let chance = (b.share / a.share) * (cost_a / cost_b.max(f64::MIN_POSITIVE));
            chance >= 1.0 || rng.f64() < chance
        };
        Some(if takes_over { second } else { first })
    }

    fn draw(&self, usable: &[usize], except: Option<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
        let candidates = || usable.iter().copied().filter(|i| Some(*i) != except);
        let total: f64 = candidates().map(|i| self.targets[i].share).sum();
        let mut at = rng.f64() * total;
        let mut last = None;
        for i in candidates() {
            last = Some(i);
            at -= self.targets[i].share;
            if at < 0.0 {
                break;
            }
        }
        last
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Suspect,
    /// It has as many requests as it takes.
    Full,
    Avoided,
}

fn grade_of(server: &ServerState, safety: Safety, now: Instant) -> Grade {
    let reflex = server.reflex.borrow();
    match reflex.circuit(now) {
        Circuit::Open => Grade::Avoided,
        // Whoever can be sent again finds out first.
        Circuit::HalfOpen if safety == Safety::Once && !reflex.is_overdue(now) => Grade::Avoided,
        _ if server.is_full() => Grade::Full,
        _ if server.suspect.get() => Grade::Suspect,
        Circuit::Closed | Circuit::HalfOpen => Grade::Good,
    }
}

/// What a request costs at each of two servers. One that was never measured is taken to be as fast as the other.
fn costs(a: &ServerState, b: &ServerState, now: Instant) -> (f64, f64) {
    let (latency_a, latency_b) = match (a.latency(now), b.latency(now)) {
        (Some(x), Some(y)) => (x, y),
        (Some(x), None) | (None, Some(x)) => (x, x),
        (None, None) => (1.0, 1.0),
    };
    (latency_a * f64::from(a.in_flight() + 1), latency_b * f64::from(b.in_flight() + 1))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use mainstay_model::ServiceId;
    use mainstay_model::input::FailureKind;

    use super::super::reflex::FAILED;
    use super::*;

    impl Candidate for Rc<ServerState> {
        fn state(&self) -> &ServerState {
            self
        }
    }

    fn rotation(balance: Balance, shares: &[f64]) -> Rotation<Rc<ServerState>> {
        let service = ServiceId::new("shop");
        let server = |i: usize| Rc::new(ServerState::new(service.server(format!("s{i}"))));
        let targets = shares.iter().enumerate().map(|(i, &share)| Weighted::new(server(i), share)).collect();
        Rotation::new(balance, targets, vec![server(100), server(101)])
    }

    /// Requests by server when each is answered after a random time around a millisecond.
    fn spread(rotation: &Rotation<Rc<ServerState>>, requests: usize) -> Vec<usize> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut now = Instant::now();
        let mut counts = vec![0; rotation.targets.len()];
        for _ in 0..requests {
            now += Duration::from_millis(1);
            let chosen =
                rotation.choose(Safety::Repeatable, |_| false, &mut rng, now).expect("there is a server");
            let i = rotation.targets.iter().position(|t| Rc::ptr_eq(&t.server, chosen)).expect("a target");
            counts[i] += 1;
            chosen.saw_answer(200, Duration::from_micros(800 + rng.u64(0..400)), now);
        }
        counts
    }

    #[test]
    fn equal_servers_get_traffic_in_proportion_to_their_shares() {
        for balance in [Balance::LeastLatency, Balance::RoundRobin] {
            for shares in [&[1.0, 1.0, 0.1][..], &[1.0, 0.1], &[3.0, 1.0], &[1.0, 1.0, 1.0]] {
                let requests = 20_000;
                let counts = spread(&rotation(balance, shares), requests);
                let total: f64 = shares.iter().sum();
                for (share, count) in shares.iter().zip(&counts) {
                    let expected = requests as f64 * share / total;
                    let off = *count as f64 / expected;
                    // The better of two can at most double what a server is drawn for.
                    let tolerance = if balance == Balance::RoundRobin { 0.99..1.01 } else { 0.5..2.0 };
                    assert!(tolerance.contains(&off), "{balance:?} {shares:?}: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn a_slow_server_gets_less() {
        let rotation = rotation(Balance::LeastLatency, &[1.0, 1.0, 1.0]);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut now = Instant::now();
        let mut slow = 0;
        for _ in 0..3000 {
            now += Duration::from_millis(1);
            let chosen =
                rotation.choose(Safety::Repeatable, |_| false, &mut rng, now).expect("there is a server");
            let is_slow = Rc::ptr_eq(chosen, &rotation.targets[0].server);
            slow += usize::from(is_slow);
            chosen.saw_answer(200, Duration::from_millis(if is_slow { 50 } else { 1 }), now);
        }
        assert!(slow < 150, "{slow} of 3000 went to the slow server");
    }

    #[test]
    fn a_server_that_hangs_loses_every_comparison_once_it_has_waiting_requests() {
        let rotation = rotation(Balance::LeastLatency, &[1.0, 1.0, 1.0]);
        let mut rng = fastrand::Rng::with_seed(3);
        let now = Instant::now();
        for target in &rotation.targets {
            target.server.saw_answer(200, Duration::from_millis(1), now);
        }
        for _ in 0..3 {
            rotation.targets[0].server.begin_attempt();
        }
        for _ in 0..1000 {
            let chosen =
                rotation.choose(Safety::Repeatable, |_| false, &mut rng, now).expect("there is a server");
            assert!(!Rc::ptr_eq(chosen, &rotation.targets[0].server));
        }
    }

    #[test]
    fn avoided_and_suspected_servers_are_used_only_when_nobody_else_is_left() {
        for balance in [Balance::LeastLatency, Balance::RoundRobin] {
            let rotation = rotation(balance, &[1.0, 1.0, 1.0]);
            let (mut rng, now) = (fastrand::Rng::with_seed(1), Instant::now());
            rotation.targets[0].server.reflex.borrow_mut().failure(now, FAILED);
            rotation.targets[1].server.suspect.set(true);
            let mut tried: Vec<Rc<ServerState>> = Vec::new();
            for _ in 0..5 {
                let chosen = rotation.choose(
                    Safety::Repeatable,
                    |s| tried.iter().any(|t| Rc::ptr_eq(t, s)),
                    &mut rng,
                    now,
                );
                tried.push(Rc::clone(chosen.expect("somebody is left")));
            }
            let names: Vec<&str> = tried.iter().map(|s| &*s.id.name).collect();
            assert_eq!(names, ["s2", "s1", "s0", "s100", "s101"]);
            assert!(
                rotation
                    .choose(Safety::Repeatable, |s| tried.iter().any(|t| Rc::ptr_eq(t, s)), &mut rng, now)
                    .is_none()
            );
        }
    }

    #[test]
    fn a_server_whose_spell_is_over_is_tried_however_slow_it_was_but_not_with_what_cannot_be_sent_again() {
        let rotation = rotation(Balance::LeastLatency, &[1.0, 1.0, 1.0]);
        let (mut rng, now) = (fastrand::Rng::with_seed(1), Instant::now());
        for target in &rotation.targets {
            target.server.saw_answer(200, Duration::from_millis(1), now);
        }
        let hung = &rotation.targets[0].server;
        hung.saw_failure(FailureKind::Timeout, Some(Duration::from_secs(60)), now);
        hung.reflex.borrow_mut().failure(now, FAILED);
        let mut tried_it = |safety, at| {
            (0..100).any(|_| {
                Rc::ptr_eq(rotation.choose(safety, |_| false, &mut rng, at).expect("there is a server"), hung)
            })
        };
        let over = now + Duration::from_secs(2);
        assert!(!tried_it(Safety::Once, over));
        assert!(tried_it(Safety::Repeatable, over));
        assert!(tried_it(Safety::Once, now + Duration::from_secs(12)), "nobody else came");
    }

    #[test]
    fn a_share_of_nothing_still_lets_the_only_server_be_reached() {
        let rotation = rotation(Balance::LeastLatency, &[0.0, f64::NAN]);
        let mut rng = fastrand::Rng::with_seed(1);
        assert!(rotation.choose(Safety::Repeatable, |_| false, &mut rng, Instant::now()).is_some());
    }

    #[test]
    fn a_trial_gets_its_share_by_chance_however_slow_it_is_and_no_second_attempts() {
        let now = Instant::now();
        let trial = Rc::new(ServerState::new(ServiceId::new("shop").server("new")));
        let rotation =
            rotation(Balance::LeastLatency, &[1.0, 1.0]).with_trial(Some((Rc::clone(&trial), 0.2)));
        let mut rng = fastrand::Rng::with_seed(5);
        let mut to_trial = 0;
        for _ in 0..2000 {
            let chosen =
                rotation.choose(Safety::Repeatable, |_| false, &mut rng, now).expect("there is a server");
            if Rc::ptr_eq(chosen, &trial) {
                to_trial += 1;
                // It is slower than everybody else.
                chosen.saw_answer(200, Duration::from_millis(900), now);
            }
        }
        assert!((320..480).contains(&to_trial), "{to_trial}");
        let first = Rc::clone(&rotation.targets[0].server);
        for _ in 0..200 {
            let chosen = rotation.choose(Safety::Repeatable, |s| Rc::ptr_eq(s, &first), &mut rng, now);
            assert!(!Rc::ptr_eq(chosen.expect("there is a server"), &trial));
        }
    }
}
