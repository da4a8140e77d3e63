//! Every verdict from observations that are written down here: who is at fault, in which words, and what is warned of.

use std::time::Duration;

use super::json::report;
use super::layers::{State, layers};
use super::observed::*;
use super::show::render;
use super::verdict::{Fault, Verdict, judge};
use crate::cli::paint::Paint;

const NOW: i64 = 1_795_335_601;
const DAY: i64 = 86_400;

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn attempt(address: &str, outcome: Outcome) -> Try {
    Try { address: address.parse().expect("an address"), other: false, took: ms(12), outcome }
}

fn asked(address: &str, system: bool, answer: Answer) -> Asked {
    let address = format!("{address}:53").parse().expect("an address");
    let v6 = match &answer {
        Answer::Addresses(_) => Answer::NoAddress,
        other => other.clone(),
    };
    Asked { address, system, took: ms(3), v4: answer, v6 }
}

fn addresses(list: &[&str]) -> Answer {
    Answer::Addresses(list.iter().map(|text| ip(text)).collect())
}

fn certificate() -> Certificate {
    Certificate {
        subject: "shop.example".to_owned(),
        names: vec!["shop.example".to_owned()],
        issuer: "Good CA".to_owned(),
        not_before: NOW - 10 * DAY,
        not_after: NOW + 80 * DAY,
        by_own_authority: false,
        problems: Vec::new(),
    }
}

fn page(status: u16) -> Page {
    Page { status, first_byte: ms(40), bytes: 1200, server_time: Some(NOW), ..Page::default() }
}

fn walk(result: Result<Page, HttpFailure>) -> Walk {
    Walk {
        address: "203.0.113.1:443".parse().expect("an address"),
        tls: Some(Tls {
            took: ms(30),
            failure: None,
            version: Some("TLS 1.3".to_owned()),
            certificate: Some(certificate()),
            server_time: None,
        }),
        http: Some(Http { took: ms(50), result }),
    }
}

/// A check at which nothing is wrong.
fn good() -> Observations {
    let names = Names {
        took: ms(5),
        asked: "shop.example".to_owned(),
        resolvers: vec![
            asked("10.0.0.1", true, addresses(&["203.0.113.1"])),
            asked("9.9.9.9", false, addresses(&["203.0.113.1"])),
        ],
        ..Names::default()
    };
    let gateway = Some(("10.0.0.1:53".parse().expect("an address"), "eth0".to_owned()));
    let interface = |name: &str, loopback, own: &str, prefix| Interface {
        name: name.to_owned(),
        loopback,
        works: true,
        addresses: vec![Own { ip: ip(own), prefix }],
    };
    Observations {
        url: "https://shop.example/".to_owned(),
        slow: ms(3_000),
        expect: None,
        now: NOW,
        took: ms(200),
        machine: Machine {
            took: ms(1),
            interfaces: vec![interface("lo", true, "127.0.0.1", 8), interface("eth0", false, "10.0.0.2", 24)],
            v4: Route { exists: true, gateway },
            v6: Route::default(),
        },
        network: Network {
            took: ms(20),
            gateway: Some(Gateway { address: ip("10.0.0.1"), reached: Some(true) }),
            references: vec![attempt("1.1.1.1:443", Outcome::Connected)],
            unasked: None,
        },
        hops: vec![Hop {
            url: "https://shop.example/".to_owned(),
            https: true,
            host: "shop.example".to_owned(),
            names: Some(names),
            tcp: Tcp {
                took: ms(12),
                tries: vec![attempt("203.0.113.1:443", Outcome::Connected)],
                ..Tcp::default()
            },
            walk: Some(walk(Ok(page(200)))),
            other: None,
        }],
        stopped: None,
    }
}

/// The good check with something changed.
fn with(change: impl FnOnce(&mut Observations)) -> Observations {
    let mut seen = good();
    change(&mut seen);
    seen
}

fn system(seen: &mut Observations, answer: Answer) {
    let names = seen.hops[0].names.as_mut().expect("a name");
    names.resolvers[0] = asked("10.0.0.1", true, answer);
}

fn other(seen: &mut Observations, answer: Answer) {
    let names = seen.hops[0].names.as_mut().expect("a name");
    names.resolvers[1] = asked("9.9.9.9", false, answer);
}

/// No connection, each attempt ending so.
fn cut_off(seen: &mut Observations, outcomes: &[Outcome]) {
    let attempts = outcomes.iter().enumerate();
    let attempts =
        attempts.map(|(at, outcome)| attempt(&format!("203.0.113.{}:443", at + 1), outcome.clone()));
    seen.hops[0].tcp.tries = attempts.collect();
    seen.hops[0].walk = None;
}

fn lost_world(seen: &mut Observations) {
    seen.network.references = vec![attempt("1.1.1.1:443", Outcome::TimedOut)];
    other(seen, Answer::Silent);
}

fn tls(seen: &mut Observations, change: impl FnOnce(&mut Tls)) {
    let walk = seen.hops[0].walk.as_mut().expect("a way");
    change(walk.tls.as_mut().expect("TLS"));
    walk.http = None;
}

fn answered(result: Result<Page, HttpFailure>) -> Observations {
    with(|seen| seen.hops[0].walk = Some(walk(result)))
}

/// Judges, and holds every way to tell it to the rules: all words there, nothing that steers a terminal, JSON that parses.
fn judged(seen: &Observations) -> Verdict {
    let verdict = judge(seen);
    let finding = &verdict.finding;
    for text in [&finding.headline, &finding.seen, &finding.advice] {
        assert!(text.len() > 10 && !text.contains("  "), "{finding:?}");
    }
    assert!(finding.seen.ends_with('.') && finding.advice.ends_with('.'), "{finding:?}");
    let shown = render(seen, &verdict, Paint::Plain);
    assert!(shown.contains(finding.fault.words()), "{shown}");
    let json = serde_json::to_value(report(seen, &verdict)).expect("JSON");
    assert_eq!(json["verdict"], finding.fault.as_str());
    assert!(json["layers"].as_array().is_some_and(|layers| !layers.is_empty()));
    verdict
}

fn assert_fault(seen: &Observations, fault: Fault, words: &str) {
    let Verdict { finding, .. } = judged(seen);
    assert_eq!(finding.fault, fault, "{finding:?}");
    let all = [finding.headline, finding.seen, finding.advice].join(" ");
    assert!(all.contains(words), "no `{words}` in {all}");
}

#[test]
fn a_good_page_has_no_fault_and_no_warning() {
    assert_fault(&good(), Fault::None, "answered with 200");
    assert_eq!(judged(&good()).warnings, Vec::<String>::new());
    assert!(layers(&good()).iter().all(|layer| layer.state == State::Ok), "{:?}", layers(&good()));
}

#[test]
fn a_machine_without_interface_or_route_is_at_fault_itself() {
    let offline = with(|seen| {
        system(seen, Answer::Unreachable("no way".to_owned()));
        cut_off(seen, &[]);
        lost_world(seen);
        seen.machine.v4 = Route::default();
    });
    assert_fault(&offline, Fault::Machine, "no way out of its own network");
    let unplugged = with(|seen| {
        *seen = offline.clone();
        seen.machine.interfaces[1].works = false;
    });
    assert_fault(&unplugged, Fault::Machine, "not connected");
    let loopback = with(|seen| {
        seen.hops[0].tcp.tries = vec![attempt("127.0.0.1:443", Outcome::NoRoute)];
        seen.hops[0].walk = None;
        seen.machine.interfaces[0].works = false;
    });
    assert_fault(&loopback, Fault::Machine, "loopback interface is down");
    let exhausted = with(|seen| cut_off(seen, &[Outcome::NotTried("Too many open files".to_owned())]));
    assert_fault(&exhausted, Fault::Machine, "Too many open files");
    let only_v6 = with(|seen| {
        cut_off(seen, &[]);
        seen.hops[0].tcp.tries = vec![attempt("[2001:db8::1]:443", Outcome::NoRoute)];
    });
    assert_fault(&only_v6, Fault::Network, "no IPv6");
}

#[test]
fn nothing_outside_is_the_network_and_one_thing_outside_clears_it() {
    let silent = [Outcome::TimedOut];
    let dead = with(|seen| {
        cut_off(seen, &silent);
        lost_world(seen);
    });
    assert_fault(&dead, Fault::Network, "no connection to the Internet");
    let no_gateway = with(|seen| {
        *seen = dead.clone();
        seen.network.gateway = Some(Gateway { address: ip("10.0.0.1"), reached: Some(false) });
    });
    assert_fault(&no_gateway, Fault::Network, "the gateway of this network does not answer");
    let other_resolver_speaks = with(|seen| {
        *seen = dead.clone();
        other(seen, addresses(&["203.0.113.1"]));
    });
    assert_fault(&other_resolver_speaks, Fault::Path, "get lost on the way");
    let no_witness = with(|seen| {
        *seen = dead.clone();
        seen.network.references.clear();
        seen.hops[0].names.as_mut().unwrap().resolvers.truncate(1);
    });
    assert_fault(&no_witness, Fault::Path, "get lost on the way");
    let no_name_either = with(|seen| {
        *seen = dead.clone();
        system(seen, Answer::Silent);
        cut_off(seen, &[]);
    });
    assert_fault(&no_name_either, Fault::Network, "No resolver answers");
}

#[test]
fn the_resolver_is_at_fault_when_another_one_knows_better() {
    for (answer, words) in [
        (Answer::Silent, "does not answer; another one does"),
        (Answer::Unreachable("nothing listens there".to_owned()), "does not answer; another one does"),
        (Answer::NoSuchName, "says that there is no shop.example"),
        (Answer::Failed, "cannot look up shop.example"),
        (Answer::Declined("REFUSED".to_owned()), "declines to answer"),
        (Answer::Broken("nonsense".to_owned()), "a broken answer"),
    ] {
        let seen = with(|seen| {
            system(seen, answer);
            seen.hops[0].other = seen.hops[0].walk.take();
        });
        assert_fault(&seen, Fault::Dns, words);
        assert_fault(&seen, Fault::Dns, "The page itself answers");
    }
}

#[test]
fn both_resolvers_saying_no_is_the_names_own_dns() {
    for (answer, words) in [
        (Answer::NoSuchName, "there is no shop.example"),
        (Answer::NoAddress, "shop.example has no address"),
        (Answer::Failed, "at the name's own DNS"),
    ] {
        let seen = with(|seen| {
            system(seen, answer.clone());
            other(seen, answer);
            cut_off(seen, &[]);
        });
        assert_fault(&seen, Fault::Dns, words);
    }
    let silent = with(|seen| {
        system(seen, Answer::Silent);
        other(seen, Answer::Silent);
        cut_off(seen, &[]);
    });
    assert_fault(&silent, Fault::Dns, "The network works");
}

#[test]
fn a_wrong_answer_shows_by_the_page_and_not_by_being_different() {
    let different = with(|seen| other(seen, addresses(&["203.0.113.9"])));
    assert_fault(&different, Fault::None, "");
    let wrong = with(|seen| {
        other(seen, addresses(&["203.0.113.9"]));
        seen.hops[0].other = seen.hops[0].walk.take();
        seen.hops[0].tcp.tries = vec![attempt("203.0.113.1:443", Outcome::Refused)];
    });
    assert_fault(&wrong, Fault::Dns, "sends you to the wrong place");
    let neither = with(|seen| {
        *seen = wrong.clone();
        seen.hops[0].other.as_mut().unwrap().http = Some(Http { took: ms(1), result: Ok(page(500)) });
    });
    assert_fault(&neither, Fault::Application, "500");
    let hosts = with(|seen| {
        *seen = wrong.clone();
        seen.hops[0].names.as_mut().unwrap().hosts_file = vec![ip("203.0.113.1")];
    });
    assert_fault(&hosts, Fault::Machine, "/etc/hosts");
    let filtered = with(|seen| {
        *seen = wrong.clone();
        system(seen, addresses(&["0.0.0.0"]));
    });
    assert_fault(&filtered, Fault::Dns, "on purpose");
}

#[test]
fn a_network_that_lets_only_the_page_out_is_no_fault() {
    let seen = with(lost_world);
    assert_fault(&seen, Fault::None, "answered with 200");
    assert_eq!(layers(&seen)[1].state, State::Warning);
}

#[test]
fn a_silent_first_resolver_is_told_although_the_page_opens() {
    let seen = with(|seen| {
        let names = seen.hops[0].names.as_mut().unwrap();
        names.resolvers.insert(0, asked("10.0.0.9", true, Answer::Silent));
    });
    assert_fault(&seen, Fault::Dns, "10.0.0.9, which this machine asks first");
    let broken_v6 = with(|seen| seen.hops[0].names.as_mut().unwrap().resolvers[0].v6 = Answer::Silent);
    assert_fault(&broken_v6, Fault::None, "");
    assert!(judged(&broken_v6).warnings[0].contains("does not answer questions for IPv6"));
}

#[test]
fn a_name_that_dns_cannot_hold_is_not_taken_for_one_that_was_reached() {
    let seen = with(|seen| {
        seen.hops[0].names.as_mut().unwrap().resolvers.clear();
        cut_off(seen, &[]);
    });
    assert_fault(&seen, Fault::Dns, "no name that DNS can hold");
}

#[test]
fn refused_filtered_lost_and_switched_off_are_told_apart() {
    assert_fault(
        &with(|seen| cut_off(seen, &[Outcome::Refused])),
        Fault::Server,
        "nothing listens on port 443",
    );
    let mixed = with(|seen| cut_off(seen, &[Outcome::TimedOut, Outcome::Refused]));
    assert_fault(&mixed, Fault::Server, "203.0.113.1:443 stayed silent");
    assert_fault(&with(|seen| cut_off(seen, &[Outcome::TimedOut])), Fault::Path, "get lost");
    assert_fault(&with(|seen| cut_off(seen, &[Outcome::Unreachable])), Fault::Path, "is unreachable");
    let filtered = with(|seen| {
        cut_off(seen, &[Outcome::TimedOut]);
        seen.hops[0].tcp.other_port = Some(("203.0.113.1:80".parse().unwrap(), true));
    });
    assert_fault(&filtered, Fault::Server, "lets nobody in on port 443");
    let off = with(|seen| {
        cut_off(seen, &[]);
        seen.hops[0].tcp.tries = vec![attempt("10.0.0.77:443", Outcome::Unreachable)];
    });
    assert_fault(&off, Fault::Server, "is not on the network");
    let own = with(|seen| {
        cut_off(seen, &[]);
        seen.hops[0].tcp.tries = vec![attempt("127.0.0.1:443", Outcome::TimedOut)];
    });
    assert_fault(&own, Fault::Machine, "A firewall on this machine");
}

#[test]
fn every_failure_of_tls_is_the_servers() {
    for (failure, words) in [
        (TlsFailure::TimedOut, "then says nothing"),
        (TlsFailure::Closed, "closes the connection at once"),
        (TlsFailure::NotTls, "does not speak HTTPS on port 443"),
        (TlsFailure::NoCommonProtocol("ProtocolVersion".to_owned()), "no common version"),
        (TlsFailure::Alert("UnrecognisedName".to_owned()), "UnrecognisedName"),
        (TlsFailure::Other("bad".to_owned()), "failed: bad"),
    ] {
        let seen = with(|seen| tls(seen, |tls| (tls.failure, tls.certificate) = (Some(failure), None)));
        assert_fault(&seen, Fault::Server, words);
    }
}

#[test]
fn every_problem_of_a_certificate_is_said() {
    let all = [
        (CertificateProblem::Expired, "expired on 2026-11-12, 10 days ago"),
        (CertificateProblem::NotYetValid, "is not valid yet"),
        (CertificateProblem::WrongHost, "made out to shop.example"),
        (CertificateProblem::SelfSigned, "signed by itself"),
        (CertificateProblem::UnknownAuthority, "no known authority"),
        (CertificateProblem::ChainMissing, "does not send the certificate of Good CA"),
        (CertificateProblem::ChainExpired, "between it and its authority has expired"),
        (CertificateProblem::Other("odd".to_owned()), "odd"),
    ];
    for (problem, words) in all {
        let seen = with(|seen| {
            tls(seen, |tls| {
                let certificate = tls.certificate.as_mut().unwrap();
                if problem == CertificateProblem::Expired {
                    certificate.not_after = NOW - 10 * DAY;
                }
                certificate.problems = vec![problem.clone()];
            });
        });
        assert_fault(&seen, Fault::Server, words);
    }
    let soon = with(|seen| {
        let tls = seen.hops[0].walk.as_mut().unwrap().tls.as_mut().unwrap();
        tls.certificate.as_mut().unwrap().not_after = NOW + 13 * DAY;
    });
    assert_fault(&soon, Fault::None, "");
    assert!(judged(&soon).warnings[0].contains("in 13 days"));
}

#[test]
fn a_certificate_whose_dates_fit_the_servers_clock_shows_that_ours_is_wrong() {
    let seen = |theirs: i64| {
        with(|seen| {
            tls(seen, |tls| {
                let certificate = tls.certificate.as_mut().unwrap();
                certificate.not_before = NOW + 300 * DAY;
                certificate.not_after = NOW + 400 * DAY;
                certificate.problems = vec![CertificateProblem::NotYetValid];
                tls.server_time = Some(theirs);
            });
        })
    };
    assert_fault(&seen(NOW + 350 * DAY), Fault::Machine, "the clock of this machine is wrong");
    assert_fault(&seen(NOW + 10), Fault::Server, "is not valid yet");
}

#[test]
fn a_login_page_of_the_network_is_no_fault_of_the_site() {
    let forged = with(|seen| {
        lost_world(seen);
        tls(seen, |tls| tls.certificate.as_mut().unwrap().problems = vec![CertificateProblem::WrongHost]);
    });
    assert_fault(&forged, Fault::Network, "log in first");
    let sent_away = with(|seen| {
        lost_world(seen);
        let mut first = seen.hops[0].clone();
        first.url = "http://shop.example/".to_owned();
        first.walk = Some(walk(Ok(Page { location: Some("http://hotel.example/".to_owned()), ..page(302) })));
        seen.hops.insert(0, first);
    });
    assert_fault(&sent_away, Fault::Network, "sends visitors to another page");
    assert_fault(&answered(Ok(page(511))), Fault::Network, "log in first");
}

#[test]
fn no_answer_is_told_by_how_it_did_not_come() {
    for (failure, fault, words) in [
        (HttpFailure::TimedOut, Fault::Application, "does not answer"),
        (HttpFailure::Closed, Fault::Server, "closes the connection without an answer"),
        (HttpFailure::NotHttp("bad version".to_owned()), Fault::Server, "no web server"),
        (HttpFailure::IsTls, Fault::Server, "wants https"),
        (HttpFailure::HeadTooLong(65536), Fault::Application, "64 KiB"),
    ] {
        assert_fault(&answered(Err(failure)), fault, words);
    }
}

#[test]
fn every_error_status_is_the_applications_and_says_what_to_do() {
    for (status, words) in [
        (400, "does not understand"),
        (403, "refuses this page to you"),
        (404, "no such page"),
        (418, "an error (418)"),
        (429, "fewer requests"),
        (500, "application of shop.example fails"),
        (502, "what stands behind it"),
        (503, "overloaded or closed for maintenance"),
        (504, "what stands behind it"),
        (999, "fails (999)"),
    ] {
        assert_fault(&answered(Ok(page(status))), Fault::Application, words);
    }
    assert_fault(&answered(Ok(page(302))), Fault::Application, "without a Location");
    assert_fault(&answered(Ok(page(401))), Fault::None, "asks for a login");
    let refused = answered(Ok(Page { with_login: true, ..page(401) }));
    assert_fault(&refused, Fault::Application, "does not accept the user or the password");
}

#[test]
fn content_that_is_empty_wrong_or_broken_off_is_the_applications() {
    assert_fault(&answered(Ok(Page { bytes: 0, ..page(200) })), Fault::Application, "is empty");
    assert_fault(&answered(Ok(Page { bytes: 0, ..page(204) })), Fault::None, "204");
    assert_fault(
        &answered(Ok(Page { end: PageEnd::CutShort, ..page(200) })),
        Fault::Application,
        "breaks off",
    );
    assert_fault(&answered(Ok(Page { end: PageEnd::Stalled, ..page(200) })), Fault::Application, "its end");
    assert_fault(&answered(Ok(Page { end: PageEnd::LongerThanRead, ..page(200) })), Fault::None, "200");
    let unexpected = with(|seen| {
        seen.expect = Some("Welcome".to_owned());
        seen.hops[0].walk = Some(walk(Ok(Page { found: Some(false), ..page(200) })));
    });
    assert_fault(&unexpected, Fault::Application, "`Welcome` is not in");
}

#[test]
fn redirects_that_lead_nowhere_are_the_applications() {
    for (stopped, words) in [
        (Stopped::Loop("https://shop.example/a".to_owned()), "in a circle"),
        (Stopped::TooMany(10), "After 10 redirects"),
        (Stopped::Nowhere("mailto:x".to_owned()), "no web address"),
        (Stopped::OutOfTime("https://shop.example/b".to_owned()), "the time was up"),
    ] {
        let seen = with(|seen| {
            let location = Some("https://shop.example/a".to_owned());
            seen.hops[0].walk = Some(walk(Ok(Page { location, ..page(302) })));
            seen.stopped = Some(stopped);
        });
        assert_fault(&seen, Fault::Application, words);
    }
}

#[test]
fn a_fault_behind_a_redirect_says_where_it_was() {
    let seen = with(|seen| {
        let mut next = seen.hops[0].clone();
        seen.hops[0].walk =
            Some(walk(Ok(Page { location: Some("http://www.shop.example/".to_owned()), ..page(301) })));
        next.url = "http://www.shop.example/".to_owned();
        next.host = "www.shop.example".to_owned();
        next.https = false;
        next.walk = Some(walk(Ok(page(502))));
        seen.hops.push(next);
    });
    assert_fault(&seen, Fault::Application, "https://shop.example/ leads to http://www.shop.example/. ");
    assert!(judged(&seen).warnings[0].contains("from https to http"));
}

#[test]
fn a_slow_answer_is_the_applications() {
    let seen = answered(Ok(Page { first_byte: ms(3_200), ..page(200) }));
    assert_fault(&seen, Fault::Application, "3.20 s");
    assert_fault(&answered(Ok(Page { first_byte: ms(2_900), ..page(200) })), Fault::None, "2.90 s");
}

#[test]
fn what_is_odd_and_decides_nothing_is_warned_of() {
    let warned = |seen: &Observations, words: &str| {
        let verdict = judged(seen);
        assert_eq!(verdict.finding.fault, Fault::None);
        assert!(verdict.warnings.iter().any(|warning| warning.contains(words)), "{:?}", verdict.warnings);
    };
    let one_dead = with(|seen| seen.hops[0].tcp.tries.push(attempt("203.0.113.2:443", Outcome::TimedOut)));
    warned(&one_dead, "1 of the 2 IPv4 addresses of shop.example is dead");
    let no_v6 = with(|seen| seen.hops[0].tcp.tries.push(attempt("[2001:db8::1]:443", Outcome::TimedOut)));
    warned(&no_v6, "cannot be reached over IPv6");
    let late = with(|seen| seen.hops[0].tcp.tries[0].took = ms(1_040));
    warned(&late, "packets are lost or late");
    let clocks =
        with(|seen| seen.hops[0].walk = Some(walk(Ok(Page { server_time: Some(NOW - 600), ..page(200) }))));
    warned(&clocks, "10 minutes apart");
    let no_way = with(|seen| seen.hops[0].tcp.tries.push(attempt("[2001:db8::1]:443", Outcome::NoRoute)));
    assert!(judged(&no_way).warnings.is_empty(), "a machine without IPv6 misses nothing");
}

#[test]
fn what_comes_from_the_network_cannot_steer_the_terminal() {
    let seen = with(|seen| {
        tls(seen, |tls| {
            let certificate = tls.certificate.as_mut().unwrap();
            certificate.issuer = "\x1b[2Jevil".to_owned();
            certificate.problems = vec![CertificateProblem::UnknownAuthority];
        });
    });
    let shown = render(&seen, &judge(&seen), Paint::Plain);
    assert!(!shown.contains('\x1b') && shown.contains("evil"), "{shown}");
}
