//! The file systems that matter: of the root, of the data directory, and of those that the config names. A look at a file
//! system of the network may hang for ever, so each is looked at by itself, and not again before it has answered.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_model::host::{Disk, HostReport};
use nix::sys::statvfs::statvfs;
use tokio::task::JoinHandle;

use super::parse::{self, Mount};

/// Between two looks at one file system.
const EVERY: Duration = Duration::from_secs(2);
/// An older look says nothing any more.
const LIVE: Duration = Duration::from_secs(15);

/// Kinds that hold no data, or cannot be written to.
const PSEUDO: [&str; 26] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "rootfs",
    "erofs",
];

/// What is looked at.
#[derive(Debug, Default)]
pub(super) struct Disks {
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    path: PathBuf,
    own_data: bool,
    look: Option<JoinHandle<Option<Disk>>>,
    begun: Option<Instant>,
    last: Option<(Instant, Disk)>,
}

impl Disks {
    /// `paths`: each with whether it is the data directory.
    pub(super) fn of(paths: impl Iterator<Item = (PathBuf, bool)>) -> Self {
        let slot = |(path, own_data)| Slot { path, own_data, look: None, begun: None, last: None };
        Self { slots: paths.take(HostReport::DISKS_MAX).map(slot).collect() }
    }

    /// What is known now, each file system once. Begins the looks that are due and waits for none.
    pub(super) async fn read(&mut self, now: Instant) -> Vec<Disk> {
        for slot in &mut self.slots {
            slot.turn(now).await;
        }
        let mut disks: Vec<Disk> = Vec::new();
        for (_, disk) in
            self.slots.iter().filter_map(|slot| slot.last.as_ref()).filter(|(at, _)| now - *at < LIVE)
        {
            match disks.iter_mut().find(|known| known.mount == disk.mount) {
                Some(known) => known.own_data |= disk.own_data,
                None => disks.push(disk.clone()),
            }
        }
        disks
    }
}

impl Slot {
    async fn turn(&mut self, now: Instant) {
        if let Some(look) = self.look.take_if(|look| look.is_finished()) {
            // It is finished, so this waits for nothing.
            self.last = look.await.ok().flatten().map(|disk| (now, disk));
        }
        let due = self.begun.is_none_or(|begun| now - begun >= EVERY);
        if self.look.is_none() && due {
            self.begun = Some(now);
            let (path, own_data) = (self.path.clone(), self.own_data);
            self.look = Some(tokio::task::spawn_blocking(move || look_at(&path, own_data)));
        }
    }
}

/// The file system that a path lies on; `None` when it cannot be looked at, or holds no data.
fn look_at(path: &Path, own_data: bool) -> Option<Disk> {
    let path = nearest_existing(path)?;
    let mounts = parse::mountinfo(&fs::read_to_string("/proc/self/mountinfo").ok()?);
    let mount = mount_of(&path, &mounts)?;
    if mount.read_only || PSEUDO.contains(&mount.kind.as_str()) {
        return None;
    }
    let found = statvfs(&path).ok()?;
    let size = found.fragment_size();
    let bytes = |blocks: u64| blocks.checked_mul(size);
    let used = bytes(found.blocks().checked_sub(found.blocks_free())?)?;
    let inodes = found.files();
    let free = found.files_available();
    if found.blocks() == 0 {
        return None;
    }
    Some(Disk {
        mount: mount.point.clone(),
        used,
        available: bytes(found.blocks_available())?,
        // btrfs and some others have as many as they need and say 0.
        inodes: (inodes > 0).then(|| (inodes.saturating_sub(free), free)),
        own_data,
    })
}

/// The data directory may not be there yet.
fn nearest_existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|path| fs::canonicalize(path).ok())
}

/// The mount with the longest place above the path; of two at one place the later.
fn mount_of<'m>(path: &Path, mounts: &'m [Mount]) -> Option<&'m Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| Path::new(&mount.point).components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str) -> Mount {
        Mount { point: point.to_owned(), kind: "ext4".to_owned(), read_only: false }
    }

    #[test]
    fn a_path_lies_on_the_nearest_mount_above_it() {
        let mounts = [mount("/"), mount("/var"), mount("/var/lib"), mount("/varnish"), mount("/var")];
        let of = |path: &str| mount_of(Path::new(path), &mounts).map(|mount| mount.point.as_str());
        assert_eq!(of("/var/lib/mainstay"), Some("/var/lib"));
        assert_eq!(of("/var/log"), Some("/var"));
        assert_eq!(of("/srv"), Some("/"));
        assert!(std::ptr::eq(mount_of(Path::new("/var/log"), &mounts).unwrap(), &mounts[4]));
    }

    #[tokio::test]
    async fn one_file_system_is_told_once_though_several_paths_lie_on_it() {
        let home = tempfile::tempdir().unwrap();
        let below = home.path().join("not/there/yet");
        let mut disks = Disks::of([(home.path().to_owned(), false), (below, true)].into_iter());
        let found = loop {
            let found = disks.read(Instant::now()).await;
            if disks.slots.iter().all(|slot| slot.last.is_some()) {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].own_data && found[0].used > 0);
        assert!(home.path().canonicalize().unwrap().starts_with(&found[0].mount));
    }

    #[test]
    fn what_holds_no_data_is_left_out() {
        assert_eq!(look_at(Path::new("/proc/self"), false), None);
        assert_eq!(look_at(Path::new("/sys"), false), None);
    }
}
