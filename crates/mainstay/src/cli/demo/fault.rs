//! What the demo does to its own world, and how it does it: signals to real processes, real releases, real requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use mainstay_model::snapshot::{ServerSnapshot, ServiceSnapshot};
use mainstay_model::{Endpoint, Snapshot};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::Serialize;
use tokio::time::Instant;

use super::load::{Crowd, Load, LoadSnapshot};
use super::{PATHS, SERVICE};

/// The server that is killed.
const KILLED: &str = "app-2";
/// The server that hangs.
const HANGS: &str = "app-3";
/// The server that becomes slow.
const SLOW: &str = "app";
/// What each of its requests then takes, milliseconds.
const SLOW_MS: u64 = 2_000;
/// What each request of a server takes otherwise, milliseconds; as the demo's releases say.
pub const USUAL_MS: u64 = 20;
/// A slow server that was not replaced by a new process is left slow for so long.
const SLOW_FOR: Duration = Duration::from_secs(8);
/// The crowd that is far too much for the servers there are, and a little too much for as many as there may be.
const RUSH: Crowd =
    Crowd { per_second: 850, first: Ipv4Addr::new(127, 0, 2, 1), addresses: 250, paths: PATHS };
/// It stays until nobody has been refused for so long,
const RUSH_CALM: Duration = Duration::from_secs(3);
/// or for so long.
const RUSH_FOR: Duration = Duration::from_secs(12);
/// Three that flood it.
const FLOOD: Crowd =
    Crowd { per_second: 600, first: Ipv4Addr::new(127, 6, 6, 1), addresses: 3, paths: &["/", "/?again"] };
/// They go on for so long.
const FLOOD_FOR: Duration = Duration::from_secs(10);

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A server's process is killed.
    Kill,
    /// A server's process stops answering.
    Hang,
    /// A server takes two seconds for each request, and its probes are fine.
    Slow,
    /// A release that fails two requests of five is deployed.
    BadRelease,
    /// More visitors come than the servers can answer.
    Overload,
    /// Three addresses flood it.
    Attack,
    /// All servers are killed at once.
    AllDown,
}

impl Fault {
    /// Every one, in the order in which `--all` shows them.
    pub const ALL: [Fault; 7] = [
        Fault::Kill,
        Fault::Hang,
        Fault::Slow,
        Fault::BadRelease,
        Fault::Overload,
        Fault::Attack,
        Fault::AllDown,
    ];

    /// The word in addresses and in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Hang => "hang",
            Fault::Slow => "slow",
            Fault::BadRelease => "bad-release",
            Fault::Overload => "overload",
            Fault::Attack => "attack",
            Fault::AllDown => "all-down",
        }
    }

    /// The words on its button.
    pub fn button(self) -> &'static str {
        match self {
            Fault::Kill => "Kill a server",
            Fault::Hang => "Hang a server",
            Fault::Slow => "Make a server slow",
            Fault::BadRelease => "Deploy a bad release",
            Fault::Overload => "Send a crowd",
            Fault::Attack => "Flood it from three addresses",
            Fault::AllDown => "Kill all servers",
        }
    }

    /// What it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Fault::Kill => "a server is killed",
            Fault::Hang => "a server hangs",
            Fault::Slow => "a server is slow",
            Fault::BadRelease => "a bad release",
            Fault::Overload => "too many visitors",
            Fault::Attack => "an attack",
            Fault::AllDown => "all servers killed",
        }
    }
}

/// What goes on doing harm until it is lifted.
#[derive(Debug)]
pub enum Harm {
    /// Nothing; what was done was done at once.
    Done,
    /// A process that is slow.
    Slow { pid: u32, address: SocketAddr, since: Instant },
    /// More visitors, how many were refused when that was last looked at, and when one last was.
    Rush { load: Load, refused: u64, at: Instant, since: Instant },
    /// Attackers.
    Flood { load: Load, since: Instant },
}

/// What was done, in a sentence, and what goes on.
pub struct Begun {
    pub said: String,
    pub harm: Harm,
}

/// Where things are.
pub struct Ground<'a> {
    pub snapshot: &'a Snapshot,
    /// Where the demo serves.
    pub http: SocketAddr,
    /// Its dashboard.
    pub admin: SocketAddr,
    /// The bad release.
    pub bad_release: &'a std::path::Path,
}

impl Ground<'_> {
    fn service(&self) -> anyhow::Result<&ServiceSnapshot> {
        let mut services = self.snapshot.services.iter();
        services.find(|service| service.id.as_str() == SERVICE).context("the demo has lost its service")
    }

    fn server(&self, name: &str) -> anyhow::Result<&ServerSnapshot> {
        let mut servers = self.service()?.servers.iter();
        servers.find(|server| &*server.id.name == name).with_context(|| format!("the demo has no {name}"))
    }
}

/// Does it.
///
/// # Errors
/// When the world is not as the demo made it.
pub async fn begin(fault: Fault, ground: &Ground<'_>) -> anyhow::Result<Begun> {
    let done = |said: String| Begun { said, harm: Harm::Done };
    Ok(match fault {
        Fault::Kill => {
            let server = ground.server(KILLED)?;
            let pid = signal(server, Signal::SIGKILL)?;
            done(format!("{} (pid {pid}) is killed with SIGKILL", server.id))
        }
        Fault::Hang => {
            let server = ground.server(HANGS)?;
            let pid = signal(server, Signal::SIGSTOP)?;
            done(format!(
                "{} (pid {pid}) is stopped with SIGSTOP: it takes requests and answers none",
                server.id
            ))
        }
        Fault::Slow => {
            let server = ground.server(SLOW)?;
            let (pid, address) = (
                pid(server)?,
                server.address.as_ref().and_then(Endpoint::tcp).context("it listens nowhere")?,
            );
            set_delay(address, SLOW_MS).await?;
            let said =
                format!("{} takes {} s for each request now; its probes are fine", server.id, SLOW_MS / 1000);
            Begun { said, harm: Harm::Slow { pid, address, since: Instant::now() } }
        }
        Fault::BadRelease => {
            let path = ground.bad_release.display();
            let body = serde_json::json!({ "path": ground.bad_release, "force": false, "by": "the demo" });
            let url = format!("http://{}/api/v1/services/{SERVICE}/deploy", ground.admin);
            let answer =
                reqwest::Client::new().post(url).json(&body).send().await.context("asking for the deploy")?;
            if !answer.status().is_success() {
                bail!("the deploy was refused: {}", answer.text().await.unwrap_or_default());
            }
            done(format!("mainstay deploy {SERVICE} {path}: a release that fails two requests of five"))
        }
        Fault::Overload => {
            let said = format!(
                "{} more requests/s come, honest ones from {} addresses",
                RUSH.per_second, RUSH.addresses
            );
            let (load, now) = (Load::start(ground.http, RUSH), Instant::now());
            Begun { said, harm: Harm::Rush { load, refused: 0, at: now, since: now } }
        }
        Fault::Attack => {
            let said = format!("{} requests/s come from {} addresses", FLOOD.per_second, FLOOD.addresses);
            Begun { said, harm: Harm::Flood { load: Load::start(ground.http, FLOOD), since: Instant::now() } }
        }
        Fault::AllDown => {
            let servers = ground.service()?.servers.iter().filter(|server| server.in_rotation);
            let killed = servers.map(|server| signal(server, Signal::SIGKILL)).filter(Result::is_ok).count();
            done(format!("all {killed} servers are killed with SIGKILL"))
        }
    })
}

/// Of those who came with the harm and are gone: visitors like others, or attackers.
#[derive(Debug, Default)]
pub struct Gone {
    pub visitors: LoadSnapshot,
    pub attackers: LoadSnapshot,
}

impl Harm {
    /// Whether nothing goes on any more.
    pub fn is_over(&self) -> bool {
        matches!(self, Harm::Done)
    }

    /// Ends it when it has lasted long enough; says so in a sentence, if it did.
    pub async fn tend(&mut self, snapshot: &Snapshot, gone: &mut Gone) -> Option<String> {
        match self {
            Harm::Done => None,
            Harm::Slow { pid, address, since } => {
                let servers = snapshot.services.iter().flat_map(|service| &service.servers);
                let same = servers.filter_map(|s| s.process.as_ref()?.pid).any(|running| running == *pid);
                if same && since.elapsed() < SLOW_FOR {
                    return None;
                }
                let said = match same && set_delay(*address, USUAL_MS).await.is_ok() {
                    true => "what made the server slow is over".to_owned(),
                    false => "the slow process is gone".to_owned(),
                };
                *self = Harm::Done;
                Some(said)
            }
            Harm::Rush { load, refused, at, since } => {
                let now = load.snapshot().failed;
                if now > *refused {
                    (*refused, *at) = (now, Instant::now());
                }
                if at.elapsed() < RUSH_CALM && since.elapsed() < RUSH_FOR {
                    return None;
                }
                if let Harm::Rush { load, .. } = std::mem::replace(self, Harm::Done) {
                    gone.visitors = load.stop().await;
                }
                Some("the crowd has what it wanted and goes".to_owned())
            }
            Harm::Flood { since, .. } if since.elapsed() < FLOOD_FOR => None,
            Harm::Flood { .. } => {
                if let Harm::Flood { load, .. } = std::mem::replace(self, Harm::Done) {
                    gone.attackers = load.stop().await;
                }
                Some("the flood ends".to_owned())
            }
        }
    }
}

fn pid(server: &ServerSnapshot) -> anyhow::Result<u32> {
    let process = server.process.as_ref().and_then(|process| process.pid);
    process.with_context(|| format!("{} has no process", server.id))
}

fn signal(server: &ServerSnapshot, signal: Signal) -> anyhow::Result<u32> {
    let pid = pid(server)?;
    let process = Pid::from_raw(i32::try_from(pid).context("a process id")?);
    nix::sys::signal::kill(process, signal).with_context(|| format!("{signal} to {}", server.id))?;
    Ok(pid)
}

async fn set_delay(server: SocketAddr, ms: u64) -> anyhow::Result<()> {
    let url = format!("http://{server}/delay?ms={ms}");
    reqwest::Client::new().post(url).send().await?.error_for_status()?;
    Ok(())
}
