//! The cases of `cargo xtask bench proxy`: what is asked of a proxy, by which tool, and what its ratio should be.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::{Core, pinned};
use super::programs::Started;
use crate::run::{answer, root};

/// The host that nginx serves behind the proxies.
pub const WWW: &str = "www.bench.example";
/// The host that takes bodies and echoes WebSockets.
pub const APP: &str = "app.bench.example";

/// One case.
#[derive(Debug)]
pub struct Case {
    /// For `--case` and the table.
    pub key: &'static str,
    pub about: &'static str,
    pub load: Load,
    /// What the ratio to the better of the others should not exceed.
    pub target: f64,
    /// The optional part of Mainstay's config that it needs.
    pub needs: Option<&'static str>,
}

/// Who makes the load.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// wrk: a path on one of the proxy's ports over so many kept connections.
    Wrk { port: &'static str, path: &'static str, connections: u32 },
    /// wrk with a request that ends the connection.
    WrkClosing { connections: u32 },
    /// wrk with a body.
    WrkPosting { connections: u32 },
    /// hey, which makes a full TLS handshake for each request (wrk would resume sessions).
    HeyClosing { connections: u32 },
    /// h2load over TLS.
    H2load { connections: u32, streams: u32 },
    /// Our own.
    WebSockets { connections: u32 },
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        key: "small-64",
        about: "200-byte answers, 64 connections",
        load: Load::Wrk { port: "http", path: "/200", connections: 64 },
        target: 0.85,
        needs: None,
    },
    Case {
        key: "small-512",
        about: "200-byte answers, 512 connections",
        load: Load::Wrk { port: "http", path: "/200", connections: 512 },
        target: 0.85,
        needs: None,
    },
    Case {
        key: "10k-64",
        about: "10 kB answers, 64 connections",
        load: Load::Wrk { port: "http", path: "/10k", connections: 64 },
        target: 1.0,
        needs: None,
    },
    Case {
        key: "10k-512",
        about: "10 kB answers, 512 connections",
        load: Load::Wrk { port: "http", path: "/10k", connections: 512 },
        target: 1.0,
        needs: None,
    },
    Case {
        key: "1m",
        about: "1 MB answers, 16 connections",
        load: Load::Wrk { port: "http", path: "/1m", connections: 16 },
        target: 1.0,
        needs: None,
    },
    Case {
        key: "new-connection",
        about: "a new connection per request, 64 at once",
        load: Load::WrkClosing { connections: 64 },
        target: 1.0,
        needs: None,
    },
    Case {
        key: "post",
        about: "POST of 10 kB, 64 connections",
        load: Load::WrkPosting { connections: 64 },
        target: 1.0,
        needs: None,
    },
    Case {
        key: "websocket",
        about: "WebSocket echo of 100 bytes, 64 connections",
        load: Load::WebSockets { connections: 64 },
        target: 1.0,
        needs: None,
    },
    Case {
        key: "tcp",
        about: "TCP pass-through, 10 kB answers, 64 connections",
        load: Load::Wrk { port: "tcp", path: "/10k", connections: 64 },
        target: 1.0,
        needs: Some("tcp"),
    },
    Case {
        key: "tls",
        about: "TLS 1.3, 200-byte answers, 64 kept connections",
        load: Load::Wrk { port: "https", path: "/200", connections: 64 },
        target: 0.85,
        needs: Some("tls"),
    },
    Case {
        key: "tls-handshake",
        about: "TLS 1.3, a full handshake per request, 32 at once",
        load: Load::HeyClosing { connections: 32 },
        target: 1.0,
        needs: Some("tls"),
    },
    Case {
        key: "http2",
        about: "HTTP/2 over TLS, 200-byte answers, 32 connections with 8 streams",
        load: Load::H2load { connections: 32, streams: 8 },
        target: 1.0,
        needs: Some("tls"),
    },
];

/// The requests that were answered well, and those that were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub good: u64,
    pub bad: u64,
}

impl Load {
    /// Puts it on a proxy for some seconds.
    ///
    /// # Errors
    /// When the tool fails, or more than one request in a thousand does.
    pub fn put_on(self, proxy: &Started, seconds: u64) -> Result<Counted> {
        let said = answer(&mut self.command(proxy, seconds)?)?;
        let counted = self.count(&said).with_context(|| format!("this is not understood:\n{said}"))?;
        if counted.good == 0 || counted.bad * 1000 > counted.good {
            bail!(
                "{}: {} requests failed beside {} good ones:\n{said}",
                proxy.program.name(),
                counted.bad,
                counted.good
            );
        }
        Ok(counted)
    }

    /// The command, for people too.
    ///
    /// # Errors
    /// When the port has no such name.
    pub fn command(self, proxy: &Started, seconds: u64) -> Result<Command> {
        let duration = format!("-d{seconds}s");
        let wrk = |connections: u32, host: &str| {
            let mut wrk = pinned(Core::Load, "wrk");
            wrk.args(["-t1", &format!("-c{connections}"), &duration, "-H", &format!("Host: {host}")]);
            wrk
        };
        let url = |scheme: &str, port: &str, path: &str| -> Result<String> {
            Ok(format!("{scheme}://127.0.0.1:{}{path}", proxy.port(port)?))
        };
        Ok(match self {
            Load::Wrk { port, path, connections } => {
                let scheme = if port == "https" { "https" } else { "http" };
                let mut wrk = wrk(connections, WWW);
                wrk.arg(url(scheme, port, path)?);
                wrk
            }
            Load::WrkClosing { connections } => {
                let mut wrk = wrk(connections, WWW);
                wrk.args(["-H", "Connection: close"]).arg(url("http", "http", "/200")?);
                wrk
            }
            Load::WrkPosting { connections } => {
                let mut wrk = wrk(connections, APP);
                wrk.arg("-s").arg(root().join("bench/proxy/post.lua")).arg(url("http", "http", "/take")?);
                wrk
            }
            Load::HeyClosing { connections } => {
                let mut hey = pinned(Core::Load, "hey");
                hey.args(["-z", &format!("{seconds}s"), "-c", &connections.to_string()]);
                hey.args(["-disable-keepalive", "-host", WWW]).arg(url("https", "https", "/200")?);
                hey
            }
            Load::H2load { connections, streams } => {
                let mut h2load = pinned(Core::Load, "h2load");
                h2load.args(["-D", &seconds.to_string(), "-c", &connections.to_string()]);
                h2load.args(["-m", &streams.to_string(), "-H", &format!(":authority: {WWW}")]);
                h2load.arg(url("https", "https", "/200")?);
                h2load
            }
            Load::WebSockets { connections } => {
                let address = super::site::local(proxy.port("http")?).to_string();
                own(&["web-sockets", &address, APP, &connections.to_string(), &seconds.to_string()])?
            }
        })
    }

    /// Reads what the tool said.
    fn count(self, said: &str) -> Option<Counted> {
        match self {
            Load::Wrk { .. } | Load::WrkClosing { .. } | Load::WrkPosting { .. } => count_of_wrk(said),
            Load::HeyClosing { .. } => count_of_hey(said),
            Load::H2load { .. } => count_of_h2load(said),
            Load::WebSockets { .. } => Some(Counted { good: said.trim().parse().ok()?, bad: 0 }),
        }
    }
}

/// This program again as a load or a server, on the processor of the load.
///
/// # Errors
/// When the system does not say where this program is.
pub fn own(arguments: &[&str]) -> Result<Command> {
    let mut command = pinned(Core::Load, std::env::current_exe()?);
    command.args(["bench", "child"]).args(arguments);
    Ok(command)
}

/// The files that the servers behind serve.
///
/// # Errors
/// When they cannot be written.
pub fn write_files(dir: &Path) -> Result<()> {
    let files = dir.join("files");
    std::fs::create_dir_all(&files)?;
    std::fs::write(files.join("10k"), "x".repeat(10_000))?;
    std::fs::write(files.join("1m"), "x".repeat(1_000_000))?;
    Ok(())
}

fn count_of_wrk(said: &str) -> Option<Counted> {
    let all: u64 = number_before(said, " requests in ")?;
    let refused: u64 = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: "))
        .map_or(Some(0), |n| n.trim().parse().ok())?;
    let errors =
        said.lines().find_map(|line| line.trim().strip_prefix("Socket errors: ")).unwrap_or_default();
    let errors: u64 = errors.split(", ").filter_map(|one| one.split(' ').nth(1)?.parse::<u64>().ok()).sum();
    Some(Counted { good: all.checked_sub(refused)?, bad: refused + errors })
}

fn count_of_hey(said: &str) -> Option<Counted> {
    // `  [200]	1234 responses`, and for errors `  [3]	Get "…": …`.
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix('[')?.split_once(']'));
    let mut counted = Counted { good: 0, bad: 0 };
    for (bracket, rest) in lines {
        match rest.trim().strip_suffix(" responses") {
            Some(count) if bracket == "200" => counted.good += count.parse::<u64>().ok()?,
            Some(count) => counted.bad += count.parse::<u64>().ok()?,
            None => counted.bad += bracket.parse::<u64>().ok()?,
        }
    }
    Some(counted)
}

fn count_of_h2load(said: &str) -> Option<Counted> {
    let good = number_before(said, " 2xx")?;
    let failed = number_before(said, " failed")?;
    Some(Counted { good, bad: failed })
}

/// The whole number right before a mark.
fn number_before(said: &str, mark: &str) -> Option<u64> {
    let before = &said[..said.find(mark)?];
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_cases_have_one_name() {
        let keys: BTreeSet<&str> = CASES.iter().map(|case| case.key).collect();
        assert_eq!(keys.len(), CASES.len());
    }

    #[test]
    fn what_wrk_counts_is_read_with_its_errors() {
        let said = "Running 2s test\n  54321 requests in 2.00s, 14.00MB read\n\
            \x20 Socket errors: connect 0, read 3, write 1, timeout 2\n  Non-2xx or 3xx responses: 21\nRequests/sec: 1\n";
        assert_eq!(count_of_wrk(said), Some(Counted { good: 54_300, bad: 27 }));
        assert_eq!(count_of_wrk("  7 requests in 2.00s, 1MB read\n"), Some(Counted { good: 7, bad: 0 }));
        assert_eq!(count_of_wrk("unable to connect"), None);
    }

    #[test]
    fn what_hey_counts_is_read_with_its_errors() {
        let said = "Status code distribution:\n  [200]\t3402 responses\n  [502]\t2 responses\n\n\
            Error distribution:\n  [3]\tGet \"https://127.0.0.1\": EOF\n";
        assert_eq!(count_of_hey(said), Some(Counted { good: 3402, bad: 5 }));
    }

    #[test]
    fn what_h2load_counts_is_read_with_its_errors() {
        let said = "requests: 3000 total, 3000 started, 3000 done, 2990 succeeded, 10 failed, 0 errored, 0 timeout\n\
            status codes: 2990 2xx, 0 3xx, 0 4xx, 10 5xx\n";
        assert_eq!(count_of_h2load(said), Some(Counted { good: 2990, bad: 10 }));
    }
}
