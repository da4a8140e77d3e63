//! The one gate that everything passes which Mainstay does on its own beside routing: what forbids a restart, a roll-back, a
//! switch and one instance less, by name. `docs/recovery.md` has it as a table.
//!
//! A restart mends a server that is at fault itself. It mends nothing, and takes away what still answers, where the fault is
//! elsewhere: under too much load (see `load`), where something that the service needs fails (see `needs`), and where all servers
//! of a service answer, and none of them well, which is how a common need looks to who does not know of it. One that answers
//! badly is therefore not restarted before its fellows were looked at; and when a restart for such an answer did not help, no other
//! server is restarted for one. One whose process ended has nothing left to lose and is started all the same.
//!
//! An observer in doubt forbids everything, also for what is on this machine: what it sees there may have the same reason. One
//! thing is done about a service at a time. Servers whose process ended are told apart once more: the first start of each waits
//! for nobody, a further one for the outcome of another, and only what still runs waits until another one answers again.

use std::fmt;
use std::time::Duration;

use crate::cause::Cause;
use crate::freeze::Freeze;
use crate::id::{IncidentId, ServerId, ServiceId};
use crate::incident::EntryKind;
use crate::load::Strain;
use crate::out::Out;
use crate::recovery::Need;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::{Mono, Wall};
use crate::words::{count, utc};

/// Answers to probes that are on their way get so long.
const MARGIN: Duration = Duration::from_secs(1);
/// Visitors that were turned away for want of room so lately point at overload.
const SHED_SPAN: Duration = Duration::from_secs(10);

/// Who answered so many visitors well in so long, and in the second half of it nobody badly, is not restarted.
const SERVES_LEAST: u64 = 5;
const SERVES_SPAN: Duration = Duration::from_secs(2);

/// Why something is not done, although it is needed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// Mainstay may not see what it believes to see.
    Doubt,
    /// The service was switched away from it.
    SwitchedAway,
    /// This is being done about the service already. Lasts a moment, and is not told.
    Busy(Holder),
    /// Nobody else would be left.
    LastHealthy,
    /// A release is on its way, or an incident is open.
    Unsettled,
    /// There is more to do than the service can do.
    Overload(ServiceId),
    /// Few addresses ask for more than the service can do.
    Attack(ServiceId),
    /// It answers visitors at this moment: so many of them well, in the last seconds.
    Serves(u64),
    /// Something that the service needs fails, in this incident.
    Dependency(IncidentId),
    /// What happened has this cause, which has nothing to do with what is to be done about it.
    OtherCause(Cause),
    /// So many servers of the service answer, and none of them well.
    Alike(usize),
    /// This server was restarted for the same, and is no better.
    DidNotHelp(ServerId),
    /// So many of all supervised servers were restarted within the hour.
    FleetLimit {
        restarted: usize,
        of: usize,
    },
    /// A drill made the fault.
    Drill,
    /// It has still to be seen whether it is another one's fault. Lasts a moment, and is not told.
    Undecided,
    /// Whether the last restart of this server was carried out is not known: why.
    Unclear(ServerId, String),
    /// It is in this maintenance window.
    Window {
        until: Wall,
        window: String,
    },
    Frozen(Freeze),
}

/// What is being done about a service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Holder {
    /// This server is being started or replaced, or has yet to answer after it.
    Server(ServerId),
    /// Its `switch` command runs.
    Switch,
    /// This instance is made in the place of a server, or has yet to be well.
    Substitute(ServerId),
    /// A release is on its way.
    Release,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Server(server) => write!(f, "{} is being started anew", server.name),
            Holder::Switch => f.write_str("the switch command runs"),
            Holder::Substitute(instance) => write!(f, "{} is being made", instance.name),
            Holder::Release => f.write_str("a release is on its way"),
        }
    }
}

impl Refusal {
    /// Nothing that Mainstay may do would mend it: a person has to look elsewhere.
    fn advice(&self, service: &ServiceId) -> Option<String> {
        match self {
            Refusal::Alike(_) => Some(format!(
                "Look at what the servers of {service} need: they answer, and none of them well. Mainstay restarts none for \
                 that"
            )),
            Refusal::DidNotHelp(server) => Some(format!(
                "Look at what the servers of {service} need: a restart of {} did not help, so Mainstay restarts no other for \
                 the same",
                server.name
            )),
            Refusal::FleetLimit { restarted, of } => Some(format!(
                "Look at what the servers have in common: {restarted} of {of} were restarted within the hour, and Mainstay \
                 restarts no other by itself. Set one to ready, and it may"
            )),
            Refusal::Unclear(server, _) => Some(format!(
                "See whether {} was restarted, and restart it yourself if it was not. Once its probes are good, or you set \
                 it to ready, Mainstay looks after it again",
                server.name
            )),
            _ => None,
        }
    }

    /// What a person who approves a proposal knows better. What is no judgement of Mainstay's holds for people too: what is being
    /// done already, what would leave nobody, and who was switched away from; and what is decided in a moment is waited for.
    pub(crate) fn yields_to_a_person(&self) -> bool {
        match self {
            Refusal::Doubt
            | Refusal::Overload(_)
            | Refusal::Attack(_)
            | Refusal::Serves(_)
            | Refusal::Dependency(_)
            | Refusal::OtherCause(_)
            | Refusal::Alike(_)
            | Refusal::DidNotHelp(_)
            | Refusal::FleetLimit { .. }
            | Refusal::Window { .. }
            | Refusal::Frozen(_) => true,
            Refusal::SwitchedAway
            | Refusal::Busy(_)
            | Refusal::Drill
            | Refusal::LastHealthy
            | Refusal::Unsettled
            | Refusal::Unclear(..)
            | Refusal::Undecided => false,
        }
    }

    pub(crate) fn is_told(&self) -> bool {
        !matches!(self, Refusal::Undecided | Refusal::Busy(_))
    }

    /// The same again, with other numbers.
    pub(crate) fn is_like(&self, other: &Refusal) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Doubt => f.write_str("Mainstay doubts what it sees"),
            Refusal::Busy(holder) => holder.fmt(f),
            Refusal::LastHealthy => f.write_str("nobody else would be left"),
            Refusal::Unsettled => f.write_str("an incident is open, or a release is on its way"),
            Refusal::SwitchedAway => {
                f.write_str("the service was switched away from it; go back when it is to serve again")
            }
            Refusal::Overload(service) => {
                write!(f, "{service} is overloaded, and needs all the capacity that it has")
            }
            Refusal::Attack(service) => {
                write!(f, "{service} is under attack, and needs all the capacity that it has")
            }
            Refusal::Serves(answers) => {
                let answers = count(*answers, "visitor");
                write!(f, "it answered {answers} well in the last two seconds")
            }
            Refusal::OtherCause(cause) => write!(f, "it is put down to {}", cause.in_words()),
            Refusal::Dependency(root) => write!(f, "something that it needs fails (incident {root})"),
            Refusal::Alike(servers) => {
                let servers = count(*servers as u64, "server");
                write!(f, "all {servers} answer and none of them well, so it is something that they need")
            }
            Refusal::DidNotHelp(server) => {
                write!(f, "a restart of {} for the same did not help", server.name)
            }
            Refusal::FleetLimit { restarted, of } => {
                write!(
                    f,
                    "{restarted} of {of} servers were restarted within the hour, which is a third of them"
                )
            }
            Refusal::Unclear(_, why) => {
                write!(f, "whether it was restarted is not known ({why}), and that is not repeated blindly")
            }
            Refusal::Drill => f.write_str("a drill made the fault"),
            Refusal::Undecided => f.write_str("it has still to be seen whether it is another one's fault"),
            Refusal::Window { until, window } => {
                write!(f, "it is in maintenance until {} (window {window})", utc(*until))
            }
            Refusal::Frozen(freeze) => freeze.fmt(f),
        }
    }
}

impl Service {
    /// Whether a server may be started anew now, as far as its budget does not say otherwise.
    pub(super) fn may_restart(&mut self, id: &ServerId, need: &Need, out: &Out) -> Result<(), Refusal> {
        let now = out.now.mono;
        self.heed_likeness(now);
        let Some(server) = self.servers.get(id) else { return Ok(()) };
        if self.is_kept_down(id, server) {
            return Err(Refusal::SwitchedAway);
        }
        if *need == Need::Start {
            return Ok(());
        }
        if let Some(why) = server.recovery.outside.unclear() {
            return Err(Refusal::Unclear(id.clone(), why.to_owned()));
        }
        // One that somebody else started is never surely gone.
        let may_live = need.is_alive() || !server.policy.supervised;
        if need.is_alive() {
            self.strained(server, now)?;
        }
        if may_live && let Some(answers) = self.serves(server, now) {
            return Err(Refusal::Serves(answers));
        }
        if may_live {
            self.fault_of_a_need()?;
        }
        if matches!(need, Need::Ill(_)) {
            self.fault_of_all(id, now)?;
        }
        if may_live
            && !server.recovery.by_person
            && let Some(restarted) = out.fleet.is_spent_for(id, now)
        {
            return Err(Refusal::FleetLimit { restarted, of: out.fleet.servers });
        }
        if server.recovery.attempts > 0 && self.release_is_suspect(server, now).is_some() {
            return Err(Refusal::Undecided);
        }
        if let Some(window) = self.server_in_window(id, server, out) {
            return Err(Refusal::Window { until: window.until, window: window.window.to_string() });
        }
        not_frozen(out)?;
        sees(out)
    }

    /// Whether it is this server's turn: nothing else is being done about the service.
    pub(super) fn has_its_turn(&self, id: &ServerId, need: &Need, now: Mono) -> Result<(), Refusal> {
        let Some(server) = self.servers.get(id) else { return Ok(()) };
        let may_live = need.is_alive() || !server.policy.supervised;
        if let Some(one) = self.substitutes.under_way()
            && (may_live || one.instead_of == *id)
        {
            return Err(Refusal::Busy(Holder::Substitute(one.id.clone())));
        }
        if !may_live && server.recovery.attempts == 0 {
            return Ok(());
        }
        let busy = |s: &Server| {
            s.recovery.pending.is_some()
                || s.recovery.outside.is_looking()
                || may_live && (s.is_starting(&self.policy, now) || s.is_being_replaced())
        };
        let others = self.servers.iter().filter(|(other, _)| !self.substitutes.keeps_aside(other));
        if let Some((other, _)) = others.into_iter().find(|(other, s)| *other != id && busy(s)) {
            return Err(Refusal::Busy(Holder::Server(other.clone())));
        }
        self.no_switch_runs()
    }

    /// Whether a server that cannot be brought back may be replaced by a new instance.
    pub(crate) fn may_replace(&mut self, id: &ServerId, out: &Out) -> Result<(), Refusal> {
        let now = out.now.mono;
        self.heed_likeness(now);
        let Some(server) = self.servers.get(id) else { return Ok(()) };
        if self.is_kept_down(id, server) {
            return Err(Refusal::SwitchedAway);
        }
        // Before what a person may override.
        self.nothing_else_is_done(id, now)?;
        if let Some(why) = server.recovery.outside.unclear() {
            return Err(Refusal::Unclear(id.clone(), why.to_owned()));
        }
        self.strained(server, now)?;
        self.bears_its_load()?;
        if let Some(answers) = self.serves(server, now) {
            return Err(Refusal::Serves(answers));
        }
        self.fault_of_a_need()?;
        if server.answers_badly() {
            self.fault_of_all(id, now)?;
        }
        if let Some(restarted) = out.fleet.is_spent_for(id, now) {
            return Err(Refusal::FleetLimit { restarted, of: out.fleet.servers });
        }
        if self.release_is_suspect(server, now).is_some() {
            return Err(Refusal::Undecided);
        }
        if let Some(window) = self.server_in_window(id, server, out) {
            return Err(Refusal::Window { until: window.until, window: window.window.to_string() });
        }
        not_frozen(out)?;
        sees(out)
    }

    /// Nothing else is being done about the service than to replace this server.
    fn nothing_else_is_done(&self, id: &ServerId, now: Mono) -> Result<(), Refusal> {
        if let Some(one) = self.substitutes.under_way() {
            return Err(Refusal::Busy(Holder::Substitute(one.id.clone())));
        }
        if self.releases.deployment.is_some() {
            return Err(Refusal::Busy(Holder::Release));
        }
        let busy = |s: &Server| {
            s.recovery.pending.is_some()
                || s.recovery.outside.is_looking()
                || s.is_starting(&self.policy, now)
        };
        let mut others = self.servers.iter().filter(|(other, _)| !self.substitutes.keeps_aside(other));
        if let Some((other, _)) = others.find(|(other, s)| *other != id && busy(s)) {
            return Err(Refusal::Busy(Holder::Server(other.clone())));
        }
        self.no_switch_runs()
    }

    /// Whether the release before may take the place of the current one without a person.
    pub(crate) fn may_go_back(&self, out: &Out) -> Result<(), Refusal> {
        // Before what a person may override.
        self.no_switch_runs()?;
        if self.incident.as_ref().is_some_and(|open| open.incident().drill.is_some()) {
            return Err(Refusal::Drill);
        }
        self.fault_of_a_need()?;
        self.bears_its_load()?;
        let since = Mono(out.now.mono.0.saturating_sub(u64::try_from(SHED_SPAN.as_nanos()).unwrap_or(0)));
        if self.load.strain().is_none() && self.visitors.saw(since, out.now.mono).shed > 0 {
            return Err(Refusal::Overload(self.id.clone()));
        }
        let cause =
            self.incident.as_ref().and_then(|open| open.incident().diagnosis.as_ref()).map(|d| d.cause);
        if let Some(cause) =
            cause.filter(|cause| !matches!(cause, Cause::Crash | Cause::BadUpdate | Cause::Unknown))
        {
            return Err(Refusal::OtherCause(cause));
        }
        not_frozen(out)?;
        sees(out)
    }

    /// Whether a release that has passed may take the place of the current one without a person.
    pub(crate) fn may_promote(&self, out: &Out) -> Result<(), Refusal> {
        not_frozen(out)?;
        sees(out)
    }

    /// Whether the `switch` command may be run, or a person asked to. A freeze makes that a person's decision.
    pub(crate) fn may_switch(&self, out: &Out) -> Result<(), Refusal> {
        let restarted = |s: &Server| s.is_primary() && s.recovery.pending.is_some();
        // Before what a person may override.
        if let Some((id, _)) = self.servers.iter().find(|(_, s)| restarted(s)) {
            return Err(Refusal::Busy(Holder::Server(id.clone())));
        }
        sees(out)?;
        if let Some(window) = self.in_window(out) {
            return Err(Refusal::Window { until: window.until, window: window.window.to_string() });
        }
        self.fault_of_a_need()?;
        self.bears_its_load()
    }

    /// Whether the number of instances may be changed at all.
    pub(crate) fn may_scale(&self, out: &Out) -> Result<(), Refusal> {
        not_frozen(out)?;
        sees(out)
    }

    /// Whether this instance may be taken away.
    pub(crate) fn may_take_away(&self, id: &ServerId) -> Result<(), Refusal> {
        if self.incident.is_some() || self.releases.deployment.is_some() {
            return Err(Refusal::Unsettled);
        }
        self.leaves_somebody(id)
    }

    /// Somebody else carries traffic, or this one carries none.
    pub(crate) fn leaves_somebody(&self, id: &ServerId) -> Result<(), Refusal> {
        let carries = self.servers.get(id).is_some_and(|s| s.eligible);
        let another = self.servers.iter().any(|(other, s)| other != id && s.eligible);
        if carries && !another { Err(Refusal::LastHealthy) } else { Ok(()) }
    }

    /// When what is refused now is to be asked again without another input.
    pub(super) fn asked_again_at(&self, server: &Server, out: &Out) -> Option<Mono> {
        let now = out.now.mono;
        if let Some(Refusal::FleetLimit { .. }) = server.recovery.refused {
            return out.fleet.room_at(now);
        }
        if let Some(Refusal::Doubt | Refusal::Serves(_)) = server.recovery.refused {
            return Some(now + MARGIN);
        }
        let looked = server.probes.run_since.map(|since| since + self.time_to_decide());
        let suspect = self.release_is_suspect(server, now);
        [self.withheld_until(server, now), self.alike_until, looked, suspect]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// It would make it worse, or mend nothing. Said once a spell.
    pub(super) fn withhold(&mut self, id: &ServerId, refusal: Refusal, out: &mut Out) {
        let advice = refusal.advice(&self.id);
        let Some(server) = self.servers.get_mut(id) else { return };
        server.recovery.due = None;
        let before = server.recovery.refused.replace(refusal.clone());
        if !refusal.is_told() || before.is_some_and(|before| before.is_like(&refusal)) {
            return;
        }
        server.changed(out.now.wall, format!("not restarted: {refusal}"));
        let Some(open) = &mut self.incident else { return };
        let text = format!("{} is not restarted: {refusal}", id.name);
        open.entry(EntryKind::Withheld, Some(id), None, text, out);
        // Before that it is said in the first message.
        if let Some(advice) = advice.filter(|_| open.told.opened()) {
            open.tell_needs_person(advice, out);
        }
    }

    /// What a person should do where nothing is restarted; `None`: something may be.
    pub(crate) fn advice_where_refused(&self) -> Option<String> {
        let refused = self.servers.values().filter_map(|s| s.recovery.refused.as_ref());
        refused.filter_map(|refusal| refusal.advice(&self.id)).next()
    }

    fn no_switch_runs(&self) -> Result<(), Refusal> {
        let runs = self.present_switch().is_some_and(|switch| switch.is_running());
        if runs { Err(Refusal::Busy(Holder::Switch)) } else { Ok(()) }
    }

    /// It is not asked for more than it can do. Too little capacity because servers fail is something else.
    fn bears_its_load(&self) -> Result<(), Refusal> {
        let strain = self.load.strain().filter(|e| e.strain != Strain::LostCapacity);
        strain.map_or(Ok(()), |established| Err(self.refused_for(established.strain)))
    }

    fn strained(&self, server: &Server, now: Mono) -> Result<(), Refusal> {
        self.withholds_restart(server, now).map_or(Ok(()), |strain| Err(self.refused_for(strain)))
    }

    /// How many visitors it answered lately, since its probes fail, if that is enough to take it for well at this moment. It may be too
    /// little to call its check wrong, or it may only just have begun.
    fn serves(&self, server: &Server, now: Mono) -> Option<u64> {
        let away = server.probes.last_result.as_ref().is_some_and(|failure| failure.is_away());
        if away || !self.policy.traffic_hears_the_server() {
            return None;
        }
        let since = server.probes.run_since?.max(now.before(SERVES_SPAN));
        let counts = server.traffic.counts_since(since, now);
        let well = counts.attempts - counts.bad();
        let badly = server.traffic.counts_since(since.max(now.before(SERVES_SPAN / 2)), now).bad();
        (well >= SERVES_LEAST && badly == 0).then_some(well)
    }

    fn refused_for(&self, strain: Strain) -> Refusal {
        match strain {
            Strain::Attack => Refusal::Attack(self.id.clone()),
            Strain::Overload | Strain::LostCapacity => Refusal::Overload(self.id.clone()),
        }
    }

    /// It is known what is at fault, or will be in a moment.
    fn fault_of_a_need(&self) -> Result<(), Refusal> {
        let Some(open) = &self.incident else { return Ok(()) };
        match open.incident().part_of {
            Some(root) => Err(Refusal::Dependency(root)),
            None if !self.policy.needs.is_empty() && open.may_be_anothers_fault() => Err(Refusal::Undecided),
            None => Ok(()),
        }
    }

    /// A server answers badly: so do all others, or that is not known yet; or a restart of another one did not help.
    fn fault_of_all(&self, id: &ServerId, now: Mono) -> Result<(), Refusal> {
        if self.alike_until.is_some_and(|until| now < until) {
            return Err(Refusal::Alike(
                self.servers.values().filter(|s| s.is_ready() && s.answers_badly()).count(),
            ));
        }
        let tried = |s: &Server| {
            s.is_ready()
                && s.recovery.tried
                && s.recovery.pending.is_none()
                && !s.is_starting(&self.policy, now)
        };
        let wanted = self.servers.get(id).is_some_and(|s| s.recovery.by_person);
        if let Some((other, _)) = self.servers.iter().find(|(other, s)| *other != id && !wanted && tried(s)) {
            return Err(Refusal::DidNotHelp(other.clone()));
        }
        let since = self.servers.get(id).and_then(|server| server.probes.run_since);
        let Some(since) = since.filter(|since| now < *since + self.time_to_decide()) else { return Ok(()) };
        let undecided = |s: &Server| {
            let looked = s.probes.verdict == Verdict::Bad
                || s.probes.failed_in_row == 0 && s.probes.good_ordered_at >= since;
            s.is_ready() && s.is_reachable() && !looked
        };
        match self.servers.iter().any(|(other, s)| other != id && undecided(s)) {
            true => Err(Refusal::Undecided),
            false => Ok(()),
        }
    }

    /// Remembers whether all servers answer badly alike, for as long as they take to come back once that is over.
    fn heed_likeness(&mut self, now: Mono) {
        let mut ready = self.servers.values().filter(|s| s.is_ready());
        let none_is_good = !ready.clone().any(|s| s.probes.verdict == Verdict::Good && !s.at_fault);
        if none_is_good && ready.by_ref().filter(|s| s.answers_badly()).count() > 1 {
            self.alike_until = Some(now + self.time_to_decide());
        } else if self.alike_until.is_some_and(|until| now >= until) {
            self.alike_until = None;
        }
    }

    /// Within so long every server was looked at, and often enough to be sure.
    fn time_to_decide(&self) -> Duration {
        let health = &self.policy.health;
        let often = health.fall.max(health.rise).max(1);
        health.interval + (health.reprobe + health.timeout).saturating_mul(often) + MARGIN
    }
}

fn not_frozen(out: &Out) -> Result<(), Refusal> {
    out.frozen().map_or(Ok(()), |freeze| Err(Refusal::Frozen(freeze.clone())))
}

fn sees(out: &Out) -> Result<(), Refusal> {
    if out.sight.is_doubted(out.now.mono) { Err(Refusal::Doubt) } else { Ok(()) }
}
