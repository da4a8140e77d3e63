//! Recovery: supervises the servers that Mainstay starts itself, restarts others where the config says how, and carries actions
//! out.
//!
//! Each server has a keeper, so orders to one server come one after the other and orders to several run side by side.
//! No process is left behind: each dies with Mainstay, whatever it started itself is found by a mark in its environment,
//! and a new run looks for such marks before it does anything else.

mod act;
pub mod backup;
mod command;
mod container;
mod docker;
mod drill;
mod dump;
mod held;
mod keeper;
mod leftovers;
mod log;
mod port;
mod process;
mod program;
mod provide;
mod release;
mod ssh;
mod switch;
mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mainstay_model::effect::{ActionKind, ActionOrder};
use mainstay_model::{Input, ServerId, ServiceId};
use nix::unistd::Pid;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use self::drill::OwnFaults;
pub use self::held::Held;
use self::held::Holder;
use self::keeper::{Keeper, Order, Told};
use self::leftovers::{Family, StillThere};
use self::log::{Logs, Tail};
use self::port::Ports;
use self::process::Process;
use crate::config::{CommandSpec, ReplaceSpec, RestartSpec, SwitchSpec};
use crate::handover::HeldProcess;

/// What an earlier run left has so long from SIGTERM to SIGKILL.
const LEFTOVERS_TAKE: Duration = Duration::from_secs(2);
/// A Mainstay that is just ending holds its data directory so long.
const LOCK_TAKES: Duration = Duration::from_secs(5);
/// Orders to one server that may wait. The judge gives one at a time.
const ORDERS_MAX: usize = 16;
/// Who asks what threads are at waits so long at most.
const DUMP_TAKES: Duration = Duration::from_secs(15);
/// Beyond the deadline of a stop: for the kernel to carry out SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Starts, watches and stops the servers that have a `command`.
pub struct Supervisor {
    shared: Arc<Shared>,
    keepers: Mutex<BTreeMap<ServerId, Slot>>,
    /// The highest number of a drill whose fault was undone.
    undone: Mutex<u64>,
    own_faults: OnceLock<drill::OwnFaults>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// The supervisor could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A folder or file under the data directory could not be made, read or written.
    #[error("{path}: {source}; check `data` in the config and who may write there")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another Mainstay runs with the same data directory; the servers it supervises are not ours to end.
    #[error("{path} is in use by another Mainstay; stop it, or give this one a `data` folder of its own")]
    InUse {
        /// The file that the other one holds.
        path: PathBuf,
    },
    /// No thread could be started.
    #[error("no thread for the logs of servers: {0}; raise the limit of processes (ulimit -u)")]
    Thread(#[source] io::Error),
}

impl Supervisor {
    /// Ends whatever an earlier run with the same data directory left running, then waits for orders.
    /// Logs of servers are kept in `data/logs`.
    ///
    /// # Errors
    /// When the folder for logs cannot be made, or another Mainstay uses the data directory.
    pub async fn start(
        data: PathBuf,
        inputs: mpsc::Sender<Input>,
        inherited: Option<Inherited>,
    ) -> Result<Self, SupervisorError> {
        let folder = data.join("logs");
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|source| SupervisorError::Folder { path: folder.clone(), source })?;
        let path = data.join("instance");
        let failed = |source| SupervisorError::Folder { path: path.clone(), source };
        let left = program::Left::new(&data);
        if let Some(inherited) = inherited {
            let mut lock = File::from(inherited.lock.try_clone().map_err(failed)?);
            lock.rewind().map_err(failed)?;
            let instance = read_or_make(&mut lock).map_err(failed)?;
            let supervisor = Self::with(inputs, instance, folder, left, lock)?;
            supervisor.adopt(inherited).map_err(failed)?;
            return Ok(supervisor);
        }
        let (lock, instance) = own_instance(&path).await?;
        match Family::of_instance(&instance).sparing(left.marks()).end(Instant::now() + LEFTOVERS_TAKE).await
        {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "ended processes that an earlier run had left"),
            Err(StillThere(pids)) => {
                tracing::error!(?pids, "processes of an earlier run do not end, not even by SIGKILL");
            }
        }
        Self::with(inputs, instance, folder, left, lock)
    }

    fn with(
        inputs: mpsc::Sender<Input>,
        instance: String,
        folder: PathBuf,
        left: program::Left,
        lock: File,
    ) -> Result<Self, SupervisorError> {
        let shared = Shared {
            inputs,
            instance,
            logs: Arc::new(Logs::start(folder).map_err(SupervisorError::Thread)?),
            ports: Ports::default(),
            commands: Mutex::default(),
            withheld: Mutex::default(),
            switches: Mutex::default(),
            restarts: Mutex::default(),
            replaces: Mutex::default(),
            left,
            programs: watch::Sender::new(0),
            cut_programs: watch::Sender::new(false),
            holders: Mutex::default(),
            closing: watch::Sender::new(None),
            lock,
        };
        Ok(Self {
            shared: Arc::new(shared),
            keepers: Mutex::default(),
            undone: Mutex::default(),
            own_faults: OnceLock::new(),
        })
    }

    /// How servers are started from now on, and which variables of Mainstay's own environment they do not get. Running ones
    /// are left alone; the judge orders what is to stop.
    pub fn apply(&self, commands: BTreeMap<ServerId, CommandSpec>, withheld: BTreeSet<String>) {
        *lock(&self.shared.withheld) = withheld;
        let before = std::mem::replace(&mut *lock(&self.shared.commands), commands);
        let known = lock(&self.shared.commands);
        let mut keepers = lock(&self.keepers);
        keepers.retain(|server, slot| known.contains_key(server) || !slot.orders.is_closed());
        // Who still has a keeper may still listen there.
        let is_gone = |server: &&ServerId| !known.contains_key(*server) && !keepers.contains_key(*server);
        before.keys().filter(is_gone).for_each(|server| self.shared.ports.forget(server));
    }

    /// Carries one action out, in a task of its own. [`Input::Address`] and [`Input::Process`] tell what becomes of the
    /// process; one [`Input::Outcome`] ends the action.
    pub fn carry_out(&self, order: ActionOrder) {
        let action = order.id;
        let restart = lock(&self.shared.restarts).get(&order.server).cloned();
        if let Some(spec) = restart.filter(|_| order.kind == ActionKind::Restart) {
            return self.act(order, spec);
        }
        if let Err(why) = self.hand_over(order) {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                shared.report(Input::Outcome { action, result: Err(why.to_owned()) }).await;
            });
        }
    }

    /// Ends every supervised server with all of its process group, by force after its own stop timeout, at the latest after
    /// `deadline`, and starts none any more. Switches that run are waited for up to their own deadlines: one that is cut in the
    /// middle leaves a database half promoted. What they left running when they succeeded stays.
    /// A second call can only shorten the deadline.
    pub async fn stop_all(&self, deadline: Duration) {
        let deadline = Instant::now() + deadline;
        self.shared.closing.send_modify(|closing| {
            *closing = Some(closing.map_or(deadline, |earlier| earlier.min(deadline)));
        });
        let keepers: Vec<_> = lock(&self.keepers).values_mut().filter_map(|slot| slot.task.take()).collect();
        for keeper in keepers {
            // Each has been told already, so they end side by side. What does not end by then is killed below.
            let _ = timeout_at(deadline + STOP_GRACE, keeper).await;
        }
        // The sender is our own, so it cannot be gone.
        let _ = self.shared.programs.subscribe().wait_for(|running| *running == 0).await;
        let family = Family::of_instance(&self.shared.instance).sparing(self.shared.left.marks());
        if let Err(StillThere(pids)) = family.end(Instant::now()).await {
            tracing::error!(?pids, "processes of servers do not end, not even by SIGKILL");
        }
        self.shared.logs.flush().await;
    }

    /// The same without waiting for anything: switches that run are killed too.
    pub async fn kill_all(&self) {
        self.shared.cut_programs.send_replace(true);
        self.stop_all(Duration::ZERO).await;
    }

    /// The last lines that a server wrote, oldest first; empty for a server that is not supervised.
    pub fn last_lines(&self, server: &ServerId) -> Vec<String> {
        let tail = lock(&self.keepers).get(server).map(|slot| Arc::clone(&slot.tail));
        tail.map(|tail| lock(&tail).lines()).unwrap_or_default()
    }

    /// What the threads of a supervised server are at; the judge hears of it too.
    ///
    /// # Errors
    /// No process of it runs, or it is being started or stopped; for a person.
    pub async fn dump(&self, server: &ServerId) -> Result<(String, Vec<String>), String> {
        let orders = lock(&self.keepers).get(server).map(|slot| slot.orders.clone());
        let orders = orders.ok_or_else(|| format!("{server} is not a server that Mainstay starts"))?;
        let (tell, told) = oneshot::channel();
        orders.try_send(Order::Dump(tell)).map_err(|_| format!("{server} is being stopped"))?;
        let busy = || format!("{server} is being started or stopped; try again");
        let told = timeout(DUMP_TAKES, told).await.map_err(|_| busy())?.map_err(|_| busy())?;
        let dump = told.ok_or_else(|| format!("no process of {server} runs"))?;
        Ok((dump.text, dump.lines))
    }

    /// What another Mainstay needs to look after every process, and a promise of those that this one is the parent of.
    ///
    /// # Errors
    /// When an action is under way for longer than `patience`, or there are no descriptors left; for a person.
    pub async fn tell_all(&self, patience: Duration) -> Result<Legacy, String> {
        let deadline = Instant::now() + patience;
        let mut running = self.shared.programs.subscribe();
        let all_ended = running.wait_for(|running| *running == 0);
        if timeout_at(deadline, all_ended).await.is_err() {
            let patience = patience.as_secs();
            return Err(format!("a restart or a switch is under way, which takes longer than {patience} s"));
        }
        let no_descriptor = |error: io::Error| format!("no file descriptor is left: {error}");
        let keepers: Vec<(ServerId, mpsc::Sender<Order>)> =
            lock(&self.keepers).iter().map(|(server, slot)| (server.clone(), slot.orders.clone())).collect();
        let (mine, other) = UnixStream::pair().map_err(no_descriptor)?;
        let mut legacy = Legacy {
            held: Vec::new(),
            outputs: Vec::new(),
            holders: vec![other.into()],
            lock: self.shared.lock.try_clone().map_err(no_descriptor)?.into(),
            line: mine,
        };
        let mut known: Vec<Arc<Holder>> = Vec::new();
        for (server, orders) in keepers {
            let (tell, told) = oneshot::channel();
            // A keeper that is gone has nothing that runs.
            let Ok(Ok(())) = timeout_at(deadline, orders.send(Order::Tell(tell))).await else { continue };
            let told = timeout_at(deadline, told).await.map_err(|_| {
                format!(
                    "{server} is being started or stopped, which takes longer than {} s",
                    patience.as_secs()
                )
            })?;
            let Ok(Some(told)) = told else { continue };
            let Told { pid, holder, stop_timeout, output, tail } = told;
            let place = match holder {
                None => 0,
                Some(holder) => match known.iter().position(|other| Arc::ptr_eq(other, &holder)) {
                    Some(place) => place + 1,
                    None => {
                        legacy.holders.push(holder.copy().map_err(no_descriptor)?);
                        known.push(holder);
                        known.len()
                    }
                },
            };
            let port = self.shared.ports.of(&server);
            legacy.outputs.push(output);
            legacy.held.push(HeldProcess {
                server,
                pid: pid.as_raw(),
                port,
                stop_timeout,
                holder: place,
                tail,
            });
        }
        Ok(legacy)
    }

    /// Gives up every process: another Mainstay looks after them. Returns those that this one stays the parent of.
    pub async fn give_up(&self, line: UnixStream) -> Held {
        let keepers: Vec<Slot> = std::mem::take(&mut *lock(&self.keepers)).into_values().collect();
        let mut held = Held { processes: BTreeMap::new(), line };
        for slot in keepers {
            let (to, given) = oneshot::channel();
            if slot.orders.send(Order::GiveUp(to)).await.is_err() {
                continue;
            }
            if let Ok(Some(process)) = given.await {
                match process.holder() {
                    Some(_) => process.let_go(),
                    None => drop(held.processes.insert(process.pid().as_raw(), process)),
                }
            }
        }
        held
    }

    /// From now on this Mainstay looks after what it has adopted. Ends processes whose server nobody knows any more.
    pub fn answer_for_adopted(&self, is_known: impl Fn(&ServerId) -> bool) {
        lock(&self.shared.holders).iter().for_each(|holder| holder.answer());
        for (server, slot) in lock(&self.keepers).iter().filter(|(server, _)| !is_known(server)) {
            if slot.orders.try_send(Order::End).is_err() {
                tracing::error!(%server, "it is in no config any more, and cannot be ended");
            }
        }
    }

    fn adopt(&self, inherited: Inherited) -> io::Result<()> {
        let holders = inherited
            .holders
            .into_iter()
            .map(|fd| Holder::new(fd).map(Arc::new))
            .collect::<io::Result<Vec<_>>>()?;
        lock(&self.shared.holders).clone_from(&holders);
        for (held, output) in inherited.held.into_iter().zip(inherited.outputs) {
            let Some(holder) = holders.get(held.holder) else { continue };
            if let Some(port) = held.port {
                self.shared.ports.remember(held.server.clone(), port);
            }
            let tail = Arc::new(Mutex::new(Tail::of(held.tail)));
            let process = Process::held(Pid::from_raw(held.pid), Arc::clone(holder));
            let mut keeper = Keeper::new(Arc::clone(&self.shared), held.server.clone(), Arc::clone(&tail));
            keeper.adopt(process, output, held.stop_timeout)?;
            let (orders, received) = mpsc::channel(ORDERS_MAX);
            let slot = Slot { orders, tail, task: Some(tokio::spawn(keeper.run(received))) };
            lock(&self.keepers).insert(held.server, slot);
        }
        Ok(())
    }

    fn hand_over(&self, order: ActionOrder) -> Result<(), &'static str> {
        let mut keepers = lock(&self.keepers);
        if self.shared.closing().is_some() {
            return Err("Mainstay is stopping");
        }
        let slot = keepers
            .entry(order.server.clone())
            .or_insert_with_key(|server| self.open(server, Arc::default()));
        match slot.orders.try_send(Order::Act(order)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err("too many orders wait for this server"),
            Err(mpsc::error::TrySendError::Closed(Order::Act(order))) => {
                // Its keeper had left with the server's config; the server is back.
                *slot = self.open(&order.server, Arc::clone(&slot.tail));
                slot.orders.try_send(Order::Act(order)).map_err(|_| "its keeper is gone")
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err("its keeper is gone"),
        }
    }

    fn open(&self, server: &ServerId, tail: Arc<Mutex<Tail>>) -> Slot {
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let keeper = Keeper::new(Arc::clone(&self.shared), server.clone(), Arc::clone(&tail));
        Slot { orders, tail, task: Some(tokio::spawn(keeper.run(received))) }
    }
}

/// What the Mainstay before had started, and goes on.
#[derive(Debug)]
pub struct Inherited {
    /// The processes.
    pub held: Vec<HeldProcess>,
    /// What each writes, in their order.
    pub outputs: Vec<OwnedFd>,
    /// Their parents.
    pub holders: Vec<OwnedFd>,
    /// The lock of the data directory's processes.
    pub lock: OwnedFd,
}

/// What the Mainstay that goes on inherits, and the other end of the way to this one.
#[derive(Debug)]
pub struct Legacy {
    /// The processes.
    pub held: Vec<HeldProcess>,
    /// What each writes, in their order.
    pub outputs: Vec<OwnedFd>,
    /// Their parents, this Mainstay first.
    pub holders: Vec<OwnedFd>,
    /// The lock of the data directory's processes.
    pub lock: OwnedFd,
    /// By which this Mainstay will be asked.
    pub line: UnixStream,
}

/// The way to a server's keeper.
#[derive(Debug)]
struct Slot {
    orders: mpsc::Sender<Order>,
    tail: Arc<Mutex<Tail>>,
    task: Option<JoinHandle<()>>,
}

/// What all keepers use.
#[derive(Debug)]
struct Shared {
    inputs: mpsc::Sender<Input>,
    /// The data directory's random id.
    instance: String,
    logs: Arc<Logs>,
    ports: Ports,
    commands: Mutex<BTreeMap<ServerId, CommandSpec>>,
    /// Variables that hold Mainstay's own secrets.
    withheld: Mutex<BTreeSet<String>>,
    switches: Mutex<BTreeMap<ServiceId, SwitchSpec>>,
    /// Of servers that Mainstay does not start itself.
    restarts: Mutex<BTreeMap<ServerId, RestartSpec>>,
    /// Who makes instances in the place of servers that cannot be brought back.
    replaces: Mutex<BTreeMap<ServiceId, ReplaceSpec>>,
    left: program::Left,
    /// How many of them run.
    programs: watch::Sender<usize>,
    /// They are not waited for any more.
    cut_programs: watch::Sender<bool>,
    /// Parents of adopted processes.
    holders: Mutex<Vec<Arc<Holder>>>,
    /// By when all must have ended; `None` while Mainstay runs.
    closing: watch::Sender<Option<Instant>>,
    /// Held as long as anything may run that this run started.
    lock: File,
}

impl Shared {
    /// Tells the judge. Waits for it to listen, unless Mainstay is stopping: then it may never again.
    async fn report(&self, input: Input) {
        tokio::select! {
            biased;
            _ = self.closed_by() => {
                let _ = self.inputs.try_send(input);
            }
            // An error means that the judge is gone.
            permit = self.inputs.reserve() => if let Ok(permit) = permit {
                permit.send(input);
            },
        }
    }

    fn spec(&self, server: &ServerId) -> Option<CommandSpec> {
        lock(&self.commands).get(server).cloned()
    }

    fn closing(&self) -> Option<Instant> {
        *self.closing.borrow()
    }

    /// Waits until Mainstay is stopping.
    async fn closed_by(&self) {
        // The sender is our own, so it cannot be gone.
        let _ = self.closing.subscribe().wait_for(Option::is_some).await;
    }
}

/// The data directory's id, made when there is none, and the lock that says that it is ours.
async fn own_instance(path: &Path) -> Result<(File, String), SupervisorError> {
    let failed = |source| SupervisorError::Folder { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    let give_up = Instant::now() + LOCK_TAKES;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= give_up => {
                return Err(SupervisorError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(50)).await,
        }
    }
    let instance = read_or_make(&mut file).map_err(failed)?;
    Ok((file, instance))
}

fn read_or_make(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    Read::by_ref(file).take(64).read_to_end(&mut bytes)?;
    if let Ok(text) = String::from_utf8(bytes)
        && text.trim().len() == 32
        && text.trim().bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Ok(text.trim().to_owned());
    }
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let instance = format!("{:032x}", u128::from_ne_bytes(random));
    file.rewind()?;
    file.set_len(0)?;
    writeln!(file, "{instance}")?;
    file.sync_all()?;
    Ok(instance)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
