//! The keeper of one supervised server: carries out its orders one after the other and sees when it dies.

use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::drill::{DrillStep, Fault};
use mainstay_model::effect::{ActionKind, ActionOrder, Launch};
use mainstay_model::input::ProcessEvent;
use mainstay_model::{Input, ServerId};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::dump::{Asked, Dump};
use super::held::Holder;
use super::leftovers::{Family, KILL_TAKES, StillThere};
use super::log::{Tail, follow};
use super::process::Process;
use crate::config::CommandSpec;

/// A server that is restarted is in trouble already: what it has under way is worth at most this long a wait.
const RESTART_TAKES_MAX: Duration = Duration::from_secs(2);
/// As long as an order is being carried out the judge is told so; it gives up who is silent for six times as long.
const BEAT: Duration = Duration::from_secs(5);
/// Its last words are waited for so long after it ended; a stranger may hold the pipe open.
const LAST_WORDS_TAKE: Duration = Duration::from_millis(250);
/// Lines told with an exit.
const LAST_LINES: usize = 40;

/// Looks after one server.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    server: ServerId,
    tail: Arc<Mutex<Tail>>,
    file: Arc<Path>,
    running: Option<Running>,
    /// Whose command it was last started with.
    template: Option<Arc<str>>,
    /// What was told meanwhile.
    waiting: VecDeque<Order>,
    /// Members of an earlier process' family could not be ended.
    unclean: Option<Family>,
    /// The process that a drill has stopped.
    stopped: Option<Pid>,
}

/// A process that was started and not yet seen to its end.
struct Running {
    process: Process,
    output: JoinHandle<()>,
    /// A copy of its output's reading end, to be handed on.
    pipe: OwnedFd,
    stop_timeout: Duration,
}

/// What a keeper is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Carry out.
    Act(ActionOrder),
    /// Make the fault of a drill, or undo it.
    Drill(DrillStep),
    /// Tell of the process, so that another Mainstay can look after it.
    Tell(oneshot::Sender<Option<Told>>),
    /// Tell what its threads are at; `None`: nothing runs.
    Dump(oneshot::Sender<Option<Dump>>),
    /// Another Mainstay looks after it: give it up.
    GiveUp(oneshot::Sender<Option<Process>>),
    /// Nobody knows the server: end it.
    End,
}

/// What another Mainstay needs to look after a process.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) pid: Pid,
    pub(super) holder: Option<Arc<Holder>>,
    pub(super) stop_timeout: Duration,
    pub(super) output: OwnedFd,
    pub(super) tail: Vec<String>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, server: ServerId, tail: Arc<Mutex<Tail>>) -> Self {
        let file = shared.logs.file(&server);
        Self {
            shared,
            server,
            tail,
            file,
            running: None,
            template: None,
            waiting: VecDeque::new(),
            unclean: None,
            stopped: None,
        }
    }

    /// Lives until Mainstay stops, or the server was stopped and has left the config.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                biased;
                _ = shared.closed_by() => break,
                () = ended(&mut self.running) => self.bury(false).await,
                order = next(&mut self.waiting, &mut orders) => match order {
                    Some(Order::Act(order)) => {
                        let order = self.newest(order, &mut orders).await;
                        self.carry_out(order).await;
                    }
                    Some(Order::Drill(step)) => self.drill(&step).await,
                    Some(Order::Dump(tell)) => drop(tell.send(self.dump().await)),
                    Some(Order::Tell(tell)) => drop(tell.send(self.tell())),
                    Some(Order::GiveUp(to)) => {
                        let process = self.running.take().map(|running| running.process);
                        if let Err(Some(process)) = to.send(process) {
                            process.let_go();
                        }
                        return;
                    }
                    Some(Order::End) => {
                        tracing::warn!(server = %self.server, "it is in no config any more, and ended");
                        if let Err(error) = self.stop().await {
                            tracing::error!(server = %self.server, error, "not stopped");
                        }
                    }
                    None => break,
                },
            }
            if self.running.is_none() && shared.spec(&self.server).is_none() {
                // What was accepted before is still answered.
                orders.close();
            }
        }
        if shared.spec(&self.server).is_none() {
            shared.ports.forget(&self.server);
        }
        if let Some(deadline) = shared.closing() {
            let own = self.running.as_ref().map_or(deadline, |running| Instant::now() + running.stop_timeout);
            if let Err(error) = self.end(deadline.min(own)).await {
                tracing::error!(server = %self.server, error, "not stopped");
            }
        }
        self.waiting.extend(std::iter::from_fn(|| orders.try_recv().ok()));
        while let Some(order) = self.waiting.pop_front() {
            if let Order::Act(order) = order {
                self.outcome(&order, Err("Mainstay is stopping".into())).await;
            }
        }
    }

    /// Looks after a process that another Mainstay has started. Must be called inside a runtime.
    pub(super) fn adopt(
        &mut self,
        process: Process,
        output: OwnedFd,
        stop_timeout: Duration,
    ) -> io::Result<()> {
        let pipe = output.try_clone()?;
        let (tail, logs) = (Arc::clone(&self.tail), Arc::clone(&self.shared.logs));
        let output = follow(PipeReader::from(output), tail, logs, Arc::clone(&self.file))?;
        self.running = Some(Running { process, output, pipe, stop_timeout });
        Ok(())
    }

    fn tell(&self) -> Option<Told> {
        let running = self.running.as_ref()?;
        Some(Told {
            pid: running.process.pid(),
            holder: running.process.holder().map(Arc::clone),
            stop_timeout: running.stop_timeout,
            output: running.pipe.try_clone().ok()?,
            tail: self.tail.lock().unwrap_or_else(PoisonError::into_inner).lines(),
        })
    }

    /// Of orders of one kind that follow one another the newest: whoever gave the others has given them up meanwhile, and
    /// wants it done once.
    async fn newest(&mut self, mut order: ActionOrder, orders: &mut mpsc::Receiver<Order>) -> ActionOrder {
        self.waiting.extend(std::iter::from_fn(|| orders.try_recv().ok()));
        while self
            .waiting
            .front()
            .is_some_and(|next| matches!(next, Order::Act(newer) if newer.kind == order.kind))
            && let Some(Order::Act(newer)) = self.waiting.pop_front()
        {
            self.outcome(&order, Err("a newer order has taken its place".into())).await;
            order = newer;
        }
        order
    }

    async fn carry_out(&mut self, order: ActionOrder) {
        let (shared, action) = (Arc::clone(&self.shared), order.id);
        let beats = async {
            loop {
                sleep(BEAT).await;
                shared.report(Input::Acting { action }).await;
            }
        };
        let result = tokio::select! {
            biased;
            result = self.act(&order) => result,
            () = beats => return,
        };
        match &result {
            Ok(()) => tracing::info!(server = %self.server, action = order.kind.as_str(), "carried out"),
            Err(error) => {
                tracing::warn!(server = %self.server, action = order.kind.as_str(), error, "failed");
            }
        }
        self.outcome(&order, result).await;
    }

    async fn act(&mut self, order: &ActionOrder) -> Result<(), String> {
        self.template = Some(Arc::clone(&order.launch.template));
        match order.kind {
            ActionKind::Start => self.start(&order.launch).await,
            ActionKind::Restart => {
                // What it hangs in is gone with it.
                self.dump().await;
                self.restart(&order.launch, RESTART_TAKES_MAX).await
            }
            ActionKind::Replace => self.restart(&order.launch, Duration::MAX).await,
            ActionKind::Stop => self.stop().await,
        }
    }

    /// Kills or stops the process for a drill, or lets it go on.
    async fn drill(&mut self, step: &DrillStep) {
        let process = self.running.as_ref().map(|running| &running.process);
        if !step.begin {
            // Another process is none that was stopped.
            if let Some(process) = process.filter(|process| Some(process.pid()) == self.stopped.take()) {
                process.signal_group(Signal::SIGCONT);
            }
            return;
        }
        let Some(process) = process else {
            let result = Err(format!("{} does not run", self.server));
            return self.shared.report(Input::Injected { drill: step.drill, result }).await;
        };
        // Said before it is done: what comes of it is told after this.
        self.shared.report(Input::Injected { drill: step.drill, result: Ok(()) }).await;
        tracing::warn!(server = %self.server, drill = step.drill, fault = step.fault.as_str(), "made on purpose");
        if step.fault == Fault::Kill {
            process.kill();
        } else {
            self.stopped = Some(process.pid());
            process.signal_group(Signal::SIGSTOP);
        }
    }

    async fn outcome(&self, order: &ActionOrder, result: Result<(), String>) {
        self.shared.report(Input::Outcome { action: order.id, result }).await;
    }

    /// What the threads of its process are at, for who asked and for the judge; `None`: nothing runs, or it is to end anyway.
    async fn dump(&self) -> Option<Dump> {
        let pid = self.running.as_ref()?.process.pid();
        if self.shared.closing().is_some() {
            return None;
        }
        let template = self.template.as_ref().unwrap_or(&self.server.name);
        let spec = self.shared.spec(&self.server.service.server(Arc::clone(template)));
        let capture = spec.as_ref().map_or_else(Vec::new, |spec| spec.capture_of(pid.as_raw()));
        let dir = spec.as_ref().and_then(|spec| spec.dir.as_deref());
        let asked = Asked { server: &self.server, pid, capture, dir };
        let dump = asked.look(&self.shared).await;
        let (text, lines) = (dump.text.clone(), dump.lines.clone());
        let server = self.server.clone();
        self.shared.report(Input::Captured { server, text, lines, threads: true }).await;
        Some(dump)
    }

    async fn start(&mut self, launch: &Launch) -> Result<(), String> {
        if self.running.is_some() {
            return Ok(());
        }
        let spec = self.spec(launch)?;
        self.launch(&spec).await
    }

    /// Ends what runs with at most so much patience, and starts it anew.
    async fn restart(&mut self, launch: &Launch, patience: Duration) -> Result<(), String> {
        // Known to be startable before it is ended.
        let spec = self.spec(launch)?;
        if let Some(running) = &self.running {
            let deadline = Instant::now() + running.stop_timeout.min(patience);
            self.end(deadline).await?;
        }
        self.launch(&spec).await
    }

    async fn stop(&mut self) -> Result<(), String> {
        let Some(running) = &self.running else { return Ok(()) };
        let deadline = Instant::now() + running.stop_timeout;
        self.end(deadline).await
    }

    /// How it is started: by the command of its template, with a port of its own and the release put in.
    fn spec(&self, launch: &Launch) -> Result<CommandSpec, String> {
        let service = &self.server.service;
        let template = service.server(Arc::clone(&launch.template));
        let spec = self.shared.spec(&template).ok_or_else(|| {
            let name = &launch.template;
            format!("{} cannot be started: service.{service}.server.{name} has no command", self.server)
        })?;
        let port = spec.port.filter(|_| template == self.server);
        match (&launch.release, spec.has_release()) {
            (Some(release), true) => Ok(CommandSpec { port, ..spec.with_release(release) }),
            (_, false) => Ok(CommandSpec { port, ..spec }),
            (None, true) => Err(format!(
                "{} cannot be started: it is not known which release it is to run; write service.{service}.deploy.release",
                self.server
            )),
        }
    }

    async fn launch(&mut self, spec: &CommandSpec) -> Result<(), String> {
        if self.shared.closing().is_some() {
            return Err("Mainstay is stopping".into());
        }
        if let Some(family) = self.unclean.take() {
            self.sweep(family, Instant::now()).await?;
        }
        let port =
            match spec.port {
                Some(port) => port,
                None => self.shared.ports.choose(&self.server, spec.host).map_err(|e| {
                    format!("cannot start {}: no free port on {}: {e}", self.server, spec.host)
                })?,
            };
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).begin();
        let withheld = super::lock(&self.shared.withheld).clone();
        let started = Process::start(&self.server, spec, port, &self.shared.instance, &withheld).await;
        let (process, output) = started.map_err(|error| self.explain(spec, &error))?;
        let pid = process.pid();
        self.shared.logs.note(&self.file, &format!("started as process {pid}, port {port}"));
        // Dropped on an error, the process is killed.
        let pipe = output
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| format!("cannot read what {} writes: {e}", self.server))?;
        let following =
            follow(output, Arc::clone(&self.tail), Arc::clone(&self.shared.logs), Arc::clone(&self.file));
        let output = following.map_err(|e| format!("cannot read what {} writes: {e}", self.server))?;
        self.running = Some(Running { process, output, pipe, stop_timeout: spec.stop_timeout });
        let address = SocketAddr::new(reachable(spec.host), port);
        self.shared
            .report(Input::Address { server: self.server.clone(), address: Some(address.into()) })
            .await;
        let event = ProcessEvent::Started { pid: pid.as_raw().cast_unsigned() };
        self.shared.report(Input::Process { server: self.server.clone(), event }).await;
        Ok(())
    }

    /// Why it could not be started and where to look, for a person.
    fn explain(&self, spec: &CommandSpec, error: &std::io::Error) -> String {
        let ServerId { service, name } = &self.server;
        let key = format!("service.{service}.server.{name}");
        let program = spec.argv.first().map_or("", String::as_str);
        let reason = match error.raw_os_error() {
            Some(code) => Errno::from_raw(code).desc().to_owned(),
            None => error.to_string(),
        };
        if let Some(dir) = &spec.dir
            && !dir.is_dir()
        {
            let dir = dir.display();
            return format!("cannot start {program}: the folder {dir} does not exist; check {key}.dir");
        }
        let looked_in = match (program.contains('/'), &spec.dir) {
            (true, _) if program.starts_with('/') => String::new(),
            (true, Some(dir)) => format!("; looked in {}", dir.display()),
            (true, None) => match std::env::current_dir() {
                Ok(dir) => format!("; looked in {}", dir.display()),
                Err(_) => String::new(),
            },
            (false, _) => "; looked in the folders of PATH".to_owned(),
        };
        format!("cannot start {program}: {reason}{looked_in}; check {key}.command")
    }

    /// Ends the process, if one runs, with all of its family: politely, and by force at the deadline.
    async fn end(&mut self, deadline: Instant) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Ok(()) };
        // Visitors leave first.
        self.shared.report(Input::Address { server: self.server.clone(), address: None }).await;
        running.process.signal_group(Signal::SIGTERM);
        // One that is stopped could not heed it.
        running.process.signal_group(Signal::SIGCONT);
        if !self.shared.wait(running.process.ended(), deadline).await {
            running.process.signal_group(Signal::SIGKILL);
            if timeout(KILL_TAKES, running.process.ended()).await.is_err() {
                let pid = running.process.pid();
                return Err(format!("process {pid} of {} does not end, not even by SIGKILL", self.server));
            }
        }
        self.bury_until(true, deadline).await;
        match self.unclean {
            None => Ok(()),
            Some(_) => {
                Err(format!("processes that {} had started do not end, not even by SIGKILL", self.server))
            }
        }
    }

    /// After a process ended by itself: its kin are killed at once, for they have lost their head.
    async fn bury(&mut self, asked: bool) {
        self.shared.report(Input::Address { server: self.server.clone(), address: None }).await;
        self.bury_until(asked, Instant::now()).await;
    }

    /// The process has ended. Ends what is left of its family and tells how it ended.
    async fn bury_until(&mut self, asked: bool, deadline: Instant) {
        let Some(Running { process, mut output, .. }) = self.running.take() else { return };
        let family = Family::of_server(&self.shared.instance, &self.server, process.pid());
        let deadline = self.shared.closing().map_or(deadline, |closing| closing.min(deadline));
        let _ = self.sweep(family, deadline).await;
        if timeout(LAST_WORDS_TAKE, &mut output).await.is_err() {
            output.abort();
        }
        let pid = process.pid();
        let exit = process.reap().await;
        self.shared.logs.note(&self.file, &format!("process {pid} {exit}"));
        let last_lines =
            self.tail.lock().unwrap_or_else(PoisonError::into_inner).lines_of_process(LAST_LINES);
        let event = ProcessEvent::Exited { exit, asked, last_lines };
        self.shared.report(Input::Process { server: self.server.clone(), event }).await;
    }

    /// Ends a family, or remembers that it could not be ended.
    async fn sweep(&mut self, family: Family, deadline: Instant) -> Result<(), String> {
        match family.clone().end(deadline).await {
            Ok(_) => Ok(()),
            Err(StillThere(pids)) => {
                tracing::error!(server = %self.server, ?pids, "processes do not end, not even by SIGKILL");
                self.unclean = Some(family);
                Err(format!("processes {pids:?} of an earlier start of {} do not end", self.server))
            }
        }
    }
}

/// Never, when nothing runs.
async fn ended(running: &mut Option<Running>) {
    match running {
        Some(running) => running.process.ended().await,
        None => std::future::pending().await,
    }
}

/// Where to connect to a server that listens on `host`.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

/// Waits that a stop of Mainstay cuts short.
impl Shared {
    /// Whether `what` was over before the deadline, or before the one of Mainstay's own stop.
    pub(super) async fn wait(&self, what: impl Future<Output = ()>, deadline: Instant) -> bool {
        let mut what = std::pin::pin!(what);
        let mut closing = self.closing.subscribe();
        loop {
            let limit = closing.borrow_and_update().map_or(deadline, |closing| closing.min(deadline));
            tokio::select! {
                biased;
                () = &mut what => return true,
                () = sleep_until(limit) => return false,
                _ = closing.changed() => {}
            }
        }
    }
}

/// What waits already, or what is told next.
async fn next(waiting: &mut VecDeque<Order>, orders: &mut mpsc::Receiver<Order>) -> Option<Order> {
    match waiting.pop_front() {
        Some(order) => Some(order),
        None => orders.recv().await,
    }
}
