//! `mainstay run`: serves until it is told to stop, and goes by a changed config without closing a connection.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::input::OwnPart;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error, info, warn};

use super::RunArgs;
use super::args::front_words;
use super::take_over::{self, Predecessor, Replaced};
use crate::control::{Control, Order, Ordered, Outcome};
use crate::engine::{self, Left, Running};
use crate::exit_code::Exit;
use crate::shutdown::{Wish, Wishes};
use crate::telemetry;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the config has mistakes, or something cannot be opened or listened on.
pub fn run(args: RunArgs) -> anyhow::Result<Exit> {
    let config = args.load()?;
    let _log = telemetry::start(args.log_format)?;
    raise_descriptors();
    let predecessor = args.take_over.then(Predecessor::meet).transpose()?;
    let binary = take_over::own_binary();
    let grace = config.upgrade_grace;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        let mut wishes = Wishes::listen(args.config_path().as_deref())?;
        let data = config.data.clone();
        let inheritance = predecessor.as_ref().map(Predecessor::inherit).transpose()?.unwrap_or_default();
        let mut running = engine::take_over(config, None, inheritance).await?;
        let mut control = Control::listen(&data);
        say_where(&running);
        take_over::notify("READY=1");
        if let Some(predecessor) = predecessor {
            let line = predecessor.relieve();
            running.is_in_charge(line);
        }
        wishes.follow(&running.files());
        anyhow::Ok(follow(running, &mut wishes, &mut control, &args, binary).await)
    });
    // What still runs in the background (a look-up, a probe) is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match end? {
        End::Stopped(exit) => Ok(exit),
        End::Replaced(replaced) => finish(*replaced, grace),
    }
}

/// How serving ends.
enum End {
    Stopped(Exit),
    /// Another Mainstay serves.
    Replaced(Box<Replaced>),
}

/// Finishes what is under way, and stays the parent of what was started as long as that runs.
fn finish(replaced: Replaced, grace: Duration) -> anyhow::Result<Exit> {
    let Replaced { left: Left { proxy, reports, mut before, held }, line, .. } = replaced;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let retire = async {
            let mut retired = pin!(proxy.retire(grace));
            let (cut, hurried) = tokio::select! {
                cut = &mut retired => (cut, false),
                _ = terminate.recv() => {
                    proxy.cut();
                    (retired.await, true)
                }
            };
            info!(cut, "replaced; the last connection is gone");
            // Who was replaced before is guided and heard through this one.
            if let Some(before) = before.as_mut().filter(|_| !hurried) {
                tokio::select! {
                    () = before.ended() => {}
                    _ = terminate.recv() => {}
                }
            }
        };
        let finish = async {
            match (Arc::into_inner(line), reports) {
                (Some(line), Some(reports)) => engine::be_guided(line, &proxy, reports, retire).await,
                _ => retire.await,
            }
        };
        if held.len() > 0 {
            info!(servers = held.len(), "replaced; stays as the parent of servers that it has started");
        }
        tokio::join!(finish, held.hold());
        anyhow::Ok(())
    })?;
    Ok(Exit::Ok)
}

/// Asks for as many file descriptors as are allowed: each visitor takes one and each request under way another, and the
/// usual soft limit of 1,024 is for programs that wait with select(2).
fn raise_descriptors() {
    const FEW: u64 = 4096;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok((soft, hard))
    });
    match limit {
        Ok((_, hard)) if hard < FEW => {
            warn!(
                limit = hard,
                "few file descriptors: more visitors at once are let go; raise LimitNOFILE or ulimit -n"
            );
        }
        Ok((soft, hard)) => debug!(before = soft, now = hard, "file descriptors"),
        Err(error) => warn!(%error, "the limit of file descriptors could not be raised"),
    }
}

/// Says where it listens, one line each, for people and for the scripts that start it on ports of the kernel's choice.
fn say_where(running: &Running) {
    let mut text = format!("mainstay {}\n", env!("CARGO_PKG_VERSION"));
    for (scheme, addresses) in [("http", running.http()), ("https", running.https()), ("tcp", running.tcp())]
    {
        for address in addresses {
            text.push_str(&format!("serving    {}\n", front_words(scheme, &address)));
        }
    }
    for address in running.dns() {
        text.push_str(&format!("dns        {address}\n"));
    }
    if let Some(address) = running.pings() {
        text.push_str(&format!("pings      http://{address}/\n"));
    }
    if let Some(address) = running.status_page() {
        text.push_str(&format!("status     http://{address}/\n"));
    }
    text.push_str(&format!("dashboard  http://{}/\nready\n", running.admin()));
    let mut out = std::io::stdout().lock();
    // Nobody may be listening; that is no reason not to serve.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    info!(http = ?running.http(), admin = %running.admin(), "serving");
}

async fn follow(
    mut running: Running,
    wishes: &mut Wishes,
    control: &mut Control,
    args: &RunArgs,
    own_binary: Option<PathBuf>,
) -> End {
    loop {
        let wish = tokio::select! {
            wish = wishes.next() => wish,
            ordered = control.next() => {
                match upgrade(running, ordered, own_binary.as_deref()).await {
                    Ok(replaced) => return End::Replaced(Box::new(replaced)),
                    Err(still) => running = still,
                }
                continue;
            }
            // Serving on without a judge would be a silent half; whoever started Mainstay starts it again.
            () = running.broken() => return End::Stopped(Exit::Failed),
        };
        match wish {
            Wish::Reload => {
                reload(&mut running, args).await;
                wishes.follow(&running.files());
            }
            Wish::Stop => break,
            Wish::StopNow => {
                running.end_servers().at_once().await;
                return End::Stopped(Exit::Failed);
            }
        }
    }
    take_over::notify("STOPPING=1");
    let servers = running.end_servers();
    info!("stopping: requests under way may finish; a second signal ends at once");
    tokio::select! {
        () = running.stop() => {
            info!("stopped");
            End::Stopped(Exit::Ok)
        }
        () = told_to_stop_now(wishes) => {
            servers.at_once().await;
            warn!("ended at once, as asked");
            End::Stopped(Exit::Failed)
        }
    }
}

/// Lets another program take over. Otherwise this Mainstay goes on.
async fn upgrade(running: Running, ordered: Ordered, own: Option<&Path>) -> Result<Replaced, Running> {
    let Order::Upgrade { binary } = &ordered.order;
    let handed_over = match binary.as_deref().or(own) {
        Some(binary) => take_over::hand_over(running, binary).await,
        None => Err((
            running,
            "it is not known from which file this one was started; name one with --binary".into(),
        )),
    };
    match handed_over {
        Ok(replaced) => {
            let pid = replaced.by;
            info!(pid, "another Mainstay serves now");
            let told = format!(
                "process {pid} serves; process {} finishes what it has under way",
                std::process::id()
            );
            ordered.answer(&Outcome::Done(told)).await;
            Ok(replaced)
        }
        Err((running, why)) => {
            error!("the upgrade was not carried out, and this Mainstay goes on: {why}");
            ordered.answer(&Outcome::Refused(why)).await;
            Err(running)
        }
    }
}

async fn told_to_stop_now(wishes: &mut Wishes) {
    while wishes.next().await != Wish::StopNow {}
}

async fn reload(running: &mut Running, args: &RunArgs) {
    // Whatever becomes of the config: logs are rotated by the same signal.
    running.reopen_logs();
    if args.config_path().is_none() {
        info!("there is no config to reload: the servers were given on the command line");
        return;
    }
    let trouble = match args.load() {
        Ok(config) => match running.reload(config).await {
            Ok(()) => {
                info!(http = ?running.http(), "the changed config is in force");
                return;
            }
            Err(refused) => refused.to_string(),
        },
        Err(mistakes) => mistakes.in_one_line(),
    };
    error!("the changed config was refused, the old one stays in force: {trouble}");
    running.own(OwnPart::Config, Some(trouble)).await;
}
