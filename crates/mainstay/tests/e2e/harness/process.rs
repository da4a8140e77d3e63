//! Processes as the kernel shows them: signals, environments, memory and open files.

use std::path::Path;

/// Sends a signal; a process that is already gone is none of our concern.
pub fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a process id");
    let signal = nix::sys::signal::Signal::try_from(signal).expect("a signal");
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// Every process that can be seen.
pub fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a living process has a variable that begins with `start` (`NAME=` or `NAME=value`). A zombie has none.
pub fn has_variable(pid: u32, start: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(start.as_bytes()))
}

/// Whether a process runs; a zombie does not.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    match stat.rsplit_once(") ") {
        Some((_, rest)) => !rest.starts_with(['Z', 'X']),
        None => false,
    }
}

/// Open file descriptors.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).map_or(0, Iterator::count)
}

/// Resident memory, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn this_process_is_seen_as_it_is() {
    let me = std::process::id();
    assert!(all().contains(&me));
    assert!(runs(me));
    assert!(has_variable(me, "PATH="));
    assert!(!has_variable(me, "NO_SUCH_VARIABLE="));
    assert!(descriptors(me) > 2);
    assert!(resident_kib(me) > 0);
}

#[test]
fn a_killed_process_no_longer_runs_even_before_it_is_waited_for() {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
    assert!(runs(child.id()));
    signal(child.id(), libc::SIGKILL);
    let begun = std::time::Instant::now();
    while runs(child.id()) {
        assert!(begun.elapsed() < super::PATIENCE);
        std::thread::yield_now();
    }
    child.wait().expect("it ended");
}
