//! HTTP on the connection that was made: one `GET`, as much of the answer as tells what is the matter, and never more than fits.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, DATE, HOST, HeaderMap, HeaderName, LOCATION,
    SET_COOKIE, USER_AGENT,
};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::observed::{Http, HttpFailure, Page, PageEnd};
use super::target::Target;

/// A header may be as long as this.
const HEAD_MAX: usize = 64 * 1024;
/// As much of the content is read.
const BODY_MAX: usize = 1 << 20;
/// A cookie that is longer is not kept, and no more than so many are.
const COOKIE_MAX: usize = 4096;
const COOKIES_MAX: usize = 32;

/// What is asked for.
pub(super) struct Question<'a> {
    pub target: &'a Target,
    /// What the host set before, as `name=value`.
    pub cookies: &'a [String],
    /// The text that the page must hold.
    pub expect: Option<&'a str>,
    /// How long the content may go on coming once it has begun.
    pub patience: Duration,
}

/// Asks, and reads the answer. Cookies that it sets are given back for the next request.
pub(super) async fn ask<S>(stream: S, question: &Question<'_>, deadline: Instant) -> (Http, Vec<String>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let begun = Instant::now();
    let mut cookies = Vec::new();
    let tap = Tap { stream, first: Arc::default() };
    let first = tap.first.clone();
    let result = match request(question) {
        Err(why) => Err(HttpFailure::NotHttp(why)),
        Ok(request) => {
            let exchange = exchange(tap, request, question, &mut cookies, deadline);
            timeout_at(deadline, exchange).await.unwrap_or(Err(HttpFailure::TimedOut))
        }
    };
    let result = result.map_err(|failure| match failure {
        HttpFailure::NotHttp(_) | HttpFailure::Closed if is_tls(&first) => HttpFailure::IsTls,
        other => other,
    });
    (Http { took: begun.elapsed(), result }, cookies)
}

/// Asks only for the server's time, of the front page, with nothing that could be a secret. For a server whose certificate's dates do not
/// fit: one of the two clocks is wrong.
pub(super) async fn ask_time<S>(stream: S, target: &Target, deadline: Instant) -> Option<i64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::builder().method(Method::HEAD).uri("/").header(HOST, target.authority());
    let request = request.header(USER_AGENT, AGENT).header(CONNECTION, "close").body(Empty::new()).ok()?;
    let asking = async {
        let (mut sender, connection) = handshake(Tap { stream, first: Arc::default() }).await.ok()?;
        let answer = beside(connection, sender.send_request(request)).await.ok()?;
        date_of(answer.headers())
    };
    timeout_at(deadline, asking).await.ok().flatten()
}

const AGENT: &str = concat!("mainstay-check/", env!("CARGO_PKG_VERSION"));

fn request(question: &Question<'_>) -> Result<Request<Empty<Bytes>>, String> {
    let target = question.target;
    let mut request = Request::get(target.path())
        .header(HOST, target.authority())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "text/html,*/*;q=0.8")
        .header(CONNECTION, "close");
    if let Some(login) = target.login() {
        request = request.header(AUTHORIZATION, login);
    }
    if !question.cookies.is_empty() {
        request = request.header(COOKIE, question.cookies.join("; "));
    }
    request.body(Empty::new()).map_err(|error| format!("the request cannot be written: {error}"))
}

type Connection<S> = hyper::client::conn::http1::Connection<TokioIo<Tap<S>>, Empty<Bytes>>;

async fn handshake<S>(tap: Tap<S>) -> hyper::Result<(SendRequest<Empty<Bytes>>, Connection<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(tap)).await
}

/// Drives a connection here rather than in a task, so that nothing of it outlives what is asked over it.
async fn beside<T>(connection: impl Future, asking: impl Future<Output = T>) -> T {
    let (mut connection, mut asking) = (pin!(connection), pin!(asking));
    let mut ended = false;
    std::future::poll_fn(|context| {
        if !ended && connection.as_mut().poll(context).is_ready() {
            ended = true;
        }
        asking.as_mut().poll(context)
    })
    .await
}

async fn exchange<S>(
    tap: Tap<S>,
    request: Request<Empty<Bytes>>,
    question: &Question<'_>,
    cookies: &mut Vec<String>,
    deadline: Instant,
) -> Result<Page, HttpFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = handshake(tap).await.map_err(|error| failure(&error))?;
    let sent = Instant::now();
    let asking = async {
        let answer = sender.send_request(request).await.map_err(|error| failure(&error))?;
        let first_byte = sent.elapsed();
        cookies.extend(cookies_of(answer.headers()));
        let until = deadline.min(Instant::now() + question.patience);
        Ok(page(answer, first_byte, question, until).await)
    };
    beside(connection, asking).await
}

async fn page(
    answer: Response<Incoming>,
    first_byte: Duration,
    question: &Question<'_>,
    until: Instant,
) -> Page {
    let headers = answer.headers();
    let text = |name: HeaderName| {
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let status = answer.status();
    let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let is_stream = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut page = Page {
        status: status.as_u16(),
        first_byte,
        location: text(LOCATION).filter(|_| redirects),
        server_time: date_of(headers),
        with_login: question.target.login().is_some(),
        ..Page::default()
    };
    if page.is_redirect() {
        return page;
    }
    let (content, end) = read(answer.into_body(), until).await;
    page.bytes = content.len();
    page.end = if is_stream && end == PageEnd::Stalled { PageEnd::Stream } else { end };
    page.found = question.expect.map(|wanted| holds(&content, wanted.as_bytes()));
    page
}

async fn read(mut body: Incoming, until: Instant) -> (Vec<u8>, PageEnd) {
    let mut content = Vec::new();
    let end = loop {
        match timeout_at(until, body.frame()).await {
            Err(_) => break PageEnd::Stalled,
            Ok(None) => break PageEnd::Whole,
            Ok(Some(Err(_))) => break PageEnd::CutShort,
            Ok(Some(Ok(frame))) => content.extend(frame.data_ref().into_iter().flatten()),
        }
        if content.len() > BODY_MAX {
            content.truncate(BODY_MAX);
            break PageEnd::LongerThanRead;
        }
    };
    (content, end)
}

fn holds(content: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || content.windows(wanted.len()).any(|window| window == wanted)
}

fn date_of(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(date).ok().map(|time| time.timestamp().as_second())
}

/// The cookies that an answer sets, as they are sent back. Path and lifetime decide nothing within one check.
fn cookies_of(headers: &HeaderMap) -> Vec<String> {
    let pairs = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.filter_map(|value| value.split(';').next()).map(|pair| pair.trim().to_owned());
    pairs.filter(|pair| pair.contains('=') && pair.len() <= COOKIE_MAX).take(COOKIES_MAX).collect()
}

/// What a host has set so far, and what it sets now instead.
pub(super) fn keep_cookies(kept: &mut Vec<String>, new: Vec<String>) {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    for pair in new {
        kept.retain(|old| name(old) != name(&pair));
        if kept.len() < COOKIES_MAX {
            kept.push(pair);
        }
    }
}

fn failure(error: &hyper::Error) -> HttpFailure {
    if error.is_parse_too_large() {
        return HttpFailure::HeadTooLong(HEAD_MAX);
    }
    if error.is_parse() {
        let source = std::error::Error::source(error).map(ToString::to_string);
        return HttpFailure::NotHttp(source.unwrap_or_else(|| error.to_string()));
    }
    HttpFailure::Closed
}

/// Whether the first bytes are those of a TLS alert or handshake.
fn is_tls(first: &Mutex<Vec<u8>>) -> bool {
    first.lock().is_ok_and(|bytes| matches!(bytes[..], [0x15 | 0x16, 0x03, ..]))
}

/// Writes down the first bytes that come.
struct Tap<S> {
    stream: S,
    first: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        const KEPT: usize = 4;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Ok(mut first) = self.first.lock() {
            let room = KEPT.saturating_sub(first.len());
            first.extend(buffer.filled()[before..].iter().take(room));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
