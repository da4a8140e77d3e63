//! The HTTP probe: one request on a connection of its own, and what its answer must be. Where nothing more is said than a path,
//! 2xx and 3xx are good when the answer is whole.

use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::request::Builder;
use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_model::policy::Protocol;
use mainstay_model::sample::{Answered, Sample};
use tokio::time::timeout;

use super::certificate::now;
use super::connect::host_of;
use super::demand::{self, Got};
use super::{Look, http1, http2};
use crate::config::probe::HttpProbe;

/// As much of a body is read where nothing is asked of it; what is longer counts as whole.
const BODY_MAX: usize = 64 * 1024;
/// As much is read where something in it is looked for.
const SEARCHED_MAX: usize = 1024 * 1024;
/// A failing answer's body is waited for no longer than this: it may say why, but that it fails is known already.
const WHY_WAIT: Duration = Duration::from_millis(100);
/// Who probes, as servers read it.
pub(super) const NAME: &str = concat!("mainstay-probe/", env!("CARGO_PKG_VERSION"));
/// So many redirects are followed.
const REDIRECTS_MAX: usize = 5;

/// One request of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) path: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) probe: &'a HttpProbe,
}

/// Asks for `path` and judges the answer, by what was said of it or else by its status alone.
pub(super) async fn probe(
    look: &Look<'_>,
    path: &str,
    host: Option<&str>,
    particulars: Option<&HttpProbe>,
) -> Result<ProbeAnswer, ProbeFailure> {
    let plain = HttpProbe::default();
    let probe = particulars.unwrap_or(&plain);
    let mut path = path.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        let ask = Ask { path: &path, host, probe };
        let got = match look.protocol {
            Protocol::Http2 => http2::fetch(look, ask).await?,
            Protocol::Http1 => http1::fetch(look, ask).await?,
        };
        if probe.follow
            && let Some(next) = redirect(&got, look, host)?
        {
            path = next;
            continue;
        }
        let answer = match demand::judge(&got, probe, now()) {
            Ok(answer) => answer,
            Err(failure) => {
                look.trace.answered(ask.sample(&got));
                return Err(failure);
            }
        };
        // Of a plain probe nobody asked to read more than its status.
        return Ok(match particulars {
            Some(_) => answer,
            None => ProbeAnswer { said: None, ..answer },
        });
    }
    Err(ProbeFailure::Answer(format!("redirects more than {REDIRECTS_MAX} times, at last to {path}")))
}

/// Asks as a visitor would: whatever is answered is good, but an error of the server's.
pub(super) async fn visit(
    look: &Look<'_>,
    path: &str,
    host: Option<&str>,
) -> Result<ProbeAnswer, ProbeFailure> {
    let anything = HttpProbe { status: vec![100..=499], ..HttpProbe::default() };
    probe(look, path, host, Some(&anything)).await.map(|answer| ProbeAnswer { said: None, ..answer })
}

/// Where on this server an answer leads; elsewhere is not followed.
fn redirect(got: &Got, look: &Look<'_>, host: Option<&str>) -> Result<Option<String>, ProbeFailure> {
    if !matches!(got.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(target) = got.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return Err(ProbeFailure::Answer(format!("answered status {} without saying where to", got.status)));
    };
    let scheme = if look.over_tls { "https" } else { "http" };
    let authority = host.map_or_else(|| host_of(look.address), str::to_owned);
    let own = format!("{scheme}://{authority}");
    let path = target.strip_prefix(&own).unwrap_or(target);
    let path = path.split('#').next().unwrap_or_default();
    if path.is_empty() {
        return Ok(Some("/".to_owned()));
    }
    if path.starts_with('/') && !path.starts_with("//") {
        return Ok(Some(path.to_owned()));
    }
    let target: String = target.chars().take(120).collect();
    Err(ProbeFailure::Answer(format!("redirects to {target}, which is elsewhere")))
}

impl Ask<'_> {
    /// The request; who carries it adds what its version of HTTP needs.
    pub(super) fn request<B>(&self, uri: &str, body: B) -> Result<Request<B>, ProbeFailure> {
        let cannot = |what: &dyn std::fmt::Display| {
            ProbeFailure::NotProbed(format!("`{}` cannot be asked for: {what}; check health.http", self.path))
        };
        let mut builder: Builder = Request::builder().method(self.probe.method.as_str()).uri(uri);
        let headers = builder.headers_mut().ok_or_else(|| cannot(&"not a path"))?;
        headers.insert(USER_AGENT, HeaderValue::from_static(NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in &self.probe.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|error| cannot(&error))?;
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|error| cannot(&error))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        builder.body(body).map_err(|error| cannot(&error))
    }

    /// What came, once its body was read: whether that came to its end before it was too long, or why it broke off. What broke
    /// off is kept as evidence.
    pub(super) fn got(
        &self,
        look: &Look<'_>,
        (status, headers): (u16, HeaderMap),
        body: Vec<u8>,
        whole: Result<bool, ProbeFailure>,
    ) -> Result<Got, ProbeFailure> {
        look.trace.reached(|phases| phases.last_byte = Some(look.begun.elapsed()));
        look.trace.saw(|facts| {
            let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            (facts.status, facts.length) = (Some(status), length);
            facts.http2 = look.protocol == Protocol::Http2;
        });
        let phases = look.trace.phases();
        let got = Got { status, headers, body, whole: matches!(whole, Ok(true)), phases, not_after: None };
        match whole {
            Ok(_) => Ok(got),
            Err(failure) => {
                look.trace.answered(self.sample(&got));
                Err(failure)
            }
        }
    }

    /// What was answered, as evidence.
    pub(super) fn sample(&self, got: &Got) -> Sample {
        let answer = Answered { status: got.status, body: &got.body, whole: got.whole };
        let headers = got.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Sample::answered(format!("{} {}", self.probe.method, self.path), answer, headers, got.phases)
    }

    /// The body to send.
    pub(super) fn body(&self) -> Bytes {
        self.probe.body.clone().map_or_else(Bytes::new, Bytes::from)
    }

    /// What is done with the body of an answer.
    pub(super) fn reading(&self, status: u16) -> Reading {
        if !self.probe.is_good_status(status) {
            return Reading::Why(WHY_WAIT, BODY_MAX);
        }
        let searched = self.probe.looks_into_the_body() || self.probe.size_max.is_some();
        let most = self.probe.size_max.and_then(|most| usize::try_from(most + 1).ok());
        Reading::Whole(most.unwrap_or(if searched { SEARCHED_MAX } else { BODY_MAX }))
    }
}

/// How much of a body is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// It may say why the answer is bad: for so long, so much.
    Why(Duration, usize),
    /// It must come whole, or be as long as this.
    Whole(usize),
}

impl Reading {
    /// Whether a body came whole. `read` reads so much of it at most.
    pub(super) async fn by(
        self,
        read: impl AsyncFnOnce(usize) -> Result<bool, ProbeFailure>,
    ) -> Result<bool, ProbeFailure> {
        match self {
            // It was bad already; that it has not said why is no other failure.
            Reading::Why(time, most) => Ok(matches!(timeout(time, read(most)).await, Ok(Ok(true)))),
            Reading::Whole(most) => read(most).await,
        }
    }
}
