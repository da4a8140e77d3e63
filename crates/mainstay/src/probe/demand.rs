//! What an answer in HTTP must be beyond its status: what must be in it and what must not, its size, how long its certificate
//! is still good, how soon it came.

use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_model::sample::Phases;
use serde_json::Value;

use super::certificate::lasts;
use super::document::{self, Verdict};
use super::wire::shortened;
use crate::config::people_duration;
use crate::config::probe::{Demand, HttpProbe, JsonTest};

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// As much of the body as was read.
    pub(super) body: Vec<u8>,
    /// Nothing more would have come.
    pub(super) whole: bool,
    pub(super) phases: Phases,
    /// When the certificate of its server ends, in seconds since 1970.
    pub(super) not_after: Option<i64>,
}

impl Got {
    /// What ended it too early, with how far it came.
    pub(super) fn broken_off(&self, failure: ProbeFailure) -> ProbeFailure {
        if failure != ProbeFailure::Reset {
            return failure;
        }
        let length = self.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let of = length.map(|length| format!(" of {length}")).unwrap_or_default();
        let came = self.body.len();
        ProbeFailure::BrokenOff(format!(
            "answered status {} and broke off after {came}{of} bytes",
            self.status
        ))
    }
}

/// Whether the answer is good by what is asked of it.
pub(super) fn judge(got: &Got, probe: &HttpProbe, now: i64) -> Result<ProbeAnswer, ProbeFailure> {
    let kind = content_type(&got.headers);
    let document = probe.document || document::is_of_type(kind);
    if !probe.is_good_status(got.status) {
        let says_why = document || kind.contains("json") || kind.starts_with("text/plain");
        let why = if says_why { document::read(&got.body) } else { Verdict::Well };
        return Err(match why {
            Verdict::Fails(part) | Verdict::Warns(part) => {
                ProbeFailure::Answer(format!("answered status {}: {part}", got.status))
            }
            Verdict::Well => ProbeFailure::Status(got.status),
        });
    }
    if let Some(most) = probe.size_max
        && got.body.len() as u64 > most
    {
        return Err(ProbeFailure::Answer(format!("answered with more than {most} bytes (size-max)")));
    }
    for demand in &probe.demands {
        meets(got, demand).map_err(ProbeFailure::Answer)?;
    }
    let mut warning = None;
    if document {
        match document::read(&got.body) {
            Verdict::Fails(part) => {
                return Err(ProbeFailure::Answer(format!("answered status {}, but {part}", got.status)));
            }
            Verdict::Warns(part) => warning = Some(part),
            Verdict::Well => {}
        }
    }
    if let (Some(least), Some(not_after)) = (probe.certificate_min, got.not_after) {
        lasts(not_after, now, least, "certificate-min")?;
    }
    let phases = got.phases.words();
    if let Some(most) = probe.slow_after.filter(|most| got.phases.last_byte > Some(*most)) {
        let slow = format!("answers later than slow-after = {}: {phases}", people_duration(most));
        warning = Some(warning.map_or(slow.clone(), |first| format!("{first}; {slow}")));
    }
    Ok(ProbeAnswer { status: Some(got.status), said: Some(phases), warning, data: None })
}

/// The type of the body, as its sender says.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn meets(got: &Got, demand: &Demand) -> Result<(), String> {
    match demand {
        Demand::Body { expect, present: true } if !expect.is_in(&got.body) => {
            let rest = if got.whole { "" } else { " as far as it was read" };
            Err(format!("answered status {} without {:?}{rest}", got.status, expect.as_str()))
        }
        Demand::Body { expect, present: false } if expect.is_in(&got.body) => {
            Err(format!("answered status {} with {:?} in it", got.status, expect.as_str()))
        }
        Demand::Body { .. } => Ok(()),
        Demand::Header { name, contains } => {
            let values = got.headers.get_all(name.as_str());
            let values: Vec<&str> = values.iter().filter_map(|value| value.to_str().ok()).collect();
            match values.iter().any(|value| value.contains(contains.as_str())) {
                true => Ok(()),
                false if values.is_empty() => Err(format!("answered without the header {name}")),
                false => {
                    Err(format!("answered with {name}: {}, not {contains:?}", short(&values.join(", "))))
                }
            }
        }
        Demand::Json { at, test } => {
            let body: Value = serde_json::from_slice(&got.body).map_err(|_| match got.whole {
                true => "answered with something else than JSON".to_owned(),
                false => "answered with more JSON than is read (size-max)".to_owned(),
            })?;
            compare(at, find(&body, at), test)
        }
    }
}

/// What stands at `queues.0.depth`.
fn find<'v>(body: &'v Value, at: &str) -> Option<&'v Value> {
    at.split('.').try_fold(body, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

fn compare(at: &str, found: Option<&Value>, test: &JsonTest) -> Result<(), String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let Some(value) = found else {
        return match test {
            JsonTest::Absent => Ok(()),
            _ => Err(format!("answered JSON without {at}")),
        };
    };
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let got = short(&text(value));
    match test {
        JsonTest::Present => Ok(()),
        JsonTest::Absent => Err(format!("answered {at} = {got}, which should not be there")),
        JsonTest::Is(wanted) if text(value) == *wanted => Ok(()),
        JsonTest::Is(wanted) => Err(format!("answered {at} = {got} and not {wanted}")),
        JsonTest::Not(other) if text(value) != *other => Ok(()),
        JsonTest::Not(_) => Err(format!("answered {at} = {got}")),
        JsonTest::Between(least, most) => match number {
            None => Err(format!("answered {at} = {got}, which is no number")),
            Some(number) if least.is_some_and(|least| number < least) => {
                Err(format!("answered {at} = {got}, less than {}", least.unwrap_or_default()))
            }
            Some(number) if most.is_some_and(|most| number > most) => {
                Err(format!("answered {at} = {got}, more than {}", most.unwrap_or_default()))
            }
            Some(_) => Ok(()),
        },
    }
}

fn short(text: &str) -> String {
    shortened(text, 80)
}
