//! Load that Debian's tools do not make: requests at a fixed rate whose waiting is counted from when they were due,
//! WebSocket echoes, and connections that only wait.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::wire::{Wire, masked_frame, upgrade_request};

/// The longest that a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a thread that drives one connection needs.
const STACK: usize = 256 * 1024;
/// What a WebSocket's frame carries.
const PAYLOAD: [u8; 100] = [b'x'; 100];

/// Requests at a fixed rate, spread over connections that each keep a timetable of their own. A request that is due while
/// the one before it still waits is sent late, and its waiting counts from when it was due: nothing is left out
/// (as in wrk2). Returns microseconds, sorted.
///
/// # Errors
/// When a request fails.
pub fn at_rate(address: SocketAddr, host: &str, path: &str, rate: u32, seconds: u64) -> Result<Vec<u64>> {
    const CONNECTIONS: u32 = 64;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let pause = Duration::from_secs(1) * CONNECTIONS / rate;
    let begin = Instant::now() + Duration::from_millis(200);
    let end = begin + Duration::from_secs(seconds);
    let drive = |wire: io::Result<Wire>, offset: Duration| -> io::Result<Vec<u64>> {
        let (mut wire, mut due, mut waits) = (wire?, begin + offset, Vec::new());
        while due < end {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            wire.send(&request)?;
            let answer = wire.message()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if answer.status() != Some(200) {
                return Err(io::Error::other(answer.head));
            }
            waits.push(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
            due += pause;
        }
        Ok(waits)
    };
    let mut all = each_on_a_thread(CONNECTIONS, |index| {
        drive(Wire::connect(address, PATIENCE), pause * index / CONNECTIONS)
    })?
    .concat();
    all.sort_unstable();
    Ok(all)
}

/// WebSockets on which each echo is waited for before the next frame is sent. Returns how many echoes came.
///
/// # Errors
/// When a connection fails.
pub fn web_sockets(address: SocketAddr, host: &str, connections: u32, seconds: u64) -> Result<u64> {
    let frame = masked_frame(&PAYLOAD);
    let end = Instant::now() + Duration::from_secs(seconds);
    let echoes = each_on_a_thread(connections, |_| {
        let mut wire = Wire::connect(address, PATIENCE)?;
        wire.send(upgrade_request(host).as_bytes())?;
        let answer = wire.message()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if answer.status() != Some(101) {
            return Err(io::Error::other(answer.head));
        }
        let mut echoes = 0;
        while Instant::now() < end {
            wire.send(&frame)?;
            wire.take(2 + PAYLOAD.len())?;
            echoes += 1;
        }
        Ok(echoes)
    })?;
    Ok(echoes.iter().sum())
}

/// Connections that have carried one request and now wait, for as long as they are kept.
///
/// # Errors
/// When one of them fails.
pub fn idle(address: SocketAddr, host: &str, path: &str, count: usize) -> Result<Vec<Wire>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let one = |_| -> io::Result<Wire> {
        let mut wire = Wire::connect(address, PATIENCE)?;
        wire.send(&request)?;
        wire.message()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(wire)
    };
    (0..count).map(one).collect::<io::Result<_>>().context("a connection that was to be idle failed")
}

fn each_on_a_thread<T: Send>(count: u32, work: impl Fn(u32) -> io::Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let mut threads = Vec::new();
        for index in 0..count {
            threads.push(
                std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || work(index))?,
            );
        }
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(result) => result.context("a request of the bench failed"),
                Err(_) => bail!("a thread of the load panicked"),
            })
            .collect()
    })
}

/// One request of [`steady`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    /// When it was due, from the start.
    pub at: Duration,
    /// From then until the answer was whole.
    pub took: Duration,
    pub post: bool,
    /// The answer was below 400.
    pub good: bool,
}

/// What is asked, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    pub get: u32,
    pub post: u32,
}

struct Job {
    due: Instant,
    at: Duration,
    request: Vec<u8>,
    post: bool,
}

/// Where jobs of one visitor go: a thread with a connection of its own.
#[derive(Clone)]
struct Visitor(Sender<Errand>);

/// A job, and the visitor who does it, to be put among the idle ones afterwards. The thread ends when nobody has it any more.
struct Errand {
    job: Job,
    visitor: Visitor,
}

type Idle = Arc<Mutex<Vec<Visitor>>>;

/// GETs and POSTs at fixed rates for a while, over kept connections: each request takes one that is free or makes a new one,
/// so none waits for another, as visitors do not. Each POST has an `X-Id` of its own.
///
/// # Errors
/// When no thread can be started.
pub fn steady(address: SocketAddr, rates: Rates, lasting: Duration) -> Result<Vec<Shot>> {
    let begin = Instant::now();
    let (report, shots) = channel();
    let idle = Idle::default();
    let mut sent = 0;
    for job in timetable(begin, rates, lasting) {
        std::thread::sleep(job.due.saturating_duration_since(Instant::now()));
        let free = lock(&idle).pop();
        let visitor = match free {
            Some(visitor) => visitor,
            None => start_visitor(address, Arc::clone(&idle), report.clone())?,
        };
        let errand = Errand { job, visitor: visitor.clone() };
        if visitor.0.send(errand).is_err() {
            bail!("a thread of the load has ended");
        }
        sent += 1;
    }
    let mut all = Vec::new();
    while all.len() < sent {
        all.push(shots.recv_timeout(3 * PATIENCE).context("a request of the load never ended")?);
    }
    // Everybody is idle by now, and ends.
    lock(&idle).clear();
    all.sort_by_key(|shot: &Shot| shot.at);
    Ok(all)
}

fn timetable(begin: Instant, rates: Rates, lasting: Duration) -> impl Iterator<Item = Job> {
    let count = (u128::from(rates.get) * lasting.as_micros() / 1_000_000) as u32;
    (0..count).flat_map(move |n| {
        let at = Duration::from_secs(1) * n / rates.get;
        let job = move |request: String, post| Job { due: begin + at, at, request: request.into(), post };
        let get = job("GET /page HTTP/1.1\r\nHost: shop.example\r\n\r\n".into(), false);
        // As many as are due by now, less those that were due before.
        let due = |n: u32| u64::from(n) * u64::from(rates.post) / u64::from(rates.get);
        let post = (due(n + 1) > due(n)).then(|| {
            let order = format!(
                "POST /order HTTP/1.1\r\nHost: shop.example\r\nX-Id: {n}\r\nContent-Length: 2\r\n\r\nok"
            );
            job(order, true)
        });
        std::iter::once(get).chain(post)
    })
}

fn start_visitor(address: SocketAddr, idle: Idle, report: Sender<Shot>) -> Result<Visitor> {
    let (sender, errands) = channel::<Errand>();
    let visit = move || {
        let mut wire = None;
        for Errand { job, visitor } in errands {
            let good = ask(&mut wire, address, &job.request).unwrap_or(false);
            if !good {
                wire = None;
            }
            let shot = Shot { at: job.at, took: job.due.elapsed(), post: job.post, good };
            lock(&idle).push(visitor);
            if report.send(shot).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(visit).context("no thread for a visitor")?;
    Ok(Visitor(sender))
}

fn lock(idle: &Idle) -> MutexGuard<'_, Vec<Visitor>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a request was answered well.
fn ask(wire: &mut Option<Wire>, address: SocketAddr, request: &[u8]) -> io::Result<bool> {
    let connection = match wire {
        Some(connection) => connection,
        None => wire.insert(Wire::connect(address, PATIENCE)?),
    };
    connection.send(request)?;
    let answer = connection.message()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if answer.closes() {
        *wire = None;
    }
    Ok(answer.status().is_some_and(|status| status < 400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timetable_has_every_request_at_its_time_and_each_order_once() {
        let begin = Instant::now();
        let jobs: Vec<Job> = timetable(begin, Rates { get: 300, post: 46 }, Duration::from_secs(2)).collect();
        assert_eq!(jobs.iter().filter(|job| !job.post).count(), 600);
        let mut orders: Vec<&[u8]> = jobs.iter().filter(|job| job.post).map(|job| &*job.request).collect();
        assert_eq!(orders.len(), 92);
        orders.dedup();
        assert_eq!(orders.len(), 92);
        assert!(jobs.windows(2).all(|two| two[0].at <= two[1].at));
        assert_eq!(jobs.last().map(|job| job.at), Some(Duration::from_secs(1) * 599 / 300));
    }
}
