//! `mainstay demo`: a small real world that Mainstay starts itself, one server of which it kills, told as it happens.
//!
//! Nothing in it is played: the servers are processes, the traffic is requests over TCP, the fault is a SIGKILL, the mail
//! goes by SMTP to a sink that shows it.

mod load;
mod mail_sink;
pub mod shop;
mod story;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use mainstay_model::effect::Record;
use mainstay_model::incident::IncidentState;
use mainstay_model::snapshot::{Health, ServerSnapshot};
use mainstay_model::{Snapshot, Wall};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use self::load::Load;
use self::mail_sink::{Mail, MailSink};
use self::story::{Story, Summary};
use crate::cli::DemoArgs;
use crate::config;
use crate::engine::{self, Running};
use crate::exit_code::Exit;
use crate::shutdown::Wishes;

/// Requests a second that the demo's visitors send: enough to notice within milliseconds, little enough for any machine.
const RATE: u32 = 200;
/// How long the world is left in peace before the fault.
const CALM: Duration = Duration::from_secs(2);
/// Until every sample server must be healthy.
const READY: Duration = Duration::from_secs(30);
/// Until the incident must be closed and told.
const OVER: Duration = Duration::from_secs(90);
/// The server that is killed.
const VICTIM: &str = "shop/app-2";

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
    let mut wishes = Wishes::listen(None)?;
    let data = DataFolder::make()?;
    let (sink, mails) = MailSink::start().await.context("the demo's mail sink")?;
    let mut running = start(&args, &data, sink.address().port()).await?;
    let say = Teller { quiet: args.json };
    let http = *running.http().first().context("the demo listens nowhere")?;
    say.line("");
    say.line(&format!(
        "  shop       http://{http}/   three sample servers, started and supervised by Mainstay"
    ));
    say.line(&format!("  dashboard  http://{}/", running.admin()));
    say.line("");

    let watching = Watching { events: running.events(), snapshots: running.snapshots(), mails };
    let ended = tokio::select! {
        ended = tell(&args, watching, http, &say) => ended,
        () = running.broken() => Err(anyhow::anyhow!("the engine's loop has panicked")),
        _ = wishes.next() => Ok(Exit::Ok),
    };
    let servers = running.end_servers();
    tokio::select! {
        () = running.stop() => {}
        // A second Ctrl-C.
        _ = wishes.next() => servers.at_once().await,
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

async fn start(args: &DemoArgs, data: &DataFolder, smtp: u16) -> anyhow::Result<Running> {
    let exe = std::env::current_exe().context("where the program itself is")?;
    let text = include_str!("demo.toml")
        .replace("{data}", &data.0.display().to_string())
        .replace("{http}", &free_or_any(args.listen, 8080).to_string())
        .replace("{admin}", &free_or_any(args.admin, 9900).to_string())
        .replace("{exe}", &exe.display().to_string())
        .replace("{smtp}", &smtp.to_string());
    let config = config::parse(&text, "demo.toml", &data.0, &|_| None)?;
    Ok(engine::start(config).await?)
}

/// The story from the calm before to the summary after, and on until Ctrl-C.
async fn tell(
    args: &DemoArgs,
    mut watching: Watching,
    http: SocketAddr,
    say: &Teller,
) -> anyhow::Result<Exit> {
    let victim = healthy_victim(&mut watching.snapshots).await?;
    let load = Load::start(http, RATE);
    say.line(&format!("  traffic    {RATE} requests/s from the demo's own visitors"));
    tokio::time::sleep(CALM).await;

    let pid = victim.process.and_then(|process| process.pid).context("the victim has no process")?;
    let mut world = World { story: Story::default(), say, followed: None, mails: 0 };
    say.line("");
    let fault = wall_now();
    world.story.fault(fault);
    kill(pid)?;
    say.line(&format!("       +0 ms  fault         {VICTIM} (pid {pid}) is killed with SIGKILL"));
    let over = world.until_over(&mut watching, Instant::now() + OVER).await;

    let mut load = Some(load);
    let counted = match load.take_if(|_| args.once) {
        Some(load) => load.stop().await,
        None => load.as_ref().map(Load::snapshot).unwrap_or_default(),
    };
    let snapshot = watching.snapshots.borrow().clone();
    let incident =
        world.followed.and_then(|id| snapshot.incidents.iter().find(|incident| incident.id == id).cloned());
    let saved = snapshot.services.iter().map(|service| service.totals.saved).sum();
    let summary = Summary::of(incident.as_deref(), fault, &counted, saved);
    let text = match args.json {
        true => serde_json::to_string(&summary)?,
        false => format!("\n{}", summary.for_a_person(counted.slowest())),
    };
    let _ = writeln!(std::io::stdout(), "{text}");
    if args.once {
        return Ok(if summary.is_good() && over { Exit::Ok } else { Exit::Failed });
    }
    say.line("  It goes on serving. Look at the dashboard, or kill a server yourself:");
    for server in watching.snapshots.borrow().services.iter().flat_map(|service| &service.servers) {
        if let Some(pid) = server.process.as_ref().and_then(|process| process.pid) {
            say.line(&format!("      kill -9 {pid}    # {}", server.id));
        }
    }
    say.line("  Ctrl-C ends it.\n");
    loop {
        world.until_over(&mut watching, Instant::now() + OVER).await;
    }
}

async fn healthy_victim(snapshots: &mut watch::Receiver<Arc<Snapshot>>) -> anyhow::Result<ServerSnapshot> {
    let all_healthy = |snapshot: &Arc<Snapshot>| {
        let mut servers = snapshot.services.iter().flat_map(|service| &service.servers).peekable();
        servers.peek().is_some() && servers.all(|server| server.health == Health::Healthy)
    };
    let snapshot = match timeout_at(Instant::now() + READY, snapshots.wait_for(all_healthy)).await {
        Ok(Ok(snapshot)) => snapshot.clone(),
        Ok(Err(_)) => bail!("Mainstay stopped before its sample servers were healthy"),
        Err(_) => bail!("the sample servers were not healthy within {} s", READY.as_secs()),
    };
    let victim = VICTIM.parse()?;
    snapshot.server(&victim).cloned().with_context(|| format!("the demo has no {VICTIM}"))
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).context("a process id")?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).context("killing the victim")
}

fn wall_now() -> Wall {
    Wall(jiff::Timestamp::now().as_millisecond())
}

/// What the demo watches its Mainstay by.
struct Watching {
    events: broadcast::Receiver<Record>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    mails: mpsc::Receiver<Mail>,
}

/// What the demo has seen of its world.
struct World<'a> {
    story: Story,
    say: &'a Teller,
    /// The incident of the fault.
    followed: Option<mainstay_model::IncidentId>,
    mails: u32,
}

impl World<'_> {
    /// Tells what happens until an incident was closed and its mails came; `false` when the deadline came first.
    async fn until_over(&mut self, watching: &mut Watching, deadline: Instant) -> bool {
        let mut resolved = false;
        self.mails = 0;
        loop {
            if resolved && self.mails >= 2 {
                return true;
            }
            tokio::select! {
                event = watching.events.recv() => match event {
                    Ok(record) => resolved |= self.recorded(&record),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        self.say.line(&format!("              ({missed} events were too quick to tell)"));
                    }
                    Err(broadcast::error::RecvError::Closed) => return false,
                },
                Some(mail) = watching.mails.recv() => self.mail(&mail),
                () = tokio::time::sleep_until(deadline) => return false,
            }
        }
    }

    /// Tells one change of the record; `true` when it closed an incident.
    fn recorded(&mut self, record: &Record) -> bool {
        if let Some(line) = self.story.recorded(record) {
            self.say.line(&line);
        }
        let Record::Incident(incident) = record else { return false };
        self.followed.get_or_insert(incident.id);
        incident.state == IncidentState::Resolved
    }

    fn mail(&mut self, mail: &Mail) {
        self.mails += 1;
        self.say.line(&self.story.mail(wall_now(), &mail.subject));
        for line in mail.text.lines().take_while(|line| !line.starts_with("What happened")).take(8) {
            self.say.line(&format!("              | {line}"));
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

/// A data directory for one demo, removed at its end.
struct DataFolder(std::path::PathBuf);

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
