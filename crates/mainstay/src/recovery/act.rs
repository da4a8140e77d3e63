//! Restarts servers that Mainstay does not start itself, and looks into what became of a restart that an earlier run had begun.
//! Who does it is one file each; what all of them have in common is here: the deadline, the other machine, what is told.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::effect::{ActionOrder, LookOrder};
use mainstay_model::input::{Exit, LookedInto};
use mainstay_model::{ActionId, Input, ServerId, Wall};
use tokio::time::{Instant, sleep};

use super::log::Tail;
use super::program::{Ended, Program, Running};
use super::{Shared, Supervisor, command, docker, lock, ssh, systemd};
use crate::config::{RestartHow, RestartSpec};

/// What is read before a restart may take so long; the restart is what matters.
pub(super) const CAPTURE_TAKES: Duration = Duration::from_secs(5);
/// Last lines that are kept of what a server wrote.
pub(super) const LAST_LINES: usize = 20;
/// Lines that are read of what a program wrote.
const LINES_MAX: usize = 100;
/// Between two looks at something that is still under way, or cannot be asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A restart that nothing is to be seen of so long after it was begun was never asked for.
pub(super) const SETTLES: Duration = Duration::from_secs(5);

/// One restart, or a look into one.
pub(super) struct Act<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) action: ActionId,
    pub(super) server: &'a ServerId,
    pub(super) spec: &'a RestartSpec,
    /// It is given up then.
    pub(super) deadline: Instant,
}

/// A program that was run.
pub(super) struct Ran {
    /// Exit code 0.
    pub(super) well: bool,
    pub(super) ended: Ended,
    /// Its last lines, oldest first.
    pub(super) lines: Vec<String>,
}

impl Ran {
    /// The last line that says something.
    pub(super) fn last_line(&self) -> Option<&str> {
        self.lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty())
    }

    /// How it ended, with its last words.
    pub(super) fn words(&self) -> String {
        match self.last_line() {
            Some(line) => format!("{}; the last line it wrote: {}", self.ended, short(line)),
            None => self.ended.to_string(),
        }
    }

    /// One of its lines has this in it.
    pub(super) fn says(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }
}

impl Supervisor {
    /// How servers are restarted from now on that Mainstay does not start itself. What is under way is left alone.
    pub fn apply_restarts(&self, restarts: std::collections::BTreeMap<ServerId, RestartSpec>) {
        *lock(&self.shared.restarts) = restarts;
    }

    /// Carries out a restart in a task of its own; one [`Input::Outcome`] tells how it ended.
    pub(super) fn act(&self, order: ActionOrder, spec: RestartSpec) {
        let shared = Arc::clone(&self.shared);
        let running = Running::of(&shared);
        tokio::spawn(async move {
            let _running = running;
            let server = &order.server;
            let deadline = Instant::now() + spec.deadline;
            let act = Act { shared: &shared, action: order.id, server, spec: &spec, deadline };
            let result = act.restart(&order).await;
            match &result {
                Ok(()) => tracing::info!(%server, by = %spec, "restarted"),
                Err(error) => tracing::warn!(%server, by = %spec, error, "not restarted"),
            }
            shared.report(Input::Outcome { action: order.id, result }).await;
        });
    }

    /// Looks into what became of a restart that an earlier run had begun; one [`Input::LookedInto`] tells.
    pub fn look_into(&self, order: LookOrder) {
        let shared = Arc::clone(&self.shared);
        let spec = lock(&shared.restarts).get(&order.server).cloned();
        tokio::spawn(async move {
            let found = match spec {
                Some(spec) => {
                    let deadline = Instant::now() + order.deadline;
                    let (action, server) = (order.action, &order.server);
                    Act { shared: &shared, action, server, spec: &spec, deadline }.found(order.begun_at).await
                }
                None => LookedInto::NotKnown("its restart left the config".to_owned()),
            };
            tracing::info!(server = %order.server, ?found, "looked into a restart of an earlier run");
            let (action, server) = (order.action, order.server);
            shared.report(Input::LookedInto { action, server, found }).await;
        });
    }
}

impl Act<'_> {
    async fn restart(&self, order: &ActionOrder) -> Result<(), String> {
        if self.shared.closing().is_some() {
            return Err("Mainstay is stopping".to_owned());
        }
        let mut cut = self.shared.cut_programs.subscribe();
        let restart = async {
            match &self.spec.how {
                RestartHow::Systemd { unit, systemctl } => systemd::restart(self, unit, systemctl).await,
                RestartHow::Docker { container, socket } => docker::restart(self, container, socket).await,
                RestartHow::Command(argv) => command::restart(self, argv, order).await,
            }
        };
        tokio::select! {
            biased;
            result = restart => result,
            _ = cut.wait_for(|cut| *cut) => Err("Mainstay is stopping, and did not wait for it".to_owned()),
        }
    }

    /// Asks until there is an answer, or the time is over.
    async fn found(&self, begun_at: Wall) -> LookedInto {
        loop {
            let found = match &self.spec.how {
                RestartHow::Systemd { unit, systemctl } => {
                    systemd::look_into(self, unit, systemctl, begun_at).await
                }
                RestartHow::Docker { container, socket } => {
                    docker::look_into(self, container, socket, begun_at).await
                }
                RestartHow::Command(argv) => Ok(Some(command::look_into(argv))),
            };
            let late = Instant::now() + LOOK_AGAIN >= self.deadline;
            match found {
                Ok(Some(found)) => return found,
                Ok(None) if late => {
                    return LookedInto::NotKnown("it is still under way".to_owned());
                }
                Err(error) if late => return LookedInto::NotKnown(error),
                Ok(None) | Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// What is left of the time.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs a program where the server is, without anything to read.
    ///
    /// # Errors
    /// It could not be run, or the other machine could not be reached.
    pub(super) async fn run(&self, argv: &[String], within: Duration) -> Result<Ran, String> {
        self.run_with(argv, Vec::new(), within).await
    }

    /// The same, with something to read.
    ///
    /// # Errors
    /// As [`Act::run`].
    pub(super) async fn run_with(
        &self,
        argv: &[String],
        context: Vec<u8>,
        within: Duration,
    ) -> Result<Ran, String> {
        let remote = self.spec.over.as_ref();
        let argv = remote.map_or_else(|| argv.to_vec(), |remote| ssh::argv(remote, argv));
        let program = argv.first().cloned().unwrap_or_default();
        let run = Program {
            mark: self.mark(),
            log: self.server.clone(),
            wanted_by: "Mainstay".to_owned(),
            argv,
            dir: self.spec.dir.clone(),
            context,
            deadline: within.min(self.left()),
        };
        let tail = Arc::<Mutex<Tail>>::default();
        let not_run = |error: io::Error| match (error.kind(), remote) {
            (io::ErrorKind::NotFound, Some(_)) => {
                "there is no ssh on this machine: install openssh-client".to_owned()
            }
            _ => format!("cannot run {program}: {error}; check {}", self.key()),
        };
        let ended = run.run(self.shared, &tail).await.map_err(not_run)?;
        let lines = tail.lock().unwrap_or_else(PoisonError::into_inner).lines_of_process(LINES_MAX);
        let ran = Ran { well: ended == Ended::Exit(Exit::Code(0)), ended, lines };
        match remote.and_then(|remote| ssh::flaw(remote, &ran)) {
            Some(flaw) => Err(flaw),
            None => Ok(ran),
        }
    }

    /// Marks all that it starts here.
    pub(super) fn mark(&self) -> ServerId {
        self.server.service.server(format!("@restart-{}-{}", self.server.name, self.action.0))
    }

    /// Tells what was seen of the server.
    pub(super) async fn captured(&self, text: String, lines: Vec<String>) {
        self.shared
            .report(Input::Captured { server: self.server.clone(), text, lines, threads: false })
            .await;
    }

    /// Where in the config it is written how the server is restarted.
    pub(super) fn key(&self) -> String {
        format!("service.{}.server.{}.restart", self.server.service, self.server.name)
    }

    /// On which machine, if it is another one: ` on 10.0.0.11`.
    pub(super) fn there(&self) -> String {
        self.spec.over.as_ref().map_or_else(String::new, |remote| format!(" on {}", remote.host))
    }
}

/// How long ago that was, by this machine's clock.
pub(super) fn age_of(begun_at: Wall) -> Duration {
    let now = jiff::Timestamp::now().as_millisecond();
    Duration::from_millis(u64::try_from(now - begun_at.0).unwrap_or(0))
}

/// Text of others, for a sentence of ours.
pub(super) fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

/// A span for people: `3 s`.
pub(super) fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs())
}

pub(super) fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|word| (*word).to_owned()).collect()
}
