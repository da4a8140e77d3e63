//! All that is known of one server: the state that `health`, `traffic`, `rotation` and `recovery` work on.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::comeback::Comeback;
use crate::endpoint::Endpoint;
use crate::flap::Flaps;
use crate::incident::TimelineEntry;
use crate::input::{AdminState, Exit, ProbeFailure};
use crate::lead::Data;
use crate::monitor::OutOf;
use crate::pace::Pace;
use crate::policy::{HealthPolicy, Role, ServerPolicy, ServicePolicy};
use crate::recovery::Recovery;
use crate::snapshot::{Health, LastProbe, StateChange};
use crate::time::{Mono, Now, Wall};
use crate::traffic::{Counts, Ring, Traffic};
use crate::witness::Witnesses;

/// Changes that are kept for `why`.
const CHANGES_MAX: usize = 10;
/// Bad answers to visitors that are kept for an incident that may come.
const ANSWERS_MAX: usize = 2;
/// First signs that are kept until an incident is opened; more of them say nothing more.
const SIGNS_MAX: usize = 16;

/// Where a server comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The config names it.
    Config,
    /// One more instance of this server, that runs another release for the time of a deploy.
    Beside(Arc<str>),
    /// One more instance of this server, because one is not enough.
    Scaled(Arc<str>),
    /// It takes the place of a server that cannot be brought back, and is started with this one's command if Mainstay starts it.
    Substitute(Arc<str>),
}

impl Origin {
    /// The server of the config whose command it is started with.
    pub(crate) fn template<'a>(&'a self, own: &'a Arc<str>) -> &'a Arc<str> {
        match self {
            Origin::Config => own,
            Origin::Beside(template) | Origin::Scaled(template) | Origin::Substitute(template) => template,
        }
    }
}

/// What Mainstay itself wants of a server, beside what a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It serves like any other.
    Serves,
    /// It runs a release on trial: it is judged by the trial alone, and gets its share by chance.
    Trial,
    /// It gets nothing new since then: it is to be replaced or stopped, or has yet to come up.
    Aside(Mono),
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) origin: Origin,
    pub(crate) standing: Standing,
    /// What it is where that does not stand in the config: of servers that keep state, by what they say of themselves.
    pub(crate) acts_as: Option<Role>,
    /// What it said of its data.
    pub(crate) data: Option<Data>,
    /// The release that it was last started with.
    pub(crate) release: Option<u64>,
    /// The last line that its process wrote before it ended by itself.
    pub(crate) last_line: Option<String>,
    pub(crate) policy: ServerPolicy,
    pub(crate) address: Option<Endpoint>,
    pub(crate) admin: AdminState,
    /// When a person said so; of an earlier run's word, when this run took it up.
    pub(crate) admin_since: Option<Now>,
    pub(crate) probes: Probes,
    pub(crate) traffic: Traffic,
    /// Requests to it, as far back as whether an action helped is judged by them.
    pub(crate) lately: Ring<Counts>,
    /// Out of rotation for real traffic's sake.
    pub(crate) ejection: Option<Ejection>,
    /// Ejections in a row, for the doubling.
    pub(crate) ejections: u32,
    /// Traffic speaks against it, but it is the last server of its service and stays.
    pub(crate) condemned: Option<String>,
    /// How it answers beside its own past.
    pub(crate) pace: Pace,
    /// Where probes and real requests contradict one another.
    pub(crate) witnesses: Witnesses,
    /// It is silent, and Mainstay sees nothing at all.
    pub(crate) unseen: bool,
    /// How often it went down and came back.
    pub(crate) flaps: Flaps,
    pub(crate) process: Process,
    pub(crate) recovery: Recovery,
    pub(crate) health: Health,
    pub(crate) health_since: Wall,
    /// Since when it has been Healthy without a break.
    pub(crate) good_since: Option<Mono>,
    /// Why its health is what it is.
    pub(crate) rule: String,
    /// It is new or was just started: not in rotation before its first good probe or this time, unless it is needed.
    pub(crate) hold_until: Option<Mono>,
    /// It is in trouble which is no person's wish; it takes part in the service's incident.
    pub(crate) at_fault: bool,
    /// It is in a maintenance window, by itself or with its service.
    pub(crate) excused: bool,
    /// It may carry traffic: ready, with an address, and neither unhealthy nor ejected nor held back.
    pub(crate) eligible: bool,
    /// It left rotation, and that was not yet put down to a fault: the address of a process that ended may go before
    /// the word that it ended comes.
    pub(crate) left_unexplained: bool,
    /// It was there from the first policy of this run and has not been eligible yet: it enters without slow start.
    pub(crate) fresh: bool,
    /// When its slow start began.
    pub(crate) slow_since: Option<Mono>,
    /// How it does in that beside the others.
    pub(crate) comeback: Option<Comeback>,
    /// When it last became eligible.
    pub(crate) eligible_since: Option<Mono>,
    /// Its return is not confirmed by real requests yet.
    pub(crate) unconfirmed: bool,
    signs: VecDeque<(Mono, TimelineEntry)>,
    /// The last bad answers to visitors, oldest first; they are no signs, because every server answers badly now and then.
    answers: VecDeque<(Mono, TimelineEntry)>,
    pub(crate) changes: VecDeque<StateChange>,
}

impl Server {
    pub(crate) fn new(policy: ServerPolicy, service: &ServicePolicy, now: Now) -> Self {
        let supervised = policy.supervised;
        Self {
            origin: Origin::Config,
            standing: Standing::Serves,
            acts_as: None,
            data: None,
            release: None,
            last_line: None,
            policy,
            address: None,
            admin: AdminState::default(),
            admin_since: None,
            probes: Probes::default(),
            traffic: Traffic::new(&service.traffic),
            lately: crate::helped::lately(&service.recovery),
            ejection: None,
            ejections: 0,
            condemned: None,
            pace: Pace::default(),
            witnesses: Witnesses::default(),
            unseen: false,
            flaps: Flaps::default(),
            process: Process { since: now.wall, ..Process::default() },
            recovery: Recovery::new(supervised),
            health: Health::Unknown,
            health_since: now.wall,
            good_since: None,
            rule: "it has not been looked at yet".to_owned(),
            hold_until: None,
            at_fault: false,
            excused: false,
            eligible: false,
            left_unexplained: false,
            fresh: true,
            slow_since: None,
            comeback: None,
            eligible_since: None,
            unconfirmed: false,
            signs: VecDeque::new(),
            answers: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    /// It is to serve, by a person's wish and by Mainstay's own.
    pub(crate) fn is_ready(&self) -> bool {
        self.admin == AdminState::Ready && self.standing == Standing::Serves
    }

    /// It runs a release on trial and may be given its share.
    pub(crate) fn may_be_tried(&self) -> bool {
        self.admin == AdminState::Ready
            && self.standing == Standing::Trial
            && self.is_reachable()
            && self.probes.verdict == Verdict::Good
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.acts_as.unwrap_or(self.policy.role) == Role::Primary
    }

    /// It is supervised and its process is known not to run.
    pub(crate) fn is_ended(&self) -> bool {
        self.policy.supervised && self.process.pid.is_none() && self.process.ended.is_some()
    }

    /// Its probes are answered, in words that are not good.
    pub(crate) fn answers_badly(&self) -> bool {
        self.probes.verdict == Verdict::Bad
            && !self.probes.of_life
            && self.probes.last_result.as_ref().is_some_and(ProbeFailure::is_an_answer)
    }

    /// It gets nothing new, because it is to be ended or replaced.
    pub(crate) fn is_being_replaced(&self) -> bool {
        matches!(self.standing, Standing::Aside(_)) && self.origin == Origin::Config
    }

    /// Its process was started, or somebody was told to restart it, and it may still take its time until the first good probe.
    pub(crate) fn is_starting(&self, service: &ServicePolicy, now: Mono) -> bool {
        let was_started =
            if self.policy.supervised { self.process.pid.is_some() } else { self.recovery.outside.restarted };
        was_started && !self.probes.passed && now < self.process.grace_from + service.recovery.start_grace
    }

    /// Requests can be sent to it: it has an address, and a process if it is supervised.
    pub(crate) fn is_reachable(&self) -> bool {
        self.address.is_some() && (!self.policy.supervised || self.process.pid.is_some())
    }

    /// It may carry traffic, whatever the state of its fellows.
    pub(crate) fn may_serve(&self) -> bool {
        self.is_ready()
            && self.is_reachable()
            && self.ejection.is_none()
            && self.health != Health::Unhealthy
            && self.hold_until.is_none()
            && self.flaps.held_until().is_none()
    }

    /// Remembers a change for `why`.
    pub(crate) fn changed(&mut self, at: Wall, text: String) {
        self.changes.push_front(StateChange { at, text });
        self.changes.truncate(CHANGES_MAX);
    }

    /// Keeps a sign that may turn out to have been the first of an incident; alike ones are folded.
    pub(crate) fn sign(&mut self, sign: TimelineEntry, now: Mono) {
        let alike = |e: &TimelineEntry| e.kind == sign.kind && e.text == sign.text;
        if let Some((_, known)) = self.signs.iter_mut().find(|(_, e)| alike(e)) {
            known.times = known.times.saturating_add(1);
            known.sample = known.sample.take().or(sign.sample);
            return;
        }
        if self.signs.len() == SIGNS_MAX {
            self.signs.pop_back();
        }
        self.signs.push_back((now, sign));
    }

    /// It is healthy, or nothing is wrong with it but what a good probe warns of, or its check itself.
    pub(crate) fn is_well(&self) -> bool {
        self.health == Health::Healthy || self.is_only_warned_of()
    }

    /// A good probe warns of something, or its check is wrong, and nobody else complains.
    pub(crate) fn is_only_warned_of(&self) -> bool {
        let undisputed = self.ejection.is_none()
            && self.condemned.is_none()
            && self.pace.slowed().is_none()
            && self.flaps.held_until().is_none()
            && !self.is_ended();
        let warned = self.probes.verdict == Verdict::Good && self.probes.warning.is_some();
        undisputed && (warned || self.witnesses.check_wrong.is_some())
    }

    /// Nothing is wrong with it but that it is slower than it usually is.
    pub(crate) fn is_only_slow(&self) -> bool {
        let undisputed =
            self.ejection.is_none() && self.condemned.is_none() && self.flaps.held_until().is_none();
        undisputed && self.pace.slowed().is_some() && self.health != Health::Unhealthy
    }

    /// Keeps a bad answer for an incident that may come of it.
    pub(crate) fn keep_answer(&mut self, answer: TimelineEntry, now: Mono) {
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((now, answer));
    }

    /// Hands out the bad answers since `from`, oldest first, and forgets all.
    pub(crate) fn take_answers(&mut self, from: Mono) -> impl Iterator<Item = (Mono, TimelineEntry)> {
        self.answers.drain(..).filter(move |(at, _)| *at >= from)
    }

    /// Hands out the signs since `from`, oldest first, and forgets all.
    pub(crate) fn take_signs(&mut self, from: Mono) -> Vec<(Mono, TimelineEntry)> {
        self.signs.drain(..).filter(|(at, _)| *at >= from).collect()
    }

    /// When the first sign since `from` was seen.
    pub(crate) fn first_sign(&self, from: Mono) -> Option<Mono> {
        self.signs.iter().map(|(at, _)| *at).filter(|at| *at >= from).min()
    }

    pub(crate) fn forget_signs(&mut self) {
        self.signs.clear();
    }

    pub(crate) fn signs_len(&self) -> usize {
        self.signs.len() + self.answers.len()
    }
}

/// What the probes say.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    pub(crate) verdict: Verdict,
    /// How the verdict came about.
    pub(crate) because: String,
    pub(crate) good_in_row: u32,
    pub(crate) failed_in_row: u32,
    /// The last ones since the verdict was last good, the newest lowest: 1 failed.
    pub(crate) recent: u32,
    /// Every failure of the present run was a refused connection.
    pub(crate) all_refused: bool,
    /// The last failure was told by somebody else of its container or unit.
    pub(crate) of_life: bool,
    /// When the first failure of the present run came in.
    pub(crate) run_since: Option<Mono>,
    /// A probe was good since the process was started, or since the server is known.
    pub(crate) passed: bool,
    pub(crate) next_at: Option<Mono>,
    pub(crate) ordered_at: Mono,
    /// When the last was ordered that asks for what the config says.
    pub(crate) probed_at: Mono,
    /// So many questions of a trial were answered, or not.
    pub(crate) asked: u32,
    /// When the last good one was ordered.
    pub(crate) good_ordered_at: Mono,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) last: Option<LastProbe>,
    pub(crate) last_failure: Option<String>,
    /// The last failure as it came in; `None` when the last probe was good.
    pub(crate) last_result: Option<ProbeFailure>,
    /// What a good probe warned of.
    pub(crate) warning: Option<String>,
    /// Why Mainstay could not look the last time it tried; says nothing about the server.
    pub(crate) not_probed: Option<String>,
}

impl Probes {
    /// How many failed of so many, if that is something to go by.
    pub(crate) fn failed_of(&self, fail: Option<OutOf>) -> Option<(u32, OutOf)> {
        let fail = fail?;
        let mask = u32::MAX >> (u32::BITS - fail.of.clamp(1, OutOf::OF_MOST));
        Some(((self.recent & mask).count_ones(), fail))
    }

    /// Enough of the last ones failed, in a row or not.
    pub(crate) fn fail_often(&self, policy: &HealthPolicy) -> Option<(u32, OutOf)> {
        self.failed_of(policy.fail).filter(|(failed, fail)| *failed >= fail.bad)
    }

    /// The last one failed, and with it enough of them.
    pub(crate) fn fail(&self, policy: &HealthPolicy) -> bool {
        let row = self.failed_in_row;
        row >= policy.fall.max(1) || row > 0 && self.fail_often(policy).is_some()
    }

    /// What was seen of an earlier process, or in vain, is forgotten.
    pub(crate) fn start_over(&mut self) {
        (self.good_in_row, self.failed_in_row, self.recent) = (0, 0, 0);
    }
}

/// What the probes made of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verdict {
    #[default]
    Unknown,
    Good,
    Bad,
}

/// A probe under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InFlight {
    /// Past this its answer is not waited for.
    pub(crate) give_up: Mono,
    /// The server moved or was restarted meanwhile: the answer is about something that is no more.
    pub(crate) stale: bool,
    /// It is a request of Mainstay's own, rather than what the config asks for.
    pub(crate) visit: bool,
    /// It is a question of a trial, and says nothing of the server's health.
    pub(crate) asked: bool,
}

/// Out of rotation for real traffic's sake, whatever the probes say.
#[derive(Debug, Clone)]
pub(crate) struct Ejection {
    pub(crate) until: Mono,
    pub(crate) reason: String,
    /// It answers well, but far more slowly than its fellows.
    pub(crate) for_slowness: bool,
}

/// The process of a supervised server.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) pid: Option<u32>,
    /// Since when it runs, or has not.
    pub(crate) since: Wall,
    /// When the time to become ready began.
    pub(crate) grace_from: Mono,
    /// Why it does not run: "was killed by SIGKILL", "could not be started: …"; `None` when it runs or never did.
    pub(crate) ended: Option<String>,
    /// It ended because it was asked to and nothing is under way to start it again.
    pub(crate) asked_down: bool,
    pub(crate) last_exit: Option<Exit>,
    /// Mainstay had asked for the last exit.
    pub(crate) last_exit_asked: bool,
    /// When it last ended.
    pub(crate) ended_at: Option<Mono>,
}
