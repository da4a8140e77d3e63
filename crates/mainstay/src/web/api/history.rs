//! Roll-ups for programs: the buckets as they are recorded, with the percentiles of their histograms.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use mainstay_model::histogram::Histogram;
use mainstay_model::{ServiceId, Wall};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{App, Problem, no_server, no_service, schema, server_id};
use crate::store::{ServerBucket, ServiceBucket, Step};

/// Buckets in one answer, at most: six days of minutes, a year of hours.
const BUCKETS_MOST: i64 = 9000;
/// Buckets in one answer, unless asked otherwise.
const BUCKETS_USUAL: i64 = 60;

/// Which buckets.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    /// `minute` (the default) or `hour`: the width of a bucket.
    #[param(pattern = "^(minute|hour)$")]
    step: Option<String>,
    /// The first moment, as RFC 3339 or milliseconds since the Unix epoch; 60 buckets before `to` by default.
    from: Option<String>,
    /// The moment after the last, likewise; now by default. At most 9000 buckets after `from`.
    to: Option<String>,
}

/// Percentiles of a histogram, at most 6.25 % too high. Absent values: nothing was counted.
#[derive(Serialize, ToSchema)]
pub(super) struct Percentiles {
    /// How many durations were counted.
    count: u64,
    mean_ms: Option<f64>,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

/// Buckets, oldest first. One in which Mainstay was not looking is absent: nothing is known of it.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerHistory {
    server: String,
    step: String,
    /// Milliseconds since the Unix epoch.
    from: i64,
    /// Milliseconds since the Unix epoch.
    to: i64,
    #[schema(value_type = Vec<schema::ServerBucket>)]
    buckets: Vec<WithPercentiles<ServerBucket>>,
}

/// Buckets, oldest first. One in which Mainstay was not looking is absent: nothing is known of it.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceHistory {
    service: String,
    step: String,
    /// Milliseconds since the Unix epoch.
    from: i64,
    /// Milliseconds since the Unix epoch.
    to: i64,
    #[schema(value_type = Vec<schema::ServiceBucket>)]
    buckets: Vec<WithPercentiles<ServiceBucket>>,
}

#[derive(Serialize)]
struct WithPercentiles<B> {
    #[serde(flatten)]
    bucket: B,
    latency: Percentiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_latency: Option<Percentiles>,
}

/// What was measured at a server.
#[utoipa::path(get, path = "/api/v1/servers/{service}/{server}/history", tag = "history",
    params(("service" = String, Path, description = "Its service"), ("server" = String, Path, description = "Its name within the service"), Window),
    responses((status = 200, description = "Buckets, oldest first", body = ServerHistory), (status = 400, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn of_server(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = server_id(path)?;
    let snapshot = app.snapshot();
    let (step, from, to) = resolve(&window?.0, snapshot.at)?;
    let buckets = app
        .context
        .reader
        .server_history(&id, step, from, to)
        .await
        .map_err(|error| Problem::record(&error))?;
    // A server that left the config still has its past.
    if buckets.is_empty() && snapshot.server(&id).is_none() {
        return Err(no_server(&id));
    }
    let buckets = buckets.into_iter().map(|bucket| WithPercentiles {
        latency: Percentiles::of(&bucket.latency),
        probe_latency: Some(Percentiles::of(&bucket.probe_latency)),
        bucket,
    });
    let history = ServerHistory {
        server: id.to_string(),
        step: word(step).to_owned(),
        from: from.0,
        to: to.0,
        buckets: buckets.collect(),
    };
    Ok(Json(history).into_response())
}

/// What visitors of a service saw.
#[utoipa::path(get, path = "/api/v1/services/{service}/history", tag = "history",
    params(("service" = String, Path, description = "Its name in the config"), Window),
    responses((status = 200, description = "Buckets, oldest first", body = ServiceHistory), (status = 400, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn of_service(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = ServiceId::new(path?.0);
    let snapshot = app.snapshot();
    let (step, from, to) = resolve(&window?.0, snapshot.at)?;
    let buckets = app
        .context
        .reader
        .service_history(&id, step, from, to)
        .await
        .map_err(|error| Problem::record(&error))?;
    if buckets.is_empty() && snapshot.service(&id).is_none() {
        return Err(no_service(&id));
    }
    let buckets = buckets.into_iter().map(|bucket| WithPercentiles {
        latency: Percentiles::of(&bucket.latency),
        probe_latency: None,
        bucket,
    });
    let history = ServiceHistory {
        service: id.to_string(),
        step: word(step).to_owned(),
        from: from.0,
        to: to.0,
        buckets: buckets.collect(),
    };
    Ok(Json(history).into_response())
}

impl Percentiles {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let ms = |duration: Option<std::time::Duration>| duration.map(|d| d.as_secs_f64() * 1000.0);
        Self {
            count: histogram.count(),
            mean_ms: ms(histogram.mean()),
            p50_ms: ms(histogram.quantile(0.5)),
            p90_ms: ms(histogram.quantile(0.9)),
            p99_ms: ms(histogram.quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

pub(super) fn word(step: Step) -> &'static str {
    match step {
        Step::Minute => "minute",
        Step::Hour => "hour",
    }
}

pub(super) fn resolve(window: &Window, now: Wall) -> Result<(Step, Wall, Wall), Problem> {
    let (step, width) = match window.step.as_deref() {
        None | Some("minute") => (Step::Minute, 60_000),
        Some("hour") => (Step::Hour, 3_600_000),
        Some(other) => {
            return Err(Problem::bad_request(format!("`step` is `{other}`; it must be `minute` or `hour`.")));
        }
    };
    let to = window.to.as_deref().map_or(Ok(now), |text| moment("to", text))?;
    let usual = Wall(to.0.saturating_sub(BUCKETS_USUAL * width));
    let from = window.from.as_deref().map_or(Ok(usual), |text| moment("from", text))?;
    if from >= to {
        return Err(Problem::bad_request("`from` must be before `to`."));
    }
    if to.ms_since(from) > BUCKETS_MOST * width {
        let detail =
            format!("From `from` to `to` are more than {BUCKETS_MOST} buckets of one {}.", word(step));
        return Err(Problem::bad_request(detail));
    }
    Ok((step, from, to))
}

pub(super) fn moment(name: &str, text: &str) -> Result<Wall, Problem> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(Wall(ms));
    }
    text.parse::<jiff::Timestamp>().map(|at| Wall(at.as_millisecond())).map_err(|_| {
        let example = "2026-11-12T03:14:07Z";
        Problem::bad_request(format!(
            "`{name}` is `{text}`; write it as RFC 3339 ({example}) or as milliseconds since 1970."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_794_453_247_250);

    fn asked(
        step: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(Step, Wall, Wall), Problem> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        resolve(&Window { step: text(step), from: text(from), to: text(to) }, NOW)
    }

    #[test]
    fn a_window_has_a_default_and_two_ways_to_write_a_moment() {
        assert_eq!(asked(None, None, None).unwrap(), (Step::Minute, Wall(NOW.0 - 3_600_000), NOW));
        let (step, from, to) =
            asked(Some("hour"), Some("2026-11-12T00:00:00Z"), Some("1794453247250")).unwrap();
        assert_eq!((step, to), (Step::Hour, NOW));
        assert_eq!(from, Wall(1_794_441_600_000));
    }

    #[test]
    fn a_window_that_makes_no_sense_is_refused_with_its_value() {
        assert!(asked(Some("day"), None, None).unwrap_err().detail.contains("`day`"));
        assert!(asked(None, Some("yesterday"), None).unwrap_err().detail.contains("`yesterday`"));
        assert!(asked(None, Some("5"), Some("5")).unwrap_err().detail.contains("before"));
        assert!(asked(None, Some("0"), None).unwrap_err().detail.contains("9000"));
        assert!(asked(None, Some(&i64::MIN.to_string()), Some(&i64::MAX.to_string())).is_err());
    }
}
