//! The machine's seconds around incidents: the last few minutes in memory, of which the record gets what incidents want.

use std::collections::{BTreeMap, VecDeque};

use mainstay_model::host::seconds::{Second, around};
use mainstay_model::incident::Incident;
use mainstay_model::{IncidentId, Wall};

/// Seconds that are remembered: an incident that is over wants the last two minutes before, one that begins the last one; and a
/// minute more, because what is wanted is asked for now and then.
const REMEMBERED: usize = 180;

/// Remembers the last minutes.
#[derive(Debug, Default)]
pub struct Around {
    /// Each with whether it was taken.
    seconds: VecDeque<(Second, bool)>,
    /// When each was opened, and was over: those that want seconds.
    incidents: BTreeMap<IncidentId, (Wall, Option<Wall>)>,
}

impl Around {
    /// What was read of the machine.
    pub fn second(&mut self, second: Second) {
        if self.seconds.len() >= REMEMBERED {
            self.seconds.pop_front();
        }
        self.seconds.push_back((second, false));
    }

    /// An incident as it now stands.
    pub fn incident(&mut self, incident: &Incident) {
        self.incidents.insert(incident.id, (incident.opened_at, incident.resolved_at));
    }

    /// What incidents want, each second once, oldest first.
    pub fn take(&mut self, now: Wall) -> Vec<Second> {
        let spans = |(opened, resolved): &(Wall, Option<Wall>)| around(*opened, *resolved);
        let wanted: Vec<(Wall, Wall)> = self.incidents.values().flat_map(spans).collect();
        let is_wanted = |at: Wall| wanted.iter().any(|(from, to)| (*from..=*to).contains(&at));
        let news = self.seconds.iter_mut().filter(|(second, taken)| !taken && is_wanted(second.at));
        let news = news.map(|(second, taken)| {
            *taken = true;
            *second
        });
        let news = news.collect();
        // One that is open will want its end.
        self.incidents
            .retain(|_, incident| incident.1.is_none() || spans(incident).iter().any(|(_, to)| *to >= now));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(id: u64, opened_s: i64, resolved_s: Option<i64>) -> Incident {
        let value = serde_json::json!({
            "id": id, "scope": { "service": "shop" }, "title": "x", "state": "open", "severity": "degraded", "servers": [],
            "began_at": opened_s * 1000, "opened_at": opened_s * 1000, "diverted_at": null, "recovered_at": null,
            "resolved_at": resolved_s.map(|s| s * 1000), "acknowledged": null,
            "seen": { "requests": 0, "failed": 0, "server_errors": 0, "saved": 0 }, "timeline": [], "timeline_left_out": 0
        });
        serde_json::from_value(value).unwrap()
    }

    /// Lives through these seconds and takes each five of them.
    fn live(around: &mut Around, seconds: std::ops::Range<i64>) -> Vec<i64> {
        let mut taken = Vec::new();
        for n in seconds {
            around.second(Second { at: Wall(n * 1000), ..Second::default() });
            if n % 5 == 0 {
                taken.extend(around.take(Wall(n * 1000)).into_iter().map(|second| second.at.0 / 1000));
            }
        }
        taken
    }

    #[test]
    fn from_a_minute_before_it_was_opened_to_a_minute_after_it_was_over() {
        let mut around = Around::default();
        assert!(live(&mut around, 0..1000).is_empty(), "nobody wants anything");
        around.incident(&incident(1, 998, None));
        let mut taken = live(&mut around, 1000..1030);
        around.incident(&incident(1, 998, Some(1028)));
        taken.extend(live(&mut around, 1030..2000));
        assert_eq!(taken, (938..=1088).collect::<Vec<_>>());
        assert!(around.incidents.is_empty());
    }

    #[test]
    fn of_a_long_one_the_beginning_and_the_end_and_of_two_each_second_once() {
        let mut around = Around::default();
        live(&mut around, 0..1000);
        around.incident(&incident(1, 1000, None));
        let mut taken = live(&mut around, 1000..1300);
        around.incident(&incident(2, 1299, None));
        taken.extend(live(&mut around, 1300..5000));
        around.incident(&incident(2, 1299, Some(5000)));
        around.incident(&incident(1, 1000, Some(5000)));
        taken.extend(live(&mut around, 5000..6000));
        assert_eq!(taken, (940..=1899).chain(4880..=5060).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut around = Around::default();
        live(&mut around, 0..10_000);
        assert_eq!(around.seconds.len(), REMEMBERED);
    }
}
