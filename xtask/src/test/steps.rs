//! The steps of `cargo xtask test`, in their order. There are two kinds of build and no more, so that a fresh clone is
//! soon through: a check (clippy, fuzz, docs) and the tests in the dev profile, always of the whole workspace, because cargo
//! builds dependencies anew when another set of packages asks for other features.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::dist::target;
use crate::packages::Need;
use crate::purity;
use crate::run::{cargo, root};

/// One step.
pub struct Step {
    pub name: &'static str,
    pub about: &'static str,
    pub needs: &'static [Need],
    /// It runs what the step `build` built.
    pub after_build: bool,
    pub work: Work,
}

/// What a step does.
#[derive(Clone, Copy)]
pub enum Work {
    /// These commands, up to the first that fails.
    Commands(fn() -> Result<Vec<Command>>),
    /// A check of our own; says what it found.
    Own(fn() -> Result<String>),
}

/// What alerts are sent to.
const MAIL_SERVER: Need = Need::Python("aiosmtpd", "python3-aiosmtpd");

/// Test programs that have a step of their own; all others belong to `unit`.
const OWN_STEP: &[&str] = &["simulation", "tidy", "e2e"];

/// All steps.
pub const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "the code is formatted by rustfmt",
        needs: &[Need::Component("fmt", "rustfmt")],
        after_build: false,
        work: Work::Commands(|| Ok(vec![with(&["fmt", "--all", "--check"])])),
    },
    Step {
        name: "purity",
        about: "the judge is built from nothing that has a clock, a socket or dice",
        needs: &[],
        after_build: false,
        work: Work::Own(purity::check),
    },
    Step {
        name: "clippy",
        about: "no warning of the compiler or clippy, in programs and tests",
        needs: &[Need::Component("clippy", "clippy")],
        after_build: false,
        work: Work::Commands(|| {
            Ok(vec![with(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])])
        }),
    },
    Step {
        name: "fuzz",
        about: "the fuzzing targets, which lie outside the workspace, compile",
        needs: &[Need::Component("clippy", "clippy"), Need::Package("/usr/bin/c++", "g++")],
        after_build: false,
        work: Work::Commands(|| {
            let mut check = with(&["clippy", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
            // What is built with the same features for the workspace is built.
            check.arg("--target-dir").arg(target()).args(["--", "-D", "warnings"]);
            Ok(vec![check])
        }),
    },
    Step {
        name: "docs",
        about: "the documentation of every item builds without a warning",
        needs: &[],
        after_build: false,
        work: Work::Commands(|| {
            let mut doc = with(&["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
            doc.env("RUSTDOCFLAGS", "-D warnings");
            Ok(vec![doc])
        }),
    },
    Step {
        name: "build",
        about: "the program and all tests build",
        needs: &[],
        after_build: false,
        work: Work::Commands(|| Ok(vec![tests(&["--no-run"])])),
    },
    Step {
        name: "unit",
        about: "tests inside the crates, their other test programs and their examples",
        needs: &[
            MAIL_SERVER,
            Need::Package("/usr/bin/openssl", "openssl"),
            Need::Package("/usr/bin/redis-server", "redis-server"),
            Need::Package("/usr/lib/postgresql", "postgresql"),
            Need::Package("/usr/sbin/knotd", "knot"),
            Need::Package("/usr/sbin/mariadbd", "mariadb-server"),
            Need::Package("/usr/sbin/dockerd", "docker.io"),
            Need::Package("/bin/busybox", "busybox-static"),
            Need::Package("/usr/lib/nagios/plugins/check_tcp", "monitoring-plugins-basic"),
            Need::Python("websockets", "python3-websockets"),
        ],
        after_build: true,
        work: Work::Commands(unit),
    },
    Step {
        name: "simulation",
        about: "seeded worlds against the judge; MAINSTAY_SEED replays one, MAINSTAY_SEEDS says how many",
        needs: &[],
        after_build: true,
        work: Work::Commands(|| Ok(vec![tests(&["--test", "simulation", "--", "--show-output"])])),
    },
    Step {
        name: "tidy",
        about: "the layout's own rules",
        needs: &[],
        after_build: true,
        work: Work::Commands(|| Ok(vec![tests(&["--test", "tidy"])])),
    },
    Step {
        name: "e2e",
        about: "the real program with real servers, a mail server, and faults",
        needs: &[
            MAIL_SERVER,
            Need::Package("/usr/sbin/knotd", "knot"),
            Need::Package("/usr/bin/kdig", "knot-dnsutils"),
            Need::Package("/usr/sbin/named", "bind9"),
            Need::Package("/usr/bin/restic", "restic"),
            Need::Package("/usr/lib/postgresql", "postgresql"),
            Need::Package("/usr/sbin/unbound", "unbound"),
            Need::Package("/usr/bin/dig", "bind9-dnsutils"),
            Need::Package("/usr/bin/slowhttptest", "slowhttptest"),
            Need::Package("/usr/bin/prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
            Need::Package("/usr/bin/prometheus-node-exporter", "prometheus-node-exporter"),
            Need::Package("/usr/bin/curl", "curl"),
            Need::Package("/usr/bin/h2load", "nghttp2-client"),
            Need::Package("/usr/bin/openssl", "openssl"),
            Need::Package("/usr/bin/redis-server", "redis-server"),
            Need::Package("/usr/sbin/haproxy", "haproxy"),
            Need::Package("/usr/sbin/nginx", "nginx"),
            Need::Python("grpc", "python3-grpcio"),
            Need::Python("h2", "python3-h2"),
            Need::Python("websockets", "python3-websockets"),
            Need::Package("/usr/sbin/iptables", "iptables"),
            Need::Package("/sbin/ip", "iproute2"),
            Need::Package("/usr/sbin/dockerd", "docker.io"),
            Need::Package("/bin/busybox", "busybox-static"),
            Need::Package("/usr/sbin/sshd", "openssh-server"),
            Need::Package("/usr/bin/ssh", "openssh-client"),
            Need::Package("/usr/sbin/mkfs.ext4", "e2fsprogs"),
        ],
        after_build: true,
        work: Work::Commands(|| {
            // Much of it waits for intervals to pass: three at a time keep two processors busy.
            let threads = "--test-threads=3";
            Ok(vec![tests(&["--test", "e2e", "--", threads, "--show-output", "--skip", "browser::"])])
        }),
    },
    Step {
        name: "browser",
        about: "the dashboard in a real browser",
        needs: &[
            Need::Package("/usr/bin/chromium", "chromium"),
            Need::Package("/usr/bin/chromedriver", "chromium-driver"),
        ],
        after_build: true,
        work: Work::Commands(|| {
            Ok(vec![tests(&["--test", "e2e", "--", "--test-threads=1", "--show-output", "browser::"])])
        }),
    },
];

fn with(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments);
    command
}

fn tests(arguments: &[&str]) -> Command {
    let mut command = with(&["test", "--locked", "--workspace"]);
    command.args(arguments);
    command
}

fn unit() -> Result<Vec<Command>> {
    let mut all = tests(&["--lib", "--bins"]);
    for name in test_programs(root())?.iter().filter(|name| !OWN_STEP.contains(&name.as_str())) {
        all.args(["--test", name]);
    }
    Ok(vec![all, tests(&["--doc"])])
}

/// The names of all test programs: `tests/NAME.rs` and `tests/NAME/main.rs` of every crate.
fn test_programs(root: &Path) -> Result<BTreeSet<String>> {
    let crates = std::fs::read_dir(root.join("crates")).context("the workspace has no crates/")?;
    let mut names = BTreeSet::new();
    for folder in crates {
        let Ok(entries) = std::fs::read_dir(folder?.path().join("tests")) else { continue };
        for entry in entries {
            let path = entry?.path();
            let program = path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists();
            if let (true, Some(stem)) = (program, path.file_stem()) {
                names.insert(stem.to_string_lossy().into_owned());
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_program_belongs_to_exactly_one_step() {
        let programs = test_programs(root()).unwrap();
        for own in OWN_STEP {
            assert!(programs.contains(*own), "the step `{own}` has no test program");
            assert!(STEPS.iter().any(|step| step.name == *own), "`{own}` has no step");
        }
        let unit = unit().unwrap();
        let arguments: Vec<String> = unit[0].get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        for program in programs.iter().filter(|name| !OWN_STEP.contains(&name.as_str())) {
            assert!(arguments.contains(program), "`{program}` is run by no step");
        }
    }

    #[test]
    fn no_two_steps_have_one_name() {
        let names: BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }
}
