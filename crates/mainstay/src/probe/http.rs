//! The HTTP probe: one request on a connection of its own, and what its answer must be. Where nothing more is said than a path,
//! 2xx and 3xx are good when the answer is whole.

use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::request::Builder;
use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_model::policy::Protocol;
use mainstay_model::sample::{Answered, Sample};
use reqwest::Url;
use tokio::time::timeout;

use super::certificate::now;
use super::connect::host_of;
use super::demand::{self, Got};
use super::redirect::{self, Along};
use super::wire::shortened;
use super::{Look, http1, http2, place};
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
/// As much of an address is told.
const TOLD_MAX: usize = 120;

/// One request of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) path: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) probe: &'a HttpProbe,
    /// Headers of the user's own are sent: one of them may be a secret.
    secrets: bool,
    /// It is asked of somebody else than the config says.
    elsewhere: bool,
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
    let ask = Ask::of(path, host, probe);
    let answer = match probe.follow {
        true => follow(look, ask).await?,
        false => judge(look, ask, &fetch(look, ask).await?)?,
    };
    // Of a plain probe nobody asked to read more than its status.
    Ok(match particulars {
        Some(_) => answer,
        None => ProbeAnswer { said: None, ..answer },
    })
}

async fn fetch(look: &Look<'_>, ask: Ask<'_>) -> Result<Got, ProbeFailure> {
    match look.protocol {
        Protocol::Http2 => http2::fetch(look, ask).await,
        Protocol::Http1 => http1::fetch(look, ask).await,
    }
}

fn judge(look: &Look<'_>, ask: Ask<'_>, got: &Got) -> Result<ProbeAnswer, ProbeFailure> {
    demand::judge(got, ask.probe, now()).inspect_err(|_| look.trace.answered(ask.sample(got)))
}

/// Asks, and asks again where the answer leads, some times.
async fn follow(look: &Look<'_>, first: Ask<'_>) -> Result<ProbeAnswer, ProbeFailure> {
    let authority = first.host.map_or_else(|| host_of(look.address), str::to_owned);
    let Some(mut url) = redirect::asked(look.over_tls, &authority, first.path) else {
        return Err(ProbeFailure::NotProbed(format!(
            "`{}` cannot be asked for; check health.http",
            first.path
        )));
    };
    let own = url.clone();
    let mut got = fetch(look, first).await?;
    let mut secrets = true;
    let mut elsewhere = false;
    for _ in 0..REDIRECTS_MAX {
        let Some(next) = redirect::of(&got, &url)? else { break };
        let path = redirect::path_of(&next);
        if !elsewhere && redirect::is_within(&next, &own, look.address) {
            got = fetch(look, Ask { path: &path, ..first }).await?;
        } else {
            let Some(along) = look.along else {
                let to = shortened(next.as_str(), TOLD_MAX);
                return Err(ProbeFailure::Answer(format!("redirects to {to}, which is elsewhere")));
            };
            // Who was told nothing for once is told nothing more.
            secrets &= redirect::is_trusted_with_secrets(&next, &url);
            elsewhere = true;
            let authority = redirect::authority_of(&next);
            let ask = Ask { path: &path, host: Some(&authority), probe: first.probe, secrets, elsewhere };
            got = go_along(look, along, &next, ask)
                .await
                .map_err(|failure| redirect::told_of(failure, &next))?;
        }
        url = next;
    }
    if redirect::of(&got, &url)?.is_some() {
        let last = if elsewhere { url.to_string() } else { redirect::path_of(&url) };
        let last = shortened(&last, TOLD_MAX);
        return Err(ProbeFailure::Answer(format!(
            "redirects more than {REDIRECTS_MAX} times, at last to {last}"
        )));
    }
    let (path, authority) = (redirect::path_of(&url), redirect::authority_of(&url));
    let asked = match elsewhere {
        true => Ask { path: &path, host: Some(&authority), probe: first.probe, secrets, elsewhere },
        false if url == own => first,
        false => Ask { path: &path, ..first },
    };
    judge(look, asked, &got)
}

/// Asks another machine.
async fn go_along(look: &Look<'_>, along: Along<'_>, url: &Url, ask: Ask<'_>) -> Result<Got, ProbeFailure> {
    let addresses =
        place::addresses(&redirect::place_of(url), along.family, &along.names.0, look.deadline).await?;
    look.trace.reached(|phases| phases.resolved = Some(look.begun.elapsed()));
    let tls = along.tls_with(url, ask.secrets)?;
    let mut tries = place::Tries::new(&addresses, look.deadline);
    while let Some((address, connect_by)) = tries.next() {
        let there = redirect::look_at(look, address, tls.as_ref(), connect_by);
        if let Some(result) = tries.decided(fetch(&there, ask).await) {
            return result;
        }
    }
    Err(tries.failure())
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

impl<'a> Ask<'a> {
    /// Of whom the config says.
    pub(super) fn of(path: &'a str, host: Option<&'a str>, probe: &'a HttpProbe) -> Self {
        Self { path, host, probe, secrets: true, elsewhere: false }
    }

    /// The request; who carries it adds what its version of HTTP needs.
    pub(super) fn request<B>(&self, uri: &str, body: B) -> Result<Request<B>, ProbeFailure> {
        let cannot = |what: &dyn std::fmt::Display| {
            ProbeFailure::NotProbed(format!("`{}` cannot be asked for: {what}; check health.http", self.path))
        };
        let mut builder: Builder = Request::builder().method(self.probe.method.as_str()).uri(uri);
        let headers = builder.headers_mut().ok_or_else(|| cannot(&"not a path"))?;
        headers.insert(USER_AGENT, HeaderValue::from_static(NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in self.probe.headers.iter().filter(|_| self.secrets) {
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
                Err(got.broken_off(failure))
            }
        }
    }

    /// What was answered, as evidence.
    pub(super) fn sample(&self, got: &Got) -> Sample {
        let answer = Answered { status: got.status, body: &got.body, whole: got.whole };
        let headers = got.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let host = self.host.filter(|_| self.elsewhere).unwrap_or_default();
        Sample::answered(format!("{} {host}{}", self.probe.method, self.path), answer, headers, got.phases)
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
