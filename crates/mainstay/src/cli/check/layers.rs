//! The way layer by layer, each with its time and a line of what was seen: for a person's eyes and for `--json` alike.

use std::time::Duration;

use super::beyond::{day, is_same_site, problem_words, time};
use super::findings::outcome_words;
use super::names::answer_words;
use super::observed::{
    Answer, Certificate, Hop, HttpFailure, Machine, Names, Network, Observations, Outcome, Page, PageEnd,
    Tcp, Tls, TlsFailure, Try,
};
use crate::cli::paint::counted;

/// How a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    /// Something is not as it should be, and it goes on.
    Warning,
    Failed,
    /// Not looked at, because it was not needed or it did not come to that.
    Skipped,
}

impl State {
    /// As `--json` names it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "failed",
            State::Skipped => "skipped",
        }
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// `machine`, `network`, `dns`, `addresses`, `tcp`, `tls`, `http` or `content`.
    pub name: &'static str,
    /// The URL it belongs to; `None` for the two that come before any.
    pub url: Option<String>,
    pub state: State,
    pub took: Duration,
    /// One line.
    pub text: String,
    /// More lines, where there is more to tell.
    pub details: Vec<String>,
}

impl Layer {
    fn new(name: &'static str, state: State, took: Duration, text: impl Into<String>) -> Self {
        Self { name, url: None, state, took, text: text.into(), details: Vec::new() }
    }

    fn skipped(name: &'static str, why: &str) -> Self {
        Self::new(name, State::Skipped, Duration::ZERO, why)
    }
}

/// All layers, from outside in.
pub(super) fn layers(seen: &Observations) -> Vec<Layer> {
    let reached = seen.last().way().is_some();
    let mut layers = vec![machine(&seen.machine), network(&seen.network, reached)];
    for (at, hop) in seen.hops.iter().enumerate() {
        let last = at + 1 == seen.hops.len();
        for layer in of_hop(seen, hop, last) {
            layers.push(Layer { url: Some(hop.url.clone()), ..layer });
        }
    }
    layers
}

fn machine(machine: &Machine) -> Layer {
    let names: Vec<&str> = machine
        .interfaces
        .iter()
        .filter(|interface| interface.works && !interface.loopback)
        .map(|interface| interface.name.as_str())
        .collect();
    let state = match (machine.has_interface(), machine.has_route()) {
        (true, true) => State::Ok,
        _ => State::Warning,
    };
    let interfaces =
        if names.is_empty() { "no interface besides the loopback".to_owned() } else { names.join(", ") };
    let route = |route: &super::observed::Route, kind: &str| match (&route.gateway, route.exists) {
        (Some((gateway, _)), true) => Some(format!("{kind} through {}", gateway.ip())),
        (None, true) => Some(kind.to_owned()),
        (_, false) => None,
    };
    let routes: Vec<String> =
        [route(&machine.v4, "IPv4"), route(&machine.v6, "IPv6")].into_iter().flatten().collect();
    let routes = if routes.is_empty() { "no default route".to_owned() } else { routes.join(", ") };
    Layer::new("machine", state, machine.took, format!("{interfaces} up; {routes}"))
}

/// A reference that is silent is no fault of a network in which the page is reached: some let nothing else out.
fn network(network: &Network, reached: bool) -> Layer {
    let mut parts = Vec::new();
    if let Some(gateway) = &network.gateway {
        let words = match gateway.reached {
            Some(true) => "is there",
            Some(false) => "cannot be reached",
            None => "says nothing",
        };
        parts.push(format!("gateway {} {words}", gateway.address));
    }
    for reference in &network.references {
        parts.push(format!("{} {}", reference.address, outcome_words(reference)));
    }
    if let Some(why) = network.unasked {
        parts.push(format!("no reference asked: {why}"));
    }
    let gone = network.gateway.as_ref().is_some_and(|gateway| gateway.reached == Some(false));
    let state = match (network.world(), gone) {
        (Some(true), _) => State::Ok,
        (Some(false), _) if reached => State::Warning,
        (Some(false), _) => State::Failed,
        (None, true) => State::Failed,
        (None, false) if network.gateway.as_ref().is_some_and(|gateway| gateway.reached == Some(true)) => {
            State::Ok
        }
        (None, false) => State::Skipped,
    };
    Layer::new("network", state, network.took, parts.join("; "))
}

fn of_hop(seen: &Observations, hop: &Hop, last: bool) -> Vec<Layer> {
    let mut layers = Vec::new();
    match &hop.names {
        Some(names) => layers.push(dns(names)),
        None if hop.host.parse::<std::net::IpAddr>().is_ok() => {
            layers.push(Layer::skipped("dns", "the host is an address"));
        }
        None => {}
    }
    layers.push(addresses(&hop.tcp));
    if hop.tcp.tries.is_empty() {
        return layers;
    }
    layers.push(tcp(&hop.tcp));
    let Some(way) = hop.way() else { return layers };
    if let Some(used) = &way.tls {
        layers.push(tls(used, seen.now));
    }
    let Some(http) = &way.http else { return layers };
    match &http.result {
        Err(failure) => {
            layers.push(Layer::new("http", State::Failed, http.took, http_words(failure, http.took)))
        }
        Ok(page) => {
            layers.push(answer(seen, hop, page, last));
            if !page.is_redirect() {
                layers.push(content(page, http.took.saturating_sub(page.first_byte)));
            }
        }
    }
    layers
}

fn dns(names: &Names) -> Layer {
    let details: Vec<String> = names
        .resolvers
        .iter()
        .map(|asked| {
            let whose = if asked.system { "own" } else { "other" };
            format!(
                "{} ({whose}): {}, {}",
                asked.address.ip(),
                answer_words(&asked.answer()),
                time(asked.took)
            )
        })
        .chain(names.unasked.map(|why| format!("no other resolver asked: {why}")))
        .collect();
    let (state, text) = if !names.hosts_file.is_empty() {
        let what = answer_words(&Answer::Addresses(names.hosts_file.clone()));
        let by = if names.resolvers.is_empty() {
            "this machine itself"
        } else {
            "from this machine's own /etc/hosts"
        };
        (State::Ok, format!("{what}, {by}"))
    } else {
        match names.system() {
            None => (State::Failed, "no resolver".to_owned()),
            Some(system) => {
                let answer = system.answer();
                let text =
                    format!("{} says: {}{}", system.address.ip(), answer_words(&answer), compared(names));
                let state = match answer {
                    Answer::Addresses(_) if names.silent_before_system().is_empty() => State::Ok,
                    Answer::Addresses(_) => State::Warning,
                    _ => State::Failed,
                };
                (state, text)
            }
        }
    };
    Layer { details, ..Layer::new("dns", state, names.took, text) }
}

/// What the other resolver makes of it, in few words.
fn compared(names: &Names) -> String {
    let Some(other) = names.other() else { return String::new() };
    let theirs = other.address.ip();
    let mut own = names.system_addresses();
    let mut given = other.addresses();
    own.sort();
    given.sort();
    match other.answer() {
        Answer::Addresses(_) if own == given => format!("; {theirs} agrees"),
        Answer::Addresses(_) if own.iter().any(|ip| given.contains(ip)) => {
            format!("; {theirs} agrees in part")
        }
        Answer::Addresses(_) if !own.is_empty() => {
            format!("; {theirs} gives others, as is usual for large sites")
        }
        answer => format!("; {theirs}: {}", answer_words(&answer)),
    }
}

fn addresses(tcp: &Tcp) -> Layer {
    let v6 = tcp.tries.iter().filter(|attempt| attempt.address.is_ipv6()).count();
    let v4 = tcp.tries.len() - v6;
    if tcp.tries.is_empty() {
        return Layer::skipped("addresses", "none to go to");
    }
    let mut text = match (v4, v6) {
        (v4, 0) => format!("{v4} IPv4"),
        (0, v6) => format!("{v6} IPv6"),
        (v4, v6) => format!("{v4} IPv4, {v6} IPv6"),
    };
    let other = tcp.tries.iter().filter(|attempt| attempt.other).count();
    if other > 0 {
        text.push_str(&format!(", {other} of them only by the other resolver"));
    }
    if tcp.left_out > 0 {
        text.push_str(&format!(", {} more not tried", tcp.left_out));
    }
    let no_way = tcp.tries.iter().filter(|attempt| attempt.outcome == Outcome::NoRoute).count();
    let state = match no_way {
        0 => State::Ok,
        all if all == tcp.tries.len() => State::Failed,
        _ => State::Warning,
    };
    if no_way > 0 {
        text.push_str(&format!("; this machine has no way to {no_way} of them"));
    }
    Layer::new("addresses", state, Duration::ZERO, text)
}

fn tcp(tcp: &Tcp) -> Layer {
    let connected = |attempt: &&Try| attempt.outcome == Outcome::Connected;
    let alive = tcp.tries.iter().filter(connected).count();
    let state = match alive {
        0 => State::Failed,
        all if all == tcp.tries.len() => State::Ok,
        _ if tcp.tries.iter().all(is_nobodys_fault) => State::Ok,
        _ => State::Warning,
    };
    let line = |attempt: &Try| {
        let what = outcome_words(attempt);
        match attempt.outcome {
            Outcome::Connected => format!("{} {what} in {}", attempt.address, time(attempt.took)),
            _ => format!("{} {what}", attempt.address),
        }
    };
    let mut details: Vec<String> = tcp.tries.iter().map(line).collect();
    if let Some((address, answers)) = tcp.other_port {
        details.push(format!("{address} {}", if answers { "answers, though" } else { "is silent as well" }));
    }
    let text = match &details[..] {
        [one] => one.clone(),
        [one, other] => format!("{one}; {other}"),
        _ => format!("{alive} of {} answer", tcp.tries.len()),
    };
    Layer { details, ..Layer::new("tcp", state, tcp.took, text) }
}

/// A kind of address that this machine has not, or one of its own two that nothing listens on: neither is anybody's fault.
fn is_nobodys_fault(attempt: &Try) -> bool {
    matches!(attempt.outcome, Outcome::Connected | Outcome::NoRoute) || attempt.address.ip().is_loopback()
}

fn tls(tls: &Tls, now: i64) -> Layer {
    if let Some(failure) = &tls.failure {
        let text = match failure {
            TlsFailure::TimedOut => format!("no answer within {}", time(tls.took)),
            TlsFailure::Closed => "closed in the middle".to_owned(),
            TlsFailure::NotTls => "not TLS".to_owned(),
            TlsFailure::NoCommonProtocol(why) => format!("no common version or cipher ({why})"),
            TlsFailure::Alert(why) => format!("refused with the alert {why}"),
            TlsFailure::Other(why) => why.clone(),
        };
        return Layer::new("tls", State::Failed, tls.took, text);
    }
    let version = tls.version.as_deref().unwrap_or("TLS");
    let Some(certificate) = &tls.certificate else {
        return Layer::new("tls", State::Failed, tls.took, format!("{version}, without a certificate"));
    };
    let (state, judged) = match &certificate.problems[..] {
        [] => (
            if certificate.days_left(now) < 14 { State::Warning } else { State::Ok },
            format!(
                "{} left{}",
                counted(certificate.days_left(now).unsigned_abs(), "day"),
                whose(certificate)
            ),
        ),
        problems => {
            let all: Vec<String> =
                problems.iter().map(|problem| problem_words(problem, certificate, now)).collect();
            (State::Failed, all.join("; "))
        }
    };
    let details = vec![
        format!("for {}", certificate.names.join(", ")),
        format!(
            "by {}, from {} to {}",
            certificate.issuer,
            day(certificate.not_before),
            day(certificate.not_after)
        ),
    ];
    let text = format!("{version}, certificate by {}: {judged}", certificate.issuer);
    Layer { details, ..Layer::new("tls", state, tls.took, text) }
}

fn whose(certificate: &Certificate) -> &'static str {
    if certificate.by_own_authority { ", by an authority that only this machine trusts" } else { "" }
}

fn http_words(failure: &HttpFailure, took: Duration) -> String {
    match failure {
        HttpFailure::TimedOut => format!("no answer within {}", time(took)),
        HttpFailure::Closed => "closed without an answer".to_owned(),
        HttpFailure::NotHttp(why) => format!("not HTTP ({why})"),
        HttpFailure::IsTls => "answers with TLS; the port wants https".to_owned(),
        HttpFailure::HeadTooLong(bytes) => format!("a header of more than {} KiB", bytes / 1024),
    }
}

fn answer(seen: &Observations, hop: &Hop, page: &Page, last: bool) -> Layer {
    let slow = page.first_byte > seen.slow;
    let mut text = page.status.to_string();
    let mut state = if slow { State::Warning } else { State::Ok };
    if let Some(to) = &page.location {
        text.push_str(&format!(", redirects to {to}"));
        if hop.https && to.starts_with("http://") {
            text.push_str(", without TLS");
            state = State::Warning;
        } else if !is_same_site(&hop.host, to) {
            text.push_str(", another site");
        }
        if last {
            state = State::Failed;
        }
    } else if page.status >= 400 {
        state = if page.status == 401 && !page.with_login { State::Warning } else { State::Failed };
    }
    if slow {
        text.push_str(&format!(", first byte after {}: slow", time(page.first_byte)));
    }
    Layer::new("http", state, page.first_byte, text)
}

fn content(page: &Page, took: Duration) -> Layer {
    let bytes = counted(page.bytes as u64, "byte");
    let (mut state, mut text) = match page.end {
        PageEnd::Whole if page.may_be_empty() && page.bytes == 0 => (State::Ok, "empty".to_owned()),
        PageEnd::Whole if page.bytes == 0 => (State::Failed, "empty".to_owned()),
        PageEnd::Whole => (State::Ok, bytes),
        PageEnd::LongerThanRead => (State::Ok, format!("{bytes} read, there is more")),
        PageEnd::Stream => (State::Ok, format!("a stream of events, {bytes} so far")),
        PageEnd::CutShort => (State::Failed, format!("breaks off after {bytes}")),
        PageEnd::Stalled => (State::Failed, format!("stalls after {bytes}")),
    };
    match page.found {
        Some(true) => text.push_str(", with the expected text"),
        Some(false) => {
            text.push_str(", without the expected text");
            state = State::Failed;
        }
        None => {}
    }
    Layer::new("content", state, took, text)
}
