//! What a Mainstay that was replaced and the one that goes on tell each other until the first has nothing under way any more.
//!
//! The one that goes on sends each table that it publishes, so that the other leaves servers that go down or are drained. The
//! other sends what it counts and has under way, so that this is judged and shown with the rest. Whoever was itself
//! guided passes both on. When the line breaks the first finishes by its last table.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use mainstay_model::Input;
use mainstay_model::input::TrafficReport;
use mainstay_model::routing::RoutingTable;
use mainstay_proxy::{Proxy, Report};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::handover::Line;

/// Longer than a table of some thousand servers, and than what is counted of them.
const LONGEST: u32 = 16 << 20;
/// For the last counts to be taken.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A Mainstay that was replaced by this one and finishes what it has.
#[derive(Debug)]
pub struct Guided {
    /// Closed when it has ended.
    over: watch::Receiver<()>,
}

impl Guided {
    /// Tells the other end of the line by which tables to finish, and takes in what that one counts, in a thread of its own: it
    /// goes on when this Mainstay is replaced in turn.
    ///
    /// # Errors
    /// When there is no thread or no descriptor for it.
    pub fn begin(line: Line, proxy: &Arc<Proxy>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (running, over) = watch::channel(());
        let (tables, proxy) = (proxy.tables(), Arc::downgrade(proxy));
        thread::Builder::new().name("predecessor".to_owned()).spawn(move || {
            let ended = runtime.block_on(guide(line, tables, &proxy));
            tracing::debug!(?ended, "the Mainstay before has nothing under way any more");
            if let Some(proxy) = proxy.upgrade() {
                proxy.seen_elsewhere(Report::Traffic(TrafficReport::default()));
            }
            drop(running);
        })?;
        Ok(Self { over })
    }

    /// When it has nothing under way any more.
    pub async fn ended(&mut self) {
        while self.over.changed().await.is_ok() {}
    }
}

async fn guide(
    line: Line,
    mut tables: watch::Receiver<Arc<RoutingTable>>,
    proxy: &Weak<Proxy>,
) -> io::Result<()> {
    let (mut from, mut to) = stream(line)?.into_split();
    let tell = async {
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            send(&mut to, &*table).await?;
            if tables.changed().await.is_err() {
                return Ok(());
            }
        }
    };
    let hear = async {
        while let Some(heard) = receive::<Input>(&mut from).await? {
            let Some(proxy) = proxy.upgrade() else { break };
            match heard {
                Input::Failure(failure) => proxy.seen_elsewhere(Report::Failure(failure)),
                Input::Traffic(report) => proxy.seen_elsewhere(Report::Traffic(report)),
                Input::Answered(sample) => proxy.seen_elsewhere(Report::Answered(sample)),
                _ => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        told = tell => told,
        heard = hear => heard,
    }
}

/// Finishes, by the tables of the Mainstay at the other end of the line, and tells it to the last what the data plane reports.
pub async fn be_guided(
    line: Line,
    proxy: &Proxy,
    reports: mpsc::Receiver<Report>,
    finishing: impl Future<Output = ()>,
) {
    let (finished, over) = oneshot::channel::<()>();
    let mut finishing = pin!(async {
        finishing.await;
        drop(finished);
    });
    let mut talk = pin!(async {
        let ended = talk(line, proxy, reports, over).await;
        tracing::debug!(?ended, "nothing more is told to the Mainstay that goes on");
    });
    tokio::select! {
        () = &mut talk => finishing.await,
        () = &mut finishing => {
            let _ = timeout(LAST_WORDS, talk).await;
        }
    }
}

async fn talk(
    line: Line,
    proxy: &Proxy,
    mut reports: mpsc::Receiver<Report>,
    mut over: oneshot::Receiver<()>,
) -> io::Result<()> {
    let (mut from, mut to) = stream(line)?.into_split();
    let tell = async {
        let mut last = false;
        loop {
            let report = tokio::select! {
                report = reports.recv() => report,
                _ = &mut over, if !last => {
                    // What is waiting is still told.
                    last = true;
                    reports.close();
                    continue;
                }
            };
            let seen = match report {
                Some(Report::Failure(failure)) => Input::Failure(failure),
                Some(Report::Traffic(report)) => Input::Traffic(report),
                Some(Report::Answered(sample)) => Input::Answered(sample),
                None => return Ok(()),
            };
            send(&mut to, &seen).await?;
        }
    };
    let hear = async {
        while let Some(table) = receive::<RoutingTable>(&mut from).await? {
            proxy.publish(Arc::new(table));
        }
        Ok(())
    };
    tokio::select! {
        told = tell => told,
        heard = hear => heard,
    }
}

fn stream(line: Line) -> io::Result<UnixStream> {
    let line = line.into_stream();
    line.set_nonblocking(true)?;
    UnixStream::from_std(line)
}

async fn send(to: &mut OwnedWriteHalf, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    to.write_u32(length).await?;
    to.write_all(&text).await
}

/// `None`: the line was closed between two messages.
async fn receive<T: DeserializeOwned>(from: &mut OwnedReadHalf) -> io::Result<Option<T>> {
    let length = match from.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LONGEST {
        return Err(io::Error::other("the message is longer than any can be"));
    }
    let mut text = vec![0; length as usize];
    from.read_exact(&mut text).await?;
    Ok(Some(serde_json::from_slice(&text)?))
}
