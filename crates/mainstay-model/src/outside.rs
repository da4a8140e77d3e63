//! Servers that Mainstay does not start itself and can restart all the same: a unit of systemd, a container, by a program of
//! the user's.
//!
//! Nobody tells when such a server ends, so only its own probe says that it is down, and only a verdict counts: while nothing
//! is known of it, while Mainstay doubts its own sight, and while it may be the fault of something that the service needs,
//! nothing is done. All else is as in `recovery`; and because a server behind a network is never surely gone, they are
//! restarted one at a time, whatever they fail by.
//!
//! They outlive Mainstay. So a restart that was begun by an earlier run and of which no outcome was written down may have been
//! carried out: it is looked into before anything else is done to the server. What cannot be found out is a person's to decide.

use std::time::Duration;

use crate::effect::{Effect, LookOrder, Record};
use crate::id::{ActionId, ServerId};
use crate::incident::EntryKind;
use crate::input::LookedInto;
use crate::out::Out;
use crate::policy::ProbeKind;
use crate::sample::Sample;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::{Mono, Wall};
use crate::witness::Witnesses;

/// Beyond the deadline of a restart, or of a look into one: for whoever carries it out to say how it ended.
pub(crate) const OUTCOME_MARGIN: Duration = Duration::from_secs(30);
/// A look into what an earlier run has begun takes so long, beside what is left to the restart itself.
const LOOK_TAKES: Duration = Duration::from_secs(30);

/// What is known of restarts of a server that Mainstay does not start itself.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// It was restarted since it is known, so it may still be starting.
    pub(crate) restarted: bool,
    /// A restart of an earlier run is being looked into, until then at most.
    looking: Option<(ActionId, Mono)>,
    /// Why it is not known whether it was restarted; a person decides.
    unclear: Option<String>,
}

impl Outside {
    /// A restart of an earlier run is being looked into.
    pub(crate) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Why it is not known whether it was restarted.
    pub(crate) fn unclear(&self) -> Option<&str> {
        self.unclear.as_deref()
    }

    pub(crate) fn due(&self) -> Option<Mono> {
        self.looking.map(|(_, until)| until)
    }

    /// A person decided, or it is well by itself.
    pub(crate) fn is_clear(&mut self) {
        self.unclear = None;
    }
}

impl Server {
    /// Mainstay can restart it, though it may not have started it.
    pub(crate) fn is_restartable(&self) -> bool {
        self.policy.supervised || self.policy.restart.is_some()
    }

    /// Why it is to be restarted, if it is one that Mainstay does not start itself.
    pub(crate) fn is_down_outside(&self, start_grace: Duration, fall: u32, now: Mono) -> bool {
        let had_its_time = self.probes.passed
            || !self.recovery.outside.restarted
            || now >= self.process.grace_from + start_grace;
        had_its_time
            && self.probes.verdict == Verdict::Bad
            && self.health == Health::Unhealthy
            && self.probes.failed_in_row >= fall
            && !self.recovery.probe_only
    }

    /// It runs anew: what was seen of it before says nothing any more.
    pub(crate) fn begins_anew(&mut self, now: Mono, grace: Duration, because: &str) {
        self.process.grace_from = now;
        self.flaps.restarted();
        self.traffic.start_over(now);
        self.pace.begins_anew(now);
        self.ejection = None;
        self.condemned = None;
        self.witnesses = Witnesses::default();
        self.outdate_probe();
        self.probes.start_over();
        (self.probes.passed, self.probes.run_since) = (false, None);
        if self.probes.verdict == Verdict::Bad {
            because.clone_into(&mut self.probes.because);
        } else {
            self.probes.verdict = Verdict::Unknown;
            // Nobody can see whether it is up again where nobody sees it.
            self.hold_until = (!self.unseen).then(|| now + grace);
        }
        if self.address.is_some() {
            self.probes.next_at = Some(now);
        }
    }

    /// It was restarted, and has its time to come up.
    pub(crate) fn was_restarted(&mut self, now: Mono, grace: Duration) {
        self.recovery.outside.restarted = true;
        self.recovery.outside.is_clear();
        self.begins_anew(now, grace, "it was restarted and has yet to pass its probes");
    }
}

impl Service {
    /// What the service's probe asks tells of the life of a server, rather than being an answer of it.
    pub(crate) fn probe_tells_of_life(&self) -> bool {
        matches!(self.policy.health.probe, ProbeKind::Docker | ProbeKind::Systemd)
    }

    /// What was seen of a server before it is restarted.
    pub(crate) fn on_captured(&mut self, id: &ServerId, text: &str, sample: Option<Sample>, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.changed(out.now.wall, text.to_owned());
        let sample = sample.map(std::sync::Arc::new);
        self.observe_answer(id, EntryKind::Found, format!("{}: {text}", id.name), sample, out);
    }

    /// An earlier run began a restart, and did not write down what became of it. `false`: nobody can look into it.
    pub(crate) fn look_into(
        &mut self,
        action: ActionId,
        id: &ServerId,
        begun_at: Wall,
        out: &mut Out,
    ) -> bool {
        let now = out.now;
        let Some(server) = self.servers.get_mut(id) else { return false };
        let Some(policy) = server.policy.restart.clone() else { return false };
        let begun = u64::try_from(now.wall.ms_since(begun_at)).unwrap_or(0);
        let left = policy.deadline.saturating_sub(Duration::from_millis(begun)) + LOOK_TAKES;
        server.recovery.outside.looking = Some((action, now.mono + left + OUTCOME_MARGIN));
        let text = format!(
            "Mainstay was restarted in the middle of {}; whether it was carried out is looked into",
            policy.by
        );
        server.changed(now.wall, text.clone());
        if let Some(open) = &mut self.incident {
            let text = format!("{}: {text}", id.name);
            open.entry(EntryKind::Own, Some(id), Some(action), text, out);
        }
        let server = id.clone();
        out.effect(Effect::LookInto(LookOrder { action, server, begun_at, deadline: left }));
        true
    }

    /// Nobody said what became of it.
    pub(crate) fn give_up_look(&mut self, id: &ServerId, out: &mut Out) {
        let looking = self.servers.get(id).and_then(|server| server.recovery.outside.looking);
        if let Some((action, until)) = looking
            && out.now.mono >= until
        {
            self.on_looked_into(action, id, &LookedInto::NotKnown("nobody answered in time".to_owned()), out);
        }
    }

    /// It was found out what became of it, or could not be.
    pub(crate) fn on_looked_into(
        &mut self,
        action: ActionId,
        id: &ServerId,
        found: &LookedInto,
        out: &mut Out,
    ) {
        let (now, grace) = (out.now, self.policy.recovery.start_grace);
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.recovery.outside.looking.is_none_or(|(looked_into, _)| looked_into != action) {
            return;
        }
        server.recovery.outside.looking = None;
        let name = &id.name;
        let (kind, text, error) = match found {
            LookedInto::Done(how) => {
                server.was_restarted(now.mono, grace);
                (EntryKind::ActionDone, format!("{name} was restarted all the same: {how}"), None)
            }
            LookedInto::NotDone(why) => {
                let error = format!("Mainstay was restarted before it was carried out: {why}");
                (EntryKind::ActionFailed, format!("{name} was not restarted: {why}"), Some(error))
            }
            LookedInto::NotKnown(why) => {
                let error = format!(
                    "Mainstay was restarted meanwhile, and whether it was carried out is not known: {why}"
                );
                let text = format!("whether {name} was restarted is not known: {why}");
                server.recovery.outside.unclear = Some(why.clone());
                (EntryKind::ActionFailed, text, Some(error))
            }
        };
        server.changed(now.wall, text.clone());
        out.record(Record::ActionEnded { action, at: now.wall, error });
        if let Some(open) = &mut self.incident {
            open.entry(kind, Some(id), Some(action), text, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{ActionKind, NoticeKind};
    use crate::input::{Input, ProbeFailure, Restored};
    use crate::policy::{Policy, RestartPolicy};
    use crate::testing::{Bench, Supervisor, app, policy};

    const SECS: fn(u64) -> Duration = Duration::from_secs;

    fn outside(servers: u32) -> Policy {
        let mut policy = policy(servers, false);
        let restart = RestartPolicy { by: "systemctl restart shop.service".to_owned(), deadline: SECS(60) };
        for service in policy.services.values_mut() {
            service.servers.values_mut().for_each(|server| server.restart = Some(restart.clone()));
        }
        policy
    }

    fn restarts(bench: &Bench) -> Vec<ServerId> {
        let orders = bench.orders().into_iter().filter(|(_, o)| o.kind == ActionKind::Restart);
        orders.map(|(_, o)| o.server).collect()
    }

    fn texts(bench: &Bench) -> Vec<String> {
        bench.incidents()[0].timeline.iter().map(|entry| entry.text.clone()).collect()
    }

    #[test]
    fn one_that_its_probes_say_is_down_is_restarted_and_serves_again() {
        let mut bench = Bench::settled(outside(2));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECS(2));
        assert_eq!(restarts(&bench), [app(1)]);
        let text = texts(&bench).join("\n");
        assert!(text.contains("restart ordered by systemctl restart shop.service (1 of 5 in 10m)"), "{text}");
        bench.is_good(&app(1));
        bench.advance(SECS(20));
        assert_eq!(bench.targets(), ["app-1", "app-2"]);
        assert_eq!(restarts(&bench).len(), 1, "once");
    }

    #[test]
    fn nothing_is_done_to_one_of_which_nothing_is_known() {
        let mut bench = Bench::settled(outside(2));
        bench.is_bad(&app(1), ProbeFailure::NotProbed("no file descriptor is left".into()));
        bench.advance(SECS(60));
        assert!(restarts(&bench).is_empty());
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECS(60));
        assert!(restarts(&bench).is_empty(), "nor where nobody said how");
    }

    #[test]
    fn they_are_restarted_one_at_a_time_whatever_they_fail_by() {
        let mut bench = Bench::settled(outside(3));
        (1..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
        bench.advance(SECS(20));
        assert_eq!(restarts(&bench).len(), 1);
        let first = restarts(&bench)[0].clone();
        bench.is_good(&first);
        bench.advance(SECS(5));
        assert_eq!(restarts(&bench).len(), 2, "the first is good: the second's turn");
    }

    #[test]
    fn one_that_was_restarted_has_its_grace_and_after_two_that_did_not_help_a_person_is_called() {
        let mut bench = Bench::settled(outside(2));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECS(29));
        assert_eq!(restarts(&bench).len(), 1, "it may still be starting");
        bench.advance(SECS(10));
        assert_eq!(restarts(&bench).len(), 2);
        assert!(!bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
        bench.advance(SECS(400));
        assert_eq!(restarts(&bench).len(), 3, "it has not been good since, so the rest is a person's");
        assert!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
    }

    #[test]
    fn a_restart_that_fails_counts_and_is_tried_again_later() {
        let mut bench = Bench::settled(outside(2));
        bench.supervisor = Supervisor::Fails;
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECS(60));
        assert_eq!(restarts(&bench).len(), 5);
        assert!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
        assert!(texts(&bench).iter().any(|t| t == "app-1 could not be restarted: no such file or directory"));
    }

    #[test]
    fn what_the_engine_or_systemd_says_of_it_is_no_answer_of_its_own() {
        let mut policy = outside(2);
        policy.services.values_mut().for_each(|s| s.health.probe = ProbeKind::Docker);
        let mut bench = Bench::settled(policy);
        bench.attempts(&app(1), 10, 0, 0);
        let exited = "its container shop-1 has exited with status 137 (out of memory)";
        bench.is_bad(&app(1), ProbeFailure::Answer(exited.into()));
        bench.advance(SECS(3));
        assert_eq!(restarts(&bench), [app(1)]);
    }

    #[test]
    fn what_was_seen_of_it_before_is_in_the_timeline() {
        let mut bench = Bench::settled(outside(2));
        bench.supervisor = Supervisor::Silent;
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECS(2));
        let text = "its unit shop.service was killed for want of memory".to_owned();
        bench.tell(Input::Captured { server: app(1), text, lines: vec!["bye".to_owned()], threads: false });
        let incident = bench.incidents()[0].clone();
        let entry = incident.timeline.iter().find(|e| e.kind == EntryKind::Found).expect("an entry");
        assert_eq!(entry.text, "app-1: its unit shop.service was killed for want of memory");
        assert!(entry.sample.as_ref().is_some_and(|sample| sample.body.contains("bye")));
    }

    /// One that comes back after a crash in the middle of a restart, with the server still down.
    fn back(found: Option<LookedInto>) -> Bench {
        let mut bench = Bench::empty(outside(2));
        let begun = Wall(bench.now.wall.0 - 5_000);
        bench.tell(Input::Restored(Restored {
            unfinished: vec![(ActionId(7), app(1))],
            unfinished_since: [(ActionId(7), begun)].into(),
            last_action: 7,
            restarts: vec![(app(1), begun)],
            ..Restored::default()
        }));
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.addresses();
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(SECS(10));
        assert!(restarts(&bench).is_empty(), "it is looked into first");
        let look = bench.effects.iter().find_map(|(_, effect)| match effect {
            Effect::LookInto(order) => Some(order.clone()),
            _ => None,
        });
        let look = look.expect("it is looked into");
        assert_eq!((look.action, look.server, look.begun_at), (ActionId(7), app(1), begun));
        if let Some(found) = found {
            bench.tell(Input::LookedInto { action: ActionId(7), server: app(1), found });
        }
        bench
    }

    fn ended(bench: &Bench) -> Vec<Option<String>> {
        let of = |r: Record| match r {
            Record::ActionEnded { action: ActionId(7), error, .. } => Some(error),
            _ => None,
        };
        bench.records().into_iter().filter_map(of).collect()
    }

    #[test]
    fn a_restart_that_an_earlier_run_did_carry_out_is_not_repeated() {
        let mut bench = back(Some(LookedInto::Done("its unit has been active for 3s".into())));
        assert_eq!(ended(&bench), [None]);
        bench.advance(SECS(25));
        assert!(restarts(&bench).is_empty(), "it has its grace");
        bench.advance(SECS(10));
        assert_eq!(restarts(&bench).len(), 1, "and is restarted again when it is down after it");
    }

    #[test]
    fn a_restart_that_an_earlier_run_did_not_carry_out_is_done_now() {
        let mut bench = back(Some(LookedInto::NotDone("its unit has been failed for 1h".into())));
        assert!(ended(&bench)[0].as_ref().is_some_and(|e| e.contains("before it was carried out")));
        bench.advance(SECS(5));
        assert_eq!(restarts(&bench).len(), 1);
    }

    #[test]
    fn a_restart_of_which_nobody_knows_is_a_persons_to_decide() {
        for found in [Some(LookedInto::NotKnown("its command cannot be asked".into())), None] {
            let mut bench = back(found);
            bench.advance(SECS(600));
            assert!(ended(&bench)[0].as_ref().is_some_and(|e| e.contains("is not known")));
            assert!(restarts(&bench).is_empty());
            assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::NeedsPerson]);
            bench.is_good(&app(1));
            bench.advance(SECS(10));
            bench.is_bad(&app(1), ProbeFailure::Refused);
            bench.advance(SECS(20));
            assert_eq!(restarts(&bench).len(), 1, "it was well between: Mainstay looks after it again");
        }
    }
}
