//! What people read: a notice as a subject and a plain text that a person understands at three in the morning.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mainstay_model::Wall;
use mainstay_model::effect::{Notice, NoticeKind};
use mainstay_model::impact::Impact;
use mainstay_model::incident::{EntryKind, Severity, TimelineEntry, VisitorsSaw, Witness};
use mainstay_model::words::grouped;

use super::email::LinksIn;

/// What fails with it is named up to so many.
const AFFECTED_NAMED: usize = 10;
/// The longest subject, in characters: more is cut by most mail programs.
const SUBJECT_MAX: usize = 150;
/// Entries of the timeline that are shown from its beginning and from its end when it is longer than both.
const FIRST_ENTRIES: usize = 15;
const LAST_ENTRIES: usize = 25;

/// The subject: where, how bad, what.
pub(super) fn subject(notice: &Notice) -> String {
    let how = match notice.kind {
        NoticeKind::Opened => severity_word(notice.severity).to_owned(),
        NoticeKind::Escalated => format!("{}, and nobody has taken it on", severity_word(notice.severity)),
        NoticeKind::Worsened => format!("now {}", severity_word(notice.severity)),
        NoticeKind::NeedsPerson => "needs you".to_owned(),
        NoticeKind::Resolved => format!("resolved after {}", duration(notice)),
    };
    let whole = one_line(&format!("[{}] {how}: {}", notice.scope, notice.title));
    if whole.chars().count() <= SUBJECT_MAX {
        return whole;
    }
    whole.chars().take(SUBJECT_MAX - 1).chain(['…']).collect()
}

/// The text, in UTC, wide enough for a telephone turned sideways.
pub(super) fn body(notice: &Notice, links: LinksIn<'_>) -> String {
    let LinksIn { dashboard, take_on, decide } = links;
    let mut out = format!("{}.\n\n", one_line(&notice.title));
    facts(&mut out, notice);
    if !notice.advice.is_empty() {
        let _ = write!(out, "\nWhat to do\n  {}\n", one_line(&notice.advice));
    } else if notice.kind == NoticeKind::Resolved {
        out.push_str("\nThere is nothing to do.\n");
    }
    if !decide.is_empty() {
        out.push_str("\nDecide (the links are yours, for 24 hours and one decision)\n");
        for (what, link) in decide {
            let _ = writeln!(out, "  {}: {link}", one_line(what));
        }
    }
    if let Some(link) = take_on {
        let _ = write!(
            out,
            "\nTake it on, so that nobody else is woken (the link is yours, for 24 hours)\n  {link}\n"
        );
    }
    timeline(&mut out, &notice.timeline);
    if let Some(link) = link(notice, dashboard) {
        let _ = write!(out, "\nDetails: {link}\n");
    }
    let _ = write!(out, "\n-- \nMainstay, incident {}. All times are UTC.\n", notice.incident);
    out
}

/// The incident's page on the dashboard.
pub(super) fn link(notice: &Notice, dashboard: Option<&str>) -> Option<String> {
    dashboard.map(|base| format!("{}/incidents/{}", base.trim_end_matches('/'), notice.incident))
}

/// `08:26 UTC`, with its day when that is not the message's.
pub(super) fn since(notice: &Notice) -> String {
    let began = timestamp(notice.began_at).to_zoned(TimeZone::UTC);
    let far = notice.at.ms_since(notice.began_at) >= 12 * 3_600_000;
    began.strftime(if far { "%-d %b %H:%M UTC" } else { "%H:%M UTC" }).to_string()
}

/// How long it has lasted, or did.
pub(super) fn duration(notice: &Notice) -> String {
    lasted(notice.at.ms_since(notice.began_at))
}

/// Who is hurt, in a few words; empty when nothing was asked for.
pub(super) fn hurt_in_short(notice: &Notice) -> String {
    let seen = &notice.seen;
    match seen.failed.saturating_add(seen.server_errors) {
        _ if seen.requests == 0 => String::new(),
        0 => "nobody hurt".to_owned(),
        hurt => format!("{} of {} failed", grouped(hurt), counted(seen.requests, seen.noun())),
    }
}

/// A time as RFC 3339 with milliseconds; the epoch when it is beyond all calendars.
pub(super) fn rfc3339(at: Wall) -> String {
    format!("{:.3}", timestamp(at))
}

fn facts(out: &mut String, notice: &Notice) {
    let began = timestamp(notice.began_at).to_zoned(TimeZone::UTC);
    let lasted = duration(notice);
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<9} {value}");
    };
    fact("where", &one_line(&notice.scope));
    match notice.kind {
        NoticeKind::Resolved => fact("state", "over: everything is served as before"),
        _ => fact("state", severity_sentence(notice.severity)),
    }
    let began = began.strftime("%Y-%m-%d %H:%M:%S.%3f");
    match notice.kind {
        NoticeKind::Resolved => fact("from", &format!("{began} UTC, for {lasted}")),
        _ => fact("since", &format!("{began} UTC, {lasted} before this message")),
    }
    fact("visitors", &visitors(&notice.seen));
    if let Some(hurt) = hurt(&notice.seen, &notice.impact) {
        fact("hurt", &one_line(&hurt));
    }
    if let Some(by) = &notice.acknowledged_by {
        fact("taken on", &format!("by {}", one_line(by)));
    }
    if let Some(chain) = notice.chain.as_ref().filter(|_| notice.kind != NoticeKind::Resolved) {
        fact("chain", &one_line(chain));
    }
    if !notice.affected.is_empty() {
        fact("also affected", &one_line(&affected(&notice.affected)));
    }
    if let Some(change) = &notice.last_change {
        let beside = change.beside(notice.began_at);
        fact("changed", &one_line(&format!("{beside} it began, by {}: {}", change.by, change.what)));
    }
    if let Some(diagnosis) = &notice.diagnosis {
        fact("cause", &diagnosis.in_words());
        diagnosis.evidence.iter().for_each(|evidence| fact("", &one_line(evidence)));
    }
}

/// The first of what fails with it, and how many more.
fn affected(names: &[String]) -> String {
    let named = names.iter().take(AFFECTED_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(AFFECTED_NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

/// Who was hurt and what it cost, in short: `41 visitors for 9.0 s, about 3.30 EUR`.
pub(super) fn hurt(seen: &VisitorsSaw, impact: &Impact) -> Option<String> {
    if seen.hurt() == 0 && impact.down_seconds == 0 {
        return None;
    }
    let mut parts = Vec::new();
    if impact.visitors > 0 {
        let about = if impact.visitors_exact { "" } else { "about " };
        parts.push(format!("{about}{}", counted(impact.visitors, "visitor")));
    }
    let during = i64::try_from(impact.hurt_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    parts.push(format!("during {}", lasted(during)));
    parts.extend(impact.money.as_ref().map(|money| format!("about {}", money.text())));
    Some(parts.join(", "))
}

fn visitors(seen: &VisitorsSaw) -> String {
    if seen.requests == 0 {
        return format!("no {} since then", seen.nouns().1);
    }
    let hurt = seen.failed.saturating_add(seen.server_errors);
    let all = counted(seen.requests, seen.noun());
    let mut text = match (hurt, seen.shed) {
        (0, 0) => format!("nobody was hurt: {all}, none failed"),
        (0, shed) => format!("{} of {all} refused for want of room, none failed", grouped(shed)),
        (_, 0) => format!("{} of {all} failed", grouped(hurt)),
        (_, shed) => format!("{} of {all} failed, {} refused for want of room", grouped(hurt), grouped(shed)),
    };
    if hurt > 0 && seen.server_errors > 0 {
        let _ = write!(text, " ({} of them with an error of a server's own)", grouped(seen.server_errors));
    }
    if seen.saved > 0 {
        let _ = write!(text, ", {} saved by a retry", grouped(seen.saved));
    }
    text
}

fn timeline(out: &mut String, entries: &[TimelineEntry]) {
    if entries.is_empty() {
        return;
    }
    out.push_str("\nWhat happened and was done\n");
    let left_out = entries.len().saturating_sub(FIRST_ENTRIES + LAST_ENTRIES);
    if left_out == 0 {
        entries.iter().for_each(|entry| line(out, entry));
        return;
    }
    entries[..FIRST_ENTRIES].iter().for_each(|entry| line(out, entry));
    let _ = writeln!(out, "  … {left_out} more …");
    entries[entries.len() - LAST_ENTRIES..].iter().for_each(|entry| line(out, entry));
}

fn line(out: &mut String, entry: &TimelineEntry) {
    let at = timestamp(entry.at).to_zoned(TimeZone::UTC);
    let at = at.strftime("%H:%M:%S.%3f");
    let text = one_line(&entry.text);
    // Most sentences name their server; the others are of no use without it.
    let server = entry.server.as_ref().filter(|server| !text.contains(&*server.name));
    let server = server.map(|server| format!("{}: ", server.name)).unwrap_or_default();
    let times = if entry.times > 1 { format!(" ({} times)", entry.times) } else { String::new() };
    let _ = writeln!(out, "  {at}  {:<8}  {server}{text}{times}", witness(entry.kind));
}

fn witness(kind: EntryKind) -> &'static str {
    match kind.witness() {
        Witness::Observed => "seen",
        Witness::Decided => "decided",
        Witness::Acted => "done",
        Witness::Person => "person",
        Witness::Own => "Mainstay",
    }
}

/// How bad it is, in a subject.
pub(super) fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Degraded => "degraded",
        Severity::Partial => "requests fail",
        Severity::Down => "DOWN",
    }
}

fn severity_sentence(severity: Severity) -> &'static str {
    match severity {
        Severity::Degraded => "degraded: visitors are served, with less in reserve",
        Severity::Partial => "partial: some requests fail",
        Severity::Down => "down: nobody is served",
    }
}

/// `3.2 s`, `4 min 10 s`, `2 h 5 min`.
fn lasted(ms: i64) -> String {
    let ms = ms.max(0);
    let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..10_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10_000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{hours} h {} min", minutes % 60),
    }
}

fn counted(n: u64, word: &str) -> String {
    format!("{} {word}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// Texts may quote what a server wrote: no control character gets into a header or a terminal.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn timestamp(at: Wall) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use mainstay_model::cause::{Cause, Diagnosis};
    use mainstay_model::impact::Money;

    use super::super::testing::notice;
    use super::*;

    #[test]
    fn a_text_says_what_failed_since_when_who_is_hurt_what_was_done_what_to_do_and_where_to_look() {
        let mut notice = notice(7, NoticeKind::NeedsPerson);
        notice.advice = "Look at its last lines, then start it by hand".to_owned();
        notice.seen = VisitorsSaw {
            requests: 12_034,
            failed: 17,
            server_errors: 4,
            saved: 3,
            ..VisitorsSaw::default()
        };
        notice.impact = Impact { visitors: 9, visitors_exact: true, hurt_seconds: 4, ..Impact::default() };
        let text = body(
            &notice,
            LinksIn {
                dashboard: Some("https://ops.example.com/"),
                take_on: Some("https://ops.example.com/ack/AAAA"),
                decide: &[],
            },
        );
        let expected = "\
app-2 of shop was killed by SIGKILL.

  where     shop
  state     degraded: visitors are served, with less in reserve
  since     2026-11-22 08:26:08.123 UTC, 1.5 s before this message
  visitors  21 of 12,034 requests failed (4 of them with an error of a server's own), 3 saved by a retry
  hurt      9 visitors, during 4.0 s

What to do
  Look at its last lines, then start it by hand

Take it on, so that nobody else is woken (the link is yours, for 24 hours)
  https://ops.example.com/ack/AAAA

What happened and was done
  08:26:08.123  seen      app-2 was killed by SIGKILL
  08:26:08.140  seen      app-2: connection refused (3 times)
  08:26:08.141  decided   app-2 is out of rotation
  08:26:08.150  done      restart of app-2 begun

Details: https://ops.example.com/incidents/7

-- 
Mainstay, incident 7. All times are UTC.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn who_was_hurt_and_what_it_cost_is_one_short_line() {
        let seen = VisitorsSaw { requests: 4_020, failed: 312, ..VisitorsSaw::default() };
        let money = Money { amount: 3.29, currency: "EUR".to_owned(), ..Money::default() };
        let impact = Impact {
            visitors: 41,
            visitors_exact: true,
            hurt_seconds: 126,
            money: Some(money),
            ..Impact::default()
        };
        assert_eq!(hurt(&seen, &impact).as_deref(), Some("41 visitors, during 2 min 6 s, about 3.29 EUR"));
        let many = Impact { visitors: 20_100, visitors_exact: false, money: None, ..impact };
        assert_eq!(hurt(&seen, &many).as_deref(), Some("about 20,100 visitors, during 2 min 6 s"));
        assert_eq!(hurt(&VisitorsSaw { requests: 9, ..VisitorsSaw::default() }, &Impact::default()), None);
        let mut notice = notice(7, NoticeKind::Opened);
        (notice.seen, notice.impact) = (seen, many);
        assert!(
            body(&notice, LinksIn::default())
                .contains("\n  hurt      about 20,100 visitors, during 2 min 6 s\n")
        );
    }

    #[test]
    fn a_known_cause_is_told_with_what_speaks_for_it() {
        let mut notice = notice(7, NoticeKind::Opened);
        let evidence =
            ["35 requests wait\nfor room", "every server answers slowly"].map(str::to_owned).to_vec();
        notice.diagnosis = Some(Diagnosis::sure(Cause::Overload, evidence));
        let text = body(&notice, LinksIn::default());
        let expected = "  cause     overload, confidence high\n            35 requests wait for room\n            every server answers slowly\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_subject_says_where_and_how_bad_and_stays_one_short_line() {
        let mut notice = notice(7, NoticeKind::Opened);
        assert_eq!(subject(&notice), "[shop] degraded: app-2 of shop was killed by SIGKILL");
        notice.kind = NoticeKind::Resolved;
        assert_eq!(subject(&notice), "[shop] resolved after 1.5 s: app-2 of shop was killed by SIGKILL");
        notice.title = format!("first\r\nBcc: evil@example.com {}", "x".repeat(300));
        let subject = subject(&notice);
        assert!(!subject.contains(['\r', '\n']) && subject.chars().count() == SUBJECT_MAX, "{subject}");
    }

    #[test]
    fn a_long_timeline_keeps_its_beginning_and_its_end() {
        let mut notice = notice(7, NoticeKind::Opened);
        let entry = notice.timeline[0].clone();
        notice.timeline =
            (0..100).map(|n| TimelineEntry { text: format!("app-2 entry {n}."), ..entry.clone() }).collect();
        let text = body(&notice, LinksIn::default());
        assert!(text.contains("entry 0.") && text.contains("entry 14.") && text.contains("… 60 more …"));
        assert!(!text.contains("entry 15.") && text.contains("entry 75.") && text.contains("entry 99."));
    }

    #[test]
    fn nobody_hurt_is_said_so() {
        let seen =
            VisitorsSaw { requests: 1, failed: 0, server_errors: 0, saved: 1, ..VisitorsSaw::default() };
        assert_eq!(visitors(&seen), "nobody was hurt: 1 request, none failed, 1 saved by a retry");
        assert_eq!(visitors(&VisitorsSaw::default()), "no requests since then");
        let seen = VisitorsSaw { requests: 9, shed: 4, ..VisitorsSaw::default() };
        assert_eq!(visitors(&seen), "4 of 9 requests refused for want of room, none failed");
        let seen = VisitorsSaw { failed: 1, ..seen };
        assert_eq!(visitors(&seen), "1 of 9 requests failed, 4 refused for want of room");
    }

    #[test]
    fn times_and_numbers_read_well() {
        assert_eq!(lasted(-5), "0.0 s");
        assert_eq!(lasted(59_999), "59 s");
        assert_eq!(lasted(250_000), "4 min 10 s");
        assert_eq!(lasted(7_500_000), "2 h 5 min");
        assert_eq!((grouped(7).as_str(), grouped(1_234_567).as_str()), ("7", "1,234,567"));
        assert_eq!(rfc3339(Wall(1_795_335_968_123)), "2026-11-22T08:26:08.123Z");
        assert_eq!(rfc3339(Wall(i64::MAX)), "1970-01-01T00:00:00.000Z");
    }
}
