//! `mainstay drain`, `mainstay maintenance SERVER` and `mainstay ready`: what a person wants of a server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use mainstay_model::ServerId;
use mainstay_model::input::AdminState;
use mainstay_model::snapshot::ServerSnapshot;
use mainstay_model::time::Wall;
use serde_json::json;

use super::ask::AskArgs;
use crate::config::duration_from_text;
use crate::exit_code::Exit;

/// Between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(200);
/// What is left at the deadline is told so, and its end is seen a moment later.
const AFTER_THE_END: Duration = Duration::from_secs(10);

/// Options of `mainstay drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
The server gets nothing new; what it has under way goes on for at most `drain-timeout` of its
service, and is then ended. It stays so until `mainstay ready`, also over a restart of Mainstay.

Examples:
  mainstay drain shop/app-1
  mainstay drain shop/app-1 --wait && systemctl restart shop@1 && mainstay ready shop/app-1

Exit status: 0 it drains (with --wait: nothing is under way there any more), 1 it could not be
done (with --wait: not in time; it goes on draining).")]
pub struct DrainArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Wait until nothing is under way there any more, for at most so long; without a time until
    /// what is left has been ended
    #[arg(long, value_name = "TIME", value_parser = duration_from_text)]
    wait: Option<Option<Duration>>,
}

/// Options of `mainstay ready`.
#[derive(Debug, Args)]
#[command(after_help = "\
The server gets traffic again as soon as it is healthy, slowly at first.

Examples:
  mainstay ready shop/app-1

Exit status: 0 done, 1 it could not be done.")]
pub struct ReadyArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Of which server, and who wants it.
#[derive(Debug, Args)]
struct ChangeArgs {
    /// The server, SERVICE/SERVER
    #[arg(value_name = "SERVER")]
    server: ServerId,
    /// Who you are, for the record
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs `mainstay drain`.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses, or it takes longer than is to be waited.
pub fn drain(args: DrainArgs) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let mut server = args.change.order(AdminState::Draining)?;
    super::print(&progress(&server))?;
    let Some(patience) = args.wait else { return Ok(Exit::Ok) };
    let patience = patience.unwrap_or_else(|| time_left(&server) + AFTER_THE_END);
    let (mut said, mut in_time) = (server.under_way(), true);
    while server.drain.is_some_and(|drain| !drain.done) {
        if begun.elapsed() >= patience {
            bail!("{} still has {} under way; it goes on draining", server.id, server.under_way());
        }
        in_time = !time_left(&server).is_zero();
        std::thread::sleep(LOOK);
        let id = &args.change.server;
        let answer = args.change.ask.get(&format!("/api/v1/servers/{}/{}", id.service, id.name))?;
        server = serde_json::from_slice(&answer).context("it answered, but not as this version does")?;
        if server.admin != AdminState::Draining {
            bail!("{} was made {} meanwhile", server.id, server.admin);
        }
        if said != server.under_way() && server.in_flight > 0 {
            super::print(&progress(&server))?;
            said = server.under_way();
        }
    }
    let ended = if in_time { String::new() } else { format!("; its time was over, and {said} ended then") };
    super::print(&format!("{} has nothing under way{ended}\n", server.id))?;
    Ok(Exit::Ok)
}

fn progress(server: &ServerSnapshot) -> String {
    match server.in_flight {
        0 => format!("{} drains\n", server.id),
        _ => format!(
            "{} drains: {} under way{}\n",
            server.id,
            server.under_way(),
            server.drain_ends(wall_now())
        ),
    }
}

fn wall_now() -> Wall {
    Wall(jiff::Timestamp::now().as_millisecond())
}

/// Until what is still under way is ended.
fn time_left(server: &ServerSnapshot) -> Duration {
    let left = server.drain.map_or(0, |drain| drain.until.ms_since(wall_now()));
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

/// Runs `mainstay ready`.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses.
pub fn ready(args: ReadyArgs) -> anyhow::Result<Exit> {
    let server = args.change.order(AdminState::Ready)?;
    super::print(&format!("{} is ready; it is {}\n", server.id, server.health.as_str()))?;
    Ok(Exit::Ok)
}

/// Takes a server out of service for work on it, for `mainstay maintenance SERVER`.
///
/// # Errors
/// When the running Mainstay cannot be asked or refuses.
pub(super) fn take_out(server: ServerId, by: String, ask: AskArgs) -> anyhow::Result<Exit> {
    let server = ChangeArgs { server, by, ask }.order(AdminState::Maintenance)?;
    super::print(&format!("{} is in maintenance\n", server.id))?;
    Ok(Exit::Ok)
}

impl ChangeArgs {
    /// Gives the order; the server as it is then.
    fn order(&self, state: AdminState) -> anyhow::Result<ServerSnapshot> {
        let ServerId { service, name } = &self.server;
        let body = json!({ "state": state, "by": self.by });
        let answer = self.ask.post(&format!("/api/v1/servers/{service}/{name}/state"), &body)?;
        serde_json::from_slice(&answer).context("it answered, but not as this version of Mainstay does")
    }
}
