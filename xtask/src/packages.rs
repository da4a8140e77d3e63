//! What the tests need beside Rust, a C compiler and git: Debian's packages and two parts of the Rust toolchain. What is
//! missing is installed, after saying so.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{cargo, succeeds};

/// Something that a step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A part of the Rust toolchain, by the name of its cargo subcommand and of rustup's component.
    Component(&'static str, &'static str),
    /// A file that one of Debian's packages brings.
    Package(&'static str, &'static str),
    /// A module of Debian's own Python, and its package.
    Python(&'static str, &'static str),
}

impl Need {
    fn is_there(self) -> bool {
        match self {
            Need::Component(subcommand, _) => succeeds(cargo().args([subcommand, "--version"])),
            Need::Package(file, _) => Path::new(file).exists(),
            Need::Python(module, _) => {
                succeeds(Command::new("/usr/bin/python3").args(["-c", &format!("import {module}")]))
            }
        }
    }
}

/// Installs what is missing of `needs`.
///
/// # Errors
/// When it cannot be done without a person; the message is the command to run by hand.
pub fn provide(needs: &[Need]) -> Result<()> {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !need.is_there()).collect();
    let (mut components, mut packages) = (Vec::new(), Vec::new());
    for need in &missing {
        match *need {
            Need::Component(_, name) => components.push(name),
            Need::Package(_, name) | Need::Python(_, name) => packages.push(name),
        }
    }
    if !components.is_empty() {
        add_components(&components)?;
    }
    if !packages.is_empty() {
        install(&packages)?;
    }
    let still: Vec<Need> = missing.into_iter().filter(|need| !need.is_there()).collect();
    if !still.is_empty() {
        bail!("still missing after it was installed: {still:?}");
    }
    Ok(())
}

fn add_components(names: &[&str]) -> Result<()> {
    let by_hand = format!("rustup component add {}", names.join(" "));
    println!("missing of the Rust toolchain: {}; running `{by_hand}`", names.join(" "));
    if !succeeds(
        Command::new("rustup").args(["component", "add"]).args(names).current_dir(crate::run::root()),
    ) {
        bail!("the Rust toolchain lacks {}; run `{by_hand}`, then this again", names.join(" and "));
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let by_hand = format!("apt-get install -y --no-install-recommends {names}");
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!(
            "these packages of Debian are missing and there is no apt-get here: {names}; install their like by hand"
        );
    }
    let root = is_effectively_root();
    if !root && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        bail!("packages are missing; run this, then the tests again:\n\n    sudo {by_hand}\n");
    }
    println!(
        "missing: {names}\ninstalling with `{}{by_hand}`; run it by hand if you would rather",
        if root { "" } else { "sudo " }
    );
    let install = ["install", "-y", "--no-install-recommends"];
    let known = packages.iter().all(|name| succeeds(Command::new("apt-cache").args(["show", name])));
    if known && apt_get(root, &[&install, packages].concat())? {
        return Ok(());
    }
    println!("the package lists are absent or old; running `apt-get update` first");
    apt_get(root, &["update"])?;
    if !apt_get(root, &[&install, packages].concat())? {
        bail!("apt-get could not install {names}; what it said is above. By hand: sudo {by_hand}");
    }
    Ok(())
}

fn apt_get(root: bool, arguments: &[&str]) -> Result<bool> {
    let mut command = if root { Command::new("env") } else { Command::new("sudo") };
    if !root {
        command.args(["-n", "env"]);
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]).args(arguments);
    Ok(command.status()?.success())
}

/// Whether this process may install packages itself: /proc names the effective user.
fn is_effectively_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| is_root(&status))
}

fn is_root(status: &str) -> bool {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_told_by_the_effective_user() {
        assert!(is_root("Name:\tx\nUid:\t1000\t0\t0\t0\n"));
        assert!(!is_root("Name:\tx\nUid:\t0\t1000\t0\t0\n"));
        assert!(!is_root(""));
    }

    #[test]
    fn a_file_that_is_not_there_is_missing() {
        assert!(!Need::Package("/nonexistent/program", "nothing").is_there());
        assert!(Need::Package("/proc/self/status", "linux").is_there());
    }
}
