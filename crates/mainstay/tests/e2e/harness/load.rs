//! Steady traffic: so many requests a second whatever the answers do, each counted with what became of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};

use super::http::Connection;

/// One request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was due.
    pub due: Instant,
    /// From then until its answer was read whole.
    pub took: Duration,
    /// Its status, or what went wrong.
    pub outcome: Result<u16, String>,
}

impl Sample {
    pub fn good(&self) -> bool {
        matches!(self.outcome, Ok(200..=299))
    }
}

/// Traffic under way.
pub struct Load {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Load {
    /// Begins to send `rate` times a second `GET target`, over kept connections.
    pub fn start(address: SocketAddr, rate: u32, target: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(drive(address, rate, target, stop.clone(), samples.clone()));
        Self { stop, samples, task }
    }

    /// Requests answered up to now.
    pub fn answered(&self) -> usize {
        self.samples.lock().expect("no test panics while it holds this").len()
    }

    /// Waits until so many more were answered, so that a fault happens under traffic.
    pub async fn more(&self, requests: usize) {
        let goal = self.answered() + requests;
        super::until("the traffic flows", async || (self.answered() >= goal).then_some(())).await;
    }

    /// Stops and waits for the answers that are still due.
    pub async fn finish(self) -> Run {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load generator does not panic");
        let samples = std::mem::take(&mut *self.samples.lock().expect("no test panics while it holds this"));
        Run { samples }
    }
}

/// All that was sent.
pub struct Run {
    pub samples: Vec<Sample>,
}

impl Run {
    /// Panics with the failures, if there is one.
    pub fn assert_none_failed(&self) {
        let failed: Vec<&Sample> = self.samples.iter().filter(|s| !s.good()).collect();
        assert!(!self.samples.is_empty(), "nothing was sent");
        assert!(
            failed.is_empty(),
            "{} of {} requests failed, the first ones: {:?}",
            failed.len(),
            self.samples.len(),
            failed.iter().take(5).map(|s| (&s.outcome, s.took)).collect::<Vec<_>>()
        );
    }

    pub fn slowest(&self) -> Duration {
        self.samples.iter().map(|s| s.took).max().unwrap_or_default()
    }

    /// How many took longer.
    pub fn slower_than(&self, limit: Duration) -> usize {
        self.samples.iter().filter(|s| s.took > limit).count()
    }

    /// The first good answer to a request that was due at or after `from`.
    pub fn first_good_after(&self, from: Instant) -> Option<Instant> {
        let good = self.samples.iter().filter(|s| s.good() && s.due >= from);
        good.map(|s| s.due + s.took).min()
    }
}

async fn drive(
    address: SocketAddr,
    rate: u32,
    target: &'static str,
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
) {
    let idle: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let mut under_way = JoinSet::new();
    let begun = Instant::now();
    for number in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = begun + Duration::from_secs(1) * number / rate;
        tokio::time::sleep_until(due.into()).await;
        let (idle, samples) = (idle.clone(), samples.clone());
        under_way.spawn(async move {
            let outcome = one(address, target, &idle).await.map_err(|error| error.to_string());
            let sample = Sample { due, took: due.elapsed(), outcome };
            samples.lock().expect("no test panics while it holds this").push(sample);
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

async fn one(address: SocketAddr, target: &str, idle: &Mutex<Vec<Connection>>) -> std::io::Result<u16> {
    let kept = idle.lock().expect("no test panics while it holds this").pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => Connection::open(address).await?,
    };
    let answer = connection.send("GET", target, &[], b"").await?;
    if connection.is_open() {
        idle.lock().expect("no test panics while it holds this").push(connection);
    }
    Ok(answer.status)
}
