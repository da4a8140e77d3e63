//! What a text message says in 160 characters: what, since when, who is hurt, what was done, and the link to take it on.
//! What does not fit is left out, the least important first; what and since when always stay.

use mainstay_model::effect::{Notice, NoticeKind};
use mainstay_model::incident::EntryKind;

use super::gsm7::{cut, septets, transliterated};
use crate::alert::message;

/// One message; a longer one is sent, paid and lost in parts.
pub(super) const MOST: usize = 160;
/// The title keeps at least so much, or the link goes.
const TITLE_LEAST: usize = 40;
/// The name of a service or part keeps at most so much.
const SCOPE_MOST: usize = 30;

/// The text of a notice.
pub(super) fn of(notice: &Notice, link: Option<&str>) -> String {
    let scope = cut(&transliterated(&notice.scope), SCOPE_MOST);
    let head = format!("{scope} {}: ", transliterated(&how(notice)));
    let title = transliterated(&notice.title);
    let since = format!(", since {}", message::since(notice));
    let hurt = transliterated(&message::hurt_in_short(notice));
    let done = done(notice);
    let link = link.map(str::to_owned).unwrap_or_default();
    // Each further one leaves out what matters least of the one before.
    let tails = [[&hurt, &done, &link], [&hurt, &empty(), &link], [&empty(), &empty(), &link]].map(tail);
    let whole = |title: &str, tail: &str| format!("{head}{title}{since}.{tail}");
    for tail in &tails {
        let text = whole(&title, tail);
        if septets(&text) <= MOST {
            return text;
        }
    }
    for tail in [tails[2].as_str(), ""] {
        let left = MOST.saturating_sub(septets(&whole("", tail)));
        if left >= TITLE_LEAST || tail.is_empty() {
            return whole(&cut(&title, left), tail);
        }
    }
    unreachable!("the last tail is empty")
}

fn empty() -> String {
    String::new()
}

fn tail(parts: [&String; 3]) -> String {
    let [hurt, done, link] = parts;
    let sentence = |text: &str| if text.is_empty() { String::new() } else { format!(" {text}.") };
    let link = if link.is_empty() { String::new() } else { format!(" {link}") };
    format!("{}{}{link}", sentence(hurt), sentence(done))
}

/// The text in place of those that were held back.
pub(super) fn held_back(count: u32, budget: u32, dashboard: Option<&str>) -> String {
    let what = match count {
        1 => "Mainstay: 1 more alert was held back".to_owned(),
        count => format!("Mainstay: {count} more alerts were held back"),
    };
    let brief = format!("{what} (at most {budget} an hour); see the dashboard");
    let with_link = dashboard.map(|link| format!("{brief}: {}", transliterated(link)));
    with_link.filter(|text| septets(text) <= MOST).unwrap_or(brief)
}

fn how(notice: &Notice) -> String {
    match notice.kind {
        NoticeKind::Opened | NoticeKind::Escalated => message::severity_word(notice.severity).to_owned(),
        NoticeKind::Worsened => format!("now {}", message::severity_word(notice.severity)),
        NoticeKind::NeedsPerson => "needs you".to_owned(),
        NoticeKind::Resolved => format!("over after {}", message::duration(notice)),
    }
}

/// The last thing that was done about it.
fn done(notice: &Notice) -> String {
    let acted =
        [EntryKind::ActionBegun, EntryKind::ActionDone, EntryKind::ActionFailed, EntryKind::BudgetSpent];
    let last = notice.timeline.iter().rev().find(|entry| acted.contains(&entry.kind));
    last.map(|entry| transliterated(&entry.text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mainstay_model::incident::{Severity, VisitorsSaw};
    use proptest::prelude::*;

    use super::super::gsm7::is_known;
    use super::*;
    use crate::alert::testing::notice;

    const LINK: &str = "https://ops.example.com/ack/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn hurt() -> VisitorsSaw {
        VisitorsSaw { requests: 12_034, failed: 21, ..VisitorsSaw::default() }
    }

    #[test]
    fn a_text_says_what_since_when_who_is_hurt_what_was_done_and_how_to_take_it_on() {
        let mut notice = notice(7, NoticeKind::Opened);
        notice.severity = Severity::Partial;
        notice.seen = hurt();
        notice.title = "app-2 was killed".to_owned();
        let text = of(&notice, Some("https://ops.example.com/ack/AAAA"));
        assert_eq!(
            text,
            "shop requests fail: app-2 was killed, since 08:26 UTC. 21 of 12,034 requests failed. \
             restart of app-2 begun. https://ops.example.com/ack/AAAA"
        );
    }

    #[test]
    fn the_least_important_goes_first_and_the_link_stays() {
        let mut notice = notice(7, NoticeKind::Opened);
        notice.severity = Severity::Partial;
        notice.seen = hurt();
        let text = of(&notice, Some(LINK));
        assert!(text.ends_with(LINK) && !text.contains("restart"), "{text}");
        notice.title = "x".repeat(300);
        let text = of(&notice, Some(LINK));
        assert!(text.ends_with(LINK) && text.contains("..., since 08:26 UTC."), "{text}");
        let long = format!("https://{}.example.com/", "x".repeat(120));
        let text = of(&notice, Some(&long));
        assert!(!text.contains("https") && text.ends_with("..., since 08:26 UTC."), "{text}");
    }

    #[test]
    fn an_old_incident_names_its_day() {
        let mut notice = notice(7, NoticeKind::Resolved);
        notice.at.0 += 26 * 3_600_000;
        assert!(of(&notice, None).contains("since 22 Nov 08:26 UTC"), "{}", of(&notice, None));
        assert!(of(&notice, None).starts_with("shop over after 26 h 0 min: "));
    }

    #[test]
    fn what_was_held_back_is_counted() {
        assert_eq!(
            held_back(12, 10, Some("https://ops.example.com")),
            "Mainstay: 12 more alerts were held back (at most 10 an hour); see the dashboard: https://ops.example.com"
        );
        assert!(held_back(1, 10, Some(&"x".repeat(200))).ends_with("see the dashboard"));
    }

    proptest! {
        #[test]
        fn a_text_never_takes_more_than_one_message_and_always_says_what_and_since_when(
            scope in ".{0,200}", title in ".{0,300}", done in ".{0,300}", link in proptest::option::of("https://[a-z_~]{1,180}"),
            failed in 0u64..u64::MAX / 2, at in 0i64..10_000_000_000_000, kind in 0usize..5
        ) {
            let kinds = [NoticeKind::Opened, NoticeKind::Escalated, NoticeKind::Worsened, NoticeKind::NeedsPerson, NoticeKind::Resolved];
            let mut notice = notice(7, kinds[kind]);
            (notice.scope, notice.title, notice.at.0) = (scope, title.clone(), at);
            notice.timeline[3].text = done;
            notice.seen = VisitorsSaw { requests: u64::MAX, failed, ..VisitorsSaw::default() };
            let text = of(&notice, link.as_deref());
            prop_assert!(septets(&text) <= MOST, "{} septets: {text}", septets(&text));
            prop_assert!(text.chars().all(is_known), "{text}");
            prop_assert!(text.contains(", since "), "{text}");
            let first = transliterated(&title).chars().next();
            prop_assert!(first.is_none_or(|first| text.contains(first)), "{text} says nothing of {title}");
        }
    }
}
