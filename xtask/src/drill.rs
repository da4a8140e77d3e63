//! `cargo xtask drill`: every fault of `mainstay drill` at the demo's servers, and what came of it as a table in README.md.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo, root};

pub const HELP: &str = "\
  drill [--profile NAME]
                      make each fault of `mainstay drill` at the demo's servers, and write the table in README.md;
                      of the release build if no profile is named
";

/// In the order of the table.
const FAULTS: [&str; 10] =
    ["kill", "hang", "refuse", "black-hole", "reset", "slow", "errors", "certificate", "disk-full", "dns"];
/// How long each lasts.
const LASTS: &str = "10s";
/// Until the demo's own story is told.
const STORY_MAX: Duration = Duration::from_secs(180);
/// Between two tries while the demo is not at its best yet.
const AGAIN: Duration = Duration::from_secs(2);
/// And so long it is tried.
const TRIED_MAX: Duration = Duration::from_secs(120);
const BEGIN: &str = "<!-- drills: written by `cargo xtask drill`, do not edit -->\n";
const END: &str = "<!-- end of drills -->\n";

/// Runs it.
///
/// # Errors
/// When something cannot be started, or README.md has no place for the table.
pub fn main(words: &[&str]) -> Result<bool> {
    let profile = match words {
        [] => "release",
        ["--profile", name] => name,
        _ => bail!("usage: cargo xtask drill [--profile NAME]"),
    };
    let demo = Demo::start(&built(profile)?)?;
    for fault in FAULTS {
        println!("{fault}");
        demo.drill(fault)?;
    }
    let list = demo.ask(&["drill", "list", "shop"])?;
    let cores = available_parallelism().map_or(1, usize::from);
    let head = format!(
        "A run of the `{profile}` build on {cores} cores, which the load itself shares; each fault for {LASTS} at one of three servers, or at Mainstay itself:\n\n"
    );
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    std::fs::write(&path, put(&readme, &format!("{head}{}", table(&list)?))?)?;
    println!("{}", table(&list)?);
    Ok(true)
}

fn built(profile: &str) -> Result<PathBuf> {
    let status = cargo().args(["build", "-p", "mainstay", "--locked", "--profile", profile]).status()?;
    if !status.success() {
        bail!("mainstay could not be built");
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(folder).join("mainstay"))
}

/// The demo, after its story; ended when it goes.
struct Demo {
    child: Child,
    program: PathBuf,
    admin: String,
}

impl Demo {
    fn start(program: &Path) -> Result<Self> {
        let [listen, admin] = [free()?, free()?];
        let mut child = Command::new(program)
            .args(["demo", "--listen", &listen, "--admin", &admin])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("the demo has no output")?).lines();
        let demo = Self { child, program: program.to_owned(), admin: format!("http://{admin}") };
        let (told, story) = std::sync::mpsc::channel();
        // Read to its end, so that the demo never waits for a reader.
        std::thread::spawn(move || {
            for line in lines.map_while(std::result::Result::ok) {
                if line.starts_with("  slowest answer") {
                    let _ = told.send(());
                }
            }
        });
        story.recv_timeout(STORY_MAX).context("the demo did not come to the end of its story")?;
        Ok(demo)
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(words)
            .args(["--admin", &self.admin])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// One fault, to its end. What is refused for good is in the list, with why.
    fn drill(&self, fault: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.ask(&["drill", "shop", fault, "--for", LASTS, "--by", "cargo xtask drill"])?;
            let list = self.ask(&["drill", "list", "shop"])?;
            let last = rows(&list).next().context("no drill is in the list")?;
            let outcome = last.last().map_or("", |cell| cell);
            let for_good = !outcome.starts_with("refused") || outcome.contains("TLS");
            if for_good || begun.elapsed() > TRIED_MAX {
                return Ok(());
            }
            sleep(AGAIN);
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // By SIGINT it ends its servers itself.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// A port that is free at this moment.
fn free() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// What `mainstay drill list` says, the newest first: drill, when, service, server, fault, five times, failed, saved, outcome.
fn rows(list: &str) -> impl Iterator<Item = Vec<&str>> {
    let cells = |line| str::trim_matches(line, '|').split('|').map(str::trim).collect::<Vec<_>>();
    list.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).filter(|row| row.len() == 13)
}

/// The newest of each fault.
fn table(list: &str) -> Result<String> {
    let mut text = "| fault | noticed | diverted | alert | first action | recovered | requests failed | saved | outcome |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for fault in FAULTS {
        let row = rows(list).find(|row| row[4] == fault);
        let row = row.with_context(|| format!("there was no drill of {fault}"))?;
        text.push_str(&format!("| `{fault}` | {} |\n", row[5..].join(" | ")));
    }
    Ok(text)
}

/// Between the two marks.
fn put(readme: &str, table: &str) -> Result<String> {
    let place = readme.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = place.context("README.md has no place for the table of drills")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_fault_stands_between_the_marks() {
        let row = |n: u32, fault: &str, outcome: &str| {
            format!(
                "| {n} | today | shop | app-1 | {fault} | 1 ms | 2 ms | 3 ms | – | 4 ms | 0 of 9 | 5 | {outcome} |\n"
            )
        };
        let mut list = "| drill |\n| --- |\n".to_owned();
        list.push_str(&row(20, "hang", "recovered"));
        list.push_str(&row(19, "hang", "refused: no"));
        for fault in FAULTS.into_iter().filter(|fault| *fault != "hang") {
            list.push_str(&row(1, fault, "recovered"));
        }
        let table = table(&list).unwrap();
        assert!(
            table.contains("| `hang` | 1 ms | 2 ms | 3 ms | – | 4 ms | 0 of 9 | 5 | recovered |\n"),
            "{table}"
        );
        assert!(!table.contains("refused"));
        let readme = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(put(&readme, "new\n").unwrap(), format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(put("nothing", "new").is_err());
    }
}
