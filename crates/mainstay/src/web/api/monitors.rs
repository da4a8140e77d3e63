//! Monitors for programs: a list that is filtered and paged here, because there may be ten thousand, one by its name, and its
//! history.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use mainstay_model::heartbeat::HeartbeatSnapshot;
use mainstay_model::monitor::{MonitorCounts, MonitorSnapshot, MonitorState};
use mainstay_model::{MonitorId, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::history::{Percentiles, Window, resolve, word};
use super::{monitor_schema, schema};
use crate::store::MonitorBucket;
use crate::web::App;
use crate::web::problem::Problem;

/// Monitors in one answer, at most.
const MOST: usize = 1000;
/// Monitors in one answer, unless asked otherwise.
const USUAL: usize = 100;

/// Which monitors.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Which {
    /// Only those in this state: `up`, `degraded`, `maintenance`, `unknown` or `down`.
    #[param(pattern = "^(up|degraded|maintenance|unknown|down)?$")]
    pub(in crate::web) state: Option<String>,
    /// Only those of this group.
    pub(in crate::web) group: Option<String>,
    /// Only those with this tag.
    pub(in crate::web) tag: Option<String>,
    /// Only those with this text in their name, target, group or tags, whatever its case.
    pub(in crate::web) q: Option<String>,
    /// Only those that are part of the open incident of this number.
    pub(in crate::web) incident: Option<u64>,
    /// Only those whose name comes after this one.
    pub(in crate::web) after: Option<String>,
    /// At most so many, 1 to 1000; 100 by default.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(in crate::web) limit: Option<usize>,
}

impl Which {
    /// The monitors that are meant, in the order of their names. What is empty asks for nothing.
    pub(in crate::web) fn of<'s>(
        &self,
        snapshot: &'s Snapshot,
    ) -> Result<Vec<&'s Arc<MonitorSnapshot>>, Problem> {
        fn written(text: &Option<String>) -> Option<&str> {
            text.as_deref().map(str::trim).filter(|text| !text.is_empty())
        }
        let state = match written(&self.state) {
            None => None,
            Some(word) => match MonitorState::ALL.into_iter().find(|state| state.as_str() == word) {
                Some(state) => Some(state),
                None => {
                    let detail = format!(
                        "`state` is `{word}`; it must be up, degraded, maintenance, unknown or down."
                    );
                    return Err(Problem::bad_request(detail));
                }
            },
        };
        let (group, tag) = (written(&self.group), written(&self.tag));
        let text = written(&self.q).map(str::to_lowercase);
        let has = |part: &str, text: &str| part.to_lowercase().contains(text);
        let meant = |monitor: &&Arc<MonitorSnapshot>| {
            state.is_none_or(|state| monitor.state == state)
                && group.is_none_or(|group| monitor.group.as_deref() == Some(group))
                && tag.is_none_or(|tag| monitor.tags.iter().any(|own| **own == *tag))
                && self.incident.is_none_or(|id| monitor.incident.is_some_and(|own| own.0 == id))
                && text.as_deref().is_none_or(|text| {
                    has(monitor.id.as_str(), text)
                        || has(&monitor.target, text)
                        || monitor.group.iter().chain(&monitor.tags).any(|word| has(word, text))
                })
        };
        Ok(snapshot.monitors.iter().filter(meant).collect())
    }
}

/// Some monitors.
#[derive(Serialize, ToSchema)]
pub(super) struct Monitors {
    /// How many of all there are in which state.
    #[schema(value_type = monitor_schema::MonitorCounts)]
    counts: MonitorCounts,
    /// How many are meant.
    found: usize,
    /// By name, without their last looks.
    #[schema(value_type = Vec<monitor_schema::Monitor>)]
    monitors: Vec<MonitorSnapshot>,
    /// Give this as `after` for the next ones; absent when there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
}

/// Monitors: what is watched and not served.
#[utoipa::path(get, path = "/api/v1/monitors", tag = "status", params(Which),
    responses((status = 200, description = "Some of them, by name", body = Monitors), (status = 400, response = schema::Problem)))]
pub(super) async fn all(
    State(app): State<App>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(which) = which?;
    let limit = which.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` is {limit}; it must be 1 to {MOST}.")));
    }
    let snapshot = app.snapshot();
    let meant = which.of(&snapshot)?;
    let found = meant.len();
    let mut rest =
        meant.into_iter().filter(|m| which.after.as_deref().is_none_or(|after| m.id.as_str() > after));
    let without_looks = |monitor: &Arc<MonitorSnapshot>| {
        let MonitorSnapshot {
            id,
            target,
            probe,
            group,
            tags,
            because,
            last,
            not_probed,
            maintenance,
            fail,
            heartbeat,
            needs,
            ..
        } = &**monitor;
        MonitorSnapshot {
            id: id.clone(),
            target: target.clone(),
            probe: probe.clone(),
            group: group.clone(),
            tags: tags.clone(),
            because: because.clone(),
            last: last.clone(),
            not_probed: not_probed.clone(),
            maintenance: maintenance.clone(),
            fail: fail.clone(),
            needs: needs.clone(),
            // The end of a log is told of one only.
            heartbeat: heartbeat.clone().map(|heartbeat| HeartbeatSnapshot { tail: None, ..heartbeat }),
            recent: Vec::new(),
            ..**monitor
        }
    };
    let monitors: Vec<MonitorSnapshot> = rest.by_ref().take(limit).map(without_looks).collect();
    let more = rest.next().is_some();
    let next_after = monitors.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(Monitors { counts: snapshot.monitor_counts, found, monitors, next_after }).into_response())
}

/// One monitor, with its last looks.
#[utoipa::path(get, path = "/api/v1/monitors/{monitor}", tag = "status",
    params(("monitor" = String, Path, description = "Its name in the config")),
    responses((status = 200, description = "The monitor", body = monitor_schema::Monitor), (status = 404, response = schema::Problem)))]
pub(super) async fn one(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = MonitorId::new(path?.0);
    let snapshot = app.snapshot();
    let monitor = snapshot.monitor(&id).ok_or_else(|| no_monitor(&id))?;
    Ok(Json(&**monitor).into_response())
}

/// Buckets, oldest first. One in which nothing was known of it is absent.
#[derive(Serialize, ToSchema)]
pub(super) struct MonitorHistory {
    monitor: String,
    step: String,
    /// Milliseconds since the Unix epoch.
    from: i64,
    /// Milliseconds since the Unix epoch.
    to: i64,
    #[schema(value_type = Vec<monitor_schema::MonitorBucket>)]
    buckets: Vec<WithPercentiles>,
}

#[derive(Serialize)]
struct WithPercentiles {
    #[serde(flatten)]
    bucket: MonitorBucket,
    latency: Percentiles,
}

/// What was seen of a monitor.
#[utoipa::path(get, path = "/api/v1/monitors/{monitor}/history", tag = "history",
    params(("monitor" = String, Path, description = "Its name in the config"), Window),
    responses((status = 200, description = "Buckets, oldest first", body = MonitorHistory), (status = 400, response = schema::Problem),
        (status = 404, response = schema::Problem), (status = 503, response = schema::Problem)))]
pub(super) async fn history(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = MonitorId::new(path?.0);
    let snapshot = app.snapshot();
    let (step, from, to) = resolve(&window?.0, snapshot.at)?;
    let read = app.context.reader.monitor_history(&id, step, from, to).await;
    let buckets = read.map_err(|error| Problem::record(&error))?;
    // One that left the config still has its past.
    if buckets.is_empty() && snapshot.monitor(&id).is_none() {
        return Err(no_monitor(&id));
    }
    let with = |bucket: MonitorBucket| WithPercentiles { latency: Percentiles::of(&bucket.latency), bucket };
    let history = MonitorHistory {
        monitor: id.to_string(),
        step: word(step).to_owned(),
        from: from.0,
        to: to.0,
        buckets: buckets.into_iter().map(with).collect(),
    };
    Ok(Json(history).into_response())
}

pub(in crate::web) fn no_monitor(id: &MonitorId) -> Problem {
    Problem::not_found(format!("There is no monitor `{id}` in the config."))
}
