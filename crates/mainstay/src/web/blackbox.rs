//! `/probe?target=…&module=…`: looks at a target at once and tells what it saw in the metrics of `blackbox_exporter`, so that jobs and
//! dashboards that Prometheus users have go on when they point at Mainstay.
//!
//! The names are those of `blackbox_exporter` 0.23 and newer. Its histograms and those about a page's dates and protocol of IP that
//! nobody has a look for here are left out.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mainstay_model::sample::Phases;
use serde::Deserialize;

use super::App;
use super::problem::Problem;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What is asked where no module is named.
const MODULE: &str = "http_2xx";
/// How long Prometheus waits, in seconds.
const WAITS: &str = "x-prometheus-scrape-timeout-seconds";
/// So much earlier it is answered: `blackbox_exporter`'s `--timeout-offset`.
const EARLIER: f64 = 0.5;
/// Whoever does not say waits so long: less than a request on the admin address may take.
const MOST: Duration = Duration::from_secs(9);
/// However little time is left, it is looked for so long.
const LEAST: Duration = Duration::from_millis(100);

/// What a look came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// It was good.
    pub good: bool,
    /// What was said or why it failed, for a person.
    pub text: String,
    /// How long it took.
    pub took: Duration,
    /// When each part was done.
    pub phases: Phases,
    /// What HTTP said; `None`: another protocol.
    pub http: Option<HttpSeen>,
    /// It was spoken to over TLS.
    pub over_tls: bool,
    /// When its certificate ends, in seconds since 1970.
    pub not_after: Option<i64>,
    /// Where it was looked.
    pub address: Option<IpAddr>,
}

/// What HTTP said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSeen {
    /// Status of the last answer; `None`: there was none.
    pub status: Option<u16>,
    /// The length that its head says, bytes.
    pub length: Option<u64>,
    /// It came over HTTP/2.
    pub version2: bool,
    /// Redirects that were followed.
    pub redirects: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    target: Option<String>,
    module: Option<String>,
    #[serde(default)]
    debug: bool,
}

/// Looks, and tells.
pub(super) async fn probe(
    State(app): State<App>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let refuse = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, "probe", "Nothing can be looked at by that", detail)
    };
    // A page elsewhere must not have its visitor's Mainstay ask around in the network.
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        let detail = "Open the address itself, or let Prometheus ask.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "cross-site", "Another site asked for this", detail));
    }
    let Query(Wanted { target, module, debug }) = wanted.map_err(|error| refuse(error.body_text()))?;
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Err(refuse(
            "Say what is to be looked at: /probe?target=https://example.com/&module=http_2xx".into(),
        ));
    };
    let module = module.unwrap_or_else(|| MODULE.to_owned());
    let asked = (app.context.ask_probe)(module, target, patience(&headers).unwrap_or(MOST).min(MOST)).await;
    let probed = asked.map_err(|why| refuse(format!("{why}.")))?;
    let mut text = String::new();
    if debug {
        let _ = writeln!(text, "# {}", probed.text.replace(['\n', '\r'], " "));
    }
    write(&mut text, &probed);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// How long it may take, if whoever asks says how long they wait.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(WAITS)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds - EARLIER).ok().map(|time| time.max(LEAST))
}

fn write(out: &mut String, probed: &Probed) {
    let mut gauge = |name: &str, help: &str, values: &[(String, f64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        values.iter().for_each(|(labels, value)| _ = writeln!(out, "{name}{labels} {value}"));
    };
    let one = |value: f64| [(String::new(), value)];
    let flag = |holds: bool| one(f64::from(u8::from(holds)));
    let took = |name: &str| {
        probed.phases.parts().find(|(part, _)| *part == name).map_or(0.0, |(_, took)| took.as_secs_f64())
    };
    gauge("probe_success", "Displays whether or not the probe was a success", &flag(probed.good));
    let seconds = one(probed.took.as_secs_f64());
    gauge("probe_duration_seconds", "Returns how long the probe took to complete in seconds", &seconds);
    let lookup = one(took("resolve"));
    gauge("probe_dns_lookup_time_seconds", "Returns the time taken for probe dns lookup in seconds", &lookup);
    if let Some(address) = probed.address {
        let version = one(if address.to_canonical().is_ipv4() { 4.0 } else { 6.0 });
        gauge("probe_ip_protocol", "Specifies whether probe ip protocol is IP4 or IP6", &version);
    }
    if let Some(http) = &probed.http {
        let phases = [
            ("resolve", "resolve"),
            ("connect", "connect"),
            ("tls", "TLS"),
            ("processing", "first byte"),
            ("transfer", "rest"),
        ];
        let phases = phases.map(|(label, part)| (format!("{{phase=\"{label}\"}}"), took(part)));
        gauge(
            "probe_http_duration_seconds",
            "Duration of http request by phase, summed over all redirects",
            &phases,
        );
        let status = one(f64::from(http.status.unwrap_or(0)));
        gauge("probe_http_status_code", "Response HTTP status code", &status);
        let length = one(http.length.map_or(-1.0, |length| length as f64));
        gauge("probe_http_content_length", "Length of http content response", &length);
        gauge("probe_http_redirects", "The number of redirects", &one(f64::from(http.redirects)));
        gauge("probe_http_ssl", "Indicates if SSL was used for the final redirect", &flag(probed.over_tls));
        let version = match (http.status, http.version2) {
            (None, _) => 0.0,
            (_, true) => 2.0,
            (_, false) => 1.1,
        };
        gauge("probe_http_version", "Returns the version of HTTP of the probe response", &one(version));
    }
    if let Some(not_after) = probed.not_after {
        let help = "Returns last SSL chain expiry in unixtime";
        gauge("probe_ssl_earliest_cert_expiry", help, &one(not_after as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_is_answered_before_it_gives_up() {
        let of =
            |text: &str| patience(&[(WAITS.parse().unwrap(), text.parse().unwrap())].into_iter().collect());
        assert_eq!(of("10"), Some(Duration::from_millis(9500)));
        assert_eq!(of("0.55"), Some(LEAST));
        assert_eq!((of("soon"), patience(&HeaderMap::new())), (None, None));
    }

    #[test]
    fn what_was_seen_is_told_by_the_names_that_dashboards_ask_for() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let phases = Phases {
            connected: ms(2),
            secured: ms(5),
            first_byte: ms(15),
            last_byte: ms(16),
            ..Phases::default()
        };
        let http = Some(HttpSeen { status: Some(301), length: Some(7), version2: false, redirects: 1 });
        let mut text = String::new();
        let probed = Probed {
            good: false,
            text: "answered status 301".into(),
            took: Duration::from_millis(20),
            phases,
            http,
            over_tls: true,
            not_after: Some(1_800_000_000),
            address: "::1".parse().ok(),
        };
        write(&mut text, &probed);
        for line in [
            "probe_success 0",
            "probe_duration_seconds 0.02",
            "probe_ip_protocol 6",
            "probe_http_duration_seconds{phase=\"connect\"} 0.002",
            "probe_http_duration_seconds{phase=\"tls\"} 0.003",
            "probe_http_duration_seconds{phase=\"processing\"} 0.01",
            "probe_http_duration_seconds{phase=\"transfer\"} 0.001",
            "probe_http_status_code 301",
            "probe_http_content_length 7",
            "probe_http_redirects 1",
            "probe_http_ssl 1",
            "probe_http_version 1.1",
            "probe_ssl_earliest_cert_expiry 1800000000",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
    }
}
