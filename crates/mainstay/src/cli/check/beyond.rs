//! The findings once a connection stands: TLS and the certificate, HTTP, redirects, the content, and how long it took.

use std::time::Duration;

use jiff::Timestamp;

use super::observed::{
    Certificate, CertificateProblem, Http, HttpFailure, Page, PageEnd, Stopped, Tls, TlsFailure, Walk,
};
use super::verdict::{Case, Fault, Finding};
use crate::cli::paint::counted;

const IF_YOURS: &str = "It is not you; wait, and tell the site. If it is your site:";

/// The first fault after the connection.
pub(super) fn first(case: &Case<'_>) -> Option<Finding> {
    let way = case.hop.way()?;
    portal(case, way)
        .or_else(|| way.tls.as_ref().and_then(|tls| handshake(case, tls)))
        .or_else(|| way.tls.as_ref().and_then(|tls| certificate(case, tls)))
        .or_else(|| way.http.as_ref().and_then(|http| no_answer(case, http)))
        .or_else(|| stopped(case))
        .or_else(|| case.hop.page().and_then(|page| status(case, page).or_else(|| content(case, page))))
}

/// An answer that came, but late.
pub(super) fn slow(case: &Case<'_>) -> Option<Finding> {
    let slowest = case.seen.hops.iter().filter_map(|hop| Some((hop, hop.page()?.first_byte)));
    let (hop, took) = slowest.max_by_key(|(_, took)| *took)?;
    (took > case.seen.slow).then(|| {
        Finding::new(
            Fault::Application,
            format!("{} answers, but slowly", hop.host),
            format!(
                "The first byte of {} came {} after the request. More than {} counts as slow.",
                hop.url,
                time(took),
                time(case.seen.slow)
            ),
            format!("{IF_YOURS} look at its load, its database, and what else it waits for."),
        )
    })
}

/// Something in this network answers in the page's place: a log-in page of a hotel or a train.
fn portal(case: &Case<'_>, way: &Walk) -> Option<Finding> {
    let page = case.hop.page();
    let sent_away = case.seen.hops.iter().any(|hop| {
        hop.page()
            .and_then(|page| page.location.as_deref())
            .is_some_and(|location| !is_same_site(&hop.host, location))
    });
    let forged = way.tls.as_ref().and_then(|tls| tls.certificate.as_ref()).is_some_and(|own| {
        own.problems.iter().any(|problem| {
            matches!(
                problem,
                CertificateProblem::WrongHost
                    | CertificateProblem::UnknownAuthority
                    | CertificateProblem::SelfSigned
            )
        })
    });
    let asked_for = case.seen.hops.first().is_some_and(|hop| !Case::at(case.seen, hop).is_near());
    let cut_off = case.seen.network.world() == Some(false) && asked_for && (sent_away || forged);
    if !cut_off && page.is_none_or(|page| page.status != 511) {
        return None;
    }
    let what =
        if forged { "shows a certificate that is not the page's" } else { "sends visitors to another page" };
    Some(Finding::new(
        Fault::Network,
        "this network wants you to log in first",
        format!(
            "Something answers in the place of {}, and {what}. Nothing else on the Internet can be reached from here.",
            case.seen.url
        ),
        "Open a browser and go through the log-in page of this network (a hotel's or a train's), then try again. If there is none, somebody \
         in this network intercepts connections: enter no password.",
    ))
}

/// Whether a redirect stays with the same people, as far as names tell: shop.example.com, www.example.com and example.com.
pub(super) fn is_same_site(host: &str, url: &str) -> bool {
    let other =
        reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let registered = |name: &str| {
        let labels: Vec<&str> = name.trim_end_matches('.').rsplit('.').take(2).collect();
        labels.join(".")
    };
    host == other || (host.parse::<std::net::IpAddr>().is_err() && registered(host) == registered(&other))
}

fn handshake(case: &Case<'_>, tls: &Tls) -> Option<Finding> {
    let (host, took) = (&case.hop.host, time(tls.took));
    let at = case.hop.way().map(|way| way.address.to_string()).unwrap_or_default();
    let (headline, seen, advice) = match tls.failure.as_ref()? {
        TlsFailure::TimedOut => (
            format!("{host} takes the connection and then says nothing"),
            format!("{at} accepted the connection, and did not answer the beginning of TLS within {took}."),
            "the web server hangs or is overloaded; look at it. If it works from other networks, packets above a certain size are lost on the way (MTU).".to_owned(),
        ),
        TlsFailure::Closed => (
            format!("{host} closes the connection at once"),
            format!("{at} accepted the connection and closed it before TLS was set up."),
            "look at the web server's log; it may be starting, at its limit of connections, or refuse this address.".to_owned(),
        ),
        TlsFailure::NotTls => (
            format!("{host} does not speak HTTPS on port {}", port(case)),
            format!("{at} answers, but not with TLS: plain HTTP or something else listens there."),
            format!("switch TLS on for that port. As a visitor, try http://{host}:{}/.", port(case)),
        ),
        TlsFailure::NoCommonProtocol(why) => (
            format!("{host} and this program speak no common version of TLS"),
            format!("{at} speaks TLS, but none of the versions and ciphers that are safe today ({why})."),
            "let it offer TLS 1.2 and 1.3; older versions are refused by every browser.".to_owned(),
        ),
        TlsFailure::Alert(why) => (
            format!("{host} refuses the TLS connection"),
            format!("{at} ended TLS with the alert {why}."),
            format!("it may have no certificate for the name {host}; look at its TLS settings and log."),
        ),
        TlsFailure::Other(why) => (
            format!("no TLS connection to {host}"),
            format!("TLS with {at} failed: {why}."),
            "look at its TLS settings and its certificate.".to_owned(),
        ),
    };
    Some(Finding::new(Fault::Server, headline, seen, format!("{IF_YOURS} {advice}")))
}

fn port(case: &Case<'_>) -> u16 {
    case.hop.way().map_or(443, |way| way.address.port())
}

fn certificate(case: &Case<'_>, tls: &Tls) -> Option<Finding> {
    let certificate = tls.certificate.as_ref()?;
    let first = certificate.problems.first()?;
    if let Some(finding) = wrong_clock(case, tls, certificate) {
        return Some(finding);
    }
    let (host, now) = (&case.hop.host, case.seen.now);
    let all: Vec<String> =
        certificate.problems.iter().map(|problem| problem_words(problem, certificate, now)).collect();
    let advice = match first {
        CertificateProblem::Expired | CertificateProblem::ChainExpired => {
            "renew the certificate, reload the web server, and look why renewal did not happen by itself."
        }
        CertificateProblem::NotYetValid => {
            "look at the clocks of the server and of whoever made the certificate."
        }
        CertificateProblem::WrongHost => {
            "get a certificate for this name, or send visitors to a name that it is made out to."
        }
        CertificateProblem::ChainMissing => {
            "give the web server the full chain (fullchain.pem), not the certificate alone."
        }
        CertificateProblem::SelfSigned | CertificateProblem::UnknownAuthority => {
            "get a certificate from an authority that browsers know. If it is meant to be vouched for by your own, name that with --ca FILE."
        }
        CertificateProblem::Other(_) => "replace the certificate.",
    };
    Some(Finding::new(
        Fault::Server,
        format!("the certificate of {host} {}", problem_headline(first, host)),
        format!(
            "{} shows a certificate for {}, by {}. What is wrong with it: {}.",
            case.hop.url,
            certificate.subject,
            certificate.issuer,
            all.join("; ")
        ),
        format!("Do not enter a password there. {IF_YOURS} {advice}"),
    ))
}

fn problem_headline(problem: &CertificateProblem, host: &str) -> String {
    match problem {
        CertificateProblem::Expired => "has expired".to_owned(),
        CertificateProblem::NotYetValid => "is not valid yet".to_owned(),
        CertificateProblem::WrongHost => format!("is not made out to {host}"),
        CertificateProblem::SelfSigned => "is vouched for by nobody but itself".to_owned(),
        CertificateProblem::UnknownAuthority => "is vouched for by nobody that is known".to_owned(),
        CertificateProblem::ChainMissing => "comes without its chain".to_owned(),
        CertificateProblem::ChainExpired => "rests on one that has expired".to_owned(),
        CertificateProblem::Other(_) => "cannot be accepted".to_owned(),
    }
}

/// A problem of a certificate in a few words.
pub(super) fn problem_words(problem: &CertificateProblem, certificate: &Certificate, now: i64) -> String {
    match problem {
        CertificateProblem::Expired => {
            format!("it expired on {}, {}", day(certificate.not_after), days_ago(-certificate.days_left(now)))
        }
        CertificateProblem::NotYetValid => {
            format!("it is valid only from {} on", day(certificate.not_before))
        }
        CertificateProblem::WrongHost => match &certificate.names[..] {
            [] => "it is made out to no host at all".to_owned(),
            names => {
                format!("it is made out to {}", names.iter().take(5).cloned().collect::<Vec<_>>().join(", "))
            }
        },
        CertificateProblem::SelfSigned => "it is signed by itself".to_owned(),
        CertificateProblem::UnknownAuthority => "no known authority vouches for it".to_owned(),
        CertificateProblem::ChainMissing => {
            format!(
                "the server does not send the certificate of {}, which vouches for it",
                certificate.issuer
            )
        }
        CertificateProblem::ChainExpired => {
            "a certificate between it and its authority has expired".to_owned()
        }
        CertificateProblem::Other(why) => why.clone(),
    }
}

/// The certificate's dates would fit if this machine's clock were the server's.
fn wrong_clock(case: &Case<'_>, tls: &Tls, certificate: &Certificate) -> Option<Finding> {
    const DAY: i64 = 86_400;
    let theirs = tls.server_time.filter(|_| certificate.only_dates_are_wrong())?;
    let fits = (certificate.not_before..=certificate.not_after).contains(&theirs);
    (fits && (theirs - case.seen.now).abs() > DAY).then(|| {
        Finding::new(
            Fault::Machine,
            "the clock of this machine is wrong",
            format!(
                "This machine believes that it is {}; the server says {}. By the server's clock its certificate is valid.",
                day(case.seen.now),
                day(theirs)
            ),
            "Set the clock of this machine (`timedatectl set-ntp true`), then try again.",
        )
    })
}

fn no_answer(case: &Case<'_>, http: &Http) -> Option<Finding> {
    let (host, took) = (&case.hop.host, time(http.took));
    let at = case.hop.way().map(|way| way.address.to_string()).unwrap_or_default();
    let (fault, headline, seen, advice) = match http.result.as_ref().err()? {
        HttpFailure::TimedOut => (
            Fault::Application,
            format!("{host} takes the request and does not answer"),
            format!("{at} accepted the request, and nothing came back within {took}."),
            "the application hangs, or what it waits for does (a database, another service); look at it.".to_owned(),
        ),
        HttpFailure::Closed => (
            Fault::Server,
            format!("{host} closes the connection without an answer"),
            format!("{at} accepted the connection and closed it without a word, {took} after the request."),
            "the web server or the application crashes on the request, or refuses this address; look at its log.".to_owned(),
        ),
        HttpFailure::NotHttp(why) => (
            Fault::Server,
            format!("what answers at {host} is no web server"),
            format!("{at} answers with something that is not HTTP ({why})."),
            format!("look what listens on port {}.", port(case)),
        ),
        HttpFailure::IsTls => (
            Fault::Server,
            format!("port {} of {host} wants https", port(case)),
            format!("{at} speaks TLS, and was asked without."),
            format!("visitors who write http:// need a redirect. As a visitor, try https://{}/.", authority(case)),
        ),
        HttpFailure::HeadTooLong(bytes) => (
            Fault::Application,
            format!("the header of {host}'s answer is too long"),
            format!("{at} sent more than {} KiB of header, which browsers and proxies refuse too.", bytes / 1024),
            "look for what it sets in headers, often cookies that grow.".to_owned(),
        ),
    };
    Some(Finding::new(fault, headline, seen, format!("{IF_YOURS} {advice}")))
}

fn authority(case: &Case<'_>) -> String {
    let port = port(case);
    let host =
        if case.hop.host.contains(':') { format!("[{}]", case.hop.host) } else { case.hop.host.clone() };
    if port == 443 { host } else { format!("{host}:{port}") }
}

fn stopped(case: &Case<'_>) -> Option<Finding> {
    let url = &case.hop.url;
    let (headline, seen) = match case.seen.stopped.as_ref()? {
        Stopped::Loop(to) => (
            "the page redirects in a circle".to_owned(),
            format!("{url} redirects to {to}, which was asked for already. A browser would never arrive."),
        ),
        Stopped::TooMany(max) => (
            "the page redirects again and again".to_owned(),
            format!("After {max} redirects there is still no page; the last one is {url}."),
        ),
        Stopped::Nowhere(to) => (
            "the page redirects to something that is no web address".to_owned(),
            format!("{url} redirects to `{to}`."),
        ),
        Stopped::OutOfTime(to) => (
            "the page redirects, and the time was up before it was there".to_owned(),
            format!("{url} redirects to {to}; {} had passed by then.", time(case.seen.took)),
        ),
    };
    let advice = format!(
        "{IF_YOURS} look at its rules for redirects (http to https, with and without www), and at what a proxy before it tells it about the \
         scheme. Deleting the page's cookies in the browser helps now and then."
    );
    Some(Finding::new(Fault::Application, headline, seen, advice))
}

fn status(case: &Case<'_>, page: &Page) -> Option<Finding> {
    let (host, url, status) = (&case.hop.host, &case.hop.url, page.status);
    if matches!(status, 301 | 302 | 303 | 307 | 308) && !page.is_redirect() {
        let seen =
            format!("{url} answered with the redirect {status}, and without a Location that says where to.");
        let advice = format!("{IF_YOURS} look at its rules for redirects.");
        return Some(Finding::new(
            Fault::Application,
            format!("{host} redirects, and not to anywhere"),
            seen,
            advice,
        ));
    }
    if status < 400 || (status == 401 && !page.with_login) {
        return None;
    }
    let seen = format!("{url} answered with status {status} after {}.", time(page.first_byte));
    let (headline, advice) = match status {
        400 => (format!("{host} does not understand the request (400)"), "If the address begins with http://, try https://; else look at its spelling.".to_owned()),
        401 => (format!("{host} does not accept the user or the password (401)"), "Look at the user and the password in the address.".to_owned()),
        403 | 451 => (
            format!("{host} refuses this page to you ({status})"),
            "The server works. The page may want a log-in, or be closed to your address or country. If it is your site: look at its rules for access.".to_owned(),
        ),
        404 | 410 => (
            format!("{host} has no such page ({status})"),
            "The server works. Look at the spelling of the address, or begin at the front page. If it is your site: the page was moved or not deployed.".to_owned(),
        ),
        429 => (format!("{host} wants fewer requests from you (429)"), "The server works. Wait some minutes.".to_owned()),
        502 | 504 => (
            format!("{host} answers, but what stands behind it does not ({status})"),
            format!("{IF_YOURS} the web server in front is up, and the application behind it is down, does not answer, or crashed; look at that one's log and restart it."),
        ),
        503 => (
            format!("{host} is overloaded or closed for maintenance (503)"),
            format!("{IF_YOURS} look whether any server behind it is left, and at its load."),
        ),
        500.. => (format!("the application of {host} fails ({status})"), format!("{IF_YOURS} look at the application's log; a recent change is the usual cause.")),
        _ => (format!("{host} answers with an error ({status})"), format!("{IF_YOURS} look at its log.")),
    };
    Some(Finding::new(Fault::Application, headline, seen, advice))
}

fn content(case: &Case<'_>, page: &Page) -> Option<Finding> {
    let (host, url) = (&case.hop.host, &case.hop.url);
    let (headline, seen) = match page.end {
        PageEnd::CutShort => (
            format!("the page of {host} breaks off"),
            format!(
                "{url} answered with {}, and its content ended too early, after {}.",
                page.status,
                counted(page.bytes as u64, "byte")
            ),
        ),
        PageEnd::Stalled => (
            format!("the page of {host} does not come to its end"),
            format!(
                "{url} answered with {}; {} came, and then the rest did not in time.",
                page.status,
                counted(page.bytes as u64, "byte")
            ),
        ),
        _ if page.found == Some(false) => (
            format!("the page of {host} is not the one that was expected"),
            format!(
                "{url} answered with {}, but `{}` is not in what was read of it: {}.",
                page.status,
                case.seen.expect.as_deref().unwrap_or_default(),
                counted(page.bytes as u64, "byte")
            ),
        ),
        PageEnd::Whole if page.bytes == 0 && !page.may_be_empty() => (
            format!("the page of {host} is empty"),
            format!("{url} answered with {}, and without any content.", page.status),
        ),
        _ => return None,
    };
    Some(Finding::new(
        Fault::Application,
        headline,
        seen,
        format!("{IF_YOURS} look at the application's log; the web server itself works."),
    ))
}

/// `3.2 ms`, `1.20 s`.
pub(super) fn time(time: Duration) -> String {
    crate::cli::paint::milliseconds(Some(time.as_secs_f64() * 1000.0))
}

/// `2026-11-22`.
pub(super) fn day(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| "an impossible day".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

fn days_ago(days: i64) -> String {
    match days {
        ..=1 => "within the last day".to_owned(),
        days => format!("{days} days ago"),
    }
}
