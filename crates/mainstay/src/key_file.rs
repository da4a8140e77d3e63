//! Keys of the data directory: 32 random bytes in a file that only its owner may read, made when they are first needed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The length of a key.
pub const KEY_BYTES: usize = 32;

/// The key in a file, or a new one in its place; `otherwise` is what a new one means where there was something else. Blocks
/// for a moment.
///
/// # Errors
/// When the file can neither be read nor written.
pub fn read_or_make(file: &Path, otherwise: &str) -> io::Result<[u8; KEY_BYTES]> {
    read(file, otherwise)?.map_or_else(|| make(file), Ok)
}

/// `None`: there is none, or what is there is no key.
fn read(file: &Path, otherwise: &str) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if opened.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "others could read this key; they no longer can");
        opened.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    let mut bytes = Vec::new();
    opened.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok();
    if key.is_none() {
        tracing::warn!(file = %file.display(), "it holds no key; a new one is made, and {otherwise}");
    }
    Ok(key)
}

/// Written beside and moved into place, so that a half-written key is never read.
fn make(file: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let beside = file.with_extension("key.new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    written.write_all(&key)?;
    written.sync_all()?;
    std::fs::rename(&beside, file)?;
    Ok(key)
}
