//! Runs the user's own `switch` command, its fence, and its way back: once for each order, with what is known on its standard input, its output kept, and
//! killed with all that it started at its deadline.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::effect::SwitchOrder;
use mainstay_model::input::Exit;
use mainstay_model::switch::{OUTPUT_MAX, SwitchStep};
use mainstay_model::{Input, ServerId, ServiceId};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::leftovers::{Family, KILL_TAKES, StillThere};
use super::log::{Tail, follow};
use super::process::Process;
use super::{Shared, Supervisor, lock};
use crate::config::SwitchSpec;

/// Its last words are waited for so long after it ended.
const LAST_WORDS_TAKE: Duration = Duration::from_millis(250);
/// What stands for a server's name in its marks and the name of its log.
const MARK: &str = "@switch";
/// Runs that are remembered because of what they left running.
const LEFT_MAX: usize = 100;
/// What is written before it runs fits into every pipe.
const CONTEXT_MAX: usize = 32 * 1024;

/// What the command is told, as one line of JSON.
#[derive(Serialize)]
struct Context<'a> {
    service: &'a str,
    /// `fence`, `there` or `back`.
    direction: &'static str,
    by: &'a str,
    reason: &'a str,
    incident: Option<u64>,
    /// Health by name.
    servers: BTreeMap<&'a str, &'static str>,
}

impl Supervisor {
    /// The commands from now on. One that runs is left alone.
    pub fn apply_switches(&self, switches: BTreeMap<ServiceId, SwitchSpec>) {
        *lock(&self.shared.switches) = switches;
    }

    /// It is not run, because that it is about to be run is not on disk.
    pub async fn refuse_switch(&self, order: SwitchOrder, why: String) {
        let result = Err(format!(
            "not run, because it could not be written down before ({why}), and after a restart it might be run twice"
        ));
        let (service, action, output) = (order.service, order.id, Vec::new());
        self.shared.report(Input::Switched { service, action, result, output }).await;
    }

    /// Runs the command in a task of its own; one [`Input::Switched`] tells how it ended.
    pub fn switch(&self, order: SwitchOrder) {
        let shared = Arc::clone(&self.shared);
        let running = Running::of(&shared);
        tokio::spawn(async move {
            let _running = running;
            let tail = Arc::<Mutex<Tail>>::default();
            let result = run(&shared, &order, &tail).await;
            match &result {
                Ok(()) => {
                    tracing::info!(service = %order.service, "{} was carried out", order.step.in_words())
                }
                Err(error) => {
                    tracing::error!(service = %order.service, error, "{} failed", order.step.in_words())
                }
            }
            let output = tail.lock().unwrap_or_else(PoisonError::into_inner).lines_of_process(OUTPUT_MAX);
            let (service, action) = (order.service, order.id);
            shared.report(Input::Switched { service, action, result, output }).await;
        });
    }
}

/// One that runs, counted as long as this is there.
struct Running(Arc<Shared>);

impl Running {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.switching.send_modify(|running| *running += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.switching.send_modify(|running| *running -= 1);
    }
}

async fn run(shared: &Arc<Shared>, order: &SwitchOrder, tail: &Arc<Mutex<Tail>>) -> Result<(), String> {
    let service = &order.service;
    let spec = lock(&shared.switches).get(service).cloned();
    let spec = spec.ok_or_else(|| format!("service.{service}.switch left the config"))?;
    let argv = match order.step {
        SwitchStep::Fence => spec.fence,
        SwitchStep::There => Some(spec.there),
        SwitchStep::Back => spec.back,
    };
    let argv =
        argv.ok_or_else(|| format!("service.{service}.switch.{} left the config", order.step.as_str()))?;
    if shared.closing().is_some() {
        return Err("Mainstay is stopping".to_owned());
    }
    // The log is one for all runs; who belongs to a run is told apart.
    let (mark, log) = (service.server(format!("{MARK}-{}", order.id.0)), service.server(MARK));
    let program = argv.first().map_or("", String::as_str);
    let failed = |error: io::Error| format!("cannot run {program}: {error}; check service.{service}.switch");
    let stdin = context(order).map_err(failed)?;
    let withheld = lock(&shared.withheld).clone();
    let started = Process::run(&mark, (&argv, &spec.dir), stdin, &shared.instance, &withheld).await;
    let (mut process, output) = started.map_err(failed)?;
    let file = shared.logs.file(&log);
    shared.logs.note(&file, &format!("{program} runs as process {}, wanted by {}", process.pid(), order.by));
    let mut following =
        follow(output, Arc::clone(tail), Arc::clone(&shared.logs), Arc::clone(&file)).map_err(failed)?;
    let deadline = Instant::now() + order.deadline;
    let mut cut = shared.cut_switches.subscribe();
    let in_time = tokio::select! {
        ended = timeout_at(deadline, process.ended()) => ended.is_ok(),
        _ = cut.wait_for(|cut| *cut) => false,
    };
    if !in_time {
        process.signal_group(Signal::SIGKILL);
        let family = Family::of_server(&shared.instance, &mark, process.pid());
        if let Err(StillThere(pids)) = family.end(Instant::now()).await {
            tracing::error!(%service, ?pids, "processes of the switch do not end, not even by SIGKILL");
        }
    }
    let gone = timeout(KILL_TAKES, process.ended()).await.is_ok();
    if timeout(LAST_WORDS_TAKE, &mut following).await.is_err() {
        following.abort();
    }
    if !gone {
        return Err("its process does not end, not even by SIGKILL".to_owned());
    }
    let exit = process.reap().await;
    shared.logs.note(&file, &format!("{program} {exit}"));
    match (in_time, exit) {
        (false, _) if *shared.cut_switches.borrow() => Err("Mainstay is stopping, and killed it".to_owned()),
        (false, _) => Err(format!("killed after {} ms (deadline)", order.deadline.as_millis())),
        (true, Exit::Code(0)) => {
            // What it started is its result: a database that was promoted, a tunnel.
            shared.left.add(&mark).map_err(|error| {
                format!(
                    "it was carried out, but {error}: the next start of Mainstay would end what it started"
                )
            })
        }
        (true, exit) => Err(exit.to_string()),
    }
}

/// The marks of switches that were carried out. What they started is not ended with what earlier runs left behind.
#[derive(Debug)]
pub(super) struct Left(PathBuf);

impl Left {
    pub(super) fn new(data: &Path) -> Self {
        Self(data.join("switches-done"))
    }

    /// One a line; without the file, none.
    pub(super) fn marks(&self) -> Vec<String> {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn add(&self, mark: &ServerId) -> Result<(), String> {
        let mut marks = self.marks();
        marks.push(mark.to_string());
        let first = marks.len().saturating_sub(LEFT_MAX);
        let text = marks[first..].join("\n") + "\n";
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &self.0))
            .map_err(|error| format!("{} cannot be written: {error}", self.0.display()))
    }
}

/// What the command reads: written before it runs, so that nobody waits for it to read.
fn context(order: &SwitchOrder) -> io::Result<PipeReader> {
    let context = Context {
        service: order.service.as_str(),
        direction: order.step.as_str(),
        by: &order.by,
        reason: &order.reason,
        incident: order.incident.map(|incident| incident.0),
        servers: order.servers.iter().map(|(id, health)| (&*id.name, health.as_str())).collect(),
    };
    let mut text = serde_json::to_vec(&context)?;
    text.push(b'\n');
    if text.len() > CONTEXT_MAX {
        return Err(io::Error::other("too many servers to tell of"));
    }
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(&text)?;
    Ok(reader)
}
