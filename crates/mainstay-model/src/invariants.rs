//! What must hold after each input, whatever came in. Checked in debug builds after every verb, and by the simulation.

use std::collections::BTreeSet;
use std::fmt;

use crate::deploy::Phase;
use crate::effect::ActionKind;
use crate::host::judge::Host;
use crate::id::ServerId;
use crate::impact::Curve;
use crate::incident::{Incident, IncidentState, Scope};
use crate::model::Model;
use crate::open::Open;
use crate::publication::Publication;
use crate::release::ReleaseState;
use crate::routing::{RoutingMode, Target};
use crate::server::{Origin, Server, Standing, Verdict};
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::Mono;

/// Something that must hold does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Broken(String);

impl Broken {
    fn of(what: impl fmt::Display, about: impl fmt::Display) -> Self {
        Self(format!("{about}: {what}"))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks everything that must hold of the judge at any moment between two inputs.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(model: &Model) -> Result<(), Broken> {
    check_all(model, true)
}

/// The fault of a drill is never at the last server that serves.
fn check_drills(model: &Model) -> Result<(), Broken> {
    if !model.drills.is_within_limits() {
        return Err(Broken::of("more are kept than meant", "drills"));
    }
    let injected: Vec<&Service> = model.services.values().filter(|s| s.injection.is_some()).collect();
    let victim = model.drills.victim();
    if injected.len() > usize::from(victim.is_some()) {
        return Err(Broken::of("more faults are made than drills are under way", "drills"));
    }
    let Some(victim) = victim else { return Ok(()) };
    let Some(service) = model.services.get(&victim.service) else { return Ok(()) };
    match service.servers.iter().any(|(id, server)| id != victim && server.eligible) {
        true => Ok(()),
        false => Err(Broken::of("it is drilled, and nobody else serves", victim)),
    }
}

/// With every monitor, or only with the one that was last touched.
fn check_all(model: &Model, every: bool) -> Result<(), Broken> {
    let mut incidents = BTreeSet::new();
    for service in model.services.values() {
        check_routing(service)?;
        check_releases(service, model.out.now.mono)?;
        check_servers(model, service)?;
        check_live(service)?;
        for open in service.incident.iter().chain(&service.checks.own.incident) {
            check_incident(model, open, &mut incidents)?;
        }
        if service.checks.own.trouble.is_some() && service.checks.own.incident.is_none() {
            return Err(Broken::of("a check is wrong without an incident", &service.id));
        }
    }
    for own in model.own.values() {
        if let Some(open) = &own.incident {
            check_incident(model, open, &mut incidents)?;
        } else if own.trouble.is_some() {
            return Err(Broken::of("trouble without an incident", "Mainstay's own part"));
        }
    }
    for open in model.host.incidents().chain(model.machines.values().flat_map(Host::incidents)) {
        check_incident(model, open, &mut incidents)?;
    }
    if !model.out.proposals.is_within_limits() {
        return Err(Broken::of("more are kept than are shown", "proposals"));
    }
    check_drills(model)?;
    if !model.out.windows.is_within_limits() {
        return Err(Broken::of("more windows than are taken", "maintenance"));
    }
    if !model.host.is_within_limits() || !model.machines.values().all(Host::is_within_limits) {
        return Err(Broken::of("something grew over its limit", "the machine's figures"));
    }
    check_publications(model)?;
    if !model.out.changes.is_in_order() {
        return Err(Broken::of("out of order, or more than are kept", "the changes"));
    }
    for (id, job) in &model.backups.jobs {
        if let Some(open) = &job.own.incident {
            check_incident(model, open, &mut incidents)?;
        } else if job.own.trouble.is_some() {
            return Err(Broken::of("trouble without an incident", id));
        }
    }
    model.monitors.check(every).map_err(|(what, about)| Broken::of(what, about))?;
    for open in model.monitors.incidents() {
        check_incident(model, open, &mut incidents)?;
    }
    let now = model.out.now.mono;
    if model.poll_timeout().is_some_and(|due| due <= now) {
        return Err(Broken::of(format!("{:?} is due at {now:?}", model.poll_timeout()), "the timer"));
    }
    if let Some(table) = &model.table
        && !table.services.iter().eq(model.services.values().map(|s| &s.routed))
    {
        return Err(Broken::of("it is not what was decided", "the routing table"));
    }
    Ok(())
}

/// What is told the public is bounded, and is about incidents that there were.
fn check_publications(model: &Model) -> Result<(), Broken> {
    let broken = |what: &str| Err(Broken::of(what, "what is told the public"));
    let all = &model.publications.all;
    if all.len() > Publication::KEPT_MAX {
        return broken("more than is kept");
    }
    if all.last_key_value().is_some_and(|(id, _)| id.0 > model.out.last_incident) {
        return broken("of an incident that there never was");
    }
    if all.values().any(|publication| publication.updates.len() > Publication::UPDATES_MAX) {
        return broken("more updates than an incident may have");
    }
    Ok(())
}

fn check_routing(service: &Service) -> Result<(), Broken> {
    let broken = |what: &str| Err(Broken::of(what, &service.id));
    let routed = &service.routed;
    let may = |id: &ServerId, s: &Server| !service.is_held_back(id, s);
    let reachable = service.servers.iter().any(|(id, s)| s.is_ready() && s.is_reachable() && may(id, s));
    if routed.targets.is_empty() != (routed.mode == RoutingMode::Nobody) || routed.mode != service.mode {
        return broken("targets and mode do not agree");
    }
    if routed.targets.is_empty() && reachable {
        return broken("nobody is routed to although a server could be");
    }
    let mut seen = BTreeSet::new();
    for (target, in_rotation) in
        routed.targets.iter().map(|t| (t, true)).chain(routed.last_resort.iter().map(|t| (t, false)))
    {
        check_target(service, target, in_rotation)?;
        if service.servers.get(&target.id).is_some_and(|s| !may(&target.id, s)) {
            return broken("what was switched away from, or does not take the writes, is routed to");
        }
        if !seen.insert(&target.id) {
            return broken("a server is routed to twice");
        }
    }
    let healthy_left_out = service.servers.iter().any(|(id, s)| {
        s.eligible && s.is_primary() && may(id, s) && !routed.targets.iter().any(|t| t.id == *id)
    });
    if healthy_left_out {
        return broken("a primary that may serve is not in rotation");
    }
    let only_surely_dead = !routed.targets.is_empty()
        && routed.targets.iter().all(|t| service.servers[&t.id].is_surely_dead())
        && service
            .servers
            .iter()
            .any(|(id, s)| s.is_ready() && s.is_reachable() && !s.is_surely_dead() && may(id, s));
    if only_surely_dead {
        return broken("traffic goes to the dead while others live");
    }
    if service.has_lead() && routed.targets.len() + routed.last_resort.len() > 1 {
        return broken("two servers get writes");
    }
    let some_at_full = routed.targets.iter().any(|t| service.servers[&t.id].slow_since.is_none());
    if !routed.targets.is_empty() && !some_at_full && routed.mode != RoutingMode::Panic {
        return broken("every target starts slowly, so none carries the traffic");
    }
    Ok(())
}

/// Names lead to good addresses as long as there is one, and never nowhere because of health.
fn check_live(service: &Service) -> Result<(), Broken> {
    let broken = |what: &str| Err(Broken::of(what, &service.id));
    if !service.front.is_within_limits() {
        return broken("something about its front grew over its limit");
    }
    if service.front.live.is_some() != service.policy.front.live {
        return broken("names follow it and it says nothing of them, or the other way round");
    }
    let Some(live) = &service.front.live else { return Ok(()) };
    let known = service.known_addresses();
    for is_v4 in [true, false] {
        let family = || known.iter().filter(|(ip, _)| ip.is_ipv4() == is_v4);
        let some_good = family().any(|(_, good)| *good);
        for (ip, good) in family() {
            if live.addresses.contains(ip) != (*good || !some_good) {
                return broken("names lead to a dead address, or not to a good one");
            }
        }
    }
    if live.addresses.is_empty() && !known.is_empty() {
        return broken("names lead nowhere although an address is known");
    }
    Ok(())
}

fn check_target(service: &Service, target: &Target, in_rotation: bool) -> Result<(), Broken> {
    let broken = |what: &str| Err(Broken::of(what, &target.id));
    let Some(server) = service.servers.get(&target.id) else { return broken("routed to, but not known") };
    if !server.is_ready() {
        return broken("routed to although a person took it out");
    }
    if server.address.as_ref() != Some(&target.address) {
        return broken("routed to where it does not listen");
    }
    let weight = f64::from(server.policy.weight.max(1));
    if !(target.share > 0.0 && target.share <= weight) {
        return broken("its share is not above 0 and at most its weight");
    }
    let panic = service.mode == RoutingMode::Panic;
    if in_rotation && !panic && !server.eligible && server.hold_until.is_none() {
        return broken("in rotation although it may not serve");
    }
    let another = service.servers.iter().any(|(id, s)| s.eligible && !service.is_held_back(id, s));
    if in_rotation && panic && server.is_surely_dead() && another {
        return broken("gets panic traffic although it is surely dead and another serves");
    }
    Ok(())
}

/// A release on trial is beside the servers, and replacing them costs no more than one at a time.
fn check_releases(service: &Service, now: Mono) -> Result<(), Broken> {
    let broken = |what: &str| Err(Broken::of(what, &service.id));
    let deployment = service.releases.deployment.as_ref();
    let trial = deployment.is_some_and(|d| matches!(d.phase, Phase::Trial));
    if let Some(routed) = &service.routed.trial {
        let Some(server) = service.servers.get(&routed.target.id) else {
            return broken("an unknown server is on trial");
        };
        if !trial || !server.may_be_tried() {
            return broken("a release gets traffic that is not on trial, or whose probes are not good");
        }
        if !(0.0..1.0).contains(&routed.share) || service.routed.targets.is_empty() {
            return broken("a trial gets all of the traffic");
        }
    }
    for (id, server) in &service.servers {
        let broken = |what: &str| Err(Broken::of(what, id));
        let beside = deployment.is_some_and(|d| d.beside.as_ref() == Some(id)) || service.is_kept_warm(id);
        if matches!(server.origin, Origin::Beside(_)) != beside {
            return broken("is beside the servers for no deploy");
        }
        if server.standing == Standing::Trial && !trial {
            return broken("is on trial although no release is");
        }
        if service.is_kept_warm(id) && !matches!(server.standing, Standing::Aside(_)) {
            return broken("is kept warm, and gets requests");
        }
    }
    let awaited = deployment.and_then(|d| match &d.phase {
        Phase::Replacing(Some(step)) => Some(&step.server),
        _ => None,
    });
    let lost = |(id, s): (&ServerId, &Server)| {
        let on_its_way =
            s.recovery.may_yet_start(now) || s.process.pid.is_some() && s.probes.verdict != Verdict::Good;
        !matches!(s.origin, Origin::Beside(_))
            && service.scaling.leaving.as_ref() != Some(id)
            && !service.substitutes.keeps_aside(id)
            && matches!(s.standing, Standing::Aside(_))
            && awaited != Some(id)
            && !service.is_gone_back_from(s)
            && !on_its_way
    };
    if service.servers.iter().any(lost) {
        return broken("a server is set aside, and nobody waits for it");
    }
    if let Some(policy) = &service.policy.scale {
        let mine = |s: &&Server| matches!(s.origin, Origin::Scaled(_));
        let instances = 1 + service.servers.values().filter(mine).count()
            - usize::from(service.scaling.leaving.is_some());
        if instances < policy.min as usize || !service.scaling.is_within_limits() {
            return broken("fewer instances than `min`");
        }
    }
    let currents = service.releases.known.values().filter(|r| r.state == ReleaseState::Current).count();
    if currents > 1 || (service.policy.deploy.is_some() && currents == 0) {
        return broken("it is not clear which release is the current one");
    }
    let under_way = service.releases.known.values().filter(|r| r.state.is_under_way());
    if under_way.clone().count() > 1
        || under_way.clone().any(|r| deployment.is_none_or(|d| d.release != r.number))
    {
        return broken("a release is under way, and nothing is done about it");
    }
    Ok(())
}

fn check_servers(model: &Model, service: &Service) -> Result<(), Broken> {
    let mut hang_orders = 0;
    for (id, server) in &service.servers {
        let broken = |what: &str| Err(Broken::of(what, id));
        let recovery = &server.recovery;
        if server.probes.in_flight.is_none() && server.address.is_none() && server.probes.next_at.is_some() {
            return broken("to be probed without an address");
        }
        if server.address.is_some() && server.probes.in_flight.is_none() && server.probes.next_at.is_none() {
            return broken("has an address and is never probed again");
        }
        if server.at_fault && service.incident.is_none() {
            return broken("at fault without an incident");
        }
        let took_part = || service.incident.as_ref().is_some_and(|open| open.incident().servers.contains(id));
        if server.at_fault && service.server_in_window(id, server, &model.out).is_some() && !took_part() {
            return broken("blamed although it is in a maintenance window");
        }
        if server.at_fault && !server.is_ready() {
            return broken("blamed although a person took it out");
        }
        if server.ejection.is_some() && server.condemned.is_some() {
            return broken("both ejected and kept");
        }
        if server.witnesses.check_wrong.is_some() && server.probes.verdict == Verdict::Bad {
            return broken("its check is wrong, and decides");
        }
        if server.ejection.as_ref().is_some_and(|e| model.out.now.mono >= e.until)
            && !server.has_to_prove(&service.policy)
        {
            return broken("ejected for longer than it was to be");
        }
        if server.is_ended() && server.health != Health::Unhealthy {
            return broken("its process ended, but it is not unhealthy");
        }
        if !server.is_restartable() && recovery.pending.is_some() {
            return broken("is recovered although nobody said how");
        }
        if let Some(pending) = recovery.pending {
            hang_orders += usize::from(pending.for_hang || !server.policy.supervised);
            if recovery.outside.is_looking() {
                return broken("is restarted while it is looked into whether it was");
            }
            if pending.against_load {
                return broken("hangs and is restarted although there is too much to do");
            }
            if pending.kind == ActionKind::Stop
                && server.origin == Origin::Config
                && service.substitutes.in_place_of(id).is_none()
            {
                return broken("is stopped although it is in the config");
            }
        }
        let idle = recovery.pending.is_none() && recovery.due.is_none() && !recovery.spent;
        if idle
            && server.is_ready()
            && server.is_ended()
            && !server.process.asked_down
            && !model.out.is_stopping(id)
            && service.server_in_window(id, server, &model.out).is_none()
            && model.out.frozen().is_none()
            && !service.is_kept_down(id, server)
            && service.recovery_due(id, server, &model.out).is_none()
        {
            return broken("its process ended and nothing is done about it");
        }
        if server.signs_len() > 16
            || server.changes.len() > 10
            || !recovery.is_within_limits()
            || !server.flaps.is_within_limits()
            || !server.pace.is_within_limits()
            || !server.traffic.buckets_within_limits()
            || !service.visitors.buckets_within_limits()
            || !service.load.is_within_limits()
            || !service.before.is_within_limits()
            || !service.substitutes.is_within_limits()
        {
            return broken("something grew over its limit");
        }
    }
    if hang_orders > 1 {
        return Err(Broken::of(
            "more than one server that hangs, or was started by somebody else, is restarted at a time",
            &service.id,
        ));
    }
    Ok(())
}

fn check_incident<'a>(
    model: &Model,
    open: &'a Open,
    seen: &mut BTreeSet<&'a crate::incident::Scope>,
) -> Result<(), Broken> {
    let incident = open.incident();
    let broken = |what: &str| Err(Broken::of(what, format!("incident {}", incident.id)));
    if !seen.insert(&incident.scope) {
        return broken("a second one of its scope is open");
    }
    if incident.state == IncidentState::Resolved || incident.resolved_at.is_some() {
        return broken("resolved, but still open");
    }
    if incident.id.0 > model.out.last_incident {
        return broken("its number will be used again");
    }
    if incident.timeline.len() > Incident::TIMELINE_MAX {
        return broken("its timeline is too long");
    }
    if open.told.person && !open.told.opened() {
        return broken("a person is needed for what nobody was told of");
    }
    let told = &incident.escalation.told;
    if (1..told.len()).any(|n| told[..n].iter().any(|earlier| earlier.to.is_same(&told[n].to))) {
        return broken("somebody was told twice that it began");
    }
    if open.steps.due().is_some() != incident.escalation.next.is_some() {
        return broken("the next step that is shown is not the one that is waited for");
    }
    if open.steps.due().is_some() && incident.state != IncidentState::Open {
        return broken("a step is due although somebody has taken it on");
    }
    if open.quiet_since.is_some() != incident.recovered_at.is_some() {
        return broken("recovered and quiet do not agree");
    }
    let seen = &incident.seen;
    if seen.hurt() + seen.limited > seen.requests || seen.saved > seen.requests || seen.slow > seen.requests {
        return broken("more requests ended badly than ended");
    }
    if incident.curve.points.len() > Curve::POINTS_MAX {
        return broken("its curve is too long");
    }
    if matches!(incident.scope, Scope::Service(_)) && !incident.curve.sum().is_as_many_as(seen) {
        return broken("its curve and its counts do not agree");
    }
    if !open.ran_forward() {
        return broken("its counts ran backwards");
    }
    Ok(())
}

impl Model {
    /// Panics when something that must hold does not. Called after every verb in debug builds.
    ///
    /// # Panics
    /// See [`check`].
    pub fn check_invariants(&self) {
        // Of ten thousand monitors one input touches one.
        if let Err(broken) = check_all(self, false) {
            panic!("an invariant of the judge is broken: {broken}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, app, policy, shop};

    #[test]
    fn a_judge_that_was_left_alone_keeps_every_promise() {
        assert_eq!(check(&Bench::settled(policy(3, true)).model), Ok(()));
    }

    #[test]
    fn an_emptied_pool_is_noticed() {
        let mut bench = Bench::settled(policy(3, true));
        bench.model.services.get_mut(&shop()).unwrap().routed.targets.clear();
        assert!(check(&bench.model).unwrap_err().to_string().contains("targets and mode do not agree"));
    }

    #[test]
    fn a_dead_process_that_nobody_cares_for_is_noticed() {
        let mut bench = Bench::settled(policy(3, true));
        bench.crash(&app(1));
        let service = bench.model.services.get_mut(&shop()).unwrap();
        service.servers.get_mut(&app(1)).unwrap().recovery.pending = None;
        assert!(check(&bench.model).unwrap_err().to_string().contains("nothing is done about it"));
    }

    #[test]
    fn traffic_to_a_server_that_a_person_took_out_is_noticed() {
        let mut bench = Bench::settled(policy(3, true));
        let service = bench.model.services.get_mut(&shop()).unwrap();
        service.servers.get_mut(&app(1)).unwrap().admin = crate::input::AdminState::Maintenance;
        assert!(check(&bench.model).unwrap_err().to_string().contains("a person took it out"));
    }
}
