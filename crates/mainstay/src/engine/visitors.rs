//! The key under which visitors who are hurt are counted: a new one each UTC day, the old one destroyed.
//!
//! It lies in the data directory, so that a visitor who is hurt before and after a restart is one visitor. Without it
//! nothing that is kept says who anybody was, and nobody can be followed from one day to the next.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use mainstay_model::Wall;
use mainstay_proxy::Proxy;

use super::clock::Clock;

/// The file in the data directory.
const FILE: &str = "visitor-key";
/// Where the next one is written before it takes the file's place.
const NEXT: &str = "visitor-key.new";
/// `<day> <key in hex>` is shorter.
const FILE_MAX: u64 = 128;

const DAY_MS: i64 = 86_400_000;
/// How late midnight may be noticed when somebody sets the clock, and how soon a key that could not be made is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// The key of today; `None`: there is none to be had.
pub(super) async fn today(data: PathBuf, clock: Clock) -> Option<VisitorKey> {
    let day = day(clock.now().wall);
    tokio::task::spawn_blocking(move || key_of(&data, day)).await.ok().flatten()
}

/// Hands the data plane the key of each day, until it is gone.
pub(super) async fn keep(data: PathBuf, clock: Clock, mut current: Option<VisitorKey>, plane: Weak<Proxy>) {
    loop {
        let Some(proxy) = plane.upgrade() else { return };
        if let Some(key) = current {
            proxy.set_visitor_key(key.bytes);
        }
        drop(proxy);
        let left = DAY_MS - clock.now().wall.0.rem_euclid(DAY_MS);
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        if current.is_none_or(|key| key.day != day(clock.now().wall)) {
            current = today(data.clone(), clock).await;
        }
    }
}

/// One day's key. It is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct VisitorKey {
    day: i64,
    bytes: [u8; 16],
}

/// The UTC day of a moment, counted from 1970.
fn day(at: Wall) -> i64 {
    at.0.div_euclid(DAY_MS)
}

/// The key of a day: the one in the data directory if it is of that day, else a new one in its place. A directory that
/// cannot be written leaves the key in memory alone; `None`: the system gives no random bytes. Blocks for the disk.
fn key_of(data: &Path, day: i64) -> Option<VisitorKey> {
    let path = data.join(FILE);
    let kept = read(&path);
    if let Some(key) = kept.filter(|key| key.day == day) {
        return Some(key);
    }
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::warn!(%error, "the system gives no random bytes; visitors who are hurt are not counted");
        return None;
    }
    let key = VisitorKey { day, bytes };
    if let Err(error) = replace(&path, &data.join(NEXT), key) {
        tracing::warn!(path = %path.display(), %error, "the key that visitors are counted by could not be kept; after a restart those who were hurt before are counted again");
    }
    Some(key)
}

fn read(path: &Path) -> Option<VisitorKey> {
    if fs::metadata(path).ok()?.len() > FILE_MAX {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let (day, hex) = text.trim_end().split_once(' ')?;
    let is_key = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let bytes = u128::from_str_radix(hex, 16).ok().filter(|_| is_key)?.to_be_bytes();
    Some(VisitorKey { day: day.parse().ok()?, bytes })
}

/// Overwrites what the file held before its place is taken, so that the old key is gone from the disk as far as the
/// file system allows.
fn replace(path: &PathBuf, next: &PathBuf, key: VisitorKey) -> io::Result<()> {
    if let Ok(mut old) = OpenOptions::new().write(true).open(path) {
        let length = usize::try_from(old.metadata()?.len().min(FILE_MAX)).unwrap_or(0);
        old.write_all(&vec![b'0'; length])?;
        old.sync_all()?;
    }
    // A half-written one of an earlier death may have been made with other permissions.
    match fs::remove_file(next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(next)?;
    writeln!(file, "{} {:032x}", key.day, u128::from_be_bytes(key.bytes))?;
    file.sync_all()?;
    fs::rename(next, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn some_key(data: &Path, day: i64) -> VisitorKey {
        key_of(data, day).expect("random bytes")
    }

    #[test]
    fn a_key_is_kept_for_its_day_and_destroyed_with_it() {
        let data = folder();
        let first = some_key(data.path(), 20_000);
        assert!(some_key(data.path(), 20_000) == first, "a restart goes on with it");
        let hex = format!("{:032x}", u128::from_be_bytes(first.bytes));
        let written = fs::read_to_string(data.path().join(FILE)).expect("a file");
        assert!(written.contains(&hex));
        let second = some_key(data.path(), 20_001);
        assert!(second.bytes != first.bytes);
        for entry in fs::read_dir(data.path()).expect("a folder") {
            let text = fs::read_to_string(entry.expect("an entry").path()).expect("text");
            assert!(!text.contains(&hex), "nothing holds the old key");
        }
    }

    #[test]
    fn only_the_owner_may_read_it() {
        let data = folder();
        some_key(data.path(), 1);
        let mode = fs::metadata(data.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_key_is_replaced_and_a_folder_that_cannot_be_written_does_no_harm() {
        let data = folder();
        for nonsense in ["", "1", "1 zz", "1 +00000000000000000000000000000ff", &"9".repeat(1000)] {
            fs::write(data.path().join(FILE), nonsense).expect("written");
            let key = some_key(data.path(), 1);
            assert!(some_key(data.path(), 1) == key, "{nonsense:?}");
        }
        let key = some_key(&data.path().join("missing"), 1);
        assert_ne!(key.bytes, [0; 16]);
    }

    #[test]
    fn a_day_is_a_utc_day() {
        assert_eq!((day(Wall(0)), day(Wall(DAY_MS - 1)), day(Wall(DAY_MS)), day(Wall(-1))), (0, 0, 1, -1));
    }
}
