//! `cargo xtask deny`: licences, bans, sources and advisories by deny.toml. A command of its own, because it needs a
//! program that neither Rust nor Debian brings, and a step of `test` must be able to run everywhere.

use anyhow::{Result, bail};

use crate::run::{cargo, succeeds};

/// Runs cargo-deny; an error says how to get it.
pub fn main() -> Result<bool> {
    if !succeeds(cargo().args(["deny", "--version"])) {
        bail!("cargo-deny is not installed; `cargo install --locked cargo-deny` builds it in some minutes");
    }
    Ok(cargo().args(["deny", "--workspace", "check"]).status()?.success())
}
