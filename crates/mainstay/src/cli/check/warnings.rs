//! What is not right although it decides nothing: told beside the verdict, a sentence each.

use std::time::Duration;

use super::beyond::{day, time};
use super::findings::outcome_words;
use super::observed::{Answer, Hop, Outcome, Try};
use super::verdict::Case;
use crate::cli::paint::counted;

/// A certificate that ends sooner is warned of.
const DAYS_LEFT_MIN: i64 = 14;
/// A connection that took longer needed a second try: its first packet was lost.
const CONNECT_SLOW: Duration = Duration::from_millis(900);
/// A look-up that took longer is noticed by a person.
const LOOKUP_SLOW: Duration = Duration::from_secs(1);
/// Clocks that differ by more seconds are not only on the way.
const CLOCK_SECONDS: i64 = 300;

/// All of them.
pub(super) fn warnings(case: &Case<'_>) -> Vec<String> {
    let mut list = Vec::new();
    for hop in &case.seen.hops {
        let case = Case::at(case.seen, hop);
        look_up(&case, &mut list);
        dead_addresses(&case, &mut list);
        certificate(&case, &mut list);
        downgrade(hop, &mut list);
    }
    page(case, &mut list);
    let mut told: Vec<String> = Vec::new();
    list.retain(|warning| {
        let new = !told.contains(warning);
        told.push(warning.clone());
        new
    });
    list
}

fn look_up(case: &Case<'_>, list: &mut Vec<String>) {
    let Some(system) = case.hop.names.as_ref().and_then(|names| names.system()) else { return };
    let silent = |answer: &Answer| matches!(answer, Answer::Silent);
    for (answer, other, kind) in [(&system.v4, &system.v6, "IPv4"), (&system.v6, &system.v4, "IPv6")] {
        if silent(answer) && !silent(other) && other.is_spoken() {
            list.push(format!(
                "The resolver {} does not answer questions for {kind} addresses; every look-up waits for it.",
                system.address.ip()
            ));
        }
    }
    if system.answer().is_spoken() && system.took > LOOKUP_SLOW && !silent(&system.v4) && !silent(&system.v6)
    {
        list.push(format!("The resolver {} took {} to answer.", system.address.ip(), time(system.took)));
    }
}

/// Some addresses answer and some do not: visitors meet the dead ones by chance.
fn dead_addresses(case: &Case<'_>, list: &mut Vec<String>) {
    let own: Vec<&Try> = case.hop.tcp.own().collect();
    // Programs on this machine often listen on one of its two own addresses only; nobody else sees that.
    if case.is_loopback() || !own.iter().any(|attempt| attempt.outcome == Outcome::Connected) {
        return;
    }
    for (is_kind, kind) in [(true, "IPv6"), (false, "IPv4")] {
        let of_kind: Vec<&&Try> = own.iter().filter(|attempt| attempt.address.is_ipv6() == is_kind).collect();
        // A kind of address that this machine has no way for is no fault of the page, nor one that a visitor notices.
        let dead: Vec<&&Try> = of_kind
            .iter()
            .filter(|attempt| !matches!(attempt.outcome, Outcome::Connected | Outcome::NoRoute))
            .copied()
            .collect();
        let Some(first) = dead.first() else { continue };
        let said = format!("{} {}", first.address, outcome_words(first));
        list.push(if dead.len() == of_kind.len() && of_kind.len() < own.len() {
            let works = if is_kind { "IPv4" } else { "IPv6" };
            format!(
                "{} cannot be reached over {kind} from here ({said}); over {works} it can, so the page opens, perhaps after a delay.",
                case.hop.host
            )
        } else {
            format!(
                "{} of the {} {kind} addresses of {} {} dead ({said}); some visitors meet {}.",
                dead.len(),
                of_kind.len(),
                case.hop.host,
                if dead.len() == 1 { "is" } else { "are" },
                if dead.len() == 1 { "it" } else { "them" }
            )
        });
    }
    let slowest =
        own.iter().filter(|attempt| attempt.outcome == Outcome::Connected).map(|attempt| attempt.took).min();
    if let Some(took) = slowest.filter(|took| *took > CONNECT_SLOW) {
        list.push(format!(
            "Connecting to {} took {}: packets are lost or late on the way.",
            case.hop.host,
            time(took)
        ));
    }
}

fn certificate(case: &Case<'_>, list: &mut Vec<String>) {
    let tls = case.hop.way().and_then(|way| way.tls.as_ref());
    let Some(certificate) = tls.and_then(|tls| tls.certificate.as_ref()) else { return };
    if !certificate.problems.is_empty() {
        return;
    }
    let left = certificate.days_left(case.seen.now);
    if left < DAYS_LEFT_MIN {
        list.push(format!(
            "The certificate of {} ends on {}, in {}; it should have been renewed by now.",
            case.hop.host,
            day(certificate.not_after),
            counted(left.unsigned_abs(), "day")
        ));
    }
}

fn downgrade(hop: &Hop, list: &mut Vec<String>) {
    let to = hop.page().and_then(|page| page.location.as_deref());
    if let Some(to) = to.filter(|to| hop.https && to.starts_with("http://")) {
        list.push(format!(
            "{} redirects from https to http ({to}): everybody on the way can read and change what follows.",
            hop.url
        ));
    }
}

fn page(case: &Case<'_>, list: &mut Vec<String>) {
    let Some(page) = case.hop.page() else { return };
    if page.status == 401 && !page.with_login {
        list.push("The page asks for a login, so what is behind it was not seen.".to_owned());
    }
    if let Some(theirs) = page.server_time {
        let apart = theirs - case.seen.now;
        if apart.abs() > CLOCK_SECONDS {
            list.push(format!(
                "The clocks of this machine and of {} are {} apart.",
                case.hop.host,
                counted(apart.unsigned_abs() / 60, "minute")
            ));
        }
    }
}
