//! Supervised servers that are servers no longer: they left the config, or fewer are enough. What is under way at one goes on for
//! as long as a drained server's may, and only then is its process ended. One that comes back to the config before that goes on
//! with the process that it has.

use std::collections::BTreeMap;

use crate::carried::Carried;
use crate::effect::{ActionKind, ActionOrder, Effect, Launch, Record};
use crate::id::{ActionId, ServerId, ServiceId};
use crate::input::{AdminState, ProcessEvent, TrafficReport};
use crate::out::Out;
use crate::recovery::OUTCOME_DEADLINE;
use crate::rotation::FAREWELL;
use crate::server::Server;
use crate::service::Service;
use crate::time::Mono;
use crate::traffic::REPORT_LAG;

/// Processes that are to end.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    /// What is under way at these still goes on.
    finishing: BTreeMap<ServerId, Finishing>,
    /// Orders to stop the others, with the time until which an outcome is waited for.
    stops: BTreeMap<ActionId, (ServerId, Mono)>,
}

#[derive(Debug)]
struct Finishing {
    since: Mono,
    /// It is ended then, whatever is under way.
    until: Mono,
    launch: Launch,
    why: String,
    /// How it was, should it come back.
    as_it_was: Carried,
    command_version: u64,
}

impl Departures {
    /// A server of this name that is a server no longer has still to end.
    pub(crate) fn has(&self, server: &ServerId) -> bool {
        self.finishing.contains_key(server) || self.stops.values().any(|(id, _)| id == server)
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        let finishing = self.finishing.values().map(|one| one.until);
        finishing.chain(self.stops.values().map(|(_, deadline)| *deadline)).min()
    }

    /// Whose order to stop it was that has come to its end.
    pub(crate) fn on_outcome(&mut self, action: ActionId) -> Option<ServerId> {
        self.stops.remove(&action).map(|(server, _)| server)
    }

    /// Somebody is still at it.
    pub(crate) fn on_acting(&mut self, action: ActionId, until: Mono) {
        if let Some((_, deadline)) = self.stops.get_mut(&action) {
            *deadline = until.max(*deadline);
        }
    }

    /// Those whose end had no outcome in time are waited for no longer.
    pub(crate) fn give_up(&mut self, now: Mono) -> Vec<(ActionId, ServiceId)> {
        let late = self.stops.extract_if(.., |_, (_, deadline)| now >= *deadline);
        late.map(|(action, (server, _))| (action, server.service)).collect()
    }
}

impl Out {
    /// The data plane tells where something is still under way.
    pub(crate) fn departures_report(&mut self, report: &TrafficReport) {
        let now = self.now.mono;
        let busy = |id: &ServerId| report.servers.get(id).is_some_and(|traffic| traffic.in_flight > 0);
        self.stop_those(|id, one| !busy(id) && now >= one.since + REPORT_LAG);
    }

    /// A process that ends by itself need not be waited for.
    pub(crate) fn departures_process(&mut self, server: &ServerId, event: &ProcessEvent) {
        if matches!(event, ProcessEvent::Exited { .. }) {
            self.stop_those(|id, _| id == server);
        }
    }

    /// Ends those that had their time.
    pub(crate) fn tend_departures(&mut self) {
        let now = self.now.mono;
        self.stop_those(|_, one| now >= one.until);
    }

    fn stop_those(&mut self, which: impl Fn(&ServerId, &Finishing) -> bool) {
        let finished = self.departures.finishing.extract_if(.., |id, one| which(id, one));
        for (id, one) in finished.collect::<Vec<_>>() {
            self.stop_departed(&id, one.launch, one.why);
        }
    }

    fn stop_departed(&mut self, id: &ServerId, launch: Launch, reason: String) {
        let action = self.next_action();
        self.departures.stops.insert(action, (id.clone(), self.now.mono + OUTCOME_DEADLINE));
        let (incident, server, kind) = (None, id.clone(), ActionKind::Stop);
        self.effect(Effect::Recover(ActionOrder { id: action, incident, server, kind, launch, reason }));
    }
}

impl Service {
    /// Takes a server out, and ends its process at once: nothing is under way there, or that is of no account.
    pub(crate) fn remove_server(&mut self, id: &ServerId, why: &str, out: &mut Out) {
        let launch = self.launch(id);
        if self.take_out(id, why, out).is_some_and(|server| server.policy.supervised) {
            out.stop_departed(id, launch, why.to_owned());
        }
    }

    /// Takes a server out, and ends its process when what is under way there has come to its end.
    pub(crate) fn dismiss_server(&mut self, id: &ServerId, why: &str, out: &mut Out) {
        let launch = self.launch(id);
        let Some(server) = self.take_out(id, why, out).filter(|server| server.policy.supervised) else {
            return;
        };
        let why = why.to_owned();
        if server.process.pid.is_none() {
            return out.stop_departed(id, launch, why);
        }
        let since = out.now.mono;
        let finishing = Finishing {
            since,
            until: since + self.policy.carriage.drains_within() + FAREWELL,
            launch,
            why,
            as_it_was: Carried::of(std::iter::once((id, &server)), out.now),
            command_version: server.policy.command_version,
        };
        out.departures.finishing.insert(id.clone(), finishing);
    }

    fn take_out(&mut self, id: &ServerId, why: &str, out: &mut Out) -> Option<Server> {
        let server = self.servers.remove(id)?;
        if server.admin != AdminState::Ready {
            // Whatever a person wanted of it is forgotten with it.
            out.record(Record::Admin { server: id.clone(), state: AdminState::Ready });
        }
        if let Some(pending) = server.recovery.pending {
            let (at, error) = (out.now.wall, Some(why.to_owned()));
            out.record(Record::ActionEnded { action: pending.action, at, error });
        }
        Some(server)
    }
}

impl Server {
    /// It was dismissed and is in the config again before its process was ended: that goes on.
    pub(crate) fn resume(&mut self, id: &ServerId, out: &mut Out) {
        if !self.policy.supervised {
            return;
        }
        let Some(one) = out.departures.finishing.remove(id) else { return };
        self.hold_until = None;
        one.as_it_was.take_up(id, self, out.now);
        if one.command_version != self.policy.command_version {
            self.recovery.command_changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::input::{Exit, Input, ServerTraffic};
    use crate::testing::{Bench, app, policy};

    fn without_the_third() -> Bench {
        let mut bench = Bench::settled(policy(3, true));
        bench.policy = policy(2, true);
        bench.tell(Input::Policy(bench.policy.clone()));
        assert_eq!(bench.targets(), ["app-1", "app-2"]);
        bench
    }

    /// A report as the data plane sends one every 100 ms.
    fn report(bench: &mut Bench, under_way: u64) {
        let of = |id, in_flight| (id, ServerTraffic { in_flight, ..ServerTraffic::default() });
        let servers = (under_way > 0).then(|| of(app(3), under_way));
        bench.tell(Input::Traffic(TrafficReport {
            servers: servers.into_iter().collect(),
            ..Default::default()
        }));
    }

    fn stops(bench: &Bench) -> Vec<ServerId> {
        let orders = bench.orders();
        let stops = orders.iter().filter(|(_, order)| order.kind == ActionKind::Stop);
        stops.map(|(_, order)| order.server.clone()).collect()
    }

    #[test]
    fn a_supervised_server_that_left_the_config_is_stopped_when_nothing_is_under_way_there() {
        let mut bench = without_the_third();
        report(&mut bench, 0);
        assert!(stops(&bench).is_empty(), "that report may tell of the time before");
        bench.advance(Duration::from_secs(1));
        report(&mut bench, 2);
        bench.advance(Duration::from_secs(60));
        report(&mut bench, 1);
        assert!(stops(&bench).is_empty());
        bench.advance(Duration::from_millis(100));
        report(&mut bench, 0);
        assert_eq!(stops(&bench), [app(3)]);
        bench.advance(Duration::from_secs(1));
        assert!(bench.records().iter().any(|r| matches!(r, Record::ActionEnded { error: None, .. })));
    }

    #[test]
    fn it_is_stopped_when_its_time_is_over_whatever_is_under_way() {
        let mut bench = without_the_third();
        bench.advance(Duration::from_secs(600));
        report(&mut bench, 2);
        assert!(stops(&bench).is_empty(), "the data plane ends what is left, and has a moment to say so");
        bench.advance(FAREWELL);
        assert_eq!(stops(&bench), [app(3)]);
    }

    #[test]
    fn a_service_that_left_the_config_finishes_what_it_has_too() {
        let mut bench = Bench::settled(policy(2, true));
        bench.tell(Input::Policy(crate::policy::Policy::default()));
        bench.advance(Duration::from_secs(1));
        assert!(stops(&bench).is_empty());
        report(&mut bench, 0);
        assert_eq!(stops(&bench), [app(1), app(2)]);
    }

    #[test]
    fn a_process_that_ends_meanwhile_is_not_waited_for() {
        let mut bench = without_the_third();
        let event = ProcessEvent::Exited { exit: Exit::Code(0), asked: false, last_lines: Vec::new() };
        bench.tell(Input::Process { server: app(3), event });
        assert_eq!(stops(&bench), [app(3)], "what it left behind is ended, and its port is free again");
    }

    #[test]
    fn a_server_that_comes_back_before_goes_on_with_its_process() {
        let mut bench = Bench::settled(policy(3, true));
        let three = bench.policy.clone();
        let before = bench.server(&app(3));
        let started = bench.orders().len();
        bench.tell(Input::Policy(policy(2, true)));
        bench.advance(Duration::from_secs(1));
        bench.policy = three;
        bench.tell(Input::Policy(bench.policy.clone()));
        let after = bench.server(&app(3));
        assert_eq!(
            (&after.process, &after.address, after.health),
            (&before.process, &before.address, before.health)
        );
        assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
        report(&mut bench, 0);
        bench.advance(Duration::from_secs(700));
        assert_eq!(bench.orders().len(), started, "nothing was stopped, and nothing started");
    }

    #[test]
    fn a_server_that_comes_back_later_is_started_when_the_old_one_has_ended() {
        let mut bench = without_the_third();
        bench.advance(Duration::from_secs(1));
        report(&mut bench, 0);
        bench.policy = policy(3, true);
        bench.tell(Input::Policy(bench.policy.clone()));
        assert_eq!(bench.orders().last().map(|(_, order)| order.kind), Some(ActionKind::Stop));
        bench.advance(Duration::from_secs(1));
        let kinds: Vec<ActionKind> = bench.orders().iter().map(|(_, order)| order.kind).collect();
        assert_eq!(kinds[kinds.len() - 2..], [ActionKind::Stop, ActionKind::Start]);
        assert_eq!(bench.server(&app(3)).health, crate::snapshot::Health::Healthy);
    }
}
