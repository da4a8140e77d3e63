//! Which server a request goes to.
//!
//! *Least latency*: two different servers are drawn by share; the second takes the place of the first if it costs less
//! (peak-EWMA of latency, times attempts under way), and, where it has the smaller share, only with a chance of shares
//! times costs. So equal servers are used in proportion to their shares even while one starts slowly, and a server that
//! hangs loses every comparison. Being a little better never brings more than twice a share. *Least requests*: the same
//! without latency. *Round-robin*: nginx's smooth weighted one. *Random*: drawn by share.
//!
//! *Hash*: rendezvous hashing (Thaler and Ravishankar, 1998) with weights: each server draws a number for the key, and the
//! highest wins, so that a server that goes or whose share changes moves its own keys and no others. Loads are bounded
//! (Mirrokni, Thorup and Zadimoghaddam, 2018): who has more than 1.25 times its part of the requests under way is passed over.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use mainstay_model::input::Circuit;
use mainstay_model::policy::Balance;

use super::affinity;
use super::retry::Safety;
use super::server::ServerState;

/// A server may have so many times its part of the requests under way before its keys go elsewhere.
const BOUND: f64 = 1.25;
/// With fewer under way on this worker nobody is passed over: two requests at once are no load, and keeping to a server is
/// what is wanted.
const UNBOUNDED: f64 = 4.0;

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
    /// Hash: of its name.
    seed: u64,
}

impl<S> Weighted<S> {
    pub(crate) fn new(server: S, share: f64) -> Self {
        // A share comes from arithmetic elsewhere; a zero or NaN must not make a server unreachable or poison the sum.
        let share = if share.is_finite() && share > 0.0 { share } else { f64::MIN_POSITIVE };
        Self { server, share, owed: Cell::new(0.0), seed: 0 }
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
    pub(crate) fn new(balance: Balance, mut targets: Vec<Weighted<S>>, last_resort: Vec<S>) -> Self {
        for target in &mut targets {
            target.seed = affinity::hash(target.server.state().id.name.as_bytes());
        }
        Self { balance, targets, last_resort, trial: None, usable: RefCell::default() }
    }

    /// With a server beside the others that gets so large a part of the requests by chance alone, however it does: only
    /// so can what becomes of them be compared.
    pub(crate) fn with_trial(self, trial: Option<(S, f64)>) -> Self {
        Self { trial, ..self }
    }

    /// The server for the next attempt of a request of this `safety` and this `key` that has tried those for which `tried` is true; `None` when all were.
    ///
    /// First servers that nothing is against, then the suspected, the full, the avoided, then the last resort: a visitor is
    /// refused only when there is nobody left.
    pub(crate) fn choose(
        &self,
        safety: Safety,
        key: u64,
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
            if let Some(i) = self.choose_among(&usable, key, rng, now) {
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

    fn choose_among(
        &self,
        usable: &[usize],
        key: u64,
        rng: &mut fastrand::Rng,
        now: Instant,
    ) -> Option<usize> {
        match (usable, self.balance) {
            ([], _) => None,
            ([only], _) => Some(*only),
            (_, Balance::RoundRobin) => self.next_in_turn(usable),
            (_, Balance::LeastLatency) => self.better_of_two(usable, rng, now, |a, b| costs(a, b, now)),
            (_, Balance::LeastRequests) => {
                let cost = |server: &ServerState| f64::from(server.in_flight() + 1);
                self.better_of_two(usable, rng, now, |a, b| (cost(a), cost(b)))
            }
            (_, Balance::Random) => self.draw(usable, None, rng),
            (_, Balance::Hash) => self.highest_bidder(usable, key),
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

    /// `usable` has two at least.
    fn highest_bidder(&self, usable: &[usize], key: u64) -> Option<usize> {
        let targets = || usable.iter().map(|&i| (i, &self.targets[i]));
        let (total, shares) = targets().fold((1.0, 0.0), |(total, shares), (_, target)| {
            (total + f64::from(target.server.state().in_flight()), shares + target.share)
        });
        let has_room = |target: &Weighted<S>| {
            let part = (BOUND * total * target.share / shares).ceil();
            f64::from(target.server.state().in_flight()) < part.max(UNBOUNDED)
        };
        // A number between 0 and 1 that only the key and the server's name decide, weighted by the share.
        let bid = |target: &Weighted<S>| {
            let drawn = ((affinity::stir(key ^ target.seed) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            target.share / -drawn.ln()
        };
        let bids = targets().filter(|(_, target)| has_room(target)).map(|(i, target)| (i, bid(target)));
        // Together they have room for more than there is, so somebody has.
        bids.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(i, _)| i).or(usable.first().copied())
    }

    fn better_of_two(
        &self,
        usable: &[usize],
        rng: &mut fastrand::Rng,
        now: Instant,
        costs: impl Fn(&ServerState, &ServerState) -> (f64, f64),
    ) -> Option<usize> {
        let first = self.draw(usable, None, rng)?;
        // What is known of it is what led to its spell, so a comparison would put the trial off for ever.
        if self.targets[first].server.state().reflex.borrow().circuit(now) == Circuit::HalfOpen {
            return Some(first);
        }
        let Some(second) = self.draw(usable, Some(first), rng) else { return Some(first) };
        let (a, b) = (&self.targets[first], &self.targets[second]);
        let (cost_a, cost_b) = costs(a.server.state(), b.server.state());
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

/// Whether a request that wants to keep to a server should go elsewhere all the same: it failed a moment ago, or is full. One
/// that is only suspected keeps its visitors, because a wrong suspicion would cost them their session.
pub(crate) fn is_avoided(server: &ServerState, safety: Safety, now: Instant) -> bool {
    matches!(grade_of(server, safety, now), Grade::Avoided | Grade::Full)
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
    use proptest::prelude::*;

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
            let key = rng.u64(..);
            let chosen = rotation
                .choose(Safety::Repeatable, key, |_| false, &mut rng, now)
                .expect("there is a server");
            let i = rotation.targets.iter().position(|t| Rc::ptr_eq(&t.server, chosen)).expect("a target");
            counts[i] += 1;
            chosen.saw_answer(200, Duration::from_micros(800 + rng.u64(0..400)), now);
        }
        counts
    }

    #[test]
    fn equal_servers_get_traffic_in_proportion_to_their_shares() {
        for balance in [
            Balance::LeastLatency,
            Balance::RoundRobin,
            Balance::LeastRequests,
            Balance::Random,
            Balance::Hash,
        ] {
            for shares in [&[1.0, 1.0, 0.1][..], &[1.0, 0.1], &[3.0, 1.0], &[1.0, 1.0, 1.0]] {
                let requests = 20_000;
                let counts = spread(&rotation(balance, shares), requests);
                let total: f64 = shares.iter().sum();
                for (share, count) in shares.iter().zip(&counts) {
                    let expected = requests as f64 * share / total;
                    let off = *count as f64 / expected;
                    // The better of two can at most double what a server is drawn for.
                    let tolerance = match balance {
                        Balance::RoundRobin => 0.99..1.01,
                        Balance::LeastLatency => 0.5..2.0,
                        // Drawn by chance alone where nobody has anything under way.
                        Balance::LeastRequests | Balance::Random | Balance::Hash => 0.9..1.1,
                    };
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
                rotation.choose(Safety::Repeatable, 0, |_| false, &mut rng, now).expect("there is a server");
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
                rotation.choose(Safety::Repeatable, 0, |_| false, &mut rng, now).expect("there is a server");
            assert!(!Rc::ptr_eq(chosen, &rotation.targets[0].server));
        }
    }

    #[test]
    fn avoided_and_suspected_servers_are_used_only_when_nobody_else_is_left() {
        for balance in [
            Balance::LeastLatency,
            Balance::RoundRobin,
            Balance::LeastRequests,
            Balance::Random,
            Balance::Hash,
        ] {
            let rotation = rotation(balance, &[1.0, 1.0, 1.0]);
            let (mut rng, now) = (fastrand::Rng::with_seed(1), Instant::now());
            rotation.targets[0].server.reflex.borrow_mut().failure(now, FAILED);
            rotation.targets[1].server.suspect.set(true);
            let mut tried: Vec<Rc<ServerState>> = Vec::new();
            for _ in 0..5 {
                let chosen = rotation.choose(
                    Safety::Repeatable,
                    0,
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
                    .choose(Safety::Repeatable, 0, |s| tried.iter().any(|t| Rc::ptr_eq(t, s)), &mut rng, now)
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
                Rc::ptr_eq(
                    rotation.choose(safety, 0, |_| false, &mut rng, at).expect("there is a server"),
                    hung,
                )
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
        assert!(rotation.choose(Safety::Repeatable, 0, |_| false, &mut rng, Instant::now()).is_some());
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
                rotation.choose(Safety::Repeatable, 0, |_| false, &mut rng, now).expect("there is a server");
            if Rc::ptr_eq(chosen, &trial) {
                to_trial += 1;
                // It is slower than everybody else.
                chosen.saw_answer(200, Duration::from_millis(900), now);
            }
        }
        assert!((320..480).contains(&to_trial), "{to_trial}");
        let first = Rc::clone(&rotation.targets[0].server);
        for _ in 0..200 {
            let chosen = rotation.choose(Safety::Repeatable, 0, |s| Rc::ptr_eq(s, &first), &mut rng, now);
            assert!(!Rc::ptr_eq(chosen.expect("there is a server"), &trial));
        }
    }

    fn chosen_for(rotation: &Rotation<Rc<ServerState>>, key: u64, out: &[usize]) -> usize {
        let (mut rng, now) = (fastrand::Rng::with_seed(1), Instant::now());
        let is_out = |s: &Rc<ServerState>| out.iter().any(|&i| Rc::ptr_eq(s, &rotation.targets[i].server));
        let chosen =
            rotation.choose(Safety::Repeatable, key, is_out, &mut rng, now).expect("there is a server");
        rotation.targets.iter().position(|t| Rc::ptr_eq(&t.server, chosen)).expect("a target")
    }

    #[test]
    fn requests_under_way_are_spread_by_shares_and_a_hung_server_loses() {
        for balance in [Balance::LeastRequests, Balance::LeastLatency] {
            let rotation = rotation(balance, &[3.0, 1.0, 1.0, 0.1]);
            let (mut rng, now) = (fastrand::Rng::with_seed(1), Instant::now());
            let mut under_way = std::collections::VecDeque::new();
            let mut counts = [0usize; 4];
            for _ in 0..20_000 {
                let chosen =
                    rotation.choose(Safety::Repeatable, 0, |_| false, &mut rng, now).expect("a server");
                drop(chosen.begin_attempt());
                counts[rotation
                    .targets
                    .iter()
                    .position(|t| Rc::ptr_eq(&t.server, chosen))
                    .expect("a target")] += 1;
                under_way.push_back(Rc::clone(chosen));
                if under_way.len() > 20 {
                    under_way.pop_front().expect("one").end_attempt();
                }
            }
            assert!(counts[0] > counts[1] && counts[0] > counts[2], "{balance:?}: {counts:?}");
            assert!(counts[3] * 5 < counts[1], "who starts slowly gets little: {counts:?}");
            let hung = &rotation.targets[1].server;
            (0..1000).for_each(|_| drop(hung.begin_attempt()));
            for _ in 0..1000 {
                let chosen =
                    rotation.choose(Safety::Repeatable, 0, |_| false, &mut rng, now).expect("a server");
                assert!(!Rc::ptr_eq(chosen, hung), "{balance:?}");
            }
        }
    }

    proptest! {
        /// A server that goes, comes or gets another share moves keys from or to itself and between no others.
        #[test]
        fn only_the_keys_of_a_server_that_changes_move(
            mut shares in prop::collection::vec(0.1f64..10.0, 2..12),
            changed in any::<prop::sample::Index>(),
            factor in 0.1f64..10.0,
            keys in prop::collection::vec(any::<u64>(), 1..100),
        ) {
            let before = rotation(Balance::Hash, &shares);
            let changed = changed.index(shares.len());
            shares[changed] *= factor;
            let after = rotation(Balance::Hash, &shares);
            for key in keys {
                let was = chosen_for(&before, key, &[]);
                let gone = chosen_for(&before, key, &[changed]);
                prop_assert!(gone != changed && (gone == was || was == changed));
                let now = chosen_for(&after, key, &[]);
                let moved_well = if factor >= 1.0 { now == changed } else { was == changed };
                prop_assert!(now == was || moved_well, "{} to {}", was, now);
            }
        }

        /// Nobody has more than 1.25 times its part, rounded up, or the few that are no load.
        #[test]
        fn no_server_has_far_more_under_way_than_its_part(
            shares in prop::collection::vec(0.1f64..10.0, 2..12),
            keys in prop::collection::vec(0u64..5, 1..400),
        ) {
            let rotation = rotation(Balance::Hash, &shares);
            let sum: f64 = shares.iter().sum();
            for (under_way, key) in keys.iter().enumerate() {
                let i = chosen_for(&rotation, *key, &[]);
                drop(rotation.targets[i].server.begin_attempt());
                let most = (1.25 * (under_way + 1) as f64 * shares[i] / sum).ceil().max(4.0);
                prop_assert!(f64::from(rotation.targets[i].server.in_flight()) <= most);
            }
        }
    }

    #[test]
    fn a_key_goes_to_its_server_again_when_that_is_back_or_has_room_again() {
        let rotation = rotation(Balance::Hash, &[1.0, 1.0, 1.0]);
        let key = 42;
        let own = chosen_for(&rotation, key, &[]);
        let server = Rc::clone(&rotation.targets[own].server);
        (0..4).for_each(|_| drop(server.begin_attempt()));
        let other = chosen_for(&rotation, key, &[]);
        assert_ne!(other, own, "it has its part and more");
        assert_eq!(chosen_for(&rotation, key, &[]), other, "and the second choice is always the same");
        server.end_attempt();
        assert_eq!(chosen_for(&rotation, key, &[]), own);
        server.reflex.borrow_mut().failure(Instant::now(), FAILED);
        assert_eq!(chosen_for(&rotation, key, &[]), other);
        server.forgive();
        assert_eq!(chosen_for(&rotation, key, &[]), own);
    }
}
