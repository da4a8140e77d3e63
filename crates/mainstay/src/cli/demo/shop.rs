//! The sample server of the demo and of the tests: a small shop that can be slow, fail and count.
//!
//! By its options it can be worse than it should be: fail a share of its pages, be slow, or have few hands.
//!
//! Paths: `/` and `/search` a page, `/healthz`, `/slow?ms=N`, `/status?code=N`, `/bytes?n=N`, `POST /order` (echoes), `/stats`,
//! `POST /delay?ms=N` (from now on each request takes so long).

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// The longest `/slow`.
const SLOW_MAX_MS: u64 = 60_000;
/// The largest `/bytes`.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The largest `/order`.
const ORDER_MAX: usize = 16 * 1024 * 1024;
/// One piece of `/bytes`.
const PIECE: usize = 16 * 1024;
/// Requests under way may take so long after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves on 127.0.0.1 until SIGTERM or SIGINT, then finishes what is under way.
///
/// # Errors
/// When the port cannot be listened on.
pub async fn serve(port: u16, name: String, manner: Manner) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = listen(port)?;
    println!("{name} serves http://{}", listener.local_addr()?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve_until(listener, name, manner, stop).await
}

/// How it does its work. Probes (`/healthz`) are answered at once and well, whatever it says here.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// The share (0 to 1) of its requests that it answers with 500, spread evenly.
    pub fail_share: f64,
    /// What each request takes beside the work itself.
    pub delay: Duration,
    /// Requests that it works on at a time; others wait. 0: any number.
    pub workers: usize,
    /// Every request is answered with 500 while this file is not there.
    pub needs: Option<PathBuf>,
    /// The release that it says it is.
    pub release: Option<String>,
}

/// What `/stats` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Orders taken.
    pub orders: u64,
    /// Requests answered, without those of `/healthz` and `/stats`.
    pub requests: u64,
    /// The process.
    pub pid: u32,
    /// The name it was given.
    pub name: String,
}

struct Shop {
    name: String,
    orders: AtomicU64,
    requests: AtomicU64,
    manner: Manner,
    /// What each request takes at present, milliseconds.
    delay: AtomicU64,
    hands: Semaphore,
}

impl Shop {
    fn stats(&self) -> Stats {
        Stats {
            orders: self.orders.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            pid: std::process::id(),
            name: self.name.clone(),
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // A restarted server gets its port back although connections of the one before still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(1024)
}

async fn serve_until(
    listener: TcpListener,
    name: String,
    manner: Manner,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stopping, mut stopped) = watch::channel(false);
    let mut drained = stopped.clone();
    let server = axum::serve(listener, routes(name, manner)).with_graceful_shutdown(async move {
        // An error means that `stopping` is gone, which is also the end.
        let _ = stopped.wait_for(|&s| s).await;
    });
    let deadline = async {
        stop.await;
        let _ = stopping.send(true);
        let _ = drained.wait_for(|&s| s).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = async { server.await } => served,
        () = deadline => Ok(()),
    }
}

fn routes(name: String, manner: Manner) -> Router {
    let hands = if manner.workers == 0 { Semaphore::MAX_PERMITS } else { manner.workers };
    let shop = Arc::new(Shop {
        name,
        orders: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        hands: Semaphore::new(hands),
        delay: AtomicU64::new(u64::try_from(manner.delay.as_millis()).unwrap_or(SLOW_MAX_MS)),
        manner,
    });
    Router::new()
        .route("/", get(page))
        .route("/search", get(page))
        .route("/slow", get(slow))
        .route("/status", get(status))
        .route("/bytes", get(bytes))
        .route("/order", post(order).layer(DefaultBodyLimit::max(ORDER_MAX)))
        .fallback(async || (StatusCode::NOT_FOUND, "no such page\n"))
        .layer(from_fn_with_state(Arc::clone(&shop), count))
        .route("/healthz", get(async || "ok\n"))
        .route("/stats", get(stats))
        .route("/delay", post(set_delay))
        .with_state(shop)
}

async fn count(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let number = shop.requests.fetch_add(1, Ordering::Relaxed);
    // Closed never, so this is always a hand.
    let _hand = shop.hands.acquire().await;
    let delay = Duration::from_millis(shop.delay.load(Ordering::Relaxed));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if fails(number, shop.manner.fail_share) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "this shop has a mistake\n").into_response();
    }
    if shop.manner.needs.as_ref().is_some_and(|file| !file.exists()) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "what this shop needs is not there\n").into_response();
    }
    next.run(request).await
}

/// Whether the request of this number is one of the share that fails.
fn fails(number: u64, share: f64) -> bool {
    let failed_before = |n: u64| (n as f64 * share).floor();
    failed_before(number + 1) > failed_before(number)
}

async fn page(State(shop): State<Arc<Shop>>) -> Html<String> {
    let Stats { orders, requests, pid, name } = shop.stats();
    let release = shop.manner.release.as_ref().map_or_else(String::new, |r| format!(", release {r}"));
    let name = format!("{name}{release}");
    let name = name.replace('&', "&amp;").replace('<', "&lt;");
    Html(format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>The shop</title>\n\
         <style>body{{font:16px/1.5 system-ui;max-width:36rem;margin:4rem auto;padding:0 1rem}}</style>\n\
         <h1>The shop</h1>\n<p>Everything is on the shelves.</p>\n\
         <p><small>answered by {name} (process {pid}), request {requests}, {orders} orders so far</small></p>\n"
    ))
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

async fn slow(Query(Slow { ms }): Query<Slow>) -> String {
    let ms = ms.min(SLOW_MAX_MS);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("after {ms} ms\n")
}

async fn set_delay(State(shop): State<Arc<Shop>>, Query(Slow { ms }): Query<Slow>) -> String {
    let ms = ms.min(SLOW_MAX_MS);
    shop.delay.store(ms, Ordering::Relaxed);
    format!("each request takes {ms} ms from now on\n")
}

#[derive(Deserialize)]
struct Code {
    code: u16,
}

async fn status(Query(Code { code }): Query<Code>) -> Response {
    match StatusCode::from_u16(code) {
        Ok(status) if code >= 200 => (status, format!("status {code}\n")).into_response(),
        _ => (StatusCode::BAD_REQUEST, "code is 200 to 999\n").into_response(),
    }
}

#[derive(Deserialize)]
struct Count {
    n: u64,
}

async fn bytes(Query(Count { n }): Query<Count>) -> Response {
    static PATTERN: [u8; PIECE] = [b'.'; PIECE];
    let n = n.min(BYTES_MAX);
    let piece = PIECE as u64;
    let pieces = (0..n.div_ceil(piece)).map(move |i| {
        let size = (n - i * piece).min(piece);
        Ok::<_, Infallible>(Bytes::from_static(&PATTERN[..size as usize]))
    });
    ([(CONTENT_LENGTH, n)], Body::from_stream(tokio_stream::iter(pieces))).into_response()
}

async fn order(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = shop.orders.fetch_add(1, Ordering::Relaxed) + 1;
    let mut response = ([(HeaderName::from_static("x-order"), number.to_string())], body).into_response();
    if let Some(kind) = headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    response
}

async fn stats(State(shop): State<Arc<Shop>>) -> Json<Stats> {
    Json(shop.stats())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    async fn shop() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
        let listener = listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve_until(listener, "a<b".into(), Manner::default(), async move {
            let _ = stopped.await;
        }));
        (address, stop, serving)
    }

    /// Status line and headers, and the body.
    async fn ask(address: SocketAddr, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        (head.to_owned(), body.to_owned())
    }

    async fn get(address: SocketAddr, path: &str) -> (String, String) {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")).await
    }

    #[tokio::test]
    async fn orders_are_echoed_and_counted_and_probes_are_not() {
        let (address, _stop, _) = shop().await;
        let request = "POST /order HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-type: text/x\r\ncontent-length: 5\r\n\r\napple";
        let (head, body) = ask(address, request).await;
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("x-order: 1") && head.contains("content-type: text/x"), "{head}");
        assert_eq!(body, "apple");
        assert_eq!(get(address, "/healthz").await.1, "ok\n");
        let (_, page) = get(address, "/").await;
        assert!(page.contains("a&lt;b") && page.contains("1 orders"), "{page}");
        let stats: Stats = serde_json::from_str(&get(address, "/stats").await.1).unwrap();
        assert_eq!(stats, Stats { orders: 1, requests: 2, pid: std::process::id(), name: "a<b".into() });
    }

    #[tokio::test]
    async fn it_answers_the_status_size_and_slowness_that_is_asked_for() {
        let (address, _stop, _) = shop().await;
        assert!(get(address, "/status?code=503").await.0.starts_with("HTTP/1.1 503 "));
        assert!(get(address, "/status?code=100").await.0.starts_with("HTTP/1.1 400 "));
        assert!(get(address, "/status?code=x").await.0.starts_with("HTTP/1.1 400 "));
        assert!(get(address, "/nothing").await.0.starts_with("HTTP/1.1 404 "));
        let (head, body) = get(address, "/bytes?n=100000").await;
        assert!(head.contains("content-length: 100000"), "{head}");
        assert_eq!(body.len(), 100_000);
        assert_eq!(get(address, "/bytes?n=0").await.1, "");
        assert_eq!(get(address, "/slow?ms=1").await.1, "after 1 ms\n");
    }

    #[test]
    fn a_share_of_the_requests_fails_evenly() {
        let failed = |share| (0..1000).filter(|n| fails(*n, share)).count();
        assert_eq!((failed(0.0), failed(0.3), failed(1.0)), (0, 300, 1000));
        assert!((0..5).any(|n| fails(n, 0.3)), "soon");
    }

    #[tokio::test]
    async fn a_stop_finishes_what_is_under_way_and_frees_the_port() {
        let (address, stop, serving) = shop().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow?ms=300 HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
        // Its counter says that the request was taken in.
        while !get(address, "/stats").await.1.contains("\"requests\":1") {}
        stop.send(()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("after 300 ms\n"), "{answer}");
        serving.await.unwrap().unwrap();
        assert!(listen(address.port()).is_ok());
    }
}
