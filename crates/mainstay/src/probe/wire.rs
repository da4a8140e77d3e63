//! A conversation with a server in whatever it speaks: what it says is read up to a limit, and whoever leaves in the middle
//! leaves nothing behind in the kernel.

use std::future::Future;

use mainstay_model::input::ProbeFailure;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout_at;

use super::Look;
use super::connect::{Connection, answer_failure, connect, secure};

/// So much of what a server says is read in all; no probe needs more.
const HEARD_MAX: usize = 64 * 1024;

/// A connection on which something is said and heard.
#[derive(Debug)]
pub(super) struct Wire {
    /// `None` once it was taken out.
    stream: Option<Connection>,
    heard: Vec<u8>,
    /// Bytes that may still be read.
    left: usize,
    ended_well: bool,
}

impl Wire {
    /// Connects by the deadline.
    ///
    /// # Errors
    /// As [`connect`].
    pub(super) async fn open(look: &Look<'_>) -> Result<Self, ProbeFailure> {
        let stream = connect(look).await?;
        Ok(Self { stream: Some(stream), heard: Vec::new(), left: HEARD_MAX, ended_well: false })
    }

    /// Says something.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> Result<(), ProbeFailure> {
        let Some(stream) = &mut self.stream else { return Err(ProbeFailure::Reset) };
        stream.write_all(bytes).await.map_err(|error| answer_failure(&error))?;
        stream.flush().await.map_err(|error| answer_failure(&error))
    }

    /// Waits until the server has said more.
    ///
    /// # Errors
    /// It has closed the connection, or has said far too much.
    pub(super) async fn hear(&mut self) -> Result<(), ProbeFailure> {
        if self.left == 0 {
            let what = format!("said more than {} KiB", HEARD_MAX / 1024);
            return Err(ProbeFailure::Answer(what));
        }
        let Some(stream) = &mut self.stream else { return Err(ProbeFailure::Reset) };
        let mut chunk = [0; 4096];
        let most = chunk.len().min(self.left);
        match stream.read(&mut chunk[..most]).await {
            Ok(0) => Err(ProbeFailure::Reset),
            Ok(read) => {
                self.left -= read;
                self.heard.extend_from_slice(&chunk[..read]);
                Ok(())
            }
            Err(error) => Err(answer_failure(&error)),
        }
    }

    /// What was heard and not taken yet.
    pub(super) fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// Takes so many bytes, as soon as they are there.
    ///
    /// # Errors
    /// As [`Wire::hear`].
    pub(super) async fn take(&mut self, bytes: usize) -> Result<Vec<u8>, ProbeFailure> {
        while self.heard.len() < bytes {
            self.hear().await?;
        }
        Ok(self.heard.drain(..bytes).collect())
    }

    /// Takes a line, without its end.
    ///
    /// # Errors
    /// As [`Wire::hear`].
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, ProbeFailure> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let mut line = self.take(end + 1).await?;
                line.truncate(line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 });
                return Ok(line);
            }
            self.hear().await?;
        }
    }

    /// Goes on over TLS.
    ///
    /// # Errors
    /// The handshake failed; or the server has said something in the clear that would pass for said over TLS.
    pub(super) async fn secure(&mut self, look: &Look<'_>) -> Result<(), ProbeFailure> {
        if !self.heard.is_empty() {
            return Err(ProbeFailure::Tls(format!("said {} where TLS begins", quoted(&self.heard))));
        }
        let Some(stream) = self.stream.take() else { return Err(ProbeFailure::Reset) };
        self.stream = Some(secure(stream, look).await?);
        Ok(())
    }

    /// What the server has shown of itself, its own certificate first; empty in the clear.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.stream.as_ref().map_or_else(Vec::new, Connection::certificates)
    }

    /// It ends as the protocol has it, so that the server has no cause to complain.
    pub(super) fn ended_well(&mut self) {
        self.ended_well = true;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let (Some(stream), false) = (&self.stream, self.ended_well) {
            // Thousands of probes that fail leave nothing behind.
            stream.reset_on_close();
        }
    }
}

/// What is said and heard must be over by the deadline.
pub(super) async fn in_time<T>(
    look: &Look<'_>,
    talk: impl Future<Output = Result<T, ProbeFailure>>,
) -> Result<T, ProbeFailure> {
    timeout_at(look.deadline, talk).await.unwrap_or(Err(ProbeFailure::AnswerTimeout))
}

/// The beginning of what was heard, for a person.
pub(super) fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let text = text.trim_end_matches(['\r', '\n', '\0']);
    let (beginning, rest) = beginning(text, LONGEST);
    format!("{beginning:?}{rest}")
}

/// So many letters of a text, for a person.
pub(super) fn shortened(text: &str, longest: usize) -> String {
    let (beginning, rest) = beginning(text, longest);
    format!("{beginning}{rest}")
}

/// So many letters of a text, and what stands for the others.
fn beginning(text: &str, longest: usize) -> (&str, &'static str) {
    match text.char_indices().nth(longest) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    }
}
