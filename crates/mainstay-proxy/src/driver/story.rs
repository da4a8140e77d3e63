//! Writes down what became of a request that did not go the usual way, for whoever asks for its id.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_model::request::{AttemptRecord, RequestRecord};
use mainstay_model::{ServiceId, Wall};

use super::connection::Request;
use super::view::Server;
use super::worker::Worker;
use crate::codec::{Refusal, RequestId};
use crate::page::Page;
use crate::policy::accounting::{Ending, Wait};
use crate::policy::story::line_of;

/// A request's end, as far as it is told.
#[derive(Debug)]
pub(crate) struct End<'a> {
    pub(crate) service: &'a ServiceId,
    /// Its head as servers get it.
    pub(crate) head: &'a [u8],
    pub(crate) ending: Ending,
    /// What Mainstay answered itself.
    pub(crate) page: Option<Page>,
    pub(crate) wait: Wait,
}

/// An attempt that began at `began` and has just ended.
pub(crate) fn attempt(
    request: &Request,
    server: &Server,
    began: Instant,
    outcome: String,
    verdict: &str,
) -> AttemptRecord {
    AttemptRecord {
        server: server.state.id.clone(),
        after_ms: ms(began.saturating_duration_since(request.started)),
        took_ms: ms(began.elapsed()),
        outcome,
        verdict: verdict.to_owned(),
    }
}

/// Remembers a request that is dealt with.
pub(crate) fn remember(worker: &Worker, request: &Request, attempts: Vec<AttemptRecord>, end: &End<'_>) {
    let status = match (end.page, end.ending) {
        (Some(page), _) => Some(page.status()),
        (None, Ending::Answered { status }) => Some(status),
        _ => None,
    };
    let by = attempts.last().map(|attempt| format!(" by {}", attempt.server.name)).unwrap_or_default();
    let ending = match (end.page, end.ending) {
        (Some(page), _) => own_words(page),
        (None, Ending::Answered { .. }) => match end.wait.first_byte {
            Some(after) if after > end.wait.slow_after => {
                format!("answered{by}, slowly: the answer began after {} ms", after.as_millis())
            }
            _ => format!("answered{by}"),
        },
        (None, Ending::Abandoned) => "its visitor went away".to_owned(),
        (None, _) => "the answer was cut short".to_owned(),
    };
    let refused = matches!(end.ending, Ending::Refused | Ending::Shed | Ending::Limited);
    let record = RequestRecord {
        service: Some(end.service.clone()),
        line: line_of(end.head),
        attempts,
        ending,
        status,
        ..begun(&request.id, request.started)
    };
    worker.remember(record, refused);
}

/// Remembers a request whose head breaks a rule. `bytes`: what came of it.
pub(crate) fn remember_refused(
    worker: &Worker,
    id: &RequestId,
    began: Instant,
    bytes: &[u8],
    refusal: Refusal,
) {
    let page = Page::Refused(refusal);
    let first = bytes.split(|b| matches!(b, b'\r' | b'\n')).find(|line| !line.is_empty());
    let record = RequestRecord {
        line: line_of(first.unwrap_or_default()),
        ending: own_words(page),
        status: Some(page.status()),
        ..begun(id, began)
    };
    worker.remember(record, true);
}

fn begun(id: &RequestId, began: Instant) -> RequestRecord {
    let took = began.elapsed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RequestRecord {
        id: String::from_utf8_lossy(id.text(&mut [0; 32])).into_owned(),
        service: None,
        at: Wall(i64::try_from(now.saturating_sub(took).as_millis()).unwrap_or(i64::MAX)),
        line: String::new(),
        attempts: Vec::new(),
        ending: String::new(),
        status: None,
        took_ms: ms(took),
    }
}

fn own_words(page: Page) -> String {
    let words = match page {
        Page::Refused(refusal) => {
            return format!("refused by Mainstay as {refusal}: {}", refusal.detail())
                .trim_end_matches('.')
                .to_owned();
        }
        Page::NoServer => "answered by Mainstay itself: no server took it",
        Page::BadGateway => {
            "answered by Mainstay itself: the server that took it did not answer, or not in HTTP"
        }
        Page::GatewayTimeout => "answered by Mainstay itself: the server that took it did not answer in time",
        Page::Shed { .. } => "refused by Mainstay: there was no room for it (limits.concurrent)",
        Page::Limited { .. } => "refused by Mainstay: its address had asked too often (limits.per-address)",
        Page::NoSuchSite => "refused by Mainstay: no service has its host",
        Page::NoSuchPath => "refused by Mainstay: no service of its host has its path",
    };
    words.to_owned()
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
