//! The reflex: a worker that saw a server fail avoids it at once, by itself, for a second or a few. It is a circuit breaker
//! for each worker and server: closed while nothing is against the server, open while it is avoided, half-open when one
//! request may find out.
//!
//! Avoiding is a preference and never a refusal: when every server of a service is avoided they are tried all the same.

use std::time::{Duration, Instant};

use mainstay_model::input::Circuit;

/// The first time of avoiding a server that failed; it doubles with each failed trial.
pub(crate) const FAILED: Duration = Duration::from_secs(1);
/// The same for one that seems to hang: it may have been a pause, so it is soon asked again.
pub(crate) const SILENT: Duration = Duration::from_millis(250);
/// The longest, short enough that a server that is back gets traffic soon even if nobody says so.
const LONGEST: Duration = Duration::from_secs(4);
/// A trial that nobody made for so long after its time may be made by a request that cannot be sent again: by now the
/// judge would have taken out a server that is really gone.
const OVERDUE: Duration = Duration::from_secs(10);

/// Whether one worker avoids one server.
#[derive(Debug, Default)]
pub(crate) struct Reflex {
    spell: Option<Spell>,
}

#[derive(Debug)]
struct Spell {
    began: Instant,
    until: Instant,
    length: Duration,
    /// One request is on its way to find out.
    trial: bool,
}

impl Reflex {
    /// How it stands before a new request.
    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        match &self.spell {
            None => Circuit::Closed,
            Some(spell) if !spell.trial && now >= spell.until => Circuit::HalfOpen,
            Some(_) => Circuit::Open,
        }
    }

    /// It waits for its trial for so long that any request may make it.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.spell.as_ref().is_some_and(|spell| now >= spell.until + OVERDUE)
    }

    /// It was avoided already when an attempt began at `began`.
    pub(crate) fn began_before(&self, began: Instant) -> bool {
        self.spell.as_ref().is_some_and(|spell| spell.began <= began)
    }

    /// An attempt is sent to it.
    pub(crate) fn attempt(&mut self, now: Instant) {
        if let Some(spell) = &mut self.spell {
            spell.trial |= now >= spell.until;
        }
    }

    /// An attempt failed, which is reason to avoid it for `first` if it is not avoided yet. Returns whether a new spell began: the
    /// moment to say so.
    pub(crate) fn failure(&mut self, now: Instant, first: Duration) -> bool {
        match &mut self.spell {
            None => {
                self.spell = Some(Spell { began: now, until: now + first, length: first, trial: false });
                true
            }
            Some(spell) => {
                // Only the failure of a trial says something new; others are of the same moment as the first.
                if now >= spell.until {
                    spell.length = (spell.length * 2).min(LONGEST);
                    spell.until = now + spell.length;
                    spell.trial = false;
                }
                false
            }
        }
    }

    /// An attempt ended without saying anything of the server: the visitor went away.
    pub(crate) fn inconclusive(&mut self) {
        if let Some(spell) = &mut self.spell {
            spell.trial = false;
        }
    }

    /// It answered an attempt that was sent at `sent`. Returns whether that ended a spell.
    pub(crate) fn success(&mut self, sent: Instant) -> bool {
        let ended = self.spell.as_ref().is_some_and(|spell| sent >= spell.began);
        if ended {
            self.spell = None;
        }
        ended
    }

    /// How much longer it is avoided, and how long this spell is as a whole; `None`: it is not.
    pub(crate) fn left(&self, now: Instant) -> Option<(Duration, Duration)> {
        self.spell.as_ref().map(|spell| (spell.until.saturating_duration_since(now), spell.length))
    }

    /// Another process avoided it.
    pub(crate) fn take_up(&mut self, left: Option<(Duration, Duration)>, now: Instant) {
        self.spell = left.map(|(left, length)| {
            let length = length.min(LONGEST);
            Spell { began: now, until: now + left.min(length), length, trial: false }
        });
    }

    /// The judge put it newly into rotation, or it has another address.
    pub(crate) fn forgive(&mut self) {
        self.spell = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_begins_a_spell_once_and_a_success_ends_it() {
        let (mut reflex, t) = (Reflex::default(), Instant::now());
        assert!(reflex.failure(t, FAILED));
        assert!(!reflex.failure(t, FAILED));
        assert_eq!(reflex.circuit(t), Circuit::Open);
        reflex.success(t - FAILED);
        assert_eq!(reflex.circuit(t), Circuit::Open, "an answer to an attempt from before says nothing");
        reflex.success(t);
        assert_eq!(reflex.circuit(t), Circuit::Closed);
        assert!(reflex.failure(t, FAILED));
    }

    #[test]
    fn after_the_spell_a_single_request_tries_it() {
        let (mut reflex, t) = (Reflex::default(), Instant::now());
        reflex.failure(t, FAILED);
        let later = t + FAILED;
        assert_eq!(reflex.circuit(later), Circuit::HalfOpen);
        reflex.attempt(later);
        assert_eq!(reflex.circuit(later), Circuit::Open);
        reflex.inconclusive();
        assert_eq!(reflex.circuit(later), Circuit::HalfOpen);
    }

    #[test]
    fn failed_trials_lengthen_the_spell_up_to_a_limit() {
        let (mut reflex, mut t) = (Reflex::default(), Instant::now());
        reflex.failure(t, FAILED);
        for length in [1, 2, 4, 4] {
            let length = Duration::from_secs(length);
            assert_eq!(reflex.circuit(t + length - Duration::from_millis(1)), Circuit::Open);
            t += length;
            assert_eq!(reflex.circuit(t), Circuit::HalfOpen);
            reflex.attempt(t);
            reflex.failure(t, FAILED);
        }
    }
}
