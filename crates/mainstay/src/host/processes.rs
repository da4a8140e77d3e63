//! Processes: what each supervised server uses with all that it started, each second; and, only when it is asked for, which
//! processes of the machine use most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_model::ServerId;
use mainstay_model::host::{Findings, ProcessFound, ProcessUse};
use nix::unistd::{SysconfVar, sysconf};

use super::parse::{self, ProcessStat};

/// Processes of one server that are counted.
const OF_A_SERVER_MAX: usize = 256;
/// Processes that an inspection looks at.
const INSPECTED_MAX: usize = 20_000;
/// Between the two looks of an inspection.
const APART: Duration = Duration::from_millis(400);

/// The units that the kernel counts in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    ticks_a_second: f64,
    page: u64,
}

impl Units {
    pub(super) fn of_this_machine() -> Self {
        let ask = |variable, otherwise: i64| sysconf(variable).ok().flatten().unwrap_or(otherwise);
        Self {
            ticks_a_second: ask(SysconfVar::CLK_TCK, 100).max(1) as f64,
            page: u64::try_from(ask(SysconfVar::PAGE_SIZE, 4096)).unwrap_or(4096),
        }
    }
}

/// The processes of supervised servers.
#[derive(Debug)]
pub(super) struct Servers {
    proc: PathBuf,
    units: Units,
    /// What each process had used at the last look, by its number and when it was started.
    before: BTreeMap<(u32, u64), u64>,
    at: Option<Instant>,
}

impl Servers {
    pub(super) fn new(proc: PathBuf, units: Units) -> Self {
        Self { proc, units, before: BTreeMap::new(), at: None }
    }

    /// What each server uses since the last look. One that cannot be seen is left out.
    pub(super) fn read(
        &mut self,
        pids: &BTreeMap<ServerId, u32>,
        now: Instant,
    ) -> BTreeMap<ServerId, ProcessUse> {
        let elapsed = self.at.replace(now).map(|before| (now - before).as_secs_f64());
        let before = std::mem::take(&mut self.before);
        let mut servers = BTreeMap::new();
        for (server, pid) in pids {
            let mut used = ProcessUse::default();
            let mut ticks = 0;
            for (pid, stat) in family(&self.proc, *pid) {
                used.processes += 1;
                used.memory = used.memory.saturating_add(stat.pages.saturating_mul(self.units.page));
                // What a process had used before it was first seen is not of this second.
                let earlier = before.get(&(pid, stat.started)).copied().unwrap_or(stat.ticks);
                ticks += stat.ticks.saturating_sub(earlier);
                self.before.insert((pid, stat.started), stat.ticks);
            }
            if let Some(elapsed) = elapsed.filter(|elapsed| *elapsed > 0.0 && used.processes > 0) {
                used.processors = ticks as f64 / self.units.ticks_a_second / elapsed;
                servers.insert(server.clone(), used);
            }
        }
        servers
    }
}

/// A process and all that it started, as far as they are still its children.
fn family(proc: &Path, pid: u32) -> Vec<(u32, ProcessStat)> {
    let mut found: Vec<(u32, ProcessStat)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![pid];
    while let Some(pid) = waiting.pop() {
        if found.len() >= OF_A_SERVER_MAX || !seen.insert(pid) {
            continue;
        }
        let folder = proc.join(pid.to_string());
        let Some(stat) = read_stat(&folder) else { continue };
        found.push((pid, stat));
        let threads = fs::read_dir(folder.join("task")).into_iter().flatten().flatten().take(OF_A_SERVER_MAX);
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            waiting.extend(parse::children(&children).into_iter().take(OF_A_SERVER_MAX));
        }
    }
    found
}

fn read_stat(folder: &Path) -> Option<ProcessStat> {
    let bytes = fs::read(folder.join("stat")).ok()?;
    parse::process_stat(&String::from_utf8_lossy(&bytes))
}

/// Which processes of the machine use most: two looks, a moment apart. Blocks for that long.
pub(super) fn inspect(proc: &Path, units: Units, pids: &BTreeMap<ServerId, u32>) -> Findings {
    let before = all(proc);
    let begun = Instant::now();
    std::thread::sleep(APART);
    let after = all(proc);
    let elapsed = begun.elapsed().as_secs_f64().max(0.001);
    let mut owners: BTreeMap<u32, &ServerId> = BTreeMap::new();
    for (server, pid) in pids {
        owners.extend(family(proc, *pid).into_iter().map(|(pid, _)| (pid, server)));
    }
    let mut found: Vec<ProcessFound> = Vec::with_capacity(after.len());
    for ((pid, started), stat) in after {
        let earlier = before.get(&(pid, started)).map_or(0, |stat| stat.ticks);
        found.push(ProcessFound {
            server: owners.get(&pid).map(|server| (*server).clone()),
            processors: stat.ticks.saturating_sub(earlier) as f64 / units.ticks_a_second / elapsed,
            memory: stat.pages.saturating_mul(units.page),
            name: stat.name,
            pid,
        });
    }
    let most = |by: fn(&ProcessFound) -> f64| {
        let mut most: Vec<&ProcessFound> = found.iter().filter(|process| by(process) > 0.0).collect();
        most.sort_by(|a, b| by(b).total_cmp(&by(a)));
        most.into_iter().take(Findings::MAX).cloned().collect()
    };
    Findings::Processes { by_cpu: most(|p| p.processors), by_memory: most(|p| p.memory as f64) }
}

fn all(proc: &Path) -> BTreeMap<(u32, u64), ProcessStat> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stats =
        pids.take(INSPECTED_MAX).filter_map(|pid| Some((pid, read_stat(&proc.join(pid.to_string()))?)));
    stats.map(|(pid, stat)| ((pid, stat.started), stat)).collect()
}

#[cfg(test)]
mod tests {
    use mainstay_model::ServiceId;

    use super::*;

    fn server() -> ServerId {
        ServiceId::new("shop").server("app-1")
    }

    fn stat(ticks: u64, pages: u64) -> String {
        format!("9 (shop) S 1 1 1 0 -1 0 1 0 0 0 {ticks} 0 0 0 20 0 1 0 55 1000 {pages} 0")
    }

    fn write(proc: &Path, pid: u32, ticks: u64, children: &str) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(folder.join(format!("task/{pid}"))).unwrap();
        fs::write(folder.join("stat"), stat(ticks, 10)).unwrap();
        fs::write(folder.join(format!("task/{pid}/children")), children).unwrap();
    }

    #[test]
    fn a_server_is_all_that_it_started() {
        let home = tempfile::tempdir().unwrap();
        let units = Units { ticks_a_second: 100.0, page: 4096 };
        let pids = BTreeMap::from([(server(), 9)]);
        write(home.path(), 9, 100, "10 11 ");
        write(home.path(), 10, 1000, "9 ");
        let mut servers = Servers::new(home.path().to_owned(), units);
        let begun = Instant::now();
        assert!(servers.read(&pids, begun).is_empty(), "one look is no rate");
        write(home.path(), 9, 150, "10 11 ");
        write(home.path(), 10, 1100, "");
        write(home.path(), 11, 5000, "");
        let used = servers.read(&pids, begun + Duration::from_secs(2))[&server()];
        assert_eq!((used.processes, used.memory), (3, 30 * 4096));
        assert!((used.processors - 0.75).abs() < 1e-9, "{used:?}");
        fs::remove_dir_all(home.path().join("9")).unwrap();
        assert!(servers.read(&pids, begun + Duration::from_secs(3)).is_empty(), "what is gone is not zero");
    }

    #[test]
    fn an_inspection_finds_this_very_process_by_its_memory() {
        let pid = std::process::id();
        let pids = BTreeMap::from([(server(), pid)]);
        let hold = vec![1u8; 64 << 20];
        let me = family(Path::new("/proc"), pid);
        assert_eq!(me[0].0, pid);
        let Findings::Processes { by_cpu, by_memory } =
            inspect(Path::new("/proc"), Units::of_this_machine(), &pids)
        else {
            panic!("processes were asked for")
        };
        assert_eq!(hold.len(), 64 << 20);
        assert!(by_memory.len() <= Findings::MAX && by_cpu.len() <= Findings::MAX);
        assert!(by_memory.windows(2).all(|pair| pair[0].memory >= pair[1].memory));
        assert!(by_memory.iter().all(|found| found.server.is_none() || found.pid == pid));
        assert!(!by_memory.is_empty());
    }
}
