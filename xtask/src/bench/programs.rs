//! The programs that are compared: how each is started from its template, and what it says of itself.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::{Core, Running, pinned};
use super::site::{self, Values};
use crate::run::{answer, root, succeeds};

/// What a program may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Mainstay,
    HaProxy,
    /// With `retry-on`.
    HaProxyRetrying,
    Nginx,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Program::Mainstay => "Mainstay",
            Program::HaProxy => "HAProxy",
            Program::HaProxyRetrying => "HAProxy with `retry-on`",
            Program::Nginx => "nginx",
        }
    }

    /// For files and flags.
    pub fn key(self) -> &'static str {
        match self {
            Program::Mainstay => "mainstay",
            Program::HaProxy => "haproxy",
            Program::HaProxyRetrying => "haproxy-retry",
            Program::Nginx => "nginx",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Program::Mainstay => "mainstay.toml",
            Program::HaProxy => "haproxy.cfg",
            Program::HaProxyRetrying => "haproxy-retry.cfg",
            Program::Nginx => "nginx.conf",
        }
    }

    /// The command that runs it with a config, on the processor of proxies.
    fn command(self, config: &Path, dir: &Path) -> Command {
        match self {
            Program::Mainstay => {
                let mut command = pinned(Core::Proxy, mainstay());
                command.arg("run").arg("-c").arg(config);
                command
            }
            Program::HaProxy | Program::HaProxyRetrying => {
                let mut command = pinned(Core::Proxy, "haproxy");
                command.arg("-db").arg("-f").arg(config);
                command
            }
            Program::Nginx => nginx(Core::Proxy, config, dir),
        }
    }

    /// What it says when it is asked for its version.
    ///
    /// # Errors
    /// When it does not run.
    pub fn version(self) -> Result<String> {
        Ok(match self {
            Program::Mainstay => {
                let commit =
                    answer(Command::new("git").current_dir(root()).args(["rev-parse", "--short", "HEAD"]))?;
                let version = answer(Command::new(mainstay()).arg("--version"))?;
                // Where it lies on this machine is nobody else's business.
                let built = match mainstay().starts_with(crate::dist::target()) {
                    true => format!("commit {}", commit.trim()),
                    false => "built elsewhere".to_owned(),
                };
                format!("{} ({built})", version.trim())
            }
            Program::HaProxy | Program::HaProxyRetrying => {
                let said = answer(Command::new("haproxy").arg("-v"))?;
                said.split(" - ").next().unwrap_or_default().to_owned()
            }
            // It says so on standard error.
            Program::Nginx => {
                let output = Command::new("nginx").arg("-v").output().context("cannot run nginx")?;
                String::from_utf8_lossy(&output.stderr).trim().replace("nginx version: ", "")
            }
        })
    }
}

/// nginx with a config and all that it writes in one folder.
pub fn nginx(core: Core, config: &Path, dir: &Path) -> Command {
    let mut command = pinned(core, "nginx");
    command.arg("-p").arg(dir).arg("-c").arg(config).arg("-e").arg(dir.join("error.log"));
    command
}

/// What was given by `--binary`, or else the program as it ships.
static BINARY: Mutex<PathBuf> = Mutex::new(PathBuf::new());

/// The program under test.
pub fn mainstay() -> PathBuf {
    BINARY.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Sees to it that there is a Mainstay: the one that is `ready`, or else the program as it ships.
///
/// # Errors
/// When it does not build.
pub fn provide_mainstay(ready: Option<&str>) -> Result<()> {
    let path = match ready {
        Some(path) => std::fs::canonicalize(path).with_context(|| format!("`{path}` is not there"))?,
        None => crate::dist::provide_program()?,
    };
    *BINARY.lock().unwrap_or_else(PoisonError::into_inner) = path;
    Ok(())
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Started {
    pub program: Program,
    pub process: Running,
    pub ports: Values,
    /// Optional parts of its template (`#? NAME`) that are in its config, and those that it does not know.
    pub parts: Vec<String>,
    pub missing: Vec<String>,
}

impl Started {
    /// Starts a proxy from `bench/FOLDER/` with ports of its own beside the shared `values`, and waits until it listens.
    ///
    /// # Errors
    /// With the end of what it said.
    pub fn start(program: Program, folder: &str, dir: &Path, values: &Values) -> Result<Self> {
        let dir = dir.join(program.key());
        std::fs::create_dir_all(&dir)?;
        let mut values = values.clone();
        values.insert("dir".into(), dir.display().to_string());
        for name in ["http", "https", "tcp", "admin"] {
            values.insert(name.into(), site::free_port()?.to_string());
        }
        let template = site::template(&format!("{folder}/{}", program.template()))?;
        let config = dir.join(program.template());
        let (parts, missing) = write_config(program, &template, &values, &config)?;
        let log = dir.join("output.log");
        let mut process = Running::start(program.name(), &mut program.command(&config, &dir), &log)?;
        let port = values["http"].parse()?;
        if let Err(error) = wait_until_it_listens(&mut process, port) {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("{error}; it said:\n{said}");
        }
        Ok(Self { program, process, ports: values, parts, missing })
    }

    /// One of its ports.
    ///
    /// # Errors
    /// When the name is none of `http`, `https`, `tcp`, `admin`.
    pub fn port(&self, name: &str) -> Result<u16> {
        let port = self.ports.get(name).with_context(|| format!("`{name}` is not a port"))?;
        Ok(port.parse()?)
    }
}

/// Writes a config with all the optional parts that this build of Mainstay takes; returns these and the others.
fn write_config(
    program: Program,
    template: &str,
    values: &Values,
    to: &Path,
) -> Result<(Vec<String>, Vec<String>)> {
    let (mut taken, mut missing) = (Vec::new(), Vec::new());
    let write = |parts: &[&str]| -> Result<()> {
        Ok(std::fs::write(to, site::fill(&site::with_features(template, parts), values)?)?)
    };
    for feature in site::features_of(template) {
        taken.push(feature);
        write(&taken)?;
        let known = program != Program::Mainstay
            || succeeds(Command::new(mainstay()).args(["check-config", "-c"]).arg(to));
        if !known {
            taken.pop();
            missing.push(feature.to_owned());
        }
    }
    write(&taken)?;
    Ok((taken.into_iter().map(str::to_owned).collect(), missing))
}

/// Waits until a port of the loopback takes connections.
///
/// # Errors
/// When the program ends, or takes too long.
pub fn wait_until_it_listens(process: &mut Running, port: u16) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(site::local(port)).is_err() {
        process.must_run()?;
        if begun.elapsed() > START_MAX {
            bail!("nothing listens on port {port} after {START_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
