//! The check for a program. The shape is kept: keys may come, none goes or changes its meaning. It is described in docs/check.md.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::layers::layers;
use super::observed::{Answer, Asked, Certificate, CertificateProblem, Observations, Outcome, Try};
use super::verdict::Verdict;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    url: String,
    /// RFC 3339, UTC.
    at: String,
    /// `none`, `machine`, `network`, `dns`, `path`, `server` or `application`.
    verdict: &'static str,
    headline: String,
    seen: String,
    advice: String,
    warnings: Vec<String>,
    took_ms: f64,
    layers: Vec<LayerReport>,
    resolvers: Vec<ResolverReport>,
    addresses: Vec<AddressReport>,
    certificate: Option<CertificateReport>,
    http: Option<HttpReport>,
}

#[derive(Debug, Serialize)]
struct LayerReport {
    layer: &'static str,
    url: Option<String>,
    /// `ok`, `warning`, `failed` or `skipped`.
    state: &'static str,
    ms: f64,
    text: String,
    details: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ResolverReport {
    host: String,
    address: String,
    /// `system` or `other`.
    role: &'static str,
    /// `addresses`, `no-address`, `no-such-name`, `failed`, `declined`, `silent`, `unreachable` or `broken`.
    answer: &'static str,
    addresses: Vec<String>,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct AddressReport {
    host: String,
    address: String,
    /// `connected`, `refused`, `timed-out`, `unreachable`, `no-route` or `not-tried`.
    outcome: &'static str,
    /// Only the other resolver gave it.
    other: bool,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct CertificateReport {
    subject: String,
    names: Vec<String>,
    issuer: String,
    not_before: String,
    not_after: String,
    days_left: i64,
    /// `expired`, `not-yet-valid`, `wrong-host`, `self-signed`, `unknown-authority`, `chain-missing`, `chain-expired` or `other`.
    problems: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct HttpReport {
    url: String,
    status: u16,
    first_byte_ms: f64,
    bytes: usize,
    redirects: usize,
}

/// What is printed with `--json`.
pub(super) fn report(seen: &Observations, verdict: &Verdict) -> Report {
    let last = seen.last();
    let certificate = last.way().and_then(|way| way.tls.as_ref()).and_then(|tls| tls.certificate.as_ref());
    let finding = &verdict.finding;
    Report {
        url: seen.url.clone(),
        at: moment(seen.now),
        verdict: finding.fault.as_str(),
        headline: finding.headline.clone(),
        seen: finding.seen.clone(),
        advice: finding.advice.clone(),
        warnings: verdict.warnings.clone(),
        took_ms: ms(seen.took),
        layers: layers(seen)
            .into_iter()
            .map(|layer| LayerReport {
                layer: layer.name,
                url: layer.url,
                state: layer.state.as_str(),
                ms: ms(layer.took),
                text: layer.text,
                details: layer.details,
            })
            .collect(),
        resolvers: seen
            .hops
            .iter()
            .filter_map(|hop| hop.names.as_ref())
            .flat_map(|names| names.resolvers.iter().map(|asked| resolver(&names.asked, asked)))
            .collect(),
        addresses: seen
            .hops
            .iter()
            .flat_map(|hop| hop.tcp.tries.iter().map(|attempt| address(&hop.host, attempt)))
            .collect(),
        certificate: certificate.map(|certificate| certificate_report(certificate, seen.now)),
        http: last.page().map(|page| HttpReport {
            url: last.url.clone(),
            status: page.status,
            first_byte_ms: ms(page.first_byte),
            bytes: page.bytes,
            redirects: seen.hops.len() - 1,
        }),
    }
}

fn resolver(host: &str, asked: &Asked) -> ResolverReport {
    ResolverReport {
        host: host.to_owned(),
        address: asked.address.to_string(),
        role: if asked.system { "system" } else { "other" },
        answer: match asked.answer() {
            Answer::Addresses(_) => "addresses",
            Answer::NoAddress => "no-address",
            Answer::NoSuchName => "no-such-name",
            Answer::Failed => "failed",
            Answer::Declined(_) => "declined",
            Answer::Silent => "silent",
            Answer::Unreachable(_) => "unreachable",
            Answer::Broken(_) => "broken",
        },
        addresses: asked.addresses().iter().map(ToString::to_string).collect(),
        ms: ms(asked.took),
    }
}

fn address(host: &str, attempt: &Try) -> AddressReport {
    AddressReport {
        host: host.to_owned(),
        address: attempt.address.to_string(),
        outcome: match attempt.outcome {
            Outcome::Connected => "connected",
            Outcome::Refused => "refused",
            Outcome::TimedOut => "timed-out",
            Outcome::Unreachable => "unreachable",
            Outcome::NoRoute => "no-route",
            Outcome::NotTried(_) => "not-tried",
        },
        other: attempt.other,
        ms: ms(attempt.took),
    }
}

fn certificate_report(certificate: &Certificate, now: i64) -> CertificateReport {
    let problem = |problem: &CertificateProblem| match problem {
        CertificateProblem::Expired => "expired",
        CertificateProblem::NotYetValid => "not-yet-valid",
        CertificateProblem::WrongHost => "wrong-host",
        CertificateProblem::SelfSigned => "self-signed",
        CertificateProblem::UnknownAuthority => "unknown-authority",
        CertificateProblem::ChainMissing => "chain-missing",
        CertificateProblem::ChainExpired => "chain-expired",
        CertificateProblem::Other(_) => "other",
    };
    CertificateReport {
        subject: certificate.subject.clone(),
        names: certificate.names.clone(),
        issuer: certificate.issuer.clone(),
        not_before: moment(certificate.not_before),
        not_after: moment(certificate.not_after),
        days_left: certificate.days_left(now),
        problems: certificate.problems.iter().map(problem).collect(),
    }
}

fn ms(time: Duration) -> f64 {
    // Microseconds are enough, and shorter to read.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}
