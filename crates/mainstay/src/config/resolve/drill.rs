//! How a service is drilled: `service.NAME.drill`.

use std::time::Duration;

use mainstay_model::drill::{DrillPolicy, Fault, LASTS, LASTS_MAX, LASTS_MIN};
use mainstay_model::{ServiceId, Wall};

use super::Config;
use super::whole::Resolver;
use crate::calendar::Schedule;
use crate::config::mistake::nearest;
use crate::config::planned::{self, Planned};
use crate::config::raw::{RawDrill, RawService};
use crate::config::read::{At, Field, Text};

/// A fault is made again no sooner,
const EVERY_LEAST: Duration = Duration::from_secs(3600);
/// and unless somebody says otherwise so long after its last drill.
const EVERY: Duration = Duration::from_secs(7 * 86_400);
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(3600);
/// At most.
const WINDOW_MAX: Duration = Duration::from_secs(86_400);

/// Drills that Mainstay makes by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillPlan {
    /// Each of these,
    pub faults: Vec<Fault>,
    /// so often,
    pub every: Duration,
    /// for so long,
    pub lasts: Duration,
    window: Option<Planned>,
}

impl DrillPlan {
    /// There may be one at this moment.
    pub fn is_open(&self, now: Wall) -> bool {
        let open = |window: &Planned| window.occurrences(now, 1).first().is_some_and(|time| time.from <= now);
        self.window.as_ref().is_none_or(open)
    }
}

impl Resolver<'_> {
    /// What is written. The plan goes into the config, because the judge knows no calendar.
    pub(super) fn drill(&self, id: &ServiceId, at: &At<RawService>, config: &mut Config) -> DrillPolicy {
        let default = DrillPolicy::default();
        let Some(written) = at.value.drill.get() else { return default };
        let raw: &RawDrill = &written.value;
        let stop_at = self.share(&raw.stop_at, default.stop_at, 0.0001);
        let faults: Vec<Fault> = match raw.faults.get() {
            Some(list) => list.value.0.items.iter().filter_map(|item| self.fault(item)).collect(),
            None => Vec::new(),
        };
        if raw.faults.is_absent() && !raw.window.is_absent() {
            let what = "nothing says which faults are made";
            self.mistakes.absent(&written.place, what, "write faults = [\"kill\", \"slow\"]");
        }
        let every = self.duration(&raw.every, EVERY, EVERY_LEAST);
        let lasts = self.duration(&raw.lasts, LASTS, LASTS_MIN);
        if let Some(at) = raw.lasts.get().filter(|_| lasts > LASTS_MAX) {
            self.mistakes.value(&at.place, "it lasts 10 min at most", "write lasts = \"30s\"");
        }
        let window = self.drill_window(raw);
        if !faults.is_empty() {
            config.drills.insert(id.clone(), DrillPlan { faults, every, lasts, window });
        }
        DrillPolicy { stop_at }
    }

    fn fault(&self, item: &At<Text>) -> Option<Fault> {
        let word = item.value.0.trim();
        let fault = Fault::of(word);
        if fault.is_none() {
            let known: Vec<&str> = Fault::ALL.into_iter().map(Fault::as_str).collect();
            let remedy = match nearest(word, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("there are {}", known.join(", ")),
            };
            self.mistakes.value(&item.place, "there is no such fault", remedy);
        }
        fault
    }

    fn drill_window(&self, raw: &RawDrill) -> Option<Planned> {
        let length = self.duration(&raw.window_length, WINDOW, Duration::from_secs(60));
        if let Some(at) = raw.window_length.get().filter(|_| length > WINDOW_MAX) {
            self.mistakes.value(&at.place, "a window is 1 day long at most", "write window-length = \"1h\"");
        }
        let zone = match &raw.zone {
            Field::Absent => "UTC",
            Field::Bad => return None,
            Field::Here(at) => {
                self.accept(&at.place, planned::zone(&at.value.0))?;
                at.value.0.trim()
            }
        };
        let schedule = |item: &At<Text>| {
            let expression = self.accept(&item.place, planned::weekly(&item.value.0))?;
            let schedule = Schedule::parse(&expression, zone).map_err(|bad| (bad.what, bad.remedy));
            self.accept(&item.place, schedule)
        };
        let schedules = raw.window.get()?.value.0.items.iter().filter_map(schedule).collect();
        Some(Planned::again(schedules, length))
    }
}
