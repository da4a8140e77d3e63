//! One incident while it is open: its timeline, what of it is written down, and who was told.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::began;
use crate::drill::{OfDrill, QUIET_FOR};
use crate::effect::Record;
use crate::escalation::{Escalation, Steps};
use crate::id::{ActionId, IncidentId, ServerId};
use crate::impact::{Before, Counting, Curve, Impact, Tally};
use crate::incident::{EntryKind, Incident, IncidentState, Scope, Severity, TimelineEntry, VisitorsSaw};
use crate::input::ServiceTraffic;
use crate::needs::{Affected, Tie};
use crate::notices::{SETTLE, Told};
use crate::out::Out;
use crate::policy::Value;
use crate::proposal::Asked;
use crate::sample::Sample;
use crate::time::{Mono, Now, Wall};
use crate::words::{count, span};

/// Counts of visitors are written down no oftener than this.
const SEEN_RECORD_EVERY: Duration = Duration::from_secs(1);
/// Counts of visitors that were hurt are, with each report: what was once shown must not be less after a restart.
const HURT_RECORD_EVERY: Duration = Duration::from_millis(250);
/// Entries of one kind about one server before further ones are folded into the last: a server that flaps all night.
const ALIKE_MAX: usize = 3;
/// The same for entries about no server in particular.
const ALIKE_MAX_GENERAL: usize = 20;
/// Servers that are named as having taken part; an incident that outlives many reloads must not grow without end.
const SERVERS_MAX: usize = 500;
/// How far back an observation is folded into the same one.
const FOLD_BACK: usize = 12;

/// An incident that is not resolved.
#[derive(Debug)]
pub(crate) struct Open {
    incident: Arc<Incident>,
    /// The incident without its timeline, as it was last written down.
    recorded: Option<Incident>,
    recorded_at: Mono,
    /// What it costs; `None` for a part of Mainstay itself.
    counting: Option<Counting>,
    pub(crate) told: Told,
    pub(crate) steps: Steps,
    /// When the first sign was seen.
    pub(crate) began: Mono,
    /// When its diagnosis was last changed.
    pub(crate) diagnosed_at: Option<Mono>,
    /// Since when everything has been good.
    pub(crate) quiet_since: Option<Mono>,
    /// Since when nobody is answered.
    pub(crate) down_since: Option<Mono>,
    /// What it has to do with what its subject needs.
    pub(crate) tie: Tie,
    /// 5xx answers are part of what is wrong, so they count as visitors being hurt.
    pub(crate) errors_count: bool,
    /// What a person is to decide on.
    pub(crate) asked: Vec<Asked>,
    /// When a drill's is more than one, unless it is on its way back by then.
    pub(crate) loud_at: Option<Mono>,
}

/// What an incident begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) scope: Scope,
    pub(crate) title: String,
    pub(crate) servers: Vec<ServerId>,
    /// Connections of a TCP service are counted, not requests.
    pub(crate) connections: bool,
    /// The first sign, if there was one before now.
    pub(crate) began_at: Option<Wall>,
    /// The first signs, oldest first.
    pub(crate) signs: Vec<TimelineEntry>,
}

/// What an incident of a service counts from its beginning on.
#[derive(Debug)]
pub(crate) struct Costs<'a> {
    pub(crate) began: Mono,
    pub(crate) before: &'a Before,
    pub(crate) value: Option<&'a Value>,
}

impl Beginning {
    /// What nothing is known of but this.
    pub(crate) fn of(scope: Scope, title: String) -> Self {
        Self { scope, title, servers: Vec::new(), connections: false, began_at: None, signs: Vec::new() }
    }
}

impl Open {
    /// Opens an incident: its header, the signs that led to it and the decision are written down.
    pub(crate) fn begin(beginning: Beginning, costs: Option<Costs<'_>>, out: &mut Out) -> Self {
        let Now { wall, mono } = out.now;
        let Beginning { scope, title, servers, connections, began_at, signs } = beginning;
        let id = out.next_incident();
        let began_at = began_at.unwrap_or(wall);
        let changes = out.changes.before(&scope, began_at);
        let drill = out.drilled.as_ref().and_then(|drilled| drilled.mark(&scope));
        let incident = Incident {
            id,
            scope,
            title: title.clone(),
            state: IncidentState::Open,
            severity: Severity::Degraded,
            servers,
            began_at,
            opened_at: wall,
            diverted_at: None,
            acted_at: None,
            recovered_at: None,
            resolved_at: None,
            acknowledged: None,
            seen: VisitorsSaw { connections, ..VisitorsSaw::default() },
            impact: Impact::default(),
            curve: Curve::default(),
            diagnosis: None,
            changes,
            escalation: Escalation::default(),
            part_of: None,
            affected: Vec::new(),
            affected_left_out: 0,
            drill,
            timeline: Vec::new(),
            timeline_left_out: 0,
        };
        let mut open = Self {
            began: began(incident.began_at, out.now),
            diagnosed_at: None,
            incident: Arc::new(incident),
            recorded: None,
            recorded_at: mono,
            counting: None,
            told: Told { opened_due: Some(mono + SETTLE), ..Told::default() },
            steps: Steps::default(),
            quiet_since: None,
            down_since: None,
            tie: Tie::default(),
            errors_count: false,
            asked: Vec::new(),
            loud_at: drill
                .filter(|of| of.quiet)
                .and(out.drilled.as_ref())
                .and_then(|drilled| drilled.loud_at),
        };
        if let Some(costs) = costs {
            open.count_from(costs, mono);
        }
        open.write_down(out, true);
        signs.into_iter().for_each(|sign| open.push(sign, out));
        open.entry(EntryKind::Opened, None, None, format!("incident {id} opened: {title}"), out);
        if let Some(of) = open.incident.drill {
            open.entry(EntryKind::Changed, None, None, format!("this is a drill (number {})", of.drill), out);
        }
        open
    }

    /// Goes on with an incident of an earlier run.
    pub(crate) fn restored(mut incident: Incident, tally: Option<Tally>, out: &mut Out) -> Self {
        incident.timeline.truncate(Incident::TIMELINE_MAX);
        incident.recovered_at = None;
        let counting = tally.map(|tally| {
            let age = u64::try_from(out.now.wall.ms_since(incident.began_at)).unwrap_or(0);
            let age = Duration::from_millis(age);
            Counting::resume(tally, &mut incident.curve, &incident.seen, age, out.now.mono)
        });
        let mut told = Told::read_back(&incident.timeline, out.now.mono);
        told.mute(incident.part_of.is_some());
        let steps = Steps::restored(&incident.escalation, out);
        // Who is next is found out again by this run's config.
        incident.escalation.next = None;
        Self {
            began: began(incident.began_at, out.now),
            diagnosed_at: None,
            recorded: None,
            recorded_at: out.now.mono,
            counting,
            told,
            steps,
            quiet_since: None,
            down_since: None,
            tie: Tie::default(),
            errors_count: false,
            asked: Vec::new(),
            loud_at: incident.drill.filter(|of| of.quiet).map(|_| out.now.mono + QUIET_FOR),
            incident: Arc::new(incident),
        }
    }

    pub(crate) fn incident(&self) -> &Arc<Incident> {
        &self.incident
    }

    pub(crate) fn edit(&mut self) -> &mut Incident {
        Arc::make_mut(&mut self.incident)
    }

    /// Counts what was reported since the beginning, and from now on.
    fn count_from(&mut self, costs: Costs<'_>, now: Mono) {
        let Costs { began, before, value } = costs;
        let mut counting = Counting::begin(began, before.usual(now));
        let incident = self.edit();
        for slice in before.since(began) {
            incident.seen.add(&slice.saw);
            counting.count(slice.at, &slice.saw, &slice.hurt, false, &mut incident.curve);
        }
        self.counting = Some(counting);
        self.reckon(value);
    }

    /// Counts what visitors saw in the last interval.
    pub(crate) fn count(&mut self, report: &ServiceTraffic, value: Option<&Value>, now: Mono) {
        let down = self.down_since.is_some();
        let incident = Arc::make_mut(&mut self.incident);
        let saw = VisitorsSaw::of(report);
        incident.seen.add(&saw);
        if let Some(counting) = &mut self.counting {
            counting.count(now, &saw, &report.hurt, down, &mut incident.curve);
        }
        self.reckon(value);
    }

    /// Time has passed, and nobody is answered now, or somebody is.
    pub(crate) fn pass(&mut self, down: bool, value: Option<&Value>, now: Mono) {
        let was_down = self.down_since.is_some();
        self.down_since = down.then(|| self.down_since.unwrap_or(now));
        let Some(counting) = &mut self.counting else { return };
        counting.pass(now, was_down, down);
        if counting.outgrew(&self.incident.curve, now) {
            counting.extend(&mut Arc::make_mut(&mut self.incident).curve, now);
        }
        self.reckon(value);
    }

    /// When the second under way is to be counted, if it costs anything.
    pub(crate) fn count_due(&self) -> Option<Mono> {
        self.counting.as_ref()?.due()
    }

    fn reckon(&mut self, value: Option<&Value>) {
        let Some(counting) = &self.counting else { return };
        let impact = counting.impact(&self.incident.seen, value, &self.incident.impact);
        if impact != self.incident.impact {
            self.edit().impact = impact;
        }
    }

    /// No figure is below what was last written down.
    pub(crate) fn ran_forward(&self) -> bool {
        self.recorded.as_ref().is_none_or(|recorded| {
            let (now, before) = (&self.incident.impact, &recorded.impact);
            self.incident.seen.is_at_least(&recorded.seen)
                && now.visitors >= before.visitors
                && now.hurt_seconds >= before.hurt_seconds
                && now.down_seconds >= before.down_seconds
                && now.lost_ms >= before.lost_ms
        })
    }

    /// It is another one's fault: that one is told of.
    pub(crate) fn become_part_of(&mut self, root: IncidentId) {
        self.edit().part_of = Some(root);
        self.told.mute(true);
        self.no_next_step();
    }

    /// It is told of by itself from now on, and put down to what it shows itself.
    pub(crate) fn goes_on_alone(&mut self, out: &Out) {
        let incident = self.edit();
        incident.part_of = None;
        incident.diagnosis = None;
        self.told.mute(false);
        self.told.opened_due = self.told.opened_due.map(|_| out.now.mono + SETTLE);
        self.steps.renew();
    }

    /// A drill led to it, and people are not told.
    pub(crate) fn is_quiet_drill(&self) -> bool {
        self.incident.drill.is_some_and(|of| of.quiet)
    }

    /// Says that it is more than a drill when it is not on its way back in time.
    pub(crate) fn is_drill_for_how_long(&mut self, out: &mut Out) {
        let now = out.now.mono;
        match self.loud_at {
            Some(at) if now >= at && self.quiet_since.is_some() => self.loud_at = Some(now + QUIET_FOR),
            Some(at) if now >= at => {
                let why = format!("it is not well {} after the fault", span(QUIET_FOR));
                self.is_no_drill_any_more(why, out);
            }
            _ => {}
        }
    }

    /// It is more than a drill: people are told of it like of any other.
    fn is_no_drill_any_more(&mut self, why: String, out: &mut Out) {
        self.loud_at = None;
        let Some(of) = self.incident.drill.filter(|of| of.quiet) else { return };
        self.edit().drill = Some(OfDrill { quiet: false, ..of });
        self.entry(EntryKind::Changed, None, None, format!("no longer taken for a drill: {why}"), out);
        self.told = Told { opened_due: Some(out.now.mono), muted: self.told.muted, ..Told::default() };
        self.steps.renew();
        self.write_down(out, true);
    }

    /// Something else fails because of it.
    pub(crate) fn affects(&mut self, affected: Affected) {
        let incident = self.edit();
        match incident.affected.len() {
            ..Affected::MOST => incident.affected.push(affected),
            _ => incident.affected_left_out += 1,
        }
    }

    /// What is written down in this incident does not any more.
    pub(crate) fn affects_no_more(&mut self, id: IncidentId, at: Wall) {
        let affected = self.edit().affected.iter_mut().filter(|affected| affected.incident == id);
        affected.for_each(|affected| affected.until = affected.until.or(Some(at)));
    }

    /// A server takes part from now on.
    pub(crate) fn join(&mut self, server: &ServerId, title: &str) {
        if self.incident.servers.contains(server) || self.incident.servers.len() >= SERVERS_MAX {
            return;
        }
        let incident = self.edit();
        incident.servers.push(server.clone());
        incident.title = match incident.servers.len() - 1 {
            0 => title.to_owned(),
            more => {
                format!("{}, and {}", base_title(&incident.title), count(more as u64, "more server"))
            }
        };
    }

    /// The title says more than it did, if it is still this one.
    pub(crate) fn rename(&mut self, before: &str, title: String) {
        if base_title(&self.incident.title) == before {
            let more = self.incident.title[before.len()..].to_owned();
            self.edit().title = title + &more;
        }
    }

    /// The title says something else of this server, if it is about it.
    pub(crate) fn retitle(&mut self, whose: &str, title: String) {
        let base = base_title(&self.incident.title);
        if base.starts_with(whose) {
            let more = self.incident.title[base.len()..].to_owned();
            self.edit().title = title + &more;
        }
    }

    /// Adds what happened just now to the timeline.
    pub(crate) fn entry(
        &mut self,
        kind: EntryKind,
        server: Option<&ServerId>,
        action: Option<ActionId>,
        text: String,
        out: &mut Out,
    ) {
        let at = out.now.wall;
        let server = server.cloned();
        self.push(TimelineEntry { at, kind, server, action, text, times: 1, sample: None }, out);
    }

    /// Adds an entry to the timeline, or to one that says the same.
    pub(crate) fn push(&mut self, mut entry: TimelineEntry, out: &mut Out) {
        let incident = Arc::make_mut(&mut self.incident);
        // Many answers leave room for what a process wrote, and the other way round.
        let enough = |sample: &Arc<Sample>| {
            let known = incident.timeline.iter().filter_map(|e| e.sample.as_ref());
            known.filter(|known| known.sort() == sample.sort()).count() >= Sample::IN_INCIDENT
        };
        entry.sample = entry.sample.filter(|sample| !enough(sample));
        if entry.kind == EntryKind::ActionBegun {
            incident.acted_at.get_or_insert(entry.at);
        }
        let timeline = &mut incident.timeline;
        let place = if let Some(place) = fold_into(timeline, &entry) {
            let known = &mut timeline[place];
            known.times = known.times.saturating_add(entry.times);
            known.sample = known.sample.take().or(entry.sample);
            place
        } else if timeline.len() < Incident::TIMELINE_MAX {
            timeline.push(entry);
            timeline.len() - 1
        } else {
            incident.timeline_left_out += 1;
            timeline[Incident::TIMELINE_MAX - 1] = entry;
            Incident::TIMELINE_MAX - 1
        };
        let record = Record::Entry {
            incident: incident.id,
            place: place as u64,
            entry: incident.timeline[place].clone(),
        };
        out.record(record);
    }

    /// Visitors are hurt more than they were.
    pub(crate) fn worsen(&mut self, severity: Severity, text: String, out: &mut Out) {
        if severity > self.incident.severity {
            self.edit().severity = severity;
            self.entry(EntryKind::Worsened, None, None, text, out);
        }
    }

    /// Everything is good, or is not (any longer).
    pub(crate) fn set_quiet(&mut self, quiet: bool, now: Now) {
        match (quiet, self.quiet_since) {
            (true, None) => {
                self.quiet_since = Some(now.mono);
                self.edit().recovered_at = Some(now.wall);
            }
            (false, Some(_)) => {
                self.quiet_since = None;
                self.edit().recovered_at = None;
            }
            _ => {}
        }
    }

    /// Closes it: the end is written down and people are told, once.
    pub(crate) fn resolve(mut self, text: String, value: Option<&Value>, out: &mut Out) {
        if let Some(counting) = &mut self.counting {
            counting.finish();
        }
        self.reckon(value);
        // Who was not told that it began because another one was told of is not told that it is over.
        if self.told.is_muted() && !self.told.opened() {
            self.end(text, out);
            out.closed(self.incident);
            return;
        }
        self.tell_opened(String::new(), out);
        self.end(text, out);
        self.tell_resolved(out);
        out.closed(self.incident);
    }

    /// Closes it because another incident goes on for it: who was not told of this one is not told of it at all.
    pub(crate) fn merge(mut self, text: String, out: &mut Out) {
        if self.told.opened() {
            return self.resolve(text, None, out);
        }
        self.end(text, out);
        out.closed(self.incident);
    }

    fn end(&mut self, text: String, out: &mut Out) {
        let wall = out.now.wall;
        {
            let incident = self.edit();
            incident.state = IncidentState::Resolved;
            incident.resolved_at = Some(wall);
            incident.recovered_at.get_or_insert(wall);
        }
        self.no_next_step();
        self.entry(EntryKind::Resolved, None, None, text, out);
        self.write_down(out, true);
    }

    /// Writes the header down if it changed; counts of visitors alone only now and then.
    pub(crate) fn write_down(&mut self, out: &mut Out, at_once: bool) {
        let due = self.write_due().is_some_and(|due| at_once || out.now.mono >= due);
        if due || self.recorded.as_ref().is_none_or(|recorded| self.headline_differs(recorded)) {
            self.write(out);
        }
    }

    /// The header and what it cost are written in one piece, so that they agree.
    fn write(&mut self, out: &mut Out) {
        let header = clone_header(&self.incident);
        out.record(Record::Incident(header.clone()));
        if let Some(counting) = &self.counting {
            let over = self.incident.state == IncidentState::Resolved;
            let tally = if over { Tally::default() } else { counting.tally.clone() };
            let curve = self.incident.curve.clone();
            out.record(Record::Impact { incident: header.id, curve, tally });
        }
        self.recorded = Some(header);
        self.recorded_at = out.now.mono;
    }

    fn headline_differs(&self, recorded: &Incident) -> bool {
        let now = &self.incident;
        now.title != recorded.title
            || now.state != recorded.state
            || now.severity != recorded.severity
            || now.servers != recorded.servers
            || now.diverted_at != recorded.diverted_at
            || now.acted_at != recorded.acted_at
            || now.recovered_at != recorded.recovered_at
            || now.resolved_at != recorded.resolved_at
            || now.acknowledged != recorded.acknowledged
            || now.diagnosis != recorded.diagnosis
            || now.escalation != recorded.escalation
            || now.part_of != recorded.part_of
            || now.affected != recorded.affected
            || now.drill != recorded.drill
    }

    fn counts_differ(&self, recorded: &Incident) -> bool {
        self.incident.seen != recorded.seen
            || self.incident.impact != recorded.impact
            || self.incident.timeline_left_out != recorded.timeline_left_out
    }

    /// When counts of visitors are next to be written down.
    pub(crate) fn write_due(&self) -> Option<Mono> {
        let recorded = self.recorded.as_ref()?;
        let hurt = |incident: &Incident| (incident.seen.hurt(), incident.impact.visitors);
        let more_hurt = hurt(&self.incident) != hurt(recorded);
        let every = if more_hurt { HURT_RECORD_EVERY } else { SEEN_RECORD_EVERY };
        self.counts_differ(recorded).then_some(self.recorded_at + every)
    }
}

/// All of it but the timeline and the curve, which may be long.
fn clone_header(incident: &Incident) -> Incident {
    Incident {
        scope: incident.scope.clone(),
        title: incident.title.clone(),
        servers: incident.servers.clone(),
        acknowledged: incident.acknowledged.clone(),
        impact: incident.impact.clone(),
        curve: Curve::default(),
        diagnosis: incident.diagnosis.clone(),
        changes: incident.changes.clone(),
        escalation: incident.escalation.clone(),
        affected: incident.affected.clone(),
        timeline: Vec::new(),
        ..*incident
    }
}

/// The title without ", and 2 more servers".
fn base_title(title: &str) -> &str {
    match title.rfind(", and ") {
        Some(end) if title.ends_with(" more server") || title.ends_with(" more servers") => &title[..end],
        _ => title,
    }
}

/// The place of the entry that this one is folded into: the same observation a moment ago, or, when there are many
/// alike, the last of them.
fn fold_into(timeline: &[TimelineEntry], entry: &TimelineEntry) -> Option<usize> {
    let observed = matches!(entry.kind, EntryKind::TrafficFailed | EntryKind::ProbeFailed);
    if observed {
        for (place, earlier) in timeline.iter().enumerate().rev().take(FOLD_BACK) {
            if earlier.kind == entry.kind && earlier.server == entry.server && earlier.text == entry.text {
                return Some(place);
            }
            let turning =
                matches!(earlier.kind, EntryKind::Ejected | EntryKind::Returned | EntryKind::ActionBegun);
            if turning && earlier.server == entry.server {
                break;
            }
        }
    }
    let mut last = None;
    let mut alike = 0;
    for (place, earlier) in timeline.iter().enumerate() {
        if earlier.kind == entry.kind && earlier.server == entry.server {
            last = Some(place);
            alike += 1;
        }
    }
    let max = if entry.server.is_some() { ALIKE_MAX } else { ALIKE_MAX_GENERAL };
    let once_only = matches!(entry.kind, EntryKind::Resolved | EntryKind::Notified);
    if alike >= max && !once_only { last } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ServiceId;
    use crate::sample::Phases;

    fn entry(kind: EntryKind, server: &str, text: &str) -> TimelineEntry {
        let server = ServiceId::new("shop").server(server);
        TimelineEntry {
            at: Wall(0),
            kind,
            server: Some(server),
            action: None,
            text: text.into(),
            times: 1,
            sample: None,
        }
    }

    fn open() -> (Open, Out) {
        let mut out = Out::for_tests();
        let scope = Scope::Service(ServiceId::new("shop"));
        (Open::begin(Beginning::of(scope, "it broke".into()), None, &mut out), out)
    }

    #[test]
    fn the_first_answers_are_kept_with_the_entries_that_they_belong_to() {
        let mut bench = crate::testing::Bench::settled(crate::testing::policy(1, false));
        let out = &mut bench.model.out;
        let mut open = Open::begin(Beginning::of(Scope::Monitors, "x".to_owned()), None, out);
        let seen = |text: String, asked: &str| TimelineEntry {
            sample: Some(Arc::new(Sample::unanswered(asked, Phases::default()))),
            ..entry(EntryKind::ProbeFailed, &format!("app-{text}"), &text)
        };
        for n in 0..Sample::IN_INCIDENT + 3 {
            open.push(seen(n.to_string(), "first"), out);
            open.push(seen(n.to_string(), "again"), out);
        }
        let kept: Vec<&str> =
            open.incident().timeline.iter().filter_map(|e| Some(e.sample.as_ref()?.asked.as_str())).collect();
        assert_eq!(kept, ["first"; Sample::IN_INCIDENT]);
    }

    #[test]
    fn the_same_observation_is_folded_until_something_was_decided() {
        let (mut open, mut out) = open();
        for _ in 0..3 {
            open.push(entry(EntryKind::ProbeFailed, "a", "refused"), &mut out);
        }
        open.push(entry(EntryKind::Ejected, "a", "out"), &mut out);
        open.push(entry(EntryKind::ProbeFailed, "a", "refused"), &mut out);
        let times: Vec<u32> = open.incident().timeline.iter().map(|e| e.times).collect();
        assert_eq!(times, [1, 3, 1, 1]);
    }

    #[test]
    fn a_server_that_flaps_all_night_stays_a_short_timeline() {
        let (mut open, mut out) = open();
        for i in 0..10_000 {
            open.push(entry(EntryKind::Ejected, "a", &format!("out {i}")), &mut out);
            open.push(entry(EntryKind::Returned, "a", &format!("in {i}")), &mut out);
        }
        let timeline = &open.incident().timeline;
        assert_eq!(timeline.len(), 1 + 2 * ALIKE_MAX);
        assert_eq!(timeline.iter().map(|e| e.times).sum::<u32>(), 20_001);
    }

    #[test]
    fn the_timeline_is_bounded_and_says_how_much_was_left_out() {
        let (mut open, mut out) = open();
        for i in 0..600 {
            open.push(entry(EntryKind::Ejected, &format!("s{i}"), "out"), &mut out);
        }
        assert_eq!(open.incident().timeline.len(), Incident::TIMELINE_MAX);
        assert_eq!(open.incident().timeline_left_out, 101);
        assert_eq!(open.incident().timeline.last().unwrap().server.as_ref().unwrap().name.as_ref(), "s599");
    }

    #[test]
    fn the_title_counts_the_servers_that_joined() {
        let (mut open, _out) = open();
        let shop = ServiceId::new("shop");
        open.join(&shop.server("a"), "a was killed");
        open.join(&shop.server("b"), "b was killed");
        open.join(&shop.server("b"), "b was killed");
        assert_eq!(open.incident().title, "a was killed, and 1 more server");
        open.join(&shop.server("c"), "c was killed");
        assert_eq!(open.incident().title, "a was killed, and 2 more servers");
    }
}
