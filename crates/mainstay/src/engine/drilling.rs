//! Orders the drills that the config plans. Whether there is one is for the judge to say, by the same guards as of any other; what it
//! refuses is kept like any other refusal, and asked for again later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::drill::{Drill, DrillOrder, DrillState, Fault};
use mainstay_model::{ServiceId, Wall};

use crate::config::DrillPlan;

/// Who orders them, for the record.
const BY: &str = "schedule";
/// Nobody is drilled so soon after a start or a new config.
const SETTLES: Duration = Duration::from_secs(60);
/// What was refused is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(3600);
/// Between two drills of one service.
const PAUSE: Duration = Duration::from_secs(600);

/// What is planned.
#[derive(Debug, Default)]
pub struct Drilling {
    plans: BTreeMap<ServiceId, DrillPlan>,
    since: Option<Wall>,
}

impl Drilling {
    /// The config says this now.
    pub fn apply(&mut self, plans: &BTreeMap<ServiceId, DrillPlan>) {
        if self.plans != *plans {
            self.plans.clone_from(plans);
            self.since = None;
        }
    }

    /// The drill that is due, by those that are known, the newest first.
    pub fn due(&mut self, now: Wall, drills: &[Arc<Drill>]) -> Option<DrillOrder> {
        let since = *self.since.get_or_insert(now);
        let goes_on = drills.first().is_some_and(|drill| !drill.state.is_over());
        if goes_on || !is_ago(since, now, SETTLES) {
            return None;
        }
        let open = self.plans.iter().filter(|(_, plan)| plan.is_open(now));
        let due = |(service, plan)| Some(order(service, plan, next(service, plan, now, drills)?));
        open.filter_map(due).next()
    }
}

/// The fault that was made longest ago, if it is time for it.
fn next(service: &ServiceId, plan: &DrillPlan, now: Wall, drills: &[Arc<Drill>]) -> Option<Fault> {
    let mine = || drills.iter().filter(|drill| drill.service == *service);
    let last = mine().find(|drill| drill.began_at.is_some());
    if last.is_some_and(|drill| !is_ago(drill.over_at.unwrap_or(drill.at), now, PAUSE)) {
        return None;
    }
    let last_of = |fault: Fault| {
        mine().find(|drill| drill.fault == fault && drill.began_at.is_some()).map(|drill| drill.at)
    };
    let failed = |drill: &Drill| matches!(drill.state, DrillState::Refused | DrillState::Failed);
    let refused = |fault: Fault| {
        mine().any(|d| d.fault == fault && d.by == BY && failed(d) && !is_ago(d.at, now, AGAIN))
    };
    let due =
        |fault: &Fault| last_of(*fault).is_none_or(|at| is_ago(at, now, plan.every)) && !refused(*fault);
    plan.faults.iter().copied().filter(due).min_by_key(|fault| last_of(*fault))
}

fn order(service: &ServiceId, plan: &DrillPlan, fault: Fault) -> DrillOrder {
    DrillOrder {
        service: service.clone(),
        server: None,
        fault,
        lasts: plan.lasts,
        alert: false,
        stateful: false,
        by: BY.to_owned(),
        ticket: 0,
    }
}

fn is_ago(at: Wall, now: Wall, length: Duration) -> bool {
    now.ms_since(at) >= i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mainstay_model::drill::Measured;

    use super::*;
    use crate::config::parse;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    /// Monday, 2026-11-23, 12:00.
    const NOON: i64 = 1_795_435_200_000;

    fn drilling(lines: &str) -> Drilling {
        let text =
            format!("[service.shop]\nserver.a.address = \"10.0.0.1:1\"\n[service.shop.drill]\n{lines}\n");
        let config = parse(&text, "test", Path::new("/"), &|_| None).unwrap();
        let mut drilling = Drilling::default();
        drilling.apply(&config.drills);
        assert_eq!(drilling.due(Wall(NOON - 2 * MINUTE), &[]), None, "it has only begun");
        drilling
    }

    fn drill(fault: Fault, at: i64, by: &str, state: DrillState) -> Arc<Drill> {
        let began = (state != DrillState::Refused).then_some(Wall(at));
        Arc::new(Drill {
            id: 1,
            service: ServiceId::new("shop"),
            server: None,
            fault,
            by: by.to_owned(),
            lasts_ms: 30_000,
            alert: false,
            ticket: 0,
            at: Wall(at),
            state,
            why: String::new(),
            began_at: began,
            undone_at: None,
            over_at: Some(Wall(at + MINUTE)),
            incident: None,
            measured: Measured::default(),
        })
    }

    fn due(drilling: &mut Drilling, at: i64, drills: &[Arc<Drill>]) -> Option<Fault> {
        drilling.due(Wall(at), drills).map(|order| order.fault)
    }

    #[test]
    fn the_fault_that_was_made_longest_ago_is_due_whoever_made_it() {
        let mut drilling = drilling("faults = [\"kill\", \"slow\", \"hang\"]");
        assert_eq!(due(&mut drilling, NOON, &[]), Some(Fault::Kill));
        let kill = drill(Fault::Kill, NOON, BY, DrillState::Recovered);
        assert_eq!(due(&mut drilling, NOON + 5 * MINUTE, std::slice::from_ref(&kill)), None, "a pause");
        let by_hand = drill(Fault::Slow, NOON + HOUR, "ada", DrillState::Stopped);
        let known = [by_hand, kill];
        assert_eq!(due(&mut drilling, NOON + 2 * HOUR, &known), Some(Fault::Hang));
        let known = [
            drill(Fault::Hang, NOON + 2 * HOUR, BY, DrillState::Recovered),
            known[0].clone(),
            known[1].clone(),
        ];
        assert_eq!(due(&mut drilling, NOON + 6 * DAY, &known), None);
        assert_eq!(due(&mut drilling, NOON + 7 * DAY, &known), Some(Fault::Kill));
    }

    #[test]
    fn what_is_refused_is_asked_for_again_after_an_hour_and_keeps_nothing_else_from_its_turn() {
        let mut drilling = drilling("faults = [\"kill\", \"slow\"]");
        let refused = drill(Fault::Kill, NOON, BY, DrillState::Refused);
        let known = [refused];
        assert_eq!(due(&mut drilling, NOON + MINUTE, &known), Some(Fault::Slow));
        assert_eq!(due(&mut drilling, NOON + HOUR, &known), Some(Fault::Kill));
        let goes_on = [drill(Fault::Slow, NOON, BY, DrillState::UnderWay)];
        assert_eq!(due(&mut drilling, NOON + HOUR, &goes_on), None, "one is under way");
    }

    #[test]
    fn only_in_its_window() {
        let mut drilling = drilling("faults = \"kill\"\nwindow = \"tue 10:00\"");
        assert_eq!(due(&mut drilling, NOON, &[]), None);
        assert_eq!(due(&mut drilling, NOON + 22 * HOUR, &[]), Some(Fault::Kill));
        assert_eq!(due(&mut drilling, NOON + 23 * HOUR, &[]), None);
    }
}
