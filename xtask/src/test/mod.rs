//! `cargo xtask test`: runs the steps one after the other, each with its time, shows what a failed one printed, and ends
//! with a table. A step that cannot run has failed: nothing is skipped in silence.

mod steps;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{dist, packages};
use steps::{STEPS, Step, Work};

/// What became of a step.
struct Done {
    name: &'static str,
    passed: bool,
    took: Duration,
    note: String,
}

/// What `--long` asks of the simulation.
const LONG: [(&str, &str); 3] =
    [("MAINSTAY_SEEDS", "10000"), ("MAINSTAY_HEALTHY_SEEDS", "10000"), ("MAINSTAY_CAUSE_SEEDS", "100")];

/// How the steps are run.
#[derive(Clone, Copy, Default)]
struct Mode {
    verbose: bool,
    long: bool,
}

/// Runs the steps that the arguments name, or all.
pub fn main(arguments: &[&str]) -> Result<bool> {
    if arguments == ["--list"] {
        for step in STEPS {
            println!("{:<12}{}", step.name, step.about);
        }
        return Ok(true);
    }
    let (flags, names): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|a| a.starts_with('-'));
    if let Some(flag) = flags.iter().find(|f| !matches!(**f, "-v" | "--verbose" | "--long")) {
        bail!("`{flag}` is not a flag of `cargo xtask test`; there are -v, --long and --list");
    }
    let mode = Mode {
        verbose: flags.iter().any(|f| matches!(*f, "-v" | "--verbose")),
        long: flags.contains(&"--long"),
    };
    let chosen = choose(&names)?;
    let logs = log_folder()?;
    let mut all = Vec::new();
    for step in chosen {
        let done = carry_out(step, &all, &logs, mode);
        all.push(done);
    }
    println!("\n{}", table(&all));
    let passed = all.iter().filter(|done| done.passed).count();
    println!("{passed} passed, {} failed", all.len() - passed);
    Ok(passed == all.len())
}

/// The named steps in their own order, with the build that a test needs before it.
fn choose(names: &[&str]) -> Result<Vec<&'static Step>> {
    for name in names {
        if !STEPS.iter().any(|step| step.name == *name) {
            bail!("`{name}` is not a step; `cargo xtask test --list` names them");
        }
    }
    let wanted = |step: &Step| names.is_empty() || names.contains(&step.name);
    let build = STEPS.iter().any(|step| step.after_build && wanted(step));
    Ok(STEPS.iter().filter(|step| wanted(step) || (build && step.name == "build")).collect())
}

/// Outputs of the last run, one file a step.
fn log_folder() -> Result<PathBuf> {
    let logs = dist::target().join("xtask");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    Ok(logs)
}

fn carry_out(step: &'static Step, before: &[Done], logs: &Path, mode: Mode) -> Done {
    println!("== {}: {}", step.name, step.about);
    let begun = Instant::now();
    let log = logs.join(format!("{}.log", step.name));
    let built = before.iter().all(|done| done.name != "build" || done.passed);
    let result = if step.after_build && !built {
        Err(anyhow::anyhow!("not run, because the tests could not be built"))
    } else {
        packages::provide(step.needs).and_then(|()| work(step, &log, mode))
    };
    let took = begun.elapsed();
    let (passed, note) = match result {
        Ok(note) => (true, note),
        Err(error) => {
            println!("{error:#}");
            // Also what went wrong before the step could run; whoever reads the log later knows then.
            let _ = std::fs::write(&log, format!("{error:#}\n"));
            (false, format!("see {}", log.display()))
        }
    };
    println!("   {} after {}\n", if passed { "passed" } else { "FAILED" }, seconds(took));
    Done { name: step.name, passed, took, note }
}

/// Does the work of a step with its output in the log. An error shows all of that output.
fn work(step: &Step, log: &Path, mode: Mode) -> Result<String> {
    let commands = match step.work {
        Work::Own(check) => {
            let said = check()?;
            std::fs::write(log, &said)?;
            return Ok(said.trim().to_owned());
        }
        Work::Commands(commands) => commands()?,
    };
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    for mut command in commands {
        if mode.long {
            command.envs(LONG);
        }
        if !mode.verbose {
            command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        }
        let shown = show(&command);
        let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {shown}"))?;
        if !status.success() {
            let mut said = String::new();
            File::open(log)?.read_to_string(&mut said)?;
            bail!("{said}\n`{shown}` failed: {status}");
        }
    }
    let said = std::fs::read_to_string(log)?;
    for line in said.lines().filter(|line| line.starts_with("measured: ")) {
        println!("   {line}");
    }
    Ok(tests_in(&said))
}

fn show(command: &Command) -> String {
    let arguments = command.get_args().map(|a| a.to_string_lossy());
    std::iter::once("cargo".into()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// How many tests ran, from the lines that Rust's test programs end with; empty for a step without tests.
fn tests_in(said: &str) -> String {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: "));
    let counts = results.filter_map(|r| r.split_whitespace().nth(1)?.parse::<u64>().ok());
    let (mut any, mut sum) = (false, 0);
    for count in counts {
        any = true;
        sum += count;
    }
    if any { format!("{sum} tests") } else { String::new() }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn table(all: &[Done]) -> String {
    let total: Duration = all.iter().map(|done| done.took).sum();
    let mut lines = String::new();
    for done in all {
        let word = if done.passed { "passed" } else { "FAILED" };
        lines += format!("{:<12}{word:<8}{:>9}   {}", done.name, seconds(done.took), done.note).trim_end();
        lines.push('\n');
    }
    lines + &format!("{:<20}{:>9}\n", "together", seconds(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_step_is_chosen_in_order() {
        let names: Vec<&str> = choose(&[]).unwrap().iter().map(|step| step.name).collect();
        let all: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names, all);
    }

    #[test]
    fn a_test_step_brings_the_build_with_it_and_others_do_not() {
        let names = |wanted: &[&str]| choose(wanted).unwrap().iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(&["tidy"]), ["build", "tidy"]);
        assert_eq!(names(&["fmt"]), ["fmt"]);
    }

    #[test]
    fn an_unknown_step_is_refused() {
        assert!(choose(&["fmt", "frobnicate"]).is_err());
    }

    #[test]
    fn a_step_after_a_failed_build_fails_without_running() {
        let build = Done { name: "build", passed: false, took: Duration::ZERO, note: String::new() };
        let tidy = STEPS.iter().find(|step| step.name == "tidy").unwrap();
        assert!(!carry_out(tidy, &[build], Path::new("/nonexistent"), Mode::default()).passed);
    }

    #[test]
    fn tests_are_counted_over_all_test_programs() {
        let said = "x\ntest result: ok. 12 passed; 0 failed\ntest result: ok. 3 passed; 0 failed\n";
        assert_eq!(tests_in(said), "15 tests");
        assert_eq!(tests_in("Checking x\n"), "");
    }

    #[test]
    fn the_table_has_a_line_a_step_and_their_sum() {
        let done = |name, passed| Done { name, passed, took: Duration::from_secs(2), note: String::new() };
        let table = table(&[done("fmt", true), done("e2e", false)]);
        let words: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(
            words,
            [
                vec!["fmt", "passed", "2.0", "s"],
                vec!["e2e", "FAILED", "2.0", "s"],
                vec!["together", "4.0", "s"]
            ]
        );
    }
}
