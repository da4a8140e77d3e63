//! The HTTP probe: one `GET` on a connection of its own; 2xx and 3xx are good when the answer is whole.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::Poll;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mainstay_model::Endpoint;
use mainstay_model::input::ProbeFailure;
use tokio::time::{Instant, timeout_at};

use super::connect::{Secured, answer_failure, connect, host_of};

/// As much of a body is read; what is longer counts as whole.
const BODY_MAX: usize = 64 * 1024;
/// A head may be as long as this.
const HEAD_MAX: usize = 64 * 1024;

/// Asks for `path` and reads the answer. The status of a good answer, or how it failed.
pub(super) async fn probe(
    address: &Endpoint,
    tls: Option<Secured<'_>>,
    path: &str,
    host: Option<&str>,
    greeting: &[u8],
    deadline: Instant,
) -> Result<u16, ProbeFailure> {
    let request = request(address, path, host)?;
    let stream = connect(address, tls, greeting, deadline).await?;
    let (sender, mut connection) = Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failure(&e))?;

    // The connection is driven here rather than in a task, so that nothing of it outlives the probe.
    let result = {
        let mut exchange = pin!(exchange(sender, request));
        let mut ended = false;
        let both = std::future::poll_fn(|cx| {
            if !ended && std::pin::Pin::new(&mut connection).poll(cx).is_ready() {
                ended = true;
            }
            match exchange.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(result) => Poll::Ready(result),
            }
        });
        timeout_at(deadline, both).await.unwrap_or(Err(ProbeFailure::AnswerTimeout))
    };
    if result.is_err() {
        // A reset instead of a close that waits for a server which may never answer it: thousands of failed probes
        // leave nothing behind in the kernel.
        connection.into_parts().io.into_inner().reset_on_close();
    }
    result
}

fn request(
    address: &Endpoint,
    path: &str,
    host: Option<&str>,
) -> Result<Request<Empty<Bytes>>, ProbeFailure> {
    let host = match host {
        Some(host) => HeaderValue::from_str(host),
        None => HeaderValue::from_str(&host_of(address)),
    };
    let host =
        host.map_err(|_| ProbeFailure::NotProbed("health.host cannot be sent as a Host header".into()))?;
    Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("mainstay-probe/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|e| ProbeFailure::NotProbed(format!("`{path}` cannot be asked for: {e}; check health.http")))
}

async fn exchange(
    mut sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<u16, ProbeFailure> {
    let answer = sender.send_request(request).await.map_err(|e| failure(&e))?;
    let status = answer.status();
    if !status.is_success() && !status.is_redirection() {
        return Err(ProbeFailure::Status(status.as_u16()));
    }
    read_body(answer).await?;
    Ok(status.as_u16())
}

async fn read_body(answer: Response<Incoming>) -> Result<(), ProbeFailure> {
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.map_err(|e| failure(&e))?.data_ref() {
            read += data.len();
        }
        if read >= BODY_MAX {
            break;
        }
    }
    Ok(())
}

fn failure(error: &hyper::Error) -> ProbeFailure {
    if error.is_parse() {
        return ProbeFailure::Malformed(match error.source() {
            Some(source) => source.to_string(),
            None => error.to_string(),
        });
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return ProbeFailure::Reset;
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return answer_failure(error);
        }
        source = inner.source();
    }
    ProbeFailure::Malformed(error.to_string())
}
