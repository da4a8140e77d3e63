//! Releases that were brought out by other means, and announced: for an hour an incident of the service is put down to them first.
//!
//! Where Mainstay has a release to go back to, the current one is watched as after a deploy of its own. Where it has none, a person is
//! asked, by name of the release, on the same evidence on which Mainstay would go back: several servers fail, visitors are
//! answered badly, or one server fails that a restart did not mend or nobody can restart; and nothing else explains it.

use std::time::Duration;

use crate::cause::{Cause, Diagnosis};
use crate::change::{BEFORE, Change};
use crate::deploy::DECIDE;
use crate::id::IncidentId;
use crate::out::Out;
use crate::server::Server;
use crate::service::Service;
use crate::time::{Mono, Wall};
use crate::words::span;

/// The last one, while it is watched.
#[derive(Debug)]
pub(crate) struct Announced {
    /// `release 42`.
    what: String,
    by: String,
    at: Wall,
    until: Mono,
    /// It may be at fault in this incident, as it seems since then.
    suspect: Option<(IncidentId, Mono)>,
    /// A person was asked in this one.
    asked: Option<IncidentId>,
}

impl Service {
    /// Somebody announces a release.
    pub(crate) fn on_announced(&mut self, change: &Change, out: &mut Out) {
        let age = Duration::from_millis(u64::try_from(out.now.wall.ms_since(change.at)).unwrap_or(0));
        let Some(left) = BEFORE.checked_sub(age).filter(|left| !left.is_zero()) else { return };
        if self.announced.as_ref().is_some_and(|known| known.at > change.at) {
            return;
        }
        self.announced = None;
        if self.watch_anew(change, out) {
            return;
        }
        self.announced = Some(Announced {
            what: change.what.clone(),
            by: change.by.clone(),
            at: change.at,
            until: out.now.mono + left,
            suspect: None,
            asked: None,
        });
    }

    /// Asks a person to go back from an announced release that may be what is wrong.
    pub(crate) fn ask_to_go_back(&mut self, out: &mut Out) {
        let now = out.now;
        let open = self.incident.as_ref().map(|open| (open.incident().id, open.incident().opened_at));
        let is_suspect = self.is_announced_suspect();
        let Some(announced) = &mut self.announced else { return };
        if now.mono >= announced.until && announced.suspect.is_none() {
            self.announced = None;
            return;
        }
        let Some((incident, _)) = open.filter(|(_, opened_at)| is_suspect && *opened_at >= announced.at)
        else {
            announced.suspect = None;
            return;
        };
        let since = match announced.suspect {
            Some((known, since)) if known == incident => since,
            _ => now.mono,
        };
        announced.suspect = Some((incident, since));
        if now.mono < since + DECIDE || announced.asked == Some(incident) {
            return;
        }
        let (what, by, at) = (announced.what.clone(), announced.by.clone(), announced.at);
        if self.may_go_back(out).is_err() {
            return;
        }
        if let Some(announced) = &mut self.announced {
            announced.asked = Some(incident);
        }
        let Some(open) = &mut self.incident else { return };
        let ms = open.incident().opened_at.ms_since(at).max(0);
        let before = span(Duration::from_secs(u64::try_from(ms).unwrap_or(0) / 1000));
        let evidence = vec![format!("{what} was announced by {by}, {before} before the incident began")];
        open.diagnose(Diagnosis::likely(Cause::BadUpdate, evidence), out);
        let advice = format!(
            "Go back from {what}, which {by} brought out {before} before: Mainstay was not told how to"
        );
        open.tell_needs_person_anew(advice, out);
    }

    /// When that is next due.
    pub(crate) fn announced_due(&self, now: Mono) -> Option<Mono> {
        let (_, since) = self.announced.as_ref()?.suspect?;
        Some(since + DECIDE).filter(|at| *at > now)
    }

    /// What fails would not be mended by a first restart.
    fn is_announced_suspect(&self) -> bool {
        let Some(open) = &self.incident else { return false };
        let mut faulty = self.servers.values().filter(|server| server.at_fault);
        let tried = |server: &Server| server.recovery.attempts > 0 || !server.is_restartable();
        match (faulty.next(), faulty.next()) {
            (None, _) => open.incident().servers.is_empty(),
            (Some(server), None) => tried(server),
            (Some(_), Some(_)) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::ChangeKind;
    use crate::effect::NoticeKind;
    use crate::input::{Input, ProbeFailure, Restored};
    use crate::testing::{Bench, app, policy, shop};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn announced(bench: &Bench, ago: i64) -> Change {
        Change {
            at: Wall(bench.now.wall.0 - ago * 1000),
            kind: ChangeKind::Announced,
            service: Some(shop()),
            what: "release 42".to_owned(),
            by: "ci".to_owned(),
        }
    }

    fn fail(bench: &mut Bench) {
        (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Status(500)));
        bench.advance(seconds(20));
    }

    fn asks(bench: &Bench) -> Vec<String> {
        let person = bench.notices().into_iter().filter(|n| n.kind == NoticeKind::NeedsPerson);
        person.map(|notice| notice.advice).collect()
    }

    #[test]
    fn a_person_is_asked_to_go_back_from_it_by_name() {
        let mut bench = Bench::settled(policy(2, false));
        let change = announced(&bench, 480);
        bench.tell(Input::Changed(change));
        fail(&mut bench);
        let asked = asks(&bench);
        assert!(
            asked.iter().any(|a| a.starts_with("Go back from release 42, which ci brought out 8m")),
            "{asked:?}"
        );
        let incident = bench.incidents()[0].clone();
        assert_eq!(incident.diagnosis.as_ref().unwrap().cause, Cause::BadUpdate);
        let times = asked.iter().filter(|a| a.contains("release 42")).count();
        bench.advance(seconds(600));
        assert_eq!(asks(&bench).iter().filter(|a| a.contains("release 42")).count(), times, "once");
    }

    #[test]
    fn what_was_announced_long_ago_or_after_it_began_is_not_blamed() {
        let mut bench = Bench::settled(policy(2, false));
        let change = announced(&bench, 3700);
        bench.tell(Input::Changed(change));
        fail(&mut bench);
        let change = announced(&bench, 0);
        bench.tell(Input::Changed(change));
        bench.advance(seconds(60));
        assert!(asks(&bench).iter().all(|a| !a.contains("release 42")), "{:?}", asks(&bench));
    }

    #[test]
    fn one_server_of_several_that_fails_for_the_first_time_is_restarted() {
        let mut bench = Bench::settled(policy(3, true));
        let change = announced(&bench, 60);
        bench.tell(Input::Changed(change));
        bench.crash(&app(1));
        bench.advance(seconds(120));
        assert!(asks(&bench).is_empty(), "{:?}", asks(&bench));
    }

    #[test]
    fn it_is_known_after_a_restart_of_mainstay() {
        let mut bench = Bench::empty(policy(2, false));
        let changes = vec![announced(&bench, 60)];
        bench.tell(Input::Restored(Restored { changes, ..Restored::default() }));
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.addresses();
        bench.advance(seconds(3));
        fail(&mut bench);
        assert!(asks(&bench).iter().any(|a| a.contains("release 42")), "{:?}", asks(&bench));
    }
}
