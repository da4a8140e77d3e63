//! The gRPC probe: the standard health service (`grpc.health.v1.Health/Check`), asked in HTTP/2 on a connection of its own.
//!
//! Its two messages have one field each, which is written and read here rather than by a library for protocol buffers.

use h2::client::SendRequest;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, TE, USER_AGENT};
use hyper::{HeaderMap, Request};
use mainstay_model::input::{ProbeAnswer, ProbeFailure};

use super::Look;
use super::connect::{connect, host_of};
use super::http::NAME;
use super::http2::{converse, failure, read_body};
use super::wire::quoted;
use crate::config::probe::GrpcProbe;

/// The answer is a few bytes; a longer one is none.
const ANSWER_MAX: usize = 1024;

/// Asks and says what answered.
pub(super) async fn probe(look: &Look<'_>, probe: &GrpcProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let scheme = if look.over_tls { "https" } else { "http" };
    let authority = probe.host.clone().unwrap_or_else(|| host_of(look.address));
    let request = Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, NAME)
        .body(())
        .map_err(|error| {
            ProbeFailure::NotProbed(format!("{authority} cannot be asked: {error}; check health.host"))
        })?;
    let stream = connect(look).await?;
    converse(look, stream, |sender| exchange(sender, request, probe)).await
}

async fn exchange(
    mut sender: SendRequest<Bytes>,
    request: Request<()>,
    probe: &GrpcProbe,
) -> Result<ProbeAnswer, ProbeFailure> {
    let bad = |what: String| Err(ProbeFailure::Answer(what));
    let (answer, mut sending) = sender.send_request(request, false).map_err(failure)?;
    sending.send_data(question(&probe.service).into(), true).map_err(failure)?;
    let answer = answer.await.map_err(failure)?;
    let status = answer.status().as_u16();
    let is_grpc = answer
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if status != 200 {
        return Err(ProbeFailure::Status(status));
    }
    if !is_grpc {
        return bad("did not answer in gRPC".to_owned());
    }
    // An answer without a message has its status in front.
    judge_status(answer.headers(), probe)?;
    let mut body = answer.into_body();
    let mut message = Vec::new();
    if !read_body(&mut body, &mut message, ANSWER_MAX).await? {
        return bad("answered with more than a health check has to say".to_owned());
    }
    match body.trailers().await.map_err(failure)? {
        Some(trailers) => judge_status(&trailers, probe)?,
        None => return Err(ProbeFailure::Reset),
    }
    match serving(&message) {
        Some(1) => Ok(ProbeAnswer::said("SERVING")),
        Some(2) => bad(format!("says that {} is NOT_SERVING", whom(probe))),
        Some(3) => bad(format!("does not know {} (SERVICE_UNKNOWN)", whom(probe))),
        Some(_) => bad(format!("does not say how {} is", whom(probe))),
        None => bad(format!("did not answer as a health service does: {}", quoted(&message))),
    }
}

fn whom(probe: &GrpcProbe) -> String {
    match probe.service.is_empty() {
        true => "it".to_owned(),
        false => format!("its service {}", probe.service),
    }
}

/// `grpc-status`, wherever it stands; absent says nothing yet.
fn judge_status(headers: &HeaderMap, probe: &GrpcProbe) -> Result<(), ProbeFailure> {
    let Some(code) = headers.get("grpc-status") else { return Ok(()) };
    let text = headers.get("grpc-message").map_or(&b""[..], |text| text.as_bytes());
    let said = if text.is_empty() { String::new() } else { format!(": {}", quoted(text)) };
    let what = match code.as_bytes() {
        b"0" => return Ok(()),
        b"5" => format!("does not know {}{said}", whom(probe)),
        b"12" => "has no health service (grpc.health.v1.Health); add it, or probe with tcp".to_owned(),
        b"16" | b"7" => format!("does not let the probe ask for its health{said}"),
        other => format!("answered with gRPC's status {}{said}", String::from_utf8_lossy(other)),
    };
    Err(ProbeFailure::Answer(what))
}

/// `HealthCheckRequest`: the service's name in field 1, in a frame of gRPC.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        // A name is shorter than 128 bytes, as the config checks, so its length is one byte.
        message.push(u8::try_from(service.len()).unwrap_or(u8::MAX));
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], &message].concat()
}

/// `HealthCheckResponse`: the status in field 1, which is 0 when it is left out. `None`: it is something else.
fn serving(frame: &[u8]) -> Option<u8> {
    let (head, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || length != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [8, status] if *status < 128 => Some(*status),
        _ => None,
    }
}
