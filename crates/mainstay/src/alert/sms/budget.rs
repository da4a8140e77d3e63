//! How many text messages one person may get within an hour, whatever the storm. The last of them is kept back for a while,
//! and then says how many more there would have been.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The budget's window.
pub(in crate::alert) const HOUR: Duration = Duration::from_secs(3600);
/// People that are remembered; more than any team has.
const PEOPLE_MAX: usize = 1000;

/// What was sent to whom.
#[derive(Debug, Default)]
pub(in crate::alert) struct Budgets {
    people: BTreeMap<String, Person>,
}

#[derive(Debug, Default)]
struct Person {
    /// When each message of the last hour was sent, or may have been, oldest first.
    sent: VecDeque<Instant>,
    /// Places that are taken by messages on their way.
    under_way: u32,
    /// Messages held back that no message has told of yet.
    held_back: u32,
}

/// Whether a message may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::alert) enum Verdict {
    /// It has a place.
    Send,
    /// It has the last place, so it also stands for those that get none.
    Last,
    /// There is no place for it.
    HoldBack,
}

impl Budgets {
    /// A message of an earlier run.
    pub(in crate::alert) fn remember(&mut self, number: &str, ago: Duration, now: Instant) {
        if let Some(at) = now.checked_sub(ago).filter(|_| ago < HOUR) {
            let sent = &mut self.person(number).sent;
            let place = sent.partition_point(|earlier| *earlier <= at);
            sent.insert(place, at);
        }
    }

    /// A message of an earlier run was held back.
    pub(in crate::alert) fn remember_held_back(&mut self, number: &str) {
        let person = self.person(number);
        person.held_back = person.held_back.saturating_add(1);
    }

    /// Asks for a place; one that is given is to be given back by [`Budgets::sent`] or [`Budgets::not_sent`].
    pub(in crate::alert) fn ask(&mut self, number: &str, budget: u32, now: Instant) -> Verdict {
        let person = self.person(number);
        person.forget(now);
        let taken = person.under_way.saturating_add(u32::try_from(person.sent.len()).unwrap_or(u32::MAX));
        if taken >= budget {
            person.held_back = person.held_back.saturating_add(1);
            return Verdict::HoldBack;
        }
        person.under_way += 1;
        if taken + 1 == budget { Verdict::Last } else { Verdict::Send }
    }

    /// Its place is used: it was sent, or may have been.
    pub(in crate::alert) fn sent(&mut self, number: &str, now: Instant) {
        let person = self.person(number);
        person.under_way = person.under_way.saturating_sub(1);
        person.sent.push_back(now);
    }

    /// Its place is free again: it surely was not sent.
    pub(in crate::alert) fn not_sent(&mut self, number: &str) {
        let person = self.person(number);
        person.under_way = person.under_way.saturating_sub(1);
    }

    /// How many were held back since this was last asked.
    pub(in crate::alert) fn take_held_back(&mut self, number: &str) -> u32 {
        std::mem::take(&mut self.person(number).held_back)
    }

    fn person(&mut self, number: &str) -> &mut Person {
        if !self.people.contains_key(number) && self.people.len() >= PEOPLE_MAX {
            let now = Instant::now();
            self.people.values_mut().for_each(|person| person.forget(now));
            self.people.retain(|_, person| !person.sent.is_empty() || person.under_way > 0);
        }
        self.people.entry(number.to_owned()).or_default()
    }
}

impl Person {
    fn forget(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADA: &str = "+491701234567";

    #[test]
    fn the_last_place_of_an_hour_stands_for_all_that_get_none() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(budgets.ask(ADA, 3, now), Verdict::Send);
            budgets.sent(ADA, now);
        }
        assert_eq!(budgets.ask(ADA, 3, now), Verdict::Last);
        for _ in 0..12 {
            assert_eq!(budgets.ask(ADA, 3, now), Verdict::HoldBack);
        }
        assert_eq!(budgets.take_held_back(ADA), 12);
        budgets.sent(ADA, now);
        assert_eq!(budgets.ask(ADA, 3, now + HOUR / 2), Verdict::HoldBack);
        assert_eq!(budgets.ask("+1", 3, now), Verdict::Send, "everybody has a budget of their own");
        assert_eq!(budgets.ask(ADA, 3, now + HOUR), Verdict::Send);
        assert_eq!(budgets.take_held_back(ADA), 1);
    }

    #[test]
    fn a_message_that_was_refused_gives_its_place_back() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(budgets.ask(ADA, 2, now), Verdict::Send);
            budgets.not_sent(ADA);
        }
    }

    #[test]
    fn what_an_earlier_run_sent_counts() {
        let (mut budgets, now) = (Budgets::default(), Instant::now() + HOUR * 2);
        budgets.remember(ADA, Duration::from_secs(10), now);
        budgets.remember(ADA, HOUR - Duration::from_secs(1), now);
        budgets.remember(ADA, HOUR, now);
        budgets.remember_held_back(ADA);
        assert_eq!(budgets.ask(ADA, 2, now), Verdict::HoldBack);
        assert_eq!(budgets.ask(ADA, 2, now + Duration::from_secs(1)), Verdict::Last);
        assert_eq!(budgets.take_held_back(ADA), 2);
    }

    proptest! {
        #[test]
        fn no_hour_has_more_than_its_budget(
            budget in 2u32..8,
            storm in prop::collection::vec((0u64..600, 0u8..4), 0..200)
        ) {
            let mut budgets = Budgets::default();
            let start = Instant::now();
            let mut now = start;
            let mut sent: Vec<Instant> = Vec::new();
            let mut under_way = 0;
            for (seconds, what) in storm {
                now += Duration::from_secs(seconds);
                match what {
                    0 if under_way > 0 => {
                        budgets.sent(ADA, now);
                        sent.push(now);
                        under_way -= 1;
                    }
                    1 if under_way > 0 => {
                        budgets.not_sent(ADA);
                        under_way -= 1;
                    }
                    _ => under_way += u32::from(budgets.ask(ADA, budget, now) != Verdict::HoldBack),
                }
                let recent = sent.iter().filter(|at| now.duration_since(**at) < HOUR).count();
                prop_assert!(recent <= budget as usize, "{recent} in an hour");
            }
        }
    }
}
