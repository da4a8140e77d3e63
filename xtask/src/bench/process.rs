//! Programs under measurement: pinned to a processor, ended by their id, and what the kernel counts for them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Clock ticks a second in /proc: `USER_HZ`, 100 on every architecture that Linux has for servers.
const TICKS_A_SECOND: f64 = 100.0;
/// What a program has to end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(5);

/// Which processor a program runs on: the proxy under test on one, everything else on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    Proxy,
    Load,
}

impl Core {
    /// The processor's number.
    pub fn number(self) -> &'static str {
        match self {
            Core::Proxy => "0",
            Core::Load => "1",
        }
    }
}

/// A command that runs on one processor.
pub fn pinned(core: Core, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core.number()]).arg(program).stdin(Stdio::null());
    command
}

/// A program that runs until this is dropped.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    name: String,
}

impl Running {
    /// Starts a program whose output goes to a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { child, name: name.into() })
    }

    /// Takes charge of a program that was started elsewhere.
    pub fn of(name: &str, child: Child) -> Self {
        Self { child, name: name.into() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// With its exit status.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} has ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal(self.pid(), "TERM");
        let begun = Instant::now();
        while begun.elapsed() < END_MAX {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
        self.kill();
    }
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Processor time in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    /// Of a process and its children, all their threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_tree(pid: u32) -> Result<Self> {
        let mut sum = Self::default();
        for pid in tree(pid) {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let cpu = parse_stat(&stat).with_context(|| format!("/proc/{pid}/stat is not understood"))?;
            sum = Self { user: sum.user + cpu.user, system: sum.system + cpu.system };
        }
        Ok(sum)
    }

    pub fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// Resident memory of a process and its children, in kB.
///
/// # Errors
/// When the process is gone.
pub fn resident_kb(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for pid in tree(pid) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        sum += parse_resident(&status).with_context(|| format!("/proc/{pid}/status is not understood"))?;
    }
    Ok(sum)
}

/// A process and all its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        all.extend(children(pid).unwrap_or_default());
        at += 1;
    }
    all
}

fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while it is looked at.
        let listed = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        all.extend(listed.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    Ok(all)
}

/// utime and stime, the 14th and 15th field; the second one is a name in brackets that may hold anything.
fn parse_stat(stat: &str) -> Option<Cpu> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / TICKS_A_SECOND);
    Some(Cpu { user: seconds()?, system: seconds()? })
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_a_name_with_brackets_and_spaces() {
        let stat = "42 (a) b (c) R 1 42 42 0 -1 4194560 2264 0 10 0 150 250 7 8 20 0 1 0 9 1 2 3";
        assert_eq!(parse_stat(stat), Some(Cpu { user: 1.5, system: 2.5 }));
        assert_eq!(parse_stat("42 (a) R 1"), None);
    }

    #[test]
    fn resident_memory_is_in_kilobytes() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t    5120 kB\nThreads:\t1\n"), Some(5120));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_is_measured_with_its_children() {
        let child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        let mut child = Running::of("sleep", child);
        assert!(tree(std::process::id()).contains(&child.pid()));
        assert!(Cpu::of_tree(std::process::id()).unwrap().user >= 0.0);
        assert!(resident_kb(child.pid()).unwrap() > 0);
        child.must_run().unwrap();
        child.kill();
        assert!(child.must_run().is_err());
    }
}
