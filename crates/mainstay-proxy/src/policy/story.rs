//! What is remembered of requests that did not go the usual way, in a fixed number of places, so that somebody who has a request's
//! id can be told why. A plain good request is not remembered and costs nothing.

use std::collections::VecDeque;

use mainstay_model::input::FailureKind;
use mainstay_model::request::RequestRecord;

use super::retry::{Safety, Stage};
use super::tls::TlsFlaw;

/// Requests of one worker that were tried again, failed or were slow.
const TROUBLED_MAX: usize = 2048;
/// Requests of one worker that were refused, shed or limited: apart, because a flood of them must not drive the others out.
const REFUSED_MAX: usize = 1024;
/// Of a request's method and target so much is kept, in bytes.
const LINE_MAX: usize = 256;

/// One worker's memory.
#[derive(Debug, Default)]
pub(crate) struct Stories {
    troubled: VecDeque<RequestRecord>,
    refused: VecDeque<RequestRecord>,
}

impl Stories {
    /// Remembers a request, and forgets the oldest of its kind if there is no place left.
    pub(crate) fn remember(&mut self, record: RequestRecord, refused: bool) {
        let (records, most) = match refused {
            true => (&mut self.refused, REFUSED_MAX),
            false => (&mut self.troubled, TROUBLED_MAX),
        };
        if records.len() >= most {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// The newest request of this id: a client may send one twice.
    pub(crate) fn find(&self, id: &str) -> Option<&RequestRecord> {
        let newest =
            |records: &'_ VecDeque<RequestRecord>| records.iter().rposition(|record| record.id == id);
        let troubled = newest(&self.troubled).map(|at| &self.troubled[at]);
        let refused = newest(&self.refused).map(|at| &self.refused[at]);
        troubled.into_iter().chain(refused).max_by_key(|record| record.at)
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server's fault, or its network's.
    Fault(FailureKind),
    /// TLS was not agreed on.
    Tls(TlsFlaw),
    /// A reused connection was closed before a byte came back: says nothing of the server.
    Stale,
    /// It turned a stream of HTTP/2 down before it looked at it.
    Declined,
    /// It has had enough of a connection in HTTP/2, and did not look at this request on it: says nothing of the server.
    GoneAway,
    /// It let the request wait and answered nobody, and was left.
    Hang(FailureKind),
    /// It was taken out of rotation while the request waited.
    Ejected,
    /// It answered with an error, and another server is asked.
    Erred(u16),
    /// It had not answered when another server that was asked beside it had.
    Overtaken,
    /// Mainstay's own shortage.
    Own,
}

impl Cause {
    /// The word used in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Cause::Fault(kind) => kind.as_str(),
            Cause::Tls(_) => FailureKind::Tls.as_str(),
            Cause::Stale => "stale-connection",
            Cause::Declined => "refused-stream",
            Cause::GoneAway => "goaway",
            Cause::Hang(_) => "hang",
            Cause::Ejected => "ejected",
            Cause::Erred(_) => "server-error",
            Cause::Overtaken => "hedge",
            Cause::Own => "own-shortage",
        }
    }

    /// What it is to the judge, if it is held against the server.
    pub(crate) fn kind(self) -> Option<FailureKind> {
        match self {
            Cause::Fault(kind) | Cause::Hang(kind) => Some(kind),
            Cause::Tls(_) => Some(FailureKind::Tls),
            Cause::Stale
            | Cause::Declined
            | Cause::GoneAway
            | Cause::Overtaken
            | Cause::Ejected
            | Cause::Erred(_)
            | Cause::Own => None,
        }
    }

    /// For the person who asks.
    pub(crate) fn words(self) -> String {
        let words = match self {
            Cause::Fault(FailureKind::Refused) => "the connection was refused",
            Cause::Fault(FailureKind::Unreachable) => "there was no way to it",
            Cause::Fault(FailureKind::ConnectTimeout) => "it did not accept the connection in time",
            Cause::Fault(FailureKind::Reset) => "it closed the connection without an answer",
            Cause::Fault(FailureKind::Truncated) => "it broke off in the middle of its answer",
            Cause::Fault(FailureKind::Timeout) => "it did not answer in time",
            Cause::Fault(FailureKind::Malformed) => "it answered something that is not HTTP",
            Cause::Fault(FailureKind::Tls) => "it did not agree on TLS",
            Cause::Tls(flaw) => return format!("it {flaw}"),
            Cause::Stale => "it closed a connection that was used again, without an answer",
            Cause::Declined => "it turned the request down before it looked at it (REFUSED_STREAM)",
            Cause::GoneAway => "it ended the connection before it looked at the request (GOAWAY)",
            Cause::Hang(FailureKind::ConnectTimeout) => "it accepted no connection and answered nobody else",
            Cause::Hang(_) => "it did not answer, nor anybody else",
            Cause::Ejected => "it was taken out of rotation before it answered",
            Cause::Erred(status) => return format!("it answered {status}"),
            Cause::Overtaken => "it had not answered yet",
            Cause::Own => "Mainstay had no descriptor, port or memory left for a connection",
        };
        words.to_owned()
    }
}

/// Of two servers that were asked side by side (`retry.hedge`), why one is not waited for: for the person who asks.
pub(crate) mod hedged {
    /// The second answered first.
    pub(crate) const SECOND_WON: &str =
        "given up, because another server was asked too and answered first (retry.hedge)";
    /// The first failed while the second was waited for.
    pub(crate) const FIRST_FAILED: &str = "another server had been asked too, and answered (retry.hedge)";
    /// The second was not needed.
    pub(crate) const FIRST_WON: &str =
        "given up: it was asked only because the first took long (retry.hedge)";
    /// The second failed while the first was waited for.
    pub(crate) const SECOND_FAILED: &str =
        "it was asked only because the first took long, and that was waited for on (retry.hedge)";
}

/// What was decided after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Again,
    OutOfTime,
    Unsafe,
    TriesUsed,
    OverBudget,
    NobodyLeft,
}

impl Decision {
    /// For the person who asks.
    pub(crate) fn words(self, stage: Stage, safety: Safety, can_rewind: bool) -> &'static str {
        match (self, stage, safety) {
            (Decision::Again, Stage::Unsent, _) => "tried again, because no byte of it had been sent",
            (Decision::Again, Stage::Erred, Safety::Safe) => {
                "asked again elsewhere, because its method changes nothing"
            }
            (Decision::Again, Stage::Erred, _) => "asked again elsewhere, because the config allows it",
            (Decision::Again, Stage::ReusedClosed, _) => {
                "tried again over a new connection, because it may be sent twice"
            }
            (Decision::Again, ..) => "tried again, because it may be sent twice and the budget allowed it",
            (Decision::OutOfTime, ..) => {
                "not tried again, because the request's time was over (timeouts.request)"
            }
            (Decision::Unsafe, Stage::PassedOn, _) => {
                "not tried again, because a part of the answer had been passed on"
            }
            (Decision::Unsafe, ..) if !can_rewind => {
                "not tried again, because its body was too large to be kept (retry.body-max)"
            }
            (Decision::Unsafe, ..) => {
                "not tried again, because the server may have received it and its method must not be repeated"
            }
            (Decision::TriesUsed, ..) => "not tried again, because all its tries were used (retry.max-tries)",
            (Decision::OverBudget, ..) => {
                "not tried again, because the budget of retries was used up (retry.budget)"
            }
            (Decision::NobodyLeft, ..) => "not tried again, because no other server was left",
        }
    }
}

/// Method and target of a request's head, as it is sent to servers.
pub(crate) fn line_of(head: &[u8]) -> String {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let line = line.strip_suffix(b" HTTP/1.1").unwrap_or(line);
    let cut = &line[..line.len().min(LINE_MAX)];
    let more = if cut.len() < line.len() { "…" } else { "" };
    format!("{}{more}", String::from_utf8_lossy(cut))
}

#[cfg(test)]
mod tests {
    use mainstay_model::Wall;

    use super::*;

    fn record(id: usize, at: i64) -> RequestRecord {
        RequestRecord {
            id: id.to_string(),
            service: None,
            at: Wall(at),
            line: String::new(),
            attempts: Vec::new(),
            ending: String::new(),
            status: None,
            took_ms: 0.0,
        }
    }

    #[test]
    fn a_flood_of_refusals_drives_out_refusals_only() {
        let mut stories = Stories::default();
        stories.remember(record(7, 0), false);
        for id in 100..100 + 2 * REFUSED_MAX {
            stories.remember(record(id, 1), true);
        }
        assert!(stories.find("7").is_some() && stories.find("100").is_none());
        assert_eq!(stories.refused.len(), REFUSED_MAX);
        for id in 10_000..10_000 + TROUBLED_MAX {
            stories.remember(record(id, 2), false);
        }
        assert!(stories.find("7").is_none() && stories.find("10000").is_some());
    }

    #[test]
    fn of_two_requests_with_one_id_the_newer_is_told() {
        let mut stories = Stories::default();
        stories.remember(record(7, 5), true);
        stories.remember(record(7, 3), false);
        assert_eq!(stories.find("7").map(|r| r.at), Some(Wall(5)));
        stories.remember(record(7, 9), false);
        assert_eq!(stories.find("7").map(|r| r.at), Some(Wall(9)));
    }

    #[test]
    fn a_line_is_method_and_target_and_never_long() {
        assert_eq!(line_of(b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /a?b");
        let long = line_of(format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)).as_bytes());
        assert!(long.len() < LINE_MAX + 4 && long.ends_with('…'));
    }
}
