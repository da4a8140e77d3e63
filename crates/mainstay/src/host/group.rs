//! The limits of Mainstay's own control group, version 1 and 2: what it may use of memory and processors, and whether it
//! was stopped for having used it up. Limits of the groups above hold too, so the tightest counts.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_model::host::Group;

/// A limit of memory beyond this is none: version 1 writes a huge number for "no limit".
const NO_LIMIT: u64 = 1 << 60;
/// Groups above one another that are looked at.
const DEPTH_MAX: usize = 32;

/// The folders of the control groups that Mainstay lies in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Groups {
    memory: Option<Hierarchy>,
    cpu: Option<Hierarchy>,
    periods: Option<(u64, u64)>,
}

/// One hierarchy, from the own group up to its root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    unified: bool,
    folders: Vec<PathBuf>,
}

impl Groups {
    /// Finds them by /proc/self/cgroup and where control groups are mounted.
    pub(super) fn find(proc: &Path, mount: &Path) -> Self {
        let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let mut groups = Self::default();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let named = |name: &str| controllers.split(',').any(|controller| controller == name);
            if controllers.is_empty() {
                // Version 2; where version 1 is in use beside it, it has no controllers there.
                let unified = folders(mount, path);
                let has = |file: &str| unified.iter().any(|folder| folder.join(file).exists());
                let hierarchy = Hierarchy { unified: true, folders: unified.clone() };
                if has("memory.current") {
                    groups.memory.get_or_insert(hierarchy.clone());
                }
                if has("cpu.max") {
                    groups.cpu.get_or_insert(hierarchy);
                }
                continue;
            }
            let at = |folder: &str| Hierarchy { unified: false, folders: folders(&mount.join(folder), path) };
            if named("memory") {
                groups.memory = Some(at("memory"));
            }
            if named("cpu") {
                // `cpu` is usually a link to `cpu,cpuacct`.
                groups.cpu = Some(at("cpu"));
            }
        }
        groups
    }

    /// Goes on with the counts of an earlier search, if they are of the same groups.
    pub(super) fn with_periods_of(self, earlier: Self) -> Self {
        let periods = if self.cpu == earlier.cpu { earlier.periods } else { None };
        Self { periods, ..self }
    }

    /// What holds now; `None` without any group.
    pub(super) fn read(&mut self) -> Option<Group> {
        if self.memory.is_none() && self.cpu.is_none() {
            return None;
        }
        let memory = self.memory.as_ref().and_then(tightest_memory);
        let cpu = self.cpu.as_ref().and_then(tightest_cpu);
        let (processors, periods) = match cpu {
            Some((processors, periods)) => (Some(processors), periods),
            None => (None, None),
        };
        let throttled = throttled(self.periods, periods);
        self.periods = periods;
        Some(Group { memory, processors, throttled })
    }

    /// Processes of the own group that the kernel has killed for want of memory; `None` where nobody counts them.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let hierarchy = self.memory.as_ref()?;
        let own = hierarchy.folders.first()?;
        let file = if hierarchy.unified { "memory.events" } else { "memory.oom_control" };
        value_of(&fs::read_to_string(own.join(file)).ok()?, "oom_kill")
    }
}

/// From the own group up to the root. In a container the path may be one of the host's, which is not to be seen: its root
/// is the own group then.
fn folders(mount: &Path, path: &str) -> Vec<PathBuf> {
    let relative = path.trim_start_matches('/');
    let safe = !relative.split('/').any(|part| part == "..");
    let own = if safe { mount.join(relative) } else { mount.to_owned() };
    if relative.is_empty() || !own.exists() {
        return vec![mount.to_owned()];
    }
    let mut folders: Vec<PathBuf> =
        own.ancestors().take_while(|folder| *folder != mount).take(DEPTH_MAX).map(Path::to_owned).collect();
    folders.push(mount.to_owned());
    folders
}

/// The share of periods between two counts in which the group was stopped.
fn throttled(before: Option<(u64, u64)>, now: Option<(u64, u64)>) -> Option<f64> {
    let ((periods_before, stopped_before), (periods, stopped)) = (before?, now?);
    let (all, stopped) = (periods.checked_sub(periods_before)?, stopped.checked_sub(stopped_before)?);
    if all == 0 { Some(0.0) } else { Some((stopped as f64 / all as f64).min(1.0)) }
}

fn tightest_memory(hierarchy: &Hierarchy) -> Option<(u64, u64)> {
    let of = |folder: &PathBuf| {
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let (limit, used, inactive) = match hierarchy.unified {
            true => ("memory.max", "memory.current", "inactive_file"),
            false => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        };
        let max = limit_of(&read(limit)?)?;
        let used: u64 = read(used)?.trim().parse().ok()?;
        // Caches are dropped before anything else.
        let droppable = value_of(&read("memory.stat")?, inactive).unwrap_or(0);
        Some((max, used.saturating_sub(droppable)))
    };
    let left = |(max, used): &(u64, u64)| max.saturating_sub(*used) as f64 / (*max).max(1) as f64;
    hierarchy.folders.iter().filter_map(of).min_by(|a, b| left(a).total_cmp(&left(b)))
}

/// The fewest processors, and the periods of that group: all, and those in which it was stopped.
fn tightest_cpu(hierarchy: &Hierarchy) -> Option<(f64, Option<(u64, u64)>)> {
    let of = |folder: &PathBuf| {
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let processors = match hierarchy.unified {
            true => quota(&read("cpu.max")?)?,
            false => {
                quota(&format!("{} {}", read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim()))?
            }
        };
        let stat = read("cpu.stat");
        let periods =
            stat.and_then(|text| Some((value_of(&text, "nr_periods")?, value_of(&text, "nr_throttled")?)));
        Some((processors, periods))
    };
    hierarchy.folders.iter().filter_map(of).min_by(|a, b| a.0.total_cmp(&b.0))
}

/// `max` or a number of bytes; `None`: no limit.
fn limit_of(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT && *limit > 0)
}

/// `QUOTA PERIOD` as processors; `None`: no limit.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    let processors = quota / period;
    (quota > 0.0 && period > 0.0 && processors.is_finite()).then_some(processors)
}

/// A line `NAME NUMBER`.
fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> TempDir {
        let home = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        home
    }

    fn find(home: &TempDir) -> Groups {
        Groups::find(&home.path().join("proc"), &home.path().join("cgroup"))
    }

    #[test]
    fn of_version_2_the_tightest_limit_above_counts() {
        let home = tree(&[
            ("proc/self/cgroup", "0::/system.slice/mainstay.service\n"),
            ("cgroup/cgroup.procs", ""),
            ("cgroup/system.slice/memory.max", "1000\n"),
            ("cgroup/system.slice/memory.current", "900\n"),
            ("cgroup/system.slice/memory.stat", "anon 1\ninactive_file 100\n"),
            ("cgroup/system.slice/cpu.max", "max 100000\n"),
            ("cgroup/system.slice/mainstay.service/memory.max", "max\n"),
            ("cgroup/system.slice/mainstay.service/memory.current", "500\n"),
            ("cgroup/system.slice/mainstay.service/memory.stat", "inactive_file 0\n"),
            ("cgroup/system.slice/mainstay.service/memory.events", "oom 2\noom_kill 1\n"),
            ("cgroup/system.slice/mainstay.service/cpu.max", "150000 100000\n"),
            ("cgroup/system.slice/mainstay.service/cpu.stat", "nr_periods 100\nnr_throttled 10\n"),
        ]);
        let mut groups = find(&home);
        assert_eq!(
            groups.read(),
            Some(Group { memory: Some((1000, 800)), processors: Some(1.5), throttled: None })
        );
        assert_eq!(groups.oom_kills(), Some(1));
        let stat = home.path().join("cgroup/system.slice/mainstay.service/cpu.stat");
        fs::write(&stat, "nr_periods 110\nnr_throttled 15\n").unwrap();
        assert_eq!(groups.read().unwrap().throttled, Some(0.5));
        fs::write(&stat, "nr_periods 5\nnr_throttled 5\n").unwrap();
        assert_eq!(groups.read().unwrap().throttled, None, "counters that went back are unknown");
    }

    #[test]
    fn of_version_1_a_huge_number_is_no_limit() {
        let home = tree(&[
            ("proc/self/cgroup", "4:memory:/own\n2:cpu,cpuacct:/own\n0::/\n"),
            ("cgroup/memory/own/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cgroup/memory/own/memory.usage_in_bytes", "5\n"),
            ("cgroup/memory/own/memory.stat", "total_inactive_file 0\n"),
            ("cgroup/memory/own/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"),
            ("cgroup/cpu/own/cpu.cfs_quota_us", "-1\n"),
            ("cgroup/cpu/own/cpu.cfs_period_us", "100000\n"),
        ]);
        let mut groups = find(&home);
        assert_eq!(groups.read(), Some(Group::default()));
        assert_eq!(groups.oom_kills(), Some(4));
        fs::write(home.path().join("cgroup/memory/own/memory.limit_in_bytes"), "50\n").unwrap();
        fs::write(home.path().join("cgroup/cpu/own/cpu.cfs_quota_us"), "50000\n").unwrap();
        let limits = groups.read().unwrap();
        assert_eq!((limits.memory, limits.processors), (Some((50, 5)), Some(0.5)));
    }

    #[test]
    fn in_a_container_the_root_that_is_seen_is_the_own_group() {
        let home = tree(&[
            ("proc/self/cgroup", "0::/docker/0123\n"),
            ("cgroup/memory.max", "100\n"),
            ("cgroup/memory.current", "7\n"),
            ("cgroup/memory.stat", ""),
        ]);
        assert_eq!(find(&home).read().unwrap().memory, Some((100, 7)));
        let outside = tree(&[("proc/self/cgroup", "0::/../../x\n"), ("cgroup/memory.current", "7\n")]);
        assert_eq!(find(&outside).read(), Some(Group::default()));
    }

    #[test]
    fn without_control_groups_nothing_is_known() {
        assert_eq!(find(&tree(&[])).read(), None);
        assert_eq!(find(&tree(&[("proc/self/cgroup", "nonsense\n::\n")])).read(), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(?s)[ -~\\n]{0,100}") {
            let _ = (limit_of(&text), value_of(&text, "oom_kill"));
            prop_assert!(quota(&text).is_none_or(|processors| processors > 0.0 && processors.is_finite()));
        }
    }
}
