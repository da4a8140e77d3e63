//! The freeze switch: while it is on, Mainstay does nothing on its own but watch, route, shed and tell.
//!
//! Nothing is restarted, no release is gone back from or promoted, no instance is added or taken away, and the `switch` command
//! is a person's decision. What people order is carried out, but for a new release, which would be judged and promoted by nobody.
//! Servers that are started for the first time still are. A freeze ends by itself after a day at most; people forget.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::incident::EntryKind;
use crate::model::Model;
use crate::out::Out;
use crate::time::{Mono, Wall};
use crate::words::utc;

/// A freeze lasts so long unless it is renewed.
pub const FREEZE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest name or reason, in characters.
pub const TEXT_MAX: usize = 200;
/// The wall clock may be set meanwhile, so it is looked at again after so long.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The switch is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Until then, unless somebody ends or renews it.
    pub until: Wall,
    /// Who turned it on; empty: nobody has said.
    pub by: String,
    /// Why; empty: nobody has said.
    pub why: String,
}

impl fmt::Display for Freeze {
    /// `frozen by anna until 14:00 UTC: racks are moved`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("frozen")?;
        if !self.by.is_empty() {
            write!(f, " by {}", self.by)?;
        }
        write!(f, " until {}", utc(self.until))?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        Ok(())
    }
}

impl Out {
    /// The freeze that is in force.
    pub(crate) fn frozen(&self) -> Option<&Freeze> {
        self.freeze.as_ref().filter(|freeze| self.now.wall < freeze.until)
    }
}

impl Model {
    /// Somebody turned the switch.
    pub(crate) fn on_freeze(&mut self, freeze: Option<Freeze>) {
        let latest = Wall(self.out.now.wall.0.saturating_add(ms(FREEZE_MAX)));
        let freeze = freeze.map(|freeze| Freeze { until: freeze.until.min(latest), ..freeze });
        let freeze = freeze.filter(|freeze| self.out.now.wall < freeze.until);
        if freeze == self.out.freeze {
            return;
        }
        let text = match &freeze {
            Some(freeze) => format!("{freeze}. Nothing is done without a person"),
            None => "no longer frozen".to_owned(),
        };
        self.out.freeze = freeze;
        self.freeze_changed(&text);
    }

    /// Ends a freeze that has run out; `false` when there was none.
    pub(crate) fn tend_freeze(&mut self) -> bool {
        let over = self.out.freeze.take_if(|freeze| freeze.until <= self.out.now.wall).is_some();
        if over {
            self.freeze_changed("no longer frozen: its time is over");
        }
        over
    }

    /// When that is next due.
    pub(crate) fn freeze_due(&self) -> Option<Mono> {
        let until = self.out.freeze.as_ref()?.until;
        let left = Duration::from_millis(u64::try_from(until.ms_since(self.out.now.wall)).unwrap_or(0));
        Some(self.out.now.mono + left.min(WAIT_MAX))
    }

    /// Whatever waited for it is thought through.
    fn freeze_changed(&mut self, text: &str) {
        let (open_incidents, out) = self.open_incidents();
        open_incidents.for_each(|open| open.entry(EntryKind::Changed, None, None, text.to_owned(), out));
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            self.with(&id, |_, _| {});
        }
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{ActionKind, NoticeKind};
    use crate::input::{Input, ProbeFailure};
    use crate::testing::{Bench, app, policy, shop};

    const HOUR: Duration = Duration::from_secs(3600);

    fn freeze(bench: &mut Bench, lasts: Duration) {
        let until = Wall(bench.now.wall.0 + ms(lasts));
        let (by, why) = ("anna".to_owned(), "racks are moved".to_owned());
        bench.tell(Input::Freeze(Some(Freeze { until, by, why })));
    }

    fn restarts(bench: &Bench) -> usize {
        bench.orders().iter().filter(|(_, order)| order.kind == ActionKind::Restart).count()
    }

    #[test]
    fn what_dies_or_hangs_in_a_freeze_is_routed_round_and_left_alone_until_it_is_over() {
        let mut bench = Bench::settled(policy(3, true));
        freeze(&mut bench, HOUR);
        bench.crash(&app(1));
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        bench.advance(Duration::from_secs(20));
        assert_eq!((restarts(&bench), bench.targets()), (0, vec!["app-3".to_owned()]));
        let incident = bench.incidents()[0].clone();
        let held: Vec<_> = incident.timeline.iter().filter(|e| e.kind == EntryKind::Withheld).collect();
        assert_eq!(held.len(), 2, "{incident:?}");
        assert!(
            held[0].text.starts_with("app-1 is not restarted: frozen by anna until "),
            "{}",
            held[0].text
        );
        assert!(held[0].text.ends_with("UTC: racks are moved"), "{}", held[0].text);
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
        bench.tell(Input::Freeze(None));
        assert_eq!(restarts(&bench), 1, "the dead one at once");
        let last = bench.incidents()[0].timeline.iter().any(|e| e.text == "no longer frozen");
        assert!(last);
    }

    #[test]
    fn it_ends_by_itself_after_a_day_unless_it_is_renewed() {
        let mut bench = Bench::settled(policy(2, true));
        freeze(&mut bench, HOUR * 48);
        bench.crash(&app(1));
        bench.advance(HOUR * 23);
        assert_eq!(restarts(&bench), 0);
        freeze(&mut bench, HOUR * 2);
        bench.advance(HOUR * 2 - Duration::from_secs(1));
        assert_eq!((restarts(&bench), bench.model.snapshot(bench.now).freeze.is_some()), (0, true));
        bench.advance(Duration::from_secs(2));
        assert_eq!((restarts(&bench), bench.model.snapshot(bench.now).freeze), (1, None));
    }

    #[test]
    fn a_switch_is_asked_for_rather_than_run_and_run_when_the_freeze_is_over() {
        let mut policy = policy(1, false);
        let service = policy.services.get_mut(&shop()).unwrap();
        service.recovery.levels.switch = crate::rung::Level::Automatic;
        service.switch = Some(crate::policy::SwitchPolicy {
            after: Duration::from_secs(5),
            deadline: Duration::from_secs(60),
            fence: false,
            can_go_back: false,
            ..Default::default()
        });
        let mut bench = Bench::settled(policy);
        freeze(&mut bench, HOUR);
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(60));
        let switched = |bench: &Bench| {
            bench.model.snapshot(bench.now).services[0].switch.clone().unwrap().last.is_some()
        };
        assert!(!switched(&bench) && bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
        bench.tell(Input::Freeze(None));
        assert!(switched(&bench));
    }
}
