//! Who carries a service: rotation, slow start, backups and panic.
//!
//! A server *may serve* when it is Ready, has an address, and is neither unhealthy nor ejected nor held back before its
//! first good probe. From that follows the mode:
//!
//! - **Nobody**: no Ready server has an address.
//! - **Backup**: the primaries that may serve are fewer than `panic-threshold` of the Ready ones, or none, and a backup
//!   may serve. This is about capacity, so every Ready primary counts, dead ones too.
//!   When the primaries suffice again, the backups give back as slowly as the primaries return: their share falls in ten
//!   steps over `slow-start`, and only then is it Normal again. If the primaries fail meanwhile, the backups are there.
//! - **Panic**: no backup can help, and of the primaries *whose state can be doubted* fewer than `panic-threshold` may
//!   serve. Panic is doubting oneself: when most look bad, the observer is suspect, so traffic goes to all. But there
//!   is no doubt about a supervised process that ended, or a server that refuses every connection: these are *surely
//!   dead*, count for nothing here, and get no panic traffic while any other server could. Only when all are surely
//!   dead does traffic go to those that have an address, so that the first to come back serves at once.
//! - **Normal**: the primaries that may serve; when there is none but some are held back, those.
//!
//! A service that was switched away from its primaries (see `switch`) is carried by its backups alone until a person goes back: what
//! is said above of primaries holds of the backups, and the primaries get nothing, not even as a last resort.
//!
//! Of servers that keep state (see `lead`) the one that takes the writes is the only primary, and all others get nothing.
//!
//! Coming back is slower than going away: a server that returns starts with a tenth of its share and rises in ten steps
//! over `slow-start`, as long as another target carries a full share. A server's first entry after Mainstay started is
//! no return.

use std::time::Duration;

use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::input::AdminState;
use crate::out::Out;
use crate::replace::DRAIN_MAX;
use crate::routing::{Leaving, RoutedService, RoutingMode, Target, Trial};
use crate::server::{Server, Standing};
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::Mono;
use crate::words::span;

/// What the data plane needs at most to end a connection well.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// Slow start rises in so many steps after the first, each a tenth of the full share.
const SLOW_STEPS: u32 = 9;

impl Server {
    /// Its part of a full share: 1 but during slow start.
    pub(crate) fn slow_factor(&self, slow_start: Duration, now: Mono) -> f64 {
        match self.slow_since {
            Some(since) => f64::from(1 + slow_step(since, slow_start, now)) / f64::from(1 + SLOW_STEPS),
            None => 1.0,
        }
    }

    /// When its share rises next.
    pub(crate) fn slow_start_due(&self, slow_start: Duration, now: Mono) -> Option<Mono> {
        let since = self.slow_since?;
        let step = slow_step(since, slow_start, now) + 1;
        // Rounded up, so that the step is reached when the timer is due.
        Some(since + slow_start.saturating_mul(step) / SLOW_STEPS + Duration::from_nanos(1))
    }
}

/// Steps risen since slow start began.
fn slow_step(since: Mono, slow_start: Duration, now: Mono) -> u32 {
    if slow_start.is_zero() {
        return SLOW_STEPS;
    }
    let risen = now.since(since).as_secs_f64() / slow_start.as_secs_f64() * f64::from(SLOW_STEPS);
    (risen.floor() as u32).min(SLOW_STEPS)
}

impl Service {
    /// Decides who is in rotation and at which share. `true`: it is not as it was.
    pub(crate) fn rotate(&mut self, out: &mut Out) -> bool {
        let ids: Vec<ServerId> = self.servers.keys().cloned().collect();
        for id in &ids {
            self.enter_or_leave(id, out);
        }
        self.start_over_who_is_slow(out);
        self.begin_or_end_giving_back(out);
        let (mode, targets) = self.carriers();
        self.end_slow_starts(mode, &targets, out);
        let target = |id: &ServerId, factor: f64| {
            let server = self.servers.get(id)?;
            let share = f64::from(server.policy.weight.max(1)) * factor;
            Some(Target {
                id: id.clone(),
                address: server.address.clone()?,
                share,
                concurrent: server.policy.concurrent,
                tls: server.policy.tls,
                injection: self.injected(id),
            })
        };
        let factor = |id: &ServerId| self.servers.get(id).map_or(1.0, |s| self.factor(s, mode, out.now.mono));
        let last_resort = self.last_resort(&targets);
        let trial = self.trial_target(mode);
        let routed = RoutedService {
            id: self.id.clone(),
            carriage: self.policy.carriage.clone(),
            mode,
            trial,
            targets: targets.iter().filter_map(|id| target(id, factor(id))).collect(),
            last_resort: last_resort.iter().filter_map(|id| target(id, 1.0)).collect(),
            draining: self.draining().filter_map(|id| target(id, 1.0)).collect(),
            leaving: self.leaving(),
        };
        let changed = self.routed != routed;
        self.routed = routed;
        if mode != self.mode {
            self.mode = mode;
            // After a start nothing is known of them yet, so there is nothing to say.
            let known = self.servers.values().any(|s| s.health != Health::Unknown);
            if let Some(open) = self.incident.as_mut().filter(|_| known) {
                open.entry(EntryKind::ModeChanged, None, None, mode_text(mode).to_owned(), out);
            }
        }
        changed
    }

    /// A server's part of a full share by the mode: less than 1 in slow start, and for a backup that gives back.
    pub(crate) fn factor(&self, server: &Server, mode: RoutingMode, now: Mono) -> f64 {
        match mode {
            RoutingMode::Panic => 1.0,
            RoutingMode::Backup if !server.is_primary() => {
                server.slow_factor(self.policy.slow_start, now) * self.backup_factor(now)
            }
            _ => server.slow_factor(self.policy.slow_start, now),
        }
    }

    /// The release on trial, while the service is carried as usual.
    fn trial_target(&self, mode: RoutingMode) -> Option<Trial> {
        let share = self.policy.deploy.as_ref()?.share;
        if !matches!(mode, RoutingMode::Normal | RoutingMode::Backup) {
            return None;
        }
        let (id, server) = self.servers.iter().find(|(_, s)| s.may_be_tried())?;
        let target = Target {
            id: id.clone(),
            address: server.address.clone()?,
            share,
            concurrent: server.policy.concurrent,
            tls: server.policy.tls,
            injection: self.injected(id),
        };
        Some(Trial { target, share })
    }

    fn enter_or_leave(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now;
        let others_at_full =
            self.servers.iter().any(|(o, s)| o != id && s.eligible && s.slow_since.is_none());
        let slow_start = self.policy.slow_start;
        let Some(server) = self.servers.get_mut(id) else { return };
        let may_serve = server.may_serve();
        if may_serve != server.eligible {
            server.eligible = may_serve;
            server.slow_since = None;
            server.unconfirmed = false;
            server.left_unexplained = !may_serve;
        } else if may_serve {
            return;
        }
        if !may_serve {
            server.eligible_since = None;
            return self.explain_leaving(id, out);
        }
        server.eligible_since = Some(now.mono);
        if std::mem::take(&mut server.fresh) {
            return;
        }
        server.unconfirmed = true;
        if !slow_start.is_zero() && others_at_full {
            server.slow_since = Some(now.mono);
        }
        let slow = server.slow_since.is_some();
        let stands_by = self.servers.get(id).is_some_and(|s| self.is_held_back(id, s));
        let Some(server) = self.servers.get_mut(id) else { return };
        if stands_by {
            server.slow_since = None;
            server.changed(now.wall, "well again".to_owned());
            if let Some(open) = &mut self.incident {
                open.entry(EntryKind::Returned, Some(id), None, format!("{} is well again", id.name), out);
            }
            return;
        }
        let how = if slow { format!(", its share rises over {}", span(slow_start)) } else { String::new() };
        server.changed(now.wall, format!("in rotation again{how}"));
        if let Some(open) = &mut self.incident {
            let text = format!("{} is in rotation again{how}", id.name);
            open.entry(EntryKind::Returned, Some(id), None, text, out);
        }
        if !slow {
            self.full_share(id, out);
        }
    }

    /// Puts a server's leaving down to its fault, once, as soon as one is known.
    fn explain_leaving(&mut self, id: &ServerId, out: &mut Out) {
        let now = out.now;
        let Some(server) = self.servers.get_mut(id) else { return };
        if !server.left_unexplained || !server.is_ready() || !server.at_fault {
            return;
        }
        server.left_unexplained = false;
        let rule = server.rule.clone();
        server.changed(now.wall, format!("out of rotation: {rule}"));
        if let Some(open) = &mut self.incident {
            if open.incident().diverted_at.is_none() {
                open.edit().diverted_at = Some(now.wall);
            }
            let text = format!("{} is out of rotation: {rule}", id.name);
            open.entry(EntryKind::Ejected, Some(id), None, text, out);
        }
    }

    /// The mode and who is in rotation by it, in the order of their names. See the module's documentation.
    fn carriers(&self) -> (RoutingMode, Vec<ServerId>) {
        let pick = |wanted: &dyn Fn(&Server) -> bool| -> Vec<ServerId> {
            let out = |id: &ServerId, s: &Server| self.is_held_back(id, s);
            let reachable =
                self.servers.iter().filter(|(id, s)| s.is_ready() && s.is_reachable() && !out(id, s));
            reachable.filter(|(_, s)| wanted(s)).map(|(id, _)| id.clone()).collect()
        };
        let primaries = pick(&|s| s.eligible && s.is_primary());
        let backups = pick(&|s| s.eligible && !s.is_primary());
        let ready_primaries = self.servers.values().filter(|s| s.is_ready() && s.is_primary()).count();
        let share_of = |all: usize| if all == 0 { 1.0 } else { primaries.len() as f64 / all as f64 };
        let too_few = primaries.is_empty() || share_of(ready_primaries) < self.policy.panic_threshold;
        if (too_few || self.back_since.is_some()) && !backups.is_empty() {
            return (RoutingMode::Backup, pick(&|s| s.eligible));
        }
        let doubtful = |s: &Server| !s.eligible && s.hold_until.is_none() && !s.is_surely_dead();
        let doubted = pick(&|s| s.is_primary() && doubtful(s));
        if !primaries.is_empty() {
            let sure = share_of(primaries.len() + doubted.len()) >= self.policy.panic_threshold;
            if sure {
                return (RoutingMode::Normal, primaries);
            }
            return (RoutingMode::Panic, pick(&|s| !s.is_surely_dead()));
        }
        let held = pick(&|s| s.hold_until.is_some());
        let alive = pick(&|s| !s.is_surely_dead());
        let all = pick(&|_| true);
        if !held.is_empty() && held.len() == alive.len() {
            (RoutingMode::Normal, held)
        } else if !alive.is_empty() {
            (RoutingMode::Panic, alive)
        } else if !all.is_empty() {
            (RoutingMode::Panic, all)
        } else {
            (RoutingMode::Nobody, Vec::new())
        }
    }

    /// Too few primaries may serve, as far as capacity goes.
    fn has_too_few(&self) -> bool {
        if self.is_switched_away() {
            return true;
        }
        let primaries = self.servers.values().filter(|s| s.is_ready() && s.is_primary());
        let (all, may) = primaries.fold((0, 0), |(all, may), s| (all + 1, may + usize::from(s.eligible)));
        may == 0 || (may as f64 / f64::from(all)) < self.policy.panic_threshold
    }

    /// Backups that carried traffic do not leave at once when the primaries suffice again.
    fn begin_or_end_giving_back(&mut self, out: &mut Out) {
        let now = out.now.mono;
        if self.mode != RoutingMode::Backup || self.has_too_few() {
            self.back_since = None;
            return;
        }
        if self.back_since.is_none()
            && !self.policy.slow_start.is_zero()
            && let Some(open) = &mut self.incident
        {
            let text = format!(
                "the primaries suffice again: the backups give back over {} (slow-start)",
                span(self.policy.slow_start)
            );
            open.entry(EntryKind::ModeChanged, None, None, text, out);
        }
        let since = *self.back_since.get_or_insert(now);
        if slow_step(since, self.policy.slow_start, now) >= SLOW_STEPS {
            self.back_since = None;
        }
    }

    /// The backups' part of a full share: 1 but while they give back.
    fn backup_factor(&self, now: Mono) -> f64 {
        match self.back_since {
            Some(since) => {
                let step = slow_step(since, self.policy.slow_start, now);
                f64::from(1 + SLOW_STEPS - step) / f64::from(1 + SLOW_STEPS)
            }
            None => 1.0,
        }
    }

    /// When the backups' share falls next.
    pub(crate) fn back_due(&self, now: Mono) -> Option<Mono> {
        let since = self.back_since?;
        let step = slow_step(since, self.policy.slow_start, now) + 1;
        Some(since + self.policy.slow_start.saturating_mul(step) / SLOW_STEPS + Duration::from_nanos(1))
    }

    /// Ends slow starts that have lasted their time, and all of them when no other target carries a full share.
    fn end_slow_starts(&mut self, mode: RoutingMode, targets: &[ServerId], out: &mut Out) {
        let now = out.now.mono;
        let slow_start = self.policy.slow_start;
        let at_full = |id: &ServerId| self.servers.get(id).is_some_and(|s| s.slow_since.is_none());
        let nobody_at_full = mode != RoutingMode::Panic && !targets.iter().any(at_full);
        let ids: Vec<ServerId> = self.servers.keys().cloned().collect();
        for id in ids {
            let Some(server) = self.servers.get_mut(&id) else { continue };
            let Some(since) = server.slow_since else { continue };
            let lifted = nobody_at_full && targets.contains(&id);
            if lifted || slow_step(since, slow_start, now) >= SLOW_STEPS {
                server.slow_since = None;
                self.full_share(&id, out);
            }
        }
    }

    fn full_share(&mut self, id: &ServerId, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.changed(out.now.wall, "at its full share again".to_owned());
        if let Some(open) = &mut self.incident {
            let text = format!("{} has its full share again", id.name);
            open.entry(EntryKind::FullShare, Some(id), None, text, out);
        }
    }

    /// Who may go on with the visitors that keep to it: drained by a person, and well.
    fn draining(&self) -> impl Iterator<Item = &ServerId> {
        let is_sticky = self.policy.carriage.sticky.is_some();
        let drained = move |s: &Server| {
            is_sticky && s.admin == AdminState::Draining && s.is_reachable() && s.health != Health::Unhealthy
        };
        self.servers.iter().filter(move |(_, s)| drained(s)).map(|(id, _)| id)
    }

    /// Who is about to be replaced or stopped: connections that last are ended well before the process is. And who gets no writes: at once.
    fn leaving(&self) -> Vec<Leaving> {
        let within = self.policy.carriage.drain_timeout.min(DRAIN_MAX - FAREWELL);
        let aside = self.servers.iter().filter(|(_, s)| matches!(s.standing, Standing::Aside(_)));
        let aside = aside.map(|(id, _)| Leaving { server: id.clone(), within });
        // Nothing more is written where the writes do not go, or from where the service was switched away.
        let cuts = self.has_lead() || self.policy.carriage.tcp.is_some_and(|tcp| tcp.close_when_down);
        let held_back = self.servers.iter().filter(|(id, s)| cuts && self.is_held_back(id, s));
        let at_once = held_back.map(|(id, _)| Leaving { server: id.clone(), within: Duration::ZERO });
        at_once.chain(aside).collect()
    }

    /// Who is tried before a visitor is refused: backups first, then the others, the surely dead last.
    fn last_resort(&self, targets: &[ServerId]) -> Vec<ServerId> {
        let may = |id: &ServerId, s: &Server| s.is_ready() && s.is_reachable() && !self.is_held_back(id, s);
        let rest = self.servers.iter().filter(|(id, s)| may(id, s) && !targets.contains(id));
        let mut rest: Vec<(&ServerId, &Server)> = rest.collect();
        rest.sort_by_key(|(_, s)| (s.is_primary(), s.is_surely_dead(), s.health == Health::Unhealthy));
        rest.into_iter().map(|(id, _)| id.clone()).collect()
    }
}

fn mode_text(mode: RoutingMode) -> &'static str {
    match mode {
        RoutingMode::Normal => "the healthy primaries carry the service",
        RoutingMode::Backup => "too few primaries are left: backups share the traffic",
        RoutingMode::Panic => "too few healthy servers are left: traffic goes to all that may still answer",
        RoutingMode::Nobody => "no server is left to send to: visitors get the 503 page",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::affinity::Sticky;
    use crate::input::{FailureKind, Input, ProbeFailure};
    use crate::testing::{Bench, app, policy, spare, with_spare};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn when_all_look_bad_traffic_goes_to_all() {
        let mut bench = Bench::settled(policy(3, false));
        (1..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::AnswerTimeout));
        bench.advance(seconds(5));
        assert_eq!(bench.routed().mode, RoutingMode::Panic);
        assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
    }

    #[test]
    fn when_all_are_surely_dead_the_first_to_come_back_serves_at_once() {
        let mut bench = Bench::settled(policy(3, false));
        (1..=3).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
        bench.advance(seconds(5));
        assert_eq!(bench.routed().mode, RoutingMode::Panic);
        assert_eq!(bench.targets().len(), 3);
    }

    #[test]
    fn below_the_threshold_the_doubtful_get_traffic_too() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
        bench.advance(seconds(5));
        assert_eq!((bench.routed().mode, bench.targets().len()), (RoutingMode::Normal, 2));
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        bench.advance(seconds(5));
        assert_eq!((bench.routed().mode, bench.targets().len()), (RoutingMode::Panic, 3));
    }

    #[test]
    fn half_of_the_servers_is_not_below_a_threshold_of_half() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::AnswerTimeout);
        bench.advance(seconds(5));
        assert_eq!((bench.routed().mode, bench.targets()), (RoutingMode::Normal, vec!["app-2".to_owned()]));
    }

    #[test]
    fn the_surely_dead_get_no_panic_traffic_while_another_serves() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(seconds(5));
        assert_eq!((bench.routed().mode, bench.targets()), (RoutingMode::Normal, vec!["app-3".to_owned()]));
        let last_resort: Vec<&str> = bench.routed().last_resort.iter().map(|t| t.id.name.as_ref()).collect();
        assert_eq!(last_resort, ["app-1", "app-2"]);
    }

    #[test]
    fn backups_share_the_traffic_when_too_few_primaries_are_left() {
        let mut bench = Bench::settled(with_spare(policy(3, false)));
        assert_eq!(bench.targets(), ["app-1", "app-2", "app-3"]);
        assert_eq!(bench.routed().last_resort[0].id, spare());
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.is_bad(&app(2), ProbeFailure::AnswerTimeout);
        bench.advance(seconds(5));
        assert_eq!(bench.routed().mode, RoutingMode::Backup);
        assert_eq!(bench.targets(), ["app-3", "spare"]);
        bench.is_good(&app(1));
        bench.advance(seconds(20));
        assert_eq!(
            (bench.routed().mode, bench.targets()),
            (RoutingMode::Normal, vec!["app-1".into(), "app-3".into()])
        );
    }

    #[test]
    fn backups_give_back_in_steps_and_are_there_when_the_primaries_fail_again() {
        let mut bench = Bench::settled(with_spare(policy(2, false)));
        (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
        bench.advance(seconds(5));
        assert_eq!((bench.routed().mode, bench.targets()), (RoutingMode::Backup, vec!["spare".to_owned()]));
        let share = |bench: &Bench| bench.routed().targets.iter().find(|t| t.id == spare()).map(|t| t.share);
        (1..=2).for_each(|n| bench.is_good(&app(n)));
        let mut shares = Vec::new();
        while bench.routed().mode == RoutingMode::Backup {
            shares.extend(share(&bench));
            bench.advance(Duration::from_millis(50));
        }
        shares.dedup();
        let tenths: Vec<f64> = (2..=10).rev().map(|n| f64::from(n) / 10.0).collect();
        assert_eq!(shares, tenths);
        assert_eq!((bench.routed().mode, bench.targets().len()), (RoutingMode::Normal, 2));
        (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
        bench.advance(seconds(5));
        (1..=2).for_each(|n| bench.is_good(&app(n)));
        bench.advance(seconds(4));
        assert!(share(&bench).is_some_and(|s| s < 1.0));
        (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Refused));
        bench.advance(seconds(5));
        assert_eq!(share(&bench), Some(1.0));
    }

    #[test]
    fn a_server_that_a_person_took_out_is_never_routed_to() {
        let mut bench = Bench::settled(policy(2, false));
        bench.admin(&app(1), AdminState::Draining);
        assert_eq!(bench.targets(), ["app-2"]);
        assert!(bench.routed().last_resort.is_empty());
        bench.admin(&app(2), AdminState::Maintenance);
        assert_eq!(bench.routed().mode, RoutingMode::Nobody);
        assert!(bench.incidents().is_empty(), "an admin state is a person's wish");
    }

    #[test]
    fn a_drained_server_is_listed_for_its_own_visitors_alone_where_visitors_keep_to_servers() {
        let mut sticky = policy(2, false);
        let service = sticky.services.values_mut().next().expect("a service");
        let drain = Sticky::DRAIN;
        Arc::make_mut(&mut service.carriage).sticky =
            Some(Sticky { cookie: "keep".to_owned(), path: "/".to_owned(), max_age: None, drain });
        let mut bench = Bench::settled(sticky);
        let draining = |bench: &Bench| -> Vec<ServerId> {
            bench.routed().draining.iter().map(|target| target.id.clone()).collect()
        };
        assert!(draining(&bench).is_empty());
        bench.admin(&app(1), AdminState::Draining);
        assert_eq!((draining(&bench), bench.targets()), (vec![app(1)], vec!["app-2".to_owned()]));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(seconds(5));
        assert!(draining(&bench).is_empty(), "it is dead");
        bench.is_good(&app(1));
        bench.advance(seconds(5));
        assert_eq!(draining(&bench), [app(1)]);
        bench.admin(&app(1), AdminState::Maintenance);
        assert!(draining(&bench).is_empty());
        let mut plain = Bench::settled(policy(2, false));
        plain.admin(&app(1), AdminState::Draining);
        assert!(draining(&plain).is_empty());
    }

    #[test]
    fn a_returning_share_rises_in_ten_steps() {
        let mut bench = Bench::settled(policy(3, false));
        bench.admin(&app(1), AdminState::Maintenance);
        bench.admin(&app(1), AdminState::Ready);
        let mut shares = vec![bench.routed().targets[0].share];
        for _ in 0..200 {
            bench.advance(Duration::from_millis(50) + Duration::from_nanos(1));
            shares.push(bench.routed().targets[0].share);
        }
        shares.dedup();
        let tenths: Vec<f64> = (1..=10).map(|n| f64::from(n) / 10.0).collect();
        assert_eq!(shares, tenths);
    }

    #[test]
    fn the_only_server_gets_its_full_share_at_once() {
        let mut bench = Bench::settled(policy(1, false));
        bench.admin(&app(1), AdminState::Maintenance);
        bench.admin(&app(1), AdminState::Ready);
        assert_eq!(bench.routed().targets[0].share, 1.0);
    }

    #[test]
    fn a_slow_start_ends_when_nobody_else_carries_the_traffic() {
        let mut bench = Bench::settled(policy(2, true));
        bench.crash(&app(1));
        bench.advance(seconds(2));
        assert!(bench.server(&app(1)).share < 1.0);
        bench.crash(&app(2));
        assert_eq!(bench.targets(), ["app-1"]);
        assert_eq!(bench.server(&app(1)).share, 1.0);
    }

    #[test]
    fn nobody_starts_slowly_when_mainstay_starts() {
        let mut bench = Bench::fresh(policy(2, true));
        bench.advance(seconds(1));
        assert!(bench.routed().targets.iter().all(|t| t.share == 1.0), "{:?}", bench.routed());
        assert_eq!(bench.targets().len(), 2);
    }

    #[test]
    fn a_server_added_later_is_looked_at_first_and_starts_slowly() {
        let mut bench = Bench::settled(policy(2, false));
        bench.policy = policy(3, false);
        bench.is_bad(&app(3), ProbeFailure::NotProbed("later".to_owned()));
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.addresses();
        assert_eq!(bench.targets(), ["app-1", "app-2"]);
        bench.is_good(&app(3));
        bench.advance(seconds(3));
        assert_eq!(bench.targets().len(), 3);
        assert!(bench.server(&app(3)).share < 1.0);
    }

    #[test]
    fn a_table_is_published_only_when_it_says_something_new() {
        let mut bench = Bench::settled(policy(3, false));
        bench.advance(seconds(60));
        bench.attempt_fails(&app(1), FailureKind::Refused, None);
        assert_eq!(bench.routes(), 0);
        bench.tell(Input::Policy(bench.policy.clone()));
        assert_eq!(bench.routes(), 0);
        bench.admin(&app(1), AdminState::Draining);
        assert_eq!(bench.routes(), 1);
    }

    #[test]
    fn weights_are_shares() {
        let mut policy = policy(2, false);
        policy.services.values_mut().for_each(|s| s.servers.get_mut("app-2").unwrap().weight = 5);
        let bench = Bench::settled(policy);
        let shares: Vec<f64> = bench.routed().targets.iter().map(|t| t.share).collect();
        assert_eq!(shares, [1.0, 5.0]);
    }
}
