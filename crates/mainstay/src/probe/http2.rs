//! The HTTP probe of a server that speaks HTTP/2: the same `GET`, on a connection of its own, good by the same rule.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use h2::client::{Builder, SendRequest};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, USER_AGENT};
use mainstay_model::Endpoint;
use mainstay_model::input::ProbeFailure;
use tokio::time::{Instant, timeout_at};

use super::connect::{Secured, answer_failure, connect, host_of};

/// As much of a body is read; what is longer counts as whole.
const BODY_MAX: usize = 64 * 1024;
/// A head may be as long as this.
const HEAD_MAX: u32 = 64 * 1024;

/// Asks for `path` and reads the answer. The status of a good answer, or how it failed.
pub(super) async fn probe(
    address: &Endpoint,
    tls: Option<Secured<'_>>,
    path: &str,
    host: Option<&str>,
    deadline: Instant,
) -> Result<u16, ProbeFailure> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let authority = host.map_or_else(|| host_of(address), str::to_owned);
    let request = Request::get(format!("{scheme}://{authority}{path}"))
        .header(USER_AGENT, concat!("mainstay-probe/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .body(())
        .map_err(|e| {
            ProbeFailure::NotProbed(format!("`{path}` cannot be asked for: {e}; check health.http"))
        })?;
    let stream = connect(address, tls, &[], deadline).await?;
    let shaking = Builder::new().enable_push(false).max_header_list_size(HEAD_MAX).handshake(stream);
    let (sender, mut connection) = match timeout_at(deadline, shaking).await {
        Ok(shaken) => shaken.map_err(failure)?,
        Err(_) => return Err(ProbeFailure::AnswerTimeout),
    };
    // The connection is driven here rather than in a task, so that nothing of it outlives the probe.
    let mut exchange = pin!(exchange(sender, request));
    let both = poll_fn(|cx| {
        if let Poll::Ready(Err(error)) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Err(failure(error)));
        }
        exchange.as_mut().poll(cx)
    });
    timeout_at(deadline, both).await.unwrap_or(Err(ProbeFailure::AnswerTimeout))
}

async fn exchange(mut sender: SendRequest<Bytes>, request: Request<()>) -> Result<u16, ProbeFailure> {
    let (answer, _) = sender.send_request(request, true).map_err(failure)?;
    let answer = answer.await.map_err(failure)?;
    let status = answer.status();
    if !status.is_success() && !status.is_redirection() {
        return Err(ProbeFailure::Status(status.as_u16()));
    }
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(data) = body.data().await {
        let data = data.map_err(failure)?;
        read += data.len();
        if read >= BODY_MAX {
            break;
        }
        // Failing means that the stream is gone, which the next look says.
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok(status.as_u16())
}

fn failure(error: h2::Error) -> ProbeFailure {
    match error.get_io() {
        Some(error) => answer_failure(error),
        None if error.is_remote() => ProbeFailure::Reset,
        None => ProbeFailure::Malformed(error.to_string()),
    }
}
