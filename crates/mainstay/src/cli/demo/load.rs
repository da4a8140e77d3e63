//! Steady traffic as visitors make it: by the clock, not by the answers, and without mending anything itself.
//!
//! A request is due when its time has come, whether or not earlier ones were answered, and its latency counts from then:
//! a server that stalls is seen by everybody who came meanwhile (no coordinated omission). Each crowd comes from addresses
//! of its own in 127.0.0.0/8, so that Mainstay can tell many visitors from a few that flood it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mainstay_model::histogram::Histogram;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// A good answer that took longer made its visitor wait.
pub const SLOW: Duration = Duration::from_secs(1);
/// Requests under way at once; one more is not sent and has failed.
const IN_FLIGHT_MAX: u64 = 1_000;
/// A visitor gives up after so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is not used again, as the other side may be about to close it.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// When this process itself was held up for longer, the visitors of that time never came.
const HELD_UP_MAX: Duration = Duration::from_secs(1);

/// Who comes, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Requests a second, evenly; at least 1.
    pub per_second: u32,
    /// The first of its addresses.
    pub first: Ipv4Addr,
    /// How many addresses it comes from, in turn; at least 1.
    pub addresses: u32,
    /// What it asks for, in turn; at least one.
    pub paths: &'static [&'static str],
}

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
    /// Of those, answered after more than [`SLOW`].
    pub slow: u64,
    /// Of those sent, anything else: another status, no connection, no whole answer, too late.
    pub failed: u64,
    /// Of those, refused with 503 and a time to come again.
    pub shed: u64,
    /// Of those that failed, refused with 429.
    pub limited: u64,
    /// Time from when a request was due to its end, of all that have ended.
    pub latency: Histogram,
    /// How the first that failed did.
    pub first_failure: Option<String>,
}

impl LoadSnapshot {
    /// Takes in what became of other requests.
    pub fn merge(&mut self, other: &LoadSnapshot) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.slow += other.slow;
        self.failed += other.failed;
        self.shed += other.shed;
        self.limited += other.limited;
        self.latency.merge(&other.latency);
        self.first_failure = self.first_failure.take().or_else(|| other.first_failure.clone());
    }

    /// Requests that have not ended.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.ok - self.failed
    }

    /// Requests that failed and were not refused for want of room or for being too many.
    pub fn hard_failed(&self) -> u64 {
        self.failed - self.shed - self.limited
    }

    /// The longest time that a request took, failed or not.
    pub fn slowest(&self) -> Duration {
        self.latency.max().unwrap_or_default()
    }
}

impl Load {
    /// Begins to send GET requests to `address`.
    pub fn start(address: SocketAddr, crowd: Crowd) -> Self {
        let visitors = Arc::new(Visitors {
            address,
            crowd,
            turn: AtomicUsize::new(0),
            idle: Mutex::default(),
            counts: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let schedule = tokio::spawn(send_by_the_clock(Arc::clone(&visitors), stopped));
        Self { visitors, stop, schedule }
    }

    /// What became of the requests so far.
    pub fn snapshot(&self) -> LoadSnapshot {
        lock(&self.visitors.counts).clone()
    }

    /// What became of the requests since the last time; those under way count for the next.
    pub fn take(&self) -> LoadSnapshot {
        let mut counts = lock(&self.visitors.counts);
        let under_way = counts.in_flight();
        let mut taken =
            std::mem::replace(&mut *counts, LoadSnapshot { sent: under_way, ..LoadSnapshot::default() });
        taken.sent -= under_way;
        taken
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
    crowd: Crowd,
    /// Requests begun: whose turn it is.
    turn: AtomicUsize,
    /// By whose they are. The connection used last is used next, so that those not needed grow old.
    idle: Mutex<HashMap<Ipv4Addr, Vec<(Sender, Instant)>>>,
    counts: Mutex<LoadSnapshot>,
}

async fn send_by_the_clock(visitors: Arc<Visitors>, mut stop: watch::Receiver<bool>) {
    let gap = Duration::from_secs(1) / visitors.crowd.per_second.max(1);
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
            let error = format!("{IN_FLIGHT_MAX} requests were waiting for their answers");
            self.count(due, Err(Failure::Other(error)));
            return;
        }
        tokio::spawn(async move {
            let result = match timeout_at(due + PATIENCE, self.ask()).await {
                Ok(result) => result,
                Err(_) => Err(Failure::Other(format!("no answer within {} s", PATIENCE.as_secs()))),
            };
            self.count(due, result);
        });
    }

    fn count(&self, due: Instant, result: Result<(), Failure>) {
        let took = due.elapsed();
        let mut counts = lock(&self.counts);
        counts.latency.record(took);
        match result {
            Ok(()) => {
                counts.ok += 1;
                counts.slow += u64::from(took > SLOW);
                return;
            }
            Err(Failure::Shed) => counts.shed += 1,
            Err(Failure::Limited) => counts.limited += 1,
            Err(Failure::Other(error)) => {
                counts.first_failure.get_or_insert(error);
            }
        }
        counts.failed += 1;
    }

    /// One request, on an idle connection or a new one; never tried again.
    async fn ask(&self) -> Result<(), Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let whose = turn % self.crowd.addresses.max(1) as usize;
        let from = Ipv4Addr::from(u32::from(self.crowd.first).wrapping_add(whose as u32));
        // Each address asks for everything in time.
        let path =
            self.crowd.paths[(turn / self.crowd.addresses.max(1) as usize + whose) % self.crowd.paths.len()];
        let mut sender = match self.idle_connection(from) {
            Some(sender) => sender,
            None => self.connect(from).await.map_err(|e| format!("no connection: {e}"))?,
        };
        let request = Request::get(path)
            .header(HOST, self.address.to_string())
            .header(USER_AGENT, concat!("mainstay-demo/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| format!("no answer: {e}"))?;
        let (status, again) = (answer.status(), answer.headers().contains_key(RETRY_AFTER));
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|e| format!("the answer was cut short: {e}"))?;
        }
        if sender.ready().await.is_ok() {
            lock(&self.idle).entry(from).or_default().push((sender, Instant::now()));
        }
        is_good(status, again)
    }

    fn idle_connection(&self, from: Ipv4Addr) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        let idle = idle.get_mut(&from)?;
        idle.retain(|(sender, since)| since.elapsed() < IDLE_MAX && sender.is_ready());
        idle.pop().map(|(sender, _)| sender)
    }

    async fn connect(&self, from: Ipv4Addr) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
        let stream = if self.address.ip().is_loopback() && self.address.is_ipv4() {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((from, 0)))?;
            socket.connect(self.address).await?
        } else {
            // There the addresses of the loopback lead nowhere.
            TcpStream::connect(self.address).await?
        };
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped or the other side closes; its errors are told to the request.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// How a request failed.
#[derive(Debug)]
enum Failure {
    /// It was asked to come again: there was no room, or nobody.
    Shed,
    /// Its address asked too often.
    Limited,
    Other(String),
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Failure::Other(error)
    }
}

fn is_good(status: StatusCode, again: bool) -> Result<(), Failure> {
    match status {
        status if status.is_success() || status.is_redirection() => Ok(()),
        StatusCode::SERVICE_UNAVAILABLE if again => Err(Failure::Shed),
        StatusCode::TOO_MANY_REQUESTS => Err(Failure::Limited),
        status => Err(Failure::Other(format!("status {status}"))),
    }
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

    fn crowd(per_second: u32) -> Crowd {
        Crowd { per_second, first: Ipv4Addr::new(127, 0, 1, 1), addresses: 3, paths: &["/"] }
    }

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
        let load = Load::start(address, crowd(200));
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
        // The 5th is answered 503, the 10th 404, the 15th by closing the connection, the next two are refused.
        let (address, _) = server(|n| match n {
            4 => Some(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
            9 => Some(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"),
            14 => None,
            15 => Some(b"HTTP/1.1 503 Full\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"),
            16 => Some(b"HTTP/1.1 429 Often\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"),
            _ => Some(GOOD),
        })
        .await;
        let load = Load::start(address, crowd(100));
        until_sent(&load, 30).await;
        let end = load.stop().await;
        assert_eq!((end.failed, end.ok), (5, end.sent - 5));
        assert_eq!((end.shed, end.limited, end.hard_failed()), (1, 1, 3));
        assert_eq!(end.first_failure.as_deref(), Some("status 503 Service Unavailable"));
    }

    #[tokio::test]
    async fn what_was_taken_is_not_counted_again_and_nothing_is_lost() {
        let (address, _) = server(|_| Some(GOOD)).await;
        let load = Load::start(address, crowd(500));
        until_sent(&load, 20).await;
        let first = load.take();
        assert_eq!((first.in_flight(), first.sent), (0, first.ok));
        until_sent(&load, 20).await;
        let turns = Arc::clone(&load.visitors);
        let second = load.stop().await;
        assert_eq!((first.sent + second.sent) as usize, turns.turn.load(Ordering::Relaxed));
        assert_eq!(second.ok, second.sent);
    }

    #[tokio::test]
    async fn a_crowd_comes_from_its_own_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _load = Load::start(listener.local_addr().unwrap(), crowd(500));
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 3 {
            let (_, peer) = listener.accept().await.unwrap();
            seen.insert(peer.ip().to_string());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["127.0.1.1", "127.0.1.2", "127.0.1.3"]);
    }

    #[tokio::test]
    async fn nothing_that_listens_is_a_failure_of_every_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let load = Load::start(address, crowd(100));
        until_sent(&load, 5).await;
        let end = load.stop().await;
        assert_eq!((end.ok, end.failed), (0, end.sent));
        assert!(end.first_failure.unwrap().starts_with("no connection: "));
    }

    #[tokio::test]
    async fn requests_are_due_by_the_clock_although_nothing_is_answered_and_their_number_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let load = Load::start(listener.local_addr().unwrap(), crowd(20_000));
        until_sent(&load, IN_FLIGHT_MAX + 50).await;
        let now = load.snapshot();
        assert!(now.in_flight() <= IN_FLIGHT_MAX);
        assert!(now.failed >= 50);
        assert_eq!(now.first_failure.as_deref(), Some("1000 requests were waiting for their answers"));
    }

    #[tokio::test]
    async fn a_dropped_load_sends_nothing_more() {
        let (address, _) = server(|_| Some(GOOD)).await;
        let load = Load::start(address, crowd(100));
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
