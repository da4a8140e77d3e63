//! Questions to a Docker Engine, over whatever leads to it, and how it says that a container is. Probes ask it, and restarts do.

use std::fmt;
use std::future::Future as _;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::pin::pin;
use std::task::Poll;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// What is said of a container is a few kilobytes; more than this is not read.
const ANSWER_MAX: usize = 1024 * 1024;

/// Why an Engine could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Its socket is not there, or is no socket.
    #[error("{0} does not exist; start the Docker Engine, or write where its socket is")]
    NoSocket(String),
    /// Something else than a socket is there.
    #[error("{0} is no socket but another kind of file; write where the Docker Engine's socket is")]
    NotASocket(String),
    /// It may not be opened.
    #[error(
        "{0} may not be opened by Mainstay's user; put the user into the socket's group (docker), which makes it as \
         mighty as root"
    )]
    Shut(String),
    /// Another error of connecting.
    #[error("{0}: {1}")]
    Unreachable(String, io::Error),
    /// It did not answer in time.
    #[error("it does not answer in time")]
    Late,
    /// It closed the connection, or said something that is not HTTP.
    #[error("{0}")]
    Broken(String),
}

/// What an Engine answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// What it says went wrong, in its own words.
    pub fn message(&self) -> String {
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        match serde_json::from_slice::<Message>(&self.body) {
            Ok(said) => said.message.chars().take(300).collect(),
            Err(_) => format!("it answered status {}", self.status),
        }
    }
}

/// Connects to the Engine's own socket.
///
/// # Errors
/// Why it could not, with what to do.
pub async fn connect(socket: &str, deadline: Instant) -> Result<UnixStream, EngineError> {
    let path = socket.to_owned();
    match timeout_at(deadline, UnixStream::connect(socket)).await {
        Err(_) => Err(EngineError::Late),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::NotFound => EngineError::NoSocket(path),
            io::ErrorKind::PermissionDenied => EngineError::Shut(path),
            _ if !is_socket(socket) => EngineError::NotASocket(path),
            _ => EngineError::Unreachable(path, error),
        }),
    }
}

fn is_socket(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// Asks one question on a connection that is used for nothing else.
///
/// # Errors
/// There was no whole answer in time.
pub async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    method: Method,
    path: &str,
    deadline: Instant,
) -> Result<Answer, EngineError> {
    ask_with(stream, method, path, String::new(), deadline).await
}

/// The same with something to say, which is JSON; or nothing, if it is empty.
///
/// # Errors
/// There was no whole answer in time.
pub async fn ask_with(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    method: Method,
    path: &str,
    body: String,
    deadline: Instant,
) -> Result<Answer, EngineError> {
    let broken = |error: &dyn fmt::Display| EngineError::Broken(error.to_string());
    let mut request = Request::builder().method(method).uri(path).header(HOST, "docker");
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| broken(&error))?;
    let (mut sender, mut connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (status, mut rest) = (answer.status().as_u16(), answer.into_body());
        let mut body = Vec::new();
        while let Some(frame) = rest.frame().await {
            if let Some(data) = frame.map_err(|error| broken(&error))?.data_ref() {
                body.extend_from_slice(&data[..data.len().min(ANSWER_MAX - body.len())]);
            }
            if body.len() >= ANSWER_MAX {
                break;
            }
        }
        Ok(Answer { status, body })
    };
    // The connection is driven here rather than in a task, so that nothing of it outlives the question.
    let mut exchange = pin!(exchange);
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
    timeout_at(deadline, both).await.unwrap_or(Err(EngineError::Late))
}

/// A container: the answer to `GET /containers/{id}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// How it is.
    pub state: State,
    /// How often the Engine itself has restarted it.
    #[serde(default)]
    pub restart_count: i64,
    /// How it was made.
    #[serde(default)]
    pub config: ContainerConfig,
}

/// How a container is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// `running`, `exited` and so on.
    pub status: String,
    /// Its last end was for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// How it last ended; 128 and more is a signal.
    pub exit_code: i64,
    /// Why it could not be started.
    pub error: String,
    /// When it was last started, in RFC 3339.
    pub started_at: String,
    /// What its own health check says.
    pub health: Option<Health>,
}

/// What a container's own health check says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `healthy`, `unhealthy` or `starting`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last checks.
    pub log: Option<Vec<Check>>,
}

/// One check of a container's own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Check {
    /// What it wrote.
    pub output: String,
}

/// How a container was made.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// It has a terminal, so what it writes is one stream.
    pub tty: bool,
}

impl State {
    /// How it last ended: `status 137 (out of memory)`.
    pub fn ending(&self) -> String {
        let signal = i32::try_from(self.exit_code - 128).ok();
        let signal = signal.and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok());
        match (self.oom_killed, signal) {
            (true, _) => format!("status {} (out of memory)", self.exit_code),
            (false, Some(signal)) => format!("status {} ({signal})", self.exit_code),
            (false, None) => format!("status {}", self.exit_code),
        }
    }
}

/// The lines of what a container wrote: the answer to `GET /containers/{id}/logs`.
pub fn log_lines(body: &[u8], tty: bool) -> Vec<String> {
    let mut text = Vec::new();
    if tty {
        text.extend_from_slice(body);
    } else {
        // Each piece: one byte for which stream, three of nothing, four for how long it is.
        let mut rest = body;
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            text.extend_from_slice(&after[..length.min(after.len())]);
            rest = &after[length.min(after.len())..];
        }
    }
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_wrote_is_put_together_from_its_pieces() {
        let mut body = Vec::new();
        for (stream, text) in [(1u8, "one\nt"), (2, "oh\n"), (1, "wo\n")] {
            body.extend_from_slice(&[stream, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
            body.extend_from_slice(text.as_bytes());
        }
        assert_eq!(log_lines(&body, false), ["one", "toh", "wo"]);
        assert_eq!(log_lines(b"one\r\ntwo", true), ["one", "two"]);
        assert_eq!(log_lines(&[1, 0, 0, 0, 0, 0, 1, 0, b'x'], false), ["x"], "one that was cut");
        assert!(log_lines(b"abc", false).is_empty());
    }
}
