//! Errors of disks and of file systems, as far as the kernel counts them in /sys. What is not counted there (NVMe, XFS) is
//! not known, and not zero.

use std::fs;
use std::path::Path;

use mainstay_model::host::{HostReport, IoErrors};

use super::parse;

/// Entries of one folder; more are left out.
const ENTRIES_MAX: usize = 256;
/// No file of ours is longer.
const LONGEST: u64 = 4096;

/// Everything that is counted, in the order of the names.
pub(super) fn read(sys: &Path) -> Vec<IoErrors> {
    let mut errors = of_disks(sys);
    errors.extend(of_ext4(sys));
    errors.extend(of_btrfs(sys));
    errors.sort_by_key(IoErrors::name);
    errors.truncate(HostReport::DEVICES_MAX);
    errors
}

/// What a disk of SCSI or SATA reported, and commands that it did not know.
fn of_disks(sys: &Path) -> Vec<IoErrors> {
    let disk = |name: String| {
        let count = parse::hexadecimal(&text(&sys.join("block").join(&name).join("device/ioerr_cnt"))?)?;
        Some(IoErrors { device: name, filesystem: None, count })
    };
    names(&sys.join("block")).into_iter().filter_map(disk).collect()
}

fn of_ext4(sys: &Path) -> Vec<IoErrors> {
    let mounted = |name: String| {
        let count = text(&sys.join("fs/ext4").join(&name).join("errors_count"))?.trim().parse().ok()?;
        Some(IoErrors { device: name, filesystem: Some("ext4".to_owned()), count })
    };
    names(&sys.join("fs/ext4")).into_iter().filter_map(mounted).collect()
}

/// One file system may lie on several devices.
fn of_btrfs(sys: &Path) -> Vec<IoErrors> {
    let mounted = |id: String| {
        let home = sys.join("fs/btrfs").join(id);
        let devices = names(&home.join("devices"));
        let of_each = names(&home.join("devinfo")).into_iter().filter_map(|number| {
            parse::btrfs_errors(&text(&home.join("devinfo").join(number).join("error_stats"))?)
        });
        let count = of_each.reduce(u64::saturating_add)?;
        let device = Some(devices.join("+")).filter(|device| !device.is_empty())?;
        Some(IoErrors { device, filesystem: Some("btrfs".to_owned()), count })
    };
    names(&sys.join("fs/btrfs")).into_iter().filter_map(mounted).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn text(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_of_disks_and_file_systems_is_found_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("block/sda/device/ioerr_cnt", "0x1f\n");
        write("block/sdb/device/ioerr_cnt", "what\n");
        write("block/nvme0n1/device/model", "fast\n");
        write("fs/ext4/sda1/errors_count", "3\n");
        write("fs/ext4/features/lazy_itable_init", "supported\n");
        write("fs/btrfs/0f-1/devices/sdc", "");
        write("fs/btrfs/0f-1/devices/sdd", "");
        write("fs/btrfs/0f-1/devinfo/1/error_stats", "write_errs 1\nread_errs 0\nflush_errs 2\n");
        write("fs/btrfs/0f-1/devinfo/2/error_stats", "write_errs 0\ncorruption_errs 4\n");
        write("fs/btrfs/features/zoned", "1\n");
        let found: Vec<(String, u64)> = read(home.path()).iter().map(|e| (e.name(), e.count)).collect();
        let expected = [("sda", 31), ("sda1 (ext4)", 3), ("sdc+sdd (btrfs)", 7)];
        assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)));
        assert!(read(&home.path().join("nothing")).is_empty());
    }
}
