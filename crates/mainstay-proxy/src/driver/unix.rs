//! Unix sockets: how a server is reached by one, and how one is listened at without taking it from anybody or leaving it behind.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
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

/// Who may connect to a Unix socket that is listened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The mode of its file; who may write may connect.
    pub mode: u32,
    /// Whose it is; `None`: Mainstay's own user's.
    pub user: Option<u32>,
    /// Its group; `None`: Mainstay's own.
    pub group: Option<u32>,
}

impl Default for Access {
    fn default() -> Self {
        Self { mode: 0o660, user: None, group: None }
    }
}

impl Access {
    fn give(&self, path: &str) -> io::Result<()> {
        if self.user.is_some() || self.group.is_some() {
            chown(path, self.user, self.group).map_err(|error| {
                told(&error, format!("{path} cannot be given to that user or group: {error}; only root gives files away, and anybody to a group of their own"))
            })?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))
    }
}

/// The file of a socket that is listened at. It is removed when nobody of this Mainstay listens there any more, and only while it
/// is that very file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: Box<str>,
    inode: (u64, u64),
    /// It is this Mainstay's to remove.
    ours: AtomicBool,
}

impl SocketFile {
    /// One that this or another Mainstay listens at.
    pub(crate) fn find(path: &str, ours: bool) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self { path: path.into(), inode: (file.dev(), file.ino()), ours: AtomicBool::new(ours) })
    }

    pub(crate) fn own(&self) {
        self.ours.store(true, Ordering::Relaxed);
    }

    /// Somebody else listens there from now on.
    pub(crate) fn leave(&self) {
        self.ours.store(false, Ordering::Relaxed);
    }

    /// Nobody new comes in by it.
    pub(crate) fn remove(&self) {
        if !self.ours.swap(false, Ordering::Relaxed) {
            return;
        }
        let is_it = fs::symlink_metadata(&*self.path).is_ok_and(|f| (f.dev(), f.ino()) == self.inode);
        if is_it && let Err(error) = fs::remove_file(&*self.path) {
            tracing::warn!(path = &*self.path, %error, "a socket that is not listened at any more cannot be removed");
        }
    }

    pub(crate) fn set_access(&self, access: &Access) {
        if let Err(error) = access.give(&self.path) {
            tracing::warn!(path = &*self.path, %error, "who may connect cannot be changed");
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Listens at a path. What an earlier process has left there is removed; what is somebody's is not.
pub(crate) fn bind(path: &str, access: &Access, backlog: i32) -> io::Result<(Socket, SocketFile)> {
    clear(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => told(&error, "its folder does not exist: make it".to_owned()),
        io::ErrorKind::PermissionDenied => {
            told(&error, "its folder may not be written to: let Mainstay's user do so".to_owned())
        }
        _ => error,
    })?;
    let file = SocketFile::find(path, true)?;
    // It does not listen yet, so nobody comes in before this is in force.
    access.give(path)?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok((socket, file))
}

/// Removes a socket at which nobody listens.
fn clear(path: &str) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !file.file_type().is_socket() {
        let error = io::ErrorKind::AlreadyExists.into();
        return Err(told(&error, "another file is there, which is no socket: move it away".to_owned()));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A queue that is full is not waited for.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| {
                told(&error, format!("an earlier process has left it, and it cannot be removed: {error}"))
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(told(
            &error,
            "it is there and may not be opened, so nobody knows whether it is in use: remove it".to_owned(),
        )),
        // It was accepted, or waits, or speaks of another kind of socket: somebody is there.
        _ => {
            let error = io::ErrorKind::AddrInUse.into();
            Err(told(&error, "another program listens there: stop it or choose another path".to_owned()))
        }
    }
}

/// The same kind of error in words for a person.
fn told(error: &io::Error, text: String) -> io::Error {
    io::Error::new(error.kind(), text)
}
