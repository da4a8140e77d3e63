//! What the workers have learned of servers while they served, for the data plane of another process that goes on in their place.
//! Each worker has learned by itself; what is handed on is put together, and every new worker begins with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_model::{Endpoint, ServerId};
use serde::{Deserialize, Serialize};

/// What is known of servers beside what the judge knows. Another version reads of it what it understands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Learned(BTreeMap<ServerId, Lesson>);

/// What is known of one server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Lesson {
    /// Where it listens: elsewhere it is another process.
    pub(crate) address: Option<Endpoint>,
    /// Peak-EWMA of the time to the first byte, seconds.
    pub(crate) latency: Option<f64>,
    /// Answers by how long they took, in the buckets of [`super::usual`].
    pub(crate) usual: Vec<u32>,
    /// For how long an idle connection may be kept.
    pub(crate) keep: Option<Duration>,
    /// It is avoided for so much longer, and how long that spell is as a whole.
    pub(crate) avoided: Option<(Duration, Duration)>,
}

impl Learned {
    pub(crate) fn of(lessons: impl Iterator<Item = (ServerId, Lesson)>) -> Self {
        Self(lessons.collect())
    }

    /// What is known of the server at this address.
    pub(crate) fn take(&mut self, id: &ServerId, address: &Endpoint) -> Option<Lesson> {
        self.0.remove(id).filter(|lesson| lesson.address.as_ref() == Some(address))
    }

    fn merge(&mut self, other: Self) {
        for (id, lesson) in other.0 {
            match self.0.get_mut(&id) {
                Some(known) => known.merge(lesson),
                None => drop(self.0.insert(id, lesson)),
            }
        }
    }
}

impl Lesson {
    /// Two workers know of one server: the more careful of both is right, and answers add up.
    fn merge(&mut self, other: Self) {
        if self.address != other.address {
            return;
        }
        self.latency = [self.latency, other.latency].into_iter().flatten().reduce(f64::max);
        self.keep = [self.keep, other.keep].into_iter().flatten().min();
        self.avoided = self.avoided.max(other.avoided);
        self.usual.resize(self.usual.len().max(other.usual.len()), 0);
        for (mine, theirs) in self.usual.iter_mut().zip(other.usual) {
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// Where workers are asked what they have learned.
#[derive(Debug, Default)]
pub(crate) struct Inquiry {
    /// How often it was asked.
    times: AtomicU64,
    /// By worker, with the question that it answers.
    told: Mutex<BTreeMap<usize, (u64, Learned)>>,
}

impl Inquiry {
    /// Asks; the answers are to be looked for with the number that is returned.
    pub(crate) fn ask(&self) -> u64 {
        self.times.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A worker answers if it was asked since it last did. A single load where nobody asks.
    pub(crate) fn answer(&self, worker: usize, learned: impl FnOnce() -> Learned) {
        let times = self.times.load(Ordering::Relaxed);
        if times > 0 && self.told().get(&worker).is_none_or(|(told, _)| *told < times) {
            let learned = learned();
            self.told().insert(worker, (times, learned));
        }
    }

    /// What all of so many workers told, or as many as have; `true`: these are all.
    pub(crate) fn heard(&self, question: u64, workers: usize) -> (Learned, bool) {
        let told = self.told();
        let answers: Vec<&Learned> =
            told.values().filter(|(of, _)| *of >= question).map(|(_, learned)| learned).collect();
        let all = answers.len() >= workers;
        let mut together = Learned::default();
        answers.into_iter().for_each(|learned| together.merge(learned.clone()));
        (together, all)
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<usize, (u64, Learned)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::ServiceId;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn lesson(latency: f64, keep: u32, usual: &[u32]) -> Learned {
        let address = "127.0.0.1:80".parse().ok();
        let (latency, keep, usual) = (Some(latency), Some(keep * MS), usual.to_vec());
        let lesson = Lesson { address, latency, keep, usual, avoided: None };
        Learned::of(std::iter::once((ServiceId::new("shop").server("a"), lesson)))
    }

    #[test]
    fn what_the_workers_know_is_put_together() {
        let asked = Inquiry::default();
        asked.answer(0, || unreachable!("nobody has asked"));
        let question = asked.ask();
        asked.answer(0, || lesson(0.1, 900, &[1, 2]));
        assert!(!asked.heard(question, 2).1, "one has still to answer");
        asked.answer(0, || unreachable!("it has answered"));
        asked.answer(1, || lesson(0.3, 700, &[1, 0, 5]));
        assert_eq!(asked.heard(question, 2), (lesson(0.3, 700, &[2, 2, 5]), true));
    }

    #[test]
    fn what_is_known_of_a_server_says_nothing_of_another_at_its_name() {
        let id = ServiceId::new("shop").server("a");
        assert_eq!(lesson(0.1, 900, &[]).take(&id, &"127.0.0.1:81".parse().unwrap()), None);
        assert!(lesson(0.1, 900, &[]).take(&id, &"127.0.0.1:80".parse().unwrap()).is_some());
    }

    #[test]
    fn another_version_reads_what_it_understands() {
        let text = serde_json::to_string(&lesson(0.1, 900, &[3])).unwrap();
        assert_eq!(serde_json::from_str::<Learned>(&text).unwrap(), lesson(0.1, 900, &[3]));
        let other = r#"{"shop/a": {"latency": 0.1, "mood": "fine"}}"#;
        assert!(serde_json::from_str::<Learned>(other).is_ok());
    }
}
