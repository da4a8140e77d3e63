//! Telling people: one notice when an incident begins, one when it is over; between them one when the service went down
//! altogether, and one when a person is needed; no more.
//! Whom each of them goes to is `escalation`'s.

use std::time::Duration;

use crate::effect::{Effect, Notice, NoticeKind};
use crate::escalation::Recipient;
use crate::incident::{EntryKind, Severity, TimelineEntry};
use crate::incidents::NOBODY_IS_ANSWERED;
use crate::open::Open;
use crate::out::Out;
use crate::time::Mono;

/// From the opening of an incident to its first notice. Short enough not to matter to a person, long enough for the
/// first recovery action to have its outcome, so that the message can say what was already done.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);
/// A service that was told of as up must have been down for so long before people are told again: restarts of all its
/// servers at once take less.
pub(crate) const DOWN_SETTLE: Duration = Duration::from_secs(2);
/// Entries of the timeline that a notice carries: the first third tells how it began, the rest how it stands.
const TIMELINE_IN_NOTICE: usize = 30;

/// Names that one entry of the timeline lists.
const NAMED_MAX: usize = 10;

const NOT_TOLD: &str = "it is a drill, so nothing is sent";
const TOLD_OPENED: &str = "people are told that it began";
const TOLD_WORSENED: &str = "people are told that nobody is answered any more";
const TOLD_PERSON: &str = "people are told that they are needed";
const TOLD_RESOLVED: &str = "people are told that it is over";

/// What people were told of an incident so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told {
    /// When people are told that it began; `None` when they were.
    pub(crate) opened_due: Option<Mono>,
    pub(crate) person: bool,
    /// That the service is down.
    pub(crate) down: bool,
    /// Another incident is told of in its place. [`Told::opened_due`] waits meanwhile.
    pub(crate) muted: bool,
}

impl Told {
    /// What an earlier run told, by its entries in the timeline.
    pub(crate) fn read_back(timeline: &[TimelineEntry], now: Mono) -> Self {
        let told =
            |text: &str| timeline.iter().any(|e| e.kind == EntryKind::Notified && e.text.starts_with(text));
        Self {
            opened_due: if told(TOLD_OPENED) { None } else { Some(now + SETTLE) },
            person: told(TOLD_PERSON),
            down: told(TOLD_WORSENED) || told_as_down(timeline),
            muted: false,
        }
    }

    pub(crate) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    pub(crate) fn is_muted(&self) -> bool {
        self.muted
    }

    /// When people are to be told that it began.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.opened_due.filter(|_| !self.muted)
    }

    pub(crate) fn opened(&self) -> bool {
        self.opened_due.is_none()
    }
}

/// Nobody was answered already when people were told that it began, or that they are needed.
fn told_as_down(timeline: &[TimelineEntry]) -> bool {
    let told = timeline.iter().rposition(|e| {
        e.kind == EntryKind::Notified && (e.text.starts_with(TOLD_OPENED) || e.text.starts_with(TOLD_PERSON))
    });
    let down = |e: &TimelineEntry| e.kind == EntryKind::Worsened && e.text.starts_with(NOBODY_IS_ANSWERED);
    told.is_some_and(|told| timeline[..told].iter().any(down))
}

impl Open {
    /// Tells that it began, unless that was done.
    pub(crate) fn tell_opened(&mut self, advice: String, out: &mut Out) {
        if !self.told.muted && self.told.opened_due.take().is_some() {
            self.told.down |= self.incident().severity == Severity::Down;
            let to = if self.is_quiet_drill() { Vec::new() } else { self.first_step(out) };
            self.tell(NoticeKind::Opened, TOLD_OPENED, to, advice, out);
        }
    }

    /// Tells that the service is down, once an incident, if people believe it to be up.
    pub(crate) fn tell_down(&mut self, advice: String, out: &mut Out) {
        if self.told.opened() && !self.told.down && !self.told.muted {
            self.told.down = true;
            let to = self.incident().escalation.people();
            self.tell(NoticeKind::Worsened, TOLD_WORSENED, to, advice, out);
        }
    }

    /// Tells that a person is needed, once an incident, and that it began before that.
    pub(crate) fn tell_needs_person(&mut self, advice: String, out: &mut Out) {
        if !self.told.person && !self.told.muted {
            self.tell_opened(advice.clone(), out);
            self.told.person = true;
            self.told.down |= self.incident().severity == Severity::Down;
            let to = self.incident().escalation.people();
            self.tell(NoticeKind::NeedsPerson, TOLD_PERSON, to, advice, out);
        }
    }

    /// Tells that a person is needed for something new, whoever was called before: what Mainstay did in their place has failed, or a
    /// decision is theirs.
    pub(crate) fn tell_needs_person_anew(&mut self, advice: String, out: &mut Out) {
        self.told.person = false;
        self.tell_needs_person(advice, out);
    }

    /// Tells that it is over; called once, at the end.
    pub(crate) fn tell_resolved(&mut self, out: &mut Out) {
        let to = self.incident().escalation.people();
        self.tell(NoticeKind::Resolved, TOLD_RESOLVED, to, String::new(), out);
    }

    pub(crate) fn tell(
        &mut self,
        kind: NoticeKind,
        text: &str,
        to: Vec<Recipient>,
        advice: String,
        out: &mut Out,
    ) {
        if self.is_quiet_drill() {
            let text = format!("{NOT_TOLD}: {text}");
            return self.entry(EntryKind::Notified, None, None, text, out);
        }
        let incident = self.incident();
        let timeline = &incident.timeline;
        let head = timeline.len().min(TIMELINE_IN_NOTICE / 3);
        let tail = timeline.len().saturating_sub(TIMELINE_IN_NOTICE - head).max(head);
        let whom = whom(&to, out.people);
        let notice = Notice {
            incident: incident.id,
            kind,
            severity: incident.severity,
            title: incident.title.clone(),
            scope: incident.scope.to_string(),
            began_at: incident.began_at,
            at: incident.resolved_at.unwrap_or(out.now.wall),
            seen: incident.seen,
            impact: incident.impact.clone(),
            timeline: timeline[..head].iter().chain(&timeline[tail..]).map(TimelineEntry::told).collect(),
            advice,
            to,
            asked: self.asked.clone(),
            acknowledged_by: incident.acknowledged.as_ref().map(|(by, _)| by.clone()),
            diagnosis: incident.diagnosis.clone(),
            chain: None,
            affected: incident.affected.iter().map(|affected| affected.what.to_string()).collect(),
            last_change: incident.last_change().cloned(),
        };
        // It is written down either way, so that it is not told again after a restart.
        self.entry(EntryKind::Notified, None, None, format!("{text}{whom}"), out);
        out.effect(Effect::Notify(notice));
    }
}

/// `: ops@example.com by mail, Ada by SMS`
fn whom(to: &[Recipient], people: bool) -> String {
    if !people {
        return ", but the config names nobody to tell".to_owned();
    }
    let named: Vec<String> =
        to.iter().take(NAMED_MAX).map(|to| format!("{} by {}", to.name, to.way.word())).collect();
    let more = match to.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Scope;
    use crate::open::Beginning;
    use crate::{ServiceId, Wall};

    fn open(out: &mut Out) -> Open {
        let scope = Scope::Service(ServiceId::new("shop"));
        Open::begin(Beginning::of(scope, "it broke".into()), None, out)
    }

    fn notices(out: &mut Out) -> Vec<Notice> {
        let told = out.effects.drain(..).filter_map(|e| match e {
            Effect::Notify(n) => Some(n),
            _ => None,
        });
        told.collect()
    }

    #[test]
    fn an_incident_that_ends_before_anybody_was_told_is_told_from_the_beginning() {
        let mut out = Out::for_tests();
        open(&mut out).resolve("over".into(), None, &mut out);
        let kinds: Vec<NoticeKind> = notices(&mut out).iter().map(|n| n.kind).collect();
        assert_eq!(kinds, [NoticeKind::Opened, NoticeKind::Resolved]);
    }

    #[test]
    fn what_was_told_is_read_back_from_the_timeline() {
        let mut out = Out::for_tests();
        let mut told = open(&mut out);
        told.tell_opened("look".into(), &mut out);
        let again = Open::restored((**told.incident()).clone(), None, &mut out);
        assert!(again.told.opened() && !again.told.person);
        let untold = open(&mut out);
        let again = Open::restored((**untold.incident()).clone(), None, &mut out);
        assert!(!again.told.opened());
    }

    #[test]
    fn a_notice_carries_the_beginning_and_the_end_of_a_long_timeline() {
        let mut out = Out::for_tests();
        let mut open = open(&mut out);
        for i in 0..100 {
            let at = Wall(i);
            let server = Some(ServiceId::new("shop").server(format!("s{i}")));
            open.edit().timeline.push(TimelineEntry {
                at,
                kind: EntryKind::Ejected,
                server,
                action: None,
                text: format!("{i}"),
                times: 1,
                sample: None,
            });
        }
        open.tell_opened(String::new(), &mut out);
        let notice = notices(&mut out).pop().unwrap();
        assert_eq!(notice.timeline.len(), TIMELINE_IN_NOTICE);
        assert_eq!(notice.timeline[9].text, "8");
        assert_eq!(notice.timeline[29].text, "99");
    }
}
