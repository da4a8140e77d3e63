//! `mainstay demo`: a small real world that Mainstay starts itself, and what goes wrong in it, told as it happens.
//!
//! Nothing in it is played: the servers are processes, the traffic is requests over TCP, the faults are signals, releases and
//! crowds, the mail goes by SMTP to a sink that shows it.

mod fault;
mod load;
mod mail_sink;
pub mod shop;
mod story;
mod summary;
mod world;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use mainstay_model::Endpoint;
use tokio::sync::{mpsc, watch};

use self::fault::Fault;
use self::mail_sink::MailSink;
use self::summary::{Summary, table};
use self::world::World;
use crate::cli::DemoArgs;
use crate::config;
use crate::engine::{self, Running};
use crate::exit_code::Exit;
use crate::shutdown::Wishes;
use crate::web::demo::{Demo, DemoState};

/// The demo's service.
const SERVICE: &str = "shop";
/// What its visitors ask for, in turn.
const PATHS: &[&str] = &["/", "/search", "/?page=2"];

/// Runs the demo.
///
/// # Errors
/// When the demo's world cannot be started.
pub fn run(args: DemoArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(play(args))
}

async fn play(args: DemoArgs) -> anyhow::Result<Exit> {
    // Before there is anything to clean up.
    let mut stops = Wishes::listen(None)?;
    let data = DataFolder::make()?;
    let releases = Releases::write(&data.0)?;
    let (sink, mails) = MailSink::start().await.context("the demo's mail sink")?;
    // One more wish waits for the fault under way; whoever has a third is told to wait.
    let (wishes, mut wished) = mpsc::channel(1);
    let (state, shown) = watch::channel(DemoState::default());
    let faults = Fault::ALL.iter().map(|fault| (fault.id(), fault.button())).collect();
    let demo = Demo { faults, wishes, state: shown };
    let mut running = start(&args, &data, sink.address().port(), demo).await?;
    let say = Teller { quiet: args.json };
    let http = running.http().first().and_then(Endpoint::tcp).context("the demo listens nowhere")?;
    say.line("");
    say.line(&format!(
        "  shop       http://{http}/   three sample servers, started and supervised by Mainstay"
    ));
    say.line(&format!("  dashboard  http://{}/   with buttons that break something", running.admin()));
    say.line("");

    let mut world = World {
        events: running.events(),
        snapshots: running.snapshots(),
        mails,
        http,
        admin: running.admin(),
        bad_release: releases.bad,
        state,
        say: &say,
    };
    let ended = tokio::select! {
        ended = tell(&args, &mut world, &mut wished) => ended,
        () = running.broken() => Err(anyhow::anyhow!("the engine's loop has panicked")),
        _ = stops.next() => Ok(Exit::Ok),
    };
    let servers = running.end_servers();
    tokio::select! {
        () = running.stop() => {}
        // A second Ctrl-C.
        _ = stops.next() => servers.at_once().await,
    }
    ended
}

/// The first address that is free: the usual one, so that the lines of the README hold, or one that the kernel chooses.
fn free_or_any(asked: Option<SocketAddr>, usual: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
    asked.unwrap_or_else(|| match std::net::TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    })
}

async fn start(args: &DemoArgs, data: &DataFolder, smtp: u16, demo: Demo) -> anyhow::Result<Running> {
    let text = include_str!("demo.toml")
        .replace("{data}", &data.0.display().to_string())
        .replace("{http}", &free_or_any(args.listen, 8080).to_string())
        .replace("{admin}", &free_or_any(args.admin, 9900).to_string())
        .replace("{smtp}", &smtp.to_string());
    let config = config::parse(&text, "demo.toml", &data.0, &|_| None)?;
    Ok(engine::start(config, Some(demo)).await?)
}

/// The story, and on until Ctrl-C: whatever is wished.
async fn tell(
    args: &DemoArgs,
    world: &mut World<'_>,
    wished: &mut mpsc::Receiver<String>,
) -> anyhow::Result<Exit> {
    let load = world.begin().await?;
    let faults = if args.all { &Fault::ALL[..] } else { &Fault::ALL[..1] };
    let mut summaries = Vec::new();
    for fault in faults {
        let summary = world.play(*fault, &load).await?;
        world.say.line(&format!("\n{}", summary.for_a_person()));
        summaries.push(summary);
    }
    let text = match (args.json, args.all) {
        (true, true) => serde_json::to_string(&serde_json::json!({ "faults": summaries }))?,
        (true, false) => serde_json::to_string(&summaries[0])?,
        (false, true) => table(&summaries),
        (false, false) => String::new(),
    };
    if !text.is_empty() {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    if args.once {
        return Ok(if summaries.iter().all(Summary::is_good) { Exit::Ok } else { Exit::Failed });
    }
    world.say.line(
        "  It goes on serving. Break something with the dashboard's buttons, or kill a server yourself:",
    );
    for (server, pid) in world.processes() {
        world.say.line(&format!("      kill -9 {pid}    # {server}"));
    }
    world.say.line("  Ctrl-C ends it.\n");
    loop {
        tokio::select! {
            Some(wish) = wished.recv() => {
                let Some(fault) = Fault::ALL.into_iter().find(|fault| fault.id() == wish) else { continue };
                match world.play(fault, &load).await {
                    Ok(summary) => world.say.line(&format!("\n{}", summary.for_a_person())),
                    // A world that was broken by hand as well may not be fit for this one.
                    Err(error) => world.refuse(fault, &format!("{error:#}")),
                }
            }
            () = world.tell_what_happens() => {}
        }
    }
}

/// Prints the story, or nothing where a program reads the output.
struct Teller {
    quiet: bool,
}

impl Teller {
    fn line(&self, text: &str) {
        if !self.quiet {
            // Whoever read it may have read enough.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }
}

/// The releases of the demo's shop, each a folder with a program.
struct Releases {
    bad: PathBuf,
}

impl Releases {
    /// Release 1, which serves, and release 2, which has a mistake.
    fn write(folder: &Path) -> anyhow::Result<Self> {
        let exe = std::env::current_exe().context("where the program itself is")?;
        let exe = exe.to_str().context("the path of the program is not UTF-8")?.replace('\'', r"'\''");
        let folder = folder.join("releases");
        for (release, mistake) in [(1, ""), (2, " --fail-share 0.4")] {
            let text = format!(
                "#!/bin/sh\nexec '{exe}' sample-shop --workers 3 --delay-ms {}{mistake} --release {release} \"$@\"\n",
                fault::USUAL_MS,
            );
            let path = folder.join(release.to_string());
            std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
            let mut program = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o700)
                .open(path.join("shop"))
                .with_context(|| format!("writing {}/shop", path.display()))?;
            program.write_all(text.as_bytes())?;
        }
        Ok(Self { bad: folder.join("2") })
    }
}

/// A data directory for one demo, removed at its end.
struct DataFolder(PathBuf);

impl DataFolder {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!(
            "mainstay-demo-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        ));
        // Not there before and nobody else's: others may write to the folder for temporary files.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            let _ = writeln!(std::io::stderr(), "{} could not be removed: {error}", self.0.display());
        }
    }
}
