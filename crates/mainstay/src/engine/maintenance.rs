//! When the maintenance windows of the config are open, worked out from the calendar for the judge, who knows none.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_model::Wall;
use mainstay_model::window::{NEXT_MAX, Occurrence};

use crate::config::Planned;

/// Of each window the time that is open and a few ahead, until the first of them is over.
#[derive(Debug, Default)]
pub struct Maintenance {
    schedules: BTreeMap<Arc<str>, Planned>,
    /// What was last worked out says enough from the first of these moments up to the second.
    good: Option<(Wall, Wall)>,
    /// The judge was told of some.
    told: bool,
}

impl Maintenance {
    /// The config says this of them now.
    pub fn apply(&mut self, schedules: &BTreeMap<Arc<str>, Planned>) {
        if self.schedules != *schedules {
            self.schedules.clone_from(schedules);
            self.good = None;
        }
    }

    /// When they are open, if that has to be told anew.
    pub fn news(&mut self, now: Wall) -> Option<BTreeMap<Arc<str>, Vec<Occurrence>>> {
        let none = self.schedules.is_empty() && !self.told;
        if none || self.good.is_some_and(|(from, to)| from <= now && now < to) {
            return None;
        }
        // One more than is shown, so that as many are left when the first is over.
        let times =
            |(id, schedule): (&Arc<str>, &Planned)| (Arc::clone(id), schedule.occurrences(now, NEXT_MAX + 1));
        let all: BTreeMap<Arc<str>, Vec<Occurrence>> = self.schedules.iter().map(times).collect();
        self.told = !all.is_empty();
        let first_end = all.values().flatten().map(|time| time.to).min();
        self.good = Some((now, first_end.unwrap_or(Wall(i64::MAX))));
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    #[test]
    fn times_are_told_once_and_again_when_the_first_is_over_or_the_clock_is_set_back() {
        let text = "[service.shop.server.a]\naddress = \"127.0.0.1:3000\"\n[maintenance.disks]\nservices = \"shop\"\n\
                    weekly = \"04:00\"\nfor = \"1h\"\n";
        let config = parse(text, "test", Path::new("/"), &|_| None).unwrap();
        let mut maintenance = Maintenance::default();
        assert_eq!(maintenance.news(Wall(0)), None, "nothing is planned");
        maintenance.apply(&config.maintenance);
        let day = 86_400_000;
        let noon = Wall(20_000 * day + day / 2);
        let told = maintenance.news(noon).unwrap();
        assert_eq!(told["disks"].len(), NEXT_MAX + 1);
        let first = told["disks"][0];
        assert_eq!(maintenance.news(Wall(noon.0 + 1000)), None);
        maintenance.apply(&config.maintenance);
        assert_eq!(maintenance.news(Wall(first.to.0 - 1)), None, "the same config is no news");
        assert_eq!(maintenance.news(first.to).unwrap()["disks"][0].from.0, first.from.0 + day);
        assert!(maintenance.news(noon).is_some());
        maintenance.apply(&BTreeMap::new());
        assert_eq!(maintenance.news(noon).unwrap().len(), 0, "the judge hears that there are none any more");
    }
}
