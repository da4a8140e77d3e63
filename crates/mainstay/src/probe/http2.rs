//! A probe's request in HTTP/2, of a server that speaks it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use hyper::Request;
use hyper::body::Bytes;
use mainstay_model::input::ProbeFailure;
use tokio::time::timeout_at;

use super::Look;
use super::connect::{Connection, answer_failure, connect, host_of};
use super::demand::Got;
use super::http::Ask;

/// A head may be as long as this.
const HEAD_MAX: u32 = 64 * 1024;

/// Asks and reads the answer.
pub(super) async fn fetch(look: &Look<'_>, ask: Ask<'_>) -> Result<Got, ProbeFailure> {
    let scheme = if look.over_tls { "https" } else { "http" };
    let authority = ask.host.map_or_else(|| host_of(look.address), str::to_owned);
    let request = ask.request(&format!("{scheme}://{authority}{}", ask.path), ())?;
    let stream = connect(look).await?;
    let not_after = stream.not_after();
    look.trace.saw(|facts| facts.not_after = not_after);
    let got = converse(look, stream, |sender| exchange(sender, request, look, ask)).await?;
    Ok(Got { not_after, ..got })
}

/// Begins HTTP/2 on a connection and carries `exchange` out on it, by the deadline.
pub(super) async fn converse<T, E: Future<Output = Result<T, ProbeFailure>>>(
    look: &Look<'_>,
    stream: Connection,
    exchange: impl FnOnce(SendRequest<Bytes>) -> E,
) -> Result<T, ProbeFailure> {
    let shaking = Builder::new().enable_push(false).max_header_list_size(HEAD_MAX).handshake(stream);
    let (sender, mut connection) = match timeout_at(look.deadline, shaking).await {
        Ok(shaken) => shaken.map_err(failure)?,
        Err(_) => return Err(ProbeFailure::AnswerTimeout),
    };
    // The connection is driven here rather than in a task, so that nothing of it outlives the probe.
    let mut exchange = pin!(exchange(sender));
    let both = poll_fn(|cx| {
        if let Poll::Ready(Err(error)) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Err(failure(error)));
        }
        exchange.as_mut().poll(cx)
    });
    timeout_at(look.deadline, both).await.unwrap_or(Err(ProbeFailure::AnswerTimeout))
}

async fn exchange(
    mut sender: SendRequest<Bytes>,
    request: Request<()>,
    look: &Look<'_>,
    ask: Ask<'_>,
) -> Result<Got, ProbeFailure> {
    let sent = ask.body();
    let (answer, mut sending) = sender.send_request(request, sent.is_empty()).map_err(failure)?;
    if !sent.is_empty() {
        sending.send_data(sent, true).map_err(failure)?;
    }
    let answer = answer.await.map_err(failure)?;
    look.trace.reached(|phases| phases.first_byte = Some(look.begun.elapsed()));
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut body = Vec::new();
    let mut sent_back = answer.into_body();
    let reading = ask.reading(status);
    let whole = reading.by(async |most| read_body(&mut sent_back, &mut body, most).await).await;
    ask.got(look, (status, headers), body, whole)
}

/// Whether it came to its end before it was too long.
pub(super) async fn read_body(
    body: &mut RecvStream,
    kept: &mut Vec<u8>,
    most: usize,
) -> Result<bool, ProbeFailure> {
    while let Some(data) = body.data().await {
        let data = data.map_err(failure)?;
        kept.extend_from_slice(&data[..data.len().min(most - kept.len())]);
        if kept.len() >= most {
            return Ok(false);
        }
        // Failing means that the stream is gone, which the next look says.
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok(true)
}

/// What an error of HTTP/2 says.
pub(super) fn failure(error: h2::Error) -> ProbeFailure {
    match error.get_io() {
        Some(error) => answer_failure(error),
        None if error.is_remote() => ProbeFailure::Reset,
        None => ProbeFailure::Malformed(error.to_string()),
    }
}
