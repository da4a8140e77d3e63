//! `cargo xtask dist`: the program as it ships. It is built twice: first so that it counts which of its code runs, then, after
//! the loads of `bench proxy` were put on it, guided by these counts. That takes a quarter of a request's own work off.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench;
use crate::packages::{Need, provide};
use crate::run::{answer, cargo, root, succeeds};

/// How to call it.
pub const HELP: &str = "\
  dist                the program as it ships, guided by a profile: target/guided/mainstay; half an hour on two cores
";

/// Builds it.
///
/// # Errors
/// When a tool is missing, something does not build, or the loads cannot be put on it.
pub fn main() -> Result<bool> {
    let built = build()?;
    println!("built: {}", built.display());
    Ok(true)
}

/// The program as it ships, which is built unless it was already of this commit with no change beside it.
///
/// # Errors
/// As [`main`].
pub fn provide_program() -> Result<PathBuf> {
    let (program, commit) = (folder().join("mainstay"), folder().join("commit"));
    let built_of = fs::read_to_string(&commit).unwrap_or_default();
    match sources()? {
        Some(sources) if sources == built_of && program.exists() => Ok(program),
        _ => build(),
    }
}

fn build() -> Result<PathBuf> {
    bench::provide_tools()?;
    let merge = profdata()?;
    let (counting, guided, counts) =
        (folder().join("counting"), folder().join("built"), folder().join("counts"));
    forget(&counts)?;
    println!("1 of 3: building a program that counts which of its code runs");
    let program = build_with(&format!("-Cprofile-generate={}", counts.display()), &counting)?;
    println!("2 of 3: putting the loads of `cargo xtask bench proxy` on it");
    bench::train(&program)?;
    let profile = folder().join("mainstay.profdata");
    answer(Command::new(merge).arg("merge").arg("-o").arg(&profile).arg(&counts))
        .context("the loads left no counts that could be read")?;
    println!("3 of 3: building the program with what was counted");
    // Cargo sees no difference between two profiles of one name.
    forget(&guided.join(host()?))?;
    let program = build_with(&format!("-Cprofile-use={}", profile.display()), &guided)?;
    let (ships, commit) = (folder().join("mainstay"), folder().join("commit"));
    // A program that runs cannot be written over, only replaced.
    forget(&ships)?;
    fs::copy(&program, &ships).with_context(|| format!("cannot write {}", ships.display()))?;
    fs::write(&commit, sources()?.unwrap_or_default())?;
    Ok(ships)
}

/// With `--target`, the flags are for the program alone and not for what runs while it is built.
fn build_with(flags: &str, into: &Path) -> Result<PathBuf> {
    let host = host()?;
    let done = cargo()
        .args(["build", "--locked", "--profile", "dist", "--package", "mainstay", "--target", &host])
        .arg("--target-dir")
        .arg(into)
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()?;
    if !done.success() {
        bail!("Mainstay does not build");
    }
    Ok(into.join(host).join("dist/mainstay"))
}

fn folder() -> PathBuf {
    target().join("guided")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn forget(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The commit; `None` when files differ from it.
fn sources() -> Result<Option<String>> {
    let git = |arguments: &[&str]| answer(Command::new("git").current_dir(root()).args(arguments));
    let clean = git(&["status", "--porcelain"])?.is_empty();
    Ok(if clean { Some(git(&["rev-parse", "HEAD"])?) } else { None })
}

/// What the compiler says of itself: `host: …`, `LLVM version: …`.
fn compiler(field: &str) -> Result<String> {
    let said = answer(Command::new(rustc()).arg("-vV"))?;
    field_of(&said, field).with_context(|| format!("rustc does not tell its {field}"))
}

fn field_of(said: &str, field: &str) -> Option<String> {
    let value = said.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "))?;
    Some(value.trim().to_owned())
}

fn rustc() -> impl AsRef<OsStr> {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn host() -> Result<String> {
    compiler("host")
}

/// `llvm-profdata` of the compiler's LLVM: rustup's component, or else Debian's package of the same version.
fn profdata() -> Result<PathBuf> {
    let sysroot = answer(Command::new(rustc()).args(["--print", "sysroot"]))?;
    let own = Path::new(sysroot.trim()).join("lib/rustlib").join(host()?).join("bin/llvm-profdata");
    let version = compiler("LLVM version")?;
    let major = version.split('.').next().unwrap_or_default();
    let package = format!("llvm-{major}");
    let debian = PathBuf::from(format!("/usr/bin/llvm-profdata-{major}"));
    if own.exists() {
        return Ok(own);
    }
    if debian.exists() {
        return Ok(debian);
    }
    println!("missing: llvm-profdata of LLVM {major}; running `rustup component add llvm-tools`");
    if succeeds(Command::new("rustup").args(["component", "add", "llvm-tools"])) && own.exists() {
        return Ok(own);
    }
    let need = Need::Package(debian.to_string_lossy().into_owned().leak(), package.clone().leak());
    provide(&[need]).with_context(|| {
        format!("llvm-profdata of LLVM {major} is needed: `rustup component add llvm-tools`, or Debian's {package}")
    })?;
    Ok(debian)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_says_is_read_by_field() {
        let said =
            "rustc 1.95.0 (59807616e 2026-04-14)\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        assert_eq!(field_of(said, "LLVM version").as_deref(), Some("22.1.2"));
        assert_eq!(field_of(said, "host").as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(field_of(said, "os"), None);
    }
}
