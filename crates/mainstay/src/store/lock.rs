//! One Mainstay per data directory: an flock that the kernel releases however the process ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::StoreError;

/// Held as long as the record is written.
#[derive(Debug)]
pub(super) struct DataLock {
    _file: Flock<File>,
}

impl DataLock {
    /// Makes the directory if there is none, takes its lock, and leaves the process id in the file for people.
    pub(super) fn take(data: &Path) -> Result<Self, StoreError> {
        let path = data.join("lock");
        let refuse = |what: &str, error: &dyn std::fmt::Display| StoreError::Database {
            path: path.clone(),
            reason: format!(
                "{what}: {error}; check the directory's owner and permissions, or name another one as `data`"
            ),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .map_err(|error| refuse("the data directory cannot be made", &error))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| refuse("it cannot be opened", &error))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(StoreError::InUse(data.to_owned())),
            Err((_, error)) => return Err(refuse("it cannot be locked", &error)),
        };
        // The pid helps a person only; a full disk must not keep Mainstay from starting.
        if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
            tracing::warn!(path = %path.display(), %error, "the process id could not be left in the lock file");
        }
        Ok(Self { _file: file })
    }
}
