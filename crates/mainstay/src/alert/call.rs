//! What calls over HTTP have in common: a client that follows nothing and keeps nothing, and what went wrong in words.

use std::time::Duration;

use reqwest::{Client, Response, Url, redirect};

/// For the connection alone.
const CONNECT: Duration = Duration::from_secs(5);
/// Of a refusal's body, for a person; the rest is not read.
const REASON_BYTES: usize = 300;

/// A client for one call.
pub(super) fn client(url: &Url) -> Result<Client, reqwest::Error> {
    let mut client = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("Mainstay/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // A machine without any certificate authorities can call a plain address all the same.
        client = client.tls_certs_only([]);
    }
    client.build()
}

/// The beginning of an answer's body, at most so many bytes.
pub(super) async fn beginning(mut response: Response, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < most {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend(chunk.iter().take(most)),
            _ => break,
        }
    }
    bytes.truncate(most);
    bytes
}

/// The beginning of what the receiver says, on one line.
pub(super) async fn reason(response: Response) -> String {
    one_line(&beginning(response, REASON_BYTES).await)
}

/// Bytes from outside as a short line for a person.
pub(super) fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_BYTES)]);
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ")
}

/// An error with its causes, which say what really happened. Its address is left out: the path may be a secret.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
