//! What a process is at before it is ended: the state of each of its threads and where in the kernel it waits, from `/proc`,
//! and what a program of the user's says of it.
//!
//! A thread that hangs in its own code shows as running or waiting for a lock; what it holds only its runtime can tell, which
//! is what `capture` is for. All is bounded in time and size: the server is to be started anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::ServerId;
use mainstay_model::input::Exit;
use nix::unistd::Pid;
use tokio::time::timeout;

use super::Shared;
use super::leftovers::Family;
use super::log::Tail;
use super::program::{Ended, Program};

/// Reading `/proc` takes so long at most.
const LOOK_TAKES: Duration = Duration::from_secs(1);
/// The user's program is killed after so long.
const CAPTURE_TAKES: Duration = Duration::from_secs(3);
/// Processes of one server that are looked at.
const PROCESSES_MAX: usize = 16;
/// Threads of one process that are looked at.
const THREADS_MAX: usize = 256;
/// Lines of the user's program that are kept.
const LINES_MAX: usize = 200;
/// Names of threads that are alike.
const NAMES_MAX: usize = 4;
/// Places in the kernel that are told of a thread, from the innermost.
const PLACES_MAX: usize = 6;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// In a sentence without a full stop, about the server.
    pub text: String,
    /// All of it.
    pub lines: Vec<String>,
}

/// Whom to look at, and what else to ask.
pub(super) struct Asked<'a> {
    pub(super) server: &'a ServerId,
    pub(super) pid: Pid,
    /// The user's program and its arguments; empty: none.
    pub(super) capture: Vec<String>,
    pub(super) dir: Option<&'a Path>,
}

impl Asked<'_> {
    /// Looks, and asks.
    pub(super) async fn look(self, shared: &Arc<Shared>) -> Dump {
        let family = Family::of_server(&shared.instance, self.server, self.pid);
        let pid = self.pid.as_raw();
        let looked = tokio::task::spawn_blocking(move || processes(pid, &family));
        let seen = match timeout(LOOK_TAKES, looked).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let mut lines: Vec<String> = seen.iter().flat_map(Seen::lines).collect();
        if !self.capture.is_empty() {
            lines.extend(self.ask(shared).await);
        }
        Dump { text: sentence(&seen), lines }
    }

    /// Runs the user's program.
    async fn ask(&self, shared: &Arc<Shared>) -> Vec<String> {
        let name = self.capture.first().cloned().unwrap_or_default();
        let run = Program {
            mark: self.server.service.server(format!("@capture-{}", self.server.name)),
            log: self.server.clone(),
            wanted_by: "Mainstay".to_owned(),
            argv: self.capture.clone(),
            dir: self.dir.filter(|dir| dir.is_dir()).map_or_else(|| PathBuf::from("/"), Path::to_owned),
            context: Vec::new(),
            deadline: CAPTURE_TAKES,
        };
        let tail = Arc::<Mutex<Tail>>::default();
        let ended = run.run(shared, &tail).await;
        let written = tail.lock().unwrap_or_else(PoisonError::into_inner).lines_of_process(LINES_MAX);
        let head = match ended {
            Ok(Ended::Exit(Exit::Code(0))) => format!("{name}:"),
            Ok(ended) => format!("{name}, which {ended}:"),
            Err(error) => format!("{name} cannot be run: {error}"),
        };
        [head].into_iter().chain(written).collect()
    }
}

/// A process and its threads.
#[derive(Debug)]
struct Seen {
    pid: i32,
    name: String,
    threads: Vec<Thread>,
    /// There are more.
    more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Thread {
    name: String,
    /// `sleeping`, `running`, `disk sleep`.
    state: String,
    /// In the kernel, the innermost first; empty: not in it, or nobody may look.
    places: Vec<String>,
}

impl Thread {
    fn is_like(&self, other: &Self) -> bool {
        self.state == other.state && self.places == other.places
    }

    /// `sleeping in futex_wait_queue`.
    fn stands(&self) -> String {
        match self.places.first() {
            Some(place) => format!("{} in {place}", self.state),
            None => self.state.clone(),
        }
    }
}

impl Seen {
    /// Threads that stand at one place in one line.
    fn lines(&self) -> Vec<String> {
        let number = count(self.threads.len());
        let more = if self.more { " and more" } else { "" };
        let mut lines = vec![format!("process {} ({}), {number}{more}:", self.pid, self.name)];
        let mut groups: Vec<(&Thread, Vec<&str>)> = Vec::new();
        for thread in &self.threads {
            match groups.iter_mut().find(|(first, _)| first.is_like(thread)) {
                Some((_, names)) => names.push(&thread.name),
                None => groups.push((thread, vec![&thread.name])),
            }
        }
        for (thread, names) in groups {
            let mut line = format!("  {} (", count(names.len()));
            let mut told: Vec<&str> = Vec::new();
            names.iter().for_each(|name| {
                if !told.contains(name) {
                    told.push(name)
                }
            });
            line.push_str(&told[..told.len().min(NAMES_MAX)].join(", "));
            if told.len() > NAMES_MAX {
                line.push_str(", …");
            }
            let _ = write!(line, "): {}", thread.stands());
            thread.places.iter().skip(1).for_each(|place| {
                let _ = write!(line, " < {place}");
            });
            lines.push(line);
        }
        lines
    }
}

/// How most of them stand.
fn sentence(seen: &[Seen]) -> String {
    let all: Vec<String> = seen.iter().flat_map(|s| &s.threads).map(Thread::stands).collect();
    if all.is_empty() {
        return "what its threads were at could not be seen".to_owned();
    }
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for stands in &all {
        match kinds.iter_mut().find(|(known, _)| known == stands) {
            Some((_, times)) => *times += 1,
            None => kinds.push((stands, 1)),
        }
    }
    kinds.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let told: Vec<String> = kinds.iter().take(3).map(|(stands, times)| format!("{times} {stands}")).collect();
    let rest = if kinds.len() > 3 { ", …" } else { "" };
    format!("{}: {}{rest}", count(all.len()), told.join(", "))
}

/// The process and its kin, itself first.
fn processes(pid: i32, family: &Family) -> Vec<Seen> {
    let mut pids = family.members();
    pids.retain(|kin| *kin != pid);
    pids.insert(0, pid);
    pids.truncate(PROCESSES_MAX);
    pids.into_iter().filter_map(process).collect()
}

fn process(pid: i32) -> Option<Seen> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let name = std::fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
    let tasks = std::fs::read_dir(folder.join("task")).ok()?;
    let mut ids: Vec<u32> =
        tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    let more = ids.len() > THREADS_MAX;
    ids.truncate(THREADS_MAX);
    let threads = ids.into_iter().filter_map(|id| thread(&folder.join("task").join(id.to_string())));
    Some(Seen { pid, name, threads: threads.collect(), more })
}

fn thread(folder: &Path) -> Option<Thread> {
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let state = of("State:")?;
    // `S (sleeping)`.
    let state = state.split_once('(').and_then(|(_, word)| word.strip_suffix(')')).unwrap_or(state);
    let places = std::fs::read_to_string(folder.join("stack")).map_or_else(|_| Vec::new(), |s| stack(&s));
    let places = match places.is_empty() {
        // Only root may read the stack; where it waits, also its owner.
        true => {
            std::fs::read_to_string(folder.join("wchan")).ok().and_then(|w| waits(&w)).into_iter().collect()
        }
        false => places,
    };
    Some(Thread { name: of("Name:").unwrap_or("?").to_owned(), state: state.to_owned(), places })
}

/// `[<0>] futex_wait_queue+0x60/0x90` in lines.
fn stack(text: &str) -> Vec<String> {
    let place = |line: &str| {
        let place = line.split_whitespace().nth(1)?.split('+').next()?;
        (!place.is_empty()).then(|| place.to_owned())
    };
    text.lines().filter_map(place).take(PLACES_MAX).collect()
}

/// The name of a function of the kernel; `0`: it is not in it, or nobody may look.
fn waits(text: &str) -> Option<String> {
    let place = text.trim();
    (!place.is_empty() && place != "0").then(|| place.to_owned())
}

fn count(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(name: &str, state: &str, places: &[&str]) -> Thread {
        let places = places.iter().map(|&place| place.to_owned()).collect();
        Thread { name: name.to_owned(), state: state.to_owned(), places }
    }

    #[test]
    fn threads_that_stand_at_one_place_are_told_together() {
        let mut threads = vec![stands("shop", "running", &[])];
        threads.extend((0..6).map(|n| {
            stands(&format!("worker-{n}"), "sleeping", &["futex_wait_queue", "futex_wait", "do_futex"])
        }));
        let seen = Seen { pid: 7, name: "shop".to_owned(), threads, more: false };
        assert_eq!(
            seen.lines(),
            [
                "process 7 (shop), 7 threads:",
                "  1 thread (shop): running",
                "  6 threads (worker-0, worker-1, worker-2, worker-3, …): sleeping in futex_wait_queue < futex_wait < do_futex",
            ]
        );
        assert_eq!(sentence(&[seen]), "7 threads: 6 sleeping in futex_wait_queue, 1 running");
        assert_eq!(sentence(&[]), "what its threads were at could not be seen");
    }

    #[test]
    fn the_kernels_words_are_read() {
        let text = "[<0>] futex_wait_queue+0x60/0x90\n[<0>] futex_wait+0x1/0x2\n[<0>] 0xffffffffffffffff\n";
        assert_eq!(stack(text)[..2], ["futex_wait_queue", "futex_wait"]);
        assert_eq!((waits("0"), waits(""), waits("ep_poll")), (None, None, Some("ep_poll".to_owned())));
    }

    #[test]
    fn the_threads_of_this_very_process_are_seen() {
        let me = process(std::process::id().cast_signed()).unwrap();
        assert!(!me.threads.is_empty() && me.threads.iter().all(|t| !t.state.is_empty()));
        assert!(process(i32::MAX).is_none());
    }
}
