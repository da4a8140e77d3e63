//! Steady traffic as visitors make it: by the clock, not by the answers, and without mending anything itself.
//!
//! A request is due when its time has come, whether or not earlier ones were answered, and its latency counts from then:
//! a server that stalls is seen by everybody who came meanwhile (no coordinated omission).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mainstay_model::histogram::Histogram;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Requests under way at once; one more is not sent and has failed.
const IN_FLIGHT_MAX: u64 = 1_000;
/// A visitor gives up after so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is not used again, as the other side may be about to close it.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// When this process itself was held up for longer, the visitors of that time never came.
const HELD_UP_MAX: Duration = Duration::from_secs(1);

/// Traffic under way. Dropped, it sends nothing more.
#[derive(Debug)]
pub struct Load {
    visitors: Arc<Visitors>,
    stop: watch::Sender<bool>,
    schedule: JoinHandle<()>,
}

/// What became of the requests so far.
#[derive(Debug, Clone, Default)]
pub struct LoadSnapshot {
    /// Requests that were due and begun.
    pub sent: u64,
    /// Of them, answered whole with 2xx or 3xx.
    pub ok: u64,
    /// Of them, anything else: another status, no connection, no whole answer, too late.
    pub failed: u64,
    /// Time from when a request was due to its end, of all that have ended.
    pub latency: Histogram,
    /// How the first that failed did.
    pub first_failure: Option<String>,
}

impl LoadSnapshot {
    /// Requests that have not ended.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.ok - self.failed
    }

    /// The longest time that a request took, failed or not.
    pub fn slowest(&self) -> Duration {
        self.latency.max().unwrap_or_default()
    }
}

impl Load {
    /// Begins to send `GET /` to `address`, evenly, `rate_per_second` (at least 1) of them.
    pub fn start(address: SocketAddr, rate_per_second: u32) -> Self {
        let visitors = Arc::new(Visitors { address, idle: Mutex::default(), counts: Mutex::default() });
        let (stop, stopped) = watch::channel(false);
        let schedule =
            tokio::spawn(send_by_the_clock(Arc::clone(&visitors), rate_per_second.max(1), stopped));
        Self { visitors, stop, schedule }
    }

    /// What became of the requests so far.
    pub fn snapshot(&self) -> LoadSnapshot {
        lock(&self.visitors.counts).clone()
    }

    /// Sends nothing more and waits for the answers that are due, as long as a visitor would.
    pub async fn stop(self) -> LoadSnapshot {
        let _ = self.stop.send(true);
        let _ = self.schedule.await;
        let give_up = Instant::now() + PATIENCE + Duration::from_secs(1);
        loop {
            let counts = lock(&self.visitors.counts).clone();
            if counts.in_flight() == 0 || Instant::now() >= give_up {
                return counts;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

type Sender = SendRequest<Empty<Bytes>>;

/// All visitors together, with their open connections.
#[derive(Debug)]
struct Visitors {
    address: SocketAddr,
    /// The connection used last is used next, so that those not needed grow old.
    idle: Mutex<Vec<(Sender, Instant)>>,
    counts: Mutex<LoadSnapshot>,
}

async fn send_by_the_clock(visitors: Arc<Visitors>, rate: u32, mut stop: watch::Receiver<bool>) {
    let gap = Duration::from_secs(1) / rate;
    let mut due = Instant::now();
    loop {
        tokio::select! {
            biased;
            // An error means that the load was dropped.
            _ = stop.wait_for(|&s| s) => return,
            () = sleep_until(due) => {}
        }
        let now = Instant::now();
        if now.duration_since(due) > HELD_UP_MAX {
            due = now;
        }
        while due <= now {
            visitors.clone().send(due);
            due += gap;
        }
    }
}

impl Visitors {
    fn send(self: Arc<Self>, due: Instant) {
        let mut counts = lock(&self.counts);
        let is_full = counts.in_flight() >= IN_FLIGHT_MAX;
        counts.sent += 1;
        drop(counts);
        if is_full {
            self.count(due, Err(format!("{IN_FLIGHT_MAX} requests were waiting for their answers")));
            return;
        }
        tokio::spawn(async move {
            let result = match timeout_at(due + PATIENCE, self.ask()).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            self.count(due, result);
        });
    }

    fn count(&self, due: Instant, result: Result<(), String>) {
        let mut counts = lock(&self.counts);
        counts.latency.record(due.elapsed());
        match result {
            Ok(()) => counts.ok += 1,
            Err(error) => {
                counts.failed += 1;
                counts.first_failure.get_or_insert(error);
            }
        }
    }

    /// One request, on an idle connection or a new one; never tried again.
    async fn ask(&self) -> Result<(), String> {
        let mut sender = match self.idle_connection() {
            Some(sender) => sender,
            None => self.connect().await.map_err(|e| format!("no connection: {e}"))?,
        };
        let request = Request::get("/")
            .header(HOST, self.address.to_string())
            .header(USER_AGENT, concat!("mainstay-demo/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| format!("no answer: {e}"))?;
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|e| format!("the answer was cut short: {e}"))?;
        }
        if sender.ready().await.is_ok() {
            lock(&self.idle).push((sender, Instant::now()));
        }
        is_good(status)
    }

    fn idle_connection(&self) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        idle.retain(|(sender, since)| since.elapsed() < IDLE_MAX && sender.is_ready());
        idle.pop().map(|(sender, _)| sender)
    }

    async fn connect(&self) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped or the other side closes; its errors are told to the request.
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn is_good(status: StatusCode) -> Result<(), String> {
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    Err(format!("status {status}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Answers the n-th request (of all connections) with what `answer` says; `None` closes the connection.
    async fn server(
        answer: impl Fn(u64) -> Option<&'static [u8]> + Send + Sync + 'static,
    ) -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let (requests, answer) = (Arc::new(AtomicU64::new(0)), Arc::new(answer));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while let Ok(byte) = stream.read_u8().await {
                        head.push(byte);
                        if !head.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        head.clear();
                        match answer(requests.fetch_add(1, Ordering::Relaxed)) {
                            Some(bytes) => stream.write_all(bytes).await.unwrap(),
                            None => return,
                        }
                    }
                });
            }
        });
        (address, connections)
    }

    async fn until_sent(load: &Load, n: u64) {
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            while load.snapshot().sent < n {
                sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.expect("enough requests in time");
    }

    #[tokio::test]
    async fn good_answers_are_counted_and_connections_are_kept() {
        let (address, connections) = server(|_| Some(GOOD)).await;
        let load = Load::start(address, 200);
        until_sent(&load, 50).await;
        let end = load.stop().await;
        assert!(end.sent >= 50);
        assert_eq!((end.ok, end.failed, end.in_flight()), (end.sent, 0, 0), "{:?}", end.first_failure);
        assert_eq!(end.latency.count(), end.sent);
        assert!(end.slowest() >= end.latency.quantile(0.5).unwrap());
        assert!(connections.load(Ordering::Relaxed) < end.sent);
    }

    #[tokio::test]
    async fn a_request_that_fails_counts_once_and_is_not_tried_again() {
        // The 5th is answered 503, the 10th 404, the 15th by closing the connection.
        let (address, _) = server(|n| match n {
            4 => Some(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
            9 => Some(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"),
            14 => None,
            _ => Some(GOOD),
        })
        .await;
        let load = Load::start(address, 100);
        until_sent(&load, 30).await;
        let end = load.stop().await;
        assert_eq!((end.failed, end.ok), (3, end.sent - 3));
        assert_eq!(end.first_failure.as_deref(), Some("status 503 Service Unavailable"));
    }

    #[tokio::test]
    async fn nothing_that_listens_is_a_failure_of_every_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let load = Load::start(address, 100);
        until_sent(&load, 5).await;
        let end = load.stop().await;
        assert_eq!((end.ok, end.failed), (0, end.sent));
        assert!(end.first_failure.unwrap().starts_with("no connection: "));
    }

    #[tokio::test]
    async fn requests_are_due_by_the_clock_although_nothing_is_answered_and_their_number_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let load = Load::start(listener.local_addr().unwrap(), 20_000);
        until_sent(&load, IN_FLIGHT_MAX + 50).await;
        let now = load.snapshot();
        assert!(now.in_flight() <= IN_FLIGHT_MAX);
        assert!(now.failed >= 50);
        assert_eq!(now.first_failure.as_deref(), Some("1000 requests were waiting for their answers"));
    }

    #[tokio::test]
    async fn a_dropped_load_sends_nothing_more() {
        let (address, _) = server(|_| Some(GOOD)).await;
        let load = Load::start(address, 100);
        until_sent(&load, 3).await;
        let visitors = Arc::clone(&load.visitors);
        let Load { stop, schedule, .. } = load;
        drop(stop);
        schedule.await.unwrap();
        let sent = lock(&visitors.counts).sent;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(lock(&visitors.counts).sent, sent);
    }
}
