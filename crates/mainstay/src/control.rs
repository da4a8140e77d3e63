//! Orders to the running program from the same machine, over a socket in the data directory that only its owner may use.
//!
//! The API is for people and programs elsewhere; what could run any program as Mainstay is not for them.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// The socket in the data directory.
const FILE: &str = "control.sock";
/// An order is a line, written at once.
const ORDER_TAKES: Duration = Duration::from_secs(2);
/// Longer than any path.
const ORDER_MAX: u64 = 16 * 1024;

/// What can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Let another program go on in this one's place.
    Upgrade {
        /// The program; `None`: the file that this one was started from, as it is now.
        binary: Option<PathBuf>,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was carried out; what there is to say.
    Done(String),
    /// It was not, and nothing has changed; why.
    Refused(String),
}

/// Waits for orders.
#[derive(Debug)]
pub struct Control(Option<UnixListener>);

/// An order whose giver waits for its outcome.
#[derive(Debug)]
pub struct Ordered {
    /// What is ordered.
    pub order: Order,
    giver: UnixStream,
}

impl Control {
    /// Listens in the data directory, in place of whoever did before. Must be called inside a runtime. Where that cannot be done it is
    /// logged and no more: traffic does not depend on it.
    pub fn listen(data: &Path) -> Self {
        match bind(&data.join(FILE)) {
            Ok(listener) => Self(Some(listener)),
            Err(error) => {
                let path = data.join(FILE);
                tracing::warn!(path = %path.display(), %error, "`mainstay upgrade` will not reach this Mainstay");
                Self(None)
            }
        }
    }

    /// The next order. Nothing is lost when the future is dropped but an order that is just being written.
    pub async fn next(&mut self) -> Ordered {
        loop {
            let Some(listener) = &self.0 else { return std::future::pending().await };
            match listener.accept().await {
                Ok((stream, _)) => match timeout(ORDER_TAKES, read(stream)).await {
                    Ok(Ok(ordered)) => return ordered,
                    Ok(Err(error)) => tracing::debug!(%error, "an order was not understood"),
                    Err(_) => tracing::debug!("an order did not come"),
                },
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Ordered {
    /// Tells its giver what became of it.
    pub async fn answer(mut self, outcome: &Outcome) {
        let text = serde_json::to_string(outcome).unwrap_or_default();
        // Whoever asked may have gone; what was done is done.
        let _ = timeout(ORDER_TAKES, self.giver.write_all(format!("{text}\n").as_bytes())).await;
    }
}

/// Gives an order to the Mainstay that runs with a data directory.
///
/// # Errors
/// When none listens there, it does not answer within `patience`, or not in a way that is understood.
pub async fn give(data: &Path, order: &Order, patience: Duration) -> io::Result<Outcome> {
    let given = async {
        let mut stream = UnixStream::connect(data.join(FILE)).await?;
        let text = serde_json::to_string(order)?;
        stream.write_all(format!("{text}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).take(ORDER_MAX).read_line(&mut answer).await?;
        if answer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"));
        }
        Ok(serde_json::from_str(&answer)?)
    };
    timeout(patience, given).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn read(stream: UnixStream) -> io::Result<Ordered> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    (&mut reader).take(ORDER_MAX).read_line(&mut line).await?;
    Ok(Ordered { order: serde_json::from_str(&line)?, giver: reader.into_inner() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn an_order_is_carried_out_and_answered() {
        let folder = tempfile::tempdir().unwrap();
        drop(Control::listen(folder.path()));
        let mut control = Control::listen(folder.path());
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let data = folder.path().to_owned();
        let order = Order::Upgrade { binary: Some("/usr/bin/mainstay".into()) };
        let given = order.clone();
        let giver = tokio::spawn(async move { give(&data, &given, PATIENCE).await });
        let ordered = control.next().await;
        assert_eq!(ordered.order, order);
        ordered.answer(&Outcome::Refused("not today".to_owned())).await;
        assert_eq!(giver.await.unwrap().unwrap(), Outcome::Refused("not today".to_owned()));
    }

    #[tokio::test]
    async fn where_nobody_listens_nobody_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let order = Order::Upgrade { binary: None };
        assert!(give(folder.path(), &order, PATIENCE).await.is_err());
    }
}
