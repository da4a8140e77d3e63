//! Unix sockets: how a server is reached by one.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::sleep;

/// Between two attempts at a Unix socket whose queue is full, at first and at most.
const FULL_FIRST: Duration = Duration::from_millis(1);
const FULL_MOST: Duration = Duration::from_millis(50);

/// Connects to a Unix socket, for as long as the caller waits. The kernel does not wait for a queue that is full: a server that takes
/// no connections for a moment is asked again, as a client of TCP would without knowing it.
///
/// # Errors
/// Those of connecting.
pub async fn connect_unix(path: &str) -> io::Result<UnixStream> {
    let mut wait = FULL_FIRST;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(wait).await;
                wait = (wait * 2).min(FULL_MOST);
            }
            other => return other,
        }
    }
}
