//! What of a full file system is Mainstay's own: the record and the logs of supervised servers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_model::host::Findings;

/// A longer look is not worth it.
const LONGEST: Duration = Duration::from_secs(5);
/// Files that are looked at.
const FILES_MAX: usize = 50_000;

/// Files and folders of the data directory with the bytes that they take on this file system, the largest first; none when
/// the data directory is on another one.
pub(super) fn largest(data: &Path, mount: &str) -> Vec<(String, u64)> {
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    let Some(device) = device(data).filter(|own| device(Path::new(mount)) == Some(*own)) else {
        return Vec::new();
    };
    let mut budget = Budget { until: Instant::now() + LONGEST, files: FILES_MAX };
    let entries = fs::read_dir(data).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(String, u64)> =
        entries.map(|path| (path.display().to_string(), size(path, device, &mut budget))).collect();
    found.retain(|(_, size)| *size > 0);
    found.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    found.truncate(Findings::MAX);
    found
}

struct Budget {
    until: Instant,
    files: usize,
}

impl Budget {
    fn spend(&mut self) -> bool {
        self.files = self.files.saturating_sub(1);
        self.files > 0 && Instant::now() < self.until
    }
}

/// Bytes on the disk of a file or of all in a folder; links are not followed, other file systems not entered.
fn size(path: PathBuf, device: u64, budget: &mut Budget) -> u64 {
    let mut sum = 0u64;
    let mut waiting = vec![path];
    while let Some(path) = waiting.pop() {
        if !budget.spend() {
            break;
        }
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.dev() != device {
            continue;
        }
        sum = sum.saturating_add(found.blocks().saturating_mul(512));
        if found.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_links_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("logs")).unwrap();
        fs::write(home.path().join("logs/a.log"), vec![1; 300_000]).unwrap();
        fs::write(home.path().join("record.db"), vec![1; 90_000]).unwrap();
        std::os::unix::fs::symlink("/usr", home.path().join("elsewhere")).unwrap();
        let mount = home.path().display().to_string();
        let found = largest(home.path(), &mount);
        assert!(found[0].0.ends_with("/logs") && found[0].1 >= 300_000, "{found:?}");
        assert!(found[1].0.ends_with("/record.db") && found[1].1 >= 90_000);
        assert!(found.iter().map(|(_, size)| size).sum::<u64>() < 2_000_000, "{found:?}");
        assert!(largest(home.path(), "/proc").is_empty(), "another file system");
    }
}
