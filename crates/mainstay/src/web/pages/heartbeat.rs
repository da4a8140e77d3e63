//! What the page of a monitor says of a job that pings: when it did and is to, how long its runs took, and the end of its log.

use std::fmt::Write as _;

use askama::Template;
use mainstay_model::Snapshot;
use mainstay_model::heartbeat::{HeartbeatPhase, HeartbeatSnapshot};
use mainstay_model::monitor::MonitorSnapshot;

use super::{Part, render as html};
use crate::web::words::{self, Ago};

/// The part of the page; empty for what is looked at.
pub(super) fn part(monitor: &MonitorSnapshot, snapshot: &Snapshot) -> Part {
    let html = monitor.heartbeat.as_ref().map(|job| html(&HeartbeatPart::of(monitor, job, snapshot)));
    Part { id: "heartbeat", html: html.unwrap_or_default() }
}

/// Its last sign of life in a few words, for the list.
pub(super) fn brief(monitor: &MonitorSnapshot, snapshot: &Snapshot) -> String {
    let Some(job) = &monitor.heartbeat else { return String::new() };
    let ago = |at| words::coarse(snapshot.at.ms_since(at).max(0));
    match (job.last_ping, job.durations_ms.last()) {
        (None, _) => "–".to_owned(),
        (Some(at), Some(took)) => format!("{} ago, took {}", ago(at), took_words(*took)),
        (Some(at), None) => format!("{} ago", ago(at)),
    }
}

#[derive(Template)]
#[template(path = "monitor-heartbeat.html")]
struct HeartbeatPart {
    name: String,
    waiting: bool,
    last: Option<(Ago, String)>,
    expected: Option<Ago>,
    missed: Option<Ago>,
    running: Option<Ago>,
    late: bool,
    down: bool,
    schedule: String,
    grace: String,
    pings: String,
    took: Option<String>,
    durations: Option<String>,
    tail: Option<(Ago, String)>,
}

impl HeartbeatPart {
    fn of(monitor: &MonitorSnapshot, job: &HeartbeatSnapshot, snapshot: &Snapshot) -> Self {
        let ago = |at| words::ago(at, snapshot.at);
        Self {
            name: monitor.id.to_string(),
            waiting: job.phase == HeartbeatPhase::Waiting,
            last: job.last_ping.map(|at| (ago(at), job.last_said.clone().unwrap_or_default())),
            expected: job.expected.map(ago),
            missed: job.missed_at.map(ago),
            running: job.started.map(|at| words::held(at, snapshot.at)),
            late: job.phase == HeartbeatPhase::Late,
            down: job.phase == HeartbeatPhase::Down,
            schedule: job.schedule.clone(),
            grace: took_words(job.grace_ms),
            pings: words::count(job.pings),
            took: job.durations_ms.last().map(|ms| took_words(*ms)),
            durations: (job.durations_ms.len() > 1).then(|| bars(&job.durations_ms)),
            tail: job.tail_at.zip(job.tail.as_ref()).map(|(at, tail)| (ago(at), tail.to_string())),
        }
    }
}

fn took_words(ms: u64) -> String {
    words::lasted(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// The last runs as bars, the newest on the right; the longest is as high as the picture.
fn bars(durations: &[u64]) -> String {
    let longest = durations.iter().copied().max().unwrap_or(0).max(1);
    let (newest, n) = (durations.last().copied().unwrap_or(0), durations.len());
    let mut svg = format!(
        "<svg class=\"looks\" viewBox=\"0 0 {n} 16\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"the last {n} runs: the longest took {}, the newest {}\">",
        took_words(longest),
        took_words(newest)
    );
    for (x, ms) in durations.iter().enumerate() {
        let height = (16.0 * *ms as f64 / longest as f64).max(1.0);
        let top = 16.0 - height;
        let _ = write!(svg, "<path class=\"good\" d=\"M{x}.1 {top:.1}h.8v{height:.1}h-.8z\"/>");
    }
    svg.push_str("</svg>");
    svg
}
