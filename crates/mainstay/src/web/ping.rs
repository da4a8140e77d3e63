//! Where jobs ping: `/ping/TOKEN`, with `/start`, `/fail` or an exit code after it, by GET, HEAD or POST, and the end of a log as
//! the body. The token is all the proof that is needed, so it is in no log and on no page.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http_body_util::BodyExt as _;
use mainstay_model::heartbeat::{Ping, PingKind};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::listener::{self, Limits};
use crate::heartbeat::{Door, Refused};

/// For the whole body of a ping to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// More of a log is not read; what came up to there counts.
const BODY_MAX: usize = 1 << 20;
/// For a ping to be in the record.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// The addresses of jobs.
pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new().route("/ping/{*rest}", any(answer)).with_state(door)
}

/// Serves nothing but pings, until `stop` changes to `true`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let limits = Limits { connections: 2048, ..Limits::default() };
    listener::accept(listener, router(door), limits, stop).await
}

async fn answer(State(door): State<Arc<Door>>, request: Request) -> Response {
    match take(&door, request).await {
        Ok(()) => plain(StatusCode::OK, "OK\n"),
        Err(Refused::Unknown) => plain(StatusCode::NOT_FOUND, "no job has this address\n"),
        Err(Refused::Malformed) => plain(
            StatusCode::BAD_REQUEST,
            "a job says nothing (it went well), /start, /fail or /EXITCODE (0 to 255), by GET, HEAD or POST\n",
        ),
        Err(Refused::Slow) => plain(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"),
        Err(Refused::Busy) => {
            let mut busy = plain(StatusCode::SERVICE_UNAVAILABLE, "too busy to write it down; try again\n");
            busy.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            busy
        }
    }
}

async fn take(door: &Door, request: Request) -> Result<(), Refused> {
    let path = request.uri().path().strip_prefix("/ping/").unwrap_or_default();
    let (token, said) =
        path.trim_end_matches('/').split_once('/').map_or((path, None), |(token, said)| (token, Some(said)));
    let monitor = door.job(token.trim_end_matches('/'))?;
    let kind = kind(request.method(), said).ok_or_else(|| door.refuse(Refused::Malformed))?;
    let tail = match tokio::time::timeout(BODY_WITHIN, tail(request.into_body())).await {
        Ok(Some(tail)) => tail,
        Ok(None) | Err(_) => return Err(door.refuse(Refused::Slow)),
    };
    let recorded = door.take(Ping { monitor, kind, tail })?;
    match tokio::time::timeout(RECORDED_WITHIN, recorded).await {
        Ok(Ok(())) => Ok(()),
        // It may be written down yet; whoever pings twice does no harm.
        Ok(Err(_)) | Err(_) => Err(door.refuse(Refused::Busy)),
    }
}

fn kind(method: &Method, said: Option<&str>) -> Option<PingKind> {
    if !matches!(*method, Method::GET | Method::HEAD | Method::POST) {
        return None;
    }
    match said {
        None | Some("success") => Some(PingKind::Success),
        Some("start") => Some(PingKind::Start),
        Some("fail") => Some(PingKind::Fail),
        Some(code) if code.bytes().all(|byte| byte.is_ascii_digit()) => code.parse().ok().map(PingKind::Exit),
        Some(_) => None,
    }
}

/// The end of a body; the outer `None`: its sender broke off.
async fn tail(mut body: Body) -> Option<Option<Arc<str>>> {
    let mut end: Vec<u8> = Vec::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        read += data.len();
        end.extend_from_slice(&data[data.len().saturating_sub(Ping::TAIL_MAX)..]);
        if end.len() > Ping::TAIL_MAX {
            end.drain(..end.len() - Ping::TAIL_MAX);
        }
        if read >= BODY_MAX {
            break;
        }
    }
    if end.is_empty() {
        return Some(None);
    }
    let text = String::from_utf8_lossy(&end);
    // What is no text, or would move the cursor of whoever reads it, is no part of it.
    let mut text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    // A character that is cut in two is replaced by a longer one.
    let over = text.len().saturating_sub(Ping::TAIL_MAX);
    let from = (over..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.drain(..from);
    Some(Some(text.into()))
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_by_its_address_how_it_went() {
        let said = |said| kind(&Method::GET, said);
        assert_eq!(said(None), Some(PingKind::Success));
        assert_eq!(said(Some("start")), Some(PingKind::Start));
        assert_eq!(said(Some("fail")), Some(PingKind::Fail));
        assert_eq!(said(Some("0")), Some(PingKind::Exit(0)));
        assert_eq!(said(Some("255")), Some(PingKind::Exit(255)));
        for wrong in ["256", "-1", "+1", "", "begin", "1/2", "start/"] {
            assert_eq!(said(Some(wrong)), None, "{wrong}");
        }
        assert_eq!(kind(&Method::DELETE, None), None);
    }

    #[tokio::test]
    async fn of_a_long_log_the_end_is_kept_and_nothing_that_moves_a_cursor() {
        assert_eq!(tail(Body::empty()).await, Some(None));
        let short = tail(Body::from("one\r\n\x1b[31mtwo\ttabs\0")).await.flatten().unwrap();
        assert_eq!(&*short, "one\n[31mtwo\ttabs");
        let long = format!("{}ä the end", "ö".repeat(300_000));
        let kept = tail(Body::from(long)).await.flatten().unwrap();
        assert!(kept.ends_with("ä the end") && kept.len() <= Ping::TAIL_MAX, "{}", kept.len());
        assert!(kept.len() > Ping::TAIL_MAX - 10, "{}", kept.len());
    }
}
