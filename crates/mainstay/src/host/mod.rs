//! The machine that Mainstay runs on, and others that tell of themselves: its figures each second, from /proc and the control groups, and a closer look when
//! the judge asks for one.
//!
//! One task, which exists only while the machine is watched. A figure that cannot be read is unknown; nothing that is read
//! here can stop anything else. The files are read on a thread that may block, because a sick kernel may let it.

mod disks;
mod errors;
mod exporter;
mod folders;
mod group;
mod machines;
mod parse;
mod processes;
mod sample;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_model::host::{Findings, HostReport, Inspection};
use mainstay_model::{Input, MachineId, ServerId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use self::disks::Disks;
use self::processes::{Servers, Units};
use self::sample::Sampler;
use crate::config::{HostConfig, MachineConfig};

/// Between two reports.
const EVERY: Duration = Duration::from_secs(1);
/// Reading /proc takes a fraction of a millisecond; when it takes this long the kernel is sick, and nothing is known.
const READ_DEADLINE: Duration = Duration::from_secs(2);
/// An inspection that takes longer is given up.
const INSPECT_DEADLINE: Duration = Duration::from_secs(10);

/// Watches the machine.
#[derive(Debug)]
pub struct Host {
    inputs: mpsc::Sender<Input>,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
    machines: Mutex<BTreeMap<MachineId, Asked>>,
}

#[derive(Debug)]
struct Shared {
    /// The supervised processes.
    pids: Mutex<BTreeMap<ServerId, u32>>,
    /// One inspection at a time.
    inspecting: Arc<Semaphore>,
    units: Units,
}

#[derive(Debug)]
struct Running {
    config: HostConfig,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Another machine that is asked.
#[derive(Debug)]
struct Asked {
    config: MachineConfig,
    task: JoinHandle<()>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    /// Nothing is watched before [`Host::apply`] says so.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        let shared = Shared {
            pids: Mutex::default(),
            inspecting: Arc::new(Semaphore::new(1)),
            units: Units::of_this_machine(),
        };
        Self { inputs, shared: Arc::new(shared), running: Mutex::default(), machines: Mutex::default() }
    }

    /// Goes by this config from now on; `None`: the machine is not watched. Must be called on the runtime.
    pub fn apply(&self, config: Option<HostConfig>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().map(|running| &running.config) == config.as_ref() {
            return;
        }
        *running = config.map(|config| {
            let task = tokio::spawn(watch(config.clone(), self.inputs.clone(), self.shared.clone()));
            Running { config, task }
        });
    }

    /// Asks these machines from now on, and no others. Must be called on the runtime.
    pub fn apply_machines(&self, configs: &BTreeMap<MachineId, MachineConfig>) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.retain(|id, asked| configs.get(id) == Some(&asked.config));
        for (id, config) in configs {
            machines.entry(id.clone()).or_insert_with(|| {
                let task = machines::watch(id.clone(), config.clone(), self.inputs.clone());
                Asked { config: config.clone(), task: tokio::spawn(task) }
            });
        }
    }

    /// Watches these processes for their servers, and no others.
    pub fn watch(&self, pids: BTreeMap<ServerId, u32>) {
        *self.shared.pids.lock().unwrap_or_else(PoisonError::into_inner) = pids;
    }

    /// Looks into something and tells what it found. One that comes while another is under way is not begun: the judge asks
    /// again if it still wants to know.
    pub fn inspect(&self, inspection: Inspection) {
        let Ok(turn) = self.shared.inspecting.clone().try_acquire_owned() else { return };
        let (inputs, pids, units) = (self.inputs.clone(), self.shared.pids(), self.shared.units);
        let data = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(|running| running.config.data.clone())
        };
        let Some(data) = data else { return };
        tokio::spawn(async move {
            let look = tokio::task::spawn_blocking(move || {
                // Held until the thread is free again, also past the deadline.
                let _turn = turn;
                match inspection {
                    Inspection::Processes => processes::inspect("/proc".as_ref(), units, &pids),
                    Inspection::Disk(mount) => Findings::Disk { own: folders::largest(&data, &mount), mount },
                }
            });
            match tokio::time::timeout(INSPECT_DEADLINE, look).await {
                Ok(Ok(findings)) => {
                    let _ = inputs.send(Input::Inspected(findings)).await;
                }
                Ok(Err(error)) => tracing::warn!(%error, "looking into the machine broke off"),
                Err(_) => tracing::warn!("looking into the machine took too long and was given up"),
            }
        });
    }
}

impl Shared {
    fn pids(&self) -> BTreeMap<ServerId, u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is handed to a thread and back.
struct Reader {
    sampler: Sampler,
    servers: Servers,
}

/// Reports each second, until it is ended.
async fn watch(config: HostConfig, inputs: mpsc::Sender<Input>, shared: Arc<Shared>) {
    let mut disks = Disks::of(paths(&config));
    let mut reader = Some(Reader {
        sampler: Sampler::new("/proc".into(), "/sys".into()),
        servers: Servers::new("/proc".into(), shared.units),
    });
    let mut late_reader: Option<JoinHandle<(Reader, HostReport)>> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let ready = tokio::time::Instant::now();
        let planned = ticks.tick().await;
        // Only who was waiting in time can say that nobody woke him: a slow read is no want of processor time.
        let late = match ready <= planned {
            true => tokio::time::Instant::now().saturating_duration_since(planned),
            false => Duration::ZERO,
        };
        if let Some(handle) = late_reader.take_if(|handle| handle.is_finished()) {
            // It is finished, so this waits for nothing. What it read is old by now.
            reader = handle.await.ok().map(|(reader, _)| reader);
        }
        let now = Instant::now();
        let disks = disks.read(now).await;
        let mut report = HostReport::default();
        if let Some(mut at_hand) = reader.take() {
            let pids = shared.pids();
            let mut reading = tokio::task::spawn_blocking(move || {
                let mut report = at_hand.sampler.read(now);
                report.servers = at_hand.servers.read(&pids, now);
                (at_hand, report)
            });
            match tokio::time::timeout(READ_DEADLINE, &mut reading).await {
                Ok(Ok((back, read))) => (reader, report) = (Some(back), read),
                Ok(Err(error)) => {
                    tracing::error!(%error, "reading the machine's figures broke off; they stay unknown")
                }
                Err(_) => late_reader = Some(reading),
            }
        }
        report.disks = disks;
        report.late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        // A judge who is behind hears the next one.
        if matches!(inputs.try_send(Input::Host(report)), Err(mpsc::error::TrySendError::Closed(_))) {
            return;
        }
    }
}

/// What is looked at, each with whether it is the data directory.
fn paths(config: &HostConfig) -> impl Iterator<Item = (PathBuf, bool)> {
    let own = [(config.data.clone(), true), (PathBuf::from("/"), false)];
    own.into_iter().chain(config.disks.iter().map(|path| (path.clone(), false)))
}

#[cfg(test)]
mod tests {
    use mainstay_model::ServiceId;

    use super::*;

    async fn next(inputs: &mut mpsc::Receiver<Input>) -> Input {
        tokio::time::timeout(Duration::from_secs(30), inputs.recv()).await.unwrap().unwrap()
    }

    fn config() -> HostConfig {
        HostConfig { data: std::env::temp_dir(), disks: Vec::new() }
    }

    #[tokio::test]
    async fn the_machine_is_reported_again_and_again_until_it_is_not_watched_any_more() {
        let (sender, mut inputs) = mpsc::channel(16);
        let host = Host::new(sender);
        let server = ServiceId::new("shop").server("app-1");
        host.watch(BTreeMap::from([(server.clone(), std::process::id())]));
        host.apply(Some(config()));
        let report = loop {
            if let Input::Host(report) = next(&mut inputs).await
                && report.cpu.is_some()
                && !report.disks.is_empty()
                && report.servers.contains_key(&server)
            {
                break report;
            }
        };
        assert!(report.servers[&server].memory > 0);
        host.apply(None);
        assert!(host.running.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_machine_that_is_not_watched_is_not_looked_into() {
        let (sender, mut inputs) = mpsc::channel(16);
        let host = Host::new(sender);
        host.inspect(Inspection::Processes);
        host.apply(Some(config()));
        let first = next(&mut inputs).await;
        assert!(matches!(first, Input::Host(_)), "{first:?} was not asked for");
        host.inspect(Inspection::Disk("/".to_owned()));
        loop {
            if let Input::Inspected(findings) = next(&mut inputs).await {
                assert!(matches!(findings, Findings::Disk { mount, .. } if mount == "/"));
                break;
            }
        }
    }
}
