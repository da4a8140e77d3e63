//! When an incident is opened, how bad it is, and when it is over.
//!
//! One incident a service: the first server that fails, or visitors being hurt though no server was, opens it; servers
//! that fail later take part in it. It is over when every server that took part serves at its full share again, and
//! has, and visitors were well, for `resolve-after` without a break. Admin states are a person's wish: they neither
//! open an incident nor hold one open.

use std::time::Duration;

use crate::cause::{Cause, Diagnosis};
use crate::id::{ServerId, ServiceId};
use crate::impact::Tally;
use crate::incident::{EntryKind, Incident, Scope, Severity, TimelineEntry};
use crate::input::{OwnPart, ServiceTraffic};
use crate::notices::DOWN_SETTLE;
use crate::open::{Beginning, Costs, Open};
use crate::out::Out;
use crate::proposal::Score;
use crate::routing::RoutingMode;
use crate::server::Server;
use crate::service::Service;
use crate::snapshot::Health;
use crate::time::{Mono, Wall};
use crate::words::{count, span, utc};

/// Visitors count as hurt for so long after a report that told of it.
const HURT_LINGERS: Duration = Duration::from_secs(2);
/// Failed requests reported so shortly after a service began to serve, or its incident ended, are of the time before:
/// the lag of a report, and the width of a bucket of counts.
pub(crate) const HURT_FORGOTTEN: Duration = Duration::from_secs(1);
/// A part of Mainstay itself must have been well for so long before its incident is over.
const OWN_RESOLVE_AFTER: Duration = Duration::from_secs(10);
/// What a person should do about a backup that is missing.
const BACKUP_ADVICE: &str = "See to it: what happens now could not be undone with a backup";
/// What a person should do about an observer that sees nothing.
const SIGHT_ADVICE: &str = "Look at the network and the resolvers of the machine that Mainstay runs on: what it cannot see is called unknown, and \
                            nothing is done to it";
/// What a person should do about a check that is wrong.
const CHECK_ADVICE: &str = "Mend the check (health in the config, or what it asks): nobody is hurt, and the server goes on \
                            serving, but as soon as its visitors are silent the check decides";
/// What a person should do about a machine that is gone.
const GONE_ADVICE: &str =
    "Look at this machine: does it run, and does its network work? What is on it comes back with it";
/// What a person should do about a certificate that expires.
const CERTIFICATE_ADVICE: &str =
    "Renew it, and look why that did not happen by itself: once it has expired, browsers turn visitors away";
/// What a person should do about trouble of Mainstay's own.
const OWN_ADVICE: &str = "See to it: your servers are served meanwhile, and none of them is judged by it";
/// Whether a service answers anybody is asked of so many last seconds of real requests.
const ANSWERING_SPAN: Duration = Duration::from_secs(2);

impl Service {
    /// A server takes part in the service's incident, which is opened if there is none.
    pub(crate) fn attach(&mut self, id: &ServerId, title: &str, by_answers: bool, out: &mut Out) {
        if self.incident.is_none() {
            let horizon = self.horizon(out.now.mono);
            let first = self.servers.get(id).and_then(|s| s.first_sign(horizon));
            self.open(title, vec![id.clone()], first.unwrap_or(out.now.mono), out);
        }
        if let Some(open) = &mut self.incident {
            open.join(id, title);
            open.errors_count |= by_answers;
        }
    }

    /// Opens an incident which began at `began`; signs of other servers since then are part of it.
    pub(crate) fn open(&mut self, title: &str, servers: Vec<ServerId>, began: Mono, out: &mut Out) {
        let mut signs: Vec<(Mono, TimelineEntry)> = Vec::new();
        for server in self.servers.values_mut() {
            signs.extend(server.take_signs(began));
        }
        signs.sort_by_key(|(at, _)| *at);
        // The wall clock as the first sign has it: it may have been set since then.
        let first = signs.first().filter(|(at, _)| *at == began).map(|(_, entry)| entry.at);
        let horizon = self.horizon(out.now.mono).min(began);
        signs.extend(self.servers.values_mut().flat_map(|server| server.take_answers(horizon)));
        signs.sort_by_key(|(at, _)| *at);
        // In whole milliseconds, as reports are compared with it.
        let ms = |at: Mono| i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX);
        let ago = (ms(out.now.mono) - ms(began)).max(0);
        let began_at = first.unwrap_or(Wall(out.now.wall.0.saturating_sub(ago)));
        let beginning = Beginning {
            scope: Scope::Service(self.id.clone()),
            title: title.to_owned(),
            servers,
            connections: self.policy.carriage.tcp.is_some(),
            began_at: Some(began_at),
            signs: signs.into_iter().map(|(_, entry)| entry).collect(),
        };
        let costs = Costs { began, before: &self.before, value: self.policy.value.as_ref() };
        let mut open = Open::begin(beginning, Some(costs), out);
        open.steps.set_groups(self.policy.on_call.as_deref());
        self.incident = Some(open);
    }

    /// An earlier run left this incident open.
    pub(crate) fn restore(
        &mut self,
        incident: Incident,
        tally: Tally,
        last_alive: Option<Wall>,
        out: &mut Out,
    ) {
        let mut open = Open::restored(incident, Some(tally), out);
        open.steps.set_groups(self.policy.on_call.as_deref());
        open.entry(EntryKind::Own, None, None, restarted_text(last_alive, out), out);
        self.incident = Some(open);
        self.say_what_is_asked();
    }

    /// What visitors saw in the last interval.
    pub(crate) fn on_visitors(&mut self, report: &ServiceTraffic, out: &mut Out) {
        let now = out.now.mono;
        self.visitors.report(report, now);
        self.before.keep(report, now, self.horizon(now));
        if let Some(open) = &mut self.incident {
            open.count(report, self.policy.value.as_ref(), now);
        }
    }

    /// A server that returned is confirmed by the first report without a failure.
    pub(crate) fn confirm_return(&mut self, id: &ServerId, answered: u64, failed: u64, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id).filter(|s| s.unconfirmed) else { return };
        if answered == 0 || failed > 0 {
            return;
        }
        server.unconfirmed = false;
        if let Some(open) = &mut self.incident {
            let text = format!("real requests to {} are answered again", id.name);
            open.entry(EntryKind::TrafficGood, Some(id), None, text, out);
        }
    }

    /// Opens, worsens, closes and tells, as it now stands.
    pub(crate) fn tend(&mut self, out: &mut Out) {
        let now = out.now.mono;
        self.open_if_requests_are_turned_away(out);
        self.open_if_visitors_are_hurt(out);
        let diagnosis = self.diagnosis(out);
        let severity = self.severity(now);
        let well = self.is_well(now);
        let resolve_after = self.resolve_after();
        let advice = self.advice();
        let Some(mut open) = self.incident.take() else { return };
        if let Some(diagnosis) = diagnosis {
            open.diagnose(diagnosis, out);
        }
        match severity {
            Severity::Down => open.worsen(Severity::Down, nobody_is_answered(&self.id), out),
            Severity::Partial => {
                let saw = open.incident().seen;
                let text = match (saw.failed, saw.server_errors) {
                    (0, _) if saw.shed > 0 => {
                        format!("visitors are hurt: {} turned away", count(saw.shed, "request"))
                    }
                    (0, errors) => format!("visitors are hurt: {} answered 5xx", count(errors, "request")),
                    (failed, _) => format!("visitors are hurt: {} failed", count(failed, "request")),
                };
                open.worsen(Severity::Partial, text, out);
            }
            Severity::Degraded => {}
        }
        open.pass(severity == Severity::Down, self.policy.value.as_ref(), now);
        open.set_quiet(well, out.now);
        open.is_drill_for_how_long(out);
        if open.quiet_since.is_some_and(|since| now >= since + resolve_after) {
            self.judge_actions_of(Some(&mut open), true, out);
            let text = self.resolved_text(&open, out);
            self.hurt_from = now + HURT_FORGOTTEN;
            self.before.counted();
            self.servers.values_mut().for_each(Server::forget_signs);
            return open.resolve(text, self.policy.value.as_ref(), out);
        }
        if open.told.due().is_some_and(|due| now >= due) {
            open.tell_opened(advice.clone(), out);
        }
        if open.down_since.is_some_and(|since| now >= since + DOWN_SETTLE) {
            open.tell_down(advice.clone(), out);
        }
        open.escalate(&advice, out);
        open.write_down(out, false);
        self.incident = Some(open);
    }

    /// When the incident is next to be looked at.
    pub(crate) fn incident_due(&self, now: Mono) -> Option<Mono> {
        let open = self.incident.as_ref()?;
        let quiet = open.quiet_since.map(|since| since + self.resolve_after());
        let hurt = self.visitors.last_hurt.map(|at| at + HURT_LINGERS).filter(|at| *at > now);
        let down = open.down_since.map(|since| since + DOWN_SETTLE).filter(|at| *at > now);
        let told = [open.told.due(), open.steps.due(), open.loud_at].into_iter().flatten().min();
        [quiet, hurt, down, told, open.write_due(), open.count_due()].into_iter().flatten().min()
    }

    /// Closes the incident because the service left the config.
    pub(crate) fn close(mut self, out: &mut Out) {
        for proposal in std::mem::take(&mut self.proposals) {
            out.end_proposal(proposal, Score::StillBroken);
        }
        if let Some(open) = self.incident.take() {
            open.resolve(format!("{} left the config", self.id), self.policy.value.as_ref(), out);
        }
        if let Some(open) = self.checks.own.incident.take() {
            open.resolve(format!("{} left the config", self.id), None, out);
        }
    }

    /// Requests have been turned away for some seconds, though no server failed.
    fn open_if_requests_are_turned_away(&mut self, out: &mut Out) {
        let now = out.now.mono;
        let Some(strain) = self.load.strain().filter(|strain| strain.hurts) else { return };
        // What visitors felt in a maintenance window is forgotten; what they still feel is told of.
        let since = strain.since.max(self.hurt_from);
        if self.incident.is_some()
            || self.excused
            || !self.load.strains_since(since)
            || !self.servers.values().any(Server::is_ready)
        {
            return;
        }
        let title = self.load.title(self, now);
        self.open(&title, Vec::new(), since, out);
        if let Some(open) = &mut self.incident {
            open.began = since;
        }
    }

    fn open_if_visitors_are_hurt(&mut self, out: &mut Out) {
        let now = out.now.mono;
        // While nothing has served yet, visitors who are refused are no news; but not for ever.
        let should_serve = self.served || now >= self.known_since + self.policy.recovery.start_grace;
        let unseen = out.sight.is_doubted(now) && self.servers.values().any(|s| s.far().is_some());
        if self.incident.is_some()
            || self.excused
            || unseen
            || !should_serve
            || now < self.hurt_from
            || !self.servers.values().any(Server::is_ready)
        {
            return;
        }
        let window = self.policy.traffic.window.min(now.since(self.hurt_from));
        if let Some((failed, requests)) = self.visitors.hurt(window, now) {
            let title = format!(
                "visitors of {} are hurt: {failed} of {} failed",
                self.id,
                count(requests, "request")
            );
            let since = Mono(now.0.saturating_sub(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX)));
            let began = self.before.first_hurt(since).unwrap_or(now);
            self.open(&title, Vec::new(), began, out);
        }
    }

    fn severity(&self, now: Mono) -> Severity {
        let Some(open) = &self.incident else { return Severity::Degraded };
        if self.is_down(now) {
            return Severity::Down;
        }
        let seen = &open.incident().seen;
        let hurt = seen.failed > 0 || seen.shed > 0 || (open.errors_count && seen.server_errors > 0);
        if hurt { Severity::Partial } else { Severity::Degraded }
    }

    /// No Ready server is any good, and real requests do not say otherwise.
    pub(crate) fn is_down(&self, now: Mono) -> bool {
        // Of servers that keep state nobody but the one that takes the writes can answer.
        let serves =
            |(id, s): &(&ServerId, &Server)| s.is_ready() && (!self.has_lead() || self.writer() == Some(*id));
        let mut ready = self.servers.iter().filter(serves).peekable();
        let nobody_writes = self.has_lead() && self.nobody_writes(now);
        let all_are_down = ready.peek().is_some() && ready.all(|(_, s)| s.health == Health::Unhealthy);
        if !all_are_down && !nobody_writes {
            return false;
        }
        let span = u64::try_from(ANSWERING_SPAN.as_nanos()).unwrap_or(u64::MAX);
        let saw = self.visitors.saw(Mono(now.0.saturating_sub(span)), now);
        self.mode == RoutingMode::Nobody || saw.failed >= saw.requests
    }

    /// Every server that took part serves at its full share, none is at fault, and visitors are well.
    fn is_well(&self, now: Mono) -> bool {
        let Some(open) = &self.incident else { return true };
        let well = |s: &Server| !s.is_ready() || (s.eligible && s.is_well() && s.slow_since.is_none());
        let took_part = &open.incident().servers;
        self.servers.iter().all(|(id, s)| !s.at_fault && (well(s) || !took_part.contains(id)))
            && self.visitors.last_hurt.is_none_or(|at| now.since(at) >= HURT_LINGERS)
            && !self.load.is_strained()
            && !self.front.is_in_trouble()
            && !self.lead.is_in_trouble()
    }

    fn resolved_text(&self, open: &Open, out: &Out) -> String {
        let ms = out.now.wall.ms_since(open.incident().began_at).max(0);
        let lasted = span(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        let quiet = open.quiet_since.map_or_else(Default::default, |since| out.now.mono - since);
        let good_for = span(self.policy.resolve_after);
        if quiet > self.policy.resolve_after {
            return format!(
                "over: everything has been good for as long as the last hold-down; {lasted} since the first sign"
            );
        }
        format!(
            "over: everything has been good for {good_for} (resolve-after); {lasted} since the first sign"
        )
    }

    /// What a person should do about front addresses and names.
    fn front_advice(&self) -> String {
        let lost: Vec<String> = self.front.lost().map(|address| address.ip().to_string()).collect();
        let nowhere: Vec<&str> = self.front.nowhere().collect();
        match (lost.is_empty(), nowhere.is_empty()) {
            (true, true) => String::new(),
            (false, _) => {
                format!("Look at {}: visitors whom DNS leads there are not served", lost.join(", "))
            }
            (true, false) => format!(
                "Give {} an address in DNS again: who asks anew finds nobody; or take it out of the config if it is \
                 not to lead to {}",
                nowhere.join(", "),
                self.id
            ),
        }
    }

    /// What a person should do when an incident begins.
    fn advice(&self) -> String {
        let under_load = self.advice_under_load();
        if !under_load.is_empty() {
            return under_load;
        }
        if let Some(advice) = self.lead_advice().or_else(|| self.advice_where_refused()) {
            return advice;
        }
        let mut at_fault = self.servers.values().filter(|s| s.at_fault).peekable();
        if at_fault.peek().is_some() && at_fault.all(Server::is_only_slow) {
            return format!(
                "Look at what the servers of {} wait for: they answer well and late, and Mainstay takes none of them out \
                 for that",
                self.id
            );
        }
        let bad = self.servers.iter().filter(|(_, s)| s.at_fault);
        let (mine, others): (Vec<_>, Vec<_>) = bad.partition(|(_, s)| s.policy.supervised);
        let names = |servers: &[(&ServerId, &Server)]| {
            let names: Vec<&str> = servers.iter().map(|(id, _)| id.name.as_ref()).collect();
            names.join(", ")
        };
        match (mine.is_empty(), others.is_empty()) {
            (true, true) => self.front_advice(),
            (false, true) => {
                format!("Nothing yet: Mainstay brings {} back itself, and says so if it cannot", names(&mine))
            }
            (_, false) => format!(
                "Look at {}: Mainstay does not run {} itself, so it cannot restart {}",
                names(&others),
                if others.len() == 1 { "it" } else { "them" },
                if others.len() == 1 { "it" } else { "them" },
            ),
        }
    }
}

impl Service {
    /// What a person should do when there is too much to do.
    fn advice_under_load(&self) -> String {
        use crate::load::Strain;
        match self.load.strain().map(|established| established.strain) {
            Some(Strain::Attack) => format!(
                "Look at who asks: block these networks in front of Mainstay, or lower {}'s limits; servers are not \
                 restarted for it",
                self.id
            ),
            Some(Strain::Overload) => format!(
                "Give {} more servers, or raise its limits if they have capacity left; none is restarted, which would \
                 take capacity away",
                self.id
            ),
            Some(Strain::LostCapacity) | None => String::new(),
        }
    }
}

pub(crate) const NOBODY_IS_ANSWERED: &str = "nobody is answered";

/// How an outage is called in a timeline.
pub(crate) fn nobody_is_answered(service: &ServiceId) -> String {
    format!("{NOBODY_IS_ANSWERED} by {service}")
}

/// Something that serves nobody itself, and can be in trouble all the same: a part of Mainstay, a backup.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) trouble: Option<String>,
    pub(crate) incident: Option<Open>,
}

impl Own {
    /// It is in trouble, or well again.
    pub(crate) fn on_trouble(&mut self, scope: Scope, trouble: Option<&str>, out: &mut Out) {
        let news = self.trouble.as_deref() != trouble;
        self.trouble = trouble.map(str::to_owned);
        match (&mut self.incident, trouble) {
            (None, Some(trouble)) => {
                let title = match &scope {
                    Scope::Backup(_) => format!("{scope} {trouble}"),
                    Scope::Address(_) => format!("{scope} is gone: {trouble}"),
                    Scope::Check(_) => trouble.to_owned(),
                    Scope::Own(OwnPart::Sight) => format!("this observer is suspect: {trouble}"),
                    _ => format!("trouble with {scope}: {trouble}"),
                };
                let of_certificates = scope == Scope::Own(OwnPart::Certificates);
                let mut open = Open::begin(Beginning::of(scope, title), None, out);
                if of_certificates {
                    let evidence = vec![trouble.to_owned()];
                    open.diagnose(Diagnosis::sure(Cause::Certificate, evidence), out);
                }
                self.incident = Some(open);
            }
            (Some(open), Some(trouble)) if news => {
                open.entry(EntryKind::Own, None, None, trouble.to_owned(), out);
            }
            (Some(open), None) if news => {
                open.entry(EntryKind::Own, None, None, format!("{scope} is well again"), out);
            }
            _ => {}
        }
    }

    /// An earlier run left this incident open. If the trouble is still there, its part says so again.
    pub(crate) fn restore(&mut self, incident: Incident, last_alive: Option<Wall>, out: &mut Out) {
        let mut open = Open::restored(incident, None, out);
        open.entry(EntryKind::Own, None, None, restarted_text(last_alive, out), out);
        self.incident = Some(open);
    }

    pub(crate) fn tend(&mut self, out: &mut Out) {
        let now = out.now.mono;
        let Some(mut open) = self.incident.take() else { return };
        open.set_quiet(self.trouble.is_none(), out.now);
        open.is_drill_for_how_long(out);
        if open.quiet_since.is_some_and(|since| now >= since + OWN_RESOLVE_AFTER) {
            return open.resolve(format!("over: well for {}", span(OWN_RESOLVE_AFTER)), None, out);
        }
        let advice = match open.incident().scope {
            Scope::Backup(_) => BACKUP_ADVICE.to_owned(),
            Scope::Check(_) => CHECK_ADVICE.to_owned(),
            Scope::Address(_) => GONE_ADVICE.to_owned(),
            Scope::Own(OwnPart::Certificates) => CERTIFICATE_ADVICE.to_owned(),
            Scope::Own(OwnPart::Sight) => SIGHT_ADVICE.to_owned(),
            _ => OWN_ADVICE.to_owned(),
        };
        if open.told.due().is_some_and(|due| now >= due) {
            open.tell_opened(advice.clone(), out);
        }
        open.escalate(&advice, out);
        open.write_down(out, false);
        self.incident = Some(open);
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        let open = self.incident.as_ref()?;
        let quiet = open.quiet_since.map(|since| since + OWN_RESOLVE_AFTER);
        let told = [open.told.due(), open.steps.due(), open.loud_at].into_iter().flatten().min();
        [quiet, told, open.write_due()].into_iter().flatten().min()
    }
}

pub(crate) fn restarted_text(last_alive: Option<Wall>, out: &Out) -> String {
    match last_alive {
        Some(alive) => {
            format!("Mainstay was restarted; it was not looking from {} to {}", utc(alive), utc(out.now.wall))
        }
        None => "Mainstay was restarted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{NoticeKind, Record};
    use crate::incident::IncidentState;
    use crate::input::{AdminState, FailureKind, Input, ProbeFailure, Restored};
    use crate::testing::{Bench, app, policy};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_crash_is_one_incident_with_the_whole_story() {
        use EntryKind::*;
        let mut bench = Bench::settled(policy(3, true));
        bench.attempt_fails(&app(2), FailureKind::Reset, Some(app(1)));
        let first_sign = bench.now.wall;
        bench.advance(MS(7));
        bench.crash(&app(2));
        bench.advance(seconds(2));
        bench.attempts(&app(2), 3, 0, 0);
        bench.advance(seconds(30));
        let incident = &bench.incidents()[0];
        assert_eq!(bench.incidents().len(), 1);
        assert_eq!(incident.state, IncidentState::Resolved);
        assert_eq!(incident.title, "app-2 of shop was killed by SIGKILL");
        assert_eq!(incident.began_at, first_sign);
        assert_eq!(incident.opened_at.ms_since(incident.began_at), 7);
        assert_eq!(incident.diverted_at, Some(incident.opened_at));
        assert_eq!(incident.timeline[0].text, "an attempt at app-2 was reset; retried on app-1");
        assert_eq!(
            bench.kinds(),
            [
                TrafficFailed,
                ProcessExited,
                Opened,
                Ejected,
                ActionBegun,
                ProcessStarted,
                ActionDone,
                ProbeGood,
                Returned,
                Notified,
                TrafficGood,
                FullShare,
                Helped,
                Resolved,
                Notified
            ]
        );
        assert!(incident.timeline.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
    }

    #[test]
    fn visitors_refused_while_the_only_server_that_may_serve_starts_are_no_news_though_another_that_is_drained_is_well()
     {
        let mut policy = policy(2, true);
        let shop = policy.services.get_mut(&crate::testing::shop()).unwrap();
        shop.servers.get_mut("app-2").unwrap().supervised = false;
        let mut bench = Bench::fresh(policy);
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.admin(&app(2), AdminState::Draining);
        bench.addresses();
        for _ in 0..20 {
            bench.advance(MS(500));
            bench.visitors(25, 25);
        }
        assert_eq!(bench.server(&app(2)).health, Health::Healthy);
        assert!(bench.incidents().is_empty(), "{:?}", bench.incidents());
        bench.is_good(&app(1));
        bench.advance(seconds(3));
        for _ in 0..8 {
            bench.advance(MS(500));
            bench.visitors(25, 25);
        }
        assert_eq!(bench.incidents().len(), 1, "it serves now, so that visitors who are refused are news");
    }

    #[test]
    fn the_first_notice_says_what_was_done_already() {
        let mut bench = Bench::settled(policy(3, true));
        bench.crash(&app(2));
        bench.advance(MS(499));
        assert!(bench.notices().is_empty());
        bench.advance(MS(1));
        let notice = bench.notices().pop().unwrap();
        assert!(notice.timeline.iter().any(|e| e.kind == EntryKind::ActionDone));
        assert_eq!((notice.scope.as_str(), notice.severity), ("shop", Severity::Degraded));
    }

    #[test]
    fn the_record_reads_back_as_the_incident() {
        let mut bench = Bench::settled(policy(3, true));
        bench.crash(&app(2));
        bench.visitors(100, 1);
        bench.advance(seconds(40));
        let mut stored: Option<Incident> = None;
        for record in bench.records() {
            match record {
                Record::Incident(header) => {
                    let timeline = stored.take().map_or_else(Vec::new, |s| s.timeline);
                    stored = Some(Incident { timeline, ..header });
                }
                Record::Impact { curve, .. } => stored.as_mut().unwrap().curve = curve,
                Record::Entry { place, entry, .. } => {
                    let timeline = &mut stored.as_mut().unwrap().timeline;
                    timeline.truncate(usize::try_from(place).unwrap());
                    timeline.push(entry);
                }
                _ => {}
            }
        }
        assert_eq!(stored.as_ref(), Some(&*bench.incidents()[0]));
    }

    #[test]
    fn visitors_since_the_first_sign_are_counted() {
        let mut bench = Bench::settled(policy(3, false));
        bench.visitors(1000, 0);
        bench.advance(seconds(5));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.attempt_fails(&app(1), FailureKind::Refused, Some(app(2)));
        bench.visitors(10, 0);
        bench.advance(seconds(1));
        bench.visitors(20, 2);
        assert_eq!(bench.incidents()[0].seen.requests, 30);
        assert_eq!(bench.incidents()[0].severity, Severity::Partial);
    }

    #[test]
    fn a_flapping_server_is_one_incident() {
        let mut bench = Bench::settled(policy(3, false));
        for _ in 0..20 {
            bench.is_bad(&app(1), ProbeFailure::Refused);
            bench.advance(seconds(3));
            bench.is_good(&app(1));
            bench.advance(seconds(15));
        }
        bench.advance(seconds(300));
        assert_eq!(bench.incidents().len(), 1);
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Resolved]);
        assert!(bench.incidents()[0].timeline.len() < 40, "{:#?}", bench.kinds());
    }

    #[test]
    fn people_who_were_told_of_a_lesser_fault_are_told_when_nobody_is_answered_any_more() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(5));
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(10));
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened, NoticeKind::Worsened]);
        let told = bench.notices().pop().unwrap();
        assert_eq!(told.severity, Severity::Down);
        bench.advance(Duration::from_secs(60));
        assert_eq!(bench.notice_kinds().len(), 2, "once an incident");
    }

    #[test]
    fn an_incident_that_begins_as_an_outage_is_told_once() {
        let mut bench = Bench::settled(policy(1, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(Duration::from_secs(20));
        assert_eq!(bench.notice_kinds(), [NoticeKind::Opened]);
    }

    #[test]
    fn visitors_that_are_hurt_open_an_incident_though_no_server_failed() {
        let mut bench = Bench::settled(policy(2, false));
        bench.advance(seconds(2));
        bench.visitors(40, 2);
        assert!(bench.incidents().is_empty());
        bench.advance(MS(250));
        bench.visitors(40, 10);
        let incident = &bench.incidents()[0];
        assert_eq!(incident.title, "visitors of shop are hurt: 12 of 80 requests failed");
        assert_eq!((incident.severity, incident.seen.failed), (Severity::Partial, 12));
        bench.advance(seconds(13));
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
        bench.visitors(40, 0);
        assert_eq!(bench.incidents().len(), 1);
    }

    #[test]
    fn nobody_answered_is_the_worst() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.is_bad(&app(2), ProbeFailure::Refused);
        bench.advance(seconds(3));
        assert_eq!(bench.incidents().len(), 1);
        assert_eq!(bench.incidents()[0].severity, Severity::Down);
        assert_eq!(bench.incidents()[0].servers.len(), 2);
        assert!(bench.incidents()[0].title.ends_with(", and 1 more server"));
    }

    #[test]
    fn a_service_whose_visitors_are_answered_is_not_down() {
        let mut bench = Bench::settled(policy(1, false));
        bench.is_bad(&app(1), ProbeFailure::Status(503));
        for _ in 0..12 {
            bench.visitors(10, 0);
            bench.advance(MS(250));
        }
        assert_eq!(bench.incidents()[0].severity, Severity::Degraded);
    }

    #[test]
    fn a_server_that_was_taken_out_does_not_hold_the_incident_open() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(seconds(60));
        assert_eq!(bench.incidents()[0].state, IncidentState::Open);
        bench.admin(&app(1), AdminState::Maintenance);
        bench.advance(seconds(11));
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn a_server_that_left_the_config_does_not_hold_the_incident_open() {
        let mut bench = Bench::settled(policy(3, false));
        bench.is_bad(&app(3), ProbeFailure::Refused);
        bench.advance(seconds(60));
        bench.policy = policy(2, false);
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.advance(seconds(11));
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn an_incident_survives_a_restart_of_mainstay_and_is_not_told_again() {
        let mut before = Bench::settled(policy(2, false));
        before.is_bad(&app(1), ProbeFailure::Refused);
        before.advance(seconds(5));
        let incident = (*before.incidents()[0]).clone();
        let entries = incident.timeline.len();
        let last_alive = Some(before.now.wall);
        let mut bench = Bench::empty(policy(2, false));
        bench.now = before.now + seconds(30);
        bench.tell(Input::Restored(Restored {
            incidents: vec![incident],
            last_incident: 1,
            last_alive,
            ..Restored::default()
        }));
        bench.tell(Input::Policy(bench.policy.clone()));
        bench.addresses();
        bench.advance(seconds(5));
        let open = &bench.incidents()[0];
        assert!(open.timeline[entries].text.starts_with("Mainstay was restarted; it was not looking from "));
        let places: Vec<u64> = bench
            .records()
            .iter()
            .filter_map(|r| match r {
                Record::Entry { place, .. } => Some(*place),
                _ => None,
            })
            .collect();
        assert_eq!(places[0], entries as u64);
        bench.advance(seconds(20));
        assert_eq!(bench.notice_kinds(), [NoticeKind::Resolved]);
        assert_eq!(bench.incidents().len(), 1);
    }

    #[test]
    fn acknowledging_is_written_down_once() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(seconds(5));
        let incident = bench.incidents()[0].id;
        for by in ["ann", "ben"] {
            bench.tell(Input::Acknowledge { incident, by: by.to_owned() });
        }
        let incident = &bench.incidents()[0];
        assert_eq!(incident.state, IncidentState::Acknowledged);
        assert_eq!(incident.acknowledged.as_ref().unwrap().0, "ann");
        assert_eq!(bench.kinds().iter().filter(|k| **k == EntryKind::Acknowledged).count(), 1);
    }

    #[test]
    fn trouble_of_mainstay_itself_is_no_servers_state() {
        let mut bench = Bench::settled(policy(2, false));
        let trouble =
            |text: Option<&str>| Input::Own { part: OwnPart::Record, trouble: text.map(str::to_owned) };
        bench.tell(trouble(Some("the disk is full")));
        bench.advance(seconds(5));
        let snapshot = bench.model.snapshot(bench.now);
        assert_eq!(snapshot.own_trouble, [(OwnPart::Record, "the disk is full".to_owned())]);
        assert_eq!(snapshot.services[0].state, crate::snapshot::ServiceState::Healthy);
        assert_eq!(snapshot.incidents[0].title, "trouble with Mainstay's own record: the disk is full");
        bench.tell(trouble(None));
        bench.advance(seconds(5));
        bench.tell(trouble(Some("the disk is full")));
        bench.advance(seconds(5));
        bench.tell(trouble(None));
        bench.advance(seconds(10));
        assert_eq!(
            bench.notice_kinds(),
            [NoticeKind::Opened, NoticeKind::Resolved],
            "it flapped, and was one"
        );
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn a_certificate_that_expires_is_an_incident_with_its_cause_until_it_is_renewed() {
        let mut bench = Bench::settled(policy(2, false));
        let expires = "the certificate of shop.example expires on 2026-12-01 (in shop.pem)".to_owned();
        bench.tell(Input::Own { part: OwnPart::Certificates, trouble: Some(expires.clone()) });
        let incident = &bench.incidents()[0];
        assert_eq!(incident.title, format!("trouble with Mainstay's own certificates: {expires}"));
        assert_eq!(incident.diagnosis, Some(Diagnosis::sure(Cause::Certificate, vec![expires])));
        bench.tell(Input::Own { part: OwnPart::Certificates, trouble: None });
        bench.advance(OWN_RESOLVE_AFTER);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn counts_of_visitors_are_written_down_now_and_then() {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(seconds(5));
        bench.effects.clear();
        for _ in 0..80 {
            bench.visitors(10, 0);
            bench.advance(MS(250));
        }
        let headers = bench.records().iter().filter(|r| matches!(r, Record::Incident(_))).count();
        assert!((18..=21).contains(&headers), "{headers}");
    }
}
