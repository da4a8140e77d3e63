//! Finding and ending every process that belongs to a supervised server, also those that left its group or outlived an
//! earlier run. `/proc` is asked, because only it knows of processes that are not our own children.
//!
//! Every supervised process carries this data directory's random id in its environment, and its children inherit it.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use mainstay_model::ServerId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tokio::time::{Instant, sleep};

/// Holds the data directory's id.
pub(super) const INSTANCE_VARIABLE: &str = "MAINSTAY_SUPERVISED";
/// Holds the server, written `shop/app-1`.
pub(super) const SERVER_VARIABLE: &str = "MAINSTAY_SERVER";

/// After SIGKILL a process is gone at once unless the kernel itself holds it (a dead disk).
pub(super) const KILL_TAKES: Duration = Duration::from_secs(3);

/// Which processes belong together.
#[derive(Debug, Clone)]
pub(super) struct Family {
    instance: String,
    server: Option<String>,
    group: Option<Pid>,
    /// Marks of those who are to stay.
    spared: Vec<String>,
}

/// Processes that not even SIGKILL ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StillThere(pub(super) Vec<i32>);

impl Family {
    /// Everything that was ever started with this data directory.
    pub(super) fn of_instance(instance: &str) -> Self {
        Self { instance: instance.to_owned(), server: None, group: None, spared: Vec::new() }
    }

    /// Everything that one server started, and its process group.
    pub(super) fn of_server(instance: &str, server: &ServerId, group: Pid) -> Self {
        Self {
            instance: instance.to_owned(),
            server: Some(server.to_string()),
            group: Some(group),
            spared: Vec::new(),
        }
    }

    /// Without those that carry one of these marks.
    pub(super) fn sparing(self, spared: Vec<String>) -> Self {
        Self { spared, ..self }
    }

    /// Asks all to end, and kills at the deadline. Returns when all are gone: how many there were.
    ///
    /// # Errors
    /// [`StillThere`] some seconds after the deadline.
    pub(super) async fn end(self, deadline: Instant) -> Result<usize, StillThere> {
        let mut asked: Vec<i32> = Vec::new();
        let mut pause = Duration::from_millis(2);
        loop {
            let family = self.clone();
            // Reading /proc takes milliseconds on a busy machine. An error could only be a panic in it.
            let members = tokio::task::spawn_blocking(move || family.members()).await.unwrap_or_default();
            if members.is_empty() {
                return Ok(asked.len());
            }
            let now = Instant::now();
            if now >= deadline + KILL_TAKES {
                return Err(StillThere(members));
            }
            for pid in members {
                let first_time = !asked.contains(&pid);
                if first_time {
                    asked.push(pid);
                }
                // An error means that it is already gone.
                if now >= deadline {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                } else if first_time {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                    let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// The living members, without this process and its ancestors.
    pub(super) fn members(&self) -> Vec<i32> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let kin = own_line();
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| !kin.contains(pid) && self.is_member(*pid))
            .collect()
    }

    fn is_member(&self, pid: i32) -> bool {
        let Some(stat) = Stat::read(pid) else { return false };
        if matches!(stat.state, 'Z' | 'X') {
            return false;
        }
        self.group.is_some_and(|group| group.as_raw() == stat.group) || self.is_marked(pid)
    }

    fn is_marked(&self, pid: i32) -> bool {
        let ours = geteuid();
        let same_user = std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == ours.as_raw());
        if !same_user && !ours.is_root() {
            return false;
        }
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
        has(&environment, INSTANCE_VARIABLE, &self.instance)
            && self.server.as_ref().is_none_or(|server| has(&environment, SERVER_VARIABLE, server))
            && !self.spared.iter().any(|mark| has(&environment, SERVER_VARIABLE, mark))
    }
}

fn has(environment: &[u8], name: &str, value: &str) -> bool {
    environment.split(|&b| b == 0).any(|variable| {
        variable.strip_prefix(name.as_bytes()).and_then(|v| v.strip_prefix(b"=")) == Some(value.as_bytes())
    })
}

/// This process and its ancestors: a Mainstay started by a supervised server must not end itself.
fn own_line() -> Vec<i32> {
    let mut line = Vec::new();
    let mut pid = std::process::id().cast_signed();
    while pid > 0 && !line.contains(&pid) {
        line.push(pid);
        pid = Stat::read(pid).map_or(0, |stat| stat.parent);
    }
    line
}

/// The beginning of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    group: i32,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The program's name, in brackets, may itself hold brackets and spaces.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|&b| b == b')')?;
        let mut fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_and_spaces_does_not_confuse() {
        let stat = Stat::parse(b"12 (a) b) c) S 3 4 4 0 -1").unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 3, group: 4 });
        assert_eq!(Stat::parse(b"12 (a"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn a_mark_is_a_whole_variable() {
        let environment = b"PATH=/bin\0MAINSTAY_SUPERVISED=abc\0X=MAINSTAY_SUPERVISED=xyz\0";
        assert!(has(environment, INSTANCE_VARIABLE, "abc"));
        assert!(!has(environment, INSTANCE_VARIABLE, "ab"));
        assert!(!has(environment, INSTANCE_VARIABLE, "xyz"));
        assert!(!has(b"", INSTANCE_VARIABLE, ""));
    }

    #[test]
    fn this_process_and_its_parents_are_never_members() {
        let own = std::process::id().cast_signed();
        let line = own_line();
        assert_eq!(line.first(), Some(&own));
        assert!(line.len() >= 2, "{line:?}");
        let group = nix::unistd::getpgrp();
        let family = Family { instance: "none".into(), server: None, group: Some(group), spared: Vec::new() };
        assert!(family.is_member(own));
        assert!(!family.members().contains(&own));
    }
}
