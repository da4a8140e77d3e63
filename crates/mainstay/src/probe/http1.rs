//! A probe's request in HTTP/1.1.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::Poll;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mainstay_model::input::ProbeFailure;
use tokio::time::timeout_at;

use super::Look;
use super::connect::{answer_failure, connect, host_of};
use super::demand::Got;
use super::http::Ask;

/// A head may be as long as this.
const HEAD_MAX: usize = 64 * 1024;

/// Asks and reads the answer.
pub(super) async fn fetch(look: &Look<'_>, ask: Ask<'_>) -> Result<Got, ProbeFailure> {
    let request = request(look, ask)?;
    let stream = connect(look).await?;
    let not_after = stream.not_after();
    look.trace.saw(|facts| facts.not_after = not_after);
    let (sender, mut connection) = Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failure(&e))?;

    // The connection is driven here rather than in a task, so that nothing of it outlives the probe.
    let result = {
        let mut exchange = pin!(exchange(sender, request, look, ask));
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
        timeout_at(look.deadline, both).await.unwrap_or(Err(ProbeFailure::AnswerTimeout))
    };
    if !result.as_ref().is_ok_and(|got| got.whole) {
        // A reset instead of a close that waits for a server which may never answer it: thousands of failed probes
        // leave nothing behind in the kernel.
        connection.into_parts().io.into_inner().reset_on_close();
    }
    result.map(|got| Got { not_after, ..got })
}

fn request(look: &Look<'_>, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, ProbeFailure> {
    let host = match ask.host {
        Some(host) => HeaderValue::from_str(host),
        None => HeaderValue::from_str(&host_of(look.address)),
    };
    let host =
        host.map_err(|_| ProbeFailure::NotProbed("health.host cannot be sent as a Host header".into()))?;
    let mut request = ask.request(ask.path, Full::new(ask.body()))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn exchange(
    mut sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    look: &Look<'_>,
    ask: Ask<'_>,
) -> Result<Got, ProbeFailure> {
    let answer = sender.send_request(request).await.map_err(|e| failure(&e))?;
    look.trace.reached(|phases| phases.first_byte = Some(look.begun.elapsed()));
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut body = Vec::new();
    let reading = ask.reading(status);
    let whole = reading.by(async |most| read_body(answer, &mut body, most).await).await;
    ask.got(look, (status, headers), body, whole)
}

/// Whether it came to its end before it was too long.
async fn read_body(
    answer: Response<Incoming>,
    kept: &mut Vec<u8>,
    most: usize,
) -> Result<bool, ProbeFailure> {
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.map_err(|e| failure(&e))?.data_ref() {
            kept.extend_from_slice(&data[..data.len().min(most - kept.len())]);
        }
        if kept.len() >= most {
            return Ok(false);
        }
    }
    Ok(true)
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
